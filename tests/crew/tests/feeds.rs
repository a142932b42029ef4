//! Eager sources while busy workers are killed: what they have emitted stays, and is there once.

mod support;

use std::time::Duration;

use crew::Feeds;
use gusher::WorkflowState;
use support::House;
use support::until::until;

const FEEDS: u64 = 3;
const ROWS: u64 = 6_000;
const KILLS: u64 = 6;

async fn each_row_runs_although_workers_are_killed_while_their_sources_emit(house: House) {
    let mut workers = vec![house.worker(), house.worker()];
    let run = house.start(Feeds { feeds: FEEDS, rows: ROWS }).await;
    let mut killed = 0;
    for kill in 1..=KILLS {
        let emitted = async || run.status().await.unwrap().steps[1].jobs.total;
        let enough = kill * FEEDS * ROWS / (KILLS + 1);
        let victim = until(async || if emitted().await < enough { None } else { house.busy(&workers).await });
        // Whoever is found to hold jobs is killed; it may be that they were quicker.
        if let Ok(victim) = tokio::time::timeout(Duration::from_secs(20), victim).await {
            workers[victim].kill().await.unwrap();
            workers[victim] = house.worker();
            killed += 1;
        }
    }
    let done = run.wait().await.unwrap();
    println!("{killed} busy workers were killed");
    let rows = FEEDS * ROWS;
    assert_eq!((done.state, done.jobs.succeeded), (WorkflowState::Succeeded, FEEDS + rows + 1));
    let sum = rows * (rows - 1) / 2;
    assert_eq!(run.job("Report", 0).await.unwrap().output.unwrap().get(), format!("[{rows},{sum}]"), "each row once");
    house.check().await;
}

mod in_a_file {
    use super::House;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_row_runs_although_workers_are_killed_while_their_sources_emit() {
        super::each_row_runs_although_workers_are_killed_while_their_sources_emit(House::in_a_file()).await;
    }
}

mod on_redis {
    use super::House;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_row_runs_although_workers_are_killed_while_their_sources_emit() {
        super::each_row_runs_although_workers_are_killed_while_their_sources_emit(House::on_redis().await).await;
    }
}
