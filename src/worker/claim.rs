//! Claiming: keeps the slots busy, and about one target time of work ready for them, but no more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::held::Held;
use super::hub::Hub;
use super::jitter;
use super::queues::QueueOrder;
use super::wish::{InHand, MAX_LEASES, Standing, Wanted, Wish};
use crate::error::{ErrorKind, Result};
use crate::slice::TARGET_TIME;
use crate::store::{Claim, Claimed, Session, Store};
use crate::wake::wake;

/// How long a worker that can use nothing now waits for a change that nobody tells it of.
const POLL: Duration = Duration::from_millis(450);
/// A wake-up can be lost; the next look at what is due catches it. Should that not come either, a claim does after about so long.
const IDLE: Duration = Duration::from_secs(5);

/// So seldom does a worker claim that takes nothing from the store's own lines.
const SELDOM: Duration = Duration::from_millis(100);

/// Claims until the worker stops.
pub async fn claim_slices(hub: Arc<Hub>, session: Session, order: QueueOrder) {
    // The first lease of a claim that was not answered: sent again, it must be the same.
    let mut unanswered = None;
    let mut backoff = Backoff::new();
    let mut was_woken = false;
    while !hub.stopping.is_cancelled() {
        // Registered before looking, so that a slot that becomes free in between is not missed.
        let again = hub.claim_again.notified();
        tokio::pin!(again);
        again.as_mut().enable();
        let mut idle = false;
        let standing = standing(&hub, &session);
        let wait = match standing.wish() {
            Wish::Nothing => {
                hub.permits.wait_no_more(&hub).await;
                hub.look_after(POLL)
            }
            Wish::NoMore => {
                hub.permits.give_back(&hub).await;
                hub.look_after(POLL)
            }
            Wish::Claim(wanted) => {
                let mut claim = claim_of(&hub, wanted);
                // One that wants nothing only asks whether it should still drain.
                let permitted = if claim.takes.iter().any(|take| take.budget > 0) {
                    hub.permits.take(&hub, &mut claim).await
                } else {
                    hub.permits.wait_no_more(&hub).await;
                    Ok(())
                };
                // Never a branch of `select!`: a claim that nobody waits for any more would still be granted.
                let claimed = match permitted {
                    Ok(()) => claim_and_accept(&hub, claim, &order, &mut unanswered).await,
                    Err(error) => Err(error),
                };
                if claimed.is_err() {
                    hub.permits.claim_failed();
                }
                match claimed {
                    Ok(claimed) => {
                        backoff.reset();
                        wake(&claimed.woken);
                        let drains = claimed.drain && !hub.held.lock().is_empty();
                        let got_any = !claimed.slices.is_empty();
                        idle = claimed.idle;
                        let is_news = hub.permits.claimed(&claimed.waits, claimed.unanswered, claimed.drain);
                        if is_news && !drains {
                            continue;
                        }
                        hub.permits.give_back(&hub).await;
                        match (got_any, claimed.empty) {
                            (false, _) if drains => hub.look_after(POLL),
                            (_, true) => hub.look_after(jitter(IDLE)),
                            (true, false) => continue,
                            (false, false) => TARGET_TIME / 2,
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        tracing::warn!(%error, "the store has forgotten this worker; it joins again");
                        rejoin(&hub, &session).await;
                        backoff.next()
                    }
                    Err(error) => {
                        tracing::warn!(%error, "claiming failed; it is tried again");
                        backoff.next()
                    }
                }
            }
        };
        // Who woke it may have left more to do than there is to claim; but what can start comes first.
        if std::mem::take(&mut was_woken) {
            hub.tick_now.notify_one();
        }
        if hub.direct.is_empty() && hub.permits.is_empty() {
            // Its slices come by brokers: it only tells the store that it is idle, and looks for what is suspect.
            tokio::select! {
                biased;
                () = hub.stopping.cancelled() => {}
                () = tokio::time::sleep(SELDOM) => {}
            }
        }
        let until = Instant::now() + wait;
        loop {
            // What it tells about permits in between may bring the time at which it is to ask again.
            let until = hub.permits.next_ask(&hub).map_or(until, |ask| until.min(Instant::now() + ask));
            tokio::select! {
                biased;
                () = hub.stopping.cancelled() => break,
                () = &mut again, if !idle => break,
                () = hub.woken.notified() => {
                    was_woken = true;
                    hub.permits.ask_again();
                    hub.forward_now();
                    break;
                }
                () = hub.permits.some_to_give_back() => {
                    if hub.permits.is_hungry() {
                        break;
                    }
                    hub.permits.give_back(&hub).await;
                }
                () = hub.permits.some_started() => hub.permits.give_back(&hub).await,
                () = tokio::time::sleep_until(until) => break,
            }
        }
    }
}

/// Claims, and takes what is granted into the worker's hands. Nothing is taken over from brokers meanwhile: a slice that must run alone
/// would not.
async fn claim_and_accept(
    hub: &Arc<Hub>,
    mut claim: Claim,
    order: &QueueOrder,
    unanswered: &mut Option<u64>,
) -> Result<Claimed> {
    let mut next_lease = hub.next_lease.lock().await;
    claim.first_lease = *unanswered.get_or_insert(*next_lease);
    claim.alone = hub.holds_nothing();
    let asked = hub.monotonic();
    let was_alone = claim.alone;
    let claimed = claim_in_rounds(&*hub.store, claim, order).await;
    let may_be_alone = claimed.as_ref().is_err_and(|error| was_alone && error.is_transient());
    if hub.perhaps_alone.swap(may_be_alone, Ordering::SeqCst) && !may_be_alone {
        hub.room_came.notify_waiters();
    }
    let claimed = claimed?;
    *unanswered = None;
    *next_lease = (*next_lease).max(claimed.last_lease + 1);
    hub.drain(claimed.drain);
    for slice in &claimed.slices {
        accept(hub, slice.clone(), asked + hub.lease as u64);
    }
    Ok(claimed)
}

/// Claims from one set of queues after another, until one gives something.
async fn claim_in_rounds(store: &dyn Store, mut claim: Claim, order: &QueueOrder) -> Result<Claimed> {
    let mut rounds = order.rounds(&claim.queues).into_iter().peekable();
    let (mut waits, mut unanswered) = (Vec::new(), false);
    loop {
        claim.queues = rounds.next().unwrap_or_default();
        let is_last = rounds.peek().is_none();
        let mut claimed = store.claim(claim.clone()).await?;
        // What an earlier round lacked permits for is waited for, whatever a later one gives.
        waits.append(&mut claimed.waits);
        unanswered |= claimed.unanswered;
        if is_last || !claimed.slices.is_empty() || claimed.drain {
            if !is_last {
                // The queues that have not been asked may have more.
                (claimed.empty, claimed.idle) = (false, false);
            }
            return Ok(Claimed { waits, unanswered, ..claimed });
        }
        if unanswered {
            // What was granted there may be all that the permits allow.
            claim.permits.iter_mut().for_each(|(_, jobs)| *jobs = 0);
        }
        wake(&claimed.woken);
        claim.first_lease = claim.first_lease.max(claimed.last_lease + 1);
    }
}

pub async fn rejoin(hub: &Hub, session: &Session) {
    for held in hub.all_held() {
        held.lose();
    }
    hub.permits.forget();
    if let Err(error) = hub.store.join(session.clone()).await {
        tracing::warn!(%error, "joining failed; it is tried again");
    }
}

/// How the worker stands now.
pub fn standing(hub: &Hub, session: &Session) -> Standing {
    let last_end = hub.last_end.load(Ordering::Relaxed);
    Standing {
        slots: hub.slots,
        idle: hub.idle_slots.load(Ordering::SeqCst),
        parallel: hub.parallel(),
        is_quick: hub.monotonic().saturating_sub(last_end) < 4 * TARGET_TIME.as_millis() as u64,
        drains: hub.draining.load(Ordering::SeqCst),
        held: hub.all_held().iter().map(|held| InHand::of(held)).collect(),
        types: session.types.iter().map(|job_type| (job_type.clone(), hub.mean(job_type))).collect(),
    }
}

fn claim_of(hub: &Hub, wanted: Wanted) -> Claim {
    Claim {
        session: hub.session,
        first_lease: 0,
        max_leases: MAX_LEASES,
        most_held: None,
        queues: hub.direct.clone(),
        by_broker: hub.routes.iter().map(|route| route.queue.clone()).collect(),
        takes: wanted.takes,
        free_slots: wanted.free,
        max_limited: wanted.limited,
        alone: false,
        permits: Vec::new(),
        lease: hub.lease,
    }
}

/// Takes a slice into the worker's hands.
pub fn accept(hub: &Arc<Hub>, slice: crate::store::Slice, deadline: u64) {
    let lease = slice.lease;
    let held = Arc::new(Held::new(slice, hub.clone(), deadline));
    let mut all = hub.held.lock();
    if hub.stopped.is_cancelled() {
        // The worker has ended while this was on its way: nobody would run it, and it must not be renewed for ever.
        return;
    }
    let is_new = all.insert(lease, held.clone()).is_none();
    drop(all);
    if is_new {
        held.use_permits();
        hub.queue.lock().push_back(held);
        hub.work_came.notify_waiters();
    }
}

/// Gives back what has waited here for too long: slow jobs before it must not hold it up when another worker is free.
pub async fn give_back_what_waits(hub: Arc<Hub>) {
    let mut looks = tokio::time::interval(TARGET_TIME);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = hub.stopping.cancelled() => return,
            _ = looks.tick() => {}
        }
        for held in hub.all_held() {
            if held.unstarted() > 0 && held.claimed.elapsed() > 4 * TARGET_TIME && !held.slice.suspect {
                super::report::return_unstarted(&hub, &held);
            }
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::store::sqlite::{Options, SqliteStore};
    use crate::store::{Enqueue, Lane, Limited, LoneJobs, Take};

    #[tokio::test]
    async fn what_an_earlier_queue_lacks_permits_for_is_told_although_a_later_one_gives_something() {
        let store = SqliteStore::open(Options::in_memory()).unwrap();
        let queues = ["urgent", "mail", "bulk"].map(str::to_owned).to_vec();
        let types = ["Scarce", "Row"].map(str::to_owned).to_vec();
        let session = Session { queues: queues.clone(), types: types.clone(), slots: 8, ..Session::new(1_000) };
        store.join(session.clone()).await.unwrap();
        let job = |queue: &str, of: &str| LoneJobs::one(Lane::new(0, queue, 0, of), b"{}", None).unwrap();
        let jobs = vec![job("urgent", "Scarce"), job("mail", "Row")];
        store.enqueue(Enqueue { session: session.id, command: 1, jobs }).await.unwrap();
        let scarce = Limited::Type("Scarce".into());
        let claim = Claim {
            session: session.id,
            first_lease: 1,
            max_leases: 4,
            most_held: None,
            queues,
            by_broker: Vec::new(),
            takes: types.into_iter().map(|job_type| Take { job_type, jobs: 8, budget: 8 }).collect(),
            free_slots: 8,
            max_limited: 8,
            alone: false,
            permits: vec![(scarce.clone(), 0)],
            lease: 1_000,
        };
        let claimed = claim_in_rounds(&store, claim, &QueueOrder::Strict).await.unwrap();
        assert_eq!((claimed.slices.len(), claimed.waits), (1, vec![scarce]));
    }

    #[tokio::test]
    async fn who_got_little_from_the_first_queue_asks_again_at_once_and_who_got_nothing_from_any_is_idle() {
        let store = SqliteStore::open(Options::in_memory()).unwrap();
        let queues = ["first", "later"].map(str::to_owned).to_vec();
        let session = Session { queues: queues.clone(), types: vec!["Row".into()], slots: 8, ..Session::new(1_000) };
        store.join(session.clone()).await.unwrap();
        let job = |queue: &str| LoneJobs::one(Lane::new(0, queue, 0, "Row"), b"{}", None).unwrap();
        let jobs = queues.iter().map(|queue| job(queue)).collect();
        store.enqueue(Enqueue { session: session.id, command: 1, jobs }).await.unwrap();
        let (mut first_lease, mut told) = (1, Vec::new());
        for _ in 0..3 {
            let claim = Claim {
                session: session.id,
                first_lease,
                max_leases: 4,
                most_held: None,
                queues: queues.clone(),
                by_broker: Vec::new(),
                takes: vec![Take { job_type: "Row".into(), jobs: 8, budget: 8 }],
                free_slots: 8,
                max_limited: 8,
                alone: false,
                permits: Vec::new(),
                lease: 1_000,
            };
            let claimed = claim_in_rounds(&store, claim, &QueueOrder::Strict).await.unwrap();
            first_lease = first_lease.max(claimed.last_lease + 1);
            told.push((claimed.slices.len(), claimed.idle));
        }
        assert_eq!(told, [(1, false), (1, true), (0, true)]);
    }
}
