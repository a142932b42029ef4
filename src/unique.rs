//! Unique lone jobs: while one of a key is there, another is not taken.

use std::fmt;
use std::time::Duration;

use crate::clock::millis;
use crate::store::Until;

/// While a job with this key is there, another of its type with the same key is not enqueued: `client.enqueue(job).unique(..)`.
///
/// ```
/// use gusher::Unique;
/// use std::time::Duration;
///
/// let invoice = 7;
/// Unique::until_settled(invoice);
/// Unique::until_started("nightly clean-up").or_first();
/// Unique::for_a_time(Duration::from_secs(3600), "digest");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    pub(crate) key: String,
    pub(crate) until: Until,
    pub(crate) or_first: bool,
}

impl Unique {
    /// Until it has been given to a worker: what happens from then on is worth another job.
    pub fn until_started(key: impl fmt::Display) -> Self {
        Self::until(Until::Started, key)
    }

    /// Until it has succeeded, failed for good, or been cancelled. A failed one that is retried by hand does not take its key again.
    pub fn until_settled(key: impl fmt::Display) -> Self {
        Self::until(Until::Settled, key)
    }

    /// For so long after it has been enqueued, whatever becomes of it.
    pub fn for_a_time(time: Duration, key: impl fmt::Display) -> Self {
        Self::until(Until::Over(millis(time)), key)
    }

    /// The second one is dropped without an error: who enqueues it gets a handle on the first.
    #[must_use]
    pub fn or_first(mut self) -> Self {
        self.or_first = true;
        self
    }

    fn until(until: Until, key: impl fmt::Display) -> Self {
        Self { key: key.to_string(), until, or_first: false }
    }
}
