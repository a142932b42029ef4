//! Checkpoints: what a long job goes on from. A row a job that has one, until it settles; its step counts them, so that steps without any
//! pay nothing.

use super::tx::{Tx, Wf};
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::planted::planted;
use crate::slice::Mask;
use crate::store::{ChunkRef, SaveCheckpoint};

impl Tx<'_> {
    /// Keeps what a job under a lease goes on from, in place of what it said before.
    pub fn save_checkpoint(&mut self, save: &SaveCheckpoint) -> Result<()> {
        let at = usize::from(save.at);
        let lease = match self.session(save.session)? {
            Some(session) => {
                self.leases_where("session = ?1 AND number = ?2 LIMIT 1", (session, save.lease as i64))?.pop()
            }
            None => None,
        };
        let Some(lease) = lease.filter(|lease| lease.jobs.contains(at)) else {
            return Err(Error::refused(format!(
                "lease {} does not hold this job (any more): it runs again elsewhere, and what this attempt saves counts for nothing; end it",
                save.lease
            )));
        };
        self.count_bytes(save.body.len());
        let there =
            self.one("SELECT 1 FROM checkpoint WHERE chunk = ? AND at = ?", (lease.chunk, save.at), |_| Ok(()))?;
        let sql = "INSERT INTO checkpoint (chunk, at, wf, step, body) VALUES (?, ?, ?, ?, ?) \
                   ON CONFLICT DO UPDATE SET body = excluded.body";
        self.run(sql, (lease.chunk, save.at, lease.wf, lease.step, &save.body))?;
        if there.is_none() {
            let mut step = self.step(lease.wf, lease.step)?;
            step.checkpoints += 1;
            self.put_step(step);
        }
        Ok(())
    }

    /// What a job goes on from.
    pub fn read_checkpoint(&mut self, chunk: ChunkRef, at: u16) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT body FROM checkpoint WHERE chunk = ? AND at = ?";
        let body = self.one(sql, (chunk.id as i64, at), |row| row.get::<_, Vec<u8>>(0))?;
        self.count_bytes(body.as_ref().map_or(0, Vec::len));
        Ok(body)
    }

    /// Jobs of a chunk have settled: they go on from nothing.
    pub fn forget_checkpoints(&mut self, wf: Wf, number: StepNumber, chunk: i64, jobs: Mask) -> Result<()> {
        let mut step = self.step(wf, number)?;
        if step.checkpoints == 0 || jobs.is_empty() || planted!("a checkpoint outlives its job") {
            return Ok(());
        }
        let places: Vec<usize> = jobs.iter().collect();
        let sql = "DELETE FROM checkpoint WHERE chunk = ?1 AND at IN (SELECT value FROM json_each(?2))";
        step.checkpoints -= self.run(sql, (chunk, super::create::to_json(&places)?))? as i64;
        self.put_step(step);
        Ok(())
    }
}
