//! The embedded store: one SQLite file, shared by any number of processes of one machine, nothing to install.
//!
//! ```text
//! callers ──► writer thread (group commit) ──► file ◄── readers (each a connection of its own)
//! ```
//!
//! | file | what |
//! |---|---|
//! | `schema` | the tables |
//! | `writer` | the one thread that writes, and its transactions |
//! | `tx` | an operation at work: counted statements, cached rows |
//! | `create`, `overlap` | workflows and drafts, and the keys that they hold |
//! | `lane` | lone jobs, and what becomes of them once they have settled |
//! | `limited`, `key_row`, `sole` | lone jobs that their key limits, the row of such a key, and those that are the only ones of theirs |
//! | `stop`, `deadline` | lone jobs that are cancelled, by somebody or since their time has come |
//! | `checkpoint` | what a long job goes on from |
//! | `eager` | what sources emit that is there at once |
//! | `within` | lone jobs that come with a transaction of the application's own |
//! | `line`, `claim` | ready work, and how it is handed out |
//! | `lease` | sessions, leases, what is taken back |
//! | `permit`, `permitted` | who may run how many of what is limited, and what a claim may take of it |
//! | `forward` | leases that travel by a broker |
//! | `reserve` | what happens when the disk is full |
//! | `report`, `settle` | where jobs complete, and what follows |
//! | `awaited` | steps that wait for a signal or a time, and the signal |
//! | `chain` | steps whose jobs go on from those of the step before |
//! | `children` | workflows that stand for jobs |
//! | `batch` | workflows to which jobs are added until they settle |
//! | `policy` | what becomes of a step of which too many jobs have failed |
//! | `tick`, `chore` | what is due, and what exceeds one operation |
//! | `schedule` | what is started at certain times, and what waits for its turn |
//! | `retry`, `again`, `by_hand` | repairs: failed jobs run again, whole steps do, people decide about jobs |
//! | `retention` | when finished workflows are deleted |
//! | `command`, `read`, `doctor` | what people ask for |
//! | `note` | what a test's ledger is told |
//! | `memory` | stores in memory, one test after another |

mod again;
mod awaited;
mod batch;
mod by_hand;
mod chain;
mod checkpoint;
mod children;
mod chore;
mod claim;
mod command;
mod create;
mod deadline;
mod doctor;
mod eager;
mod forward;
mod key_row;
mod lane;
mod lease;
mod limited;
mod line;
#[cfg(feature = "testing")]
mod memory;
mod note;
mod overlap;
mod permit;
mod permitted;
mod policy;
mod read;
mod report;
mod reserve;
mod retention;
mod retry;
mod schedule;
mod schema;
mod settle;
mod sole;
mod stop;
mod tick;
mod tx;
mod within;
mod writer;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

pub use rusqlite;

use self::reserve::Reserve;
use self::tx::Tx;
pub(crate) use self::within::enqueue_within;
use self::writer::Writer;
use crate::clock::{Clock, Millis, millis};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};
use crate::ledger::Ledger;
use crate::store::*;

/// How long an operation waits for other processes that write.
const BUSY_TIME: Duration = Duration::from_secs(30);
/// How long the leases of a URL may be: deadlines are counted in them, and a worker that died is missed no earlier.
const LEASES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
/// The path of a store that is not in a file.
const IN_MEMORY: &str = ":memory:";
/// How many idle readers are kept.
const READERS: usize = 8;

/// How a SQLite store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file; made if it is not there.
    pub path: PathBuf,
    /// How long a lease lasts unless a worker asks for another length. 15 s.
    pub lease: Duration,
    /// Whether each commit waits until the disk has it. Without, a power cut (not a crash of a process) may lose the last commits.
    pub sync: bool,
    /// Where the store reads the time.
    pub clock: Clock,
    /// How long an operation waits for other processes that hold the file. 30 s.
    pub busy_time: Duration,
    /// Where it is noted what the store does; nowhere unless a test sets it.
    #[cfg(feature = "testing")]
    pub ledger: Ledger,
}

impl Options {
    /// The defaults for a file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            lease: Duration::from_secs(15),
            sync: true,
            clock: Clock::system(),
            busy_time: BUSY_TIME,
            #[cfg(feature = "testing")]
            ledger: Ledger::default(),
        }
    }

    /// A store in memory, for tests: of this process alone, gone when it is dropped, and without any thread of its own.
    pub fn in_memory() -> Self {
        Self::new(IN_MEMORY)
    }

    #[cfg(feature = "testing")]
    fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    #[cfg(not(feature = "testing"))]
    fn ledger(&self) -> Ledger {
        Ledger::default()
    }

    fn is_in_memory(&self) -> bool {
        self.path.as_os_str() == IN_MEMORY
    }

    /// From what stands behind `sqlite:`: a path, perhaps with `?lease=1s&sync=normal`, or `:memory:`.
    pub fn parse(text: &str) -> Result<Self> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(Error::usage("the store's URL names no file; for example sqlite:gusher.db"));
        }
        let mut options = Self::new(path);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (key, value) {
                ("lease", value) => {
                    options.lease = crate::store::parse_duration(value).filter(|lease| LEASES.contains(lease)).ok_or_else(|| {
                        Error::usage(format!("`lease={value}` in the store's URL is no length between 100 ms and a day; for example lease=15s"))
                    })?;
                }
                ("sync", "full") => options.sync = true,
                ("sync", "normal") => options.sync = false,
                _ => {
                    return Err(Error::usage(format!(
                        "`{pair}` in the store's URL is not known; there are lease=15s and sync=full|normal"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// The URL that opens the same store again.
    pub fn url(&self) -> String {
        let sync = if self.sync { "" } else { "&sync=normal" };
        // The first two slashes of a URL are not the path's.
        let slashes = if self.path.to_string_lossy().starts_with("//") { "//" } else { "" };
        format!("sqlite:{slashes}{}?lease={}ms{sync}", self.path.display(), millis(self.lease))
    }
}

/// The embedded store. Cheap to share behind an `Arc`.
pub struct SqliteStore {
    options: Options,
    writer: Writer,
    reserve: Reserve,
    readers: Arc<Mutex<Vec<Connection>>>,
    meters: Arc<Meters>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("options", &self.options).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the file, or makes it.
    pub fn open(options: Options) -> Result<Self> {
        refuse_network_file_system(&options.path)?;
        let reserve = Reserve::beside((!options.is_in_memory()).then_some(&options.path));
        let prepared = || -> Result<Connection> {
            #[cfg(feature = "testing")]
            let kept = options.is_in_memory().then(memory::take).flatten();
            #[cfg(not(feature = "testing"))]
            let kept = None;
            let mut conn = kept.map_or_else(|| connect(&options), Ok)?;
            schema::prepare(&mut conn, &options.path.display().to_string(), options.clock.now())?;
            #[cfg(feature = "testing")]
            if options.ledger.number().is_some() {
                schema::keep_ledgers(&conn)?;
            }
            Ok(conn)
        };
        let conn = match prepared() {
            // Even to open the file takes room, for its log and its shared memory.
            Err(error) if error.kind() == ErrorKind::Full && reserve.free() => prepared(),
            result => result,
        }?;
        let meters = Arc::new(Meters::default());
        let start = if options.is_in_memory() { Writer::inline } else { Writer::start };
        let writer = start(conn, options.clock.clone(), meters.clone(), reserve.clone(), options.ledger())?;
        Ok(Self { options, writer, reserve, readers: Arc::new(Mutex::new(Vec::new())), meters })
    }

    async fn write<T: Send + 'static>(
        &self,
        verb: &'static str,
        operation: impl FnOnce(&mut Tx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.run(verb, operation).await
    }

    /// A write that brings new work: refused while there is no space for it.
    async fn grow<T: Send + 'static>(
        &self,
        verb: &'static str,
        operation: impl FnOnce(&mut Tx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if !self.reserve.is_kept() {
            let reserve = self.reserve.clone();
            let kept = tokio::task::spawn_blocking(move || reserve.keep()).await;
            kept.map_err(|e| Error::corrupt(format!("{verb}: making the reserve panicked")).because(e))?
                .map_err(|error| error.during(verb))?;
        }
        self.write(verb, operation).await
    }

    /// Changes what is stored as this crate would not: what is read back must be checked.
    #[cfg(all(any(fuzzing, test), feature = "testing"))]
    pub(crate) async fn meddle(&self, statement: String, value: Option<rusqlite::types::Value>) -> Result<usize> {
        self.write("meddle", move |tx| tx.run(&statement, rusqlite::params_from_iter(value))).await
    }

    /// Runs a query on a connection of its own, in one snapshot, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        verb: &'static str,
        query: impl FnOnce(&mut Tx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.options.is_in_memory() {
            // There is only one connection.
            return self.write(verb, query).await;
        }
        let (options, readers, meters) = (self.options.clone(), self.readers.clone(), self.meters.clone());
        let task = tokio::task::spawn_blocking(move || {
            let pooled = readers.lock().pop();
            let mut conn = match pooled {
                Some(conn) => conn,
                None => {
                    let conn = connect(&options)?;
                    conn.pragma_update(None, "query_only", true).map_err(|e| sql_error(verb, e))?;
                    conn
                }
            };
            let snapshot = conn.transaction().map_err(|e| sql_error(verb, e))?;
            let mut tx = Tx::new(&snapshot, options.clock.now());
            let result = query(&mut tx);
            meters.add(verb, tx.cost());
            drop(tx);
            snapshot.finish().map_err(|e| sql_error(verb, e))?;
            let mut pool = readers.lock();
            if pool.len() < READERS {
                pool.push(conn);
            }
            result
        });
        task.await.map_err(|e| Error::corrupt(format!("{verb}: the query panicked")).because(e))?
    }
}

fn connect(options: &Options) -> Result<Connection> {
    let path = &options.path;
    let shown = path.display();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return Err(Error::usage(format!("opening the store {shown}: there is no folder {}", folder.display())));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| sql_error(&format!("opening the store {shown}"), error);
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(options.busy_time).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(256);
    // Without this a statement that may use a partial index is compiled anew whenever its parameters change.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    // Switching a new file to WAL does not wait for others that do the same, so it is tried again.
    let started = Instant::now();
    let mode = if options.is_in_memory() { "MEMORY" } else { "WAL" };
    while let Err(error) = conn.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0)) {
        if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || started.elapsed() > options.busy_time {
            return Err(failed(error));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    conn.pragma_update(None, "synchronous", if options.sync { "FULL" } else { "NORMAL" }).map_err(failed)?;
    conn.pragma_update(None, "wal_autocheckpoint", 4000).map_err(failed)?;
    conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024).map_err(failed)?;
    conn.pragma_update(None, "cache_size", -16 * 1024).map_err(failed)?;
    Ok(conn)
}

/// Locks do not work there, so two processes would destroy the file.
#[cfg(target_os = "linux")]
fn refuse_network_file_system(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(found) = rustix::fs::statfs(folder) else { return Ok(()) };
    let network = match found.f_type as u32 {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9p",
        0x00c3_6400 => "CephFS",
        _ => return Ok(()),
    };
    Err(Error::usage(format!(
        "{} is on a network file system ({network}), where SQLite's locks do not protect the file; put the store on a local disk",
        path.display()
    )))
}

#[cfg(not(target_os = "linux"))]
fn refuse_network_file_system(_: &Path) -> Result<()> {
    Ok(())
}

/// What went wrong in SQLite, as one of our errors.
fn sql_error(what: &str, error: rusqlite::Error) -> Error {
    use ErrorCode as C;
    let what = what.to_owned();
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    match error.sqlite_error_code() {
        Some(_) if extended == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => {
            Error::full(format!("{what}: the disk is full; free some space, nothing acknowledged is lost"))
        }
        Some(C::DatabaseBusy | C::DatabaseLocked) => Error::unavailable(format!(
            "{what}: another process has kept the store locked for too long; the call may be repeated"
        )),
        Some(C::DiskFull) => {
            Error::full(format!("{what}: the disk is full; free some space, nothing acknowledged is lost"))
        }
        Some(C::ReadOnly) => Error::unavailable(format!(
            "{what}: the store's file or folder is read-only; make it writable or name another by --store"
        ))
        .because(error),
        Some(C::CannotOpen) => Error::unavailable(format!(
            "{what}: the file cannot be opened or made; are its folder and the file readable and writable?"
        ))
        .because(error),
        Some(C::PermissionDenied) => Error::unavailable(format!("{what}: no permission")).because(error),
        Some(C::NotADatabase) => {
            Error::corrupt(format!("{what}: the file is not a SQLite database; name another by --store"))
        }
        Some(C::DatabaseCorrupt) => Error::corrupt(format!("{what}: the file is damaged")).because(error),
        Some(C::SystemIoFailure) => Error::unavailable(format!("{what}: the disk failed")).because(error),
        _ => Error::corrupt(what).because(error),
    }
}

impl Store for SqliteStore {
    fn join(&self, session: Session) -> Answer<'_, ()> {
        Box::pin(self.write("join", move |tx| tx.join(&session)))
    }

    fn leave(&self, session: SessionId) -> Answer<'_, Left> {
        Box::pin(self.write("leave", move |tx| tx.leave(session)))
    }

    fn append(&self, append: Append) -> Answer<'_, ()> {
        // To hold a batch open brings nothing new.
        if matches!(append.of, DraftOf::Open { .. }) {
            return Box::pin(self.write("append", move |tx| tx.append(&append)));
        }
        Box::pin(self.grow("append", move |tx| tx.append(&append)))
    }

    fn begin(&self, begin: Begin) -> Answer<'_, Begun> {
        Box::pin(self.grow("begin", move |tx| tx.begin(&begin)))
    }

    fn abandon(&self, _: WorkflowId, draft: DraftKey) -> Answer<'_, ()> {
        Box::pin(self.write("abandon", move |tx| tx.abandon_draft(draft)))
    }

    fn create(&self, create: Create) -> Answer<'_, Created> {
        Box::pin(self.grow("create", move |tx| tx.create(&create)))
    }

    fn add_jobs(&self, add: AddJobs) -> Answer<'_, Added> {
        Box::pin(self.grow("add jobs", move |tx| tx.add_to_batch(&add)))
    }

    fn close_batch(&self, close: CloseBatch) -> Answer<'_, ClosedBatch> {
        Box::pin(self.write("close batch", move |tx| tx.close_batch(&close)))
    }

    fn enqueue(&self, enqueue: Enqueue) -> Answer<'_, Enqueued> {
        Box::pin(self.grow("enqueue", move |tx| tx.enqueue_lone(&enqueue)))
    }

    fn put_schedule(&self, put: PutSchedule) -> Answer<'_, Option<ScheduleRow>> {
        Box::pin(self.grow("put schedule", move |tx| tx.put_schedule(&put)))
    }

    fn change_schedule(&self, _: u16, name: String, change: ChangeSchedule) -> Answer<'_, Changed> {
        Box::pin(self.write("change schedule", move |tx| tx.change_schedule(&name, change)))
    }

    fn fire(&self, fire: Fire) -> Answer<'_, Fired> {
        Box::pin(self.grow("fire", move |tx| tx.fire(&fire)))
    }

    fn permit(&self, permit: Permit) -> Answer<'_, Permitted> {
        Box::pin(self.write("permit", move |tx| tx.permit(&permit)))
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Claimed> {
        Box::pin(self.write("claim", move |tx| tx.claim(&claim)))
    }

    fn take_over(&self, take: TakeOver) -> Answer<'_, TakenOver> {
        Box::pin(self.write("take over", move |tx| tx.take_over(&take)))
    }

    fn renew(&self, renew: Renew) -> Answer<'_, Renewed> {
        Box::pin(self.write("renew", move |tx| tx.renew(&renew)))
    }

    fn report(&self, report: Report) -> Answer<'_, Reported> {
        Box::pin(self.write("report", move |tx| tx.report(&report)))
    }

    fn save_checkpoint(&self, save: SaveCheckpoint) -> Answer<'_, ()> {
        Box::pin(self.grow("save checkpoint", move |tx| tx.save_checkpoint(&save)))
    }

    fn take_draft(&self, take: TakeDraft) -> Answer<'_, TakenDraft> {
        Box::pin(self.write("take draft", move |tx| tx.take_draft(&take)))
    }

    fn adopt(&self, adopt: Adopt) -> Answer<'_, Adopted> {
        // To ask how many are unfinished brings nothing new.
        if adopt.chunks.is_empty() {
            return Box::pin(self.write("adopt", move |tx| tx.adopt_eagerly(&adopt)));
        }
        Box::pin(self.grow("adopt", move |tx| tx.adopt_eagerly(&adopt)))
    }

    fn checkpoint(&self, chunk: ChunkRef, at: u16) -> Answer<'_, Option<Vec<u8>>> {
        Box::pin(self.read("checkpoint", move |tx| tx.read_checkpoint(chunk, at)))
    }

    fn emitted(&self, chunk: ChunkRef, at: u16) -> Answer<'_, Emitted> {
        Box::pin(self.read("emitted", move |tx| tx.read_emitted(chunk, at)))
    }

    fn tick(&self, tick: Tick) -> Answer<'_, Ticked> {
        Box::pin(async move {
            let now = self.now();
            let ahead =
                self.read("look ahead", move |tx| tx.plain(|conn| tick::look_ahead(conn, now, tick.lease))).await?;
            if ahead.more { self.write("tick", move |tx| tx.tick(tick)).await } else { Ok(ahead) }
        })
    }

    fn cancel(&self, workflow: WorkflowId, grace: Millis) -> Answer<'_, ()> {
        let lease = self.lease();
        Box::pin(self.write("cancel", move |tx| tx.cancel(workflow, lease, grace)))
    }

    fn cancel_jobs(&self, cancel: CancelJobs) -> Answer<'_, CancelledJobs> {
        Box::pin(self.write("cancel jobs", move |tx| tx.cancel_jobs(&cancel)))
    }

    fn pause(&self, workflow: WorkflowId) -> Answer<'_, ()> {
        Box::pin(self.write("pause", move |tx| tx.pause(workflow)))
    }

    fn resume(&self, workflow: WorkflowId) -> Answer<'_, Woken> {
        Box::pin(self.write("resume", move |tx| tx.resume(workflow)))
    }

    fn set_paused(&self, what: Pausable, paused: bool) -> Answer<'_, Woken> {
        Box::pin(self.write("set paused", move |tx| tx.set_paused(&what, paused)))
    }

    fn retry(&self, retry: RetryFailed) -> Answer<'_, Retried> {
        Box::pin(self.write("retry", move |tx| tx.retry(&retry)))
    }

    fn run_again(&self, run: RunAgain) -> Answer<'_, RanAgain> {
        Box::pin(self.write("run again", move |tx| tx.run_again(&run)))
    }

    fn decide_by_hand(&self, decide: DecideByHand) -> Answer<'_, DecidedByHand> {
        Box::pin(self.write("decide by hand", move |tx| tx.decide_by_hand(&decide)))
    }

    fn resume_step(&self, resume: ResumeStep) -> Answer<'_, ResumedStep> {
        Box::pin(self.write("resume step", move |tx| tx.resume_step(&resume)))
    }

    fn signal(&self, send: SendSignal) -> Answer<'_, Signalled> {
        Box::pin(self.grow("signal", move |tx| tx.signal(&send)))
    }

    fn delete(&self, workflow: WorkflowId) -> Answer<'_, ()> {
        Box::pin(self.write("delete", move |tx| tx.delete(workflow)))
    }

    fn keep(&self, workflow: WorkflowId, keeping: Keeping) -> Answer<'_, Kept> {
        Box::pin(self.write("keep", move |tx| tx.keep(workflow, keeping)))
    }

    fn workflow(&self, workflow: WorkflowId) -> Answer<'_, WorkflowRow> {
        Box::pin(self.read("workflow", move |tx| tx.read_workflow(workflow)))
    }

    fn workflows(&self, list: List) -> Answer<'_, Vec<WorkflowRow>> {
        Box::pin(self.read("workflows", move |tx| tx.read_workflows(&list)))
    }

    fn steps(&self, workflow: WorkflowId, from: StepNumber, limit: u32) -> Answer<'_, Vec<StepRow>> {
        Box::pin(self.read("steps", move |tx| tx.read_steps(workflow, from, limit)))
    }

    fn step_named(&self, workflow: WorkflowId, name: String) -> Answer<'_, Option<StepRow>> {
        Box::pin(self.read("step named", move |tx| tx.read_step_named(workflow, &name)))
    }

    fn edges(&self, workflow: WorkflowId, step: StepNumber, upstream: bool, limit: u32) -> Answer<'_, Vec<EdgeRow>> {
        Box::pin(self.read("edges", move |tx| tx.read_edges(workflow, step, upstream, limit)))
    }

    fn parameters(&self, chunk: ChunkRef) -> Answer<'_, Parameters> {
        Box::pin(self.read("parameters", move |tx| tx.read_parameters(chunk)))
    }

    fn outcomes(
        &self,
        workflow: WorkflowId,
        step: StepNumber,
        from: u64,
        after: u64,
    ) -> Answer<'_, Vec<ChunkOutcomes>> {
        Box::pin(self.read("outcomes", move |tx| tx.read_outcomes(workflow, step, from, after, usize::MAX)))
    }

    fn outcomes_of_chunk(
        &self,
        workflow: WorkflowId,
        step: StepNumber,
        index: u64,
        after: u64,
    ) -> Answer<'_, Option<ChunkOutcomes>> {
        let read = move |tx: &mut Tx<'_>| tx.read_outcomes(workflow, step, index, after, 1);
        Box::pin(async move {
            let page = self.read("outcomes of chunk", read).await?;
            Ok(page.into_iter().next().filter(|chunk| index < chunk.first + chunk.bytes.len() as u64))
        })
    }

    fn children(&self, workflow: WorkflowId, step: StepNumber, from: u64, limit: u32) -> Answer<'_, Vec<ChildRow>> {
        Box::pin(self.read("children", move |tx| tx.read_children(workflow, step, from, limit)))
    }

    fn errors(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Vec<ErrorRow>> {
        Box::pin(self.read("errors", move |tx| tx.read_errors(workflow, step)))
    }

    fn waiting(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Waiting> {
        Box::pin(self.read("waiting", move |tx| tx.read_waiting(workflow, step)))
    }

    fn whereabouts(&self, workflow: WorkflowId, step: StepNumber, index: u64) -> Answer<'_, Whereabouts> {
        Box::pin(self.read("whereabouts", move |tx| tx.read_whereabouts(workflow, step, index)))
    }

    fn size(&self, workflow: WorkflowId) -> Answer<'_, WorkflowSize> {
        Box::pin(self.read("size", move |tx| tx.read_size(workflow)))
    }

    fn schedules(&self, after: String, limit: u32) -> Answer<'_, Vec<ScheduleRow>> {
        Box::pin(self.read("schedules", move |tx| tx.read_schedules(&after, limit)))
    }

    fn occurrences(&self, _: u16, name: String, before: Millis, limit: u32) -> Answer<'_, Vec<OccurrenceRow>> {
        Box::pin(self.read("occurrences", move |tx| tx.read_occurrences(&name, before, limit)))
    }

    fn paused(&self) -> Answer<'_, Vec<Pausable>> {
        Box::pin(self.read("paused", |tx| tx.read_paused()))
    }

    fn workers(&self, limit: u32) -> Answer<'_, Vec<WorkerRow>> {
        Box::pin(self.read("workers", move |tx| tx.live_workers(i64::from(limit))))
    }

    fn held(&self, session: SessionId, limit: u32) -> Answer<'_, Vec<HeldRow>> {
        Box::pin(self.read("held", move |tx| tx.read_held(session, limit)))
    }

    fn doctor(&self) -> Answer<'_, Checkup> {
        Box::pin(async move {
            let mut checkup = self.read("doctor", |tx| tx.doctor()).await?;
            if !self.options.sync {
                let may =
                    "a power cut loses what was acknowledged last (sync=normal); without that setting nothing is lost";
                checkup.warnings.push(may.to_owned());
            }
            Ok(checkup)
        })
    }

    fn identity(&self) -> Answer<'_, u64> {
        Box::pin(self.read("identity", move |tx| tx.read_identity()))
    }

    fn meters(&self) -> &Meters {
        &self.meters
    }

    fn now(&self) -> Millis {
        self.options.clock.now()
    }

    fn lease(&self) -> Millis {
        millis(self.options.lease)
    }

    fn url(&self) -> String {
        self.options.url()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_opens_the_same_store_again() {
        for url in ["gusher.db", "///var/gusher.db?lease=1s", "////host/gusher.db?sync=normal", ":memory:"] {
            let options = Options::parse(url).unwrap();
            let again = options.url();
            let again = Options::parse(again.strip_prefix("sqlite:").unwrap()).unwrap();
            assert_eq!((again.path, again.lease, again.sync), (options.path, options.lease, options.sync), "{url}");
        }
    }

    #[test]
    fn a_url_without_a_file_or_with_a_lease_that_cannot_be_is_refused() {
        assert!(Options::parse("//").unwrap_err().to_string().contains("names no file"));
        for lease in ["99ms", "2d", "99999999999d", "long"] {
            let error = Options::parse(&format!("a.db?lease={lease}")).unwrap_err().to_string();
            assert!(error.contains("between 100 ms and a day"), "{error}");
        }
    }
}
