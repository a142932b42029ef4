//! An import from start to end in this process: starts the workflow, works on it, shows how far it is, says what came of it.
//!
//! Nothing is lost if the process ends before: the workflow stands in the store, and `import worker` goes on with it.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use gusher::prelude::{App, Job, Serialize};
use gusher::{
    CancellationToken, ErrorKind, Handle, Progress, StepState, StepView, WorkerOptions, WorkflowState, WorkflowView,
};
use import::jobs::{GenReport, ImportCsvRow, ImportXml, Shared};
use import::number::thousands;
use import::territories::Territory;

use crate::arguments::Arguments;

/// What a shell shows of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Imports, and returns the exit code that the import deserves.
pub fn run(app: &App<Shared>, arguments: &Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(import(app, arguments)));
    ended.unwrap_or_else(|error| {
        eprintln!("error: {}", harmless(&format!("{error:#}")));
        let kind = error.downcast_ref::<gusher::Error>().map(gusher::Error::kind);
        ExitCode::from(if kind == Some(ErrorKind::Usage) { 2 } else { 1 })
    })
}

async fn import(app: &App<Shared>, arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    gusher::log_to_stderr("warn")?;
    let workflow = arguments.workflow().context("finding the current folder")?;
    let report = workflow.report.clone();
    let client = app.client(&arguments.store).await?;
    // The worker first: it opens the database, and if that fails there is no workflow to tidy up.
    let options = WorkerOptions { slots: arguments.slots, ..WorkerOptions::default() };
    let worker = app.worker_on(client.store().clone(), options).await?;
    let handle = client.start(workflow).await?;
    eprintln!("importing as workflow {}", handle.id());

    let stop = CancellationToken::new();
    let mut worker = tokio::spawn(worker.run(stop.clone()));
    let progress = Progress::new();
    let ended = tokio::select! {
        ended = progress.follow(&handle) => Some(ended?),
        // A worker that nobody has told to stop has met something that it cannot work with.
        died = &mut worker => return Err(died?.err().map_or_else(|| anyhow!("the worker has ended"), Into::into)),
        signal = interrupted() => { signal?; None }
    };
    if ended.is_none() {
        eprintln!("stopping: running jobs come to their end; another signal stops at once");
        tokio::spawn(async {
            if interrupted().await.is_ok() {
                std::process::exit(i32::from(INTERRUPTED));
            }
        });
    }
    stop.cancel();
    worker.await??;

    let Some(view) = ended else {
        eprintln!("not finished: `import worker` goes on with workflow {}", handle.id());
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let summary = Summary::of(&handle, &view, report, started).await;
    tell(&handle, &view, &summary, arguments.json).await?;
    Ok(match view.state {
        WorkflowState::Succeeded => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

#[cfg(unix)]
async fn interrupted() -> io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn interrupted() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// What came of an import, for programs.
#[derive(Debug, Serialize)]
struct Summary {
    workflow: String,
    /// `None` if it was not written.
    report: Option<PathBuf>,
    /// Rows that were imported.
    rows: u64,
    /// Rows that were not.
    failed: u64,
    territories: usize,
    seconds: f64,
}

impl Summary {
    async fn of(handle: &Handle, view: &WorkflowView, report: PathBuf, started: Instant) -> Self {
        let rows = step::<ImportCsvRow>(view).map(|step| step.jobs).unwrap_or_default();
        let is_written = step::<GenReport>(view).is_some_and(|step| step.state == StepState::Succeeded);
        Self {
            workflow: handle.id().to_string(),
            report: is_written.then_some(report),
            rows: rows.succeeded,
            failed: rows.failed,
            territories: territories(handle).await.unwrap_or_default(),
            seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

fn step<J: Job>(view: &WorkflowView) -> Option<&StepView> {
    view.steps.iter().find(|step| step.name == J::NAME)
}

/// How many territories were imported, if they were.
async fn territories(handle: &Handle) -> Option<usize> {
    let output = handle.job(ImportXml::NAME, 0).await.ok()?.output?;
    serde_json::from_str::<Vec<Territory>>(output.get()).ok().map(|territories| territories.len())
}

/// Says what came of it. Standard output is for what was asked for: the report's place, or the summary as JSON.
async fn tell(handle: &Handle, view: &WorkflowView, summary: &Summary, in_json: bool) -> Result<()> {
    let Summary { workflow, rows, failed, territories, seconds, .. } = summary;
    let (rows, failed) = (thousands(*rows), thousands(*failed));
    match &summary.report {
        Some(_) => {
            eprintln!(
                "imported {rows} airports ({failed} rows missing) and {territories} territories in {seconds:.1} s"
            );
        }
        None => {
            for cause in handle.why().await?.causes {
                eprintln!("  {}", harmless(&cause.text));
            }
            eprintln!("the import {}; `import show {workflow}` shows more", view.state);
        }
    }
    if in_json {
        println!("{}", serde_json::to_string(summary)?);
    } else if let Some(report) = &summary.report {
        println!("report    {}", report.display());
        println!("workflow  {workflow}");
    }
    Ok(())
}

/// The text without what could steer a terminal: files and servers wrote parts of it.
fn harmless(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}
