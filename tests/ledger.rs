//! What a process' ledger holds, byte by byte: other programs read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use gusher::prelude::*;
use gusher::store::Store;
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::testing::ledger::{Ledger, Record};
use gusher::{CancellationToken, WorkerOptions};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_tells_every_attempt_and_every_change_of_a_job_in_records_of_48_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.ledger");
    let ledger = Ledger::create(&file, 77).unwrap();
    let mut options = Options::new(folder.path().join("gusher.db"));
    options.ledger = ledger.clone();
    let store = Arc::new(SqliteStore::open(options).unwrap());
    let app = App::stateless().job::<Row>();
    let run = app.client_on(store.clone()).start(Rows).await.unwrap();
    let stop = CancellationToken::new();
    let worker = app.worker_on(store.clone(), WorkerOptions { slots: 2, ledger, ..WorkerOptions::default() });
    let worker = tokio::spawn(worker.await.unwrap().run(stop.clone()));
    run.wait().await.unwrap();
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(store.meters().over_bounds(), Vec::new());

    let bytes = std::fs::read(&file).unwrap();
    assert_eq!((bytes.len() % 48, &bytes[..8], u64_at(&bytes, 8)), (0, b"gusherL1".as_slice(), 77));
    assert_eq!(u32::from_le_bytes(bytes[16..20].try_into().unwrap()), std::process::id());
    let records: Vec<&[u8]> = bytes.chunks(48).skip(1).collect();
    let mut jobs: BTreeMap<(u8, u8), u64> = BTreeMap::new();
    for record in &records {
        let (kind, detail) = (record[42], record[43]);
        let count = u32::from_le_bytes(record[36..40].try_into().unwrap());
        // Of an attempt it is the attempt's number.
        *jobs.entry((kind, detail)).or_default() += if kind < 10 { 1 } else { u64::from(count) };
        assert_eq!(u64_at(record, 8), Record::workflow(run.id()), "{record:?}");
    }
    let (started, ended, settled) = (jobs[&(1, 0)], (jobs[&(2, 3)], jobs[&(2, 4)]), (jobs[&(11, 3)], jobs[&(11, 4)]));
    assert_eq!((started, ended, settled), (10, (9, 1), (9, 1)), "{jobs:?}");
    assert!(jobs[&(10, 0)] >= 10, "{jobs:?}");
    let conn = rusqlite::Connection::open(folder.path().join("gusher.db")).unwrap();
    let last: (i64, i64) =
        conn.query_row("SELECT ledger, tx FROM ledger", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let written = records.iter().map(|record| u32::from_le_bytes(record[44..48].try_into().unwrap())).max();
    assert_eq!(last, (77, i64::from(written.unwrap())), "the store knows the last transaction that was committed");
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
