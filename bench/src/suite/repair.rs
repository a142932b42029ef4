//! A large step of which every tenth row has failed, and is retried: only those run again, and nothing settles before all of them have.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
use crate::place::Place;

/// One row of so many fails.
const ONE_IN: u64 = 10;
const SLOTS: u32 = 8;
/// So many times as long as the first run of all rows the retry may take. Every chunk has some that failed, and is opened, claimed and reported:
/// that is most of what a Redis server does.
const ON_SQLITE: f64 = 0.5;
const ON_REDIS: f64 = 2.0;

/// What the rows meet.
#[derive(Debug, Default)]
struct World {
    is_mended: AtomicBool,
    performed: AtomicU64,
    /// How many rows had run when what waits for all of them ran.
    performed_before_end: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct Numbered {
    row: u64,
}

impl Job for Numbered {
    const NAME: &str = "Numbered";
    type Output = ();
    type State = Arc<World>;

    async fn perform(self, ctx: &Context<Arc<World>>) -> JobResult<()> {
        let world = ctx.state();
        world.performed.fetch_add(1, Ordering::Relaxed);
        match self.row % ONE_IN {
            0 if !world.is_mended.load(Ordering::Relaxed) => Err(JobError::fatal("the world is broken")),
            _ => Ok(()),
        }
    }
}

/// What comes behind the rows.
#[derive(Serialize, Deserialize)]
struct End;

impl Job for End {
    const NAME: &str = "End";
    type Output = ();
    type State = Arc<World>;

    async fn perform(self, ctx: &Context<Arc<World>>) -> JobResult<()> {
        let world = ctx.state();
        world.performed_before_end.store(world.performed.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Numbers {
    rows: u64,
}

impl Workflow for Numbers {
    const NAME: &str = "Numbers";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run_each((0..self.rows).map(|row| Numbered { row }));
        flow.run(End).after(rows);
        Ok(())
    }
}

async fn on(name: &str, store: Arc<dyn Store>, rows: u64, most: f64, worst: &mut Worst) -> Result<Row> {
    announce(&format!("a retry of every tenth row on {name}"));
    let world = Arc::new(World::default());
    let state = world.clone();
    let app =
        App::new(move || std::future::ready(Ok::<_, std::io::Error>(state.clone()))).job::<Numbered>().job::<End>();
    let handle = app.client_on(store.clone()).start(Numbers { rows }).await?;

    let started = Instant::now();
    let working = Working::start(&app, store.clone(), SLOTS).await?;
    ensure!(handle.wait().await?.state == WorkflowState::Failed, "every tenth row must fail at first");
    let first_s = started.elapsed().as_secs_f64();

    world.is_mended.store(true, Ordering::Relaxed);
    world.performed.store(0, Ordering::Relaxed);
    let started = Instant::now();
    let failed = handle.retry_failed(None).await?;
    ensure!(handle.wait().await?.state == WorkflowState::Succeeded, "nothing fails any more");
    let retry_s = started.elapsed().as_secs_f64();
    working.stop().await?;
    worst.take_in(Worst::of(store.meters()));

    let ran = world.performed.load(Ordering::Relaxed);
    let before_the_end = world.performed_before_end.load(Ordering::Relaxed);
    let within =
        (ran, before_the_end) == (failed, failed) && failed == rows.div_ceil(ONE_IN) && retry_s <= most * first_s;
    let what = format!("{name}: {} failed of {} rows are retried", thousands(failed), thousands(rows));
    let budget = format!("those and no other, then the end; ≤ {most} × the first run");
    let measured = format!("{} jobs ran in {retry_s:.1} s, all before in {first_s:.1} s", thousands(ran));
    Ok(Row::judged(what, budget, measured, within))
}

/// Measures on a fresh SQLite store in `folder`.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    let scene = Scene::new(folder, Duration::from_secs(15)).await?;
    on("SQLite", scene.store.clone(), sizes.big, ON_SQLITE, worst).await
}

/// The same on Redis.
pub async fn measure_redis(sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    let place = Place::named("redis", None)?;
    let store = gusher::store::open(place.fresh()?).await.context("the Redis server of this scene")?;
    on("Redis", store, sizes.big, ON_REDIS, worst).await
}
