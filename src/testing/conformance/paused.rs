//! Cases of `set_paused`: queues and job types of which nothing is handed out.

use super::scene::*;
use crate::state::WorkflowState;
use crate::store::Pausable;

fn queue() -> Pausable {
    Pausable::Queue(QUEUE.into())
}

fn row_type() -> Pausable {
    Pausable::Type(ROW.into())
}

pub mod set_paused {
    use super::*;

    async fn pause(scene: &Scene, what: Pausable) {
        scene.store.set_paused(what, true).await.expect("a pause");
    }

    async fn resume(scene: &Scene, what: Pausable) -> Vec<u16> {
        scene.store.set_paused(what, false).await.expect("a resume").0
    }

    pub async fn fresh_hands_out_nothing_of_a_queue(scene: &Scene) {
        scene.stay_on_one_shard();
        scene.lone(2).await;
        scene.plan().step_with("elsewhere", 1, |step| step.queue = "other".into()).create().await;
        pause(scene, queue()).await;
        let worker = scene.worker_with(|about| about.queues.push("other".into())).await;
        assert_eq!(
            worker.drain().await.iter().map(|slice| slice.step_name.as_str()).collect::<Vec<_>>(),
            ["elsewhere"]
        );
        assert_eq!(scene.store.paused().await.unwrap(), [queue()]);
        resume(scene, queue()).await;
        assert_eq!(count_jobs(&worker.drain().await), 2);
        assert_eq!(scene.store.paused().await.unwrap(), []);
    }

    pub async fn fresh_hands_out_nothing_of_a_type(scene: &Scene) {
        scene.stay_on_one_shard();
        scene.lone(2).await;
        scene.plan().step_with("another", 1, |step| step.job_type = OTHER.into()).create().await;
        pause(scene, row_type()).await;
        let worker = scene.worker_with(|about| about.types.push(OTHER.into())).await;
        assert_eq!(worker.drain().await.iter().map(|slice| slice.step_name.as_str()).collect::<Vec<_>>(), ["another"]);
        resume(scene, row_type()).await;
        assert_eq!(count_jobs(&worker.drain().await), 2);
    }

    pub async fn repeated_is_paused_once(scene: &Scene) {
        scene.lone(1).await;
        pause(scene, queue()).await;
        pause(scene, queue()).await;
        assert_eq!(scene.store.paused().await.unwrap(), [queue()]);
        resume(scene, queue()).await;
        resume(scene, queue()).await;
        scene.worker().await.take(1).await;
    }

    pub async fn answer_lost_is_paused_all_the_same(scene: &Scene) {
        scene.lone(1).await;
        lose(scene.store.set_paused(queue(), true)).await;
        pause(scene, queue()).await;
        assert!(scene.worker().await.claim(1, 1).await.slices.is_empty());
        resume(scene, queue()).await;
    }

    pub async fn lease_taken_back_waits_for_the_resume(scene: &Scene) {
        scene.lone(1).await;
        scene.worker().await.take(1).await;
        pause(scene, queue()).await;
        scene.leases_end().await;
        let heir = scene.worker().await;
        assert!(heir.claim(1, 1).await.slices.is_empty());
        resume(scene, queue()).await;
        heir.take(1).await;
    }

    pub async fn paused_workflow_and_paused_queue_are_two_things(scene: &Scene) {
        let id = scene.lone(1).await;
        scene.pause(id).await;
        pause(scene, queue()).await;
        let worker = scene.worker().await;
        scene.resume(id).await;
        assert!(worker.claim(1, 1).await.slices.is_empty());
        resume(scene, queue()).await;
        worker.take(1).await;
    }

    pub async fn cancelling_needs_no_resume(scene: &Scene) {
        let id = scene.lone(3).await;
        pause(scene, row_type()).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        resume(scene, row_type()).await;
    }

    pub async fn deleted_leaves_the_queue_paused(scene: &Scene) {
        let id = scene.succeeded(1).await;
        pause(scene, queue()).await;
        scene.delete(id).await;
        assert_eq!(scene.store.paused().await.unwrap(), [queue()]);
        resume(scene, queue()).await;
    }

    pub async fn lone_jobs_wait_too(scene: &Scene) {
        let jobs = vec![crate::store::LoneJobs::new(scene.lane(ROW, 0), chunk(2, "rows"))];
        scene.store.enqueue(scene.enqueue_of(jobs)).await.unwrap();
        pause(scene, row_type()).await;
        let worker = scene.worker().await;
        assert!(worker.claim(2, 2).await.slices.is_empty());
        resume(scene, row_type()).await;
        assert_eq!(count_jobs(&worker.drain().await), 2);
    }

    pub async fn a_report_counts_and_releases(scene: &Scene) {
        let id = scene.rows(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        pause(scene, queue()).await;
        worker.succeed(&slice).await;
        assert_eq!(scene.jobs(id).await.succeeded, 1);
        assert!(worker.claim(1, 1).await.slices.is_empty(), "the report waits");
        resume(scene, queue()).await;
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn a_resume_wakes_who_is_idle(scene: &Scene) {
        scene.lone(1).await;
        pause(scene, queue()).await;
        let worker = scene.worker_with(|about| about.wake_port = Some(9)).await;
        assert!(worker.claim(4, 4).await.idle);
        assert_eq!(resume(scene, queue()).await, [9]);
    }

    pub async fn tells_why_it_waits(scene: &Scene) {
        let id = scene.lone(1).await;
        pause(scene, queue()).await;
        pause(scene, row_type()).await;
        assert_eq!(scene.store.waiting(id, 0).await.unwrap().paused, [queue(), row_type()]);
        resume(scene, queue()).await;
        resume(scene, row_type()).await;
        assert!(scene.store.waiting(id, 0).await.unwrap().paused.is_empty());
    }
}
