//! Cases of `run_again`: all jobs of a step run again, alone or with what comes after it.

pub mod run_again {
    use super::super::scene::*;
    use super::super::waits::approval;
    use crate::error::ErrorKind;
    use crate::id::WorkflowId;
    use crate::state::{Counts, EdgeKind, JobState, StepState, WorkflowState, attempts};
    use crate::store::{ByHand, RetryFailed, RunAgain, Tick};

    const ROWS: u32 = 0;
    const REPORT: u32 = 1;

    /// A workflow as [`Scene::rows`] makes it, all of which has succeeded.
    async fn done(scene: &Scene, jobs: u32) -> WorkflowId {
        let id = scene.rows(jobs).await;
        run(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        id
    }

    async fn run(scene: &Scene) {
        let worker = scene.worker().await;
        worker.run().await;
        scene.leave(&worker).await;
    }

    async fn states(scene: &Scene, id: WorkflowId) -> Vec<StepState> {
        let rows = scene.store.steps(id, 0, 100).await.unwrap();
        rows.into_iter().map(|row| row.state).collect()
    }

    pub async fn fresh_runs_what_succeeded_again_and_leaves_a_follower_that_has_run(scene: &Scene) {
        let id = done(scene, 4).await;
        assert_eq!(scene.run_again(id, ROWS, false).await, 4);
        let row = scene.row(id).await;
        assert_eq!((row.state, row.finished_at, row.jobs.succeeded), (WorkflowState::Running, None, 1));
        assert_eq!(states(scene, id).await, [StepState::Running, StepState::Succeeded]);
        scene.check().await;
        let worker = scene.worker().await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3]);
        scene.leave(&worker).await;
        run(scene).await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 5));
        assert_eq!(attempts(scene.bytes(id, REPORT).await[0]), 1, "the report has not run again");
        assert!(scene.step(id, REPORT).await.outdated, "and says that it is older than its input");
        assert!(!scene.step(id, ROWS).await.outdated);
    }

    pub async fn fresh_with_all_after_runs_each_once_what_is_before_it_has_settled(scene: &Scene) {
        let plan = scene.plan().step("a", 1).step("b", 2).step("c", 1).step("d", 1);
        let plan = plan.edge(0, 1, EdgeKind::After).edge(1, 2, EdgeKind::After).edge(0, 3, EdgeKind::After);
        let id = plan.create().await;
        run(scene).await;
        scene.run_again(id, 1, true).await;
        let waits = [StepState::Succeeded, StepState::Running, StepState::Waiting, StepState::Succeeded];
        assert_eq!(states(scene, id).await, waits);
        scene.check().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        assert!(slices.iter().all(|slice| slice.step == 1));
        for slice in &slices {
            assert_eq!(scene.step_state(id, 2).await, StepState::Waiting);
            worker.succeed(slice).await;
        }
        assert_eq!(scene.step_state(id, 2).await, StepState::Running);
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        let rows = scene.store.steps(id, 0, 4).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.generation).collect::<Vec<_>>(), [0, 1, 1, 0]);
        assert!(rows.iter().all(|row| !row.outdated));
    }

    pub async fn repeated_number_runs_it_again_once(scene: &Scene) {
        let id = done(scene, 4).await;
        let command = scene.run_again_of(id, ROWS, true);
        let first = scene.store.run_again(command).await.unwrap();
        scene.tick().await;
        run(scene).await;
        let again = scene.store.run_again(command).await.unwrap();
        scene.tick().await;
        assert_eq!((first.jobs, again), (4, first), "it is answered as it was");
        assert_eq!((scene.step(id, ROWS).await.generation, scene.state(id).await), (1, WorkflowState::Succeeded));
    }

    pub async fn answer_lost_runs_it_again_once(scene: &Scene) {
        let id = done(scene, 4).await;
        let command = scene.run_again_of(id, ROWS, false);
        lose(scene.store.run_again(command)).await;
        assert_eq!(scene.store.run_again(command).await.unwrap().jobs, 4);
        scene.tick().await;
        assert_eq!(scene.step(id, ROWS).await.generation, 1);
        assert_eq!(jobs_of(&scene.worker().await.drain().await), [0, 1, 2, 3]);
    }

    pub async fn older_command_is_refused_as_unknown(scene: &Scene) {
        let id = done(scene, 1).await;
        let (older, newer) = (scene.run_again_of(id, ROWS, false), scene.run_again_of(id, ROWS, false));
        scene.store.run_again(newer).await.unwrap();
        assert_eq!(refusal(scene.store.run_again(older).await), ErrorKind::Refused);
        scene.tick().await;
    }

    pub async fn lease_taken_back_refuses_a_late_report(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        let slice = worker.take(2).await;
        scene.run_again(id, ROWS, false).await;
        let late = worker.succeed(&slice).await;
        assert_eq!((late.refused, scene.jobs(id).await.succeeded), (vec![slice.lease], 0));
        assert_eq!((scene.step(id, ROWS).await.running, scene.step(id, ROWS).await.generation), (0, 1));
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3]);
        assert!(worker.renew(&[slice.lease]).await.lost.contains(&slice.lease));
    }

    pub async fn paused_waits_for_the_resume(scene: &Scene) {
        let id = scene.rows(2).await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        scene.pause(id).await;
        assert_eq!(scene.run_again(id, ROWS, false).await, 2);
        assert_eq!((scene.jobs(id).await.succeeded, worker.drain().await.len()), (0, 0));
        scene.resume(id).await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1]);
    }

    pub async fn cancelling_is_refused(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(2).await).await;
        worker.take(1).await;
        scene.cancel(id, 60_000).await;
        assert_eq!(refusal(scene.store.run_again(scene.run_again_of(id, ROWS, false)).await), ErrorKind::Refused);
        assert_eq!(scene.jobs(id).await.succeeded, 2);
    }

    pub async fn cancelling_ends_what_is_being_taken_back(scene: &Scene) {
        let plan = scene.plan().step("rows", 300 * 1_024).step("report", 1).edge(0, 1, EdgeKind::After);
        let id = plan.step("sweep", 2_000).always().edge(1, 2, EdgeKind::Always).create().await;
        run(scene).await;
        scene.store.run_again(scene.run_again_of(id, ROWS, true)).await.unwrap();
        for _ in 0..3 {
            assert!(scene.store.tick(Tick { lease: LEASE }).await.unwrap().more);
        }
        scene.cancel(id, 0).await;
        scene.tick().await;
        scene.check().await;
        run(scene).await;
        scene.leases_end().await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        assert!(scene.step_state(id, 2).await.is_settled());
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = done(scene, 4).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.run_again(scene.run_again_of(id, ROWS, false)).await), ErrorKind::NotFound);
    }

    pub async fn by_an_unknown_session_is_answered_so(scene: &Scene) {
        let id = done(scene, 4).await;
        let stranger = RunAgain { session: session().id, ..scene.run_again_of(id, ROWS, false) };
        assert_eq!(refusal(scene.store.run_again(stranger).await), ErrorKind::NotFound);
        assert_eq!(scene.jobs(id).await.succeeded, 5);
    }

    pub async fn of_a_step_that_still_waits_changes_nothing(scene: &Scene) {
        let id = scene.failed(2).await;
        let before = scene.row(id).await;
        let told = scene.store.run_again(scene.run_again_of(id, REPORT, true)).await.unwrap();
        assert_eq!((told.jobs, told.more, scene.row(id).await), (0, false, before));
    }

    pub async fn of_what_failed_keeps_its_generation(scene: &Scene) {
        let id = scene.failed(2).await;
        scene.run_again(id, ROWS, false).await;
        let step = scene.step(id, ROWS).await;
        assert_eq!((step.generation, step.jobs.failed, scene.errors(id, ROWS).await), (0, 0, vec![]));
        assert_eq!(scene.step_state(id, REPORT).await, StepState::Waiting);
        run(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn tells_the_generation_with_each_slice(scene: &Scene) {
        let id = done(scene, 1).await;
        for generation in 1..3 {
            scene.run_again(id, ROWS, true).await;
            let worker = scene.worker().await;
            let slice = worker.take(1).await;
            assert_eq!((slice.generation, slice.attempts.len()), (generation, 0), "as if it had never run");
            worker.succeed(&slice).await;
            worker.run().await;
        }
    }

    pub async fn lets_what_was_skipped_be_asked_anew(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).step("alarm", 2).edge(0, 1, EdgeKind::AfterFailure);
        let id = plan.step("calm", 1).edge(1, 2, EdgeKind::AfterFailure).create().await;
        run(scene).await;
        assert_eq!(states(scene, id).await, [StepState::Succeeded, StepState::Skipped, StepState::Skipped]);
        scene.run_again(id, 0, false).await;
        assert_eq!(states(scene, id).await, [StepState::Running, StepState::Waiting, StepState::Waiting]);
        scene.check().await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "this time").await;
        assert_eq!(scene.step_state(id, 1).await, StepState::Running);
        worker.run().await;
        assert_eq!(states(scene, id).await, [StepState::Failed, StepState::Succeeded, StepState::Skipped]);
    }

    pub async fn takes_back_a_follower_that_is_at_work(scene: &Scene) {
        let id = scene.plan().step("rows", 1).step("mails", 4).edge(0, 1, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        worker.succeed(&worker.take(2).await).await;
        let slice = worker.take(1).await;
        scene.run_again(id, 0, false).await;
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease]);
        assert_eq!(states(scene, id).await, [StepState::Running, StepState::Waiting]);
        assert_eq!(scene.jobs(id).await.succeeded, 0);
        worker.succeed(&worker.take(1).await).await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3]);
    }

    pub async fn asks_anew_how_the_steps_before_it_stand(scene: &Scene) {
        let plan = scene.plan().step("a", 1).step("b", 1).step("end", 1);
        let id = plan.edge(0, 2, EdgeKind::AfterSettled).edge(1, 2, EdgeKind::AfterSettled).create().await;
        let worker = scene.worker().await;
        let (one, other) = (worker.take(1).await, worker.take(1).await);
        worker.fail(&one, "bad").await;
        worker.fail(&other, "bad").await;
        worker.run().await;
        // Step a is at work again, and the end has run: it was released by what both were.
        scene.store.retry(RetryFailed { step: Some(0), ..scene.retry_of(id) }).await.unwrap();
        scene.tick().await;
        assert!(scene.step(id, 2).await.outdated);
        scene.run_again(id, 2, false).await;
        assert_eq!(states(scene, id).await, [StepState::Running, StepState::Failed, StepState::Waiting]);
        scene.check().await;
        worker.run().await;
        assert_eq!(states(scene, id).await, [StepState::Succeeded, StepState::Failed, StepState::Succeeded]);
    }

    pub async fn of_a_source_lets_it_emit_anew(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.produce(&slice, 3).await;
        }
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 9));
        scene.run_again(id, 0, false).await;
        assert_eq!(states(scene, id).await, [StepState::Running, StepState::Waiting, StepState::Succeeded]);
        assert_eq!((scene.step(id, 1).await.jobs.total, scene.jobs(id).await.total), (0, 3));
        scene.check().await;
        for slice in worker.drain().await {
            worker.produce(&slice, 2).await;
        }
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.step(id, 1).await.jobs.succeeded), (WorkflowState::Succeeded, 4));
        let outdated = (scene.step(id, 1).await.outdated, scene.step(id, 2).await.outdated);
        assert_eq!(outdated, (false, true), "the report is older than the rows");
    }

    pub async fn of_a_source_drops_jobs_that_were_skipped_by_hand_before_their_step_began(scene: &Scene) {
        let plan = scene.plan().step_with("source", 1, |source| source.feeds = Some(2)).step("gate", 1).step("rows", 0);
        let id = plan.edge(0, 2, EdgeKind::Feeds).edge(1, 2, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        let (source, gate) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&source, 3).await;
        assert_eq!(scene.by_hand(id, 2, ByHand::Skip { index: 1 }).await, 1);
        scene.run_again(id, 0, false).await;
        assert_eq!(scene.step(id, 2).await.jobs, Counts::default());
        scene.check().await;
        worker.produce(&worker.take(1).await, 2).await;
        worker.succeed(&gate).await;
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.step(id, 2).await.jobs.succeeded), (WorkflowState::Succeeded, 2));
    }

    pub async fn of_a_source_at_work_refuses_what_it_emits_late(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let (one, other) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&one, 3).await;
        let late = worker.production(&other, 3).await;
        scene.run_again(id, 0, true).await;
        assert_eq!(worker.report(late).await.refused, [other.lease]);
        assert_eq!(scene.step(id, 1).await.jobs.total, 0);
        for slice in worker.drain().await {
            worker.produce(&slice, 1).await;
        }
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 5));
    }

    pub async fn of_a_fed_step_runs_what_is_there(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        worker.produce(&worker.take(1).await, 3).await;
        worker.run().await;
        scene.run_again(id, 1, true).await;
        assert_eq!(states(scene, id).await, [StepState::Succeeded, StepState::Running, StepState::Waiting]);
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2]);
    }

    pub async fn of_a_fed_step_whose_source_still_emits_begins_with_what_is_there(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let (one, other) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&one, 2).await;
        worker.succeed(&worker.take(2).await).await;
        scene.run_again(id, 1, false).await;
        let rows = worker.drain().await;
        assert!(rows.iter().all(|slice| (slice.step, slice.generation) == (1, 1)));
        assert_eq!(jobs_of(&rows), [0, 1]);
        worker.produce(&other, 1).await;
        for slice in &rows {
            worker.succeed(slice).await;
        }
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 6));
    }

    pub async fn of_a_fed_step_whose_source_has_failed_begins_with_what_is_there(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let (first, second) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&first, 3).await;
        worker.fail(&second, "no such file").await;
        worker.run().await;
        assert_eq!(scene.step_state(id, 1).await, StepState::Waiting);
        scene.run_again(id, 1, false).await;
        assert_eq!((scene.state(id).await, count_jobs(&worker.drain().await)), (WorkflowState::Running, 3));
    }

    pub async fn of_a_wait_takes_another_signal(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).wait("manager", approval()).step("publish", 1);
        let id = plan.edge(0, 1, EdgeKind::After).edge(1, 2, EdgeKind::After).create().await;
        run(scene).await;
        scene.signal(id, "manager").await;
        run(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.run_again(id, 0, true).await;
        run(scene).await;
        assert_eq!(states(scene, id).await, [StepState::Succeeded, StepState::Running, StepState::Waiting]);
        assert_eq!(scene.job_states(id, 1).await, [JobState::Deferred]);
        assert_eq!(scene.signal(id, "manager").await.already, None);
        run(scene).await;
        assert_eq!((scene.state(id).await, scene.records(id, 1).await.len()), (WorkflowState::Succeeded, 1));
    }

    pub async fn keeps_a_signal_that_came_early(scene: &Scene) {
        let id = scene.plan().step("rows", 1).wait("manager", approval()).edge(0, 1, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        scene.signal(id, "manager").await;
        worker.fail(&worker.take(1).await, "bad").await;
        scene.run_again(id, 0, true).await;
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn in_bites_lets_nothing_settle_or_begin_between_two_of_them(scene: &Scene) {
        let jobs = 300 * 1_024;
        let plan = scene.plan().step("rows", jobs).step("other", 1).step("report", 1);
        let id = plan.edge(0, 2, EdgeKind::After).edge(1, 2, EdgeKind::AfterSettled).create().await;
        run(scene).await;
        scene.store.run_again(scene.run_again_of(id, 0, true)).await.unwrap();
        let worker = scene.worker().await;
        let mut bites_between = 0;
        while scene.store.tick(Tick { lease: LEASE }).await.unwrap().more {
            let rows = scene.step(id, 0).await.jobs;
            if rows.succeeded > 0 && rows.succeeded < u64::from(jobs) {
                bites_between += 1;
                assert!(worker.claim(1024, 16).await.slices.is_empty());
                assert_eq!(scene.state(id).await, WorkflowState::Running);
            }
        }
        assert!(bites_between > 0, "it took one bite only");
        assert_eq!(count_jobs(&worker.drain().await), jobs as usize);
    }

    pub async fn in_bites_is_not_released_by_what_settles_meanwhile(scene: &Scene) {
        let plan = scene.plan().step("check", 1).step("rows", 300 * 1_024).edge(0, 1, EdgeKind::AfterSettled);
        let id = plan.create().await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "bad").await;
        worker.run().await;
        scene.retry(id).await;
        let check = worker.take(1).await;
        scene.store.run_again(scene.run_again_of(id, 1, false)).await.unwrap();
        while scene.step(id, 1).await.jobs.succeeded == 300 * 1_024 {
            scene.store.tick(Tick { lease: LEASE }).await.unwrap();
        }
        worker.succeed(&check).await;
        let rows = scene.step(id, 1).await;
        assert!(rows.jobs.succeeded > 0, "it took one bite only");
        assert_eq!(rows.state, StepState::Waiting);
        scene.tick().await;
        assert_eq!(count_jobs(&worker.drain().await), 300 * 1_024, "each job once");
    }

    pub async fn in_bites_does_not_settle_meanwhile(scene: &Scene) {
        const FOLLOWERS: u32 = 600;
        let mut plan = scene.plan().step("rows", 1);
        for number in 1..=FOLLOWERS {
            plan = plan.step(&format!("after {number}"), 1).edge(0, number, EdgeKind::After);
        }
        let id = plan.create().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.store.run_again(scene.run_again_of(id, 0, false)).await.unwrap();
        scene.store.tick(Tick { lease: LEASE }).await.unwrap();
        worker.succeed(&slice).await;
        scene.tick().await;
        let running =
            scene.store.steps(id, 0, 1_000).await.unwrap().into_iter().filter(|row| row.state == StepState::Running);
        assert_eq!(running.map(|row| row.number).collect::<Vec<_>>(), [0], "no follower runs before it");
    }

    pub async fn in_bites_lets_a_retry_wait(scene: &Scene) {
        let id = scene.plan().step("rows", 300 * 1_024).step("other", 1).create().await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        scene.store.run_again(scene.run_again_of(id, 0, false)).await.unwrap();
        scene.store.tick(Tick { lease: LEASE }).await.unwrap();
        scene.store.retry(scene.retry_of(id)).await.unwrap();
        while scene.store.tick(Tick { lease: LEASE }).await.unwrap().more {
            let holds = scene.store.waiting(id, 0).await.unwrap().holds;
            assert!(holds.len() < 2, "{holds:?}");
        }
        scene.check().await;
        assert_eq!(count_jobs(&worker.drain().await), 300 * 1_024 + 1, "each job once");
    }

    pub async fn waits_for_a_retry_that_has_begun(scene: &Scene) {
        let id = scene.failed(300 * 1_024).await;
        scene.store.retry(scene.retry_of(id)).await.unwrap();
        while scene.jobs(id).await.failed > 70 * 1_024 {
            scene.store.tick(Tick { lease: LEASE }).await.unwrap();
        }
        scene.run_again(id, ROWS, true).await;
        scene.check().await;
        assert_eq!(count_jobs(&scene.worker().await.drain().await), 300 * 1_024, "each job once");
    }

    pub async fn one_after_the_other_if_two_are_asked_for(scene: &Scene) {
        let plan = scene.plan().step("a", 2).step("b", 2).step("end", 1);
        let id = plan.edge(0, 2, EdgeKind::After).edge(1, 2, EdgeKind::After).create().await;
        run(scene).await;
        for step in [0, 1] {
            scene.store.run_again(scene.run_again_of(id, step, true)).await.unwrap();
        }
        scene.tick().await;
        scene.check().await;
        assert_eq!(states(scene, id).await, [StepState::Running, StepState::Running, StepState::Waiting]);
        run(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        assert_eq!(scene.step(id, 2).await.generation, 1, "it has been taken back once, for both");
    }

    pub async fn of_a_step_with_many_followers_keeps_its_bounds(scene: &Scene) {
        let mut plan = scene.plan().step("a", 1);
        for number in 1..600 {
            plan = plan.step(&format!("b{number}"), 1).edge(0, number, EdgeKind::After);
        }
        plan = plan.step("end", 1);
        for number in 1..600 {
            plan = plan.edge(number, 600, EdgeKind::After);
        }
        let id = plan.create().await;
        run(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.run_again(id, 0, true).await;
        scene.check().await;
        assert_eq!(scene.jobs(id).await.succeeded, 0);
        run(scene).await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 601));
    }
}
