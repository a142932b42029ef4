//! `skip ID STEP [INDEX]`: ends a step, or one job of it, as skipped.

use serde::Serialize;

use super::house::House;
use super::out::{Ending, Outcome};
use super::target;
use crate::id::WorkflowId;
use crate::render::words::{count, escape};

/// Skip what of a step has not succeeded, or one job of it: what waits for the step goes on
#[derive(Debug, clap::Args)]
pub struct Skip {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
    /// The step
    #[arg(value_name = "STEP")]
    step: String,
    /// Only its job of this number
    #[arg(value_name = "INDEX")]
    index: Option<u64>,
}

#[derive(Serialize)]
struct Skipped<'a> {
    workflow_id: WorkflowId,
    step: &'a str,
    skipped: u64,
}

impl Skip {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        let step = self.step.as_str();
        let skipped = handle.skip(step, self.index).await?;
        if house.out.json {
            house.out.document(&Skipped { workflow_id: handle.id(), step, skipped })?;
        } else {
            house.out.text(&sentence(&escape(step), self.index, skipped))?;
        }
        Ok(Ending::Fine)
    }
}

fn sentence(step: &str, index: Option<u64>, skipped: u64) -> String {
    match (index, skipped) {
        (Some(index), 0) => format!("#{index} of `{step}` has succeeded, or been skipped, before"),
        (Some(index), _) => format!("#{index} of `{step}` is skipped"),
        (None, 0) => format!("`{step}` has nothing that could be skipped"),
        (None, jobs) => format!("`{step}` is skipped: {}", count(jobs, "job")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_skipped_is_told_in_words() {
        assert_eq!(sentence("Row", Some(7), 1), "#7 of `Row` is skipped");
        assert_eq!(sentence("Row", Some(7), 0), "#7 of `Row` has succeeded, or been skipped, before");
        assert_eq!(sentence("Row", None, 1_000), "`Row` is skipped: 1,000 jobs");
        assert_eq!(sentence("Row", None, 0), "`Row` has nothing that could be skipped");
    }
}
