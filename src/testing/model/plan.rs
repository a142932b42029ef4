//! Random workflows: the same one as a model and as what a store is given.

use super::dice::Dice;
use super::naive::{Asks, Batch, Job, Phase, Policy, Row, Step, Wait, Workflow};
use crate::clock::Millis;
use crate::graph::{Edge, Link, StepSpec};
use crate::id::WorkflowId;
use crate::payload::Chunk;
use crate::retention::Retention;
use crate::state::{EdgeKind, FailurePolicy, JobState, Tolerate};
use crate::store::{Awaits, Create, NewWorkflow, Part, WaitsUntil};

/// The job types of the game, each of a queue of its own.
pub const TYPES: [&str; 2] = ["Row", "Other"];

/// The type of every signal of the game.
pub const SIGNAL: &str = "Answer";
/// A wait that nothing but a signal ends: in three hundred years.
pub const FOR_EVER: Millis = 10_000_000_000_000;

/// How large a game may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Workflows.
    pub workflows: usize,
    /// Steps of a workflow.
    pub steps: usize,
    /// Jobs of a step.
    pub jobs: usize,
    /// Operations before everything may come to its end.
    pub operations: usize,
}

/// A workflow as the model knows it, and what makes it in a store.
pub fn random_workflow(dice: &mut Dice, size: Size, now: Millis, shard: u16) -> (Workflow, Create) {
    let steps = random_steps(dice, size, now);
    let parts = parts(dice, &steps);
    (Workflow::new(steps, None), create(WorkflowId::seeded(now, shard, dice.bytes()), parts))
}

impl Workflow {
    pub fn new(steps: Vec<Step>, batch: Option<Batch>) -> Self {
        let (phase, started, death_within, told) = (Phase::Pending, false, false, false);
        Self { steps, phase, started, batch, death_within, parent: None, told, stopped: Vec::new() }
    }
}

pub fn random_steps(dice: &mut Dice, size: Size, now: Millis) -> Vec<Step> {
    let steps = 1 + dice.below(size.steps);
    let mut model = Vec::new();
    for number in 0..steps {
        let mut edges = Vec::new();
        for up in 0..number {
            if dice.chance(70 / number) {
                let asks = [Asks::Success, Asks::Success, Asks::Settled, Asks::Failure, Asks::When, Asks::Unless]
                    [dice.below(6)];
                edges.push((up, asks));
            }
        }
        let always = !edges.is_empty() && dice.chance(12);
        if always {
            edges.iter_mut().for_each(|(_, asks)| *asks = Asks::Always);
        }
        let jobs = if dice.chance(20) { 0 } else { dice.below(size.jobs) + 1 };
        let tolerates = if dice.chance(25) { dice.below(3) } else { 0 };
        model.push(Step {
            rows: (0..jobs).map(|_| Row::new()).collect(),
            edges,
            always,
            tolerates,
            share: if tolerates == 0 && dice.chance(15) { [25, 50][dice.below(2)] } else { 0 },
            policy: [Policy::RunOn, Policy::RunOn, Policy::FailFast, Policy::Pause][dice.below(4)],
            limit: if dice.chance(20) { 1 + dice.below(2) } else { usize::MAX },
            max_deaths: 1 + dice.below(3) as u32,
            delay: if dice.chance(10) { 500 } else { 0 },
            ..Step::growing()
        });
    }
    // Some steps are fed: the jobs of the one before become their sources.
    for number in 1..steps {
        let source = number - 1;
        let is_fed = model[source].edges.iter().any(|(_, asks)| *asks == Asks::Feeds);
        if dice.chance(25) && !is_fed && !model[number].always {
            (model[source].feeds, model[source].eager) = (Some(number), dice.chance(50));
            model[number].rows.clear();
            model[number].edges.retain(|(up, _)| *up != source);
            model[number].edges.push((source, Asks::Feeds));
        }
    }
    // Some go on from the jobs of another, one to one: as many as that has.
    for number in 1..steps {
        let up = dice.below(number);
        let is_fed = model[number].edges.iter().any(|(_, asks)| *asks == Asks::Feeds);
        let leads = model.iter().any(|step| step.edges.contains(&(up, Asks::Chains)));
        if dice.chance(35)
            && !is_fed
            && !leads
            && !model[number].always
            && model[number].feeds.is_none()
            && model[up].feeds.is_none()
        {
            model[number].rows = model[up].rows.clone();
            model[number].edges.retain(|(other, _)| *other != up);
            model[number].edges.push((up, Asks::Chains));
            model[number].delay = 0;
        }
    }
    // Some of those that neither feed nor are fed are run by no worker.
    let in_chains: Vec<usize> = model
        .iter()
        .enumerate()
        .flat_map(|(number, step)| {
            let up = step.edges.iter().find(|(_, asks)| *asks == Asks::Chains).map(|(up, _)| *up);
            up.into_iter().flat_map(move |up| [up, number])
        })
        .collect();
    for (_, step) in model.iter_mut().enumerate().filter(|(number, _)| !in_chains.contains(number)) {
        let is_fed = step.edges.iter().any(|(_, asks)| *asks == Asks::Feeds);
        if dice.chance(20) && !is_fed && step.feeds.is_none() {
            let (time, soon) =
                ([FOR_EVER, FOR_EVER, 400, 2_000, 30_000][dice.below(5)], [400, 2_000, 30_000][dice.below(3)]);
            let then = [Job::Failed, Job::Failed, Job::Skipped, Job::Succeeded][dice.below(4)];
            step.waits = Some(match dice.below(4) {
                0 => (Wait::Sleep, soon, Job::Succeeded),
                1 => (Wait::Until, now + soon, Job::Succeeded),
                _ => (Wait::Signal, time, then),
            });
            (step.rows, step.delay, step.policy) = (vec![Row::new()], 0, Policy::RunOn);
        } else if !is_fed && step.feeds.is_none() && step.rows.len() < 4 {
            step.children = dice.chance(15);
        }
    }
    model
}

/// What makes a workflow of these parts.
pub fn create(id: WorkflowId, parts: Vec<Part>) -> Create {
    Create {
        workflow: NewWorkflow {
            id,
            name: "Game".into(),
            arguments: "{}".into(),
            generation: 0,
            retention: Retention::for_ever(),
            key: None,
            occurrence: None,
            parent: None,
        },
        draft: None,
        parts,
        again: false,
    }
}

pub fn parts(dice: &mut Dice, steps: &[Step]) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let of = TYPES[dice.below(TYPES.len())];
        let spec = StepSpec {
            name: format!("step {number}"),
            feeds: step.feeds.map(|fed| fed as u32),
            eager: step.eager.then_some(100),
            tolerate: tolerate(step),
            policy: policy(step),
            children: step.children,
            max_in_flight: (step.limit != usize::MAX).then_some(step.limit as u32),
            max_recoveries: step.max_deaths as u8,
            delay: std::time::Duration::from_millis(step.delay as u64),
            priority: dice.below(2) as i32,
            chain: chain(steps, number),
            ..StepSpec::new(of, of)
        };
        parts.push(Part::Step { spec, upstreams: step.edges.len() as u32, always: step.always, awaits: awaits(step) });
    }
    for (number, step) in steps.iter().enumerate() {
        for (up, asks) in &step.edges {
            let kind = match asks {
                Asks::Success => EdgeKind::After,
                Asks::Settled => EdgeKind::AfterSettled,
                Asks::Failure => EdgeKind::AfterFailure,
                Asks::Always => EdgeKind::Always,
                Asks::Feeds => EdgeKind::Feeds,
                Asks::When => EdgeKind::When,
                Asks::Unless => EdgeKind::Unless,
                Asks::Grows => EdgeKind::Grows,
                Asks::Death => EdgeKind::OnDeath,
                Asks::Chains => EdgeKind::Chains,
            };
            parts.push(Part::Edge(Edge { up: *up as u32, down: number as u32, kind }));
        }
    }
    let has_its_own = |step: &Step| !step.edges.iter().any(|(_, asks)| *asks == Asks::Chains);
    for (number, step) in steps.iter().enumerate().filter(|(_, step)| has_its_own(step)) {
        for chunk in chunks(dice, step.rows.len()) {
            parts.push(Part::Jobs { step: number as u32, chunk });
        }
    }
    parts
}

pub fn tolerate(step: &Step) -> Tolerate {
    match (step.share, step.tolerates) {
        (0, 0) => Tolerate::None,
        (0, jobs) => Tolerate::Jobs(jobs as u64),
        (share, _) => Tolerate::Fraction(share as f64 / 100.0),
    }
}

pub fn policy(step: &Step) -> FailurePolicy {
    match step.policy {
        Policy::RunOn => FailurePolicy::RunOn,
        Policy::FailFast => FailurePolicy::FailFast,
        Policy::Pause => FailurePolicy::Pause,
    }
}

/// The steps before one in its chain, the first of them first.
fn chain(steps: &[Step], number: usize) -> Vec<Link> {
    let Some((up, _)) = steps[number].edges.iter().find(|(_, asks)| *asks == Asks::Chains) else { return Vec::new() };
    let mut chain = chain(steps, *up);
    chain.push(Link { step: *up as u32, job_type: "Row".into() });
    chain
}

fn awaits(step: &Step) -> Option<Box<Awaits>> {
    let (wait, time, then) = step.waits?;
    let then = match then {
        Job::Skipped => JobState::Skipped,
        Job::Succeeded => JobState::Succeeded,
        _ => JobState::Failed,
    };
    let until = match wait {
        Wait::Until => Some(WaitsUntil::At(time)),
        _ => (time < FOR_EVER).then_some(WaitsUntil::In(time)),
    };
    let signal = (wait == Wait::Signal).then(|| SIGNAL.into());
    let record = if then == JobState::Skipped { Vec::new() } else { b"over".to_vec() };
    Some(Box::new(Awaits { signal, until, then, record, error: "nobody came".into() }))
}

/// So many jobs in chunks of one to four.
pub fn chunks(dice: &mut Dice, jobs: usize) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut left = jobs;
    while left > 0 {
        let jobs = (1 + dice.below(4)).min(left);
        chunks.push(Chunk { jobs: jobs as u32, body: [&[0u8][..], "null\n".repeat(jobs).as_bytes()].concat() });
        left -= jobs;
    }
    chunks
}
