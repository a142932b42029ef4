//! Forwarding: slices of a queue that goes by a broker are claimed in the broker's name and published, one message each. Every worker
//! forwards for the queues that it takes from; nobody leads.
//!
//! A worker has in flight at most four slices for each of its own free slots, or its share of eight if that is more, so all of them together
//! keep the bound that the free slots of all set. A backlog stays in the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::claim::standing;
use super::hub::Hub;
use super::jitter;
use crate::broker::{Broker, Message, Traffic, in_time};
use crate::error::{Error, ErrorKind};
use crate::id::SessionId;
use crate::slice::{CHUNK_JOBS, take_for};
use crate::store::{Claim, LeaseName, LeaseReport, Renew, Report, Session, Slice, Take};
use crate::wake::wake;

/// So many slices may be in flight for each free slot.
const A_SLOT: u32 = 4;
/// So many may be in flight in all, however few slots are free.
const AT_LEAST: u32 = 8;
/// The most slices of one claim.
const AT_ONCE: u32 = 16;
/// How long to wait when as many are in flight as may be: others take them over without a word.
const FULL: Duration = Duration::from_millis(200);
/// How long to wait when there is nothing to forward, unless told that there is.
const IDLE: Duration = Duration::from_secs(5);

/// A queue that goes by a broker, as its forwarder and its consumer in this worker share it.
pub struct Route {
    pub queue: String,
    /// The job types of it that this worker runs and that need no permits: those travel.
    pub types: Vec<String>,
    pub broker: Arc<dyn Broker>,
    pub traffic: Traffic,
    /// [`Store::identity`](crate::store::Store::identity).
    pub store: u64,
    /// There may be something to forward.
    pub forward_now: Notify,
    /// Whether the consumer of this worker is listening: nothing is published before.
    pub consumes: std::sync::atomic::AtomicBool,
}

/// Forwards a queue until the worker stops.
pub async fn forward(hub: Arc<Hub>, about: Session, route: Arc<Route>) {
    // A session without types: the store knows by that in whose name it claims.
    let mut session = Session {
        id: SessionId::random(),
        types: Vec::new(),
        slots: 0,
        wake_port: None,
        queues: Vec::new(),
        ..about.clone()
    };
    let mut forwarder = Forwarder { hub: hub.clone(), route, next_lease: 1, consumers: 1, looked_at: None };
    let mut backoff = Backoff::new();
    let mut joined = false;
    while !hub.stopping.is_cancelled() {
        let now = forwarder.route.clone();
        let now = now.forward_now.notified();
        tokio::pin!(now);
        now.as_mut().enable();
        let went = match joined {
            true => forwarder.go_on(&session, &about).await,
            false => hub.store.join(session.clone()).await.map(|()| Some(Duration::ZERO)),
        };
        let wait = match went {
            Ok(wait) => {
                joined = true;
                backoff.reset();
                wait.unwrap_or(IDLE)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Forgotten, with all that it held; under a new id nothing of it is taken for something old.
                session.id = SessionId::random();
                (joined, forwarder.next_lease) = (false, 1);
                Duration::ZERO
            }
            Err(error) => {
                tracing::warn!(%error, queue = forwarder.route.queue, broker = forwarder.route.broker.name(), "forwarding failed; it is tried again");
                backoff.next()
            }
        };
        tokio::select! {
            biased;
            () = hub.stopping.cancelled() => {}
            () = now, if wait >= FULL => {}
            () = tokio::time::sleep(jitter(wait)) => {}
        }
    }
    // What is in flight goes back, to be forwarded by others.
    while let Ok(left) = hub.store.leave(session.id).await {
        wake(&left.woken);
        if !left.more {
            break;
        }
    }
}

struct Forwarder {
    hub: Arc<Hub>,
    route: Arc<Route>,
    next_lease: u64,
    /// How many live workers take from the queue, as it was last looked at.
    consumers: u32,
    looked_at: Option<Instant>,
}

impl Forwarder {
    /// Claims and publishes once. Returns how long to wait; `None` until something happens.
    async fn go_on(&mut self, session: &Session, worker: &Session) -> Result<Option<Duration>, Error> {
        self.look_around(session).await?;
        if !self.route.consumes.load(Ordering::SeqCst) {
            return Ok(None);
        }
        if self.hub.is_isolated() {
            // Nothing would be taken over here.
            return Ok(Some(FULL));
        }
        let claim = self.wishes(session, worker);
        let most_held = claim.most_held.unwrap_or(AT_LEAST);
        let claimed = self.hub.store.claim(claim).await?;
        wake(&claimed.woken);
        self.next_lease = self.next_lease.max(claimed.last_lease + 1);
        let count = claimed.slices.len();
        if count > 0 {
            self.publish(session, claimed.slices).await?;
        }
        Ok(match claimed.empty {
            true => None,
            false if claimed.held >= most_held => Some(FULL),
            false if count > 0 => Some(Duration::ZERO),
            false => Some(FULL),
        })
    }

    /// Keeps the session, and counts the workers among which the least that may be in flight is divided.
    async fn look_around(&mut self, session: &Session) -> Result<(), Error> {
        let third = Duration::from_millis((self.hub.lease / 3).max(1) as u64);
        if self.looked_at.is_some_and(|at| at.elapsed() < third.min(IDLE)) {
            return Ok(());
        }
        let renew =
            Renew { session: session.id, leases: vec![], drafts: vec![], progress: vec![], lease: self.hub.lease };
        self.hub.store.renew(renew).await?;
        let workers = self.hub.store.workers(1000).await?;
        let takes = |queues: &[String]| queues.contains(&self.route.queue);
        self.consumers = workers.iter().filter(|worker| takes(&worker.session.queues)).count().max(1) as u32;
        self.looked_at = Some(Instant::now());
        Ok(())
    }

    fn wishes(&self, session: &Session, worker: &Session) -> Claim {
        let hub = &self.hub;
        let free = standing(hub, worker).free();
        let slots = hub.slots as usize;
        let slice = self.route.broker.settings().slice;
        let take = |job_type: &String| {
            let jobs = take_for(slice, hub.mean(job_type), slots) as u32;
            Take { job_type: job_type.clone(), jobs, budget: CHUNK_JOBS as u32 * AT_ONCE }
        };
        Claim {
            session: session.id,
            first_lease: self.next_lease,
            max_leases: AT_ONCE,
            most_held: Some((A_SLOT * free).max(AT_LEAST.div_ceil(self.consumers))),
            queues: vec![self.route.queue.clone()],
            by_broker: Vec::new(),
            takes: self.route.types.iter().map(take).collect(),
            free_slots: free.max(1),
            max_limited: free.max(1),
            permits: Vec::new(),
            alone: false,
            lease: hub.lease,
        }
    }

    /// Publishes what was claimed; what the broker does not confirm goes back at once.
    async fn publish(&self, session: &Session, slices: Vec<Slice>) -> Result<(), Error> {
        let route = &self.route;
        let message = |slice: &Slice| Message {
            store: route.store,
            lease: LeaseName { session: session.id, lease: slice.lease },
            priority: slice.priority,
        };
        let messages = slices.iter().map(message).collect();
        let published = in_time(route.broker.publish(&route.queue, messages)).await;
        match &published {
            Ok(()) => route.traffic.published(slices.len()),
            Err(_) => {
                route.traffic.unpublished(slices.len());
                let part = |slice: &Slice| LeaseReport {
                    lease: slice.lease,
                    number: 1,
                    returned: slice.jobs,
                    ..LeaseReport::default()
                };
                let report = Report { session: session.id, leases: slices.iter().map(part).collect() };
                // Should the store not hear of it, their leases end by themselves.
                if let Ok(reported) = self.hub.store.report(report).await {
                    wake(&reported.woken);
                }
            }
        }
        published
    }
}
