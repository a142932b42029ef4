//! Repairs of what has run: a step that runs again, perhaps with all that comes after it, what a repair would do, and what people decide in
//! place of running jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, IntoFuture};

use futures::future::BoxFuture;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::graph::{MAX_EDGES, StepNumber};
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::payload::MAX_JOB_BYTES;
use crate::state::{EdgeKind, StepState};
use crate::store::{BATCH_STEP, ByHand, DecideByHand, RunAgain, StepRow, refuse_batch, refuse_repair};

/// How many steps are read at once.
const PAGE: u32 = 1_000;

/// A step that is to run again: await it, or ask what [would run](Self::preview).
#[derive(Clone, Debug)]
#[must_use = "nothing runs again until it is awaited"]
pub struct RunningAgain {
    handle: Handle,
    step: String,
    all_after: bool,
}

/// What a repair would run, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WouldRun {
    /// Steps of which jobs would run, in the order of their numbers.
    pub steps: Vec<StepWouldRun>,
}

/// What of one step would run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StepWouldRun {
    /// The number of the step.
    pub number: StepNumber,
    /// Its name.
    pub name: String,
    /// How many of its jobs; of a step whose source runs again, too, how many there are now: the source emits them anew.
    pub jobs: u64,
}

impl WouldRun {
    /// How many jobs of all steps together.
    pub fn jobs(&self) -> u64 {
        self.steps.iter().map(|step| step.jobs).sum()
    }

    pub(crate) fn of<'r>(steps: impl Iterator<Item = (&'r StepRow, u64)>) -> Self {
        let steps = steps.filter(|(_, jobs)| *jobs > 0);
        let told =
            |(row, jobs): (&StepRow, u64)| StepWouldRun { number: row.number, name: row.spec.name.clone(), jobs };
        Self { steps: steps.map(told).collect() }
    }
}

impl Handle {
    /// Runs all jobs of the step of that name again, also those that have succeeded, in a workflow that is at work or has finished. Awaited, it
    /// returns how many; none, if nothing of the step has run so far.
    ///
    /// What comes after the step and has not settled, or was skipped, waits for it anew. What has run stays as it is, and says that it is older
    /// than its input, unless it is to run again, too: [`with_all_after`](RunningAgain::with_all_after). The jobs that a source has emitted
    /// always go with it: it emits them anew.
    ///
    /// ```
    /// # async fn example(handle: gusher::Handle) -> gusher::Result<()> {
    /// let again = handle.run_again("ReadFile").with_all_after();
    /// println!("{} jobs will run", again.preview().await?.jobs());
    /// again.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_again(&self, step: &str) -> RunningAgain {
        RunningAgain { handle: self.clone(), step: step.to_owned(), all_after: false }
    }

    /// Ends jobs of the step of that name as skipped, the one of that index or all that have not succeeded: what waits behind the step goes on as
    /// if there had been nothing to be done. A job that runs has lost its lease: what it reports does not count, and whatever else was in its
    /// slice runs again. Returns how many; none, if there is nothing left to skip.
    pub async fn skip(&self, step: &str, index: Option<u64>) -> Result<u64> {
        let what = index.map_or(ByHand::SkipAll, |index| ByHand::Skip { index });
        self.decide_by_hand(self.step(step).await?.number, what).await
    }

    /// Gives a job of the step of that name, which has failed or succeeded, this output: it has succeeded with that. What comes after the step and
    /// has not run gets to see it; what has run stays as it is, and says that it is older than its input.
    pub async fn replace_output<T: Serialize + ?Sized>(&self, step: &str, index: u64, output: &T) -> Result<()> {
        let row = self.step(step).await?;
        let unfit = |error| {
            Error::usage(format!("an output for job #{index} of `{step}` cannot be written as JSON")).because(error)
        };
        let json = serde_json::to_vec(output).map_err(unfit)?;
        if json.len() > MAX_JOB_BYTES {
            return Err(Error::usage(format!(
                "an output for job #{index} of `{step}` has {} bytes as JSON; at most {MAX_JOB_BYTES} are allowed. Put large data into a shared location and output where it is",
                json.len()
            )));
        }
        let page = self.store().outcomes(self.id(), row.number, index, 0).await?;
        let chunk = page.iter().find(|chunk| (chunk.first..chunk.first + chunk.bytes.len() as u64).contains(&index));
        let missing = || Error::not_found(format!("step `{step}` has no job #{index}"));
        let at = (index - chunk.ok_or_else(missing)?.first) as u16;
        let who = format!("an output given by {}:{}", crate::store::hostname(), std::process::id());
        let record = crate::waiting::given_record(&who, at, self.store().now(), json);
        self.decide_by_hand(row.number, ByHand::Replace { index, record }).await.map(drop)
    }

    async fn decide_by_hand(&self, step: StepNumber, what: ByHand) -> Result<u64> {
        let (client, workflow) = (self.client(), self.id());
        let session = client.session();
        loop {
            let send = |command| {
                self.store().decide_by_hand(DecideByHand { session, command, workflow, step, what: what.clone() })
            };
            let told = client.command(workflow.shard(), send).await?;
            if told.more {
                client.lend_a_hand().await;
            }
            let Some(holder) = told.held_by else { return Ok(told.jobs) };
            self.give_way(holder).await?;
        }
    }

    /// Another workflow has the key of this one, which is to be at work again: by its own rule that is left alone or cancelled.
    async fn give_way(&self, holder: WorkflowId) -> Result<()> {
        let row = self.store().workflow(self.id()).await?;
        self.client().take_way(self.id(), row.key.as_ref(), holder).await
    }

    pub(crate) async fn all_steps(&self) -> Result<BTreeMap<StepNumber, StepRow>> {
        let mut steps = BTreeMap::new();
        loop {
            let page = self.store().steps(self.id(), steps.len() as StepNumber, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            steps.extend(page.into_iter().map(|row| (row.number, row)));
            if is_last {
                return Ok(steps);
            }
        }
    }
}

impl RunningAgain {
    /// Whatever comes after the step runs again, too, also what has run: in the order of the graph, each step once those before it have settled
    /// as it asks.
    pub fn with_all_after(self) -> Self {
        Self { all_after: true, ..self }
    }

    /// What would run again, as things stand now. What has not run so far is not counted, whether it waits or was skipped. Changes nothing.
    pub async fn preview(&self) -> Result<WouldRun> {
        let workflow = self.handle.store().workflow(self.handle.id()).await?;
        refuse_repair(workflow.id, workflow.state)?;
        let row = self.handle.step(&self.step).await?;
        let root = row.number;
        refuse_batch(workflow.id, workflow.batch.is_some() && !self.runs_at_the_end(&row).await?)?;
        let steps = self.handle.all_steps().await?;
        let has_begun = |row: &StepRow| row.state != StepState::Waiting || row.released_at.is_some();
        let has_run = |row: &StepRow| row.released_at.is_some() && row.state.is_settled();
        let mut found = BTreeSet::new();
        let mut open: Vec<StepNumber> =
            steps.get(&root).filter(|row| has_begun(row)).map(|row| row.number).into_iter().collect();
        while let Some(number) = open.pop() {
            if !found.insert(number) {
                continue;
            }
            for edge in self.handle.store().edges(self.handle.id(), number, false, MAX_EDGES as u32).await? {
                let goes_too = |row: &&StepRow| {
                    let goes_along = matches!(edge.kind, EdgeKind::Feeds | EdgeKind::Chains);
                    self.all_after || goes_along || has_begun(row) && !has_run(row)
                };
                open.extend(steps.get(&edge.number).filter(goes_too).map(|row| row.number));
            }
        }
        let rows = found.iter().filter_map(|number| steps.get(number)).filter(|row| row.released_at.is_some());
        Ok(WouldRun::of(rows.map(|row| (row, row.jobs.total))))
    }

    /// Whether a step of a batch is what runs on its success or completion.
    async fn runs_at_the_end(&self, row: &StepRow) -> Result<bool> {
        let edges = self.handle.store().edges(self.handle.id(), row.number, true, 1).await?;
        let is_told_of_a_death = edges.iter().any(|edge| edge.kind == EdgeKind::OnDeath);
        Ok(row.number != BATCH_STEP && !row.spec.grows && !is_told_of_a_death)
    }

    async fn go(self) -> Result<u64> {
        let (client, workflow) = (self.handle.client(), self.handle.id());
        let (session, step, again) = (client.session(), self.handle.step(&self.step).await?.number, self.all_after);
        loop {
            let send = |command| self.handle.store().run_again(RunAgain { session, command, workflow, step, again });
            let told = client.command(workflow.shard(), send).await?;
            if told.more {
                client.lend_a_hand().await;
            }
            let Some(holder) = told.held_by else { return Ok(told.jobs) };
            self.handle.give_way(holder).await?;
        }
    }
}

impl IntoFuture for RunningAgain {
    type Output = Result<u64>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let going: std::pin::Pin<Box<dyn Future<Output = Self::Output> + Send>> = Box::pin(self.go());
        going
    }
}
