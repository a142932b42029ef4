//! The sentences of `why`: pure functions from rows to words.

use super::CauseKind;
use crate::clock::Millis;
use crate::id::WorkflowId;
use crate::planted::planted;
use crate::render::words::{count, names, number, shorten, span, until};
use crate::state::{BatchState, EdgeKind, FailurePolicy, JobState, StepState, Tolerate, WorkflowState};
use crate::store::{BATCH_STEP_NAME, EdgeRow, LimitRow, StepRow, Turn, Waiting, Whereabouts, WorkflowRow};
use crate::view::{ErrorGroup, JobView};
use crate::waiting::{Then, WaitsFor};

/// The most characters of an error in a sentence.
const ERROR_SHOWN: usize = 300;

/// What is known of a step that has been released and has not settled.
pub struct Figures<'a> {
    pub step: &'a StepRow,
    pub waiting: &'a Waiting,
    pub workflow: WorkflowState,
    /// If it is a batch.
    pub batch: Option<BatchState>,
    pub id: WorkflowId,
    /// How people call the program, if it has a command line.
    pub program: Option<&'a str>,
    pub now: Millis,
}

impl Figures<'_> {
    /// What its unsettled jobs do or wait for.
    pub fn told(&self) -> (Vec<CauseKind>, String) {
        if let Some(waits) = &self.step.spec.waits {
            return self.wait(waits);
        }
        let (mut kinds, figures) = self.figures();
        let mut told = vec![figures];
        for (kind, text) in self.obstacles() {
            kinds.push(kind);
            told.push(text);
        }
        (kinds, told.join("; "))
    }

    /// What a step waits for that no worker runs.
    fn wait(&self, waits: &WaitsFor) -> (Vec<CauseKind>, String) {
        let due = self.waiting.next_due.map(|due| until(due, self.now));
        let mut kinds = Vec::new();
        let mut told = match waits {
            WaitsFor::Signal { then, .. } => {
                kinds.push(CauseKind::Signal);
                let name = &self.step.spec.name;
                let program = self.program.map(|program| format!("{program} ")).unwrap_or_default();
                let end = due.map(|due| match then {
                    Then::Fail => format!("; it fails {due} if nobody does"),
                    Then::Skip => format!("; it is skipped {due} if nobody does"),
                    Then::Value => format!("; it goes on with its own value {due} if nobody does"),
                });
                format!(
                    "waits for the signal `{name}` (send it with: {program}signal {} {name} '{{..}}'){}",
                    self.id,
                    end.unwrap_or_default()
                )
            }
            WaitsFor::Sleep(time) => {
                kinds.push(CauseKind::Delayed);
                format!("sleeps for {}{}", span(*time), due.map(|due| format!(", ends {due}")).unwrap_or_default())
            }
            WaitsFor::Until(_) => {
                kinds.push(CauseKind::Delayed);
                format!("sleeps until {}{}", waits.words(), due.map(|due| format!(", {due}")).unwrap_or_default())
            }
            WaitsFor::Batches => {
                kinds.push(CauseKind::Workflow);
                match (self.step.jobs.unsettled(), self.step.jobs.total) {
                    (_, 1) => "waits for the batch within this one".to_owned(),
                    (left, all) => format!("waits for {} of the {} batches within this one", number(left), number(all)),
                }
            }
            WaitsFor::Batch => {
                kinds.push(CauseKind::Held);
                match self.batch {
                    Some(BatchState::Open) => {
                        "is held open: the client that made the batch adds jobs, and has not closed it".to_owned()
                    }
                    Some(BatchState::Abandoned) => {
                        "was abandoned: its client ended without closing it; the jobs that it has run to their end"
                            .to_owned()
                    }
                    _ => "is closed, and settles once all of its jobs have".to_owned(),
                }
            }
        };
        if let Some(kind) = &self.waiting.chore {
            kinds.push(CauseKind::Chore);
            told = format!("{told}; {}", chore(kind));
        }
        (kinds, told)
    }

    fn ready(&self) -> u64 {
        self.step.jobs.open().saturating_sub(self.step.running + self.waiting.behind)
    }

    /// Whether the step's own delay is what its jobs wait for.
    fn is_delayed(&self) -> bool {
        !self.step.spec.delay.is_zero()
            && self.step.started_at.is_none()
            && self.step.jobs.retrying == 0
            && self.waiting.next_due.is_some()
    }

    fn figures(&self) -> (Vec<CauseKind>, String) {
        let (jobs, running) = (self.step.jobs, self.step.running);
        let mut kinds = Vec::new();
        let mut parts = vec![match jobs.unsettled() {
            0 => format!("all {} settled", count(jobs.total, "job")),
            left => format!("{} of {} unsettled", number(left), count(jobs.total, "job")),
        }];
        if running > 0 {
            kinds.push(CauseKind::Running);
            parts.push(format!("{} running{}", number(running), self.workers()));
        }
        if jobs.retrying > 0 {
            kinds.push(CauseKind::Retrying);
            let next = self.waiting.next_due.map(|due| format!(", next {}", until(due, self.now)));
            parts.push(format!("{} retrying{}", number(jobs.retrying), next.unwrap_or_default()));
        }
        if jobs.deferred > 0 {
            if self.waiting.next_due.is_some() && jobs.retrying == 0 && !self.is_delayed() {
                kinds.push(CauseKind::Delayed);
            }
            let next = self.waiting.next_due.map(|due| format!(", next {}", until(due, self.now)));
            parts.push(format!("{} deferred{}", number(jobs.deferred), next.unwrap_or_default()));
        }
        if self.waiting.behind > 0 {
            kinds.push(CauseKind::Predecessor);
            let own = if self.waiting.behind == 1 {
                "waits for its own predecessor"
            } else {
                "wait for their own predecessors"
            };
            parts.push(format!("{} {own}", number(self.waiting.behind)));
        }
        if jobs.failed > 0 {
            parts.push(format!("{} failed so far (it tolerates {})", number(jobs.failed), tolerated(self.step)));
        }
        (kinds, parts.join(", "))
    }

    /// ` on host:17 and 2 other workers`, as far as the leases tell.
    fn workers(&self) -> String {
        let mut hosts: Vec<&str> = self.waiting.leases.iter().map(|(worker, _)| worker.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        match hosts.as_slice() {
            [] => String::new(),
            [one] => format!(" on {one}"),
            [one, others @ ..] => format!(" on {one} and {}", count(others.len() as u64, "other worker")),
        }
    }

    fn obstacles(&self) -> Vec<(CauseKind, String)> {
        let (spec, waiting) = (&self.step.spec, self.waiting);
        let (ready, running) = (self.ready(), self.step.running);
        let mut found = Vec::new();
        let held_back =
            self.step.exceeded || matches!(self.workflow, WorkflowState::Paused | WorkflowState::Cancelling);
        if self.is_delayed() {
            let due = waiting.next_due.unwrap_or(self.now);
            found.push((
                CauseKind::Delayed,
                format!("its delay of {} ends {}", span(crate::clock::millis(spec.delay)), until(due, self.now)),
            ));
        } else if ready > 0 && !held_back {
            for what in &waiting.paused {
                found
                    .push((CauseKind::Paused, format!("{what} is paused: nothing of it is handed out until `resume`")));
            }
            if let Some(limit) = spec.max_in_flight.filter(|limit| running >= u64::from(*limit)) {
                let text = format!(
                    "{} ready, but at most {} of its jobs may run at once (`max_in_flight`)",
                    number(ready),
                    number(u64::from(limit))
                );
                found.push((CauseKind::AtLimit, text));
            }
            if waiting.suspect {
                let text = "jobs whose workers died wait for a worker that holds nothing else, to run alone";
                found.push((CauseKind::Suspect, text.to_owned()));
            }
            for row in waiting.limits.iter().filter(|row| row.is_used_up()) {
                found.push((CauseKind::AtLimit, no_permit(row, self.now)));
            }
            if found.is_empty() && running == 0 && waiting.able_workers > 0 {
                let text =
                    format!("{} ready in queue `{}`, which {}", number(ready), spec.queue, able(waiting.able_workers));
                found.push((CauseKind::Ready, text));
            }
        }
        if self.step.is_paused() {
            let (program, name) = (self.program.map(|program| format!("{program} ")).unwrap_or_default(), &spec.name);
            let text = format!(
                "paused, since more failed than it tolerates: `{program}resume {} {name}` lets it go on, `{program}retry {} {name}` also runs those that failed again",
                self.id, self.id
            );
            found.push((CauseKind::Paused, text));
        } else if self.step.is_failing_fast() {
            let text = "it fails fast: the rest is cancelled, what runs has ten seconds to come to its end";
            found.push((CauseKind::Cancelling, text.to_owned()));
        }
        if let Some(kind) = &waiting.chore {
            found.push((CauseKind::Chore, chore(kind)));
        } else if !waiting.holds.is_empty() {
            found.push((CauseKind::Held, format!("it is held ({})", waiting.holds.join(", "))));
        }
        let nobody_can = waiting.able_workers == 0 && !planted!("nobody says that no worker lives");
        if nobody_can && self.step.jobs.unsettled() > 0 {
            found.push((CauseKind::NoWorker, no_worker(&spec.queue, &spec.job_type, waiting.queue_workers)));
        }
        found
    }
}

fn able(workers: u64) -> String {
    match workers {
        1 => "one live worker takes from that can run them".to_owned(),
        n => format!("{} live workers take from that can run them", number(n)),
    }
}

/// That as much of a queue or a type runs, or has started, as its limit allows.
fn no_permit(row: &LimitRow, now: Millis) -> String {
    match (row.limit.jobs(), row.limit.starts(), row.next_start) {
        (Some(jobs), _, _) if row.taken >= u64::from(jobs) => {
            let (taken, jobs) = (number(row.taken), number(u64::from(jobs)));
            format!("waits for a permit of {}: {taken} of {jobs} are taken", row.of)
        }
        (_, Some(rate), Some(at)) => {
            let (starts, period, next) = (number(u64::from(rate.starts)), span(rate.period), until(at, now));
            format!("waits for a permit of {}: {starts} have started within {period}, the next one may {next}", row.of)
        }
        _ => format!("waits for a permit of {}", row.of),
    }
}

/// That nobody can run a step.
pub fn no_worker(queue: &str, job_type: &str, others: u64) -> String {
    let others = match others {
        0 => String::new(),
        1 => " (one that does not takes from it)".to_owned(),
        n => format!(" ({} that do not take from it)", number(n)),
    };
    format!("queue `{queue}` has no live worker that knows `{job_type}`{others}")
}

/// That the store is at work.
pub fn chore(kind: &str) -> String {
    format!("the chore `{kind}` is under way; the next tick of any worker or client goes on with it")
}

/// How many failures a step tolerates.
fn tolerated(step: &StepRow) -> String {
    let allowed = number(step.spec.tolerate.allowed(step.jobs.total));
    match step.spec.tolerate {
        Tolerate::Fraction(fraction) => format!("{allowed}, {} % of them", percent(fraction)),
        _ => allowed,
    }
}

/// `0.1` for a thousandth: as many decimals as it takes, six at most.
fn percent(fraction: f64) -> String {
    let text = format!("{:.6}", fraction * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What eager sources wait for.
pub fn ahead(fed: &StepRow, ahead: u64) -> String {
    format!(
        "what emits waits for `{}`, of which {} are unfinished: it goes on once that is at most {}",
        fed.spec.name,
        count(fed.jobs.unsettled(), "job"),
        number(ahead)
    )
}

/// Which workflows jobs wait for.
pub fn children(step: &StepRow, named: &[String]) -> String {
    let waiting = step.jobs.deferred;
    let who = if waiting == 1 { "one waits" } else { "they wait" };
    format!("{who} for {}: {}", count(waiting, "workflow"), some(named, waiting))
}

/// A batch within another one, as it stands.
pub fn batch_within(row: &WorkflowRow) -> String {
    let state = match row.batch {
        Some(BatchState::Open) if !row.state.is_finished() => format!("{}, held open", row.state),
        Some(BatchState::Abandoned) => format!("{}, abandoned", row.state),
        _ => row.state.to_string(),
    };
    format!("`{}` {} ({state})", row.name, row.id)
}

/// Some of many, and how many more there are.
pub fn some(named: &[String], all: u64) -> String {
    match all.saturating_sub(named.len() as u64) {
        0 => named.join(", "),
        more => format!("{} and {} more", named.join(", "), number(more)),
    }
}

/// Why the step has failed whose jobs stand for the batches within a batch, and how it goes on.
pub fn batches_failed(step: &StepRow, named: &[String], chore_under_way: Option<&str>) -> String {
    let jobs = step.jobs;
    let which = match jobs.total {
        1 => "the batch within this one".to_owned(),
        all => format!("{} of the {} batches within this one", number(jobs.failed), number(all)),
    };
    let remedy = match chore_under_way {
        Some(kind) => chore(kind),
        None => "`retry` runs again what failed in such a batch, `why` with its id tells more".to_owned(),
    };
    format!("{which} did not succeed: {}; {remedy}", some(named, jobs.failed))
}

/// Why a step failed.
pub fn failed(step: &StepRow, groups: &[ErrorGroup], awaited: bool, chore_under_way: Option<&str>) -> String {
    let jobs = step.jobs;
    let mut told = vec![format!(
        "{} of {} failed, it tolerates {}",
        number(jobs.failed),
        count(jobs.total, "job"),
        tolerated(step)
    )];
    told.push(match chore_under_way {
        Some(kind) => chore(kind),
        None if awaited => "waiting for `retry`".to_owned(),
        None => format!("`retry` runs {} again", if jobs.failed == 1 { "it" } else { "them" }),
    });
    if step.spec.policy == FailurePolicy::FailFast && jobs.cancelled > 0 {
        told.push(format!("it failed fast: {} more were cancelled, a `retry` runs them, too", number(jobs.cancelled)));
    }
    if let Some(group) = groups.first() {
        let which = match (jobs.failed, groups) {
            (1, _) => "it".to_owned(),
            (_, [_]) => "all".to_owned(),
            _ => format!("most ({})", number(group.jobs)),
        };
        told.push(format!("{which} failed with: {}", shorten(&group.example, ERROR_SHOWN)));
    }
    told.join("; ")
}

/// Why the step has failed that stands for a batch, and how it goes on.
pub fn abandoned(id: WorkflowId, program: Option<&str>) -> String {
    let program = program.map(|program| format!("{program} ")).unwrap_or_default();
    format!(
        "it was abandoned: the client that held it open ended without closing it; `{program}discard {id} {BATCH_STEP_NAME}` says that what it has \
         was all there was to be"
    )
}

/// `` `A` and `B` wait for``, if any do.
pub fn wait_for(named: &[String], all: u64) -> Option<String> {
    let who = names(named.iter().map(String::as_str), all);
    (all > 0).then(|| format!("{who} {} for", if all == 1 { "waits" } else { "wait" }))
}

/// `` `C` waits for `B`, that for``: the way to the last name, without it.
pub fn path(path: &[&str]) -> String {
    match path {
        [start, _] => format!("`{start}` waits for"),
        [start, between @ .., _] if between.len() <= 3 => {
            let between: Vec<String> = between.iter().map(|name| format!("`{name}`")).collect();
            format!("`{start}` waits for {}, that for", between.join(", that for "))
        }
        [start, between @ .., _] => {
            format!("`{start}` waits, over {} between them, for", count(between.len() as u64, "step"))
        }
        _ => "waits for".to_owned(),
    }
}

/// What holds everything of a workflow in this state, if it does.
pub fn of_state(state: WorkflowState) -> Option<(CauseKind, String)> {
    match state {
        WorkflowState::Paused => {
            Some((CauseKind::Paused, "the workflow is paused: nothing of it is handed out until `resume`".to_owned()))
        }
        WorkflowState::Cancelling => {
            let text = "the workflow is being cancelled: nothing more of it is started, what runs has ten seconds to come to its end";
            Some((CauseKind::Cancelling, text.to_owned()))
        }
        _ => None,
    }
}

/// How a workflow stands.
pub fn workflow(row: &WorkflowRow) -> String {
    let (name, jobs) = (&row.name, row.jobs);
    let took = row.finished_at.map(|end| span(end - row.started_at.unwrap_or(row.created_at))).unwrap_or_default();
    match row.state {
        WorkflowState::Building => format!("`{name}` is being created"),
        WorkflowState::Deleting => format!("`{name}` is being deleted"),
        WorkflowState::Succeeded if jobs.failed > 0 => {
            format!(
                "`{name}` has succeeded: {} in {took}, {} of them failed, which their steps tolerate",
                count(jobs.total, "job"),
                number(jobs.failed)
            )
        }
        WorkflowState::Succeeded => format!("`{name}` has succeeded: {} in {took}", count(jobs.total, "job")),
        WorkflowState::Cancelled => {
            format!("`{name}` was cancelled: {} of {} had succeeded", number(jobs.succeeded), count(jobs.total, "job"))
        }
        WorkflowState::Failed => {
            let waiting = match row.unsettled_steps {
                0 => String::new(),
                n => format!(", {} could not run", count(u64::from(n), "step")),
            };
            format!("`{name}` has failed: {} of {} failed{waiting}", number(jobs.failed), count(jobs.total, "job"))
        }
        WorkflowState::Pending => {
            format!("`{name}` is pending: none of its {} has been claimed", count(jobs.total, "job"))
        }
        WorkflowState::Standing => format!("the lane of `{name}` has {}", count(jobs.unsettled(), "unsettled job")),
        WorkflowState::Running | WorkflowState::Paused | WorkflowState::Cancelling => format!(
            "`{name}` is {}: {} of {} and {} of {} are unsettled",
            row.state,
            number(u64::from(row.unsettled_steps)),
            count(u64::from(row.steps), "step"),
            number(jobs.unsettled()),
            count(jobs.total, "job"),
        ),
    }
}

/// How a step stands.
pub fn step(step: &StepRow) -> String {
    let (name, jobs) = (&step.spec.name, step.jobs);
    let took = match (step.started_at, step.finished_at) {
        (Some(start), Some(end)) => format!(" in {}", span(end - start)),
        _ => String::new(),
    };
    match step.state {
        StepState::Waiting => format!("`{name}` is waiting"),
        StepState::Running if step.is_paused() => format!("`{name}` is paused"),
        StepState::Running => format!("`{name}` is running"),
        StepState::Succeeded if jobs.failed > 0 => {
            format!(
                "`{name}` has succeeded: {}{took}, {} of them failed, it tolerates {}",
                count(jobs.total, "job"),
                number(jobs.failed),
                tolerated(step)
            )
        }
        StepState::Succeeded => format!("`{name}` has succeeded: {}{took}", count(jobs.total, "job")),
        StepState::Failed => format!("`{name}` has failed"),
        StepState::Skipped => format!("`{name}` was skipped"),
        StepState::Cancelled => {
            format!("`{name}` was cancelled: {} of {} had succeeded", number(jobs.succeeded), count(jobs.total, "job"))
        }
    }
}

/// Why a step was skipped or cancelled. `decided` is the edge that said so, if one did.
pub fn passed_over(workflow: WorkflowState, step: &StepRow, decided: Option<&EdgeRow>) -> String {
    let name = &step.spec.name;
    let cancelled = step.state == StepState::Cancelled;
    match decided {
        Some(edge) if cancelled => format!("`{name}` was cancelled because `{}` was", edge.name),
        Some(edge) if edge.kind == EdgeKind::Unless && edge.state == StepState::Succeeded => {
            format!("`{name}` runs only if `{}` is skipped, which succeeded", edge.name)
        }
        Some(edge) if edge.state == StepState::Succeeded => {
            format!("`{name}` runs only after a failure of `{}`, which succeeded", edge.name)
        }
        Some(edge) if edge.kind == EdgeKind::When && !edge.passed_over => {
            format!(
                "`{name}` runs only if `{}` succeeds, which was skipped: it does not hold, or had nothing to do",
                edge.name
            )
        }
        Some(edge) => format!("`{name}` was skipped because `{}` was {}", edge.name, edge.state),
        None if matches!(workflow, WorkflowState::Cancelled | WorkflowState::Cancelling) => {
            format!("`{name}` was cancelled with its workflow")
        }
        None => format!("`{name}` was {}", step.state),
    }
}

/// How a job stands.
pub fn job(job: &JobView, place: &Whereabouts, waits: Option<&WaitsFor>, now: Millis) -> String {
    let name = format!("job #{} of `{}`", number(job.index), job.name);
    let last_error = job.errors.last().map(|error| shorten(&error.error, ERROR_SHOWN).into_owned());
    let failed_with = last_error.map(|error| format!("; the last attempt failed with: {error}")).unwrap_or_default();
    match job.state {
        JobState::Succeeded if waits.is_some() => format!("{name} has succeeded"),
        JobState::Failed if waits.is_some() => {
            let error = job.errors.last().map(|error| format!(": {}", shorten(&error.error, ERROR_SHOWN)));
            format!("{name} has failed{}; `retry` lets it wait anew", error.unwrap_or_default())
        }
        JobState::Deferred if waits.is_some() => format!("{name} waits"),
        JobState::Succeeded => format!("{name} has succeeded, in attempt {}", job.attempts.max(1)),
        JobState::Failed => format!(
            "{name} has failed after {}{failed_with}; `retry` runs it again",
            count(u64::from(job.attempts), "attempt")
        ),
        JobState::Skipped => format!("{name} was skipped"),
        JobState::SkippedByPredecessor => {
            format!(
                "{name} was skipped, since {} did not succeed; it comes back when that is repaired",
                predecessor(job)
            )
        }
        JobState::Cancelled => format!("{name} was cancelled"),
        JobState::Retrying => {
            let due = place.due.map(|due| format!(" {}", until(due, now))).unwrap_or_default();
            format!("{name} waits for attempt {}, due{due}{failed_with}", job.attempts + 1)
        }
        JobState::Deferred => match (&place.turn, place.due) {
            (Some(Turn { key, admitted, waiting }), _) => format!(
                "{name} waits for the turn of its key `{key}`: {} of it run or are about to, {} wait",
                count(u64::from(*admitted), "job"),
                number(u64::from(*waiting))
            ),
            (None, Some(due)) => format!("{name} waits for its time{failed_with}; due {}", until(due, now)),
            (None, None) => format!("{name} waits for something else"),
        },
        JobState::Open => match &place.worker {
            Some(worker) => {
                let progress = place.progress.as_deref().and_then(progress).unwrap_or_default();
                let dead = if job.recoveries > 0 {
                    format!("; its workers died {}", count(u64::from(job.recoveries), "time"))
                } else {
                    String::new()
                };
                format!("{name} runs on {worker}, attempt {}{progress}{dead}{failed_with}", job.attempts + 1)
            }
            None if place.ready && job.recoveries > 0 => {
                format!("{name} waits for its turn; its workers died {}", count(u64::from(job.recoveries), "time"))
            }
            None if place.ready => format!("{name} waits for its turn"),
            None if place.behind => format!("{name} waits for {}", predecessor(job)),
            None => format!("{name} waits with its step"),
        },
    }
}

/// The job that one of a chained step goes on from.
fn predecessor(job: &JobView) -> String {
    match job.after.as_slice() {
        [step] => format!("its own predecessor (#{} of `{step}`)", number(job.index)),
        _ => "its own predecessor".to_owned(),
    }
}

/// `, 3 of 10 done`, from what a job told.
fn progress(json: &str) -> Option<String> {
    let told: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(format!(", {} of {} done", number(told.get("done")?.as_u64()?), number(told.get("of")?.as_u64()?)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::graph::StepSpec;
    use crate::state::{Counts, EdgeKind};

    const NOW: Millis = 1_790_000_000_000;

    fn rows(jobs: Counts, running: u64) -> StepRow {
        StepRow {
            number: 2,
            spec: StepSpec::new("ImportCsvRow", "imports"),
            generation: 0,
            state: StepState::Running,
            jobs,
            running,
            released_at: Some(NOW),
            started_at: Some(NOW),
            finished_at: None,
            exceeded: false,
            outdated: false,
        }
    }

    fn counts(total: u64, succeeded: u64, failed: u64, retrying: u64) -> Counts {
        Counts { total, succeeded, failed, retrying, ..Counts::default() }
    }

    fn told(step: &StepRow, waiting: &Waiting) -> String {
        let id = WorkflowId::new(NOW, 0);
        let workflow = WorkflowState::Running;
        Figures { step, waiting, workflow, batch: None, id, program: Some("import"), now: NOW }.told().1
    }

    #[test]
    fn figures_and_a_missing_worker_are_told_in_one_sentence() {
        let step = rows(counts(28_298, 28_275, 0, 3), 0);
        let waiting = Waiting { next_due: Some(NOW + 12_000), ..Waiting::default() };
        let expected = "23 of 28,298 jobs unsettled, 3 retrying, next in 12 s; queue `imports` has no live worker that knows `ImportCsvRow`";
        assert_eq!(told(&step, &waiting), expected);
    }

    #[test]
    fn workers_of_other_programs_are_told_apart_from_none() {
        assert_eq!(no_worker("q", "T", 2), "queue `q` has no live worker that knows `T` (2 that do not take from it)");
        assert_eq!(
            no_worker("q", "T", 1),
            "queue `q` has no live worker that knows `T` (one that does not takes from it)"
        );
    }

    #[test]
    fn a_step_at_its_limit_says_which() {
        let mut step = rows(counts(100, 10, 0, 0), 4);
        step.spec.max_in_flight = Some(4);
        let waiting =
            Waiting { able_workers: 1, leases: vec![("a:1".into(), 3), ("b:2".into(), 1)], ..Waiting::default() };
        let expected = "90 of 100 jobs unsettled, 4 running on a:1 and 1 other worker; 86 ready, but at most 4 of its jobs may run at once (`max_in_flight`)";
        assert_eq!(told(&step, &waiting), expected);
    }

    #[test]
    fn a_delay_is_told_apart_from_a_retry() {
        let mut step = rows(counts(5, 0, 0, 0), 0);
        (step.spec.delay, step.started_at) = (Duration::from_secs(60), None);
        let waiting = Waiting { able_workers: 1, next_due: Some(NOW + 30_000), ..Waiting::default() };
        assert_eq!(told(&step, &waiting), "5 of 5 jobs unsettled; its delay of 1 min ends in 30 s");
    }

    #[test]
    fn a_step_that_waits_for_a_signal_tells_how_to_give_it_and_until_when_it_waits() {
        let mut step = rows(counts(1, 0, 0, 0), 0);
        step.spec.name = "manager".into();
        let waits = |then| WaitsFor::Signal { signal_type: "Approval".into(), timeout: Some(60_000), then };
        step.spec.waits = Some(waits(Then::Fail));
        let waiting = Waiting { next_due: Some(NOW + 30_000), ..Waiting::default() };
        let text = told(&step, &waiting);
        assert!(text.starts_with("waits for the signal `manager` (send it with: import signal "), "{text}");
        assert!(text.ends_with(" manager '{..}'); it fails in 30 s if nobody does"), "{text}");
        assert!(told(&step, &Waiting::default()).ends_with(" manager '{..}')"));
        step.spec.waits = Some(waits(Then::Skip));
        assert!(told(&step, &waiting).ends_with("; it is skipped in 30 s if nobody does"));
        step.spec.waits = Some(WaitsFor::Sleep(60_000));
        assert_eq!(told(&step, &waiting), "sleeps for 1 min, ends in 30 s");
    }

    #[test]
    fn suspect_work_waits_to_run_alone() {
        let step = rows(counts(2, 1, 0, 0), 0);
        let waiting = Waiting { able_workers: 1, suspect: true, ..Waiting::default() };
        let expected =
            "1 of 2 jobs unsettled; jobs whose workers died wait for a worker that holds nothing else, to run alone";
        assert_eq!(told(&step, &waiting), expected);
    }

    #[test]
    fn ready_work_names_its_queue_and_who_can_run_it() {
        let step = rows(counts(2, 0, 0, 0), 0);
        let waiting = Waiting { able_workers: 3, ..Waiting::default() };
        assert_eq!(
            told(&step, &waiting),
            "2 of 2 jobs unsettled; 2 ready in queue `imports`, which 3 live workers take from that can run them"
        );
    }

    #[test]
    fn a_failed_step_says_how_many_it_tolerates_and_what_most_failed_with() {
        let mut step = rows(counts(28_298, 28_286, 12, 0), 0);
        step.state = StepState::Failed;
        let group = |jobs, example: &str| ErrorGroup {
            step: "ImportCsvRow".into(),
            jobs,
            pattern: String::new(),
            example: example.into(),
        };
        let groups = [group(10, "line 17: elevation `12x` is no number"), group(2, "no code")];
        let expected = "12 of 28,298 jobs failed, it tolerates 0; waiting for `retry`; most (10) failed with: line 17: elevation `12x` is no number";
        assert_eq!(failed(&step, &groups, true, None), expected);
        step.spec.tolerate = Tolerate::Fraction(0.0001);
        assert!(failed(&step, &groups[..1], false, None).starts_with(
            "12 of 28,298 jobs failed, it tolerates 2, 0.01 % of them; `retry` runs them again; all failed"
        ));
    }

    #[test]
    fn a_step_that_failed_fast_says_what_became_of_the_rest() {
        let mut step = rows(counts(28_298, 12_000, 11, 0), 0);
        (step.spec.policy, step.jobs.cancelled) = (FailurePolicy::FailFast, 16_287);
        step.exceeded = true;
        assert!(
            told(&step, &Waiting { able_workers: 1, ..Waiting::default() })
                .contains("; it fails fast: the rest is cancelled")
        );
        (step.state, step.exceeded) = (StepState::Failed, false);
        assert!(
            failed(&step, &[], true, None)
                .ends_with("it failed fast: 16,287 more were cancelled, a `retry` runs them, too")
        );
    }

    #[test]
    fn a_paused_step_tells_how_it_goes_on_and_not_that_its_jobs_are_ready() {
        let mut row = rows(counts(28_298, 12_000, 11, 0), 0);
        (row.spec.policy, row.spec.tolerate, row.exceeded) = (FailurePolicy::Pause, Tolerate::Jobs(10), true);
        let text = told(&row, &Waiting { able_workers: 1, ..Waiting::default() });
        let start = "16,287 of 28,298 jobs unsettled, 11 failed so far (it tolerates 10); paused, since more failed than it tolerates: `import resume ";
        assert!(text.starts_with(start), "{text}");
        assert!(text.ends_with(" ImportCsvRow` also runs those that failed again"), "{text}");
        assert_eq!(super::step(&row), "`ImportCsvRow` is paused");
    }

    #[test]
    fn the_way_to_what_a_step_waits_for_is_named_while_it_is_short() {
        assert_eq!(path(&["C", "A"]), "`C` waits for");
        assert_eq!(path(&["C", "B", "A"]), "`C` waits for `B`, that for");
        assert_eq!(path(&["F", "E", "D", "C", "B", "A"]), "`F` waits, over 4 steps between them, for");
    }

    #[test]
    fn a_skipped_step_names_the_edge_that_skipped_it() {
        let mut alarm = rows(counts(1, 0, 0, 0), 0);
        (alarm.spec.name, alarm.state) = ("Alarm".into(), StepState::Skipped);
        let edge = EdgeRow {
            number: 0,
            name: "Import".into(),
            kind: EdgeKind::AfterFailure,
            state: StepState::Succeeded,
            passed_over: false,
            jobs: Counts::default(),
        };
        assert_eq!(
            passed_over(WorkflowState::Succeeded, &alarm, Some(&edge)),
            "`Alarm` runs only after a failure of `Import`, which succeeded"
        );
        alarm.state = StepState::Cancelled;
        assert_eq!(passed_over(WorkflowState::Cancelled, &alarm, None), "`Alarm` was cancelled with its workflow");
    }

    #[test]
    fn what_a_job_told_of_its_progress_is_read() {
        assert_eq!(progress(r#"{"done":3,"of":10}"#).unwrap(), ", 3 of 10 done");
        assert_eq!(progress("[]"), None);
    }
}
