//! One workflow in a store: how it stands, its jobs, and the commands that people give.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;

use crate::chain::Origin;
use crate::client::Client;
use crate::clock::millis;
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::outputs::{Failure, complete, error_text, failures};
use crate::record::Record;
use crate::state::{JobState, WorkflowState, attempts};
use crate::store::{ChunkOutcomes, Keeping, ResumeStep, StepRow, Store};
use crate::view::{AttemptView, ErrorGroup, JobView, WorkflowView, pattern};
use crate::wake::wake;

/// How long running jobs have to come to their end once their workflow has been cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether a workflow has finished: so soon at first, if it holds a key, and so rarely at last.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_millis(200);
/// How many steps a workflow's view holds unless more are asked for.
const STEPS_SHOWN: u32 = 1000;

/// One workflow in a store.
#[derive(Clone, Debug)]
pub struct Handle {
    client: Client,
    id: WorkflowId,
}

impl Handle {
    pub(crate) fn new(client: Client, id: WorkflowId) -> Self {
        Self { client, id }
    }

    /// Its id.
    pub fn id(&self) -> WorkflowId {
        self.id
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.client.store()
    }

    /// How it stands, with its first 1,000 steps.
    pub async fn status(&self) -> Result<WorkflowView> {
        self.status_with(STEPS_SHOWN).await
    }

    /// How it stands, with at most `steps` of its steps.
    pub async fn status_with(&self, steps: u32) -> Result<WorkflowView> {
        let row = self.client.row(self.id).await?;
        let steps = if steps == 0 { Vec::new() } else { self.store().steps(self.id, 0, steps).await? };
        Ok(WorkflowView::new(row, steps))
    }

    /// Waits until it has finished; returns how.
    pub async fn wait(&self) -> Result<WorkflowView> {
        let mut pause = Duration::from_millis(5);
        loop {
            let row = self.client.row(self.id).await?;
            if row.state.is_finished() {
                return self.status().await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Cancels it, unless it is cancelled or being built, and comes back a while later: to see whether its key is free.
    pub(crate) async fn make_way(&self) -> Result<()> {
        match self.store().workflow(self.id).await {
            Ok(row) if row.state.is_finished() => return Ok(()),
            // It may finish between the look and the command.
            Ok(row) if row.state != WorkflowState::Cancelling => match self.cancel().await {
                Err(error) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::NotFound) => {}
                cancelled => cancelled?,
            },
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    /// It may be deleted so long after its end; if it has finished, so long from now on.
    pub async fn expire_in(&self, time: Duration) -> Result<()> {
        self.store().keep(self.id, Keeping::ExpireIn(millis(time))).await.map(|_| ())
    }

    /// It is kept until it is [unpinned](Self::unpin), or deleted by name.
    pub async fn pin(&self) -> Result<()> {
        self.store().keep(self.id, Keeping::Pinned).await.map(|_| ())
    }

    /// It is kept as long as others of its type.
    pub async fn unpin(&self) -> Result<()> {
        self.store().keep(self.id, Keeping::Unpinned).await.map(|_| ())
    }

    /// Hands out nothing more of it. Running jobs are told, and have ten seconds to come to their end.
    pub async fn cancel(&self) -> Result<()> {
        self.store().cancel(self.id, millis(CANCEL_GRACE)).await?;
        self.client.lend_a_hand().await;
        Ok(())
    }

    /// Hands out nothing more of it until [`resume`](Self::resume).
    pub async fn pause(&self) -> Result<()> {
        self.store().pause(self.id).await
    }

    /// Undoes [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<()> {
        let woken = self.store().resume(self.id).await?;
        wake(&woken);
        Ok(())
    }

    /// Lets the step of that name go on that paused when more of its jobs had failed than it tolerates; returns whether it was paused. The jobs
    /// that have failed stay failed ([`retry_failed`](Self::retry_failed) runs them again, which lifts the pause, too); the step pauses again
    /// once as many more have failed as it tolerates.
    pub async fn resume_step(&self, step: &str) -> Result<bool> {
        let (session, workflow, step) = (self.client.session(), self.id, self.step(step).await?.number);
        let send = |command| self.store().resume_step(ResumeStep { session, command, workflow, step });
        let resumed = self.client.command(workflow.shard(), send).await?;
        wake(&resumed.woken);
        Ok(resumed.was_paused)
    }

    /// Deletes it; it must have finished.
    pub async fn delete(&self) -> Result<()> {
        self.store().delete(self.id).await?;
        self.client.lend_a_hand().await;
        Ok(())
    }

    /// The step of that name.
    pub async fn step(&self, name: &str) -> Result<StepRow> {
        if let Some(step) = self.store().step_named(self.id, name.to_owned()).await? {
            return Ok(step);
        }
        let steps = self.store().steps(self.id, 0, STEPS_SHOWN).await?;
        let names: Vec<&str> = steps.iter().map(|step| step.spec.name.as_str()).collect();
        let near = did_you_mean(name, names.iter().copied());
        let some: Vec<&str> = names.iter().take(8).copied().collect();
        let more = if names.len() > some.len() { ", …" } else { "" };
        Err(Error::not_found(format!(
            "workflow {} has no step `{name}`{near} (there are: {}{more})",
            self.id,
            some.join(", ")
        )))
    }

    /// The jobs of a step that settled without success, with their errors and parameters.
    pub async fn failures(&self, step: &str) -> Result<BoxStream<'static, Result<Failure>>> {
        let step = self.step(step).await?;
        Ok(failures(self.store().clone(), self.client.shared_registry(), self.id, step.number))
    }

    /// The failed jobs of a step by the kind of their errors, most first.
    pub async fn error_groups(&self, step: StepNumber, name: &str) -> Result<Vec<ErrorGroup>> {
        let rows = self.store().errors(self.id, step).await?.into_iter().filter(|row| row.jobs > 0);
        Ok(ErrorGroup::gathered(rows.map(|row| {
            let example = if row.text.is_empty() {
                "other errors, whose texts are kept with their jobs".to_owned()
            } else {
                row.text
            };
            ErrorGroup { step: name.to_owned(), jobs: row.jobs, pattern: pattern(&example), example }
        })))
    }

    /// Where the parameters of a step's jobs come from.
    pub(crate) fn origin(&self, step: &StepRow) -> Origin {
        Origin {
            store: self.store().clone(),
            registry: self.client.shared_registry(),
            workflow: self.id,
            job_type: step.spec.job_type.clone(),
            chain: step.spec.chain.clone(),
        }
    }

    /// One job, whole.
    pub async fn job(&self, step: &str, index: u64) -> Result<JobView> {
        let step = self.step(step).await?;
        let (number, name) = (step.number, &step.spec.name);
        let is_lane = self.store().workflow(self.id).await?.state == WorkflowState::Standing;
        if index >= step.jobs.total && !is_lane {
            let has = match step.jobs.total {
                0 => "it has no jobs (yet)".to_owned(),
                total => format!("its jobs are 0 to {}", total - 1),
            };
            return Err(Error::not_found(format!("step `{name}` has no job #{index}; {has}")));
        }
        let (chunk, texts) = pages_at(self.store(), self.id, number, index).await?;
        let at = (index - chunk.first) as usize;
        let parameters = self.origin(&step).load(chunk.chunk, chunk.first).await?;
        let whereabouts = self.store().whereabouts(self.id, number, index).await?;
        let neighbours = |upstream| self.store().edges(self.id, number, upstream, 100);
        let (before, after) = (neighbours(false).await?, neighbours(true).await?);
        let byte = chunk.bytes[at];
        let state = JobState::of(byte);
        let mut view = JobView {
            workflow_id: self.id,
            step: number,
            index,
            name: name.clone(),
            job_type: step.spec.job_type.clone(),
            queue: step.spec.queue.clone(),
            state,
            attempts: u32::from(attempts(byte)),
            recoveries: chunk.recoveries.get(at).copied().map_or(0, u32::from),
            enqueued_at: step.released_at,
            started_at: None,
            finished_at: None,
            failed_at: None,
            due_at: whereabouts.due,
            worker: whereabouts.worker,
            progress: whereabouts.progress.map(crate::view::raw),
            after: after.into_iter().map(|edge| edge.name).collect(),
            before: before.into_iter().map(|edge| edge.name).collect(),
            params: parameters.json(at)?,
            output: None,
            errors: Vec::new(),
            logs: Vec::new(),
        };
        for record in &chunk.records {
            let record = Record::decode(record)?;
            for mut outcome in record.outcomes.into_iter().filter(|outcome| usize::from(outcome.at) == at) {
                if step.spec.waits.is_some() {
                    // What a signal carries that came early, or too late to count, stands there, too.
                    if outcome.state != state {
                        continue;
                    }
                    if outcome.finished == 0 {
                        outcome.finished = step.finished_at.unwrap_or_default();
                    }
                } else {
                    view.started_at = Some(outcome.started);
                }
                view.logs = outcome.logs;
                if view.worker.is_none() && !record.worker.is_empty() {
                    view.worker = Some(record.worker.clone());
                }
                match outcome.result {
                    Ok(json) if state == JobState::Succeeded => {
                        view.finished_at = Some(outcome.finished);
                        view.output = Some(if json.is_empty() {
                            crate::view::raw("null".into())
                        } else {
                            crate::view::raw(String::from_utf8_lossy(&json).into_owned())
                        });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let error = error_text(&error, &texts);
                        if outcome.state == JobState::Cancelled {
                            view.finished_at = Some(outcome.finished);
                        } else {
                            view.failed_at = (state == JobState::Failed).then_some(outcome.finished);
                            view.errors.push(AttemptView {
                                attempt: u32::from(outcome.attempt),
                                at: outcome.finished,
                                error,
                            });
                        }
                    }
                }
            }
        }
        if state == JobState::Failed && view.failed_at.is_none() {
            view.errors.push(AttemptView {
                attempt: view.attempts + 1,
                at: step.finished_at.unwrap_or_default(),
                error: crate::record::KILLED.to_owned(),
            });
        }
        Ok(view)
    }

    /// Every edge of the workflow, read step by step.
    pub async fn edges(&self, steps: &[crate::view::StepView]) -> Result<Vec<crate::view::EdgeView>> {
        let mut edges = Vec::new();
        for step in steps {
            for edge in self.store().edges(self.id, step.number, true, crate::graph::MAX_EDGES as u32).await? {
                edges.push(crate::view::EdgeView { up: edge.number, down: step.number, kind: edge.kind });
            }
        }
        Ok(edges)
    }

    /// What is drawn of it: its steps, the first of very many, with what has become of them.
    #[cfg(any(feature = "cli", feature = "testing"))]
    pub(crate) async fn picture(&self) -> Result<crate::render::Picture> {
        let mut run = self.status().await?;
        while let Some(last) = run.steps.last().filter(|last| last.number + 1 < run.step_count) {
            let page = self.store().steps(self.id, last.number + 1, 1000).await?;
            if page.is_empty() || run.steps.len() >= crate::graph::MAX_STEPS {
                break;
            }
            run.steps.extend(page.into_iter().map(Into::into));
        }
        let edges = self.edges(&run.steps).await?;
        Ok(crate::render::Picture::of_run(&run.name, &run.steps, &edges))
    }
}

type PageAt = (ChunkOutcomes, Arc<std::collections::HashMap<u64, String>>);

/// The chunk that holds a job, and the step's error texts.
pub(crate) async fn pages_at(
    store: &Arc<dyn Store>,
    workflow: WorkflowId,
    step: StepNumber,
    index: u64,
) -> Result<PageAt> {
    let texts = store.errors(workflow, step).await?.into_iter().map(|row| (row.number, row.text)).collect();
    let page = store.outcomes(workflow, step, index, 0).await?;
    let holds = |chunk: &ChunkOutcomes| index >= chunk.first && index < chunk.first + chunk.bytes.len() as u64;
    let missing = || {
        Error::not_found(format!(
            "there is no job #{index} in step {step}; a lone job that has settled is not kept for ever"
        ))
    };
    let mut chunk = page.into_iter().next().filter(holds).ok_or_else(missing)?;
    complete(&**store, workflow, step, &mut chunk).await?;
    Ok((chunk, Arc::new(texts)))
}
