//! The ledgers' format, as `src/testing/ledger.rs` documents it. Written a second time on purpose: this program shares no code with
//! the engine that it judges.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const MAGIC: &[u8] = b"gusherL1";
/// How long a header is, and a record.
pub const SIZE: usize = 48;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Started = 1,
    Ended = 2,
    Joined = 3,
    Granted = 10,
    Settled = 11,
    Retrying = 12,
    Returned = 13,
    TakenBack = 14,
    Refused = 15,
    Aborted = 16,
    Workflow = 20,
    Step = 21,
    Edge = 22,
    Killed = 30,
    Stopped = 31,
    Continued = 32,
    Last = 40,
    Final = 41,
    /// Written by a newer engine.
    Unknown = 255,
}

const KINDS: [Kind; 18] = [
    Kind::Started,
    Kind::Ended,
    Kind::Joined,
    Kind::Granted,
    Kind::Settled,
    Kind::Retrying,
    Kind::Returned,
    Kind::TakenBack,
    Kind::Refused,
    Kind::Aborted,
    Kind::Workflow,
    Kind::Step,
    Kind::Edge,
    Kind::Killed,
    Kind::Stopped,
    Kind::Continued,
    Kind::Last,
    Kind::Final,
];

/// The names of final job states and of the others, by their numbers.
const STATES: [&str; 8] =
    ["open", "retrying", "deferred", "succeeded", "failed", "skipped", "cancelled", "skipped because of another"];

/// The name of a job state; only the low three bits count.
pub fn state_name(state: u8) -> &'static str {
    STATES[usize::from(state & 7)]
}

#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub at: u64,
    pub workflow: u64,
    pub who: u64,
    pub first: u64,
    pub lease: u32,
    pub count: u32,
    pub step: u16,
    pub kind: Kind,
    pub detail: u8,
    pub tx: u32,
}

impl Record {
    fn decode(bytes: &[u8]) -> Self {
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let kind = KINDS.into_iter().find(|kind| *kind as u8 == bytes[42]).unwrap_or(Kind::Unknown);
        Self {
            at: u64_at(0),
            workflow: u64_at(8),
            who: u64_at(16),
            first: u64_at(24),
            lease: u32_at(32),
            count: u32_at(36),
            step: u16::from_le_bytes([bytes[40], bytes[41]]),
            kind,
            detail: bytes[43],
            tx: u32_at(44),
        }
    }

    /// Whether it speaks of an attempt at one job.
    pub fn is_attempt(&self) -> bool {
        matches!(self.kind, Kind::Started | Kind::Ended)
    }

    /// The jobs that it speaks of.
    pub fn jobs(&self) -> std::ops::Range<u64> {
        let count = if self.is_attempt() { 1 } else { u64::from(self.count) };
        self.first..self.first.saturating_add(count)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workflow, who, first, lease, count, step, kind, detail, tx, .. } = self;
        let held = format!("lease {lease} of session {who:016x}");
        let jobs =
            format!("jobs {first} to {} of step {step} of workflow {workflow:016x}", self.jobs().end.saturating_sub(1));
        match kind {
            Kind::Started => write!(
                f,
                "started: attempt {count} at job {first} of step {step} of workflow {workflow:016x} under {held}"
            ),
            Kind::Ended => {
                let how = if *detail == 0 { "uncounted" } else { state_name(*detail) };
                write!(
                    f,
                    "ended ({how}): attempt {count} at job {first} of step {step} of workflow {workflow:016x} under {held}"
                )
            }
            Kind::Settled if *lease == 0 => {
                write!(f, "settled as {} by the store itself: {jobs} (transaction {tx})", state_name(*detail))
            }
            Kind::Settled => write!(f, "settled as {}: {jobs} under {held} (transaction {tx})", state_name(*detail)),
            Kind::TakenBack => {
                let why = if *detail == 1 { "expired" } else { "given back" };
                write!(f, "taken back ({why}): {jobs} from {held} (transaction {tx})")
            }
            Kind::Joined => write!(f, "joined: session {who:016x}"),
            Kind::Refused => write!(f, "refused: a report under {held}"),
            Kind::Final => {
                write!(f, "in the end {}: {jobs}, {} attempts, {lease} recoveries", state_name(*detail), detail >> 3)
            }
            Kind::Killed | Kind::Stopped | Kind::Continued => write!(f, "{kind:?}: the process of ledger {who}"),
            _ => write!(f, "{kind:?}: {jobs} under {held} (transaction {tx})"),
        }
    }
}

/// One file.
pub struct Ledger {
    pub name: String,
    pub number: u64,
    bytes: Vec<u8>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({}, {} records)", self.name, self.len())
    }
}

impl Ledger {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        Self::from_bytes(name, bytes)
    }

    pub fn from_bytes(name: String, bytes: Vec<u8>) -> Result<Self> {
        ensure!(bytes.len() >= SIZE && bytes.starts_with(MAGIC), "{name} is not a ledger");
        let number = u64::from_le_bytes(std::array::from_fn(|i| bytes[8 + i]));
        Ok(Self { name, number, bytes })
    }

    /// How many whole records it has; one that a kill has cut off does not count.
    pub fn len(&self) -> usize {
        self.bytes.len() / SIZE - 1
    }

    pub fn record(&self, at: usize) -> Record {
        let from = SIZE * (at + 1);
        Record::decode(&self.bytes[from..from + SIZE])
    }
}
