//! Failure policies: what becomes of a step as soon as more of its jobs have failed for good than it tolerates.
//!
//! ```text
//!                        ┌─ fail fast ─ exceeded: the rest is cancelled by a chore ─ failed ─ retry: failed and cancelled jobs run again
//! running ─ one too many ┤
//!                        └─ pause ───── exceeded: every claim that meets the step parks it ─ resume, or retry: it goes on
//! ```
//!
//! `exceeded` is one flag in the step's row, which claims, reports, renewals and take-overs look at. Whoever resumes or repairs the step takes it
//! down, and forgives the failures that are there: the policy acts again once as many more have failed as the step tolerates. Only a change
//! of a counter leads here, so a report that is repeated after a resume pauses nothing.

use super::chore::Kind;
use super::line::{End, Work};
use super::tx::{Step, Tx, Wf};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::{FailurePolicy, JobState, StepState, Tolerate, WorkflowState, job_byte};
use crate::store::{FAIL_FAST_GRACE, ResumeStep, ResumedStep};

/// How many chunks one bite of a revival looks at.
const REVIVED_CHUNKS: usize = 30;
/// From this many statements on a revival leaves the rest to its next bite.
const SOFT_CALLS: u64 = 450;

impl Step {
    /// Whether nothing of it is handed out since more of its jobs have failed than it tolerates.
    pub fn is_held_back(&self) -> bool {
        self.exceeded && !planted!("a step of which too many have failed is handed out")
    }

    /// Whether its rest is being cancelled for that.
    pub fn is_failing_fast(&self) -> bool {
        self.exceeded && self.policy == FailurePolicy::FailFast
    }

    /// Whether it is paused for that; one that waits for its failed source has nothing to go on with.
    pub fn is_paused(&self) -> bool {
        self.exceeded && self.policy == FailurePolicy::Pause && self.state == StepState::Running
    }

    /// Whether more have failed than it tolerates, apart from those that somebody has forgiven. Of a step whose sources may still emit only a
    /// number can be judged, no share.
    fn has_exceeded(&self) -> bool {
        let is_share = matches!(self.tolerate, Tolerate::Fraction(_));
        if is_share && self.is_held_by_source() && !planted!("a share is judged before all jobs are there") {
            return false;
        }
        let forgiven = if planted!("a step pauses again without a further failure") { 0 } else { self.forgiven };
        self.jobs.failed.saturating_sub(forgiven) > self.tolerate.allowed(self.jobs.total)
    }
}

impl Tx<'_> {
    /// Whether what runs of a step is to come to its end, and nothing of it runs again: its workflow is cancelled, or it fails fast.
    pub fn stops(&mut self, step: &Step) -> Result<bool> {
        let cancelling = self.workflow(step.wf)?.state == WorkflowState::Cancelling;
        let fails_fast =
            step.is_failing_fast() && !planted!("what is tried again of a step that failed fast runs again");
        Ok(cancelling && !step.always || fails_fast)
    }

    /// Lets a step's policy act, if too many of its jobs have failed and there is something left that it could stop, or its sources may emit it.
    pub fn act_on_failures(&mut self, wf: Wf, number: StepNumber) -> Result<()> {
        let mut step = self.step(wf, number)?;
        if step.exceeded && planted!("a later report lifts the pause of a step") {
            return self.forgive(wf, number);
        }
        if step.policy == FailurePolicy::RunOn || step.exceeded {
            return Ok(());
        }
        let has_rest = step.jobs.unsettled() > 0
            || step.is_held_by_source() && !planted!("what a source will emit is no rest of its step");
        // Under a repair the counts say nothing yet; its end looks again.
        if step.state != StepState::Running || !has_rest || !step.has_exceeded() || self.is_held(wf, number)? {
            return Ok(());
        }
        step.exceeded = true;
        if step.is_failing_fast() {
            step.grace_until = Some(self.grace_of_rest()?);
            if !planted!("the rest of a step that failed fast is not cancelled") {
                self.leave_chore(Kind::StopRest, wf, number, 0, 0)?;
            }
            if step.children {
                self.leave_chore(Kind::CancelChildren, wf, number, 0, 0)?;
            }
        }
        self.put_step(step);
        Ok(())
    }

    /// Until when, in lease time, what runs may come to its end although nobody asks for it any more.
    pub fn grace_of_rest(&mut self) -> Result<Millis> {
        let lease_time = self.one("SELECT lease_time FROM shard", [], |row| row.get::<_, i64>(0))?;
        Ok(lease_time.unwrap_or(0) + FAIL_FAST_GRACE)
    }

    /// A step that failed fast: takes its work out of the lines, then cancels what is not under a lease, from job `from` on.
    pub fn stop_rest(&mut self, wf: Wf, number: StepNumber, from: i64) -> Result<()> {
        let step = self.step(wf, number)?;
        // Somebody has repaired it meanwhile.
        if !step.is_failing_fast() {
            return Ok(());
        }
        self.shorten_leases(wf, number, step.grace_until)?;
        if self.clear_lines(wf, number)? {
            return self.leave_chore(Kind::StopRest, wf, number, from, 0);
        }
        match self.fill(wf, number, from, JobState::Cancelled)? {
            Some(next) => self.leave_chore(Kind::StopRest, wf, number, next, 0),
            None => Ok(()),
        }
    }

    /// Whether the rest of a step is still being cancelled.
    pub fn is_stopping_rest(&mut self, wf: Wf, number: StepNumber) -> Result<bool> {
        let sql = "SELECT 1 FROM chore WHERE kind = ? AND wf = ? AND step = ? AND error IS NULL";
        Ok(self.one(sql, (Kind::StopRest.as_str(), wf, number), |_| Ok(()))?.is_some())
    }

    /// Somebody resumes or repairs a step: its policy acts again only on further failures.
    pub fn forgive(&mut self, wf: Wf, number: StepNumber) -> Result<()> {
        let mut step = self.step(wf, number)?;
        if step.policy == FailurePolicy::RunOn {
            return Ok(());
        }
        let was_exceeded = std::mem::replace(&mut step.exceeded, false);
        step.grace_until = None;
        step.forgiven = step.jobs.failed;
        self.put_step(step);
        if was_exceeded && !planted!("what a paused step parked stays parked") {
            self.unpark_step_now(&step)?;
        }
        Ok(())
    }

    /// Whether a repair has brought jobs back of a step whose rest was cancelled when it failed fast.
    pub fn has_rest_to_revive(&mut self, wf: Wf, number: StepNumber) -> Result<bool> {
        let step = self.step(wf, number)?;
        let has_rest = step.policy == FailurePolicy::FailFast && step.jobs.cancelled > 0;
        Ok(has_rest && !planted!("a retry leaves the rest of a step that failed fast cancelled"))
    }

    /// Opens the cancelled jobs of a bite of chunks, from job `from` on; returns where to go on, or `None` once the step has been done.
    pub fn revive_rest(&mut self, wf: Wf, number: StepNumber, from: i64) -> Result<Option<i64>> {
        let chunks = self.chunks_from(wf, number, from, REVIVED_CHUNKS)?;
        let step = self.step(wf, number)?;
        for chunk in &chunks {
            if self.cost().calls + self.calls_at_end() >= SOFT_CALLS {
                return Ok(Some(chunk.first));
            }
            let mut bytes = self.bytes(chunk.chunk, chunk.jobs)?;
            let jobs: Mask = (0..chunk.jobs).filter(|at| JobState::of(bytes[*at]) == JobState::Cancelled).collect();
            if jobs.is_empty() {
                continue;
            }
            // A repair gives a new set of attempts.
            jobs.iter().for_each(|at| bytes[at] = job_byte(JobState::Open, 0));
            self.shift(wf, number, JobState::Cancelled, JobState::Open, jobs.len() as u64)?;
            self.put_bytes(chunk.chunk, &bytes)?;
            // Those whose predecessors have not succeeded wait for that.
            let ready = if step.is_chained() { jobs.and(self.succeeded_before(&step, chunk)?) } else { jobs };
            self.count_early(&step, chunk, jobs, -1)?;
            if !ready.is_empty() {
                let work = Work::Masked { chunk: chunk.chunk, first: chunk.first, jobs: ready };
                self.enqueue(&step, &work, End::Back, false, 0, 0)?;
            }
        }
        Ok((chunks.len() == REVIVED_CHUNKS).then(|| chunks.last().map_or(0, |last| last.first + last.jobs as i64)))
    }

    /// A step that paused since too many of its jobs had failed goes on.
    pub fn resume_step(&mut self, resume: &ResumeStep) -> Result<ResumedStep> {
        if let Some(answer) = self.answered_before(resume.session, resume.command)? {
            return Ok(answer);
        }
        let workflow = self.find(resume.workflow)?;
        super::command::refuse_lane(resume.workflow, workflow.state)?;
        match workflow.state {
            WorkflowState::Pending | WorkflowState::Running | WorkflowState::Paused | WorkflowState::Cancelling => {}
            state => {
                return Err(Error::refused(format!(
                    "workflow {} is {state}; only a step of one that is at work can be resumed",
                    resume.workflow
                )));
            }
        }
        let was_paused = self.step(workflow.wf, resume.step)?.is_paused();
        if was_paused {
            self.forgive(workflow.wf, resume.step)?;
        }
        let answer = ResumedStep { was_paused, ..ResumedStep::default() };
        self.note_answer(resume.session, resume.command, &answer)?;
        Ok(ResumedStep { woken: self.wake()?, ..answer })
    }
}
