//! `signal ID NAME JSON`: gives a workflow what one of its steps waits for.

use serde::Serialize;
use serde_json::value::RawValue;

use super::house::House;
use super::out::{Ending, Outcome};
use super::target;
use crate::error::Error;
use crate::id::WorkflowId;
use crate::render::words::escape;
use crate::signalling::Signalled;

/// Give a workflow the signal that a step of it waits for; one that comes early is kept until the step's turn comes
#[derive(Debug, clap::Args)]
pub struct Signal {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
    /// The signal's name, which is that of the step that waits for it
    #[arg(value_name = "NAME")]
    name: String,
    /// What it carries, as JSON
    #[arg(value_name = "JSON")]
    carries: String,
}

#[derive(Serialize)]
struct Given<'a> {
    workflow_id: WorkflowId,
    signal: &'a str,
    kept: bool,
}

impl Signal {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let carries: Box<RawValue> = serde_json::from_str(&self.carries).map_err(|error| {
            Error::usage(format!("`{}` is not JSON; for example '{{\"by\":\"Ada\"}}'", self.carries)).because(error)
        })?;
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        let kept = handle.signal_json(&self.name, &carries).await? == Signalled::Kept;
        if house.out.json {
            house.out.document(&Given { workflow_id: handle.id(), signal: &self.name, kept })?;
        } else {
            let what = if kept { "is kept until its step is released" } else { "has been given" };
            house.out.text(&format!("the signal `{}` {what}", escape(&self.name)))?;
        }
        Ok(Ending::Fine)
    }
}
