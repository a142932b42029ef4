//! Slices: which jobs of a chunk they hold, and how many jobs are worth one claim.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// The most jobs that a chunk, and so a slice, can hold.
pub const CHUNK_JOBS: usize = 1024;
/// The most bytes of parameters that a chunk holds before compression; a larger job is a chunk by itself.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// How long a slice should keep one slot busy.
pub const TARGET_TIME: Duration = Duration::from_millis(50);

const WORDS: usize = CHUNK_JOBS / 64;

/// A set of jobs of one chunk, by their position in it (0 to 1,023).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Mask([u64; WORDS]);

impl Mask {
    /// No job.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// The jobs of `range`.
    pub fn range(range: Range<usize>) -> Self {
        let mut mask = Self::EMPTY;
        range.for_each(|at| mask.insert(at));
        mask
    }

    /// Adds the job at `at`.
    pub fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    /// Whether it holds the job at `at`.
    pub fn contains(&self, at: usize) -> bool {
        at < CHUNK_JOBS && self.0[at / 64] >> (at % 64) & 1 == 1
    }

    /// How many jobs it holds.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The positions that it holds, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(word, &bits)| {
            let mut left = bits;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let at = left.trailing_zeros() as usize;
                    left &= left - 1;
                    word * 64 + at
                })
            })
        })
    }

    /// The jobs of both.
    pub fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// The jobs of either.
    pub fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// The jobs that `other` does not hold.
    pub fn minus(self, other: Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Whether every job of it is in `other`.
    pub fn is_within(self, other: Self) -> bool {
        self.minus(other).is_empty()
    }

    /// Its first `count` jobs, and the rest.
    pub fn split(self, count: usize) -> (Self, Self) {
        let mut front = Self::EMPTY;
        self.iter().take(count).for_each(|at| front.insert(at));
        (front, self.minus(front))
    }

    fn zip(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = [0; WORDS];
        for (word, (a, b)) in words.iter_mut().zip(self.0.iter().zip(&other.0)) {
            *word = combine(*a, *b);
        }
        Self(words)
    }

    /// The bytes that stores keep: little-endian, without the zeros at the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        bytes
    }

    /// The inverse of [`to_bytes`](Self::to_bytes); `None` if there are more bytes than a chunk has jobs for.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut mask = Self::EMPTY;
        for (at, byte) in bytes.iter().enumerate() {
            *mask.0.get_mut(at / 8)? |= u64::from(*byte) << (at % 8 * 8);
        }
        Some(mask)
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<usize> for Mask {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut mask = Self::EMPTY;
        positions.into_iter().for_each(|at| mask.insert(at));
        mask
    }
}

/// How many jobs of a type a worker with `slots` free slots asks for at once: as many as keep them busy for [`TARGET_TIME`].
/// A type whose jobs nobody has timed yet gets one a slot.
pub fn take(mean: Option<Duration>, slots: usize) -> usize {
    take_for(TARGET_TIME, mean, slots)
}

/// The same for another time.
pub fn take_for(time: Duration, mean: Option<Duration>, slots: usize) -> usize {
    let Some(mean) = mean else { return slots.clamp(1, CHUNK_JOBS) };
    let jobs = time.as_secs_f64() * slots.max(1) as f64 / mean.as_secs_f64().max(1e-9);
    (jobs as usize).clamp(1, CHUNK_JOBS)
}

/// The most jobs that one slice may take of a step that has `left` to hand out to `workers` live workers, so that the last
/// of them do not wait for one another.
pub fn fair_share(left: u64, workers: u64) -> usize {
    usize::try_from(left.div_ceil(2 * workers.max(1))).unwrap_or(CHUNK_JOBS).clamp(1, CHUNK_JOBS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mask_comes_back_from_its_bytes(positions in proptest::collection::btree_set(0..CHUNK_JOBS, 0..80)) {
            let mask: Mask = positions.iter().copied().collect();
            prop_assert_eq!(Mask::from_bytes(&mask.to_bytes()), Some(mask));
            prop_assert!(mask.iter().eq(positions.iter().copied()));
            prop_assert_eq!(mask.len(), positions.len());
        }

        #[test]
        fn the_two_parts_of_a_split_are_the_whole(positions in proptest::collection::btree_set(0..CHUNK_JOBS, 0..80), count in 0..100usize) {
            let mask: Mask = positions.iter().copied().collect();
            let (front, rest) = mask.split(count);
            prop_assert_eq!(front.len(), count.min(mask.len()));
            prop_assert_eq!(front.or(rest), mask);
            prop_assert!(front.and(rest).is_empty());
        }
    }

    #[test]
    fn fast_jobs_come_in_large_slices_and_unknown_ones_one_a_slot() {
        assert_eq!(take(None, 8), 8);
        assert_eq!(take(Some(Duration::from_micros(1)), 8), 1024);
        assert_eq!(take(Some(Duration::from_millis(10)), 8), 40);
        assert_eq!(take(Some(Duration::from_secs(60)), 8), 1);
    }

    #[test]
    fn nobody_takes_more_than_half_of_an_equal_share() {
        assert_eq!(fair_share(1_000_000, 1), 1024);
        assert_eq!(fair_share(100, 2), 25);
        assert_eq!(fair_share(1, 50), 1);
    }
}
