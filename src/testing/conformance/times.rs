//! What is due in time: ticks, timers, lease time, and what becomes of the work of those who died.

pub mod tick {
    use super::super::scene::*;
    use crate::state::{JobState, StepState, WorkflowState};
    use crate::store::Tick;

    const TICK: Tick = Tick { lease: LEASE };

    pub async fn fresh_on_an_idle_store_has_nothing_to_do(scene: &Scene) {
        let ticked = scene.store.tick(TICK).await.unwrap();
        assert!(!ticked.more && ticked.woken.0.is_empty());
    }

    pub async fn fresh_tells_whether_jobs_are_ready(scene: &Scene) {
        let ready = async || scene.store.tick(TICK).await.unwrap().ready;
        assert!(!ready().await);
        scene.lone(2).await;
        assert!(ready().await);
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert!(ready().await, "one of two is left");
        worker.take(1).await;
        worker.drain().await;
        assert!(!ready().await);
        worker.give_back(&slice).await;
        assert!(ready().await);
    }

    pub async fn fresh_tells_when_the_next_thing_is_due(scene: &Scene) {
        scene.plan().step_with("later", 1, |spec| spec.delay = milliseconds(700)).create().await;
        let worker = scene.worker_with(|about| about.lease = 900).await;
        assert_eq!(scene.store.tick(TICK).await.unwrap().next_in, Some(700));
        scene.clock.advance(300);
        scene.tick().await;
        worker.renew(&[]).await;
        assert_eq!(scene.store.tick(TICK).await.unwrap().next_in, Some(400));
    }

    pub async fn repeated_takes_a_lease_back_once(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(2).await;
        scene.leases_end().await;
        for _ in 0..3 {
            scene.tick().await;
        }
        assert_eq!(scene.recoveries(id, 0).await, [1, 1, 0, 0]);
        assert_eq!(scene.step(id, 0).await.running, 0);
    }

    pub async fn answer_lost_makes_a_timer_due_once(scene: &Scene) {
        scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.retry_in(&slice, 100).await;
        scene.clock.advance(200);
        scene.store.tick(TICK).await.unwrap();
        scene.store.tick(TICK).await.unwrap();
        assert_eq!(jobs_of(&worker.drain().await), [0]);
    }

    pub async fn lease_taken_back_not_before_its_time(scene: &Scene) {
        let id = scene.lone(4).await;
        scene.worker().await.take(2).await;
        scene.wait(LEASE - 100).await;
        assert_eq!(scene.step(id, 0).await.running, 2);
        scene.wait(200).await;
        assert_eq!(scene.step(id, 0).await.running, 0);
    }

    pub async fn paused_makes_due_but_hands_nothing_out(scene: &Scene) {
        let id = scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.retry_in(&slice, 300).await;
        scene.pause(id).await;
        scene.wait(600).await;
        assert_eq!((scene.jobs(id).await.retrying, worker.drain().await.len()), (0, 0));
        scene.resume(id).await;
        assert_eq!(worker.take(1).await.attempts, [1]);
    }

    pub async fn cancelling_makes_no_timer_due(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let (one, other) = (worker.take(1).await, worker.take(1).await);
        worker.retry_in(&one, 300).await;
        scene.cancel(id, 5_000).await;
        scene.wait(600).await;
        assert_eq!(scene.job_states(id, 0).await[0], JobState::Cancelled);
        worker.succeed(&other).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
    }

    pub async fn deleted_is_gone_to_the_last_row(scene: &Scene) {
        let id = scene.failed(3_000).await;
        scene.store.delete(id).await.unwrap();
        assert!(scene.under_way().await > 0);
        scene.tick().await;
        scene.at_rest().await;
    }

    pub async fn ends_drafts_that_nobody_renews(scene: &Scene) {
        let new = new_workflow(scene.new_id());
        scene
            .append(&scene.draft(crate::store::DraftOf::Workflow(Box::new(new)), vec![root("rows"), jobs_part(0, 9)]))
            .await;
        scene.wait(LEASE - 100).await;
        assert!(scene.under_way().await > 0);
        scene.wait(200).await;
        scene.at_rest().await;
    }

    pub async fn ends_sessions_that_do_not_renew(scene: &Scene) {
        scene.worker().await;
        let lives = scene.worker().await;
        scene.wait(LEASE / 2).await;
        lives.renew(&[]).await;
        scene.wait(LEASE / 2 + 100).await;
        let rows = scene.store.workers(9).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.session.id).collect::<Vec<_>>(), [lives.session.id]);
    }

    pub async fn goes_on_with_what_a_creation_left(scene: &Scene) {
        let mut plan = scene.plan();
        for step in 0..300 {
            plan = plan.step(&format!("step {step}"), 1);
        }
        assert!(plan.begin().await.more, "300 steps are more than one operation releases");
        scene.tick().await;
        let mut released = 0;
        while let Some(step) = scene.store.steps(plan.id, released, 1).await.unwrap().pop() {
            assert_eq!(step.state, StepState::Running, "step {released}");
            released += 1;
        }
        assert_eq!(released, 300);
    }
}

/// Retries, delays: what waits in the store for its time.
pub mod timers {
    use super::super::scene::*;
    use crate::state::{EdgeKind, StepState, WorkflowState};
    use crate::store::{LeaseReport, due_time};

    pub async fn a_retry_is_due_at_its_time_and_keeps_its_attempts(scene: &Scene) {
        scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.retry_in(&slice, 500).await;
        scene.wait(400).await;
        assert!(worker.claim(1, 1).await.slices.is_empty());
        scene.wait(200).await;
        assert_eq!(worker.take(1).await.attempts, [1]);
    }

    pub async fn a_retry_time_is_rounded_up_to_an_eighth_of_its_wait(scene: &Scene) {
        let id = scene.lone(200).await;
        let worker = scene.worker().await;
        scene.clock.advance(77);
        let slice = worker.take(100).await;
        let retries = slice.jobs.iter().map(|at| (60_000 + at as i64, job(at))).collect();
        worker.report(LeaseReport { retries, ..worker.part(&slice) }).await;
        let mut dues = Vec::new();
        for at in 0..100 {
            let due = scene.store.whereabouts(id, 0, at).await.unwrap().due;
            assert_eq!(due, Some(due_time(START + 77, milliseconds(60_000 + at as i64))), "job {at}");
            dues.extend(due);
        }
        dues.dedup();
        assert!(dues.len() <= 2, "a hundred waits of about a minute share {dues:?}");
    }

    pub async fn a_retry_comes_before_what_has_not_run(scene: &Scene) {
        scene.lone(9).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        worker.retry_in(&slice, 100).await;
        scene.wait(200).await;
        assert_eq!(jobs_of(&[worker.take(2).await]), [0, 1]);
    }

    pub async fn a_step_waits_its_delay_once_what_is_before_it_has_settled(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).step_with("later", 3, |spec| spec.delay = milliseconds(2_000));
        let id = plan.edge(0, 1, EdgeKind::After).create().await;
        scene.wait(3_000).await;
        let worker = scene.worker().await;
        worker.run().await;
        assert_eq!(scene.step_state(id, 1).await, StepState::Running);
        scene.clock.advance(1_900);
        scene.tick().await;
        assert!(worker.drain().await.is_empty());
        assert_eq!(scene.store.waiting(id, 1).await.unwrap().next_due, Some(START + 5_000));
        scene.clock.advance(100);
        scene.tick().await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2]);
    }

    pub async fn a_first_step_can_be_delayed_too(scene: &Scene) {
        scene.plan().step_with("later", 3, |spec| spec.delay = milliseconds(2_000)).create().await;
        let worker = scene.worker().await;
        assert!(worker.drain().await.is_empty());
        scene.clock.advance(2_000);
        scene.tick().await;
        assert_eq!(worker.drain().await.len(), 2);
    }

    pub async fn a_delayed_step_that_is_cancelled_never_runs(scene: &Scene) {
        let id = scene.plan().step_with("later", 3, |spec| spec.delay = milliseconds(2_000)).create().await;
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        scene.at_rest().await;
    }

    pub async fn many_timers_are_all_made_due(scene: &Scene) {
        let id = scene.lone(400).await;
        let worker = scene.worker().await;
        for _ in 0..2 {
            let slice = worker.take(90).await;
            let retries = slice.jobs.iter().map(|at| (1_000 * (1 + at as i64), job(at))).collect();
            worker.report(LeaseReport { retries, ..worker.part(&slice) }).await;
        }
        scene.clock.advance(400_000);
        scene.tick().await;
        assert_eq!(scene.jobs(id).await.retrying, 0);
        assert_eq!(jobs_of(&worker.drain().await), (0..400).collect::<Vec<_>>());
    }
}

/// Lease time: what counts is time in which somebody looked.
pub mod lease_time {
    use super::super::scene::*;
    use crate::store::Tick;

    pub async fn an_outage_or_a_jump_of_the_clock_costs_nobody_a_lease(scene: &Scene) {
        scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(5).await;
        for jump in [3_600_000, -7_200_000, 3_600_000] {
            scene.clock.advance(jump);
            scene.tick().await;
            assert!(worker.renew(&[slice.lease]).await.lost.is_empty(), "after a jump of {jump} ms");
        }
    }

    pub async fn a_clock_that_jumped_back_does_not_make_leases_last(scene: &Scene) {
        scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(5).await;
        scene.clock.advance(-3_600_000);
        scene.wait(LEASE + 200).await;
        assert_eq!(worker.renew(&[slice.lease]).await.lost, [slice.lease]);
    }

    pub async fn two_looks_far_apart_move_it_by_half_a_lease_each(scene: &Scene) {
        scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(5).await;
        scene.clock.advance(3_600_000);
        scene.tick().await;
        assert!(worker.succeed(&slice).await.refused.is_empty());
        let slice = worker.take(2).await;
        for _ in 0..3 {
            scene.clock.advance(3_600_000);
            scene.tick().await;
        }
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease]);
    }

    pub async fn the_shortest_lease_decides_how_far_one_look_moves_it(scene: &Scene) {
        scene.lone(100).await;
        let short = scene.worker().await;
        let long = scene.worker_with(|about| about.lease = 60_000).await;
        let (hers, his) = (short.take(2).await, long.take(2).await);
        scene.clock.advance(50_000);
        let tick = Tick { lease: 60_000 };
        while scene.store.tick(tick).await.unwrap().more {}
        assert!(short.renew(&[hers.lease]).await.lost.is_empty(), "who has long leases does not end short ones");
        scene.wait(2 * LEASE).await;
        assert!(long.renew(&[his.lease]).await.lost.is_empty(), "nor the other way round");
        assert_eq!(short.renew(&[hers.lease]).await.lost, [hers.lease]);
    }

    pub async fn a_claim_of_another_worker_takes_nothing_back(scene: &Scene) {
        scene.lone(100).await;
        let (one, other) = (scene.worker().await, scene.worker().await);
        let slice = one.take(2).await;
        for _ in 0..30 {
            scene.clock.advance(LEASE);
            other.take(1).await;
        }
        assert!(one.succeed(&slice).await.refused.is_empty(), "only a tick takes back");
    }
}

/// What becomes of the slices of workers that died: recoveries, halving, suspects.
pub mod recovery {
    use super::super::scene::*;
    use crate::graph::StepSpec;
    use crate::state::{JobState, WorkflowState, attempts};
    use crate::store::{Claim, LeaseReport};

    /// A worker claims `jobs` jobs and dies of them.
    async fn dies_of(scene: &Scene, jobs: u32) -> usize {
        let slice = scene.worker().await.take(jobs).await;
        scene.wait(2 * LEASE).await;
        slice.jobs.len()
    }

    /// A worker claims a suspect slice alone and dies of it.
    async fn dies_alone(scene: &Scene) -> Vec<u64> {
        let slice = scene.worker().await.take_alone().await;
        assert!(slice.suspect);
        scene.wait(2 * LEASE).await;
        jobs_of(&[slice])
    }

    pub async fn the_first_death_costs_no_delay(scene: &Scene) {
        let id = scene.lone(100).await;
        assert_eq!(dies_of(scene, 8).await, 8);
        let slice = scene.worker().await.take(8).await;
        assert_eq!((jobs_of(std::slice::from_ref(&slice)), slice.suspect), ((0..8).collect(), false));
        assert_eq!(scene.recoveries(id, 0).await[..9], [1, 1, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(attempts(scene.bytes(id, 0).await[0]), 0, "a recovery is no attempt");
    }

    pub async fn from_the_second_death_on_it_is_halved_and_runs_with_nothing_beside_it(scene: &Scene) {
        scene.lone(16).await;
        assert_eq!((dies_of(scene, 8).await, dies_of(scene, 8).await), (8, 8));
        let busy = scene.worker().await;
        let beside = busy.claim(1024, 9).await;
        assert!(beside.slices.iter().all(|slice| !slice.suspect));
        assert!(beside.drain, "it is asked to run the suspect slices alone");
        for slice in &beside.slices {
            busy.succeed(slice).await;
        }
        let alone = busy.send(Claim { alone: true, ..busy.wish(1024, 9) }).await;
        assert_eq!((alone.slices.len(), alone.slices[0].suspect, alone.slices[0].jobs.len()), (1, true, 4));
    }

    pub async fn who_was_asked_to_drain_hears_that_another_took_the_suspect(scene: &Scene) {
        scene.lone(1).await;
        assert_eq!((dies_of(scene, 1).await, dies_of(scene, 1).await), (1, 1));
        scene.lone(1).await;
        let asked = scene.worker().await;
        let holds = asked.take(1).await;
        let only_asks = || asked.wish(0, 1);
        assert!(asked.send(only_asks()).await.drain, "a suspect waits, and this worker is asked first");
        let other = scene.worker().await;
        let claimed = other.claim(1, 1).await;
        assert!(claimed.empty && !claimed.drain, "there is nothing to ask for again and again");
        assert!(other.take_alone().await.suspect);
        let claimed = asked.send(only_asks()).await;
        assert!(!claimed.drain && claimed.slices.is_empty());
        asked.succeed(&holds).await;
    }

    pub async fn a_suspect_slice_is_halved_down_to_the_killer(scene: &Scene) {
        let id = scene.lone(8).await;
        let killer = 5;
        let mut deaths = 0;
        while scene.state(id).await != WorkflowState::Failed {
            let worker = scene.worker().await;
            let claimed = worker.send(Claim { alone: true, ..worker.wish(1024, 1) }).await;
            let Some(slice) = claimed.slices.first() else { break };
            if slice.jobs.contains(killer) {
                deaths += 1;
                scene.wait(2 * LEASE).await;
            } else {
                worker.succeed(slice).await;
                scene.leave(&worker).await;
            }
            assert!(deaths < 20, "the killer is never found");
        }
        let mut expected = [JobState::Succeeded; 8];
        expected[killer] = JobState::Failed;
        assert_eq!(scene.job_states(id, 0).await, expected, "nothing that ran beside it loses anything");
    }

    fn most(recoveries: u8) -> impl Fn(&mut StepSpec) {
        move |spec| spec.max_recoveries = recoveries
    }

    pub async fn a_job_that_kills_alone_once_too_often_fails(scene: &Scene) {
        let id = scene.plan().step_with("rows", 1, most(2)).create().await;
        dies_of(scene, 1).await;
        dies_of(scene, 1).await;
        assert_eq!(dies_alone(scene).await, [0]);
        assert_eq!(scene.state(id).await, WorkflowState::Running);
        dies_alone(scene).await;
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
        let errors = scene.errors(id, 0).await;
        assert!(errors.len() == 1 && errors[0].0.starts_with("killed its worker") && errors[0].1 == 1, "{errors:?}");
        assert_eq!((scene.recoveries(id, 0).await, attempts(scene.bytes(id, 0).await[0])), (vec![4], 0));
    }

    pub async fn by_default_a_job_may_kill_three_workers_alone(scene: &Scene) {
        let id = scene.lone(1).await;
        dies_of(scene, 1).await;
        dies_of(scene, 1).await;
        for death in 1..=3 {
            assert_eq!(scene.jobs(id).await.failed, 0, "before death {death} alone");
            dies_alone(scene).await;
        }
        assert_eq!(scene.jobs(id).await.failed, 1);
    }

    pub async fn a_suspect_that_succeeds_is_one_no_more(scene: &Scene) {
        let id = scene.rows(1).await;
        dies_of(scene, 1).await;
        dies_of(scene, 1).await;
        let worker = scene.worker().await;
        assert!(scene.store.waiting(id, 0).await.unwrap().suspect);
        worker.succeed(&worker.take_alone().await).await;
        assert!(!scene.store.waiting(id, 0).await.unwrap().suspect);
        let claimed = worker.claim(1, 1).await;
        assert!(!claimed.drain && !claimed.slices[0].suspect);
    }

    pub async fn a_suspect_that_is_given_back_stays_one(scene: &Scene) {
        let id = scene.lone(1).await;
        dies_of(scene, 1).await;
        dies_of(scene, 1).await;
        let worker = scene.worker().await;
        worker.give_back(&worker.take_alone().await).await;
        assert!(scene.store.waiting(id, 0).await.unwrap().suspect);
        assert!(worker.claim(1, 1).await.slices.is_empty());
        assert!(worker.take_alone().await.suspect);
    }

    pub async fn while_a_suspect_runs_its_worker_is_told_to_want_nothing(scene: &Scene) {
        scene.stay_on_one_shard();
        scene.lone(1).await;
        dies_of(scene, 1).await;
        dies_of(scene, 1).await;
        scene.lone(4).await;
        let worker = scene.worker().await;
        assert!(worker.claim(1, 1).await.drain);
        let slices = worker.send(Claim { alone: true, ..worker.wish(8, 8) }).await;
        assert_eq!((slices.slices.len(), slices.slices[0].suspect, slices.drain), (1, true, true));
    }

    pub async fn jobs_that_have_settled_take_no_part(scene: &Scene) {
        let id = scene.lone(20).await;
        let worker = scene.worker().await;
        let slice = worker.take(4).await;
        worker.report(LeaseReport { succeeded: job(0).or(job(3)), ..worker.part(&slice) }).await;
        scene.wait(2 * LEASE).await;
        assert_eq!(jobs_of(&[scene.worker().await.take(9).await]), [1, 2]);
        assert_eq!(scene.recoveries(id, 0).await[..4], [0, 1, 1, 0]);
    }

    pub async fn two_who_die_of_different_slices_are_told_apart(scene: &Scene) {
        let id = scene.lone(64).await;
        let (one, other) = (scene.worker().await, scene.worker().await);
        assert_eq!((one.take(2).await.jobs.len(), other.take(2).await.jobs.len()), (2, 2));
        scene.wait(2 * LEASE).await;
        assert_eq!(scene.recoveries(id, 0).await[..5], [1, 1, 1, 1, 0]);
        let worker = scene.worker().await;
        assert!(worker.drain().await.iter().all(|slice| !slice.suspect), "one death each makes nobody suspect");
    }
}
