//! `replace ID STEP INDEX JSON`: gives a job an output.

use serde::Serialize;
use serde_json::value::RawValue;

use super::house::House;
use super::out::{Ending, Outcome};
use super::target;
use crate::error::Error;
use crate::id::WorkflowId;
use crate::render::words::escape;

/// Give a job that failed, or succeeded, this output: it has succeeded with that
#[derive(Debug, clap::Args)]
pub struct Replace {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
    /// The step
    #[arg(value_name = "STEP")]
    step: String,
    /// The number of its job
    #[arg(value_name = "INDEX")]
    index: u64,
    /// The output, as JSON; it must be what the job would return
    #[arg(value_name = "JSON")]
    output: String,
}

#[derive(Serialize)]
struct Replaced<'a> {
    workflow_id: WorkflowId,
    step: &'a str,
    index: u64,
}

impl Replace {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let output: Box<RawValue> = serde_json::from_str(&self.output).map_err(|error| {
            Error::usage(format!("`{}` is not JSON; for example '{{\"rows\":12}}'", self.output)).because(error)
        })?;
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        let (step, index) = (self.step.as_str(), self.index);
        handle.replace_output(step, index, &output).await?;
        if house.out.json {
            house.out.document(&Replaced { workflow_id: handle.id(), step, index })?;
        } else {
            house.out.text(&format!("#{index} of `{}` has succeeded with that output", escape(step)))?;
        }
        Ok(Ending::Fine)
    }
}
