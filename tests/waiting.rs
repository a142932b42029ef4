//! Steps that wait for a signal or a time: in virtual time, and with real workers on a file and on a Redis server.

#[macro_use]
#[path = "support/place.rs"]
mod place;
#[path = "servers/mod.rs"]
mod servers;
mod support;

use std::time::Duration;

use gusher::prelude::*;
use gusher::testing::{Run, Simulation};
use gusher::{CancellationToken, ErrorKind, Handle, JobState, Signalled, StepState, WorkerOptions, WorkflowState};
use place::Place;
use support::act::{Act, Shared, Stage, act};
use support::until::until;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Serialize, Deserialize)]
struct Approval {
    by: String,
}
impl Signal for Approval {
    const NAME: &str = "Approval";
}

#[derive(Serialize, Deserialize)]
struct Veto;
impl Signal for Veto {
    const NAME: &str = "Veto";
}

fn approved(by: &str) -> Approval {
    Approval { by: by.to_owned() }
}

/// Tells who has approved.
#[derive(Serialize, Deserialize)]
struct Publish {
    approval: Outputs<Approval>,
}
impl Job for Publish {
    const NAME: &str = "Publish";
    type Output = String;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<String> {
        let approval = self.approval.one_if_any(ctx).await?;
        Ok(approval.map_or_else(|| "without anybody".to_owned(), |approval| approval.by))
    }
}

/// Gives the signal that a later step of its own workflow waits for.
#[derive(Serialize, Deserialize)]
struct ApproveAhead;
impl Job for ApproveAhead {
    const NAME: &str = "ApproveAhead";
    type Output = bool;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<bool> {
        let given = ctx.client().signal(ctx.workflow_id(), "manager", &approved("a job")).await?;
        Ok(given == Signalled::Kept)
    }
}

/// What a test runs, by its name.
#[derive(Serialize, Deserialize)]
struct Play(String);
impl Workflow for Play {
    const NAME: &str = "Play";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let manager = |flow: &Flow| flow.wait_for::<Approval>("manager").outputs();
        match self.0.as_str() {
            "approval" => drop(flow.run(Publish { approval: manager(flow) })),
            "approval behind a draft" => {
                let draft = flow.run(act("draft", "ok")).named("draft").delay(DAY);
                let manager = flow.wait_for::<Approval>("manager").after(draft);
                flow.run(Publish { approval: manager.outputs() });
            }
            "approved ahead" => {
                let manager = flow.wait_for::<Approval>("manager").after(flow.run(ApproveAhead));
                flow.run(Publish { approval: manager.outputs() });
            }
            "in three days or not" => {
                let manager = flow.wait_for::<Approval>("manager").timeout(3 * DAY);
                flow.run(Publish { approval: manager.outputs() });
            }
            "in three days or skip" => {
                let manager = flow.wait_for::<Approval>("manager").timeout(3 * DAY).or_skip();
                flow.run(Publish { approval: manager.outputs() });
            }
            "in three days or by default" => {
                let manager = flow.wait_for::<Approval>("manager").timeout(3 * DAY).or(approved("nobody"));
                flow.run(Publish { approval: manager.outputs() });
            }
            "alarm when nobody comes" => {
                let manager = flow.wait_for::<Approval>("manager").timeout(3 * DAY);
                flow.run(act("alarm", "ok")).named("alarm").after_failure(manager);
                flow.run(act("cleanup", "ok")).named("cleanup").after_settled(manager);
            }
            "sleep" => {
                let first = flow.run(act("first", "ok")).named("first");
                let nap = flow.sleep(2 * HOUR).after(first);
                flow.run(act("second", "ok")).named("second").after(nap);
            }
            "two naps" => {
                let nap = flow.sleep(HOUR);
                flow.sleep(HOUR).after(nap);
            }
            "nap beside work" => {
                flow.sleep(DAY);
                flow.run_each((0..10).map(|n| act(n.to_string(), "ok")));
            }
            "until the past" => drop(flow.until(1_000)),
            "quickly" => {
                let nap = flow.sleep(Duration::from_millis(100));
                let manager = flow.wait_for::<Approval>("manager").after(nap);
                flow.run(Publish { approval: manager.outputs() });
            }
            "twice the same name" => {
                flow.wait_for::<Approval>("manager");
                flow.wait_for::<Veto>("manager");
            }
            "a rule without a time" => drop(flow.wait_for::<Approval>("manager").or_skip()),
            other => unreachable!("no play {other}"),
        }
        Ok(())
    }
}

fn app() -> App<Shared> {
    let app = App::new(|| async { Ok::<_, std::io::Error>(Stage::new()) }).workflow::<Play>();
    app.job::<Act>().job::<Publish>().job::<ApproveAhead>().signal::<Approval>().signal::<Veto>()
}

fn simulation() -> Simulation<Shared> {
    Simulation::new(app()).slots(1)
}

fn play(name: &str) -> Run {
    simulation().run(Play(name.to_owned())).unwrap()
}

/// The error of what must be refused, and its kind.
fn refused<T: std::fmt::Debug>(answer: gusher::Result<T>) -> (ErrorKind, String) {
    let error = answer.unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn a_workflow_waits_for_a_signal_and_what_follows_reads_what_it_carries() {
    let give = async |workflow: Handle| workflow.signal("manager", &approved("Ada")).await.map(drop);
    let run = simulation().at(5 * HOUR, give).run(Play("approval".into())).unwrap();
    assert_eq!(run.state(), WorkflowState::Succeeded);
    assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "Ada");
    assert!(run.elapsed() >= 5 * HOUR && run.elapsed() < 6 * HOUR, "{:?}", run.elapsed());
}

#[test]
fn a_signal_that_comes_early_is_kept_until_its_step_is_released() {
    let give = async |workflow: Handle| {
        assert_eq!(workflow.signal("manager", &approved("Ada")).await?, Signalled::Kept);
        assert_eq!(workflow.step("manager").await?.state, StepState::Waiting);
        Ok(())
    };
    let run = simulation().at(HOUR, give).run(Play("approval behind a draft".into())).unwrap();
    assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "Ada");
    assert!(run.elapsed() >= DAY && run.elapsed() < DAY + HOUR, "{:?}", run.elapsed());
}

#[test]
fn a_job_gives_a_signal_to_its_own_workflow() {
    let run = play("approved ahead");
    assert!(run.output::<ApproveAhead>("ApproveAhead", 0).unwrap(), "it is kept: its step has not been released");
    assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "a job");
}

#[test]
fn a_second_signal_is_refused_and_told_when_the_first_came() {
    let give = async |workflow: Handle| {
        workflow.signal("manager", &approved("Ada")).await?;
        let (kind, text) = refused(workflow.signal("manager", &approved("Bob")).await);
        assert!(kind == ErrorKind::Refused && text.contains("has been given already, at 20"), "{text}");
        Ok(())
    };
    for name in ["approval", "approval behind a draft"] {
        let run = simulation().at(HOUR, give).run(Play(name.into())).unwrap();
        assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "Ada", "{name}");
    }
}

#[test]
fn a_signal_that_nobody_waits_for_is_refused_with_what_would_be_right() {
    let give = async |workflow: Handle| {
        let (kind, text) = refused(workflow.signal("managr", &approved("Ada")).await);
        assert!(kind == ErrorKind::NotFound && text.contains("did you mean `manager`?"), "{text}");
        let (kind, text) = refused(workflow.signal("manager", &Veto).await);
        assert!(kind == ErrorKind::Usage && text.contains("waits for a signal of type `Approval`"), "{text}");
        let (kind, text) = refused(workflow.signal("Publish", &approved("Ada")).await);
        assert!(kind == ErrorKind::Usage && text.contains("a step of jobs and waits for no signal"), "{text}");
        let much = approved(&"x".repeat(256 * 1024));
        let (kind, text) = refused(workflow.signal("manager", &much).await);
        assert!(kind == ErrorKind::Usage && text.contains("at most 262144 are allowed"), "{text}");
        workflow.signal("manager", &approved("Ada")).await?;
        workflow.wait().await?;
        let (kind, text) = refused(workflow.signal("manager", &approved("Bob")).await);
        assert!(kind == ErrorKind::Refused && text.contains("already"), "{text}");
        Ok(())
    };
    simulation().at(HOUR, give).run(Play("approval".into())).unwrap();
}

#[test]
fn a_signal_for_a_workflow_that_was_cancelled_or_is_gone_is_refused() {
    let give = async |workflow: Handle| {
        workflow.cancel().await?;
        let (kind, text) = refused(workflow.signal("manager", &approved("Ada")).await);
        assert!(kind == ErrorKind::Refused && text.contains("`start-again` runs it anew"), "{text}");
        Ok(())
    };
    let run = simulation().at(HOUR, give).run(Play("approval".into())).unwrap();
    assert_eq!(run.state(), WorkflowState::Cancelled);
    let gone = gusher::WorkflowId::new(0, 0);
    let ask = async |client: Client| {
        assert_eq!(refused(client.signal(gone, "manager", &approved("Ada")).await).0, ErrorKind::NotFound);
        Ok(())
    };
    simulation().play(ask).unwrap();
}

#[test]
fn a_signal_that_does_not_come_in_time_fails_its_step() {
    let look = async |workflow: Handle| {
        let job = workflow.job("manager", 0).await?;
        assert_eq!((job.state, job.errors.len()), (JobState::Failed, 1));
        assert_eq!(job.errors[0].error, "the signal `manager` did not come within 3 d");
        assert_eq!(Some(job.errors[0].at), workflow.step("manager").await?.finished_at);
        let why = workflow.why().await?;
        assert!(why.causes[0].text.contains("it failed with: the signal `manager` did not come within 3 d"), "{why:?}");
        let (kind, text) = refused(workflow.signal("manager", &approved("Ada")).await);
        assert!(kind == ErrorKind::Refused && text.contains("`retry`"), "{text}");
        Ok(())
    };
    let run = simulation().at(4 * DAY, look).run(Play("in three days or not".into())).unwrap();
    assert_eq!((run.state(), run.ran("Publish")), (WorkflowState::Failed, 0));
    assert!(run.elapsed() >= 3 * DAY && run.elapsed() < 3 * DAY + HOUR, "{:?}", run.elapsed());
}

#[test]
fn one_that_timed_out_waits_anew_once_it_is_retried() {
    let retry = async |workflow: Handle| {
        assert_eq!(workflow.retry_failed(None).await?, 1);
        assert_eq!(workflow.job("manager", 0).await?.state, JobState::Deferred);
        Ok(())
    };
    let give = async |workflow: Handle| workflow.signal("manager", &approved("Ada")).await.map(drop);
    let play = Play("in three days or not".into());
    let run = simulation().at(4 * DAY, retry).at(6 * DAY, give).run(play).unwrap();
    assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "Ada");
}

#[test]
fn without_the_signal_it_is_skipped_or_goes_on_with_a_value_as_it_was_told() {
    let run = play("in three days or skip");
    assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "without anybody");
    let run = play("in three days or by default");
    assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "nobody");
    let give = async |workflow: Handle| workflow.signal("manager", &approved("Ada")).await.map(drop);
    let run = simulation().at(DAY, give).run(Play("in three days or by default".into())).unwrap();
    assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "Ada");
    assert!(run.elapsed() < 2 * DAY);
}

#[test]
fn edges_out_of_a_wait_are_those_of_any_step() {
    let run = play("alarm when nobody comes");
    assert_eq!((run.state(), run.ran("alarm"), run.ran("cleanup")), (WorkflowState::Failed, 1, 1));
    let give = async |workflow: Handle| workflow.signal("manager", &approved("Ada")).await.map(drop);
    let run = simulation().at(DAY, give).run(Play("alarm when nobody comes".into())).unwrap();
    assert_eq!((run.state(), run.ran("alarm"), run.ran("cleanup")), (WorkflowState::Succeeded, 0, 1));
}

#[test]
fn a_sleep_begins_with_what_it_comes_after_and_takes_no_slot() {
    let run = play("sleep");
    let started: Vec<Duration> = run.attempts().iter().map(|attempt| attempt.started).collect();
    assert!(started[1] - started[0] >= 2 * HOUR && started[1] - started[0] < 3 * HOUR, "{started:?}");
    assert!(play("two naps").elapsed() >= 2 * HOUR);
    let run = play("nap beside work");
    assert!(run.attempts().iter().all(|attempt| attempt.started < HOUR) && run.elapsed() >= DAY);
    assert!(play("until the past").elapsed() < HOUR);
}

#[test]
fn why_tells_how_the_signal_is_given_and_how_long_a_sleep_lasts() {
    let look = async |workflow: Handle| {
        let why = workflow.why().await?;
        let text = &why.causes[0].text;
        let send = format!("(send it with: signal {} manager '{{..}}')", workflow.id());
        assert!(text.starts_with("`Publish` waits for `manager`, which waits for the signal `manager`"), "{text}");
        assert!(text.contains(&send) && text.ends_with("; it fails in 2 d 23 h if nobody does"), "{text}");
        let job = workflow.why_job("manager", 0).await?;
        assert!(job.summary.ends_with("of `manager` waits") && job.causes[0].text.contains(&send), "{job:?}");
        let publish = workflow.why_step("Publish").await?;
        assert!(publish.causes[0].text.contains(&send), "{publish:?}");
        workflow.signal("manager", &approved("Ada")).await.map(drop)
    };
    simulation().at(HOUR, look).run(Play("in three days or not".into())).unwrap();
    let look = async |workflow: Handle| {
        let why = workflow.why().await?;
        assert!(why.causes[0].text.ends_with("`sleep`, which sleeps for 2 h, ends in 1 h"), "{why:?}");
        Ok(())
    };
    simulation().at(HOUR, look).run(Play("sleep".into())).unwrap();
}

#[test]
fn what_cannot_be_waited_for_is_refused_before_anything_runs() {
    let error = |name: &str| simulation().run(Play(name.into())).unwrap_err().to_string();
    assert!(error("twice the same name").contains("two steps are named `manager`"));
    assert!(error("a rule without a time").contains("has no `.timeout(..)`"));
    let unregistered = App::new(|| async { Ok::<_, std::io::Error>(Stage::new()) }).job::<Publish>();
    let error = Simulation::new(unregistered).run(Play("approval".into())).unwrap_err().to_string();
    assert!(error.contains("add .signal::<Approval>() to the App"), "{error}");
}

/// A client on a store, and a worker that stops with this.
struct Office {
    place: Place,
    client: Client,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<gusher::Result<()>>,
}

impl Office {
    async fn new(place: Place) -> Self {
        let client = app().client_on(place.store.clone());
        let worker = app().worker_on(place.store.clone(), WorkerOptions::default()).await.unwrap();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        Self { place, client, stop, worker }
    }

    async fn start(&self, name: &str) -> Handle {
        self.client.start(Play(name.into())).await.unwrap()
    }

    /// Waits until a step has come so far.
    async fn step_is(&self, workflow: &Handle, step: &str, state: StepState) {
        until(async || (workflow.step(step).await.unwrap().state == state).then_some(())).await;
    }

    async fn close(self) {
        self.stop.cancel();
        self.worker.await.unwrap().unwrap();
        self.place.check_at_rest().await;
    }
}

on_both! { Office::new, on Redis with 3 shard(s):
    a_real_worker_goes_on_with_a_signal_from_another_client()
    a_signal_before_the_nap_is_over_is_kept_by_the_store()
    a_workflow_that_waits_is_cancelled_started_again_and_deleted()
    a_thousand_workflows_wait_and_each_gets_its_own_answer()
}

async fn a_real_worker_goes_on_with_a_signal_from_another_client(office: Office) {
    let workflow = office.start("quickly").await;
    office.step_is(&workflow, "manager", StepState::Running).await;
    let warnings = office.client.doctor().await.unwrap().warnings;
    assert!(warnings.iter().all(|warning| !warning.contains("cannot run")), "nobody has to run it: {warnings:?}");
    let other = app().client_on(office.place.store.clone());
    assert_eq!(other.signal(workflow.id(), "manager", &approved("Ada")).await.unwrap(), Signalled::Settled);
    assert_eq!(workflow.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(workflow.job("Publish", 0).await.unwrap().output.unwrap().get(), "\"Ada\"");
    let job = workflow.job("manager", 0).await.unwrap();
    assert_eq!(job.output.unwrap().get(), r#"{"by":"Ada"}"#);
    assert!(job.worker.unwrap().starts_with("a signal from ") && job.finished_at.is_some());
    office.close().await;
}

async fn a_signal_before_the_nap_is_over_is_kept_by_the_store(office: Office) {
    let workflow = office.start("quickly").await;
    // The nap may be over by now: then it settles at once, and is read all the same.
    workflow.signal("manager", &approved("Ada")).await.unwrap();
    assert_eq!(workflow.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(workflow.job("Publish", 0).await.unwrap().output.unwrap().get(), "\"Ada\"");
    office.close().await;
}

async fn a_workflow_that_waits_is_cancelled_started_again_and_deleted(office: Office) {
    let workflow = office.start("approval").await;
    workflow.cancel().await.unwrap();
    assert_eq!(workflow.wait().await.unwrap().state, WorkflowState::Cancelled);
    let again = office.client.start_again(workflow.id(), Default::default()).await.unwrap();
    again.signal("manager", &approved("Ada")).await.unwrap();
    assert_eq!(again.wait().await.unwrap().state, WorkflowState::Succeeded);
    again.delete().await.unwrap();
    assert_eq!(refused(again.signal("manager", &approved("Bob")).await).0, ErrorKind::NotFound);
    office.close().await;
}

async fn a_thousand_workflows_wait_and_each_gets_its_own_answer(office: Office) {
    let mut workflows = Vec::new();
    for _ in 0..1_000 {
        workflows.push(office.start("approval").await);
    }
    for (number, workflow) in workflows.iter().enumerate() {
        workflow.signal("manager", &approved(&number.to_string())).await.unwrap();
    }
    for (number, workflow) in workflows.iter().enumerate() {
        assert_eq!(workflow.wait().await.unwrap().state, WorkflowState::Succeeded);
        let output = workflow.job("Publish", 0).await.unwrap().output.unwrap();
        assert_eq!(output.get(), format!("\"{number}\""));
    }
    office.close().await;
}
