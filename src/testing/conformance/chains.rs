//! Cases of element-wise chains: a step whose jobs go on from those of the step before it, one to one.

pub mod chain {
    use std::time::Duration;

    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::graph::Link;
    use crate::id::WorkflowId;
    use crate::slice::Mask;
    use crate::state::{EdgeKind, FailurePolicy, JobState, StepState, Tolerate, WorkflowState};
    use crate::store::{
        ByHand, DraftOf, LeaseReport, MAX_REPORTED_LEASES, Part, RetryFailed, Slice, StepRow, error_number,
    };

    const ROWS: u32 = 0;
    const ENRICH: u32 = 1;
    const PUBLISH: u32 = 2;

    use JobState::{Cancelled, Failed, Open, Skipped, SkippedByPredecessor as Behind, Succeeded};

    fn link(step: u32) -> Link {
        Link { step, job_type: ROW.into() }
    }

    /// Rows, of which so many may fail, and a step that is chained to them.
    fn two(scene: &Scene, jobs: u32, tolerated: u64) -> Plan<'_> {
        let plan = scene.plan().step_with("rows", jobs, |rows| rows.tolerate = Tolerate::from(tolerated));
        plan.step_with("enrich", 0, |enrich| enrich.chain = vec![link(ROWS)]).edge(ROWS, ENRICH, EdgeKind::Chains)
    }

    /// The same, a third step that is chained to the second, and a report after all.
    async fn three(scene: &Scene, jobs: u32, tolerated: u64) -> WorkflowId {
        let plan = two(scene, jobs, tolerated);
        let plan = plan.step_with("publish", 0, |publish| publish.chain = vec![link(ROWS), link(ENRICH)]);
        let plan = plan.step("report", 1).edge(ENRICH, PUBLISH, EdgeKind::Chains).edge(PUBLISH, 3, EdgeKind::After);
        plan.create().await
    }

    async fn states(scene: &Scene, id: WorkflowId) -> Vec<StepState> {
        let rows = scene.store.steps(id, 0, 100).await.unwrap();
        rows.into_iter().map(|row| row.state).collect()
    }

    /// What a worker can have, which is of one step.
    async fn of(worker: &Worker<'_>, step: u32) -> Vec<Slice> {
        let slices = worker.drain().await;
        assert!(slices.iter().all(|slice| slice.step == step), "only jobs of step {step} are there");
        slices
    }

    /// The same, if there is another step beside the rows: of the rows, and of that.
    async fn rows_and_gate(worker: &Worker<'_>) -> (Vec<Slice>, Vec<Slice>) {
        worker.drain().await.into_iter().partition(|slice| slice.step == ROWS)
    }

    /// The jobs of a slice whose indices are among these.
    fn among(slice: &Slice, jobs: &[u64]) -> Mask {
        slice.jobs.iter().filter(|at| jobs.contains(&(slice.first + *at as u64))).collect()
    }

    /// Of what a worker holds these jobs have succeeded; it goes on with the others.
    async fn succeed(worker: &Worker<'_>, slices: &[Slice], jobs: &[u64]) {
        for slice in slices.iter().filter(|slice| !among(slice, jobs).is_empty()) {
            worker.report(LeaseReport { succeeded: among(slice, jobs), ..worker.part(slice) }).await;
        }
    }

    /// Of what a worker holds these jobs have succeeded, and all others failed.
    async fn end(worker: &Worker<'_>, slices: &[Slice], jobs: &[u64]) {
        for slice in slices {
            let (succeeded, failed) = (among(slice, jobs), slice.jobs.minus(among(slice, jobs)));
            let errors = vec![(error_number("broken"), "broken".to_owned(), failed)];
            let errors = if failed.is_empty() { Vec::new() } else { errors };
            worker.report(LeaseReport { succeeded, failed, errors, ..worker.part(slice) }).await;
        }
        worker.scene().tick().await;
    }

    /// All of it has succeeded.
    async fn all(worker: &Worker<'_>, slices: &[Slice]) {
        end(worker, slices, &(0..10_000).collect::<Vec<u64>>()).await;
    }

    pub async fn fresh_element_goes_on_as_soon_as_its_own_predecessor_has_succeeded(scene: &Scene) {
        let id = three(scene, 4, 0).await;
        let worker = scene.worker().await;
        assert_eq!(scene.step(id, PUBLISH).await.jobs.total, 4, "a chained step has as many jobs as its predecessor");
        let rows = of(&worker, ROWS).await;
        assert_eq!(worker.drain().await.len(), 0, "nothing goes on before that");
        succeed(&worker, &rows, &[0, 1]).await;
        assert_eq!(states(scene, id).await[..3], [StepState::Running, StepState::Running, StepState::Waiting]);
        let enriched = of(&worker, ENRICH).await;
        assert_eq!(jobs_of(&enriched), [0, 1]);
        assert_eq!(enriched[0].chunk.chained, ENRICH);
        assert_eq!(scene.store.parameters(enriched[0].chunk).await.unwrap().body, b"rows from 0");
        all(&worker, &enriched).await;
        let published = of(&worker, PUBLISH).await;
        assert_eq!(jobs_of(&published), [0, 1]);
        all(&worker, &published).await;
        scene.check().await;
        assert_eq!(scene.step_state(id, 3).await, StepState::Waiting, "the report waits for all");
        succeed(&worker, &rows, &[2, 3]).await;
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 13));
    }

    pub async fn what_is_reported_bit_by_bit_is_one_entry_a_chunk(scene: &Scene) {
        let id = two(scene, 3_000, 0).create().await;
        let worker = scene.worker().await;
        let rows = of(&worker, ROWS).await;
        let first: Vec<Slice> = rows.iter().filter(|slice| slice.first == 0).cloned().collect();
        for part in 0..16 {
            succeed(&worker, &first, &(part * 64..part * 64 + 64).collect::<Vec<u64>>()).await;
        }
        let slice = worker.take(1_024).await;
        assert_eq!((slice.step, slice.jobs.len()), (ENRICH, 512), "a fair share of the whole chunk");
        scene.leave(&worker).await;
        let worker = scene.worker().await;
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 6_000));
    }

    pub async fn repeated_report_hands_on_once(scene: &Scene) {
        let id = two(scene, 2, 0).create().await;
        let worker = scene.worker().await;
        for slice in of(&worker, ROWS).await {
            let part = worker.success(&slice);
            worker.report(part.clone()).await;
            worker.report(part).await;
        }
        assert_eq!(jobs_of(&worker.drain().await), [0, 1]);
        assert_eq!(worker.drain().await.len(), 0);
        assert_eq!(scene.job_states(id, ENRICH).await, [Open, Open]);
    }

    pub async fn answer_lost_hands_on_once(scene: &Scene) {
        two(scene, 2, 0).create().await;
        let worker = scene.worker().await;
        for slice in of(&worker, ROWS).await {
            let part = worker.success(&slice);
            lose(worker.try_report(vec![part.clone()])).await;
            worker.report(part).await;
        }
        assert_eq!(jobs_of(&worker.drain().await), [0, 1]);
        assert_eq!(worker.drain().await.len(), 0);
    }

    pub async fn lease_taken_back_hands_on_nothing(scene: &Scene) {
        let id = two(scene, 2, 0).create().await;
        let worker = scene.worker().await;
        let rows = of(&worker, ROWS).await;
        scene.leases_end().await;
        all(&worker, &rows).await;
        let other = scene.worker().await;
        let again = of(&other, ROWS).await;
        assert_eq!(jobs_of(&again), [0, 1]);
        all(&other, &again).await;
        let chained = of(&other, ENRICH).await;
        scene.leases_end().await;
        all(&other, &chained).await;
        scene.worker().await.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        assert_eq!(scene.recoveries(id, ENRICH).await, [1, 1], "a death counts in the step in which it was");
        assert_eq!(scene.recoveries(id, ROWS).await, [1, 1]);
    }

    pub async fn paused_hands_on_and_nothing_out(scene: &Scene) {
        let id = two(scene, 2, 0).create().await;
        let worker = scene.worker().await;
        let rows = of(&worker, ROWS).await;
        scene.pause(id).await;
        all(&worker, &rows).await;
        assert_eq!(worker.drain().await.len(), 0);
        scene.check().await;
        scene.resume(id).await;
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [0, 1]);
    }

    pub async fn cancelling_hands_on_nothing(scene: &Scene) {
        let id = three(scene, 4, 0).await;
        let worker = scene.worker().await;
        let rows = of(&worker, ROWS).await;
        succeed(&worker, &rows, &[0, 1]).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        succeed(&worker, &rows, &[2, 3]).await;
        scene.tick().await;
        assert_eq!(worker.drain().await.len(), 0);
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        assert_eq!(scene.job_states(id, PUBLISH).await, [Cancelled; 4]);
    }

    pub async fn deleted_leaves_nothing(scene: &Scene) {
        let id = three(scene, 2_000, 2_000).await;
        let worker = scene.worker().await;
        let rows = of(&worker, ROWS).await;
        end(&worker, &rows, &[0, 1, 1_500]).await;
        let enriched = of(&worker, ENRICH).await;
        end(&worker, &enriched, &[1]).await;
        scene.check().await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        scene.delete(id).await;
        scene.at_rest().await;
    }

    pub async fn an_element_whose_predecessor_failed_is_skipped_once_that_step_has_succeeded(scene: &Scene) {
        let id = three(scene, 4, 2).await;
        let worker = scene.worker().await;
        let rows = of(&worker, ROWS).await;
        end(&worker, &rows[..1], &[0]).await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Open; 4], "not while its step runs");
        scene.check().await;
        end(&worker, &rows[1..], &[2]).await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Open, Behind, Open, Behind]);
        worker.run().await;
        assert_eq!(scene.job_states(id, PUBLISH).await, [Succeeded, Behind, Succeeded, Behind]);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn it_comes_back_when_its_predecessor_is_repaired(scene: &Scene) {
        let id = three(scene, 4, 2).await;
        let worker = scene.worker().await;
        end(&worker, &of(&worker, ROWS).await, &[0, 1]).await;
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        assert_eq!(scene.retry(id).await.jobs, 2);
        let all_but_the_report = [StepState::Running, StepState::Running, StepState::Running, StepState::Succeeded];
        assert_eq!(states(scene, id).await, all_but_the_report);
        scene.check().await;
        let again = of(&worker, ROWS).await;
        assert_eq!(jobs_of(&again), [2, 3]);
        end(&worker, &again, &[2]).await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Succeeded, Succeeded, Open, Behind]);
        worker.run().await;
        assert_eq!(scene.job_states(id, PUBLISH).await, [Succeeded, Succeeded, Succeeded, Behind]);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        assert!(scene.step(id, 3).await.outdated, "the report had run");
        assert!(!scene.step(id, PUBLISH).await.outdated);
    }

    pub async fn a_report_that_has_not_run_waits_for_what_comes_back(scene: &Scene) {
        let plan = two(scene, 2, 1).step("report", 1).step("gate", 1);
        let id = plan.edge(ENRICH, 2, EdgeKind::After).edge(3, 2, EdgeKind::After).create().await;
        let worker = scene.worker().await;
        let (rows, gate) = rows_and_gate(&worker).await;
        end(&worker, &gate, &[]).await;
        end(&worker, &rows, &[0]).await;
        worker.run().await;
        let before = [StepState::Succeeded, StepState::Succeeded, StepState::Waiting, StepState::Failed];
        assert_eq!(states(scene, id).await, before);
        scene.retry(id).await;
        let (rows, gate) = rows_and_gate(&worker).await;
        all(&worker, &gate).await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Waiting, "an element may come back");
        scene.check().await;
        all(&worker, &rows).await;
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 6));
    }

    pub async fn beyond_the_tolerance_it_rests_with_what_it_has(scene: &Scene) {
        let id = three(scene, 3, 0).await;
        let worker = scene.worker().await;
        end(&worker, &of(&worker, ROWS).await, &[0]).await;
        assert_eq!(states(scene, id).await[..3], [StepState::Failed, StepState::Running, StepState::Waiting]);
        worker.run().await;
        let rest = [StepState::Failed, StepState::Waiting, StepState::Waiting, StepState::Waiting];
        assert_eq!(states(scene, id).await, rest);
        assert_eq!(scene.job_states(id, PUBLISH).await, [Succeeded, Open, Open]);
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        scene.at_rest().await;
        scene.retry(id).await;
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 10));
    }

    pub async fn an_output_that_is_given_lets_the_element_go_on(scene: &Scene) {
        let id = two(scene, 2, 1).create().await;
        let worker = scene.worker().await;
        end(&worker, &of(&worker, ROWS).await, &[0]).await;
        worker.run().await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Succeeded, Behind]);
        assert_eq!(scene.by_hand(id, ROWS, ByHand::Replace { index: 1, record: b"by hand".to_vec() }).await, 1);
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [1]);
        let before = scene.store.outcomes_of_chunk(id, ROWS, 1, 0).await.unwrap().unwrap();
        assert_eq!(before.records.last().unwrap(), b"by hand");
    }

    pub async fn what_a_person_skips_of_it_stays_skipped(scene: &Scene) {
        let id = two(scene, 3, 1).create().await;
        let worker = scene.worker().await;
        let rows = of(&worker, ROWS).await;
        assert_eq!(scene.by_hand(id, ENRICH, ByHand::Skip { index: 0 }).await, 1);
        scene.check().await;
        end(&worker, &rows, &[0, 1]).await;
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [1]);
        assert_eq!(scene.job_states(id, ENRICH).await, [Skipped, Open, Behind]);
        scene.leave(&worker).await;
        assert_eq!(scene.by_hand(id, ROWS, ByHand::Skip { index: 2 }).await, 1);
        scene.worker().await.run().await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Skipped, Succeeded, Behind]);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn what_a_person_skips_while_it_runs_is_in_no_line_once_its_step_rests(scene: &Scene) {
        let id = two(scene, 2, 0).create().await;
        let worker = scene.worker().await;
        end(&worker, &of(&worker, ROWS).await, &[1]).await;
        assert_eq!(count_jobs(&of(&worker, ENRICH).await), 1);
        scene.by_hand(id, ENRICH, ByHand::Skip { index: 1 }).await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Open, Skipped]);
        scene.at_rest().await;
        scene.retry(id).await;
        all(&worker, &of(&worker, ROWS).await).await;
        all(&worker, &of(&worker, ENRICH).await).await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Succeeded, Skipped]);
        scene.at_rest().await;
    }

    pub async fn runs_again_with_its_predecessor(scene: &Scene) {
        let id = three(scene, 3, 0).await;
        let worker = scene.worker().await;
        worker.run().await;
        scene.run_again(id, ROWS, false).await;
        let again = [StepState::Running, StepState::Waiting, StepState::Waiting, StepState::Succeeded];
        assert_eq!(states(scene, id).await, again);
        scene.check().await;
        assert_eq!(scene.job_states(id, PUBLISH).await, [Open; 3]);
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        let rows: Vec<StepRow> = scene.store.steps(id, 0, 4).await.unwrap();
        let told: Vec<(u32, bool)> = rows.iter().map(|row| (row.generation, row.outdated)).collect();
        assert_eq!(told, [(1, false), (1, false), (1, false), (0, true)]);
    }

    pub async fn runs_again_alone_with_what_its_predecessor_has(scene: &Scene) {
        let id = three(scene, 3, 1).await;
        let worker = scene.worker().await;
        end(&worker, &of(&worker, ROWS).await, &[0, 1]).await;
        worker.run().await;
        scene.run_again(id, ENRICH, false).await;
        let again = [StepState::Succeeded, StepState::Running, StepState::Waiting, StepState::Succeeded];
        assert_eq!(states(scene, id).await, again);
        assert_eq!(scene.job_states(id, ENRICH).await, [Open, Open, Behind]);
        scene.check().await;
        worker.run().await;
        assert_eq!(scene.job_states(id, PUBLISH).await, [Succeeded, Succeeded, Behind]);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn runs_again_while_its_predecessor_still_runs(scene: &Scene) {
        let id = two(scene, 4, 0).create().await;
        let worker = scene.worker().await;
        let rows = of(&worker, ROWS).await;
        succeed(&worker, &rows, &[0, 1]).await;
        let held = of(&worker, ENRICH).await;
        scene.run_again(id, ENRICH, false).await;
        scene.check().await;
        assert_eq!(worker.succeed(&held[0]).await.refused, [held[0].lease]);
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [0, 1]);
        succeed(&worker, &rows, &[2, 3]).await;
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [2, 3]);
    }

    pub async fn its_other_edges_let_it_begin_later_with_all_that_came(scene: &Scene) {
        let plan = two(scene, 3, 0).step("gate", 1).edge(2, ENRICH, EdgeKind::After);
        let id = plan.create().await;
        let worker = scene.worker().await;
        let (rows, gate) = rows_and_gate(&worker).await;
        succeed(&worker, &rows, &[0, 1]).await;
        assert_eq!(scene.step_state(id, ENRICH).await, StepState::Waiting);
        assert_eq!(worker.drain().await.len(), 0);
        scene.check().await;
        all(&worker, &gate).await;
        assert_eq!(scene.step_state(id, ENRICH).await, StepState::Running, "it does not wait for all of the rows");
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [0, 1]);
    }

    pub async fn its_other_edges_may_skip_it_with_all_that_came(scene: &Scene) {
        let plan = two(scene, 3, 0).step("gate", 1).edge(2, ENRICH, EdgeKind::When);
        let id = plan.create().await;
        let worker = scene.worker().await;
        let (rows, gate) = rows_and_gate(&worker).await;
        succeed(&worker, &rows, &[0, 1]).await;
        worker.report(LeaseReport { skipped: gate[0].jobs, ..worker.part(&gate[0]) }).await;
        succeed(&worker, &rows, &[2]).await;
        scene.tick().await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Skipped; 3]);
        assert_eq!(scene.step_state(id, ENRICH).await, StepState::Skipped);
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        scene.at_rest().await;
    }

    pub async fn its_other_edges_decide_before_anything_of_it_is_left_behind(scene: &Scene) {
        for skips in [true, false] {
            let plan = two(scene, 3, 1).step("gate", 1).edge(2, ENRICH, EdgeKind::When);
            let id = plan.create().await;
            let worker = scene.worker().await;
            let (rows, gate) = rows_and_gate(&worker).await;
            end(&worker, &rows, &[1, 2]).await;
            assert_eq!(scene.step_state(id, ROWS).await, StepState::Succeeded);
            assert_eq!(scene.job_states(id, ENRICH).await, [Open; 3]);
            let place = scene.store.whereabouts(id, ENRICH, 0).await.unwrap();
            assert!(!place.behind && !place.ready, "it waits with its step: {place:?}");
            scene.check().await;
            if skips {
                worker.report(LeaseReport { skipped: gate[0].jobs, ..worker.part(&gate[0]) }).await;
            } else {
                all(&worker, &gate).await;
            }
            worker.run().await;
            let of_the_first = if skips { [Skipped; 3] } else { [Behind, Succeeded, Succeeded] };
            assert_eq!(scene.job_states(id, ENRICH).await, of_the_first);
            assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
            scene.leave(&worker).await;
        }
        scene.at_rest().await;
    }

    pub async fn a_retry_beside_a_discard_behind_it_brings_all_back(scene: &Scene) {
        let one = Tolerate::Jobs(1);
        let plan = scene.plan().step_with("rows", 3, |rows| rows.tolerate = one);
        let plan = plan.step_with("enrich", 0, |enrich| (enrich.chain, enrich.tolerate) = (vec![link(ROWS)], one));
        let plan = plan.step_with("publish", 0, |publish| publish.chain = vec![link(ROWS), link(ENRICH)]);
        let plan = plan.edge(ROWS, ENRICH, EdgeKind::Chains).edge(ENRICH, PUBLISH, EdgeKind::Chains);
        let id = plan.create().await;
        let worker = scene.worker().await;
        end(&worker, &of(&worker, ROWS).await, &[1, 2]).await;
        end(&worker, &of(&worker, ENRICH).await, &[2]).await;
        worker.run().await;
        assert_eq!(scene.job_states(id, PUBLISH).await, [Behind, Behind, Succeeded]);
        let discard = RetryFailed { step: Some(ENRICH), discard: true, ..scene.retry_of(id) };
        scene.store.retry(discard).await.unwrap();
        scene.store.retry(RetryFailed { step: Some(ROWS), ..scene.retry_of(id) }).await.unwrap();
        scene.tick().await;
        scene.check().await;
        worker.run().await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Succeeded, Skipped, Succeeded]);
        assert_eq!(scene.job_states(id, PUBLISH).await, [Succeeded, Behind, Succeeded]);
        scene.check().await;
    }

    pub async fn after_sources_goes_on_with_what_each_of_them_emitted(scene: &Scene) {
        let plan = scene.plan().step_with("source", 2, |source| source.feeds = Some(1)).step("rows", 0);
        let plan = plan.step_with("enrich", 0, |enrich| enrich.chain = vec![link(1)]);
        let id = plan.edge(0, 1, EdgeKind::Feeds).edge(1, 2, EdgeKind::Chains).create().await;
        let worker = scene.worker().await;
        let (one, two) = (worker.take(1).await, worker.take(1).await);
        worker.produce(&one, 3).await;
        assert_eq!((scene.step(id, 2).await.jobs.total, scene.jobs(id).await.total), (3, 8));
        all(&worker, &of(&worker, 1).await).await;
        let enriched = of(&worker, 2).await;
        assert_eq!(jobs_of(&enriched), [0, 1, 2]);
        all(&worker, &enriched).await;
        assert_eq!(scene.step_state(id, 2).await, StepState::Running, "there may come more");
        scene.check().await;
        worker.fail(&two, "no such file").await;
        scene.tick().await;
        assert_eq!(states(scene, id).await, [StepState::Failed, StepState::Waiting, StepState::Waiting]);
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        scene.at_rest().await;
        scene.run_again(id, 0, false).await;
        assert_eq!(scene.jobs(id).await.total, 2, "what had been emitted is gone, and what was chained to it");
        scene.check().await;
        for slice in worker.drain().await {
            worker.produce(&slice, 2).await;
        }
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 10));
    }

    pub async fn a_delay_counts_for_each_element(scene: &Scene) {
        let plan = scene.plan().step("rows", 2);
        let plan = plan.step_with("enrich", 0, |enrich| {
            enrich.chain = vec![link(ROWS)];
            enrich.delay = Duration::from_millis(500);
        });
        let id = plan.edge(ROWS, ENRICH, EdgeKind::Chains).create().await;
        let worker = scene.worker_with(|about| about.lease = 60_000).await;
        let rows = of(&worker, ROWS).await;
        succeed(&worker, &rows, &[0]).await;
        assert_eq!(worker.drain().await.len(), 0);
        scene.wait(400).await;
        succeed(&worker, &rows, &[1]).await;
        scene.check().await;
        scene.wait(200).await;
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [0]);
        scene.wait(400).await;
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [1]);
        assert_eq!(scene.job_states(id, ENRICH).await, [Open, Open]);
    }

    pub async fn that_fails_fast_cancels_what_has_not_come_and_a_retry_brings_it_back(scene: &Scene) {
        let plan = scene.plan().step("rows", 4);
        let plan = plan.step_with("enrich", 0, |enrich| {
            enrich.chain = vec![link(ROWS)];
            enrich.policy = FailurePolicy::FailFast;
        });
        let id = plan.edge(ROWS, ENRICH, EdgeKind::Chains).create().await;
        let worker = scene.worker().await;
        let rows = of(&worker, ROWS).await;
        succeed(&worker, &rows, &[0]).await;
        end(&worker, &of(&worker, ENRICH).await, &[]).await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Failed, Cancelled, Cancelled, Cancelled]);
        assert_eq!(scene.step_state(id, ENRICH).await, StepState::Running, "its predecessor still runs");
        scene.check().await;
        succeed(&worker, &rows, &[1]).await;
        assert_eq!(worker.drain().await.len(), 0);
        scene.check().await;
        scene.retry(id).await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Open; 4]);
        scene.check().await;
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [0, 1]);
        succeed(&worker, &rows, &[2, 3]).await;
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [2, 3]);
    }

    pub async fn a_limit_of_its_own_holds(scene: &Scene) {
        let plan = scene.plan().step("rows", 4);
        let plan = plan.step_with("enrich", 0, |enrich| {
            enrich.chain = vec![link(ROWS)];
            enrich.max_in_flight = Some(1);
        });
        let id = plan.edge(ROWS, ENRICH, EdgeKind::Chains).create().await;
        let worker = scene.worker().await;
        all(&worker, &of(&worker, ROWS).await).await;
        let one = of(&worker, ENRICH).await;
        assert_eq!(jobs_of(&one), [0]);
        all(&worker, &one).await;
        assert_eq!(jobs_of(&of(&worker, ENRICH).await), [1]);
        assert_eq!(scene.step(id, ENRICH).await.running, 1);
    }

    pub async fn takes_no_jobs_and_no_parameters_of_its_own(scene: &Scene) {
        let id = two(scene, 2, 0).create().await;
        let mended = Part::Mended { chunk: 1, first: 0, jobs: job(0), body: b"mended".to_vec() };
        for (of, parts) in [
            (DraftOf::Jobs { workflow: id, step: ENRICH }, Vec::new()),
            (DraftOf::Mended { workflow: id, step: ENRICH }, vec![mended]),
        ] {
            let append = scene.draft(of, parts);
            assert_eq!(refusal(scene.store.append(append).await), ErrorKind::Usage);
        }
    }

    pub async fn some_of_it_that_failed_are_chosen_to_run_again(scene: &Scene) {
        let id = two(scene, 4, 0).create().await;
        let worker = scene.worker().await;
        all(&worker, &of(&worker, ROWS).await).await;
        end(&worker, &of(&worker, ENRICH).await, &[0]).await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Succeeded, Failed, Failed, Failed]);
        let draft = scene.mend(id, ENRICH, job(2), "").await;
        let retry = RetryFailed { step: Some(ENRICH), mended: Some(draft), ..scene.retry_of(id) };
        scene.store.retry(retry).await.unwrap();
        scene.tick().await;
        let again = of(&worker, ENRICH).await;
        assert_eq!(jobs_of(&again), [2]);
        all(&worker, &again).await;
        assert_eq!(scene.job_states(id, ENRICH).await, [Succeeded, Failed, Succeeded, Failed]);
        scene.at_rest().await;
    }

    pub async fn what_waits_for_its_predecessor_is_told_so(scene: &Scene) {
        let id = two(scene, 3, 0).create().await;
        let worker = scene.worker().await;
        succeed(&worker, &of(&worker, ROWS).await, &[0]).await;
        assert_eq!(scene.store.waiting(id, ENRICH).await.unwrap().behind, 2);
        let one = scene.store.whereabouts(id, ENRICH, 0).await.unwrap();
        let two = scene.store.whereabouts(id, ENRICH, 1).await.unwrap();
        assert_eq!((one.ready, one.behind, two.ready, two.behind), (true, false, false, true));
    }

    pub async fn a_report_of_as_many_leases_as_may_be_keeps_the_bounds(scene: &Scene) {
        let id = two(scene, MAX_REPORTED_LEASES as u32 * 1_024, 0).create().await;
        let worker = scene.worker().await;
        for slices in of(&worker, ROWS).await.chunks(MAX_REPORTED_LEASES) {
            let part = |slice| LeaseReport { record: vec![7; 4_000], ..worker.success(slice) };
            worker.try_report(slices.iter().map(part).collect()).await.unwrap();
        }
        scene.check().await;
        assert_eq!(count_jobs(&of(&worker, ENRICH).await), MAX_REPORTED_LEASES * 1_024);
        assert_eq!(scene.step_state(id, ROWS).await, StepState::Succeeded);
    }

    pub async fn a_long_chain_keeps_the_bounds(scene: &Scene) {
        let mut plan = scene.plan().step_with("rows", 2_100, |rows| rows.tolerate = Tolerate::Jobs(2_100));
        for step in 1..=16 {
            let chain = (0..step).map(link).collect();
            plan = plan.step_with(&format!("step {step}"), 0, |spec| spec.chain = chain);
        }
        for step in 1..=16 {
            plan = plan.edge(step - 1, step, EdgeKind::Chains);
        }
        let id = plan.create().await;
        let worker = scene.worker().await;
        end(&worker, &of(&worker, ROWS).await, &[0, 2_000]).await;
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 34));
        scene.retry(id).await;
        worker.run().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.succeeded), (WorkflowState::Succeeded, 17 * 2_100));
        scene.check().await;
    }
}
