//! A workflow of three jobs, one after another, beside a large import on the same worker. One is started every 20 ms, whether those
//! before it have ended or not. Who starts them opens the file for itself, as another process would.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use gusher::prelude::*;
use gusher::store::Store;
use gusher::{Handle, Millis};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::announce;
use super::scene::{Scene, WorkingApart};
use super::sizes::Sizes;
use super::table::Row;
use crate::cost::Worst;
use crate::figures::thousands;

/// How long each row of the import computes.
const SPIN: Duration = Duration::from_micros(20);
/// From the start of one small workflow to that of the next.
const PACE: Duration = Duration::from_millis(20);

#[derive(Serialize, Deserialize)]
struct Spin {
    row: u64,
}

impl Job for Spin {
    const NAME: &str = "Spin";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        let started = Instant::now();
        while started.elapsed() < SPIN {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Backlog {
    rows: u64,
}

impl Workflow for Backlog {
    const NAME: &str = "Backlog";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..self.rows).map(|row| Spin { row }));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Small;

impl Job for Small {
    const NAME: &str = "Small";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Three;

impl Workflow for Three {
    const NAME: &str = "Three";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let first = flow.run(Small).named("first");
        let second = flow.run(Small).named("second").after(first);
        flow.run(Small).named("third").after(second);
        Ok(())
    }
}

/// Measures.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    announce("small workflows beside an import");
    let scene = Scene::new(folder, Duration::from_secs(15)).await?;
    let app = || App::stateless().job::<Spin>().job::<Small>();
    let import = app().client_on(scene.store.clone()).start(Backlog { rows: sizes.big }).await?;
    let starter = scene.opened_again()?;
    let client = app().client_on(starter.clone());

    let worker = WorkingApart::start(app(), scene.store.clone(), 8);
    let mut starts = JoinSet::new();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !import.status_with(0).await?.state.is_finished() {
        pace.tick().await;
        let (client, store) = (client.clone(), starter.clone());
        starts.spawn(async move {
            let started_at = store.now();
            client.start(Three).await.map(|handle| (started_at, handle))
        });
    }
    let mut times: Vec<Millis> = Vec::new();
    while let Some(started) = starts.join_next().await {
        let (started_at, handle): (Millis, Handle) = started??;
        let finished_at = handle.wait().await?.finished_at.unwrap_or(Millis::MAX);
        times.push(finished_at - started_at);
    }
    worker.stop().await?;
    scene.add_to(worst);
    worst.take_in(Worst::of(starter.meters()));

    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).ceil() as usize];
    let measured = format!(
        "p99 {} ms, median {} ms, longest {} ms, of {} started in turn",
        at(0.99),
        at(0.5),
        at(1.0),
        times.len()
    );
    let what = format!(
        "a 3-job workflow beside an import of {}, one worker, 8 slots, started elsewhere",
        thousands(sizes.big)
    );
    Ok(Row::judged(what, "p99 start to end ≤ 500 ms", measured, at(0.99) <= 500))
}
