//! When a failed attempt is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Millis, millis};
use crate::planted::planted;
use crate::state::MAX_ATTEMPTS;

/// How often a job is tried, and how long it waits in between.
///
/// ```
/// use gusher::Retry;
/// use std::time::Duration;
///
/// const GENTLE: Retry = Retry::exponential(Duration::from_secs(5)).attempts(8).at_most(Duration::from_secs(600));
/// const NEVER: Retry = Retry::never();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    attempts: u8,
    first: Duration,
    factor: u32,
    at_most: Duration,
}

impl Retry {
    /// Five attempts, 1 s, 4 s, 16 s and 64 s apart (each ± 20 %).
    pub const DEFAULT: Retry = Retry::exponential(Duration::from_secs(1));

    /// The first retry after `first`, each further one after four times as long, an hour at most; five attempts.
    pub const fn exponential(first: Duration) -> Self {
        Self { attempts: 5, first, factor: 4, at_most: Duration::from_secs(3600) }
    }

    /// The same wait before each retry; five attempts.
    pub const fn every(wait: Duration) -> Self {
        Self { attempts: 5, first: wait, factor: 1, at_most: wait }
    }

    /// One attempt only.
    pub const fn never() -> Self {
        Self { attempts: 1, first: Duration::ZERO, factor: 1, at_most: Duration::ZERO }
    }

    /// How many attempts a job has, the first one included: 1 to 30.
    ///
    /// # Panics
    /// If `attempts` is outside of 1 to 30; in a constant that is a compile error.
    pub const fn attempts(mut self, attempts: u8) -> Self {
        assert!(attempts >= 1 && attempts <= MAX_ATTEMPTS, "a job has 1 to 30 attempts");
        self.attempts = attempts;
        self
    }

    /// By how much the wait grows from one retry to the next.
    pub const fn factor(mut self, factor: u32) -> Self {
        self.factor = factor;
        self
    }

    /// The longest wait.
    pub const fn at_most(mut self, wait: Duration) -> Self {
        self.at_most = wait;
        self
    }

    /// How long to wait after the failure of attempt number `attempt` (the first is 1), or `None` if it was the last.
    /// `dice` (0 to 1) spreads the waits by ± 20 %, so that what failed together does not come back together.
    pub fn wait_after(&self, attempt: u8, dice: f64) -> Option<Duration> {
        // A rule that comes from a store may hold any number; no byte counts further than that.
        let attempts = self.attempts.saturating_add(u8::from(planted!("a job gets one attempt too many")));
        if attempt >= attempts.min(MAX_ATTEMPTS) {
            return None;
        }
        let grown = self.first.as_secs_f64() * f64::from(self.factor).powi(i32::from(attempt) - 1);
        let spread = 0.8 + 0.4 * dice.clamp(0.0, 1.0);
        let wait = grown.min(self.at_most.as_secs_f64()) * spread;
        Some(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The time at which a job that failed at `now` and waits for `wait` is due: rounded up to a multiple of an eighth of the wait (as
/// a power of two), so that the failed jobs of a chunk share few timers.
pub fn due_time(now: Millis, wait: Duration) -> Millis {
    let wait = millis(wait).max(0);
    let eighth = (wait / 8).max(1);
    let grain = 1 << (63 - (eighth as u64).leading_zeros()).min(40);
    let due = now.saturating_add(wait);
    due.div_euclid(grain).saturating_add(i64::from(due.rem_euclid(grain) != 0)).saturating_mul(grain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_grow_up_to_their_limit_and_end_with_the_last_attempt() {
        let retry = Retry::exponential(Duration::from_secs(1)).attempts(5).at_most(Duration::from_secs(30));
        let waits: Vec<_> = (1..=5).map(|attempt| retry.wait_after(attempt, 0.5).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(4), Some(16), Some(30), None]);
        assert_eq!(Retry::never().wait_after(1, 0.5), None);
    }

    #[test]
    fn the_longest_wait_is_no_panic() {
        assert_eq!(Retry::every(Duration::MAX).wait_after(1, 1.0), Some(Duration::MAX));
    }

    #[test]
    fn a_stored_rule_does_not_go_beyond_what_a_byte_counts() {
        let rule = Retry { attempts: u8::MAX, ..Retry::DEFAULT };
        assert!(rule.wait_after(MAX_ATTEMPTS - 1, 0.5).is_some());
        assert_eq!(rule.wait_after(MAX_ATTEMPTS, 0.5), None);
    }

    proptest! {
        #[test]
        fn a_retry_is_never_early_and_at_most_an_eighth_late(now in 0..4_000_000_000_000i64, wait in 0..100_000_000u64) {
            let due = due_time(now, Duration::from_millis(wait));
            let exact = now + wait as i64;
            prop_assert!(due >= exact);
            prop_assert!(due - exact <= (wait as i64 / 8).max(1));
        }
    }
}
