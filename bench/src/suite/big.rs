//! Large imports, each in a process of its own: commits and seconds, the cost of a job by size, commands a job, memory.

use anyhow::Result;
use gusher::WorkerOptions;

use super::announce;
use super::sizes::Sizes;
use super::table::Row;
use crate::child;
use crate::cost::Worst;
use crate::figures::{SMALLER, cost_against, median, round, thousands};
use crate::machine::Disk;
use crate::one_run::{RunMeasured, RunPlan};
use crate::place::Place;
use crate::rows::RowKind;

/// What the large imports took.
#[derive(Debug)]
pub struct Big {
    big: Vec<RunMeasured>,
    smaller: Vec<RunMeasured>,
    huge: RunMeasured,
}

/// Runs them.
pub fn measure(place: &Place, sizes: &Sizes, worst: &mut Worst) -> Result<Big> {
    let mut run = |rows| -> Result<RunMeasured> {
        announce(&format!("an import of {} E rows", thousands(rows)));
        let url = place.fresh()?.to_owned();
        let slots = WorkerOptions::default().slots;
        let measured = child::run(RunPlan { url, rows, row: RowKind::E, fails: false, slots, broker: None })?;
        worst.take_in(measured.worst.clone());
        Ok(measured)
    };
    let (mut big, mut smaller) = (Vec::new(), Vec::new());
    for _ in 0..sizes.runs {
        big.push(run(sizes.big)?);
        smaller.push(run(SMALLER)?);
    }
    Ok(Big { big, smaller, huge: run(sizes.huge)? })
}

impl Big {
    fn median(&self, figure: impl Fn(&RunMeasured) -> f64) -> f64 {
        median(self.big.iter().map(figure))
    }

    /// Commits and seconds. Of a smaller import than the design's, the budget is that share.
    pub fn on_sqlite(&self, sizes: &Sizes, disk: Disk) -> Row {
        let share = sizes.big as f64 / 1e6;
        let (most_commits, most_seconds) = (2_500.0 * share, round(6.0 * share, 2));
        let (commits, seconds) = (self.median(|run| run.totals.commits as f64), self.median(RunMeasured::total_s));
        let within_time = disk.syncs_per_second < 1_000.0 || seconds <= most_seconds;
        Row::judged(
            format!("{} E rows on SQLite, FULL", thousands(sizes.big)),
            format!(
                "≤ {} commits; ≤ {most_seconds} s where the disk does 1,000 syncs/s",
                thousands(most_commits as u64)
            ),
            format!(
                "{commits} commits; {seconds:.2} s on a disk of {} syncs/s",
                thousands(disk.syncs_per_second as u64)
            ),
            commits <= most_commits && within_time,
        )
    }

    /// The cost of a job by size.
    pub fn cost_a_job(&self, sizes: &Sizes) -> Row {
        let cost = cost_against(sizes.huge, self.huge.total_s(), &self.smaller);
        Row::judged(
            format!("cost a job, {} against {} rows", thousands(sizes.huge), thousands(SMALLER)),
            "≤ 1.3 ×",
            format!("{cost:.2} × ({:.2} s)", self.huge.total_s()),
            cost <= 1.3,
        )
    }

    /// Operations, and statements inside of them.
    pub fn commands_a_job(&self, sizes: &Sizes) -> Row {
        let a_job = |count: f64| count / sizes.big as f64;
        let sent = a_job(self.median(|run| run.totals.operations as f64));
        let inner = a_job(self.median(|run| run.totals.statements as f64));
        Row::judged(
            format!("commands a job in a step of {}: sent / with those inside", thousands(sizes.big)),
            "≤ 0.02 / ≤ 0.10",
            format!("{sent:.4} operations / {inner:.4} statements"),
            sent <= 0.02 && inner <= 0.10,
        )
    }

    /// The memory of the largest.
    pub fn memory(&self, sizes: &Sizes) -> Row {
        let what = format!("peak memory a process at {} rows", thousands(sizes.huge));
        match self.huge.peak_memory {
            Some(bytes) => {
                let megabytes = bytes as f64 / 1e6;
                Row::judged(what, "≤ 150 MB", format!("{megabytes:.1} MB"), megabytes <= 150.0)
            }
            None => Row::not_yet(&what, "≤ 150 MB", "a system that tells the peak memory of a process"),
        }
    }
}
