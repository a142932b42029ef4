//! The program. Without a command it imports and reports; with one it is Gusher's command line for this program's jobs.
//!
//! ```text
//! import                              imports the shipped files, with a worker of its own
//! import worker                       a worker, as many as one likes
//! import start ImportWorkflow --wait  the same import, for those workers
//! import list | show | why | …        what the engine tells and does
//! ```

mod arguments;
mod once;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gusher::{App, Retention};
use import::jobs::{Approval, DownloadCsv, GenReport, ImportCsvRow, ImportXml, Publish, Shared};
use import::workflow::ImportWorkflow;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let app = app(arguments.db.clone());
    match arguments.command {
        Some(_) => nightly(app).main(),
        None => {
            let app = match &arguments.broker {
                Some(url) => app.via(url),
                None => app,
            };
            once::run(&app, &arguments)
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
        .job::<Publish>()
        .signal::<Approval>()
        .slots(arguments::SLOTS)
}

/// The import of every night: none begins while another one runs, and what has finished is kept for a week.
fn nightly(app: App<Shared>) -> App<Shared> {
    app.retention_of::<ImportWorkflow>(Retention::days(7))
        .schedule("nightly import")
        .cron("0 2 * * *")
        .zone("Europe/Berlin")
        .unless_running()
        .start(ImportWorkflow::default())
}
