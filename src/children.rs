//! Workflows within workflows: a step whose jobs stand for a workflow each. A worker creates the workflow and lets the job wait: no slot is
//! held, and the end of the workflow is the job's.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::arguments_of;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{StepNumber, StepSpec};
use crate::id::WorkflowId;
use crate::job::{Context, Job, JobError, JobResult, Stored};
use crate::outputs::{Outputs, written};
use crate::retention::Retention;
use crate::start_job::{START_QUEUE, static_type};
use crate::starting::New;
use crate::state::WorkflowState;
use crate::store::{NewWorkflow, Parent};
use crate::workflow::{Flow, Step, Workflow};

/// The error of a job whose workflow has failed, or was cancelled by itself.
pub(crate) const FAILED: &str = "its workflow did not succeed";
/// After so long a child is created again that the store could not take.
const AWAY: Duration = Duration::from_secs(2);

/// A workflow that returns what one of its jobs does: a step of such workflows has outputs.
///
/// ```
/// # use gusher::prelude::*;
/// # use gusher::Returning;
/// # #[derive(Serialize, Deserialize)] struct CountRows { file: String }
/// # impl Job for CountRows { const NAME: &str = "CountRows"; type Output = u64; type State = ();
/// #     async fn perform(self, _: &Context) -> JobResult<u64> { Ok(1) } }
/// # #[derive(Serialize, Deserialize)] struct Report { rows: Outputs<u64> }
/// # impl Job for Report { const NAME: &str = "Report"; type Output = (); type State = ();
/// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
/// #[derive(Serialize, Deserialize)]
/// struct ImportFile { file: String }
///
/// impl Workflow for ImportFile {
///     const NAME: &str = "ImportFile";
///     fn configure(&self, flow: &Flow) -> gusher::Result<()> {
///         let counted = flow.run(CountRows { file: self.file.clone() });
///         flow.returns::<Self, _>(counted);
///         Ok(())
///     }
/// }
///
/// impl Returning for ImportFile {
///     type Output = u64;
/// }
///
/// # #[derive(Serialize, Deserialize)] struct Nightly { files: Vec<String> }
/// # impl Workflow for Nightly {
/// #     const NAME: &str = "Nightly";
/// fn configure(&self, flow: &Flow) -> gusher::Result<()> {
///     let files = self.files.clone().into_iter().map(|file| ImportFile { file });
///     let imported = flow.run_each_workflow(files);
///     flow.run(Report { rows: imported.outputs() });
///     Ok(())
/// }
/// # }
/// ```
pub trait Returning: Workflow {
    /// What it returns.
    type Output: Stored;
}

/// What the jobs of a step are that each stand for a workflow of type `W`.
#[derive(Debug)]
pub struct Child<W>(PhantomData<fn() -> W>);

/// The type of the jobs that stand for workflows of a type.
pub(crate) fn static_child_type(workflow: &str) -> &'static str {
    static_type(format!("{PREFIX}{workflow}"))
}

const PREFIX: &str = "workflow ";

/// The type of the workflows that jobs of a type stand for.
pub(crate) fn workflow_of(job_type: &str) -> &str {
    job_type.strip_prefix(PREFIX).unwrap_or(job_type)
}

impl Flow {
    /// A step of one job that stands for another workflow, which is created once the step is released, and whose end is the step's.
    pub fn run_workflow<W: Workflow>(&self, workflow: W) -> Step<'_, Child<W>> {
        self.run_each_workflow(std::iter::once(workflow))
    }

    /// A step of a workflow for each item. Its tolerance, its policies and its limits are said of these workflows as of jobs.
    pub fn run_each_workflow<W: Workflow, I>(&self, workflows: I) -> Step<'_, Child<W>>
    where
        I: IntoIterator<Item = W>,
        I::IntoIter: Send + 'static,
    {
        let spec = StepSpec {
            name: W::NAME.to_owned(),
            children: true,
            ..StepSpec::new(static_child_type(W::NAME), START_QUEUE)
        };
        self.children_step(spec, workflows.into_iter().map(|workflow| arguments(&workflow)))
    }

    /// Says which job's output is that of the whole workflow: the only one of that step.
    pub fn returns<W: Returning, J: Job<Output = W::Output>>(&self, step: Step<'_, J>) {
        self.set_returns(step.number());
    }
}

impl<W: Returning> Step<'_, Child<W>> {
    /// What the workflows of the step return, for a field of a job that reads it.
    pub fn outputs(self) -> Outputs<W::Output> {
        Outputs::of_children(self.number())
    }
}

/// The arguments of a workflow that stands for a job.
fn arguments<W: Workflow>(workflow: &W) -> Result<Vec<u8>> {
    let (_, reads) = written(workflow)?;
    if let Some(step) = reads.first() {
        return Err(Error::usage(format!(
            "the arguments of {} read the outputs of step {step}: a workflow within another one cannot; let a job of its own find what it needs",
            W::NAME
        )));
    }
    Ok(arguments_of(workflow)?.into_bytes())
}

/// Where the output of a workflow is: what its job has as its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Returned {
    pub workflow: WorkflowId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepNumber>,
}

/// The job that creates a workflow, as workers run it.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct BeginChild<S> {
    arguments: Box<RawValue>,
    #[serde(skip)]
    state: PhantomData<fn() -> S>,
}

impl<S: Send + Sync + 'static> Job for BeginChild<S> {
    /// Each workflow type has jobs of its own, under the name of [`static_child_type`].
    const NAME: &'static str = "workflow";
    type Output = ();
    type State = S;

    async fn perform(self, ctx: &Context<S>) -> JobResult<()> {
        let slice = &ctx.held.slice;
        let index = slice.first + u64::from(ctx.at());
        let parent = Parent { workflow: slice.workflow, step: slice.step, index };
        let id = WorkflowId::of_child(slice.workflow, &ctx.idempotency_key());
        match ctx.client().begin_child(id, parent, workflow_of(&slice.job_type), self.arguments.get()).await {
            Ok(step) => Err(JobError::begun(Returned { workflow: id, step })),
            Err(error) if error.is_transient() => Err(JobError::postpone(AWAY)),
            Err(error) if error.kind() == ErrorKind::Usage => Err(JobError::fatal(error)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Client {
    /// Creates the workflow that stands for a job, unless it is there; one that has not succeeded is repaired, or begins anew. Tells which of its
    /// steps has its output.
    async fn begin_child(
        &self,
        id: WorkflowId,
        parent: Parent,
        name: &str,
        arguments: &str,
    ) -> Result<Option<StepNumber>> {
        let (arguments, plan) = self.registry().parse(name, arguments)?;
        let plan = plan()?;
        let returns = plan.returns;
        let new = New { name, arguments, retention: Some(Retention::for_ever()) };
        let new = NewWorkflow { parent: Some(parent), ..self.new_workflow(id, new, None, None)? };
        match self.store().workflow(id).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                drop(self.build(new, plan, None, false, Arc::default()).await?)
            }
            Err(error) => return Err(error),
            Ok(row) if row.state == WorkflowState::Failed => drop(self.handle(id).retry_failed(None).await?),
            Ok(row) if row.state == WorkflowState::Cancelled => {
                let new = NewWorkflow { generation: row.generation + 1, ..new };
                self.build(new, plan, None, true, Arc::default()).await?;
            }
            Ok(row) if row.state == WorkflowState::Cancelling => {
                return Err(Error::unavailable(format!("workflow {id} is being cancelled")));
            }
            Ok(_) => {}
        }
        Ok(returns)
    }
}
