//! Whole workflows in virtual time: days in milliseconds, and the same seed gives the same run.

mod support;

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::testing::{AttemptEnd, Run, Simulation};
use gusher::{JobState, WorkflowState};
use support::act::{Act, Shared, Stage, act};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Waits for so many seconds, of tokio's time.
#[derive(Serialize, Deserialize)]
struct Sleep {
    seconds: u64,
}
impl Job for Sleep {
    const NAME: &str = "Sleep";
    type Output = ();
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<()> {
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        Ok(())
    }
}

/// Blocks this thread until a new one has started and answered.
fn meet_another_thread() {
    std::thread::spawn(|| ()).join().unwrap();
}

/// Blocks its thread until another one has come, asks other threads, and waits for virtual time, all in one.
#[derive(Serialize, Deserialize)]
struct Block;
impl Job for Block {
    const NAME: &str = "Block";
    const BLOCKING: bool = true;
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(90));
    type Output = u64;
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<u64> {
        meet_another_thread();
        tokio::task::spawn_blocking(meet_another_thread).await?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            meet_another_thread();
            answer.send(7)
        });
        let answer = answered.await?;
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(answer)
    }
}

#[derive(Serialize, Deserialize)]
struct Emit {
    rows: u64,
}
impl Source for Emit {
    const NAME: &str = "Emit";
    type Emits = Row;
    type State = Shared;
    async fn produce(self, _: &Context<Shared>, rows: &mut Emitter<Row>) -> JobResult<()> {
        for n in 0..self.rows {
            rows.emit(Row { n }).await?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Row {
    n: u64,
}
impl Job for Row {
    const NAME: &str = "Row";
    type Output = u64;
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<u64> {
        Ok(self.n * 2)
    }
}

#[derive(Serialize, Deserialize)]
struct Sum {
    rows: Outputs<u64>,
}
impl Job for Sum {
    const NAME: &str = "Sum";
    type Output = u64;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<u64> {
        self.rows.stream(ctx).try_fold(0, |sum, (_, n)| async move { Ok(sum + n) }).await
    }
}

/// Fails at each attempt but the last, an hour or more apart.
#[derive(Serialize, Deserialize)]
struct Stubborn;
impl Job for Stubborn {
    const NAME: &str = "Stubborn";
    const RETRY: Retry = Retry::exponential(HOUR).at_most(DAY).attempts(4);
    type Output = u32;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<u32> {
        ctx.log(format!("attempt {}", ctx.attempt()));
        if ctx.attempt() < 4 { Err(JobError::new("not yet")) } else { Ok(ctx.attempt()) }
    }
}

/// What a test runs, by its name.
#[derive(Serialize, Deserialize)]
struct Play(String);
impl Workflow for Play {
    const NAME: &str = "Play";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        match self.0.as_str() {
            "rows" => drop(flow.run(Sum { rows: flow.expand(Emit { rows: 1_000 }).outputs() })),
            "stubborn" => drop(flow.run(Stubborn)),
            "stubborn rows" => drop(flow.run_each((0..1_000).map(|_| Stubborn))),
            "delayed" => {
                let first = flow.run(act("first", "ok")).named("first");
                flow.run(act("second", "ok")).named("second").after(first).delay(DAY);
            }
            "sleepers" => drop(flow.run_each([3, 1, 2].map(|hours| Sleep { seconds: hours * 3600 }))),
            "long sleeper" => drop(flow.run(Sleep { seconds: 30 * 24 * 3600 })),
            "blocking" => drop(flow.run_each([Block, Block])),
            "failing" => {
                let bad = flow.run_each([act("good", "ok"), act("bad", "fatal")]).named("bad");
                flow.run(act("never", "ok")).named("never").after(bad);
            }
            "listening" => drop(flow.run(act("listener", "wait for cancel"))),
            "hanging" => drop(flow.run(act("hung", "hang"))),
            "limited" => drop(flow.run(act("hung", "hang")).timeout(HOUR).retry(Retry::never())),
            "many" => drop(flow.run_each((0..40).map(|n| act(n.to_string(), "ok")))),
            "diamond" => {
                let top = flow.run(act("top", "ok")).named("top");
                let left = flow.run(act("left", "ok")).named("left").after(top);
                let right = flow.run(act("right", "panic")).named("right").after(top).tolerate(Tolerate::Jobs(1));
                flow.run(act("bottom", "ok")).named("bottom").after((left, right));
            }
            other => unreachable!("no play {other}"),
        }
        Ok(())
    }
}

fn simulation() -> Simulation<Shared> {
    let app = App::new(|| async { Ok::<_, std::io::Error>(Stage::new()) });
    Simulation::new(
        app.source::<Emit>().job::<Row>().job::<Sum>().job::<Act>().job::<Sleep>().job::<Block>().job::<Stubborn>(),
    )
}

fn play(name: &str) -> Run {
    let began = Instant::now();
    let run = simulation().run(Play(name.to_owned())).unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{name} took {:?} of real time", began.elapsed());
    run
}

#[test]
fn a_thousand_rows_run_once_each_and_the_report_after_all_of_them() {
    let run = play("rows");
    assert_eq!(run.state(), WorkflowState::Succeeded);
    assert_eq!((run.ran("Emit"), run.ran("Row"), run.ran("Sum")), (1, 1_000, 1));
    assert_eq!(run.output::<Row>("Row", 999).unwrap(), 1_998);
    assert_eq!(run.output::<Sum>("Sum", 0).unwrap(), 999_000);
    assert_eq!((run.order()[0], run.order()[1_001]), (("Emit", 0), ("Sum", 0)));
    assert!(run.elapsed() < Duration::from_secs(1), "{:?}", run.elapsed());
}

#[test]
fn rows_that_were_claimed_together_and_failed_come_back_together() {
    let run = play("stubborn rows");
    assert_eq!(run.state(), WorkflowState::Succeeded);
    let mut seconds: Vec<_> = run.attempts_at("Stubborn").filter(|attempt| attempt.attempt == 2).collect();
    seconds.sort_by_key(|attempt| attempt.index);
    assert_eq!(seconds.len(), 1_000);
    // The waits differ, but not from row to row: each slice has one of its own.
    let apart =
        |pair: &&[&gusher::testing::Attempt]| pair[0].started.abs_diff(pair[1].started) > Duration::from_secs(60);
    let changes = seconds.windows(2).filter(apart).count();
    assert!((1..100).contains(&changes), "{changes} neighbours of 1,000 wait for different lengths of time");
}

#[test]
fn retries_over_hours_pass_in_virtual_time() {
    let run = play("stubborn");
    let attempts: Vec<u32> = run.attempts_at("Stubborn").map(|attempt| attempt.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert_eq!(run.attempts()[0].end, Some(AttemptEnd::Failed("not yet".to_owned())));
    assert_eq!(run.attempts()[3].logs, ["attempt 4"]);
    assert_eq!(run.output::<Stubborn>("Stubborn", 0).unwrap(), 4);
    // 1 + 4 + 16 hours, each give or take a fifth and at most an eighth late.
    assert!(run.elapsed() > 16 * HOUR && run.elapsed() < 29 * HOUR, "{:?}", run.elapsed());
}

#[test]
fn a_delayed_step_starts_when_its_time_has_come() {
    let run = play("delayed");
    assert_eq!(run.order(), [("first", 0), ("second", 0)]);
    let waited = run.attempts()[1].started - run.attempts()[0].started;
    assert!(waited >= DAY && waited < DAY + DAY / 8 + HOUR, "{waited:?}");
}

#[test]
fn jobs_that_sleep_wake_in_the_order_of_virtual_time() {
    let run = play("sleepers");
    let mut ends: Vec<_> = run.attempts().iter().map(|attempt| (attempt.ended.unwrap(), attempt.index)).collect();
    ends.sort_unstable();
    assert_eq!(ends.iter().map(|(_, index)| *index).collect::<Vec<_>>(), [1, 2, 0]);
    assert!(run.elapsed() >= 3 * HOUR && run.elapsed() < 3 * HOUR + Duration::from_secs(1), "{:?}", run.elapsed());
}

#[test]
fn a_job_that_sleeps_for_a_month_keeps_its_lease() {
    let run = play("long sleeper");
    assert_eq!((run.state(), run.ran("Sleep")), (WorkflowState::Succeeded, 1));
    assert!(run.elapsed() >= 30 * DAY);
}

#[test]
fn a_blocking_job_may_wait_for_threads_and_for_virtual_time() {
    let run = play("blocking");
    assert_eq!(run.state(), WorkflowState::Succeeded);
    assert_eq!(run.output::<Block>("Block", 1).unwrap(), 7);
    // The clock stood still while they waited for other threads: at an end of 90 s they would have been dropped.
    assert!(run.elapsed() >= Duration::from_secs(60) && run.elapsed() < Duration::from_secs(80), "{:?}", run.elapsed());
}

#[test]
fn a_failed_job_is_told_with_its_error_and_what_waits_for_it_does_not_run() {
    let run = play("failing");
    assert_eq!(run.state(), WorkflowState::Failed);
    assert_eq!(run.job_state("bad", 1).unwrap(), JobState::Failed);
    assert_eq!(run.error("bad", 1).unwrap(), Some("bad failed for good"));
    assert_eq!(run.ran("never"), 0);
    let error = run.output::<Act>("bad", 1).unwrap_err();
    assert_eq!(error.to_string(), "bad #1 has no output, it is failed: bad failed for good");
    let error = run.output::<Act>("bat", 1).unwrap_err();
    assert_eq!(error.to_string(), "the workflow has no step `bat`; did you mean `bad`?");
}

#[test]
fn a_panic_fails_its_job_alone() {
    let run = play("diamond");
    assert_eq!(run.state(), WorkflowState::Succeeded);
    assert_eq!(run.error("right", 0).unwrap(), Some("panicked: right panicked"));
    assert_eq!((run.ran("right"), run.ran("bottom")), (3, 1));
    assert_eq!(run.order().first(), Some(&("top", 0)));
    assert_eq!(run.order().last(), Some(&("bottom", 0)));
}

#[test]
fn a_cancel_at_noon_reaches_the_jobs_token() {
    let noon = 12 * HOUR;
    let cancelled = simulation().at(noon, async |workflow| workflow.cancel().await);
    let run = cancelled.run(Play("listening".to_owned())).unwrap();
    assert_eq!(run.state(), WorkflowState::Cancelled);
    assert_eq!(run.job_state("Act", 0).unwrap(), JobState::Cancelled);
    assert_eq!(run.attempts()[0].end, Some(AttemptEnd::Failed("cancelled".to_owned())), "it ended by itself");
    let told = run.attempts()[0].ended.unwrap();
    assert!(told >= noon && told < noon + Duration::from_secs(1), "{told:?}");
}

#[test]
fn a_failed_workflow_can_be_repaired_later() {
    let repaired = simulation().at(DAY, async |workflow| workflow.retry_failed(None).await.map(drop));
    let run = repaired.run(Play("failing".to_owned())).unwrap();
    assert_eq!(run.state(), WorkflowState::Failed);
    assert_eq!(run.ran("bad"), 3, "the bad job had another attempt a day later");
    assert!(run.elapsed() >= DAY);
}

#[test]
fn a_time_limit_counts_virtual_time() {
    let run = play("limited");
    assert_eq!(run.state(), WorkflowState::Failed);
    let error = run.error("Act", 0).unwrap().unwrap();
    assert!(error.starts_with("timed out"), "{error}");
    assert!(run.elapsed() >= HOUR && run.elapsed() < 2 * HOUR, "{:?}", run.elapsed());
}

#[test]
fn a_workflow_that_never_finishes_is_given_up_with_the_reason() {
    let error = simulation().at_most(DAY).run(Play("hanging".to_owned())).unwrap_err().to_string();
    assert!(error.contains("not finished after 86400s of virtual time"), "{error}");
    assert!(error.contains("`Act`") || error.contains("Act"), "{error}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another_order() {
    let runs = |seed| {
        let run = simulation().seed(seed).run(Play("many".to_owned())).unwrap();
        let times: Vec<_> = run.attempts().iter().map(|attempt| (attempt.started, attempt.ended)).collect();
        (run.view().id, run.order().into_iter().map(|(_, index)| index).collect::<Vec<_>>(), times, run.elapsed())
    };
    for seed in 0..5 {
        assert_eq!(runs(seed), runs(seed));
    }
    assert_ne!(runs(1).0, runs(2).0);
    assert!((2..10).any(|seed| runs(seed).1 != runs(1).1), "no seed changes the order");
}

#[tokio::test]
async fn a_simulation_may_be_run_inside_of_another_runtime() {
    assert_eq!(play("delayed").state(), WorkflowState::Succeeded);
}

#[test]
fn an_application_whose_state_cannot_be_made_is_an_error() {
    let app: App<Shared> = App::new(|| async { Err(std::io::Error::other("no database")) }).job::<Act>();
    let error = Simulation::new(app).run(Play("diamond".to_owned())).unwrap_err();
    assert_eq!(error.to_string(), "making the application's state: no database");
}
