//! What a worker without work costs its store.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use gusher::store::Store;

use super::announce;
use super::scene::{Scene, Working};
use super::sizes::Sizes;
use super::table::Row;
use super::wake::{self, Started};
use crate::cost::Worst;
use crate::place::{Place, connect};

/// The verbs of operations that write; the others only look, and hold up nobody.
const WRITING: [&str; 13] = [
    "join", "leave", "append", "create", "claim", "renew", "report", "tick", "cancel", "pause", "resume", "retry",
    "delete",
];

/// Measures on a file.
pub async fn measure(folder: Option<&Path>, sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    announce("an idle worker");
    let scene = Scene::new(folder, Duration::from_secs(15)).await?;
    let worker = Working::start(&wake::app(&Started::nowhere()), scene.store.clone(), 4).await?;
    // Its beginning is not what is measured.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let so_far = || {
        let by_verb = scene.store.meters().by_verb();
        let count = |writes| -> u64 {
            let chosen = by_verb.iter().filter(|(name, _)| WRITING.contains(name) == writes);
            chosen.map(|(_, verb)| verb.operations).sum()
        };
        (count(true), count(false))
    };
    let before = so_far();
    tokio::time::sleep(sizes.idle).await;
    let after = so_far();
    worker.stop().await?;
    scene.add_to(worst);

    let a_second = |count: u64| count as f64 / sizes.idle.as_secs_f64();
    let (writing, reading) = (a_second(after.0 - before.0), a_second(after.1 - before.1));
    let measured =
        format!("{writing:.2} operations/s that write, {reading:.2} that look, over {} s", sizes.idle.as_secs());
    Ok(Row::judged("idle worker", "≤ 2 commands/s", measured, writing <= 2.0))
}

/// Measures on a Redis server of its own, which counts itself: every look is a command there.
pub async fn measure_redis(sizes: &Sizes) -> Result<Row> {
    announce("an idle worker on Redis");
    let place = Place::named("redis", None)?;
    let url = place.fresh()?;
    let worker = Working::start(&wake::app(&Started::nowhere()), gusher::store::open(url).await?, 4).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = scripts_run(url)?;
    tokio::time::sleep(sizes.idle).await;
    let count = scripts_run(url)? - before;
    worker.stop().await?;

    let a_second = count as f64 / sizes.idle.as_secs_f64();
    let measured = format!("{a_second:.2} commands/s over {} s", sizes.idle.as_secs());
    Ok(Row::judged("Redis, idle worker", "≤ 2 commands/s a shard", measured, a_second <= 2.0))
}

/// Each command that the store sends runs one script.
fn scripts_run(url: &str) -> Result<u64> {
    let info: redis::InfoDict = redis::cmd("INFO").arg("commandstats").query(&mut connect(url)?)?;
    let told: String = info.get("cmdstat_evalsha").context("the server tells no counts of commands")?;
    let calls = told.strip_prefix("calls=").and_then(|rest| rest.split(',').next()).context("no count of calls")?;
    calls.parse().with_context(|| format!("`{told}`"))
}
