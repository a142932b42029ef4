//! RabbitMQ, 3.10 or newer: `amqp://USER:PASSWORD@HOST:PORT/VHOST`, `amqps://…`.
//!
//! One connection a process, which is made anew when it breaks; one channel to publish on, with confirms, and one for each queue that is
//! received from. What the channel of a queue has sent ahead, at most as many messages as there were free slots when it was opened, goes
//! back when the worker has no room: the channel is closed.
//!
//! Messages are not kept on disk (but those of quorum queues): one that a restart loses is published again by its forwarder's store.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::sync::Mutex;

use super::{Answer, Broker, Delivery, Message, Receipt, Settings, take_settings};
use crate::error::{Error, Result};

/// How long a server may take for any one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may take to take one message that nobody gets; less than who asks for that waits.
const PROBED: Duration = Duration::from_secs(2);
/// How often both ends show that they live, in seconds, unless the URL says otherwise.
const HEARTBEAT: u16 = 10;
/// The server's words for what is not there, what is not allowed, and what is there as something else.
const NOT_FOUND: u16 = 404;
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;
/// What messages of jobs below, of and above the usual priority say of theirs. A quorum queue sets apart what is above 4; a classic queue that
/// we make knows these: a larger one counts as its greatest, and each costs it some memory.
const LOW: u8 = 0;
const USUAL: u8 = 1;
const HIGH: u8 = 5;
const MAX_PRIORITY: u8 = 2;

/// A RabbitMQ server, or a cluster of them behind one address.
pub struct RabbitMq {
    uri: AMQPUri,
    shown: String,
    settings: Settings,
    /// What a queue is made as, if it is not there: `classic` or `quorum`; the server's default unless set.
    queue_type: Option<&'static str>,
    /// Certificates (PEM) that the server's may be signed by, beside the system's.
    ca: Option<String>,
    link: Mutex<Option<Arc<Link>>>,
    inboxes: parking_lot::Mutex<HashMap<String, Arc<Inbox>>>,
}

/// A connection with what hangs on it.
struct Link {
    connection: Connection,
    publisher: Channel,
    /// Queues that are known to be there.
    queues: parking_lot::Mutex<HashSet<String>>,
}

/// What receives from one queue. Channels are numbered, for delivery tags are those of one channel.
#[derive(Default)]
struct Inbox {
    /// Held by who receives.
    consumer: Mutex<Option<(u64, Consumer)>>,
    /// The channel by which that does. Messages are acknowledged on it, and whoever closes it gives back what was sent ahead.
    channel: parking_lot::Mutex<Option<(u64, Channel)>>,
}

impl Inbox {
    /// Whether it receives by the channel of that number.
    fn is_open(&self, number: u64) -> bool {
        self.channel.lock().as_ref().is_some_and(|(open, _)| *open == number)
    }
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RabbitMq({})", self.shown)
    }
}

impl RabbitMq {
    /// The server of a URL. Connects when it is used.
    pub fn open(url: &str) -> Result<Self> {
        let (place, settings, others) = take_settings(url)?;
        let (mut queue_type, mut ca) = (None, None);
        let mut query: Vec<String> = Vec::new();
        for (name, value) in others {
            match (name, value) {
                ("queue-type", "classic") => queue_type = Some("classic"),
                ("queue-type", "quorum") => queue_type = Some("quorum"),
                ("queue-type", _) => {
                    return Err(Error::usage(format!("a queue-type is classic or quorum, not `{value}`")));
                }
                ("ca", file) => {
                    let unreadable = |error| {
                        let what =
                            format!("the certificates in `{file}`, which the broker's URL names, cannot be read");
                        Error::usage(what).because(error)
                    };
                    ca = Some(std::fs::read_to_string(file).map_err(unreadable)?);
                }
                _ => query.push(format!("{name}={value}")),
            }
        }
        let shown = crate::store::without_passwords(place);
        let mut uri: AMQPUri = format!("{place}?{}", query.join("&"))
            .trim_end_matches('?')
            .parse()
            .map_err(|why: String| Error::usage(format!("`{shown}` is no address of a RabbitMQ server: {why}")))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(Self {
            uri,
            shown,
            settings,
            queue_type,
            ca,
            link: Mutex::default(),
            inboxes: parking_lot::Mutex::default(),
        })
    }

    /// What the server calls a queue.
    fn queue(&self, queue: &str) -> String {
        format!("{}{queue}", self.settings.prefix)
    }

    /// The connection, made if there is none that works.
    async fn link(&self) -> Result<Arc<Link>> {
        let mut link = self.link.lock().await;
        if let Some(there) = link.as_ref().filter(|there| there.works()) {
            return Ok(there.clone());
        }
        *link = None;
        let what = format!("connecting to {}", self.shown);
        let properties = ConnectionProperties::default().with_connection_name("gusher".into());
        let connect = async {
            let tls = OwnedTLSConfig { cert_chain: self.ca.clone(), ..OwnedTLSConfig::default() };
            let runtime = lapin::runtime::default_runtime()?;
            let connection = Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime).await?;
            let publisher = connection.create_channel().await?;
            publisher.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Link { connection, publisher, queues: parking_lot::Mutex::default() })
        };
        let made = Arc::new(in_time(&what, connect).await?);
        tracing::info!(broker = self.shown, "connected");
        *link = Some(made.clone());
        Ok(made)
    }

    /// Looks for a queue, and makes it if it is not there: as somebody has made it, it is right.
    async fn make(&self, link: &Link, queue: &str) -> Result<()> {
        if link.queues.lock().contains(queue) {
            return Ok(());
        }
        let what = format!("the queue `{queue}` of {}", self.shown);
        let declare = async |passive, arguments: FieldTable| {
            // A refusal closes the channel.
            let channel = link.connection.create_channel().await?;
            let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.into(), options, arguments).await?;
            let _ = channel.close(200, "".into()).await;
            Ok(())
        };
        let found = in_time_as_it_is(declare(true, FieldTable::default())).await;
        match found {
            Some(Err(error)) if code(&error) == Some(NOT_FOUND) => {
                let mut arguments = FieldTable::default();
                if let Some(queue_type) = self.queue_type {
                    arguments.insert("x-queue-type".into(), AMQPValue::LongString(queue_type.into()));
                }
                let mut prioritised = arguments.clone();
                prioritised.insert("x-max-priority".into(), AMQPValue::ShortShortUInt(MAX_PRIORITY));
                let made = match self.queue_type {
                    Some("quorum") => None,
                    _ => in_time_as_it_is(declare(false, prioritised)).await,
                };
                // Where quorum queues are the default it is refused: they have priorities of their own.
                if !matches!(made, Some(Ok(()))) {
                    in_time(&what, declare(false, arguments)).await?;
                }
            }
            Some(found) => found.map_err(|error| rabbitmq_error(&what, error))?,
            None => return Err(silent(&what, PATIENCE)),
        }
        link.queues.lock().insert(queue.to_owned());
        Ok(())
    }

    /// That the server takes nothing for the time being; it tells those who publish.
    fn alarm(&self) -> Error {
        Error::unavailable(format!(
            "{} takes no messages: it has an alarm, for its memory or its disk is nearly full",
            self.shown
        ))
    }

    async fn publish_bodies(&self, queue: &str, bodies: Vec<(Vec<u8>, u8)>) -> Result<()> {
        let link = self.link().await?;
        if link.connection.status().blocked() {
            return Err(self.alarm());
        }
        let what = format!("publishing to `{queue}` of {}", self.shown);
        self.make(&link, queue).await?;
        let publish = async {
            let mut confirms = Vec::new();
            for (body, priority) in &bodies {
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let properties =
                    BasicProperties::default().with_content_type("text/plain".into()).with_priority(*priority);
                let sent = link.publisher.basic_publish("".into(), queue.into(), options, body, properties);
                confirms.push(sent.await?);
            }
            let mut lost = 0;
            for confirm in confirms {
                let confirmed = confirm.await?;
                let is_there = confirmed.is_ack() && confirmed.take_message().is_none();
                lost += usize::from(!is_there);
            }
            Ok(lost)
        };
        let published = in_time(&what, publish).await;
        if !matches!(published, Ok(0)) {
            // It may have been deleted.
            link.queues.lock().remove(queue);
        }
        match published {
            Ok(0) => Ok(()),
            Ok(lost) => Err(Error::unavailable(format!("{what}: the server has not kept {lost} messages"))),
            // The connection works again when the alarm is over; closing it would have to wait for that, too.
            Err(_) if link.connection.status().blocked() => Err(self.alarm()),
            Err(error) => {
                // A channel with open confirms is of no use.
                self.forget(&link).await;
                Err(error)
            }
        }
    }

    /// Publishes a message that nobody gets: a server with an alarm says so only to those who publish.
    async fn probe(&self, link: &Link, queue: &str) -> Result<()> {
        let what = format!("publishing to {}", self.shown);
        let nobody = format!("{queue}.nobody");
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let publish = async {
            let sent = link.publisher.basic_publish("".into(), nobody.as_str().into(), options, b"", properties);
            sent.await?.await
        };
        let confirmed = tokio::time::timeout(PROBED, publish).await.map_err(|_| silent(&what, PROBED))?;
        confirmed.map(drop).map_err(|error| rabbitmq_error(&what, error))
    }

    /// This connection is not used any more.
    async fn forget(&self, link: &Arc<Link>) {
        let mut current = self.link.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            *current = None;
        }
    }

    fn inbox(&self, queue: &str) -> Arc<Inbox> {
        self.inboxes.lock().entry(queue.to_owned()).or_default().clone()
    }

    async fn open_inbox(&self, inbox: &Inbox, queue: &str, most: u32) -> Result<(u64, Consumer)> {
        let link = self.link().await?;
        self.make(&link, queue).await?;
        let what = format!("receiving from `{queue}` of {}", self.shown);
        let open = async {
            let channel = link.connection.create_channel().await?;
            let prefetch = u16::try_from(most).unwrap_or(u16::MAX).max(1);
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
            Ok((channel, consumer))
        };
        let opened = in_time(&what, open).await;
        if opened.is_err() {
            link.queues.lock().remove(queue);
        }
        let ((channel, consumer), number) = (opened?, NEXT_CHANNEL.fetch_add(1, Ordering::Relaxed));
        *inbox.channel.lock() = Some((number, channel));
        Ok((number, consumer))
    }
}

/// Tells the channels of this process apart.
static NEXT_CHANNEL: AtomicU64 = AtomicU64::new(1);

impl Link {
    fn works(&self) -> bool {
        self.connection.status().connected() && self.publisher.status().connected()
    }
}

impl Broker for RabbitMq {
    fn publish<'a>(&'a self, queue: &'a str, messages: Vec<Message>) -> Answer<'a, ()> {
        Box::pin(async move {
            let body = |message: &Message| (message.encode().into_bytes(), priority(message));
            let bodies = messages.iter().map(body).collect();
            self.publish_bodies(&self.queue(queue), bodies).await
        })
    }

    fn receive<'a>(&'a self, queue: &'a str, most: u32) -> Answer<'a, Vec<Delivery>> {
        Box::pin(async move {
            let queue = self.queue(queue);
            let inbox = self.inbox(&queue);
            let mut open = inbox.consumer.lock().await;
            loop {
                let (number, consumer) = match &mut *open {
                    Some((number, consumer)) if inbox.is_open(*number) => (*number, consumer),
                    none => {
                        let (number, consumer) = none.insert(self.open_inbox(&inbox, &queue, most).await?);
                        (*number, consumer)
                    }
                };
                let mut next = consumer.next().await;
                let mut deliveries = Vec::new();
                let broken = loop {
                    match next {
                        Some(Ok(delivery)) => deliveries.push(Delivery {
                            receipt: Receipt(format!("{number}:{}", delivery.delivery_tag)),
                            body: delivery.data,
                        }),
                        broken => break broken,
                    }
                    if deliveries.len() >= most.max(1) as usize {
                        return Ok(deliveries);
                    }
                    match consumer.next().now_or_never() {
                        Some(more) => next = more,
                        None => return Ok(deliveries),
                    }
                };
                *open = None;
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
                if !inbox.is_open(number) {
                    // Somebody has given back what was sent ahead; here there is room.
                    continue;
                }
                *inbox.channel.lock() = None;
                let what = format!("receiving from `{queue}` of {}", self.shown);
                return Err(match broken {
                    Some(Err(error)) => rabbitmq_error(&what, error),
                    _ => Error::unavailable(format!("{what}: the server has ended it")),
                });
            }
        })
    }

    fn acknowledge<'a>(&'a self, queue: &'a str, receipts: Vec<Receipt>) -> Answer<'a, ()> {
        Box::pin(async move {
            let queue = self.queue(queue);
            let Some((number, channel)) = self.inbox(&queue).channel.lock().clone() else { return Ok(()) };
            let tag = |receipt: &Receipt| {
                let (of, tag) = receipt.0.split_once(':')?;
                (of.parse() == Ok(number)).then_some(tag.parse::<u64>().ok()?)
            };
            let what = format!("acknowledging messages of `{queue}` of {}", self.shown);
            in_time(&what, async {
                for tag in receipts.iter().filter_map(tag) {
                    channel.basic_ack(tag, BasicAckOptions::default()).await?;
                }
                Ok(())
            })
            .await
        })
    }

    fn set_aside<'a>(&'a self, queue: &'a str, body: Vec<u8>) -> Answer<'a, ()> {
        Box::pin(async move { self.publish_bodies(&format!("{}.aside", self.queue(queue)), vec![(body, USUAL)]).await })
    }

    fn pause<'a>(&'a self, queue: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let queue = self.queue(queue);
            let Some((_, channel)) = self.inbox(&queue).channel.lock().take() else { return Ok(()) };
            let what = format!("receiving no more from `{queue}` of {}", self.shown);
            in_time(&what, channel.close(200, "no room".into())).await
        })
    }

    fn check<'a>(&'a self, queue: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let link = self.link().await?;
            let queue = self.queue(queue);
            link.queues.lock().remove(&queue);
            let check = async {
                if link.connection.status().blocked() {
                    return Err(self.alarm());
                }
                self.make(&link, &queue).await?;
                self.probe(&link, &queue).await
            };
            // Nothing is sent any more by a connection that has been told of an alarm, so nothing is answered either.
            check.await.map_err(|error| if link.connection.status().blocked() { self.alarm() } else { error })
        })
    }

    /// What one channel has been sent ahead is nobody else's.
    fn for_worker(&self) -> Option<Arc<dyn Broker>> {
        let (link, inboxes) = Default::default();
        let (uri, shown, settings) = (self.uri.clone(), self.shown.clone(), self.settings.clone());
        Some(Arc::new(Self { uri, shown, settings, queue_type: self.queue_type, ca: self.ca.clone(), link, inboxes }))
    }

    fn name(&self) -> String {
        self.shown.clone()
    }

    fn settings(&self) -> Settings {
        self.settings.clone()
    }
}

/// The priority that a message has for RabbitMQ.
fn priority(message: &Message) -> u8 {
    match message.priority.signum() {
        -1 => LOW,
        0 => USUAL,
        _ => HIGH,
    }
}

async fn in_time_as_it_is<T>(answer: impl Future<Output = lapin::Result<T>>) -> Option<lapin::Result<T>> {
    tokio::time::timeout(PATIENCE, answer).await.ok()
}

async fn in_time<T>(what: &str, answer: impl Future<Output = lapin::Result<T>>) -> Result<T> {
    let answer = in_time_as_it_is(answer).await.ok_or_else(|| silent(what, PATIENCE))?;
    answer.map_err(|error| rabbitmq_error(what, error))
}

fn silent(what: &str, time: Duration) -> Error {
    Error::unavailable(format!("{what}: the server has not answered for {} s", time.as_secs()))
}

/// The number that the server gives its refusal.
fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// What went wrong, as one of our errors.
fn rabbitmq_error(what: &str, error: lapin::Error) -> Error {
    match code(&error) {
        Some(ACCESS_REFUSED) => Error::usage(format!(
            "{what}: the server refuses this user or password, or lets it do too little (the guide to RabbitMQ says what it must be allowed)"
        ))
        .because(error),
        Some(PRECONDITION_FAILED) => {
            Error::usage(format!("{what}: it is there, but is no durable queue; name others by `?prefix=…`, or delete it")).because(error)
        }
        _ => Error::unavailable(format!("{what}: the server is away or not ready")).because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_the_server_is_and_how_it_is_used() {
        let broker =
            RabbitMq::open("amqp://user:secret@host:5673/%2fjobs?queue-type=quorum&aside=true&prefix=a-").unwrap();
        assert_eq!((broker.queue("imports"), broker.queue_type), ("a-imports".to_owned(), Some("quorum")));
        assert_eq!((broker.uri.vhost.as_str(), broker.uri.query.heartbeat), ("/jobs", Some(HEARTBEAT)));
        assert!(broker.settings.aside && !broker.name().contains("secret"), "{}", broker.name());
        let error = RabbitMq::open("amqp://host?queue-type=stream").unwrap_err().to_string();
        assert!(error.contains("classic or quorum"), "{error}");
    }
}
