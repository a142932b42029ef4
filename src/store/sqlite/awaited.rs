//! Steps that no worker runs: they wait for a signal or a time. Such a step has one job. Its release defers the job, and sets a timer if
//! the wait has an end; the signal or the timer, whichever is first, settles it in the same operation that releases what follows.
//!
//! ```text
//!                    ┌─ signalled before: succeeded
//! waiting ─ release ─┤
//!                    └─ deferred ─┬─ signal: succeeded
//!                                 └─ its time: succeeded | failed | skipped ─ (failed) retry ─ deferred
//! ```
//!
//! What a signal carries is written as the job's outcome at once, also if the step has not been released: a record counts only with
//! the byte, and so a release moves no payload, however many waits it releases.

use super::tx::{Chunk, Step, Tx, Wf};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::planted::planted;
use crate::record::error_number;
use crate::slice::Mask;
use crate::state::{JobState, StepState, WorkflowState, job_byte};
use crate::store::{Awaits, SendSignal, Signalled};

impl Tx<'_> {
    /// Keeps what a step waits for that is being built.
    pub fn add_awaited(&mut self, wf: Wf, step: StepNumber, awaits: &Awaits) -> Result<()> {
        self.count_bytes(awaits.record.len() + awaits.error.len());
        let (at, wait) = awaits.until.map(|until| until.parts()).unwrap_or_default();
        let sql =
            "INSERT INTO awaited (wf, step, type, at, wait, becomes, record, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let then = awaits.then as u8;
        self.run(sql, (wf, step, &awaits.signal, at, wait, then, &awaits.record, &awaits.error))?;
        Ok(())
    }

    /// A step that waits has been released.
    pub fn begin_to_wait(&mut self, step: &Step) -> Result<()> {
        let chunk = self.chunk_at(step.wf, step.step, 0)?;
        // Nobody has reported anything of it.
        self.wait_anew(step, &chunk, vec![job_byte(JobState::Open, 0); chunk.jobs])
    }

    /// The job of a released step, whose byte is given, waits from now on; unless its signal has come before, which settles it.
    pub fn wait_anew(&mut self, step: &Step, chunk: &Chunk, mut bytes: Vec<u8>) -> Result<()> {
        let (wf, number) = (step.wf, step.step);
        let sql = "SELECT at, wait, signalled_at FROM awaited WHERE wf = ? AND step = ?";
        type Row = (Option<Millis>, Option<Millis>, Option<Millis>);
        let found = self.one(sql, (wf, number), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (at, wait, signalled): Row = found.ok_or_else(|| lacks_its_wait(wf, number))?;
        let all = Mask::range(0..chunk.jobs);
        if signalled.is_some() && !planted!("a signal that comes early is lost") {
            self.settle_jobs(wf, number, (chunk.chunk, chunk.first), bytes, all, JobState::Succeeded)?;
            return self.check_settled(wf, number);
        }
        for byte in &mut bytes {
            self.shift(wf, number, JobState::of(*byte), JobState::Deferred, 1)?;
            *byte = job_byte(JobState::Deferred, 0);
        }
        self.put_bytes(chunk.chunk, &bytes)?;
        match at.or(wait.map(|wait| self.now.saturating_add(wait))) {
            Some(due) => self.set_timer(step, due, chunk.chunk, chunk.first, all),
            None => Ok(()),
        }
    }

    /// The time of a wait has come: it settles as its rule says, if no signal has settled it.
    pub fn end_wait(&mut self, step: &Step, first: i64) -> Result<()> {
        let (wf, number) = (step.wf, step.step);
        let chunk = self.chunk_at(wf, number, first)?;
        let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
        let waits: Mask = (0..chunk.jobs).filter(|at| JobState::of(bytes[*at]) == JobState::Deferred).collect();
        // What a cancel is about to end has no rule of its own any more.
        let cancelling = self.workflow(wf)?.state == WorkflowState::Cancelling && !step.always;
        if waits.is_empty() || cancelling && !planted!("the time of a wait counts although its workflow is cancelled") {
            return Ok(());
        }
        let sql = "SELECT becomes, error, length(record) FROM awaited WHERE wf = ? AND step = ?";
        let found = self.one(sql, (wf, number), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (then, error, record): (u8, String, i64) = found.ok_or_else(|| lacks_its_wait(wf, number))?;
        let then = JobState::of(then);
        if !then.is_settled() {
            return Err(Error::corrupt(format!(
                "the wait of step {number} of workflow {wf} ends as {}",
                then.as_str()
            )));
        }
        if record > 0 {
            self.count_bytes(usize::try_from(record).unwrap_or(0));
            let sql = "INSERT INTO outcome (chunk, body) SELECT ?3, record FROM awaited WHERE wf = ?1 AND step = ?2";
            self.run(sql, (wf, number, chunk.chunk))?;
        }
        self.settle_jobs(wf, number, (chunk.chunk, chunk.first), bytes, waits, then)?;
        if then == JobState::Failed {
            self.note_errors((wf, number, chunk.chunk), &[(error_number(&error), error, waits)])?;
        }
        self.check_settled(wf, number)
    }

    /// Gives a signal: it settles the job that waits for it, or is kept until the step is released.
    pub fn signal(&mut self, send: &SendSignal) -> Result<Signalled> {
        if let Some(answer) = self.answered_before(send.session, send.command)? {
            return Ok(answer);
        }
        let answer = self.take_signal(send)?;
        self.note_answer(send.session, send.command, &answer)?;
        Ok(Signalled { woken: self.wake()?, ..answer })
    }

    fn take_signal(&mut self, send: &SendSignal) -> Result<Signalled> {
        let SendSignal { workflow: id, name, .. } = send;
        let workflow = self.find(*id)?;
        let wf = workflow.wf;
        let sql = "SELECT s.step, a.type, a.signalled_at FROM step s LEFT JOIN awaited a USING (wf, step) WHERE s.wf = ? AND s.name = ?";
        let found = self.one(sql, (wf, name), |row| {
            Ok((row.get::<_, StepNumber>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, Option<Millis>>(2)?))
        })?;
        let (number, waits_for, signalled_at) = found
            .ok_or_else(|| Error::not_found(format!("workflow {id} has no step `{name}` that waits for a signal")))?;
        match waits_for {
            None => return Err(Error::usage(format!("step `{name}` of workflow {id} waits for no signal"))),
            Some(of) if of != send.signal_type => {
                return Err(Error::usage(format!(
                    "`{name}` of workflow {id} waits for a signal of type `{of}`, and this one is of type `{}`",
                    send.signal_type
                )));
            }
            Some(_) => {}
        }
        let step = self.step(wf, number)?;
        if let Some(at) = signalled_at.filter(|_| !planted!("a second signal counts")) {
            return Ok(Signalled { already: Some(at), ..Signalled::default() });
        }
        refuse_late(send, workflow.state, &step)?;
        let chunk = self.chunk_at(wf, number, 0)?;
        self.count_bytes(send.record.len());
        self.run("INSERT INTO outcome (chunk, body) VALUES (?, ?)", (chunk.chunk, &send.record))?;
        self.run("UPDATE awaited SET signalled_at = ?3 WHERE wf = ?1 AND step = ?2", (wf, number, self.now))?;
        let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
        let waits: Mask = (0..chunk.jobs).filter(|at| JobState::of(bytes[*at]) == JobState::Deferred).collect();
        if !waits.is_empty() {
            if !planted!("a signal leaves the timer of its wait") {
                self.run("DELETE FROM timer WHERE wf = ? AND step = ?", (wf, number))?;
            }
            self.settle_jobs(wf, number, (chunk.chunk, chunk.first), bytes, waits, JobState::Succeeded)?;
            self.check_settled(wf, number)?;
            self.cascade()?;
        }
        Ok(Signalled { kept: waits.is_empty(), more: self.has_chores()?, ..Signalled::default() })
    }
}

/// Refuses a signal for a step that waits no more, or in a workflow that takes none.
fn refuse_late(SendSignal { workflow: id, name, .. }: &SendSignal, state: WorkflowState, step: &Step) -> Result<()> {
    match state {
        WorkflowState::Pending | WorkflowState::Running | WorkflowState::Paused => {}
        WorkflowState::Cancelling if step.always => {}
        WorkflowState::Cancelling | WorkflowState::Cancelled => {
            return Err(Error::refused(format!(
                "workflow {id} was cancelled and takes no signals any more; `start-again` runs it anew"
            )));
        }
        state => {
            let failed = state == WorkflowState::Failed;
            let remedy = if failed { "; `retry` lets what failed wait anew" } else { "" };
            return Err(Error::refused(format!("workflow {id} is {state} and takes no signals any more{remedy}")));
        }
    }
    if !step.state.is_settled() && step.decided.is_none() {
        return Ok(());
    }
    let remedy = if step.state == StepState::Failed { "; `retry` lets it wait anew" } else { "" };
    let how = if step.state.is_settled() { step.state.as_str() } else { "passed over" };
    Err(Error::refused(format!("`{name}` of workflow {id} is {how} and waits no more{remedy}")))
}

fn lacks_its_wait(wf: Wf, step: StepNumber) -> Error {
    Error::corrupt(format!("step {step} of workflow {wf} waits for nothing that is known"))
}
