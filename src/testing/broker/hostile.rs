//! A broker that does with messages whatever a broker can do: drops, doubles, delays and reorders them, and forgets acknowledgements.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::{Answer, Broker, Delivery, Message, Receipt, Settings};
use crate::testing::model::dice::Dice;

/// How often it looks whether a delayed message is due.
const LOOK: Duration = Duration::from_millis(20);

/// Any broker, made hostile: of ten messages it drops one, doubles three and delays two, and it shuffles them; of ten acknowledgements it
/// forgets one.
pub struct Hostile {
    broker: Arc<dyn Broker>,
    fate: Arc<Fate>,
}

/// What becomes of messages, whoever's they are.
struct Fate {
    dice: Mutex<Dice>,
    /// Messages to be delivered later.
    delayed: Mutex<Vec<(Instant, String, Message)>>,
    /// How late a message may be.
    latest: Duration,
    dropped: AtomicU64,
    doubled: AtomicU64,
    late: AtomicU64,
}

impl Hostile {
    /// This broker, with misfortunes of a seed. Messages come up to `latest` late: make that longer than leases last.
    pub fn new(broker: Arc<dyn Broker>, seed: u64, latest: Duration) -> Self {
        let fate = Fate {
            dice: Mutex::new(Dice::new(seed)),
            delayed: Mutex::default(),
            latest,
            dropped: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            late: AtomicU64::new(0),
        };
        Self { broker, fate: Arc::new(fate) }
    }

    /// How many messages it has dropped, doubled and delayed.
    pub fn misdeeds(&self) -> (u64, u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.fate.dropped), of(&self.fate.doubled), of(&self.fate.late))
    }

    /// Delivers what was held back long enough.
    async fn deliver_late(&self) -> crate::Result<()> {
        let due = |(at, ..): &mut (Instant, String, Message)| *at <= Instant::now();
        let late: Vec<_> = self.fate.delayed.lock().extract_if(.., due).collect();
        for (_, queue, message) in late {
            self.broker.publish(&queue, vec![message]).await?;
        }
        Ok(())
    }
}

impl Fate {
    /// What becomes of messages now, in which order.
    fn mistreat(&self, queue: &str, messages: Vec<Message>) -> Vec<Message> {
        let mut dice = self.dice.lock();
        let mut now = Vec::new();
        for message in messages {
            match dice.below(10) {
                0 => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                1..=3 => {
                    self.doubled.fetch_add(1, Ordering::Relaxed);
                    now.extend([message, message]);
                }
                4..=5 => {
                    self.late.fetch_add(1, Ordering::Relaxed);
                    let late = Duration::from_millis(dice.below(self.latest.as_millis() as usize) as u64);
                    self.delayed.lock().push((Instant::now() + late, queue.to_owned(), message));
                }
                _ => now.push(message),
            }
        }
        for at in (1..now.len()).rev() {
            now.swap(at, dice.below(at + 1));
        }
        now
    }
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hostile({:?})", self.broker)
    }
}

impl Broker for Hostile {
    fn publish<'a>(&'a self, queue: &'a str, messages: Vec<Message>) -> Answer<'a, ()> {
        Box::pin(async move {
            let now = self.fate.mistreat(queue, messages);
            if now.is_empty() { Ok(()) } else { self.broker.publish(queue, now).await }
        })
    }

    fn receive<'a>(&'a self, queue: &'a str, most: u32) -> Answer<'a, Vec<Delivery>> {
        Box::pin(async move {
            let mut received = self.broker.receive(queue, most);
            loop {
                self.deliver_late().await?;
                tokio::select! {
                    biased;
                    received = &mut received => return received,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        })
    }

    fn acknowledge<'a>(&'a self, queue: &'a str, mut receipts: Vec<Receipt>) -> Answer<'a, ()> {
        Box::pin(async move {
            let sent = receipts.len();
            receipts.retain(|_| !self.fate.dice.lock().chance(10));
            let forgets = receipts.len() < sent;
            self.broker.acknowledge(queue, receipts).await?;
            // As when a connection breaks: what has not been acknowledged comes again.
            if forgets { self.broker.pause(queue).await } else { Ok(()) }
        })
    }

    fn set_aside<'a>(&'a self, queue: &'a str, body: Vec<u8>) -> Answer<'a, ()> {
        self.broker.set_aside(queue, body)
    }

    fn pause<'a>(&'a self, queue: &'a str) -> Answer<'a, ()> {
        self.broker.pause(queue)
    }

    fn check<'a>(&'a self, queue: &'a str) -> Answer<'a, ()> {
        self.broker.check(queue)
    }

    fn for_worker(&self) -> Option<Arc<dyn Broker>> {
        let broker = self.broker.for_worker()?;
        Some(Arc::new(Self { broker, fate: self.fate.clone() }))
    }

    fn name(&self) -> String {
        format!("a hostile {}", self.broker.name())
    }

    fn settings(&self) -> Settings {
        self.broker.settings()
    }
}
