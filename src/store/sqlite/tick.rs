//! What is due: leases, permits and drafts whose time is over, dead sessions, timers, deadlines and keys of lone jobs, chores, workflows
//! that are kept no longer. Any process may tick at any time; nobody leads.

use rusqlite::Connection;

use super::lease::{Taken, half_lease};
use super::line::{End, Work};
use super::tx::{Tx, Wf, mask};
use crate::clock::Millis;
use crate::error::Result;
use crate::graph::StepNumber;
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::{JobState, StepState, job_byte};
use crate::store::{Tick, Ticked, Woken};

/// How many leases one tick takes back, and how many timers it makes due, if its bound allows.
const LEASES: usize = 12;
const TIMERS: usize = 20;
/// From this many statements on a tick begins nothing further.
const SOFT_CALLS: u64 = 380;
/// From this many bytes on it makes nothing further due.
const SOFT_BYTES: u64 = 192 * 1024;
/// How long what cannot be done, since its rows are damaged, is left alone before it is tried again.
const SET_ASIDE: Millis = 3_600_000;
/// How many drafts and sessions one tick ends.
const ENDED: usize = 10;
/// How long the record of a dead session is kept.
const SESSION_KEPT: Millis = 10 * 60 * 1000;

impl Tx<'_> {
    /// Does one bite of what is due.
    pub fn tick(&mut self, tick: Tick) -> Result<Ticked> {
        let lease_time = self.advance_lease_time(tick.lease)?;
        // First, for no backlog of others may keep the permits of the dead.
        let (mut more, mut woken) = self.end_permits(lease_time)?;
        more |= self.take_back_expired(lease_time)?;
        more |= self.make_due()?;
        let mut told = Woken::default();
        more |= self.keep_deadlines(&mut told)?;
        more |= if self.cost().calls < SOFT_CALLS { self.look_at_keys()? } else { true };
        more |= if self.cost().calls < SOFT_CALLS { self.end_drafts(lease_time)? } else { true };
        more |= if self.cost().calls < SOFT_CALLS { self.end_sessions(lease_time)? } else { true };
        self.cascade()?;
        // A chore takes what the operation's bound has left; with much done before, it waits for the next bite.
        if !more && self.cost().calls < 80 {
            more |= self.work_on_chore()?;
        }
        self.admit()?;
        more |= self.has_chores()?;
        let next_in = if !more && self.cost().calls < 80 { self.prune()? } else { None };
        let ready = self.one("SELECT 1 FROM place WHERE turn IS NOT NULL LIMIT 1", (), |_| Ok(()))?.is_some();
        let (schedules, scheduled) = self.due_schedules()?;
        let next_in = [next_in, scheduled].into_iter().flatten().min();
        woken.0.extend(self.wake()?.0);
        Ok(Ticked { more, ready, next_in, schedules, woken, told })
    }

    pub fn take_back_expired(&mut self, lease_time: Millis) -> Result<bool> {
        let expired = self.leases_where("deadline <= ?1 ORDER BY deadline LIMIT ?2", (lease_time, LEASES as i64))?;
        for lease in &expired {
            if self.cost().calls > SOFT_CALLS {
                return Ok(true);
            }
            if let Err(error) = self.guarded(|tx| tx.take_back(lease, Taken::Expired))? {
                tracing::error!(%error, step = lease.step, "a lease cannot be taken back; it is set aside");
                let sql = "UPDATE lease SET deadline = deadline + ?3 WHERE session = ?1 AND number = ?2";
                self.run(sql, (lease.session, lease.number, SET_ASIDE))?;
            }
        }
        Ok(expired.len() == LEASES)
    }

    /// Puts the jobs whose time has come back into their lines.
    fn make_due(&mut self) -> Result<bool> {
        let sql = "SELECT wf, step, due, chunk, first, jobs FROM timer WHERE due <= ?1 ORDER BY due LIMIT ?2";
        let due = self.all(sql, (self.now, TIMERS as i64), |row| {
            let name =
                (row.get::<_, Wf>(0)?, row.get::<_, StepNumber>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?);
            Ok((name, row.get::<_, i64>(4)?, row.get::<_, Vec<u8>>(5)?))
        })?;
        for (name, first, jobs) in &due {
            // The end of a wait may bring as many bytes as one job's output has.
            if self.cost().calls > SOFT_CALLS || self.cost().bytes > SOFT_BYTES {
                return Ok(true);
            }
            let (wf, step, _, chunk) = *name;
            let made = self.guarded(|tx| {
                tx.run("DELETE FROM timer WHERE wf = ? AND step = ? AND due = ? AND chunk = ?", *name)?;
                tx.make_jobs_due(wf, step, chunk, *first, jobs)
            })?;
            if let Err(error) = made {
                tracing::error!(%error, step, "a timer cannot be made due; it is set aside");
                let sql = "UPDATE timer SET due = due + ?5 WHERE wf = ?1 AND step = ?2 AND due = ?3 AND chunk = ?4";
                self.run(sql, (name.0, name.1, name.2, name.3, SET_ASIDE))?;
            }
        }
        Ok(due.len() == TIMERS)
    }

    /// Puts jobs of a chunk that were retrying or deferred, or a whole step that was delayed (chunk 0), into its line; settles the job of a
    /// step that waits. Without jobs: the time is over for which the chunk was to be kept.
    fn make_jobs_due(&mut self, wf: Wf, number: StepNumber, chunk: i64, first: i64, jobs: &[u8]) -> Result<()> {
        let step = self.step(wf, number)?;
        if step.state != StepState::Running {
            return Ok(());
        }
        if step.awaits {
            return self.end_wait(&step, first);
        }
        if chunk == 0 && step.is_chained() {
            return self.line_up(step.line, &step);
        }
        if chunk == 0 {
            return self.enqueue_all(&step, 0);
        }
        if jobs.is_empty() {
            return self.stop_keeping(&step, chunk, first);
        }
        let len = self.chunk_at(wf, number, first)?.jobs;
        let before = self.bytes(chunk, len)?;
        let mut bytes = before.clone();
        let in_chunk = mask(jobs)?.and(Mask::range(0..len));
        // What is tried again comes first; what was put off comes behind what has been waiting.
        for (state, end) in [(JobState::Retrying, End::Front), (JobState::Deferred, End::Back)] {
            let due: Mask = in_chunk.iter().filter(|at| JobState::of(before[*at]) == state).collect();
            if due.is_empty() {
                continue;
            }
            let waits = self.wait_for_their_turn(&step, chunk, due)?;
            let ready = due.minus(waits);
            for (jobs, to) in [(ready, JobState::Open), (waits, JobState::Deferred)] {
                jobs.iter().for_each(|at| bytes[at] = job_byte(to, crate::state::attempts(bytes[at])));
                self.shift(wf, number, state, to, jobs.len() as u64)?;
            }
            if !ready.is_empty() {
                self.enqueue(&step, &Work::Masked { chunk, first, jobs: ready }, end, false, 0, 0)?;
            }
        }
        if bytes != before {
            self.put_bytes(chunk, &bytes)?;
        }
        Ok(())
    }

    fn end_drafts(&mut self, lease_time: Millis) -> Result<bool> {
        let sql = "SELECT draft, wf, segment, of_wf FROM draft WHERE deadline <= ?1 LIMIT ?2";
        let dead = self.all(sql, (lease_time, ENDED as i64), |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<Wf>>(3)?))
        })?;
        for (draft, wf, segment, of_wf) in &dead {
            if self.cost().calls > SOFT_CALLS {
                return Ok(true);
            }
            if let (None, None, Some(batch)) = (wf, segment, of_wf) {
                self.abandon_batch(*draft, *batch)?;
                continue;
            }
            if planted!("dead drafts leave their chunks") {
                self.run("DELETE FROM draft WHERE draft = ?", [draft])?;
                continue;
            }
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
                   AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.session = session.session) \
                   AND NOT EXISTS (SELECT 1 FROM permit p WHERE p.session = session.session AND p.deadline IS NOT NULL) LIMIT ?2) \
                   RETURNING session";
        let kept = if planted!("sessions are kept for ever") { Millis::MAX } else { SESSION_KEPT };
        for session in self.all(sql, (self.now.saturating_sub(kept), ENDED as i64), |row| row.get::<_, i64>(0))? {
            self.run("DELETE FROM permit WHERE session = ?", [session])?;
        }
        Ok(died == ENDED)
    }
}

/// What a tick would find, seen without a lock: whether it is worth a transaction now, and if not, when.
pub fn look_ahead(conn: &Connection, now: Millis, lease: Millis) -> rusqlite::Result<Ticked> {
    let sql = "SELECT EXISTS (SELECT 1 FROM chore WHERE error IS NULL), (SELECT min(due) FROM (SELECT min(due) AS due FROM timer UNION ALL SELECT min(due) FROM deadline)), (SELECT min(deadline) FROM lease), \
               (SELECT min(deadline) FROM draft WHERE deadline < 9000000000000000), (SELECT min(deadline) FROM session WHERE dead_at IS NULL), \
               (SELECT min(dead_at) FROM session WHERE dead_at IS NOT NULL), lease_time, lease_time_at, shortest, \
               EXISTS (SELECT 1 FROM place WHERE turn IS NOT NULL), (SELECT min(deadline) FROM permit WHERE deadline IS NOT NULL) FROM shard";
    let pruned = super::retention::next_prune(conn, now)?;
    let keys = Tx::sole_or_limited_due(conn, now)?;
    let schedules = super::schedule::due_schedules(conn, now)?;
    let scheduled = super::schedule::next_schedule(conn, now)?;
    conn.prepare_cached(sql)?.query_row([], |row| {
        let chores: bool = row.get(0)?;
        let timer: Option<Millis> = row.get(1)?;
        let forgotten: Option<Millis> = row.get::<_, Option<Millis>>(5)?.map(|dead_at| dead_at + SESSION_KEPT);
        let (time, at): (Millis, Millis) = (row.get(6)?, row.get(7)?);
        let half = half_lease(lease, row.get(8)?);
        let lease_time = time + (now - at).clamp(0, half);
        let mut next: Option<Millis> = None;
        let mut due = chores;
        let mut consider = |left: Millis| {
            due |= left <= 0;
            next = Some(next.map_or(left, |next| next.min(left)));
        };
        for wall in [timer, forgotten].into_iter().flatten() {
            consider(wall - now);
        }
        if let Some(left) = keys {
            consider(left);
        }
        for column in [2, 3, 4, 10] {
            if let Some(deadline) = row.get::<_, Option<Millis>>(column)? {
                consider(deadline - lease_time);
            }
        }
        // Lease time moves only while somebody moves it: without a claim or a renewal for half a lease, a tick must. And once the
        // clock has jumped back it would stand still until the old time comes again.
        if next.is_some() && (now - at >= half || now < at) {
            due = true;
        }
        if let Some(left) = pruned {
            due |= left <= 0;
        }
        let next_in = [next, pruned, scheduled].into_iter().flatten().min().map(|left| left.max(0));
        Ok(Ticked { more: due, ready: row.get(9)?, next_in, schedules, ..Ticked::default() })
    })
}
