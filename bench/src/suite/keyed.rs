//! Lone jobs whose key limits them: what one costs must not depend on how many wait.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use gusher::prelude::*;

use super::announce;
use super::scene::Working;
use super::sizes::Sizes;
use super::table::Row;
use crate::cost::{Totals, Worst};
use crate::figures::thousands;
use crate::place::{Place, is_redis, stored_bytes};
use crate::rows::{Payment, payments};

/// What a job may cost more or less than with a hundredth of the jobs waiting.
const TOLERANCE: f64 = 0.2;

/// A booking on the account of a customer, of which there is to be one at a time.
#[derive(Debug, Serialize, Deserialize)]
struct Book {
    customer: u64,
    payment: Payment,
}

impl Job for Book {
    const NAME: &str = "Book";
    const LIMIT_PER_KEY: Limit = Limit::at_once(1);
    type Output = ();
    type State = ();

    fn key(&self) -> Option<String> {
        Some(format!("customer {}", self.customer))
    }

    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

/// What jobs have taken.
struct Taken {
    /// Commands a job, while nearly all wait and while nearly none does.
    many_wait: f64,
    few_wait: f64,
    enqueue: f64,
    bytes: f64,
    rate: f64,
}

/// What the workers have called the store for so far, beside how many jobs wait.
#[derive(Clone, Copy)]
struct Look {
    waiting: u64,
    settled: u64,
    statements: u64,
}

/// Measures on a Redis server of its own and on a file.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (store, folder) in [("redis", None), ("sqlite", folder)] {
        let place = Place::named(store, folder)?;
        let name = if is_redis(place.fresh()?) { "Redis" } else { "SQLite" };
        announce(&format!("lone jobs of {} keys on {name}", thousands(sizes.keys)));
        let taken = run(&place, sizes.keys, worst).await?;
        let within = (taken.many_wait / taken.few_wait - 1.0).abs() <= TOLERANCE && taken.bytes <= 450.0;
        let measured = format!(
            "{:.1} / {:.1} commands a job, {:.1} to enqueue it; {:.0} bytes a job; {:.0}/s",
            taken.few_wait, taken.many_wait, taken.enqueue, taken.bytes, taken.rate
        );
        let what = format!(
            "{name}, {} keys with a limit of one: with {} / {} jobs waiting",
            thousands(sizes.keys),
            thousands(sizes.keys / 10),
            thousands(sizes.keys * 10)
        );
        rows.push(Row::judged(what, "commands a job alike ± 20 %; ≤ 450 bytes", measured, within));
    }
    Ok(rows)
}

/// Enqueues eleven jobs for each key, of which one may start at once, then runs all of them.
async fn run(place: &Place, keys: u64, worst: &mut Worst) -> Result<Taken> {
    let url = place.fresh()?.to_owned();
    let store = gusher::store::open(&url).await?;
    let app = App::stateless().job::<Book>();
    let client = app.client_on(store.clone());
    let book = |(n, payment): (u64, Payment)| Book { customer: n % keys, payment };
    client.enqueue_all((0..).zip(payments(1)).map(book)).await?;
    let (empty, jobs) = (stored_bytes(&url)?, 11 * keys - 1);
    let before = Totals::of(store.meters());
    client.enqueue_all((1..).zip(payments(jobs)).map(book)).await?;
    let enqueue = Totals::of(store.meters()).since(before).statements as f64 / jobs as f64;
    let bytes = stored_bytes(&url)?.saturating_sub(empty) as f64 / jobs as f64;

    let started = Instant::now();
    let worker = Working::start(&app, store.clone(), 8).await?;
    let mut looks = Vec::new();
    loop {
        let by_verb = store.meters().by_verb();
        let of_workers = ["claim", "report", "tick", "renew"];
        let statements = of_workers.iter().filter_map(|verb| by_verb.get(verb)).map(|verb| verb.sum.calls).sum();
        let lanes = client.lanes().await?;
        let (waiting, left) = lanes
            .iter()
            .fold((0, 0), |(waiting, left), lane| (waiting + lane.jobs.deferred, left + lane.jobs.unsettled()));
        looks.push(Look { waiting, settled: jobs + 1 - left, statements });
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rate = jobs as f64 / started.elapsed().as_secs_f64();
    worker.stop().await?;
    worst.take_in(Worst::of(store.meters()));
    let many_wait = between(&looks, keys * 9, keys * 10);
    let few_wait = between(&looks, keys / 10, keys + keys / 10);
    Ok(Taken { many_wait, few_wait, enqueue, bytes, rate })
}

/// Commands a job while between so many and so many waited.
fn between(looks: &[Look], fewest: u64, most: u64) -> f64 {
    let mut within = looks.iter().filter(|look| (fewest..=most).contains(&look.waiting) && look.settled > 0);
    match (within.next(), within.next_back()) {
        (Some(first), Some(last)) => {
            (last.statements - first.statements) as f64 / (last.settled - first.settled).max(1) as f64
        }
        _ => f64::NAN,
    }
}
