//! The states of jobs, steps and workflows, and what one settled step means for the next.
//!
//! ```text
//! job       open ─┬─► succeeded | failed | skipped | cancelled | skipped because of its predecessor
//!                 ├─► retrying ─► open
//!                 └─► deferred ─► open, or settled: by a signal or a time
//! step      waiting ─► running ─► succeeded | failed | skipped | cancelled      (a repair: back to running)
//! workflow  building ─► pending ─► running ⇄ paused ─► succeeded | failed
//!                                    └─► cancelling ─► cancelled
//!           standing: a lane, which takes lone jobs and never ends
//! ```

use serde::{Deserialize, Serialize};

use crate::planted::planted;

/// The highest number of attempts that a job's byte can count.
pub const MAX_ATTEMPTS: u8 = 30;

/// Where a job stands. The low three bits of its byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum JobState {
    /// Waiting, ready or leased.
    Open = 0,
    /// Failed with attempts left; a timer brings it back.
    Retrying = 1,
    /// Waits for a child, a signal or a time.
    Deferred = 2,
    /// Done.
    Succeeded = 3,
    /// Failed for good.
    Failed = 4,
    /// Never ran, by an edge or a person.
    Skipped = 5,
    /// Stopped before its end, or never started, because of a cancel.
    Cancelled = 6,
    /// Skipped because its predecessor in a chain was not successful; comes back when that is repaired.
    SkippedByPredecessor = 7,
}

impl JobState {
    /// Whether it is final: succeeded, failed, skipped or cancelled.
    pub fn is_settled(self) -> bool {
        self as u8 >= JobState::Succeeded as u8
    }

    /// The state that a job's byte holds.
    pub fn of(byte: u8) -> Self {
        match byte & 0b111 {
            0 => JobState::Open,
            1 => JobState::Retrying,
            2 => JobState::Deferred,
            3 => JobState::Succeeded,
            4 => JobState::Failed,
            5 => JobState::Skipped,
            6 => JobState::Cancelled,
            _ => JobState::SkippedByPredecessor,
        }
    }

    /// The word that people and JSON see.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Open => "open",
            JobState::Retrying => "retrying",
            JobState::Deferred => "deferred",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Skipped | JobState::SkippedByPredecessor => "skipped",
            JobState::Cancelled => "cancelled",
        }
    }
}

/// The attempts that a job's byte has counted.
pub fn attempts(byte: u8) -> u8 {
    byte >> 3
}

/// A job's byte.
pub fn job_byte(state: JobState, attempts: u8) -> u8 {
    debug_assert!(attempts <= 31);
    state as u8 | attempts << 3
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum StepState {
    /// Not released: something upstream has not settled as its edges ask.
    Waiting = 0,
    /// Released and not settled.
    Running = 1,
    /// Settled; at most the tolerated number of jobs failed.
    Succeeded = 2,
    /// Settled; more jobs failed than it tolerates.
    Failed = 3,
    /// Settled without running.
    Skipped = 4,
    /// Settled; at least one of its jobs was cancelled.
    Cancelled = 5,
}

/// Where a workflow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum WorkflowState {
    /// Being created.
    Building = 0,
    /// Created; no job of it has been claimed.
    Pending = 1,
    /// At least one job of it has been claimed.
    Running = 2,
    /// Nothing of it is handed out until somebody resumes it.
    Paused = 3,
    /// Nothing of it is handed out any more; what runs is coming to its end.
    Cancelling = 4,
    /// Every step settled, none as failed.
    Succeeded = 5,
    /// Nothing in it can move, and something failed or still waits.
    Failed = 6,
    /// Cancelled, and everything has come to its end.
    Cancelled = 7,
    /// Being deleted.
    Deleting = 8,
    /// A lane: it takes lone jobs and never ends.
    Standing = 9,
}

/// Gives a `repr(u8)` enum its number, its word and their inverses.
macro_rules! words {
    ($type:ident, $what:literal, $($variant:ident => $word:literal),+ $(,)?) => {
        impl $type {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$type] = &[$($type::$variant),+];

            /// The word that people and JSON see.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }

            /// The inverse of `as u8`; `None` for a number that no version of this store wrote.
            pub fn from_u8(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| *state as u8 == number)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::Error;

            fn from_str(text: &str) -> crate::Result<Self> {
                Self::ALL.iter().copied().find(|state| state.as_str() == text).ok_or_else(|| {
                    let words: Vec<&str> = Self::ALL.iter().map(|state| state.as_str()).collect();
                    crate::Error::usage(format!("`{text}` is no {}; there are: {}", $what, words.join(", ")))
                })
            }
        }
    };
}

words!(StepState, "state of a step", Waiting => "waiting", Running => "running", Succeeded => "succeeded",
    Failed => "failed", Skipped => "skipped", Cancelled => "cancelled");
words!(WorkflowState, "state of a workflow", Building => "building", Pending => "pending", Running => "running",
    Paused => "paused", Cancelling => "cancelling", Succeeded => "succeeded", Failed => "failed",
    Cancelled => "cancelled", Deleting => "deleting", Standing => "standing");

impl StepState {
    /// Whether it is final, unless a repair takes it back.
    pub fn is_settled(self) -> bool {
        self as u8 >= StepState::Succeeded as u8
    }
}

impl WorkflowState {
    /// Whether it has come to its end, unless a repair takes it back.
    pub fn is_finished(self) -> bool {
        matches!(self, WorkflowState::Succeeded | WorkflowState::Failed | WorkflowState::Cancelled)
    }
}

/// What an edge asks of its upstream step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum EdgeKind {
    /// Run once it has succeeded.
    After = 0,
    /// Run once it has settled, whatever became of it (but not when it was cancelled).
    AfterSettled = 1,
    /// Run only if it failed.
    AfterFailure = 2,
    /// Run once it has settled, even when the workflow is cancelled.
    Always = 3,
    /// A source's edge to the step that it feeds: `After`, and nothing settles before it.
    Feeds = 4,
    /// Run once it has succeeded, and only then: not if it was skipped.
    When = 5,
    /// Run only if it was skipped when its turn had come: a condition that does not hold, a signal that did not come.
    Unless = 6,
    /// From the first step of a batch to a step that grows: that settles once the batch has come to its end.
    Grows = 7,
    /// From the first step of a batch to a callback that runs as soon as the first job of the batch has failed for good.
    OnDeath = 8,
    /// From a step to one that goes on with each of its jobs as soon as that has succeeded: `After`, and nothing settles before it.
    Chains = 9,
}

words!(EdgeKind, "kind of edge", After => "after", AfterSettled => "after_settled", AfterFailure => "after_failure",
    Always => "always", Feeds => "feeds", When => "when", Unless => "unless", Grows => "grows", OnDeath => "on_death",
    Chains => "chains");

/// What one settled upstream step means for a step behind it. Of several edges the strongest decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Decision {
    /// As far as this edge goes, the step may run.
    Release = 1,
    /// The step is not needed.
    Skip = 2,
    /// The step waits until somebody repairs what failed.
    Wait = 3,
    /// The step is cancelled too.
    Cancel = 4,
}

words!(Decision, "decision", Release => "release", Skip => "skip", Wait => "wait", Cancel => "cancel");

impl EdgeKind {
    /// What follows from an upstream step that settled as `upstream`; `None` while it has not. One that was `passed_over` has been skipped, or
    /// cancelled, without having had its turn.
    pub fn decide(self, upstream: StepState, passed_over: bool) -> Option<Decision> {
        use {Decision as D, EdgeKind as E, StepState as S};
        Some(match (upstream, self) {
            (S::Waiting | S::Running, _) => return None,
            (S::Failed, E::Feeds) if planted!("a failed source releases what it feeds") => D::Release,
            (S::Succeeded, E::AfterFailure) if planted!("a success releases what waits for a failure") => D::Release,
            (S::Cancelled, E::Always) if planted!("an always step is cancelled with the rest") => D::Cancel,
            (S::Cancelled, E::Always) => D::Release,
            (S::Cancelled, E::After) if planted!("what comes after a cancelled step runs") => D::Release,
            (S::Cancelled, _) => D::Cancel,
            // A death releases it before: this is for a batch that has had none.
            (_, E::OnDeath) => D::Skip,
            (_, E::Grows) => D::Release,
            (S::Succeeded, E::AfterFailure | E::Unless) => D::Skip,
            (S::Succeeded, _) => D::Release,
            (S::Skipped, E::When) if planted!("a condition that does not hold releases what asks for it") => D::Release,
            (S::Skipped, E::AfterFailure | E::Feeds | E::When | E::Chains) => D::Skip,
            (S::Skipped, E::Unless)
                if passed_over && !planted!("what was passed over counts as a condition that does not hold") =>
            {
                D::Skip
            }
            (S::Skipped, _) => D::Release,
            (S::Failed, E::When | E::Unless) if planted!("a failed condition counts as one that does not hold") => {
                D::Skip
            }
            (S::Failed, E::After) if planted!("a step does not wait for what has failed") => D::Release,
            (S::Failed, E::After | E::Feeds | E::When | E::Unless | E::Chains) => D::Wait,
            (S::Failed, _) => D::Release,
        })
    }
}

impl EdgeKind {
    /// Whether the step behind it begins before the step in front of it has settled, and settles only then.
    pub fn is_held(self) -> bool {
        matches!(self, EdgeKind::Feeds | EdgeKind::Grows | EdgeKind::Chains)
    }
}

/// Whether jobs may still be added to a batch from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum BatchState {
    /// The client that made it holds it open: it does not settle, whatever has become of its jobs.
    Open = 1,
    /// It settles once all of its jobs have.
    Closed = 2,
    /// The client that held it open ended without closing it. It settles once all the jobs that it has have, and has not succeeded.
    Abandoned = 3,
}

words!(BatchState, "state of a batch", Open => "open", Closed => "closed", Abandoned => "abandoned");

/// How many failed jobs a step may have and still count as succeeded. Default: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerate {
    /// No job may fail.
    #[default]
    None,
    /// Up to this many jobs may fail.
    Jobs(u64),
    /// Up to this share (0 to 1) of all jobs of the step may fail.
    Fraction(f64),
}

impl Tolerate {
    /// How many of `total` jobs may fail.
    pub fn allowed(self, total: u64) -> u64 {
        match self {
            Tolerate::None => 0,
            Tolerate::Jobs(jobs) => jobs,
            // The product of two exact numbers may fall a hair below a whole one: 0.29 × 100 is 28.999…
            Tolerate::Fraction(fraction) => (fraction * total as f64 + 1e-9).floor() as u64,
        }
    }
}

impl From<u64> for Tolerate {
    fn from(jobs: u64) -> Self {
        if jobs == 0 { Tolerate::None } else { Tolerate::Jobs(jobs) }
    }
}

/// What becomes of a step as soon as more of its jobs have failed for good than it tolerates. Default: it runs on to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FailurePolicy {
    /// All of its jobs run; then it has failed.
    #[default]
    RunOn = 0,
    /// The rest of it is cancelled; then it has failed.
    FailFast = 1,
    /// Nothing more of it is handed out until somebody resumes it, or retries what failed.
    Pause = 2,
}

words!(FailurePolicy, "failure policy", RunOn => "run_on", FailFast => "fail_fast", Pause => "pause");

impl FailurePolicy {
    /// Whether it is the default: then nobody need be told.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::RunOn
    }

    /// The word by which a workflow says it, unless it is the default.
    pub(crate) fn said(self) -> Option<&'static str> {
        match self {
            Self::RunOn => None,
            Self::FailFast => Some("fail_fast"),
            Self::Pause => Some("or_pause"),
        }
    }
}

/// The jobs of a step or workflow by where they stand. What is in none of these is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All jobs.
    pub total: u64,
    /// Jobs that succeeded.
    pub succeeded: u64,
    /// Jobs that failed for good.
    pub failed: u64,
    /// Jobs that were skipped.
    pub skipped: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Jobs that wait for their next attempt.
    pub retrying: u64,
    /// Jobs that wait for a time, a child or a signal.
    #[serde(default)]
    pub deferred: u64,
}

impl Counts {
    /// Jobs whose state is final.
    pub fn settled(&self) -> u64 {
        self.succeeded + self.failed + self.skipped + self.cancelled
    }

    /// Jobs whose state is not final.
    pub fn unsettled(&self) -> u64 {
        self.total.saturating_sub(self.settled())
    }

    /// The counter that a job in `state` is counted by, if any.
    pub fn of(&mut self, state: JobState) -> Option<&mut u64> {
        Some(match state {
            JobState::Open => return None,
            JobState::Retrying => &mut self.retrying,
            JobState::Deferred => &mut self.deferred,
            JobState::Succeeded => &mut self.succeeded,
            JobState::Failed => &mut self.failed,
            JobState::Skipped | JobState::SkippedByPredecessor => &mut self.skipped,
            JobState::Cancelled => &mut self.cancelled,
        })
    }

    /// Jobs that could be handed out now or are under a lease: neither settled nor waiting for anything but a worker.
    pub fn open(&self) -> u64 {
        self.unsettled().saturating_sub(self.retrying + self.deferred)
    }

    /// Adds the jobs of another step.
    pub(crate) fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.cancelled += other.cancelled;
        self.retrying += other.retrying;
        self.deferred += other.deferred;
    }

    /// Counts `jobs` jobs from state `from` to state `to`.
    pub fn shift(&mut self, from: JobState, to: JobState, jobs: u64) {
        if let Some(counter) = self.of(from) {
            // A fuzzer damages what is counted on purpose.
            debug_assert!(cfg!(fuzzing) || *counter >= jobs, "{from:?} would fall below zero");
            *counter = counter.saturating_sub(jobs);
        }
        if let Some(counter) = self.of(to) {
            *counter += jobs;
        }
    }

    /// What a step whose jobs are all settled has become.
    pub fn settled_as(&self, tolerate: Tolerate) -> StepState {
        let failed = self.failed.saturating_sub(u64::from(planted!("one failure more is tolerated")));
        if failed > tolerate.allowed(self.total) {
            StepState::Failed
        } else if self.cancelled > 0 && !planted!("cancelled jobs do not cancel their step") {
            StepState::Cancelled
        } else if self.total > 0
            && self.skipped == self.total
            && !planted!("a step of skipped jobs counts as succeeded")
        {
            StepState::Skipped
        } else {
            StepState::Succeeded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_edges_is_the_one_of_the_docs() {
        use {Decision as D, EdgeKind as E, StepState as S};
        let table = [
            (S::Succeeded, false, [D::Release, D::Release, D::Skip, D::Release, D::Release, D::Skip, D::Release]),
            (S::Skipped, false, [D::Release, D::Release, D::Skip, D::Release, D::Skip, D::Release, D::Skip]),
            (S::Skipped, true, [D::Release, D::Release, D::Skip, D::Release, D::Skip, D::Skip, D::Skip]),
            (S::Failed, false, [D::Wait, D::Release, D::Release, D::Release, D::Wait, D::Wait, D::Wait]),
            (S::Cancelled, false, [D::Cancel, D::Cancel, D::Cancel, D::Release, D::Cancel, D::Cancel, D::Cancel]),
        ];
        for (upstream, passed_over, decisions) in table {
            let edges = [E::After, E::AfterSettled, E::AfterFailure, E::Always, E::When, E::Unless, E::Chains];
            for (edge, decision) in edges.into_iter().zip(decisions) {
                assert_eq!(edge.decide(upstream, passed_over), Some(decision), "{upstream} through {edge}");
            }
        }
        assert_eq!(E::After.decide(S::Running, false), None);
        assert!(D::Cancel > D::Wait && D::Wait > D::Skip && D::Skip > D::Release);
    }

    #[test]
    fn a_fraction_tolerates_exactly_its_share() {
        assert_eq!(Tolerate::Fraction(0.29).allowed(100), 29);
        assert_eq!(Tolerate::Fraction(0.001).allowed(999), 0);
        assert_eq!(Tolerate::Fraction(0.001).allowed(1_000), 1);
        assert_eq!(Tolerate::Jobs(10).allowed(3), 10);
        assert_eq!(Tolerate::None.allowed(1_000_000), 0);
    }

    #[test]
    fn a_step_settles_by_the_worst_that_it_does_not_tolerate() {
        let counts = |failed, cancelled, skipped| Counts {
            total: 10,
            failed,
            cancelled,
            skipped,
            succeeded: 10 - failed - cancelled - skipped,
            retrying: 0,
            deferred: 0,
        };
        assert_eq!(counts(0, 0, 0).settled_as(Tolerate::None), StepState::Succeeded);
        assert_eq!(counts(1, 1, 0).settled_as(Tolerate::None), StepState::Failed);
        assert_eq!(counts(1, 1, 0).settled_as(Tolerate::Jobs(1)), StepState::Cancelled);
        assert_eq!(counts(1, 0, 0).settled_as(Tolerate::Jobs(1)), StepState::Succeeded);
        assert_eq!(counts(0, 0, 10).settled_as(Tolerate::None), StepState::Skipped);
        assert_eq!(Counts::default().settled_as(Tolerate::None), StepState::Succeeded);
    }

    #[test]
    fn a_number_tolerates_so_many_jobs() {
        assert_eq!((Tolerate::from(10), Tolerate::from(0)), (Tolerate::Jobs(10), Tolerate::None));
    }

    #[test]
    fn a_fraction_comes_back_from_a_store_to_the_last_bit() {
        let share = Tolerate::Fraction(3.1461463497568028e-173);
        assert_eq!(serde_json::from_str::<Tolerate>(&serde_json::to_string(&share).unwrap()).unwrap(), share);
    }

    #[test]
    fn a_byte_keeps_state_and_attempts_apart() {
        let byte = job_byte(JobState::Retrying, MAX_ATTEMPTS);
        assert_eq!((JobState::of(byte), attempts(byte)), (JobState::Retrying, 30));
    }
}
