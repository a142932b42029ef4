//! Adding many jobs: they are written as they come from their iterator into a draft, which one call adds.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Batch;
use crate::creation::answered;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::StepSpec;
use crate::payload::{Chunk, ChunkBuilder};
use crate::store::{Append, DraftKey, DraftOf, Part};
use crate::workflow::JobStream;

/// Chunks go to the store together until they have so many bytes, or are so many.
const APPEND_BYTES: usize = 256 * 1024;
const APPEND_CHUNKS: usize = 40;

impl Batch {
    /// Adds all jobs of a stream, or none; returns how many.
    pub(super) async fn add_stream(&self, spec: StepSpec, jobs: JobStream) -> Result<u64> {
        let key = self.client().new_draft();
        let mut draft = Writing { batch: self, key, spec: &spec, calls: 0 };
        let written = draft.write(jobs).await;
        let drafted = (draft.calls > 0).then_some(key);
        let added = match written {
            Ok(None) if drafted.is_none() => return Ok(0),
            Ok(last) => self.give(spec, drafted, last).await,
            Err(error) => Err(error),
        };
        // What may have been added is no draft any more; and should this fail, a draft dies by itself.
        if let (Err(error), Some(key)) = (&added, drafted)
            && error.kind() != ErrorKind::Unavailable
            && let Err(error) = self.store().abandon(self.id(), key).await
        {
            tracing::debug!(%error, "a draft is left to die by itself");
        }
        Ok(added?.jobs)
    }
}

/// A draft of jobs for a batch.
struct Writing<'b> {
    batch: &'b Batch,
    key: DraftKey,
    spec: &'b StepSpec,
    /// How many calls have written it.
    calls: u64,
}

impl Writing<'_> {
    /// Writes all jobs but those of the last chunk, which it returns.
    async fn write(&mut self, jobs: JobStream) -> Result<Option<Chunk>> {
        let (sender, mut chunks) = mpsc::channel::<Chunk>(8);
        // Iterators are the user's code and may block; chunks are compressed there, too.
        let builder = tokio::task::spawn_blocking(move || build(jobs, &sender));
        let lease = Duration::from_millis(self.batch.store().lease().unsigned_abs() / 3);
        let (mut parts, mut bytes, mut last) = (Vec::new(), 0, None);
        loop {
            match tokio::time::timeout(lease, chunks.recv()).await {
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    if let Some(before) = last.replace(chunk) {
                        bytes += before.body.len();
                        parts.push(Part::Jobs { step: 0, chunk: before });
                    }
                    if bytes >= APPEND_BYTES || parts.len() >= APPEND_CHUNKS {
                        self.append(std::mem::take(&mut parts)).await?;
                        bytes = 0;
                    }
                }
                // The iterator takes its time: what has been written so far must be kept alive.
                Err(_) if self.calls > 0 => self.append(Vec::new()).await?,
                Err(_) => {}
            }
        }
        builder.await.map_err(|e| Error::usage("an iterator of jobs panicked").because(e))??;
        if !parts.is_empty() {
            self.append(parts).await?;
        }
        Ok(last)
    }

    async fn append(&mut self, parts: Vec<Part>) -> Result<()> {
        let (store, step) = (self.batch.store(), Box::new(self.spec.clone()));
        let of = DraftOf::Added { workflow: self.batch.id(), step };
        let append = Append { draft: self.key, of, number: self.calls, parts, lease: store.lease() };
        answered(|| store.append(append.clone())).await?;
        self.calls += 1;
        Ok(())
    }
}

/// Cuts the jobs into chunks. One that nobody takes any more ends it.
fn build(jobs: JobStream, sender: &mpsc::Sender<Chunk>) -> Result<()> {
    let send = |chunk: Option<Chunk>| match chunk {
        Some(chunk) => sender.blocking_send(chunk).map_err(|_| Error::unavailable("the adding was given up")),
        None => Ok(()),
    };
    let mut builder = ChunkBuilder::default();
    for (row, json) in jobs.enumerate() {
        let chunk = builder.push(&json?).map_err(|error| error.during(format_args!("row {row} of what is added")))?;
        send(chunk)?;
    }
    send(builder.finish())
}
