//! Cases of steps that no worker runs: their release, their time, and what people command meanwhile.

use crate::clock::Millis;
use crate::state::JobState;
use crate::store::{Awaits, WaitsUntil};

/// Waits for a signal, for ever.
pub fn approval() -> Awaits {
    let signal = Some("Approval".to_owned());
    Awaits { signal, until: None, then: JobState::Failed, record: b"nobody came".to_vec(), error: "nobody came".into() }
}

/// Waits so long, then fails.
pub fn approval_within(time: Millis) -> Awaits {
    Awaits { until: Some(WaitsUntil::In(time)), ..approval() }
}

/// Waits for a time alone.
pub fn asleep(time: Millis) -> Awaits {
    let record = b"woken".to_vec();
    Awaits { signal: None, until: Some(WaitsUntil::In(time)), then: JobState::Succeeded, record, error: String::new() }
}

pub mod awaited {
    use super::super::scene::*;
    use super::*;
    use crate::id::WorkflowId;
    use crate::state::{EdgeKind, StepState, WorkflowState};
    use crate::store::{Create, RetryFailed, Tick};

    /// A step that waits, and one of one job behind it.
    async fn before_one(scene: &Scene, awaits: Awaits) -> WorkflowId {
        scene.plan().wait("wait", awaits).step("next", 1).edge(0, 1, EdgeKind::After).create().await
    }

    pub async fn fresh_is_deferred_and_handed_to_nobody(scene: &Scene) {
        let id = before_one(scene, approval()).await;
        let worker = scene.worker_with(|about| about.types.push(OTHER.into())).await;
        assert!(worker.drain().await.is_empty());
        let step = scene.step(id, 0).await;
        assert_eq!((step.state, step.jobs.deferred, step.running), (StepState::Running, 1, 0));
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, 1).await),
            (WorkflowState::Pending, StepState::Waiting)
        );
        scene.wait(LEASE).await;
        assert_eq!(scene.job_states(id, 0).await, [JobState::Deferred]);
    }

    pub async fn repeated_ticks_end_it_once(scene: &Scene) {
        let id = before_one(scene, asleep(1_000)).await;
        scene.wait(900).await;
        assert_eq!(scene.step_state(id, 0).await, StepState::Running);
        scene.wait(300).await;
        assert_eq!(
            (scene.step_state(id, 0).await, scene.records(id, 0).await),
            (StepState::Succeeded, vec![b"woken".to_vec()])
        );
        scene.worker().await.run().await;
        scene.wait(2_000).await;
        assert_eq!((scene.state(id).await, scene.records(id, 0).await.len()), (WorkflowState::Succeeded, 1));
    }

    pub async fn answer_lost_of_the_tick_ends_it_once(scene: &Scene) {
        let id = before_one(scene, approval_within(1_000)).await;
        scene.clock.advance(1_000);
        lose(scene.store.tick(Tick { lease: LEASE })).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.failed), (WorkflowState::Failed, 1));
        assert_eq!(scene.errors(id, 0).await, [("nobody came".to_owned(), 1)]);
        assert_eq!(scene.records(id, 0).await, [b"nobody came"]);
    }

    pub async fn lease_taken_back_before_it_begins_delays_it(scene: &Scene) {
        let id = scene.plan().step("rows", 1).wait("nap", asleep(1_000)).edge(0, 1, EdgeKind::After).create().await;
        scene.worker().await.take(1).await;
        scene.leases_end().await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        scene.wait(900).await;
        assert_eq!(scene.step_state(id, 1).await, StepState::Running, "its time begins with its release");
        scene.wait(200).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn paused_its_time_comes_all_the_same(scene: &Scene) {
        let id = before_one(scene, asleep(500)).await;
        scene.pause(id).await;
        scene.wait(1_000).await;
        assert_eq!((scene.state(id).await, scene.step_state(id, 1).await), (WorkflowState::Paused, StepState::Running));
        assert!(scene.worker().await.drain().await.is_empty());
        scene.resume(id).await;
        scene.worker().await.take(1).await;
    }

    pub async fn cancelling_ends_it_as_cancelled(scene: &Scene) {
        let id =
            scene.plan().wait("a", approval()).wait("b", approval_within(500)).wait("c", asleep(500)).create().await;
        scene.cancel(id, 0).await;
        // Its time comes before the chore that cancels it.
        scene.clock.advance(1_000);
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.cancelled), (WorkflowState::Cancelled, 3));
        scene.at_rest().await;
    }

    pub async fn deleted_leaves_nothing(scene: &Scene) {
        let id = before_one(scene, approval()).await;
        scene.signal(id, "wait").await;
        scene.worker().await.run().await;
        scene.delete(id).await;
        scene.at_rest().await;
    }

    pub async fn a_signal_in_time_leaves_no_timer(scene: &Scene) {
        let id = before_one(scene, approval_within(1_000)).await;
        scene.signal(id, "wait").await;
        scene.worker().await.run().await;
        scene.at_rest().await;
        scene.wait(2_000).await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 2));
    }

    pub async fn fails_is_skipped_or_goes_on_as_its_rule_says(scene: &Scene) {
        let rule = |then| Awaits { then, ..approval_within(500) };
        let plan = scene.plan().wait("fails", rule(JobState::Failed)).wait("skipped", rule(JobState::Skipped));
        let plan = plan.wait("goes on", rule(JobState::Succeeded)).step("one", 1).step("two", 1).step("three", 1);
        let id =
            plan.edge(0, 3, EdgeKind::After).edge(1, 4, EdgeKind::After).edge(2, 5, EdgeKind::After).create().await;
        scene.wait(600).await;
        let states = [scene.step_state(id, 0).await, scene.step_state(id, 1).await, scene.step_state(id, 2).await];
        assert_eq!(states, [StepState::Failed, StepState::Skipped, StepState::Succeeded]);
        scene.worker().await.run().await;
        let behind = [scene.step_state(id, 3).await, scene.step_state(id, 4).await, scene.step_state(id, 5).await];
        assert_eq!(behind, [StepState::Waiting, StepState::Succeeded, StepState::Succeeded]);
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
    }

    pub async fn one_that_timed_out_waits_anew_after_a_retry(scene: &Scene) {
        let id = before_one(scene, approval_within(1_000)).await;
        scene.wait(1_100).await;
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        assert_eq!(scene.retry(id).await.jobs, 1);
        assert_eq!(
            (scene.state(id).await, scene.job_states(id, 0).await),
            (WorkflowState::Running, vec![JobState::Deferred])
        );
        assert!(scene.errors(id, 0).await.is_empty());
        scene.wait(900).await;
        assert_eq!(scene.step_state(id, 0).await, StepState::Running);
        scene.wait(200).await;
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        scene.retry(id).await;
        scene.signal(id, "wait").await;
        scene.worker().await.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn a_signal_between_a_retry_and_its_chore_settles_it(scene: &Scene) {
        let id = before_one(scene, approval_within(1_000)).await;
        scene.wait(1_100).await;
        scene.store.retry(RetryFailed { step: Some(0), ..scene.retry_of(id) }).await.unwrap();
        // The step is open again once the chore has gone half its way.
        while scene.step_state(id, 0).await == StepState::Failed {
            assert!(scene.store.tick(Tick { lease: LEASE }).await.unwrap().more);
        }
        assert_eq!(scene.job_states(id, 0).await, [JobState::Failed]);
        assert!(scene.signal(id, "wait").await.kept);
        scene.worker().await.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 2));
    }

    pub async fn one_that_timed_out_can_be_discarded(scene: &Scene) {
        let id = before_one(scene, approval_within(500)).await;
        scene.wait(600).await;
        scene.store.retry(RetryFailed { discard: true, ..scene.retry_of(id) }).await.unwrap();
        scene.worker().await.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.skipped), (WorkflowState::Succeeded, 1));
    }

    pub async fn started_again_it_waits_anew(scene: &Scene) {
        let plan = scene.plan().wait("wait", approval());
        let id = plan.create().await;
        scene.signal(id, "wait").await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        let mut again = Create { again: true, ..scene.plan().wait("wait", approval()).call() };
        (again.workflow.id, again.workflow.generation) = (id, 1);
        scene.store.create(again).await.unwrap();
        scene.tick().await;
        assert_eq!(
            (scene.state(id).await, scene.job_states(id, 0).await),
            (WorkflowState::Pending, vec![JobState::Deferred])
        );
        assert_eq!(scene.signal(id, "wait").await.already, None);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn until_a_time_ends_then_or_at_once_if_that_has_passed(scene: &Scene) {
        let until = |time| Awaits { until: Some(WaitsUntil::At(time)), ..asleep(0) };
        let id = scene.plan().wait("past", until(START - 5_000)).wait("later", until(START + 1_000)).create().await;
        scene.tick().await;
        assert_eq!(
            (scene.step_state(id, 0).await, scene.step_state(id, 1).await),
            (StepState::Succeeded, StepState::Running)
        );
        scene.wait(1_000).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn one_behind_another_begins_with_the_others_end(scene: &Scene) {
        let plan = scene.plan().wait("one", asleep(1_000)).wait("two", asleep(1_000)).edge(0, 1, EdgeKind::After);
        let id = plan.create().await;
        scene.wait(1_900).await;
        assert_eq!(
            (scene.step_state(id, 0).await, scene.step_state(id, 1).await),
            (StepState::Succeeded, StepState::Running)
        );
        scene.wait(200).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn is_what_the_next_tick_waits_for(scene: &Scene) {
        before_one(scene, asleep(60_000)).await;
        scene.tick().await;
        let ticked = scene.store.tick(Tick { lease: LEASE }).await.unwrap();
        assert!(ticked.next_in.is_some_and(|next| next <= 60_000), "{ticked:?}");
        assert_eq!(
            scene.store.waiting(scene.list(Default::default()).await[0], 0).await.unwrap().next_due,
            Some(START + 60_000)
        );
    }

    pub async fn ten_thousand_behind_one_step_are_released_within_the_bounds(scene: &Scene) {
        let mut plan = scene.plan().step("up", 1);
        for follower in 1..=10_000 {
            plan = plan.wait(&format!("wait {follower}"), approval_within(1_000)).edge(0, follower, EdgeKind::After);
        }
        let id = plan.create().await;
        let worker = scene.worker().await;
        assert!(worker.succeed(&worker.take(1).await).await.more);
        scene.tick().await;
        assert_eq!(scene.jobs(id).await.deferred, 10_000);
        scene.clock.advance(1_000);
        scene.tick().await;
        assert_eq!((scene.jobs(id).await.failed, scene.state(id).await), (10_000, WorkflowState::Failed));
    }

    pub async fn a_thousand_that_timed_out_wait_anew_within_the_bounds(scene: &Scene) {
        let mut plan = scene.plan();
        for step in 0..1_000 {
            plan = plan.wait(&format!("wait {step}"), approval_within(1_000));
        }
        let id = plan.create().await;
        scene.clock.advance(1_000);
        scene.tick().await;
        assert_eq!(scene.retry(id).await.jobs, 1_000);
        assert_eq!((scene.jobs(id).await.deferred, scene.state(id).await), (1_000, WorkflowState::Running));
    }

    pub async fn many_large_values_at_once_keep_the_bounds(scene: &Scene) {
        scene.stay_on_one_shard();
        let large = Awaits { then: JobState::Succeeded, record: vec![b'x'; 256 * 1024], ..approval_within(1_000) };
        let mut ids = Vec::new();
        for _ in 0..12 {
            ids.push(scene.plan().wait("wait", large.clone()).create().await);
        }
        scene.clock.advance(1_000);
        scene.tick().await;
        for id in ids {
            assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        }
    }
}
