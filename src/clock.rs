//! Time as integer milliseconds, from a clock that tests can hold in their hand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z, or a span of them.
pub type Millis = i64;

/// Where a store reads the time.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The host's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at `now` until [`advance`](Self::advance) moves it. Clones share it.
    pub fn manual(now: Millis) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now))))
    }

    /// Whether it moves only by [`advance`](Self::advance).
    #[cfg(feature = "redis")]
    pub(crate) fn is_manual(&self) -> bool {
        self.0.is_some()
    }

    /// The time it shows.
    pub fn now(&self) -> Millis {
        match &self.0 {
            Some(manual) => manual.load(Ordering::SeqCst),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
        }
    }

    /// Moves a manual clock by `by` milliseconds, forth or back. Does nothing to the host's clock.
    pub fn advance(&self, by: Millis) {
        if let Some(manual) = &self.0 {
            manual.fetch_add(by, Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.0.is_some() { "manual" } else { "system" };
        write!(f, "Clock({kind}, {})", self.now())
    }
}

/// A duration in whole milliseconds; what does not fit (292 million years) is cut off.
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
