//! Conditions: jobs that say which of the steps behind them run.

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::{Context, Job, JobError, JobResult, Stored};
use crate::limit::Limit;
use crate::retry::Retry;
use crate::workflow::{Flow, Step};

/// A question that a worker answers once what it reads is there. Steps [`when`](Step::when) it holds run if it does, those [`unless`](Step::unless)
/// it holds run if it does not; the others are skipped.
///
/// ```
/// # use gusher::prelude::*;
/// # #[derive(Serialize, Deserialize)] struct ImportCsv; #[derive(Serialize, Deserialize)] struct Publish;
/// # #[derive(Serialize, Deserialize)] struct Alarm;
/// # macro_rules! job { ($($t:ident: $o:ty),*) => { $(impl Job for $t { const NAME: &str = stringify!($t); type Output = $o; type State = ();
/// #     async fn perform(self, _: &Context) -> JobResult<$o> { Ok(Default::default()) } })* } }
/// # job!(ImportCsv: u64, Publish: (), Alarm: ());
/// use gusher::Condition;
///
/// #[derive(Serialize, Deserialize)]
/// struct EnoughRows {
///     imported: Outputs<u64>,
///     least: u64,
/// }
///
/// impl Condition for EnoughRows {
///     const NAME: &str = "EnoughRows";
///     type State = ();
///     async fn holds(self, ctx: &Context) -> JobResult<bool> {
///         Ok(self.imported.one(ctx).await? >= self.least)
///     }
/// }
///
/// # #[derive(Serialize, Deserialize)] struct Nightly;
/// # impl Workflow for Nightly {
/// #     const NAME: &str = "Nightly";
/// fn configure(&self, flow: &Flow) -> gusher::Result<()> {
///     let rows = flow.run(ImportCsv);
///     let enough = flow.check(EnoughRows { imported: rows.outputs(), least: 1_000 });
///     flow.run(Publish).when(enough);
///     flow.run(Alarm).unless(enough);
///     Ok(())
/// }
/// # }
/// ```
///
/// It is registered by [`App::condition`](crate::App::condition). An error is retried like a job's; once it has failed for good, what asks for it
/// waits for its repair.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no condition",
    label = "`check` needs a `Condition`",
    note = "implement `gusher::Condition` with `async fn holds(self, ctx) -> JobResult<bool>`, or use `flow.run(..)` for a job"
)]
pub trait Condition: Stored {
    /// The name under which stores know it. Keep it when the type is renamed.
    const NAME: &'static str;
    /// The queue whose workers answer it, unless its step says otherwise.
    const QUEUE: &'static str = "default";
    /// How often it is tried, unless its step says otherwise.
    const RETRY: Retry = Retry::DEFAULT;
    /// How long one attempt may take, unless its step says otherwise.
    const TIMEOUT: Option<Duration> = None;
    /// Whether it computes or blocks for long: then it runs on a thread where that harms nobody.
    const BLOCKING: bool = false;
    /// How many of them run at once, and how many start in a time; see [`Job::LIMIT`].
    const LIMIT: Limit = Limit::NONE;
    /// What the application gives all of its jobs.
    type State: Send + Sync + 'static;

    /// The rule for what follows one error; see [`Job::retry_on`].
    fn retry_on(_error: &JobError) -> Option<Retry> {
        None
    }

    /// Answers. It may be asked more than once, as a job may run more than once; the answer that is reported first stays.
    fn holds(self, ctx: &Context<Self::State>) -> impl Future<Output = JobResult<bool>> + Send;
}

impl Flow {
    /// A condition, for steps that run [`when`](Step::when) it holds or [`unless`](Step::unless) it does.
    pub fn check<C: Condition>(&self, condition: C) -> Step<'_, C> {
        self.condition_step(C::NAME, C::QUEUE, &condition)
    }
}

/// A condition as workers run it: a job that has nothing to do if it does not hold.
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(crate) struct Asked<C: Condition>(C);

impl<C: Condition> Job for Asked<C> {
    const NAME: &'static str = C::NAME;
    const QUEUE: &'static str = C::QUEUE;
    const RETRY: Retry = C::RETRY;
    const TIMEOUT: Option<Duration> = C::TIMEOUT;
    const BLOCKING: bool = C::BLOCKING;
    const LIMIT: Limit = C::LIMIT;
    type Output = ();
    type State = C::State;

    fn retry_on(error: &JobError) -> Option<Retry> {
        C::retry_on(error)
    }

    async fn perform(self, ctx: &Context<C::State>) -> JobResult<()> {
        if self.0.holds(ctx).await? { Ok(()) } else { Err(JobError::discard("the condition does not hold")) }
    }
}
