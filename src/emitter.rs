//! Where a source puts the jobs that it emits: into a draft, which its success adopts.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::job::{Job, JobError, JobResult};
use crate::payload::ChunkBuilder;
use crate::store::{Append, DraftKey, DraftOf, Part};
use crate::worker::backoff::Backoff;
use crate::worker::held::Held;

/// Chunks are sent together until they have so many bytes, or are so many.
const APPEND_BYTES: usize = 256 * 1024;
const APPEND_CHUNKS: usize = 64;

/// Takes the jobs that a [`Source`](crate::Source) emits.
pub struct Emitter<J> {
    held: Arc<Held>,
    draft: Option<DraftKey>,
    builder: ChunkBuilder,
    parts: Vec<Part>,
    bytes: usize,
    appended: u64,
    emitted: u64,
    broken: bool,
    jobs: PhantomData<fn(J)>,
}

impl<J> fmt::Debug for Emitter<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Emitter({} jobs)", self.emitted)
    }
}

impl<J: Job> Emitter<J> {
    pub(crate) fn new(held: Arc<Held>) -> Self {
        Self {
            held,
            draft: None,
            builder: ChunkBuilder::default(),
            parts: Vec::new(),
            bytes: 0,
            appended: 0,
            emitted: 0,
            broken: false,
            jobs: PhantomData,
        }
    }

    /// How many jobs have been emitted in this attempt.
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    /// Adds a job. Waits while the store takes in those before it, so a source of any size needs little memory.
    pub async fn emit(&mut self, job: J) -> JobResult<()> {
        let json = serde_json::to_vec(&job)?;
        let chunk = self
            .builder
            .push(&json)
            .map_err(|error| JobError::fatal(format!("job {} that was emitted: {error}", self.emitted)))?;
        self.emitted += 1;
        if let Some(chunk) = chunk {
            self.bytes += chunk.body.len();
            self.parts.push(Part::Jobs { step: 0, chunk });
            if self.bytes >= APPEND_BYTES || self.parts.len() >= APPEND_CHUNKS {
                self.append().await?;
            }
        }
        Ok(())
    }

    /// Sends what is left; returns the draft that holds everything, if anything was emitted.
    pub(crate) async fn finish(&mut self) -> JobResult<Option<u64>> {
        if self.broken {
            return Err(JobError::new("jobs that were emitted could not be stored"));
        }
        if let Some(chunk) = self.builder.finish() {
            self.parts.push(Part::Jobs { step: 0, chunk });
        }
        if !self.parts.is_empty() {
            self.append().await?;
        }
        Ok(self.draft())
    }

    /// The draft that has been begun, if any.
    pub(crate) fn draft(&self) -> Option<u64> {
        self.draft.map(|draft| draft.number)
    }

    /// Sends the parts that have gathered, again and again while the store is away: sent twice they count once.
    async fn append(&mut self) -> JobResult<()> {
        let fed = self.held.slice.feeds;
        let feeds = fed.ok_or_else(|| JobError::fatal("this step feeds no other, so nothing can be emitted"))?;
        let draft = *self.draft.get_or_insert_with(|| self.held.begin_draft());
        let append = Append {
            draft,
            of: DraftOf::Jobs { workflow: self.held.slice.workflow, step: feeds },
            number: self.appended,
            parts: std::mem::take(&mut self.parts),
            lease: self.held.lease_length,
        };
        let mut backoff = Backoff::new();
        while let Err(error) = self.held.store.append(append.clone()).await {
            if !error.is_transient() || self.held.token.is_cancelled() {
                // Parts are missing from here on: whatever the source makes of this error, it cannot succeed.
                self.broken = true;
                return Err(error.into());
            }
            tracing::warn!(%error, "the store does not take emitted jobs; it is tried again");
            tokio::time::sleep(backoff.next()).await;
        }
        self.bytes = 0;
        self.appended += 1;
        Ok(())
    }
}
