//! Permits: how many jobs of a type or a queue run at once, and how many start in a time.

pub mod permit {
    use std::time::Duration;

    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::limit::Limit;
    use crate::state::EdgeKind;
    use crate::store::{
        Claim, Granted, LimitRow, Limited, MAX_PERMITS, Pausable, Permit, Permitted, Session, Tick, WAITS_FOR, Wanted,
    };

    const PERIOD: Duration = Duration::from_millis(3_200);
    /// Starts of a 32nd of a period are forgotten together.
    const PART: i64 = 100;

    fn rows() -> Limited {
        Limited::Type(ROW.into())
    }

    fn three() -> Limit {
        Limit::at_once(3)
    }

    impl Worker<'_> {
        /// What it has of a limit, and how much more it wants.
        fn wants(&self, of: &Limited, limit: Limit, (held, unstarted, used): (u32, u32, u64), more: u32) -> Wanted {
            let _ = self;
            Wanted { of: of.clone(), limit, held, unstarted, used, more }
        }

        async fn ask(&self, wanted: Wanted) -> (Granted, Vec<u16>) {
            let permitted = self.ask_all(vec![wanted]).await;
            (permitted.granted[0], permitted.woken.0)
        }

        async fn ask_all(&self, limits: Vec<Wanted>) -> Permitted {
            let scene = self.scene();
            let shard = limits[0].of.shard(scene.store.shards());
            let permit = Permit { session: self.session.id, shard, limits, lease: LEASE };
            scene.store.permit(permit).await.expect("permits are granted or not")
        }

        /// Holds `held` of the rows that may run at once, and would run `more`; returns how many it may.
        async fn hold(&self, limit: Limit, held: u32, more: u32) -> u32 {
            self.ask(self.wants(&rows(), limit, (held, 0, 0), more)).await.0.more
        }

        /// Has started `used` since it began and is about to start `unstarted`; returns how many more it may, of those that it wants.
        async fn start(&self, limit: Limit, unstarted: u32, used: u64, more: u32) -> u32 {
            self.ask(self.wants(&rows(), limit, (unstarted, unstarted, used), more)).await.0.more
        }
    }

    async fn limits_of_rows(scene: &Scene) -> Vec<LimitRow> {
        let id = scene.lone(1).await;
        scene.store.waiting(id, 0).await.unwrap().limits
    }

    pub async fn fresh_grants_what_is_free(scene: &Scene) {
        let (one, other) = (scene.worker().await, scene.worker().await);
        assert_eq!(one.hold(three(), 0, 2).await, 2);
        assert_eq!(other.hold(three(), 0, 2).await, 1);
        assert_eq!(other.hold(three(), 1, 1).await, 0);
        assert_eq!(one.hold(three(), 0, 0).await, 0, "it gives both back");
        assert_eq!(other.hold(three(), 1, 5).await, 2);
    }

    pub async fn repeated_sets_the_same_once_more(scene: &Scene) {
        let (one, other) = (scene.worker().await, scene.worker().await);
        for _ in 0..3 {
            assert_eq!(one.hold(three(), 0, 2).await, 2);
        }
        for _ in 0..3 {
            assert_eq!(one.hold(three(), 2, 0).await, 0);
        }
        assert_eq!(other.hold(three(), 0, 3).await, 1);
        let of = limits_of_rows(scene).await;
        assert_eq!((of.len(), &of[0].of, of[0].limit, of[0].taken), (1, &rows(), three(), 3));
    }

    pub async fn answer_lost_harms_nobody(scene: &Scene) {
        let (one, other) = (scene.worker().await, scene.worker().await);
        let rate = Limit::at_once(3).and_rate(3, PERIOD);
        let wanted = one.wants(&rows(), rate, (0, 0, 0), 2);
        let shard = rows().shard(scene.store.shards());
        lose(scene.store.permit(Permit { session: one.session.id, shard, limits: vec![wanted], lease: LEASE })).await;
        assert_eq!(one.start(rate, 0, 0, 2).await, 2, "asked again it gets the same, not more");
        assert_eq!(one.start(rate, 0, 2, 0).await, 0, "two have run");
        assert_eq!(one.start(rate, 0, 2, 0).await, 0, "told again they count once");
        assert_eq!(other.start(rate, 0, 0, 3).await, 1);
    }

    pub async fn lease_taken_back_keeps_them_for_a_lease_more(scene: &Scene) {
        let dying = scene.worker().await;
        assert_eq!(dying.hold(three(), 0, 3).await, 3);
        scene.leases_end().await;
        let other = scene.worker().await;
        assert_eq!(
            other.hold(three(), 0, 3).await,
            0,
            "leases under them may have been renewed a little later elsewhere"
        );
        scene.leases_end().await;
        scene.store.renew(other.renewal(&[])).await.unwrap();
        assert_eq!(other.hold(three(), 0, 3).await, 3);
    }

    pub async fn paused_type_keeps_its_permits(scene: &Scene) {
        let worker = scene.worker().await;
        assert_eq!(worker.hold(three(), 0, 2).await, 2);
        scene.store.set_paused(Pausable::Type(ROW.into()), true).await.unwrap();
        assert_eq!(worker.hold(three(), 2, 2).await, 1);
        scene.store.set_paused(Pausable::Type(ROW.into()), false).await.unwrap();
    }

    pub async fn cancelling_gives_them_back_like_any_other(scene: &Scene) {
        let id = scene.lone(10).await;
        let (worker, other) = (scene.worker().await, scene.worker().await);
        assert_eq!(worker.hold(three(), 0, 3).await, 3);
        let slice = worker.take(3).await;
        scene.cancel(id, 60_000).await;
        assert_eq!(other.hold(three(), 0, 1).await, 0);
        worker.succeed(&slice).await;
        worker.hold(three(), 0, 0).await;
        assert_eq!(other.hold(three(), 0, 1).await, 1);
    }

    pub async fn deleted_session_is_answered_so(scene: &Scene) {
        let (worker, other) = (scene.worker().await, scene.worker().await);
        assert_eq!(worker.hold(three(), 0, 3).await, 3);
        scene.leave(&worker).await;
        assert_eq!(other.hold(three(), 0, 3).await, 3, "who leaves gives back");
        let shard = rows().shard(scene.store.shards());
        let limits = vec![worker.wants(&rows(), three(), (0, 0, 0), 1)];
        let permit = Permit { session: worker.session.id, shard, limits, lease: LEASE };
        assert_eq!(refusal(scene.store.permit(permit).await), ErrorKind::NotFound);
    }

    pub async fn renewed_are_kept(scene: &Scene) {
        let worker = scene.worker().await;
        assert_eq!(worker.hold(three(), 0, 3).await, 3);
        for _ in 0..8 {
            scene.wait(500).await;
            worker.renew(&[]).await;
        }
        assert_eq!(scene.worker().await.hold(three(), 0, 1).await, 0);
    }

    pub async fn of_more_limits_than_one_call_may_speak_of_are_refused(scene: &Scene) {
        let worker = scene.worker().await;
        let limits = vec![worker.wants(&rows(), three(), (0, 0, 0), 1); MAX_PERMITS + 1];
        let permit = Permit { session: worker.session.id, shard: 0, limits, lease: LEASE };
        assert_eq!(refusal(scene.store.permit(permit).await), ErrorKind::Usage);
    }

    pub async fn of_a_queue_and_of_a_type_are_told_apart(scene: &Scene) {
        let worker = scene.worker().await;
        let queue = Limited::Queue(ROW.into());
        assert_eq!(worker.hold(three(), 0, 3).await, 3);
        assert_eq!(worker.ask(worker.wants(&queue, Limit::at_once(1), (0, 0, 0), 5)).await.0.more, 1);
        let id = scene.plan().step_with("rows", 1, |spec| spec.queue = ROW.into()).create().await;
        let mut told: Vec<(Limited, u64)> =
            scene.store.waiting(id, 0).await.unwrap().limits.into_iter().map(|row| (row.of, row.taken)).collect();
        told.sort();
        assert_eq!(told, [(queue, 1), (rows(), 3)]);
    }

    pub async fn raised_and_lowered_what_the_newest_session_says_counts(scene: &Scene) {
        let old = scene.worker().await;
        assert_eq!(old.hold(three(), 0, 3).await, 3);
        scene.clock.advance(10);
        let new = scene.worker().await;
        assert_eq!(new.hold(Limit::at_once(5), 0, 5).await, 2, "raised");
        assert_eq!(old.hold(three(), 3, 1).await, 0);
        assert_eq!(limits_of_rows(scene).await[0].limit, Limit::at_once(5), "whoever told it last");
        assert_eq!(new.hold(Limit::at_once(2), 2, 0).await, 0, "lowered");
        assert_eq!(old.hold(three(), 2, 1).await, 0, "nobody loses what it has");
        assert_eq!(old.hold(three(), 0, 0).await, 0);
        assert_eq!(new.hold(Limit::at_once(2), 1, 3).await, 1);
    }

    pub async fn given_back_wake_who_was_refused(scene: &Scene) {
        let (one, other) = (scene.worker().await, scene.worker_with(|about| about.wake_port = Some(4_000)).await);
        let told = |worker: &Worker<'_>, held, more| worker.wants(&rows(), three(), (held, 0, 0), more);
        assert_eq!(one.hold(three(), 0, 3).await, 3);
        assert_eq!(one.ask(told(&one, 2, 0)).await.1, Vec::<u16>::new(), "nobody waits");
        assert_eq!(other.hold(three(), 0, 3).await, 1);
        assert_eq!(one.ask(told(&one, 1, 0)).await.1, [4_000]);
        assert_eq!(other.hold(three(), 1, 1).await, 1);
        assert_eq!(one.ask(told(&one, 0, 0)).await.1, Vec::<u16>::new(), "who has what it wanted waits no more");
    }

    pub async fn go_in_turns_among_those_who_wait(scene: &Scene) {
        let (one, other, third) = (scene.worker().await, scene.worker().await, scene.worker().await);
        assert_eq!(one.hold(Limit::at_once(1), 0, 1).await, 1);
        assert_eq!(other.hold(Limit::at_once(1), 0, 1).await, 0);
        assert_eq!(third.hold(Limit::at_once(1), 0, 1).await, 0);
        for (who, next) in [(&one, &other), (&other, &third), (&third, &one), (&one, &other)] {
            assert_eq!(who.hold(Limit::at_once(1), 0, 1).await, 0, "who had it goes behind those who wait");
            assert_eq!(next.hold(Limit::at_once(1), 0, 1).await, 1);
        }
        assert_eq!(other.hold(Limit::at_once(1), 0, 0).await, 0);
        scene.clock.advance(WAITS_FOR + 1);
        assert_eq!(one.hold(Limit::at_once(1), 0, 1).await, 1, "nobody waits for who does not come");
    }

    pub async fn of_a_rate_come_again_when_the_period_is_over(scene: &Scene) {
        let (one, other) = (scene.worker_with(long_lived).await, scene.worker_with(long_lived).await);
        let rate = Limit::rate(3, PERIOD);
        assert_eq!(one.start(rate, 0, 0, 2).await, 2);
        assert_eq!(other.start(rate, 0, 0, 5).await, 1);
        assert_eq!(one.start(rate, 0, 2, 0).await, 0);
        scene.clock.advance(1_000);
        assert_eq!(other.start(rate, 0, 1, 0).await, 0);
        let granted = one.ask(one.wants(&rows(), rate, (0, 0, 2), 3)).await.0;
        assert_eq!(granted, Granted { more: 0, free_in: Some(PART - 1 + 3_200 - 1_000) });
        scene.clock.advance(granted.free_in.unwrap() - 1);
        assert_eq!(one.start(rate, 0, 2, 3).await, 0);
        scene.clock.advance(1);
        assert_eq!(one.start(rate, 0, 2, 3).await, 2);
    }

    /// Its time does not matter here.
    fn long_lived(about: &mut Session) {
        about.lease = 60_000;
    }

    pub async fn of_a_rate_that_were_not_used_are_free_at_once(scene: &Scene) {
        let (one, other) = (scene.worker().await, scene.worker().await);
        let rate = Limit::rate(3, PERIOD);
        assert_eq!(one.start(rate, 0, 0, 3).await, 3);
        assert_eq!(other.start(rate, 0, 0, 3).await, 0);
        assert_eq!(one.start(rate, 0, 1, 0).await, 0);
        assert_eq!(other.start(rate, 0, 0, 3).await, 2);
    }

    pub async fn of_a_rate_that_a_dead_session_had_count_as_used(scene: &Scene) {
        let dying = scene.worker().await;
        let rate = Limit::rate(3, Duration::from_secs(60));
        assert_eq!(dying.start(rate, 0, 0, 2).await, 2);
        scene.leases_end().await;
        scene.leases_end().await;
        let other = scene.worker().await;
        let granted = other.ask(other.wants(&rows(), rate, (0, 0, 0), 3)).await.0;
        assert_eq!(granted.more, 1);
        assert!(granted.free_in.is_some_and(|wait| wait > 50_000), "{granted:?}");
    }

    pub async fn of_both_grant_what_both_allow(scene: &Scene) {
        let worker = scene.worker().await;
        let both = Limit::at_once(5).and_rate(2, PERIOD);
        let ask = |counts, more| worker.ask(worker.wants(&rows(), both, counts, more));
        assert_eq!(ask((0, 0, 0), 9).await.0.more, 2);
        assert_eq!(ask((2, 0, 2), 3).await.0.more, 0);
        scene.clock.advance(3_200 + PART);
        assert_eq!(ask((2, 0, 2), 9).await.0.more, 2);
    }

    pub async fn say_what_a_claim_may_take(scene: &Scene) {
        let id =
            scene.plan().step("rows", 20).step_with("others", 20, |spec| spec.job_type = OTHER.into()).create().await;
        let worker = scene.worker_with(|about| about.types.push(OTHER.into())).await;
        let claim = |permits| Claim { permits, ..worker.wish(8, 8) };
        let none = worker.send(claim(vec![(rows(), 0)])).await;
        assert_eq!(none.waits, [rows()]);
        assert!(!none.slices.is_empty() && none.slices.iter().all(|slice| slice.job_type == OTHER));
        let some = worker.send(claim(vec![(rows(), 3)])).await;
        let of_rows = |claimed: &crate::store::Claimed| {
            count_jobs(&claimed.slices.iter().filter(|slice| slice.job_type == ROW).cloned().collect::<Vec<_>>())
        };
        assert_eq!((of_rows(&some), &some.waits), (3, &vec![rows()]));
        assert!(!some.empty || some.slices.is_empty(), "there is more for others");
        scene.pause(id).await;
        assert_eq!(worker.send(claim(vec![(rows(), 3)])).await.waits, []);
        scene.resume(id).await;
    }

    pub async fn of_a_queue_say_what_a_claim_may_take_of_all_its_types(scene: &Scene) {
        scene.plan().step("rows", 20).step_with("others", 20, |spec| spec.job_type = OTHER.into()).create().await;
        let worker = scene.worker_with(|about| about.types.push(OTHER.into())).await;
        let queue = Limited::Queue(QUEUE.into());
        let claim = |permits| Claim { permits, ..worker.wish(8, 8) };
        let some = worker.send(claim(vec![(queue.clone(), 5), (rows(), 2)])).await;
        assert_eq!(count_jobs(&some.slices), 5);
        assert!(some.slices.iter().all(|slice| slice.queue.as_deref() == Some(QUEUE)));
        let of_rows: Vec<_> = some.slices.iter().filter(|slice| slice.job_type == ROW).cloned().collect();
        assert!(count_jobs(&of_rows) <= 2);
        let again = Claim { first_lease: some.slices[0].lease, ..claim(vec![(queue.clone(), 5)]) };
        let again = scene.store.claim(again).await.unwrap();
        assert!(!again.slices.is_empty() && again.slices.iter().all(|slice| slice.queue.as_deref() == Some(QUEUE)));
    }

    pub async fn never_bring_more_than_can_start_at_once(scene: &Scene) {
        let types = [ROW, OTHER];
        let _ =
            scene.plan().step("rows", 50).step_with("others", 50, |spec| spec.job_type = OTHER.into()).create().await;
        let worker = scene.worker_with(|about| about.types.push(OTHER.into())).await;
        let permits = types.map(|name| (Limited::Type(name.into()), 8)).to_vec();
        let claimed = worker.send(Claim { permits, max_limited: 4, ..worker.wish(8, 8) }).await;
        assert_eq!(count_jobs(&claimed.slices), 4);
    }

    pub async fn share_what_can_start_at_once_with_other_limits(scene: &Scene) {
        let plan = scene.plan().step_with("others", 50, |spec| spec.job_type = OTHER.into());
        plan.step_with("rows", 50, |spec| spec.max_in_flight = Some(50)).create().await;
        let worker = scene.worker_with(|about| about.types.push(OTHER.into())).await;
        let claim = || Claim { permits: vec![(Limited::Type(OTHER.into()), 3)], max_limited: 4, ..worker.wish(3, 8) };
        let claimed = worker.send(claim()).await;
        assert_eq!(count_jobs(&claimed.slices), 4);
        assert!(claimed.slices.iter().all(|slice| slice.limited == (slice.job_type == ROW)));
        let again = scene.store.claim(Claim { first_lease: claimed.slices[0].lease, ..claim() }).await.unwrap();
        assert!(again.slices.iter().all(|slice| slice.limited == (slice.job_type == ROW)));
    }

    pub async fn hold_a_suspect_slice_to_its_limit(scene: &Scene) {
        scene.plan().step("rows", 4).step("report", 1).edge(0, 1, EdgeKind::After).create().await;
        for _ in 0..2 {
            let dying = scene.worker().await;
            dying.drain().await;
            scene.leases_end().await;
        }
        let worker = scene.worker().await;
        let alone = |permits| Claim { alone: true, permits, ..worker.wish(8, 8) };
        let none = worker.send(alone(vec![(rows(), 0)])).await;
        assert!(none.slices.is_empty() && !none.drain);
        assert_eq!(none.waits, [rows()]);
        let one = worker.send(alone(vec![(rows(), 1)])).await;
        assert_eq!((count_jobs(&one.slices), one.slices[0].suspect), (1, true));
        worker.succeed(&one.slices[0]).await;
    }

    pub async fn of_the_most_limits_that_all_have_waiting_sessions_keep_the_bound(scene: &Scene) {
        let limits: Vec<Limited> = (0..MAX_PERMITS).map(|n| Limited::Type(format!("type {n}"))).collect();
        let shards = scene.store.shards();
        let mut workers = Vec::new();
        for n in 0..10 {
            workers.push(scene.worker_with(|about| about.wake_port = Some(5_000 + n)).await);
        }
        let limit = Limit::at_once(8).and_rate(1_000, PERIOD);
        // All on one shard, wherever they belong: a store does not look where it is asked.
        let ask = async |worker: &Worker<'_>, counts: (u32, u32, u64), more: u32| {
            let limits = limits.iter().map(|of| worker.wants(of, limit, counts, more)).collect();
            let permit = Permit { session: worker.session.id, shard: shards - 1, limits, lease: LEASE };
            scene.store.permit(permit).await.unwrap()
        };
        assert!(ask(&workers[0], (0, 0, 0), 8).await.granted.iter().all(|granted| granted.more == 8));
        for worker in &workers[1..] {
            assert!(ask(worker, (0, 0, 0), 8).await.granted.iter().all(|granted| granted.more == 0));
        }
        assert_eq!(ask(&workers[0], (0, 0, 8), 0).await.woken.0.len(), 4, "as many as may be woken for one limit");
        scene.wait(3 * LEASE).await;
        assert!(!scene.store.tick(Tick { lease: LEASE }).await.unwrap().more);
    }
}
