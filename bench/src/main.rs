//! How fast the engine is, and whether it keeps its budgets: `cargo xtask bench`.
//!
//! | file | what |
//! |---|---|
//! | `options` | the command line |
//! | `headline`, `figures` | some runs of one size, and what is said of them |
//! | `one_run`, `workload`, `rows`, `airports` | one run, and what it imports |
//! | `floor`, `floor_redis` | the same rows through SQLite, or a Redis server, with nothing else done |
//! | `child`, `place`, `servers` | processes, stores and servers that come and go |
//! | `cost`, `machine` | what operations cost, what the machine does |
//! | `suite` | every budget of the design, one file a scene |

mod airports;
mod child;
mod cost;
mod figures;
mod floor;
mod floor_redis;
mod headline;
mod machine;
mod one_run;
mod options;
mod place;
mod rows;
#[path = "../../tests/servers/mod.rs"]
mod servers;
mod suite;
mod workload;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::options::{Options, Part};
use crate::place::{Place, Usage};

#[tokio::main]
async fn main() -> ExitCode {
    match perform(Options::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

async fn perform(options: Options) -> Result<ExitCode> {
    if let Some(Part::Child { task }) = &options.part {
        let task = serde_json::from_str(task).context("a child was given a task that it does not know")?;
        child::perform(&task).await?;
    } else if let Some(store) = &options.store {
        headline::measure(&options, &Place::named(store, options.folder.as_deref())?)?;
    } else if !suite::measure(&options).await? {
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
