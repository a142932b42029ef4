//! What runs after what: every kind of edge, tolerances, retries, repairs, cancel, pause.

mod support;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use gusher::prelude::*;
use gusher::{Handle, StepState, WorkflowState};
use support::House;
use support::act::{Act, Mendable, Shared, Stage, act};
use support::play::Play;

/// Defines a workflow type whose graph is the given closure's.
macro_rules! workflow {
    ($name:ident, |$this:ident, $flow:ident| $body:block) => {
        #[derive(Serialize, Deserialize)]
        struct $name {
            #[serde(default)]
            file: std::path::PathBuf,
        }
        impl Workflow for $name {
            const NAME: &str = stringify!($name);
            fn configure(&self, $flow: &Flow) -> gusher::Result<()> {
                let $this = self;
                let _ = $this;
                $body
                Ok(())
            }
        }
        impl $name {
            #[allow(dead_code)]
            fn new() -> Self {
                Self { file: Default::default() }
            }
        }
    };
}

#[derive(Serialize, Deserialize)]
struct Read {
    of: Outputs<String>,
}
impl Job for Read {
    const NAME: &str = "Read";
    type Output = (Vec<String>, Vec<(u64, String)>);
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<Self::Output> {
        let read: Vec<String> = self.of.stream(ctx).map_ok(|(_, name)| name).try_collect().await?;
        let failed = self.of.failures(ctx).map_ok(|failure| (failure.index, failure.error)).try_collect().await?;
        ctx.state().add(format!("read {}", read.len()));
        Ok((read, failed))
    }
}

async fn begin() -> Play {
    Play::of(|app| app.job::<Act>().job::<Read>().source::<Mendable>()).await
}

async fn states(run: &Handle) -> Vec<(String, StepState)> {
    run.status().await.unwrap().steps.into_iter().map(|step| (step.name, step.state)).collect()
}

fn named(states: &[(&str, StepState)]) -> Vec<(String, StepState)> {
    states.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect()
}

workflow!(Diamond, |_this, flow| {
    let top = flow.run(act("top", "ok")).named("top");
    let left = flow.run(act("left", "ok")).named("left").after(top);
    let right = flow.run(act("right", "fail once")).named("right").after(top);
    flow.run(act("bottom", "ok")).named("bottom").after((left, right));
});

#[tokio::test(flavor = "multi_thread")]
async fn a_step_runs_after_all_that_it_waits_for() {
    let play = begin().await;
    let done = play.start(Diamond::new()).await.wait().await.unwrap();
    assert_eq!(done.state, WorkflowState::Succeeded);
    let ran = play.stage.ran();
    assert_eq!((ran.first().unwrap().as_str(), ran.last().unwrap().as_str(), ran.len()), ("top", "bottom", 4));
    play.end().await;
}

workflow!(Failing, |_this, flow| {
    let bad = flow.run(act("bad", "fatal")).named("bad");
    flow.run(act("after", "ok")).named("after").after(bad);
    flow.run(act("settled", "ok")).named("settled").after_settled(bad);
    flow.run(act("failure", "ok")).named("failure").after_failure(bad);
    let fine = flow.run(act("fine", "ok")).named("fine");
    let skipped = flow.run(act("skipped", "ok")).named("skipped").after_failure(fine);
    flow.run(act("behind", "ok")).named("behind").after(skipped);
});

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_edge_does_as_the_table_says_after_a_failure() {
    use StepState as S;
    let play = begin().await;
    let run = play.start(Failing::new()).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    let expected = [
        ("bad", S::Failed),
        ("after", S::Waiting),
        ("settled", S::Succeeded),
        ("failure", S::Succeeded),
        ("fine", S::Succeeded),
        ("skipped", S::Skipped),
        ("behind", S::Succeeded),
    ];
    assert_eq!(states(&run).await, named(&expected));
    play.end().await;
}

workflow!(Tolerant, |_this, flow| {
    let jobs = (0..10).map(|n| act(format!("job {n}"), if n % 5 == 0 { "fatal" } else { "ok" }));
    let rows = flow.run_each(jobs).tolerate(Tolerate::Fraction(0.2));
    flow.run(Read { of: rows.outputs() });
});

#[tokio::test(flavor = "multi_thread")]
async fn a_step_within_its_tolerance_counts_as_succeeded_and_its_reader_sees_what_is_missing() {
    let play = begin().await;
    let run = play.start(Tolerant::new()).await;
    let done = run.wait().await.unwrap();
    assert_eq!((done.state, done.jobs.failed), (WorkflowState::Succeeded, 2));
    let output = run.job("Read", 0).await.unwrap().output.unwrap();
    let (read, failed): (Vec<String>, Vec<(u64, String)>) = serde_json::from_str(output.get()).unwrap();
    assert_eq!(read.len(), 8);
    assert_eq!(failed, [(0, "job 0 failed for good".to_owned()), (5, "job 5 failed for good".to_owned())]);
    play.end().await;
}

workflow!(Stubborn, |_this, flow| {
    flow.run(act("stubborn", "fail")).named("stubborn");
    flow.run(act("wild", "panic")).named("wild");
    flow.run(act("slow", "hang")).named("slow").timeout(Duration::from_millis(20)).retry(Retry::never());
});

#[tokio::test(flavor = "multi_thread")]
async fn errors_panics_and_time_outs_are_failures_of_their_job_alone() {
    let play = begin().await;
    let run = play.start(Stubborn::new()).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    let job = run.job("stubborn", 0).await.unwrap();
    assert_eq!((job.attempts, job.errors.len()), (3, 3));
    assert_eq!(job.errors[2].error, "stubborn failed");
    assert!(run.job("wild", 0).await.unwrap().errors[0].error.contains("wild panicked"));
    assert!(run.job("slow", 0).await.unwrap().errors[0].error.contains("timed out"));
    play.end().await;
}

workflow!(Repaired, |this, flow| {
    let rows = flow.expand(Mendable { file: this.file.clone() }).named("rows");
    flow.run(Read { of: rows.outputs() });
});

#[tokio::test(flavor = "multi_thread")]
async fn a_report_waits_for_a_failed_source_until_that_is_repaired() {
    use StepState as S;
    let play = begin().await;
    let file = play.house.folder.path().join("names");
    let run = play.start(Repaired { file: file.clone() }).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    assert_eq!(states(&run).await, named(&[("Mendable", S::Failed), ("rows", S::Waiting), ("Read", S::Waiting)]));
    assert_eq!(run.status().await.unwrap().jobs.total, 2, "what the failed attempt emitted is gone");

    std::fs::write(&file, "one\ntwo\n").unwrap();
    assert_eq!(run.retry_failed(None).await.unwrap(), 1);
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.stage.ran().last().unwrap(), "read 3");
    play.end().await;
}

workflow!(Healed, |_this, flow| {
    let rows = flow.run_each((0..100).map(|n| act(format!("{n}"), if n == 17 { "break" } else { "ok" }))).named("rows");
    flow.run(Read { of: rows.outputs() });
});

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_runs_again_with_mended_parameters_and_then_the_report_runs() {
    let play = begin().await;
    let run = play.start(Healed::new()).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Failed);
    let failures: Vec<_> = run.failures("rows").await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!((failures.len(), failures[0].index), (1, 17));
    let mended = serde_json::value::to_raw_value(&act("mended", "ok")).unwrap();
    let refused = run.retry_mended("rows", vec![(3, mended.clone())]).await.unwrap_err();
    assert!(refused.to_string().contains("job #3 of step `rows` has not failed"), "{refused}");
    assert_eq!(run.retry_mended("rows", vec![(17, mended)]).await.unwrap(), 1);
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(run.job("rows", 17).await.unwrap().output.unwrap().get(), "\"mended\"");
    assert_eq!(play.stage.ran().last().unwrap(), "read 100");
    play.end().await;
}

workflow!(Long, |_this, flow| {
    let first = flow.run_each((0..20).map(|n| act(format!("{n}"), "wait for cancel"))).named("first");
    let second = flow.run_each((0..5000).map(|n| act(format!("{n}"), "ok"))).named("second").after(first);
    flow.run(act("report", "ok")).named("report").after(second);
    flow.run(act("clean up", "ok")).named("clean up").always(first);
});

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_workflow_starts_nothing_more_but_what_always_runs() {
    use StepState as S;
    let play = begin().await;
    let run = play.start(Long::new()).await;
    play.stage.wait_for(4).await;
    run.cancel().await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Cancelled);
    let expected =
        [("first", S::Cancelled), ("second", S::Cancelled), ("report", S::Cancelled), ("clean up", S::Succeeded)];
    assert_eq!(states(&run).await, named(&expected));
    assert_eq!(play.stage.ran(), ["clean up"]);
    assert_eq!(run.status().await.unwrap().jobs.cancelled, 5021);
    play.end().await;
}

workflow!(Gated, |_this, flow| {
    let rows = flow.run_each((0..6).map(|n| act(format!("{n}"), "wait"))).named("rows").max_in_flight(2);
    flow.run(act("end", "ok")).named("end").after(rows);
});

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_workflow_hands_out_nothing_until_it_is_resumed_and_a_limit_holds() {
    let play = begin().await;
    let run = play.start(Gated::new()).await;
    play.stage.wait_for(2).await;
    run.pause().await.unwrap();
    play.stage.gate.add_permits(2);
    while play.stage.ran().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(run.status().await.unwrap().state, WorkflowState::Paused);
    play.stage.gate.add_permits(4);
    run.resume().await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.stage.most_at_once(), 2);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_workflow_starts_again_under_its_id_and_can_be_deleted() {
    let stage = Stage::new();
    let shared = stage.clone();
    let app = App::new(move || std::future::ready(Ok::<_, std::io::Error>(shared.clone())))
        .workflow::<Diamond>()
        .job::<Act>();
    let house = House::new();
    let worker = house.worker(&app).await;
    let client = house.client(&app);
    let run = client.start(Diamond::new()).await.unwrap();
    run.wait().await.unwrap();
    let again = client.start_again(run.id(), Default::default()).await.unwrap();
    assert_eq!(again.id(), run.id());
    let done = again.wait().await.unwrap();
    assert_eq!((done.state, done.generation, stage.ran().len()), (WorkflowState::Succeeded, 1, 8));
    run.delete().await.unwrap();
    assert!(client.find(run.id()).await.unwrap_err().to_string().contains("there is no workflow"));
    worker.stop().await;
    house.check().await;
}

workflow!(Delayed, |_this, flow| {
    let first = flow.run(act("first", "ok")).named("first");
    flow.run(act("later", "ok")).named("later").after(first).delay(Duration::from_millis(300));
});

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_step_waits_once_its_upstream_has_settled() {
    let play = begin().await;
    let done = play.start(Delayed::new()).await.wait().await.unwrap();
    let (first, later) = (&done.steps[0], &done.steps[1]);
    assert!(later.started_at.unwrap() - first.finished_at.unwrap() >= 300);
    play.end().await;
}
