//! `cargo xtask bench --store …`: some runs of one size, each beside a run of 100,000 rows and one of the floor.

use anyhow::Result;

use crate::child;
use crate::figures::{Figures, SMALLER, thousands};
use crate::machine::load_average;
use crate::one_run::RunPlan;
use crate::options::Options;
use crate::place::Place;

/// Measures and prints.
pub fn measure(options: &Options, place: &Place) -> Result<()> {
    let before = load_average();
    let server = (options.broker.as_deref() == Some("rabbitmq")).then(brokers::RabbitMq::start);
    let broker = &server.as_ref().map(brokers::RabbitMq::url).or_else(|| options.broker.clone());
    let plan_by = |rows, broker: &Option<String>| -> Result<RunPlan> {
        let (url, broker) = (place.fresh()?.to_owned(), broker.clone());
        Ok(RunPlan { url, rows, row: options.row, fails: options.fails, slots: options.slots, broker })
    };
    let plan = |rows| plan_by(rows, broker);
    let (mut runs, mut smaller, mut floor, mut without) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // In turn, so that what else the machine does meanwhile falls on all three alike.
    for number in 1..=options.runs {
        let run = child::run(plan(options.rows)?)?;
        eprintln!("run {number} of {}: create {:.3} s, run {:.3} s", options.runs, run.create_s, run.run_s);
        smaller.push(if options.rows == SMALLER { run.clone() } else { child::run(plan(SMALLER)?)? });
        runs.push(run);
        floor.push(child::floor(plan(options.rows)?)?);
        if broker.is_some() {
            let run = child::run(plan_by(options.rows, &None)?)?;
            eprintln!("  without the broker: create {:.3} s, run {:.3} s", run.create_s, run.run_s);
            without.push(run);
        }
    }
    let mut figures = Figures::new(options.rows, options.row, &runs, &smaller, &floor);
    if broker.is_some() {
        figures = figures.by_broker(&runs, &without);
    }
    println!("{} {} rows, median of {} runs", thousands(options.rows), figures.row, options.runs);
    for [name, figure] in figures.lines() {
        println!("  {name:<34} {figure}");
    }
    println!("  {:<34} {before} before, {} after", "load average", load_average());
    if options.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}
