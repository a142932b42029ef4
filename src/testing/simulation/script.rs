//! What goes wrong in one run of a simulation.

use std::collections::BTreeSet;
use std::fmt;

use crate::graph::StepNumber;

/// A job: the number of its step, and its own in the step.
pub type JobKey = (StepNumber, u64);

/// What goes wrong in one run.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// At which call of a worker to its store, counted from 1.
    pub fault: Option<(u64, Fault)>,
    /// Which jobs run again after they have run.
    pub again: Again,
}

impl Script {
    /// This goes wrong at that call.
    pub fn fault(call: usize, fault: Fault) -> Self {
        Self { fault: Some((call as u64, fault)), again: Again::None }
    }

    /// These jobs run again.
    pub fn again(jobs: Again) -> Self {
        Self { fault: None, again: jobs }
    }
}

/// What happens at a call to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The worker's process dies before the store hears of the call.
    KilledBefore,
    /// It dies once the call has taken effect, before it hears the answer.
    KilledAfter,
    /// The call takes effect, but instead of its answer there is an error, after which it is sent again.
    AnswerLost,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KilledBefore => "the worker was killed before its call",
            Self::KilledAfter => "the worker was killed after its call",
            Self::AnswerLost => "the answer was lost to call",
        })
    }
}

/// Which jobs run again after they have run, as if the report of the first time had never arrived.
#[derive(Clone, Debug, Default)]
pub enum Again {
    #[default]
    None,
    All,
    These(BTreeSet<JobKey>),
}

impl Again {
    pub fn includes(&self, job: JobKey) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(jobs) => jobs.contains(&job),
        }
    }
}
