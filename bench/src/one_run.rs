//! One run: a workflow is created in a fresh store, then a worker in the same process runs it to its end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gusher::{CancellationToken, Handle, WorkerOptions, WorkflowState};
use serde::{Deserialize, Serialize};

use crate::cost::{Totals, Worst};
use crate::machine::peak_memory;
use crate::place::stored_bytes;
use crate::rows::RowKind;
use crate::workload::{Import, Nothing, Shared, app};

/// What to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunPlan {
    /// The URL of the store, which is made.
    pub url: String,
    /// How many rows.
    pub rows: u64,
    /// Of which kind.
    pub row: RowKind,
    /// Whether every row fails three times.
    pub fails: bool,
    /// How many jobs at once.
    pub slots: u32,
    /// The broker that brings the slices; the store's own lines if there is none.
    pub broker: Option<String>,
}

/// What a run took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunMeasured {
    /// Seconds until the creation had returned.
    pub create_s: f64,
    /// Seconds from the worker's start until the workflow had come to its end.
    pub run_s: f64,
    /// Bytes that the workflow took in the store once it was created.
    pub bytes_created: u64,
    /// Bytes that it took once it had come to its end.
    pub bytes_done: u64,
    /// What all of it cost.
    pub totals: Totals,
    /// The most that one operation took.
    pub worst: Worst,
    /// The most memory that this process has had, in bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// How many messages a broker carried.
    pub messages: u64,
}

impl RunMeasured {
    /// Seconds for all of it.
    pub fn total_s(&self) -> f64 {
        self.create_s + self.run_s
    }
}

/// Runs it in this process.
pub async fn run(plan: &RunPlan) -> Result<RunMeasured> {
    let signals = Shared::default();
    let mut app = app(plan.row, plan.fails, &signals);
    if let Some(url) = &plan.broker {
        app = app.via(url);
    }
    let store = gusher::store::open(&plan.url).await?;
    let client = app.client_on(store.clone());
    // The first creation in a store also makes the file that keeps room for a full disk.
    client.start(Nothing).await?;
    let (empty, before) = (stored_bytes(&plan.url)?, Totals::of(store.meters()));

    let started = Instant::now();
    let import = client.start(Import { rows: plan.rows, row: plan.row, fails: plan.fails }).await?;
    let create_s = started.elapsed().as_secs_f64();
    let bytes_created = stored_bytes(&plan.url)?.saturating_sub(empty);

    let stop = CancellationToken::new();
    let options = WorkerOptions { slots: plan.slots, ..WorkerOptions::default() };
    let started = Instant::now();
    let worker = tokio::spawn(app.worker_on(store.clone(), options).await?.run(stop.clone()));
    wait_for_end(&import, &signals).await?;
    let run_s = started.elapsed().as_secs_f64();
    let totals = Totals::of(store.meters()).since(before);

    stop.cancel();
    worker.await??;
    check(&import, plan).await?;
    Ok(RunMeasured {
        create_s,
        run_s,
        bytes_created,
        bytes_done: stored_bytes(&plan.url)?.saturating_sub(empty),
        totals,
        worst: Worst::of(store.meters()),
        peak_memory: peak_memory(),
        messages: app.traffic().counts().published,
    })
}

/// Asks the store often only once the report has run, so that asking is no part of what is measured. The slow look is for a
/// workflow that ends without its report.
async fn wait_for_end(import: &Handle, signals: &Shared) -> Result<()> {
    let reported = signals.reported.notified();
    tokio::pin!(reported);
    let mut has_reported = false;
    while !import.status_with(0).await?.state.is_finished() {
        if has_reported {
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            tokio::select! {
                () = &mut reported => has_reported = true,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }
    Ok(())
}

/// A run whose jobs did not end as they should has measured nothing.
async fn check(import: &Handle, plan: &RunPlan) -> Result<()> {
    let status = import.status_with(0).await?;
    let (state, succeeded, failed) =
        if plan.fails { (WorkflowState::Failed, 1, plan.rows) } else { (WorkflowState::Succeeded, plan.rows + 1, 0) };
    ensure!(
        status.state == state && status.jobs.succeeded == succeeded && status.jobs.failed == failed,
        "the workflow ended as {} with {:?}; expected {state} with {succeeded} succeeded and {failed} failed",
        status.state,
        status.jobs
    );
    Ok(())
}
