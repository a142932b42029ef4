//! Where the stores of a benchmark are: one fresh file after another, or a Redis server that is emptied.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use gusher::store::sqlite::Options;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::servers::Server;

/// What SQLite and the store keep beside the file.
const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", "-reserve"];

/// The caller asked for what cannot be; the program ends with exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A place for stores, which come and go.
#[derive(Debug)]
pub struct Place {
    url: String,
    /// Goes with the place, if it was made for it.
    _folder: Option<TempDir>,
    _server: Option<Server>,
}

impl Place {
    /// A temporary folder in `folder`, or where the system has such folders.
    pub fn temporary(folder: Option<&Path>) -> Result<Self> {
        let made = match folder {
            Some(folder) => TempDir::new_in(folder).map_err(|error| (folder.to_owned(), error)),
            None => TempDir::new().map_err(|error| (std::env::temp_dir(), error)),
        };
        let made = made.map_err(|(at, error)| Usage(format!("no folder can be made in {}: {error}", at.display())))?;
        Ok(Self {
            url: format!("sqlite:{}", made.path().join("bench.db").display()),
            _folder: Some(made),
            _server: None,
        })
    }

    /// The place that `--store` and `--folder` name.
    pub fn named(store: &str, folder: Option<&Path>) -> Result<Self> {
        match (store, folder) {
            ("sqlite", folder) => Self::temporary(folder),
            ("redis", None) => {
                let server = Server::redis();
                Ok(Self { url: server.url(), _folder: None, _server: Some(server) })
            }
            (url, None) if is_redis(url) => {
                let keys: u64 = ::redis::cmd("DBSIZE").query(&mut connect(url)?)?;
                if keys > 0 {
                    bail!(Usage(format!(
                        "the database has {keys} keys, and the benchmark empties it; name an empty one"
                    )));
                }
                Ok(Self { url: url.to_owned(), _folder: None, _server: None })
            }
            (_, Some(_)) => bail!(Usage("--folder goes with --store sqlite; a URL names its file itself".to_owned())),
            (url, None) => {
                let path = options_of(url)?.path;
                if path.as_os_str() == ":memory:" {
                    bail!(Usage("a store in memory has no file to measure; name a file".to_owned()));
                }
                if let Some(there) = COMPANIONS.map(|end| beside(&path, end)).iter().find(|path| path.exists()) {
                    bail!(Usage(format!(
                        "{} is there already, and the benchmark needs a fresh store; name a file that does not exist",
                        there.display()
                    )));
                }
                Ok(Self { url: url.to_owned(), _folder: None, _server: None })
            }
        }
    }

    /// The URL of a store that is not there yet: what the last one left has been removed.
    pub fn fresh(&self) -> Result<&str> {
        self.clear()?;
        Ok(&self.url)
    }

    fn clear(&self) -> Result<()> {
        if is_redis(&self.url) {
            return Ok(::redis::cmd("FLUSHDB").query(&mut connect(&self.url)?)?);
        }
        let path = options_of(&self.url)?.path;
        for path in COMPANIONS.map(|end| beside(&path, end)).iter().filter(|path| path.exists()) {
            fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The file was not there before; if it cannot be removed, there is nobody left to tell.
        let _ = self.clear();
    }
}

fn beside(path: &Path, end: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Whether a URL is one of a Redis server.
pub fn is_redis(url: &str) -> bool {
    url.starts_with("redis://")
}

/// A connection to the server of a Redis URL.
pub fn connect(url: &str) -> Result<::redis::Connection> {
    let client = ::redis::Client::open(url).map_err(|error| Usage(format!("`{url}`: {error}")))?;
    client.get_connection().with_context(|| format!("connecting to {url}"))
}

/// How the store of a SQLite URL is opened.
pub fn options_of(url: &str) -> Result<Options> {
    let Some(rest) = url.strip_prefix("sqlite:") else {
        bail!(Usage(format!(
            "`{url}` is no store that this program knows; there are `sqlite`, sqlite:PATH, `redis` and redis://HOST:PORT/DATABASE"
        )));
    };
    Options::parse(rest).map_err(|error| Usage(error.to_string()).into())
}

/// How many bytes a store takes. Of a file those of its pages in use and of its log, without free ones, so that no checkpoint is
/// needed; of a Redis server all the memory that it says it uses.
pub fn stored_bytes(url: &str) -> Result<u64> {
    if is_redis(url) {
        let info: ::redis::InfoDict = ::redis::cmd("INFO").arg("memory").query(&mut connect(url)?)?;
        return info.get("used_memory").context("the server does not tell how much memory it uses");
    }
    let conn = Connection::open_with_flags(options_of(url)?.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let pragma = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let bytes = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
    Ok(u64::try_from(bytes)?)
}

/// The same, but of a Redis server only what its keys take: all that is the store's. What the server keeps for itself, the scripts that
/// were called for one, grows with what has been done, and it goes with the server.
pub fn bytes_of_its_own(url: &str) -> Result<u64> {
    if !is_redis(url) {
        return stored_bytes(url);
    }
    let mut server = connect(url)?;
    let keys: Vec<Vec<u8>> = ::redis::cmd("KEYS").arg("*").query(&mut server)?;
    let mut sum = 0;
    for key in keys {
        let bytes: Option<u64> =
            ::redis::cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0).query(&mut server)?;
        sum += bytes.unwrap_or(0);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.db");
        fs::write(&path, "mine").unwrap();
        let error = Place::named(&format!("sqlite:{}", path.display()), None).unwrap_err();
        assert!(error.to_string().contains("needs a fresh store"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_place_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        let place = Place::named(&format!("sqlite:{}", path.display()), None).unwrap();
        drop(gusher::store::sqlite::SqliteStore::open(options_of(place.fresh().unwrap()).unwrap()).unwrap());
        assert!(path.exists());
        drop(place);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
