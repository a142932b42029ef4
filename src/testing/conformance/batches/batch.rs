//! What a batch does: it is held open, abandoned, added to by its own jobs, and runs its callbacks.

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
    assert_eq!((scene.step_state(night.id, ROWS).await, night.callbacks(scene).await), (StepState::Running, WAITING));
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
    lose(worker.try_report(vec![part.clone()])).await;
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
    let append =
        Append { draft, of, number: 0, parts: Vec::from_iter((jobs > 0).then(|| jobs_part(0, jobs))), lease: LEASE };
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
    for step in [BATCH_STEP, COMPLETE, DEATH, ROWS] {
        if step != COMPLETE {
            let again = scene.store.run_again(scene.run_again_of(night.id, step, false)).await;
            assert_eq!(refusal(again), ErrorKind::Refused);
        }
        let skipped = scene.store.decide_by_hand(scene.by_hand_of(night.id, step, ByHand::SkipAll)).await;
        assert_eq!(refusal(skipped), ErrorKind::Refused);
    }
    assert_eq!(scene.state(night.id).await, WorkflowState::Succeeded);
}

pub async fn what_has_run_at_its_end_runs_again(scene: &Scene) {
    let night = open(scene).await;
    night.add(scene, "rows", 2).await;
    night.close(scene).await;
    let worker = scene.worker().await;
    for slice in worker.drain().await {
        worker.fail(&slice, "broken").await;
    }
    worker.run().await;
    let complete = async || scene.step(night.id, COMPLETE).await;
    assert_eq!((complete().await.state, complete().await.generation), (StepState::Succeeded, 0));
    scene.retry(night.id).await;
    assert!(complete().await.outdated);
    // Asked for while the batch is at work, it waits for its end.
    assert_eq!(scene.store.run_again(scene.run_again_of(night.id, COMPLETE, false)).await.unwrap().jobs, 1);
    scene.tick().await;
    assert_eq!(complete().await.state, StepState::Waiting);
    worker.run().await;
    for generation in [1, 2] {
        assert_eq!(scene.state(night.id).await, WorkflowState::Succeeded);
        let (state, outdated) = (complete().await.state, complete().await.outdated);
        assert_eq!((state, outdated, complete().await.generation), (StepState::Succeeded, false, generation));
        scene.store.run_again(scene.run_again_of(night.id, COMPLETE, false)).await.unwrap();
        scene.tick().await;
        assert_eq!((complete().await.state, scene.state(night.id).await), (StepState::Running, WorkflowState::Running));
        worker.run().await;
    }
    scene.at_rest().await;
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
