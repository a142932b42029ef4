//! `why ID[/STEP[#INDEX]]`: what keeps a workflow, step or job.

use super::house::House;
use super::out::{Ending, Outcome};
use super::table::{FAINT, STRONG};
use super::target::{self, Target};
use crate::render::words::escape;

/// Say why a workflow, a step or a job is not done, or how it ended
#[derive(Debug, clap::Args)]
pub struct Why {
    /// What: a workflow, a step or a job
    #[arg(value_name = "ID[/STEP[#INDEX]]")]
    what: String,
}

impl Why {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let what = Target::parse(&self.what)?;
        let client = house.client().await?;
        let handle = target::find(&client, &what.workflow).await?;
        let why = match (what.step, what.index) {
            (None, _) => handle.why().await?,
            (Some(step), None) => handle.why_step(&step).await?,
            (Some(step), Some(index)) => handle.why_job(&step, index).await?,
        };
        if house.out.json {
            house.out.document(&why)?;
            return Ok(Ending::Fine);
        }
        let mut lines = vec![format!("{STRONG}{}{STRONG:#}", escape(&why.summary))];
        lines.extend(why.causes.iter().map(|cause| format!("- {}", escape(&cause.text))));
        lines.extend(why.note.iter().map(|note| format!("{FAINT}{}{FAINT:#}", escape(note))));
        house.out.text(&lines.join("\n"))?;
        Ok(Ending::Fine)
    }
}
