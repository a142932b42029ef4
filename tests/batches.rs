//! Batches: jobs of several types that are added until the batch is closed, by the client, by others and by their own jobs; what runs after them.

mod support;

use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::testing::Simulation;
use gusher::{BatchState, ErrorKind, JobState, WorkflowState};
use support::House;
use support::act::{Act, Shared, Stage, act};

/// A file whose rows are jobs of the same batch; its attempts may end badly behind the last.
#[derive(Clone, Serialize, Deserialize)]
struct ReadFile {
    name: String,
    rows: u64,
    then: String,
}
impl Job for ReadFile {
    const NAME: &str = "ReadFile";
    const RETRY: Retry = Retry::every(Duration::from_millis(1)).attempts(3);
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        for row in 0..self.rows {
            ctx.batch().add(act(format!("{} {row}", self.name), "ok")).await?;
        }
        act(&self.name, &self.then).perform(ctx).await?;
        Ok(())
    }
}

fn file(name: &str, rows: u64, then: &str) -> ReadFile {
    ReadFile { name: name.into(), rows, then: then.into() }
}

/// Opens a batch for its files within its own, and adds to the outer one from the callback of that.
#[derive(Serialize, Deserialize)]
struct ReadSupplier {
    name: String,
}
impl Job for ReadSupplier {
    const NAME: &str = "ReadSupplier";
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        let files = ctx.batch().batch(&self.name).on_success(AddSummary { of: self.name.clone() }).open().await?;
        files.add_each((0..3).map(|n| file(&format!("file {n}"), 2, "ok"))).await?;
        files.close().await?;
        Ok(())
    }
}

/// Fails for good until the stage is ready.
#[derive(Serialize, Deserialize)]
struct Early;
impl Job for Early {
    const NAME: &str = "Early";
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        match ctx.state().ran().contains(&"ready".to_owned()) {
            true => Ok(()),
            false => Err(JobError::fatal("not yet")),
        }
    }
}

/// The callback of a batch within another one, which adds to that.
#[derive(Serialize, Deserialize)]
struct AddSummary {
    of: String,
}
impl Job for AddSummary {
    const NAME: &str = "AddSummary";
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        let own = ctx.batch().find().await?;
        let outer = own.outer().await?.expect("it is within one");
        assert!(outer.outer().await?.is_none());
        outer.add(act(format!("summary of {}", self.of), "ok")).await?;
        Ok(())
    }
}

/// A callback: tells what it finds.
#[derive(Serialize, Deserialize)]
struct Tell {
    event: String,
}
impl Job for Tell {
    const NAME: &str = "Tell";
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        let batch = ctx.batch().find().await?;
        let (jobs, state) = (batch.status().await?.jobs, batch.state().await?);
        ctx.state().add(format!("{}: {state}, {} failed", self.event, jobs.failed));
        if self.event == "success" && jobs.total > 4 {
            let acts = ctx.batch().outputs::<Act>().await?;
            let all: Vec<(u64, String)> = acts.stream(ctx).try_collect().await?;
            ctx.state().add(format!("read {}", all.len()));
        }
        let late = ctx.batch().add(act("late", "ok")).await.unwrap_err().to_string();
        assert!(late.contains("cannot add others to one"), "{late}");
        Ok(())
    }
}

fn tell(event: &str) -> Tell {
    Tell { event: event.into() }
}

fn app(stage: &Shared) -> App<Shared> {
    let stage = stage.clone();
    App::new(move || std::future::ready(Ok::<_, std::io::Error>(stage.clone())))
        .job::<Act>()
        .job::<ReadFile>()
        .job::<Tell>()
        .job::<ReadSupplier>()
        .job::<AddSummary>()
        .job::<Early>()
}

struct Play {
    house: House,
    client: Client,
    stage: Shared,
    worker: support::WorkerGuard,
}

impl Play {
    async fn begin() -> Self {
        let stage = Stage::new();
        let (house, app) = (House::new(), app(&stage));
        let (worker, client) = (house.worker(&app).await, house.client(&app));
        Self { house, client, stage, worker }
    }

    fn nightly(&self) -> gusher::NewBatch {
        self.client
            .batch("nightly")
            .on_success(tell("success"))
            .on_complete(tell("complete"))
            .on_death(tell("death"))
            .with(|death| death.priority(9))
    }

    /// What the callbacks have told, in order.
    fn told(&self) -> Vec<String> {
        let mut told: Vec<String> = self.stage.ran().into_iter().filter(|line| line.contains(": ")).collect();
        told.sort();
        told
    }

    async fn end(self) {
        self.house.check().await;
        self.worker.stop().await;
        assert_eq!(self.house.under_way().await, 0);
    }
}

#[tokio::test]
async fn a_batch_of_several_types_runs_its_callbacks_once_all_jobs_have_succeeded() {
    let play = Play::begin().await;
    let night = play.nightly().description("what came today").open().await.unwrap();
    assert_eq!(night.add(act("a", "ok")).await.unwrap(), 0);
    assert_eq!(night.add(act("b", "fail once")).await.unwrap(), 1);
    assert_eq!(night.add_each((0..2_500).map(|n| act(format!("row {n}"), "ok"))).await.unwrap(), 2_500);
    night.add(file("f", 3, "ok")).await.unwrap();
    assert_eq!(play.client.find_batch(night.id()).await.unwrap().state().await.unwrap(), BatchState::Open);
    night.close().await.unwrap();
    let end = night.wait().await.unwrap();
    assert_eq!((end.state, end.batch), (WorkflowState::Succeeded, Some(BatchState::Closed)));
    assert_eq!(end.arguments.get(), r#"{"description":"what came today"}"#);
    assert_eq!(play.told(), ["complete: closed, 0 failed", "success: closed, 0 failed"]);
    assert!(play.stage.ran().contains(&"read 2505".to_owned()));
    assert_eq!(play.stage.ran().len(), 2 + 2_500 + 4 + 3);
    let late = night.add(act("late", "ok")).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::BatchSettled, "{late}");
    assert!(night.add_each((0..9_000).map(|n| act(n.to_string(), "ok"))).await.is_err());
    play.end().await;
}

#[tokio::test]
async fn an_empty_batch_runs_its_callbacks() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    assert_eq!(night.add_each(Vec::<Act>::new()).await.unwrap(), 0);
    night.close().await.unwrap();
    night.close().await.unwrap();
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.told(), ["complete: closed, 0 failed", "success: closed, 0 failed"]);
    play.end().await;
}

#[tokio::test]
async fn what_a_job_adds_comes_with_its_success_and_once_however_often_it_is_tried() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    // A little travels with the report, much is written into drafts.
    for (name, rows) in [("little", 10), ("much", 3_000)] {
        night.add(file(name, rows, "fail once")).await.unwrap();
    }
    night.add(file("never", 20, "fatal")).await.unwrap();
    night.close().await.unwrap();
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Failed);
    let rows = |name: &str| play.stage.ran().iter().filter(|line| line.starts_with(&format!("{name} "))).count();
    assert_eq!((rows("little"), rows("much"), rows("never")), (10, 3_000, 0));
    assert_eq!(play.told(), ["complete: closed, 1 failed", "death: closed, 1 failed"]);
    play.end().await;
}

#[tokio::test]
async fn the_first_death_is_told_at_once_and_the_retry_lets_success_go_on() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    for name in ["a", "b"] {
        night.add(act(name, "fatal")).await.unwrap();
    }
    // While the batch is held open.
    support::until::until(async || (play.told().len() == 1).then_some(())).await;
    night.close().await.unwrap();
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Failed);
    assert_eq!(play.told().len(), 2, "{:?}", play.told());
    let failed: Vec<_> = night.failures("Act").await.unwrap().try_collect().await.unwrap();
    assert_eq!(failed.len(), 2);
    assert_eq!(night.discard_failed(Some("Act")).await.unwrap(), 2);
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.told()[2], "success: closed, 0 failed");
    play.end().await;
}

#[tokio::test]
async fn of_a_type_as_many_jobs_may_fail_as_the_batch_says() {
    let play = Play::begin().await;
    let night = play.nightly().jobs_of::<Act>(|rows| rows.tolerate(1)).open().await.unwrap();
    night.add_each([act("good", "ok"), act("bad", "fatal")]).await.unwrap();
    night.close().await.unwrap();
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert!(play.told().contains(&"success: closed, 1 failed".to_owned()), "{:?}", play.told());
    play.end().await;
}

#[tokio::test]
async fn jobs_that_come_behind_one_that_failed_are_cancelled_or_wait_if_the_batch_says_so_of_their_type() {
    let play = Play::begin().await;
    let of_bad_rows = async |night: gusher::NewBatch| {
        let night = night.open().await.unwrap();
        night.add(act("bad", "fatal")).await.unwrap();
        support::until::until(async || (night.step("Act").await.unwrap().exceeded).then_some(())).await;
        night.add(act("late", "ok")).await.unwrap();
        night.close().await.unwrap();
        night
    };
    let fast = of_bad_rows(play.client.batch("fast").jobs_of::<Act>(|rows| rows.fail_fast())).await;
    let end = fast.wait().await.unwrap();
    assert_eq!((end.state, end.jobs.failed, end.jobs.cancelled), (WorkflowState::Failed, 1, 1), "{end:?}");
    assert!(!play.stage.ran().contains(&"late".to_owned()));

    let paused = of_bad_rows(play.client.batch("paused").jobs_of::<Act>(|rows| rows.or_pause())).await;
    assert_eq!(paused.why_step("Act").await.unwrap().summary, "`Act` is paused");
    assert!(!play.stage.ran().contains(&"late".to_owned()));
    paused.resume_step("Act").await.unwrap();
    assert_eq!(paused.wait().await.unwrap().state, WorkflowState::Failed);
    assert!(play.stage.ran().contains(&"late".to_owned()));
    play.end().await;
}

#[tokio::test]
async fn a_batch_is_kept_for_as_long_as_it_says() {
    let play = Play::begin().await;
    let with_a_row = async |night: gusher::NewBatch| {
        let night = night.open().await.unwrap();
        night.add(act("row", "ok")).await.unwrap();
        night.close().await.unwrap();
        night.id()
    };
    let kept = with_a_row(play.client.batch("kept")).await;
    let gone = with_a_row(play.client.batch("gone").expire_in(Duration::from_millis(1))).await;
    let is_gone = async || play.client.find_batch(gone).await.is_err_and(|error| error.kind() == ErrorKind::NotFound);
    support::until::until(async || is_gone().await.then_some(())).await;
    assert_eq!(play.client.find_batch(kept).await.unwrap().wait().await.unwrap().state, WorkflowState::Succeeded);
    play.end().await;
}

#[tokio::test]
async fn a_batch_whose_client_ends_without_closing_it_is_abandoned() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    let id = night.id();
    night.add(act("a", "ok")).await.unwrap();
    drop(night);
    let night = play.client.find_batch(id).await.unwrap();
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Failed);
    assert!(night.is_abandoned().await.unwrap());
    assert_eq!(play.told(), ["complete: abandoned, 1 failed"]);
    let why = night.why_step("on_success").await.unwrap();
    assert!(why.causes[0].text.contains("abandoned"), "{why:?}");
    assert_eq!(night.retry_failed(None).preview().await.unwrap().jobs(), 0);
    assert_eq!(night.retry_failed(None).await.unwrap(), 0);
    assert_eq!(night.run_again("on_complete").preview().await.unwrap().jobs(), 1);
    let refused = night.run_again("Act").preview().await.unwrap_err().to_string();
    assert!(refused.contains("only `on_success` and `on_complete` are run again"), "{refused}");
    // Somebody says that what it had is all there was to be.
    assert_eq!(night.discard_failed(Some("batch")).await.unwrap(), 1);
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.told()[1], "success: abandoned, 0 failed");
    play.end().await;
}

#[test]
fn a_batch_is_held_open_for_as_long_as_its_program_lives_and_why_says_so() {
    let simulation = Simulation::new(app(&Stage::new()));
    let played = simulation.play(async |client| {
        let night = client.batch("nightly").on_success(tell("success")).open().await?;
        night.add(act("a", "ok")).await?;
        // In virtual time, and many times as long as a batch stays open without word from who holds it.
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(night.job("Act", 0).await?.state, JobState::Succeeded);
        assert_eq!(night.state().await?, BatchState::Open);
        let why = night.why().await?;
        assert_eq!(why.causes.len(), 1, "{why:?}");
        assert!(why.causes[0].text.contains("`batch`, which is held open"), "{why:?}");
        night.close().await?;
        assert_eq!(night.wait().await?.state, WorkflowState::Succeeded);
        Ok(())
    });
    assert!(played.unwrap().elapsed() >= Duration::from_secs(3_600));
}

#[tokio::test]
async fn others_add_to_a_batch_from_outside_until_it_has_settled() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    night.add(act("slow", "wait")).await.unwrap();
    night.close().await.unwrap();
    play.stage.wait_for(1).await;
    let other = play.house.client(&app(&play.stage)).find_batch(night.id()).await.unwrap();
    assert_eq!(other.add(act("from outside", "ok")).await.unwrap(), 1);
    let rows = (0..5).map(|n| if n < 4 { Ok(act(format!("{n}"), "ok")) } else { Err(JobError::new("unreadable")) });
    let refused = other.try_add_each(rows).await.unwrap_err().to_string();
    assert!(refused.contains("row 4") && refused.contains("unreadable"), "{refused}");
    play.stage.gate.add_permits(1);
    assert_eq!(night.wait().await.unwrap().jobs.total, 2 + 1 + 3);
    play.end().await;
}

#[tokio::test]
async fn of_one_key_there_is_one_batch_at_a_time() {
    let play = Play::begin().await;
    let night = play.nightly().key("customer 7").open().await.unwrap();
    let refused = play.nightly().key("customer 7").open().await.unwrap_err();
    assert!(refused.to_string().contains(&night.id().to_string()), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    night.close().await.unwrap();
    night.wait().await.unwrap();
    let next = play.nightly().key("customer 7").open().await.unwrap();
    next.close().await.unwrap();
    next.wait().await.unwrap();
    play.end().await;
}

#[tokio::test]
async fn a_cancelled_batch_completes_and_takes_no_more() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    night.add(act("slow", "wait for cancel")).await.unwrap();
    play.stage.wait_for(1).await;
    night.cancel().await.unwrap();
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Cancelled);
    assert_eq!(play.told(), ["complete: open, 0 failed"]);
    assert_eq!(night.add(act("late", "ok")).await.unwrap_err().kind(), ErrorKind::BatchSettled);
    night.close().await.unwrap();
    play.end().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_stored() {
    let play = Play::begin().await;
    let refused = |batch: gusher::NewBatch| async move { batch.open().await.unwrap_err().to_string() };
    let nothing_to_set = refused(play.client.batch("nightly").with(|step| step.queue("mail"))).await;
    assert!(nothing_to_set.contains("the callback before it"), "{nothing_to_set}");
    let many = (0..9).fold(play.client.batch("nightly"), |batch, n| batch.on_success(tell(&n.to_string())));
    assert!(refused(many).await.contains("at most 8"));
    #[derive(Serialize, Deserialize)]
    struct Unknown;
    impl Job for Unknown {
        const NAME: &str = "Unknown";
        type Output = ();
        type State = Shared;
        async fn perform(self, _: &Context<Shared>) -> JobResult<()> {
            Ok(())
        }
    }
    let missing = refused(play.client.batch("nightly").on_success(Unknown)).await;
    assert!(missing.contains("Unknown") && missing.contains(".job::<"), "{missing}");
    let night = play.nightly().jobs_of::<Act>(|act| act.queue("bulk")).open().await.unwrap();
    let with_key = refused(night.batch("north").key("north")).await;
    assert!(with_key.contains(&format!("within batch {}", night.id())) && with_key.contains("leave out"), "{with_key}");
    assert!(night.add(Unknown).await.unwrap_err().to_string().contains(".job::<"));
    assert_eq!(night.step("Act").await.unwrap().spec.queue, "bulk");
    night.cancel().await.unwrap();
    assert!(play.client.find_batch(night.id()).await.is_ok());
    night.wait().await.unwrap();
    play.end().await;
}

#[tokio::test]
async fn a_batch_waits_for_those_within_it_and_for_their_callbacks() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    let mut within = Vec::new();
    for supplier in ["north", "south"] {
        let files = night.batch(supplier).on_success(act(format!("told {supplier}"), "ok")).open().await.unwrap();
        files.add_each((0..100).map(move |n| act(format!("{supplier} {n}"), "ok"))).await.unwrap();
        assert_eq!(files.outer().await.unwrap().map(|outer| outer.id()), Some(night.id()));
        within.push(files);
    }
    night.add(act("its own", "ok")).await.unwrap();
    night.close().await.unwrap();
    within[0].close().await.unwrap();
    assert_eq!(within[0].wait().await.unwrap().state, WorkflowState::Succeeded);
    assert!(play.told().is_empty());
    within[1].close().await.unwrap();
    let end = night.wait().await.unwrap();
    assert_eq!((end.state, night.step("batches").await.unwrap().jobs.succeeded), (WorkflowState::Succeeded, 2));
    assert_eq!(play.told(), ["complete: closed, 0 failed", "success: closed, 0 failed"]);
    let ran = play.stage.ran();
    let place = |what: &str| ran.iter().position(|line| line.starts_with(what)).unwrap();
    assert!(place("told north") < place("success") && place("told south") < place("success"), "{ran:?}");
    let late = night.batch("west").open().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::BatchSettled, "{late}");
    play.end().await;
}

#[tokio::test]
async fn a_job_opens_a_batch_within_its_own_whose_callback_adds_to_the_outer_one() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    night.add_each(["north", "south"].map(|name| ReadSupplier { name: name.into() })).await.unwrap();
    night.close().await.unwrap();
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Succeeded);
    let ran = play.stage.ran();
    let count = |what: &str| ran.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!((count("file"), count("summary of")), (2 * (3 + 3 * 2), 2), "{ran:?}");
    assert_eq!(night.step("Act").await.unwrap().jobs.succeeded, 2, "the summaries are jobs of the outer one");
    play.end().await;
}

#[tokio::test]
async fn a_death_within_is_told_at_once_and_the_retry_of_the_outer_batch_heals_both() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    let files = night.batch("north").on_success(act("told north", "ok")).open().await.unwrap();
    files.add(Early).await.unwrap();
    night.add(act("its own", "ok")).await.unwrap();
    // While both are held open.
    support::until::until(async || (play.told().len() == 1).then_some(())).await;
    assert!(play.told()[0].starts_with("death"), "{:?}", play.told());
    files.close().await.unwrap();
    night.close().await.unwrap();
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Failed);
    play.stage.add("ready");
    assert_eq!(night.retry_failed(None).await.unwrap(), 1);
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(files.status().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.told().len(), 3, "{:?}", play.told());
    play.end().await;
}

#[tokio::test]
async fn a_cancel_goes_down_to_the_batches_within() {
    let play = Play::begin().await;
    let night = play.nightly().open().await.unwrap();
    let files = night.batch("north").open().await.unwrap();
    files.add(act("slow", "wait for cancel")).await.unwrap();
    play.stage.wait_for(1).await;
    night.cancel().await.unwrap();
    assert_eq!(night.wait().await.unwrap().state, WorkflowState::Cancelled);
    assert_eq!(files.status().await.unwrap().state, WorkflowState::Cancelled);
    assert_eq!(files.add(act("late", "ok")).await.unwrap_err().kind(), ErrorKind::BatchSettled);
    assert!(files.delete().await.unwrap_err().to_string().contains("lives as long as that one"));
    files.close().await.unwrap();
    night.close().await.unwrap();
    play.end().await;
}
