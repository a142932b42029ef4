//! What a user writes a workflow with: [`Workflow`], the [`Flow`] that it fills, and the [`Step`] handles that it joins.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::{Edge, Graph, StepNumber, StepSpec};
use crate::id::WorkflowId;
use crate::job::{Job, JobError, Source, Stored};
use crate::outputs::{Outputs, written};
use crate::payload::Chunk;
use crate::retry::Retry;
use crate::state::{EdgeKind, FailurePolicy, Tolerate};
use crate::store::{Awaits, BATCH_STEP, DraftKey};

/// How many jobs of an eager source may be unfinished unless it says otherwise: some seconds of work for many workers.
const AHEAD: u64 = 10_000;

/// A graph of steps. The fields of the type are its arguments.
///
/// ```
/// # use gusher::prelude::*;
/// # #[derive(Serialize, Deserialize)] struct ImportCsv; #[derive(Serialize, Deserialize)] struct ImportXml;
/// # #[derive(Serialize, Deserialize)] struct GenReport;
/// # macro_rules! job { ($($t:ident)*) => { $(impl Job for $t { const NAME: &str = stringify!($t); type Output = (); type State = ();
/// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } })* } }
/// # job!(ImportCsv ImportXml GenReport);
/// #[derive(Serialize, Deserialize)]
/// struct Nightly;
///
/// impl Workflow for Nightly {
///     const NAME: &str = "Nightly";
///     fn configure(&self, flow: &Flow) -> gusher::Result<()> {
///         let csv = flow.run(ImportCsv);
///         let xml = flow.run(ImportXml);
///         flow.run(GenReport).after((csv, xml));
///         Ok(())
///     }
/// }
/// ```
pub trait Workflow: Stored {
    /// The name under which stores know it. Keep it when the type is renamed.
    const NAME: &'static str;

    /// Says what runs after what. Called where the workflow is created, not where it runs.
    fn configure(&self, flow: &Flow) -> Result<()>;
}

/// The jobs of a step, as they are written to a store: one at a time, so any number fits.
pub(crate) type JobStream = Box<dyn Iterator<Item = Result<Vec<u8>>> + Send>;

/// What a step holds and waits for, as far as `configure` has said it.
struct Node {
    spec: StepSpec,
    is_named: bool,
    jobs: Option<JobStream>,
    reads: BTreeSet<StepNumber>,
    always: bool,
    /// It was told to fail fast and to pause.
    two_policies: bool,
    /// It is the one source of what it feeds.
    is_one_source: bool,
    /// It is told how far ahead of what it feeds it may be.
    ahead: Option<u64>,
    /// What a wait succeeds with if its signal does not come in time.
    value: Vec<u8>,
}

#[derive(Default)]
struct Parts {
    nodes: Vec<Node>,
    edges: BTreeSet<Edge>,
    /// The step whose output is the workflow's.
    returns: Option<StepNumber>,
    first_error: Option<Error>,
}

/// Takes the steps of a workflow.
#[derive(Default)]
pub struct Flow {
    parts: RefCell<Parts>,
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts.borrow();
        f.debug_list().entries(parts.nodes.iter().map(|node| &node.spec.name)).finish()
    }
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A step of one job.
    pub fn run<J: Job>(&self, job: J) -> Step<'_, J> {
        self.step(StepSpec::new(J::NAME, J::QUEUE), self.single(&job))
    }

    /// A step of a job for each item of `jobs`. The iterator is read when the workflow is created, one item at a time, so it may
    /// be of any length.
    pub fn run_each<J: Job, I>(&self, jobs: I) -> Step<'_, J>
    where
        I: IntoIterator<Item = J>,
        I::IntoIter: Send + 'static,
    {
        self.try_run_each(jobs.into_iter().map(Ok::<J, JobError>))
    }

    /// Like [`run_each`](Self::run_each), for items that can fail. The first error ends the creation of the workflow with the
    /// number of its row, and nothing of the workflow is left.
    pub fn try_run_each<J: Job, E: Into<JobError>, I>(&self, jobs: I) -> Step<'_, J>
    where
        I: IntoIterator<Item = Result<J, E>>,
        I::IntoIter: Send + 'static,
    {
        self.step(StepSpec::new(J::NAME, J::QUEUE), Ok(many(J::NAME, jobs)))
    }

    /// A source, and the step of the jobs that it emits. The handle stands for both: `after` moves the source, everything else is
    /// said of the emitted jobs ([`source`](Step::source) sets the source's own options).
    pub fn expand<S: Source>(&self, source: S) -> Step<'_, S::Emits> {
        let source = self.single(&source);
        let step = self.fed::<S>(source);
        self.parts.borrow_mut().nodes[step.front as usize].is_one_source = true;
        step
    }

    /// A step of sources, one for each item, and the one step of the jobs that all of them emit: the rows of many files.
    ///
    /// What a source emits is there once that source has succeeded, and may run at once, beside the other sources. What comes after the
    /// emitted jobs waits for every source, and for every job.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct ReadFile { name: String }
    /// # #[derive(Serialize, Deserialize)] struct ImportRow { row: String }
    /// # #[derive(Serialize, Deserialize)] struct Report { imported: Outputs<bool> }
    /// # macro_rules! job { ($t:ident, $out:ty) => { impl Job for $t { const NAME: &str = stringify!($t); type Output = $out; type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<$out> { Ok(Default::default()) } } } }
    /// # job!(ImportRow, bool); job!(Report, ());
    /// # impl Source for ReadFile { const NAME: &str = "ReadFile"; type Emits = ImportRow; type State = ();
    /// #     async fn produce(self, _: &Context, _: &mut Emitter<ImportRow>) -> JobResult<()> { Ok(()) } }
    /// # #[derive(Serialize, Deserialize)] struct Import { files: Vec<String> }
    /// # impl Workflow for Import {
    /// # const NAME: &str = "Import";
    /// fn configure(&self, flow: &Flow) -> gusher::Result<()> {
    ///     let rows = flow.expand_each(self.files.clone().into_iter().map(|name| ReadFile { name }));
    ///     flow.run(Report { imported: rows.outputs() });
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn expand_each<S: Source, I>(&self, sources: I) -> Step<'_, S::Emits>
    where
        I: IntoIterator<Item = S>,
        I::IntoIter: Send + 'static,
    {
        self.try_expand_each(sources.into_iter().map(Ok::<S, JobError>))
    }

    /// Like [`expand_each`](Self::expand_each), for items that can fail, as in [`try_run_each`](Self::try_run_each).
    pub fn try_expand_each<S: Source, E: Into<JobError>, I>(&self, sources: I) -> Step<'_, S::Emits>
    where
        I: IntoIterator<Item = Result<S, E>>,
        I::IntoIter: Send + 'static,
    {
        self.fed::<S>(Ok(many(S::NAME, sources)))
    }

    /// A step of sources, and the step that they feed.
    fn fed<S: Source>(&self, sources: Result<(JobStream, Vec<StepNumber>)>) -> Step<'_, S::Emits> {
        let front = self.step::<S>(StepSpec::new(S::NAME, S::QUEUE), sources);
        let emitted = StepSpec::new(<S::Emits as Job>::NAME, <S::Emits as Job>::QUEUE);
        let mut step: Step<'_, S::Emits> = self.step(emitted, Ok((Box::new(std::iter::empty()), Vec::new())));
        step.front = front.number;
        let mut parts = self.parts.borrow_mut();
        parts.nodes[front.number as usize].spec.feeds = Some(step.number);
        parts.edges.insert(Edge { up: front.number, down: step.number, kind: EdgeKind::Feeds });
        drop(parts);
        step
    }

    /// A step of one job that no worker runs.
    pub(crate) fn waiting_step<T>(&self, spec: StepSpec) -> Step<'_, T> {
        let jobs = self.single(&spec.waits);
        self.step(spec, jobs)
    }

    /// A step whose jobs stand for workflows with these arguments.
    pub(crate) fn children_step<T>(
        &self,
        spec: StepSpec,
        arguments: impl Iterator<Item = Result<Vec<u8>>> + Send + 'static,
    ) -> Step<'_, T> {
        self.step(spec, Ok((Box::new(arguments), Vec::new())))
    }

    pub(crate) fn set_returns(&self, step: StepNumber) {
        let mut parts = self.parts.borrow_mut();
        if parts.returns.replace(step).is_some_and(|before| before != step) {
            let twice =
                Error::usage("the workflow returns the outputs of two steps; say `flow.returns(..)` of one of them");
            parts.first_error.get_or_insert(twice);
        }
    }

    /// A step whose one job is a condition.
    pub(crate) fn condition_step<T: Serialize>(&self, name: &str, queue: &str, condition: &T) -> Step<'_, T> {
        self.step(StepSpec { condition: true, ..StepSpec::new(name, queue) }, self.single(condition))
    }

    /// A step of a batch, to which jobs are added later.
    pub(crate) fn growing_step<J>(&self, spec: StepSpec) -> Step<'_, J> {
        self.step(spec, Ok((Box::new(std::iter::empty()), Vec::new())))
    }

    /// The handle of a step that this flow has.
    pub(crate) fn step_numbered<J>(&self, number: StepNumber) -> Step<'_, J> {
        Step { flow: self, number, front: number, job: PhantomData }
    }

    /// The plan of a batch: its first step stands for it, and what comes after that comes after the steps that grow, too.
    pub(crate) fn finish_batch(self, growing: &[StepNumber]) -> Result<Plan> {
        let mut parts = self.parts.borrow_mut();
        let callbacks: Vec<Edge> = parts.edges.iter().filter(|edge| edge.up == BATCH_STEP).copied().collect();
        for &down in growing {
            parts.edges.insert(Edge { up: BATCH_STEP, down, kind: EdgeKind::Grows });
            let behind = callbacks.iter().filter(|edge| edge.kind != EdgeKind::OnDeath);
            parts.edges.extend(behind.map(|edge| Edge { up: down, ..*edge }));
        }
        if let Some(edge) = parts.edges.iter().find(|edge| edge.up != BATCH_STEP && !growing.contains(&edge.up)) {
            let name = &parts.nodes[edge.up as usize].spec.name;
            return Err(Error::usage(format!(
                "the callback `{name}` of the batch is to come before another step; callbacks run beside each other. A callback may start a workflow"
            )));
        }
        drop(parts);
        self.finish()
    }

    fn single(&self, job: &impl Serialize) -> Result<(JobStream, Vec<StepNumber>)> {
        let (json, reads) = written(job)?;
        Ok((Box::new(std::iter::once(Ok(json))), reads))
    }

    fn step<J>(&self, spec: StepSpec, jobs: Result<(JobStream, Vec<StepNumber>)>) -> Step<'_, J> {
        let mut parts = self.parts.borrow_mut();
        let number = StepNumber::try_from(parts.nodes.len()).unwrap_or(StepNumber::MAX);
        let (jobs, reads) = match jobs {
            Ok((jobs, reads)) => (Some(jobs), reads),
            Err(error) => {
                let error = error.during(format_args!("step {}", spec.name));
                parts.first_error.get_or_insert(error);
                (None, Vec::new())
            }
        };
        parts.nodes.push(Node {
            spec,
            is_named: false,
            jobs,
            reads: reads.into_iter().collect(),
            always: false,
            two_policies: false,
            is_one_source: false,
            ahead: None,
            value: Vec::new(),
        });
        Step { flow: self, number, front: number, job: PhantomData }
    }

    /// The checked graph, and the jobs of each step.
    pub(crate) fn finish(self) -> Result<Plan> {
        let mut parts = self.parts.into_inner();
        if let Some(error) = parts.first_error {
            return Err(error);
        }
        name_apart(&mut parts.nodes);
        if let Some(node) = parts.nodes.iter().find(|node| node.two_policies) {
            return Err(Error::usage(format!(
                "step `{}` is told both `.fail_fast()` and `.or_pause()`; say the one that is meant: the first cancels the rest of the step, the second pauses it",
                node.spec.name
            )));
        }
        let mut of_one_source = parts.nodes.iter().filter(|node| node.is_one_source);
        if let Some((node, said)) = of_one_source.find_map(|node| Some((node, node.spec.policy.said()?))) {
            return Err(Error::usage(format!(
                "step `{}` is one source: `.{said}()` has no rest to stop; say it of what the source emits, behind `flow.expand(..)`",
                node.spec.name
            )));
        }
        for node in parts.nodes.iter_mut().filter(|node| node.ahead.is_some()) {
            if node.spec.eager.is_none() {
                return Err(Error::usage(format!(
                    "step `{}` is told `.ahead(..)`, but what it emits comes with its success; say `.eager()`, too",
                    node.spec.name
                )));
            }
            node.spec.eager = node.ahead;
        }
        for (number, node) in (0..).zip(&parts.nodes) {
            for up in &node.reads {
                // An edge that was asked for by name says what the reader wants of what it reads.
                let asked = parts.edges.iter().any(|edge| edge.up == *up && edge.down == number);
                if !asked {
                    parts.edges.insert(Edge { up: *up, down: number, kind: EdgeKind::After });
                }
            }
        }
        let always = parts.nodes.iter().map(|node| node.always).collect();
        let awaits = parts
            .nodes
            .iter()
            .map(|Node { spec, value, .. }| spec.waits.as_ref().map(|waits| Box::new(waits.awaits(&spec.name, value))));
        let awaits = awaits.collect();
        let (specs, jobs) = parts
            .nodes
            .into_iter()
            .map(|node| (node.spec, node.jobs.unwrap_or_else(|| Box::new(std::iter::empty()))))
            .unzip();
        let graph = Graph { steps: specs, edges: parts.edges.into_iter().collect() };
        graph.check()?;
        Ok(Plan { graph, always, awaits, jobs, returns: parts.returns, held_open: None, within: None })
    }
}

/// The jobs of a step as they come, and the steps that they read.
fn many<J: Stored, E: Into<JobError>, I>(name: &'static str, jobs: I) -> (JobStream, Vec<StepNumber>)
where
    I: IntoIterator<Item = Result<J, E>>,
    I::IntoIter: Send + 'static,
{
    let mut jobs = jobs.into_iter().map(|job| job.map_err(Into::<JobError>::into));
    // What the jobs read must be known before the graph is checked; the first of them shows it.
    let first = jobs.next();
    let reads = match &first {
        Some(Ok(job)) => written(job).map(|(_, reads)| reads).unwrap_or_default(),
        _ => Vec::new(),
    };
    let known: HashSet<StepNumber> = reads.iter().copied().collect();
    let stream = first.into_iter().chain(jobs).enumerate().map(move |(row, job)| {
        let job = job.map_err(|error| Error::usage(format!("row {row} of step {name}: {error}")))?;
        let (json, reads) = written(&job)?;
        match reads.iter().find(|step| !known.contains(step)) {
            None => Ok(json),
            Some(step) => Err(Error::usage(format!(
                "row {row} of step {name} reads the outputs of step {step}, which its first row does not; all jobs of a step read the same steps"
            ))),
        }
    });
    (Box::new(stream), reads)
}

/// Steps that were not given a name have their type's; from the second of a type on with a number behind it.
fn name_apart(nodes: &mut [Node]) {
    let mut taken: HashSet<String> =
        nodes.iter().filter(|node| node.is_named).map(|node| node.spec.name.clone()).collect();
    let mut next: std::collections::HashMap<String, u32> = std::collections::HashMap::new();
    for node in nodes.iter_mut().filter(|node| !node.is_named) {
        let base = node.spec.name.clone();
        let number = next.entry(base.clone()).or_insert(1);
        loop {
            let name = if *number == 1 { base.clone() } else { format!("{base}-{number}") };
            *number += 1;
            if taken.insert(name.clone()) {
                node.spec.name = name;
                break;
            }
        }
    }
}

/// A workflow ready to be created.
pub(crate) struct Plan {
    pub graph: Graph,
    /// Whether each step runs although the workflow is cancelled.
    pub always: Vec<bool>,
    /// What each step waits for, if no worker runs it.
    pub awaits: Vec<Option<Box<Awaits>>>,
    /// The jobs of each step.
    pub jobs: Vec<JobStream>,
    /// The step whose output is that of the workflow.
    pub returns: Option<StepNumber>,
    /// The draft that holds it open, if it is a batch, and how long it lives without renewal.
    pub held_open: Option<(DraftKey, Millis)>,
    /// The batch that this one is within, and the job of that which it stands for.
    pub within: Option<(WorkflowId, Chunk)>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.graph.fmt(f)
    }
}

/// A handle on a step of a [`Flow`]; copy it freely. `J` is the type of the step's jobs.
pub struct Step<'f, J> {
    flow: &'f Flow,
    number: StepNumber,
    /// The step that `after` moves: the source, if there is one.
    front: StepNumber,
    job: PhantomData<fn() -> J>,
}

impl<J> Clone for Step<'_, J> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<J> Copy for Step<'_, J> {}

impl<J> fmt::Debug for Step<'_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Step({})", self.number)
    }
}

impl<'f, J> Step<'f, J> {
    fn set(self, change: impl FnOnce(&mut Node)) -> Self {
        change(&mut self.flow.parts.borrow_mut().nodes[self.number as usize]);
        self
    }

    pub(crate) fn number(self) -> StepNumber {
        self.number
    }

    pub(crate) fn set_spec(self, change: impl FnOnce(&mut StepSpec)) {
        self.set(|node| change(&mut node.spec));
    }

    /// What a wait succeeds with if its signal does not come in time.
    pub(crate) fn set_value(self, value: Result<Vec<u8>>) {
        match value {
            Ok(value) => drop(self.set(|node| node.value = value)),
            Err(error) => drop(self.flow.parts.borrow_mut().first_error.get_or_insert(error)),
        }
    }

    /// A callback of a batch, which its first step leads to.
    pub(crate) fn behind_batch(self, kind: EdgeKind) {
        let mut parts = self.flow.parts.borrow_mut();
        parts.nodes[self.number as usize].always = kind == EdgeKind::Always;
        parts.edges.insert(Edge { up: BATCH_STEP, down: self.number, kind });
    }

    fn edges(self, kind: EdgeKind, upstream: impl Steps) -> Self {
        let mut ends = Vec::new();
        upstream.ends(&mut ends);
        let edges = ends.into_iter().map(|(_, up)| Edge { up, down: self.front, kind });
        self.flow.parts.borrow_mut().edges.extend(edges);
        self
    }

    /// Runs once `upstream` has succeeded: a step, or a tuple or list of steps. While one of them has failed, this step waits for its repair.
    pub fn after(self, upstream: impl Steps) -> Self {
        self.edges(EdgeKind::After, upstream)
    }

    /// Runs once `upstream` has settled, whatever became of it, unless it was cancelled.
    pub fn after_settled(self, upstream: impl Steps) -> Self {
        self.edges(EdgeKind::AfterSettled, upstream)
    }

    /// Runs if `upstream` failed; is skipped if it did not.
    pub fn after_failure(self, upstream: impl Steps) -> Self {
        self.edges(EdgeKind::AfterFailure, upstream)
    }

    /// Runs once `upstream` has succeeded, and is skipped if that was skipped: a [condition](crate::Condition) that does not hold, a signal that
    /// did not come in time, a job that had nothing to do. While one of them has failed, this step waits for its repair.
    pub fn when(self, upstream: impl Steps) -> Self {
        self.edges(EdgeKind::When, upstream)
    }

    /// The other way round: runs if `upstream` was skipped when its turn had come, and is skipped if it succeeded, or never had its turn. While
    /// one of them has failed, this step waits for its repair.
    pub fn unless(self, upstream: impl Steps) -> Self {
        self.edges(EdgeKind::Unless, upstream)
    }

    /// Runs once `upstream` has settled, whatever became of it, even when the workflow is cancelled: for cleaning up.
    pub fn always(self, upstream: impl Steps) -> Self {
        self.flow.parts.borrow_mut().nodes[self.front as usize].always = true;
        self.edges(EdgeKind::Always, upstream)
    }

    /// `downstream` runs once this step has succeeded.
    pub fn before(self, downstream: impl Steps) -> Self {
        let mut ends = Vec::new();
        downstream.ends(&mut ends);
        let edges = ends.into_iter().map(|(front, _)| Edge { up: self.number, down: front, kind: EdgeKind::After });
        self.flow.parts.borrow_mut().edges.extend(edges);
        self
    }

    /// Gives the step another name than its type's.
    pub fn named(self, name: impl Into<String>) -> Self {
        self.set(|node| {
            node.spec.name = name.into();
            node.is_named = true;
        })
    }

    /// Runs the jobs in another queue than their type's.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        self.set(|node| node.spec.queue = queue.into())
    }

    /// Runs before ready work of lower priority in the same queue; 0 unless set.
    pub fn priority(self, priority: i32) -> Self {
        self.set(|node| node.spec.priority = priority)
    }

    /// Waits so long once its upstream steps have settled.
    pub fn delay(self, delay: Duration) -> Self {
        self.set(|node| node.spec.delay = delay)
    }

    /// Counts as succeeded although so many of its jobs failed: `.tolerate(10)`, or a share of them: `.tolerate(Tolerate::Fraction(0.001))`.
    pub fn tolerate(self, tolerate: impl Into<Tolerate>) -> Self {
        let tolerate = tolerate.into();
        self.set(|node| node.spec.tolerate = tolerate)
    }

    /// As soon as more of its jobs have failed for good than it [tolerates](Self::tolerate), the rest of the step is cancelled, also what its
    /// sources emit afterwards, and it has failed. A retry runs that rest, too.
    pub fn fail_fast(self) -> Self {
        self.policy(FailurePolicy::FailFast)
    }

    /// As soon as more of its jobs have failed for good than it [tolerates](Self::tolerate), the step is paused: what runs comes to its end,
    /// nothing more is handed out, nor what its sources emit afterwards, until somebody [resumes it](crate::Handle::resume_step), or retries
    /// what failed.
    pub fn or_pause(self) -> Self {
        self.policy(FailurePolicy::Pause)
    }

    fn policy(self, policy: FailurePolicy) -> Self {
        self.set(|node| {
            node.two_policies |= node.spec.policy != FailurePolicy::RunOn && node.spec.policy != policy;
            node.spec.policy = policy;
        })
    }

    /// At most so many of its jobs run at once, over all workers.
    pub fn max_in_flight(self, jobs: u32) -> Self {
        self.set(|node| node.spec.max_in_flight = Some(jobs))
    }

    /// How often its jobs are tried, in place of their type's rule.
    pub fn retry(self, retry: Retry) -> Self {
        self.set(|node| node.spec.retry = Some(retry))
    }

    /// How long one attempt may take, in place of the type's limit.
    pub fn timeout(self, limit: Duration) -> Self {
        self.set(|node| node.spec.timeout = Some(limit))
    }

    /// How often a job may kill the worker that runs it alone before it fails; 3 unless set.
    pub fn max_recoveries(self, recoveries: u8) -> Self {
        self.set(|node| node.spec.max_recoveries = recoveries)
    }

    /// What the source emits is there at once: its jobs run while it still reads, and stay whatever becomes of it. An attempt that comes after
    /// another goes on behind what is stored, as [`Emitter::done`](crate::Emitter::done) tells it.
    ///
    /// The source waits while too many of the jobs that it has emitted are unfinished: more than 10,000, or than [`ahead`](Self::ahead) says.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct ImportRow { row: String }
    /// # impl Job for ImportRow { const NAME: &str = "ImportRow"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # #[derive(Serialize, Deserialize)] struct ReadFeed { feed: String }
    /// # impl Source for ReadFeed { const NAME: &str = "ReadFeed"; type Emits = ImportRow; type State = ();
    /// #     async fn produce(self, _: &Context, _: &mut Emitter<ImportRow>) -> JobResult<()> { Ok(()) } }
    /// # fn configure(flow: &Flow) {
    /// flow.expand(ReadFeed { feed: "prices".into() }).eager().ahead(2_000);
    /// # }
    /// ```
    pub fn eager(self) -> Self {
        let nodes = &mut self.flow.parts.borrow_mut().nodes;
        nodes[self.front as usize].spec.eager.get_or_insert(AHEAD);
        self
    }

    /// How many jobs of the step may be unfinished before an [eager](Self::eager) source waits. It may be passed by what is on its way: as
    /// much as a quarter for each source.
    pub fn ahead(self, jobs: u64) -> Self {
        self.flow.parts.borrow_mut().nodes[self.front as usize].ahead = Some(jobs);
        self
    }

    /// Sets the options of the source behind what [`Flow::expand`] returned; on other steps, of the step itself.
    pub fn source(self, options: impl FnOnce(Step<'f, ()>) -> Step<'f, ()>) -> Self {
        options(Step { flow: self.flow, number: self.front, front: self.front, job: PhantomData });
        self
    }
}

impl<J: Job> Step<'_, J> {
    /// What the jobs of the step return, for a field of a job that reads it.
    pub fn outputs(self) -> Outputs<J::Output> {
        Outputs::of(self.number)
    }
}

/// A step, or several: a tuple, an array, a slice, a `Vec` or an `Option` of steps.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a step",
    label = "expected a step, or a tuple or list of steps",
    note = "`after` and its like take what `flow.run(..)`, `run_each(..)`, `expand(..)`, `expand_each(..)`, `wait_for(..)` and `sleep(..)` return"
)]
pub trait Steps {
    /// Adds front and end of each: they differ for a source and what it feeds.
    #[doc(hidden)]
    fn ends(self, into: &mut Vec<(StepNumber, StepNumber)>);
}

impl<J> Steps for Step<'_, J> {
    fn ends(self, into: &mut Vec<(StepNumber, StepNumber)>) {
        into.push((self.front, self.number));
    }
}

impl<T: Steps + Copy> Steps for &[T] {
    fn ends(self, into: &mut Vec<(StepNumber, StepNumber)>) {
        self.iter().for_each(|step| step.ends(into));
    }
}

macro_rules! lists {
    ($($list:ty, [$($generics:tt)*]);+ $(;)?) => {$(
        impl<T: Steps, $($generics)*> Steps for $list {
            fn ends(self, into: &mut Vec<(StepNumber, StepNumber)>) {
                self.into_iter().for_each(|step| step.ends(into));
            }
        }
    )+};
}

lists!(Vec<T>, []; Option<T>, []; [T; N], [const N: usize]);

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: Steps),+> Steps for ($($name,)+) {
            #[allow(non_snake_case)]
            fn ends(self, into: &mut Vec<(StepNumber, StepNumber)>) {
                let ($($name,)+) = self;
                $($name.ends(into);)+
            }
        }
    };
}

tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
