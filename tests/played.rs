//! Code that enqueues lone jobs, played in virtual time: what it has enqueued, and what became of that.

mod support;

use std::time::{Duration, Instant};

use gusher::prelude::*;
use gusher::testing::{AttemptEnd, Simulation};
use gusher::{ErrorKind, JobState, WorkflowState};
use support::act::{Act, Shared, Stage, act};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Arrives at the fourth attempt, hours later.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SendMail {
    to: String,
}

impl Job for SendMail {
    const NAME: &str = "SendMail";
    const QUEUE: &str = "mail";
    const RETRY: Retry = Retry::every(HOUR).attempts(4);
    type Output = u32;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<u32> {
        if self.to.is_empty() {
            return Err(JobError::fatal("to nobody"));
        }
        if ctx.attempt() < 4 {
            return Err(JobError::new("the server is busy"));
        }
        ctx.state().add(format!("mail to {}", self.to));
        Ok(ctx.attempt())
    }
}

/// Enqueues a mail for each reader, and tells whether one has come.
#[derive(Serialize, Deserialize)]
struct Newsletter {
    readers: Vec<String>,
}

impl Job for Newsletter {
    const NAME: &str = "Newsletter";
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        for to in self.readers {
            ctx.enqueue(SendMail { to }).priority(-5).await?;
        }
        Ok(())
    }
}

/// A workflow of one job.
#[derive(Serialize, Deserialize)]
struct Once(String);

impl Workflow for Once {
    const NAME: &str = "Once";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(act(self.0.clone(), "ok"));
        Ok(())
    }
}

fn simulation(stage: &Shared) -> Simulation<Shared> {
    let stage = stage.clone();
    let app = App::new(move || {
        let stage = stage.clone();
        async move { Ok::<_, std::io::Error>(stage) }
    });
    Simulation::new(app.job::<SendMail>().job::<Newsletter>().job::<Act>().workflow::<Once>()).queue("reminders")
}

fn mail(to: &str) -> SendMail {
    SendMail { to: to.to_owned() }
}

/// The code of an application that is tested here.
async fn sign_up(client: &Client, who: &str) -> gusher::Result<()> {
    client.enqueue(mail(who)).await?;
    client.enqueue(mail(who)).later(30 * DAY).queue("reminders").priority(5).await?;
    Ok(())
}

#[test]
fn what_code_enqueues_is_told_with_its_parameters_queue_priority_and_delay() {
    let played = simulation(&Stage::new()).play(async |client| sign_up(&client, "ada@example.org").await).unwrap();
    let mails = played.enqueued::<SendMail>().unwrap();
    assert_eq!(mails.len(), 2);
    assert_eq!((&mails[0].job, mails[0].queue.as_str(), mails[0].priority), (&mail("ada@example.org"), "mail", 0));
    assert_eq!((mails[0].at, mails[0].later), (Duration::ZERO, None));
    assert_eq!((mails[1].queue.as_str(), mails[1].priority), ("reminders", 5));
    assert_eq!(mails[1].later, Some(30 * DAY));
    assert!(played.enqueued::<Act>().unwrap().is_empty());
}

#[test]
fn delays_and_retries_of_days_pass_in_virtual_time_and_what_ran_is_told() {
    let (began, stage) = (Instant::now(), Stage::new());
    let played = simulation(&stage).play(async |client| sign_up(&client, "ada@example.org").await).unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(stage.ran(), ["mail to ada@example.org", "mail to ada@example.org"]);
    assert_eq!(played.ran::<SendMail>(), 8);
    let reminder = &played.enqueued::<SendMail>().unwrap()[1];
    assert_eq!((reminder.state, reminder.output), (JobState::Succeeded, Some(4)));
    assert_eq!(reminder.attempts.len(), 4);
    assert_eq!(reminder.attempts[0].end, Some(AttemptEnd::Failed("the server is busy".to_owned())));
    assert!(reminder.attempts[0].started >= 30 * DAY);
    assert!(played.elapsed() > 30 * DAY + 2 * HOUR, "{:?}", played.elapsed());
    assert!(played.failures().is_empty());
}

#[test]
fn what_failed_for_good_is_told_with_its_error() {
    let played = simulation(&Stage::new()).play(async |client| client.enqueue(mail("")).await.map(drop)).unwrap();
    assert_eq!(played.failures(), [("SendMail", "to nobody")]);
    let mails = played.enqueued::<SendMail>().unwrap();
    assert_eq!(
        (mails[0].state, mails[0].output, mails[0].error.as_deref()),
        (JobState::Failed, None, Some("to nobody"))
    );
}

#[test]
fn what_jobs_enqueue_and_what_comes_in_bulk_is_told_too() {
    let played = simulation(&Stage::new())
        .play(async |client| {
            client.enqueue(Newsletter { readers: vec!["ada".into(), "eve".into()] }).await?;
            client.enqueue_all((0..2_000).map(|n| act(n.to_string(), "ok"))).await?;
            Ok(())
        })
        .unwrap();
    let to: Vec<(String, i32)> =
        played.enqueued::<SendMail>().unwrap().into_iter().map(|mail| (mail.job.to, mail.priority)).collect();
    assert_eq!(to, [("ada".to_owned(), -5), ("eve".to_owned(), -5)]);
    let acts = played.enqueued::<Act>().unwrap();
    assert_eq!((acts.len(), acts[1_999].output.as_deref()), (2_000, Some("1999")));
}

#[test]
fn workflows_that_the_code_starts_run_to_their_end() {
    let stage = Stage::new();
    let played = simulation(&stage)
        .play(async |client| {
            let run = client.start(Once("by the code".into())).await?;
            assert_eq!(run.wait().await?.state, WorkflowState::Succeeded);
            client.start(Once("left behind".into())).await?;
            Ok(())
        })
        .unwrap();
    assert_eq!((stage.ran(), played.ran::<Act>()), (vec!["by the code".to_owned(), "left behind".to_owned()], 2));
}

#[test]
fn the_same_seed_plays_the_same_way() {
    let play = |seed| {
        let simulation = simulation(&Stage::new()).seed(seed);
        let played =
            simulation.play(async |client| client.enqueue_all((0..20).map(|n| mail(&n.to_string()))).await.map(drop));
        let played = played.unwrap();
        let order: Vec<u64> = played.attempts().iter().map(|attempt| attempt.index).collect();
        (order, played.elapsed())
    };
    assert_eq!(play(1), play(1));
    assert!((2..10).any(|seed| play(seed) != play(1)), "no seed changes the order");
}

#[test]
fn inline_a_job_has_run_when_enqueue_returns_and_none_is_tried_again() {
    let stage = Stage::new();
    let played = simulation(&stage)
        .inline()
        .play(async |client| {
            client.enqueue(act("first", "ok")).later(DAY).await?;
            assert_eq!(stage.ran(), ["first"]);
            let second = client.enqueue(act("second", "ok")).await?;
            assert_eq!(second.wait().await?, "second");
            let error = client.enqueue(mail("ada")).await?.wait().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Failed);
            client.enqueue_all([act("third", "ok")]).await?;
            Ok(())
        })
        .unwrap();
    assert_eq!(stage.ran(), ["first", "second", "third"]);
    assert_eq!(played.failures(), [("SendMail", "the server is busy")]);
    let acts = played.enqueued::<Act>().unwrap();
    assert_eq!((acts[0].later, acts[0].state, acts[0].attempts.len()), (Some(DAY), JobState::Succeeded, 1));
    assert_eq!(acts[1].output.as_deref(), Some("second"));
    assert_eq!(played.elapsed(), Duration::ZERO, "nobody has waited");
}

#[test]
fn inline_what_a_job_enqueues_has_run_before_the_job_ends() {
    let played = simulation(&Stage::new())
        .inline()
        .play(async |client| client.enqueue(Newsletter { readers: vec!["ada".into()] }).await.map(drop))
        .unwrap();
    let mail = &played.enqueued::<SendMail>().unwrap()[0];
    let newsletter = &played.enqueued::<Newsletter>().unwrap()[0];
    assert_eq!(newsletter.state, JobState::Succeeded, "what it enqueued may fail");
    assert_eq!((mail.state, mail.attempts.len()), (JobState::Failed, 1));
}

#[test]
fn without_workers_nothing_runs_and_all_is_told() {
    let stage = Stage::new();
    let played = simulation(&stage).without_workers().play(async |client| sign_up(&client, "ada").await).unwrap();
    let states: Vec<JobState> = played.enqueued::<SendMail>().unwrap().iter().map(|mail| mail.state).collect();
    assert_eq!((stage.ran(), states), (vec![], vec![JobState::Open, JobState::Deferred]));
    let error = simulation(&stage).without_workers().run(Once("never".into())).unwrap_err();
    assert!(error.to_string().contains("without workers no workflow runs"), "{error}");
}

#[test]
fn code_that_fails_or_never_ends_is_an_error_and_jobs_that_do_not_end_are_named() {
    let failing = simulation(&Stage::new()).play(async |client| client.enqueue(mail("ada")).queue("").await.map(drop));
    assert_eq!(failing.unwrap_err().kind(), ErrorKind::Usage);
    let endless = simulation(&Stage::new()).at_most(DAY).play(async |_| std::future::pending().await);
    assert_eq!(endless.unwrap_err().to_string(), "the code has not ended after 86400s of virtual time");
    let hanging =
        simulation(&Stage::new()).at_most(DAY).play(async |client| client.enqueue(act("it", "hang")).await.map(drop));
    let error = hanging.unwrap_err().to_string();
    assert!(error.contains("have not come to their end: 1 of Act in `default`"), "{error}");
    let astray =
        simulation(&Stage::new()).play(async |client| client.enqueue(act("it", "ok")).queue("attic").await.map(drop));
    let error = astray.unwrap_err().to_string();
    assert!(error.contains("1 of Act in `attic`, from which no worker takes"), "{error}");
}
