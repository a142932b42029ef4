//! How one gets to a RabbitMQ server: by TLS, as a user who may do just what is needed, and while it has an alarm.

use std::path::Path;
use std::sync::Arc;

use brokers::RabbitMq;
use gusher::SessionId;
use gusher::broker::{Broker, Message, open};
use gusher::store::LeaseName;

fn broker(url: &str) -> Arc<dyn Broker> {
    open(url).unwrap().unwrap()
}

/// A message goes there and comes back.
async fn carries(broker: &Arc<dyn Broker>) {
    let message = Message { store: 7, lease: LeaseName { session: SessionId::random(), lease: 1 }, priority: 0 };
    broker.publish("imports", vec![message]).await.unwrap();
    let arrived = broker.receive("imports", 1).await.unwrap();
    assert_eq!(Message::decode(&arrived[0].body, 7), Ok(message));
    broker.acknowledge("imports", vec![arrived[0].receipt.clone()]).await.unwrap();
    broker.set_aside("imports", b"something else".to_vec()).await.unwrap();
}

#[tokio::test]
async fn everything_can_travel_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (certificate, key) = (file("server.pem", &certificate), file("server.key", &key));
    let port = RabbitMq::another_port();
    let settings = [
        format!("listeners.ssl.default = 127.0.0.1:{port}"),
        format!("ssl_options.certfile = {certificate}"),
        format!("ssl_options.keyfile = {key}"),
    ];
    let _server = tokio::task::spawn_blocking(move || RabbitMq::start_with(&settings)).await.unwrap();

    carries(&broker(&format!("amqps://127.0.0.1:{port}?ca={certificate}"))).await;
    let stranger = broker(&format!("amqps://127.0.0.1:{port}")).check("imports").await.unwrap_err();
    assert!(stranger.to_string().contains(&format!("connecting to amqps://127.0.0.1:{port}")), "{stranger}");
    let missing = open(&format!("amqps://127.0.0.1:{port}?ca=/nowhere/ca.pem")).unwrap_err();
    assert!(missing.to_string().contains("the certificates in `/nowhere/ca.pem`"), "{missing}");
}

/// The guide's line that gives a user its rights.
fn rights() -> Vec<String> {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rabbitmq.md")).unwrap();
    let line = guide.lines().find_map(|line| line.strip_prefix("rabbitmqctl ")).expect("the guide has it");
    line.replace("VHOST", "/").split(' ').map(|part| part.trim_matches('\'').to_owned()).collect()
}

#[tokio::test]
async fn the_user_of_the_guide_may_do_what_is_needed_and_nothing_else() {
    let server = tokio::task::spawn_blocking(|| {
        let server = RabbitMq::start();
        server.control(&["add_user", "gusher", "a-long-password"]);
        server.control(&rights().iter().map(String::as_str).collect::<Vec<_>>());
        server
    });
    let server = server.await.unwrap();
    let port = server.port();
    carries(&broker(&format!("amqp://gusher:a-long-password@127.0.0.1:{port}"))).await;

    let other = broker(&format!("amqp://gusher:a-long-password@127.0.0.1:{port}?prefix=other."));
    let refused = other.check("imports").await.unwrap_err().to_string();
    assert!(refused.contains("lets it do too little") && refused.contains("other.imports"), "{refused}");
    let wrong =
        broker(&format!("amqp://gusher:wrong@127.0.0.1:{port}")).check("imports").await.unwrap_err().to_string();
    assert!(wrong.contains("refuses this user or password") && !wrong.contains(":wrong"), "{wrong}");
}

/// One message, which nobody takes over.
fn message() -> Vec<Message> {
    vec![Message { store: 7, lease: LeaseName { session: SessionId::random(), lease: 1 }, priority: 0 }]
}

#[tokio::test]
async fn a_server_with_an_alarm_is_said_to_have_one_and_is_used_again_afterwards() {
    let server = tokio::task::spawn_blocking(RabbitMq::start).await.unwrap();
    let url = server.url();
    let (publishes, asks) = (broker(&url), broker(&url));
    publishes.publish("imports", message()).await.unwrap();
    let full = tokio::task::spawn_blocking(move || {
        server.control(&["set_vm_memory_high_watermark", "0"]);
        server
    });
    let server = full.await.unwrap();
    // As `why` and `doctor` ask; it takes the server a moment to look at its memory.
    let error = loop {
        if let Err(error) = asks.check("imports").await {
            break error.to_string();
        }
    };
    assert!(error.contains("takes no messages: it has an alarm"), "{error}");
    for _ in 0..2 {
        let error = publishes.publish("imports", message()).await.unwrap_err().to_string();
        assert!(error.contains("takes no messages: it has an alarm"), "{error}");
    }
    let connections = server.says(&["--quiet", "list_connections", "pid", "--no-table-headers"]);
    assert_eq!(connections.lines().count(), 2, "no connection is made anew: {connections}");

    let empty = tokio::task::spawn_blocking(move || {
        server.control(&["set_vm_memory_high_watermark", "0.4"]);
        server
    });
    let _server = empty.await.unwrap();
    while let Err(error) = publishes.publish("imports", message()).await {
        assert!(error.is_transient(), "{error}");
    }
    while let Err(error) = asks.check("imports").await {
        assert!(error.is_transient(), "{error}");
    }
}
