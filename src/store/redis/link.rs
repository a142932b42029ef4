//! The connection to the servers, which makes itself anew when it is lost: every call may be repeated, so one that finds a dropped
//! connection is sent again at once.

use std::fmt;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::Mutex;

use super::script::redis_error;
use super::servers::{CONNECTING, Sentinels, Servers, client};
use crate::error::Result;

/// How long a call waits for the server's answer before it counts as lost.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How often a call goes to another node, or to the same one again, while a cluster changes. The caller goes on after that.
const CLUSTER_RETRIES: u32 = 4;

/// The connection of a store.
pub struct Link(Inner);

enum Inner {
    Direct(Direct),
    Cluster { connection: ClusterConnection, nodes: Vec<Client> },
}

/// A connection to one server.
struct Direct {
    place: Place,
    current: Mutex<Option<Current>>,
}

enum Place {
    Fixed(Box<Client>),
    Named(Box<Sentinels>),
}

#[derive(Clone)]
struct Current {
    /// Tells it from those before and after it.
    number: u64,
    connection: MultiplexedConnection,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Direct(_) => "Link(one server)",
            Inner::Cluster { .. } => "Link(cluster)",
        })
    }
}

impl Link {
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
                let cluster = builder.build().map_err(failed)?;
                let connection = cluster.get_async_connection().await.map_err(failed)?;
                return Ok(Self(Inner::Cluster { connection, nodes: clients }));
            }
        };
        let direct = Direct { place, current: Mutex::new(None) };
        direct.connection().await?;
        Ok(Self(Inner::Direct(direct)))
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self.0, Inner::Cluster { .. })
    }

    /// Sends a command; on a cluster to the node that has its keys.
    pub async fn query(&self, verb: &str, command: &Cmd) -> std::result::Result<Value, Failed> {
        match &self.0 {
            Inner::Direct(direct) => direct.query(verb, command).await,
            Inner::Cluster { connection, .. } => Ok(command.query_async(&mut connection.clone()).await?),
        }
    }

    /// Sends a command to the server, or to each master of the cluster.
    pub async fn query_masters(&self, verb: &str, command: Cmd) -> std::result::Result<Vec<Value>, Failed> {
        match &self.0 {
            Inner::Direct(direct) => Ok(vec![direct.query(verb, &command).await?]),
            Inner::Cluster { connection, .. } => {
                let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                match connection.clone().route_command(command, routing).await? {
                    Value::Map(answers) => Ok(answers.into_iter().map(|(_, answer)| answer).collect()),
                    other => Ok(vec![other]),
                }
            }
        }
    }

    /// A connection that hears what is published; in a cluster each node hears everything.
    pub async fn listen(&self) -> Result<PubSub> {
        let failed = |error| redis_error("listening for wake-ups", error);
        let nodes = match &self.0 {
            Inner::Direct(direct) => vec![direct.client().await?],
            Inner::Cluster { nodes, .. } => nodes.clone(),
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
                self.give_up(current.number).await;
                if std::mem::take(&mut again) && error.is_connection_dropped() {
                    continue;
                }
            }
            return Err(error.into());
        }
    }

    /// The connection there is, or a new one.
    async fn connection(&self) -> Result<Current> {
        let mut there = self.current.lock().await;
        if let Some(current) = &*there {
            return Ok(current.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTING))
            .set_response_timeout(Some(ANSWER_TIME));
        let made = self.client().await?.get_multiplexed_async_connection_with_config(&config).await;
        let connection = made.map_err(|error| redis_error("connecting", error))?;
        let current = Current { number: u64::from_le_bytes(crate::id::random_bytes()), connection };
        *there = Some(current.clone());
        Ok(current)
    }

    async fn client(&self) -> Result<Client> {
        match &self.place {
            Place::Fixed(client) => Ok((**client).clone()),
            Place::Named(sentinels) => sentinels.master().await,
        }
    }

    async fn give_up(&self, number: u64) {
        let mut there = self.current.lock().await;
        if there.as_ref().is_some_and(|current| current.number == number) {
            *there = None;
        }
    }
}

/// Whether a connection is lost, answers no more, or leads to a server that is not the master any more.
fn is_of_no_use(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_timeout()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.kind() == ErrorKind::Server(ServerErrorKind::MasterDown)
}
