//! Schedules in a store: looked at, changed, and what they have come to.

use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use super::declare::{NewSchedule, Unruled};
use super::definition::{Definition, What};
use crate::client::Client;
use crate::clock::Millis;
use crate::creation::answered;
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::id::WorkflowId;
use crate::lone::JobId;
use crate::state::{JobState, WorkflowState};
use crate::store::{
    ChangeSchedule, Fire, OccurrenceRow, OccurrenceState, Overlap, PutSchedule, ScheduleRow, WorkflowRow,
};
use crate::wake::wake;

/// How many schedules, or occurrences, one look at a store brings.
const PAGE: u32 = 200;
/// How many of the occurrences of a page are looked at together.
const LOOKS_AT_ONCE: usize = 16;

/// A schedule by its name, which need not be there.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub(super) client: Client,
    name: String,
}

impl Client {
    /// The schedule of that name: `client.schedule("nightly").pause().await?`, or, to keep one,
    /// `client.schedule("nightly").cron("0 2 * * *").start(Import { .. }).await?`.
    pub fn schedule(&self, name: impl Into<String>) -> Schedule {
        Schedule { client: self.clone(), name: name.into() }
    }

    /// All schedules, by name.
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>> {
        Ok(self.schedule_rows().await?.iter().map(ScheduleView::new).collect())
    }

    async fn schedule_rows(&self) -> Result<Vec<ScheduleRow>> {
        let mut rows: Vec<ScheduleRow> = Vec::new();
        loop {
            let after = rows.last().map(|row| row.name.clone()).unwrap_or_default();
            let page = self.store().schedules(after, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            rows.extend(page);
            if is_last {
                return Ok(rows);
            }
        }
    }

    /// Keeps what the program declares.
    pub(crate) async fn keep_declared(&self) -> Result<()> {
        for (name, definition) in &self.registry().schedules {
            self.schedule(name.clone()).put(definition).await?;
        }
        Ok(())
    }
}

impl Schedule {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keeps it with a cron rule; see [`Unruled::cron`].
    pub fn cron(self, rule: impl Into<String>) -> NewSchedule<Self> {
        let name = self.name.clone();
        Unruled::new(self, name).cron(rule)
    }

    /// Keeps it with an interval; see [`Unruled::every`].
    pub fn every(self, interval: Duration) -> NewSchedule<Self> {
        let name = self.name.clone();
        Unruled::new(self, name).every(interval)
    }

    /// Fires no more until [`resume`](Self::resume). Starts that wait for their turn go on waiting.
    pub async fn pause(&self) -> Result<()> {
        self.change(ChangeSchedule::Pause).await
    }

    /// Fires again. What it left out while it was paused is not made up for.
    pub async fn resume(&self) -> Result<()> {
        let definition = Definition::decode(&self.name, &self.row().await?.definition)?;
        self.change(ChangeSchedule::Resume(definition.rule.next_after(self.client.store().now()))).await
    }

    /// Forgets it, with its history. Starts of it that have not begun come to nothing. What a program declares comes back when a worker of
    /// it starts.
    pub async fn remove(&self) -> Result<()> {
        self.change(ChangeSchedule::Remove).await
    }

    async fn change(&self, change: ChangeSchedule) -> Result<()> {
        let shard = self.row().await?.shard;
        loop {
            let call = || self.client.store().change_schedule(shard, self.name.clone(), change);
            let changed = answered(call).await?;
            // A removal that is sent again finds nothing any more.
            if changed.before.is_none() && change != ChangeSchedule::Remove {
                return Err(Error::not_found(format!("schedule `{}` has been removed or moved meanwhile", self.name)));
            }
            if !changed.more {
                return Ok(());
            }
        }
    }

    /// Fires it now, also while it is paused; its next instant stays. Its rule for overlaps holds. Tells the instant.
    pub async fn run(&self) -> Result<Millis> {
        let row = self.row().await?;
        let definition = Definition::decode(&self.name, &row.definition)?;
        let at = self.client.store().now();
        let fire = Fire {
            shard: row.shard,
            schedule: self.name.clone(),
            moves: None,
            passed_over: None,
            instants: vec![at],
            jobs: definition.jobs(&self.name, row.shard, &[at])?,
            starts: definition.starts(),
        };
        let fired = answered(|| self.client.store().fire(fire.clone())).await?;
        wake(&fired.woken);
        if fired.fired { Ok(at) } else { Err(Error::not_found(format!("schedule `{}` has been removed", self.name))) }
    }

    /// How it stands.
    pub async fn status(&self) -> Result<ScheduleView> {
        Ok(ScheduleView::new(&self.row().await?))
    }

    /// What has become of its instants before one, the last first, at most so many.
    pub async fn history(&self, before: Option<Millis>, limit: u32) -> Result<Vec<OccurrenceView>> {
        let row = self.row().await?;
        let (store, mut views) = (self.client.store(), Vec::new());
        let mut before = before.unwrap_or(Millis::MAX);
        while views.len() < limit as usize {
            let wanted = (limit - views.len() as u32).min(PAGE);
            let page = store.occurrences(row.shard, self.name.clone(), before, wanted).await?;
            let Some(last) = page.last() else { break };
            before = last.at;
            // Each asks the store once or twice; the answers come in order.
            let looks = page.into_iter().map(|occurrence| self.view(occurrence));
            views.extend(stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect::<Vec<_>>().await?);
        }
        Ok(views)
    }

    async fn view(&self, row: OccurrenceRow) -> Result<OccurrenceView> {
        let workflow = match row.workflow {
            None => None,
            Some(id) => match self.client.row(id).await {
                Ok(workflow) => Some(workflow),
                // It has been deleted since.
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
        };
        let mut view = OccurrenceView::new(&row, workflow.as_ref());
        if let (OccurrenceState::Due | OccurrenceState::Failed | OccurrenceState::Enqueued, Some((lane, index))) =
            (row.state, row.job)
        {
            self.add_job(&mut view, lane, index).await?;
        }
        Ok(view)
    }

    /// What the job of an occurrence tells of it.
    async fn add_job(&self, view: &mut OccurrenceView, lane: WorkflowId, index: u64) -> Result<()> {
        let steps = self.client.store().steps(lane, 0, 1).await?;
        let Some(step) = steps.first() else { return Ok(()) };
        let job = match self.client.handle(lane).job(&step.spec.name, index).await {
            Ok(job) => job,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        view.job_state = Some(job.state);
        if view.state == OccurrenceState::Due && job.state == JobState::Failed {
            view.state = OccurrenceState::Failed;
        }
        view.error = job.errors.last().map(|attempt| attempt.error.clone());
        Ok(())
    }

    pub(crate) async fn row(&self) -> Result<ScheduleRow> {
        let rows = self.client.schedule_rows().await?;
        let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
        rows.into_iter().find(|row| row.name == self.name).ok_or_else(|| {
            if self.client.registry().schedules.contains_key(&self.name) {
                return Error::not_found(format!(
                    "schedule `{}` is declared by this program, but not kept in this store yet: a worker does that when it starts",
                    self.name
                ));
            }
            let near = did_you_mean(&self.name, names.iter().map(String::as_str));
            Error::not_found(format!("there is no schedule `{}`{near}", self.name))
        })
    }

    /// Keeps it as it is defined. It lives where the key is that its workflows hold, so with another key it may move to another shard: it is
    /// made there without a next instant, taken away here, and goes on there where it was. If this process dies in between, whoever keeps it
    /// next gives it the next instant from then on.
    pub(super) async fn put(&self, definition: &Definition) -> Result<()> {
        self.client.registry().check_schedule(definition)?;
        let store = self.client.store();
        let shard = definition.shard(&self.name, store.shards());
        let (rule, json) = definition.encode()?;
        let put = async |next| {
            let (name, rule, definition) = (self.name.clone(), rule.clone(), json.clone());
            let put = PutSchedule { shard, name, rule, definition, next };
            answered(|| store.put_schedule(put.clone())).await
        };
        let mut next = definition.rule.next_after(store.now());
        let rows = self.client.schedule_rows().await?;
        for row in rows.iter().filter(|row| row.name == self.name && row.shard != shard) {
            put(None).await?;
            let moved = answered(|| store.change_schedule(row.shard, self.name.clone(), ChangeSchedule::Move)).await?;
            let Some(before) = moved.before else { continue };
            let rule = Definition::decode(&self.name, &before.definition).map(|before| before.rule);
            if rule.is_ok_and(|rule| rule == definition.rule) {
                next = before.next;
            }
            if before.paused {
                answered(|| store.change_schedule(shard, self.name.clone(), ChangeSchedule::Pause)).await?;
            }
        }
        put(next).await.map(|_| ())
    }
}

/// A schedule, as people and programs are shown it. Times in milliseconds since the epoch.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// Its rule, with the zone.
    pub rule: String,
    /// What it does at each instant: `start Import`, `enqueue Mail`.
    pub action: String,
    /// The arguments or parameters of that, as JSON text with `{at}` for the instant.
    pub arguments: String,
    /// What becomes of a start while another one has not finished; workflows overlap if nothing is said.
    pub overlap: Option<Overlap>,
    /// The key that its workflows hold.
    pub key: Option<String>,
    /// When it fires next.
    pub next: Option<Millis>,
    /// The same as its zone shows it.
    pub next_shown: Option<String>,
    /// Whether it is paused.
    pub paused: bool,
    /// Why nothing else is known of it, if it cannot be read.
    pub error: Option<String>,
}

impl ScheduleView {
    fn new(row: &ScheduleRow) -> Self {
        let mut view = Self {
            name: row.name.clone(),
            rule: String::new(),
            action: String::new(),
            arguments: String::new(),
            overlap: None,
            key: None,
            next: row.next,
            next_shown: None,
            paused: row.paused,
            error: None,
        };
        match Definition::decode(&row.name, &row.definition) {
            Err(error) => view.error = Some(error.to_string()),
            Ok(definition) => {
                view.rule = definition.rule.to_string();
                view.action = definition.what_it_does();
                view.next_shown = row.next.map(|next| definition.rule.show(next));
                match definition.what {
                    What::Start { arguments, key, .. } => {
                        view.arguments = arguments;
                        (view.key, view.overlap) = key.map(|key| (key.key, key.overlap)).unzip();
                    }
                    What::Enqueue { parameters, .. } => view.arguments = parameters,
                }
            }
        }
        view
    }
}

/// What has become of an instant of a schedule. Times in milliseconds since the epoch.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OccurrenceView {
    /// The instant; of those that were missed together, the first.
    pub at: Millis,
    /// Of those that were missed together, the last.
    pub to: Millis,
    /// How many instants it stands for.
    pub count: u64,
    /// What has become of it.
    pub state: OccurrenceState,
    /// When it was fired or passed over.
    pub fired_at: Millis,
    /// The workflow that it started, or that was in its way.
    pub workflow: Option<WorkflowId>,
    /// Where that workflow stands, if it has not been deleted since.
    pub workflow_state: Option<WorkflowState>,
    /// When that was created.
    pub started_at: Option<Millis>,
    /// When that came to its end.
    pub finished_at: Option<Millis>,
    /// The job that starts it, or that was enqueued.
    pub job: Option<JobId>,
    /// Where that job stands, as long as it is kept.
    pub job_state: Option<JobState>,
    /// The last error of that job.
    pub error: Option<String>,
}

impl OccurrenceView {
    fn new(row: &OccurrenceRow, workflow: Option<&WorkflowRow>) -> Self {
        Self {
            at: row.at,
            to: row.to,
            count: row.count,
            state: row.state,
            fired_at: row.fired_at,
            workflow: row.workflow,
            workflow_state: workflow.map(|workflow| workflow.state),
            started_at: workflow.map(|workflow| workflow.created_at),
            finished_at: workflow.and_then(|workflow| workflow.finished_at),
            job: row.job.map(|(lane, index)| JobId { lane, index }),
            job_state: None,
            error: None,
        }
    }
}
