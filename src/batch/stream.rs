//! Adding many jobs: they are written as they come from their iterator into a draft, which one call adds.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Batch;
use crate::creation::answered;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::StepSpec;
use crate::payload::{Chunk, ChunkBuilder};
use crate::store::{Append, DraftKey, DraftOf};
use crate::worker::drafting::{self, Gathered};
use crate::workflow::JobStream;

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
        let (mut gathered, mut last) = (Gathered::default(), None);
        loop {
            match tokio::time::timeout(lease, chunks.recv()).await {
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    let is_enough = last.replace(chunk).is_some_and(|before| gathered.push_chunk(before));
                    if is_enough {
                        self.append(gathered.take()).await?;
                    }
                }
                // The iterator takes its time: what has been written so far must be kept alive.
                Err(_) if self.calls > 0 => self.append(Vec::new()).await?,
                Err(_) => {}
            }
        }
        builder.await.map_err(|e| Error::usage("an iterator of jobs panicked").because(e))??;
        match gathered.take() {
            chunks if chunks.is_empty() => {}
            chunks => self.append(chunks).await?,
        }
        Ok(last)
    }

    async fn append(&mut self, chunks: Vec<Chunk>) -> Result<()> {
        let (store, step) = (self.batch.store(), Box::new(self.spec.clone()));
        let of = DraftOf::Added { workflow: self.batch.id(), step };
        let parts = drafting::parts(chunks);
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
