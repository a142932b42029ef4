//! A workflow described step by step, and made.

use super::scene::*;
use crate::graph::{Edge, StepNumber, StepSpec};
use crate::id::WorkflowId;
use crate::retention::Retention;
use crate::slice::CHUNK_JOBS;
use crate::state::EdgeKind;
use crate::store::{Awaits, Create, Created, DraftOf, NewWorkflow, Part};

/// More parts than this go into a draft first, call by call.
const PARTS_A_CALL: usize = 60;

/// A step that is being described.
struct Described {
    spec: StepSpec,
    jobs: u32,
    always: bool,
    awaits: Option<Box<Awaits>>,
}

/// A workflow that is being described.
pub struct Plan<'s> {
    scene: &'s Scene,
    pub id: WorkflowId,
    name: &'static str,
    steps: Vec<Described>,
    edges: Vec<Edge>,
    retention: Retention,
}

impl<'s> Plan<'s> {
    pub fn new(scene: &'s Scene) -> Self {
        let id = scene.new_id();
        Self { scene, id, name: "Test", steps: Vec::new(), edges: Vec::new(), retention: Retention::for_ever() }
    }

    /// A type of its own.
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// It is kept so once it has finished; for ever unless this is said.
    pub fn retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// The next step: its name, and how many jobs it has.
    pub fn step(self, name: &str, jobs: u32) -> Self {
        self.step_with(name, jobs, |_| ())
    }

    /// The next step, with options.
    pub fn step_with(mut self, name: &str, jobs: u32, options: impl FnOnce(&mut StepSpec)) -> Self {
        let mut spec = StepSpec { name: name.into(), ..StepSpec::new(ROW, QUEUE) };
        options(&mut spec);
        self.steps.push(Described { spec, jobs, always: false, awaits: None });
        self
    }

    /// The next step, which no worker runs.
    pub fn wait(self, name: &str, awaits: Awaits) -> Self {
        let mut plan = self.step(name, 1);
        plan.steps.last_mut().expect("the step that was added").awaits = Some(Box::new(awaits));
        plan
    }

    /// The last step runs also when the workflow is cancelled.
    pub fn always(mut self) -> Self {
        self.steps.last_mut().expect("a step before `always`").always = true;
        self
    }

    pub fn edge(mut self, up: StepNumber, down: StepNumber, kind: EdgeKind) -> Self {
        self.edges.push(Edge { up, down, kind });
        self
    }

    /// Everything in the order in which a store wants it.
    pub fn parts(&self) -> Vec<Part> {
        let mut upstreams = vec![0; self.steps.len()];
        for edge in &self.edges {
            upstreams[edge.down as usize] += 1;
        }
        let steps = self.steps.iter().zip(upstreams).map(|(step, upstreams)| Part::Step {
            spec: step.spec.clone(),
            upstreams,
            always: step.always,
            awaits: step.awaits.clone(),
        });
        let mut parts: Vec<Part> = steps.collect();
        parts.extend(self.edges.iter().copied().map(Part::Edge));
        for (step, Described { spec, jobs, .. }) in self.steps.iter().enumerate() {
            parts.extend((0..*jobs).step_by(CHUNK_JOBS).map(|first| Part::Jobs {
                step: step as StepNumber,
                chunk: chunk((jobs - first).min(CHUNK_JOBS as u32), &format!("{} from {first}", spec.name)),
            }));
        }
        parts
    }

    /// The call that makes it, if it is small enough for one.
    pub fn call(&self) -> Create {
        Create { workflow: self.new_workflow(), draft: None, parts: self.parts(), again: false }
    }

    fn new_workflow(&self) -> NewWorkflow {
        NewWorkflow { name: self.name.into(), retention: self.retention, ..new_workflow(self.id) }
    }

    /// Makes it, and does whatever that leaves to chores.
    pub async fn create(self) -> WorkflowId {
        let created = self.begin().await;
        if created.more {
            self.scene.tick().await;
        }
        self.id
    }

    /// Makes it.
    pub async fn begin(&self) -> Created {
        let mut parts = self.parts();
        let mut draft = None;
        if parts.len() > PARTS_A_CALL {
            let rest = parts.split_off(parts.len() - PARTS_A_CALL);
            let mut append = self.scene.draft(DraftOf::Workflow(Box::new(self.new_workflow())), Vec::new());
            draft = Some(append.draft);
            for piece in std::mem::replace(&mut parts, rest).chunks(PARTS_A_CALL) {
                append.parts = piece.to_vec();
                self.scene.append(&append).await;
                append.number += 1;
            }
        }
        let create = Create { workflow: self.new_workflow(), draft, parts, again: false };
        self.scene.store.create(create).await.expect("a workflow is made")
    }
}
