//! How long finished workflows are kept.

/// A day.
const DAY: crate::clock::Millis = 86_400_000;

pub mod keep {
    use super::super::scene::*;
    use super::DAY;
    use crate::error::ErrorKind;
    use crate::retention::Retention;
    use crate::state::WorkflowState;
    use crate::store::Keeping;

    pub async fn fresh_expires_so_long_from_now(scene: &Scene) {
        let id = scene.succeeded(2).await;
        scene.clock.advance(DAY);
        let kept = scene.store.keep(id, Keeping::ExpireIn(5_000)).await.unwrap();
        assert_eq!((kept.expires_at, scene.row(id).await.expires_at), (Some(START + DAY + 5_000), kept.expires_at));
        scene.wait(4_900).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.wait(200).await;
        assert_eq!(refusal(scene.store.workflow(id).await), ErrorKind::NotFound);
        scene.at_rest().await;
    }

    pub async fn repeated_counts_from_the_last_one(scene: &Scene) {
        let id = scene.succeeded(2).await;
        for _ in 0..4 {
            scene.store.keep(id, Keeping::ExpireIn(1_000)).await.unwrap();
            scene.wait(900).await;
        }
        scene.store.keep(id, Keeping::Pinned).await.unwrap();
        scene.store.keep(id, Keeping::Pinned).await.unwrap();
        scene.wait(2_000).await;
        assert!(scene.row(id).await.pinned);
        let kept = scene.store.keep(id, Keeping::Unpinned).await.unwrap();
        assert_eq!(kept.expires_at, Some(START + 1_000), "so long after its end");
        scene.wait(100).await;
        assert_eq!(refusal(scene.store.workflow(id).await), ErrorKind::NotFound);
    }

    pub async fn answer_lost_is_asked_again(scene: &Scene) {
        let id = scene.succeeded(2).await;
        lose(scene.store.keep(id, Keeping::Expired)).await;
        let again = scene.store.keep(id, Keeping::Expired).await.unwrap();
        assert_eq!(again.expires_at, Some(START));
        scene.wait(100).await;
        assert_eq!(refusal(scene.store.keep(id, Keeping::Expired).await), ErrorKind::NotFound);
    }

    pub async fn lease_taken_back_runs_again_and_is_not_deleted(scene: &Scene) {
        let id = scene.lone(2).await;
        scene.worker().await.drain().await;
        assert_eq!(scene.store.keep(id, Keeping::ExpireIn(0)).await.unwrap().expires_at, None, "it has not finished");
        scene.wait(2 * LEASE).await;
        assert_eq!(scene.state(id).await, WorkflowState::Running);
        scene.worker().await.run().await;
        scene.wait(100).await;
        assert_eq!(refusal(scene.store.workflow(id).await), ErrorKind::NotFound);
    }

    pub async fn paused_is_never_deleted(scene: &Scene) {
        let id = scene.lone(2).await;
        scene.pause(id).await;
        for keeping in [Keeping::ExpireIn(0), Keeping::Expired, Keeping::Unpinned] {
            assert_eq!(scene.store.keep(id, keeping).await.unwrap().expires_at, None);
        }
        scene.wait(1_000).await;
        assert_eq!(scene.state(id).await, WorkflowState::Paused);
    }

    pub async fn cancelling_is_not_deleted_before_its_end(scene: &Scene) {
        let id = scene.lone(2).await;
        let worker = scene.worker_with(|about| about.lease = 60_000).await;
        worker.take(1).await;
        scene.cancel(id, 1_000).await;
        scene.store.keep(id, Keeping::ExpireIn(0)).await.unwrap();
        scene.store.keep(id, Keeping::Expired).await.unwrap();
        scene.wait(800).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelling);
        scene.wait(500).await;
        assert_eq!(refusal(scene.store.workflow(id).await), ErrorKind::NotFound);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.succeeded(2).await;
        scene.store.delete(id).await.unwrap();
        assert_eq!(refusal(scene.store.keep(id, Keeping::Pinned).await), ErrorKind::NotFound, "it is being deleted");
        scene.tick().await;
        assert_eq!(refusal(scene.store.keep(id, Keeping::Pinned).await), ErrorKind::NotFound);
    }

    pub async fn pinned_before_its_end_is_kept(scene: &Scene) {
        let id = scene.kept(Retention::days(1)).await;
        scene.store.keep(id, Keeping::Pinned).await.unwrap();
        scene.worker().await.run().await;
        scene.clock.advance(2 * DAY);
        scene.wait(200).await;
        assert_eq!((scene.state(id).await, scene.row(id).await.expires_at), (WorkflowState::Succeeded, None));
        assert_eq!(scene.store.keep(id, Keeping::Expired).await.unwrap().expires_at, None, "nor by a person's prune");
    }
}

pub mod retention {
    use super::super::scene::*;
    use super::DAY;
    use crate::error::ErrorKind;
    use crate::retention::{KeepFor, Retention};
    use crate::state::WorkflowState;
    use crate::store::{Create, List, Tick};

    async fn is_gone(scene: &Scene, id: crate::WorkflowId) -> bool {
        scene.store.workflow(id).await.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    pub async fn keeps_success_a_week_and_failure_a_month(scene: &Scene) {
        let (good, bad, stopped) = (
            scene.kept(Retention::default()).await,
            scene.kept(Retention::default()).await,
            scene.kept(Retention::default()).await,
        );
        scene.cancel(stopped, 0).await;
        scene.tick().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            if slice.workflow == good {
                worker.succeed(&slice).await;
            } else {
                worker.fail(&slice, "bad").await;
            }
        }
        scene.leave(&worker).await;
        let expiry = async |id| scene.row(id).await.expires_at.map(|at| (at - START) / DAY);
        assert_eq!((expiry(good).await, expiry(bad).await, expiry(stopped).await), (Some(7), Some(30), Some(30)));
        scene.clock.advance(7 * DAY - 100);
        scene.tick().await;
        assert!(!is_gone(scene, good).await);
        scene.wait(200).await;
        assert!(is_gone(scene, good).await && !is_gone(scene, bad).await);
        scene.clock.advance(23 * DAY);
        scene.wait(200).await;
        assert!(is_gone(scene, bad).await && is_gone(scene, stopped).await);
        scene.at_rest().await;
    }

    pub async fn counts_from_the_last_end_of_what_is_repaired(scene: &Scene) {
        let id = scene.kept(Retention::days(1)).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        assert_eq!(scene.row(id).await.expires_at, Some(START + DAY));
        scene.clock.advance(DAY - 1_000);
        scene.retry(id).await;
        assert_eq!(scene.row(id).await.expires_at, None);
        scene.clock.advance(DAY);
        scene.wait(200).await;
        assert_eq!(scene.state(id).await, WorkflowState::Running, "what is at work is not deleted");
        let worker = scene.worker().await;
        worker.run().await;
        let row = scene.row(id).await;
        assert_eq!(row.expires_at, row.finished_at.map(|at| at + DAY));
    }

    pub async fn of_what_is_started_again_counts_from_its_new_end(scene: &Scene) {
        let id = scene.kept(Retention::days(1)).await;
        let worker = scene.worker().await;
        worker.run().await;
        scene.clock.advance(DAY - 1_000);
        let mut workflow = new_workflow(id);
        (workflow.generation, workflow.retention) = (1, Retention::days(1));
        let parts = vec![root("rows"), jobs_part(0, 1)];
        scene.store.create(Create { workflow, draft: None, parts, again: true }).await.unwrap();
        scene.clock.advance(DAY);
        scene.wait(200).await;
        assert_eq!(scene.state(id).await, WorkflowState::Pending);
    }

    pub async fn by_number_keeps_those_that_finished_last(scene: &Scene) {
        scene.stay_on_one_shard();
        let few = Retention::for_ever().succeeded(KeepFor::ever().most(3));
        let mut ids = Vec::new();
        let worker = scene.worker().await;
        for _ in 0..6 {
            ids.push(scene.kept(few).await);
            worker.run().await;
            scene.wait(200).await;
        }
        let left = scene.list(List::default()).await;
        assert_eq!(left, [ids[5], ids[4], ids[3]]);
        assert_eq!(scene.row(ids[5]).await.expires_at, None, "no time has been set");
        scene.at_rest().await;
    }

    pub async fn deletes_many_in_bites_with_pauses_between(scene: &Scene) {
        // Each shard has its own pace.
        scene.stay_on_one_shard();
        for _ in 0..200 {
            scene.kept(Retention::days(1)).await;
        }
        scene.worker().await.run().await;
        scene.clock.advance(DAY);
        scene.store.tick(Tick { lease: LEASE }).await.unwrap();
        let left = scene.list(List::default()).await.len();
        assert!((100..200).contains(&left), "{left} are left after one bite");
        let ticked = scene.store.tick(Tick { lease: LEASE }).await.unwrap();
        assert_eq!(scene.list(List::default()).await.len(), left, "the pause holds for everybody");
        assert!(!ticked.more && ticked.next_in.is_some_and(|next| (1..=50).contains(&next)), "{ticked:?}");
        for _ in 0..60 {
            scene.clock.advance(25);
            scene.tick().await;
        }
        assert!(scene.list(List::default()).await.is_empty());
        scene.at_rest().await;
    }

    pub async fn deletes_a_large_one_beside_the_work_of_others(scene: &Scene) {
        let plan = scene.plan().retention(Retention::days(1)).step("fails", 1).step("rows", 300 * 1_024);
        let id = plan.edge(0, 1, crate::state::EdgeKind::After).create().await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "bad").await;
        scene.clock.advance(DAY);
        scene.tick().await;
        assert!(!scene.list(List::default()).await.contains(&id), "from the first bite on it is on no list");
        let other = scene.lone(3).await;
        worker.run().await;
        assert_eq!(scene.state(other).await, WorkflowState::Succeeded);
        for _ in 0..60 {
            scene.clock.advance(25);
            scene.tick().await;
        }
        assert!(is_gone(scene, id).await);
        scene.at_rest().await;
    }

    pub async fn tells_when_the_next_expires(scene: &Scene) {
        scene.kept(Retention::all(KeepFor::time(milliseconds(400)))).await;
        let worker = scene.worker().await;
        worker.run().await;
        scene.leave(&worker).await;
        scene.clock.advance(100);
        let ticked = scene.store.tick(Tick { lease: LEASE }).await.unwrap();
        assert!(ticked.next_in.is_some_and(|next| next <= 300), "{ticked:?}");
    }
}
