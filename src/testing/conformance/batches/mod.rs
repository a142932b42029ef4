//! Cases of batches: workflows to which jobs are added until nobody holds them open and all of them have settled.

pub mod add_jobs;
pub mod batch;
pub mod close_batch;
pub mod within;

use super::scene::*;
use crate::clock::Millis;
use crate::error::Result;
use crate::graph::{Edge, StepNumber, StepSpec};
use crate::id::WorkflowId;
use crate::state::{EdgeKind, JobState, StepState};
use crate::store::{
    AddJobs, Added, AddedJobs, BATCH_STEP, BATCH_STEP_NAME, CloseBatch, ClosedBatch, Create, DraftKey, DraftOf, Part,
};
use crate::waiting::WaitsFor;

/// The steps of the callbacks.
const SUCCESS: StepNumber = 1;
const COMPLETE: StepNumber = 2;
const DEATH: StepNumber = 3;
/// The step of the first type that jobs are added of.
const ROWS: StepNumber = 4;
/// So long a batch is held open that no case waits for its end.
const LONG: Millis = 3_600_000;

/// A batch that is held open.
#[derive(Clone, Copy)]
struct Open {
    id: WorkflowId,
    draft: DraftKey,
}

/// A batch with a callback of each kind, held open for so long.
async fn open_for(scene: &Scene, lease: Millis, declared: &[&str]) -> Open {
    open_with(scene, lease, declared, 0).await
}

/// The same with further callbacks behind the declared steps.
async fn open_with(scene: &Scene, lease: Millis, declared: &[&str], more: u32) -> Open {
    let (open, create) = creation(scene, lease, declared, more);
    scene.store.create(create).await.expect("a batch is made");
    open
}

/// What makes one.
fn creation(scene: &Scene, lease: Millis, declared: &[&str], more: u32) -> (Open, Create) {
    let (id, draft) = (scene.new_id(), DraftKey { session: scene.client(), number: scene.number() });
    let step = |name: &str, upstreams, always| Part::Step {
        spec: StepSpec { name: name.into(), ..StepSpec::new(ROW, QUEUE) },
        upstreams,
        always,
        awaits: None,
    };
    let awaits = WaitsFor::Batch.awaits(BATCH_STEP_NAME, b"");
    let spec = StepSpec { waits: Some(WaitsFor::Batch), ..StepSpec::new(BATCH_STEP_NAME, "-") };
    let declared_steps = declared.len() as u32;
    let mut parts = vec![
        Part::Step { spec, upstreams: 0, always: false, awaits: Some(Box::new(awaits)) },
        step("on_success", 1 + declared_steps, false),
        step("on_complete", 1 + declared_steps, true),
        step("on_death", 1, false),
    ];
    for name in declared {
        parts.push(Part::Step { spec: growing(name), upstreams: 1, always: false, awaits: None });
    }
    let edge = |up, down, kind| Part::Edge(Edge { up, down, kind });
    for up in std::iter::once(BATCH_STEP).chain(ROWS..ROWS + declared_steps) {
        parts.push(edge(up, SUCCESS, EdgeKind::After));
        parts.push(edge(up, COMPLETE, EdgeKind::Always));
        if up != BATCH_STEP {
            parts.push(edge(BATCH_STEP, up, EdgeKind::Grows));
        }
    }
    parts.push(edge(BATCH_STEP, DEATH, EdgeKind::OnDeath));
    for callback in ROWS + declared_steps..ROWS + declared_steps + more {
        parts.insert(callback as usize, step(&format!("on_success-{callback}"), 1, false));
        parts.push(edge(BATCH_STEP, callback, EdgeKind::After));
        parts.push(jobs_part(callback, 1));
    }
    parts.extend((BATCH_STEP..=DEATH).map(|step| jobs_part(step, 1)));
    parts.push(Part::Open { draft, lease });
    (Open { id, draft }, Create { workflow: new_workflow(id), draft: None, parts, again: false })
}

async fn open(scene: &Scene) -> Open {
    open_for(scene, LONG, &[]).await
}

/// The step of a type that is added.
fn growing(name: &str) -> StepSpec {
    StepSpec { name: name.into(), grows: true, ..StepSpec::new(ROW, QUEUE) }
}

impl Open {
    fn jobs(&self, scene: &Scene, name: &str, jobs: u32) -> AddJobs {
        AddJobs {
            session: scene.client(),
            command: scene.number(),
            workflow: self.id,
            step: growing(name),
            draft: None,
            chunk: Some(chunk(jobs, "some jobs")),
        }
    }

    async fn try_add(&self, scene: &Scene, name: &str, jobs: u32) -> Result<Added> {
        scene.store.add_jobs(self.jobs(scene, name, jobs)).await
    }

    async fn add(&self, scene: &Scene, name: &str, jobs: u32) -> Added {
        self.try_add(scene, name, jobs).await.expect("jobs are added")
    }

    /// Closes it, and does whatever that leaves to chores.
    async fn close(&self, scene: &Scene) -> ClosedBatch {
        let closed = scene.store.close_batch(self.closing()).await.expect("a batch is closed");
        scene.tick().await;
        closed
    }

    fn closing(&self) -> CloseBatch {
        CloseBatch { workflow: self.id, draft: self.draft }
    }

    /// Where the callbacks stand: on_success, on_complete, on_death.
    async fn callbacks(&self, scene: &Scene) -> [StepState; 3] {
        [
            scene.step_state(self.id, SUCCESS).await,
            scene.step_state(self.id, COMPLETE).await,
            scene.step_state(self.id, DEATH).await,
        ]
    }
}

const WAITING: [StepState; 3] = [StepState::Waiting; 3];
const RUNNING: [StepState; 3] = [StepState::Running, StepState::Running, StepState::Skipped];

/// What a job adds with its report.
fn added(by: usize, name: &str, jobs: u32) -> AddedJobs {
    AddedJobs { step: growing(name), chunk: chunk(jobs, "added from inside"), by: job(by) }
}

/// The states of the jobs of one of its steps.
async fn states(scene: &Scene, open: &Open, step: StepNumber) -> Vec<JobState> {
    scene.job_states(open.id, step).await
}
