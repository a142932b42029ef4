//! Twelve imports at once on a cluster of three masters, started by one client: whether each node has its share of the work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use gusher::{WorkerOptions, WorkflowState};

use super::announce;
use super::scene::Working;
use super::sizes::Sizes;
use super::table::Row;
use super::watched::Watched;
use crate::cost::Worst;
use crate::figures::thousands;
use crate::rows::RowKind;
use crate::servers::{Cluster, Program};
use crate::workload::{Import, Shared, app};

/// As many as a store on a cluster has shards.
const IMPORTS: u16 = 12;
const NODES: u16 = 3;

/// Measures.
pub async fn measure(sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    let rows = sizes.on_cluster;
    announce(&format!("{IMPORTS} imports of {} E rows on a cluster", thousands(rows)));
    let cluster = Cluster::of_masters(Program::Redis, &[]);
    let store = Arc::new(Watched::new(gusher::store::open(&cluster.url()).await?));
    let app = app(RowKind::E, false, &Shared::default());
    let client = app.client_on(store.clone());

    let started = Instant::now();
    let starts = (0..IMPORTS).map(|_| client.start(Import { rows, row: RowKind::E, fails: false }).into_future());
    let imports = futures::future::try_join_all(starts).await?;
    let create_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let worker = Working::start(&app, store.clone(), WorkerOptions::default().slots).await?;
    for ended in futures::future::try_join_all(imports.iter().map(|import| import.wait())).await? {
        ensure!(ended.state == WorkflowState::Succeeded, "an import ended as {}", ended.state);
    }
    let run_s = started.elapsed().as_secs_f64();
    worker.stop().await?;
    worst.take_in(Worst::of(gusher::store::Store::meters(&*store)));

    let (reads, reports) = (by_node(&store.reads()), by_node(&store.reports()));
    let within = [&reads, &reports].iter().all(|counts| differ_by(*counts) <= 0.25);
    Ok(Row::judged(
        format!("a cluster of {NODES} masters, {IMPORTS} × {} E rows by one client", thousands(rows)),
        "chunk reads and reports of each node within 25 %",
        format!("{reads:?} reads, {reports:?} reports; create {create_s:.2} s, run {run_s:.2} s"),
        within,
    ))
}

/// The shards lie in order, and so do the parts of the nodes: each has as many.
fn by_node(by_shard: &BTreeMap<u16, u64>) -> [u64; NODES as usize] {
    let mut counts = [0; NODES as usize];
    for (shard, count) in by_shard {
        counts[usize::from(shard * NODES / IMPORTS)] += count;
    }
    counts
}

/// By how much the busiest node has more than the least busy one.
fn differ_by(counts: &[u64]) -> f64 {
    let (least, most) = (counts.iter().min(), counts.iter().max());
    most.zip(least).map_or(0.0, |(most, least)| *most as f64 / *least as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_nothing_differs_from_the_others() {
        assert!(differ_by(&by_node(&BTreeMap::from([(0, 5), (4, 5)]))) > 0.25);
        assert!(differ_by(&by_node(&BTreeMap::from([(0, 4), (3, 1), (4, 5), (11, 6)]))) < 0.25);
    }
}
