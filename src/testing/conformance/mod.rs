//! The conformance suite: what every store must do, case by case.
//!
//! [`store_tests!`](crate::testing::store_tests) turns each case into a test. A store is one of ours if all of them pass; none may be
//! left out. The cases go through the verbs of [`Store`] alone, so they hold for any implementation.
//!
//! ```no_run
//! mod my_store {
//!     use std::sync::Arc;
//!     use std::time::Duration;
//!
//!     use gusher::Clock;
//!     use gusher::store::Store;
//!     use gusher::store::sqlite::{Options, SqliteStore};
//!
//!     async fn fresh(clock: Clock, lease: Duration) -> Arc<dyn Store> {
//!         Arc::new(SqliteStore::open(Options { lease, clock, ..Options::in_memory() }).unwrap())
//!     }
//!
//!     gusher::testing::store_tests!(fresh);
//! }
//! # fn main() {}
//! ```
//!
//! Each verb has a case for what it answers fresh, repeated, sent again since its answer was lost, after the lease was taken back, and
//! in a workflow that is paused, cancelling or deleted; further modules are named after what they are about. At the end of every case
//! the doctor must find nothing and no operation may have gone over its bound; then all that the case has left is cancelled, runs out
//! and is deleted, and the store must be as empty as before.

mod checkpoints;
mod claims;
mod commands;
mod creation;
mod deadlines;
mod followers;
mod inspection;
mod keeping;
mod keyed;
mod keys;
mod lone;
mod lone_cancel;
mod occurrences;
mod paused;
mod permits;
mod plan;
mod reads;
mod repair;
mod reports;
pub(crate) mod scene;
mod schedules;
mod sessions;
mod times;
mod worker;
mod worst_cases;

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use self::checkpoints::checkpoint;
use self::claims::{claim, turns, wake};
use self::commands::{cancel, pause, resume};
use self::creation::{append, create};
use self::deadlines::deadline;
use self::followers::{table, tolerance};
use self::inspection::{doctor, errors, outcomes, parameters, size, waiting, whereabouts, workers};
use self::keeping::{keep, retention};
use self::keyed::{limit_of_a_key, unique};
use self::keys::{abandon, begin};
use self::lone::{enqueue, lane};
use self::lone_cancel::cancel_jobs;
use self::occurrences::{allow, cancel_other, missed_all, missed_last, missed_none, skip, wait, wait_one};
use self::paused::set_paused;
use self::permits::permit;
use self::reads::{edges, step_named, steps, workflow, workflows};
use self::repair::{delete, discard, mended, retry};
use self::reports::{error_table, report, source};
use self::scene::{LEASE, START, Scene};
use self::schedules::{change_schedule, fire, put_schedule};
use self::sessions::{join, leave, renew};
use self::times::{lease_time, recovery, tick, timers};
use self::worst_cases::bounds;
use crate::clock::Clock;
use crate::store::Store;

#[doc(inline)]
pub use crate::store_tests;

type Case = for<'s> fn(&'s Scene) -> LocalBoxFuture<'s, ()>;

/// Every case there is, in this one place: the tests and their count both come from here. Passes the list on to the macro `$then`.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_table {
    ($then:path) => {
        $then! {
            join {
                fresh,
                repeated_keeps_what_is_held,
                answer_lost_makes_one_worker,
                lease_taken_back_comes_back_to_life,
                paused_counts_as_able_and_gets_nothing,
                cancelling_gets_nothing,
                deleted_record_begins_anew,
            }
            leave {
                fresh_gives_back_at_the_front_without_a_recovery,
                repeated_gives_back_once,
                answer_lost_goes_on_until_all_is_given_back,
                lease_taken_back_gives_nothing_back_twice,
                paused_gives_back_to_nobody_until_the_resume,
                cancelling_cancels_what_is_given_back,
                deleted_workflow_leaves_nothing_to_give_back,
                stops_draining_for_a_suspect,
            }
            renew {
                fresh_keeps_a_lease_as_long_as_it_is_renewed,
                repeated_adds_no_time,
                answer_lost_tells_the_same_again,
                lease_taken_back_is_told_as_lost,
                paused_keeps_and_stops_nothing,
                cancelling_is_told_and_ends_with_the_grace,
                deleted_is_told_as_lost,
                of_another_sessions_lease_is_no_renewal,
                by_an_unknown_session_is_answered_so,
                brings_progress,
                keeps_a_workers_session_alive_without_leases,
                after_a_partial_report_keeps_the_rest,
            }
            append {
                fresh_is_seen_by_nobody_before_it_is_whole,
                repeated_counts_once_in_any_order,
                answer_lost_of_the_first_call_makes_one_draft,
                a_call_that_is_missing_is_not_passed_over,
                lease_taken_back_collects_it_and_refuses_what_comes_late,
                lives_by_renewal_and_by_each_call,
                paused_is_written_and_adopted_but_not_handed_out,
                cancelling_is_written_and_then_collected,
                deleted_workflow_takes_no_jobs,
                two_drafts_of_one_session_are_told_apart,
                a_chunk_without_jobs_or_with_too_many_is_refused,
                of_thousands_of_jobs_keeps_their_order,
            }
            begin {
                fresh_takes_the_key_before_anything_is_built,
                repeated_renews_its_draft,
                answer_lost_makes_one_draft,
                lease_taken_back_frees_the_key,
                paused_holds_it,
                cancelling_holds_it_to_its_end,
                deleted_has_none,
                of_another_type_or_key_is_in_nobodys_way,
                of_2_000_at_once_one_takes_it_and_the_others_build_nothing,
                without_it_a_workflow_with_a_key_is_refused,
                then_a_draft_of_many_calls_is_adopted_whole,
                a_repair_takes_it_again,
                a_repair_gives_way_to_who_has_it,
            }
            abandon {
                fresh_frees_the_key_at_once_and_leaves_nothing,
                repeated_is_no_error_and_frees_nobody_elses,
                answer_lost_refuses_what_comes_late,
                lease_taken_back_has_done_it_already,
                paused_is_no_draft_any_more,
                cancelling_is_no_draft_any_more,
                deleted_is_no_error,
            }
            create {
                fresh_is_pending_and_can_be_claimed,
                repeated_id_keeps_the_first,
                answer_lost_of_a_draft_is_answered_as_existing,
                repeated_with_a_draft_collects_the_draft,
                lease_taken_back_from_its_draft_leaves_nothing,
                paused_one_of_that_id_stays_as_it_is,
                cancelling_one_of_that_id_stays_as_it_is,
                deleted_id_is_free_and_nothing_is_left_of_the_first,
                without_steps_succeeds_at_once,
                empty_steps_settle_at_once_and_release,
                a_draft_of_many_calls_is_adopted_whole,
                again_takes_the_place_of_a_finished_one,
                again_answer_lost_starts_it_once,
                again_of_an_older_generation_changes_nothing,
                again_without_a_first_is_a_first,
            }
            enqueue {
                fresh_can_be_claimed_with_all_that_a_worker_needs,
                repeated_command_counts_once_and_is_answered_the_same,
                answer_lost_counts_once,
                lease_taken_back_gives_them_to_another,
                paused_is_no_lane,
                cancelling_is_no_lane,
                deleted_is_no_lane,
                by_an_unknown_session_is_answered_so,
                an_older_command_is_refused,
                of_several_lanes_tells_the_first_of_each,
                of_a_chunk_that_cannot_be_is_refused_as_a_whole,
                wakes_who_is_idle,
            }
            limit_of_a_key {
                fresh_lets_so_many_start_and_the_next_when_one_has_settled,
                repeated_enqueue_counts_once,
                answer_lost_admits_the_next_once,
                lease_taken_back_keeps_the_turn,
                given_back_goes_to_the_front_with_its_turn,
                paused_type_holds_its_turns_and_others_wait,
                deleted_chunks_leave_no_row_of_their_keys,
                lasts_over_lanes_and_priorities,
                one_that_waits_is_told_for_what,
                one_that_waits_for_a_retry_lets_others_go_first_and_comes_before_those_behind_it,
                one_that_is_put_off_gives_up_its_turn,
                what_is_due_later_asks_for_its_turn_then,
                a_failed_one_gives_up_its_turn_and_asks_again_when_it_is_repaired,
                one_that_kills_its_workers_gives_up_its_turn,
                one_that_is_cancelled_gives_up_its_turn_and_one_that_waits_is_passed_over,
                one_that_is_cancelled_while_it_runs_gives_up_its_turn_with_its_end,
                chunks_that_are_gone_leave_no_turn,
                never_come_in_larger_number_than_can_start_at_once,
                a_raised_limit_holds_from_the_next_job_on,
                a_rate_lets_so_many_start_in_any_period,
                a_rate_that_comes_with_one_lane_holds_in_all,
                a_retry_is_a_start,
                what_a_worker_gives_back_has_counted_as_a_start,
                jobs_without_a_key_are_not_limited,
                of_a_job_that_does_not_come_is_refused,
                of_one_key_that_lets_many_in_at_once_keeps_its_bounds,
                of_a_thousand_keys_keeps_its_bounds,
            }
            unique {
                fresh_refuses_a_second_one_and_names_the_first,
                repeated_command_is_answered_the_same,
                answer_lost_is_not_its_own_second,
                lease_taken_back_keeps_the_key,
                until_it_has_settled,
                until_it_has_started,
                for_a_time,
                for_a_time_that_is_over_leaves_the_next_one_its_key,
                one_of_two_that_come_together,
                with_a_limit_of_its_own,
                cancelled_frees_the_key,
                put_off_holds_the_key_meanwhile,
            }
            lane {
                is_listed_by_its_state_alone,
                hands_out_in_the_order_of_the_calls,
                a_higher_priority_goes_first,
                waits_no_longer_than_a_rotation_beside_a_workflow,
                forgets_what_nobody_wants_with_the_last_of_its_chunk,
                keeps_an_output_for_its_time,
                keeps_a_chunk_as_long_as_the_longest_of_its_jobs,
                forgets_what_was_kept_once_the_last_of_its_chunk_has_settled,
                tries_again_and_forgets_then,
                failed_jobs_are_retried_by_a_command,
                what_is_put_off_starts_at_its_time,
                what_was_put_off_comes_behind_what_waits,
                a_job_that_kills_its_workers_fails_and_is_kept,
                of_thousands_of_calls_keeps_its_bounds,
            }
            cancel_jobs {
                fresh_is_never_handed_out,
                repeated_is_answered_the_same,
                answer_lost_cancels_once,
                lease_taken_back_cancels_what_was_to_be_stopped,
                lease_given_back_cancels_what_was_to_be_stopped,
                paused_queue_has_them_cancelled_all_the_same,
                cancelling_workflow_is_no_lane,
                deleted_workflow_is_not_there,
                what_is_under_a_lease_is_told_by_the_renewal_and_by_the_report,
                what_succeeds_in_time_counts,
                what_would_run_again_does_not,
                retrying_and_deferred_jobs_lose_their_timers,
                is_kept_for_its_time_or_not_at_all,
                what_is_gone_stops_no_timer_and_no_entry,
                beyond_one_chunk_is_refused,
                of_a_whole_chunk_keeps_its_bounds,
            }
            deadline {
                fresh_cancels_what_waits_at_its_time_and_not_before,
                repeated_enqueue_keeps_one,
                answer_lost_of_the_tick_cancels_once,
                lease_taken_back_behind_it_cancels,
                paused_queue_lets_them_pass,
                cancelled_before_has_nothing_left_to_do,
                deleted_with_its_chunk,
                what_settled_in_time_stays_as_it_is,
                what_retries_or_is_put_off_is_cancelled_too,
                is_what_the_next_tick_waits_for,
                of_jobs_that_do_not_come_is_refused,
                of_many_times_keeps_its_bounds,
            }
            checkpoint {
                fresh_is_read_back_and_forgotten_with_the_job,
                repeated_takes_the_place_of_the_one_before,
                answer_lost_is_saved_all_the_same,
                lease_taken_back_goes_on_elsewhere_and_refuses_the_dead,
                paused_is_saved,
                cancelling_is_forgotten_with_the_job,
                deleted_leaves_nothing,
                is_kept_over_a_retry,
                of_a_job_that_is_reported_already_is_refused,
                of_a_lone_job_is_forgotten_when_it_is_cancelled,
                of_a_job_that_kills_its_workers_is_forgotten,
                of_256_kib_keeps_its_bounds,
            }
            put_schedule {
                fresh_is_listed_with_all_that_it_is,
                repeated_keeps_its_next_instant,
                answer_lost_keeps_one,
                without_a_next_instant_takes_the_one_that_it_is_given_later,
                with_another_definition_goes_on_and_with_another_rule_begins_anew,
                paused_stays_paused,
                deleted_begins_anew,
                many_are_listed_by_name_page_by_page,
            }
            change_schedule {
                fresh_pauses_resumes_and_removes,
                repeated_is_done_once,
                answer_lost_is_changed_all_the_same,
                deleted_tells_that_there_is_none,
                a_move_to_another_shard_leaves_what_is_due_to_its_start,
                a_removal_takes_the_history_with_it_whatever_its_length,
            }
            fire {
                fresh_enqueues_a_job_an_instant_and_moves_on,
                repeated_fires_once,
                answer_lost_fires_once,
                of_many_at_once_one_does,
                lease_taken_back_gives_the_start_to_another,
                paused_fires_by_hand_alone,
                deleted_fires_nothing,
                is_due_at_its_time_and_not_before,
                at_its_last_instant_is_due_no_more,
                what_was_passed_over_is_one_row,
                of_more_than_its_bound_is_refused,
                keeps_a_thousand_that_are_decided_and_all_that_are_not,
                a_start_job_that_came_to_nothing_is_on_record_as_failed,
            }
            skip {
                fresh,
                repeated,
                answer_lost,
                lease_taken_back,
                paused,
                cancelling,
                deleted,
            }
            wait {
                fresh,
                repeated,
                answer_lost,
                lease_taken_back,
                paused,
                cancelling,
                deleted,
                goes_in_order_whoever_asks_first,
                is_not_held_up_by_a_start_that_has_failed,
            }
            wait_one {
                fresh,
                repeated,
                answer_lost,
                lease_taken_back,
                paused,
                cancelling,
                deleted,
                leaves_out_what_comes_while_one_waits,
                waits_while_the_one_before_it_is_being_built,
                leaves_out_what_comes_while_one_waits_and_another_is_about_to_start,
            }
            cancel_other {
                fresh,
                repeated,
                answer_lost,
                lease_taken_back,
                paused,
                cancelling,
                deleted,
            }
            allow {
                fresh,
                repeated,
                answer_lost,
                lease_taken_back,
                paused,
                cancelling,
                deleted,
                of_a_schedule_that_is_gone_starts_nothing,
            }
            missed_last {
                fresh,
                repeated,
                answer_lost,
                lease_taken_back,
                paused,
                cancelling,
                deleted,
            }
            missed_all {
                fresh,
                repeated,
                answer_lost,
                lease_taken_back,
                paused,
                cancelling,
                deleted,
            }
            missed_none {
                fresh,
                repeated,
                answer_lost,
                lease_taken_back,
                paused,
                cancelling,
                deleted,
            }
            set_paused {
                fresh_hands_out_nothing_of_a_queue,
                fresh_hands_out_nothing_of_a_type,
                repeated_is_paused_once,
                answer_lost_is_paused_all_the_same,
                lease_taken_back_waits_for_the_resume,
                paused_workflow_and_paused_queue_are_two_things,
                cancelling_needs_no_resume,
                deleted_leaves_the_queue_paused,
                lone_jobs_wait_too,
                a_report_counts_and_releases,
                a_resume_wakes_who_is_idle,
                tells_why_it_waits,
            }
            claim {
                fresh_tells_all_that_a_worker_needs,
                repeated_with_the_next_numbers_takes_other_jobs,
                answer_lost_grants_nothing_new_and_tells_what_is_held,
                answer_lost_tells_only_what_has_not_been_reported,
                lease_taken_back_is_not_granted_again_by_its_number,
                lease_taken_back_comes_first_and_open_only,
                paused_grants_nothing_and_parks,
                cancelling_grants_nothing,
                deleted_grants_nothing,
                by_an_unknown_session_is_answered_so,
                takes_named_types_and_queues_only,
                without_a_free_slot_finds_nothing_in_a_limited_step,
                keeps_to_its_budget_and_number_of_leases,
                takes_at_most_half_of_an_equal_share,
                never_spans_two_chunks,
                a_waiting_step_is_not_handed_out,
                tells_the_attempts_used,
            }
            turns {
                beside_a_backlog_another_workflow_starts_in_one_rotation,
                workflows_alternate_claim_after_claim,
                twenty_workflows_all_start_within_twenty_slices,
                steps_of_a_workflow_alternate,
                types_alternate,
                the_higher_priority_goes_first,
                priority_decides_over_workflows_too,
                a_limit_is_exact_over_two_workers,
                a_limit_is_free_again_after_a_death,
                a_limit_is_free_again_after_what_was_given_back_or_waits,
                a_limited_slice_fits_what_can_start_at_once,
                a_step_at_its_limit_holds_up_no_other,
                a_step_at_its_limit_tells_that_it_is_parked,
            }
            wake {
                a_new_workflow_wakes_one_idle_worker,
                one_worker_for_each_kind_of_work,
                a_worker_that_knows_both_kinds_is_enough,
                nobody_who_could_not_run_it,
                who_took_the_last_work_and_has_a_slot_left,
                who_finds_more_than_it_takes_wakes_the_next,
                a_report_wakes_for_what_it_releases,
                a_resume_wakes,
                a_tick_wakes_for_what_is_due,
                who_leaves_wakes_another_for_what_it_held,
            }
            report {
                fresh_settles_and_counts_one_attempt,
                repeated_changes_nothing,
                repeated_behind_a_later_one_changes_nothing,
                answer_lost_of_the_last_one_counts_once,
                answer_lost_of_a_retry_counts_one_attempt,
                lease_taken_back_is_refused_as_a_whole,
                lease_taken_back_and_run_by_another_is_refused,
                past_the_deadline_counts_until_somebody_takes_back,
                paused_counts_and_releases_but_hands_nothing_out,
                paused_workflow_finishes_with_its_last_job,
                cancelling_counts_what_ran_and_cancels_the_rest,
                deleted_is_refused,
                one_refused_part_leaves_the_others_counting,
                of_more_leases_than_allowed_is_refused_as_a_whole,
                of_more_waits_than_allowed_is_refused_as_a_whole,
                that_names_a_job_twice_is_refused,
                that_names_jobs_of_another_lease_is_refused,
                beyond_the_last_attempt_is_refused,
                what_is_given_back_comes_first_and_has_used_no_attempt,
                keeps_the_open_record_whole_and_begins_the_next,
                without_a_record_leaves_those_before_it_as_they_are,
                postponed_runs_later_and_has_used_no_attempt,
                postponed_of_a_cancelled_workflow_does_not_come_back,
                skipped_settles_without_a_failure,
                releases_each_follower_once,
                by_a_session_that_has_left_is_refused,
            }
            source {
                its_jobs_appear_with_its_success,
                without_jobs_its_step_settles_at_once,
                that_failed_releases_nothing_until_it_is_repaired,
                whose_draft_is_dropped_leaves_nothing_of_it,
                whose_draft_is_gone_cannot_succeed,
                reports_again_and_adopts_once,
                that_succeeds_within_the_grace_of_a_cancel_adds_no_jobs,
                two_sources_fill_two_steps,
            }
            error_table {
                like_texts_are_counted_together,
                tells_which_texts_it_holds,
                holds_a_thousand_texts_and_counts_the_others_together,
                counts_together_what_one_operation_cannot_note,
                follows_a_retry,
                follows_jobs_that_fail_between_a_command_and_its_chore,
                follows_a_cancel_that_overtakes_a_retry,
            }
            tick {
                fresh_on_an_idle_store_has_nothing_to_do,
                fresh_tells_whether_jobs_are_ready,
                fresh_tells_when_the_next_thing_is_due,
                repeated_takes_a_lease_back_once,
                answer_lost_makes_a_timer_due_once,
                lease_taken_back_not_before_its_time,
                paused_makes_due_but_hands_nothing_out,
                cancelling_makes_no_timer_due,
                deleted_is_gone_to_the_last_row,
                ends_drafts_that_nobody_renews,
                ends_sessions_that_do_not_renew,
                goes_on_with_what_a_creation_left,
            }
            timers {
                a_retry_is_due_at_its_time_and_keeps_its_attempts,
                a_retry_time_is_rounded_up_to_an_eighth_of_its_wait,
                a_retry_comes_before_what_has_not_run,
                a_step_waits_its_delay_once_what_is_before_it_has_settled,
                a_first_step_can_be_delayed_too,
                a_delayed_step_that_is_cancelled_never_runs,
                many_timers_are_all_made_due,
            }
            lease_time {
                an_outage_or_a_jump_of_the_clock_costs_nobody_a_lease,
                a_clock_that_jumped_back_does_not_make_leases_last,
                two_looks_far_apart_move_it_by_half_a_lease_each,
                the_shortest_lease_decides_how_far_one_look_moves_it,
                a_claim_of_another_worker_takes_nothing_back,
            }
            recovery {
                the_first_death_costs_no_delay,
                from_the_second_death_on_it_is_halved_and_runs_with_nothing_beside_it,
                who_was_asked_to_drain_hears_that_another_took_the_suspect,
                a_suspect_slice_is_halved_down_to_the_killer,
                a_job_that_kills_alone_once_too_often_fails,
                by_default_a_job_may_kill_three_workers_alone,
                a_suspect_that_succeeds_is_one_no_more,
                a_suspect_that_is_given_back_stays_one,
                while_a_suspect_runs_its_worker_is_told_to_want_nothing,
                jobs_that_have_settled_take_no_part,
                two_who_die_of_different_slices_are_told_apart,
            }
            table {
                succeeded_after_is_released,
                succeeded_after_settled_is_released,
                succeeded_after_failure_is_skipped,
                succeeded_always_is_released,
                skipped_after_is_released,
                skipped_after_settled_is_released,
                skipped_after_failure_is_skipped,
                skipped_always_is_released,
                skipped_source_skips_what_it_feeds,
                failed_after_waits,
                failed_after_settled_is_released,
                failed_after_failure_is_released,
                failed_always_is_released,
                failed_source_lets_wait_what_it_feeds,
                cancelled_after_is_cancelled,
                cancelled_after_settled_is_cancelled,
                cancelled_after_failure_is_cancelled,
                cancelled_always_is_released,
                cancelled_source_cancels_what_it_feeds,
                of_several_a_wait_is_stronger_than_a_skip,
                of_several_a_skip_is_stronger_than_a_release,
                of_several_a_wait_is_stronger_than_a_release,
                of_several_all_must_have_settled,
                of_several_a_cancel_is_the_strongest,
                two_edges_between_the_same_steps_both_count,
                a_skip_goes_on_down_a_chain_of_failure_handlers,
                independent_branches_run_to_their_end,
            }
            tolerance {
                none_fails_with_the_first,
                jobs_up_to_exactly_that_many,
                a_fraction_up_to_exactly_that_share,
                all_may_fail_if_all_are_tolerated,
                a_fraction_is_of_all_the_jobs_that_a_source_emitted,
                a_failure_within_it_settles_nothing_early,
            }
            permit {
                fresh_grants_what_is_free,
                repeated_sets_the_same_once_more,
                answer_lost_harms_nobody,
                lease_taken_back_keeps_them_for_a_lease_more,
                paused_type_keeps_its_permits,
                cancelling_gives_them_back_like_any_other,
                deleted_session_is_answered_so,
                renewed_are_kept,
                of_more_limits_than_one_call_may_speak_of_are_refused,
                of_a_queue_and_of_a_type_are_told_apart,
                raised_and_lowered_what_the_newest_session_says_counts,
                given_back_wake_who_was_refused,
                go_in_turns_among_those_who_wait,
                of_a_rate_come_again_when_the_period_is_over,
                of_a_rate_that_were_not_used_are_free_at_once,
                of_a_rate_that_a_dead_session_had_count_as_used,
                of_both_grant_what_both_allow,
                say_what_a_claim_may_take,
                of_a_queue_say_what_a_claim_may_take_of_all_its_types,
                never_bring_more_than_can_start_at_once,
                share_what_can_start_at_once_with_other_limits,
                hold_a_suspect_slice_to_its_limit,
                of_the_most_limits_that_all_have_waiting_sessions_keep_the_bound,
            }
            cancel {
                fresh_comes_to_its_end,
                repeated_counts_what_runs_within_its_grace_and_no_more,
                answer_lost_after_its_end_changes_nothing,
                lease_taken_back_at_the_end_of_the_grace,
                paused_workflow_is_cancelled,
                cancelling_again_does_not_lengthen_the_grace,
                a_silent_worker_loses_its_leases_with_the_grace,
                deleted_is_not_found,
                finished_is_refused,
                drops_what_waits_for_its_retry,
                leaves_what_has_settled_as_it_is,
                an_always_step_runs_behind_what_was_cancelled,
                an_always_step_keeps_its_lease_past_the_grace,
                an_always_step_retries_and_outlives_its_worker,
                an_always_step_that_a_pause_has_parked_runs,
                an_always_step_behind_another_runs_too,
                jobs_that_were_stopped_count_as_cancelled,
                harms_no_other_workflow,
            }
            pause {
                fresh_hands_nothing_out_and_lets_run_what_runs,
                repeated_needs_one_resume,
                answer_lost_behind_a_claim_that_parked,
                lease_taken_back_is_handed_to_nobody,
                paused_before_its_first_claim_is_not_started,
                cancelling_is_refused,
                deleted_is_not_found,
                finished_is_refused,
                holds_up_no_other_workflow,
            }
            resume {
                fresh_hands_out_again_in_order,
                repeated_changes_nothing,
                answer_lost_wakes_nobody_twice,
                lease_taken_back_meanwhile_is_handed_out,
                paused_again_hands_nothing_out,
                cancelling_is_refused,
                deleted_is_not_found,
                finished_is_refused,
                brings_back_more_lines_than_one_operation_does,
                brings_back_a_step_that_was_at_its_limit,
            }
            retry {
                fresh_brings_failed_jobs_back_with_new_attempts,
                repeated_number_retries_nothing_that_failed_since,
                answer_lost_before_its_chore_is_done_retries_once,
                older_command_is_refused_as_unknown,
                lease_taken_back_too_often_is_repaired_like_any_failure,
                paused_waits_for_the_resume,
                cancelling_is_refused,
                deleted_is_not_found,
                by_an_unknown_session_is_answered_so,
                where_nothing_failed_changes_nothing,
                of_one_step_leaves_the_others_failed,
                lets_no_follower_run_before_it_has_been_repaired,
                keeps_what_has_succeeded,
                keeps_the_generation,
                a_follower_that_has_run_runs_no_second_time,
                in_bites_settles_nothing_between_two_of_them,
                that_fails_again_lets_its_followers_wait_again,
            }
            discard {
                fresh_skips_what_failed_and_what_waits_goes_on,
                repeated_number_discards_once,
                answer_lost_discards_once,
                lease_taken_back_goes_on_beside_it,
                paused_discards_all_the_same,
                cancelling_is_refused,
                deleted_is_not_found,
                of_one_step_leaves_the_others_failed,
                lone_jobs_are_forgotten_at_once,
                of_many_chunks_keeps_its_bounds,
            }
            mended {
                only_those_with_new_parameters_run_again,
                are_not_valid_before_the_retry,
                two_sets_are_both_fed_again,
                later_ones_replace_earlier_ones,
                for_another_chunk_are_dropped_and_harm_nobody,
                whose_draft_is_gone_retry_nothing,
                of_another_step_are_refused,
                belong_to_one_step,
            }
            delete {
                fresh_takes_it_off_all_lists_at_once,
                repeated_while_its_chore_runs_is_no_error,
                answer_lost_after_its_end_is_not_found,
                lease_taken_back_first_by_a_cancel,
                paused_is_refused,
                cancelling_is_refused,
                deleted_leaves_the_others_whole,
                takes_mended_parameters_along,
            }
            keep {
                fresh_expires_so_long_from_now,
                repeated_counts_from_the_last_one,
                answer_lost_is_asked_again,
                lease_taken_back_runs_again_and_is_not_deleted,
                paused_is_never_deleted,
                cancelling_is_not_deleted_before_its_end,
                deleted_is_not_found,
                pinned_before_its_end_is_kept,
            }
            retention {
                keeps_success_a_week_and_failure_a_month,
                counts_from_the_last_end_of_what_is_repaired,
                of_what_is_started_again_counts_from_its_new_end,
                by_number_keeps_those_that_finished_last,
                deletes_many_in_bites_with_pauses_between,
                deletes_a_large_one_beside_the_work_of_others,
                tells_when_the_next_expires,
            }
            workflow {
                fresh_shows_all_of_it,
                fresh_follows_it_to_its_end,
                repeated_is_the_same,
                answer_lost_stops_nobody,
                lease_taken_back_shows_no_end_of_its_jobs,
                paused_is_shown_and_then_what_it_was,
                cancelling_is_shown_until_what_runs_has_ended,
                deleted_is_not_found,
            }
            workflows {
                fresh_is_newest_first,
                fresh_by_name_and_time,
                repeated_page_by_page_shows_each_once,
                answer_lost_shows_the_same_page_again,
                lease_taken_back_is_still_listed_as_running,
                paused_is_listed_by_that,
                cancelling_is_listed_by_that_and_then_as_cancelled,
                deleted_is_not_listed,
            }
            steps {
                fresh_shows_what_they_were_created_as,
                fresh_follows_each_to_its_end,
                repeated_page_by_page_shows_each_once,
                answer_lost_shows_the_same_again,
                lease_taken_back_shows_nothing_as_running,
                paused_still_shows_what_runs,
                cancelling_shows_which_have_ended,
                deleted_is_not_found,
            }
            step_named {
                fresh_finds_it_by_its_whole_name,
                repeated_is_the_same_as_by_number,
                answer_lost_finds_it_again,
                lease_taken_back_shows_nothing_as_running,
                paused_is_found,
                cancelling_shows_its_end,
                deleted_is_not_found,
            }
            edges {
                fresh_are_seen_from_both_ends,
                repeated_up_to_a_limit,
                answer_lost_shows_the_same_again,
                lease_taken_back_shows_the_step_before_as_running,
                paused_shows_what_settled_meanwhile,
                cancelling_shows_what_is_cancelled_behind,
                deleted_is_not_found,
            }
            parameters {
                fresh_are_those_of_each_chunk,
                fresh_come_with_a_slice_of_a_few_small_jobs,
                repeated_are_the_same_after_all_has_run,
                answer_lost_are_read_again,
                lease_taken_back_are_there_for_the_next,
                paused_can_be_read,
                cancelling_can_be_read_to_the_end,
                deleted_are_not_found,
            }
            outcomes {
                fresh_shows_each_chunk_in_order,
                repeated_page_by_page_shows_every_record_once,
                answer_lost_shows_the_same_again,
                lease_taken_back_keeps_what_it_reported_before,
                paused_shows_what_has_ended,
                cancelling_shows_what_is_cancelled_and_what_runs,
                deleted_is_not_found,
            }
            errors {
                fresh_are_of_one_step,
                repeated_are_the_same,
                answer_lost_are_shown_again,
                lease_taken_back_is_none,
                paused_are_counted_as_ever,
                cancelling_keeps_them,
                deleted_is_not_found,
            }
            waiting {
                fresh_counts_who_could_run_it,
                fresh_names_who_holds_its_jobs,
                repeated_tells_the_next_time,
                answer_lost_is_told_again,
                lease_taken_back_holds_nothing,
                paused_is_parked_from_the_first_claim_on,
                cancelling_names_its_chore,
                retried_names_its_hold_or_its_chore,
                deleted_is_not_found,
            }
            size {
                fresh_counts_parameters,
                repeated_is_the_same,
                answer_lost_is_told_again,
                lease_taken_back_is_as_before,
                paused_is_as_before,
                cancelling_is_as_before,
                deleted_is_not_found,
                what_ran_has_outcomes,
            }
            whereabouts {
                fresh_is_in_its_line,
                repeated_follows_the_job,
                answer_lost_is_told_again,
                lease_taken_back_is_in_its_line_again,
                paused_keeps_its_worker,
                cancelling_is_in_no_line,
                deleted_is_not_found,
            }
            workers {
                fresh_shows_each_with_what_it_holds,
                repeated_up_to_a_limit,
                answer_lost_shows_them_again,
                lease_taken_back_is_held_no_more,
                paused_keeps_what_it_holds,
                cancelling_holds_nothing_after_the_grace,
                deleted_workflow_is_held_by_nobody,
            }
            doctor {
                fresh_finds_an_empty_store_at_rest,
                repeated_recounts_everything_each_time,
                answer_lost_stops_nobody,
                lease_taken_back_is_not_counted,
                paused_is_under_way,
                cancelling_is_under_way_until_it_has_ended,
                deleted_is_not_counted,
            }
            bounds {
                a_report_of_24_leases_whose_jobs_all_fail_with_texts_of_their_own,
                a_step_with_10_000_followers_is_released,
                a_chain_of_10_000_empty_steps_settles,
                a_retry_of_a_million_failed_jobs,
                a_delete_of_ten_million_jobs,
                a_cancel_of_a_million_jobs,
                a_tick_with_1_000_leases_that_have_ended,
                a_resume_with_500_parked_lines,
                a_claim_over_64_lines,
                a_report_that_settles_24_steps_with_200_followers_each,
                a_leave_with_500_leases,
                are_counted_for_each_verb,
            }
        }
    };
}

/// Makes the list that [`run`] looks cases up in.
macro_rules! cases_by_name {
    ($($module:ident { $($case:ident,)+ })+) => {
        const CASES: &[(&str, Case)] = &[$($(
            (concat!(stringify!($module), "::", stringify!($case)), |scene| Box::pin($module::$case(scene))),
        )+)+];
    };
}
conformance_table!(cases_by_name);

/// Makes a test of each case.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($($module:ident { $($case:ident,)+ })+) => {
        $(mod $module {
            $(#[::tokio::test]
            async fn $case() {
                let name = concat!(stringify!($module), "::", stringify!($case));
                $crate::testing::conformance::run(name, super::store_of_conformance_tests).await;
            })+
        })+
    };
}

/// Makes a `#[tokio::test]` of each conformance case, named after a verb and a situation, and one that prints how many there are.
///
/// `factory` is called once a case, as `Fn(Clock, Duration) -> impl Future<Output = Arc<dyn Store>>`: it opens a fresh, empty store
/// that reads the time from that clock only and whose leases last that long. Call it once a module; the crate that calls it needs
/// `tokio` with the features `macros` and `rt`.
#[macro_export]
macro_rules! store_tests {
    ($factory:expr) => {
        async fn store_of_conformance_tests(
            clock: $crate::Clock,
            lease: ::std::time::Duration,
        ) -> ::std::sync::Arc<dyn $crate::store::Store> {
            ($factory)(clock, lease).await
        }

        #[test]
        fn how_many_cases_there_are() {
            $crate::testing::conformance::print_count();
        }

        $crate::conformance_table!($crate::conformance_tests);
    };
}

/// How many cases there are.
pub fn count() -> usize {
    CASES.len()
}

/// Prints how many cases there are, also where the output of tests is captured.
pub fn print_count() {
    let mut names: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count(), "every case has a name of its own");
    writeln!(std::io::stdout(), "{} conformance cases", count()).expect("the count can be printed");
}

/// Plays one case on a store that `open` makes for it. The panic of a case that fails names it.
pub async fn run(name: &str, open: impl AsyncFnOnce(Clock, Duration) -> Arc<dyn Store>) {
    let found = CASES.iter().find(|(other, _)| *other == name);
    let (_, case) = found.unwrap_or_else(|| panic!("there is no conformance case `{name}`"));
    let clock = Clock::manual(START);
    let store = open(clock.clone(), Duration::from_millis(LEASE.unsigned_abs())).await;
    let played = AssertUnwindSafe(async {
        let scene = Scene::new(store, clock).await;
        case(&scene).await;
        scene.sweep().await;
    });
    if let Err(panic) = played.catch_unwind().await {
        panic!("conformance case {name}: {}", crate::job::panic_text(panic.as_ref()));
    }
}
