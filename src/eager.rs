//! What an eager source emits: it is stored as it comes, and stays. The next attempt goes on behind it, and shows by the last job that is
//! stored, which it emits once more, that it does.
//!
//! ```text
//! emit ──► gathered ── a while, or many ──► Store::adopt ──► stored
//!   └ waits, in a slot that it lends, while too many of the step's jobs are unfinished
//! ```

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::emitter::shown;
use crate::graph::StepNumber;
use crate::job::{JobError, JobResult};
use crate::payload::{Chunk, Lines};
use crate::planted::planted;
use crate::render::words::{count, number};
use crate::store::Adopt;
use crate::wake::wake;
use crate::worker::backoff::Backoff;
use crate::worker::drafting::{Gathered, wait_for_the_store};
use crate::worker::fed::Fed;
use crate::worker::held::{End, Held};
use crate::worker::jitter;
use crate::worker::lending::LentSlot;

/// For so long jobs gather before they are stored.
const GATHER: Duration = Duration::from_millis(50);
/// The most jobs that gather.
const MOST: u64 = 8 * 1024;
/// How often a source that waits looks how many jobs are unfinished, unless the worker itself reports them.
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_secs(1);
/// After so long a source is tried again that could not begin since too many others wait here.
const LATER: Duration = Duration::from_secs(5);

/// An attempt of an eager source.
pub(crate) struct Eager {
    held: Arc<Held>,
    at: u16,
    feeds: StepNumber,
    /// How many jobs of the step may be unfinished before it waits.
    ahead: u64,
    told_to_end: CancellationToken,
    fed: Arc<Fed>,
    /// Something has gathered.
    came: Notify,
    inner: tokio::sync::Mutex<Inner>,
    /// The slot that it has lent.
    lent: tokio::sync::Mutex<Option<LentSlot>>,
    /// What the attempt ends with, whatever the source makes of the error.
    ends: Mutex<Option<GivenBack>>,
}

#[derive(Default)]
struct Inner {
    /// Whether the store has been asked what there is.
    is_open: bool,
    stored: u64,
    /// The JSON of the last one.
    last: Vec<u8>,
    gathered: Gathered,
    /// How many of them.
    jobs: u64,
    /// The JSON of the last one that has gathered.
    newest: Vec<u8>,
    since: Option<Instant>,
    adopted_at: Option<Instant>,
    /// Sent and not answered: it is sent again as it was.
    sent: Option<Adopt>,
    error: Option<String>,
}

/// Why an attempt ends before its source does.
#[derive(Clone, Copy)]
enum GivenBack {
    /// Its worker stops, or has to hold nothing for a while.
    AtOnce,
    /// Too many sources wait in this worker.
    Later,
}

impl Eager {
    /// `None` if the job is no eager source, or is performed without a store.
    pub fn of(held: &Arc<Held>, at: u16, told_to_end: impl FnOnce() -> CancellationToken) -> Option<Arc<Self>> {
        let (ahead, feeds) = held.slice.options.eager.zip(held.slice.feeds)?;
        Some(Arc::new(Self {
            fed: held.hub().fed.of(held.slice.workflow, feeds),
            held: held.clone(),
            at,
            feeds,
            ahead,
            told_to_end: told_to_end(),
            came: Notify::new(),
            inner: tokio::sync::Mutex::default(),
            lent: tokio::sync::Mutex::default(),
            ends: Mutex::default(),
        }))
    }

    /// Begins once there is room for what the source emits: it has opened no file yet.
    pub async fn begin(&self) -> JobResult<()> {
        self.stored().await?;
        self.wait_for_room().await
    }

    /// How many jobs of it are stored.
    pub async fn stored(&self) -> JobResult<u64> {
        let mut inner = self.inner.lock().await;
        self.open(&mut inner).await?;
        Ok(inner.stored)
    }

    /// Takes the source's job of that number; returns whether it has stored some.
    pub async fn emit(&self, at: u64, json: Vec<u8>) -> JobResult<bool> {
        self.wait_for_room().await?;
        let mut inner = self.inner.lock().await;
        if let Some(error) = &inner.error {
            return Err(JobError::new(error));
        }
        self.open(&mut inner).await?;
        if at < inner.stored {
            return self.compare(&inner, at, &json).map(|()| false);
        }
        let is_enough = inner.gathered.push(&json);
        let is_enough = is_enough.map_err(|error| JobError::fatal(format!("job {at} that was emitted: {error}")))?;
        inner.jobs += 1;
        inner.newest = json;
        inner.since.get_or_insert_with(Instant::now);
        let is_enough = is_enough || inner.jobs >= (self.ahead / 4).clamp(1, MOST);
        if is_enough {
            self.store(&mut inner).await?;
        } else {
            self.came.notify_one();
        }
        Ok(is_enough)
    }

    /// A job that is stored already. The last one must be the same: so the source goes on where it was.
    fn compare(&self, inner: &Inner, at: u64, json: &[u8]) -> JobResult<()> {
        if at + 1 < inner.stored || json == inner.last || planted!("an eager source goes on with other rows") {
            return Ok(());
        }
        Err(JobError::fatal(format!(
            "the source goes on with other jobs than it has emitted before: its job {} is {} now, but {} is stored. If what it reads has changed, \
             run its step again: that takes back what it has emitted",
            number(at),
            shown(json),
            shown(&inner.last)
        )))
    }

    /// Stores all that has gathered: the source has come to its end, or to a checkpoint.
    pub async fn store_all(&self) -> JobResult<()> {
        let mut inner = self.inner.lock().await;
        if let Some(error) = &inner.error {
            return Err(JobError::new(error));
        }
        self.open(&mut inner).await?;
        self.store(&mut inner).await
    }

    /// The source has come to its end with so many jobs: stores what is left, if that is not fewer than there are.
    pub async fn finish(&self, emitted: u64) -> JobResult<()> {
        if self.ends.lock().is_some() {
            return Err(given_back());
        }
        self.store_all().await?;
        let inner = self.inner.lock().await;
        if emitted < inner.stored && !planted!("an eager source may end before what it has emitted") {
            return Err(JobError::fatal(format!(
                "the source has come to its end with {}, but {} are stored of it, the last {}. If what it reads has changed, run its step \
                 again: that takes back what it has emitted",
                count(emitted, "job"),
                number(inner.stored),
                shown(&inner.last)
            )));
        }
        Ok(())
    }

    /// Stores what has gathered for a while, for as long as the source runs: it may wait for its next job for long.
    pub async fn store_what_waits(&self) -> std::convert::Infallible {
        loop {
            self.came.notified().await;
            let mut inner = self.inner.lock().await;
            let Some(since) = inner.since else { continue };
            let due = inner.adopted_at.map_or(since, |adopted| adopted + GATHER);
            if Instant::now() < due {
                drop(inner);
                tokio::time::sleep_until(due).await;
                self.came.notify_one();
                continue;
            }
            if let Err(error) = self.store(&mut inner).await {
                inner.error = Some(error.to_string());
            }
        }
    }

    /// Asks once what there is.
    async fn open(&self, inner: &mut Inner) -> JobResult<()> {
        if inner.is_open {
            return Ok(());
        }
        inner.stored = self.look().await?;
        if inner.stored > 0 {
            let mut backoff = Backoff::new();
            let emitted = loop {
                match self.held.store.emitted(self.held.slice.chunk, self.at).await {
                    Ok(emitted) => break emitted,
                    Err(error) => wait_for_the_store(&self.held, error, &mut backoff).await?,
                }
            };
            let last = emitted.last.map(|body| Lines::unpack(&body)).transpose()?;
            inner.last = last.and_then(|lines| lines.last().map(<[u8]>::to_vec)).unwrap_or_default();
        }
        inner.is_open = true;
        Ok(())
    }

    /// Stores what has gathered. What has been sent and not answered comes first.
    async fn store(&self, inner: &mut Inner) -> JobResult<()> {
        while let Some(adopt) = self.next_to_send(inner) {
            let jobs = adopt.jobs();
            self.send(&adopt).await?;
            inner.sent = None;
            inner.stored += jobs;
            inner.adopted_at = Some(Instant::now());
        }
        if !inner.newest.is_empty() {
            inner.last = std::mem::take(&mut inner.newest);
        }
        Ok(())
    }

    fn next_to_send(&self, inner: &mut Inner) -> Option<Adopt> {
        if inner.sent.is_none() {
            let chunks = inner.gathered.take_rest();
            if chunks.is_empty() {
                return None;
            }
            (inner.jobs, inner.since) = (0, None);
            inner.sent = Some(self.adoption(inner.stored, chunks));
        }
        inner.sent.clone()
    }

    fn adoption(&self, before: u64, chunks: Vec<Chunk>) -> Adopt {
        let (session, lease) = (self.held.hub().session, self.held.slice.lease);
        Adopt { session, lease, at: self.at, before, chunks }
    }

    /// Asks how many jobs are unfinished; returns how many of the source are stored.
    async fn look(&self) -> JobResult<u64> {
        self.send(&self.adoption(0, Vec::new())).await
    }

    /// Sends an adoption, again and again while the store is away: sent twice it counts once.
    async fn send(&self, adopt: &Adopt) -> JobResult<u64> {
        let mut backoff = Backoff::new();
        let (reported, adopted) = loop {
            let reported = self.fed.reported();
            match self.held.store.adopt(adopt.clone()).await {
                Ok(adopted) => break (reported, adopted),
                Err(error) => wait_for_the_store(&self.held, error, &mut backoff).await?,
            }
        };
        wake(&adopted.woken);
        if adopted.cancelled {
            self.held.stop_all();
            // Whoever guards the attempt sees that first.
            tokio::task::yield_now().await;
            return Err(JobError::new("the workflow is cancelled, or the step has failed"));
        }
        self.fed.learn(adopted.unfinished, reported);
        Ok(adopted.stored)
    }

    /// Whether no more jobs of the step are unfinished than may be, as far as is known here.
    fn has_room(&self) -> bool {
        self.fed.unfinished() <= self.ahead
    }

    /// Whether it may wait for its jobs. One that may kill its worker has nothing beside it, and what holds a place of a limited queue may keep
    /// it from its own jobs: for those it would wait for ever.
    fn may_wait(&self) -> bool {
        !self.held.slice.suspect && !self.held.is_in_limited_queue()
    }

    /// Waits while too many jobs are unfinished. Meanwhile others run in its slot.
    async fn wait_for_room(&self) -> JobResult<()> {
        if self.ends.lock().is_some() {
            return Err(given_back());
        }
        if self.has_room() || !self.may_wait() {
            return Ok(());
        }
        let mut lent = self.lent.lock().await;
        if lent.is_none() && !planted!("a source that waits keeps its slot") {
            match LentSlot::lend(self.held.hub()) {
                Some(slot) => *lent = Some(slot),
                None => return Err(self.give_back(GivenBack::Later)),
            }
        }
        tracing::debug!(step = %self.held.slice.step_name, feeds = self.feeds, ahead = self.ahead, "a source waits for its jobs");
        let mut wait = FIRST_LOOK;
        let mut look_at = Instant::now() + jitter(wait);
        loop {
            let changed = self.fed.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.has_room() {
                break;
            }
            let hub = self.held.hub();
            tokio::select! {
                biased;
                () = self.told_to_end.cancelled() => return Err(JobError::stopped()),
                () = hub.stopping.cancelled() => return Err(self.give_back(GivenBack::AtOnce)),
                () = changed => {}
                () = tokio::time::sleep_until(look_at) => {
                    if hub.is_isolated() {
                        // What is suspected of killing workers waits until this one holds nothing.
                        return Err(self.give_back(GivenBack::AtOnce));
                    }
                    self.look().await?;
                    wait = (2 * wait).min(LOOK);
                    look_at = Instant::now() + jitter(wait);
                }
            }
        }
        if let Some(slot) = &mut *lent {
            tokio::select! {
                biased;
                () = self.told_to_end.cancelled() => return Err(JobError::stopped()),
                () = slot.take_back() => {}
            }
            if !slot.is_back() {
                return Err(self.give_back(GivenBack::AtOnce));
            }
        }
        *lent = None;
        Ok(())
    }

    /// The attempt has ended: before the slot goes on it takes back what it has lent.
    pub async fn take_slot_back(&self) {
        let lent = self.lent.lock().await.take();
        if let Some(mut slot) = lent {
            slot.take_back().await;
        }
    }

    fn give_back(&self, how: GivenBack) -> JobError {
        *self.ends.lock() = Some(how);
        given_back()
    }

    /// What the attempt ends with in place of what the source has made of it. It has used up nothing.
    pub fn end_instead(&self) -> Option<End> {
        Some(match (*self.ends.lock())? {
            GivenBack::AtOnce => End::Stopped,
            GivenBack::Later => End::Failed(JobError::postpone(LATER)),
        })
    }
}

fn given_back() -> JobError {
    JobError::new("the source waits for the jobs that it has emitted, and goes on later")
}
