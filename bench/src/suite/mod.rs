//! `cargo xtask bench --suite`: every budget of the design beside what was measured, and whether it holds; with `--only`, one topic.
//!
//! | file | budget |
//! |---|---|
//! | `sizes` | how large everything is, in full and quick |
//! | `scene`, `watched` | a store with workers; a store that notes who claims |
//! | `big` | large imports: commits, cost a job, commands, memory |
//! | `redis`, `several`, `cluster` | large imports on Redis, with several worker processes, on a cluster |
//! | `failing` | rows that all fail |
//! | `repair` | a retry of every tenth row |
//! | `chains` | rows of many files in three stages |
//! | `beside` | a small workflow beside a large one |
//! | `idle`, `crowd`, `wake` | workers that wait, one and a hundred, and how fast they start |
//! | `slow` | a few slow rows among many fast ones |
//! | `killed` | a worker that dies |
//! | `limits` | what is refused |
//! | `lone`, `keyed` | lone jobs; those with a key |
//! | `prune` | retention beside work; only if asked for |
//! | `table` | what is printed |

mod beside;
mod big;
mod chains;
mod cluster;
mod crowd;
mod failing;
mod idle;
mod keyed;
pub mod killed;
mod limits;
mod lone;
mod prune;
mod redis;
mod repair;
mod scene;
pub mod several;
mod sizes;
mod slow;
mod table;
mod wake;
mod watched;

use std::time::Instant;

use anyhow::Result;
use gusher::store::{MAX_BYTES, MAX_CALLS};

use self::sizes::Sizes;
use self::table::Row;
use crate::cost::Worst;
use crate::figures::thousands;
use crate::machine::{load_average, measure_disk};
use crate::options::{Options, Topic};
use crate::place::Place;

/// Measures all that can be measured, prints it, and returns whether every budget that was measured holds.
pub async fn measure(options: &Options) -> Result<bool> {
    let (started, before) = (Instant::now(), load_average());
    let sizes = if options.quick { Sizes::quick() } else { Sizes::full() };
    let folder = options.folder.as_deref();
    let place = Place::temporary(folder)?;
    let disk = measure_disk(folder)?;
    let mut worst = Worst::default();

    let wants = |topic| options.only.is_none_or(|only| only == topic);
    let big = wants(Topic::Big).then(|| big::measure(&place, &sizes, &mut worst)).transpose()?;
    let mut rows = Vec::new();
    if let Some(big) = &big {
        rows.extend([
            big.on_sqlite(&sizes, disk),
            big.cost_a_job(&sizes),
            big.commands_a_job(&sizes),
            big.memory(&sizes),
        ]);
    }
    if wants(Topic::Failing) {
        rows.push(failing::measure(&place, &sizes, &mut worst)?);
    }
    if wants(Topic::Repair) {
        rows.push(repair::measure(folder, &sizes, &mut worst).await?);
        rows.push(repair::measure_redis(&sizes, &mut worst).await?);
    }
    if wants(Topic::Chains) {
        rows.push(chains::measure(folder, &sizes, &mut worst).await?);
        rows.push(chains::measure_redis(&sizes, &mut worst).await?);
    }
    if wants(Topic::Redis) {
        rows.extend(redis::measure(&sizes, &mut worst)?);
    }
    if wants(Topic::Several) {
        rows.push(several::measure(&sizes).await?);
    }
    if wants(Topic::Cluster) {
        rows.push(cluster::measure(&sizes, &mut worst).await?);
    }
    if wants(Topic::Lone) {
        rows.extend(lone::measure(folder, &sizes, &mut worst).await?);
    }
    if wants(Topic::Keyed) {
        rows.extend(keyed::measure(folder, &sizes, &mut worst).await?);
    }
    if wants(Topic::Beside) {
        rows.push(beside::measure(folder, &sizes, &mut worst).await?);
    }
    if wants(Topic::Idle) {
        rows.push(idle::measure(folder, &sizes, &mut worst).await?);
        rows.push(idle::measure_redis(&sizes).await?);
    }
    if wants(Topic::Crowd) {
        rows.push(crowd::measure(folder, &mut worst).await?);
    }
    if wants(Topic::Wake) {
        rows.push(wake::measure(folder, &mut worst).await?);
        rows.push(wake::measure_redis(&mut worst).await?);
    }
    if wants(Topic::Slow) {
        rows.push(slow::measure(folder, &sizes, &mut worst).await?);
    }
    if wants(Topic::Killed) {
        rows.extend(killed::measure(folder, &sizes, &mut worst).await?);
    }
    if wants(Topic::Limits) {
        rows.push(limits::measure(folder, &mut worst).await?);
    }
    if options.only == Some(Topic::Prune) {
        rows.extend(prune::measure(folder, &sizes, &mut worst).await?);
    }
    // Some topics measure other processes only, which keep to themselves what their operations took.
    if worst != Worst::default() {
        rows.push(of_any_operation(&worst));
    }

    table::print(&rows);
    let kind = match (options.only.is_some(), options.quick) {
        (false, false) => "full suite",
        (false, true) => "quick suite",
        (true, false) => "one topic",
        (true, true) => "one topic, quickly",
    };
    println!("{kind}: {} s; load average {before} before, {} after", started.elapsed().as_secs(), load_average());
    println!("disk: {disk}");
    if options.json {
        println!(
            "{}",
            serde_json::json!({ "quick": options.quick, "only": options.only.map(Topic::name), "rows": rows })
        );
    }
    Ok(rows.iter().all(Row::holds))
}

/// Over everything that ran before.
fn of_any_operation(worst: &Worst) -> Row {
    let ((calls, caller), (bytes, mover)) = (&worst.calls, &worst.bytes);
    let measured = format!("{calls} calls ({caller}); {} bytes ({mover})", thousands(*bytes));
    let within = *calls <= 600 && *bytes <= 512 * 1024 && (MAX_CALLS, MAX_BYTES) == (600, 512 * 1024);
    Row::judged("any one store operation, over all of these", "≤ 600 inner calls and ≤ 512 KiB", measured, within)
}

/// Tells who waits what is being measured.
fn announce(what: &str) {
    eprintln!("measuring {what}");
}
