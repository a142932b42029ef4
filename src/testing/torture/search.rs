//! Which jobs are not safe to repeat: step by step, then by halving.

use std::collections::BTreeSet;

use super::Found;
use super::report::{TortureReport, UnsafeJob};
use crate::error::Result;
use crate::testing::simulation::Run;
use crate::testing::simulation::script::{Again, JobKey};

/// How many unsafe jobs of one step are looked for.
const NAMED: usize = 3;

/// Runs a round in which some jobs run twice; in what it ends differently.
type Twice<'a> = dyn FnMut(Again, &mut TortureReport) -> Result<Option<Found>> + 'a;

/// Adds the unsafe jobs of every step to the report.
pub fn search(calm: &Run, report: &mut TortureReport, twice: &mut Twice<'_>) -> Result<()> {
    for (number, (step, job_type)) in calm.step_names() {
        let ran: BTreeSet<JobKey> = calm.attempts.iter().filter_map(|attempt| attempt.key).collect();
        let mut left: Vec<JobKey> = ran.into_iter().filter(|job| job.0 == number).collect();
        let mut named = 0;
        while let Some(found) = differs(&left, report, twice)? {
            if named == NAMED {
                report.unsafe_jobs.iter_mut().last().into_iter().for_each(|job| job.more = true);
                break;
            }
            let (jobs, found) = narrow(left.clone(), found, report, twice)?;
            left.retain(|job| !jobs.contains(job));
            report.unsafe_jobs.push(UnsafeJob {
                step: step.to_owned(),
                index: jobs[0].1,
                job_type: job_type.to_owned(),
                together_with: jobs[1..].iter().map(|job| job.1).collect(),
                more: false,
                difference: found.difference,
                key: jobs[0],
            });
            named += 1;
        }
    }
    Ok(())
}

/// The fewest of these jobs, by halving, that make a difference.
fn narrow(
    mut jobs: Vec<JobKey>,
    mut found: Found,
    report: &mut TortureReport,
    twice: &mut Twice<'_>,
) -> Result<(Vec<JobKey>, Found)> {
    while jobs.len() > 1 {
        let behind = jobs.split_off(jobs.len() / 2);
        if let Some(in_front) = differs(&jobs, report, twice)? {
            found = in_front;
        } else if let Some(in_back) = differs(&behind, report, twice)? {
            (jobs, found) = (behind, in_back);
        } else {
            // Only together.
            jobs.extend(behind);
            break;
        }
    }
    Ok((jobs, found))
}

fn differs(jobs: &[JobKey], report: &mut TortureReport, twice: &mut Twice<'_>) -> Result<Option<Found>> {
    if jobs.is_empty() {
        return Ok(None);
    }
    twice(Again::These(jobs.iter().copied().collect()), report)
}
