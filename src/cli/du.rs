//! `du`: which workflows the store is full of.

use futures::TryStreamExt;
use serde::Serialize;

use super::house::House;
use super::out::{Ending, Outcome};
use super::table::{Field, Table};
use crate::id::WorkflowId;
use crate::render::words::{bytes, count, escape, number};
use crate::state::WorkflowState;
use crate::store::WorkflowSize;

/// Show how much each workflow takes of the store, the largest first
#[derive(Debug, clap::Args)]
pub struct Du {
    /// Only workflows of this type
    #[arg(long = "type", value_name = "NAME")]
    workflow_type: Option<String>,
    /// How many to show; all are looked at
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Serialize)]
struct Sizes {
    /// How many workflows were looked at.
    workflows: u64,
    /// What all of them take.
    bytes: u64,
    largest: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    id: WorkflowId,
    name: String,
    state: WorkflowState,
    jobs: u64,
    bytes: u64,
    #[serde(flatten)]
    of_which: WorkflowSize,
}

impl Du {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let mut workflows = client.workflows();
        if let Some(name) = &self.workflow_type {
            workflows = workflows.named(name);
        }
        let mut all = workflows.stream();
        let mut sizes = Sizes { workflows: 0, bytes: 0, largest: Vec::new() };
        while let Some(workflow) = all.try_next().await? {
            let size = match client.store().size(workflow.id).await {
                Ok(size) => size,
                // It was deleted in between.
                Err(error) if error.kind() == crate::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            sizes.workflows += 1;
            sizes.bytes += size.total();
            let (id, state, jobs) = (workflow.id, workflow.state, workflow.jobs.total);
            sizes.largest.push(Entry { id, name: workflow.name, state, jobs, bytes: size.total(), of_which: size });
            // However many there are, only those that may be shown are kept.
            if sizes.largest.len() >= 2 * self.limit as usize {
                self.keep_largest(&mut sizes.largest);
            }
        }
        self.keep_largest(&mut sizes.largest);
        if house.out.json {
            house.out.document(&sizes)?;
        } else {
            house.out.text(&lines(&sizes))?;
        }
        Ok(Ending::Fine)
    }

    fn keep_largest(&self, sizes: &mut Vec<Entry>) {
        sizes.sort_by_key(|size| std::cmp::Reverse(size.bytes));
        sizes.truncate(self.limit as usize);
    }
}

fn lines(sizes: &Sizes) -> String {
    if sizes.workflows == 0 {
        return "no workflows".to_owned();
    }
    let mut table = Table::new(&[">SIZE", ">PARAMETERS", ">OUTCOMES", ">STATE", ">JOBS", "ID", "NAME", "STATE"]);
    for size in &sizes.largest {
        table.row([
            bytes(size.bytes).into(),
            bytes(size.of_which.parameter_bytes).into(),
            bytes(size.of_which.outcome_bytes).into(),
            bytes(size.of_which.state_bytes).into(),
            number(size.jobs).into(),
            size.id.to_string().into(),
            escape(&size.name).into(),
            Field::State(size.state.as_str()),
        ]);
    }
    format!("{}{} in {}", table.lines(), bytes(sizes.bytes), count(sizes.workflows, "workflow"))
}
