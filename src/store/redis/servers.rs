//! Where the servers are: one, the master that Sentinels name, or a cluster.

use std::path::Path;
use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisResult, TlsCertificates};

use super::options::Options;
use super::script::redis_error;
use crate::error::{Error, Result};
use crate::store::without_passwords;

/// How long a connection may take to be made.
pub(super) const CONNECTING: Duration = Duration::from_secs(5);

/// The servers of a store.
#[derive(Debug)]
pub enum Servers {
    One(Box<Client>),
    Sentinels(Box<Sentinels>),
    /// Some nodes of a cluster.
    Cluster {
        nodes: Vec<ConnectionInfo>,
        certificates: Option<TlsCertificates>,
    },
}

/// Sentinels, which know who the master is.
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<Client>,
    service: String,
    /// How the master is reached, once its address is known.
    master: ConnectionInfo,
    certificates: Option<TlsCertificates>,
}

impl Servers {
    /// Reads the URL; nothing is connected to.
    pub fn of(options: &Options) -> Result<Self> {
        install_tls();
        let certificates = options.ca.as_deref().map(certificates).transpose()?;
        let unlike = || {
            Error::usage(format!(
                "`{}` is no Redis server's URL; one looks like redis://127.0.0.1:6379/0, redis+sentinel://127.0.0.1:26379/mymaster \
                 or redis-cluster://127.0.0.1:7000",
                without_passwords(&options.server)
            ))
        };
        let (scheme, rest) = options.server.split_once("://").ok_or_else(unlike)?;
        let (plain, kind) = match scheme {
            "redis" | "redis+unix" => (scheme, Kind::One),
            "rediss" => (scheme, Kind::One),
            "redis+sentinel" => ("redis", Kind::Sentinel),
            "rediss+sentinel" => ("rediss", Kind::Sentinel),
            "redis-cluster" => ("redis", Kind::Cluster),
            "rediss-cluster" => ("rediss", Kind::Cluster),
            _ => return Err(unlike()),
        };
        if matches!(kind, Kind::One) {
            let info = options.server.as_str().into_connection_info().map_err(|error| unlike().because(error))?;
            return Ok(Self::One(Box::new(client(info, certificates.as_ref()).map_err(|e| unlike().because(e))?)));
        }
        let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(login, rest)| (login, rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let login = if login.is_empty() { String::new() } else { format!("{login}@") };
        let info = |login: &str, host: &str, path: &str| {
            format!("{plain}://{login}{host}/{path}").into_connection_info().map_err(|error| unlike().because(error))
        };
        let hosts: Vec<&str> = hosts.split(',').filter(|host| !host.is_empty()).collect();
        let first = *hosts.first().ok_or_else(unlike)?;
        if matches!(kind, Kind::Cluster) {
            let nodes = hosts.iter().map(|host| info(&login, host, path)).collect::<Result<_>>()?;
            return Ok(Self::Cluster { nodes, certificates });
        }
        let (service, database) = path.split_once('/').unwrap_or((path, ""));
        if service.is_empty() {
            return Err(Error::usage(
                "a URL of Sentinels names the service behind the hosts, as in redis+sentinel://127.0.0.1:26379/mymaster",
            ));
        }
        let (user, password) = &options.sentinel_login;
        let sentinel = |host: &&str| {
            let info = info("", host, "")?;
            let mut settings = info.redis_settings().clone();
            if let Some(user) = user {
                settings = settings.set_username(user);
            }
            if let Some(password) = password {
                settings = settings.set_password(password);
            }
            client(info.set_redis_settings(settings), certificates.as_ref()).map_err(|error| unlike().because(error))
        };
        let sentinels = hosts.iter().map(sentinel).collect::<Result<_>>()?;
        let master = info(&login, first, database)?;
        Ok(Self::Sentinels(Box::new(Sentinels { sentinels, service: service.to_owned(), master, certificates })))
    }
}

enum Kind {
    One,
    Sentinel,
    Cluster,
}

impl Sentinels {
    /// A client of the server that the first Sentinel to answer calls the master.
    pub async fn master(&self) -> Result<Client> {
        let mut why = None;
        for sentinel in &self.sentinels {
            match self.ask(sentinel).await {
                Ok(Some((host, port))) => {
                    let port = port.parse().map_err(|_| Error::corrupt("a Sentinel names a port that is none"))?;
                    let addr = match self.master.addr() {
                        ConnectionAddr::TcpTls { insecure, .. } => {
                            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: None }
                        }
                        _ => ConnectionAddr::Tcp(host, port),
                    };
                    let info = self.master.clone().set_addr(addr);
                    return client(info, self.certificates.as_ref()).map_err(|error| redis_error("connecting", error));
                }
                Ok(None) => {
                    why = Some(Error::usage(format!("the Sentinels know no service `{}`", self.service)));
                }
                Err(error) => why = Some(redis_error("asking a Sentinel", error)),
            }
        }
        Err(why.unwrap_or_else(|| Error::usage("the store's URL names no Sentinel")))
    }

    async fn ask(&self, sentinel: &Client) -> RedisResult<Option<(String, String)>> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTING))
            .set_response_timeout(Some(CONNECTING));
        let mut connection = sentinel.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(&self.service).query_async(&mut connection).await
    }
}

pub(super) fn client(info: ConnectionInfo, certificates: Option<&TlsCertificates>) -> RedisResult<Client> {
    match (info.addr(), certificates) {
        (ConnectionAddr::TcpTls { .. }, Some(certificates)) => Client::build_with_tls(info, certificates.clone()),
        _ => Client::open(info),
    }
}

fn certificates(ca: &Path) -> Result<TlsCertificates> {
    let pem = std::fs::read(ca).map_err(|error| {
        Error::usage(format!("the certificates in {}, which the store's URL names, cannot be read", ca.display()))
            .because(error)
    })?;
    Ok(TlsCertificates { client_tls: None, root_cert: Some(pem) })
}

/// TLS needs to be told whose cryptography it uses; who has chosen one before keeps it.
fn install_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Servers> {
        Servers::of(&Options::parse(url).unwrap())
    }

    #[test]
    fn urls_of_one_server_of_sentinels_and_of_a_cluster_are_told_apart() {
        assert!(matches!(of("redis://:secret@localhost:6379/3").unwrap(), Servers::One(_)));
        assert!(matches!(of("rediss://localhost").unwrap(), Servers::One(_)));
        let Servers::Sentinels(sentinels) = of("redis+sentinel://u:p@one:1,two:2,three:3/mymaster/4").unwrap() else {
            panic!("it names Sentinels")
        };
        assert_eq!((sentinels.sentinels.len(), sentinels.service.as_str()), (3, "mymaster"));
        assert_eq!(
            (sentinels.master.redis_settings().db(), sentinels.master.redis_settings().username()),
            (4, Some("u"))
        );
        let Servers::Cluster { nodes, .. } = of("rediss-cluster://u:p@one:7000,two:7001").unwrap() else {
            panic!("it names a cluster")
        };
        assert!(matches!(nodes[1].addr(), ConnectionAddr::TcpTls { host, port: 7001, .. } if host == "two"));
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_showing_its_password() {
        for (url, expected) in [
            ("redis+sentinel://one:1", "names the service behind the hosts"),
            ("redis-cluster://", "is no Redis server's URL"),
            ("redis://u:secret@host:port", "redis://…@host:port"),
            ("rediss://host?ca=/no/such/file", "cannot be read"),
        ] {
            let error = of(url).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
    }
}
