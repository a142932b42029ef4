//! Keys: one workflow of a type holds one at a time, from before it is built until it has finished.

pub mod begin {
    use futures::future::join_all;

    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::WorkflowState;
    use crate::store::{Begun, Create, List, Part};

    const TAKEN: Begun = Begun { held_by: None, ahead: 0, decided: false };

    pub async fn fresh_takes_the_key_before_anything_is_built(scene: &Scene) {
        let (first, second) = (scene.keyed("a"), scene.keyed("a"));
        assert_eq!(scene.begin(&first).await, TAKEN);
        assert_eq!(scene.begin(&second).await.held_by, Some(first.workflow.id));
        assert!(scene.list(List::default()).await.is_empty(), "it is no workflow yet");
        let parts = vec![root("rows"), jobs_part(0, 3)];
        let made = Create { workflow: first.workflow.clone(), draft: Some(first.draft), parts, again: false };
        scene.store.create(made).await.expect("a workflow is made");
        assert_eq!(scene.begin(&second).await.held_by, Some(first.workflow.id), "while it is pending");
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert_eq!(scene.begin(&second).await.held_by, Some(first.workflow.id), "while it is running");
        worker.succeed(&slice).await;
        worker.run().await;
        assert_eq!(scene.state(first.workflow.id).await, WorkflowState::Succeeded);
        assert_eq!(scene.begin(&second).await, TAKEN);
    }

    pub async fn repeated_renews_its_draft(scene: &Scene) {
        let first = scene.keyed("a");
        for _ in 0..4 {
            assert_eq!(scene.begin(&first).await, TAKEN);
            scene.wait(LEASE / 2).await;
        }
        assert_eq!(scene.begin(&scene.keyed("a")).await.held_by, Some(first.workflow.id));
    }

    pub async fn answer_lost_makes_one_draft(scene: &Scene) {
        let first = scene.keyed("a");
        lose(scene.store.begin(first.clone())).await;
        assert_eq!(scene.begin(&first).await, TAKEN);
        assert_eq!(scene.make(&first).await, first.workflow.id);
        scene.worker().await.run().await;
        scene.at_rest().await;
    }

    pub async fn lease_taken_back_frees_the_key(scene: &Scene) {
        let (dead, next) = (scene.keyed("a"), scene.keyed("a"));
        scene.begin(&dead).await;
        scene.leases_end().await;
        assert_eq!(scene.begin(&next).await, TAKEN);
        let parts = vec![root("rows")];
        let late = Create { workflow: dead.workflow.clone(), draft: Some(dead.draft), parts, again: false };
        assert_eq!(refusal(scene.store.create(late).await), ErrorKind::Refused);
        assert_eq!(scene.begin(&scene.keyed("a")).await.held_by, Some(next.workflow.id), "the next one has it still");
    }

    pub async fn paused_holds_it(scene: &Scene) {
        let id = scene.started(&scene.keyed("a")).await;
        scene.pause(id).await;
        assert_eq!(scene.begin(&scene.keyed("a")).await.held_by, Some(id));
    }

    pub async fn cancelling_holds_it_to_its_end(scene: &Scene) {
        let id = scene.started(&scene.keyed("a")).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(id, 10_000).await;
        scene.tick().await;
        let next = scene.keyed("a");
        assert_eq!(scene.begin(&next).await.held_by, Some(id));
        worker.succeed(&slice).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        assert_eq!(scene.begin(&next).await, TAKEN);
    }

    pub async fn deleted_has_none(scene: &Scene) {
        let id = scene.started(&scene.keyed("a")).await;
        scene.worker().await.run().await;
        scene.delete(id).await;
        assert_eq!(scene.begin(&scene.keyed("a")).await, TAKEN);
    }

    pub async fn of_another_type_or_key_is_in_nobodys_way(scene: &Scene) {
        let mut other_type = scene.keyed("a");
        other_type.workflow.name = "Testa".into();
        for begin in [scene.keyed("a"), scene.keyed(""), scene.keyed("b"), other_type] {
            assert_eq!(scene.begin(&begin).await, TAKEN);
        }
    }

    pub async fn of_2_000_at_once_one_takes_it_and_the_others_build_nothing(scene: &Scene) {
        let all: Vec<_> = (0..2_000).map(|_| scene.keyed("a")).collect();
        let begun = join_all(all.iter().map(|begin| scene.begin(begin))).await;
        let taken: Vec<usize> = (0..all.len()).filter(|at| begun[*at] == TAKEN).collect();
        assert_eq!(taken.len(), 1);
        let holder = all[taken[0]].workflow.id;
        assert!((0..all.len()).all(|at| at == taken[0] || begun[at].held_by == Some(holder)));
        assert_eq!(scene.make(&all[taken[0]]).await, holder);
        assert_eq!(scene.list(List::default()).await, [holder]);
        scene.worker().await.run().await;
        scene.at_rest().await;
    }

    pub async fn without_it_a_workflow_with_a_key_is_refused(scene: &Scene) {
        let begin = scene.keyed("a");
        let parts = vec![root("rows")];
        let call = Create { workflow: begin.workflow, draft: None, parts, again: false };
        assert_eq!(refusal(scene.store.create(call).await), ErrorKind::Usage);
        let without = crate::store::Begin { workflow: new_workflow(scene.new_id()), ..scene.keyed("a") };
        assert_eq!(refusal(scene.store.begin(without).await), ErrorKind::Usage);
    }

    pub async fn then_a_draft_of_many_calls_is_adopted_whole(scene: &Scene) {
        let begin = scene.keyed("a");
        scene.begin(&begin).await;
        let mut append =
            scene.draft(crate::store::DraftOf::Workflow(Box::new(begin.workflow.clone())), vec![root("rows")]);
        (append.draft, append.number) = (begin.draft, 1);
        scene.append(&append).await;
        append.parts = vec![jobs_part(0, 5)];
        append.number = 2;
        scene.append(&append).await;
        let parts: Vec<Part> = vec![jobs_part(0, 6)];
        let made = Create { workflow: begin.workflow.clone(), draft: Some(begin.draft), parts, again: false };
        scene.store.create(made).await.expect("a workflow is made");
        assert_eq!(scene.jobs(begin.workflow.id).await.total, 11);
        assert_eq!(scene.row(begin.workflow.id).await.key, begin.workflow.key);
    }

    pub async fn a_repair_takes_it_again(scene: &Scene) {
        let begin = scene.keyed("a");
        let id = scene.started(&begin).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        assert_eq!(scene.retry(id).await.held_by, None);
        assert_eq!(scene.begin(&scene.keyed("a")).await.held_by, Some(id));
        worker.run().await;
        assert_eq!(scene.begin(&scene.keyed("a")).await, TAKEN);
    }

    pub async fn a_repair_gives_way_to_who_has_it(scene: &Scene) {
        let id = scene.started(&scene.keyed("a")).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        let before = scene.row(id).await;
        let next = scene.keyed("a");
        scene.begin(&next).await;
        let retried = scene.retry(id).await;
        assert_eq!((retried.jobs, retried.held_by), (0, Some(next.workflow.id)));
        assert_eq!(scene.row(id).await, before);
        scene.make(&next).await;
        worker.run().await;
        let retried = scene.retry(id).await;
        assert_eq!((retried.jobs, retried.held_by), (3, None));
    }
}

pub mod abandon {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::store::{Begun, Create};

    pub async fn fresh_frees_the_key_at_once_and_leaves_nothing(scene: &Scene) {
        let begin = scene.keyed("a");
        scene.begin(&begin).await;
        scene.store.abandon(begin.workflow.id, begin.draft).await.expect("it is given up");
        assert_eq!(scene.begin(&scene.keyed("a")).await, Begun::default());
        scene.leases_end().await;
        scene.at_rest().await;
    }

    pub async fn repeated_is_no_error_and_frees_nobody_elses(scene: &Scene) {
        let (begin, next) = (scene.keyed("a"), scene.keyed("a"));
        scene.begin(&begin).await;
        for _ in 0..2 {
            scene.store.abandon(begin.workflow.id, begin.draft).await.expect("it is given up");
            scene.begin(&next).await;
        }
        assert_eq!(scene.begin(&scene.keyed("a")).await.held_by, Some(next.workflow.id));
    }

    pub async fn answer_lost_refuses_what_comes_late(scene: &Scene) {
        let begin = scene.keyed("a");
        scene.begin(&begin).await;
        lose(scene.store.abandon(begin.workflow.id, begin.draft)).await;
        scene.store.abandon(begin.workflow.id, begin.draft).await.expect("it is given up");
        let parts = vec![root("rows")];
        let late = Create { workflow: begin.workflow, draft: Some(begin.draft), parts, again: false };
        assert_eq!(refusal(scene.store.create(late).await), ErrorKind::Refused);
    }

    pub async fn lease_taken_back_has_done_it_already(scene: &Scene) {
        let begin = scene.keyed("a");
        scene.begin(&begin).await;
        scene.leases_end().await;
        scene.store.abandon(begin.workflow.id, begin.draft).await.expect("there is nothing to give up");
        scene.at_rest().await;
    }

    /// What has been made is no draft any more.
    async fn changes_nothing(scene: &Scene, begin: &crate::store::Begin) {
        let before = scene.row(begin.workflow.id).await;
        scene.store.abandon(begin.workflow.id, begin.draft).await.expect("there is nothing to give up");
        assert_eq!(scene.row(begin.workflow.id).await, before);
        assert_eq!(scene.begin(&scene.keyed("a")).await.held_by, Some(begin.workflow.id));
    }

    pub async fn paused_is_no_draft_any_more(scene: &Scene) {
        let begin = scene.keyed("a");
        let id = scene.started(&begin).await;
        scene.pause(id).await;
        changes_nothing(scene, &begin).await;
    }

    pub async fn cancelling_is_no_draft_any_more(scene: &Scene) {
        let begin = scene.keyed("a");
        let id = scene.started(&begin).await;
        scene.worker().await.take(1).await;
        scene.cancel(id, 10_000).await;
        changes_nothing(scene, &begin).await;
    }

    pub async fn deleted_is_no_error(scene: &Scene) {
        let begin = scene.keyed("a");
        let id = scene.started(&begin).await;
        scene.worker().await.run().await;
        scene.delete(id).await;
        scene.store.abandon(id, begin.draft).await.expect("there is nothing to give up");
        scene.at_rest().await;
    }
}
