//! A broker of the run's own that carries every queue: its connections are cut, it is killed, it is purged, and what it carries is doubled.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use brokers::{Moto, Proxy, RabbitMq};
use gusher::broker::{Broker, Message, open};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// The queue of all types of the workload, as workers know it.
const QUEUE: &str = "default";
/// Of so many faults one is a restart, the third at first; the others cut connections.
const A_RESTART: u64 = 10;
const FIRST_RESTART: u64 = 2;
/// How many doublers receive beside the workers: one for two of those, so that they get a third of the messages.
const WORKERS_A_DOUBLER: usize = 2;

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Rabbitmq,
    Sqs,
}

/// See above.
pub struct Carrier {
    server: Server,
    proxy: Proxy,
    /// Who receives and republishes.
    doublers: JoinSet<()>,
    doubled: Arc<Doubled>,
    restarts: u64,
    cuts: u64,
    connections_cut: u64,
    pub purged: Vec<u64>,
}

enum Server {
    RabbitMq(RabbitMq),
    Sqs(Moto),
}

/// What the doublers have doubled, each message once: doubling copies, too, they would fill the broker whenever they receive more than half
/// of what is there.
#[derive(Debug, Default)]
struct Doubled(Mutex<HashSet<Message>>);

impl Doubled {
    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How often it is published instead.
    fn times(&self, message: Message) -> usize {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(message) { 2 } else { 1 }
    }
}

impl Carrier {
    pub async fn start(kind: Kind) -> Result<Self> {
        let server = tokio::task::spawn_blocking(move || match kind {
            Kind::Rabbitmq => Server::RabbitMq(RabbitMq::start()),
            Kind::Sqs => Server::Sqs(Moto::start()),
        });
        let server = server.await?;
        let port = match &server {
            Server::RabbitMq(server) => server.port(),
            Server::Sqs(server) => server.port(),
        };
        let proxy = Proxy::to(port).await?;
        Ok(Self {
            server,
            proxy,
            doublers: JoinSet::new(),
            doubled: Arc::default(),
            restarts: 0,
            cuts: 0,
            connections_cut: 0,
            purged: Vec::new(),
        })
    }

    /// Where workers find it.
    pub fn url(&self) -> String {
        let port = self.proxy.port();
        match self.server {
            Server::RabbitMq(_) => format!("amqp://127.0.0.1:{port}"),
            Server::Sqs(_) => {
                format!("sqs://eu-central-1?endpoint=http://127.0.0.1:{port}&hidden=2s&poll=1s&slice=500ms")
            }
        }
    }

    /// Lets a third of the messages of a store be received by somebody who publishes each of them twice.
    pub fn double(&mut self, store: u64, workers: usize) -> Result<()> {
        for _ in 0..workers.div_ceil(WORKERS_A_DOUBLER) {
            let broker = open(&self.url())?.context("a broker")?;
            let doubled = self.doubled.clone();
            self.doublers.spawn(async move {
                loop {
                    if pass_on(&*broker, store, &doubled).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            });
        }
        Ok(())
    }

    /// Fails if it has not been used.
    pub fn has_carried(&self) -> Result<()> {
        anyhow::ensure!(self.doubled.count() > 0, "no message of the run came by the broker");
        anyhow::ensure!(!self.purged.is_empty(), "the broker's queue was never purged");
        Ok(())
    }

    /// What was done to it.
    pub fn told(&self) -> serde_json::Value {
        json!({
            "restarts": self.restarts,
            "cuts": self.cuts,
            "connections_cut": self.connections_cut,
            "messages_purged": self.purged,
            "messages_doubled": self.doubled.count(),
        })
    }

    /// Cuts its connections, or kills it and starts it again.
    pub async fn fail(mut self) -> Result<Self> {
        if (self.restarts + self.cuts) % A_RESTART != FIRST_RESTART {
            self.cuts += 1;
            self.connections_cut += self.proxy.cut() as u64;
            return Ok(self);
        }
        self.restarts += 1;
        let restarted = tokio::task::spawn_blocking(move || {
            match &mut self.server {
                Server::RabbitMq(server) => server.kill_and_restart(),
                Server::Sqs(server) => server.restart(),
            }
            self
        });
        Ok(restarted.await?)
    }

    /// Throws away what waits in the queue.
    pub async fn purge(&mut self) -> Result<()> {
        let thrown_away = match &self.server {
            Server::RabbitMq(server) => {
                let connection =
                    lapin::Connection::connect(&server.url(), lapin::ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                let purge =
                    channel.queue_purge(format!("gusher.{QUEUE}").into(), lapin::options::QueuePurgeOptions::default());
                u64::from(purge.await?)
            }
            Server::Sqs(server) => {
                let body = "Action=PurgeQueue&Version=2012-11-05";
                // Which of AWS's services is meant it takes from the signature, which it does not check.
                let credential = "AWS4-HMAC-SHA256 Credential=test/20200101/eu-central-1/sqs/aws4_request, SignedHeaders=host, Signature=0";
                let request = format!(
                    "POST /123456789012/gusher-{QUEUE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nAuthorization: {credential}\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await?;
                connection.write_all(request.as_bytes()).await?;
                let mut answer = String::new();
                connection.read_to_string(&mut answer).await?;
                anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "purging: {answer}");
                // It does not say how many there were.
                0
            }
        };
        self.purged.push(thrown_away);
        Ok(())
    }
}

/// Receives some messages, and publishes each of them anew: twice, if that has not been done yet.
async fn pass_on(broker: &dyn Broker, store: u64, doubled: &Doubled) -> gusher::Result<()> {
    let deliveries = broker.receive(QUEUE, 4).await?;
    let messages: Vec<Message> =
        deliveries.iter().filter_map(|delivery| Message::decode(&delivery.body, store).ok()).collect();
    let twice = messages.iter().flat_map(|message| vec![*message; doubled.times(*message)]).collect();
    broker.publish(QUEUE, twice).await?;
    broker.acknowledge(QUEUE, deliveries.into_iter().map(|delivery| delivery.receipt).collect()).await
}
