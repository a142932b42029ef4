//! What has become of every job so far, as the records say, and what must not have happened.

use std::collections::{HashMap, HashSet};

use super::record::{Kind, Record, state_name};

const OPEN: u8 = 0;
const RETRYING: u8 = 1;
/// A state of this program's own: under a lease.
const LEASED: u8 = 8;
const SUCCEEDED: u8 = 3;
const FAILED: u8 = 4;
const CANCELLED: u8 = 6;

/// An invariant that the records contradict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub text: String,
    /// The record that shows it, by its place in the order of all; none if it is seen in the end only.
    pub at: Option<usize>,
    pub workflow: u64,
    pub step: u16,
    pub job: u64,
}

/// What may be violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every job that appears was made.
    Undeclared,
    /// A step's jobs are handed out once what it waits for has settled.
    Early,
    /// A job is under one lease at most.
    Overlap,
    /// A job that has settled is not handed out, and does not settle again.
    SettledTwice,
    /// Nothing counts under a lease that has been taken back.
    Unfenced,
    /// Nothing counts under a lease that does not hold the job.
    NotHeld,
    /// A report under a lease that is held is not refused.
    WronglyRefused,
    /// What has succeeded has been run.
    WithoutEffect,
    /// Attempts are counted right.
    Attempts,
    /// Every job that was made is settled in the end.
    Lost,
    /// The store says in the end what the records say.
    Disagrees,
    /// Each kill hits a process that holds unsettled jobs.
    IdleKill,
}

/// A job; 20 bytes, for there are millions.
#[derive(Clone, Copy, Debug, Default)]
struct Job {
    state: u8,
    attempts: u8,
    recoveries: u8,
    effects: u8,
    /// The state in which its last attempt ended, and under which lease.
    ended: u8,
    is_final: bool,
    ended_under: u32,
    lease: u32,
    /// The kill that it has to recover from.
    kill: u32,
}

#[derive(Debug, Default)]
struct Step {
    jobs: Vec<Job>,
    settled: usize,
    upstream: Vec<(u64, u16)>,
}

#[derive(Debug, Default)]
struct Lease {
    held: u32,
    taken_back: bool,
}

/// Jobs in a row that were granted.
#[derive(Debug)]
struct Grant {
    lease: u32,
    step: (u64, u16),
    jobs: std::ops::Range<u64>,
}

/// A process that was killed, and when its jobs went on.
#[derive(Debug)]
pub struct Kill {
    pub at: u64,
    /// Whether each of its jobs had lost a worker before: such ones wait for a worker that holds nothing else.
    pub suspect: bool,
    /// When the store had taken back the last of its leases.
    pub back: Option<u64>,
    /// When the first of its jobs was started again.
    pub again: Option<u64>,
}

/// Counts for people.
#[derive(Debug, Default)]
pub struct Tally {
    pub workflows: u64,
    pub grants: u64,
    pub attempts: u64,
    pub recovered: u64,
    pub refused: u64,
    pub stops: u64,
    pub states: [u64; 8],
    /// Attempts that ended after their lease had been taken back.
    pub late: u64,
    /// Jobs that had their effect more than once, each time under the same key.
    pub repeated: u64,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Book {
    steps: HashMap<(u64, u16), Step>,
    numbers: HashMap<(u64, u32), u32>,
    /// From 1 on: 0 stands for no lease.
    leases: Vec<Lease>,
    /// The sessions of each ledger's process.
    sessions: HashMap<u64, Vec<u64>>,
    /// What each session was granted.
    of_session: HashMap<u64, Vec<Grant>>,
    pub kills: Vec<Kill>,
    /// Which kill each process died of, and the ledger that told it first.
    died_of: HashMap<u64, (u32, u64)>,
    /// The ledgers of processes that have killed themselves.
    killed_itself: HashSet<u64>,
    pub tally: Tally,
    pub violations: Vec<Violation>,
}

impl Book {
    /// Notes what a harness says was made. Comes before everything else.
    pub fn declare(&mut self, record: &Record) {
        match record.kind {
            Kind::Workflow => self.tally.workflows += 1,
            Kind::Step => {
                let step = self.steps.entry((record.workflow, record.step)).or_default();
                step.jobs.resize(record.first as usize, Job::default());
            }
            Kind::Edge => {
                let step = self.steps.entry((record.workflow, record.step)).or_default();
                step.upstream.push((record.workflow, record.first as u16));
            }
            _ => {}
        }
    }

    /// Notes whose a session is. Comes before everything else, too.
    pub fn joined(&mut self, ledger: u64, session: u64) {
        self.sessions.entry(ledger).or_default().push(session);
    }

    /// How many jobs were made.
    pub fn jobs(&self) -> usize {
        self.steps.values().map(|step| step.jobs.len()).sum()
    }

    /// Takes the next record; `at` is its place in the order of all, `ledger` the one that it stands in.
    pub fn take(&mut self, at: usize, ledger: u64, record: &Record) {
        match record.kind {
            Kind::Granted => self.granted(at, record),
            Kind::Settled | Kind::Retrying | Kind::Returned => self.reported(at, record),
            Kind::TakenBack => self.taken_back(at, record),
            Kind::Refused => self.refused(at, record),
            Kind::Started => self.started(at, record),
            Kind::Ended => self.ended(at, record),
            Kind::Killed => self.killed(at, ledger, record),
            Kind::Stopped => self.tally.stops += 1,
            _ => {}
        }
    }

    fn lease(&mut self, record: &Record) -> u32 {
        if self.leases.is_empty() {
            self.leases.push(Lease::default());
        }
        let next = self.leases.len() as u32;
        let number = *self.numbers.entry((record.who, record.lease)).or_insert(next);
        if number == next {
            self.leases.push(Lease::default());
        }
        number
    }

    /// Calls `change` for each job of a record that was made; it says what is wrong, if anything is.
    fn each(
        &mut self,
        at: usize,
        record: &Record,
        mut change: impl FnMut(&mut Job, &mut [Lease], &mut Tally, &mut [Kill]) -> Result<(), (Rule, String)>,
    ) {
        let (workflow, number) = (record.workflow, record.step);
        let violation = |rule, text, job| Violation { rule, text, at: Some(at), workflow, step: number, job };
        let Some(step) = self.steps.get_mut(&(workflow, number)) else {
            let text = "this step was never made".to_owned();
            return self.violations.push(violation(Rule::Undeclared, text, record.first));
        };
        for index in record.jobs() {
            let Some(job) = step.jobs.get_mut(index as usize) else {
                let text = format!("the step was made with {} jobs", step.jobs.len());
                self.violations.push(violation(Rule::Undeclared, text, index));
                return;
            };
            let was_final = job.is_final;
            if let Err((rule, text)) = change(job, &mut self.leases, &mut self.tally, &mut self.kills) {
                self.violations.push(violation(rule, text, index));
            }
            step.settled += usize::from(job.is_final && !was_final);
        }
    }

    /// That everything which a step waits for has settled.
    fn check_upstream(&mut self, at: usize, record: &Record) {
        let Some(step) = self.steps.get(&(record.workflow, record.step)) else { return };
        for upstream in &step.upstream {
            let Some(before) = self.steps.get(upstream) else { continue };
            if before.settled < before.jobs.len() {
                let left = before.jobs.len() - before.settled;
                self.violations.push(Violation {
                    rule: Rule::Early,
                    text: format!("{left} of {} jobs of step {} had not settled", before.jobs.len(), upstream.1),
                    at: Some(at),
                    workflow: record.workflow,
                    step: record.step,
                    job: record.first,
                });
                return;
            }
        }
    }

    fn granted(&mut self, at: usize, record: &Record) {
        self.check_upstream(at, record);
        let lease = self.lease(record);
        self.tally.grants += 1;
        let grant = Grant { lease, step: (record.workflow, record.step), jobs: record.jobs() };
        self.of_session.entry(record.who).or_default().push(grant);
        self.each(at, record, |job, leases, _, _| {
            let before = job.state;
            leases[lease as usize].held += 1;
            if before == LEASED {
                leases[job.lease as usize].held -= 1;
            }
            (job.state, job.lease) = (LEASED, lease);
            match before {
                OPEN | RETRYING => Ok(()),
                LEASED => Err((Rule::Overlap, "granted while another lease holds it".to_owned())),
                done => Err((Rule::SettledTwice, format!("granted although it has {}", state_name(done)))),
            }
        });
    }

    /// Settled, retrying or returned.
    fn reported(&mut self, at: usize, record: &Record) {
        let lease = if record.lease == 0 { 0 } else { self.lease(record) };
        self.each(at, record, |job, leases, tally, _| {
            let before = job.state;
            let is_final = record.kind == Kind::Settled;
            let holds = if lease == 0 { before != LEASED } else { before == LEASED && job.lease == lease };
            if before == LEASED {
                leases[job.lease as usize].held -= 1;
            }
            job.state = match record.kind {
                Kind::Settled => record.detail,
                Kind::Retrying => RETRYING,
                _ => OPEN,
            };
            let ended = if job.ended_under == lease { job.ended } else { 0 };
            // What a cancel met before it began has used up no attempt, and neither has what the store settled itself.
            let tried = match job.state {
                OPEN => false,
                CANCELLED => ended != 0,
                _ => lease != 0,
            };
            job.attempts += u8::from(tried);
            tally.states[usize::from(job.state & 7)] += u64::from(is_final);
            let was_final = std::mem::replace(&mut job.is_final, is_final);
            if was_final {
                return Err((Rule::SettledTwice, format!("it had {} before", state_name(before))));
            }
            if !holds && lease != 0 && leases[lease as usize].taken_back {
                return Err((Rule::Unfenced, "the lease had been taken back".to_owned()));
            }
            if !holds {
                return Err((Rule::NotHeld, "the lease does not hold this job".to_owned()));
            }
            let needed = if job.state == RETRYING { FAILED } else { job.state };
            if lease != 0 && matches!(job.state, SUCCEEDED | FAILED | RETRYING) && ended != needed {
                return Err((Rule::WithoutEffect, "its worker noted no such attempt under this lease".to_owned()));
            }
            Ok(())
        });
    }

    fn taken_back(&mut self, at: usize, record: &Record) {
        let lease = self.lease(record);
        self.leases[lease as usize].taken_back = true;
        self.each(at, record, |job, leases, tally, kills| {
            if job.state != LEASED || job.lease != lease {
                return Err((Rule::NotHeld, "taken back from a lease that does not hold it".to_owned()));
            }
            leases[lease as usize].held -= 1;
            job.state = OPEN;
            job.recoveries += record.detail;
            tally.recovered += u64::from(record.detail);
            if let Some(kill) = kills.get_mut((job.kill as usize).wrapping_sub(1)) {
                kill.back = Some(record.at);
            }
            Ok(())
        });
    }

    fn refused(&mut self, at: usize, record: &Record) {
        self.tally.refused += 1;
        let lease = self.lease(record);
        if self.leases[lease as usize].held > 0 {
            let text = format!("{} jobs were under it", self.leases[lease as usize].held);
            self.violations.push(Violation {
                rule: Rule::WronglyRefused,
                text,
                at: Some(at),
                workflow: record.workflow,
                step: record.step,
                job: record.first,
            });
        }
    }

    fn started(&mut self, at: usize, record: &Record) {
        self.check_upstream(at, record);
        let lease = self.lease(record);
        self.each(at, record, |job, leases, _, kills| {
            if let Some(kill) = kills.get_mut((job.kill as usize).wrapping_sub(1)) {
                kill.again.get_or_insert(record.at);
                job.kill = 0;
            }
            let holds = job.state == LEASED && job.lease == lease;
            if holds && u32::from(job.attempts) + 1 != record.count {
                return Err((Rule::Attempts, format!("{} attempts were used up before", job.attempts)));
            }
            if !holds && leases[lease as usize].held == 0 && !leases[lease as usize].taken_back {
                return Err((Rule::NotHeld, "started under a lease that was never granted".to_owned()));
            }
            Ok(())
        });
    }

    fn ended(&mut self, at: usize, record: &Record) {
        self.tally.attempts += u64::from(record.detail != 0);
        let lease = self.lease(record);
        self.each(at, record, |job, _, tally, _| {
            if job.state != LEASED || job.lease != lease {
                tally.late += 1;
            } else {
                (job.ended, job.ended_under) = (record.detail, lease);
            }
            if record.detail == SUCCEEDED {
                tally.repeated += u64::from(job.effects == 1);
                job.effects = job.effects.saturating_add(1);
            }
            Ok(())
        });
    }

    fn killed(&mut self, at: usize, ledger: u64, record: &Record) {
        // Who has noted that it kills itself may be killed by another before it comes to that.
        if self.killed_itself.contains(&record.who) {
            return;
        }
        if ledger == record.who {
            self.killed_itself.insert(ledger);
        }
        // A store of several parts notes it in each of them that had granted something.
        let known = self.died_of.get(&record.who).filter(|(_, told_by)| *told_by != ledger).map(|(kill, _)| *kill);
        let kill = known.unwrap_or_else(|| {
            self.kills.push(Kill { at: record.at, suspect: true, back: None, again: None });
            let kill = self.kills.len() as u32;
            self.died_of.insert(record.who, (kill, ledger));
            kill
        });
        let (mut hit, mut suspect) = (0, true);
        let sessions = self.sessions.get(&record.who).into_iter().flatten();
        let grants: Vec<Grant> = sessions.filter_map(|session| self.of_session.remove(session)).flatten().collect();
        for grant in grants {
            let jobs = self.steps.get_mut(&grant.step).map_or(&mut [][..], |step| &mut step.jobs);
            let granted = jobs.iter_mut().take(grant.jobs.end as usize).skip(grant.jobs.start as usize);
            for job in granted.filter(|job| job.state == LEASED && job.lease == grant.lease) {
                job.kill = kill;
                hit += 1;
                suspect &= job.recoveries > 0;
            }
        }
        if let Some(kill) = self.kills.get_mut(kill as usize - 1) {
            kill.suspect &= suspect;
        }
        if hit == 0 && known.is_some() {
            return;
        }
        if hit == 0 && ledger == record.who {
            // Who kills itself at some point of its code cannot know what the store holds; it just does not count.
            self.kills.pop();
            self.died_of.remove(&record.who);
        } else if hit == 0 {
            self.violations.push(Violation {
                rule: Rule::IdleKill,
                text: "the killed process held no unsettled job".to_owned(),
                at: Some(at),
                workflow: 0,
                step: 0,
                job: 0,
            });
        }
    }

    /// Compares with what the store says of jobs in the end.
    pub fn compare(&mut self, at: usize, record: &Record) {
        let (state, attempts, recoveries) = (record.detail & 7, record.detail >> 3, record.lease);
        self.each(at, record, |job, _, _, _| {
            let known = if job.state == LEASED { OPEN } else { job.state };
            if known != state {
                let text = format!("by the records it is {}, by the store {}", state_name(known), state_name(state));
                return Err((Rule::Disagrees, text));
            }
            if job.attempts != attempts || u32::from(job.recoveries) != recoveries {
                let text = format!(
                    "by the records {} attempts and {} recoveries, by the store {attempts} and {recoveries}",
                    job.attempts, job.recoveries
                );
                return Err((Rule::Attempts, text));
            }
            // Seen by the store; what is not is lost, whatever the records say.
            job.kill = u32::MAX;
            Ok(())
        });
    }

    /// That every job has settled, and that the store has it if it was asked.
    pub fn finish(&mut self, store_was_asked: bool) {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by_key(|(name, _)| **name);
        for ((workflow, number), step) in steps {
            let lost = step.jobs.iter().enumerate().find_map(|(index, job)| match job {
                job if !job.is_final => Some((index, format!("it was made and never settled: {}", self::shown(job)))),
                job if store_was_asked && job.kill != u32::MAX => {
                    Some((index, "the store does not have it in the end".to_owned()))
                }
                _ => None,
            });
            if let Some((index, text)) = lost {
                let (workflow, step) = (*workflow, *number);
                self.violations.push(Violation { rule: Rule::Lost, text, at: None, workflow, step, job: index as u64 });
            }
        }
    }
}

fn shown(job: &Job) -> &'static str {
    if job.state == LEASED { "it is under a lease" } else { state_name(job.state) }
}
