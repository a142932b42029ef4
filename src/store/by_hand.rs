//! What a person decides about jobs in place of running them, and what a store answers.

use serde::{Deserialize, Serialize};

use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};

/// Parameters of [`Store::decide_by_hand`](super::Store::decide_by_hand).
#[derive(Clone, Debug)]
pub struct DecideByHand {
    /// Who asks.
    pub session: SessionId,
    /// Counts up with each command of the session, from 1; one seen before is answered as it was.
    pub command: u64,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step: StepNumber,
    /// What becomes of which of its jobs.
    pub what: ByHand,
}

/// What a person decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByHand {
    /// All jobs of the step end as skipped that have not succeeded.
    SkipAll,
    /// This job ends as skipped, unless it has succeeded.
    Skip {
        /// Its index in the step.
        index: u64,
    },
    /// This job, which has failed or succeeded, has succeeded with what this record of it says.
    Replace {
        /// Its index in the step.
        index: u64,
        /// The record, as a worker would report it.
        record: Vec<u8>,
    },
}

/// What [`Store::decide_by_hand`](super::Store::decide_by_hand) answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedByHand {
    /// How many jobs it is about; a chore settles them.
    pub jobs: u64,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
    /// Who holds the workflow's key, if another does: then nothing is changed.
    #[serde(default)]
    pub held_by: Option<WorkflowId>,
}
