//! What the store's changing verbs are given, and what they answer.

use serde::{Deserialize, Serialize};

use super::children::Parent;
use super::schedules::{DueSchedule, Occurrence};
use super::signals::Awaits;
use crate::clock::Millis;
use crate::graph::{Edge, StepNumber, StepSpec};
use crate::id::{SessionId, WorkflowId};
use crate::payload::Chunk;
use crate::retention::Retention;
use crate::slice::Mask;

/// One start of a process that uses the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    #[serde(skip, default = "SessionId::random")]
    pub id: SessionId,
    /// The host that it runs on.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// The queues it takes work from; none for a client.
    pub queues: Vec<String>,
    /// The job types it knows; none for a client, or for a forwarder: what that claims is forwarded to others, and so is never suspect.
    pub types: Vec<String>,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The loopback port at which it listens for wake-ups.
    pub wake_port: Option<u16>,
    /// How long it lives without renewal, in milliseconds of lease time.
    pub lease: Millis,
}

impl Session {
    /// A session of this process that claims nothing.
    pub fn new(lease: Millis) -> Self {
        Self {
            id: SessionId::random(),
            host: hostname(),
            pid: std::process::id(),
            queues: Vec::new(),
            types: Vec::new(),
            slots: 0,
            wake_port: None,
            lease,
        }
    }

    /// Whether it claims work.
    pub fn is_worker(&self) -> bool {
        !self.types.is_empty()
    }
}

/// The name of this host, for people.
pub(crate) fn hostname() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

/// What [`Store::leave`](super::Store::leave) answers.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Whether the session holds more than one call gives back: call again.
    pub more: bool,
    /// Whom to wake.
    pub woken: Woken,
}

/// A draft: made by a session, which numbers its drafts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DraftKey {
    /// The session that writes it.
    pub session: SessionId,
    /// Which of its drafts.
    pub number: u64,
}

/// What a draft will become.
#[derive(Clone, Debug)]
pub enum DraftOf {
    /// A workflow.
    Workflow(Box<NewWorkflow>),
    /// Jobs of a step of a workflow that exists.
    Jobs {
        /// The workflow.
        workflow: WorkflowId,
        /// The step that they will be added to.
        step: StepNumber,
    },
    /// Jobs of one type for a batch, adopted by `add_jobs` or by the report of the job that adds them.
    Added {
        /// The batch.
        workflow: WorkflowId,
        /// The step that they are of, which is made if it is not there.
        step: Box<StepSpec>,
    },
    /// Nothing: as long as it lives, it holds a batch open. It is made with the batch, and only renewed by `append`.
    Open {
        /// The batch.
        workflow: WorkflowId,
    },
    /// Some failed jobs of a step, perhaps with mended parameters, adopted by `retry`.
    Mended {
        /// The workflow.
        workflow: WorkflowId,
        /// The step whose jobs they mend.
        step: StepNumber,
    },
}

/// What a workflow is, apart from its graph.
#[derive(Clone, Debug)]
pub struct NewWorkflow {
    /// Its id.
    pub id: WorkflowId,
    /// Its registered type name.
    pub name: String,
    /// Its arguments as JSON.
    pub arguments: String,
    /// 0 at first; one more each time it is started again.
    pub generation: u32,
    /// How long it is kept once it has finished.
    pub retention: Retention,
    /// What it holds from the moment on at which it begins to be built until it finishes: then it starts with
    /// [`Store::begin`](super::Store::begin).
    pub key: Option<Key>,
    /// The occurrence of a schedule that it is started for: it is started only if that has not been decided, and decides it.
    pub occurrence: Option<Occurrence>,
    /// The job that it stands for: it is created only while that job is open, lives as long as that workflow, and its end is the job's.
    pub parent: Option<Parent>,
}

/// A name that one workflow of a type holds at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The name; empty for the type as a whole.
    pub key: String,
    /// What a start, or a repair, does when another one holds it.
    pub overlap: Overlap,
}

/// What becomes of a start while another workflow of the type holds the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Overlap {
    /// It is left out.
    Skip = 0,
    /// The other one is cancelled; this one starts when that has come to its end.
    Cancel = 1,
    /// It waits for its turn: those that wait start one after the other, in the order in which they came.
    Wait = 2,
    /// It waits for its turn, unless another one waits already: then it is left out.
    WaitOne = 3,
}

impl Overlap {
    /// The inverse of `as u8`.
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Skip, Self::Cancel, Self::Wait, Self::WaitOne].into_iter().find(|overlap| *overlap as u8 == number)
    }

    /// Whether those that find the key taken wait in a row.
    pub fn waits(self) -> bool {
        matches!(self, Self::Wait | Self::WaitOne)
    }
}

/// Parameters of [`Store::begin`](super::Store::begin).
#[derive(Clone, Debug)]
pub struct Begin {
    /// The draft that it makes; what `append` adds to it has numbers from 1 on.
    pub draft: DraftKey,
    /// What it will become. It has a key.
    pub workflow: NewWorkflow,
    /// How long the draft lives without renewal.
    pub lease: Millis,
}

/// What [`Store::begin`](super::Store::begin) answers. If nothing of it is set, the key is taken and the draft begun; else nothing has been
/// made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Who holds the key, if another does.
    pub held_by: Option<WorkflowId>,
    /// How many wait before this one.
    pub ahead: u32,
    /// It will never start: its occurrence has been decided, now or before, or it has been started already.
    pub decided: bool,
}

impl Begun {
    /// Whether the draft has been begun.
    pub fn is_begun(&self) -> bool {
        *self == Self::default()
    }
}

/// Parameters of [`Store::keep`](super::Store::keep).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It may be deleted so long after its end; after now, if it has finished.
    ExpireIn(Millis),
    /// It is not deleted before it is unpinned, or by a person's `delete`.
    Pinned,
    /// It is kept as its retention says.
    Unpinned,
    /// If it has finished and is not pinned, it may be deleted now.
    Expired,
}

/// What [`Store::keep`](super::Store::keep) answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// From when on it may be deleted, if it has finished and is not kept for ever.
    pub expires_at: Option<Millis>,
}

/// Parameters of [`Store::append`](super::Store::append).
#[derive(Clone, Debug)]
pub struct Append {
    /// The draft.
    pub draft: DraftKey,
    /// What it will become.
    pub of: DraftOf,
    /// The number of this call for this draft, from 0; one seen before changes nothing.
    pub number: u64,
    /// What to add.
    pub parts: Vec<Part>,
    /// How long the draft lives without renewal.
    pub lease: Millis,
}

/// A piece of a workflow being made. Steps come before their edges and their jobs.
#[derive(Clone, Debug)]
pub enum Part {
    /// The next step.
    Step {
        /// The step.
        spec: StepSpec,
        /// How many edges lead into it.
        upstreams: u32,
        /// Whether it runs although the workflow is cancelled.
        always: bool,
        /// What it waits for, if no worker runs it; then it has one job.
        awaits: Option<Box<Awaits>>,
    },
    /// An edge.
    Edge(Edge),
    /// The workflow is a batch, and this draft, which comes with it, holds it open. One of the last parts, so that it is given by `create`.
    Open {
        /// The draft.
        draft: DraftKey,
        /// How long it lives without renewal.
        lease: Millis,
    },
    /// The workflow is a batch within another one, and stands for a job that comes to that. Given by `create` only, which is refused if that
    /// one has settled.
    Within {
        /// The other one, on the same shard.
        batch: WorkflowId,
        /// The step of the job, whose jobs no worker runs; made if there is none of that name.
        step: Box<StepSpec>,
        /// The job, which waits for the end of this batch.
        chunk: Chunk,
    },
    /// The next jobs of a step.
    Jobs {
        /// The step.
        step: StepNumber,
        /// The jobs.
        chunk: Chunk,
    },
    /// Failed jobs of one chunk that are to run again, with new parameters or as they are.
    Mended {
        /// The chunk.
        chunk: u64,
        /// The index in the step of its first job.
        first: u64,
        /// The jobs.
        jobs: Mask,
        /// Their new parameters in order, packed like a chunk; empty if they keep those that they have.
        body: Vec<u8>,
    },
}

/// Parameters of [`Store::create`](super::Store::create).
#[derive(Clone, Debug)]
pub struct Create {
    /// The workflow.
    pub workflow: NewWorkflow,
    /// The draft that holds the parts before these, if there were too many for one call.
    pub draft: Option<DraftKey>,
    /// The last parts.
    pub parts: Vec<Part>,
    /// Takes the place of the finished workflow of the same id.
    pub again: bool,
}

/// What [`Store::create`](super::Store::create) answers.
#[derive(Clone, Debug, Default)]
pub struct Created {
    /// Whether it was there already.
    pub existed: bool,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
    /// Whom to wake.
    pub woken: Woken,
}

/// Idle workers to wake up now that there is work for them: their loopback ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Woken(pub Vec<u16>);

/// Parameters of [`Store::tick`](super::Store::tick).
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// The lease length of the process that ticks: lease time moves by at most half of it at once.
    pub lease: Millis,
}

/// What [`Store::tick`](super::Store::tick) answers.
#[derive(Clone, Debug, Default)]
pub struct Ticked {
    /// Whether more is due now.
    pub more: bool,
    /// Whether jobs are ready for whoever knows their type and queue: a worker that was not woken for them claims all the same.
    pub ready: bool,
    /// Milliseconds until the next thing that is known to be due; `None` if nothing is.
    pub next_in: Option<Millis>,
    /// Some of the schedules that are due, to be fired by whoever ticks.
    pub schedules: Vec<DueSchedule>,
    /// Whom to wake.
    pub woken: Woken,
    /// Workers that run what has been cancelled, since it has not settled in time: who is told renews at once.
    pub told: Woken,
}

/// Parameters of [`Store::retry`](super::Store::retry).
#[derive(Clone, Debug)]
pub struct RetryFailed {
    /// Who asks.
    pub session: SessionId,
    /// Counts up with each command of the session, from 1; one seen before is answered as it was.
    pub command: u64,
    /// The workflow.
    pub workflow: WorkflowId,
    /// This step only.
    pub step: Option<StepNumber>,
    /// Only the jobs that this draft names.
    pub mended: Option<DraftKey>,
    /// They end as skipped instead of running again.
    pub discard: bool,
}

/// What [`Store::retry`](super::Store::retry) answers.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Retried {
    /// How many failed jobs were found; a chore brings them back.
    pub jobs: u64,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
    /// Who holds the workflow's key, if another does: then nothing is retried.
    #[serde(default)]
    pub held_by: Option<WorkflowId>,
}
