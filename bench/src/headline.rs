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
    let plan = |rows| -> Result<RunPlan> {
        let url = place.fresh()?.to_owned();
        Ok(RunPlan { url, rows, row: options.row, fails: options.fails, slots: options.slots })
    };
    let (mut runs, mut smaller, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    // In turn, so that what else the machine does meanwhile falls on all three alike.
    for number in 1..=options.runs {
        let run = child::run(plan(options.rows)?)?;
        eprintln!("run {number} of {}: create {:.3} s, run {:.3} s", options.runs, run.create_s, run.run_s);
        smaller.push(if options.rows == SMALLER { run.clone() } else { child::run(plan(SMALLER)?)? });
        runs.push(run);
        floor.push(child::floor(plan(options.rows)?)?);
    }
    let figures = Figures::new(options.rows, options.row, &runs, &smaller, &floor);
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
