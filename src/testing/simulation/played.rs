//! What came of code that was played in a simulation: what it has enqueued, and what became of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::run::{Attempt, Settled, settled_jobs};
use crate::error::{Error, Result};
use crate::id::WorkflowId;
use crate::job::Job;
use crate::lone::JobId;
use crate::state::JobState;
use crate::store::Store;

/// A lone job as it was enqueued.
#[derive(Clone, Debug)]
pub struct Noted {
    pub id: JobId,
    pub job_type: String,
    pub queue: String,
    pub priority: i32,
    pub at: Duration,
    pub later: Option<Duration>,
    pub parameters: String,
    /// What became of it; `None` as long as that is for the store to say.
    pub settled: Option<Settled>,
}

/// What code has enqueued that was [played](super::Simulation::play), and what became of it.
#[derive(Clone, Debug)]
pub struct Played {
    pub(super) enqueued: Vec<Noted>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) elapsed: Duration,
}

/// A lone job of type `J` that was enqueued in a simulation, and what became of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Enqueued<J: Job> {
    /// The job, with its parameters.
    pub job: J,
    /// The queue that it went into.
    pub queue: String,
    /// Its priority there.
    pub priority: i32,
    /// When it was enqueued, in virtual time since the simulation began.
    pub at: Duration,
    /// How much later it might start, if not at once.
    pub later: Option<Duration>,
    /// What became of it.
    pub state: JobState,
    /// What it returned, if it succeeded.
    pub output: Option<J::Output>,
    /// Its last error, if it did not.
    pub error: Option<String>,
    /// The attempts at it.
    pub attempts: Vec<Attempt>,
}

impl Played {
    /// The lone jobs of a type, in the order in which they were enqueued, by the code or by jobs. An error if they are of another type
    /// with that name.
    pub fn enqueued<J: Job>(&self) -> Result<Vec<Enqueued<J>>> {
        self.enqueued.iter().filter(|noted| noted.job_type == J::NAME).map(|noted| self.told(noted)).collect()
    }

    /// How many attempts there were at the jobs of a type, those of workflows included.
    pub fn ran<J: Job>(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.job_type == J::NAME).count()
    }

    /// Every attempt at every job, in the order in which they started.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Type and last error of the lone jobs that failed for good, in the order in which they were enqueued.
    pub fn failures(&self) -> Vec<(&str, &str)> {
        let failed = |noted: &&Noted| state(noted) == JobState::Failed;
        let failed = self.enqueued.iter().filter(failed);
        failed.map(|noted| (noted.job_type.as_str(), error(noted).unwrap_or_default())).collect()
    }

    /// How much virtual time it took until the last job had ended.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    fn told<J: Job>(&self, noted: &Noted) -> Result<Enqueued<J>> {
        let unlike =
            |what: &str, e| Error::usage(format!("the {what} of {} is not one of {}", noted.id, J::NAME)).because(e);
        let output = noted.settled.as_ref().and_then(|settled| settled.output.as_deref());
        let of_it = |attempt: &&Attempt| (attempt.workflow, attempt.index) == (noted.id.lane, noted.id.index);
        Ok(Enqueued {
            job: serde_json::from_str(&noted.parameters).map_err(|e| unlike("parameters", e))?,
            queue: noted.queue.clone(),
            priority: noted.priority,
            at: noted.at,
            later: noted.later,
            state: state(noted),
            output: output.map(serde_json::from_str).transpose().map_err(|e| unlike("output", e))?,
            error: error(noted).map(str::to_owned),
            attempts: self.attempts.iter().filter(of_it).cloned().collect(),
        })
    }
}

fn state(noted: &Noted) -> JobState {
    noted.settled.as_ref().map_or(JobState::Open, |settled| settled.state)
}

fn error(noted: &Noted) -> Option<&str> {
    noted.settled.as_ref().and_then(|settled| settled.error.as_deref())
}

/// Notes what became of the jobs that went to the store.
pub async fn note_what_became(store: &Arc<dyn Store>, enqueued: &mut [Noted]) -> Result<()> {
    let mut lanes: BTreeMap<WorkflowId, BTreeMap<u64, Settled>> = BTreeMap::new();
    for noted in enqueued.iter_mut().filter(|noted| noted.settled.is_none()) {
        let JobId { lane, index } = noted.id;
        if let std::collections::btree_map::Entry::Vacant(new) = lanes.entry(lane) {
            new.insert(settled_jobs(store, lane, 0).await?.into_iter().collect());
        }
        let kept = lanes.get_mut(&lane).and_then(|jobs| jobs.remove(&index));
        // Only what succeeded without an output is forgotten before a simulation ends.
        let forgotten = || Settled { state: JobState::Succeeded, output: Some("null".to_owned()), error: None };
        noted.settled = Some(kept.unwrap_or_else(forgotten));
    }
    Ok(())
}
