//! The floor: how fast rows can go through one SQLite file when nothing else is done. Chunks in, chunks out, one byte a job: no
//! leases, no counters, no times, no second step. The engine's total is quoted as a multiple of this.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::scope;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use gusher::CHUNK_JOBS;
use rusqlite::{Connection, TransactionBehavior};
use serde::{Deserialize, Serialize};

use crate::airports::airports;
use crate::floor_redis;
use crate::one_run::RunPlan;
use crate::place::{is_redis, options_of};
use crate::rows::{BenchRow, RowKind, payments};

/// The most bytes of rows in a chunk before compression, as in the engine.
const CHUNK_BYTES: usize = 64 * 1024;
/// The most chunks that wait for the writer, and the most that it writes in one transaction.
pub const GROUP: usize = 64;

/// A chunk's number, and what is to be written for it.
pub type Blob = (i64, Vec<u8>);

/// What the floor took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FloorMeasured {
    /// Seconds until every chunk was in the file.
    pub in_s: f64,
    /// Seconds until every chunk was read, unpacked, and had its bytes written.
    pub out_s: f64,
}

impl FloorMeasured {
    /// Seconds for both.
    pub fn total_s(&self) -> f64 {
        self.in_s + self.out_s
    }
}

/// Runs the rows of `plan` through its store's file.
pub fn run(plan: &RunPlan) -> Result<FloorMeasured> {
    match plan.row {
        RowKind::E if is_redis(&plan.url) => floor_redis::rows_through(plan, payments(plan.rows)),
        RowKind::A if is_redis(&plan.url) => floor_redis::rows_through(plan, airports(plan.rows)?),
        RowKind::E => rows_through(plan, payments(plan.rows)),
        RowKind::A => rows_through(plan, airports(plan.rows)?),
    }
}

fn rows_through<R: BenchRow>(plan: &RunPlan, rows: impl Iterator<Item = R> + Send) -> Result<FloorMeasured> {
    let mut conn = open(&plan.url)?;
    conn.execute_batch(
        "CREATE TABLE params (chunk INTEGER PRIMARY KEY, body BLOB NOT NULL);
         CREATE TABLE bytes (chunk INTEGER PRIMARY KEY, bytes BLOB NOT NULL);",
    )?;
    let started = Instant::now();
    write_what_comes(&mut conn, "INSERT INTO params VALUES (?, ?)", move |sender| pack(rows, sender))?;
    let in_s = started.elapsed().as_secs_f64();

    let reader = open(&plan.url)?;
    let started = Instant::now();
    let jobs =
        write_what_comes(&mut conn, "INSERT INTO bytes VALUES (?, ?)", move |sender| unpack::<R>(&reader, sender))?;
    let out_s = started.elapsed().as_secs_f64();
    anyhow::ensure!(jobs == plan.rows, "the floor lost rows: {jobs} of {} came out", plan.rows);
    Ok(FloorMeasured { in_s, out_s })
}

/// With the store's own settings.
fn open(url: &str) -> Result<Connection> {
    let options = options_of(url)?;
    let conn = Connection::open(&options.path).with_context(|| format!("opening {}", options.path.display()))?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    conn.pragma_update(None, "synchronous", if options.sync { "FULL" } else { "NORMAL" })?;
    conn.pragma_update(None, "wal_autocheckpoint", 4000)?;
    conn.pragma_update(None, "cache_size", -16 * 1024)?;
    Ok(conn)
}

/// Writes what `make` sends from a thread of its own; what waits while a transaction commits shares the next one. Returns what `make`
/// returned.
fn write_what_comes(
    conn: &mut Connection,
    sql: &str,
    make: impl FnOnce(&SyncSender<Blob>) -> Result<u64> + Send,
) -> Result<u64> {
    let (sender, receiver) = sync_channel(GROUP);
    scope(|scope| {
        // The sender goes with the thread, so that the writer sees the end.
        let maker = scope.spawn(move || make(&sender));
        let written = group_commit(conn, sql, &receiver);
        drop(receiver);
        let made = maker.join().map_err(|_| anyhow!("a thread of the floor panicked"))?;
        written.and(made)
    })
}

fn group_commit(conn: &mut Connection, sql: &str, receiver: &Receiver<Blob>) -> Result<()> {
    while let Ok(first) = receiver.recv() {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (chunk, blob) in std::iter::once(first).chain(receiver.try_iter()).take(GROUP) {
            tx.prepare_cached(sql)?.execute((chunk, blob))?;
        }
        tx.commit()?;
    }
    Ok(())
}

/// Packs rows as the engine does: JSON lines, zstd level 1. Returns how many there were.
pub fn pack<R: Serialize>(rows: impl Iterator<Item = R>, sender: &SyncSender<Blob>) -> Result<u64> {
    let (mut lines, mut jobs, mut chunk, mut all) = (Vec::new(), 0, 0, 0);
    for row in rows {
        let json = serde_json::to_vec(&row)?;
        if jobs == CHUNK_JOBS || jobs > 0 && lines.len() + json.len() + 1 > CHUNK_BYTES {
            sender.send((chunk, zstd::bulk::compress(&lines, 1)?))?;
            lines.clear();
            (jobs, chunk) = (0, chunk + 1);
        }
        lines.extend_from_slice(&json);
        lines.push(b'\n');
        jobs += 1;
        all += 1;
    }
    if jobs > 0 {
        sender.send((chunk, zstd::bulk::compress(&lines, 1)?))?;
    }
    Ok(all)
}

/// Reads chunk after chunk, decodes every row, and sends a byte a row. Returns how many rows there were.
fn unpack<R: BenchRow>(conn: &Connection, sender: &SyncSender<Blob>) -> Result<u64> {
    let mut chunks = conn.prepare("SELECT chunk, body FROM params ORDER BY chunk")?;
    let mut chunks = chunks.query([])?;
    let mut all = 0;
    while let Some(row) = chunks.next()? {
        let bytes = perform::<R>(row.get_ref(1)?.as_blob()?)?;
        all += bytes.len() as u64;
        sender.send((row.get(0)?, bytes))?;
    }
    Ok(all)
}

/// Decodes every row of a chunk; returns a byte for each.
pub fn perform<R: BenchRow>(body: &[u8]) -> Result<Vec<u8>> {
    let lines = zstd::bulk::decompress(body, 2 * CHUNK_BYTES)?;
    let mut bytes = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        std::hint::black_box(serde_json::from_slice::<R>(line)?);
        bytes.push(3);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_out_of_the_floor() {
        let place = crate::place::Place::temporary(None).unwrap();
        for row in [RowKind::E, RowKind::A] {
            let url = place.fresh().unwrap().to_owned();
            run(&RunPlan { url, rows: 3_000, row, fails: false, slots: 1, broker: None }).unwrap();
        }
    }
}
