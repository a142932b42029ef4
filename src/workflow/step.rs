//! The handles that [`Flow`] returns: with them steps are joined, and told their options.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::{Flow, Node};
use crate::chain::Follows;
use crate::error::Result;
use crate::graph::{Edge, Link, StepNumber, StepSpec};
use crate::job::Job;
use crate::outputs::Outputs;
use crate::retry::Retry;
use crate::state::{EdgeKind, FailurePolicy, Tolerate};
use crate::store::BATCH_STEP;

/// How many jobs of an eager source may be unfinished unless it says otherwise: some seconds of work for many workers.
const AHEAD: u64 = 10_000;

/// A handle on a step of a [`Flow`]; copy it freely. `J` is the type of the step's jobs.
pub struct Step<'f, J> {
    pub(super) flow: &'f Flow,
    pub(super) number: StepNumber,
    /// The step that `after` moves: the source, if there is one.
    pub(super) front: StepNumber,
    pub(super) job: PhantomData<fn() -> J>,
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

impl<'f, J: Job> Step<'f, J> {
    /// A step with one job for each of this step's, made of that job and of what it returned: job number 7 of it may start as soon as number 7
    /// of this step has succeeded, while others of this step still run. So every row of a file goes its own way through several steps.
    ///
    /// A job whose predecessor did not succeed, although this step as a whole [has](Self::tolerate), is skipped, and comes back when that is
    /// repaired. While this step has failed beyond what it tolerates, the chained step waits with what it has. What else is said of it (its own
    /// `after`, `tolerate`, `retry`, ...) holds as for any other step; what comes after it waits for all of its jobs.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct ImportRow { row: String }
    /// # #[derive(Serialize, Deserialize)] struct Enrich { row: String }
    /// # #[derive(Serialize, Deserialize)] struct Report;
    /// # macro_rules! job { ($($t:ident)*) => { $(impl Job for $t { const NAME: &str = stringify!($t); type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } })* } }
    /// # job!(ImportRow Enrich Report);
    /// impl Follows<ImportRow> for Enrich {
    ///     fn follow(before: ImportRow, _: ()) -> Self {
    ///         Enrich { row: before.row }
    ///     }
    /// }
    /// # #[derive(Serialize, Deserialize)] struct Import { rows: Vec<String> }
    /// # impl Workflow for Import {
    /// # const NAME: &str = "Import";
    /// fn configure(&self, flow: &Flow) -> gusher::Result<()> {
    ///     let rows = flow.run_each(self.rows.clone().into_iter().map(|row| ImportRow { row }));
    ///     let enriched = rows.each_then::<Enrich>();
    ///     flow.run(Report).after(enriched);
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn each_then<F: Follows<J>>(self) -> Step<'f, F> {
        let mut spec = StepSpec::new(F::NAME, F::QUEUE);
        let parts = self.flow.parts.borrow();
        let before = &parts.nodes[self.number as usize].spec;
        spec.chain.clone_from(&before.chain);
        spec.chain.push(Link { step: self.number, job_type: before.job_type.clone() });
        drop(parts);
        let step: Step<'f, F> = self.flow.step(spec, Ok((Box::new(std::iter::empty()), Vec::new())));
        let edge = Edge { up: self.number, down: step.number, kind: EdgeKind::Chains };
        self.flow.parts.borrow_mut().edges.insert(edge);
        step
    }

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
