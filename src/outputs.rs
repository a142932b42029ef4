//! Reading what upstream jobs returned: a field of the downstream job, which implies the edge.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::Registry;
use crate::chain::{Origin, Stage, made};
use crate::children::Returned;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::job::{Context, JobError, JobResult, Stored};
use crate::payload::Lines;
use crate::record::{ErrorText, Outcome, Record};
use crate::state::JobState;
use crate::store::{ChunkOutcomes, Store};

/// What the jobs of one upstream step returned. Made by [`Step::outputs`](crate::Step::outputs), kept as a field of the job that
/// reads it; that job then runs after the step, without another word.
///
/// Reads chunk by chunk, so a report over a million rows runs in constant memory.
#[derive(Deserialize)]
#[serde(transparent, bound = "")]
pub struct Outputs<T> {
    pub(crate) step: StepNumber,
    #[serde(skip)]
    output: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Outputs<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outputs(of step {})", self.step & !OF_CHILDREN)
    }
}

impl<T> Clone for Outputs<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Outputs<T> {}

/// Marks the number of a step whose jobs stand for workflows: no workflow has so many steps.
const OF_CHILDREN: StepNumber = 1 << 31;

impl<T> Outputs<T> {
    /// The step that it reads.
    pub(crate) fn number(&self) -> StepNumber {
        self.step & !OF_CHILDREN
    }
}

thread_local! {
    /// The steps that the value being written reads.
    static READS: RefCell<Vec<StepNumber>> = const { RefCell::new(Vec::new()) };
}

impl<T> Serialize for Outputs<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        READS.with_borrow_mut(|reads| reads.push(self.number()));
        serializer.serialize_u32(self.step)
    }
}

/// A job's JSON, and the steps whose outputs it reads: an [`Outputs`] tells when it is written.
pub(crate) fn written(job: &impl Serialize) -> Result<(Vec<u8>, Vec<StepNumber>)> {
    READS.take();
    let json = serde_json::to_vec(job).map_err(|e| Error::usage("a job cannot be written as JSON").because(e))?;
    Ok((json, READS.take()))
}

/// A job of the step that did not succeed.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Failure {
    /// Its number in the step.
    pub index: u64,
    /// What became of it: failed, skipped or cancelled.
    pub state: JobState,
    /// The error that it failed with; for a skipped or cancelled one, that word.
    pub error: String,
    /// Its parameters.
    pub params: Box<RawValue>,
}

impl<T: Stored> Outputs<T> {
    pub(crate) fn of(step: StepNumber) -> Self {
        Self { step, output: PhantomData }
    }

    /// What the workflows return that the jobs of a step stand for.
    pub(crate) fn of_children(step: StepNumber) -> Self {
        Self::of(step | OF_CHILDREN)
    }

    /// Index and output of each job that succeeded, in order.
    pub fn stream<S: Send + Sync>(&self, ctx: &Context<S>) -> BoxStream<'static, JobResult<(u64, T)>> {
        let store = ctx.held.store.clone();
        let pages = pages(store.clone(), ctx.workflow_id(), self.number());
        if self.step & OF_CHILDREN == 0 {
            let outputs = pages.map_ok(|(chunk, _)| futures::stream::iter(succeeded::<T>(&chunk))).try_flatten();
            return outputs.map_err(JobError::from).boxed();
        }
        let children = pages.map_ok(|(chunk, _)| futures::stream::iter(succeeded::<Returned>(&chunk))).try_flatten();
        let outputs = children.and_then(move |(index, child)| {
            let store = store.clone();
            async move { Ok((index, returned(store, child).await?)) }
        });
        outputs.map_err(JobError::from).boxed()
    }

    /// The jobs that did not succeed, with their errors and parameters, in order.
    pub fn failures<S: Send + Sync>(&self, ctx: &Context<S>) -> BoxStream<'static, JobResult<Failure>> {
        failures(ctx.held.store.clone(), ctx.held.client().shared_registry(), ctx.workflow_id(), self.number())
            .map_err(JobError::from)
            .boxed()
    }

    /// The output of the only job of the step. An error if it has more, or if that job did not succeed.
    pub async fn one<S: Send + Sync>(&self, ctx: &Context<S>) -> JobResult<T> {
        let output = self.one_if_any(ctx).await?;
        output.ok_or_else(|| JobError::fatal(format!("no job of step {} has an output", self.number())))
    }

    /// The output of the only job of the step, if that job succeeded. An error if it has more.
    pub async fn one_if_any<S: Send + Sync>(&self, ctx: &Context<S>) -> JobResult<Option<T>> {
        let mut outputs = self.stream(ctx);
        let Some((_, output)) = outputs.try_next().await? else { return Ok(None) };
        match outputs.try_next().await? {
            None => Ok(Some(output)),
            Some(_) => Err(JobError::fatal(format!(
                "step {} has more than one output; read them with `stream`",
                self.number()
            ))),
        }
    }
}

/// The error texts that a step's table holds, by their numbers.
type Texts = Arc<HashMap<u64, String>>;

/// The chunks of a step with what became of their jobs, page by page, and the error texts that the step's table holds.
pub(crate) fn pages(
    store: Arc<dyn Store>,
    workflow: WorkflowId,
    step: StepNumber,
) -> BoxStream<'static, Result<(ChunkOutcomes, Texts)>> {
    let texts: Option<Texts> = None;
    futures::stream::try_unfold((store, 0u64, texts), move |(store, from, texts)| async move {
        let texts = match texts {
            Some(texts) => texts,
            None => {
                let rows = store.errors(workflow, step).await?;
                Arc::new(rows.into_iter().map(|row| (row.number, row.text)).collect())
            }
        };
        let mut page = store.outcomes(workflow, step, from, 0).await?;
        let Some(last) = page.last_mut() else { return Ok::<_, Error>(None) };
        complete(&*store, workflow, step, last).await?;
        let next = last.first + last.bytes.len() as u64;
        let shared = texts.clone();
        let chunks = futures::stream::iter(page.into_iter().map(move |chunk| Ok((chunk, shared.clone()))));
        Ok(Some((chunks, (store, next, Some(texts)))))
    })
    .try_flatten()
    .boxed()
}

/// Fetches the records of a chunk that did not fit into its page.
pub(crate) async fn complete(
    store: &dyn Store,
    workflow: WorkflowId,
    step: StepNumber,
    chunk: &mut ChunkOutcomes,
) -> Result<()> {
    while let Some(after) = chunk.more_after {
        let page = store.outcomes(workflow, step, chunk.first, after).await?;
        let more = page.into_iter().next().filter(|more| more.first == chunk.first);
        chunk.more_after = more.as_ref().and_then(|more| more.more_after);
        chunk.records.extend(more.map(|more| more.records).unwrap_or_default());
    }
    Ok(())
}

/// The last outcome of each job of a chunk that ended in the state which the job is in.
pub(crate) fn last_outcomes(chunk: &ChunkOutcomes) -> Result<Vec<Option<Outcome>>> {
    let mut last: Vec<Option<Outcome>> = vec![None; chunk.bytes.len()];
    for record in &chunk.records {
        for outcome in Record::decode(record)?.outcomes {
            let at = usize::from(outcome.at);
            if chunk.bytes.get(at).is_some_and(|byte| JobState::of(*byte) == outcome.state) {
                last[at] = Some(outcome);
            }
        }
    }
    Ok(last)
}

/// What a workflow returns that stands for a job.
async fn returned<T: Stored>(store: Arc<dyn Store>, child: Returned) -> Result<T> {
    let Returned { workflow, step } = child;
    let step = step.ok_or_else(|| {
        Error::usage(format!("workflow {workflow} returns nothing: its `configure` has no `flow.returns(..)`"))
    })?;
    let mut pages = pages(store, workflow, step);
    while let Some((chunk, _)) = pages.try_next().await? {
        if let Some(output) = succeeded::<T>(&chunk).into_iter().next() {
            return Ok(output?.1);
        }
    }
    Err(Error::usage(format!("workflow {workflow} returns nothing: no job of its step {step} succeeded")))
}

fn succeeded<T: Stored>(chunk: &ChunkOutcomes) -> Vec<Result<(u64, T)>> {
    let outcomes = match last_outcomes(chunk) {
        Ok(outcomes) => outcomes,
        Err(error) => return vec![Err(error)],
    };
    let of_succeeded =
        (0..).zip(&chunk.bytes).zip(outcomes).filter(|((_, byte), _)| JobState::of(**byte) == JobState::Succeeded);
    of_succeeded
        .map(|((at, _), outcome)| {
            let index = chunk.first + at;
            match outcome.map(|outcome| outcome.result) {
                Some(Ok(json)) => Ok((index, decode_output(index, &json)?)),
                _ => Err(Error::corrupt(format!("job {index} succeeded, but its output is not in the store"))),
            }
        })
        .collect()
}

pub(crate) fn decode_output<T: Stored>(index: u64, json: &[u8]) -> Result<T> {
    // Nothing at all stands for `null`, the output of most jobs.
    let json = if json.is_empty() { b"null".as_slice() } else { json };
    serde_json::from_slice(json)
        .map_err(|e| Error::corrupt(format!("the output of job {index} does not decode")).because(e))
}

/// The text of an error, from the record or from the step's table.
pub(crate) fn error_text(error: &ErrorText, texts: &HashMap<u64, String>) -> String {
    match error {
        ErrorText::Text(text) => text.clone(),
        ErrorText::Known(number) => {
            texts.get(number).cloned().unwrap_or_else(|| "an error whose text is not kept".to_owned())
        }
    }
}

/// The settled jobs of a step that did not succeed.
pub(crate) fn failures(
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    workflow: WorkflowId,
    step: StepNumber,
) -> BoxStream<'static, Result<Failure>> {
    let origin = Origin::of(store.clone(), registry, workflow, step);
    futures::stream::once(origin).map_ok(move |origin| failures_of(origin, step)).try_flatten().boxed()
}

fn failures_of(origin: Origin, step: StepNumber) -> BoxStream<'static, Result<Failure>> {
    let (pages, origin) = (pages(origin.store.clone(), origin.workflow, step), Arc::new(origin));
    pages
        .and_then(move |(chunk, texts)| {
            let origin = origin.clone();
            async move {
                let failed = |byte: u8| JobState::of(byte).is_settled() && JobState::of(byte) != JobState::Succeeded;
                if !chunk.bytes.iter().any(|byte| failed(*byte)) {
                    return Ok(Vec::new());
                }
                let parameters = origin.load(chunk.chunk, chunk.first).await?;
                let outcomes = last_outcomes(&chunk)?;
                let mut found = Vec::new();
                for (at, byte) in chunk.bytes.iter().enumerate().filter(|(_, byte)| failed(**byte)) {
                    let state = JobState::of(*byte);
                    let error = match outcomes[at].as_ref().map(|outcome| &outcome.result) {
                        Some(Err(error)) => error_text(error, &texts),
                        _ if state == JobState::Failed => crate::record::KILLED.to_owned(),
                        _ => state.as_str().to_owned(),
                    };
                    found.push(Failure { index: chunk.first + at as u64, state, error, params: parameters.json(at)? });
                }
                Ok(found)
            }
        })
        .map_ok(|found| futures::stream::iter(found.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

/// The parameters of a chunk, mended ones in place of those they replace.
pub(crate) struct ChunkParameters {
    lines: Lines,
    mended: HashMap<usize, Vec<u8>>,
    /// The steps that its jobs have gone on from, if they are of a chained step.
    stages: Vec<Stage>,
}

impl ChunkParameters {
    pub(crate) fn unpack(parameters: &crate::store::Parameters) -> Result<Self> {
        let lines = Lines::unpack(&parameters.body)?;
        let mut mended = HashMap::new();
        for (jobs, body) in &parameters.mended {
            let new = Lines::unpack(body)?;
            for (line, at) in jobs.iter().enumerate() {
                mended.insert(at, new.get(line).unwrap_or_default().to_vec());
            }
        }
        Ok(Self { lines, mended, stages: Vec::new() })
    }

    /// Those of the jobs that go on from these, step by step.
    pub(crate) fn followed_by(self, stages: Vec<Stage>) -> Self {
        Self { stages, ..self }
    }

    /// What is stored for the job at a position.
    pub(crate) fn get(&self, at: usize) -> Option<&[u8]> {
        self.mended.get(&at).map(Vec::as_slice).or_else(|| self.lines.get(at))
    }

    /// The JSON of the job at a position: as it is stored, or made of the jobs before it.
    pub(crate) fn of_job(&self, at: usize) -> Result<Cow<'_, [u8]>, String> {
        let own = self.get(at).ok_or_else(|| "the store holds no parameters for this job".to_owned())?;
        made(own, &self.stages, at)
    }

    /// For people: `null` for a job that cannot be made yet, or not by this program.
    pub(crate) fn json(&self, at: usize) -> Result<Box<RawValue>> {
        self.get(at).ok_or_else(|| Error::corrupt(format!("a chunk has no parameters for its job {at}")))?;
        let json = self.of_job(at).unwrap_or(Cow::Borrowed(b"null"));
        serde_json::from_slice(&json).map_err(|e| Error::corrupt("stored parameters are not JSON").because(e))
    }
}
