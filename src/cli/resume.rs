//! `resume ID`, `resume ID STEP`, `resume --queue NAME`, `resume --type NAME`.

use serde::Serialize;

use super::house::House;
use super::out::{Ending, Outcome};
use super::pause::{What, tell};
use super::{show, target};
use crate::error::Error;
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::render::words::escape;

/// Undo `pause`; or let a step go on that paused when too many of its jobs had failed
#[derive(Debug, clap::Args)]
pub struct Resume {
    #[command(flatten)]
    what: What,
    /// This step of it, which paused by itself
    #[arg(value_name = "STEP", requires = "id", conflicts_with_all = ["queue", "job_type"])]
    step: Option<String>,
}

#[derive(Serialize)]
struct Resumed<'a> {
    workflow_id: WorkflowId,
    step: &'a str,
    resumed: bool,
}

impl Resume {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        match (self.what.pausable(), self.what.id()) {
            (Some(what), _) => {
                client.resume(what).await?;
                tell(house, &client).await
            }
            (None, Some(id)) => {
                let handle = target::find(&client, id).await?;
                if let Some(step) = &self.step {
                    return resume_step(house, &handle, step).await;
                }
                handle.resume().await?;
                show::state_now(&house.out, &handle).await?;
                Ok(Ending::Fine)
            }
            (None, None) => {
                Err(Error::usage("what is to go on? Name a workflow's ID, --queue NAME or --type NAME").into())
            }
        }
    }
}

async fn resume_step<S: Send + Sync + 'static>(house: &House<S>, handle: &Handle, step: &str) -> Outcome {
    let resumed = handle.resume_step(step).await?;
    if house.out.json {
        house.out.document(&Resumed { workflow_id: handle.id(), step, resumed })?;
    } else {
        let what = if resumed { "goes on" } else { "was not paused" };
        house.out.text(&format!("`{}` {what}", escape(step)))?;
    }
    Ok(Ending::Fine)
}
