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

use crew::{Count, app};
use gusher::store::{Store, redis, sqlite};
use gusher::{Clock, Handle};
use servers::Server;
use tokio::process::{Child, Command};

pub const LEASE: Duration = Duration::from_secs(1);

/// A store where workers meet.
pub struct House {
    pub store: Arc<dyn Store>,
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
        Self { store: Arc::new(sqlite::SqliteStore::open(options).unwrap()), _ground: Box::new(folder) }
    }

    pub async fn on_redis() -> Self {
        Self::on_redis_by(Clock::system()).await
    }

    /// The clock is that of this process; the server has its own.
    pub async fn on_redis_by(clock: Clock) -> Self {
        let server = Server::redis();
        let options = redis::Options { lease: LEASE, clock, ..redis::Options::new(server.url()) };
        Self { store: Arc::new(redis::RedisStore::open(options).await.unwrap()), _ground: Box::new(server) }
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

    pub async fn start(&self, count: Count) -> Handle {
        app().client_on(self.store.clone()).start(count).await.unwrap()
    }

    pub async fn check(&self) {
        assert_eq!(self.store.doctor().await.unwrap().findings, Vec::<String>::new());
        assert_eq!(self.store.meters().over_bounds(), Vec::new());
    }
}
