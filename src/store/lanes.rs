//! What the store is given of lone jobs, and what it answers.

use serde::{Deserialize, Serialize};

use super::schedules::Waits;
use super::verbs::Woken;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepSpec;
use crate::id::{SessionId, WorkflowId};
use crate::limit::Limit;
use crate::lone::JobId;
use crate::payload::{Chunk, ChunkBuilder};
use crate::slice::Mask;

/// The most jobs of one slice of lone jobs whose key limits them.
pub const KEYED_SLICE: u32 = 32;
/// Parameters of [`Store::enqueue`](super::Store::enqueue): lone jobs, for lanes of one shard.
#[derive(Clone, Debug)]
pub struct Enqueue {
    /// Who asks.
    pub session: SessionId,
    /// Counts up with each command of the session, from 1; one seen before is answered as it was.
    pub command: u64,
    /// The jobs, by lane.
    pub jobs: Vec<LoneJobs>,
}

/// Jobs for one lane.
#[derive(Clone, Debug)]
pub struct LoneJobs {
    /// The lane; it is made if it is not there.
    pub lane: Lane,
    /// The jobs.
    pub chunk: Chunk,
    /// Those that may not start before a time. The others may start at once.
    pub due: Vec<(Millis, Mask)>,
    /// Those that are cancelled if they have not settled by a time.
    pub deadlines: Vec<(Millis, Mask)>,
    /// What these jobs are to start waits for its turn.
    pub waits: Option<Waits>,
    /// Those with a key, in the order in which they stand in the chunk.
    pub keyed: Vec<Keyed>,
}

/// What a lone job's key means to the store. It lives on the key's shard; how the key is counted is the same for all lanes of its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyed {
    /// Which job of the chunk.
    pub at: u16,
    /// Its key, and what limits the jobs that have it.
    pub limit: Option<(String, Limit)>,
    /// The key of which there may be no other, and for how long.
    pub unique: Option<(String, Until)>,
}

/// For how long a lone job is the only one of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until a worker has been given it.
    Started,
    /// Until it has settled.
    Settled,
    /// For so many milliseconds.
    Over(Millis),
}

impl Until {
    /// As stores keep it, and how long it lasts if that is a time.
    pub fn parts(self) -> (u8, Option<Millis>) {
        match self {
            Self::Started => (0, None),
            Self::Settled => (1, None),
            Self::Over(time) => (2, Some(time.max(0))),
        }
    }
}

impl LoneJobs {
    /// Jobs that may start at once.
    pub fn new(lane: Lane, chunk: Chunk) -> Self {
        Self { lane, chunk, due: Vec::new(), deadlines: Vec::new(), waits: None, keyed: Vec::new() }
    }

    /// One job, to be run at a time or at once.
    pub(crate) fn one(lane: Lane, json: &[u8], due: Option<Millis>) -> Result<Self> {
        let mut chunk = ChunkBuilder::default();
        chunk.push(json)?;
        let chunk = chunk.finish().ok_or_else(|| Error::usage("there is no job to enqueue"))?;
        let due = due.map(|due| (due, Mask::range(0..1))).into_iter().collect();
        Ok(Self { due, ..Self::new(lane, chunk) })
    }
}

/// A standing step that takes the lone jobs of one type, queue and priority on one shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Its id, by which it is found like a workflow.
    pub id: WorkflowId,
    /// The queue.
    pub queue: String,
    /// The priority in it.
    pub priority: i32,
    /// The job type.
    pub job_type: String,
}

impl Lane {
    /// The lane on a shard: it has the same id in every process.
    pub fn new(shard: u16, queue: &str, priority: i32, job_type: &str) -> Self {
        let id = WorkflowId::of_lane(shard, &format!("{queue}\0{priority}\0{job_type}"));
        Self { id, queue: queue.to_owned(), priority, job_type: job_type.to_owned() }
    }

    /// The one step that it has.
    pub fn step(&self) -> StepSpec {
        StepSpec { priority: self.priority, ..StepSpec::new(&self.job_type, &self.queue) }
    }
}

/// What can be paused for all workflows at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pausable {
    /// A queue.
    Queue(String),
    /// A job type.
    Type(String),
}

impl std::fmt::Display for Pausable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue `{name}`"),
            Self::Type(name) => write!(f, "type `{name}`"),
        }
    }
}

/// What [`Store::enqueue`](super::Store::enqueue) answers.
#[derive(Clone, Debug, Default)]
pub struct Enqueued {
    /// For each lane that was named, in order, the index of the first of its new jobs.
    pub firsts: Vec<u64>,
    /// Those that have not been taken, since there is one of their key.
    pub refused: Vec<Refused>,
    /// Whom to wake.
    pub woken: Woken,
}

/// A job that has not been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Of which of the lanes that were named.
    pub lane: usize,
    /// Which job of the chunk.
    pub at: u16,
    /// The one that is there.
    pub first: JobId,
}
