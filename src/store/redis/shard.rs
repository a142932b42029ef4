//! Shards: parts of the store that one script can reach. A workflow lives on one, with all that depends on it; its id says which. On a
//! cluster each shard's keys share a hash tag, so that they stay together on one node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::options::MAX_SHARDS;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SessionId, WorkflowId};

/// How many slots a cluster's keys fall into.
const SLOTS: u32 = 16_384;

/// One shard, as this process knows it.
#[derive(Debug)]
pub struct Shard {
    pub number: u16,
    /// What every key of it begins with.
    pub base: String,
    /// The highest number of an operation that this process has seen.
    pub seen: AtomicU64,
    /// When the last call was not answered, if it was not.
    away_at: Mutex<Option<Instant>>,
}

/// For so long claims pass over a shard that has not answered: they ask one after the other. A look at what is due asks all at the same
/// time, once a second, and so finds first that it is there again.
const PASSED_OVER: Duration = Duration::from_secs(3);

impl Shard {
    /// Whether it has just not answered.
    pub fn is_away(&self) -> bool {
        self.away_at.lock().is_some_and(|at| at.elapsed() < PASSED_OVER)
    }

    /// Notes whether it has answered.
    pub fn heard<T>(&self, answer: &Result<T>) {
        let is_away = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
        *self.away_at.lock() = is_away.then(Instant::now);
    }
}

/// The store's shards.
#[derive(Debug)]
pub struct Shards {
    all: Vec<Shard>,
    /// Where the next new workflow goes: each client begins somewhere and then takes turns.
    next: AtomicU64,
    visits: Mutex<HashMap<SessionId, Visits>>,
}

/// How a worker's claims go round the shards.
#[derive(Debug, Default)]
struct Visits {
    /// Where the next claim begins.
    next: u16,
    /// The first lease of claims that were not answered: sent again, they must be the same.
    unanswered: HashMap<u16, u64>,
    /// The first lease of the last claim that brought anything, and the shards that it came from, with their own numbers of it.
    granted: (u64, Vec<(u16, u64)>),
    /// Where the worker is registered as idle.
    idle: Vec<u16>,
    /// How many leases a forwarder holds on each shard, as far as it has been told.
    held: HashMap<u16, u32>,
}

impl Shards {
    pub fn new(prefix: &str, count: u16) -> Self {
        let shard = |number| Shard {
            number,
            base: format!("{prefix}:{{{}}}", tag(number, count)),
            seen: AtomicU64::new(0),
            away_at: Mutex::new(None),
        };
        let next = u64::from_le_bytes(crate::id::random_bytes());
        Self { all: (0..count).map(shard).collect(), next: AtomicU64::new(next), visits: Mutex::default() }
    }

    pub fn count(&self) -> u16 {
        self.all.len() as u16
    }

    pub fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.all.iter()
    }

    /// The shard of a workflow.
    pub fn of(&self, workflow: WorkflowId) -> Result<&Shard> {
        self.all.get(usize::from(workflow.shard())).ok_or_else(|| {
            Error::not_found(format!(
                "there is no workflow {workflow} in this store: it has {} shards, and the id names shard {}",
                self.count(),
                workflow.shard()
            ))
        })
    }

    pub fn numbered(&self, number: u16) -> Result<&Shard> {
        self.all
            .get(usize::from(number))
            .ok_or_else(|| Error::corrupt(format!("the store has {} shards, none of number {number}", self.count())))
    }

    /// Where the next new workflow goes.
    pub fn next(&self) -> u16 {
        (self.next.fetch_add(1, Ordering::Relaxed) % u64::from(self.count())) as u16
    }

    /// Where a claim of a session was granted something, with the shard's own number of its first lease: it is sent again. Empty if it
    /// is a new one.
    pub fn granted_before(&self, session: SessionId, first_lease: u64) -> Vec<(&Shard, u64)> {
        let visits = self.visits.lock();
        let granted = visits.get(&session).map(|visits| &visits.granted).filter(|granted| granted.0 == first_lease);
        let shards = granted.into_iter().flat_map(|(_, shards)| shards);
        shards.map(|(number, first)| (&self.all[usize::from(*number)], *first)).collect()
    }

    /// The shards in the order in which a new claim of a session visits them, each with its own number of the first lease.
    pub fn visit(&self, session: SessionId, first_lease: u64) -> Vec<(&Shard, u64)> {
        let mut visits = self.visits.lock();
        let visits = visits.entry(session).or_default();
        let count = self.count();
        let first =
            |number| visits.unanswered.get(&number).copied().unwrap_or_else(|| self.lease_on_shard(first_lease));
        let numbers = (0..count).map(|n| (visits.next + n) % count);
        numbers.map(|number| (&self.all[usize::from(number)], first(number))).collect()
    }

    /// A claim is on its way to a shard, with the shard's own number of its first lease.
    pub fn asks(&self, session: SessionId, shard: u16, first_lease: u64) {
        self.visits.lock().entry(session).or_default().unanswered.insert(shard, first_lease);
    }

    /// The shard has answered, and perhaps registered the worker as idle.
    pub fn answered(&self, session: SessionId, shard: u16, idle: bool) {
        let mut visits = self.visits.lock();
        let visits = visits.entry(session).or_default();
        visits.unanswered.remove(&shard);
        visits.idle.retain(|other| *other != shard);
        if idle {
            visits.idle.push(shard);
        }
    }

    /// Whether a shard has not answered a claim of the session: it may have granted something.
    pub fn has_unanswered(&self, session: SessionId) -> bool {
        self.visits.lock().get(&session).is_some_and(|visits| !visits.unanswered.is_empty())
    }

    /// How many leases a session that holds a limited number of them may hold on this shard.
    pub fn room_on(&self, session: SessionId, shard: u16, most: u32) -> u32 {
        let visits = self.visits.lock();
        let held = visits.get(&session).map_or(0, |visits| self.held_there(visits, |other| other != shard));
        most.saturating_sub(held)
    }

    /// The session holds so many there; returns how many in all.
    pub fn holds(&self, session: SessionId, shard: u16, held: u32) -> u32 {
        let mut visits = self.visits.lock();
        let visits = visits.entry(session).or_default();
        visits.held.insert(shard, held);
        self.held_there(visits, |_| true)
    }

    /// How many leases a session holds on these shards. What it holds on one that is away keeps nobody from the work of others.
    fn held_there(&self, visits: &Visits, counts: impl Fn(u16) -> bool) -> u32 {
        let there = |shard: u16| counts(shard) && !self.all[usize::from(shard)].is_away();
        visits.held.iter().filter(|(shard, _)| there(**shard)).map(|(_, held)| *held).sum()
    }

    /// The session's next claim begins with this shard.
    pub fn begin_with(&self, session: SessionId, shard: u16) {
        self.visits.lock().entry(session).or_default().next = shard % self.count();
    }

    /// Where the worker is registered as idle, which it is not any more.
    pub fn not_idle(&self, session: SessionId) -> Vec<&Shard> {
        let idle = self.visits.lock().get_mut(&session).map(|visits| std::mem::take(&mut visits.idle));
        idle.unwrap_or_default().into_iter().map(|number| &self.all[usize::from(number)]).collect()
    }

    /// A claim was granted something by a shard, which was asked for leases from a number of its own on.
    pub fn granted(&self, session: SessionId, first_lease: u64, shard: u16, first_on_shard: u64) {
        let mut visits = self.visits.lock();
        let granted = &mut visits.entry(session).or_default().granted;
        if granted.0 != first_lease {
            *granted = (first_lease, Vec::new());
        }
        granted.1.push((shard, first_on_shard));
    }

    pub fn forget(&self, session: SessionId) {
        self.visits.lock().remove(&session);
    }

    // The numbers of a session's leases are dealt out to the shards in turn, so that a number says where its lease is.

    /// The lease's number in its session.
    pub fn lease_in_session(&self, shard: u16, number: u64) -> u64 {
        number * u64::from(self.count()) + u64::from(shard)
    }

    /// The highest number in its session of those that the shard gives up to this one.
    pub fn last_in_session(&self, number: u64) -> u64 {
        (number + 1) * u64::from(self.count()) - 1
    }

    /// The lowest number that the shard gives to leases that have at least this one in their session.
    pub fn lease_on_shard(&self, lease: u64) -> u64 {
        lease.div_ceil(u64::from(self.count()))
    }

    /// Where a session's lease is, and its number there.
    pub fn lease(&self, lease: u64) -> (u16, u64) {
        let count = u64::from(self.count());
        ((lease % count) as u16, lease / count)
    }
}

/// A text that hashes into the middle of a shard's part of the slots, so that all nodes of a cluster get the same share.
fn tag(shard: u16, shards: u16) -> String {
    debug_assert!(shard < shards && shards <= MAX_SHARDS);
    let slot = (2 * u32::from(shard) + 1) * SLOTS / (2 * u32::from(shards));
    let texts = (0_u32..).map(|n| n.to_string());
    let mut fitting = texts.filter(|text| slot_of(text) == slot);
    fitting.next().expect("some number hashes into each slot")
}

fn slot_of(tag: &str) -> u32 {
    u32::from(crc16::State::<crc16::XMODEM>::calculate(tag.as_bytes())) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_lie_evenly_among_a_clusters_slots() {
        for shards in [1, 3, 12, 100, 4096] {
            let slots: Vec<u32> = [0, 1, shards / 2, shards - 1]
                .into_iter()
                .filter(|shard| *shard < shards)
                .map(|shard| slot_of(&tag(shard, shards)))
                .collect();
            let width = SLOTS / u32::from(shards);
            assert!(
                slots[0] <= width / 2 + 1 && *slots.last().unwrap() >= SLOTS - width / 2 - 2,
                "{shards}: {slots:?}"
            );
        }
        // As `CLUSTER KEYSLOT` says.
        assert_eq!(slot_of("123456789"), 12_739);
    }

    #[test]
    fn a_leases_number_says_on_which_shard_it_is() {
        let shards = Shards::new("test", 12);
        for lease in [1, 11, 12, 13, 1000] {
            let number = shards.lease_on_shard(lease);
            for shard in 0..12 {
                let given = shards.lease_in_session(shard, number);
                assert!(given >= lease && given <= shards.last_in_session(number));
                assert_eq!(shards.lease(given), (shard, number));
            }
        }
        let one = Shards::new("test", 1);
        assert_eq!((one.lease_in_session(0, 7), one.last_in_session(7), one.lease(7)), (7, 7, (0, 7)));
    }

    #[test]
    fn a_claim_that_was_not_answered_is_sent_again_as_it_was() {
        let shards = Shards::new("test", 3);
        let session = SessionId::random();
        let order = |first| -> Vec<(u16, u64)> {
            shards.visit(session, first).into_iter().map(|(shard, first)| (shard.number, first)).collect()
        };
        assert_eq!(order(1), [(0, 1), (1, 1), (2, 1)]);
        shards.asks(session, 0, 1);
        shards.asks(session, 1, 1);
        shards.answered(session, 1, true);
        shards.begin_with(session, 2);
        assert_eq!(order(7), [(2, 3), (0, 1), (1, 3)], "shard 0 has not answered the claim of lease 1");
        assert_eq!(shards.not_idle(session).iter().map(|shard| shard.number).collect::<Vec<_>>(), [1]);
        shards.granted(session, 7, 1, 3);
        shards.granted(session, 7, 0, 1);
        let again = |first| -> Vec<(u16, u64)> {
            shards.granted_before(session, first).into_iter().map(|(shard, first)| (shard.number, first)).collect()
        };
        assert_eq!(
            (again(7), again(13)),
            (vec![(1, 3), (0, 1)], vec![]),
            "sent again it only tells what it was granted"
        );
    }
}
