//! What the store's reading verbs are asked, and what they show.

use serde::{Deserialize, Serialize};

use super::children::Parent;
use super::lanes::Pausable;
use super::leases::ChunkRef;
use super::permits::LimitRow;
use super::verbs::{Key, Session};
use crate::clock::Millis;
use crate::graph::{StepNumber, StepSpec};
use crate::id::WorkflowId;
use crate::retention::Retention;
use crate::slice::Mask;
use crate::state::{BatchState, Counts, EdgeKind, StepState, WorkflowState};

/// Parameters of [`Store::workflows`](super::Store::workflows).
#[derive(Clone, Debug, Default)]
pub struct List {
    /// Only workflows in this state.
    pub state: Option<WorkflowState>,
    /// Only workflows of this type.
    pub name: Option<String>,
    /// Only workflows created at or after this time.
    pub created_from: Option<Millis>,
    /// Only workflows created before this time.
    pub created_before: Option<Millis>,
    /// Only workflows behind this one (of an earlier page).
    pub after: Option<(Millis, WorkflowId)>,
    /// At most so many.
    pub limit: u32,
}

/// A workflow as a store knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowRow {
    /// Its id.
    pub id: WorkflowId,
    /// Its registered type name.
    pub name: String,
    /// Its arguments as JSON.
    pub arguments: String,
    /// How often it was started again.
    pub generation: u32,
    /// Where it stands.
    pub state: WorkflowState,
    /// How many steps it has.
    pub steps: u32,
    /// How many of them have not settled.
    pub unsettled_steps: u32,
    /// Its jobs, over all steps.
    pub jobs: Counts,
    /// When it was created.
    pub created_at: Millis,
    /// When the first job was claimed.
    pub started_at: Option<Millis>,
    /// When it came to its end.
    pub finished_at: Option<Millis>,
    /// From when on it may be deleted, if it has finished.
    pub expires_at: Option<Millis>,
    /// Whether it is kept until somebody unpins it.
    pub pinned: bool,
    /// How long it is kept once it has finished.
    pub retention: Retention,
    /// The key that it holds until then.
    pub key: Option<Key>,
    /// The job that it stands for.
    pub parent: Option<Parent>,
    /// Whether jobs may still be added, if it is a batch.
    pub batch: Option<BatchState>,
}

/// A step as a store knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRow {
    /// Its number.
    pub number: StepNumber,
    /// What it was created as.
    pub spec: StepSpec,
    /// Its generation.
    pub generation: u32,
    /// Where it stands.
    pub state: StepState,
    /// Its jobs.
    pub jobs: Counts,
    /// How many of them are under a lease.
    pub running: u64,
    /// When it was released.
    pub released_at: Option<Millis>,
    /// When its first job was claimed.
    pub started_at: Option<Millis>,
    /// When it settled.
    pub finished_at: Option<Millis>,
    /// More of its jobs have failed than it tolerates, and its failure policy has acted: it is paused, or its rest is being cancelled. Not any
    /// more once it has settled, or somebody has resumed or repaired it.
    pub exceeded: bool,
    /// Something that it ran after has run again since, or is doing so.
    pub outdated: bool,
}

/// An edge seen from one of its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeRow {
    /// The step at the other end.
    pub number: StepNumber,
    /// Its name.
    pub name: String,
    /// What the edge asks.
    pub kind: EdgeKind,
    /// Where the step at the other end stands.
    pub state: StepState,
    /// Whether it was skipped or cancelled without having had its turn.
    pub passed_over: bool,
    /// Its jobs.
    pub jobs: Counts,
}

/// What became of the jobs of one chunk.
#[derive(Clone, Debug)]
pub struct ChunkOutcomes {
    /// The chunk.
    pub chunk: ChunkRef,
    /// The index in the step of its first job.
    pub first: u64,
    /// The byte of each job.
    pub bytes: Vec<u8>,
    /// How often each job's worker died; empty if none did.
    pub recoveries: Vec<u8>,
    /// The packed records, oldest first.
    pub records: Vec<Vec<u8>>,
    /// Where to go on with the records of this chunk, if these are not all: from its first job, behind this number.
    pub more_after: Option<u64>,
}

/// An error text of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorRow {
    /// [`error_number`](super::error_number) of the text.
    pub number: u64,
    /// The text; empty for the row that counts the texts for which the table had no room.
    pub text: String,
    /// How many failed jobs ended with it.
    pub jobs: u64,
}

/// What the unsettled jobs of a step wait for. Counts come from the step's counters; nothing is scanned.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// When the next retry or delayed release is due.
    pub next_due: Option<Millis>,
    /// Whether some of its work is parked: the workflow is paused or the step is at its limit.
    pub parked: bool,
    /// What of its queue and its type is paused.
    pub paused: Vec<Pausable>,
    /// Whether some of its work waits for a worker that holds nothing else, since its workers died.
    pub suspect: bool,
    /// Live workers that take from its queue and know its type.
    pub able_workers: u64,
    /// Live workers that take from its queue.
    pub queue_workers: u64,
    /// Named reasons why it may not settle yet.
    pub holds: Vec<String>,
    /// A chore that works on it.
    pub chore: Option<String>,
    /// The oldest lease on its jobs: who holds it, how many jobs.
    pub leases: Vec<(String, u64)>,
    /// The limits of its queue and its type, as far as a worker has told them.
    pub limits: Vec<LimitRow>,
    /// Of a chained step: jobs that wait for their own predecessors.
    pub behind: u64,
}

/// Where one job is at this moment.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts {
    /// Under a lease of this worker.
    pub worker: Option<String>,
    /// What it told of its progress, as JSON.
    pub progress: Option<String>,
    /// Due at this time.
    pub due: Option<Millis>,
    /// In its line.
    pub ready: bool,
    /// A lone job waits for the turn of its key.
    pub turn: Option<Turn>,
    /// A job of a chained step waits for its own predecessor.
    pub behind: bool,
}

/// What a lone job waits for whose key limits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its key.
    pub key: String,
    /// How many of that key have been admitted: they are about to run, or run.
    pub admitted: u32,
    /// How many wait, this one included.
    pub waiting: u32,
}

/// A live worker.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    /// Its session.
    pub session: Session,
    /// When it started.
    pub since: Millis,
    /// How many leases it holds.
    pub leases: u64,
}

/// A slice that a session holds.
#[derive(Clone, Debug)]
pub struct HeldRow {
    /// The workflow, or the lane.
    pub workflow: WorkflowId,
    /// The workflow's registered type name.
    pub workflow_name: String,
    /// The step.
    pub step: StepNumber,
    /// Its name.
    pub step_name: String,
    /// The index in the step of the chunk's first job.
    pub first: u64,
    /// The jobs of the chunk that are under the lease.
    pub jobs: Mask,
    /// When it was claimed.
    pub claimed_at: Millis,
}

/// How many slices [`Store::held`](super::Store::held) tells of at most.
pub const HELD_PAGE: u32 = 100;

/// How many bytes a workflow has in the store: those of its values, without what the store itself adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowSize {
    /// The parameters of its jobs.
    pub parameter_bytes: u64,
    /// What became of its jobs: outputs, errors, times.
    pub outcome_bytes: u64,
    /// Everything else: the graph, and the state of each job.
    pub state_bytes: u64,
}

impl WorkflowSize {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.parameter_bytes + self.outcome_bytes + self.state_bytes
    }
}

/// What [`Store::doctor`](super::Store::doctor) found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checkup {
    /// Workflows looked at.
    pub workflows: u64,
    /// Lanes looked at.
    pub lanes: u64,
    /// Steps looked at.
    pub steps: u64,
    /// Jobs recounted.
    pub jobs: u64,
    /// Leases looked at.
    pub leases: u64,
    /// What is under way: leases, ready entries, timers, chores, drafts, holds. 0 once everything has come to rest: lone jobs that are
    /// kept for a while have.
    pub under_way: u64,
    /// What is wrong; empty if nothing is.
    pub findings: Vec<String>,
    /// What is not wrong, but may surprise on a bad day: what the store's servers may lose, or have lost.
    pub warnings: Vec<String>,
}
