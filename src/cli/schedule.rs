//! `schedule`: what is started at certain times.

use super::house::House;
use super::out::{Ending, Outcome};
use super::time;
use crate::clock::Clock;
use crate::error::Error;
use crate::schedule::Rule;

/// What is started at certain times
#[derive(Debug, clap::Args)]
pub struct Schedule {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Preview(Preview),
}

impl Schedule {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        match self.command {
            Command::Preview(command) => command.run(house).await,
        }
    }
}

/// Print the next times of a rule, one a line
#[derive(Debug, clap::Args)]
struct Preview {
    /// A cron rule: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "RULE")]
    cron: String,
    /// The time zone of its wall clocks
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: String,
    /// The first time to look at; now unless given
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: u32,
}

impl Preview {
    async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let rule = Rule::cron(&self.cron, &self.zone)?;
        let now = Clock::system().now();
        let from = self.from.as_deref().map_or(Ok(now), |from| time::parse(from, now))?;
        let runs: Vec<String> =
            rule.instants_from(from).take(self.count as usize).map(|instant| rule.show(instant)).collect();
        if runs.is_empty() {
            return Err(Error::usage("there is no such time before the calendar ends").into());
        }
        if house.out.json {
            house.out.document(&runs)?;
        } else {
            house.out.text(&runs.join("\n"))?;
        }
        Ok(Ending::Fine)
    }
}
