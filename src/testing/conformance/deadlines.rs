//! Cases of deadlines: lone jobs that are cancelled if they have not settled by a time.

use super::lone_cancel::{lane_of, rows, states};
use super::scene::*;
use crate::error::ErrorKind;
use crate::id::WorkflowId;
use crate::slice::Mask;
use crate::state::JobState;
use crate::store::{Enqueue, LeaseReport, LoneJobs};

/// Jobs of which those in `jobs` have half a second.
fn hurried(scene: &Scene, count: u32, jobs: Mask) -> LoneJobs {
    LoneJobs { deadlines: vec![(scene.clock.now() + 500, jobs)], ..rows(scene, count) }
}

async fn lane_of_hurried(scene: &Scene, count: u32, jobs: Mask) -> WorkflowId {
    lane_of(scene, hurried(scene, count, jobs)).await
}

pub mod deadline {
    use super::*;

    pub async fn fresh_cancels_what_waits_at_its_time_and_not_before(scene: &Scene) {
        let lane = lane_of_hurried(scene, 3, job(0).or(job(2))).await;
        scene.wait(400).await;
        assert_eq!(scene.jobs(lane).await.cancelled, 0);
        scene.wait(100).await;
        let open = JobState::Open;
        assert_eq!(states(scene, lane).await, [JobState::Cancelled, open, JobState::Cancelled]);
        assert_eq!(jobs_of(&scene.worker().await.drain().await), [1]);
    }

    pub async fn repeated_enqueue_keeps_one(scene: &Scene) {
        let Enqueue { session, command, .. } = scene.enqueue_of(Vec::new());
        let sent = Enqueue { session, command, jobs: vec![hurried(scene, 2, job(0))] };
        scene.store.enqueue(sent.clone()).await.unwrap();
        scene.store.enqueue(sent).await.unwrap();
        scene.wait(600).await;
        let row = scene.jobs(scene.lane(ROW, 0).id).await;
        assert_eq!((row.total, row.cancelled), (2, 1));
    }

    pub async fn answer_lost_of_the_tick_cancels_once(scene: &Scene) {
        let lane = lane_of_hurried(scene, 2, job(0)).await;
        scene.clock.advance(500);
        lose(scene.store.tick(crate::store::Tick { lease: LEASE })).await;
        scene.tick().await;
        assert_eq!(scene.jobs(lane).await.cancelled, 1);
    }

    pub async fn lease_taken_back_behind_it_cancels(scene: &Scene) {
        let lane = lane_of_hurried(scene, 1, job(0)).await;
        let dead = scene.worker_with(|about| about.wake_port = Some(7)).await;
        let slice = dead.take(1).await;
        scene.clock.advance(500);
        let ticked = scene.store.tick(crate::store::Tick { lease: LEASE }).await.unwrap();
        assert_eq!(ticked.told.0, [7], "who runs it renews at once");
        assert_eq!(dead.renew(&[slice.lease]).await.stopped, [(slice.lease, job(0))]);
        scene.leases_end().await;
        assert_eq!(states(scene, lane).await, [JobState::Cancelled]);
    }

    pub async fn paused_queue_lets_them_pass(scene: &Scene) {
        let queue = || crate::store::Pausable::Queue(QUEUE.into());
        scene.store.set_paused(queue(), true).await.unwrap();
        let lane = lane_of_hurried(scene, 1, job(0)).await;
        scene.wait(600).await;
        assert_eq!(states(scene, lane).await, [JobState::Cancelled]);
        scene.store.set_paused(queue(), false).await.unwrap();
    }

    pub async fn cancelled_before_has_nothing_left_to_do(scene: &Scene) {
        let lane = lane_of_hurried(scene, 2, job(0)).await;
        super::super::lone_cancel::cancel(scene, lane, 0, job(0)).await;
        scene.wait(600).await;
        assert_eq!(scene.jobs(lane).await.cancelled, 1);
    }

    pub async fn deleted_with_its_chunk(scene: &Scene) {
        let lane = lane_of_hurried(scene, 2, Mask::range(0..2)).await;
        let worker = scene.worker().await;
        worker.run().await;
        assert_eq!(scene.jobs(lane).await.total, 0);
        scene.check().await;
        scene.leave(&worker).await;
        scene.wait(1_000).await;
        assert_eq!(scene.jobs(lane).await.total, 0);
        scene.at_rest().await;
    }

    pub async fn what_settled_in_time_stays_as_it_is(scene: &Scene) {
        let lane = lane_of_hurried(scene, 2, Mask::range(0..2)).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.report(LeaseReport { keep: super::super::lone_cancel::DAY, ..worker.success(&slice) }).await;
        scene.wait(600).await;
        assert_eq!(states(scene, lane).await, [JobState::Succeeded, JobState::Cancelled]);
    }

    pub async fn what_retries_or_is_put_off_is_cancelled_too(scene: &Scene) {
        let due = vec![(scene.clock.now() + 5_000, job(1))];
        let lane = lane_of(scene, LoneJobs { due, ..hurried(scene, 2, Mask::range(0..2)) }).await;
        let worker = scene.worker().await;
        worker.retry_in(&worker.take(1).await, 5_000).await;
        scene.wait(600).await;
        assert_eq!(states(scene, lane).await, [JobState::Cancelled; 2]);
        assert_eq!(scene.store.waiting(lane, 0).await.unwrap().next_due, None);
    }

    pub async fn is_what_the_next_tick_waits_for(scene: &Scene) {
        lane_of_hurried(scene, 1, job(0)).await;
        scene.tick().await;
        let ticked = scene.store.tick(crate::store::Tick { lease: LEASE }).await.unwrap();
        assert!(ticked.next_in.is_some_and(|next| next <= 500), "{:?}", ticked.next_in);
    }

    pub async fn of_jobs_that_do_not_come_is_refused(scene: &Scene) {
        let beyond = hurried(scene, 2, job(2));
        assert_eq!(refusal(scene.store.enqueue(scene.enqueue_of(vec![beyond])).await), ErrorKind::Usage);
    }

    /// A call whose jobs all have a time and a deadline of their own.
    pub async fn of_many_times_keeps_its_bounds(scene: &Scene) {
        let now = scene.clock.now();
        let times = |from| (0..128).map(|at| (now + from + at, job(at as usize))).collect();
        let lane = lane_of(scene, LoneJobs { due: times(10_000), deadlines: times(500), ..rows(scene, 128) }).await;
        scene.wait(1_000).await;
        assert_eq!(scene.jobs(lane).await.cancelled, 128);
        scene.check().await;
    }
}
