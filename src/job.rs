//! What a user implements: [`Job`] and [`Source`], their errors, and the [`Context`] that they run in.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::batch::{Additions, InBatch};
use crate::checkpoint;
use crate::client::Client;
use crate::clock::Millis;
use crate::emitter::Emitter;
use crate::error::Error;
use crate::handle::Handle;
use crate::hooks::Surroundings;
use crate::id::WorkflowId;
use crate::limit::Limit;
use crate::lone::NewJob;
use crate::planted::planted;
use crate::record::{MAX_ERROR_BYTES, MAX_LOG_LINES, cut_text};
use crate::retry::Retry;
use crate::worker::held::Held;
use crate::workflow::Workflow;

/// What a job returns.
pub type JobResult<T> = Result<T, JobError>;

/// The most bytes of each log line that is kept.
const LOG_BYTES: usize = 500;

/// What travels through a store as JSON: jobs with their parameters, outputs, workflows with their arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored: jobs, workflows and outputs travel as JSON",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]`; it must also be `Send + Sync + 'static`"
)]
pub trait Stored: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Stored for T {}

/// One unit of work. The fields of the type are its parameters.
///
/// ```
/// use gusher::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet { whom: String }
///
/// impl Job for Greet {
///     const NAME: &str = "Greet";
///     type Output = String;
///     type State = ();
///     async fn perform(self, _: &Context) -> JobResult<String> {
///         Ok(format!("Hello, {}!", self.whom))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job",
    label = "this type cannot be a step of a workflow",
    note = "implement `gusher::Job` for it; a type that emits jobs implements `gusher::Source` and goes to `flow.expand(..)`"
)]
pub trait Job: Stored {
    /// The name under which stores know it. Keep it when the type is renamed.
    const NAME: &'static str;
    /// The queue whose workers run it, unless its step says otherwise.
    const QUEUE: &'static str = "default";
    /// How often it is tried, unless its step says otherwise.
    const RETRY: Retry = Retry::DEFAULT;
    /// How long one attempt may take, unless its step says otherwise. At the limit its cancellation token is cancelled; ten seconds
    /// later it is dropped.
    const TIMEOUT: Option<Duration> = None;
    /// Whether it computes or blocks for long: then it runs on a thread where that harms nobody.
    const BLOCKING: bool = false;
    /// How many of its jobs run at once, and how many start in a time: over all workers, and of workflows and lone jobs together.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Geocode { address: String }
    /// use gusher::Limit;
    /// use std::time::Duration;
    ///
    /// impl Job for Geocode {
    ///     const NAME: &str = "Geocode";
    ///     const LIMIT: Limit = Limit::at_once(20).and_rate(100, Duration::from_secs(60));
    ///     type Output = ();
    ///     type State = ();
    ///     async fn perform(self, _: &Context) -> JobResult<()> {
    ///         Ok(())
    ///     }
    /// }
    /// ```
    const LIMIT: Limit = Limit::NONE;
    /// How many lone jobs of one [`key`](Self::key) may run at once, and how many may start in a time, over all workers.
    ///
    /// Those beyond wait in the store, use no slot, and start in the order in which they were enqueued; one that waits for its next attempt
    /// lets others go first. Jobs of workflows have no key.
    ///
    /// ```
    /// use gusher::prelude::*;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct SyncCustomer { customer: u64 }
    ///
    /// impl Job for SyncCustomer {
    ///     const NAME: &str = "SyncCustomer";
    ///     const LIMIT_PER_KEY: Limit = Limit::at_once(1);
    ///     type Output = ();
    ///     type State = ();
    ///     fn key(&self) -> Option<String> {
    ///         Some(self.customer.to_string())
    ///     }
    ///     async fn perform(self, _: &Context) -> JobResult<()> {
    ///         Ok(())
    ///     }
    /// }
    /// ```
    const LIMIT_PER_KEY: Limit = Limit::NONE;
    /// What it returns; `()` costs nothing to keep.
    type Output: Stored;
    /// What the application gives all of its jobs, for example a connection pool.
    type State: Send + Sync + 'static;

    /// The rule for what follows one error, whatever the type and its step say otherwise: retry what may pass, never what will not.
    /// What the error says itself ([`fatal`](ResultExt::fatal), [`retry_in`](ResultExt::retry_in)) comes before it.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use gusher::prelude::*;
    /// # #[derive(Debug, thiserror::Error)] #[error("busy")] struct Busy;
    /// # #[derive(Debug, thiserror::Error)] #[error("no such mailbox")] struct NoSuchMailbox;
    /// # #[derive(Serialize, Deserialize)] struct Mail;
    ///
    /// impl Job for Mail {
    ///     const NAME: &str = "Mail";
    ///     type Output = ();
    ///     type State = ();
    ///     fn retry_on(error: &JobError) -> Option<Retry> {
    ///         if error.is::<NoSuchMailbox>() {
    ///             Some(Retry::never())
    ///         } else if error.is::<Busy>() {
    ///             Some(Retry::every(Duration::from_secs(5)).attempts(20))
    ///         } else {
    ///             None
    ///         }
    ///     }
    ///     async fn perform(self, _: &Context) -> JobResult<()> {
    ///         Err(Busy)?
    ///     }
    /// }
    /// ```
    fn retry_on(_error: &JobError) -> Option<Retry> {
        None
    }

    /// Whether an error means that there is nothing to be done any more: then the job ends as skipped, which is no failure.
    /// `error.is::<UserIsGone>()` is the usual answer.
    fn discard_on(_error: &JobError) -> bool {
        false
    }

    /// What [`LIMIT_PER_KEY`](Self::LIMIT_PER_KEY) counts it under: a customer, a host. Without a key it is not limited.
    fn key(&self) -> Option<String> {
        None
    }

    /// Does the work. May run more than once: a worker can die after its effect and before its report, so make the effect safe
    /// to repeat, or guard it with [`Context::idempotency_key`].
    fn perform(self, ctx: &Context<Self::State>) -> impl Future<Output = JobResult<Self::Output>> + Send;
}

/// A job that emits the jobs of another step while it runs: the rows of a file, the pages of a listing.
///
/// What it emits appears when it succeeds, all at once. An attempt that fails leaves nothing. Unless its step is [eager](crate::Step::eager): then
/// it appears as it comes, and stays.
#[diagnostic::on_unimplemented(
    message = "`{Self}` emits no jobs",
    label = "`expand` needs a `Source`",
    note = "implement `gusher::Source` with `type Emits = ..`, or use `flow.run(..)` for a job that only returns an output"
)]
pub trait Source: Stored {
    /// The name under which stores know it. Keep it when the type is renamed.
    const NAME: &'static str;
    /// The queue whose workers run it, unless its step says otherwise.
    const QUEUE: &'static str = "default";
    /// How often it is tried, unless its step says otherwise.
    const RETRY: Retry = Retry::DEFAULT;
    /// How long one attempt may take, unless its step says otherwise.
    const TIMEOUT: Option<Duration> = None;
    /// Whether it computes or blocks for long: then it runs on a thread where that harms nobody.
    const BLOCKING: bool = false;
    /// How many of them run at once, and how many start in a time; see [`Job::LIMIT`].
    const LIMIT: Limit = Limit::NONE;
    /// The jobs that it emits.
    type Emits: Job;
    /// What the application gives all of its jobs.
    type State: Send + Sync + 'static;

    /// The rule for what follows one error; see [`Job::retry_on`].
    fn retry_on(_error: &JobError) -> Option<Retry> {
        None
    }

    /// Whether an error means that there is nothing to be done any more; see [`Job::discard_on`].
    fn discard_on(_error: &JobError) -> bool {
        false
    }

    /// Emits the jobs: `out.emit(job).await?`.
    fn produce(
        self,
        ctx: &Context<Self::State>,
        out: &mut Emitter<Self::Emits>,
    ) -> impl Future<Output = JobResult<()>> + Send;
}

/// Why a job failed, and whether it is worth another attempt. Any error becomes one by `?`, and is then retried.
#[derive(Debug)]
pub struct JobError {
    text: String,
    then: Then,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    /// What its type's [`retry_on`](Job::retry_on) says.
    rule: Option<Retry>,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Retry,
    RetryIn(Duration),
    Never,
    /// Run it later, as if this attempt had not been.
    Postpone(Duration),
    /// There is nothing to be done any more.
    Discard,
    /// It was told to come to its end.
    Stopped,
    /// The workflow that it stands for has been created: its end is the job's.
    Begun,
}

impl JobError {
    /// An error with a text of its own, which is retried.
    pub fn new(text: impl fmt::Display) -> Self {
        Self { text: cut_text(text.to_string(), MAX_ERROR_BYTES), then: Then::Retry, cause: None, rule: None }
    }

    /// An error with a text of its own, after which there is no further attempt.
    pub fn fatal(text: impl fmt::Display) -> Self {
        Self { then: Then::Never, ..Self::new(text) }
    }

    /// No error: the job wants to run again after `wait`, and this attempt does not count. It may do so any number of times.
    pub fn postpone(wait: Duration) -> Self {
        Self { then: Then::Postpone(wait), ..Self::new(format_args!("postponed by {wait:?}")) }
    }

    /// Nothing is to be done any more: the job ends as skipped, which is no failure.
    pub fn discard(why: impl fmt::Display) -> Self {
        Self { then: Then::Discard, ..Self::new(why) }
    }

    /// No error: the workflow that the job stands for has been created.
    pub(crate) fn begun(returned: crate::children::Returned) -> Self {
        let text = serde_json::to_string(&returned).unwrap_or_default();
        Self { text, then: Then::Begun, cause: None, rule: None }
    }

    /// What a hook hears of an attempt that was told to come to its end.
    pub(crate) fn stopped() -> Self {
        Self {
            then: Then::Stopped,
            ..Self::new("stopped: it or its workflow is cancelled, its deadline has come, or its worker stops")
        }
    }

    /// Whether it counts as a failure: not if it [postpones](Self::postpone) or [discards](Self::discard) the job, and not if the job
    /// was told to stop, because its workflow is cancelled or its worker stops.
    pub fn is_failure(&self) -> bool {
        matches!(self.then, Then::Retry | Then::RetryIn(_) | Then::Never)
    }

    /// Whether there is no further attempt after it.
    pub fn is_fatal(&self) -> bool {
        self.then == Then::Never
    }

    /// Whether it was made of an error of that type, or of one that has such an error among its causes.
    pub fn is<E: StdError + 'static>(&self) -> bool {
        self.downcast_ref::<E>().is_some()
    }

    /// The first error of that type among the one that it was made of and its causes.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        let first: Option<&(dyn StdError + 'static)> = self.cause.as_deref().map(|cause| cause as _);
        std::iter::successors(first, |error: &&(dyn StdError + 'static)| (**error).source())
            .find_map(|error| error.downcast_ref())
    }

    /// The same, with what its job's type says of it; what the error says itself comes first.
    pub(crate) fn ruled_by(
        self,
        retry_on: impl FnOnce(&Self) -> Option<Retry>,
        discard_on: impl FnOnce(&Self) -> bool,
    ) -> Self {
        let discards = self.then == Then::Retry && discard_on(&self);
        let then = if discards { Then::Discard } else { self.then };
        Self { rule: retry_on(&self), then, ..self }
    }

    pub(crate) fn then(&self) -> Then {
        self.then
    }

    /// The rule for it, if its job's type has one.
    pub(crate) fn rule(&self) -> Option<Retry> {
        self.rule
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for JobError {
    fn from(error: E) -> Self {
        let cause = error.into();
        Self {
            text: cut_text(chain(cause.as_ref()), MAX_ERROR_BYTES),
            then: Then::Retry,
            cause: Some(cause),
            rule: None,
        }
    }
}

/// An error with all its causes. A cause that the text before it repeats already is left out.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Says at the place of an error what should follow it.
pub trait ResultExt<T> {
    /// No further attempt: the error will not go away by itself.
    fn fatal(self) -> JobResult<T>;
    /// The next attempt not before `wait` has passed, if there is an attempt left.
    fn retry_in(self, wait: Duration) -> JobResult<T>;
    /// There is nothing to be done any more: the job ends as skipped, which is no failure.
    fn discard(self) -> JobResult<T>;
}

impl<T, E: Into<JobError>> ResultExt<T> for Result<T, E> {
    fn fatal(self) -> JobResult<T> {
        self.map_err(|error| JobError { then: Then::Never, ..error.into() })
    }

    fn retry_in(self, wait: Duration) -> JobResult<T> {
        self.map_err(|error| JobError { then: Then::RetryIn(wait), ..error.into() })
    }

    fn discard(self) -> JobResult<T> {
        self.map_err(|error| JobError { then: Then::Discard, ..error.into() })
    }
}

/// What a running job knows of itself and of its application.
pub struct Context<S = ()> {
    surroundings: Arc<Surroundings<S>>,
    pub(crate) held: Arc<Held>,
    at: u16,
    attempt: u8,
    /// Made when somebody asks for it: most jobs never do.
    token: OnceLock<CancellationToken>,
    /// What it adds to its batch, if it does.
    additions: OnceLock<tokio::sync::Mutex<Additions>>,
    logs: Mutex<Vec<String>>,
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} #{} of {}, attempt {})", self.step(), self.index(), self.workflow_id(), self.attempt)
    }
}

impl<S> Context<S> {
    pub(crate) fn new(surroundings: Arc<Surroundings<S>>, held: Arc<Held>, at: u16, attempt: u8) -> Self {
        let (token, additions, logs) = (OnceLock::new(), OnceLock::new(), Mutex::new(Vec::new()));
        Self { surroundings, held, at, attempt, token, additions, logs }
    }

    pub(crate) fn surroundings(&self) -> &Arc<Surroundings<S>> {
        &self.surroundings
    }

    /// The application's state.
    pub fn state(&self) -> &S {
        &self.surroundings.state
    }

    /// Which attempt this is; the first is 1.
    pub fn attempt(&self) -> u32 {
        u32::from(self.attempt)
    }

    /// The workflow that the job belongs to.
    pub fn workflow_id(&self) -> WorkflowId {
        self.held.slice.workflow
    }

    /// The name of that workflow's type; of a lone job, the job's own.
    pub fn workflow_name(&self) -> &str {
        &self.held.slice.workflow_name
    }

    /// The name of the job's type.
    pub fn job_type(&self) -> &str {
        &self.held.slice.job_type
    }

    /// The name of the job's step.
    pub fn step(&self) -> &str {
        &self.held.slice.step_name
    }

    /// The number of the job in its step, from 0.
    pub fn index(&self) -> u64 {
        self.held.slice.first + u64::from(self.at)
    }

    /// The same for every attempt at this job, and for no other job: pass it to systems that accept a request once for each key.
    /// Another one after the step has been run again.
    pub fn idempotency_key(&self) -> String {
        let slice = &self.held.slice;
        let generation = if planted!("each attempt has a key of its own") { self.attempt() } else { slice.generation };
        format!("{}/{}/{}/{}", slice.workflow, slice.step, self.index(), generation)
    }

    /// A client on the worker's own store: a job lists, starts, cancels and deletes workflows with it.
    ///
    /// Do not wait for a workflow in here: that keeps a slot, and where all slots wait nothing runs. A step that runs after another
    /// costs nothing while it waits.
    pub fn client(&self) -> &Client {
        self.held.client()
    }

    /// Prepares to enqueue a lone job, as [`Client::enqueue`] does. A job that runs twice enqueues twice.
    pub fn enqueue<J: Job>(&self, job: J) -> NewJob<'_, J> {
        self.client().enqueue(job)
    }

    /// Prepares to start a workflow: `ctx.start(Import { .. }).once("import").await?` starts one, however often this job runs.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Import { day: String }
    /// # impl Workflow for Import {
    /// #     const NAME: &str = "Import";
    /// #     fn configure(&self, _: &Flow) -> gusher::Result<()> { Ok(()) }
    /// # }
    /// #[derive(Serialize, Deserialize)]
    /// struct StartImports { days: Vec<String> }
    ///
    /// impl Job for StartImports {
    ///     const NAME: &str = "StartImports";
    ///     type Output = ();
    ///     type State = ();
    ///     async fn perform(self, ctx: &Context) -> JobResult<()> {
    ///         for day in self.days {
    ///             ctx.start(Import { day: day.clone() }).once(&day).await?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn start<W: Workflow>(&self, workflow: W) -> Start<'_, W> {
        Start { client: self.client(), key: self.idempotency_key(), since: self.workflow_id().made_at(), workflow }
    }

    /// The batch that the job belongs to: what it adds there is there with its success, once, however often it is tried. Its callbacks ask
    /// here how it has ended.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct ImportRow { row: String }
    /// # impl Job for ImportRow { const NAME: &str = "ImportRow"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// #[derive(Serialize, Deserialize)]
    /// struct ImportCsv { rows: Vec<String> }
    ///
    /// impl Job for ImportCsv {
    ///     const NAME: &str = "ImportCsv";
    ///     type Output = ();
    ///     type State = ();
    ///     async fn perform(self, ctx: &Context) -> JobResult<()> {
    ///         for row in self.rows {
    ///             ctx.batch().add(ImportRow { row }).await?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn batch(&self) -> InBatch<'_> {
        InBatch::new(&self.held, self.additions.get_or_init(Default::default))
    }

    /// What the job adds to its batch is whole, now that it has succeeded.
    pub(crate) async fn finish_additions(&self) -> JobResult<()> {
        let Some(additions) = self.additions.get() else { return Ok(()) };
        for addition in &mut additions.lock().await.list {
            addition.finish(&self.held).await?;
        }
        Ok(())
    }

    /// What the job has added to its batch, once it has ended.
    pub(crate) fn take_additions(&mut self) -> Option<Box<Additions>> {
        self.additions.take().map(|additions| Box::new(additions.into_inner()))
    }

    /// Cancelled when the workflow is, or this lone job, at the attempt's time limit, and when the worker stops. A job that ends soon
    /// after is counted by what it returns; one that does not is dropped.
    pub fn cancellation(&self) -> &CancellationToken {
        self.token.get_or_init(|| self.held.token.child_token())
    }

    /// Its position in its chunk.
    pub(crate) fn at(&self) -> u16 {
        self.at
    }

    /// Tells how far the job is, for those who watch.
    pub fn progress(&self, done: u64, of: u64) {
        self.held.set_progress(self.at, done, of);
    }

    /// Saves how far the job has come, so that it goes on from there when it runs again: after a retry, a deploy, a killed worker. In place
    /// of what it saved before; forgotten once it has settled. An error of kind `Refused` if the job has been given to another worker
    /// meanwhile: then end it.
    ///
    /// What happens between an effect and its checkpoint happens again, so save after each piece of work that is safe to repeat once.
    /// At most 256 KiB of JSON. A job that never saves anything pays nothing.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Reindex { rows: u64 }
    /// impl Job for Reindex {
    ///     const NAME: &str = "Reindex";
    ///     type Output = ();
    ///     type State = ();
    ///     async fn perform(self, ctx: &Context) -> JobResult<()> {
    ///         let from: u64 = ctx.last_checkpoint().await?.unwrap_or(0);
    ///         for page in from..self.rows / 1_000 {
    ///             // … a page of rows …
    ///             ctx.checkpoint(&(page + 1)).await?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub async fn checkpoint<C: Serialize + Sync + ?Sized>(&self, cursor: &C) -> crate::Result<()>
    where
        S: Sync + Send,
    {
        self.refuse_source("checkpoint")?;
        let body = checkpoint::written(cursor)?;
        self.held.save_checkpoint(self.at, body, None).await
    }

    /// What this job saved last with [`checkpoint`](Self::checkpoint), in whatever attempt; `None` if it has saved nothing. Asks the store.
    pub async fn last_checkpoint<C: DeserializeOwned>(&self) -> crate::Result<Option<C>>
    where
        S: Sync + Send,
    {
        self.refuse_source("last_checkpoint")?;
        let saved = self.held.last_checkpoint(self.at).await?;
        let of = || format!("job {} of `{}`", self.index(), self.step());
        saved.map(|body| checkpoint::read(&body, of)).transpose()
    }

    /// What a source goes on from must agree with what it has emitted, so it says both in one place.
    fn refuse_source(&self, what: &str) -> crate::Result<()> {
        if self.held.slice.feeds.is_none() {
            return Ok(());
        }
        Err(Error::usage(format!(
            "a source goes on with what it has emitted, so its cursor is kept with that: say `out.{what}(..)` in place of `ctx.{what}(..)`"
        )))
    }

    /// Keeps a line in the job's record: the first 50 of an attempt, 500 bytes each.
    pub fn log(&self, line: impl fmt::Display) {
        let mut logs = self.logs.lock();
        if logs.len() < MAX_LOG_LINES {
            logs.push(cut_text(line.to_string(), LOG_BYTES));
        }
    }

    pub(crate) fn into_logs(self) -> Vec<String> {
        self.logs.into_inner()
    }
}

/// A workflow that a job is about to start.
#[must_use = "nothing is started before `.once(..)`"]
pub struct Start<'c, W> {
    client: &'c Client,
    key: String,
    since: Millis,
    workflow: W,
}

impl<W> fmt::Debug for Start<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Start({})", self.key)
    }
}

impl<W: Workflow> Start<'_, W> {
    /// Starts it, unless this job has started one under that name before, in whatever attempt: then that one is found. The name tells
    /// apart what one job starts. A workflow that has been deleted since is started again.
    pub async fn once(self, name: &str) -> crate::Result<Handle> {
        self.client.start_by_key(self.workflow, self.since, &format!("{}/{name}", self.key)).await
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the row could not be stored")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_keeps_all_its_causes() {
        let error = JobError::from(Outer(std::io::Error::other("the disk is full")));
        assert_eq!(error.to_string(), "the row could not be stored: the disk is full");
        assert!(!error.is_fatal());
        assert!(error.is::<Outer>() && error.is::<std::io::Error>() && !error.is::<std::fmt::Error>());
        assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().to_string(), "the disk is full");
    }

    #[test]
    fn whoever_raises_an_error_decides_what_follows() {
        let failed = || Err::<(), _>(std::io::Error::other("no"));
        assert!(failed().fatal().unwrap_err().is_fatal());
        assert_eq!(
            failed().retry_in(Duration::from_secs(9)).unwrap_err().then(),
            Then::RetryIn(Duration::from_secs(9))
        );
        let plain: JobResult<()> = (|| Ok(failed()?))();
        assert_eq!(plain.unwrap_err().then(), Then::Retry);
    }
}
