//! What the verbs of eager sources are given and answer.

use super::verbs::Woken;
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::payload::Chunk;

/// The most chunks that one adoption brings.
pub const MAX_ADOPTED_CHUNKS: usize = 64;

/// Parameters of [`Store::adopt`](super::Store::adopt): a running source has emitted jobs, which are there from now on, whatever becomes of it.
#[derive(Clone, Debug)]
pub struct Adopt {
    /// Who runs it.
    pub session: SessionId,
    /// The lease that holds it: only who holds a source adds to what it has emitted.
    pub lease: u64,
    /// Its position in its chunk.
    pub at: u16,
    /// How many jobs of it were stored before these: by that a repeated call is known.
    pub before: u64,
    /// The jobs, at most [`MAX_ADOPTED_CHUNKS`]; none, to ask how many are unfinished.
    pub chunks: Vec<Chunk>,
}

impl Adopt {
    /// How many jobs it brings.
    pub fn jobs(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.jobs)).sum()
    }

    /// Refuses one that brings more than one operation may look at: every store begins with it.
    pub fn check(&self) -> Result<()> {
        if self.chunks.len() > MAX_ADOPTED_CHUNKS {
            return Err(Error::usage(format!(
                "an adoption brings {} chunks; at most {MAX_ADOPTED_CHUNKS} are allowed",
                self.chunks.len()
            )));
        }
        Ok(())
    }

    /// Whether it is new to a store in which so many jobs of the source are; false if they are there already.
    pub fn is_new(&self, stored: u64) -> Result<bool> {
        match stored {
            stored if stored == self.before => Ok(true),
            stored if stored == self.before + self.jobs() => Ok(false),
            stored => Err(Error::usage(format!(
                "a source adds {} jobs to {} that are stored of it, but {stored} are",
                self.jobs(),
                self.before
            ))),
        }
    }
}

/// What [`Store::adopt`](super::Store::adopt) answers.
#[derive(Clone, Debug, Default)]
pub struct Adopted {
    /// How many jobs of the source are stored now.
    pub stored: u64,
    /// How many jobs of the step that it feeds have not settled: those of other sources included.
    pub unfinished: u64,
    /// Whether the workflow is being cancelled, or the source's step fails fast: nothing has been added, and the source is to come to its end.
    pub cancelled: bool,
    /// Whom to wake.
    pub woken: Woken,
}

/// What [`Store::emitted`](super::Store::emitted) answers: what is stored of an eager source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emitted {
    /// How many jobs, of all its attempts.
    pub jobs: u64,
    /// The packed parameters of the chunk that ends with the last of them, as they were emitted; nothing, if there are none.
    pub last: Option<Vec<u8>>,
}
