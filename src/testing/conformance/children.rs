//! Workflows that stand for jobs of others.

/// A step whose jobs stand for workflows.
pub mod child {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::retention::{KeepFor, Retention};
    use crate::state::{EdgeKind, FailurePolicy, JobState as J, StepState as S, Tolerate, WorkflowState as W};
    use crate::store::{
        ByHand, Create, Created, Keeping, LeaseReport, NewWorkflow, Parent, RetryFailed, Slice, StepRow,
    };

    const FAST: FailurePolicy = FailurePolicy::FailFast;

    /// A step of so many jobs that stand for workflows, and a report behind it.
    async fn whole(scene: &Scene, jobs: u32) -> WorkflowId {
        whole_with(scene, jobs, FailurePolicy::RunOn).await
    }

    async fn whole_with(scene: &Scene, jobs: u32, policy: FailurePolicy) -> WorkflowId {
        let plan = scene.plan().step_with("files", jobs, |spec| (spec.children, spec.policy) = (true, policy));
        plan.step("report", 1).edge(0, 1, EdgeKind::After).create().await
    }

    /// What makes the workflow, of one step of two rows, that stands for a job.
    fn birth(scene: &Scene, of: WorkflowId, index: u64) -> Create {
        let id = WorkflowId::new(scene.clock.now(), of.shard());
        let parent = Some(Parent { workflow: of, step: 0, index });
        // That is for what it belongs to to say.
        let retention = Retention::all(KeepFor { age: Some(0), most: None });
        let workflow = NewWorkflow { parent, retention, ..new_workflow(id) };
        Create { workflow, draft: None, parts: vec![root("rows"), jobs_part(0, 2)], again: false }
    }

    async fn born(scene: &Scene, of: WorkflowId, index: u64) -> WorkflowId {
        let create = birth(scene, of, index);
        assert!(!scene.store.create(create.clone()).await.expect("a child is made").existed);
        create.workflow.id
    }

    /// The workflows of all jobs of a slice are made, and their jobs wait for them.
    async fn begin(scene: &Scene, worker: &Worker<'_>, slice: &Slice) -> Vec<WorkflowId> {
        let mut children = Vec::new();
        for at in slice.jobs.iter() {
            children.push(born(scene, slice.workflow, slice.first + at as u64).await);
        }
        worker.report(begun(worker, slice)).await;
        children
    }

    /// The workflows of all jobs that can be claimed are made, in the order of those.
    async fn begin_all(scene: &Scene, worker: &Worker<'_>) -> Vec<WorkflowId> {
        let mut children = Vec::new();
        for slice in worker.drain().await {
            children.extend(begin(scene, worker, &slice).await);
        }
        children
    }

    fn begun(worker: &Worker<'_>, slice: &Slice) -> LeaseReport {
        LeaseReport { begun: slice.jobs, ..worker.part(slice) }
    }

    /// One workflow with one job, whose workflow is at work.
    async fn pair(scene: &Scene) -> (WorkflowId, WorkflowId, Worker<'_>) {
        let id = whole(scene, 1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let child = begin(scene, &worker, &slice).await[0];
        (id, child, worker)
    }

    /// Fails all that can be claimed.
    async fn fail_all(worker: &Worker<'_>) {
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
    }

    /// Fails what a worker holds of one workflow.
    async fn fail_rows(worker: &Worker<'_>, rows: &[Slice], of: WorkflowId) {
        for slice in rows.iter().filter(|slice| slice.workflow == of) {
            worker.fail(slice, "bad").await;
        }
        worker.scene().tick().await;
    }

    /// Of one workflow what a worker holds comes to its end, since that is cancelled.
    async fn cut_off_rows(worker: &Worker<'_>, rows: &[Slice], of: WorkflowId) {
        for slice in rows.iter().filter(|slice| slice.workflow == of) {
            worker.report(LeaseReport { cancelled: slice.jobs, ..worker.part(slice) }).await;
        }
    }

    async fn stand(scene: &Scene, id: WorkflowId) -> (W, S, S) {
        scene.tick().await;
        (scene.state(id).await, scene.step_state(id, 0).await, scene.step_state(id, 1).await)
    }

    async fn files(scene: &Scene, id: WorkflowId) -> StepRow {
        scene.step(id, 0).await
    }

    pub async fn fresh_ends_its_job_as_it_ends(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        let step = files(scene, id).await;
        assert_eq!((step.state, step.jobs.deferred, step.running), (S::Running, 1, 0));
        assert_eq!(scene.row(child).await.parent, Some(Parent { workflow: id, step: 0, index: 0 }));
        scene.check().await;
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
        scene.at_rest().await;
    }

    pub async fn fresh_that_fails_fails_its_job(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        fail_all(&worker).await;
        assert_eq!(stand(scene, id).await, (W::Failed, S::Failed, S::Waiting));
        assert_eq!(scene.state(child).await, W::Failed);
        assert_eq!(scene.errors(id, 0).await, [("its workflow did not succeed".to_owned(), 1)]);
        scene.at_rest().await;
    }

    pub async fn fresh_that_is_cancelled_by_itself_fails_its_job(scene: &Scene) {
        let (id, child, _) = pair(scene).await;
        scene.cancel(child, 0).await;
        assert_eq!(stand(scene, id).await, (W::Failed, S::Failed, S::Waiting));
        scene.at_rest().await;
    }

    pub async fn fresh_that_ends_before_its_job_waits_ends_it_all_the_same(scene: &Scene) {
        let id = whole(scene, 1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let child = born(scene, id, 0).await;
        scene.worker().await.run().await;
        assert_eq!(scene.state(child).await, W::Succeeded);
        assert_eq!(scene.job_states(id, 0).await, [J::Open]);
        worker.report(begun(&worker, &slice)).await;
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
    }

    pub async fn fresh_ones_are_told_in_the_order_of_their_jobs(scene: &Scene) {
        let id = whole(scene, 5).await;
        let worker = scene.worker().await;
        let children = begin_all(scene, &worker).await;
        let page = |from, limit| scene.store.children(id, 0, from, limit);
        let told: Vec<_> = page(0, 10).await.unwrap().into_iter().map(|row| (row.index, row.id, row.state)).collect();
        let expected: Vec<_> = (0..).zip(children).map(|(index, id)| (index, id, W::Pending)).collect();
        assert_eq!(told, expected);
        let some: Vec<u64> = page(2, 2).await.unwrap().into_iter().map(|row| row.index).collect();
        assert_eq!((some, page(5, 2).await.unwrap().len()), (vec![2, 3], 0));
        assert!(scene.store.children(id, 1, 0, 10).await.unwrap().is_empty());
    }

    pub async fn repeated_creation_and_report_make_one(scene: &Scene) {
        let id = whole(scene, 1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let create = birth(scene, id, 0);
        for existed in [false, true] {
            assert_eq!(scene.store.create(create.clone()).await.unwrap().existed, existed);
        }
        let part = begun(&worker, &slice);
        worker.report(part.clone()).await;
        assert_eq!(worker.try_report(vec![part]).await.unwrap().refused, [slice.lease]);
        assert_eq!(scene.store.children(id, 0, 0, 10).await.unwrap().len(), 1);
        assert_eq!(files(scene, id).await.jobs.deferred, 1);
        worker.run().await;
        assert_eq!(stand(scene, id).await.0, W::Succeeded);
    }

    pub async fn answer_lost_makes_one(scene: &Scene) {
        let id = whole(scene, 1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let create = birth(scene, id, 0);
        lose(scene.store.create(create.clone())).await;
        scene.store.create(create).await.unwrap();
        let part = begun(&worker, &slice);
        lose(worker.try_report(vec![part.clone()])).await;
        worker.report(part).await;
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
        scene.at_rest().await;
    }

    pub async fn lease_taken_back_is_found_by_who_has_its_job_next(scene: &Scene) {
        let id = whole(scene, 1).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let slice = worker.take(1).await;
        let create = birth(scene, id, 0);
        scene.store.create(create.clone()).await.unwrap();
        scene.leases_end().await;
        let again = other.drain().await.into_iter().find(|slice| slice.workflow == id).expect("the job again");
        assert!(scene.store.create(create).await.unwrap().existed);
        assert_eq!(worker.try_report(vec![begun(&worker, &slice)]).await.unwrap().refused, [slice.lease]);
        other.report(begun(&other, &again)).await;
        assert_eq!(files(scene, id).await.jobs.deferred, 1);
    }

    pub async fn paused_whole_counts_its_end_and_hands_nothing_out(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        scene.pause(id).await;
        worker.run().await;
        assert_eq!(scene.state(child).await, W::Succeeded);
        assert_eq!(stand(scene, id).await, (W::Paused, S::Succeeded, S::Running));
        assert!(worker.drain().await.is_empty());
    }

    pub async fn cancelling_whole_cancels_it_and_waits_for_its_end(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        let row = worker.take(1).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.state(child).await), (W::Cancelling, W::Cancelling));
        assert_eq!(worker.renew(&[row.lease]).await.cancelled, [row.lease]);
        worker.report(LeaseReport { cancelled: row.jobs, ..worker.part(&row) }).await;
        assert_eq!(stand(scene, id).await, (W::Cancelled, S::Cancelled, S::Cancelled));
        assert_eq!(scene.state(child).await, W::Cancelled);
        scene.at_rest().await;
    }

    pub async fn cancelling_whole_has_none_made(scene: &Scene) {
        let id = whole(scene, 2).await;
        let worker = scene.worker().await;
        let slices = [worker.take(1).await, worker.take(1).await];
        let first = born(scene, id, 0).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        assert_eq!(refusal(scene.store.create(birth(scene, id, 1)).await), ErrorKind::Refused);
        worker.report(begun(&worker, &slices[0])).await;
        worker.report(LeaseReport { cancelled: slices[1].jobs, ..worker.part(&slices[1]) }).await;
        assert_eq!(stand(scene, id).await, (W::Cancelled, S::Cancelled, S::Cancelled));
        assert_eq!(scene.state(first).await, W::Cancelled);
        scene.at_rest().await;
    }

    pub async fn deleted_whole_takes_all_with_it(scene: &Scene) {
        let id = whole(scene, 70).await;
        let worker = scene.worker().await;
        for _ in 0..200 {
            scene.tick().await;
            for slice in worker.claim(30, 4).await.slices {
                if slice.workflow == id && slice.step == 0 {
                    begin(scene, &worker, &slice).await;
                } else {
                    worker.succeed(&slice).await;
                }
            }
        }
        assert_eq!(scene.state(id).await, W::Succeeded);
        let children = scene.store.children(id, 0, 0, 100).await.unwrap();
        assert_eq!(children.len(), 70);
        scene.delete(id).await;
        for child in children {
            assert_eq!(refusal(scene.store.workflow(child.id).await), ErrorKind::NotFound);
        }
        scene.at_rest().await;
    }

    pub async fn is_not_deleted_or_kept_by_itself(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        worker.run().await;
        assert_eq!(scene.state(id).await, W::Succeeded);
        assert_eq!(refusal(scene.store.delete(child).await), ErrorKind::Refused);
        assert_eq!(refusal(scene.store.keep(child, Keeping::ExpireIn(0)).await), ErrorKind::Refused);
        assert_eq!(scene.row(child).await.expires_at, None);
    }

    pub async fn is_kept_as_long_as_the_whole(scene: &Scene) {
        let minute = Retention::all(KeepFor { age: Some(60_000), most: None });
        let plan = scene.plan().retention(minute).step_with("files", 1, |spec| spec.children = true);
        let id = plan.step("report", 1).edge(0, 1, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        let child = begin(scene, &worker, &worker.take(1).await).await[0];
        worker.run().await;
        scene.leave(&worker).await;
        scene.wait(50_000).await;
        assert_eq!(scene.state(child).await, W::Succeeded);
        scene.wait(11_000).await;
        scene.sweep().await;
        for gone in [id, child] {
            assert_eq!(refusal(scene.store.workflow(gone).await), ErrorKind::NotFound);
        }
        scene.at_rest().await;
    }

    pub async fn is_made_for_an_open_job_of_such_a_step_only(scene: &Scene) {
        let id = whole(scene, 1).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "bad").await;
        assert_eq!(refusal(scene.store.create(birth(scene, id, 0)).await), ErrorKind::Refused);
        let rows = scene.rows(1).await;
        assert_eq!(refusal(scene.store.create(birth(scene, rows, 0)).await), ErrorKind::Usage);
        let gone = WorkflowId::new(scene.clock.now(), rows.shard());
        assert_eq!(refusal(scene.store.create(birth(scene, gone, 0)).await), ErrorKind::NotFound);
        scene.check().await;
    }

    pub async fn that_is_not_there_cannot_have_begun(scene: &Scene) {
        whole(scene, 1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert_eq!(refusal(worker.try_report(vec![begun(&worker, &slice)]).await), ErrorKind::Usage);
        scene.check().await;
    }

    pub async fn that_is_repaired_repairs_its_job(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        fail_all(&worker).await;
        assert_eq!(stand(scene, id).await.0, W::Failed);
        scene.retry(child).await;
        assert_eq!(stand(scene, id).await, (W::Failed, S::Failed, S::Waiting), "while it runs again");
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
        assert!(scene.errors(id, 0).await.iter().all(|(_, jobs)| *jobs == 0));
        scene.at_rest().await;
    }

    pub async fn that_is_repaired_leaves_others_failed(scene: &Scene) {
        let id = whole(scene, 2).await;
        let worker = scene.worker().await;
        let children = begin_all(scene, &worker).await;
        fail_all(&worker).await;
        assert_eq!(stand(scene, id).await.0, W::Failed);
        scene.retry(children[1]).await;
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Failed, S::Failed, S::Waiting));
        assert_eq!(scene.job_states(id, 0).await, [J::Failed, J::Succeeded]);
        scene.at_rest().await;
    }

    pub async fn that_failed_is_given_to_a_worker_by_a_retry_of_the_whole(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        fail_all(&worker).await;
        scene.tick().await;
        assert_eq!(scene.retry(id).await.jobs, 1);
        let slice = worker.take(1).await;
        assert_eq!((slice.workflow, slice.step), (id, 0));
        scene.retry(child).await;
        worker.report(begun(&worker, &slice)).await;
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
    }

    pub async fn that_runs_again_is_waited_for_by_a_retry_of_the_whole(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        fail_all(&worker).await;
        scene.tick().await;
        scene.retry(child).await;
        scene.retry(id).await;
        assert_eq!((scene.state(id).await, scene.job_states(id, 0).await), (W::Running, vec![J::Deferred]));
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
    }

    pub async fn that_failed_is_given_up_by_a_discard_of_its_job(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        fail_all(&worker).await;
        scene.tick().await;
        scene.store.retry(RetryFailed { discard: true, ..scene.retry_of(id) }).await.unwrap();
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Skipped, S::Succeeded));
        assert_eq!(scene.state(child).await, W::Failed);
    }

    pub async fn of_a_step_that_fails_fast_is_cancelled_with_its_rest(scene: &Scene) {
        let id = whole_with(scene, 3, FAST).await;
        let worker = scene.worker().await;
        let children = begin_all(scene, &worker).await;
        let rows = worker.drain().await;
        fail_rows(&worker, &rows, children[0]).await;
        let states = [scene.state(children[1]).await, scene.state(children[2]).await];
        assert_eq!((states, files(scene, id).await.state), ([W::Cancelling; 2], S::Running));
        cut_off_rows(&worker, &rows, children[1]).await;
        cut_off_rows(&worker, &rows, children[2]).await;
        assert_eq!(stand(scene, id).await, (W::Failed, S::Failed, S::Waiting));
        assert_eq!(scene.job_states(id, 0).await, [J::Failed, J::Cancelled, J::Cancelled]);
        scene.at_rest().await;
    }

    pub async fn is_made_anew_when_the_whole_is_started_again(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        worker.run().await;
        let plan = scene.plan().step_with("files", 1, |spec| spec.children = true).call();
        let workflow = NewWorkflow { generation: 1, ..new_workflow(id) };
        scene.store.create(Create { workflow, again: true, ..plan }).await.unwrap();
        scene.tick().await;
        assert_eq!(refusal(scene.store.workflow(child).await), ErrorKind::NotFound);
        assert!(scene.store.children(id, 0, 0, 10).await.unwrap().is_empty());
        begin(scene, &worker, &worker.take(1).await).await;
        worker.run().await;
        assert_eq!(scene.state(id).await, W::Succeeded);
        scene.at_rest().await;
    }

    pub async fn that_was_cancelled_begins_anew_in_the_next_attempt(scene: &Scene) {
        let id = whole_with(scene, 2, FAST).await;
        let worker = scene.worker().await;
        let children = begin_all(scene, &worker).await;
        let rows = worker.drain().await;
        for slice in rows.iter().filter(|slice| slice.workflow == children[0]) {
            worker.fail(slice, "bad").await;
        }
        scene.tick().await;
        for slice in rows.iter().filter(|slice| slice.workflow == children[1]) {
            worker.report(LeaseReport { cancelled: slice.jobs, ..worker.part(slice) }).await;
        }
        scene.tick().await;
        scene.retry(id).await;
        let slices = worker.drain().await;
        assert_eq!(count_jobs(&slices), 2, "the one that failed and the one that was cancelled");
        let again = birth(scene, id, 1).workflow;
        let workflow = NewWorkflow { id: children[1], generation: 1, ..again };
        let parts = vec![root("rows"), jobs_part(0, 2)];
        let made = scene.store.create(Create { workflow, draft: None, parts, again: true }).await.unwrap();
        assert!(matches!(made, Created { existed: false, .. }));
        scene.retry(children[0]).await;
        for slice in &slices {
            worker.report(begun(&worker, slice)).await;
        }
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
        scene.at_rest().await;
    }

    pub async fn at_work_is_cancelled_when_its_job_runs_again(scene: &Scene) {
        let (id, child, worker) = pair(scene).await;
        let rows = worker.drain().await;
        assert_eq!(scene.run_again(id, 0, false).await, 1);
        assert_eq!(scene.state(child).await, W::Cancelling);
        for slice in &rows {
            worker.report(LeaseReport { cancelled: slice.jobs, ..worker.part(slice) }).await;
        }
        assert_eq!(
            (stand(scene, id).await, scene.state(child).await),
            ((W::Running, S::Running, S::Waiting), W::Cancelled)
        );
        // What the old one has come to says nothing about the job.
        let next = begin_all(scene, &worker).await[0];
        assert_eq!(scene.store.children(id, 0, 0, 10).await.unwrap()[0].id, next);
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
    }

    pub async fn is_not_made_for_a_job_that_has_been_taken_back(scene: &Scene) {
        let plan = scene.plan().step("first", 1).step_with("files", 1, |spec| spec.children = true);
        let id = plan.edge(0, 1, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        let slice = worker.take(1).await;
        scene.run_again(id, 0, true).await;
        let mut late = birth(scene, id, 0);
        late.workflow.parent = Some(Parent { workflow: id, step: 1, index: 0 });
        assert_eq!(refusal(scene.store.create(late).await), ErrorKind::Refused);
        assert_eq!(worker.report(begun(&worker, &slice)).await.refused, [slice.lease]);
        assert_eq!(scene.store.children(id, 1, 0, 10).await.unwrap(), []);
    }

    pub async fn at_work_is_cancelled_when_its_job_is_skipped(scene: &Scene) {
        let id = whole(scene, 2).await;
        let worker = scene.worker().await;
        let children = begin_all(scene, &worker).await;
        assert_eq!(scene.by_hand(id, 0, ByHand::Skip { index: 1 }).await, 1);
        assert_eq!(scene.state(children[0]).await, W::Pending);
        assert_eq!(scene.state(children[1]).await, W::Cancelled);
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
        let replaces = scene.by_hand_of(id, 0, ByHand::Replace { index: 0, record: b"given".to_vec() });
        assert_eq!(refusal(scene.store.decide_by_hand(replaces).await), ErrorKind::Refused);
    }

    pub async fn at_work_is_cancelled_when_its_step_is_skipped(scene: &Scene) {
        let id = whole(scene, 3).await;
        let worker = scene.worker().await;
        let children = begin_all(scene, &worker).await;
        assert_eq!(scene.by_hand(id, 0, ByHand::SkipAll).await, 3);
        for child in children {
            assert_eq!(scene.state(child).await, W::Cancelled);
        }
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Skipped, S::Succeeded));
    }

    pub async fn that_is_being_repaired_goes_on_when_another_job_is_skipped(scene: &Scene) {
        let id = whole(scene, 2).await;
        let worker = scene.worker().await;
        let children = begin_all(scene, &worker).await;
        fail_all(&worker).await;
        scene.tick().await;
        scene.retry(children[1]).await;
        assert_eq!(scene.by_hand(id, 0, ByHand::Skip { index: 0 }).await, 1);
        assert_eq!(scene.state(children[1]).await, W::Running);
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
        assert_eq!(scene.job_states(id, 0).await, [J::Skipped, J::Succeeded]);
        scene.at_rest().await;
    }

    pub async fn that_is_being_repaired_goes_on_when_its_step_fails_fast(scene: &Scene) {
        let plan = scene.plan().step_with("files", 3, |spec| {
            (spec.children, spec.policy, spec.tolerate) = (true, FAST, Tolerate::Jobs(1));
        });
        let id = plan.step("report", 1).edge(0, 1, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        let children = begin_all(scene, &worker).await;
        let rows = worker.drain().await;
        fail_rows(&worker, &rows, children[0]).await;
        scene.retry(children[0]).await;
        fail_rows(&worker, &rows, children[1]).await;
        let states = [scene.state(children[0]).await, scene.state(children[2]).await];
        assert_eq!(states, [W::Running, W::Cancelling]);
        cut_off_rows(&worker, &rows, children[2]).await;
        worker.run().await;
        scene.tick().await;
        assert_eq!(scene.job_states(id, 0).await[..2], [J::Succeeded, J::Failed]);
        scene.at_rest().await;
    }

    pub async fn that_is_being_repaired_is_cancelled_with_the_whole(scene: &Scene) {
        let plan = scene.plan().step_with("files", 1, |spec| spec.children = true);
        let id = plan.step("other", 1).step("report", 1).edge(0, 2, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        let mut other = Vec::new();
        let mut children = Vec::new();
        for slice in worker.drain().await {
            match slice.step {
                0 => children.extend(begin(scene, &worker, &slice).await),
                _ => other.push(slice),
            }
        }
        fail_all(&worker).await;
        assert_eq!((stand(scene, id).await, other.len()), ((W::Running, S::Failed, S::Running), 1));
        scene.retry(children[0]).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        assert_eq!(scene.state(children[0]).await, W::Cancelled);
        worker.report(LeaseReport { cancelled: other[0].jobs, ..worker.part(&other[0]) }).await;
        scene.tick().await;
        assert_eq!(scene.state(id).await, W::Cancelled);
        scene.at_rest().await;
    }

    pub async fn of_a_child_ends_its_job_and_that_the_whole(scene: &Scene) {
        let id = whole(scene, 1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let child = WorkflowId::new(scene.clock.now(), id.shard());
        let create = scene.plan().step_with("files", 1, |spec| spec.children = true).call();
        let parent = Some(Parent { workflow: id, step: 0, index: 0 });
        let workflow = NewWorkflow { parent, ..new_workflow(child) };
        scene.store.create(Create { workflow, ..create }).await.unwrap();
        worker.report(begun(&worker, &slice)).await;
        let inner = worker.take(1).await;
        assert_eq!(inner.workflow, child);
        begin(scene, &worker, &inner).await;
        worker.run().await;
        assert_eq!(stand(scene, id).await, (W::Succeeded, S::Succeeded, S::Succeeded));
        scene.at_rest().await;
    }
}
