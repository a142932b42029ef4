//! `workers`: who is there to run jobs, and what each is at.

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::house::House;
use super::out::{Ending, Outcome};
use super::table::Table;
use super::time;
use crate::clock::Millis;
use crate::id::WorkflowId;
use crate::render::words::{count, escape, number};
use crate::store::{HeldRow, Store, WorkerRow};

/// How many are shown.
const SHOWN: u32 = 1000;
/// Of how many the store is asked together what they hold.
const ASKED_AT_ONCE: usize = 16;
/// How many slices of a worker are told of.
const SLICES: u32 = 50;
/// How many steps the table names for a worker.
const STEPS: usize = 3;

/// List live workers and what each is at
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
    /// The slices in its hands, those claimed first before the others.
    slices: Vec<SliceView>,
}

/// A slice: jobs of one step that a worker took together.
#[derive(Serialize)]
struct SliceView {
    workflow_id: WorkflowId,
    workflow: String,
    step: u32,
    name: String,
    /// The index of its first job, and of its last one.
    first: u64,
    last: u64,
    jobs: u64,
    claimed_at: Millis,
}

impl From<HeldRow> for SliceView {
    fn from(row: HeldRow) -> Self {
        let (mut at, jobs) = (row.jobs.iter().map(|at| row.first + at as u64), row.jobs.len() as u64);
        let first = at.next().unwrap_or(row.first);
        Self {
            workflow_id: row.workflow,
            workflow: row.workflow_name,
            step: row.step,
            name: row.step_name,
            first,
            last: at.last().unwrap_or(first),
            jobs,
            claimed_at: row.claimed_at,
        }
    }
}

impl WorkerView {
    async fn of(store: &dyn Store, row: WorkerRow) -> crate::Result<Self> {
        let held = store.held(row.session.id, SLICES).await?;
        let session = row.session;
        Ok(Self {
            session: session.id.to_string(),
            host: session.host,
            pid: session.pid,
            slots: session.slots,
            leases: row.leases,
            since: row.since,
            queues: session.queues,
            types: session.types,
            slices: held.into_iter().map(SliceView::from).collect(),
        })
    }

    /// In words: the steps that it holds jobs of.
    fn is_at(&self) -> String {
        let mut steps: Vec<(&str, &str, u64)> = Vec::new();
        for slice in &self.slices {
            match steps.iter_mut().find(|(workflow, name, _)| (*workflow, *name) == (&slice.workflow, &slice.name)) {
                Some((_, _, jobs)) => *jobs += slice.jobs,
                None => steps.push((&slice.workflow, &slice.name, slice.jobs)),
            }
        }
        let more = steps.len().saturating_sub(STEPS);
        let named = steps.iter().take(STEPS);
        let mut told: Vec<String> = named
            .map(|(workflow, name, jobs)| {
                // A lane is named as its only step is.
                let of = if workflow == name { String::new() } else { format!("{} ", escape(workflow)) };
                format!("{of}{}: {}", escape(name), count(*jobs, "job"))
            })
            .collect();
        told.extend((more > 0).then(|| format!("{} more", count(more as u64, "step"))));
        if told.is_empty() { "-".to_owned() } else { told.join(", ") }
    }
}

impl Workers {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let store = &**client.store();
        let rows = stream::iter(store.workers(SHOWN).await?).map(|row| WorkerView::of(store, row));
        let workers: Vec<WorkerView> = rows.buffered(ASKED_AT_ONCE).try_collect().await?;
        if house.out.json {
            house.out.document(&workers)?;
        } else if workers.is_empty() {
            house.out.text(&format!("no worker is alive; `{} worker` starts one", house.out.program))?;
        } else {
            let mut table = Table::new(&["WORKER", ">SLOTS", ">LEASES", "SINCE", "QUEUES", "TYPES", "IS AT"]);
            for worker in &workers {
                table.row([
                    escape(&format!("{}:{}", worker.host, worker.pid)).into(),
                    number(u64::from(worker.slots)).into(),
                    number(worker.leases).into(),
                    time::at(worker.since).into(),
                    escape(&worker.queues.join(", ")).into(),
                    escape(&worker.types.join(", ")).into(),
                    worker.is_at().into(),
                ]);
            }
            house.out.text(&table.lines())?;
        }
        Ok(Ending::Fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::Mask;

    fn held(workflow: &str, step: u32, jobs: std::ops::Range<usize>) -> HeldRow {
        HeldRow {
            workflow: WorkflowId::new(0, 0),
            workflow_name: workflow.into(),
            step,
            step_name: format!("step {step}"),
            first: 1_024,
            jobs: Mask::range(jobs),
            claimed_at: 5,
        }
    }

    fn worker(held: Vec<HeldRow>) -> WorkerView {
        WorkerView {
            session: String::new(),
            host: String::new(),
            pid: 1,
            slots: 4,
            leases: held.len() as u64,
            since: 0,
            queues: Vec::new(),
            types: Vec::new(),
            slices: held.into_iter().map(SliceView::from).collect(),
        }
    }

    #[test]
    fn what_a_worker_is_at_is_told_by_steps_and_in_json_by_slices() {
        let busy = worker(vec![held("Import", 1, 0..2), held("Import", 2, 5..6), held("Import", 1, 8..10)]);
        assert_eq!(busy.is_at(), "Import step 1: 4 jobs, Import step 2: 1 job");
        let slice = serde_json::to_value(&busy.slices[2]).unwrap();
        assert_eq!((&slice["first"], &slice["last"], &slice["jobs"]), (&1_032.into(), &1_033.into(), &2.into()));
        let everywhere = worker((0..5).map(|step| held("Import", step, 0..1)).collect());
        assert!(everywhere.is_at().ends_with("Import step 2: 1 job, 2 steps more"), "{}", everywhere.is_at());
        assert_eq!(worker(Vec::new()).is_at(), "-");
    }
}
