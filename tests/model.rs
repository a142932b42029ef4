//! The SQLite store against the naive model, on random workflows and operations.

#[path = "support/environment.rs"]
mod environment;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use environment::number;
use gusher::store::Store;
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::testing::model::play_seeds;

/// As many seeds as `GUSHER_SEEDS` says, from `GUSHER_FIRST_SEED` on, on `GUSHER_THREADS` threads.
#[test]
fn the_store_shows_what_the_model_says() {
    let (first, seeds, threads) =
        (number("GUSHER_FIRST_SEED", 0), number("GUSHER_SEEDS", 500), number("GUSHER_THREADS", 2));
    let started = Instant::now();
    // Games differ in length, so each thread takes the next one when it is through with its own.
    let next = AtomicU64::new(first);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < first + seeds);
    let play = || {
        play_seeds(std::iter::from_fn(take), |clock, lease| async move {
            let options = Options { clock, lease, ..Options::in_memory() };
            Arc::new(SqliteStore::open(options).unwrap()) as Arc<dyn Store>
        })
    };
    let played: u64 = std::thread::scope(|scope| {
        let games: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        games.into_iter().map(|game| game.join().unwrap().unwrap_or_else(|wrong| panic!("{wrong}"))).sum()
    });
    println!("{played} seeds in {:?}", started.elapsed());
    assert_eq!(played, seeds);
}
