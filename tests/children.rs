//! Workflows within workflows.

mod support;

use futures::TryStreamExt;
use gusher::StepState as S;
use gusher::prelude::*;
use gusher::store::Store;
use gusher::{CauseKind, Handle, Returning, WorkflowId, WorkflowState};
use support::House;
use support::act::{Act, Shared, Stage, act};
use support::play::{Play, app, states};
use support::until::until;

/// What a test says once the broken file can be read.
const MENDED: &str = "mended";

#[derive(Serialize, Deserialize)]
struct Count {
    file: String,
}
impl Job for Count {
    const NAME: &str = "Count";
    const RETRY: Retry = Retry::never();
    type Output = u64;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<u64> {
        let does = match self.file.as_str() {
            "broken" if ctx.state().ran().iter().any(|ran| ran == MENDED) => "ok",
            "broken" => "fatal",
            does => does,
        };
        act(&self.file, does).perform(ctx).await?;
        Ok(self.file.len() as u64)
    }
}

/// Reads what it cannot have.
#[derive(Serialize, Deserialize)]
struct Nosy {
    counts: Outputs<u64>,
}
impl Workflow for Nosy {
    const NAME: &str = "Nosy";
    fn configure(&self, _: &Flow) -> gusher::Result<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Curious;
impl Workflow for Curious {
    const NAME: &str = "Curious";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let counted = flow.run(Count { file: "ok".into() });
        flow.run_workflow(Nosy { counts: counted.outputs() }).after(counted);
        Ok(())
    }
}

/// Cannot decide.
#[derive(Serialize, Deserialize)]
struct Torn;
impl Workflow for Torn {
    const NAME: &str = "Torn";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.returns::<Self, _>(flow.run(Count { file: "ok".into() }));
        flow.returns::<Self, _>(flow.run(Count { file: "ok".into() }));
        Ok(())
    }
}
impl Returning for Torn {
    type Output = u64;
}

/// A file is read, then counted. What its name says is done.
#[derive(Serialize, Deserialize)]
struct ImportFile {
    file: String,
}
impl Workflow for ImportFile {
    const NAME: &str = "ImportFile";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let read = flow.run(act(format!("read {}", self.file), "ok"));
        let counted = flow.run(Count { file: self.file.clone() }).after(read);
        flow.returns::<Self, _>(counted);
        Ok(())
    }
}
impl Returning for ImportFile {
    type Output = u64;
}

#[derive(Serialize, Deserialize)]
struct Report {
    counts: Outputs<u64>,
}
impl Job for Report {
    const NAME: &str = "Report";
    type Output = Vec<u64>;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<Vec<u64>> {
        let counts: Vec<u64> = self.counts.stream(ctx).map_ok(|(_, count)| count).try_collect().await?;
        ctx.state().add("report");
        Ok(counts)
    }
}

#[derive(Serialize, Deserialize)]
struct Nightly {
    files: Vec<String>,
}
impl Workflow for Nightly {
    const NAME: &str = "Nightly";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let imported = flow.run_each_workflow(self.files.clone().into_iter().map(|file| ImportFile { file }));
        flow.run(Report { counts: imported.outputs() });
        Ok(())
    }
}

async fn begin() -> Play {
    Play::of(|app| app.job::<Act>().job::<Count>().job::<Report>().workflow::<ImportFile>().workflow::<Nightly>()).await
}

fn nightly(files: &[&str]) -> Nightly {
    Nightly { files: files.iter().map(|file| (*file).to_owned()).collect() }
}

/// The workflows that stand for the files.
async fn children(play: &Play, of: &Handle) -> Vec<(WorkflowId, WorkflowState)> {
    let rows = play.house.store.children(of.id(), 0, 0, 100).await.unwrap();
    rows.into_iter().map(|row| (row.id, row.state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_reads_what_the_workflow_of_each_file_returns() {
    let play = begin().await;
    let run = play.start(nightly(&["ok", "fail once", "ok"])).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed, "`fail once` has one attempt");
    assert_eq!(states(&run).await, [S::Failed, S::Waiting]);
    play.end().await;
    let play = begin().await;
    let run = play.start(nightly(&["ok", "ok"])).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    let report = run.job("Report", 0).await.unwrap().output.unwrap();
    assert_eq!(report.get(), "[2,2]");
    assert_eq!(play.stage.ran().last().unwrap(), "report");
    play.end().await;
}

/// Two files, of which one is broken, have been imported; then it is mended.
async fn half_imported_and_mended(play: &Play) -> (Handle, Vec<(WorkflowId, WorkflowState)>) {
    let run = play.start(nightly(&["ok", "broken"])).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    let children = children(play, &run).await;
    assert_eq!(
        children.iter().map(|child| child.1).collect::<Vec<_>>(),
        [WorkflowState::Succeeded, WorkflowState::Failed]
    );
    play.stage.add(MENDED);
    (run, children)
}

/// All has succeeded in the same two workflows, and nothing that had succeeded before ran again.
async fn is_whole(play: &Play, run: &Handle, before: &[(WorkflowId, WorkflowState)]) {
    let after = children(play, run).await;
    assert!(after.iter().all(|child| child.1 == WorkflowState::Succeeded), "{after:?}");
    assert!(after.iter().map(|child| child.0).eq(before.iter().map(|child| child.0)));
    assert_eq!(run.job("Report", 0).await.unwrap().output.unwrap().get(), "[2,6]");
    let ran = play.stage.ran();
    assert_eq!(ran.iter().filter(|ran| ran.starts_with("read")).count(), 2, "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_the_whole_repairs_the_workflow_that_failed_and_no_other() {
    let play = begin().await;
    let (run, before) = half_imported_and_mended(&play).await;
    run.retry_failed(None).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    is_whole(&play, &run, &before).await;
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_the_workflow_that_failed_lets_the_whole_go_on_by_itself() {
    let play = begin().await;
    let (run, before) = half_imported_and_mended(&play).await;
    let failed = play.house.client(&play.app).find(before[1].0).await.unwrap();
    failed.retry_failed(None).await.unwrap();
    until(async || (run.status().await.unwrap().state == WorkflowState::Succeeded).then_some(())).await;
    is_whole(&play, &run, &before).await;
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_workflows_within() {
    let play = begin().await;
    let run = play.start(nightly(&["wait for cancel", "wait for cancel"])).await;
    play.stage.wait_for(2).await;
    run.cancel().await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Cancelled);
    let states: Vec<WorkflowState> = children(&play, &run).await.into_iter().map(|child| child.1).collect();
    assert_eq!(states, [WorkflowState::Cancelled; 2]);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_slot_is_held_by_a_job_that_stands_for_a_workflow() {
    let play = begin().await;
    let run = play.start(nightly(&["wait"; 4])).await;
    play.stage.wait_for(4).await;
    assert_eq!(run.status().await.unwrap().steps[0].running, 0);
    let first = children(&play, &run).await[0].0;
    let why = run.why().await.unwrap();
    assert!(why.causes[0].kinds.contains(&CauseKind::Workflow), "{why:?}");
    let told = format!("they wait for 4 workflows: {first} (running), ");
    assert!(
        why.causes[0].text.contains(&told) && why.causes[0].text.ends_with(" and 1 more"),
        "{}",
        why.causes[0].text
    );
    play.stage.gate.add_permits(4);
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_within_is_deleted_with_the_whole_and_not_alone() {
    let play = begin().await;
    let run = play.start(nightly(&["ok", "ok"])).await;
    run.wait().await.unwrap();
    let client = play.house.client(&play.app);
    let children = children(&play, &run).await;
    let error = client.find(children[0].0).await.unwrap().delete().await.unwrap_err().to_string();
    assert!(error.contains(&format!("stands for a job of workflow {} and lives as long", run.id())), "{error}");
    run.delete().await.unwrap();
    for (child, _) in children {
        assert_eq!(client.find(child).await.unwrap_err().kind(), gusher::ErrorKind::NotFound);
    }
    play.end().await;
}

#[tokio::test]
async fn a_workflow_within_that_is_not_registered_is_refused_with_the_line_to_add() {
    let house = House::new();
    let app = app(&Stage::new()).job::<Report>();
    let error = house.client(&app).start(Nightly { files: vec!["ok".into()] }).await.unwrap_err().to_string();
    assert!(error.ends_with("add .workflow::<ImportFile>() to the App"), "{error}");
}

#[tokio::test]
async fn a_workflow_within_that_reads_outputs_of_the_whole_is_refused() {
    let house = House::new();
    let app = app(&Stage::new()).job::<Count>().workflow::<Nosy>();
    let error = house.client(&app).start(Curious).await.unwrap_err().to_string();
    assert!(error.contains("the arguments of Nosy read the outputs of step 0"), "{error}");
}

#[tokio::test]
async fn a_workflow_returns_the_output_of_one_step() {
    let house = House::new();
    let error = house.client(&app(&Stage::new()).job::<Count>()).start(Torn).await.unwrap_err().to_string();
    assert!(error.contains("returns the outputs of two steps"), "{error}");
}
