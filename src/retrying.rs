//! Retries of failed jobs: of all, of one step, of those that failed in a certain way, or with mended parameters.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::sync::Arc;

use futures::TryStreamExt;
use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::handle::{Handle, pages_at};
use crate::outputs::Failure;
use crate::payload::ChunkBuilder;
use crate::repairing::WouldRun;
use crate::slice::Mask;
use crate::state::{FailurePolicy, JobState};
use crate::store::{Append, BATCH_STEP, DraftKey, DraftOf, Part, Retried, RetryFailed, StepRow, refuse_repair};

/// So many chunks' choices are written at once.
const PARTS: usize = 50;

/// Whether a failed job is to run again.
type Choose = dyn Fn(&Failure) -> bool + Send + Sync;

/// Failed jobs that are to run again: await it, or ask what [would run](Self::preview).
#[must_use = "nothing is retried until it is awaited"]
pub struct Retrying {
    handle: Handle,
    step: Option<String>,
    choose: Option<Arc<Choose>>,
}

impl fmt::Debug for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Retrying");
        shown.field("workflow", &self.handle.id()).field("step", &self.step).finish_non_exhaustive()
    }
}

impl Handle {
    /// Gives every failed job a new set of attempts, or only those of the step of that name. Awaited, it returns how many. Of a step that failed
    /// fast the jobs that were cancelled run, too.
    ///
    /// ```
    /// # async fn example(handle: gusher::Handle) -> gusher::Result<()> {
    /// let cut_off = handle.retry_failed(Some("ImportRow")).only(|failure| failure.error.contains("connection reset"));
    /// println!("{} jobs will run", cut_off.preview().await?.jobs());
    /// cut_off.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_failed(&self, step: Option<&str>) -> Retrying {
        Retrying { handle: self.clone(), step: step.map(str::to_owned), choose: None }
    }

    /// Gives every failed job up, or only those of the step of that name: they end as skipped, and what waits for their step goes on as if
    /// there had been nothing to be done. Returns how many.
    pub async fn discard_failed(&self, step: Option<&str>) -> Result<u64> {
        Ok(self.retry(self.number_of(step).await?, None, true).await?.jobs)
    }

    async fn number_of(&self, step: Option<&str>) -> Result<Option<StepNumber>> {
        match step {
            Some(name) => Ok(Some(self.step(name).await?.number)),
            None => Ok(None),
        }
    }

    async fn retry(&self, step: Option<StepNumber>, mended: Option<DraftKey>, discard: bool) -> Result<Retried> {
        loop {
            let retried = self.retry_once(step, mended, discard).await?;
            let Some(holder) = retried.held_by else { return Ok(retried) };
            let row = self.store().workflow(self.id()).await?;
            self.client().take_way(self.id(), row.key.as_ref(), holder).await?;
        }
    }

    async fn retry_once(&self, step: Option<StepNumber>, mended: Option<DraftKey>, discard: bool) -> Result<Retried> {
        let (session, workflow) = (self.client().session(), self.id());
        let send = |command| self.store().retry(RetryFailed { session, command, workflow, step, mended, discard });
        let retried = self.client().command(workflow.shard(), send).await?;
        if retried.more {
            self.client().lend_a_hand().await;
        }
        Ok(retried)
    }

    /// Gives failed jobs of a step new parameters and a new set of attempts; returns how many. Each item is a job's index and its
    /// parameters as JSON; a job that has not failed is refused before anything is changed.
    pub async fn retry_mended(&self, step: &str, mended: Vec<(u64, Box<RawValue>)>) -> Result<u64> {
        let jobs = mended.len() as u64;
        let (step, parts) = self.mended_parts(step, mended).await?;
        if parts.is_empty() {
            return Ok(0);
        }
        self.retry_parts(&step, parts).await?;
        Ok(jobs)
    }

    /// What [`retry_mended`](Self::retry_mended) would run; what that would refuse is refused.
    pub async fn retry_mended_preview(&self, step: &str, mended: Vec<(u64, Box<RawValue>)>) -> Result<WouldRun> {
        let workflow = self.store().workflow(self.id()).await?;
        refuse_repair(workflow.id, workflow.state)?;
        let jobs = mended.len() as u64;
        let (step, _) = self.mended_parts(step, mended).await?;
        Ok(WouldRun::of([(&step, jobs)].into_iter()))
    }

    /// The new parameters by chunk, each checked against the job that it is for.
    async fn mended_parts(&self, step: &str, mut mended: Vec<(u64, Box<RawValue>)>) -> Result<(StepRow, Vec<Part>)> {
        let step = self.step(step).await?;
        if step.spec.waits.is_some() {
            return Err(Error::usage(format!("step `{}` waits and has no parameters to mend", step.spec.name)));
        }
        if let Some(before) = step.spec.chain.last() {
            return Err(Error::usage(format!(
                "the jobs of step `{}` have no parameters of their own to mend: each is made of its predecessor, a `{}`, and of what that returned; \
                 replace that output, or retry without new parameters",
                step.spec.name, before.job_type
            )));
        }
        mended.sort_by_key(|(index, _)| *index);
        if let Some(pair) = mended.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::usage(format!("job #{} is mended twice", pair[0].0)));
        }
        let mut parts = Vec::new();
        let mut mended = mended.into_iter().peekable();
        while let Some((index, _)) = mended.peek() {
            let index = *index;
            let refuse = |index| {
                Error::usage(format!(
                    "job #{index} of step `{}` has not failed, so there is nothing to mend",
                    step.spec.name
                ))
            };
            if index >= step.jobs.total {
                return Err(refuse(index));
            }
            let (chunk, _) = pages_at(self.store(), self.id(), step.number, index).await?;
            let end = chunk.first + chunk.bytes.len() as u64;
            let mut jobs = Mask::EMPTY;
            let mut lines = ChunkBuilder::default();
            while let Some((index, json)) = mended.next_if(|(index, _)| *index < end) {
                let at = (index - chunk.first) as usize;
                if JobState::of(chunk.bytes[at]) != JobState::Failed {
                    return Err(refuse(index));
                }
                jobs.insert(at);
                let line = json.get().replace(['\n', '\r'], " ");
                if lines.push(line.as_bytes())?.is_some() {
                    return Err(Error::usage(format!(
                        "the mended parameters around job #{index} are too large together; mend fewer jobs at once"
                    )));
                }
            }
            if let Some(packed) = lines.finish() {
                parts.push(Part::Mended { chunk: chunk.chunk.id, first: chunk.first, jobs, body: packed.body });
            }
        }
        Ok((step, parts))
    }

    /// Retries the jobs that these parts name.
    async fn retry_parts(&self, step: &StepRow, parts: Vec<Part>) -> Result<()> {
        let draft = self.client().new_draft();
        let lease = self.store().lease();
        let of = DraftOf::Mended { workflow: self.id(), step: step.number };
        let is_choice = |part: &Part| matches!(part, Part::Mended { body, .. } if body.is_empty());
        let at_once = if parts.iter().all(is_choice) { PARTS } else { 1 };
        for (number, parts) in (0..).zip(parts.chunks(at_once)) {
            self.store().append(Append { draft, of: of.clone(), number, parts: parts.to_vec(), lease }).await?;
        }
        self.retry(Some(step.number), Some(draft), false).await.map(drop)
    }

    /// The failed jobs of a step that are chosen: by chunk, and how many.
    async fn chosen(&self, step: &StepRow, choose: &Choose) -> Result<(Vec<Part>, u64)> {
        let (mut parts, mut found) = (Vec::new(), 0);
        let mut failures = self.failures(&step.spec.name).await?;
        // Where the chunk of the last part ends.
        let mut end = 0;
        while let Some(failure) = failures.try_next().await? {
            if failure.state != JobState::Failed || !choose(&failure) {
                continue;
            }
            if failure.index >= end {
                let page = self.store().outcomes(self.id(), step.number, failure.index, u64::MAX).await?;
                let gone = || Error::not_found(format!("job #{} of `{}` has gone", failure.index, step.spec.name));
                let chunk = page.into_iter().next().ok_or_else(gone)?;
                end = chunk.first + chunk.bytes.len() as u64;
                let (chunk, first) = (chunk.chunk.id, chunk.first);
                parts.push(Part::Mended { chunk, first, jobs: Mask::EMPTY, body: Vec::new() });
            }
            if let Some(Part::Mended { first, jobs, .. }) = parts.last_mut() {
                jobs.insert((failure.index - *first) as usize);
                found += 1;
            }
        }
        Ok((parts, found))
    }
}

impl Retrying {
    /// Only those of which `choose` says so, by the error that they failed with, or by their parameters. Reads all failures once.
    pub fn only(self, choose: impl Fn(&Failure) -> bool + Send + Sync + 'static) -> Self {
        Self { choose: Some(Arc::new(choose)), ..self }
    }

    /// What would run, as things stand now. What comes after that is not counted, also in a chain, nor what is within: a workflow or batch that
    /// stands for a job counts as that job. Changes nothing.
    pub async fn preview(&self) -> Result<WouldRun> {
        let mut would_run = Vec::new();
        for row in self.steps().await? {
            let chosen = match &self.choose {
                None => row.jobs.failed,
                Some(choose) => self.handle.chosen(&row, &**choose).await?.1,
            };
            // Of a step that failed fast the rest comes back, too.
            let rest = if row.spec.policy == FailurePolicy::FailFast { row.jobs.cancelled } else { 0 };
            let jobs = if chosen > 0 { chosen + rest } else { 0 };
            would_run.push((row, jobs));
        }
        Ok(WouldRun::of(would_run.iter().map(|(row, jobs)| (row, *jobs))))
    }

    /// The steps with failed jobs that are asked for, but for the one that stands for an abandoned batch: no retry opens that again.
    async fn steps(&self) -> Result<Vec<StepRow>> {
        let handle = &self.handle;
        let workflow = handle.store().workflow(handle.id()).await?;
        refuse_repair(workflow.id, workflow.state)?;
        let steps = match &self.step {
            Some(name) => vec![handle.step(name).await?],
            None => handle.all_steps().await?.into_values().collect(),
        };
        let is_batch = |row: &StepRow| workflow.batch.is_some() && row.number == BATCH_STEP;
        Ok(steps.into_iter().filter(|row| row.jobs.failed > 0 && !is_batch(row)).collect())
    }

    async fn go(self) -> Result<u64> {
        let handle = &self.handle;
        let Some(choose) = &self.choose else {
            let step = handle.number_of(self.step.as_deref()).await?;
            return Ok(handle.retry(step, None, false).await?.jobs);
        };
        let mut jobs = 0;
        for row in self.steps().await? {
            let (parts, found) = handle.chosen(&row, &**choose).await?;
            if found > 0 {
                handle.retry_parts(&row, parts).await?;
                jobs += found;
            }
        }
        Ok(jobs)
    }
}

impl IntoFuture for Retrying {
    type Output = Result<u64>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let going: std::pin::Pin<Box<dyn Future<Output = Self::Output> + Send>> = Box::pin(self.go());
        going
    }
}
