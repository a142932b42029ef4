//! Whole workflows in one process: what a user writes, and what comes out.

mod support;

use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use gusher::WorkflowState;
use gusher::prelude::*;
use gusher::store::Store;
use support::House;

/// What the jobs of a test share: what ran, in order.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
}

type Shared = std::sync::Arc<Log>;

#[derive(Serialize, Deserialize)]
struct Emit {
    rows: u64,
}
impl Source for Emit {
    const NAME: &str = "Emit";
    type Emits = Row;
    type State = Shared;
    async fn produce(self, _: &Context<Shared>, rows: &mut Emitter<Row>) -> JobResult<()> {
        for n in 0..self.rows {
            rows.emit(Row { n }).await?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Row {
    n: u64,
}
impl Job for Row {
    const NAME: &str = "Row";
    type Output = u64;
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<u64> {
        Ok(self.n * 2)
    }
}

#[derive(Serialize, Deserialize)]
struct Sum {
    rows: Outputs<u64>,
}
impl Job for Sum {
    const NAME: &str = "Sum";
    type Output = u64;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<u64> {
        let sum = self.rows.stream(ctx).try_fold(0, |sum, (_, n)| async move { Ok(sum + n) }).await?;
        ctx.state().add(format!("sum {sum}"));
        Ok(sum)
    }
}

#[derive(Serialize, Deserialize)]
struct Import {
    rows: u64,
}
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(Emit { rows: self.rows });
        flow.run(Sum { rows: rows.outputs() });
        Ok(())
    }
}

fn app() -> App<Shared> {
    App::new(|| async { Ok::<_, std::io::Error>(Shared::default()) })
        .workflow::<Import>()
        .source::<Emit>()
        .job::<Row>()
        .job::<Sum>()
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_can_be_started_and_waited_for_in_tasks_of_their_own() {
    let (house, app) = (House::new(), app());
    let worker = house.worker(&app).await;
    let client = Arc::new(house.client(&app));
    let tasks = (1..4).map(|rows| {
        let client = client.clone();
        tokio::spawn(async move { client.start(Import { rows }).await?.wait().await })
    });
    for (task, rows) in tasks.collect::<Vec<_>>().into_iter().zip(1..4) {
        assert_eq!(task.await.unwrap().unwrap().jobs.succeeded, rows + 2);
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_over_a_sources_rows_runs_once_after_all_of_them() {
    let (house, app) = (House::new(), app());
    let worker = house.worker(&app).await;
    let rows = std::env::var("ROWS").map_or(10_000, |n| n.parse().unwrap());
    let started = std::time::Instant::now();
    let import = house.client(&app).start(Import { rows }).await.unwrap();
    let done = import.wait().await.unwrap();
    eprintln!("{rows} rows took {:?}, {} commits", started.elapsed(), house.store.meters().commits());
    assert_eq!(done.state, WorkflowState::Succeeded);
    assert_eq!(done.jobs.succeeded, rows + 2);
    assert_eq!(import.job("Sum", 0).await.unwrap().output.unwrap().get(), (rows * (rows - 1)).to_string());
    worker.stop().await;
    for (verb, cost) in house.store.meters().by_verb() {
        eprintln!("{verb}: {cost:?}");
    }
    house.check().await;
}
