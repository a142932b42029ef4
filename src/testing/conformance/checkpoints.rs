//! Cases of `save_checkpoint` and `checkpoint`: what a job goes on from.

use super::lone_cancel::{cancel, lane_of_rows};
use super::scene::*;
use super::worker::Worker;
use crate::error::{ErrorKind, Result};
use crate::state::JobState;
use crate::store::{LeaseReport, SaveCheckpoint, Slice};

fn saving(worker: &Worker<'_>, slice: &Slice, body: &str) -> SaveCheckpoint {
    let at = slice.jobs.iter().next().expect("a slice has a job") as u16;
    SaveCheckpoint { session: worker.session.id, lease: slice.lease, at, body: body.as_bytes().to_vec(), covers: None }
}

/// The first job of a slice saves something.
async fn save(scene: &Scene, worker: &Worker<'_>, slice: &Slice, body: &str) -> Result<()> {
    scene.store.save_checkpoint(saving(worker, slice, body)).await
}

/// What the first job of a slice goes on from.
async fn saved(scene: &Scene, slice: &Slice) -> Option<String> {
    let at = slice.jobs.iter().next().expect("a slice has a job") as u16;
    let body = scene.store.checkpoint(slice.chunk, at).await.expect("a checkpoint can be read");
    body.map(|body| String::from_utf8(body).expect("it is what was saved"))
}

pub mod checkpoint {
    use super::*;

    pub async fn fresh_is_read_back_and_forgotten_with_the_job(scene: &Scene) {
        let id = scene.lone(2).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert_eq!(saved(scene, &slice).await, None);
        save(scene, &worker, &slice, "17").await.unwrap();
        assert_eq!(saved(scene, &slice).await.as_deref(), Some("17"));
        scene.check().await;
        worker.succeed(&slice).await;
        assert_eq!(saved(scene, &slice).await, None);
        scene.check().await;
        assert_eq!(scene.jobs(id).await.succeeded, 1);
    }

    pub async fn repeated_takes_the_place_of_the_one_before(scene: &Scene) {
        scene.lone(2).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        for body in ["1", "2", "2"] {
            save(scene, &worker, &slice, body).await.unwrap();
            scene.check().await;
        }
        assert_eq!(saved(scene, &slice).await.as_deref(), Some("2"));
        worker.fail(&slice, "broken").await;
        assert_eq!(saved(scene, &slice).await, None);
    }

    pub async fn answer_lost_is_saved_all_the_same(scene: &Scene) {
        scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        lose(scene.store.save_checkpoint(saving(&worker, &slice, "17"))).await;
        save(scene, &worker, &slice, "17").await.unwrap();
        assert_eq!(saved(scene, &slice).await.as_deref(), Some("17"));
        scene.check().await;
    }

    pub async fn lease_taken_back_goes_on_elsewhere_and_refuses_the_dead(scene: &Scene) {
        scene.lone(1).await;
        let (dead, heir) = (scene.worker().await, scene.worker().await);
        let lost = dead.take(1).await;
        save(scene, &dead, &lost, "17").await.unwrap();
        scene.leases_end().await;
        let slice = heir.take(1).await;
        assert_eq!(saved(scene, &slice).await.as_deref(), Some("17"));
        let error = save(scene, &dead, &lost, "18").await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("runs again elsewhere"), "{error}");
        assert_eq!(saved(scene, &slice).await.as_deref(), Some("17"));
        heir.succeed(&slice).await;
        assert_eq!(saved(scene, &slice).await, None);
    }

    pub async fn paused_is_saved(scene: &Scene) {
        let id = scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.pause(id).await;
        save(scene, &worker, &slice, "17").await.unwrap();
        worker.give_back(&slice).await;
        scene.resume(id).await;
        assert_eq!(saved(scene, &worker.take(1).await).await.as_deref(), Some("17"), "kept over a return");
    }

    pub async fn cancelling_is_forgotten_with_the_job(scene: &Scene) {
        let id = scene.lone(2).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        save(scene, &worker, &slice, "17").await.unwrap();
        worker.retry_in(&slice, 10_000).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        scene.leases_end().await;
        assert_eq!(saved(scene, &slice).await, None);
        scene.check().await;
    }

    pub async fn deleted_leaves_nothing(scene: &Scene) {
        let id = scene.lone(2).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        save(scene, &worker, &slice, "17").await.unwrap();
        worker.report(LeaseReport { failed: slice.jobs, ..worker.part(&slice) }).await;
        worker.run().await;
        scene.delete(id).await;
        scene.leave(&worker).await;
        scene.at_rest().await;
    }

    pub async fn is_kept_over_a_retry(scene: &Scene) {
        scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        save(scene, &worker, &slice, "17").await.unwrap();
        worker.retry_in(&slice, 100).await;
        scene.wait(300).await;
        let again = worker.take(1).await;
        assert_eq!((again.attempts.as_slice(), saved(scene, &again).await.as_deref()), ([1].as_slice(), Some("17")));
    }

    pub async fn of_a_job_that_is_reported_already_is_refused(scene: &Scene) {
        scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let late = saving(&worker, &slice, "17");
        worker.report(LeaseReport { succeeded: slice.jobs, ..worker.part(&slice) }).await;
        assert_eq!(refusal(scene.store.save_checkpoint(late).await), ErrorKind::Refused);
    }

    pub async fn of_a_lone_job_is_forgotten_when_it_is_cancelled(scene: &Scene) {
        let lane = lane_of_rows(scene, 1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        save(scene, &worker, &slice, "17").await.unwrap();
        worker.retry_in(&slice, 10_000).await;
        cancel(scene, lane, 0, job(0)).await;
        assert_eq!(scene.job_states(lane, 0).await, [JobState::Cancelled]);
        assert_eq!(saved(scene, &slice).await, None);
        scene.check().await;
    }

    pub async fn of_a_job_that_kills_its_workers_is_forgotten(scene: &Scene) {
        scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        save(scene, &worker, &slice, "17").await.unwrap();
        scene.leases_end().await;
        for _ in 0..4 {
            let dead = scene.worker().await;
            dead.send(crate::store::Claim { alone: true, ..dead.wish(1, 1) }).await;
            scene.leases_end().await;
        }
        assert_eq!(saved(scene, &slice).await, None);
        scene.check().await;
    }

    /// The largest that there may be.
    pub async fn of_256_kib_keeps_its_bounds(scene: &Scene) {
        scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let large = "x".repeat(256 * 1024);
        save(scene, &worker, &slice, &large).await.unwrap();
        assert_eq!(saved(scene, &slice).await.as_deref(), Some(large.as_str()));
        worker.succeed(&slice).await;
        scene.check().await;
    }
}
