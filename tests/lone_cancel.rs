//! Lone jobs that are cancelled, by somebody or by their deadline: with real workers on a file and on a Redis server, and in virtual time.

#[macro_use]
#[path = "support/place.rs"]
mod place;
#[path = "servers/mod.rs"]
mod servers;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gusher::prelude::*;
use gusher::testing::Simulation;
use gusher::{CancellationToken, Cancelled, ErrorKind, JobState, LoneJob, WorkerOptions};
use place::Place;
use tokio::sync::Semaphore;

/// What jobs tell a test.
#[derive(Clone)]
struct Shared {
    sent: Arc<AtomicU32>,
    /// A permit for each job that has started and waits for what happens to it.
    waiting: Arc<Semaphore>,
    told: Arc<AtomicU32>,
}

impl Shared {
    fn new() -> Self {
        let count = || Arc::new(AtomicU32::new(0));
        Self { sent: count(), waiting: Arc::new(Semaphore::new(0)), told: count() }
    }
}

#[derive(Serialize, Deserialize)]
struct SendMail {
    to: String,
}
impl Job for SendMail {
    const NAME: &str = "SendMail";
    const QUEUE: &str = "mail";
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        ctx.state().sent.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Runs until it is told to stop.
#[derive(Serialize, Deserialize)]
struct Listen {
    finishes: bool,
}
impl Job for Listen {
    const NAME: &str = "Listen";
    type Output = bool;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<bool> {
        ctx.state().waiting.add_permits(1);
        ctx.cancellation().cancelled().await;
        ctx.state().told.fetch_add(1, Ordering::SeqCst);
        if self.finishes { Ok(true) } else { Err(JobError::new("told to stop")) }
    }
}

/// Says that it runs, and never listens.
#[derive(Serialize, Deserialize)]
struct Deaf;
impl Job for Deaf {
    const NAME: &str = "Deaf";
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        ctx.state().waiting.add_permits(1);
        std::future::pending().await
    }
}

fn app(shared: &Shared) -> App<Shared> {
    let shared = shared.clone();
    App::new(move || {
        let shared = shared.clone();
        async move { Ok::<_, std::convert::Infallible>(shared) }
    })
    .job::<SendMail>()
    .job::<Listen>()
    .job::<Deaf>()
    .job::<Conduct>()
}

/// A store, with a worker on it once a test wants one.
struct Post {
    place: Place,
    client: Client,
    shared: Shared,
    app: App<Shared>,
    stop: CancellationToken,
}

impl Post {
    async fn on(place: Place) -> Self {
        let shared = Shared::new();
        let app = app(&shared);
        let client = app.client_on(place.store.clone());
        Self { place, client, shared, app, stop: CancellationToken::new() }
    }

    async fn worker(&self) -> tokio::task::JoinHandle<gusher::Result<()>> {
        let options = WorkerOptions { slots: 4, ..WorkerOptions::default() };
        let worker = self.app.worker_on(self.place.store.clone(), options).await.unwrap();
        tokio::spawn(worker.run(self.stop.clone()))
    }

    /// Enqueues a job that listens, and waits until it does.
    async fn listener(&self, finishes: bool) -> LoneJob<Listen> {
        let job = self.client.enqueue(Listen { finishes }).await.unwrap();
        self.shared.waiting.acquire().await.unwrap().forget();
        job
    }

    async fn end(self, worker: tokio::task::JoinHandle<gusher::Result<()>>) {
        self.stop.cancel();
        worker.await.unwrap().unwrap();
        self.place.check_at_rest().await;
    }
}

fn mail(to: &str) -> SendMail {
    SendMail { to: to.to_owned() }
}

async fn what_waits_is_never_started(post: Post) {
    let kept = post.client.enqueue(mail("ada@example.org")).await.unwrap();
    let gone = post.client.enqueue(mail("bob@example.org")).await.unwrap();
    let later = post.client.enqueue(mail("eve@example.org")).later(Duration::from_millis(100)).await.unwrap();
    assert_eq!(gone.cancel().await.unwrap(), Cancelled { cancelled: 1, stopping: 0 });
    assert_eq!(post.client.cancel_job(later.id()).await.unwrap().cancelled, 1);
    assert_eq!(gone.status().await.unwrap().state, JobState::Cancelled);
    let worker = post.worker().await;
    kept.wait().await.unwrap();
    let error = gone.wait().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Failed && error.to_string().contains("cancelled"), "{error}");
    later.wait().await.unwrap_err();
    assert_eq!(post.shared.sent.load(Ordering::SeqCst), 1);
    assert_eq!(kept.cancel().await.unwrap(), Cancelled::default(), "what has settled stays as it is");
    post.end(worker).await;
}

async fn a_running_job_sees_its_token_and_no_other_does(post: Post) {
    let worker = post.worker().await;
    let (one, other) = (post.listener(false).await, post.listener(true).await);
    assert_eq!(one.cancel().await.unwrap(), Cancelled { cancelled: 0, stopping: 1 });
    let error = one.wait().await.unwrap_err();
    assert!(error.to_string().contains("cancelled"), "{error}");
    assert_eq!(post.shared.told.load(Ordering::SeqCst), 1);
    assert_eq!(other.cancel().await.unwrap().stopping, 1);
    assert!(other.wait().await.unwrap(), "what it reports in time counts");
    post.end(worker).await;
}

async fn many_are_cancelled_by_what_they_are(post: Post) {
    let readers: Vec<String> = (0..3_000).map(|n| format!("{}@example.org", n % 3)).collect();
    post.client.enqueue_all(readers.iter().map(|to| mail(to))).await.unwrap();
    post.client.enqueue(mail("1@example.org")).queue("other").later(Duration::from_secs(60)).await.unwrap();
    let mut looked = 0;
    let mails = post.client.lone_jobs().of::<SendMail>().queue("mail").on_progress(|seen, _| looked = seen);
    let gone = mails.cancel(|mail| mail.to == "1@example.org").await.unwrap();
    assert_eq!((gone, looked), (Cancelled { cancelled: 1_000, stopping: 0 }, 3_000));
    let worker = post.worker().await;
    loop {
        let lanes = post.client.lanes().await.unwrap();
        if lanes.iter().filter(|lane| lane.queue == "mail").all(|lane| lane.jobs.unsettled() == 0) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(post.shared.sent.load(Ordering::SeqCst), 2_000);
    let all = post.client.lone_jobs().of::<SendMail>().cancel_all().await.unwrap();
    assert_eq!(all.total(), 1, "the one in the other queue");
    post.end(worker).await;
}

async fn a_deadline_stops_what_has_not_settled(post: Post) {
    let short = Duration::from_millis(200);
    let waits =
        post.client.enqueue(mail("ada@example.org")).later(Duration::from_secs(60)).expires_in(short).await.unwrap();
    let worker = post.worker().await;
    let runs = post.client.enqueue(Listen { finishes: false }).expires_in(short).await.unwrap();
    let in_time = post.client.enqueue(mail("bob@example.org")).expires_in(Duration::from_secs(600)).await.unwrap();
    in_time.wait().await.unwrap();
    for error in [waits.wait().await.unwrap_err(), runs.wait().await.unwrap_err()] {
        assert!(error.to_string().contains("cancelled"), "{error}");
    }
    assert_eq!((post.shared.sent.load(Ordering::SeqCst), post.shared.told.load(Ordering::SeqCst)), (1, 1));
    post.end(worker).await;
}

on_both! {
    Post::on, on Redis with 1 shard(s):
    what_waits_is_never_started()
    a_running_job_sees_its_token_and_no_other_does()
    many_are_cancelled_by_what_they_are()
    a_deadline_stops_what_has_not_settled()
}

/// Starts a job that listens to nobody, and tells after how many seconds it is gone.
#[derive(Serialize, Deserialize)]
struct Conduct {
    expires: bool,
}
impl Job for Conduct {
    const NAME: &str = "Conduct";
    type Output = u64;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<u64> {
        let begun = tokio::time::Instant::now();
        let deaf = if self.expires {
            ctx.enqueue(Deaf).expires_in(Duration::from_secs(60)).await?
        } else {
            ctx.enqueue(Deaf).await?
        };
        if !self.expires {
            ctx.state().waiting.acquire().await?.forget();
            if deaf.cancel().await?.stopping != 1 {
                return Err(JobError::fatal("the job was not running"));
            }
        }
        match deaf.wait().await {
            Err(error) if error.to_string().contains("cancelled") => Ok(begun.elapsed().as_secs()),
            other => Err(JobError::fatal(format!("it ended as {other:?}"))),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Play {
    expires: bool,
}
impl Workflow for Play {
    const NAME: &str = "Play";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(Conduct { expires: self.expires });
        Ok(())
    }
}

#[test]
fn a_job_that_ignores_its_token_is_dropped_after_the_grace() {
    let run = Simulation::new(app(&Shared::new())).run(Play { expires: false }).unwrap();
    let seconds = run.output::<Conduct>("Conduct", 0).unwrap();
    assert!((10..=12).contains(&seconds), "{seconds} s");
}

#[test]
fn a_job_that_runs_past_its_deadline_is_dropped_after_the_grace() {
    let run = Simulation::new(app(&Shared::new())).run(Play { expires: true }).unwrap();
    let seconds = run.output::<Conduct>("Conduct", 0).unwrap();
    // The worker of a simulation hears of it when it renews, every third of a lease.
    assert!((70..=80).contains(&seconds), "{seconds} s");
}
