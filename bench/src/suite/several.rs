//! The same import with one worker process and with two, through one Redis server.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gusher::{CancellationToken, WorkerOptions, WorkflowState};

use super::announce;
use super::sizes::Sizes;
use super::table::Row;
use crate::child::{self, Task};
use crate::figures::{median, thousands};
use crate::place::Place;
use crate::rows::RowKind;
use crate::workload::{Import, Shared, app};

/// Works until who started this process is gone, or wants it no more.
pub async fn work(url: &str) -> Result<()> {
    let store = gusher::store::open(url).await?;
    let worker = app(RowKind::E, false, &Shared::default()).worker_on(store, WorkerOptions::default()).await?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker.run(stop.clone()));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    stop.cancel();
    Ok(worker.await??)
}

/// Measures, on a server of its own.
pub async fn measure(sizes: &Sizes) -> Result<Row> {
    let place = Place::named("redis", None)?;
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..sizes.runs {
        alone.push(run(place.fresh()?, sizes.big, 1).await?);
        together.push(run(place.fresh()?, sizes.big, 2).await?);
    }
    let (alone, together) = (median(alone), median(together));
    Ok(Row::informative(
        format!("Redis, {} E rows: 1 against 2 worker processes", thousands(sizes.big)),
        "printed: two cores are shared with the server",
        format!("{alone:.2} s against {together:.2} s, {:.2} ×", alone / together),
    ))
}

/// Seconds until an import has come to its end, once it has been created and the workers wait for it.
async fn run(url: &str, rows: u64, workers: usize) -> Result<f64> {
    announce(&format!("an import of {} E rows on Redis with {workers} worker processes", thousands(rows)));
    let store = gusher::store::open(url).await?;
    let client = app(RowKind::E, false, &Shared::default()).client_on(store.clone());
    let import = client.start(Import { rows, row: RowKind::E, fails: false }).await?;
    import.pause().await?;
    let mut crew = Vec::new();
    for _ in 0..workers {
        crew.push(child::start(&Task::Worker { url: url.to_owned() })?);
    }
    while store.workers(9).await?.len() < workers {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let started = Instant::now();
    import.resume().await?;
    let ended = import.wait().await?;
    let took = started.elapsed().as_secs_f64();
    ensure!(ended.state == WorkflowState::Succeeded, "the import ended as {}", ended.state);
    for mut worker in crew {
        drop(worker.stdin.take());
        let code = worker.wait().context("waiting for a worker's end")?;
        ensure!(code.success(), "a worker ended with {code}");
    }
    Ok(took)
}
