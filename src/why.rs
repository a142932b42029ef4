//! Why a workflow, a step or a job is not done: the causes at the front, with figures.
//!
//! Reads a bounded number of rows, whatever the size of the workflow: it looks for the steps that run or have failed, which is what
//! all others wait for in the end, and explains the first few of them. `sentences` says in words what was found.

mod sentences;

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use self::sentences::Figures;
pub(crate) use self::sentences::no_worker;
use crate::clock::Millis;
use crate::error::Result;
use crate::graph::StepNumber;
use crate::handle::Handle;
use crate::id::WorkflowId;
use crate::render::words::{count, number};
use crate::state::{BatchState, Counts, Decision, JobState, StepState, WorkflowState};
use crate::store::{BATCH_STEP, CHILDREN_PAGE, ChildRow, EdgeRow, StepRow, WorkflowRow};
use crate::waiting::WaitsFor;

/// How many causes are explained; further ones are counted.
const EXPLAINED: usize = 10;
/// How many steps are read at once.
const PAGE: u32 = 1000;
/// How many steps are passed on the way from a waiting step to what it waits for in the end.
const WALKED: usize = 400;
/// How many of the steps that wait for one are named.
const NAMED: usize = 8;
/// How many workflows that jobs wait for are named.
const CHILDREN: usize = 3;

/// Why something is not done, or how it ended.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Why {
    /// The workflow.
    pub workflow_id: WorkflowId,
    /// Its name.
    pub workflow: String,
    /// The step that was asked about, if it was one.
    pub step: Option<String>,
    /// The job that was asked about, if it was one.
    pub index: Option<u64>,
    /// Where the thing asked about stands.
    pub state: &'static str,
    /// How it stands, in one sentence.
    pub summary: String,
    /// What keeps it, or made it end as it did.
    pub causes: Vec<Cause>,
    /// What was not looked at, if anything.
    pub note: Option<String>,
}

/// One thing that keeps a workflow, step or job.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Cause {
    /// What it is; several at once may be true of one step.
    pub kinds: Vec<CauseKind>,
    /// The step it is about; none if it is about the workflow.
    pub step: Option<String>,
    /// Steps that wait for that step, at most eight.
    pub waiting: Vec<String>,
    /// The step's jobs.
    pub jobs: Option<Counts>,
    /// How many of them are under a lease.
    pub running: u64,
    /// When the next of them is due, if one waits for a time.
    pub next_due: Option<Millis>,
    /// All of it in one sentence.
    pub text: String,
}

/// What sort of cause it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CauseKind {
    /// Jobs are under way.
    Running,
    /// Jobs wait for their next attempt.
    Retrying,
    /// Jobs wait for their turn.
    Ready,
    /// The step's delay has not passed, or the time that it waits for has not come.
    Delayed,
    /// Somebody is to give the signal that the step waits for.
    Signal,
    /// Jobs wait for the ends of the workflows that they stand for.
    Workflow,
    /// Eager sources are as far ahead of the jobs that they have emitted as they may be: they wait for those.
    Ahead,
    /// Jobs of a chained step wait for those that they go on from.
    Predecessor,
    /// As many jobs of the step, of its type or of its queue run as may.
    AtLimit,
    /// Jobs that killed their workers wait for one that holds nothing else.
    Suspect,
    /// No live worker takes from the queue and knows the type.
    NoWorker,
    /// The broker of the queue cannot be reached, or cannot be used.
    BrokerAway,
    /// A chore of the store is under way.
    Chore,
    /// A named hold keeps the step from settling.
    Held,
    /// Somebody paused the workflow, the queue or the type; or the step paused when more of its jobs had failed than it tolerates.
    Paused,
    /// Somebody cancelled the workflow, or the step fails fast; what runs is coming to its end.
    Cancelling,
    /// More jobs failed than the step tolerates.
    Failed,
    /// The step was not needed.
    Skipped,
    /// The step was cancelled.
    Cancelled,
    /// Everything it asks for has settled.
    Released,
}

impl Handle {
    /// Why the workflow is not done, or how it ended.
    pub async fn why(&self) -> Result<Why> {
        let row = self.store().workflow(self.id()).await?;
        let mut why = Why::of_workflow(&row);
        if !matches!(row.state, WorkflowState::Succeeded | WorkflowState::Cancelled) {
            self.explain_front(&row, &mut why).await?;
        }
        Ok(why)
    }

    /// Why the step of that name is not done, or how it ended.
    pub async fn why_step(&self, name: &str) -> Result<Why> {
        let row = self.store().workflow(self.id()).await?;
        let step = self.step(name).await?;
        let mut why = Why::of_workflow(&row);
        why.causes.retain(|_| !step.state.is_settled());
        why.state = step.state.as_str();
        why.summary = sentences::step(&step);
        self.explain_step(&row, &step, &mut why).await?;
        why.step = Some(step.spec.name);
        Ok(why)
    }

    /// Why one job is not done, or how it ended.
    pub async fn why_job(&self, step: &str, index: u64) -> Result<Why> {
        let row = self.store().workflow(self.id()).await?;
        let job = self.job(step, index).await?;
        let step = self.step(step).await?;
        let place = self.store().whereabouts(self.id(), step.number, index).await?;
        let mut why = Why::of_workflow(&row);
        let waits = job.state == JobState::Open && place.worker.is_none();
        why.causes.retain(|_| waits);
        why.state = job.state.as_str();
        why.summary = sentences::job(&job, &place, step.spec.waits.as_ref(), self.store().now());
        let waits = waits || step.spec.waits.is_some() && job.state == JobState::Deferred;
        if waits || matches!(job.state, JobState::Skipped | JobState::SkippedByPredecessor | JobState::Cancelled) {
            self.explain_step(&row, &step, &mut why).await?;
        }
        why.step = Some(step.spec.name);
        why.index = Some(index);
        Ok(why)
    }

    /// The steps at the front of the whole workflow: running ones, and failed ones for which others wait or which failed it.
    async fn explain_front(&self, row: &WorkflowRow, why: &mut Why) -> Result<()> {
        let (mut front, mut more, mut looked_at, mut waiting) = (Vec::new(), 0u64, 0u32, None);
        while looked_at < row.steps && front.len() < EXPLAINED {
            let page = self.store().steps(self.id(), looked_at, PAGE).await?;
            let Some(last) = page.last() else { break };
            looked_at = last.number + 1;
            for step in page {
                match step.state {
                    StepState::Running | StepState::Failed if front.len() < EXPLAINED => front.push(step),
                    StepState::Running | StepState::Failed => more += 1,
                    StepState::Waiting => waiting = waiting.or(Some(step)),
                    _ => {}
                }
            }
        }
        let others = front.iter().any(|step| !is_closed_batch(row.batch, step.number, step.state));
        front.retain(|step| !others || !is_closed_batch(row.batch, step.number, step.state));
        for step in &front {
            // Its source is at the front itself, and tells who waits for it.
            if self.source_of_all_done(step).await?.is_some() {
                continue;
            }
            let (named, all) = self.who_waits(step).await?;
            let who = sentences::wait_for(&named, all);
            let cause = self.cause(row, step, who, all > 0, named).await?;
            why.causes.push(cause);
        }
        if let (true, Some(step)) = (front.is_empty(), waiting) {
            why.causes.push(self.released(&step).await?);
        }
        let mut notes = Vec::new();
        if more > 0 {
            notes.push(format!("{} more run or have failed", count(more, "step")));
        }
        if looked_at < row.steps && more + front.len() as u64 > 0 {
            notes.push(format!(
                "looked at the first {} of {} steps",
                number(u64::from(looked_at)),
                number(u64::from(row.steps))
            ));
        }
        why.note = (!notes.is_empty()).then(|| notes.join("; "));
        Ok(())
    }

    async fn explain_step(&self, row: &WorkflowRow, step: &StepRow, why: &mut Why) -> Result<()> {
        match step.state {
            StepState::Succeeded => {}
            StepState::Running if self.source_of_all_done(step).await?.is_some() => {
                self.explain_waiting(row, step, why).await?;
            }
            StepState::Running | StepState::Failed => {
                let (named, all) = self.who_waits(step).await?;
                why.causes.push(self.cause(row, step, None, all > 0, named).await?);
            }
            StepState::Skipped | StepState::Cancelled => why.causes.push(self.passed_over(row, step).await?),
            StepState::Waiting => self.explain_waiting(row, step, why).await?,
        }
        Ok(())
    }

    /// Walks from a waiting step up to the running and failed ones that it waits for in the end, nearest first.
    async fn explain_waiting(&self, row: &WorkflowRow, step: &StepRow, why: &mut Why) -> Result<()> {
        let mut way: HashMap<StepNumber, (String, Option<StepNumber>)> = HashMap::new();
        way.insert(step.number, (step.spec.name.clone(), None));
        let mut to_visit = VecDeque::from([step.number]);
        let (mut front, mut walked, mut cut) = (Vec::new(), 0, false);
        while let Some(number) = to_visit.pop_front() {
            if walked >= WALKED {
                cut = true;
                break;
            }
            walked += 1;
            let edges = self.store().edges(self.id(), number, true, PAGE).await?;
            cut |= edges.len() as u32 == PAGE;
            for edge in edges.into_iter().filter(keeps_waiting) {
                if way.contains_key(&edge.number) {
                    continue;
                }
                way.insert(edge.number, (edge.name.clone(), Some(number)));
                let goes_on = match edge.state {
                    StepState::Waiting => true,
                    StepState::Running => {
                        let up = self.store().steps(self.id(), edge.number, 1).await?.into_iter().next();
                        match up {
                            Some(up) => self.source_of_all_done(&up).await?.is_some(),
                            None => false,
                        }
                    }
                    _ => false,
                };
                if goes_on { to_visit.push_back(edge.number) } else { front.push((edge.number, edge.state)) }
            }
        }
        let others = front.iter().any(|(number, state)| !is_closed_batch(row.batch, *number, *state));
        front.retain(|(number, state)| !others || !is_closed_batch(row.batch, *number, *state));
        let more = front.len().saturating_sub(EXPLAINED);
        for (number, _) in front.iter().take(EXPLAINED) {
            let path = path_to(&way, *number);
            let Some(root) = self.store().steps(self.id(), *number, 1).await?.into_iter().next() else { continue };
            let who = sentences::path(&path);
            why.causes.push(self.cause(row, &root, Some(who), true, vec![step.spec.name.clone()]).await?);
        }
        if front.is_empty() && cut {
            self.explain_front(row, why).await?;
            let far = format!(
                "what `{}` waits for is more than {WALKED} steps away; these are the causes in the whole workflow",
                step.spec.name
            );
            why.note = Some(why.note.take().map_or(far.clone(), |note| format!("{far}; {note}")));
        } else if front.is_empty() {
            why.causes.push(self.released(step).await?);
        } else if more > 0 || cut {
            let others = if more > 0 {
                format!("it also waits for {} that run or have failed", count(more as u64, "other step"))
            } else {
                "not every step before it was looked at".to_owned()
            };
            why.note = Some(others);
        }
        Ok(())
    }

    /// The source that keeps a step from settling of which all jobs that there are have settled.
    async fn source_of_all_done(&self, step: &StepRow) -> Result<Option<StepNumber>> {
        if step.state != StepState::Running || step.jobs.unsettled() > 0 {
            return Ok(None);
        }
        let edges = self.store().edges(self.id(), step.number, true, PAGE).await?;
        let source = edges.iter().find(|edge| edge.kind.is_held() && keeps_waiting(edge));
        Ok(source.map(|edge| edge.number))
    }

    /// The waiting steps right behind one, as far as they are named, and how many there are.
    async fn who_waits(&self, step: &StepRow) -> Result<(Vec<String>, u64)> {
        let followers = self.store().edges(self.id(), step.number, false, PAGE).await?;
        let holds_up = |edge: &&EdgeRow| {
            // What is fed may run meanwhile, but does not settle.
            let waits = edge.state == StepState::Waiting || edge.state == StepState::Running && edge.kind.is_held();
            waits && matches!(edge.kind.decide(step.state, false), None | Some(Decision::Wait))
        };
        let waiting: Vec<&EdgeRow> = followers.iter().filter(holds_up).collect();
        Ok((waiting.iter().take(NAMED).map(|edge| edge.name.clone()).collect(), waiting.len() as u64))
    }

    /// What keeps a running step, or why it failed. `who` is the beginning of the sentence: who waits for it.
    async fn cause(
        &self,
        row: &WorkflowRow,
        step: &StepRow,
        who: Option<String>,
        awaited: bool,
        waiting: Vec<String>,
    ) -> Result<Cause> {
        let found = self.store().waiting(self.id(), step.number).await?;
        let name = &step.spec.name;
        let source = if step.spec.feeds.is_some() { "the source " } else { "" };
        let (kinds, text) = if step.state == StepState::Failed {
            let groups = self.error_groups(step.number, name).await?;
            let chore = found.chore.as_ref().filter(|_| !row.state.is_finished());
            let told = match &step.spec.waits {
                Some(WaitsFor::Batch) => sentences::abandoned(self.id(), self.client().registry().program.as_deref()),
                Some(WaitsFor::Batches) => {
                    let spoilt = |state| matches!(state, WorkflowState::Failed | WorkflowState::Cancelled);
                    let named = self.batches_within(step, spoilt).await?;
                    sentences::batches_failed(step, &named, chore.map(String::as_str))
                }
                _ => sentences::failed(step, &groups, awaited, chore.map(String::as_str)),
            };
            let start = match who {
                Some(who) => format!("{who} {source}`{name}`, which failed"),
                None => format!("{source}`{name}` failed"),
            };
            let kinds = [Some(CauseKind::Failed), chore.map(|_| CauseKind::Chore)].into_iter().flatten().collect();
            (kinds, format!("{start}: {told}"))
        } else {
            let program = self.client().registry().program.as_deref();
            let now = self.store().now();
            let (workflow, batch) = (row.state, row.batch);
            let figures = Figures { step, waiting: &found, workflow, batch, id: self.id(), program, now };
            let (mut kinds, mut told) = figures.told();
            if step.spec.waits == Some(WaitsFor::Batches) {
                let named = self.batches_within(step, |state| !state.is_finished()).await?;
                told = format!("{told}: {}", sentences::some(&named, step.jobs.deferred));
            } else if step.spec.children && step.jobs.deferred > 0 {
                kinds.push(CauseKind::Workflow);
                told = format!("{told}; {}", self.children_at_work(step).await?);
            }
            if let Some(ahead) = self.waits_for_emitted(step).await? {
                kinds.push(CauseKind::Ahead);
                told = format!("{told}; {ahead}");
            }
            let is_wait = step.spec.waits.is_some();
            let waits = step.jobs.unsettled() > step.jobs.retrying + step.running || !found.leases.is_empty();
            // No broker carries what no worker runs.
            if waits
                && !is_wait
                && let Some(trouble) = self.client().broker_trouble(&step.spec.queue).await
            {
                kinds.push(CauseKind::BrokerAway);
                told = format!("{told}; {trouble}");
            }
            let text = match who {
                // What is told of a step that waits goes on from its name.
                Some(who) if is_wait => format!("{who} `{name}`, which {told}"),
                None if is_wait => format!("`{name}` {told}"),
                Some(who) => format!("{who} {source}`{name}`: {told}"),
                None => format!("{source}`{name}` runs: {told}"),
            };
            (kinds, text)
        };
        Ok(Cause {
            kinds,
            step: Some(name.clone()),
            waiting,
            jobs: Some(step.jobs),
            running: step.running,
            next_due: found.next_due,
            text,
        })
    }

    /// What eager sources wait for, if more of what they have emitted is unfinished than may be.
    async fn waits_for_emitted(&self, step: &StepRow) -> Result<Option<String>> {
        let Some((ahead, fed)) = step.spec.eager.zip(step.spec.feeds) else { return Ok(None) };
        let fed = self.store().steps(self.id(), fed, 1).await?.into_iter().next();
        let fed = fed.filter(|fed| fed.jobs.unsettled() > ahead && step.running > 0);
        Ok(fed.map(|fed| sentences::ahead(&fed, ahead)))
    }

    /// Which workflows the jobs of a step wait for: some of them by their ids.
    async fn children_at_work(&self, step: &StepRow) -> Result<String> {
        let named = self.some_children(step, |state| !state.is_finished()).await?;
        let named: Vec<String> = named.iter().map(|child| format!("{} ({})", child.id, child.state)).collect();
        Ok(sentences::children(step, &named))
    }

    /// Some of the batches within a batch, by their names and ids.
    async fn batches_within(&self, step: &StepRow, which: impl Fn(WorkflowState) -> bool) -> Result<Vec<String>> {
        let mut named = Vec::new();
        for child in self.some_children(step, which).await? {
            named.push(sentences::batch_within(&self.client().row(child.id).await?));
        }
        Ok(named)
    }

    /// The first of the workflows in these states that jobs of a step stand for.
    async fn some_children(&self, step: &StepRow, which: impl Fn(WorkflowState) -> bool) -> Result<Vec<ChildRow>> {
        let (mut found, mut from) = (Vec::new(), 0);
        while found.len() < CHILDREN {
            let page = self.store().children(self.id(), step.number, from, CHILDREN_PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.index + 1;
            found.extend(page.into_iter().filter(|child| which(child.state)).take(CHILDREN - found.len()));
        }
        Ok(found)
    }

    /// A waiting step of which everything before it has settled as it asks: the store has yet to act on it.
    async fn released(&self, step: &StepRow) -> Result<Cause> {
        let found = self.store().waiting(self.id(), step.number).await?;
        let name = &step.spec.name;
        let (kind, text) = match (&found.chore, found.holds.as_slice()) {
            (Some(chore), _) => (CauseKind::Chore, format!("`{name}` is next: {}", sentences::chore(chore))),
            (None, []) => (CauseKind::Released, format!("`{name}` is next: everything that it waits for has settled")),
            (None, holds) => (CauseKind::Held, format!("`{name}` is next: it is held ({})", holds.join(", "))),
        };
        Ok(Cause::of(kind, Some(step), text))
    }

    /// Why a step was skipped or cancelled.
    async fn passed_over(&self, row: &WorkflowRow, step: &StepRow) -> Result<Cause> {
        let edges = self.store().edges(self.id(), step.number, true, PAGE).await?;
        let decision = if step.state == StepState::Skipped { Decision::Skip } else { Decision::Cancel };
        let decided = edges.iter().find(|edge| edge.kind.decide(edge.state, edge.passed_over) == Some(decision));
        let kind = if step.state == StepState::Skipped { CauseKind::Skipped } else { CauseKind::Cancelled };
        Ok(Cause::of(kind, Some(step), sentences::passed_over(row.state, step, decided)))
    }
}

/// Whether a step behind this edge waits because of it.
fn keeps_waiting(edge: &EdgeRow) -> bool {
    matches!(edge.kind.decide(edge.state, edge.passed_over), None | Some(Decision::Wait))
}

/// Whether the step stands for a batch that nobody holds open: it waits for nothing but its jobs, whose steps tell more.
pub(crate) fn is_closed_batch(batch: Option<BatchState>, step: StepNumber, state: StepState) -> bool {
    let is_closed = matches!(batch, Some(BatchState::Closed | BatchState::Abandoned));
    step == BATCH_STEP && state == StepState::Running && is_closed
}

/// The names from the step that was asked about to `end`.
fn path_to(way: &HashMap<StepNumber, (String, Option<StepNumber>)>, end: StepNumber) -> Vec<&str> {
    let mut path = Vec::new();
    let mut at = Some(end);
    while let Some((name, before)) = at.and_then(|number| way.get(&number)) {
        path.push(name.as_str());
        at = *before;
    }
    path.reverse();
    path
}

impl Why {
    /// What can be said of a workflow by its own row.
    fn of_workflow(row: &WorkflowRow) -> Self {
        let causes = sentences::of_state(row.state).map(|(kind, text)| Cause::of(kind, None, text));
        Self {
            workflow_id: row.id,
            workflow: row.name.clone(),
            step: None,
            index: None,
            state: row.state.as_str(),
            summary: sentences::workflow(row),
            causes: causes.into_iter().collect(),
            note: None,
        }
    }
}

impl Cause {
    fn of(kind: CauseKind, step: Option<&StepRow>, text: String) -> Self {
        Self {
            kinds: vec![kind],
            step: step.map(|step| step.spec.name.clone()),
            waiting: Vec::new(),
            jobs: step.map(|step| step.jobs),
            running: step.map_or(0, |step| step.running),
            next_due: None,
            text,
        }
    }
}
