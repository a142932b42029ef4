//! What people decide about jobs in place of running them: they are skipped, or have succeeded with an output that somebody gives.
//!
//! It goes the way of a retry: the step is reopened, held, changed by the chore `RetryJobs`, and settles anew. A job that is taken out of an
//! entry or a timer by this stays there in name; a claim passes over it, and what is left of it goes when the step settles.

use super::chore::Kind;
use super::lease::Taken;
use super::tx::{Chunk, Step, Tx, Wf};
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::{JobState, StepState};
use crate::store::{ByHand, DecideByHand, DecidedByHand, refuse_batch, refuse_repair};

/// The argument of a chore that skips all jobs of a step that have not succeeded.
pub const SKIP_ALL: i64 = -3;
/// How many chunks are looked at at once.
const CHUNKS: usize = 30;
/// From this many statements on a bite leaves the rest to the next one.
const SOFT_CALLS: u64 = 400;

/// What the argument of a chore says about one job: its index, and whether it is skipped or has succeeded.
fn one_job(argument: i64) -> (i64, JobState) {
    let code = (-4i64).saturating_sub(argument);
    (code / 2, if code % 2 == 0 { JobState::Skipped } else { JobState::Succeeded })
}

/// Whether a chore of that argument gives a job an output.
pub fn replaces(argument: i64) -> bool {
    argument < SKIP_ALL && one_job(argument).1 == JobState::Succeeded
}

fn argument(what: &ByHand) -> i64 {
    let of = |index: &u64| i64::try_from(*index).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    match what {
        ByHand::SkipAll => SKIP_ALL,
        ByHand::Skip { index } => -4 - 2 * of(index),
        ByHand::Replace { index, .. } => -5 - 2 * of(index),
    }
}

/// The hold of such a chore.
pub fn hold_name(argument: i64) -> String {
    match one_job(argument) {
        _ if argument == SKIP_ALL => "skip".to_owned(),
        (index, JobState::Skipped) => format!("skip #{index}"),
        (index, _) => format!("replace #{index}"),
    }
}

impl Tx<'_> {
    /// Notes what a person has decided about jobs; a chore brings it about.
    pub fn decide_by_hand(&mut self, decide: &DecideByHand) -> Result<DecidedByHand> {
        self.once(decide.session, decide.command, |tx| tx.begin_to_decide(decide))
    }

    fn begin_to_decide(&mut self, decide: &DecideByHand) -> Result<DecidedByHand> {
        let workflow = self.find(decide.workflow)?;
        super::command::refuse_lane(decide.workflow, workflow.state)?;
        refuse_repair(decide.workflow, workflow.state)?;
        refuse_batch(decide.workflow, workflow.batch.is_some())?;
        let (wf, number) = (workflow.wf, decide.step);
        let step = self.step(wf, number)?;
        let jobs = match &decide.what {
            ByHand::SkipAll => step.jobs.total.saturating_sub(step.jobs.succeeded + step.jobs.skipped),
            ByHand::Skip { index } | ByHand::Replace { index, .. } => {
                let state = self.state_of_job(wf, number, *index)?;
                match &decide.what {
                    ByHand::Replace { .. } if !matches!(state, JobState::Failed | JobState::Succeeded) => {
                        return Err(Error::refused(format!(
                            "job #{index} is {}; only one that has failed or succeeded can be given an output (`skip` ends it without one)",
                            state.as_str()
                        )));
                    }
                    ByHand::Replace { .. } if step.children => {
                        return Err(Error::refused(format!(
                            "job #{index} stands for a workflow, whose output is its own: replace that of the job which the workflow returns"
                        )));
                    }
                    ByHand::Skip { .. } => u64::from(!is_done(state)),
                    _ => 1,
                }
            }
        };
        let is_open = step.state == StepState::Waiting && step.decided.is_none();
        let nothing_to_do = jobs == 0 && !(decide.what == ByHand::SkipAll && step.jobs.total == 0 && is_open);
        if nothing_to_do {
            return Ok(DecidedByHand::default());
        }
        if let Some(held_by) = self.take_up_again(workflow, decide.workflow)? {
            return Ok(DecidedByHand { held_by: Some(held_by), ..DecidedByHand::default() });
        }
        if let ByHand::Replace { index, record } = &decide.what {
            // It counts as soon as the job's state is the one that it tells.
            let chunk = self.chunk_at(wf, number, i64::try_from(*index).unwrap_or(i64::MAX))?;
            self.count_bytes(record.len());
            self.run("INSERT INTO outcome (chunk, body) VALUES (?, ?)", (chunk.chunk, record))?;
        }
        self.leave_chore(Kind::Reopen, wf, number, 0, argument(&decide.what))?;
        Ok(DecidedByHand { jobs, more: true, held_by: None })
    }

    fn state_of_job(&mut self, wf: Wf, step: StepNumber, index: u64) -> Result<JobState> {
        let at = i64::try_from(index).unwrap_or(i64::MAX);
        let missing = || Error::not_found(format!("the step has no job #{index}"));
        let chunk = self.find_chunk(wf, step, at)?.ok_or_else(missing)?;
        Ok(JobState::of(self.bytes(chunk.chunk, chunk.jobs)?[(at - chunk.first) as usize]))
    }

    /// A bite of what has been decided about the jobs of a held step, from job `from` on; returns where to go on.
    pub fn decide_some(&mut self, wf: Wf, number: StepNumber, from: i64, argument: i64) -> Result<Option<i64>> {
        let step = self.step(wf, number)?;
        if argument != SKIP_ALL {
            self.decide_one(step, argument)?;
            return Ok(None);
        }
        if self.clear_lines(wf, number)? || self.end_leases_of(&step)? {
            return Ok(Some(from));
        }
        let chunks = self.chunks_from(wf, number, from, CHUNKS)?;
        for (nth, chunk) in chunks.iter().enumerate() {
            if nth > 0 && self.cost().calls + self.calls_at_end() >= SOFT_CALLS {
                return Ok(Some(chunk.first));
            }
            let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
            let jobs = (0..chunk.jobs).filter(|at| !is_done(JobState::of(bytes[*at]))).collect();
            self.end_jobs(&step, (chunk.chunk, chunk.first), bytes, jobs, JobState::Skipped)?;
        }
        let next = (chunks.len() == CHUNKS).then(|| chunks.last().map_or(0, |last| last.first + last.jobs as i64));
        if next.is_none() && step.children {
            self.leave_chore(Kind::CancelChildren, wf, number, 0, 0)?;
        }
        Ok(next)
    }

    fn decide_one(&mut self, step: Step, argument: i64) -> Result<()> {
        let (wf, number) = (step.wf, step.step);
        let (index, state) = one_job(argument);
        let Some(chunk) = self.find_chunk(wf, number, index)? else { return Ok(()) };
        let at = (index - chunk.first) as usize;
        if state == JobState::Skipped && !planted!("a late report counts for a job that was skipped") {
            // Its slice goes back as a whole, for a report counts as a whole.
            for lease in self.leases_where("chunk = ?1 LIMIT 1024", [chunk.chunk])? {
                if lease.jobs.contains(at) {
                    self.take_back(&lease, Taken::GivenBack)?;
                }
            }
        }
        if step.children {
            self.leave_chore(Kind::CancelChildren, wf, number, index, index + 1)?;
        }
        let step = self.step(wf, number)?;
        let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
        let before = JobState::of(bytes[at]);
        let changes = match state {
            JobState::Skipped => !is_done(before),
            _ => before == JobState::Failed && !planted!("an output given by hand leaves its job failed"),
        };
        let jobs = if changes { Mask::range(at..at + 1) } else { Mask::EMPTY };
        self.end_jobs(&step, (chunk.chunk, chunk.first), bytes, jobs, state)
    }

    /// Jobs of a chunk end so, whatever they were.
    fn end_jobs(&mut self, step: &Step, chunk: (i64, i64), bytes: Vec<u8>, jobs: Mask, state: JobState) -> Result<()> {
        let failed: Mask = jobs.iter().filter(|at| JobState::of(bytes[*at]) == JobState::Failed).collect();
        if !failed.is_empty() {
            self.forget_failed(step.wf, step.step, chunk.0, failed)?;
        }
        let at = Chunk { chunk: chunk.0, first: chunk.1, jobs: bytes.len() };
        let new: Mask = jobs.iter().filter(|at| !JobState::of(bytes[*at]).is_settled()).collect();
        self.count_early(step, &at, new, 1)?;
        self.settle_jobs(step.wf, step.step, chunk, bytes, jobs, state)?;
        match state {
            JobState::Succeeded => self.hand_on(step.wf, step.step, &at, jobs),
            _ => Ok(()),
        }
    }
}

/// Whether a job is left as it is when its step is skipped.
fn is_done(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Skipped | JobState::SkippedByPredecessor)
}
