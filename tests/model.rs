//! The SQLite store against the naive model, on random workflows and operations.

use std::sync::Arc;

use gusher::store::sqlite::{Options, SqliteStore};
use gusher::testing::model::play_seeds;

/// As many seeds as `GUSHER_SEEDS` says, from `GUSHER_FIRST_SEED` on, on `GUSHER_THREADS` threads.
#[test]
fn the_store_shows_what_the_model_says() {
    let seeds: u64 =
        std::env::var("GUSHER_SEEDS").map_or(500, |seeds| seeds.parse().expect("GUSHER_SEEDS is a number"));
    let first: u64 = std::env::var("GUSHER_FIRST_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let threads: u64 = std::env::var("GUSHER_THREADS").map_or(2, |t| t.parse().expect("a number"));
    let started = std::time::Instant::now();
    let played: u64 = std::thread::scope(|scope| {
        let games = (0..threads).map(|thread| {
            scope.spawn(move || {
                play_seeds((first + thread..first + seeds).step_by(threads as usize), |clock, lease| async move {
                    let options = Options { clock, lease, ..Options::in_memory() };
                    Arc::new(SqliteStore::open(options).unwrap()) as Arc<dyn gusher::store::Store>
                })
            })
        });
        let games: Vec<_> = games.collect();
        games.into_iter().map(|game| game.join().unwrap().unwrap_or_else(|wrong| panic!("{wrong}"))).sum()
    });
    println!("{played} seeds in {:?}", started.elapsed());
    assert_eq!(played, seeds);
}
