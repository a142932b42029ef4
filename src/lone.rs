//! Lone jobs: enqueued by themselves, in one line. They belong to a lane, the standing step of their queue, priority and type on a shard.
//!
//! Jobs that are enqueued at the same time, by any number of callers of a client, travel in one call: while one is on its way, the next
//! gathers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::clock::{Millis, millis};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{WorkflowId, shard_of};
use crate::job::Job;
use crate::outputs::{error_text, last_outcomes};
use crate::payload::{Chunk, ChunkBuilder, check_size};
use crate::record::KILLED;
use crate::slice::{CHUNK_JOBS, Mask};
use crate::state::{Counts, JobState, WorkflowState};
use crate::store::{ChunkOutcomes, Enqueue, Enqueued, Keyed, Lane, LoneJobs, Pausable};
use crate::unique::Unique;
use crate::view::{JobView, LaneView};

/// The most jobs of one call: with a timer for each of them it keeps its bound.
const CALL_JOBS: usize = 128;
/// About the most bytes of JSON of one call.
const CALL_BYTES: usize = 200 * 1024;
/// The most jobs of a chunk of which one has a key.
const KEYED_JOBS: usize = 64;
/// The most lanes of one call.
const CALL_LANES: usize = 16;
/// How many chunks one call of [`Client::enqueue_all`] brings.
const CALL_CHUNKS: usize = 4;

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

/// A job that is about to be enqueued: `client.enqueue(job).later(hour).await?`.
#[must_use = "nothing is enqueued before it is awaited"]
pub struct NewJob<'c, J> {
    client: &'c Client,
    job: J,
    queue: String,
    priority: i32,
    due: Option<Due>,
    unique: Option<Unique>,
    expires: Option<Due>,
}

/// A job as it goes to the store.
pub(crate) struct Prepared {
    pub lane: Lane,
    pub json: Vec<u8>,
    pub times: Times,
    pub keyed: Option<Keyed>,
    pub unique: Option<Unique>,
}

impl Prepared {
    /// What became of it: the job that it is, or the one that is there instead.
    pub fn answer(unique: Option<&Unique>, id: JobId, first: Option<JobId>) -> Result<JobId> {
        match (first, unique) {
            (None, _) => Ok(id),
            (Some(first), Some(unique)) if unique.or_first => Ok(first),
            (Some(first), unique) => Err(Error::there_is_one(unique.map_or("", |unique| &unique.key), first)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Due {
    In(Duration),
    At(Millis),
}

impl<J: Job> fmt::Debug for NewJob<'_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "NewJob({} into {}, priority {}, {:?}, {:?})",
            J::NAME,
            self.queue,
            self.priority,
            self.due,
            self.expires
        )
    }
}

impl<J: Job> NewJob<'_, J> {
    /// Runs in another queue than its type's.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Runs before ready work of lower priority in the same queue; 0 unless set.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Starts no earlier than after `wait`.
    pub fn later(mut self, wait: Duration) -> Self {
        self.due = Some(Due::In(wait));
        self
    }

    /// Starts no earlier than at a time, in milliseconds since the epoch.
    pub fn at(mut self, time: Millis) -> Self {
        self.due = Some(Due::At(time));
        self
    }

    /// Is not enqueued while there is one of its type with the same key: an error of kind `Refused`, whose
    /// [`first_job`](Error::first_job) is that one.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # use gusher::Unique;
    /// # #[derive(Serialize, Deserialize)] struct Remind { invoice: u64 }
    /// # impl Job for Remind { const NAME: &str = "Remind"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # async fn remind(client: &gusher::Client, invoice: u64) -> gusher::Result<()> {
    /// let reminder = client.enqueue(Remind { invoice }).unique(Unique::until_settled(invoice).or_first()).await?;
    /// println!("{} is this one, or was there before", reminder.id());
    /// # Ok(()) }
    /// ```
    pub fn unique(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }

    /// Is cancelled if it has not settled after so long: then it never starts, or is told to come to its end, like one that
    /// [is cancelled](crate::Client::cancel_job).
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires = Some(Due::In(time));
        self
    }

    /// Is cancelled if it has not settled by a time, in milliseconds since the epoch; see [`expires_in`](Self::expires_in).
    pub fn deadline(mut self, time: Millis) -> Self {
        self.expires = Some(Due::At(time));
        self
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn client(&self) -> &Client {
        self.client
    }

    /// The same as it goes to the store, if it can.
    pub(crate) fn prepared(self) -> Result<Prepared> {
        self.client.check_lone::<J>(&self.queue)?;
        let json = to_json(&self.job)?;
        check_size("parameters", json.len())?;
        let time_of = |due| match due {
            Due::In(wait) => self.client.store().now().saturating_add(millis(wait)),
            Due::At(time) => time,
        };
        let times = Times { due: self.due.map(time_of), expires: self.expires.map(time_of) };
        let hooks = &self.client.registry().before_enqueue;
        hooks.ask(J::NAME, &self.queue, self.priority, times.due, &json)?;
        let (keyed, shard) = match keyed(&self.job, self.unique.as_ref(), self.client.store().shards())? {
            Some((keyed, shard)) => (Some(keyed), shard),
            None => (None, self.client.gathering().shard()),
        };
        let lane = Lane::new(shard, &self.queue, self.priority, J::NAME);
        Ok(Prepared { lane, json, times, keyed, unique: self.unique })
    }
}

fn to_json<J: Job>(job: &J) -> Result<Vec<u8>> {
    serde_json::to_vec(job).map_err(|e| Error::usage(format!("{} cannot be written as JSON", J::NAME)).because(e))
}

/// The keys of a job, and the shard on which they are; `None` if it has none.
fn keyed<J: Job>(job: &J, unique: Option<&Unique>, shards: u16) -> Result<Option<(Keyed, u16)>> {
    let limit = if J::LIMIT_PER_KEY.is_none() { None } else { job.key() };
    for key in limit.iter().chain(unique.map(|unique| &unique.key)) {
        crate::graph::check_key(key)?;
    }
    // One that is unique is so among those of its limit's key, for both live on one shard.
    let unique = unique.map(|unique| match &limit {
        Some(key) => (format!("{key}\0{}", unique.key), unique.until),
        None => (unique.key.clone(), unique.until),
    });
    let Some(key) = limit.as_ref().or(unique.as_ref().map(|(key, _)| key)) else { return Ok(None) };
    let shard = shard_of(&format!("{}/{key}", J::NAME), shards);
    Ok(Some((Keyed { at: 0, limit: limit.map(|key| (key, J::LIMIT_PER_KEY)), unique }, shard)))
}

impl<'c, J: Job> IntoFuture for NewJob<'c, J> {
    type Output = Result<LoneJob<J>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'c>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let client = self.client;
            let job = self.prepared()?;
            let (lane, due) = (&job.lane, job.times.due);
            let id = match client.performed_at_once::<J>(&lane.queue, lane.priority, due, &job.json).await? {
                Some(id) => id,
                None => client.enqueued(job).await?,
            };
            Ok(client.lone(id))
        })
    }
}

/// A lone job that has been enqueued.
pub struct LoneJob<J> {
    client: Client,
    id: JobId,
    job: PhantomData<fn() -> J>,
}

impl<J> fmt::Debug for LoneJob<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoneJob({})", self.id)
    }
}

impl<J> Clone for LoneJob<J> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), id: self.id, job: PhantomData }
    }
}

impl<J: Job> LoneJob<J> {
    /// Which it is.
    pub fn id(&self) -> JobId {
        self.id
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The job, whole. An error of kind `NotFound` once it has settled and is not kept any more.
    pub async fn status(&self) -> Result<JobView> {
        self.client.find(self.id.lane).await?.job(J::NAME, self.id.index).await
    }

    /// Waits until it has settled; returns its output, or its last error as one of kind `Failed`.
    pub async fn wait(&self) -> Result<J::Output> {
        if let Some(ended) = self.client.outcome_at_once::<J>(self.id) {
            return ended;
        }
        let JobId { lane, index } = self.id;
        let store = self.client.store();
        let mut pause = Duration::from_millis(2);
        loop {
            let place = store.whereabouts(lane, 0, index).await?;
            if place.worker.is_none()
                && place.due.is_none()
                && !place.ready
                && let Some(settled) = self.ended().await?
            {
                return settled;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// What became of it; `None` while it has not settled.
    pub(crate) async fn ended(&self) -> Result<Option<Result<J::Output>>> {
        let JobId { lane, index } = self.id;
        let store = self.client.store();
        let page = store.outcomes(lane, 0, index, 0).await?;
        let holds = |chunk: &ChunkOutcomes| (chunk.first..chunk.first + chunk.bytes.len() as u64).contains(&index);
        let Some(mut chunk) = page.into_iter().next().filter(holds) else {
            // Only what succeeded without an output is forgotten at once.
            let forgotten =
                || Error::not_found(format!("lone job {} settled long ago, and is not kept any more", self.id));
            return Ok(Some(serde_json::from_str("null").map_err(|_| forgotten())));
        };
        crate::outputs::complete(&**store, lane, 0, &mut chunk).await?;
        let at = (index - chunk.first) as usize;
        let state = JobState::of(chunk.bytes[at]);
        if !state.is_settled() {
            return Ok(None);
        }
        let outcome = last_outcomes(&chunk)?.swap_remove(at).map(|outcome| outcome.result);
        let failed = |text: &str| Error::new(ErrorKind::Failed, format!("{} {}: {text}", J::NAME, self.id));
        Ok(Some(match (state, outcome) {
            (JobState::Succeeded, Some(Ok(json))) => crate::outputs::decode_output(index, &json),
            (JobState::Succeeded, _) => {
                Err(Error::corrupt(format!("{} succeeded, but its output is not kept", self.id)))
            }
            (JobState::Failed, Some(Err(error))) => {
                let texts = store.errors(lane, 0).await?.into_iter().map(|row| (row.number, row.text)).collect();
                Err(failed(&error_text(&error, &texts)))
            }
            (JobState::Failed, _) => Err(failed(KILLED)),
            (state, _) => Err(failed(state.as_str())),
        }))
    }
}

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
    fn shard(&self) -> u16 {
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
    /// Prepares to enqueue a lone job: `client.enqueue(SendMail { .. }).await?`, or with `.later(..)`, `.queue(..)`, `.priority(..)` before
    /// the `await`.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # use std::time::Duration;
    /// # #[derive(Serialize, Deserialize)] struct SendMail { to: String }
    /// # impl Job for SendMail { const NAME: &str = "SendMail"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # async fn send(client: &gusher::Client) -> gusher::Result<()> {
    /// client.enqueue(SendMail { to: "ada@example.org".into() }).await?;
    /// let reminder = client.enqueue(SendMail { to: "bob@example.org".into() }).later(Duration::from_secs(3_600)).await?;
    /// println!("{}", reminder.id());
    /// # Ok(()) }
    /// ```
    pub fn enqueue<J: Job>(&self, job: J) -> NewJob<'_, J> {
        NewJob { client: self, job, queue: J::QUEUE.to_owned(), priority: 0, due: None, unique: None, expires: None }
    }

    /// Enqueues many jobs of one type; returns how many. They are read one at a time and come some thousand a call, so there may be any
    /// number; after an error those of earlier calls are there.
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

    /// A handle on a lone job, which need not be there any more.
    pub fn lone<J: Job>(&self, id: JobId) -> LoneJob<J> {
        LoneJob { client: self.clone(), id, job: PhantomData }
    }

    fn check_lone<J: Job>(&self, queue: &str) -> Result<()> {
        crate::graph::check_name("queue", queue)?;
        self.registry().check_type("enqueueing a lone job", J::NAME, false)
    }

    /// Gives a job to those that go with the next call; returns which it has become.
    async fn enqueued(&self, job: Prepared) -> Result<JobId> {
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
        let lanes: Vec<WorkflowId> = jobs.iter().map(|jobs| jobs.lane.id).collect();
        match client.send_lone(shard, jobs).await {
            Ok(Enqueued { firsts, refused, .. }) => {
                for Told { told, lane, at, unique } in waiting {
                    let first = refused.iter().find(|one| (one.lane, one.at) == (lane, at)).map(|one| one.first);
                    // Who does not wait any more need not be told.
                    let _ = told.send(match firsts.get(lane) {
                        Some(index) => {
                            let id = JobId { lane: lanes[lane], index: index + u64::from(at) };
                            Prepared::answer(unique.as_ref(), id, first)
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
struct Growing {
    chunk: ChunkBuilder,
    jobs: usize,
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
    fn takes(&self, json: &[u8]) -> bool {
        // Each report of a chunk's jobs reads all of its keys.
        let most = if self.keyed.is_empty() { CHUNK_JOBS } else { KEYED_JOBS };
        self.jobs < most && self.chunk.has_room(json)
    }

    fn add(&mut self, json: &[u8], times: Times, keyed: Option<Keyed>) {
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

    fn finish(mut self, lane: Lane) -> Option<LoneJobs> {
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

    #[test]
    fn an_id_comes_back_from_its_text() {
        let id = JobId { lane: Lane::new(3, "default", 0, "Mail").id, index: 17 };
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        assert_eq!(id.lane.shard(), 3);
        assert!("Mail#17".parse::<JobId>().unwrap_err().to_string().contains("is no lone job"));
    }
}
