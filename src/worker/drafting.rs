//! Jobs on their way into the store: they gather until a call is worth it, and are sent again and again while the store is away.

use crate::error::Result;
use crate::payload::{Chunk, ChunkBuilder};
use crate::store::{Append, MAX_ADOPTED_CHUNKS, Part};

use super::backoff::Backoff;
use super::held::Held;

/// Chunks are sent together once they have so many bytes, or are so many: what is not a whole chunk yet may come with them.
const BYTES: usize = 256 * 1024;
const CHUNKS: usize = MAX_ADOPTED_CHUNKS - 1;

/// Jobs that have not been sent.
#[derive(Debug, Default)]
pub struct Gathered {
    builder: ChunkBuilder,
    chunks: Vec<Chunk>,
    bytes: usize,
}

impl Gathered {
    /// Adds a job, as JSON; returns whether there is enough for a call.
    pub fn push(&mut self, json: &[u8]) -> Result<bool> {
        let chunk = self.builder.push(json)?;
        Ok(chunk.is_some_and(|chunk| self.push_chunk(chunk)))
    }

    /// Adds jobs; returns whether there is enough for a call.
    pub fn push_chunk(&mut self, chunk: Chunk) -> bool {
        self.bytes += chunk.body.len();
        self.chunks.push(chunk);
        self.bytes >= BYTES || self.chunks.len() >= CHUNKS
    }

    /// Takes what makes whole chunks.
    pub fn take(&mut self) -> Vec<Chunk> {
        self.bytes = 0;
        std::mem::take(&mut self.chunks)
    }

    /// Takes all there is.
    pub fn take_rest(&mut self) -> Vec<Chunk> {
        self.chunks.extend(self.builder.finish());
        self.take()
    }
}

/// Chunks as the parts of a draft.
pub fn parts(chunks: Vec<Chunk>) -> Vec<Part> {
    chunks.into_iter().map(|chunk| Part::Jobs { step: 0, chunk }).collect()
}

/// Writes what a running job emits or adds into its draft, until the store has taken it: sent twice it counts once.
pub async fn append(held: &Held, append: Append) -> Result<()> {
    let mut backoff = Backoff::new();
    while let Err(error) = held.store.append(append.clone()).await {
        wait_for_the_store(held, error, &mut backoff).await?;
    }
    Ok(())
}

/// A call in a job's name has failed: returns once it may be repeated, or with the error.
pub async fn wait_for_the_store(held: &Held, error: crate::Error, backoff: &mut Backoff) -> Result<()> {
    if !error.is_transient() || held.token.is_cancelled() {
        return Err(error);
    }
    tracing::warn!(%error, step = %held.slice.step_name, "the store does not take what a job emits or adds; it is tried again");
    tokio::time::sleep(backoff.next()).await;
    Ok(())
}
