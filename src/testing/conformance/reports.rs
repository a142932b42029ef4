//! Jobs complete: by reports, each part of which counts wholly or not at all.

pub mod report {
    use super::super::scene::*;
    use crate::error::ErrorKind;
    use crate::slice::Mask;
    use crate::state::{EdgeKind, JobState, MAX_ATTEMPTS, StepState, WorkflowState, attempts};
    use crate::store::{LeaseReport, MAX_REPORTED_LEASES, MAX_REPORTED_WAITS, error_number};

    pub async fn fresh_settles_and_counts_one_attempt(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let errors = vec![(error_number("bad"), "bad".to_owned(), job(1))];
        let part = LeaseReport { succeeded: job(0), failed: job(1), errors, ..worker.part(&slice) };
        let reported = worker.report(part).await;
        assert!(reported.refused.is_empty() && reported.cancelled.is_empty());
        assert_eq!(reported.known_errors, [(slice.lease, error_number("bad"))]);
        let (jobs, bytes) = (scene.jobs(id).await, scene.bytes(id, 0).await);
        assert_eq!((jobs.succeeded, jobs.failed, jobs.unsettled(), scene.step(id, 0).await.running), (1, 1, 2, 0));
        assert_eq!((JobState::of(bytes[0]), attempts(bytes[0])), (JobState::Succeeded, 1));
        assert_eq!((JobState::of(bytes[1]), attempts(bytes[1])), (JobState::Failed, 1));
        assert_eq!(attempts(bytes[2]), 0);
    }

    pub async fn repeated_changes_nothing(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(5).await;
        let (some, rest) = slice.jobs.split(2);
        let part = LeaseReport { succeeded: some, ..worker.part(&slice) };
        for _ in 0..3 {
            assert!(worker.report(part.clone()).await.refused.is_empty());
            assert_eq!((scene.jobs(id).await.succeeded, scene.step(id, 0).await.running), (2, 3));
        }
        worker.report(LeaseReport { succeeded: rest, ..worker.part(&slice) }).await;
        assert_eq!(scene.jobs(id).await.succeeded, 5);
    }

    pub async fn repeated_behind_a_later_one_changes_nothing(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(5).await;
        let early = LeaseReport { succeeded: job(0), ..worker.part(&slice) };
        worker.report(early.clone()).await;
        worker.report(LeaseReport { succeeded: job(1), ..worker.part(&slice) }).await;
        worker.report(early).await;
        assert_eq!((scene.jobs(id).await.succeeded, scene.step(id, 0).await.running), (2, 3));
    }

    pub async fn answer_lost_of_the_last_one_counts_once(scene: &Scene) {
        let id = scene.rows(2).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            let part = worker.failure(&slice, "bad");
            worker.report(part.clone()).await;
            assert_eq!(worker.report(part).await.refused, [slice.lease], "the lease has ended with its last job");
        }
        assert_eq!((scene.jobs(id).await.failed, scene.errors(id, 0).await), (2, vec![("bad".into(), 2)]));
        assert_eq!(scene.state(id).await, WorkflowState::Failed);
    }

    pub async fn answer_lost_of_a_retry_counts_one_attempt(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let part = LeaseReport { retries: vec![(500, job(0))], ..worker.part(&slice) };
        worker.report(part.clone()).await;
        worker.report(part).await;
        assert_eq!((scene.jobs(id).await.retrying, attempts(scene.bytes(id, 0).await[0])), (1, 1));
    }

    pub async fn lease_taken_back_is_refused_as_a_whole(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(5).await;
        scene.leases_end().await;
        assert_eq!(worker.fail(&slice, "late").await.refused, [slice.lease]);
        assert_eq!((scene.jobs(id).await.settled(), scene.errors(id, 0).await.len()), (0, 0));
        assert!(scene.store.outcomes(id, 0, 0, 0).await.unwrap()[0].records.is_empty());
    }

    pub async fn lease_taken_back_and_run_by_another_is_refused(scene: &Scene) {
        let id = scene.lone(1).await;
        let slow = scene.worker().await;
        let slice = slow.take(1).await;
        scene.leases_end().await;
        let quick = scene.worker().await;
        let again = quick.take(1).await;
        assert_eq!(slow.fail(&slice, "late").await.refused, [slice.lease], "its numbers are its session's own");
        assert!(quick.succeed(&again).await.refused.is_empty());
        assert_eq!((scene.jobs(id).await.succeeded, scene.jobs(id).await.failed), (1, 0));
    }

    pub async fn past_the_deadline_counts_until_somebody_takes_back(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(5).await;
        scene.clock.advance(10 * LEASE);
        assert!(worker.succeed(&slice).await.refused.is_empty());
        assert_eq!(scene.jobs(id).await.succeeded, 5);
    }

    pub async fn paused_counts_and_releases_but_hands_nothing_out(scene: &Scene) {
        let id = scene.rows(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.pause(id).await;
        worker.succeed(&slice).await;
        assert_eq!(
            (scene.step_state(id, 0).await, scene.step_state(id, 1).await),
            (StepState::Succeeded, StepState::Running)
        );
        assert_eq!(scene.state(id).await, WorkflowState::Paused);
        assert!(worker.drain().await.is_empty());
        scene.resume(id).await;
        assert_eq!(worker.take(1).await.step, 1);
    }

    pub async fn paused_workflow_finishes_with_its_last_job(scene: &Scene) {
        let id = scene.lone(1).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.pause(id).await;
        worker.succeed(&slice).await;
        assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
    }

    pub async fn cancelling_counts_what_ran_and_cancels_the_rest(scene: &Scene) {
        let id = scene.lone(100).await;
        let worker = scene.worker().await;
        let slice = worker.take(6).await;
        scene.cancel(id, 60_000).await;
        scene.tick().await;
        let part = LeaseReport {
            succeeded: job(0),
            failed: job(1),
            errors: vec![(error_number("bad"), "bad".into(), job(1))],
            retries: vec![(500, job(2))],
            returned: job(3),
            cancelled: job(4).or(job(5)),
            ..worker.part(&slice)
        };
        assert_eq!(worker.report(part).await.cancelled, [slice.lease]);
        let states = scene.job_states(id, 0).await;
        assert_eq!(states[..2], [JobState::Succeeded, JobState::Failed]);
        assert_eq!(states[2..], [JobState::Cancelled; 98]);
        assert_eq!(attempts(scene.bytes(id, 0).await[3]), 0, "what was not started has used no attempt");
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
    }

    pub async fn deleted_is_refused(scene: &Scene) {
        let id = scene.lone(4).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        scene.cancel(id, 0).await;
        scene.leases_end().await;
        scene.delete(id).await;
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease]);
        assert!(scene.list(Default::default()).await.is_empty());
    }

    pub async fn one_refused_part_leaves_the_others_counting(scene: &Scene) {
        let id = scene.lone(40).await;
        let worker = scene.worker().await;
        let lost = worker.take(2).await;
        scene.wait(LEASE / 2).await;
        let kept = worker.claim(2, 2).await.slices;
        scene.wait(LEASE / 2 + 200).await;
        worker.renew(&[kept[0].lease, kept[1].lease]).await;
        let parts = [&kept[0], &lost, &kept[1]].map(|slice| worker.success(slice));
        let reported = worker.try_report(parts.to_vec()).await.unwrap();
        assert_eq!((reported.refused, scene.jobs(id).await.succeeded), (vec![lost.lease], 4));
        assert_eq!(jobs_of(&[worker.take(2).await]), jobs_of(&[lost]));
    }

    pub async fn that_ends_24_workflows_keeps_its_bounds(scene: &Scene) {
        let mut ids = Vec::new();
        for _ in 0..MAX_REPORTED_LEASES {
            ids.push(scene.lone(1).await);
        }
        let worker = scene.worker().await;
        let last_jobs = worker.drain().await;
        assert_eq!(last_jobs.len(), MAX_REPORTED_LEASES);
        worker.try_report(last_jobs.iter().map(|slice| worker.success(slice)).collect()).await.unwrap();
        scene.tick().await;
        for id in ids {
            assert_eq!(scene.state(id).await, WorkflowState::Succeeded);
        }
    }

    pub async fn of_more_leases_than_allowed_is_refused_as_a_whole(scene: &Scene) {
        let id = scene.lone(1_000).await;
        let worker = scene.worker().await;
        let mut slices = worker.claim(1, 16).await.slices;
        slices.extend(worker.claim(1, 16).await.slices);
        let parts: Vec<_> = slices[..=MAX_REPORTED_LEASES].iter().map(|slice| worker.success(slice)).collect();
        assert_eq!(refusal(worker.try_report(parts.clone()).await), ErrorKind::Usage);
        assert_eq!(scene.jobs(id).await.succeeded, 0);
        worker.try_report(parts[1..].to_vec()).await.unwrap();
        assert_eq!(scene.jobs(id).await.succeeded, MAX_REPORTED_LEASES as u64);
    }

    pub async fn of_more_waits_than_allowed_is_refused_as_a_whole(scene: &Scene) {
        let id = scene.lone(400).await;
        let worker = scene.worker().await;
        let slices = worker.claim(60, 2).await.slices;
        let waits = |jobs: Mask| jobs.iter().map(|at| (60_000 + 10_000 * at as i64, job(at))).collect::<Vec<_>>();
        let parts: Vec<_> =
            slices.iter().map(|slice| LeaseReport { retries: waits(slice.jobs), ..worker.part(slice) }).collect();
        assert_eq!(refusal(worker.try_report(parts.clone()).await), ErrorKind::Usage);
        assert_eq!((scene.jobs(id).await.retrying, scene.step(id, 0).await.running), (0, 120));
        let most = LeaseReport { retries: waits(slices[1].jobs.split(40).0), ..parts[1].clone() };
        worker.try_report(vec![parts[0].clone(), most]).await.unwrap();
        assert_eq!(scene.jobs(id).await.retrying, MAX_REPORTED_WAITS as u64);
    }

    pub async fn that_names_a_job_twice_is_refused(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(3).await;
        let part = LeaseReport { succeeded: slice.jobs, returned: job(1), ..worker.part(&slice) };
        assert_eq!(refusal(worker.try_report(vec![part]).await), ErrorKind::Usage);
        assert_eq!((scene.jobs(id).await.succeeded, scene.step(id, 0).await.running), (0, 3));
    }

    pub async fn that_names_jobs_of_another_lease_is_refused(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let (one, other) = (worker.take(3).await, worker.take(3).await);
        let part = LeaseReport { succeeded: one.jobs.or(job(4)), ..worker.part(&one) };
        assert_eq!(refusal(worker.try_report(vec![part]).await), ErrorKind::Usage);
        assert_eq!(scene.jobs(id).await.succeeded, 0);
        assert!(worker.succeed(&other).await.refused.is_empty());
    }

    pub async fn beyond_the_last_attempt_is_refused(scene: &Scene) {
        let id = scene.lone(1).await;
        let worker = scene.worker().await;
        for attempt in 0..MAX_ATTEMPTS {
            let slice = worker.take(1).await;
            assert_eq!(slice.attempts.first().copied().unwrap_or(0), attempt);
            worker.retry_in(&slice, 0).await;
            scene.tick().await;
        }
        let slice = worker.take(1).await;
        assert_eq!(refusal(worker.try_report(vec![worker.success(&slice)]).await), ErrorKind::Usage);
        assert_eq!(attempts(scene.bytes(id, 0).await[0]), MAX_ATTEMPTS);
    }

    pub async fn what_is_given_back_comes_first_and_has_used_no_attempt(scene: &Scene) {
        let id = scene.lone(20).await;
        let worker = scene.worker().await;
        let slice = worker.take(6).await;
        let (done, rest) = slice.jobs.split(2);
        worker.report(LeaseReport { succeeded: done, returned: rest, ..worker.part(&slice) }).await;
        let again = worker.take(6).await;
        assert_eq!(jobs_of(&[again]), [2, 3, 4, 5]);
        assert_eq!(attempts(scene.bytes(id, 0).await[2]), 0);
        assert!(scene.recoveries(id, 0).await.is_empty());
    }

    pub async fn keeps_the_open_record_whole_and_begins_the_next(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(4).await;
        for (at, (record, record_number)) in [("one", 0), ("one, two", 0), ("three", 1)].into_iter().enumerate() {
            let record = record.as_bytes().to_vec();
            worker.report(LeaseReport { succeeded: job(at), record, record_number, ..worker.part(&slice) }).await;
        }
        let records = scene.store.outcomes(id, 0, 0, 0).await.unwrap().remove(0).records;
        assert_eq!(records, [b"one, two".to_vec(), b"three".to_vec()]);
    }

    pub async fn without_a_record_leaves_those_before_it_as_they_are(scene: &Scene) {
        let id = scene.lone(10).await;
        let worker = scene.worker().await;
        let slice = worker.take(5).await;
        let with = |text: &str, number, part| LeaseReport { record: text.into(), record_number: number, ..part };
        worker.report(with("one", 0, LeaseReport { succeeded: job(0), ..worker.part(&slice) })).await;
        worker.report(LeaseReport { returned: job(2), record_number: 1, ..worker.part(&slice) }).await;
        worker.report(with("two", 1, LeaseReport { succeeded: job(1), ..worker.part(&slice) })).await;
        let records = scene.store.outcomes(id, 0, 0, 0).await.unwrap().remove(0).records;
        assert_eq!(records, [b"one".to_vec(), b"two".to_vec()]);
    }

    pub async fn postponed_runs_later_and_has_used_no_attempt(scene: &Scene) {
        let id = scene.rows(2).await;
        let worker = scene.worker().await;
        let slices = worker.claim(1, 2).await.slices;
        worker.report(LeaseReport { postponed: vec![(700, slices[0].jobs)], ..worker.part(&slices[0]) }).await;
        worker.succeed(&slices[1]).await;
        assert_eq!(scene.jobs(id).await.deferred, 1);
        assert_eq!(scene.store.waiting(id, 0).await.unwrap().next_due, Some(scene.clock.now() + 700));
        scene.check().await;
        scene.wait(600).await;
        assert!(worker.drain().await.is_empty());
        scene.wait(100).await;
        let again = worker.take(1).await;
        assert_eq!(
            (again.attempts.iter().sum::<u8>(), jobs_of(std::slice::from_ref(&again))),
            (0, jobs_of(&slices[..1]))
        );
        worker.succeed(&again).await;
        assert_eq!(scene.step_state(id, 0).await, StepState::Succeeded);
    }

    pub async fn postponed_of_a_cancelled_workflow_does_not_come_back(scene: &Scene) {
        let id = scene.rows(2).await;
        let worker = scene.worker().await;
        let slices = worker.claim(1, 2).await.slices;
        worker.report(LeaseReport { postponed: vec![(100, slices[0].jobs)], ..worker.part(&slices[0]) }).await;
        scene.cancel(id, 500).await;
        worker.report(LeaseReport { postponed: vec![(100, slices[1].jobs)], ..worker.part(&slices[1]) }).await;
        scene.wait(700).await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        assert_eq!(scene.job_states(id, 0).await, [JobState::Cancelled; 2]);
    }

    pub async fn skipped_settles_without_a_failure(scene: &Scene) {
        let id = scene.rows(2).await;
        let worker = scene.worker().await;
        let slices = worker.claim(1, 2).await.slices;
        worker.report(LeaseReport { skipped: slices[0].jobs, ..worker.part(&slices[0]) }).await;
        worker.succeed(&slices[1]).await;
        assert_eq!(
            (scene.step_state(id, 0).await, scene.step_state(id, 1).await),
            (StepState::Succeeded, StepState::Running)
        );
        assert_eq!(scene.jobs(id).await.skipped, 1);
    }

    pub async fn releases_each_follower_once(scene: &Scene) {
        let plan = scene.plan().step("a", 1).step("b", 1).step("c", 1).step("d", 1);
        let plan = [(0, 1), (0, 2), (1, 3), (2, 3)]
            .into_iter()
            .fold(plan, |plan, (up, down)| plan.edge(up, down, EdgeKind::After));
        let id = plan.create().await;
        let worker = scene.worker().await;
        let mut order = Vec::new();
        loop {
            let slices = worker.drain().await;
            if slices.is_empty() {
                break;
            }
            for slice in slices {
                order.push(slice.step);
                worker.succeed(&slice).await;
            }
        }
        assert_eq!((order, scene.state(id).await), (vec![0, 1, 2, 3], WorkflowState::Succeeded));
    }

    pub async fn by_a_session_that_has_left_is_refused(scene: &Scene) {
        let id = scene.lone(2).await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        scene.leave(&worker).await;
        assert_eq!(worker.succeed(&slice).await.refused, [slice.lease]);
        assert_eq!(scene.jobs(id).await.succeeded, 0);
    }
}

/// A source's draft becomes jobs with the report that the source succeeded, and not otherwise.
pub mod source {
    use super::super::scene::*;
    use crate::state::{StepState, WorkflowState};
    use crate::store::LeaseReport;

    pub async fn its_jobs_appear_with_its_success(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        assert_eq!(slice.feeds, Some(1));
        let draft = worker.emit(&slice, 5).await;
        assert!(worker.drain().await.is_empty());
        assert_eq!(scene.jobs(id).await.total, 2);
        worker.report(LeaseReport { adopted: vec![(0, draft)], ..worker.success(&slice) }).await;
        assert_eq!((scene.jobs(id).await.total, scene.step_state(id, 1).await), (7, StepState::Running));
        let rows = worker.drain().await;
        assert_eq!((jobs_of(&rows), rows[0].step), (vec![0, 1, 2, 3, 4], 1));
    }

    pub async fn without_jobs_its_step_settles_at_once(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.produce(&slice, 0).await;
        assert_eq!(scene.step_state(id, 1).await, StepState::Succeeded);
        assert_eq!(worker.take(1).await.step, 2);
    }

    pub async fn that_failed_releases_nothing_until_it_is_repaired(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        worker.emit(&slice, 5).await;
        worker.fail(&slice, "no such file").await;
        assert_eq!(
            (scene.step_state(id, 1).await, scene.step_state(id, 2).await),
            (StepState::Waiting, StepState::Waiting)
        );
        assert_eq!((scene.state(id).await, scene.jobs(id).await.total), (WorkflowState::Failed, 2));
        scene.retry(id).await;
        let slice = worker.take(1).await;
        worker.produce(&slice, 3).await;
        worker.run().await;
        let jobs = scene.jobs(id).await;
        assert_eq!((scene.state(id).await, jobs.total, jobs.succeeded), (WorkflowState::Succeeded, 5, 5));
    }

    pub async fn whose_draft_is_dropped_leaves_nothing_of_it(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let draft = worker.emit(&slice, 5).await;
        let part = LeaseReport { dropped: vec![draft], ..worker.postponement(&slice, 0) };
        worker.report(part).await;
        scene.tick().await;
        let slice = worker.take(1).await;
        worker.produce(&slice, 2).await;
        let rows = worker.drain().await;
        assert_eq!((jobs_of(&rows), scene.jobs(id).await.total), (vec![0, 1], 4));
        for slice in &rows {
            worker.succeed(slice).await;
        }
        worker.run().await;
        scene.at_rest().await;
    }

    pub async fn whose_draft_is_gone_cannot_succeed(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let draft = worker.emit(&slice, 5).await;
        for _ in 0..5 {
            scene.wait(LEASE / 2).await;
            worker.renew(&[slice.lease]).await;
        }
        let part = LeaseReport { adopted: vec![(0, draft)], ..worker.success(&slice) };
        assert_eq!(refusal(worker.try_report(vec![part]).await), crate::ErrorKind::Refused);
        assert_eq!((scene.jobs(id).await.succeeded, scene.step_state(id, 0).await), (0, StepState::Running));
    }

    pub async fn reports_again_and_adopts_once(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let draft = worker.emit(&slice, 5).await;
        let part = LeaseReport { adopted: vec![(0, draft)], ..worker.success(&slice) };
        worker.report(part.clone()).await;
        assert_eq!(worker.report(part).await.refused, [slice.lease]);
        assert_eq!(scene.step(id, 1).await.jobs.total, 5);
    }

    pub async fn that_succeeds_within_the_grace_of_a_cancel_adds_no_jobs(scene: &Scene) {
        let id = scene.source().await;
        let worker = scene.worker().await;
        let slice = worker.take(1).await;
        let draft = worker.emit(&slice, 5).await;
        scene.cancel(id, 5_000).await;
        scene.tick().await;
        worker.report(LeaseReport { adopted: vec![(0, draft)], ..worker.success(&slice) }).await;
        scene.tick().await;
        assert_eq!((scene.state(id).await, scene.jobs(id).await.total), (WorkflowState::Cancelled, 2));
        scene.at_rest().await;
    }

    pub async fn two_sources_fill_two_steps(scene: &Scene) {
        let (feeds, after) = (crate::EdgeKind::Feeds, crate::EdgeKind::After);
        let plan = scene.plan().step_with("s", 1, |s| s.feeds = Some(2)).step_with("t", 1, |s| s.feeds = Some(3));
        let plan = plan.step("a", 0).step("b", 0).step("report", 1).edge(0, 2, feeds).edge(1, 3, feeds);
        let id = plan.edge(2, 4, after).edge(3, 4, after).create().await;
        let worker = scene.worker().await;
        let sources = worker.drain().await;
        for (slice, jobs) in sources.iter().zip([3, 1_000]) {
            worker.produce(slice, jobs).await;
        }
        assert_eq!(scene.step_state(id, 4).await, StepState::Waiting);
        worker.run().await;
        let totals = [scene.step(id, 2).await.jobs.succeeded, scene.step(id, 3).await.jobs.succeeded];
        assert_eq!((totals, scene.state(id).await), ([3, 1_000], WorkflowState::Succeeded));
    }
}

/// Which errors the failed jobs of a step ended with.
pub mod error_table {
    use super::super::scene::*;
    use crate::state::WorkflowState;
    use crate::store::{RetryFailed, error_number};

    async fn counted(scene: &Scene, id: crate::WorkflowId) -> u64 {
        scene.errors(id, 0).await.iter().map(|(_, jobs)| jobs).sum()
    }

    pub async fn like_texts_are_counted_together(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        for (at, slice) in worker.drain().await.iter().enumerate() {
            worker.fail(slice, if at == 0 { "timed out" } else { "no such host" }).await;
        }
        let errors = scene.errors(id, 0).await;
        assert_eq!(errors, [("no such host".into(), 4), ("timed out".into(), 4)]);
        let rows = scene.store.errors(id, 0).await.unwrap();
        assert!(rows.iter().all(|row| row.number == error_number(&row.text)));
    }

    pub async fn tells_which_texts_it_holds(scene: &Scene) {
        scene.lone(8).await;
        let worker = scene.worker().await;
        let slice = worker.take(2).await;
        let reported = worker.report(worker.failures(&slice, |at| format!("text {at}"))).await;
        let known = [(slice.lease, error_number("text 0")), (slice.lease, error_number("text 1"))];
        assert_eq!(reported.known_errors, known);
    }

    pub async fn holds_a_thousand_texts_and_counts_the_others_together(scene: &Scene) {
        let id = scene.lone(6_000).await;
        let worker = scene.worker().await;
        for _ in 0..30 {
            let slice = worker.take(50).await;
            worker.report(worker.failures(&slice, |at| format!("{} of {}", at, slice.first))).await;
        }
        let rows = scene.store.errors(id, 0).await.unwrap();
        let texts = rows.iter().filter(|row| !row.text.is_empty()).count();
        let others: u64 = rows.iter().filter(|row| row.text.is_empty()).map(|row| row.jobs).sum();
        assert_eq!((texts, others + 1_000), (1_000, scene.jobs(id).await.failed));
    }

    pub async fn counts_together_what_one_operation_cannot_note(scene: &Scene) {
        let id = scene.lone(30_000).await;
        let worker = scene.worker().await;
        for _ in 0..2 {
            let slices = worker.claim(1024, 12).await.slices;
            let parts = slices.iter().map(|slice| worker.failures(slice, |at| format!("{at:>300}"))).collect();
            worker.try_report(parts).await.unwrap();
        }
        assert_eq!(counted(scene, id).await, scene.jobs(id).await.failed);
    }

    pub async fn follows_a_retry(scene: &Scene) {
        let id = scene.lone(8).await;
        let worker = scene.worker().await;
        for slice in worker.drain().await {
            worker.fail(&slice, "first").await;
        }
        scene.retry(id).await;
        assert!(scene.errors(id, 0).await.is_empty());
        for (at, slice) in worker.drain().await.iter().enumerate() {
            if at == 0 {
                worker.fail(slice, "second").await
            } else {
                worker.succeed(slice).await
            };
        }
        assert_eq!(scene.errors(id, 0).await, [("second".into(), 4)]);
    }

    pub async fn follows_jobs_that_fail_between_a_command_and_its_chore(scene: &Scene) {
        let id = scene.lone(3_000).await;
        let worker = scene.worker().await;
        let slices = worker.claim(1024, 2).await.slices;
        worker.report(worker.failures(&slices[0], |at| format!("{at:>9}"))).await;
        scene.store.retry(scene.retry_of(id)).await.unwrap();
        worker.report(worker.failures(&slices[1], |at| format!("{at:>9}"))).await;
        scene.tick().await;
        assert_eq!((counted(scene, id).await, scene.jobs(id).await.failed), (0, 0));
    }

    pub async fn follows_a_cancel_that_overtakes_a_retry(scene: &Scene) {
        let id = scene.lone(3_000).await;
        let worker = scene.worker().await;
        let slice = worker.take(1024).await;
        worker.report(worker.failures(&slice, |at| format!("{at:>9}"))).await;
        scene.store.retry(RetryFailed { step: Some(0), ..scene.retry_of(id) }).await.unwrap();
        scene.cancel(id, 0).await;
        scene.tick().await;
        assert_eq!(scene.state(id).await, WorkflowState::Cancelled);
        assert_eq!(counted(scene, id).await, scene.jobs(id).await.failed);
    }
}
