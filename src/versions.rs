//! Versions: a workflow keeps the graph that it was created with, and its jobs the parameters. After a deploy a program may know less: a type
//! that has gone, a field that has changed. The doctor says so before a worker meets it.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use serde_json::value::RawValue;

use crate::children::workflow_of;
use crate::client::Client;
use crate::error::{ErrorKind, Result};
use crate::id::WorkflowId;
use crate::outputs::ChunkParameters;
use crate::render::words::{count, number};
use crate::state::{JobState, StepState, WorkflowState};
use crate::store::StepRow;
use crate::waiting::WaitsFor;
use crate::worker::attempt::Role;

/// How many steps one look brings.
const STEPS: u32 = 1_000;
/// So many jobs of a step, evenly spread, tell of all.
const LOOKED_AT: u64 = 8;
/// How many kinds of trouble are told.
const TOLD: usize = 50;

/// What this program lacks for jobs that have not settled: by workflow type and step.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    Type { job_type: String, add: &'static str },
    Follows { job_type: String, before: String },
    Signal { signal_type: String },
    Shape { job_type: String, error: String },
}

/// Where something is lacking: in how many workflows, which of them is the newest, and how many jobs there are.
struct Place {
    workflows: u64,
    newest: WorkflowId,
    jobs: u64,
}

impl Client {
    /// A sentence for each type that unfinished workflows hold jobs of and this program does not know, or whose parameters it cannot read. A
    /// program without any types is asked about nothing.
    pub(crate) async fn what_this_program_lacks(&self) -> Result<Vec<String>> {
        let mut places: BTreeMap<(String, String, Lack), Place> = BTreeMap::new();
        if self.registry().kinds.is_empty() {
            return Ok(Vec::new());
        }
        for state in [WorkflowState::Pending, WorkflowState::Running, WorkflowState::Paused, WorkflowState::Cancelling]
        {
            let mut workflows = self.workflows().state(state).stream();
            while let Some(workflow) = workflows.try_next().await? {
                for (step, jobs, lack) in self.lacks_for(workflow.id).await? {
                    let place = places.entry((workflow.name.clone(), step, lack));
                    let place = place.or_insert(Place { workflows: 0, newest: workflow.id, jobs: 0 });
                    place.workflows += 1;
                    place.jobs += jobs;
                }
            }
        }
        let more = places.len().saturating_sub(TOLD);
        let mut told: Vec<String> = places.iter().take(TOLD).map(|(what, place)| sentence(what, place)).collect();
        if more > 0 {
            told.push(format!("{} more of such steps", number(more as u64)));
        }
        Ok(told)
    }

    /// What is lacking for the steps of a workflow that have not settled: each with its name, its jobs left and what that is.
    async fn lacks_for(&self, id: WorkflowId) -> Result<Vec<(String, u64, Lack)>> {
        let (mut lacks, mut from) = (Vec::new(), 0);
        loop {
            let steps = match self.store().steps(id, from, STEPS).await {
                // It has been deleted since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                steps => steps?,
            };
            for step in steps.iter().filter(|step| matches!(step.state, StepState::Waiting | StepState::Running)) {
                if let Some(lack) = self.lack_for(id, step).await? {
                    lacks.push((step.spec.name.clone(), step.jobs.unsettled(), lack));
                }
            }
            match steps.last() {
                Some(last) if steps.len() == STEPS as usize => from = last.number + 1,
                _ => return Ok(lacks),
            }
        }
    }

    async fn lack_for(&self, id: WorkflowId, step: &StepRow) -> Result<Option<Lack>> {
        match &step.spec.waits {
            Some(WaitsFor::Signal { signal_type, .. })
                if !self.registry().signals.contains_key(signal_type.as_str()) =>
            {
                return Ok(Some(Lack::Signal { signal_type: signal_type.clone() }));
            }
            Some(_) => return Ok(None),
            None => {}
        }
        let job_type = step.spec.job_type.clone();
        if let Some(before) =
            step.spec.chain.last().filter(|before| !self.registry().knows_how(&job_type, &before.job_type))
        {
            return Ok(Some(Lack::Follows { job_type, before: before.job_type.clone() }));
        }
        let Some(kind) = self.registry().kinds.get(job_type.as_str()) else {
            let add = Role::of(&step.spec).word();
            let job_type = if step.spec.children { workflow_of(&job_type).to_owned() } else { job_type };
            return Ok(Some(Lack::Type { job_type, add }));
        };
        if step.jobs.total == 0 || !step.spec.chain.is_empty() {
            return Ok(None);
        }
        // Several programs may have written them: sources before and after a deploy, or whoever adds to a batch.
        let looked_at: BTreeSet<u64> = (0..LOOKED_AT).map(|n| (step.jobs.total - 1) * n / (LOOKED_AT - 1)).collect();
        for index in looked_at {
            if let Some(json) = self.parameters_of_unsettled(id, step, index).await?
                && let Err(error) = (kind.fits)(json.get().as_bytes())
            {
                return Ok(Some(Lack::Shape { job_type, error }));
            }
        }
        Ok(None)
    }

    /// The parameters of the first unsettled job in the chunk of that job; none if all have settled, or have been deleted meanwhile.
    async fn parameters_of_unsettled(&self, id: WorkflowId, step: &StepRow, job: u64) -> Result<Option<Box<RawValue>>> {
        let page = self.store().outcomes(id, step.number, job, u64::MAX).await?;
        let Some(chunk) = page.into_iter().next() else { return Ok(None) };
        let is_unsettled = |byte: &u8| !JobState::of(*byte).is_settled();
        let Some(at) = chunk.bytes.iter().position(is_unsettled) else { return Ok(None) };
        match self.store().parameters(chunk.chunk).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            parameters => ChunkParameters::unpack(&parameters?)?.json(at).map(Some),
        }
    }
}

fn sentence((workflow, step, lack): &(String, String, Lack), place: &Place) -> String {
    let Place { workflows, newest, jobs } = place;
    let held = match workflows {
        1 => format!("workflow {workflow} {newest}, step `{step}`"),
        _ => format!("{} workflows {workflow} (the newest is {newest}), step `{step}`", number(*workflows)),
    };
    let jobs = count(*jobs, "job");
    match lack {
        Lack::Type { job_type, add } => format!(
            "{held}: this program does not know the type `{job_type}` of {jobs}; keep a worker of the version that does, or add \
             .{add}::<{job_type}>() to the App"
        ),
        Lack::Follows { job_type, before } => format!(
            "{held}: this program does not know how a `{job_type}` follows a `{before}`, for {jobs}; keep a worker of the version that does, or add \
             .follows::<{job_type}, {before}>() to the App"
        ),
        Lack::Signal { signal_type } => format!(
            "{held}: this program does not know the type `{signal_type}` of the signal that it waits for; add .signal::<{signal_type}>() to the App"
        ),
        Lack::Shape { job_type, error } => format!(
            "{held}: {jobs} would fail, since {error}; let `{job_type}` read what was stored (`#[serde(default)]` for a new field), or keep a worker of \
             the version that does"
        ),
    }
}
