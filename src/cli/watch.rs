//! `watch ID`: shows a workflow until it has finished.

use super::follow::{follow, summary};
use super::house::House;
use super::out::{Ending, Outcome};
use super::progress::Progress;
use super::target;
use crate::state::WorkflowState;

/// Show a workflow until it has finished
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
}

impl Watch {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        if house.out.json {
            return follow(&house.out, &handle).await;
        }
        let done = Progress::new().program(&house.out.program).follow(&handle).await?;
        house.out.text(&summary(&done, &house.out.program))?;
        Ok(if done.state == WorkflowState::Succeeded { Ending::Fine } else { Ending::Failed })
    }
}
