//! One operation at work: statements that are counted, and the rows of workflows and steps that it has changed in memory and
//! writes once, at its end.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Params, Row, Statement, StatementStatus};

use super::limited::{Keys, LimitedRows};
use super::sql_error;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::ledger::Notes;
use crate::planted::planted;
use crate::slice::{CHUNK_JOBS, Mask};
use crate::state::{
    BatchState, Counts, Decision, EdgeKind, FailurePolicy, JobState, StepState, Tolerate, WorkflowState,
};
use crate::store::{ChunkRef, Cost};

/// The number by which this file knows a workflow.
pub type Wf = i64;

/// Behind any job that a step can have: what is added to it does not overflow.
const MAX_INDEX: i64 = 1 << 60;

/// A workflow's changing columns.
#[derive(Clone, Copy, Debug)]
pub struct Workflow {
    pub wf: Wf,
    pub state: WorkflowState,
    /// Steps that have not settled.
    pub unsettled: i64,
    /// Steps released and not settled.
    pub active: i64,
    pub failed_steps: i64,
    pub chores: i64,
    pub grace_until: Option<Millis>,
    pub jobs: Counts,
    pub started_at: Option<Millis>,
    pub finished_at: Option<Millis>,
    /// Of a batch.
    pub batch: Option<BatchState>,
}

/// A step's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub wf: Wf,
    pub step: StepNumber,
    pub line: i64,
    pub feeds: Option<StepNumber>,
    pub always: bool,
    pub tolerate: Tolerate,
    pub policy: FailurePolicy,
    /// More jobs have failed than it tolerates, and its policy has acted.
    pub exceeded: bool,
    /// So many failed jobs its policy does not count: they had failed when somebody resumed or repaired the step.
    pub forgiven: u64,
    /// Lease time at which failing fast takes leases back.
    pub grace_until: Option<Millis>,
    /// Something that it ran after has run again since.
    pub outdated: bool,
    pub max_in_flight: Option<i64>,
    pub max_recoveries: i64,
    pub delay: Millis,
    pub state: StepState,
    /// What its edges decided, if that is not to run.
    pub decided: Option<Decision>,
    /// Upstream edges without a decision.
    pub pending: i64,
    pub skips: i64,
    pub waits: i64,
    pub cancels: i64,
    pub jobs: Counts,
    /// Jobs under a lease.
    pub leased: i64,
    /// Which sorts of keys the jobs of a lane have.
    pub keyed: Keys,
    /// Jobs that have saved what they go on from.
    pub checkpoints: i64,
    /// No worker runs it: its job waits for a signal or a time.
    pub awaits: bool,
    /// Each of its jobs stands for a workflow.
    pub children: bool,
    /// It is a step of a batch, to which jobs are added until the batch settles.
    pub grows: bool,
    /// The step that its jobs go on from, one to one; and the first step of that chain, whose chunks it has.
    pub follows: Option<StepNumber>,
    pub root: Option<StepNumber>,
    /// The step that is chained to it.
    pub leads: Option<StepNumber>,
    /// Of a chained step: settled jobs whose predecessors have not succeeded.
    pub early: i64,
    /// Whether jobs of it had failed before this operation.
    pub had_failed: bool,
    pub released_at: Option<Millis>,
    pub started_at: Option<Millis>,
    pub finished_at: Option<Millis>,
}

impl Step {
    /// Whether it or the keys of its jobs limit how many run at once.
    pub fn is_limited(&self) -> bool {
        self.max_in_flight.is_some() || self.keyed.limited()
    }

    /// Whether its jobs go on from those of another step, one to one.
    pub fn is_chained(&self) -> bool {
        self.follows.is_some()
    }

    /// Whether it is fed and has begun with the jobs that are there, while its source has not succeeded: it may not settle yet.
    pub fn is_held_by_source(&self) -> bool {
        self.state == StepState::Running && self.decided.is_none() && self.pending + self.waits > 0
    }

    /// Whether its jobs stand for batches within the one that it is a step of: no worker runs them.
    pub fn stands_for_batches(&self) -> bool {
        self.grows && self.children
    }

    /// Whether it still asks what an edge of that kind decides. One that is fed settles once its source says so, also if it has begun.
    pub fn is_asked(&self, kind: EdgeKind) -> bool {
        let may_be = match kind {
            kind if kind.is_held() => !self.state.is_settled(),
            _ => self.state == StepState::Waiting && self.released_at.is_none(),
        };
        may_be && self.decided.is_none()
    }

    /// Whether it waits for nothing but its source, so that it may begin with the jobs that are there.
    pub fn may_begin(&self) -> bool {
        let waits_for_one = self.pending + self.waits == 1 && self.skips + self.cancels == 0;
        self.state == StepState::Waiting
            && self.decided.is_none()
            && waits_for_one
            && (self.delay == 0 || self.is_chained())
    }

    /// The count of edges that have decided so, or not at all; those that let it run are not counted.
    pub fn edges_that(&mut self, decision: Option<Decision>) -> Option<&mut i64> {
        match decision {
            None => Some(&mut self.pending),
            Some(Decision::Release) => None,
            Some(Decision::Skip) => Some(&mut self.skips),
            Some(Decision::Wait) => Some(&mut self.waits),
            Some(Decision::Cancel) => Some(&mut self.cancels),
        }
    }

    /// Whether no more jobs of it may be under a lease now.
    pub fn is_at_limit(&self) -> bool {
        self.max_in_flight.is_some_and(|limit| self.leased >= limit)
    }
}

struct Cached<T> {
    value: T,
    dirty: bool,
}

/// One operation inside of a transaction.
pub struct Tx<'c> {
    conn: &'c Connection,
    /// The wall clock, read once.
    pub now: Millis,
    cost: Cost,
    workflows: BTreeMap<Wf, Cached<Workflow>>,
    steps: BTreeMap<(Wf, StepNumber), Cached<Step>>,
    /// Steps that settled in this operation and whose followers have not been told.
    pub settled: Vec<(Wf, StepNumber)>,
    /// Steps that have been released in this operation.
    pub released: u32,
    /// Error texts that have been noted in this operation.
    pub errors_noted: u32,
    /// Lines that got work.
    pub lines_fed: BTreeSet<i64>,
    /// Places that have been given a turn.
    pub placed: BTreeSet<(i64, Wf)>,
    /// Workflows of which something is to be looked at again at the end: perhaps they have finished.
    pub to_finish: BTreeSet<Wf>,
    /// Keys of lone jobs that this operation has looked at.
    pub limited: LimitedRows,
    /// What a test's ledger is told.
    pub notes: Notes,
}

impl<'c> Tx<'c> {
    pub fn new(conn: &'c Connection, now: Millis) -> Self {
        Self {
            conn,
            now,
            cost: Cost::default(),
            workflows: BTreeMap::new(),
            steps: BTreeMap::new(),
            settled: Vec::new(),
            released: 0,
            errors_noted: 0,
            lines_fed: BTreeSet::new(),
            placed: BTreeSet::new(),
            to_finish: BTreeSet::new(),
            limited: LimitedRows::default(),
            notes: Notes::default(),
        }
    }

    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// The statements that the end of the operation will take: one a changed row, one a step whose followers become a chore.
    pub fn calls_at_end(&self) -> u64 {
        let steps = self.steps.values().filter(|cached| cached.dirty).count();
        (steps + self.workflows.len() + self.settled.len()) as u64 + self.limited.calls_at_end()
    }

    /// Counts bytes of payload towards the operation's bound.
    pub fn count_bytes(&mut self, bytes: usize) {
        self.cost.bytes += bytes as u64;
    }

    /// Runs a statement that returns no rows; returns how many it changed.
    pub fn run(&mut self, sql: &str, params: impl Params) -> Result<usize> {
        self.cost.calls += 1;
        let changed = self.conn.prepare_cached(sql).and_then(|mut statement| {
            let changed = statement.execute(params)?;
            Ok((changed, scanned(&statement)))
        });
        let (changed, scanned) = changed.map_err(|error| sql_error(first_words(sql), error))?;
        self.cost.rows += scanned;
        Ok(changed)
    }

    /// The first row of a query.
    pub fn one<T>(
        &mut self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.cost.calls += 1;
        let found = self.conn.prepare_cached(sql).and_then(|mut statement| {
            let found = statement.query_row(params, map).optional()?;
            Ok((found, scanned(&statement)))
        });
        let (found, scanned) = found.map_err(|error| sql_error(first_words(sql), error))?;
        self.cost.rows += scanned.max(u64::from(found.is_some()));
        Ok(found)
    }

    /// All rows of a query, which has a limit.
    pub fn all<T>(
        &mut self,
        sql: &str,
        params: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.cost.calls += 1;
        let found = self.conn.prepare_cached(sql).and_then(|mut statement| {
            let found = statement.query_map(params, map)?.collect::<rusqlite::Result<Vec<T>>>()?;
            Ok((found, scanned(&statement)))
        });
        let (found, scanned) = found.map_err(|error| sql_error(first_words(sql), error))?;
        self.cost.rows += scanned.max(found.len() as u64);
        Ok(found)
    }

    /// One counted call of a query that is written elsewhere.
    pub fn plain<T>(&mut self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.cost.calls += 1;
        query(self.conn).map_err(|error| sql_error("reading", error))
    }

    /// A query for a test's ledger, which is no part of the operation's cost; `None` if it finds no row.
    pub fn uncounted<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<Option<T>> {
        query(self.conn).optional().map_err(|error| sql_error("reading for the ledger", error))
    }

    /// The number that the last `INSERT` gave its row.
    pub fn inserted(&self) -> i64 {
        self.conn.last_insert_rowid()
    }

    /// The workflow of that id; an error that says so if it is not here.
    pub fn find(&mut self, id: WorkflowId) -> Result<Workflow> {
        let wf = self.one("SELECT wf FROM workflow WHERE id = ?", [id.as_bytes().as_slice()], |row| row.get(0))?;
        self.workflow(wf.ok_or_else(|| super::read::no_workflow(id))?)
    }

    /// The workflow as this operation sees it.
    pub fn workflow(&mut self, wf: Wf) -> Result<Workflow> {
        if let Some(cached) = self.workflows.get(&wf) {
            return Ok(cached.value);
        }
        let sql = "SELECT state, unsettled, active, failed_steps, chores, grace_until, total, succeeded, failed, skipped, \
                   cancelled, retrying, deferred, started_at, finished_at, batch FROM workflow WHERE wf = ?";
        let found = self.one(sql, [wf], |row| {
            let value = Workflow {
                wf,
                state: WorkflowState::Building,
                unsettled: row.get(1)?,
                active: row.get(2)?,
                failed_steps: row.get(3)?,
                chores: row.get(4)?,
                grace_until: row.get(5)?,
                jobs: counts(row, 6)?,
                started_at: row.get(13)?,
                finished_at: row.get(14)?,
                batch: None,
            };
            Ok((row.get::<_, u8>(0)?, row.get::<_, Option<u8>>(15)?, value))
        })?;
        let (state, batch, mut value) =
            found.ok_or_else(|| Error::corrupt(format!("workflow {wf} has rows but no head")))?;
        value.state = known(WorkflowState::from_u8(state), "workflow state", state)?;
        value.batch = batch.map(|n| known(BatchState::from_u8(n), "state of a batch", n)).transpose()?;
        self.workflows.insert(wf, Cached { value, dirty: false });
        Ok(value)
    }

    /// Notes a workflow's new columns.
    pub fn put_workflow(&mut self, value: Workflow) {
        self.workflows.insert(value.wf, Cached { value, dirty: true });
    }

    /// The step as this operation sees it.
    pub fn step(&mut self, wf: Wf, step: StepNumber) -> Result<Step> {
        if let Some(cached) = self.steps.get(&(wf, step)) {
            return Ok(cached.value);
        }
        let sql = "SELECT line, feeds, always, tolerate_jobs, tolerate_fraction, max_in_flight, max_recoveries, delay, \
                   state, decided, pending, skips, waits, cancels, total, succeeded, failed, skipped, cancelled, retrying, deferred, \
                   leased, released_at, started_at, finished_at, keyed, checkpoints, awaits, policy, exceeded, forgiven, grace_until, children, outdated, grows, follows, root, leads, early FROM step WHERE wf = ? AND step = ?";
        let found = self.one(sql, (wf, step), |row| {
            let jobs: Option<i64> = row.get(3)?;
            let fraction: Option<f64> = row.get(4)?;
            let value = Step {
                wf,
                step,
                line: row.get(0)?,
                feeds: row.get(1)?,
                always: row.get(2)?,
                tolerate: match (jobs, fraction) {
                    (Some(jobs), _) => Tolerate::Jobs(jobs.max(0) as u64),
                    (None, Some(fraction)) => Tolerate::Fraction(fraction),
                    (None, None) => Tolerate::None,
                },
                policy: FailurePolicy::RunOn,
                exceeded: row.get(29)?,
                forgiven: row.get::<_, i64>(30)?.max(0) as u64,
                grace_until: row.get(31)?,
                outdated: row.get(33)?,
                max_in_flight: row.get(5)?,
                max_recoveries: row.get(6)?,
                delay: row.get(7)?,
                state: StepState::Waiting,
                decided: None,
                pending: row.get(10)?,
                skips: row.get(11)?,
                waits: row.get(12)?,
                cancels: row.get(13)?,
                jobs: counts(row, 14)?,
                leased: row.get(21)?,
                keyed: Keys(row.get(25)?),
                released_at: row.get(22)?,
                started_at: row.get(23)?,
                finished_at: row.get(24)?,
                checkpoints: row.get(26)?,
                awaits: row.get(27)?,
                children: row.get(32)?,
                grows: row.get(34)?,
                follows: row.get(35)?,
                root: row.get(36)?,
                leads: row.get(37)?,
                early: row.get(38)?,
                had_failed: row.get::<_, i64>(16)? > 0,
            };
            Ok((row.get::<_, u8>(8)?, row.get::<_, Option<u8>>(9)?, row.get::<_, u8>(28)?, value))
        })?;
        let (state, decided, policy, mut value) =
            found.ok_or_else(|| Error::corrupt(format!("step {step} of workflow {wf} is missing")))?;
        value.state = known(StepState::from_u8(state), "step state", state)?;
        value.policy = known(FailurePolicy::from_u8(policy), "failure policy", policy)?;
        value.decided = decided.map(|n| known(Decision::from_u8(n), "decision", n)).transpose()?;
        self.steps.insert((wf, step), Cached { value, dirty: false });
        Ok(value)
    }

    /// Notes a step's new columns.
    pub fn put_step(&mut self, value: Step) {
        self.steps.insert((value.wf, value.step), Cached { value, dirty: true });
    }

    /// Counts `jobs` jobs of a step from state `from` to state `to`, in the step and in its workflow.
    pub fn shift(&mut self, wf: Wf, step: StepNumber, from: JobState, to: JobState, jobs: u64) -> Result<()> {
        if from != to && jobs > 0 {
            let (mut step, mut workflow) = (self.step(wf, step)?, self.workflow(wf)?);
            step.jobs.shift(from, to, jobs);
            step.forgiven = step.forgiven.min(step.jobs.failed);
            workflow.jobs.shift(from, to, jobs);
            self.put_step(step);
            self.put_workflow(workflow);
        }
        Ok(())
    }

    /// The bytes of a chunk's jobs; all zero as long as nobody has reported any.
    pub fn bytes(&mut self, chunk: i64, jobs: usize) -> Result<Vec<u8>> {
        let found = self.one("SELECT body FROM bytes WHERE chunk = ?", [chunk], |row| row.get::<_, Vec<u8>>(0))?;
        self.count_bytes(jobs);
        match found {
            None => Ok(vec![0; jobs]),
            Some(bytes) if bytes.len() == jobs => Ok(bytes),
            Some(bytes) => Err(Error::corrupt(format!("chunk {chunk} has {jobs} jobs but {} bytes", bytes.len()))),
        }
    }

    /// Writes the bytes of a chunk's jobs.
    pub fn put_bytes(&mut self, chunk: i64, bytes: &[u8]) -> Result<()> {
        self.count_bytes(bytes.len());
        self.run("INSERT INTO bytes VALUES (?1, ?2) ON CONFLICT (chunk) DO UPDATE SET body = ?2", (chunk, bytes))?;
        Ok(())
    }

    /// How many jobs a chunk has, and the index in its step of the first.
    pub fn chunk_at(&mut self, wf: Wf, step: StepNumber, index: i64) -> Result<Chunk> {
        let missing = || Error::corrupt(format!("job {index} of step {step} of workflow {wf} is in no chunk"));
        self.find_chunk(wf, step, index)?.ok_or_else(missing)
    }

    /// The same, or nothing: a lane keeps no jobs that have settled and are not wanted any more.
    pub fn find_chunk(&mut self, wf: Wf, number: StepNumber, index: i64) -> Result<Option<Chunk>> {
        // A chained step has the chunks of the first step of its chain.
        let step = self.step(wf, number)?.root.unwrap_or(number);
        let sql = "SELECT s.first + c.first, c.jobs, c.chunk FROM segment s JOIN chunk c ON c.segment = s.segment \
                   WHERE s.segment = (SELECT segment FROM segment WHERE wf = ?1 AND step = ?2 AND first <= ?3 ORDER BY first DESC LIMIT 1) \
                   AND c.first <= ?3 - s.first ORDER BY c.first DESC LIMIT 1";
        let found = self.one(sql, (wf, step, index), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let chunk = found.map(|(first, jobs, chunk)| Chunk::checked(chunk, first, jobs)).transpose()?;
        let chunk = chunk.map(|chunk| if step == number { chunk } else { chunk.of(number) });
        Ok(chunk.filter(|chunk| (chunk.first..chunk.first + chunk.jobs as i64).contains(&index)))
    }

    /// The first chunk of a step whose jobs begin at `index` or behind it.
    pub fn chunks_from(&mut self, wf: Wf, number: StepNumber, index: i64, limit: usize) -> Result<Vec<Chunk>> {
        let step = self.step(wf, number)?.root.unwrap_or(number);
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut index = index;
        while chunks.len() < limit {
            let sql = "SELECT segment, first, jobs FROM segment WHERE wf = ?1 AND step = ?2 AND jobs > 0 AND first >= coalesce( \
                       (SELECT first FROM segment WHERE wf = ?1 AND step = ?2 AND first <= ?3 AND first + jobs > ?3 \
                       ORDER BY first DESC LIMIT 1), ?3) ORDER BY first LIMIT 1";
            let segment = self.one(sql, (wf, step, index), |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            })?;
            let Some((segment, first, jobs)) = segment else { break };
            let sql = "SELECT first, jobs, chunk FROM chunk WHERE segment = ? AND first >= ? ORDER BY first LIMIT ?";
            let bounds = (segment, index.saturating_sub(first).max(0), (limit - chunks.len()) as i64);
            let rows =
                self.all(sql, bounds, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
            for (within, jobs, chunk) in rows {
                chunks.push(Chunk::checked(chunk, first.saturating_add(within), jobs)?);
            }
            index = first.saturating_add(jobs);
        }
        if step != number {
            chunks.iter_mut().for_each(|chunk| *chunk = chunk.of(number));
        }
        Ok(chunks)
    }

    /// A deleted workflow is not written again.
    pub fn forget_workflow(&mut self, wf: Wf) {
        self.workflows.remove(&wf);
        self.steps.retain(|(of, _), _| *of != wf);
        self.to_finish.remove(&wf);
    }

    /// Runs one item of several, with what follows from it, in a savepoint of its own. An error that no repetition mends takes
    /// back that item alone and is returned inside, so that the caller can set the item aside; any other ends the operation.
    pub fn guarded(&mut self, item: impl FnOnce(&mut Self) -> Result<()>) -> Result<Result<()>> {
        self.flush()?;
        self.run("SAVEPOINT item", [])?;
        let before = (self.lines_fed.clone(), self.placed.clone(), self.released, self.errors_noted);
        let noted = self.notes.len();
        match item(self).and_then(|()| self.cascade()).and_then(|()| self.flush()) {
            Ok(()) => {
                self.run("RELEASE item", [])?;
                Ok(Ok(()))
            }
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                self.run("ROLLBACK TO item", [])?;
                self.run("RELEASE item", [])?;
                self.steps.clear();
                self.workflows.clear();
                self.settled.clear();
                self.to_finish.clear();
                self.limited = LimitedRows::default();
                self.notes.truncate(noted);
                (self.lines_fed, self.placed, self.released, self.errors_noted) = before;
                Ok(Err(error))
            }
        }
    }

    /// Writes what has changed in memory. The last thing an operation does.
    pub fn flush(&mut self) -> Result<()> {
        self.finish_workflows()?;
        let steps: Vec<Step> = self.steps.values().filter(|cached| cached.dirty).map(|cached| cached.value).collect();
        for s in steps {
            self.run(
                "UPDATE step SET state = ?3, decided = ?4, pending = ?5, skips = ?6, waits = ?7, cancels = ?8, total = ?9, \
                 succeeded = ?10, failed = ?11, skipped = ?12, cancelled = ?13, retrying = ?14, leased = ?15, released_at = ?16, \
                 started_at = ?17, finished_at = ?18, deferred = ?19, keyed = ?20, checkpoints = ?21, \
                 exceeded = ?22, forgiven = ?23, grace_until = ?24, outdated = ?25, early = ?26 WHERE wf = ?1 AND step = ?2",
                rusqlite::params![
                    s.wf, s.step, s.state as u8, s.decided.map(|d| d as u8), s.pending, s.skips, s.waits, s.cancels,
                    s.jobs.total as i64, s.jobs.succeeded as i64, s.jobs.failed as i64, s.jobs.skipped as i64,
                    s.jobs.cancelled as i64, s.jobs.retrying as i64, s.leased, s.released_at, s.started_at, s.finished_at,
                    s.jobs.deferred as i64, s.keyed.0, s.checkpoints, s.exceeded, s.forgiven as i64, s.grace_until,
                    s.outdated, s.early
                ],
            )?;
        }
        self.flush_limited()?;
        let workflows: Vec<Workflow> =
            self.workflows.values().filter(|cached| cached.dirty).map(|cached| cached.value).collect();
        for w in workflows {
            self.run(
                "UPDATE workflow SET state = ?2, unsettled = ?3, active = ?4, failed_steps = ?5, chores = ?6, grace_until = ?7, \
                 total = ?8, succeeded = ?9, failed = ?10, skipped = ?11, cancelled = ?12, retrying = ?13, started_at = ?14, \
                 finished_at = ?15, deferred = ?16, batch = ?17 WHERE wf = ?1",
                rusqlite::params![
                    w.wf, w.state as u8, w.unsettled, w.active, w.failed_steps, w.chores, w.grace_until, w.jobs.total as i64,
                    w.jobs.succeeded as i64, w.jobs.failed as i64, w.jobs.skipped as i64, w.jobs.cancelled as i64,
                    w.jobs.retrying as i64, w.started_at, w.finished_at, w.jobs.deferred as i64, w.batch.map(|b| b as u8)
                ],
            )?;
        }
        self.steps.clear();
        self.workflows.clear();
        Ok(())
    }

    /// A workflow in which nothing can move has come to its end.
    fn finish_workflows(&mut self) -> Result<()> {
        for wf in std::mem::take(&mut self.to_finish) {
            let mut workflow = self.workflow(wf)?;
            let at_work = matches!(
                workflow.state,
                WorkflowState::Pending | WorkflowState::Running | WorkflowState::Paused | WorkflowState::Cancelling
            );
            let has_chores = workflow.chores > 0 && !planted!("a workflow finishes before its chores");
            if !at_work || workflow.active > 0 || has_chores {
                continue;
            }
            workflow.state = match workflow.state {
                WorkflowState::Cancelling => WorkflowState::Cancelled,
                _ if workflow.failed_steps > 0 || workflow.unsettled > 0 => WorkflowState::Failed,
                _ => WorkflowState::Succeeded,
            };
            workflow.finished_at = Some(self.now);
            workflow.grace_until = None;
            self.put_workflow(workflow);
            self.note_end(wf, workflow.state)?;
        }
        Ok(())
    }
}

/// A chunk of a step.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    pub chunk: i64,
    /// The index in the step of its first job.
    pub first: i64,
    pub jobs: usize,
}

/// Chunks have numbers below this. That of a chained step's is the number of the chunk that it has from the first step of its chain, and
/// above this its own.
pub const CHAINED: u32 = 40;

impl Chunk {
    /// The same chunk as that of a step that is chained to its own, directly or not.
    pub fn of(self, step: StepNumber) -> Self {
        Self { chunk: chained_chunk(self.chunk, step), ..self }
    }

    /// A chunk of a size that chunks have: readers index by it, and go on behind it.
    fn checked(chunk: i64, first: i64, jobs: i64) -> Result<Self> {
        match usize::try_from(jobs) {
            Ok(jobs @ 1..=CHUNK_JOBS) if (0..=MAX_INDEX).contains(&first) => Ok(Self { chunk, first, jobs }),
            _ => Err(Error::corrupt(format!("chunk {chunk} has {jobs} jobs from job {first} on"))),
        }
    }
}

/// The number under which a chained step has a chunk of the first step of its chain; with step 0 that chunk itself.
pub fn chained_chunk(chunk: i64, step: StepNumber) -> i64 {
    (chunk & ((1 << CHAINED) - 1)) | i64::from(step) << CHAINED
}

/// Where the parameters of a chunk are, and which chained step has it.
pub fn chunk_ref(chunk: i64) -> ChunkRef {
    let chained = StepNumber::try_from(chunk >> CHAINED).unwrap_or(0);
    ChunkRef { shard: 0, id: chained_chunk(chunk, 0) as u64, chained }
}

/// The inverse.
pub fn chunk_number(chunk: ChunkRef) -> i64 {
    chained_chunk(chunk.id as i64, chunk.chained)
}

/// The seven counters from column `from` on.
pub fn counts(row: &Row<'_>, from: usize) -> rusqlite::Result<Counts> {
    let column = |n: usize| row.get::<_, i64>(from + n).map(|count| count.max(0) as u64);
    Ok(Counts {
        total: column(0)?,
        succeeded: column(1)?,
        failed: column(2)?,
        skipped: column(3)?,
        cancelled: column(4)?,
        retrying: column(5)?,
        deferred: column(6)?,
    })
}

/// What a stored number stands for, or that this version does not know it.
pub fn known<T>(value: Option<T>, what: &str, number: u8) -> Result<T> {
    value.ok_or_else(|| Error::corrupt(format!("the store holds the unknown {what} {number}")))
}

/// What an edge has decided, as it is stored.
pub fn decided(decision: Option<u8>) -> Result<Option<Decision>> {
    decision.map(|number| known(Decision::from_u8(number), "decision", number)).transpose()
}

/// A stored mask.
pub fn mask(bytes: &[u8]) -> Result<Mask> {
    Mask::from_bytes(bytes).ok_or_else(|| Error::corrupt(format!("a stored mask has {} bytes", bytes.len())))
}

/// How many rows a statement has stepped over that no index led it to.
fn scanned(statement: &Statement<'_>) -> u64 {
    u64::try_from(statement.reset_status(StatementStatus::FullscanStep)).unwrap_or(0)
}

/// Enough of a statement to tell which one failed.
fn first_words(sql: &str) -> &str {
    let end = sql.char_indices().filter(|(_, c)| *c == ' ').nth(2).map_or(sql.len(), |(at, _)| at);
    &sql[..end]
}
