//! What the store's changing verbs are given, and what they answer.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::{Edge, StepNumber, StepSpec};
use crate::id::{SessionId, WorkflowId};
use crate::limit::Limit;
use crate::lone::JobId;
use crate::payload::{Chunk, ChunkBuilder};
use crate::retention::Retention;
use crate::slice::Mask;
use crate::store::permits::Limited;
use crate::store::schedules::{DueSchedule, Occurrence, Waits};

/// The most jobs of one slice of lone jobs whose key limits them.
pub const KEYED_SLICE: u32 = 32;
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
    /// The job types it knows; none for a client.
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
    /// How long it is kept once it has finished.
    pub retention: Retention,
    /// What it holds from the moment on at which it begins to be built until it finishes: then it starts with
    /// [`Store::begin`](super::Store::begin).
    pub key: Option<Key>,
    /// The occurrence of a schedule that it is started for: it is started only if that has not been decided, and decides it.
    pub occurrence: Option<Occurrence>,
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
    /// The queues to take from.
    pub queues: Vec<String>,
    /// How much to take of each type; a type that is not named is left alone.
    pub takes: Vec<Take>,
    /// How many jobs could start at once.
    pub free_slots: u32,
    /// Whether the worker holds nothing, so that it may run what is suspected of killing workers.
    pub alone: bool,
    /// How many jobs of all that is limited to grant at most: what cannot start here at once may start elsewhere. Limited are the jobs of a
    /// step with a bound of its own, those whose key has one, and those that need permits.
    pub max_limited: u32,
    /// What of its queues and types is limited, and how many permits it has for each: at most so many jobs of it are granted.
    pub permits: Vec<(Limited, u32)>,
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
    /// Whether the worker is now registered as idle: it has free slots, and is woken when there is work for them. Until then it need not ask.
    pub idle: bool,
    /// A suspect slice waits for this worker: it should want nothing until it holds nothing, then claim `alone`.
    pub drain: bool,
    /// Whom to wake: there is more than this worker took.
    pub woken: Woken,
    /// The limits of work that it lacks permits for.
    pub waits: Vec<Limited>,
    /// Whether a part of the store has not answered: what it may have granted comes with a later claim.
    pub unanswered: bool,
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
    /// The queue that it was taken from, if the claim named permits of queues.
    pub queue: Option<String>,
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
    /// Whether its step or the keys of its jobs limit how many run at once.
    pub limited: bool,
    /// What [`Store::parameters`](super::Store::parameters) would answer, if nothing of it has been mended, it is at most 4 KiB, and the
    /// slice has at most 64 jobs: a few small jobs start one call earlier.
    pub parameters: Option<Parameters>,
}

/// Up to so many bytes of packed parameters come with a slice, if it has at most [`FEW_JOBS`].
pub const FEW_BYTES: usize = 4096;
/// See [`FEW_BYTES`].
pub const FEW_JOBS: usize = 64;

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

impl ChunkRef {
    /// No store has it: they number chunks from 1 on.
    pub(crate) const NONE: Self = Self { shard: 0, id: 0 };
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
    /// Leases with lone jobs that are cancelled by themselves: start none of these, and stop those that run.
    pub stopped: Vec<(u64, Mask)>,
    /// Leases on a part of the store that is away: they have not been renewed, and the call is to be repeated for them.
    pub away: Vec<u64>,
    /// The shards that are away: permits there have not been renewed.
    pub away_shards: Vec<u16>,
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
        let waits: usize = self.leases.iter().map(|part| part.retries.len() + part.postponed.len()).sum();
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
    /// Jobs that want to run later, and how long after now: that uses up no attempt. They count towards the same limit.
    pub postponed: Vec<(Millis, Mask)>,
    /// Jobs that found out that there is nothing to be done.
    pub skipped: Mask,
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
    /// How long what settles here is kept if these are lone jobs, in milliseconds; 0: it is not wanted any more.
    pub keep: Millis,
}

impl LeaseReport {
    /// How many jobs it names.
    pub fn jobs(&self) -> usize {
        self.masks().map(|mask| mask.len()).sum()
    }

    /// The jobs that it names, by what became of them.
    pub fn masks(&self) -> impl Iterator<Item = Mask> + '_ {
        let waits = self.retries.iter().chain(&self.postponed).map(|(_, mask)| *mask);
        [self.succeeded, self.failed, self.skipped, self.returned, self.cancelled].into_iter().chain(waits)
    }
}

/// What [`Store::report`](super::Store::report) answers.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// Leases that are not held: nothing of their part counted.
    pub refused: Vec<u64>,
    /// Leases of cancelled workflows: start nothing more of them.
    pub cancelled: Vec<u64>,
    /// Leases with lone jobs that are cancelled by themselves: start none of these, and stop those that run.
    pub stopped: Vec<(u64, Mask)>,
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
    /// Some of the schedules that are due, to be fired by whoever ticks.
    pub schedules: Vec<DueSchedule>,
    /// Whom to wake.
    pub woken: Woken,
    /// Workers that run what has been cancelled, since it has not settled in time: who is told renews at once.
    pub told: Woken,
}

/// Parameters of [`Store::enqueue`](super::Store::enqueue): lone jobs, for lanes of one shard.
#[derive(Clone, Debug)]
pub struct Enqueue {
    /// Who asks.
    pub session: SessionId,
    /// Counts up with each command of the session, from 1; one seen before is answered as it was.
    pub command: u64,
    /// The jobs, by lane.
    pub jobs: Vec<LoneJobs>,
}

/// Jobs for one lane.
#[derive(Clone, Debug)]
pub struct LoneJobs {
    /// The lane; it is made if it is not there.
    pub lane: Lane,
    /// The jobs.
    pub chunk: Chunk,
    /// Those that may not start before a time. The others may start at once.
    pub due: Vec<(Millis, Mask)>,
    /// Those that are cancelled if they have not settled by a time.
    pub deadlines: Vec<(Millis, Mask)>,
    /// What these jobs are to start waits for its turn.
    pub waits: Option<Waits>,
    /// Those with a key, in the order in which they stand in the chunk.
    pub keyed: Vec<Keyed>,
}

/// What a lone job's key means to the store. It lives on the key's shard; how the key is counted is the same for all lanes of its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyed {
    /// Which job of the chunk.
    pub at: u16,
    /// Its key, and what limits the jobs that have it.
    pub limit: Option<(String, Limit)>,
    /// The key of which there may be no other, and for how long.
    pub unique: Option<(String, Until)>,
}

/// For how long a lone job is the only one of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until a worker has been given it.
    Started,
    /// Until it has settled.
    Settled,
    /// For so many milliseconds.
    Over(Millis),
}

impl Until {
    /// As stores keep it, and how long it lasts if that is a time.
    pub fn parts(self) -> (u8, Option<Millis>) {
        match self {
            Self::Started => (0, None),
            Self::Settled => (1, None),
            Self::Over(time) => (2, Some(time.max(0))),
        }
    }
}

impl LoneJobs {
    /// Jobs that may start at once.
    pub fn new(lane: Lane, chunk: Chunk) -> Self {
        Self { lane, chunk, due: Vec::new(), deadlines: Vec::new(), waits: None, keyed: Vec::new() }
    }

    /// One job, to be run at a time or at once.
    pub(crate) fn one(lane: Lane, json: &[u8], due: Option<Millis>) -> Result<Self> {
        let mut chunk = ChunkBuilder::default();
        chunk.push(json)?;
        let chunk = chunk.finish().ok_or_else(|| Error::usage("there is no job to enqueue"))?;
        let due = due.map(|due| (due, Mask::range(0..1))).into_iter().collect();
        Ok(Self { due, ..Self::new(lane, chunk) })
    }
}

/// A standing step that takes the lone jobs of one type, queue and priority on one shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Its id, by which it is found like a workflow.
    pub id: WorkflowId,
    /// The queue.
    pub queue: String,
    /// The priority in it.
    pub priority: i32,
    /// The job type.
    pub job_type: String,
}

impl Lane {
    /// The lane on a shard: it has the same id in every process.
    pub fn new(shard: u16, queue: &str, priority: i32, job_type: &str) -> Self {
        let id = WorkflowId::of_lane(shard, &format!("{queue}\0{priority}\0{job_type}"));
        Self { id, queue: queue.to_owned(), priority, job_type: job_type.to_owned() }
    }

    /// The one step that it has.
    pub fn step(&self) -> StepSpec {
        StepSpec { priority: self.priority, ..StepSpec::new(&self.job_type, &self.queue) }
    }
}

/// What can be paused for all workflows at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pausable {
    /// A queue.
    Queue(String),
    /// A job type.
    Type(String),
}

impl std::fmt::Display for Pausable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue `{name}`"),
            Self::Type(name) => write!(f, "type `{name}`"),
        }
    }
}

/// What [`Store::enqueue`](super::Store::enqueue) answers.
#[derive(Clone, Debug, Default)]
pub struct Enqueued {
    /// For each lane that was named, in order, the index of the first of its new jobs.
    pub firsts: Vec<u64>,
    /// Those that have not been taken, since there is one of their key.
    pub refused: Vec<Refused>,
    /// Whom to wake.
    pub woken: Woken,
}

/// A job that has not been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Of which of the lanes that were named.
    pub lane: usize,
    /// Which job of the chunk.
    pub at: u16,
    /// The one that is there.
    pub first: JobId,
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
