//! Ledgers as they are written.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use super::{What, Whose};
use crate::error::Result;
use crate::id::{SessionId, WorkflowId};
use crate::slice::Mask;
use crate::state::JobState;
use crate::worker::held::{End, Ended, Held, Taken};

const MAGIC: &[u8; 8] = b"gusherL1";

/// What a record says; `gusher::testing::ledger` explains the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An attempt begins.
    #[default]
    Started = 1,
    /// An attempt has ended; its effect has been made, and its report has not.
    Ended = 2,
    /// The process has a session.
    Joined = 3,
    /// Jobs under a new lease.
    Granted = 10,
    /// Jobs in a final state.
    Settled = 11,
    /// Jobs that are tried again.
    Retrying = 12,
    /// Jobs that a worker gave back.
    Returned = 13,
    /// Jobs of a lease that has ended without a report of them.
    TakenBack = 14,
    /// A report under a lease that is not held.
    Refused = 15,
    /// A transaction that was not committed.
    Aborted = 16,
    /// A workflow that was made.
    Workflow = 20,
    /// One of its steps.
    Step = 21,
    /// One of its edges.
    Edge = 22,
    /// A process was killed while it held unsettled jobs.
    Killed = 30,
    /// A process was stopped.
    Stopped = 31,
    /// A stopped process goes on.
    Continued = 32,
    /// The last transaction of a ledger that the store holds.
    Last = 40,
    /// What the store says of jobs in the end.
    Final = 41,
}

/// One record; `gusher::testing::ledger` says what its fields mean for each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When, see [`Ledger::now`].
    pub at: u64,
    /// The workflow, see [`Record::workflow`].
    pub workflow: u64,
    /// A session or a ledger.
    pub who: u64,
    /// The first job's index.
    pub first: u64,
    /// The lease's number in its session.
    pub lease: u32,
    /// How many jobs, or which attempt.
    pub count: u32,
    /// The step's number.
    pub step: u16,
    /// What it says.
    pub kind: Kind,
    /// More of that.
    pub detail: u8,
    /// The transaction's number.
    pub tx: u32,
}

impl Record {
    /// The bytes that name a workflow in ledgers.
    pub fn workflow(id: WorkflowId) -> u64 {
        super::of_workflow(id)
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.at.to_le_bytes());
        bytes.extend(self.workflow.to_le_bytes());
        bytes.extend(self.who.to_le_bytes());
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.lease.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.step.to_le_bytes());
        bytes.extend([self.kind as u8, self.detail]);
        bytes.extend(self.tx.to_le_bytes());
    }
}

/// A place in a process where it matters whether it dies there.
#[derive(Clone, Copy, Debug)]
pub enum Point<'a> {
    /// A job has made its effect, and nobody has been told.
    Ended,
    /// A transaction with operations of these names has been written and not committed; of a server: the call has not been sent.
    BeforeCommit(&'a [&'static str]),
    /// A server has been sent the call, and its answer has not been read.
    Sent(&'a [&'static str]),
    /// It has been committed, and nobody has been told.
    AfterCommit(&'a [&'static str]),
}

type AtPoint = Arc<dyn Fn(&Ledger, Point<'_>) + Send + Sync>;

/// A process' ledger. Clones share the file; the default one keeps nothing.
#[derive(Clone, Default)]
pub struct Ledger {
    file: Option<Arc<Inner>>,
    at_point: Option<AtPoint>,
}

struct Inner {
    number: u64,
    file: File,
    /// The last transaction's number.
    tx: AtomicU32,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({:?})", self.file.as_ref().map(|inner| inner.number))
    }
}

impl Ledger {
    /// A new file, which must not be there; `number` tells it from the others of its run.
    pub fn create(path: &Path, number: u64) -> io::Result<Self> {
        let mut file = File::options().append(true).create_new(true).open(path)?;
        let mut header = [0; 48];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&number.to_le_bytes());
        header[16..20].copy_from_slice(&std::process::id().to_le_bytes());
        file.write_all(&header)?;
        Ok(Self { file: Some(Arc::new(Inner { number, file, tx: AtomicU32::new(0) })), at_point: None })
    }

    /// Calls `at_point` at each such place, on the thread that is there.
    pub fn at_points(self, at_point: impl Fn(&Ledger, Point<'_>) + Send + Sync + 'static) -> Self {
        Self { at_point: Some(Arc::new(at_point)), ..self }
    }

    /// The time of records: the same clock in all processes of this machine.
    pub fn now() -> u64 {
        now()
    }

    /// Its number.
    pub fn number(&self) -> Option<u64> {
        self.file.as_ref().map(|inner| inner.number)
    }

    /// Writes records.
    ///
    /// # Panics
    /// If the file cannot be written: a run whose ledger has holes proves nothing.
    pub fn write(&self, records: &[Record]) {
        if !self.is_kept() {
            return;
        }
        let mut bytes = Vec::with_capacity(48 * records.len());
        records.iter().for_each(|record| record.put(&mut bytes));
        self.append(&bytes);
    }

    /// Appends records that a store kept.
    ///
    /// # Panics
    /// Like [`write`](Self::write).
    pub fn append(&self, records: &[u8]) {
        if let Some(inner) = &self.file {
            (&inner.file).write_all(records).expect("the ledger can be written");
        }
    }

    fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    fn point(&self, point: Point<'_>) {
        if let Some(at_point) = &self.at_point {
            at_point(self, point);
        }
    }

    pub(crate) fn started(&self, held: &Held, taken: Taken) {
        if self.is_kept() {
            self.write(&[attempt(Kind::Started, held, taken.at, taken.attempt, 0)]);
        }
    }

    pub(crate) fn ended(&self, held: &Held, ended: &Ended) {
        if self.is_kept() {
            let how = match ended.end {
                End::Succeeded(_) => JobState::Succeeded as u8,
                End::Failed(_) => JobState::Failed as u8,
                End::Cancelled => JobState::Cancelled as u8,
                End::Stopped => 0,
            };
            self.write(&[attempt(Kind::Ended, held, ended.at, ended.attempt, how)]);
            self.point(Point::Ended);
        }
    }

    pub(crate) fn joined(&self, session: SessionId) {
        if self.is_kept() {
            let who = super::of_session(session);
            self.write(&[Record { at: now(), who, kind: Kind::Joined, ..Record::default() }]);
        }
    }

    /// What a call tells a server that is to note what it does: when it is sent.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn sent_at(&self) -> Option<u64> {
        self.is_kept().then(now)
    }

    /// Passes the places of a call to a server.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) async fn during<T>(&self, verb: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        if self.at_point.is_none() {
            return call.await;
        }
        self.point(Point::BeforeCommit(&[verb]));
        let mut call = std::pin::pin!(call);
        let result = match std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            Poll::Ready(result) => result,
            Poll::Pending => {
                // The connection's own task, which the call has woken, sends it first.
                tokio::task::yield_now().await;
                self.point(Point::Sent(&[verb]));
                call.await
            }
        };
        if result.is_ok() {
            self.point(Point::AfterCommit(&[verb]));
        }
        result
    }

    pub(crate) fn page(&self) -> Page {
        Page { records: self.is_kept().then(Vec::new), verbs: Vec::new(), tx: 0 }
    }

    /// The transaction of a page that was written has ended.
    pub(crate) fn committed(&self, page: Page, committed: bool) {
        if committed {
            self.point(Point::AfterCommit(&page.verbs));
        } else if page.tx > 0 {
            self.write(&[Record { at: now(), kind: Kind::Aborted, tx: page.tx, ..Record::default() }]);
        }
    }
}

fn attempt(kind: Kind, held: &Held, at: u16, attempt: u8, detail: u8) -> Record {
    Record {
        at: now(),
        workflow: Record::workflow(held.slice.workflow),
        who: super::of_session(held.session()),
        first: held.slice.first + u64::from(at),
        lease: held.slice.lease as u32,
        count: u32::from(attempt),
        step: held.slice.step as u16,
        kind,
        detail,
        tx: 0,
    }
}

#[cfg(target_os = "linux")]
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Elsewhere the wall clock has to do; who sets it back mixes the records up.
#[cfg(not(target_os = "linux"))]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64)
}

/// What happened in one transaction.
#[derive(Debug)]
pub(crate) struct Page {
    records: Option<Vec<Record>>,
    verbs: Vec<&'static str>,
    tx: u32,
}

impl Page {
    /// Where an operation of it notes what happens.
    pub fn notes(&self) -> Notes {
        Notes(self.records.as_ref().map(|_| Vec::new()))
    }

    /// Takes the notes of an operation that was not taken back.
    pub fn add(&mut self, verb: &'static str, notes: Notes) {
        if let (Some(records), Some(notes)) = (&mut self.records, notes.0) {
            records.extend(notes);
            self.verbs.push(verb);
        }
    }

    /// The ledger's number and the transaction's, for the store to keep; `None` if there is nothing to tell.
    pub fn number(&mut self, ledger: &Ledger) -> Option<(i64, u32)> {
        let inner = ledger.file.as_ref()?;
        let records = self.records.as_mut().filter(|records| !records.is_empty())?;
        self.tx = inner.tx.fetch_add(1, Ordering::Relaxed) + 1;
        records.iter_mut().for_each(|record| record.tx = self.tx);
        Some((inner.number as i64, self.tx))
    }

    /// Writes it, just before the transaction is committed.
    pub fn write(&self, ledger: &Ledger) {
        if let Some(records) = &self.records {
            if !records.is_empty() {
                ledger.write(records);
            }
            ledger.point(Point::BeforeCommit(&self.verbs));
        }
    }
}

/// What happened in one operation; `None` without a ledger.
#[derive(Debug, Default)]
pub(crate) struct Notes(Option<Vec<Record>>);

impl Notes {
    pub fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Vec::len)
    }

    /// Forgets what was noted since there were `len` records.
    pub fn truncate(&mut self, len: usize) {
        if let Some(records) = &mut self.0 {
            records.truncate(len);
        }
    }

    /// Notes what happened to jobs, one record a run of them.
    pub fn add(&mut self, what: What, whose: Whose, jobs: Mask) {
        let Some(records) = &mut self.0 else { return };
        let (kind, detail) = match what {
            What::Granted => (Kind::Granted, 0),
            What::Settled(state) => (Kind::Settled, state as u8),
            What::Retrying => (Kind::Retrying, 0),
            What::Returned => (Kind::Returned, 0),
            What::TakenBack { expired } => (Kind::TakenBack, u8::from(expired)),
            What::Refused => (Kind::Refused, 0),
        };
        let record = Record {
            at: now(),
            workflow: whose.workflow,
            who: whose.session,
            first: whose.first,
            lease: whose.lease as u32,
            count: 0,
            step: whose.step as u16,
            kind,
            detail,
            tx: 0,
        };
        if matches!(what, What::Refused) {
            records.push(record);
        }
        let mut jobs = jobs.iter().peekable();
        while let Some(first) = jobs.next() {
            let mut count = 1;
            while jobs.next_if_eq(&(first + count)).is_some() {
                count += 1;
            }
            records.push(Record { first: whose.first + first as u64, count: count as u32, ..record });
        }
    }
}
