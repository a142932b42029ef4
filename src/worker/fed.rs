//! What a worker has itself settled of steps that its eager sources feed: so a source that waits for its jobs need not ask the store, as long
//! as they run in the same process.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::held::Held;
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::store::LeaseReport;

/// A step that a source in this worker feeds.
#[derive(Debug, Default)]
pub struct Fed {
    known: Mutex<Known>,
    /// Fewer are unfinished than before.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// How many of its jobs have been reported from here.
    reported: u64,
    /// How many were unfinished by the store's last answer, and how many had been reported from here when it was asked.
    unfinished: u64,
    reported_then: u64,
}

impl Fed {
    /// How many of its jobs have been reported from here.
    pub fn reported(&self) -> u64 {
        self.known.lock().reported
    }

    /// The store has answered how many are unfinished; when it was asked so many had been reported.
    pub fn learn(&self, unfinished: u64, reported_then: u64) {
        let mut known = self.known.lock();
        (known.unfinished, known.reported_then) = (unfinished, reported_then);
        drop(known);
        self.changed.notify_waiters();
    }

    /// How many are unfinished, as far as is known here.
    pub fn unfinished(&self) -> u64 {
        let known = self.known.lock();
        known.unfinished.saturating_sub(known.reported.saturating_sub(known.reported_then))
    }
}

/// All of them, as long as a source needs them.
#[derive(Debug, Default)]
pub struct FedSteps(Mutex<Vec<(WorkflowId, StepNumber, Weak<Fed>)>>);

impl FedSteps {
    /// The one that a source feeds.
    pub fn of(&self, workflow: WorkflowId, step: StepNumber) -> Arc<Fed> {
        let mut all = self.0.lock();
        all.retain(|(.., fed)| fed.strong_count() > 0);
        let there = all.iter().find(|(of, number, _)| (*of, *number) == (workflow, step));
        if let Some(fed) = there.and_then(|(.., fed)| fed.upgrade()) {
            return fed;
        }
        let fed = Arc::new(Fed::default());
        all.push((workflow, step, Arc::downgrade(&fed)));
        fed
    }

    /// Jobs have been reported.
    pub fn reported(&self, held: &Held, part: &LeaseReport) {
        let all = self.0.lock();
        if all.is_empty() {
            return;
        }
        let here = all.iter().find(|(of, number, _)| (*of, *number) == (held.slice.workflow, held.slice.step));
        if let Some(fed) = here.and_then(|(.., fed)| fed.upgrade()) {
            let settled = [part.succeeded, part.failed, part.skipped, part.cancelled].map(|jobs| jobs.len() as u64);
            fed.known.lock().reported += settled.iter().sum::<u64>();
            fed.changed.notify_waiters();
        }
    }
}
