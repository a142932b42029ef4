//! Creating a workflow: its jobs are written as they come from their iterators, so a workflow of any size needs little memory;
//! a small one is created in a single operation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::payload::ChunkBuilder;
use crate::store::{Answer, Append, Create, Created, DraftKey, DraftOf, NewWorkflow, Part, Store, step_of_batches};
use crate::worker::backoff::Backoff;
use crate::workflow::{JobStream, Plan};

/// A batch of parts is sent on when it has so many bytes of payload, or costs about so many statements.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_COST: usize = 300;

/// How long a call that was not answered is sent again.
pub(crate) const REPEATED: Duration = Duration::from_secs(2);

/// Parts that go to the store in one call.
#[derive(Default)]
struct Batch {
    parts: Vec<Part>,
    bytes: usize,
    cost: usize,
    /// How many bytes it should have at most.
    room: usize,
}

impl Batch {
    /// How many bytes of payload a part has, and about how many statements it costs.
    fn weigh(part: &Part) -> (usize, usize) {
        match part {
            Part::Step { spec, awaits, .. } => {
                let (awaited, more) = awaits.as_ref().map_or((0, 0), |awaits| (awaits.record.len() + 300, 3));
                (300 + 2 * spec.name.len() + spec.job_type.len() + awaited, 3 + more)
            }
            Part::Edge(_) => (16, 1),
            Part::Open { .. } => (64, 4),
            Part::Within { step, chunk, .. } => (chunk.body.len() + 2 * step.name.len() + 300, 30),
            Part::Jobs { chunk, .. } => (chunk.body.len(), 7),
            Part::Mended { body, .. } => (body.len(), 1),
        }
    }
}

/// The draft that a workflow is written into, if it takes more than one call.
pub(crate) struct Draft {
    /// Nobody else uses it.
    pub key: DraftKey,
    /// Whether it is there already, and holds the workflow's key.
    pub begun: bool,
}

/// Writes a planned workflow to the store. `created` counts the jobs, for who watches.
pub(crate) async fn create(
    store: &Arc<dyn Store>,
    workflow: NewWorkflow,
    plan: Plan,
    draft: Draft,
    again: bool,
    created: Arc<AtomicU64>,
) -> Result<Created> {
    let (sender, mut batches) = mpsc::channel::<Batch>(2);
    // Iterators are the user's code and may block; chunks are compressed there, too.
    let arguments = workflow.arguments.len();
    let builder = tokio::task::spawn_blocking(move || build(plan, arguments, &sender, &created));
    let lease = store.lease();
    let mut appended = u64::from(draft.begun);
    let draft = draft.key;
    let mut held_back: Option<Batch> = None;
    loop {
        let next = tokio::time::timeout(Duration::from_millis(lease as u64 / 3), batches.recv()).await;
        let (parts, next) = match next {
            Ok(None) => break,
            Ok(Some(batch)) => (held_back.take().map(|batch| batch.parts), Some(batch)),
            // The iterator takes its time: what has been written so far must be kept alive.
            Err(_) if appended > 0 => (Some(Vec::new()), None),
            Err(_) => (None, None),
        };
        if let Some(parts) = parts {
            let of = DraftOf::Workflow(Box::new(workflow.clone()));
            let append = Append { draft, of, number: appended, parts, lease };
            answered(|| store.append(append.clone())).await?;
            appended += 1;
        }
        if let Some(batch) = next {
            held_back = Some(batch);
        }
    }
    builder.await.map_err(|e| Error::usage("an iterator of jobs panicked").because(e))??;
    let parts = held_back.map(|batch| batch.parts).unwrap_or_default();
    let draft = (appended > 0).then_some(draft);
    let create = Create { workflow, draft, parts, again };
    answered(|| store.create(create.clone())).await.map_err(|error| match error.kind() {
        ErrorKind::Unavailable => {
            error.during(format_args!("whether workflow {} was created is not known", create.workflow.id))
        }
        _ => error,
    })
}

/// Sends a call that was not answered again, for a while: what is repeated changes nothing, and its answer tells what there is.
pub(crate) async fn answered<'a, T>(call: impl Fn() -> Answer<'a, T>) -> Result<T> {
    let (started, mut backoff) = (Instant::now(), Backoff::new());
    loop {
        match call().await {
            Err(error) if error.kind() == ErrorKind::Unavailable && started.elapsed() < REPEATED => {
                tokio::time::sleep(backoff.next()).await;
            }
            answer => return answer,
        }
    }
}

/// Cuts the plan into batches. A batch that nobody takes any more ends it.
fn build(plan: Plan, arguments: usize, sender: &mpsc::Sender<Batch>, created: &AtomicU64) -> Result<()> {
    // The arguments may travel with any batch: every one leaves room for them.
    let mut batch = Batch { room: BATCH_BYTES.saturating_sub(arguments), ..Batch::default() };
    let upstreams = plan.graph.upstream_counts();
    // Steps that are chained to a step have as many jobs as that: with each chunk they grow, too.
    let mut behind: BTreeMap<u32, usize> = BTreeMap::new();
    for first in plan.graph.steps.iter().filter_map(|spec| spec.chain.first()) {
        *behind.entry(first.step).or_default() += 1;
    }
    let steps = plan.graph.steps.into_iter().zip(upstreams).zip(plan.always).zip(plan.awaits);
    for (((spec, upstreams), always), awaits) in steps {
        add(&mut batch, Part::Step { spec, upstreams, always, awaits }, 0, sender)?;
    }
    for edge in plan.graph.edges {
        add(&mut batch, Part::Edge(edge), 0, sender)?;
    }
    for (step, jobs) in (0..).zip(plan.jobs) {
        add_jobs(&mut batch, (step, behind.get(&step).copied().unwrap_or(0)), jobs, sender, created)?;
    }
    if let Some((draft, lease)) = plan.held_open {
        add(&mut batch, Part::Open { draft, lease }, 0, sender)?;
    }
    if let Some((outer, chunk)) = plan.within {
        add(&mut batch, Part::Within { batch: outer, step: Box::new(step_of_batches()), chunk }, 0, sender)?;
    }
    send(batch, sender)
}

fn add_jobs(
    batch: &mut Batch,
    (step, behind): (u32, usize),
    jobs: JobStream,
    sender: &mpsc::Sender<Batch>,
    created: &AtomicU64,
) -> Result<()> {
    let mut builder = ChunkBuilder::default();
    for (row, json) in jobs.enumerate() {
        let chunk = builder.push(&json?).map_err(|error| error.during(format_args!("row {row} of step {step}")))?;
        if let Some(chunk) = chunk {
            created.fetch_add(u64::from(chunk.jobs), Ordering::Relaxed);
            add(batch, Part::Jobs { step, chunk }, behind, sender)?;
        }
    }
    if let Some(chunk) = builder.finish() {
        created.fetch_add(u64::from(chunk.jobs), Ordering::Relaxed);
        add(batch, Part::Jobs { step, chunk }, behind, sender)?;
    }
    Ok(())
}

/// Adds a part, which costs so much more; sends what is there before if both together would be too much.
fn add(batch: &mut Batch, part: Part, more: usize, sender: &mpsc::Sender<Batch>) -> Result<()> {
    let (bytes, cost) = Batch::weigh(&part);
    let cost = cost + more;
    if !batch.parts.is_empty() && (batch.bytes + bytes > batch.room || batch.cost + cost > BATCH_COST) {
        let next = Batch { room: batch.room, ..Batch::default() };
        send(std::mem::replace(batch, next), sender)?;
    }
    batch.bytes += bytes;
    batch.cost += cost;
    batch.parts.push(part);
    Ok(())
}

fn send(batch: Batch, sender: &mpsc::Sender<Batch>) -> Result<()> {
    sender.blocking_send(batch).map_err(|_| Error::unavailable("the creation was given up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call that fails so often, and how often it was made.
    async fn made(failures: usize, error: fn() -> Error) -> (Result<usize>, usize) {
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let call = || -> Answer<'_, usize> {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { if call < failures { Err(error()) } else { Ok(call) } })
        };
        let answer = answered(call).await;
        (answer, calls.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_not_answered_is_repeated_for_a_while() {
        let away = || Error::unavailable("away");
        assert_eq!(made(3, away).await.0.unwrap(), 3);
        let (answer, calls) = made(usize::MAX, away).await;
        assert!(answer.unwrap_err().is_transient() && (4..50).contains(&calls), "{calls} calls");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_refused_is_not() {
        assert_eq!(made(1, || Error::refused("no")).await.1, 1);
    }
}
