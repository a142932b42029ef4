//! `doctor`: recounts everything.

use super::house::House;
use super::out::{Ending, Outcome};
use super::table::{ERROR, WARNING};
use crate::render::words::{count, escape};

/// Recount everything in the store and check what must hold; exit code 1 if something does not. Also says what no live worker can run, and what the servers may lose
#[derive(Debug, clap::Args)]
pub struct Doctor {}

impl Doctor {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let checkup = house.client().await?.doctor().await?;
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
