//! Reports: **where jobs complete.** Each lease's part is checked whole before anything is written: a lease that is not held is
//! refused, a report number seen before changes nothing.

use super::lease::Lease;
use super::line::{End, Work};
use super::tx::{Step, Tx, Wf};
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::retry::due_time;
use crate::slice::Mask;
use crate::state::{JobState, MAX_ATTEMPTS, WorkflowState, attempts, job_byte};
use crate::store::{DraftKey, LeaseReport, MAX_REPORTED_LEASES, Report, Reported};

/// How many error texts a step's table holds.
const ERROR_TEXTS: i64 = 1000;
/// How many new error texts one lease's report may add to it.
const NEW_TEXTS: usize = 12;
/// The row that counts the failed jobs whose text the table has no room for.
const OTHER_ERRORS: u64 = 0;

impl Tx<'_> {
    /// Settles, retries or gives back jobs; settles steps, releases what follows, finishes workflows.
    pub fn report(&mut self, report: &Report) -> Result<Reported> {
        if report.leases.len() > MAX_REPORTED_LEASES {
            return Err(Error::usage(format!(
                "a report speaks of {} leases; at most {MAX_REPORTED_LEASES} are allowed",
                report.leases.len()
            )));
        }
        let mut reported = Reported::default();
        let session = self.session(report.session)?;
        for part in &report.leases {
            let condition = "session = ?1 AND number = ?2 LIMIT 1";
            let lease = match session {
                Some(session) => self.leases_where(condition, (session, part.lease as i64))?.pop(),
                None => None,
            };
            match lease {
                None => reported.refused.push(part.lease),
                Some(lease) if (part.number as i64) <= lease.last_report => {}
                Some(lease) => self.report_lease(report, &lease, part, &mut reported)?,
            }
        }
        self.cascade()?;
        reported.more = self.has_chores()?;
        reported.woken = self.wake_one()?;
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
        let cancelling = self.workflow(lease.wf)?.state == WorkflowState::Cancelling;
        let stops = cancelling && !step.always;
        if stops {
            reported.cancelled.push(part.lease);
        }

        let mut after = before.clone();
        self.settle_part(&step, lease, part, &before, &mut after, stops)?;
        if after != before {
            self.put_bytes(lease.chunk, &after)?;
        }
        let outcome = self.put_record(lease, part)?;
        self.note_known_errors(lease, part, reported)?;
        self.take_drafts(report, lease, part)?;

        let reported_jobs = all_jobs(part);
        let left = lease.jobs.minus(reported_jobs);
        let mut step = self.step(lease.wf, lease.step)?;
        let was_at_limit = step.is_at_limit();
        step.leased -= reported_jobs.len() as i64;
        self.put_step(step);
        if was_at_limit && !step.is_at_limit() {
            self.unpark_step(&step)?;
        }
        if left.is_empty() {
            self.run("DELETE FROM lease WHERE session = ? AND number = ?", (lease.session, lease.number))?;
        } else {
            let sql = "UPDATE lease SET jobs = ?3, last_report = ?4, outcome = ?5, record = ?6 WHERE session = ?1 AND number = ?2";
            // A part without a record leaves the open one as it is.
            let record = if part.record.is_empty() { lease.record } else { i64::from(part.record_number) };
            self.run(sql, (lease.session, lease.number, left.to_bytes(), part.number as i64, outcome, record))?;
        }
        self.check_settled(lease.wf, lease.step)
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
            tx.shift(wf, number, JobState::Open, state, mask.len() as u64)
        };
        put(self, after, part.succeeded, JobState::Succeeded, 1)?;
        put(self, after, part.failed, JobState::Failed, 1)?;
        put(self, after, part.cancelled, JobState::Cancelled, 1)?;
        for (wait, mask) in &part.retries {
            if stops {
                put(self, after, *mask, JobState::Cancelled, 1)?;
                continue;
            }
            put(self, after, *mask, JobState::Retrying, 1)?;
            let due = due_time(self.now, std::time::Duration::from_millis((*wait).max(0) as u64));
            self.set_timer(step, due, lease.chunk, lease.first, *mask)?;
        }
        if stops {
            put(self, after, part.returned, JobState::Cancelled, 0)
        } else if part.returned.is_empty() {
            Ok(())
        } else {
            let work = Work::Masked { chunk: lease.chunk, first: lease.first, jobs: part.returned };
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
        for number in self.note_errors(lease.wf, lease.step, &part.errors)? {
            reported.known_errors.push((part.lease, number));
        }
        Ok(())
    }

    /// Counts failed jobs by their texts, as far as the step's table has room; returns which texts it holds.
    pub fn note_errors(&mut self, wf: Wf, step: StepNumber, errors: &[(u64, String, u64)]) -> Result<Vec<u64>> {
        let mut known = Vec::new();
        let mut other = 0;
        let mut room = None;
        for (at, (number, text, jobs)) in errors.iter().enumerate() {
            let room = match room {
                Some(room) => room,
                None => {
                    let sql = "SELECT count(*) FROM (SELECT 1 FROM error WHERE wf = ? AND step = ? LIMIT ?)";
                    let there = self.one(sql, (wf, step, ERROR_TEXTS), |row| row.get::<_, i64>(0))?.unwrap_or(0);
                    *room.insert(there + (NEW_TEXTS as i64) < ERROR_TEXTS)
                }
            };
            let sql = "UPDATE error SET jobs = jobs + ?4 WHERE wf = ?1 AND step = ?2 AND number = ?3";
            if at < NEW_TEXTS && self.run(sql, (wf, step, *number as i64, *jobs as i64))? > 0 {
                known.push(*number);
            } else if at < NEW_TEXTS && room {
                let sql = "INSERT INTO error VALUES (?, ?, ?, ?, ?)";
                self.run(sql, (wf, step, *number as i64, text, *jobs as i64))?;
                known.push(*number);
            } else {
                other += *jobs as i64;
            }
        }
        if other > 0 {
            let sql = "INSERT INTO error VALUES (?1, ?2, ?3, '', ?4) ON CONFLICT DO UPDATE SET jobs = jobs + ?4";
            self.run(sql, (wf, step, OTHER_ERRORS as i64, other))?;
        }
        Ok(known)
    }

    /// Adopts what a successful source wrote, gives up what a failed one did.
    fn take_drafts(&mut self, report: &Report, lease: &Lease, part: &LeaseReport) -> Result<()> {
        let key = |number| DraftKey { session: report.session, number };
        if let Some(draft) = part.adopted {
            let feeds = self.step(lease.wf, lease.step)?.feeds;
            let feeds = feeds.ok_or_else(|| Error::usage("a job that is no source reported emitted jobs"))?;
            self.adopt(key(draft), lease.wf, feeds)?;
        }
        for draft in &part.dropped {
            self.abandon(Some(key(*draft)))?;
        }
        Ok(())
    }
}

/// All jobs that a report names.
fn all_jobs(part: &LeaseReport) -> Mask {
    let settled = part.succeeded.or(part.failed).or(part.returned).or(part.cancelled);
    part.retries.iter().fold(settled, |all, (_, mask)| all.or(*mask))
}

/// Refuses a report that names a job twice, one that the lease does not hold, or one that has no attempt left.
fn check_part(lease: &Lease, part: &LeaseReport, bytes: &[u8]) -> Result<()> {
    let masks = [part.succeeded, part.failed, part.returned, part.cancelled];
    let named: usize = masks.iter().chain(part.retries.iter().map(|(_, mask)| mask)).map(Mask::len).sum();
    let all = all_jobs(part);
    if named != all.len() {
        return Err(Error::usage(format!("a report under lease {} names a job twice", part.lease)));
    }
    if !all.is_within(lease.jobs) {
        return Err(Error::usage(format!("a report under lease {} names jobs that it does not hold", part.lease)));
    }
    if all.iter().any(|at| JobState::of(bytes[at]) != JobState::Open) {
        return Err(Error::corrupt(format!("lease {} holds jobs that are not open", part.lease)));
    }
    let tried = all.minus(part.returned);
    if tried.iter().any(|at| attempts(bytes[at]) >= MAX_ATTEMPTS) {
        return Err(Error::usage(format!("a report under lease {} goes beyond {MAX_ATTEMPTS} attempts", part.lease)));
    }
    Ok(())
}
