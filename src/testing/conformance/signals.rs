//! Cases of `signal`: what a step waits for that somebody gives.

pub mod signal {
    use super::super::scene::*;
    use super::super::waits::{approval, approval_within, asleep};
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::state::{EdgeKind, JobState, StepState, WorkflowState};
    use crate::store::{RetryFailed, SendSignal, Signalled};

    /// A step `manager` that waits for an approval, and one behind it.
    async fn waiting(scene: &Scene) -> WorkflowId {
        scene.plan().wait("manager", approval()).step("publish", 2).edge(0, 1, EdgeKind::After).create().await
    }

    /// The same, behind a step of one job.
    async fn not_yet(scene: &Scene) -> WorkflowId {
        let plan = scene.plan().step("rows", 1).wait("manager", approval()).step("publish", 1);
        plan.edge(0, 1, EdgeKind::After).edge(1, 2, EdgeKind::After).create().await
    }

    pub async fn fresh_settles_its_step_and_releases_what_follows(scene: &Scene) {
        let id = waiting(scene).await;
        let worker = scene.worker().await;
        assert!(worker.drain().await.is_empty());
        assert_eq!(scene.signal(id, "manager").await, Signalled::default());
        assert_eq!(
            (scene.step_state(id, 0).await, scene.job_states(id, 0).await),
            (StepState::Succeeded, vec![JobState::Succeeded])
        );
        assert_eq!(scene.records(id, 0).await, [b"approved"]);
        assert_eq!(jobs_of(&worker.drain().await), [0, 1]);
    }

    pub async fn repeated_command_is_answered_the_same(scene: &Scene) {
        let id = waiting(scene).await;
        let send = scene.signal_of(id, "manager", b"approved");
        let first = scene.store.signal(send.clone()).await.unwrap();
        scene.clock.advance(5_000);
        assert_eq!(scene.store.signal(send).await.unwrap(), Signalled { woken: Default::default(), ..first });
        assert_eq!(scene.records(id, 0).await.len(), 1);
    }

    pub async fn answer_lost_counts_once(scene: &Scene) {
        let id = not_yet(scene).await;
        let send = scene.signal_of(id, "manager", b"approved");
        lose(scene.store.signal(send.clone())).await;
        assert!(scene.store.signal(send).await.unwrap().kept);
        scene.worker().await.run().await;
        assert_eq!((scene.state(id).await, scene.records(id, 1).await.len()), (WorkflowState::Succeeded, 1));
    }

    pub async fn lease_taken_back_beside_it_leaves_it_waiting(scene: &Scene) {
        let id = scene.plan().step("rows", 2).wait("manager", approval()).create().await;
        scene.worker().await.take(2).await;
        scene.leases_end().await;
        assert_eq!(scene.job_states(id, 1).await, [JobState::Deferred]);
        scene.signal(id, "manager").await;
        scene.worker().await.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn paused_is_taken_and_what_follows_waits_for_the_resume(scene: &Scene) {
        let id = waiting(scene).await;
        scene.pause(id).await;
        scene.signal(id, "manager").await;
        let worker = scene.worker().await;
        assert_eq!((scene.step_state(id, 1).await, worker.drain().await.len()), (StepState::Running, 0));
        scene.resume(id).await;
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn cancelling_is_refused(scene: &Scene) {
        let id = waiting(scene).await;
        scene.cancel(id, 60_000).await;
        let refused = scene.store.signal(scene.signal_of(id, "manager", b"late")).await;
        assert!(refused.as_ref().unwrap_err().to_string().contains("`start-again`"), "{refused:?}");
        assert_eq!(refusal(refused), ErrorKind::Refused);
        scene.tick().await;
        assert_eq!(refusal(scene.store.signal(scene.signal_of(id, "manager", b"late")).await), ErrorKind::Refused);
        assert_eq!(
            (scene.state(id).await, scene.job_states(id, 0).await),
            (WorkflowState::Cancelled, vec![JobState::Cancelled])
        );
    }

    pub async fn cancelling_is_taken_by_a_step_that_always_runs(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).wait("manager", approval()).always();
        let id = plan.edge(0, 1, EdgeKind::Always).create().await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, 1).await),
            (WorkflowState::Cancelling, StepState::Running)
        );
        scene.signal(id, "manager").await;
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, 1).await),
            (WorkflowState::Cancelled, StepState::Succeeded)
        );
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = waiting(scene).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        scene.store.delete(id).await.unwrap();
        let kind = refusal(scene.store.signal(scene.signal_of(id, "manager", b"late")).await);
        assert!(matches!(kind, ErrorKind::Refused | ErrorKind::NotFound), "{kind:?}");
        scene.tick().await;
        assert_eq!(refusal(scene.store.signal(scene.signal_of(id, "manager", b"late")).await), ErrorKind::NotFound);
    }

    pub async fn early_is_kept_and_settles_its_step_at_the_release(scene: &Scene) {
        let id = not_yet(scene).await;
        assert!(scene.signal(id, "manager").await.kept);
        assert_eq!(
            (scene.step_state(id, 1).await, scene.job_states(id, 1).await),
            (StepState::Waiting, vec![JobState::Open])
        );
        let worker = scene.worker().await;
        let reported = worker.succeed(&worker.take(1).await).await;
        assert!(!reported.more);
        assert_eq!(
            (scene.step_state(id, 1).await, scene.step_state(id, 2).await),
            (StepState::Succeeded, StepState::Running)
        );
        worker.run().await;
        assert_eq!(
            (scene.state(id).await, scene.records(id, 1).await),
            (WorkflowState::Succeeded, vec![b"approved".to_vec()])
        );
    }

    pub async fn early_twice_the_first_counts(scene: &Scene) {
        let id = not_yet(scene).await;
        let first = scene.clock.now();
        assert!(scene.signal(id, "manager").await.kept);
        scene.clock.advance(7_000);
        let second = scene.store.signal(scene.signal_of(id, "manager", b"no, after all")).await.unwrap();
        assert_eq!((second.already, second.kept), (Some(first), false));
        scene.worker().await.run().await;
        assert_eq!(scene.records(id, 1).await, [b"approved"]);
    }

    pub async fn early_for_a_step_that_is_then_skipped_ends_with_it(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).wait("manager", approval()).edge(0, 1, EdgeKind::AfterFailure);
        let id = plan.create().await;
        assert!(scene.signal(id, "manager").await.kept);
        scene.worker().await.run().await;
        assert_eq!(
            (scene.state(id).await, scene.job_states(id, 1).await),
            (WorkflowState::Succeeded, vec![JobState::Skipped])
        );
    }

    pub async fn a_second_one_is_told_when_the_first_came(scene: &Scene) {
        let id = waiting(scene).await;
        scene.clock.advance(1_000);
        let first = scene.clock.now();
        scene.signal(id, "manager").await;
        scene.clock.advance(1_000);
        assert_eq!(scene.signal(id, "manager").await.already, Some(first));
        scene.worker().await.run().await;
        assert_eq!(scene.signal(id, "manager").await.already, Some(first), "also once the workflow has finished");
    }

    pub async fn of_a_name_or_type_that_nobody_waits_for_is_refused(scene: &Scene) {
        let id = scene.plan().wait("manager", approval()).step("rows", 1).wait("nap", asleep(1_000)).create().await;
        let kind = async |send: SendSignal| refusal(scene.store.signal(send).await);
        assert_eq!(kind(scene.signal_of(id, "boss", b"?")).await, ErrorKind::NotFound);
        assert_eq!(kind(scene.signal_of(id, "rows", b"?")).await, ErrorKind::Usage);
        assert_eq!(kind(scene.signal_of(id, "nap", b"?")).await, ErrorKind::Usage);
        let veto = SendSignal { signal_type: "Veto".into(), ..scene.signal_of(id, "manager", b"?") };
        let refused = scene.store.signal(veto).await.unwrap_err();
        assert!(refused.to_string().contains("of type `Approval`"), "{refused}");
        assert_eq!(scene.job_states(id, 0).await, [JobState::Deferred]);
    }

    pub async fn for_what_waits_no_more_is_refused(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).wait("manager", approval_within(1_000)).wait("never", approval());
        let id = plan.step("beside", 1).edge(0, 2, EdgeKind::AfterFailure).create().await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        scene.wait(1_100).await;
        assert_eq!(
            (scene.step_state(id, 1).await, scene.step_state(id, 2).await),
            (StepState::Failed, StepState::Skipped)
        );
        let late = scene.store.signal(scene.signal_of(id, "manager", b"late")).await.unwrap_err();
        assert!(late.to_string().contains("is failed and waits no more; `retry` lets it wait anew"), "{late}");
        let skipped = scene.store.signal(scene.signal_of(id, "never", b"?")).await.unwrap_err();
        assert!(skipped.to_string().contains("is skipped and waits no more"), "{skipped}");
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        let over = scene.store.signal(scene.signal_of(id, "manager", b"late")).await.unwrap_err();
        assert!(over.to_string().contains("is failed and takes no signals any more; `retry`"), "{over}");
    }

    pub async fn by_an_unknown_session_is_answered_so(scene: &Scene) {
        let id = waiting(scene).await;
        let stranger = SendSignal { session: session().id, ..scene.signal_of(id, "manager", b"?") };
        assert_eq!(refusal(scene.store.signal(stranger).await), ErrorKind::NotFound);
        assert_eq!(scene.job_states(id, 0).await, [JobState::Deferred]);
    }

    pub async fn older_command_is_refused_as_unknown(scene: &Scene) {
        let id = waiting(scene).await;
        let (older, newer) = (scene.signal_of(id, "manager", b"older"), scene.retry_of(id));
        scene.store.retry(RetryFailed { step: Some(1), ..newer }).await.unwrap();
        assert_eq!(refusal(scene.store.signal(older).await), ErrorKind::Refused);
        assert_eq!(scene.job_states(id, 0).await, [JobState::Deferred]);
    }

    pub async fn wakes_who_is_idle(scene: &Scene) {
        let id = waiting(scene).await;
        let worker = scene.worker_with(|about| about.wake_port = Some(9)).await;
        assert!(worker.claim(4, 4).await.idle);
        let send = scene.signal_of(id, "manager", b"approved");
        assert_eq!(scene.store.signal(send.clone()).await.unwrap().woken.0, [9]);
        assert!(scene.store.signal(send).await.unwrap().woken.0.is_empty());
    }

    pub async fn that_carries_as_much_as_one_may_keeps_its_bounds(scene: &Scene) {
        let mut plan = scene.plan().wait("manager", approval());
        for follower in 1..=500 {
            plan =
                plan.wait(&format!("follower {follower}"), approval_within(1_000)).edge(0, follower, EdgeKind::After);
        }
        let id = plan.create().await;
        let much = vec![b'x'; 256 * 1024];
        let early = scene.store.signal(scene.signal_of(id, "follower 7", &much)).await.unwrap();
        assert!(early.kept);
        assert!(scene.store.signal(scene.signal_of(id, "manager", &much)).await.unwrap().more);
        scene.tick().await;
        assert_eq!(
            (scene.step_state(id, 7).await, scene.step_state(id, 500).await),
            (StepState::Succeeded, StepState::Running)
        );
    }
}
