//! Chores: what exceeds one operation's bound. Each has a cursor; a bite takes the chore off the list, does its share, and puts it
//! back with the cursor moved, all in one transaction. Ticks of any process go on with them, so a chore outlives who asked for it.

use rusqlite::OptionalExtension;

use super::tx::{Tx, Wf, chained_chunk};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::planted::planted;
use crate::state::{Decision, JobState, StepState};

/// How many rows of a table a deletion takes in one bite.
const DELETE_ROWS: i64 = 400;
/// How many chunks a deletion takes in one bite: each has rows in several tables.
const DELETE_CHUNKS: i64 = 60;
/// From so many statements on a deletion begins with no further segment, nor a retry with another chunk, and so many it leaves to what follows.
pub const SOFT_CALLS: u64 = 440;
const HARD_CALLS: u64 = 540;
/// The step of chores that belong to a whole workflow.
pub const NO_STEP: StepNumber = 0;
/// The argument of chores that discard failed jobs instead of running them again.
pub const DISCARD: i64 = -1;
/// The argument of chores that tell a batch of the death of a job within it.
pub const DEATH_WITHIN: i64 = 1;
/// The argument of chores that repair jobs whose children have been repaired, and no others.
pub const BY_CHILD: i64 = -2;

/// What a chore does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Releases the steps without upstream, from step `cursor` on.
    Roots,
    /// Tells the followers of `step` that it has settled, from step `cursor` on.
    Settled,
    /// Puts the open jobs of `step` into the state `argument`, from job `cursor` on.
    Fill,
    /// Takes every step's work away and cancels it, from step `cursor` on.
    Cancel,
    /// Retries the steps with failed jobs from `cursor` on, each by a `Reopen`; `argument` is `DISCARD` if those are to be discarded.
    Retry,
    /// Takes back what `step` told its followers, from step `cursor` on; then the step is running again, and `RetryJobs` goes on.
    Reopen,
    /// Reopens the failed jobs of `step`, from job `cursor` on; of segment `argument` of mended parameters, if it is not 0.
    RetryJobs,
    /// Opens the jobs of `step` that were cancelled when it failed fast, from job `cursor` on; the last part of a repair, whose `argument` it has.
    Revive,
    /// Takes `step`, and what comes after it, back, so that it runs again; `argument` is 1 if what has run after it does so, too.
    RunAgain,
    /// Releases what `RunAgain` has taken back.
    ReleaseAgain,
    /// Skips the jobs of `step` whose predecessors have settled without success, from job `cursor` on.
    SkipBehind,
    /// Takes back what `step` told its followers, from step `cursor` on, and runs it again, since what it is chained to is repaired.
    ReopenBehind,
    /// Cancels the rest of `step`, which has failed fast, from job `cursor` on.
    StopRest,
    /// Puts the workflow's parked places back, from line `cursor` on.
    Unpark,
    /// The child `argument` of job `cursor` of `step` has finished.
    ChildEnded,
    /// Cancels the children of `step`, from job `cursor` on; of one job alone, if `argument` is that one's index and 1.
    CancelChildren,
    /// Looks at a batch: `argument` is 1 if a job of one within it has failed for good, and 0 if an operation left to a chore what its own jobs
    /// mean to it.
    Batch,
    /// Deletes the workflow, table after table.
    Delete,
    /// Deletes the segment `argument`, which belongs to no step.
    Drop,
}

impl Kind {
    const ALL: [Kind; 19] = [
        Kind::Roots,
        Kind::Settled,
        Kind::Fill,
        Kind::Cancel,
        Kind::Retry,
        Kind::Reopen,
        Kind::RetryJobs,
        Kind::Revive,
        Kind::RunAgain,
        Kind::ReleaseAgain,
        Kind::SkipBehind,
        Kind::ReopenBehind,
        Kind::StopRest,
        Kind::Unpark,
        Kind::ChildEnded,
        Kind::CancelChildren,
        Kind::Batch,
        Kind::Delete,
        Kind::Drop,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Roots => "start",
            Kind::Settled => "release",
            Kind::Fill => "fill",
            Kind::Cancel => "cancel",
            Kind::Retry => "retry",
            Kind::Reopen => "reopen",
            Kind::RetryJobs => "retry jobs",
            Kind::Revive => "revive",
            Kind::RunAgain => "run again",
            Kind::ReleaseAgain => "release again",
            Kind::SkipBehind => "skip behind",
            Kind::ReopenBehind => "reopen behind",
            Kind::StopRest => "stop rest",
            Kind::Unpark => "resume",
            Kind::ChildEnded => "child ended",
            Kind::CancelChildren => "cancel children",
            Kind::Batch => "batch",
            Kind::Delete => "delete",
            Kind::Drop => "drop",
        }
    }

    fn named(name: &str) -> Result<Self> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        kind.ok_or_else(|| Error::corrupt(format!("the store holds a chore of the unknown kind `{name}`")))
    }
}

impl Tx<'_> {
    /// Puts a chore on the list; one that is there already starts from `cursor` again if that is before its own.
    pub fn leave_chore(&mut self, kind: Kind, wf: Wf, step: impl Into<i64>, cursor: i64, argument: i64) -> Result<()> {
        let name = (kind.as_str(), wf, step.into(), cursor, argument);
        let sql =
            "UPDATE chore SET cursor = min(cursor, ?4) WHERE kind = ?1 AND wf = ?2 AND step = ?3 AND argument = ?5";
        let new = self.run(sql, name)? == 0;
        if new {
            let sql = "INSERT INTO chore (turn, kind, wf, step, cursor, argument) \
                       VALUES (coalesce((SELECT max(turn) FROM chore), 0) + 1, ?1, ?2, ?3, ?4, ?5)";
            self.run(sql, name)?;
        }
        if new && wf != 0 {
            let mut workflow = self.workflow(wf)?;
            workflow.chores += 1;
            self.put_workflow(workflow);
        }
        Ok(())
    }

    /// Whether any chore is left.
    pub fn has_chores(&mut self) -> Result<bool> {
        Ok(self.one("SELECT 1 FROM chore WHERE error IS NULL LIMIT 1", [], |_| Ok(()))?.is_some())
    }

    /// Does one bite of the chore whose turn it is. Returns whether there was one. A chore that can never be done is set aside with
    /// its reason, so that it does not stop the others.
    pub fn work_on_chore(&mut self) -> Result<bool> {
        let sql = "SELECT chore, kind, wf, step, cursor, argument FROM chore WHERE error IS NULL ORDER BY turn LIMIT 1";
        let found = self.one(sql, [], |row| {
            let place = (row.get::<_, Wf>(2)?, row.get::<_, i64>(3)?);
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, place, row.get::<_, i64>(4)?, row.get::<_, i64>(5)?))
        })?;
        let Some((chore, kind, (wf, step), cursor, argument)) = found else { return Ok(false) };
        let bite = self.guarded(|tx| {
            tx.run("DELETE FROM chore WHERE chore = ?", [chore])?;
            if wf != 0 {
                let mut workflow = tx.workflow(wf)?;
                workflow.chores -= 1;
                tx.put_workflow(workflow);
                tx.to_finish.insert(wf);
            }
            tx.bite(Kind::named(&kind)?, wf, step, cursor, argument)
        })?;
        if let Err(error) = bite {
            tracing::error!(%error, kind, step, "a chore cannot be done; it is set aside");
            self.run("UPDATE chore SET error = ? WHERE chore = ?", (error.to_string(), chore))?;
        }
        Ok(true)
    }

    fn bite(&mut self, kind: Kind, wf: Wf, step: i64, cursor: i64, argument: i64) -> Result<()> {
        if kind == Kind::Drop {
            return self.drop_bite(argument);
        }
        let step = StepNumber::try_from(step).map_err(|_| Error::corrupt(format!("a chore names step {step}")))?;
        match kind {
            Kind::Roots => self.release_roots(wf, cursor),
            Kind::Settled => self.tell_followers(wf, step, StepNumber::try_from(cursor).unwrap_or(0)),
            Kind::Fill => match self.fill(wf, step, cursor, JobState::of(argument as u8))? {
                Some(next) => self.leave_chore(Kind::Fill, wf, step, next, argument),
                None => Ok(()),
            },
            Kind::Cancel => self.cancel_steps(wf, cursor),
            Kind::Retry => self.retry_steps(wf, cursor, argument),
            Kind::Reopen => self.reopen(wf, step, cursor, argument),
            Kind::RetryJobs => self.retry_jobs(wf, step, cursor, argument),
            Kind::Revive => self.revive(wf, step, cursor, argument),
            Kind::RunAgain => self.run_again_bite(wf, step, argument),
            Kind::ReleaseAgain => self.release_again(wf, step, argument),
            Kind::SkipBehind => match self.skip_behind(wf, step, cursor)? {
                Some(next) => self.leave_chore(Kind::SkipBehind, wf, step, next, argument),
                None => Ok(()),
            },
            Kind::ReopenBehind => self.reopen_behind(wf, step, cursor),
            Kind::StopRest => self.stop_rest(wf, step, cursor),
            Kind::Unpark => self.unpark_places(wf, cursor),
            Kind::ChildEnded => self.end_of_child(wf, step, cursor, argument),
            Kind::CancelChildren => self.cancel_children(wf, step, cursor, argument != 0),
            Kind::Batch => self.look_at_batch(wf, argument == DEATH_WITHIN),
            Kind::Delete => self.delete_bite(wf),
            Kind::Drop => Ok(()),
        }
    }

    /// Releases steps without upstream, from step `from` on.
    pub fn release_roots(&mut self, wf: Wf, from: i64) -> Result<()> {
        let sql = "SELECT step FROM step WHERE wf = ? AND step >= ? AND roots = 1 ORDER BY step LIMIT 130";
        for number in self.all(sql, (wf, from), |row| row.get::<_, StepNumber>(0))? {
            if self.is_at_bound() {
                return self.leave_chore(Kind::Roots, wf, NO_STEP, i64::from(number), 0);
            }
            let step = self.step(wf, number)?;
            if step.state == StepState::Waiting && step.decided.is_none() {
                self.act_on_decisions(step)?;
            }
        }
        Ok(())
    }

    /// Takes the work of one step after the other out of the lines and cancels what is not under a lease.
    fn cancel_steps(&mut self, wf: Wf, from: i64) -> Result<()> {
        let sql =
            "SELECT step FROM step WHERE wf = ? AND step >= ? AND (state < 2 OR children = 1) ORDER BY step LIMIT 130";
        for number in self.all(sql, (wf, from), |row| row.get::<_, StepNumber>(0))? {
            if self.is_at_bound() {
                return self.leave_chore(Kind::Cancel, wf, NO_STEP, i64::from(number), 0);
            }
            let step = self.step(wf, number)?;
            if step.always && !(step.pending == 0 && step.waits > 0) {
                continue;
            }
            // Somebody may repair one of a step that has settled.
            if step.children {
                self.leave_chore(Kind::CancelChildren, wf, number, 0, 0)?;
            }
            if step.state.is_settled() {
                continue;
            }
            let grace_until = self.workflow(wf)?.grace_until;
            self.shorten_leases(wf, number, grace_until)?;
            if self.clear_lines(wf, number)? {
                return self.leave_chore(Kind::Cancel, wf, NO_STEP, i64::from(number), 0);
            }
            self.released += 1;
            match step.state {
                StepState::Waiting if step.decided.is_none() => self.pass_over(step, Decision::Cancel)?,
                StepState::Running => self.fill_all(&step, JobState::Cancelled)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The leases of a cancelled step end with the grace at the latest, also those that nobody renews any more.
    pub fn shorten_leases(&mut self, wf: Wf, step: StepNumber, grace_until: Option<Millis>) -> Result<()> {
        if let Some(grace_until) = grace_until.filter(|_| !planted!("a grace binds only who renews")) {
            let sql = "UPDATE lease SET deadline = ?3 WHERE wf = ?1 AND step = ?2 AND deadline > ?3";
            self.run(sql, (wf, step, grace_until))?;
        }
        Ok(())
    }

    /// Removes a bite of a step's entries and timers; returns whether there are more.
    pub fn clear_lines(&mut self, wf: Wf, step: StepNumber) -> Result<bool> {
        let sql = "DELETE FROM timer WHERE (wf, step, due, chunk) IN \
                   (SELECT wf, step, due, chunk FROM timer WHERE wf = ?1 AND step = ?2 LIMIT ?3)";
        let timers = self.run(sql, (wf, step, DELETE_ROWS))?;
        let sql = "DELETE FROM entry WHERE (wf, step, suspect, seq) IN \
                   (SELECT wf, step, suspect, seq FROM entry WHERE wf = ?1 AND step = ?2 LIMIT ?3)";
        let entries = self.run(sql, (wf, step, DELETE_ROWS))?;
        if timers as i64 >= DELETE_ROWS || entries as i64 >= DELETE_ROWS {
            return Ok(true);
        }
        let lines = "DELETE FROM ready WHERE wf = ?1 AND step = ?2 RETURNING line";
        for line in self.all(lines, (wf, step), |row| row.get::<_, i64>(0))? {
            let sql = "DELETE FROM place WHERE line = ?1 AND wf = ?2 AND NOT EXISTS (SELECT 1 FROM ready WHERE line = ?1 AND wf = ?2)";
            self.run(sql, (line, wf))?;
            // A step that is released later in this operation needs a place again.
            self.placed.remove(&(line, wf));
        }
        Ok(false)
    }

    /// Deletes a bite of a workflow: first what could hand out work, then the data, at last the head.
    fn delete_bite(&mut self, wf: Wf) -> Result<()> {
        if self.delete_some(wf)? { Ok(()) } else { self.leave_chore(Kind::Delete, wf, NO_STEP, 0, 0) }
    }

    /// As much of it as one operation may; returns whether it is gone.
    pub fn delete_some(&mut self, wf: Wf) -> Result<bool> {
        if self.delete_children(wf)? {
            return Ok(false);
        }
        const TABLES: [(&str, &str); 12] = [
            ("lease", "session, number"),
            ("entry", "wf, step, suspect, seq"),
            ("ready", "line, wf, step"),
            ("place", "line, wf"),
            ("timer", "wf, step, due, chunk"),
            ("hold", "wf, step, name"),
            ("again", "wf, step"),
            ("error", "wf, step, number"),
            ("edge", "wf, up, down, kind"),
            ("checkpoint", "chunk, at"),
            ("emitted", "chunk, at"),
            ("awaited", "wf, step"),
        ];
        for (table, key) in
            TABLES.into_iter().filter(|(table, _)| *table != "edge" || !planted!("a deletion leaves edges"))
        {
            let sql =
                format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE wf = ?1 LIMIT ?2)");
            if self.run(&sql, (wf, DELETE_ROWS))? as i64 >= DELETE_ROWS {
                return Ok(false);
            }
        }
        let sql = "SELECT segment FROM segment WHERE wf = ? LIMIT 1";
        while let Some(segment) = self.one(sql, [wf], |row| row.get::<_, i64>(0))? {
            if !self.drop_chunks(segment)? || self.cost().calls > SOFT_CALLS {
                return Ok(false);
            }
        }
        let sql = "DELETE FROM step WHERE (wf, step) IN (SELECT wf, step FROM step WHERE wf = ?1 LIMIT ?2)";
        if self.run(sql, (wf, DELETE_ROWS))? as i64 >= DELETE_ROWS {
            return Ok(false);
        }
        self.run("DELETE FROM chore WHERE wf = ?", [wf])?;
        self.run("DELETE FROM workflow WHERE wf = ?", [wf])?;
        self.forget_workflow(wf);
        Ok(true)
    }

    /// Deletes a bite of a segment that nobody owns.
    fn drop_bite(&mut self, segment: i64) -> Result<()> {
        let sql = "DELETE FROM mended WHERE mended IN (SELECT mended FROM mended WHERE segment = ?1 LIMIT ?2)";
        let mended = self.run(sql, (segment, DELETE_CHUNKS))?;
        if mended as i64 >= DELETE_CHUNKS || !self.drop_chunks(segment)? {
            // A segment's number serves as its chore's step: the list knows one chore by kind, workflow and step.
            return self.leave_chore(Kind::Drop, 0, segment, 0, segment);
        }
        Ok(())
    }

    /// The steps that have the chunks of a segment under numbers of their own, and 0 for the step that the segment is of; none, if nothing is
    /// chained to that.
    fn steps_with_chunks_of(&mut self, segment: i64) -> Result<Vec<StepNumber>> {
        let sql = "SELECT wf, leads FROM segment JOIN step USING (wf, step) WHERE segment = ? AND leads IS NOT NULL";
        let Some((wf, leads)) =
            self.one(sql, [segment], |row| Ok((row.get::<_, Wf>(0)?, row.get::<_, StepNumber>(1)?)))?
        else {
            return Ok(Vec::new());
        };
        let (mut steps, mut next) = (vec![0], Some(leads));
        while let Some(step) = next {
            steps.push(step);
            next = self.step(wf, step)?.leads.filter(|next| *next > step);
        }
        Ok(steps)
    }

    /// Deletes some chunks of a segment, and the segment once it has none; returns whether it is gone.
    fn drop_chunks(&mut self, segment: i64) -> Result<bool> {
        let chained = self.steps_with_chunks_of(segment)?;
        let sql = "SELECT first, chunk FROM chunk WHERE segment = ? LIMIT ?";
        // A chunk costs seven statements; the operation may have done much before.
        let room = ((HARD_CALLS.saturating_sub(self.cost().calls) / 7) as i64).clamp(1, DELETE_CHUNKS);
        let chunks = self.all(sql, (segment, room), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        for (first, chunk) in &chunks {
            for table in ["params", "bytes", "recovered", "outcome", "failed", "mended"] {
                let adopted = if table == "mended" { " AND segment IS NULL" } else { "" };
                if chained.is_empty() || matches!(table, "params" | "mended") {
                    self.run(&format!("DELETE FROM {table} WHERE chunk = ?1{adopted}"), [chunk])?;
                } else {
                    let numbers: Vec<i64> = chained.iter().map(|step| chained_chunk(*chunk, *step)).collect();
                    let sql = format!("DELETE FROM {table} WHERE chunk IN (SELECT value FROM json_each(?1))");
                    self.run(&sql, [super::create::to_json(&numbers)?])?;
                }
            }
            self.run("DELETE FROM chunk WHERE segment = ? AND first = ?", (segment, first))?;
        }
        if (chunks.len() as i64) < room {
            self.run("DELETE FROM segment WHERE segment = ?", [segment])?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// Whether a step has a chore on it, for people who ask why it waits.
pub fn chore_of(conn: &rusqlite::Connection, wf: Wf, step: StepNumber) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT kind || coalesce(' (set aside: ' || error || ')', '') FROM chore WHERE wf = ?1 AND (step = ?2 OR kind IN ('start', 'cancel', 'retry', 'run again', 'release again')) LIMIT 1";
    conn.prepare_cached(sql)?.query_row((wf, step), |row| row.get(0)).optional()
}
