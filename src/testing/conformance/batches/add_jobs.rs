//! Cases of `add_jobs`: jobs that come to a batch from outside.

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
    lose(scene.store.add_jobs(add.clone())).await;
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
