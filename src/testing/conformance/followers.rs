//! What a settled step means for those behind it.

/// The table of edges and outcomes: each row and each column.
pub mod table {
    use super::super::scene::*;
    use crate::id::WorkflowId;
    use crate::state::{EdgeKind, StepState, WorkflowState};

    /// A workflow whose step 1 comes to the state `up`, and whose step 2 has an edge of that kind from it.
    async fn behind(scene: &Scene, up: StepState, kind: EdgeKind) -> WorkflowId {
        let first = if up == StepState::Skipped { EdgeKind::AfterFailure } else { EdgeKind::After };
        let plan = scene.plan().step("first", 1).step("up", 1).step("down", 2);
        let plan = if kind == EdgeKind::Always { plan.always() } else { plan };
        let id = plan.edge(0, 1, first).edge(1, 2, kind).create().await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        match up {
            StepState::Succeeded => drop(worker.succeed(&worker.take(1).await).await),
            StepState::Failed => drop(worker.fail(&worker.take(1).await, "bad").await),
            StepState::Cancelled => scene.cancel(id, 0).await,
            StepState::Skipped | StepState::Waiting | StepState::Running => {}
        }
        scene.tick().await;
        assert_eq!(scene.step_state(id, 1).await, up);
        scene.check().await;
        id
    }

    async fn releases(scene: &Scene, up: StepState, kind: EdgeKind) {
        let id = behind(scene, up, kind).await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Running, "{kind} a step that is {up}");
        let worker = scene.worker().await;
        assert!(worker.drain().await.iter().all(|slice| slice.step == 2));
    }

    async fn skips(scene: &Scene, up: StepState, kind: EdgeKind) {
        let id = behind(scene, up, kind).await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Skipped, "{kind} a step that is {up}");
        assert_eq!((scene.step(id, 2).await.jobs.skipped, scene.state(id).await), (2, WorkflowState::Succeeded));
        scene.at_rest().await;
    }

    async fn waits(scene: &Scene, up: StepState, kind: EdgeKind) {
        let id = behind(scene, up, kind).await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Waiting, "{kind} a step that is {up}");
        assert_eq!((scene.step(id, 2).await.jobs.settled(), scene.state(id).await), (0, WorkflowState::Failed));
        scene.at_rest().await;
    }

    async fn cancels(scene: &Scene, up: StepState, kind: EdgeKind) {
        let id = behind(scene, up, kind).await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Cancelled, "{kind} a step that is {up}");
        assert_eq!((scene.step(id, 2).await.jobs.cancelled, scene.state(id).await), (2, WorkflowState::Cancelled));
        scene.at_rest().await;
    }

    /// One case a cell of the table.
    macro_rules! cells {
        ($($case:ident: $up:ident $kind:ident $follows:ident,)+) => {
            $(pub async fn $case(scene: &Scene) {
                $follows(scene, StepState::$up, EdgeKind::$kind).await;
            })+
        };
    }

    cells! {
        succeeded_after_is_released: Succeeded After releases,
        succeeded_after_settled_is_released: Succeeded AfterSettled releases,
        succeeded_after_failure_is_skipped: Succeeded AfterFailure skips,
        succeeded_always_is_released: Succeeded Always releases,
        skipped_after_is_released: Skipped After releases,
        skipped_after_settled_is_released: Skipped AfterSettled releases,
        skipped_after_failure_is_skipped: Skipped AfterFailure skips,
        skipped_always_is_released: Skipped Always releases,
        skipped_source_skips_what_it_feeds: Skipped Feeds skips,
        failed_after_waits: Failed After waits,
        failed_after_settled_is_released: Failed AfterSettled releases,
        failed_after_failure_is_released: Failed AfterFailure releases,
        failed_always_is_released: Failed Always releases,
        failed_source_lets_wait_what_it_feeds: Failed Feeds waits,
        cancelled_after_is_cancelled: Cancelled After cancels,
        cancelled_after_settled_is_cancelled: Cancelled AfterSettled cancels,
        cancelled_after_failure_is_cancelled: Cancelled AfterFailure cancels,
        cancelled_always_is_released: Cancelled Always releases,
        cancelled_source_cancels_what_it_feeds: Cancelled Feeds cancels,
        succeeded_when_is_released: Succeeded When releases,
        succeeded_unless_is_skipped: Succeeded Unless skips,
        skipped_when_is_skipped: Skipped When skips,
        skipped_without_its_turn_unless_is_skipped: Skipped Unless skips,
        failed_when_waits: Failed When waits,
        failed_unless_waits: Failed Unless waits,
        cancelled_when_is_cancelled: Cancelled When cancels,
        cancelled_unless_is_cancelled: Cancelled Unless cancels,
    }

    /// Two steps, of which the first succeeds and the second fails, and one behind both.
    async fn behind_both(scene: &Scene, first: EdgeKind, second: EdgeKind) -> StepState {
        let plan = scene.plan().step("good", 1).step("bad", 1).step("down", 1);
        let id = plan.edge(0, 2, first).edge(1, 2, second).create().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            match slice.step {
                0 => worker.succeed(&slice).await,
                _ => worker.fail(&slice, "bad").await,
            };
        }
        scene.tick().await;
        scene.step_state(id, 2).await
    }

    pub async fn of_several_a_wait_is_stronger_than_a_skip(scene: &Scene) {
        assert_eq!(behind_both(scene, EdgeKind::AfterFailure, EdgeKind::After).await, StepState::Waiting);
    }

    pub async fn of_several_a_skip_is_stronger_than_a_release(scene: &Scene) {
        assert_eq!(behind_both(scene, EdgeKind::AfterFailure, EdgeKind::AfterSettled).await, StepState::Skipped);
    }

    pub async fn of_several_a_wait_is_stronger_than_a_release(scene: &Scene) {
        assert_eq!(behind_both(scene, EdgeKind::After, EdgeKind::After).await, StepState::Waiting);
    }

    pub async fn of_several_all_must_have_settled(scene: &Scene) {
        let plan = scene.plan().step("a", 1).step("b", 1).step("down", 1);
        let id = plan.edge(0, 2, EdgeKind::AfterFailure).edge(1, 2, EdgeKind::AfterSettled).create().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        worker.succeed(&slices[0]).await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Waiting, "also when it is clear what will become of it");
        worker.succeed(&slices[1]).await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Skipped);
    }

    pub async fn of_several_a_cancel_is_the_strongest(scene: &Scene) {
        let plan = scene.plan().step("a", 1).step("b", 1).step("down", 1);
        let id = plan.edge(0, 2, EdgeKind::After).edge(1, 2, EdgeKind::AfterSettled).create().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        worker.fail(&slices[0], "bad").await;
        scene.cancel(id, 0).await;
        scene.leases_end().await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Cancelled);
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
    }

    pub async fn two_edges_between_the_same_steps_both_count(scene: &Scene) {
        let plan = scene.plan().step("up", 1).step("down", 1);
        let id = plan.edge(0, 1, EdgeKind::After).edge(0, 1, EdgeKind::AfterFailure).create().await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        scene.tick().await;
        assert_eq!(scene.step_state(id, 1).await, StepState::Skipped);
    }

    pub async fn a_skip_goes_on_down_a_chain_of_failure_handlers(scene: &Scene) {
        let plan = scene.plan().step("work", 1).step("handler", 700).step("its handler", 2).step("report", 1);
        let plan = plan.edge(0, 1, EdgeKind::AfterFailure).edge(1, 2, EdgeKind::AfterFailure);
        let id = plan.edge(1, 3, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        worker.run().await;
        let states = [scene.step_state(id, 1).await, scene.step_state(id, 2).await, scene.step_state(id, 3).await];
        assert_eq!(states, [StepState::Skipped, StepState::Skipped, StepState::Succeeded]);
        assert_eq!(scene.jobs(id).await.skipped, 702);
    }

    pub async fn independent_branches_run_to_their_end(scene: &Scene) {
        let plan = scene.plan().step("bad", 1).step("behind it", 1).step("good", 3).step("behind that", 1);
        let id = plan.edge(0, 1, EdgeKind::After).edge(2, 3, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        let (bad, good): (Vec<_>, Vec<_>) = slices.iter().partition(|slice| slice.step == 0);
        worker.fail(bad[0], "bad").await;
        assert_eq!(scene.state(id).await, WorkflowState::Running);
        for slice in good {
            worker.succeed(slice).await;
        }
        worker.run().await;
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, 3).await),
            (WorkflowState::Failed, StepState::Succeeded)
        );
        assert_eq!(scene.step_state(id, 1).await, StepState::Waiting);
    }
}

/// How many failed jobs a step may have.
pub mod tolerance {
    use super::super::scene::*;
    use crate::state::{EdgeKind, StepState, Tolerate};
    use crate::store::LeaseReport;

    /// What becomes of a step of `jobs` jobs of which `failed` fail.
    async fn settled(scene: &Scene, tolerate: Tolerate, jobs: u32, failed: usize) -> StepState {
        let plan = scene.plan().step_with("rows", jobs, |spec| spec.tolerate = tolerate).step("report", 1);
        let id = plan.edge(0, 1, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        let mut left = failed;
        for slice in worker.drain().await.into_iter().filter(|slice| slice.workflow == id) {
            let (bad, good) = slice.jobs.split(left);
            left -= bad.len();
            let part = worker.failures(&crate::store::Slice { jobs: bad, ..slice }, |at| format!("row {at}"));
            worker.report(LeaseReport { succeeded: good, ..part }).await;
        }
        let state = scene.step_state(id, 0).await;
        let released = scene.step_state(id, 1).await == StepState::Running;
        assert_eq!(released, state == StepState::Succeeded);
        worker.run().await;
        state
    }

    pub async fn none_fails_with_the_first(scene: &Scene) {
        assert_eq!(settled(scene, Tolerate::None, 10, 0).await, StepState::Succeeded);
        assert_eq!(settled(scene, Tolerate::None, 10, 1).await, StepState::Failed);
    }

    pub async fn jobs_up_to_exactly_that_many(scene: &Scene) {
        assert_eq!(settled(scene, Tolerate::Jobs(3), 10, 3).await, StepState::Succeeded);
        assert_eq!(settled(scene, Tolerate::Jobs(3), 10, 4).await, StepState::Failed);
    }

    pub async fn a_fraction_up_to_exactly_that_share(scene: &Scene) {
        assert_eq!(settled(scene, Tolerate::Fraction(0.29), 100, 29).await, StepState::Succeeded);
        assert_eq!(settled(scene, Tolerate::Fraction(0.29), 100, 30).await, StepState::Failed);
        assert_eq!(settled(scene, Tolerate::Fraction(0.5), 1, 1).await, StepState::Failed);
    }

    pub async fn all_may_fail_if_all_are_tolerated(scene: &Scene) {
        assert_eq!(settled(scene, Tolerate::Fraction(1.0), 7, 7).await, StepState::Succeeded);
    }

    pub async fn a_fraction_is_of_all_the_jobs_that_a_source_emitted(scene: &Scene) {
        let plan = scene.plan().step_with("source", 1, |spec| spec.feeds = Some(1));
        let plan = plan.step_with("rows", 0, |spec| spec.tolerate = Tolerate::Fraction(0.1));
        let id = plan.edge(0, 1, EdgeKind::Feeds).create().await;
        let worker = scene.worker().await;
        worker.produce(&worker.take(1).await, 20).await;
        let mut bad = 2;
        for slice in worker.drain().await {
            let (failed, succeeded) = slice.jobs.split(bad);
            bad -= failed.len();
            let part = worker.failures(&crate::store::Slice { jobs: failed, ..slice }, |at| format!("row {at}"));
            worker.report(LeaseReport { succeeded, ..part }).await;
        }
        assert_eq!((scene.step_state(id, 1).await, scene.step(id, 1).await.jobs.failed), (StepState::Succeeded, 2));
    }

    pub async fn a_failure_within_it_settles_nothing_early(scene: &Scene) {
        let plan = scene.plan().step_with("rows", 10, |spec| spec.tolerate = Tolerate::None).step("report", 1);
        let id = plan.edge(0, 1, EdgeKind::AfterFailure).create().await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "bad").await;
        assert_eq!(
            (scene.step_state(id, 0).await, scene.step_state(id, 1).await),
            (StepState::Running, StepState::Waiting)
        );
        worker.run().await;
        assert_eq!(
            (scene.step_state(id, 0).await, scene.step_state(id, 1).await),
            (StepState::Failed, StepState::Succeeded)
        );
    }
}
