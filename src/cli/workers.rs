//! `workers`: who is there to run jobs.

use serde::Serialize;

use super::house::House;
use super::out::{Ending, Outcome};
use super::table::Table;
use super::time;
use crate::clock::Millis;
use crate::render::words::{escape, number};
use crate::store::WorkerRow;

/// How many are shown.
const SHOWN: u32 = 1000;

/// List live workers
#[derive(Debug, clap::Args)]
pub struct Workers {}

#[derive(Serialize)]
struct WorkerView {
    session: String,
    host: String,
    pid: u32,
    slots: u32,
    leases: u64,
    since: Millis,
    queues: Vec<String>,
    types: Vec<String>,
}

impl From<WorkerRow> for WorkerView {
    fn from(row: WorkerRow) -> Self {
        let session = row.session;
        Self {
            session: session.id.to_string(),
            host: session.host,
            pid: session.pid,
            slots: session.slots,
            leases: row.leases,
            since: row.since,
            queues: session.queues,
            types: session.types,
        }
    }
}

impl Workers {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let workers: Vec<WorkerView> = client.store().workers(SHOWN).await?.into_iter().map(WorkerView::from).collect();
        if house.out.json {
            house.out.document(&workers)?;
        } else if workers.is_empty() {
            house.out.text(&format!("no worker is alive; `{} worker` starts one", house.out.program))?;
        } else {
            let mut table = Table::new(&["WORKER", ">SLOTS", ">LEASES", "SINCE", "QUEUES", "TYPES"]);
            for worker in &workers {
                table.row([
                    escape(&format!("{}:{}", worker.host, worker.pid)).into(),
                    number(u64::from(worker.slots)).into(),
                    number(worker.leases).into(),
                    time::at(worker.since).into(),
                    escape(&worker.queues.join(", ")).into(),
                    escape(&worker.types.join(", ")).into(),
                ]);
            }
            house.out.text(&table.lines())?;
        }
        Ok(Ending::Fine)
    }
}
