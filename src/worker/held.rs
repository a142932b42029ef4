//! A slice in a worker's hands: slots take its jobs one by one, outcomes gather in it until they are reported.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use super::permits::Known;
use crate::batch::Additions;
use crate::client::Client;
use crate::clock::Millis;
use crate::job::JobError;
use crate::outputs::ChunkParameters;
use crate::planted::planted;
use crate::slice::Mask;
use crate::store::{ChunkRef, Covers, DraftKey, SaveCheckpoint, Slice, Store, TakeDraft, TakenDraft};

/// A job of a held slice that a slot has taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Its position in the chunk.
    pub at: u16,
    /// Which attempt this is; the first is 1.
    pub attempt: u8,
}

/// The end of one attempt.
#[derive(Debug)]
pub struct Ended {
    pub at: u16,
    pub attempt: u8,
    pub started: Millis,
    pub finished: Millis,
    pub end: End,
    pub logs: Vec<String>,
    /// What it has written for others to run.
    pub written: Written,
}

/// Jobs that an attempt has written: they come with its success, or not at all.
#[derive(Debug, Default)]
pub struct Written {
    /// The draft that a source wrote.
    pub draft: Option<u64>,
    /// What a job of a batch has added to that.
    pub added: Option<Box<Additions>>,
}

impl Written {
    /// All drafts.
    pub fn drafts(&self) -> Vec<u64> {
        let added = self.added.iter().flat_map(|added| added.drafts());
        self.draft.into_iter().chain(added).collect()
    }

    /// How many drafts, and chunks of what is not in one, a report speaks of at most because of it.
    pub fn parts(&self) -> usize {
        usize::from(self.draft.is_some()) + self.added.as_ref().map_or(0, |added| added.list.len())
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub enum End {
    /// With its output as JSON, nothing for `null`.
    Succeeded(Vec<u8>),
    /// With an error of its own, by a panic, or at its time limit.
    Failed(JobError),
    /// It was stopped: its workflow is cancelled, or it is a lone job that was cancelled or whose deadline has come.
    Cancelled,
    /// It was stopped because its worker stops: no attempt is used up.
    Stopped,
}

/// A slice in a worker's hands.
pub struct Held {
    pub slice: Slice,
    pub store: Arc<dyn Store>,
    /// How long its lease lasts from each renewal.
    pub lease_length: Millis,
    /// Cancelled when the jobs that run should come to their end.
    pub token: CancellationToken,
    pub claimed: Instant,
    jobs: Vec<u16>,
    next: AtomicUsize,
    reported: AtomicUsize,
    /// Jobs taken and not ended.
    running: AtomicU32,
    /// By the worker's monotonic clock in milliseconds since it started: from then on no job of it is started.
    deadline: AtomicU64,
    /// The store no longer holds the lease: nothing more is reported.
    lost: AtomicBool,
    /// Jobs that have been cancelled by themselves. Nobody looks there before there are any.
    stopped: Mutex<Mask>,
    has_stopped: AtomicBool,
    stop_told: Notify,
    pub parameters: OnceCell<ChunkParameters>,
    pub ended: Mutex<Vec<Ended>>,
    /// What has been reported of it is for a part of the store that is away, and has not come there yet.
    on_its_way: AtomicBool,
    /// Since when it is on the reporter's list.
    pub listed: Mutex<Option<Instant>>,
    /// How long, as a part of the range that the type's rule leaves open, its jobs wait for their next attempts: those of one slice wait
    /// equally long, so that they come back together.
    pub dice: f64,
    progress: Mutex<BTreeMap<u16, (u64, u64)>>,
    progress_changed: AtomicBool,
    /// The limits that its jobs count towards.
    limits: Vec<Arc<Known>>,
    hub: Arc<Hub>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Held(lease {}, step {} of {}, {} jobs)",
            self.slice.lease,
            self.slice.step_name,
            self.slice.workflow,
            self.jobs.len()
        )
    }
}

impl Ended {
    /// A job that is given back as it was claimed.
    pub fn unstarted(at: u16, now: Millis) -> Self {
        Self {
            at,
            attempt: 0,
            started: now,
            finished: now,
            end: End::Stopped,
            logs: Vec::new(),
            written: Written::default(),
        }
    }

    /// About how many bytes it takes in a report.
    pub fn size(&self) -> usize {
        let output = match &self.end {
            End::Succeeded(output) => output.len(),
            End::Failed(error) => error.to_string().len(),
            End::Cancelled | End::Stopped => 64,
        };
        let added = self.written.added.as_ref().map_or(0, |added| added.size());
        16 + output + added + self.logs.iter().map(String::len).sum::<usize>()
    }
}

impl Held {
    pub fn new(mut slice: Slice, hub: Arc<Hub>, deadline: u64) -> Self {
        // What does not unpack is read once more by who runs it, and fails there.
        let parameters = slice.parameters.take().and_then(|parameters| ChunkParameters::unpack(&parameters).ok());
        Self {
            store: hub.store.clone(),
            lease_length: hub.lease,
            token: hub.stopped.child_token(),
            claimed: Instant::now(),
            reported: AtomicUsize::new(0),
            jobs: slice.jobs.iter().map(|at| at as u16).collect(),
            next: AtomicUsize::new(0),
            running: AtomicU32::new(0),
            deadline: AtomicU64::new(deadline),
            lost: AtomicBool::new(false),
            stopped: Mutex::default(),
            has_stopped: AtomicBool::new(false),
            stop_told: Notify::new(),
            on_its_way: AtomicBool::new(false),
            parameters: OnceCell::new_with(parameters),
            ended: Mutex::new(Vec::new()),
            listed: Mutex::new(None),
            dice: f64::from(u32::from_le_bytes(crate::id::random_bytes())) / f64::from(u32::MAX),
            progress: Mutex::new(BTreeMap::new()),
            progress_changed: AtomicBool::new(false),
            limits: hub.permits.of(&slice),
            hub,
            slice,
        }
    }

    /// Whether a report of it is on its way to a part of the store that is away.
    pub fn is_on_its_way(&self) -> bool {
        self.on_its_way.load(Ordering::SeqCst)
    }

    pub fn set_on_its_way(&self, is_it: bool) {
        self.on_its_way.store(is_it, Ordering::SeqCst);
    }

    /// What its jobs start and find workflows with.
    pub fn client(&self) -> &Client {
        &self.hub.client
    }

    /// Takes the next job that has not been started; `None` if there is none, or if none may be started any more: past its own
    /// deadline the worker gives back what it has not started, for the store may still hold the lease.
    pub fn take(self: &Arc<Self>) -> Option<Taken> {
        let now = self.hub.monotonic();
        let is_over =
            now >= self.deadline.load(Ordering::Relaxed) || self.limits.iter().any(|limit| limit.is_over(now));
        if is_over && !planted!("a worker starts jobs of a lease that may have ended") {
            super::report::return_unstarted(&self.hub, self);
            return None;
        }
        // Counted before it is taken, so that nobody sees the slice without jobs to run and without running jobs in between.
        self.running.fetch_add(1, Ordering::SeqCst);
        let left = |next| (next < self.jobs.len()).then_some(next + 1);
        while let Ok(number) = self.next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left) {
            let at = self.jobs[number];
            if self.is_stopped(at) {
                self.limits.iter().for_each(|limit| limit.returned(1));
                // The store makes a cancelled one of what is given back to it.
                self.ended.lock().push(Ended::unstarted(at, self.hub.wall_at(Instant::now())));
                self.hub.list_for_report(self);
                continue;
            }
            self.limits.iter().for_each(|limit| limit.started());
            let used = self.slice.attempts.get(number).copied().unwrap_or(0);
            return Some(Taken { at, attempt: used + 1 });
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.has_stopped.load(Ordering::SeqCst) && self.is_through() {
            self.hub.report_now.notify_one();
        }
        None
    }

    /// Jobs of it have been cancelled by themselves: none of them is started any more, and those that run are told.
    pub fn stop(&self, jobs: Mask) {
        let mut stopped = self.stopped.lock();
        if !jobs.is_within(*stopped) {
            *stopped = stopped.or(jobs);
            self.has_stopped.store(true, Ordering::SeqCst);
            drop(stopped);
            self.stop_told.notify_waiters();
        }
    }

    /// Whether a job has been cancelled by itself.
    pub fn is_stopped(&self, at: u16) -> bool {
        self.has_stopped.load(Ordering::SeqCst) && self.stopped.lock().contains(usize::from(at))
    }

    /// Ends once a job has been cancelled by itself.
    pub async fn until_stopped(&self, at: u16) {
        loop {
            let told = self.stop_told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.is_stopped(at) {
                return;
            }
            told.await;
        }
    }

    /// A job that was taken has ended.
    pub fn end(self: &Arc<Self>, ended: Ended) {
        if let Some(watcher) = &self.hub.watcher {
            watcher.ended(self, &ended);
        }
        if planted!("a permit is given back before its job is reported") {
            self.limits.iter().for_each(|limit| limit.reported(1));
        }
        self.ended.lock().push(ended);
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.hub.list_for_report(self);
        if self.is_through() {
            self.hub.report_now.notify_one();
        }
    }

    /// Takes back every job that has not been started, so that no slot starts it.
    pub fn give_back(&self) -> Mask {
        let next = self.next.swap(self.jobs.len(), Ordering::SeqCst).min(self.jobs.len());
        self.limits.iter().for_each(|limit| limit.returned((self.jobs.len() - next) as u32));
        self.jobs[next..].iter().map(|at| usize::from(*at)).collect()
    }

    /// How many jobs nobody has started.
    pub fn unstarted(&self) -> usize {
        self.jobs.len().saturating_sub(self.next.load(Ordering::SeqCst))
    }

    /// So many more of its jobs have been reported.
    pub fn count_reported(&self, jobs: usize) {
        self.reported.fetch_add(jobs, Ordering::SeqCst);
        self.limits.iter().for_each(|limit| limit.reported(jobs as u32));
    }

    /// What its worker's parts share.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Its workflow is cancelled: nothing more of it starts, and what runs is told.
    pub fn stop_all(self: &Arc<Self>) {
        super::report::stop_cancelled(&self.hub, self);
    }

    /// Whether a limit of its queue counts it together with others.
    pub fn is_in_limited_queue(&self) -> bool {
        self.limits.iter().any(|limit| limit.is_of_queue())
    }

    /// Whether anything limits how many of its jobs run at once.
    pub fn is_limited(&self) -> bool {
        self.slice.limited || !self.limits.is_empty()
    }

    /// Its jobs count towards their limits from now on.
    pub fn use_permits(&self) {
        self.limits.iter().for_each(|limit| limit.claimed(self.jobs.len() as u32));
    }

    /// Nobody will hear of those that have not been reported.
    pub fn give_back_permits(&self) {
        let left = self.left_to_report();
        self.limits.iter().for_each(|limit| limit.reported(left as u32));
    }

    /// How many of its jobs have not been reported.
    pub fn left_to_report(&self) -> usize {
        self.jobs.len().saturating_sub(self.reported.load(Ordering::SeqCst))
    }

    /// Its worker's session.
    #[cfg(feature = "testing")]
    pub fn session(&self) -> crate::id::SessionId {
        self.hub.session
    }

    /// Whether it is its worker that stops, and not its workflow.
    pub fn is_stopping(&self) -> bool {
        self.hub.stopped.is_cancelled()
    }

    /// Whether a job of it is running.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst) > 0
    }

    /// Whether none of its jobs runs or is still to start.
    pub fn is_through(&self) -> bool {
        self.unstarted() == 0 && !self.is_running()
    }

    /// The store renewed the lease.
    pub fn renewed_until(&self, deadline: u64) {
        self.deadline.fetch_max(deadline, Ordering::Relaxed);
    }

    /// The store no longer holds the lease: what still runs comes to its end unheard.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.give_back();
        self.token.cancel();
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Notes how far a job is.
    pub fn set_progress(&self, at: u16, done: u64, of: u64) {
        self.progress.lock().insert(at, (done, of));
        self.progress_changed.store(true, Ordering::Release);
    }

    /// What people are told of its progress, if that has changed since they were told.
    pub fn told_progress(&self) -> Option<String> {
        if !self.progress_changed.swap(false, Ordering::AcqRel) {
            return None;
        }
        let progress = self.progress.lock();
        let told: BTreeMap<String, serde_json::Value> = progress
            .iter()
            .map(|(at, (done, of))| (at.to_string(), serde_json::json!({ "done": done, "of": of })))
            .collect();
        serde_json::to_string(&told).ok()
    }

    /// Keeps what a job goes on from when it runs again.
    pub async fn save_checkpoint(&self, at: u16, body: Vec<u8>, covers: Option<Covers>) -> crate::Result<()> {
        // Of what is performed at once the store knows nothing, and there is no second attempt to go on from it.
        if self.slice.chunk == ChunkRef::NONE {
            return Ok(());
        }
        let save = SaveCheckpoint { session: self.hub.session, lease: self.slice.lease, at, body, covers };
        self.store.save_checkpoint(save).await
    }

    /// What a job has saved to go on from.
    pub async fn last_checkpoint(&self, at: u16) -> crate::Result<Option<Vec<u8>>> {
        if self.slice.chunk == ChunkRef::NONE {
            return Ok(None);
        }
        self.store.checkpoint(self.slice.chunk, at).await
    }

    /// Goes on with what the job, a source, had emitted before its last checkpoint, as the session's draft of that number.
    pub async fn take_draft(&self, at: u16, draft: DraftKey) -> crate::Result<TakenDraft> {
        let take = TakeDraft { session: draft.session, lease: self.slice.lease, at, draft: draft.number };
        self.store.take_draft(take).await
    }

    /// The key of a draft that nobody has used before; it is renewed until its job ends.
    pub fn begin_draft(&self) -> DraftKey {
        self.hub.begin_draft()
    }

    /// Nobody writes that draft any more, and nobody needs to be told.
    pub fn end_draft(&self, number: u64) {
        self.hub.end_draft(number);
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::app::App;
    use crate::id::{SessionId, WorkflowId};
    use crate::store::sqlite::{Options, SqliteStore};
    use crate::store::{ChunkRef, StepOptions};

    const LEASE: Millis = 1_000;

    fn held(jobs: usize) -> Arc<Held> {
        let store = Arc::new(SqliteStore::open(Options::in_memory()).unwrap());
        let client = App::stateless().client_on(store);
        let hub = Hub::new(client, SessionId::random(), LEASE, 4, None, CancellationToken::new());
        let slice = Slice {
            lease: 1,
            workflow: WorkflowId::new(0, 0),
            workflow_name: "Import".into(),
            step: 0,
            step_name: "Row".into(),
            job_type: "Row".into(),
            queue: None,
            options: StepOptions::default(),
            generation: 0,
            feeds: None,
            chunk: ChunkRef { shard: 0, id: 1, chained: 0 },
            first: 0,
            jobs: Mask::range(0..jobs),
            attempts: Vec::new(),
            suspect: false,
            limited: false,
            priority: 0,
            parameters: None,
        };
        Arc::new(Held::new(slice, Arc::new(hub), LEASE as u64))
    }

    #[tokio::test(start_paused = true)]
    async fn no_job_is_started_once_the_lease_may_have_ended() {
        let held = held(3);
        assert_eq!(held.take().map(|taken| taken.at), Some(0));
        tokio::time::advance(std::time::Duration::from_millis(LEASE as u64)).await;
        assert!(held.take().is_none());
        let given_back: Vec<u16> = held.ended.lock().iter().map(|ended| ended.at).collect();
        assert_eq!((given_back, held.unstarted()), (vec![1, 2], 0));
    }

    #[tokio::test]
    async fn a_job_that_has_been_cancelled_is_passed_over_and_one_that_runs_is_told() {
        let held = held(3);
        assert_eq!(held.take().map(|taken| taken.at), Some(0));
        let told = tokio::spawn({
            let held = held.clone();
            async move { held.until_stopped(0).await }
        });
        held.stop(Mask::range(0..2));
        told.await.unwrap();
        assert!(held.is_stopped(0) && !held.is_stopped(2));
        assert_eq!(held.take().map(|taken| taken.at), Some(2));
        let given_back: Vec<u16> = held.ended.lock().iter().map(|ended| ended.at).collect();
        assert_eq!(given_back, [1]);
        assert!(!held.token.is_cancelled(), "the others of the slice go on");
    }
}
