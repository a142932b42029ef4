//! `run-again ID STEP`: runs all jobs of a step again, with `--again` also what has run after it.

use serde::Serialize;

use super::follow::Wait;
use super::house::House;
use super::out::{Ending, Out, Outcome};
use super::target;
use crate::id::WorkflowId;
use crate::render::words::{count, escape};
use crate::repairing::WouldRun;

/// Run all jobs of a step again, also those that succeeded; a finished workflow goes on
#[derive(Debug, clap::Args)]
pub struct RunAgain {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
    /// The step that runs again; what comes after it and has not run, or not to its end, waits for it
    #[arg(value_name = "STEP")]
    step: String,
    /// All that comes after it runs again, too, also what has run
    #[arg(long)]
    again: bool,
    /// Change nothing, and tell what would run
    #[arg(long, conflicts_with_all = ["wait", "run"])]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Serialize)]
struct RunsAgain<'a> {
    workflow_id: WorkflowId,
    step: &'a str,
    jobs: u64,
}

impl RunAgain {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        let step = self.step.as_str();
        let mut again = handle.run_again(step);
        if self.again {
            again = again.with_all_after();
        }
        if self.dry_run {
            tell(&house.out, handle.id(), &again.preview().await?)?;
            return Ok(Ending::Fine);
        }
        let jobs = again.await?;
        let out = &house.out;
        if out.json && !self.wait.is_asked_for() {
            out.document(&RunsAgain { workflow_id: handle.id(), step, jobs })?;
        } else if !out.json {
            let all = if self.again { ", with all that comes after" } else { "" };
            out.text(&match jobs {
                0 => format!("nothing of `{}` has run so far", escape(step)),
                jobs => format!("`{}` runs again: {}{all}", escape(step), count(jobs, "job")),
            })?;
        }
        if self.wait.is_asked_for() { self.wait.follow(house, &handle).await } else { Ok(Ending::Fine) }
    }
}

#[derive(Serialize)]
struct DryRun<'a> {
    workflow_id: WorkflowId,
    jobs: u64,
    #[serde(flatten)]
    would_run: &'a WouldRun,
}

/// Tells what a repair would run.
pub fn tell(out: &Out, workflow_id: WorkflowId, would_run: &WouldRun) -> Outcome<()> {
    if out.json {
        return out.document(&DryRun { workflow_id, jobs: would_run.jobs(), would_run });
    }
    out.text(&sentences(would_run))
}

fn sentences(would_run: &WouldRun) -> String {
    let steps = would_run.steps.len() as u64;
    if steps == 0 {
        return "nothing would run".to_owned();
    }
    let mut told = format!("{} of {} would run", count(would_run.jobs(), "job"), count(steps, "step"));
    for step in &would_run.steps {
        told.push_str(&format!("\n  {}: {}", escape(&step.name), count(step.jobs, "job")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repairing::StepWouldRun;

    #[test]
    fn what_would_run_is_told_step_by_step() {
        let step = |name: &str, jobs| StepWouldRun { number: 0, name: name.into(), jobs };
        let would_run = WouldRun { steps: vec![step("Row", 1_000), step("Report", 1)] };
        assert_eq!(sentences(&would_run), "1,001 jobs of 2 steps would run\n  Row: 1,000 jobs\n  Report: 1 job");
        assert_eq!(sentences(&WouldRun::default()), "nothing would run");
    }
}
