//! Deadlines of lone jobs: what has not settled by then is cancelled. A chunk has a row for each time that its jobs came with; the row
//! goes when its time has come, or with the chunk.

use super::lane::UNWANTED_MASK;
use super::tx::{Tx, Wf, mask};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::planted::planted;
use crate::record::CANCELLED_KEPT;
use crate::slice::Mask;
use crate::store::Woken;

/// How many deadlines one tick makes due.
const DUE: usize = 10;
/// From this many statements on a tick begins no further one.
const SOFT_CALLS: u64 = 380;
/// How long one that cannot be kept, since its rows are damaged, is left alone.
const SET_ASIDE: Millis = 3_600_000;

impl Tx<'_> {
    /// Notes until when jobs of a new chunk may settle.
    pub fn add_deadlines(
        &mut self,
        wf: Wf,
        chunk: i64,
        first: i64,
        all: Mask,
        deadlines: &[(Millis, Mask)],
    ) -> Result<()> {
        if deadlines.is_empty() {
            return Ok(());
        }
        if deadlines.iter().any(|(_, jobs)| !jobs.is_within(all)) {
            return Err(Error::usage(UNWANTED_MASK));
        }
        let hex = |jobs: &Mask| -> String { jobs.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect() };
        let rows: Vec<(Millis, String)> = deadlines.iter().map(|(due, jobs)| (*due, hex(jobs))).collect();
        // In one statement, however many times there are.
        let sql = "INSERT INTO deadline SELECT value ->> 0, ?2, ?1, ?3, unhex(value ->> 1) FROM json_each(?4) WHERE true \
                   ON CONFLICT DO UPDATE SET jobs = excluded.jobs";
        self.run(sql, (wf, chunk, first, super::create::to_json(&rows)?))?;
        Ok(())
    }

    /// Cancels a bite of what has not settled in time; returns whether there may be more.
    pub fn keep_deadlines(&mut self, told: &mut Woken) -> Result<bool> {
        let sql = "SELECT due, chunk, wf, first, jobs FROM deadline WHERE due <= ?1 ORDER BY due, chunk LIMIT ?2";
        let due = self.all(sql, (self.now, DUE as i64), |row| {
            Ok((
                (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?),
                row.get::<_, Wf>(2)?,
                row.get(3)?,
                row.get::<_, Vec<u8>>(4)?,
            ))
        })?;
        for (name, wf, first, jobs) in &due {
            if self.cost().calls > SOFT_CALLS {
                return Ok(true);
            }
            let mut ports = Woken::default();
            let kept = self.guarded(|tx| {
                tx.run("DELETE FROM deadline WHERE due = ? AND chunk = ?", *name)?;
                if planted!("a deadline cancels nothing") {
                    return Ok(());
                }
                let (step, jobs) = (tx.step(*wf, 0)?, mask(jobs)?);
                if let Some(chunk) = tx.find_chunk(*wf, 0, *first)?.filter(|chunk| chunk.chunk == name.1) {
                    let jobs = jobs.and(Mask::range(0..chunk.jobs));
                    ports = tx.cancel_in_chunk(&step, &chunk, jobs, CANCELLED_KEPT)?.told;
                }
                Ok(())
            })?;
            told.0.extend(ports.0);
            if let Err(error) = kept {
                tracing::error!(%error, "a deadline cannot be kept; it is set aside");
                self.run(
                    "UPDATE deadline SET due = due + ?3 WHERE due = ?1 AND chunk = ?2",
                    (name.0, name.1, SET_ASIDE),
                )?;
            }
        }
        Ok(due.len() == DUE)
    }
}
