//! What travels: a version, a store, a lease, as one short line of text. Nothing else, so nothing that arrives can be anything worse than late.

use std::fmt;

use crate::id::SessionId;
use crate::store::LeaseName;

/// What is longer is no message of ours.
pub const MAX_MESSAGE: usize = 128;
/// What each begins with: whose it is, and the version.
const BEGIN: &str = "gusher1";

/// A message: the lease to take over, and the store that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// [`Store::identity`](crate::store::Store::identity) of the store.
    pub store: u64,
    /// The forwarder's lease.
    pub lease: LeaseName,
    /// The priority of its jobs in their queue, for brokers that know priorities. It does not travel: what arrives has 0.
    pub priority: i32,
}

/// Why what has arrived is no message for this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// It is longer than any message.
    Oversized,
    /// It is no message, or one of a version that this program does not know.
    Undecodable,
    /// It is of another store.
    Foreign,
}

impl Message {
    /// As it travels.
    pub fn encode(&self) -> String {
        format!("{BEGIN}:{:016x}:{}:{}", self.store, self.lease.session, self.lease.lease)
    }

    /// The message that a body is, if it is one for this store.
    pub fn decode(body: &[u8], store: u64) -> Result<Self, Unfit> {
        if body.len() > MAX_MESSAGE {
            return Err(Unfit::Oversized);
        }
        let message = std::str::from_utf8(body).ok().and_then(Self::parse).ok_or(Unfit::Undecodable)?;
        // There is one way only to write it.
        if message.encode().as_bytes() != body {
            return Err(Unfit::Undecodable);
        }
        if message.store == store { Ok(message) } else { Err(Unfit::Foreign) }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (begin, store, session, lease) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if begin != BEGIN || parts.next().is_some() {
            return None;
        }
        let session: Option<Vec<u8>> = (0..session.len())
            .step_by(2)
            .map(|at| session.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
            .collect();
        let session = SessionId::from_slice(&session?).ok()?;
        Some(Self {
            store: u64::from_str_radix(store, 16).ok()?,
            lease: LeaseName { session, lease: lease.parse().ok()? },
            priority: 0,
        })
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oversized => "it is longer than any message of ours",
            Self::Undecodable => "it is no message of ours, or one of another version",
            Self::Foreign => "it is of another store",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_message_comes_back_from_its_text(store: u64, lease: u64) {
            let message = Message { store, lease: LeaseName { session: SessionId::random(), lease }, priority: 0 };
            let text = message.encode();
            prop_assert!(text.len() <= MAX_MESSAGE);
            prop_assert_eq!(Message::decode(text.as_bytes(), store), Ok(message));
            prop_assert_eq!(Message::decode(text.as_bytes(), store ^ 1), Err(Unfit::Foreign));
        }

        #[test]
        fn anything_else_is_none(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let wanted = if body.len() > MAX_MESSAGE { Unfit::Oversized } else { Unfit::Undecodable };
            prop_assert_eq!(Message::decode(&body, 1), Err(wanted));
        }
    }

    #[test]
    fn what_is_almost_a_message_is_none() {
        let right = "gusher1:0000000000000001:0102030405060708090a0b0c:7";
        assert!(Message::decode(right.as_bytes(), 1).is_ok());
        for wrong in [
            "gusher2:0000000000000001:0102030405060708090a0b0c:7",
            "gusher1:1:0102030405060708090a0b0c:7",
            "gusher1:0000000000000001:0102030405060708090A0B0C:7",
            "gusher1:0000000000000001:0102030405060708090a0b:7",
            "gusher1:0000000000000001:0102030405060708090a0b0c:+7",
            "gusher1:0000000000000001:0102030405060708090a0b0c:07",
            "gusher1:0000000000000001:0102030405060708090a0b0c:7:",
            "gusher1:0000000000000001:0102030405060708090a0b0c:7\n",
            "gusher1:0000000000000001:0102030405060708090a0b0ü:7",
        ] {
            assert_eq!(Message::decode(wrong.as_bytes(), 1), Err(Unfit::Undecodable), "{wrong}");
        }
    }
}
