//! What the verbs of checkpoints are given.

use crate::id::SessionId;

/// Parameters of [`Store::save_checkpoint`](super::Store::save_checkpoint): how far a running job has come.
#[derive(Clone, Debug)]
pub struct SaveCheckpoint {
    /// Who runs it.
    pub session: SessionId,
    /// The lease that holds it: only who holds a job says how far it is.
    pub lease: u64,
    /// Its position in its chunk.
    pub at: u16,
    /// What it goes on from, as JSON; the store never looks into it.
    pub body: Vec<u8>,
}
