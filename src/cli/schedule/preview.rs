//! `schedule preview`: the next times of a rule.

use crate::cli::house::House;
use crate::cli::out::{Ending, Outcome};
use crate::cli::time;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::schedule::Rule;
use crate::schedule::definition::Definition;

/// Print the next times of a rule, one a line
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("rule").required(true).args(["name", "cron", "every"])))]
pub struct Preview {
    /// A schedule of this program, or of the store
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// A cron rule: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "RULE")]
    cron: Option<String>,
    /// An interval, for example 15m
    #[arg(long, value_name = "TIME")]
    every: Option<String>,
    /// The time zone of a cron rule's wall clocks; UTC unless given
    #[arg(long, value_name = "ZONE", requires = "cron")]
    zone: Option<String>,
    /// The first time to look at; now unless given
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: u32,
}

impl Preview {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let rule = self.rule(house).await?;
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

    async fn rule<S: Send + Sync + 'static>(&self, house: &House<S>) -> Result<Rule> {
        if let Some(cron) = &self.cron {
            return Rule::cron(cron, self.zone.as_deref().unwrap_or("UTC"));
        }
        if let Some(every) = &self.every {
            return Rule::every(super::add::duration(every)?);
        }
        let name = self.name.as_deref().unwrap_or_default();
        if let Some(declared) = house.app.registry.schedules.get(name) {
            return Ok(declared.rule.clone());
        }
        let row = house.client().await?.schedule(name).row().await?;
        Ok(Definition::decode(name, &row.definition)?.rule)
    }
}
