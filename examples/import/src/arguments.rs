//! What can be said on the command line of an import.

use std::ffi::OsString;
use std::path::PathBuf;

use gusher::Tolerate;
use import::Location;
use import::jobs::shipped;
use import::workflow::ImportWorkflow;

/// How many jobs run at once unless said otherwise. A row waits for the disk and not for a processor, and the rows that wait together
/// share one trip there.
pub const SLOTS: u32 = 32;

/// Imports airports (CSV) and territories (XML) into a database and writes a report.
///
/// Without options: the shipped files, into import.db and import-report.html in the current folder.
#[derive(Debug, clap::Parser)]
#[command(
    name = "import",
    disable_help_subcommand = true,
    max_term_width = 110,
    subcommand_value_name = "COMMAND",
    after_help = "\
Commands, each with a --help of its own: start, worker, workers, list, show, watch, graph, why, failures, retry, run-again, skip, replace,
discard, start-again, signal, cancel, pause, resume, expire, pin, unpin, delete, prune, schedule, lanes, jobs, du, doctor. Their workers write to the database that IMPORT_DB names (import.db).

Exit codes: 0 the import succeeded; 1 it failed; 2 something was asked for that cannot be; 3 nothing was started, since another one is in the way; 130 stopped by a signal."
)]
pub struct Arguments {
    /// Where the airports are: a path, or a URL with file:, http:, https: or s3:
    #[arg(long, value_name = "LOCATION", default_value_t = Location::from(shipped("airports.csv")), hide_default_value = true)]
    csv: Location,
    /// Where the territories are: a path or URL
    #[arg(long, value_name = "LOCATION", default_value_t = Location::from(shipped("cldr-supplemental.xml")), hide_default_value = true)]
    xml: Location,
    /// The SQLite file that the airports go to
    #[arg(long, value_name = "FILE", env = "IMPORT_DB", default_value = "import.db")]
    pub db: PathBuf,
    /// The HTML page that tells of them
    #[arg(long, value_name = "FILE", default_value = "import-report.html")]
    report: PathBuf,
    /// Where the engine keeps its state
    #[arg(long, value_name = "URL", env = "GUSHER_STORE", hide_env_values = true, default_value = "sqlite:gusher.db")]
    pub store: String,
    /// The broker that brings the work to workers, such as amqp://127.0.0.1:5672; the store itself unless set
    #[arg(long, value_name = "URL", env = "GUSHER_BROKER", hide_env_values = true)]
    pub broker: Option<String>,
    /// Keep the files that are read here, for every worker: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "LOCATION")]
    shared: Option<Location>,
    /// How many bad rows the report may lack: a number, or a share such as 0.1%
    #[arg(long, value_name = "ROWS", default_value = "0", value_parser = tolerance)]
    tolerate: Tolerate,
    /// Where to publish the report, once `import signal latest approval '{"by": ".."}'` has approved it
    #[arg(long, value_name = "FILE")]
    publish: Option<PathBuf>,
    /// How many jobs run at once
    #[arg(long, value_name = "N", default_value_t = SLOTS, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub slots: u32,
    /// Only the first N rows of the file
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Read the file K times over, with distinct keys
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    repeat: u32,
    /// End with a line of JSON: workflow, report, rows, failed, territories, seconds
    #[arg(long)]
    pub json: bool,
    /// Understood before a command, whose option it is.
    #[arg(long, hide = true)]
    color: Option<clap::ColorChoice>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Whatever the engine makes of it: all commands are its own.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    #[command(external_subcommand)]
    OfTheEngine(#[expect(dead_code, reason = "the engine reads the process's arguments itself")] Vec<OsString>),
}

impl Arguments {
    /// The workflow that does what was asked for.
    pub fn workflow(&self) -> std::io::Result<ImportWorkflow> {
        let workflow = ImportWorkflow {
            csv: self.csv.clone(),
            xml: self.xml.clone(),
            report: self.report.clone(),
            shared: self.shared.clone(),
            rows: self.rows,
            repeat: self.repeat,
            tolerate: self.tolerate,
            publish: self.publish.clone(),
        };
        workflow.absolute()
    }
}

fn tolerance(text: &str) -> Result<Tolerate, String> {
    let wrong = || "it is neither a number of rows (10) nor a share of all (0.1%)".to_owned();
    match text.strip_suffix('%') {
        Some(percent) => percent
            .trim()
            .parse()
            .ok()
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(|percent: f64| Tolerate::Fraction(percent / 100.0))
            .ok_or_else(wrong),
        None => match text.parse().map_err(|_| wrong())? {
            0 => Ok(Tolerate::None),
            rows => Ok(Tolerate::Jobs(rows)),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["import"], arguments].concat())
    }

    #[test]
    fn the_definitions_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_options_the_shipped_files_are_imported() {
        let workflow = parse(&[]).unwrap().workflow().unwrap();
        assert!(workflow.csv.as_path().unwrap().ends_with("data/airports.csv"));
        assert!(workflow.report.is_absolute());
        assert_eq!((workflow.rows, workflow.repeat, workflow.tolerate), (None, 1, Tolerate::None));
    }

    #[test]
    fn a_word_is_a_command_of_the_engine_with_all_that_follows() {
        for line in
            [&["list"][..], &["--json", "show", "latest"], &["worker", "--slots", "4"], &["--color", "never", "lst"]]
        {
            assert!(parse(line).unwrap().command.is_some(), "{line:?}");
        }
    }

    #[test]
    fn a_tolerance_is_a_number_or_a_share() {
        assert_eq!(tolerance("10"), Ok(Tolerate::Jobs(10)));
        assert_eq!(tolerance("0.1%"), Ok(Tolerate::Fraction(0.001)));
        assert_eq!(tolerance("0"), Ok(Tolerate::None));
        for wrong in ["", "ten", "-1", "101%", "NaN%", "0.1"] {
            assert!(tolerance(wrong).unwrap_err().contains("(0.1%)"), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in
            [["--repeat", "0"], ["--slots", "0"], ["--rows", "-1"], ["--csv", "ftp://host/a.csv"], ["--cvs", "a.csv"]]
        {
            assert!(parse(&line).is_err(), "{line:?}");
        }
    }
}
