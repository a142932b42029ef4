//! Lone jobs: enqueued by themselves, in one line. They belong to a lane, the standing step of their queue, priority and type on a shard.

mod failed;
mod gathering;
mod handle;
mod many;
mod new_job;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures::TryStreamExt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use self::gathering::Gathering;
pub use self::handle::LoneJob;
pub use self::new_job::NewJob;
#[cfg(feature = "sqlite")]
pub(crate) use self::new_job::Prepared;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::id::WorkflowId;
use crate::state::{Counts, WorkflowState};
use crate::store::Pausable;
use crate::view::LaneView;

/// How long lone jobs are kept once they have settled. What succeeded with an empty output is forgotten at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Those that succeeded with an output, and those that were cancelled; a day unless set.
    pub outputs: Duration,
    /// Those that failed; 30 days unless set.
    pub failures: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self { outputs: DAY, failures: 30 * DAY }
    }
}

/// Which lone job: its lane, and its number there. Never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// The lane, which is found like a workflow.
    pub lane: WorkflowId,
    /// The job's number in it.
    pub index: u64,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.lane, self.index)
    }
}

impl FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('#');
        let id = parts.and_then(|(lane, index)| Some(Self { lane: lane.parse().ok()?, index: index.parse().ok()? }));
        id.ok_or_else(|| {
            Error::usage(format!(
                "`{text}` is no lone job; one looks like 00000000-0000-7000-8f3a-5d1c2b3a4f50#17 (`enqueue` returns it)"
            ))
        })
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Client {
    /// Hands out nothing of a queue or of a job type until [`resume`](Self::resume), also of workflows. What runs goes on.
    pub async fn pause(&self, what: Pausable) -> Result<()> {
        self.store().set_paused(what, true).await.map(|_| ())
    }

    /// Undoes [`pause`](Self::pause).
    pub async fn resume(&self, what: Pausable) -> Result<()> {
        let woken = self.store().set_paused(what, false).await?;
        crate::wake::wake(&woken);
        Ok(())
    }

    /// The queues and job types that are paused.
    pub async fn paused(&self) -> Result<Vec<Pausable>> {
        self.store().paused().await
    }

    /// Those that take the jobs of a type, in one queue or all.
    pub(crate) async fn lanes_of(&self, job_type: &str, queue: Option<&str>) -> Result<Vec<LaneView>> {
        let mut lanes = self.lanes().await?;
        lanes.retain(|lane| lane.job_type == job_type && queue.is_none_or(|queue| lane.queue == queue));
        Ok(lanes)
    }

    /// The lanes of the store with how their jobs stand: those of one queue, type and priority together, on whatever shards they are.
    pub async fn lanes(&self) -> Result<Vec<LaneView>> {
        let mut lanes: BTreeMap<(String, String, i32), LaneView> = BTreeMap::new();
        let mut standing = self.workflows().state(WorkflowState::Standing).stream();
        while let Some(row) = standing.try_next().await? {
            for step in self.store().steps(row.id, 0, 1).await? {
                let spec = step.spec;
                let name = (spec.queue, spec.job_type, spec.priority);
                let lane = lanes.entry(name).or_insert_with_key(|(queue, job_type, priority)| LaneView {
                    queue: queue.clone(),
                    job_type: job_type.clone(),
                    priority: *priority,
                    jobs: Counts::default(),
                    running: 0,
                    ids: Vec::new(),
                });
                lane.jobs.add(&step.jobs);
                lane.running += step.running;
                lane.ids.push(row.id);
            }
        }
        Ok(lanes.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Lane;

    #[test]
    fn an_id_comes_back_from_its_text() {
        let id = JobId { lane: Lane::new(3, "default", 0, "Mail").id, index: 17 };
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        assert_eq!(id.lane.shard(), 3);
        assert!("Mail#17".parse::<JobId>().unwrap_err().to_string().contains("is no lone job"));
    }
}
