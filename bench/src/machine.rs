//! What the machine does beside the benchmark, and what it can do at all.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::Connection;
use tempfile::TempDir;

/// The load averages of the last 1, 5 and 15 minutes, where the system tells.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let figures: Vec<&str> = text.split_whitespace().take(3).collect();
    if figures.is_empty() { "unknown".to_owned() } else { figures.join(" ") }
}

/// The most memory that this process has had so far, in bytes, where the system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// How fast a disk makes small commits last.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// What one commit takes, in the middle.
    pub commit: Duration,
    /// How many a second, one after another: each waits for one sync.
    pub syncs_per_second: f64,
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} syncs/s one after another, a small commit takes {:.2?}", self.syncs_per_second, self.commit)
    }
}

/// A database beside the store, to measure what a commit takes there.
#[derive(Debug)]
pub struct DiskProbe {
    conn: Connection,
    times: Vec<Duration>,
    /// Dropped after the connection.
    _folder: TempDir,
}

impl DiskProbe {
    /// Makes the database in `folder`; its commits last like those of a store.
    pub fn new(folder: Option<&Path>) -> Result<Self> {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_owned);
        let folder = tempfile::tempdir_in(folder).context("making a folder to measure the disk in")?;
        let conn = Connection::open(folder.path().join("disk.db"))?;
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.execute_batch("CREATE TABLE t (n INTEGER)")?;
        Ok(Self { conn, times: Vec::new(), _folder: folder })
    }

    /// Commits one row.
    pub fn commit(&mut self) -> Result<()> {
        let started = Instant::now();
        self.conn.execute("INSERT INTO t VALUES (?)", [self.times.len() as i64])?;
        self.times.push(started.elapsed());
        Ok(())
    }

    /// What the commits so far say; there must have been one.
    pub fn measured(&self) -> Disk {
        let mut times = self.times.clone();
        times.sort_unstable();
        let all: Duration = times.iter().sum();
        Disk { commit: times[times.len() / 2], syncs_per_second: times.len() as f64 / all.as_secs_f64() }
    }
}

/// Commits one row at a time to a database in `folder`, without a pause.
pub fn measure_disk(folder: Option<&Path>) -> Result<Disk> {
    let mut probe = DiskProbe::new(folder)?;
    for _ in 0..200 {
        probe.commit()?;
    }
    Ok(probe.measured())
}
