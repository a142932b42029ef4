//! Making a workflow, and writing drafts: of a workflow too large for one call, of the jobs that a source emits, of mended parameters.

use rusqlite::params;

use super::checkpoint::KEPT;
use super::chore::Kind;
use super::tx::{Step, Tx, Wf};
use crate::clock::millis;
use crate::error::{Error, Result};
use crate::graph::{StepNumber, StepSpec};
use crate::payload::Chunk;
use crate::planted::planted;
use crate::slice::CHUNK_JOBS;
use crate::state::{Tolerate, WorkflowState};
use crate::store::{
    Append, Begin, Create, Created, DraftKey, DraftOf, NewWorkflow, OccurrenceState, Part, StepOptions,
};

pub struct Draft {
    pub draft: i64,
    pub wf: Option<Wf>,
    pub segment: Option<i64>,
    /// The step that the segment is for.
    pub of: Option<(Wf, StepNumber)>,
    /// What it is for as a whole.
    pub of_wf: Option<Wf>,
    /// The step of jobs for a batch.
    pub spec: Option<String>,
    next: i64,
    pub jobs: i64,
    /// Whether a checkpoint covers it.
    is_kept: bool,
}

impl Tx<'_> {
    /// Writes parts into a draft, which the first call makes, and renews it.
    pub fn append(&mut self, append: &Append) -> Result<()> {
        let lease_time = self.advance_lease_time(append.lease)?;
        let deadline = lease_time + append.lease;
        let mut draft = match self.draft(append.draft)? {
            Some(draft) => draft,
            None if append.number == 0 => self.begin_draft(append, deadline)?,
            None => {
                return Err(Error::refused("the draft is gone: it was not renewed in time, and nothing of it is left"));
            }
        };
        let number = i64::try_from(append.number).unwrap_or(i64::MAX);
        if number > draft.next && !planted!("a draft goes on without a part that is missing") {
            return Err(Error::usage(format!("part {number} of a draft came before part {}", draft.next)));
        }
        if append.parts.iter().any(|part| matches!(part, Part::Within { .. })) {
            return Err(Error::usage("that a batch is within another one is said when it is created, not in a draft"));
        }
        if number == draft.next || planted!("a part of a draft that is sent again is written again") {
            match (draft.wf, draft.segment) {
                (Some(wf), _) => self.add_parts(wf, &append.parts)?,
                (None, Some(segment)) => draft.jobs += self.add_to_segment(segment, draft.jobs, &append.parts)?,
                (None, None) if draft.of_wf.is_some() && append.parts.is_empty() => {}
                (None, None) => return Err(Error::corrupt("a draft is of nothing")),
            }
            draft.next += 1;
        }
        let sql = "UPDATE draft SET next = ?2, jobs = ?3, deadline = max(deadline, ?4) WHERE draft = ?1";
        self.run(sql, (draft.draft, draft.next, draft.jobs, deadline))?;
        Ok(())
    }

    pub fn draft(&mut self, key: DraftKey) -> Result<Option<Draft>> {
        let sql = "SELECT draft, wf, segment, next, jobs, of_wf, of_step, deadline, spec FROM draft WHERE session = ? AND number = ?";
        self.one(sql, (key.session.as_bytes().as_slice(), key.number as i64), |row| {
            Ok(Draft {
                draft: row.get(0)?,
                wf: row.get(1)?,
                segment: row.get(2)?,
                next: row.get(3)?,
                jobs: row.get(4)?,
                of: row.get::<_, Option<Wf>>(5)?.zip(row.get(6)?),
                is_kept: row.get::<_, i64>(7)? == KEPT,
                of_wf: row.get(5)?,
                spec: row.get(8)?,
            })
        })
    }

    /// Whether the draft is there.
    pub fn has_draft(&mut self, key: DraftKey) -> Result<bool> {
        Ok(self.draft(key)?.is_some())
    }

    /// The draft of a workflow that has taken its key; its first call, which brings nothing, is done.
    pub fn begin_keyed(&mut self, begin: &Begin) -> Result<Wf> {
        let deadline = self.advance_lease_time(begin.lease)? + begin.lease;
        let wf = self.begin_workflow(&begin.workflow)?;
        let (session, number) = (begin.draft.session, begin.draft.number as i64);
        let sql = "INSERT INTO draft (session, number, wf, next, jobs, deadline) VALUES (?, ?, ?, 1, 0, ?)";
        self.run(sql, (session.as_bytes().as_slice(), number, wf, deadline))?;
        Ok(wf)
    }

    fn begin_draft(&mut self, append: &Append, deadline: i64) -> Result<Draft> {
        let (mut spec, mut added_to) = (None, None);
        let (wf, segment, of) = match &append.of {
            DraftOf::Workflow(new) if new.key.is_some() => return Err(no_key()),
            DraftOf::Workflow(new) => (Some(self.begin_workflow(new)?), None, None),
            DraftOf::Jobs { workflow, step } | DraftOf::Mended { workflow, step } => {
                let workflow = self.find(*workflow)?;
                let wf = workflow.wf;
                let of = self.step(wf, *step)?;
                let is_jobs = matches!(append.of, DraftOf::Jobs { .. });
                let has_body = |part: &Part| matches!(part, Part::Mended { body, .. } if !body.is_empty());
                if of.is_chained() && (is_jobs || append.parts.iter().any(has_body)) {
                    return Err(Error::usage(format!(
                        "step {step} of this workflow is chained: its jobs are made of those before them"
                    )));
                }
                let state = of.state;
                let is_cancelled = matches!(workflow.state, WorkflowState::Cancelling | WorkflowState::Cancelled);
                if is_jobs && state.is_settled() && !is_cancelled {
                    return Err(Error::refused(super::eager::too_late(*step)));
                }
                self.run("INSERT INTO segment (first, jobs) VALUES (0, 0)", [])?;
                (None, Some(self.inserted()), Some((wf, *step)))
            }
            DraftOf::Open { workflow } => return Err(self.not_held_open(*workflow)?),
            DraftOf::Added { workflow, step } => {
                let batch = self.batch_that_takes_drafts(*workflow)?;
                spec = Some(to_json(step)?);
                self.run("INSERT INTO segment (first, jobs) VALUES (0, 0)", [])?;
                added_to = Some(batch);
                (None, Some(self.inserted()), None)
            }
        };
        let key = append.draft;
        let sql = "INSERT INTO draft (session, number, wf, segment, of_wf, of_step, spec, next, jobs, deadline) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?)";
        let session = key.session.as_bytes().as_slice();
        let of_wf = of.map(|(wf, _)| wf).or(added_to);
        let of_step = of.map(|(_, step)| step);
        self.run(sql, params![session, key.number as i64, wf, segment, of_wf, of_step, spec, deadline])?;
        Ok(Draft { draft: self.inserted(), wf, segment, of, of_wf, spec, next: 0, jobs: 0, is_kept: false })
    }

    /// The head of a workflow that nobody can see yet: it has no id before it is whole.
    pub fn begin_workflow(&mut self, new: &NewWorkflow) -> Result<Wf> {
        let sql = "INSERT INTO workflow (name, arguments, generation, state, steps, unsettled, active, failed_steps, chores, \
                   total, succeeded, failed, skipped, cancelled, retrying, deferred, created_at, retention, pinned, key, overlap, \
                   parent, parent_step, parent_index) \
                   VALUES (?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ?, ?, 0, ?, ?, ?, ?, ?)";
        self.count_bytes(new.arguments.len());
        let (key, overlap) = new.key.as_ref().map(|key| (&key.key, key.overlap as u8)).unzip();
        let parent = new.parent.map(|parent| self.parent_of_new(&parent)).transpose()?;
        let (parent, step) = parent.map(|(wf, step, index)| (wf, (step, index))).unzip();
        let (step, index) = step.unzip();
        let kept = (to_json(&new.retention)?, key, overlap);
        let head = (&new.name, &new.arguments, new.generation, WorkflowState::Building as u8, self.now);
        self.run(sql, params![head.0, head.1, head.2, head.3, head.4, kept.0, kept.1, kept.2, parent, step, index])?;
        Ok(self.inserted())
    }

    /// Adds steps, edges and jobs to a workflow that is being built.
    pub fn add_parts(&mut self, wf: Wf, parts: &[Part]) -> Result<()> {
        let generation = self.one("SELECT generation FROM workflow WHERE wf = ?", [wf], |row| row.get::<_, u32>(0))?;
        let mut steps = 0;
        for part in parts {
            match part {
                Part::Step { spec, upstreams, always, awaits } => {
                    let number =
                        self.add_step(wf, spec, (*upstreams, *always, awaits.is_some()), generation.unwrap_or(0))?;
                    if let Some(awaits) = awaits {
                        self.add_awaited(wf, number, awaits)?;
                    }
                    steps += 1;
                }
                Part::Open { draft, lease } => self.open_batch(wf, *draft, *lease)?,
                Part::Within { batch, step, chunk } => self.put_within(wf, *batch, step, chunk)?,
                Part::Edge(edge) => {
                    let sql = "INSERT INTO edge (wf, up, down, kind) VALUES (?, ?, ?, ?)";
                    self.run(sql, (wf, edge.up, edge.down, edge.kind as u8))?;
                }
                Part::Jobs { step, chunk } => self.add_jobs(wf, *step, chunk)?,
                Part::Mended { .. } => return Err(Error::usage("a workflow being built has no jobs to mend")),
            }
        }
        if steps > 0 {
            self.run("UPDATE workflow SET steps = steps + ?2, unsettled = unsettled + ?2 WHERE wf = ?1", (wf, steps))?;
        }
        Ok(())
    }

    /// Adds the next step, behind so many edges that have not decided; returns its number.
    pub fn add_step(
        &mut self,
        wf: Wf,
        spec: &StepSpec,
        (upstreams, always, awaits): (u32, bool, bool),
        generation: u32,
    ) -> Result<StepNumber> {
        let line = self.line(&spec.queue, spec.priority, &spec.job_type, false)?;
        let (jobs, fraction) = match spec.tolerate {
            Tolerate::None => (None, None),
            Tolerate::Jobs(jobs) => (Some(i64::try_from(jobs).unwrap_or(i64::MAX)), None),
            Tolerate::Fraction(fraction) => (None, Some(fraction)),
        };
        let options = to_json(&StepOptions::of(spec))?;
        let whole = to_json(spec)?;
        self.count_bytes(whole.len() + options.len());
        let sql = "INSERT INTO step (wf, step, name, spec, options, type, line, feeds, always, tolerate_jobs, \
                   tolerate_fraction, max_in_flight, max_recoveries, delay, generation, state, pending, skips, waits, \
                   cancels, roots, awaits, policy, grows, children, follows, root, total, succeeded, failed, skipped, cancelled, retrying, deferred, leased) \
                   VALUES (?1, (SELECT coalesce(max(step) + 1, 0) FROM step WHERE wf = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8, \
                   ?9, ?10, ?11, ?12, ?13, ?14, 0, ?15, 0, 0, 0, ?16, ?17, ?18, ?19, ?20, ?21, ?22, 0, 0, 0, 0, 0, 0, 0, 0) RETURNING step";
        let params = params![
            wf,
            spec.name,
            whole,
            options,
            spec.job_type,
            line,
            spec.feeds,
            always,
            jobs,
            fraction,
            spec.max_in_flight,
            spec.max_recoveries,
            millis(spec.delay),
            generation,
            upstreams,
            upstreams == 0,
            awaits,
            spec.policy as u8,
            spec.grows,
            spec.children,
            spec.follows(),
            spec.chain.first().map(|link| link.step)
        ];
        let number = self.one(sql, params, |row| row.get::<_, StepNumber>(0))?;
        let number = number.ok_or_else(|| Error::corrupt("a step that was added has no number"))?;
        if let Some(up) = spec.follows() {
            let sql = "UPDATE step SET leads = ?3 WHERE wf = ?1 AND step = ?2 AND leads IS NULL AND step < ?3";
            if self.run(sql, (wf, up, number))? == 0 {
                return Err(Error::usage(format!("step `{}` is chained to step {up}, which cannot be", spec.name)));
            }
        }
        Ok(number)
    }

    fn add_jobs(&mut self, wf: Wf, step: StepNumber, chunk: &Chunk) -> Result<()> {
        let sql = "SELECT segment, jobs FROM segment WHERE wf = ? AND step = ? ORDER BY first DESC LIMIT 1";
        let there = self.one(sql, (wf, step), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let (segment, jobs) = match there {
            Some(there) => there,
            None => {
                self.run("INSERT INTO segment (wf, step, first, jobs) VALUES (?, ?, 0, 0)", (wf, step))?;
                (self.inserted(), 0)
            }
        };
        self.add_chunk(segment, jobs, chunk)?;
        self.run("UPDATE segment SET jobs = jobs + ?2 WHERE segment = ?1", (segment, chunk.jobs))?;
        // The counts of steps and workflow are not cached here: a workflow that is being built has no other operations.
        // Steps that are chained to this one have as many.
        let (mut longer, mut steps) = (Some(step), 0);
        while let Some(step) = longer {
            let sql = "UPDATE step SET total = total + ?3 WHERE wf = ?1 AND step = ?2 RETURNING leads";
            longer = self.one(sql, (wf, step, chunk.jobs), |row| row.get(0))?.flatten();
            steps += 1;
        }
        self.run("UPDATE workflow SET total = total + ?2 * ?3 WHERE wf = ?1", (wf, chunk.jobs, steps))?;
        Ok(())
    }

    /// Adds a chunk to a segment; returns its number.
    pub fn add_chunk(&mut self, segment: i64, first: i64, chunk: &Chunk) -> Result<i64> {
        check_chunk(chunk)?;
        self.count_bytes(chunk.body.len());
        self.run("INSERT INTO params (body) VALUES (?)", [&chunk.body])?;
        let number = self.inserted();
        self.run(
            "INSERT INTO chunk (segment, first, jobs, chunk) VALUES (?, ?, ?, ?)",
            (segment, first, chunk.jobs, number),
        )?;
        Ok(number)
    }

    /// Adds jobs, or mended parameters, to a segment that has `jobs` jobs so far; returns how many jobs came.
    fn add_to_segment(&mut self, segment: i64, jobs: i64, parts: &[Part]) -> Result<i64> {
        let mut added = 0;
        for part in parts {
            match part {
                Part::Jobs { chunk, .. } => {
                    self.add_chunk(segment, jobs + added, chunk)?;
                    added += i64::from(chunk.jobs);
                }
                Part::Mended { chunk, first, jobs, body } => {
                    self.count_bytes(body.len());
                    let sql = "INSERT INTO mended (chunk, first, segment, jobs, body) VALUES (?, ?, ?, ?, ?)";
                    self.run(sql, params![*chunk as i64, *first as i64, segment, jobs.to_bytes(), body])?;
                }
                Part::Step { .. } | Part::Edge(_) | Part::Open { .. } | Part::Within { .. } => {
                    return Err(Error::usage("steps and edges cannot be added to a step"));
                }
            }
        }
        self.run("UPDATE segment SET jobs = jobs + ?2 WHERE segment = ?1", (segment, added))?;
        Ok(added)
    }

    /// Makes a workflow visible and releases its first steps.
    pub fn create(&mut self, create: &Create) -> Result<Created> {
        let id = create.workflow.id;
        let sql = "SELECT wf FROM workflow WHERE id = ?";
        let there = self.one(sql, [id.as_bytes().as_slice()], |row| row.get::<_, Wf>(0))?;
        if let Some(there) = there {
            let sql = "SELECT generation FROM workflow WHERE wf = ?";
            let generation = self.one(sql, [there], |row| row.get::<_, u32>(0))?.unwrap_or(0);
            let is_repeated = !create.again || generation >= create.workflow.generation;
            if is_repeated && !planted!("a creation sent again is taken for a new one") {
                self.abandon(create.draft)?;
                return Ok(Created { existed: true, ..Created::default() });
            }
            self.make_room(there)?;
        } else if let Some(occurrence) = &create.workflow.occurrence
            && self.is_decided(occurrence)?
        {
            self.abandon(create.draft)?;
            return Ok(Created { existed: true, ..Created::default() });
        }
        let wf = match create.draft {
            None if create.workflow.key.is_some() => return Err(no_key()),
            None => self.begin_workflow(&create.workflow)?,
            Some(key) => {
                let draft = self.draft(key)?.and_then(|draft| draft.wf.map(|wf| (draft.draft, wf)));
                let (draft, wf) = draft.ok_or_else(|| {
                    Error::refused("the draft is gone: it was not renewed in time, and nothing of it is left")
                })?;
                self.run("DELETE FROM draft WHERE draft = ?", [draft])?;
                wf
            }
        };
        if let Some(parent) = &create.workflow.parent {
            // It may have been cancelled while this one was written.
            self.parent_of_new(parent)?;
        }
        self.add_parts(wf, &create.parts)?;
        let sql = "UPDATE workflow SET id = ?2, state = ?3, created_at = ?4 WHERE wf = ?1";
        self.run(sql, (wf, id.as_bytes().as_slice(), WorkflowState::Pending as u8, self.now))?;
        if let Some(occurrence) = &create.workflow.occurrence {
            self.decide_occurrence(occurrence, OccurrenceState::Started, Some(id))?;
        }
        if create.workflow.key.as_ref().is_some_and(|key| key.overlap.waits()) {
            self.stop_waiting(id)?;
        }
        self.to_finish.insert(wf);
        self.release_roots(wf, 0)?;
        self.cascade()?;
        let more = self.workflow(wf)?.chores > 0;
        Ok(Created { existed: false, more, woken: self.wake()? })
    }

    /// Takes the id from a finished workflow, which then is deleted.
    fn make_room(&mut self, wf: Wf) -> Result<()> {
        let mut workflow = self.workflow(wf)?;
        if !workflow.state.is_finished() {
            return Err(Error::refused(format!(
                "the workflow is {}; only a finished one can be started again (cancel it first)",
                workflow.state
            )));
        }
        workflow.state = WorkflowState::Deleting;
        self.put_workflow(workflow);
        self.run("UPDATE workflow SET id = NULL, expires_at = NULL WHERE wf = ?", [wf])?;
        self.leave_chore(Kind::Delete, wf, 0, 0, 0)
    }

    /// Moves a source's draft into the step that it feeds; returns how many jobs came.
    pub fn adopt(&mut self, key: DraftKey, wf: Wf, step: StepNumber) -> Result<u64> {
        let draft = self.draft(key)?;
        let (draft, segment, jobs) = match draft {
            Some(Draft { draft, segment: Some(segment), jobs, of, .. }) if of == Some((wf, step)) => {
                (draft, segment, jobs)
            }
            _ => return Err(Error::refused("the source's draft is gone")),
        };
        let fed = self.step(wf, step)?;
        let first = fed.jobs.total as i64;
        let cancelling = self.workflow(wf)?.state == WorkflowState::Cancelling && !fed.always;
        if cancelling || fed.state.is_settled() || fed.decided.is_some() {
            // The workflow was cancelled while the source ran: a settled step gets no further jobs.
            self.collect_draft(draft, None, Some(segment))?;
            return Ok(0);
        }
        self.run("DELETE FROM draft WHERE draft = ?", [draft])?;
        if jobs == 0 {
            self.run("DELETE FROM segment WHERE segment = ?", [segment])?;
            return Ok(0);
        }
        self.run("UPDATE segment SET wf = ?2, step = ?3, first = ?4 WHERE segment = ?1", (segment, wf, step, first))?;
        self.jobs_came(wf, step, first, jobs)?;
        Ok(jobs as u64)
    }

    /// Jobs have come to the end of a step that is fed, from index `first` on: they are counted, and may begin.
    pub fn jobs_came(&mut self, wf: Wf, step: StepNumber, first: i64, jobs: i64) -> Result<()> {
        let mut fed = self.step(wf, step)?;
        fed.jobs.total += jobs as u64;
        self.put_step(fed);
        let mut workflow = self.workflow(wf)?;
        workflow.jobs.total += jobs as u64;
        self.put_workflow(workflow);
        if planted!("emitted jobs are counted in their step only") {
            workflow.jobs.total -= jobs as u64;
            self.put_workflow(workflow);
        }
        self.lengthen_chain(wf, fed.leads, first, jobs)?;
        if fed.may_begin() && fed.released_at.is_none() && !planted!("what one source emitted waits for all the others")
        {
            self.release(fed)?;
        } else if fed.released_at.is_some() && !self.is_delayed(&fed)? {
            let fed = self.rouse(fed)?;
            self.enqueue_all(&fed, first)?;
        }
        if fed.is_failing_fast() && !planted!("what is emitted for a step that failed fast stays open") {
            // They are there, so that a retry of their step runs them, too, and are cancelled with the rest.
            self.leave_chore(Kind::StopRest, wf, step, first, 0)?;
        }
        Ok(())
    }

    /// Whether a timer will put all jobs of a step into its line.
    fn is_delayed(&mut self, step: &Step) -> Result<bool> {
        let sql = "SELECT 1 FROM timer WHERE wf = ? AND step = ? AND chunk = 0 LIMIT 1";
        Ok(step.delay > 0 && self.one(sql, (step.wf, step.step), |_| Ok(()))?.is_some())
    }

    /// The segment of mended parameters that a draft wrote; the draft ends.
    pub fn adopt_mended(&mut self, key: DraftKey, wf: Wf, step: StepNumber) -> Result<i64> {
        match self.draft(key)? {
            Some(Draft { draft, segment: Some(segment), of, .. }) if of == Some((wf, step)) => {
                self.run("DELETE FROM draft WHERE draft = ?", [draft])?;
                Ok(segment)
            }
            _ => Err(Error::refused(
                "the mended parameters are gone: they were not renewed in time, or the workflow has been started again since",
            )),
        }
    }

    /// The draft of a source that has been written by just so many calls: its number, these, and how many jobs it has.
    pub fn covered(
        &mut self,
        key: DraftKey,
        (wf, feeds): (Wf, Option<StepNumber>),
        calls: u64,
    ) -> Result<(i64, i64, i64)> {
        match self.draft(key)? {
            Some(draft) if draft.of.is_some() && draft.of == feeds.map(|step| (wf, step)) => {
                if draft.next != calls as i64 {
                    return Err(Error::usage(format!(
                        "a checkpoint covers {calls} calls of a draft that {} have written",
                        draft.next
                    )));
                }
                Ok((draft.draft, draft.next, draft.jobs))
            }
            _ => Err(Error::refused("the source's draft is gone")),
        }
    }

    /// Gives up what an attempt of a source wrote, unless the next one goes on with it.
    pub fn drop_draft(&mut self, key: DraftKey) -> Result<()> {
        match self.draft(key)? {
            Some(draft) if !draft.is_kept => self.collect_draft(draft.draft, draft.wf, draft.segment),
            _ => Ok(()),
        }
    }

    /// Gives up a draft: what it wrote is collected by a chore.
    pub fn abandon(&mut self, key: Option<DraftKey>) -> Result<()> {
        match key.map(|key| self.draft(key)).transpose()?.flatten() {
            Some(Draft { draft, wf: None, segment: None, of_wf: Some(batch), .. }) => self.abandon_batch(draft, batch),
            Some(draft) => self.collect_draft(draft.draft, draft.wf, draft.segment),
            None => Ok(()),
        }
    }

    /// Leaves a draft, which is dead, to a chore.
    pub fn collect_draft(&mut self, draft: i64, wf: Option<Wf>, segment: Option<i64>) -> Result<()> {
        self.run("DELETE FROM draft WHERE draft = ?", [draft])?;
        if let Some(wf) = wf {
            self.free_key_of(wf)?;
            let mut workflow = self.workflow(wf)?;
            workflow.state = WorkflowState::Deleting;
            self.put_workflow(workflow);
            self.leave_chore(Kind::Delete, wf, 0, 0, 0)?;
        }
        match segment {
            Some(segment) => self.leave_chore(Kind::Drop, 0, segment, 0, segment),
            None => Ok(()),
        }
    }
}

fn no_key() -> Error {
    Error::usage("a workflow with a key takes it first, by `begin`")
}

/// Refuses a chunk of a size that chunks do not have.
pub fn check_chunk(chunk: &Chunk) -> Result<()> {
    if chunk.jobs == 0 || chunk.jobs as usize > CHUNK_JOBS {
        return Err(Error::usage(format!("a chunk has {} jobs; it may have 1 to {CHUNK_JOBS}", chunk.jobs)));
    }
    Ok(())
}

pub fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::usage("a value cannot be written as JSON").because(e))
}
