//! Element-wise chains: a step whose jobs go on from those of the step before it, one to one.
//!
//! ```text
//! predecessor   job 7 succeeds ──────────────────► its step settles within its tolerance, job 8 has failed
//!                    │ hand on: an entry                          │ skip behind: a chore
//! chained step  job 7 goes into its line            job 8 is skipped, until job 8 before it succeeds after all
//! ```
//!
//! Such a step has the chunks of the first step of its chain, under numbers of its own (`tx::chained_chunk`), and needs no rows for them. An
//! entry is made in the operation that reports the predecessor's jobs; while the step has not been released its entries are in no line.
//! `Step::early` counts its settled jobs whose predecessors have not succeeded: with it the counters say how many of its jobs can move.

use super::chore::Kind;
use super::line::{End, Work};
use super::tx::{Chunk, Step, Tx, Wf, chained_chunk};
use crate::error::Result;
use crate::graph::StepNumber;
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::{Decision, JobState, StepState, WorkflowState, job_byte};

/// How many chunks are skipped behind others at once.
const CHUNKS: usize = 60;
/// The hold of a settled step whose predecessor is about to be repaired.
const HOLD: &str = "chain";

impl Tx<'_> {
    /// How many jobs of a step have all that they need of their predecessors, and have not settled.
    pub fn going(&mut self, step: &Step) -> Result<u64> {
        let Some(up) = step.follows else { return Ok(step.jobs.unsettled()) };
        let succeeded = self.step(step.wf, up)?.jobs.succeeded;
        Ok((succeeded + step.early.max(0) as u64).saturating_sub(step.jobs.settled()))
    }

    /// Jobs of a step that could be handed out now, or are in a line already.
    pub fn ready_jobs(&mut self, step: &Step) -> Result<u64> {
        let waiting = step.jobs.retrying + step.jobs.deferred + step.leased.max(0) as u64;
        Ok(self.going(step)?.saturating_sub(waiting))
    }

    /// The jobs of a chunk of a chained step whose predecessors have succeeded.
    pub fn succeeded_before(&mut self, step: &Step, chunk: &Chunk) -> Result<Mask> {
        let Some(up) = step.follows else { return Ok(Mask::range(0..chunk.jobs)) };
        let before = self.bytes_before(step.wf, up, chunk)?;
        Ok((0..chunk.jobs).filter(|at| JobState::of(before[*at]) == JobState::Succeeded).collect())
    }

    /// The bytes of the step before a chained one, of the chunk that both have.
    fn bytes_before(&mut self, wf: Wf, up: StepNumber, chunk: &Chunk) -> Result<Vec<u8>> {
        let is_chained = self.step(wf, up)?.is_chained();
        self.bytes(chained_chunk(chunk.chunk, if is_chained { up } else { 0 }), chunk.jobs)
    }

    /// Counts jobs of a chained step that have settled, or have not any more, although their predecessors have not succeeded.
    pub fn count_early(&mut self, step: &Step, chunk: &Chunk, jobs: Mask, by: i64) -> Result<()> {
        if !step.is_chained() || step.decided.is_some() || jobs.is_empty() {
            return Ok(());
        }
        let early = jobs.minus(self.succeeded_before(step, chunk)?);
        let mut step = self.step(step.wf, step.step)?;
        step.early += by * early.len() as i64;
        self.put_step(step);
        Ok(())
    }

    /// Jobs of a chunk of a step have succeeded: those that are chained to them go into their line.
    pub fn hand_on(&mut self, wf: Wf, up: StepNumber, chunk: &Chunk, jobs: Mask) -> Result<()> {
        let Some(number) = self.step(wf, up)?.leads.filter(|_| !jobs.is_empty()) else { return Ok(()) };
        let mut step = self.step(wf, number)?;
        let cancelling = self.workflow(wf)?.state == WorkflowState::Cancelling && !step.always;
        if cancelling || step.decided.is_some() || step.state.is_settled() {
            return Ok(());
        }
        let chunk = chunk.of(number);
        let mut ready = jobs;
        if step.early > 0 {
            ready = self.bring_back(&step, &chunk, jobs)?;
            step = self.step(wf, number)?;
        }
        // The chore that cancels the rest of it comes to these, too.
        if ready.is_empty() || step.is_failing_fast() {
            return Ok(());
        }
        if step.released_at.is_some() {
            let step = self.rouse(step)?;
            if step.delay > 0 {
                return self.put_off(&step, &chunk, ready);
            }
            self.put_behind(&step, &chunk, ready)?;
            return self.line_up(step.line, &step);
        }
        if self.is_taken_back_before(&step, &chunk)? {
            self.put_behind(&step, &chunk, ready)?;
        }
        if step.may_begin() && !planted!("a chained step waits for the whole of its predecessor") {
            self.release(step)?;
        }
        Ok(())
    }

    /// Of jobs whose predecessors have succeeded after all: those that were skipped for these are open again. Returns those that are open.
    fn bring_back(&mut self, step: &Step, chunk: &Chunk, jobs: Mask) -> Result<Mask> {
        let mut bytes = self.bytes(chunk.chunk, chunk.jobs)?;
        let of = |bytes: &[u8], is: fn(JobState) -> bool| {
            jobs.iter().filter(|at| is(JobState::of(bytes[*at]))).collect::<Mask>()
        };
        let settled = of(&bytes, JobState::is_settled);
        let back = of(&bytes, |state| state == JobState::SkippedByPredecessor);
        let back = if planted!("an element is skipped for good") { Mask::EMPTY } else { back };
        if !back.is_empty() {
            back.iter().for_each(|at| bytes[at] = job_byte(JobState::Open, 0));
            self.put_bytes(chunk.chunk, &bytes)?;
            self.shift(step.wf, step.step, JobState::SkippedByPredecessor, JobState::Open, back.len() as u64)?;
        }
        let mut step = self.step(step.wf, step.step)?;
        step.early -= settled.len() as i64;
        self.put_step(step);
        Ok(jobs.minus(settled.minus(back)))
    }

    /// Jobs of a step with a delay go into its line after that.
    fn put_off(&mut self, step: &Step, chunk: &Chunk, jobs: Mask) -> Result<()> {
        let mut bytes = self.bytes(chunk.chunk, chunk.jobs)?;
        jobs.iter().for_each(|at| bytes[at] = job_byte(JobState::Deferred, 0));
        self.put_bytes(chunk.chunk, &bytes)?;
        self.shift(step.wf, step.step, JobState::Open, JobState::Deferred, jobs.len() as u64)?;
        self.set_timer(step, self.now.saturating_add(step.delay), chunk.chunk, chunk.first, jobs)
    }

    /// Makes an entry of jobs of a chained step, or adds them to its last one, if that is of the same chunk. It is in a line once the step is.
    pub fn put_behind(&mut self, step: &Step, chunk: &Chunk, jobs: Mask) -> Result<()> {
        let sql = "SELECT seq, jobs FROM (SELECT seq, chunk, jobs, recoveries, published FROM entry WHERE wf = ?1 AND step = ?2 AND suspect = 0 \
                   ORDER BY seq DESC LIMIT 1) WHERE chunk = ?3 AND recoveries = 0 AND published = 0";
        let last = self.one(sql, (step.wf, step.step, chunk.chunk), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        if let Some((seq, there)) = last {
            let jobs = jobs.or(super::tx::mask(&there)?).to_bytes();
            self.run(
                "UPDATE entry SET jobs = ?4 WHERE wf = ?1 AND step = ?2 AND suspect = 0 AND seq = ?3",
                (step.wf, step.step, seq, jobs),
            )?;
            return Ok(());
        }
        let work = Work::Masked { chunk: chunk.chunk, first: chunk.first, jobs };
        self.put_entry(step, &work, End::Back, false, 0, 0)
    }

    /// A chained step has been released: what it has entries for goes into its line, after its delay.
    pub fn begin_behind(&mut self, step: &Step) -> Result<()> {
        let sql = "SELECT 1 FROM entry WHERE wf = ? AND step = ? AND suspect = 0 LIMIT 1";
        if self.one(sql, (step.wf, step.step), |_| Ok(()))?.is_none() {
            return Ok(());
        }
        if step.delay > 0 {
            return self.set_timer(step, self.now.saturating_add(step.delay), 0, 0, Mask::EMPTY);
        }
        self.line_up(step.line, step)
    }

    /// What more jobs of the first step of a chain mean for the steps behind it: they have as many more.
    pub fn lengthen_chain(&mut self, wf: Wf, mut leads: Option<StepNumber>, first: i64, jobs: i64) -> Result<()> {
        while let Some(number) = leads {
            let (mut step, mut workflow) = (self.step(wf, number)?, self.workflow(wf)?);
            step.jobs.total = step.jobs.total.saturating_add_signed(jobs);
            workflow.jobs.total = workflow.jobs.total.saturating_add_signed(jobs);
            self.put_step(step);
            self.put_workflow(workflow);
            // A chain goes on to later steps: one that is damaged must not go round.
            leads = step.leads.filter(|next| *next > number);
            let cancelling = workflow.state == WorkflowState::Cancelling && !step.always;
            // What has been passed over stays so, however long it grows.
            let ends = match step.decided {
                _ if jobs < 0 => None,
                Some(Decision::Skip) => Some((Kind::Fill, JobState::Skipped as i64)),
                Some(_) => Some((Kind::Fill, JobState::Cancelled as i64)),
                None if cancelling => Some((Kind::Fill, JobState::Cancelled as i64)),
                None if step.is_failing_fast() => Some((Kind::StopRest, 0)),
                None => None,
            };
            if let Some((kind, argument)) = ends {
                self.leave_chore(kind, wf, number, first, argument)?;
            }
        }
        Ok(())
    }

    /// Leaves a chore for jobs of a chained step that have nothing to go on from: those before them have settled otherwise, and their step
    /// has succeeded nevertheless. As long as the step waits for something else, too, that may skip all of it.
    pub fn leave_behind(&mut self, step: &Step) -> Result<()> {
        let begun = step.released_at.is_some() && step.decided.is_none() && !step.state.is_settled();
        let Some(up) = step.follows.filter(|_| begun) else { return Ok(()) };
        let up = self.step(step.wf, up)?;
        let has_some = step.jobs.unsettled() > self.going(step)?;
        if up.state == StepState::Succeeded && has_some && !planted!("an element waits for ever for what has failed") {
            self.leave_chore(Kind::SkipBehind, step.wf, step.step, 0, 0)?;
        }
        Ok(())
    }

    /// Skips a bite of these, from job `from` on; returns where to go on.
    pub fn skip_behind(&mut self, wf: Wf, number: StepNumber, from: i64) -> Result<Option<i64>> {
        let step = self.step(wf, number)?;
        let Some(up) = step.follows else { return Ok(None) };
        // When its predecessor has been repaired, the end of that looks again; its own release does, too.
        let is_over = self.step(wf, up)?.state != StepState::Succeeded || step.released_at.is_none();
        // And so does the end of its being taken back to run again.
        let sql = "SELECT 1 FROM again WHERE wf = ? AND step = ?";
        let is_over = is_over || self.one(sql, (wf, number), |_| Ok(()))?.is_some();
        if is_over || step.decided.is_some() || step.state.is_settled() {
            return Ok(None);
        }
        let chunks = self.chunks_from(wf, number, from, CHUNKS)?;
        for chunk in &chunks {
            let before = self.bytes_before(wf, up, chunk)?;
            let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
            let ended =
                |at: usize| JobState::of(before[at]).is_settled() && JobState::of(before[at]) != JobState::Succeeded;
            let jobs: Mask =
                (0..chunk.jobs).filter(|at| ended(*at) && JobState::of(bytes[*at]) == JobState::Open).collect();
            self.settle_jobs(wf, number, (chunk.chunk, chunk.first), bytes, jobs, JobState::SkippedByPredecessor)?;
            let mut step = self.step(wf, number)?;
            step.early += jobs.len() as i64;
            self.put_step(step);
        }
        let next = (chunks.len() == CHUNKS).then(|| chunks.last().map_or(0, |last| last.first + last.jobs as i64));
        if next.is_none() {
            self.check_settled(wf, number)?;
        }
        Ok(next)
    }

    /// A chained step of which nothing can move rests, if the step before it cannot move either, until that has been repaired.
    pub fn rest_behind(&mut self, step: Step) -> Result<()> {
        let Some(up) = step.follows.filter(|_| step.state == StepState::Running && step.decided.is_none()) else {
            return Ok(());
        };
        let stands = matches!(self.step(step.wf, up)?.state, StepState::Waiting | StepState::Failed);
        let cancelling = self.workflow(step.wf)?.state == WorkflowState::Cancelling;
        let goes_on = planted!("a chained step does not rest with its predecessor");
        if !stands || cancelling || goes_on || self.going(&step)? > 0 || self.is_held(step.wf, step.step)? {
            return Ok(());
        }
        self.rest(step)
    }

    /// Whether a settled step behind one that is to be repaired has jobs that may come back by that: then it is reopened first, and the last one
    /// of the chain first of all.
    pub fn reopens_behind(&mut self, step: &Step) -> Result<bool> {
        let Some(next) = step.leads else { return Ok(false) };
        let next = self.step(step.wf, next)?;
        // Somebody gives up or skips jobs of it at the moment, which takes back nothing behind it: it settles first.
        let sql = "SELECT 1 FROM hold WHERE wf = ? AND step = ? AND name <> ? LIMIT 1";
        let is_repaired = !next.state.is_settled() && self.one(sql, (next.wf, next.step, HOLD), |_| Ok(()))?.is_some();
        if is_repaired && !planted!("a repair does not wait for one behind it that takes back less") {
            return Ok(true);
        }
        let comes_back = next.state.is_settled() && next.decided.is_none() && next.early > 0;
        if comes_back && !planted!("what comes after a chain does not wait for a repair before it") {
            self.leave_chore(Kind::ReopenBehind, step.wf, next.step, 0, 0)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes a settled step back to running, since what it is chained to is to be repaired; a hold keeps it so until that has begun.
    pub fn reopen_behind(&mut self, wf: Wf, number: StepNumber, from: i64) -> Result<()> {
        let again = |tx: &mut Self, from| tx.leave_chore(Kind::ReopenBehind, wf, number, from, 0);
        if self.is_running_again(wf)? || self.is_stopping_rest(wf, number)? {
            return again(self, from);
        }
        let step = self.step(wf, number)?;
        if !step.state.is_settled() || step.decided.is_some() {
            return Ok(());
        }
        if self.reopens_behind(&step)? {
            return again(self, from);
        }
        if let Some(next) = self.take_back_to_running(wf, number, from)? {
            return again(self, next);
        }
        self.forgive(wf, number)?;
        self.run("INSERT INTO hold VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (wf, number, HOLD))?;
        Ok(())
    }

    /// A step is running again: what is chained to it waits for it from here on, and needs no hold.
    pub fn drop_hold_behind(&mut self, step: &Step) -> Result<()> {
        if let Some(next) = step.leads {
            self.run("DELETE FROM hold WHERE wf = ? AND step = ? AND name = ?", (step.wf, next, HOLD))?;
        }
        Ok(())
    }
}
