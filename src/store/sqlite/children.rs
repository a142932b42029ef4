//! Workflows that stand for jobs: a worker creates one in the job's name and reports that it has begun, which defers the job; the child's end,
//! told by a chore, is the job's.
//!
//! ```text
//! open ─ begun ─ deferred ─ the child has succeeded | failed | been cancelled with the whole: so has the job
//!                                                     │
//!                                  failed ─ the child is repaired and succeeds: the job is repaired
//! ```
//!
//! A batch within a batch is such a child, too; the program that opens it creates it, and its job comes with it, deferred (`batch.rs`).

use super::chore::{BY_CHILD, Kind};
use super::lease::Lease;
use super::tx::{Chunk, Step, Tx, Wf};
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::planted::planted;
use crate::record::error_number;
use crate::slice::Mask;
use crate::state::{JobState, StepState, WorkflowState, job_byte};
use crate::store::{CHILDREN_PAGE, ChildRow, Parent};

/// How many children one bite of a cancel looks at.
const CANCELLED: usize = 30;
/// How many children one bite of a deletion takes leave of.
const LEFT: usize = 60;

impl Tx<'_> {
    /// Where the job is that a new workflow stands for. Refused unless a worker has it.
    pub fn parent_of_new(&mut self, parent: &Parent) -> Result<(Wf, StepNumber, i64)> {
        let workflow = self.find(parent.workflow)?;
        let index = i64::try_from(parent.index).unwrap_or(i64::MAX);
        let chunk = self.chunk_at(workflow.wf, parent.step, index)?;
        let at = usize::try_from(index - chunk.first).unwrap_or(usize::MAX);
        let byte = self.bytes(chunk.chunk, chunk.jobs)?.get(at).copied();
        let is_open = byte.is_some_and(|byte| JobState::of(byte) == JobState::Open);
        let step = self.step(workflow.wf, parent.step)?;
        if !step.children {
            return Err(Error::usage(format!(
                "step {} of workflow {} has no workflows for jobs",
                step.step, parent.workflow
            )));
        }
        let is_at_work = match workflow.state {
            WorkflowState::Pending | WorkflowState::Running | WorkflowState::Paused => true,
            state => state == WorkflowState::Cancelling && step.always,
        };
        // One that is being taken back to run again is not released.
        let is_released = step.state == StepState::Running || planted!("a child is made for a job that was taken back");
        if !is_open || !is_released || !is_at_work || self.stops(&step)? {
            return Err(Error::refused(format!(
                "job {} of step {} of workflow {} is not at work any more: no workflow can be created for it",
                parent.index, parent.step, parent.workflow
            )));
        }
        Ok((workflow.wf, parent.step, index))
    }

    /// The child that stands for a job: its number and state.
    fn child_of(&mut self, wf: Wf, step: StepNumber, index: i64) -> Result<Option<(Wf, WorkflowState)>> {
        let sql = "SELECT wf FROM workflow WHERE parent = ? AND parent_step = ? AND parent_index = ? AND state <> 0 AND state <> 8 ORDER BY wf DESC LIMIT 1";
        let Some(child) = self.one(sql, (wf, step, index), |row| row.get::<_, Wf>(0))? else { return Ok(None) };
        Ok(Some((child, self.workflow(child)?.state)))
    }

    /// Jobs of a report whose workflows have been created: those wait from now on, or have ended if theirs has.
    pub fn begin_children(&mut self, lease: &Lease, begun: Mask, after: &mut [u8]) -> Result<()> {
        let step = self.step(lease.wf, lease.step)?;
        let stops = self.stops(&step)?;
        for at in begun.iter() {
            let index = lease.first + at as i64;
            let Some((child, state)) = self.child_of(lease.wf, lease.step, index)? else {
                return Err(Error::usage(format!(
                    "job {index} of step {} has no workflow that stands for it",
                    lease.step
                )));
            };
            after[at] = job_byte(JobState::Deferred, crate::state::attempts(after[at]) + 1);
            self.shift(lease.wf, lease.step, JobState::Open, JobState::Deferred, 1)?;
            if state.is_finished() {
                self.leave_chore(Kind::ChildEnded, lease.wf, lease.step, index, child)?;
            } else if stops {
                // The rest of its step has been told to end before it was there.
                self.leave_chore(Kind::CancelChildren, lease.wf, lease.step, index, 0)?;
            }
        }
        Ok(())
    }

    /// A workflow has just finished that stands for a job.
    pub fn note_child_ended(&mut self, child: Wf, (wf, step, index): (Wf, StepNumber, i64)) -> Result<()> {
        if planted!("the end of a child is told to nobody") {
            return Ok(());
        }
        self.leave_chore(Kind::ChildEnded, wf, step, index, child)
    }

    /// Ends the job of a child that has finished, or repairs it if the child has been repaired.
    pub fn end_of_child(&mut self, wf: Wf, step: StepNumber, index: i64, child: Wf) -> Result<()> {
        let Some((last, state)) = self.child_of(wf, step, index)? else { return Ok(()) };
        if last != child || !state.is_finished() {
            return Ok(());
        }
        let chunk = self.chunk_at(wf, step, index)?;
        let at = (index - chunk.first) as usize;
        let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
        match JobState::of(bytes[at]) {
            JobState::Deferred => self.end_as_child(wf, step, (&chunk, at), bytes, state),
            JobState::Failed if state == WorkflowState::Succeeded => self.repair_by_child(wf, step),
            _ => Ok(()),
        }
    }

    fn end_as_child(
        &mut self,
        wf: Wf,
        step: StepNumber,
        (chunk, at): (&Chunk, usize),
        bytes: Vec<u8>,
        child: WorkflowState,
    ) -> Result<()> {
        let jobs = Mask::range(at..at + 1);
        let of = self.step(wf, step)?;
        let state = match child {
            WorkflowState::Succeeded => JobState::Succeeded,
            WorkflowState::Failed if planted!("a job succeeds although its child has failed") => JobState::Succeeded,
            WorkflowState::Cancelled if self.stops(&of)? => JobState::Cancelled,
            // What somebody cancelled by itself is missing to the whole, like what failed.
            _ => JobState::Failed,
        };
        self.settle_jobs(wf, step, (chunk.chunk, chunk.first), bytes, jobs, state)?;
        if state == JobState::Failed {
            let text = crate::children::FAILED.to_owned();
            self.note_errors((wf, step, chunk.chunk), &[(error_number(&text), text, jobs)])?;
        }
        self.check_settled(wf, step)
    }

    /// A child has succeeded in the end: the workflow that waited for its repair goes on.
    fn repair_by_child(&mut self, wf: Wf, step: StepNumber) -> Result<()> {
        let mut workflow = self.workflow(wf)?;
        match workflow.state {
            WorkflowState::Pending | WorkflowState::Running | WorkflowState::Paused => {}
            WorkflowState::Succeeded | WorkflowState::Failed => {
                let sql = "SELECT id FROM workflow WHERE wf = ?";
                let id = self.one(sql, [wf], |row| row.get::<_, Option<Vec<u8>>>(0))?.flatten();
                let Some(id) = id else { return Ok(()) };
                // Whoever has its key now stays: then a person decides.
                if self.take_key_again(wf, WorkflowId::from_slice(&id)?)?.is_some() {
                    return Ok(());
                }
                self.forget_expiry(wf)?;
                workflow = self.workflow(wf)?;
                workflow.state = WorkflowState::Running;
                workflow.finished_at = None;
                self.put_workflow(workflow);
            }
            _ => return Ok(()),
        }
        self.retry_step(wf, step, BY_CHILD)
    }

    /// Of failed jobs that are retried: those whose workflows have been repaired, or are being so, need no worker. They wait for what becomes of
    /// those. Returns the others. Batches are repaired with the one that they are within, and need none either.
    pub fn wait_for_repaired_children(
        &mut self,
        step: &Step,
        chunk: &Chunk,
        bytes: &mut [u8],
        (jobs, why): (Mask, i64),
    ) -> Result<Mask> {
        let mut rest = jobs;
        for at in jobs.iter() {
            let index = chunk.first + at as i64;
            let Some((child, mut state)) = self.child_of(step.wf, step.step, index)? else { continue };
            if step.stands_for_batches() {
                // One that was cancelled stays so: nobody can make it anew, for its jobs came from a program.
                rest = rest.minus(Mask::range(at..at + 1));
                if state == WorkflowState::Failed && why != BY_CHILD {
                    state = self.retry_with_whole(child)?;
                }
            }
            if matches!(state, WorkflowState::Failed | WorkflowState::Cancelled) {
                continue;
            }
            rest = rest.minus(Mask::range(at..at + 1));
            bytes[at] = job_byte(JobState::Deferred, 1);
            self.shift(step.wf, step.step, JobState::Failed, JobState::Deferred, 1)?;
            if state.is_finished() {
                self.leave_chore(Kind::ChildEnded, step.wf, step.step, index, child)?;
            }
        }
        Ok(rest)
    }

    /// A batch is retried with the one that it is within; returns its state.
    fn retry_with_whole(&mut self, child: Wf) -> Result<WorkflowState> {
        let mut workflow = self.workflow(child)?;
        if planted!("a retry does not reach the batches within") {
            return Ok(workflow.state);
        }
        self.forget_expiry(child)?;
        (workflow.state, workflow.finished_at) = (WorkflowState::Running, None);
        self.put_workflow(workflow);
        self.leave_chore(Kind::Retry, child, 0, 0, 0)?;
        Ok(WorkflowState::Running)
    }

    /// Cancels the children of a step whose workflow is cancelled, of one that stops, or of jobs that were ended without them, from job `from` on.
    /// What they come to is what jobs come to that still wait for them.
    pub fn cancel_children(&mut self, wf: Wf, step: StepNumber, from: i64, only_one: bool) -> Result<()> {
        // Somebody may have repaired it meanwhile.
        let of = self.step(wf, step)?;
        let stops = self.stops(&of)?;
        let state = self.workflow(wf)?.state;
        let whole = matches!(state, WorkflowState::Cancelling | WorkflowState::Cancelled) && !of.always;
        let next = self.cancel_some_children(wf, step, (from, only_one), |job| match job {
            _ if whole => true,
            JobState::Skipped | JobState::SkippedByPredecessor | JobState::Cancelled => true,
            JobState::Open | JobState::Retrying | JobState::Deferred => stops,
            // Whatever is at work for them, a person has begun it.
            JobState::Succeeded | JobState::Failed => planted!("a child that is repaired is cancelled with others"),
        })?;
        match next {
            Some(next) => self.leave_chore(Kind::CancelChildren, wf, step, next, 0),
            None => Ok(()),
        }
    }

    /// Cancels the children of some jobs of a step, from job `from` on, or of that one alone; returns where to go on.
    pub fn cancel_some_children(
        &mut self,
        wf: Wf,
        step: StepNumber,
        (from, only_one): (i64, bool),
        which: impl Fn(JobState) -> bool,
    ) -> Result<Option<i64>> {
        if planted!("a cancel does not reach children") {
            return Ok(None);
        }
        let grace_until = match self.step(wf, step)?.grace_until.or(self.workflow(wf)?.grace_until) {
            Some(grace_until) => grace_until,
            None => self.grace_of_rest()?,
        };
        let sql = "SELECT wf, parent_index FROM workflow WHERE parent = ? AND parent_step = ? AND parent_index BETWEEN ? AND ? AND state IN (1, 2, 3) \
                   ORDER BY parent_index LIMIT ?";
        let last = if only_one { from } else { i64::MAX };
        let children = self.all(sql, (wf, step, from, last, CANCELLED as i64), |row| {
            Ok((row.get::<_, Wf>(0)?, row.get::<_, i64>(1)?))
        })?;
        for (child, index) in &children {
            if self.is_at_bound() {
                return Ok(Some(*index));
            }
            if !which(self.state_of_parent(wf, step, *index)?) {
                continue;
            }
            let mut workflow = self.workflow(*child)?;
            workflow.state = WorkflowState::Cancelling;
            workflow.grace_until = Some(grace_until);
            self.put_workflow(workflow);
            self.let_go_of_batch(*child, workflow.batch)?;
            self.unpark_places(*child, 0)?;
            self.leave_chore(Kind::Cancel, *child, 0, 0, 0)?;
        }
        Ok(children.last().filter(|_| children.len() == CANCELLED).map(|(_, index)| index + 1))
    }

    fn state_of_parent(&mut self, wf: Wf, step: StepNumber, index: i64) -> Result<JobState> {
        let chunk = self.chunk_at(wf, step, index)?;
        Ok(JobState::of(self.bytes(chunk.chunk, chunk.jobs)?[(index - chunk.first) as usize]))
    }

    /// A workflow that is being deleted takes its children with it: returns whether there may be more.
    pub fn delete_children(&mut self, wf: Wf) -> Result<bool> {
        if planted!("children outlive their parent") {
            return Ok(false);
        }
        let sql = "SELECT wf FROM workflow WHERE parent = ? AND state <> 0 LIMIT ?";
        let children = self.all(sql, (wf, LEFT as i64), |row| row.get::<_, Wf>(0))?;
        for child in &children {
            let mut workflow = self.workflow(*child)?;
            self.run("UPDATE workflow SET parent = NULL, expires_at = NULL WHERE wf = ?", [child])?;
            if workflow.state != WorkflowState::Deleting {
                workflow.state = WorkflowState::Deleting;
                self.put_workflow(workflow);
                self.leave_chore(Kind::Delete, *child, 0, 0, 0)?;
            }
        }
        Ok(children.len() == LEFT)
    }

    /// Refuses what only the workflow as a whole can be told that a child belongs to.
    pub fn refuse_child(&mut self, id: WorkflowId, wf: Wf, what: &str) -> Result<()> {
        let sql = "SELECT p.id FROM workflow c JOIN workflow p ON p.wf = c.parent WHERE c.wf = ?";
        match self.one(sql, [wf], |row| row.get::<_, Option<Vec<u8>>>(0))?.flatten() {
            Some(parent) => Err(Error::refused(format!(
                "workflow {id} stands for a job of workflow {} and lives as long as that one: it cannot be {what} by itself",
                WorkflowId::from_slice(&parent)?
            ))),
            None => Ok(()),
        }
    }

    /// How many jobs of a step have workflows that have not finished.
    pub fn children_at_work(&mut self, wf: Wf, step: StepNumber) -> Result<u64> {
        let sql = "SELECT count(*) FROM (SELECT state, max(wf) FROM workflow WHERE parent = ? AND parent_step = ? AND state NOT IN (0, 8) \
                   GROUP BY parent_index) WHERE state < 5";
        Ok(self.one(sql, (wf, step), |row| row.get::<_, i64>(0))?.unwrap_or(0).max(0) as u64)
    }

    pub fn read_children(&mut self, id: WorkflowId, step: StepNumber, from: u64, limit: u32) -> Result<Vec<ChildRow>> {
        let wf = self.find(id)?.wf;
        let sql = "SELECT parent_index, id, state, max(wf) FROM workflow WHERE parent = ? AND parent_step = ? AND parent_index >= ? \
                   AND id IS NOT NULL AND state <> 0 AND state <> 8 GROUP BY parent_index ORDER BY parent_index LIMIT ?";
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let rows = self.all(sql, (wf, step, from, limit.min(CHILDREN_PAGE)), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, u8>(2)?))
        })?;
        rows.into_iter()
            .map(|(index, id, state)| {
                let state = super::tx::known(WorkflowState::from_u8(state), "workflow state", state)?;
                Ok(ChildRow { index: index as u64, id: WorkflowId::from_slice(&id)?, state })
            })
            .collect()
    }
}
