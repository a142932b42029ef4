//! Claiming: slices are cut off the front of the lines that a worker names, and leased to it.
//!
//! A claim looks at those lines only, so its cost depends on the types a worker knows and never on the backlog. Lines of a
//! higher priority come first; those of one priority, the workflows of a line and the steps of a workflow take turns.

use std::collections::{BTreeMap, HashMap, VecDeque};

use rusqlite::params;

use super::create::to_json;
use super::lease::{Lease, unknown_session};
use super::line::{Entry, Work};
use super::tx::{Step, Tx, Wf, chunk_ref, known};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::ledger::What;
use crate::planted::planted;
use crate::slice::{Mask, fair_share};
use crate::state::{JobState, WorkflowState, attempts};
use crate::store::{Claim, Claimed, FEW_BYTES, FEW_JOBS, Limited, Parameters, Slice, StepOptions, forwarded_for};

/// From this many statements on a claim grants no further slice.
const SOFT_CALLS: u64 = 460;
/// How many places or steps a claim parks before it gives up on a line for this time.
const MAX_PARKED: usize = 40;

pub struct Line {
    line: i64,
    pub queue: String,
    pub job_type: String,
    suspect: bool,
    priority: i32,
    turn: i64,
    asked: Option<i64>,
}

/// What one look at a line came to.
enum Granted {
    Slice(Box<Slice>),
    /// The line has nothing that may run now.
    Empty,
    /// It has, but this claim has no use for it.
    NotWanted,
    /// It may have, but the operation has reached its bound.
    NotNow,
}

/// What is left of a claim's wishes.
pub struct Wishes<'a> {
    session: i64,
    workers: u64,
    lease_time: Millis,
    lease_length: Millis,
    /// Whether what it claims is for others.
    forwards: bool,
    lease: u64,
    budgets: HashMap<&'a str, (u32, u32)>,
    /// What is left of the jobs of all that is limited.
    pub max_limited: u32,
    /// What is left of its permits.
    pub permits: Vec<(&'a Limited, u32)>,
}

impl Tx<'_> {
    /// Hands out slices.
    pub fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let lease_time = self.advance_lease_time(claim.lease)?;
        let sql = "SELECT session, last_lease, (SELECT workers FROM shard), worker FROM session WHERE id = ?";
        let session = self.one(sql, [claim.session.as_bytes().as_slice()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, bool>(3)?))
        })?;
        let Some((session, last_lease, workers, is_worker)) = session else {
            return Err(unknown_session(claim.session));
        };
        if (claim.first_lease as i64) <= last_lease && !planted!("a claim sent again grants again") {
            return self.claimed_before(session, last_lease, claim);
        }
        let mut wishes = Wishes {
            session,
            workers: workers.max(1) as u64,
            lease_time,
            lease_length: claim.lease,
            forwards: !is_worker,
            lease: claim.first_lease,
            budgets: claim.takes.iter().map(|take| (take.job_type.as_str(), (take.jobs, take.budget))).collect(),
            max_limited: claim.max_limited,
            permits: claim.permits.iter().map(|(of, jobs)| (of, *jobs)).collect(),
        };
        let mut claimed = Claimed::default();
        let held = self.held_by(session, claim)?;
        let room = claim.most_held.map_or(claim.max_leases, |most| claim.max_leases.min(most.saturating_sub(held)));
        // Whether there is more for another claim of this worker; what is there for others only must not make it ask again and again.
        let mut more = false;
        let mut more_for_others = false;
        let mut lines = self.lines_of(claim, session)?;
        lines.retain(|line| is_worker || !line.suspect);
        let mut turn = lines.iter().map(|line| line.turn).max().unwrap_or(0);
        let mut served: BTreeMap<i64, i64> = BTreeMap::new();
        wishes.pass_over_what_has_no_permit(&mut lines, &mut claimed.waits);
        while let Some(line) = lines.pop_front() {
            if claimed.slices.len() as u32 >= room || self.cost().calls >= SOFT_CALLS {
                more = true;
                break;
            }
            let alone = claim.alone && claimed.slices.is_empty() || planted!("suspects run beside others");
            if line.suspect && !alone {
                claimed.drain |= self.ask_to_drain(&line, session)?;
                more |= planted!("a worker asks again and again for what another was asked for");
                continue;
            }
            match self.grant(&line, &mut wishes)? {
                Granted::Empty => {}
                Granted::NotNow => more = true,
                Granted::NotWanted if planted!("a worker asks again and again for what it has no slot for") => {
                    more = true
                }
                Granted::NotWanted => {
                    wishes.tell_used_up(&line, &mut claimed.waits);
                    more_for_others = true;
                    self.lines_fed.insert(line.line);
                }
                Granted::Slice(slice) => {
                    turn += 1;
                    served.insert(line.line, turn);
                    claimed.slices.push(*slice);
                    if line.suspect {
                        // It runs with nothing beside it.
                        self.run("UPDATE line SET asked = NULL WHERE line = ?", [line.line])?;
                        claimed.drain = true;
                        break;
                    }
                    let behind = lines.iter().position(|other| other.priority < line.priority).unwrap_or(lines.len());
                    lines.insert(behind, line);
                }
            }
        }
        claimed.last_lease = wishes.lease - 1;
        claimed.held = held + claimed.slices.len() as u32;
        // Where starts are limited, each of them decides when the next may come.
        self.admit()?;
        for (line, turn) in served {
            self.run("UPDATE line SET turn = ?2 WHERE line = ?1", (line, turn))?;
            self.lines_fed.insert(line);
        }
        let granted: usize = claimed.slices.iter().map(|slice| slice.jobs.len()).sum();
        // What it wants no more of now it may want again as soon as it is through with what it got.
        claimed.empty = !more && (claimed.slices.is_empty() || !more_for_others);
        claimed.idle = claimed.empty && claim.free_slots as usize > granted && !claimed.drain;
        let sql =
            "UPDATE session SET last_lease = ?2, idle = ?3 WHERE session = ?1 AND (last_lease <> ?2 OR idle <> ?3)";
        self.run(sql, (session, claimed.last_lease as i64, claimed.idle))?;
        if more && !claimed.slices.is_empty() || more_for_others {
            claimed.woken = self.wake()?;
        }
        Ok(claimed)
    }

    /// How many leases a session holds, if that limits its claim.
    fn held_by(&mut self, session: i64, claim: &Claim) -> Result<u32> {
        if claim.most_held.is_none() {
            return Ok(0);
        }
        let sql = "SELECT count(*) FROM lease WHERE session = ?";
        Ok(self.one(sql, [session], |row| row.get(0))?.unwrap_or(0))
    }

    /// What a claim that is sent again was given, as far as it still holds it.
    fn claimed_before(&mut self, session: i64, last_lease: i64, claim: &Claim) -> Result<Claimed> {
        let condition = "session = ?1 AND number >= ?2 AND number < ?3 AND replaced IS NULL ORDER BY number LIMIT 40";
        let bounds = (session, claim.first_lease as i64, (claim.first_lease + u64::from(claim.max_leases)) as i64);
        let leases = self.leases_where(condition, bounds)?;
        let mut slices = leases.iter().map(|lease| self.slice_of(lease)).collect::<Result<Vec<Slice>>>()?;
        if claim.permits.iter().any(|(of, _)| !of.is_type()) {
            for (slice, lease) in slices.iter_mut().zip(&leases) {
                slice.queue = self.queue_of(lease)?;
            }
        }
        Ok(Claimed { slices, last_lease: last_lease as u64, ..Claimed::default() })
    }

    fn queue_of(&mut self, lease: &Lease) -> Result<Option<String>> {
        let sql = "SELECT queue FROM step JOIN line USING (line) WHERE wf = ? AND step = ?";
        self.one(sql, (lease.wf, lease.step), |row| row.get(0))
    }

    /// The lines that a claim names and that have work, in the order in which it serves them.
    fn lines_of(&mut self, claim: &Claim, session: i64) -> Result<VecDeque<Line>> {
        let types: Vec<&str> = claim.takes.iter().map(|take| take.job_type.as_str()).collect();
        let limited = |(of, _): &(Limited, u32)| match of {
            Limited::Type(name) => Some(name.clone()),
            Limited::Queue(_) => None,
        };
        let limited: Vec<String> = claim.permits.iter().filter_map(limited).collect();
        let sql = "SELECT line, type, suspect, priority, turn, asked, queue FROM line \
                   WHERE (queue IN (SELECT value FROM json_each(?1)) OR queue IN (SELECT value FROM json_each(?4)) \
                   AND (suspect = 1 OR type IN (SELECT value FROM json_each(?5)))) AND type IN (SELECT value FROM json_each(?2)) \
                   AND EXISTS (SELECT 1 FROM place WHERE place.line = line.line AND place.turn IS NOT NULL) \
                   AND NOT EXISTS (SELECT 1 FROM paused WHERE is_type = 0 AND name = queue OR is_type = 1 AND name = type) \
                   ORDER BY asked IS ?3 AND ?3 IS NOT NULL DESC, priority DESC, turn LIMIT 64";
        let (queues, by_broker) = (to_json(&claim.queues)?, to_json(&claim.by_broker)?);
        let lines = self.all(sql, (queues, to_json(&types)?, session, by_broker, to_json(&limited)?), |row| {
            Ok(Line {
                line: row.get(0)?,
                job_type: row.get(1)?,
                suspect: row.get(2)?,
                priority: row.get(3)?,
                turn: row.get(4)?,
                asked: row.get(5)?,
                queue: row.get(6)?,
            })
        })?;
        Ok(lines.into())
    }

    /// Asks this worker to drain for the suspect work of a line, unless a live one has been asked; returns whether it is this one.
    fn ask_to_drain(&mut self, line: &Line, session: i64) -> Result<bool> {
        if line.asked == Some(session) {
            return Ok(true);
        }
        let sql = "UPDATE line SET asked = ?2 WHERE line = ?1 AND NOT EXISTS \
                   (SELECT 1 FROM session WHERE session.session = line.asked AND dead_at IS NULL)";
        Ok(self.run(sql, (line.line, session))? > 0)
    }

    /// Leases one slice off a line. What may not run now is parked on the way.
    fn grant(&mut self, line: &Line, wishes: &mut Wishes<'_>) -> Result<Granted> {
        if !line.suspect && wishes.budget(line) == 0 || wishes.permitted(line) == Some(0) {
            return Ok(Granted::NotWanted);
        }
        for _ in 0..MAX_PARKED {
            if self.cost().calls >= SOFT_CALLS {
                return Ok(Granted::NotNow);
            }
            let sql = "SELECT wf FROM place WHERE line = ? AND turn IS NOT NULL ORDER BY turn LIMIT 1";
            let Some(wf) = self.one(sql, [line.line], |row| row.get::<_, Wf>(0))? else { return Ok(Granted::Empty) };
            let state = self.workflow(wf)?.state;
            let sql = "SELECT step FROM ready WHERE line = ? AND wf = ? AND turn IS NOT NULL ORDER BY turn LIMIT 1";
            let number = self.one(sql, (line.line, wf), |row| row.get::<_, StepNumber>(0))?;
            let may_run = matches!(
                state,
                WorkflowState::Pending | WorkflowState::Running | WorkflowState::Cancelling | WorkflowState::Standing
            ) || planted!("a paused workflow is handed out");
            let (true, Some(number)) = (may_run, number) else {
                self.run("UPDATE place SET turn = NULL WHERE line = ? AND wf = ?", (line.line, wf))?;
                continue;
            };
            let step = self.step(wf, number)?;
            let is_cancelled = state == WorkflowState::Cancelling && !step.always;
            if is_cancelled && !planted!("a cancelled workflow is handed out")
                || step.is_held_back()
                || step.is_at_limit()
            {
                self.run(
                    "UPDATE ready SET turn = NULL WHERE line = ? AND wf = ? AND step = ?",
                    (line.line, wf, number),
                )?;
                continue;
            }
            let Some(entry) = self.first_entry(wf, number, line.suspect)? else {
                self.leave_line(line.line, wf, number)?;
                continue;
            };
            let ready = self.ready_jobs(&step)?;
            let Some(take) = wishes.take(line, &step, ready) else { return Ok(Granted::NotWanted) };
            let mut slice = None;
            let cut = self.guarded(|tx| {
                let lease = tx.cut(line, &step, &entry, take, wishes)?;
                slice = lease.map(|lease| tx.slice_of(&lease)).transpose()?;
                Ok(())
            })?;
            if let Err(error) = cut {
                // What is damaged is parked for good: it must not keep anybody from claiming the rest.
                tracing::error!(%error, step = number, "a slice cannot be claimed; its step is parked");
                self.run(
                    "UPDATE ready SET turn = NULL WHERE line = ? AND wf = ? AND step = ?",
                    (line.line, wf, number),
                )?;
                continue;
            }
            if let Some(slice) = slice {
                wishes.granted(line, &step, slice.jobs.len() as u32);
                let queue = wishes.names_queues().then(|| line.queue.clone());
                return Ok(Granted::Slice(Box::new(Slice { queue, ..slice })));
            }
        }
        Ok(Granted::NotNow)
    }

    /// Cuts up to `take` jobs off an entry and leases them; `None` if nothing of it was open any more.
    fn cut(
        &mut self,
        line: &Line,
        step: &Step,
        entry: &Entry,
        take: usize,
        wishes: &Wishes<'_>,
    ) -> Result<Option<Lease>> {
        let (wf, number) = (step.wf, step.step);
        let (chunk, first, jobs, rest) = match entry.work {
            // Somebody may have skipped jobs of it.
            Work::Run { low, high } if self.is_lane(wf)? || step.jobs.skipped > 0 => {
                self.cut_lone(step, (low, high), take)?
            }
            Work::Run { low, high } => {
                let chunk = self.chunk_at(wf, number, low)?;
                let from = (low - chunk.first) as usize;
                let until = (from + take).min(chunk.jobs).min((high - chunk.first) as usize);
                let next = chunk.first + until as i64;
                (
                    chunk.chunk,
                    chunk.first,
                    Mask::range(from..until),
                    (next < high).then_some(Work::Run { low: next, high }),
                )
            }
            Work::Masked { chunk, first, jobs } => {
                // A lane's chunk is gone once all of its jobs have been cancelled and are not kept any more.
                let there = self.find_chunk(wf, number, first)?.filter(|there| there.chunk == chunk);
                if there.is_none() && !self.is_lane(wf)? {
                    self.chunk_at(wf, number, first)?;
                }
                let len = there.map_or(0, |there| there.jobs);
                let bytes = if len > 0 { self.bytes(chunk, len)? } else { Vec::new() };
                let open: Mask =
                    jobs.iter().filter(|at| *at < len && JobState::of(bytes[*at]) == JobState::Open).collect();
                let (front, back) = open.split(take);
                (chunk, first, front, (!back.is_empty()).then_some(Work::Masked { chunk, first, jobs: back }))
            }
        };
        let empties = rest.is_none();
        self.put_rest(wf, number, line.suspect, entry, rest)?;
        let last = empties && self.first_entry(wf, number, line.suspect)?.is_none();
        if last {
            self.leave_line(line.line, wf, number)?
        } else {
            self.go_behind(line.line, wf, number)?
        }
        if jobs.is_empty() {
            return Ok(None);
        }
        let lease = Lease {
            session: wishes.session,
            number: wishes.lease as i64,
            wf,
            step: number,
            chunk,
            first,
            jobs,
            stop: Mask::EMPTY,
            last_report: 0,
            outcome: None,
            record: 0,
            recoveries: entry.recoveries,
            alone: entry.alone,
            suspect: line.suspect,
            published: if wishes.forwards { entry.published + 1 } else { 0 },
        };
        let sql = "INSERT INTO lease (session, number, wf, step, chunk, first, jobs, deadline, claimed_at, last_report, record, \
                   recoveries, alone, suspect, published) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?)";
        let now = self.now;
        self.run(
            sql,
            params![
                lease.session,
                lease.number,
                wf,
                number,
                chunk,
                first,
                jobs.to_bytes(),
                wishes.deadline(entry),
                now,
                lease.recoveries,
                lease.alone,
                lease.suspect,
                lease.published
            ],
        )?;
        self.note(What::Granted, &lease, jobs)?;
        self.note_start(step, chunk, jobs)?;
        let mut step = self.step(wf, number)?;
        step.leased += jobs.len() as i64;
        step.started_at.get_or_insert(self.now);
        self.put_step(step);
        let mut workflow = self.workflow(wf)?;
        if workflow.state == WorkflowState::Pending {
            workflow.state = WorkflowState::Running;
        }
        if workflow.started_at.is_none() {
            workflow.started_at = Some(self.now);
        }
        self.put_workflow(workflow);
        Ok(Some(lease))
    }

    /// Takes a step that has no entries out of its line, and its workflow's place if that was its last step there.
    fn leave_line(&mut self, line: i64, wf: Wf, step: StepNumber) -> Result<()> {
        self.run("DELETE FROM ready WHERE line = ? AND wf = ? AND step = ?", (line, wf, step))?;
        let sql = "DELETE FROM place WHERE line = ?1 AND wf = ?2 AND NOT EXISTS (SELECT 1 FROM ready WHERE line = ?1 AND wf = ?2)";
        if self.run(sql, (line, wf))? == 0 { self.move_behind(line, wf) } else { Ok(()) }
    }

    /// Moves a step behind the others of its workflow, and the workflow behind the others of the line.
    fn go_behind(&mut self, line: i64, wf: Wf, step: StepNumber) -> Result<()> {
        let turn = "(SELECT next_turn FROM line WHERE line = ?1)";
        let sql = format!("UPDATE ready SET turn = {turn} WHERE line = ?1 AND wf = ?2 AND step = ?3");
        self.run(&sql, (line, wf, step))?;
        self.move_behind(line, wf)
    }

    fn move_behind(&mut self, line: i64, wf: Wf) -> Result<()> {
        if planted!("workflows do not take turns") {
            return Ok(());
        }
        let sql = "UPDATE place SET turn = (SELECT next_turn FROM line WHERE line = ?1) WHERE line = ?1 AND wf = ?2 AND turn IS NOT NULL";
        self.run(sql, (line, wf))?;
        self.run("UPDATE line SET next_turn = next_turn + 1 WHERE line = ?", [line])?;
        Ok(())
    }

    /// What a worker is told of a lease.
    pub fn slice_of(&mut self, lease: &Lease) -> Result<Slice> {
        let sql = "SELECT w.id, w.name, s.name, s.type, s.options, s.generation, s.feeds FROM step s JOIN workflow w ON w.wf = s.wf \
                   WHERE s.wf = ? AND s.step = ?";
        let about = self.one(sql, (lease.wf, lease.step), |row| {
            Ok((
                row.get::<_, Vec<u8>>(0)?,
                (row.get(1)?, row.get(2)?, row.get(3)?),
                row.get::<_, String>(4)?,
                row.get(5)?,
                row.get(6)?,
            ))
        })?;
        let missing = || Error::corrupt(format!("step {} of workflow {} is missing", lease.step, lease.wf));
        let (id, (workflow_name, step_name, job_type), options, generation, feeds) = about.ok_or_else(missing)?;
        let tried = lease.recoveries > 0 || self.has_bytes(lease.chunk)?;
        let attempts_used = if tried {
            let len = self.chunk_jobs(lease)?;
            let bytes = self.bytes(lease.chunk, len)?;
            lease.jobs.iter().map(|at| attempts(bytes[at])).collect()
        } else {
            Vec::new()
        };
        let parameters = self.few_parameters(lease)?;
        let step = self.step(lease.wf, lease.step)?;
        Ok(Slice {
            lease: lease.number as u64,
            workflow: WorkflowId::from_slice(&id)?,
            workflow_name,
            step: lease.step,
            step_name,
            job_type,
            queue: None,
            options: parse_options(&options)?,
            generation,
            feeds,
            chunk: chunk_ref(lease.chunk),
            first: lease.first as u64,
            jobs: lease.jobs,
            attempts: attempts_used,
            suspect: lease.suspect,
            limited: step.is_limited(),
            priority: if lease.published > 0 { self.priority(step.line)? } else { 0 },
            parameters,
        })
    }

    /// The parameters of a few small jobs, which spare the worker a call before it starts them; `None` if they are too large, or mended.
    fn few_parameters(&mut self, lease: &Lease) -> Result<Option<Parameters>> {
        if lease.jobs.len() > FEW_JOBS {
            return Ok(None);
        }
        let sql = "SELECT body FROM params WHERE chunk = ?1 AND length(body) <= ?2 \
                   AND NOT EXISTS (SELECT 1 FROM mended WHERE chunk = ?1 AND segment IS NULL)";
        let body = self.one(sql, (lease.chunk, FEW_BYTES as i64), |row| row.get::<_, Vec<u8>>(0))?;
        self.count_bytes(body.as_ref().map_or(0, Vec::len));
        Ok(body.map(|body| Parameters { body, mended: Vec::new() }))
    }

    fn has_bytes(&mut self, chunk: i64) -> Result<bool> {
        Ok(self.one("SELECT 1 FROM bytes WHERE chunk = ?", [chunk], |_| Ok(()))?.is_some())
    }
}

impl Wishes<'_> {
    /// How many more jobs of a line's type this claim wants.
    fn budget(&self, line: &Line) -> u32 {
        self.budgets.get(line.job_type.as_str()).map_or(0, |(_, budget)| *budget)
    }

    /// When a lease on an entry ends.
    fn deadline(&self, entry: &Entry) -> Millis {
        let published = if self.forwards { u32::try_from(entry.published).unwrap_or(0) } else { 0 };
        self.lease_time + forwarded_for(self.lease_length, published)
    }

    /// How many jobs the next slice of a step may have; `None` if this claim wants no more of it.
    fn take(&self, line: &Line, step: &Step, ready: u64) -> Option<usize> {
        let (jobs, budget) = *self.budgets.get(line.job_type.as_str())?;
        // A suspect slice goes whole: it is halved when it kills its worker, not before.
        let mut take = if line.suspect { u32::MAX } else { jobs.min(budget) };
        // It runs alone, but no more of it than its limits let run.
        take = take.min(self.permitted(line).unwrap_or(u32::MAX));
        if let Some(limit) = step.max_in_flight
            && !planted!("a limit is looked at before a slice, not in it")
        {
            let room = u32::try_from(limit - step.leased).unwrap_or(0);
            take = take.min(room).min(self.max_limited);
        }
        if let Some(most) = step.keyed.slice() {
            take = take.min(most).min(self.max_limited);
        }
        let fair = if line.suspect { usize::MAX } else { fair_share(ready, self.workers) };
        (take > 0).then(|| (take as usize).min(fair))
    }

    fn granted(&mut self, line: &Line, step: &Step, jobs: u32) {
        self.lease += 1;
        if let Some((_, budget)) = self.budgets.get_mut(line.job_type.as_str()) {
            *budget = budget.saturating_sub(jobs);
        }
        if self.use_permits(line, jobs) || step.is_limited() {
            self.max_limited = self.max_limited.saturating_sub(jobs);
        }
    }
}

fn parse_options(json: &str) -> Result<StepOptions> {
    serde_json::from_str(json).map_err(|e| Error::corrupt("a step's options do not decode").because(e))
}

/// A stored workflow state.
pub fn workflow_state(number: u8) -> Result<WorkflowState> {
    known(WorkflowState::from_u8(number), "workflow state", number)
}
