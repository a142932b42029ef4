//! Starting a workflow: what a start may be told besides the workflow itself.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::app::{arguments_of, plan_of};
use crate::client::{Client, Handle};
use crate::error::Result;
use crate::id::WorkflowId;
use crate::retention::{KeepFor, Retention};
use crate::store::{Key, Overlap};
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
