//! What the verb that cancels lone jobs is given and answers.

use crate::clock::Millis;
use crate::id::WorkflowId;
use crate::slice::Mask;
use crate::store::Woken;

/// Parameters of [`Store::cancel_jobs`](super::Store::cancel_jobs): lone jobs of one chunk.
#[derive(Clone, Copy, Debug)]
pub struct CancelJobs {
    /// The lane.
    pub lane: WorkflowId,
    /// The index from which on `jobs` counts.
    pub index: u64,
    /// The jobs. All are in the chunk that holds the job of that index.
    pub jobs: Mask,
    /// For how long what is cancelled at once is kept, in milliseconds; 0: it is not wanted any more.
    pub keep: Millis,
}

/// What [`Store::cancel_jobs`](super::Store::cancel_jobs) answers: how the jobs stand that were named. Those that are not counted had
/// settled otherwise, or are not there any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CancelledJobs {
    /// How many of them are cancelled, now or since before.
    pub cancelled: u32,
    /// How many are under a lease: their workers are told with the next renewal or report, and start them no more.
    pub stopping: u32,
    /// The loopback ports of those workers: who is told renews at once.
    pub told: Woken,
}
