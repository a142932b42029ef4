//! The conformance suite on real servers: every case has a prefix of its own on a server, or a cluster, that all cases share.

#[path = "../../servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gusher::Clock;
use gusher::store::Store;
use gusher::store::redis::{Options, RedisStore};
use servers::{Cluster, Program, Server};

static CASES: AtomicU64 = AtomicU64::new(0);

async fn open(url: String, clock: Clock, lease: Duration) -> Arc<dyn Store> {
    let prefix = format!("gusher:case-{}", CASES.fetch_add(1, Ordering::Relaxed));
    let options = Options { prefix, lease, clock, host: "test".into(), ..Options::parse(&url).unwrap() };
    Arc::new(RedisStore::open(options).await.unwrap())
}

/// The suite on a server that is started once for all cases. It is stopped with this process (a static is never dropped).
macro_rules! on {
    ($name:ident, $server:ty, $start:expr, $url:expr) => {
        mod $name {
            use super::*;

            static SERVER: std::sync::LazyLock<($server, String)> = std::sync::LazyLock::new(|| {
                let server = $start;
                let url = $url(&server);
                (server, url)
            });

            async fn open(clock: Clock, lease: Duration) -> Arc<dyn Store> {
                super::open(SERVER.1.clone(), clock, lease).await
            }

            gusher::testing::store_tests!(open);
        }
    };
}

// As a user who may do just what the guide names.
on!(redis_7_0, Server, Server::redis().forgetting_scripts(), Server::url_of_the_guides_user);
on!(redis_6_2, Server, Server::redis_6_2(), Server::url_of_the_guides_user);
on!(valkey_9, Server, Server::valkey(), Server::url);
// On its three servers, so that one has two shards. With a cluster's usual twelve, tests/redis/cluster.rs moves slots and fails over under load.
on!(a_cluster, Cluster, Cluster::start(Program::Valkey), |cluster: &Cluster| format!("{}?shards=4", cluster.url()));
