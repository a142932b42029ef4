//! Workers that die: real processes, killed by their own jobs or from outside; on a file that they share, and on a Redis server.

mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use crew::Count;
use gusher::{JobState, WorkflowState};
use support::House;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Where rows stand until the test lets them pass.
struct Gate(TcpListener);

/// A row at the gate, and the process that runs it.
struct Standing {
    worker: u32,
    row: u64,
    row_waits: TcpStream,
}

impl Gate {
    async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn count(&self, rows: u64) -> Count {
        Count { rows, poison: None, gate: Some(self.0.local_addr().unwrap()) }
    }

    /// The next row that comes to the gate, of a process that lives.
    async fn next(&self) -> Standing {
        loop {
            let (mut row_waits, _) = self.0.accept().await.unwrap();
            // A process may have been killed before it told who it is.
            let told = async { Ok::<_, std::io::Error>((row_waits.read_u32().await?, row_waits.read_u64().await?)) };
            if let Ok((worker, row)) = told.await {
                return Standing { worker, row, row_waits };
            }
        }
    }

    /// Lets every row pass that comes, for ever; `passed` counts how often each did.
    async fn let_all_pass(&self, passed: &mut BTreeMap<u64, u32>) -> ! {
        loop {
            self.next().await.pass(passed).await;
        }
    }
}

impl Standing {
    async fn pass(mut self, passed: &mut BTreeMap<u64, u32>) {
        *passed.entry(self.row).or_default() += 1;
        self.row_waits.write_u8(1).await.unwrap();
    }
}

async fn terminate(worker: &mut Child) {
    let pid = worker.id().expect("the worker is alive").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    assert!(worker.wait().await.unwrap().success());
}

async fn a_row_that_aborts_its_process_fails_alone_and_nothing_beside_it_does(house: House) {
    let run = house.start(Count { rows: 100_000, poison: Some(50_001), gate: None }).await;
    let mut deaths = 0;
    let (mut one, mut other) = (house.worker(), house.worker());
    let wait = run.wait();
    tokio::pin!(wait);
    let status = loop {
        tokio::select! {
            status = &mut wait => break status.unwrap(),
            died = one.wait() => {
                assert!(!died.unwrap().success());
                one = house.worker();
            }
            died = other.wait() => {
                assert!(!died.unwrap().success());
                other = house.worker();
            }
        }
        deaths += 1;
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
    terminate(&mut one).await;
    terminate(&mut other).await;
    house.check().await;
}

async fn what_a_killed_worker_held_runs_again_where_another_lives(house: House) {
    let gate = Gate::open().await;
    let mut victim = house.worker();
    let run = house.start(gate.count(40)).await;
    let victim_id = victim.id().unwrap();
    let mut passed = BTreeMap::new();
    // The other one comes when rows of the victim already stand at the gate, where they stay until it dies.
    let mut of_victim = vec![gate.next().await];
    let mut survivor = house.worker();
    loop {
        let standing = gate.next().await;
        if standing.worker != victim_id {
            standing.pass(&mut passed).await;
            break;
        }
        of_victim.push(standing);
    }
    victim.kill().await.unwrap();
    let killed = Instant::now();
    let again = loop {
        let standing = gate.next().await;
        let again = standing.worker != victim_id && of_victim.iter().any(|held| held.row == standing.row);
        if standing.worker != victim_id {
            standing.pass(&mut passed).await;
        }
        if again {
            break killed.elapsed();
        }
    };
    println!("running again after {again:?}");
    let done = tokio::select! {
        done = run.wait() => done.unwrap(),
        never = gate.let_all_pass(&mut passed) => never,
    };
    assert_eq!((done.state, done.jobs.succeeded), (WorkflowState::Succeeded, 41));
    assert_eq!(passed, (0..40).map(|row| (row, 1)).collect());
    let recovered = run.job("Row", of_victim[0].row).await.unwrap();
    assert_eq!((recovered.attempts, recovered.recoveries), (1, 1));
    assert_eq!(run.job("Report", 0).await.unwrap().output.unwrap().get(), "[40,780]");
    terminate(&mut survivor).await;
    house.check().await;
}

async fn a_worker_that_is_told_to_stop_finishes_what_runs_and_costs_no_job_an_attempt(house: House) {
    const ROWS: u64 = 1_000;
    let gate = Gate::open().await;
    let mut first = house.worker();
    let run = house.start(gate.count(ROWS)).await;
    let mut passed = BTreeMap::new();
    let standing = gate.next().await;
    // It is told while a row runs, which therefore passes only afterwards.
    let stop = async {
        terminate(&mut first).await;
    };
    let rest = async {
        standing.pass(&mut passed).await;
        gate.let_all_pass(&mut passed).await
    };
    tokio::select! {
        biased;
        () = stop => {}
        never = rest => never,
    }
    let status = run.status().await.unwrap();
    assert_eq!(status.jobs.succeeded, passed.len() as u64, "what ran has been reported");
    assert!(status.jobs.succeeded > 0 && status.jobs.succeeded < ROWS, "{:?}", status.jobs);
    assert_eq!(house.store.workers(10).await.unwrap().len(), 0);
    house.check().await;

    let mut second = house.worker();
    let done = tokio::select! {
        done = run.wait() => done.unwrap(),
        never = gate.let_all_pass(&mut passed) => never,
    };
    assert_eq!(done.state, WorkflowState::Succeeded);
    assert_eq!(passed, (0..ROWS).map(|row| (row, 1)).collect(), "every row ran once");
    for index in 0..ROWS {
        let job = run.job("Row", index).await.unwrap();
        assert_eq!((job.attempts, job.recoveries), (1, 0), "job {index}");
    }
    terminate(&mut second).await;
    house.check().await;
}

mod in_a_file {
    use super::House;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_that_aborts_its_process_fails_alone_and_nothing_beside_it_does() {
        super::a_row_that_aborts_its_process_fails_alone_and_nothing_beside_it_does(House::in_a_file()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_killed_worker_held_runs_again_where_another_lives() {
        super::what_a_killed_worker_held_runs_again_where_another_lives(House::in_a_file()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_that_is_told_to_stop_finishes_what_runs_and_costs_no_job_an_attempt() {
        super::a_worker_that_is_told_to_stop_finishes_what_runs_and_costs_no_job_an_attempt(House::in_a_file()).await;
    }
}

mod on_redis {
    use super::House;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_that_aborts_its_process_fails_alone_and_nothing_beside_it_does() {
        super::a_row_that_aborts_its_process_fails_alone_and_nothing_beside_it_does(House::on_redis().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_killed_worker_held_runs_again_where_another_lives() {
        super::what_a_killed_worker_held_runs_again_where_another_lives(House::on_redis().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_that_is_told_to_stop_finishes_what_runs_and_costs_no_job_an_attempt() {
        super::a_worker_that_is_told_to_stop_finishes_what_runs_and_costs_no_job_an_attempt(House::on_redis().await)
            .await;
    }
}
