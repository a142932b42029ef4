//! The conformance suite on a real Redis: every case has a prefix of its own on one server.

mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gusher::Clock;
use gusher::store::Store;
use gusher::store::redis::{Options, RedisStore};
use servers::Server;

/// One server for all cases. It is stopped with this process (a static is never dropped).
static SERVER: std::sync::LazyLock<Server> = std::sync::LazyLock::new(Server::redis);
static CASES: AtomicU64 = AtomicU64::new(0);

async fn open(clock: Clock, lease: Duration) -> Arc<dyn Store> {
    let prefix = format!("case-{}", CASES.fetch_add(1, Ordering::Relaxed));
    let options = Options { prefix, lease, clock, host: "test".into(), ..Options::new(SERVER.url()) };
    Arc::new(RedisStore::open(options).await.unwrap())
}

gusher::testing::store_tests!(open);
