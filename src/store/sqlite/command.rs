//! What people command: cancel, pause, resume, retry, delete.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::chore::{DISCARD, Kind};
use super::lease::unknown_session;
use super::tx::{Tx, Workflow};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::id::{SessionId, WorkflowId};
use crate::planted::planted;
use crate::state::WorkflowState;
use crate::store::{BATCH_STEP, Pausable, Retried, RetryFailed, Woken, refuse_repair};

/// For how many lines of a queue or type that goes on workers are woken; who is woken wakes others.
const LINES_FED: i64 = 8;

/// Where the flag of a queue or type stands.
fn flag(what: &Pausable) -> (bool, &str) {
    match what {
        Pausable::Queue(name) => (false, name),
        Pausable::Type(name) => (true, name),
    }
}

/// People command workflows: a lane only looks like one.
pub fn refuse_lane(id: WorkflowId, state: WorkflowState) -> Result<()> {
    if state != WorkflowState::Standing {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{id} is a lane of lone jobs and no workflow: it cannot be cancelled, paused, kept or deleted; `pause --type NAME` pauses its jobs, `jobs cancel` cancels them"
    )))
}

impl Tx<'_> {
    /// Raises the flag that every claim, release and timer looks at; the rest is a chore.
    pub fn cancel(&mut self, id: WorkflowId, lease: Millis, grace: Millis) -> Result<()> {
        let mut workflow = self.find(id)?;
        refuse_lane(id, workflow.state)?;
        match workflow.state {
            WorkflowState::Cancelling | WorkflowState::Cancelled => return Ok(()),
            WorkflowState::Pending | WorkflowState::Running | WorkflowState::Paused => {}
            state => return Err(Error::refused(format!("workflow {id} is {state}; there is nothing to cancel"))),
        }
        workflow.state = WorkflowState::Cancelling;
        let grace = if planted!("a cancel leaves no grace") { 0 } else { grace.max(0) };
        workflow.grace_until = Some(self.advance_lease_time(lease)? + grace);
        self.put_workflow(workflow);
        self.let_go_of_batch(workflow.wf, workflow.batch)?;
        // Places that a pause has parked may hold `always` steps.
        self.unpark_places(workflow.wf, 0)?;
        self.leave_chore(Kind::Cancel, workflow.wf, 0, 0, 0)
    }

    /// Hands out nothing more until `resume`.
    pub fn pause(&mut self, id: WorkflowId) -> Result<()> {
        let mut workflow = self.find(id)?;
        refuse_lane(id, workflow.state)?;
        match workflow.state {
            WorkflowState::Paused => return Ok(()),
            WorkflowState::Pending | WorkflowState::Running => workflow.state = WorkflowState::Paused,
            state => {
                return Err(Error::refused(format!(
                    "workflow {id} is {state}; only a pending or running one can be paused"
                )));
            }
        }
        self.put_workflow(workflow);
        Ok(())
    }

    /// Undoes `pause`.
    pub fn resume(&mut self, id: WorkflowId) -> Result<Woken> {
        let mut workflow = self.find(id)?;
        refuse_lane(id, workflow.state)?;
        match workflow.state {
            WorkflowState::Pending | WorkflowState::Running => return Ok(Woken::default()),
            WorkflowState::Paused => {}
            state => return Err(Error::refused(format!("workflow {id} is {state}; only a paused one can be resumed"))),
        }
        workflow.state = if workflow.started_at.is_some() { WorkflowState::Running } else { WorkflowState::Pending };
        self.put_workflow(workflow);
        if !planted!("what a pause parked stays parked") {
            self.unpark_places(workflow.wf, 0)?;
        }
        self.wake()
    }

    /// Raises the flag of a queue or a type, at which every claim looks, or takes it down.
    pub fn set_paused(&mut self, what: &Pausable, paused: bool) -> Result<Woken> {
        let (is_type, name) = flag(what);
        if paused && !planted!("a paused queue is handed out") {
            self.run("INSERT INTO paused VALUES (?, ?) ON CONFLICT DO NOTHING", (is_type, name))?;
            return Ok(Woken::default());
        }
        if self.run("DELETE FROM paused WHERE is_type = ? AND name = ?", (is_type, name))? == 0 {
            return Ok(Woken::default());
        }
        let of = if is_type { "type" } else { "queue" };
        let sql = format!(
            "SELECT line FROM line WHERE {of} = ? AND EXISTS (SELECT 1 FROM place WHERE place.line = line.line AND turn IS NOT NULL) LIMIT ?"
        );
        let lines = self.all(&sql, (name, LINES_FED), |row| row.get::<_, i64>(0))?;
        self.lines_fed.extend(lines);
        self.wake()
    }

    /// The queues and types that are paused.
    pub fn read_paused(&mut self) -> Result<Vec<Pausable>> {
        self.all("SELECT is_type, name FROM paused ORDER BY is_type, name LIMIT 10000", [], |row| {
            Ok(if row.get(0)? { Pausable::Type(row.get(1)?) } else { Pausable::Queue(row.get(1)?) })
        })
    }

    /// Whether a queue or a type is paused.
    pub fn is_paused(&mut self, what: &Pausable) -> Result<bool> {
        Ok(self.one("SELECT 1 FROM paused WHERE is_type = ? AND name = ?", flag(what), |_| Ok(()))?.is_some())
    }

    /// Notes that failed jobs are to run again; a chore brings them back, each step held while it does.
    pub fn retry(&mut self, retry: &RetryFailed) -> Result<Retried> {
        self.once(retry.session, retry.command, |tx| tx.begin_retry(retry))
    }

    /// Does what a command asks for, once: one that was sent again is answered as it was.
    pub fn once<T: Serialize + DeserializeOwned>(
        &mut self,
        session: SessionId,
        command: u64,
        begin: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if let Some(answer) = self.answered_before(session, command)? {
            return Ok(answer);
        }
        let answer = begin(self)?;
        self.note_answer(session, command, &answer)?;
        Ok(answer)
    }

    /// What a session's command was answered, if it has been given before.
    pub fn answered_before<T: DeserializeOwned>(&mut self, session: SessionId, command: u64) -> Result<Option<T>> {
        let sql = "SELECT last_command, last_answer FROM session WHERE id = ?";
        let last = self.one(sql, [session.as_bytes().as_slice()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?))
        })?;
        if last.is_none() && planted!("what a forgotten session sent is done") {
            return Ok(None);
        }
        let (last, answer) = last.ok_or_else(|| unknown_session(session))?;
        if last < command as i64 || planted!("a command sent again is done again") {
            return Ok(None);
        }
        let answer = answer.filter(|_| last == command as i64).and_then(|json| serde_json::from_str(&json).ok());
        answer.map(Some).ok_or_else(|| {
            Error::refused("the command is older than the last one of its session: its outcome is unknown")
        })
    }

    /// Keeps a command's answer for whoever sends the command again. A session that gives commands is remembered, also if it counts as
    /// dead since it does not renew.
    pub fn note_answer(&mut self, session: SessionId, command: u64, answer: &impl Serialize) -> Result<()> {
        let sql = "UPDATE session SET last_command = ?2, last_answer = ?3, dead_at = iif(dead_at IS NULL, NULL, ?4) WHERE id = ?1";
        let now = self.now;
        self.run(sql, (session.as_bytes().as_slice(), command as i64, super::create::to_json(answer)?, now))?;
        Ok(())
    }

    fn begin_retry(&mut self, retry: &RetryFailed) -> Result<Retried> {
        let id = retry.workflow;
        let workflow = self.find(id)?;
        refuse_repair(id, workflow.state)?;
        let abandoned = if retry.discard { 0 } else { self.abandoned_jobs(&workflow)? };
        let jobs = match retry.step {
            None => workflow.jobs.failed - abandoned,
            Some(BATCH_STEP) if abandoned > 0 => 0,
            Some(step) => self.step(workflow.wf, step)?.jobs.failed,
        };
        if jobs == 0 {
            return Ok(Retried::default());
        }
        if let Some(held_by) = self.take_up_again(workflow, id)? {
            return Ok(Retried { held_by: Some(held_by), ..Retried::default() });
        }
        let how = if retry.discard { DISCARD } else { 0 };
        match (retry.step, retry.mended) {
            (None, None) => self.leave_chore(Kind::Retry, workflow.wf, 0, 0, how)?,
            (Some(step), None) => self.retry_step(workflow.wf, step, how)?,
            (_, Some(_)) if retry.discard => return Err(Error::usage("what is discarded needs no mended parameters")),
            (Some(step), Some(draft)) => {
                let segment = self.adopt_mended(draft, workflow.wf, step)?;
                self.retry_step(workflow.wf, step, segment)?;
            }
            (None, Some(_)) => return Err(Error::usage("mended parameters belong to one step; name it")),
        }
        Ok(Retried { jobs, more: true, held_by: None })
    }

    /// A finished workflow is at work again, unless another one has its key: then that is told, and nothing changed.
    pub fn take_up_again(&mut self, mut workflow: Workflow, id: WorkflowId) -> Result<Option<WorkflowId>> {
        if workflow.state.is_finished() {
            if let Some(held_by) = self.take_key_again(workflow.wf, id)? {
                return Ok(Some(held_by));
            }
            self.forget_expiry(workflow.wf)?;
            workflow.state = WorkflowState::Running;
            workflow.finished_at = None;
        }
        self.put_workflow(workflow);
        Ok(None)
    }

    /// Takes a finished workflow off all lists; a chore deletes it.
    pub fn delete(&mut self, id: WorkflowId) -> Result<()> {
        let mut workflow = self.find(id)?;
        refuse_lane(id, workflow.state)?;
        if workflow.state == WorkflowState::Deleting {
            return Ok(());
        }
        self.refuse_child(id, workflow.wf, "deleted")?;
        if !workflow.state.is_finished() {
            return Err(Error::refused(format!("workflow {id} is {}; cancel it before deleting it", workflow.state)));
        }
        workflow.state = WorkflowState::Deleting;
        self.put_workflow(workflow);
        self.forget_expiry(workflow.wf)?;
        self.leave_chore(Kind::Delete, workflow.wf, 0, 0, 0)
    }
}
