//! For tests: of workflows, in process and with virtual time; and of stores.

pub mod conformance;
pub mod ledger;
pub mod model;

pub use conformance::store_tests;

use crate::error::Result;
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::store::Store;

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
