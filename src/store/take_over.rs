//! Leases that travel. A session without job types of its own claims slices for others: a *forwarder*, which holds each lease in a
//! broker's name while a message that names it is under way. Whoever receives the message takes the lease over.
//!
//! A lease that a forwarder holds has run nowhere. So its end is no recovery: the slice goes back to the front of its line, to be
//! forwarded again, each time for twice as long. A lost message is just that; a doubled or late one finds its lease gone.

use super::{Slice, Woken};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::id::SessionId;

/// The most leases that one call may take over.
pub const MAX_TAKEN_OVER: usize = 16;
/// How long a forwarded lease lasts at most, unless leases last longer anyway.
const LONGEST: Millis = 15 * 60 * 1000;
/// After so long what one consumer has refused is forwarded again.
pub const REFUSED_FOR: Millis = 1_000;

/// A lease, by its session and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseName {
    /// Who holds it.
    pub session: SessionId,
    /// Its number in that session.
    pub lease: u64,
}

/// Parameters of [`Store::take_over`](super::Store::take_over).
#[derive(Clone, Debug)]
pub struct TakeOver {
    /// Who takes over.
    pub session: SessionId,
    /// The new leases get numbers from this one on, as those of a claim do. Sent again with the same numbers and leases, the call tells what
    /// it told before.
    pub first_lease: u64,
    /// The leases of forwarders to take over, at most [`MAX_TAKEN_OVER`].
    pub leases: Vec<LeaseName>,
    /// The job types that the session can run: what is of another goes back to its line, not before one second.
    pub types: Vec<String>,
    /// How long the new leases last.
    pub lease: Millis,
}

impl TakeOver {
    /// Refuses one that names more than one operation may look at: every store begins with it.
    pub fn check(&self) -> Result<()> {
        if self.leases.len() > MAX_TAKEN_OVER {
            return Err(Error::usage(format!(
                "{} leases are to be taken over in one call; at most {MAX_TAKEN_OVER} are allowed",
                self.leases.len()
            )));
        }
        Ok(())
    }
}

/// What [`Store::take_over`](super::Store::take_over) answers. A lease that is named nowhere in it is gone: it has been taken over before, or
/// its slice is back in its line.
#[derive(Clone, Debug, Default)]
pub struct TakenOver {
    /// The leases that were taken over, with their slices under the new ones.
    pub slices: Vec<(LeaseName, Slice)>,
    /// The highest lease number that the session has used: the next claim, or the next call, begins behind it.
    pub last_lease: u64,
    /// Of a type that the session does not know.
    pub unknown: Vec<LeaseName>,
    /// There, but the number that the new lease would have had has been used for another: call again with higher ones.
    pub again: Vec<LeaseName>,
    /// On a part of the store that is away: the call is to be repeated for them.
    pub away: Vec<LeaseName>,
    /// Whom to wake.
    pub woken: Woken,
}

/// How long a lease lasts whose slice has been published so many times before.
pub fn forwarded_for(lease: Millis, published: u32) -> Millis {
    lease.saturating_mul(1 << published.min(30)).min(LONGEST.max(lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_publication_doubles_the_time_up_to_a_quarter_of_an_hour() {
        let times: Vec<Millis> = (0..8).map(|published| forwarded_for(15_000, published)).collect();
        assert_eq!(times, [15_000, 30_000, 60_000, 120_000, 240_000, 480_000, 900_000, 900_000]);
        assert_eq!((forwarded_for(1_000, u32::MAX), forwarded_for(3_600_000, 5)), (900_000, 3_600_000));
    }
}
