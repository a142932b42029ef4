//! The bounds of operations, each at its worst case: the check at the end of every case holds each operation to them.

pub mod bounds {
    use super::super::scene::*;
    use crate::payload::{Chunk, MAX_JOB_BYTES};
    use crate::slice::{CHUNK_JOBS, Mask};
    use crate::state::{EdgeKind, FailurePolicy, JobState, StepState, WorkflowState};
    use crate::store::{
        Append, Create, DraftOf, LeaseReport, MAX_BYTES, MAX_CALLS, MAX_REPORTED_LEASES, Part, Slice, Tick,
        error_number,
    };

    const MILLION: u32 = 1_000_000;

    /// The report that writes most: every lease it may speak of, every job failed, every text of its own.
    pub async fn a_report_of_24_leases_whose_jobs_all_fail_with_texts_of_their_own(scene: &Scene) {
        let id = scene.lone(100 * 1_024).await;
        let worker = scene.worker().await;
        let mut slices = worker.claim(1_024, 16).await.slices;
        slices.extend(worker.claim(1_024, 8).await.slices);
        let parts: Vec<_> =
            slices.iter().map(|slice| worker.failures(slice, |at| format!("row {at} of {}", slice.first))).collect();
        assert_eq!((parts.len(), count_jobs(&slices)), (MAX_REPORTED_LEASES, 24 * 1_024));
        worker.try_report(parts).await.unwrap();
        let counted: u64 = scene.errors(id, 0).await.iter().map(|(_, jobs)| jobs).sum();
        assert_eq!((scene.jobs(id).await.failed, counted), (24 * 1_024, 24 * 1_024));
    }

    /// A job of a full size that follows a small one under the same lease: its report brings the record of both. Beside it, parts of 24
    /// leases that fill a report.
    pub async fn the_largest_parameters_and_records(scene: &Scene) {
        const RECORD: usize = 64 << 10;
        const OF_MANY: usize = (160 << 10) / MAX_REPORTED_LEASES;
        let body = |byte| vec![byte; MAX_JOB_BYTES];
        let large = |jobs| Part::Jobs { step: 0, chunk: Chunk { jobs, body: body(1) } };
        let small = (0..MAX_REPORTED_LEASES).map(|_| jobs_part(0, 1));
        let workflow = new_workflow(scene.new_id());
        let id = workflow.id;
        let draft = scene.draft(DraftOf::Workflow(Box::new(workflow.clone())), vec![root("rows"), large(2)]);
        scene.append(&draft).await;
        scene.append(&Append { number: 1, parts: small.collect(), ..draft.clone() }).await;
        let made = Create { workflow, draft: Some(draft.draft), parts: Vec::new(), again: false };
        scene.store.create(made).await.unwrap();

        let worker = scene.worker().await;
        let both = worker.take(2).await;
        assert_eq!(scene.store.parameters(both.chunk).await.unwrap().body, body(1));
        let (one, other) = both.jobs.split(1);
        for (succeeded, size) in [(one, RECORD), (other, RECORD + MAX_JOB_BYTES)] {
            worker.report(LeaseReport { succeeded, record: vec![2; size], ..worker.part(&both) }).await;
        }
        assert_eq!(scene.records(id, 0).await[0].len(), RECORD + MAX_JOB_BYTES);

        let mut slices = worker.claim(1, 16).await.slices;
        slices.extend(worker.claim(1, 8).await.slices);
        let part = |slice| LeaseReport { record: vec![3; OF_MANY], ..worker.success(slice) };
        worker.try_report(slices.iter().map(part).collect()).await.unwrap();
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn a_step_with_10_000_followers_is_released(scene: &Scene) {
        let mut plan = scene.plan().step("up", 1);
        for follower in 1..=10_000 {
            plan = plan.step(&format!("follower {follower}"), 1).edge(0, follower, EdgeKind::After);
        }
        let id = plan.create().await;
        let worker = scene.worker().await;
        assert!(worker.succeed(&worker.take(1).await).await.more);
        scene.tick().await;
        for from in (1..=10_000).step_by(1_000) {
            let steps = scene.store.steps(id, from, 1_000).await.unwrap();
            assert!(steps.len() == 1_000 && steps.iter().all(|step| step.state == StepState::Running), "from {from}");
        }
    }

    pub async fn a_chain_of_10_000_empty_steps_settles(scene: &Scene) {
        let mut plan = scene.plan().step("first", 1);
        for step in 1..=10_000 {
            plan = plan.step(&format!("empty {step}"), 0).edge(step - 1, step, EdgeKind::After);
        }
        let id = plan.create().await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.row(id).await.unsettled_steps), (WorkflowState::Succeeded, 0));
        scene.at_rest().await;
    }

    pub async fn a_retry_of_a_million_failed_jobs(scene: &Scene) {
        let id = scene.lone(MILLION).await;
        let worker = scene.worker().await;
        loop {
            let slices = worker.claim(CHUNK_JOBS as u32, 16).await.slices;
            if slices.is_empty() {
                break;
            }
            let parts = slices.iter().map(|slice| worker.failure(slice, "bad")).collect();
            worker.try_report(parts).await.unwrap();
        }
        assert_eq!((scene.jobs(id).await.failed, scene.state(id).await), (u64::from(MILLION), WorkflowState::Failed));
        assert_eq!(scene.retry(id).await.jobs, u64::from(MILLION));
        assert_eq!((scene.jobs(id).await.failed, scene.errors(id, 0).await.len()), (0, 0));
        assert_eq!(worker.take(1_024).await.jobs.len(), 1_024);
    }

    pub async fn a_retry_of_every_tenth_of_a_million_jobs(scene: &Scene) {
        let id = scene.rows(MILLION).await;
        let worker = scene.worker().await;
        let fails = |slice: &Slice, at: usize| (slice.first + at as u64).is_multiple_of(10);
        loop {
            let slices = worker.claim(CHUNK_JOBS as u32, 16).await.slices;
            if slices.is_empty() {
                break;
            }
            let part = |slice: &Slice| {
                let failed: Mask = slice.jobs.iter().filter(|at| fails(slice, *at)).collect();
                let errors = vec![(error_number("bad"), "bad".to_owned(), failed)];
                LeaseReport { failed, errors, succeeded: slice.jobs.minus(failed), ..worker.part(slice) }
            };
            worker.try_report(slices.iter().map(part).collect()).await.unwrap();
        }
        let failed = u64::from(MILLION).div_ceil(10);
        assert_eq!((scene.jobs(id).await.failed, scene.state(id).await), (failed, WorkflowState::Failed));
        assert_eq!(scene.store.retry(scene.retry_of(id)).await.unwrap().jobs, failed);
        let mut ran = 0;
        loop {
            let more = scene.store.tick(Tick { lease: LEASE }).await.unwrap().more;
            let slices = worker.claim(CHUNK_JOBS as u32, 16).await.slices;
            if slices.is_empty() && !more {
                break;
            }
            for slice in &slices {
                assert!(
                    slice.step == 0 && slice.jobs.iter().all(|at| fails(slice, at)),
                    "{slice:?} has succeeded before"
                );
                ran += slice.jobs.len() as u64;
            }
            // While some of them have not been brought back, or run, nothing settles, whatever ends meanwhile.
            assert_eq!(scene.step_state(id, 1).await, StepState::Waiting);
            worker.try_report(slices.iter().map(|slice| worker.success(slice)).collect()).await.unwrap();
            if ran == failed {
                break;
            }
        }
        assert_eq!(ran, failed);
        worker.run().await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn a_million_jobs_run_again_with_what_comes_after_them(scene: &Scene) {
        let id = scene.rows(MILLION).await;
        let worker = scene.worker().await;
        while scene.state(id).await != WorkflowState::Succeeded {
            let slices = worker.claim(CHUNK_JOBS as u32, 16).await.slices;
            worker.try_report(slices.iter().map(|slice| worker.success(slice)).collect()).await.unwrap();
        }
        assert_eq!(scene.run_again(id, 0, true).await, u64::from(MILLION));
        assert_eq!((scene.jobs(id).await.succeeded, scene.step_state(id, 1).await), (0, StepState::Waiting));
        assert_eq!(worker.take(1_024).await.jobs.len(), 1_024);
    }

    pub async fn a_step_with_10_000_followers_at_work_runs_again(scene: &Scene) {
        let mut plan = scene.plan().step("up", 1);
        for follower in 1..=10_000 {
            plan = plan.step(&format!("follower {follower}"), 1).edge(0, follower, EdgeKind::After);
        }
        let id = plan.create().await;
        let worker = scene.worker().await;
        worker.succeed(&worker.take(1).await).await;
        scene.tick().await;
        assert_eq!(scene.run_again(id, 0, false).await, 1);
        for from in (1..=10_000).step_by(1_000) {
            let steps = scene.store.steps(id, from, 1_000).await.unwrap();
            assert!(steps.iter().all(|step| step.state == StepState::Waiting), "from {from}");
        }
        let slices = worker.drain().await;
        assert_eq!((slices.len(), slices[0].step, slices[0].generation), (1, 0, 1));
    }

    pub async fn a_delete_of_ten_million_jobs(scene: &Scene) {
        let plan = scene.plan().step("fails", 1).step("rows", 10_000 * 1_024).edge(0, 1, EdgeKind::After);
        let id = plan.create().await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "bad").await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.total), (WorkflowState::Failed, 10_240_001));
        scene.delete(id).await;
        scene.at_rest().await;
    }

    pub async fn a_cancel_of_a_million_jobs(scene: &Scene) {
        let id = scene.lone(MILLION).await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(
            (scene.state(id).await, scene.jobs(id).await.cancelled),
            (WorkflowState::Cancelled, u64::from(MILLION))
        );
        scene.at_rest().await;
    }

    /// A tick ends as many steps as it may: no step leaves a chore of its own, neither those at work nor those that wait for one of them.
    pub async fn a_cancel_of_a_thousand_steps_takes_a_tick_for_ten_of_them(scene: &Scene) {
        let mut plan = scene.plan().step("up", 1);
        for follower in 1..=500 {
            plan = plan.step(&format!("follower {follower}"), 1).edge(0, follower, EdgeKind::After);
        }
        for beside in 1..=500 {
            plan = plan.step(&format!("beside {beside}"), 1);
        }
        let id = plan.create().await;
        scene.tick().await;
        let ticks = || scene.store.meters().by_verb().get("tick").map_or(0, |cost| cost.operations);
        let before = ticks();
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.cancelled), (WorkflowState::Cancelled, 1_001));
        assert!(ticks() - before <= 100, "{} ticks", ticks() - before);
    }

    pub async fn a_step_of_a_million_jobs_fails_fast_and_is_retried(scene: &Scene) {
        let id = scene.plan().step_with("rows", MILLION, |spec| spec.policy = FailurePolicy::FailFast).create().await;
        let worker = scene.worker().await;
        worker.fail(&worker.take(1).await, "bad").await;
        scene.tick().await;
        assert_eq!(
            (scene.state(id).await, scene.jobs(id).await.cancelled),
            (WorkflowState::Failed, u64::from(MILLION) - 1)
        );
        scene.at_rest().await;
        scene.retry(id).await;
        assert_eq!(scene.step(id, 0).await.jobs.open(), u64::from(MILLION));
        // First the job that had failed, then the others of its chunk.
        assert_eq!(jobs_of(&worker.claim(1_024, 2).await.slices), (0..1_024).collect::<Vec<u64>>());
    }

    pub async fn a_tick_with_1_000_leases_that_have_ended(scene: &Scene) {
        let mut plan = scene.plan();
        for step in 0..10 {
            plan = plan.step_with(&format!("step {step}"), 1_000, |spec| spec.max_in_flight = Some(100));
        }
        let id = plan.create().await;
        let worker = scene.worker().await;
        let mut leases = 0;
        while leases < 1_000 {
            leases += worker.claim(1, 16).await.slices.len();
        }
        scene.leases_end().await;
        for step in 0..10 {
            assert_eq!(scene.step(id, step).await.running, 0);
            let recovered = scene.recoveries(id, step).await.iter().filter(|count| **count == 1).count();
            assert_eq!(recovered, 100, "step {step}");
        }
    }

    pub async fn a_resume_with_500_parked_lines(scene: &Scene) {
        let mut plan = scene.plan();
        for step in 0..500 {
            plan = plan.step_with(&format!("step {step}"), 1, |spec| spec.priority = step);
        }
        let id = plan.create().await;
        scene.pause(id).await;
        let worker = scene.worker().await;
        let mut claims = 0;
        while !worker.claim(1, 16).await.empty || claims < 50 {
            claims += 1;
        }
        assert!(scene.store.waiting(id, 0).await.unwrap().parked && scene.store.waiting(id, 499).await.unwrap().parked);
        scene.resume(id).await;
        scene.tick().await;
        assert_eq!(count_jobs(&worker.drain().await), 500);
    }

    /// Each of 64 lines has the places of ten paused workflows before that of the one that may run.
    pub async fn a_claim_over_64_lines(scene: &Scene) {
        let mut live = None;
        for paused in 0..=10 {
            let mut plan = scene.plan();
            for step in 0..64 {
                plan = plan.step_with(&format!("step {step}"), 1, |spec| spec.priority = step);
            }
            let id = plan.create().await;
            if paused < 10 {
                scene.pause(id).await
            } else {
                live = Some(id)
            };
        }
        let worker = scene.worker().await;
        let mut slices = Vec::new();
        loop {
            let claimed = worker.claim(1, 64).await;
            slices.extend(claimed.slices);
            if claimed.empty {
                break;
            }
        }
        assert!(slices.iter().all(|slice| Some(slice.workflow) == live));
        assert_eq!(slices.len(), 64);
    }

    /// A report that settles 24 steps at once, each with 200 followers.
    pub async fn a_report_that_settles_24_steps_with_200_followers_each(scene: &Scene) {
        let mut plan = scene.plan();
        for step in 0..24 {
            plan = plan.step(&format!("up {step}"), 1);
        }
        for follower in 0..24 * 200 {
            plan = plan.step(&format!("down {follower}"), 1).edge(follower / 200, 24 + follower, EdgeKind::After);
        }
        let id = plan.create().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        let reported = worker.try_report(slices.iter().map(|slice| worker.success(slice)).collect()).await.unwrap();
        assert!(reported.more);
        scene.tick().await;
        for from in (24..24 + 4_800).step_by(800) {
            let steps = scene.store.steps(id, from, 800).await.unwrap();
            assert!(steps.iter().all(|step| step.state == StepState::Running), "from {from}");
        }
    }

    /// A leave gives back more leases than one operation can.
    pub async fn a_leave_with_500_leases(scene: &Scene) {
        let id = scene.lone(10_000).await;
        let worker = scene.worker().await;
        let mut leases = 0;
        while leases < 500 {
            leases += worker.claim(1, 16).await.slices.len();
        }
        assert!(scene.store.leave(worker.session.id).await.unwrap().more);
        scene.leave(&worker).await;
        assert_eq!(scene.step(id, 0).await.running, 0);
        assert!(scene.job_states(id, 0).await.iter().all(|state| *state == JobState::Open));
    }

    pub async fn are_counted_for_each_verb(scene: &Scene) {
        scene.rows(3).await;
        scene.worker().await.run().await;
        let costs = scene.store.meters().by_verb();
        for verb in ["join", "create", "claim", "report"] {
            let cost = costs.get(verb).unwrap_or_else(|| panic!("{verb} is not counted: {costs:?}"));
            assert!(cost.operations > 0 && cost.max.calls > 0, "{verb}: {cost:?}");
            assert!(cost.max.calls <= MAX_CALLS && cost.max.bytes <= MAX_BYTES, "{verb}: {cost:?}");
        }
    }
}
