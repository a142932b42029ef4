//! Cancelling lone jobs. What waits is cancelled at once and stays in its entry, which a claim passes over. What is under a lease is
//! noted in it: the worker hears of it with its next renewal or report, and whatever becomes of the lease, the job goes nowhere else.

use super::lease::Lease;
use super::line::Work;
use super::tx::{Chunk, Step, Tx, Wf, mask};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::ledger::What;
use crate::planted::planted;
use crate::record::CANCELLED_KEPT;
use crate::slice::Mask;
use crate::state::{JobState, WorkflowState, attempts, job_byte};
use crate::store::{CancelJobs, CancelledJobs, LeaseReport, Woken};

/// How many workers are told of what they are to stop; the others hear of it when they renew.
const TOLD: i64 = 20;

/// A report under a lease with jobs that are to be stopped, as it counts.
pub struct Heeded {
    pub part: LeaseReport,
    /// Jobs that were given back or put off: they are cancelled instead, without an attempt.
    pub unstarted: Mask,
}

/// What a report comes to if `stop` is to be stopped: what would run again does not. `None` if it is as it was sent.
pub fn heed(part: &LeaseReport, stop: Mask) -> Option<Heeded> {
    let ends = |waits: &[(Millis, Mask)]| waits.iter().fold(Mask::EMPTY, |all, (_, jobs)| all.or(*jobs)).and(stop);
    let unstarted = part.returned.and(stop).or(ends(&part.postponed));
    let tried = ends(&part.retries);
    if unstarted.or(tried).is_empty() || planted!("a job that was cancelled while it ran is tried again") {
        return None;
    }
    let mut part = part.clone();
    part.returned = part.returned.minus(stop);
    for waits in [&mut part.retries, &mut part.postponed] {
        waits.iter_mut().for_each(|(_, jobs)| *jobs = jobs.minus(stop));
        waits.retain(|(_, jobs)| !jobs.is_empty());
    }
    part.cancelled = part.cancelled.or(tried);
    if part.keep == 0 {
        part.keep = CANCELLED_KEPT;
    }
    Some(Heeded { part, unstarted })
}

impl Tx<'_> {
    /// Cancels jobs of one chunk of a lane.
    pub fn cancel_jobs(&mut self, cancel: &CancelJobs) -> Result<CancelledJobs> {
        let CancelJobs { lane, index, jobs, keep } = *cancel;
        let workflow = self.find(lane)?;
        if workflow.state != WorkflowState::Standing {
            return Err(Error::refused(format!(
                "{lane} is a workflow and no lane of lone jobs: its jobs cannot be cancelled one by one; `cancel {lane}` cancels it as a whole"
            )));
        }
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let Some(chunk) = self.find_chunk(workflow.wf, 0, index)? else { return Ok(CancelledJobs::default()) };
        let from = (index - chunk.first) as usize;
        if jobs.iter().any(|at| from + at >= chunk.jobs) {
            return Err(Error::usage(format!(
                "jobs from {index} on are to be cancelled that are not all in one chunk; its last is {}",
                chunk.first + chunk.jobs as i64 - 1
            )));
        }
        let step = self.step(workflow.wf, 0)?;
        let cancelled = self.cancel_in_chunk(&step, &chunk, jobs.iter().map(|at| from + at).collect(), keep)?;
        self.admit()?;
        Ok(cancelled)
    }

    /// Cancels `named` jobs of a lane's chunk.
    pub fn cancel_in_chunk(&mut self, step: &Step, chunk: &Chunk, named: Mask, keep: Millis) -> Result<CancelledJobs> {
        self.recall_forwarded(chunk.chunk, named)?;
        let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
        let in_state =
            |is: fn(JobState) -> bool| -> Mask { named.iter().filter(|at| is(JobState::of(bytes[*at]))).collect() };
        let unsettled = in_state(|state| !state.is_settled());
        let cancelled = in_state(|state| state == JobState::Cancelled);
        let (stopping, told) = self.stop_leased(chunk.chunk, unsettled)?;
        let waiting = unsettled.minus(stopping);
        let answer =
            CancelledJobs { cancelled: cancelled.or(waiting).len() as u32, stopping: stopping.len() as u32, told };
        if waiting.is_empty() {
            return Ok(answer);
        }
        if !waiting.and(in_state(|state| state != JobState::Open)).is_empty() {
            self.leave_timers(chunk.chunk, waiting)?;
        }
        let mut after = bytes.clone();
        waiting.iter().for_each(|at| after[at] = job_byte(JobState::Cancelled, attempts(bytes[at])));
        let admitted = waiting.and(in_state(|state| state == JobState::Open));
        self.settle_jobs(step.wf, step.step, (chunk.chunk, chunk.first), bytes, waiting, JobState::Cancelled)?;
        self.leave_turn(step, chunk.chunk, admitted, false)?;
        self.end_sole_of_settled(step, chunk.chunk, waiting)?;
        if keep > 0 {
            self.keep_chunk(step, chunk.chunk, chunk.first, keep)?;
        } else if self.is_unwanted(chunk.chunk, &after)? {
            self.drop_chunk(step, chunk.chunk, chunk.first, &after)?;
        }
        Ok(answer)
    }

    /// Notes in the leases of a chunk which of its jobs are to be stopped; returns those that are under a lease, and whom to tell.
    fn stop_leased(&mut self, chunk: i64, jobs: Mask) -> Result<(Mask, Woken)> {
        let (mut stopping, mut stops, mut sessions) = (Mask::EMPTY, Vec::new(), Vec::new());
        for lease in self.leases_where("chunk = ?1 LIMIT 1024", [chunk])? {
            let stop = lease.jobs.and(jobs);
            stopping = stopping.or(stop);
            if !stop.is_within(lease.stop) {
                let stop: String = lease.stop.or(stop).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                stops.push((lease.session, lease.number, stop));
                sessions.push(lease.session);
            }
        }
        if stops.is_empty() {
            return Ok((stopping, Woken::default()));
        }
        // In one statement, however many leases there are.
        let sql = "UPDATE lease SET stop = unhex(told.stop) FROM \
                   (SELECT value ->> 0 AS session, value ->> 1 AS number, value ->> 2 AS stop FROM json_each(?1)) AS told \
                   WHERE lease.session = told.session AND lease.number = told.number";
        self.run(sql, [super::create::to_json(&stops)?])?;
        let sql = "SELECT wake_port FROM session WHERE wake_port IS NOT NULL AND dead_at IS NULL \
                   AND session IN (SELECT value FROM json_each(?1)) LIMIT ?2";
        let told = self.all(sql, (super::create::to_json(&sessions)?, TOLD), |row| row.get(0))?;
        Ok((stopping, Woken(told)))
    }

    /// Takes jobs that wait for nothing any more out of the timers of their chunk.
    fn leave_timers(&mut self, chunk: i64, jobs: Mask) -> Result<()> {
        let sql = "SELECT wf, step, due, jobs FROM timer WHERE chunk = ? AND length(jobs) > 0";
        let timers = self.all(sql, [chunk], |row| {
            Ok((row.get::<_, Wf>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, Vec<u8>>(3)?))
        })?;
        let mut left = Vec::new();
        for (wf, step, due, there) in timers {
            let there = mask(&there)?;
            if !there.and(jobs).is_empty() {
                let rest: String = there.minus(jobs).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                left.push((wf, step, due, rest));
            }
        }
        let left = super::create::to_json(&left)?;
        let rows = "(SELECT value ->> 0 AS wf, value ->> 1 AS step, value ->> 2 AS due, value ->> 3 AS rest FROM json_each(?1)) AS t";
        let same = "timer.wf = t.wf AND timer.step = t.step AND timer.due = t.due AND timer.chunk = ?2";
        self.run(
            &format!("UPDATE timer SET jobs = unhex(t.rest) FROM {rows} WHERE t.rest <> '' AND {same}"),
            (&left, chunk),
        )?;
        let sql = format!(
            "DELETE FROM timer WHERE chunk = ?2 AND EXISTS (SELECT 1 FROM {rows} WHERE t.rest = '' AND {same})"
        );
        self.run(&sql, (&left, chunk))?;
        Ok(())
    }

    /// Jobs that a report gives back although they are to be stopped.
    pub fn cancel_unstarted(&mut self, lease: &Lease, jobs: Mask, after: &mut [u8]) -> Result<()> {
        jobs.iter().for_each(|at| after[at] = job_byte(JobState::Cancelled, attempts(after[at])));
        self.shift(lease.wf, lease.step, JobState::Open, JobState::Cancelled, jobs.len() as u64)?;
        self.note(What::Settled(JobState::Cancelled), lease, jobs)
    }

    /// Of a lease that is taken back, what is to be stopped runs nowhere else. Returns what is left open, and the bytes.
    pub fn cancel_stopped(
        &mut self,
        step: &Step,
        lease: &Lease,
        open: Mask,
        bytes: Vec<u8>,
    ) -> Result<(Mask, Vec<u8>)> {
        let stopped = open.and(lease.stop);
        if stopped.is_empty() {
            return Ok((open, bytes));
        }
        let jobs = bytes.len();
        self.settle_jobs(lease.wf, lease.step, (lease.chunk, lease.first), bytes, stopped, JobState::Cancelled)?;
        self.leave_turn(step, lease.chunk, stopped, true)?;
        self.end_sole_of_settled(step, lease.chunk, stopped)?;
        self.keep_chunk(step, lease.chunk, lease.first, CANCELLED_KEPT)?;
        Ok((open.minus(stopped), self.bytes(lease.chunk, jobs)?))
    }

    /// What a claim takes of a run of which jobs may have been cancelled, or skipped, and of a lane whole chunks be gone: its chunk, the jobs,
    /// and what is left of the run.
    pub fn cut_lone(
        &mut self,
        step: &Step,
        (low, high): (i64, i64),
        take: usize,
    ) -> Result<(i64, i64, Mask, Option<Work>)> {
        let (wf, number) = (step.wf, step.step);
        let chunk = match self.find_chunk(wf, number, low)? {
            Some(chunk) => chunk,
            None => match self.chunks_from(wf, number, low, 1)?.pop().filter(|chunk| chunk.first < high) {
                Some(chunk) => chunk,
                None => return Ok((0, 0, Mask::EMPTY, None)),
            },
        };
        let from = (low - chunk.first).max(0) as usize;
        let until = chunk.jobs.min((high - chunk.first) as usize);
        let mut open = Mask::range(from..until);
        let looks = !planted!("a job that was skipped by hand is handed out");
        if step.jobs.cancelled + step.jobs.skipped > 0 && looks && !planted!("a cancelled job is handed out") {
            let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
            open = open.iter().filter(|at| JobState::of(bytes[*at]) == JobState::Open).collect();
        }
        let (jobs, back) = open.split(take);
        let next = chunk.first + back.iter().next().unwrap_or(until) as i64;
        Ok((chunk.chunk, chunk.first, jobs, (next < high).then_some(Work::Run { low: next, high })))
    }
}
