//! What tests are told of the store and of workers: `gusher::testing::ledger` says what for. Nothing without the feature `testing`.

#[cfg(not(feature = "testing"))]
mod off;
#[cfg(feature = "testing")]
mod on;

#[cfg(not(feature = "testing"))]
#[cfg_attr(not(feature = "sqlite"), allow(unused_imports))]
pub(crate) use off::{Ledger, Notes, Page};
#[cfg(feature = "testing")]
pub use on::{Kind, Ledger, Point, Record};
#[cfg(feature = "testing")]
pub(crate) use on::{Notes, Page};

use crate::id::{SessionId, WorkflowId};
use crate::state::JobState;

/// The bytes that name a workflow in ledgers.
pub(crate) fn of_workflow(id: WorkflowId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The bytes that name a session in ledgers.
pub(crate) fn of_session(id: SessionId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// What happens to jobs in a store's transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Granted,
    Settled(JobState),
    Retrying,
    Returned,
    TakenBack { expired: bool },
    Refused,
}

/// Which jobs it happens to: names as the ledger keeps them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Whose {
    pub workflow: u64,
    pub session: u64,
    pub lease: u64,
    pub step: u32,
    /// The index in the step of the chunk's first job.
    pub first: u64,
}
