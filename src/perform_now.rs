//! Performing a job here and now: in the caller's process, once, without a write to the store.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::hooks::Surroundings;
use crate::id::{SessionId, WorkflowId};
use crate::job::{Context, Job, JobError, JobResult};
use crate::lone::JobId;
use crate::outputs::decode_output;
use crate::slice::Mask;
use crate::store::{ChunkRef, Slice, StepOptions};
use crate::worker::attempt::{context, perform, span};
use crate::worker::held::{End, Ended, Held, Taken, Written};
use crate::worker::hooked::attempt;
use crate::worker::hub::Hub;
use crate::worker::watch;

/// Makes an application's surroundings, whatever its state is.
pub(crate) type Make = Arc<dyn Fn() -> BoxFuture<'static, Result<AnySurroundings>> + Send + Sync>;
/// Surroundings of a state that is not known here.
pub(crate) type AnySurroundings = Arc<dyn Any + Send + Sync>;

/// The application that a client belongs to, as far as its jobs are performed by the client itself: its state is made when it is first
/// needed, once. The client of a worker has the worker's.
pub(crate) struct Home {
    make: Make,
    made: OnceCell<AnySurroundings>,
}

impl Home {
    pub fn new(make: Make, made: Option<AnySurroundings>) -> Self {
        Self { make, made: OnceCell::new_with(made) }
    }

    async fn surroundings<J: Job>(&self) -> Result<Arc<Surroundings<J::State>>> {
        let made = self.made.get_or_try_init(|| (self.make)()).await?;
        made.clone().downcast().map_err(|_| {
            Error::usage(format!(
                "{} cannot be performed by this client: its State is {}, which is not that of the client's App",
                J::NAME,
                std::any::type_name::<J::State>()
            ))
        })
    }
}

impl Client {
    /// Performs a job in this process and at once, by an attempt of its own that no store hears of; returns its output, or the error with
    /// which it ended. There is no retry. Its hooks, its time limit and a panic are what they are in a worker.
    ///
    /// The application's state is made for the first such job, and kept as long as the client. A job that is
    /// [`BLOCKING`](Job::BLOCKING) runs on a thread where that harms nobody.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # use gusher::store::sqlite::{Options, SqliteStore};
    /// # #[derive(Serialize, Deserialize)] struct Greet { whom: String }
    /// # impl Job for Greet { const NAME: &str = "Greet"; type Output = String; type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<String> { Ok(format!("Hello, {}!", self.whom)) } }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> gusher::Result<()> {
    /// # let client = App::stateless().client_on(std::sync::Arc::new(SqliteStore::open(Options::in_memory())?));
    /// let greeting = client.perform_now(Greet { whom: "Ada".into() }).await?;
    /// assert_eq!(greeting, "Hello, Ada!");
    /// # Ok(()) }
    /// ```
    pub async fn perform_now<J: Job>(&self, job: J) -> JobResult<J::Output> {
        let surroundings = self.home().surroundings::<J>().await?;
        let place = JobId { lane: WorkflowId::new(self.store().now(), self.store().next_shard()), index: 0 };
        Now { client: self.clone(), surroundings, place, told: CancellationToken::new() }.perform(job).await
    }

    /// The same of a lone job that has a place in its lane already.
    pub(crate) async fn perform_at<J: Job>(&self, place: JobId, job: J) -> JobResult<J::Output> {
        let surroundings = self.home().surroundings::<J>().await?;
        Now { client: self.clone(), surroundings, place, told: CancellationToken::new() }.perform(job).await
    }
}

impl<S: Send + Sync + 'static> Context<S> {
    /// Performs another job within this one, as [`Client::perform_now`] does, with the same state: an attempt of its own, with its own
    /// idempotency key, hooks and time limit. It is told to stop when this one is.
    pub async fn perform_now<J: Job<State = S>>(&self, job: J) -> JobResult<J::Output> {
        let client = self.client().clone();
        let place = JobId { lane: WorkflowId::new(client.store().now(), client.store().next_shard()), index: 0 };
        let told = self.cancellation().child_token();
        Now { client, surroundings: self.surroundings().clone(), place, told }.perform(job).await
    }
}

/// What a job is performed in.
struct Now<S> {
    client: Client,
    surroundings: Arc<Surroundings<S>>,
    /// Which job it is: of a workflow that no store knows, or of a lane.
    place: JobId,
    /// Cancelled when it is to come to its end.
    told: CancellationToken,
}

impl<S: Send + Sync + 'static> Now<S> {
    /// In a box, so that a job may perform others of its own type.
    fn perform<J: Job<State = S>>(self, job: J) -> BoxFuture<'static, JobResult<J::Output>> {
        // In a simulation everything runs in one thread.
        if !J::BLOCKING || self.client.watcher().is_some() {
            return Box::pin(self.here(job));
        }
        Box::pin(async move {
            // A caller who does not wait any more leaves it behind on its thread, but told.
            let told = self.told.clone().drop_guard();
            let runtime = tokio::runtime::Handle::current();
            let ended = tokio::task::spawn_blocking(move || runtime.block_on(self.here(job))).await?;
            told.disarm();
            ended
        })
    }

    async fn here<J: Job<State = S>>(self, job: J) -> JobResult<J::Output> {
        let watcher = self.client.watcher().cloned();
        let held = self.held::<J>();
        let taken = Taken { at: 0, attempt: 1 };
        if let Some(watcher) = &watcher {
            watch::start(&**watcher, &held, taken).await;
        }
        let ctx = context(&self.surroundings, &held, taken);
        let started = held.store.now();
        let work = perform(job, &ctx);
        let end = attempt(&held, &ctx, J::TIMEOUT, work).instrument(span(&held, taken)).await;
        let finished = held.store.now();
        let ended =
            Ended { at: 0, attempt: 1, started, finished, end, logs: ctx.into_logs(), written: Written::default() };
        if let Some(watcher) = &watcher {
            watcher.ended(&held, &ended);
        }
        match ended.end {
            End::Succeeded(output) => Ok(decode_output(held.slice.first, &output)?),
            End::Failed(error) => Err(error),
            End::Cancelled | End::Stopped => Err(JobError::stopped()),
        }
    }

    /// A slice of this one job in the hands of a worker that claims and reports nothing.
    fn held<J: Job>(&self) -> Arc<Held> {
        /// Tells apart what is performed in this process.
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let lease = self.client.store().lease();
        let mut hub = Hub::new(
            self.client.clone(),
            SessionId::random(),
            lease,
            1,
            self.client.watcher().cloned(),
            CancellationToken::new(),
        );
        hub.stopped = self.told.clone();
        let slice = Slice {
            lease: NUMBER.fetch_add(1, Ordering::Relaxed),
            workflow: self.place.lane,
            workflow_name: J::NAME.to_owned(),
            step: 0,
            step_name: J::NAME.to_owned(),
            job_type: J::NAME.to_owned(),
            queue: None,
            options: StepOptions::default(),
            generation: 0,
            feeds: None,
            chunk: ChunkRef::NONE,
            first: self.place.index,
            jobs: Mask::range(0..1),
            attempts: Vec::new(),
            suspect: false,
            limited: false,
            priority: 0,
            parameters: None,
        };
        Arc::new(Held::new(slice, Arc::new(hub), u64::MAX))
    }
}
