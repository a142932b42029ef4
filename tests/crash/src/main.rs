//! Crash runs: real worker processes on one store, which are killed, stopped, starved of disk or of their server and told wrong times
//! while a checker's ledgers are written. `cargo xtask crash` starts them.

mod carrier;
mod crew;
mod dice;
mod ending;
mod run;
#[path = "../../servers/mod.rs"]
mod servers;
mod sink;
mod stage;
mod worker;
mod workload;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
enum Command {
    /// A whole run.
    Run(run::Arguments),
    /// One of its workers.
    Worker(worker::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Command::parse() {
        Command::Run(arguments) => run::run(arguments).await,
        Command::Worker(arguments) => worker::work(arguments).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
