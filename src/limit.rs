//! Limits: how many jobs may run at once, and how many may start in a time. The counting is pure; stores keep what it needs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// Into how many parts a period is cut for counting: starts of one part are forgotten together, when the last of them may be.
const PARTS: Millis = 32;

/// How many jobs may run at once, and how many may start in a time.
///
/// ```
/// use gusher::Limit;
/// use std::time::Duration;
///
/// const ONE_AT_A_TIME: Limit = Limit::at_once(1);
/// const GENTLE: Limit = Limit::at_once(20).and_rate(100, Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_once: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
}

/// So many starts in any period of that length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// The most starts.
    pub starts: u32,
    /// The length of the period, in milliseconds.
    pub period: Millis,
}

impl Limit {
    /// No limit.
    pub const NONE: Limit = Limit { at_once: None, rate: None };

    /// So many jobs at once.
    ///
    /// # Panics
    /// If `jobs` is 0; in a constant that is a compile error. To let nothing run, pause.
    pub const fn at_once(jobs: u32) -> Self {
        assert!(jobs > 0, "a limit lets at least one job run; `pause` lets none");
        Self { at_once: Some(jobs), rate: None }
    }

    /// So many starts in any period of that length. A retry is a start.
    ///
    /// # Panics
    /// If `starts` is 0 or the period shorter than a millisecond; in a constant that is a compile error.
    pub const fn rate(starts: u32, period: Duration) -> Self {
        Self::NONE.and_rate(starts, period)
    }

    /// The same, with a limit of starts in any period of that length besides.
    ///
    /// # Panics
    /// Like [`rate`](Self::rate).
    pub const fn and_rate(self, starts: u32, period: Duration) -> Self {
        assert!(starts > 0, "a rate lets at least one job start; `pause` lets none");
        assert!(period.as_millis() > 0, "a rate counts in periods of a millisecond or more");
        let period = period.as_millis();
        let longest = Millis::MAX as u128 / 4;
        let period = if period < longest { period as Millis } else { longest as Millis };
        Self { at_once: self.at_once, rate: Some(Rate { starts, period }) }
    }

    /// From what a store keeps of it.
    #[cfg(feature = "redis")]
    pub(crate) const fn of_parts(at_once: Option<u32>, rate: Option<Rate>) -> Self {
        Self { at_once, rate }
    }

    /// How many jobs may run at once, if that is limited.
    pub const fn jobs(&self) -> Option<u32> {
        self.at_once
    }

    /// How many may start in a time, if that is limited.
    pub const fn starts(&self) -> Option<Rate> {
        self.rate
    }

    /// Whether it limits nothing.
    pub const fn is_none(&self) -> bool {
        self.at_once.is_none() && self.rate.is_none()
    }
}

/// The starts that still count towards a rate: until when, and how many; oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts(Vec<(Millis, u32)>);

// Without a store nobody counts, and not every store asks for all of it.
#[allow(dead_code)]
impl Starts {
    /// Counts `count` starts at this moment.
    pub fn note(&mut self, rate: Rate, now: Millis, count: u32) {
        self.forget(rate, now);
        let part = part_of(rate);
        // The last moment of its part is the one that has to be over for a period.
        let until = (now.div_euclid(part) + 1).saturating_mul(part).saturating_add(rate.period).saturating_sub(1);
        match self.0.last_mut() {
            Some((last, counted)) if *last == until => *counted = counted.saturating_add(count),
            _ => self.0.push((until, count)),
        }
    }

    /// The first moment, from `now` on, at which one more may start while `reserved` others are about to; `None` if only those can change
    /// that.
    pub fn room_at(&mut self, rate: Rate, reserved: u32, now: Millis) -> Option<Millis> {
        self.forget(rate, now);
        let free = rate.starts.checked_sub(reserved).filter(|free| *free > 0)?;
        let mut counted = self.0.iter().fold(0_u32, |all, (_, count)| all.saturating_add(*count));
        let mut at = now;
        for (until, count) in &self.0 {
            if counted < free {
                break;
            }
            counted = counted.saturating_sub(*count);
            at = *until;
        }
        Some(at)
    }

    /// How many more may start now while `reserved` others are about to.
    pub fn free(&mut self, rate: Rate, reserved: u32, now: Millis) -> u32 {
        self.forget(rate, now);
        let counted = self.0.iter().fold(reserved, |all, (_, count)| all.saturating_add(*count));
        rate.starts.saturating_sub(counted)
    }

    /// When the last of them is forgotten; `None` if none counts any more.
    pub fn last(&mut self, rate: Rate, now: Millis) -> Option<Millis> {
        self.forget(rate, now);
        self.0.last().map(|(until, _)| *until)
    }

    fn forget(&mut self, rate: Rate, now: Millis) {
        // What would count for longer than a period from now on was noted before the clock jumped back.
        let longest = now.saturating_add(rate.period.saturating_add(part_of(rate)));
        self.0.iter_mut().for_each(|(until, _)| *until = (*until).min(longest));
        self.0.retain(|(until, _)| *until > now);
    }
}

fn part_of(rate: Rate) -> Millis {
    (rate.period / PARTS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_period_of_that_length_has_more_starts_whenever_it_begins() {
        let mut dice = 7_u64;
        let mut next = |below: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % below
        };
        let mut reached = 0;
        for _ in 0..200 {
            let rate = Rate { starts: 1 + next(20) as u32, period: 1 + next(5_000) as Millis };
            let (mut starts, mut started, mut now) = (Starts::default(), Vec::new(), 0);
            while started.len() < 300 {
                now += next(2 + rate.period as u64 / u64::from(rate.starts)) as Millis;
                if starts.room_at(rate, 0, now) == Some(now) {
                    starts.note(rate, now, 1);
                    started.push(now);
                }
            }
            let in_period =
                |from: &Millis| started.iter().filter(|at| (*from..from + rate.period).contains(at)).count();
            let most = started.iter().map(in_period).max().unwrap_or(0);
            assert!(most <= rate.starts as usize, "{most} of {rate:?}");
            reached += usize::from(most == rate.starts as usize);
        }
        assert!(reached > 150, "only {reached} of 200 rates were ever reached");
    }

    #[test]
    fn room_comes_when_the_oldest_starts_are_a_period_old() {
        let rate = Rate { starts: 3, period: 3_200 };
        let mut starts = Starts::default();
        starts.note(rate, 0, 2);
        assert_eq!(starts.room_at(rate, 0, 50), Some(50));
        assert_eq!(starts.room_at(rate, 1, 50), Some(99 + 3_200));
        assert_eq!(starts.room_at(rate, 3, 50), None);
        starts.note(rate, 1_000, 1);
        assert_eq!(starts.room_at(rate, 0, 1_000), Some(99 + 3_200));
        assert_eq!(starts.room_at(rate, 0, 99 + 3_200), Some(99 + 3_200));
        assert_eq!(starts.last(rate, 1_000), Some(1_099 + 3_200));
    }

    #[test]
    fn a_clock_that_jumps_back_holds_nothing_up_for_longer_than_a_period() {
        let rate = Rate { starts: 1, period: 3_200 };
        let mut starts = Starts::default();
        starts.note(rate, 1_000_000, 1);
        assert_eq!(starts.room_at(rate, 0, 0), Some(3_300));
    }
}
