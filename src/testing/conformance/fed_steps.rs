//! Failure policies behind sources: of a step whose sources still emit while too many of its jobs have failed, and of a step of sources itself.

use super::scene::*;
use crate::id::WorkflowId;
use crate::state::{EdgeKind, FailurePolicy, StepState, Tolerate};
use crate::store::RetryFailed;

const SOURCES: u32 = 0;
const ROWS: u32 = 1;
const REPORT: u32 = 2;
const FAST: FailurePolicy = FailurePolicy::FailFast;
const PAUSE: FailurePolicy = FailurePolicy::Pause;

/// How a step stands, and how many jobs of it have succeeded, failed and been cancelled.
async fn stand(scene: &Scene, id: WorkflowId, step: u32) -> (StepState, [u64; 3]) {
    let row = scene.step(id, step).await;
    (row.state, [row.jobs.succeeded, row.jobs.failed, row.jobs.cancelled])
}

/// A retry of one step.
async fn retry_step(scene: &Scene, id: WorkflowId, step: u32) {
    let retry = RetryFailed { step: Some(step), ..scene.retry_of(id) };
    scene.store.retry(retry).await.expect("a retry");
    scene.tick().await;
}

/// The jobs that `sources` sources emit have the policy, and one of them may fail.
pub mod fed_step {
    use super::super::policies::fail_some;
    use super::*;
    use crate::state::WorkflowState;
    use crate::store::{MAX_REPORTED_DRAFTS, Slice};

    async fn import(scene: &Scene, sources: u32, policy: FailurePolicy) -> WorkflowId {
        import_with(scene, sources, policy, Tolerate::Jobs(1)).await
    }

    async fn import_with(scene: &Scene, sources: u32, policy: FailurePolicy, tolerate: Tolerate) -> WorkflowId {
        let plan = scene.plan().step_with("source", sources, |spec| spec.feeds = Some(ROWS));
        let plan = plan.step_with("rows", 0, |spec| (spec.policy, spec.tolerate) = (policy, tolerate));
        let plan = plan.step("report", 1).edge(SOURCES, ROWS, EdgeKind::Feeds);
        plan.edge(ROWS, REPORT, EdgeKind::After).create().await
    }

    /// Claims all sources of an import, each under a lease of its own: then only rows are left to claim.
    async fn take_sources(worker: &Worker<'_>, sources: u32) -> Vec<Slice> {
        let slices = worker.claim(1, sources).await.slices;
        assert_eq!(slices.len(), sources as usize);
        slices
    }

    /// The first of two sources has emitted so many rows, of which two have failed; returns the other one.
    async fn two_rows_fail(scene: &Scene, worker: &Worker<'_>, rows: u32) -> Slice {
        let mut sources = take_sources(worker, 2).await;
        worker.produce(&sources[0], rows).await;
        fail_some(worker, 2).await;
        scene.tick().await;
        sources.remove(1)
    }

    pub async fn fails_fast_while_its_sources_go_on_and_what_they_emit_is_cancelled(scene: &Scene) {
        let id = import(scene, 3, FAST).await;
        let worker = scene.worker().await;
        let sources = take_sources(&worker, 3).await;
        worker.produce(&sources[0], 5).await;
        fail_some(&worker, 2).await;
        assert!(scene.step(id, ROWS).await.is_failing_fast());
        let told = worker.renew(&[sources[1].lease, sources[2].lease]).await;
        assert!(told.cancelled.is_empty(), "its sources are another step");
        worker.give_back(&sources[2]).await;
        worker.produce(&sources[1], 4).await;
        let slices = worker.drain().await;
        assert_eq!((slices.len(), slices[0].step), (1, SOURCES), "sources are handed out, rows are not");
        scene.tick().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Running, [0, 2, 7]));
        worker.produce(&slices[0], 0).await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Failed, [0, 2, 7]));
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, REPORT).await),
            (WorkflowState::Failed, StepState::Waiting)
        );
        scene.at_rest().await;
    }

    pub async fn that_failed_fast_is_retried_with_what_was_emitted_afterwards(scene: &Scene) {
        let id = import(scene, 2, FAST).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 5).await;
        worker.produce(&second, 4).await;
        scene.tick().await;
        assert_eq!(scene.retry(id).await.jobs, 2);
        worker.run().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Succeeded, [9, 0, 0]));
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn that_failed_fast_is_retried_while_its_sources_emit(scene: &Scene) {
        let id = import(scene, 2, FAST).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 5).await;
        scene.retry(id).await;
        worker.produce(&second, 4).await;
        assert_eq!(count_jobs(&worker.drain().await), 9);
    }

    pub async fn fails_fast_although_all_rows_that_are_there_have_run(scene: &Scene) {
        let id = import(scene, 2, FAST).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 2).await;
        assert!(scene.step(id, ROWS).await.is_failing_fast());
        worker.produce(&second, 3).await;
        assert!(worker.drain().await.is_empty());
        scene.tick().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Failed, [0, 2, 3]));
    }

    pub async fn that_failed_fast_waits_for_its_failed_source(scene: &Scene) {
        let id = import(scene, 2, FAST).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 5).await;
        worker.fail(&second, "no such file").await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Waiting, [0, 2, 3]));
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        scene.at_rest().await;
        // Whoever retries all of it retries its rows, too.
        scene.retry(id).await;
        let slices = worker.drain().await;
        assert_eq!(count_jobs(&slices), 6);
        for slice in &slices {
            match slice.step {
                SOURCES => worker.produce(slice, 4).await,
                _ => worker.succeed(slice).await,
            };
        }
        worker.run().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Succeeded, [9, 0, 0]));
        scene.at_rest().await;
    }

    pub async fn that_failed_fast_stays_so_if_its_failed_source_alone_is_retried(scene: &Scene) {
        let id = import(scene, 2, FAST).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 5).await;
        worker.fail(&second, "no such file").await;
        retry_step(scene, id, SOURCES).await;
        let source = worker.take(1).await;
        worker.produce(&source, 4).await;
        assert!(worker.drain().await.is_empty());
        scene.tick().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Failed, [0, 2, 7]));
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        retry_step(scene, id, ROWS).await;
        worker.run().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Succeeded, [9, 0, 0]));
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn fails_fast_by_a_share_once_all_of_its_sources_have_emitted(scene: &Scene) {
        let id = import_with(scene, 2, FAST, Tolerate::Fraction(0.25)).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 4).await;
        assert!(!scene.step(id, ROWS).await.exceeded, "two of four are too many, of ten they are not");
        worker.produce(&second, 6).await;
        assert!(!scene.step(id, ROWS).await.exceeded);
        fail_some(&worker, 1).await;
        assert!(scene.step(id, ROWS).await.exceeded);
        let id = import_with(scene, 2, FAST, Tolerate::Fraction(0.25)).await;
        scene.tick().await;
        let second = two_rows_fail(scene, &worker, 4).await;
        worker.produce(&second, 3).await;
        assert!(scene.step(id, ROWS).await.exceeded, "two of seven are too many, which is known with the last source");
    }

    pub async fn that_failed_fast_is_told_a_repeated_report_of_its_source_once(scene: &Scene) {
        let id = import(scene, 2, FAST).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 5).await;
        let part = worker.production(&second, 4).await;
        lose(worker.try_report(vec![part.clone()])).await;
        worker.report(part.clone()).await;
        worker.report(part).await;
        scene.tick().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Failed, [0, 2, 7]));
        assert_eq!(scene.jobs(id).await.total, 12);
    }

    pub async fn that_failed_fast_keeps_the_bounds_of_the_largest_report(scene: &Scene) {
        let id = import(scene, 80, FAST).await;
        let worker = scene.worker().await;
        let mut sources = Vec::new();
        while sources.len() < 80 {
            sources.extend(worker.claim(1, 16).await.slices);
        }
        worker.produce(&sources[0], 5).await;
        fail_some(&worker, 2).await;
        for some in sources[1..].chunks(MAX_REPORTED_DRAFTS) {
            let mut parts = Vec::new();
            for slice in some {
                parts.push(worker.production(slice, 1_000).await);
            }
            worker.try_report(parts).await.expect("a report");
        }
        scene.tick().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Failed, [0, 2, 79_003]));
        scene.at_rest().await;
    }

    pub async fn that_failed_fast_is_cancelled_while_its_sources_emit(scene: &Scene) {
        let id = import(scene, 2, FAST).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 5).await;
        scene.cancel(id, 5_000).await;
        scene.tick().await;
        worker.produce(&second, 4).await;
        scene.tick().await;
        assert_eq!(stand(scene, id, ROWS).await.1, [0, 2, 3], "a cancelled workflow gets no further jobs");
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        scene.at_rest().await;
    }

    pub async fn pauses_and_what_its_sources_emit_afterwards_runs_once_it_is_resumed(scene: &Scene) {
        let id = import(scene, 2, PAUSE).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 5).await;
        assert!(scene.step(id, ROWS).await.is_paused());
        worker.produce(&second, 4).await;
        assert!(worker.drain().await.is_empty());
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Running, [0, 2, 0]));
        scene.check().await;
        assert!(scene.resume_step(id, ROWS).await);
        assert_eq!(jobs_of(&worker.drain().await), [2, 3, 4, 5, 6, 7, 8]);
    }

    pub async fn pauses_although_all_rows_that_are_there_have_run(scene: &Scene) {
        for emitted in [3, 0] {
            let id = import(scene, 2, PAUSE).await;
            let worker = scene.worker().await;
            let second = two_rows_fail(scene, &worker, 2).await;
            assert!(scene.step(id, ROWS).await.is_paused());
            worker.produce(&second, emitted).await;
            assert!(worker.drain().await.is_empty());
            // With nothing to come there is nothing to resume.
            assert_eq!(scene.step(id, ROWS).await.is_paused(), emitted > 0);
            if emitted > 0 {
                scene.resume_step(id, ROWS).await;
                worker.run().await;
            }
            assert_eq!(stand(scene, id, ROWS).await, (StepState::Failed, [emitted.into(), 2, 0]));
            assert_eq!(scene.state(id).await, WorkflowState::Failed);
            scene.leave(&worker).await;
        }
    }

    pub async fn that_is_resumed_pauses_again_on_further_failures_only(scene: &Scene) {
        let id = import(scene, 2, PAUSE).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 2).await;
        scene.resume_step(id, ROWS).await;
        worker.produce(&second, 4).await;
        fail_some(&worker, 1).await;
        assert!(!scene.step(id, ROWS).await.is_paused());
        fail_some(&worker, 1).await;
        assert!(scene.step(id, ROWS).await.is_paused() && worker.drain().await.is_empty());
    }

    pub async fn that_paused_waits_for_its_failed_source_once_its_rows_have_run(scene: &Scene) {
        let id = import(scene, 2, PAUSE).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 3).await;
        worker.fail(&second, "no such file").await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Running, [0, 2, 0]), "there is a row to resume it for");
        scene.resume_step(id, ROWS).await;
        worker.run().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Waiting, [1, 2, 0]));
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        scene.at_rest().await;
        retry_step(scene, id, SOURCES).await;
        worker.produce(&worker.take(1).await, 2).await;
        worker.run().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Failed, [3, 2, 0]), "what was forgiven stays so");
    }

    pub async fn that_paused_stays_so_if_its_failed_source_alone_is_retried(scene: &Scene) {
        let id = import(scene, 2, PAUSE).await;
        let worker = scene.worker().await;
        let second = two_rows_fail(scene, &worker, 2).await;
        worker.fail(&second, "no such file").await;
        let rows = scene.step(id, ROWS).await;
        assert_eq!(
            (rows.state, rows.is_paused(), scene.state(id).await),
            (StepState::Waiting, false, WorkflowState::Failed)
        );
        retry_step(scene, id, SOURCES).await;
        worker.produce(&worker.take(1).await, 4).await;
        assert!(scene.step(id, ROWS).await.is_paused() && worker.drain().await.is_empty());
        scene.resume_step(id, ROWS).await;
        assert_eq!(count_jobs(&worker.drain().await), 4);
    }
}

/// The sources have the policy, and one of them may fail.
pub mod source_step {
    use super::super::policies::fail_some;
    use super::*;
    use crate::state::WorkflowState;
    use crate::store::LeaseReport;

    async fn import(scene: &Scene, sources: u32, policy: FailurePolicy) -> WorkflowId {
        let plan = scene.plan().step_with("source", sources, |spec| {
            (spec.feeds, spec.policy, spec.tolerate) = (Some(ROWS), policy, Tolerate::Jobs(1));
        });
        let plan = plan.step("rows", 0).step("report", 1).edge(SOURCES, ROWS, EdgeKind::Feeds);
        plan.edge(ROWS, REPORT, EdgeKind::After).create().await
    }

    /// Sources emit two rows each, rows succeed, until there is nothing more to do.
    async fn run(scene: &Scene, worker: &Worker<'_>) {
        loop {
            scene.tick().await;
            let slices = worker.claim(1, 16).await.slices;
            for slice in &slices {
                match slice.step {
                    SOURCES => worker.produce(slice, 2).await,
                    _ => worker.succeed(slice).await,
                };
            }
            if slices.is_empty() {
                return;
            }
        }
    }

    pub async fn fails_fast_and_the_rows_that_are_there_run(scene: &Scene) {
        let id = import(scene, 6, FAST).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let (first, held) = (other.take(1).await, other.take(1).await);
        fail_some(&worker, 2).await;
        scene.tick().await;
        assert_eq!(stand(scene, id, SOURCES).await, (StepState::Running, [0, 2, 2]));
        assert_eq!(other.renew(&[held.lease]).await.cancelled, [held.lease]);
        other.produce(&first, 3).await;
        other.report(LeaseReport { cancelled: held.jobs, ..other.part(&held) }).await;
        assert_eq!(stand(scene, id, SOURCES).await, (StepState::Failed, [1, 2, 3]), "what succeeds by then counts");
        worker.run().await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Waiting, [3, 0, 0]));
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, REPORT).await),
            (WorkflowState::Failed, StepState::Waiting)
        );
        scene.at_rest().await;
    }

    pub async fn that_failed_fast_is_retried_with_the_cancelled_sources(scene: &Scene) {
        let id = import(scene, 6, FAST).await;
        let worker = scene.worker().await;
        let sources = worker.claim(1, 3).await.slices;
        worker.produce(&sources[0], 3).await;
        worker.fail(&sources[1], "no such file").await;
        worker.fail(&sources[2], "no such file").await;
        scene.tick().await;
        assert_eq!(stand(scene, id, SOURCES).await, (StepState::Failed, [1, 2, 3]));
        assert_eq!(scene.retry(id).await.jobs, 2);
        run(scene, &worker).await;
        assert_eq!(stand(scene, id, SOURCES).await, (StepState::Succeeded, [6, 0, 0]));
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Succeeded, [13, 0, 0]), "no source has emitted twice");
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.at_rest().await;
    }

    pub async fn whose_attempt_is_being_cut_off_runs_again_after_a_retry(scene: &Scene) {
        let id = import(scene, 3, FAST).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let held = other.take(1).await;
        fail_some(&worker, 2).await;
        assert_eq!(other.renew(&[held.lease]).await.cancelled, [held.lease]);
        scene.retry(id).await;
        let draft = other.emit(&held, 7).await;
        other.report(LeaseReport { cancelled: held.jobs, dropped: vec![draft], ..other.part(&held) }).await;
        run(scene, &worker).await;
        assert_eq!(stand(scene, id, SOURCES).await, (StepState::Succeeded, [3, 0, 0]));
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Succeeded, [6, 0, 0]));
        scene.at_rest().await;
    }

    pub async fn pauses_and_the_rows_that_are_there_run(scene: &Scene) {
        let id = import(scene, 5, PAUSE).await;
        let worker = scene.worker().await;
        let sources = worker.claim(1, 3).await.slices;
        worker.produce(&sources[0], 3).await;
        worker.fail(&sources[1], "no such file").await;
        worker.fail(&sources[2], "no such file").await;
        assert!(scene.step(id, SOURCES).await.is_paused());
        worker.run().await;
        assert_eq!(stand(scene, id, SOURCES).await, (StepState::Running, [1, 2, 0]));
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Running, [3, 0, 0]));
        assert!(scene.resume_step(id, SOURCES).await);
        run(scene, &worker).await;
        assert_eq!(stand(scene, id, SOURCES).await, (StepState::Failed, [3, 2, 0]));
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Waiting, [7, 0, 0]));
        scene.retry(id).await;
        run(scene, &worker).await;
        assert_eq!(stand(scene, id, ROWS).await, (StepState::Succeeded, [11, 0, 0]));
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }
}
