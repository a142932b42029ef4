//! Batches: workflows with steps that grow and steps that are callbacks. What the verbs are given by which jobs come to one, and by which
//! it is closed.
//!
//! ```text
//!              ┌─ grows ─► ImportCsv ─┐
//! batch (0) ───┼─ grows ─► ImportXml ─┼─ after ──► on_success
//!    │         └──────────────────────┘
//!    ├─ after ──► on_success      always ──► on_complete
//!    └─ on_death ─► on_death      (released by the first death)
//! ```
//!
//! The first step stands for the batch: no worker runs it, and its one job waits. It settles once nobody holds the batch open and every job
//! of the steps that grow has settled; then those steps settle, too, and after all of them the callbacks run. A step that grows is made
//! with its edges when the first job of its type comes.
//!
//! Batches within a batch are jobs of a further step that grows, `batches`, which no worker runs: each of its jobs waits for the end of the
//! batch that stands for it.

use serde::{Deserialize, Serialize};

use super::verbs::{DraftKey, Woken};
use crate::graph::{StepNumber, StepSpec};
use crate::id::{SessionId, WorkflowId};
use crate::payload::Chunk;
use crate::slice::Mask;
use crate::waiting::{NO_QUEUE, WaitsFor};

/// The number of the step that stands for a batch.
pub const BATCH_STEP: StepNumber = 0;
/// The most callbacks that a batch may have: they are its steps behind the first.
pub const MAX_CALLBACKS: StepNumber = 8;
/// The name of the step that stands for a batch.
pub const BATCH_STEP_NAME: &str = "batch";

/// The name of the step of a batch whose jobs stand for the batches within it.
pub const BATCHES_STEP_NAME: &str = "batches";

/// That step, as it comes with the first of them.
pub(crate) fn step_of_batches() -> StepSpec {
    let waits = Some(WaitsFor::Batches);
    StepSpec { grows: true, children: true, waits, ..StepSpec::new(BATCHES_STEP_NAME, NO_QUEUE) }
}

/// The names that a step of jobs may have, in the order in which they are tried: its own, unless a callback has it.
pub fn growing_names(name: &str) -> impl Iterator<Item = String> + '_ {
    std::iter::once(name.to_owned()).chain((2..MAX_CALLBACKS + 3).map(move |number| format!("{name}-{number}")))
}

/// Parameters of [`Store::add_jobs`](super::Store::add_jobs).
#[derive(Clone, Debug)]
pub struct AddJobs {
    /// Who asks.
    pub session: SessionId,
    /// Counts up with each command of the session, from 1; one seen before is answered as it was.
    pub command: u64,
    /// The batch.
    pub workflow: WorkflowId,
    /// The step of the jobs; made if the batch has none of that name.
    pub step: StepSpec,
    /// The draft that holds the jobs before these, if they were too many for one call.
    pub draft: Option<DraftKey>,
    /// The last of them, if they are not all in the draft.
    pub chunk: Option<Chunk>,
}

/// What [`Store::add_jobs`](super::Store::add_jobs) answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The number of their step.
    pub step: StepNumber,
    /// The index in it of the first of them.
    pub first: u64,
    /// How many there are.
    pub jobs: u64,
    /// Whom to wake; nobody, if the command is answered once more.
    #[serde(skip)]
    pub woken: Woken,
}

/// Jobs that a job adds to its own batch, with the report that it has succeeded.
#[derive(Clone, Debug)]
pub struct AddedJobs {
    /// Their step; made if the batch has none of that name.
    pub step: StepSpec,
    /// The jobs.
    pub chunk: Chunk,
    /// Which jobs of the lease have added them; all of these have succeeded.
    pub by: Mask,
}

/// Parameters of [`Store::close_batch`](super::Store::close_batch).
#[derive(Clone, Copy, Debug)]
pub struct CloseBatch {
    /// The batch.
    pub workflow: WorkflowId,
    /// The draft that holds it open.
    pub draft: DraftKey,
}

/// What [`Store::close_batch`](super::Store::close_batch) answers.
#[derive(Clone, Debug, Default)]
pub struct ClosedBatch {
    /// Whether it was abandoned before: the draft had not been renewed in time.
    pub abandoned: bool,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
    /// Whom to wake.
    pub woken: Woken,
}
