//! Consuming: messages of a queue that goes by a broker are received as long as there is room for their slices, and each lease that one
//! names is taken over. Then the message is acknowledged at once, whatever becomes of the jobs: the store holds the lease.
//!
//! Nothing is taken over beside a slice that may kill its worker: messages that have come then wait, unacknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::MutexGuard;

use super::backoff::Backoff;
use super::claim::{accept, rejoin, standing};
use super::forward::Route;
use super::hub::Hub;
use crate::broker::{Delivery, Message, Receipt};
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
    let mut backoff = Backoff::new();
    while let Some(room) = room(&hub, &session, &route).await {
        let received = tokio::select! {
            biased;
            () = hub.stopping.cancelled() => break,
            received = listen(&route, room) => received,
        };
        match received {
            Ok(deliveries) => {
                backoff.reset();
                take_in(&hub, &session, &route, deliveries).await;
            }
            Err(error) => {
                route.consumes.store(false, Ordering::SeqCst);
                tracing::warn!(%error, queue = route.queue, broker = route.broker.name(), "receiving failed; it is tried again");
                tokio::select! {
                    () = hub.stopping.cancelled() => {}
                    () = tokio::time::sleep(backoff.next()) => {}
                }
            }
        }
    }
    route.consumes.store(false, Ordering::SeqCst);
    give_back(&route).await;
}

/// Gives back what the broker has sent, and nobody has acknowledged: here it is of no use.
async fn give_back(route: &Route) {
    if let Err(error) = route.broker.pause(&route.queue).await {
        tracing::debug!(%error, queue = route.queue, "what was sent ahead comes again by itself");
    }
}

/// Receives; once it is clear that the broker is there, slices are forwarded.
async fn listen(route: &Route, room: u32) -> crate::Result<Vec<Delivery>> {
    if !route.consumes.load(Ordering::SeqCst) {
        route.broker.check(&route.queue).await?;
        route.consumes.store(true, Ordering::SeqCst);
        route.forward_now.notify_one();
    }
    route.broker.receive(&route.queue, room).await
}

/// Waits until there is room; for how many slices. `None` once the worker stops.
async fn room(hub: &Hub, session: &Session, route: &Route) -> Option<u32> {
    let mut pauses = false;
    while !hub.stopping.is_cancelled() {
        let came = hub.room_came.notified();
        tokio::pin!(came);
        came.as_mut().enable();
        let room = standing(hub, session).room();
        if room > 0 {
            return Some(room);
        }
        tokio::select! {
            biased;
            () = hub.stopping.cancelled() => return None,
            () = came => {}
            () = tokio::time::sleep(NO_ROOM) => {
                if !std::mem::replace(&mut pauses, true) {
                    give_back(route).await;
                }
            }
        }
    }
    None
}

/// Takes over what the deliveries name, and acknowledges them.
async fn take_in(hub: &Arc<Hub>, session: &Session, route: &Route, deliveries: Vec<Delivery>) {
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
                if aside && let Err(error) = route.broker.set_aside(&route.queue, body).await {
                    // It comes again, and is set aside then.
                    tracing::warn!(%error, queue = route.queue, "setting a message aside failed");
                    some_are_left = true;
                    continue;
                }
            }
        }
        receipts.push(receipt);
    }
    for leases in leases.chunks(MAX_TAKEN_OVER) {
        if !take_over(hub, session, route, leases.to_vec()).await {
            // They come again, perhaps to another worker.
            return;
        }
    }
    if let Err(error) = route.broker.acknowledge(&route.queue, receipts).await {
        // They come again, and find their leases gone.
        tracing::debug!(%error, queue = route.queue, "acknowledging failed");
        some_are_left = true;
    }
    if some_are_left {
        give_back(route).await;
    }
    // There is room in flight now.
    route.forward_now.notify_one();
}

/// Waits until nothing that may kill this worker runs here, or waits to. `None` if the worker stops before.
async fn when_nothing_is_suspect(hub: &Hub) -> Option<MutexGuard<'_, u64>> {
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
        }
    }
}

/// Takes leases over, and puts their slices into the worker's hands. Does not rest before the store has answered: what has been taken over
/// without anybody knowing would be taken for a death of this worker. Returns whether the messages need not come again.
async fn take_over(hub: &Arc<Hub>, session: &Session, route: &Route, mut leases: Vec<LeaseName>) -> bool {
    let (mut backoff, mut tries) = (Backoff::new(), 0);
    // The first number of a call that was not answered: sent again, it must be the same.
    let mut unanswered: Option<Unanswered> = None;
    while !leases.is_empty() {
        // A worker that stops does not wait for its store for ever.
        tries = if hub.stopping.is_cancelled() { tries + 1 } else { 0 };
        if tries > LAST_TRIES {
            return true;
        }
        let mut next = match &unanswered {
            // What may have been taken over is in this worker's hands already.
            Some(_) => hub.next_lease.lock().await,
            None => match when_nothing_is_suspect(hub).await {
                Some(next) => next,
                None => return false,
            },
        };
        let first_lease = unanswered.as_ref().map_or(*next, |call| call.first_lease);
        // A store of several parts deals the numbers out to them.
        *next = (*next).max(first_lease + (leases.len() as u64 + 1) * u64::from(hub.store.shards()));
        let asked = hub.monotonic();
        let take = TakeOver {
            session: hub.session,
            first_lease,
            leases: leases.clone(),
            types: route.types.clone(),
            lease: hub.lease,
        };
        let answer = hub.store.take_over(take).await;
        let taken = match answer {
            Ok(taken) => taken,
            Err(error) if error.is_transient() => {
                unanswered.get_or_insert_with(|| Unanswered::new(hub, first_lease));
                drop(next);
                tracing::warn!(%error, queue = route.queue, "taking over failed; it is tried again");
                tokio::time::sleep(backoff.next()).await;
                continue;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                drop(next);
                tracing::warn!(%error, "the store has forgotten this worker; it joins again");
                rejoin(hub, session).await;
                tokio::time::sleep(backoff.next()).await;
                unanswered = None;
                continue;
            }
            Err(error) => {
                tracing::error!(%error, queue = route.queue, "slices cannot be taken over; they are forwarded again");
                return true;
            }
        };
        *next = (*next).max(taken.last_lease + 1);
        wake(&taken.woken);
        let gone = leases.len() - taken.slices.len() - taken.unknown.len() - taken.again.len() - taken.away.len();
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
            accept(hub, slice, asked + hub.lease as u64);
        }
        if taken.away.is_empty() {
            unanswered = None;
            leases = taken.again;
            continue;
        }
        // With the same numbers, so that the store knows it again; those that need others are asked for with the next.
        unanswered.get_or_insert_with(|| Unanswered::new(hub, first_lease));
        drop(next);
        tokio::time::sleep(backoff.next()).await;
        if !taken.again.is_empty() {
            Box::pin(take_over(hub, session, route, taken.again)).await;
        }
        leases = taken.away;
    }
    true
}

/// A call that was not answered. As long as there is one this worker holds perhaps more than it knows.
struct Unanswered {
    hub: Arc<Hub>,
    first_lease: u64,
}

impl Unanswered {
    fn new(hub: &Arc<Hub>, first_lease: u64) -> Self {
        hub.unanswered.fetch_add(1, Ordering::SeqCst);
        Self { hub: hub.clone(), first_lease }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.hub.unanswered.fetch_sub(1, Ordering::SeqCst);
    }
}
