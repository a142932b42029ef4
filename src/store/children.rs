//! Children: workflows that stand for one job each of a step of another workflow.

use serde::{Deserialize, Serialize};

use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::state::WorkflowState;

/// Jobs whose workflows have been created: all parts of a report may speak of so many.
pub const MAX_REPORTED_CHILDREN: usize = 32;
/// The most children of one page.
pub const CHILDREN_PAGE: u32 = 1_000;

/// The job that a workflow stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The workflow that the job belongs to: on the same shard.
    pub workflow: WorkflowId,
    /// Its step.
    pub step: StepNumber,
    /// Its number in the step.
    pub index: u64,
}

/// A workflow that stands for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildRow {
    /// The job's number in its step.
    pub index: u64,
    /// The workflow.
    pub id: WorkflowId,
    /// Where it stands.
    pub state: WorkflowState,
}
