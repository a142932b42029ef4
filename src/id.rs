//! Names of things: workflows, sessions, leases. All are made by clients, so a store that lost writes never hands one out again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Millis;
use crate::error::{Error, Result};

/// Where keys become ids: a namespace of our own.
const KEYS: Uuid = Uuid::from_u128(0x6775_7368_6572_4b65_8979_735f_7631_0001);

/// The id of one run of a workflow: a UUIDv7, so ids sort by creation time. Its 12 `rand_a` bits name the shard it lives on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkflowId(Uuid);

impl WorkflowId {
    /// A new id for a workflow created at `now` on `shard` (0 to 4095).
    pub fn new(now: Millis, shard: u16) -> Self {
        Self::from_random(now, shard, random_bytes())
    }

    /// An id whose random bits come from elsewhere, for games that can be repeated.
    #[cfg(feature = "testing")]
    pub(crate) fn seeded(now: Millis, shard: u16, random: [u8; 10]) -> Self {
        Self::from_random(now, shard, random)
    }

    fn from_random(now: Millis, shard: u16, mut random: [u8; 10]) -> Self {
        random[..2].copy_from_slice(&(shard & 0x0fff).to_be_bytes());
        let millis = u64::try_from(now).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The id that a key gives to a workflow at `now` in a store of so many shards: always the same one. Its random bits, and its
    /// shard, come from the key's SHA-1 (as in a UUIDv5, RFC 9562).
    pub(crate) fn derived(now: Millis, shards: u16, key: &str) -> Self {
        Self::hashed(now, key, |hash| hash % shards.max(1))
    }

    fn hashed(now: Millis, key: &str, shard: impl FnOnce(u16) -> u16) -> Self {
        let hash = Uuid::new_v5(&KEYS, key.as_bytes()).into_bytes();
        let shard = shard(u16::from_be_bytes([hash[0], hash[1]]));
        // Without the bytes that name the version and the variant.
        let random = [0, 0, hash[2], hash[3], hash[4], hash[5], hash[9], hash[10], hash[11], hash[12]];
        Self::from_random(now, shard, random)
    }

    /// The id of what is started for an occurrence of a schedule that lives on a shard.
    pub(crate) fn of_occurrence(shard: u16, schedule: &str, at: Millis) -> Self {
        Self::hashed(at, &format!("occurrence\0{schedule}\0{at}"), |_| shard)
    }

    /// The id of the workflow that stands for a job of that key, beside the workflow of the job.
    pub(crate) fn of_child(parent: WorkflowId, key: &str) -> Self {
        Self::hashed(parent.made_at(), &format!("child\0{key}"), |_| parent.shard())
    }

    /// A share of a span of time: always the same one, and spread evenly over many ids.
    pub(crate) fn share_of(&self, span: Millis) -> Millis {
        let [.., a, b, c, d] = *self.0.as_bytes();
        ((i128::from(u32::from_be_bytes([a, b, c, d])) * i128::from(span)) >> 32) as Millis
    }

    /// The id of the lane of that key on a shard. It is of no time, so it sorts before every workflow. Lanes of one key on several shards have
    /// nothing in common, for a ledger names them by the end of their ids.
    pub(crate) fn of_lane(shard: u16, key: &str) -> Self {
        Self::hashed(0, &format!("lane\0{shard}\0{key}"), |_| shard)
    }

    /// When it was made, as it says itself.
    pub(crate) fn made_at(&self) -> Millis {
        let [a, b, c, d, e, f, ..] = *self.0.as_bytes();
        Millis::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The shard that holds the workflow and everything that depends on it.
    pub fn shard(&self) -> u16 {
        let bytes = self.0.as_bytes();
        u16::from_be_bytes([bytes[6] & 0x0f, bytes[7]])
    }

    /// The sixteen bytes that stores keep.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The inverse of [`as_bytes`](Self::as_bytes); an error if `bytes` are not sixteen.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        Uuid::from_slice(bytes)
            .map(Self)
            .map_err(|_| Error::corrupt(format!("a workflow id has {} bytes instead of 16", bytes.len())))
    }
}

/// The shard of a key, in a store of so many.
pub(crate) fn shard_of(key: &str, shards: u16) -> u16 {
    let [a, b, ..] = Uuid::new_v5(&KEYS, key.as_bytes()).into_bytes();
    u16::from_be_bytes([a, b]) % shards.max(1)
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WorkflowId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Uuid::parse_str(text.trim()).map(Self).map_err(|_| {
            Error::usage(format!(
                "`{text}` is not a workflow id; one looks like 0192f0c1-7b1c-7000-8f3a-5d1c2b3a4f50 (`list` shows them)"
            ))
        })
    }
}

/// One start of a process: 96 random bits. Never reused, never chosen by a person.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 12]);

impl SessionId {
    /// A session nobody has had before.
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// The twelve bytes that stores keep.
    pub fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// The inverse of [`as_bytes`](Self::as_bytes); an error if `bytes` are not twelve.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| Error::corrupt(format!("a session id has {} bytes instead of 12", bytes.len())))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "testing")]
thread_local! {
    /// Where the random bytes of this thread come from while it runs a simulation.
    static SEEDED: std::cell::RefCell<Option<crate::testing::model::dice::Dice>> = const { std::cell::RefCell::new(None) };
}

/// From now on the random bytes of this thread are those of a seed.
#[cfg(feature = "testing")]
pub(crate) fn seed_this_thread(seed: u64) {
    SEEDED.set(Some(crate::testing::model::dice::Dice::new(seed)));
}

/// Random bytes of the operating system, which a process cannot do without.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    #[cfg(feature = "testing")]
    if let Some(bytes) = SEEDED.with_borrow_mut(|dice| dice.as_mut().map(|dice| dice.bytes())) {
        return bytes;
    }
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_shard_and_sorts_by_time() {
        let early = WorkflowId::new(1_000, 4095);
        let late = WorkflowId::new(2_000, 7);
        assert_eq!((early.shard(), late.shard()), (4095, 7));
        assert!(early < late);
        assert_eq!(early.to_string().parse::<WorkflowId>().unwrap(), early);
    }

    #[test]
    fn a_key_gives_always_the_same_id_and_keys_are_spread_over_the_shards() {
        let id = |key: &str| WorkflowId::derived(1_700_000_000_000, 12, key);
        assert_eq!(id("one").to_string(), "018bcfe5-6800-7005-b37e-f0f435c3e3e5");
        assert_ne!(id("one"), id("other"));
        assert_eq!(id("one").made_at(), 1_700_000_000_000);
        let shards: std::collections::BTreeSet<u16> = (0..200).map(|n| id(&n.to_string()).shard()).collect();
        assert_eq!(shards, (0..12).collect());
    }

    #[test]
    fn lanes_of_one_key_on_two_shards_can_be_told_apart_by_the_end_of_their_ids() {
        let end = |shard| WorkflowId::of_lane(shard, "mail").as_bytes()[8..].to_vec();
        assert_ne!(end(0), end(1));
        assert_eq!(WorkflowId::of_lane(5, "mail").shard(), 5);
    }

    #[test]
    fn a_text_that_is_no_id_is_refused_with_an_example() {
        let error = "nightly".parse::<WorkflowId>().unwrap_err();
        assert!(error.to_string().contains("`nightly` is not a workflow id"));
    }
}
