//! What ledgers hold, byte by byte: other programs read them.

mod servers;

use std::collections::BTreeMap;
use std::sync::Arc;

use gusher::prelude::*;
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::store::{Store, redis};
use gusher::testing::ledger::{Ledger, Record};
use gusher::{CancellationToken, WorkerOptions, WorkflowId};
use servers::Server;

#[derive(Serialize, Deserialize)]
struct Row(u32);
impl Job for Row {
    const NAME: &str = "Row";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        if self.0 == 3 { Err(JobError::fatal("three is bad")) } else { Ok(()) }
    }
}

#[derive(Serialize, Deserialize)]
struct Rows;
impl Workflow for Rows {
    const NAME: &str = "Rows";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..10).map(Row)).tolerate(Tolerate::Jobs(1));
        Ok(())
    }
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(record[at..at + 8].try_into().unwrap())
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(record[at..at + 4].try_into().unwrap())
}

/// Runs the workflow to its end with a worker that keeps a ledger.
async fn run(store: Arc<dyn Store>, ledger: Ledger) -> WorkflowId {
    let app = App::stateless().job::<Row>();
    let run = app.client_on(store.clone()).start(Rows).await.unwrap();
    let stop = CancellationToken::new();
    let worker = app.worker_on(store.clone(), WorkerOptions { slots: 2, ledger, ..WorkerOptions::default() });
    let worker = tokio::spawn(worker.await.unwrap().run(stop.clone()));
    run.wait().await.unwrap();
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(store.meters().over_bounds(), Vec::new());
    run.id()
}

/// How many attempts, or jobs, records of each kind and detail speak of; all of them must be of one workflow.
fn tally<'a>(records: impl Iterator<Item = &'a [u8]>, of: WorkflowId) -> BTreeMap<(u8, u8), u64> {
    let mut jobs = BTreeMap::new();
    for record in records {
        let (kind, detail, count) = (record[42], record[43], u32_at(record, 36));
        // Of an attempt it is the attempt's number.
        *jobs.entry((kind, detail)).or_default() += if kind < 10 { 1 } else { u64::from(count) };
        assert_eq!(u64_at(record, 8), if kind == 3 { 0 } else { Record::workflow(of) }, "{record:?}");
    }
    jobs
}

/// What every store and its worker must have noted of the workflow.
fn check(jobs: &BTreeMap<(u8, u8), u64>) {
    let (started, ended, settled) = (jobs[&(1, 0)], (jobs[&(2, 3)], jobs[&(2, 4)]), (jobs[&(11, 3)], jobs[&(11, 4)]));
    assert_eq!((started, ended, settled), (10, (9, 1), (9, 1)), "{jobs:?}");
    assert!(jobs[&(10, 0)] >= 10 && jobs[&(3, 0)] == 1, "{jobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_tells_every_attempt_and_every_change_of_a_job_in_records_of_48_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.ledger");
    let ledger = Ledger::create(&file, 77).unwrap();
    let mut options = Options::new(folder.path().join("gusher.db"));
    options.ledger = ledger.clone();
    let id = run(Arc::new(SqliteStore::open(options).unwrap()), ledger).await;

    let bytes = std::fs::read(&file).unwrap();
    assert_eq!((bytes.len() % 48, &bytes[..8], u64_at(&bytes, 8)), (0, b"gusherL1".as_slice(), 77));
    assert_eq!(u32_at(&bytes, 16), std::process::id());
    let records = || bytes.chunks(48).skip(1);
    check(&tally(records(), id));
    let conn = rusqlite::Connection::open(folder.path().join("gusher.db")).unwrap();
    let last: (i64, i64) =
        conn.query_row("SELECT ledger, tx FROM ledger", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let written = records().map(|record| u32_at(record, 44)).max();
    assert_eq!(last, (77, i64::from(written.unwrap())), "the store knows the last transaction that was committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_keeps_what_it_did_in_the_order_in_which_it_did_it_until_somebody_has_it() {
    let server = Server::redis();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.ledger");
    let ledger = Ledger::create(&file, 77).unwrap();
    let mut options = redis::Options::new(server.url());
    options.ledger = ledger.clone();
    let store = Arc::new(redis::RedisStore::open(options).await.unwrap());
    let id = run(store.clone(), ledger).await;

    let noted = store.take_records(0, 0).await.unwrap();
    assert_eq!(store.take_records(0, 0).await.unwrap(), noted, "an answer that was lost comes again");
    let transactions: Vec<u32> = noted.chunks(48).map(|record| u32_at(record, 44)).collect();
    assert!(transactions.is_sorted() && transactions[0] == 1, "{transactions:?}");
    assert!(noted.chunks(48).map(|record| u64_at(record, 0)).is_sorted());
    assert_eq!(
        store.take_records(0, *transactions.last().unwrap()).await.unwrap(),
        Vec::<u8>::new(),
        "and then no more"
    );

    let file = std::fs::read(&file).unwrap();
    let of_worker = || file.chunks(48).skip(1);
    check(&tally(of_worker().chain(noted.chunks(48)), id));
    assert!(of_worker().all(|record| record[42] < 10), "the server keeps its records itself");
    for attempt in of_worker().filter(|record| record[42] < 3) {
        let about = |record: &&[u8]| {
            let jobs = u64_at(record, 24)..u64_at(record, 24) + u64::from(u32_at(record, 36));
            record[16..24] == attempt[16..24]
                && record[32..36] == attempt[32..36]
                && jobs.contains(&u64_at(attempt, 24))
        };
        let at = |kind| u64_at(noted.chunks(48).filter(about).find(|record| record[42] == kind).unwrap(), 0);
        assert!((at(10)..=at(11)).contains(&u64_at(attempt, 0)), "between its grant and its report: {attempt:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_keeps_nothing_for_a_store_without_a_ledger() {
    let server = Server::redis();
    let store = Arc::new(redis::RedisStore::open(redis::Options::new(server.url())).await.unwrap());
    run(store.clone(), Ledger::default()).await;
    assert_eq!(store.take_records(0, 0).await.unwrap(), Vec::<u8>::new());
}

#[test]
fn a_store_without_a_ledger_keeps_no_table_for_any() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gusher.db");
    drop(SqliteStore::open(Options::new(&path)).unwrap());
    let conn = rusqlite::Connection::open(&path).unwrap();
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'ledger'";
    assert_eq!(conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[test]
fn a_movable_clock_goes_on_from_where_it_was_moved_to() {
    let clock = gusher::Clock::movable();
    let before = clock.now();
    clock.clone().advance(3_600_000);
    assert!(clock.now() >= before + 3_600_000);
    clock.advance(-3_600_000);
    assert!(clock.now() < before + 3_600_000);
}
