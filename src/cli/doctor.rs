//! `doctor`: recounts everything.

use super::house::House;
use super::out::{Ending, Outcome};
use super::table::{ERROR, WARNING};
use crate::client::Client;
use crate::error::Result;
use crate::render::words::{count, escape};

/// What is wrong with the brokers of the registered types' queues, and which of those nobody takes from.
async fn of_brokers(client: &Client) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let workers = client.store().workers(1000).await?;
    for queue in client.queues() {
        let Some(broker) = client.broker_of(queue)? else { continue };
        warnings.extend(client.broker_trouble(queue).await);
        if !workers.iter().any(|worker| worker.session.queues.iter().any(|other| other == queue)) {
            let name = broker.name();
            warnings.push(format!(
                "queue `{queue}` goes by the broker {name}, but no live worker takes from it: nothing is published to it"
            ));
        }
    }
    Ok(warnings)
}

/// Recount everything in the store and check what must hold; exit code 1 if something does not. Also says what the servers may lose
#[derive(Debug, clap::Args)]
pub struct Doctor {}

impl Doctor {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let mut checkup = client.store().doctor().await?;
        checkup.warnings.extend(of_brokers(&client).await?);
        let is_well = checkup.findings.is_empty();
        if house.out.json {
            house.out.document(&checkup)?;
        } else {
            let looked_at = format!(
                "looked at {}, {}, {} and {}",
                count(checkup.workflows, "workflow"),
                count(checkup.steps, "step"),
                count(checkup.jobs, "job"),
                count(checkup.leases, "lease")
            );
            let mut lines: Vec<String> =
                checkup.findings.iter().map(|finding| format!("{ERROR}!{ERROR:#} {}", escape(finding))).collect();
            lines.extend(checkup.warnings.iter().map(|warning| format!("{WARNING}?{WARNING:#} {}", escape(warning))));
            lines.push(if is_well { format!("{looked_at}: nothing is wrong") } else { looked_at });
            house.out.text(&lines.join("\n"))?;
        }
        Ok(if is_well { Ending::Fine } else { Ending::Failed })
    }
}
