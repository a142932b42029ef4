//! Repairs, and the end of what is no longer needed: retry, mended parameters, delete.

pub mod retry {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::{EdgeKind, JobState, StepState, WorkflowState, attempts};
    use crate::store::{RetryFailed, Tick};

    pub async fn fresh_brings_failed_jobs_back_with_new_attempts(scene: &Scene) {
        let id = scene.failed(4).await;
        assert_eq!(scene.retry(id).await.jobs, 4);
        let row = scene.row(id).await;
        assert_eq!((row.state, row.finished_at, row.jobs.failed), (WorkflowState::Running, None, 0));
        assert_eq!((scene.step_state(id, 0).await, attempts(scene.bytes(id, 0).await[0])), (StepState::Running, 0));
        scene.worker().await.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 5));
    }

    pub async fn repeated_number_retries_nothing_that_failed_since(scene: &Scene) {
        let id = scene.failed(4).await;
        let command = scene.retry_of(id);
        let first = scene.store.retry(command.clone()).await.unwrap();
        scene.tick().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "again").await;
        }
        let again = scene.store.retry(command).await.unwrap();
        scene.tick().await;
        assert_eq!((first.jobs, again.jobs), (4, 4), "it is answered as it was");
        assert_eq!((scene.jobs(id).await.failed, scene.state(id).await), (4, WorkflowState::Failed));
    }

    pub async fn answer_lost_before_its_chore_is_done_retries_once(scene: &Scene) {
        let id = scene.failed(4).await;
        let command = scene.retry_of(id);
        scene.store.retry(command.clone()).await.unwrap();
        assert_eq!(scene.store.retry(command).await.unwrap().jobs, 4);
        scene.tick().await;
        assert_eq!(jobs_of(&scene.worker().await.drain().await), [0, 1, 2, 3]);
    }

    pub async fn older_command_is_refused_as_unknown(scene: &Scene) {
        let id = scene.failed(4).await;
        let (older, newer) = (scene.retry_of(id), scene.retry_of(id));
        scene.store.retry(newer).await.unwrap();
        assert_eq!(refusal(scene.store.retry(older).await), ErrorKind::Refused);
    }

    pub async fn lease_taken_back_too_often_is_repaired_like_any_failure(scene: &Scene) {
        let id = scene.plan().step_with("rows", 1, |spec| spec.max_recoveries = 1).create().await;
        for _ in 0..2 {
            scene.worker().await.take(1).await;
            scene.wait(2 * LEASE).await;
        }
        scene.worker().await.take_alone().await;
        scene.wait(2 * LEASE).await;
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        scene.retry(id).await;
        assert!(scene.errors(id, 0).await.is_empty());
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert!(!slice.suspect, "a repair forgives");
        worker.succeed(&slice).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn paused_waits_for_the_resume(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(2).await, "bad").await;
        scene.pause(id).await;
        assert_eq!(scene.retry(id).await.jobs, 2);
        assert_eq!((scene.jobs(id).await.failed, worker.drain().await.len()), (0, 0));
        assert_eq!(scene.state(id).await, WorkflowState::Paused);
        scene.resume(id).await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3]);
    }

    pub async fn cancelling_is_refused(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(2).await, "bad").await;
        worker.take(1).await;
        scene.cancel(id, 60_000).await;
        assert_eq!(refusal(scene.store.retry(scene.retry_of(id)).await), ErrorKind::Refused);
        assert_eq!(scene.jobs(id).await.failed, 2);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.failed(4).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.retry(scene.retry_of(id)).await), ErrorKind::NotFound);
    }

    pub async fn by_an_unknown_session_is_answered_so(scene: &Scene) {
        let id = scene.failed(4).await;
        let stranger = RetryFailed { session: session().id, ..scene.retry_of(id) };
        assert_eq!(refusal(scene.store.retry(stranger).await), ErrorKind::NotFound);
        assert_eq!(scene.jobs(id).await.failed, 4);
    }

    pub async fn where_nothing_failed_changes_nothing(scene: &Scene) {
        let id = scene.succeeded(4).await;
        let before = scene.row(id).await;
        let retried = scene.retry(id).await;
        assert_eq!((retried.jobs, retried.more), (0, false));
        assert_eq!(scene.row(id).await, before);
    }

    pub async fn of_one_step_leaves_the_others_failed(scene: &Scene) {
        let id = scene.plan().step("a", 2).step("b", 2).create().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        let retried = scene.store.retry(RetryFailed { step: Some(1), ..scene.retry_of(id) }).await.unwrap();
        scene.tick().await;
        assert_eq!((retried.jobs, scene.step(id, 0).await.jobs.failed, scene.step(id, 1).await.jobs.failed), (2, 2, 0));
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Failed, "step a still is");
    }

    pub async fn lets_no_follower_run_before_it_has_been_repaired(scene: &Scene) {
        let id = scene.failed(4).await;
        scene.retry(id).await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        assert!(slices.iter().all(|slice| slice.step == 0));
        let last = slices.len() - 1;
        for slice in &slices[..last] {
            worker.succeed(slice).await;
            assert_eq!(scene.step_state(id, 1).await, StepState::Waiting);
        }
        worker.succeed(&slices[last]).await;
        assert_eq!(scene.step_state(id, 1).await, StepState::Running);
    }

    pub async fn keeps_what_has_succeeded(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "bad").await;
        for slice in worker.drain().await {
            worker.succeed(&slice).await;
        }
        scene.retry(id).await;
        assert_eq!(jobs_of(&worker.drain().await), [0]);
        assert_eq!(scene.job_states(id, 0).await[1..], [JobState::Succeeded; 3]);
    }

    pub async fn keeps_the_generation(scene: &Scene) {
        let id = scene.failed(2).await;
        scene.retry(id).await;
        assert_eq!((scene.worker().await.take(1).await.generation, scene.step(id, 0).await.generation), (0, 0));
    }

    pub async fn a_follower_that_has_run_runs_no_second_time(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).step("alarm", 1).edge(0, 1, EdgeKind::AfterFailure);
        let id = plan.create().await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "bad").await;
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        scene.retry(id).await;
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 2));
        assert_eq!(attempts(scene.bytes(id, 1).await[0]), 1);
    }

    pub async fn in_bites_settles_nothing_between_two_of_them(scene: &Scene) {
        let id = scene.failed(40 * 1_024).await;
        scene.store.retry(scene.retry_of(id)).await.unwrap();
        let worker = scene.worker().await;
        let mut bites_between = 0;
        while scene.store.tick(Tick { lease: LEASE }).await.unwrap().more {
            for slice in worker.drain().await {
                worker.succeed(&slice).await;
            }
            let step = scene.step(id, 0).await;
            let under_repair = step.jobs.succeeded > 0 && step.jobs.failed > 0;
            assert!(!under_repair || step.state == StepState::Running, "{step:?}");
            bites_between += u32::from(under_repair);
        }
        assert!(bites_between > 0, "the repair took one bite only");
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn that_fails_again_lets_its_followers_wait_again(scene: &Scene) {
        let id = scene.failed(2).await;
        for _ in 0..2 {
            scene.retry(id).await;
            let worker = scene.worker().await;
            for slice in worker.drain().await {
                worker.fail(&slice, "bad").await;
            }
            assert_eq!(
                (scene.state(id).await, scene.step_state(id, 1).await),
                (WorkflowState::Failed, StepState::Waiting)
            );
            scene.check().await;
        }
    }
}

/// Failed jobs run again with other parameters.
pub mod discard {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::{EdgeKind, JobState, StepState, WorkflowState};
    use crate::store::{LeaseReport, LoneJobs, RetryFailed};

    async fn discard(scene: &Scene, retry: RetryFailed) -> u64 {
        let jobs = scene.store.retry(RetryFailed { discard: true, ..retry }).await.unwrap().jobs;
        scene.tick().await;
        scene.check().await;
        jobs
    }

    pub async fn fresh_skips_what_failed_and_what_waits_goes_on(scene: &Scene) {
        let id = scene.plan().step("rows", 4).step("report", 1).edge(0, 1, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        assert_eq!(discard(scene, scene.retry_of(id)).await, 4);
        assert_eq!((scene.jobs(id).await.skipped, scene.errors(id, 0).await), (4, vec![]));
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn repeated_number_discards_once(scene: &Scene) {
        let id = scene.failed(4).await;
        let command = RetryFailed { discard: true, ..scene.retry_of(id) };
        for _ in 0..2 {
            assert_eq!(scene.store.retry(command.clone()).await.unwrap().jobs, 4);
            scene.tick().await;
        }
        assert_eq!(scene.jobs(id).await.skipped, 4);
    }

    pub async fn answer_lost_discards_once(scene: &Scene) {
        let id = scene.failed(4).await;
        let command = RetryFailed { discard: true, ..scene.retry_of(id) };
        lose(scene.store.retry(command.clone())).await;
        assert_eq!(scene.store.retry(command).await.unwrap().jobs, 4);
        scene.tick().await;
        assert_eq!(scene.jobs(id).await.skipped, 4);
    }

    pub async fn lease_taken_back_goes_on_beside_it(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(2).await, "bad").await;
        worker.take(2).await;
        assert_eq!(discard(scene, scene.retry_of(id)).await, 2);
        scene.leases_end().await;
        scene.worker().await.run().await;
        let states = [JobState::Skipped, JobState::Skipped, JobState::Succeeded, JobState::Succeeded];
        assert_eq!((scene.job_states(id, 0).await, scene.state(id).await), (states.to_vec(), WorkflowState::Succeeded));
    }

    pub async fn paused_discards_all_the_same(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(2).await, "bad").await;
        scene.pause(id).await;
        assert_eq!(discard(scene, scene.retry_of(id)).await, 2);
        assert_eq!((scene.jobs(id).await.skipped, scene.state(id).await), (2, WorkflowState::Paused));
        scene.resume(id).await;
    }

    pub async fn cancelling_is_refused(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(2).await, "bad").await;
        worker.take(1).await;
        scene.cancel(id, 60_000).await;
        let command = RetryFailed { discard: true, ..scene.retry_of(id) };
        assert_eq!(refusal(scene.store.retry(command).await), ErrorKind::Refused);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.failed(4).await;
        scene.delete(id).await;
        let command = RetryFailed { discard: true, ..scene.retry_of(id) };
        assert_eq!(refusal(scene.store.retry(command).await), ErrorKind::NotFound);
    }

    pub async fn of_one_step_leaves_the_others_failed(scene: &Scene) {
        let id = scene.plan().step("a", 2).step("b", 2).create().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        assert_eq!(discard(scene, RetryFailed { step: Some(1), ..scene.retry_of(id) }).await, 2);
        assert_eq!(scene.step_state(id, 0).await, StepState::Failed);
        assert_eq!((scene.step_state(id, 1).await, scene.state(id).await), (StepState::Skipped, WorkflowState::Failed));
    }

    pub async fn lone_jobs_are_forgotten_at_once(scene: &Scene) {
        let lane = scene.lane(ROW, 0);
        let jobs = LoneJobs::new(lane.clone(), chunk(2, "lone rows"));
        scene.store.enqueue(scene.enqueue_of(vec![jobs])).await.unwrap();
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.report(LeaseReport { keep: 1_000_000, ..worker.failure(&slice, "bad") }).await;
        }
        assert_eq!(discard(scene, scene.retry_of(lane.id)).await, 2);
        assert_eq!((scene.jobs(lane.id).await.total, scene.errors(lane.id, 0).await), (0, vec![]));
        scene.leave(&worker).await;
        scene.at_rest().await;
    }

    pub async fn of_many_chunks_keeps_its_bounds(scene: &Scene) {
        let id = scene.rows(20_000).await;
        let worker = scene.worker().await;
        loop {
            let slices = worker.claim(1_024, 16).await.slices;
            if slices.is_empty() {
                break;
            }
            for slice in &slices {
                worker.fail(slice, "bad").await;
            }
        }
        assert_eq!(discard(scene, scene.retry_of(id)).await, 20_000);
        assert_eq!(scene.jobs(id).await.skipped, 20_000);
    }
}

pub mod mended {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::slice::Mask;
    use crate::state::{JobState, WorkflowState};
    use crate::store::{DraftKey, DraftOf, Part, RetryFailed};

    async fn retry_with(scene: &Scene, id: crate::WorkflowId, draft: DraftKey) -> crate::Result<u64> {
        let retry = RetryFailed { step: Some(0), mended: Some(draft), ..scene.retry_of(id) };
        let retried = scene.store.retry(retry).await?;
        scene.tick().await;
        Ok(retried.jobs)
    }

    pub async fn fresh_ones_run_again_and_no_others(scene: &Scene) {
        let id = scene.failed(4).await;
        let draft = scene.mend(id, 0, job(1).or(job(2)), "mended").await;
        retry_with(scene, id, draft).await.unwrap();
        let slice = scene.worker().await.take(9).await;
        assert_eq!(scene.jobs(id).await.failed, 2);
        let parameters = scene.store.parameters(slice.chunk).await.unwrap();
        assert_eq!(parameters.body, b"rows from 0");
        assert_eq!(parameters.mended, [(Mask::range(1..3), b"mended".to_vec())]);
        assert!(slice.parameters.is_none(), "mended ones are asked for");
    }

    /// Four jobs of which two have failed; the others are under the lease of a worker.
    async fn half(scene: &Scene) -> (crate::WorkflowId, Worker<'_>) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(2).await, "bad").await;
        worker.drain().await;
        (id, worker)
    }

    pub async fn repeated_command_is_answered_as_it_was(scene: &Scene) {
        let id = scene.failed(4).await;
        let draft = scene.mend(id, 0, job(1), "mended").await;
        let command = RetryFailed { step: Some(0), mended: Some(draft), ..scene.retry_of(id) };
        let first = scene.store.retry(command.clone()).await.unwrap();
        scene.tick().await;
        let worker = scene.worker().await;
        let slice = worker.take(9).await;
        worker.fail(&slice, "again").await;
        assert_eq!(scene.store.retry(command).await.unwrap().jobs, first.jobs);
        scene.tick().await;
        assert_eq!((scene.jobs(id).await.failed, worker.drain().await.len()), (4, 0));
        scene.at_rest().await;
    }

    pub async fn answer_lost_are_taken_once(scene: &Scene) {
        let id = scene.failed(4).await;
        let draft = scene.mend(id, 0, job(1), "mended").await;
        let command = RetryFailed { step: Some(0), mended: Some(draft), ..scene.retry_of(id) };
        lose(scene.store.retry(command.clone())).await;
        scene.store.retry(command).await.unwrap();
        scene.tick().await;
        let slice = scene.worker().await.take(9).await;
        assert_eq!(jobs_of(std::slice::from_ref(&slice)), [1]);
        let parameters = scene.store.parameters(slice.chunk).await.unwrap();
        assert_eq!(parameters.mended, [(job(1), b"mended".to_vec())]);
    }

    pub async fn lease_taken_back_goes_on_beside_them(scene: &Scene) {
        let (id, _worker) = half(scene).await;
        let draft = scene.mend(id, 0, job(0), "mended").await;
        retry_with(scene, id, draft).await.unwrap();
        scene.leases_end().await;
        scene.worker().await.run().await;
        let states = [JobState::Succeeded, JobState::Failed, JobState::Succeeded, JobState::Succeeded];
        assert_eq!((scene.job_states(id, 0).await, scene.state(id).await), (states.to_vec(), WorkflowState::Failed));
    }

    pub async fn paused_wait_for_the_resume(scene: &Scene) {
        let (id, worker) = half(scene).await;
        scene.pause(id).await;
        let draft = scene.mend(id, 0, job(0), "mended").await;
        retry_with(scene, id, draft).await.unwrap();
        assert_eq!((scene.jobs(id).await.failed, worker.drain().await.len()), (1, 0));
        scene.resume(id).await;
        assert_eq!(jobs_of(&worker.drain().await), [0]);
    }

    pub async fn cancelling_are_refused_and_leave_nothing(scene: &Scene) {
        let (id, _worker) = half(scene).await;
        let draft = scene.mend(id, 0, job(0), "mended").await;
        scene.cancel(id, 60_000).await;
        assert_eq!(refusal(retry_with(scene, id, draft).await), ErrorKind::Refused);
        assert_eq!(scene.jobs(id).await.failed, 2);
        scene.wait(60_000 + 2 * LEASE).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        scene.at_rest().await;
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.failed(4).await;
        let draft = scene.mend(id, 0, job(0), "mended").await;
        scene.delete(id).await;
        assert_eq!(refusal(retry_with(scene, id, draft).await), ErrorKind::NotFound);
        scene.wait(2 * LEASE).await;
        scene.at_rest().await;
    }

    pub async fn without_parameters_choose_who_runs_again(scene: &Scene) {
        let id = scene.failed(4).await;
        let draft = scene.mend(id, 0, job(2), "").await;
        retry_with(scene, id, draft).await.unwrap();
        let worker = scene.worker().await;
        let slice = worker.take(9).await;
        assert_eq!((jobs_of(std::slice::from_ref(&slice)), scene.jobs(id).await.failed), (vec![2], 3));
        let parameters = scene.store.parameters(slice.chunk).await.unwrap();
        assert_eq!((parameters.body, parameters.mended.len()), (b"rows from 0".to_vec(), 0));
        worker.succeed(&slice).await;
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        scene.at_rest().await;
    }

    pub async fn are_not_valid_before_the_retry(scene: &Scene) {
        let id = scene.failed(4).await;
        let chunk = scene.store.outcomes(id, 0, 0, 0).await.unwrap()[0].chunk;
        let draft = scene.mend(id, 0, job(1), "mended").await;
        assert!(scene.store.parameters(chunk).await.unwrap().mended.is_empty());
        retry_with(scene, id, draft).await.unwrap();
        assert_eq!(scene.store.parameters(chunk).await.unwrap().mended.len(), 1);
    }

    pub async fn two_sets_are_both_fed_again(scene: &Scene) {
        let id = scene.failed(4).await;
        for at in [0, 3] {
            let draft = scene.mend(id, 0, job(at), "mended").await;
            retry_with(scene, id, draft).await.unwrap();
        }
        assert_eq!(jobs_of(&scene.worker().await.drain().await), [0, 3]);
        assert_eq!(scene.under_way().await, 2, "the two leases");
    }

    pub async fn later_ones_replace_earlier_ones(scene: &Scene) {
        let id = scene.failed(4).await;
        let worker = scene.worker().await;
        let chunk = scene.store.outcomes(id, 0, 0, 0).await.unwrap()[0].chunk;
        for body in ["first", "second"] {
            let draft = scene.mend(id, 0, job(1), body).await;
            retry_with(scene, id, draft).await.unwrap();
            for slice in worker.drain().await {
                worker.fail(&slice, "bad").await;
            }
        }
        let mended = scene.store.parameters(chunk).await.unwrap().mended;
        assert_eq!(mended.last(), Some(&(job(1), b"second".to_vec())));
    }

    pub async fn for_another_chunk_are_dropped_and_harm_nobody(scene: &Scene) {
        let id = scene.failed(4).await;
        let part = Part::Mended { chunk: 4_711, first: 0, jobs: job(0), body: b"mended".to_vec() };
        let append = scene.draft(DraftOf::Mended { workflow: id, step: 0 }, vec![part]);
        scene.append(&append).await;
        retry_with(scene, id, append.draft).await.unwrap();
        assert_eq!(scene.jobs(id).await.failed, 4);
        scene.at_rest().await;
    }

    pub async fn whose_draft_is_gone_retry_nothing(scene: &Scene) {
        let id = scene.failed(4).await;
        let draft = scene.mend(id, 0, job(0), "mended").await;
        scene.wait(2 * LEASE).await;
        assert_eq!(refusal(retry_with(scene, id, draft).await), ErrorKind::Refused);
        assert_eq!(scene.jobs(id).await.failed, 4);
        scene.at_rest().await;
    }

    pub async fn of_another_step_are_refused(scene: &Scene) {
        let id = scene.failed(4).await;
        let draft = scene.mend(id, 1, job(0), "mended").await;
        assert_eq!(refusal(retry_with(scene, id, draft).await), ErrorKind::Refused);
        assert_eq!(scene.jobs(id).await.failed, 4);
    }

    pub async fn belong_to_one_step(scene: &Scene) {
        let id = scene.failed(4).await;
        let draft = scene.mend(id, 0, job(0), "mended").await;
        let retry = RetryFailed { mended: Some(draft), ..scene.retry_of(id) };
        assert_eq!(refusal(scene.store.retry(retry).await), ErrorKind::Usage);
        assert_eq!(scene.jobs(id).await.failed, 4);
    }

    pub async fn that_are_refused_leave_the_key_of_their_workflow_free(scene: &Scene) {
        scene.stay_on_one_shard();
        let begin = scene.keyed("night");
        let id = scene.started(&begin).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "broken").await;
        }
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        let gone = DraftKey { number: 4_711, ..begin.draft };
        assert_eq!(refusal(retry_with(scene, id, gone).await), ErrorKind::Refused);
        let next = scene.started(&scene.keyed("night")).await;
        assert_eq!((scene.state(id).await, scene.state(next).await), (WorkflowState::Failed, WorkflowState::Pending));
    }
}

pub mod delete {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::WorkflowState;
    use crate::store::List;

    pub async fn fresh_takes_it_off_all_lists_at_once(scene: &Scene) {
        let id = scene.failed(3_000).await;
        scene.store.delete(id).await.unwrap();
        assert!(scene.list(List::default()).await.is_empty());
        assert!(scene.list(List { state: Some(WorkflowState::Failed), ..List::default() }).await.is_empty());
        scene.tick().await;
        assert_eq!(refusal(scene.store.workflow(id).await), ErrorKind::NotFound);
        scene.at_rest().await;
    }

    pub async fn repeated_while_its_chore_runs_is_no_error(scene: &Scene) {
        let id = scene.failed(3_000).await;
        scene.store.delete(id).await.unwrap();
        scene.store.delete(id).await.unwrap();
        scene.tick().await;
        scene.at_rest().await;
    }

    pub async fn answer_lost_after_its_end_is_not_found(scene: &Scene) {
        let id = scene.succeeded(3).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.delete(id).await), ErrorKind::NotFound);
    }

    pub async fn lease_taken_back_first_by_a_cancel(scene: &Scene) {
        let id = scene.lone(3).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert_eq!(refusal(scene.store.delete(id).await), ErrorKind::Refused, "while it runs");
        scene.cancel(id, 0).await;
        scene.leases_end().await;
        scene.delete(id).await;
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease]);
        scene.at_rest().await;
    }

    pub async fn paused_is_refused(scene: &Scene) {
        let id = scene.lone(3).await;
        scene.pause(id).await;
        assert_eq!(refusal(scene.store.delete(id).await), ErrorKind::Refused);
        assert_eq!((scene.state(id).await, scene.jobs(id).await.total), (WorkflowState::Paused, 3));
    }

    pub async fn cancelling_is_refused(scene: &Scene) {
        let id = scene.lone(3).await;
        scene.worker().await.take(1).await;
        scene.cancel(id, 60_000).await;
        assert_eq!(refusal(scene.store.delete(id).await), ErrorKind::Refused);
        assert_eq!(scene.state(id).await, WorkflowState::Cancelling);
    }

    pub async fn deleted_leaves_the_others_whole(scene: &Scene) {
        let (gone, stays) = (scene.failed(3).await, scene.failed(3).await);
        let before = (scene.row(stays).await, scene.errors(stays, 0).await);
        scene.delete(gone).await;
        assert_eq!((scene.row(stays).await, scene.errors(stays, 0).await), before);
        scene.retry(stays).await;
        scene.worker().await.run().await;
        assert_eq!(scene.state(stays).await, WorkflowState::Succeeded);
    }

    pub async fn takes_mended_parameters_along(scene: &Scene) {
        let id = scene.failed(3).await;
        let draft = scene.mend(id, 0, job(0), "mended").await;
        let retry = crate::store::RetryFailed { step: Some(0), mended: Some(draft), ..scene.retry_of(id) };
        scene.store.retry(retry).await.unwrap();
        scene.worker().await.run().await;
        let chunk = scene.store.outcomes(id, 0, 0, 0).await.unwrap()[0].chunk;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.parameters(chunk).await), ErrorKind::NotFound);
        scene.at_rest().await;
    }
}
