//! Real workers on one store, killed while they hold unsettled jobs: the report still runs once, on every row.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gusher::store::sqlite::{Options, SqliteStore};
use gusher::store::{List, Store};
use gusher::{JobState, WorkflowState};

const ROWS: u64 = 282_980;

struct House {
    folder: tempfile::TempDir,
    store: SqliteStore,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { lease: Duration::from_secs(1), ..Options::new(folder.path().join("gusher.db")) };
        Self { store: SqliteStore::open(options).unwrap(), folder }
    }

    fn import(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_import"));
        command.args(arguments).current_dir(self.folder.path()).env("GUSHER_STORE", self.store.url());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    fn worker(&self) -> Child {
        self.import(&["worker", "--slots", "8"]).spawn().unwrap()
    }

    /// How many leases the worker of that process holds.
    async fn leases_of(&self, worker: &Child) -> u64 {
        let workers = self.store.workers(100).await.unwrap();
        workers.iter().filter(|row| row.session.pid == worker.id()).map(|row| row.leases).sum()
    }

    /// The rows whose effect is in the database, and the jobs of the store that have settled.
    async fn effects_and_settled(&self) -> (u64, u64) {
        let settled = match self.store.workflows(List { limit: 1, ..List::default() }).await.unwrap().first() {
            Some(workflow) => {
                self.store.steps(workflow.id, 2, 1).await.unwrap().first().map_or(0, |rows| rows.jobs.succeeded)
            }
            None => 0,
        };
        (rows_in(&self.folder.path().join("import.db")).unwrap_or(0), settled)
    }
}

fn rows_in(database: &Path) -> Option<u64> {
    let conn = rusqlite::Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    conn.query_row("SELECT count(*) FROM airport", [], |row| row.get::<_, i64>(0)).ok().map(|count| count as u64)
}

fn signal(worker: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &worker.id().to_string()]).status().unwrap().success());
}

/// Lets something happen in the other processes.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_killed_with_jobs_in_hand_lose_none_and_the_report_runs_once() {
    let house = House::new();
    let mut workers = [house.worker(), house.worker()];
    let mut start = house.import(&["start", "ImportWorkflow", "--wait", "--args", r#"{"repeat":10}"#]).spawn().unwrap();

    let (mut kills, mut with_effect) = (0, 0);
    while start.try_wait().unwrap().is_none() {
        let (effects, _) = house.effects_and_settled().await;
        // One kill for each further share of the rows, so that all of them fall into the run.
        if effects < ROWS / 12 * (kills + 1) || kills >= 8 {
            a_moment().await;
            continue;
        }
        // Both stand still while it is looked at what they hold.
        workers.iter().for_each(|worker| signal(worker, "-STOP"));
        let (effects, settled) = house.effects_and_settled().await;
        let held = [house.leases_of(&workers[0]).await, house.leases_of(&workers[1]).await];
        // With effects that nobody has reported both die: one of them was between a job's effect and its report.
        let both = effects > settled && held.iter().all(|leases| *leases > 0);
        for (worker, held) in workers.iter_mut().zip(held) {
            let victim = held > 0 && (both || kills % 2 == 0);
            if victim {
                worker.kill().unwrap();
                worker.wait().unwrap();
                kills += 1;
                *worker = house.worker();
            } else {
                signal(worker, "-CONT");
            }
        }
        with_effect += u64::from(both);
    }
    assert!(start.wait().unwrap().success(), "the workflow succeeded");
    println!("{kills} kills, {with_effect} times between an effect and its report");
    assert!(kills >= 5, "only {kills} kills hit a worker with jobs in hand");
    assert!(with_effect >= 1, "no kill fell between an effect and its report");

    let workflow = house.store.workflows(List { limit: 9, ..List::default() }).await.unwrap().remove(0);
    assert_eq!(
        (workflow.state, workflow.jobs.succeeded, workflow.jobs.failed),
        (WorkflowState::Succeeded, ROWS + 3, 0)
    );
    assert_eq!(rows_in(&house.folder.path().join("import.db")), Some(ROWS));
    let report = house.store.outcomes(workflow.id, 3, 0, 0).await.unwrap().remove(0);
    assert_eq!((report.bytes.len(), report.records.len()), (1, 1), "one report, made once");
    assert_eq!(JobState::of(report.bytes[0]), JobState::Succeeded);
    let page = std::fs::read_to_string(house.folder.path().join("import-report.html")).unwrap();
    assert!(page.contains("282,980"), "the report counts every row");
    for worker in &mut workers {
        signal(worker, "-TERM");
        assert!(worker.wait().unwrap().success());
    }
    let doctor = house.import(&["doctor", "--json"]).output().unwrap();
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
}
