//! Schedules, their occurrences, and the starts that wait until a key is free.

use rusqlite::{Connection, Row};

use super::tx::{Tx, Wf};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::id::WorkflowId;
use crate::planted::planted;
use crate::state::JobState;
use crate::store::{
    Begin, Begun, ChangeSchedule, Changed, DueSchedule, Fire, Fired, HISTORY, MAX_OCCURRENCES, NewWorkflow, Occurrence,
    OccurrenceRow, OccurrenceState, Overlap, PutSchedule, ScheduleRow, Waits,
};

/// How many schedules one tick names.
const DUE: u32 = 8;
/// How many occurrences one removal deletes.
const REMOVED: usize = 2_000;
/// How many occurrences whose start job is no more one firing looks for.
const LOOKED_AT: u32 = 8;

impl Tx<'_> {
    /// Keeps a schedule, or changes the one that is there.
    pub fn put_schedule(&mut self, put: &PutSchedule) -> Result<Option<ScheduleRow>> {
        let before = self.schedule(&put.name)?;
        let sql = "SELECT rule FROM schedule WHERE name = ?";
        let is_same = self.one(sql, [&put.name], |row| row.get::<_, String>(0))?.is_some_and(|rule| rule == put.rule);
        let kept = before.as_ref().filter(|_| is_same).and_then(|row| row.next);
        let next = kept.or(put.next);
        let paused = before.as_ref().is_some_and(|row| row.paused);
        let sql = "INSERT INTO schedule (name, rule, definition, next, paused) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT DO UPDATE SET rule = ?2, definition = ?3, next = ?4";
        self.count_bytes(put.definition.len());
        self.run(sql, (&put.name, &put.rule, &put.definition, next, paused))?;
        Ok(before)
    }

    fn schedule(&mut self, name: &str) -> Result<Option<ScheduleRow>> {
        self.one(&format!("{SCHEDULE} WHERE name = ?"), [name], schedule_row)
    }

    /// Pauses, resumes or removes a schedule.
    pub fn change_schedule(&mut self, name: &str, change: ChangeSchedule) -> Result<Changed> {
        let before = self.schedule(name)?;
        let mut more = false;
        match change {
            ChangeSchedule::Pause => {
                self.run("UPDATE schedule SET paused = 1 WHERE name = ?", [name])?;
            }
            ChangeSchedule::Resume(next) => {
                self.run("UPDATE schedule SET paused = 0, next = ?2 WHERE name = ?1 AND paused = 1", (name, next))?;
            }
            ChangeSchedule::Move => {
                self.run("DELETE FROM schedule WHERE name = ?", [name])?;
            }
            ChangeSchedule::Remove => {
                self.run("DELETE FROM schedule WHERE name = ?", [name])?;
                let sql = "DELETE FROM occurrence WHERE schedule = ?1 AND at IN \
                           (SELECT at FROM occurrence WHERE schedule = ?1 LIMIT ?2)";
                more = self.run(sql, (name, REMOVED as i64))? == REMOVED;
            }
        }
        Ok(Changed { before, more })
    }

    /// Records occurrences of a schedule and enqueues their jobs, unless somebody else has moved it on.
    pub fn fire(&mut self, fire: &Fire) -> Result<Fired> {
        fire.check()?;
        let name = &fire.schedule;
        let row = self.schedule(name)?;
        let known = match (row, fire.moves) {
            (None, _) => return Ok(Fired::default()),
            (Some(row), Some(moves)) => {
                let is_moved = row.paused || row.next != Some(moves.from);
                if is_moved && !planted!("a schedule fires for everyone who ticks") {
                    return Ok(Fired::default());
                }
                self.run("UPDATE schedule SET next = ?2 WHERE name = ?1", (name, moves.to))?;
                false
            }
            (Some(_), None) => {
                let sql = "SELECT 1 FROM occurrence WHERE schedule = ? AND at = ?";
                self.one(sql, (name, fire.instants.first()), |_| Ok(()))?.is_some()
            }
        };
        if known {
            return Ok(Fired { fired: true, ..Fired::default() });
        }
        const RECORD: &str = "INSERT INTO occurrence (schedule, at, upto, instants, state, fired_at, lane, job) \
                              VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
        let now = self.now;
        if let Some(missed) = fire.passed_over {
            let (state, nobody) = (OccurrenceState::Missed as u8, None::<i64>);
            let what = (name, missed.from, missed.to, missed.count as i64);
            self.run(RECORD, (what.0, what.1, what.2, what.3, state, now, nobody, nobody))?;
        }
        if let Some(jobs) = &fire.jobs {
            let state = if fire.starts { OccurrenceState::Due } else { OccurrenceState::Enqueued } as u8;
            let first = self.add_lone(jobs)?.0 as i64;
            for (at, job) in fire.instants.iter().zip(first..) {
                self.run(RECORD, (name, at, at, 1, state, now, jobs.lane.id.as_bytes().as_slice(), job))?;
            }
        }
        self.forget_occurrences(name)?;
        Ok(Fired { fired: true, woken: self.wake()? })
    }

    /// Of what has been decided only so much is kept.
    fn forget_occurrences(&mut self, schedule: &str) -> Result<()> {
        let sql = format!("SELECT at FROM occurrence WHERE schedule = ? AND state = 0 ORDER BY at LIMIT {LOOKED_AT}");
        for at in self.all(&sql, [schedule], |row| row.get::<_, Millis>(0))? {
            if self.has_start_ended(schedule, at)? {
                self.decide_occurrence(
                    &Occurrence { schedule: schedule.to_owned(), at },
                    OccurrenceState::Failed,
                    None,
                )?;
            }
        }
        let sql = "DELETE FROM occurrence WHERE schedule = ?1 AND state <> 0 AND at <= \
                   (SELECT at FROM occurrence WHERE schedule = ?1 AND state <> 0 ORDER BY at DESC LIMIT 1 OFFSET ?2)";
        self.run(sql, (schedule, HISTORY as i64)).map(|_| ())
    }

    fn has_start_ended(&mut self, schedule: &str, at: Millis) -> Result<bool> {
        let sql =
            "SELECT w.wf, o.job FROM occurrence o LEFT JOIN workflow w ON w.id = o.lane WHERE schedule = ? AND at = ?";
        let job = self.one(sql, (schedule, at), |row| Ok((row.get::<_, Option<Wf>>(0)?, row.get(1)?)))?;
        match job {
            Some((Some(lane), Some(job))) => self.has_lone_ended(lane, job),
            _ => Ok(true),
        }
    }

    /// Whether a lone job has settled, or is not there any more.
    fn has_lone_ended(&mut self, lane: Wf, index: i64) -> Result<bool> {
        let Some(chunk) = self.find_chunk(lane, 0, index)? else { return Ok(true) };
        let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
        Ok(bytes.get((index - chunk.first) as usize).is_none_or(|byte| JobState::of(*byte).is_settled()))
    }

    /// Whether what an occurrence comes to is known already. One whose start has failed may be tried again.
    pub fn is_decided(&mut self, occurrence: &Occurrence) -> Result<bool> {
        let sql = "SELECT state FROM occurrence WHERE schedule = ? AND at = ?";
        let state = self.one(sql, (&occurrence.schedule, occurrence.at), |row| row.get::<_, u8>(0))?;
        let state = state.and_then(OccurrenceState::from_u8);
        if planted!("what has been decided is decided anew") {
            return Ok(false);
        }
        // Without a row the schedule has been removed since.
        Ok(!matches!(state, Some(OccurrenceState::Due | OccurrenceState::Failed)))
    }

    /// Records what an occurrence has come to.
    pub fn decide_occurrence(
        &mut self,
        occurrence: &Occurrence,
        state: OccurrenceState,
        workflow: Option<WorkflowId>,
    ) -> Result<()> {
        let sql = "UPDATE occurrence SET state = ?3, workflow = ?4 WHERE schedule = ?1 AND at = ?2";
        let id = workflow.as_ref().map(|id| id.as_bytes().as_slice());
        self.run(sql, (&occurrence.schedule, occurrence.at, state as u8, id)).map(|_| ())
    }

    /// What keeps a workflow with a key from beginning to be built: `None` if nothing does.
    pub fn what_is_in_the_way(&mut self, begin: &Begin) -> Result<Option<Begun>> {
        let new = &begin.workflow;
        let Some(key) = &new.key else { return Ok(None) };
        if self.has_been_decided(new)? {
            self.stop_waiting(new.id)?;
            return Ok(Some(Begun { decided: true, ..Begun::default() }));
        }
        let held_by = self.holder(&new.name, &key.key)?.map(|(_, holder)| holder);
        let held_by = held_by.filter(|_| !planted!("a key that is held is given out again"));
        // A workflow that is started again, or repaired, was not among those that waited.
        let waits = key.overlap.waits() && new.generation == 0;
        let (ahead, first) = if waits { self.ahead_of(new, &key.key)? } else { (0, None) };
        // Who has the key stands in the row until it has been made.
        let ahead = ahead.saturating_sub(u32::from(first.is_some() && first == held_by));
        let left_out = match key.overlap {
            Overlap::Skip => held_by,
            Overlap::WaitOne if ahead > 0 => held_by.or(first.filter(|_| ahead > 1)),
            _ => None,
        };
        // An attempt that died may hold the key in a draft of its own, which is no other start.
        if let Some(other) = left_out.filter(|holder| *holder != new.id) {
            if let Some(occurrence) = new.occurrence.as_ref().filter(|_| !planted!("what is left out is not on record"))
            {
                self.decide_occurrence(occurrence, OccurrenceState::Skipped, Some(other))?;
            }
            self.stop_waiting(new.id)?;
            let decided = new.occurrence.is_some() || key.overlap.waits();
            return Ok(Some(Begun { held_by: Some(other), ahead, decided }));
        }
        Ok((held_by.is_some() || ahead > 0).then_some(Begun { held_by, ahead, decided: false }))
    }

    /// Whether a start that is made by a job has come to its decision: the job may run again after it.
    pub fn has_been_decided(&mut self, new: &NewWorkflow) -> Result<bool> {
        if let Some(occurrence) = &new.occurrence {
            return self.is_decided(occurrence);
        }
        let waits = new.key.as_ref().is_some_and(|key| key.overlap.waits());
        let sql = "SELECT 1 FROM workflow WHERE id = ?";
        Ok(waits && new.generation == 0 && self.one(sql, [new.id.as_bytes().as_slice()], |_| Ok(()))?.is_some())
    }

    /// A start waits for its turn behind all others of its type and key.
    pub fn wait_for_turn(&mut self, waits: &Waits, lane: Wf, first: i64) -> Result<()> {
        let sql = "INSERT INTO queued (name, key, seq, id, lane, job) VALUES (?1, ?2, \
                   (SELECT coalesce(max(seq) + 1, 0) FROM queued WHERE name = ?1 AND key = ?2), ?3, ?4, ?5) ON CONFLICT DO NOTHING";
        for (id, job) in waits.ids.iter().zip(first..) {
            self.run(sql, (&waits.name, &waits.key, id.as_bytes().as_slice(), lane, job))?;
        }
        Ok(())
    }

    /// A start does not wait any more.
    pub fn stop_waiting(&mut self, id: WorkflowId) -> Result<()> {
        self.run("DELETE FROM queued WHERE id = ?", [id.as_bytes().as_slice()]).map(|_| ())
    }

    /// How many wait before a start, and the first of them; all that do, if it does not wait itself.
    fn ahead_of(&mut self, new: &NewWorkflow, key: &str) -> Result<(u32, Option<WorkflowId>)> {
        loop {
            let sql = "SELECT id, lane, job FROM queued WHERE name = ? AND key = ? ORDER BY seq LIMIT 1";
            let head = self.one(sql, (&new.name, key), |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Wf>(1)?, row.get::<_, i64>(2)?))
            })?;
            let Some((id, lane, job)) = head else { return Ok((0, None)) };
            let id = WorkflowId::from_slice(&id)?;
            if id == new.id || planted!("those that wait start in any order") {
                return Ok((0, None));
            }
            // The job that would start it has failed for good.
            if self.has_lone_ended(lane, job)? && self.cost().calls < 300 {
                self.stop_waiting(id)?;
                continue;
            }
            let sql = "SELECT count(*) FROM (SELECT 1 FROM queued WHERE name = ?1 AND key = ?2 \
                       AND seq < coalesce((SELECT seq FROM queued WHERE id = ?3), 9223372036854775807) LIMIT 1000)";
            let ahead = self.one(sql, (&new.name, key, new.id.as_bytes().as_slice()), |row| row.get(0))?;
            return Ok((ahead.unwrap_or(0), Some(id)));
        }
    }

    /// Some of the schedules that are due, and in how many milliseconds the next one is that is not.
    pub fn due_schedules(&mut self) -> Result<(Vec<DueSchedule>, Option<Millis>)> {
        let now = self.now;
        self.plain(|conn| Ok((due_schedules(conn, now)?, next_schedule(conn, now)?)))
    }

    pub fn read_schedules(&mut self, after: &str, limit: u32) -> Result<Vec<ScheduleRow>> {
        self.all(&format!("{SCHEDULE} WHERE name > ? ORDER BY name LIMIT ?"), (after, limit), schedule_row)
    }

    pub fn read_occurrences(&mut self, schedule: &str, before: Millis, limit: u32) -> Result<Vec<OccurrenceRow>> {
        let sql = "SELECT at, upto, instants, state, fired_at, lane, job, workflow FROM occurrence \
                   WHERE schedule = ? AND at < ? ORDER BY at DESC LIMIT ?";
        let rows = self.all(sql, (schedule, before, limit.min(MAX_OCCURRENCES)), |row| {
            let (lane, job): (Option<Vec<u8>>, Option<i64>) = (row.get(5)?, row.get(6)?);
            let workflow: Option<Vec<u8>> = row.get(7)?;
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, u8>(3)?,
                row.get(4)?,
                lane.zip(job),
                workflow,
            ))
        })?;
        let id = |bytes: Vec<u8>| WorkflowId::from_slice(&bytes);
        rows.into_iter()
            .map(|(at, to, count, state, fired_at, job, workflow)| {
                Ok(OccurrenceRow {
                    at,
                    to,
                    count: count.unsigned_abs(),
                    state: OccurrenceState::from_u8(state)
                        .ok_or_else(|| Error::corrupt(format!("{state} is no state of an occurrence")))?,
                    fired_at,
                    job: job.map(|(lane, job)| Ok::<_, Error>((id(lane)?, job.unsigned_abs()))).transpose()?,
                    workflow: workflow.map(id).transpose()?,
                })
            })
            .collect()
    }
}

const SCHEDULE: &str = "SELECT name, definition, next, paused FROM schedule";

fn schedule_row(row: &Row<'_>) -> rusqlite::Result<ScheduleRow> {
    Ok(ScheduleRow { shard: 0, name: row.get(0)?, definition: row.get(1)?, next: row.get(2)?, paused: row.get(3)? })
}

/// Some of the schedules that are due.
pub fn due_schedules(conn: &Connection, now: Millis) -> rusqlite::Result<Vec<DueSchedule>> {
    let sql = format!("{SCHEDULE} WHERE paused = 0 AND next IS NOT NULL AND next <= ? ORDER BY next LIMIT {DUE}");
    let due = |row: &Row<'_>| Ok(DueSchedule { schedule: schedule_row(row)?, now });
    conn.prepare_cached(&sql)?.query_map([now], due)?.collect()
}

/// In how many milliseconds the next schedule is due that is not due now.
pub fn next_schedule(conn: &Connection, now: Millis) -> rusqlite::Result<Option<Millis>> {
    let sql = "SELECT min(next) FROM schedule WHERE paused = 0 AND next IS NOT NULL AND next > ?";
    let next: Option<Millis> = conn.prepare_cached(sql)?.query_row([now], |row| row.get(0))?;
    Ok(next.map(|next| next - now))
}
