//! Cases of `enqueue`, and of the lanes that lone jobs belong to.

use super::scene::*;
use crate::clock::Millis;
use crate::error::ErrorKind;
use crate::id::{SessionId, WorkflowId};
use crate::slice::Mask;
use crate::state::{Counts, JobState, StepState, WorkflowState};
use crate::store::{ChunkRef, Claim, Enqueue, Enqueued, Keeping, LeaseReport, List, LoneJobs, Slice};

const DAY: Millis = 24 * 3_600_000;

/// Jobs for the lane of [`ROW`] in [`QUEUE`].
fn rows(scene: &Scene, jobs: u32) -> LoneJobs {
    LoneJobs::new(scene.lane(ROW, 0), chunk(jobs, "lone rows"))
}

fn call(scene: &Scene, jobs: Vec<LoneJobs>) -> Enqueue {
    let Enqueue { session, command, .. } = scene.enqueue_of(Vec::new());
    Enqueue { session, command, jobs }
}

async fn enqueue(scene: &Scene, jobs: Vec<LoneJobs>) -> Enqueued {
    scene.store.enqueue(call(scene, jobs)).await.expect("lone jobs are taken")
}

pub async fn lone_rows(scene: &Scene, jobs: u32) -> WorkflowId {
    enqueue(scene, vec![rows(scene, jobs)]).await;
    scene.lane(ROW, 0).id
}

async fn total(scene: &Scene, lane: WorkflowId) -> u64 {
    scene.check().await;
    scene.jobs(lane).await.total
}

/// A job of a slice succeeds with something to keep.
fn kept(part: LeaseReport, keep: Millis) -> LeaseReport {
    LeaseReport { keep, ..part }
}

fn chunk_of(slice: &Slice) -> ChunkRef {
    slice.chunk
}

pub mod enqueue {
    use super::*;

    pub async fn fresh_can_be_claimed_with_all_that_a_worker_needs(scene: &Scene) {
        let told = super::enqueue(scene, vec![rows(scene, 3)]).await;
        assert_eq!(told.firsts, [0]);
        let lane = scene.lane(ROW, 0);
        let row = scene.row(lane.id).await;
        assert_eq!((row.state, row.name.as_str(), row.steps), (WorkflowState::Standing, ROW, 1));
        assert_eq!(row.jobs, Counts { total: 3, ..Counts::default() });
        assert_eq!(scene.step(lane.id, 0).await.state, StepState::Running);
        let slice = scene.worker().await.take(2).await;
        assert_eq!((slice.workflow, slice.step, slice.step_name.as_str(), slice.first), (lane.id, 0, ROW, 0));
        assert_eq!(slice.job_type, ROW);
        assert_eq!(scene.store.parameters(chunk_of(&slice)).await.unwrap().body, b"lone rows");
    }

    pub async fn repeated_command_counts_once_and_is_answered_the_same(scene: &Scene) {
        let first = call(scene, vec![rows(scene, 3)]);
        let told = scene.store.enqueue(first.clone()).await.unwrap();
        let again = scene.store.enqueue(first).await.unwrap();
        assert_eq!(again.firsts, told.firsts);
        assert_eq!(total(scene, scene.lane(ROW, 0).id).await, 3);
    }

    pub async fn answer_lost_counts_once(scene: &Scene) {
        let sent = call(scene, vec![rows(scene, 3)]);
        lose(scene.store.enqueue(sent.clone())).await;
        assert_eq!(scene.store.enqueue(sent).await.unwrap().firsts, [0]);
        assert_eq!(super::enqueue(scene, vec![rows(scene, 2)]).await.firsts, [3]);
        assert_eq!(total(scene, scene.lane(ROW, 0).id).await, 5);
    }

    pub async fn lease_taken_back_gives_them_to_another(scene: &Scene) {
        let lane = lone_rows(scene, 3).await;
        let (dead, heir) = (scene.worker().await, scene.worker().await);
        let lost = dead.take(3).await;
        scene.leases_end().await;
        let slice = heir.take(3).await;
        assert_eq!(jobs_of(std::slice::from_ref(&slice)), jobs_of(std::slice::from_ref(&lost)));
        assert_eq!(dead.try_report(vec![dead.success(&lost)]).await.unwrap().refused, [lost.lease]);
        for slice in [vec![slice], heir.drain().await].concat() {
            heir.succeed(&slice).await;
        }
        assert_eq!(total(scene, lane).await, 0);
    }

    pub async fn paused_is_no_lane(scene: &Scene) {
        let lane = lone_rows(scene, 1).await;
        assert_eq!(refusal(scene.store.pause(lane).await), ErrorKind::Refused);
        assert_eq!(refusal(scene.store.resume(lane).await), ErrorKind::Refused);
        assert_eq!(scene.worker().await.take(1).await.jobs.len(), 1);
    }

    pub async fn cancelling_is_no_lane(scene: &Scene) {
        let lane = lone_rows(scene, 1).await;
        assert_eq!(refusal(scene.store.cancel(lane, 0).await), ErrorKind::Refused);
        assert_eq!(scene.worker().await.take(1).await.jobs.len(), 1);
    }

    pub async fn deleted_is_no_lane(scene: &Scene) {
        let lane = lone_rows(scene, 1).await;
        let error = scene.store.delete(lane).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("is a lane of lone jobs"), "{error}");
        assert_eq!(refusal(scene.store.keep(lane, Keeping::Pinned).await), ErrorKind::Refused);
        scene.tick().await;
        assert_eq!(total(scene, lane).await, 1);
    }

    pub async fn by_an_unknown_session_is_answered_so(scene: &Scene) {
        let unknown = Enqueue { session: SessionId::random(), ..call(scene, vec![rows(scene, 1)]) };
        let error = scene.store.enqueue(unknown).await.unwrap_err();
        assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("join again"), "{error}");
    }

    pub async fn an_older_command_is_refused(scene: &Scene) {
        let (older, newer) = (call(scene, vec![rows(scene, 1)]), call(scene, vec![rows(scene, 1)]));
        scene.store.enqueue(newer).await.unwrap();
        assert_eq!(refusal(scene.store.enqueue(older).await), ErrorKind::Refused);
        assert_eq!(total(scene, scene.lane(ROW, 0).id).await, 1);
    }

    pub async fn of_several_lanes_tells_the_first_of_each(scene: &Scene) {
        let other = LoneJobs { lane: scene.lane(OTHER, 0), ..rows(scene, 2) };
        let told = super::enqueue(scene, vec![rows(scene, 3), other, rows(scene, 1)]).await;
        assert_eq!(told.firsts, [0, 0, 3]);
        assert_eq!(total(scene, scene.lane(ROW, 0).id).await, 4);
        assert_eq!(total(scene, scene.lane(OTHER, 0).id).await, 2);
    }

    pub async fn of_a_chunk_that_cannot_be_is_refused_as_a_whole(scene: &Scene) {
        let too_many = LoneJobs { chunk: chunk(1_025, "rows"), ..rows(scene, 1) };
        assert_eq!(refusal(scene.store.enqueue(call(scene, vec![rows(scene, 1), too_many])).await), ErrorKind::Usage);
        let beyond = LoneJobs { due: vec![(START, job(2))], ..rows(scene, 2) };
        assert_eq!(refusal(scene.store.enqueue(call(scene, vec![rows(scene, 1), beyond])).await), ErrorKind::Usage);
        assert_eq!(scene.list(List { state: Some(WorkflowState::Standing), ..List::default() }).await, []);
    }

    pub async fn wakes_who_is_idle(scene: &Scene) {
        let worker = scene.worker_with(|about| about.wake_port = Some(7)).await;
        assert!(worker.claim(4, 4).await.idle);
        assert_eq!(super::enqueue(scene, vec![rows(scene, 1)]).await.woken.0, [7]);
    }
}

pub mod lane {
    use super::*;

    pub async fn is_listed_by_its_state_alone(scene: &Scene) {
        let lane = lone_rows(scene, 1).await;
        assert_eq!(scene.list(List::default()).await, []);
        assert_eq!(scene.list(List { name: Some(ROW.into()), ..List::default() }).await, []);
        assert_eq!(scene.list(List { state: Some(WorkflowState::Standing), ..List::default() }).await, [lane]);
    }

    pub async fn hands_out_in_the_order_of_the_calls(scene: &Scene) {
        for jobs in [1, 2, 3] {
            lone_rows(scene, jobs).await;
        }
        let worker = scene.worker().await;
        let firsts: Vec<u64> =
            worker.drain().await.iter().flat_map(|slice| jobs_of(std::slice::from_ref(slice))).collect();
        assert_eq!(firsts, [0, 1, 2, 3, 4, 5]);
    }

    pub async fn a_higher_priority_goes_first(scene: &Scene) {
        lone_rows(scene, 1).await;
        let urgent = LoneJobs { lane: scene.lane(ROW, 5), ..rows(scene, 1) };
        super::enqueue(scene, vec![urgent]).await;
        assert_eq!(scene.worker().await.take(1).await.workflow, scene.lane(ROW, 5).id);
    }

    pub async fn waits_no_longer_than_a_rotation_beside_a_workflow(scene: &Scene) {
        scene.lone(100).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        let lane = lone_rows(scene, 1).await;
        let next = [worker.take(1).await.workflow, worker.take(1).await.workflow];
        assert!(next.contains(&lane));
    }

    pub async fn forgets_what_nobody_wants_with_the_last_of_its_chunk(scene: &Scene) {
        let lane = lone_rows(scene, 4).await;
        let worker = scene.worker().await;
        let slices = worker.claim(1, 4).await.slices;
        worker.succeed(&slices[0]).await;
        assert_eq!(total(scene, lane).await, 4, "three of its chunk are still to run");
        for slice in &slices[1..] {
            worker.succeed(slice).await;
        }
        assert_eq!(total(scene, lane).await, 0);
        assert!(scene.store.outcomes(lane, 0, 0, 0).await.unwrap().is_empty());
        assert_eq!(refusal(scene.store.parameters(slices[0].chunk).await), ErrorKind::NotFound);
        assert_eq!(super::enqueue(scene, vec![rows(scene, 1)]).await.firsts, [4], "no number is given twice");
    }

    pub async fn keeps_an_output_for_its_time(scene: &Scene) {
        let lane = lone_rows(scene, 2).await;
        let worker = scene.worker().await;
        let slices = worker.claim(1, 2).await.slices;
        worker.report(kept(worker.success(&slices[0]), DAY)).await;
        worker.succeed(&slices[1]).await;
        scene.leave(&worker).await;
        scene.clock.advance(DAY - 1);
        scene.tick().await;
        assert_eq!(total(scene, lane).await, 2);
        scene.at_rest().await;
        scene.clock.advance(1);
        scene.tick().await;
        assert_eq!(total(scene, lane).await, 0);
    }

    pub async fn keeps_a_chunk_as_long_as_the_longest_of_its_jobs(scene: &Scene) {
        let lane = lone_rows(scene, 2).await;
        let worker = scene.worker().await;
        let slices = worker.claim(1, 2).await.slices;
        worker.report(kept(worker.failure(&slices[0], "broken"), DAY)).await;
        worker.report(kept(worker.success(&slices[1]), DAY / 2)).await;
        scene.leave(&worker).await;
        scene.clock.advance(DAY - 1);
        scene.tick().await;
        assert_eq!(scene.job_states(lane, 0).await, [JobState::Failed, JobState::Succeeded]);
        assert_eq!(scene.errors(lane, 0).await, [("broken".to_owned(), 1)]);
        scene.clock.advance(1);
        scene.tick().await;
        assert_eq!((total(scene, lane).await, scene.errors(lane, 0).await), (0, vec![]));
    }

    pub async fn forgets_what_was_kept_once_the_last_of_its_chunk_has_settled(scene: &Scene) {
        let lane = lone_rows(scene, 2).await;
        let worker = scene.worker_with(|about| about.lease = 10 * DAY).await;
        let slices = worker.claim(1, 2).await.slices;
        worker.report(kept(worker.success(&slices[0]), 1_000)).await;
        scene.wait(2_000).await;
        assert_eq!(total(scene, lane).await, 2, "the other one runs");
        worker.succeed(&slices[1]).await;
        assert_eq!(total(scene, lane).await, 0);
    }

    pub async fn tries_again_and_forgets_then(scene: &Scene) {
        let lane = lone_rows(scene, 2).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        worker.retry_in(&slice, 100).await;
        assert_eq!(scene.jobs(lane).await.retrying, slice.jobs.len() as u64);
        scene.wait(300).await;
        let again = worker.take(1).await;
        assert_eq!(again.attempts, [1]);
        for slice in [vec![again], worker.drain().await].concat() {
            worker.succeed(&slice).await;
        }
        assert_eq!(total(scene, lane).await, 0);
    }

    pub async fn failed_jobs_are_retried_by_a_command(scene: &Scene) {
        let lane = lone_rows(scene, 3).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.report(kept(worker.failure(&slice, "broken"), DAY)).await;
        }
        assert_eq!(scene.retry(lane).await.jobs, 3);
        assert_eq!(scene.state(lane).await, WorkflowState::Standing);
        worker.run().await;
        scene.leave(&worker).await;
        assert_eq!(
            scene.job_states(lane, 0).await,
            [JobState::Succeeded; 3],
            "they are kept as long as they would have been"
        );
        scene.clock.advance(DAY);
        scene.tick().await;
        assert_eq!(total(scene, lane).await, 0);
    }

    pub async fn what_is_put_off_starts_at_its_time(scene: &Scene) {
        let now = scene.clock.now();
        let due = vec![(now + 500, job(1)), (now + 900, job(2))];
        super::enqueue(scene, vec![LoneJobs { due, ..rows(scene, 3) }]).await;
        let lane = scene.lane(ROW, 0).id;
        assert_eq!(scene.jobs(lane).await.deferred, 2);
        assert_eq!(scene.store.waiting(lane, 0).await.unwrap().next_due, Some(now + 500));
        assert_eq!(scene.store.whereabouts(lane, 0, 2).await.unwrap().due, Some(now + 900));
        scene.check().await;
        let worker = scene.worker().await;
        assert_eq!(jobs_of(&worker.drain().await), [0]);
        scene.wait(400).await;
        assert_eq!(count_jobs(&worker.drain().await), 0);
        scene.wait(100).await;
        assert_eq!(jobs_of(&worker.drain().await), [1]);
        scene.wait(400).await;
        assert_eq!(jobs_of(&worker.drain().await), [2]);
    }

    pub async fn what_was_put_off_comes_behind_what_waits(scene: &Scene) {
        let due = vec![(scene.clock.now() + 100, Mask::range(0..2))];
        super::enqueue(scene, vec![LoneJobs { due, ..rows(scene, 2) }]).await;
        lone_rows(scene, 1).await;
        scene.wait(100).await;
        let worker = scene.worker().await;
        assert_eq!(jobs_of(&[worker.take(1).await]), [2]);
        assert_eq!(count_jobs(&worker.drain().await), 2);
    }

    pub async fn a_job_that_kills_its_workers_fails_and_is_kept(scene: &Scene) {
        let lane = lone_rows(scene, 1).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        scene.leases_end().await;
        for _ in 0..4 {
            let dead = scene.worker().await;
            let claimed = dead.send(Claim { alone: true, ..dead.wish(1, 1) }).await;
            if claimed.slices.is_empty() {
                break;
            }
            scene.leases_end().await;
        }
        assert_eq!(scene.job_states(lane, 0).await, [JobState::Failed]);
        scene.clock.advance(29 * DAY);
        scene.tick().await;
        assert_eq!(total(scene, lane).await, 1);
        scene.clock.advance(2 * DAY);
        scene.tick().await;
        assert_eq!(total(scene, lane).await, 0);
    }

    pub async fn of_thousands_of_calls_keeps_its_bounds(scene: &Scene) {
        let lane = scene.lane(ROW, 0).id;
        for _ in 0..300 {
            super::enqueue(scene, vec![rows(scene, 7)]).await;
        }
        let worker = scene.worker().await;
        worker.run().await;
        assert_eq!(total(scene, lane).await, 0);
    }
}
