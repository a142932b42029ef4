//! Lone jobs: 64 callers enqueue them one by one, then one worker runs them; what they take while they wait; and a mixed run.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use gusher::prelude::*;
use gusher::{Keep, Unique, WorkflowState};

use super::announce;
use super::scene::Working;
use super::sizes::Sizes;
use super::table::Row;
use crate::cost::Worst;
use crate::figures::thousands;
use crate::place::{Place, is_redis, stored_bytes};
use crate::rows::{Payment, payments};

const CALLERS: u64 = 64;
/// So many a second, of each phase.
const BUDGET: f64 = 25_000.0;

/// A mail about a payment: nothing is sent.
#[derive(Debug, Serialize, Deserialize)]
struct SendMail(Payment);

impl Job for SendMail {
    const NAME: &str = "SendMail";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

/// A job of another queue, with an output that is kept for a while.
#[derive(Debug, Serialize, Deserialize)]
struct Resize(Payment);

impl Job for Resize {
    const NAME: &str = "Resize";
    const QUEUE: &str = "images";
    type Output = u32;
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<u32> {
        Ok(42)
    }
}

/// A job that fails for good.
#[derive(Debug, Serialize, Deserialize)]
struct Bounce(Payment);

impl Job for Bounce {
    const NAME: &str = "Bounce";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        Err(JobError::fatal("no such mailbox"))
    }
}

fn app() -> App {
    App::stateless().job::<SendMail>().job::<Resize>().job::<Bounce>()
}

/// Measures on a Redis server of its own and on a file.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (store, folder) in [("redis", None), ("sqlite", folder)] {
        let place = Place::named(store, folder)?;
        rows.extend(measure_on(&place, sizes, worst).await?);
    }
    Ok(rows)
}

async fn measure_on(place: &Place, sizes: &Sizes, worst: &mut Worst) -> Result<Vec<Row>> {
    let url = place.fresh()?.to_owned();
    let name = if is_redis(&url) { "Redis" } else { "SQLite" };
    let jobs = sizes.lone / CALLERS * CALLERS;
    announce(&format!("{} lone jobs of {CALLERS} callers on {name}", thousands(jobs)));
    let store = gusher::store::open(&url).await?;
    let client = app().client_on(store.clone());
    client.enqueue(SendMail(payments(1).next().expect("a row"))).await?;
    let empty = stored_bytes(&url)?;
    let enqueued = enqueue(&client, jobs, How::Plainly).await?;
    let bytes = (stored_bytes(&url)?.saturating_sub(empty)) as f64 / jobs as f64;

    let started = Instant::now();
    let worker = Working::start(&app(), store.clone(), 8).await?;
    settled(&client).await?;
    let ran = jobs as f64 / started.elapsed().as_secs_f64();
    worker.stop().await?;
    worst.take_in(Worst::of(store.meters()));
    drop((client, store));

    let delayed = bytes_of_waiting(place, jobs / 4, How::Later, worst).await?;
    let unique = bytes_of_waiting(place, jobs / 4, How::Unique, worst).await?;

    let what = format!("{name}, {} lone jobs, {CALLERS} callers: enqueue / run", thousands(jobs));
    let measured =
        format!("{enqueued:.0}/s / {ran:.0}/s; {bytes:.0} bytes plain, {delayed:.0} delayed, {unique:.0} unique");
    let told = "≥ 25,000/s each; ≤ 250 bytes plain, ≤ 450 delayed or keyed";
    let within = enqueued >= BUDGET && ran >= BUDGET && bytes <= 250.0 && delayed.max(unique) <= 450.0;
    // A file waits for its disk at each call; the budget is that of a server.
    let row = if name == "Redis" {
        Row::judged(what, told, measured, within)
    } else {
        Row::informative(what, told, measured)
    };
    Ok(vec![row, mixed(place, name, jobs, worst).await?])
}

/// How many bytes a job takes that waits.
async fn bytes_of_waiting(place: &Place, jobs: u64, how: How, worst: &mut Worst) -> Result<f64> {
    let url = place.fresh()?.to_owned();
    let store = gusher::store::open(&url).await?;
    let client = app().client_on(store.clone());
    client.enqueue(SendMail(payments(1).next().expect("a row"))).await?;
    let empty = stored_bytes(&url)?;
    enqueue(&client, jobs, how).await?;
    worst.take_in(Worst::of(store.meters()));
    Ok(stored_bytes(&url)?.saturating_sub(empty) as f64 / jobs as f64)
}

/// How jobs are enqueued.
#[derive(Clone, Copy)]
enum How {
    Plainly,
    /// Each at a time of its own.
    Later,
    /// Each the only one of its key.
    Unique,
}

/// Each caller enqueues its share, one job after another; returns how many came a second.
async fn enqueue(client: &Client, jobs: u64, how: How) -> Result<f64> {
    let started = Instant::now();
    each_caller(client, jobs, move |client, n, row| async move {
        let job = client.enqueue(SendMail(row));
        let job = match how {
            How::Plainly => job,
            How::Later => job.later(Duration::from_secs(3_600) + Duration::from_millis(n)),
            How::Unique => job.unique(Unique::until_settled(format!("payment {n}"))),
        };
        job.await.map(|_| ())
    })
    .await?;
    Ok(jobs as f64 / started.elapsed().as_secs_f64())
}

/// The callers take rows in turn, so none is enqueued twice, and do something with each, one after another.
async fn each_caller<F, Done>(client: &Client, jobs: u64, does: F) -> Result<()>
where
    F: Fn(Client, u64, Payment) -> Done + Copy + Send + 'static,
    Done: Future<Output = gusher::Result<()>> + Send + 'static,
{
    let rows = Arc::new(Mutex::new((0..).zip(payments(jobs))));
    let callers = (0..CALLERS).map(|_| {
        let (client, rows) = (client.clone(), rows.clone());
        tokio::spawn(async move {
            loop {
                let next = rows.lock().map_or(None, |mut rows| rows.next());
                let Some((n, row)) = next else { return Ok::<_, gusher::Error>(()) };
                does(client.clone(), n, row).await?;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    Ok(())
}

/// Waits until every lone job has settled.
async fn settled(client: &Client) -> Result<()> {
    loop {
        let lanes = client.workflows().state(WorkflowState::Standing).page(1000).await?;
        if lanes.iter().all(|lane| lane.jobs.unsettled() == 0) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Three types in two queues, one in twenty put off, one in a hundred failing, what is kept going again: while a worker runs them.
async fn mixed(place: &Place, name: &str, jobs: u64, worst: &mut Worst) -> Result<Row> {
    announce(&format!("{} lone jobs of three types on {name}", thousands(jobs)));
    let url = place.fresh()?.to_owned();
    let store = gusher::store::open(&url).await?;
    let second = Duration::from_secs(1);
    let app = app().keep_lone_jobs(Keep { outputs: second, failures: second });
    let client = app.client_on(store.clone());
    let options =
        gusher::WorkerOptions { slots: 8, keep: Keep { outputs: second, failures: second }, ..Default::default() };
    let worker = Working::with(&app, store.clone(), options).await?;
    let started = Instant::now();
    each_caller(&client, jobs, |client, n, row| async move {
        let later = Duration::from_millis(200);
        match n {
            n if n % 100 == 99 => client.enqueue(Bounce(row)).await.map(|_| ()),
            n if n % 40 == 7 => client.enqueue(Resize(row)).later(later).await.map(|_| ()),
            n if n % 40 == 8 => client.enqueue(SendMail(row)).later(later).await.map(|_| ()),
            n if n % 3 == 0 => client.enqueue(Resize(row)).await.map(|_| ()),
            _ => client.enqueue(SendMail(row)).await.map(|_| ()),
        }
    })
    .await?;
    settled(&client).await?;
    let rate = jobs as f64 / started.elapsed().as_secs_f64();
    let left = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let lanes = client.workflows().state(WorkflowState::Standing).page(1000).await?;
        let left: u64 = lanes.iter().map(|lane| lane.jobs.total).sum();
        if left == 0 || started.elapsed() > Duration::from_secs(300) {
            break left;
        }
    };
    worker.stop().await?;
    worst.take_in(Worst::of(store.meters()));
    Ok(Row::informative(
        format!("{name}, the same mixed: three types, two queues, 5 % delayed, 1 % failing, kept for a second"),
        "printed",
        format!("{rate:.0}/s enqueued and run; {left} kept at the end"),
    ))
}
