//! Reports: **where jobs complete.** Each lease's part is checked whole before anything is written: a lease that is not held is
//! refused, a report number seen before changes nothing.

use std::collections::BTreeMap;

use super::lease::Lease;
use super::line::{End, Work};
use super::tx::{Chunk, Step, Tx, Wf};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::ledger::What;
use crate::planted::planted;
use crate::retry::due_time;
use crate::slice::Mask;
use crate::state::{FailurePolicy, JobState, MAX_ATTEMPTS, attempts, job_byte};
use crate::store::{DraftKey, LeaseReport, Report, Reported};

/// How many error texts a step's table holds.
const ERROR_TEXTS: i64 = 1000;
/// How many texts one operation notes: with the largest report it stays within its bound.
const NOTED: u32 = 100;
/// How many bytes they may have together, so that one read brings them all.
const ERROR_BYTES: i64 = 300 * 1024;
/// The row that counts the failed jobs whose text the table has no room for.
const OTHER_ERRORS: u64 = 0;

impl Tx<'_> {
    /// Settles, retries or gives back jobs; settles steps, releases what follows, finishes workflows.
    pub fn report(&mut self, report: &Report) -> Result<Reported> {
        report.check()?;
        let mut reported = Reported::default();
        let session = self.session(report.session)?;
        if planted!("a report past its deadline is refused") {
            let lease_time = self.advance_lease_time(Millis::MAX)?;
            self.take_back_expired(lease_time)?;
        }
        for part in &report.leases {
            let condition = "session = ?1 AND number = ?2 LIMIT 1";
            let lease = match session {
                Some(session) => self.leases_where(condition, (session, part.lease as i64))?.pop(),
                None => None,
            };
            match lease {
                None => {
                    reported.refused.push(part.lease);
                    self.note_refused(report.session, part.lease);
                }
                Some(lease)
                    if (part.number as i64) <= lease.last_report
                        && !planted!("a report counts each time it is sent") => {}
                Some(lease) => self.report_lease(report, &lease, part, &mut reported)?,
            }
        }
        self.cascade()?;
        self.admit()?;
        reported.more = self.has_chores()?;
        reported.woken = self.wake()?;
        Ok(reported)
    }

    fn report_lease(
        &mut self,
        report: &Report,
        lease: &Lease,
        part: &LeaseReport,
        reported: &mut Reported,
    ) -> Result<()> {
        let jobs = self.chunk_jobs(lease)?;
        let before = self.bytes(lease.chunk, jobs)?;
        check_part(lease, part, &before)?;
        let step = self.step(lease.wf, lease.step)?;
        let stops = self.stops(&step)?;
        if stops && !planted!("no report is told of a cancel") {
            reported.cancelled.push(part.lease);
        }

        let mut after = before.clone();
        let reported_jobs = all_jobs(part);
        let stopped = super::stop::heed(part, lease.stop);
        let part = stopped.as_ref().map_or(part, |stopped| &stopped.part);
        let given_back = give_back_cut_off(&step, part, stops);
        let part = given_back.as_ref().unwrap_or(part);
        self.settle_part(&step, lease, part, &before, &mut after, stops)?;
        self.note_part(lease, part, stops)?;
        if let Some(stopped) = &stopped {
            self.cancel_unstarted(lease, stopped.unstarted, &mut after)?;
        }
        // What has been adopted is no draft any more when its checkpoint is forgotten.
        self.take_drafts(report, lease, part)?;
        if step.checkpoints > 0 {
            let ended = reported_jobs.iter().filter(|at| JobState::of(after[*at]).is_settled()).collect();
            self.forget_checkpoints(lease.wf, lease.step, lease.chunk, ended)?;
        }
        self.leave_turn(&step, lease.chunk, reported_jobs.minus(part.returned), true)?;
        if step.keyed.sole() {
            let settled = reported_jobs.iter().filter(|at| JobState::of(after[*at]).is_settled()).collect();
            self.end_sole_of_settled(&step, lease.chunk, settled)?;
        }
        let mut outcome = lease.outcome;
        if self.is_lane(lease.wf)? && part.keep == 0 && self.is_unwanted(lease.chunk, &after)? {
            self.drop_chunk(&step, lease.chunk, lease.first, &after)?;
        } else {
            if after != before {
                self.put_bytes(lease.chunk, &after)?;
            }
            outcome = self.put_record(lease, part)?;
            if step.leads.is_some() {
                let succeeded =
                    part.succeeded.iter().filter(|at| JobState::of(after[*at]) == JobState::Succeeded).collect();
                let chunk = Chunk { chunk: lease.chunk, first: lease.first, jobs };
                self.hand_on(lease.wf, lease.step, &chunk, succeeded)?;
            }
            self.note_known_errors(lease, part, reported)?;
            if part.keep > 0 && self.is_lane(lease.wf)? {
                self.keep_chunk(&step, lease.chunk, lease.first, part.keep)?;
            }
        }

        let mut left = lease.jobs.minus(reported_jobs);
        if planted!("what is retrying goes back with a lease that ended") && !left.is_empty() {
            left = part.retries.iter().fold(left, |left, (_, retried)| left.or(*retried));
        }
        let mut step = self.step(lease.wf, lease.step)?;
        let was_at_limit = step.is_at_limit();
        step.leased -= reported_jobs.len() as i64;
        self.put_step(step);
        if was_at_limit && !step.is_at_limit() {
            self.unpark_step(&step)?;
        }
        if !left.and(lease.stop).is_empty() {
            reported.stopped.push((part.lease, left.and(lease.stop)));
        }
        if left.is_empty() {
            self.run("DELETE FROM lease WHERE session = ? AND number = ?", (lease.session, lease.number))?;
        } else {
            let sql = "UPDATE lease SET jobs = ?3, last_report = ?4, outcome = ?5, record = ?6 WHERE session = ?1 AND number = ?2";
            // A part without a record leaves the open one as it is.
            let record = if part.record.is_empty() { lease.record } else { i64::from(part.record_number) };
            self.run(sql, (lease.session, lease.number, left.to_bytes(), part.number as i64, outcome, record))?;
        }
        self.check_settled(lease.wf, lease.step)?;
        if !stops && !left.is_empty() && self.step(lease.wf, lease.step)?.is_failing_fast() {
            reported.cancelled.push(part.lease);
        }
        Ok(())
    }

    fn note_part(&mut self, lease: &Lease, part: &LeaseReport, stops: bool) -> Result<()> {
        self.note(What::Settled(JobState::Succeeded), lease, part.succeeded)?;
        self.note(What::Settled(JobState::Failed), lease, part.failed)?;
        self.note(What::Settled(JobState::Skipped), lease, part.skipped)?;
        self.note(What::Settled(JobState::Cancelled), lease, part.cancelled)?;
        let (tried, untried) = if stops {
            (What::Settled(JobState::Cancelled), What::Settled(JobState::Cancelled))
        } else {
            (What::Retrying, What::Returned)
        };
        part.retries.iter().try_for_each(|(_, jobs)| self.note(tried, lease, *jobs))?;
        part.postponed.iter().try_for_each(|(_, jobs)| self.note(untried, lease, *jobs))?;
        self.note(What::Returned, lease, part.begun)?;
        self.note(untried, lease, part.returned)
    }

    /// Gives each job that a report names its new byte, and puts back or times those that go on.
    fn settle_part(
        &mut self,
        step: &Step,
        lease: &Lease,
        part: &LeaseReport,
        before: &[u8],
        after: &mut [u8],
        stops: bool,
    ) -> Result<()> {
        let (wf, number) = (lease.wf, lease.step);
        let put = |tx: &mut Self, after: &mut [u8], mask: Mask, state: JobState, attempt: u8| -> Result<()> {
            mask.iter().for_each(|at| after[at] = job_byte(state, attempts(before[at]) + attempt));
            let more = u64::from(planted!("a counter runs ahead of the bytes") && state == JobState::Failed);
            tx.shift(wf, number, JobState::Open, state, mask.len() as u64 + more)
        };
        put(self, after, part.succeeded, JobState::Succeeded, 1)?;
        put(self, after, part.failed, JobState::Failed, 1)?;
        put(self, after, part.skipped, JobState::Skipped, 1)?;
        put(self, after, part.cancelled, JobState::Cancelled, 1)?;
        self.begin_children(lease, part.begun, after)?;
        for (wait, mask) in &part.postponed {
            if stops {
                put(self, after, *mask, JobState::Cancelled, 0)?;
                continue;
            }
            let attempt = u8::from(planted!("to run later uses up an attempt"));
            put(self, after, *mask, JobState::Deferred, attempt)?;
            self.set_timer(step, self.now.saturating_add((*wait).max(0)), lease.chunk, lease.first, *mask)?;
        }
        for (wait, mask) in &part.retries {
            if stops {
                put(self, after, *mask, JobState::Cancelled, 1)?;
                continue;
            }
            put(self, after, *mask, JobState::Retrying, u8::from(!planted!("a retry uses up no attempt")))?;
            let wait = if planted!("retries do not wait") { 0 } else { (*wait).max(0) as u64 };
            let due = due_time(self.now, std::time::Duration::from_millis(wait));
            self.set_timer(step, due, lease.chunk, lease.first, *mask)?;
        }
        if stops {
            put(self, after, part.returned, JobState::Cancelled, 0)
        } else if part.returned.is_empty() || planted!("what is given back is lost") {
            Ok(())
        } else {
            let anew = self.start_anew(step, lease.chunk, part.returned)?;
            put(self, after, anew, JobState::Deferred, 0)?;
            let jobs = part.returned.minus(anew);
            if jobs.is_empty() {
                return Ok(());
            }
            let work = Work::Masked { chunk: lease.chunk, first: lease.first, jobs };
            let end = if lease.suspect { End::Back } else { End::Front };
            self.enqueue(step, &work, end, lease.suspect, lease.recoveries, lease.alone)
        }
    }

    /// Keeps the lease's outcome record: in place of the one it replaces, or as the next.
    fn put_record(&mut self, lease: &Lease, part: &LeaseReport) -> Result<Option<i64>> {
        if part.record.is_empty() {
            return Ok(lease.outcome);
        }
        self.count_bytes(part.record.len());
        match lease.outcome {
            Some(outcome) if i64::from(part.record_number) == lease.record => {
                self.run("UPDATE outcome SET body = ?2 WHERE outcome = ?1", (outcome, &part.record))?;
                Ok(Some(outcome))
            }
            _ => {
                self.run("INSERT INTO outcome (chunk, body) VALUES (?, ?)", (lease.chunk, &part.record))?;
                Ok(Some(self.inserted()))
            }
        }
    }

    fn note_known_errors(&mut self, lease: &Lease, part: &LeaseReport, reported: &mut Reported) -> Result<()> {
        for number in self.note_errors((lease.wf, lease.step, lease.chunk), &part.errors)? {
            reported.known_errors.push((part.lease, number));
        }
        Ok(())
    }

    /// Counts failed jobs of a chunk by their texts, as far as the step's table has room and the operation's bound is not reached; the others
    /// are counted together. Returns which texts the table holds.
    pub fn note_errors(
        &mut self,
        (wf, step, chunk): (Wf, StepNumber, i64),
        errors: &[(u64, String, Mask)],
    ) -> Result<Vec<u64>> {
        let mut known = Vec::new();
        if errors.is_empty() {
            return Ok(known);
        }
        let sql = "SELECT count(*), coalesce(sum(octet_length(text)), 0) FROM error WHERE wf = ? AND step = ?";
        let there = self.one(sql, (wf, step), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let (mut texts, mut bytes) = there.unwrap_or_default();
        let mut failed = self.failed_by_error(chunk)?;
        let mut other = 0;
        for (number, text, jobs) in errors {
            let mut row = *number;
            let sql = "UPDATE error SET jobs = jobs + ?4 WHERE wf = ?1 AND step = ?2 AND number = ?3";
            let count = jobs.len() as i64;
            if self.errors_noted >= NOTED {
                row = OTHER_ERRORS;
            } else if self.run(sql, (wf, step, *number as i64, count))? > 0 {
                known.push(*number);
            } else if texts < ERROR_TEXTS && bytes + (text.len() as i64) < ERROR_BYTES {
                self.count_bytes(text.len());
                self.run("INSERT INTO error VALUES (?, ?, ?, ?, ?)", (wf, step, *number as i64, text, count))?;
                (texts, bytes) = (texts + 1, bytes + text.len() as i64);
                known.push(*number);
            } else {
                row = OTHER_ERRORS;
            }
            let mask = failed.entry(row).or_default();
            *mask = mask.or(*jobs);
            if row == OTHER_ERRORS {
                other += count;
            } else {
                self.errors_noted += 1;
            }
        }
        if other > 0 {
            let sql = "INSERT INTO error VALUES (?1, ?2, ?3, '', ?4) ON CONFLICT DO UPDATE SET jobs = jobs + ?4";
            self.run(sql, (wf, step, OTHER_ERRORS as i64, other))?;
        }
        self.put_failed(chunk, &failed)?;
        Ok(known)
    }

    /// Which failed jobs of a chunk are counted in which row of its step's table.
    pub fn failed_by_error(&mut self, chunk: i64) -> Result<BTreeMap<u64, Mask>> {
        let sql = "SELECT number, jobs FROM failed WHERE chunk = ?";
        let rows = self.all(sql, [chunk], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        rows.into_iter().map(|(number, jobs)| Ok((number as u64, super::tx::mask(&jobs)?))).collect()
    }

    /// Writes which failed jobs of a chunk are counted where: in one statement, however many errors there are.
    pub fn put_failed(&mut self, chunk: i64, failed: &BTreeMap<u64, Mask>) -> Result<()> {
        let rows: Vec<(i64, String)> = failed
            .iter()
            .filter(|(_, jobs)| !jobs.is_empty())
            .map(|(number, jobs)| (*number as i64, jobs.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()))
            .collect();
        self.run("DELETE FROM failed WHERE chunk = ?", [chunk])?;
        if rows.is_empty() {
            return Ok(());
        }
        let rows = super::create::to_json(&rows)?;
        self.count_bytes(rows.len());
        self.run("INSERT INTO failed SELECT ?1, value ->> 0, unhex(value ->> 1) FROM json_each(?2)", (chunk, rows))?;
        Ok(())
    }

    /// Jobs of a chunk are no longer failed: they are taken out of the counts by error.
    pub fn forget_failed(&mut self, wf: Wf, step: StepNumber, chunk: i64, jobs: Mask) -> Result<()> {
        let mut failed = self.failed_by_error(chunk)?;
        let fewer: Vec<(i64, usize)> = failed
            .iter()
            .map(|(number, mask)| (*number as i64, mask.and(jobs).len()))
            .filter(|(_, n)| *n > 0)
            .collect();
        failed.values_mut().for_each(|mask| *mask = mask.minus(jobs));
        let sql = "UPDATE error SET jobs = error.jobs - fewer.jobs FROM \
                   (SELECT value ->> 0 AS number, value ->> 1 AS jobs FROM json_each(?3)) AS fewer \
                   WHERE error.wf = ?1 AND error.step = ?2 AND error.number = fewer.number";
        self.run(sql, (wf, step, super::create::to_json(&fewer)?))?;
        self.put_failed(chunk, &failed)
    }

    /// Adopts what successful sources wrote, gives up what failed ones did.
    fn take_drafts(&mut self, report: &Report, lease: &Lease, part: &LeaseReport) -> Result<()> {
        let key = |number| DraftKey { session: report.session, number };
        let last =
            usize::from(planted!("of several drafts the last one is adopted")) * part.adopted.len().saturating_sub(1);
        for (_, draft) in &part.adopted[last..] {
            let step = self.step(lease.wf, lease.step)?;
            if step.grows {
                self.adopt_added(key(*draft), lease.wf)?;
                continue;
            }
            let feeds = step.feeds.ok_or_else(|| Error::usage("a job that is no source reported emitted jobs"))?;
            self.adopt(key(*draft), lease.wf, feeds)?;
        }
        self.add_from_inside(lease, &part.added)?;
        for draft in &part.dropped {
            self.drop_draft(key(*draft))?;
        }
        Ok(())
    }
}

/// Attempts that were cut off since their step failed fast, which has been repaired meanwhile: their jobs go back, for in such a step nothing
/// may stay cancelled. Returns the part without them, if there are any.
fn give_back_cut_off(step: &Step, part: &LeaseReport, stops: bool) -> Option<LeaseReport> {
    let cut_off = !stops && step.policy == FailurePolicy::FailFast && !part.cancelled.is_empty();
    if !cut_off || planted!("what was cut off of a step stays cancelled although the step was repaired") {
        return None;
    }
    Some(LeaseReport { returned: part.returned.or(part.cancelled), cancelled: Mask::EMPTY, ..part.clone() })
}

/// All jobs that a report names.
fn all_jobs(part: &LeaseReport) -> Mask {
    part.masks().fold(Mask::EMPTY, Mask::or)
}

/// Refuses a report that names a job twice, one that the lease does not hold, or one that has no attempt left.
fn check_part(lease: &Lease, part: &LeaseReport, bytes: &[u8]) -> Result<()> {
    let all = all_jobs(part);
    if part.jobs() != all.len() {
        return Err(Error::usage(format!("a report under lease {} names a job twice", part.lease)));
    }
    if !all.is_within(lease.jobs) {
        return Err(Error::usage(format!("a report under lease {} names jobs that it does not hold", part.lease)));
    }
    if all.iter().any(|at| bytes.get(at).is_none_or(|byte| JobState::of(*byte) != JobState::Open)) {
        return Err(Error::corrupt(format!("lease {} holds jobs that are not open", part.lease)));
    }
    let tried = part.postponed.iter().fold(all.minus(part.returned), |tried, (_, mask)| tried.minus(*mask));
    if tried.iter().any(|at| attempts(bytes[at]) >= MAX_ATTEMPTS) {
        return Err(Error::usage(format!("a report under lease {} goes beyond {MAX_ATTEMPTS} attempts", part.lease)));
    }
    Ok(())
}
