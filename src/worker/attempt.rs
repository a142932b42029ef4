//! Where user code runs: a slot takes the jobs of a slice one after another, and each attempt ends in an outcome, whatever it does.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::held::{End, Ended, Held, Taken, Written};
use super::hooked::attempt;
use super::hub::Hub;
use super::watch;
use crate::eager::Eager;
use crate::emitter::Emitter;
use crate::graph::StepSpec;
use crate::hooks::Surroundings;
use crate::job::{Context, Job, JobError, JobResult, Source, panic_text};
use crate::limit::Limit;
use crate::payload::check_size;
use crate::retry::Retry;
use crate::shape::at_field;

/// How long a job that was told to come to its end may take for that.
pub const GRACE: Duration = Duration::from_secs(10);

/// After so long a slot lets others use its thread.
const TURN: Duration = Duration::from_millis(1);

/// What a type is registered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Job,
    Source,
    Condition,
    /// Its jobs stand for workflows.
    Workflow,
}

impl Role {
    /// What the jobs of a step must be.
    pub fn of(step: &StepSpec) -> Self {
        match step {
            StepSpec { feeds: Some(_), .. } => Role::Source,
            StepSpec { condition: true, .. } => Role::Condition,
            StepSpec { children: true, .. } => Role::Workflow,
            _ => Role::Job,
        }
    }

    /// The word for it, which is also that of the `App`'s method.
    pub fn word(self) -> &'static str {
        match self {
            Role::Job => "job",
            Role::Source => "source",
            Role::Condition => "condition",
            Role::Workflow => "workflow",
        }
    }
}

/// What a worker knows of a registered type.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub name: &'static str,
    pub queue: &'static str,
    pub retry: Retry,
    pub timeout: Option<Duration>,
    pub blocking: bool,
    pub role: Role,
    /// Whether its lone jobs may have a key that limits them.
    pub keyed: bool,
    pub limit: Limit,
    /// Whether stored parameters can be read, and why not.
    pub fits: fn(&[u8]) -> Result<(), String>,
}

/// A registered type, so that the rest of a worker need not know it. One virtual call and one box a slot and slice, none a job.
pub trait Handler<S>: Send + Sync {
    fn kind(&self) -> &Kind;
    /// Runs jobs of the slice until it has none that may be started.
    fn run(&self, surroundings: Arc<Surroundings<S>>, held: Arc<Held>, hub: Arc<Hub>) -> BoxFuture<'static, ()>;
}

/// The handler of a job type.
pub struct JobHandler<J>(Kind, PhantomData<fn() -> J>);

impl<J: Job> JobHandler<J> {
    pub fn new() -> Self {
        let kind = Kind {
            name: J::NAME,
            queue: J::QUEUE,
            retry: J::RETRY,
            timeout: J::TIMEOUT,
            blocking: J::BLOCKING,
            role: Role::Job,
            keyed: !J::LIMIT_PER_KEY.is_none(),
            limit: J::LIMIT,
            fits: |json| read::<J>(J::NAME, json).map(drop),
        };
        Self(kind, PhantomData)
    }

    /// Of jobs that stores know under another name than the type's.
    pub fn named(name: &'static str) -> Self {
        let Self(kind, job) = Self::new();
        Self(Kind { name, ..kind }, job)
    }

    /// Of what is no job to those who register it.
    pub fn in_role(self, role: Role) -> Self {
        let Self(kind, job) = self;
        Self(Kind { role, ..kind }, job)
    }
}

impl<J: Job> Handler<J::State> for JobHandler<J> {
    fn kind(&self) -> &Kind {
        &self.0
    }

    fn run(&self, surroundings: Arc<Surroundings<J::State>>, held: Arc<Held>, hub: Arc<Hub>) -> BoxFuture<'static, ()> {
        let limit = held.slice.options.timeout.or(self.0.timeout);
        Box::pin(async move {
            let mut clock = Instant::now();
            let mut turn = clock;
            while let Some(taken) = held.take() {
                hub.ledger.started(&held, taken);
                if let Some(watcher) = &hub.watcher {
                    watch::start(&**watcher, &held, taken).await;
                }
                let mut ctx = context(&surroundings, &held, taken);
                let work = async {
                    let job = decode::<J>(&held, taken)?;
                    let output = perform(job, &ctx).await?;
                    ctx.finish_additions().await?;
                    Ok(output)
                };
                let end = attempt(&held, &ctx, limit, work).instrument(span(&held, taken)).await;
                let written = Written { draft: None, added: ctx.take_additions() };
                finish(&held, &hub, taken, &mut clock, end, ctx.into_logs(), written);
                // Jobs that only compute would keep this thread from claims, reports and other slots until the slice has ended.
                if clock.duration_since(turn) >= TURN {
                    tokio::task::yield_now().await;
                    clock = Instant::now();
                    turn = clock;
                }
            }
        })
    }
}

/// The handler of a source type.
pub struct SourceHandler<S>(Kind, PhantomData<fn() -> S>);

impl<S: Source> SourceHandler<S> {
    pub fn new() -> Self {
        let kind = Kind {
            name: S::NAME,
            queue: S::QUEUE,
            retry: S::RETRY,
            timeout: S::TIMEOUT,
            blocking: S::BLOCKING,
            role: Role::Source,
            keyed: false,
            limit: S::LIMIT,
            fits: |json| read::<S>(S::NAME, json).map(drop),
        };
        Self(kind, PhantomData)
    }
}

impl<S: Source> Handler<S::State> for SourceHandler<S> {
    fn kind(&self) -> &Kind {
        &self.0
    }

    fn run(&self, surroundings: Arc<Surroundings<S::State>>, held: Arc<Held>, hub: Arc<Hub>) -> BoxFuture<'static, ()> {
        let limit = held.slice.options.timeout.or(self.0.timeout);
        Box::pin(async move {
            let mut clock = Instant::now();
            while let Some(taken) = held.take() {
                hub.ledger.started(&held, taken);
                if let Some(watcher) = &hub.watcher {
                    watch::start(&**watcher, &held, taken).await;
                }
                let ctx = context(&surroundings, &held, taken);
                let eager = Eager::of(&held, taken.at, || ctx.cancellation().clone());
                let mut emitter = Emitter::<S::Emits>::new(held.clone(), taken.at, eager.clone());
                let work = async {
                    let source = decode::<S>(&held, taken)?;
                    let produced = match &eager {
                        None => source.produce(&ctx, &mut emitter).await,
                        Some(eager) => {
                            eager.begin().await?;
                            tokio::select! {
                                biased;
                                produced = source.produce(&ctx, &mut emitter) => produced,
                                never = eager.store_what_waits() => match never {},
                            }
                        }
                    };
                    produced.map_err(|error| error.ruled_by(S::retry_on, S::discard_on))?;
                    emitter.finish().await?;
                    Ok(Vec::new())
                };
                let end = attempt(&held, &ctx, limit, work).instrument(span(&held, taken)).await;
                let end = eager.as_ref().and_then(|eager| eager.end_instead()).unwrap_or(end);
                let written = Written { draft: emitter.into_draft(), added: None };
                finish(&held, &hub, taken, &mut clock, end, ctx.into_logs(), written);
                if let Some(eager) = eager {
                    eager.take_slot_back().await;
                }
            }
        })
    }
}

/// What a job logs is told with what it is, if that is asked for: `RUST_LOG=info,gusher::job=debug`.
pub fn span(held: &Held, taken: Taken) -> Span {
    let slice = &held.slice;
    tracing::debug_span!(
        target: "gusher::job",
        "job",
        r#type = slice.job_type,
        workflow = %slice.workflow,
        workflow_name = &*slice.workflow_name,
        step = slice.step_name,
        index = slice.first + u64::from(taken.at),
        attempt = taken.attempt
    )
}

/// What an attempt runs in.
pub fn context<S>(surroundings: &Arc<Surroundings<S>>, held: &Arc<Held>, taken: Taken) -> Context<S> {
    Context::new(surroundings.clone(), held.clone(), taken.at, taken.attempt)
}

/// The job's own part of an attempt: its output as JSON, nothing for `null`.
pub async fn perform<J: Job>(job: J, ctx: &Context<J::State>) -> JobResult<Vec<u8>> {
    let performed = job.perform(ctx).await;
    encode(&performed.map_err(|error| error.ruled_by(J::retry_on, J::discard_on))?)
}

fn decode<J: DeserializeOwned>(held: &Held, taken: Taken) -> JobResult<J> {
    let parameters = held.parameters.get();
    let parameters = parameters.ok_or_else(|| JobError::fatal("the store holds no parameters for this job"))?;
    let json = parameters.of_job(usize::from(taken.at)).map_err(JobError::fatal)?;
    read(&held.slice.job_type, &json).map_err(JobError::fatal)
}

/// Parameters as the type that is to run, or what does not fit.
fn read<J: DeserializeOwned>(name: &str, json: &[u8]) -> Result<J, String> {
    serde_json::from_slice(json)
        .map_err(|error| format!("the parameters do not fit the type `{name}`{}: {error}", at_field(json, &error)))
}

fn encode(output: &impl serde::Serialize) -> JobResult<Vec<u8>> {
    let json = serde_json::to_vec(output)
        .map_err(|error| JobError::fatal(format!("the output cannot be written as JSON: {error}")))?;
    check_size("output", json.len()).map_err(JobError::fatal)?;
    Ok(if json == b"null" { Vec::new() } else { json })
}

/// Lets work run to its end: of itself, by a panic, at its time limit, or by a cancel or a stop.
pub async fn guard<S>(
    held: &Held,
    ctx: &Context<S>,
    limit: Option<Duration>,
    grace: Duration,
    work: impl Future<Output = JobResult<Vec<u8>>>,
) -> End {
    let over_time = async {
        let time_over = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = held.token.cancelled() => false,
            () = held.until_stopped(ctx.at()) => false,
            () = time_over => true,
        }
    };
    match until_told(work, over_time, || ctx.cancellation().cancel(), grace).await {
        Ok(Ok(output)) => End::Succeeded(output),
        Ok(Err(error)) => End::Failed(error),
        Err(true) => End::Failed(timed_out(limit)),
        Err(false) => stopped(held, ctx.at()),
    }
}

/// Lets work run to its end, which may be a panic. Once there is a reason to tell it to come to its end, it is told, and has `grace` for
/// that: who manages to succeed within it has succeeded, all others are dropped, or not heard. Then the reason is returned.
pub async fn until_told<R>(
    work: impl Future<Output = JobResult<Vec<u8>>>,
    reason: impl Future<Output = R>,
    tell: impl FnOnce(),
    grace: Duration,
) -> Result<JobResult<Vec<u8>>, R> {
    let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
    let reason = tokio::select! {
        biased;
        ended = &mut work => return Ok(caught(ended)),
        reason = reason => reason,
    };
    tell();
    match tokio::time::timeout(grace, work).await.map(caught) {
        Ok(Ok(output)) => Ok(Ok(output)),
        _ => Err(reason),
    }
}

fn caught(ended: Result<JobResult<Vec<u8>>, Box<dyn Any + Send>>) -> JobResult<Vec<u8>> {
    ended.unwrap_or_else(|panic| Err(JobError::new(format!("panicked: {}", panic_text(panic.as_ref())))))
}

pub fn timed_out(limit: Option<Duration>) -> JobError {
    JobError::new(format!("timed out: the attempt took longer than {:?}", limit.unwrap_or_default()))
}

/// The end of what was told to end, by its workflow, by its worker, or by itself.
pub fn stopped(held: &Held, at: u16) -> End {
    if held.is_stopping() && !held.is_stopped(at) { End::Stopped } else { End::Cancelled }
}

fn finish(
    held: &Arc<Held>,
    hub: &Hub,
    taken: Taken,
    clock: &mut Instant,
    end: End,
    logs: Vec<String>,
    written: Written,
) {
    let started = std::mem::replace(clock, Instant::now());
    hub.timed(&held.slice.job_type, *clock - started);
    let (started, finished) = (hub.wall_at(started), hub.wall_at(*clock));
    let ended = Ended { at: taken.at, attempt: taken.attempt, started, finished, end, logs, written };
    hub.ledger.ended(held, &ended);
    held.end(ended);
}
