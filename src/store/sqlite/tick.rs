//! What is due: leases and drafts whose time is over, dead sessions, timers, chores. Any process may tick at any time; nobody leads.

use rusqlite::Connection;

use super::lease::Taken;
use super::line::{End, Work};
use super::tx::{Tx, Wf, mask};
use crate::clock::Millis;
use crate::error::Result;
use crate::graph::StepNumber;
use crate::slice::Mask;
use crate::state::{JobState, StepState, job_byte};
use crate::store::{Tick, Ticked};

/// How many leases one tick takes back.
const LEASES: usize = 12;
/// How many timers one tick makes due.
const TIMERS: usize = 30;
/// How many drafts and sessions one tick ends.
const ENDED: usize = 10;
/// How long the record of a dead session is kept.
const SESSION_KEPT: Millis = 10 * 60 * 1000;

impl Tx<'_> {
    /// Does one bite of what is due.
    pub fn tick(&mut self, tick: Tick) -> Result<Ticked> {
        let lease_time = self.advance_lease_time(tick.lease)?;
        let mut more = self.take_back_expired(lease_time)?;
        more |= self.make_due()?;
        more |= self.end_drafts(lease_time)?;
        more |= self.end_sessions(lease_time)?;
        self.cascade()?;
        // A chore takes what the operation's bound has left; with much done before, it waits for the next bite.
        if !more && self.cost().calls < 60 {
            more |= self.work_on_chore()?;
        }
        more |= self.has_chores()?;
        Ok(Ticked { more, next_in: None, woken: self.wake_one()? })
    }

    fn take_back_expired(&mut self, lease_time: Millis) -> Result<bool> {
        let expired = self.leases_where("deadline <= ?1 ORDER BY deadline LIMIT ?2", (lease_time, LEASES as i64))?;
        for lease in &expired {
            self.take_back(lease, Taken::Expired)?;
        }
        Ok(expired.len() == LEASES)
    }

    /// Puts the jobs whose time has come back into their lines.
    fn make_due(&mut self) -> Result<bool> {
        let sql = "DELETE FROM timer WHERE (wf, step, due, chunk) IN \
                   (SELECT wf, step, due, chunk FROM timer WHERE due <= ?1 ORDER BY due LIMIT ?2) RETURNING wf, step, chunk, first, jobs";
        let due = self.all(sql, (self.now, TIMERS as i64), |row| {
            let place =
                (row.get::<_, Wf>(0)?, row.get::<_, StepNumber>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?);
            Ok((place, row.get::<_, Vec<u8>>(4)?))
        })?;
        for ((wf, number, chunk, first), jobs) in &due {
            let step = self.step(*wf, *number)?;
            if step.state != StepState::Running {
                continue;
            }
            if *chunk == 0 {
                self.enqueue_all(&step, 0)?;
                continue;
            }
            let len = self.chunk_at(*wf, *number, *first)?.jobs;
            let mut bytes = self.bytes(*chunk, len)?;
            let retrying: Mask =
                mask(jobs)?.iter().filter(|at| JobState::of(bytes[*at]) == JobState::Retrying).collect();
            if retrying.is_empty() {
                continue;
            }
            retrying.iter().for_each(|at| bytes[at] = job_byte(JobState::Open, crate::state::attempts(bytes[at])));
            self.shift(*wf, *number, JobState::Retrying, JobState::Open, retrying.len() as u64)?;
            self.put_bytes(*chunk, &bytes)?;
            let work = Work::Masked { chunk: *chunk, first: *first, jobs: retrying };
            self.enqueue(&step, &work, End::Front, false, 0, 0)?;
        }
        Ok(due.len() == TIMERS)
    }

    fn end_drafts(&mut self, lease_time: Millis) -> Result<bool> {
        let sql = "SELECT draft, wf, segment FROM draft WHERE deadline <= ?1 LIMIT ?2";
        let dead =
            self.all(sql, (lease_time, ENDED as i64), |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))?;
        for (draft, wf, segment) in &dead {
            self.collect_draft(*draft, *wf, *segment)?;
        }
        Ok(dead.len() == ENDED)
    }

    /// Notes which sessions have died, and forgets those that died long ago and hold nothing.
    fn end_sessions(&mut self, lease_time: Millis) -> Result<bool> {
        let sql = "UPDATE session SET dead_at = ?1, idle = 0 WHERE session IN \
                   (SELECT session FROM session WHERE dead_at IS NULL AND deadline <= ?2 LIMIT ?3)";
        let died = self.run(sql, (self.now, lease_time, ENDED as i64))?;
        if died > 0 {
            self.count_workers()?;
        }
        let sql = "DELETE FROM session WHERE session IN (SELECT session FROM session WHERE dead_at IS NOT NULL AND dead_at <= ?1 \
                   AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.session = session.session) LIMIT ?2)";
        self.run(sql, (self.now - SESSION_KEPT, ENDED as i64))?;
        Ok(died == ENDED)
    }
}

/// What a tick would find, seen without a lock: whether it is worth a transaction now, and if not, when.
pub fn look_ahead(conn: &Connection, now: Millis, lease: Millis) -> rusqlite::Result<Ticked> {
    let sql = "SELECT EXISTS (SELECT 1 FROM chore), (SELECT min(due) FROM timer), (SELECT min(deadline) FROM lease), \
               (SELECT min(deadline) FROM draft), (SELECT min(deadline) FROM session WHERE dead_at IS NULL), \
               (SELECT min(dead_at) FROM session WHERE dead_at IS NOT NULL), lease_time, lease_time_at FROM shard";
    conn.prepare_cached(sql)?.query_row([], |row| {
        let chores: bool = row.get(0)?;
        let timer: Option<Millis> = row.get(1)?;
        let forgotten: Option<Millis> = row.get::<_, Option<Millis>>(5)?.map(|dead_at| dead_at + SESSION_KEPT);
        let (time, at): (Millis, Millis) = (row.get(6)?, row.get(7)?);
        let lease_time = time + (now - at).clamp(0, lease.max(2) / 2);
        let mut next: Option<Millis> = None;
        let mut due = chores;
        let mut consider = |left: Millis| {
            due |= left <= 0;
            next = Some(next.map_or(left, |next| next.min(left)));
        };
        for wall in [timer, forgotten].into_iter().flatten() {
            consider(wall - now);
        }
        for column in 2..5 {
            if let Some(deadline) = row.get::<_, Option<Millis>>(column)? {
                consider(deadline - lease_time);
            }
        }
        // Lease time moves only while somebody moves it: without a claim or a renewal for half a lease, a tick must.
        if next.is_some() && now - at >= lease.max(2) / 2 {
            due = true;
        }
        Ok(Ticked { more: due, next_in: next.map(|left| left.max(0)), woken: Default::default() })
    })
}
