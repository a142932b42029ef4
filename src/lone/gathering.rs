//! Jobs that are enqueued at the same time, by any number of callers of a client, travel in one call: while one is on its way, the next
//! gathers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::JobId;
use super::new_job::Prepared;
use crate::client::Client;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::payload::ChunkBuilder;
use crate::slice::{CHUNK_JOBS, Mask};
use crate::store::{Enqueue, Enqueued, Keyed, Lane, LoneJobs};
use crate::unique::Unique;

/// The most jobs of one call: with a timer for each of them it keeps its bound.
const CALL_JOBS: usize = 128;
/// About the most bytes of JSON of one call.
const CALL_BYTES: usize = 200 * 1024;
/// A chunk that has so many jobs takes no further one once one of them has a key. So none has more jobs with keys; of those without one
/// there may be more, if they came first.
const KEYED_JOBS: usize = 64;
/// The most lanes of one call.
const CALL_LANES: usize = 16;

/// When a job may start, and by when it must have settled.
#[derive(Clone, Copy, Default)]
pub(crate) struct Times {
    pub due: Option<Millis>,
    pub expires: Option<Millis>,
}

/// A job on its way to the store, and who waits to hear of it.
struct Waiting {
    job: Prepared,
    told: oneshot::Sender<Result<JobId>>,
}

/// What gathers while a call is on its way, shard by shard.
pub(crate) struct Gathering {
    shards: Vec<Mutex<Gathered>>,
    /// Where the next jobs go.
    next: AtomicU16,
}

#[derive(Default)]
struct Gathered {
    waiting: VecDeque<Waiting>,
    /// Whether a task sends what there is.
    is_sent: bool,
}

impl Gathering {
    pub fn new(shards: u16, first: u16) -> Self {
        Self { shards: (0..shards.max(1)).map(|_| Mutex::default()).collect(), next: AtomicU16::new(first) }
    }

    /// Where the next job goes that may go anywhere.
    pub(super) fn shard(&self) -> u16 {
        self.next.load(Ordering::Relaxed) % self.shards.len().max(1) as u16
    }

    /// Adds a job to those that wait; returns whether nobody sends them yet.
    fn add(&self, shard: u16, waiting: Waiting) -> bool {
        let mut gathered = self.shards[usize::from(shard)].lock();
        gathered.waiting.push_back(waiting);
        !std::mem::replace(&mut gathered.is_sent, true)
    }

    /// Takes what goes into the next call; `None` if nobody waits: then nobody sends any more.
    fn take(&self, shard: u16) -> Option<Call> {
        let mut gathered = self.shards[usize::from(shard)].lock();
        if gathered.waiting.is_empty() {
            gathered.is_sent = false;
            return None;
        }
        Some(Call::of(&mut gathered.waiting))
    }
}

impl Client {
    /// Gives a job to those that go with the next call; returns which it has become.
    pub(super) async fn enqueued(&self, job: Prepared) -> Result<JobId> {
        let (told, answer) = oneshot::channel();
        let shard = job.lane.id.shard();
        if self.gathering().add(shard, Waiting { job, told }) {
            // A task of its own: should this caller stop to wait, those whose jobs travel with its own still hear of theirs. It ends as
            // soon as nobody waits.
            tokio::spawn(send_gathered(self.clone(), shard));
        }
        answer.await.unwrap_or_else(|_| Err(Error::unavailable("the runtime ended before the store had answered")))
    }

    /// Sends lone jobs for lanes of one shard.
    pub(crate) async fn send_lone(&self, shard: u16, jobs: Vec<LoneJobs>) -> Result<Enqueued> {
        let session = self.session();
        let call = |command| self.store().enqueue(Enqueue { session, command, jobs: jobs.clone() });
        let enqueued = self.command(shard, call).await?;
        crate::wake::wake(&enqueued.woken);
        Ok(enqueued)
    }
}

/// Sends what has gathered for a shard, call by call, until nothing has.
async fn send_gathered(client: Client, shard: u16) {
    loop {
        // All that are ready to enqueue join this call.
        tokio::task::yield_now().await;
        let Some(Call { jobs, waiting }) = client.gathering().take(shard) else { return };
        client.gathering().next.store(client.store().next_shard(), Ordering::Relaxed);
        let lanes: Vec<Lane> = jobs.iter().map(|jobs| jobs.lane.clone()).collect();
        match client.send_lone(shard, jobs).await {
            Ok(Enqueued { firsts, refused, .. }) => {
                for Told { told, lane, at, unique } in waiting {
                    let first = refused.iter().find(|one| (one.lane, one.at) == (lane, at)).map(|one| one.first);
                    // Who does not wait any more need not be told.
                    let _ = told.send(match firsts.get(lane) {
                        Some(index) => {
                            let id = JobId { lane: lanes[lane].id, index: index + u64::from(at) };
                            Prepared::answer(&lanes[lane].job_type, unique.as_ref(), id, first)
                        }
                        None => Err(Error::corrupt("the store's answer lacks a lane")),
                    });
                }
            }
            Err(error) => {
                for Told { told, .. } in waiting {
                    let _ = told.send(Err(error.copy()));
                }
            }
        }
    }
}

/// Jobs that travel together, and who waits for them.
struct Call {
    jobs: Vec<LoneJobs>,
    waiting: Vec<Told>,
}

/// Who waits for which job of which of the lanes that are named.
struct Told {
    told: oneshot::Sender<Result<JobId>>,
    lane: usize,
    at: u16,
    unique: Option<Unique>,
}

/// The jobs for one lane of a call, as they come.
#[derive(Default)]
pub(super) struct Growing {
    chunk: ChunkBuilder,
    pub(super) jobs: usize,
    due: Vec<(Millis, Mask)>,
    keyed: Vec<Keyed>,
    deadlines: Vec<(Millis, Mask)>,
}

impl Call {
    /// As many as go into one call.
    fn of(waiting: &mut VecDeque<Waiting>) -> Self {
        let mut lanes: Vec<(Lane, Growing)> = Vec::new();
        let (mut told, mut bytes) = (Vec::new(), 0);
        while let Some(next) = waiting.front() {
            let job = &next.job;
            let known = lanes.iter().position(|(lane, growing)| *lane == job.lane && growing.takes(&job.json));
            if told.len() >= CALL_JOBS
                || bytes > 0 && bytes + job.json.len() > CALL_BYTES
                || known.is_none() && lanes.len() >= CALL_LANES
            {
                break;
            }
            let Some(Waiting { job, told: to_tell }) = waiting.pop_front() else { break };
            bytes += job.json.len();
            let lane = known.unwrap_or_else(|| {
                lanes.push((job.lane, Growing::default()));
                lanes.len() - 1
            });
            let growing = &mut lanes[lane].1;
            told.push(Told { told: to_tell, lane, at: growing.jobs as u16, unique: job.unique });
            growing.add(&job.json, job.times, job.keyed);
        }
        let jobs = lanes.into_iter().filter_map(|(lane, growing)| growing.finish(lane)).collect();
        Self { jobs, waiting: told }
    }
}

impl Growing {
    /// Whether there is room for one more in the chunk.
    pub(super) fn takes(&self, json: &[u8]) -> bool {
        // Each report of a chunk's jobs reads all of its keys.
        let most = if self.keyed.is_empty() { CHUNK_JOBS } else { KEYED_JOBS };
        self.jobs < most && self.chunk.has_room(json)
    }

    pub(super) fn add(&mut self, json: &[u8], times: Times, keyed: Option<Keyed>) {
        // There is room, so no chunk is full; and its size has been checked.
        debug_assert!(self.takes(json));
        let _ = self.chunk.push(json);
        let lists = [(times.due, &mut self.due), (times.expires, &mut self.deadlines)];
        for (time, list) in lists.into_iter().filter_map(|(time, list)| Some((time?, list))) {
            match list.iter_mut().find(|(other, _)| *other == time) {
                Some((_, mask)) => mask.insert(self.jobs),
                None => list.push((time, Mask::range(self.jobs..self.jobs + 1))),
            }
        }
        self.keyed.extend(keyed.map(|keyed| Keyed { at: self.jobs as u16, ..keyed }));
        self.jobs += 1;
    }

    pub(super) fn finish(mut self, lane: Lane) -> Option<LoneJobs> {
        let chunk = self.chunk.finish()?;
        let (due, deadlines, keyed) = (self.due, self.deadlines, self.keyed);
        Some(LoneJobs { due, deadlines, keyed, ..LoneJobs::new(lane, chunk) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(lane: &Lane, due: Option<Millis>) -> Waiting {
        let times = Times { due, expires: None };
        let job = Prepared { lane: lane.clone(), json: b"{}".to_vec(), times, keyed: None, unique: None };
        Waiting { job, told: oneshot::channel().0 }
    }

    #[test]
    fn jobs_of_one_lane_travel_as_one_chunk_and_like_times_share_a_timer() {
        let (mails, images) = (Lane::new(0, "default", 0, "Mail"), Lane::new(0, "default", 0, "Image"));
        let mut all: VecDeque<Waiting> =
            [(&mails, None), (&images, None), (&mails, Some(5)), (&mails, Some(7)), (&mails, Some(5))]
                .map(|(lane, due)| waiting(lane, due))
                .into();
        let call = Call::of(&mut all);
        assert!(all.is_empty());
        let places: Vec<(usize, u16)> = call.waiting.iter().map(|told| (told.lane, told.at)).collect();
        assert_eq!(places, [(0, 0), (1, 0), (0, 1), (0, 2), (0, 3)]);
        assert_eq!((call.jobs[0].chunk.jobs, call.jobs[1].chunk.jobs), (4, 1));
        let times: Vec<(Millis, Vec<usize>)> =
            call.jobs[0].due.iter().map(|(due, mask)| (*due, mask.iter().collect())).collect();
        assert_eq!(times, [(5, vec![1, 3]), (7, vec![2])]);
    }

    #[test]
    fn a_call_takes_no_more_than_its_bound() {
        let lane = Lane::new(0, "default", 0, "Mail");
        let mut all: VecDeque<Waiting> = (0..CALL_JOBS + 3).map(|_| waiting(&lane, None)).collect();
        assert_eq!(Call::of(&mut all).waiting.len(), CALL_JOBS);
        assert_eq!(all.len(), 3);
    }
}
