//! A hundred thousand finished workflows, and one of ten million jobs, are pruned while a worker runs others: what that costs those, and what
//! is left in the store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use gusher::prelude::*;
use gusher::{WorkerOptions, WorkflowState};

use super::announce;
use super::scene::WorkingApart;
use super::sizes::Sizes;
use super::table::Row;
use crate::cost::Worst;
use crate::figures::thousands;
use crate::place::{Place, bytes_of_its_own, is_redis, stored_bytes};
use crate::rows::{RowKind, payments};
use crate::workload::{Import, Shared, app};

/// How many are started at once.
const AT_ONCE: usize = 64;
/// Rows of each of the workflows that run meanwhile.
const ROWS: u64 = 100_000;
/// How long the others run before anything is pruned.
const QUIET: Duration = Duration::from_secs(20);

/// One job.
#[derive(Serialize, Deserialize)]
struct Small;

#[derive(Serialize, Deserialize)]
struct Mail(u64);

impl Job for Mail {
    const NAME: &str = "Mail";
    type Output = ();
    type State = Shared;

    async fn perform(self, _: &Context<Shared>) -> JobResult<()> {
        Ok(())
    }
}

impl Workflow for Small {
    const NAME: &str = "Small";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(Mail(7));
        Ok(())
    }
}

/// Measures on a file and on a Redis server of its own.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (store, folder) in [("sqlite", folder), ("redis", None)] {
        rows.push(measure_on(&Place::named(store, folder)?, sizes, worst).await?);
    }
    Ok(rows)
}

/// What runs meanwhile.
#[derive(Serialize, Deserialize)]
struct Other;

impl Workflow for Other {
    const NAME: &str = "Other";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each(payments(ROWS));
        Ok(())
    }
}

fn known() -> App<Shared> {
    app(RowKind::E, false, &Shared::default()).job::<Mail>().workflow::<Small>().workflow::<Other>()
}

async fn measure_on(place: &Place, sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    let url = place.fresh()?.to_owned();
    let name = if is_redis(&url) { "Redis" } else { "SQLite" };
    let (small, huge) = (sizes.huge / 100, sizes.huge);
    announce(&format!("pruning {} workflows and one of {} jobs on {name}", thousands(small), thousands(huge)));
    let store = gusher::store::open(&url).await?;
    let client = known().client_on(store.clone());
    // A tenth first, which is gone again: what a store keeps of the types that ran, and of its counters, is there before. A worker has rows
    // of its own as long as it is there, so both times the store is looked at without one.
    let worker = WorkingApart::start(known(), store.clone(), WorkerOptions::default().slots);
    run(&client, small / 10, huge / 10).await?;
    prune(&client).await?;
    run_other(&client).await?;
    until_all_is_gone(&client, &url).await?;
    worker.stop().await?;
    let before = bytes_of_its_own(&url)?;

    let worker = WorkingApart::start(known(), store.clone(), WorkerOptions::default().slots);
    let quiet = others_in(&client, tokio::time::sleep(QUIET)).await?.1;
    run(&client, small, huge).await?;
    let full = stored_bytes(&url)?;

    let started = Instant::now();
    let (pruned, busy) = others_in(&client, prune(&client)).await?;
    let (pruned, took) = (pruned?, started.elapsed());
    ensure!(pruned > small, "only {pruned} have been pruned");
    until_all_is_gone(&client, &url).await?;
    worker.stop().await?;
    let after = bytes_of_its_own(&url)?;
    worst.take_in(Worst::of(store.meters()));

    let growth = after as f64 / before as f64 - 1.0;
    let what = format!("{name}: {} workflows and one of {} jobs pruned", thousands(small), thousands(huge));
    let measured = format!(
        "in {:.0} s; others {:.0}k rows/s, before {:.0}k; store {:.1} kB, before {:.1} kB, full {:.0} MB",
        took.as_secs_f64(),
        busy / 1e3,
        quiet / 1e3,
        after as f64 / 1e3,
        before as f64 / 1e3,
        full as f64 / 1e6
    );
    let within = busy >= 0.75 * quiet && growth.abs() <= 0.05;
    Ok(Row::judged(what, "others ≥ 0.75 ×; as large as before ± 5 %", measured, within))
}

/// So many small workflows and one of so many jobs, until all have finished.
async fn run(client: &Client, small: u64, huge: u64) -> Result<()> {
    let starts = (0..small).map(|_| async { client.start(Small).await.map(|_| ()) });
    futures::stream::iter(starts).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    client.start(Import { rows: huge, row: RowKind::E, fails: false }).await?.wait().await?;
    while client.workflows().state(WorkflowState::Pending).page(1).await?.len()
        + client.workflows().state(WorkflowState::Running).page(1).await?.len()
        > 0
    {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Deletes them all; returns how many they were.
async fn prune(client: &Client) -> Result<u64> {
    let small = client.prune(Duration::ZERO, None, Some(Small::NAME)).run().await?;
    Ok(small + client.prune(Duration::ZERO, None, Some(Import::NAME)).run().await?)
}

/// They leave nothing behind, so that what is left is left by what was pruned.
async fn run_other(client: &Client) -> Result<()> {
    client.start(Other).expire_in(Duration::from_secs(2)).await?.wait().await?;
    Ok(())
}

/// What is being deleted is on no list any more, but takes its time.
async fn until_all_is_gone(client: &Client, url: &str) -> Result<()> {
    let mut sizes = [0, 1];
    while sizes[0] != sizes[1] || !client.workflows().of::<Other>().page(1).await?.is_empty() {
        tokio::time::sleep(Duration::from_secs(2)).await;
        sizes = [sizes[1], stored_bytes(url)? / 50_000];
    }
    Ok(())
}

/// Runs other workflows, one after another, until something has come to its end; returns that, and how many rows a second ran.
async fn others_in<T>(client: &Client, meanwhile: impl Future<Output = T>) -> Result<(T, f64)> {
    let (stop, rows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let others = tokio::spawn({
        let (client, stop, rows) = (client.clone(), stop.clone(), rows.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                run_other(&client).await?;
                rows.fetch_add(ROWS, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }
    });
    let started = Instant::now();
    let ended = meanwhile.await;
    let rate = rows.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    others.await??;
    Ok((ended, rate))
}
