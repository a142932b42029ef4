//! Cases of `resume_step`: a step that paused when more of its jobs had failed than it tolerates.

pub mod resume_step {
    use super::super::forwarded::take_over;
    use super::super::policies::{becomes_suspect, fail_some, only, retry_mended, rows};
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::state::{EdgeKind, FailurePolicy, StepState, WorkflowState};
    use crate::store::{LeaseReport, Pausable, Slice};

    const PAUSE: FailurePolicy = FailurePolicy::Pause;

    /// A step of ten jobs that has paused, since two have failed and one may; and a worker.
    async fn paused(scene: &Scene) -> (WorkflowId, Worker<'_>) {
        let id = rows(scene, 10, PAUSE).await;
        let worker = scene.worker().await;
        fail_some(&worker, 2).await;
        assert!(is_paused(scene, id).await && worker.drain().await.is_empty());
        (id, worker)
    }

    async fn is_paused(scene: &Scene, id: WorkflowId) -> bool {
        scene.step(id, 0).await.is_paused()
    }

    pub async fn fresh_goes_on_with_a_step_that_paused_at_its_tolerance(scene: &Scene) {
        let id = rows(scene, 10, PAUSE).await;
        let worker = scene.worker().await;
        fail_some(&worker, 1).await;
        assert!(!is_paused(scene, id).await);
        fail_some(&worker, 1).await;
        assert!(is_paused(scene, id).await && worker.drain().await.is_empty());
        assert_eq!(
            (scene.step_state(id, 0).await, scene.state(id).await, scene.store.waiting(id, 0).await.unwrap().parked),
            (StepState::Running, WorkflowState::Running, true)
        );
        scene.check().await;
        assert!(scene.resume_step(id, 0).await);
        assert!(!is_paused(scene, id).await);
        assert_eq!(count_jobs(&worker.drain().await), 8);
    }

    pub async fn fresh_wakes_who_is_idle(scene: &Scene) {
        let (id, _) = paused(scene).await;
        let idle = scene.worker_with(|about| about.wake_port = Some(7)).await;
        assert!(idle.claim(1, 1).await.idle);
        assert_eq!(scene.store.resume_step(scene.resume_step_of(id, 0)).await.unwrap().woken.0, [7]);
    }

    pub async fn fresh_leaves_a_step_that_is_not_paused_as_it_is(scene: &Scene) {
        let id = rows(scene, 10, PAUSE).await;
        assert!(!scene.resume_step(id, 0).await);
        assert!(!scene.resume_step(id, 1).await);
        let worker = scene.worker().await;
        fail_some(&worker, 2).await;
        assert!(is_paused(scene, id).await);
    }

    pub async fn repeated_is_answered_the_same_and_lifts_no_second_pause(scene: &Scene) {
        let (id, worker) = paused(scene).await;
        let command = scene.resume_step_of(id, 0);
        assert!(scene.store.resume_step(command).await.unwrap().was_paused);
        fail_some(&worker, 2).await;
        assert!(is_paused(scene, id).await);
        assert!(scene.store.resume_step(command).await.unwrap().was_paused, "it is answered as it was");
        assert!(is_paused(scene, id).await);
    }

    pub async fn answer_lost_goes_on_once(scene: &Scene) {
        let (id, worker) = paused(scene).await;
        let command = scene.resume_step_of(id, 0);
        lose(scene.store.resume_step(command)).await;
        assert!(scene.store.resume_step(command).await.unwrap().was_paused);
        assert_eq!(count_jobs(&worker.drain().await), 8);
    }

    pub async fn lease_taken_back_waits_for_it(scene: &Scene) {
        let id = rows(scene, 5, PAUSE).await;
        let (worker, dead) = (scene.worker().await, scene.worker().await);
        dead.take(1).await;
        fail_some(&worker, 2).await;
        scene.leases_end().await;
        assert!(worker.drain().await.is_empty());
        scene.resume_step(id, 0).await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 3, 4]);
    }

    pub async fn paused_workflow_waits_for_its_own_resume_too(scene: &Scene) {
        for step_first in [true, false] {
            let (id, worker) = paused(scene).await;
            scene.pause(id).await;
            assert!(worker.drain().await.is_empty());
            if step_first {
                scene.resume_step(id, 0).await;
            } else {
                scene.resume(id).await;
            }
            assert!(worker.drain().await.is_empty());
            if step_first {
                scene.resume(id).await;
            } else {
                scene.resume_step(id, 0).await;
            }
            assert_eq!(count_jobs(&worker.drain().await), 8);
            scene.leave(&worker).await;
            scene.cancel(id, 0).await;
            scene.tick().await;
        }
    }

    pub async fn paused_queue_waits_for_its_own_resume_too(scene: &Scene) {
        let (id, worker) = paused(scene).await;
        let queue = || Pausable::Queue(QUEUE.into());
        scene.store.set_paused(queue(), true).await.unwrap();
        scene.resume_step(id, 0).await;
        assert!(worker.drain().await.is_empty());
        scene.store.set_paused(queue(), false).await.unwrap();
        assert_eq!(count_jobs(&worker.drain().await), 8);
    }

    pub async fn cancelling_ends_a_paused_step(scene: &Scene) {
        let (id, _) = paused(scene).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.cancelled), (WorkflowState::Cancelled, 9));
        scene.at_rest().await;
    }

    pub async fn cancelling_is_taken_for_a_step_that_always_runs(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).step_with("tidy", 5, |spec| spec.policy = PAUSE).always();
        let id = plan.edge(0, 1, EdgeKind::Always).create().await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        let worker = scene.worker().await;
        fail_some(&worker, 1).await;
        assert!(worker.drain().await.is_empty());
        assert!(scene.resume_step(id, 1).await);
        worker.run().await;
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, 1).await),
            (WorkflowState::Cancelled, StepState::Failed)
        );
    }

    pub async fn finished_is_refused(scene: &Scene) {
        let id = scene.succeeded(1).await;
        assert_eq!(refusal(scene.store.resume_step(scene.resume_step_of(id, 0)).await), ErrorKind::Refused);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(1).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.resume_step(scene.resume_step_of(id, 0)).await), ErrorKind::NotFound);
    }

    pub async fn a_repeated_report_does_not_pause_again(scene: &Scene) {
        let id = rows(scene, 10, PAUSE).await;
        let worker = scene.worker().await;
        let slice = worker.take(4).await;
        let part = worker.failure(&Slice { jobs: job(0).or(job(1)), ..slice.clone() }, "bad");
        worker.report(part.clone()).await;
        assert!(is_paused(scene, id).await);
        scene.resume_step(id, 0).await;
        worker.report(part).await;
        assert!(!is_paused(scene, id).await, "the report is the one that paused it before");
        worker.succeed(&only(&slice, 2)).await;
        assert!(!is_paused(scene, id).await, "those that had failed when it was resumed pause it no more");
    }

    pub async fn as_many_more_failures_as_it_tolerates_pause_it_again(scene: &Scene) {
        let (id, worker) = paused(scene).await;
        scene.resume_step(id, 0).await;
        fail_some(&worker, 1).await;
        assert!(!is_paused(scene, id).await);
        fail_some(&worker, 1).await;
        assert!(is_paused(scene, id).await && worker.drain().await.is_empty());
        scene.resume_step(id, 0).await;
        worker.run().await;
        let step = scene.step(id, 0).await;
        assert_eq!((step.state, step.jobs.failed, step.exceeded), (StepState::Failed, 4, false));
    }

    pub async fn later_reports_leave_it_paused(scene: &Scene) {
        let id = rows(scene, 10, PAUSE).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let slice = other.take(3).await;
        fail_some(&worker, 2).await;
        other.fail(&only(&slice, 0), "bad").await;
        assert!(is_paused(scene, id).await);
        other.succeed(&only(&slice, 1)).await;
        other.give_back(&only(&slice, 2)).await;
        assert!(is_paused(scene, id).await && worker.drain().await.is_empty());
        scene.resume_step(id, 0).await;
        fail_some(&worker, 1).await;
        assert!(!is_paused(scene, id).await, "what failed while it was paused is forgiven, too");
    }

    pub async fn what_comes_back_meanwhile_is_handed_out_after_it(scene: &Scene) {
        let id = rows(scene, 8, PAUSE).await;
        let worker = scene.worker().await;
        worker.retry_in(&worker.take(1).await, 300).await;
        let slice = worker.take(1).await;
        worker.report(LeaseReport { postponed: vec![(300, slice.jobs)], ..worker.part(&slice) }).await;
        let held = worker.take(1).await;
        fail_some(&worker, 2).await;
        // All else is under leases, so that nothing of it is in its line when it comes back.
        assert!(worker.drain().await.is_empty());
        scene.wait(500).await;
        worker.give_back(&held).await;
        assert!(worker.drain().await.is_empty());
        scene.resume_step(id, 0).await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 5, 6, 7]);
    }

    pub async fn a_step_at_its_limit_goes_on_up_to_its_limit(scene: &Scene) {
        let plan = scene.plan().step_with("rows", 6, |spec| (spec.policy, spec.max_in_flight) = (PAUSE, Some(2)));
        let id = plan.create().await;
        let worker = scene.worker().await;
        let (first, second) = (worker.take(1).await, worker.take(1).await);
        assert!(worker.drain().await.is_empty());
        worker.fail(&first, "bad").await;
        assert!(worker.drain().await.is_empty(), "the room that is there is of no use to a paused step");
        scene.resume_step(id, 0).await;
        assert_eq!(count_jobs(&worker.drain().await), 1);
        worker.succeed(&second).await;
        assert_eq!(count_jobs(&worker.drain().await), 1);
    }

    pub async fn suspect_work_goes_on_too(scene: &Scene) {
        let plan = scene.plan().step_with("rows", 3, |spec| (spec.policy, spec.max_recoveries) = (PAUSE, 5));
        let id = plan.create().await;
        becomes_suspect(scene).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        worker.fail(&only(&slice, 1), "bad").await;
        worker.succeed(&only(&slice, 2)).await;
        let wish = crate::store::Claim { alone: true, ..worker.wish(1, 1) };
        assert!(is_paused(scene, id).await && worker.send(wish).await.slices.is_empty());
        scene.resume_step(id, 0).await;
        assert_eq!(worker.take_alone().await.jobs, job(0));
    }

    pub async fn other_steps_run_meanwhile(scene: &Scene) {
        let plan = scene.plan().step_with("rows", 5, |spec| spec.policy = PAUSE).step("beside", 3).step("behind", 1);
        let id = plan.edge(1, 2, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        // The steps of a workflow take turns.
        let slices = [worker.take(1).await, worker.take(1).await, worker.take(1).await];
        let (rows, beside): (Vec<_>, Vec<_>) = slices.iter().partition(|slice| slice.step == 0);
        worker.fail(rows[0], "bad").await;
        for slice in &rows[1..] {
            worker.give_back(slice).await;
        }
        worker.succeed(beside[0]).await;
        worker.run().await;
        assert_eq!((scene.step_state(id, 2).await, scene.step(id, 0).await.jobs.succeeded), (StepState::Succeeded, 0));
        scene.resume_step(id, 0).await;
        assert_eq!(count_jobs(&worker.drain().await), 4);
    }

    pub async fn the_last_leases_may_settle_a_paused_step(scene: &Scene) {
        let id = rows(scene, 4, PAUSE).await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        assert_eq!(slices[0].jobs.len(), 2);
        worker.fail(&slices[0], "bad").await;
        assert!(is_paused(scene, id).await);
        for slice in &slices[1..] {
            worker.succeed(slice).await;
        }
        let step = scene.step(id, 0).await;
        assert_eq!(
            (step.state, step.exceeded, scene.state(id).await),
            (StepState::Failed, false, WorkflowState::Failed)
        );
        scene.at_rest().await;
    }

    pub async fn a_retry_lifts_the_pause_too(scene: &Scene) {
        let (id, worker) = paused(scene).await;
        scene.retry(id).await;
        assert_eq!(count_jobs(&worker.drain().await), 10);
        scene.leave(&worker).await;
        let heir = scene.worker().await;
        fail_some(&heir, 1).await;
        assert!(!is_paused(scene, id).await);
        fail_some(&heir, 1).await;
        retry_mended(scene, id, 0).await;
        assert!(!is_paused(scene, id).await, "the one that was not mended is forgiven");
        assert_eq!(count_jobs(&heir.drain().await), 9);
    }

    pub async fn forwarded_lease_is_not_taken_over_before_it(scene: &Scene) {
        let id = rows(scene, 10, PAUSE).await;
        let (sender, worker) = (take_over::forwarder(scene).await, scene.worker().await);
        let (lease, _) = take_over::forward(&sender, 3).await;
        fail_some(&worker, 2).await;
        assert!(take_over::is_gone(&take_over::take(scene, &worker, &[lease]).await));
        scene.tick().await;
        scene.resume_step(id, 0).await;
        assert_eq!(count_jobs(&worker.drain().await), 8);
    }
}
