//! What a person's `run-again` asks of a store, and what it answers; what no repair is done to.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};
use crate::state::WorkflowState;

/// Parameters of [`Store::run_again`](super::Store::run_again).
#[derive(Clone, Copy, Debug)]
pub struct RunAgain {
    /// Who asks.
    pub session: SessionId,
    /// Counts up with each command of the session, from 1; one seen before is answered as it was.
    pub command: u64,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step all of whose jobs run again.
    pub step: StepNumber,
    /// All steps behind it run again, too. Else those that have run stay as they are; what has been skipped, or not settled, waits anew for
    /// the step. The step that a source feeds always goes with it: its jobs are the source's.
    pub again: bool,
}

/// What [`Store::run_again`](super::Store::run_again) answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RanAgain {
    /// How many jobs the step has; a chore takes them back. None, if nothing of the step has run so far.
    pub jobs: u64,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
    /// Who holds the workflow's key, if another does: then nothing runs again.
    #[serde(default)]
    pub held_by: Option<WorkflowId>,
}

/// Refuses to repair a workflow that was cancelled, or is not there as a whole.
pub(crate) fn refuse_repair(id: WorkflowId, state: WorkflowState) -> Result<()> {
    match state {
        WorkflowState::Cancelling | WorkflowState::Cancelled => {
            Err(Error::refused(format!("workflow {id} was cancelled; `start-again` runs it anew")))
        }
        WorkflowState::Building | WorkflowState::Deleting => {
            Err(Error::refused(format!("workflow {id} is {state}; there is nothing to retry")))
        }
        _ => Ok(()),
    }
}

/// Refuses what cannot be said of a batch: its jobs came from programs, and may add others. What runs at its end may run again.
pub(crate) fn refuse_batch(id: WorkflowId, is_batch: bool) -> Result<()> {
    if !is_batch {
        return Ok(());
    }
    Err(Error::refused(format!(
        "workflow {id} is a batch: none of its steps is skipped or given an output, and only `on_success` and `on_complete` are run again; `retry` runs what \
         failed again, `discard` gives it up"
    )))
}
