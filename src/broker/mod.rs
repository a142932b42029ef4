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

/// Who carries messages of some queues. Object safe; every method may be called from any thread, at the same time for different queues.
///
/// It makes its connections when it needs them, and makes them anew when they break. An error of kind `Unavailable` says that the call may be
/// repeated; any other that somebody has to mend something first.
pub trait Broker: Send + Sync + fmt::Debug {
    /// Publishes messages to a queue, which is made if it is not there, and waits until the broker has them all. After an error some of them
    /// may come nonetheless.
    fn publish<'a>(&'a self, queue: &'a str, messages: Vec<Message>) -> Answer<'a, ()>;

    /// Waits for messages of a queue, and returns at most `most` of them as soon as there are any. What is neither acknowledged nor set aside
    /// comes again some time. Whoever drops the future while it waits loses nothing.
    fn receive<'a>(&'a self, queue: &'a str, most: u32) -> Answer<'a, Vec<Delivery>>;

    /// Messages that need not come again.
    fn acknowledge<'a>(&'a self, queue: &'a str, receipts: Vec<Receipt>) -> Answer<'a, ()>;

    /// Puts what is no message of ours where people can look at it: into a queue of the same name with `.aside` behind it.
    fn set_aside<'a>(&'a self, queue: &'a str, body: Vec<u8>) -> Answer<'a, ()>;

    /// For a while nothing is received of a queue: what was sent ahead, and has not been returned by [`receive`](Self::receive), is for others.
    fn pause<'a>(&'a self, queue: &'a str) -> Answer<'a, ()>;

    /// Whether messages of a queue could be published and received now.
    fn check<'a>(&'a self, queue: &'a str) -> Answer<'a, ()>;

    /// How people know it; no password is in it.
    fn name(&self) -> String;

    /// How it is used.
    fn settings(&self) -> Settings {
        Settings::default()
    }
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

/// The broker of a URL; `None` for `store:`, the store's own lines. Others are handed over as they are: [`App::queue`](crate::App::queue).
pub fn open(url: &str) -> Result<Option<Arc<dyn Broker>>> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("store") => Ok(None),
        _ => Err(Error::usage(format!(
            "`{}` is no broker that this program knows; `store:` names the store's own lines",
            crate::store::without_passwords(url)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_broker_is_told_without_its_password() {
        let error = open("kafka://user:secret@host").unwrap_err().to_string();
        assert!(error.contains("no broker") && !error.contains("secret"), "{error}");
        assert!(open("store:").unwrap().is_none());
    }
}
