//! The SQLite store against the naive model, on random workflows and operations.

#[path = "support/environment.rs"]
mod environment;

use std::sync::Arc;
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
    let play = |thread| {
        play_seeds((first + thread..first + seeds).step_by(threads as usize), |clock, lease| async move {
            let options = Options { clock, lease, ..Options::in_memory() };
            Arc::new(SqliteStore::open(options).unwrap()) as Arc<dyn Store>
        })
    };
    let played: u64 = std::thread::scope(|scope| {
        let games: Vec<_> = (0..threads).map(|thread| scope.spawn(move || play(thread))).collect();
        games.into_iter().map(|game| game.join().unwrap().unwrap_or_else(|wrong| panic!("{wrong}"))).sum()
    });
    println!("{played} seeds in {:?}", started.elapsed());
    assert_eq!(played, seeds);
}
