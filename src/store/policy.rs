//! What becomes of a step once more of its jobs have failed than it tolerates, and the verb by which a paused one goes on.

use serde::{Deserialize, Serialize};

use super::rows::StepRow;
use super::verbs::Woken;
use crate::clock::Millis;
use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};
use crate::state::{FailurePolicy, StepState};

/// How long the jobs that run have to come to their end once their step has failed fast, in milliseconds of lease time.
pub const FAIL_FAST_GRACE: Millis = 10_000;

/// Parameters of [`Store::resume_step`](super::Store::resume_step).
#[derive(Clone, Copy, Debug)]
pub struct ResumeStep {
    /// Who asks.
    pub session: SessionId,
    /// Counts up with each command of the session, from 1; one seen before is answered as it was.
    pub command: u64,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step: StepNumber,
}

/// What [`Store::resume_step`](super::Store::resume_step) answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ResumedStep {
    /// Whether it was paused; else nothing has changed.
    pub was_paused: bool,
    /// Whom to wake.
    #[serde(skip)]
    pub woken: Woken,
}

impl StepRow {
    /// Whether it is paused, since more of its jobs have failed than it tolerates. One that waits for its failed source is not: it has nothing
    /// to go on with.
    pub fn is_paused(&self) -> bool {
        self.exceeded && self.spec.policy == FailurePolicy::Pause && self.state == StepState::Running
    }

    /// Whether its rest is being cancelled, since more of its jobs have failed than it tolerates.
    pub fn is_failing_fast(&self) -> bool {
        self.exceeded && self.spec.policy == FailurePolicy::FailFast
    }
}
