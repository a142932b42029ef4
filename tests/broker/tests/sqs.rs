//! The brokers' suite on moto's SQS. What moto does not check of AWS stands in the guide to SQS.

use std::sync::{Arc, LazyLock};

use brokers::Moto;
use gusher::broker::{Broker, open};

/// Started once for all tests; stopped with this process (a static is never dropped).
static SERVER: LazyLock<Moto> = LazyLock::new(Moto::start);

async fn fresh() -> Arc<dyn Broker> {
    let url = tokio::task::spawn_blocking(|| SERVER.url()).await.unwrap();
    open(&url).unwrap().unwrap()
}

gusher::testing::broker_tests!(fresh);
