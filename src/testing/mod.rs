//! For tests: of workflows, in process and with virtual time; and of stores.
//!
//! - [`Simulation`] runs a whole workflow, or code that enqueues lone jobs, in milliseconds and tells what ran, in which order, with
//!   which outputs.
//! - [`torture`](fn@torture) kills its workers, loses answers, runs jobs twice, and names the jobs that are not safe to repeat.
//! - [`picture`] draws the graph of a workflow, as `graph` does, and [`picture_of_run`] a run's.
//! - `store_tests` is what every store must pass (with the feature `conformance`), [`broker_tests`] what every broker must.

pub mod broker;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod ledger;
pub mod model;
mod simulation;
mod torture;

pub use self::broker::{broker_tests, carriage_tests};
#[cfg(feature = "conformance")]
pub use self::conformance::store_tests;
pub use self::simulation::{Attempt, AttemptEnd, Enqueued, Played, Run, Simulation};
pub use self::torture::{Surprise, Torture, TortureReport, UnsafeJob, torture};

use crate::app::plan_of;
use crate::error::Result;
use crate::graph::StepNumber;
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::render::{Picture, text};
use crate::store::Store;
use crate::workflow::Workflow;

/// The graph of a workflow as lines of text, as the command `graph` draws it: for a test that shows when its shape changes.
///
/// # Errors
/// If the workflow cannot be configured, or its graph is refused.
pub fn picture<W: Workflow>(workflow: &W) -> Result<String> {
    Ok(text::text(&Picture::of_graph(W::NAME, &plan_of(workflow)?.graph)))
}

/// What has become of a run as lines of text, as the command `graph ID` draws it: a batch has no other graph, for its steps come with
/// its jobs.
///
/// # Errors
/// If the store does not answer, or has no such run any more.
pub async fn picture_of_run(run: &Handle) -> Result<String> {
    Ok(text::text(&run.picture().await?))
}

/// The byte of every job of a step, read page by page.
async fn job_bytes(store: &dyn Store, workflow: WorkflowId, step: StepNumber) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let page = store.outcomes(workflow, step, bytes.len() as u64, 0).await?;
        if page.is_empty() {
            return Ok(bytes);
        }
        page.into_iter().for_each(|chunk| bytes.extend(chunk.bytes));
    }
}
