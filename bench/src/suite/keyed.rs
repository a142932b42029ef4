//! Lone jobs whose key limits them: what one costs must not depend on how many wait.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use gusher::prelude::*;

use super::announce;
use super::lone::settled;
use super::scene::Working;
use super::sizes::Sizes;
use super::table::Row;
use crate::cost::{Totals, Worst};
use crate::figures::thousands;
use crate::place::{Place, is_redis, stored_bytes};
use crate::rows::{Payment, payments};

/// What a job may cost more or less than with a hundredth of the jobs waiting.
const TOLERANCE: f64 = 0.2;

/// A look at the account of a customer, of which there is to be one at a time.
#[derive(Debug, Serialize, Deserialize)]
struct Look {
    customer: u64,
    payment: Payment,
}

impl Job for Look {
    const NAME: &str = "Look";
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

/// What jobs have taken, each.
struct Taken {
    jobs: u64,
    seconds: f64,
    enqueue: f64,
    run: f64,
    bytes: f64,
}

/// Measures on a Redis server of its own and on a file.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (store, folder) in [("redis", None), ("sqlite", folder)] {
        let place = Place::named(store, folder)?;
        let name = if is_redis(place.fresh()?) { "Redis" } else { "SQLite" };
        announce(&format!("lone jobs of {} keys on {name}", thousands(sizes.keys)));
        let few = with_waiting(&place, sizes.keys, sizes.keys / 10, worst).await?;
        let many = with_waiting(&place, sizes.keys, sizes.keys * 10, worst).await?;
        let alike = |few: f64, many: f64| (many / few - 1.0).abs() <= TOLERANCE;
        let within = alike(few.run, many.run) && alike(few.enqueue, many.enqueue) && many.bytes <= 450.0;
        let measured = format!(
            "enqueue {:.1} / {:.1}, run {:.1} / {:.1} commands a job; {:.0} bytes a job; {:.0}/s",
            few.enqueue,
            many.enqueue,
            few.run,
            many.run,
            many.bytes,
            many.jobs as f64 / many.seconds
        );
        let what = format!(
            "{name}, {} keys with a limit of one: {} / {} jobs wait",
            thousands(sizes.keys),
            thousands(sizes.keys / 10),
            thousands(sizes.keys * 10)
        );
        rows.push(Row::judged(what, "commands a job alike ± 20 %; ≤ 450 bytes", measured, within));
    }
    Ok(rows)
}

/// Enqueues a job for each key and `waiting` more, then runs all of them.
async fn with_waiting(place: &Place, keys: u64, waiting: u64, worst: &mut Worst) -> Result<Taken> {
    let url = place.fresh()?.to_owned();
    let store = gusher::store::open(&url).await?;
    let app = App::stateless().job::<Look>();
    let client = app.client_on(store.clone());
    let look = |(n, payment): (u64, Payment)| Look { customer: n % keys, payment };
    client.enqueue_all((0..).zip(payments(1)).map(look)).await?;
    let (empty, jobs) = (stored_bytes(&url)?, keys + waiting - 1);
    let before = Totals::of(store.meters());
    client.enqueue_all((1..).zip(payments(jobs)).map(look)).await?;
    let enqueued = Totals::of(store.meters()).since(before);
    let bytes = stored_bytes(&url)?.saturating_sub(empty) as f64 / jobs as f64;

    let (before, started) = (Totals::of(store.meters()), Instant::now());
    let worker = Working::start(&app, store.clone(), 8).await?;
    settled(&client).await?;
    let (ran, seconds) = (Totals::of(store.meters()).since(before), started.elapsed().as_secs_f64());
    worker.stop().await?;
    worst.take_in(Worst::of(store.meters()));
    let each = |totals: Totals| totals.statements as f64 / jobs as f64;
    Ok(Taken { jobs, seconds, enqueue: each(enqueued), run: each(ran), bytes })
}
