//! Running a step again, and what comes after it: one chore, which holds every step that it touches until it has taken all of them back.
//!
//! ```text
//!            ┌────────────────────── a step on the chore's list (a row of `again`) ──────────────────────┐
//! run again ─┤ tell: its followers wait for it anew, and go on the list if they are to run again, too     │
//!            │ lines: its entries, timers and leases go; then it is waiting, and held back by a gate      │
//!            │ children: the workflows that stand for its jobs are cancelled                             │
//!            │ ask: each edge into it is decided anew, by how the step before it stands now               │
//!            │ jobs: they are as they were created                                                        │
//!            │ drop: what its source emitted goes, if that runs again: it emits anew                      ├─ release again: gate after
//!            └─────────────────────────────────────────────────────────────────────────────────────────────┘  gate is opened
//! ```
//!
//! A hold keeps a step on the list from settling, a gate (one more upstream that has not decided) from being released, whatever the steps
//! around it do meanwhile. In a workflow one such repair is at work at a time; a retry waits for it, too. Once a workflow is being
//! cancelled no further step is taken back.

use super::chore::Kind;
use super::tx::{Step, Tx, Wf, decided, known};
use crate::error::{Error, Result};
use crate::graph::{Edge, StepNumber};
use crate::ledger::What;
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::{Decision, EdgeKind, JobState, StepState, WorkflowState};
use crate::store::{BATCH_STEP, RanAgain, RunAgain, refuse_batch, refuse_repair};

/// How many edges are looked at at once.
const EDGES: usize = 30;
/// How many chunks are taken back at once.
const CHUNKS: usize = 30;
/// How many leases are.
const LEASES: i64 = 60;
/// How many steps are released at once.
const GATES: i64 = 30;
/// From this many statements, or bytes, on a bite leaves the rest to the next one.
const SOFT_CALLS: u64 = 330;
const SOFT_BYTES: u64 = 128 * 1024;
/// The hold of a step on the list.
const HOLD: &str = "run again";

/// What is to be done next with a step on the list. What has been begun comes before what has not; what a source emitted goes after all
/// leases of the source have.
mod stage {
    pub const LINES: i64 = 1;
    pub const CHILDREN: i64 = 2;
    pub const ASK: i64 = 3;
    pub const JOBS: i64 = 4;
    pub const TELL: i64 = 5;
    pub const DROP: i64 = 6;
    pub const DONE: i64 = 7;
}

/// A step on the list.
#[derive(Clone, Copy, Debug)]
struct Taken {
    step: StepNumber,
    stage: i64,
    cursor: i64,
    /// A gate holds it back.
    gated: bool,
    /// The source that feeds it runs again.
    dropped: bool,
}

impl Tx<'_> {
    /// Notes that a step is to run again; a chore takes it back, with what comes after it.
    pub fn run_again(&mut self, run: &RunAgain) -> Result<RanAgain> {
        self.once(run.session, run.command, |tx| tx.begin_to_run_again(run))
    }

    fn begin_to_run_again(&mut self, run: &RunAgain) -> Result<RanAgain> {
        let workflow = self.find(run.workflow)?;
        super::command::refuse_lane(run.workflow, workflow.state)?;
        refuse_repair(run.workflow, workflow.state)?;
        let step = self.step(workflow.wf, run.step)?;
        refuse_batch(run.workflow, workflow.batch.is_some() && !self.runs_at_the_end(&step)?)?;
        if is_untouched(&step) {
            return Ok(RanAgain::default());
        }
        if let Some(held_by) = self.take_up_again(workflow, run.workflow)? {
            return Ok(RanAgain { held_by: Some(held_by), ..RanAgain::default() });
        }
        self.leave_chore(Kind::RunAgain, workflow.wf, run.step, 0, i64::from(run.again))?;
        Ok(RanAgain { jobs: step.jobs.total, more: true, held_by: None })
    }

    /// Whether a step of a batch is what runs on its success or completion.
    fn runs_at_the_end(&mut self, step: &Step) -> Result<bool> {
        if step.step == BATCH_STEP || step.grows {
            return Ok(false);
        }
        let sql = "SELECT 1 FROM edge WHERE wf = ? AND down = ? AND kind = ?";
        Ok(self.one(sql, (step.wf, step.step, EdgeKind::OnDeath as u8), |_| Ok(()))?.is_none())
    }

    /// Whether steps of a workflow are being taken back to run again.
    pub fn is_running_again(&mut self, wf: Wf) -> Result<bool> {
        let sql = "SELECT 1 FROM chore WHERE wf = ? AND kind IN (?, ?) AND error IS NULL LIMIT 1";
        Ok(self.one(sql, (wf, Kind::RunAgain.as_str(), Kind::ReleaseAgain.as_str()), |_| Ok(()))?.is_some())
    }

    /// One bite of taking back step `root` and what comes after it.
    pub fn run_again_bite(&mut self, wf: Wf, root: StepNumber, again: i64) -> Result<()> {
        if !self.is_next_to_run_again(wf, root, again)? {
            return self.leave_chore(Kind::RunAgain, wf, root, 0, again);
        }
        while self.cost().calls + self.calls_at_end() < SOFT_CALLS && self.cost().bytes < SOFT_BYTES {
            let Some(taken) = self.next_to_take_back(wf)? else {
                return self.leave_chore(Kind::ReleaseAgain, wf, root, 0, again);
            };
            if !self.take_back_some(wf, taken, again > 0)? {
                break;
            }
        }
        self.leave_chore(Kind::RunAgain, wf, root, 0, again)
    }

    /// Whether no other repair of this sort is at work, or this one is. One that is new begins.
    fn is_next_to_run_again(&mut self, wf: Wf, root: StepNumber, again: i64) -> Result<bool> {
        let sql = "SELECT root, again FROM again WHERE wf = ? LIMIT 1";
        let owner = self.one(sql, [wf], |row| Ok((row.get::<_, StepNumber>(0)?, row.get::<_, i64>(1)?)))?;
        let Some((step, how)) = owner else {
            self.put_on_list(wf, root, false, (root, again))?;
            return Ok(true);
        };
        let sql = "SELECT kind = ?5 FROM chore WHERE wf = ?1 AND step = ?2 AND argument = ?3 AND kind IN (?4, ?5) AND error IS NULL \
                   ORDER BY kind = ?5 DESC LIMIT 1";
        let kinds = (Kind::RunAgain.as_str(), Kind::ReleaseAgain.as_str());
        let releases = self.one(sql, (wf, step, how, kinds.0, kinds.1), |row| row.get::<_, bool>(0))?;
        match releases {
            // This chore itself is off the list while it is at work.
            None if (step, how) == (root, again) => Ok(true),
            None => Err(Error::corrupt(format!(
                "step {root} cannot run again before what began with step {step} has come to its end, and that cannot be done"
            ))),
            Some(_) => Ok(false),
        }
    }

    fn put_on_list(&mut self, wf: Wf, step: StepNumber, dropped: bool, (root, again): (StepNumber, i64)) -> Result<()> {
        // What it has been given to go on with is taken back when the step before it is, though it has been taken back itself.
        let sql = "UPDATE again SET stage = ?3, cursor = 0 WHERE wf = ?1 AND step = ?2 AND stage <> ?4";
        if self.step(wf, step)?.is_chained() && self.run(sql, (wf, step, stage::LINES, stage::TELL))? > 0 {
            return Ok(());
        }
        let sql = "INSERT INTO again (wf, step, stage, cursor, gated, dropped, root, again) VALUES (?1, ?2, ?3, 0, 0, ?4, ?5, ?6) \
                   ON CONFLICT DO UPDATE SET dropped = max(dropped, ?4), stage = iif(?4 = 1 AND stage = ?7, ?8, stage)";
        self.run(sql, (wf, step, stage::TELL, dropped, root, again, stage::DONE, stage::DROP))?;
        if !planted!("what runs again may settle meanwhile") {
            self.run("INSERT INTO hold VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (wf, step, HOLD))?;
        }
        Ok(())
    }

    fn next_to_take_back(&mut self, wf: Wf) -> Result<Option<Taken>> {
        let sql = "SELECT step, stage, cursor, gated, dropped FROM again WHERE wf = ? AND stage < ? ORDER BY stage, step LIMIT 1";
        self.one(sql, (wf, stage::DONE), taken)
    }

    fn put_taken(&mut self, wf: Wf, taken: Taken, stage: i64, cursor: i64) -> Result<()> {
        let sql = "UPDATE again SET stage = ?3, cursor = ?4, gated = ?5 WHERE wf = ?1 AND step = ?2";
        self.run(sql, (wf, taken.step, stage, cursor, taken.gated))?;
        Ok(())
    }

    /// Does some of what is next with a step; returns false if it has to wait for another chore.
    fn take_back_some(&mut self, wf: Wf, taken: Taken, again: bool) -> Result<bool> {
        let number = taken.step;
        let step = self.step(wf, number)?;
        let behind = if taken.dropped { stage::DROP } else { stage::DONE };
        // A cancel ends what is left as it is; what always runs is taken back whole.
        let cancelling = self.workflow(wf)?.state == WorkflowState::Cancelling;
        if cancelling && (!taken.gated || step.decided.is_some()) {
            self.put_taken(wf, taken, stage::DONE, 0)?;
            return Ok(true);
        }
        match taken.stage {
            stage::TELL => {
                if taken.cursor == 0 && self.has_chore_under_way(&step)? {
                    return Ok(false);
                }
                match self.tell_to_wait_again(&step, taken.cursor, again)? {
                    Some(next) => self.put_taken(wf, taken, stage::TELL, next)?,
                    None => self.put_taken(wf, taken, stage::LINES, 0)?,
                }
            }
            stage::LINES => {
                if self.clear_lines(wf, number)? || self.end_leases_of(&step)? {
                    self.put_taken(wf, taken, stage::LINES, 0)?;
                } else {
                    let next = match is_untouched(&step) && !step.is_chained() {
                        // Somebody has skipped some that are to go.
                        true if taken.dropped && step.jobs.settled() > 0 => stage::JOBS,
                        true => behind,
                        false if step.children => stage::CHILDREN,
                        false => stage::ASK,
                    };
                    if !taken.gated {
                        self.take_back_step(step)?;
                    }
                    self.put_taken(wf, Taken { gated: true, ..taken }, next, 0)?;
                }
            }
            stage::CHILDREN => match self.cancel_some_children(wf, number, (taken.cursor, false), |_| true)? {
                Some(next) => self.put_taken(wf, taken, stage::CHILDREN, next)?,
                None => self.put_taken(wf, taken, stage::ASK, 0)?,
            },
            stage::ASK => match self.ask_again(wf, number, taken.cursor)? {
                Some(next) => self.put_taken(wf, taken, stage::ASK, next)?,
                None => self.put_taken(wf, taken, stage::JOBS, 0)?,
            },
            stage::JOBS => match self.take_back_jobs(&step, taken.cursor)? {
                Some(next) => self.put_taken(wf, taken, stage::JOBS, next)?,
                None => self.put_taken(wf, taken, behind, 0)?,
            },
            _ => {
                let next = if self.drop_emitted(&step)? { stage::DROP } else { stage::DONE };
                self.put_taken(wf, taken, next, 0)?;
            }
        }
        Ok(true)
    }

    /// Whether another chore changes the step's jobs, or tells its followers.
    fn has_chore_under_way(&mut self, step: &Step) -> Result<bool> {
        let kinds = [
            Kind::Settled,
            Kind::Fill,
            Kind::SkipBehind,
            Kind::ReopenBehind,
            Kind::StopRest,
            Kind::RetryJobs,
            Kind::Revive,
        ]
        .map(Kind::as_str);
        let sql = "SELECT 1 FROM chore WHERE wf = ? AND step = ? AND kind IN (SELECT value FROM json_each(?)) AND error IS NULL LIMIT 1";
        let kinds = super::create::to_json(&kinds)?;
        let there = self.one(sql, (step.wf, step.step, kinds), |_| Ok(()))?.is_some();
        Ok(there && !planted!("a step runs again while another chore changes it"))
    }

    /// As long as a step counts as settled its followers are told to wait for it again, from step `from` on: so none of them is released by
    /// what it was. Those that are to run again, too, go on the list. Returns where to go on.
    fn tell_to_wait_again(&mut self, step: &Step, from: i64, again: bool) -> Result<Option<i64>> {
        let (wf, up) = (step.wf, step.step);
        let sql = "SELECT root, again FROM again WHERE wf = ? AND step = ?";
        let owner = self.one(sql, (wf, up), |row| Ok((row.get(0)?, row.get(1)?)))?.unwrap_or_default();
        let sql =
            "SELECT down, kind, decision FROM edge WHERE wf = ? AND up = ? AND down >= ? ORDER BY down, kind LIMIT ?";
        let edges = self.all(sql, (wf, up, from, EDGES as i64), |row| {
            Ok((row.get::<_, StepNumber>(0)?, row.get::<_, u8>(1)?, row.get::<_, Option<u8>>(2)?))
        })?;
        for (down, kind, decision) in &edges {
            let kind = known(EdgeKind::from_u8(*kind), "edge kind", *kind)?;
            let mut follower = self.step(wf, *down)?;
            let has_run = follower.released_at.is_some() && follower.state.is_settled();
            let is_fed = kind == EdgeKind::Feeds && !planted!("what a source emitted stays when the source runs again");
            let goes_too = again || !has_run && !is_untouched(&follower) || planted!("what has run runs again unasked");
            let is_chained =
                kind == EdgeKind::Chains && !planted!("what is chained to a step that runs again keeps what it has");
            if is_fed || is_chained || goes_too {
                self.put_on_list(wf, *down, is_fed, owner)?;
            } else if has_run {
                follower.outdated = !planted!("a follower that is older than its input does not say so");
                self.put_step(follower);
            }
            if follower.is_asked(kind) {
                self.redecide(wf, Edge { up, down: *down, kind }, decided(*decision)?, None)?;
            }
        }
        // The last follower may have another edge behind this page; what has been told once may be told again.
        let last = edges.last().map_or(from, |(last, ..)| i64::from(*last));
        Ok((edges.len() == EDGES).then_some(if last > from { last } else { last + 1 }))
    }

    /// Ends some leases of a step, so that a late report under them is refused; returns whether there may be more.
    pub fn end_leases_of(&mut self, step: &Step) -> Result<bool> {
        if planted!("a late report counts although its step runs again") {
            return Ok(false);
        }
        let leases = self.leases_where("wf = ?1 AND step = ?2 LIMIT ?3", (step.wf, step.step, LEASES))?;
        for lease in &leases {
            self.note(What::TakenBack { expired: false }, lease, lease.jobs)?;
        }
        let names: Vec<(i64, i64)> = leases.iter().map(|lease| (lease.session, lease.number)).collect();
        if !names.is_empty() {
            let sql =
                "DELETE FROM lease WHERE (session, number) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))";
            self.run(sql, [super::create::to_json(&names)?])?;
        }
        let jobs: usize = leases.iter().map(|lease| lease.jobs.len()).sum();
        let mut step = self.step(step.wf, step.step)?;
        step.leased -= jobs as i64;
        self.put_step(step);
        Ok(names.len() as i64 == LEASES)
    }

    /// A step of which nothing is in a line or under a lease waits, as if it had never been released.
    fn take_back_step(&mut self, step: Step) -> Result<()> {
        let step = self.step(step.wf, step.step)?;
        let mut workflow = self.workflow(step.wf)?;
        workflow.unsettled += i64::from(step.state.is_settled());
        workflow.active -= i64::from(step.state == StepState::Running);
        workflow.failed_steps -= i64::from(step.state == StepState::Failed);
        self.put_workflow(workflow);
        let key = (step.wf, step.step);
        if step.jobs.succeeded > 0 && !planted!("what succeeded is taken back within its generation") {
            self.run("UPDATE step SET generation = generation + 1 WHERE wf = ? AND step = ?", key)?;
        }
        if step.awaits && !is_untouched(&step) && !planted!("an old signal counts for a wait that begins again") {
            self.run("UPDATE awaited SET signalled_at = NULL WHERE wf = ? AND step = ?", key)?;
        }
        self.put_step(Step {
            state: StepState::Waiting,
            decided: None,
            released_at: None,
            started_at: None,
            finished_at: None,
            exceeded: false,
            grace_until: None,
            forgiven: 0,
            outdated: false,
            early: 0,
            pending: step.pending + i64::from(!planted!("what runs again is released too early")),
            ..step
        });
        Ok(())
    }

    /// Each edge into a step decides anew, from step `from` on: it may have been decided when the step before it was something else.
    fn ask_again(&mut self, wf: Wf, down: StepNumber, from: i64) -> Result<Option<i64>> {
        let sql = "SELECT e.up, e.kind, e.decision, EXISTS (SELECT 1 FROM again a WHERE a.wf = e.wf AND a.step = e.up) \
                   FROM edge e INDEXED BY edge_by_down WHERE e.wf = ?1 AND e.down = ?2 AND e.up >= ?3 ORDER BY e.up LIMIT ?4";
        let edges = self.all(sql, (wf, down, from, EDGES as i64), |row| {
            let edge = (row.get::<_, StepNumber>(0)?, row.get::<_, u8>(1)?, row.get::<_, Option<u8>>(2)?);
            Ok((edge, row.get::<_, bool>(3)?))
        })?;
        for ((up, kind, before), runs_again) in &edges {
            let kind = known(EdgeKind::from_u8(*kind), "edge kind", *kind)?;
            let upstream = self.step(wf, *up)?;
            let after = if *runs_again { None } else { kind.decide(upstream.state, upstream.decided.is_some()) };
            self.redecide(wf, Edge { up: *up, down, kind }, decided(*before)?, after)?;
        }
        let last = edges.last().map_or(from, |((last, ..), _)| i64::from(*last));
        Ok((edges.len() == EDGES).then_some(if last > from { last } else { last + 1 }))
    }

    /// Jobs of a bite of chunks, from job `from` on, are as they were created. Returns where to go on.
    fn take_back_jobs(&mut self, step: &Step, from: i64) -> Result<Option<i64>> {
        let (wf, number) = (step.wf, step.step);
        let chunks = self.chunks_from(wf, number, from, CHUNKS)?;
        let mut next =
            (chunks.len() == CHUNKS).then(|| chunks.last().map_or(from, |last| last.first + last.jobs as i64));
        let mut done = Vec::with_capacity(chunks.len());
        for chunk in &chunks {
            if !done.is_empty() && self.cost().calls + self.calls_at_end() >= SOFT_CALLS {
                next = Some(chunk.first);
                break;
            }
            let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
            for state in (1..8).map(JobState::of) {
                let jobs = bytes.iter().filter(|byte| JobState::of(**byte) == state).count();
                self.shift(wf, number, state, JobState::Open, jobs as u64)?;
            }
            let failed: Mask = (0..chunk.jobs).filter(|at| JobState::of(bytes[*at]) == JobState::Failed).collect();
            if !failed.is_empty() {
                self.forget_failed(wf, number, chunk.chunk, failed)?;
            }
            self.forget_checkpoints(wf, number, chunk.chunk, Mask::range(0..chunk.jobs))?;
            if step.is_chained() {
                // As before: it can go on with these as soon as it is released.
                let ready = self.succeeded_before(step, chunk)?;
                if !ready.is_empty() {
                    self.put_behind(step, chunk, ready)?;
                }
            }
            done.push(chunk.chunk);
        }
        if !done.is_empty() {
            let done = super::create::to_json(&done)?;
            for table in ["bytes", "recovered", "outcome", "failed"] {
                let sql = format!("DELETE FROM {table} WHERE chunk IN (SELECT value FROM json_each(?))");
                self.run(&sql, [&done])?;
            }
            if step.feeds.is_some() {
                self.forget_emitted(&done)?;
            }
        }
        Ok(next)
    }

    /// Takes what sources emitted out of a step, the last first; a chore deletes each part. Returns whether there may be more.
    fn drop_emitted(&mut self, step: &Step) -> Result<bool> {
        let sql = "SELECT segment, jobs FROM segment WHERE wf = ? AND step = ? ORDER BY first DESC LIMIT ?";
        let segments = self
            .all(sql, (step.wf, step.step, EDGES as i64), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        for (segment, jobs) in &segments {
            let (mut step, mut workflow) = (self.step(step.wf, step.step)?, self.workflow(step.wf)?);
            step.jobs.total = step.jobs.total.saturating_sub(*jobs as u64);
            workflow.jobs.total = workflow.jobs.total.saturating_sub(*jobs as u64);
            self.put_step(step);
            self.put_workflow(workflow);
            self.lengthen_chain(step.wf, step.leads, 0, -*jobs)?;
            self.run("UPDATE segment SET wf = NULL, step = NULL, first = 0 WHERE segment = ?", [segment])?;
            self.leave_chore(Kind::Drop, 0, *segment, 0, *segment)?;
        }
        Ok(segments.len() == EDGES)
    }

    /// Everything has been taken back: one gate after the other is opened, and what waits for nothing else is released.
    pub fn release_again(&mut self, wf: Wf, root: StepNumber, again: i64) -> Result<()> {
        loop {
            let sql = "SELECT step, stage, cursor, gated, dropped FROM again WHERE wf = ? ORDER BY step LIMIT ?";
            let list = self.all(sql, (wf, GATES), taken)?;
            if list.is_empty() {
                return Ok(());
            }
            for taken in list {
                if self.is_at_bound() {
                    return self.leave_chore(Kind::ReleaseAgain, wf, root, 0, again);
                }
                self.run("DELETE FROM again WHERE wf = ? AND step = ?", (wf, taken.step))?;
                self.run("DELETE FROM hold WHERE wf = ? AND step = ? AND name = ?", (wf, taken.step, HOLD))?;
                let mut step = self.step(wf, taken.step)?;
                if taken.gated {
                    step.pending -= i64::from(!planted!("what runs again is released too early"));
                    self.put_step(step);
                }
                self.to_finish.insert(wf);
                self.leave_behind(&step)?;
                if !taken.gated || step.decided.is_some() {
                    self.check_settled(wf, taken.step)?;
                } else if step.may_begin() && step.jobs.total > 0 && self.may_go_on(&step)? {
                    self.release(step)?;
                } else if step.state == StepState::Waiting && step.released_at.is_none() && step.pending == 0 {
                    self.act_on_decisions(step)?;
                }
            }
        }
    }

    /// Whether the one edge that has not decided, or waits, comes from the source that feeds the step, or from the step that it is chained to:
    /// then it may begin with what is there.
    pub fn may_go_on(&mut self, step: &Step) -> Result<bool> {
        let kind = if step.is_chained() { EdgeKind::Chains } else { EdgeKind::Feeds };
        let sql =
            "SELECT 1 FROM edge WHERE wf = ? AND down = ? AND kind = ? AND (decision IS NULL OR decision = ?) LIMIT 1";
        let edge = (step.wf, step.step, kind as u8, Decision::Wait as u8);
        let waits_for_it = self.one(sql, edge, |_| Ok(()))?.is_some();
        Ok(waits_for_it && (!step.is_chained() || self.going(step)? > 0))
    }

    /// Whether a chunk of a chained step has its jobs as they were created, if the step is being taken back: what they go on from is put into
    /// its entries from then on.
    pub fn is_taken_back_before(&mut self, step: &Step, chunk: &super::tx::Chunk) -> Result<bool> {
        let sql = "SELECT stage, cursor FROM again WHERE wf = ? AND step = ?";
        let taken = self.one(sql, (step.wf, step.step), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        Ok(taken.is_none_or(|(stage, cursor)| stage == stage::DONE || stage == stage::JOBS && chunk.first < cursor))
    }
}

/// Whether nothing of a step has run, and nothing will before its edges say so: there is nothing to take back.
pub fn is_untouched(step: &Step) -> bool {
    step.state == StepState::Waiting && step.released_at.is_none() && step.decided.is_none()
}

fn taken(row: &rusqlite::Row<'_>) -> rusqlite::Result<Taken> {
    Ok(Taken { step: row.get(0)?, stage: row.get(1)?, cursor: row.get(2)?, gated: row.get(3)?, dropped: row.get(4)? })
}
