//! What an application does around each attempt, and before each lone job that it enqueues.
//!
//! Hooks around attempts nest in the order in which they were registered: the first is the outermost. How they run: `worker/hooked.rs`.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::job::{Context, JobResult};

/// What an application does around every attempt at its jobs and sources: measures, reports errors, checks out a connection, sets a
/// task-local. Registered with [`App::around_perform`](crate::App::around_perform).
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Instant;
///
/// use gusher::prelude::*;
/// use gusher::{AroundPerform, Next, Performed};
///
/// /// Sums up how long jobs take.
/// struct Timed(&'static AtomicU64);
///
/// impl<S: Send + Sync + 'static> AroundPerform<S> for Timed {
///     async fn around(&self, ctx: &Context<S>, next: Next<'_>) -> JobResult<Performed> {
///         let began = Instant::now();
///         let ended = next.run().await;
///         self.0.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
///         if let Err(error) = &ended && error.is_failure() {
///             eprintln!("{} of {}: {error}", ctx.job_type(), ctx.workflow_name());
///         }
///         ended
///     }
/// }
///
/// static TIME: AtomicU64 = AtomicU64::new(0);
/// let app = App::stateless().around_perform(Timed(&TIME));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no hook around the jobs of an application with the state `{S}`",
    note = "implement `gusher::AroundPerform<{S}>` for it, or `impl<S: Send + Sync + 'static> AroundPerform<S>` for applications of any state"
)]
pub trait AroundPerform<S>: Send + Sync + 'static {
    /// Runs the attempt by `next.run().await`, which tells how it ended, also by a panic or at its time limit, and returns that.
    ///
    /// Success can only be returned by who ran `next`: a hook that does not run it returns an error, and the attempt ends with that one,
    /// as if the job had returned it. So does one whose hook returns an error after the job has succeeded. The job's time limit
    /// counts for its hooks, too; one that panics fails the attempt.
    fn around(&self, ctx: &Context<S>, next: Next<'_>) -> impl Future<Output = JobResult<Performed>> + Send;
}

/// The attempt that a hook is around: the hooks within it, and the job.
#[must_use = "without `next.run().await` the job does not run"]
pub struct Next<'a>(BoxFuture<'a, JobResult<Performed>>);

impl<'a> Next<'a> {
    pub(crate) fn new(rest: BoxFuture<'a, JobResult<Performed>>) -> Self {
        Self(rest)
    }

    /// Lets the attempt run to its end. An error is that of the job, a panic, its time limit, or that it was told to stop;
    /// [`JobError::is_failure`](crate::JobError::is_failure) tells which are none.
    pub async fn run(self) -> JobResult<Performed> {
        self.0.await
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
    }
}

/// The job has run and has succeeded. Only [`Next::run`] makes one.
#[must_use = "the hook returns it"]
pub struct Performed {
    /// As JSON, nothing for `null`.
    pub(crate) output: Vec<u8>,
}

impl fmt::Debug for Performed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Performed")
    }
}

/// A hook whose type need not be known: one box an attempt.
pub(crate) trait Hook<S>: Send + Sync {
    fn around<'a>(&'a self, ctx: &'a Context<S>, next: Next<'a>) -> BoxFuture<'a, JobResult<Performed>>;
}

impl<S: Send + Sync + 'static, H: AroundPerform<S>> Hook<S> for H {
    fn around<'a>(&'a self, ctx: &'a Context<S>, next: Next<'a>) -> BoxFuture<'a, JobResult<Performed>> {
        // Called when it is polled, so that whatever panics does so where panics are caught.
        Box::pin(async move { AroundPerform::around(self, ctx, next).await })
    }
}

/// What an application gives to all of its jobs, and does around each attempt at one.
pub(crate) struct Surroundings<S> {
    pub state: S,
    pub hooks: Vec<Arc<dyn Hook<S>>>,
}

/// A lone job that is about to be enqueued.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct JobToEnqueue<'a> {
    /// The name of its type.
    pub job_type: &'a str,
    /// The queue that it goes into.
    pub queue: &'a str,
    /// Its priority there.
    pub priority: i32,
    /// When it may start, if not at once, in milliseconds since the epoch.
    pub due: Option<Millis>,
    /// Its parameters as JSON.
    pub parameters: &'a str,
}

type BeforeEnqueue = dyn Fn(&JobToEnqueue<'_>) -> Result<(), Box<dyn StdError + Send + Sync>> + Send + Sync;

/// What an application asks before each lone job that it enqueues.
#[derive(Clone, Default)]
pub(crate) struct EnqueueHooks(Vec<Arc<BeforeEnqueue>>);

impl fmt::Debug for EnqueueHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnqueueHooks({})", self.0.len())
    }
}

impl EnqueueHooks {
    pub fn add(&mut self, hook: Arc<BeforeEnqueue>) {
        self.0.push(hook);
    }

    /// The first refusal.
    pub fn ask(&self, job_type: &str, queue: &str, priority: i32, due: Option<Millis>, json: &[u8]) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let parameters = std::str::from_utf8(json)
            .map_err(|e| Error::corrupt(format!("the JSON of {job_type} is no text")).because(e))?;
        let job = JobToEnqueue { job_type, queue, priority, due, parameters };
        self.0
            .iter()
            .try_for_each(|hook| hook(&job))
            .map_err(|error| Error::refused(format!("{job_type} is not enqueued")).because(error))
    }
}
