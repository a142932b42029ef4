//! How a Redis store is opened, and what its URL says.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::store::parse_duration;

/// The most shards that a workflow's id can tell apart.
pub(super) const MAX_SHARDS: u16 = 4096;

/// How a Redis store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the servers are: what the store's URL says before its `?`.
    pub server: String,
    /// What every key begins with, so that several stores can share a server.
    pub prefix: String,
    /// How many shards the store has. Fixed when the store is made: 1 on one server, 12 on a cluster, unless set.
    pub shards: Option<u16>,
    /// How long a lease lasts unless a worker asks for another length. 15 s.
    pub lease: Duration,
    /// Where the store reads the time: the server's clock, whatever this host's shows, unless a test holds one of its own.
    pub clock: Clock,
    /// What this host is called: its own workers are woken by a datagram, others through the server.
    pub host: String,
    /// Whether a server that drops data when its memory is full is accepted.
    pub allow_eviction: bool,
    /// Whether parameters and outcomes are compressed; without, people who look with `redis-cli` can read them, and all of it is several
    /// times larger.
    pub compress: bool,
    /// The certificates (PEM) that a server's own must be signed by; the system's unless set.
    pub ca: Option<PathBuf>,
    /// Who this is to Sentinels that ask for it: user and password.
    pub sentinel_login: (Option<String>, Option<String>),
    /// Whether what this process makes the store do is noted there, for a harness to take out, and which places it passes; nothing
    /// unless a test sets it.
    #[cfg(feature = "testing")]
    pub ledger: Ledger,
}

impl Options {
    /// The defaults for a server.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            prefix: "gusher".into(),
            shards: None,
            lease: Duration::from_secs(15),
            clock: Clock::system(),
            host: crate::store::hostname(),
            allow_eviction: false,
            compress: true,
            ca: None,
            sentinel_login: (None, None),
            #[cfg(feature = "testing")]
            ledger: Ledger::default(),
        }
    }

    #[cfg(feature = "testing")]
    pub(super) fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    #[cfg(not(feature = "testing"))]
    pub(super) fn ledger(&self) -> Ledger {
        Ledger::default()
    }

    /// From a URL, perhaps with some of `?prefix=gusher&lease=15s&shards=12&eviction=allow&compress=none&ca=ca.pem`
    /// behind it:
    ///
    /// | URL | what |
    /// |---|---|
    /// | `redis://user:password@host:port/database` | one server |
    /// | `redis+unix:///path/to/socket` | one on this host |
    /// | `redis+sentinel://user:password@host:port,host:port/service/database` | the master that Sentinels name |
    /// | `redis-cluster://user:password@host:port,host:port` | a cluster; some of its nodes are enough |
    ///
    /// With `rediss` in place of `redis` everything travels by TLS.
    pub fn parse(url: &str) -> Result<Self> {
        let (server, query) = url.split_once('?').unwrap_or((url, ""));
        let mut options = Self::new(server);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            options.set(key, value, pair)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str, pair: &str) -> Result<()> {
        match key {
            "lease" => {
                let lease = parse_duration(value).filter(|lease| *lease >= Duration::from_millis(100));
                self.lease =
                    lease.ok_or_else(|| wrong(pair, "is no length of at least 100 ms; for example lease=15s"))?;
            }
            "prefix" if is_plain(value) => self.prefix = value.to_owned(),
            "prefix" => return Err(wrong(pair, "a prefix has letters, digits, `-`, `_` and `:` only")),
            "shards" => {
                let shards = value.parse().ok().filter(|shards| (1..=MAX_SHARDS).contains(shards));
                self.shards = Some(shards.ok_or_else(|| wrong(pair, "a store has 1 to 4096 shards"))?);
            }
            "eviction" if value == "allow" => self.allow_eviction = true,
            "compress" if value == "none" => self.compress = false,
            "ca" if !value.is_empty() => self.ca = Some(value.into()),
            "sentinel-user" if !value.is_empty() => self.sentinel_login.0 = Some(value.to_owned()),
            "sentinel-password" if !value.is_empty() => self.sentinel_login.1 = Some(value.to_owned()),
            _ => {
                // Its value may be a password.
                return Err(wrong(
                    key,
                    "is not known; there are prefix=gusher, lease=15s, shards=12, eviction=allow, compress=none, ca=FILE, sentinel-user=NAME \
                     and sentinel-password=WORD",
                ));
            }
        }
        Ok(())
    }

    /// The URL that says the same.
    pub(super) fn url(&self) -> String {
        let mut url = format!("{}?prefix={}&lease={}ms", self.server, self.prefix, self.lease.as_millis());
        let shards = self.shards.map(|shards| shards.to_string());
        let ca = self.ca.as_ref().map(|ca| ca.display().to_string());
        let (user, password) = &self.sentinel_login;
        let others = [
            ("shards", &shards),
            ("ca", &ca),
            ("sentinel-user", user),
            ("sentinel-password", password),
            ("compress", &(!self.compress).then(|| "none".to_owned())),
            ("eviction", &self.allow_eviction.then(|| "allow".to_owned())),
        ];
        for (key, value) in others {
            if let Some(value) = value {
                url.push_str(&format!("&{key}={value}"));
            }
        }
        url
    }
}

fn wrong(pair: &str, why: &str) -> Error {
    Error::usage(format!("`{pair}` in the store's URL: {why}"))
}

fn is_plain(prefix: &str) -> bool {
    !prefix.is_empty() && prefix.chars().all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_the_store_is_opened_and_opens_it_again() {
        let url = "rediss-cluster://u:p@one:7000,two:7001?prefix=night&lease=2000ms&shards=24&ca=ca.pem&eviction=allow&compress=none";
        let options = Options::parse(url).unwrap();
        assert_eq!(options.server, "rediss-cluster://u:p@one:7000,two:7001");
        assert_eq!((options.prefix.as_str(), options.shards, options.lease.as_secs()), ("night", Some(24), 2));
        let again = Options::parse(&options.url()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{options:?}"));
    }

    #[test]
    fn what_a_url_says_wrongly_is_named() {
        for (url, expected) in [
            ("redis://h?lease=5", "`lease=5` in the store's URL: is no length"),
            ("redis://h?prefix=a b", "`prefix=a b` in the store's URL: a prefix has letters"),
            ("redis://h?shards=0", "1 to 4096 shards"),
            ("redis://h?speed=high", "`speed` in the store's URL: is not known; there are prefix=gusher"),
        ] {
            let error = Options::parse(url).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
