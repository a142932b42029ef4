//! Limits of types and queues with real workers: on a file, and on a Redis server whose store has several shards.

#[macro_use]
#[path = "support/place.rs"]
mod place;
#[path = "servers/mod.rs"]
mod servers;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gusher::prelude::*;
use gusher::testing::Simulation;
use gusher::{CancellationToken, Limit, WorkerOptions, WorkflowState};
use parking_lot::Mutex;
use place::Place;
use support::until::until;
use support::work::work_for;
use tokio::sync::{Barrier, Semaphore};

/// What the jobs of a test share.
#[derive(Clone)]
struct Shop {
    running: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    starts: Arc<Mutex<Vec<Instant>>>,
    /// As many as may run meet here: a limit that is not reached ends the test in silence.
    meeting: Arc<Barrier>,
    /// Lets jobs that wait go on; each that waits says so.
    gate: Arc<Semaphore>,
    at_gate: Arc<Semaphore>,
}

impl Shop {
    fn for_meetings_of(jobs: usize) -> Self {
        Self {
            running: Arc::default(),
            most: Arc::default(),
            starts: Arc::default(),
            meeting: Arc::new(Barrier::new(jobs)),
            gate: Arc::new(Semaphore::new(0)),
            at_gate: Arc::new(Semaphore::new(0)),
        }
    }

    async fn counted<T>(&self, work: impl Future<Output = T>) -> T {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let done = work.await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        done
    }

    /// A job that ends when as many as may run are there.
    async fn meet(&self) -> JobResult<()> {
        self.counted(self.meeting.wait()).await;
        Ok(())
    }

    fn most_at_once(&self) -> u32 {
        self.most.load(Ordering::SeqCst)
    }
}

/// Three at once, and all three meet.
#[derive(Serialize, Deserialize)]
struct Meet;
impl Job for Meet {
    const NAME: &str = "Meet";
    const LIMIT: Limit = Limit::at_once(3);
    type Output = ();
    type State = Shop;
    async fn perform(self, ctx: &Context<Shop>) -> JobResult<()> {
        ctx.state().meet().await
    }
}

/// Of a queue with a limit, and without one of its own.
#[derive(Serialize, Deserialize)]
struct Carry;
impl Job for Carry {
    const NAME: &str = "Carry";
    const QUEUE: &str = "narrow";
    type Output = ();
    type State = Shop;
    async fn perform(self, ctx: &Context<Shop>) -> JobResult<()> {
        ctx.state().meet().await
    }
}

/// Another type of that queue.
#[derive(Serialize, Deserialize)]
struct Haul;
impl Job for Haul {
    const NAME: &str = "Haul";
    const QUEUE: &str = "narrow";
    type Output = ();
    type State = Shop;
    async fn perform(self, ctx: &Context<Shop>) -> JobResult<()> {
        ctx.state().meet().await
    }
}

/// Some start in a time.
#[derive(Serialize, Deserialize)]
struct Call;
const CALLS: u32 = 5;
const PERIOD: Duration = Duration::from_millis(400);
impl Job for Call {
    const NAME: &str = "Call";
    const LIMIT: Limit = Limit::rate(CALLS, PERIOD);
    type Output = ();
    type State = Shop;
    async fn perform(self, ctx: &Context<Shop>) -> JobResult<()> {
        ctx.state().starts.lock().push(Instant::now());
        Ok(())
    }
}

/// One at once, which waits at the gate.
#[derive(Serialize, Deserialize)]
struct Wait;
impl Job for Wait {
    const NAME: &str = "Wait";
    const LIMIT: Limit = Limit::at_once(1);
    type Output = ();
    type State = Shop;
    async fn perform(self, ctx: &Context<Shop>) -> JobResult<()> {
        let shop = ctx.state();
        shop.at_gate.add_permits(1);
        shop.counted(async { shop.gate.acquire().await.unwrap().forget() }).await;
        Ok(())
    }
}

/// One at once for each customer.
#[derive(Serialize, Deserialize)]
struct Visit {
    customer: u32,
}
impl Job for Visit {
    const NAME: &str = "Visit";
    const LIMIT_PER_KEY: Limit = Limit::at_once(1);
    type Output = ();
    type State = Shop;
    fn key(&self) -> Option<String> {
        Some(self.customer.to_string())
    }
    async fn perform(self, _: &Context<Shop>) -> JobResult<()> {
        Ok(())
    }
}

/// Lasts longer than what a worker fetches ahead.
#[derive(Serialize, Deserialize)]
struct Walk;
impl Job for Walk {
    const NAME: &str = "Walk";
    type Output = ();
    type State = Shop;
    async fn perform(self, _: &Context<Shop>) -> JobResult<()> {
        work_for(Duration::from_millis(100)).await;
        Ok(())
    }
}

/// Without any limit.
#[derive(Serialize, Deserialize)]
struct Free;
impl Job for Free {
    const NAME: &str = "Free";
    type Output = ();
    type State = Shop;
    async fn perform(self, _: &Context<Shop>) -> JobResult<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Meetings {
    jobs: u32,
}
impl Workflow for Meetings {
    const NAME: &str = "Meetings";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..self.jobs).map(|_| Meet));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Loads {
    jobs: u32,
}
impl Workflow for Loads {
    const NAME: &str = "Loads";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..self.jobs).map(|_| Carry));
        flow.run_each((0..self.jobs).map(|_| Haul));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Calls {
    jobs: u32,
}
impl Workflow for Calls {
    const NAME: &str = "Calls";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..self.jobs).map(|_| Call));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Waits {
    jobs: u32,
}
impl Workflow for Waits {
    const NAME: &str = "Waits";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..self.jobs).map(|_| Wait));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Frees {
    jobs: u32,
}
impl Workflow for Frees {
    const NAME: &str = "Frees";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..self.jobs).map(|_| Free));
        Ok(())
    }
}

/// A step of which one job may run at once.
#[derive(Serialize, Deserialize)]
struct Narrow;
impl Workflow for Narrow {
    const NAME: &str = "Narrow";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_each((0..4).map(|_| Free)).max_in_flight(1);
        Ok(())
    }
}

fn app(shop: &Shop) -> App<Shop> {
    let shop = shop.clone();
    App::new(move || {
        let shop = shop.clone();
        async move { Ok::<_, std::convert::Infallible>(shop) }
    })
    .workflow::<Meetings>()
    .workflow::<Loads>()
    .workflow::<Calls>()
    .workflow::<Waits>()
    .workflow::<Frees>()
    .workflow::<Narrow>()
    .job::<Meet>()
    .job::<Carry>()
    .job::<Haul>()
    .job::<Call>()
    .job::<Wait>()
    .job::<Visit>()
    .job::<Walk>()
    .job::<Free>()
    .queue("narrow")
    .limit(Limit::at_once(3))
}

/// Workers that share a store, in this process.
struct Crew {
    place: Place,
    client: Client,
    shop: Shop,
    stop: CancellationToken,
    workers: Vec<tokio::task::JoinHandle<gusher::Result<()>>>,
}

impl Crew {
    async fn on(place: Place, workers: usize) -> Self {
        let shop = Shop::for_meetings_of(3);
        let client = app(&shop).client_on(place.store.clone());
        let mut crew = Self { place, client, shop, stop: CancellationToken::new(), workers: Vec::new() };
        for _ in 0..workers {
            crew.join().await;
        }
        crew
    }

    async fn join(&mut self) {
        let options = WorkerOptions { slots: 8, lease: Some(Duration::from_secs(1)), ..WorkerOptions::default() };
        let worker = app(&self.shop).worker_on(self.place.store.clone(), options).await.unwrap();
        self.workers.push(tokio::spawn(worker.run(self.stop.clone())));
    }

    fn operations(&self, verb: &str) -> u64 {
        self.place.store.meters().by_verb().get(verb).map_or(0, |cost| cost.operations)
    }

    /// All comes to rest: no permit is left, and what is there is what must be.
    async fn end(self) {
        self.stop.cancel();
        for worker in self.workers {
            worker.await.unwrap().unwrap();
        }
        self.place.check_at_rest().await;
    }
}

// The jobs are on six shards of Redis, and so are the limits; with so many workers.
on_both! {
    Crew::on, on Redis with 6 shard(s):
    three_workers_run_just_as_many_jobs_of_a_type_as_its_limit_says(3)
    a_queues_limit_holds_for_all_types_in_it(3)
    lone_jobs_and_a_large_step_of_one_type_share_its_limit_and_nobody_starves(3)
    a_rate_is_kept_in_every_period(3)
    what_waits_for_a_permit_takes_no_slot_and_says_so(3)
    whoever_waits_for_a_permit_does_not_ask_again_and_again(3)
    without_limited_work_nobody_asks_for_permits(3)
    what_is_limited_or_slow_gets_its_turn_beside_a_large_quick_step_on_one_worker(1)
}

async fn three_workers_run_just_as_many_jobs_of_a_type_as_its_limit_says(crew: Crew) {
    // Workflows on several shards.
    let mut started = Vec::new();
    for _ in 0..6 {
        started.push(crew.client.start(Meetings { jobs: 15 }).await.unwrap());
    }
    for meetings in started {
        assert_eq!(meetings.wait().await.unwrap().state, WorkflowState::Succeeded);
    }
    assert_eq!(crew.shop.most_at_once(), 3);
    crew.end().await;
}

async fn a_queues_limit_holds_for_all_types_in_it(crew: Crew) {
    let (one, other) =
        (crew.client.start(Loads { jobs: 15 }).await.unwrap(), crew.client.start(Loads { jobs: 15 }).await.unwrap());
    one.wait().await.unwrap();
    other.wait().await.unwrap();
    assert_eq!(crew.shop.most_at_once(), 3);
    crew.end().await;
}

async fn lone_jobs_and_a_large_step_of_one_type_share_its_limit_and_nobody_starves(crew: Crew) {
    let large = crew.client.start(Meetings { jobs: 300_000 }).await.unwrap();
    let mut lone = Vec::new();
    for _ in 0..6 {
        lone.push(crew.client.enqueue(Meet).await.unwrap());
    }
    futures::future::try_join_all(lone.iter().map(|job| job.wait())).await.unwrap();
    let left = large.status().await.unwrap();
    assert_eq!(left.state, WorkflowState::Running, "the lone jobs did not wait for the large step");
    assert_eq!(crew.shop.most_at_once(), 3);
    large.cancel().await.unwrap();
    // What runs meets with what will not come any more.
    let mut helpers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let meeting = crew.shop.meeting.clone();
        helpers.spawn(async move {
            loop {
                meeting.wait().await;
            }
        });
    }
    large.wait().await.unwrap();
    crew.end().await;
}

async fn what_is_limited_or_slow_gets_its_turn_beside_a_large_quick_step_on_one_worker(crew: Crew) {
    // Now the worker knows how long it takes.
    crew.client.enqueue(Walk).await.unwrap().wait().await.unwrap();
    let large = crew.client.start(Frees { jobs: 500_000 }).await.unwrap();
    while large.status().await.unwrap().jobs.settled() < 5_000 {}
    let visits = [
        crew.client.enqueue(Visit { customer: 1 }).await.unwrap(),
        crew.client.enqueue(Visit { customer: 1 }).await.unwrap(),
    ];
    let call = crew.client.enqueue(Call).await.unwrap();
    let walk = crew.client.enqueue(Walk).await.unwrap();
    let narrow = crew.client.start(Narrow).await.unwrap();
    for visit in visits {
        visit.wait().await.unwrap();
    }
    call.wait().await.unwrap();
    walk.wait().await.unwrap();
    narrow.wait().await.unwrap();
    let left = large.status().await.unwrap();
    assert_eq!(left.state, WorkflowState::Running, "something waited for the large step");
    large.cancel().await.unwrap();
    large.wait().await.unwrap();
    crew.end().await;
}

async fn a_rate_is_kept_in_every_period(crew: Crew) {
    let calls = crew.client.start(Calls { jobs: 10 }).await.unwrap();
    let mut lone = Vec::new();
    for _ in 0..8 {
        lone.push(crew.client.enqueue(Call).await.unwrap());
    }
    calls.wait().await.unwrap();
    for call in lone {
        call.wait().await.unwrap();
    }
    let mut starts = crew.shop.starts.lock().clone();
    starts.sort();
    assert_eq!(starts.len(), 18);
    // The store counts in whole milliseconds.
    let period = PERIOD - Duration::from_millis(2);
    let too_close = starts.windows(CALLS as usize + 1).find(|some| *some.last().unwrap() - some[0] < period);
    assert_eq!(too_close, None, "more than {CALLS} within {PERIOD:?}");
    crew.end().await;
}

async fn what_waits_for_a_permit_takes_no_slot_and_says_so(crew: Crew) {
    let waits = crew.client.start(Waits { jobs: 40 }).await.unwrap();
    crew.shop.at_gate.acquire().await.unwrap().forget();
    let other = crew.client.start(Waits { jobs: 1 }).await.unwrap();
    // All slots but one are free.
    crew.client.start(Frees { jobs: 500 }).await.unwrap().wait().await.unwrap();
    for wf in [&waits, &other] {
        let why = wf.why().await.unwrap();
        assert!(why.causes[0].text.contains("waits for a permit of type `Wait`: 1 of 1 are taken"), "{why:?}");
    }
    crew.shop.gate.add_permits(41);
    waits.wait().await.unwrap();
    other.wait().await.unwrap();
    assert_eq!(crew.shop.most_at_once(), 1);
    crew.end().await;
}

async fn whoever_waits_for_a_permit_does_not_ask_again_and_again(crew: Crew) {
    let waits = crew.client.start(Waits { jobs: 2 }).await.unwrap();
    crew.shop.at_gate.acquire().await.unwrap().forget();
    let shards = u64::from(crew.place.store.shards());
    let looks = async |times: u64| {
        let before = crew.operations("look ahead");
        until(async || (crew.operations("look ahead") >= before + times * 3 * shards).then_some(())).await;
    };
    // It settles down.
    looks(1).await;
    let asked = || crew.operations("permit") + crew.operations("claim") / shards;
    let (before, looked) = (asked(), crew.operations("look ahead"));
    looks(4).await;
    let looked = (crew.operations("look ahead") - looked) / shards;
    let asked = asked() - before;
    assert!(asked <= looked + 6, "{asked} calls for work in the time of {looked} looks at what is due");
    crew.shop.gate.add_permits(2);
    waits.wait().await.unwrap();
    crew.end().await;
}

async fn without_limited_work_nobody_asks_for_permits(crew: Crew) {
    crew.client.start(Frees { jobs: 2_000 }).await.unwrap().wait().await.unwrap();
    crew.client.enqueue(Free).await.unwrap().wait().await.unwrap();
    assert_eq!(crew.operations("permit"), 0);
    crew.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_gives_back_what_its_jobs_ran_under_one_by_one() {
    let mut crew = Crew::on(Place::in_a_file(), 3).await;
    let waits = crew.client.start(Waits { jobs: 2 }).await.unwrap();
    crew.shop.at_gate.acquire().await.unwrap().forget();
    // Those who are there come to their end while one of them has a job; a new one takes the permit over.
    crew.stop.cancel();
    crew.stop = CancellationToken::new();
    crew.join().await;
    crew.shop.gate.add_permits(1);
    crew.shop.at_gate.acquire().await.unwrap().forget();
    crew.shop.gate.add_permits(1);
    waits.wait().await.unwrap();
    assert_eq!(crew.shop.most_at_once(), 1);
    crew.end().await;
}

#[test]
fn a_rate_holds_in_virtual_time_too() {
    #[derive(Serialize, Deserialize)]
    struct Slow;
    impl Job for Slow {
        const NAME: &str = "Slow";
        const LIMIT: Limit = Limit::at_once(4).and_rate(2, Duration::from_secs(60));
        type Output = ();
        type State = ();
        async fn perform(self, _: &Context) -> JobResult<()> {
            tokio::time::sleep(Duration::from_secs(100)).await;
            Ok(())
        }
    }
    #[derive(Serialize, Deserialize)]
    struct Slowly;
    impl Workflow for Slowly {
        const NAME: &str = "Slowly";
        fn configure(&self, flow: &Flow) -> gusher::Result<()> {
            flow.run_each((0..8).map(|_| Slow));
            Ok(())
        }
    }
    let run = Simulation::new(App::stateless().workflow::<Slowly>().job::<Slow>()).slots(8).run(Slowly).unwrap();
    let starts: Vec<u64> = run.attempts().iter().map(|attempt| attempt.started.as_secs()).collect();
    assert_eq!(starts.len(), 8);
    for some in starts.windows(3) {
        assert!(some[2] - some[0] >= 60, "{starts:?}");
    }
    assert!(starts[7] < 300, "{starts:?}");
}

#[tokio::test]
async fn a_queue_with_two_limits_is_a_mistake() {
    let app = App::stateless().queue("mail").limit(Limit::at_once(1)).queue("mail").limit(Limit::at_once(2));
    let error = app.check().unwrap_err().to_string();
    assert!(error.contains("queue `mail` is given two limits"), "{error}");
}
