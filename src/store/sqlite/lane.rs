//! Lanes: standing steps that take lone jobs. A lane is kept like a workflow of one step that runs from the start and never settles.
//!
//! Its only segment counts every job that ever came, so an index is never given twice. Chunks leave it again: at once if all of their
//! jobs have settled and none is to be kept, else when a timer without jobs says that the time is over for which they were to be.

use super::create::check_chunk;
use super::line::{End, Work};
use super::tx::{Chunk, Step, Tx, Wf};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::lone::JobId;
use crate::planted::planted;
use crate::retention::Retention;
use crate::slice::Mask;
use crate::state::{Counts, JobState, StepState, WorkflowState, job_byte};
use crate::store::{Enqueue, Enqueued, Keyed, Lane, LoneJobs, NewWorkflow, Part, Refused};

/// With more error texts than that a lane's table loses those that no failed job has any more.
const TEXTS_KEPT: i64 = 500;

/// Why a chunk is refused whose times name jobs that it does not have.
pub const UNWANTED_MASK: &str = "jobs that have a time are not among those that come";

impl Tx<'_> {
    /// Takes lone jobs into their lanes.
    pub fn enqueue_lone(&mut self, enqueue: &Enqueue) -> Result<Enqueued> {
        if let Some((firsts, refused)) = self.answered_before(enqueue.session, enqueue.command)? {
            return Ok(Enqueued { firsts, refused, ..Enqueued::default() });
        }
        let (mut firsts, mut refused) = (Vec::with_capacity(enqueue.jobs.len()), Vec::new());
        for (lane, jobs) in enqueue.jobs.iter().enumerate() {
            let (first, not_taken) = self.add_lone(jobs)?;
            firsts.push(first);
            refused.extend(not_taken.into_iter().map(|(at, first)| Refused { lane, at, first }));
        }
        self.note_answer(enqueue.session, enqueue.command, &(&firsts, &refused))?;
        self.admit()?;
        Ok(Enqueued { firsts, refused, woken: self.wake()? })
    }

    /// Takes jobs into a lane; returns the index of the first, and which have not been taken, since there is one of their key.
    pub fn add_lone(&mut self, jobs: &LoneJobs) -> Result<(u64, Vec<(u16, JobId)>)> {
        check_chunk(&jobs.chunk)?;
        let (wf, segment, first) = self.lane(&jobs.lane)?;
        let all = Mask::range(0..jobs.chunk.jobs as usize);
        let later = jobs.due.iter().fold(Mask::EMPTY, |later, (_, mask)| later.or(*mask));
        if !later.is_within(all) {
            return Err(Error::usage(UNWANTED_MASK));
        }
        if jobs.keyed.iter().any(|keyed| !all.contains(usize::from(keyed.at))) {
            return Err(Error::usage("jobs with a key are not among those that come"));
        }
        let refused = self.who_may_not_come(jobs, first)?;
        if refused.len() == jobs.chunk.jobs as usize {
            return Ok((first as u64, refused));
        }
        // A chunk is immutable, so those of it that are refused are in it as settled.
        let not_taken: Mask = refused.iter().map(|(at, _)| usize::from(*at)).collect();
        let later = later.minus(not_taken);
        if let Some(waits) = &jobs.waits {
            self.wait_for_turn(waits, wf, first)?;
        }
        let chunk = self.add_chunk(segment, first, &jobs.chunk)?;
        let taken = |(time, mask): &(Millis, Mask)| (*time, mask.minus(not_taken));
        let deadlines: Vec<(Millis, Mask)> =
            jobs.deadlines.iter().map(taken).filter(|(_, mask)| !mask.is_empty()).collect();
        self.add_deadlines(wf, chunk, first, all, &deadlines)?;
        let count = i64::from(jobs.chunk.jobs);
        self.run("UPDATE segment SET jobs = jobs + ?2 WHERE segment = ?1", (segment, count))?;
        let (mut step, mut workflow) = (self.step(wf, 0)?, self.workflow(wf)?);
        step.jobs.total += count as u64;
        workflow.jobs.total += count as u64;
        step.keyed = step.keyed.and(&jobs.keyed);
        self.put_step(step);
        self.put_workflow(workflow);
        self.take_sole(jobs, chunk, first, &refused)?;
        let taken: Vec<&Keyed> = jobs.keyed.iter().filter(|keyed| !not_taken.contains(usize::from(keyed.at))).collect();
        let deferred = later.or(self.add_keyed(wf, chunk, first, &taken, later)?);
        if deferred.or(not_taken).is_empty() {
            self.enqueue_behind(&step, first, first + count)?;
            return Ok((first as u64, refused));
        }
        let state = |at: usize| match (deferred.contains(at), not_taken.contains(at)) {
            (true, _) => JobState::Deferred,
            (_, true) => JobState::Skipped,
            _ => JobState::Open,
        };
        let bytes: Vec<u8> = (0..jobs.chunk.jobs as usize).map(|at| job_byte(state(at), 0)).collect();
        self.put_bytes(chunk, &bytes)?;
        self.shift(wf, 0, JobState::Open, JobState::Deferred, deferred.len() as u64)?;
        self.shift(wf, 0, JobState::Open, JobState::Skipped, not_taken.len() as u64)?;
        for (due, mask) in &jobs.due {
            let mask = mask.minus(not_taken);
            if !mask.is_empty() {
                self.set_timer(&step, *due, chunk, first, mask)?;
            }
        }
        let ready = all.minus(deferred).minus(not_taken);
        if !ready.is_empty() {
            self.enqueue(&step, &Work::Masked { chunk, first, jobs: ready }, End::Back, false, 0, 0)?;
        }
        Ok((first as u64, refused))
    }

    /// A lane, made if it is new: its workflow, its segment, and the index of the next job.
    fn lane(&mut self, lane: &Lane) -> Result<(Wf, i64, i64)> {
        let sql = "SELECT w.wf, s.segment, s.jobs FROM workflow w JOIN segment s ON s.wf = w.wf AND s.step = 0 WHERE w.id = ?";
        let id = lane.id.as_bytes().as_slice();
        if let Some(there) = self.one(sql, [id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
            return Ok(there);
        }
        let arguments = serde_json::json!({ "queue": lane.queue, "priority": lane.priority }).to_string();
        let name = lane.job_type.clone();
        let wf = self.begin_workflow(&NewWorkflow {
            id: lane.id,
            name,
            arguments,
            generation: 0,
            retention: Retention::for_ever(),
            key: None,
            occurrence: None,
            parent: None,
        })?;
        self.add_parts(wf, &[Part::Step { spec: lane.step(), upstreams: 0, always: false, awaits: None }])?;
        self.run("UPDATE workflow SET id = ?2 WHERE wf = ?1", (wf, id))?;
        let mut step = self.step(wf, 0)?;
        step.state = StepState::Running;
        step.released_at = Some(self.now);
        self.put_step(step);
        let mut workflow = self.workflow(wf)?;
        workflow.state = WorkflowState::Standing;
        workflow.active = 1;
        self.put_workflow(workflow);
        self.run("INSERT INTO segment (wf, step, first, jobs) VALUES (?, 0, 0, 0)", [wf])?;
        Ok((wf, self.inserted(), 0))
    }

    /// Puts new jobs into a lane's line, behind all others: with those that came just before, if they have not been claimed, as one entry.
    fn enqueue_behind(&mut self, step: &Step, low: i64, high: i64) -> Result<()> {
        let sql = "UPDATE entry SET high = ?4 WHERE wf = ?1 AND step = ?2 AND suspect = 0 AND high = ?3 AND recoveries = 0 \
                   AND seq = (SELECT max(seq) FROM entry WHERE wf = ?1 AND step = ?2 AND suspect = 0)";
        if self.run(sql, (step.wf, step.step, low, high))? > 0 {
            self.lines_fed.insert(step.line);
            return Ok(());
        }
        self.enqueue(step, &Work::Run { low, high }, End::Back, false, 0, 0)
    }

    /// Whether a workflow is a lane.
    pub fn is_lane(&mut self, wf: Wf) -> Result<bool> {
        Ok(self.workflow(wf)?.state == WorkflowState::Standing)
    }

    /// Whether a lane's chunk with these bytes is of no use any more: all its jobs have settled, and none of them is to be kept.
    pub fn is_unwanted(&mut self, chunk: i64, bytes: &[u8]) -> Result<bool> {
        Ok(bytes.iter().all(|byte| JobState::of(*byte).is_settled()) && self.kept_until(chunk)?.is_none())
    }

    fn kept_until(&mut self, chunk: i64) -> Result<Option<Millis>> {
        let sql = "SELECT max(due) FROM timer WHERE chunk = ? AND length(jobs) = 0";
        Ok(self.one(sql, [chunk], |row| row.get(0))?.flatten())
    }

    /// Keeps a lane's chunk for so long, unless it is kept for longer already.
    pub fn keep_chunk(&mut self, step: &Step, chunk: i64, first: i64, keep: Millis) -> Result<()> {
        let due = self.now.saturating_add(keep);
        match self.kept_until(chunk)? {
            Some(until) if until >= due => return Ok(()),
            Some(_) => {
                self.run("DELETE FROM timer WHERE chunk = ? AND length(jobs) = 0", [chunk])?;
            }
            None => {}
        }
        self.set_timer(step, due, chunk, first, Mask::EMPTY)
    }

    /// The time is over for which a lane's chunk was to be kept. If jobs of it have not settled, the last of them takes it away.
    pub fn stop_keeping(&mut self, step: &Step, chunk: i64, first: i64) -> Result<()> {
        let there = self.find_chunk(step.wf, step.step, first)?.filter(|there| there.chunk == chunk);
        let Some(Chunk { jobs, .. }) = there else { return Ok(()) };
        let bytes = self.bytes(chunk, jobs)?;
        if self.is_unwanted(chunk, &bytes)? { self.drop_chunk(step, chunk, first, &bytes) } else { Ok(()) }
    }

    /// Deletes a lane's chunk, whose jobs have all settled.
    pub fn drop_chunk(&mut self, step: &Step, chunk: i64, first: i64, bytes: &[u8]) -> Result<()> {
        if planted!("a lane keeps what nobody wants") {
            return self.put_bytes(chunk, bytes);
        }
        let (wf, number) = (step.wf, step.step);
        self.forget_keyed(step, chunk)?;
        let failed: Mask = (0..bytes.len()).filter(|at| JobState::of(bytes[*at]) == JobState::Failed).collect();
        if !failed.is_empty() {
            self.forget_failed(wf, number, chunk, failed)?;
            let sql = "DELETE FROM error WHERE wf = ?1 AND step = ?2 AND jobs <= 0 \
                       AND (SELECT count(*) FROM error WHERE wf = ?1 AND step = ?2) > ?3";
            self.run(sql, (wf, number, TEXTS_KEPT))?;
        }
        for table in ["params", "bytes", "recovered", "outcome", "failed", "mended", "timer", "deadline"] {
            self.run(&format!("DELETE FROM {table} WHERE chunk = ?"), [chunk])?;
        }
        let sql = "DELETE FROM chunk WHERE first = ?3 AND segment = (SELECT segment FROM segment WHERE wf = ?1 AND step = ?2)";
        self.run(sql, (wf, number, first))?;
        let (mut step, mut workflow) = (self.step(wf, number)?, self.workflow(wf)?);
        forget(&mut step.jobs, bytes);
        forget(&mut workflow.jobs, bytes);
        self.put_step(step);
        self.put_workflow(workflow);
        Ok(())
    }
}

/// Takes jobs out of all counts.
fn forget(counts: &mut Counts, bytes: &[u8]) {
    counts.total = counts.total.saturating_sub(bytes.len() as u64);
    for byte in bytes {
        if let Some(counter) = counts.of(JobState::of(*byte)) {
            *counter = counter.saturating_sub(1);
        }
    }
}
