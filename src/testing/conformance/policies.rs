//! What becomes of a step as soon as more of its jobs have failed for good than it tolerates: it fails fast; or it pauses (`pauses`).

use super::scene::*;
use crate::id::WorkflowId;
use crate::state::{EdgeKind, FailurePolicy, Tolerate};
use crate::store::{RetryFailed, Slice};

/// A step of `jobs` jobs of which one may fail, with that policy, and one of one job behind it.
pub async fn rows(scene: &Scene, jobs: u32, policy: FailurePolicy) -> WorkflowId {
    rows_with(scene, jobs, policy, Tolerate::Jobs(1)).await
}

async fn rows_with(scene: &Scene, jobs: u32, policy: FailurePolicy, tolerate: Tolerate) -> WorkflowId {
    let plan = scene.plan().step_with("rows", jobs, |spec| (spec.policy, spec.tolerate) = (policy, tolerate));
    plan.step("report", 1).edge(0, 1, EdgeKind::After).create().await
}

/// Claims so many jobs, one by one, all of which fail.
pub async fn fail_some(worker: &Worker<'_>, jobs: u32) {
    for _ in 0..jobs {
        worker.fail(&worker.take(1).await, "bad").await;
    }
}

/// A retry of some failed jobs of the first step, with new parameters.
pub async fn retry_mended(scene: &Scene, id: WorkflowId, at: usize) {
    let draft = scene.mend(id, 0, job(at), "mended").await;
    let retry = RetryFailed { step: Some(0), mended: Some(draft), ..scene.retry_of(id) };
    scene.store.retry(retry).await.expect("a retry");
    scene.tick().await;
}

/// The slice of one job has killed two workers, so it is suspect; a third one holds nothing else.
pub async fn becomes_suspect(scene: &Scene) {
    for _ in 0..2 {
        scene.worker().await.take(1).await;
        scene.wait(2 * LEASE).await;
    }
}

pub fn only(slice: &Slice, at: usize) -> Slice {
    Slice { jobs: job(at), ..slice.clone() }
}

pub mod fail_fast {
    use super::super::forwarded::take_over;
    use super::super::scene::*;
    use super::*;
    use crate::state::{JobState, StepState, WorkflowState};
    use crate::store::{LeaseReport, Tick};

    const FAST: FailurePolicy = FailurePolicy::FailFast;

    /// How the first step and the workflow stand, and how many jobs of the step have succeeded, failed and been cancelled.
    async fn ended(scene: &Scene, id: WorkflowId) -> (StepState, WorkflowState, [u64; 3]) {
        let step = scene.step(id, 0).await;
        (step.state, scene.state(id).await, [step.jobs.succeeded, step.jobs.failed, step.jobs.cancelled])
    }

    pub async fn fresh_cancels_the_rest_as_soon_as_more_have_failed_than_it_tolerates(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        fail_some(&worker, 1).await;
        assert!(!scene.step(id, 0).await.is_failing_fast());
        fail_some(&worker, 1).await;
        assert!(scene.step(id, 0).await.is_failing_fast());
        assert!(worker.drain().await.is_empty(), "nothing more of it is handed out from this moment on");
        scene.tick().await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 8]));
        assert_eq!((scene.step_state(id, 1).await, scene.step(id, 0).await.exceeded), (StepState::Waiting, false));
        scene.at_rest().await;
    }

    pub async fn fresh_within_its_tolerance_runs_to_its_end(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        fail_some(&worker, 1).await;
        worker.run().await;
        assert_eq!(ended(scene, id).await, (StepState::Succeeded, WorkflowState::Succeeded, [9, 1, 0]));
    }

    pub async fn fresh_releases_what_runs_after_a_failure(scene: &Scene) {
        let plan = scene.plan().step_with("rows", 10, |spec| spec.policy = FAST).step("alarm", 1).step("tidy", 1);
        let plan = plan.edge(0, 1, EdgeKind::AfterFailure).edge(0, 2, EdgeKind::AfterSettled);
        let id = plan.create().await;
        let worker = scene.worker().await;
        fail_some(&worker, 1).await;
        worker.run().await;
        let states = [scene.step_state(id, 1).await, scene.step_state(id, 2).await];
        assert_eq!(states, [StepState::Succeeded, StepState::Succeeded]);
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 1, 9]));
    }

    pub async fn fresh_by_a_share_of_its_jobs(scene: &Scene) {
        let id = rows_with(scene, 10, FAST, Tolerate::Fraction(0.2)).await;
        let worker = scene.worker().await;
        fail_some(&worker, 2).await;
        assert!(!scene.step(id, 0).await.exceeded);
        fail_some(&worker, 1).await;
        scene.tick().await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 3, 7]));
    }

    pub async fn fresh_counts_what_a_source_emitted(scene: &Scene) {
        let plan = scene.plan().step_with("rows", 0, |spec| (spec.policy, spec.tolerate) = (FAST, Tolerate::Jobs(1)));
        let plan = plan.step_with("source", 1, |spec| spec.feeds = Some(0)).edge(1, 0, EdgeKind::Feeds);
        let id = plan.create().await;
        let worker = scene.worker().await;
        worker.produce(&worker.take(1).await, 20).await;
        fail_some(&worker, 2).await;
        scene.tick().await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 18]));
    }

    pub async fn fresh_tells_who_reports_that_the_rest_of_the_slice_is_cancelled(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        let slice = worker.take(4).await;
        assert_eq!(worker.fail(&only(&slice, 0), "bad").await.cancelled, Vec::<u64>::new());
        assert_eq!(worker.fail(&only(&slice, 1), "bad").await.cancelled, [slice.lease]);
        scene.tick().await;
        assert_eq!(scene.step_state(id, 0).await, StepState::Running, "what runs is waited for");
        worker.give_back(&Slice { jobs: job(2).or(job(3)), ..slice }).await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 8]));
        scene.at_rest().await;
    }

    pub async fn fresh_takes_what_waits_for_another_attempt_along(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        worker.retry_in(&worker.take(2).await, 500).await;
        let slice = worker.take(2).await;
        worker.report(LeaseReport { postponed: vec![(500, slice.jobs)], ..worker.part(&slice) }).await;
        let slice = worker.take(3).await;
        // What fails, and what is tried again, by one and the same report.
        let failed = worker.failure(&Slice { jobs: job(4).or(job(5)), ..slice.clone() }, "bad");
        worker.report(LeaseReport { retries: vec![(300, job(6))], ..failed }).await;
        scene.tick().await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 8]));
        scene.at_rest().await;
    }

    pub async fn repeated_report_cancels_nothing_twice(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        let slice = worker.take(3).await;
        let part = worker.failure(&Slice { jobs: job(0).or(job(1)), ..slice.clone() }, "bad");
        worker.report(part.clone()).await;
        scene.tick().await;
        worker.report(part).await;
        scene.tick().await;
        assert_eq!(scene.step(id, 0).await.jobs.cancelled, 7);
        worker.succeed(&only(&slice, 2)).await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [1, 2, 7]));
    }

    pub async fn answer_lost_fails_it_all_the_same(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        let part = worker.failure(&worker.take(2).await, "bad");
        lose(worker.try_report(vec![part.clone()])).await;
        // It may have come, or not; sent again it counts once.
        worker.report(part).await;
        scene.tick().await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 8]));
    }

    pub async fn lease_of_another_is_told_and_what_it_reports_counts(scene: &Scene) {
        let id = rows(scene, 20, FAST).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let slice = other.take(5).await;
        fail_some(&worker, 2).await;
        scene.tick().await;
        assert_eq!(scene.step(id, 0).await.jobs.cancelled, 13, "what is under a lease is left to it");
        assert_eq!(other.renew(&[slice.lease]).await.cancelled, [slice.lease]);
        let (succeeded, rest) = slice.jobs.split(1);
        let (failed, rest) = rest.split(1);
        let (cancelled, rest) = rest.split(1);
        let (again, returned) = rest.split(1);
        let bad = other.failure(&Slice { jobs: failed, ..slice }, "bad");
        let part = LeaseReport { succeeded, cancelled, retries: vec![(10, again)], returned, ..bad };
        assert_eq!(other.report(part).await.cancelled, [slice.lease]);
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [1, 3, 16]));
        scene.at_rest().await;
    }

    pub async fn lease_that_is_renewed_ends_with_the_grace(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let slice = other.take(3).await;
        fail_some(&worker, 2).await;
        let mut waited = 0;
        while other.renew(&[slice.lease]).await.lost.is_empty() {
            scene.wait(LEASE / 2).await;
            waited += LEASE / 2;
            assert!(waited < 20_000, "a lease of a step that failed fast is renewed for ever");
        }
        assert!(waited >= 9_000, "after {waited} ms, and ten seconds were promised");
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 8]));
    }

    pub async fn lease_taken_back_is_cancelled_and_runs_nowhere_else(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let (worker, dead) = (scene.worker().await, scene.worker().await);
        dead.take(3).await;
        fail_some(&worker, 2).await;
        scene.leases_end().await;
        assert!(worker.drain().await.is_empty());
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 8]));
        scene.at_rest().await;
    }

    pub async fn lease_whose_job_killed_its_workers_counts_as_a_failure(scene: &Scene) {
        let plan = scene.plan().step_with("rows", 5, |spec| (spec.policy, spec.max_recoveries) = (FAST, 1));
        let id = plan.create().await;
        becomes_suspect(scene).await;
        scene.worker().await.take_alone().await;
        scene.wait(2 * LEASE).await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 1, 4]));
        scene.at_rest().await;
    }

    pub async fn forwarded_lease_is_not_taken_over(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let (sender, worker) = (take_over::forwarder(scene).await, scene.worker().await);
        let (lease, _) = take_over::forward(&sender, 3).await;
        fail_some(&worker, 2).await;
        assert!(take_over::is_gone(&take_over::take(scene, &worker, &[lease]).await));
        scene.tick().await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 8]));
    }

    pub async fn paused_fails_fast_like_any_other(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.pause(id).await;
        worker.fail(&slice, "bad").await;
        scene.tick().await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 8]));
    }

    pub async fn cancelling_goes_on_to_its_end(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let slice = other.take(3).await;
        fail_some(&worker, 2).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        other.succeed(&slice).await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Cancelled, [3, 2, 5]));
        scene.at_rest().await;
    }

    pub async fn deleted_leaves_nothing(scene: &Scene) {
        let id = rows(scene, 3_000, FAST).await;
        fail_some(&scene.worker().await, 2).await;
        scene.tick().await;
        scene.delete(id).await;
        scene.at_rest().await;
    }

    pub async fn other_steps_run_to_their_end(scene: &Scene) {
        let plan = scene.plan().step_with("rows", 10, |spec| spec.policy = FAST).step("beside", 3).step("behind", 1);
        let id = plan.edge(1, 2, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        let (rows, beside): (Vec<_>, Vec<_>) = slices.iter().partition(|slice| slice.step == 0);
        worker.fail(rows[0], "bad").await;
        for slice in beside {
            worker.succeed(slice).await;
        }
        worker.run().await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Succeeded);
    }

    pub async fn retry_runs_the_failed_and_the_cancelled_jobs(scene: &Scene) {
        let id = rows(scene, 3_000, FAST).await;
        let worker = scene.worker().await;
        worker.retry_in(&worker.take(1).await, 60_000).await;
        fail_some(&worker, 2).await;
        scene.tick().await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 2_998]));
        assert_eq!(scene.retry(id).await.jobs, 2);
        assert_eq!(scene.bytes(id, 0).await, vec![0; 3_000], "all of them are open, with a new set of attempts");
        worker.run().await;
        assert_eq!(ended(scene, id).await, (StepState::Succeeded, WorkflowState::Succeeded, [3_000, 0, 0]));
    }

    pub async fn retry_fails_fast_again_on_further_failures_only(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        fail_some(&worker, 2).await;
        scene.tick().await;
        scene.retry(id).await;
        fail_some(&worker, 1).await;
        assert!(!scene.step(id, 0).await.exceeded);
        fail_some(&worker, 1).await;
        scene.tick().await;
        assert_eq!(ended(scene, id).await, (StepState::Failed, WorkflowState::Failed, [0, 2, 8]));
    }

    pub async fn retry_before_the_rest_is_cancelled_keeps_it(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        fail_some(&worker, 2).await;
        // This claim parks what it may not have.
        assert!(worker.drain().await.is_empty());
        scene.store.retry(scene.retry_of(id)).await.expect("a retry");
        worker.run().await;
        assert_eq!(ended(scene, id).await, (StepState::Succeeded, WorkflowState::Succeeded, [10, 0, 0]));
    }

    pub async fn retry_between_two_bites_of_the_rest_runs_all_of_it(scene: &Scene) {
        let id = rows(scene, 300_000, FAST).await;
        let worker = scene.worker().await;
        fail_some(&worker, 2).await;
        while scene.step(id, 0).await.jobs.cancelled == 0 {
            assert!(scene.store.tick(Tick { lease: LEASE }).await.expect("a tick").more);
        }
        assert!(scene.step(id, 0).await.jobs.cancelled < 299_998);
        scene.store.retry(scene.retry_of(id)).await.expect("a retry");
        worker.run().await;
        assert_eq!(ended(scene, id).await, (StepState::Succeeded, WorkflowState::Succeeded, [300_000, 0, 0]));
    }

    pub async fn retry_while_an_attempt_is_being_cut_off_runs_its_job_again(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let slice = other.take(3).await;
        fail_some(&worker, 2).await;
        assert_eq!(other.renew(&[slice.lease]).await.cancelled, [slice.lease]);
        scene.retry(id).await;
        assert!(other.renew(&[slice.lease]).await.cancelled.is_empty());
        other.report(LeaseReport { cancelled: slice.jobs, ..other.part(&slice) }).await;
        worker.run().await;
        assert_eq!(ended(scene, id).await, (StepState::Succeeded, WorkflowState::Succeeded, [10, 0, 0]));
    }

    pub async fn retry_of_mended_jobs_runs_the_cancelled_ones_too(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        fail_some(&worker, 2).await;
        scene.tick().await;
        retry_mended(scene, id, 0).await;
        assert_eq!(scene.job_states(id, 0).await[1], JobState::Failed);
        worker.run().await;
        assert_eq!(ended(scene, id).await, (StepState::Succeeded, WorkflowState::Succeeded, [9, 1, 0]));
    }

    pub async fn discard_runs_the_rest(scene: &Scene) {
        let id = rows(scene, 10, FAST).await;
        let worker = scene.worker().await;
        fail_some(&worker, 2).await;
        scene.tick().await;
        scene.store.retry(RetryFailed { discard: true, ..scene.retry_of(id) }).await.expect("a discard");
        scene.tick().await;
        worker.run().await;
        assert_eq!(ended(scene, id).await, (StepState::Succeeded, WorkflowState::Succeeded, [8, 0, 0]));
    }
}
