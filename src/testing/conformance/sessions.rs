//! Those who use a store: they join, renew what they hold, and leave.

use super::scene::*;
use crate::clock::Millis;
use crate::error::ErrorKind;
use crate::state::{JobState, WorkflowState, attempts};
use crate::store::{Enqueue, LoneJobs};

pub mod join {
    use super::*;

    pub async fn fresh(scene: &Scene) {
        let worker = scene.worker_with(|about| about.slots = 7).await;
        let rows = scene.store.workers(10).await.unwrap();
        assert_eq!(rows.len(), 1, "the client is no worker");
        assert_eq!((rows[0].session.id, rows[0].since, rows[0].leases), (worker.session.id, START, 0));
        assert_eq!((rows[0].session.slots, &rows[0].session.types), (7, &worker.session.types));
    }

    pub async fn repeated_keeps_what_is_held(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(3).await;
        scene.store.join(worker.session.clone()).await.unwrap();
        assert_eq!(scene.store.workers(10).await.unwrap().len(), 1);
        assert!(worker.succeed(&slice).await.refused.is_empty());
        assert_eq!(scene.jobs(id).await.succeeded, 3);
        assert!(worker.take(1).await.lease > slice.lease, "its numbers go on");
    }

    pub async fn answer_lost_makes_one_worker(scene: &Scene) {
        scene.lone(100).await;
        let worker = scene.worker().await;
        scene.store.join(worker.session.clone()).await.unwrap();
        // Two workers would get a quarter of the jobs each, one gets half.
        assert_eq!(worker.take(1024).await.jobs.len(), 50);
    }

    pub async fn lease_taken_back_comes_back_to_life(scene: &Scene) {
        scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(3).await;
        scene.leases_end().await;
        assert!(scene.store.workers(10).await.unwrap().is_empty());
        scene.store.join(worker.session.clone()).await.unwrap();
        assert_eq!(scene.store.workers(10).await.unwrap().len(), 1);
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease], "what it has lost stays lost");
        assert!(worker.take(3).await.lease > slice.lease);
    }

    pub async fn paused_counts_as_able_and_gets_nothing(scene: &Scene) {
        let id = scene.lone(10).await;
        scene.pause(id).await;
        let worker = scene.worker().await;
        let waiting = scene.store.waiting(id, 0).await.unwrap();
        assert_eq!((waiting.able_workers, waiting.queue_workers), (1, 1));
        assert!(worker.claim(5, 1).await.slices.is_empty());
    }

    pub async fn cancelling_gets_nothing(scene: &Scene) {
        let id = scene.lone(10).await;
        let holder = scene.worker().await;
        holder.take(2).await;
        scene.cancel(id, 60_000).await;
        let late = scene.worker().await;
        assert!(late.claim(5, 1).await.empty);
        assert_eq!(scene.state(id).await, WorkflowState::Cancelling);
    }

    pub async fn deleted_record_begins_anew(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        worker.run().await;
        scene.delete(id).await;
        scene.leave(&worker).await;
        scene.store.join(worker.session.clone()).await.unwrap();
        scene.lone(1).await;
        let claimed = scene.store.claim(crate::store::Claim { first_lease: 1, ..worker.wish(1, 1) }).await.unwrap();
        assert_eq!(claimed.slices.len(), 1, "its first lease may be number 1 again");
    }

    pub async fn record_of_a_dead_one_is_kept_for_ten_minutes(scene: &Scene) {
        const MINUTE: Millis = 60_000;
        let worker = scene.worker().await;
        let jobs = vec![LoneJobs::new(scene.lane(ROW, 0), chunk(3, "rows"))];
        let sent = Enqueue { session: worker.session.id, command: 1, jobs };
        let told = scene.store.enqueue(sent.clone()).await.unwrap();
        scene.leases_end().await;
        scene.clock.advance(9 * MINUTE);
        scene.tick().await;
        assert_eq!(
            scene.store.enqueue(sent.clone()).await.unwrap().firsts,
            told.firsts,
            "it is known that this is done"
        );
        scene.clock.advance(2 * MINUTE);
        scene.tick().await;
        assert_eq!(refusal(scene.store.enqueue(sent).await), ErrorKind::NotFound);
    }
}

pub mod leave {
    use super::*;
    use crate::store::Claim;

    pub async fn fresh_gives_back_at_the_front_without_a_recovery(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        assert_eq!(jobs_of(&[worker.take(5).await]), [0, 1, 2, 3, 4]);
        let left = scene.store.leave(worker.session.id).await.unwrap();
        assert!(!left.more);
        let slice = scene.worker().await.take(5).await;
        assert_eq!((jobs_of(std::slice::from_ref(&slice)), slice.suspect), (vec![0, 1, 2, 3, 4], false));
        assert!(scene.recoveries(id, 0).await.is_empty());
    }

    pub async fn repeated_gives_back_once(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        worker.take(5).await;
        scene.leave(&worker).await;
        let again = scene.store.leave(worker.session.id).await.unwrap();
        assert!(!again.more && again.woken.0.is_empty());
        let other = scene.worker().await;
        assert_eq!(jobs_of(&other.drain().await), (0..10).collect::<Vec<_>>());
        assert_eq!(scene.step(id, 0).await.running, 10);
    }

    pub async fn answer_lost_goes_on_until_all_is_given_back(scene: &Scene) {
        let id = scene.lone(400).await;
        let worker = scene.worker().await;
        for _ in 0..4 {
            assert_eq!(worker.claim(1, 16).await.slices.len(), 16);
        }
        scene.store.leave(worker.session.id).await.unwrap();
        scene.leave(&worker).await;
        assert_eq!(scene.step(id, 0).await.running, 0);
        assert!(scene.store.workers(10).await.unwrap().is_empty());
        assert_eq!(scene.worker().await.drain().await.iter().map(|slice| slice.jobs.len()).sum::<usize>(), 400);
    }

    pub async fn lease_taken_back_gives_nothing_back_twice(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.take(2).await;
        scene.leases_end().await;
        scene.leave(&worker).await;
        assert_eq!(scene.recoveries(id, 0).await, [1, 1, 0, 0]);
        assert_eq!(jobs_of(&scene.worker().await.drain().await), [0, 1, 2, 3]);
    }

    pub async fn paused_gives_back_to_nobody_until_the_resume(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.take(2).await;
        scene.pause(id).await;
        scene.leave(&worker).await;
        let other = scene.worker().await;
        assert!(other.drain().await.is_empty());
        scene.resume(id).await;
        assert_eq!(jobs_of(&other.drain().await), [0, 1, 2, 3]);
    }

    pub async fn cancelling_cancels_what_is_given_back(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.take(2).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelling);
        scene.leave(&worker).await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.cancelled), (WorkflowState::Cancelled, 4));
    }

    pub async fn deleted_workflow_leaves_nothing_to_give_back(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.run().await;
        scene.delete(id).await;
        let left = scene.store.leave(worker.session.id).await.unwrap();
        assert!(!left.more && left.woken.0.is_empty());
        scene.at_rest().await;
    }

    pub async fn stops_draining_for_a_suspect(scene: &Scene) {
        scene.lone(1).await;
        for _ in 0..2 {
            scene.worker().await.take(1).await;
            scene.leases_end().await;
        }
        let (one, other) = (scene.worker().await, scene.worker().await);
        assert!(one.claim(1, 1).await.drain);
        assert!(!other.claim(1, 1).await.drain, "one worker is asked, not all");
        scene.leave(&one).await;
        assert!(other.claim(1, 1).await.drain, "the next one is asked once that has gone");
        assert!(other.send(Claim { alone: true, ..other.wish(1, 1) }).await.slices[0].suspect);
    }
}

pub mod renew {
    use super::*;
    use crate::error::ErrorKind;
    use crate::store::{LeaseReport, Renew};

    pub async fn fresh_keeps_a_lease_as_long_as_it_is_renewed(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        for _ in 0..10 {
            scene.wait(LEASE / 2).await;
            let renewed = worker.renew(&[slice.lease]).await;
            assert!(renewed.lost.is_empty() && renewed.cancelled.is_empty());
        }
        assert!(worker.succeed(&slice).await.refused.is_empty());
        assert_eq!(scene.jobs(id).await.succeeded, 2);
    }

    pub async fn repeated_adds_no_time(scene: &Scene) {
        scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        for _ in 0..5 {
            assert!(worker.renew(&[slice.lease]).await.lost.is_empty());
        }
        scene.leases_end().await;
        assert_eq!(worker.renew(&[slice.lease]).await.lost, [slice.lease]);
    }

    pub async fn answer_lost_tells_the_same_again(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        let (kept, gone) = (worker.take(2).await, worker.take(2).await);
        worker.succeed(&gone).await;
        scene.cancel(id, 500).await;
        let first = worker.renew(&[kept.lease, gone.lease]).await;
        let again = worker.renew(&[kept.lease, gone.lease]).await;
        assert_eq!((&first.lost, &first.cancelled), (&vec![gone.lease], &vec![kept.lease]));
        assert_eq!((first.lost, first.cancelled), (again.lost, again.cancelled));
    }

    pub async fn lease_taken_back_is_told_as_lost(scene: &Scene) {
        scene.lone(8).await;
        let worker = scene.worker().await;
        let (renewed, forgotten) = (worker.take(2).await, worker.take(2).await);
        scene.wait(LEASE / 2).await;
        assert!(worker.renew(&[renewed.lease]).await.lost.is_empty());
        scene.wait(LEASE / 2 + 200).await;
        assert_eq!(worker.renew(&[renewed.lease, forgotten.lease]).await.lost, [forgotten.lease]);
    }

    pub async fn paused_keeps_and_stops_nothing(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.pause(id).await;
        scene.wait(LEASE / 2).await;
        let renewed = worker.renew(&[slice.lease]).await;
        assert!(renewed.lost.is_empty() && renewed.cancelled.is_empty(), "a pause lets run what runs");
        scene.wait(LEASE / 2 + 200).await;
        assert!(worker.renew(&[slice.lease]).await.lost.is_empty());
    }

    pub async fn cancelling_is_told_and_ends_with_the_grace(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.cancel(id, 600).await;
        scene.wait(400).await;
        let renewed = worker.renew(&[slice.lease]).await;
        assert_eq!((renewed.lost, renewed.cancelled), (vec![], vec![slice.lease]));
        scene.wait(400).await;
        assert_eq!(worker.renew(&[slice.lease]).await.lost, [slice.lease], "a renewal does not lengthen the grace");
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
    }

    pub async fn deleted_is_told_as_lost(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.cancel(id, 0).await;
        scene.leases_end().await;
        scene.delete(id).await;
        let renewed = worker.renew(&[slice.lease]).await;
        assert_eq!((renewed.lost, renewed.cancelled), (vec![slice.lease], vec![]));
    }

    pub async fn of_another_sessions_lease_is_no_renewal(scene: &Scene) {
        scene.lone(8).await;
        let (one, other) = (scene.worker().await, scene.worker().await);
        let slice = one.take(1).await;
        assert_eq!(other.renew(&[slice.lease]).await.lost, [slice.lease]);
        scene.leases_end().await;
        assert_eq!(one.succeed(&slice).await.refused, [slice.lease]);
    }

    pub async fn by_an_unknown_session_is_answered_so(scene: &Scene) {
        let stranger = session().id;
        let renew = Renew { session: stranger, leases: vec![1], drafts: vec![], progress: vec![], lease: LEASE };
        assert_eq!(refusal(scene.store.renew(renew).await), ErrorKind::NotFound);
    }

    pub async fn brings_progress(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let progress = vec![(slice.lease, r#"{"1":"half"}"#.to_owned())];
        scene.store.renew(Renew { progress, ..worker.renewal(&[slice.lease]) }).await.unwrap();
        let told = |at| async move { scene.store.whereabouts(id, 0, at).await.unwrap().progress };
        assert_eq!((told(0).await, told(1).await), (None, Some(r#""half""#.to_owned())));
    }

    pub async fn keeps_a_workers_session_alive_without_leases(scene: &Scene) {
        let worker = scene.worker().await;
        for _ in 0..6 {
            scene.wait(LEASE / 2).await;
            worker.renew(&[]).await;
        }
        assert_eq!(scene.store.workers(9).await.unwrap().len(), 1);
        scene.leases_end().await;
        assert!(scene.store.workers(9).await.unwrap().is_empty());
        worker.renew(&[]).await;
        assert_eq!(scene.store.workers(9).await.unwrap().len(), 1, "a session that renews lives again");
    }

    pub async fn after_a_partial_report_keeps_the_rest(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        let slice = worker.take(4).await;
        let (done, rest) = slice.jobs.split(1);
        worker.report(LeaseReport { succeeded: done, ..worker.part(&slice) }).await;
        scene.wait(LEASE / 2).await;
        assert!(worker.renew(&[slice.lease]).await.lost.is_empty());
        scene.wait(LEASE / 2 + 200).await;
        worker.report(LeaseReport { succeeded: rest, ..worker.part(&slice) }).await;
        let bytes = scene.bytes(id, 0).await;
        assert_eq!(scene.job_states(id, 0).await[..4], [JobState::Succeeded; 4]);
        assert_eq!(attempts(bytes[0]), 1);
    }
}
