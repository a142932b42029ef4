//! What a run's store stands on: a file that all processes open, or a Redis server of the run's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gusher::store::redis::RedisStore;
use gusher::store::sqlite::SqliteStore;
use gusher::store::{Store, WorkerRow};
use gusher::testing::ledger::{Kind, Ledger, Record};

use crate::servers::Server;
use crate::worker::{self, IN_FILES, NamedPlace, ON_SERVERS};

/// The number of the ledger in which a server's records end up.
const OF_SERVER: u64 = u64::MAX;
/// After so long a store that stays away is an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// See above.
pub enum Stage {
    File { path: PathBuf, store: Arc<SqliteStore> },
    Server { server: AppendingServer, store: Arc<RedisStore>, records: Ledger, taken: u32 },
}

impl Stage {
    /// A store in a file of that folder.
    pub fn file(folder: &Path, lease: u64, clock: &Path, ledger: Ledger) -> Result<Self> {
        let path = folder.join("gusher.db");
        let store = worker::open_file(&format!("{}?lease={lease}ms", path.display()), clock, ledger)?;
        Ok(Self::File { path, store })
    }

    /// A server; the store's ledger goes into that folder.
    pub async fn server(folder: &Path, lease: u64, clock: &Path, ledger: Ledger) -> Result<Self> {
        let server = AppendingServer::start();
        let store = worker::open_server(&format!("{}?lease={lease}ms", server.0.url()), clock, ledger).await?;
        let records = Ledger::create(&folder.join("store.ledger"), OF_SERVER).context("making the store's ledger")?;
        Ok(Self::Server { server, store, records, taken: 0 })
    }

    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::File { store, .. } => store.clone(),
            Self::Server { store, .. } => store.clone(),
        }
    }

    /// Where its workers can be told to die.
    pub fn places(&self) -> &'static [NamedPlace] {
        match self {
            Self::File { .. } => &IN_FILES,
            Self::Server { .. } => &ON_SERVERS,
        }
    }

    /// Whether the process of that row, which stands still, holds jobs; if so, it is noted that it is killed.
    pub async fn note_kill(&self, row: &WorkerRow, number: u64, ledger: &Ledger) -> Result<bool> {
        if matches!(self, Self::File { .. }) && row.leases > 0 {
            ledger.write(&[Record { at: Ledger::now(), who: number, kind: Kind::Killed, ..Record::default() }]);
        }
        self.note_death(row, number).await
    }

    /// The same of a process that has killed itself, which notes it in a ledger that it writes itself.
    pub async fn note_death(&self, row: &WorkerRow, number: u64) -> Result<bool> {
        match self {
            Self::File { .. } => Ok(row.leases > 0),
            // What it has sent before it stood still may be done only now: the server knows what comes first.
            Self::Server { store, .. } => Ok(patiently(|| store.note_kill(row.session.id, number)).await? > 0),
        }
    }

    /// Whether nobody who stands still holds the store's write lock.
    pub fn is_writable(&self) -> Result<bool> {
        let Self::File { path, .. } = self else { return Ok(true) };
        let conn = rusqlite::Connection::open(path)?;
        conn.busy_timeout(Duration::from_millis(200))?;
        Ok(conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok())
    }

    /// Takes what the server has noted so far into the store's ledger.
    pub async fn take_records(&mut self) -> Result<()> {
        let Self::Server { store, records, taken, .. } = self else { return Ok(()) };
        loop {
            let bytes = patiently(|| store.take_records(*taken)).await?;
            let Some(last) = bytes.last_chunk() else { return Ok(()) };
            records.append(&bytes);
            *taken = u32::from_le_bytes(*last);
        }
    }

    /// Completes the ledgers once nobody works on the store any more: a killed process' file holds transactions that never happened.
    pub async fn complete_ledgers(&mut self, ledger: &Ledger) -> Result<()> {
        match self {
            Self::File { path, .. } => crate::ending::note_last_transactions(path, ledger),
            Self::Server { .. } => self.take_records().await,
        }
    }
}

/// Repeats a call while the store is away: a server that was killed, or that has cut the connection.
pub async fn patiently<T, F>(mut call: impl FnMut() -> F) -> gusher::Result<T>
where
    F: Future<Output = gusher::Result<T>>,
{
    let started = Instant::now();
    loop {
        match call().await {
            Err(error) if error.is_transient() && started.elapsed() < PATIENCE => tokio::task::yield_now().await,
            result => return result,
        }
    }
}

/// A Redis server that has on the disk what it has acknowledged.
#[derive(Debug)]
pub struct AppendingServer(Server);

impl AppendingServer {
    fn start() -> Self {
        Self(Server::redis_with(&["--appendonly", "yes", "--appendfsync", "always"]))
    }

    /// Kills it, and starts it again on what is on the disk. Returns how long it was away.
    pub fn kill_and_restart(&mut self) -> Duration {
        let away_from = Instant::now();
        self.0.kill();
        self.0.start_again();
        away_from.elapsed()
    }

    /// Cuts the connections of all clients, those of listeners, too. Returns how many there were.
    pub fn cut_connections(&self) -> Result<u64> {
        let cut = |kind| {
            let told = self.0.says(&["client", "kill", "type", kind]);
            told.trim().parse::<u64>().with_context(|| format!("the server cuts nothing: {told}"))
        };
        let (clients, listeners) = (cut("normal")?, cut("pubsub")?);
        ensure!(clients > 0, "no client was connected");
        Ok(clients + listeners)
    }
}
