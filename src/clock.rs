//! Time as integer milliseconds, from a clock that tests can hold in their hand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z, or a span of them.
pub type Millis = i64;

/// Where a store reads the time.
#[derive(Clone, Default)]
pub struct Clock(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
    /// The host's, and by how much it has been moved.
    Moved(Arc<AtomicI64>),
    /// What it showed at an instant of tokio's time.
    Tokio(Millis, tokio::time::Instant),
}

impl Clock {
    /// The host's clock.
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that stands still at `now` until [`advance`](Self::advance) moves it. Clones share it.
    pub fn manual(now: Millis) -> Self {
        Self(Kind::Manual(Arc::new(AtomicI64::new(now))))
    }

    /// A clock that goes on like the host's, and that [`advance`](Self::advance) moves as a person moves that one. Clones share it.
    pub fn movable() -> Self {
        Self(Kind::Moved(Arc::default()))
    }

    /// Whether it is the host's, right or wrong: a store with a clock of its own goes by that one.
    #[cfg(feature = "redis")]
    pub(crate) fn is_of_host(&self) -> bool {
        matches!(self.0, Kind::System | Kind::Moved(_))
    }

    /// A clock that shows `now` at this moment and goes on with tokio's time, which a test can pause.
    pub fn tokio(now: Millis) -> Self {
        Self(Kind::Tokio(now, tokio::time::Instant::now()))
    }

    /// The time it shows.
    pub fn now(&self) -> Millis {
        let system = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        match &self.0 {
            Kind::System => system(),
            Kind::Manual(now) => now.load(Ordering::SeqCst),
            Kind::Moved(by) => system() + by.load(Ordering::SeqCst),
            Kind::Tokio(now, since) => now + millis(since.elapsed()),
        }
    }

    /// Moves a manual or a movable clock by `by` milliseconds, forth or back. Does nothing to another.
    pub fn advance(&self, by: Millis) {
        if let Kind::Manual(time) | Kind::Moved(time) = &self.0 {
            time.fetch_add(by, Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            // Two of these are the same at any time.
            Kind::System => return f.write_str("Clock(system)"),
            Kind::Manual(_) => "manual",
            Kind::Moved(_) => "movable",
            Kind::Tokio(..) => "tokio",
        };
        write!(f, "Clock({kind}, {})", self.now())
    }
}

/// A duration in whole milliseconds; what does not fit (292 million years) is cut off.
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
