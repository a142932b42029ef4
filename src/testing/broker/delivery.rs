//! What every broker does with messages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::rig::{Does, Import, Rig};
use crate::broker::{Broker, Delivery, Message};
use crate::id::{SessionId, random_bytes};
use crate::store::LeaseName;

/// How long a message may take: beyond it something hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// So long nothing comes if nothing is to come.
const QUIET: Duration = Duration::from_millis(300);

type Given = Option<Arc<dyn Broker>>;

fn given(broker: Given) -> Arc<dyn Broker> {
    broker.expect("these cases are of a broker")
}

fn queue() -> String {
    format!("q{:016x}", u64::from_le_bytes(random_bytes()))
}

fn messages(count: u64) -> Vec<Message> {
    let session = SessionId::random();
    (1..=count).map(|lease| Message { store: 7, lease: LeaseName { session, lease }, priority: 0 }).collect()
}

async fn receive(broker: &Arc<dyn Broker>, queue: &str, most: u32) -> Vec<Delivery> {
    let received = tokio::time::timeout(PATIENCE, broker.receive(queue, most)).await;
    received.expect("a message arrives").expect("it is received")
}

async fn stays_quiet(broker: &Arc<dyn Broker>, queue: &str) -> bool {
    tokio::time::timeout(QUIET, broker.receive(queue, 9)).await.is_err()
}

async fn acknowledge(broker: &Arc<dyn Broker>, queue: &str, deliveries: &[Delivery]) {
    let receipts = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
    broker.acknowledge(queue, receipts).await.expect("an acknowledgement");
}

/// Receives and acknowledges so many different messages.
async fn receive_all(broker: &Arc<dyn Broker>, queue: &str, count: usize) -> BTreeSet<Vec<u8>> {
    let mut bodies = BTreeSet::new();
    while bodies.len() < count {
        let deliveries = receive(broker, queue, 100).await;
        acknowledge(broker, queue, &deliveries).await;
        bodies.extend(deliveries.into_iter().map(|delivery| delivery.body));
    }
    bodies
}

fn bodies(messages: &[Message]) -> BTreeSet<Vec<u8>> {
    messages.iter().map(|message| message.encode().into_bytes()).collect()
}

pub async fn what_is_published_arrives_as_it_was(broker: Given) {
    let (broker, queue, sent) = (given(broker), queue(), messages(12));
    broker.check(&queue).await.unwrap();
    broker.publish(&queue, sent.clone()).await.unwrap();
    assert_eq!(receive_all(&broker, &queue, 12).await, bodies(&sent));
}

pub async fn nothing_arrives_in_another_queue(broker: Given) {
    let broker = given(broker);
    let (one, other) = (queue(), queue());
    broker.check(&other).await.unwrap();
    broker.publish(&one, messages(1)).await.unwrap();
    assert!(stays_quiet(&broker, &other).await);
    receive_all(&broker, &one, 1).await;
}

pub async fn what_is_not_acknowledged_comes_again(broker: Given) {
    let (broker, queue) = (given(broker), queue());
    broker.publish(&queue, messages(2)).await.unwrap();
    let mut first = receive(&broker, &queue, 2).await;
    if first.len() < 2 {
        first.extend(receive(&broker, &queue, 2).await);
    }
    acknowledge(&broker, &queue, &first[..1]).await;
    broker.pause(&queue).await.unwrap();
    let again = receive(&broker, &queue, 9).await;
    assert_eq!(again.iter().map(|delivery| &delivery.body).collect::<Vec<_>>(), [&first[1].body]);
    acknowledge(&broker, &queue, &again).await;
}

pub async fn what_is_acknowledged_comes_no_more(broker: Given) {
    let (broker, queue) = (given(broker), queue());
    broker.publish(&queue, messages(3)).await.unwrap();
    receive_all(&broker, &queue, 3).await;
    broker.pause(&queue).await.unwrap();
    assert!(stays_quiet(&broker, &queue).await);
}

pub async fn a_receive_that_is_dropped_loses_nothing(broker: Given) {
    let (broker, queue, sent) = (given(broker), queue(), messages(5));
    for _ in 0..3 {
        assert!(stays_quiet(&broker, &queue).await);
    }
    broker.publish(&queue, sent.clone()).await.unwrap();
    assert_eq!(receive_all(&broker, &queue, 5).await, bodies(&sent));
}

/// A worker acknowledges while another of its process waits for messages.
pub async fn what_is_acknowledged_while_another_waits_is_acknowledged(broker: Given) {
    let (broker, queue) = (given(broker), queue());
    broker.publish(&queue, messages(1)).await.unwrap();
    let first = receive(&broker, &queue, 2).await;
    let waits = tokio::spawn({
        let (broker, queue) = (broker.clone(), queue.clone());
        async move { receive(&broker, &queue, 2).await }
    });
    tokio::time::timeout(PATIENCE, acknowledge(&broker, &queue, &first)).await.expect("it waits for nobody");
    broker.publish(&queue, messages(1)).await.unwrap();
    let second = waits.await.unwrap();
    assert_ne!(second[0].body, first[0].body);
    acknowledge(&broker, &queue, &second).await;
}

pub async fn no_more_arrive_at_once_than_were_asked_for(broker: Given) {
    let (broker, queue) = (given(broker), queue());
    broker.publish(&queue, messages(9)).await.unwrap();
    let mut seen = 0;
    while seen < 9 {
        let deliveries = receive(&broker, &queue, 2).await;
        assert!((1..=2).contains(&deliveries.len()), "{}", deliveries.len());
        acknowledge(&broker, &queue, &deliveries).await;
        seen += deliveries.len();
    }
}

pub async fn a_thousand_arrive(broker: Given) {
    let (broker, queue, sent) = (given(broker), queue(), messages(1_000));
    for some in sent.chunks(16) {
        broker.publish(&queue, some.to_vec()).await.unwrap();
    }
    assert_eq!(receive_all(&broker, &queue, 1_000).await, bodies(&sent));
}

pub async fn what_is_set_aside_is_found_aside(broker: Given) {
    let (broker, queue) = (given(broker), queue());
    broker.set_aside(&queue, b"not one of ours".to_vec()).await.unwrap();
    let aside = format!("{queue}.aside");
    assert_eq!(receive_all(&broker, &aside, 1).await, BTreeSet::from([b"not one of ours".to_vec()]));
}

pub async fn what_is_no_message_of_ours_is_counted_and_stops_nobody(broker: Given) {
    let rig = Rig::new(broker);
    let broker = given(rig.broker.clone());
    // The workers take from this queue, too.
    let aside = format!("{}.aside", rig.queue);
    for body in [b"{\"class\":\"SomebodyElsesJob\"}".to_vec(), "x".repeat(1_000).into_bytes()] {
        broker.set_aside(&rig.queue, body).await.unwrap();
    }
    broker.publish(&aside, messages(3)).await.unwrap();
    let handle = rig.start(Import { queue: aside, ..rig.import(300) }).await;
    let worker = rig.worker().await;
    rig.succeeds(&handle, 300).await;
    let counts = async || {
        let traffic = rig.traffic();
        (traffic.undecodable >= 1, traffic.oversized >= 1, traffic.foreign >= 3)
    };
    while counts().await != (true, true, true) {
        tokio::task::yield_now().await;
    }
    worker.stop().await;
    rig.at_rest().await;
}

/// Rows that never end: whoever takes one over is busy with it, and the rest of the backlog must stay in the store.
pub async fn slices_in_flight_stay_under_their_bound(broker: Given) {
    let rig = Rig::new(broker);
    let handle = rig.start(Import { does: Does::Waits, ..rig.import(10_000) }).await;
    let workers = [rig.worker().await, rig.worker().await];
    rig.notes.until(|rows| rows.len() >= 8).await;
    let leases = async || {
        let checkup = rig.store.doctor().await.expect("a checkup");
        checkup.leases
    };
    // Two workers of four slots: what they hold, and what may be in flight.
    let bound = (2 * (4 + 4)) + 8;
    // What was published while the slots were free goes back with its leases.
    let settles = async {
        while leases().await > bound {
            let _ = tokio::time::timeout(QUIET, rig.notes.started.notified()).await;
        }
    };
    tokio::time::timeout(PATIENCE, settles).await.expect("what nobody takes over goes back");
    for _ in 0..10 {
        // So long nothing else starts.
        let starts = tokio::time::timeout(QUIET, rig.notes.started.notified()).await;
        assert!(starts.is_err() || rig.notes.rows.lock().len() <= 8, "more rows run than there are slots");
        assert!(leases().await <= bound, "{} leases", leases().await);
    }
    let published = rig.traffic().published;
    assert!(published < 200, "{published} messages for eight slots that are busy");
    rig.notes.go.cancel();
    rig.succeeds(&handle, 10_000).await;
    for worker in workers {
        worker.stop().await;
    }
    rig.at_rest().await;
}
