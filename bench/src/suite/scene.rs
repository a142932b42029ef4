//! A store in a temporary folder, and workers of this process on it.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use gusher::prelude::*;
use gusher::store::Store;
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::{CancellationToken, WorkerOptions};
use tokio::task::JoinHandle;

use crate::cost::Worst;
use crate::place::{Place, options_of};
use crate::workload::Nothing;

/// A store that goes with its folder.
#[derive(Debug)]
pub struct Scene {
    /// The store.
    pub store: Arc<SqliteStore>,
    /// Dropped after the store, which it removes.
    _place: Place,
}

impl Scene {
    /// A fresh store in a temporary folder, in `folder` if that is given, with what its first creation makes.
    pub async fn new(folder: Option<&Path>, lease: Duration) -> Result<Self> {
        let place = Place::temporary(folder)?;
        let options = Options { lease, ..options_of(place.fresh()?)? };
        let store = Arc::new(SqliteStore::open(options)?);
        App::stateless().client_on(store.clone()).start(Nothing).await?;
        Ok(Self { store, _place: place })
    }

    /// Notes the most that an operation took.
    pub fn add_to(&self, worst: &mut Worst) {
        worst.take_in(Worst::of(self.store.meters()));
    }

    /// The same file opened again, as another process would: with a writer of its own, so that both contend for the file's lock.
    pub fn opened_again(&self) -> Result<Arc<SqliteStore>> {
        Ok(Arc::new(SqliteStore::open(options_of(&self.store.url())?)?))
    }
}

/// A worker that runs until it is stopped.
#[derive(Debug)]
pub struct Working {
    stop: CancellationToken,
    task: JoinHandle<gusher::Result<()>>,
}

impl Working {
    /// Starts one on `store`.
    pub async fn start<S: Send + Sync + 'static>(app: &App<S>, store: Arc<dyn Store>, slots: u32) -> Result<Self> {
        Self::with(app, store, WorkerOptions { slots, ..WorkerOptions::default() }).await
    }

    /// The same with other options.
    pub async fn with<S: Send + Sync + 'static>(
        app: &App<S>,
        store: Arc<dyn Store>,
        options: WorkerOptions,
    ) -> Result<Self> {
        let stop = CancellationToken::new();
        let worker = app.worker_on(store, options).await?;
        Ok(Self { task: tokio::spawn(worker.run(stop.clone())), stop })
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.task.await??)
    }
}

/// A worker on a runtime of its own, so that its jobs, which compute, take no thread from who measures.
#[derive(Debug)]
pub struct WorkingApart {
    stop: CancellationToken,
    thread: thread::JoinHandle<Result<()>>,
}

impl WorkingApart {
    /// Starts one on `store`.
    pub fn start<S: Send + Sync + 'static>(app: App<S>, store: Arc<dyn Store>, slots: u32) -> Self {
        let stop = CancellationToken::new();
        let told = stop.clone();
        let thread = thread::spawn(move || {
            tokio::runtime::Runtime::new()?.block_on(async {
                let worker = app.worker_on(store, WorkerOptions { slots, ..WorkerOptions::default() }).await?;
                Ok(worker.run(told).await?)
            })
        });
        Self { stop, thread }
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_| anyhow!("the worker's thread panicked"))?
    }
}
