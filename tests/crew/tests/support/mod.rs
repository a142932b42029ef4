//! A store where real worker processes meet.
#![allow(dead_code)]

#[path = "../../../servers/mod.rs"]
mod servers;
#[path = "../../../support/until.rs"]
pub mod until;

use std::any::Any;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use crew::app;
use gusher::store::{Store, redis, sqlite};
use gusher::{Clock, Handle, Workflow};
use servers::Server;
use tokio::process::{Child, Command};

pub const LEASE: Duration = Duration::from_secs(1);

/// A store where workers meet.
pub struct House {
    pub store: Arc<dyn Store>,
    /// The same, if it is a server.
    server: Option<Arc<redis::RedisStore>>,
    /// What ends with the test.
    _ground: Box<dyn Any>,
}

impl House {
    pub fn in_a_file() -> Self {
        Self::in_a_file_by(Clock::system())
    }

    /// The clock is that of this process.
    pub fn in_a_file_by(clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = sqlite::Options { lease: LEASE, clock, ..sqlite::Options::new(folder.path().join("gusher.db")) };
        let store = Arc::new(sqlite::SqliteStore::open(options).unwrap());
        Self { store, server: None, _ground: Box::new(folder) }
    }

    pub async fn on_redis() -> Self {
        Self::on_redis_with(|options| options).await
    }

    /// The clock is that of this process; the server has its own.
    pub async fn on_redis_by(clock: Clock) -> Self {
        Self::on_redis_with(|options| redis::Options { clock, ..options }).await
    }

    /// In so many shards.
    pub async fn on_redis_in(shards: u16) -> Self {
        Self::on_redis_with(|options| redis::Options { shards: Some(shards), ..options }).await
    }

    async fn on_redis_with(set: impl FnOnce(redis::Options) -> redis::Options) -> Self {
        let server = Server::redis();
        let options = set(redis::Options { lease: LEASE, ..redis::Options::new(server.url()) });
        let store = Arc::new(redis::RedisStore::open(options).await.unwrap());
        Self { store: store.clone(), server: Some(store), _ground: Box::new(server) }
    }

    /// The records that a server keeps itself of what its workers, with ledgers, made it do. A file has none.
    pub async fn records(&self) -> Vec<u8> {
        let Some(server) = &self.server else { return Vec::new() };
        let mut records = Vec::new();
        for shard in 0..server.shards() {
            let mut last = 0;
            loop {
                let some = server.take_records(shard, last).await.unwrap();
                let Some(number) = some.last_chunk() else { break };
                last = u32::from_le_bytes(*number);
                records.extend(some);
            }
        }
        records
    }

    pub fn worker(&self) -> Child {
        let mut crew = Command::new(env!("CARGO_BIN_EXE_crew"));
        crew.arg(self.store.url()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    }

    /// A worker that writes down what it does.
    pub fn worker_with_a_ledger(&self, ledger: &Path) -> Child {
        let mut crew = Command::new(env!("CARGO_BIN_EXE_crew"));
        crew.arg(self.store.url()).arg(ledger).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
    }

    pub async fn start(&self, workflow: impl Workflow) -> Handle {
        app().client_on(self.store.clone()).start(workflow).await.unwrap()
    }

    /// Which of these workers holds jobs.
    pub async fn busy(&self, workers: &[Child]) -> Option<usize> {
        for row in self.store.workers(100).await.unwrap() {
            let at = workers.iter().position(|worker| worker.id() == Some(row.session.pid));
            if at.is_some() && !self.store.held(row.session.id, 1).await.unwrap().is_empty() {
                return at;
            }
        }
        None
    }

    pub async fn check(&self) {
        assert_eq!(self.store.doctor().await.unwrap().findings, Vec::<String>::new());
        assert_eq!(self.store.meters().over_bounds(), Vec::new());
    }
}
