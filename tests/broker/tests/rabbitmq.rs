//! The brokers' suite on a RabbitMQ server, with classic queues and with quorum queues, and what only such a server can do.

use std::sync::{Arc, LazyLock};

use brokers::RabbitMq;
use gusher::SessionId;
use gusher::broker::{Broker, Message, open};
use gusher::store::LeaseName;

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

#[tokio::test]
async fn of_what_waits_in_a_classic_queue_urgent_messages_arrive_first() {
    let broker = broker("queue-type=classic").await;
    let session = SessionId::random();
    let message = |lease, priority| Message { store: 7, lease: LeaseName { session, lease }, priority };
    let sent = vec![message(1, -2), message(2, 0), message(3, 9), message(4, 0), message(5, 1)];
    broker.publish("orders", sent).await.unwrap();
    let mut arrived = Vec::new();
    while arrived.len() < 5 {
        for delivery in broker.receive("orders", 1).await.unwrap() {
            arrived.push(Message::decode(&delivery.body, 7).unwrap().lease.lease);
            broker.acknowledge("orders", vec![delivery.receipt]).await.unwrap();
        }
    }
    assert_eq!(arrived, [3, 5, 2, 4, 1]);
}

mod quorum_queues {
    use super::*;

    async fn fresh() -> Arc<dyn Broker> {
        broker("queue-type=quorum").await
    }

    gusher::testing::broker_tests!(fresh);
}
