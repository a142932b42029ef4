//! Work is handed out: by claims, under leases.

pub mod claim {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::graph::StepSpec;
    use crate::retry::Retry;
    use crate::state::{StepState, WorkflowState};
    use crate::store::{Claim, LeaseReport, Slice, StepOptions, Take};

    pub async fn fresh_tells_all_that_a_worker_needs(scene: &Scene) {
        let options = |spec: &mut StepSpec| spec.retry = Some(Retry::never());
        let id = scene.plan().step_with("rows", 10, options).create().await;
        scene.clock.advance(5);
        let slice = scene.worker().await.take(4).await;
        assert_eq!((slice.workflow, slice.workflow_name.as_str()), (id, "Test"));
        assert_eq!((slice.step, slice.step_name.as_str(), slice.job_type.as_str()), (0, "rows", ROW));
        assert_eq!(slice.options, StepOptions { retry: Some(Retry::never()), ..StepOptions::default() });
        assert_eq!((slice.generation, slice.feeds, slice.first, slice.suspect), (0, None, 0, false));
        assert_eq!((jobs_of(std::slice::from_ref(&slice)), slice.attempts.is_empty()), (vec![0, 1, 2, 3], true));
        let row = scene.row(id).await;
        assert_eq!((row.state, row.started_at), (WorkflowState::Running, Some(START + 5)));
        let step = scene.step(id, 0).await;
        assert_eq!((step.running, step.started_at), (4, Some(START + 5)));
    }

    pub async fn repeated_with_the_next_numbers_takes_other_jobs(scene: &Scene) {
        scene.lone(10).await;
        let worker = scene.worker().await;
        let (one, other) = (worker.take(3).await, worker.take(3).await);
        assert!(one.lease < other.lease);
        assert!(one.jobs.and(other.jobs).is_empty());
        assert_eq!(jobs_of(&worker.drain().await), [6, 7, 8, 9]);
    }

    fn told(slices: &[Slice]) -> Vec<(u64, Vec<usize>)> {
        slices.iter().map(|slice| (slice.lease, slice.jobs.iter().collect())).collect()
    }

    pub async fn answer_lost_grants_nothing_new_and_tells_what_is_held(scene: &Scene) {
        let id = scene.lone(100).await;
        let worker = scene.worker().await;
        let first = scene.store.claim(worker.wish(10, 2)).await.unwrap();
        let again = scene.store.claim(worker.wish(10, 2)).await.unwrap();
        assert_eq!((told(&first.slices), first.last_lease), (told(&again.slices), again.last_lease));
        assert_eq!(scene.step(id, 0).await.running, 20);
    }

    pub async fn answer_lost_tells_only_what_has_not_been_reported(scene: &Scene) {
        scene.lone(100).await;
        let worker = scene.worker().await;
        let wish = worker.wish(10, 3);
        let first = worker.send(wish.clone()).await;
        let slices = first.slices;
        worker.succeed(&slices[0]).await;
        let some = slices[1].jobs.split(4);
        worker.report(LeaseReport { succeeded: some.0, ..worker.part(&slices[1]) }).await;
        let again = scene.store.claim(wish).await.unwrap();
        let rest = vec![(slices[1].lease, some.1.iter().collect()), (slices[2].lease, slices[2].jobs.iter().collect())];
        assert_eq!((told(&again.slices), again.last_lease), (rest, first.last_lease));
    }

    pub async fn lease_taken_back_is_not_granted_again_by_its_number(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let wish = worker.wish(2, 1);
        let first = worker.send(wish.clone()).await;
        scene.leases_end().await;
        let again = scene.store.claim(wish).await.unwrap();
        assert_eq!((again.slices.len(), again.last_lease), (0, first.last_lease));
        assert_eq!(scene.step(id, 0).await.running, 0);
    }

    pub async fn lease_taken_back_comes_first_and_open_only(scene: &Scene) {
        let id = scene.lone(40).await;
        let worker = scene.worker().await;
        let slice = worker.take(4).await;
        let retries = vec![(3_600_000, job(1))];
        worker.report(LeaseReport { succeeded: job(0), retries, ..worker.part(&slice) }).await;
        scene.leases_end().await;
        let again = scene.worker().await.take(4).await;
        assert_eq!(jobs_of(&[again]), [2, 3], "neither the one that has settled nor the one that retries");
        assert_eq!((scene.jobs(id).await.succeeded, scene.jobs(id).await.retrying), (1, 1));
    }

    pub async fn paused_grants_nothing_and_parks(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        scene.pause(id).await;
        let claimed = worker.claim(4, 4).await;
        assert!(claimed.slices.is_empty() && claimed.empty);
        assert!(scene.store.waiting(id, 0).await.unwrap().parked);
        assert_eq!(scene.row(id).await.started_at, None);
    }

    pub async fn cancelling_grants_nothing(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        worker.take(1).await;
        scene.cancel(id, 60_000).await;
        let claimed = worker.claim(4, 4).await;
        assert!(claimed.slices.is_empty() && claimed.empty, "although no chore has cleared the line yet");
        assert_eq!(scene.step(id, 0).await.running, 1);
    }

    pub async fn deleted_grants_nothing(scene: &Scene) {
        let id = scene.failed(4).await;
        let other = scene.lone(1).await;
        scene.store.delete(id).await.unwrap();
        let slices = scene.worker().await.drain().await;
        assert_eq!(slices.iter().map(|slice| slice.workflow).collect::<Vec<_>>(), [other]);
    }

    pub async fn by_an_unknown_session_is_answered_so(scene: &Scene) {
        let worker = scene.worker().await;
        scene.leave(&worker).await;
        assert_eq!(refusal(scene.store.claim(worker.wish(1, 1)).await), ErrorKind::NotFound);
    }

    pub async fn takes_named_types_and_queues_only(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).step_with("other type", 1, |spec| spec.job_type = OTHER.into());
        plan.step_with("other queue", 1, |spec| spec.queue = "elsewhere".into()).create().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        assert_eq!(slices.iter().map(|slice| slice.step).collect::<Vec<_>>(), [0]);
        let elsewhere = Claim { queues: vec!["elsewhere".into()], ..worker.wish(9, 9) };
        assert_eq!(worker.send(elsewhere).await.slices[0].step, 2);
        let takes = vec![Take { job_type: OTHER.into(), jobs: 9, budget: 9 }];
        assert_eq!(worker.send(Claim { takes, ..worker.wish(9, 9) }).await.slices[0].step, 1);
    }

    pub async fn without_a_free_slot_finds_nothing_in_a_limited_step(scene: &Scene) {
        scene.plan().step_with("limited", 9, |spec| spec.max_in_flight = Some(4)).create().await;
        let worker = scene.worker().await;
        let claimed = worker.send(Claim { max_limited: 0, ..worker.wish(4, 1) }).await;
        assert!(claimed.slices.is_empty() && claimed.empty, "to ask again at once would bring nothing");
        assert_eq!(worker.take(4).await.jobs.len(), 4);
    }

    pub async fn keeps_to_its_budget_and_number_of_leases(scene: &Scene) {
        scene.lone(1_000).await;
        let worker = scene.worker().await;
        let takes = vec![Take { job_type: ROW.into(), jobs: 10, budget: 25 }];
        let slices = worker.send(Claim { takes, ..worker.wish(1, 9) }).await.slices;
        assert_eq!(slices.iter().map(|slice| slice.jobs.len()).collect::<Vec<_>>(), [10, 10, 5]);
        assert_eq!(worker.claim(10, 2).await.slices.len(), 2);
        let takes = vec![Take { job_type: ROW.into(), jobs: 10, budget: 0 }];
        assert!(worker.send(Claim { takes, ..worker.wish(1, 9) }).await.slices.is_empty());
    }

    pub async fn takes_at_most_half_of_an_equal_share(scene: &Scene) {
        scene.lone(100).await;
        let (one, other) = (scene.worker().await, scene.worker().await);
        assert_eq!(one.take(1024).await.jobs.len(), 25);
        assert_eq!(other.take(1024).await.jobs.len(), 19);
        scene.leave(&one).await;
        assert_eq!(other.take(1024).await.jobs.len(), 25, "the 25 come back first");
    }

    pub async fn never_spans_two_chunks(scene: &Scene) {
        scene.lone(1_024 + 100).await;
        let slices = scene.worker().await.drain().await;
        assert!(slices.iter().all(|slice| slice.first == 0 || slice.first == 1_024));
        assert_eq!(jobs_of(&slices), (0..1_124).collect::<Vec<_>>());
    }

    pub async fn a_waiting_step_is_not_handed_out(scene: &Scene) {
        let id = scene.rows(3).await;
        let worker = scene.worker().await;
        for left in (0..3).rev() {
            let slice = worker.take(1).await;
            assert_eq!((slice.step, scene.step_state(id, 1).await), (0, StepState::Waiting));
            worker.succeed(&slice).await;
            let released = scene.step_state(id, 1).await == StepState::Running;
            assert_eq!(released, left == 0, "with {left} rows left");
        }
        assert_eq!(worker.take(9).await.step, 1);
    }

    pub async fn tells_the_attempts_used(scene: &Scene) {
        scene.lone(2).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.retry_in(&slice, 0).await;
        scene.tick().await;
        let slices = worker.drain().await;
        let used: Vec<u8> = slices.iter().flat_map(|slice| slice.attempts.clone()).collect();
        assert_eq!((jobs_of(&slices), used.iter().sum::<u8>()), (vec![0, 1], 1));
    }
}

/// Fair shares of a store among workflows, steps and workers.
pub mod turns {
    use super::super::scene::*;
    use crate::graph::StepSpec;
    use crate::store::{Claim, Slice};

    fn workflows(slices: &[Slice]) -> Vec<crate::WorkflowId> {
        slices.iter().map(|slice| slice.workflow).collect()
    }

    pub async fn beside_a_backlog_another_workflow_starts_in_one_rotation(scene: &Scene) {
        let large = scene.lone(20_000).await;
        let worker = scene.worker().await;
        assert_eq!(worker.claim(10, 3).await.slices.len(), 3);
        let small = scene.lone(1).await;
        let turns = workflows(&worker.claim(10, 3).await.slices);
        assert!(turns[..2].contains(&small) && turns.contains(&large), "{turns:?}");
    }

    pub async fn workflows_alternate_claim_after_claim(scene: &Scene) {
        scene.stay_on_one_shard();
        let (one, other) = (scene.lone(100).await, scene.lone(100).await);
        let worker = scene.worker().await;
        let mut turns = Vec::new();
        for _ in 0..6 {
            turns.push(worker.take(1).await.workflow);
        }
        assert_eq!(turns, [one, other, one, other, one, other]);
    }

    pub async fn twenty_workflows_all_start_within_twenty_slices(scene: &Scene) {
        scene.stay_on_one_shard();
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(scene.lone(50).await);
        }
        let mut turns = Vec::new();
        let worker = scene.worker().await;
        for _ in 0..4 {
            turns.extend(workflows(&worker.claim(5, 5).await.slices));
        }
        turns.sort_unstable();
        ids.sort_unstable();
        assert_eq!(turns, ids);
    }

    pub async fn steps_of_a_workflow_alternate(scene: &Scene) {
        scene.plan().step("a", 50).step("b", 50).create().await;
        let worker = scene.worker().await;
        let turns: Vec<u32> = worker.claim(2, 8).await.slices.iter().map(|slice| slice.step).collect();
        assert!(turns[..3].contains(&0) && turns[..3].contains(&1), "{turns:?}");
        assert!((3..=5).contains(&turns.iter().filter(|step| **step == 0).count()), "{turns:?}");
    }

    pub async fn types_alternate(scene: &Scene) {
        let other = |spec: &mut StepSpec| spec.job_type = OTHER.into();
        scene.plan().step("a", 50).step_with("b", 50, other).create().await;
        let worker = scene.worker_with(|about| about.types.push(OTHER.into())).await;
        let mut turns: Vec<u32> = worker.claim(2, 2).await.slices.iter().map(|slice| slice.step).collect();
        turns.sort_unstable();
        assert_eq!(turns, [0, 1]);
    }

    pub async fn the_higher_priority_goes_first(scene: &Scene) {
        let with = |priority| move |spec: &mut StepSpec| spec.priority = priority;
        let plan = scene.plan().step_with("low", 4, with(-1)).step("normal", 4).step_with("high", 4, with(5));
        plan.create().await;
        let slices = scene.worker().await.drain().await;
        let steps: Vec<u32> = slices.iter().map(|slice| slice.step).collect();
        let mut sorted = steps.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!((steps, count_jobs(&slices)), (sorted, 12));
    }

    pub async fn priority_decides_over_workflows_too(scene: &Scene) {
        scene.stay_on_one_shard();
        scene.lone(4).await;
        let urgent = scene.plan().step_with("urgent", 4, |spec| spec.priority = 1).create().await;
        let worker = scene.worker().await;
        let slices = worker.claim(1, 4).await.slices;
        assert_eq!(workflows(&slices), [urgent; 4]);
        assert_ne!(worker.take(1).await.workflow, urgent);
    }

    fn at_most(limit: u32) -> impl Fn(&mut StepSpec) {
        move |spec| spec.max_in_flight = Some(limit)
    }

    pub async fn a_limit_is_exact_over_two_workers(scene: &Scene) {
        let id = scene.plan().step_with("rows", 10, at_most(3)).create().await;
        let (one, other) = (scene.worker().await, scene.worker().await);
        let mine = one.claim(2, 4).await.slices;
        let held = [mine.clone(), other.claim(2, 4).await.slices].concat();
        assert_eq!((count_jobs(&held), scene.step(id, 0).await.running), (3, 3));
        assert!(other.claim(2, 4).await.slices.is_empty());
        let freed = mine[0].jobs.len();
        one.succeed(&mine[0]).await;
        assert_eq!(count_jobs(&other.claim(9, 4).await.slices), freed);
        assert!(other.claim(9, 4).await.slices.is_empty());
    }

    pub async fn a_limit_is_free_again_after_a_death(scene: &Scene) {
        scene.plan().step_with("rows", 10, at_most(2)).create().await;
        let dies = scene.worker().await;
        assert_eq!(count_jobs(&dies.drain().await), 2);
        let other = scene.worker().await;
        assert!(other.drain().await.is_empty());
        scene.leases_end().await;
        assert_eq!(count_jobs(&other.drain().await), 2);
    }

    pub async fn a_limit_is_free_again_after_what_was_given_back_or_waits(scene: &Scene) {
        scene.plan().step_with("rows", 9, at_most(1)).create().await;
        let worker = scene.worker().await;
        let slice = worker.take(9).await;
        assert!(worker.drain().await.is_empty());
        worker.give_back(&slice).await;
        let slice = worker.take(9).await;
        assert_eq!(jobs_of(std::slice::from_ref(&slice)), [0]);
        worker.retry_in(&slice, 60_000).await;
        assert_eq!(jobs_of(&worker.drain().await), [1], "what waits for its retry takes no room");
    }

    pub async fn a_limited_slice_fits_what_can_start_at_once(scene: &Scene) {
        scene.plan().step_with("rows", 100, at_most(50)).create().await;
        let worker = scene.worker().await;
        let slices = worker.send(Claim { max_limited: 4, ..worker.wish(20, 9) }).await.slices;
        assert_eq!(count_jobs(&slices), 4);
    }

    pub async fn a_step_at_its_limit_holds_up_no_other(scene: &Scene) {
        scene.plan().step_with("limited", 10, at_most(1)).step("free", 10).create().await;
        let worker = scene.worker().await;
        let slices = worker.drain().await;
        let free = slices.iter().filter(|slice| slice.step == 1).map(|slice| slice.jobs.len()).sum::<usize>();
        assert_eq!((free, count_jobs(&slices)), (10, 11));
    }

    pub async fn a_step_at_its_limit_tells_that_it_is_parked(scene: &Scene) {
        let id = scene.plan().step_with("limited", 10, at_most(1)).create().await;
        let worker = scene.worker().await;
        let slice = worker.drain().await.remove(0);
        assert!(scene.store.waiting(id, 0).await.unwrap().parked);
        worker.succeed(&slice).await;
        assert!(!scene.store.waiting(id, 0).await.unwrap().parked);
    }
}

/// Idle workers are woken: one for each kind of work, no more.
pub mod wake {
    use super::super::scene::*;
    use crate::graph::StepSpec;
    use crate::state::EdgeKind;

    async fn idle<'s>(scene: &'s Scene, port: u16, types: &[&str]) -> Worker<'s> {
        let types: Vec<String> = types.iter().map(|name| (*name).into()).collect();
        let worker = scene.worker_with(|about| (about.wake_port, about.types) = (Some(port), types)).await;
        assert!(worker.claim(4, 1).await.empty);
        worker
    }

    fn other(spec: &mut StepSpec) {
        spec.job_type = OTHER.into();
    }

    pub async fn a_new_workflow_wakes_one_idle_worker(scene: &Scene) {
        scene.stay_on_one_shard();
        let _one = idle(scene, 1, &[ROW]).await;
        let _other = idle(scene, 2, &[ROW]).await;
        let created = scene.plan().step("rows", 100).begin().await;
        assert_eq!(created.woken.0.len(), 1);
        let created = scene.plan().step("rows", 100).begin().await;
        assert_eq!(created.woken.0.len(), 1, "the next workflow wakes the other");
        assert!(scene.plan().step("rows", 100).begin().await.woken.0.is_empty(), "nobody is idle any more");
    }

    pub async fn one_worker_for_each_kind_of_work(scene: &Scene) {
        let _one = idle(scene, 1, &[ROW]).await;
        let _other = idle(scene, 2, &[OTHER]).await;
        let mut woken = scene.plan().step("a", 9).step_with("b", 9, other).begin().await.woken.0;
        woken.sort_unstable();
        assert_eq!(woken, [1, 2]);
    }

    pub async fn a_worker_that_knows_both_kinds_is_enough(scene: &Scene) {
        let _one = idle(scene, 1, &[ROW, OTHER]).await;
        let _other = idle(scene, 2, &[ROW, OTHER]).await;
        assert_eq!(scene.plan().step("a", 9).step_with("b", 9, other).begin().await.woken.0.len(), 1);
    }

    pub async fn nobody_who_could_not_run_it(scene: &Scene) {
        let _other = idle(scene, 2, &[OTHER]).await;
        let busy = scene.worker_with(|about| about.wake_port = Some(1)).await;
        assert!(busy.claim(4, 1).await.empty);
        let created = scene.plan().step("rows", 9).begin().await;
        assert_eq!(created.woken.0, [1]);
        busy.take(1).await;
        assert!(scene.plan().step("rows", 9).begin().await.woken.0.is_empty(), "who has work is not idle");
    }

    pub async fn who_took_the_last_work_and_has_a_slot_left(scene: &Scene) {
        scene.lone(1).await;
        let worker = scene.worker_with(|about| about.wake_port = Some(1)).await;
        let last = worker.claim(2, 4).await;
        assert_eq!((last.slices.len(), last.empty, last.idle), (1, true, true));
        assert_eq!(scene.plan().step("rows", 1).begin().await.woken.0, [1]);
        let last = worker.claim(1, 4).await;
        assert_eq!((last.slices.len(), last.empty, last.idle), (1, true, false));
        assert!(scene.plan().step("rows", 9).begin().await.woken.0.is_empty(), "who has no slot left is not idle");
    }

    pub async fn who_finds_more_than_it_takes_wakes_the_next(scene: &Scene) {
        let first = idle(scene, 1, &[ROW]).await;
        let _next = idle(scene, 2, &[ROW]).await;
        assert_eq!(scene.plan().step("rows", 100).begin().await.woken.0.len(), 1);
        let claimed = first.claim(2, 1).await;
        assert_eq!((claimed.slices.len(), claimed.woken.0.len()), (1, 1));
    }

    pub async fn a_report_wakes_for_what_it_releases(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).step_with("behind", 1, other).edge(0, 1, EdgeKind::After);
        plan.create().await;
        let _idle = idle(scene, 2, &[OTHER]).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert_eq!(worker.succeed(&slice).await.woken.0, [2]);
    }

    pub async fn a_resume_wakes(scene: &Scene) {
        let id = scene.lone(9).await;
        scene.pause(id).await;
        let _idle = idle(scene, 3, &[ROW]).await;
        assert_eq!(scene.resume(id).await, [3]);
        assert!(scene.resume(id).await.is_empty());
    }

    pub async fn a_tick_wakes_for_what_is_due(scene: &Scene) {
        scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.retry_in(&slice, 500).await;
        let _idle = idle(scene, 4, &[ROW]).await;
        scene.clock.advance(700);
        let ticked = scene.store.tick(crate::store::Tick { lease: LEASE }).await.unwrap();
        assert_eq!(ticked.woken.0, [4]);
    }

    pub async fn who_leaves_wakes_another_for_what_it_held(scene: &Scene) {
        scene.lone(2).await;
        let holder = scene.worker().await;
        assert_eq!(holder.drain().await.len(), 2);
        let _idle = idle(scene, 6, &[ROW]).await;
        assert_eq!(scene.store.leave(holder.session.id).await.unwrap().woken.0, [6]);
    }
}
