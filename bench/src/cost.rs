//! What a store's operations cost, from its meters.

use gusher::store::Meters;
use serde::{Deserialize, Serialize};

/// What all operations of a store cost so far, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Operations, reading ones included: what a store behind a network would be sent.
    pub operations: u64,
    /// Statements run inside of them.
    pub statements: u64,
    /// Transactions committed.
    pub commits: u64,
}

impl Totals {
    /// So far.
    pub fn of(meters: &Meters) -> Self {
        let by_verb = meters.by_verb();
        Self {
            operations: by_verb.values().map(|verb| verb.operations).sum(),
            statements: by_verb.values().map(|verb| verb.sum.calls).sum(),
            commits: meters.commits(),
        }
    }

    /// Since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            operations: self.operations - earlier.operations,
            statements: self.statements - earlier.statements,
            commits: self.commits - earlier.commits,
        }
    }
}

/// The most that any one operation took, with its verb.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worst {
    /// Statements.
    pub calls: (u64, String),
    /// Bytes of payloads.
    pub bytes: (u64, String),
}

impl Worst {
    /// So far. The doctor reads everything and has no bound.
    pub fn of(meters: &Meters) -> Self {
        let by_verb = meters.by_verb();
        let bounded = || by_verb.iter().filter(|(name, _)| **name != "doctor");
        let named = |(count, name): (u64, &str)| (count, name.to_owned());
        Self {
            calls: bounded().map(|(name, verb)| (verb.max.calls, *name)).max().map(named).unwrap_or_default(),
            bytes: bounded().map(|(name, verb)| (verb.max.bytes, *name)).max().map(named).unwrap_or_default(),
        }
    }

    /// The worse of both.
    pub fn take_in(&mut self, other: Self) {
        self.calls = std::mem::take(&mut self.calls).max(other.calls);
        self.bytes = std::mem::take(&mut self.bytes).max(other.bytes);
    }
}
