//! Tasks that need a process of their own: so that its peak memory is theirs alone, or so that it can be killed.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::floor::FloorMeasured;
use crate::one_run::{RunMeasured, RunPlan};

/// What a child does. It travels as JSON on the child's command line; what was measured comes back on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// One run of the engine.
    Run(RunPlan),
    /// One run of the floor.
    Floor(RunPlan),
    /// A worker of imports, until nobody waits for it any more.
    Worker {
        /// The URL of the store.
        url: String,
    },
    /// A worker that starts jobs and never ends them, until it is killed.
    Victim {
        /// The URL of the store.
        url: String,
        /// How many jobs at once.
        slots: u32,
    },
}

/// One run of the engine in a process of its own.
pub fn run(plan: RunPlan) -> Result<RunMeasured> {
    ask(&Task::Run(plan))
}

/// One run of the floor in a process of its own.
pub fn floor(plan: RunPlan) -> Result<FloorMeasured> {
    ask(&Task::Floor(plan))
}

/// Starts this program again with `task`; what it prints can be read from the child.
pub fn start(task: &Task) -> Result<Child> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(&program);
    command.arg("child").arg(serde_json::to_string(task)?);
    // By the end of its input a child learns that nobody waits for it any more.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().with_context(|| format!("starting {}", program.display()))
}

fn ask<T: DeserializeOwned>(task: &Task) -> Result<T> {
    let output = start(task)?.wait_with_output().context("waiting for a child")?;
    ensure!(output.status.success(), "a child ended with {} (its task: {task:?})", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading the answer to {task:?}"))
}

/// Does a task in this process, which is the child.
pub async fn perform(task: &Task) -> Result<()> {
    let measured = match task {
        Task::Run(plan) => serde_json::to_string(&crate::one_run::run(plan).await?)?,
        Task::Floor(plan) => serde_json::to_string(&crate::floor::run(plan)?)?,
        Task::Worker { url } => return crate::suite::several::work(url).await,
        Task::Victim { url, slots } => return crate::suite::killed::be_a_victim(url, *slots).await,
    };
    println!("{measured}");
    Ok(())
}
