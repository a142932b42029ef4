//! A checkup of a store: what the store finds in itself, and what nobody is there to run.

use std::collections::BTreeMap;

use futures::TryStreamExt;

use crate::client::Client;
use crate::error::{ErrorKind, Result};
use crate::render::words::count;
use crate::state::{StepState, WorkflowState};
use crate::store::{Checkup, StepRow, WorkerRow};
use crate::why::no_worker;

/// How many live workers are looked at.
const WORKERS: u32 = 10_000;
/// How many steps one look brings.
const STEPS: u32 = 1_000;

impl Client {
    /// Recounts everything in the store and checks what must hold; also warns of what no live worker can run, and of
    /// what this program could not. Reads all of the store.
    pub async fn doctor(&self) -> Result<Checkup> {
        let mut checkup = self.store().doctor().await?;
        let workers = self.store().workers(WORKERS).await?;
        checkup.warnings.extend(self.brokers_in_trouble(&workers).await);
        checkup.warnings.extend(self.what_this_program_lacks().await?);
        for ((queue, job_type), jobs) in self.waiting_jobs().await? {
            let takes = |worker: &&WorkerRow| worker.session.queues.contains(&queue);
            let takers: Vec<&WorkerRow> = workers.iter().filter(takes).collect();
            if takers.iter().all(|worker| !worker.session.types.contains(&job_type)) {
                let nobody = no_worker(&queue, &job_type, takers.len() as u64);
                checkup.warnings.push(format!("{} cannot run: {nobody}", count(jobs, "job")));
            }
        }
        Ok(checkup)
    }

    /// What is wrong with the brokers of the program's queues, and which of those nobody takes from.
    async fn brokers_in_trouble(&self, workers: &[WorkerRow]) -> Vec<String> {
        let mut warnings = Vec::new();
        for queue in self.registry().queues() {
            let Ok(None) = self.registry().brokers.of(&queue) else {
                warnings.extend(self.broker_trouble(&queue).await);
                if !workers.iter().any(|worker| worker.session.queues.contains(&queue)) {
                    warnings.push(format!(
                        "queue `{queue}` goes by a broker, but no live worker takes from it: nothing is published to it"
                    ));
                }
                continue;
            };
        }
        warnings
    }

    /// Jobs that could run now or later without anything else having to happen, by queue and type.
    async fn waiting_jobs(&self) -> Result<BTreeMap<(String, String), u64>> {
        let mut waiting = BTreeMap::new();
        for state in [WorkflowState::Pending, WorkflowState::Running, WorkflowState::Standing] {
            let mut workflows = self.workflows().state(state).stream();
            while let Some(workflow) = workflows.try_next().await? {
                let mut from = 0;
                loop {
                    let steps = match self.store().steps(workflow.id, from, STEPS).await {
                        // It has been deleted since it was listed.
                        Err(error) if error.kind() == ErrorKind::NotFound => break,
                        steps => steps?,
                    };
                    // What waits for a signal or a time needs nobody to run it.
                    let is_run = |step: &&StepRow| step.state == StepState::Running && step.spec.waits.is_none();
                    let released = steps.iter().filter(is_run);
                    for step in released.filter(|step| step.jobs.unsettled() > 0) {
                        let name = (step.spec.queue.clone(), step.spec.job_type.clone());
                        *waiting.entry(name).or_default() += step.jobs.unsettled();
                    }
                    match steps.last() {
                        Some(last) if steps.len() == STEPS as usize => from = last.number + 1,
                        _ => break,
                    }
                }
            }
        }
        Ok(waiting)
    }
}
