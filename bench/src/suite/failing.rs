//! Rows that all fail three times with one text: what the failures take in the store.

use anyhow::Result;
use gusher::WorkerOptions;

use super::announce;
use super::sizes::Sizes;
use super::table::Row;
use crate::child;
use crate::cost::Worst;
use crate::figures::thousands;
use crate::one_run::RunPlan;
use crate::place::Place;
use crate::rows::RowKind;

/// Measures. The budget is that of a store whose operations travel; on SQLite it is printed to be known.
pub fn measure(place: &Place, sizes: &Sizes, worst: &mut Worst) -> Result<Row> {
    announce("rows that all fail three times");
    let url = place.fresh()?.to_owned();
    let slots = WorkerOptions::default().slots;
    let run = child::run(RunPlan { url, rows: sizes.big, row: RowKind::E, fails: true, slots, broker: None })?;
    worst.take_in(run.worst.clone());
    let a_job = |count: u64| count as f64 / sizes.big as f64;
    let measured = format!(
        "{:.1} bytes; {:.3} operations / {:.3} statements a job ({:.1} s); on SQLite only to be known",
        a_job(run.bytes_done),
        a_job(run.totals.operations),
        a_job(run.totals.statements),
        run.total_s()
    );
    let what = format!("{} rows that all fail three times with one text", thousands(sizes.big));
    Ok(Row::informative(what, "≤ 120 bytes and ≤ 0.3 commands a job", measured))
}
