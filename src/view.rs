//! What people and programs are shown of workflows, steps and jobs: the same in the API and in `--json`. Times in milliseconds.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Millis;
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::state::{BatchState, Counts, EdgeKind, FailurePolicy, JobState, StepState, WorkflowState};
use crate::store::{Parent, StepRow, WorkflowRow};
use crate::waiting::WaitsFor;

/// A workflow.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WorkflowView {
    /// Its id.
    pub id: WorkflowId,
    /// Its name: that of its type.
    pub name: String,
    /// Its registered type.
    #[serde(rename = "type")]
    pub workflow_type: String,
    /// Its arguments.
    pub arguments: Box<RawValue>,
    /// How often it was started again.
    pub generation: u32,
    /// Where it stands.
    pub state: WorkflowState,
    /// Its jobs by where they stand.
    #[serde(flatten)]
    pub jobs: Counts,
    /// When it was created.
    pub created_at: Millis,
    /// When its first job was claimed.
    pub started_at: Option<Millis>,
    /// When it came to its end.
    pub finished_at: Option<Millis>,
    /// When it may be deleted, if it has finished.
    pub expires_at: Option<Millis>,
    /// Whether it is kept until somebody unpins it.
    pub pinned: bool,
    /// The key that it holds until it finishes, if it was started with one.
    pub key: Option<String>,
    /// The job that it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Whether jobs may still be added, if it is a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchState>,
    /// How many steps it has.
    pub step_count: u32,
    /// Its steps, at most as many as were asked for.
    pub steps: Vec<StepView>,
}

/// A step.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StepView {
    /// Its number in the workflow.
    pub number: StepNumber,
    /// Its name.
    pub name: String,
    /// The type of its jobs.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Its queue.
    pub queue: String,
    /// Where it stands.
    pub state: StepState,
    /// Its jobs by where they stand.
    #[serde(flatten)]
    pub jobs: Counts,
    /// How many of them are under a lease.
    pub running: u64,
    /// When it was released.
    pub released_at: Option<Millis>,
    /// When its first job was claimed.
    pub started_at: Option<Millis>,
    /// When it settled.
    pub finished_at: Option<Millis>,
    /// What it waits for, if no worker runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitsFor>,
    /// Whether its job is a condition.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub condition: bool,
    /// Whether its jobs are sources whose rows run while they still emit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub eager: bool,
    /// What becomes of it as soon as more of its jobs have failed than it tolerates, if it does not just run on.
    #[serde(skip_serializing_if = "FailurePolicy::is_default")]
    pub policy: FailurePolicy,
    /// Whether it is paused for that, until somebody resumes it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Whether something that it ran after has run again since: it is older than its input.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
}

impl StepView {
    /// The word for where it stands.
    pub fn state_word(&self) -> &'static str {
        if self.paused { "paused" } else { self.state.as_str() }
    }
}

/// Lone jobs of one queue, type and priority.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LaneView {
    /// The queue.
    pub queue: String,
    /// The type of the jobs.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Their priority in the queue.
    pub priority: i32,
    /// The jobs by where they stand: those that are waiting or kept, none that has been forgotten.
    #[serde(flatten)]
    pub jobs: Counts,
    /// How many of them are under a lease.
    pub running: u64,
    /// The lanes, one a shard; each is found like a workflow.
    pub ids: Vec<WorkflowId>,
}

/// One job, whole.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JobView {
    /// The workflow that it belongs to.
    pub workflow_id: WorkflowId,
    /// The number of its step.
    pub step: StepNumber,
    /// Its number in the step.
    pub index: u64,
    /// The name of its step.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Its queue.
    pub queue: String,
    /// Where it stands.
    pub state: JobState,
    /// How many attempts it has used.
    pub attempts: u32,
    /// How often its worker died.
    pub recoveries: u32,
    /// When its step was released.
    pub enqueued_at: Option<Millis>,
    /// When its last attempt started.
    pub started_at: Option<Millis>,
    /// When it succeeded, was cancelled or skipped.
    pub finished_at: Option<Millis>,
    /// When it failed.
    pub failed_at: Option<Millis>,
    /// When its next attempt is due.
    pub due_at: Option<Millis>,
    /// Who made its last attempt, or makes it now.
    pub worker: Option<String>,
    /// How far it is, if it tells.
    pub progress: Option<Box<RawValue>>,
    /// The steps before its own.
    pub after: Vec<String>,
    /// The steps behind its own.
    pub before: Vec<String>,
    /// Its parameters.
    pub params: Box<RawValue>,
    /// What it returned.
    pub output: Option<Box<RawValue>>,
    /// The error of each failed attempt.
    pub errors: Vec<AttemptView>,
    /// What it logged in its last attempt.
    pub logs: Vec<String>,
}

/// A failed attempt.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AttemptView {
    /// Which attempt; the first is 1.
    pub attempt: u32,
    /// When it ended.
    pub at: Millis,
    /// Its error.
    pub error: String,
}

/// Failed jobs of a step with like errors.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorGroup {
    /// The name of the step.
    pub step: String,
    /// How many failed jobs.
    pub jobs: u64,
    /// What their errors have in common: numbers and quoted text are left out.
    pub pattern: String,
    /// One of the errors.
    pub example: String,
}

impl ErrorGroup {
    /// Puts those with like errors together, most jobs first.
    pub(crate) fn gathered(found: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for group in found {
            match groups.iter_mut().find(|there| there.pattern == group.pattern) {
                Some(there) => there.jobs += group.jobs,
                None => groups.push(group),
            }
        }
        groups.sort_by(|a, b| b.jobs.cmp(&a.jobs).then_with(|| a.pattern.cmp(&b.pattern)));
        groups
    }
}

/// An edge between two named steps.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct EdgeView {
    /// The step that must settle first.
    pub up: StepNumber,
    /// The step that waits for it.
    pub down: StepNumber,
    /// What it waits for.
    pub kind: EdgeKind,
}

impl WorkflowView {
    pub(crate) fn new(row: WorkflowRow, steps: Vec<StepRow>) -> Self {
        Self {
            id: row.id,
            workflow_type: row.name.clone(),
            name: row.name,
            arguments: raw(row.arguments),
            generation: row.generation,
            state: row.state,
            jobs: row.jobs,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            expires_at: row.expires_at,
            pinned: row.pinned,
            key: row.key.map(|key| key.key),
            parent: row.parent,
            batch: row.batch,
            step_count: row.steps,
            steps: steps.into_iter().map(StepView::from).collect(),
        }
    }
}

impl From<StepRow> for StepView {
    fn from(row: StepRow) -> Self {
        Self {
            paused: row.is_paused(),
            number: row.number,
            name: row.spec.name,
            job_type: row.spec.job_type,
            queue: row.spec.queue,
            state: row.state,
            jobs: row.jobs,
            running: row.running,
            released_at: row.released_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            waits: row.spec.waits,
            condition: row.spec.condition,
            eager: row.spec.eager.is_some(),
            policy: row.spec.policy,
            outdated: row.outdated,
        }
    }
}

/// JSON that a store kept; what does not parse is shown as a string.
pub(crate) fn raw(json: String) -> Box<RawValue> {
    match serde_json::from_str::<&RawValue>(&json) {
        Ok(value) => value.to_owned(),
        Err(_) => serde_json::value::to_raw_value(&json).unwrap_or_else(|_| RawValue::NULL.to_owned()),
    }
}

/// What an error has in common with others of its kind: quoted text and numbers are replaced by `…`.
pub(crate) fn pattern(error: &str) -> String {
    let mut pattern = String::with_capacity(error.len());
    let mut chars = error.chars().peekable();
    while let Some(c) = chars.next() {
        let quote = matches!(c, '`' | '"');
        if quote && chars.clone().any(|other| other == c) {
            chars.by_ref().take_while(|other| *other != c).for_each(drop);
            pattern.push('…');
        } else if c.is_ascii_digit() {
            while chars.next_if(|c| c.is_ascii_digit() || matches!(c, '.' | ',')).is_some() {}
            pattern.push('…');
        } else {
            pattern.push(c);
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_shown_as_a_string() {
        assert_eq!(raw(r#"{"a":1}"#.into()).get(), r#"{"a":1}"#);
        assert_eq!(raw("{\"a\":".into()).get(), r#""{\"a\":""#);
    }

    #[test]
    fn errors_that_differ_in_numbers_and_quotes_only_are_of_one_kind() {
        let one = pattern("line 17: elevation `12x` is no number");
        assert_eq!(one, "line …: elevation … is no number");
        assert_eq!(one, pattern("line 28,004: elevation `?` is no number"));
        assert_ne!(one, pattern("line 17: latitude `12x` is no number"));
    }
}
