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
    /// Jobs (their chunk, their place in it) whose workers have died and that a new start lets wait for their turn, until their attempt ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovered: Vec<(i64, usize, Recovered)>,
}

/// What a job takes with it that goes back to its line by way of its turn, since its next start counts: what its entry would have had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recovered {
    /// How often its worker died.
    pub recoveries: i64,
    /// How often it died with nothing beside it.
    pub alone: i64,
    /// The first of the jobs that it came back with: those, and no others, may be one entry again.
    pub with: usize,
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
        self.admitted = self.admitted.saturating_add(jobs);
        if self.limit.starts().is_some() {
            self.unstarted = self.unstarted.saturating_add(jobs);
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

    /// What a job is to take with it into its line; nothing if its worker has not died.
    pub fn recovered(&self, chunk: i64, at: usize) -> Recovered {
        let found = self.recovered.iter().find(|(of, job, _)| (*of, *job) == (chunk, at));
        found.map(|(_, _, recovered)| *recovered).unwrap_or_default()
    }

    /// Notes what a job is to take with it into its line.
    pub fn put_recovered(&mut self, chunk: i64, at: usize, recovered: Recovered) {
        self.forget_recovered(chunk, at);
        self.recovered.push((chunk, at, recovered));
    }

    /// A job begins from nothing: it has settled, or its attempt has ended.
    pub fn forget_recovered(&mut self, chunk: i64, at: usize) {
        self.recovered.retain(|(of, job, _)| (*of, *job) != (chunk, at));
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
