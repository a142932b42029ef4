//! The conformance suite on real servers: every case has a prefix of its own on a server, or a cluster, that all cases share.

mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gusher::Clock;
use gusher::store::Store;
use gusher::store::redis::{Options, RedisStore};

static CASES: AtomicU64 = AtomicU64::new(0);

async fn open(url: String, clock: Clock, lease: Duration) -> Arc<dyn Store> {
    let prefix = format!("case-{}", CASES.fetch_add(1, Ordering::Relaxed));
    let options = Options { prefix, lease, clock, host: "test".into(), ..Options::new(url) };
    Arc::new(RedisStore::open(options).await.unwrap())
}

/// The suite on what `start` starts, once for all cases. It is stopped with this process (a static is never dropped).
macro_rules! on {
    ($name:ident, $server:ty, $start:expr) => {
        mod $name {
            use super::*;

            static SERVER: std::sync::LazyLock<$server> = std::sync::LazyLock::new(|| $start);

            async fn open(clock: Clock, lease: Duration) -> Arc<dyn Store> {
                super::open(SERVER.url(), clock, lease).await
            }

            gusher::testing::store_tests!(open);
        }
    };
}

on!(redis_7_0, servers::Server, servers::Server::redis());
on!(redis_6_2, servers::Server, servers::Server::redis_6_2());
on!(valkey_9, servers::Server, servers::Server::valkey());
on!(a_cluster, servers::Cluster, servers::Cluster::start(servers::Program::Valkey));
