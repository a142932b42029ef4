//! Where a test keeps its jobs: in a file or on a Redis server, which go with what holds them.

use std::any::Any;
use std::sync::Arc;

use gusher::store::Store;

use crate::servers::Server;
use crate::support::House;

/// A store of a test's own.
pub struct Place {
    pub store: Arc<dyn Store>,
    _goes_with: Box<dyn Any + Send + Sync>,
}

impl Place {
    pub fn in_a_file() -> Self {
        let house = House::new();
        Self { store: house.store.clone(), _goes_with: Box::new(house) }
    }

    pub async fn on_redis(shards: u16) -> Self {
        let server = Server::redis();
        let store = gusher::store::open(&format!("{}?shards={shards}&lease=1s", server.url())).await.unwrap();
        Self { store, _goes_with: Box::new(server) }
    }

    /// Nothing is under way, what is there is what must be, and no operation went over its bound.
    #[allow(dead_code, reason = "not every test comes to rest")]
    pub async fn check_at_rest(&self) {
        let checkup = self.store.doctor().await.unwrap();
        assert_eq!((checkup.findings, checkup.under_way), (vec![], 0));
        assert_eq!(self.store.meters().over_bounds(), Vec::new());
    }
}

/// Tests that take what is made of a [`Place`] (and of what stands behind their names), each on both stores.
macro_rules! on_both {
    ($make:path, on Redis with $shards:literal shard(s): $($case:ident($($with:expr),*))+) => {
        mod in_a_file {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case($make(Place::in_a_file() $(, $with)*).await).await;
            })+
        }
        mod on_redis {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case($make(Place::on_redis($shards).await $(, $with)*).await).await;
            })+
        }
    };
}
