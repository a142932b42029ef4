//! Cases of lone jobs with a key: those whose number the key limits, and those that are the only ones of theirs.

use super::scene::*;
use super::worker::Worker;
use crate::clock::Millis;
use crate::error::ErrorKind;
use crate::id::WorkflowId;
use crate::limit::Limit;
use crate::lone::JobId;
use crate::slice::Mask;
use crate::state::JobState;
use crate::store::{CancelJobs, Claim, Enqueue, Enqueued, Keyed, LeaseReport, LoneJobs, Slice, Turn, Until};

/// What rates count in; longer than any lease that ends here.
const PERIOD: Millis = 6_400;
const DAY: Millis = 24 * 60 * 60_000;
const NONE: [u64; 0] = [];
/// Leases that last as long as a case needs them.
const LONG: Millis = 4 * PERIOD;

fn per_period(starts: u32) -> Limit {
    Limit::rate(starts, milliseconds(PERIOD))
}

/// As many jobs as there are keys, each with its own.
pub fn limited(scene: &Scene, limit: Limit, keys: &[&str]) -> LoneJobs {
    let keyed =
        |(at, key): (usize, &&str)| Keyed { at: at as u16, limit: Some(((*key).to_owned(), limit)), unique: None };
    let jobs = LoneJobs::new(scene.lane(ROW, 0), chunk(keys.len() as u32, "keyed rows"));
    LoneJobs { keyed: keys.iter().enumerate().map(keyed).collect(), ..jobs }
}

/// As many jobs as there are keys, each the only one of its own.
fn sole(scene: &Scene, until: Until, keys: &[&str]) -> LoneJobs {
    let keyed =
        |(at, key): (usize, &&str)| Keyed { at: at as u16, limit: None, unique: Some(((*key).to_owned(), until)) };
    let jobs = LoneJobs::new(scene.lane(ROW, 0), chunk(keys.len() as u32, "sole rows"));
    LoneJobs { keyed: keys.iter().enumerate().map(keyed).collect(), ..jobs }
}

async fn enqueue(scene: &Scene, jobs: LoneJobs) -> Enqueued {
    let told = scene.store.enqueue(scene.enqueue_of(vec![jobs])).await.expect("lone jobs are taken");
    scene.check().await;
    told
}

async fn indices(worker: &Worker<'_>) -> Vec<u64> {
    jobs_of(&worker.drain().await)
}

async fn long_worker(scene: &Scene) -> Worker<'_> {
    scene.worker_with(|about| about.lease = LONG).await
}

async fn settle(scene: &Scene, worker: &Worker<'_>, slices: &[Slice]) {
    for slice in slices {
        worker.succeed(slice).await;
    }
    scene.check().await;
}

async fn states(scene: &Scene) -> Vec<JobState> {
    scene.job_states(lane(scene), 0).await
}

fn lane(scene: &Scene) -> WorkflowId {
    scene.lane(ROW, 0).id
}

async fn cancel(scene: &Scene, index: u64) {
    let told = CancelJobs { lane: lane(scene), index, jobs: job(0), keep: DAY };
    scene.store.cancel_jobs(told).await.expect("lone jobs are cancelled");
    scene.check().await;
}

fn kept(part: LeaseReport) -> LeaseReport {
    LeaseReport { keep: DAY, ..part }
}

pub mod limit_of_a_key {
    use super::*;

    pub async fn fresh_lets_so_many_start_and_the_next_when_one_has_settled(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(2), &["a", "a", "b", "a", "a"])).await;
        assert_eq!(scene.jobs(lane(scene)).await.deferred, 2);
        let worker = scene.worker().await;
        let first = worker.drain().await;
        assert_eq!(jobs_of(&first), [0, 1, 2]);
        scene.check().await;
        settle(scene, &worker, &first).await;
        let next = worker.drain().await;
        assert_eq!(jobs_of(&next), [3, 4]);
        settle(scene, &worker, &next).await;
    }

    pub async fn repeated_enqueue_counts_once(scene: &Scene) {
        let call = scene.enqueue_of(vec![limited(scene, Limit::at_once(1), &["a", "a"])]);
        for _ in 0..2 {
            assert_eq!(scene.store.enqueue(call.clone()).await.unwrap().firsts, [0]);
        }
        scene.check().await;
        assert_eq!(scene.jobs(lane(scene)).await.total, 2);
    }

    pub async fn answer_lost_admits_the_next_once(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a", "a"])).await;
        let worker = scene.worker().await;
        let slice = worker.take(3).await;
        lose(
            scene.store.report(crate::store::Report {
                session: worker.wish(1, 1).session,
                leases: vec![worker.success(&slice)],
            }),
        )
        .await;
        let _ = worker.try_report(vec![worker.success(&slice)]).await;
        scene.check().await;
        assert_eq!(indices(&worker).await, [1]);
    }

    pub async fn lease_taken_back_keeps_the_turn(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a"])).await;
        let (dead, heir) = (scene.worker().await, scene.worker().await);
        let lost = dead.take(2).await;
        scene.leases_end().await;
        scene.check().await;
        let slice = heir.take(2).await;
        assert_eq!(jobs_of(&[slice]), jobs_of(std::slice::from_ref(&lost)));
        assert_eq!(indices(&heir).await, NONE);
        assert_eq!(dead.try_report(vec![dead.success(&lost)]).await.unwrap().refused, [lost.lease]);
        scene.check().await;
    }

    pub async fn given_back_goes_to_the_front_with_its_turn(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a"])).await;
        let worker = scene.worker().await;
        worker.give_back(&worker.take(2).await).await;
        scene.check().await;
        assert_eq!(indices(&worker).await, [0]);
    }

    pub async fn paused_type_holds_its_turns_and_others_wait(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a"])).await;
        let what = crate::store::Pausable::Type(ROW.into());
        scene.store.set_paused(what.clone(), true).await.unwrap();
        let worker = scene.worker().await;
        assert_eq!(indices(&worker).await, NONE);
        scene.store.set_paused(what, false).await.unwrap();
        assert_eq!(indices(&worker).await, [0]);
    }

    pub async fn deleted_chunks_leave_no_row_of_their_keys(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "b"])).await;
        let worker = scene.worker().await;
        settle(scene, &worker, &worker.drain().await).await;
        assert_eq!(scene.jobs(lane(scene)).await.total, 0);
        scene.leave(&worker).await;
        scene.at_rest().await;
    }

    pub async fn lasts_over_lanes_and_priorities(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a"])).await;
        let urgent = LoneJobs { lane: scene.lane(ROW, 5), ..limited(scene, Limit::at_once(1), &["a"]) };
        super::enqueue(scene, urgent).await;
        let worker = scene.worker().await;
        let first = worker.drain().await;
        assert_eq!((count_jobs(&first), first[0].workflow), (1, lane(scene)));
        settle(scene, &worker, &first).await;
        assert_eq!(worker.take(1).await.workflow, scene.lane(ROW, 5).id);
    }

    pub async fn one_that_waits_is_told_for_what(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "b", "a", "a"])).await;
        let turn = |index| async move { scene.store.whereabouts(lane(scene), 0, index).await.unwrap().turn };
        assert_eq!(turn(0).await, None);
        assert_eq!(turn(2).await, Some(Turn { key: "a".into(), admitted: 1, waiting: 2 }));
    }

    pub async fn one_that_waits_for_a_retry_lets_others_go_first_and_comes_before_those_behind_it(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a", "a"])).await;
        let worker = long_worker(scene).await;
        worker.retry_in(&worker.take(3).await, 100).await;
        scene.check().await;
        let second = worker.drain().await;
        assert_eq!(jobs_of(&second), [1]);
        scene.wait(200).await;
        scene.check().await;
        assert_eq!(indices(&worker).await, NONE, "the second runs");
        settle(scene, &worker, &second).await;
        let again = worker.drain().await;
        assert_eq!((jobs_of(&again), again[0].attempts.clone()), (vec![0], vec![1]));
        settle(scene, &worker, &again).await;
        assert_eq!(indices(&worker).await, [2]);
    }

    pub async fn one_that_is_put_off_gives_up_its_turn(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a"])).await;
        let worker = long_worker(scene).await;
        let slice = worker.take(2).await;
        worker.report(worker.postponement(&slice, 100)).await;
        scene.check().await;
        let second = worker.drain().await;
        assert_eq!(jobs_of(&second), [1]);
        settle(scene, &worker, &second).await;
        scene.wait(200).await;
        assert_eq!(indices(&worker).await, [0]);
    }

    pub async fn what_is_due_later_asks_for_its_turn_then(scene: &Scene) {
        let due = vec![(scene.clock.now() + 100, job(0))];
        super::enqueue(scene, LoneJobs { due, ..limited(scene, Limit::at_once(1), &["a", "a"]) }).await;
        let worker = long_worker(scene).await;
        let first = worker.drain().await;
        assert_eq!(jobs_of(&first), [1]);
        scene.wait(100).await;
        scene.check().await;
        assert_eq!(indices(&worker).await, NONE);
        settle(scene, &worker, &first).await;
        assert_eq!(indices(&worker).await, [0]);
    }

    pub async fn a_failed_one_gives_up_its_turn_and_asks_again_when_it_is_repaired(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a"])).await;
        let worker = long_worker(scene).await;
        worker.report(kept(worker.failure(&worker.take(2).await, "broken"))).await;
        scene.check().await;
        let second = worker.drain().await;
        assert_eq!(jobs_of(&second), [1]);
        assert_eq!(scene.retry(lane(scene)).await.jobs, 1);
        scene.tick().await;
        scene.check().await;
        assert_eq!(states(scene).await, [JobState::Deferred, JobState::Open]);
        settle(scene, &worker, &second).await;
        assert_eq!(indices(&worker).await, [0]);
    }

    pub async fn one_that_kills_its_workers_gives_up_its_turn(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a"])).await;
        scene.worker().await.take(1).await;
        scene.leases_end().await;
        for _ in 0..4 {
            let dead = scene.worker().await;
            let claimed = dead.send(Claim { alone: true, ..dead.wish(1, 1) }).await;
            if claimed.slices.is_empty() || jobs_of(&claimed.slices) == [1] {
                break;
            }
            scene.leases_end().await;
        }
        scene.check().await;
        assert_eq!(states(scene).await, [JobState::Failed, JobState::Open]);
    }

    pub async fn one_that_kills_its_workers_is_given_up_although_its_starts_are_limited(scene: &Scene) {
        super::enqueue(scene, limited(scene, per_period(1), &["a", "a"])).await;
        for death in 1..=5 {
            let dead = scene.worker().await;
            let slices = dead.send(Claim { alone: true, ..dead.wish(1, 1) }).await.slices;
            assert_eq!(jobs_of(&slices), [0], "before death {death}");
            assert_eq!(slices[0].suspect, death > 2, "before death {death}");
            scene.leases_end().await;
            scene.check().await;
            let after = if death < 5 { JobState::Deferred } else { JobState::Failed };
            assert_eq!(states(scene).await, [after, JobState::Deferred], "after death {death}");
            let heir = scene.worker().await;
            let early = heir.send(Claim { alone: true, ..heir.wish(1, 1) }).await;
            assert_eq!(jobs_of(&early.slices), NONE, "one has started in this period");
            scene.wait(PERIOD + PERIOD / 16).await;
        }
        assert_eq!(scene.recoveries(lane(scene), 0).await, [5, 0]);
        let worker = long_worker(scene).await;
        let next = worker.drain().await;
        assert_eq!(jobs_of(&next), [1]);
        settle(scene, &worker, &next).await;
    }

    pub async fn those_whose_worker_died_are_halved_and_stay_suspect_although_their_starts_are_limited(scene: &Scene) {
        super::enqueue(scene, limited(scene, per_period(1), &["a", "b", "c", "d", "e", "f", "g", "h"])).await;
        let mut largest = 0;
        for _ in 0..2 {
            let slices = scene.worker().await.drain().await;
            assert_eq!(count_jobs(&slices), 8);
            largest = slices.iter().map(|slice| slice.jobs.len()).max().unwrap_or(0);
            scene.leases_end().await;
            scene.wait(PERIOD + PERIOD / 16).await;
            scene.check().await;
        }
        assert!(largest > 1, "some are held together");
        let worker = long_worker(scene).await;
        let mut suspects = Vec::new();
        while count_jobs(&suspects) < 8 {
            suspects.push(worker.take_alone().await);
        }
        let halves = suspects.iter().all(|slice| slice.suspect && slice.jobs.len() <= largest.div_ceil(2));
        assert!(halves, "of at most {largest} jobs come {suspects:?}");
        settle(scene, &worker, &suspects[1..]).await;
        worker.give_back(&suspects[0]).await;
        scene.check().await;
        scene.wait(PERIOD + PERIOD / 16).await;
        let again = worker.take_alone().await;
        assert_eq!((again.jobs, again.suspect), (suspects[0].jobs, true));
        worker.succeed(&again).await;
    }

    pub async fn one_that_is_cancelled_gives_up_its_turn_and_one_that_waits_is_passed_over(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a", "a", "b"])).await;
        for (index, deferred) in [(1, 1), (0, 0)] {
            cancel(scene, index).await;
            assert_eq!(scene.jobs(lane(scene)).await.deferred, deferred);
        }
        let worker = scene.worker().await;
        assert_eq!(indices(&worker).await, [2, 3]);
    }

    pub async fn one_that_is_cancelled_while_it_runs_gives_up_its_turn_with_its_end(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a"])).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        cancel(scene, 0).await;
        assert_eq!(indices(&worker).await, NONE, "it may still run");
        worker.give_back(&slice).await;
        scene.check().await;
        assert_eq!(indices(&worker).await, [1]);
        assert_eq!(states(scene).await[0], JobState::Cancelled);
    }

    pub async fn chunks_that_are_gone_leave_no_turn(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a"])).await;
        for _ in 0..3 {
            super::enqueue(scene, limited(scene, Limit::at_once(1), &["a"])).await;
        }
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        for index in 1..4 {
            let told = CancelJobs { lane: lane(scene), index, jobs: job(0), keep: 0 };
            assert_eq!(scene.store.cancel_jobs(told).await.unwrap().cancelled, 1);
        }
        scene.check().await;
        worker.succeed(&slice).await;
        scene.tick().await;
        scene.leave(&worker).await;
        scene.at_rest().await;
    }

    pub async fn never_come_in_larger_number_than_can_start_at_once(scene: &Scene) {
        let keys: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        super::enqueue(scene, limited(scene, Limit::at_once(1), &keys)).await;
        let worker = scene.worker().await;
        let claimed = worker.send(Claim { max_limited: 3, ..worker.wish(40, 16) }).await;
        assert_eq!(count_jobs(&claimed.slices), 3);
    }

    pub async fn a_raised_limit_holds_from_the_next_job_on(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a", "a"])).await;
        let worker = scene.worker().await;
        assert_eq!(indices(&worker).await, [0]);
        super::enqueue(scene, limited(scene, Limit::at_once(3), &["a"])).await;
        assert_eq!(indices(&worker).await, [1, 2]);
    }

    pub async fn a_rate_lets_so_many_start_in_any_period(scene: &Scene) {
        super::enqueue(scene, limited(scene, per_period(2), &["a", "a", "a", "b", "a"])).await;
        let worker = long_worker(scene).await;
        let first = worker.drain().await;
        assert_eq!(jobs_of(&first), [0, 1, 3]);
        settle(scene, &worker, &first).await;
        assert_eq!(indices(&worker).await, NONE, "that they have settled does not make room");
        scene.wait(PERIOD - 100).await;
        assert_eq!(indices(&worker).await, NONE);
        scene.wait(PERIOD / 16).await;
        scene.check().await;
        let next = worker.drain().await;
        assert_eq!(jobs_of(&next), [2, 4]);
        settle(scene, &worker, &next).await;
        scene.leave(&worker).await;
        scene.wait(2 * PERIOD).await;
        scene.at_rest().await;
    }

    pub async fn a_rate_that_comes_with_one_lane_holds_in_all(scene: &Scene) {
        super::enqueue(scene, limited(scene, Limit::at_once(1), &["a", "a"])).await;
        let both = Limit::at_once(1).and_rate(1, milliseconds(PERIOD));
        let urgent = LoneJobs { lane: scene.lane(ROW, 5), ..limited(scene, both, &["a"]) };
        super::enqueue(scene, urgent).await;
        let worker = long_worker(scene).await;
        for index in [0, 1] {
            let slices = worker.drain().await;
            assert_eq!(jobs_of(&slices), [index]);
            settle(scene, &worker, &slices).await;
            assert_eq!(indices(&worker).await, NONE, "one has started in this period");
            scene.wait(PERIOD + PERIOD / 16).await;
        }
        assert_eq!(worker.take(1).await.workflow, scene.lane(ROW, 5).id);
    }

    pub async fn a_retry_is_a_start(scene: &Scene) {
        super::enqueue(scene, limited(scene, per_period(1), &["a"])).await;
        let worker = long_worker(scene).await;
        worker.retry_in(&worker.take(1).await, 100).await;
        scene.wait(1_000).await;
        scene.check().await;
        assert_eq!(indices(&worker).await, NONE);
        scene.wait(PERIOD + PERIOD / 16).await;
        assert_eq!(indices(&worker).await, [0]);
    }

    pub async fn what_a_worker_gives_back_has_counted_as_a_start(scene: &Scene) {
        super::enqueue(scene, limited(scene, per_period(1), &["a"])).await;
        let worker = long_worker(scene).await;
        worker.give_back(&worker.take(1).await).await;
        scene.check().await;
        assert_eq!(indices(&worker).await, NONE);
        scene.wait(PERIOD + PERIOD / 16).await;
        assert_eq!(indices(&worker).await, [0]);
    }

    pub async fn jobs_without_a_key_are_not_limited(scene: &Scene) {
        let mut jobs = limited(scene, Limit::at_once(1), &["a", "a", "a", "a"]);
        jobs.keyed.truncate(2);
        super::enqueue(scene, jobs).await;
        let worker = scene.worker().await;
        assert_eq!(indices(&worker).await, [0, 2, 3]);
    }

    pub async fn of_a_job_that_does_not_come_is_refused(scene: &Scene) {
        let mut jobs = limited(scene, Limit::at_once(1), &["a"]);
        jobs.keyed[0].at = 1;
        assert_eq!(refusal(scene.store.enqueue(scene.enqueue_of(vec![jobs])).await), ErrorKind::Usage);
    }

    pub async fn of_one_key_that_lets_many_in_at_once_keeps_its_bounds(scene: &Scene) {
        for _ in 0..300 {
            let jobs = limited(scene, Limit::at_once(1), &["a"]);
            scene.store.enqueue(scene.enqueue_of(vec![jobs])).await.unwrap();
        }
        super::enqueue(scene, limited(scene, Limit::at_once(1_000), &["a"])).await;
        scene.tick().await;
        scene.check().await;
        assert_eq!(scene.jobs(lane(scene)).await.deferred, 0);
        assert_eq!(count_jobs(&scene.worker().await.drain().await), 301);
    }

    pub async fn of_a_thousand_keys_keeps_its_bounds(scene: &Scene) {
        let keys: Vec<String> = (0..1_024).map(|n| format!("customer {n}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        for _ in 0..2 {
            super::enqueue(scene, limited(scene, Limit::at_once(1), &keys)).await;
        }
        assert_eq!(scene.jobs(lane(scene)).await.deferred, 1_024);
        let worker = scene.worker().await;
        let mut ran = 0;
        loop {
            let slices = worker.drain().await;
            ran += count_jobs(&slices);
            for slices in slices.chunks(24) {
                let parts = slices.iter().map(|slice| worker.success(slice)).collect();
                worker.try_report(parts).await.unwrap();
            }
            scene.tick().await;
            if slices.is_empty() {
                break;
            }
        }
        assert_eq!((ran, scene.jobs(lane(scene)).await.total), (2_048, 0));
    }
}

pub mod unique {
    use super::*;

    fn first(scene: &Scene, index: u64) -> JobId {
        JobId { lane: lane(scene), index }
    }

    async fn refused(scene: &Scene, jobs: LoneJobs) -> Option<JobId> {
        super::enqueue(scene, jobs).await.refused.first().map(|refused| refused.first)
    }

    pub async fn fresh_refuses_a_second_one_and_names_the_first(scene: &Scene) {
        let told = super::enqueue(scene, sole(scene, Until::Settled, &["a"])).await;
        assert_eq!((told.firsts, told.refused), (vec![0], vec![]));
        assert_eq!(refused(scene, sole(scene, Until::Settled, &["a"])).await, Some(first(scene, 0)));
        assert_eq!(refused(scene, sole(scene, Until::Settled, &["b"])).await, None);
        assert_eq!(scene.jobs(lane(scene)).await.total, 2);
    }

    pub async fn repeated_command_is_answered_the_same(scene: &Scene) {
        super::enqueue(scene, sole(scene, Until::Settled, &["a"])).await;
        let call = scene.enqueue_of(vec![sole(scene, Until::Settled, &["b", "a"])]);
        let told = scene.store.enqueue(call.clone()).await.unwrap();
        let again = scene.store.enqueue(call).await.unwrap();
        assert_eq!((&again.firsts, &again.refused), (&told.firsts, &told.refused));
        let refused: Vec<_> = told.refused.iter().map(|one| (one.lane, one.at, one.first)).collect();
        assert_eq!(refused, [(0, 1, first(scene, 0))]);
        scene.check().await;
    }

    pub async fn answer_lost_is_not_its_own_second(scene: &Scene) {
        let call: Enqueue = scene.enqueue_of(vec![sole(scene, Until::Settled, &["a"])]);
        lose(scene.store.enqueue(call.clone())).await;
        let told = scene.store.enqueue(call).await.unwrap();
        assert_eq!((told.firsts, told.refused), (vec![0], vec![]));
    }

    pub async fn lease_taken_back_keeps_the_key(scene: &Scene) {
        super::enqueue(scene, sole(scene, Until::Settled, &["a"])).await;
        scene.worker().await.take(1).await;
        scene.leases_end().await;
        assert_eq!(refused(scene, sole(scene, Until::Settled, &["a"])).await, Some(first(scene, 0)));
    }

    pub async fn until_it_has_settled(scene: &Scene) {
        super::enqueue(scene, sole(scene, Until::Settled, &["a"])).await;
        let worker = long_worker(scene).await;
        worker.retry_in(&worker.take(1).await, 100).await;
        assert!(refused(scene, sole(scene, Until::Settled, &["a"])).await.is_some(), "it is to be tried again");
        scene.wait(200).await;
        settle(scene, &worker, &worker.drain().await).await;
        assert_eq!(refused(scene, sole(scene, Until::Settled, &["a"])).await, None);
        worker.report(kept(worker.failure(&worker.take(1).await, "broken"))).await;
        assert_eq!(refused(scene, sole(scene, Until::Settled, &["a"])).await, None);
    }

    pub async fn until_it_has_started(scene: &Scene) {
        super::enqueue(scene, sole(scene, Until::Started, &["a"])).await;
        assert_eq!(refused(scene, sole(scene, Until::Started, &["a"])).await, Some(first(scene, 0)));
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert_eq!(refused(scene, sole(scene, Until::Started, &["a"])).await, None);
        worker.succeed(&slice).await;
        assert!(refused(scene, sole(scene, Until::Started, &["a"])).await.is_some(), "the second waits");
    }

    pub async fn for_a_time(scene: &Scene) {
        super::enqueue(scene, sole(scene, Until::Over(PERIOD), &["a"])).await;
        let worker = long_worker(scene).await;
        settle(scene, &worker, &worker.drain().await).await;
        scene.wait(PERIOD - 100).await;
        assert_eq!(refused(scene, sole(scene, Until::Over(PERIOD), &["a"])).await, Some(first(scene, 0)));
        scene.wait(100).await;
        assert_eq!(refused(scene, sole(scene, Until::Over(PERIOD), &["a"])).await, None);
    }

    pub async fn for_a_time_that_is_over_leaves_the_next_one_its_key(scene: &Scene) {
        super::enqueue(scene, sole(scene, Until::Over(PERIOD), &["a"])).await;
        scene.clock.advance(PERIOD);
        assert_eq!(refused(scene, sole(scene, Until::Settled, &["a"])).await, None);
        scene.tick().await;
        assert_eq!(refused(scene, sole(scene, Until::Settled, &["a"])).await, Some(first(scene, 1)));
    }

    pub async fn one_of_two_that_come_together(scene: &Scene) {
        let told = super::enqueue(scene, sole(scene, Until::Settled, &["a", "a", "b"])).await;
        let refused: Vec<_> = told.refused.iter().map(|one| (one.at, one.first)).collect();
        assert_eq!(refused, [(1, first(scene, 0))]);
        let worker = scene.worker().await;
        assert_eq!(indices(&worker).await, [0, 2]);
    }

    pub async fn with_a_limit_of_its_own(scene: &Scene) {
        let both = |unique: &str| {
            let mut jobs = limited(scene, Limit::at_once(1), &["a"]);
            jobs.keyed[0].unique = Some((unique.to_owned(), Until::Settled));
            jobs
        };
        assert_eq!(refused(scene, both("one")).await, None);
        assert_eq!(refused(scene, both("two")).await, None);
        assert_eq!(refused(scene, both("one")).await, Some(first(scene, 0)));
        let worker = scene.worker().await;
        assert_eq!(indices(&worker).await, [0]);
    }

    pub async fn cancelled_frees_the_key(scene: &Scene) {
        super::enqueue(scene, sole(scene, Until::Settled, &["a"])).await;
        cancel(scene, 0).await;
        assert_eq!(refused(scene, sole(scene, Until::Settled, &["a"])).await, None);
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        cancel(scene, 1).await;
        assert!(refused(scene, sole(scene, Until::Settled, &["a"])).await.is_some(), "it may still run");
        worker.give_back(&slice).await;
        assert_eq!(refused(scene, sole(scene, Until::Settled, &["a"])).await, None);
    }

    pub async fn put_off_holds_the_key_meanwhile(scene: &Scene) {
        let due = vec![(scene.clock.now() + PERIOD, Mask::range(0..1))];
        super::enqueue(scene, LoneJobs { due, ..sole(scene, Until::Started, &["a"]) }).await;
        assert!(refused(scene, sole(scene, Until::Started, &["a"])).await.is_some());
    }
}
