//! The connection to the servers, which makes itself anew when it is lost: every call may be repeated, so one that finds a dropped
//! connection is sent again at once.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::Mutex;

use super::script::redis_error;
use super::servers::{CONNECTING, Sentinels, Servers, client};
#[cfg(all(any(fuzzing, test), feature = "conformance", feature = "cli"))]
use super::written::Written;
use crate::error::Result;

/// How long a call waits for the server's answer before it counts as lost.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How often a call goes to another node, or to the same one again, while a cluster changes. The caller goes on after that.
const CLUSTER_RETRIES: u32 = 4;
/// After so long without an answer a cluster's connection is asked whether it still answers anything, and has so long for that.
const SILENCE: Duration = Duration::from_secs(3);
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// The connection of a store.
pub struct Link(Inner);

enum Inner {
    Direct(Direct),
    Cluster(Box<Cluster>),
    /// No server.
    #[cfg(all(any(fuzzing, test), feature = "conformance", feature = "cli"))]
    Written(Written),
}

/// A connection to one server.
struct Direct {
    place: Place,
    kept: Kept<MultiplexedConnection>,
}

/// A connection to all nodes of a cluster.
struct Cluster {
    client: ClusterClient,
    nodes: Vec<Client>,
    kept: Kept<ClusterConnection>,
}

enum Place {
    Fixed(Box<Client>),
    Named(Box<Sentinels>),
}

/// A connection that all share until one of them gives it up; who comes next makes another.
struct Kept<C>(Mutex<Option<Current<C>>>);

#[derive(Clone)]
struct Current<C> {
    /// Tells it from those before and after it.
    number: u64,
    connection: C,
}

impl<C: Clone> Kept<C> {
    fn none() -> Self {
        Self(Mutex::new(None))
    }

    /// The connection there is, or the one that `make` makes.
    async fn get(&self, make: impl Future<Output = Result<C>>) -> Result<Current<C>> {
        let mut there = self.0.lock().await;
        if let Some(current) = &*there {
            return Ok(current.clone());
        }
        let current = Current { number: u64::from_le_bytes(crate::id::random_bytes()), connection: make.await? };
        *there = Some(current.clone());
        Ok(current)
    }

    async fn give_up(&self, number: u64) {
        let mut there = self.0.lock().await;
        if there.as_ref().is_some_and(|current| current.number == number) {
            *there = None;
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Direct(_) => "Link(one server)",
            Inner::Cluster(_) => "Link(cluster)",
            #[cfg(all(any(fuzzing, test), feature = "conformance", feature = "cli"))]
            Inner::Written(_) => "Link(written)",
        })
    }
}

impl Link {
    /// Answers as it is written.
    #[cfg(all(any(fuzzing, test), feature = "conformance", feature = "cli"))]
    pub fn written(answers: Written) -> Self {
        Self(Inner::Written(answers))
    }

    /// Connects.
    pub async fn open(servers: Servers) -> Result<Self> {
        let failed = |error| redis_error("opening the store", error);
        let place = match servers {
            Servers::One(client) => Place::Fixed(client),
            Servers::Sentinels(sentinels) => Place::Named(sentinels),
            Servers::Cluster { nodes, certificates } => {
                let clients = nodes.iter().map(|node| client(node.clone(), certificates.as_ref()));
                let clients = clients.collect::<RedisResult<_>>().map_err(failed)?;
                let mut builder = ClusterClientBuilder::new(nodes)
                    .retries(CLUSTER_RETRIES)
                    .min_retry_wait(20)
                    .max_retry_wait(500)
                    .connection_timeout(CONNECTING)
                    .response_timeout(ANSWER_TIME)
                    .overall_response_timeout(Some(ANSWER_TIME));
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                let client = builder.build().map_err(failed)?;
                let cluster = Cluster { client, nodes: clients, kept: Kept::none() };
                cluster.connection().await?;
                return Ok(Self(Inner::Cluster(Box::new(cluster))));
            }
        };
        let direct = Direct { place, kept: Kept::none() };
        direct.connection().await?;
        Ok(Self(Inner::Direct(direct)))
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self.0, Inner::Cluster(_))
    }

    /// Sends a command; on a cluster to the node that has its keys.
    pub async fn query(&self, verb: &str, command: &Cmd) -> std::result::Result<Value, Failed> {
        match &self.0 {
            Inner::Direct(direct) => direct.query(verb, command).await,
            Inner::Cluster(cluster) => cluster.query(verb, async |mut on| command.query_async(&mut on).await).await,
            #[cfg(all(any(fuzzing, test), feature = "conformance", feature = "cli"))]
            Inner::Written(written) => written.query(verb),
        }
    }

    /// Sends a command to the server, or to each master of the cluster.
    pub async fn query_masters(&self, verb: &str, command: Cmd) -> std::result::Result<Vec<Value>, Failed> {
        match &self.0 {
            Inner::Direct(direct) => Ok(vec![direct.query(verb, &command).await?]),
            Inner::Cluster(cluster) => {
                let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let ask = async |mut on: ClusterConnection| on.route_command(command, routing).await;
                match cluster.query(verb, ask).await? {
                    Value::Map(answers) => Ok(answers.into_iter().map(|(_, answer)| answer).collect()),
                    other => Ok(vec![other]),
                }
            }
            #[cfg(all(any(fuzzing, test), feature = "conformance", feature = "cli"))]
            Inner::Written(written) => Ok(vec![written.query(verb)?]),
        }
    }

    /// A connection that hears what is published; in a cluster each node hears everything.
    pub async fn listen(&self) -> Result<PubSub> {
        let failed = |error| redis_error("listening for wake-ups", error);
        let nodes = match &self.0 {
            Inner::Direct(direct) => vec![direct.client().await?],
            Inner::Cluster(cluster) => cluster.nodes.clone(),
            #[cfg(all(any(fuzzing, test), feature = "conformance", feature = "cli"))]
            Inner::Written(_) => Vec::new(),
        };
        let mut why = None;
        for node in nodes {
            match node.get_async_pubsub().await {
                Ok(connection) => return Ok(connection),
                Err(error) => why = Some(error),
            }
        }
        Err(why.map_or_else(|| crate::Error::usage("the store's URL names no server"), failed))
    }
}

/// Why a command was not answered: by the server's or the connection's error, or since no server was found.
#[derive(Debug)]
pub enum Failed {
    Redis(RedisError),
    Before(crate::Error),
}

impl From<RedisError> for Failed {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl Failed {
    /// As one of our errors.
    pub fn of(self, verb: &str) -> crate::Error {
        match self {
            Self::Redis(error) => redis_error(verb, error),
            Self::Before(error) => error,
        }
    }
}

impl Direct {
    async fn query(&self, verb: &str, command: &Cmd) -> std::result::Result<Value, Failed> {
        let mut again = true;
        loop {
            let mut current = self.connection().await.map_err(Failed::Before)?;
            let error = match command.query_async(&mut current.connection).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if is_of_no_use(&error) {
                tracing::debug!(%error, verb, "the connection to the server is given up");
                self.kept.give_up(current.number).await;
                if std::mem::take(&mut again) && error.is_connection_dropped() {
                    continue;
                }
            }
            return Err(error.into());
        }
    }

    async fn connection(&self) -> Result<Current<MultiplexedConnection>> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTING))
            .set_response_timeout(Some(ANSWER_TIME));
        let make = async {
            let made = self.client().await?.get_multiplexed_async_connection_with_config(&config).await;
            made.map_err(|error| redis_error("connecting", error))
        };
        self.kept.get(make).await
    }

    async fn client(&self) -> Result<Client> {
        match &self.place {
            Place::Fixed(client) => Ok((**client).clone()),
            Place::Named(sentinels) => sentinels.master().await,
        }
    }
}

impl Cluster {
    async fn query<F>(&self, verb: &str, ask: F) -> std::result::Result<Value, Failed>
    where
        F: AsyncFnOnce(ClusterConnection) -> RedisResult<Value>,
    {
        let current = self.connection().await.map_err(Failed::Before)?;
        let is_alive = async |mut on: ClusterConnection| redis::cmd("PING").query_async::<Value>(&mut on).await.is_ok();
        let answer = unless_silent(ask(current.connection.clone()), is_alive(current.connection)).await;
        // The connection of a cluster mends itself, unless it stands still: then nothing that is sent by it is ever answered.
        let stands_still = answer.as_ref().is_none_or(|answer| answer.as_ref().is_err_and(RedisError::is_timeout));
        if stands_still {
            tracing::warn!(verb, "the connection to the cluster does not answer; it is made anew");
            self.kept.give_up(current.number).await;
        }
        match answer {
            Some(answer) => Ok(answer?),
            None => Err(Failed::Before(crate::Error::unavailable("the connection to the cluster stood still"))),
        }
    }

    async fn connection(&self) -> Result<Current<ClusterConnection>> {
        let make = async {
            let made = tokio::time::timeout(ANSWER_TIME, self.client.get_async_connection()).await;
            let made = made.map_err(|_| crate::Error::unavailable("no node of the cluster has answered"))?;
            made.map_err(|error| redis_error("connecting", error))
        };
        self.kept.get(make).await
    }
}

/// Waits for an answer for as long as the other side, asked after a while, gives a sign of life. `None` if it does not.
async fn unless_silent<T>(answer: impl Future<Output = T>, is_alive: impl Future<Output = bool>) -> Option<T> {
    let mut answer = pin!(answer);
    if let Ok(answer) = tokio::time::timeout(SILENCE, &mut answer).await {
        return Some(answer);
    }
    tokio::select! {
        biased;
        answer = &mut answer => Some(answer),
        alive = tokio::time::timeout(SIGN_OF_LIFE, is_alive) => match alive {
            Ok(true) => Some(answer.await),
            _ => None,
        },
    }
}

/// Whether a connection is lost, answers no more, or leads to a server that is not the master any more.
fn is_of_no_use(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_timeout()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.kind() == ErrorKind::Server(ServerErrorKind::MasterDown)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    async fn after(seconds: u64) -> u64 {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        seconds
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_waited_for_only_where_there_is_a_sign_of_life() {
        assert_eq!(unless_silent(after(1), pending()).await, Some(1), "nobody is asked for a sign of life so soon");
        assert_eq!(unless_silent(after(20), ready(true)).await, Some(20));
        assert_eq!(unless_silent(after(20), ready(false)).await, None);
        let started = tokio::time::Instant::now();
        assert_eq!(unless_silent(pending::<()>(), pending()).await, None);
        assert_eq!(started.elapsed(), SILENCE + SIGN_OF_LIFE);
        assert_eq!(unless_silent(after(4), pending()).await, Some(4), "it came while somebody was asked");
    }

    #[tokio::test]
    async fn a_connection_is_shared_until_it_is_given_up_and_then_made_anew_once() {
        let kept = Kept::none();
        let first = kept.get(async { Ok("first") }).await.unwrap();
        let other = kept.get(async { unreachable!("there is one") }).await.unwrap();
        assert_eq!((first.number, other.connection), (other.number, "first"));
        kept.give_up(first.number).await;
        assert!(kept.get(async { Err(crate::Error::unavailable("away")) }).await.is_err());
        let second = kept.get(async { Ok("second") }).await.unwrap();
        // Who still had the first one gives up that one, not its successor.
        kept.give_up(first.number).await;
        assert_eq!(kept.get(async { Ok("third") }).await.unwrap().number, second.number);
    }
}
