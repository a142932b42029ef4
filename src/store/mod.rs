//! The store: where all state lives and every transition happens.
//!
//! Each verb is one atomic operation of bounded size, named by intent, with a struct of parameters; what it returns says what
//! changed. What exceeds a bound goes on the store's chore list in the same operation, and ticks work it off.
//!
//! | verbs | repeatable by |
//! |---|---|
//! | `claim`, `take_over`, `renew`, `report` | the session's lease numbers and each lease's report number |
//! | `permit` | what the session says that it has and wants, in absolute numbers |
//! | `append`, `begin` | draft and chunk number |
//! | `adopt` | lease, and how many jobs the source had emitted before |
//! | `create` | the workflow's id |
//! | `cancel`, `cancel_jobs`, `pause`, `resume`, `set_paused`, `delete`, `keep`, `abandon`, `join`, `leave`, `tick`, `save_checkpoint`, `take_draft`, `close_batch` | what they ask for: done twice is done once |
//! | `put_schedule`, `change_schedule`, `fire` | the schedule's name, and the instant at which it fires next |
//! | `enqueue`, `retry`, `run_again`, `decide_by_hand`, `resume_step`, `signal`, `add_jobs` | the session's command number |

mod again;
mod batches;
mod by_hand;
mod cancel;
mod checkpoint;
mod children;
mod eager;
mod lanes;
mod leases;
mod meter;
mod permits;
mod policy;
#[cfg(feature = "redis")]
pub mod redis;
mod rows;
mod schedules;
mod signals;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod take_over;
mod verbs;

use std::fmt;

use futures::future::BoxFuture;

pub use self::again::*;
pub use self::batches::*;
pub use self::by_hand::*;
pub use self::cancel::*;
pub use self::checkpoint::*;
pub use self::children::*;
pub use self::eager::*;
pub use self::lanes::*;
pub use self::leases::*;
pub use self::meter::{Cost, MAX_BYTES, MAX_CALLS, Meters, VerbCost};
pub use self::permits::*;
pub use self::policy::*;
pub use self::rows::*;
pub use self::schedules::*;
pub use self::signals::*;
pub use self::take_over::*;
pub use self::verbs::*;
use crate::clock::Millis;
use crate::error::Result;
use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};

// The parts of the pure core that every store needs.
pub use crate::record::{CANCELLED_KEPT, KILLED_KEPT, error_number};
pub use crate::retry::due_time;
pub use crate::slice::fair_share;
pub use crate::state::{MAX_ATTEMPTS, attempts, job_byte};

/// What a store's verb returns: a future that ends with the answer.
pub type Answer<'a, T> = BoxFuture<'a, Result<T>>;

/// Where all state lives and every transition happens. Object safe; every method may be called from any thread.
///
/// Every verb fails with an error of kind `Unavailable` while the store is away or locked, and `append`, `create`, `adopt`, `add_jobs`, `enqueue` and `signal` with
/// one of kind `Full` while it has no space; the call may then be repeated.
pub trait Store: Send + Sync + fmt::Debug {
    /// A session starts: a worker that will claim, or a client that will build.
    fn join(&self, session: Session) -> Answer<'_, ()>;
    /// A session ends: what it still holds is given back, without an attempt or a recovery.
    fn leave(&self, session: SessionId) -> Answer<'_, Left>;

    /// Writes parts of what is not there yet into a draft, and renews it.
    fn append(&self, append: Append) -> Answer<'_, ()>;
    /// Takes a workflow's key and begins the draft that holds it until the workflow is made; or tells who has the key.
    fn begin(&self, begin: Begin) -> Answer<'_, Begun>;
    /// Gives up a draft of a workflow; its key is free at once.
    fn abandon(&self, workflow: WorkflowId, draft: DraftKey) -> Answer<'_, ()>;
    /// Makes a workflow, from its last parts and from the draft that holds the others, and releases its first steps.
    fn create(&self, create: Create) -> Answer<'_, Created>;

    /// Adds jobs of one type to a batch that has not settled: those of a draft, and those that come with it, all of them or none. An error of
    /// kind `BatchSettled` if it is too late.
    fn add_jobs(&self, add: AddJobs) -> Answer<'_, Added>;
    /// The client that holds a batch open adds nothing more: from here on it may settle.
    fn close_batch(&self, close: CloseBatch) -> Answer<'_, ClosedBatch>;

    /// Takes lone jobs into their lanes: all of them or none.
    fn enqueue(&self, enqueue: Enqueue) -> Answer<'_, Enqueued>;

    /// Keeps a schedule; one of that name that is there is changed. It stays paused if it was. Tells as what it was there before.
    fn put_schedule(&self, put: PutSchedule) -> Answer<'_, Option<ScheduleRow>>;
    /// Pauses, resumes or removes a schedule.
    fn change_schedule(&self, shard: u16, name: String, change: ChangeSchedule) -> Answer<'_, Changed>;
    /// Fires a schedule: records its occurrences and enqueues their jobs, if nobody else has.
    fn fire(&self, fire: Fire) -> Answer<'_, Fired>;

    /// Takes permits of limits, keeps them and gives them back, as the session says that it has and wants.
    fn permit(&self, permit: Permit) -> Answer<'_, Permitted>;
    /// Hands out slices, each under a lease.
    fn claim(&self, claim: Claim) -> Answer<'_, Claimed>;
    /// Takes leases over that a forwarder holds in a broker's name: each becomes a lease of this session.
    fn take_over(&self, take: TakeOver) -> Answer<'_, TakenOver>;
    /// Keeps leases, drafts, permits and the session for another lease time.
    fn renew(&self, renew: Renew) -> Answer<'_, Renewed>;
    /// Settles jobs, retries them or gives them back; settles their steps, releases what follows, finishes the workflow.
    fn report(&self, report: Report) -> Answer<'_, Reported>;
    /// Keeps what a job under a lease goes on from when it runs again, until it settles; in place of what it said before.
    fn save_checkpoint(&self, save: SaveCheckpoint) -> Answer<'_, ()>;
    /// Makes the draft that a source's checkpoint covers one of this session, cut to what the checkpoint covers; tells what it goes on from.
    fn take_draft(&self, take: TakeDraft) -> Answer<'_, TakenDraft>;
    /// Adds jobs that an eager source under a lease has emitted to the step that it feeds, where they may run at once. They stay, whatever becomes
    /// of the source. Refused if that step has settled.
    fn adopt(&self, adopt: Adopt) -> Answer<'_, Adopted>;
    /// Does one bite of what is due: leases and permits that ended, timers, deadlines, keys of lone jobs, chores, dead drafts and sessions,
    /// workflows that are kept no longer.
    fn tick(&self, tick: Tick) -> Answer<'_, Ticked>;

    /// Hands out nothing more of a workflow, gives what runs `grace` milliseconds, and cancels the rest.
    fn cancel(&self, workflow: WorkflowId, grace: Millis) -> Answer<'_, ()>;
    /// Cancels lone jobs: those that wait at once, those under a lease as soon as their workers hear of it. Refused for a workflow.
    fn cancel_jobs(&self, cancel: CancelJobs) -> Answer<'_, CancelledJobs>;
    /// Hands out nothing more of a workflow until `resume`.
    fn pause(&self, workflow: WorkflowId) -> Answer<'_, ()>;
    /// Undoes `pause`.
    fn resume(&self, workflow: WorkflowId) -> Answer<'_, Woken>;
    /// Hands out nothing of a queue or a job type, or does so again.
    fn set_paused(&self, what: Pausable, paused: bool) -> Answer<'_, Woken>;
    /// Gives failed jobs a new set of attempts, or discards them.
    fn retry(&self, retry: RetryFailed) -> Answer<'_, Retried>;
    /// Runs all jobs of a step again, also those that succeeded, and what comes after it: the steps wait, as if they had never been released,
    /// and are released in their order. Reports under leases of theirs are refused from then on. Refused for a workflow that was cancelled.
    fn run_again(&self, run: RunAgain) -> Answer<'_, RanAgain>;
    /// Settles jobs as a person says, in place of running them: skipped, or succeeded with an output. A job that is under a lease takes the
    /// whole lease with it. Refused for a workflow that was cancelled.
    fn decide_by_hand(&self, decide: DecideByHand) -> Answer<'_, DecidedByHand>;
    /// Lets a step go on that is paused since more of its jobs have failed than it tolerates; those that have failed so far do not pause it again.
    fn resume_step(&self, resume: ResumeStep) -> Answer<'_, ResumedStep>;
    /// Gives a step that waits for it its signal: it settles, and what follows is released. One that comes before the step's release is kept
    /// until then; a second one counts for nothing. Refused for a workflow that has finished or is cancelled, unless the step runs also then.
    fn signal(&self, send: SendSignal) -> Answer<'_, Signalled>;
    /// Deletes a finished workflow.
    fn delete(&self, workflow: WorkflowId) -> Answer<'_, ()>;
    /// Changes for how long a workflow is kept. What may be deleted is deleted by ticks, a little at a time.
    fn keep(&self, workflow: WorkflowId, keeping: Keeping) -> Answer<'_, Kept>;

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
    /// The parameters of a chunk; of one that a chained step has from its predecessor, those of the first step of the chain.
    fn parameters(&self, chunk: ChunkRef) -> Answer<'_, Parameters>;
    /// What the job at a position of a chunk goes on from, if it has saved anything and has not settled.
    fn checkpoint(&self, chunk: ChunkRef, at: u16) -> Answer<'_, Option<Vec<u8>>>;
    /// What is stored of what the source at a position of a chunk has emitted eagerly, in whatever attempt.
    fn emitted(&self, chunk: ChunkRef, at: u16) -> Answer<'_, Emitted>;
    /// What became of the jobs of a step, chunk by chunk, from job `from` on; of the first chunk the records behind number `after`
    /// (0: all). At most about 256 KiB a page. Empty behind the last job.
    fn outcomes(&self, workflow: WorkflowId, step: StepNumber, from: u64, after: u64)
    -> Answer<'_, Vec<ChunkOutcomes>>;
    /// The same of one chunk, the one that holds job `index`; nothing, if there is none.
    fn outcomes_of_chunk(
        &self,
        workflow: WorkflowId,
        step: StepNumber,
        index: u64,
        after: u64,
    ) -> Answer<'_, Option<ChunkOutcomes>>;
    /// The error texts that a step's table holds, with how many failed jobs ended with each.
    fn errors(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Vec<ErrorRow>>;
    /// What the unsettled jobs of a step wait for.
    fn waiting(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Waiting>;
    /// Where one job is at this moment: nowhere, if it has settled or is not there.
    fn whereabouts(&self, workflow: WorkflowId, step: StepNumber, index: u64) -> Answer<'_, Whereabouts>;
    /// The workflows that stand for jobs of a step, from job `from` on, at most `limit`; of a job that was run again the last one.
    fn children(&self, workflow: WorkflowId, step: StepNumber, from: u64, limit: u32) -> Answer<'_, Vec<ChildRow>>;
    /// How many bytes a workflow has. Looks at every chunk of it, but reads none.
    fn size(&self, workflow: WorkflowId) -> Answer<'_, WorkflowSize>;
    /// Schedules by name, behind that name, at most `limit`.
    fn schedules(&self, after: String, limit: u32) -> Answer<'_, Vec<ScheduleRow>>;
    /// The occurrences of a schedule before an instant, the last first, at most `limit`.
    fn occurrences(&self, shard: u16, name: String, before: Millis, limit: u32) -> Answer<'_, Vec<OccurrenceRow>>;
    /// The queues and job types that are paused.
    fn paused(&self) -> Answer<'_, Vec<Pausable>>;
    /// Live workers, at most `limit`: those whose sessions have not ended, whether or not anybody has taken notice of that.
    fn workers(&self, limit: u32) -> Answer<'_, Vec<WorkerRow>>;
    /// What a session holds under leases, in the order in which it was claimed: at most `limit` slices, and at most [`HELD_PAGE`]. Nothing, if
    /// the store does not know the session.
    fn held(&self, session: SessionId, limit: u32) -> Answer<'_, Vec<HeldRow>>;
    /// Recounts everything and checks every invariant that the store can show. Reads all of the store.
    fn doctor(&self) -> Answer<'_, Checkup>;

    /// The number by which this store is told from others, which it has for as long as it lives: messages bear it.
    fn identity(&self) -> Answer<'_, u64>;
    /// What the operations of this process have cost so far.
    fn meters(&self) -> &Meters;
    /// The store's own time.
    fn now(&self) -> Millis;
    /// How long a lease lasts, unless a worker asks for another length.
    fn lease(&self) -> Millis;
    /// The shard on which the next new workflow is to live. A store without shards has one.
    fn next_shard(&self) -> u16 {
        0
    }
    /// How many shards there are, numbered from 0 on.
    fn shards(&self) -> u16 {
        1
    }
    /// The URL that opens it again.
    fn url(&self) -> String;
}

/// Opens the store of a URL: `sqlite:PATH`, or `redis://HOST:PORT`.
pub async fn open(url: &str) -> Result<std::sync::Arc<dyn Store>> {
    match Kind::of(url)? {
        Kind::Sqlite(rest) => open_sqlite(rest).await,
        Kind::Redis(url) => open_redis(url).await,
    }
}

/// Which store a URL names, with what that store makes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'u> {
    /// What stands behind `sqlite:`.
    Sqlite(&'u str),
    /// The whole URL.
    Redis(&'u str),
}

impl<'u> Kind<'u> {
    pub(crate) fn of(url: &'u str) -> Result<Self> {
        match url.split_once(':') {
            Some(("sqlite", rest)) => Ok(Self::Sqlite(rest)),
            Some((
                "redis" | "rediss" | "redis+unix" | "redis+sentinel" | "rediss+sentinel" | "redis-cluster"
                | "rediss-cluster",
                _,
            )) => Ok(Self::Redis(url)),
            Some((scheme, _)) if scheme.len() > 1 => Err(crate::Error::usage(format!(
                "`{scheme}:` is no store that this program knows; a store is a URL like sqlite:gusher.db or redis://127.0.0.1:6379"
            ))),
            _ => {
                let shown = without_passwords(url);
                Err(crate::Error::usage(format!("`{shown}` is not a store's URL; one looks like sqlite:gusher.db")))
            }
        }
    }
}

/// A store's URL as it may be shown to people and written into logs.
pub(crate) fn without_passwords(url: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let place = match (place.split_once("://"), place.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://…@{hosts}"),
        _ => place.to_owned(),
    };
    let settings: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.contains("password")).collect();
    if settings.is_empty() { place } else { format!("{place}?{}", settings.join("&")) }
}

#[cfg(not(feature = "sqlite"))]
async fn open_sqlite(_: &str) -> Result<std::sync::Arc<dyn Store>> {
    Err(crate::Error::usage("this program was built without the feature `sqlite`"))
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(rest: &str) -> Result<std::sync::Arc<dyn Store>> {
    let options = sqlite::Options::parse(rest)?;
    let opened = tokio::task::spawn_blocking(move || sqlite::SqliteStore::open(options)).await;
    Ok(std::sync::Arc::new(opened.map_err(|e| crate::Error::corrupt("opening the store panicked").because(e))??))
}

#[cfg(not(feature = "redis"))]
async fn open_redis(_: &str) -> Result<std::sync::Arc<dyn Store>> {
    Err(crate::Error::usage("this program was built without the feature `redis`; build it with `--features redis`"))
}

#[cfg(feature = "redis")]
async fn open_redis(url: &str) -> Result<std::sync::Arc<dyn Store>> {
    Ok(std::sync::Arc::new(redis::RedisStore::open(redis::Options::parse(url)?).await?))
}

#[cfg(any(test, feature = "sqlite", feature = "redis", feature = "cli", feature = "rabbitmq", feature = "sqs"))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_passwords() {
        for (url, shown) in [
            ("redis://user:se@cret@host:1/0?prefix=a", "redis://…@host:1/0?prefix=a"),
            (
                "redis+sentinel://one:1,two:2/mymaster?sentinel-password=secret&lease=1s",
                "redis+sentinel://one:1,two:2/mymaster?lease=1s",
            ),
            ("sqlite:a@b.db?lease=1s", "sqlite:a@b.db?lease=1s"),
        ] {
            assert_eq!(without_passwords(url), shown);
        }
    }
}
