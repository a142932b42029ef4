//! Conditions: what runs when one holds, and what unless it does.

/// A step that says by its one job whether it holds: it succeeds, or is skipped.
pub mod condition {
    use super::super::scene::*;
    use super::super::waits::approval_within;
    use crate::id::WorkflowId;
    use crate::state::{EdgeKind, JobState, StepState as S, WorkflowState};
    use crate::store::{Awaits, LeaseReport, RetryFailed, Slice};

    const WHEN: u32 = 1;
    const UNLESS: u32 = 2;
    const JOIN: u32 = 3;

    /// A condition, a step for each answer, and one behind both.
    async fn branches(scene: &Scene) -> WorkflowId {
        let plan = scene.plan().step("condition", 1).step("when", 2).step("unless", 2).step("join", 1);
        let plan = plan.edge(0, WHEN, EdgeKind::When).edge(0, UNLESS, EdgeKind::Unless);
        plan.edge(WHEN, JOIN, EdgeKind::After).edge(UNLESS, JOIN, EdgeKind::After).create().await
    }

    /// What a worker reports of a condition that does not hold.
    fn denial(worker: &Worker<'_>, slice: &Slice) -> LeaseReport {
        LeaseReport { skipped: slice.jobs, ..worker.part(slice) }
    }

    async fn states(scene: &Scene, id: WorkflowId) -> [S; 4] {
        scene.tick().await;
        let mut states = [S::Waiting; 4];
        for (number, state) in (0..).zip(&mut states) {
            *state = scene.step_state(id, number).await;
        }
        states
    }

    pub async fn that_holds_releases_what_runs_when_it_does(scene: &Scene) {
        let id = branches(scene).await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        assert_eq!(states(scene, id).await, [S::Succeeded, S::Running, S::Skipped, S::Waiting]);
        worker.run().await;
        assert_eq!(states(scene, id).await, [S::Succeeded, S::Succeeded, S::Skipped, S::Succeeded]);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.at_rest().await;
    }

    pub async fn that_does_not_hold_releases_the_others(scene: &Scene) {
        let id = branches(scene).await;
        let worker = scene.worker().await;
        worker.report(denial(&worker, &worker.take(1).await)).await;
        assert_eq!(states(scene, id).await, [S::Skipped, S::Skipped, S::Running, S::Waiting]);
        worker.run().await;
        assert_eq!(states(scene, id).await, [S::Skipped, S::Skipped, S::Succeeded, S::Succeeded]);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.at_rest().await;
    }

    pub async fn repeated_report_decides_once(scene: &Scene) {
        let id = branches(scene).await;
        let worker = scene.worker().await;
        let part = denial(&worker, &worker.take(1).await);
        worker.report(part.clone()).await;
        let late = LeaseReport { skipped: Default::default(), succeeded: part.skipped, number: 2, ..part.clone() };
        assert_eq!(worker.try_report(vec![part, late]).await.expect("a report").refused.len(), 2);
        assert_eq!(states(scene, id).await, [S::Skipped, S::Skipped, S::Running, S::Waiting]);
        scene.check().await;
    }

    pub async fn answer_lost_decides_once(scene: &Scene) {
        let id = branches(scene).await;
        let worker = scene.worker().await;
        let part = denial(&worker, &worker.take(1).await);
        lose(worker.try_report(vec![part.clone()])).await;
        worker.report(part).await;
        assert_eq!(states(scene, id).await, [S::Skipped, S::Skipped, S::Running, S::Waiting]);
        assert_eq!(count_jobs(&worker.drain().await), 2);
    }

    pub async fn lease_taken_back_is_answered_by_who_has_it_next(scene: &Scene) {
        let id = branches(scene).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let slice = worker.take(1).await;
        scene.leases_end().await;
        let again = other.take(1).await;
        assert_eq!(worker.try_report(vec![denial(&worker, &slice)]).await.expect("a report").refused, [slice.lease]);
        other.succeed(&again).await;
        assert_eq!(states(scene, id).await, [S::Succeeded, S::Running, S::Skipped, S::Waiting]);
    }

    pub async fn paused_decides_and_hands_nothing_out(scene: &Scene) {
        let id = branches(scene).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.pause(id).await;
        worker.report(denial(&worker, &slice)).await;
        assert_eq!(states(scene, id).await, [S::Skipped, S::Skipped, S::Running, S::Waiting]);
        assert!(worker.drain().await.is_empty());
    }

    pub async fn cancelling_cancels_both(scene: &Scene) {
        let id = branches(scene).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        worker.report(denial(&worker, &slice)).await;
        assert_eq!(states(scene, id).await, [S::Skipped, S::Cancelled, S::Cancelled, S::Cancelled]);
        scene.at_rest().await;
    }

    pub async fn deleted_leaves_nothing(scene: &Scene) {
        let id = branches(scene).await;
        let worker = scene.worker().await;
        worker.report(denial(&worker, &worker.take(1).await)).await;
        worker.run().await;
        scene.delete(id).await;
        scene.at_rest().await;
    }

    pub async fn that_failed_lets_all_wait_and_decides_once_it_is_repaired(scene: &Scene) {
        for holds in [true, false] {
            let id = branches(scene).await;
            let worker = scene.worker().await;
            worker.fail(&worker.take(1).await, "no such table").await;
            assert_eq!(states(scene, id).await, [S::Failed, S::Waiting, S::Waiting, S::Waiting]);
            assert_eq!(scene.state(id).await, WorkflowState::Failed);
            scene.at_rest().await;
            scene.retry(id).await;
            let slice = worker.take(1).await;
            if holds {
                worker.succeed(&slice).await;
            } else {
                worker.report(denial(&worker, &slice)).await;
            }
            worker.run().await;
            let (condition, when, unless) = match holds {
                true => (S::Succeeded, S::Succeeded, S::Skipped),
                false => (S::Skipped, S::Skipped, S::Succeeded),
            };
            assert_eq!(states(scene, id).await, [condition, when, unless, S::Succeeded]);
            scene.leave(&worker).await;
        }
    }

    pub async fn that_failed_and_is_discarded_counts_as_not_holding(scene: &Scene) {
        let id = branches(scene).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "no such table").await;
        scene.tick().await;
        scene.store.retry(RetryFailed { discard: true, ..scene.retry_of(id) }).await.expect("a discard");
        assert_eq!(states(scene, id).await, [S::Skipped, S::Skipped, S::Running, S::Waiting]);
    }

    pub async fn that_never_had_its_turn_skips_both(scene: &Scene) {
        let plan = scene.plan().step("first", 1).step("second", 1).step("when", 2).step("unless", 2);
        let plan = plan.edge(0, 1, EdgeKind::When).edge(1, 2, EdgeKind::When);
        let id = plan.edge(1, 3, EdgeKind::Unless).create().await;
        let worker = scene.worker().await;
        worker.report(denial(&worker, &worker.take(1).await)).await;
        assert_eq!(states(scene, id).await, [S::Skipped; 4]);
        let edges = scene.store.edges(id, 3, true, 10).await.expect("edges");
        assert!(edges[0].passed_over && edges[0].state == S::Skipped);
        assert!(!scene.store.edges(id, 1, true, 10).await.expect("edges")[0].passed_over);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.at_rest().await;
    }

    pub async fn of_several_all_must_hold(scene: &Scene) {
        let plan = scene.plan().step("a", 1).step("b", 1).step("both", 1).step("neither", 1);
        let plan = plan.edge(0, 2, EdgeKind::When).edge(1, 2, EdgeKind::When);
        let id = plan.edge(0, 3, EdgeKind::Unless).edge(1, 3, EdgeKind::Unless).create().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        worker.report(denial(&worker, &slices[0])).await;
        assert_eq!(states(scene, id).await, [S::Skipped, S::Running, S::Waiting, S::Waiting]);
        worker.succeed(&slices[1]).await;
        assert_eq!(states(scene, id).await, [S::Skipped, S::Succeeded, S::Skipped, S::Skipped]);
    }

    pub async fn that_is_a_wait_does_not_hold_if_its_time_is_over(scene: &Scene) {
        let awaits = Awaits { then: JobState::Skipped, ..approval_within(5_000) };
        let plan = scene.plan().wait("approval", awaits).step("when", 1).step("unless", 1).step("join", 1);
        let id = plan.edge(0, WHEN, EdgeKind::When).edge(0, UNLESS, EdgeKind::Unless).create().await;
        assert_eq!(states(scene, id).await[..3], [S::Running, S::Waiting, S::Waiting]);
        scene.wait(6_000).await;
        assert_eq!(states(scene, id).await[..3], [S::Skipped, S::Skipped, S::Running]);
    }
}
