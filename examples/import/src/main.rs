//! `import`: without arguments it imports the shipped files and ends with a report; with a command (`start`, `worker`, `list`,
//! `show`, …) it is Gusher's command line for this program's jobs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use clap::Parser;
use gusher::prelude::*;
use gusher::{CancellationToken, Progress, WorkerOptions, WorkflowState};
use import::Location;
use import::jobs::{DownloadCsv, GenReport, ImportCsvRow, ImportXml, Shared, Summary};
use import::number::thousands;
use import::workflow::ImportWorkflow;

/// Imports airports (CSV) and territories (XML) into a database and writes a report.
#[derive(Debug, Parser)]
#[command(
    after_help = "Further commands: start, worker, workers, list, show, watch, graph, why, retry, failures, start-again, \
                        cancel, pause, resume, delete, doctor (`import list --help` …). Their workers write to the database that \
                        IMPORT_DB names (import.db)."
)]
struct Flags {
    /// The airports: a path, or a URL with file:, http:, https: (or s3:).
    #[arg(long, value_name = "LOCATION")]
    csv: Option<Location>,
    /// The territories: CLDR's supplemental data.
    #[arg(long, value_name = "LOCATION")]
    xml: Option<Location>,
    /// The database that the rows go to.
    #[arg(long, env = "IMPORT_DB", default_value = "import.db", value_name = "FILE")]
    db: PathBuf,
    /// Where the report goes.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Where the workflow's state is kept.
    #[arg(long, env = "GUSHER_STORE", default_value = "sqlite:gusher.db", value_name = "URL")]
    store: String,
    /// Where fetched files are kept: a folder, or s3://bucket/prefix.
    #[arg(long, value_name = "LOCATION")]
    shared: Option<Location>,
    /// How many bad rows the report may lack: a number, or a share such as 0.1%.
    #[arg(long, value_parser = tolerance, value_name = "ROWS")]
    tolerate: Option<Tolerate>,
    /// How many jobs run at once.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: Option<u32>,
    /// Imports the first so many rows only.
    #[arg(long)]
    rows: Option<u64>,
    /// Reads the file so many times over, with distinct keys.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    repeat: u32,
    /// Prints a summary as JSON in the last line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let is_command = arguments.get(1).is_some_and(|first| !first.to_string_lossy().starts_with('-'));
    if is_command {
        let database = std::env::var_os("IMPORT_DB").map_or_else(|| PathBuf::from("import.db"), PathBuf::from);
        return app(database).run_with(arguments);
    }
    match run(Flags::parse_from(arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that the program registers.
fn app(database: PathBuf) -> App<Shared> {
    App::new(move || Shared::connect(database.clone()))
        .workflow::<ImportWorkflow>()
        .source::<DownloadCsv>()
        .job::<ImportCsvRow>()
        .job::<ImportXml>()
        .job::<GenReport>()
}

/// Imports everything in this process.
#[tokio::main]
async fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let app = app(flags.db.clone());
    let store = gusher::store::open(&flags.store).await?;
    let mut options = WorkerOptions::default();
    options.slots = flags.slots.unwrap_or(options.slots);
    let worker = app.worker_on(store.clone(), options).await?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker.run(stop.clone()));

    let workflow = flags.workflow()?;
    let handle = app.client_on(store).start(workflow).await?;
    eprintln!("importing as workflow {}", handle.id());
    let done = tokio::select! {
        done = Progress::new().follow(&handle) => done?,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("stopping; `import worker` goes on with it, `import why {}` says how it stands", handle.id());
            tokio::spawn(async {
                let _ = tokio::signal::ctrl_c().await;
                std::process::exit(130);
            });
            stop.cancel();
            worker.await??;
            return Ok(ExitCode::from(130));
        }
    };
    stop.cancel();
    worker.await??;

    if done.state != WorkflowState::Succeeded {
        for cause in handle.why().await?.causes {
            eprintln!("  {}", cause.text);
        }
        if flags.json {
            let jobs = done.jobs;
            let summary = serde_json::json!({
                "workflow": done.id, "report": null, "rows": jobs.succeeded, "failed": jobs.failed, "territories": null,
                "seconds": seconds(started),
            });
            println!("{summary}");
        }
        bail!("the import {}; `import show {}` shows more", done.state, done.id);
    }
    let output = handle.job(GenReport::NAME, 0).await?.output.ok_or_else(|| anyhow!("the report has no summary"))?;
    let summary: Summary = serde_json::from_str(output.get()).context("the report's summary does not decode")?;
    let Summary { report, rows, failed, territories } = summary;
    eprintln!(
        "imported {} airports ({failed} rows missing) and {territories} territories in {:.1} s",
        thousands(rows),
        started.elapsed().as_secs_f64()
    );
    if flags.json {
        let seconds = seconds(started);
        let summary = serde_json::json!({
            "workflow": done.id, "report": report, "rows": rows, "failed": failed, "territories": territories, "seconds": seconds,
        });
        println!("{summary}");
    } else {
        println!("report    {}", report.display());
        println!("workflow  {}", done.id);
    }
    Ok(ExitCode::SUCCESS)
}

fn seconds(started: Instant) -> f64 {
    (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

impl Flags {
    /// The workflow that the flags describe. Paths are made absolute: a worker may run elsewhere.
    fn workflow(&self) -> anyhow::Result<ImportWorkflow> {
        let default = ImportWorkflow::default();
        let absolute = |location: &Location| location.absolute().context("finding the current folder");
        Ok(ImportWorkflow {
            csv: self.csv.as_ref().map(absolute).transpose()?.unwrap_or(default.csv),
            xml: self.xml.as_ref().map(absolute).transpose()?.unwrap_or(default.xml),
            report: self.report.as_deref().map(std::path::absolute).transpose()?.unwrap_or(default.report),
            shared: self.shared.as_ref().map(absolute).transpose()?,
            rows: self.rows,
            repeat: self.repeat,
            tolerate: self.tolerate.unwrap_or_default(),
        })
    }
}

/// A number of rows, or a share of all.
fn tolerance(text: &str) -> Result<Tolerate, String> {
    let wrong = || format!("`{text}` is neither a number of rows (10) nor a share of all (0.1%)");
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
            let is_share = (0.0..=100.0).contains(&percent);
            is_share.then_some(Tolerate::Fraction(percent / 100.0)).ok_or_else(wrong)
        }
        None => text.parse().map(Tolerate::Jobs).map_err(|_| wrong()),
    }
}
