//! Lone jobs that are the only ones of their key.

use std::collections::BTreeMap;

use super::create::to_json;
use super::tx::Tx;
use crate::error::Result;
use crate::id::WorkflowId;
use crate::lone::JobId;
use crate::planted::planted;
use crate::store::{Keyed, LoneJobs};

impl Tx<'_> {
    /// Which of the jobs that come may not, since there is one of their key, and which one that is. `first`: the index of the first that comes.
    pub fn who_may_not_come(&mut self, jobs: &LoneJobs, first: i64) -> Result<Vec<(u16, JobId)>> {
        let names: Vec<&str> = unique(&jobs.keyed).map(|(_, key)| key).collect();
        if names.is_empty() || planted!("a second job of a key is taken") {
            return Ok(Vec::new());
        }
        let sql = "SELECT key, lane, job FROM sole WHERE type = ?1 AND key IN (SELECT value FROM json_each(?2)) AND (due IS NULL OR due > ?3)";
        let found = self.all(sql, (&jobs.lane.job_type, to_json(&names)?, self.now), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?))
        })?;
        let mut there = BTreeMap::new();
        for (key, lane, job) in found {
            there.insert(key, JobId { lane: WorkflowId::from_slice(&lane)?, index: job as u64 });
        }
        let mut refused = Vec::new();
        for (at, key) in unique(&jobs.keyed) {
            match there.get(key) {
                Some(first) => refused.push((at, *first)),
                None => {
                    there.insert(key.to_owned(), JobId { lane: jobs.lane.id, index: first as u64 + u64::from(at) });
                }
            }
        }
        Ok(refused)
    }

    /// Jobs that come take their keys.
    pub fn take_sole(&mut self, jobs: &LoneJobs, chunk: i64, first: i64, refused: &[(u16, JobId)]) -> Result<()> {
        let now = self.now;
        let comes = |at: u16| !refused.iter().any(|(other, _)| *other == at);
        let rows: Vec<_> = jobs
            .keyed
            .iter()
            .filter(|keyed| comes(keyed.at))
            .filter_map(|keyed| {
                let (key, until) = keyed.unique.as_ref()?;
                let (until, time) = until.parts();
                let due = time.map(|time| now.saturating_add(time));
                Some((key, keyed.at, first + i64::from(keyed.at), until, due))
            })
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO sole (type, key, chunk, at, lane, job, until, due) \
                   SELECT ?1, value ->> 0, ?2, value ->> 1, ?3, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?4) WHERE true \
                   ON CONFLICT DO UPDATE SET chunk = excluded.chunk, at = excluded.at, lane = excluded.lane, job = excluded.job, \
                   until = excluded.until, due = excluded.due";
        let lane = jobs.lane.id.as_bytes().as_slice();
        self.run(sql, (&jobs.lane.job_type, chunk, lane, to_json(&rows)?)).map(|_| ())
    }
}

fn unique(keyed: &[Keyed]) -> impl Iterator<Item = (u16, &str)> {
    keyed.iter().filter_map(|keyed| keyed.unique.as_ref().map(|(key, _)| (keyed.at, key.as_str())))
}
