//! The row of a key that limits lone jobs: how those jobs stand. Pure; `limited.rs` keeps it.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::limit::{Limit, Starts};

/// How the lone jobs of one key stand, whose number is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// The limit, as whoever enqueued last knew it.
    pub limit: Limit,
    /// Jobs that have been admitted: they stand in a line or under a lease.
    pub admitted: u32,
    /// Of those, jobs that no worker has been given yet; counted only if starts are limited.
    pub unstarted: u32,
    /// Jobs that wait for their turn.
    pub waiting: u32,
    /// Jobs that the store keeps, those that have settled included.
    pub jobs: u32,
    /// The turn of the next one that comes.
    pub next: u64,
    /// What counts towards the rate.
    pub starts: Starts,
}

impl KeyRow {
    /// How many more may be admitted now.
    pub fn room(&mut self, now: Millis) -> u32 {
        let at_once = self.limit.jobs().map_or(u32::MAX, |most| most.saturating_sub(self.admitted));
        let started = self.limit.starts().map_or(u32::MAX, |rate| self.starts.free(rate, self.unstarted, now));
        at_once.min(started)
    }

    /// Admits so many.
    pub fn admit(&mut self, jobs: u32) {
        self.admitted += jobs;
        if self.limit.starts().is_some() {
            self.unstarted += jobs;
        }
    }

    /// So many that had been admitted are no longer: they have settled, or go on later. `started`: a worker had been given them.
    pub fn leave(&mut self, jobs: u32, started: bool) {
        self.admitted = self.admitted.saturating_sub(jobs);
        if !started {
            self.unstarted = self.unstarted.saturating_sub(jobs);
        }
    }

    /// A worker has been given so many.
    pub fn start(&mut self, jobs: u32, now: Millis) {
        self.unstarted = self.unstarted.saturating_sub(jobs);
        if let Some(rate) = self.limit.starts() {
            self.starts.note(rate, now, jobs);
        }
    }

    /// When a tick is to look at it again, if no event does so before.
    pub fn due(&mut self, now: Millis) -> Option<Millis> {
        let rate = self.limit.starts()?;
        if self.jobs == 0 {
            return self.starts.last(rate, now);
        }
        let may = self.limit.jobs().is_none_or(|most| self.admitted < most);
        if may && self.waiting > 0 { self.starts.room_at(rate, self.unstarted, now) } else { None }
    }

    /// Whether nothing of it need be remembered.
    pub fn is_over(&mut self, now: Millis) -> bool {
        self.jobs == 0 && self.limit.starts().is_none_or(|rate| self.starts.last(rate, now).is_none())
    }
}
