//! A batch whose jobs add others to it, while busy workers are killed: what is added is neither lost nor doubled, and each callback runs once.
//!
//! `GUSHER_BATCH_JOBS=100000 GUSHER_BATCH_KILLS=100` is the size by which batches are accepted.

mod support;

use std::time::Duration;

use crew::{Callback, Fork, app};
use gusher::{BatchState, JobState, WorkflowState};
use support::House;
use support::until::until;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn callback(event: &str) -> Callback {
    Callback { event: event.to_owned() }
}

async fn what_jobs_add_while_their_workers_are_killed_is_there_once(house: House) {
    let (jobs, kills) = (number("GUSHER_BATCH_JOBS", 12_000), number("GUSHER_BATCH_KILLS", 6));
    let mut workers = vec![house.worker(), house.worker()];
    let client = app().client_on(house.store.clone());
    let night = client.batch("nightly").on_success(callback("success")).on_complete(callback("complete"));
    let night = night.on_death(callback("death")).open().await.unwrap();
    let mut added = 0;
    let mut killed = 0;
    while added < jobs || killed < kills {
        let wave = (jobs / kills.max(1)).max(1);
        night.add_each((added..added + wave).map(|n| Fork { n })).await.unwrap();
        added += wave;
        // Whoever is found to hold jobs is killed; it may be that they were quicker.
        let victim = tokio::time::timeout(Duration::from_secs(2), until(async || house.busy(&workers).await)).await;
        if let Ok(victim) = victim {
            workers[victim].kill().await.unwrap();
            workers[victim] = house.worker();
            killed += 1;
        }
    }
    night.close().await.unwrap();
    if let Some(victim) = house.busy(&workers).await {
        workers[victim].kill().await.unwrap();
        workers[victim] = house.worker();
        killed += 1;
    }
    let done = night.wait().await.unwrap();
    println!("{killed} busy workers were killed; {added} jobs added {added} more");
    assert_eq!((done.state, done.batch), (WorkflowState::Succeeded, Some(BatchState::Closed)));
    // The batch itself, its jobs, what they added, and the callbacks but the one of a death.
    assert_eq!((done.jobs.succeeded, done.jobs.skipped, done.jobs.total), (1 + 2 * added + 2, 1, 1 + 2 * added + 3));
    assert_eq!(night.step("Leaf").await.unwrap().jobs.total, added);
    for event in ["success", "complete"] {
        let job = night.job(&format!("on_{event}"), 0).await.unwrap();
        assert_eq!((job.state, job.attempts), (JobState::Succeeded, 1));
        assert_eq!(job.output.unwrap().get(), format!("[\"{event}\",0]"), "when it ran no job was unsettled");
    }
    house.check().await;
}

mod in_a_file {
    use super::House;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_jobs_add_while_their_workers_are_killed_is_there_once() {
        super::what_jobs_add_while_their_workers_are_killed_is_there_once(House::in_a_file()).await;
    }
}

mod on_redis {
    use super::House;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_jobs_add_while_their_workers_are_killed_is_there_once() {
        super::what_jobs_add_while_their_workers_are_killed_is_there_once(House::on_redis().await).await;
    }
}
