//! What people command of workflows that run: cancel, pause, resume.

pub mod cancel {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::{EdgeKind, JobState, StepState, WorkflowState};
    use crate::store::LeaseReport;

    pub async fn fresh_comes_to_its_end(scene: &Scene) {
        let id = scene.rows(3_000).await;
        scene.cancel(id, 0).await;
        assert!(scene.worker().await.drain().await.is_empty(), "from the moment of its return");
        scene.clock.advance(5);
        scene.tick().await;
        let row = scene.row(id).await;
        assert_eq!(
            (row.state, row.jobs.cancelled, row.finished_at),
            (WorkflowState::Cancelled, 3_001, Some(START + 5))
        );
        assert_eq!(
            (scene.step_state(id, 0).await, scene.step_state(id, 1).await),
            (StepState::Cancelled, StepState::Cancelled)
        );
        scene.at_rest().await;
    }

    pub async fn repeated_counts_what_runs_within_its_grace_and_no_more(scene: &Scene) {
        let id = scene.rows(3_000).await;
        let worker = scene.worker().await;
        let slices = worker.claim(10, 2).await.slices;
        scene.cancel(id, 300).await;
        scene.cancel(id, 300).await;
        assert!(worker.claim(10, 2).await.slices.is_empty());
        assert_eq!(worker.succeed(&slices[0]).await.cancelled, [slices[0].lease]);
        worker.renew(&[slices[1].lease]).await;
        scene.wait(1_000).await;
        let row = scene.row(id).await;
        assert_eq!((row.state, row.jobs.succeeded, row.jobs.cancelled), (WorkflowState::Cancelled, 10, 2_991));
    }

    pub async fn a_silent_worker_loses_its_leases_with_the_grace(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker_with(|about| about.lease = 60_000).await;
        let slice = worker.take(2).await;
        scene.cancel(id, 300).await;
        scene.wait(200).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelling);
        scene.wait(200).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease]);
    }

    pub async fn answer_lost_after_its_end_changes_nothing(scene: &Scene) {
        let id = scene.lone(3).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        let before = scene.row(id).await;
        scene.clock.advance(50);
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(scene.row(id).await, before);
    }

    pub async fn lease_taken_back_at_the_end_of_the_grace(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.cancel(id, 300).await;
        scene.wait(200).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelling);
        // Whoever renews hears of it, and keeps its lease no longer for that.
        worker.renew(&[slice.lease]).await;
        scene.wait(200).await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.cancelled), (WorkflowState::Cancelled, 4));
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease]);
        assert_eq!(scene.job_states(id, 0).await, [JobState::Cancelled; 4]);
        assert!(scene.recoveries(id, 0).await.is_empty(), "no worker died");
    }

    pub async fn paused_workflow_is_cancelled(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.pause(id).await;
        scene.worker().await.drain().await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.cancelled), (WorkflowState::Cancelled, 4));
        scene.at_rest().await;
    }

    pub async fn cancelling_again_does_not_lengthen_the_grace(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.cancel(id, 300).await;
        scene.cancel(id, 60_000).await;
        worker.renew(&[slice.lease]).await;
        scene.wait(500).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(2).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.cancel(id, 0).await), ErrorKind::NotFound);
    }

    pub async fn finished_is_refused(scene: &Scene) {
        for id in [scene.succeeded(2).await, scene.failed(2).await] {
            let before = scene.row(id).await;
            assert_eq!(refusal(scene.store.cancel(id, 0).await), ErrorKind::Refused);
            assert_eq!(scene.row(id).await, before);
        }
    }

    pub async fn drops_what_waits_for_its_retry(scene: &Scene) {
        let id = scene.lone(2).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.retry_in(&slice, 60_000).await;
        }
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.retrying), (WorkflowState::Cancelled, 0));
        scene.at_rest().await;
    }

    pub async fn leaves_what_has_settled_as_it_is(scene: &Scene) {
        let plan = scene.plan().step("done", 2).step("half", 4).edge(0, 1, EdgeKind::After);
        let id = plan.create().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.succeed(&slice).await;
        }
        let slice = worker.take(2).await;
        worker.fail(&slice, "bad").await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(scene.step_state(id, 0).await, StepState::Succeeded);
        let half = scene.step(id, 1).await;
        assert_eq!((half.state, half.jobs.failed, half.jobs.cancelled), (StepState::Failed, 2, 2));
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
    }

    /// A step that works, and one that always cleans up behind it.
    async fn with_cleanup(scene: &Scene) -> crate::WorkflowId {
        scene.plan().step("work", 4).step("clean up", 2).always().edge(0, 1, EdgeKind::Always).create().await
    }

    pub async fn an_always_step_runs_behind_what_was_cancelled(scene: &Scene) {
        let id = with_cleanup(scene).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, 1).await),
            (WorkflowState::Cancelling, StepState::Running)
        );
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        assert!(slices.iter().all(|slice| slice.step == 1));
        for slice in &slices {
            let reported = worker.succeed(slice).await;
            assert!(reported.cancelled.is_empty(), "nobody is told to stop it");
        }
        let jobs = scene.jobs(id).await;
        assert_eq!((scene.state(id).await, jobs.succeeded, jobs.cancelled), (WorkflowState::Cancelled, 2, 4));
    }

    pub async fn an_always_step_keeps_its_lease_past_the_grace(scene: &Scene) {
        let id = with_cleanup(scene).await;
        scene.cancel(id, 300).await;
        scene.tick().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        let leases: Vec<u64> = slices.iter().map(|slice| slice.lease).collect();
        for _ in 0..10 {
            scene.wait(300).await;
            let renewed = worker.renew(&leases).await;
            assert_eq!((renewed.lost, renewed.cancelled), (vec![], vec![]));
        }
        for slice in &slices {
            assert!(worker.succeed(slice).await.refused.is_empty());
        }
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
    }

    pub async fn an_always_step_retries_and_outlives_its_worker(scene: &Scene) {
        let id = with_cleanup(scene).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        let dies = scene.worker().await;
        let slices = dies.drain().await;
        dies.retry_in(&slices[0], 300).await;
        scene.wait(2 * LEASE).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelling);
        scene.worker().await.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Cancelled, 2));
    }

    pub async fn an_always_step_that_a_pause_has_parked_runs(scene: &Scene) {
        let id = with_cleanup(scene).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.succeed(&slice).await;
        }
        scene.pause(id).await;
        assert!(worker.drain().await.is_empty());
        scene.cancel(id, 0).await;
        scene.tick().await;
        worker.run().await;
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, 1).await),
            (WorkflowState::Cancelled, StepState::Succeeded)
        );
    }

    pub async fn an_always_step_behind_another_runs_too(scene: &Scene) {
        let plan = scene.plan().step("work", 1).step("first", 1).always().step("second", 1).always();
        let id = plan.edge(0, 1, EdgeKind::Always).edge(1, 2, EdgeKind::Always).create().await;
        scene.cancel(id, 0).await;
        scene.worker().await.run().await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Succeeded);
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
    }

    pub async fn jobs_that_were_stopped_count_as_cancelled(scene: &Scene) {
        let id = scene.lone(2).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(id, 5_000).await;
        worker.report(LeaseReport { cancelled: slice.jobs, ..worker.part(&slice) }).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.cancelled), (WorkflowState::Cancelled, 2));
    }

    pub async fn harms_no_other_workflow(scene: &Scene) {
        let (one, other) = (scene.rows(3).await, scene.rows(3).await);
        scene.cancel(one, 0).await;
        scene.worker().await.run().await;
        assert_eq!(
            (scene.state(one).await, scene.state(other).await),
            (WorkflowState::Cancelled, WorkflowState::Succeeded)
        );
    }
}

pub mod pause {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::WorkflowState;

    pub async fn fresh_hands_nothing_out_and_lets_run_what_runs(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.pause(id).await;
        assert_eq!(scene.state(id).await, WorkflowState::Paused);
        assert!(worker.drain().await.is_empty());
        assert!(worker.succeed(&slice).await.cancelled.is_empty());
        assert_eq!((scene.jobs(id).await.succeeded, scene.state(id).await), (2, WorkflowState::Paused));
    }

    pub async fn repeated_needs_one_resume(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        scene.pause(id).await;
        scene.pause(id).await;
        assert_eq!(scene.state(id).await, WorkflowState::Paused);
        scene.resume(id).await;
        assert_eq!(count_jobs(&worker.drain().await), 10);
    }

    pub async fn answer_lost_behind_a_claim_that_parked(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        scene.pause(id).await;
        assert!(worker.drain().await.is_empty());
        scene.pause(id).await;
        assert!(worker.drain().await.is_empty() && scene.store.waiting(id, 0).await.unwrap().parked);
    }

    pub async fn lease_taken_back_is_handed_to_nobody(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(2).await;
        scene.pause(id).await;
        scene.leases_end().await;
        assert_eq!(scene.step(id, 0).await.running, 0);
        assert!(scene.worker().await.drain().await.is_empty());
    }

    pub async fn paused_before_its_first_claim_is_not_started(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.pause(id).await;
        scene.worker().await.drain().await;
        assert_eq!(scene.row(id).await.started_at, None);
        scene.resume(id).await;
        assert_eq!(scene.state(id).await, WorkflowState::Pending);
    }

    pub async fn cancelling_is_refused(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(1).await;
        scene.cancel(id, 60_000).await;
        assert_eq!(refusal(scene.store.pause(id).await), ErrorKind::Refused);
        assert_eq!(scene.state(id).await, WorkflowState::Cancelling);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(2).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.pause(id).await), ErrorKind::NotFound);
    }

    pub async fn finished_is_refused(scene: &Scene) {
        for id in [scene.succeeded(2).await, scene.failed(2).await] {
            assert_eq!(refusal(scene.store.pause(id).await), ErrorKind::Refused);
            assert!(scene.state(id).await.is_finished());
        }
    }

    pub async fn holds_up_no_other_workflow(scene: &Scene) {
        let (one, other) = (scene.lone(10).await, scene.lone(10).await);
        scene.pause(one).await;
        let slices = scene.worker().await.drain().await;
        assert!(slices.iter().all(|slice| slice.workflow == other));
        assert_eq!(count_jobs(&slices), 10);
    }
}

pub mod resume {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::WorkflowState;

    pub async fn fresh_hands_out_again_in_order(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        worker.take(2).await;
        scene.pause(id).await;
        assert!(worker.drain().await.is_empty());
        scene.resume(id).await;
        assert_eq!(scene.state(id).await, WorkflowState::Running);
        assert_eq!(jobs_of(&[worker.take(3).await]), [2, 3, 4]);
    }

    pub async fn repeated_changes_nothing(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        scene.pause(id).await;
        worker.drain().await;
        for _ in 0..3 {
            scene.resume(id).await;
        }
        assert_eq!(jobs_of(&worker.drain().await), (0..10).collect::<Vec<_>>());
        scene.resume(id).await;
        assert!(worker.drain().await.is_empty());
    }

    pub async fn answer_lost_wakes_nobody_twice(scene: &Scene) {
        let id = scene.lone(10).await;
        scene.pause(id).await;
        for port in [1, 2] {
            let idle = scene.worker_with(|about| about.wake_port = Some(port)).await;
            assert!(idle.claim(1, 1).await.empty);
        }
        assert_eq!((scene.resume(id).await.len(), scene.resume(id).await.len()), (1, 0));
    }

    pub async fn lease_taken_back_meanwhile_is_handed_out(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(2).await;
        scene.pause(id).await;
        scene.leases_end().await;
        let worker = scene.worker().await;
        worker.drain().await;
        scene.resume(id).await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3]);
    }

    pub async fn paused_again_hands_nothing_out(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        for _ in 0..3 {
            scene.pause(id).await;
            assert!(worker.drain().await.is_empty());
            scene.resume(id).await;
            assert_eq!(worker.claim(1, 1).await.slices.len(), 1);
        }
        assert_eq!(scene.step(id, 0).await.running, 3);
    }

    pub async fn cancelling_is_refused(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.pause(id).await;
        scene.cancel(id, 0).await;
        assert_eq!(refusal(scene.store.resume(id).await), ErrorKind::Refused);
        assert!(scene.worker().await.drain().await.is_empty());
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(2).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.resume(id).await), ErrorKind::NotFound);
    }

    pub async fn finished_is_refused(scene: &Scene) {
        let id = scene.succeeded(2).await;
        assert_eq!(refusal(scene.store.resume(id).await), ErrorKind::Refused);
    }

    pub async fn brings_back_more_lines_than_one_operation_does(scene: &Scene) {
        let mut plan = scene.plan();
        for step in 0..210 {
            plan = plan.step_with(&format!("step {step}"), 1, |spec| spec.priority = step);
        }
        let id = plan.create().await;
        scene.pause(id).await;
        let worker = scene.worker().await;
        // A claim looks at 64 lines and parks what it meets there.
        for _ in 0..10 {
            worker.claim(1, 16).await;
        }
        scene.resume(id).await;
        scene.tick().await;
        assert_eq!(count_jobs(&worker.drain().await), 210);
    }

    pub async fn brings_back_a_step_that_was_at_its_limit(scene: &Scene) {
        let id = scene.plan().step_with("rows", 6, |spec| spec.max_in_flight = Some(2)).create().await;
        let worker = scene.worker().await;
        let held = worker.drain().await;
        assert!(worker.drain().await.is_empty());
        scene.pause(id).await;
        for slice in &held {
            worker.succeed(slice).await;
        }
        assert!(worker.drain().await.is_empty());
        scene.resume(id).await;
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }
}
