//! Starts that give way to others, and how long what has finished is kept, as a program sees them.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use gusher::prelude::*;
use gusher::store::Store;
use gusher::{ErrorKind, Retention, Started, WorkflowState};
use support::House;

/// How often workflows of this test have been configured, and how many jobs their iterators have made.
static CONFIGURED: AtomicUsize = AtomicUsize::new(0);
static MADE: AtomicUsize = AtomicUsize::new(0);

#[derive(Serialize, Deserialize)]
struct Nothing;
impl Job for Nothing {
    const NAME: &str = "Nothing";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context<()>) -> JobResult<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Fails;
impl Job for Fails {
    const NAME: &str = "Fails";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context<()>) -> JobResult<()> {
        Err(JobError::fatal(std::io::Error::other("it fails")))
    }
}

#[derive(Serialize, Deserialize)]
struct Counted;
impl Workflow for Counted {
    const NAME: &str = "Counted";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        CONFIGURED.fetch_add(1, Ordering::SeqCst);
        flow.run_each((0..5_000).map(|_| {
            MADE.fetch_add(1, Ordering::SeqCst);
            Nothing
        }));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Nightly {
    fails: bool,
}
impl Workflow for Nightly {
    const NAME: &str = "Nightly";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        if self.fails {
            flow.run(Fails);
        } else {
            flow.run(Nothing);
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Broken {
    at_once: bool,
}
impl Workflow for Broken {
    const NAME: &str = "Broken";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        if self.at_once {
            flow.run(Nothing).named("a");
            flow.run(Nothing).named("a");
            return Ok(());
        }
        flow.try_run_each(
            (0..3_000).map(|n| if n < 2_500 { Ok(Nothing) } else { Err(std::io::Error::other("a bad row")) }),
        );
        Ok(())
    }
}

/// Whether [`Turning`] has turned bad.
static TURNED: AtomicBool = AtomicBool::new(false);

#[derive(Serialize, Deserialize)]
struct Turning;
impl Workflow for Turning {
    const NAME: &str = "Turning";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let bad_from = if TURNED.load(Ordering::SeqCst) { 2_500 } else { 3_000 };
        flow.try_run_each(
            (0..3_000).map(move |n| if n < bad_from { Ok(Nothing) } else { Err(std::io::Error::other("a bad row")) }),
        );
        Ok(())
    }
}

fn app() -> App {
    let app = App::stateless().job::<Nothing>().job::<Fails>();
    app.workflow::<Counted>().workflow::<Nightly>().workflow::<Broken>().workflow::<Turning>()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_2_000_starts_at_once_one_starts_and_the_others_build_nothing() {
    let house = House::new();
    let client = house.client(&app());
    let starts = (0..2_000).map(|_| client.start(Counted).unless_running().into_future());
    let started: Vec<Started> = join_all(starts).await.into_iter().collect::<gusher::Result<_>>().unwrap();
    let new: Vec<&Started> = started.iter().filter(|started| started.is_new()).collect();
    assert_eq!(new.len(), 1);
    assert!(started.iter().all(|started| started.id() == new[0].id()), "each is told who is in its way");
    assert_eq!((CONFIGURED.load(Ordering::SeqCst), MADE.load(Ordering::SeqCst)), (1, 5_000));
    assert_eq!(client.workflows().page(10).await.unwrap().len(), 1);
    house.check().await;
    let worker = house.worker(&app()).await;
    new[0].handle().wait().await.unwrap();
    assert!(client.start(Counted).unless_running().await.unwrap().is_new());
    worker.stop().await;
    house.check().await;
}

#[tokio::test]
async fn another_key_or_a_plain_start_is_in_nobodys_way() {
    let house = House::new();
    let client = house.client(&app());
    let nightly = || client.start(Nightly { fails: false });
    assert!(nightly().unless_running().await.unwrap().is_new());
    nightly().await.unwrap();
    assert!(nightly().unless_running().key("customer 7").await.unwrap().is_new());
    assert!(!nightly().unless_running().key("customer 7").await.unwrap().is_new());
    assert!(!nightly().unless_running().await.unwrap().is_new());
}

#[tokio::test]
async fn a_creation_that_fails_frees_its_key_at_once() {
    let house = House::new();
    let client = house.client(&app());
    for _ in 0..3 {
        let error = client.start(Broken { at_once: false }).unless_running().await.unwrap_err();
        assert!(error.to_string().contains("a bad row"), "{error}");
        let error = client.start(Broken { at_once: true }).unless_running().await.unwrap_err();
        assert!(error.to_string().contains("two steps are named `a`"), "{error}");
    }
    let worker = house.worker(&app()).await;
    let nightly = client.start(Nightly { fails: false }).await.unwrap();
    nightly.wait().await.unwrap();
    worker.stop().await;
    house.check().await;
}

#[tokio::test]
async fn a_new_start_under_the_same_id_that_fails_frees_its_key_at_once() {
    let house = House::new();
    let client = house.client(&app());
    let worker = house.worker(&app()).await;
    let turning = client.start(Turning).unless_running().await.unwrap();
    turning.handle().wait().await.unwrap();
    TURNED.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = client.start_again(turning.id(), Arc::default()).await.unwrap_err();
        assert!(error.to_string().contains("a bad row"), "{error}");
    }
    TURNED.store(false, Ordering::SeqCst);
    let again = client.start_again(turning.id(), Arc::default()).await.unwrap();
    assert_eq!(again.wait().await.unwrap().generation, 1);
    worker.stop().await;
    house.check().await;
}

#[tokio::test]
async fn the_running_one_is_cancelled_if_that_was_asked_for() {
    let house = House::new();
    let client = house.client(&app());
    let first = client.start(Nightly { fails: false }).instead_of_running().await.unwrap();
    let second = client.start(Nightly { fails: false }).instead_of_running().await.unwrap();
    assert!(first.is_new() && second.is_new());
    assert_eq!(first.handle().status().await.unwrap().state, WorkflowState::Cancelled);
    assert_eq!(second.handle().status().await.unwrap().state, WorkflowState::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_that_wait_have_their_turn_in_order_whoever_has_asked_for_them() {
    let house = House::new();
    let running = house.client(&app()).start(Nightly { fails: false }).unless_running().await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        // Each of a program that is gone again.
        waiting.push(house.client(&app()).start(Nightly { fails: false }).after_running().await.unwrap());
    }
    let left_out = house.client(&app()).start(Nightly { fails: false }).once_after_running().await.unwrap();
    assert!(house.client(&app()).find(waiting[0].id()).await.is_err(), "it is no workflow yet");
    running.handle().pause().await.unwrap();
    let worker = house.worker(&app()).await;
    assert_eq!(left_out.started().await.unwrap_err().kind(), ErrorKind::Refused);
    running.handle().resume().await.unwrap();
    let mut last = running.handle().wait().await.unwrap().finished_at;
    for waiting in waiting {
        let started = waiting.started().await.unwrap().wait().await.unwrap();
        assert!(last <= Some(started.created_at));
        last = started.finished_at;
    }
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_one_that_was_started_behind_others_waits_for_its_turn() {
    let house = House::new();
    let client = house.client(&app());
    let worker = house.worker(&app()).await;
    let waiting = client.start(Nightly { fails: true }).after_running().await.unwrap();
    let failed = waiting.started().await.unwrap();
    failed.wait().await.unwrap();
    let other = client.start(Nightly { fails: false }).unless_running().await.unwrap();
    other.handle().pause().await.ok();
    let retry = tokio::spawn({
        let failed = failed.clone();
        async move { failed.retry_failed(None).await }
    });
    other.handle().resume().await.ok();
    let other = other.handle().wait().await.unwrap();
    assert_eq!(retry.await.unwrap().unwrap(), 1);
    assert!(failed.wait().await.unwrap().finished_at >= other.finished_at);
    worker.stop().await;
}

#[tokio::test]
async fn a_retry_and_a_new_start_under_the_same_id_give_way_by_the_same_rule() {
    let house = House::new();
    let client = house.client(&app());
    let worker = house.worker(&app()).await;
    let failed = client.start(Nightly { fails: true }).unless_running().await.unwrap();
    failed.handle().wait().await.unwrap();
    worker.stop().await;
    let other = client.start(Nightly { fails: false }).unless_running().await.unwrap();
    assert!(other.is_new());
    for refused in [
        failed.handle().retry_failed(None).await.unwrap_err(),
        client.start_again(failed.id(), Default::default()).await.unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.to_string().contains(&other.id().to_string()), "{refused}");
    }
    let worker = house.worker(&app()).await;
    other.handle().wait().await.unwrap();
    assert_eq!(failed.handle().retry_failed(None).await.unwrap(), 1);
    failed.handle().wait().await.unwrap();
    client.start_again(failed.id(), Default::default()).await.unwrap().wait().await.unwrap();
    worker.stop().await;
    house.check().await;
}

#[tokio::test]
async fn what_is_kept_for_no_time_is_gone_once_it_has_finished() {
    let house = House::new();
    let app = app().retention(Retention::days(0)).retention_of::<Counted>(Retention::for_ever());
    let client = house.client(&app);
    let worker = house.worker(&app).await;
    let kept = client.start(Counted).await.unwrap();
    kept.wait().await.unwrap();
    let gone = client.start(Nightly { fails: false }).await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let error = loop {
        looks.tick().await;
        match gone.status().await {
            Ok(view) => assert_ne!(view.state, WorkflowState::Deleting, "it is shown no more from the first bite on"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(kept.status().await.unwrap().expires_at.is_none());
    worker.stop().await;
    house.check().await;
}

#[tokio::test]
async fn a_prune_deletes_what_finished_and_is_not_pinned() {
    let house = House::new();
    let client = house.client(&app());
    let worker = house.worker(&app()).await;
    let mut handles = Vec::new();
    for _ in 0..30 {
        handles.push(client.start(Nightly { fails: false }).await.unwrap());
    }
    for handle in &handles {
        handle.wait().await.unwrap();
    }
    worker.stop().await;
    let unfinished = client.start(Nightly { fails: false }).await.unwrap();
    handles[3].pin().await.unwrap();
    assert_eq!(client.prune(Duration::from_secs(3600), None, None).run().await.unwrap(), 0);
    assert_eq!(client.prune(Duration::ZERO, Some(WorkflowState::Failed), None).run().await.unwrap(), 0);
    assert_eq!(client.prune(Duration::ZERO, None, Some("Counted")).run().await.unwrap(), 0);
    assert_eq!(client.prune(Duration::ZERO, None, Some("Nightly")).run().await.unwrap(), 29);
    let left: Vec<_> = client.workflows().page(100).await.unwrap().iter().map(|view| view.id).collect();
    assert_eq!(left, [unfinished.id(), handles[3].id()]);
    let error = client.find(handles[0].id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    house.check().await;
    assert_eq!(house.store.workflow(unfinished.id()).await.unwrap().state, WorkflowState::Pending);
}
