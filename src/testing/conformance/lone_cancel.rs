//! Cases of `cancel_jobs`: lone jobs that are cancelled by themselves.

use super::scene::*;
use crate::clock::Millis;
use crate::error::ErrorKind;
use crate::id::WorkflowId;
use crate::slice::Mask;
use crate::state::JobState;
use crate::store::{CancelJobs, CancelledJobs, LeaseReport, LoneJobs, Slice};

pub const DAY: Millis = 24 * 3_600_000;

pub fn rows(scene: &Scene, jobs: u32) -> LoneJobs {
    LoneJobs::new(scene.lane(ROW, 0), chunk(jobs, "lone rows"))
}

pub async fn lane_of(scene: &Scene, jobs: LoneJobs) -> WorkflowId {
    let lane = jobs.lane.id;
    scene.store.enqueue(scene.enqueue_of(vec![jobs])).await.expect("lone jobs are taken");
    lane
}

pub async fn lane_of_rows(scene: &Scene, jobs: u32) -> WorkflowId {
    lane_of(scene, rows(scene, jobs)).await
}

pub async fn cancel(scene: &Scene, lane: WorkflowId, index: u64, jobs: Mask) -> CancelledJobs {
    scene.store.cancel_jobs(CancelJobs { lane, index, jobs, keep: DAY }).await.expect("lone jobs are cancelled")
}

pub fn count(told: &CancelledJobs) -> (u32, u32) {
    (told.cancelled, told.stopping)
}

/// The states of the jobs of a lane, whose numbers its worker holds in a slice.
pub async fn states(scene: &Scene, lane: WorkflowId) -> Vec<JobState> {
    scene.check().await;
    scene.job_states(lane, 0).await
}

/// What a worker reports at once of all that it holds.
pub fn whole(slices: &[Slice]) -> Mask {
    slices.iter().fold(Mask::EMPTY, |all, slice| all.or(slice.jobs))
}

pub mod cancel_jobs {
    use super::*;

    pub async fn fresh_is_never_handed_out(scene: &Scene) {
        let lane = lane_of_rows(scene, 6).await;
        assert_eq!(count(&super::cancel(scene, lane, 1, job(0).or(job(3))).await), (2, 0));
        let row = scene.jobs(lane).await;
        assert_eq!((row.total, row.cancelled), (6, 2));
        scene.check().await;
        assert_eq!(jobs_of(&scene.worker().await.drain().await), [0, 2, 3, 5]);
        assert_eq!(states(scene, lane).await.iter().filter(|state| **state == JobState::Cancelled).count(), 2);
    }

    pub async fn repeated_is_answered_the_same(scene: &Scene) {
        let lane = lane_of_rows(scene, 4).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let first = super::cancel(scene, lane, 0, Mask::range(0..3)).await;
        assert_eq!(count(&first), (2, 1));
        assert_eq!(count(&super::cancel(scene, lane, 0, Mask::range(0..3)).await), (2, 1));
        assert_eq!(scene.jobs(lane).await.cancelled, 2);
        worker.give_back(&slice).await;
        assert_eq!(count(&super::cancel(scene, lane, 0, Mask::range(0..3)).await), (3, 0));
    }

    pub async fn answer_lost_cancels_once(scene: &Scene) {
        let lane = lane_of_rows(scene, 3).await;
        let asked = CancelJobs { lane, index: 0, jobs: Mask::range(0..2), keep: DAY };
        lose(scene.store.cancel_jobs(asked)).await;
        assert_eq!(count(&scene.store.cancel_jobs(asked).await.unwrap()), (2, 0));
        assert_eq!(scene.jobs(lane).await.cancelled, 2);
    }

    pub async fn lease_taken_back_cancels_what_was_to_be_stopped(scene: &Scene) {
        let lane = lane_of_rows(scene, 4).await;
        let dead = scene.worker().await;
        let held = dead.claim(2, 1).await.slices;
        let last = whole(&held).iter().last().unwrap();
        assert_eq!(count(&super::cancel(scene, lane, 0, job(last)).await), (0, 1));
        scene.leases_end().await;
        assert_eq!(states(scene, lane).await[last], JobState::Cancelled);
        let left: Vec<u64> = (0..4).filter(|index| *index != last as u64).collect();
        let heir = scene.worker().await;
        let slices = heir.drain().await;
        assert_eq!(jobs_of(&slices), left);
        for slice in &slices {
            heir.succeed(slice).await;
        }
    }

    pub async fn lease_given_back_cancels_what_was_to_be_stopped(scene: &Scene) {
        let lane = lane_of_rows(scene, 1).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        super::cancel(scene, lane, 0, job(0)).await;
        scene.leave(&worker).await;
        assert_eq!(states(scene, lane).await, [JobState::Cancelled]);
    }

    pub async fn paused_queue_has_them_cancelled_all_the_same(scene: &Scene) {
        let lane = lane_of_rows(scene, 2).await;
        let queue = || crate::store::Pausable::Queue(QUEUE.into());
        scene.store.set_paused(queue(), true).await.unwrap();
        assert_eq!(count(&super::cancel(scene, lane, 0, job(0)).await), (1, 0));
        scene.store.set_paused(queue(), false).await.unwrap();
        assert_eq!(jobs_of(&scene.worker().await.drain().await), [1]);
    }

    pub async fn cancelling_workflow_is_no_lane(scene: &Scene) {
        let id = scene.lone(2).await;
        let asked = CancelJobs { lane: id, index: 0, jobs: job(0), keep: 0 };
        let error = scene.store.cancel_jobs(asked).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("cancels it as a whole"), "{error}");
        scene.cancel(id, 0).await;
        assert_eq!(refusal(scene.store.cancel_jobs(asked).await), ErrorKind::Refused);
    }

    pub async fn deleted_workflow_is_not_there(scene: &Scene) {
        let id = scene.succeeded(1).await;
        scene.delete(id).await;
        let asked = CancelJobs { lane: id, index: 0, jobs: job(0), keep: 0 };
        assert_eq!(refusal(scene.store.cancel_jobs(asked).await), ErrorKind::NotFound);
    }

    pub async fn what_is_under_a_lease_is_told_by_the_renewal_and_by_the_report(scene: &Scene) {
        let lane = lane_of_rows(scene, 8).await;
        let worker = scene.worker_with(|about| about.wake_port = Some(7)).await;
        let slice = worker.take(4).await;
        let (first, rest) = slice.jobs.split(1);
        let (last, _) = rest.split(1);
        assert_eq!(worker.renew(&[slice.lease]).await.stopped, []);
        let told = super::cancel(scene, lane, 0, last).await;
        assert_eq!((count(&told), told.told.0.as_slice()), ((0, 1), [7].as_slice()));
        assert_eq!(worker.renew(&[slice.lease]).await.stopped, [(slice.lease, last)]);
        let reported = worker.report(LeaseReport { succeeded: first, ..worker.part(&slice) }).await;
        assert_eq!(reported.stopped, [(slice.lease, last)]);
        let reported = worker.report(LeaseReport { cancelled: last, keep: DAY, ..worker.part(&slice) }).await;
        assert_eq!(reported.stopped, []);
        assert_eq!(worker.renew(&[slice.lease]).await.stopped, []);
        scene.check().await;
    }

    pub async fn what_succeeds_in_time_counts(scene: &Scene) {
        let lane = lane_of_rows(scene, 1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        super::cancel(scene, lane, 0, job(0)).await;
        worker.report(LeaseReport { keep: DAY, ..worker.success(&slice) }).await;
        assert_eq!(states(scene, lane).await, [JobState::Succeeded]);
    }

    pub async fn what_would_run_again_does_not(scene: &Scene) {
        let lane = lane_of_rows(scene, 12).await;
        let worker = scene.worker().await;
        let slices = worker.claim(2, 3).await.slices;
        let all = whole(&slices);
        super::cancel(scene, lane, 0, all).await;
        worker.retry_in(&slices[0], 100).await;
        worker.give_back(&slices[1]).await;
        let postponed = vec![(100, slices[2].jobs)];
        worker.report(LeaseReport { postponed, ..worker.part(&slices[2]) }).await;
        let states = states(scene, lane).await;
        assert!(all.iter().all(|at| states[at] == JobState::Cancelled), "{states:?}");
        assert_eq!(scene.store.waiting(lane, 0).await.unwrap().next_due, None);
        let tried = slices[0].jobs.iter().next().unwrap();
        let returned = slices[1].jobs.iter().next().unwrap();
        let bytes = scene.bytes(lane, 0).await;
        assert_eq!((bytes[tried] >> 3, bytes[returned] >> 3), (1, 0), "attempts used");
    }

    pub async fn retrying_and_deferred_jobs_lose_their_timers(scene: &Scene) {
        let now = scene.clock.now();
        let due = vec![(now + 500, job(1).or(job(2))), (now + 900, job(3))];
        let lane = lane_of(scene, LoneJobs { due, ..rows(scene, 4) }).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.retry_in(&slice, 5_000).await;
        let told = super::cancel(scene, lane, 0, job(0).or(job(1)).or(job(3))).await;
        assert_eq!(count(&told), (3, 0));
        let row = scene.jobs(lane).await;
        assert_eq!((row.cancelled, row.deferred, row.retrying), (3, 1, 0));
        scene.check().await;
        assert_eq!(scene.store.waiting(lane, 0).await.unwrap().next_due, Some(now + 500));
        scene.wait(10_000).await;
        assert_eq!(jobs_of(&worker.drain().await), [2]);
    }

    pub async fn is_kept_for_its_time_or_not_at_all(scene: &Scene) {
        let lane = lane_of_rows(scene, 2).await;
        lane_of_rows(scene, 2).await;
        super::cancel(scene, lane, 0, Mask::range(0..2)).await;
        let now = CancelJobs { lane, index: 2, jobs: Mask::range(0..2), keep: 0 };
        assert_eq!(count(&scene.store.cancel_jobs(now).await.unwrap()), (2, 0));
        scene.check().await;
        assert_eq!(scene.jobs(lane).await.total, 2);
        assert_eq!(count(&scene.store.cancel_jobs(now).await.unwrap()), (0, 0), "they are gone");
        scene.clock.advance(DAY);
        scene.tick().await;
        assert_eq!(scene.jobs(lane).await.total, 0);
        assert_eq!(lane_of_rows(scene, 1).await, lane);
        assert_eq!(jobs_of(&scene.worker().await.drain().await), [4], "the claim passes over what is gone");
    }

    pub async fn what_is_gone_stops_no_timer_and_no_entry(scene: &Scene) {
        let due = vec![(scene.clock.now() + 500, Mask::range(0..2))];
        let lane = lane_of(scene, LoneJobs { due, ..rows(scene, 3) }).await;
        let now = CancelJobs { lane, index: 0, jobs: Mask::range(0..3), keep: 0 };
        assert_eq!(count(&scene.store.cancel_jobs(now).await.unwrap()), (3, 0));
        scene.check().await;
        scene.wait(1_000).await;
        let worker = scene.worker().await;
        assert_eq!(count_jobs(&worker.drain().await), 0);
        scene.leave(&worker).await;
        scene.at_rest().await;
    }

    pub async fn beyond_one_chunk_is_refused(scene: &Scene) {
        let lane = lane_of_rows(scene, 2).await;
        lane_of_rows(scene, 2).await;
        let asked = CancelJobs { lane, index: 1, jobs: Mask::range(0..2), keep: 0 };
        let error = scene.store.cancel_jobs(asked).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("one chunk"), "{error}");
        assert_eq!(scene.jobs(lane).await.cancelled, 0);
    }

    /// 1,024 leases of one chunk, and as many timers of another.
    pub async fn of_a_whole_chunk_keeps_its_bounds(scene: &Scene) {
        let now = scene.clock.now();
        let lane = lane_of_rows(scene, 1_024).await;
        let worker = scene.worker().await;
        let mut leases = 0;
        while leases < 1_000 {
            leases += worker.claim(1, 16).await.slices.len();
        }
        let told = super::cancel(scene, lane, 0, Mask::range(0..1_024)).await;
        assert_eq!(told.cancelled + told.stopping, 1_024);
        assert!(told.stopping >= 1_000);
        let due = (0..128).map(|at| (now + 1_000 + at as Millis, job(at))).collect();
        lane_of(scene, LoneJobs { due, ..rows(scene, 128) }).await;
        assert_eq!(count(&super::cancel(scene, lane, 1_024, Mask::range(0..128)).await), (128, 0));
        assert_eq!(scene.store.waiting(lane, 0).await.unwrap().next_due, None);
        scene.check().await;
    }
}
