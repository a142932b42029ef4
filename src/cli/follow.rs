//! Waiting until a workflow has finished, perhaps with a worker in this process.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::house::House;
use super::out::{Ending, Out, Outcome, json_line};
use super::progress::Progress;
use super::{interrupt, table};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::render::words::{count, number, span};
use crate::state::WorkflowState;
use crate::view::WorkflowView;
use crate::worker::WorkerOptions;

/// How many steps a status line of JSON holds.
pub const STEPS: u32 = 100;
/// How often a status line of JSON is printed, at most.
const LINE: Duration = Duration::from_secs(1);

/// Whether and how a command waits for the workflow that it started.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// Wait until it has finished; workers elsewhere run it
    #[arg(long)]
    pub wait: bool,
    /// Wait, and run a worker in this process meanwhile
    #[arg(long)]
    pub run: bool,
    /// How many jobs that worker runs at once
    #[arg(long, value_name = "N", requires = "run", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub slots: Option<u32>,
}

impl Wait {
    pub fn is_asked_for(&self) -> bool {
        self.wait || self.run
    }

    /// Waits as asked; ends as the workflow does.
    pub async fn follow<S: Send + Sync + 'static>(&self, house: &House<S>, handle: &Handle) -> Outcome {
        if !self.run {
            return follow(&house.out, handle).await;
        }
        let mut options = WorkerOptions { ..house.app.options.clone() };
        options.slots = self.slots.unwrap_or(options.slots);
        let worker = house.app.worker_on(handle.store().clone(), options).await?;
        let stop = CancellationToken::new();
        interrupt::listen(stop.clone());
        let mut running = tokio::spawn(worker.run(stop.clone()));
        let ended = tokio::select! {
            ended = follow(&house.out, handle) => ended,
            () = stop.cancelled() => {
                house.out.note(&format!("stopping; `{} worker` goes on with {}", house.out.program, handle.id()));
                Ok(Ending::Interrupted)
            }
            died = &mut running => return Err(joined(died).err().unwrap_or_else(|| Error::corrupt("the worker ended by itself")).into()),
        };
        stop.cancel();
        joined(running.await)?;
        ended
    }
}

fn joined(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.map_err(|error| Error::corrupt("the worker died").because(error))?
}

/// Waits until a workflow has finished, showing it meanwhile; ends as it does.
pub async fn follow(out: &Out, handle: &Handle) -> Outcome {
    let done = if out.json {
        print_status_lines(out, handle).await?
    } else {
        let done = Progress::new().program(&out.program).follow(handle).await?;
        out.note(&summary(&done, &out.program));
        done
    };
    Ok(if done.state == WorkflowState::Succeeded { Ending::Fine } else { Ending::Failed })
}

/// Prints the status whenever it has changed, as lines of JSON; the last one is final.
async fn print_status_lines(out: &Out, handle: &Handle) -> Outcome<WorkflowView> {
    let mut last = String::new();
    let mut pause = Duration::from_millis(50);
    let mut printed = tokio::time::Instant::now();
    loop {
        let status = match handle.status_with(STEPS).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the store cannot be reached; it is tried again");
                tokio::time::sleep(LINE).await;
                continue;
            }
            status => status?,
        };
        let line = json_line(&status)?;
        let finished = status.state.is_finished();
        if line != last && (finished || last.is_empty() || printed.elapsed() >= LINE) {
            out.text(&line)?;
            printed = tokio::time::Instant::now();
            last = line;
        }
        if finished {
            return Ok(status);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// How a workflow ended, and what to ask next if it did not end well.
pub fn summary(done: &WorkflowView, program: &str) -> String {
    let (jobs, id) = (done.jobs, done.id);
    let took = done
        .finished_at
        .map(|end| format!(" in {}", span(end - done.started_at.unwrap_or(done.created_at))))
        .unwrap_or_default();
    let failed = if jobs.failed > 0 { format!(", {} failed", number(jobs.failed)) } else { String::new() };
    let ask = match done.state {
        WorkflowState::Failed => format!("; `{program} why {id}` says why"),
        _ => String::new(),
    };
    format!("{} {}: {}{took}{failed}{ask}", done.name, table::state(done.state.as_str()), count(jobs.total, "job"))
}
