//! Claiming: keeps the slots busy, and about one target time of work ready for them, but no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::backoff::Backoff;
use super::held::Held;
use super::hub::Hub;
use super::jitter;
use crate::error::ErrorKind;
use crate::slice::{CHUNK_JOBS, TARGET_TIME, take};
use crate::store::{Claim, Session, Take};
use crate::wake::wake;

/// The most leases that one claim asks for.
const MAX_LEASES: u32 = 16;
/// How long a worker that can use nothing now waits for a change that nobody tells it of.
const POLL: Duration = Duration::from_millis(450);
/// A wake-up can be lost; the next look at what is due catches it. Should that not come either, a claim does after about so long.
const IDLE: Duration = Duration::from_secs(5);

/// So seldom does a worker claim that takes nothing from the store's own lines.
const SELDOM: Duration = Duration::from_millis(100);

/// Claims until the worker stops.
pub async fn claim_slices(hub: Arc<Hub>, session: Session) {
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
        let wait = match wishes(&hub, &session) {
            None => hub.look_after(POLL),
            Some(mut claim) => {
                let mut next_lease = hub.next_lease.lock().await;
                claim.first_lease = *unanswered.get_or_insert(*next_lease);
                let asked = hub.monotonic();
                // Never a branch of `select!`: a claim that nobody waits for any more would still be granted.
                let answer = hub.store.claim(claim).await;
                if let Ok(claimed) = &answer {
                    unanswered = None;
                    *next_lease = (*next_lease).max(claimed.last_lease + 1);
                }
                drop(next_lease);
                match answer {
                    Ok(claimed) => {
                        backoff.reset();
                        wake(&claimed.woken);
                        hub.draining.store(claimed.drain, Ordering::SeqCst);
                        let drains = claimed.drain && !hub.held.lock().is_empty();
                        let got_any = !claimed.slices.is_empty();
                        idle = claimed.idle;
                        for slice in claimed.slices {
                            accept(&hub, slice, asked + hub.lease as u64);
                        }
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
        if hub.direct.is_empty() {
            // Its slices come by brokers: it only tells the store that it is idle, and looks for what is suspect.
            tokio::select! {
                biased;
                () = hub.stopping.cancelled() => {}
                () = tokio::time::sleep(SELDOM) => {}
            }
        }
        tokio::select! {
            biased;
            () = hub.stopping.cancelled() => {}
            () = again, if !idle => {}
            () = hub.woken.notified() => {
                was_woken = true;
                hub.forward_now();
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

pub async fn rejoin(hub: &Hub, session: &Session) {
    for held in hub.all_held() {
        held.lose();
    }
    if let Err(error) = hub.store.join(session.clone()).await {
        tracing::warn!(%error, "joining failed; it is tried again");
    }
}

/// What a worker has in hand, against what it can do.
pub struct Load {
    /// Slots for which it has no job.
    pub free: u32,
    /// Seconds of work that nobody has started.
    queued: f64,
    /// Seconds of work that it should have.
    target: f64,
    /// Whether it wants nothing before it holds nothing.
    drains: bool,
    /// Whether slots turn over what is fetched ahead.
    quick: bool,
    /// Whether it holds too many leases for more.
    full: bool,
}

/// What the worker has in hand now.
pub fn load(hub: &Hub, types: &[String]) -> Load {
    let held = hub.all_held();
    let waiting: usize = held.iter().map(|held| held.unstarted()).sum();
    let idle = hub.idle_slots.load(Ordering::SeqCst);
    let means: HashMap<&str, Option<Duration>> = types.iter().map(|name| (name.as_str(), hub.mean(name))).collect();
    let mean = |held: &Held| means.get(held.slice.job_type.as_str()).copied().flatten().unwrap_or(TARGET_TIME);
    Load {
        free: idle.saturating_sub(u32::try_from(waiting).unwrap_or(u32::MAX)),
        queued: held.iter().map(|held| held.unstarted() as f64 * mean(held).as_secs_f64()).sum(),
        target: TARGET_TIME.as_secs_f64() * hub.parallel(),
        drains: hub.draining.load(Ordering::SeqCst) && !held.is_empty(),
        // Work is fetched ahead only while the slots turn it over: behind slow jobs it would just wait here instead of elsewhere.
        quick: hub.monotonic().saturating_sub(hub.last_end.load(Ordering::Relaxed))
            < 4 * TARGET_TIME.as_millis() as u64,
        full: held.len() >= 4 * hub.slots as usize + MAX_LEASES as usize,
    }
}

impl Load {
    fn has_enough(&self) -> bool {
        self.free == 0 && (self.queued >= self.target / 2.0 || !self.quick || self.full)
    }

    /// For how many slices there is room that others have cut for `slots` slots.
    pub fn slices(&self, slots: u32) -> u32 {
        if self.drains || self.has_enough() { 0 } else { self.free.max(slots.div_ceil(2)) }
    }
}

/// What the worker would claim now; `None` if it has enough.
fn wishes(hub: &Hub, session: &Session) -> Option<Claim> {
    let held = hub.all_held();
    let alone = held.is_empty();
    if hub.draining.load(Ordering::SeqCst) && !alone {
        // Wants nothing, but asks whether the suspect slice still waits: another worker may have come by it first.
        let takes = session.types.iter().map(|job_type| Take { job_type: job_type.clone(), jobs: 0, budget: 0 });
        return Some(claim_of(hub, takes.collect(), 0, false));
    }
    let load = load(hub, &session.types);
    if load.has_enough() {
        return None;
    }
    let (free, slots) = (load.free, hub.slots as usize);
    let room = (load.target - load.queued).max(0.0);
    let takes = session.types.iter().filter_map(|job_type| {
        let mean = hub.mean(job_type);
        let jobs = match mean {
            // Nobody knows how long it takes, but it must not wait until all that is known has run out.
            None => free.max(1) as usize,
            Some(mean) => take(Some(mean), slots),
        };
        let budget = match mean {
            None => free.max(1) as usize,
            Some(mean) => {
                ((room / mean.as_secs_f64().max(1e-9)) as usize).clamp(free as usize, CHUNK_JOBS * MAX_LEASES as usize)
            }
        };
        (budget > 0).then(|| Take { job_type: job_type.clone(), jobs: jobs as u32, budget: budget as u32 })
    });
    let takes: Vec<Take> = takes.collect();
    (!takes.is_empty()).then(|| claim_of(hub, takes, free, alone))
}

fn claim_of(hub: &Hub, takes: Vec<Take>, free_slots: u32, alone: bool) -> Claim {
    Claim {
        session: hub.session,
        first_lease: 0,
        max_leases: MAX_LEASES,
        queues: hub.direct.clone(),
        suspects_of: hub.routes.iter().map(|route| route.queue.clone()).collect(),
        most_held: None,
        takes,
        free_slots,
        alone,
        lease: hub.lease,
    }
}

/// Takes a slice into the worker's hands.
pub fn accept(hub: &Arc<Hub>, slice: crate::store::Slice, deadline: u64) {
    let lease = slice.lease;
    let held = Arc::new(Held::new(slice, hub.clone(), deadline));
    if hub.held.lock().insert(lease, held.clone()).is_none() {
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
