//! In what two runs of a workflow differ.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::testing::simulation::Run;
use crate::testing::simulation::script::JobKey;

/// How many differences of one kind are told.
const TOLD: usize = 3;

/// What came of a round.
#[derive(Debug)]
pub struct Outcome<P> {
    pub run: Run,
    pub seen: P,
}

/// In what a round ended differently, in words; `None` if it did not.
pub fn difference<P: PartialEq + fmt::Debug>(calm: &Outcome<P>, other: &Outcome<P>) -> Option<String> {
    let mut found = Vec::new();
    if calm.seen != other.seen {
        found.push(format!("the world differs: {}", first_lines(&calm.seen, &other.seen)));
    }
    if calm.run.state() != other.run.state() {
        let (was, is) = (calm.run.state().as_str(), other.run.state().as_str());
        found.push(format!("the workflow is {is} instead of {was}"));
    }
    let mut jobs = jobs_that_differ(&calm.run, &other.run);
    let more = jobs.len().saturating_sub(TOLD);
    jobs.truncate(TOLD);
    found.extend(jobs);
    if more > 0 {
        found.push(format!("{more} more jobs differ"));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

fn jobs_that_differ(calm: &Run, other: &Run) -> Vec<String> {
    let mut found = Vec::new();
    for (was, is) in calm.steps.iter().zip(&other.steps) {
        if was.jobs.len() != is.jobs.len() {
            found.push(format!("{} has {} jobs instead of {}", was.name, is.jobs.len(), was.jobs.len()));
        }
        for (index, (was_job, is_job)) in was.jobs.iter().zip(&is.jobs).enumerate() {
            if was_job.state != is_job.state {
                let error = is_job.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
                let (was_state, is_state) = (was_job.state.as_str(), is_job.state.as_str());
                found.push(format!("{} #{index} is {is_state} instead of {was_state}{error}", was.name));
            } else if !same(was_job.output.as_deref(), is_job.output.as_deref()) {
                let (was_output, is_output) = (shown(was_job.output.as_deref()), shown(is_job.output.as_deref()));
                found.push(format!("{} #{index} returned {is_output} instead of {was_output}", was.name));
            }
        }
    }
    found
}

/// Whether two outputs say the same, in whatever order their fields come.
fn same(one: Option<&str>, other: Option<&str>) -> bool {
    let value = |json: &str| serde_json::from_str::<Value>(json).ok();
    one == other || one.and_then(value).is_some_and(|one| other.and_then(value) == Some(one))
}

fn shown(output: Option<&str>) -> String {
    format!("`{}`", crate::record::cut_text(output.unwrap_or("nothing").to_owned(), 200))
}

/// A printed line without what stands around it.
fn item(line: &str) -> &str {
    line.trim().trim_end_matches(',')
}

/// The first line in which two values differ, as they are printed.
fn first_lines(was: &impl fmt::Debug, is: &impl fmt::Debug) -> String {
    let (was, is) = (format!("{was:#?}"), format!("{is:#?}"));
    let (mut was, mut is) = (was.lines(), is.lines());
    loop {
        return match (was.next(), is.next()) {
            (Some(was), Some(is)) if was == is => continue,
            (None, None) => "it is printed alike".to_owned(),
            (was, is) => format!("{} instead of {}", shown(is.map(item)), shown(was.map(item))),
        };
    }
}

/// The jobs that ran more often than in the undisturbed run.
pub fn repeated(calm: &Run, other: &Run) -> Vec<JobKey> {
    let count = |run: &Run| {
        let mut times: BTreeMap<JobKey, usize> = BTreeMap::new();
        run.attempts.iter().filter_map(|attempt| attempt.key).for_each(|key| *times.entry(key).or_default() += 1);
        times
    };
    let calm = count(calm);
    count(other)
        .into_iter()
        .filter(|(job, times)| *times > calm.get(job).copied().unwrap_or(0))
        .map(|(job, _)| job)
        .collect()
}
