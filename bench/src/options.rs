//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use gusher::WorkerOptions;

use crate::rows::RowKind;

/// Measures a whole workflow: a job for each row, which does nothing, and one report after all of them.
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench", subcommand_negates_reqs = true, max_term_width = 120)]
pub struct Options {
    /// Where to run: `sqlite` (a fresh file in a temporary folder), `redis` (a server of its own, without persistence), or the URL of a store that is not there yet
    #[arg(long, value_name = "URL|sqlite|redis", required_unless_present = "suite")]
    pub store: Option<String>,
    /// How many rows
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000), conflicts_with = "suite")]
    pub rows: u64,
    /// Which rows
    #[arg(long, value_enum, ignore_case = true, default_value_t = RowKind::E, conflicts_with = "suite")]
    pub row: RowKind,
    /// Every row fails three times
    #[arg(long, conflicts_with = "suite")]
    pub fails: bool,
    /// How many runs; what is printed is their median, so the number is odd
    #[arg(long, default_value_t = 3, value_parser = odd, conflicts_with = "suite")]
    pub runs: usize,
    /// How many jobs the worker runs at once
    #[arg(long, default_value_t = WorkerOptions::default().slots, value_parser = clap::value_parser!(u32).range(1..=1024), conflicts_with = "suite")]
    pub slots: u32,
    /// The broker that brings the slices: `rabbitmq` (a server of its own), or the URL of one that is running; each run is measured without it, too
    #[arg(long, value_name = "URL|rabbitmq", conflicts_with = "suite")]
    pub broker: Option<String>,
    /// The folder to make the temporary folder in, to measure another disk
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Measures every budget of the design instead, and says which hold
    #[arg(long, conflicts_with = "store")]
    pub suite: bool,
    /// The suite at a tenth of its sizes or less
    #[arg(long, requires = "suite", conflicts_with = "store")]
    pub quick: bool,
    /// One topic of the suite
    #[arg(long, value_enum, value_name = "TOPIC", requires = "suite", conflicts_with = "store")]
    pub only: Option<Topic>,
    /// Ends the output with one line of JSON
    #[arg(long)]
    pub json: bool,
    /// What a child of a benchmark does instead
    #[command(subcommand)]
    pub part: Option<Part>,
}

/// What of the suite can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topic {
    /// A million rows on SQLite, ten million against a hundred thousand, memory
    Big,
    /// Rows that all fail three times, on SQLite
    Failing,
    /// A retry of every tenth row
    Repair,
    /// Rows of many files in three stages
    Chains,
    /// The rows of Redis
    Redis,
    /// One worker process against two
    Several,
    /// Twelve imports on a cluster
    Cluster,
    /// Lone jobs
    Lone,
    /// Lone jobs with a key
    Keyed,
    /// A small workflow beside a big one
    Beside,
    /// A worker that waits
    Idle,
    /// A hundred that wait, and one job
    Crowd,
    /// How soon a waiting worker starts a job
    Wake,
    /// A few slow rows among fast ones
    Slow,
    /// A worker that is killed
    Killed,
    /// What is refused
    Limits,
    /// A hundred thousand workflows that are pruned beside others (a quarter of an hour, so only if asked for)
    Prune,
}

impl Topic {
    /// As the command line has it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What a benchmark starts this program again for.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// A task of a benchmark, as JSON
    #[command(hide = true)]
    Child {
        /// The task
        task: String,
    },
}

fn odd(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(runs) if runs % 2 == 1 && runs <= 99 => Ok(runs),
        Ok(0) => Err("there must be a run".to_owned()),
        Ok(runs) if runs % 2 == 0 => {
            Err("an even number of runs has no run in the middle; give an odd number".to_owned())
        }
        Ok(_) => Err("99 runs are enough".to_owned()),
        Err(_) => Err("not a number of runs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn refused(arguments: &[&str]) -> String {
        let line = ["bench"].iter().chain(arguments);
        Options::try_parse_from(line).expect_err("these flags are refused").to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn bad_flags_say_what_would_be_right() {
        assert!(refused(&["--store", "sqlite", "--runs", "4"]).contains("give an odd number"));
        assert!(refused(&["--store", "sqlite", "--runs", "0"]).contains("there must be a run"));
        assert!(refused(&["--store", "sqlite", "--rows", "0"]).contains("0 is not in 1..=100000000"));
        assert!(refused(&["--store", "sqlite", "--row", "B"]).contains("possible values: E, A"));
        assert!(refused(&["--suite", "--rows", "5"]).contains("cannot be used with"));
        assert!(refused(&["--store", "sqlite", "--quick"]).contains("cannot be used with"));
        assert!(refused(&["--quick"]).contains("--suite"));
        assert!(refused(&["--only", "wake"]).contains("--suite"));
        assert!(refused(&["--suite", "--only", "luck"]).contains("possible values: big, failing"));
        assert!(refused(&[]).contains("--store"));
    }

    #[test]
    fn a_topic_is_named_as_it_is_asked_for() {
        let options = Options::try_parse_from(["bench", "--suite", "--only", "wake"]).unwrap();
        assert_eq!(options.only.map(Topic::name), Some("wake".to_owned()));
    }

    #[test]
    fn rows_are_named_by_their_letters() {
        let options = Options::try_parse_from(["bench", "--store", "sqlite", "--row", "a"]).unwrap();
        assert_eq!((options.row, options.runs), (RowKind::A, 3));
    }
}
