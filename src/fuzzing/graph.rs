//! Building a graph: by hand, and by a `Flow` as a user's `configure` does.

use std::collections::HashSet;
use std::time::Duration;

use serde::de::IgnoredAny;

use super::bytes::Bytes;
use super::check_error;
use crate::emitter::Emitter;
use crate::graph::{Edge, Graph, StepNumber, StepSpec, check_name};
use crate::job::{Context, Job, JobError, JobResult, Source};
use crate::outputs::Outputs;
use crate::retry::Retry;
use crate::state::{EdgeKind, FailurePolicy, Tolerate};
use crate::waiting::Signal;
use crate::workflow::{Flow, Plan, Step};

/// A job that may read the outputs of another step.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Row {
    pub text: String,
    pub reads: Option<Outputs<u64>>,
}

impl Job for Row {
    const NAME: &str = "Row";
    type Output = u64;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<u64> {
        Ok(0)
    }
}

/// What a signal carries.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Answer(pub String);

impl Signal for Answer {
    const NAME: &str = "Answer";
}

/// A source of rows.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Rows;

impl Source for Rows {
    const NAME: &str = "Rows";
    type Emits = Row;
    type State = ();
    async fn produce(self, _: &Context, _: &mut Emitter<Row>) -> JobResult<()> {
        Ok(())
    }
}

/// Arbitrary steps and edges: an error, or a graph that is sound; and an error only if it is not.
pub fn graph(data: &[u8]) {
    let mut bytes = Bytes(data);
    if bytes.flag() { by_hand(&mut bytes) } else { by_flow(&mut bytes) }
}

fn by_hand(bytes: &mut Bytes<'_>) {
    let count = bytes.below(12);
    let steps = (0..count).map(|_| StepSpec {
        name: name(bytes),
        feeds: (bytes.below(8) == 0).then(|| bytes.below(14) as StepNumber),
        tolerate: tolerate(bytes),
        max_in_flight: bytes.flag().then(|| bytes.below(3) as u32),
        max_recoveries: bytes.byte(),
        policy: FailurePolicy::ALL[bytes.below(3)],
        ..StepSpec::new(name(bytes), name(bytes))
    });
    let steps = steps.collect();
    let mut graph = Graph { steps, edges: Vec::new() };
    while !bytes.is_empty() {
        let (up, down) = (bytes.below(13) as StepNumber, bytes.below(13) as StepNumber);
        graph.edges.push(Edge { up, down, kind: EdgeKind::ALL[bytes.below(EdgeKind::ALL.len())] });
    }
    match (graph.check(), unsound(&graph)) {
        (Ok(()), None) => {}
        (Err(error), Some(_)) => check_error(&error),
        (Ok(()), Some(problem)) => panic!("{problem}, but the graph passes: {graph:?}"),
        (Err(error), None) => panic!("a sound graph is refused, {error}: {graph:?}"),
    }
}

fn by_flow(bytes: &mut Bytes<'_>) {
    let flow = Flow::new();
    let mut steps: Vec<Step<'_, Row>> = Vec::new();
    while !bytes.is_empty() && steps.len() < 40 {
        add_step(bytes, &flow, &mut steps);
    }
    match flow.finish() {
        Ok(plan) => check_plan(plan),
        Err(error) => check_error(&error),
    }
}

fn add_step<'f>(bytes: &mut Bytes<'_>, flow: &'f Flow, steps: &mut Vec<Step<'f, Row>>) {
    let choice = bytes.byte();
    let reads = (choice & 0x10 != 0 && !steps.is_empty()).then(|| steps[bytes.below(steps.len())].outputs());
    let row = |text: String| Row { text, reads };
    if choice & 0x20 != 0 {
        return add_wait(bytes, flow, steps);
    }
    let mut step = match choice & 0b11 {
        0 => flow.run(row(bytes.text())),
        1 => flow.expand(Rows),
        2 => {
            let rows: Vec<Row> = (0..bytes.below(6)).map(|_| row(bytes.text())).collect();
            flow.run_each(rows)
        }
        _ => {
            let rows = [Ok(row(bytes.text())), Ok(Row { text: String::new(), reads: None }), Err(JobError::new("no"))];
            let count = bytes.below(4);
            flow.try_run_each(rows.into_iter().take(count))
        }
    };
    for _ in 0..choice >> 5 {
        let other = steps.get(bytes.below(steps.len() + 1)).copied().unwrap_or(step);
        step = match bytes.below(16) {
            0 => step.after(other),
            1 => step.after_settled(&[other, step][..bytes.below(3)]),
            2 => step.after_failure((other, [other])),
            3 => step.always(other),
            4 => step.before(Some(other)),
            5 | 6 => step.named(name(bytes)),
            7 => step.queue(name(bytes)),
            8 => step.tolerate(tolerate(bytes)),
            9 => step.max_in_flight(u32::from(bytes.byte())),
            10 => step.delay(Duration::from_nanos(bytes.number())).timeout(Duration::from_secs(bytes.number())),
            11 => step.max_recoveries(bytes.byte()),
            12 => step.retry(Retry::every(Duration::from_secs(bytes.number()))),
            14 => step.fail_fast(),
            15 => step.or_pause(),
            _ => step.source(|source| source.named(name(bytes)).priority(bytes.number() as i32)),
        };
    }
    steps.push(step);
}

/// A step that no worker runs; whatever is asked of it is refused or can be stored.
fn add_wait<'f>(bytes: &mut Bytes<'_>, flow: &'f Flow, steps: &[Step<'f, Row>]) {
    let upstream = steps.get(bytes.below(steps.len() + 1)).copied();
    match bytes.below(3) {
        0 => drop(flow.sleep(Duration::from_millis(bytes.number())).after(upstream)),
        1 => drop(flow.until(bytes.number() as i64).before(upstream)),
        _ => {
            let mut wait = flow.wait_for::<Answer>(name(bytes)).after_settled(upstream);
            for _ in 0..bytes.below(4) {
                wait = match bytes.below(4) {
                    0 => wait.timeout(Duration::from_millis(bytes.number())),
                    1 => wait.or_skip(),
                    2 => wait.or(Answer(bytes.text())),
                    _ => wait.or_fail(),
                };
            }
        }
    }
}

/// A plan that has been accepted can be created: its graph is sound, its jobs are lines of JSON.
pub fn check_plan(plan: Plan) {
    assert_eq!(unsound(&plan.graph), None, "{:?}", plan.graph);
    let steps = plan.graph.steps.len();
    assert_eq!((plan.always.len(), plan.jobs.len(), plan.awaits.len()), (steps, steps, steps));
    let step = serde_json::to_string(&plan.graph).unwrap();
    assert_eq!(serde_json::from_str::<Graph>(&step).unwrap(), plan.graph);
    for jobs in plan.jobs {
        for job in jobs.take(10) {
            match job {
                Ok(json) => assert!(!json.contains(&b'\n') && serde_json::from_slice::<IgnoredAny>(&json).is_ok()),
                Err(error) => check_error(&error),
            }
        }
    }
}

fn name(bytes: &mut Bytes<'_>) -> String {
    match bytes.byte() {
        0 => "Row-2".to_owned(),
        1 => bytes.text(),
        2 => "x".repeat(usize::from(bytes.byte()) + 10),
        n => format!("s{}", n % 16),
    }
}

fn tolerate(bytes: &mut Bytes<'_>) -> Tolerate {
    match bytes.below(4) {
        0 => Tolerate::Jobs(bytes.number()),
        1 => Tolerate::Fraction(f64::from_bits(bytes.number())),
        _ => Tolerate::None,
    }
}

/// What is wrong with a graph, found in the plainest way.
fn unsound(graph: &Graph) -> Option<&'static str> {
    let count = graph.steps.len();
    let ends = graph.edges.iter().flat_map(|edge| [edge.up, edge.down]);
    if ends.chain(graph.steps.iter().filter_map(|step| step.feeds)).any(|end| end as usize >= count) {
        return Some("an end is no step");
    }
    let names: HashSet<&str> = graph.steps.iter().map(|step| step.name.as_str()).collect();
    if names.len() < count {
        return Some("a name is taken twice");
    }
    for step in &graph.steps {
        if [&step.name, &step.queue, &step.job_type].iter().any(|name| check_name("a", name).is_err()) {
            return Some("a name cannot be");
        }
        if matches!(step.tolerate, Tolerate::Fraction(share) if !(0.0..=1.0).contains(&share))
            || step.max_in_flight == Some(0)
            || step.max_recoveries == 0
            || step.policy != FailurePolicy::RunOn && matches!(step.tolerate, Tolerate::Fraction(share) if share >= 1.0)
        {
            return Some("an option cannot be");
        }
    }
    // None of these steps says that it goes on from another.
    if graph.edges.iter().any(|edge| edge.kind == EdgeKind::Chains) {
        return Some("an edge chains a step that is not chained");
    }
    // In an order of the steps each rank is above all before it; ranks that go on growing are those of a cycle.
    let mut ranks = vec![0; count];
    for _ in 0..=count {
        let before = ranks.clone();
        for edge in &graph.edges {
            ranks[edge.down as usize] = ranks[edge.down as usize].max(ranks[edge.up as usize] + 1);
        }
        if ranks == before {
            return None;
        }
    }
    Some("there is a cycle")
}
