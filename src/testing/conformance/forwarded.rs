//! Leases that travel: a forwarder claims in a broker's name, a consumer takes over.

pub mod take_over {
    use super::super::keyed::limited;
    use super::super::lone_cancel::{count, lane_of, lane_of_rows};
    use super::super::scene::*;
    use crate::clock::Millis;
    use crate::error::ErrorKind;
    use crate::graph::StepSpec;
    use crate::id::{SessionId, WorkflowId};
    use crate::limit::Limit;
    use crate::slice::Mask;
    use crate::state::{EdgeKind, StepState, WorkflowState};
    use crate::store::{
        Claim, Claimed, LeaseName, Limited, MAX_TAKEN_OVER, Pausable, Session, Slice, TakeOver, TakenOver,
    };

    /// Who claims for others.
    pub async fn forwarder(scene: &Scene) -> Worker<'_> {
        scene.worker_with(|about| about.types.clear()).await
    }

    fn wish(forwarder: &Worker<'_>, jobs: u32, leases: u32) -> Claim {
        let row = crate::store::Take { job_type: ROW.into(), jobs, budget: jobs * leases };
        let other = crate::store::Take { job_type: OTHER.into(), jobs, budget: jobs * leases };
        Claim { takes: vec![row, other], ..forwarder.wish(jobs, leases) }
    }

    async fn claim(forwarder: &Worker<'_>, jobs: u32, leases: u32) -> Claimed {
        forwarder.send(wish(forwarder, jobs, leases)).await
    }

    pub async fn forward(forwarder: &Worker<'_>, jobs: u32) -> (LeaseName, Slice) {
        let slice = claim(forwarder, jobs, 1).await.slices.remove(0);
        (LeaseName { session: forwarder.session.id, lease: slice.lease }, slice)
    }

    fn ask(worker: &Worker<'_>, first_lease: u64, leases: &[LeaseName]) -> TakeOver {
        let Session { id, types, lease, .. } = worker.session.clone();
        TakeOver { session: id, first_lease, leases: leases.to_vec(), types, lease }
    }

    pub async fn take(scene: &Scene, worker: &Worker<'_>, leases: &[LeaseName]) -> TakenOver {
        let taken = scene.store.take_over(ask(worker, worker.next_lease(), leases)).await.expect("a take-over");
        worker.has_used(taken.last_lease);
        taken
    }

    async fn take_one(scene: &Scene, worker: &Worker<'_>, lease: LeaseName) -> Slice {
        let mut taken = take(scene, worker, &[lease]).await;
        assert_eq!(taken.slices.len(), 1, "there is a lease to take over: {taken:?}");
        assert_eq!(taken.slices[0].0, lease);
        taken.slices.remove(0).1
    }

    pub fn is_gone(taken: &TakenOver) -> bool {
        taken.slices.is_empty() && taken.unknown.is_empty() && taken.again.is_empty() && taken.away.is_empty()
    }

    pub async fn fresh_moves_the_lease_to_who_reports_it(scene: &Scene) {
        let id = scene.lone(10).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, forwarded) = forward(&sender, 4).await;
        let slice = take_one(scene, &worker, lease).await;
        assert_eq!((slice.jobs, slice.chunk, slice.first), (forwarded.jobs, forwarded.chunk, forwarded.first));
        assert_eq!((slice.workflow, slice.job_type.as_str(), slice.suspect), (id, ROW, false));
        assert_eq!(scene.step(id, 0).await.running, 4, "the jobs are under one lease, not two");
        assert_eq!(sender.succeed(&forwarded).await.refused, [forwarded.lease]);
        assert!(worker.succeed(&slice).await.refused.is_empty());
        assert_eq!(scene.jobs(id).await.succeeded, 4);
    }

    pub async fn a_forwarder_is_told_the_priority_of_each_slice(scene: &Scene) {
        let with = |priority| move |spec: &mut StepSpec| spec.priority = priority;
        scene.plan().step_with("late", 1, with(-3)).step("usual", 1).step_with("urgent", 1, with(7)).create().await;
        let slices = claim(&forwarder(scene).await, 1, 3).await.slices;
        let told: Vec<_> = slices.iter().map(|slice| (slice.step_name.as_str(), slice.priority)).collect();
        assert_eq!(told, [("urgent", 7), ("usual", 0), ("late", -3)]);
    }

    pub async fn repeated_by_another_finds_it_gone(scene: &Scene) {
        scene.lone(10).await;
        let (sender, worker, other) = (forwarder(scene).await, scene.worker().await, scene.worker().await);
        let (lease, _) = forward(&sender, 4).await;
        let slice = take_one(scene, &worker, lease).await;
        assert!(is_gone(&take(scene, &other, &[lease]).await));
        assert!(is_gone(&take(scene, &worker, &[lease]).await), "a doubled message, to the same consumer");
        assert!(worker.renew(&[slice.lease]).await.lost.is_empty());
    }

    pub async fn doubled_in_one_call_is_taken_over_once(scene: &Scene) {
        let id = scene.lone(10).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, _) = forward(&sender, 4).await;
        assert_eq!(take(scene, &worker, &[lease, lease]).await.slices.len(), 1);
        assert_eq!(scene.step(id, 0).await.running, 4);
    }

    pub async fn answer_lost_tells_the_same_again(scene: &Scene) {
        let id = scene.lone(20).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let leases = [forward(&sender, 2).await.0, forward(&sender, 2).await.0];
        let asked = ask(&worker, worker.next_lease(), &leases);
        let first = scene.store.take_over(asked.clone()).await.unwrap();
        let again = scene.store.take_over(asked.clone()).await.unwrap();
        let told = |taken: &TakenOver| {
            let slices = taken.slices.iter().map(|(name, slice)| (*name, slice.lease, slice.jobs));
            (slices.collect::<Vec<_>>(), taken.last_lease)
        };
        assert_eq!((told(&first), first.slices.len()), (told(&again), 2));
        assert_eq!(scene.step(id, 0).await.running, 4);
        worker.has_used(first.last_lease);
        worker.succeed(&first.slices[0].1).await;
        let rest = scene.store.take_over(asked).await.unwrap();
        assert_eq!(rest.slices.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [leases[1]], "only what is held");
    }

    pub async fn with_numbers_that_a_claim_has_used_is_asked_for_again(scene: &Scene) {
        scene.lone(40).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, _) = forward(&sender, 2).await;
        let first = worker.next_lease();
        worker.claim(2, 2).await;
        let taken = scene.store.take_over(ask(&worker, first, &[lease])).await.unwrap();
        assert_eq!((taken.again, taken.slices.len()), (vec![lease], 0));
        take_one(scene, &worker, lease).await;
        let claim = Claim { first_lease: first, ..worker.wish(2, 16) };
        let again = scene.store.claim(claim).await.unwrap();
        assert_eq!(again.slices.len(), 2, "a claim sent again does not tell what was taken over");
    }

    pub async fn lease_taken_back_is_gone_and_counts_no_recovery(scene: &Scene) {
        let id = scene.lone(10).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, _) = forward(&sender, 4).await;
        scene.leases_end().await;
        assert!(is_gone(&take(scene, &worker, &[lease]).await));
        assert!(scene.recoveries(id, 0).await.iter().all(|count| *count == 0));
        assert_eq!(jobs_of(&[worker.take(4).await]), [0, 1, 2, 3], "at the front of its line");
    }

    /// How long a lease of the forwarder is held that nobody takes over, in tenths of a second.
    async fn lasts(scene: &Scene, id: WorkflowId) -> Millis {
        let mut time = 0;
        while scene.step(id, 0).await.running > 0 {
            scene.wait(100).await;
            time += 100;
        }
        time
    }

    pub async fn a_lease_that_nobody_takes_over_lasts_twice_as_long_the_next_time(scene: &Scene) {
        let id = scene.lone(4).await;
        let sender = forwarder(scene).await;
        for times in [1, 2, 4, 8] {
            sender.renew(&[]).await;
            forward(&sender, 4).await;
            let time = lasts(scene, id).await;
            assert!((times * LEASE..=times * LEASE + 300).contains(&time), "{time} ms, not {times} leases");
        }
        let slice = scene.worker().await.take(4).await;
        assert!(!slice.suspect, "however often it was forwarded in vain");
    }

    pub async fn an_own_lease_lasts_as_long_as_any(scene: &Scene) {
        let id = scene.lone(8).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        forward(&sender, 4).await;
        lasts(scene, id).await;
        sender.renew(&[]).await;
        let (lease, _) = forward(&sender, 4).await;
        take_one(scene, &worker, lease).await;
        let time = lasts(scene, id).await;
        assert!((LEASE..=LEASE + 300).contains(&time), "{time} ms");
        assert_eq!(
            scene.recoveries(id, 0).await,
            [1, 1, 1, 1, 0, 0, 0, 0],
            "whoever has taken over may have died of it"
        );
    }

    pub async fn of_a_type_that_is_not_known_goes_back_after_a_second(scene: &Scene) {
        let id = scene.plan().step_with("other", 8, |spec| spec.job_type = OTHER.into()).create().await;
        let sender = scene.worker_with(|about| (about.types.clear(), about.lease = 60_000).0).await;
        let (lease, _) = forward(&sender, 4).await;
        let worker = scene.worker().await;
        assert_eq!(take(scene, &worker, &[lease]).await.unknown, [lease]);
        assert_eq!(scene.step(id, 0).await.running, 4, "not at once: it would only come back");
        let time = lasts(scene, id).await;
        assert!((900..=1_300).contains(&time), "{time} ms");
        let knows = scene.worker_with(|about| about.types.push(OTHER.into())).await;
        let (lease, _) = forward(&sender, 4).await;
        take_one(scene, &knows, lease).await;
    }

    pub async fn paused_is_given_back_and_parked(scene: &Scene) {
        let id = scene.lone(4).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, _) = forward(&sender, 2).await;
        scene.pause(id).await;
        assert!(is_gone(&take(scene, &worker, &[lease]).await));
        assert_eq!(scene.step(id, 0).await.running, 0);
        assert!(worker.drain().await.is_empty());
        scene.resume(id).await;
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3]);
    }

    pub async fn paused_queue_or_type_gives_it_back(scene: &Scene) {
        let id = scene.lone(4).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        for what in [Pausable::Queue(QUEUE.into()), Pausable::Type(ROW.into())] {
            let (lease, _) = forward(&sender, 2).await;
            scene.store.set_paused(what.clone(), true).await.unwrap();
            assert!(is_gone(&take(scene, &worker, &[lease]).await));
            assert_eq!(scene.step(id, 0).await.running, 0);
            assert!(claim(&sender, 4, 4).await.slices.is_empty(), "nor is anything forwarded");
            scene.store.set_paused(what, false).await.unwrap();
        }
        assert_eq!(jobs_of(&worker.drain().await), [0, 1, 2, 3]);
    }

    pub async fn cancelling_cancels_what_nobody_has_started(scene: &Scene) {
        let id = scene.lone(4).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, _) = forward(&sender, 2).await;
        scene.cancel(id, 60_000).await;
        assert!(is_gone(&take(scene, &worker, &[lease]).await));
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.cancelled), (WorkflowState::Cancelled, 4));
    }

    pub async fn cancelling_leaves_an_always_step_to_its_consumer(scene: &Scene) {
        let plan = scene.plan().step("rows", 1).step("always", 1).always().edge(0, 1, EdgeKind::Always);
        let id = plan.create().await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        worker.succeed(&worker.take(1).await).await;
        let (lease, slice) = forward(&sender, 1).await;
        assert_eq!(slice.step, 1);
        scene.cancel(id, 60_000).await;
        worker.succeed(&take_one(scene, &worker, lease).await).await;
        assert_eq!(scene.step_state(id, 1).await, StepState::Succeeded);
    }

    pub async fn deleted_is_gone(scene: &Scene) {
        let id = scene.lone(4).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, _) = forward(&sender, 2).await;
        scene.cancel(id, 0).await;
        scene.leases_end().await;
        scene.delete(id).await;
        assert!(is_gone(&take(scene, &worker, &[lease]).await));
    }

    pub async fn of_lone_jobs_runs_what_is_left_of_them(scene: &Scene) {
        let lane = lane_of_rows(scene, 6).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, slice) = forward(&sender, 2).await;
        assert_eq!(slice.jobs, Mask::range(0..2));
        assert_eq!(count(&super::super::lone_cancel::cancel(scene, lane, 1, job(0)).await), (1, 0));
        assert!(is_gone(&take(scene, &worker, &[lease]).await), "what has started nowhere is cancelled at once");
        let (lease, _) = forward(&sender, 1).await;
        let slice = take_one(scene, &worker, lease).await;
        assert_eq!((jobs_of(std::slice::from_ref(&slice)), slice.workflow), (vec![0], lane));
        worker.succeed(&slice).await;
        assert_eq!(jobs_of(&worker.drain().await), [2, 3, 4, 5]);
    }

    pub async fn of_a_limited_key_keeps_its_turn(scene: &Scene) {
        let jobs = limited(scene, Limit::at_once(1), &["a", "a", "a"]);
        let lane = lane_of(scene, jobs).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (_, slice) = forward(&sender, 3).await;
        assert_eq!(jobs_of(&[slice]), [0]);
        assert!(claim(&sender, 3, 3).await.slices.is_empty(), "the others wait for their turn");
        scene.leases_end().await;
        sender.renew(&[]).await;
        worker.renew(&[]).await;
        let (lease, _) = forward(&sender, 3).await;
        worker.succeed(&take_one(scene, &worker, lease).await).await;
        let (lease, slice) = forward(&sender, 3).await;
        assert_eq!(jobs_of(&[slice]), [1]);
        worker.succeed(&take_one(scene, &worker, lease).await).await;
        scene.check().await;
        assert_eq!(scene.jobs(lane).await.succeeded, 2);
    }

    pub async fn a_forwarder_that_leaves_gives_back_what_is_in_flight(scene: &Scene) {
        let id = scene.lone(10).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, _) = forward(&sender, 4).await;
        scene.leave(&sender).await;
        assert!(is_gone(&take(scene, &worker, &[lease]).await));
        let another = forwarder(scene).await;
        assert_eq!(jobs_of(&[forward(&another, 4).await.1]), [0, 1, 2, 3]);
        let time = lasts(scene, id).await;
        assert!((LEASE..=LEASE + 300).contains(&time), "{time} ms: what is given back has not been published in vain");
    }

    pub async fn a_forwarder_counts_as_no_worker_and_holds_no_more_than_it_may(scene: &Scene) {
        scene.lone(1_000).await;
        let sender = forwarder(scene).await;
        assert!(scene.store.workers(9).await.unwrap().is_empty());
        let at_most = |most| Claim { most_held: Some(most), ..wish(&sender, 5, 16) };
        let first = sender.send(at_most(3)).await;
        assert_eq!((first.slices.len(), first.held), (3, 3));
        let full = sender.send(at_most(3)).await;
        assert_eq!((full.slices.len(), full.held, full.empty), (0, 3, false));
        let worker = scene.worker().await;
        take_one(scene, &worker, LeaseName { session: sender.session.id, lease: first.slices[1].lease }).await;
        let next = sender.send(at_most(4)).await;
        assert_eq!((next.slices.len(), next.held), (2, 4));
    }

    pub async fn a_suspect_slice_is_not_forwarded_but_claimed_by_a_worker_alone(scene: &Scene) {
        scene.lone(1).await;
        for _ in 0..2 {
            scene.worker().await.take(1).await;
            scene.leases_end().await;
        }
        let sender = forwarder(scene).await;
        let claimed = claim(&sender, 4, 4).await;
        assert!(claimed.slices.is_empty() && claimed.empty && !claimed.drain);
        let worker = scene.worker().await;
        let by_broker = Claim { queues: vec![], by_broker: vec![QUEUE.into()], alone: true, ..worker.wish(4, 4) };
        assert!(worker.send(by_broker).await.slices[0].suspect);
    }

    pub async fn a_worker_claims_of_what_comes_by_a_broker_only_what_needs_permits(scene: &Scene) {
        scene.lone(4).await;
        let worker = scene.worker().await;
        let by_broker = || Claim { queues: vec![], by_broker: vec![QUEUE.into()], alone: true, ..worker.wish(4, 4) };
        let claimed = worker.send(by_broker()).await;
        assert!(claimed.slices.is_empty() && claimed.empty && claimed.woken.0.is_empty());
        let rows = Limited::Type(ROW.into());
        let without = worker.send(Claim { permits: vec![(rows.clone(), 0)], ..by_broker() }).await;
        assert_eq!((without.slices.len(), without.waits), (0, vec![rows.clone()]));
        let with = worker.send(Claim { permits: vec![(rows, 2)], ..by_broker() }).await;
        assert_eq!(count_jobs(&with.slices), 2);
    }

    pub async fn a_limit_is_kept_by_what_is_in_flight(scene: &Scene) {
        let limit = |spec: &mut StepSpec| spec.max_in_flight = Some(2);
        scene.plan().step_with("limited", 9, limit).create().await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, _) = forward(&sender, 4).await;
        assert!(claim(&sender, 4, 4).await.slices.is_empty());
        worker.succeed(&take_one(scene, &worker, lease).await).await;
        assert_eq!(count_jobs(&claim(&sender, 4, 4).await.slices), 2);
    }

    pub async fn of_a_workers_own_lease_is_none(scene: &Scene) {
        scene.lone(4).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        let slice = worker.take(2).await;
        let lease = LeaseName { session: worker.session.id, lease: slice.lease };
        assert!(is_gone(&take(scene, &other, &[lease]).await));
        let stranger = LeaseName { session: SessionId::random(), lease: 1 };
        assert!(is_gone(&take(scene, &other, &[stranger]).await));
        assert!(worker.succeed(&slice).await.refused.is_empty());
    }

    pub async fn by_an_unknown_session_is_answered_so(scene: &Scene) {
        scene.lone(4).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let (lease, _) = forward(&sender, 2).await;
        scene.leave(&worker).await;
        assert_eq!(refusal(scene.store.take_over(ask(&worker, 1, &[lease])).await), ErrorKind::NotFound);
    }

    pub async fn of_more_leases_than_allowed_is_refused(scene: &Scene) {
        let worker = scene.worker().await;
        let stranger = LeaseName { session: SessionId::random(), lease: 1 };
        let asked = ask(&worker, 1, &[stranger; MAX_TAKEN_OVER + 1]);
        assert_eq!(refusal(scene.store.take_over(asked).await), ErrorKind::Usage);
    }

    pub async fn of_as_many_as_allowed_keeps_its_bound(scene: &Scene) {
        scene.lone(1_024 * 16).await;
        let (sender, worker) = (forwarder(scene).await, scene.worker().await);
        let slices = claim(&sender, 64, 16).await.slices;
        let name = |slice: &Slice| LeaseName { session: sender.session.id, lease: slice.lease };
        let leases: Vec<LeaseName> = slices.iter().map(name).collect();
        assert_eq!((leases.len(), take(scene, &worker, &leases).await.slices.len()), (16, 16));
    }

    pub async fn the_store_keeps_its_number(scene: &Scene) {
        let number = scene.store.identity().await.unwrap();
        assert_eq!(scene.store.identity().await.unwrap(), number);
    }
}
