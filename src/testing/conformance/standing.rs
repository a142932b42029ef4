//! How the store says that things stand at this moment: what is waited for, where a job is, who is there and what each holds.

pub mod waiting {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::store::Waiting;

    async fn of(scene: &Scene, id: WorkflowId) -> Waiting {
        scene.store.waiting(id, 0).await.unwrap()
    }

    pub async fn fresh_counts_who_could_run_it(scene: &Scene) {
        let id = scene.lone(4).await;
        assert_eq!((of(scene, id).await.able_workers, of(scene, id).await.queue_workers), (0, 0));
        scene.worker().await;
        scene.worker_with(|about| about.types = vec![OTHER.into()]).await;
        scene.worker_with(|about| about.queues = vec!["elsewhere".into()]).await;
        assert_eq!((of(scene, id).await.able_workers, of(scene, id).await.queue_workers), (1, 2));
    }

    pub async fn for_workers_that_are_over_is_for_none(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await;
        scene.clock.advance(LEASE);
        assert_eq!((of(scene, id).await.able_workers, of(scene, id).await.queue_workers), (0, 0));
    }

    pub async fn fresh_names_who_holds_its_jobs(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker_with(|about| (about.host, about.pid) = ("ant".into(), 17)).await;
        worker.take(3).await;
        assert_eq!(of(scene, id).await.leases, [("ant:17".to_owned(), 3)]);
    }

    pub async fn repeated_tells_the_next_time(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        worker.retry_in(&worker.take(1).await, 60_000).await;
        worker.retry_in(&worker.take(1).await, 3_000).await;
        for _ in 0..2 {
            let due = of(scene, id).await.next_due.unwrap();
            assert!((START + 3_000..START + 3_400).contains(&due), "{due}");
        }
    }

    pub async fn answer_lost_is_told_again(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(2).await;
        lose(scene.store.waiting(id, 0)).await;
        assert_eq!(of(scene, id).await.leases.len(), 1);
    }

    pub async fn lease_taken_back_holds_nothing(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(2).await;
        scene.leases_end().await;
        let waiting = of(scene, id).await;
        assert!(waiting.leases.is_empty() && !waiting.suspect && !waiting.parked);
        assert_eq!(waiting.able_workers, 0, "its only worker has died");
    }

    pub async fn paused_is_parked_from_the_first_claim_on(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        scene.pause(id).await;
        worker.claim(1, 1).await;
        assert!(of(scene, id).await.parked);
        scene.resume(id).await;
        assert!(!of(scene, id).await.parked);
    }

    pub async fn cancelling_names_its_chore(scene: &Scene) {
        let id = scene.lone(3_000).await;
        scene.cancel(id, 0).await;
        assert!(of(scene, id).await.chore.is_some());
        scene.tick().await;
        assert_eq!(of(scene, id).await.chore, None);
    }

    pub async fn retried_names_its_hold_or_its_chore(scene: &Scene) {
        let id = scene.failed(4).await;
        assert!(of(scene, id).await.chore.is_none());
        scene.store.retry(scene.retry_of(id)).await.unwrap();
        assert!(of(scene, id).await.chore.is_some());
        scene.tick().await;
        let waiting = of(scene, id).await;
        assert!(waiting.chore.is_none() && waiting.holds.is_empty());
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.waiting(id, 0).await), ErrorKind::NotFound);
    }
}

pub mod whereabouts {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::store::{Whereabouts, due_time};

    async fn of(scene: &Scene, id: WorkflowId, index: u64) -> Whereabouts {
        scene.store.whereabouts(id, 0, index).await.unwrap()
    }

    pub async fn fresh_is_in_its_line(scene: &Scene) {
        let id = scene.rows(2_000).await;
        let at = of(scene, id, 1_999).await;
        assert_eq!((at.ready, at.worker, at.due), (true, None, None));
        assert!(!scene.store.whereabouts(id, 1, 0).await.unwrap().ready, "its step has not been released");
    }

    pub async fn repeated_follows_the_job(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker_with(|about| (about.host, about.pid) = ("ant".into(), 17)).await;
        let slice = worker.take(1).await;
        let at = of(scene, id, 0).await;
        assert_eq!((at.worker.as_deref(), at.ready), (Some("ant:17"), false));
        worker.retry_in(&slice, 3_000).await;
        let at = of(scene, id, 0).await;
        assert_eq!((at.worker, at.ready, at.due), (None, false, Some(due_time(START, milliseconds(3_000)))));
        scene.clock.advance(4_000);
        scene.tick().await;
        let at = of(scene, id, 0).await;
        assert_eq!((at.ready, at.due), (true, None));
        worker.run().await;
        assert!(!of(scene, id, 0).await.ready, "it has settled");
    }

    pub async fn answer_lost_is_told_again(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(1).await;
        lose(scene.store.whereabouts(id, 0, 0)).await;
        assert_eq!(of(scene, id, 0).await.worker.as_deref(), Some("test:1"));
        assert_eq!(of(scene, id, 1).await.worker, None);
    }

    pub async fn lease_taken_back_is_in_its_line_again(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(1).await;
        scene.leases_end().await;
        let at = of(scene, id, 0).await;
        assert_eq!((at.worker, at.ready), (None, true));
    }

    pub async fn paused_keeps_its_worker(scene: &Scene) {
        let id = scene.lone(8).await;
        scene.worker().await.take(1).await;
        scene.pause(id).await;
        assert!(of(scene, id, 0).await.worker.is_some());
    }

    pub async fn cancelling_is_in_no_line(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        worker.retry_in(&worker.take(1).await, 3_000).await;
        worker.take(1).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        let (retried, runs, waited) = (of(scene, id, 0).await, of(scene, id, 1).await, of(scene, id, 2).await);
        assert_eq!((retried.due, retried.ready, waited.ready), (None, false, false));
        assert!(runs.worker.is_some(), "it has its grace");
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.whereabouts(id, 0, 0).await), ErrorKind::NotFound);
    }
}

pub mod workers {
    use super::super::scene::*;

    async fn leases(scene: &Scene) -> Vec<u64> {
        scene.store.workers(9).await.unwrap().iter().map(|row| row.leases).collect()
    }

    pub async fn fresh_shows_each_with_what_it_holds(scene: &Scene) {
        scene.lone(100).await;
        let one = scene.worker().await;
        scene.clock.advance(10);
        let other = scene.worker_with(|about| about.host = "other".into()).await;
        one.claim(2, 3).await;
        other.take(1).await;
        let rows = scene.store.workers(9).await.unwrap();
        let told: Vec<_> = rows.iter().map(|row| (row.session.host.as_str(), row.since, row.leases)).collect();
        assert_eq!(told, [("test", START, 3), ("other", START + 10, 1)]);
    }

    pub async fn repeated_up_to_a_limit(scene: &Scene) {
        for _ in 0..3 {
            scene.worker().await;
        }
        assert_eq!(scene.store.workers(2).await.unwrap().len(), 2);
        assert_eq!(scene.store.workers(9).await.unwrap().len(), 3);
    }

    pub async fn answer_lost_shows_them_again(scene: &Scene) {
        scene.worker().await;
        lose(scene.store.workers(9)).await;
        assert_eq!(leases(scene).await, [0]);
    }

    pub async fn lease_taken_back_is_held_no_more(scene: &Scene) {
        scene.lone(10).await;
        let worker = scene.worker().await;
        let slices = worker.claim(1, 2).await.slices;
        assert_eq!(leases(scene).await, [2]);
        scene.wait(LEASE / 2).await;
        worker.renew(&[slices[0].lease]).await;
        scene.wait(LEASE / 2 + 200).await;
        assert_eq!(leases(scene).await, [1]);
    }

    pub async fn paused_keeps_what_it_holds(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        scene.pause(id).await;
        worker.claim(1, 1).await;
        assert_eq!(leases(scene).await, [1]);
    }

    pub async fn cancelling_holds_nothing_after_the_grace(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(id, 200).await;
        assert_eq!(leases(scene).await, [1]);
        worker.renew(&[slice.lease]).await;
        scene.wait(400).await;
        assert_eq!(leases(scene).await, [0]);
    }

    pub async fn deleted_workflow_is_held_by_nobody(scene: &Scene) {
        let id = scene.lone(1).await;
        let worker = scene.worker().await;
        worker.run().await;
        scene.delete(id).await;
        assert_eq!(leases(scene).await, [0]);
    }

    pub async fn one_whose_lease_is_over_is_gone_although_nobody_has_looked(scene: &Scene) {
        scene.worker().await;
        scene.clock.advance(LEASE - 1);
        assert_eq!(leases(scene).await, [0]);
        scene.clock.advance(1);
        assert!(leases(scene).await.is_empty());
    }
}

pub mod held {
    use super::super::scene::*;
    use super::super::worker::Worker;
    use crate::id::{SessionId, WorkflowId};
    use crate::store::{HeldRow, Slice};

    async fn of(scene: &Scene, worker: &Worker<'_>) -> Vec<HeldRow> {
        scene.store.held(worker.session.id, 9).await.unwrap()
    }

    /// The workflow, the step, the jobs of each slice.
    fn told(rows: &[HeldRow]) -> Vec<(WorkflowId, String, Vec<usize>)> {
        rows.iter().map(|row| (row.workflow, row.step_name.clone(), row.jobs.iter().collect())).collect()
    }

    pub async fn fresh_tells_which_jobs_of_which_step_in_the_order_of_their_claims(scene: &Scene) {
        let id = scene.plan().step("rows", 5).step("others", 1).create().await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let one = worker.take(2).await;
        scene.clock.advance(10);
        let another = worker.take(2).await;
        let of_other = other.take(1).await;
        let as_held = |slice: &Slice| (id, slice.step_name.clone(), slice.jobs.iter().collect::<Vec<usize>>());
        let rows = of(scene, &worker).await;
        assert_eq!(told(&rows), [as_held(&one), as_held(&another)]);
        assert_eq!(told(&of(scene, &other).await), [as_held(&of_other)]);
        let times: Vec<_> = rows.iter().map(|row| (row.step, row.first, row.claimed_at)).collect();
        assert_eq!(times, [(one.step, 0, START), (another.step, 0, START + 10)]);
        assert_eq!(rows[0].workflow_name, scene.row(id).await.name);
    }

    pub async fn repeated_up_to_a_limit(scene: &Scene) {
        scene.lone(9).await;
        let worker = scene.worker().await;
        worker.claim(1, 5).await;
        let rows = scene.store.held(worker.session.id, 3).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.jobs.iter().next().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((of(scene, &worker).await.len(), of(scene, &worker).await.len()), (5, 5));
    }

    pub async fn answer_lost_tells_it_again(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        lose(scene.store.held(worker.session.id, 9)).await;
        assert_eq!(told(&of(scene, &worker).await), [(id, "rows".into(), vec![0])]);
    }

    pub async fn lease_taken_back_is_nothing(scene: &Scene) {
        scene.lone(4).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        scene.leases_end().await;
        assert!(of(scene, &worker).await.is_empty());
    }

    pub async fn paused_is_still_held(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.pause(id).await;
        assert_eq!(told(&of(scene, &worker).await), [(id, "rows".into(), vec![0, 1])]);
        worker.succeed(&slice).await;
        assert!(of(scene, &worker).await.is_empty());
    }

    pub async fn cancelling_is_held_until_the_grace_ends(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(id, 200).await;
        assert_eq!(of(scene, &worker).await.len(), 1);
        worker.renew(&[slice.lease]).await;
        scene.wait(400).await;
        assert!(of(scene, &worker).await.is_empty());
    }

    pub async fn deleted_is_held_no_more(scene: &Scene) {
        let id = scene.lone(1).await;
        let worker = scene.worker().await;
        worker.run().await;
        scene.delete(id).await;
        assert!(of(scene, &worker).await.is_empty());
    }

    pub async fn names_a_lane_as_it_is_listed(scene: &Scene) {
        let lane = super::super::lone::lone_rows(scene, 3).await;
        let worker = scene.worker().await;
        worker.take(2).await;
        let rows = of(scene, &worker).await;
        assert_eq!((rows[0].workflow, &rows[0].workflow_name), (lane, &scene.row(lane).await.name));
    }

    pub async fn of_a_session_that_is_not_known_is_nothing(scene: &Scene) {
        assert!(scene.store.held(SessionId::random(), 9).await.unwrap().is_empty());
    }
}
