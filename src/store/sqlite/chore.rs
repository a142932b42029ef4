//! Chores: what exceeds one operation's bound. Each has a cursor; a bite takes the chore off the list, does its share, and puts it
//! back with the cursor moved, all in one transaction. Ticks of any process go on with them, so a chore outlives who asked for it.

use rusqlite::OptionalExtension;

use super::by_hand::SKIP_ALL;
use super::line::{End, Work};
use super::tx::{Step, Tx, Wf, decided, known, mask};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::{Edge, StepNumber};
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::{Decision, EdgeKind, JobState, StepState, WorkflowState, job_byte};

/// How many chunks a retry looks at in one bite.
const RETRY_CHUNKS: usize = 30;
/// How many rows of a table a deletion takes in one bite.
const DELETE_ROWS: i64 = 400;
/// How many chunks a deletion takes in one bite: each has rows in several tables.
const DELETE_CHUNKS: i64 = 60;
/// From so many statements on a deletion begins with no further segment, and so many it leaves to what follows.
const SOFT_CALLS: u64 = 440;
const HARD_CALLS: u64 = 540;
/// The step of chores that belong to a whole workflow.
const NO_STEP: StepNumber = 0;
/// The argument of chores that discard failed jobs instead of running them again.
pub const DISCARD: i64 = -1;
/// The argument of chores that tell a batch of the death of a job within it.
pub const DEATH_WITHIN: i64 = 1;
/// The argument of chores that repair jobs whose children have been repaired, and no others.
pub const BY_CHILD: i64 = -2;

/// What a chore does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Releases the steps without upstream, from step `cursor` on.
    Roots,
    /// Tells the followers of `step` that it has settled, from step `cursor` on.
    Settled,
    /// Puts the open jobs of `step` into the state `argument`, from job `cursor` on.
    Fill,
    /// Takes every step's work away and cancels it, from step `cursor` on.
    Cancel,
    /// Retries the steps with failed jobs from `cursor` on, each by a `Reopen`; `argument` is `DISCARD` if those are to be discarded.
    Retry,
    /// Takes back what `step` told its followers, from step `cursor` on; then the step is running again, and `RetryJobs` goes on.
    Reopen,
    /// Reopens the failed jobs of `step`, from job `cursor` on; of segment `argument` of mended parameters, if it is not 0.
    RetryJobs,
    /// Opens the jobs of `step` that were cancelled when it failed fast, from job `cursor` on; the last part of a repair, whose `argument` it has.
    Revive,
    /// Takes `step`, and what comes after it, back, so that it runs again; `argument` is 1 if what has run after it does so, too.
    RunAgain,
    /// Releases what `RunAgain` has taken back.
    ReleaseAgain,
    /// Cancels the rest of `step`, which has failed fast, from job `cursor` on.
    StopRest,
    /// Puts the workflow's parked places back, from line `cursor` on.
    Unpark,
    /// The child `argument` of job `cursor` of `step` has finished.
    ChildEnded,
    /// Cancels the children of `step`, from job `cursor` on.
    CancelChildren,
    /// Looks at a batch: `argument` is 1 if a job of one within it has failed for good, and 0 if an operation left to a chore what its own jobs
    /// mean to it.
    Batch,
    /// Deletes the workflow, table after table.
    Delete,
    /// Deletes the segment `argument`, which belongs to no step.
    Drop,
}

impl Kind {
    const ALL: [Kind; 17] = [
        Kind::Roots,
        Kind::Settled,
        Kind::Fill,
        Kind::Cancel,
        Kind::Retry,
        Kind::Reopen,
        Kind::RetryJobs,
        Kind::Revive,
        Kind::RunAgain,
        Kind::ReleaseAgain,
        Kind::StopRest,
        Kind::Unpark,
        Kind::ChildEnded,
        Kind::CancelChildren,
        Kind::Batch,
        Kind::Delete,
        Kind::Drop,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Roots => "start",
            Kind::Settled => "release",
            Kind::Fill => "fill",
            Kind::Cancel => "cancel",
            Kind::Retry => "retry",
            Kind::Reopen => "reopen",
            Kind::RetryJobs => "retry jobs",
            Kind::Revive => "revive",
            Kind::RunAgain => "run again",
            Kind::ReleaseAgain => "release again",
            Kind::StopRest => "stop rest",
            Kind::Unpark => "resume",
            Kind::ChildEnded => "child ended",
            Kind::CancelChildren => "cancel children",
            Kind::Batch => "batch",
            Kind::Delete => "delete",
            Kind::Drop => "drop",
        }
    }

    fn named(name: &str) -> Result<Self> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        kind.ok_or_else(|| Error::corrupt(format!("the store holds a chore of the unknown kind `{name}`")))
    }
}

impl Tx<'_> {
    /// Puts a chore on the list; one that is there already starts from `cursor` again if that is before its own.
    pub fn leave_chore(&mut self, kind: Kind, wf: Wf, step: impl Into<i64>, cursor: i64, argument: i64) -> Result<()> {
        let name = (kind.as_str(), wf, step.into(), cursor, argument);
        let sql =
            "UPDATE chore SET cursor = min(cursor, ?4) WHERE kind = ?1 AND wf = ?2 AND step = ?3 AND argument = ?5";
        let new = self.run(sql, name)? == 0;
        if new {
            let sql = "INSERT INTO chore (turn, kind, wf, step, cursor, argument) \
                       VALUES (coalesce((SELECT max(turn) FROM chore), 0) + 1, ?1, ?2, ?3, ?4, ?5)";
            self.run(sql, name)?;
        }
        if new && wf != 0 {
            let mut workflow = self.workflow(wf)?;
            workflow.chores += 1;
            self.put_workflow(workflow);
        }
        Ok(())
    }

    /// Whether any chore is left.
    pub fn has_chores(&mut self) -> Result<bool> {
        Ok(self.one("SELECT 1 FROM chore WHERE error IS NULL LIMIT 1", [], |_| Ok(()))?.is_some())
    }

    /// Does one bite of the chore whose turn it is. Returns whether there was one. A chore that can never be done is set aside with
    /// its reason, so that it does not stop the others.
    pub fn work_on_chore(&mut self) -> Result<bool> {
        let sql = "SELECT chore, kind, wf, step, cursor, argument FROM chore WHERE error IS NULL ORDER BY turn LIMIT 1";
        let found = self.one(sql, [], |row| {
            let place = (row.get::<_, Wf>(2)?, row.get::<_, i64>(3)?);
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, place, row.get::<_, i64>(4)?, row.get::<_, i64>(5)?))
        })?;
        let Some((chore, kind, (wf, step), cursor, argument)) = found else { return Ok(false) };
        let bite = self.guarded(|tx| {
            tx.run("DELETE FROM chore WHERE chore = ?", [chore])?;
            if wf != 0 {
                let mut workflow = tx.workflow(wf)?;
                workflow.chores -= 1;
                tx.put_workflow(workflow);
                tx.to_finish.insert(wf);
            }
            tx.bite(Kind::named(&kind)?, wf, step, cursor, argument)
        })?;
        if let Err(error) = bite {
            tracing::error!(%error, kind, step, "a chore cannot be done; it is set aside");
            self.run("UPDATE chore SET error = ? WHERE chore = ?", (error.to_string(), chore))?;
        }
        Ok(true)
    }

    fn bite(&mut self, kind: Kind, wf: Wf, step: i64, cursor: i64, argument: i64) -> Result<()> {
        if kind == Kind::Drop {
            return self.drop_bite(argument);
        }
        let step = StepNumber::try_from(step).map_err(|_| Error::corrupt(format!("a chore names step {step}")))?;
        match kind {
            Kind::Roots => self.release_roots(wf, cursor),
            Kind::Settled => self.tell_followers(wf, step, StepNumber::try_from(cursor).unwrap_or(0)),
            Kind::Fill => match self.fill(wf, step, cursor, JobState::of(argument as u8))? {
                Some(next) => self.leave_chore(Kind::Fill, wf, step, next, argument),
                None => Ok(()),
            },
            Kind::Cancel => self.cancel_steps(wf, cursor),
            Kind::Retry => self.retry_steps(wf, cursor, argument),
            Kind::Reopen => self.reopen(wf, step, cursor, argument),
            Kind::RetryJobs => self.retry_jobs(wf, step, cursor, argument),
            Kind::Revive => self.revive(wf, step, cursor, argument),
            Kind::RunAgain => self.run_again_bite(wf, step, argument),
            Kind::ReleaseAgain => self.release_again(wf, step, argument),
            Kind::StopRest => self.stop_rest(wf, step, cursor),
            Kind::Unpark => self.unpark_places(wf, cursor),
            Kind::ChildEnded => self.end_of_child(wf, step, cursor, argument),
            Kind::CancelChildren => self.cancel_children(wf, step, cursor),
            Kind::Batch => self.look_at_batch(wf, argument == DEATH_WITHIN),
            Kind::Delete => self.delete_bite(wf),
            Kind::Drop => Ok(()),
        }
    }

    /// Releases steps without upstream, from step `from` on.
    pub fn release_roots(&mut self, wf: Wf, from: i64) -> Result<()> {
        let sql = "SELECT step FROM step WHERE wf = ? AND step >= ? AND roots = 1 ORDER BY step LIMIT 130";
        for number in self.all(sql, (wf, from), |row| row.get::<_, StepNumber>(0))? {
            if self.is_at_bound() {
                return self.leave_chore(Kind::Roots, wf, NO_STEP, i64::from(number), 0);
            }
            let step = self.step(wf, number)?;
            if step.state == StepState::Waiting && step.decided.is_none() {
                self.act_on_decisions(step)?;
            }
        }
        Ok(())
    }

    /// Takes the work of one step after the other out of the lines and cancels what is not under a lease.
    fn cancel_steps(&mut self, wf: Wf, from: i64) -> Result<()> {
        let sql = "SELECT step FROM step WHERE wf = ? AND step >= ? AND state < 2 ORDER BY step LIMIT 130";
        for number in self.all(sql, (wf, from), |row| row.get::<_, StepNumber>(0))? {
            if self.is_at_bound() {
                return self.leave_chore(Kind::Cancel, wf, NO_STEP, i64::from(number), 0);
            }
            let step = self.step(wf, number)?;
            if step.always && !(step.pending == 0 && step.waits > 0) {
                continue;
            }
            let grace_until = self.workflow(wf)?.grace_until;
            self.shorten_leases(wf, number, grace_until)?;
            if self.clear_lines(wf, number)? {
                return self.leave_chore(Kind::Cancel, wf, NO_STEP, i64::from(number), 0);
            }
            self.released += 1;
            match step.state {
                StepState::Waiting if step.decided.is_none() => self.pass_over(step, Decision::Cancel)?,
                StepState::Running => {
                    self.leave_chore(Kind::Fill, wf, number, 0, JobState::Cancelled as i64)?;
                    if step.children {
                        self.leave_chore(Kind::CancelChildren, wf, number, 0, 0)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The leases of a cancelled step end with the grace at the latest, also those that nobody renews any more.
    pub fn shorten_leases(&mut self, wf: Wf, step: StepNumber, grace_until: Option<Millis>) -> Result<()> {
        if let Some(grace_until) = grace_until.filter(|_| !planted!("a grace binds only who renews")) {
            let sql = "UPDATE lease SET deadline = ?3 WHERE wf = ?1 AND step = ?2 AND deadline > ?3";
            self.run(sql, (wf, step, grace_until))?;
        }
        Ok(())
    }

    /// Removes a bite of a step's entries and timers; returns whether there are more.
    pub fn clear_lines(&mut self, wf: Wf, step: StepNumber) -> Result<bool> {
        let sql = "DELETE FROM timer WHERE (wf, step, due, chunk) IN \
                   (SELECT wf, step, due, chunk FROM timer WHERE wf = ?1 AND step = ?2 LIMIT ?3)";
        let timers = self.run(sql, (wf, step, DELETE_ROWS))?;
        let sql = "DELETE FROM entry WHERE (wf, step, suspect, seq) IN \
                   (SELECT wf, step, suspect, seq FROM entry WHERE wf = ?1 AND step = ?2 LIMIT ?3)";
        let entries = self.run(sql, (wf, step, DELETE_ROWS))?;
        if timers as i64 >= DELETE_ROWS || entries as i64 >= DELETE_ROWS {
            return Ok(true);
        }
        let lines = "DELETE FROM ready WHERE wf = ?1 AND step = ?2 RETURNING line";
        for line in self.all(lines, (wf, step), |row| row.get::<_, i64>(0))? {
            let sql = "DELETE FROM place WHERE line = ?1 AND wf = ?2 AND NOT EXISTS (SELECT 1 FROM ready WHERE line = ?1 AND wf = ?2)";
            self.run(sql, (line, wf))?;
            // A step that is released later in this operation needs a place again.
            self.placed.remove(&(line, wf));
        }
        Ok(false)
    }

    /// Retries the steps that have failed jobs, one after the other.
    fn retry_steps(&mut self, wf: Wf, from: i64, how: i64) -> Result<()> {
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

    /// Begins the retry of one step: of all its failed jobs, or of those with new parameters in segment `mended`.
    pub fn retry_step(&mut self, wf: Wf, step: StepNumber, mended: i64) -> Result<()> {
        self.leave_chore(Kind::Reopen, wf, step, 0, mended)
    }

    /// Takes a step back to running. As long as it counts as settled its followers are told, one bite after the other, to wait for
    /// it again: so none of them is released between its reopening and its new end.
    fn reopen(&mut self, wf: Wf, number: StepNumber, from: i64, mended: i64) -> Result<()> {
        const FOLLOWERS: usize = 80;
        // A step that is being taken back to run again has nothing to retry before it has.
        if self.is_running_again(wf)? && !planted!("a retry comes between the taking back of steps that run again") {
            return self.leave_chore(Kind::Reopen, wf, number, from, mended);
        }
        // What has been taken out of its lines and is not cancelled yet would be in neither.
        if self.is_stopping_rest(wf, number)? && !planted!("a repair comes between the cancelling of a step's rest") {
            return self.leave_chore(Kind::Reopen, wf, number, from, mended);
        }
        let mut step = self.step(wf, number)?;
        if mended == SKIP_ALL && super::again::is_untouched(&step) {
            return self.pass_over(step, Decision::Skip);
        }
        if mended != DISCARD && self.stays_abandoned(&step)? {
            return Ok(());
        }
        if step.state.is_settled() {
            let sql = "SELECT e.down, e.kind, e.decision, d.state >= 2 FROM edge e JOIN step d ON d.wf = e.wf AND d.step = e.down \
                       WHERE e.wf = ?1 AND e.up = ?2 AND e.down >= ?3 AND (d.decided IS NULL \
                       AND (d.state = 0 AND d.released_at IS NULL OR d.state < 2 AND e.kind IN (4, 7)) \
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
                return self.leave_chore(Kind::Reopen, wf, number, i64::from(*last), mended);
            }
            step = self.step(wf, number)?;
            self.back_to_running(step)?;
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

    /// Reopens the failed jobs of a bite of chunks, all of them or those with mended parameters.
    fn retry_jobs(&mut self, wf: Wf, number: StepNumber, from: i64, mended: i64) -> Result<()> {
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
            let jobs = mend.map_or(failed, |mask| failed.and(mask));
            if jobs.is_empty() {
                continue;
            }
            if mended == DISCARD {
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
    fn revive(&mut self, wf: Wf, number: StepNumber, from: i64, mended: i64) -> Result<()> {
        let cancelling = self.workflow(wf)?.state == WorkflowState::Cancelling;
        match if cancelling { None } else { self.revive_rest(wf, number, from)? } {
            Some(next) => self.leave_chore(Kind::Revive, wf, number, next, mended),
            None => self.end_retry(wf, number, mended),
        }
    }

    /// Failed jobs of a chunk end as skipped. A lane keeps nothing for them.
    fn discard_jobs(&mut self, step: &Step, chunk: &super::tx::Chunk, bytes: Vec<u8>, jobs: Mask) -> Result<()> {
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
        self.check_settled(wf, step)
    }

    /// A bite of the chunks that have mended parameters, from row `from` of the table on; what is theirs becomes valid.
    #[allow(clippy::type_complexity)]
    fn mended_chunks(
        &mut self,
        wf: Wf,
        step: StepNumber,
        from: i64,
        segment: i64,
    ) -> Result<(Vec<(super::tx::Chunk, Option<Mask>)>, Option<i64>)> {
        let sql =
            "SELECT mended, chunk, first, jobs FROM mended WHERE segment = ? AND mended > ? ORDER BY mended LIMIT ?";
        let rows = self.all(sql, (segment, from, RETRY_CHUNKS as i64), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, Vec<u8>>(3)?))
        })?;
        let next = (rows.len() == RETRY_CHUNKS).then(|| rows.last().map_or(from, |row| row.0));
        let mut chunks = Vec::with_capacity(rows.len());
        for (row, number, first, jobs) in rows {
            match self.chunk_at(wf, step, first) {
                Ok(chunk) if chunk.chunk == number => {
                    let jobs = mask(&jobs)?;
                    self.replace_mended(number, jobs)?;
                    self.run("UPDATE mended SET segment = NULL WHERE mended = ?", [row])?;
                    chunks.push((chunk, Some(jobs)));
                }
                // Parameters for a chunk that this step does not have mend nothing; they must not stop the others either.
                _ => {
                    self.run("DELETE FROM mended WHERE mended = ?", [row])?;
                }
            }
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

    /// Deletes a bite of a workflow: first what could hand out work, then the data, at last the head.
    fn delete_bite(&mut self, wf: Wf) -> Result<()> {
        if self.delete_some(wf)? { Ok(()) } else { self.leave_chore(Kind::Delete, wf, NO_STEP, 0, 0) }
    }

    /// As much of it as one operation may; returns whether it is gone.
    pub fn delete_some(&mut self, wf: Wf) -> Result<bool> {
        if self.delete_children(wf)? {
            return Ok(false);
        }
        const TABLES: [(&str, &str); 12] = [
            ("lease", "session, number"),
            ("entry", "wf, step, suspect, seq"),
            ("ready", "line, wf, step"),
            ("place", "line, wf"),
            ("timer", "wf, step, due, chunk"),
            ("hold", "wf, step, name"),
            ("again", "wf, step"),
            ("error", "wf, step, number"),
            ("edge", "wf, up, down, kind"),
            ("checkpoint", "chunk, at"),
            ("emitted", "chunk, at"),
            ("awaited", "wf, step"),
        ];
        for (table, key) in
            TABLES.into_iter().filter(|(table, _)| *table != "edge" || !planted!("a deletion leaves edges"))
        {
            let sql =
                format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE wf = ?1 LIMIT ?2)");
            if self.run(&sql, (wf, DELETE_ROWS))? as i64 >= DELETE_ROWS {
                return Ok(false);
            }
        }
        let sql = "SELECT segment FROM segment WHERE wf = ? LIMIT 1";
        while let Some(segment) = self.one(sql, [wf], |row| row.get::<_, i64>(0))? {
            if !self.drop_chunks(segment)? || self.cost().calls > SOFT_CALLS {
                return Ok(false);
            }
        }
        let sql = "DELETE FROM step WHERE (wf, step) IN (SELECT wf, step FROM step WHERE wf = ?1 LIMIT ?2)";
        if self.run(sql, (wf, DELETE_ROWS))? as i64 >= DELETE_ROWS {
            return Ok(false);
        }
        self.run("DELETE FROM chore WHERE wf = ?", [wf])?;
        self.run("DELETE FROM workflow WHERE wf = ?", [wf])?;
        self.forget_workflow(wf);
        Ok(true)
    }

    /// Deletes a bite of a segment that nobody owns.
    fn drop_bite(&mut self, segment: i64) -> Result<()> {
        let sql = "DELETE FROM mended WHERE mended IN (SELECT mended FROM mended WHERE segment = ?1 LIMIT ?2)";
        let mended = self.run(sql, (segment, DELETE_CHUNKS))?;
        if mended as i64 >= DELETE_CHUNKS || !self.drop_chunks(segment)? {
            // A segment's number serves as its chore's step: the list knows one chore by kind, workflow and step.
            return self.leave_chore(Kind::Drop, 0, segment, 0, segment);
        }
        Ok(())
    }

    /// Deletes some chunks of a segment, and the segment once it has none; returns whether it is gone.
    fn drop_chunks(&mut self, segment: i64) -> Result<bool> {
        let sql = "SELECT first, chunk FROM chunk WHERE segment = ? LIMIT ?";
        // A chunk costs seven statements; the operation may have done much before.
        let room = ((HARD_CALLS.saturating_sub(self.cost().calls) / 7) as i64).clamp(1, DELETE_CHUNKS);
        let chunks = self.all(sql, (segment, room), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        for (first, chunk) in &chunks {
            for table in ["params", "bytes", "recovered", "outcome", "failed", "mended"] {
                let adopted = if table == "mended" { " AND segment IS NULL" } else { "" };
                self.run(&format!("DELETE FROM {table} WHERE chunk = ?1{adopted}"), [chunk])?;
            }
            self.run("DELETE FROM chunk WHERE segment = ? AND first = ?", (segment, first))?;
        }
        if (chunks.len() as i64) < room {
            self.run("DELETE FROM segment WHERE segment = ?", [segment])?;
            return Ok(true);
        }
        Ok(false)
    }
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

/// Whether a step has a chore on it, for people who ask why it waits.
pub fn chore_of(conn: &rusqlite::Connection, wf: Wf, step: StepNumber) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT kind || coalesce(' (set aside: ' || error || ')', '') FROM chore WHERE wf = ?1 AND (step = ?2 OR kind IN ('start', 'cancel', 'retry', 'run again', 'release again')) LIMIT 1";
    conn.prepare_cached(sql)?.query_row((wf, step), |row| row.get(0)).optional()
}
