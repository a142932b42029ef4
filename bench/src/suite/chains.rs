//! Rows of many files that go through three stages each, then a report; beside as many plain rows as there are jobs in the stages.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gusher::WorkflowState;
use gusher::prelude::*;
use gusher::store::Store;

use super::announce;
use super::scene::{Scene, Working};
use super::sizes::Sizes;
use super::table::Row;
use crate::cost::Worst;
use crate::figures::thousands;
use crate::machine::peak_memory;
use crate::place::Place;

/// Rows of each file.
const ROWS: u64 = 1_000;
const STAGES: u64 = 3;
const SLOTS: u32 = 8;
/// So many times as long as as many plain rows the chain may take.
const FACTOR: f64 = 5.0;

/// A file of the import.
#[derive(Serialize, Deserialize)]
struct File {
    number: u64,
}

impl Source for File {
    const NAME: &str = "File";
    type Emits = First;
    type State = ();

    async fn produce(self, _: &Context, rows: &mut Emitter<First>) -> JobResult<()> {
        for row in 0..ROWS {
            rows.emit(First { row: self.number * ROWS + row }).await?;
        }
        Ok(())
    }
}

/// The stages: each returns what the next one goes on with.
macro_rules! stages {
    ($($stage:ident)+) => {$(
        #[derive(Serialize, Deserialize)]
        struct $stage {
            row: u64,
        }

        impl Job for $stage {
            const NAME: &str = stringify!($stage);
            type Output = u64;
            type State = ();

            async fn perform(self, _: &Context) -> JobResult<u64> {
                Ok(self.row)
            }
        }
    )+};
}
stages!(First Second Third Report);

impl Follows<First> for Second {
    fn follow(before: First, _: u64) -> Self {
        Second { row: before.row }
    }
}

impl Follows<Second> for Third {
    fn follow(_: Second, row: u64) -> Self {
        Third { row }
    }
}

/// Rows of files, and two stages behind each.
#[derive(Serialize, Deserialize)]
struct Chained {
    files: u64,
}

impl Workflow for Chained {
    const NAME: &str = "Chained";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand_each((0..self.files).map(|number| File { number }));
        let done = rows.each_then::<Second>().each_then::<Third>();
        flow.run(Report { row: 0 }).after(done);
        Ok(())
    }
}

/// As many rows as the chain has jobs.
#[derive(Serialize, Deserialize)]
struct Plain {
    files: u64,
}

impl Workflow for Plain {
    const NAME: &str = "Plain";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand_each((0..self.files).map(|number| File { number }));
        flow.run(Report { row: 0 }).after(rows);
        Ok(())
    }
}

fn app() -> App {
    let app = App::stateless().source::<File>().job::<First>().job::<Second>().job::<Third>().job::<Report>();
    app.follows::<Second, First>().follows::<Third, Second>()
}

/// Runs a workflow to its end; returns the seconds from its start.
async fn run(store: &Arc<dyn Store>, workflow: impl Workflow) -> Result<f64> {
    let app = app();
    let working = Working::start(&app, store.clone(), SLOTS).await?;
    let started = Instant::now();
    let handle = app.client_on(store.clone()).start(workflow).await?;
    ensure!(handle.wait().await?.state == WorkflowState::Succeeded, "nothing fails");
    let seconds = started.elapsed().as_secs_f64();
    working.stop().await?;
    Ok(seconds)
}

/// What all operations have cost so far, with what they did inside of a script.
fn calls_of(store: &Arc<dyn Store>) -> u64 {
    store.meters().by_verb().values().map(|verb| verb.sum.calls).sum()
}

async fn beside(name: &str, store: Arc<dyn Store>, files: u64, worst: &mut Worst) -> Result<Row> {
    announce(&format!("{} rows in a chain of {STAGES} on {name}", thousands(files * ROWS)));
    let plain = run(&store, Plain { files: files * STAGES }).await?;
    let before = peak_memory().unwrap_or(0);
    let calls_before = calls_of(&store);
    let chained = run(&store, Chained { files }).await?;
    let calls = calls_of(&store) - calls_before;
    let grown = peak_memory().unwrap_or(0).saturating_sub(before) / (1024 * 1024);
    worst.take_in(Worst::of(store.meters()));
    let jobs = files * ROWS * STAGES;
    let a_job = calls as f64 / jobs as f64;
    let times = chained / plain;
    Ok(Row::judged(
        format!("{name}: {} files × {} rows × a chain of {STAGES}, then a report", thousands(files), thousands(ROWS)),
        format!("≤ {FACTOR} × {} plain rows, ≤ 0.10 commands a job, memory flat", thousands(jobs)),
        format!("{times:.2} × ({chained:.1} s against {plain:.1} s), {a_job:.3} commands a job, {grown} MB more"),
        times <= FACTOR && a_job <= 0.10 && grown < 150,
    ))
}

/// Measures on a fresh SQLite store in `folder`.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    let scene = Scene::new(folder, Duration::from_secs(15)).await?;
    beside("SQLite", scene.store.clone(), sizes.big / ROWS, worst).await
}

/// The same on Redis.
pub async fn measure_redis(sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    let place = Place::named("redis", None)?;
    let store = gusher::store::open(place.fresh()?).await.context("the Redis server of this scene")?;
    beside("Redis", store, sizes.big / ROWS, worst).await
}
