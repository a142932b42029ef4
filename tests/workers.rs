//! Workers in this process: how they end, and what becomes of what they held.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::store::Store;
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::{CancellationToken, WorkerOptions, WorkflowState};
use serde::de::DeserializeOwned;
use support::House;
use support::act::{Act, Shared, Stage, act};

#[derive(Serialize, Deserialize)]
struct Many {
    steps: u32,
    jobs: u32,
    does: String,
}
impl Workflow for Many {
    const NAME: &str = "Many";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        for step in 0..self.steps {
            let does = self.does.clone();
            flow.run_each((0..self.jobs).map(move |job| act(format!("{step}.{job}"), &does)));
        }
        Ok(())
    }
}

/// Returns so many bytes that do not compress.
#[derive(Serialize, Deserialize)]
struct Noise {
    seed: u64,
    bytes: usize,
}
impl Job for Noise {
    const NAME: &str = "Noise";
    type Output = String;
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<String> {
        let mut state = self.seed * 2 + 1;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            char::from(b' ' + 1 + ((state >> 33) % 90) as u8)
        };
        Ok((0..self.bytes).map(|_| next()).filter(|c| !matches!(c, '"' | '\\')).collect())
    }
}

#[derive(Serialize, Deserialize)]
struct Weigh {
    noise: Outputs<String>,
}
impl Job for Weigh {
    const NAME: &str = "Weigh";
    type Output = (u64, bool);
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<(u64, bool)> {
        let add = |(count, in_order), (index, _)| async move { Ok((count + 1, in_order && index == count)) };
        self.noise.stream(ctx).try_fold((0, true), add).await
    }
}

/// Succeeds at the second attempt, after a wait of its own choice.
#[derive(Serialize, Deserialize)]
struct Wait {
    milliseconds: u64,
}
impl Job for Wait {
    const NAME: &str = "Wait";
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        if ctx.attempt() == 1 {
            return Err(JobError::new("not yet")).retry_in(Duration::from_millis(self.milliseconds));
        }
        Ok(())
    }
}

/// Waits that are all so different that none can share a timer with another, in many steps.
#[derive(Serialize, Deserialize)]
struct Patience {
    steps: u32,
}
impl Workflow for Patience {
    const NAME: &str = "Patience";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let waits = || std::iter::successors(Some(8), |wait| Some(wait * 8 / 7 + 1)).take_while(|wait| *wait < 1_000);
        for step in 0..self.steps {
            flow.run_each(waits().map(|milliseconds| Wait { milliseconds })).named(format!("wait {step}"));
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Loud {
    jobs: u64,
}
impl Workflow for Loud {
    const NAME: &str = "Loud";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let noise = flow.run_each((0..self.jobs).map(|seed| Noise { seed, bytes: 100_000 }));
        flow.run(Weigh { noise: noise.outputs() });
        Ok(())
    }
}

fn app(stage: &Shared) -> App<Shared> {
    let stage = stage.clone();
    App::new(move || std::future::ready(Ok::<_, std::io::Error>(stage.clone())))
        .job::<Act>()
        .job::<Noise>()
        .job::<Weigh>()
        .job::<Wait>()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_while_it_claims_ends_and_holds_nothing() {
    let (house, app) = (House::new(), app(&Stage::new()));
    house.client(&app).start(Many { steps: 3_000, jobs: 1, does: "ok".into() }).await.unwrap();
    for round in 0..12 {
        let worker = house.worker(&app).await;
        let before = house.store.meters().by_verb().get("claim").map_or(0, |claim| claim.operations);
        while house.store.meters().by_verb().get("claim").map_or(0, |claim| claim.operations) < before + round % 4 {
            tokio::task::yield_now().await;
        }
        worker.stop().await;
        assert_eq!(house.store.workers(9).await.unwrap().len(), 0, "round {round}");
    }
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_future_is_dropped_keeps_no_lease() {
    let stage = Stage::new();
    let (house, app) = (House::new(), app(&stage));
    let run = house.client(&app).start(Many { steps: 1, jobs: 4, does: "wait".into() }).await.unwrap();
    let worker = app.worker_on(house.store.clone(), WorkerOptions::default()).await.unwrap();
    let dropped = tokio::spawn(worker.run(CancellationToken::new()));
    stage.wait_for(1).await;
    dropped.abort();
    let survivor = house.worker(&app).await;
    stage.gate.add_permits(100);
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    survivor.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_outputs_are_written_and_read_within_the_bounds() {
    let (house, app) = (House::new(), app(&Stage::new()));
    let worker = house.worker(&app).await;
    let run = house.client(&app).start(Loud { jobs: 60 }).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(run.job("Weigh", 0).await.unwrap().output.unwrap().get(), "[60,true]");
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_after_many_different_waits_are_reported_within_the_bounds() {
    let (house, app) = (House::new(), app(&Stage::new()));
    let run = house.client(&app).start(Patience { steps: 40 }).await.unwrap();
    let worker = house.worker(&app).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_workers_look_finds_what_it_was_not_woken_for() {
    let stage = Stage::new();
    let (house, app) = (House::new(), app(&stage));
    let run = house.client(&app).start(Many { steps: 1, jobs: 1, does: "wait".into() }).await.unwrap();
    run.pause().await.unwrap();
    let worker = house.worker(&app).await;
    let made = |verb: &str| house.store.meters().by_verb().get(verb).map_or(0, |verb| verb.operations);
    while made("claim") == 0 || made("look ahead") < 2 {
        tokio::task::yield_now().await;
    }
    // The store says whom to wake; nobody does.
    let before = made("look ahead");
    house.store.resume(run.id()).await.unwrap();
    stage.wait_for(1).await;
    let taken = made("look ahead") - before;
    // Without the look it would be found by a claim that comes after many of them.
    assert!(taken <= 6, "it was found after {taken} looks");
    stage.gate.add_permits(1);
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    worker.stop().await;
    house.check().await;
}

/// The worker's waits are over at once; what it waits for besides is done in no time.
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_while_its_store_is_away_ends_all_the_same() {
    let (stage, folder) = (Stage::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("gusher.db");
    let options = Options { busy_time: Duration::from_millis(1), lease: Duration::from_secs(1), ..Options::new(&path) };
    let house = House { store: Arc::new(SqliteStore::open(options).unwrap()), folder };
    let app = app(&stage);
    let run = house.client(&app).start(Many { steps: 1, jobs: 1, does: "wait".into() }).await.unwrap();
    let worker = house.worker(&app).await;
    stage.wait_for(1).await;
    let away = rusqlite::Connection::open(&path).unwrap();
    away.execute_batch("BEGIN IMMEDIATE").unwrap();
    stage.gate.add_permits(1);
    worker.stop().await;
    assert_eq!(stage.ran().len(), 1, "it ran to its end");
    away.execute_batch("ROLLBACK").unwrap();
    assert_eq!(run.status().await.unwrap().jobs.succeeded, 0, "but nobody was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_small_jobs_start_without_a_call_for_their_parameters() {
    let (house, app) = (House::new(), app(&Stage::new()));
    let worker = house.worker(&app).await;
    let run = house.client(&app).start(Many { steps: 3, jobs: 2, does: "ok".into() }).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    worker.stop().await;
    let asked = house.store.meters().by_verb().get("parameters").map_or(0, |verb| verb.operations);
    assert_eq!(asked, 0);
    house.check().await;
}

#[test]
fn a_new_store_can_be_opened_by_many_at_once() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gusher.db");
        let openers: Vec<_> = (0..8)
            .map(|_| {
                let options = Options::new(&path);
                std::thread::spawn(move || SqliteStore::open(options).map(drop))
            })
            .collect();
        openers.into_iter().for_each(|opener| opener.join().unwrap().unwrap());
    }
}

/// The same job type before and after a deploy that asks for more.
mod deploys {
    use super::*;

    /// A number before, and a text after.
    #[derive(Serialize, Deserialize)]
    pub struct Label<T> {
        pub text: T,
    }
    impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Job for Label<T> {
        const NAME: &str = "Label";
        type Output = ();
        type State = ();
        async fn perform(self, _: &Context) -> JobResult<()> {
            Ok(())
        }
    }

    pub mod before {
        use super::*;

        #[derive(Serialize, Deserialize)]
        pub struct Weight {
            pub grams: u32,
        }
        impl Job for Weight {
            const NAME: &str = "Weight";
            type Output = u32;
            type State = ();
            async fn perform(self, _: &Context) -> JobResult<u32> {
                Ok(self.grams)
            }
        }

        pub fn app() -> App {
            App::stateless().job::<Weight>().job::<Label<u32>>()
        }
    }

    pub mod after {
        use super::*;

        #[derive(Serialize, Deserialize)]
        pub struct Weight {
            pub grams: u32,
            pub scales: String,
        }
        impl Job for Weight {
            const NAME: &str = "Weight";
            type Output = u32;
            type State = ();
            async fn perform(self, _: &Context) -> JobResult<u32> {
                Ok(self.grams)
            }
        }

        /// A type that did not exist before.
        #[derive(Serialize, Deserialize)]
        pub struct Calibrate {
            pub scales: String,
        }
        impl Job for Calibrate {
            const NAME: &str = "Calibrate";
            type Output = String;
            type State = ();
            async fn perform(self, _: &Context) -> JobResult<String> {
                Ok(self.scales)
            }
        }

        pub fn app() -> App {
            App::stateless().job::<Weight>().job::<Label<String>>().job::<Calibrate>()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_worker_leaves_what_it_does_not_know_to_a_new_one_and_the_doctor_says_that_nobody_runs_it() {
    use deploys::{after, before};
    let house = House::new();
    let client = house.client(&after::app());
    let old = house.worker(&before::app()).await;
    let new_type = client.enqueue(after::Calibrate { scales: "left".into() }).await.unwrap();
    // What is more than the old shape has is no harm to it.
    let known = client.enqueue(after::Weight { grams: 7, scales: "left".into() }).await.unwrap();
    assert_eq!(known.wait().await.unwrap(), 7);
    let checkup = client.doctor().await.unwrap();
    assert!(checkup.findings.is_empty());
    let nobody =
        "1 job cannot run: queue `default` has no live worker that knows `Calibrate` (one that does not takes from it)";
    assert_eq!(checkup.warnings, [nobody]);
    let view = new_type.status().await.unwrap();
    assert_eq!((view.attempts, view.recoveries, view.worker), (0, 0, None));
    let new = house.worker(&after::app()).await;
    assert_eq!(new_type.wait().await.unwrap(), "left");
    assert!(client.doctor().await.unwrap().warnings.is_empty());
    old.stop().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_worker_that_cannot_read_an_older_shape_fails_that_job_alone_and_names_the_field() {
    use deploys::{after, before};
    let house = House::new();
    let (older, newer) = (house.client(&before::app()), house.client(&after::app()));
    let worker = house.worker(&after::app()).await;
    let old_shape = older.enqueue(before::Weight { grams: 7 }).await.unwrap();
    let new_shape = newer.enqueue(after::Weight { grams: 8, scales: "left".into() }).await.unwrap();
    assert_eq!(new_shape.wait().await.unwrap(), 8);
    let error = old_shape.wait().await.unwrap_err().to_string();
    assert!(error.contains("the parameters do not fit the type `Weight`: missing field `scales`"), "{error}");
    let other_type = older.enqueue(deploys::Label { text: 17_u32 }).await.unwrap();
    let error = other_type.wait().await.unwrap_err().to_string();
    assert!(error.contains("do not fit the type `Label`, at field `text`: invalid type: integer `17`"), "{error}");
    worker.stop().await;
    house.check().await;
}
