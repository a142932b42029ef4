//! Cases of sources: several that feed one step, where what one emits may run once that one has succeeded, and the step that it is in
//! settles only once all of them have; and those that go on with what they had emitted before a checkpoint.

pub mod fan_out {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::state::{EdgeKind, JobState, StepState, Tolerate, WorkflowState};
    use crate::store::{LeaseReport, MAX_REPORTED_DRAFTS};

    const SOURCES: u32 = 0;
    const ROWS: u32 = 1;
    const REPORT: u32 = 2;

    async fn states(scene: &Scene, id: crate::WorkflowId) -> [StepState; 3] {
        [scene.step_state(id, SOURCES).await, scene.step_state(id, ROWS).await, scene.step_state(id, REPORT).await]
    }

    pub async fn fresh_rows_of_one_source_run_beside_the_other_sources(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let (first, second) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&first, 5).await;
        assert_eq!(states(scene, id).await, [StepState::Running, StepState::Running, StepState::Waiting]);
        let rows = worker.drain().await;
        assert_eq!((rows[0].step, jobs_of(&rows)), (ROWS, vec![0, 1, 2, 3, 4]));
        for slice in &rows {
            worker.succeed(slice).await;
        }
        assert_eq!(states(scene, id).await, [StepState::Running, StepState::Running, StepState::Waiting]);
        scene.check().await;
        worker.produce(&second, 3).await;
        assert_eq!(jobs_of(&worker.drain().await), [5, 6, 7]);
    }

    pub async fn repeated_adopts_each_draft_once(scene: &Scene) {
        let id = scene.sources(3).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let part = worker.production(&slice, 4).await;
        worker.report(part.clone()).await;
        assert_eq!(worker.report(part).await.refused, [slice.lease]);
        assert_eq!((scene.step(id, ROWS).await.jobs.total, scene.jobs(id).await.total), (8, 12));
    }

    pub async fn answer_lost_adopts_each_draft_once(scene: &Scene) {
        let id = scene.sources(5).await;
        let worker = scene.worker().await;
        let part = worker.production(&worker.take(3).await, 4).await;
        lose(worker.try_report(vec![part.clone()])).await;
        worker.report(part).await;
        assert_eq!(scene.step(id, ROWS).await.jobs.total, 12);
        worker.run().await;
        assert_eq!((scene.step(id, ROWS).await.jobs.succeeded, scene.state(id).await), (12, WorkflowState::Succeeded));
    }

    pub async fn lease_taken_back_leaves_what_the_others_emitted(scene: &Scene) {
        let id = scene.sources(2).await;
        let (dead, heir) = (scene.worker().await, scene.worker().await);
        let lost = dead.take(1).await;
        let late = dead.production(&lost, 7).await;
        heir.produce(&heir.take(1).await, 3).await;
        scene.leases_end().await;
        assert_eq!(dead.report(late).await.refused, [lost.lease]);
        let slices = heir.drain().await;
        let again = slices.iter().find(|slice| slice.step == SOURCES).expect("the source runs again");
        heir.produce(again, 7).await;
        for slice in slices.iter().filter(|slice| slice.step == ROWS) {
            heir.succeed(slice).await;
        }
        heir.run().await;
        assert_eq!((scene.step(id, ROWS).await.jobs.succeeded, scene.state(id).await), (10, WorkflowState::Succeeded));
        scene.at_rest().await;
    }

    pub async fn paused_is_adopted_but_not_handed_out(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.pause(id).await;
        worker.produce(&slice, 5).await;
        assert_eq!(scene.step(id, ROWS).await.jobs.total, 5);
        assert!(worker.drain().await.is_empty());
        scene.resume(id).await;
        let slices = worker.drain().await;
        assert_eq!(count_jobs(&slices), 6);
    }

    pub async fn cancelling_adds_no_jobs(scene: &Scene) {
        let id = scene.sources(3).await;
        let worker = scene.worker().await;
        let (first, second) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&first, 5).await;
        scene.cancel(id, 5_000).await;
        scene.tick().await;
        worker.produce(&second, 5).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.step(id, ROWS).await.jobs.total), (WorkflowState::Cancelled, 5));
        assert_eq!(states(scene, id).await, [StepState::Cancelled; 3]);
        scene.at_rest().await;
    }

    pub async fn deleted_is_gone_with_all_that_was_emitted(scene: &Scene) {
        let id = scene.sources(20).await;
        let worker = scene.worker().await;
        for slice in worker.claim(1, 20).await.slices {
            worker.produce(&slice, 2).await;
        }
        worker.run().await;
        assert_eq!(scene.step(id, ROWS).await.jobs.succeeded, 40);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.delete(id).await;
        scene.at_rest().await;
    }

    pub async fn what_follows_waits_for_each_source_and_each_row(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        worker.produce(&worker.take(1).await, 1).await;
        let source = worker.take(1).await;
        let row = worker.take(1).await;
        assert_eq!((source.step, row.step), (SOURCES, ROWS));
        worker.produce(&source, 0).await;
        assert_eq!(states(scene, id).await, [StepState::Succeeded, StepState::Running, StepState::Waiting]);
        worker.succeed(&row).await;
        assert_eq!(states(scene, id).await, [StepState::Succeeded, StepState::Succeeded, StepState::Running]);
    }

    pub async fn rows_come_in_the_order_in_which_their_sources_succeeded(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let (first, second) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&second, 1_000).await;
        worker.produce(&first, 1).await;
        let rows = worker.drain().await;
        let of_first: Vec<u64> = rows.iter().filter(|slice| slice.first >= 1_000).map(|slice| slice.first).collect();
        assert_eq!((count_jobs(&rows), of_first), (1_001, vec![1_000]));
        for slice in &rows {
            worker.succeed(slice).await;
        }
        assert_eq!(scene.job_states(id, ROWS).await, vec![JobState::Succeeded; 1_001]);
    }

    /// Two sources, of which one has succeeded with three rows and the other one has failed.
    async fn half(scene: &Scene) -> crate::WorkflowId {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let (first, second) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&first, 3).await;
        worker.fail(&second, "no such file").await;
        scene.leave(&worker).await;
        id
    }

    pub async fn a_failed_source_lets_the_rows_of_the_others_run_and_what_follows_wait(scene: &Scene) {
        let id = half(scene).await;
        assert_eq!(states(scene, id).await, [StepState::Failed, StepState::Running, StepState::Waiting]);
        assert_eq!(scene.state(id).await, WorkflowState::Running);
        let worker = scene.worker().await;
        worker.run().await;
        assert_eq!(states(scene, id).await, [StepState::Failed, StepState::Waiting, StepState::Waiting]);
        assert_eq!((scene.state(id).await, scene.step(id, ROWS).await.jobs.succeeded), (WorkflowState::Failed, 3));
        scene.retry(id).await;
        worker.produce(&worker.take(1).await, 2).await;
        worker.run().await;
        assert_eq!(states(scene, id).await, [StepState::Succeeded; 3]);
        assert_eq!((scene.state(id).await, scene.step(id, ROWS).await.jobs.succeeded), (WorkflowState::Succeeded, 5));
        scene.at_rest().await;
    }

    pub async fn a_failed_source_that_turns_out_to_have_no_rows_releases_what_follows(scene: &Scene) {
        let id = half(scene).await;
        let worker = scene.worker().await;
        worker.run().await;
        let released_at = scene.step(id, ROWS).await.released_at;
        scene.wait(1_000).await;
        scene.retry(id).await;
        worker.produce(&worker.take(1).await, 0).await;
        assert_eq!(scene.step(id, ROWS).await.released_at, released_at, "a step is released once");
        assert_eq!(states(scene, id).await, [StepState::Succeeded, StepState::Succeeded, StepState::Running]);
        scene.check().await;
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.step(id, ROWS).await.jobs.succeeded), (WorkflowState::Succeeded, 3));
    }

    pub async fn rows_that_failed_beside_a_failed_source_are_retried_with_it(scene: &Scene) {
        let id = half(scene).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        assert_eq!(states(scene, id).await, [StepState::Failed, StepState::Waiting, StepState::Waiting]);
        assert_eq!(scene.retry(id).await.jobs, 4);
        let slices = worker.drain().await;
        assert_eq!(count_jobs(&slices), 4);
        for slice in &slices {
            match slice.step {
                SOURCES => worker.produce(slice, 2).await,
                _ => worker.succeed(slice).await,
            };
        }
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.step(id, ROWS).await.jobs.succeeded), (WorkflowState::Succeeded, 5));
    }

    pub async fn rows_that_failed_are_retried_while_their_source_has_failed(scene: &Scene) {
        let id = half(scene).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "bad").await;
        }
        let retry = crate::store::RetryFailed { step: Some(ROWS), ..scene.retry_of(id) };
        assert_eq!(scene.store.retry(retry).await.unwrap().jobs, 3);
        scene.tick().await;
        assert_eq!(scene.step_state(id, ROWS).await, StepState::Running);
        worker.run().await;
        assert_eq!(states(scene, id).await, [StepState::Failed, StepState::Waiting, StepState::Waiting]);
        assert_eq!((scene.state(id).await, scene.step(id, ROWS).await.jobs.succeeded), (WorkflowState::Failed, 3));
        scene.at_rest().await;
    }

    /// Two sources of which one may fail, three rows, and a report.
    async fn tolerant(scene: &Scene) -> crate::WorkflowId {
        let plan = scene.plan().step_with("source", 2, |spec| {
            spec.feeds = Some(ROWS);
            spec.tolerate = Tolerate::Jobs(1);
        });
        let plan = plan.step("rows", 0).step("report", 1).edge(SOURCES, ROWS, EdgeKind::Feeds);
        let id = plan.edge(ROWS, REPORT, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        worker.produce(&worker.take(1).await, 3).await;
        worker.fail(&worker.take(1).await, "no such file").await;
        worker.run().await;
        scene.leave(&worker).await;
        id
    }

    pub async fn a_source_that_may_fail_releases_what_follows(scene: &Scene) {
        let id = tolerant(scene).await;
        assert_eq!(
            (scene.state(id).await, states(scene, id).await),
            (WorkflowState::Succeeded, [StepState::Succeeded; 3])
        );
    }

    pub async fn a_source_that_is_retried_after_all_has_settled_emits_nothing_more(scene: &Scene) {
        let id = tolerant(scene).await;
        scene.retry(id).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let error = worker.try_emit(&slice, 2).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("has settled"), "{error}");
        worker.fail(&slice, "too late").await;
        assert_eq!((scene.state(id).await, scene.step(id, ROWS).await.jobs.total), (WorkflowState::Succeeded, 3));
        scene.at_rest().await;
    }

    pub async fn a_delayed_step_begins_once_all_sources_have_succeeded(scene: &Scene) {
        let plan = scene.plan().step_with("source", 2, |spec| spec.feeds = Some(ROWS));
        let plan = plan.step_with("rows", 0, |spec| spec.delay = milliseconds(500));
        let id = plan.edge(SOURCES, ROWS, EdgeKind::Feeds).create().await;
        let worker = scene.worker().await;
        worker.produce(&worker.take(1).await, 3).await;
        assert_eq!(scene.step_state(id, ROWS).await, StepState::Waiting);
        worker.produce(&worker.take(1).await, 3).await;
        scene.clock.advance(499);
        scene.tick().await;
        assert!(worker.drain().await.is_empty());
        scene.clock.advance(1);
        scene.tick().await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3, 4, 5]);
    }

    pub async fn what_waits_for_another_step_too_begins_after_it(scene: &Scene) {
        let plan = scene.plan().step_with("source", 2, |spec| spec.feeds = Some(ROWS)).step("rows", 0);
        let plan = plan.step_with("before", 1, |spec| spec.priority = -1);
        let id = plan.edge(SOURCES, ROWS, EdgeKind::Feeds).edge(2, ROWS, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        let (first, second, before) = (worker.take(1).await, worker.take(1).await, worker.take(1).await);
        worker.produce(&first, 3).await;
        assert!(worker.drain().await.is_empty());
        worker.succeed(&before).await;
        worker.produce(&second, 3).await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3, 4, 5]);
        scene.check().await;
        assert_eq!(scene.state(id).await, WorkflowState::Running);
    }

    pub async fn a_cancel_ends_rows_that_wait_for_a_failed_source(scene: &Scene) {
        let id = half(scene).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.step(id, ROWS).await.jobs.cancelled), (WorkflowState::Cancelled, 3));
        scene.at_rest().await;
    }

    pub async fn a_draft_of_a_job_that_has_not_succeeded_is_not_adopted(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let part = worker.production(&slice, 2).await;
        let part = LeaseReport { succeeded: job(0), failed: job(1), ..part };
        assert_eq!(refusal(worker.try_report(vec![part]).await), ErrorKind::Usage);
        assert_eq!(scene.step(id, ROWS).await.jobs.total, 0);
    }

    pub async fn of_more_drafts_than_allowed_a_report_is_refused(scene: &Scene) {
        let id = scene.sources(100).await;
        let worker = scene.worker().await;
        let part = worker.production(&worker.take(MAX_REPORTED_DRAFTS as u32 + 1).await, 1).await;
        assert_eq!(part.adopted.len(), MAX_REPORTED_DRAFTS + 1);
        assert_eq!(refusal(worker.try_report(vec![part]).await), ErrorKind::Usage);
        assert_eq!(scene.step(id, ROWS).await.jobs.total, 0);
    }

    /// Also if every lease of the largest report is of a source.
    pub async fn of_the_most_leases_and_drafts_a_report_keeps_its_bounds(scene: &Scene) {
        let id = scene.sources(100).await;
        let worker = scene.worker().await;
        let mut slices = worker.claim(1, 16).await.slices;
        slices.extend(worker.claim(1, 8).await.slices);
        let mut parts = Vec::new();
        for (number, slice) in slices.iter().enumerate() {
            let adopts = number < MAX_REPORTED_DRAFTS;
            parts.push(if adopts { worker.production(slice, 1_000).await } else { worker.success(slice) });
        }
        assert_eq!(parts.len(), crate::store::MAX_REPORTED_LEASES);
        worker.try_report(parts).await.unwrap();
        assert_eq!(scene.step(id, ROWS).await.jobs.total, 1_000 * MAX_REPORTED_DRAFTS as u64);
    }

    /// What one adoption, one claim and one report cost does not depend on how many segments there are: the check at the end of the case
    /// holds each operation to its bounds.
    pub async fn of_a_thousand_sources_with_a_thousand_rows_each_costs_what_it_should(scene: &Scene) {
        let plan = scene.plan().step_with("source", 1_000, |spec| spec.feeds = Some(ROWS));
        let plan = plan.step_with("rows", 0, |spec| spec.priority = -1);
        let id = plan.edge(SOURCES, ROWS, EdgeKind::Feeds).create().await;
        let worker = scene.worker().await;
        while scene.step(id, SOURCES).await.jobs.succeeded < 1_000 {
            for slice in worker.claim(MAX_REPORTED_DRAFTS as u32, 4).await.slices {
                match slice.step {
                    SOURCES => worker.produce(&slice, 1_000).await,
                    _ => worker.succeed(&slice).await,
                };
            }
        }
        worker.run().await;
        let jobs = scene.step(id, ROWS).await.jobs;
        assert_eq!((jobs.total, jobs.succeeded), (1_000_000, 1_000_000));
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }
}

/// A source goes on with what it had emitted before its last checkpoint: draft and cursor agree.
pub mod take_draft {
    use super::super::scene::*;
    use super::super::worker::Worker;
    use crate::error::{ErrorKind, Result};
    use crate::id::WorkflowId;
    use crate::state::{JobState, WorkflowState};
    use crate::store::{Append, Covers, DraftKey, DraftOf, LeaseReport, SaveCheckpoint, Slice, TakeDraft, TakenDraft};

    const ROWS: u32 = 1;

    /// One call that writes `jobs` jobs into a draft of the worker.
    async fn write(
        scene: &Scene,
        worker: &Worker<'_>,
        slice: &Slice,
        draft: u64,
        number: u64,
        jobs: u32,
    ) -> Result<()> {
        let draft = DraftKey { session: worker.session.id, number: draft };
        let of = DraftOf::Jobs { workflow: slice.workflow, step: ROWS };
        scene.store.append(Append { draft, of, number, parts: vec![jobs_part(ROWS, jobs)], lease: LEASE }).await
    }

    fn saving(worker: &Worker<'_>, slice: &Slice, covers: Option<Covers>) -> SaveCheckpoint {
        SaveCheckpoint { session: worker.session.id, lease: slice.lease, at: 0, body: b"17".to_vec(), covers }
    }

    async fn save(scene: &Scene, worker: &Worker<'_>, slice: &Slice, draft: u64, calls: u64) -> Result<()> {
        scene.store.save_checkpoint(saving(worker, slice, Some(Covers { draft, calls }))).await
    }

    /// A source writes five jobs, saves how far it is, and writes three more. Returns its draft.
    async fn half(scene: &Scene, worker: &Worker<'_>, slice: &Slice) -> u64 {
        let draft = scene.number();
        write(scene, worker, slice, draft, 0, 5).await.unwrap();
        save(scene, worker, slice, draft, 1).await.unwrap();
        write(scene, worker, slice, draft, 1, 3).await.unwrap();
        draft
    }

    fn taking(worker: &Worker<'_>, slice: &Slice, draft: u64) -> TakeDraft {
        TakeDraft { session: worker.session.id, lease: slice.lease, at: 0, draft }
    }

    /// Takes what there is of the source's job; returns the draft's new number.
    async fn take(scene: &Scene, worker: &Worker<'_>, slice: &Slice) -> (u64, TakenDraft) {
        let draft = scene.number();
        (draft, scene.store.take_draft(taking(worker, slice, draft)).await.unwrap())
    }

    fn of_five() -> TakenDraft {
        TakenDraft { body: Some(b"17".to_vec()), calls: 1, jobs: 5, more: false }
    }

    /// The source goes on: it writes two more jobs and succeeds.
    async fn go_on(scene: &Scene, worker: &Worker<'_>, slice: &Slice, draft: u64, id: WorkflowId) {
        write(scene, worker, slice, draft, 1, 2).await.unwrap();
        worker.report(LeaseReport { adopted: vec![(0, draft)], ..worker.success(slice) }).await;
        worker.run().await;
        assert_eq!((scene.step(id, ROWS).await.jobs.succeeded, scene.state(id).await), (7, WorkflowState::Succeeded));
        scene.at_rest().await;
    }

    pub async fn fresh_goes_on_with_what_was_emitted_before_the_checkpoint(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let before = half(scene, &worker, &slice).await;
        worker.report(LeaseReport { dropped: vec![before], ..worker.postponement(&slice, 0) }).await;
        scene.tick().await;
        let again = worker.take(1).await;
        let (draft, taken) = take(scene, &worker, &again).await;
        assert_eq!(taken, of_five());
        scene.check().await;
        go_on(scene, &worker, &again, draft, id).await;
    }

    pub async fn repeated_takes_it_once_more(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        half(scene, &worker, &slice).await;
        let (draft, taken) = take(scene, &worker, &slice).await;
        assert_eq!(scene.store.take_draft(taking(&worker, &slice, draft)).await.unwrap(), taken);
        go_on(scene, &worker, &slice, draft, id).await;
    }

    pub async fn answer_lost_takes_it_all_the_same(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        half(scene, &worker, &slice).await;
        lose(scene.store.take_draft(taking(&worker, &slice, 900))).await;
        let (draft, taken) = take(scene, &worker, &slice).await;
        assert_eq!(taken, of_five());
        go_on(scene, &worker, &slice, draft, id).await;
    }

    pub async fn lease_taken_back_goes_on_elsewhere_however_much_later(scene: &Scene) {
        let id = scene.source().await;
        let (dead, heir) = (scene.worker().await, scene.worker().await);
        let lost = dead.take(1).await;
        let before = half(scene, &dead, &lost).await;
        scene.leases_end().await;
        scene.wait(20 * LEASE).await;
        scene.store.join(heir.session.clone()).await.unwrap();
        let slice = heir.take(1).await;
        // Whoever has lost the job writes on until it hears of that.
        write(scene, &dead, &lost, before, 2, 4).await.unwrap();
        let (draft, taken) = take(scene, &heir, &slice).await;
        assert_eq!(taken, of_five());
        assert_eq!(refusal(write(scene, &dead, &lost, before, 3, 4).await), ErrorKind::Refused);
        assert_eq!(refusal(save(scene, &dead, &lost, before, 3).await), ErrorKind::Refused);
        assert_eq!(refusal(scene.store.take_draft(taking(&dead, &lost, 900)).await), ErrorKind::Refused);
        go_on(scene, &heir, &slice, draft, id).await;
    }

    pub async fn paused_is_kept_until_it_goes_on(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let before = half(scene, &worker, &slice).await;
        scene.pause(id).await;
        worker.report(LeaseReport { returned: slice.jobs, dropped: vec![before], ..worker.part(&slice) }).await;
        scene.wait(5 * LEASE).await;
        scene.store.join(worker.session.clone()).await.unwrap();
        scene.resume(id).await;
        let again = worker.take(1).await;
        let (draft, taken) = take(scene, &worker, &again).await;
        assert_eq!(taken, of_five());
        go_on(scene, &worker, &again, draft, id).await;
    }

    pub async fn cancelling_collects_it_with_the_job(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        half(scene, &worker, &slice).await;
        worker.retry_in(&slice, 10_000).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        scene.at_rest().await;
    }

    pub async fn deleted_has_nothing_to_take(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        half(scene, &worker, &slice).await;
        worker.fail(&slice, "broken").await;
        scene.tick().await;
        scene.delete(id).await;
        assert_eq!(refusal(scene.store.take_draft(taking(&worker, &slice, 900)).await), ErrorKind::Refused);
        scene.at_rest().await;
    }

    pub async fn without_a_checkpoint_there_is_nothing_to_go_on_from(scene: &Scene) {
        scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        write(scene, &worker, &slice, scene.number(), 0, 5).await.unwrap();
        assert_eq!(take(scene, &worker, &slice).await.1, TakenDraft::default());
    }

    pub async fn saved_before_anything_was_emitted_is_a_cursor_without_jobs(scene: &Scene) {
        scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.store.save_checkpoint(saving(&worker, &slice, None)).await.unwrap();
        let taken = take(scene, &worker, &slice).await.1;
        assert_eq!(taken, TakenDraft { body: Some(b"17".to_vec()), ..TakenDraft::default() });
    }

    pub async fn that_was_collected_meanwhile_begins_anew(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let before = half(scene, &worker, &slice).await;
        scene.store.abandon(id, DraftKey { session: worker.session.id, number: before }).await.unwrap();
        scene.tick().await;
        assert_eq!(take(scene, &worker, &slice).await.1, TakenDraft::default());
        assert_eq!(scene.store.checkpoint(slice.chunk, 0).await.unwrap(), None);
        scene.check().await;
        worker.produce(&slice, 4).await;
        assert_eq!(scene.step(id, ROWS).await.jobs.total, 4);
    }

    pub async fn of_a_source_that_failed_for_good_is_collected(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let before = half(scene, &worker, &slice).await;
        worker.report(LeaseReport { dropped: vec![before], ..worker.failure(&slice, "broken") }).await;
        scene.tick().await;
        scene.at_rest().await;
        scene.retry(id).await;
        let again = worker.take(1).await;
        assert_eq!(take(scene, &worker, &again).await.1, TakenDraft::default());
    }

    pub async fn a_source_that_began_anew_and_succeeds_leaves_nothing_of_it(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        half(scene, &worker, &slice).await;
        worker.produce(&slice, 4).await;
        worker.run().await;
        assert_eq!((scene.step(id, ROWS).await.jobs.succeeded, scene.state(id).await), (4, WorkflowState::Succeeded));
        scene.at_rest().await;
    }

    pub async fn a_checkpoint_over_another_draft_takes_its_place(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        half(scene, &worker, &slice).await;
        let anew = scene.number();
        write(scene, &worker, &slice, anew, 0, 5).await.unwrap();
        save(scene, &worker, &slice, anew, 1).await.unwrap();
        scene.tick().await;
        scene.check().await;
        let (draft, taken) = take(scene, &worker, &slice).await;
        assert_eq!(taken, of_five());
        go_on(scene, &worker, &slice, draft, id).await;
    }

    pub async fn a_checkpoint_covers_all_that_has_been_written(scene: &Scene) {
        scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let draft = half(scene, &worker, &slice).await;
        assert_eq!(refusal(save(scene, &worker, &slice, draft, 1).await), ErrorKind::Usage);
        assert_eq!(refusal(save(scene, &worker, &slice, 900, 1).await), ErrorKind::Refused);
        save(scene, &worker, &slice, draft, 2).await.unwrap();
        assert_eq!(take(scene, &worker, &slice).await.1, TakenDraft { calls: 2, jobs: 8, ..of_five() });
    }

    pub async fn of_sources_of_one_chunk_each_has_its_own(scene: &Scene) {
        let id = scene.sources(2).await;
        let worker = scene.worker().await;
        let (first, second) = (worker.take(1).await, worker.take(1).await);
        half(scene, &worker, &first).await;
        worker.produce(&second, 1).await;
        let (draft, taken) = take(scene, &worker, &first).await;
        assert_eq!(taken, of_five());
        worker.report(LeaseReport { adopted: vec![(0, draft)], ..worker.success(&first) }).await;
        worker.run().await;
        assert_eq!(scene.job_states(id, ROWS).await, [JobState::Succeeded; 6]);
        scene.at_rest().await;
    }

    /// What a source has emitted behind its checkpoint is as large as it likes.
    pub async fn of_a_thousand_chunks_is_cut_in_bites(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let before = half(scene, &worker, &slice).await;
        for number in 2..22 {
            let draft = DraftKey { session: worker.session.id, number: before };
            let of = DraftOf::Jobs { workflow: id, step: ROWS };
            let parts = vec![jobs_part(ROWS, 2); 50];
            scene.store.append(Append { draft, of, number, parts, lease: LEASE }).await.unwrap();
        }
        let (draft, mut taken) = take(scene, &worker, &slice).await;
        assert!(taken.more);
        while taken.more {
            taken = scene.store.take_draft(taking(&worker, &slice, draft)).await.unwrap();
        }
        assert_eq!(taken, of_five());
        go_on(scene, &worker, &slice, draft, id).await;
    }
}
