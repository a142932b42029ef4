//! Cases of `decide_by_hand`: people skip steps and jobs, and give jobs an output.

pub mod decide_by_hand {
    use super::super::scene::*;
    use super::super::waits::approval;
    use crate::error::ErrorKind;
    use crate::state::{EdgeKind, JobState, StepState, WorkflowState};
    use crate::store::{ByHand, DecideByHand, Tick};

    const ROWS: u32 = 0;
    const REPORT: u32 = 1;

    fn skip(index: u64) -> ByHand {
        ByHand::Skip { index }
    }

    fn replace(index: u64) -> ByHand {
        ByHand::Replace { index, record: b"given".to_vec() }
    }

    async fn run(scene: &Scene) {
        let worker = scene.worker().await;
        worker.run().await;
        scene.leave(&worker).await;
    }

    pub async fn fresh_skips_a_failed_step_and_what_waits_goes_on(scene: &Scene) {
        let id = scene.failed(4).await;
        assert_eq!(scene.by_hand(id, ROWS, ByHand::SkipAll).await, 4);
        scene.check().await;
        assert_eq!((scene.step_state(id, ROWS).await, scene.errors(id, ROWS).await), (StepState::Skipped, vec![]));
        run(scene).await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 1));
    }

    pub async fn fresh_skips_one_job_and_the_others_run(scene: &Scene) {
        let id = scene.rows(4).await;
        assert_eq!(scene.by_hand(id, ROWS, skip(2)).await, 1);
        scene.check().await;
        let worker = scene.worker().await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 3]);
        scene.leave(&worker).await;
        run(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        assert_eq!(scene.job_states(id, ROWS).await[2], JobState::Skipped);
    }

    pub async fn fresh_gives_a_failed_job_an_output_with_which_it_has_succeeded(scene: &Scene) {
        let id = scene.failed(1).await;
        assert_eq!(scene.by_hand(id, ROWS, replace(0)).await, 1);
        scene.check().await;
        assert_eq!(
            (scene.job_states(id, ROWS).await, scene.errors(id, ROWS).await),
            (vec![JobState::Succeeded], vec![])
        );
        assert_eq!(scene.records(id, ROWS).await.last().unwrap(), b"given");
        assert_eq!(
            (scene.step_state(id, REPORT).await, scene.step(id, ROWS).await.generation),
            (StepState::Running, 0)
        );
        run(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn fresh_replaces_an_output_and_what_has_run_after_it_says_so(scene: &Scene) {
        let id = scene.rows(2).await;
        run(scene).await;
        assert_eq!(scene.by_hand(id, ROWS, replace(1)).await, 1);
        scene.check().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        assert!(scene.step(id, REPORT).await.outdated);
        assert_eq!(scene.records(id, ROWS).await.last().unwrap(), b"given");
    }

    pub async fn repeated_number_decides_once(scene: &Scene) {
        let id = scene.failed(2).await;
        let command = scene.by_hand_of(id, ROWS, skip(0));
        let first = scene.store.decide_by_hand(command.clone()).await.unwrap();
        scene.tick().await;
        let again = scene.store.decide_by_hand(command).await.unwrap();
        scene.tick().await;
        assert_eq!((first.jobs, again), (1, first), "it is answered as it was");
        assert_eq!(scene.job_states(id, ROWS).await, [JobState::Skipped, JobState::Failed]);
    }

    pub async fn answer_lost_decides_once(scene: &Scene) {
        let id = scene.failed(2).await;
        let command = scene.by_hand_of(id, ROWS, replace(0));
        lose(scene.store.decide_by_hand(command.clone())).await;
        assert_eq!(scene.store.decide_by_hand(command).await.unwrap().jobs, 1);
        scene.tick().await;
        let given = scene.records(id, ROWS).await.iter().filter(|record| *record == b"given").count();
        assert_eq!((given, scene.job_states(id, ROWS).await), (1, vec![JobState::Succeeded, JobState::Failed]));
    }

    pub async fn lease_taken_back_refuses_a_late_report(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        let slice = worker.take(4).await;
        let at = slice.first + slice.jobs.iter().next().unwrap() as u64;
        assert_eq!(scene.by_hand(id, ROWS, skip(at)).await, 1);
        scene.check().await;
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease]);
        let others: Vec<u64> = (0..8).filter(|index| *index != at).collect();
        assert_eq!(jobs_of(&worker.drain().await), others, "whatever else was in the slice runs again");
    }

    pub async fn lease_taken_back_of_a_whole_step(scene: &Scene) {
        let id = scene.rows(4).await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        let slice = worker.take(1).await;
        assert_eq!(scene.by_hand(id, ROWS, ByHand::SkipAll).await, 3);
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease]);
        assert_eq!(scene.step_state(id, ROWS).await, StepState::Succeeded, "one of its jobs has");
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn paused_decides_all_the_same(scene: &Scene) {
        let id = scene.rows(2).await;
        scene.pause(id).await;
        assert_eq!(scene.by_hand(id, ROWS, ByHand::SkipAll).await, 2);
        assert_eq!(
            (scene.step_state(id, ROWS).await, scene.state(id).await),
            (StepState::Skipped, WorkflowState::Paused)
        );
        scene.resume(id).await;
        run(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn cancelling_is_refused(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(1).await;
        scene.cancel(id, 60_000).await;
        assert_eq!(refusal(scene.store.decide_by_hand(scene.by_hand_of(id, ROWS, skip(3))).await), ErrorKind::Refused);
    }

    pub async fn deleted_is_not_found(scene: &Scene) {
        let id = scene.failed(4).await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.decide_by_hand(scene.by_hand_of(id, ROWS, skip(0))).await), ErrorKind::NotFound);
    }

    pub async fn by_an_unknown_session_is_answered_so(scene: &Scene) {
        let id = scene.failed(4).await;
        let stranger = DecideByHand { session: session().id, ..scene.by_hand_of(id, ROWS, skip(0)) };
        assert_eq!(refusal(scene.store.decide_by_hand(stranger).await), ErrorKind::NotFound);
    }

    pub async fn about_what_has_succeeded_skips_nothing(scene: &Scene) {
        let id = scene.succeeded(4).await;
        let before = scene.row(id).await;
        for what in [ByHand::SkipAll, skip(1)] {
            let told = scene.store.decide_by_hand(scene.by_hand_of(id, ROWS, what)).await.unwrap();
            assert_eq!((told.jobs, told.more), (0, false));
        }
        assert_eq!(scene.row(id).await, before);
    }

    pub async fn about_a_job_that_is_not_there_is_not_found(scene: &Scene) {
        let id = scene.failed(2).await;
        assert_eq!(refusal(scene.store.decide_by_hand(scene.by_hand_of(id, ROWS, skip(2))).await), ErrorKind::NotFound);
    }

    pub async fn gives_no_output_to_what_has_not_run(scene: &Scene) {
        let id = scene.rows(2).await;
        let given = scene.store.decide_by_hand(scene.by_hand_of(id, ROWS, replace(0))).await;
        assert_eq!(refusal(given), ErrorKind::Refused);
        assert_eq!(scene.records(id, ROWS).await, Vec::<Vec<u8>>::new());
    }

    pub async fn skips_a_step_that_waits(scene: &Scene) {
        let plan = scene.plan().step("a", 2).step("b", 3).step("c", 1).step("empty", 0);
        let id =
            plan.edge(0, 1, EdgeKind::After).edge(1, 2, EdgeKind::After).edge(0, 3, EdgeKind::After).create().await;
        for step in [1, 3] {
            scene.by_hand(id, step, ByHand::SkipAll).await;
            assert_eq!(scene.step_state(id, step).await, StepState::Skipped);
        }
        assert_eq!(scene.step_state(id, 2).await, StepState::Running);
        scene.check().await;
        run(scene).await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.skipped), (WorkflowState::Succeeded, 3));
    }

    pub async fn skips_each_job_of_a_step_that_waits(scene: &Scene) {
        let plan = scene.plan().step("a", 1).step("b", 2).step("c", 1);
        let id = plan.edge(0, 1, EdgeKind::After).edge(1, 2, EdgeKind::After).create().await;
        for index in [0, 1] {
            assert_eq!(scene.by_hand(id, 1, skip(index)).await, 1);
        }
        assert_eq!(scene.step_state(id, 1).await, StepState::Waiting);
        run(scene).await;
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, 1).await),
            (WorkflowState::Succeeded, StepState::Skipped)
        );
    }

    pub async fn leaves_nothing_in_lines_and_timers(scene: &Scene) {
        let id = scene.lone(6).await;
        let worker = scene.worker().await;
        worker.retry_in(&worker.take(1).await, 3_600_000).await;
        worker.give_back(&worker.take(1).await).await;
        for index in 0..6 {
            scene.by_hand(id, ROWS, skip(index)).await;
            scene.check().await;
        }
        assert_eq!((scene.state(id).await, scene.under_way().await), (WorkflowState::Succeeded, 0));
    }

    pub async fn skips_a_wait(scene: &Scene) {
        let id = scene.plan().wait("manager", approval()).step("publish", 1).edge(0, 1, EdgeKind::After).create().await;
        assert_eq!(scene.by_hand(id, 0, ByHand::SkipAll).await, 1);
        run(scene).await;
        assert_eq!(
            (scene.state(id).await, scene.step_state(id, 0).await),
            (WorkflowState::Succeeded, StepState::Skipped)
        );
    }

    pub async fn skips_a_failed_source_and_what_it_feeds_has_what_is_there(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let (one, other) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&one, 3).await;
        worker.fail(&other, "bad").await;
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        let failed = other.first + other.jobs.iter().next().unwrap() as u64;
        assert_eq!(scene.by_hand(id, 0, skip(failed)).await, 1);
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 5));
    }

    pub async fn in_bites_settles_nothing_between_two_of_them(scene: &Scene) {
        let id = scene.failed(100 * 1_024).await;
        scene.store.decide_by_hand(scene.by_hand_of(id, ROWS, ByHand::SkipAll)).await.unwrap();
        let mut bites_between = 0;
        while scene.store.tick(Tick { lease: LEASE }).await.unwrap().more {
            let step = scene.step(id, ROWS).await;
            let under_repair = step.jobs.skipped > 0 && step.jobs.failed > 0;
            assert!(!under_repair || step.state == StepState::Running, "{step:?}");
            bites_between += u32::from(under_repair);
        }
        assert!(bites_between > 0, "it took one bite only");
        run(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn waits_while_its_step_is_taken_back_to_run_again(scene: &Scene) {
        let id = scene.failed(4).await;
        scene.store.run_again(scene.run_again_of(id, ROWS, true)).await.unwrap();
        scene.store.decide_by_hand(scene.by_hand_of(id, ROWS, skip(1))).await.unwrap();
        scene.tick().await;
        scene.check().await;
        let worker = scene.worker().await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 2, 3]);
    }
}
