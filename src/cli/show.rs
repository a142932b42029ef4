//! `show ID`: a workflow with its steps; `show ID STEP#INDEX`: a job.

use serde::Serialize;

use super::house::House;
use super::out::{Ending, Out, Outcome};
use super::table::{FAINT, Field, STRONG, Table, state};
use super::target::{self, Target, parse_step};
use super::time;
use crate::error::{Error, Result};
use crate::graph::MAX_STEPS;
use crate::handle::Handle;
use crate::render::words::{count, escape, number, shorten, span};
use crate::state::{BatchState, Counts};
use crate::view::{ErrorGroup, JobView, StepView, WorkflowView};

/// How many steps are shown unless all are asked for.
const STEPS: u32 = 100;
/// Of how many steps the failures are grouped, and how many groups of each people see.
const FAILED_STEPS: usize = 20;
const GROUPS: usize = 5;
/// The most characters of a text that people see of a workflow, and of a job.
const SHORT: usize = 160;
const LONG: usize = 4_000;

/// Show a workflow with its steps and failures, or one job
#[derive(Debug, clap::Args)]
pub struct Show {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
    /// One job of it
    #[arg(value_name = "STEP#INDEX")]
    job: Option<String>,
    /// All steps, not the first 100 only
    #[arg(long)]
    all: bool,
}

/// A workflow with its failures by kind.
#[derive(Serialize)]
struct WithErrors {
    #[serde(flatten)]
    workflow: WorkflowView,
    errors: Vec<ErrorGroup>,
}

impl Show {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let mut target = Target::parse(&self.id)?;
        if let Some(job) = &self.job {
            let (step, index) = parse_step(job)?;
            (target.step, target.index) = (Some(step), index);
        }
        let client = house.client().await?;
        let handle = target::find(&client, &target.workflow).await?;
        match (target.step, target.index) {
            (None, _) => self.show_workflow(house, &handle).await?,
            (Some(step), Some(index)) => {
                let job = handle.job(&step, index).await?;
                if house.out.json { house.out.document(&job)? } else { house.out.text(&job_lines(&job))? }
            }
            (Some(step), None) => {
                handle.step(&step).await?;
                let program = &house.out.program;
                return Err(Error::usage(format!(
                    "`{step}` is a step; name one of its jobs, for example {step}#0 (`{program} failures {} {step}` lists the failed ones)",
                    target.workflow
                ))
                .into());
            }
        }
        Ok(Ending::Fine)
    }

    async fn show_workflow<S>(&self, house: &House<S>, handle: &Handle) -> Outcome<()> {
        let mut workflow = handle.status_with(STEPS).await?;
        while let Some(last) = workflow.steps.last().filter(|last| self.all && last.number + 1 < workflow.step_count) {
            let page = handle.store().steps(handle.id(), last.number + 1, 1000).await?;
            if page.is_empty() || workflow.steps.len() >= MAX_STEPS {
                break;
            }
            workflow.steps.extend(page.into_iter().map(StepView::from));
        }
        let errors = errors(handle, &workflow).await?;
        if house.out.json {
            return house.out.document(&WithErrors { workflow, errors });
        }
        house.out.text(&workflow_lines(&workflow, &errors, &house.out.program))
    }
}

/// The failures of the first steps that have any, by kind.
async fn errors(handle: &Handle, workflow: &WorkflowView) -> Result<Vec<ErrorGroup>> {
    let mut groups = Vec::new();
    for step in workflow.steps.iter().filter(|step| step.jobs.failed > 0).take(FAILED_STEPS) {
        groups.extend(handle.error_groups(step.number, &step.name).await?);
    }
    Ok(groups)
}

/// Prints where a workflow stands after a command.
pub async fn state_now(out: &Out, handle: &Handle) -> Outcome<()> {
    let workflow = handle.status_with(STEPS).await?;
    if out.json {
        return out.document(&workflow);
    }
    out.text(&format!("{} {} is {}", escape(&workflow.name), workflow.id, state(workflow.state.as_str())))
}

fn workflow_lines(workflow: &WorkflowView, errors: &[ErrorGroup], program: &str) -> String {
    let mut out =
        format!("{STRONG}{}{STRONG:#} {} {}\n", escape(&workflow.name), workflow.id, state(workflow.state.as_str()));
    let mut field = |name: &str, value: &str| out.push_str(&format!("  {FAINT}{name:<10}{FAINT:#}{value}\n"));
    field("arguments", &shorten(workflow.arguments.get(), SHORT));
    if let Some(batch) = workflow.batch {
        field("batch", batch_in_words(batch, workflow.state.is_finished()));
    }
    if workflow.generation > 0 {
        field("again", &count(u64::from(workflow.generation), "time"));
    }
    if let Some(parent) = workflow.parent {
        field("part of", &format!("{}, job {} of its step {}", parent.workflow, parent.index, parent.step));
    }
    field("created", &time::at(workflow.created_at));
    if let Some(started) = workflow.started_at {
        let end = workflow.finished_at.map(|end| format!(", finished {} ({})", time::at(end), span(end - started)));
        field("started", &format!("{}{}", time::at(started), end.unwrap_or_default()));
    }
    field("jobs", &jobs_in_words(&workflow.jobs));
    if !workflow.steps.is_empty() {
        out.push('\n');
        out.push_str(&step_lines(&workflow.steps));
    }
    let hidden = workflow.step_count as usize - workflow.steps.len().min(workflow.step_count as usize);
    if hidden > 0 {
        out.push_str(&format!("{FAINT}… {} more steps (--all shows them){FAINT:#}\n", number(hidden as u64)));
    }
    for step in workflow.steps.iter().filter(|step| step.paused) {
        out.push_str(&format!("\n{}\n", paused_line(workflow, step, program)));
    }
    for step in workflow.steps.iter().filter(|step| step.outdated) {
        out.push_str(&format!("\n{}\n", outdated_line(workflow, step, program)));
    }
    out.push_str(&error_lines(workflow, errors, program));
    out
}

/// That a step is older than its input, and how it gets newer.
fn outdated_line(workflow: &WorkflowView, step: &StepView, program: &str) -> String {
    let (name, id) = (escape(&step.name), workflow.id);
    format!(
        "`{name}` is older than its input: what it ran after has run again since; `{program} run-again {id} {name} --again` runs it, and what comes after it"
    )
}

/// Whether a batch takes further jobs, and from whom.
fn batch_in_words(batch: BatchState, is_over: bool) -> &'static str {
    match batch {
        BatchState::Open if is_over => "was held open when it was cancelled",
        BatchState::Open => "held open by its client, which adds jobs",
        BatchState::Closed if is_over => "closed",
        BatchState::Closed => "closed by its client; its jobs may add others",
        BatchState::Abandoned => "abandoned: its client ended without closing it",
    }
}

/// That a step is paused, and how it goes on.
pub fn paused_line(workflow: &WorkflowView, step: &StepView, program: &str) -> String {
    let (name, id) = (escape(&step.name), workflow.id);
    format!(
        "`{name}` is paused: {} of {} failed, more than it tolerates; `{program} resume {id} {name}` lets it go on",
        number(step.jobs.failed),
        count(step.jobs.total, "job"),
    )
}

/// `28,300: 28,288 succeeded, 12 failed`.
fn jobs_in_words(jobs: &Counts) -> String {
    let open = jobs.open();
    let states = [
        (jobs.succeeded, "succeeded"),
        (jobs.failed, "failed"),
        (jobs.skipped, "skipped"),
        (jobs.cancelled, "cancelled"),
        (jobs.retrying, "retrying"),
        (jobs.deferred, "deferred"),
        (open, "open"),
    ];
    let words: Vec<String> =
        states.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", number(*n))).collect();
    if words.is_empty() { number(jobs.total) } else { format!("{}: {}", number(jobs.total), words.join(", ")) }
}

fn step_lines(steps: &[StepView]) -> String {
    let shows_type = steps.iter().any(|step| step.name != step.job_type || step.waits.is_some());
    let mut headings =
        vec!["STEP", "STATE", ">JOBS", ">SUCCEEDED", ">FAILED", ">OTHER", ">RETRYING", ">RUNNING", ">TOOK"];
    if shows_type {
        headings.insert(1, "TYPE");
    }
    let mut table = Table::new(&headings);
    let figure = |n: u64| if n == 0 { String::new() } else { number(n) };
    for step in steps {
        let jobs = step.jobs;
        let took = match (step.started_at, step.finished_at) {
            (Some(start), Some(end)) => span(end - start),
            _ => String::new(),
        };
        let mut fields: Vec<Field> = vec![escape(&step.name).into()];
        if shows_type {
            let what = step.waits.as_ref().map(|waits| waits.words());
            fields.push(escape(what.as_deref().unwrap_or(&step.job_type)).into_owned().into());
        }
        fields.extend([
            Field::State(step.state_word()),
            number(jobs.total).into(),
            figure(jobs.succeeded).into(),
            figure(jobs.failed).into(),
            figure(jobs.skipped + jobs.cancelled).into(),
            figure(jobs.retrying).into(),
            figure(step.running).into(),
            took.into(),
        ]);
        table.row(fields);
    }
    table.lines()
}

fn error_lines(workflow: &WorkflowView, errors: &[ErrorGroup], program: &str) -> String {
    let mut out = String::new();
    let mut steps: Vec<&str> = errors.iter().map(|group| group.step.as_str()).collect();
    steps.dedup();
    for step in steps {
        let groups: Vec<&ErrorGroup> = errors.iter().filter(|group| group.step == step).collect();
        out.push('\n');
        out.push_str(&group_lines(step, &groups));
    }
    if workflow.jobs.failed > 0 && errors.is_empty() {
        out.push_str(&format!("\n`{program} why {}` finds what failed\n", workflow.id));
    }
    out
}

/// What failed, of a step or of lone jobs of a type, by its errors.
pub fn group_lines(name: &str, groups: &[&ErrorGroup]) -> String {
    let jobs: u64 = groups.iter().map(|group| group.jobs).sum();
    let mut out = format!("{STRONG}{}{STRONG:#}: {}\n", escape(name), count(jobs, "failed job"));
    for group in groups.iter().take(GROUPS) {
        out.push_str(&format!("{:>8}  {}\n", number(group.jobs), shorten(&group.pattern, SHORT)));
        if group.example != group.pattern {
            out.push_str(&format!("          {FAINT}such as: {}{FAINT:#}\n", shorten(&group.example, SHORT)));
        }
    }
    let rest: u64 = groups.iter().skip(GROUPS).map(|group| group.jobs).sum();
    if rest > 0 {
        let kinds = count((groups.len() - GROUPS) as u64, "error");
        out.push_str(&format!("{:>8}  with {kinds} of other kinds\n", number(rest)));
    }
    out
}

fn job_lines(job: &JobView) -> String {
    let mut out = format!(
        "{STRONG}{}#{}{STRONG:#} of {} {}\n",
        escape(&job.name),
        number(job.index),
        job.workflow_id,
        state(job.state.as_str())
    );
    let mut field = |name: &str, value: &str| out.push_str(&format!("  {FAINT}{name:<12}{FAINT:#}{value}\n"));
    field("type", &escape(&job.job_type));
    field("queue", &escape(&job.queue));
    field("attempts", &number(u64::from(job.attempts)));
    if job.recoveries > 0 {
        field("recoveries", &number(u64::from(job.recoveries)));
    }
    let times = [
        ("enqueued", job.enqueued_at),
        ("started", job.started_at),
        ("finished", job.finished_at),
        ("failed", job.failed_at),
        ("due", job.due_at),
    ];
    for (name, at) in times {
        if let Some(at) = at {
            field(name, &time::at(at));
        }
    }
    if let Some(worker) = &job.worker {
        field("worker", &escape(worker));
    }
    for (name, steps) in [("after", &job.after), ("before", &job.before)] {
        if !steps.is_empty() {
            field(name, &escape(&steps.join(", ")));
        }
    }
    field("parameters", &shorten(job.params.get(), LONG));
    for (name, json) in [("progress", &job.progress), ("output", &job.output)] {
        if let Some(json) = json {
            field(name, &shorten(json.get(), LONG));
        }
    }
    for error in &job.errors {
        field("error", &format!("{} (attempt {}, {})", shorten(&error.error, LONG), error.attempt, time::at(error.at)));
    }
    for line in &job.logs {
        field("log", &escape(line));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jobs_of_a_workflow_are_told_by_state() {
        let jobs = Counts { total: 28_300, succeeded: 28_288, failed: 10, retrying: 1, ..Counts::default() };
        assert_eq!(jobs_in_words(&jobs), "28,300: 28,288 succeeded, 10 failed, 1 retrying, 1 open");
        assert_eq!(jobs_in_words(&Counts::default()), "0");
    }

    #[test]
    fn arguments_and_errors_stand_beside_the_flattened_workflow() {
        let workflow = WorkflowView {
            id: crate::WorkflowId::new(0, 0),
            name: "Import".into(),
            workflow_type: "Import".into(),
            arguments: serde_json::value::RawValue::from_string(r#"{"rows":3}"#.into()).unwrap(),
            generation: 0,
            state: crate::WorkflowState::Failed,
            jobs: Counts::default(),
            created_at: 1,
            started_at: None,
            finished_at: None,
            expires_at: None,
            pinned: false,
            key: None,
            parent: None,
            batch: None,
            step_count: 0,
            steps: Vec::new(),
        };
        let group = ErrorGroup { step: "Row".into(), jobs: 1, pattern: "x".into(), example: "x".into() };
        let json = serde_json::to_value(WithErrors { workflow, errors: vec![group] }).unwrap();
        assert_eq!(
            (&json["arguments"]["rows"], &json["total"], &json["errors"][0]["jobs"]),
            (&3.into(), &0.into(), &1.into())
        );
    }
}
