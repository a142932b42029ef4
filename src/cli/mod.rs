//! The command line that [`App::main`](crate::App::main) gives to a user's own binary. One file a command; besides them:
//!
//! | file | what |
//! |---|---|
//! | `house` | the application, its store and its output, as every command is given them |
//! | `out` | what goes to the terminal, as text for people or as JSON |
//! | `target` | `ID`, `latest`, `ID/STEP#INDEX` |
//! | `follow`, `progress`, `board` | waiting for a workflow, with bars |
//! | `obstacle`, `fate` | why nothing moves, what becomes of failed jobs |
//! | `cells`, `mended` | parameters as CSV, and back |
//! | `interrupt`, `logging` | Ctrl-C, and what the engine logs |
//! | `table`, `time` | tables and colours, points in time |

mod board;
mod cancel;
pub(crate) mod cells;
mod delete;
mod discard;
mod doctor;
mod du;
mod failures;
mod fate;
mod follow;
mod graph;
mod house;
mod interrupt;
mod jobs;
mod keep;
mod lanes;
mod list;
pub(crate) mod logging;
pub(crate) mod mended;
mod obstacle;
mod out;
mod pause;
pub(crate) mod progress;
mod prune;
mod replace;
mod resume;
mod retry;
mod run_again;
mod schedule;
mod show;
mod signal;
mod skip;
pub(crate) mod start;
mod start_again;
mod table;
pub(crate) mod target;
pub(crate) mod time;
mod watch;
mod why;
mod worker;
mod workers;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};

use self::house::{Global, House};
use self::out::{Ending, Out, Outcome, Stop};
use crate::app::App;
use crate::error::Error;

/// Starts, runs and shows the workflows of this program
///
/// Wherever an ID is asked for, `latest` is the workflow that was created last, and `latest:NAME` the last one of that name.
///
/// Exit codes: 0 it went well, or the workflow succeeded; 1 the workflow failed or was cancelled, the doctor found something, or an
/// error; 2 something was asked for that cannot be; 3 nothing was started, since another one is in the way; 130 stopped by a signal
/// before the end.
#[derive(Debug, clap::Parser)]
#[command(arg_required_else_help = true, max_term_width = 110)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Start(start::Start),
    Worker(worker::Worker),
    List(list::List),
    Show(show::Show),
    Watch(watch::Watch),
    Graph(graph::Graph),
    Why(why::Why),
    Failures(failures::Failures),
    Retry(retry::Retry),
    RunAgain(run_again::RunAgain),
    Skip(skip::Skip),
    Replace(replace::Replace),
    Discard(discard::Discard),
    StartAgain(start_again::StartAgain),
    Signal(signal::Signal),
    Cancel(cancel::Cancel),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Delete(delete::Delete),
    Prune(prune::Prune),
    Expire(keep::Expire),
    Pin(keep::Pin),
    Unpin(keep::Unpin),
    Workers(workers::Workers),
    Lanes(lanes::Lanes),
    Jobs(jobs::Jobs),
    Du(du::Du),
    Doctor(doctor::Doctor),
    Schedule(schedule::Schedule),
}

impl Command {
    async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        match self {
            Command::Start(command) => command.run(house).await,
            Command::Worker(command) => command.run(house).await,
            Command::List(command) => command.run(house).await,
            Command::Show(command) => command.run(house).await,
            Command::Watch(command) => command.run(house).await,
            Command::Graph(command) => command.run(house).await,
            Command::Why(command) => command.run(house).await,
            Command::Failures(command) => command.run(house).await,
            Command::Retry(command) => command.run(house).await,
            Command::RunAgain(command) => command.run(house).await,
            Command::Skip(command) => command.run(house).await,
            Command::Replace(command) => command.run(house).await,
            Command::Discard(command) => command.run(house).await,
            Command::StartAgain(command) => command.run(house).await,
            Command::Signal(command) => command.run(house).await,
            Command::Cancel(command) => command.run(house).await,
            Command::Pause(command) => command.run(house).await,
            Command::Resume(command) => command.run(house).await,
            Command::Delete(command) => command.run(house).await,
            Command::Prune(command) => command.run(house).await,
            Command::Expire(command) => command.run(house).await,
            Command::Pin(command) => command.run(house).await,
            Command::Unpin(command) => command.run(house).await,
            Command::Workers(command) => command.run(house).await,
            Command::Lanes(command) => command.run(house).await,
            Command::Jobs(command) => command.run(house).await,
            Command::Du(command) => command.run(house).await,
            Command::Doctor(command) => command.run(house).await,
            Command::Schedule(command) => command.run(house).await,
        }
    }

    /// From which level on its logs are shown: who runs a worker wants to see what it does.
    fn log_level(&self) -> &'static str {
        if matches!(self, Command::Worker(_)) { "info" } else { "warn" }
    }
}

/// Runs the command line of the process's own arguments.
pub(crate) fn main<S: Send + Sync + 'static>(app: App<S>) -> ExitCode {
    app.run_with(std::env::args_os())
}

impl<S: Send + Sync + 'static> App<S> {
    /// Runs the command line of `arguments`, of which the first is the program's name: for a program with arguments of its own.
    /// Brings a runtime, so call it outside of any.
    pub fn run_with(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let program = program_name(arguments.first());
        let workflows: Vec<&str> = self.registry.workflows.keys().copied().collect();
        let parsed = definitions(&program, &workflows)
            .try_get_matches_from(&arguments)
            .and_then(|matches| Line::from_arg_matches(&matches));
        let line = match parsed {
            Ok(line) => line,
            Err(error) => return misunderstood(&error, &arguments),
        };
        line.global.color.apply();
        let out = Out::new(line.global.json, program);
        ExitCode::from(match run(self, line, &out) {
            Ok(Ending::Fine) => 0,
            Ok(Ending::Failed) => 1,
            Ok(Ending::Skipped) => 3,
            Ok(Ending::Interrupted) => interrupt::INTERRUPTED,
            Err(Stop::Closed) => out::CLOSED,
            Err(Stop::Error(error)) => {
                out.complain(&error);
                out::exit_code(&error)
            }
        })
    }
}

fn run<S: Send + Sync + 'static>(mut app: App<S>, line: Line, out: &Out) -> Outcome {
    if let Some(url) = &line.global.broker {
        app = app.via(url);
    }
    logging::log_to_stderr(line.command.log_level())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::unavailable("starting the runtime").because(error))?;
    app.check()?;
    app.registry.program = Some(out.program.clone());
    let house = House { app, global: line.global, out: out.clone() };
    let ended = runtime.block_on(line.command.run(&house));
    // A job that never gives its thread back must not keep the process; its lease ends by itself.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// The definitions above, under the program's name and with the names of its workflows.
fn definitions(program: &str, workflows: &[&str]) -> clap::Command {
    let workflows = match workflows {
        [] => "This program registers no workflow.".to_owned(),
        names => format!("Workflows of this program: {}", names.join(", ")),
    };
    Line::command()
        .name(program.to_owned())
        .bin_name(program.to_owned())
        .mut_subcommand("start", |start| start.after_help(workflows.clone()))
        .mut_subcommand("graph", |graph| graph.after_help(workflows))
}

/// The name by which people call the program.
fn program_name(first: Option<&OsString>) -> String {
    let name = first.and_then(|path| Path::new(path).file_stem()).map(|name| name.to_string_lossy().into_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "gusher".to_owned())
}

/// Answers arguments that make no sense, or a call for help.
fn misunderstood(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    if wants_json && error.use_stderr() {
        let text = error.render().to_string();
        let text = text.split("\n\nUsage:").next().unwrap_or(&text).trim_start_matches("error: ");
        let words: Vec<&str> = text.split_whitespace().collect();
        out::complain_in_json(&words.join(" "), "usage");
    } else {
        // Nobody is left to tell if the terminal is gone.
        let _ = error.print();
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Line, clap::Error> {
        let arguments = std::iter::once("import").chain(arguments.iter().copied());
        definitions("import", &["Import"])
            .try_get_matches_from(arguments)
            .and_then(|matches| Line::from_arg_matches(&matches))
    }

    #[test]
    fn the_definitions_are_sound() {
        definitions("import", &[]).debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        assert!(parse(&["--json", "list"]).unwrap().global.json);
        assert_eq!(parse(&["list", "--store", "sqlite:a.db"]).unwrap().global.store.as_deref(), Some("sqlite:a.db"));
    }

    #[test]
    fn a_mistyped_command_is_answered_with_the_nearest() {
        assert!(parse(&["lst"]).unwrap_err().to_string().contains("'list'"));
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        assert!(parse(&["failures", "latest", "Row", "--csv", "--json"]).is_err());
        assert!(parse(&["start", "Import", "--slots", "3"]).is_err());
        assert!(parse(&["start", "Import", "--run", "--slots", "3"]).is_ok());
        assert!(parse(&["retry", "latest", "--params", "rows.csv"]).is_err());
        assert!(parse(&["jobs", "cancel"]).is_err());
        assert!(parse(&["jobs", "cancel", "--type", "SendMail", "--queue", "mail"]).is_ok());
        assert!(parse(&["jobs", "cancel", "some#1", "--type", "SendMail"]).is_err());
    }

    #[test]
    fn a_program_is_called_by_the_name_of_its_file() {
        assert_eq!(program_name(Some(&"/usr/bin/import".into())), "import");
        assert_eq!(program_name(None), "gusher");
    }
}
