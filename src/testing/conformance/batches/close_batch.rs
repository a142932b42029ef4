//! Cases of `close_batch`: nothing more comes from who holds a batch open.

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
    lose(scene.store.close_batch(night.closing())).await;
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
