//! What real workers do with steps of which too many jobs fail: on a file and on a Redis server.

#[macro_use]
#[path = "support/place.rs"]
mod place;
#[path = "servers/mod.rs"]
mod servers;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gusher::prelude::*;
use gusher::{CancellationToken, FailurePolicy, Handle, JobState, WorkerOptions, WorkflowState};
use place::Place;
use support::until::until;
use tokio::sync::Notify;

/// What the rows meet.
#[derive(Default)]
struct World {
    is_mended: AtomicBool,
    /// Told once row 0 runs.
    started: Notify,
}

/// Until the world is mended row 0 runs until it is told to stop, row 1 fails once row 0 runs, and so do all from 10,000 on.
#[derive(Serialize, Deserialize)]
struct Row(u32);

impl Job for Row {
    const NAME: &str = "Row";
    const RETRY: Retry = Retry::never();
    type Output = ();
    type State = Arc<World>;
    async fn perform(self, ctx: &Context<Arc<World>>) -> JobResult<()> {
        let world = ctx.state();
        match self.0 {
            _ if world.is_mended.load(Ordering::SeqCst) => Ok(()),
            0 => {
                world.started.notify_one();
                ctx.cancellation().cancelled().await;
                Ok(())
            }
            1 => {
                world.started.notified().await;
                Err(JobError::fatal("the world is broken"))
            }
            n if n >= 10_000 => Err(JobError::fatal("too large a number")),
            _ => Ok(()),
        }
    }
}

/// The rows from `from` to `to`, of which one may fail.
#[derive(Serialize, Deserialize)]
struct Rows {
    from: u32,
    to: u32,
    policy: FailurePolicy,
}

impl Workflow for Rows {
    const NAME: &str = "Rows";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        // Few run at once, so that a few failures find most of the step still to come.
        let rows = flow.run_each((self.from..self.to).map(Row)).named("rows").max_in_flight(2);
        match self.policy {
            FailurePolicy::FailFast => drop(rows.fail_fast()),
            FailurePolicy::Pause => drop(rows.tolerate(1).or_pause()),
            FailurePolicy::RunOn => drop(rows.fail_fast().or_pause()),
        }
        Ok(())
    }
}

/// The rows from `from` to `to`, all of which run.
#[derive(Serialize, Deserialize)]
struct AllRows {
    from: u32,
    to: u32,
}

impl Workflow for AllRows {
    const NAME: &str = "AllRows";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((self.from..self.to).map(Row)).named("rows");
        Ok(())
    }
}

/// A client on a store, and a worker that stops with this.
struct Play {
    place: Place,
    world: Arc<World>,
    client: Client,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<gusher::Result<()>>,
}

impl Play {
    async fn new(place: Place) -> Self {
        let world = Arc::new(World::default());
        let shared = world.clone();
        let app = App::new(move || std::future::ready(Ok::<_, std::io::Error>(shared.clone())));
        let app = app.workflow::<Rows>().workflow::<AllRows>().job::<Row>();
        let client = app.client_on(place.store.clone());
        let options = WorkerOptions { slots: 2, ..WorkerOptions::default() };
        let worker = app.worker_on(place.store.clone(), options).await.unwrap();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        Self { place, world, client, stop, worker }
    }

    async fn close(self) {
        self.stop.cancel();
        self.worker.await.unwrap().unwrap();
        self.place.check_at_rest().await;
    }
}

/// Waits until the step has paused.
async fn pauses(workflow: &Handle) {
    until(async || workflow.step("rows").await.unwrap().is_paused().then_some(())).await;
}

on_both! { Play::new, on Redis with 3 shard(s):
    a_job_that_runs_is_told_when_its_step_fails_fast_and_a_retry_runs_the_rest()
    a_paused_step_says_so_and_goes_on_when_somebody_resumes_it()
    a_step_that_is_to_fail_fast_and_to_pause_is_refused()
    what_failed_in_a_certain_way_runs_again_alone()
}

async fn what_failed_in_a_certain_way_runs_again_alone(play: Play) {
    let workflow = play.client.start(AllRows { from: 9_000, to: 12_000 }).await.unwrap();
    assert_eq!(workflow.wait().await.unwrap().jobs.failed, 2_000);
    let with = |text: &'static str| {
        let is_odd = |json: &str| json.ends_with(['1', '3', '5', '7', '9']);
        workflow.retry_failed(None).only(move |failure| failure.error.contains(text) && is_odd(failure.params.get()))
    };
    assert_eq!(with("not a number").preview().await.unwrap().jobs(), 0);
    assert_eq!(with("not a number").await.unwrap(), 0);
    assert_eq!(workflow.status().await.unwrap().state, WorkflowState::Failed, "nothing has been touched");

    play.world.is_mended.store(true, Ordering::SeqCst);
    assert_eq!(with("too large").preview().await.unwrap().jobs(), 1_000);
    assert_eq!(with("too large").await.unwrap(), 1_000);
    let done = workflow.wait().await.unwrap();
    assert_eq!((done.state, done.jobs.succeeded, done.jobs.failed), (WorkflowState::Failed, 2_000, 1_000));
    assert_eq!(workflow.job("rows", 1_001).await.unwrap().state, JobState::Succeeded);
    assert_eq!(workflow.job("rows", 1_002).await.unwrap().state, JobState::Failed);
    play.close().await;
}

async fn a_job_that_runs_is_told_when_its_step_fails_fast_and_a_retry_runs_the_rest(play: Play) {
    let rows = Rows { from: 0, to: 500, policy: FailurePolicy::FailFast };
    let workflow = play.client.start(rows).await.unwrap();
    let done = workflow.wait().await.unwrap();
    assert_eq!((done.state, done.jobs.failed, done.jobs.unsettled()), (WorkflowState::Failed, 1, 0));
    let first = workflow.job("rows", 0).await.unwrap();
    assert_eq!(first.state, JobState::Succeeded, "it was told, and what it came to counts");
    assert_eq!(done.jobs.cancelled, 498);
    let why = workflow.why().await.unwrap();
    assert!(why.causes[0].text.contains("it failed fast: "), "{why:?}");

    play.world.is_mended.store(true, Ordering::SeqCst);
    assert_eq!(workflow.retry_failed(None).await.unwrap(), 1);
    let done = workflow.wait().await.unwrap();
    assert_eq!((done.state, done.jobs.succeeded), (WorkflowState::Succeeded, 500));
    play.close().await;
}

async fn a_paused_step_says_so_and_goes_on_when_somebody_resumes_it(play: Play) {
    let rows = Rows { from: 10_000, to: 10_100, policy: FailurePolicy::Pause };
    let workflow = play.client.start(rows).await.unwrap();
    pauses(&workflow).await;
    let status = workflow.status().await.unwrap();
    assert_eq!((status.state, status.steps[0].paused), (WorkflowState::Running, true));
    let why = workflow.why().await.unwrap();
    assert!(why.causes[0].text.contains(&format!("`resume {} rows` lets it go on", workflow.id())), "{why:?}");
    assert_eq!(workflow.why_step("rows").await.unwrap().summary, "`rows` is paused");

    assert!(workflow.resume_step("rows").await.unwrap());
    pauses(&workflow).await;
    play.world.is_mended.store(true, Ordering::SeqCst);
    workflow.retry_failed(Some("rows")).await.unwrap();
    assert_eq!(workflow.wait().await.unwrap().state, WorkflowState::Succeeded);
    play.close().await;
}

async fn a_step_that_is_to_fail_fast_and_to_pause_is_refused(play: Play) {
    let rows = Rows { from: 0, to: 1, policy: FailurePolicy::RunOn };
    let error = play.client.start(rows).await.unwrap_err().to_string();
    assert!(
        error.contains("step `rows` is told both `.fail_fast()` and `.or_pause()`; say the one that is meant"),
        "{error}"
    );
    play.close().await;
}
