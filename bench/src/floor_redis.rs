//! The floor on a Redis server: chunks go into a list and come out of it, each leaves its bytes in a hash.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::scope;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};

use crate::floor::{Blob, FloorMeasured, GROUP, pack, perform};
use crate::one_run::RunPlan;
use crate::place::connect;
use crate::rows::BenchRow;

/// Runs rows through the server of `plan`.
pub fn rows_through<R: BenchRow>(plan: &RunPlan, rows: impl Iterator<Item = R> + Send) -> Result<FloorMeasured> {
    let started = Instant::now();
    let (sender, receiver) = sync_channel(GROUP);
    scope(|scope| {
        // The sender goes with the thread, so that the writer sees the end.
        let maker = scope.spawn(move || pack(rows, &sender));
        let written = push(&mut connect(&plan.url)?, receiver);
        maker.join().map_err(|_| anyhow!("a thread of the floor panicked"))?.and(written)
    })?;
    let in_s = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let jobs = drain::<R>(&mut connect(&plan.url)?)?;
    let out_s = started.elapsed().as_secs_f64();
    ensure!(jobs == plan.rows, "the floor lost rows: {jobs} of {} came out", plan.rows);
    Ok(FloorMeasured { in_s, out_s })
}

/// What waits while a round trip is made shares the next one.
fn push(connection: &mut redis::Connection, receiver: Receiver<Blob>) -> Result<()> {
    while let Ok(first) = receiver.recv() {
        let mut pipeline = redis::pipe();
        for (_, blob) in std::iter::once(first).chain(receiver.try_iter()).take(GROUP) {
            pipeline.cmd("RPUSH").arg("floor:chunks").arg(blob).ignore();
        }
        pipeline.exec(connection)?;
    }
    Ok(())
}

/// Takes chunks out in groups, and leaves a byte a row with the next group.
fn drain<R: BenchRow>(connection: &mut redis::Connection) -> Result<u64> {
    const TAKEN: usize = 16;
    let (mut all, mut number, mut done) = (0, 0_u64, Vec::new());
    loop {
        let mut pipeline = redis::pipe();
        for bytes in std::mem::take(&mut done) {
            let bytes: Vec<u8> = bytes;
            pipeline.cmd("HSET").arg("floor:bytes").arg(number).arg(bytes).ignore();
            number += 1;
        }
        let (chunks,): (Vec<Vec<u8>>,) = pipeline.cmd("LPOP").arg("floor:chunks").arg(TAKEN).query(connection)?;
        if chunks.is_empty() {
            return Ok(all);
        }
        for chunk in &chunks {
            let bytes = perform::<R>(chunk)?;
            all += bytes.len() as u64;
            done.push(bytes);
        }
    }
}
