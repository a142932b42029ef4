//! `schedule`: what is started at certain times.

mod add;
mod preview;
mod show;

use super::house::House;
use super::out::{Ending, Outcome};
use super::time;
use crate::error::Result;
use crate::schedule::Schedule as Handle;

/// What is started at certain times
#[derive(Debug, clap::Args)]
pub struct Schedule {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(show::List),
    Show(show::Show),
    Add(add::Add),
    Pause(Pause),
    Resume(Resume),
    Run(Run),
    Remove(Remove),
    Preview(preview::Preview),
}

impl Schedule {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        match self.command {
            Command::List(command) => command.run(house).await,
            Command::Show(command) => command.run(house).await,
            Command::Add(command) => command.run(house).await,
            Command::Pause(command) => command.run(house).await,
            Command::Resume(command) => command.run(house).await,
            Command::Run(command) => command.run(house).await,
            Command::Remove(command) => command.run(house).await,
            Command::Preview(command) => command.run(house).await,
        }
    }
}

/// Let it fire no more until `resume`; starts that wait for their turn go on waiting
#[derive(Debug, clap::Args)]
struct Pause {
    /// Which schedule
    #[arg(value_name = "NAME")]
    name: String,
}

impl Pause {
    async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let schedule = house.client().await?.schedule(self.name);
        schedule.pause().await?;
        as_it_stands(house, &schedule).await
    }
}

/// Let it fire again; what it left out is not made up for
#[derive(Debug, clap::Args)]
struct Resume {
    /// Which schedule
    #[arg(value_name = "NAME")]
    name: String,
}

impl Resume {
    async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let schedule = house.client().await?.schedule(self.name);
        schedule.resume().await?;
        as_it_stands(house, &schedule).await
    }
}

/// Fire it now, also while it is paused; its rule for overlaps holds
#[derive(Debug, clap::Args)]
struct Run {
    /// Which schedule
    #[arg(value_name = "NAME")]
    name: String,
}

impl Run {
    async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let at = client.schedule(self.name).run().await?;
        if house.out.json {
            house.out.document(&serde_json::json!({ "at": at }))?;
        } else {
            house.out.text(&format!("fired at {}", time::at(at)))?;
            if client.store().workers(1).await?.is_empty() {
                house
                    .out
                    .note(&format!("no worker is alive yet; `{} worker` starts what it starts", house.out.program));
            }
        }
        Ok(Ending::Fine)
    }
}

/// Forget it, with its history; what a program declares comes back when a worker of it starts
#[derive(Debug, clap::Args)]
struct Remove {
    /// Which schedule
    #[arg(value_name = "NAME")]
    name: String,
}

impl Remove {
    async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        client.schedule(self.name.clone()).remove().await?;
        if house.out.json {
            house.out.document(&serde_json::json!({ "removed": self.name }))?;
        } else {
            house.out.text("removed")?;
            if house.app.registry.schedules.contains_key(&self.name) {
                house.out.note("this program declares it: it comes back when a worker of it starts");
            }
        }
        Ok(Ending::Fine)
    }
}

/// Tells how a schedule stands after a command.
async fn as_it_stands<S: Send + Sync + 'static>(house: &House<S>, schedule: &Handle) -> Outcome {
    let status: Result<_> = schedule.status().await;
    let status = status?;
    if house.out.json {
        house.out.document(&status)?;
    } else {
        house.out.text(&show::list(&[status]))?;
    }
    Ok(Ending::Fine)
}
