//! What a run's store stands on: a file that all processes open, or a Redis server of the run's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gusher::store::redis::RedisStore;
use gusher::store::sqlite::SqliteStore;
use gusher::store::{Store, WorkerRow};
use gusher::testing::ledger::{Kind, Ledger, Record};

use crate::servers::{Cluster, Program, Server};
use crate::worker::{self, IN_FILES, NamedPlace, ON_SERVERS};

/// The number of the ledger in which a store's records end up; of its shards, each has the next lower one.
const OF_SERVER: u64 = u64::MAX;
/// They have on the disk what they have acknowledged.
const APPENDING: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
/// After so long a store that stays away is an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// See above.
pub enum Stage {
    File { path: PathBuf, store: Arc<SqliteStore> },
    Servers { servers: Servers, store: Arc<RedisStore>, records: Vec<Taken> },
}

/// What has been taken of a shard's records.
pub struct Taken {
    into: Ledger,
    last: u32,
}

impl Stage {
    /// A store in a file of that folder.
    pub fn file(folder: &Path, lease: u64, clock: &Path, ledger: Ledger) -> Result<Self> {
        let path = folder.join("gusher.db");
        let store = worker::open_file(&format!("{}?lease={lease}ms", path.display()), clock, ledger)?;
        Ok(Self::File { path, store })
    }

    /// Servers; the ledgers of the store's shards go into that folder.
    pub async fn servers(servers: Servers, folder: &Path, lease: u64, clock: &Path, ledger: Ledger) -> Result<Self> {
        let store = worker::open_server(&format!("{}?lease={lease}ms", servers.url), clock, ledger).await?;
        let records_of = |shard: u16| -> Result<Taken> {
            let file = folder.join(format!("shard-{shard:02}.ledger"));
            let into = Ledger::create(&file, OF_SERVER - u64::from(shard)).context("making a shard's ledger")?;
            Ok(Taken { into, last: 0 })
        };
        let records = (0..store.shards()).map(records_of).collect::<Result<_>>()?;
        Ok(Self::Servers { servers, store, records })
    }

    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::File { store, .. } => store.clone(),
            Self::Servers { store, .. } => store.clone(),
        }
    }

    /// Where its workers can be told to die.
    pub fn places(&self) -> &'static [NamedPlace] {
        match self {
            Self::File { .. } => &IN_FILES,
            Self::Servers { .. } => &ON_SERVERS,
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
            Self::Servers { store, .. } => Ok(patiently(|| store.note_kill(row.session.id, number)).await? > 0),
        }
    }

    /// Whether nobody who stands still holds the store's write lock.
    pub fn is_writable(&self) -> Result<bool> {
        let Self::File { path, .. } = self else { return Ok(true) };
        let conn = rusqlite::Connection::open(path)?;
        conn.busy_timeout(Duration::from_millis(200))?;
        Ok(conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok())
    }

    /// Takes what the servers have noted so far into the ledgers of the store's shards.
    pub async fn take_records(&mut self) -> Result<()> {
        let Self::Servers { store, records, .. } = self else { return Ok(()) };
        for (shard, taken) in (0..).zip(records) {
            loop {
                let bytes = patiently(|| store.take_records(shard, taken.last)).await?;
                let Some(last) = bytes.last_chunk() else { break };
                taken.into.append(&bytes);
                taken.last = u32::from_le_bytes(*last);
            }
        }
        Ok(())
    }

    /// Completes the ledgers once nobody works on the store any more: a killed process' file holds transactions that never happened.
    pub async fn complete_ledgers(&mut self, ledger: &Ledger) -> Result<()> {
        match self {
            Self::File { path, .. } => crate::ending::note_last_transactions(path, ledger),
            Self::Servers { .. } => self.take_records().await,
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

/// Servers that have on the disk what they have acknowledged.
#[derive(Debug)]
pub struct Servers {
    url: String,
    all: Vec<Server>,
    /// Who dies next.
    next: usize,
}

impl Servers {
    pub fn redis() -> Self {
        Self::alone(Server::redis_with(&APPENDING))
    }

    pub fn valkey() -> Self {
        Self::alone(Server::valkey_with(&APPENDING))
    }

    /// Three masters.
    pub fn cluster() -> Self {
        let cluster = Cluster::of_masters(Program::Redis, &APPENDING);
        Self { url: cluster.url(), all: cluster.nodes, next: 0 }
    }

    fn alone(server: Server) -> Self {
        Self { url: server.url(), all: vec![server], next: 0 }
    }

    /// Kills one, and starts it again on what is on the disk. Returns how long it was away.
    pub fn kill_and_restart(&mut self) -> Duration {
        let dies = self.next % self.all.len();
        self.next += 1;
        let server = &mut self.all[dies];
        let away_from = Instant::now();
        server.kill();
        server.start_again();
        // A node of a cluster first listens for two seconds whether another has taken its place.
        while server.says(&["cluster", "info"]).contains("cluster_state:fail") {}
        away_from.elapsed()
    }

    /// Cuts the connections of all clients, those of listeners, too. Returns how many there were.
    pub fn cut_connections(&self) -> Result<u64> {
        let mut cut = 0;
        for (server, kind) in self.all.iter().flat_map(|server| ["normal", "pubsub"].map(|kind| (server, kind))) {
            let told = server.says(&["client", "kill", "type", kind]);
            cut += told.trim().parse::<u64>().with_context(|| format!("a server cuts nothing: {told}"))?;
        }
        ensure!(cut > 0, "no client was connected");
        Ok(cut)
    }
}
