//! Checkpoints: what a long job goes on from. A row a job that has one, until it settles; its step counts them, so that steps without any
//! pay nothing. That of a source says how much of which draft belongs to it: draft and cursor agree, whatever was written behind it.

use super::lease::Lease;
use super::tx::{Tx, Wf};
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::SessionId;
use crate::planted::planted;
use crate::slice::Mask;
use crate::store::{ChunkRef, DraftKey, SaveCheckpoint, TakeDraft, TakenDraft};

/// Until when a draft is kept that a checkpoint covers: until the checkpoint is forgotten.
pub const KEPT: i64 = 9_000_000_000_000_000;
/// How many chunks behind a checkpoint one call cuts.
const CUT: i64 = 400;

impl Tx<'_> {
    /// The lease under which a session runs a job.
    pub fn lease_that_holds(&mut self, session: SessionId, number: u64, at: u16) -> Result<Lease> {
        let lease = match self.session(session)? {
            Some(session) => self.leases_where("session = ?1 AND number = ?2 LIMIT 1", (session, number as i64))?.pop(),
            None => None,
        };
        let holds =
            |lease: &Lease| lease.jobs.contains(usize::from(at)) || planted!("a late attempt of a source adopts");
        lease.filter(holds).ok_or_else(|| {
            Error::refused(format!(
                "lease {number} does not hold this job (any more): it runs again elsewhere, and what this attempt saves counts for nothing; end it"
            ))
        })
    }

    /// Keeps what a job under a lease goes on from, in place of what it said before; and the draft that belongs to it.
    pub fn save_checkpoint(&mut self, save: &SaveCheckpoint) -> Result<()> {
        let lease = self.lease_that_holds(save.session, save.lease, save.at)?;
        let mut step = self.step(lease.wf, lease.step)?;
        let covered = match save.covers {
            Some(covers) => {
                let key = DraftKey { session: save.session, number: covers.draft };
                Some(self.covered(key, (lease.wf, step.feeds), covers.calls)?)
            }
            None => None,
        };
        self.count_bytes(save.body.len());
        let before =
            self.one("SELECT draft FROM checkpoint WHERE chunk = ? AND at = ?", (lease.chunk, save.at), |row| {
                row.get::<_, Option<i64>>(0)
            })?;
        let sql = "INSERT INTO checkpoint (chunk, at, wf, step, body, draft, calls, jobs) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
                   ON CONFLICT DO UPDATE SET body = excluded.body, draft = excluded.draft, calls = excluded.calls, jobs = excluded.jobs";
        let (draft, calls, jobs) = match covered {
            Some((draft, calls, jobs)) => (Some(draft), Some(calls), Some(jobs)),
            None => (None, None, None),
        };
        let place = (lease.chunk, save.at, lease.wf, lease.step);
        self.run(sql, (place.0, place.1, place.2, place.3, &save.body, draft, calls, jobs))?;
        if before.is_none() {
            step.checkpoints += 1;
            self.put_step(step);
        }
        if let Some(draft) = draft.filter(|_| !planted!("what a source has emitted dies with its worker")) {
            self.run("UPDATE draft SET deadline = ?2 WHERE draft = ?1", (draft, KEPT))?;
        }
        match before.flatten().filter(|before| Some(*before) != draft) {
            Some(before) => self.run("UPDATE draft SET deadline = 0 WHERE draft = ?", [before]).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Takes over the draft that a job's checkpoint covers, and cuts what was written behind that.
    pub fn take_draft(&mut self, take: &TakeDraft) -> Result<TakenDraft> {
        let lease = self.lease_that_holds(take.session, take.lease, take.at)?;
        let sql = "SELECT body, draft, calls, jobs FROM checkpoint WHERE chunk = ? AND at = ?";
        let found = self.one(sql, (lease.chunk, take.at), |row| {
            let covered = (row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?, row.get::<_, Option<i64>>(3)?);
            Ok((row.get::<_, Vec<u8>>(0)?, covered))
        })?;
        let Some((body, covered)) = found else { return Ok(TakenDraft::default()) };
        self.count_bytes(body.len());
        let (Some(draft), Some(calls), Some(jobs)) = covered else {
            return Ok(TakenDraft { body: Some(body), ..TakenDraft::default() });
        };
        let sql = "SELECT segment FROM draft WHERE draft = ?";
        let Some(segment) = self.one(sql, [draft], |row| row.get::<_, Option<i64>>(0))?.flatten() else {
            if planted!("a checkpoint counts although what it covers is gone") {
                return Ok(TakenDraft { body: Some(body), ..TakenDraft::default() });
            }
            let at = usize::from(take.at);
            self.forget_checkpoints(lease.wf, lease.step, lease.chunk, Mask::range(at..at + 1))?;
            return Ok(TakenDraft::default());
        };
        let sql = "UPDATE draft SET session = ?2, number = ?3, next = ?4, jobs = ?5, deadline = ?6 WHERE draft = ?1";
        let (session, number) = (take.session.as_bytes().as_slice(), take.draft as i64);
        self.run(sql, (draft, session, number, calls, jobs, KEPT))?;
        let cut =
            if planted!("what was emitted behind a checkpoint is kept") { 0 } else { self.cut_segment(segment, jobs)? };
        Ok(TakenDraft { body: Some(body), calls: calls as u64, jobs: jobs as u64, more: cut == CUT })
    }

    /// Deletes a bite of what a segment has behind its first `jobs` jobs. Nobody has ever run any of it.
    fn cut_segment(&mut self, segment: i64, jobs: i64) -> Result<i64> {
        let sql = "DELETE FROM params WHERE chunk IN \
                   (SELECT chunk FROM chunk WHERE segment = ?1 AND first >= ?2 ORDER BY first LIMIT ?3)";
        self.run(sql, (segment, jobs, CUT))?;
        let sql = "DELETE FROM chunk WHERE segment = ?1 AND first IN \
                   (SELECT first FROM chunk WHERE segment = ?1 AND first >= ?2 ORDER BY first LIMIT ?3)";
        let cut = self.run(sql, (segment, jobs, CUT))?;
        self.run("UPDATE segment SET jobs = ?2 WHERE segment = ?1", (segment, jobs))?;
        Ok(cut as i64)
    }

    /// What a job goes on from.
    pub fn read_checkpoint(&mut self, chunk: ChunkRef, at: u16) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT body FROM checkpoint WHERE chunk = ? AND at = ?";
        let body = self.one(sql, (super::tx::chunk_number(chunk), at), |row| row.get::<_, Vec<u8>>(0))?;
        self.count_bytes(body.as_ref().map_or(0, Vec::len));
        Ok(body)
    }

    /// Jobs of a chunk have settled: they go on from nothing.
    pub fn forget_checkpoints(&mut self, wf: Wf, number: StepNumber, chunk: i64, jobs: Mask) -> Result<()> {
        let mut step = self.step(wf, number)?;
        if step.checkpoints == 0 || jobs.is_empty() || planted!("a checkpoint outlives its job") {
            return Ok(());
        }
        let places = super::create::to_json(&jobs.iter().collect::<Vec<usize>>())?;
        if step.feeds.is_some() && !planted!("what a source has emitted outlives its checkpoint") {
            // A tick collects it; what has been adopted is no draft any more.
            let sql = "UPDATE draft SET deadline = 0 WHERE draft IN \
                       (SELECT draft FROM checkpoint WHERE chunk = ?1 AND at IN (SELECT value FROM json_each(?2)))";
            self.run(sql, (chunk, &places))?;
        }
        let sql = "DELETE FROM checkpoint WHERE chunk = ?1 AND at IN (SELECT value FROM json_each(?2))";
        step.checkpoints -= self.run(sql, (chunk, places))? as i64;
        self.put_step(step);
        Ok(())
    }
}
