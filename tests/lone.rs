//! Lone jobs with real workers, on a file and on a Redis server.

#[macro_use]
#[path = "support/place.rs"]
mod place;
#[path = "servers/mod.rs"]
mod servers;
mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gusher::prelude::*;
use gusher::{CancellationToken, ErrorKind, JobId, JobState, Keep, Pausable, Unique, WorkflowId, WorkflowState};
use parking_lot::Mutex;
use place::Place;
use support::House;
use tokio::sync::Semaphore;

#[derive(Clone, Default)]
struct Mailbox {
    sent: Arc<AtomicU32>,
    calls: Arc<Mutex<HashSet<(u32, Said)>>>,
    door: Arc<Door>,
}

/// Where a job waits until it is let through.
struct Door {
    knocks: Semaphore,
    opened: Semaphore,
}

impl Default for Door {
    fn default() -> Self {
        Self { knocks: Semaphore::new(0), opened: Semaphore::new(0) }
    }
}

#[derive(Serialize, Deserialize)]
struct SendMail {
    to: String,
}

impl Job for SendMail {
    const NAME: &str = "SendMail";
    type Output = ();
    type State = Mailbox;
    async fn perform(self, ctx: &Context<Mailbox>) -> JobResult<()> {
        if !self.to.contains('@') {
            return Err(JobError::fatal(format!("`{}` is no address", self.to)));
        }
        ctx.state().sent.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// One at a time for each customer.
#[derive(Serialize, Deserialize)]
struct Call {
    customer: u32,
    n: u32,
}

impl Job for Call {
    const NAME: &str = "Call";
    const LIMIT_PER_KEY: Limit = Limit::at_once(1);
    type Output = ();
    type State = Mailbox;
    fn key(&self) -> Option<String> {
        Some(format!("customer {}", self.customer))
    }
    async fn perform(self, ctx: &Context<Mailbox>) -> JobResult<()> {
        let calls = &ctx.state().calls;
        assert!(calls.lock().insert((self.customer, Said::Begins(self.n))), "it runs once");
        tokio::task::yield_now().await;
        let others = calls.lock().iter().filter(|(customer, _)| *customer == self.customer).count();
        assert_eq!(others, 2 * self.n as usize + 1, "those before it have ended, and none behind it has begun");
        calls.lock().insert((self.customer, Said::Ends(self.n)));
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Said {
    Begins(u32),
    Ends(u32),
}

#[derive(Serialize, Deserialize)]
struct Double {
    n: u64,
}

impl Job for Double {
    const NAME: &str = "Double";
    const QUEUE: &str = "numbers";
    const RETRY: Retry = Retry::every(Duration::from_millis(1));
    type Output = u64;
    type State = Mailbox;
    async fn perform(self, ctx: &Context<Mailbox>) -> JobResult<u64> {
        if self.n == 13 && ctx.attempt() == 1 {
            return Err(JobError::new("not at once"));
        }
        Ok(self.n * 2)
    }
}

/// Enqueues others.
#[derive(Serialize, Deserialize)]
struct Newsletter {
    readers: Vec<String>,
}

impl Job for Newsletter {
    const NAME: &str = "Newsletter";
    type Output = Vec<String>;
    type State = Mailbox;
    async fn perform(self, ctx: &Context<Mailbox>) -> JobResult<Vec<String>> {
        let mut ids = Vec::new();
        for to in self.readers {
            ids.push(ctx.enqueue(SendMail { to }).await?.id().to_string());
        }
        Ok(ids)
    }
}

/// Runs until it is let go.
#[derive(Serialize, Deserialize)]
struct Visit;

impl Job for Visit {
    const NAME: &str = "Visit";
    type Output = ();
    type State = Mailbox;
    async fn perform(self, ctx: &Context<Mailbox>) -> JobResult<()> {
        let door = &ctx.state().door;
        door.knocks.add_permits(1);
        door.opened.acquire().await?.forget();
        Ok(())
    }
}

/// Starts a workflow, and fails once after that.
#[derive(Serialize, Deserialize)]
struct Launch;

impl Job for Launch {
    const NAME: &str = "Launch";
    const RETRY: Retry = Retry::every(Duration::from_millis(1));
    type Output = WorkflowId;
    type State = Mailbox;
    async fn perform(self, ctx: &Context<Mailbox>) -> JobResult<WorkflowId> {
        let mailing = ctx.start(Mailing).once("mailing").await?;
        if ctx.attempt() == 1 {
            return Err(JobError::new("the first time never works"));
        }
        Ok(mailing.id())
    }
}

#[derive(Serialize, Deserialize)]
struct Mailing;

impl Workflow for Mailing {
    const NAME: &str = "Mailing";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(mail("all@example.org"));
        Ok(())
    }
}

fn app(mailbox: Mailbox) -> App<Mailbox> {
    App::new(move || {
        let mailbox = mailbox.clone();
        async move { Ok::<_, std::convert::Infallible>(mailbox) }
    })
    .workflow::<Mailing>()
    .job::<SendMail>()
    .job::<Visit>()
    .job::<Launch>()
    .job::<Call>()
    .job::<Double>()
    .job::<Newsletter>()
}

fn mail(to: &str) -> SendMail {
    SendMail { to: to.to_owned() }
}

/// A store with a worker on it.
struct Post {
    place: Place,
    client: Client,
    mailbox: Mailbox,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<gusher::Result<()>>,
}

impl Post {
    async fn on(place: Place, keep: Keep) -> Self {
        let mailbox = Mailbox::default();
        let app = app(mailbox.clone()).keep_lone_jobs(keep).slots(4);
        let (client, stop) = (app.client_on(place.store.clone()), CancellationToken::new());
        let worker = tokio::spawn(app.worker(&client).await.unwrap().run(stop.clone()));
        Self { place, client, mailbox, stop, worker }
    }

    /// All comes to rest, and what is there is what must be.
    async fn end(self) {
        self.stop.cancel();
        self.worker.await.unwrap().unwrap();
        self.place.check_at_rest().await;
    }
}

/// What both stores do.
async fn a_job_is_enqueued_waited_for_and_forgotten(post: Post) {
    let sent = post.client.enqueue(mail("ada@example.org")).await.unwrap();
    sent.wait().await.unwrap();
    assert_eq!(post.mailbox.sent.load(Ordering::SeqCst), 1);
    assert_eq!(sent.status().await.unwrap_err().kind(), ErrorKind::NotFound, "nobody wants it any more");

    let double = post.client.enqueue(Double { n: 13 }).await.unwrap();
    assert_eq!(double.wait().await.unwrap(), 26);
    let view = double.status().await.unwrap();
    assert_eq!((view.state, view.attempts, view.queue.as_str()), (JobState::Succeeded, 2, "numbers"));
    let again: JobId = double.id().to_string().parse().unwrap();
    assert_eq!(post.client.lone::<Double>(again).wait().await.unwrap(), 26);

    let failed = post.client.enqueue(mail("nobody")).await.unwrap();
    let error = failed.wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("`nobody` is no address"), "{error}");
    assert_eq!(post.client.workflows().page(10).await.unwrap().len(), 0, "a lone job is no workflow");
    let lanes = post.client.workflows().state(WorkflowState::Standing).page(10).await.unwrap();
    assert!(lanes.iter().any(|lane| lane.name == "SendMail"));
    post.end().await;
}

async fn a_job_that_is_put_off_starts_at_its_time(post: Post) {
    let wait = Duration::from_millis(300);
    let started = Instant::now();
    let later = post.client.enqueue(Double { n: 1 }).later(wait).await.unwrap();
    assert_eq!(post.client.enqueue(Double { n: 2 }).priority(5).await.unwrap().wait().await.unwrap(), 4);
    assert_eq!(later.wait().await.unwrap(), 2);
    assert!(started.elapsed() >= wait);
    let past = post.client.enqueue(Double { n: 3 }).at(1_000).await.unwrap();
    assert_eq!(past.wait().await.unwrap(), 6, "a time that has passed is now");
    post.end().await;
}

async fn many_callers_and_many_jobs_lose_nothing(post: Post) {
    let callers = (0..64).map(|caller| {
        let client = post.client.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                let double = client.enqueue(Double { n: caller * 100 + n }).await.unwrap();
                if n % 5 == 0 {
                    assert_eq!(double.wait().await.unwrap(), 2 * (caller * 100 + n));
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let readers = (0..5_000).map(|n| mail(&format!("{n}@example.org")));
    assert_eq!(post.client.enqueue_all(readers).await.unwrap(), 5_000);
    let newsletter = Newsletter { readers: vec!["a@example.org".into(), "b@example.org".into()] };
    let ids = post.client.enqueue(newsletter).await.unwrap().wait().await.unwrap();
    for id in ids {
        post.client.lone::<SendMail>(id.parse().unwrap()).wait().await.unwrap();
    }
    loop {
        let lanes = post.client.workflows().state(WorkflowState::Standing).page(100).await.unwrap();
        if lanes.iter().all(|lane| lane.jobs.unsettled() == 0) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(post.mailbox.sent.load(Ordering::SeqCst), 5_002);
    post.end().await;
}

async fn all_settled(client: &Client) {
    while client.lanes().await.unwrap().iter().any(|lane| lane.jobs.unsettled() > 0) {
        tokio::task::yield_now().await;
    }
}

/// Four slots, and yet no two of a customer's jobs run at once, and they run in their order.
async fn jobs_of_a_key_run_one_at_a_time_in_their_order(post: Post) {
    let calls = (0..10).flat_map(|n| (0..30).map(move |customer| Call { customer, n }));
    assert_eq!(post.client.enqueue_all(calls).await.unwrap(), 300);
    for n in 10..20 {
        for customer in 0..3 {
            post.client.enqueue(Call { customer, n }).await.unwrap();
        }
    }
    all_settled(&post.client).await;
    assert_eq!(post.mailbox.calls.lock().len(), 2 * 330, "each has run once and found no other");
    post.end().await;
}

async fn why_names_the_key_that_a_job_waits_for(post: Post) {
    post.client.pause(Pausable::Type("Call".into())).await.unwrap();
    post.client.enqueue(Call { customer: 7, n: 0 }).await.unwrap();
    let second = post.client.enqueue(Call { customer: 7, n: 1 }).await.unwrap();
    let lane = post.client.find(second.id().lane).await.unwrap();
    let why = lane.why_job("Call", second.id().index).await.unwrap();
    assert!(why.summary.contains("waits for the turn of its key `customer 7`: 1 job of it"), "{}", why.summary);
    post.client.resume(Pausable::Type("Call".into())).await.unwrap();
    second.wait().await.unwrap();
    post.end().await;
}

async fn a_unique_job_is_refused_while_there_is_one(post: Post) {
    let client = &post.client;
    let once = |to: &str| client.enqueue(mail(to)).later(Duration::from_millis(300)).unique(Unique::until_settled(to));
    let first = once("ada@example.org").await.unwrap();
    let refused = once("ada@example.org").await.unwrap_err();
    assert_eq!((refused.kind(), refused.first_job()), (ErrorKind::Refused, Some(first.id())));
    assert!(refused.to_string().contains("there is a job with the key `ada@example.org`"), "{refused}");
    let other = once("bob@example.org").await.unwrap();
    let same = client.enqueue(mail("ada@example.org")).unique(Unique::until_settled("ada@example.org").or_first());
    assert_eq!(same.await.unwrap().id(), first.id());
    first.wait().await.unwrap();
    other.wait().await.unwrap();
    once("ada@example.org").await.unwrap().wait().await.unwrap();
    assert_eq!(post.mailbox.sent.load(Ordering::SeqCst), 3);
    post.end().await;
}

async fn a_unique_job_is_followed_by_another_once_it_has_started_or_settled_or_its_time_is_over(post: Post) {
    let (client, door) = (&post.client, &post.mailbox.door);
    let visit = |unique: Unique| client.enqueue(Visit).unique(unique);
    let first_job = |refused: gusher::Result<_>| refused.err().and_then(|error: gusher::Error| error.first_job());
    let hour = Duration::from_secs(3_600);
    client.pause(Pausable::Type("Visit".into())).await.unwrap();
    let started = visit(Unique::until_started("started")).await.unwrap();
    let settled = visit(Unique::until_settled("settled")).await.unwrap();
    let over = visit(Unique::for_a_time(hour, "over")).await.unwrap();
    assert_eq!(first_job(visit(Unique::until_started("started")).await), Some(started.id()));
    client.resume(Pausable::Type("Visit".into())).await.unwrap();
    door.knocks.acquire_many(3).await.unwrap().forget();
    let second = visit(Unique::until_started("started")).await.unwrap();
    assert_eq!(first_job(visit(Unique::until_settled("settled")).await), Some(settled.id()));
    door.opened.add_permits(4);
    for visit in [&started, &settled, &over, &second] {
        visit.wait().await.unwrap();
    }
    door.opened.add_permits(1);
    visit(Unique::until_settled("settled")).await.unwrap().wait().await.unwrap();
    assert_eq!(first_job(visit(Unique::for_a_time(hour, "over")).await), Some(over.id()));
    post.end().await;
}

async fn failed_jobs_of_a_type_run_again_or_are_given_up_wherever_they_are(post: Post) {
    for (to, queue) in [("nobody", "default"), ("no one", "numbers")] {
        post.client.enqueue(mail(to)).queue(queue).await.unwrap().wait().await.unwrap_err();
    }
    let mails = || post.client.lone_jobs().of::<SendMail>();
    let failed = async || {
        all_settled(&post.client).await;
        post.client.lanes().await.unwrap().iter().map(|lane| lane.jobs.failed).sum::<u64>()
    };
    let groups = mails().error_groups().await.unwrap();
    assert_eq!((groups.len(), groups[0].jobs, groups[0].pattern.as_str()), (1, 2, "… is no address"));
    assert_eq!(mails().queue("numbers").error_groups().await.unwrap()[0].example, "`no one` is no address");
    assert_eq!(mails().queue("numbers").retry_failed().await.unwrap(), 1);
    assert_eq!(failed().await, 2, "it has failed again");
    assert_eq!(mails().queue("numbers").discard_failed().await.unwrap(), 1);
    assert_eq!(failed().await, 1);
    assert_eq!((mails().retry_failed().await.unwrap(), failed().await), (1, 1));
    assert_eq!((mails().discard_failed().await.unwrap(), failed().await), (1, 0));
    assert_eq!(mails().retry_failed().await.unwrap(), 0);
    post.end().await;
}

async fn a_job_that_is_tried_again_starts_a_workflow_once(post: Post) {
    let started = post.client.enqueue(Launch).await.unwrap().wait().await.unwrap();
    let mailing = post.client.find(started).await.unwrap();
    assert_eq!(mailing.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(post.client.workflows().of::<Mailing>().page(9).await.unwrap().len(), 1);
    post.end().await;
}

/// What has an output is kept for no longer than it is told to.
async fn what_is_kept_goes_at_its_time(post: Post) {
    let double = post.client.enqueue(Double { n: 4 }).await.unwrap();
    let store = post.place.store.clone();
    loop {
        let row = store.workflow(double.id().lane).await.unwrap();
        if row.jobs.total == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(double.wait().await.unwrap_err().kind(), ErrorKind::NotFound);
    post.end().await;
}

const SHORT: Keep = Keep { outputs: Duration::from_millis(50), failures: Duration::from_millis(50) };

on_both! {
    Post::on, on Redis with 1 shard(s):
    a_job_is_enqueued_waited_for_and_forgotten(Keep::default())
    a_job_that_is_put_off_starts_at_its_time(Keep::default())
    many_callers_and_many_jobs_lose_nothing(Keep::default())
    jobs_of_a_key_run_one_at_a_time_in_their_order(Keep::default())
    a_unique_job_is_refused_while_there_is_one(Keep::default())
    a_unique_job_is_followed_by_another_once_it_has_started_or_settled_or_its_time_is_over(Keep::default())
    failed_jobs_of_a_type_run_again_or_are_given_up_wherever_they_are(Keep::default())
    a_job_that_is_tried_again_starts_a_workflow_once(Keep::default())
    why_names_the_key_that_a_job_waits_for(Keep::default())
    what_is_kept_goes_at_its_time(SHORT)
}

#[tokio::test]
async fn a_worker_beside_a_client_is_set_up_as_the_application_says() {
    let place = Place::in_a_file();
    let app = app(Mailbox::default()).slots(3);
    let (client, stop) = (app.client_on(place.store.clone()), CancellationToken::new());
    let worker = tokio::spawn(app.worker(&client).await.unwrap().run(stop.clone()));
    client.enqueue(mail("ada@example.org")).await.unwrap().wait().await.unwrap();
    let slots: Vec<u32> = place.store.workers(9).await.unwrap().iter().map(|worker| worker.session.slots).collect();
    assert_eq!(slots, [3]);
    stop.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_type_that_is_not_registered_is_refused_with_the_line_to_add() {
    let house = House::new();
    let client = App::<()>::stateless().client_on(house.store.clone());
    let error = client.enqueue(mail("ada@example.org")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("add .job::<SendMail>() to the App"), "{error}");
}

#[tokio::test]
async fn a_key_that_no_store_could_hold_is_refused() {
    let house = House::new();
    let client = house.client(&app(Mailbox::default()));
    for key in ["x".repeat(256), "two\nlines".to_owned()] {
        let error = client.enqueue(mail("ada@example.org")).unique(Unique::until_settled(key)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("is no key"), "{error}");
    }
}

#[tokio::test]
async fn a_queue_without_a_name_and_a_job_that_is_too_large_are_refused() {
    let house = House::new();
    let client = house.client(&app(Mailbox::default()));
    let error = client.enqueue(Double { n: 1 }).queue("").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("queue"), "{error}");
    let error = client.enqueue(mail(&"x".repeat(300_000))).await.unwrap_err();
    assert!(error.to_string().contains("at most 262144 are allowed"), "{error}");
}
