//! Batches within batches: the outer one waits for the inner one, and shares what becomes of it.

use super::*;
use crate::error::ErrorKind;
use crate::retention::{KeepFor, Retention};
use crate::state::{BatchState, WorkflowState as W};
use crate::store::{
    Append, Keeping, LeaseReport, MAX_REPORTED_LEASES, Parent, RetryFailed, error_number, step_of_batches,
};

/// The step of an outer batch that stands for those within it, if these come first.
const WITHIN: StepNumber = ROWS;

const DONE: [StepState; 3] = [StepState::Succeeded, StepState::Succeeded, StepState::Skipped];
/// Something has failed, which nobody has repaired.
const SPOILT: [StepState; 3] = [StepState::Waiting, StepState::Succeeded, StepState::Succeeded];

/// What makes a batch within another one.
fn creation_within(scene: &Scene, outer: &Open, lease: Millis) -> (Open, Create) {
    let (mut inner, mut create) = creation(scene, lease, &[], 0);
    inner.id = WorkflowId::new(scene.clock.now(), outer.id.shard());
    create.workflow.id = inner.id;
    create.parts.push(Part::Within { batch: outer.id, step: Box::new(step_of_batches()), chunk: chunk(1, "a batch") });
    (inner, create)
}

async fn open_within_for(scene: &Scene, outer: &Open, lease: Millis) -> Open {
    let (inner, create) = creation_within(scene, outer, lease);
    assert!(!scene.store.create(create).await.expect("a batch within one is made").existed);
    inner
}

async fn open_within(scene: &Scene, outer: &Open) -> Open {
    open_within_for(scene, outer, LONG).await
}

/// An outer batch, and an inner one with so many jobs; both are closed.
async fn pair(scene: &Scene, jobs: u32) -> (Open, Open) {
    let outer = open(scene).await;
    let inner = open_within(scene, &outer).await;
    inner.add(scene, "rows", jobs).await;
    inner.close(scene).await;
    outer.close(scene).await;
    (outer, inner)
}

/// A batch within one within another, with so many jobs in the last; all are held open.
async fn three_deep(scene: &Scene, jobs: u32) -> [Open; 3] {
    let outer = open(scene).await;
    let inner = open_within(scene, &outer).await;
    let innermost = open_within(scene, &inner).await;
    innermost.add(scene, "rows", jobs).await;
    [outer, inner, innermost]
}

async fn stand(scene: &Scene, batch: &Open) -> (W, [StepState; 3]) {
    scene.tick().await;
    (scene.state(batch.id).await, batch.callbacks(scene).await)
}

/// Fails all that can be claimed of a step.
async fn fail_all(worker: &Worker<'_>, step: StepNumber) {
    for slice in worker.drain().await {
        match slice.step == step {
            true => worker.fail(&slice, "broken").await,
            false => worker.succeed(&slice).await,
        };
    }
}

pub async fn fresh_is_waited_for_with_its_callbacks(scene: &Scene) {
    let (outer, inner) = pair(scene, 2).await;
    let step = scene.step(outer.id, WITHIN).await;
    assert_eq!((step.spec.name.as_str(), step.state, step.jobs.deferred), ("batches", StepState::Running, 1));
    assert_eq!(scene.row(inner.id).await.parent, Some(Parent { workflow: outer.id, step: WITHIN, index: 0 }));
    scene.check().await;
    let worker = scene.worker().await;
    for slice in worker.drain().await {
        assert_eq!(slice.workflow, inner.id);
        worker.succeed(&slice).await;
    }
    let callbacks = worker.drain().await;
    assert_eq!((inner.callbacks(scene).await, outer.callbacks(scene).await), (RUNNING, WAITING));
    for slice in callbacks {
        assert_eq!((slice.workflow, outer.callbacks(scene).await), (inner.id, WAITING));
        worker.succeed(&slice).await;
    }
    scene.tick().await;
    assert_eq!(outer.callbacks(scene).await, RUNNING);
    worker.run().await;
    assert_eq!((stand(scene, &outer).await, stand(scene, &inner).await), ((W::Succeeded, DONE), (W::Succeeded, DONE)));
    scene.at_rest().await;
}

pub async fn fresh_of_an_empty_one_lets_the_outer_one_settle(scene: &Scene) {
    let (outer, inner) = (open(scene).await, scene.worker().await);
    let (worker, inner) = (inner, open_within(scene, &outer).await);
    outer.close(scene).await;
    worker.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Pending, WAITING), "the inner one is held open");
    inner.close(scene).await;
    worker.run().await;
    assert_eq!((stand(scene, &outer).await, stand(scene, &inner).await), ((W::Succeeded, DONE), (W::Succeeded, DONE)));
    scene.at_rest().await;
}

pub async fn fresh_beside_jobs_is_one_of_several_steps(scene: &Scene) {
    let outer = open(scene).await;
    // A type of that name has a step of its own.
    outer.add(scene, "batches", 1).await;
    let inners = [open_within(scene, &outer).await, open_within(scene, &outer).await];
    let names = [scene.step(outer.id, ROWS).await.spec.name, scene.step(outer.id, ROWS + 1).await.spec.name];
    assert_eq!(names, ["batches", "batches-2"]);
    outer.add(scene, "rows", 2).await;
    outer.add(scene, "batches", 1).await;
    assert_eq!((scene.row(outer.id).await.steps, scene.jobs(outer.id).await.total), (7, 4 + 2 + 2 + 2));
    outer.close(scene).await;
    let worker = scene.worker().await;
    worker.run().await;
    for inner in inners {
        assert_eq!(stand(scene, &outer).await.1, WAITING);
        inner.close(scene).await;
        worker.run().await;
    }
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, DONE));
    let told = scene.store.children(outer.id, ROWS + 1, 0, 10).await.unwrap();
    let expected: Vec<_> = (0..).zip(inners.map(|inner| inner.id)).collect();
    assert_eq!(told.iter().map(|row| (row.index, row.id)).collect::<Vec<_>>(), expected);
}

pub async fn fresh_ones_of_any_depth_settle_from_within(scene: &Scene) {
    let mut all = vec![open(scene).await];
    for depth in 0..30 {
        all.push(open_within(scene, &all[depth]).await);
    }
    for open in &all {
        open.close(scene).await;
    }
    let worker = scene.worker().await;
    worker.run().await;
    for open in &all {
        assert_eq!(stand(scene, open).await, (W::Succeeded, DONE));
    }
    scene.delete(all[0].id).await;
    for open in &all {
        assert_eq!(refusal(scene.store.workflow(open.id).await), ErrorKind::NotFound);
    }
    scene.at_rest().await;
}

pub async fn repeated_creation_makes_one(scene: &Scene) {
    let outer = open(scene).await;
    let (inner, create) = creation_within(scene, &outer, LONG);
    for existed in [false, true, true] {
        assert_eq!(scene.store.create(create.clone()).await.unwrap().existed, existed);
    }
    assert_eq!(scene.jobs(outer.id).await.total, 4 + 1);
    inner.close(scene).await;
    outer.close(scene).await;
    scene.worker().await.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, DONE));
    assert!(scene.store.create(create).await.unwrap().existed, "although the outer one has settled");
}

pub async fn answer_lost_makes_one(scene: &Scene) {
    let outer = open(scene).await;
    let (inner, create) = creation_within(scene, &outer, LONG);
    lose(scene.store.create(create.clone())).await;
    scene.store.create(create).await.unwrap();
    assert_eq!(scene.jobs(outer.id).await.total, 4 + 1);
    outer.close(scene).await;
    lose(scene.store.close_batch(inner.closing())).await;
    inner.close(scene).await;
    scene.worker().await.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, DONE));
}

pub async fn lease_taken_back_abandons_it_and_is_a_failure_of_the_outer_one(scene: &Scene) {
    let outer = open(scene).await;
    let inner = open_within_for(scene, &outer, LEASE).await;
    inner.add(scene, "rows", 1).await;
    outer.close(scene).await;
    scene.leases_end().await;
    let worker = scene.worker().await;
    worker.run().await;
    assert_eq!(scene.row(inner.id).await.batch, Some(BatchState::Abandoned));
    let abandoned = [StepState::Waiting, StepState::Succeeded, StepState::Skipped];
    assert_eq!(stand(scene, &inner).await, (W::Failed, abandoned));
    assert_eq!(stand(scene, &outer).await, (W::Failed, SPOILT));
    // A retry has nothing to run, and comes to the same end.
    scene.retry(outer.id).await;
    worker.run().await;
    assert_eq!((stand(scene, &inner).await.0, stand(scene, &outer).await), (W::Failed, (W::Failed, SPOILT)));
    let discard = RetryFailed { step: Some(BATCH_STEP), discard: true, ..scene.retry_of(inner.id) };
    assert_eq!(scene.store.retry(discard).await.unwrap().jobs, 1);
    worker.run().await;
    assert_eq!(stand(scene, &inner).await, (W::Succeeded, DONE));
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, [StepState::Succeeded; 3]));
    scene.at_rest().await;
}

pub async fn paused_outer_one_counts_its_end_and_hands_nothing_out(scene: &Scene) {
    let (outer, inner) = pair(scene, 1).await;
    scene.pause(outer.id).await;
    let worker = scene.worker().await;
    worker.run().await;
    assert_eq!(stand(scene, &inner).await, (W::Succeeded, DONE));
    assert_eq!(stand(scene, &outer).await, (W::Paused, RUNNING));
    scene.resume(outer.id).await;
    worker.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, DONE));
}

pub async fn cancelling_goes_down_and_completes_both(scene: &Scene) {
    let [outer, inner, innermost] = three_deep(scene, 2).await;
    let worker = scene.worker().await;
    let slice = worker.take(1).await;
    scene.cancel(outer.id, 60_000).await;
    scene.tick().await;
    for batch in [&outer, &inner, &innermost] {
        assert_eq!(scene.state(batch.id).await, W::Cancelling);
        assert_eq!(refusal(batch.try_add(scene, "rows", 1).await), ErrorKind::BatchSettled);
        let (_, create) = creation_within(scene, batch, LONG);
        assert_eq!(refusal(scene.store.create(create).await), ErrorKind::BatchSettled);
    }
    worker.report(LeaseReport { cancelled: slice.jobs, ..worker.part(&slice) }).await;
    worker.run().await;
    let ended = [StepState::Cancelled, StepState::Succeeded, StepState::Cancelled];
    for batch in [&outer, &inner, &innermost] {
        assert_eq!(stand(scene, batch).await, (W::Cancelled, ended));
    }
    scene.at_rest().await;
}

pub async fn cancelling_it_alone_fails_the_outer_one_until_it_is_discarded(scene: &Scene) {
    let (outer, inner) = pair(scene, 1).await;
    scene.cancel(inner.id, 0).await;
    let worker = scene.worker().await;
    worker.run().await;
    assert_eq!((stand(scene, &inner).await.0, stand(scene, &outer).await), (W::Cancelled, (W::Failed, SPOILT)));
    // Nobody can make it anew.
    scene.retry(outer.id).await;
    worker.run().await;
    assert_eq!((stand(scene, &inner).await.0, stand(scene, &outer).await), (W::Cancelled, (W::Failed, SPOILT)));
    let discard = RetryFailed { step: Some(WITHIN), discard: true, ..scene.retry_of(outer.id) };
    scene.store.retry(discard).await.unwrap();
    worker.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, [StepState::Succeeded; 3]));
    scene.at_rest().await;
}

pub async fn deleted_with_the_outer_one_and_not_by_itself(scene: &Scene) {
    let (outer, inner) = pair(scene, 1).await;
    scene.worker().await.run().await;
    scene.tick().await;
    assert_eq!(refusal(scene.store.delete(inner.id).await), ErrorKind::Refused);
    assert_eq!(refusal(scene.store.keep(inner.id, Keeping::ExpireIn(0)).await), ErrorKind::Refused);
    scene.delete(outer.id).await;
    for gone in [outer.id, inner.id] {
        assert_eq!(refusal(scene.store.workflow(gone).await), ErrorKind::NotFound);
    }
    let (_, create) = creation_within(scene, &outer, LONG);
    assert_eq!(refusal(scene.store.create(create).await), ErrorKind::NotFound);
    scene.at_rest().await;
}

pub async fn is_kept_as_long_as_the_outer_one(scene: &Scene) {
    let (outer, mut create) = creation(scene, LONG, &[], 0);
    create.workflow.retention = Retention::all(KeepFor { age: Some(60_000), most: None });
    scene.store.create(create).await.unwrap();
    let inner = open_within(scene, &outer).await;
    inner.close(scene).await;
    let worker = scene.worker().await;
    worker.run().await;
    scene.wait(100_000).await;
    assert_eq!(stand(scene, &inner).await, (W::Succeeded, DONE));
    outer.close(scene).await;
    scene.worker().await.run().await;
    scene.wait(61_000).await;
    scene.sweep().await;
    for gone in [outer.id, inner.id] {
        assert_eq!(refusal(scene.store.workflow(gone).await), ErrorKind::NotFound);
    }
}

pub async fn after_the_outer_one_has_settled_is_refused(scene: &Scene) {
    let outer = open(scene).await;
    outer.add(scene, "rows", 1).await;
    outer.close(scene).await;
    let worker = scene.worker().await;
    worker.succeed(&worker.take(1).await).await;
    // Its callbacks are still to run.
    let (inner, create) = creation_within(scene, &outer, LONG);
    assert_eq!(refusal(scene.store.create(create).await), ErrorKind::BatchSettled);
    assert_eq!(refusal(scene.store.workflow(inner.id).await), ErrorKind::NotFound);
    assert_eq!((scene.row(outer.id).await.steps, scene.jobs(outer.id).await.total), (5, 5));
    worker.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, DONE));
}

pub async fn that_has_settled_takes_no_jobs_although_the_outer_one_does(scene: &Scene) {
    let outer = open(scene).await;
    let inner = open_within(scene, &outer).await;
    inner.close(scene).await;
    scene.worker().await.run().await;
    assert_eq!(refusal(inner.try_add(scene, "rows", 1).await), ErrorKind::BatchSettled);
    let (_, create) = creation_within(scene, &inner, LONG);
    assert_eq!(refusal(scene.store.create(create).await), ErrorKind::BatchSettled);
    outer.add(scene, "rows", 1).await;
    let second = open_within(scene, &outer).await;
    outer.close(scene).await;
    second.close(scene).await;
    scene.worker().await.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, DONE));
}

pub async fn in_a_workflow_that_is_no_batch_or_in_a_draft_is_refused(scene: &Scene) {
    let outer = open(scene).await;
    let rows = Open { id: scene.rows(1).await, ..outer };
    let (_, create) = creation_within(scene, &rows, LONG);
    assert_eq!(refusal(scene.store.create(create).await), ErrorKind::Usage);
    let (_, create) = creation_within(scene, &outer, LONG);
    let draft = DraftKey { session: scene.client(), number: scene.number() };
    let of = DraftOf::Workflow(Box::new(create.workflow.clone()));
    let append = Append { draft, of, number: 0, parts: create.parts.clone(), lease: LEASE };
    assert_eq!(refusal(scene.store.append(append).await), ErrorKind::Usage);
    for (jobs, spec) in [(2, step_of_batches()), (1, growing("rows"))] {
        let mut wrong = create.clone();
        wrong.parts.pop();
        wrong.parts.push(Part::Within { batch: outer.id, step: Box::new(spec), chunk: chunk(jobs, "a batch") });
        assert_eq!(refusal(scene.store.create(wrong).await), ErrorKind::Usage);
    }
    assert_eq!(scene.jobs(outer.id).await.total, 4);
    scene.check().await;
}

pub async fn whose_first_job_fails_runs_what_a_death_runs_in_all_around(scene: &Scene) {
    let [outer, inner, innermost] = three_deep(scene, 3).await;
    let worker = scene.worker().await;
    let slice = worker.take(3).await;
    let death = |at| LeaseReport {
        failed: job(at),
        errors: vec![(error_number("broken"), "broken".to_owned(), job(at))],
        ..worker.part(&slice)
    };
    worker.report(death(0)).await;
    scene.tick().await;
    for batch in [&outer, &inner, &innermost] {
        assert_eq!(scene.step_state(batch.id, DEATH).await, StepState::Running, "although all are held open");
    }
    worker.run().await;
    worker.report(death(1)).await;
    worker.report(LeaseReport { succeeded: job(2), ..worker.part(&slice) }).await;
    scene.tick().await;
    assert!(worker.drain().await.is_empty(), "the second death hands out nothing");
    for batch in [&innermost, &inner, &outer] {
        batch.close(scene).await;
        worker.run().await;
        assert_eq!(stand(scene, batch).await, (W::Failed, SPOILT));
    }
    scene.at_rest().await;
}

pub async fn that_is_repaired_heals_the_outer_one(scene: &Scene) {
    let (outer, inner) = pair(scene, 2).await;
    let worker = scene.worker().await;
    fail_all(&worker, ROWS).await;
    worker.run().await;
    assert_eq!((stand(scene, &inner).await, stand(scene, &outer).await), ((W::Failed, SPOILT), (W::Failed, SPOILT)));
    assert_eq!(scene.errors(outer.id, WITHIN).await, [("its workflow did not succeed".to_owned(), 1)]);
    assert_eq!(scene.retry(inner.id).await.jobs, 2);
    assert_eq!(stand(scene, &outer).await, (W::Failed, SPOILT), "while it runs again");
    worker.run().await;
    let healed = (W::Succeeded, [StepState::Succeeded; 3]);
    assert_eq!((stand(scene, &inner).await, stand(scene, &outer).await), (healed, healed));
    assert_eq!(scene.jobs(outer.id).await.succeeded, 1 + 1 + 3, "no callback ran twice");
    scene.at_rest().await;
}

pub async fn that_failed_is_retried_with_the_outer_one(scene: &Scene) {
    let [outer, inner, innermost] = three_deep(scene, 1).await;
    for batch in [&outer, &inner, &innermost] {
        batch.close(scene).await;
    }
    let worker = scene.worker().await;
    fail_all(&worker, ROWS).await;
    worker.run().await;
    for batch in [&outer, &inner, &innermost] {
        assert_eq!(stand(scene, batch).await, (W::Failed, SPOILT));
    }
    assert_eq!(scene.retry(outer.id).await.jobs, 1);
    scene.tick().await;
    assert_eq!(scene.state(innermost.id).await, W::Running);
    scene.check().await;
    // It may fail once more.
    fail_all(&worker, ROWS).await;
    worker.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Failed, SPOILT));
    scene.retry(outer.id).await;
    worker.run().await;
    for batch in [&outer, &inner, &innermost] {
        assert_eq!(stand(scene, batch).await, (W::Succeeded, [StepState::Succeeded; 3]));
    }
    scene.at_rest().await;
}

pub async fn that_runs_again_is_waited_for_by_a_retry_of_the_outer_one(scene: &Scene) {
    let (outer, inner) = pair(scene, 1).await;
    let worker = scene.worker().await;
    fail_all(&worker, ROWS).await;
    worker.run().await;
    scene.retry(inner.id).await;
    scene.tick().await;
    scene.retry(outer.id).await;
    scene.tick().await;
    assert_eq!(states(scene, &outer, WITHIN).await, [JobState::Deferred]);
    worker.run().await;
    let healed = (W::Succeeded, [StepState::Succeeded; 3]);
    assert_eq!((stand(scene, &inner).await, stand(scene, &outer).await), (healed, healed));
    scene.at_rest().await;
}

pub async fn that_heals_while_the_outer_one_is_open_leaves_no_failure(scene: &Scene) {
    let outer = open(scene).await;
    let inner = open_within(scene, &outer).await;
    inner.add(scene, "rows", 1).await;
    inner.close(scene).await;
    let worker = scene.worker().await;
    fail_all(&worker, ROWS).await;
    worker.run().await;
    assert_eq!(
        (states(scene, &outer, WITHIN).await, scene.state(outer.id).await),
        (vec![JobState::Failed], W::Running)
    );
    scene.retry(inner.id).await;
    worker.run().await;
    scene.tick().await;
    assert_eq!(states(scene, &outer, WITHIN).await, [JobState::Succeeded]);
    outer.close(scene).await;
    worker.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, [StepState::Succeeded; 3]));
}

/// So many leases a worker claims at once.
const LEASES: u32 = 16;

pub async fn many_that_fail_are_told_and_retried_within_the_bounds(scene: &Scene) {
    let outer = open(scene).await;
    let mut inners = Vec::new();
    for _ in 0..2 * LEASES {
        let inner = open_within(scene, &outer).await;
        inner.add(scene, "rows", 1).await;
        inner.close(scene).await;
        inners.push(inner);
    }
    outer.close(scene).await;
    let worker = scene.worker().await;
    for _ in 0..2 {
        // One report tells of the first death in each of many batches.
        let slices = worker.claim(1, LEASES).await.slices;
        assert_eq!(slices.len(), LEASES as usize);
        let parts = slices.iter().map(|slice| worker.failure(slice, "broken")).collect();
        worker.try_report(parts).await.unwrap();
    }
    worker.run().await;
    assert_eq!(stand(scene, &outer).await, (W::Failed, SPOILT));
    assert_eq!(scene.retry(outer.id).await.jobs, u64::from(2 * LEASES));
    worker.run().await;
    for batch in inners.iter().chain([&outer]) {
        assert_eq!(stand(scene, batch).await, (W::Succeeded, [StepState::Succeeded; 3]));
    }
    scene.delete(outer.id).await;
    scene.at_rest().await;
}

pub async fn of_one_report_that_ends_24_keep_its_bounds(scene: &Scene) {
    let outer = open(scene).await;
    let mut inners = Vec::new();
    for _ in 0..MAX_REPORTED_LEASES {
        let inner = open_within(scene, &outer).await;
        inner.add(scene, "rows", 1).await;
        inner.close(scene).await;
        inners.push(inner);
    }
    outer.close(scene).await;
    let worker = scene.worker().await;
    let last_jobs = worker.drain().await;
    assert_eq!(last_jobs.len(), MAX_REPORTED_LEASES);
    worker.try_report(last_jobs.iter().map(|slice| worker.success(slice)).collect()).await.unwrap();
    worker.run().await;
    for inner in &inners {
        assert_eq!(stand(scene, inner).await, (W::Succeeded, DONE));
    }
    assert_eq!(stand(scene, &outer).await, (W::Succeeded, DONE));
}
