//! Outcome records: what became of the attempts of one lease, packed by the worker, opaque to the store.
//!
//! Kept in columns, so that a thousand jobs of the same kind compress to a few bytes each.

use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::payload::{pack, unpack};
use crate::slice::CHUNK_JOBS;
use crate::state::JobState;

/// The most bytes of one error text; longer ones are cut.
pub const MAX_ERROR_BYTES: usize = 4096;
/// The most log lines kept of one attempt.
pub const MAX_LOG_LINES: usize = 50;
/// A record that passes this many bytes is closed, and the next one begins.
pub const RECORD_BYTES: usize = 64 * 1024;

/// The error of a job that failed since it killed its worker too often. No record holds it: nobody was left to write one.
pub const KILLED: &str = "killed its worker: each process that ran this job alone died";
/// How long a lone job is kept that ended so: nobody was left to say how long.
pub const KILLED_KEPT: Millis = 30 * 24 * 3_600_000;

/// How long a lone job is kept that was cancelled when nobody was there to say how long.
pub const CANCELLED_KEPT: Millis = 24 * 3_600_000;

/// What became of the attempts of one lease.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Who made them: host, process, session.
    pub worker: String,
    /// One outcome an attempt.
    pub outcomes: Vec<Outcome>,
}

/// One attempt's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The job's position in its chunk.
    pub at: u16,
    /// The state that the attempt put it in.
    pub state: JobState,
    /// Which attempt it was; the first is 1.
    pub attempt: u8,
    /// When it started, by the worker's clock.
    pub started: Millis,
    /// When it ended.
    pub finished: Millis,
    /// The output as JSON, or the error.
    pub result: Result<Vec<u8>, ErrorText>,
    /// The lines that the job logged.
    pub logs: Vec<String>,
}

/// An error's text, or the number of one that the step's table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorText {
    /// The text itself.
    Text(String),
    /// [`error_number`] of a text in the step's table.
    Known(u64),
}

/// The number by which a step's table knows an error text: FNV-1a (Fowler, Noll, Vo), which never changes with a library.
pub fn error_number(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl Record {
    /// The record's bytes for a store.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.outcomes.len() * 12);
        put_bytes(&mut out, self.worker.as_bytes());
        put(&mut out, self.outcomes.len() as u64);
        let mut last_at = 0;
        for outcome in &self.outcomes {
            put_signed(&mut out, i64::from(outcome.at) - last_at);
            last_at = i64::from(outcome.at);
        }
        out.extend(self.outcomes.iter().map(|outcome| outcome.state as u8));
        out.extend(self.outcomes.iter().map(|outcome| outcome.attempt));
        let mut last_start = 0;
        for outcome in &self.outcomes {
            put_signed(&mut out, outcome.started - last_start);
            last_start = outcome.started;
        }
        for outcome in &self.outcomes {
            put_signed(&mut out, outcome.finished - outcome.started);
        }
        for outcome in &self.outcomes {
            match &outcome.result {
                Ok(output) => {
                    out.push(0);
                    put_bytes(&mut out, output);
                }
                Err(ErrorText::Text(text)) => {
                    out.push(1);
                    put_bytes(&mut out, text.as_bytes());
                }
                Err(ErrorText::Known(number)) => {
                    out.push(2);
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
        let logged: Vec<(usize, &Outcome)> =
            self.outcomes.iter().enumerate().filter(|(_, outcome)| !outcome.logs.is_empty()).collect();
        put(&mut out, logged.len() as u64);
        for (number, outcome) in logged {
            put(&mut out, number as u64);
            put(&mut out, outcome.logs.len() as u64);
            outcome.logs.iter().for_each(|line| put_bytes(&mut out, line.as_bytes()));
        }
        pack(&out)
    }

    /// The inverse of [`encode`](Self::encode).
    pub fn decode(packed: &[u8]) -> Result<Self> {
        let bytes = unpack(packed)?;
        Reader(&bytes)
            .record()
            .ok_or_else(|| Error::corrupt("a stored outcome record ends in the middle or holds impossible values"))
    }
}

/// `text` cut to at most `limit` bytes at a character's border, with a mark if anything was cut.
pub(crate) fn cut_text(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let mut end = limit.saturating_sub('…'.len_utf8());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, (number << 1 ^ number >> 63) as u64);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn record(&mut self) -> Option<Record> {
        let worker = self.text()?;
        let count = usize::try_from(self.number()?).ok()?;
        // A lease holds jobs of one chunk, and tries each once, or writes down in advance two ends of it: more is damage, not a reason to reserve
        // memory.
        if count > 2 * CHUNK_JOBS {
            return None;
        }
        let mut last_at = 0i64;
        let mut positions = Vec::with_capacity(count);
        for _ in 0..count {
            last_at = last_at.checked_add(self.signed()?)?;
            positions.push(u16::try_from(last_at).ok()?);
        }
        let states = self.take(count)?.to_vec();
        let attempts = self.take(count)?.to_vec();
        let mut last_start = 0i64;
        let mut starts = Vec::with_capacity(count);
        for _ in 0..count {
            last_start = last_start.checked_add(self.signed()?)?;
            starts.push(last_start);
        }
        let mut outcomes = Vec::with_capacity(count);
        for number in 0..count {
            let started = starts[number];
            outcomes.push(Outcome {
                at: positions[number],
                state: JobState::of(states[number]),
                attempt: attempts[number],
                started,
                finished: started.checked_add(self.signed()?)?,
                result: Ok(Vec::new()),
                logs: Vec::new(),
            });
        }
        for outcome in &mut outcomes {
            outcome.result = match self.take(1)?[0] {
                0 => Ok(self.bytes()?.to_vec()),
                1 => Err(ErrorText::Text(self.text()?)),
                2 => Err(ErrorText::Known(u64::from_le_bytes(self.take(8)?.try_into().ok()?))),
                _ => return None,
            };
        }
        for _ in 0..self.number()? {
            let outcome = outcomes.get_mut(usize::try_from(self.number()?).ok()?)?;
            for _ in 0..self.number()? {
                if outcome.logs.len() == MAX_LOG_LINES {
                    return None;
                }
                outcome.logs.push(self.text()?);
            }
        }
        Some(Record { worker, outcomes })
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let count = usize::try_from(self.number()?).ok()?;
        self.take(count)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        let result = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Ok),
            ".{0,30}".prop_map(|text| Err(ErrorText::Text(text))),
            any::<u64>().prop_map(|number| Err(ErrorText::Known(number))),
        ];
        let times = (0..4_000_000_000_000i64, -1_000..1_000_000i64);
        (0..1024u16, 0..8u8, 0..31u8, times, result, proptest::collection::vec(".{0,9}", 0..3)).prop_map(
            |(at, state, attempt, (started, took), result, logs)| Outcome {
                at,
                state: JobState::of(state),
                attempt,
                started,
                finished: started + took,
                result,
                logs,
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_comes_back_from_its_bytes(outcomes in proptest::collection::vec(outcome(), 0..50)) {
            let record = Record { worker: "host:17:ab".into(), outcomes };
            prop_assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        }

        #[test]
        fn damaged_bytes_are_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&[&[0u8][..], &bytes].concat());
        }
    }

    #[test]
    fn a_small_record_does_not_unpack_to_a_thousand_times_its_size_in_memory() {
        // No worker, and a million log lines without a letter for the one outcome: a hundred bytes in a store.
        let logs = [&[0, 1, 0, 3, 1][..], &[0; 4], &[1, 0, 0xc0, 0x84, 0x3d], &vec![0; 1_000_000]].concat();
        assert!(Record::decode(&pack(&logs)).is_err());
        let outcomes = [&[0, 0xff, 0xff, 0x3f][..], &vec![0; 1_048_575 * 7]].concat();
        assert!(Record::decode(&pack(&outcomes)).is_err());
    }

    #[test]
    fn a_thousand_like_outcomes_take_a_few_bytes_each() {
        let outcomes = (0..1000).map(|at| Outcome {
            at,
            state: JobState::Succeeded,
            attempt: 1,
            started: 1_790_000_000_000 + i64::from(at) / 7,
            finished: 1_790_000_000_000 + i64::from(at) / 7,
            result: Ok(b"true".to_vec()),
            logs: Vec::new(),
        });
        let record = Record { worker: "host:17:ab".into(), outcomes: outcomes.collect() };
        assert!(record.encode().len() < 2_000, "{}", record.encode().len());
    }

    #[test]
    fn a_long_text_is_cut_at_a_characters_border() {
        assert_eq!(cut_text("äää".into(), 6), "äää");
        assert_eq!(cut_text("ääää".into(), 6), "ä…");
    }
}
