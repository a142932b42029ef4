//! The one thread that writes. Operations that wait while it commits share the next transaction, so that a disk that needs a
//! millisecond for a sync does not limit the store to a thousand operations a second.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::reserve::Reserve;
use super::sql_error;
use super::tx::Tx;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Ledger, Page};
use crate::store::Meters;

/// The most operations in one transaction.
const GROUP: usize = 256;
/// How long a transaction goes on taking operations in.
const GROUP_TIME: Duration = Duration::from_millis(25);

/// Tells the caller what became of its operation, once it is known whether the transaction was committed.
type Reply = Box<dyn FnOnce(Result<()>) + Send>;
/// What an operation runs in.
struct Open<'c> {
    conn: &'c Connection,
    clock: &'c Clock,
    meters: &'c Meters,
    /// Set by an operation that found the disk full.
    full: &'c Cell<bool>,
    page: &'c RefCell<Page>,
}

/// Runs one operation inside of the open transaction, or is told why there is none.
type Operation = Box<dyn FnOnce(Result<Open<'_>>) -> Reply + Send>;

/// Where operations are sent. Dropping it lets the thread finish what was sent, and joins it.
#[derive(Debug)]
pub struct Writer {
    way: Way,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Way {
    /// To the thread; `None` once it should end.
    Thread(Option<mpsc::Sender<Operation>>),
    /// Each operation is run by who asks for it, in a transaction of its own: a store in memory never makes anybody wait.
    Inline(Box<Mutex<Desk>>),
}

/// What writing takes.
#[derive(Debug)]
struct Desk {
    conn: Connection,
    clock: Clock,
    meters: Arc<Meters>,
    reserve: Reserve,
    ledger: Ledger,
}

impl Writer {
    /// Starts the thread on `conn`.
    pub fn start(
        conn: Connection,
        clock: Clock,
        meters: Arc<Meters>,
        reserve: Reserve,
        ledger: Ledger,
    ) -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let mut desk = Desk { conn, clock, meters, reserve, ledger };
        let thread = std::thread::Builder::new()
            .name("gusher-store".into())
            .spawn(move || {
                while let Ok(first) = receiver.recv() {
                    desk.write(first, || receiver.try_recv().ok());
                }
            })
            .map_err(|e| Error::unavailable("starting the store's writer thread").because(e))?;
        Ok(Self { way: Way::Thread(Some(sender)), thread: Some(thread) })
    }

    /// Writes on `conn` without a thread.
    pub fn inline(
        conn: Connection,
        clock: Clock,
        meters: Arc<Meters>,
        reserve: Reserve,
        ledger: Ledger,
    ) -> Result<Self> {
        let desk = Desk { conn, clock, meters, reserve, ledger };
        Ok(Self { way: Way::Inline(Box::new(Mutex::new(desk))), thread: None })
    }

    /// Runs `operation` in a transaction and returns once that is committed. Dropping the future does not stop the operation.
    pub async fn run<T: Send + 'static>(
        &self,
        verb: &'static str,
        operation: impl FnOnce(&mut Tx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let boxed: Operation = Box::new(move |open| {
            let result = open.and_then(|open| attempt(&open, verb, operation));
            Box::new(move |committed: Result<()>| {
                // Nobody may be waiting any more; the operation counts all the same.
                let _ = answer.send(committed.and(result));
            })
        });
        let gone = || Error::unavailable(format!("{verb}: the store's writer thread has ended"));
        match &self.way {
            Way::Thread(sender) => sender.as_ref().ok_or_else(gone)?.send(boxed).map_err(|_| gone())?,
            Way::Inline(desk) => desk.lock().write(boxed, || None),
        }
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let way = std::mem::replace(&mut self.way, Way::Thread(None));
        #[cfg(feature = "testing")]
        if let Way::Inline(desk) = way {
            return super::memory::keep(desk.into_inner().conn);
        }
        drop(way);
        if let Some(thread) = self.thread.take() {
            // The last handle may be dropped by an operation's own reply, on the writer thread itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// One operation in a savepoint of its own: an error, or a panic, takes back this one only.
fn attempt<T>(open: &Open<'_>, verb: &'static str, operation: impl FnOnce(&mut Tx) -> Result<T>) -> Result<T> {
    let Open { conn, clock, meters, full, page } = open;
    let failed = |error| sql_error(verb, error);
    conn.execute_batch("SAVEPOINT operation").map_err(failed)?;
    let mut tx = Tx::new(conn, clock.now());
    tx.notes = page.borrow().notes();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let answer = operation(&mut tx)?;
        tx.flush()?;
        Ok(answer)
    }));
    meters.add(verb, tx.cost());
    let result = ran.unwrap_or_else(|panic| {
        let text = crate::job::panic_text(panic.as_ref());
        Err(Error::corrupt(format!("{verb}: the store's operation panicked: {text}")))
    });
    full.set(full.get() || result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Full));
    // A full disk or a failing one makes SQLite roll the whole transaction back by itself: then there is no savepoint any more.
    if !conn.is_autocommit() {
        if result.is_ok() {
            page.borrow_mut().add(verb, std::mem::take(&mut tx.notes));
        }
        let end = if result.is_ok() { "RELEASE operation" } else { "ROLLBACK TO operation; RELEASE operation" };
        conn.execute_batch(end).map_err(failed)?;
    }
    result.map_err(|error| error.during(verb))
}

impl Desk {
    /// Runs the first operation, and those that `more` finds meanwhile, in one transaction, and answers all of them.
    fn write(&mut self, first: Operation, more: impl FnMut() -> Option<Operation>) {
        let mut replies: Vec<Reply> = Vec::new();
        let mut waiting = Some(first);
        let full = Cell::new(false);
        let committed = self.commit(&mut waiting, more, &mut replies, &full);
        match &committed {
            Ok(()) => self.meters.add_commit(),
            Err(error) => replies.extend(waiting.map(|operation| operation(Err(error.copy())))),
        }
        if full.get() || committed.as_ref().is_err_and(|error| error.kind() == ErrorKind::Full) {
            self.reserve.spend(&self.conn);
        }
        for reply in replies {
            reply(committed.as_ref().copied().map_err(Error::copy));
        }
    }

    /// Runs the operation that waits, and those that come meanwhile, in one transaction. Takes what it runs out of `waiting`.
    fn commit(
        &mut self,
        waiting: &mut Option<Operation>,
        mut more: impl FnMut() -> Option<Operation>,
        replies: &mut Vec<Reply>,
        full: &Cell<bool>,
    ) -> Result<()> {
        let failed = |error| sql_error("writing to the store", error);
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let started = Instant::now();
        let page = RefCell::new(self.ledger.page());
        while let Some(operation) = waiting.take() {
            let open = Open { conn: &tx, clock: &self.clock, meters: &self.meters, full, page: &page };
            replies.push(operation(Ok(open)));
            if tx.is_autocommit() {
                return Err(Error::full(
                    "writing to the store: the disk is full or failing, so the transaction was rolled back; the call may be repeated",
                ));
            }
            if replies.len() < GROUP && started.elapsed() < GROUP_TIME {
                *waiting = more();
            }
        }
        let mut page = page.into_inner();
        if let Some((ledger, number)) = page.number(&self.ledger) {
            let sql = "INSERT INTO ledger VALUES (?1, ?2) ON CONFLICT (ledger) DO UPDATE SET tx = ?2";
            tx.prepare_cached(sql).and_then(|mut keep| keep.execute((ledger, number))).map_err(failed)?;
        }
        page.write(&self.ledger);
        let committed = tx.commit();
        self.ledger.committed(page, committed.is_ok());
        committed.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(tx: &mut Tx) -> Result<i64> {
        Ok(tx.one("SELECT count(*) FROM t", [], |row| row.get(0))?.unwrap_or(0))
    }

    fn writer() -> Writer {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t (n)").unwrap();
        Writer::start(conn, Clock::system(), Arc::default(), Reserve::beside(None), Ledger::default()).unwrap()
    }

    #[tokio::test]
    async fn an_operation_that_fails_or_panics_takes_back_itself_alone() {
        let writer = writer();
        let add = |tx: &mut Tx| tx.run("INSERT INTO t VALUES (1)", []);
        let fail = |tx: &mut Tx| tx.run("INSERT INTO t VALUES (1)", []).and(Err::<(), _>(Error::refused("no")));
        let die = |tx: &mut Tx| -> Result<()> {
            tx.run("INSERT INTO t VALUES (1)", [])?;
            panic!("planned")
        };
        let (added, failed, died, again) = tokio::join!(
            writer.run("add", add),
            writer.run("fail", fail),
            writer.run("die", die),
            writer.run("add", add)
        );
        assert!(added.is_ok() && again.is_ok());
        assert_eq!(failed.unwrap_err().to_string(), "fail: no");
        assert!(died.unwrap_err().to_string().contains("panicked: planned"));
        assert_eq!(writer.run("count", rows).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn when_sqlite_rolls_everything_back_nobody_is_told_that_it_was_written() {
        let writer = writer();
        // What SQLite does by itself when a disk is full.
        let roll_back = |tx: &mut Tx| tx.run("ROLLBACK", []).and(Err::<(), _>(Error::unavailable("the disk is full")));
        let add = |tx: &mut Tx| tx.run("INSERT INTO t VALUES (1)", []);
        let (added, rolled_back) = tokio::join!(writer.run("add", add), writer.run("roll back", roll_back));
        assert!(rolled_back.unwrap_err().is_transient());
        let written = writer.run("count", rows).await.unwrap();
        assert_eq!(written, i64::from(added.is_ok()), "what was acknowledged is there, and nothing else");
        writer.run("add", add).await.unwrap();
        assert_eq!(writer.run("count", rows).await.unwrap(), written + 1);
    }
}
