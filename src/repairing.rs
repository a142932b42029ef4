//! Repairs of what has run: a step that runs again, perhaps with all that comes after it, and what a repair would do.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, IntoFuture};

use futures::future::BoxFuture;
use serde::Serialize;

use crate::error::Result;
use crate::graph::{MAX_EDGES, StepNumber};
use crate::handle::Handle;
use crate::state::{EdgeKind, FailurePolicy, StepState};
use crate::store::{RunAgain, StepRow};

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

    fn of<'r>(steps: impl Iterator<Item = (&'r StepRow, u64)>) -> Self {
        let steps = steps.filter(|(_, jobs)| *jobs > 0);
        let told = |(row, jobs): (&StepRow, u64)| StepWouldRun { number: row.number, name: row.spec.name.clone(), jobs };
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

    /// What [`retry_failed`](Self::retry_failed) would run.
    pub async fn retry_preview(&self, step: Option<&str>) -> Result<WouldRun> {
        let only = match step {
            Some(name) => Some(self.step(name).await?.number),
            None => None,
        };
        let steps = self.all_steps().await?;
        // Of a step that failed fast the rest comes back, too.
        let back = |row: &StepRow| match row.spec.policy {
            FailurePolicy::FailFast if row.jobs.failed > 0 => row.jobs.failed + row.jobs.cancelled,
            _ => row.jobs.failed,
        };
        let named = steps.values().filter(|row| only.is_none_or(|only| only == row.number));
        Ok(WouldRun::of(named.map(|row| (row, back(row)))))
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

    /// What would run again, as things stand now. What has not run yet, and waits, is not counted. Changes nothing.
    pub async fn preview(&self) -> Result<WouldRun> {
        let root = self.handle.step(&self.step).await?.number;
        let steps = self.handle.all_steps().await?;
        let has_begun = |row: &StepRow| row.state != StepState::Waiting || row.released_at.is_some();
        let has_run = |row: &StepRow| row.released_at.is_some() && row.state.is_settled();
        let mut found = BTreeSet::new();
        let mut open: Vec<StepNumber> = steps.get(&root).filter(|row| has_begun(row)).map(|row| row.number).into_iter().collect();
        while let Some(number) = open.pop() {
            if !found.insert(number) {
                continue;
            }
            for edge in self.handle.store().edges(self.handle.id(), number, false, MAX_EDGES as u32).await? {
                let goes_too = |row: &&StepRow| {
                    self.all_after || edge.kind == EdgeKind::Feeds || has_begun(row) && !has_run(row)
                };
                open.extend(steps.get(&edge.number).filter(goes_too).map(|row| row.number));
            }
        }
        let rows = found.iter().filter_map(|number| steps.get(number)).filter(|row| has_begun(row));
        Ok(WouldRun::of(rows.map(|row| (row, row.jobs.total))))
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
            let row = self.handle.store().workflow(workflow).await?;
            client.take_way(workflow, row.key.as_ref(), holder).await?;
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
