//! Sessions, leases and lease time; what happens to the jobs of a lease that is taken back.

use rusqlite::params;

use super::line::{End, Work};
use super::tx::{Tx, Wf, mask};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::SessionId;
use crate::record::{KILLED, error_number};
use crate::slice::Mask;
use crate::state::{JobState, WorkflowState};
use crate::store::{Left, Renew, Renewed, Session, Woken};

/// How many idle workers are looked at to find one that knows the type of new work.
const IDLE_LOOKED_AT: usize = 32;
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
    pub last_report: i64,
    /// The row of the open outcome record, and that record's number in the lease.
    pub outcome: Option<i64>,
    pub record: i64,
    pub recoveries: i64,
    pub alone: i64,
    pub suspect: bool,
}

/// Why a lease is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its worker did not renew it: it may have died of these jobs.
    Expired,
    /// Its worker gave it back.
    GivenBack,
}

impl Tx<'_> {
    /// Moves lease time on by the time since it last moved: not back, and by at most half a lease, so that neither an outage of
    /// the store nor a jump of the clock costs anybody a lease. Returns the new lease time.
    pub fn advance_lease_time(&mut self, lease: Millis) -> Result<Millis> {
        let (time, at) = self.lease_time()?;
        let step = (self.now - at).clamp(0, lease.max(2) / 2);
        self.run("UPDATE shard SET lease_time = ?, lease_time_at = ?", (time + step, self.now))?;
        Ok(time + step)
    }

    /// Lease time, and the wall clock when it last moved.
    pub fn lease_time(&mut self) -> Result<(Millis, Millis)> {
        let found =
            self.one("SELECT lease_time, lease_time_at FROM shard", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.ok_or_else(|| Error::corrupt("the store has lost its head row"))
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
        const LEASES: usize = 30;
        let Some(session) = self.session(id)? else { return Ok(Left::default()) };
        let leases = self.leases_where("session = ?1 LIMIT ?2", (session, LEASES as i64))?;
        let more = leases.len() == LEASES;
        for lease in leases {
            self.take_back(&lease, Taken::GivenBack)?;
        }
        if !more {
            // Its leases are gone, so nothing needs its record; a command repeated after this is refused as unknown.
            self.run("DELETE FROM session WHERE session = ?", [session])?;
            self.run("UPDATE line SET asked = NULL WHERE asked = ?", [session])?;
            self.count_workers()?;
        }
        self.cascade()?;
        Ok(Left { more, woken: self.wake_one()? })
    }

    /// The row of a session.
    pub fn session(&mut self, id: SessionId) -> Result<Option<i64>> {
        self.one("SELECT session FROM session WHERE id = ?", [id.as_bytes().as_slice()], |row| row.get(0))
    }

    /// The row of a session that must be there.
    pub fn known_session(&mut self, id: SessionId) -> Result<i64> {
        self.session(id)?
            .ok_or_else(|| Error::not_found(format!("session {id} is not known to the store (any more); join again")))
    }

    /// Recounts the live workers, which claims divide the last jobs of a step by.
    pub fn count_workers(&mut self) -> Result<()> {
        self.run("UPDATE shard SET workers = (SELECT count(*) FROM session WHERE worker = 1 AND dead_at IS NULL)", [])?;
        Ok(())
    }

    /// Keeps leases, drafts and the session for another lease time.
    pub fn renew(&mut self, renew: &Renew) -> Result<Renewed> {
        let lease_time = self.advance_lease_time(renew.lease)?;
        let deadline = lease_time + renew.lease;
        let session = self.known_session(renew.session)?;
        let sql = "UPDATE shard SET workers = workers + (SELECT dead_at IS NOT NULL AND worker FROM session WHERE session = ?)";
        self.run(sql, [session])?;
        self.run("UPDATE session SET deadline = ?2, dead_at = NULL WHERE session = ?1", (session, deadline))?;
        let numbers = super::create::to_json(&renew.leases)?;
        // A lease of a cancelled workflow ends with the grace that its jobs were given.
        // One of an `always` step runs as if nothing had happened.
        let of = "workflow w JOIN step s ON s.wf = w.wf WHERE w.wf = lease.wf AND s.step = lease.step AND s.always = 0";
        let sql = &format!(
            "UPDATE lease SET deadline = min(?3, coalesce((SELECT w.grace_until FROM {of}), ?3)) \
             WHERE session = ?1 AND number IN (SELECT value FROM json_each(?2)) \
             RETURNING number, coalesce((SELECT w.state FROM {of}), 0)"
        );
        let held =
            self.all(sql, (session, &numbers, deadline), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u8>(1)?)))?;
        if !renew.drafts.is_empty() {
            let sql =
                "UPDATE draft SET deadline = ?3 WHERE session = ?1 AND number IN (SELECT value FROM json_each(?2))";
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
                .filter(|number| !held.iter().any(|(held, _)| *held == *number as i64))
                .collect(),
            cancelled: held.iter().filter(|(_, state)| cancelled(*state)).map(|(number, _)| *number as u64).collect(),
        })
    }

    /// Leases by a condition that ends in a limit.
    pub fn leases_where(&mut self, condition: &str, params: impl rusqlite::Params) -> Result<Vec<Lease>> {
        let sql = format!(
            "SELECT session, number, wf, step, chunk, first, jobs, last_report, outcome, record, recoveries, alone, suspect \
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
                last_report: row.get(7)?,
                outcome: row.get(8)?,
                record: row.get(9)?,
                recoveries: row.get(10)?,
                alone: row.get(11)?,
                suspect: row.get(12)?,
            };
            Ok((row.get::<_, Vec<u8>>(6)?, lease))
        })?;
        rows.into_iter().map(|(jobs, lease)| Ok(Lease { jobs: mask(&jobs)?, ..lease })).collect()
    }

    /// How many jobs the chunk of a lease has.
    pub fn chunk_jobs(&mut self, lease: &Lease) -> Result<usize> {
        Ok(self.chunk_at(lease.wf, lease.step, lease.first)?.jobs)
    }

    /// Ends a lease and puts what is open of it back into its line, as its end deserves.
    pub fn take_back(&mut self, lease: &Lease, why: Taken) -> Result<()> {
        self.run("DELETE FROM lease WHERE session = ? AND number = ?", (lease.session, lease.number))?;
        let jobs = self.chunk_jobs(lease)?;
        let bytes = self.bytes(lease.chunk, jobs)?;
        let open: Mask = lease.jobs.iter().filter(|at| JobState::of(bytes[*at]) == JobState::Open).collect();
        let mut step = self.step(lease.wf, lease.step)?;
        step.leased -= lease.jobs.len() as i64;
        self.put_step(step);
        self.unpark_step(&step)?;
        if self.workflow(lease.wf)?.state == WorkflowState::Cancelling && !step.always {
            self.settle_jobs(lease.wf, lease.step, lease.chunk, bytes, open, JobState::Cancelled)?;
            return self.check_settled(lease.wf, lease.step);
        }
        let back = |jobs: Mask| Work::Masked { chunk: lease.chunk, first: lease.first, jobs };
        if open.is_empty() {
            return Ok(());
        }
        if why == Taken::GivenBack {
            let end = if lease.suspect { End::Back } else { End::Front };
            return self.enqueue(&step, &back(open), end, lease.suspect, lease.recoveries, lease.alone);
        }
        self.count_recoveries(lease.chunk, jobs, open)?;
        let recoveries = lease.recoveries + 1;
        if recoveries == 1 {
            // Whatever killed the worker, most of what it held is innocent: the first time costs no delay.
            return self.enqueue(&step, &back(open), End::Front, false, recoveries, 0);
        }
        if open.len() == 1 {
            let alone = lease.alone + i64::from(lease.suspect);
            if alone >= step.max_recoveries {
                self.settle_jobs(lease.wf, lease.step, lease.chunk, bytes, open, JobState::Failed)?;
                self.note_errors(lease, &[(error_number(KILLED), KILLED.to_owned(), open)])?;
                return self.check_settled(lease.wf, lease.step);
            }
            return self.enqueue(&step, &back(open), End::Back, true, recoveries, alone);
        }
        let (one, other) = open.split(open.len().div_ceil(2));
        self.enqueue(&step, &back(one), End::Back, true, recoveries, 0)?;
        self.enqueue(&step, &back(other), End::Back, true, recoveries, 0)
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

    /// Picks one idle worker for the lines that got work in this operation, and takes it off the list of the idle.
    pub fn wake_one(&mut self) -> Result<Woken> {
        for line in std::mem::take(&mut self.lines_fed).into_iter().take(4) {
            let sql = "SELECT queue, type FROM line WHERE line = ?";
            let name = self.one(sql, [line], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            let Some((queue, job_type)) = name else { continue };
            let sql = "SELECT session, wake_port, about FROM session WHERE idle = 1 AND wake_port IS NOT NULL LIMIT ?";
            let idle = self.all(sql, [IDLE_LOOKED_AT as i64], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, u16>(1)?, row.get::<_, String>(2)?))
            })?;
            for (session, port, about) in idle {
                let able = serde_json::from_str::<Session>(&about)
                    .is_ok_and(|about| about.queues.contains(&queue) && about.types.contains(&job_type));
                if able {
                    self.run("UPDATE session SET idle = 0 WHERE session = ?", [session])?;
                    return Ok(Woken(vec![port]));
                }
            }
        }
        Ok(Woken::default())
    }
}
