//! Brokers: who carries slices to workers. The store hands out, settles and decides; a broker only delivers.
//!
//! ```text
//! store ──claim──► forwarder ──message──► broker ──message──► consumer ──take_over──► store
//!                  (worker/forward.rs)                        (worker/consume.rs)
//! ```
//!
//! A message names a lease, nothing else: parameters never travel. So a broker may lose, double, delay and reorder messages as it likes.
//! A lost one is a lease that ends, and its slice is forwarded again; any other that is not the first of its lease finds that gone and is
//! dropped.
//!
//! Implement [`Broker`] for another one, hand it to [`App::queue`](crate::App::queue), and test it with `gusher::testing::broker_tests!`.

mod message;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "sqs")]
pub mod sqs;
mod traffic;
mod ways;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

pub use self::message::{MAX_MESSAGE, Message, Unfit};
pub use self::traffic::{Traffic, TrafficCounts};
pub(crate) use self::ways::Carrier;
pub use self::ways::{Brokers, Way};
use crate::error::{Error, Result};
use crate::slice::TARGET_TIME;

/// What a broker's verb returns: a future that ends with the answer.
pub type Answer<'a, T> = BoxFuture<'a, Result<T>>;

/// Who carries messages of some queues. Object safe; every method may be called from any thread, at the same time as any other.
///
/// It makes its connections when it needs them, and makes them anew when they break. An error of kind `Unavailable` says that the call may be
/// repeated; any other that somebody has to mend something first.
pub trait Broker: Send + Sync + fmt::Debug {
    /// Publishes messages to a queue, which is made if it is not there, and waits until the broker has them all. After an error some of them
    /// may come nonetheless.
    fn publish<'a>(&'a self, queue: &'a str, messages: Vec<Message>) -> Answer<'a, ()>;

    /// Waits for messages of a queue, and returns at most `most` of them as soon as there are any. It may wait until what an earlier call
    /// brought has been acknowledged. What is not acknowledged comes again some time. Whoever drops the future while it waits loses nothing.
    fn receive<'a>(&'a self, queue: &'a str, most: u32) -> Answer<'a, Vec<Delivery>>;

    /// Messages that need not come again.
    fn acknowledge<'a>(&'a self, queue: &'a str, receipts: Vec<Receipt>) -> Answer<'a, ()>;

    /// Puts what is no message of ours where people can look at it: into a queue of the same name with `.aside` behind it.
    fn set_aside<'a>(&'a self, queue: &'a str, body: Vec<u8>) -> Answer<'a, ()>;

    /// For a while nothing is received of a queue: what was sent ahead is for others, whether [`receive`](Self::receive) has returned it or
    /// not, if it has not been acknowledged.
    fn pause<'a>(&'a self, queue: &'a str) -> Answer<'a, ()>;

    /// Whether messages of a queue could be published and received now.
    fn check<'a>(&'a self, queue: &'a str) -> Answer<'a, ()>;

    /// For a worker a broker of its own, with the same queues; none if workers of one process may share this one. They may not where what
    /// was sent ahead to one, or waits for its acknowledgement, would keep messages from another.
    fn for_worker(&self) -> Option<Arc<dyn Broker>> {
        None
    }

    /// How people know it; no password is in it.
    fn name(&self) -> String;

    /// How it is used.
    fn settings(&self) -> Settings {
        Settings::default()
    }
}

/// How long a broker may take for any answer but to [`Broker::receive`]: no worker waits for one for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker's answer, if it comes.
pub(crate) async fn in_time<T>(answer: Answer<'_, T>) -> Result<T> {
    let late = |_| Error::unavailable(format!("the broker has not answered for {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, answer).await.map_err(late)?
}

/// How a broker is used, whichever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long one message should keep a worker busy: with more there are fewer messages, with less they are spread better. 50 ms.
    pub slice: Duration,
    /// Whether what is no message of ours is kept in a queue of its own; else it is dropped.
    pub aside: bool,
    /// What the name of each of its queues begins with. `gusher.`
    pub prefix: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { slice: TARGET_TIME, aside: false, prefix: "gusher.".to_owned() }
    }
}

/// A message that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What it says; whoever published it.
    pub body: Vec<u8>,
    /// What acknowledges it.
    pub receipt: Receipt,
}

/// What a broker knows a delivery by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

/// The broker of a URL: `amqp://HOST/VHOST`, `amqps://…` or `sqs://REGION`. `None` for `store:`, the store's own lines. Connects to nothing yet.
pub fn open(url: &str) -> Result<Option<Arc<dyn Broker>>> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("store") => Ok(None),
        Some("amqp" | "amqps") => open_rabbitmq(url).map(Some),
        Some("sqs") => open_sqs(url).map(Some),
        _ => Err(Error::usage(format!(
            "`{}` is no broker that this program knows; a broker is a URL like amqp://127.0.0.1:5672, sqs://eu-central-1, or `store:` for the \
             store's own lines",
            crate::store::without_passwords(url)
        ))),
    }
}

#[cfg(not(feature = "rabbitmq"))]
fn open_rabbitmq(_: &str) -> Result<Arc<dyn Broker>> {
    Err(Error::usage("this program was built without the feature `rabbitmq`; build it with `--features rabbitmq`"))
}

#[cfg(feature = "rabbitmq")]
fn open_rabbitmq(url: &str) -> Result<Arc<dyn Broker>> {
    Ok(Arc::new(rabbitmq::RabbitMq::open(url)?))
}

#[cfg(not(feature = "sqs"))]
fn open_sqs(_: &str) -> Result<Arc<dyn Broker>> {
    Err(Error::usage("this program was built without the feature `sqs`; build it with `--features sqs`"))
}

#[cfg(feature = "sqs")]
fn open_sqs(url: &str) -> Result<Arc<dyn Broker>> {
    Ok(Arc::new(sqs::Sqs::open(url)?))
}

/// A broker's URL without its query, the settings in that which every broker has, and its others.
#[cfg(any(test, feature = "rabbitmq", feature = "sqs"))]
type Taken<'a> = (&'a str, Settings, Vec<(&'a str, &'a str)>);

/// Takes the settings that every broker has out of a URL's query.
#[cfg(any(test, feature = "rabbitmq", feature = "sqs"))]
fn take_settings(url: &str) -> Result<Taken<'_>> {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut settings, mut others) = (Settings::default(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = |right: &str| Error::usage(format!("a broker's `{name}` is {right}, not `{value}`"));
        match name {
            "slice" => {
                let slice = crate::store::parse_duration(value)
                    .filter(|slice| (Duration::from_millis(1)..=Duration::from_secs(10)).contains(slice));
                settings.slice = slice.ok_or_else(|| wrong("a length of time between 1ms and 10s"))?;
            }
            "aside" => settings.aside = value.parse().map_err(|_| wrong("true or false"))?,
            "prefix" => {
                let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                settings.prefix = Some(value)
                    .filter(|value| value.chars().all(is_fine))
                    .map(str::to_owned)
                    .ok_or_else(|| wrong("made of letters, digits, `-`, `_` and `.`"))?;
            }
            _ => others.push((name, value)),
        }
    }
    Ok((place, settings, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_broker_is_answered_with_examples_and_without_its_password() {
        let error = open("kafka://user:secret@host").unwrap_err().to_string();
        assert!(error.contains("amqp://127.0.0.1:5672") && !error.contains("secret"), "{error}");
        assert!(open("store:").unwrap().is_none());
    }

    #[test]
    fn settings_of_every_broker_are_taken_out_of_its_url() {
        let (place, settings, others) =
            take_settings("amqp://host/%2f?slice=200ms&aside=true&queue-type=quorum&prefix=a.b-").unwrap();
        assert_eq!((place, others), ("amqp://host/%2f", vec![("queue-type", "quorum")]));
        let wanted = Settings { slice: Duration::from_millis(200), aside: true, prefix: "a.b-".to_owned() };
        assert_eq!(settings, wanted);
        for wrong in ["slice=1h", "aside=perhaps", "prefix=a/b"] {
            assert!(take_settings(&format!("amqp://host?{wrong}")).is_err(), "{wrong}");
        }
    }
}
