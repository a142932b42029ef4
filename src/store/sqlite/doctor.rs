//! The doctor: recounts everything from the bytes, and checks what must hold between the tables. Reads the whole file, in one
//! snapshot; what it says is true of one moment, also while workers run.

use std::collections::HashMap;

use super::key_row::KeyRow;
use super::tx::{CHAINED, Chunk, Step, Tx, Wf, mask};
use crate::error::Result;
use crate::graph::StepNumber;
use crate::slice::Mask;
use crate::state::{Counts, Decision, EdgeKind, JobState, MAX_ATTEMPTS, StepState, WorkflowState, attempts};
use crate::store::Checkup;

/// After so many findings the rest is only counted.
const SHOWN: usize = 200;

const _: () = assert!(
    (1u64 << CHAINED) - 1 == 1_099_511_627_775,
    "the queries below know how many bits a chunk's own number has"
);

/// Rows that belong to nothing, or lack what they belong to: what they are called, and the query that finds one of them. Chunks of chained steps
/// have the numbers of those that they are, and above [`CHAINED`] bits that of the step: 1099511627775 takes this off.
const ORPHANS: &[(&str, &str)] = &[
    (
        "parameters without a chunk",
        "SELECT params.chunk FROM params LEFT JOIN chunk USING (chunk) WHERE chunk.chunk IS NULL",
    ),
    (
        "states without a chunk",
        "SELECT bytes.chunk FROM bytes LEFT JOIN params ON params.chunk = bytes.chunk & 1099511627775 WHERE params.chunk IS NULL",
    ),
    (
        "outcomes without a chunk",
        "SELECT outcome.chunk FROM outcome LEFT JOIN params ON params.chunk = outcome.chunk & 1099511627775 WHERE params.chunk IS NULL",
    ),
    (
        "chunks without a segment",
        "SELECT chunk.segment FROM chunk LEFT JOIN segment USING (segment) WHERE segment.segment IS NULL",
    ),
    (
        "segments of nothing",
        "SELECT s.segment FROM segment s WHERE s.wf IS NULL AND NOT EXISTS (SELECT 1 FROM draft d WHERE d.segment = s.segment) AND NOT EXISTS (SELECT 1 FROM chore c WHERE c.argument = s.segment AND c.kind IN ('drop', 'reopen', 'retry jobs'))",
    ),
    (
        "drafts that are kept for no checkpoint",
        "SELECT d.draft FROM draft d WHERE d.deadline = 9000000000000000 AND NOT EXISTS (SELECT 1 FROM checkpoint c WHERE c.draft = d.draft)",
    ),
    (
        "open batches that nobody holds",
        "SELECT w.wf FROM workflow w WHERE w.batch = 1 AND w.state BETWEEN 1 AND 3 AND NOT EXISTS (SELECT 1 FROM draft d WHERE d.draft = w.opened_by)",
    ),
    (
        "drafts that hold no open batch",
        "SELECT d.draft FROM draft d WHERE d.wf IS NULL AND d.segment IS NULL AND NOT EXISTS (SELECT 1 FROM workflow w WHERE w.opened_by = d.draft AND w.batch = 1)",
    ),
    (
        "segments without a step",
        "SELECT s.segment FROM segment s LEFT JOIN step USING (wf, step) WHERE s.wf IS NOT NULL AND step.wf IS NULL AND NOT EXISTS (SELECT 1 FROM workflow w WHERE w.wf = s.wf AND w.state = 8)",
    ),
    ("steps without a workflow", "SELECT step.wf FROM step LEFT JOIN workflow USING (wf) WHERE workflow.wf IS NULL"),
    ("edges without a workflow", "SELECT edge.wf FROM edge LEFT JOIN workflow USING (wf) WHERE workflow.wf IS NULL"),
    (
        "leases without a session",
        "SELECT lease.session FROM lease LEFT JOIN session USING (session) WHERE session.session IS NULL",
    ),
    (
        "permits without a session",
        "SELECT permit.session FROM permit LEFT JOIN session USING (session) WHERE session.session IS NULL",
    ),
    (
        "limits of which other sums are stored than a recount gives",
        "SELECT l.name FROM limited l WHERE (l.taken, l.reserved) <> (SELECT coalesce(sum(p.hold), 0), coalesce(sum(p.reserved), 0) FROM permit p WHERE p.is_type = l.is_type AND p.name = l.name)",
    ),
    (
        "permits of no limit",
        "SELECT p.name FROM permit p WHERE NOT EXISTS (SELECT 1 FROM limited l WHERE l.is_type = p.is_type AND l.name = p.name)",
    ),
    (
        "permits that nobody ends",
        "SELECT p.name FROM permit p WHERE (p.hold > 0 OR p.reserved > 0) AND p.deadline IS NULL",
    ),
    ("leases without a workflow", "SELECT lease.wf FROM lease LEFT JOIN workflow USING (wf) WHERE workflow.wf IS NULL"),
    (
        "entries without a workflow",
        "SELECT entry.wf FROM entry LEFT JOIN workflow USING (wf) WHERE workflow.wf IS NULL",
    ),
    ("waits without a step", "SELECT awaited.wf FROM awaited LEFT JOIN step USING (wf, step) WHERE step.wf IS NULL"),
    ("timers without a workflow", "SELECT timer.wf FROM timer LEFT JOIN workflow USING (wf) WHERE workflow.wf IS NULL"),
    (
        "checkpoints without a chunk",
        "SELECT c.chunk FROM checkpoint c LEFT JOIN params ON params.chunk = c.chunk & 1099511627775 WHERE params.chunk IS NULL AND NOT EXISTS (SELECT 1 FROM workflow w WHERE w.wf = c.wf AND w.state = 8)",
    ),
    (
        "records of eager sources without a source",
        "SELECT e.chunk FROM emitted e LEFT JOIN params USING (chunk) WHERE params.chunk IS NULL AND NOT EXISTS (SELECT 1 FROM workflow w WHERE w.wf = e.wf AND w.state = 8)",
    ),
    (
        "eager sources whose last job is not there",
        "SELECT e.chunk FROM emitted e LEFT JOIN params p ON p.chunk = e.last WHERE p.chunk IS NULL AND NOT EXISTS (SELECT 1 FROM workflow w WHERE w.wf = e.wf AND w.state = 8)",
    ),
    (
        "steps that have fewer jobs than eager sources have emitted for them",
        "SELECT f.wf FROM (SELECT wf, step, sum(jobs) AS jobs FROM emitted GROUP BY wf, step) e JOIN step s USING (wf, step) JOIN step f ON f.wf = s.wf AND f.step = s.feeds JOIN workflow w ON w.wf = s.wf WHERE f.total < e.jobs AND w.state <> 8",
    ),
    (
        "deadlines without a chunk",
        "SELECT deadline.chunk FROM deadline LEFT JOIN params USING (chunk) WHERE params.chunk IS NULL",
    ),
    (
        "chores without a workflow",
        "SELECT chore.wf FROM chore LEFT JOIN workflow USING (wf) WHERE chore.wf <> 0 AND workflow.wf IS NULL",
    ),
    (
        "jobs with a key without a chunk",
        "SELECT keyed.chunk FROM keyed LEFT JOIN params USING (chunk) WHERE params.chunk IS NULL",
    ),
    (
        "keys of jobs that are not there",
        "SELECT sole.chunk FROM sole LEFT JOIN params USING (chunk) WHERE sole.due IS NULL AND params.chunk IS NULL",
    ),
    ("holds without a step", "SELECT hold.wf FROM hold LEFT JOIN step USING (wf, step) WHERE step.wf IS NULL"),
    (
        "keys of workflows that are not at work",
        "SELECT h.wf FROM held h LEFT JOIN workflow w USING (wf) WHERE w.wf IS NULL OR w.state >= 5",
    ),
    (
        "workflows at work without their key",
        "SELECT w.wf FROM workflow w WHERE w.key IS NOT NULL AND w.state < 5 AND NOT EXISTS (SELECT 1 FROM held h WHERE h.wf = w.wf)",
    ),
    ("unfinished workflows that expire", "SELECT wf FROM workflow WHERE expires_at IS NOT NULL AND state < 5"),
    (
        "workflows that nobody deletes",
        "SELECT w.wf FROM workflow w WHERE w.state = 8 AND w.expires_at IS NULL AND NOT EXISTS (SELECT 1 FROM chore c WHERE c.wf = w.wf AND c.kind = 'delete')",
    ),
    (
        "entries in no line",
        "SELECT e.wf FROM entry e JOIN step s USING (wf, step) JOIN line l ON l.line = s.line JOIN line m ON m.queue = l.queue AND m.type = l.type AND m.priority = l.priority AND m.suspect = e.suspect LEFT JOIN ready r ON r.line = m.line AND r.wf = e.wf AND r.step = e.step WHERE r.wf IS NULL AND (s.follows IS NULL OR s.released_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM timer t WHERE t.wf = s.wf AND t.step = s.step AND t.chunk = 0))",
    ),
    (
        "lined up without an entry",
        "SELECT r.wf FROM ready r JOIN line l USING (line) WHERE NOT EXISTS (SELECT 1 FROM entry e WHERE e.wf = r.wf AND e.step = r.step AND e.suspect = l.suspect)",
    ),
    ("lined up without a place", "SELECT r.wf FROM ready r LEFT JOIN place p USING (line, wf) WHERE p.wf IS NULL"),
    (
        "places without a step",
        "SELECT p.wf FROM place p WHERE NOT EXISTS (SELECT 1 FROM ready r WHERE r.line = p.line AND r.wf = p.wf)",
    ),
    (
        "steps parked below their limit",
        "SELECT r.wf FROM ready r JOIN step s USING (wf, step) JOIN workflow w USING (wf) WHERE r.turn IS NULL AND w.state IN (1, 2) AND NOT s.exceeded AND (s.max_in_flight IS NULL OR s.leased < s.max_in_flight)",
    ),
    (
        "places parked for nothing",
        "SELECT p.wf FROM place p JOIN workflow w USING (wf) WHERE p.turn IS NULL AND w.state IN (1, 2) AND EXISTS (SELECT 1 FROM ready r WHERE r.line = p.line AND r.wf = p.wf AND r.turn IS NOT NULL) AND NOT EXISTS (SELECT 1 FROM chore c WHERE c.wf = p.wf AND c.kind = 'resume')",
    ),
];

/// What the check has found so far.
#[derive(Default)]
struct Findings {
    shown: Vec<String>,
    more: u64,
    /// How many jobs of each key have been admitted.
    admitted: HashMap<i64, u32>,
}

impl Findings {
    fn add(&mut self, finding: String) {
        if self.shown.len() < SHOWN { self.shown.push(finding) } else { self.more += 1 }
    }

    fn expect<T: PartialEq + std::fmt::Debug>(&mut self, place: &str, what: &str, stored: T, counted: T) {
        if stored != counted {
            self.add(format!("{place}: {what} is stored as {stored:?}, but a recount gives {counted:?}"));
        }
    }
}

/// What a step's work is in at the moment, by chunk.
#[derive(Default)]
struct Whereabouts {
    runs: Vec<(i64, i64)>,
    entries: HashMap<i64, Mask>,
    leases: HashMap<i64, Mask>,
    timers: HashMap<i64, Mask>,
    turns: HashMap<i64, Mask>,
    delayed: bool,
    leased: i64,
    /// It waits for a signal, for ever; the signal has come.
    is_endless: bool,
    signalled: bool,
}

impl Tx<'_> {
    /// Counts what is there only while something is under way.
    fn under_way(&mut self) -> Result<u64> {
        let mut rows = 0;
        for table in [
            "lease",
            // What a chained step can go on with stands in no line before the step is released.
            "entry JOIN step USING (wf, step) WHERE follows IS NULL OR released_at IS NOT NULL",
            "ready",
            "place",
            "timer WHERE chunk = 0 OR length(jobs) > 0",
            "chore",
            "draft",
            "permit WHERE hold > 0 OR reserved > 0",
            "hold",
            "segment WHERE wf IS NULL",
            "workflow WHERE id IS NULL OR state = 8",
            "held",
            "keyed WHERE waits = 1",
            "sole WHERE due IS NULL",
        ] {
            rows += self.one(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))?.unwrap_or(0);
        }
        Ok(rows as u64)
    }

    /// Recounts everything.
    pub fn doctor(&mut self) -> Result<Checkup> {
        let mut checkup = Checkup { under_way: self.under_way()?, ..Checkup::default() };
        let mut findings = Findings::default();
        let workflows =
            self.all("SELECT wf FROM workflow WHERE state NOT IN (0, 8) ORDER BY wf", [], |row| row.get::<_, Wf>(0))?;
        for wf in workflows {
            let of_its_kind = if self.is_lane(wf)? { &mut checkup.lanes } else { &mut checkup.workflows };
            *of_its_kind += 1;
            match self.check_workflow(wf, &mut checkup, &mut findings) {
                Err(error) if !error.is_transient() => {
                    findings.add(format!("workflow number {wf} cannot be recounted: {error}"));
                }
                checked => checked?,
            }
            self.forget_workflow(wf);
        }
        self.check_keys(&mut findings)?;
        checkup.leases = self.one("SELECT count(*) FROM lease", [], |row| row.get::<_, i64>(0))?.unwrap_or(0) as u64;
        for (what, sql) in ORPHANS {
            let found = self.one(&format!("SELECT count(*) FROM ({sql})"), [], |row| row.get::<_, i64>(0))?;
            if let Some(count) = found.filter(|count| *count > 0) {
                findings.add(format!("{count} {what}"));
            }
        }
        let sql = "SELECT kind, wf, error FROM chore WHERE error IS NOT NULL LIMIT 20";
        for (kind, wf, error) in
            self.all(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Wf>(1)?, row.get::<_, String>(2)?)))?
        {
            findings.add(format!("the chore `{kind}` of workflow number {wf} is set aside: {error}"));
        }
        checkup.findings = findings.shown;
        if findings.more > 0 {
            checkup.findings.push(format!("… and {} more", findings.more));
        }
        Ok(checkup)
    }

    fn check_workflow(&mut self, wf: Wf, checkup: &mut Checkup, findings: &mut Findings) -> Result<()> {
        let workflow = self.workflow(wf)?;
        let id =
            self.one("SELECT id FROM workflow WHERE wf = ?", [wf], |row| row.get::<_, Option<Vec<u8>>>(0))?.flatten();
        let name = id
            .and_then(|id| crate::id::WorkflowId::from_slice(&id).ok())
            .map_or_else(|| format!("number {wf}"), |id| id.to_string());
        let place = format!("workflow {name}");
        let (mut jobs, mut unsettled, mut active, mut failed) = (Counts::default(), 0, 0, 0);
        let steps = self.all("SELECT step, name FROM step WHERE wf = ? ORDER BY step", [wf], |row| {
            Ok((row.get::<_, StepNumber>(0)?, row.get::<_, String>(1)?))
        })?;
        for (number, name) in steps {
            checkup.steps += 1;
            let step = self.step(wf, number)?;
            let counted = self.check_step(&workflow.state, &step, &format!("{place}, step `{name}`"), findings)?;
            checkup.jobs += counted.total;
            jobs.add(&counted);
            unsettled += i64::from(!step.state.is_settled());
            active += i64::from(step.state == StepState::Running);
            failed += i64::from(step.state == StepState::Failed);
        }
        findings.expect(&place, "its count of jobs", workflow.jobs, jobs);
        findings.expect(&place, "its count of unsettled steps", workflow.unsettled, unsettled);
        findings.expect(&place, "its count of active steps", workflow.active, active);
        findings.expect(&place, "its count of failed steps", workflow.failed_steps, failed);
        let chores = self.one("SELECT count(*) FROM chore WHERE wf = ?", [wf], |row| row.get(0))?.unwrap_or(0);
        findings.expect(&place, "its count of chores", workflow.chores, chores);
        if workflow.state.is_finished() && (active > 0 || chores > 0) {
            findings.add(format!(
                "{place} is {}, but {active} of its steps are running and it has {chores} chores",
                workflow.state
            ));
        }
        let at_work =
            matches!(workflow.state, WorkflowState::Pending | WorkflowState::Running | WorkflowState::Cancelling);
        if at_work && active == 0 && chores == 0 {
            findings.add(format!("{place} is {}, but nothing in it can move", workflow.state));
        }
        Ok(())
    }

    /// Recounts one step; returns what the bytes say.
    fn check_step(
        &mut self,
        workflow: &WorkflowState,
        step: &Step,
        place: &str,
        findings: &mut Findings,
    ) -> Result<Counts> {
        let work = self.work_of(step)?;
        let (wf, number) = (step.wf, step.step);
        let busy = self.one(
            "SELECT EXISTS (SELECT 1 FROM hold WHERE wf = ?1 AND step = ?2) OR EXISTS (SELECT 1 FROM chore WHERE wf = ?1)",
            (wf, number),
            |row| row.get::<_, bool>(0),
        )?;
        let busy = busy.unwrap_or(false) || *workflow == WorkflowState::Cancelling;
        let is_lane = *workflow == WorkflowState::Standing;
        let mut counted = Counts::default();
        let mut early = 0;
        let mut next = 0;
        loop {
            let chunks = self.chunks_from(wf, number, next, 200)?;
            for chunk in &chunks {
                // A lane does not keep what has settled and is not wanted any more.
                if chunk.first < next || chunk.first > next && !is_lane {
                    findings.add(format!("{place}: jobs {next} to {} are in no chunk, or in two", chunk.first));
                }
                next = chunk.first + chunk.jobs as i64;
                counted.total += chunk.jobs as u64;
                let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
                for byte in &bytes {
                    if let Some(counter) = counted.of(JobState::of(*byte)) {
                        *counter += 1;
                    }
                }
                if let Some(at) = bytes.iter().position(|byte| attempts(*byte) > MAX_ATTEMPTS) {
                    findings.add(format!(
                        "{place}: job {} has used {} attempts",
                        chunk.first + at as i64,
                        attempts(bytes[at])
                    ));
                }
                if step.keyed.limited() {
                    self.count_admitted(chunk, &bytes, findings)?;
                }
                let before = match step.follows {
                    Some(_) => Some(self.succeeded_before(step, chunk)?),
                    None => None,
                };
                if let Some(succeeded) = before {
                    let late = |at: &usize| !succeeded.contains(*at) && JobState::of(bytes[*at]).is_settled();
                    early += (0..bytes.len()).filter(late).count() as i64;
                }
                if !busy {
                    check_whereabouts((step, is_lane), &work, (chunk, &bytes, before), place, findings);
                }
                if step.checkpoints > 0 {
                    let sql = "SELECT at FROM checkpoint WHERE chunk = ?";
                    for at in self.all(sql, [chunk.chunk], |row| row.get::<_, u16>(0).map(usize::from))? {
                        if bytes.get(at).is_none_or(|byte| JobState::of(*byte).is_settled()) {
                            findings.add(format!(
                                "{place}: job {} has settled and has a checkpoint",
                                chunk.first + at as i64
                            ));
                        }
                    }
                }
                if is_lane && self.is_unwanted(chunk.chunk, &bytes)? {
                    findings.add(format!("{place}: chunk {} is kept although nobody wants it", chunk.chunk));
                }
            }
            if chunks.len() < 200 {
                break;
            }
        }
        findings.expect(place, "its count of jobs", step.jobs, counted);
        findings.expect(place, "its count of jobs under a lease", step.leased, work.leased);
        let sql = "SELECT count(*) FROM checkpoint WHERE wf = ? AND step = ?";
        let checkpoints = self.one(sql, (wf, number), |row| row.get::<_, i64>(0))?.unwrap_or(0);
        findings.expect(place, "its count of checkpoints", step.checkpoints, checkpoints);
        let sql = "SELECT coalesce(sum(jobs), 0) FROM error WHERE wf = ? AND step = ?";
        let explained = self.one(sql, (wf, number), |row| row.get::<_, i64>(0))?.unwrap_or(0) as u64;
        if !busy {
            findings.expect(place, "its count of failed jobs by error", explained, counted.failed);
        }
        let ends = matches!(workflow, WorkflowState::Cancelling | WorkflowState::Cancelled);
        if step.is_chained() && step.decided.is_none() && !busy && !ends {
            findings.expect(
                place,
                "its count of settled jobs whose predecessors have not succeeded",
                step.early,
                early,
            );
            let (going, up) = (self.going(step)?, step.follows.unwrap_or_default());
            let up_succeeded = self.step(wf, up)?.state == StepState::Succeeded;
            if step.released_at.is_some() && up_succeeded && counted.unsettled() > going {
                findings.add(format!(
                    "{place}: {} of its jobs wait for predecessors that have settled",
                    counted.unsettled() - going
                ));
            }
        }
        if step.state.is_settled() && !busy && counted.unsettled() > 0 {
            findings.add(format!("{place} is {}, but {} of its jobs are not settled", step.state, counted.unsettled()));
        }
        if step.children && !busy {
            let at_work = self.children_at_work(step.wf, step.step)?;
            if counted.deferred > at_work {
                findings.add(format!(
                    "{place}: {} of its jobs wait for workflows, of which {at_work} are at work",
                    counted.deferred
                ));
            }
        }
        let is_fed_on = step.pending > 0;
        if step.state == StepState::Running && !busy && !is_lane && !is_fed_on && counted.unsettled() == 0 {
            findings.add(format!("{place} is running, but all of its jobs are settled"));
        }
        self.check_edges(step, place, findings)?;
        Ok(counted)
    }

    fn count_admitted(&mut self, chunk: &Chunk, bytes: &[u8], findings: &mut Findings) -> Result<()> {
        let sql = "SELECT at, key_row FROM keyed WHERE chunk = ?";
        for (at, key) in self.all(sql, [chunk.chunk], |row| Ok((row.get::<_, u16>(0)?, row.get::<_, i64>(1)?)))? {
            if bytes.get(usize::from(at)).is_some_and(|byte| JobState::of(*byte) == JobState::Open) {
                *findings.admitted.entry(key).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Recounts the jobs of each key that limits them.
    fn check_keys(&mut self, findings: &mut Findings) -> Result<()> {
        let sql = "SELECT l.key_row, l.type, l.key, l.row, (SELECT count(*) FROM keyed k WHERE k.key_row = l.key_row), \
                   (SELECT count(*) FROM keyed k WHERE k.key_row = l.key_row AND k.waits = 1) FROM key_row l";
        let keys = self.all(sql, [], |row| {
            let place = format!("type `{}`, key `{}`", row.get::<_, String>(1)?, row.get::<_, String>(2)?);
            Ok((row.get::<_, i64>(0)?, place, row.get::<_, String>(3)?, row.get::<_, u32>(4)?, row.get::<_, u32>(5)?))
        })?;
        for (id, place, row, jobs, waiting) in keys {
            let Ok(row) = serde_json::from_str::<KeyRow>(&row) else {
                findings.add(format!("{place}: its row does not decode"));
                continue;
            };
            findings.expect(&place, "its count of jobs", row.jobs, jobs);
            findings.expect(&place, "its count of jobs that wait for their turn", row.waiting, waiting);
            let admitted = findings.admitted.remove(&id).unwrap_or(0);
            findings.expect(&place, "its count of jobs that have been admitted", row.admitted, admitted);
        }
        Ok(())
    }

    fn work_of(&mut self, step: &Step) -> Result<Whereabouts> {
        let mut work = Whereabouts::default();
        let key = (step.wf, step.step);
        let sql = "SELECT low, high, chunk, jobs FROM entry WHERE wf = ? AND step = ?";
        type EntryRow = (Option<i64>, Option<i64>, Option<i64>, Option<Vec<u8>>);
        let entries: Vec<EntryRow> =
            self.all(sql, key, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        for entry in entries {
            match entry {
                (Some(low), Some(high), ..) => work.runs.push((low, high)),
                (.., Some(chunk), Some(jobs)) => put(&mut work.entries, chunk, mask(&jobs)?),
                _ => {}
            }
        }
        for (chunk, jobs) in self.all("SELECT chunk, jobs FROM lease WHERE wf = ? AND step = ?", key, |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
        })? {
            let jobs = mask(&jobs)?;
            work.leased += jobs.len() as i64;
            put(&mut work.leases, chunk, jobs);
        }
        for (chunk, jobs) in self.all("SELECT chunk, jobs FROM timer WHERE wf = ? AND step = ?", key, |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
        })? {
            work.delayed |= chunk == 0;
            put(&mut work.timers, chunk, mask(&jobs)?);
        }
        if step.awaits {
            let sql =
                "SELECT at IS NULL AND wait IS NULL, signalled_at IS NOT NULL FROM awaited WHERE wf = ? AND step = ?";
            let waits = self.one(sql, key, |row| Ok((row.get(0)?, row.get(1)?)))?;
            (work.is_endless, work.signalled) = waits.unwrap_or_default();
        }
        // Nothing but the ends of their workflows ends these.
        work.is_endless |= step.children;
        if step.keyed.limited() {
            for (chunk, at) in self.all("SELECT chunk, at FROM keyed WHERE wf = ? AND waits = 1", [step.wf], |row| {
                Ok((row.get(0)?, row.get::<_, u16>(1)?))
            })? {
                put(&mut work.turns, chunk, Mask::range(usize::from(at)..usize::from(at) + 1));
            }
        }
        Ok(work)
    }

    fn check_edges(&mut self, step: &Step, place: &str, findings: &mut Findings) -> Result<()> {
        let sql = "SELECT e.kind, e.decision, u.state, u.decided IS NOT NULL FROM edge e INDEXED BY edge_by_down JOIN step u ON u.wf = e.wf AND u.step = e.up \
                   WHERE e.wf = ? AND e.down = ?";
        let edges = self.all(sql, (step.wf, step.step), |row| {
            Ok((row.get::<_, u8>(0)?, row.get::<_, Option<u8>>(1)?, row.get::<_, u8>(2)?, row.get::<_, bool>(3)?))
        })?;
        let of = |decision: Decision| edges.iter().filter(|edge| edge.1 == Some(decision as u8)).count() as i64;
        let sql = "SELECT gated FROM again WHERE wf = ? AND step = ?";
        let again = self.one(sql, (step.wf, step.step), |row| row.get::<_, i64>(0))?;
        let pending = edges.iter().filter(|edge| edge.1.is_none()).count() as i64 + again.unwrap_or(0);
        findings.expect(place, "its count of edges that have not decided", step.pending, pending);
        findings.expect(place, "its count of edges that skip it", step.skips, of(Decision::Skip));
        findings.expect(place, "its count of edges that wait", step.waits, of(Decision::Wait));
        findings.expect(place, "its count of edges that cancel it", step.cancels, of(Decision::Cancel));
        // While it is taken back to run again, its edges are being decided anew.
        if again.is_some() {
            return Ok(());
        }
        // A step that is fed begins before its source has succeeded, one that grows before its batch has settled.
        let waits = |decision: Option<u8>| decision.is_none() || decision == Some(Decision::Wait as u8);
        let early = edges
            .iter()
            .filter(|(kind, decision, ..)| !EdgeKind::from_u8(*kind).is_some_and(EdgeKind::is_held) && waits(*decision))
            .count();
        if step.state == StepState::Running && early > 0 {
            findings.add(format!(
                "{place} is running, but {early} of its upstream steps have not settled as its edges ask"
            ));
        }
        for (kind, decision, state, passed_over) in edges {
            let (Some(kind), Some(state)) = (EdgeKind::from_u8(kind), StepState::from_u8(state)) else {
                findings.add(format!("{place} has an edge of an unknown kind"));
                continue;
            };
            let stale = step.is_asked(kind) && decision.is_some();
            if stale && kind.decide(state, passed_over).map(|decision| decision as u8) != decision {
                findings.add(format!(
                    "{place} has an edge that decided {decision:?} although the step before it is {state}"
                ));
            }
        }
        Ok(())
    }
}

fn put(masks: &mut HashMap<i64, Mask>, chunk: i64, jobs: Mask) {
    let there = masks.entry(chunk).or_default();
    *there = there.or(jobs);
}

/// Each open job of a running step is in exactly one place, each retrying or deferred one has a timer, and nothing else is in any.
fn check_whereabouts(
    (step, is_lane): (&Step, bool),
    work: &Whereabouts,
    (chunk, bytes, before): (&Chunk, &[u8], Option<Mask>),
    place: &str,
    findings: &mut Findings,
) {
    let masked = |masks: &HashMap<i64, Mask>, at: usize| masks.get(&chunk.chunk).is_some_and(|mask| mask.contains(at));
    for (at, byte) in bytes.iter().enumerate() {
        let index = chunk.first + at as i64;
        let in_run = work.runs.iter().filter(|(low, high)| (*low..*high).contains(&index)).count();
        let places = in_run
            + usize::from(masked(&work.entries, at))
            + usize::from(masked(&work.leases, at))
            + usize::from(work.delayed && before.is_none());
        // One that is chained goes nowhere before its own predecessor has succeeded; then it has its place, also if its step waits for others.
        let goes_on = before.is_none_or(|succeeded| succeeded.contains(at));
        let waits_in_entry = before.is_some() && step.state == StepState::Waiting && step.decided.is_none();
        let timed = masked(&work.timers, at);
        let waits = masked(&work.turns, at);
        let state = JobState::of(*byte);
        let running = step.state == StepState::Running;
        let right = match state {
            JobState::Open if waits_in_entry => places == usize::from(goes_on) && !timed,
            JobState::Open | JobState::Skipped | JobState::Cancelled if !goes_on => places == 0 && !timed,
            JobState::SkippedByPredecessor => before.is_some() && !goes_on && places == 0 && !timed,
            _ if !goes_on => false,
            JobState::Skipped if waits_in_entry => !masked(&work.leases, at),
            JobState::Open if running => places == 1 && !timed,
            JobState::Deferred if running && work.signalled => false,
            JobState::Deferred if running => places == 0 && (timed != work.is_endless || waits),
            JobState::Retrying if running => places == 0 && timed,
            // What was cancelled stays in its entry until a claim comes by.
            JobState::Cancelled if is_lane => !masked(&work.leases, at) && !timed,
            // What a person has skipped stays there until its step settles.
            JobState::Skipped if running => !masked(&work.leases, at),
            _ => places == 0 && !timed,
        };
        if !right {
            let word = state.as_str();
            return findings.add(format!("{place}: job {index} is {word} and stands in {places} places and {} timers (the first such job of its chunk)", u8::from(timed)));
        }
    }
}
