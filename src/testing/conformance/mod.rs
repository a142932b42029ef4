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

#[macro_use]
mod all_cases;

mod again;
mod batches;
mod by_hand;
mod chains;
mod checkpoints;
mod children;
mod claims;
mod commands;
mod conditions;
mod creation;
mod deadlines;
mod eager;
mod fed_steps;
mod followers;
mod forwarded;
mod inspection;
mod keeping;
mod keyed;
mod keys;
mod lone;
mod lone_cancel;
mod occurrences;
mod paused;
mod pauses;
mod permits;
mod plan;
mod policies;
mod reads;
mod repair;
mod reports;
pub(crate) mod scene;
mod schedules;
mod sessions;
mod signals;
mod sources;
mod standing;
mod times;
pub(crate) mod waits;
pub(crate) mod worker;
mod worst_cases;

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use self::again::run_again;
use self::batches::{add_jobs, batch, close_batch, within};
use self::by_hand::decide_by_hand;
use self::chains::chain;
use self::checkpoints::checkpoint;
use self::children::child;
use self::claims::{claim, turns, wake};
use self::commands::{cancel, pause, resume};
use self::conditions::condition;
use self::creation::{append, create};
use self::deadlines::deadline;
use self::eager::adopt;
use self::fed_steps::{fed_step, source_step};
use self::followers::{table, tolerance};
use self::forwarded::take_over;
use self::inspection::{doctor, errors, outcomes, parameters, size};
use self::keeping::{keep, retention};
use self::keyed::{limit_of_a_key, unique};
use self::keys::{abandon, begin};
use self::lone::{enqueue, lane};
use self::lone_cancel::cancel_jobs;
use self::occurrences::{allow, cancel_other, missed_all, missed_last, missed_none, skip, wait, wait_one};
use self::paused::set_paused;
use self::pauses::resume_step;
use self::permits::permit;
use self::policies::fail_fast;
use self::reads::{edges, step_named, steps, workflow, workflows};
use self::repair::{delete, discard, mended, retry};
use self::reports::{error_table, report, source};
use self::scene::{LEASE, START, Scene};
use self::schedules::{change_schedule, fire, put_schedule};
use self::sessions::{join, leave, renew};
use self::signals::signal;
use self::sources::{fan_out, take_draft};
use self::standing::{held, waiting, whereabouts, workers};
use self::times::{lease_time, recovery, tick, timers};
use self::waits::awaited;
use self::worst_cases::bounds;
use crate::clock::Clock;
use crate::store::Store;

#[doc(inline)]
pub use crate::store_tests;

type Case = for<'s> fn(&'s Scene) -> LocalBoxFuture<'s, ()>;

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
