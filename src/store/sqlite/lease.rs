//! Sessions, leases and lease time; what happens to the jobs of a lease that is taken back.

use rusqlite::params;

use super::line::{End, Work};
use super::tx::{Step, Tx, Wf, mask};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::SessionId;
use crate::ledger::What;
use crate::planted::planted;
use crate::record::{KILLED, KILLED_KEPT, error_number};
use crate::slice::Mask;
use crate::state::{FailurePolicy, JobState, WorkflowState, attempts, job_byte};
use crate::store::{Left, Renew, Renewed, Session, Woken};

/// How many idle workers are looked at to find one that knows the type of new work.
const IDLE_LOOKED_AT: usize = 32;
/// For how many lines that got work in one operation a worker is looked for.
const LINES_WOKEN: usize = 4;

/// The most that lease time moves at once: half of the shortest lease.
pub fn half_lease(lease: Millis, shortest: Option<Millis>) -> Millis {
    if planted!("an outage ends leases") {
        return Millis::MAX;
    }
    shortest.map_or(lease, |shortest| shortest.min(lease)).max(2) / 2
}

/// A lease as the store holds it.
#[derive(Clone, Debug)]
pub struct Lease {
    pub session: i64,
    pub number: i64,
    pub wf: Wf,
    pub step: StepNumber,
    pub chunk: i64,
    pub first: i64,
    /// The jobs that have not been reported.
    pub jobs: Mask,
    /// Those of them that are to be stopped: lone jobs that have been cancelled.
    pub stop: Mask,
    pub last_report: i64,
    /// The row of the open outcome record, and that record's number in the lease.
    pub outcome: Option<i64>,
    pub record: i64,
    pub recoveries: i64,
    pub alone: i64,
    pub suspect: bool,
    /// How often its slice has been forwarded, while a forwarder holds it; else 0.
    pub published: i64,
}

/// Why a lease is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its worker did not renew it: it may have died of these jobs.
    Expired,
    /// Its worker gave it back.
    GivenBack,
}

/// The error for a session that the store does not know.
pub fn unknown_session(id: SessionId) -> Error {
    Error::not_found(format!("session {id} is not known to the store (any more); join again"))
}

impl Tx<'_> {
    /// Moves lease time on by the time since it last moved: not back, and by at most half a lease, so that neither an outage of
    /// the store nor a jump of the clock costs anybody a lease. It is the shortest lease of all live sessions that counts, not the
    /// caller's own. Returns the new lease time.
    pub fn advance_lease_time(&mut self, lease: Millis) -> Result<Millis> {
        let sql = "SELECT lease_time, lease_time_at, shortest FROM shard";
        let found = self.one(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (time, at, shortest): (Millis, Millis, Option<Millis>) =
            found.ok_or_else(|| Error::corrupt("the store has lost its head row"))?;
        let step = (self.now - at).clamp(0, half_lease(lease, shortest));
        self.run("UPDATE shard SET lease_time = ?, lease_time_at = ?", (time + step, self.now))?;
        Ok(time + step)
    }

    /// A session starts, or comes back.
    pub fn join(&mut self, session: &Session) -> Result<()> {
        let lease_time = self.advance_lease_time(session.lease)?;
        let about = super::create::to_json(session)?;
        let now = self.now;
        let sql = "INSERT INTO session (id, about, worker, wake_port, deadline, lease, since, idle, last_lease, last_command) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0) \
                   ON CONFLICT (id) DO UPDATE SET deadline = excluded.deadline, dead_at = NULL";
        self.run(
            sql,
            params![
                session.id.as_bytes().as_slice(),
                about,
                session.is_worker(),
                session.wake_port,
                lease_time + session.lease,
                session.lease,
                now
            ],
        )?;
        self.count_workers()
    }

    /// A session ends: its leases go back as they are.
    pub fn leave(&mut self, id: SessionId) -> Result<Left> {
        const LEASES: usize = 15;
        let Some(session) = self.session(id)? else { return Ok(Left::default()) };
        let leases = self.leases_where("session = ?1 LIMIT ?2", (session, LEASES as i64))?;
        let more = leases.len() == LEASES;
        let why = if planted!("a graceful stop counts as a death") { Taken::Expired } else { Taken::GivenBack };
        for lease in leases {
            self.take_back(&lease, why)?;
        }
        let mut woken = Woken::default();
        let more = more || self.cost().calls > 250 || self.end_permits_of(session, true, &mut woken)?;
        if !more {
            // Its leases are gone, so nothing needs its record; a command repeated after this is refused as unknown.
            self.run("DELETE FROM session WHERE session = ?", [session])?;
            self.run("UPDATE line SET asked = NULL WHERE asked = ?", [session])?;
            self.count_workers()?;
        }
        self.cascade()?;
        self.admit()?;
        woken.0.extend(self.wake()?.0);
        Ok(Left { more, woken })
    }

    /// The row of a session.
    pub fn session(&mut self, id: SessionId) -> Result<Option<i64>> {
        self.one("SELECT session FROM session WHERE id = ?", [id.as_bytes().as_slice()], |row| row.get(0))
    }

    /// The row of a session that must be there.
    pub fn known_session(&mut self, id: SessionId) -> Result<i64> {
        self.session(id)?.ok_or_else(|| unknown_session(id))
    }

    /// Recounts the live workers, which claims divide the last jobs of a step by, and finds the shortest lease anew.
    pub fn count_workers(&mut self) -> Result<()> {
        let sql = "UPDATE shard SET (workers, shortest) = (SELECT coalesce(sum(worker), 0), min(lease) FROM session WHERE dead_at IS NULL)";
        self.run(sql, [])?;
        Ok(())
    }

    /// Keeps leases, drafts and the session for another lease time.
    pub fn renew(&mut self, renew: &Renew) -> Result<Renewed> {
        let lease_time = self.advance_lease_time(renew.lease)?;
        let deadline = lease_time + renew.lease;
        let session = self.known_session(renew.session)?;
        let sql = "UPDATE session SET deadline = ?2 WHERE session = ?1 RETURNING dead_at IS NOT NULL";
        if self.one(sql, (session, deadline), |row| row.get(0))?.unwrap_or(false) {
            self.run("UPDATE session SET dead_at = NULL WHERE session = ?", [session])?;
            self.count_workers()?;
        }
        let sql = "UPDATE permit SET deadline = ?2 WHERE session = ?1 AND deadline IS NOT NULL";
        self.run(sql, (session, super::permit::permits_end(lease_time, renew.lease)))?;
        let numbers = super::create::to_json(&renew.leases)?;
        // A lease of a cancelled workflow ends with the grace that its jobs were given.
        // One of an `always` step runs as if nothing had happened.
        let of = "workflow w JOIN step s ON s.wf = w.wf WHERE w.wf = lease.wf AND s.step = lease.step AND s.always = 0";
        // So does one of a step that failed fast.
        let (step, fail_fast) = ("step s WHERE s.wf = lease.wf AND s.step = lease.step", FailurePolicy::FailFast as u8);
        let sql = &format!(
            "UPDATE lease SET deadline = min(?3, coalesce((SELECT w.grace_until FROM {of}), ?3), coalesce((SELECT s.grace_until FROM {step}), ?3)) \
             WHERE session = ?1 AND number IN (SELECT value FROM json_each(?2)) \
             RETURNING number, coalesce((SELECT w.state FROM {of}), 0), stop, jobs, (SELECT s.exceeded AND s.policy = {fail_fast} FROM {step})"
        );
        let mut stops = Vec::new();
        let held = self.all(sql, (session, &numbers, deadline), |row| {
            let number = row.get::<_, i64>(0)?;
            if let Some(stop) = row.get::<_, Option<Vec<u8>>>(2)? {
                stops.push((number as u64, stop, row.get::<_, Vec<u8>>(3)?));
            }
            Ok((number, row.get::<_, u8>(1)?, row.get::<_, Option<bool>>(4)?.unwrap_or(false)))
        })?;
        let stops = stops.into_iter().map(|(number, stop, jobs)| Ok((number, mask(&stop)?.and(mask(&jobs)?))));
        let mut stopped = stops.collect::<Result<Vec<(u64, Mask)>>>()?;
        stopped.retain(|(_, jobs)| !jobs.is_empty());
        if !renew.drafts.is_empty() && !planted!("a renewal forgets drafts") {
            let sql = "UPDATE draft SET deadline = max(deadline, ?3) WHERE session = ?1 AND number IN (SELECT value FROM json_each(?2))";
            self.run(sql, (renew.session.as_bytes().as_slice(), super::create::to_json(&renew.drafts)?, deadline))?;
        }
        if !renew.progress.is_empty() {
            let sql = "UPDATE lease SET progress = told.text FROM \
                       (SELECT value ->> 0 AS number, value ->> 1 AS text FROM json_each(?2)) AS told \
                       WHERE lease.session = ?1 AND lease.number = told.number";
            self.run(sql, (session, super::create::to_json(&renew.progress)?))?;
        }
        let cancelled = |state: u8| WorkflowState::from_u8(state) == Some(WorkflowState::Cancelling);
        Ok(Renewed {
            lost: renew
                .leases
                .iter()
                .copied()
                .filter(|number| !held.iter().any(|(held, ..)| *held == *number as i64))
                .collect(),
            cancelled: held
                .iter()
                .filter(|(_, state, fails_fast)| cancelled(*state) || *fails_fast)
                .map(|(number, ..)| *number as u64)
                .collect(),
            stopped,
            ..Renewed::default()
        })
    }

    /// Leases by a condition that ends in a limit.
    pub fn leases_where(&mut self, condition: &str, params: impl rusqlite::Params) -> Result<Vec<Lease>> {
        let sql = format!(
            "SELECT session, number, wf, step, chunk, first, jobs, last_report, outcome, record, recoveries, alone, suspect, stop, published \
             FROM lease WHERE {condition}"
        );
        let rows = self.all(&sql, params, |row| {
            let lease = Lease {
                session: row.get(0)?,
                number: row.get(1)?,
                wf: row.get(2)?,
                step: row.get(3)?,
                chunk: row.get(4)?,
                first: row.get(5)?,
                jobs: Mask::EMPTY,
                stop: Mask::EMPTY,
                last_report: row.get(7)?,
                outcome: row.get(8)?,
                record: row.get(9)?,
                recoveries: row.get(10)?,
                alone: row.get(11)?,
                suspect: row.get(12)?,
                published: row.get(14)?,
            };
            Ok((row.get::<_, Vec<u8>>(6)?, row.get::<_, Option<Vec<u8>>>(13)?, lease))
        })?;
        let whole = |(jobs, stop, lease): (Vec<u8>, Option<Vec<u8>>, Lease)| {
            let stop = stop.map_or(Ok(Mask::EMPTY), |stop| mask(&stop))?;
            Ok(Lease { jobs: mask(&jobs)?, stop, ..lease })
        };
        rows.into_iter().map(whole).collect()
    }

    /// How many jobs the chunk of a lease has.
    pub fn chunk_jobs(&mut self, lease: &Lease) -> Result<usize> {
        Ok(self.chunk_at(lease.wf, lease.step, lease.first)?.jobs)
    }

    /// Ends a lease and puts what is open of it back into its line, as its end deserves.
    pub fn take_back(&mut self, lease: &Lease, why: Taken) -> Result<()> {
        // What a forwarder held has run nowhere; and what it gave back nobody failed to take over.
        let forwarded = lease.published > 0;
        let lease =
            &Lease { published: lease.published - i64::from(forwarded && why == Taken::GivenBack), ..lease.clone() };
        let why = if forwarded && !planted!("a lease that only travelled counts as a death") {
            Taken::GivenBack
        } else {
            why
        };
        if planted!("a lease outlives its being taken back") {
            let sql = "UPDATE lease SET deadline = deadline + 1000000000 WHERE session = ? AND number = ?";
            self.run(sql, (lease.session, lease.number))?;
        } else {
            self.run("DELETE FROM lease WHERE session = ? AND number = ?", (lease.session, lease.number))?;
        }
        let jobs = self.chunk_jobs(lease)?;
        let bytes = self.bytes(lease.chunk, jobs)?;
        let is_open = |at: &usize| {
            JobState::of(bytes[*at]) == JobState::Open || planted!("what is retrying goes back with a lease that ended")
        };
        // A mask that goes beyond its chunk is damage, but not a reason to keep the lease for ever.
        let open: Mask = lease.jobs.iter().filter(|at| *at < jobs).filter(is_open).collect();
        self.note(What::TakenBack { expired: why == Taken::Expired }, lease, open)?;
        let mut step = self.step(lease.wf, lease.step)?;
        step.leased -= lease.jobs.len() as i64;
        self.put_step(step);
        self.unpark_step(&step)?;
        if self.stops(&step)? {
            self.settle_jobs(lease.wf, lease.step, (lease.chunk, lease.first), bytes, open, JobState::Cancelled)?;
            return self.check_settled(lease.wf, lease.step);
        }
        let (open, bytes) = self.cancel_stopped(&step, lease, open, bytes)?;
        if open.is_empty() {
            return Ok(());
        }
        if why == Taken::GivenBack {
            return self.put_back(&step, lease, bytes, &[open]);
        }
        self.count_recoveries(lease.chunk, jobs, open)?;
        let recoveries = lease.recoveries + i64::from(!planted!("recoveries are not counted"));
        let as_now = |suspect, alone| Lease { recoveries, alone, suspect, ..lease.clone() };
        if recoveries == 1 {
            // Whatever killed the worker, most of what it held is innocent: the first time costs no delay.
            return self.put_back(&step, &as_now(planted!("the first death makes a slice suspect"), 0), bytes, &[open]);
        }
        if open.len() == 1 {
            let alone = lease.alone + i64::from(lease.suspect);
            if alone >= step.max_recoveries && !planted!("a job that kills its workers runs for ever") {
                self.settle_jobs(lease.wf, lease.step, (lease.chunk, lease.first), bytes, open, JobState::Failed)?;
                self.leave_turn(&step, lease.chunk, open, true)?;
                self.end_sole_of_settled(&step, lease.chunk, open)?;
                self.note_errors(
                    (lease.wf, lease.step, lease.chunk),
                    &[(error_number(KILLED), KILLED.to_owned(), open)],
                )?;
                if self.is_lane(lease.wf)? {
                    self.keep_chunk(&step, lease.chunk, lease.first, KILLED_KEPT)?;
                }
                return self.check_settled(lease.wf, lease.step);
            }
            return self.put_back(&step, &as_now(true, alone), bytes, &[open]);
        }
        let half = if planted!("suspects are not halved") { open.len() - 1 } else { open.len().div_ceil(2) };
        let (one, other) = open.split(half);
        self.put_back(&step, &as_now(true, 0), bytes, &[one, other])
    }

    /// Puts these parts of a lease that has ended back into their line, each as an entry of its own; a suspect one goes to the back. Jobs
    /// whose starts are limited wait for the turn of their key first.
    fn put_back(&mut self, step: &Step, lease: &Lease, mut bytes: Vec<u8>, parts: &[Mask]) -> Result<()> {
        let all = parts.iter().fold(Mask::EMPTY, |all, part| all.or(*part));
        let anew = self.start_anew(step, lease.chunk, all)?;
        if !anew.is_empty() {
            anew.iter().for_each(|at| bytes[at] = job_byte(JobState::Deferred, attempts(bytes[at])));
            self.put_bytes(lease.chunk, &bytes)?;
            self.shift(lease.wf, lease.step, JobState::Open, JobState::Deferred, anew.len() as u64)?;
        }
        let end = if lease.suspect { End::Back } else { End::Front };
        for part in parts {
            self.keep_recoveries(lease, part.and(anew))?;
            let jobs = part.minus(anew);
            if !jobs.is_empty() {
                let work = Work::Masked { chunk: lease.chunk, first: lease.first, jobs };
                self.enqueue(step, &work, end, lease.suspect, lease.recoveries, lease.alone)?;
                self.note_published(lease)?;
            }
        }
        Ok(())
    }

    fn count_recoveries(&mut self, chunk: i64, jobs: usize, open: Mask) -> Result<()> {
        let found = self.one("SELECT body FROM recovered WHERE chunk = ?", [chunk], |row| row.get::<_, Vec<u8>>(0))?;
        let mut body = found.unwrap_or_default();
        body.resize(jobs, 0);
        open.iter().for_each(|at| body[at] = body[at].saturating_add(1));
        self.count_bytes(body.len());
        self.run("INSERT INTO recovered VALUES (?1, ?2) ON CONFLICT (chunk) DO UPDATE SET body = ?2", (chunk, body))?;
        Ok(())
    }

    /// Picks an idle worker for each of the first lines that got work in this operation, one for all that it knows, and takes it off
    /// the list of the idle. Who finds more than it can take wakes the next.
    pub fn wake(&mut self) -> Result<Woken> {
        let lines: Vec<i64> = std::mem::take(&mut self.lines_fed).into_iter().take(LINES_WOKEN).collect();
        let mut woken = Woken::default();
        if lines.is_empty() {
            return Ok(woken);
        }
        let sql = "SELECT session, wake_port, about FROM session WHERE idle = 1 AND wake_port IS NOT NULL LIMIT ?";
        let idle = self.all(sql, [IDLE_LOOKED_AT as i64], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, u16>(1)?, row.get::<_, String>(2)?))
        })?;
        let mut idle: Vec<(i64, u16, Session)> = idle
            .into_iter()
            .filter_map(|(session, port, about)| Some((session, port, serde_json::from_str(&about).ok()?)))
            .collect();
        let mut chosen: Vec<Session> = Vec::new();
        for line in lines {
            if idle.is_empty() {
                break;
            }
            let sql = "SELECT queue, type FROM line WHERE line = ?";
            let name = self.one(sql, [line], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            let Some((queue, job_type)) = name else { continue };
            let able = |about: &Session| about.queues.contains(&queue) && about.types.contains(&job_type);
            if chosen.iter().any(able) {
                continue;
            }
            if let Some(at) = idle.iter().position(|(_, _, about)| able(about)) {
                let (session, port, about) = idle.swap_remove(at);
                self.run("UPDATE session SET idle = 0 WHERE session = ?", [session])?;
                woken.0.push(port);
                chosen.push(about);
            }
        }
        Ok(woken)
    }
}
