//! A rolling deploy under load: real worker processes of two versions of a program, on a file that they share, and on a Redis server.

#[path = "../../servers/mod.rs"]
mod servers;
#[path = "../../support/until.rs"]
mod until;

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use deploy_after as after;
use deploy_before as before;
use gusher::store::{Store, attempts, redis, sqlite};
use gusher::{CancellationToken, Client, Handle, Job, JobState, LoneJob, StepNumber, WorkflowId, WorkflowState};
use servers::Server;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use until::until;

const LEASE: Duration = Duration::from_secs(15);
const WORKERS: usize = 4;
const PARCELS: u64 = 2_000;
/// How many lone jobs a load has under way at most: it is to last as long as the deploy, not to grow.
const UNDER_WAY: usize = 50;

/// A store where workers meet.
struct House {
    store: Arc<dyn Store>,
    /// What ends with the test.
    _ground: Box<dyn Any>,
}

impl House {
    fn in_a_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = sqlite::Options { lease: LEASE, ..sqlite::Options::new(folder.path().join("gusher.db")) };
        Self { store: Arc::new(sqlite::SqliteStore::open(options).unwrap()), _ground: Box::new(folder) }
    }

    async fn on_redis() -> Self {
        let server = Server::redis();
        let options = redis::Options { lease: LEASE, ..redis::Options::new(server.url()) };
        Self { store: Arc::new(redis::RedisStore::open(options).await.unwrap()), _ground: Box::new(server) }
    }

    /// A worker that the store knows: it can be told to stop.
    async fn worker(&self, program: &str) -> Child {
        let mut worker = Command::new(program).arg(self.store.url()).kill_on_drop(true).spawn().unwrap();
        let pid = worker.id().expect("nobody has waited for it");
        until(async || {
            assert_eq!(worker.try_wait().unwrap(), None, "{program} has not ended");
            let there = self.store.workers(100).await.unwrap();
            there.iter().any(|row| row.session.pid == pid).then_some(())
        })
        .await;
        worker
    }

    /// Replaces the worker that has been there longest: while it comes to its end, the new one comes.
    async fn replace_oldest(&self, workers: &mut VecDeque<Child>) {
        let mut old = workers.pop_front().unwrap();
        tell_to_stop(&old).await;
        workers.push_back(self.worker(env!("CARGO_BIN_EXE_after")).await);
        assert!(old.wait().await.unwrap().success());
    }

    async fn check(&self) {
        assert_eq!(self.store.doctor().await.unwrap().findings, Vec::<String>::new());
        assert_eq!(self.store.meters().over_bounds(), Vec::new());
    }
}

async fn tell_to_stop(worker: &Child) {
    let pid = worker.id().expect("the worker is alive").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
}

/// Enqueues one lone job after another until it is told to stop, and looks that each returns what it should; tells how many.
fn load<J: Job>(
    client: &Client,
    stop: &CancellationToken,
    new_job: fn(u64) -> J,
    output_of: fn(&J) -> J::Output,
) -> JoinHandle<u64>
where
    J::Output: Debug + PartialEq,
{
    let (client, stop) = (client.clone(), stop.clone());
    tokio::spawn(async move {
        let (mut jobs, mut under_way) = (0, VecDeque::new());
        while !stop.is_cancelled() {
            let job = new_job(jobs);
            let output = output_of(&job);
            let enqueued = client.enqueue(job).await.unwrap();
            under_way.push_back((enqueued, output));
            jobs += 1;
            if under_way.len() == UNDER_WAY {
                let (oldest, output) = under_way.pop_front().unwrap();
                returns(oldest, output).await;
            }
        }
        for (job, output) in under_way {
            returns(job, output).await;
        }
        jobs
    })
}

async fn returns<J: Job>(job: LoneJob<J>, output: J::Output)
where
    J::Output: Debug + PartialEq,
{
    assert_eq!(job.wait().await.unwrap(), output);
}

/// All jobs of the delivery have succeeded, each at once, and the parcels weigh what they should.
async fn is_delivered(store: &dyn Store, delivery: &Handle, jobs: u64) {
    let done = delivery.wait().await.unwrap();
    let counts = (done.state, done.jobs.total, done.jobs.succeeded, done.jobs.failed);
    assert_eq!(counts, (WorkflowState::Succeeded, jobs, jobs, 0));
    for step in &done.steps {
        assert_eq!(each_ran_once(store, done.id, step.number).await, step.jobs.total, "{}", step.name);
    }
    let grams: u64 = (0..PARCELS).map(|parcel| u64::from(before::Weigh::of(parcel).grams)).sum();
    assert_eq!(delivery.job("Total", 0).await.unwrap().output.unwrap().get(), grams.to_string());
}

/// Each job of a step has succeeded in its first attempt, and no worker was lost with it; tells how many there are.
async fn each_ran_once(store: &dyn Store, workflow: WorkflowId, step: StepNumber) -> u64 {
    let (mut jobs, mut from) = (0, 0);
    loop {
        let page = store.outcomes(workflow, step, from, 0).await.unwrap();
        let Some(last) = page.last() else { return jobs };
        from = last.first + last.bytes.len() as u64;
        for chunk in &page {
            for (at, byte) in chunk.bytes.iter().enumerate() {
                let recoveries = chunk.recoveries.get(at).copied().unwrap_or(0);
                let ran = (JobState::of(*byte), attempts(*byte), recoveries);
                let index = chunk.first + at as u64;
                assert_eq!(ran, (JobState::Succeeded, 1, 0), "job {index} of step {step} of {workflow}");
            }
            jobs += chunk.bytes.len() as u64;
        }
    }
}

async fn a_rolling_deploy_under_load_fails_nothing_and_uses_up_no_attempt(house: House) {
    let client_before = before::app().client_on(house.store.clone());
    let client_after = after::app().client_on(house.store.clone());
    let mut workers = VecDeque::new();
    for _ in 0..WORKERS {
        workers.push_back(house.worker(env!("CARGO_BIN_EXE_before")).await);
    }
    let delivery_before = client_before.start(before::Delivery { parcels: PARCELS }).await.unwrap();
    let stop = CancellationToken::new();
    let mut loads = vec![load(&client_before, &stop, before::Weigh::of, |weigh: &before::Weigh| weigh.grams)];
    // Work goes on at each turn of the deploy: what is enqueued then ends.
    let work_goes_on = async || {
        let weigh = client_before.enqueue(before::Weigh::of(17)).await.unwrap();
        assert_eq!(weigh.wait().await.unwrap(), 17);
    };

    // While there are only old workers, they run the new shape of what they know, and leave alone what they do not know.
    let calibrate = client_after.enqueue(after::Calibrate::the_scales()).await.unwrap();
    let weigh = client_after.enqueue(after::Weigh::of(17)).await.unwrap();
    assert_eq!(weigh.wait().await.unwrap(), 17);
    let view = calibrate.status().await.unwrap();
    assert_eq!((view.state, view.attempts, view.worker), (JobState::Open, 0, None));

    work_goes_on().await;
    house.replace_oldest(&mut workers).await;
    let delivery_after = client_after.start(after::Delivery { parcels: PARCELS }).await.unwrap();
    loads.push(load(&client_after, &stop, after::Weigh::of, |weigh: &after::Weigh| weigh.grams));
    let calibrates = |_: u64| after::Calibrate::the_scales();
    loads.push(load(&client_after, &stop, calibrates, |calibrate: &after::Calibrate| calibrate.scales.clone()));
    for _ in 1..WORKERS {
        work_goes_on().await;
        house.replace_oldest(&mut workers).await;
    }
    work_goes_on().await;

    stop.cancel();
    assert_eq!(calibrate.wait().await.unwrap(), after::SCALES);
    // Those of the loads, those that showed that work goes on, and the two that came before any new worker.
    let mut enqueued = WORKERS as u64 + 1 + 2;
    for load in loads {
        enqueued += load.await.unwrap();
    }
    is_delivered(&*house.store, &delivery_before, PARCELS + 1).await;
    is_delivered(&*house.store, &delivery_after, PARCELS + 2).await;
    let mut ran = 0;
    for lane in client_after.lanes().await.unwrap() {
        for id in lane.ids {
            ran += each_ran_once(&*house.store, id, 0).await;
        }
    }
    assert_eq!(ran, enqueued);
    println!("{enqueued} lone jobs beside the deploy");

    for mut worker in workers {
        tell_to_stop(&worker).await;
        assert!(worker.wait().await.unwrap().success());
    }
    assert_eq!(house.store.workers(100).await.unwrap().len(), 0);
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_deploy_under_load_fails_nothing_and_uses_up_no_attempt_in_a_file() {
    a_rolling_deploy_under_load_fails_nothing_and_uses_up_no_attempt(House::in_a_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_deploy_under_load_fails_nothing_and_uses_up_no_attempt_on_redis() {
    a_rolling_deploy_under_load_fails_nothing_and_uses_up_no_attempt(House::on_redis().await).await;
}
