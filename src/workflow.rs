//! What a user writes a workflow with: [`Workflow`], the [`Flow`] that it fills, and the [`Step`] handles that it joins.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::{Edge, Graph, StepNumber, StepSpec};
use crate::id::WorkflowId;
use crate::job::{Job, JobError, Source, Stored};
use crate::outputs::written;
use crate::payload::Chunk;
use crate::state::EdgeKind;
use crate::store::{Awaits, BATCH_STEP, DraftKey};

mod step;

pub use step::{Step, Steps};

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
        if let Some(node) = parts.nodes.iter().find(|node| node.always && !node.spec.chain.is_empty()) {
            return Err(Error::usage(format!(
                "step `{}` is chained and told `.always(..)`: its jobs cannot run when those before them have been cancelled; say it of a step that runs after it",
                node.spec.name
            )));
        }
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
