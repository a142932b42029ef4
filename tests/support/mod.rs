//! What the tests share: a store in a temporary folder, with a worker of the test's own application.
#![allow(dead_code)]

pub mod act;
pub mod play;
pub mod until;
pub mod work;

use std::sync::Arc;
use std::time::Duration;

use gusher::prelude::*;
use gusher::store::Store;
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::{CancellationToken, WorkerOptions};
use tokio::task::JoinHandle;

/// A store in a folder that goes with it.
pub struct House {
    pub store: Arc<SqliteStore>,
    pub folder: tempfile::TempDir,
}

impl House {
    /// A store with leases of a second.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { lease: Duration::from_secs(1), ..Options::new(folder.path().join("gusher.db")) };
        Self { store: Arc::new(SqliteStore::open(options).unwrap()), folder }
    }

    pub fn client<S: Send + Sync + 'static>(&self, app: &App<S>) -> Client {
        app.client_on(self.store.clone())
    }

    /// Starts a worker; it stops when the returned guard is dropped or [`WorkerGuard::stop`] is awaited.
    pub async fn worker<S: Send + Sync + 'static>(&self, app: &App<S>) -> WorkerGuard {
        self.worker_with(app, WorkerOptions { slots: 4, ..WorkerOptions::default() }).await
    }

    /// The same, set up otherwise.
    pub async fn worker_with<S: Send + Sync + 'static>(&self, app: &App<S>, options: WorkerOptions) -> WorkerGuard {
        let worker = app.worker_on(self.store.clone(), options).await.unwrap();
        let stop = CancellationToken::new();
        WorkerGuard { task: tokio::spawn(worker.run(stop.clone())), stop }
    }

    /// How much is there only while something is under way.
    pub async fn under_way(&self) -> u64 {
        self.store.doctor().await.unwrap().under_way
    }

    /// The store is as it should be, and no operation went over its bound.
    pub async fn check(&self) {
        let checkup = self.store.doctor().await.unwrap();
        assert_eq!(checkup.findings, Vec::<String>::new());
        assert_eq!(self.store.meters().over_bounds(), Vec::new());
    }
}

pub struct WorkerGuard {
    stop: CancellationToken,
    task: JoinHandle<gusher::Result<()>>,
}

impl WorkerGuard {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}
