//! How a harness gets at what the scripts noted (`scripts/note.lua`): each shard by itself.

use serde::Deserialize;
use serde_json::json;

use super::script::{self, Blobs};
use super::shard::Shard;
use super::{RedisStore, Told};
use crate::error::Result;
use crate::id::SessionId;

#[derive(Debug, Deserialize)]
struct Records {
    records: usize,
}

#[derive(Debug, Deserialize)]
struct Held {
    leases: u64,
}

impl RedisStore {
    /// Takes records out of a shard's ledger, in the order in which what they tell happened: some of those with transaction numbers
    /// above `after`; none if there are no more. The store forgets those up to `after`. May be repeated.
    pub async fn take_records(&self, shard: u16, after: u32) -> Result<Vec<u8>> {
        let (shard, parameters) = (self.shards.numbered(shard)?, json!({ "after": after }));
        let mut told: Told<Records> =
            self.run(shard, "take records", &script::LEDGER, parameters, Blobs::default()).await?;
        told.take(told.json.records)
    }

    /// Notes in the ledger of each shard on which its session holds leases at that moment that the process with ledger `number` is
    /// killed. Returns how many leases those are.
    pub async fn note_kill(&self, session: SessionId, number: u64) -> Result<u64> {
        let mut leases = 0;
        for shard in self.shards.iter() {
            leases += self.note_kill_on(shard, session, number).await?;
        }
        Ok(leases)
    }

    async fn note_kill_on(&self, shard: &Shard, session: SessionId, number: u64) -> Result<u64> {
        let parameters = json!({ "session": session.to_string(), "number": number });
        let held: Told<Held> = self.run(shard, "note kill", &script::LEDGER, parameters, Blobs::default()).await?;
        Ok(held.json.leases)
    }
}
