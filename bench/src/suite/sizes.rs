//! How large everything is.

use std::time::Duration;

/// The sizes of the suite's scenes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rows of a big import.
    pub big: u64,
    /// Runs of it, and of the one of 100,000 rows.
    pub runs: usize,
    /// Rows of the largest import.
    pub huge: u64,
    /// Rows of each of the imports that run on a cluster at once.
    pub on_cluster: u64,
    /// Lone jobs.
    pub lone: u64,
    /// Keys of lone jobs.
    pub keys: u64,
    /// Rows of the import with a few slow ones; one in a thousand is slow.
    pub with_slow: u64,
    /// How long an idle worker is watched.
    pub idle: Duration,
    /// The lease of a worker that is killed.
    pub lease: Duration,
}

impl Sizes {
    /// Those of the design.
    pub fn full() -> Self {
        Self {
            big: 1_000_000,
            runs: 3,
            huge: 10_000_000,
            on_cluster: 250_000,
            lone: 200_000,
            keys: 10_000,
            with_slow: 100_000,
            idle: Duration::from_secs(10),
            lease: Duration::from_secs(15),
        }
    }

    /// A tenth of them or less.
    pub fn quick() -> Self {
        Self {
            big: 100_000,
            runs: 3,
            huge: 1_000_000,
            on_cluster: 25_000,
            lone: 50_000,
            keys: 1_000,
            with_slow: 10_000,
            idle: Duration::from_secs(4),
            lease: Duration::from_secs(2),
        }
    }
}
