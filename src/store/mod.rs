//! The store: where all state lives and every transition happens.
//!
//! Each verb is one atomic operation of bounded size, named by intent, with a struct of parameters; what it returns says what
//! changed. What exceeds a bound goes on the store's chore list in the same operation, and ticks work it off.
//!
//! | verbs | repeatable by |
//! |---|---|
//! | `claim`, `renew`, `report` | the session's lease numbers and each lease's report number |
//! | `append` | draft and chunk number |
//! | `create` | the workflow's id |
//! | `cancel`, `pause`, `resume`, `delete`, `join`, `leave`, `tick` | what they ask for: done twice is done once |
//! | `retry` | the session's command number |

#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::fmt;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::error::Result;
use crate::graph::{Edge, StepNumber, StepSpec};
use crate::id::{SessionId, WorkflowId};
use crate::payload::Chunk;
use crate::slice::Mask;
use crate::state::{Counts, EdgeKind, StepState, WorkflowState};

// The parts of the pure core that every store needs.
pub use crate::record::error_number;
pub use crate::retry::due_time;
pub use crate::slice::fair_share;
pub use crate::state::{MAX_ATTEMPTS, attempts, job_byte};

/// What a store's verb returns: a future that ends with the answer.
pub type Answer<'a, T> = BoxFuture<'a, Result<T>>;

/// Where all state lives and every transition happens. Object safe; every method may be called from any thread.
///
/// Every verb fails with an error of kind `Unavailable` while the store is away, locked or full; the call may then be repeated.
pub trait Store: Send + Sync + fmt::Debug {
    /// A session starts: a worker that will claim, or a client that will build.
    fn join(&self, session: Session) -> Answer<'_, ()>;
    /// A session ends: what it still holds is given back, without an attempt or a recovery.
    fn leave(&self, session: SessionId) -> Answer<'_, Left>;

    /// Writes parts of what is not there yet into a draft, and renews it.
    fn append(&self, append: Append) -> Answer<'_, ()>;
    /// Makes a workflow, from its last parts and from the draft that holds the others, and releases its first steps.
    fn create(&self, create: Create) -> Answer<'_, Created>;

    /// Hands out slices, each under a lease.
    fn claim(&self, claim: Claim) -> Answer<'_, Claimed>;
    /// Keeps leases, drafts and the session for another lease time.
    fn renew(&self, renew: Renew) -> Answer<'_, Renewed>;
    /// Settles jobs, retries them or gives them back; settles their steps, releases what follows, finishes the workflow.
    fn report(&self, report: Report) -> Answer<'_, Reported>;
    /// Does one bite of what is due: leases that ended, timers, chores, dead drafts and sessions.
    fn tick(&self, tick: Tick) -> Answer<'_, Ticked>;

    /// Hands out nothing more of a workflow, gives what runs `grace` milliseconds, and cancels the rest.
    fn cancel(&self, workflow: WorkflowId, grace: Millis) -> Answer<'_, ()>;
    /// Hands out nothing more of a workflow until `resume`.
    fn pause(&self, workflow: WorkflowId) -> Answer<'_, ()>;
    /// Undoes `pause`.
    fn resume(&self, workflow: WorkflowId) -> Answer<'_, Woken>;
    /// Gives failed jobs a new set of attempts.
    fn retry(&self, retry: RetryFailed) -> Answer<'_, Retried>;
    /// Deletes a finished workflow.
    fn delete(&self, workflow: WorkflowId) -> Answer<'_, ()>;

    /// One workflow, or what is known of its absence.
    fn workflow(&self, workflow: WorkflowId) -> Answer<'_, WorkflowRow>;
    /// Workflows, newest first.
    fn workflows(&self, list: List) -> Answer<'_, Vec<WorkflowRow>>;
    /// Steps of a workflow from number `from` on, at most `limit`.
    fn steps(&self, workflow: WorkflowId, from: StepNumber, limit: u32) -> Answer<'_, Vec<StepRow>>;
    /// The step of that name.
    fn step_named(&self, workflow: WorkflowId, name: String) -> Answer<'_, Option<StepRow>>;
    /// The edges into (`upstream`) or out of a step, with the other step's name and state, at most `limit`.
    fn edges(&self, workflow: WorkflowId, step: StepNumber, upstream: bool, limit: u32) -> Answer<'_, Vec<EdgeRow>>;
    /// The parameters of a chunk.
    fn parameters(&self, chunk: ChunkRef) -> Answer<'_, Parameters>;
    /// What became of the jobs of a step, chunk by chunk, from job `from` on; at most about 256 KiB a page. Empty behind the last job.
    fn outcomes(&self, workflow: WorkflowId, step: StepNumber, from: u64) -> Answer<'_, Vec<ChunkOutcomes>>;
    /// The error texts that a step's table holds, with how many failed jobs ended with each.
    fn errors(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Vec<ErrorRow>>;
    /// What the unsettled jobs of a step wait for.
    fn waiting(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Waiting>;
    /// Where one job is at this moment.
    fn whereabouts(&self, workflow: WorkflowId, step: StepNumber, index: u64) -> Answer<'_, Whereabouts>;
    /// Live workers, at most `limit`.
    fn workers(&self, limit: u32) -> Answer<'_, Vec<WorkerRow>>;
    /// Recounts everything and checks every invariant that the store can show. Reads all of the store.
    fn doctor(&self) -> Answer<'_, Checkup>;

    /// The store's own time.
    fn now(&self) -> Millis;
    /// How long a lease lasts, unless a worker asks for another length.
    fn lease(&self) -> Millis;
    /// The URL that opens it again.
    fn url(&self) -> String;
}

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

/// What [`Store::leave`] answers.
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

/// Parameters of [`Store::append`].
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
        /// The jobs.
        jobs: Mask,
        /// Their parameters in order, packed like a chunk.
        body: Vec<u8>,
        /// How many of them ended with which error.
        errors: Vec<(u64, u64)>,
    },
}

/// Parameters of [`Store::create`].
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

/// What [`Store::create`] answers.
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

/// Parameters of [`Store::claim`].
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who claims.
    pub session: SessionId,
    /// The number of the first lease to grant; the next get the numbers behind it. A number used before grants nothing: the answer
    /// lists what is held of it.
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
    /// The most jobs of all slices of this claim.
    pub budget: u32,
}

/// What [`Store::claim`] answers.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The slices, in the order of their leases.
    pub slices: Vec<Slice>,
    /// Whether nothing is left that this claim could have had; the worker is now registered as idle if it got nothing.
    pub empty: bool,
    /// A suspect slice waits for this worker: it should claim nothing until it holds nothing, then claim `alone`.
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
}

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

/// Parameters of [`Store::renew`].
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

/// What [`Store::renew`] answers.
#[derive(Clone, Debug, Default)]
pub struct Renewed {
    /// Leases that are no longer held: what their jobs report will be refused.
    pub lost: Vec<u64>,
    /// Leases of cancelled workflows: start nothing more of them.
    pub cancelled: Vec<u64>,
}

/// Parameters of [`Store::report`]: one session's outcomes under several leases. Each lease's part counts wholly or not at all.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who reports.
    pub session: SessionId,
    /// One part a lease.
    pub leases: Vec<LeaseReport>,
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
    /// Jobs that are tried again, and how long after now.
    pub retries: Vec<(Millis, Mask)>,
    /// Jobs that have not been started, or whose attempt does not count.
    pub returned: Mask,
    /// Jobs whose attempt was stopped because the workflow is cancelled.
    pub cancelled: Mask,
    /// The lease's open outcome record, whole.
    pub record: Vec<u8>,
    /// The number of that record in the lease, from 0.
    pub record_number: u32,
    /// Error texts of jobs that failed for good: number, text, jobs.
    pub errors: Vec<(u64, String, u64)>,
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

/// What [`Store::report`] answers.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// Leases that are not held: nothing of their part counted.
    pub refused: Vec<u64>,
    /// Leases of cancelled workflows: start nothing more of them.
    pub cancelled: Vec<u64>,
    /// Error texts that the steps' tables hold: lease and number.
    pub known_errors: Vec<(u64, u64)>,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
    /// Whom to wake.
    pub woken: Woken,
}

/// Parameters of [`Store::tick`].
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// The lease length of the process that ticks: lease time moves by at most half of it at once.
    pub lease: Millis,
}

/// What [`Store::tick`] answers.
#[derive(Clone, Debug, Default)]
pub struct Ticked {
    /// Whether more is due now.
    pub more: bool,
    /// Milliseconds until the next thing that is known to be due; `None` if nothing is.
    pub next_in: Option<Millis>,
    /// Whom to wake.
    pub woken: Woken,
}

/// Parameters of [`Store::retry`].
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

/// What [`Store::retry`] answers.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Retried {
    /// How many failed jobs were found; a chore brings them back.
    pub jobs: u64,
    /// Whether chores are left: `tick` until there are none.
    pub more: bool,
}

/// Parameters of [`Store::workflows`].
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
}

/// An error text of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorRow {
    /// [`error_number`] of the text.
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

/// What [`Store::doctor`] found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checkup {
    /// Workflows looked at.
    pub workflows: u64,
    /// Steps looked at.
    pub steps: u64,
    /// Jobs recounted.
    pub jobs: u64,
    /// Leases looked at.
    pub leases: u64,
    /// What is wrong; empty if nothing is.
    pub findings: Vec<String>,
}

/// Opens the store of a URL: `sqlite:PATH`, or a plain path.
pub async fn open(url: &str) -> Result<std::sync::Arc<dyn Store>> {
    match url.split_once(':') {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", rest)) => open_sqlite(rest).await,
        #[cfg(not(feature = "sqlite"))]
        Some(("sqlite", _)) => Err(crate::Error::usage("this program was built without the feature `sqlite`")),
        Some((scheme, _)) if scheme.len() > 1 => Err(crate::Error::usage(format!(
            "`{scheme}:` is no store that this program knows; a store is a URL like sqlite:gusher.db"
        ))),
        _ => Err(crate::Error::usage(format!("`{url}` is not a store's URL; one looks like sqlite:gusher.db"))),
    }
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(rest: &str) -> Result<std::sync::Arc<dyn Store>> {
    let options = sqlite::Options::parse(rest)?;
    let opened = tokio::task::spawn_blocking(move || sqlite::SqliteStore::open(options)).await;
    Ok(std::sync::Arc::new(opened.map_err(|e| crate::Error::corrupt("opening the store panicked").because(e))??))
}

#[cfg(any(feature = "sqlite", feature = "cli"))]
/// A length of time as people write it: `250ms`, `1s`, `5m`, `2h`, `1d`.
pub(crate) fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(std::time::Duration::from_millis)
}
