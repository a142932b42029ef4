//! What an application does around its attempts, and before it enqueues.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gusher::prelude::*;
use gusher::testing::{AttemptEnd, Simulation};
use gusher::{AroundPerform, ErrorKind, JobState, Next, Performed, WorkflowState};
use support::House;
use support::act::{Act, Mendable, Shared, Stage, act};

const HOUR: Duration = Duration::from_secs(3_600);

/// Notes in the stage's log what it is around, and how that ended.
struct Note(&'static str);

impl AroundPerform<Shared> for Note {
    async fn around(&self, ctx: &Context<Shared>, next: Next<'_>) -> JobResult<Performed> {
        let Note(name) = self;
        ctx.state().add(format!("{name} begins"));
        let ended = next.run().await;
        ctx.state().add(match &ended {
            Ok(_) => format!("{name}: succeeded"),
            Err(error) if error.is_failure() => format!("{name}: failed: {error}"),
            Err(error) => format!("{name}: {error}"),
        });
        ended
    }
}

/// A function as a hook: it is called before the job, which runs unless that is an error.
struct Before<F>(F);

fn before<F: Fn(&Context<Shared>) -> JobResult<()> + Send + Sync + 'static>(hook: F) -> Before<F> {
    Before(hook)
}

impl<F: Fn(&Context<Shared>) -> JobResult<()> + Send + Sync + 'static> AroundPerform<Shared> for Before<F> {
    async fn around(&self, ctx: &Context<Shared>, next: Next<'_>) -> JobResult<Performed> {
        (self.0)(ctx)?;
        next.run().await
    }
}

/// An application whose jobs share this stage.
fn app(stage: &Shared) -> App<Shared> {
    let stage = stage.clone();
    App::new(move || {
        let stage = stage.clone();
        async move { Ok::<_, std::io::Error>(stage) }
    })
    .job::<Act>()
}

/// Plays one lone job in an application, and tells its log and what became of the job.
fn play(app: App<Shared>, stage: &Shared, does: &'static str) -> (Vec<String>, JobState, Option<String>) {
    let played = Simulation::new(app).play(async |client| client.enqueue(act("it", does)).await.map(drop)).unwrap();
    let mut jobs = played.enqueued::<Act>().unwrap();
    let job = jobs.remove(0);
    (stage.ran(), job.state, job.error)
}

#[test]
fn hooks_nest_in_the_order_in_which_they_were_registered() {
    let stage = Stage::new();
    let app = app(&stage).around_perform(Note("outer")).around_perform(Note("inner"));
    let (log, state, _) = play(app, &stage, "ok");
    assert_eq!(log, ["outer begins", "inner begins", "it", "inner: succeeded", "outer: succeeded"]);
    assert_eq!(state, JobState::Succeeded);
}

#[test]
fn a_hook_is_around_every_attempt_and_hears_of_errors_and_panics() {
    for (does, told) in [("fail", "outer: failed: it failed"), ("panic", "outer: failed: panicked: it panicked")] {
        let stage = Stage::new();
        let (log, state, _) = play(app(&stage).around_perform(Note("outer")), &stage, does);
        assert_eq!(log, ["outer begins", told].repeat(3), "three attempts");
        assert_eq!(state, JobState::Failed);
    }
}

#[test]
fn a_hook_hears_of_the_time_limit() {
    let stage = Stage::new();
    let app = app(&stage).job::<Slow>().around_perform(Note("outer"));
    let played = Simulation::new(app).play(async |client| client.enqueue(Slow).await.map(drop)).unwrap();
    let error = "timed out: the attempt took longer than 60s";
    assert_eq!(stage.ran(), ["outer begins".to_owned(), format!("outer: failed: {error}")]);
    assert_eq!(played.failures(), [("Slow", error)]);
}

/// Takes longer than it may.
#[derive(Serialize, Deserialize)]
struct Slow;

impl Job for Slow {
    const NAME: &str = "Slow";
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));
    const RETRY: Retry = Retry::never();
    type Output = ();
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<()> {
        std::future::pending().await
    }
}

#[test]
fn a_time_limit_counts_for_a_hook_that_hangs() {
    struct HangingHook;
    impl AroundPerform<Shared> for HangingHook {
        async fn around(&self, _: &Context<Shared>, _: Next<'_>) -> JobResult<Performed> {
            std::future::pending().await
        }
    }
    let app = app(&Stage::new()).job::<Slow>().around_perform(HangingHook);
    let played = Simulation::new(app).play(async |client| client.enqueue(Slow).await.map(drop)).unwrap();
    assert_eq!(played.failures(), [("Slow", "timed out: the attempt took longer than 60s")]);
}

#[test]
fn a_job_whose_hook_does_not_run_it_ends_with_the_hooks_error() {
    let stage = Stage::new();
    let closed = app(&stage).around_perform(before(|_| Err(JobError::fatal("closed for the night"))));
    let (log, state, error) = play(closed, &stage, "ok");
    assert_eq!((log.len(), state, error.as_deref()), (0, JobState::Failed, Some("closed for the night")));

    let stage = Stage::new();
    let once = Mutex::new(true);
    let postponed = app(&stage).around_perform(before(move |ctx| {
        assert_eq!(ctx.attempt(), 1, "to be postponed costs no attempt");
        if std::mem::take(&mut *once.lock().unwrap()) { Err(JobError::postpone(HOUR)) } else { Ok(()) }
    }));
    let (log, state, _) = play(postponed, &stage, "ok");
    assert_eq!((log, state), (vec!["it".to_owned()], JobState::Succeeded));
}

#[test]
fn a_job_whose_hook_fails_afterwards_has_failed() {
    /// Commits what the job has done.
    struct Commit;
    impl AroundPerform<Shared> for Commit {
        async fn around(&self, _: &Context<Shared>, next: Next<'_>) -> JobResult<Performed> {
            let _performed = next.run().await?;
            Err(JobError::fatal("the transaction could not be committed"))
        }
    }
    let stage = Stage::new();
    let (log, state, error) = play(app(&stage).around_perform(Commit), &stage, "ok");
    assert_eq!((log, state), (vec!["it".to_owned()], JobState::Failed));
    assert_eq!(error.as_deref(), Some("the transaction could not be committed"));
}

#[test]
fn a_hook_that_panics_fails_its_attempt_alone() {
    let stage = Stage::new();
    let app = app(&stage).around_perform(before(|ctx| match ctx.attempt() {
        1 => panic!("the hook panicked"),
        _ => Ok(()),
    }));
    let (log, state, _) = play(app, &stage, "ok");
    assert_eq!((log, state), (vec!["it".to_owned()], JobState::Succeeded));
}

#[test]
fn a_hook_sees_what_it_is_around_and_logs_into_the_jobs_record() {
    let stage = Stage::new();
    let app = app(&stage).around_perform(before(|ctx| {
        let key = ctx.idempotency_key();
        assert!(key.ends_with("/0/0/0") && key.starts_with(&ctx.workflow_id().to_string()), "{key}");
        let (name, step, job, index) = (ctx.workflow_name(), ctx.step(), ctx.job_type(), ctx.index());
        ctx.log(format!("{name}, {step}, {job} #{index}, attempt {}", ctx.attempt()));
        Ok(())
    }));
    let run = Simulation::new(app).run(Named).unwrap();
    assert_eq!(run.attempts()[0].logs, ["Named, the step, Act #0, attempt 1"]);
}

#[derive(Serialize, Deserialize)]
struct Named;

impl Workflow for Named {
    const NAME: &str = "Named";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(act("it", "ok")).named("the step");
        Ok(())
    }
}

#[test]
fn a_source_has_its_hooks_like_any_job() {
    #[derive(Serialize, Deserialize)]
    struct Rows {
        file: std::path::PathBuf,
    }
    impl Workflow for Rows {
        const NAME: &str = "Rows";
        fn configure(&self, flow: &Flow) -> gusher::Result<()> {
            flow.expand(Mendable { file: self.file.clone() });
            Ok(())
        }
    }
    let (stage, folder) = (Stage::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("names");
    std::fs::write(&file, "one\ntwo").unwrap();
    let app = app(&stage).source::<Mendable>().around_perform(Note("hook"));
    let run = Simulation::new(app).slots(1).run(Rows { file }).unwrap();
    assert_eq!(run.state(), WorkflowState::Succeeded);
    let log = stage.ran();
    assert_eq!(log.iter().filter(|line| *line == "hook begins").count(), 4, "a source and three rows: {log:?}");
    assert_eq!(log[..2], ["hook begins", "hook: succeeded"], "the source comes first");
}

tokio::task_local! {
    static TENANT: &'static str;
}

/// Tells for whom it works.
#[derive(Serialize, Deserialize)]
struct ForWhom;

impl Job for ForWhom {
    const NAME: &str = "ForWhom";
    type Output = String;
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<String> {
        tokio::task::yield_now().await;
        Ok(TENANT.get().to_owned())
    }
}

#[test]
fn a_hook_may_set_a_task_local_around_the_job() {
    struct ForAcme;
    impl<S: Send + Sync + 'static> AroundPerform<S> for ForAcme {
        async fn around(&self, _: &Context<S>, next: Next<'_>) -> JobResult<Performed> {
            TENANT.scope("acme", next.run()).await
        }
    }
    let app = app(&Stage::new()).job::<ForWhom>().around_perform(ForAcme);
    let played = Simulation::new(app).play(async |client| client.enqueue(ForWhom).await.map(drop)).unwrap();
    assert_eq!(played.enqueued::<ForWhom>().unwrap()[0].output.as_deref(), Some("acme"));
}

#[test]
fn a_hook_hears_that_its_job_was_told_to_stop_and_what_it_makes_of_that_does_not_count() {
    /// Ends every failure with an error of its own.
    struct Renames;
    impl AroundPerform<Shared> for Renames {
        async fn around(&self, ctx: &Context<Shared>, next: Next<'_>) -> JobResult<Performed> {
            next.run().await.map_err(|error| {
                ctx.state().add(if error.is_failure() { "a failure" } else { "no failure" });
                JobError::fatal("the hook's own")
            })
        }
    }
    let stage = Stage::new();
    let simulation = Simulation::new(app(&stage).around_perform(Renames));
    let run = simulation.at(HOUR, async |workflow| workflow.cancel().await).run(Hangs).unwrap();
    assert_eq!((run.state(), run.job_state("Act", 0).unwrap()), (WorkflowState::Cancelled, JobState::Cancelled));
    assert_eq!(
        (stage.ran(), run.attempts()[0].end.clone()),
        (vec!["no failure".to_owned()], Some(AttemptEnd::Stopped))
    );
}

#[derive(Serialize, Deserialize)]
struct Hangs;

impl Workflow for Hangs {
    const NAME: &str = "Hangs";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(act("it", "hang"));
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0} has left")]
struct HasLeft(String);

/// An application that enqueues nothing for "bob", and notes what it was asked.
fn choosy(asked: &Arc<Mutex<Vec<String>>>) -> App<Shared> {
    let asked = asked.clone();
    app(&Stage::new()).before_enqueue(move |job| {
        let (job_type, queue, priority) = (job.job_type, job.queue, job.priority);
        asked.lock().unwrap().push(format!("{job_type} into {queue}, {priority}, {:?}: {}", job.due, job.parameters));
        if job.parameters.contains("bob") {
            return Err(HasLeft("bob".to_owned()).into());
        }
        Ok(())
    })
}

#[tokio::test]
async fn an_application_is_asked_before_each_lone_job_and_may_refuse_it() {
    let (house, asked) = (House::new(), Arc::default());
    let client = house.client(&choosy(&asked));
    client.enqueue(act("ada", "ok")).queue("urgent").priority(5).at(4_000_000_000_000).await.unwrap();
    let error = client.enqueue(act("bob", "ok")).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Refused, "Act is not enqueued: bob has left"));
    assert_eq!(error.downcast_ref::<HasLeft>().unwrap().0, "bob");

    let error = client.enqueue_all(["eve", "bob"].map(|name| act(name, "ok"))).await.unwrap_err();
    assert!(error.is::<HasLeft>());
    assert_eq!(
        *asked.lock().unwrap(),
        [
            r#"Act into urgent, 5, Some(4000000000000): {"name":"ada","does":"ok"}"#,
            r#"Act into default, 0, None: {"name":"bob","does":"ok"}"#,
            r#"Act into default, 0, None: {"name":"eve","does":"ok"}"#,
            r#"Act into default, 0, None: {"name":"bob","does":"ok"}"#,
        ]
    );
    let total: u64 = client.lanes().await.unwrap().iter().map(|lane| lane.jobs.total).sum();
    assert_eq!(total, 1, "only ada's");
}

#[tokio::test]
async fn a_job_that_is_refused_within_a_transaction_leaves_the_transaction_as_it_was() {
    let (house, asked) = (House::new(), Arc::default());
    let client = house.client(&choosy(&asked));
    let mut connection = rusqlite::Connection::open(house.folder.path().join("gusher.db")).unwrap();
    let order = connection.transaction().unwrap();
    client.enqueue(act("ada", "ok")).within(&order).unwrap();
    assert!(client.enqueue(act("bob", "ok")).within(&order).unwrap_err().is::<HasLeft>());
    order.commit().unwrap();
    assert_eq!(client.lanes().await.unwrap()[0].jobs.total, 1);
}
