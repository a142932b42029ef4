//! Sources: several that feed one step, what is there when one of them fails, what people are told meanwhile.

mod support;

use std::time::Duration;

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::testing::torture;
use gusher::{Handle, StepState, Tolerate, WorkflowState};
use support::act::{Act, Shared, Stage, act};
use support::play::{Play, app, states};

/// Emits so many rows, then does what an [`Act`] does.
#[derive(Clone, Serialize, Deserialize)]
struct ReadFile {
    name: String,
    rows: u64,
    then: String,
}
impl Source for ReadFile {
    const NAME: &str = "ReadFile";
    const RETRY: Retry = Retry::every(Duration::from_millis(1)).attempts(3);
    type Emits = Act;
    type State = Shared;
    async fn produce(self, ctx: &Context<Shared>, out: &mut Emitter<Act>) -> JobResult<()> {
        for row in 0..self.rows {
            out.emit(act(format!("{} {row}", self.name), "ok")).await?;
        }
        act(self.name, &self.then).perform(ctx).await?;
        Ok(())
    }
}

fn file(name: &str, rows: u64, then: &str) -> ReadFile {
    ReadFile { name: name.to_owned(), rows, then: then.to_owned() }
}

/// Emits a row for each number below `rows`, and saves behind every ten how far it is. Its first attempt ends behind row 25: by an error, or
/// as it is told to stop.
#[derive(Clone, Serialize, Deserialize)]
struct ReadTable {
    rows: u64,
    ends: Ends,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Ends {
    Well,
    Fails,
    Stopped,
    Fatally,
}

impl Source for ReadTable {
    const NAME: &str = "ReadTable";
    const RETRY: Retry = Retry::every(Duration::from_millis(1));
    type Emits = Act;
    type State = Shared;
    async fn produce(self, ctx: &Context<Shared>, out: &mut Emitter<Act>) -> JobResult<()> {
        let from: u64 = out.last_checkpoint().await?.unwrap_or(0);
        ctx.state().add(format!("from {from} with {}", out.emitted()));
        for row in from..self.rows {
            if row == 25 && from == 0 {
                match self.ends {
                    Ends::Well => {}
                    Ends::Fails => return Err(JobError::new("in the midst")),
                    Ends::Fatally => return Err(JobError::fatal("in the midst")),
                    Ends::Stopped => {
                        ctx.state().at_gate.add_permits(1);
                        ctx.cancellation().cancelled().await;
                        return Err(JobError::new("told to stop"));
                    }
                }
            }
            out.emit(act(format!("row {row}"), "ok")).await?;
            if (row + 1) % 10 == 0 {
                out.checkpoint(&(row + 1)).await?;
            }
        }
        Ok(())
    }
}

/// Says how many rows it emits, and emits another number.
#[derive(Clone, Serialize, Deserialize)]
struct Announce {
    says: u64,
    rows: u64,
}
impl Source for Announce {
    const NAME: &str = "Announce";
    const RETRY: Retry = Retry::never();
    type Emits = Act;
    type State = Shared;
    async fn produce(self, _: &Context<Shared>, out: &mut Emitter<Act>) -> JobResult<()> {
        out.expect(self.says);
        for row in 0..self.rows {
            // Whatever it makes of the error, it cannot succeed.
            let _ = out.emit(act(format!("row {row}"), "ok")).await;
        }
        Ok(())
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Announced {
    says: u64,
    rows: u64,
}
impl Workflow for Announced {
    const NAME: &str = "Announced";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.expand(Announce { says: self.says, rows: self.rows });
        Ok(())
    }
}

/// Does what a source must not do, and tells what it is told.
#[derive(Serialize, Deserialize)]
struct Wrong;
impl Source for Wrong {
    const NAME: &str = "Wrong";
    type Emits = Act;
    type State = Shared;
    async fn produce(self, ctx: &Context<Shared>, out: &mut Emitter<Act>) -> JobResult<()> {
        ctx.state().add(ctx.checkpoint(&1).await.unwrap_err().to_string());
        out.emit(act("row", "ok")).await?;
        ctx.state().add(out.last_checkpoint::<u64>().await.unwrap_err().to_string());
        out.checkpoint("not a number").await
    }
}

#[derive(Serialize, Deserialize)]
struct Report {
    rows: Outputs<String>,
}
impl Job for Report {
    const NAME: &str = "Report";
    type Output = Vec<String>;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<Vec<String>> {
        let rows = self.rows.stream(ctx).map_ok(|(_, row)| row).try_collect().await?;
        ctx.state().add("report");
        Ok(rows)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Import {
    files: Vec<ReadFile>,
    may_fail: u64,
}
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand_each(self.files.clone()).named("rows");
        rows.source(|files| files.tolerate(Tolerate::Jobs(self.may_fail)));
        flow.run(Report { rows: rows.outputs() });
        Ok(())
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Table {
    rows: u64,
    ends: Ends,
}
impl Workflow for Table {
    const NAME: &str = "Table";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadTable { rows: self.rows, ends: self.ends }).named("rows");
        flow.run(Report { rows: rows.outputs() });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Mistaken;
impl Workflow for Mistaken {
    const NAME: &str = "Mistaken";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.expand(Wrong);
        Ok(())
    }
}

fn import(files: impl Into<Vec<ReadFile>>) -> Import {
    Import { files: files.into(), may_fail: 0 }
}

fn registered(app: App<Shared>) -> App<Shared> {
    app.workflow::<Import>()
        .workflow::<Table>()
        .workflow::<Mistaken>()
        .source::<ReadTable>()
        .source::<Wrong>()
        .workflow::<Announced>()
        .source::<Announce>()
        .source::<ReadFile>()
        .job::<Act>()
        .job::<Report>()
}

async fn report(run: &Handle) -> Vec<String> {
    serde_json::from_str(run.job("Report", 0).await.unwrap().output.unwrap().get()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_one_file_run_while_another_is_still_read() {
    let play = Play::of(registered).await;
    let run = play.start(import([file("slow", 2, "wait"), file("quick", 3, "ok")])).await;
    play.stage.wait_for(1).await;
    support::until::until(async || (play.stage.ran().len() == 4).then_some(())).await;
    assert_eq!(states(&run).await, [StepState::Running, StepState::Running, StepState::Waiting]);

    let told = |why: gusher::Why| why.causes.iter().map(|cause| cause.text.clone()).collect::<Vec<_>>().join("\n");
    let rows = told(run.why_step("rows").await.unwrap());
    assert!(rows.contains("`rows` waits for the source `ReadFile`: 1 of 2 jobs unsettled"), "{rows}");
    let report = told(run.why_step("Report").await.unwrap());
    assert!(report.contains("`Report` waits for `rows`, that for the source `ReadFile`"), "{report}");
    let all = told(run.why().await.unwrap());
    assert!(all.contains("`rows` waits for the source `ReadFile`") && !all.contains("`rows` runs"), "{all}");

    play.stage.gate.add_permits(1);
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(self::report(&run).await, ["quick 0", "quick 1", "quick 2", "slow 0", "slow 1"], "as they were adopted");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_tried_again_doubles_no_rows() {
    let play = Play::of(registered).await;
    let run = play.start(import([file("a", 1_500, "fail once"), file("b", 20, "ok"), file("c", 0, "fail once")])).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    let mut rows = report(&run).await;
    let adopted = rows.len();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!((rows.len(), adopted), (1_520, 1_520));
    assert_eq!(play.house.under_way().await, 0);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_lets_the_report_wait_and_the_rows_of_the_others_run() {
    let play = Play::of(registered).await;
    let run = play.start(import([file("good", 3, "ok"), file("bad", 2, "fatal")])).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    assert_eq!(states(&run).await, [StepState::Failed, StepState::Waiting, StepState::Waiting]);
    let why = run.why_step("Report").await.unwrap();
    assert!(why.causes[0].text.contains("that for the source `ReadFile`, which failed"), "{:?}", why.causes);
    assert!(!play.stage.ran().contains(&"report".to_owned()));

    let mended = serde_json::value::to_raw_value(&file("bad", 2, "ok")).unwrap();
    run.retry_mended("ReadFile", vec![(1, mended)]).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(report(&run).await, ["good 0", "good 1", "good 2", "bad 0", "bad 1"]);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_may_fail_do_not_hold_up_the_report_and_are_too_late_after_it() {
    let play = Play::of(registered).await;
    let run = play.start(Import { files: vec![file("good", 3, "ok"), file("bad", 2, "fatal")], may_fail: 1 }).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(report(&run).await.len(), 3);

    let mended = serde_json::value::to_raw_value(&file("bad", 2, "ok")).unwrap();
    run.retry_mended("ReadFile", vec![(1, mended)]).await.unwrap();
    run.wait().await.unwrap();
    let errors = run.job("ReadFile", 1).await.unwrap().errors;
    assert!(errors.last().unwrap().error.contains("has settled: no jobs can be added to it any more"), "{errors:?}");
    assert_eq!(run.status().await.unwrap().jobs.total, 6);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_at_all_is_no_row_and_a_report() {
    let play = Play::of(registered).await;
    let run = play.start(import([])).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(report(&run).await, Vec::<String>::new());
    play.end().await;
}

#[test]
fn a_fan_out_is_the_same_whatever_happens_to_its_workers() {
    // The rows are alike, for their order is that in which their sources succeeded.
    let files = vec![file("file", 1, "ok"); 4];
    let report = torture(Stage::new, |stage| registered(app(stage)), |_| ()).run(import(files)).unwrap();
    assert!(report.is_safe(), "{report}");
}

/// All rows of a table are there once, in their order.
async fn assert_whole(run: &Handle, rows: u64) {
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(report(run).await, (0..rows).map(|row| format!("row {row}")).collect::<Vec<_>>());
}

fn begun(stage: &Stage) -> Vec<String> {
    stage.ran().into_iter().filter(|line| line.starts_with("from")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_on_with_what_was_emitted_before_the_checkpoint() {
    let play = Play::of(registered).await;
    let run = play.start(Table { rows: 50, ends: Ends::Fails }).await;
    assert_whole(&run, 50).await;
    assert_eq!(begun(&play.stage), ["from 0 with 0", "from 20 with 20"], "what came behind row 20 is emitted again");
    assert_eq!(play.house.under_way().await, 0);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_goes_on_after_a_deploy() {
    let Play { house, app, stage, worker } = Play::of(registered).await;
    let run = house.client(&app).start(Table { rows: 50, ends: Ends::Stopped }).await.unwrap();
    stage.wait_for(1).await;
    worker.stop().await;
    let worker = house.worker(&app).await;
    assert_whole(&run, 50).await;
    assert_eq!(begun(&stage), ["from 0 with 0", "from 20 with 20"]);
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_failed_for_good_begins_anew_when_it_is_retried() {
    let play = Play::of(registered).await;
    let run = play.start(Table { rows: 50, ends: Ends::Fatally }).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    let mended = serde_json::value::to_raw_value(&ReadTable { rows: 30, ends: Ends::Well }).unwrap();
    run.retry_mended("ReadTable", vec![(0, mended)]).await.unwrap();
    assert_whole(&run, 30).await;
    assert_eq!(begun(&play.stage), ["from 0 with 0", "from 0 with 0"]);
    assert_eq!(play.house.under_way().await, 0);
    play.end().await;
}

/// Killed at each call to the store, with each answer lost, and run twice.
#[test]
fn a_source_that_goes_on_is_safe_to_repeat() {
    let report =
        torture(Stage::new, |stage| registered(app(stage)), |_| ()).run(Table { rows: 28, ends: Ends::Fails }).unwrap();
    assert!(report.is_safe(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_told_how_it_goes_on() {
    let play = Play::of(registered).await;
    let run = play.start(Mistaken).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    let told = play.stage.ran();
    assert!(told[0].contains("say `out.checkpoint(..)` in place of `ctx.checkpoint(..)`"), "{told:?}");
    assert!(told[1].contains("a source asks before the first"), "{told:?}");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_cannot_succeed_with_another_number_of_rows_than_it_says() {
    let play = Play::of(registered).await;
    let of = |says, rows| play.start(Announced { says, rows });
    let right = of(1_200, 1_200).await.wait().await.unwrap();
    assert_eq!((right.state, right.jobs.succeeded), (WorkflowState::Succeeded, 1_201));

    for (rows, expected) in [
        (
            998,
            r#"the source says that it emits 1,200 jobs, but has emitted 998, the last {"name":"row 997","does":"ok"}"#,
        ),
        (0, "the source says that it emits 1,200 jobs, but has emitted 0"),
        (
            1_203,
            r#"the source says that it emits 1,200 jobs, but has emitted 1,203, the last {"name":"row 1199","does":"ok"}"#,
        ),
    ] {
        let run = of(1_200, rows).await;
        let done = run.wait().await.unwrap();
        assert_eq!((done.state, done.jobs.total), (WorkflowState::Failed, 1), "{rows} rows");
        assert_eq!(run.job("Announce", 0).await.unwrap().errors[0].error, expected);
    }
    assert_eq!(play.house.under_way().await, 0);
    play.end().await;
}
