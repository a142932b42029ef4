//! Schedules under the worst: real worker processes that are killed at random, and a process whose clock jumps. Each instant is compared.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use crew::{Count, app};
use futures::TryStreamExt;
use gusher::schedule::{OccurrenceView, Schedule};
use gusher::store::OccurrenceState;
use gusher::{CancellationToken, Client, Clock, Millis, WorkerOptions, WorkflowId};
use support::House;

const INTERVAL: Millis = 20;
const HOUR: Millis = 3_600_000;
const NOTHING: Count = Count { rows: 0, poison: None, gate: None };

async fn history(schedule: &Schedule) -> Vec<OccurrenceView> {
    let mut history = schedule.history(None, 10_000).await.unwrap();
    history.reverse();
    history
}

/// Waits until so many instants are on record.
async fn until(schedule: &Schedule, count: usize) -> Vec<OccurrenceView> {
    loop {
        let history = history(schedule).await;
        if history.len() >= count {
            return history;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until none of them is undecided.
async fn all_decided(schedule: &Schedule) -> Vec<OccurrenceView> {
    loop {
        let history = history(schedule).await;
        if history.iter().all(|occurrence| occurrence.state != OccurrenceState::Due) {
            return history;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Each instant from the first to the last is on record once: by itself, or in a row of those that were missed together.
fn each_once(history: &[OccurrenceView]) {
    for one in history {
        assert_eq!(one.to - one.at, (one.count as Millis - 1) * INTERVAL, "{one:?}");
    }
    for pair in history.windows(2) {
        assert_eq!(pair[1].at, pair[0].to + INTERVAL, "{pair:?}");
    }
}

/// What the store has of workflows is what the history says has been started, each once.
async fn started_once(client: &Client, history: &[OccurrenceView]) {
    let started = history.iter().filter(|one| one.state == OccurrenceState::Started);
    let said: Vec<WorkflowId> = started.map(|one| one.workflow.expect("what has been started has an id")).collect();
    let there: Vec<_> = client.workflows().of::<Count>().stream().try_collect().await.unwrap();
    let there: BTreeSet<WorkflowId> = there.iter().map(|workflow| workflow.id).collect();
    assert_eq!(said.len(), there.len());
    assert_eq!(said.into_iter().collect::<BTreeSet<_>>(), there);
}

async fn five_processes_that_are_killed_at_random_start_each_instant_once(house: House) {
    let client = app().client_on(house.store.clone());
    let often = client.schedule("often").every(Duration::from_millis(INTERVAL as u64)).start(NOTHING).await.unwrap();
    let mut workers: Vec<_> = (0..5).map(|_| house.worker()).collect();
    until(&often, 10).await;
    for kill in 0..40_usize {
        tokio::time::sleep(Duration::from_millis(60 + 37 * (kill as u64 % 5))).await;
        let at = kill * 3 % workers.len();
        workers[at].kill().await.unwrap();
        workers[at] = house.worker();
    }
    until(&often, 200).await;
    often.pause().await.unwrap();
    let history = all_decided(&often).await;
    each_once(&history);
    started_once(&client, &history).await;
    let count = |state| history.iter().filter(|one| one.state == state).count();
    eprintln!(
        "{} instants: {} started, {} failed with their workers, {} rows of missed ones",
        history.len(),
        count(OccurrenceState::Started),
        count(OccurrenceState::Failed),
        count(OccurrenceState::Missed)
    );
    assert!(count(OccurrenceState::Started) > 150);
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_processes_that_are_killed_at_random_start_each_instant_once_in_a_file() {
    five_processes_that_are_killed_at_random_start_each_instant_once(House::in_a_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_processes_that_are_killed_at_random_start_each_instant_once_on_redis() {
    five_processes_that_are_killed_at_random_start_each_instant_once(House::on_redis().await).await;
}

/// A worker of this process, whose clock a test moves.
async fn worker(house: &House) -> (CancellationToken, tokio::task::JoinHandle<gusher::Result<()>>) {
    let stop = CancellationToken::new();
    let worker = app().worker_on(house.store.clone(), WorkerOptions::default()).await.unwrap();
    (stop.clone(), tokio::spawn(worker.run(stop)))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_a_process_whose_clock_jumps_doubles_and_loses_nothing() {
    let clock = Clock::movable();
    let house = House::on_redis_by(clock.clone()).await;
    let client = app().client_on(house.store.clone());
    let often = client.schedule("often").every(Duration::from_millis(INTERVAL as u64)).start(NOTHING).await.unwrap();
    let (stop, worker) = worker(&house).await;
    for (jump, count) in [(HOUR, 20), (-HOUR, 40), (-HOUR, 60), (HOUR, 80)] {
        until(&often, count).await;
        clock.advance(jump);
    }
    until(&often, 100).await;
    often.pause().await.unwrap();
    let history = all_decided(&often).await;
    each_once(&history);
    assert!(history.iter().all(|one| one.state == OccurrenceState::Started), "{history:?}");
    started_once(&client, &history).await;
    stop.cancel();
    worker.await.unwrap().unwrap();
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_file_an_hour_forth_counts_as_missed_and_an_hour_back_as_past_already() {
    let clock = Clock::movable();
    let house = House::in_a_file_by(clock.clone());
    let client = app().client_on(house.store.clone());
    let often = client.schedule("often").every(Duration::from_millis(INTERVAL as u64)).grace(Duration::from_secs(1));
    let often = often.start(NOTHING).await.unwrap();
    let (stop, worker) = worker(&house).await;
    until(&often, 20).await;
    clock.advance(HOUR);
    // The instants of the hour are passed over, in one row, but for those of the last second: they count as on time.
    let passed = |history: &[OccurrenceView]| history.iter().any(|one| one.state == OccurrenceState::Missed);
    while !passed(&history(&often).await) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    clock.advance(-HOUR);
    // Every instant up to the old time has been; it goes on when that comes again.
    let next = often.status().await.unwrap().next.unwrap();
    assert!(next > house.store.now() + HOUR / 2);
    let before = all_decided(&often).await;
    each_once(&before);
    started_once(&client, &before).await;
    clock.advance(next - house.store.now());
    until(&often, before.len() + 5).await;
    often.pause().await.unwrap();
    let history = all_decided(&often).await;
    each_once(&history);
    started_once(&client, &history).await;
    stop.cancel();
    worker.await.unwrap().unwrap();
    house.check().await;
}
