//! Large imports through a Redis server: against its floor, by size, in bytes and commands a job, and with every row failing.

use anyhow::Result;
use gusher::WorkerOptions;

use super::announce;
use super::sizes::Sizes;
use super::table::Row;
use crate::child;
use crate::cost::Worst;
use crate::figures::{SMALLER, cost_against, median, thousands};
use crate::floor::FloorMeasured;
use crate::one_run::{RunMeasured, RunPlan};
use crate::place::Place;
use crate::rows::RowKind;

/// Measures, on a server of its own.
pub fn measure(sizes: &Sizes, worst: &mut Worst) -> Result<Vec<Row>> {
    let place = Place::named("redis", None)?;
    let plan = |rows, row, fails| -> Result<RunPlan> {
        let slots = WorkerOptions::default().slots;
        Ok(RunPlan { url: place.fresh()?.to_owned(), rows, row, fails, slots, broker: None })
    };
    let mut run = |rows, row, fails| -> Result<RunMeasured> {
        let what = if fails { " that all fail three times" } else { "" };
        announce(&format!("an import of {} {} rows{what} on Redis", thousands(rows), RowKind::letter(row)));
        let measured = child::run(plan(rows, row, fails)?)?;
        worst.take_in(measured.worst.clone());
        Ok(measured)
    };
    let (mut big, mut smaller, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..sizes.runs {
        big.push(run(sizes.big, RowKind::E, false)?);
        smaller.push(run(SMALLER, RowKind::E, false)?);
        floor.push(child::floor(plan(sizes.big, RowKind::E, false)?)?);
    }
    let airports = run(sizes.big, RowKind::A, false)?;
    let failing = run(sizes.big, RowKind::E, true)?;
    let huge = run(sizes.huge, RowKind::E, false)?;

    let total_s = median(big.iter().map(RunMeasured::total_s));
    let times = total_s / median(floor.iter().map(FloorMeasured::total_s));
    let a_job = |bytes: u64| bytes as f64 / sizes.big as f64;
    let e = (a_job(big[0].bytes_created), a_job(big[0].bytes_done));
    let a = (a_job(airports.bytes_created), a_job(airports.bytes_done));
    let cost = cost_against(sizes.huge, huge.total_s(), &smaller);
    let (bytes, commands) = (a_job(failing.bytes_done), a_job(failing.totals.statements));
    let (sent, inner) = (a_job(big[0].totals.operations), a_job(big[0].totals.statements));
    Ok(vec![
        Row::judged(
            format!("{} E rows on Redis: create + run + report", thousands(sizes.big)),
            "≤ 2.5 × the floor of the same run",
            format!("{times:.2} × ({total_s:.2} s)"),
            times <= 2.5,
        ),
        Row::judged(
            format!("Redis, cost a job, {} against {} rows", thousands(sizes.huge), thousands(SMALLER)),
            "≤ 1.3 ×",
            format!("{cost:.2} × ({:.2} s)", huge.total_s()),
            cost <= 1.3,
        ),
        Row::judged(
            "Redis bytes a job, E / A",
            "after create ≤ 42 / 50; after the run ≤ 55 / 65",
            format!("after create {:.1} / {:.1}; after the run {:.1} / {:.1}", e.0, a.0, e.1, a.1),
            e.0 <= 42.0 && a.0 <= 50.0 && e.1 <= 55.0 && a.1 <= 65.0,
        ),
        Row::judged(
            format!("Redis, {} rows that all fail three times with one text", thousands(sizes.big)),
            "≤ 120 bytes and ≤ 0.3 commands a job",
            format!("{bytes:.1} bytes; {commands:.3} commands a job ({:.1} s)", failing.run_s),
            bytes <= 120.0 && commands <= 0.3,
        ),
        Row::judged(
            format!("Redis, commands a job in a step of {}: sent / with those inside", thousands(sizes.big)),
            "≤ 0.02 / ≤ 0.10",
            format!("{sent:.4} / {inner:.4}"),
            sent <= 0.02 && inner <= 0.10,
        ),
    ])
}
