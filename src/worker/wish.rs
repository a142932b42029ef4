//! What a worker wants of the store: enough to keep its slots busy, and about one target time of work ready for them. Pure: what the worker
//! has in hand goes in.

use std::time::Duration;

use super::held::Held;
use crate::slice::{CHUNK_JOBS, TARGET_TIME, take};
use crate::store::Take;

/// The most leases that one claim asks for.
pub const MAX_LEASES: u32 = 16;
/// The most jobs that those hold.
const MAX_JOBS: u32 = MAX_LEASES * CHUNK_JOBS as u32;

/// What a worker wants.
#[derive(Debug, PartialEq)]
pub enum Wish {
    /// To claim.
    Claim(Wanted),
    /// It has enough for this moment: what it waits for, it goes on waiting for.
    NoMore,
    /// Nothing could start here for a while.
    Nothing,
}

/// How much it claims.
#[derive(Debug, PartialEq)]
pub struct Wanted {
    /// Of each type.
    pub takes: Vec<Take>,
    /// How many jobs could start at once.
    pub free: u32,
    /// How many jobs of what is limited.
    pub limited: u32,
}

/// How a worker stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// How many jobs it runs at once, and how many more its slots could run now.
    pub slots: u32,
    pub idle: u32,
    /// About how many jobs of those that it runs make progress at once.
    pub parallel: f64,
    /// Whether a job has ended a short while ago.
    pub is_quick: bool,
    /// Whether it is to hold nothing before it claims again.
    pub drains: bool,
    /// The slices in its hands.
    pub held: Vec<InHand>,
    /// The types that it knows, and how long a job of each takes, if some have ended.
    pub types: Vec<(String, Option<Duration>)>,
}

/// A slice in a worker's hands.
#[derive(Clone, Debug)]
pub struct InHand {
    pub job_type: String,
    pub unstarted: usize,
    pub is_limited: bool,
    pub is_suspect: bool,
}

impl InHand {
    pub fn of(held: &Held) -> Self {
        Self {
            job_type: held.slice.job_type.clone(),
            unstarted: held.unstarted(),
            is_limited: held.is_limited(),
            is_suspect: held.slice.suspect,
        }
    }
}

impl Standing {
    /// What it wants now.
    pub fn wish(&self) -> Wish {
        if self.held.iter().any(|slice| slice.is_suspect) {
            // It may kill its worker: nothing is to die with it.
            return Wish::Nothing;
        }
        if self.drains && !self.held.is_empty() {
            // Wants nothing, but asks whether the suspect slice still waits: another worker may have come by it first.
            let none_of = |(job_type, _): &(String, _)| Take { job_type: job_type.clone(), jobs: 0, budget: 0 };
            return Wish::Claim(Wanted { takes: self.types.iter().map(none_of).collect(), free: 0, limited: 0 });
        }
        let (waiting, free) = (self.waiting(), self.free());
        let queued: f64 = self.held.iter().map(|slice| slice.unstarted as f64 * self.seconds(&slice.job_type)).sum();
        let target = TARGET_TIME.as_secs_f64() * self.parallel;
        if free == 0 {
            // Work is fetched ahead only while the slots turn it over: behind slow jobs it would just wait here instead of elsewhere.
            if !self.is_quick {
                return Wish::Nothing;
            }
            if queued >= target / 2.0 || self.held.len() >= (4 * self.slots + MAX_LEASES) as usize {
                return Wish::NoMore;
            }
        }
        let wanted = self.wanted(free, waiting, (target - queued).max(0.0));
        if wanted.takes.is_empty() { Wish::Nothing } else { Wish::Claim(wanted) }
    }

    fn waiting(&self) -> usize {
        self.held.iter().map(|slice| slice.unstarted).sum()
    }

    /// How many slots have no job.
    pub fn free(&self) -> u32 {
        self.idle.saturating_sub(u32::try_from(self.waiting()).unwrap_or(u32::MAX))
    }

    /// For how many slices there is room that others have cut for as many slots, and that come by a broker.
    pub fn room(&self) -> u32 {
        match self.wish() {
            Wish::Claim(wanted) if !self.drains => wanted.free.max(self.slots.div_ceil(2)),
            _ => 0,
        }
    }

    /// As much as there is room for: jobs that could start at once, and seconds of work that may wait.
    fn wanted(&self, free: u32, waiting: usize, room: f64) -> Wanted {
        let free = free.min(MAX_JOBS);
        let is_ready =
            |which: &dyn Fn(&InHand) -> bool| self.held.iter().any(|slice| slice.unstarted > 0 && which(slice));
        // Beside a large step of quick jobs something is always ready for the next slot, and no slot is ever free: of each type, and of what
        // is limited, one job may wait with the rest, else its turn would not come before that step has ended.
        let fits = |slice: &InHand| self.mean(&slice.job_type).is_some_and(|mean| mean.as_secs_f64() <= room);
        let fetches_ahead = waiting > 0 || self.held.iter().any(fits);
        let limited = free.max(u32::from(fetches_ahead && !is_ready(&|slice| slice.is_limited)));
        let take_of = |(job_type, mean): &(String, Option<Duration>)| {
            let is_next = !is_ready(&|slice| slice.job_type == *job_type);
            let (jobs, budget) = match mean {
                // Nobody knows how long it takes, but it must not wait until all that is known has run out.
                None => (free.max(u32::from(is_next)), free.max(u32::from(is_next))),
                Some(mean) => {
                    let fit = (room / mean.as_secs_f64().max(1e-9)) as u32;
                    let least = free.max(u32::from(fetches_ahead && is_next));
                    (take(Some(*mean), self.slots as usize) as u32, fit.clamp(least, MAX_JOBS))
                }
            };
            (budget > 0).then(|| Take { job_type: job_type.clone(), jobs, budget })
        };
        Wanted { takes: self.types.iter().filter_map(take_of).collect(), free, limited }
    }

    fn mean(&self, job_type: &str) -> Option<Duration> {
        self.types.iter().find(|(name, _)| name == job_type).and_then(|(_, mean)| *mean)
    }

    /// How long a job takes, or may.
    fn seconds(&self, job_type: &str) -> f64 {
        self.mean(job_type).unwrap_or(TARGET_TIME).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(1);
    const SLOW: Duration = Duration::from_millis(300);

    /// Eight slots, all of them busy with jobs that take so long; some more of those wait.
    fn busy(mean: Duration, unstarted: usize) -> Standing {
        Standing {
            slots: 8,
            idle: 0,
            parallel: 8.0,
            is_quick: true,
            drains: false,
            held: vec![in_hand("Row", unstarted)],
            types: vec![
                ("Row".into(), Some(mean)),
                ("Mail".into(), Some(Duration::from_secs(2))),
                ("New".into(), None),
            ],
        }
    }

    fn in_hand(job_type: &str, unstarted: usize) -> InHand {
        InHand { job_type: job_type.into(), unstarted, is_limited: false, is_suspect: false }
    }

    fn work(standing: &Standing) -> Wanted {
        match standing.wish() {
            Wish::Claim(wanted) => wanted,
            other => panic!("{other:?}"),
        }
    }

    fn budget(wanted: &Wanted, job_type: &str) -> u32 {
        wanted.takes.iter().find(|take| take.job_type == job_type).map_or(0, |take| take.budget)
    }

    #[test]
    fn idle_slots_are_filled_with_whatever_there_is() {
        let wanted = work(&Standing { idle: 8, held: Vec::new(), ..busy(QUICK, 0) });
        assert_eq!((wanted.free, wanted.limited), (8, 8));
        assert_eq!(["Row", "Mail", "New"].map(|of| budget(&wanted, of)), [400, 8, 8]);
    }

    #[test]
    fn beside_quick_jobs_one_of_each_type_and_one_that_is_limited_may_wait() {
        let wanted = work(&busy(QUICK, 100));
        assert_eq!((wanted.free, wanted.limited), (0, 1));
        assert_eq!(["Row", "Mail", "New"].map(|of| budget(&wanted, of)), [300, 1, 1]);
    }

    #[test]
    fn a_second_one_does_not_come_before_the_first_has_started() {
        let mut standing = busy(QUICK, 100);
        standing.held.push(InHand { is_limited: true, ..in_hand("New", 1) });
        let wanted = work(&standing);
        assert_eq!((wanted.limited, budget(&wanted, "New")), (0, 0));
        standing.held[1].unstarted = 0;
        assert_eq!((work(&standing).limited, budget(&work(&standing), "New")), (1, 1));
    }

    #[test]
    fn beside_jobs_of_which_one_is_fetched_ahead_at_a_time_one_of_each_kind_may_wait_too() {
        let wanted = work(&busy(SLOW, 0));
        assert_eq!((wanted.free, wanted.limited), (0, 1));
        assert_eq!(["Row", "Mail"].map(|of| budget(&wanted, of)), [1, 1]);
    }

    #[test]
    fn with_enough_work_ready_it_wants_no_more_and_behind_slow_jobs_nothing() {
        assert_eq!(busy(QUICK, 200).wish(), Wish::NoMore);
        assert_eq!(Standing { is_quick: false, ..busy(Duration::from_secs(5), 0) }.wish(), Wish::Nothing);
    }

    #[test]
    fn nothing_comes_beside_a_suspect_slice_and_who_drains_asks_only_whether_it_should_still() {
        let mut suspect = Standing { idle: 7, ..busy(QUICK, 0) };
        suspect.held[0].is_suspect = true;
        assert_eq!(suspect.wish(), Wish::Nothing);
        let draining = work(&Standing { drains: true, idle: 7, ..busy(QUICK, 0) });
        assert_eq!((draining.takes.len(), draining.free, draining.limited), (3, 0, 0));
        assert!(draining.takes.iter().all(|take| take.budget == 0));
        assert_eq!(work(&Standing { drains: true, idle: 8, held: Vec::new(), ..busy(QUICK, 0) }).free, 8);
    }

    #[test]
    fn brokers_bring_a_slice_a_free_slot_some_ahead_of_quick_jobs_and_none_beside_a_suspect() {
        assert_eq!(Standing { idle: 8, held: Vec::new(), ..busy(QUICK, 0) }.room(), 8);
        assert_eq!((busy(QUICK, 100).room(), busy(QUICK, 200).room()), (4, 0));
        assert_eq!(Standing { drains: true, idle: 8, held: Vec::new(), ..busy(QUICK, 0) }.room(), 0);
        let mut suspect = Standing { idle: 7, ..busy(QUICK, 0) };
        suspect.held[0].is_suspect = true;
        assert_eq!(suspect.room(), 0);
    }

    #[test]
    fn more_slots_than_a_claim_can_fill_are_no_harm() {
        let wanted = work(&Standing { slots: 50_000, idle: 50_000, held: Vec::new(), ..busy(QUICK, 0) });
        assert_eq!((wanted.free, budget(&wanted, "Mail")), (MAX_JOBS, MAX_JOBS));
    }
}
