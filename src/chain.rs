//! Element-wise chains: a step whose jobs go on from those of the step before it, one to one.
//!
//! Such a step has the chunks of its predecessor and stores no parameters: whoever needs those makes them, from the parameters of the
//! first step of the chain and from what the job of each step in between returned.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::Registry;
use crate::error::{Error, Result};
use crate::graph::{Link, StepNumber};
use crate::id::WorkflowId;
use crate::job::Job;
use crate::outputs::{ChunkParameters, last_outcomes};
use crate::shape::at_field;
use crate::state::JobState;
use crate::store::{ChunkRef, Store};

/// A job that goes on from one of type `P`: [`each_then`](crate::Step::each_then) chains a step of such jobs to a step of those, one to one.
///
/// ```
/// # use gusher::prelude::*;
/// # #[derive(Serialize, Deserialize)] struct ImportRow { row: String }
/// # impl Job for ImportRow { const NAME: &str = "ImportRow"; type Output = u64; type State = ();
/// #     async fn perform(self, _: &Context) -> JobResult<u64> { Ok(1) } }
/// # impl Job for Enrich { const NAME: &str = "Enrich"; type Output = (); type State = ();
/// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
/// #[derive(Serialize, Deserialize)]
/// struct Enrich { id: u64, row: String }
///
/// impl Follows<ImportRow> for Enrich {
///     fn follow(before: ImportRow, id: u64) -> Self {
///         Enrich { id, row: before.row }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not follow `{P}`",
    label = "`each_then` needs a job that can be made of one of type `{P}` and what that returned",
    note = "implement `gusher::Follows<{P}>` for `{Self}`"
)]
pub trait Follows<P: Job>: Job {
    /// Makes the job of its predecessor, as that was when it ran, and of what that returned. It is called wherever the job's parameters are
    /// needed, each time anew: so it does nothing else, and comes to the same each time.
    fn follow(before: P, output: P::Output) -> Self;
}

/// Makes the JSON of a job of that of its predecessor, and of what that returned.
pub(crate) type Follow = fn(&[u8], &[u8]) -> Result<Vec<u8>, String>;

/// By the type that follows, and the one before it.
pub(crate) type Following = BTreeMap<(&'static str, &'static str), Follow>;

pub(crate) fn follow<F: Follows<P>, P: Job>(before: &[u8], output: &[u8]) -> Result<Vec<u8>, String> {
    let before: P = serde_json::from_slice(before).map_err(|error| {
        format!("the parameters do not fit the type `{}`{}: {error}", P::NAME, at_field(before, &error))
    })?;
    let output = if output.is_empty() { b"null".as_slice() } else { output };
    let output: P::Output = serde_json::from_slice(output)
        .map_err(|error| format!("the output of `{}` does not decode{}: {error}", P::NAME, at_field(output, &error)))?;
    serde_json::to_vec(&F::follow(before, output))
        .map_err(|error| format!("a `{}` cannot be written as JSON: {error}", F::NAME))
}

/// One step before a chained one: what its jobs returned, and what makes a job of the next step of that.
#[derive(Debug)]
pub(crate) struct Stage {
    before: Link,
    follower: String,
    follow: Option<Follow>,
    /// By position in the chunk; nothing for a job that has not succeeded.
    outputs: Vec<Option<Vec<u8>>>,
}

impl Stage {
    /// The parameters of the next job at a position.
    pub fn next(&self, at: usize, before: &[u8]) -> Result<Vec<u8>, String> {
        let Link { step, job_type } = &self.before;
        let output = self.outputs.get(at).and_then(Option::as_deref);
        let output =
            output.ok_or_else(|| format!("its predecessor in step {step}, a `{job_type}`, has not succeeded"))?;
        let follow = self.follow.ok_or_else(|| lacks(&self.follower, job_type))?;
        follow(before, output)
    }
}

/// What a program lacks that does not know how one type follows another.
pub(crate) fn lacks(follower: &str, before: &str) -> String {
    format!(
        "how a `{follower}` follows a `{before}` is not registered, so no worker of this program could make one; \
         add .follows::<{follower}, {before}>() to the App"
    )
}

/// Where the parameters of a step's jobs come from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub store: Arc<dyn Store>,
    pub registry: Arc<Registry>,
    pub workflow: WorkflowId,
    pub job_type: String,
    /// The steps before it, if it is chained.
    pub chain: Vec<Link>,
}

impl Origin {
    /// That of the jobs of a step.
    pub async fn of(
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        workflow: WorkflowId,
        step: StepNumber,
    ) -> Result<Self> {
        let row = store.steps(workflow, step, 1).await?.into_iter().next();
        let spec = row.ok_or_else(|| Error::not_found(format!("workflow {workflow} has no step {step}")))?.spec;
        Ok(Self { store, registry, workflow, job_type: spec.job_type, chain: spec.chain })
    }

    /// The parameters of a chunk whose first job has that index.
    pub async fn load(&self, chunk: ChunkRef, first: u64) -> Result<ChunkParameters> {
        let own = async { ChunkParameters::unpack(&self.store.parameters(chunk).await?) };
        if self.chain.is_empty() {
            return own.await;
        }
        let followers = self.chain.iter().skip(1).map(|link| &link.job_type).chain([&self.job_type]);
        let stages = self.chain.iter().zip(followers).map(|(before, follower)| self.stage(before, follower, first));
        let (parameters, stages) = futures::future::try_join(own, futures::future::try_join_all(stages)).await?;
        Ok(parameters.followed_by(stages))
    }

    async fn stage(&self, before: &Link, follower: &str, first: u64) -> Result<Stage> {
        let follow = self.registry.follows.get(&(follower, before.job_type.as_str())).copied();
        let missing = || Error::corrupt(format!("step {} has no job {first}", before.step));
        let page = |after| self.store.outcomes_of_chunk(self.workflow, before.step, first, after);
        let mut chunk = page(0).await?.ok_or_else(missing)?;
        while let Some(after) = chunk.more_after {
            let more = page(after).await?;
            chunk.more_after = more.as_ref().and_then(|more| more.more_after);
            chunk.records.extend(more.map(|more| more.records).unwrap_or_default());
        }
        let outcomes = last_outcomes(&chunk)?.into_iter();
        let outputs =
            outcomes.map(|outcome| outcome.filter(|of| of.state == JobState::Succeeded)?.result.ok()).collect();
        Ok(Stage { before: before.clone(), follower: follower.to_owned(), follow, outputs })
    }
}

/// The parameters of one job: its own, or made of those before it.
pub(crate) fn made<'p>(own: &'p [u8], stages: &[Stage], at: usize) -> Result<Cow<'p, [u8]>, String> {
    stages.iter().try_fold(Cow::Borrowed(own), |before, stage| stage.next(at, &before).map(Cow::Owned))
}
