//! Taking over what a forwarder holds: each lease on the shard that its number names.

use std::collections::BTreeMap;

use serde_json::json;

use super::script::{self, Blobs};
use super::{RedisStore, answers, parameters};
use crate::error::{Error, Result};
use crate::store::{LeaseName, TakeOver, TakenOver};

impl RedisStore {
    pub(super) async fn take_over_all(&self, take: TakeOver) -> Result<TakenOver> {
        take.check()?;
        let mut parts: BTreeMap<u16, Vec<LeaseName>> = BTreeMap::new();
        for name in &take.leases {
            parts.entry(self.shards.lease(name.lease).0).or_default().push(*name);
        }
        let names = parts.clone();
        let calls = parts.into_iter().map(|(shard, leases)| (shard, self.take_over_on(shard, &take, leases)));
        let (answers, away) = self.of_those_there(calls).await?;
        let mut all = TakenOver::default();
        for (_, one) in answers {
            all.slices.extend(one.slices);
            all.last_lease = all.last_lease.max(one.last_lease);
            all.unknown.extend(one.unknown);
            all.again.extend(one.again);
            all.woken.0.extend(one.woken.0);
        }
        all.away = away.iter().filter_map(|shard| names.get(shard)).flatten().copied().collect();
        Ok(all)
    }

    async fn take_over_on(&self, number: u16, take: &TakeOver, leases: Vec<LeaseName>) -> Result<TakenOver> {
        let shard = self.shards.numbered(number)?;
        let text = |name: &LeaseName| format!("{}:{}", name.session, self.shards.lease(name.lease).1);
        let told = json!({
            "session": take.session.to_string(),
            "first_lease": self.shards.lease_on_shard(take.first_lease),
            "leases": leases.iter().map(text).collect::<Vec<_>>(),
            "types": take.types,
            "lease": take.lease,
            "killed": parameters::killed(),
        });
        let told = self.run(shard, "take over", &script::FORWARD, told, Blobs::default()).await?;
        let mut taken = answers::taken_over(number, &leases, told)?;
        taken.last_lease = self.shards.last_in_session(taken.last_lease);
        for (_, slice) in &mut taken.slices {
            slice.lease = self.shards.lease_in_session(number, slice.lease);
        }
        Ok(taken)
    }

    /// The number by which this store is told from others; made by whoever asks for it first.
    pub(super) async fn own_identity(&self) -> Result<u64> {
        let what = "identity";
        let key = format!("{}:identity", self.options.prefix);
        let mine = u64::from_le_bytes(crate::id::random_bytes()).to_string();
        for command in [vec!["GET", &key], vec!["SETNX", &key, &mine], vec!["GET", &key]] {
            let mut asked = ::redis::Cmd::new();
            asked.arg(&command);
            let answer = self.link.query(what, &asked).await.map_err(|failed| failed.of(what))?;
            if command[0] == "SETNX" {
                continue;
            }
            let told: Option<String> = ::redis::from_redis_value(answer)
                .map_err(|error| Error::corrupt(format!("{key} is no text")).because(error))?;
            if let Some(told) = told {
                return told.parse().map_err(|_| Error::corrupt(format!("{key} says `{told}`, which is no number")));
            }
        }
        Err(Error::corrupt(format!("{key} cannot be kept")))
    }
}
