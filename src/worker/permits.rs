//! Permits of limits: taken before a claim, given back when the store has acknowledged what became of their jobs.
//!
//! ```text
//! a claim names a limit that has work ─► hungry ─► permits ─► claim ─► slices in hand ─► reported ─► given back
//!                                                     └── refused: the store wakes this worker when something is free
//! ```
//!
//! What the store is told are absolute numbers, so a call may fail and be made again. A worker without limits has an empty list here, and
//! asks nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::hub::Hub;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::Limit;
use crate::planted::planted;
use crate::store::{Claim, Granted, Limited, MAX_PERMITS, Permit, Slice, Wanted};
use crate::wake::wake;

/// How long starts gather before they are told: until then they count as about to come.
const GATHER: Duration = Duration::from_millis(20);
/// So soon after a refusal it is not asked again, unless the store wakes this worker.
const PATIENCE: u64 = 250;
/// The shortest wait before it asks of itself, in milliseconds.
const SOON: u64 = 10;

/// The limits that a worker knows.
#[derive(Debug, Default)]
pub struct Permits {
    all: Vec<Arc<Known>>,
    /// One call after the other: what a later one tells counts.
    calls: tokio::sync::Mutex<()>,
    told: Arc<Signals>,
    /// Whether it is the turn of a look that nobody asked for.
    looks: AtomicBool,
    /// In how many parts the store is: so many claims in a row see all of it.
    shards: u32,
}

/// What the claims wait for.
#[derive(Debug, Default)]
struct Signals {
    given_back: Notify,
    started: Notify,
}

/// One limit, and what this worker has of it.
#[derive(Debug)]
pub struct Known {
    of: Limited,
    limit: Limit,
    shard: u16,
    /// By the worker's monotonic clock: from then on no job under it is started.
    deadline: AtomicU64,
    counts: Mutex<Counts>,
    signals: Arc<Signals>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Jobs in hand that the store has not acknowledged a report of.
    unreported: u32,
    /// How many of those nobody has started.
    unstarted: u32,
    /// Jobs started since the worker began.
    used: u64,
    /// Permits for the claim that comes next.
    spare: u32,
    /// Permits for claims that were not answered: they may have been granted, and come later.
    pending: u32,
    /// A claim has told of work that lacks permits.
    is_hungry: bool,
    /// How many claims in a row have had permits and not told of any work.
    misses: u32,
    /// The store counts this worker among those that wait, for so many.
    waits: bool,
    asked: u32,
    /// When to ask again: the store knows when something is free.
    ask_at: Option<u64>,
    /// When it was refused last, or not answered: for a while it is not asked again.
    refused_at: Option<u64>,
    failed_at: Option<u64>,
    /// What the store knows: held, unstarted, used; nothing if that is not certain.
    told: Option<(u32, u32, u64)>,
}

/// For how many more jobs a worker has room.
#[derive(Clone, Copy, Debug)]
enum Room {
    For(u32),
    /// As when it asked last.
    AsBefore,
}

impl Counts {
    fn held(&self) -> u32 {
        self.unreported + self.pending
    }

    /// What the store has to know now. Starts only count where there is a rate.
    fn now(&self, limit: Limit) -> (u32, u32, u64) {
        let has_rate = limit.starts().is_some();
        (self.held(), if has_rate { self.unstarted + self.pending } else { 0 }, if has_rate { self.used } else { 0 })
    }

    /// How many more it wants, with room for so many.
    fn wants(&self, room: Room, monotonic: u64) -> u32 {
        let room = match room {
            Room::For(room) => room,
            // What the last claim could not use it would not use now either.
            Room::AsBefore => return if self.is_hungry && self.waits && self.spare == 0 { self.asked } else { 0 },
        };
        let waits_for_time = self.ask_at.is_some_and(|at| monotonic < at);
        let was_just_refused = self.refused_at.is_some_and(|at| monotonic < at + PATIENCE);
        match self.is_hungry && !waits_for_time && !was_just_refused {
            true => room.saturating_sub(self.pending),
            false => 0,
        }
    }
}

impl Known {
    /// Whether it is the limit of a queue.
    pub fn is_of_queue(&self) -> bool {
        !self.of.is_type()
    }

    /// Jobs under it have been claimed.
    pub fn claimed(&self, jobs: u32) {
        let mut counts = self.counts.lock();
        counts.unreported += jobs;
        counts.unstarted += jobs;
        counts.spare = counts.spare.saturating_sub(jobs);
    }

    /// One of those has been started.
    pub fn started(&self) {
        let mut counts = self.counts.lock();
        counts.unstarted = counts.unstarted.saturating_sub(1);
        counts.used += 1;
        if self.limit.starts().is_some() {
            self.signals.started.notify_one();
        }
    }

    /// Some will not be started here.
    pub fn returned(&self, jobs: u32) {
        let mut counts = self.counts.lock();
        counts.unstarted = counts.unstarted.saturating_sub(jobs);
    }

    /// The store knows what became of some.
    pub fn reported(&self, jobs: u32) {
        let mut counts = self.counts.lock();
        counts.unreported = counts.unreported.saturating_sub(jobs);
        if jobs > 0 {
            self.signals.given_back.notify_one();
        }
    }

    /// Whether its permits may have ended.
    pub fn is_over(&self, monotonic: u64) -> bool {
        monotonic >= self.deadline.load(Ordering::Relaxed)
    }

    /// How many jobs of it count as running.
    #[cfg(test)]
    pub fn held(&self) -> u32 {
        self.counts.lock().held()
    }

    fn is_of(&self, slice: &Slice) -> bool {
        match &self.of {
            Limited::Queue(name) => slice.queue.as_ref() == Some(name),
            Limited::Type(name) => slice.job_type == *name,
        }
    }

    /// What the store is to be told, if anything is new.
    fn wanted(&self, room: Room, monotonic: u64) -> Option<Wanted> {
        let mut counts = self.counts.lock();
        if counts.failed_at.is_some_and(|at| monotonic < at + PATIENCE) {
            return None;
        }
        let (held, unstarted, used) = counts.now(self.limit);
        let spare = counts.spare;
        if spare > 0 && counts.is_hungry && matches!(room, Room::For(1..)) {
            let has_rate = self.limit.starts().is_some();
            if counts.told == Some((held + spare, unstarted + if has_rate { spare } else { 0 }, used)) {
                // What it got without having asked anew is what the claim takes.
                return None;
            }
        }
        let more = counts.wants(room, monotonic);
        let is_new = counts.told != Some((held, unstarted, used));
        let withdraws = counts.waits && (!counts.is_hungry || matches!(room, Room::For(0)));
        let asks = more > 0 && matches!(room, Room::For(_));
        if !asks && !is_new && !withdraws {
            return None;
        }
        // Until the answer is there, none is certain.
        counts.spare = 0;
        let unstarted = counts.unstarted + counts.pending;
        let used = counts.used;
        Some(Wanted { of: self.of.clone(), limit: self.limit, held, unstarted, used, more })
    }

    fn answered(&self, wanted: &Wanted, granted: Granted, asked: u64, lease: u64) {
        let mut counts = self.counts.lock();
        let more = granted.more.min(wanted.more);
        counts.spare = more;
        counts.waits = more < wanted.more;
        counts.asked = wanted.more;
        counts.failed_at = None;
        if wanted.more > 0 {
            // Who has only given something back knows when to ask again as before.
            counts.refused_at = (more == 0 && granted.free_in.is_none()).then_some(asked);
            counts.ask_at = granted.free_in.filter(|_| counts.waits).map(|wait| asked + wait.max(1) as u64);
        }
        let has_rate = self.limit.starts().is_some();
        counts.told = Some((
            wanted.held + more,
            if has_rate { wanted.unstarted + more } else { 0 },
            if has_rate { wanted.used } else { 0 },
        ));
        self.deadline.store(asked + lease, Ordering::Relaxed);
    }

    fn has_any(&self) -> bool {
        let counts = self.counts.lock();
        counts.waits || counts.told != Some((0, 0, counts.now(self.limit).2))
    }

    /// What the store knows is not certain any more.
    fn is_uncertain(&self) {
        self.counts.lock().told = None;
    }

    fn not_answered(&self, asked: u64) {
        let mut counts = self.counts.lock();
        (counts.told, counts.failed_at) = (None, Some(asked));
    }
}

impl Permits {
    pub fn new(limits: Vec<(Limited, Limit)>, shards: u16) -> Self {
        let told = Arc::<Signals>::default();
        let known = |(of, limit): (Limited, Limit)| {
            let shard = of.shard(shards);
            let counts = Counts { told: Some((0, 0, 0)), ..Counts::default() };
            let (deadline, counts, signals) = (AtomicU64::new(0), Mutex::new(counts), told.clone());
            Arc::new(Known { of, limit, shard, deadline, counts, signals })
        };
        let all = limits.into_iter().map(known).collect();
        Self { all, told, looks: AtomicBool::new(false), shards: u32::from(shards), ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The limits that a slice counts towards.
    pub fn of(&self, slice: &Slice) -> Vec<Arc<Known>> {
        self.all.iter().filter(|known| known.is_of(slice)).cloned().collect()
    }

    /// Takes permits for what is known to wait for them, and tells the claim what it may take. An error only if the store does not know this
    /// worker any more: where permits cannot be had, nothing is claimed.
    pub async fn take(&self, hub: &Hub, claim: &mut Claim) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.exchange(hub, Room::For(claim.max_limited)).await?;
        for known in &self.all {
            let mut spare = known.counts.lock().spare;
            if planted!("a limited job is claimed without a permit") {
                spare = claim.max_limited;
            }
            if let Limited::Type(name) = &known.of
                && let Some(take) = claim.takes.iter_mut().find(|take| take.job_type == *name)
            {
                (take.jobs, take.budget) = (take.jobs.min(spare.max(1)), spare);
            }
            claim.permits.push((known.of.clone(), spare));
        }
        Ok(())
    }

    /// A claim has been answered, and its slices are in hand; one that drains may have left work that it has permits for. Returns whether it
    /// tells of work that permits have not been asked for.
    pub fn claimed(&self, waits: &[Limited], unanswered: bool, drains: bool) -> bool {
        let mut is_news = false;
        for known in &self.all {
            let mut counts = known.counts.lock();
            let had_some = counts.spare > 0;
            if unanswered {
                counts.pending += std::mem::take(&mut counts.spare);
            } else {
                counts.pending = 0;
            }
            if waits.contains(&known.of) {
                is_news |= !counts.is_hungry;
                (counts.is_hungry, counts.misses) = (true, 0);
            } else if counts.is_hungry && !drains && (had_some || counts.waits) {
                counts.misses += 1;
                if counts.misses >= self.shards {
                    (counts.is_hungry, counts.misses) = (false, 0);
                }
            }
        }
        is_news
    }

    /// A claim may have been granted something, but nobody has heard of it.
    pub fn claim_failed(&self) {
        self.claimed(&[], true, false);
    }

    /// Gives back what is not used, and tells what has changed, if anything has. Who waits goes on waiting.
    pub async fn give_back(&self, hub: &Hub) {
        self.tell(hub, Room::AsBefore).await;
    }

    /// The same; but nothing could start here now, so it waits for nothing either.
    pub async fn wait_no_more(&self, hub: &Hub) {
        self.tell(hub, Room::For(0)).await;
    }

    async fn tell(&self, hub: &Hub, room: Room) {
        if self.is_empty() {
            return;
        }
        if let Err(error) = self.exchange(hub, room).await {
            tracing::debug!(%error, "permits could not be given back; it is tried again");
        }
        // What was waited for and has come is for the next claim.
        if self.all.iter().any(|known| known.counts.lock().spare > 0) {
            self.told.given_back.notify_one();
        }
    }

    /// Tells the store what has changed, and asks for as many as there is room for.
    async fn exchange(&self, hub: &Hub, room: Room) -> Result<()> {
        let _turn = self.calls.lock().await;
        let asked = hub.monotonic();
        let mut by_shard: BTreeMap<u16, Vec<(&Known, Wanted)>> = BTreeMap::new();
        for known in &self.all {
            if let Some(wanted) = known.wanted(room, asked) {
                by_shard.entry(known.shard).or_default().push((known, wanted));
            }
        }
        let mut calls = Vec::new();
        for (shard, mut wanted) in by_shard {
            while !wanted.is_empty() {
                let rest = wanted.split_off(wanted.len().min(MAX_PERMITS));
                calls.push(ask(hub, shard, std::mem::replace(&mut wanted, rest), asked));
            }
        }
        let mut forgotten = None;
        for error in join_all(calls).await.into_iter().flatten() {
            if error.kind() == ErrorKind::NotFound {
                forgotten = Some(error);
            } else {
                tracing::warn!(%error, "permits could not be had; it is tried again");
            }
        }
        forgotten.map_or(Ok(()), Err)
    }

    /// The store has kept the permits of this session, but those on shards that are away.
    pub fn renewed(&self, now: u64, until: u64, away: &[u16]) {
        for known in self.all.iter().filter(|known| !away.contains(&known.shard) && known.has_any()) {
            if known.is_over(now) {
                // They may have ended meanwhile: only the store can tell.
                known.is_uncertain();
                self.told.given_back.notify_one();
            } else {
                known.deadline.fetch_max(until, Ordering::Relaxed);
            }
        }
    }

    /// The store tells that there is something: who was refused asks again.
    pub fn ask_again(&self) {
        for known in &self.all {
            let mut counts = known.counts.lock();
            (counts.ask_at, counts.refused_at) = (None, None);
        }
    }

    /// Nothing that the store was told is certain any more.
    pub fn forget(&self) {
        self.all.iter().for_each(|known| known.is_uncertain());
    }

    /// Whether something waits for permits.
    pub fn is_hungry(&self) -> bool {
        self.all.iter().any(|known| known.counts.lock().is_hungry)
    }

    /// How long until it is worth while to ask again.
    pub fn next_ask(&self, hub: &Hub) -> Option<Duration> {
        let next = |known: &Arc<Known>| {
            let counts = known.counts.lock();
            counts.failed_at.map(|at| at + PATIENCE).or(counts.ask_at.filter(|_| counts.waits))
        };
        let first = self.all.iter().filter_map(next).min()?;
        // Where the time has passed, and yet nothing is asked, a claim in a while will do.
        Some(Duration::from_millis(first.saturating_sub(hub.monotonic()).max(SOON)))
    }

    /// Whether to claim what the store says is ready although nobody was woken for it: that may just be what waits for permits, so every
    /// second time will do.
    pub fn looks_now(&self) -> bool {
        let is_refused = self.all.iter().any(|known| known.counts.lock().waits);
        !is_refused || self.looks.fetch_xor(true, Ordering::Relaxed)
    }

    /// Jobs have been reported: what they ran under can be given back. Never, if there are no limits.
    pub async fn some_to_give_back(&self) {
        self.told.given_back.notified().await;
    }

    /// Jobs have been started, some time ago.
    pub async fn some_started(&self) {
        self.told.started.notified().await;
        tokio::time::sleep(GATHER).await;
    }

    /// Gives back what comes free while the worker stops and its jobs come to their ends.
    pub async fn give_back_to_the_end(hub: Arc<Hub>) {
        hub.stopping.cancelled().await;
        loop {
            hub.permits.wait_no_more(&hub).await;
            tokio::select! {
                biased;
                () = hub.stopped.cancelled() => return,
                () = hub.permits.some_to_give_back() => {}
            }
        }
    }
}

/// One call; returns the error if it fails.
async fn ask(hub: &Hub, shard: u16, wanted: Vec<(&Known, Wanted)>, asked: u64) -> Option<Error> {
    let limits = wanted.iter().map(|(_, wanted)| wanted.clone()).collect();
    match hub.store.permit(Permit { session: hub.session, shard, limits, lease: hub.lease }).await {
        Ok(permitted) => {
            wake(&permitted.woken);
            for ((known, wanted), granted) in wanted.iter().zip(permitted.granted) {
                known.answered(wanted, granted, asked, hub.lease as u64);
            }
            None
        }
        Err(error) => {
            wanted.iter().for_each(|(known, _)| known.not_answered(asked));
            Some(error)
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::app::App;
    use crate::store::sqlite::{Options, SqliteStore};
    use crate::store::{Enqueue, Lane, LoneJobs, Session, Store, Take};
    use crate::worker::held::{End, Ended, Held};

    fn row() -> Limited {
        Limited::Type("Row".into())
    }

    /// A worker's part of a store, which knows one limit.
    async fn hub(store: &Arc<SqliteStore>, limit: Limit) -> Arc<Hub> {
        let session =
            Session { queues: vec!["default".into()], types: vec!["Row".into()], slots: 8, ..Session::new(60_000) };
        store.join(session.clone()).await.unwrap();
        let client = App::stateless().client_on(store.clone());
        let mut hub = Hub::new(client, session.id, 60_000, 8, None, CancellationToken::new());
        hub.permits = Permits::new(vec![(row(), limit)], 1);
        Arc::new(hub)
    }

    fn claim(hub: &Hub, first_lease: u64) -> Claim {
        Claim {
            session: hub.session,
            first_lease,
            max_leases: 8,
            most_held: None,
            queues: vec!["default".into()],
            by_broker: Vec::new(),
            takes: vec![Take { job_type: "Row".into(), jobs: 8, budget: 8 }],
            free_slots: 8,
            max_limited: 8,
            alone: false,
            permits: Vec::new(),
            lease: hub.lease,
        }
    }

    /// What a pass of the worker brings: asks, claims, gives back.
    async fn pass(hub: &Arc<Hub>, first_lease: u64) -> Vec<Arc<Held>> {
        let mut claim = claim(hub, first_lease);
        hub.permits.take(hub, &mut claim).await.unwrap();
        let claimed = hub.store.claim(claim).await.unwrap();
        let mut slices = Vec::new();
        for slice in claimed.slices {
            let held = Arc::new(Held::new(slice, hub.clone(), u64::MAX));
            held.use_permits();
            slices.push(held);
        }
        hub.permits.claimed(&claimed.waits, claimed.unanswered, claimed.drain);
        hub.permits.give_back(hub).await;
        slices
    }

    async fn with_jobs(jobs: u64) -> Arc<SqliteStore> {
        let store = Arc::new(SqliteStore::open(Options::in_memory()).unwrap());
        let client = hub(&store, Limit::NONE).await.session;
        for command in 1..=jobs {
            let one = LoneJobs::one(Lane::new(0, "default", 0, "Row"), b"{}", None).unwrap();
            store.enqueue(Enqueue { session: client, command, jobs: vec![one] }).await.unwrap();
        }
        store
    }

    fn jobs(slices: &[Arc<Held>]) -> usize {
        slices.iter().map(|held| held.unstarted()).sum()
    }

    fn end(held: &Arc<Held>) {
        let taken = held.take().unwrap();
        let end = End::Succeeded(Vec::new());
        let (at, attempt) = (taken.at, taken.attempt);
        held.end(Ended {
            at,
            attempt,
            started: 1,
            finished: 1,
            end,
            logs: Vec::new(),
            written: super::super::held::Written::default(),
        });
    }

    #[tokio::test]
    async fn two_workers_together_take_no_more_than_the_limit() {
        let store = with_jobs(20).await;
        let (one, other) = (hub(&store, Limit::at_once(3)).await, hub(&store, Limit::at_once(3)).await);
        assert_eq!(jobs(&pass(&one, 1).await), 0, "first it learns that there is work");
        let held = pass(&one, 2).await;
        assert_eq!(jobs(&held), 3);
        for first in [1, 2, 3] {
            assert_eq!(jobs(&pass(&other, first).await), 0);
        }
        held[0].count_reported(1);
        one.permits.wait_no_more(&one).await;
        other.permits.ask_again();
        assert_eq!(jobs(&pass(&other, 4).await), 1);
    }

    #[tokio::test]
    async fn a_permit_is_given_back_when_its_job_has_been_reported_and_not_before() {
        let store = with_jobs(2).await;
        let one = hub(&store, Limit::at_once(1)).await;
        pass(&one, 1).await;
        let held = pass(&one, 2).await;
        end(&held[0]);
        one.permits.give_back(&one).await;
        assert_eq!(one.permits.all[0].held(), 1, "the store has not heard of its end");
        held[0].count_reported(1);
        one.permits.give_back(&one).await;
        assert_eq!(one.permits.all[0].held(), 0);
    }

    #[tokio::test]
    async fn what_a_claim_does_not_use_goes_back_at_once() {
        let store = with_jobs(2).await;
        let (one, other) = (hub(&store, Limit::at_once(5)).await, hub(&store, Limit::at_once(5)).await);
        for first in [1, 2] {
            pass(&one, first).await;
        }
        let wanted = Wanted { of: row(), limit: Limit::at_once(5), held: 0, unstarted: 0, used: 0, more: 5 };
        let permit = Permit { session: other.session, shard: 0, limits: vec![wanted], lease: 60_000 };
        assert_eq!(store.permit(permit).await.unwrap().granted[0].more, 3);
    }

    #[tokio::test]
    async fn permits_of_a_claim_that_was_not_answered_are_kept_for_what_it_may_bring() {
        let store = with_jobs(9).await;
        let (one, other) = (hub(&store, Limit::at_once(2)).await, hub(&store, Limit::at_once(2)).await);
        for hub in [&one, &other] {
            pass(hub, 1).await;
        }
        let mut lost = claim(&one, 2);
        one.permits.take(&one, &mut lost).await.unwrap();
        store.claim(lost.clone()).await.unwrap();
        one.permits.claim_failed();
        one.permits.give_back(&one).await;
        assert_eq!(jobs(&pass(&other, 2).await), 0);
        assert_eq!(jobs(&pass(&one, 2).await), 2, "sent again it brings what it was granted");
        assert_eq!(one.permits.all[0].held(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_started_under_permits_that_may_have_ended() {
        let store = with_jobs(2).await;
        let one = hub(&store, Limit::at_once(2)).await;
        pass(&one, 1).await;
        let held = pass(&one, 2).await;
        assert!(held[0].take().is_some());
        tokio::time::advance(Duration::from_millis(60_000)).await;
        assert!(held.iter().all(|held| held.take().is_none()));
    }
}
