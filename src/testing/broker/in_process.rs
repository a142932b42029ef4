//! A broker without a server: queues in the memory of this process.

use std::collections::{BTreeMap, HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::broker::{Answer, Broker, Delivery, Message, Receipt};
use crate::error::{Error, Result};

/// Queues in memory, that can be purged and can be away.
#[derive(Debug, Default)]
pub struct InProcess {
    queues: Mutex<HashMap<String, Queue>>,
    came: Notify,
    is_away: std::sync::atomic::AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Vec<u8>>,
    delivered: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl InProcess {
    /// Throws away what waits in a queue; returns how many messages that were.
    pub fn purge(&self, queue: &str) -> usize {
        self.queues.lock().get_mut(queue).map_or(0, |queue| std::mem::take(&mut queue.ready).len())
    }

    /// How many messages of a queue wait, or have not been acknowledged.
    pub fn len(&self, queue: &str) -> usize {
        self.queues.lock().get(queue).map_or(0, |queue| queue.ready.len() + queue.delivered.len())
    }

    /// Goes away, so that every call fails, or comes back, and delivers again what was not acknowledged.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, std::sync::atomic::Ordering::SeqCst);
        self.queues.lock().values_mut().for_each(Queue::deliver_again);
        self.came.notify_waiters();
    }

    /// Puts anything into a queue.
    pub fn put(&self, queue: &str, body: Vec<u8>) {
        self.queues.lock().entry(queue.to_owned()).or_default().ready.push_back(body);
        self.came.notify_waiters();
    }

    fn is_there(&self) -> Result<()> {
        if self.is_away.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Error::unavailable("the broker in this process is away, as the test wants it"));
        }
        Ok(())
    }
}

impl Queue {
    fn deliver_again(&mut self) {
        for (_, body) in std::mem::take(&mut self.delivered).into_iter().rev() {
            self.ready.push_front(body);
        }
    }
}

impl Broker for InProcess {
    fn publish<'a>(&'a self, queue: &'a str, messages: Vec<Message>) -> Answer<'a, ()> {
        Box::pin(async move {
            self.is_there()?;
            messages.iter().for_each(|message| self.put(queue, message.encode().into_bytes()));
            Ok(())
        })
    }

    fn receive<'a>(&'a self, queue: &'a str, most: u32) -> Answer<'a, Vec<Delivery>> {
        Box::pin(async move {
            loop {
                let came = self.came.notified();
                tokio::pin!(came);
                came.as_mut().enable();
                self.is_there()?;
                let mut deliveries = Vec::new();
                if let Some(queue) = self.queues.lock().get_mut(queue) {
                    while deliveries.len() < most.max(1) as usize
                        && let Some(body) = queue.ready.pop_front()
                    {
                        queue.next += 1;
                        queue.delivered.insert(queue.next, body.clone());
                        deliveries.push(Delivery { body, receipt: Receipt(queue.next.to_string()) });
                    }
                }
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
                came.await;
            }
        })
    }

    fn acknowledge<'a>(&'a self, queue: &'a str, receipts: Vec<Receipt>) -> Answer<'a, ()> {
        Box::pin(async move {
            self.is_there()?;
            if let Some(queue) = self.queues.lock().get_mut(queue) {
                receipts.iter().filter_map(|receipt| receipt.0.parse().ok()).for_each(|number: u64| {
                    queue.delivered.remove(&number);
                });
            }
            Ok(())
        })
    }

    fn set_aside<'a>(&'a self, queue: &'a str, body: Vec<u8>) -> Answer<'a, ()> {
        Box::pin(async move {
            self.is_there()?;
            self.put(&format!("{queue}.aside"), body);
            Ok(())
        })
    }

    fn pause<'a>(&'a self, queue: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Some(queue) = self.queues.lock().get_mut(queue) {
                queue.deliver_again();
            }
            self.came.notify_waiters();
            Ok(())
        })
    }

    fn check<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.is_there() })
    }

    fn name(&self) -> String {
        "a broker in this process".to_owned()
    }
}
