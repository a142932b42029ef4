//! Permits: leases on units of a limit that spans all workers and all shards of a store.
//!
//! ```text
//! permit (taken first) ──► claim ──► jobs run ──► report ──► permit (given back last)
//! ```
//!
//! A limit lives on the shard that its name hashes to, so it is counted exactly, wherever its jobs are. What a session tells of a limit are
//! absolute numbers: what it has in hand, what it has used since it began, how much more it wants. So a call may be repeated, and an answer
//! that is lost harms nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::verbs::Woken;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::id::{SessionId, shard_of};
use crate::limit::Limit;

/// The most limits that one call may speak of.
pub const MAX_PERMITS: usize = 24;
/// How long a session that was refused keeps its place among those that wait, if it does not ask again.
pub const WAITS_FOR: Millis = 5_000;
/// How many of those that wait are looked at in one call.
pub const WAITING_LOOKED_AT: usize = 8;

/// What is limited for all jobs of it together, of workflows and lone ones alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limited {
    /// A queue.
    Queue(String),
    /// A job type.
    Type(String),
}

impl Limited {
    /// The queue's or the type's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Type(name) => name,
        }
    }

    /// Whether it is a type.
    pub fn is_type(&self) -> bool {
        matches!(self, Self::Type(_))
    }

    /// Where its permits are, in a store of so many shards.
    pub fn shard(&self, shards: u16) -> u16 {
        let kind = if self.is_type() { "type" } else { "queue" };
        shard_of(&format!("limit\0{kind}\0{}", self.name()), shards)
    }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue `{name}`"),
            Self::Type(name) => write!(f, "type `{name}`"),
        }
    }
}

/// Parameters of [`Store::permit`](super::Store::permit).
#[derive(Clone, Debug)]
pub struct Permit {
    /// Who asks.
    pub session: SessionId,
    /// Where the permits are: [`Limited::shard`] of each.
    pub shard: u16,
    /// At most [`MAX_PERMITS`].
    pub limits: Vec<Wanted>,
    /// How long the session's leases last; its permits end one lease after those.
    pub lease: Millis,
}

/// What a session has of one limit, and what more it wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is limited.
    pub of: Limited,
    /// The limit, as the session's program says.
    pub limit: Limit,
    /// How many jobs it has claimed that have not been reported: so many permits it keeps, and all others it gives back.
    pub held: u32,
    /// How many of those have not been started: so many starts are reserved for it.
    pub unstarted: u32,
    /// How many jobs it has started since it began.
    pub used: u64,
    /// How many more it would claim and start now.
    pub more: u32,
}

impl Permit {
    /// Refuses one that speaks of more than one operation may look at: every store begins with it.
    pub fn check(&self) -> Result<()> {
        if self.limits.len() > MAX_PERMITS {
            return Err(Error::usage(format!(
                "a call asks for permits of {} limits; at most {MAX_PERMITS} are allowed",
                self.limits.len()
            )));
        }
        Ok(())
    }
}

/// What [`Store::permit`](super::Store::permit) answers.
#[derive(Clone, Debug, Default)]
pub struct Permitted {
    /// One for each limit that was named, in order.
    pub granted: Vec<Granted>,
    /// Whom to wake: there is something for who was refused before.
    pub woken: Woken,
}

/// What was granted of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// How many more jobs it may claim and start.
    pub more: u32,
    /// If that is less than it wants, and only time can change it: how long, in milliseconds. Otherwise it is woken when something is free.
    pub free_in: Option<Millis>,
}

/// How a limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRow {
    /// What is limited.
    pub of: Limited,
    /// The limit that counts: of those that have been told, the one of the session that began last.
    pub limit: Limit,
    /// How many permits are taken, of [`Limit::jobs`].
    pub taken: u64,
    /// When the next job may start, if so many have started that its rate allows none now.
    pub next_start: Option<Millis>,
}

impl LimitRow {
    /// Whether nothing more may be started now.
    pub fn is_used_up(&self) -> bool {
        self.next_start.is_some() || self.limit.jobs().is_some_and(|jobs| self.taken >= u64::from(jobs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_spread_over_the_shards_by_their_names() {
        let shard = |n: u32| Limited::Type(format!("type {n}")).shard(12);
        let shards: std::collections::BTreeSet<u16> = (0..200).map(shard).collect();
        assert_eq!(shards, (0..12).collect());
        assert_eq!(Limited::Queue("mail".into()).shard(1), 0);
    }
}
