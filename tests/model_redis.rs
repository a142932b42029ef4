//! The Redis store against the naive model, on random workflows and operations: on one server of each kind, and on a cluster. `GUSHER_SEEDS` and
//! `GUSHER_FIRST_SEED` are heard as in `model.rs`, for a tenth of the games.

#[path = "support/environment.rs"]
mod environment;
mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use environment::number;
use gusher::store::Store;
use gusher::store::redis::{Options, RedisStore};
use gusher::testing::model::play_seeds;
use servers::{Cluster, Program, Server};

/// Plays games, each on a store of its own.
fn play(url: &str) {
    let (first, seeds) = (number("GUSHER_FIRST_SEED", 0), number("GUSHER_SEEDS", 1000) / 10);
    let games = AtomicU64::new(0);
    // The calls of a game come from this thread; what the connection does needs a runtime of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let played = play_seeds(first..first + seeds, |clock, lease| {
        let prefix = format!("game-{}", games.fetch_add(1, Ordering::Relaxed));
        let options = Options { prefix, clock, lease, ..Options::parse(url).unwrap() };
        async move { Arc::new(RedisStore::open(options).await.unwrap()) as Arc<dyn Store> }
    });
    assert_eq!(played.unwrap_or_else(|wrong| panic!("{wrong}")), seeds);
}

#[test]
fn redis_that_forgets_its_scripts_shows_what_the_model_says() {
    play(&Server::redis().forgetting_scripts().url());
}

#[test]
fn valkey_shows_what_the_model_says() {
    play(&Server::valkey().url());
}

#[test]
fn a_cluster_shows_what_the_model_says() {
    let cluster = Cluster::start(Program::Valkey);
    play(&format!("{}?shards=4", cluster.url()));
}
