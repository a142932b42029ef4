//! What the harness tells the checker: what was made, and what the store says in the end.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use gusher::store::Store;
use gusher::testing::ledger::{Kind, Ledger, Record};
use gusher::{Handle, WorkflowId};

use crate::stage::patiently;
use crate::workload::Season;

/// Notes a workflow as it was meant to be; of the store it asks only which numbers its steps have.
pub async fn declare(store: &dyn Store, ledger: &Ledger, season: &Season, id: WorkflowId) -> Result<()> {
    let workflow = Record::workflow(id);
    let steps = patiently(|| store.steps(id, 0, 100)).await?;
    let number = |name: &str| {
        let step = steps.iter().find(|step| step.spec.name == name);
        step.map(|step| step.number as u16).with_context(|| format!("workflow {id} has no step {name}"))
    };
    let at = Ledger::now();
    let record = |kind, step, first| Record { at, workflow, first, step, kind, ..Record::default() };
    let mut records = vec![record(Kind::Workflow, 0, steps.len() as u64)];
    for (name, jobs) in [("Emit", 1), ("Row", season.rows), ("Check", season.checks()), ("Tell", 1)] {
        records.push(record(Kind::Step, number(name)?, jobs));
    }
    for (from, to) in [("Emit", "Row"), ("Row", "Check"), ("Row", "Tell"), ("Check", "Tell")] {
        records.push(record(Kind::Edge, number(to)?, u64::from(number(from)?)));
    }
    ledger.write(&records);
    Ok(())
}

/// Notes which transactions the store holds of each ledger: what a killed process wrote behind them never happened.
pub fn note_last_transactions(file: &Path, ledger: &Ledger) -> Result<()> {
    let conn = rusqlite::Connection::open(file)?;
    let mut rows = conn.prepare("SELECT ledger, tx FROM ledger")?;
    let rows = rows.query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))?;
    let record = |(who, first)| Record { at: Ledger::now(), who, first, kind: Kind::Last, ..Record::default() };
    let records = rows.map(|row| row.map(record)).collect::<rusqlite::Result<Vec<_>>>()?;
    ensure!(!records.is_empty(), "the store knows of no ledger");
    ledger.write(&records);
    Ok(())
}

/// Notes what the store says of every job; returns how many there are.
pub async fn dump(store: &dyn Store, ledger: &Ledger, handles: &[Handle]) -> Result<u64> {
    let mut jobs = 0;
    for handle in handles {
        for step in patiently(|| store.steps(handle.id(), 0, 100)).await? {
            jobs += dump_step(store, ledger, handle.id(), step.number).await?;
        }
    }
    Ok(jobs)
}

async fn dump_step(store: &dyn Store, ledger: &Ledger, id: WorkflowId, step: u32) -> Result<u64> {
    let (mut next, mut after) = (0, 0);
    loop {
        let page = patiently(|| store.outcomes(id, step, next, after)).await?;
        if page.is_empty() {
            return Ok(next);
        }
        for chunk in page {
            match chunk.more_after {
                // Its jobs come once more with its next records.
                Some(more) => {
                    (next, after) = (chunk.first, more);
                    continue;
                }
                None => (next, after) = (chunk.first + chunk.bytes.len() as u64, 0),
            }
            let record = |(at, byte): (usize, &u8)| Record {
                at: Ledger::now(),
                workflow: Record::workflow(id),
                first: chunk.first + at as u64,
                lease: chunk.recoveries.get(at).copied().map_or(0, u32::from),
                count: 1,
                step: step as u16,
                kind: Kind::Final,
                detail: *byte,
                ..Record::default()
            };
            ledger.write(&chunk.bytes.iter().enumerate().map(record).collect::<Vec<_>>());
        }
    }
}
