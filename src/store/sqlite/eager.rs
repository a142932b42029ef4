//! Eager sources: what they emit is there at once, and stays. A row a source says how many jobs that is and where the last one stands, so that
//! the next attempt goes on behind it: of several sources that feed one step the jobs lie among each other.

use super::tx::{Step, Tx};
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::planted::planted;
use crate::state::WorkflowState;
use crate::store::{Adopt, Adopted, ChunkRef, Emitted};

impl Tx<'_> {
    /// Adds what a source under a lease has emitted to the step that it feeds.
    pub fn adopt_eagerly(&mut self, adopt: &Adopt) -> Result<Adopted> {
        adopt.check()?;
        let lease = self.lease_that_holds(adopt.session, adopt.lease, adopt.at)?;
        let source = self.step(lease.wf, lease.step)?;
        let feeds = source.feeds.ok_or_else(|| Error::usage("a job that is no source emits jobs"))?;
        let fed = self.step(lease.wf, feeds)?;
        let cancelling = self.workflow(lease.wf)?.state == WorkflowState::Cancelling && !fed.always;
        if self.stops(&source)? || cancelling || fed.decided.is_some() {
            return Ok(Adopted { cancelled: true, ..Adopted::default() });
        }
        let stored = self.emitted_by(lease.chunk, adopt.at)?.map_or(0, |(jobs, _)| jobs);
        let mut stored = stored as u64;
        if !adopt.chunks.is_empty() && (adopt.is_new(stored)? || planted!("an eager source's rows are adopted twice")) {
            refuse_settled(&fed)?;
            let last = self.add_emitted(&fed, adopt)?;
            stored += adopt.jobs();
            let sql = "INSERT INTO emitted (chunk, at, wf, step, jobs, last) VALUES (?, ?, ?, ?, ?, ?) \
                       ON CONFLICT DO UPDATE SET jobs = excluded.jobs, last = excluded.last";
            self.run(sql, (lease.chunk, adopt.at, lease.wf, lease.step, stored as i64, last))?;
        }
        let unfinished = self.step(lease.wf, feeds)?.jobs.unsettled();
        Ok(Adopted { stored, unfinished, cancelled: false, woken: self.wake()? })
    }

    /// Adds chunks to the end of a step that is fed; returns the last one's number.
    fn add_emitted(&mut self, fed: &Step, adopt: &Adopt) -> Result<i64> {
        let (wf, number, first) = (fed.wf, fed.step, fed.jobs.total as i64);
        let sql = "SELECT segment, first, jobs FROM segment WHERE wf = ? AND step = ? ORDER BY first DESC LIMIT 1";
        let there = self
            .one(sql, (wf, number), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
        let (segment, before) = match there {
            Some((segment, begins, jobs)) if begins + jobs == first => (segment, jobs),
            Some((segment, ..)) => return Err(Error::corrupt(format!("segment {segment} does not end with its step"))),
            None => {
                let sql = "INSERT INTO segment (wf, step, first, jobs) VALUES (?, ?, ?, 0)";
                self.run(sql, (wf, number, first))?;
                (self.inserted(), 0)
            }
        };
        let (mut jobs, mut last) = (before, 0);
        for chunk in &adopt.chunks {
            last = self.add_chunk(segment, jobs, chunk)?;
            jobs += i64::from(chunk.jobs);
        }
        self.run("UPDATE segment SET jobs = ?2 WHERE segment = ?1", (segment, jobs))?;
        self.jobs_came(wf, number, first, jobs - before)?;
        Ok(last)
    }

    /// How many jobs are stored of an eager source, and the chunk that ends with the last.
    fn emitted_by(&mut self, chunk: i64, at: u16) -> Result<Option<(i64, i64)>> {
        self.one("SELECT jobs, last FROM emitted WHERE chunk = ? AND at = ?", (chunk, at), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    /// What is stored of an eager source.
    pub fn read_emitted(&mut self, chunk: ChunkRef, at: u16) -> Result<Emitted> {
        let Some((jobs, last)) = self.emitted_by(chunk.id as i64, at)? else { return Ok(Emitted::default()) };
        let body = self.one("SELECT body FROM params WHERE chunk = ?", [last], |row| row.get::<_, Vec<u8>>(0))?;
        let body =
            body.ok_or_else(|| Error::corrupt(format!("chunk {last}, with the last job of a source, is missing")))?;
        self.count_bytes(body.len());
        Ok(Emitted { jobs: jobs as u64, last: Some(body) })
    }

    /// Sources of these chunks, a list as JSON, run again: what they have emitted is taken out of the step that they feed.
    pub fn forget_emitted(&mut self, chunks: &str) -> Result<()> {
        if planted!("an eager source that runs again goes on where it was") {
            return Ok(());
        }
        self.run("DELETE FROM emitted WHERE chunk IN (SELECT value FROM json_each(?))", [chunks]).map(|_| ())
    }
}

fn refuse_settled(fed: &Step) -> Result<()> {
    if fed.state.is_settled() {
        return Err(Error::refused(too_late(fed.step)));
    }
    Ok(())
}

/// Nobody waits for the jobs of a source any more.
pub fn too_late(step: StepNumber) -> String {
    format!(
        "step {step} of this workflow has settled: no jobs can be added to it any more; `start-again` runs the workflow anew"
    )
}
