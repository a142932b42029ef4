//! `retry ID [STEP]`: gives failed jobs a new set of attempts, with `--params` also new parameters.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;

use super::fate::Fate;
use super::follow::Wait;
use super::house::House;
use super::out::{Ending, Outcome};
use super::{mended, run_again, target};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::render::words::escape;

/// Run failed jobs again, those of one step or all; a finished workflow goes on
#[derive(Debug, clap::Args)]
pub struct Retry {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
    /// Only the failed jobs of this step
    #[arg(value_name = "STEP")]
    step: Option<String>,
    /// Only the jobs in this file, with its parameters: what `failures ID STEP --csv` wrote, mended, or JSON lines of {"index", "params"}; - is standard input
    #[arg(long, value_name = "FILE", requires = "step")]
    params: Option<PathBuf>,
    /// Only the jobs whose error has this text in it, as `show` and `failures` tell it; capitals and small letters count as the same
    #[arg(long, value_name = "TEXT", conflicts_with = "params")]
    error: Option<String>,
    /// Change nothing, and tell what would run
    #[arg(long, conflicts_with_all = ["wait", "run"])]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Serialize)]
struct Retried<'a> {
    workflow_id: WorkflowId,
    step: Option<&'a str>,
    retried: u64,
}

impl Retry {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        let step = self.step.as_deref();
        let mended = match (&self.params, step) {
            (Some(file), Some(step)) => Some((step, read(&handle, step, file).await?)),
            _ => None,
        };
        let mut retrying = handle.retry_failed(step);
        if let Some(text) = self.error.as_deref().map(str::to_lowercase) {
            retrying = retrying.only(move |failure| failure.error.to_lowercase().contains(&text));
        }
        if self.dry_run {
            let would_run = match mended {
                Some((step, mended)) => handle.retry_mended_preview(step, mended).await?,
                None => retrying.preview().await?,
            };
            run_again::tell(&house.out, handle.id(), &would_run)?;
            return Ok(Ending::Fine);
        }
        let retried = match mended {
            Some((step, mended)) => handle.retry_mended(step, mended).await?,
            None => retrying.await?,
        };
        let out = &house.out;
        if out.json && !self.wait.is_asked_for() {
            out.document(&Retried { workflow_id: handle.id(), step, retried })?;
        } else if !out.json {
            let of = step.map(|step| format!(" of `{}`", escape(step))).unwrap_or_default();
            out.text(&Fate::RunAgain.sentence(retried, &of))?;
        }
        if self.wait.is_asked_for() { self.wait.follow(house, &handle).await } else { Ok(Ending::Fine) }
    }
}

/// The mended parameters in a file, or on standard input.
async fn read(handle: &Handle, step: &str, file: &Path) -> Result<Vec<(u64, Box<RawValue>)>> {
    let unreadable = |error| Error::usage(format!("{} cannot be read", file.display())).because(error);
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        bytes = std::fs::read(file).map_err(unreadable)?;
    }
    mended::read(handle, step, &file.display().to_string(), &bytes).await
}
