//! Many lone jobs of one type at once.

use std::collections::BTreeMap;

use super::gathering::{Growing, Times};
use super::new_job::{keyed, to_json};
use crate::client::Client;
use crate::error::Result;
use crate::job::Job;
use crate::payload::{Chunk, ChunkBuilder, check_size};
use crate::store::{Lane, LoneJobs};

/// How many chunks one call of [`Client::enqueue_all`] brings.
const CALL_CHUNKS: usize = 4;

impl Client {
    /// Enqueues many jobs of one type; returns how many. They are read one at a time and come some thousand a call, those that a
    /// [key](Job::LIMIT_PER_KEY) limits at most 64, so there may be any number; after an error those of earlier calls are there.
    pub async fn enqueue_all<J: Job>(&self, jobs: impl IntoIterator<Item = J>) -> Result<u64> {
        self.check_lone::<J>(J::QUEUE)?;
        if !J::LIMIT_PER_KEY.is_none() {
            return self.enqueue_all_keyed(jobs).await;
        }
        let (mut builder, mut chunks, mut count) = (ChunkBuilder::default(), Vec::new(), 0);
        for job in jobs {
            let json = to_json(&job)?;
            self.registry().before_enqueue.ask(J::NAME, J::QUEUE, 0, None, &json)?;
            if self.performed_at_once::<J>(J::QUEUE, 0, None, &json).await?.is_some() {
                count += 1;
                continue;
            }
            chunks.extend(builder.push(&json)?);
            if chunks.len() >= CALL_CHUNKS {
                count += self.enqueue_chunks::<J>(std::mem::take(&mut chunks)).await?;
            }
        }
        chunks.extend(builder.finish());
        count += self.enqueue_chunks::<J>(chunks).await?;
        Ok(count)
    }

    /// The same of jobs with keys, each of which goes to its key's shard.
    async fn enqueue_all_keyed<J: Job>(&self, jobs: impl IntoIterator<Item = J>) -> Result<u64> {
        let (mut growing, mut count): (BTreeMap<u16, Growing>, u64) = (BTreeMap::new(), 0);
        for job in jobs {
            let json = to_json(&job)?;
            check_size("parameters", json.len())?;
            self.registry().before_enqueue.ask(J::NAME, J::QUEUE, 0, None, &json)?;
            if self.performed_at_once::<J>(J::QUEUE, 0, None, &json).await?.is_some() {
                count += 1;
                continue;
            }
            let (keyed, shard) = match keyed(&job, None, self.store().shards())? {
                Some((keyed, shard)) => (Some(keyed), shard),
                None => (None, self.gathering().shard()),
            };
            let of_shard = growing.entry(shard).or_default();
            if of_shard.jobs > 0 && !of_shard.takes(&json) {
                count += self.enqueue_grown::<J>(shard, std::mem::take(of_shard)).await?;
            }
            of_shard.add(&json, Times::default(), keyed);
        }
        for (shard, grown) in growing {
            count += self.enqueue_grown::<J>(shard, grown).await?;
        }
        Ok(count)
    }

    async fn enqueue_grown<J: Job>(&self, shard: u16, grown: Growing) -> Result<u64> {
        let count = grown.jobs as u64;
        if let Some(jobs) = grown.finish(Lane::new(shard, J::QUEUE, 0, J::NAME)) {
            self.send_lone(shard, vec![jobs]).await?;
        }
        Ok(count)
    }

    async fn enqueue_chunks<J: Job>(&self, chunks: Vec<Chunk>) -> Result<u64> {
        if chunks.is_empty() {
            return Ok(0);
        }
        let shard = self.store().next_shard();
        let count = chunks.iter().map(|chunk| u64::from(chunk.jobs)).sum();
        let lone = |chunk| LoneJobs::new(Lane::new(shard, J::QUEUE, 0, J::NAME), chunk);
        self.send_lone(shard, chunks.into_iter().map(lone).collect()).await?;
        Ok(count)
    }
}
