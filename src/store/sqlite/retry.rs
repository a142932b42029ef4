//! Retries, and all that repairs begin with: a settled step is taken back to running, then its failed jobs are reopened, chunk by chunk.

use super::by_hand::SKIP_ALL;
use super::chore::{BY_CHILD, DISCARD, Kind, NO_STEP, SOFT_CALLS};
use super::line::{End, Work};
use super::tx::{Chunk, Step, Tx, Wf, chained_chunk, decided, known, mask};
use crate::error::Result;
use crate::graph::{Edge, StepNumber};
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::{Decision, EdgeKind, JobState, WorkflowState, job_byte};

/// How many chunks a retry looks at in one bite.
const RETRY_CHUNKS: usize = 30;

impl Tx<'_> {
    /// Retries the steps that have failed jobs, one after the other.
    pub fn retry_steps(&mut self, wf: Wf, from: i64, how: i64) -> Result<()> {
        const STEPS: usize = 60;
        let sql = "SELECT step FROM step WHERE wf = ?1 AND step >= ?2 AND failed > 0 ORDER BY step LIMIT ?3";
        let steps = self.all(sql, (wf, from, STEPS as i64), |row| row.get::<_, StepNumber>(0))?;
        for number in &steps {
            self.retry_step(wf, *number, how)?;
        }
        match steps.last() {
            Some(last) if steps.len() == STEPS => self.leave_chore(Kind::Retry, wf, NO_STEP, i64::from(*last) + 1, how),
            _ => Ok(()),
        }
    }

    /// Begins the retry of one step: of all its failed jobs, or of those that segment `mended` names.
    pub fn retry_step(&mut self, wf: Wf, step: StepNumber, mended: i64) -> Result<()> {
        self.leave_chore(Kind::Reopen, wf, step, 0, mended)
    }

    /// Takes a step back to running. As long as it counts as settled its followers are told, one bite after the other, to wait for
    /// it again: so none of them is released between its reopening and its new end.
    pub fn reopen(&mut self, wf: Wf, number: StepNumber, from: i64, mended: i64) -> Result<()> {
        // A step that is being taken back to run again has nothing to retry before it has.
        if self.is_running_again(wf)? && !planted!("a retry comes between the taking back of steps that run again") {
            return self.leave_chore(Kind::Reopen, wf, number, from, mended);
        }
        // What has been taken out of its lines and is not cancelled yet would be in neither.
        if self.is_stopping_rest(wf, number)? && !planted!("a repair comes between the cancelling of a step's rest") {
            return self.leave_chore(Kind::Reopen, wf, number, from, mended);
        }
        let step = self.step(wf, number)?;
        if mended == SKIP_ALL && super::again::is_untouched(&step) {
            return self.pass_over(step, Decision::Skip);
        }
        if mended != DISCARD && self.stays_abandoned(&step)? {
            return Ok(());
        }
        if step.state.is_settled() {
            if can_succeed(mended) && self.reopens_behind(&step)? {
                return self.leave_chore(Kind::Reopen, wf, number, from, mended);
            }
            if let Some(next) = self.take_back_to_running(wf, number, from)? {
                return self.leave_chore(Kind::Reopen, wf, number, next, mended);
            }
        }
        self.forgive(wf, number)?;
        let step = self.step(wf, number)?;
        self.rouse(step)?;
        // Nothing may settle the step between two bites.
        if !planted!("a repair lets its step settle") {
            let sql = "INSERT INTO hold VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
            self.run(sql, (wf, number, hold_name(mended)))?;
        }
        self.leave_chore(Kind::RetryJobs, wf, number, 0, mended)
    }

    /// Tells the followers of a settled step, from step `from` on, to wait for it again; then it is running. Returns where to go on with that.
    pub fn take_back_to_running(&mut self, wf: Wf, number: StepNumber, from: i64) -> Result<Option<i64>> {
        const FOLLOWERS: usize = 80;
        let sql = "SELECT e.down, e.kind, e.decision, d.state >= 2 FROM edge e JOIN step d ON d.wf = e.wf AND d.step = e.down \
                   WHERE e.wf = ?1 AND e.up = ?2 AND e.down >= ?3 AND (d.decided IS NULL \
                   AND (d.state = 0 AND d.released_at IS NULL OR d.state < 2 AND e.kind IN (4, 7, 9)) \
                   OR d.state >= 2 AND d.released_at IS NOT NULL AND e.kind NOT IN (4, 7)) ORDER BY e.down, e.kind LIMIT ?4";
        let edges = self.all(sql, (wf, number, from, FOLLOWERS as i64), |row| {
            let edge = (row.get::<_, StepNumber>(0)?, row.get::<_, u8>(1)?, row.get::<_, Option<u8>>(2)?);
            Ok((edge, row.get::<_, bool>(3)?))
        })?;
        for ((down, kind, decision), has_run) in
            edges.iter().filter(|_| !planted!("a repair does not take back what followed"))
        {
            if *has_run {
                let mut follower = self.step(wf, *down)?;
                follower.outdated = !planted!("what has run before a repair does not say that it is older");
                self.put_step(follower);
                continue;
            }
            let kind = known(EdgeKind::from_u8(*kind), "edge kind", *kind)?;
            self.redecide(wf, Edge { up: number, down: *down, kind }, decided(*decision)?, None)?;
        }
        if let Some(((last, ..), _)) = edges.last().filter(|_| edges.len() == FOLLOWERS) {
            return Ok(Some(i64::from(*last)));
        }
        let step = self.step(wf, number)?;
        let step = self.back_to_running(step)?;
        self.drop_hold_behind(&step)?;
        Ok(None)
    }

    /// Reopens the failed jobs of a bite of chunks, all of them or those that are named.
    pub fn retry_jobs(&mut self, wf: Wf, number: StepNumber, from: i64, mended: i64) -> Result<()> {
        if self.workflow(wf)?.state == WorkflowState::Cancelling {
            if mended > 0 {
                self.leave_chore(Kind::Drop, 0, mended, 0, mended)?;
            }
            return self.end_retry(wf, number, mended);
        }
        if mended <= SKIP_ALL {
            let next = self.decide_some(wf, number, from, mended)?;
            return self.retry_on(wf, number, next, mended);
        }
        let (chunks, mut next) = if mended <= 0 {
            let chunks = self.chunks_from(wf, number, from, RETRY_CHUNKS)?;
            let next = (chunks.len() == RETRY_CHUNKS).then(|| chunks.last().map_or(0, |c| c.first + c.jobs as i64));
            (chunks.into_iter().map(|chunk| (chunk, None)).collect(), next)
        } else {
            self.mended_chunks(wf, number, from, mended)?
        };
        let step = self.step(wf, number)?;
        for (chunk, mend) in chunks {
            if mended <= 0 && self.cost().calls + self.calls_at_end() >= SOFT_CALLS {
                next = Some(chunk.first);
                break;
            }
            let mut bytes = self.bytes(chunk.chunk, chunk.jobs)?;
            let failed = (0..chunk.jobs).filter(|at| JobState::of(bytes[*at]) == JobState::Failed).collect::<Mask>();
            let all_of_chunk = planted!("a retry of some jobs runs all that failed beside them");
            let jobs = mend.filter(|_| !all_of_chunk).map_or(failed, |mask| failed.and(mask));
            if jobs.is_empty() {
                continue;
            }
            if mended == DISCARD && !planted!("what is given up runs again") {
                self.discard_jobs(&step, &chunk, bytes, jobs)?;
                continue;
            }
            if step.awaits {
                self.forget_failed(wf, number, chunk.chunk, jobs)?;
                self.wait_anew(&step, &chunk, bytes)?;
                continue;
            }
            let all = jobs;
            let jobs = match step.children {
                true => self.wait_for_repaired_children(&step, &chunk, &mut bytes, (jobs, mended))?,
                false => jobs,
            };
            // Those whose children have not been repaired stay as they are, if nothing else was asked for.
            let jobs = if mended == BY_CHILD { Mask::EMPTY } else { jobs };
            let waits = self.wait_for_their_turn(&step, chunk.chunk, jobs)?;
            let ready = jobs.minus(waits);
            // A repair gives a new set of attempts.
            for (jobs, to) in [(ready, JobState::Open), (waits, JobState::Deferred)] {
                jobs.iter().for_each(|at| bytes[at] = job_byte(to, 0));
                self.shift(wf, number, JobState::Failed, to, jobs.len() as u64)?;
            }
            self.put_bytes(chunk.chunk, &bytes)?;
            let repaired = all.iter().filter(|at| JobState::of(bytes[*at]) != JobState::Failed).collect();
            self.forget_failed(wf, number, chunk.chunk, repaired)?;
            if !ready.is_empty() {
                let work = Work::Masked { chunk: chunk.chunk, first: chunk.first, jobs: ready };
                self.enqueue(&step, &work, End::Back, false, 0, 0)?;
            }
        }
        self.retry_on(wf, number, next, mended)
    }

    /// Goes on with the failed jobs of a step, or with what comes after them.
    fn retry_on(&mut self, wf: Wf, number: StepNumber, next: Option<i64>, mended: i64) -> Result<()> {
        match next {
            Some(next) => self.leave_chore(Kind::RetryJobs, wf, number, next, mended),
            None if self.has_rest_to_revive(wf, number)? => self.leave_chore(Kind::Revive, wf, number, 0, mended),
            None => self.end_retry(wf, number, mended),
        }
    }

    /// The rest of a step that failed fast comes back as the last part of its repair.
    pub fn revive(&mut self, wf: Wf, number: StepNumber, from: i64, mended: i64) -> Result<()> {
        let cancelling = self.workflow(wf)?.state == WorkflowState::Cancelling;
        match if cancelling { None } else { self.revive_rest(wf, number, from)? } {
            Some(next) => self.leave_chore(Kind::Revive, wf, number, next, mended),
            None => self.end_retry(wf, number, mended),
        }
    }

    /// Failed jobs of a chunk end as skipped. A lane keeps nothing for them.
    fn discard_jobs(&mut self, step: &Step, chunk: &Chunk, bytes: Vec<u8>, jobs: Mask) -> Result<()> {
        let (wf, number) = (step.wf, step.step);
        let is_of_use = |at: usize| !jobs.contains(at) && JobState::of(bytes[at]) != JobState::Skipped;
        let of_no_use = self.is_lane(wf)? && !(0..chunk.jobs).any(is_of_use);
        self.forget_failed(wf, number, chunk.chunk, jobs)?;
        self.settle_jobs(wf, number, (chunk.chunk, chunk.first), bytes, jobs, JobState::Skipped)?;
        if of_no_use {
            let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
            self.drop_chunk(step, chunk.chunk, chunk.first, &bytes)?;
        }
        Ok(())
    }

    fn end_retry(&mut self, wf: Wf, step: StepNumber, mended: i64) -> Result<()> {
        self.run("DELETE FROM hold WHERE wf = ? AND step = ? AND name = ?", (wf, step, hold_name(mended)))?;
        let of = self.step(wf, step)?;
        if of.is_chained() {
            self.leave_behind(&of)?;
        }
        self.check_settled(wf, step)
    }

    /// A bite of the chunks of which jobs have been named, from row `from` of the table on; the mended parameters of those become valid.
    #[allow(clippy::type_complexity)]
    fn mended_chunks(
        &mut self,
        wf: Wf,
        step: StepNumber,
        from: i64,
        segment: i64,
    ) -> Result<(Vec<(Chunk, Option<Mask>)>, Option<i64>)> {
        let sql = "SELECT mended, chunk, first, jobs, body <> x'' FROM mended WHERE segment = ? AND mended > ? ORDER BY mended LIMIT ?";
        let rows = self.all(sql, (segment, from, RETRY_CHUNKS as i64), |row| {
            let of = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            Ok((of, row.get::<_, Vec<u8>>(3)?, row.get::<_, bool>(4)?))
        })?;
        let next = (rows.len() == RETRY_CHUNKS).then(|| rows.last().map_or(from, |row| row.0.0));
        let mut chunks = Vec::with_capacity(rows.len());
        for ((row, number, first), jobs, has_parameters) in rows {
            // Parameters for a chunk that this step does not have mend nothing; they must not stop the others either.
            let chunk = self.chunk_at(wf, step, first).ok().filter(|chunk| chained_chunk(chunk.chunk, 0) == number);
            let jobs = mask(&jobs)?;
            // Jobs of a chained step have none of their own.
            if chunk.as_ref().is_some_and(|chunk| chunk.chunk == number) && has_parameters {
                self.replace_mended(number, jobs)?;
                self.run("UPDATE mended SET segment = NULL WHERE mended = ?", [row])?;
            } else {
                self.run("DELETE FROM mended WHERE mended = ?", [row])?;
            }
            chunks.extend(chunk.map(|chunk| (chunk, Some(jobs))));
        }
        if next.is_none() {
            self.run("DELETE FROM segment WHERE segment = ?", [segment])?;
        }
        Ok((chunks, next))
    }

    /// Deletes the earlier mended parameters of a chunk that are all replaced by those of `jobs`.
    fn replace_mended(&mut self, chunk: i64, jobs: Mask) -> Result<()> {
        let sql = "SELECT mended, jobs FROM mended WHERE chunk = ? AND segment IS NULL";
        let earlier = self.all(sql, [chunk], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mut replaced = Vec::new();
        for (row, of) in earlier {
            if mask(&of)?.is_within(jobs) {
                replaced.push(row);
            }
        }
        if !replaced.is_empty() {
            let sql = "DELETE FROM mended WHERE mended IN (SELECT value FROM json_each(?))";
            self.run(sql, [super::create::to_json(&replaced)?])?;
        }
        Ok(())
    }
}

/// Whether a repair may let jobs succeed that have not.
fn can_succeed(mended: i64) -> bool {
    mended != DISCARD && (mended > SKIP_ALL || super::by_hand::replaces(mended))
}

/// The hold of a retry: each has its own, so that the end of one does not let the step settle under another.
fn hold_name(mended: i64) -> String {
    match mended {
        DISCARD => "discard".to_owned(),
        0 => "retry".to_owned(),
        BY_CHILD => "child".to_owned(),
        by_hand if by_hand <= SKIP_ALL => super::by_hand::hold_name(by_hand),
        mended => format!("retry {mended}"),
    }
}
