//! What the verbs of checkpoints are given and answer.

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
    /// What of its draft the checkpoint covers, if it is a source and has emitted anything.
    pub covers: Option<Covers>,
}

/// How much of a draft a checkpoint covers: all that has been written so far. The draft is kept for as long as the checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covers {
    /// The session's draft.
    pub draft: u64,
    /// How many calls have written it.
    pub calls: u64,
}

/// Parameters of [`Store::take_draft`](super::Store::take_draft): another attempt goes on with what was emitted before a checkpoint.
#[derive(Clone, Debug)]
pub struct TakeDraft {
    /// Who runs the job now.
    pub session: SessionId,
    /// The lease that holds it.
    pub lease: u64,
    /// Its position in its chunk.
    pub at: u16,
    /// Which of the session's drafts it becomes; one that it has not used before.
    pub draft: u64,
}

/// What [`Store::take_draft`](super::Store::take_draft) answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenDraft {
    /// What the job goes on from; nothing, if it has saved nothing, or if what it had emitted is gone: then it begins anew.
    pub body: Option<Vec<u8>>,
    /// How many calls have written what there is in the draft: the number of the next. With 0 there is no draft.
    pub calls: u64,
    /// How many jobs are in it.
    pub jobs: u64,
    /// Whether there is more behind the checkpoint than one call cuts: call again.
    pub more: bool,
}
