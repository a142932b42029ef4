//! What torture has found.

use std::fmt;

use super::Found;
use crate::render::words::count;
use crate::testing::simulation::script::JobKey;

/// What torture has found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TortureReport {
    /// How often the workflow was run.
    pub rounds: usize,
    /// How many calls to the store the undisturbed worker makes.
    pub calls: usize,
    /// In how many rounds the worker was killed.
    pub kills: usize,
    /// In how many rounds an answer of the store was lost.
    pub lost_answers: usize,
    /// How many attempts were made twice in the round in which each is.
    pub repeats: usize,
    /// The jobs that are not safe to repeat.
    pub unsafe_jobs: Vec<UnsafeJob>,
    /// Rounds that ended differently for another reason: no job that ran again in them is of a step with an unsafe one.
    pub surprises: Vec<Surprise>,
}

/// A job that is not safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsafeJob {
    /// The name of its step.
    pub step: String,
    /// Its number in the step.
    pub index: u64,
    /// Its type.
    pub job_type: String,
    /// Other jobs of the step without whose repetition there is no difference.
    pub together_with: Vec<u64>,
    /// Whether further jobs of the step are not safe either.
    pub more: bool,
    /// In what the workflow ends differently when it runs twice.
    pub difference: String,
    pub(super) key: JobKey,
}

/// A round that ended differently, which no unsafe job explains.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Surprise {
    /// What went wrong in it.
    pub what: String,
    /// In what it ended differently.
    pub difference: String,
}

impl TortureReport {
    /// Whether every round ended as the undisturbed run did.
    pub fn is_safe(&self) -> bool {
        self.unsafe_jobs.is_empty() && self.surprises.is_empty()
    }

    /// Adds what the unsafe jobs do not explain.
    pub(super) fn explain(&mut self, all_twice: Option<Found>, disturbed: Vec<(String, Found)>) {
        let is_unsafe = |(step, _): &JobKey| self.unsafe_jobs.iter().any(|job| job.key.0 == *step);
        let all = all_twice.map(|found| ("every job ran twice".to_owned(), found));
        self.surprises = all
            .into_iter()
            .chain(disturbed)
            .filter(|(_, found)| !found.repeated.iter().any(is_unsafe))
            .map(|(what, found)| {
                let what = match found.repeated.len() {
                    0 => what,
                    jobs => format!("{what}, and {} ran again", count(jobs as u64, "job")),
                };
                Surprise { what, difference: found.difference }
            })
            .collect();
    }
}

impl fmt::Display for UnsafeJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.step, self.index)?;
        if self.step != self.job_type {
            write!(f, " ({})", self.job_type)?;
        }
        write!(f, " is not safe to repeat")?;
        let with = match self.together_with.len() {
            0 => "it".to_owned(),
            others => format!("it and {} of its step", count(others as u64, "other")),
        };
        write!(f, ": with {with} run twice {}", self.difference)?;
        if self.more {
            write!(f, " (further jobs of its step are not safe, either)")?;
        }
        Ok(())
    }
}

impl fmt::Display for Surprise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.difference)
    }
}

impl fmt::Display for TortureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unsafe_jobs.iter().try_for_each(|job| writeln!(f, "{job}"))?;
        self.surprises.iter().try_for_each(|surprise| writeln!(f, "{surprise}"))?;
        if self.is_safe() {
            writeln!(f, "every round ended as the undisturbed run did")?;
        }
        write!(
            f,
            "{}: {} over {} to the store, {}, {} made twice",
            count(self.rounds as u64, "round"),
            count(self.kills as u64, "kill"),
            count(self.calls as u64, "call"),
            count(self.lost_answers as u64, "lost answer"),
            count(self.repeats as u64, "attempt"),
        )
    }
}
