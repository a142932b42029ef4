//! Batches: jobs are added, from outside and by their own jobs, until nobody holds the batch open and all of them have settled.
//!
//! ```text
//! open ──── close ─────► closed ────┐
//!   └─ the draft dies ─► abandoned ─┴─ every job of the steps that grow is final ─► its first step settles: succeeded, failed
//!                                                                                   ─► those steps settle ─► the callbacks
//! ```
//!
//! That every job is final is told by counters: the workflow's, without those of the first step and of the callbacks. So it costs the same
//! however many types of jobs a batch has. A repair brings jobs back after that; what these add reopens the step that it is for.
//!
//! A batch within another one is a child (`children.rs`) of a step that grows: with it a job comes to the outer one, deferred from the
//! beginning, which ends as the inner one does.

use super::again::is_untouched;
use super::chore::{DEATH_WITHIN, Kind};
use super::create::check_chunk;
use super::lease::Lease;
use super::tx::{Step, Tx, Wf, Workflow, decided, known};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::{Edge, MAX_STEPS, StepNumber, StepSpec};
use crate::id::WorkflowId;
use crate::planted::planted;
use crate::state::{BatchState, Decision, EdgeKind, JobState, StepState, WorkflowState, job_byte};
use crate::store::{
    AddJobs, Added, AddedJobs, BATCH_STEP, CloseBatch, ClosedBatch, DraftKey, MAX_CALLBACKS, growing_names,
};

/// From so many statements on, those that its end will need included, an operation looks at no further batches.
const LOOKING_CALLS: u64 = 200;

/// Where the jobs of a draft are, or those that came with a call.
struct Segment {
    segment: i64,
    jobs: i64,
}

impl Tx<'_> {
    /// A workflow that is being built is a batch, which this draft holds open.
    pub fn open_batch(&mut self, wf: Wf, key: DraftKey, lease: Millis) -> Result<()> {
        let deadline = self.advance_lease_time(lease)? + lease;
        let sql = "INSERT INTO draft (session, number, of_wf, next, jobs, deadline) VALUES (?, ?, ?, 1, 0, ?)";
        self.run(sql, (key.session.as_bytes().as_slice(), key.number as i64, wf, deadline))?;
        let draft = self.inserted();
        let sql = "UPDATE workflow SET batch = ?2, opened_by = ?3 WHERE wf = ?1";
        self.run(sql, (wf, BatchState::Open as u8, draft))?;
        Ok(())
    }

    /// The batch of that id, if drafts for it may still come to something.
    pub fn batch_that_takes_drafts(&mut self, id: WorkflowId) -> Result<Wf> {
        let workflow = self.find_batch(id)?;
        // What a job of it adds while it is being cancelled is collected with its report.
        if workflow.state.is_finished() || workflow.state == WorkflowState::Deleting {
            return Err(settled(id, &workflow));
        }
        Ok(workflow.wf)
    }

    /// The batch of that id, if it has not settled.
    fn batch_that_takes_jobs(&mut self, id: WorkflowId) -> Result<Wf> {
        let workflow = self.find_batch(id)?;
        let at_work = matches!(workflow.state, WorkflowState::Pending | WorkflowState::Running | WorkflowState::Paused);
        let has_settled = !at_work || self.has_batch_settled(workflow.wf)?;
        if has_settled && !planted!("a batch takes jobs after it has settled") {
            return Err(settled(id, &workflow));
        }
        Ok(workflow.wf)
    }

    /// A batch that is being made is within another one: a job comes to that, and waits for the end of this one.
    pub fn put_within(
        &mut self,
        wf: Wf,
        outer: WorkflowId,
        spec: &StepSpec,
        job: &crate::payload::Chunk,
    ) -> Result<()> {
        let outer = self.batch_that_takes_jobs(outer)?;
        let segment = self.new_segment(job)?;
        if job.jobs != 1 || !(spec.grows && spec.children) {
            return Err(Error::usage("a batch within another one stands for one job of a step of such batches"));
        }
        let Some((step, index)) = self.attach_to_batch(outer, spec, segment)? else { return Ok(()) };
        let index = index as i64;
        let chunk = self.chunk_at(outer, step, index)?;
        let waits =
            if planted!("a batch settles before those within it") { JobState::Succeeded } else { JobState::Deferred };
        self.shift(outer, step, JobState::Open, waits, 1)?;
        self.put_bytes(chunk.chunk, &[job_byte(waits, 1)])?;
        let sql = "UPDATE workflow SET parent = ?2, parent_step = ?3, parent_index = ?4 WHERE wf = ?1";
        self.run(sql, (wf, outer, step, index))?;
        Ok(())
    }

    fn find_batch(&mut self, id: WorkflowId) -> Result<Workflow> {
        let workflow = self.find(id)?;
        if workflow.batch.is_none() {
            return Err(Error::usage(format!(
                "workflow {id} is no batch: its steps and their jobs are those that it was created with"
            )));
        }
        Ok(workflow)
    }

    /// Why a draft that is not there cannot hold a batch open.
    pub fn not_held_open(&mut self, id: WorkflowId) -> Result<Error> {
        let workflow = self.find_batch(id)?;
        Ok(Error::refused(match workflow.batch {
            Some(BatchState::Abandoned) => format!(
                "batch {id} has been abandoned: nobody told the store in time that it is still held open; it runs to its end with what it has"
            ),
            _ => format!("batch {id} is {} and not held open by this client (any more)", workflow.state),
        }))
    }

    /// Adds jobs from outside.
    pub fn add_to_batch(&mut self, add: &AddJobs) -> Result<Added> {
        if let Some(answer) = self.answered_before(add.session, add.command)? {
            return Ok(answer);
        }
        let wf = self.batch_that_takes_jobs(add.workflow)?;
        let drafted = match add.draft {
            Some(key) => match self.draft(key)? {
                Some(draft) if draft.of_wf == Some(wf) && draft.spec.is_some() => {
                    self.run("DELETE FROM draft WHERE draft = ?", [draft.draft])?;
                    draft.segment.map(|segment| Segment { segment, jobs: draft.jobs })
                }
                _ => {
                    return Err(Error::refused(
                        "the draft is gone: it was not renewed in time, and nothing of it is left",
                    ));
                }
            },
            None => None,
        };
        let segment = match (drafted, &add.chunk) {
            (Some(drafted), None) => drafted,
            (Some(drafted), Some(chunk)) => {
                self.add_chunk(drafted.segment, drafted.jobs, chunk)?;
                let jobs = drafted.jobs + i64::from(chunk.jobs);
                self.run("UPDATE segment SET jobs = ?2 WHERE segment = ?1", (drafted.segment, jobs))?;
                Segment { jobs, ..drafted }
            }
            (None, Some(chunk)) => self.new_segment(chunk)?,
            (None, None) => return Err(Error::usage("there are no jobs to add")),
        };
        let jobs = segment.jobs.max(0) as u64;
        let answer = match self.attach_to_batch(wf, &add.step, segment)? {
            Some((step, first)) => Added { step, first, jobs, ..Added::default() },
            None => Added::default(),
        };
        self.note_answer(add.session, add.command, &answer)?;
        Ok(Added { woken: self.wake()?, ..answer })
    }

    /// What successful jobs of a lease have added to their batch.
    pub fn add_from_inside(&mut self, lease: &Lease, added: &[AddedJobs]) -> Result<()> {
        for AddedJobs { step, chunk, .. } in added {
            if !self.step(lease.wf, lease.step)?.grows {
                return Err(Error::usage("a job that is none of a batch reported jobs for one"));
            }
            if self.workflow(lease.wf)?.state == WorkflowState::Cancelling {
                continue;
            }
            let segment = self.new_segment(chunk)?;
            self.attach_to_batch(lease.wf, step, segment)?;
        }
        Ok(())
    }

    /// The same, if it is in a draft.
    pub fn adopt_added(&mut self, key: DraftKey, wf: Wf) -> Result<()> {
        let draft = self.draft(key)?.filter(|draft| draft.of_wf == Some(wf));
        let Some((draft, spec, segment)) = draft
            .and_then(|draft| Some((draft.draft, draft.spec?, Segment { segment: draft.segment?, jobs: draft.jobs })))
        else {
            return Err(Error::refused("the draft of what a job adds to its batch is gone"));
        };
        if self.workflow(wf)?.state == WorkflowState::Cancelling {
            return self.collect_draft(draft, None, Some(segment.segment));
        }
        let spec: StepSpec = serde_json::from_str(&spec)
            .map_err(|error| Error::corrupt("the step of a draft does not decode").because(error))?;
        self.run("DELETE FROM draft WHERE draft = ?", [draft])?;
        self.attach_to_batch(wf, &spec, segment)?;
        Ok(())
    }

    fn new_segment(&mut self, chunk: &crate::payload::Chunk) -> Result<Segment> {
        check_chunk(chunk)?;
        self.run("INSERT INTO segment (first, jobs) VALUES (0, ?)", [chunk.jobs])?;
        let segment = self.inserted();
        self.add_chunk(segment, 0, chunk)?;
        Ok(Segment { segment, jobs: i64::from(chunk.jobs) })
    }

    /// Gives jobs their place in the step that they are of; returns its number and the index of the first of them.
    fn attach_to_batch(&mut self, wf: Wf, spec: &StepSpec, added: Segment) -> Result<Option<(StepNumber, u64)>> {
        if added.jobs == 0 {
            self.run("DELETE FROM segment WHERE segment = ?", [added.segment])?;
            return Ok(None);
        }
        let mut step = self.growing_step(wf, spec)?;
        let first = step.jobs.total as i64;
        let sql = "UPDATE segment SET wf = ?2, step = ?3, first = ?4 WHERE segment = ?1";
        self.run(sql, (added.segment, wf, step.step, first))?;
        step.jobs.total += added.jobs as u64;
        self.put_step(step);
        let mut workflow = self.workflow(wf)?;
        workflow.jobs.total += added.jobs as u64;
        self.put_workflow(workflow);
        if step.released_at.is_none() {
            self.release(step)?;
        } else {
            let step = self.rouse(step)?;
            if !step.stands_for_batches() {
                self.enqueue_all(&step, first)?;
            }
        }
        if step.is_failing_fast() {
            // They are there, so that a retry of their step runs them, too, and are cancelled with the rest.
            self.leave_chore(Kind::StopRest, wf, step.step, first, 0)?;
        }
        Ok(Some((step.step, first as u64)))
    }

    /// The step of that name, to which jobs are about to be added: made, or taken back to running, if need be.
    fn growing_step(&mut self, wf: Wf, spec: &StepSpec) -> Result<Step> {
        for name in growing_names(&spec.name) {
            let sql = "SELECT step FROM step WHERE wf = ? AND name = ?";
            let Some(number) = self.one(sql, (wf, &name), |row| row.get::<_, StepNumber>(0))? else {
                return self.add_growing_step(wf, &StepSpec { name, ..spec.clone() });
            };
            let step = self.step(wf, number)?;
            match step.grows {
                true if step.children != spec.children => {}
                true if step.state.is_settled() => return self.reopen_growing(step),
                true => return Ok(step),
                // A callback has that name.
                false => {}
            }
        }
        Err(Error::corrupt(format!(
            "the callbacks of a batch have all the names that the step `{}` could have",
            spec.name
        )))
    }

    /// The step of a job type that comes to a batch for the first time, with its edges.
    fn add_growing_step(&mut self, wf: Wf, spec: &StepSpec) -> Result<Step> {
        let sql = "SELECT steps, generation FROM workflow WHERE wf = ?";
        let (steps, generation) =
            self.one(sql, [wf], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?)))?.unwrap_or_default();
        if steps >= MAX_STEPS as i64 {
            return Err(Error::usage(format!("the batch has jobs of {steps} types; at most {MAX_STEPS} are allowed")));
        }
        let batch = self.step(wf, BATCH_STEP)?;
        // Only while it is repaired does a batch that has settled get another step.
        let decision = EdgeKind::Grows.decide(batch.state, batch.decided.is_some());
        let number = self.add_step(wf, spec, (u32::from(decision.is_none()), false, false), generation)?;
        let sql = "INSERT INTO edge (wf, up, down, kind, decision) VALUES (?, ?, ?, ?, ?)";
        self.run(sql, (wf, BATCH_STEP, number, EdgeKind::Grows as u8, decision.map(|decision| decision as u8)))?;
        for (callback, kind, _) in self.callbacks(wf)? {
            let mut callback = self.step(wf, callback)?;
            if kind == EdgeKind::OnDeath
                || !is_untouched(&callback)
                || planted!("a callback does not wait for the steps that a batch gets")
            {
                continue;
            }
            let sql = "INSERT INTO edge (wf, up, down, kind) VALUES (?, ?, ?, ?)";
            self.run(sql, (wf, number, callback.step, kind as u8))?;
            callback.pending += 1;
            self.put_step(callback);
        }
        self.run("UPDATE workflow SET steps = steps + 1 WHERE wf = ?", [wf])?;
        let mut workflow = self.workflow(wf)?;
        workflow.unsettled += 1;
        self.put_workflow(workflow);
        self.step(wf, number)
    }

    /// A job that a repair has brought back adds jobs of a step that has settled: the callbacks that have not run wait for it again. They are
    /// few, so that it takes no chore.
    fn reopen_growing(&mut self, step: Step) -> Result<Step> {
        let wf = step.wf;
        let sql = "SELECT down, kind, decision FROM edge WHERE wf = ? AND up = ? ORDER BY down, kind LIMIT ?";
        let edges = self.all(sql, (wf, step.step, MAX_CALLBACKS), |row| {
            Ok((row.get::<_, StepNumber>(0)?, row.get::<_, u8>(1)?, row.get::<_, Option<u8>>(2)?))
        })?;
        for (down, kind, decision) in edges {
            let callback = self.step(wf, down)?;
            if is_untouched(&callback) {
                let kind = known(EdgeKind::from_u8(kind), "edge kind", kind)?;
                self.redecide(wf, Edge { up: step.step, down, kind }, decided(decision)?, None)?;
            }
        }
        self.back_to_running(step)
    }

    /// The callbacks of a batch: their steps, when they run, and what their edge from the batch has decided.
    fn callbacks(&mut self, wf: Wf) -> Result<Vec<(StepNumber, EdgeKind, Option<u8>)>> {
        let sql = "SELECT down, kind, decision FROM edge WHERE wf = ? AND up = ? AND down <= ? AND kind <> ?";
        let rows = self.all(sql, (wf, BATCH_STEP, MAX_CALLBACKS, EdgeKind::Grows as u8), |row| {
            Ok((row.get::<_, StepNumber>(0)?, row.get::<_, u8>(1)?, row.get::<_, Option<u8>>(2)?))
        })?;
        rows.into_iter()
            .map(|(step, kind, decision)| Ok((step, known(EdgeKind::from_u8(kind), "edge kind", kind)?, decision)))
            .collect()
    }

    fn has_batch_settled(&mut self, wf: Wf) -> Result<bool> {
        Ok(self.step(wf, BATCH_STEP)?.jobs.unsettled() == 0)
    }

    /// Settles a batch that nobody holds open once every job of the steps that grow is final.
    pub fn settle_batch(&mut self, wf: Wf) -> Result<()> {
        let workflow = self.workflow(wf)?;
        let is_open = workflow.batch == Some(BatchState::Open) && !planted!("an open batch settles once its jobs have");
        let batch = self.step(wf, BATCH_STEP)?;
        if is_open || batch.state != StepState::Running || batch.jobs.unsettled() == 0 {
            return Ok(());
        }
        let mut others = batch.jobs.unsettled();
        for (callback, ..) in self.callbacks(wf)? {
            others += self.step(wf, callback)?.jobs.unsettled();
        }
        let unsettled = workflow.jobs.unsettled().saturating_sub(others);
        let early = planted!("a batch settles with the first of its steps whose jobs have");
        if unsettled > 0 && !early {
            return Ok(());
        }
        // A repair is under way: its end looks again.
        if self.one("SELECT 1 FROM hold WHERE wf = ? LIMIT 1", [wf], |_| Ok(()))?.is_some() {
            return Ok(());
        }
        // One that is still to be told by a chore: once the batch has settled it would be too late.
        if self.deaths(&workflow)? > 0 && workflow.state != WorkflowState::Cancelling {
            self.run_death_callbacks(wf)?;
        }
        self.end_wait(&batch, 0)
    }

    /// Whether what jobs mean to their batch is left to a chore: a report may be of the last jobs of as many batches as it has leases.
    pub fn leaves_batches(&self) -> bool {
        self.cost().calls + self.calls_at_end() >= LOOKING_CALLS
    }

    /// Leaves it to a chore to look at the batch of a step that grows, if there is something to be seen.
    pub fn leave_batch(&mut self, step: &Step) -> Result<()> {
        let has_died = step.jobs.failed > 0 && !step.had_failed;
        match has_died || step.jobs.unsettled() == 0 && step.pending > 0 && step.decided.is_none() {
            true => self.leave_chore(Kind::Batch, step.wf, 0, 0, 0),
            false => Ok(()),
        }
    }

    /// The first job of a batch that fails for good runs the callbacks that are there for it, also those of the batches that it is within.
    pub fn act_on_death(&mut self, step: &Step) -> Result<()> {
        let wf = step.wf;
        if step.jobs.failed == 0 || self.workflow(wf)?.state == WorkflowState::Cancelling {
            return Ok(());
        }
        self.run_death_callbacks(wf)?;
        // Once a step: they hear of each, and act on the first.
        if step.had_failed { Ok(()) } else { self.tell_death(wf) }
    }

    /// Tells the batch that this one is within, if there is one, that a job has failed for good.
    fn tell_death(&mut self, wf: Wf) -> Result<()> {
        if planted!("a death is not told to the batch around") {
            return Ok(());
        }
        let parent = self.one("SELECT parent FROM workflow WHERE wf = ?", [wf], |row| row.get::<_, Option<Wf>>(0))?;
        match parent.flatten() {
            Some(outer) => self.leave_chore(Kind::Batch, outer, 0, 0, DEATH_WITHIN),
            None => Ok(()),
        }
    }

    /// What has been left to a chore: a job of this batch, or of one within it, has failed for good; or all jobs have settled.
    pub fn look_at_batch(&mut self, wf: Wf, has_died_within: bool) -> Result<()> {
        let workflow = self.workflow(wf)?;
        if !matches!(workflow.state, WorkflowState::Cancelling) && (has_died_within || self.deaths(&workflow)? > 0) {
            self.run_death_callbacks(wf)?;
            self.tell_death(wf)?;
        }
        self.settle_batch(wf)
    }

    /// How many jobs of the steps that grow have failed for good.
    fn deaths(&mut self, workflow: &Workflow) -> Result<u64> {
        let mut others = self.step(workflow.wf, BATCH_STEP)?.jobs.failed;
        for (callback, ..) in self.callbacks(workflow.wf)? {
            others += self.step(workflow.wf, callback)?.jobs.failed;
        }
        Ok(workflow.jobs.failed.saturating_sub(others))
    }

    fn run_death_callbacks(&mut self, wf: Wf) -> Result<()> {
        for (callback, kind, decision) in self.callbacks(wf)? {
            let mut callback = self.step(wf, callback)?;
            if kind != EdgeKind::OnDeath {
                continue;
            }
            if decision.is_some() {
                if planted!("every death runs the callback of the first") {
                    self.enqueue_all(&callback, 0)?;
                }
                continue;
            }
            let sql = "UPDATE edge SET decision = ?5 WHERE wf = ?1 AND up = ?2 AND down = ?3 AND kind = ?4";
            self.run(sql, (wf, BATCH_STEP, callback.step, kind as u8, Decision::Release as u8))?;
            callback.pending -= 1;
            self.put_step(callback);
            self.act_on_decisions(callback)?;
        }
        Ok(())
    }

    /// The client that holds a batch open adds nothing more.
    pub fn close_batch(&mut self, close: &CloseBatch) -> Result<ClosedBatch> {
        let mut workflow = self.find_batch(close.workflow)?;
        let wf = workflow.wf;
        if workflow.batch != Some(BatchState::Open) {
            let abandoned = workflow.batch == Some(BatchState::Abandoned);
            return Ok(ClosedBatch { abandoned, ..ClosedBatch::default() });
        }
        if matches!(workflow.state, WorkflowState::Cancelling | WorkflowState::Cancelled) {
            return Ok(ClosedBatch::default());
        }
        let opened_by = self.one("SELECT opened_by FROM workflow WHERE wf = ?", [wf], |row| row.get::<_, i64>(0))?;
        let draft = self.draft(close.draft)?.map(|draft| draft.draft);
        if draft.is_none() || draft != opened_by {
            return Err(Error::refused(format!(
                "batch {} is held open by another client, which closes it",
                close.workflow
            )));
        }
        self.run("DELETE FROM draft WHERE draft = ?", [draft])?;
        workflow.batch = Some(BatchState::Closed);
        self.put_workflow(workflow);
        let sql = "UPDATE awaited SET becomes = ?3, record = x'', error = '' WHERE wf = ?1 AND step = ?2";
        self.run(sql, (wf, BATCH_STEP, JobState::Succeeded as u8))?;
        self.settle_batch(wf)?;
        self.cascade()?;
        let more = self.has_chores()?;
        Ok(ClosedBatch { abandoned: false, more, woken: self.wake()? })
    }

    /// The draft that held a batch open is dead: its client has ended without closing it.
    pub fn abandon_batch(&mut self, draft: i64, wf: Wf) -> Result<()> {
        if planted!("a batch stays open although its client is dead") {
            self.run("UPDATE draft SET deadline = deadline + 1000000000 WHERE draft = ?", [draft])?;
            return Ok(());
        }
        self.run("DELETE FROM draft WHERE draft = ?", [draft])?;
        let sql = "SELECT 1 FROM workflow WHERE wf = ? AND opened_by = ? AND batch = ?";
        if self.one(sql, (wf, draft, BatchState::Open as u8), |_| Ok(()))?.is_none() {
            return Ok(());
        }
        let mut workflow = self.workflow(wf)?;
        workflow.batch = Some(BatchState::Abandoned);
        self.put_workflow(workflow);
        if planted!("an abandoned batch counts as closed") {
            let sql = "UPDATE awaited SET becomes = ?3, record = x'', error = '' WHERE wf = ?1 AND step = ?2";
            self.run(sql, (wf, BATCH_STEP, JobState::Succeeded as u8))?;
        }
        self.settle_batch(wf)
    }

    /// A batch is cancelled: nobody holds it open any more.
    pub fn let_go_of_batch(&mut self, wf: Wf, batch: Option<BatchState>) -> Result<()> {
        if batch == Some(BatchState::Open) {
            let sql = "DELETE FROM draft WHERE draft = (SELECT opened_by FROM workflow WHERE wf = ?)";
            self.run(sql, [wf])?;
        }
        Ok(())
    }

    /// The job that stands for a batch, if that was abandoned: no retry runs it again, for nobody adds to the batch any more. It may be
    /// discarded.
    pub fn abandoned_jobs(&mut self, workflow: &Workflow) -> Result<u64> {
        match workflow.batch {
            Some(BatchState::Abandoned) => Ok(self.step(workflow.wf, BATCH_STEP)?.jobs.failed),
            _ => Ok(0),
        }
    }

    /// Whether a step stands for a batch, which no retry opens again.
    pub fn stays_abandoned(&mut self, step: &Step) -> Result<bool> {
        Ok(step.step == BATCH_STEP && self.workflow(step.wf)?.batch.is_some())
    }
}

/// The error for whoever adds jobs to a batch too late.
fn settled(id: WorkflowId, batch: &Workflow) -> Error {
    Error::batch_settled(match batch.state {
        WorkflowState::Cancelling | WorkflowState::Cancelled => {
            format!("batch {id} was cancelled: no jobs can be added to it any more; put them into a new batch")
        }
        _ if batch.batch == Some(BatchState::Abandoned) => format!(
            "batch {id} has settled: it was abandoned, since the store had not heard in time of the program that held it open; no jobs can be added to it any more; put them into a new batch"
        ),
        _ => format!("batch {id} has settled: no jobs can be added to it any more; put them into a new batch"),
    })
}
