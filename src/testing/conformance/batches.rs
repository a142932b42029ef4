//! Cases of batches: workflows to which jobs are added until nobody holds them open and all of them have settled.

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
    let create = Create { workflow: new_workflow(id), draft: None, parts, again: false };
    scene.store.create(create).await.expect("a batch is made");
    Open { id, draft }
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

pub mod add_jobs {
    use super::*;
    use crate::error::ErrorKind;
    use crate::state::WorkflowState;

    pub async fn fresh_makes_a_step_of_its_type_which_runs(scene: &Scene) {
        let night = open(scene).await;
        assert_eq!(night.add(scene, "rows", 3).await, Added { step: ROWS, first: 0, jobs: 3, ..Added::default() });
        assert_eq!(night.add(scene, "rows", 2).await, Added { step: ROWS, first: 3, jobs: 2, ..Added::default() });
        let worker = scene.worker().await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3, 4]);
        assert_eq!((scene.jobs(night.id).await.total, scene.row(night.id).await.steps), (4 + 5, 5));
    }

    pub async fn fresh_of_a_draft_adds_all_of_it(scene: &Scene) {
        let night = open(scene).await;
        let of = DraftOf::Added { workflow: night.id, step: Box::new(growing("rows")) };
        let mut append = scene.draft(of, vec![jobs_part(0, 1000), jobs_part(0, 24)]);
        scene.append(&append).await;
        append.number = 1;
        scene.append(&append).await;
        let worker = scene.worker().await;
        assert!(worker.drain().await.is_empty(), "before it is added nobody sees it");
        let add = AddJobs { draft: Some(append.draft), ..night.jobs(scene, "rows", 7) };
        let told = scene.store.add_jobs(add).await.unwrap();
        assert_eq!((told.first, told.jobs), (0, 2 * 1024 + 7));
        assert_eq!(count_jobs(&worker.drain().await), 2 * 1024 + 7);
    }

    pub async fn repeated_command_adds_once(scene: &Scene) {
        let night = open(scene).await;
        let add = night.jobs(scene, "rows", 3);
        let first = scene.store.add_jobs(add.clone()).await.unwrap();
        assert_eq!(scene.store.add_jobs(add).await.unwrap(), Added { woken: Default::default(), ..first });
        assert_eq!(count_jobs(&scene.worker().await.drain().await), 3);
    }

    pub async fn answer_lost_adds_once(scene: &Scene) {
        let night = open(scene).await;
        let add = night.jobs(scene, "rows", 3);
        lose(scene.store.add_jobs(add.clone()));
        assert_eq!(scene.store.add_jobs(add).await.unwrap().jobs, 3);
        assert_eq!(count_jobs(&scene.worker().await.drain().await), 3);
    }

    pub async fn lease_taken_back_of_its_draft_adds_nothing(scene: &Scene) {
        let night = open(scene).await;
        let of = DraftOf::Added { workflow: night.id, step: Box::new(growing("rows")) };
        let append = scene.draft(of, vec![jobs_part(0, 10)]);
        scene.append(&append).await;
        scene.leases_end().await;
        let add = AddJobs { draft: Some(append.draft), chunk: None, ..night.jobs(scene, "rows", 1) };
        assert_eq!(refusal(scene.store.add_jobs(add).await), ErrorKind::Refused);
        assert!(scene.worker().await.drain().await.is_empty());
        assert_eq!(scene.row(night.id).await.steps, 4);
    }

    pub async fn paused_is_taken_and_waits_for_the_resume(scene: &Scene) {
        let night = open(scene).await;
        scene.pause(night.id).await;
        night.add(scene, "rows", 2).await;
        let worker = scene.worker().await;
        assert!(worker.drain().await.is_empty());
        scene.resume(night.id).await;
        assert_eq!(count_jobs(&worker.drain().await), 2);
    }

    pub async fn cancelling_is_refused_as_settled(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 2).await;
        scene.cancel(night.id, 60_000).await;
        assert_eq!(refusal(night.try_add(scene, "rows", 1).await), ErrorKind::BatchSettled);
        scene.tick().await;
        assert_eq!(refusal(night.try_add(scene, "rows", 1).await), ErrorKind::BatchSettled);
        assert_eq!(states(scene, &night, ROWS).await, [JobState::Cancelled; 2]);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let night = open(scene).await;
        night.close(scene).await;
        scene.worker().await.run().await;
        scene.delete(night.id).await;
        assert_eq!(refusal(night.try_add(scene, "rows", 1).await), ErrorKind::NotFound);
    }

    pub async fn after_it_has_settled_is_refused(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 1).await;
        night.close(scene).await;
        night.add(scene, "rows", 1).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.succeed(&slice).await;
        }
        assert_eq!(night.callbacks(scene).await, RUNNING);
        assert_eq!(refusal(night.try_add(scene, "rows", 1).await), ErrorKind::BatchSettled);
        worker.run().await;
        assert_eq!(scene.state(night.id).await, WorkflowState::Succeeded);
        assert_eq!(refusal(night.try_add(scene, "other", 1).await), ErrorKind::BatchSettled);
        let of = DraftOf::Added { workflow: night.id, step: Box::new(growing("rows")) };
        let late = scene.draft(of, vec![jobs_part(0, 10)]);
        assert_eq!(refusal(scene.store.append(late).await), ErrorKind::BatchSettled);
        assert_eq!(scene.jobs(night.id).await.succeeded, 1 + 2 + 2);
    }

    pub async fn to_another_workflow_is_refused(scene: &Scene) {
        let id = scene.lone(1).await;
        let no_batch = Open { id, draft: DraftKey { session: scene.client(), number: scene.number() } };
        assert_eq!(refusal(no_batch.try_add(scene, "rows", 1).await), ErrorKind::Usage);
        assert_eq!(scene.row(id).await.batch, None);
    }

    pub async fn of_a_type_named_like_a_callback_gets_a_step_of_another_name(scene: &Scene) {
        let night = open(scene).await;
        assert_eq!(night.add(scene, "on_success", 1).await.step, ROWS);
        assert_eq!(night.add(scene, BATCH_STEP_NAME, 1).await.step, ROWS + 1);
        assert_eq!(night.add(scene, "on_success", 1).await.step, ROWS);
        assert_eq!(scene.step(night.id, ROWS).await.spec.name, "on_success-2");
        night.close(scene).await;
        scene.worker().await.run().await;
        assert_eq!(scene.jobs(night.id).await.succeeded, 3 + 3);
    }

    pub async fn of_several_types_makes_a_step_of_each(scene: &Scene) {
        let night = open(scene).await;
        for n in 0..40 {
            assert_eq!(night.add(scene, &format!("type {n}"), 1).await.step, ROWS + n);
        }
        night.close(scene).await;
        scene.worker().await.run().await;
        assert_eq!((scene.state(night.id).await, scene.jobs(night.id).await.succeeded), (WorkflowState::Succeeded, 43));
    }
}

pub mod close_batch {
    use super::*;
    use crate::error::ErrorKind;
    use crate::state::{BatchState, WorkflowState};

    pub async fn fresh_of_an_empty_one_runs_its_callbacks(scene: &Scene) {
        let night = open(scene).await;
        assert_eq!(scene.row(night.id).await.batch, Some(BatchState::Open));
        assert!(!night.close(scene).await.abandoned);
        assert_eq!(scene.row(night.id).await.batch, Some(BatchState::Closed));
        assert_eq!(night.callbacks(scene).await, RUNNING);
        scene.worker().await.run().await;
        assert_eq!(scene.state(night.id).await, WorkflowState::Succeeded);
        assert_eq!(states(scene, &night, BATCH_STEP).await, [JobState::Succeeded]);
    }

    pub async fn fresh_settles_once_all_jobs_of_all_types_have(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 2).await;
        night.add(scene, "others", 1).await;
        night.close(scene).await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        for slice in &slices {
            assert_eq!(night.callbacks(scene).await, WAITING);
            worker.succeed(slice).await;
        }
        assert_eq!((count_jobs(&slices), night.callbacks(scene).await), (3, RUNNING));
        assert_eq!(scene.step_state(night.id, ROWS).await, StepState::Succeeded);
    }

    pub async fn repeated_changes_nothing(scene: &Scene) {
        let night = open(scene).await;
        night.close(scene).await;
        night.close(scene).await;
        scene.worker().await.run().await;
        assert!(!night.close(scene).await.abandoned);
        assert_eq!(scene.jobs(night.id).await.succeeded, 3);
    }

    pub async fn answer_lost_closes_once(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 1).await;
        lose(scene.store.close_batch(night.closing()));
        assert!(!night.close(scene).await.abandoned);
        scene.worker().await.run().await;
        assert_eq!((scene.state(night.id).await, scene.jobs(night.id).await.succeeded), (WorkflowState::Succeeded, 4));
    }

    pub async fn lease_taken_back_of_a_job_lets_it_wait(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 2).await;
        night.close(scene).await;
        let dead = scene.worker().await;
        let lost = dead.take(2).await;
        scene.leases_end().await;
        assert_eq!(dead.succeed(&lost).await.refused, [lost.lease]);
        assert_eq!(night.callbacks(scene).await, WAITING);
        scene.worker().await.run().await;
        assert_eq!(scene.state(night.id).await, WorkflowState::Succeeded);
    }

    pub async fn paused_settles_and_its_callbacks_wait_for_the_resume(scene: &Scene) {
        let night = open(scene).await;
        scene.pause(night.id).await;
        night.close(scene).await;
        let worker = scene.worker().await;
        assert_eq!((night.callbacks(scene).await, worker.drain().await.len()), (RUNNING, 0));
        scene.resume(night.id).await;
        worker.run().await;
        assert_eq!(scene.state(night.id).await, WorkflowState::Succeeded);
    }

    pub async fn cancelling_changes_nothing(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 2).await;
        scene.cancel(night.id, 0).await;
        assert!(!night.close(scene).await.abandoned);
        assert_eq!(
            night.callbacks(scene).await,
            [StepState::Cancelled, StepState::Running, StepState::Cancelled],
            "what always runs does"
        );
        scene.worker().await.run().await;
        night.close(scene).await;
        assert_eq!(scene.state(night.id).await, WorkflowState::Cancelled);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let night = open(scene).await;
        night.close(scene).await;
        scene.worker().await.run().await;
        scene.delete(night.id).await;
        assert_eq!(refusal(scene.store.close_batch(night.closing()).await), ErrorKind::NotFound);
    }

    pub async fn by_another_client_is_refused(scene: &Scene) {
        let (night, day) = (open(scene).await, open(scene).await);
        let closing = CloseBatch { draft: day.draft, ..night.closing() };
        assert_eq!(refusal(scene.store.close_batch(closing).await), ErrorKind::Refused);
        let closing = CloseBatch { workflow: scene.lone(1).await, ..night.closing() };
        assert_eq!(refusal(scene.store.close_batch(closing).await), ErrorKind::Usage);
        assert_eq!((night.callbacks(scene).await, day.callbacks(scene).await), (WAITING, WAITING));
    }

    pub async fn of_an_abandoned_one_says_so(scene: &Scene) {
        let night = open_for(scene, LEASE, &[]).await;
        scene.leases_end().await;
        assert!(night.close(scene).await.abandoned);
        assert_eq!(scene.row(night.id).await.batch, Some(BatchState::Abandoned));
    }
}

pub mod batch {
    use super::*;
    use crate::error::ErrorKind;
    use crate::state::{BatchState, WorkflowState};
    use crate::store::{
        Append, ByHand, LeaseReport, MAX_CALLBACKS, MAX_REPORTED_DRAFTS, MAX_REPORTED_LEASES, RetryFailed, error_number,
    };

    pub async fn settles_not_while_it_is_held_open(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 2).await;
        let worker = scene.worker().await;
        worker.run().await;
        assert_eq!(
            (scene.step_state(night.id, ROWS).await, night.callbacks(scene).await),
            (StepState::Running, WAITING)
        );
        scene.check().await;
        night.add(scene, "rows", 1).await;
        worker.run().await;
        night.close(scene).await;
        assert_eq!(night.callbacks(scene).await, RUNNING);
    }

    pub async fn is_held_open_by_renewal(scene: &Scene) {
        let night = open_for(scene, LEASE, &[]).await;
        let of = DraftOf::Open { workflow: night.id };
        let renewal = Append { draft: night.draft, of, number: 0, parts: Vec::new(), lease: LEASE };
        for _ in 0..5 {
            scene.wait(LEASE / 2).await;
            scene.append(&renewal).await;
        }
        assert_eq!(scene.row(night.id).await.batch, Some(BatchState::Open));
        scene.leases_end().await;
        assert_eq!(refusal(scene.store.append(renewal).await), ErrorKind::Refused);
        assert_eq!(scene.row(night.id).await.batch, Some(BatchState::Abandoned));
    }

    pub async fn abandoned_runs_to_its_end_and_only_completes(scene: &Scene) {
        let night = open_for(scene, LEASE, &[]).await;
        night.add(scene, "rows", 2).await;
        scene.leases_end().await;
        assert_eq!(night.callbacks(scene).await, WAITING);
        scene.worker().await.run().await;
        let waits = [StepState::Waiting, StepState::Succeeded, StepState::Skipped];
        assert_eq!((night.callbacks(scene).await, scene.state(night.id).await), (waits, WorkflowState::Failed));
        assert_eq!(states(scene, &night, ROWS).await, [JobState::Succeeded; 2]);
        assert!(scene.errors(night.id, BATCH_STEP).await[0].0.starts_with("abandoned"));
        assert_eq!(scene.records(night.id, BATCH_STEP).await.len(), 1);
        assert_eq!(refusal(night.try_add(scene, "rows", 1).await), ErrorKind::BatchSettled);
    }

    pub async fn abandoned_and_discarded_counts_as_closed(scene: &Scene) {
        let night = open_for(scene, LEASE, &[]).await;
        scene.leases_end().await;
        let worker = scene.worker().await;
        worker.run().await;
        let discard = RetryFailed { step: Some(BATCH_STEP), discard: true, ..scene.retry_of(night.id) };
        assert_eq!(scene.store.retry(discard).await.unwrap().jobs, 1);
        worker.run().await;
        let done = [StepState::Succeeded, StepState::Succeeded, StepState::Skipped];
        assert_eq!((night.callbacks(scene).await, scene.state(night.id).await), (done, WorkflowState::Succeeded));
        assert_eq!(scene.jobs(night.id).await.succeeded, 2);
    }

    pub async fn abandoned_is_left_alone_by_a_retry(scene: &Scene) {
        let night = open_for(scene, LEASE, &[]).await;
        night.add(scene, "rows", 2).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.fail(&slice, "broken").await;
        scene.leases_end().await;
        worker.run().await;
        assert_eq!(scene.retry(night.id).await.jobs, 1);
        worker.run().await;
        assert_eq!(states(scene, &night, ROWS).await, [JobState::Succeeded; 2]);
        let waits = [StepState::Waiting, StepState::Succeeded, StepState::Succeeded];
        assert_eq!((night.callbacks(scene).await, scene.state(night.id).await), (waits, WorkflowState::Failed));
        assert_eq!(scene.retry(night.id).await.jobs, 0);
        let retry = RetryFailed { step: Some(BATCH_STEP), ..scene.retry_of(night.id) };
        assert_eq!(scene.store.retry(retry).await.unwrap().jobs, 0);
    }

    pub async fn given_up_is_abandoned_at_once(scene: &Scene) {
        let night = open(scene).await;
        scene.store.abandon(night.id, night.draft).await.unwrap();
        assert_eq!(scene.row(night.id).await.batch, Some(BatchState::Abandoned));
        scene.worker().await.run().await;
        assert_eq!(scene.state(night.id).await, WorkflowState::Failed);
    }

    pub async fn a_job_adds_to_it_with_its_report(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 2).await;
        night.close(scene).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let with = vec![added(0, "rows", 3), added(0, "others", 1)];
        worker.report(LeaseReport { succeeded: job(0), added: with, ..worker.part(&slice) }).await;
        assert_eq!((scene.jobs(night.id).await.total, scene.row(night.id).await.steps), (4 + 2 + 4, 6));
        worker.report(LeaseReport { succeeded: job(1), ..worker.part(&slice) }).await;
        assert_eq!(night.callbacks(scene).await, WAITING);
        worker.run().await;
        assert_eq!((scene.state(night.id).await, scene.jobs(night.id).await.succeeded), (WorkflowState::Succeeded, 9));
    }

    pub async fn a_report_that_is_repeated_adds_once(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 2).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let part = LeaseReport { succeeded: job(0), added: vec![added(0, "rows", 3)], ..worker.part(&slice) };
        lose(worker.try_report(vec![part.clone()]));
        worker.report(part.clone()).await;
        worker.report(part).await;
        assert_eq!(scene.jobs(night.id).await.total, 4 + 2 + 3);
    }

    pub async fn a_report_that_is_refused_adds_nothing(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 2).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.leases_end().await;
        let late = LeaseReport { added: vec![added(0, "rows", 3)], ..worker.success(&slice) };
        assert_eq!(worker.report(late).await.refused, [slice.lease]);
        let id = scene.lone(1).await;
        assert_eq!(scene.jobs(night.id).await.total, 4 + 2);
        let other = scene.worker().await;
        let of_none = other.drain().await.into_iter().find(|slice| slice.workflow == id).expect("its job is ready");
        let part = LeaseReport { added: vec![added(0, "rows", 3)], ..other.success(&of_none) };
        assert_eq!(refusal(other.try_report(vec![part]).await), ErrorKind::Usage);
        assert_eq!(scene.jobs(id).await.succeeded, 0);
    }

    /// A job writes `jobs` jobs into a draft.
    async fn drafted(worker: &Worker<'_>, night: &Open, jobs: u32) -> u64 {
        let draft = DraftKey { session: worker.session.id, number: worker.scene().number() };
        let of = DraftOf::Added { workflow: night.id, step: Box::new(growing("rows")) };
        let append = Append {
            draft,
            of,
            number: 0,
            parts: Vec::from_iter((jobs > 0).then(|| jobs_part(0, jobs))),
            lease: LEASE,
        };
        worker.scene().append(&append).await;
        draft.number
    }

    pub async fn a_job_adds_a_draft_of_any_length(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "first", 1).await;
        night.close(scene).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let adopted = vec![(0, drafted(&worker, &night, 1000).await), (0, drafted(&worker, &night, 0).await)];
        worker.report(LeaseReport { adopted, ..worker.success(&slice) }).await;
        assert_eq!(night.callbacks(scene).await, WAITING);
        worker.run().await;
        assert_eq!(
            (scene.state(night.id).await, scene.jobs(night.id).await.succeeded),
            (WorkflowState::Succeeded, 1 + 1 + 1000 + 2)
        );
    }

    pub async fn a_failed_job_adds_nothing(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "first", 1).await;
        night.close(scene).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let dropped = vec![drafted(&worker, &night, 10).await];
        worker.report(LeaseReport { dropped, ..worker.failure(&slice, "broken") }).await;
        scene.tick().await;
        assert_eq!((scene.jobs(night.id).await.total, scene.row(night.id).await.steps), (5, 5));
        let waits = [StepState::Waiting, StepState::Running, StepState::Running];
        assert_eq!(night.callbacks(scene).await, waits);
    }

    pub async fn a_job_that_ends_after_a_cancel_adds_nothing(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "first", 1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let adopted = vec![(0, drafted(&worker, &night, 10).await)];
        scene.cancel(night.id, 60_000).await;
        let part = LeaseReport { adopted, added: vec![added(0, "rows", 3)], ..worker.success(&slice) };
        worker.report(part).await;
        worker.run().await;
        assert_eq!((scene.state(night.id).await, scene.jobs(night.id).await.total), (WorkflowState::Cancelled, 5));
    }

    pub async fn the_last_job_adds_before_it_settles(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 1).await;
        night.close(scene).await;
        let worker = scene.worker().await;
        for left in (0..20).rev() {
            assert_eq!(night.callbacks(scene).await, WAITING);
            let slice = worker.take(1).await;
            let more = if left > 0 { vec![added(0, &format!("type {}", left % 3), 1)] } else { Vec::new() };
            worker.report(LeaseReport { added: more, ..worker.success(&slice) }).await;
        }
        assert_eq!(night.callbacks(scene).await, RUNNING);
        worker.run().await;
        assert_eq!((scene.state(night.id).await, scene.jobs(night.id).await.succeeded), (WorkflowState::Succeeded, 23));
    }

    pub async fn the_first_death_runs_its_callback_once(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 6).await;
        let worker = scene.worker().await;
        let slice = worker.take(3).await;
        worker.report(LeaseReport { retries: vec![(10, job(2))], ..worker.part(&slice) }).await;
        assert_eq!(night.callbacks(scene).await, WAITING);
        let death = |at| vec![(error_number("broken"), "broken".to_owned(), job(at))];
        worker.report(LeaseReport { failed: job(0), errors: death(0), ..worker.part(&slice) }).await;
        assert_eq!(scene.step_state(night.id, DEATH).await, StepState::Running);
        worker.run().await;
        worker.report(LeaseReport { failed: job(1), errors: death(1), ..worker.part(&slice) }).await;
        assert_eq!(scene.step_state(night.id, DEATH).await, StepState::Succeeded);
        assert!(worker.drain().await.is_empty(), "the second death hands out nothing");
        night.close(scene).await;
        scene.wait(100).await;
        worker.run().await;
        assert_eq!(scene.jobs(night.id).await.succeeded, 4 + 3, "four rows, the batch, on_complete, on_death");
    }

    pub async fn without_a_death_its_callback_is_skipped(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 1).await;
        night.close(scene).await;
        scene.worker().await.run().await;
        assert_eq!(states(scene, &night, DEATH).await, [JobState::Skipped]);
        assert_eq!(scene.state(night.id).await, WorkflowState::Succeeded);
    }

    pub async fn a_failure_keeps_its_success_waiting_until_the_retry(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 2).await;
        night.close(scene).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.fail(&slice, "broken").await;
        worker.run().await;
        let waits = [StepState::Waiting, StepState::Succeeded, StepState::Succeeded];
        assert_eq!((night.callbacks(scene).await, scene.state(night.id).await), (waits, WorkflowState::Failed));
        assert_eq!(scene.retry(night.id).await.jobs, 1);
        worker.run().await;
        let done = [StepState::Succeeded; 3];
        assert_eq!((night.callbacks(scene).await, scene.state(night.id).await), (done, WorkflowState::Succeeded));
        assert_eq!(scene.jobs(night.id).await.succeeded, 1 + 2 + 3, "no callback ran twice");
    }

    pub async fn a_repaired_job_adds_and_its_success_waits_for_that(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 1).await;
        night.add(scene, "others", 1).await;
        night.close(scene).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.fail(&slice, "broken").await;
        worker.run().await;
        assert_eq!(scene.state(night.id).await, WorkflowState::Failed);
        scene.retry(night.id).await;
        let slice = worker.take(1).await;
        // What had settled is taken back to running, what is new comes with its edges.
        let with = vec![added(0, "others", 2), added(0, "news", 1)];
        worker.report(LeaseReport { added: with, ..worker.success(&slice) }).await;
        scene.check().await;
        assert_eq!(scene.step_state(night.id, SUCCESS).await, StepState::Waiting);
        assert_eq!(refusal(night.try_add(scene, "rows", 1).await), ErrorKind::BatchSettled);
        worker.run().await;
        assert_eq!((scene.state(night.id).await, scene.jobs(night.id).await.succeeded), (WorkflowState::Succeeded, 9));
    }

    pub async fn its_steps_are_not_run_again_skipped_or_given_outputs(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 1).await;
        night.close(scene).await;
        scene.worker().await.run().await;
        for step in [BATCH_STEP, COMPLETE, ROWS] {
            let again = scene.store.run_again(scene.run_again_of(night.id, step, false)).await;
            assert_eq!(refusal(again), ErrorKind::Refused);
            let skipped = scene.store.decide_by_hand(scene.by_hand_of(night.id, step, ByHand::SkipAll)).await;
            assert_eq!(refusal(skipped), ErrorKind::Refused);
        }
        assert_eq!(scene.state(night.id).await, WorkflowState::Succeeded);
    }

    pub async fn cancelled_runs_only_what_completes(scene: &Scene) {
        let night = open(scene).await;
        night.add(scene, "rows", 3).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(night.id, 60_000).await;
        scene.tick().await;
        worker.fail(&slice, "broken").await;
        worker.run().await;
        let ended = [StepState::Cancelled, StepState::Succeeded, StepState::Cancelled];
        assert_eq!((night.callbacks(scene).await, scene.state(night.id).await), (ended, WorkflowState::Cancelled));
    }

    /// The report that grows a batch most: as many leases as it may speak of, as many new types as they may bring, as many callbacks as there
    /// may be, which all wait for these.
    pub async fn a_report_brings_sixteen_new_types_within_its_bound(scene: &Scene) {
        let night = open_with(scene, LONG, &[], MAX_CALLBACKS - 3).await;
        let leases = MAX_REPORTED_LEASES as u32;
        for _ in 0..leases {
            night.add(scene, "rows", 1).await;
        }
        night.close(scene).await;
        let worker = scene.worker().await;
        let mut slices = worker.claim(1, 16).await.slices;
        slices.extend(worker.claim(1, leases - 16).await.slices);
        assert_eq!(slices.len(), MAX_REPORTED_LEASES);
        let mut parts: Vec<LeaseReport> = slices.iter().map(|slice| worker.success(slice)).collect();
        for (part, number) in parts.iter_mut().zip(0..MAX_REPORTED_DRAFTS) {
            part.added = vec![added(0, &format!("type {number}"), 1)];
        }
        worker.try_report(parts).await.unwrap();
        worker.run().await;
        let callbacks = u64::from(MAX_CALLBACKS) - 1;
        assert_eq!(scene.jobs(night.id).await.succeeded, 1 + u64::from(leases) + 16 + callbacks);
        assert_eq!(scene.state(night.id).await, WorkflowState::Succeeded);
    }

    pub async fn declared_steps_may_stay_empty(scene: &Scene) {
        let night = open_for(scene, LONG, &["rows", "others"]).await;
        night.add(scene, "rows", 1).await;
        assert_eq!(scene.row(night.id).await.steps, 6);
        night.close(scene).await;
        scene.worker().await.run().await;
        assert_eq!((scene.state(night.id).await, scene.jobs(night.id).await.succeeded), (WorkflowState::Succeeded, 4));
        let day = open_for(scene, LONG, &["rows"]).await;
        scene.cancel(day.id, 0).await;
        scene.tick().await;
        assert_eq!(scene.step_state(day.id, ROWS).await, StepState::Cancelled);
    }
}
