//! A worker: claims slices, runs their jobs in its slots, reports the outcomes.
//!
//! ```text
//!           claim.rs                attempt.rs               report.rs     send.rs
//! store ──► slices in hand ──► slots take job after job ──► outcomes gather ──► store
//!   ▲          ▲  lease.rs renews them, on a thread of its own
//!   └ broker: forward.rs publishes what goes by one, consume.rs takes over what comes by one
//!              └─ tick.rs takes back what other workers lost
//! ```

pub(crate) mod attempt;
pub(crate) mod backoff;
mod claim;
mod consume;
pub(crate) mod drafting;
pub(crate) mod fed;
mod forward;
pub(crate) mod held;
pub(crate) mod hooked;
pub(crate) mod hub;
mod lease;
pub(crate) mod lending;
pub(crate) mod permits;
mod queues;
mod report;
mod send;
mod tick;
mod turns;
pub(crate) mod watch;
mod wish;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::attempt::{Handler, Kind};
use self::backoff::Backoff;
use self::forward::Route;
use self::held::{End, Ended, Held};
use self::hub::Hub;
use self::permits::Permits;
pub use self::queues::QueueOrder;
use self::watch::Watcher;
use crate::broker::{Brokers, Carrier};
use crate::chain::Origin;
use crate::client::Client;
use crate::clock::{Millis, millis};
use crate::error::{Error, Result};
use crate::hooks::Surroundings;
use crate::id::random_bytes;
use crate::job::JobError;
use crate::lone::Keep;
use crate::store::{Answer, Session, Store};
use crate::wake::{RENEW, wake};

/// `wait`, give or take a fifth.
pub(crate) fn jitter(wait: Duration) -> Duration {
    let dice = f64::from(u16::from_le_bytes(random_bytes())) / f64::from(u16::MAX);
    wait.mul_f64(0.8 + 0.4 * dice)
}

/// How a worker is set up.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// How many jobs run at once; twice the number of processors unless set.
    pub slots: u32,
    /// The queues to take from; all queues of the registered types unless set.
    pub queues: Option<Vec<String>>,
    /// In which order it takes from those.
    pub order: QueueOrder,
    /// How long leases last; what the store says unless set.
    pub lease: Option<Duration>,
    /// How long running jobs may take to finish when the worker is told to stop, before they are told to stop too.
    pub patience: Duration,
    /// How long lone jobs are kept once they have settled.
    pub keep: Keep,
    /// Which queues go by which brokers, besides what the application says; this overrules it.
    pub brokers: Brokers,
    /// Where it is noted what the worker does; nowhere unless a test sets it.
    #[cfg(feature = "testing")]
    pub ledger: crate::ledger::Ledger,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, |n| n.get());
        Self {
            slots: 2 * processors as u32,
            queues: None,
            order: QueueOrder::default(),
            lease: None,
            patience: Duration::from_secs(25),
            keep: Keep::default(),
            brokers: Brokers::default(),
            #[cfg(feature = "testing")]
            ledger: crate::ledger::Ledger::default(),
        }
    }
}

/// The registered types of an application.
pub(crate) type Handlers<S> = BTreeMap<&'static str, Arc<dyn Handler<S>>>;

/// A worker, ready to run.
pub struct Worker<S> {
    /// Its store, and what its jobs start and find workflows with.
    pub(crate) client: Client,
    pub(crate) handlers: Arc<Handlers<S>>,
    pub(crate) surroundings: Arc<Surroundings<S>>,
    pub(crate) options: WorkerOptions,
    /// Set in a simulation: then everything runs in the worker's own runtime, by tokio's time alone.
    pub(crate) watcher: Option<Arc<dyn Watcher>>,
}

impl<S> fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<S: Send + Sync + 'static> Worker<S> {
    /// Runs until `stop` is cancelled, then comes to its end: claims nothing more, gives back what has not been started, lets
    /// running jobs finish for as long as `patience` says, tells them to stop, and gives back the rest. Costs no job an attempt.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        if self.handlers.is_empty() {
            return Err(Error::usage(
                "a worker without job types has nothing to do; register them: App::new(..).job::<MyJob>()",
            ));
        }
        self.options.order.check(self.options.queues.as_deref())?;
        let store = self.client.store().clone();
        let lease = self.options.lease.map_or(store.lease(), millis);
        let socket = match &self.watcher {
            None => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok(),
            Some(_) => None,
        };
        let session = self.session(lease, socket.as_ref());
        // In a simulation no other process is there that could be reached.
        let carriers = match &self.watcher {
            None => self.options.brokers.carriers(&session.queues)?,
            Some(_) => Vec::new(),
        };
        until_there(&stop, || store.join(session.clone())).await?;
        until_there(&stop, || Box::pin(self.client.keep_declared())).await?;
        let slots = self.options.slots.max(1);
        let mut hub = Hub::new(self.client.clone(), session.id, lease, slots, self.watcher.clone(), stop);
        #[cfg(feature = "testing")]
        {
            hub.ledger = self.options.ledger.clone();
            hub.ledger.joined(session.id);
        }
        hub.permits = Permits::new(self.client.registry().limits(&session), store.shards());
        hub.routes = self.routes(&*store, &carriers, &session, &hub.stopping).await?;
        let is_direct = |queue: &&String| !hub.routes.iter().any(|route| route.queue == **queue);
        hub.direct = session.queues.iter().filter(is_direct).cloned().collect();
        let hub = Arc::new(hub);
        if let Some(watcher) = &hub.watcher {
            watcher.begins(&hub);
        }

        let _end = EndWithRun(hub.clone());
        let renewal = lease::start(hub.clone(), session.clone())?;
        let mut loops = JoinSet::new();
        let mut claims = JoinSet::new();
        claims.spawn(claim::claim_slices(hub.clone(), session.clone(), self.options.order.clone()));
        if hub.watcher.is_none() {
            // A worker of a simulation has no other beside it.
            loops.spawn(claim::give_back_what_waits(hub.clone()));
        }
        loops.spawn(tick::tick(hub.clone()));
        if !hub.permits.is_empty() {
            loops.spawn(Permits::give_back_to_the_end(hub.clone()));
        }
        for route in &hub.routes {
            claims.spawn(consume::consume(hub.clone(), session.clone(), route.clone()));
            claims.spawn(forward::forward(hub.clone(), session.clone(), route.clone()));
        }
        let rules = self.handlers.values().map(|handler| (handler.kind().name, handler.kind().retry)).collect();
        let name = format!("{}:{}:{}", session.host, session.pid, session.id);
        loops.spawn(report::report_outcomes(hub.clone(), rules, self.options.keep, name));
        if let Some(socket) = socket {
            loops.spawn(listen(hub.clone(), socket));
        }
        let mut slots = JoinSet::new();
        let begin = || slot(hub.clone(), self.handlers.clone(), self.surroundings.clone());
        for _ in 0..hub.slots {
            slots.spawn(begin());
        }

        let ended = loop {
            tokio::select! {
                biased;
                () = hub.stopping.cancelled() => break Ok(()),
                () = hub.lending.lent.notified() => (0..hub.lending.begin()).for_each(|_| drop(slots.spawn(begin()))),
                died = first_panic(&mut loops, &mut claims, &mut slots) => break Err(died),
            }
        };
        hub.stopping.cancel();
        // A claim that is under way may still bring slices, which then have to go back with the others.
        while claims.join_next().await.is_some() {}
        wind_down(&hub, &mut slots, self.options.patience).await;
        hub.report_now.notify_one();
        while loops.join_next().await.is_some() {}
        // Nobody is left to report what a part that died was holding; its lease ends by itself.
        hub.held.lock().clear();
        hub.renew_now.notify_one();
        renewal.ended().await;
        while let Ok(left) = store.leave(hub.session).await {
            wake(&left.woken);
            if !left.more {
                break;
            }
        }
        ended
    }

    /// The queues that go by brokers.
    async fn routes(
        &self,
        store: &dyn Store,
        carriers: &[Carrier],
        session: &Session,
        stop: &CancellationToken,
    ) -> Result<Vec<Arc<Route>>> {
        if carriers.is_empty() {
            return Ok(Vec::new());
        }
        let identity = until_there(stop, || store.identity()).await?;
        // What needs permits is claimed by who has them.
        let limits = self.client.registry().limits(session);
        let is_limited = |name: &String| limits.iter().any(|(of, _)| of.is_type() && of.name() == name);
        let travel: Vec<String> = session.types.iter().filter(|name| !is_limited(name)).cloned().collect();
        let route = |queue: &String, carrier: &Carrier| Route {
            queue: queue.clone(),
            types: travel.clone(),
            broker: carrier.broker.clone(),
            traffic: self.options.brokers.traffic().clone(),
            store: identity,
            forward_now: Notify::new(),
            consumes: AtomicBool::new(false),
        };
        let of =
            |carrier: &Carrier| carrier.queues.iter().map(|queue| Arc::new(route(queue, carrier))).collect::<Vec<_>>();
        Ok(carriers.iter().flat_map(of).collect())
    }

    fn session(&self, lease: Millis, socket: Option<&UdpSocket>) -> Session {
        let kinds: Vec<&Kind> = self.handlers.values().map(|handler| handler.kind()).collect();
        Session {
            queues: self.options.queues.clone().unwrap_or_else(|| self.client.registry().queues()),
            types: kinds.iter().map(|kind| kind.name.to_owned()).collect(),
            slots: self.options.slots,
            wake_port: match &self.watcher {
                Some(watcher) => Some(watcher.wake_port()),
                None => socket.and_then(|socket| socket.local_addr().ok()).map(|address| address.port()),
            },
            ..Session::new(lease)
        }
    }
}

/// Does what a worker begins with, as soon as the store can be reached.
async fn until_there<'a, T>(stop: &CancellationToken, call: impl Fn() -> Answer<'a, T>) -> Result<T> {
    let mut backoff = Backoff::new();
    loop {
        match call().await {
            Err(error) if error.is_transient() && !stop.is_cancelled() => {
                tracing::warn!(%error, "the store cannot be reached; it is tried again");
                tokio::time::sleep(backoff.next()).await;
            }
            result => return result,
        }
    }
}

/// Waits for a loop or a slot to end in a panic, which none should.
async fn first_panic(loops: &mut JoinSet<()>, claims: &mut JoinSet<()>, slots: &mut JoinSet<()>) -> Error {
    loop {
        let ended = tokio::select! {
            biased;
            Some(ended) = loops.join_next() => ended,
            Some(ended) = claims.join_next() => ended,
            Some(ended) = slots.join_next() => ended,
            else => return Error::corrupt("every part of the worker has ended"),
        };
        if let Err(error) = ended {
            tracing::error!(%error, "a part of the worker died; it stops");
            return Error::corrupt("a part of the worker died").because(error);
        }
    }
}

/// Lets what runs come to its end.
async fn wind_down(hub: &Arc<Hub>, slots: &mut JoinSet<()>, patience: Duration) {
    for held in hub.all_held() {
        report::return_unstarted(hub, &held);
    }
    hub.work_came.notify_waiters();
    let all_ended = async { while slots.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, all_ended).await.is_err() {
        hub.stopped.cancel();
        let all_ended = async { while slots.join_next().await.is_some() {} };
        if tokio::time::timeout(attempt::GRACE + Duration::from_secs(5), all_ended).await.is_err() {
            // Jobs that never wait cannot be dropped; their leases end by themselves.
            hub.all_held().iter().for_each(|held| held.lose());
            slots.abort_all();
            hub.held.lock().clear();
        }
    }
    // Every slot has ended: a job that still counts as running died with its slot.
    hub.held.lock().retain(|_, held| !held.is_running());
    hub.stopped.cancel();
}

/// Ends what runs outside of the worker's own future, the renewal thread above all, when that future ends or is dropped: leases
/// that nobody works under must not live on.
struct EndWithRun(Arc<Hub>);

impl Drop for EndWithRun {
    fn drop(&mut self) {
        self.0.stopping.cancel();
        self.0.stopped.cancel();
        self.0.held.lock().clear();
        self.0.renew_now.notify_one();
    }
}

/// One slot: takes jobs of the slices in hand, one after another.
async fn slot<S: Send + Sync + 'static>(hub: Arc<Hub>, handlers: Arc<Handlers<S>>, surroundings: Arc<Surroundings<S>>) {
    loop {
        let Some(held) = next_slice(&hub).await else { return };
        let handler = handlers.get(held.slice.job_type.as_str());
        if let Err(error) = load_parameters(&hub, &held).await {
            fail_all(&hub, &held, &error);
            continue;
        }
        match handler {
            None => {
                fail_all(&hub, &held, &Error::corrupt(format!("no type `{}` is registered here", held.slice.job_type)))
            }
            Some(handler) if hub.watcher.is_some() => {
                let run = handler.run(surroundings.clone(), held, hub.clone());
                watch::follow(hub.watcher.clone(), run).await;
            }
            Some(handler) if handler.kind().blocking => {
                let run = handler.run(surroundings.clone(), held, hub.clone());
                let runtime = tokio::runtime::Handle::current();
                if let Err(error) = tokio::task::spawn_blocking(move || runtime.block_on(run)).await {
                    tracing::error!(%error, "a thread for blocking jobs died");
                }
            }
            Some(handler) => handler.run(surroundings.clone(), held, hub.clone()).await,
        }
        hub.has_room();
    }
}

/// The next slice with a job to start; `None` once the worker stops, or if who lent the slot takes it back.
async fn next_slice(hub: &Hub) -> Option<Arc<Held>> {
    let mut idle = false;
    let found = loop {
        let came = hub.work_came.notified();
        tokio::pin!(came);
        came.as_mut().enable();
        if hub.stopping.is_cancelled() || hub.lending.hand_back() {
            break None;
        }
        if let Some(held) = hub.next_with_work() {
            break Some(held);
        }
        if !idle {
            idle = true;
            hub.idle_slots.fetch_add(1, Ordering::SeqCst);
            hub.has_room();
        }
        tokio::select! {
            biased;
            () = came => {}
            () = hub.stopping.cancelled() => {}
        }
    };
    if idle {
        hub.idle_slots.fetch_sub(1, Ordering::SeqCst);
    }
    found
}

/// Fetches the parameters of a slice, once for all slots. Waits while the store is away, as long as the lease is held.
async fn load_parameters(hub: &Hub, held: &Held) -> Result<()> {
    let slice = &held.slice;
    let origin = Origin {
        store: hub.store.clone(),
        registry: hub.client.shared_registry(),
        workflow: slice.workflow,
        job_type: slice.job_type.clone(),
        chain: slice.options.chain.clone(),
    };
    let load = || async {
        let mut backoff = Backoff::new();
        loop {
            match origin.load(held.slice.chunk, held.slice.first).await {
                Ok(parameters) => return Ok(parameters),
                Err(error) if error.is_transient() && !held.is_lost() && !hub.stopping.is_cancelled() => {
                    tracing::warn!(%error, "reading parameters failed; it is tried again");
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    held.parameters.get_or_try_init(load).await.map(|_| ())
}

/// Fails what nobody has started of a slice, for a reason that no attempt can change.
fn fail_all(hub: &Hub, held: &Arc<Held>, error: &Error) {
    while let Some(taken) = held.take() {
        let now = hub.wall_at(tokio::time::Instant::now());
        let end = if error.is_transient() { End::Stopped } else { End::Failed(JobError::fatal(error)) };
        held.end(Ended {
            at: taken.at,
            attempt: taken.attempt,
            started: now,
            finished: now,
            end,
            logs: Vec::new(),
            written: held::Written::default(),
        });
    }
}

/// Wake-ups from other processes.
async fn listen(hub: Arc<Hub>, socket: UdpSocket) {
    let mut buffer = [0; 16];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, _)) if buffer[..length] == *RENEW => hub.renew_now.notify_one(),
                Ok(_) => hub.woken.notify_one(),
                // Such an error speaks of a datagram sent earlier, which is nobody's concern here.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            () = hub.stopping.cancelled() => return,
        }
    }
}
