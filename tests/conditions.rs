//! Conditions: which steps run is decided on the way, by what those before them returned.

mod support;

use gusher::StepState as S;
use gusher::prelude::*;
use gusher::{CauseKind, Handle, WorkflowState};
use support::House;
use support::act::{Act, Shared, Stage, act};
use support::play::{Play, app, states};

#[derive(Serialize, Deserialize)]
struct Count {
    rows: u64,
}
impl Job for Count {
    const NAME: &str = "Count";
    type Output = u64;
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<u64> {
        Ok(self.rows)
    }
}

/// Cannot say anything while there are no rows, until somebody has put a file there.
#[derive(Serialize, Deserialize)]
struct Enough {
    counted: Outputs<u64>,
    least: u64,
    unless_broken: std::path::PathBuf,
}
impl Condition for Enough {
    const NAME: &str = "Enough";
    const RETRY: Retry = Retry::never();
    type State = Shared;
    async fn holds(self, ctx: &Context<Shared>) -> JobResult<bool> {
        let rows = self.counted.one(ctx).await?;
        if rows == 0 {
            std::fs::metadata(&self.unless_broken)?;
        }
        Ok(rows >= self.least)
    }
}

#[derive(Serialize, Deserialize)]
struct Import {
    rows: u64,
    mend: std::path::PathBuf,
}
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run(Count { rows: self.rows });
        let enough = flow.check(Enough { counted: rows.outputs(), least: 100, unless_broken: self.mend.clone() });
        let publish = flow.run(act("publish", "ok")).named("publish").when(enough);
        let tell = flow.run(act("tell", "ok")).named("tell").when(publish);
        let alarm = flow.run(act("alarm", "ok")).named("alarm").unless(enough);
        flow.run(act("done", "ok")).named("done").after((tell, alarm));
        Ok(())
    }
}

async fn begin() -> Play {
    Play::of(|app| app.job::<Act>().job::<Count>().condition::<Enough>().workflow::<Import>()).await
}

async fn import(play: &Play, rows: u64) -> Handle {
    play.start(Import { rows, mend: play.house.folder.path().join("mended") }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_a_condition_runs_when_it_holds() {
    let play = begin().await;
    let run = import(&play, 100).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.stage.ran(), ["publish", "tell", "done"]);
    let alarm = run.why_step("alarm").await.unwrap();
    assert_eq!(alarm.causes[0].text, "`alarm` runs only if `Enough` is skipped, which succeeded");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_the_opposite_runs_unless_it_holds() {
    let play = begin().await;
    let run = import(&play, 99).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.stage.ran(), ["alarm", "done"]);
    assert_eq!(states(&run).await, [S::Succeeded, S::Skipped, S::Skipped, S::Skipped, S::Succeeded, S::Succeeded]);
    for (step, text) in [
        (
            "publish",
            "`publish` runs only if `Enough` succeeds, which was skipped: it does not hold, or had nothing to do",
        ),
        ("tell", "`tell` was skipped because `publish` was skipped"),
    ] {
        let why = run.why_step(step).await.unwrap();
        assert_eq!((why.causes[0].kinds.clone(), why.causes[0].text.as_str()), (vec![CauseKind::Skipped], text));
    }
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_a_condition_that_failed_waits_for_its_repair() {
    let play = begin().await;
    let run = import(&play, 0).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    assert_eq!(states(&run).await, [S::Succeeded, S::Failed, S::Waiting, S::Waiting, S::Waiting, S::Waiting]);
    std::fs::write(play.house.folder.path().join("mended"), "").unwrap();
    run.retry_failed(None).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.stage.ran(), ["alarm", "done"]);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_is_not_registered_is_refused_with_the_line_to_add() {
    let house = House::new();
    let without = app(&Stage::new()).job::<Act>().job::<Count>();
    let import = || Import { rows: 1, mend: Default::default() };
    let error = house.client(&without).start(import()).await.unwrap_err().to_string();
    assert!(error.ends_with("add .condition::<Enough>() to the App"), "{error}");
    let without = app(&Stage::new()).job::<Act>().condition::<Enough>();
    let error = house.client(&without).start(import()).await.unwrap_err().to_string();
    assert!(error.ends_with("add .job::<Count>() to the App"), "{error}");
}
