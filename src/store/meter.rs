//! What a store's operations cost: counted always, so that a test can hold them to their bounds and a benchmark can print them.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;

/// The most statements or inner commands that one operation may run.
pub const MAX_CALLS: u64 = 600;
/// The most bytes of payloads that one operation may write or hand out.
pub const MAX_BYTES: u64 = 512 * 1024;

/// What one operation cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Statements or inner commands run.
    pub calls: u64,
    /// Rows read, those of a table that is searched without an index included.
    pub rows: u64,
    /// Bytes of payloads (parameters, states, outcomes) written or read.
    pub bytes: u64,
}

/// What the operations of one verb have cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerbCost {
    /// How many operations there were.
    pub operations: u64,
    /// All together.
    pub sum: Cost,
    /// The most that one of them took, each figure by itself.
    pub max: Cost,
}

/// The costs by verb, and the commits that carried them.
#[derive(Debug, Default)]
pub struct Meters {
    verbs: Mutex<BTreeMap<&'static str, VerbCost>>,
    commits: std::sync::atomic::AtomicU64,
}

impl Meters {
    /// Counts one operation of `verb`.
    pub fn add(&self, verb: &'static str, cost: Cost) {
        let mut verbs = self.verbs.lock();
        let total = verbs.entry(verb).or_default();
        total.operations += 1;
        for (sum, max, one) in [
            (&mut total.sum.calls, &mut total.max.calls, cost.calls),
            (&mut total.sum.rows, &mut total.max.rows, cost.rows),
            (&mut total.sum.bytes, &mut total.max.bytes, cost.bytes),
        ] {
            *sum += one;
            *max = one.max(*max);
        }
    }

    /// Counts one commit.
    pub fn add_commit(&self) {
        self.commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// How many transactions have been committed by this process.
    pub fn commits(&self) -> u64 {
        self.commits.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The costs by verb so far, in this process.
    pub fn by_verb(&self) -> BTreeMap<&'static str, VerbCost> {
        self.verbs.lock().clone()
    }

    /// The verbs of which an operation went over a bound, with what it took. The doctor reads everything, so it has none.
    pub fn over_bounds(&self) -> Vec<(&'static str, Cost)> {
        let over = |cost: &Cost| cost.calls > MAX_CALLS || cost.bytes > MAX_BYTES;
        self.verbs
            .lock()
            .iter()
            .filter(|(name, verb)| **name != "doctor" && over(&verb.max))
            .map(|(name, verb)| (*name, verb.max))
            .collect()
    }
}
