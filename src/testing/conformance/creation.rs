//! Workflows are made: by one call, or from a draft that several calls have written.

pub mod append {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::store::{Append, Create, DraftOf, LeaseReport};

    fn of_a_workflow(scene: &Scene) -> (WorkflowId, DraftOf) {
        let id = scene.new_id();
        (id, DraftOf::Workflow(Box::new(new_workflow(id))))
    }

    async fn create(scene: &Scene, id: WorkflowId, append: &Append) -> bool {
        let create = Create { workflow: new_workflow(id), draft: Some(append.draft), parts: vec![], again: false };
        scene.store.create(create).await.unwrap().existed
    }

    pub async fn fresh_is_seen_by_nobody_before_it_is_whole(scene: &Scene) {
        let (id, of) = of_a_workflow(scene);
        let append = scene.draft(of, vec![root("rows"), jobs_part(0, 9)]);
        scene.append(&append).await;
        let worker = scene.worker().await;
        assert!(scene.list(Default::default()).await.is_empty() && worker.drain().await.is_empty());
        assert_eq!(refusal(scene.store.workflow(id).await), ErrorKind::NotFound);
        assert!(!create(scene, id, &append).await);
        assert_eq!(jobs_of(&worker.drain().await), (0..9).collect::<Vec<_>>());
    }

    pub async fn a_chunk_without_jobs_or_with_too_many_is_refused(scene: &Scene) {
        for jobs in [0, 1025] {
            let (_, of) = of_a_workflow(scene);
            let append = scene.draft(of, vec![root("rows"), jobs_part(0, jobs)]);
            assert_eq!(refusal(scene.store.append(append).await), ErrorKind::Usage, "{jobs} jobs");
        }
    }

    pub async fn repeated_counts_once_in_any_order(scene: &Scene) {
        let (id, of) = of_a_workflow(scene);
        let first = scene.draft(of, vec![root("rows")]);
        scene.append(&first).await;
        for number in [1, 1, 2, 1, 2, 0] {
            let parts = if number == 0 { first.parts.clone() } else { vec![jobs_part(0, 9)] };
            scene.append(&Append { number, parts, ..first.clone() }).await;
        }
        create(scene, id, &first).await;
        assert_eq!((scene.jobs(id).await.total, scene.row(id).await.steps), (18, 1));
    }

    pub async fn answer_lost_of_the_first_call_makes_one_draft(scene: &Scene) {
        let (id, of) = of_a_workflow(scene);
        let append = scene.draft(of, vec![root("rows"), jobs_part(0, 9)]);
        scene.append(&append).await;
        let under_way = scene.under_way().await;
        scene.append(&append).await;
        assert_eq!(scene.under_way().await, under_way);
        create(scene, id, &append).await;
        assert_eq!(scene.jobs(id).await.total, 9);
        scene.cancel(id, 0).await;
        scene.tick().await;
        scene.delete(id).await;
        scene.at_rest().await;
    }

    pub async fn a_call_that_is_missing_is_not_passed_over(scene: &Scene) {
        let (id, of) = of_a_workflow(scene);
        let append = scene.draft(of, vec![root("rows")]);
        scene.append(&append).await;
        let early = Append { number: 2, parts: vec![jobs_part(0, 9)], ..append.clone() };
        assert_eq!(refusal(scene.store.append(early).await), ErrorKind::Usage);
        create(scene, id, &append).await;
        assert_eq!(scene.jobs(id).await.total, 0);
    }

    pub async fn lease_taken_back_collects_it_and_refuses_what_comes_late(scene: &Scene) {
        let (id, of) = of_a_workflow(scene);
        let append = scene.draft(of, vec![root("rows"), jobs_part(0, 9)]);
        scene.append(&append).await;
        scene.wait(2 * LEASE).await;
        scene.at_rest().await;
        let late = Append { number: 1, parts: vec![jobs_part(0, 9)], ..append.clone() };
        assert_eq!(refusal(scene.store.append(late).await), ErrorKind::Refused);
        let create = Create { workflow: new_workflow(id), draft: Some(append.draft), parts: vec![], again: false };
        assert_eq!(refusal(scene.store.create(create).await), ErrorKind::Refused);
    }

    pub async fn lives_by_renewal_and_by_each_call(scene: &Scene) {
        let (id, of) = of_a_workflow(scene);
        let append = scene.draft(of, vec![root("rows")]);
        scene.append(&append).await;
        for number in 1..=4 {
            scene.wait(700).await;
            scene.renew_drafts(&[append.draft]).await;
            scene.wait(700).await;
            scene.append(&Append { number, parts: vec![jobs_part(0, 1)], ..append.clone() }).await;
        }
        create(scene, id, &append).await;
        assert_eq!(scene.jobs(id).await.total, 4);
    }

    pub async fn paused_is_written_and_adopted_but_not_handed_out(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.pause(id).await;
        worker.produce(&slice, 4).await;
        assert_eq!((scene.step(id, 1).await.jobs.total, worker.drain().await.len()), (4, 0));
        scene.resume(id).await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3]);
    }

    pub async fn cancelling_is_written_and_then_collected(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.cancel(id, 5_000).await;
        let draft = worker.emit(&slice, 4).await;
        worker.report(LeaseReport { cancelled: slice.jobs, dropped: vec![draft], ..worker.part(&slice) }).await;
        scene.tick().await;
        assert_eq!(scene.jobs(id).await.total, 2);
        scene.at_rest().await;
    }

    pub async fn deleted_workflow_takes_no_jobs(scene: &Scene) {
        let id = scene.succeeded(1).await;
        scene.delete(id).await;
        let append = scene.draft(DraftOf::Jobs { workflow: id, step: 0 }, vec![jobs_part(0, 1)]);
        assert_eq!(refusal(scene.store.append(append).await), ErrorKind::NotFound);
        scene.at_rest().await;
    }

    pub async fn two_drafts_of_one_session_are_told_apart(scene: &Scene) {
        let ((one, of_one), (other, of_other)) = (of_a_workflow(scene), of_a_workflow(scene));
        let (first, second) = (scene.draft(of_one, vec![root("rows")]), scene.draft(of_other, vec![root("rows")]));
        scene.append(&first).await;
        scene.append(&second).await;
        scene.append(&Append { number: 1, parts: vec![jobs_part(0, 3)], ..second.clone() }).await;
        create(scene, one, &first).await;
        create(scene, other, &second).await;
        assert_eq!((scene.jobs(one).await.total, scene.jobs(other).await.total), (0, 3));
    }

    pub async fn of_thousands_of_jobs_keeps_their_order(scene: &Scene) {
        let (id, of) = of_a_workflow(scene);
        let append = scene.draft(of, vec![root("rows")]);
        scene.append(&append).await;
        for (number, jobs) in [(1, 1_000), (2, 24), (3, 1_024), (4, 1)] {
            scene.append(&Append { number, parts: vec![jobs_part(0, jobs)], ..append.clone() }).await;
        }
        create(scene, id, &append).await;
        let chunks = scene.store.outcomes(id, 0, 0, 0).await.unwrap();
        let firsts: Vec<(u64, usize)> = chunks.iter().map(|chunk| (chunk.first, chunk.bytes.len())).collect();
        assert_eq!(firsts, [(0, 1_000), (1_000, 24), (1_024, 1_024), (2_048, 1)]);
    }
}

pub mod create {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::{EdgeKind, StepState, WorkflowState};
    use crate::store::{Create, DraftOf};

    /// The call that starts a workflow again.
    fn again(plan: &Plan<'_>, generation: u32) -> Create {
        let mut create = Create { again: true, ..plan.call() };
        create.workflow.generation = generation;
        create
    }

    pub async fn fresh_is_pending_and_can_be_claimed(scene: &Scene) {
        let plan = scene.plan().step("rows", 3).step("report", 1).edge(0, 1, EdgeKind::After);
        let created = plan.begin().await;
        assert!(!created.existed && !created.more);
        let row = scene.row(plan.id).await;
        assert_eq!(
            (row.state, row.created_at, row.started_at, row.finished_at),
            (WorkflowState::Pending, START, None, None)
        );
        assert_eq!((row.steps, row.unsettled_steps, row.jobs.total), (2, 2, 4));
        assert_eq!(
            (scene.step_state(plan.id, 0).await, scene.step_state(plan.id, 1).await),
            (StepState::Running, StepState::Waiting)
        );
        assert_eq!(scene.worker().await.take(1).await.workflow, plan.id);
    }

    pub async fn repeated_id_keeps_the_first(scene: &Scene) {
        let first = scene.plan().step("rows", 3);
        first.begin().await;
        let mut second = scene.plan().step("others", 99);
        second.id = first.id;
        let created = second.begin().await;
        assert!(created.existed && created.woken.0.is_empty());
        assert_eq!((scene.jobs(first.id).await.total, scene.step(first.id, 0).await.spec.name.as_str()), (3, "rows"));
    }

    pub async fn answer_lost_of_a_draft_is_answered_as_existing(scene: &Scene) {
        let plan = scene.plan().step("rows", 3);
        let append = scene.draft(DraftOf::Workflow(Box::new(plan.call().workflow)), plan.parts());
        scene.append(&append).await;
        let create = Create { draft: Some(append.draft), parts: vec![], ..plan.call() };
        assert!(!scene.store.create(create.clone()).await.unwrap().existed);
        assert!(scene.store.create(create).await.unwrap().existed);
        assert_eq!((scene.jobs(plan.id).await.total, scene.list(Default::default()).await.len()), (3, 1));
    }

    pub async fn repeated_with_a_draft_collects_the_draft(scene: &Scene) {
        let plan = scene.plan();
        assert!(!plan.begin().await.existed);
        let append =
            scene.draft(DraftOf::Workflow(Box::new(plan.call().workflow)), vec![root("rows"), jobs_part(0, 9)]);
        scene.append(&append).await;
        let create = Create { draft: Some(append.draft), parts: vec![], ..plan.call() };
        assert!(scene.store.create(create).await.unwrap().existed);
        scene.tick().await;
        scene.at_rest().await;
    }

    pub async fn lease_taken_back_from_its_draft_leaves_nothing(scene: &Scene) {
        let plan = scene.plan().step("rows", 3);
        let append = scene.draft(DraftOf::Workflow(Box::new(plan.call().workflow)), plan.parts());
        scene.append(&append).await;
        scene.wait(2 * LEASE).await;
        let create = Create { draft: Some(append.draft), parts: vec![], ..plan.call() };
        assert_eq!(refusal(scene.store.create(create).await), ErrorKind::Refused);
        assert!(scene.list(Default::default()).await.is_empty());
        scene.at_rest().await;
    }

    pub async fn paused_one_of_that_id_stays_as_it_is(scene: &Scene) {
        let plan = scene.plan().step("rows", 3);
        plan.begin().await;
        scene.pause(plan.id).await;
        assert!(plan.begin().await.existed);
        assert_eq!(refusal(scene.store.create(again(&plan, 1)).await), ErrorKind::Refused);
        assert_eq!(scene.state(plan.id).await, WorkflowState::Paused);
    }

    pub async fn cancelling_one_of_that_id_stays_as_it_is(scene: &Scene) {
        let plan = scene.plan().step("rows", 3);
        plan.begin().await;
        scene.worker().await.take(1).await;
        scene.cancel(plan.id, 60_000).await;
        assert!(plan.begin().await.existed);
        assert_eq!(refusal(scene.store.create(again(&plan, 1)).await), ErrorKind::Refused);
        assert_eq!(scene.state(plan.id).await, WorkflowState::Cancelling);
    }

    pub async fn deleted_id_is_free_and_nothing_is_left_of_the_first(scene: &Scene) {
        let plan = scene.plan().step("rows", 3);
        plan.begin().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        scene.delete(plan.id).await;
        assert!(!plan.begin().await.existed);
        assert_eq!((scene.jobs(plan.id).await.failed, scene.errors(plan.id, 0).await.len()), (0, 0));
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2]);
    }

    pub async fn without_steps_succeeds_at_once(scene: &Scene) {
        let id = scene.plan().create().await;
        let row = scene.row(id).await;
        assert_eq!((row.state, row.finished_at), (WorkflowState::Succeeded, Some(START)));
    }

    pub async fn empty_steps_settle_at_once_and_release(scene: &Scene) {
        let plan = scene.plan().step("nothing", 0).step("nor here", 0).step("report", 1);
        let id = plan.edge(0, 1, EdgeKind::After).edge(1, 2, EdgeKind::After).create().await;
        assert_eq!(
            (scene.step_state(id, 0).await, scene.step_state(id, 1).await),
            (StepState::Succeeded, StepState::Succeeded)
        );
        assert_eq!(scene.worker().await.take(1).await.step, 2);
    }

    pub async fn a_draft_of_many_calls_is_adopted_whole(scene: &Scene) {
        let mut plan = scene.plan();
        for step in 0..100 {
            plan = plan.step(&format!("step {step}"), 3);
        }
        let id = plan.create().await;
        assert_eq!((scene.row(id).await.steps, scene.jobs(id).await.total), (100, 300));
        assert_eq!(count_jobs(&scene.worker().await.drain().await), 300);
    }

    pub async fn again_takes_the_place_of_a_finished_one(scene: &Scene) {
        let plan = scene.plan().step("rows", 2);
        plan.begin().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        assert!(!scene.store.create(again(&plan, 1)).await.unwrap().existed);
        let row = scene.row(plan.id).await;
        assert_eq!((row.state, row.generation, row.jobs.failed), (WorkflowState::Pending, 1, 0));
        scene.tick().await;
        let slices = worker.drain().await;
        assert!(slices.iter().all(|slice| slice.generation == 1 && slice.workflow == plan.id));
        assert_eq!((jobs_of(&slices), scene.list(Default::default()).await), (vec![0, 1], vec![plan.id]));
    }

    pub async fn again_answer_lost_starts_it_once(scene: &Scene) {
        let plan = scene.plan().step("rows", 2);
        plan.begin().await;
        let worker = scene.worker().await;
        worker.run().await;
        assert!(!scene.store.create(again(&plan, 1)).await.unwrap().existed);
        worker.run().await;
        assert!(
            scene.store.create(again(&plan, 1)).await.unwrap().existed,
            "that start has happened, and has finished"
        );
        assert_eq!((scene.state(plan.id).await, scene.row(plan.id).await.generation), (WorkflowState::Succeeded, 1));
        assert!(!scene.store.create(again(&plan, 2)).await.unwrap().existed);
    }

    pub async fn again_of_an_older_generation_changes_nothing(scene: &Scene) {
        let plan = scene.plan().step("rows", 2);
        plan.begin().await;
        let worker = scene.worker().await;
        worker.run().await;
        assert!(!scene.store.create(again(&plan, 3)).await.unwrap().existed);
        worker.run().await;
        assert!(scene.store.create(again(&plan, 2)).await.unwrap().existed);
        assert_eq!((scene.row(plan.id).await.generation, scene.state(plan.id).await), (3, WorkflowState::Succeeded));
    }

    pub async fn again_without_a_first_is_a_first(scene: &Scene) {
        let plan = scene.plan().step("rows", 2);
        assert!(!scene.store.create(again(&plan, 0)).await.unwrap().existed);
        assert_eq!(scene.jobs(plan.id).await.total, 2);
    }
}
