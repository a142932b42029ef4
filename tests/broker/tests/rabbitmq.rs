//! The brokers' suite on a RabbitMQ server, with classic queues and with quorum queues, and what only such a server can do.

use std::sync::{Arc, LazyLock};

use brokers::RabbitMq;
use gusher::broker::{Broker, open};

/// Started once for all tests; stopped with this process (a static is never dropped).
static SERVER: LazyLock<RabbitMq> = LazyLock::new(RabbitMq::start);

async fn broker(settings: &str) -> Arc<dyn Broker> {
    let url = tokio::task::spawn_blocking(|| SERVER.url()).await.unwrap();
    open(&format!("{url}?{settings}")).unwrap().unwrap()
}

mod classic_queues {
    use super::*;

    async fn fresh() -> Arc<dyn Broker> {
        broker("queue-type=classic").await
    }

    gusher::testing::broker_tests!(fresh);
}

mod quorum_queues {
    use super::*;

    async fn fresh() -> Arc<dyn Broker> {
        broker("queue-type=quorum").await
    }

    gusher::testing::broker_tests!(fresh);
}
