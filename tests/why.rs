//! `why` names the true cause: each situation is staged with real workers, in a file and on a Redis server, and asked about.

#[macro_use]
#[path = "support/place.rs"]
mod place;
#[path = "servers/mod.rs"]
mod servers;
mod support;

use std::time::Duration;

use gusher::prelude::*;
use gusher::store::{RetryFailed, Session, Tick};
use gusher::{CancellationToken, CauseKind, Handle, JobState, Limit, Pausable, StepState, Why, WorkerOptions};
use place::Place;
use support::act::{Act, Shared, Stage, act};
use support::until::until;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Of which one runs at a time.
#[derive(Serialize, Deserialize)]
struct Scarce;
impl Job for Scarce {
    const NAME: &str = "Scarce";
    const LIMIT: Limit = Limit::at_once(1);
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        ctx.state().at_gate.add_permits(1);
        ctx.state().gate.acquire().await?.forget();
        Ok(())
    }
}

/// Emits two rows, and reads on until the test lets it end.
#[derive(Serialize, Deserialize)]
struct LongFile;
impl Source for LongFile {
    const NAME: &str = "LongFile";
    type Emits = Act;
    type State = Shared;
    async fn produce(self, ctx: &Context<Shared>, rows: &mut Emitter<Act>) -> JobResult<()> {
        rows.emit(act("one", "ok")).await?;
        rows.emit(act("two", "ok")).await?;
        ctx.state().at_gate.add_permits(1);
        ctx.state().gate.acquire().await?.forget();
        Ok(())
    }
}

/// A file that is not there.
#[derive(Serialize, Deserialize)]
struct MissingFile;
impl Source for MissingFile {
    const NAME: &str = "MissingFile";
    type Emits = Act;
    type State = Shared;
    async fn produce(self, _: &Context<Shared>, _: &mut Emitter<Act>) -> JobResult<()> {
        Err(JobError::fatal("the supplier's server answered 404"))
    }
}

#[derive(Serialize, Deserialize)]
struct Approval;
impl Signal for Approval {
    const NAME: &str = "Approval";
}

/// What a test stages, by its name.
#[derive(Serialize, Deserialize)]
struct Play(String);
impl Workflow for Play {
    const NAME: &str = "Play";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let report = || flow.run(act("report", "ok")).named("report");
        let rows = |does: &'static str, count: u32| {
            flow.run_each((0..count).map(move |row| act(row.to_string(), does))).named("rows")
        };
        match self.0.as_str() {
            "nobody knows it" => _ = report().after(rows("ok", 3).queue("imports")),
            "it runs" => _ = report().after(rows("wait", 2)),
            "it is tried again" => {
                _ = report().after(rows("fail", 2).retry(Retry::every(DAY).attempts(3)));
            }
            "it is delayed" => _ = report().after(rows("ok", 2).delay(DAY)),
            "somebody must approve" => _ = report().after(flow.wait_for::<Approval>("manager").timeout(3 * DAY)),
            "it sleeps" => _ = report().after(flow.sleep(DAY)),
            "one at a time" => _ = report().after(rows("wait", 3).max_in_flight(1)),
            "one of its type at a time" => {
                _ = report().after(flow.run_each((0..3).map(|_| Scarce)).named("rows"));
            }
            "the file is long" => _ = report().after(flow.expand(LongFile).named("rows")),
            "the file is missing" => _ = report().after(flow.expand(MissingFile).named("rows")),
            "some rows are bad" => {
                let mixed = (0..5).map(|row| act(row.to_string(), if row % 2 == 0 { "ok" } else { "fatal" }));
                _ = report().after(flow.run_each(mixed).named("rows"));
            }
            "some bad rows are tolerated" => {
                let mixed = (0..4).map(|row| act(row.to_string(), if row == 0 { "fatal" } else { "ok" }));
                _ = report().after(flow.run_each(mixed).named("rows").tolerate(Tolerate::Jobs(1)));
            }
            "it fails fast" => {
                let rows = [act("long", "wait"), act("bad", "fatal"), act("late", "ok")];
                _ = report().after(flow.run_each(rows).named("rows").max_in_flight(2).fail_fast());
            }
            "it is far behind" => {
                let checked = flow.run(act("checked", "ok")).named("checked").after(rows("wait", 1));
                let loaded = flow.run(act("loaded", "ok")).named("loaded").after(checked);
                _ = report().after(loaded);
            }
            "nobody needs the alarm" => {
                _ = flow.run(act("alarm", "ok")).named("alarm").after_failure(rows("ok", 1));
            }
            "nobody approved in time" => {
                let manager = flow.wait_for::<Approval>("manager").timeout(Duration::from_millis(1));
                _ = report().after(manager);
            }
            other => unreachable!("nobody stages {other}"),
        }
        Ok(())
    }
}

fn app(stage: &Shared) -> App<Shared> {
    let stage = stage.clone();
    let made = move || {
        let stage = stage.clone();
        async move { Ok::<_, std::io::Error>(stage) }
    };
    let app = App::new(made).workflow::<Play>().job::<Act>().job::<Scarce>().signal::<Approval>();
    app.source::<LongFile>().source::<MissingFile>()
}

/// Another program, which knows none of it.
fn stranger() -> App {
    #[derive(Serialize, Deserialize)]
    struct Other;
    impl Job for Other {
        const NAME: &str = "Other";
        const QUEUE: &str = "imports";
        type Output = ();
        type State = ();
        async fn perform(self, _: &Context) -> JobResult<()> {
            Ok(())
        }
    }
    App::stateless().job::<Other>()
}

struct Theatre {
    place: Place,
    stage: Shared,
    client: Client,
    stop: CancellationToken,
    workers: Vec<tokio::task::JoinHandle<gusher::Result<()>>>,
}

impl Theatre {
    async fn new(place: Place) -> Self {
        let stage = Stage::new();
        let client = app(&stage).client_on(place.store.clone());
        Self { place, stage, client, stop: CancellationToken::new(), workers: Vec::new() }
    }

    async fn works<S: Send + Sync + 'static>(&mut self, app: App<S>) {
        let options = WorkerOptions { slots: 2, ..WorkerOptions::default() };
        let worker = app.worker_on(self.place.store.clone(), options).await.unwrap();
        self.workers.push(tokio::spawn(worker.run(self.stop.clone())));
    }

    async fn start(&self, play: &str) -> Handle {
        self.client.start(Play(play.into())).await.unwrap()
    }

    /// With a worker at work.
    async fn plays(&mut self, play: &str) -> Handle {
        self.works(app(&self.stage)).await;
        self.start(play).await
    }

    /// Whoever waits at the gate may go on, and all comes to its end.
    async fn close(self) {
        self.stage.gate.add_permits(1_000);
        self.stop.cancel();
        for worker in self.workers {
            worker.await.unwrap().unwrap();
        }
        assert_eq!(self.place.store.doctor().await.unwrap().findings, Vec::<String>::new());
    }
}

/// Waits until a step has come so far.
async fn step_is(run: &Handle, step: &str, state: StepState) {
    until(async || (run.step(step).await.unwrap().state == state).then_some(())).await;
}

/// That what keeps the report is the only cause, is of this kind, and is about this step; its sentence.
async fn keeps_the_report(run: &Handle, kind: CauseKind, step: &str) -> String {
    let why = run.why_step("report").await.unwrap();
    assert_eq!(why.causes.len(), 1, "{why:?}");
    let cause = why.causes.into_iter().next().unwrap();
    assert_eq!(cause.step.as_deref(), Some(step), "{cause:?}");
    assert!(cause.kinds.contains(&kind), "{cause:?}");
    assert_eq!(run.why().await.unwrap().causes[0].kinds, cause.kinds, "asked about the workflow it says the same");
    cause.text
}

fn says(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "it does not say `{words}`: {text}");
    }
}

fn kinds(why: &Why) -> Vec<CauseKind> {
    why.causes.iter().flat_map(|cause| cause.kinds.clone()).collect()
}

on_both! { Theatre::new, on Redis with 2 shard(s):
    without_a_worker_it_names_the_queue_and_the_type()
    beside_a_worker_of_another_program_it_says_that_this_one_does_not_know_the_type()
    of_jobs_that_run_it_says_how_many_and_where()
    of_jobs_that_are_tried_again_it_says_when_and_after_what_error()
    of_a_delay_it_says_when_it_ends()
    of_a_signal_it_says_how_it_is_given_and_what_happens_if_nobody_does()
    of_a_signal_that_nobody_gave_in_time_it_says_so()
    of_a_sleep_it_says_when_it_ends()
    at_the_limit_of_a_step_it_names_that()
    at_the_limit_of_a_type_it_names_that_and_who_has_its_permits()
    of_a_paused_queue_it_says_what_to_do()
    of_a_paused_type_it_says_what_to_do()
    of_a_paused_workflow_it_says_what_to_do()
    of_a_workflow_that_is_being_cancelled_it_says_what_still_runs()
    of_a_step_that_was_cancelled_it_says_with_what()
    of_rows_that_failed_it_says_how_many_with_what_error_and_that_retry_is_waited_for()
    of_a_repair_under_way_it_says_that_the_next_tick_goes_on_with_it()
    of_a_step_that_fails_fast_it_says_that_the_rest_is_cancelled()
    of_failures_that_are_tolerated_it_says_so()
    of_a_source_that_failed_it_tells_its_error()
    of_a_source_that_still_reads_it_says_that_it_runs()
    of_a_step_far_behind_it_names_the_way_to_the_cause()
    of_a_step_that_was_not_needed_it_names_the_edge()
    of_a_job_that_was_given_up_it_says_that_it_was_skipped()
    of_a_batch_that_is_held_open_it_says_so()
    of_a_batch_that_was_abandoned_it_says_how_it_goes_on()
    of_a_batch_that_is_closed_it_says_what_its_jobs_wait_for()
    of_a_batch_around_others_it_names_those_that_it_waits_for()
    of_a_batch_around_others_it_names_those_that_did_not_succeed()
}

async fn without_a_worker_it_names_the_queue_and_the_type(theatre: Theatre) {
    let run = theatre.start("nobody knows it").await;
    let text = keeps_the_report(&run, CauseKind::NoWorker, "rows").await;
    says(&text, &["`report` waits for", "3 of 3 jobs", "queue `imports` has no live worker that knows `Act`"]);
    theatre.close().await;
}

async fn beside_a_worker_of_another_program_it_says_that_this_one_does_not_know_the_type(mut theatre: Theatre) {
    theatre.works(stranger()).await;
    let run = theatre.start("nobody knows it").await;
    until(async || (!theatre.place.store.workers(9).await.unwrap().is_empty()).then_some(())).await;
    let text = keeps_the_report(&run, CauseKind::NoWorker, "rows").await;
    says(&text, &["no live worker that knows `Act` (one that does not takes from it)"]);
    theatre.close().await;
}

async fn of_jobs_that_run_it_says_how_many_and_where(mut theatre: Theatre) {
    let run = theatre.plays("it runs").await;
    theatre.stage.wait_for(2).await;
    let text = keeps_the_report(&run, CauseKind::Running, "rows").await;
    says(&text, &["2 of 2 jobs unsettled, 2 running on ", &format!(":{}", std::process::id())]);
    theatre.close().await;
}

async fn of_jobs_that_are_tried_again_it_says_when_and_after_what_error(mut theatre: Theatre) {
    let run = theatre.plays("it is tried again").await;
    until(async || (run.step("rows").await.unwrap().jobs.retrying == 2).then_some(())).await;
    let text = keeps_the_report(&run, CauseKind::Retrying, "rows").await;
    says(&text, &["2 retrying, next in "]);
    let why = run.why_job("rows", 1).await.unwrap();
    says(&why.summary, &["waits for attempt 2", "the last attempt failed with: 1 failed"]);
    theatre.close().await;
}

async fn of_a_delay_it_says_when_it_ends(mut theatre: Theatre) {
    let run = theatre.plays("it is delayed").await;
    let text = keeps_the_report(&run, CauseKind::Delayed, "rows").await;
    says(&text, &["its delay of 1 d ends in "]);
    theatre.close().await;
}

async fn of_a_signal_it_says_how_it_is_given_and_what_happens_if_nobody_does(mut theatre: Theatre) {
    let run = theatre.plays("somebody must approve").await;
    let text = keeps_the_report(&run, CauseKind::Signal, "manager").await;
    says(&text, &["waits for the signal `manager`", &format!("signal {} manager", run.id()), "; it fails in "]);
    theatre.close().await;
}

async fn of_a_signal_that_nobody_gave_in_time_it_says_so(mut theatre: Theatre) {
    let run = theatre.plays("nobody approved in time").await;
    step_is(&run, "manager", StepState::Failed).await;
    let text = keeps_the_report(&run, CauseKind::Failed, "manager").await;
    says(&text, &["`manager`, which failed", "waiting for `retry`"]);
    theatre.close().await;
}

async fn of_a_sleep_it_says_when_it_ends(mut theatre: Theatre) {
    let run = theatre.plays("it sleeps").await;
    let text = keeps_the_report(&run, CauseKind::Delayed, "sleep").await;
    says(&text, &["sleeps for 1 d, ends in "]);
    theatre.close().await;
}

async fn at_the_limit_of_a_step_it_names_that(mut theatre: Theatre) {
    let run = theatre.plays("one at a time").await;
    theatre.stage.wait_for(1).await;
    let text = keeps_the_report(&run, CauseKind::AtLimit, "rows").await;
    says(&text, &["2 ready, but at most 1 of its jobs may run at once (`max_in_flight`)"]);
    theatre.close().await;
}

async fn at_the_limit_of_a_type_it_names_that_and_who_has_its_permits(mut theatre: Theatre) {
    let run = theatre.plays("one of its type at a time").await;
    theatre.stage.wait_for(1).await;
    let text = keeps_the_report(&run, CauseKind::AtLimit, "rows").await;
    says(&text, &["waits for a permit of type `Scarce`: 1 of 1 are taken"]);
    theatre.close().await;
}

async fn of_a_paused_queue_it_says_what_to_do(mut theatre: Theatre) {
    theatre.client.pause(Pausable::Queue("imports".into())).await.unwrap();
    let run = theatre.plays("nobody knows it").await;
    let text = keeps_the_report(&run, CauseKind::Paused, "rows").await;
    says(&text, &["queue `imports` is paused: nothing of it is handed out until `resume`"]);
    theatre.close().await;
}

async fn of_a_paused_type_it_says_what_to_do(mut theatre: Theatre) {
    theatre.client.pause(Pausable::Type("Act".into())).await.unwrap();
    let run = theatre.plays("nobody knows it").await;
    let text = keeps_the_report(&run, CauseKind::Paused, "rows").await;
    says(&text, &["type `Act` is paused: nothing of it is handed out until `resume`"]);
    theatre.close().await;
}

async fn of_a_paused_workflow_it_says_what_to_do(theatre: Theatre) {
    let run = theatre.start("nobody knows it").await;
    run.pause().await.unwrap();
    let why = run.why_step("report").await.unwrap();
    assert!(kinds(&why).contains(&CauseKind::Paused), "{why:?}");
    says(&why.causes[0].text, &["the workflow is paused: nothing of it is handed out until `resume`"]);
    theatre.close().await;
}

async fn of_a_workflow_that_is_being_cancelled_it_says_what_still_runs(mut theatre: Theatre) {
    let run = theatre.plays("it runs").await;
    theatre.stage.wait_for(2).await;
    run.cancel().await.unwrap();
    let why = run.why().await.unwrap();
    assert!(kinds(&why).contains(&CauseKind::Cancelling) && kinds(&why).contains(&CauseKind::Running), "{why:?}");
    says(&why.causes[0].text, &["being cancelled", "what runs has ten seconds to come to its end"]);
    theatre.close().await;
}

async fn of_a_step_that_was_cancelled_it_says_with_what(theatre: Theatre) {
    let run = theatre.start("nobody knows it").await;
    run.cancel().await.unwrap();
    let why = run.why_step("report").await.unwrap();
    assert_eq!(kinds(&why), [CauseKind::Cancelled]);
    says(&why.causes[0].text, &["`report` was cancelled"]);
    theatre.close().await;
}

async fn of_rows_that_failed_it_says_how_many_with_what_error_and_that_retry_is_waited_for(mut theatre: Theatre) {
    let run = theatre.plays("some rows are bad").await;
    step_is(&run, "rows", StepState::Failed).await;
    let text = keeps_the_report(&run, CauseKind::Failed, "rows").await;
    says(&text, &["2 of 5 jobs failed, it tolerates 0", "waiting for `retry`", "failed for good"]);
    theatre.close().await;
}

async fn of_a_repair_under_way_it_says_that_the_next_tick_goes_on_with_it(mut theatre: Theatre) {
    let run = theatre.plays("some rows are bad").await;
    step_is(&run, "rows", StepState::Failed).await;
    theatre.stop.cancel();
    for worker in theatre.workers.drain(..) {
        worker.await.unwrap().unwrap();
    }
    // As a program leaves it that is killed right after it has asked for the retry.
    let session = Session::new(DAY.as_millis() as i64);
    theatre.place.store.join(session.clone()).await.unwrap();
    let retry =
        RetryFailed { session: session.id, command: 1, workflow: run.id(), step: None, mended: None, discard: false };
    assert!(theatre.place.store.retry(retry).await.unwrap().more);
    let text = keeps_the_report(&run, CauseKind::Chore, "rows").await;
    says(&text, &["the chore `retry` is under way; the next tick of any worker or client goes on with it"]);
    while theatre.place.store.tick(Tick { lease: 15_000 }).await.unwrap().more {}
    assert_eq!(run.step("rows").await.unwrap().jobs.open(), 2);
    theatre.close().await;
}

async fn of_a_step_that_fails_fast_it_says_that_the_rest_is_cancelled(mut theatre: Theatre) {
    let run = theatre.plays("it fails fast").await;
    theatre.stage.wait_for(1).await;
    until(async || (run.step("rows").await.unwrap().jobs.cancelled == 1).then_some(())).await;
    until(async || (!kinds(&run.why_step("rows").await.unwrap()).contains(&CauseKind::Chore)).then_some(())).await;
    let text = keeps_the_report(&run, CauseKind::Cancelling, "rows").await;
    says(&text, &["it fails fast: the rest is cancelled, what runs has ten seconds to come to its end"]);
    theatre.close().await;
}

async fn of_failures_that_are_tolerated_it_says_so(mut theatre: Theatre) {
    let run = theatre.plays("some bad rows are tolerated").await;
    run.wait().await.unwrap();
    let why = run.why_step("rows").await.unwrap();
    assert_eq!(kinds(&why), []);
    says(&why.summary, &["`rows` has succeeded: 4 jobs", "1 of them failed, it tolerates 1"]);
    theatre.close().await;
}

async fn of_a_source_that_failed_it_tells_its_error(mut theatre: Theatre) {
    let run = theatre.plays("the file is missing").await;
    step_is(&run, "MissingFile", StepState::Failed).await;
    let text = keeps_the_report(&run, CauseKind::Failed, "MissingFile").await;
    says(&text, &["the source `MissingFile`, which failed", "the supplier's server answered 404"]);
    theatre.close().await;
}

async fn of_a_source_that_still_reads_it_says_that_it_runs(mut theatre: Theatre) {
    let run = theatre.plays("the file is long").await;
    theatre.stage.wait_for(1).await;
    let text = keeps_the_report(&run, CauseKind::Running, "LongFile").await;
    says(&text, &["the source `LongFile`", "1 running"]);
    theatre.close().await;
}

async fn of_a_step_far_behind_it_names_the_way_to_the_cause(mut theatre: Theatre) {
    let run = theatre.plays("it is far behind").await;
    theatre.stage.wait_for(1).await;
    let text = keeps_the_report(&run, CauseKind::Running, "rows").await;
    says(&text, &["`report` waits for `loaded`, that for `checked`, that for `rows`"]);
    theatre.close().await;
}

async fn of_a_step_that_was_not_needed_it_names_the_edge(mut theatre: Theatre) {
    let run = theatre.plays("nobody needs the alarm").await;
    run.wait().await.unwrap();
    let why = run.why_step("alarm").await.unwrap();
    assert_eq!(kinds(&why), [CauseKind::Skipped]);
    says(&why.causes[0].text, &["`alarm` runs only after a failure of `rows`, which succeeded"]);
    theatre.close().await;
}

async fn of_a_job_that_was_given_up_it_says_that_it_was_skipped(mut theatre: Theatre) {
    let run = theatre.plays("some rows are bad").await;
    step_is(&run, "rows", StepState::Failed).await;
    run.discard_failed(Some("rows")).await.unwrap();
    let why = run.why_job("rows", 1).await.unwrap();
    assert_eq!(why.state, JobState::Skipped.as_str());
    says(&why.summary, &["job #1 of `rows` was skipped"]);
    theatre.close().await;
}

/// A batch with a job, and with the report as its callback.
async fn batch(theatre: &mut Theatre, does: &str) -> gusher::OpenBatch {
    theatre.works(app(&theatre.stage)).await;
    let report = theatre.client.batch("nightly").on_success(act("report", "ok")).with(|report| report.named("report"));
    let batch = report.open().await.unwrap();
    batch.add(act("row", does)).await.unwrap();
    batch
}

async fn of_a_batch_that_is_held_open_it_says_so(mut theatre: Theatre) {
    let batch = batch(&mut theatre, "ok").await;
    until(async || (batch.step("Act").await.unwrap().jobs.succeeded == 1).then_some(())).await;
    let text = keeps_the_report(&batch, CauseKind::Held, "batch").await;
    says(&text, &["`report` waits for `batch`, which is held open"]);
    batch.close().await.unwrap();
    batch.wait().await.unwrap();
    theatre.close().await;
}

async fn of_a_batch_that_was_abandoned_it_says_how_it_goes_on(mut theatre: Theatre) {
    let batch = batch(&mut theatre, "ok").await;
    let run = theatre.client.find_batch(batch.id()).await.unwrap();
    drop(batch);
    step_is(&run, "batch", StepState::Failed).await;
    let text = keeps_the_report(&run, CauseKind::Failed, "batch").await;
    says(&text, &["`batch`, which failed: it was abandoned", &format!("`discard {} batch`", run.id())]);
    theatre.close().await;
}

async fn of_a_batch_that_is_closed_it_says_what_its_jobs_wait_for(mut theatre: Theatre) {
    let batch = batch(&mut theatre, "wait").await;
    batch.close().await.unwrap();
    theatre.stage.wait_for(1).await;
    let text = keeps_the_report(&batch, CauseKind::Running, "Act").await;
    says(&text, &["`report` waits for `Act`"]);
    theatre.close().await;
}

/// A closed batch with one within it, which has one job and is closed.
async fn batch_around(theatre: &mut Theatre, does: &str) -> (gusher::OpenBatch, gusher::OpenBatch) {
    let outer = batch(theatre, "ok").await;
    let inner = outer.batch("supplier 7").on_success(act("inner report", "ok")).open().await.unwrap();
    inner.add(act("inner row", does)).await.unwrap();
    outer.close().await.unwrap();
    (outer, inner)
}

async fn of_a_batch_around_others_it_names_those_that_it_waits_for(mut theatre: Theatre) {
    let (outer, inner) = batch_around(&mut theatre, "ok").await;
    until(async || (outer.step("Act").await.unwrap().jobs.succeeded == 1).then_some(())).await;
    let text = keeps_the_report(&outer, CauseKind::Workflow, "batches").await;
    let which =
        format!("`report` waits for `batches`, which waits for the batch within this one: `supplier 7` {}", inner.id());
    says(&text, &[&format!("{which} (running, held open)")]);
    let second = inner.batch("its files").open().await.unwrap();
    inner.close().await.unwrap();
    let why = inner.why().await.unwrap();
    says(&why.causes[0].text, &["batches", "the batch within this one: `its files`", "held open"]);
    second.close().await.unwrap();
    outer.wait().await.unwrap();
    theatre.close().await;
}

async fn of_a_batch_around_others_it_names_those_that_did_not_succeed(mut theatre: Theatre) {
    let (outer, inner) = batch_around(&mut theatre, "fatal").await;
    inner.close().await.unwrap();
    outer.wait().await.unwrap();
    let text = keeps_the_report(&outer, CauseKind::Failed, "batches").await;
    let which = format!(
        "`batches`, which failed: the batch within this one did not succeed: `supplier 7` {} (failed)",
        inner.id()
    );
    says(&text, &[&which, "`retry` runs again what failed in such a batch"]);
    theatre.close().await;
}
