//! What a live display says: pure functions from what was seen to rows of words and figures.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::graph::StepNumber;
use crate::render::text::mark;
use crate::render::words::{count, number, span};
use crate::state::{Counts, StepState};
use crate::view::{StepView, WorkflowView};

/// A workflow of up to so many steps has a row for each of them below that for all of it; a larger one has one for each of the first that run.
pub const ROWS: usize = 12;
/// Over how long a rate is taken.
const WINDOW: Duration = Duration::from_secs(10);
/// A rate is told once it has been watched for so long.
const WATCHED: Duration = Duration::from_millis(400);
/// The most characters of a name.
const NAME: usize = 32;

/// What was seen of a workflow at one moment.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The workflow with the steps that are shown.
    pub workflow: WorkflowView,
    /// How far jobs are that tell of themselves: by step, done and all.
    pub told: BTreeMap<StepNumber, (u64, u64)>,
}

/// One row of the display.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The step; none for the row of the whole workflow.
    pub step: Option<StepNumber>,
    /// Its name, with a mark for its state.
    pub name: String,
    /// How far it is, and of how much.
    pub done: u64,
    pub of: u64,
    /// The figures.
    pub figures: String,
    /// Where it stands.
    pub state: StepState,
}

/// Keeps what rates are computed from.
#[derive(Debug, Default)]
pub struct Board {
    paces: BTreeMap<Option<StepNumber>, Pace>,
}

impl Board {
    /// The rows for what was seen `at` a time since the beginning.
    pub fn rows(&mut self, seen: &Seen, at: Duration) -> Vec<Row> {
        let workflow = &seen.workflow;
        let mut rows = Vec::new();
        if workflow.step_count > 1 {
            rows.push(self.total(workflow, at));
        }
        let shown: Vec<Option<StepNumber>> =
            workflow.steps.iter().map(|step| Some(step.number)).chain([None]).collect();
        self.paces.retain(|step, _| shown.contains(step));
        for step in &workflow.steps {
            let pace = self.paces.entry(Some(step.number)).or_default();
            if step.state == StepState::Running {
                pace.add(at, step.jobs.settled());
            }
            rows.push(row(step, pace, seen.told.get(&step.number).copied()));
        }
        rows
    }

    fn total(&mut self, workflow: &WorkflowView, at: Duration) -> Row {
        let pace = self.paces.entry(None).or_default();
        pace.add(at, workflow.jobs.settled());
        let state = if workflow.state.is_finished() { StepState::Succeeded } else { StepState::Running };
        Row {
            step: None,
            name: count(u64::from(workflow.step_count), "step"),
            done: workflow.jobs.settled(),
            of: workflow.jobs.total,
            figures: moving(&workflow.jobs, pace),
            state,
        }
    }
}

fn row(step: &StepView, pace: &Pace, told: Option<(u64, u64)>) -> Row {
    let name: String = match step.name.char_indices().nth(NAME) {
        None => step.name.clone(),
        Some(_) => step.name.chars().take(NAME - 1).chain(['…']).collect(),
    };
    let (done, of, figures) = match (step.state, told) {
        (StepState::Waiting, _) => (0, step.jobs.total, "waiting".to_owned()),
        // A step of one job is as far as that job.
        (StepState::Running, Some((done, of))) if step.jobs.total == 1 && step.jobs.settled() == 0 && of > 0 => {
            (done.min(of), of, format!("{} of {}", number(done), number(of)))
        }
        (StepState::Running, _) if step.paused => {
            (step.jobs.settled(), step.jobs.total, format!("paused, {}", moving(&step.jobs, &Pace::default())))
        }
        (StepState::Running, _) => (step.jobs.settled(), step.jobs.total, moving(&step.jobs, pace)),
        _ => (step.jobs.settled(), step.jobs.total, ended(step)),
    };
    Row {
        step: Some(step.number),
        name: format!("{} {name}", mark(Some(step.state))),
        done,
        of,
        figures,
        state: step.state,
    }
}

/// `12,345 of 28,298, 8,500/s, 2 s left, 3 retrying, 12 failed`.
fn moving(jobs: &Counts, pace: &Pace) -> String {
    let mut parts = vec![format!("{} of {}", number(jobs.settled()), number(jobs.total))];
    if let Some(rate) = pace.rate() {
        parts.push(if rate < 10.0 { format!("{rate:.1}/s") } else { format!("{}/s", number(rate.round() as u64)) });
        if let Some(left) = pace.time_for(jobs.unsettled()).filter(|_| jobs.unsettled() > 0) {
            parts.push(format!("{} left", rough(left)));
        }
    }
    for (n, word) in [(jobs.retrying, "retrying"), (jobs.failed, "failed"), (jobs.cancelled, "cancelled")] {
        if n > 0 {
            parts.push(format!("{} {word}", number(n)));
        }
    }
    parts.join(", ")
}

/// `28,298 jobs in 3.3 s, 12 failed`.
fn ended(step: &StepView) -> String {
    let took = match (step.started_at, step.finished_at) {
        (Some(start), Some(end)) => format!(" in {}", span(end - start)),
        _ => String::new(),
    };
    let failed = if step.jobs.failed > 0 { format!(", {} failed", number(step.jobs.failed)) } else { String::new() };
    match step.state {
        StepState::Skipped | StepState::Cancelled => step.state.to_string(),
        _ => format!("{}{took}{failed}", count(step.jobs.total, "job")),
    }
}

/// Time left in whole seconds: more would be a lie.
fn rough(time: Duration) -> String {
    span(i64::try_from(time.as_secs().max(1)).unwrap_or(i64::MAX / 1000).saturating_mul(1000))
}

/// How fast a count grows, over the last seconds.
#[derive(Debug, Default)]
struct Pace {
    samples: VecDeque<(Duration, u64)>,
}

impl Pace {
    fn add(&mut self, at: Duration, settled: u64) {
        if self.samples.back().is_some_and(|(_, before)| *before > settled) {
            // A retry took some back: what was before says nothing about now.
            self.samples.clear();
        }
        self.samples.push_back((at, settled));
        while self.samples.len() > 2
            && self.samples.front().is_some_and(|(first, _)| at.saturating_sub(*first) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Per second; none while too little was seen, or nothing moved.
    fn rate(&self) -> Option<f64> {
        let ((first, before), (last, after)) = (self.samples.front()?, self.samples.back()?);
        let time = last.saturating_sub(*first);
        (time >= WATCHED && after > before).then(|| (after - before) as f64 / time.as_secs_f64())
    }

    fn time_for(&self, jobs: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(jobs as f64 / self.rate()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkflowId;
    use crate::state::WorkflowState;

    fn step(number: StepNumber, state: StepState, total: u64, succeeded: u64) -> StepView {
        StepView {
            number,
            name: format!("Step{number}"),
            job_type: "Step".into(),
            queue: "default".into(),
            state,
            jobs: Counts { total, succeeded, ..Counts::default() },
            running: 0,
            released_at: None,
            started_at: Some(1_000),
            finished_at: state.is_settled().then_some(4_300),
            waits: None,
            condition: false,
            eager: false,
            policy: crate::FailurePolicy::RunOn,
            paused: false,
            outdated: false,
        }
    }

    fn seen(steps: Vec<StepView>, step_count: u32) -> Seen {
        let mut jobs = Counts::default();
        steps.iter().for_each(|step| {
            (jobs.total, jobs.succeeded) = (jobs.total + step.jobs.total, jobs.succeeded + step.jobs.succeeded)
        });
        let workflow = WorkflowView {
            id: WorkflowId::new(0, 0),
            name: "Import".into(),
            workflow_type: "Import".into(),
            arguments: serde_json::value::RawValue::NULL.to_owned(),
            generation: 0,
            state: WorkflowState::Running,
            jobs,
            created_at: 0,
            started_at: None,
            finished_at: None,
            expires_at: None,
            pinned: false,
            key: None,
            parent: None,
            batch: None,
            step_count,
            steps,
        };
        Seen { workflow, told: BTreeMap::new() }
    }

    #[test]
    fn a_running_step_shows_its_rate_and_the_time_left() {
        let mut board = Board::default();
        board.rows(&seen(vec![step(0, StepState::Running, 28_298, 1_000)], 1), Duration::ZERO);
        let rows = board.rows(&seen(vec![step(0, StepState::Running, 28_298, 9_500)], 1), Duration::from_secs(1));
        assert_eq!(rows[0].figures, "9,500 of 28,298, 8,500/s, 2 s left");
        assert_eq!((rows[0].name.as_str(), rows[0].done, rows[0].of), ("▶ Step0", 9_500, 28_298));
    }

    #[test]
    fn a_paused_step_shows_that_and_no_rate() {
        let mut board = Board::default();
        board.rows(&seen(vec![step(0, StepState::Running, 28_298, 1_000)], 1), Duration::ZERO);
        let mut paused = step(0, StepState::Running, 28_298, 9_500);
        (paused.paused, paused.jobs.failed) = (true, 11);
        let rows = board.rows(&seen(vec![paused], 1), Duration::from_secs(1));
        assert_eq!(rows[0].figures, "paused, 9,511 of 28,298, 11 failed");
    }

    #[test]
    fn a_settled_step_shows_what_it_took() {
        let rows = Board::default().rows(&seen(vec![step(0, StepState::Succeeded, 28_298, 28_298)], 1), Duration::ZERO);
        assert_eq!(rows[0].figures, "28,298 jobs in 3.3 s");
    }

    #[test]
    fn a_step_of_one_job_is_as_far_as_that_job_tells() {
        let mut one = seen(vec![step(7, StepState::Running, 1, 0)], 1);
        one.told.insert(7, (300, 1_200));
        let rows = Board::default().rows(&one, Duration::ZERO);
        assert_eq!((rows[0].done, rows[0].of, rows[0].figures.as_str()), (300, 1_200, "300 of 1,200"));
    }

    #[test]
    fn a_workflow_of_several_steps_has_a_row_for_all_of_it_with_its_rate_and_the_time_left() {
        let mut board = Board::default();
        let both = |first, second| {
            seen(vec![step(0, StepState::Running, 4_000, first), step(1, StepState::Running, 6_000, second)], 2)
        };
        board.rows(&both(0, 0), Duration::ZERO);
        let rows = board.rows(&both(1_000, 1_500), Duration::from_secs(1));
        assert_eq!(
            (rows[0].name.as_str(), rows[0].figures.as_str()),
            ("2 steps", "2,500 of 10,000, 2,500/s, 3 s left")
        );
        assert_eq!(rows[1].figures, "1,000 of 4,000, 1,000/s, 3 s left");
    }

    #[test]
    fn a_large_workflow_has_rows_for_the_steps_that_run_only() {
        let rows = Board::default().rows(&seen(vec![step(700, StepState::Running, 1, 0)], 20_000), Duration::ZERO);
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["20,000 steps", "▶ Step700"]);
    }

    #[test]
    fn a_rate_forgets_what_a_retry_took_back() {
        let mut pace = Pace::default();
        pace.add(Duration::ZERO, 100);
        pace.add(Duration::from_secs(1), 200);
        assert_eq!(pace.rate(), Some(100.0));
        pace.add(Duration::from_secs(2), 50);
        assert_eq!(pace.rate(), None);
    }
}
