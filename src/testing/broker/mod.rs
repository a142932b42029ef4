//! The conformance suite of brokers: what every one must do, and that workflows come out right over it, however hostile it is.
//!
//! [`broker_tests!`](crate::testing::broker_tests) turns each case into a test. Those of `carriage` go through whole workflows, real workers
//! and a store in memory; [`carriage_tests!`](crate::testing::carriage_tests) plays just these, also over the store's own lines.
//!
//! ```no_run
//! mod my_broker {
//!     use std::sync::Arc;
//!
//!     use gusher::broker::Broker;
//!     use gusher::testing::broker::InProcess;
//!
//!     async fn fresh() -> Arc<dyn Broker> {
//!         Arc::new(InProcess::default())
//!     }
//!
//!     gusher::testing::broker_tests!(fresh);
//! }
//! # fn main() {}
//! ```

pub mod carriage;
pub mod delivery;
mod hostile;
mod in_process;
mod rig;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use self::hostile::Hostile;
pub use self::in_process::InProcess;
use crate::broker::Broker;
#[doc(inline)]
pub use crate::{broker_tests, carriage_tests};

type Case = fn(Option<Arc<dyn Broker>>) -> BoxFuture<'static, ()>;

/// Every case there is. Passes the list on to the macro `$then`.
#[doc(hidden)]
#[macro_export]
macro_rules! broker_table {
    ($then:path) => {
        $then! {
            delivery {
                what_is_published_arrives_as_it_was,
                nothing_arrives_in_another_queue,
                what_is_not_acknowledged_comes_again,
                what_is_acknowledged_comes_no_more,
                a_receive_that_is_dropped_loses_nothing,
                what_is_acknowledged_while_another_waits_is_acknowledged,
                no_more_arrive_at_once_than_were_asked_for,
                a_thousand_arrive,
                what_is_set_aside_is_found_aside,
                what_is_no_message_of_ours_is_counted_and_stops_nobody,
                slices_in_flight_stay_under_their_bound,
            }
        }
    };
}

/// Every case of whole workflows.
#[doc(hidden)]
#[macro_export]
macro_rules! carriage_table {
    ($then:path) => {
        $then! {
            carriage {
                every_row_runs_and_one_report_comes_after_them,
                a_hostile_broker_harms_nothing,
                retries_and_delays_wait_in_the_store,
                a_type_that_one_worker_does_not_know_is_run_by_another,
                a_worker_that_dies_costs_its_own_jobs_a_recovery_and_no_others,
                a_job_that_kills_its_workers_fails_alone,
                beside_a_slice_that_may_kill_its_worker_nothing_starts,
                a_live_queue_moves_from_one_way_to_another_and_back,
                a_cancelled_workflow_ends,
                a_paused_workflow_waits_and_goes_on,
                queues_of_one_program_go_different_ways,
            }
        }
    };
}

/// Makes the list that [`run`] looks cases up in.
macro_rules! cases_by_name {
    ($($module:ident { $($case:ident,)+ })+) => {
        pub const CASES: &[(&str, super::Case)] = &[$($(
            (concat!(stringify!($module), "::", stringify!($case)), |broker| Box::pin(super::$module::$case(broker))),
        )+)+];
    };
}
mod of_brokers {
    broker_table!(cases_by_name);
}
mod of_any_way {
    carriage_table!(cases_by_name);
}

/// Makes a test of each case.
#[doc(hidden)]
#[macro_export]
macro_rules! broker_case_tests {
    ($($module:ident { $($case:ident,)+ })+) => {
        $(mod $module {
            $(#[::tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let name = concat!(stringify!($module), "::", stringify!($case));
                $crate::testing::broker::run(name, super::broker_of_these_tests().await).await;
            })+
        })+
    };
}

/// Makes a `#[tokio::test]` of each case of the brokers' suite.
///
/// `factory` is called once a case, as `Fn() -> impl Future<Output = Arc<dyn Broker>>`; all cases may share one server, for each has queues of
/// its own. Messages that were received and not acknowledged must come again within ten seconds. The crate that calls it needs `tokio` with
/// the features `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! broker_tests {
    ($factory:expr) => {
        async fn broker_of_these_tests() -> ::std::option::Option<::std::sync::Arc<dyn $crate::broker::Broker>> {
            ::std::option::Option::Some(($factory)().await)
        }

        $crate::broker_table!($crate::broker_case_tests);
        $crate::carriage_table!($crate::broker_case_tests);
    };
}

/// The cases of whole workflows, over the store's own lines.
#[macro_export]
macro_rules! carriage_tests {
    () => {
        async fn broker_of_these_tests() -> ::std::option::Option<::std::sync::Arc<dyn $crate::broker::Broker>> {
            ::std::option::Option::None
        }

        $crate::carriage_table!($crate::broker_case_tests);
    };
}

/// Plays one case over a broker, or over the store's own lines. The panic of a case that fails names it.
pub async fn run(name: &str, broker: Option<Arc<dyn Broker>>) {
    let found = of_brokers::CASES.iter().chain(of_any_way::CASES).find(|(other, _)| *other == name);
    let (_, case) = found.unwrap_or_else(|| panic!("there is no case `{name}` of brokers"));
    case(broker).await;
}
