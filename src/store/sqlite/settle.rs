//! What follows when jobs settle: the step settles, its followers are told, some are released, skipped or cancelled, perhaps
//! settle at once in their turn. Goes on within the operation up to its bound; the rest becomes chores.

use super::chore::Kind;
use super::line::{End, Work};
use super::tx::{Step, Tx, Wf, decided};
use crate::error::Result;
use crate::graph::{Edge, StepNumber};
use crate::ledger::What;
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::{Decision, EdgeKind, JobState, StepState, WorkflowState, attempts, job_byte};

/// The most steps that one operation releases, skips or cancels.
const MAX_RELEASED: u32 = 128;
/// From this many statements on, those that its end will need included, an operation leaves what follows to chores.
const SOFT_CALLS: u64 = 450;
/// Up to this many it is still looked whether what has settled has followers at all: else each of many that settle at the bound would leave
/// a chore.
const LOOKING_CALLS: u64 = 510;
/// How many chunks of a step are filled at once.
const FILL_CHUNKS: usize = 60;

impl Tx<'_> {
    /// Whether the operation should leave the rest to a chore.
    pub fn is_at_bound(&self) -> bool {
        self.released >= MAX_RELEASED || self.has_used(SOFT_CALLS)
    }

    fn has_used(&self, calls: u64) -> bool {
        self.cost().calls + self.calls_at_end() >= calls && !planted!("what follows is never left to a chore")
    }

    /// Settles a step if it has no holds and every byte is final. One that is fed waits for its source to succeed.
    pub fn check_settled(&mut self, wf: Wf, step: StepNumber) -> Result<()> {
        self.act_on_failures(wf, step)?;
        let mut step = self.step(wf, step)?;
        let is_left = step.grows && self.leaves_batches();
        if is_left {
            self.leave_batch(&step)?;
        } else if step.grows {
            self.act_on_death(&step)?;
            step = self.step(wf, step.step)?;
        }
        let may_settle = step.state == StepState::Running || step.state == StepState::Waiting && step.decided.is_some();
        let unsettled = step.jobs.unsettled().saturating_sub(u64::from(planted!("a step settles one job early")));
        if may_settle && unsettled > 0 && step.is_chained() {
            return self.rest_behind(step);
        }
        if !may_settle || unsettled > 0 || self.is_lane(wf)? || self.is_held(wf, step.step)? {
            return Ok(());
        }
        if step.grows && step.pending > 0 && step.decided.is_none() {
            return if is_left { Ok(()) } else { self.settle_batch(wf) };
        }
        let mut workflow = self.workflow(wf)?;
        if step.is_held_by_source() && !planted!("a fed step settles before its source has") {
            if step.is_chained() {
                self.rest_behind(step)?;
            }
            if step.pending > 0 {
                return Ok(());
            }
            // In a cancelled workflow nothing is repaired, so nothing waits for that.
            if workflow.state != WorkflowState::Cancelling {
                return if step.is_chained() { Ok(()) } else { self.rest(step) };
            }
        }
        self.clear_skipped(&step)?;
        workflow.unsettled -= 1;
        if step.state == StepState::Running {
            workflow.active -= 1;
        }
        step.state = match step.decided {
            Some(Decision::Skip) if step.jobs.total == 0 => StepState::Skipped,
            Some(Decision::Cancel) if step.jobs.total == 0 => StepState::Cancelled,
            _ => step.jobs.settled_as(step.tolerate),
        };
        workflow.failed_steps += i64::from(step.state == StepState::Failed);
        (step.exceeded, step.grace_until) = (false, None);
        step.finished_at = Some(self.now);
        self.put_step(step);
        self.put_workflow(workflow);
        self.settled.push((wf, step.step));
        self.to_finish.insert(wf);
        Ok(())
    }

    /// A fed step whose source has failed, or a chained one whose predecessor has, is through with the jobs that it has: it waits, with what it
    /// has, until that is repaired.
    pub fn rest(&mut self, mut step: Step) -> Result<()> {
        if planted!("a fed step keeps running although its source has failed") {
            return Ok(());
        }
        self.clear_skipped(&step)?;
        step.state = StepState::Waiting;
        self.put_step(step);
        let mut workflow = self.workflow(step.wf)?;
        workflow.active -= 1;
        self.put_workflow(workflow);
        self.to_finish.insert(step.wf);
        match step.leads {
            Some(next) => self.check_settled(step.wf, next),
            None => Ok(()),
        }
    }

    /// Takes what is left in the lines of a step, of which no job is to run, of those that a person has skipped.
    fn clear_skipped(&mut self, step: &Step) -> Result<()> {
        let has_some = step.state == StepState::Running && step.jobs.skipped > 0;
        while has_some
            && !planted!("a skipped job stays in its entry for good")
            && self.clear_lines(step.wf, step.step)?
        {}
        Ok(())
    }

    /// A step that rests has something to do again.
    pub fn rouse(&mut self, mut step: Step) -> Result<Step> {
        if step.state == StepState::Waiting && step.released_at.is_some() {
            step.state = StepState::Running;
            self.put_step(step);
            let mut workflow = self.workflow(step.wf)?;
            workflow.active += 1;
            self.put_workflow(workflow);
        }
        Ok(step)
    }

    pub fn is_held(&mut self, wf: Wf, step: StepNumber) -> Result<bool> {
        let held = self.one("SELECT 1 FROM hold WHERE wf = ? AND step = ? LIMIT 1", (wf, step), |_| Ok(()))?;
        Ok(held.is_some())
    }

    /// Tells the followers of every step that settled in this operation, up to the bound.
    pub fn cascade(&mut self) -> Result<()> {
        while let Some((wf, up)) = self.settled.pop() {
            self.tell_followers(wf, up, 0)?;
        }
        Ok(())
    }

    /// Tells the followers of a settled step from step `from` on; leaves a chore for those beyond the bound.
    pub fn tell_followers(&mut self, wf: Wf, up: StepNumber, from: StepNumber) -> Result<()> {
        let upstream = self.step(wf, up)?;
        let mut from = from;
        loop {
            if self.has_used(LOOKING_CALLS) {
                return self.leave_chore(Kind::Settled, wf, up, i64::from(from), 0);
            }
            let sql = "SELECT down, kind, decision FROM edge WHERE wf = ? AND up = ? AND down >= ? ORDER BY down, kind LIMIT 33";
            let edges = self.all(sql, (wf, up, from), |row| {
                Ok((row.get::<_, StepNumber>(0)?, row.get::<_, u8>(1)?, row.get::<_, Option<u8>>(2)?))
            })?;
            let whole = edges.len() < 33;
            // A follower may have several edges from the same step: never stop between them.
            let last_down = edges.last().map(|edge| edge.0);
            for (down, kind, before) in edges {
                if !whole && Some(down) == last_down && down > from {
                    break;
                }
                if self.is_at_bound() && down > from {
                    return self.leave_chore(Kind::Settled, wf, up, i64::from(down), 0);
                }
                let kind = super::tx::known(EdgeKind::from_u8(kind), "edge kind", kind)?;
                let before = decided(before)?;
                from = down;
                if let Some(decision) = kind.decide(upstream.state, upstream.decided.is_some()) {
                    self.decide(wf, Edge { up, down, kind }, before, decision)?;
                }
            }
            if whole {
                return Ok(());
            }
            from = last_down.unwrap_or(from);
        }
    }

    /// Changes what an edge has decided.
    pub fn redecide(&mut self, wf: Wf, edge: Edge, before: Option<Decision>, after: Option<Decision>) -> Result<()> {
        let Edge { up, down, kind } = edge;
        if before == after {
            return Ok(());
        }
        let mut step = self.step(wf, down)?;
        for (decision, by) in [(before, -1), (after, 1)] {
            *step.edges_that(decision).unwrap_or(&mut 0) += by;
        }
        self.put_step(step);
        let sql = "UPDATE edge SET decision = ?5 WHERE wf = ?1 AND up = ?2 AND down = ?3 AND kind = ?4";
        self.run(sql, (wf, up, down, kind as u8, after.map(|decision| decision as u8)))?;
        Ok(())
    }

    /// A settled step is running again, since there is something to repair in it.
    pub fn back_to_running(&mut self, mut step: Step) -> Result<Step> {
        let mut workflow = self.workflow(step.wf)?;
        workflow.failed_steps -= i64::from(step.state == StepState::Failed);
        workflow.unsettled += 1;
        workflow.active += 1;
        self.put_workflow(workflow);
        (step.state, step.finished_at) = (StepState::Running, None);
        self.put_step(step);
        Ok(step)
    }

    /// Notes what one edge decided, and acts once the last one has.
    fn decide(&mut self, wf: Wf, edge: Edge, before: Option<Decision>, decision: Decision) -> Result<()> {
        let step = self.step(wf, edge.down)?;
        // A step that has run, or is decided otherwise, is not asked again: repairs of its upstream leave it as it is. But one that is fed
        // settles once its source says so, also if it has begun.
        let leaves_behind = edge.kind == EdgeKind::Chains && decision == Decision::Release;
        if before == Some(decision) || !step.is_asked(edge.kind) {
            // A repair may have brought jobs of it back while the step before it had not settled again.
            return if leaves_behind { self.leave_behind(&step) } else { Ok(()) };
        }
        self.redecide(wf, edge, before, Some(decision))?;
        let step = self.step(wf, edge.down)?;
        if leaves_behind {
            self.leave_behind(&step)?;
        }
        if step.state == StepState::Running {
            return self.check_settled(wf, edge.down);
        }
        let cancelling = self.workflow(wf)?.state == WorkflowState::Cancelling;
        if step.is_chained() && step.may_begin() && !cancelling && self.may_go_on(&step)? {
            return self.release(step);
        }
        let is_decided = step.pending == 0 || planted!("a step waits for the first of its upstream steps only");
        if is_decided { self.act_on_decisions(step) } else { Ok(()) }
    }

    /// Releases, skips or cancels a step of which every upstream edge has decided; the strongest decides.
    pub fn act_on_decisions(&mut self, step: Step) -> Result<()> {
        let cancelling = self.workflow(step.wf)?.state == WorkflowState::Cancelling;
        self.released += 1;
        // Nothing will be repaired in a cancelled workflow, so there an `always` step does not wait either.
        if step.cancels > 0 || cancelling && (!step.always || step.waits > 0) {
            self.pass_over(step, Decision::Cancel)
        } else if step.waits > 0 && !(step.skips > 0 && planted!("a skip is stronger than a wait")) {
            self.to_finish.insert(step.wf);
            Ok(())
        } else if step.skips > 0 {
            self.pass_over(step, Decision::Skip)
        } else {
            self.release(step)
        }
    }

    /// Lets a step run. One that has begun before its source had succeeded has its jobs in its line already.
    pub fn release(&mut self, mut step: Step) -> Result<()> {
        if step.released_at.is_some() && !planted!("what a fed step has begun with is lined up twice") {
            self.rouse(step)?;
            return self.check_settled(step.wf, step.step);
        }
        step.state = StepState::Running;
        step.released_at = Some(self.now);
        self.put_step(step);
        let mut workflow = self.workflow(step.wf)?;
        workflow.active += 1;
        self.put_workflow(workflow);
        // It is empty, or somebody has skipped all of its jobs one by one.
        if step.jobs.unsettled() == 0 && !planted!("an empty step never settles") {
            return self.check_settled(step.wf, step.step);
        }
        if step.awaits {
            return self.begin_to_wait(&step);
        }
        if step.is_chained() && !planted!("an element starts before its own predecessor has succeeded") {
            self.leave_behind(&step)?;
            return self.begin_behind(&step);
        }
        if step.stands_for_batches() {
            return Ok(());
        }
        if step.delay > 0 {
            let due = self.now.saturating_add(step.delay);
            return self.set_timer(&step, due, 0, 0, Mask::EMPTY);
        }
        self.enqueue_all(&step, 0)
    }

    /// Puts the jobs of a released step from index `low` on into its line.
    pub fn enqueue_all(&mut self, step: &Step, low: i64) -> Result<()> {
        let high = step.jobs.total as i64;
        if low < high { self.enqueue(step, &Work::Run { low, high }, End::Back, false, 0, 0) } else { Ok(()) }
    }

    /// Skips or cancels a step that has not been released.
    pub fn pass_over(&mut self, mut step: Step, decision: Decision) -> Result<()> {
        step.decided = Some(decision);
        self.put_step(step);
        self.to_finish.insert(step.wf);
        if step.jobs.total == 0 {
            return self.check_settled(step.wf, step.step);
        }
        let state = if decision == Decision::Skip { JobState::Skipped } else { JobState::Cancelled };
        self.fill_all(&step, state)
    }

    /// Fills a step: at once if it has one job, else as a chore.
    pub fn fill_all(&mut self, step: &Step, state: JobState) -> Result<()> {
        if step.jobs.total == 1 && !planted!("a step of one job is filled by a chore of its own") {
            self.fill(step.wf, step.step, 0, state)?;
            return Ok(());
        }
        self.leave_chore(Kind::Fill, step.wf, step.step, 0, state as i64)
    }

    /// Gives every job of a bite of chunks that is neither settled nor under a lease its final state. Returns where to go on, or
    /// `None` once the step has been done.
    pub fn fill(&mut self, wf: Wf, step: StepNumber, from: i64, state: JobState) -> Result<Option<i64>> {
        let of = self.step(wf, step)?;
        // What came too early for a step that is not to run.
        if of.is_chained() && of.decided.is_some() && from == 0 && self.clear_lines(wf, step)? {
            return Ok(Some(0));
        }
        let chunks = self.chunks_from(wf, step, from, FILL_CHUNKS)?;
        let has_children = of.children;
        let next =
            (chunks.len() == FILL_CHUNKS).then(|| chunks.last().map(|chunk| chunk.first + chunk.jobs as i64)).flatten();
        for chunk in &chunks {
            let mut leased = Mask::EMPTY;
            for jobs in
                self.all("SELECT jobs FROM lease WHERE chunk = ?", [chunk.chunk], |row| row.get::<_, Vec<u8>>(0))?
            {
                leased = leased.or(super::tx::mask(&jobs)?);
            }
            let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
            // What waits for its child ends with that.
            let ends = |state: JobState| !(state.is_settled() || has_children && state == JobState::Deferred);
            let open: Mask = (0..chunk.jobs).filter(|at| ends(JobState::of(bytes[*at]))).collect();
            self.settle_jobs(wf, step, (chunk.chunk, chunk.first), bytes, open.minus(leased), state)?;
            self.count_early(&of, chunk, open.minus(leased), 1)?;
        }
        if next.is_none() {
            self.check_settled(wf, step)?;
        }
        Ok(next)
    }

    /// Puts `jobs` of a chunk (its number, and its first job's index), whose bytes are `bytes`, into `state`; their attempts stay as they are.
    pub fn settle_jobs(
        &mut self,
        wf: Wf,
        step: StepNumber,
        (chunk, first): (i64, i64),
        mut bytes: Vec<u8>,
        jobs: Mask,
        state: JobState,
    ) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        for at in jobs.iter() {
            let before = JobState::of(bytes[at]);
            bytes[at] = job_byte(state, attempts(bytes[at]));
            self.shift(wf, step, before, state, 1)?;
        }
        self.forget_checkpoints(wf, step, chunk, jobs)?;
        self.note_alone(What::Settled(state), wf, step, first, jobs)?;
        self.put_bytes(chunk, &bytes)
    }

    /// Makes jobs of a chunk due at a time; `chunk` 0 stands for the whole step.
    pub fn set_timer(&mut self, step: &Step, due: i64, chunk: i64, first: i64, jobs: Mask) -> Result<()> {
        let sql = "SELECT jobs FROM timer WHERE wf = ? AND step = ? AND due = ? AND chunk = ?";
        let there = self.one(sql, (step.wf, step.step, due, chunk), |row| row.get::<_, Vec<u8>>(0))?;
        let jobs = match there {
            Some(there) => jobs.or(super::tx::mask(&there)?),
            None => jobs,
        };
        let sql = "INSERT INTO timer VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET jobs = excluded.jobs";
        self.run(sql, (step.wf, step.step, due, chunk, first, jobs.to_bytes()))?;
        Ok(())
    }
}
