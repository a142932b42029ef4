//! `jobs failed|cancel|retry|discard`: commands on lone jobs.

use serde_json::json;

use super::fate::Fate;
use super::house::House;
use super::out::{Ending, Outcome};
use super::show::group_lines;
use crate::cancelling::Cancelled;
use crate::client::Client;
use crate::error::{Error, did_you_mean};
use crate::lone::JobId;
use crate::render::words::{count, escape};

/// Lone jobs by themselves; `lanes` shows them by queue and type
#[derive(Debug, clap::Args)]
pub struct Jobs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Cancel(Cancel),
    /// List failed lone jobs of a type by the kind of their errors, most first
    Failed(Failed),
    /// Run failed lone jobs of a type again
    Retry(Failed),
    /// Give failed lone jobs of a type up: they count as skipped
    Discard(Failed),
}

impl Jobs {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        match self.command {
            Command::Cancel(command) => command.run(house).await,
            Command::Failed(failed) => failed.list(house).await,
            Command::Retry(failed) => failed.meet(Fate::RunAgain, house).await,
            Command::Discard(failed) => failed.meet(Fate::GivenUp, house).await,
        }
    }
}

/// Cancel lone jobs: what waits never starts, what runs has ten seconds to come to its end
#[derive(Debug, clap::Args)]
struct Cancel {
    /// Which jobs: LANE#NUMBER, as `enqueue` returned them
    #[arg(value_name = "ID", required_unless_present = "job_type")]
    ids: Vec<String>,
    /// All that have not settled of this type
    #[arg(long = "type", value_name = "NAME", conflicts_with = "ids")]
    job_type: Option<String>,
    /// Only those in this queue
    #[arg(long, value_name = "NAME", requires = "job_type")]
    queue: Option<String>,
}

impl Cancel {
    async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let ids = self.ids.iter().map(|id| id.parse()).collect::<Result<Vec<JobId>, Error>>()?;
        let client = house.client().await?;
        let mut cancelled = Cancelled::default();
        match &self.job_type {
            Some(name) => {
                check_type(&client, name).await?;
                let mut told = std::time::Instant::now();
                let mut progress = |looked, of| {
                    if told.elapsed().as_secs() >= 1 {
                        told = std::time::Instant::now();
                        house.out.note(&format!("{looked} of {} looked at", count(of, "job")));
                    }
                };
                cancelled = client.cancel_chosen(name, self.queue.as_deref(), None, &mut progress).await?;
            }
            None => {
                for id in ids {
                    let one = client.cancel_job(id).await?;
                    cancelled.cancelled += one.cancelled;
                    cancelled.stopping += one.stopping;
                }
            }
        }
        if house.out.json {
            house.out.document(&cancelled)?;
        } else {
            house.out.text(&sentence(cancelled))?;
        }
        Ok(Ending::Fine)
    }
}

/// Which failed lone jobs
#[derive(Debug, clap::Args)]
struct Failed {
    /// Their type
    #[arg(long = "type", value_name = "NAME")]
    job_type: String,
    /// Only those in this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
}

impl Failed {
    async fn list<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        check_type(&client, &self.job_type).await?;
        let groups = client.errors_of_failed_lone(&self.job_type, self.queue.as_deref()).await?;
        if house.out.json {
            house.out.document(&groups)?;
        } else if groups.is_empty() {
            house.out.text(&format!("no job of type `{}` has failed", escape(&self.job_type)))?;
        } else {
            house.out.text(&group_lines(&self.job_type, &groups.iter().collect::<Vec<_>>()))?;
        }
        Ok(Ending::Fine)
    }

    async fn meet<S: Send + Sync + 'static>(self, fate: Fate, house: &House<S>) -> Outcome {
        let (job_type, queue) = (self.job_type.as_str(), self.queue.as_deref());
        let client = house.client().await?;
        check_type(&client, job_type).await?;
        let jobs = match fate {
            Fate::RunAgain => client.retry_failed_lone(job_type, queue).await?,
            Fate::GivenUp => client.discard_failed_lone(job_type, queue).await?,
        };
        if house.out.json {
            let done = match fate {
                Fate::RunAgain => "retried",
                Fate::GivenUp => "discarded",
            };
            house.out.document(&json!({ "type": job_type, "queue": queue, done: jobs }))?;
        } else {
            house.out.text(&fate.sentence(jobs, &format!(" of type `{}`", escape(job_type))))?;
        }
        Ok(Ending::Fine)
    }
}

async fn check_type(client: &Client, name: &str) -> Result<(), Error> {
    let lanes = client.lanes().await?;
    if lanes.iter().any(|lane| lane.job_type == name) {
        return Ok(());
    }
    let near = did_you_mean(name, lanes.iter().map(|lane| lane.job_type.as_str()));
    Err(Error::not_found(format!("no lone job of type `{}` has been enqueued{near}", escape(name))))
}

fn sentence(Cancelled { cancelled, stopping }: Cancelled) -> String {
    match (cancelled, stopping) {
        (0, 0) => "nothing is to be cancelled: what was named has settled".to_owned(),
        (cancelled, 0) => format!("{} cancelled", count(cancelled, "job")),
        (0, stopping) => format!("{} told to stop", count(stopping, "job")),
        (cancelled, stopping) => format!("{} cancelled, {stopping} told to stop", count(cancelled, "job")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cancelled_is_told_in_a_sentence() {
        let told = |cancelled, stopping| sentence(Cancelled { cancelled, stopping });
        assert_eq!(told(1, 0), "1 job cancelled");
        assert_eq!(told(2, 1), "2 jobs cancelled, 1 told to stop");
        assert!(told(0, 0).contains("has settled"));
    }
}
