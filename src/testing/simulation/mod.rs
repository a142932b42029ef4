//! A whole workflow, or code that enqueues lone jobs, in this process, on a store in memory, in virtual time: what takes days takes
//! milliseconds, and the same seed gives the same run.
//!
//! The worker is the real one. Everything runs in one thread with tokio's time paused: when nothing can go on, the clock jumps to the
//! next thing that is due. `stage` is what the processes of a simulation share, `faulty` the store as they see it, `script` what goes
//! wrong in it, `patience` what holds the clock while a job waits for another thread, `play` code that enqueues lone jobs.

mod faulty;
mod patience;
mod play;
mod played;
mod run;
pub(super) mod script;
mod stage;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::faulty::Faulty;
pub(super) use self::patience::Lesson;
use self::patience::Patience;
use self::play::RunBy;
pub use self::played::{Enqueued, Played};
pub use self::run::{Attempt, AttemptEnd, Run};
use self::script::Script;
use self::stage::{Process, Stage};
use crate::app::{App, Registry};
use crate::client::Client;
use crate::clock::{Clock, Millis};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::lone::Keep;
use crate::store::Store;
use crate::store::sqlite::{Options, SqliteStore};
use crate::worker::WorkerOptions;
use crate::workflow::Workflow;

/// The time of day at which every simulation begins: 2026-01-01T00:00:00Z.
const BEGIN: Millis = 1_767_225_600_000;
/// How long leases last. Long, so that jobs which take months of virtual time are not renewed thousands of times.
const LEASE: Duration = DAY;
/// How long, in real time, the clock is held at most for what a job may have asked of somebody else.
const PATIENCE: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Nothing is forgotten before a test has looked.
const FOREVER: Keep =
    Keep { outputs: Duration::from_secs(100 * 365 * 24 * 3600), failures: Duration::from_secs(100 * 365 * 24 * 3600) };

type Act = Box<dyn FnOnce(Handle) -> BoxFuture<'static, Result<()>> + Send>;

/// Runs a workflow in this process, in virtual time, the same way for the same seed; or [plays](Self::play) code that enqueues lone jobs.
///
/// ```
/// use std::time::Duration;
///
/// use gusher::prelude::*;
/// use gusher::WorkflowState;
/// use gusher::testing::Simulation;
///
/// /// The server is down until midnight.
/// #[derive(Serialize, Deserialize)]
/// struct Fetch;
///
/// impl Job for Fetch {
///     const NAME: &str = "Fetch";
///     const RETRY: Retry = Retry::every(Duration::from_secs(3600));
///     type Output = u64;
///     type State = ();
///     async fn perform(self, ctx: &Context) -> JobResult<u64> {
///         if ctx.attempt() < 3 {
///             return Err(JobError::new("503 Service Unavailable"));
///         }
///         Ok(42)
///     }
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Nightly;
///
/// impl Workflow for Nightly {
///     const NAME: &str = "Nightly";
///     fn configure(&self, flow: &Flow) -> gusher::Result<()> {
///         flow.run(Fetch);
///         Ok(())
///     }
/// }
///
/// let run = Simulation::new(App::stateless().job::<Fetch>()).run(Nightly)?;
/// assert_eq!(run.state(), WorkflowState::Succeeded);
/// assert_eq!(run.ran("Fetch"), 3);
/// assert_eq!(run.output::<Fetch>("Fetch", 0)?, 42);
/// assert!(run.elapsed() > Duration::from_secs(3600), "two waits of about an hour");
/// # Ok::<(), gusher::Error>(())
/// ```
///
/// Inside, time is tokio's: a job that waits with `tokio::time::sleep` waits in virtual time. What computes takes none, also where a
/// type is `BLOCKING`. While a job waits for another thread (`spawn_blocking`, or one of its own) everything stands still, for up to a
/// tenth of a second of real time ([`patience`](Self::patience)), so that how fast the thread is does not change the order; so does the
/// clock for what comes over a network. What the network does to the order is outside of the seed's reach; so are an unbiased
/// `tokio::select!`, and tasks that a job leaves behind.
pub struct Simulation<S> {
    app: App<S>,
    acts: Vec<(Duration, Act)>,
    setup: Setup,
}

/// How an application is simulated.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub seed: u64,
    pub slots: u32,
    pub at_most: Duration,
    pub lesson: Lesson,
    pub run_by: RunBy,
    /// What the worker takes from, beside the queues of the registered types.
    pub queues: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 0,
            slots: 4,
            at_most: 100 * DAY,
            lesson: Lesson::new(PATIENCE),
            run_by: RunBy::default(),
            queues: Vec::new(),
        }
    }
}

impl Setup {
    /// The queues that the worker takes from.
    fn queues_of(&self, registry: &Registry) -> Vec<String> {
        registry.queues().into_iter().chain(self.queues.iter().cloned()).collect()
    }
}

impl<S> fmt::Debug for Simulation<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("app", &self.app).field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static> Simulation<S> {
    /// A simulation of what an application does with a [workflow](Self::run), or with the lone jobs that [code](Self::play) of its own
    /// enqueues. Its state is made as for a real worker.
    pub fn new(app: App<S>) -> Self {
        Self { app, acts: Vec::new(), setup: Setup::default() }
    }

    /// Ids, jitter, and which of the jobs that may start at the same time starts first, come from this number; 0 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.setup.seed = seed;
        self
    }

    /// How many jobs run at once; 4 unless set.
    pub fn slots(mut self, slots: u32) -> Self {
        self.setup.slots = slots;
        self
    }

    /// The worker takes from this queue, too, beside those of the registered types.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.setup.queues.push(queue.into());
        self
    }

    /// Does something with the workflow once it has been under way for so long.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # use gusher::WorkflowState;
    /// # use gusher::testing::Simulation;
    /// # use std::time::Duration;
    /// # #[derive(Serialize, Deserialize)] struct Listen;
    /// # impl Job for Listen { const NAME: &str = "Listen"; type Output = (); type State = ();
    /// #     async fn perform(self, ctx: &Context) -> JobResult<()> { ctx.cancellation().cancelled().await; Ok(()) } }
    /// # #[derive(Serialize, Deserialize)] struct Endless;
    /// # impl Workflow for Endless { const NAME: &str = "Endless";
    /// #     fn configure(&self, flow: &Flow) -> gusher::Result<()> { flow.run(Listen); Ok(()) } }
    /// # let app = App::stateless().job::<Listen>();
    /// let noon = Duration::from_secs(12 * 3600);
    /// let run = Simulation::new(app).at(noon, async |workflow| workflow.cancel().await).run(Endless)?;
    /// assert_eq!(run.state(), WorkflowState::Cancelled);
    /// # Ok::<(), gusher::Error>(())
    /// ```
    pub fn at<F>(mut self, time: Duration, act: impl FnOnce(Handle) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.acts.push((time, Box::new(|handle| Box::pin(act(handle)))));
        self
    }

    /// After how much virtual time it is given up; 100 days unless set.
    pub fn at_most(mut self, time: Duration) -> Self {
        self.setup.at_most = time;
        self
    }

    /// How long, in real time, the clock waits for what a job may have asked of another thread or of a network; 100 ms at most
    /// unless set. A job that waits for virtual time costs so much, too, and the next ones ever less.
    pub fn patience(mut self, real: Duration) -> Self {
        self.setup.lesson = Lesson::new(real);
        self
    }

    /// Runs the workflow until it has finished. An error if it cannot be created, if the application's state cannot be made, or if
    /// the workflow does not finish: then it tells why.
    pub fn run<W: Workflow>(self, workflow: W) -> Result<Run> {
        if self.setup.run_by == RunBy::Nobody {
            return Err(Error::usage("without workers no workflow runs; `.without_workers()` is for `.play(..)`"));
        }
        simulate(&self.app, workflow, &self.setup, Script::default(), self.acts)
    }
}

/// Runs a workflow by a script.
pub(super) fn simulate<S: Send + Sync + 'static, W: Workflow>(
    app: &App<S>,
    workflow: W,
    setup: &Setup,
    script: Script,
    acts: Vec<(Duration, Act)>,
) -> Result<Run> {
    in_virtual_time(setup, script, async |stage| conduct(app, workflow, setup, stage, acts).await)
}

/// Plays something in a thread of its own, in which time is virtual.
fn in_virtual_time<T: Send>(
    setup: &Setup,
    script: Script,
    conduct: impl AsyncFnOnce(Arc<Stage>) -> Result<T> + Send,
) -> Result<T> {
    let in_its_thread = || {
        crate::id::seed_this_thread(setup.seed);
        let patience = Patience::new(setup.lesson.clone());
        let parks = patience.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .on_thread_park(move || parks.parks())
            .build()
            .map_err(|e| Error::unavailable("starting the simulation's runtime").because(e))?;
        runtime.block_on(async { conduct(Stage::new(script, patience, setup.run_by)).await })
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("gusher-simulation".into()).spawn_scoped(scope, in_its_thread);
        let thread = thread.map_err(|e| Error::unavailable("starting the simulation's thread").because(e))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// An empty store in memory, and a client of the application on it.
fn open<S: Send + Sync + 'static>(app: &App<S>, stage: &Arc<Stage>) -> Result<(Arc<dyn Store>, Client)> {
    app.check()?;
    let options = Options { clock: Clock::tokio(BEGIN), lease: LEASE, ..Options::in_memory() };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options)?);
    let client = app.client_on(Faulty::for_client(store.clone(), stage.clone()));
    Ok((store, client.watched_by(Process::new(0, stage.clone()))))
}

/// The store is as it should be.
async fn check(store: &Arc<dyn Store>) -> Result<()> {
    match store.doctor().await?.findings {
        findings if findings.is_empty() => Ok(()),
        findings => Err(Error::corrupt(format!(
            "a fault of gusher, please report it: the store is not as it should be: {}",
            findings.join("; ")
        ))),
    }
}

async fn conduct<S: Send + Sync + 'static, W: Workflow>(
    app: &App<S>,
    workflow: W,
    setup: &Setup,
    stage: Arc<Stage>,
    acts: Vec<(Duration, Act)>,
) -> Result<Run> {
    let (store, client) = open(app, &stage)?;
    let handle = client.start(workflow).await?;
    stage.is_about(handle.id());
    let mut actors: JoinSet<Result<()>> = JoinSet::new();
    for (time, act) in acts {
        let handle = handle.clone();
        actors.spawn(async move {
            tokio::time::sleep(time).await;
            act(handle).await
        });
    }
    let work = work(app, setup, &store, &stage, async || finished(&store, &stage, &handle, &mut actors).await);
    let worked = tokio::time::timeout(setup.at_most, work).await;
    stage.is_over();
    match worked {
        Ok(ended) => ended?,
        Err(_) => return Err(unfinished(&handle, setup.at_most).await),
    }
    let elapsed = stage.elapsed();
    check(&store).await?;
    let (view, steps) = run::settled(&handle).await?;
    let (calls, again, attempts) = stage.take_records();
    let finished = view.finished_at.map_or(elapsed, |at| Duration::from_millis((at - view.created_at).max(0) as u64));
    Ok(Run { view, steps, attempts, elapsed: finished, calls, again })
}

/// Lets workers work until what is simulated has finished: one after another, if they are killed.
async fn work<S: Send + Sync + 'static>(
    app: &App<S>,
    setup: &Setup,
    store: &Arc<dyn Store>,
    stage: &Arc<Stage>,
    mut finished: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    let observer = Process::new(0, stage.clone());
    for number in 1.. {
        let process = Process::new(number, stage.clone());
        let options = WorkerOptions {
            slots: setup.slots,
            queues: Some(setup.queues_of(&app.registry)),
            keep: FOREVER,
            ..WorkerOptions::default()
        };
        let mut worker = app.worker_on(Faulty::for_worker(store.clone(), process.clone()), options).await?;
        worker.watcher = Some(process.clone());
        worker.client = worker.client.watched_by(observer.clone());
        let stop = CancellationToken::new();
        let mut running = Box::pin(worker.run(stop.clone()));
        let ended = tokio::select! {
            biased;
            () = process.killed.cancelled() => None,
            ended = &mut running => Some(ended.and(Err(Error::corrupt("the worker ended by itself")))),
            finished = finished() => Some(finished),
        };
        if let Some(ended) = ended {
            stage.is_over();
            stop.cancel();
            ended?;
            return running.await;
        }
        drop(running);
        // What is left of the process goes once the runtime comes by it.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Waits until the workflow has finished, or somebody who does something with it has failed.
async fn finished(
    store: &Arc<dyn Store>,
    stage: &Stage,
    handle: &Handle,
    actors: &mut JoinSet<Result<()>>,
) -> Result<()> {
    loop {
        if store.workflow(handle.id()).await?.state.is_finished() && actors.is_empty() {
            return Ok(());
        }
        tokio::select! {
            biased;
            Some(acted) = actors.join_next() => match acted {
                Ok(acted) => acted?,
                Err(died) => match died.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(gone) => return Err(Error::corrupt("what was to be done with the workflow was given up").because(gone)),
                },
            },
            () = stage.called.notified() => {}
        }
    }
}

async fn unfinished(handle: &Handle, after: Duration) -> Error {
    let why = match handle.why().await {
        Ok(why) => {
            let causes: Vec<String> = why.causes.into_iter().map(|cause| cause.text).collect();
            format!("{}; {}", why.summary, causes.join("; "))
        }
        Err(error) => error.to_string(),
    };
    Error::refused(format!("the workflow has not finished after {after:?} of virtual time: {why}"))
}
