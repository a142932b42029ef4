//! Eager sources: their rows run while they still read, and stay; how they go on; how they wait for their rows without keeping a slot.

mod support;

use std::time::Duration;

use gusher::prelude::*;
use gusher::testing::torture;
use gusher::{CauseKind, ErrorKind, Handle, JobState, StepState, WorkerOptions, WorkflowState};
use support::House;
use support::act::{Act, Shared, Stage, act};
use support::play::{Play, app};

/// Emits so many rows. Its first attempt may end in the midst.
#[derive(Clone, Serialize, Deserialize)]
struct ReadFeed {
    rows: u64,
    /// What each row does.
    does: String,
    ends: Ends,
    goes_on: GoesOn,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Ends {
    Well,
    /// The first attempt, behind this row.
    Behind(u64),
    /// For good, behind this row, as long as it is the first attempt of the job's life.
    FatallyBehind(u64),
    /// It waits at the gate behind this row.
    WaitsBehind(u64),
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum GoesOn {
    ByCount,
    ByCursor,
    Anew,
    /// With other rows than before.
    Wrongly,
    /// One row too far.
    TooFar,
}

impl Source for ReadFeed {
    const NAME: &str = "ReadFeed";
    const RETRY: Retry = Retry::every(Duration::from_millis(1)).attempts(3);
    type Emits = Act;
    type State = Shared;
    async fn produce(self, ctx: &Context<Shared>, out: &mut Emitter<Act>) -> JobResult<()> {
        let from = match self.goes_on {
            GoesOn::ByCount | GoesOn::Wrongly => out.done().await?,
            GoesOn::TooFar => match out.done().await? {
                0 => 0,
                done => done + 1,
            },
            GoesOn::ByCursor => out.last_checkpoint().await?.unwrap_or(0),
            GoesOn::Anew => 0,
        };
        ctx.state().add(format!("from {from}"));
        let is_first = !ctx.state().ran().contains(&"ends".to_owned());
        for row in from..self.rows {
            match self.ends {
                Ends::Behind(end) if end == row && is_first => {
                    ctx.state().add("ends");
                    return Err(JobError::new("in the midst"));
                }
                Ends::FatallyBehind(end) if end == row && is_first => {
                    ctx.state().add("ends");
                    return Err(JobError::fatal("in the midst"));
                }
                Ends::WaitsBehind(end) if end == row => {
                    ctx.state().at_gate.add_permits(1);
                    ctx.state().gate.acquire().await?.forget();
                }
                _ => {}
            }
            let said = if self.goes_on == GoesOn::Wrongly && !is_first { "other" } else { "row" };
            out.emit(act(format!("{said} {row}"), &self.does)).await?;
            if self.goes_on == GoesOn::ByCursor && (row + 1) % 10 == 0 {
                out.checkpoint(&(row + 1)).await?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Feeds {
    feeds: Vec<ReadFeed>,
    ahead: u64,
    timeout: Option<Duration>,
}
impl Workflow for Feeds {
    const NAME: &str = "Feeds";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand_each(self.feeds.clone()).eager().ahead(self.ahead).named("rows");
        if let Some(timeout) = self.timeout {
            rows.source(|feeds| feeds.timeout(timeout));
        }
        flow.run(act("report", "ok")).after(rows);
        Ok(())
    }
}

fn feed(rows: u64) -> ReadFeed {
    ReadFeed { rows, does: "ok".into(), ends: Ends::Well, goes_on: GoesOn::ByCount }
}

fn feeds(feeds: impl Into<Vec<ReadFeed>>, ahead: u64) -> Feeds {
    Feeds { feeds: feeds.into(), ahead, timeout: None }
}

fn registered(app: App<Shared>) -> App<Shared> {
    app.workflow::<Feeds>().source::<ReadFeed>().job::<Act>()
}

/// A worker with so many slots.
async fn with_slots(slots: u32) -> Play {
    let stage = Stage::new();
    let (house, app) = (House::new(), registered(app(&stage)));
    let worker = house.worker_with(&app, WorkerOptions { slots, ..WorkerOptions::default() }).await;
    Play { house, app, stage, worker }
}

/// Each row has run once, and the report behind all of them.
async fn assert_each_row_once(play: &Play, run: &Handle, rows: u64) {
    let done = run.wait().await.unwrap();
    assert_eq!(done.state, WorkflowState::Succeeded, "{:?}", run.why().await.unwrap());
    let mut ran: Vec<String> = play.stage.ran().into_iter().filter(|line| line.starts_with("row")).collect();
    assert_eq!(ran.len() as u64, rows);
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(ran.len() as u64, rows, "each of them once");
    assert_eq!(play.stage.ran().last().map(String::as_str), Some("report"));
    assert_eq!(play.house.under_way().await, 0);
}

fn begun(play: &Play) -> Vec<String> {
    play.stage.ran().into_iter().filter(|line| line.starts_with("from")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_run_while_their_source_still_reads() {
    let play = with_slots(2).await;
    let run = play.start(feeds([ReadFeed { ends: Ends::WaitsBehind(5), ..feed(8) }], 100)).await;
    play.stage.wait_for(1).await;
    support::until::until(async || (play.stage.ran().len() == 1 + 5).then_some(())).await;
    assert_eq!(support::play::states(&run).await, [StepState::Running, StepState::Running, StepState::Waiting]);
    play.stage.gate.add_permits(1);
    assert_each_row_once(&play, &run, 8).await;
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_one_slot_runs_the_rows_of_a_source_that_waits_for_them() {
    let play = with_slots(1).await;
    let run = play.start(feeds([feed(1_000)], 10)).await;
    assert_each_row_once(&play, &run, 1_000).await;
    assert_eq!(play.stage.most_at_once(), 1, "in the slot that it has lent");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sources_that_wait_share_one_slot() {
    let play = with_slots(1).await;
    let feeds_of = |number: u64| (0..number).map(|_| feed(50)).collect::<Vec<_>>();
    let run = play.start(feeds(feeds_of(3), 5)).await;
    let done = run.wait().await.unwrap();
    assert_eq!((done.state, done.jobs.succeeded), (WorkflowState::Succeeded, 3 + 150 + 1));
    assert_eq!(play.stage.most_at_once(), 1);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_stays_no_further_ahead_than_it_may() {
    let play = with_slots(2).await;
    let run = play.start(feeds([ReadFeed { does: "wait".into(), ..feed(100) }], 8)).await;
    play.stage.wait_for(2).await;
    let mut most = 0;
    for _ in 0..100 {
        let rows = &run.status().await.unwrap().steps[1];
        most = most.max(rows.jobs.unsettled());
        play.stage.gate.add_permits(1);
        tokio::task::yield_now().await;
    }
    play.stage.gate.add_permits(100);
    assert_each_row_once(&play, &run, 100).await;
    assert!(most > 2 && most <= 8 + 2, "{most} rows were unfinished");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_goes_on_by_count_behind_what_the_one_before_has_stored() {
    for (goes_on, begins) in [(GoesOn::ByCount, 24), (GoesOn::ByCursor, 20), (GoesOn::Anew, 0)] {
        let play = with_slots(2).await;
        let feed = ReadFeed { ends: Ends::Behind(25), goes_on, ..feed(60) };
        let run = play.start(feeds([feed], 4)).await;
        assert_each_row_once(&play, &run, 60).await;
        let begun = begun(&play);
        assert_eq!(begun[0], "from 0");
        let again: u64 = begun[1].trim_start_matches("from ").parse().unwrap();
        assert!(again <= begins && (goes_on == GoesOn::Anew || again + 5 > begins), "{begun:?}");
        play.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_failed_for_good_keeps_its_rows_and_goes_on_when_it_is_retried() {
    let play = with_slots(2).await;
    let run = play.start(feeds([ReadFeed { ends: Ends::FatallyBehind(30), ..feed(40) }], 4)).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    let there = run.status().await.unwrap().steps[1].jobs;
    assert!(there.total > 20 && there.succeeded == there.total, "{there:?}");
    assert!(!play.stage.ran().contains(&"report".to_owned()));
    run.retry_failed(None).await.unwrap();
    assert_each_row_once(&play, &run, 40).await;
    assert_eq!(begun(&play)[1], format!("from {}", there.total - 1));
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rows_than_before_fail_the_source_and_both_are_shown() {
    for (goes_on, shown) in [
        (GoesOn::Wrongly, r#"is {"name":"other 24","does":"ok"} now, but {"name":"row 24","does":"ok"} is stored"#),
        (GoesOn::TooFar, r#"is {"name":"row 25","does":"ok"} now, but {"name":"row 24","does":"ok"} is stored"#),
    ] {
        let play = with_slots(2).await;
        // With so small a bound each row is stored by itself.
        let run = play.start(feeds([ReadFeed { ends: Ends::Behind(25), goes_on, ..feed(60) }], 1)).await;
        let done = run.wait().await.unwrap();
        assert_eq!((done.state, done.steps[1].jobs.succeeded), (WorkflowState::Failed, 25));
        let errors = run.job("ReadFeed", 0).await.unwrap().errors;
        let error = &errors.last().unwrap().error;
        assert!(error.contains(shown), "{error}");
        play.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_before_its_last_stored_row_fails() {
    let play = with_slots(2).await;
    let run = play.start(feeds([ReadFeed { ends: Ends::FatallyBehind(30), ..feed(40) }], 1)).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    let shorter = ReadFeed { goes_on: GoesOn::Anew, ..feed(12) };
    run.retry_mended("ReadFeed", vec![(0, serde_json::value::to_raw_value(&shorter).unwrap())]).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    let errors = run.job("ReadFeed", 0).await.unwrap().errors;
    let error = &errors.last().unwrap().error;
    let shown = r#"come to its end with 12 jobs, but 30 are stored of it, the last {"name":"row 29","does":"ok"}"#;
    assert!(error.contains(shown), "{error}");

    run.run_again("ReadFeed").await.unwrap();
    let done = run.wait().await.unwrap();
    assert_eq!((done.state, done.steps[1].jobs.total), (WorkflowState::Succeeded, 12), "it has begun anew");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_source_that_waits() {
    let play = with_slots(1).await;
    let run = play.start(feeds([ReadFeed { does: "wait for cancel".into(), ..feed(100) }], 2)).await;
    play.stage.wait_for(1).await;
    run.cancel().await.unwrap();
    let done = run.wait().await.unwrap();
    assert_eq!(done.state, WorkflowState::Cancelled);
    assert_eq!(run.job("ReadFeed", 0).await.unwrap().state, JobState::Cancelled);
    assert_eq!(play.house.under_way().await, 0);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_waits_ends_at_its_time_limit() {
    let play = with_slots(1).await;
    let slow = feeds([ReadFeed { does: "wait".into(), ..feed(100) }], 2);
    let run = play.start(Feeds { timeout: Some(Duration::from_millis(50)), ..slow }).await;
    // Its row still stands at the gate, in the slot that it has lent.
    let error = async || run.job("ReadFeed", 0).await.unwrap().errors.first().map(|attempt| attempt.error.clone());
    let error = support::until::until(error).await;
    assert!(error.contains("timed out"), "{error}");
    play.stage.gate.add_permits(1_000);
    assert!(run.wait().await.unwrap().state.is_finished());
    assert_eq!(play.stage.most_at_once(), 1);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_waits_while_its_workflow_is_paused_goes_on_after_it() {
    let play = with_slots(1).await;
    let run = play.start(feeds([ReadFeed { ends: Ends::WaitsBehind(2), ..feed(50) }], 1)).await;
    play.stage.wait_for(1).await;
    run.pause().await.unwrap();
    play.stage.gate.add_permits(1);
    support::until::until(async || (run.status().await.unwrap().steps[1].jobs.unsettled() > 1).then_some(())).await;
    let why = run.why_step("ReadFeed").await.unwrap();
    let told = "what emits waits for `rows`, of which 2 jobs are unfinished: it goes on once that is at most 1";
    assert!(why.causes[1].text.contains(told) && why.causes[1].kinds.contains(&CauseKind::Ahead), "{why:?}");
    run.resume().await.unwrap();
    assert_each_row_once(&play, &run, 50).await;
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_gives_a_source_that_waits_back_and_another_goes_on() {
    let Play { house, app, stage, worker } = with_slots(1).await;
    let run = house.client(&app).start(feeds([ReadFeed { does: "wait".into(), ..feed(30) }], 2)).await.unwrap();
    stage.wait_for(1).await;
    support::until::until(async || (run.status().await.unwrap().steps[1].jobs.total > 2).then_some(())).await;
    stage.gate.add_permits(30);
    worker.stop().await;
    let worker = house.worker(&app).await;
    let play = Play { house, app, stage, worker };
    assert_each_row_once(&play, &run, 30).await;
    let source = run.job("ReadFeed", 0).await.unwrap();
    assert_eq!(source.attempts, 1, "no attempt was used up");
    play.end().await;
}

/// Killed at each call to the store, with each answer lost, and run twice.
#[test]
fn an_eager_source_is_safe_to_repeat() {
    let feed = ReadFeed { ends: Ends::Behind(3), ..feed(5) };
    let report = torture(Stage::new, |stage| registered(app(stage)), |_| ()).run(feeds([feed], 2)).unwrap();
    assert!(report.is_safe(), "{report}");
}

#[derive(Serialize, Deserialize)]
struct Mistaken(u8);
impl Workflow for Mistaken {
    const NAME: &str = "Mistaken";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        match self.0 {
            0 => flow.run(act("row", "ok")).eager(),
            1 => flow.expand(feed(1)).ahead(10),
            2 => flow.expand(feed(1)).eager().ahead(0),
            _ => flow.expand(feed(1)).eager().delay(Duration::from_secs(1)),
        };
        Ok(())
    }
}

#[tokio::test]
async fn what_cannot_be_eager_is_told_why() {
    let (house, stage) = (House::new(), Stage::new());
    let app = registered(app(&stage)).workflow::<Mistaken>();
    for (mistake, told) in [
        (0, "step `Act` emits nothing, so it cannot be `.eager()`"),
        (1, "say `.eager()`, too"),
        (2, "would never emit anything"),
        (3, "step `ReadFeed` is `.eager()`, but `Act`, which it feeds, has a `.delay(..)`"),
    ] {
        let error = house.client(&app).start(Mistaken(mistake)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(told), "{error}");
    }
}
