//! Consuming: messages of a queue that goes by a broker are received as long as there is room for their slices, and each lease that one
//! names is taken over. Then the message is acknowledged at once, whatever becomes of the jobs: the store holds the lease.
//!
//! Nothing is taken over beside a slice that may kill its worker: messages that have come then wait, unacknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::MutexGuard;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::claim::{accept, rejoin, standing};
use super::forward::Route;
use super::hub::Hub;
use crate::broker::{Delivery, Message, Receipt, in_time};
use crate::error::ErrorKind;
use crate::slice::TARGET_TIME;
use crate::store::{LeaseName, MAX_TAKEN_OVER, Session, TakeOver};
use crate::wake::wake;

/// A worker without room for so long gives back what the broker has sent it ahead.
const NO_ROOM: Duration = TARGET_TIME.saturating_mul(4);

/// So often a worker that stops asks a store that is away.
const LAST_TRIES: u32 = 8;

/// Receives until the worker stops.
pub async fn consume(hub: Arc<Hub>, session: Session, route: Arc<Route>) {
    let mut consumer = Consumer { hub: hub.clone(), session, route: route.clone(), late: JoinSet::new() };
    let mut backoff = Backoff::new();
    while let Some(room) = consumer.room().await {
        let received = tokio::select! {
            biased;
            () = hub.stopping.cancelled() => break,
            received = listen(&route, room) => received,
        };
        let failed = match received {
            Ok(deliveries) => !consumer.take_in(deliveries).await,
            Err(error) => {
                route.consumes.store(false, Ordering::SeqCst);
                tracing::warn!(%error, queue = route.queue, broker = route.broker.name(), "receiving failed; it is tried again");
                true
            }
        };
        if failed {
            tokio::select! {
                () = hub.stopping.cancelled() => {}
                () = tokio::time::sleep(backoff.next()) => {}
            }
        } else {
            backoff.reset();
        }
        while consumer.late.try_join_next().is_some() {}
    }
    route.consumes.store(false, Ordering::SeqCst);
    give_back(&route).await;
    while consumer.late.join_next().await.is_some() {}
}

/// Gives back what the broker has sent, and nobody has acknowledged: here it is of no use.
async fn give_back(route: &Route) {
    if let Err(error) = in_time(route.broker.pause(&route.queue)).await {
        tracing::debug!(%error, queue = route.queue, "what was sent ahead comes again by itself");
    }
}

/// Receives; once it is clear that the broker is there, slices are forwarded.
async fn listen(route: &Route, room: u32) -> crate::Result<Vec<Delivery>> {
    if !route.consumes.load(Ordering::SeqCst) {
        in_time(route.broker.check(&route.queue)).await?;
        route.consumes.store(true, Ordering::SeqCst);
        route.forward_now.notify_one();
    }
    route.broker.receive(&route.queue, room).await
}

/// Who takes in what arrives of one queue.
struct Consumer {
    hub: Arc<Hub>,
    session: Session,
    route: Arc<Route>,
    /// Take-overs from parts of the store that are away: nobody waits for them here, for other parts have work.
    late: JoinSet<()>,
}

impl Consumer {
    /// Waits until there is room; for how many slices. `None` once the worker stops.
    async fn room(&self) -> Option<u32> {
        let hub = &*self.hub;
        let mut pause_at = Some(Instant::now() + NO_ROOM);
        while !hub.stopping.is_cancelled() {
            let came = hub.room_came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            let room = standing(hub, &self.session).room();
            if room > 0 {
                return Some(room);
            }
            tokio::select! {
                biased;
                () = hub.stopping.cancelled() => return None,
                () = came => {}
                () = tokio::time::sleep_until(pause_at.unwrap_or_else(Instant::now)), if pause_at.is_some() => {
                    pause_at = None;
                    give_back(&self.route).await;
                }
            }
        }
        None
    }

    /// Takes over what the deliveries name, and acknowledges them. Returns whether all went well; what did not comes again.
    async fn take_in(&mut self, deliveries: Vec<Delivery>) -> bool {
        let route = self.route.clone();
        route.traffic.received(deliveries.len());
        let mut receipts: Vec<Receipt> = Vec::new();
        let mut leases: Vec<LeaseName> = Vec::new();
        let mut some_are_left = false;
        for Delivery { body, receipt } in deliveries {
            match Message::decode(&body, route.store) {
                Ok(message) => leases.push(message.lease),
                Err(unfit) => {
                    route.traffic.unfit(unfit);
                    let aside = route.broker.settings().aside;
                    tracing::warn!(
                        queue = route.queue,
                        bytes = body.len(),
                        aside,
                        "a message is not for this worker: {unfit}"
                    );
                    if aside && let Err(error) = in_time(route.broker.set_aside(&route.queue, body)).await {
                        tracing::warn!(%error, queue = route.queue, "setting a message aside failed");
                        some_are_left = true;
                        continue;
                    }
                }
            }
            receipts.push(receipt);
        }
        for leases in leases.chunks(MAX_TAKEN_OVER) {
            if !take_over(&self.hub, &self.session, &route, leases.to_vec(), Some(&mut self.late)).await {
                // They come again, perhaps to another worker.
                return true;
            }
        }
        if let Err(error) = in_time(route.broker.acknowledge(&route.queue, receipts)).await {
            // They come again, and find their leases gone.
            tracing::debug!(%error, queue = route.queue, "acknowledging failed");
            some_are_left = true;
        }
        if some_are_left {
            give_back(&route).await;
        }
        // There is room in flight now.
        route.forward_now.notify_one();
        !some_are_left
    }
}

/// Takes leases over, and puts their slices into the worker's hands. What parts of the store that are away have to say is waited for in `late`,
/// if there is one. Returns whether the messages need not come again.
async fn take_over(
    hub: &Arc<Hub>,
    session: &Session,
    route: &Arc<Route>,
    mut leases: Vec<LeaseName>,
    mut late: Option<&mut JoinSet<()>>,
) -> bool {
    while !leases.is_empty() {
        let Some(next) = when_nothing_is_suspect(hub, route).await else { return false };
        let call = TakingOver::new(hub, session, route, *next, leases);
        leases = match (call.ask(next).await, &mut late) {
            (Asked::Done { again }, _) => again,
            (Asked::Unanswered { call, again }, Some(late)) if hub.store.shards() > 1 => {
                late.spawn(take_over_late(call));
                again
            }
            (Asked::Unanswered { call, again }, _) => [again, call.until_answered().await].concat(),
        };
    }
    true
}

/// Goes on with a call when the part of the store that it is for is there again.
fn take_over_late(call: TakingOver) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let (hub, session, route) = (call.hub.clone(), call.session.clone(), call.route.clone());
        let again = call.until_answered().await;
        take_over(&hub, &session, &route, again, None).await;
    })
}

/// Waits until nothing that may kill this worker runs here, or waits to. `None` if the worker stops before, or if that takes so long that the
/// messages have been given back.
async fn when_nothing_is_suspect<'h>(hub: &'h Hub, route: &Route) -> Option<MutexGuard<'h, u64>> {
    let give_back_at = Instant::now() + NO_ROOM;
    loop {
        let came = hub.room_came.notified();
        tokio::pin!(came);
        came.as_mut().enable();
        let next_lease = hub.next_lease.lock().await;
        if !hub.is_isolated() {
            return Some(next_lease);
        }
        drop(next_lease);
        tokio::select! {
            biased;
            () = hub.stopping.cancelled() => return None,
            () = came => {}
            () = tokio::time::sleep_until(give_back_at) => {
                give_back(route).await;
                return None;
            }
        }
    }
}

/// A call by which leases are taken over. It is sent until the store has answered, with the same numbers: what has been taken over without
/// anybody knowing would be taken for a death of this worker.
struct TakingOver {
    hub: Arc<Hub>,
    session: Session,
    route: Arc<Route>,
    first_lease: u64,
    leases: Vec<LeaseName>,
    /// Once it has not been answered: as long as there is one, this worker holds perhaps more than it knows.
    unanswered: Option<Unanswered>,
}

/// What became of a call.
enum Asked {
    /// These are to be asked for with other numbers.
    Done { again: Vec<LeaseName> },
    /// Of these the store, or a part of it, has said nothing.
    Unanswered { call: TakingOver, again: Vec<LeaseName> },
}

impl TakingOver {
    fn new(hub: &Arc<Hub>, session: &Session, route: &Arc<Route>, first_lease: u64, leases: Vec<LeaseName>) -> Self {
        let (hub, session, route) = (hub.clone(), session.clone(), route.clone());
        Self { hub, session, route, first_lease, leases, unanswered: None }
    }

    /// Sends it until it is answered; returns what is to be asked for with other numbers. A worker that stops does not wait for its store for
    /// ever.
    async fn until_answered(mut self) -> Vec<LeaseName> {
        let mut all_again = Vec::new();
        let (mut backoff, mut tries) = (Backoff::new(), 0);
        loop {
            tokio::time::sleep(backoff.next()).await;
            tries = if self.hub.stopping.is_cancelled() { tries + 1 } else { 0 };
            if tries > LAST_TRIES {
                return Vec::new();
            }
            let hub = self.hub.clone();
            let next = hub.next_lease.lock().await;
            match self.ask(next).await {
                Asked::Done { again } => return [all_again, again].concat(),
                Asked::Unanswered { call, again } => {
                    all_again.extend(again);
                    self = call;
                }
            }
        }
    }

    /// Sends it once.
    async fn ask(mut self, mut next: MutexGuard<'_, u64>) -> Asked {
        let (hub, route) = (self.hub.clone(), self.route.clone());
        // A store of several parts deals the numbers out to them.
        *next = (*next).max(self.first_lease + (self.leases.len() as u64 + 1) * u64::from(hub.store.shards()));
        let asked = hub.monotonic();
        let take = TakeOver {
            session: hub.session,
            first_lease: self.first_lease,
            leases: self.leases.clone(),
            types: route.types.clone(),
            lease: hub.lease,
        };
        let taken = match hub.store.take_over(take).await {
            Ok(taken) => taken,
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, queue = route.queue, "taking over failed; it is tried again");
                return self.unanswered(Vec::new());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                drop(next);
                tracing::warn!(%error, "the store has forgotten this worker; it joins again");
                rejoin(&hub, &self.session).await;
                tokio::time::sleep(Backoff::new().next()).await;
                return Asked::Done { again: self.leases };
            }
            Err(error) => {
                tracing::error!(%error, queue = route.queue, "slices cannot be taken over; they are forwarded again");
                return Asked::Done { again: Vec::new() };
            }
        };
        *next = (*next).max(taken.last_lease + 1);
        wake(&taken.woken);
        let named = taken.slices.len() + taken.unknown.len() + taken.again.len() + taken.away.len();
        let gone = self.leases.len() - named;
        route.traffic.taken_over(taken.slices.len());
        route.traffic.unknown(taken.unknown.len());
        route.traffic.gone(gone);
        if gone + taken.unknown.len() > 0 {
            tracing::debug!(
                queue = route.queue,
                gone,
                unknown = taken.unknown.len(),
                "messages were late, doubled, or of types that are unknown here"
            );
        }
        for (_, slice) in taken.slices {
            accept(&hub, slice, asked + hub.lease as u64);
        }
        if taken.away.is_empty() {
            return Asked::Done { again: taken.again };
        }
        self.leases = taken.away;
        self.unanswered(taken.again)
    }

    fn unanswered(mut self, again: Vec<LeaseName>) -> Asked {
        let hub = self.hub.clone();
        self.unanswered.get_or_insert_with(|| Unanswered::new(&hub));
        Asked::Unanswered { call: self, again }
    }
}

/// Counts a call that has not been answered.
struct Unanswered {
    hub: Arc<Hub>,
}

impl Unanswered {
    fn new(hub: &Arc<Hub>) -> Self {
        hub.unanswered.fetch_add(1, Ordering::SeqCst);
        Self { hub: hub.clone() }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.hub.unanswered.fetch_sub(1, Ordering::SeqCst);
    }
}
