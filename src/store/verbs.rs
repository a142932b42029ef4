//! What the store's changing verbs are given, and what they answer.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::{Edge, StepNumber, StepSpec};
use crate::id::{SessionId, WorkflowId};
use crate::payload::Chunk;
use crate::slice::Mask;

/// The most leases that one report may speak of.
pub const MAX_REPORTED_LEASES: usize = 24;
/// The most different waits before a retry that one report may speak of.
pub const MAX_REPORTED_WAITS: usize = 100;

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
    /// Whether it claims work.
    pub fn is_worker(&self) -> bool {
        !self.types.is_empty()
    }
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
    Workflow(NewWorkflow),
    /// Jobs of a step of a workflow that exists.
    Jobs {
        /// The workflow.
        workflow: WorkflowId,
        /// The step that they will be added to.
        step: StepNumber,
    },
    /// Mended parameters for failed jobs of a step, adopted by `retry`.
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
    },
    /// An edge.
    Edge(Edge),
    /// The next jobs of a step.
    Jobs {
        /// The step.
        step: StepNumber,
        /// The jobs.
        chunk: Chunk,
    },
    /// New parameters for failed jobs of one chunk.
    Mended {
        /// The chunk.
        chunk: u64,
        /// The index in the step of its first job.
        first: u64,
        /// The jobs.
        jobs: Mask,
        /// Their parameters in order, packed like a chunk.
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

/// Parameters of [`Store::claim`](super::Store::claim).
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who claims.
    pub session: SessionId,
    /// Leases get numbers from this one on, which ascend and need not follow on each other. A claim with a number used before is granted
    /// nothing: the answer lists what is held of it.
    pub first_lease: u64,
    /// How many leases to grant at most.
    pub max_leases: u32,
    /// How many the session may hold at once, those of earlier claims included; a forwarder sets it.
    pub most_held: Option<u32>,
    /// The queues to take from.
    pub queues: Vec<String>,
    /// Queues from which it takes only what is suspected of killing workers: everything else of theirs comes by a broker.
    pub suspects_of: Vec<String>,
    /// How much to take of each type; a type that is not named is left alone.
    pub takes: Vec<Take>,
    /// How many jobs could start at once.
    pub free_slots: u32,
    /// Whether the worker holds nothing, so that it may run what is suspected of killing workers.
    pub alone: bool,
    /// How long the leases last.
    pub lease: Millis,
}

/// How much a claim takes of one type.
#[derive(Clone, Debug)]
pub struct Take {
    /// The job type.
    pub job_type: String,
    /// The most jobs of one slice.
    pub jobs: u32,
    /// The most jobs of all slices of this claim; with 0 it only asks whether it should still drain.
    pub budget: u32,
}

/// What [`Store::claim`](super::Store::claim) answers.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The slices, in the order of their leases.
    pub slices: Vec<Slice>,
    /// The highest lease number that the session has used: the next claim begins behind it.
    pub last_lease: u64,
    /// Whether nothing is left that this claim could have had.
    pub empty: bool,
    /// How many leases the session holds now, if the claim said how many it may hold.
    pub held: u32,
    /// Whether the worker is now registered as idle: it has free slots, and is woken when there is work for them. Until then it need not ask.
    pub idle: bool,
    /// A suspect slice waits for this worker: it should want nothing until it holds nothing, then claim `alone`.
    pub drain: bool,
    /// Whom to wake: there is more than this worker took.
    pub woken: Woken,
}

/// Jobs of one chunk, claimed together.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The lease's number in its session.
    pub lease: u64,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The workflow's registered type name.
    pub workflow_name: String,
    /// The step.
    pub step: StepNumber,
    /// Its name.
    pub step_name: String,
    /// Its job type.
    pub job_type: String,
    /// Its options, as they were when it was created.
    pub options: StepOptions,
    /// The step's generation.
    pub generation: u32,
    /// The step that its jobs emit into, if they are a source.
    pub feeds: Option<StepNumber>,
    /// Where the parameters are.
    pub chunk: ChunkRef,
    /// The index in the step of the chunk's first job.
    pub first: u64,
    /// The jobs of the slice.
    pub jobs: Mask,
    /// The attempts that each of those jobs has used, in order; empty if none has used any.
    pub attempts: Vec<u8>,
    /// Whether it is suspected of killing its worker.
    pub suspect: bool,
    /// What [`Store::parameters`](super::Store::parameters) would answer, if nothing of it has been mended, it is at most 4 KiB, and the
    /// slice has at most 64 jobs: a few small jobs start one call earlier.
    pub parameters: Option<Parameters>,
}

/// Up to so many bytes of packed parameters come with a slice, if it has at most [`FEW_JOBS`].
pub(crate) const FEW_BYTES: usize = 4096;
/// See [`FEW_BYTES`].
pub(crate) const FEW_JOBS: usize = 64;

/// What a worker needs to know of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepOptions {
    /// Overrides the type's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<crate::retry::Retry>,
    /// Overrides the type's limit for one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<std::time::Duration>,
}

/// A chunk of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// The shard it is on.
    pub shard: u16,
    /// Its number there.
    pub id: u64,
}

/// The packed parameters of a chunk.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// As they were created.
    pub body: Vec<u8>,
    /// What replaces some of them: each mask with the packed new parameters of its jobs, oldest first.
    pub mended: Vec<(Mask, Vec<u8>)>,
}

/// Parameters of [`Store::renew`](super::Store::renew).
#[derive(Clone, Debug)]
pub struct Renew {
    /// Who renews.
    pub session: SessionId,
    /// The leases to keep.
    pub leases: Vec<u64>,
    /// The drafts to keep.
    pub drafts: Vec<u64>,
    /// How far long jobs are: lease, and a JSON text for people.
    pub progress: Vec<(u64, String)>,
    /// For how long.
    pub lease: Millis,
}

/// What [`Store::renew`](super::Store::renew) answers.
#[derive(Clone, Debug, Default)]
pub struct Renewed {
    /// Leases that are no longer held: what their jobs report will be refused.
    pub lost: Vec<u64>,
    /// Leases of cancelled workflows: start nothing more of them.
    pub cancelled: Vec<u64>,
    /// Leases on a part of the store that is away: they have not been renewed, and the call is to be repeated for them.
    pub away: Vec<u64>,
}

/// Parameters of [`Store::report`](super::Store::report): one session's outcomes under several leases. Each lease's part counts wholly or not at all.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who reports.
    pub session: SessionId,
    /// One part a lease.
    pub leases: Vec<LeaseReport>,
}

impl Report {
    /// Refuses one that speaks of more than one operation may look at: every store begins with it.
    pub fn check(&self) -> Result<()> {
        if self.leases.len() > MAX_REPORTED_LEASES {
            return Err(Error::usage(format!(
                "a report speaks of {} leases; at most {MAX_REPORTED_LEASES} are allowed",
                self.leases.len()
            )));
        }
        let waits: usize = self.leases.iter().map(|part| part.retries.len()).sum();
        if waits > MAX_REPORTED_WAITS {
            return Err(Error::usage(format!(
                "a report speaks of {waits} different waits; at most {MAX_REPORTED_WAITS} are allowed"
            )));
        }
        Ok(())
    }
}

/// What became of jobs under one lease.
#[derive(Clone, Debug, Default)]
pub struct LeaseReport {
    /// The lease.
    pub lease: u64,
    /// Counts up with each report under this lease, from 1; one seen before changes nothing.
    pub number: u64,
    /// Jobs that succeeded.
    pub succeeded: Mask,
    /// Jobs that failed for good.
    pub failed: Mask,
    /// Jobs that are tried again, and how long after now: at most [`MAX_REPORTED_WAITS`] of these in all parts of a report.
    pub retries: Vec<(Millis, Mask)>,
    /// Jobs that have not been started, or whose attempt does not count.
    pub returned: Mask,
    /// Jobs whose attempt was stopped because the workflow is cancelled.
    pub cancelled: Mask,
    /// The lease's open outcome record, whole.
    pub record: Vec<u8>,
    /// The number of that record in the lease, from 0.
    pub record_number: u32,
    /// Error texts: number, text, and the jobs that failed for good with it (none for one that is tried again).
    pub errors: Vec<(u64, String, Mask)>,
    /// The draft that a source's successful attempt wrote, to be adopted.
    pub adopted: Option<u64>,
    /// Drafts of failed attempts, to be collected.
    pub dropped: Vec<u64>,
}

impl LeaseReport {
    /// How many jobs it names.
    pub fn jobs(&self) -> usize {
        let retries: usize = self.retries.iter().map(|(_, mask)| mask.len()).sum();
        self.succeeded.len() + self.failed.len() + self.returned.len() + self.cancelled.len() + retries
    }
}

/// What [`Store::report`](super::Store::report) answers.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// Leases that are not held: nothing of their part counted.
    pub refused: Vec<u64>,
    /// Leases of cancelled workflows: start nothing more of them.
    pub cancelled: Vec<u64>,
    /// Leases on a part of the store that is away: the call is to be repeated for them.
    pub away: Vec<u64>,
    /// Error texts that the steps' tables hold: lease and number.
    pub known_errors: Vec<(u64, u64)>,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
    /// Whom to wake.
    pub woken: Woken,
}

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
    /// Whom to wake.
    pub woken: Woken,
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
    /// Only the jobs that this draft has new parameters for.
    pub mended: Option<DraftKey>,
}

/// What [`Store::retry`](super::Store::retry) answers.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Retried {
    /// How many failed jobs were found; a chore brings them back.
    pub jobs: u64,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
}
