//! What the parts of a worker share: the slices in hand, what is known of the types, and who has to be told of what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fed::FedSteps;
use super::forward::Route;
use super::held::Held;
use super::lending::Lending;
use super::permits::Permits;
use super::turns::Turns;
use super::watch::Watcher;
use crate::client::Client;
use crate::clock::Millis;
use crate::id::{SessionId, WorkflowId};
use crate::ledger::Ledger;
use crate::store::{DraftKey, Store};

/// A new duration counts by this share, so that the mean follows a change within some dozens of jobs.
const WEIGHT: f64 = 0.05;

/// Over so much time it is counted how many slots get on at the same time.
const PACE_TIME: Duration = Duration::from_millis(20);
/// A new count of them counts by this share.
const PACE_WEIGHT: f64 = 0.3;

/// So seldom is it looked for what nobody told of, in a simulation.
const SIMULATED_POLL: Duration = Duration::from_secs(6 * 3600);

/// How the slots get on.
#[derive(Debug)]
struct Pace {
    since: Instant,
    /// Seconds that jobs took which have ended since then.
    busy: f64,
    parallel: f64,
}

/// What the parts of a worker share.
pub struct Hub {
    pub store: Arc<dyn Store>,
    /// What jobs start and find workflows with.
    pub client: Client,
    pub session: SessionId,
    /// How long leases last.
    pub lease: Millis,
    pub slots: u32,
    /// Set in a simulation.
    pub watcher: Option<Arc<dyn Watcher>>,
    /// No more is claimed.
    pub stopping: CancellationToken,
    /// What runs is told to come to its end.
    pub stopped: CancellationToken,
    /// Every slice under a lease, by the lease's number.
    pub held: Mutex<BTreeMap<u64, Arc<Held>>>,
    /// Slices with jobs that nobody has started.
    pub queue: Mutex<VecDeque<Arc<Held>>>,
    turns: Mutex<Turns>,
    /// Slices with outcomes to report.
    pub to_report: Mutex<Vec<Arc<Held>>>,
    pub work_came: Notify,
    pub claim_again: Notify,
    /// There may be room for what brokers bring.
    pub room_came: Notify,
    /// Leases get numbers from this one on. Whoever asks the store for some keeps it until the answer: it takes numbers in their order only.
    pub next_lease: tokio::sync::Mutex<u64>,
    /// How many take-overs have not been answered: it may hold more than is in its hands.
    pub unanswered: AtomicU32,
    /// A claim that may have been granted what must run alone has not been answered.
    pub perhaps_alone: AtomicBool,
    /// The queues that it claims from; the slices of the others come by brokers.
    pub direct: Vec<String>,
    /// The queues that go by brokers.
    pub routes: Vec<Arc<Route>>,
    /// Another process says that there is work.
    pub woken: Notify,
    pub report_now: Notify,
    pub tick_now: Notify,
    pub renew_now: Notify,
    pub idle_slots: AtomicU32,
    /// A suspect slice waits until this worker holds nothing.
    pub draining: AtomicBool,
    /// When a job last ended, by the monotonic clock.
    pub last_end: AtomicU64,
    next_draft: AtomicU64,
    drafts: Mutex<BTreeSet<u64>>,
    means: Mutex<HashMap<String, f64>>,
    pace: Mutex<Pace>,
    known_errors: Mutex<HashMap<(WorkflowId, u32, u32), HashSet<u64>>>,
    started: Instant,
    /// The wall clock when the worker started.
    wall: Millis,
    /// What of the limits that it knows this worker may run.
    pub permits: Permits,
    /// The slots that sources lend while they wait for what they have emitted.
    pub lending: Lending,
    /// The steps that eager sources here feed.
    pub fed: FedSteps,
    /// What a test is told.
    pub ledger: Ledger,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub(session {}, {} slots)", self.session, self.slots)
    }
}

impl Hub {
    pub fn new(
        client: Client,
        session: SessionId,
        lease: Millis,
        slots: u32,
        watcher: Option<Arc<dyn Watcher>>,
        stopping: CancellationToken,
    ) -> Self {
        let store = client.store().clone();
        Self {
            wall: store.now(),
            store,
            client,
            session,
            lease,
            slots,
            watcher,
            stopping,
            stopped: CancellationToken::new(),
            held: Mutex::default(),
            queue: Mutex::default(),
            to_report: Mutex::default(),
            work_came: Notify::new(),
            claim_again: Notify::new(),
            room_came: Notify::new(),
            next_lease: tokio::sync::Mutex::new(1),
            unanswered: AtomicU32::new(0),
            perhaps_alone: AtomicBool::new(false),
            direct: Vec::new(),
            routes: Vec::new(),
            woken: Notify::new(),
            report_now: Notify::new(),
            tick_now: Notify::new(),
            renew_now: Notify::new(),
            idle_slots: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            last_end: AtomicU64::new(0),
            next_draft: AtomicU64::new(1),
            drafts: Mutex::default(),
            means: Mutex::default(),
            turns: Mutex::default(),
            pace: Mutex::new(Pace { since: Instant::now(), busy: 0.0, parallel: f64::from(slots) }),
            known_errors: Mutex::default(),
            started: Instant::now(),
            permits: Permits::default(),
            lending: Lending::default(),
            fed: FedSteps::default(),
            ledger: Ledger::default(),
        }
    }

    /// Milliseconds since the worker started, which no clock change moves.
    pub fn monotonic(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// How long to wait at most for news that come unasked, unless they are lost on their way: `usual`, but in a simulation, where
    /// nothing is lost, looking again and again would only cost time.
    pub fn look_after(&self, usual: Duration) -> Duration {
        if self.watcher.is_some() { SIMULATED_POLL } else { usual }
    }

    /// A slot or a lease has become free.
    pub fn has_room(&self) {
        self.claim_again.notify_one();
        self.room_came.notify_waiters();
    }

    /// Notes whether a suspect slice waits until this worker holds nothing.
    pub fn drain(&self, drains: bool) {
        if self.draining.swap(drains, Ordering::SeqCst) && !drains {
            self.room_came.notify_waiters();
        }
    }

    /// Whether nothing may come beside what the worker has, or waits for: it may kill the worker.
    pub fn is_isolated(&self) -> bool {
        let waits = self.draining.load(Ordering::SeqCst) || self.perhaps_alone.load(Ordering::SeqCst);
        waits || self.held.lock().values().any(|held| held.slice.suspect)
    }

    /// Whether it holds nothing at all.
    pub fn holds_nothing(&self) -> bool {
        self.held.lock().is_empty() && self.unanswered.load(Ordering::SeqCst) == 0
    }

    /// There may be something to forward.
    pub fn forward_now(&self) {
        self.routes.iter().for_each(|route| route.forward_now.notify_one());
    }

    /// Jobs are ready of which this worker may not have been told. In a simulation it always is.
    pub fn claim_what_is_ready(&self) {
        if self.watcher.is_none() {
            self.woken.notify_one();
        }
    }

    /// The time of day as this worker knows it: the store's at its start, moved on by the monotonic clock.
    pub fn wall_at(&self, instant: Instant) -> Millis {
        self.wall + instant.saturating_duration_since(self.started).as_millis() as Millis
    }

    /// The next slice with a job to start: workflows take turns, so that what was fetched ahead of a large one holds up no small one.
    pub fn next_with_work(&self) -> Option<Arc<Held>> {
        let mut queue = self.queue.lock();
        let before = queue.len();
        queue.retain(|held| held.unstarted() > 0);
        if queue.len() < before {
            self.has_room();
        }
        let next = self.turns.lock().next(queue.iter().map(|held| held.slice.workflow))?;
        Some(queue[next].clone())
    }

    /// Puts a slice on the reporter's list, once.
    pub fn list_for_report(&self, held: &Arc<Held>) {
        let mut listed = held.listed.lock();
        if listed.is_none() {
            *listed = Some(Instant::now());
            self.to_report.lock().push(held.clone());
            self.report_now.notify_one();
        }
    }

    /// Every slice in hand.
    pub fn all_held(&self) -> Vec<Arc<Held>> {
        self.held.lock().values().cloned().collect()
    }

    /// Lets go of a slice whose lease has ended.
    pub fn let_go(&self, lease: u64) {
        let mut held = self.held.lock();
        let gone = held.remove(&lease);
        let is_empty = held.is_empty();
        drop(held);
        gone.iter().for_each(|held| held.give_back_permits());
        if is_empty {
            self.has_room();
        }
    }

    /// Counts how long a job of a type took.
    pub fn timed(&self, job_type: &str, took: Duration) {
        let took = took.as_secs_f64();
        self.pace.lock().busy += took;
        let mut means = self.means.lock();
        match means.get_mut(job_type) {
            Some(mean) => *mean += WEIGHT * (took - *mean),
            None => {
                means.insert(job_type.to_owned(), took);
            }
        }
    }

    /// How many slots get on at the same time, with those that are idle: all of them while their jobs wait for something else, about as
    /// many as there are processors while they compute.
    pub fn parallel(&self) -> f64 {
        let idle = f64::from(self.idle_slots.load(Ordering::SeqCst));
        let mut pace = self.pace.lock();
        let time = pace.since.elapsed();
        if time >= PACE_TIME {
            let measured = std::mem::take(&mut pace.busy) / time.as_secs_f64();
            pace.parallel += PACE_WEIGHT * (measured - pace.parallel);
            pace.since = Instant::now();
        }
        (pace.parallel + idle).clamp(1.0, f64::from(self.slots))
    }

    /// How long jobs of a type take, about; `None` if this worker has run none.
    pub fn mean(&self, job_type: &str) -> Option<Duration> {
        self.means.lock().get(job_type).map(|mean| Duration::from_secs_f64(mean.max(0.0)))
    }

    /// A draft that nobody has used before, renewed from now on.
    pub fn begin_draft(&self) -> DraftKey {
        let number = self.next_draft.fetch_add(1, Ordering::Relaxed);
        self.drafts.lock().insert(number);
        DraftKey { session: self.session, number }
    }

    /// A draft has been adopted or given up.
    pub fn end_draft(&self, number: u64) {
        self.drafts.lock().remove(&number);
    }

    /// The drafts that are being written.
    pub fn drafts(&self) -> Vec<u64> {
        self.drafts.lock().iter().copied().collect()
    }

    /// Whether the table of a slice's step is known to hold an error's text.
    pub fn knows_error(&self, held: &Held, number: u64) -> bool {
        self.known_errors.lock().get(&error_table(held)).is_some_and(|known| known.contains(&number))
    }

    /// The table of a slice's step holds an error's text.
    pub fn learn_error(&self, held: &Held, number: u64) {
        let mut tables = self.known_errors.lock();
        // Only a help: a worker that has seen very many steps starts to learn anew.
        if tables.len() > 1000 {
            tables.clear();
        }
        tables.entry(error_table(held)).or_default().insert(number);
    }
}

fn error_table(held: &Held) -> (WorkflowId, u32, u32) {
    (held.slice.workflow, held.slice.step, held.slice.generation)
}
