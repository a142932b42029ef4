//! Permits: units of a limit, held by sessions. A session says in absolute numbers what it has and wants; those that are refused wait in the
//! order in which they asked, and are woken when something is given back.

use rusqlite::params;

use super::create::to_json;
use super::lease::unknown_session;
use super::tx::Tx;
use crate::clock::Millis;
use crate::error::Result;
use crate::limit::{Limit, Starts};
use crate::planted::planted;
use crate::store::{
    Granted, LimitRow, Limited, MAX_PERMITS, Permit, Permitted, WAITING_LOOKED_AT, WAITS_FOR, Wanted, Woken,
};

/// How many rows of one session are ended by one operation.
const ENDED: usize = 40;
/// How many of those that wait for one limit are woken at once.
const WOKEN: usize = 4;
/// When to ask again, if something is free for who was there first.
const AGAIN: Millis = 250;

/// A limit, and what is taken of it.
#[derive(Clone, Debug, Default)]
struct Row {
    limit: Limit,
    /// When the session began that told it.
    since: Millis,
    taken: i64,
    reserved: i64,
    /// The last turn that was given to one that waits.
    turn: i64,
    starts: Starts,
}

/// What a session has of a limit.
#[derive(Clone, Copy, Debug, Default)]
struct Mine {
    hold: i64,
    reserved: i64,
    used: i64,
    /// Its turn, if it waits.
    waiting: Option<i64>,
}

impl Row {
    /// How many more jobs may start now.
    fn free(&mut self, now: Millis) -> u32 {
        let jobs = self.limit.jobs().map_or(u32::MAX, |jobs| unsigned(i64::from(jobs) - self.taken.max(0)));
        match self.limit.starts() {
            None => jobs,
            Some(rate) => jobs.min(self.starts.free(rate, unsigned(self.reserved), now)),
        }
    }

    /// How long until one more may start, if it is time that decides, or the turn of others.
    fn free_in(&mut self, now: Millis) -> Option<Millis> {
        if self.limit.jobs().is_some_and(|jobs| self.taken >= i64::from(jobs)) {
            return None;
        }
        let Some(rate) = self.limit.starts() else { return Some(AGAIN) };
        let at = self.starts.room_at(rate, unsigned(self.reserved), now)?;
        Some(if at > now { at - now } else { AGAIN })
    }

    /// Counts starts.
    fn note(&mut self, now: Millis, starts: i64) {
        if let Some(rate) = self.limit.starts().filter(|_| starts > 0) {
            self.starts.note(rate, now, unsigned(starts));
        }
    }
}

fn unsigned(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

/// A permit outlives the leases under it by one lease time.
pub fn permits_end(lease_time: Millis, lease: Millis) -> Millis {
    if planted!("a dead session's permits end with its leases") {
        return lease_time + lease;
    }
    lease_time + 2 * lease
}

impl Tx<'_> {
    /// Sets what a session has of limits, and grants what is free of what more it wants.
    pub fn permit(&mut self, permit: &Permit) -> Result<Permitted> {
        permit.check()?;
        debug_assert!(permit.limits.len() <= MAX_PERMITS);
        let ends = permits_end(self.advance_lease_time(permit.lease)?, permit.lease);
        let sql = "SELECT session, since FROM session WHERE id = ?";
        let session = self.one(sql, [permit.session.as_bytes().as_slice()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Millis>(1)?))
        })?;
        let (session, since) = session.ok_or_else(|| unknown_session(permit.session))?;
        let mut permitted = Permitted::default();
        for wanted in &permit.limits {
            let granted = self.permit_one(session, since, ends, wanted, &mut permitted.woken)?;
            permitted.granted.push(granted);
        }
        Ok(permitted)
    }

    fn permit_one(
        &mut self,
        session: i64,
        since: Millis,
        ends: Millis,
        wanted: &Wanted,
        woken: &mut Woken,
    ) -> Result<Granted> {
        let (of, now) = (&wanted.of, self.now);
        let mut row = self.limit_row(of)?.unwrap_or_default();
        // Old and new programs run side by side for a while: what the newest says counts.
        if since >= row.since {
            (row.limit, row.since) = (wanted.limit, since);
        }
        let mine = self.permits_of(session, of)?;
        let used = i64::try_from(wanted.used).unwrap_or(i64::MAX);
        // Of a session that had been forgotten nobody knows when it used them.
        row.note(now, mine.as_ref().map_or(0, |mine| used - mine.used));
        let mine = mine.unwrap_or_default();
        let (held, unstarted) = (i64::from(wanted.held), i64::from(wanted.unstarted));
        let held = if row.limit.jobs().is_some() { held } else { 0 };
        let unstarted = if row.limit.starts().is_some() { unstarted } else { 0 };
        row.taken += held - mine.hold;
        row.reserved += unstarted - mine.reserved;
        let mut granted = Granted::default();
        if wanted.more > 0 {
            let free = row.free(now);
            let ahead = if free > 0 { self.waits_ahead(of, session, mine.waiting)? } else { 0 };
            granted.more = wanted.more.min(free.saturating_sub(ahead));
        }
        let more = i64::from(granted.more);
        let hold = held + if row.limit.jobs().is_some() { more } else { 0 };
        let reserved = unstarted + if row.limit.starts().is_some() { more } else { 0 };
        row.taken += hold - held;
        row.reserved += reserved - unstarted;
        let refused = granted.more < wanted.more;
        if refused {
            granted.free_in = row.free_in(now);
        }
        // Who got something goes behind the others.
        let waiting = match mine.waiting.filter(|_| granted.more == 0) {
            _ if !refused => None,
            Some(turn) => Some(turn),
            None => {
                row.turn += 1;
                Some(row.turn)
            }
        };
        let sql = "INSERT INTO permit (session, is_type, name, hold, reserved, used, waiting, asked_at, deadline) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET hold = ?4, reserved = ?5, \
                   used = ?6, waiting = ?7, asked_at = ?8, deadline = ?9";
        let deadline = (hold > 0 || reserved > 0 || waiting.is_some()).then_some(ends);
        let used = used.max(mine.used);
        self.run(sql, params![session, of.is_type(), of.name(), hold, reserved, used, waiting, now, deadline])?;
        self.put_limit(of, &row)?;
        // One that does not wait any more may have been the one that was woken for what is free.
        let withdraws = mine.waiting.is_some() && waiting.is_none() && more == 0;
        if hold < mine.hold || reserved < mine.reserved || withdraws {
            self.wake_waiting(of, session, &mut row, reserved < mine.reserved, woken)?;
        }
        Ok(granted)
    }

    fn limit_row(&mut self, of: &Limited) -> Result<Option<Row>> {
        let sql = "SELECT said, since, taken, reserved, turn, starts FROM limited WHERE is_type = ? AND name = ?";
        let found = self.one(sql, (of.is_type(), of.name()), |row| {
            let told = (row.get::<_, String>(0)?, row.get::<_, String>(5)?);
            Ok((told, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        let Some(((said, starts), since, taken, reserved, turn)) = found else { return Ok(None) };
        self.count_bytes(said.len() + starts.len());
        match (serde_json::from_str(&said), serde_json::from_str(&starts)) {
            (Ok(limit), Ok(starts)) => Ok(Some(Row { limit, since, taken, reserved, turn, starts })),
            // The next one that asks says what the limit is. What sessions hold stays counted, for they will give it back.
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, limit = %of, "a limit does not decode; it begins anew");
                Ok(Some(Row { taken, reserved, turn, ..Row::default() }))
            }
        }
    }

    fn put_limit(&mut self, of: &Limited, row: &Row) -> Result<()> {
        let sql = "INSERT INTO limited (is_type, name, said, since, taken, reserved, turn, starts) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET said = ?3, since = ?4, taken = ?5, \
                   reserved = ?6, turn = ?7, starts = ?8";
        let (said, starts) = (to_json(&row.limit)?, to_json(&row.starts)?);
        self.count_bytes(said.len() + starts.len());
        self.run(sql, params![of.is_type(), of.name(), said, row.since, row.taken, row.reserved, row.turn, starts])?;
        Ok(())
    }

    fn permits_of(&mut self, session: i64, of: &Limited) -> Result<Option<Mine>> {
        let sql = "SELECT hold, reserved, used, waiting FROM permit WHERE session = ? AND is_type = ? AND name = ?";
        self.one(sql, (session, of.is_type(), of.name()), |row| {
            Ok(Mine { hold: row.get(0)?, reserved: row.get(1)?, used: row.get(2)?, waiting: row.get(3)? })
        })
    }

    /// How many others asked before, and ask again and again since.
    fn waits_ahead(&mut self, of: &Limited, session: i64, turn: Option<i64>) -> Result<u32> {
        let sql = "SELECT asked_at FROM permit WHERE is_type = ?1 AND name = ?2 AND waiting IS NOT NULL AND waiting < ?3 \
                   AND session <> ?4 ORDER BY waiting LIMIT ?5";
        let before = turn.unwrap_or(i64::MAX);
        let asked = self.all(sql, (of.is_type(), of.name(), before, session, WAITING_LOOKED_AT as i64), |row| {
            row.get::<_, Millis>(0)
        })?;
        Ok(asked.into_iter().filter(|at| self.waits_still(*at)).count() as u32)
    }

    fn waits_still(&self, asked_at: Millis) -> bool {
        (self.now - asked_at).abs() <= WAITS_FOR
    }

    /// Wakes those who have waited longest for what has become free. If it is not, the first one is to know from when on it will be.
    fn wake_waiting(
        &mut self,
        of: &Limited,
        but: i64,
        row: &mut Row,
        is_time_known: bool,
        woken: &mut Woken,
    ) -> Result<()> {
        let free = row.free(self.now) as usize;
        let mut left = free.max(usize::from(is_time_known)).min(WOKEN);
        if left == 0 {
            return Ok(());
        }
        let sql = "SELECT s.wake_port, p.asked_at FROM permit p JOIN session s USING (session) WHERE p.is_type = ?1 AND p.name = ?2 \
                   AND p.waiting IS NOT NULL AND p.session <> ?3 ORDER BY p.waiting LIMIT ?4";
        let waiting = self.all(sql, (of.is_type(), of.name(), but, WAITING_LOOKED_AT as i64), |row| {
            Ok((row.get::<_, Option<u16>>(0)?, row.get::<_, Millis>(1)?))
        })?;
        for (port, asked_at) in waiting {
            if left == 0 {
                break;
            }
            // One that has not asked for long may be dead: it is woken, but it is not counted on.
            left -= usize::from(self.waits_still(asked_at));
            woken.0.extend(port.filter(|port| !woken.0.contains(port)));
        }
        Ok(())
    }

    /// Takes back what a session has of limits: starts that were reserved for it count, since it may have used them. Returns whether there
    /// is more. What it has used stays known as long as its session, unless that `is_gone`.
    pub fn end_permits_of(&mut self, session: i64, is_gone: bool, woken: &mut Woken) -> Result<bool> {
        let sql = "SELECT is_type, name FROM permit WHERE session = ? AND (?2 OR deadline IS NOT NULL) LIMIT ?3";
        let rows = self.all(sql, (session, is_gone, ENDED as i64), |row| {
            let name: String = row.get(1)?;
            Ok(if row.get(0)? { Limited::Type(name) } else { Limited::Queue(name) })
        })?;
        for of in &rows {
            self.end_permit(session, of, woken)?;
        }
        if is_gone {
            self.run("DELETE FROM permit WHERE session = ? AND deadline IS NULL", [session])?;
        }
        Ok(rows.len() == ENDED)
    }

    fn end_permit(&mut self, session: i64, of: &Limited, woken: &mut Woken) -> Result<()> {
        let mine = self.permits_of(session, of)?.unwrap_or_default();
        let sql = "UPDATE permit SET hold = 0, reserved = 0, waiting = NULL, deadline = NULL \
                   WHERE session = ? AND is_type = ? AND name = ?";
        self.run(sql, (session, of.is_type(), of.name()))?;
        if mine.hold == 0 && mine.reserved == 0 {
            return Ok(());
        }
        let Some(mut row) = self.limit_row(of)? else { return Ok(()) };
        row.note(self.now, mine.reserved);
        row.taken -= mine.hold;
        row.reserved -= mine.reserved;
        self.put_limit(of, &row)?;
        self.wake_waiting(of, session, &mut row, true, woken)
    }

    /// Ends the permits of sessions that nobody has heard of for so long that no lease under them is held any more.
    pub fn end_permits(&mut self, lease_time: Millis) -> Result<(bool, Woken)> {
        const SESSIONS: i64 = 2;
        let mut woken = Woken::default();
        let sql = "SELECT DISTINCT session FROM permit WHERE deadline IS NOT NULL AND deadline <= ?1 LIMIT ?2";
        let sessions = self.all(sql, (lease_time, SESSIONS), |row| row.get::<_, i64>(0))?;
        let mut more = sessions.len() as i64 == SESSIONS;
        for session in sessions {
            let sql = "SELECT is_type, name FROM permit WHERE session = ?1 AND deadline <= ?2 LIMIT ?3";
            let rows = self.all(sql, (session, lease_time, ENDED as i64 / 2), |row| {
                let name: String = row.get(1)?;
                Ok(if row.get(0)? { Limited::Type(name) } else { Limited::Queue(name) })
            })?;
            more |= rows.len() == ENDED / 2;
            for of in &rows {
                self.end_permit(session, of, &mut woken)?;
            }
        }
        Ok((more, woken))
    }

    /// How the limits of a queue and a type stand.
    pub fn read_limits(&mut self, queue: &str, job_type: &str) -> Result<Vec<LimitRow>> {
        let mut rows = Vec::new();
        for of in [Limited::Queue(queue.to_owned()), Limited::Type(job_type.to_owned())] {
            let Some(mut row) = self.limit_row(&of)? else { continue };
            let (taken, now) = (row.taken.max(0) as u64, self.now);
            let next_start =
                row.limit.starts().and_then(|rate| row.starts.room_at(rate, 0, now)).filter(|at| *at > now);
            rows.push(LimitRow { of, limit: row.limit, taken, next_start });
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_outlive_the_leases_under_them_by_a_lease() {
        // Those were renewed at the latest when the permits were.
        let leases_end = 5_000 + 1_000;
        assert_eq!(permits_end(5_000, 1_000), leases_end + 1_000);
    }
}
