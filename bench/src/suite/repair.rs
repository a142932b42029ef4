//! A large step of which every tenth row has failed, and is retried: only those run again, and nothing settles before all of them have.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gusher::WorkflowState;
use gusher::prelude::*;

use super::announce;
use super::scene::{Scene, Working};
use super::sizes::Sizes;
use super::table::Row;
use crate::cost::Worst;
use crate::figures::thousands;

/// One row of so many fails.
const ONE_IN: u64 = 10;
const SLOTS: u32 = 8;
/// So much longer a retried row may take than one of the first run: its parameters are read in chunks of which it is a tenth.
const FACTOR: f64 = 5.0;

/// What the rows meet.
#[derive(Debug, Default)]
struct World {
    is_mended: AtomicBool,
    performed: AtomicU64,
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

#[derive(Serialize, Deserialize)]
struct Numbers {
    rows: u64,
}

impl Workflow for Numbers {
    const NAME: &str = "Numbers";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run_each((0..self.rows).map(|row| Numbered { row }));
        flow.run(Numbered { row: 1 }).named("end").after(rows);
        Ok(())
    }
}

/// Measures, on a fresh store in `folder`.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    announce("a retry of every tenth row");
    let scene = Scene::new(folder, Duration::from_secs(15)).await?;
    let world = Arc::new(World::default());
    let state = world.clone();
    let app = App::new(move || std::future::ready(Ok::<_, std::io::Error>(state.clone()))).job::<Numbered>();
    let handle = app.client_on(scene.store.clone()).start(Numbers { rows: sizes.big }).await?;

    let started = Instant::now();
    let working = Working::start(&app, scene.store.clone(), SLOTS).await?;
    ensure!(handle.wait().await?.state == WorkflowState::Failed, "every tenth row must fail at first");
    let first_s = started.elapsed().as_secs_f64();

    world.is_mended.store(true, Ordering::Relaxed);
    world.performed.store(0, Ordering::Relaxed);
    let started = Instant::now();
    let failed = handle.retry_failed(None).await?;
    ensure!(handle.wait().await?.state == WorkflowState::Succeeded, "nothing fails any more");
    let retry_s = started.elapsed().as_secs_f64();
    working.stop().await?;
    scene.add_to(worst);

    // The last one is what comes behind the rows.
    let ran = world.performed.load(Ordering::Relaxed);
    let within =
        ran == failed + 1 && failed == sizes.big.div_ceil(ONE_IN) && retry_s * ONE_IN as f64 <= FACTOR * first_s;
    let what = format!("{} failed of {} rows are retried", thousands(failed), thousands(sizes.big));
    let budget = format!("those and no other; ≤ {FACTOR} × the time a row of the first run");
    let measured = format!("{} jobs ran in {retry_s:.1} s, all before in {first_s:.1} s", thousands(ran));
    Ok(Row::judged(what, budget, measured, within))
}
