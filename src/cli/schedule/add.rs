//! `schedule add`: keeps a schedule of a registered workflow or job.

use std::time::Duration;

use serde_json::value::RawValue;

use super::as_it_stands;
use crate::cli::house::House;
use crate::cli::out::Outcome;
use crate::cli::start::arguments;
use crate::error::{Error, Result};
use crate::schedule::{Missed, NewSchedule, Schedule as Handle};
use crate::store::{Overlap, parse_duration};

/// Keep a schedule; one of that name is changed
///
/// In texts of the arguments `{at}` stands for the instant, and `{at:%Y-%m-%d}` for what that format makes of it.
#[derive(Debug, clap::Args)]
#[command(
    group(clap::ArgGroup::new("times").required(true).args(["cron", "every"])),
    group(clap::ArgGroup::new("action").required(true).args(["start", "enqueue"])),
)]
pub struct Add {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// A cron rule: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "RULE")]
    cron: Option<String>,
    /// The time zone of its wall clocks; UTC unless given
    #[arg(long, value_name = "ZONE", requires = "cron")]
    zone: Option<String>,
    /// An interval, for example 15m
    #[arg(long, value_name = "TIME")]
    every: Option<String>,
    /// The workflow to start
    #[arg(long, value_name = "NAME")]
    start: Option<String>,
    /// The job type of a lone job to enqueue
    #[arg(long, value_name = "TYPE")]
    enqueue: Option<String>,
    /// The arguments or parameters; {} unless given
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// What a start does while another one of its type and key has not finished
    #[arg(long, value_name = "RULE", value_enum, default_value_t = OverlapRule::Allow)]
    overlap: OverlapRule,
    /// Only those with the same key are in each other's way
    #[arg(long, value_name = "KEY", requires = "overlap")]
    key: Option<String>,
    /// What becomes of instants at which nothing ran: `last`, `none`, or how many are made up for
    #[arg(long, value_name = "RULE", default_value = "last", value_parser = missed)]
    missed: Missed,
    /// How late an instant counts as on time
    #[arg(long, value_name = "TIME", default_value = "1m")]
    grace: String,
    /// Start each up to so much later
    #[arg(long, value_name = "TIME")]
    jitter: Option<String>,
    /// The queue of its jobs
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
}

/// What becomes of a start while another one has not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OverlapRule {
    /// It starts beside the other one
    Allow,
    /// It is left out
    Skip,
    /// It waits; all that wait start one after the other
    Wait,
    /// It waits, unless one waits already
    WaitOne,
    /// The other one is cancelled
    Cancel,
}

impl OverlapRule {
    fn overlap(self) -> Option<Overlap> {
        match self {
            OverlapRule::Allow => None,
            OverlapRule::Skip => Some(Overlap::Skip),
            OverlapRule::Wait => Some(Overlap::Wait),
            OverlapRule::WaitOne => Some(Overlap::WaitOne),
            OverlapRule::Cancel => Some(Overlap::Cancel),
        }
    }
}

fn missed(text: &str) -> Result<Missed, String> {
    match text {
        "last" => Ok(Missed::Last),
        "none" => Ok(Missed::None),
        number => number.parse().map(Missed::All).map_err(|_| "there are `last`, `none`, or a number".to_owned()),
    }
}

/// A length of time as it was typed.
pub fn duration(text: &str) -> Result<Duration> {
    let wrong = || Error::usage(format!("`{text}` is no length of time; one looks like 250ms, 30s, 15m, 2h or 1d"));
    parse_duration(text).ok_or_else(wrong)
}

impl Add {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client_or_new().await?;
        let schedule = self.described(client.schedule(self.name.clone()))?;
        let kept = match (&self.start, &self.enqueue) {
            (Some(workflow), _) => {
                let arguments = arguments(&house.app.registry, workflow, self.args.as_deref())?;
                schedule.start_named(workflow, &arguments).await?
            }
            (None, job) => {
                let given = RawValue::from_string(self.args.clone().unwrap_or_else(|| "{}".to_owned()));
                let parameters = given.map_err(|e| Error::usage("what stands behind --args is not JSON").because(e))?;
                schedule.enqueue_named(job.as_deref().unwrap_or_default(), &parameters).await?
            }
        };
        as_it_stands(house, &kept).await
    }

    fn described(&self, schedule: Handle) -> Result<NewSchedule<Handle>> {
        let mut new = match (&self.cron, &self.every) {
            (Some(rule), _) => schedule.cron(rule),
            (None, every) => schedule.every(duration(every.as_deref().unwrap_or_default())?),
        };
        if let Some(zone) = &self.zone {
            new = new.zone(zone);
        }
        if let Some(overlap) = self.overlap.overlap() {
            new = new.overlap(overlap);
        }
        if let Some(key) = &self.key {
            new = new.key(key);
        }
        if let Some(queue) = &self.queue {
            new = new.queue(queue);
        }
        if let Some(jitter) = &self.jitter {
            new = new.jitter(duration(jitter)?);
        }
        Ok(new.missed(self.missed).grace(duration(&self.grace)?))
    }
}
