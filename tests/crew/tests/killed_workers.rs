//! Workers that die: real processes, killed by their own jobs or from outside.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crew::{Count, app};
use gusher::store::Store;
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::{Handle, JobState, WorkflowState};

struct House {
    folder: tempfile::TempDir,
    store: Arc<SqliteStore>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { lease: Duration::from_secs(1), ..Options::new(folder.path().join("gusher.db")) };
        Self { store: Arc::new(SqliteStore::open(options).unwrap()), folder }
    }

    fn worker(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_crew")).arg(self.store.url()).stderr(Stdio::null()).spawn().unwrap()
    }

    async fn start(&self, count: Count) -> Handle {
        app().client_on(self.store.clone()).start(count).await.unwrap()
    }

    /// How many jobs the live worker of that process holds under leases now.
    async fn leases_of(&self, pid: u32) -> u64 {
        let workers = self.store.workers(100).await.unwrap();
        workers.iter().filter(|worker| worker.session.pid == pid).map(|worker| worker.leases).sum()
    }

    async fn check(&self) {
        assert_eq!(self.store.doctor().await.unwrap().findings, Vec::<String>::new());
        assert_eq!(self.store.meters().over_bounds(), Vec::new());
    }
}

fn terminate(worker: &Child) {
    Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap();
}

/// Lets something happen in the other processes.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_aborts_its_process_fails_alone_and_nothing_beside_it_does() {
    let house = House::new();
    let run = house.start(Count { rows: 100_000, poison: Some(50_001), each_takes: 0, ledger: None }).await;
    let mut deaths = 0;
    let mut workers = [house.worker(), house.worker()];
    let status = loop {
        for worker in &mut workers {
            if let Some(status) = worker.try_wait().unwrap() {
                assert!(!status.success());
                deaths += 1;
                *worker = house.worker();
            }
        }
        let status = run.status().await.unwrap();
        if status.state.is_finished() {
            break status;
        }
        a_moment().await;
    };
    println!("{deaths} workers died");
    assert_eq!((status.state, status.jobs.succeeded, status.jobs.failed), (WorkflowState::Succeeded, 100_000, 1));
    assert!(deaths <= 25, "{deaths} workers died");
    let job = run.job("Row", 50_001).await.unwrap();
    assert_eq!((job.state, job.attempts), (JobState::Failed, 0));
    assert!(job.errors[0].error.contains("killed its worker"), "{:?}", job.errors);
    let groups = run.error_groups(0, "Row").await.unwrap();
    assert_eq!((groups.len(), groups[0].jobs), (1, 1));
    let sum: u64 = (0..100_000).filter(|n| *n != 50_001).sum();
    assert_eq!(run.job("Report", 0).await.unwrap().output.unwrap().get(), format!("[99999,{sum}]"));
    for worker in &mut workers {
        terminate(worker);
        assert!(worker.wait().unwrap().success());
    }
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_held_runs_again_within_a_lease_and_a_second() {
    let house = House::new();
    let mut victim = house.worker();
    let mut survivor = house.worker();
    let run = house
        .start(Count { rows: 40, poison: None, each_takes: 500, ledger: Some(house.folder.path().to_owned()) })
        .await;
    while house.leases_of(victim.id()).await == 0 || house.leases_of(survivor.id()).await == 0 {
        a_moment().await;
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    let killed = Instant::now();
    while house.leases_of(victim.id()).await > 0 {
        a_moment().await;
    }
    println!("taken back after {:?}", killed.elapsed());
    let done = run.wait().await.unwrap();
    assert_eq!((done.state, done.jobs.succeeded), (WorkflowState::Succeeded, 41));
    assert_eq!(run.job("Report", 0).await.unwrap().output.unwrap().get(), "[40,780]");
    terminate(&survivor);
    assert!(survivor.wait().unwrap().success());
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_finishes_what_runs_and_costs_no_job_an_attempt() {
    let house = House::new();
    let mut first = house.worker();
    let run = house
        .start(Count { rows: 30, poison: None, each_takes: 300, ledger: Some(house.folder.path().to_owned()) })
        .await;
    while house.leases_of(first.id()).await == 0 {
        a_moment().await;
    }
    terminate(&first);
    assert!(first.wait().unwrap().success());
    let status = run.status().await.unwrap();
    assert!(status.jobs.succeeded > 0 && status.jobs.succeeded < 30, "{:?}", status.jobs);
    assert_eq!(house.store.workers(10).await.unwrap().len(), 0);
    house.check().await;
    let mut second = house.worker();
    let done = run.wait().await.unwrap();
    assert_eq!(done.state, WorkflowState::Succeeded);
    for index in 0..30 {
        let job = run.job("Row", index).await.unwrap();
        assert_eq!((job.attempts, job.recoveries), (1, 0), "job {index}");
    }
    terminate(&second);
    second.wait().unwrap();
    // Every row ran once: its number stands in one process's file.
    let mut lines: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(house.folder.path()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().chars().all(|c| c.is_ascii_digit()) {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            lines.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
        }
    }
    lines.sort_unstable();
    assert_eq!(lines, (0..30).collect::<Vec<_>>());
}
