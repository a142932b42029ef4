//! A hundred idle workers and one job: how many of them come running. All are in this process, on one store.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::announce;
use super::scene::{Scene, Working};
use super::table::Row;
use super::wake::{self, Single, Started};
use super::watched::Watched;
use crate::cost::Worst;

/// How many workers wait.
const WORKERS: usize = 100;
/// How often it is measured.
const TIMES: usize = 5;
/// How long after the job was enqueued claims count as caused by it.
const WINDOW: Duration = Duration::from_millis(300);

/// Measures.
pub async fn measure(folder: Option<&Path>, worst: &mut Worst) -> Result<Row> {
    announce("100 idle workers and one job");
    let scene = Scene::new(folder, Duration::from_secs(15)).await?;
    let store = Arc::new(Watched::new(scene.store.clone()));
    let app = wake::app(&Started::nowhere());
    let client = app.client_on(store.clone());
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Working::start(&app, store.clone(), 1).await?);
    }
    while store.claimers() < WORKERS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut counts = Vec::new();
    for _ in 0..TIMES {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let enqueued = Instant::now();
        let run = client.start(Single).await?;
        tokio::time::sleep(WINDOW.saturating_sub(enqueued.elapsed())).await;
        counts.push(store.caused_since(enqueued));
        run.wait().await?;
    }
    for stopped in futures::future::join_all(workers.into_iter().map(Working::stop)).await {
        stopped?;
    }
    scene.add_to(worst);

    counts.sort_unstable();
    let ((usual, _), (claims, by)) = (counts[TIMES / 2], counts[TIMES - 1]);
    let measured = format!("{claims} claims by {by} workers within 300 ms, the most of {TIMES} times; median {usual}");
    let budget = "≤ 3 claims that came upon work or that a woken worker sent";
    Ok(Row::judged("100 idle workers and one job", budget, measured, claims <= 3))
}
