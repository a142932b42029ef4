//! Schedules under the worst: real worker processes that are killed at random, and a process whose clock jumps. Each instant is compared.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crew::{Count, app};
use futures::TryStreamExt;
use gusher::schedule::{OccurrenceView, Schedule};
use gusher::store::OccurrenceState;
use gusher::{CancellationToken, Client, Clock, Millis, WorkerOptions, WorkflowId};
use support::House;
use support::until::until;

const INTERVAL: Millis = 40;
const HOUR: Millis = 3_600_000;
const NOTHING: Count = Count { rows: 0, poison: None, gate: None };

/// All that a schedule has had on record; the store forgets what is older than the last thousand.
struct Record {
    schedule: Schedule,
    seen: BTreeMap<Millis, OccurrenceView>,
}

impl Record {
    fn of(schedule: Schedule) -> Self {
        Self { schedule, seen: BTreeMap::new() }
    }

    /// Looks at the newest ones, and at all since the first that was due when it was seen, again and again until it is so: what is decided so
    /// late that a thousand are newer is forgotten soon.
    async fn until(&mut self, newest: u32, is_so: impl Fn(&[OccurrenceView]) -> bool) -> Vec<OccurrenceView> {
        until(async || {
            let first_due = self.seen.values().position(|one| one.state == OccurrenceState::Due);
            let open = first_due.map_or(0, |first| self.seen.len() - first) as u32;
            let newest = self.schedule.history(None, newest + open).await.unwrap();
            self.seen.extend(newest.into_iter().map(|one| (one.at, one)));
            Some(self.seen.values().cloned().collect::<Vec<_>>()).filter(|all| is_so(all))
        })
        .await
    }

    async fn until_it_has(&mut self, instants: usize) {
        self.until(300, |all| all.len() >= instants).await;
    }

    async fn until_all_are_decided(&mut self) -> Vec<OccurrenceView> {
        self.until(10_000, |all| all.iter().all(|one| one.state != OccurrenceState::Due)).await
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
    let (mut record, mut instants) = (Record::of(often.clone()), 10);
    for kill in 0..40_usize {
        record.until_it_has(instants).await;
        let at = kill * 3 % workers.len();
        workers[at].kill().await.unwrap();
        workers[at] = house.worker();
        instants += 3 + 2 * (kill % 5);
    }
    record.until_it_has(instants).await;
    often.pause().await.unwrap();
    let history = record.until_all_are_decided().await;
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
    let mut record = Record::of(often.clone());
    for (jump, count) in [(HOUR, 20), (-HOUR, 40), (-HOUR, 60), (HOUR, 80)] {
        record.until_it_has(count).await;
        clock.advance(jump);
    }
    record.until_it_has(100).await;
    often.pause().await.unwrap();
    let history = record.until_all_are_decided().await;
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
    let mut record = Record::of(often.clone());
    record.until_it_has(20).await;
    clock.advance(HOUR);
    // The instants of the hour are passed over, in one row, but for those of the last second: they count as on time.
    record.until(300, |all| all.iter().any(|one| one.state == OccurrenceState::Missed)).await;
    clock.advance(-HOUR);
    // Every instant up to the old time has been; it goes on when that comes again.
    let next = often.status().await.unwrap().next.unwrap();
    assert!(next > house.store.now() + HOUR / 2);
    let before = record.until_all_are_decided().await;
    each_once(&before);
    started_once(&client, &before).await;
    clock.advance(next - house.store.now());
    record.until_it_has(before.len() + 5).await;
    often.pause().await.unwrap();
    let history = record.until_all_are_decided().await;
    each_once(&history);
    started_once(&client, &history).await;
    stop.cancel();
    worker.await.unwrap().unwrap();
    house.check().await;
}
