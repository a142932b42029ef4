//! Starting a workflow: what a start may be told besides the workflow itself, and how one comes into the store.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::app::{arguments_of, plan_of};
use crate::client::Client;
use crate::clock::Millis;
use crate::creation::{self, Draft};
use crate::error::{Error, Result};
use crate::handle::{Handle, LOOK};
use crate::id::WorkflowId;
use crate::retention::{KeepFor, Retention};
use crate::start_behind::StartingBehind;
use crate::start_job::{START_QUEUE, StartJob, start_type};
use crate::store::{Begin, Begun, DraftKey, Key, Lane, LoneJobs, NewWorkflow, Occurrence, Overlap, WorkflowRow};
use crate::wake::wake;
use crate::workflow::{Plan, Workflow};

/// A workflow that is about to be started: `.await` starts it.
#[must_use = "nothing is started before this is awaited"]
#[derive(Debug)]
pub struct Starting<W> {
    client: Client,
    workflow: W,
    retention: Option<Retention>,
    created: Arc<AtomicU64>,
}

impl<W: Workflow> Starting<W> {
    pub(crate) fn new(client: Client, workflow: W) -> Self {
        Self { client, workflow, retention: None, created: Arc::default() }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The lone job that starts it on a shard, and the id that it will have.
    pub(crate) fn into_job(self, shard: u16, key: Option<Key>) -> Result<(WorkflowId, LoneJobs)> {
        let (arguments, _) = self.client.registry().parse(W::NAME, &arguments_of(&self.workflow)?)?;
        let id = WorkflowId::new(self.client.store().now(), shard);
        let (workflow, retention) = (W::NAME.to_owned(), self.retention);
        let start = StartJob { workflow, arguments, id, key, occurrence: None, retention };
        Ok((id, LoneJobs::one(Lane::new(shard, START_QUEUE, 0, &start_type(W::NAME)), &start.to_json()?, None)?))
    }

    /// Counts the jobs that have been created so far, for who watches.
    pub fn counted(self, created: Arc<AtomicU64>) -> Self {
        Self { created, ..self }
    }

    /// It may be deleted so long after its end, whatever holds for others of its type.
    pub fn expire_in(self, time: Duration) -> Self {
        Self { retention: Some(Retention::all(KeepFor::time(time))), ..self }
    }

    /// Starts it unless another one of its type, started so, is being built, pending, running, paused or cancelling.
    pub fn unless_running(self) -> StartingAlone<W> {
        self.alone(Overlap::Skip)
    }

    /// Cancels the one of its type that was started so and has not finished, waits for its end, and takes its place.
    pub fn instead_of_running(self) -> StartingAlone<W> {
        self.alone(Overlap::Cancel)
    }

    /// Waits while another one of its type that was started so has not finished; all that wait start one after the other, in the order in
    /// which they came. It waits in the store: a worker starts it, whatever becomes of this program.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Import { customer: u32 }
    /// # impl Workflow for Import {
    /// #     const NAME: &str = "Import";
    /// #     fn configure(&self, _: &Flow) -> gusher::Result<()> { Ok(()) }
    /// # }
    /// # async fn example(client: gusher::Client) -> gusher::Result<()> {
    /// let waiting = client.start(Import { customer: 7 }).after_running().key("customer 7").await?;
    /// let import = waiting.started().await?;
    /// # Ok(()) }
    /// ```
    pub fn after_running(self) -> StartingBehind<W> {
        StartingBehind::new(self, Overlap::Wait)
    }

    /// The same, but it is left out if one waits already.
    pub fn once_after_running(self) -> StartingBehind<W> {
        StartingBehind::new(self, Overlap::WaitOne)
    }

    fn alone(self, overlap: Overlap) -> StartingAlone<W> {
        StartingAlone { start: self, key: Key { key: String::new(), overlap } }
    }
}

impl<W: Workflow> IntoFuture for Starting<W> {
    type Output = Result<Handle>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { client, workflow, retention, created } = self;
            let new = New { name: W::NAME, arguments: arguments_of(&workflow)?, retention };
            client.create(new, plan_of(&workflow)?, created).await
        })
    }
}

/// A workflow that is about to be started, if no other one has its key: `.await` starts it, or finds who has.
#[must_use = "nothing is started before this is awaited"]
#[derive(Debug)]
pub struct StartingAlone<W> {
    start: Starting<W>,
    key: Key,
}

impl<W: Workflow> StartingAlone<W> {
    /// Only workflows of its type that were started with the same key are in each other's way; without, all that were started so.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key.key = key.into();
        self
    }
}

impl<W: Workflow> IntoFuture for StartingAlone<W> {
    type Output = Result<Started>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Starting { client, workflow, retention, created } = self.start;
            let new = New { name: W::NAME, arguments: arguments_of(&workflow)?, retention };
            client.create_alone(new, self.key, move || plan_of(&workflow), created).await
        })
    }
}

/// What became of a start that gives way to others.
#[derive(Clone, Debug)]
pub enum Started {
    /// It has been started.
    New(Handle),
    /// Nothing has been started or built: this one, of the same type and key, has not finished. It may be being built, and then cannot
    /// be found yet.
    Running(Handle),
}

impl Started {
    /// The workflow that was started, or the one that was in its way.
    pub fn handle(&self) -> &Handle {
        match self {
            Started::New(handle) | Started::Running(handle) => handle,
        }
    }

    /// Its id.
    pub fn id(&self) -> WorkflowId {
        self.handle().id()
    }

    /// Whether it has been started by this call.
    pub fn is_new(&self) -> bool {
        matches!(self, Started::New(_))
    }
}

/// What is to be started, apart from its plan.
pub(crate) struct New<'n> {
    pub name: &'n str,
    pub arguments: String,
    /// Set for this one alone.
    pub retention: Option<Retention>,
}

/// Makes the plan of a workflow, once it is known that it may start.
pub(crate) trait Planned: FnOnce() -> Result<Plan> + Send {}
impl<F: FnOnce() -> Result<Plan> + Send> Planned for F {}

impl Client {
    /// Creates a workflow, once it is awaited; it runs from then on. Nothing is left of one whose creation fails.
    ///
    /// `client.start(nightly).unless_running().await?` starts none beside another one.
    pub fn start<W: Workflow>(&self, workflow: W) -> Starting<W> {
        Starting::new(self.clone(), workflow)
    }

    /// Creates a workflow under the id that a key gives it, made at `since`; finds the one that is there already.
    pub(crate) async fn start_by_key<W: Workflow>(&self, workflow: W, since: Millis, key: &str) -> Result<Handle> {
        let id = WorkflowId::derived(since, self.store().shards(), key);
        let new = New { name: W::NAME, arguments: arguments_of(&workflow)?, retention: None };
        self.create_as(self.new_workflow(id, new, None, None)?, plan_of(&workflow)?, Arc::default()).await
    }

    /// Creates a workflow by its registered name, with its arguments as JSON.
    pub async fn start_named(&self, name: &str, arguments: &RawValue, created: Arc<AtomicU64>) -> Result<Handle> {
        let (arguments, plan) = self.registry().plan(name, arguments)?;
        self.create(New { name, arguments, retention: None }, plan, created).await
    }

    /// Like [`start_named`](Self::start_named), unless another one of that type and key has not finished: then that one is told.
    pub async fn start_named_unless_running(
        &self,
        name: &str,
        key: &str,
        arguments: &RawValue,
        created: Arc<AtomicU64>,
    ) -> Result<Started> {
        let (arguments, plan) = self.registry().plan(name, arguments)?;
        let key = Key { key: key.to_owned(), overlap: Overlap::Skip };
        self.create_alone(New { name, arguments, retention: None }, key, move || Ok(plan), created).await
    }

    pub(crate) async fn create(&self, new: New<'_>, plan: Plan, created: Arc<AtomicU64>) -> Result<Handle> {
        let id = WorkflowId::new(self.store().now(), self.store().next_shard());
        self.create_as(self.new_workflow(id, new, None, None)?, plan, created).await
    }

    /// Starts a workflow that holds a key, on the key's shard. The key is taken before anything is built.
    pub(crate) async fn create_alone(
        &self,
        new: New<'_>,
        key: Key,
        plan: impl Planned,
        created: Arc<AtomicU64>,
    ) -> Result<Started> {
        crate::graph::check_key(&key.key)?;
        let shard = crate::id::shard_of(&format!("{}/{}", new.name, key.key), self.store().shards());
        let overlap = key.overlap;
        let new = self.new_workflow(WorkflowId::new(self.store().now(), shard), new, Some(key), None)?;
        let draft = self.new_draft();
        while let Some(holder) = self.begin(&new, draft).await?.held_by {
            let holder = self.handle(holder);
            match overlap {
                Overlap::Cancel => holder.make_way().await?,
                _ => return Ok(Started::Running(holder)),
            }
        }
        self.build_begun(new, plan, draft, false, created).await.map(Started::New)
    }

    /// Takes the key of a workflow to be, or tells what is in its way.
    pub(crate) async fn begin(&self, new: &NewWorkflow, draft: DraftKey) -> Result<Begun> {
        let begin = Begin { draft, workflow: new.clone(), lease: self.store().lease() };
        let begun = creation::answered(|| self.store().begin(begin.clone())).await;
        begun.map_err(|error| error.during(format_args!("starting {}", new.name)))
    }

    pub(crate) fn new_workflow(
        &self,
        id: WorkflowId,
        new: New<'_>,
        key: Option<Key>,
        occurrence: Option<Occurrence>,
    ) -> Result<NewWorkflow> {
        crate::graph::check_name("workflow", new.name)?;
        crate::payload::check_size("arguments", new.arguments.len())?;
        let retention = new.retention.unwrap_or_else(|| self.registry().retention(new.name));
        let (name, arguments) = (new.name.to_owned(), new.arguments);
        Ok(NewWorkflow { id, name, arguments, generation: 0, retention, key, occurrence, parent: None })
    }

    async fn create_as(&self, workflow: NewWorkflow, plan: Plan, created: Arc<AtomicU64>) -> Result<Handle> {
        self.build(workflow, plan, None, false, created).await
    }

    /// Writes a workflow. `begun` is the draft that holds its key.
    pub(crate) async fn build(
        &self,
        workflow: NewWorkflow,
        plan: Plan,
        begun: Option<DraftKey>,
        again: bool,
        jobs: Arc<AtomicU64>,
    ) -> Result<Handle> {
        self.registry().check(&workflow.name, &plan)?;
        let (id, name) = (workflow.id, workflow.name.clone());
        let draft = Draft { key: begun.unwrap_or_else(|| self.new_draft()), begun: begun.is_some() };
        let created = creation::create(self.store(), workflow, plan, draft, again, jobs).await;
        let created = created.map_err(|error| error.during(format_args!("creating {name}")))?;
        wake(&created.woken);
        if created.more {
            self.lend_a_hand().await;
        }
        Ok(self.handle(id))
    }

    /// Writes a workflow whose key has been taken. If that fails, the key is free again.
    pub(crate) async fn build_begun(
        &self,
        workflow: NewWorkflow,
        plan: impl Planned,
        begun: DraftKey,
        again: bool,
        jobs: Arc<AtomicU64>,
    ) -> Result<Handle> {
        let id = workflow.id;
        let built = async { self.build(workflow, plan()?, Some(begun), again, jobs).await }.await;
        if built.is_err() {
            // Should this fail too, the key is free once the draft has died.
            if let Err(error) = self.store().abandon(id, begun).await {
                tracing::warn!(%error, "a draft is left to die by itself, and holds its key until then");
            }
        }
        built
    }

    /// Runs a finished workflow anew under the same id: its steps are configured from its arguments again, its sources expand
    /// anew, and its generation goes up by one. What it had is deleted.
    pub async fn start_again(&self, id: WorkflowId, created: Arc<AtomicU64>) -> Result<Handle> {
        let row = self.row(id).await?;
        if !row.state.is_finished() {
            return Err(Error::refused(format!(
                "workflow {id} is {}; only a finished one can be started again (cancel it first)",
                row.state
            )));
        }
        if let Some(parent) = row.parent {
            return Err(Error::refused(format!(
                "workflow {id} stands for a job of workflow {}; it is started again with that one, or by a retry of what failed there",
                parent.workflow
            )));
        }
        if row.batch.is_some() {
            return Err(Error::refused(format!(
                "batch {id} ({}) cannot be started again: its jobs came from a program, which adds them to a new one; `retry` runs what failed again",
                row.name
            )));
        }
        let (arguments, plan) = self.registry().plan(&row.name, &crate::view::raw(row.arguments))?;
        // Each step of it may have run again: no job of the new one has a key that one has had before.
        let newest = self.handle(id).all_steps().await?.values().map(|step| step.generation).max();
        let generation = row.generation.max(newest.unwrap_or_default());
        let WorkflowRow { name, retention, key, .. } = row;
        let has_key = key.is_some();
        let workflow = NewWorkflow {
            id,
            name,
            arguments,
            generation: generation + 1,
            retention,
            key,
            occurrence: None,
            parent: None,
        };
        if !has_key {
            return self.build(workflow, plan, None, true, created).await;
        }
        let draft = self.new_draft();
        while let Some(holder) = self.begin(&workflow, draft).await?.held_by {
            self.take_way(id, workflow.key.as_ref(), holder).await?;
        }
        self.build_begun(workflow, move || Ok(plan), draft, true, created).await
    }

    /// Another workflow has the key of one that is to run again: by the rule that this one was started with, that one is left alone or
    /// cancelled.
    pub(crate) async fn take_way(&self, id: WorkflowId, key: Option<&Key>, holder: WorkflowId) -> Result<()> {
        match key.map(|key| key.overlap) {
            Some(Overlap::Cancel) => self.handle(holder).make_way().await,
            Some(Overlap::Wait | Overlap::WaitOne) => {
                tokio::time::sleep(LOOK).await;
                Ok(())
            }
            _ => Err(Error::refused(format!(
                "workflow {id} gives way to {holder}, which has its key and has not finished; wait for that one, or cancel it"
            ))),
        }
    }
}
