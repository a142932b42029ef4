//! What came of a simulated workflow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;

use super::script::JobKey;
use crate::error::{Error, Result, did_you_mean};
use crate::graph::{MAX_STEPS, StepNumber};
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::job::Job;
use crate::outputs::{error_text, last_outcomes, pages};
use crate::state::{JobState, WorkflowState};
use crate::store::Store;
use crate::view::WorkflowView;

/// One attempt at a job, as it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The name of its step.
    pub step: String,
    /// The number of the job in its step, from 0.
    pub index: u64,
    /// The type of the job.
    pub job_type: String,
    /// Which attempt; the first is 1.
    pub attempt: u32,
    /// When it started, in virtual time since the simulation began.
    pub started: Duration,
    /// When it ended; `None` if its worker died first.
    pub ended: Option<Duration>,
    /// How it ended; `None` if its worker died first.
    pub end: Option<AttemptEnd>,
    /// The lines that it logged.
    pub logs: Vec<String>,
    /// The workflow or lane of the job.
    pub(crate) workflow: WorkflowId,
    /// `None` for what runs beside the workflow.
    pub(crate) key: Option<JobKey>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// With its output.
    Succeeded,
    /// With this error, by a panic, or at its time limit.
    Failed(String),
    /// It was told to come to its end: it or its workflow was cancelled, its deadline had come, or its worker stopped.
    Stopped,
}

/// What became of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub state: JobState,
    /// Its output as JSON, if it succeeded.
    pub output: Option<String>,
    /// Its last error, if it failed.
    pub error: Option<String>,
}

/// A step with what became of its jobs.
#[derive(Clone, Debug)]
pub(crate) struct SettledStep {
    pub name: String,
    pub job_type: String,
    pub jobs: Vec<Settled>,
}

/// What came of a simulated workflow: what ran, in which order, and what it returned.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) view: WorkflowView,
    pub(crate) steps: Vec<SettledStep>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) elapsed: Duration,
    /// Every call of a worker to its store.
    pub(crate) calls: Vec<&'static str>,
    /// How many attempts were made again, since the script wanted it.
    pub(crate) again: u64,
}

impl Run {
    /// How the workflow ended.
    pub fn state(&self) -> WorkflowState {
        self.view.state
    }

    /// The workflow with its steps, as a client sees them.
    pub fn view(&self) -> &WorkflowView {
        &self.view
    }

    /// How much virtual time it took.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Every attempt at every job, in the order in which they started.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The attempts at the jobs of a step, in the order in which they started.
    pub fn attempts_at<'a>(&'a self, step: &'a str) -> impl Iterator<Item = &'a Attempt> {
        self.attempts.iter().filter(move |attempt| attempt.step == step)
    }

    /// How many attempts there were at the jobs of a step.
    pub fn ran(&self, step: &str) -> usize {
        self.attempts_at(step).count()
    }

    /// Step and index of each attempt, in the order in which they started.
    pub fn order(&self) -> Vec<(&str, u64)> {
        self.attempts.iter().map(|attempt| (attempt.step.as_str(), attempt.index)).collect()
    }

    /// What the job of type `J` returned that has this number in this step. An error if there is none, or if it did not succeed.
    pub fn output<J: Job>(&self, step: &str, index: u64) -> Result<J::Output> {
        let job = self.job(step, index)?;
        let output = job.output.as_deref().ok_or_else(|| {
            let error = job.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            Error::refused(format!("{step} #{index} has no output, it is {}{error}", job.state.as_str()))
        })?;
        serde_json::from_str(output)
            .map_err(|e| Error::usage(format!("the output of {step} #{index} is not one of {}", J::NAME)).because(e))
    }

    /// What became of a job.
    pub fn job_state(&self, step: &str, index: u64) -> Result<JobState> {
        Ok(self.job(step, index)?.state)
    }

    /// The last error of a job; `None` unless it failed.
    pub fn error(&self, step: &str, index: u64) -> Result<Option<&str>> {
        Ok(self.job(step, index)?.error.as_deref())
    }

    fn job(&self, step: &str, index: u64) -> Result<&Settled> {
        let found = self.steps.iter().find(|other| other.name == step).ok_or_else(|| {
            let near = did_you_mean(step, self.steps.iter().map(|step| step.name.as_str()));
            Error::not_found(format!("the workflow has no step `{step}`{near}"))
        })?;
        let jobs = found.jobs.len();
        let job = usize::try_from(index).ok().and_then(|index| found.jobs.get(index));
        job.ok_or_else(|| Error::not_found(format!("step `{step}` has no job #{index}; it has {jobs}")))
    }
}

/// The workflow as it stands, and what became of each of its jobs.
pub(crate) async fn settled(handle: &Handle) -> Result<(WorkflowView, Vec<SettledStep>)> {
    let view = handle.status_with(MAX_STEPS as u32).await?;
    let mut steps = Vec::new();
    for step in &view.steps {
        let jobs = settled_jobs(handle.store(), view.id, step.number).await?;
        let jobs = jobs.into_iter().map(|(_, settled)| settled).collect();
        steps.push(SettledStep { name: step.name.clone(), job_type: step.job_type.clone(), jobs });
    }
    Ok((view, steps))
}

/// What became of each job of a step that the store keeps, with its index.
pub(crate) async fn settled_jobs(
    store: &Arc<dyn Store>,
    workflow: WorkflowId,
    step: StepNumber,
) -> Result<Vec<(u64, Settled)>> {
    let mut jobs = Vec::new();
    let mut chunks = pages(store.clone(), workflow, step);
    while let Some((chunk, texts)) = chunks.try_next().await? {
        let outcomes = last_outcomes(&chunk)?;
        for ((index, byte), outcome) in (chunk.first..).zip(&chunk.bytes).zip(outcomes) {
            let state = JobState::of(*byte);
            let (output, error) = match outcome.map(|outcome| outcome.result) {
                Some(Ok(json)) if json.is_empty() => (Some("null".to_owned()), None),
                Some(Ok(json)) => (Some(String::from_utf8_lossy(&json).into_owned()), None),
                Some(Err(error)) => (None, Some(error_text(&error, &texts))),
                None if state == JobState::Failed => (None, Some(crate::record::KILLED.to_owned())),
                None => (None, None),
            };
            jobs.push((index, Settled { state, output, error }));
        }
    }
    Ok(jobs)
}

impl Run {
    /// Name and type of the steps, by their numbers.
    pub(crate) fn step_names(&self) -> BTreeMap<u32, (&str, &str)> {
        (0..).zip(&self.steps).map(|(number, step)| (number, (step.name.as_str(), step.job_type.as_str()))).collect()
    }
}
