//! What a program does with workflows from outside: find and list them. How they start: `starting.rs`; one of them: `handle.rs`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::value::RawValue;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use crate::app::Registry;
use crate::clock::Millis;
use crate::creation::REPEATED;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::id::{SessionId, WorkflowId};
use crate::lone::Gathering;
use crate::perform_now::Home;
use crate::pruning::Pruning;
use crate::state::WorkflowState;
use crate::store::{Answer, DraftKey, List, Session, Store, Tick, WorkflowRow};
use crate::view::WorkflowView;
use crate::wake::wake;
use crate::worker::backoff::Backoff;
use crate::worker::watch::Watcher;
use crate::workflow::Workflow;

/// A client of a store: starts workflows and tells of them. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    session: SessionId,
    next_draft: Arc<AtomicU64>,
    /// By shard, the number of the last command: those of a session go there one at a time.
    commands: Arc<[Mutex<u64>]>,
    /// Whether the store knows the session.
    joined: Arc<OnceCell<()>>,
    gathering: Arc<Gathering>,
    /// What it performs jobs with itself.
    home: Arc<Home>,
    /// Set in a simulation.
    watcher: Option<Arc<dyn Watcher>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, session {})", crate::store::without_passwords(&self.store.url()), self.session)
    }
}

impl Client {
    pub(crate) fn new(store: Arc<dyn Store>, registry: Arc<Registry>, home: Home) -> Self {
        Self {
            registry,
            session: SessionId::random(),
            next_draft: Arc::new(AtomicU64::new(1)),
            commands: (0..store.shards().max(1)).map(|_| Mutex::new(0)).collect(),
            joined: Arc::default(),
            gathering: Arc::new(Gathering::new(store.shards(), store.next_shard())),
            home: Arc::new(home),
            watcher: None,
            store,
        }
    }

    /// The same in a simulation, which is told of what it performs.
    #[cfg(feature = "testing")]
    pub(crate) fn watched_by(self, watcher: Arc<dyn Watcher>) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn watcher(&self) -> Option<&Arc<dyn Watcher>> {
        self.watcher.as_ref()
    }

    pub(crate) fn shared_registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// The same, of a program that people call so.
    #[cfg(feature = "cli")]
    pub(crate) fn called(&self, program: &str) -> Self {
        let registry = Registry { program: Some(program.to_owned()), ..(*self.registry).clone() };
        Self { registry: Arc::new(registry), ..self.clone() }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) fn gathering(&self) -> &Gathering {
        &self.gathering
    }

    /// What keeps the broker of a queue from carrying its slices, if it has one and something does.
    pub(crate) async fn broker_trouble(&self, queue: &str) -> Option<String> {
        self.registry.brokers.trouble(queue).await
    }

    /// The store that it talks to.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The graph of a registered workflow, without creating it.
    pub fn plan(&self, name: &str, arguments: &RawValue) -> Result<crate::graph::Graph> {
        Ok(self.registry.plan(name, arguments)?.1.graph)
    }

    /// The names of the registered workflows.
    pub fn workflow_names(&self) -> Vec<&'static str> {
        self.registry.workflows.keys().copied().collect()
    }

    /// A handle on a workflow that is in the store.
    pub async fn find(&self, id: WorkflowId) -> Result<Handle> {
        self.row(id).await?;
        Ok(self.handle(id))
    }

    /// The workflow of type `W` that was created last.
    pub async fn latest<W: Workflow>(&self) -> Result<Option<Handle>> {
        let list = List { name: Some(W::NAME.to_owned()), limit: 1, ..List::default() };
        Ok(self.store.workflows(list).await?.first().map(|row| self.handle(row.id)))
    }

    /// A workflow's row; one that is being deleted is gone.
    pub(crate) async fn row(&self, id: WorkflowId) -> Result<WorkflowRow> {
        match self.store.workflow(id).await? {
            row if row.state == WorkflowState::Deleting => {
                Err(Error::not_found(format!("workflow {id} is gone: it is being deleted")))
            }
            row => Ok(row),
        }
    }

    pub(crate) fn handle(&self, id: WorkflowId) -> Handle {
        Handle::new(self.clone(), id)
    }

    /// Workflows, newest first; narrow them down, then [`stream`](Workflows::stream).
    pub fn workflows(&self) -> Workflows {
        Workflows { store: self.store.clone(), list: List { limit: 100, ..List::default() }, finished_before: None }
    }

    /// Finished workflows that ended before so long a time: those in `state`, or in any, of the type `name`, or of any. Look at them with
    /// [`stream`](Pruning::stream), delete them with [`run`](Pruning::run).
    pub fn prune(&self, older_than: Duration, state: Option<WorkflowState>, name: Option<&str>) -> Pruning {
        Pruning::new(self.clone(), older_than, state, name)
    }

    pub(crate) fn new_draft(&self) -> DraftKey {
        DraftKey { session: self.session, number: self.next_draft.fetch_add(1, Ordering::Relaxed) }
    }

    /// Goes on with the store's chores until none is left: whoever asks for something large lends a hand. What was asked for is
    /// recorded already, and ticks of workers go on with it, so an error here is only worth a line in the log.
    pub(crate) async fn lend_a_hand(&self) {
        loop {
            match self.store.tick(Tick { lease: self.store.lease() }).await {
                Ok(ticked) => {
                    wake(&ticked.woken);
                    crate::wake::hurry(&ticked.told);
                    if !ticked.more {
                        return;
                    }
                }
                Err(error) => return tracing::warn!(%error, "a chore is left to the workers"),
            }
        }
    }

    /// Gives one command to a shard, with the number that makes it count once, however often it has to be sent.
    pub(crate) async fn command<'a, T>(&'a self, shard: u16, send: impl Fn(u64) -> Answer<'a, T>) -> Result<T> {
        let number = self
            .commands
            .get(usize::from(shard))
            .ok_or_else(|| Error::not_found(format!("there is no shard {shard}")))?;
        let mut number = number.lock().await;
        self.joined.get_or_try_init(|| self.store.join(self.as_session())).await?;
        *number += 1;
        let (started, mut backoff, mut sent) = (Instant::now(), Backoff::new(), false);
        loop {
            match send(*number).await {
                Err(error) if error.kind() == ErrorKind::NotFound && error.to_string().contains("session") => {
                    // Idle for more than ten minutes: the store has forgotten the session, and with it its commands.
                    if sent {
                        return Err(Error::refused(
                            "the store has forgotten this session: whether the command has been carried out is not known",
                        ));
                    }
                    self.store.join(self.as_session()).await?;
                    sent = true;
                }
                Err(error) if error.kind() == ErrorKind::Unavailable && started.elapsed() < REPEATED => {
                    sent = true;
                    tokio::time::sleep(backoff.next()).await;
                }
                answer => return answer,
            }
        }
    }

    fn as_session(&self) -> Session {
        Session { id: self.session, ..Session::new(self.store.lease()) }
    }
}

/// A selection of workflows.
#[derive(Debug)]
pub struct Workflows {
    store: Arc<dyn Store>,
    list: List,
    finished_before: Option<Millis>,
}

impl Workflows {
    /// Only workflows of type `W`.
    pub fn of<W: Workflow>(self) -> Self {
        self.named(W::NAME)
    }

    /// Only workflows of the type registered under `name`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.list.name = Some(name.into());
        self
    }

    /// Only workflows in that state.
    pub fn state(mut self, state: WorkflowState) -> Self {
        self.list.state = Some(state);
        self
    }

    /// Only workflows created at or after a time.
    pub fn created_from(mut self, time: Millis) -> Self {
        self.list.created_from = Some(time);
        self
    }

    /// Only workflows created before a time.
    pub fn created_before(mut self, time: Millis) -> Self {
        self.list.created_before = Some(time);
        self
    }

    /// Only workflows that finished before a time.
    pub fn finished_before(mut self, time: Millis) -> Self {
        self.finished_before = Some(time);
        // What finished before it was created before it.
        self.list.created_before = Some(self.list.created_before.map_or(time, |before| before.min(time)));
        self
    }

    /// Only workflows behind one of an earlier page.
    pub fn behind(mut self, created_at: Millis, id: WorkflowId) -> Self {
        self.list.after = Some((created_at, id));
        self
    }

    /// One page of at most `limit`, newest first.
    pub async fn page(mut self, limit: u32) -> Result<Vec<WorkflowView>> {
        self.list.limit = limit;
        let rows = self.store.workflows(self.list).await?;
        Ok(rows.into_iter().map(|row| WorkflowView::new(row, Vec::new())).collect())
    }

    /// All of them, newest first, fetched page by page.
    pub fn stream(self) -> BoxStream<'static, Result<WorkflowView>> {
        let finished_before = self.finished_before;
        futures::stream::try_unfold((self.store, Some(self.list)), |(store, list)| async move {
            let Some(mut list) = list else { return Ok::<_, Error>(None) };
            let page = store.workflows(list.clone()).await?;
            let next = page.last().filter(|_| page.len() as u32 == list.limit).map(|last| (last.created_at, last.id));
            let more = next.is_some();
            list.after = next;
            Ok(Some((futures::stream::iter(page.into_iter().map(Ok)), (store, more.then_some(list)))))
        })
        .try_flatten()
        .try_filter(move |row: &WorkflowRow| {
            let wanted = finished_before.is_none_or(|before| row.finished_at.is_some_and(|at| at < before));
            futures::future::ready(wanted)
        })
        .map_ok(|row| WorkflowView::new(row, Vec::new()))
        .boxed()
    }
}
