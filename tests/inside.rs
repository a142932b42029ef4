//! What a job does with workflows from inside.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::testing::{Simulation, torture};
use gusher::{WorkflowId, WorkflowState};
use support::House;
use support::act::{Act, Shared, Stage, act};

/// A workflow of one job, which another workflow's job starts.
#[derive(Serialize, Deserialize)]
struct Child {
    name: String,
}

impl Workflow for Child {
    const NAME: &str = "Child";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(act(&self.name, "ok"));
        Ok(())
    }
}

/// Starts children and then fails, so often.
#[derive(Serialize, Deserialize)]
struct Parent {
    children: Vec<String>,
    failures: u32,
}

impl Job for Parent {
    const NAME: &str = "Parent";
    const RETRY: Retry = Retry::every(Duration::from_millis(1)).attempts(9);
    type Output = Vec<WorkflowId>;
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<Vec<WorkflowId>> {
        let mut started = Vec::new();
        for name in self.children {
            started.push(ctx.start(Child { name: name.clone() }).once(&name).await?.id());
        }
        if ctx.attempt() <= self.failures { Err(JobError::new("not yet")) } else { Ok(started) }
    }
}

/// Tells how many children there are.
#[derive(Serialize, Deserialize)]
struct Census;

impl Job for Census {
    const NAME: &str = "Census";
    type Output = usize;
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<usize> {
        Ok(ctx.client().workflows().of::<Child>().page(100).await?.len())
    }
}

/// Deletes every child that has finished.
#[derive(Serialize, Deserialize)]
struct TidyUp;

impl Job for TidyUp {
    const NAME: &str = "TidyUp";
    type Output = usize;
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<usize> {
        let finished: Vec<_> =
            ctx.client().workflows().of::<Child>().state(WorkflowState::Succeeded).stream().try_collect().await?;
        for child in &finished {
            ctx.client().find(child.id).await?.delete().await?;
        }
        Ok(finished.len())
    }
}

#[derive(Serialize, Deserialize)]
struct Family {
    children: Vec<String>,
    failures: u32,
}

impl Workflow for Family {
    const NAME: &str = "Family";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let parent = flow.run(Parent { children: self.children.clone(), failures: self.failures });
        flow.run(Census).after(parent);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Cleaning;

impl Workflow for Cleaning {
    const NAME: &str = "Cleaning";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(TidyUp);
        Ok(())
    }
}

fn app(stage: &Shared) -> App<Shared> {
    let stage = stage.clone();
    App::new(move || std::future::ready(Ok::<_, std::convert::Infallible>(stage.clone())))
        .workflow::<Family>()
        .workflow::<Child>()
        .workflow::<Cleaning>()
        .job::<Parent>()
        .job::<Census>()
        .job::<TidyUp>()
        .job::<Act>()
}

fn two() -> Vec<String> {
    vec!["one".into(), "other".into()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_tried_again_starts_each_workflow_once() {
    let stage = Stage::new();
    let (house, app) = (House::new(), app(&stage));
    let (client, worker) = (house.client(&app), house.worker(&app).await);
    let run = client.start(Family { children: two(), failures: 3 }).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    let told: Vec<WorkflowId> =
        serde_json::from_str(run.job("Parent", 0).await.unwrap().output.unwrap().get()).unwrap();
    for id in &told {
        assert_eq!(client.find(*id).await.unwrap().wait().await.unwrap().state, WorkflowState::Succeeded);
    }
    let children: Vec<_> = client.workflows().of::<Child>().stream().try_collect().await.unwrap();
    let (mut found, mut told) = (children.iter().map(|child| child.id).collect::<Vec<_>>(), told);
    found.sort_unstable();
    told.sort_unstable();
    assert_eq!(found, told);
    let mut ran = stage.ran();
    ran.sort_unstable();
    assert_eq!(ran, two());

    let another = client.start(Family { children: two(), failures: 0 }).await.unwrap();
    another.wait().await.unwrap();
    assert_eq!(client.workflows().of::<Child>().page(9).await.unwrap().len(), 4, "another parent has its own");
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managing_job_lists_and_deletes_workflows() {
    let (house, app) = (House::new(), app(&Stage::new()));
    let (client, worker) = (house.client(&app), house.worker(&app).await);
    for name in two() {
        client.start(Child { name }).await.unwrap().wait().await.unwrap();
    }
    let run = client.start(Cleaning).await.unwrap();
    run.wait().await.unwrap();
    assert_eq!(run.job("TidyUp", 0).await.unwrap().output.unwrap().get(), "2");
    assert_eq!(client.workflows().of::<Child>().page(9).await.unwrap().len(), 0);
    worker.stop().await;
    house.check().await;
}

/// Killed at each call to the store, those of the creations included, with each answer lost and each job run twice: the census, whose
/// output must be the same each time, counts two.
#[test]
fn starting_a_workflow_once_is_safe_to_repeat() {
    let report = torture(Stage::new, app, |_| ()).run(Family { children: two(), failures: 1 }).unwrap();
    assert!(report.is_safe(), "{report}");
}

/// Counts.
#[derive(Serialize, Deserialize)]
struct Count;

impl Job for Count {
    const NAME: &str = "Count";
    type Output = ();
    type State = Arc<AtomicU32>;

    async fn perform(self, ctx: &Context<Arc<AtomicU32>>) -> JobResult<()> {
        ctx.state().fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Enqueues a job and waits for it.
#[derive(Serialize, Deserialize)]
struct Ask;

impl Job for Ask {
    const NAME: &str = "Ask";
    type Output = ();
    type State = Arc<AtomicU32>;

    async fn perform(self, ctx: &Context<Arc<AtomicU32>>) -> JobResult<()> {
        Ok(ctx.enqueue(Count).await?.wait().await?)
    }
}

#[derive(Serialize, Deserialize)]
struct Asking;

impl Workflow for Asking {
    const NAME: &str = "Asking";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(Ask);
        Ok(())
    }
}

#[test]
fn a_lone_job_of_a_simulated_job_runs_beside_the_workflow() {
    let counter = Arc::new(AtomicU32::new(0));
    let shared = counter.clone();
    let app = App::new(move || std::future::ready(Ok::<_, std::convert::Infallible>(shared.clone())));
    let run = Simulation::new(app.job::<Ask>().job::<Count>()).run(Asking).unwrap();
    assert_eq!((run.state(), run.ran("Ask"), run.ran("Count")), (WorkflowState::Succeeded, 1, 1));
    assert_eq!(counter.load(Ordering::SeqCst), 1);
}
