//! How a harness gets at what the scripts noted (`scripts/note.lua`), on a store of one shard.

use serde::Deserialize;
use serde_json::json;

use super::script::{self, Blobs};
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
    /// Takes records out of the store's ledger, in the order in which what they tell happened: some of those with transaction numbers
    /// above `after`; none if there are no more. The store forgets those up to `after`. May be repeated.
    pub async fn take_records(&self, after: u32) -> Result<Vec<u8>> {
        let parameters = json!({ "after": after });
        let mut told: Told<Records> =
            self.run(self.shards.numbered(0)?, "take records", &script::LEDGER, parameters, Blobs::default()).await?;
        told.take(told.json.records)
    }

    /// Notes in the store's ledger that the process with ledger `number` is killed, if its session holds leases at that moment.
    /// Returns how many.
    pub async fn note_kill(&self, session: SessionId, number: u64) -> Result<u64> {
        let parameters = json!({ "session": session.to_string(), "number": number });
        let held: Told<Held> =
            self.run(self.shards.numbered(0)?, "note kill", &script::LEDGER, parameters, Blobs::default()).await?;
        Ok(held.json.leases)
    }
}
