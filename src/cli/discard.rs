//! `discard ID [STEP]`: gives failed jobs up, so that what waits for them goes on.

use serde::Serialize;

use super::fate::Fate;
use super::house::House;
use super::out::{Ending, Outcome};
use super::target;
use crate::id::WorkflowId;
use crate::render::words::escape;

/// Give failed jobs up, those of one step or all: they count as skipped, and what waits for their step goes on
#[derive(Debug, clap::Args)]
pub struct Discard {
    /// Which workflow, or which lane of lone jobs
    #[arg(value_name = "ID")]
    id: String,
    /// Only the failed jobs of this step
    #[arg(value_name = "STEP")]
    step: Option<String>,
}

#[derive(Serialize)]
struct Discarded<'a> {
    workflow_id: WorkflowId,
    step: Option<&'a str>,
    discarded: u64,
}

impl Discard {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        let step = self.step.as_deref();
        let discarded = handle.discard_failed(step).await?;
        let out = &house.out;
        if out.json {
            out.document(&Discarded { workflow_id: handle.id(), step, discarded })?;
        } else {
            let of = step.map(|step| format!(" of `{}`", escape(step))).unwrap_or_default();
            out.text(&Fate::GivenUp.sentence(discarded, &of))?;
        }
        Ok(Ending::Fine)
    }
}
