//! Lines: where ready work waits. A line has one place for each workflow, a place its ready steps, a step its entries.
//!
//! A claim goes to the place and the step with the lowest turn and moves both behind the others, so that within a line workflows
//! rotate, and within a workflow its steps. What may not run now loses its turn (it is parked) until an event gives it one again.

use super::chore::Kind;
use super::tx::{Step, Tx, Wf};
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::planted::planted;
use crate::slice::Mask;

/// How many parked places one operation puts back.
const PLACES: usize = 150;

/// Where an entry goes among those of its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Front,
    Back,
}

/// What an entry holds.
#[derive(Clone, Debug)]
pub enum Work {
    /// Jobs `low` to `high` (exclusive) of the step, never claimed so far.
    Run { low: i64, high: i64 },
    /// Jobs of one chunk, whose first job has index `first`.
    Masked { chunk: i64, first: i64, jobs: Mask },
}

/// An entry as it stands in its line.
#[derive(Clone, Debug)]
pub struct Entry {
    pub seq: i64,
    pub work: Work,
    /// How often its worker died.
    pub recoveries: i64,
    /// How often it died with nothing beside it.
    pub alone: i64,
    /// How often it was forwarded and nobody took it over.
    pub published: i64,
}

impl Tx<'_> {
    /// The line of that name, made if it is new.
    pub fn line(&mut self, queue: &str, priority: i32, job_type: &str, suspect: bool) -> Result<i64> {
        let sql = "SELECT line FROM line WHERE queue = ? AND priority = ? AND type = ? AND suspect = ?";
        if let Some(line) = self.one(sql, (queue, priority, job_type, suspect), |row| row.get(0))? {
            return Ok(line);
        }
        let sql = "INSERT INTO line (queue, priority, type, suspect, turn, next_turn) VALUES (?, ?, ?, ?, 0, 0)";
        self.run(sql, (queue, priority, job_type, suspect))?;
        Ok(self.inserted())
    }

    /// The priority of a line.
    pub fn priority(&mut self, line: i64) -> Result<i32> {
        let priority = self.one("SELECT priority FROM line WHERE line = ?", [line], |row| row.get(0))?;
        priority.ok_or_else(|| Error::corrupt(format!("line {line} is missing")))
    }

    /// The line where the suspect work of a step waits.
    fn suspect_line(&mut self, line: i64) -> Result<i64> {
        let sql = "SELECT queue, priority, type FROM line WHERE line = ?";
        let name = self
            .one(sql, [line], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i32>(1)?, row.get::<_, String>(2)?)))?;
        let (queue, priority, job_type) = name.ok_or_else(|| Error::corrupt(format!("line {line} is missing")))?;
        self.line(&queue, priority, &job_type, true)
    }

    /// Puts work of a step into its line.
    pub fn enqueue(
        &mut self,
        step: &Step,
        work: &Work,
        end: End,
        suspect: bool,
        recoveries: i64,
        alone: i64,
    ) -> Result<()> {
        let line = if suspect { self.suspect_line(step.line)? } else { step.line };
        self.put_entry(step, work, end, suspect, recoveries, alone)?;
        self.line_up(line, step)
    }

    /// Makes an entry of a step, which is in a line once the step is.
    pub fn put_entry(
        &mut self,
        step: &Step,
        work: &Work,
        end: End,
        suspect: bool,
        recoveries: i64,
        alone: i64,
    ) -> Result<()> {
        let (seq, by) = match end {
            End::Front => ("min(seq) - 1", "seq"),
            End::Back => ("max(seq) + 1", "seq DESC"),
        };
        let seq = format!(
            "(SELECT coalesce({seq}, 0) FROM (SELECT seq FROM entry WHERE wf = ?1 AND step = ?2 AND suspect = ?3 ORDER BY {by} LIMIT 1))"
        );
        let sql = format!("INSERT INTO entry VALUES (?1, ?2, ?3, {seq}, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0)");
        let (low, high, chunk, first, jobs) = match work {
            Work::Run { low, high } => (Some(*low), Some(*high), None, None, None),
            Work::Masked { chunk, first, jobs } => (None, None, Some(*chunk), Some(*first), Some(jobs.to_bytes())),
        };
        self.run(
            &sql,
            rusqlite::params![step.wf, step.step, suspect, low, high, chunk, first, jobs, recoveries, alone],
        )?;
        Ok(())
    }

    /// Gives a step that has entries a turn in its line, unless it has one or is parked.
    pub fn line_up(&mut self, line: i64, step: &Step) -> Result<()> {
        let turn = "(SELECT next_turn FROM line WHERE line = ?1)";
        let sql = format!("INSERT INTO ready VALUES (?1, ?2, ?3, {turn}) ON CONFLICT DO NOTHING");
        let new_step = self.run(&sql, (line, step.wf, step.step))? > 0;
        self.lines_fed.insert(line);
        if new_step && self.placed.insert((line, step.wf)) {
            // A place that is parked because all of its steps were at their limits gets a turn for this new one; one that is
            // parked for its paused workflow is parked again by the next claim that meets it.
            let sql = format!(
                "INSERT INTO place VALUES (?1, ?2, {turn}) ON CONFLICT DO UPDATE SET turn = excluded.turn WHERE turn IS NULL"
            );
            self.run(&sql, (line, step.wf))?;
            self.run("UPDATE line SET next_turn = next_turn + 1 WHERE line = ?", [line])?;
        }
        Ok(())
    }

    /// Puts what was parked of a step at its limit back into its lines.
    pub fn unpark_step(&mut self, step: &Step) -> Result<()> {
        if step.max_in_flight.is_none() || step.exceeded || planted!("what was parked at a limit stays parked") {
            return Ok(());
        }
        self.unpark_step_now(step)
    }

    /// Puts what was parked of a step back into its lines.
    pub fn unpark_step_now(&mut self, step: &Step) -> Result<()> {
        let sql = "UPDATE ready SET turn = (SELECT next_turn FROM line WHERE line.line = ready.line) \
                   WHERE wf = ?1 AND step = ?2 AND turn IS NULL AND line IN (SELECT b.line FROM line a JOIN line b \
                   ON b.queue = a.queue AND b.type = a.type AND b.priority = a.priority WHERE a.line = ?3) RETURNING line";
        for line in self.all(sql, (step.wf, step.step, step.line), |row| row.get::<_, i64>(0))? {
            self.unpark_place(step.wf, line)?;
        }
        Ok(())
    }

    /// Puts the parked places of a workflow back into their lines, from line `from` on; a chore goes on beyond the bound.
    pub fn unpark_places(&mut self, wf: Wf, from: i64) -> Result<()> {
        let sql = "SELECT line FROM place INDEXED BY place_by_workflow WHERE wf = ?1 AND line >= ?2 AND turn IS NULL ORDER BY line LIMIT ?3";
        let lines = self.all(sql, (wf, from, PLACES as i64), |row| row.get::<_, i64>(0))?;
        for line in &lines {
            self.unpark_place(wf, *line)?;
        }
        match lines.last() {
            Some(last) if lines.len() == PLACES => self.leave_chore(Kind::Unpark, wf, 0, last + 1, 0),
            _ => Ok(()),
        }
    }

    /// Puts a workflow's place back into a line, if it is parked.
    fn unpark_place(&mut self, wf: Wf, line: i64) -> Result<()> {
        let sql = "UPDATE place SET turn = (SELECT next_turn FROM line WHERE line = ?1) WHERE line = ?1 AND wf = ?2 AND turn IS NULL";
        if self.run(sql, (line, wf))? > 0 {
            self.run("UPDATE line SET next_turn = next_turn + 1 WHERE line = ?", [line])?;
        }
        self.lines_fed.insert(line);
        Ok(())
    }

    /// The first entry of a step.
    pub fn first_entry(&mut self, wf: Wf, step: StepNumber, suspect: bool) -> Result<Option<Entry>> {
        let sql = "SELECT seq, low, high, chunk, first, jobs, recoveries, alone, published FROM entry \
                   WHERE wf = ? AND step = ? AND suspect = ? ORDER BY seq LIMIT 1";
        let found = self.one(sql, (wf, step, suspect), |row| {
            let run: (Option<i64>, Option<i64>) = (row.get(1)?, row.get(2)?);
            let masked: (Option<i64>, Option<i64>, Option<Vec<u8>>) = (row.get(3)?, row.get(4)?, row.get(5)?);
            Ok((row.get(0)?, run, masked, (row.get(6)?, row.get(7)?, row.get(8)?)))
        })?;
        let Some((seq, run, masked, (recoveries, alone, published))) = found else { return Ok(None) };
        let work = match (run, masked) {
            ((Some(low), Some(high)), _) => Work::Run { low, high },
            (_, (Some(chunk), Some(first), Some(jobs))) => Work::Masked { chunk, first, jobs: super::tx::mask(&jobs)? },
            _ => {
                return Err(Error::corrupt(format!(
                    "entry {seq} of step {step} of workflow {wf} is neither a run nor masked"
                )));
            }
        };
        Ok(Some(Entry { seq, work, recoveries, alone, published }))
    }

    /// Replaces the work of a step's first entry by what a claim has left of it.
    pub fn put_rest(
        &mut self,
        wf: Wf,
        step: StepNumber,
        suspect: bool,
        entry: &Entry,
        rest: Option<Work>,
    ) -> Result<()> {
        match rest {
            None => self.run(
                "DELETE FROM entry WHERE wf = ? AND step = ? AND suspect = ? AND seq = ?",
                (wf, step, suspect, entry.seq),
            )?,
            Some(Work::Run { low, .. }) => self.run(
                "UPDATE entry SET low = ?5 WHERE wf = ?1 AND step = ?2 AND suspect = ?3 AND seq = ?4",
                (wf, step, suspect, entry.seq, low),
            )?,
            Some(Work::Masked { jobs, .. }) => self.run(
                "UPDATE entry SET jobs = ?5 WHERE wf = ?1 AND step = ?2 AND suspect = ?3 AND seq = ?4",
                (wf, step, suspect, entry.seq, jobs.to_bytes()),
            )?,
        };
        Ok(())
    }
}
