//! Firing what is due. Every worker does, and whoever moves a schedule's next instant first has fired it.

use super::definition::Definition;
use super::due::due;
use crate::error::Result;
use crate::store::{Fire, Move, ScheduleRow, Store, Ticked};
use crate::wake::wake;

/// Fires the schedules that a tick has found due. Tells whether any has been, by this worker or by another: then more may be due.
pub(crate) async fn fire_due(store: &dyn Store, ticked: &Ticked) -> bool {
    let mut any = false;
    for row in &ticked.schedules {
        match fire_one(store, row, ticked.now).await {
            Ok(fired) => any |= fired,
            // Another worker may be able to; else it is told again and again, since nothing happens at its times.
            Err(error) => tracing::warn!(%error, schedule = row.name, "a schedule cannot be fired; it is tried again"),
        }
    }
    any
}

async fn fire_one(store: &dyn Store, row: &ScheduleRow, now: crate::Millis) -> Result<bool> {
    let Some(next) = row.next else { return Ok(false) };
    let definition = Definition::decode(&row.name, &row.definition)?;
    let mut due = due(&definition.rule, definition.missed, definition.grace, next, now);
    let jobs = definition.jobs(&row.name, row.shard, &due.instants)?;
    // What did not fit comes next.
    let fired = jobs.as_ref().map_or(0, |jobs| jobs.chunk.jobs as usize);
    if let Some(left) = due.instants.get(fired).copied() {
        due.next = Some(left);
        due.instants.truncate(fired);
    }
    let fire = Fire {
        shard: row.shard,
        schedule: row.name.clone(),
        moves: Some(Move { from: next, to: due.next }),
        passed_over: due.passed_over,
        instants: due.instants,
        jobs,
        starts: definition.starts(),
    };
    let answer = store.fire(fire).await?;
    wake(&answer.woken);
    Ok(true)
}
