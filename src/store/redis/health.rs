//! Which servers a store can be on, and what they may lose.

use redis::{Cmd, InfoDict, Value};

use super::link::{Failed, Link};
use super::options::Options;
use crate::error::{Error, Result};

/// The oldest server whose commands the scripts can use.
const OLDEST: (u32, u32) = (6, 2);

/// Refuses a server that is too old, cannot be written, or drops data by itself.
pub async fn check(link: &Link, options: &Options) -> Result<()> {
    ask_masters(link, "opening the store").await?.iter().try_for_each(|info| check_server(info, options))
}

async fn ask_masters(link: &Link, what: &str) -> Result<Vec<InfoDict>> {
    let mut info = Cmd::new();
    info.arg("INFO");
    let answers = link.query_masters(what, info).await.map_err(|failed| failed.of(what))?;
    let decode = |answer| redis::from_redis_value(answer);
    let decoded: std::result::Result<_, _> = answers.into_iter().map(decode).collect();
    decoded.map_err(|error| Error::corrupt("the server's answer to INFO does not decode").because(error))
}

fn check_server(info: &InfoDict, options: &Options) -> Result<()> {
    // Valkey says here which Redis it can stand for.
    let version: String = info.get("redis_version").unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        return Err(Error::usage(format!(
            "the server is Redis {version}; Gusher needs {}.{} or later, or Valkey",
            OLDEST.0, OLDEST.1
        )));
    }
    if info.get::<String>("role").is_some_and(|role| role != "master") {
        return Err(Error::usage("the server is a read-only replica; name its master in the store's URL"));
    }
    let policy: String = info.get("maxmemory_policy").unwrap_or_default();
    if !policy.is_empty() && policy != "noeviction" && !options.allow_eviction {
        return Err(Error::usage(format!(
            "the server drops data when its memory is full (maxmemory-policy {policy}): set `maxmemory-policy noeviction`, or accept \
             lost workflows with ?eviction=allow in the store's URL"
        )));
    }
    Ok(())
}

/// What the servers may lose of what they have acknowledged, one sentence a reason.
pub async fn what_may_be_lost(link: &Link) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for info in ask_masters(link, "doctor").await? {
        let port: String = info.get("tcp_port").unwrap_or_default();
        if info.get::<u8>("aof_enabled") == Some(0) {
            warnings.push(format!(
                "the server on port {port} keeps no append-only file: a restart loses all that its last snapshot does not hold \
                 (set `appendonly yes`)"
            ));
        }
        let replicas: u32 = info.get("connected_slaves").unwrap_or(0);
        if link.is_cluster() && replicas == 0 {
            warnings
                .push(format!("the server on port {port} has no replica: its shards are away for as long as it is"));
        } else if replicas > 0 {
            warnings.push(format!(
                "the server on port {port} acknowledges before its {replicas} replicas have what was written: a fail-over loses the \
                 rest, and what it loses runs again"
            ));
        }
    }
    if syncs_each_write(link).await == Some(false) {
        warnings.push(
            "the append-only file is written to disk once a second: a crash of the machine loses up to that second (set \
             `appendfsync always` to lose nothing)"
                .to_owned(),
        );
    }
    Ok(warnings)
}

/// Whether every write is on disk before it is acknowledged; `None` where this user may not ask, or there is no such file.
async fn syncs_each_write(link: &Link) -> Option<bool> {
    let ask = async |name: &str| {
        let mut get = Cmd::new();
        get.arg("CONFIG").arg("GET").arg(name);
        let answers: std::result::Result<Vec<Value>, Failed> = link.query_masters("doctor", get).await;
        let answers = answers.ok()?;
        let values = answers.into_iter().map(|answer| redis::from_redis_value::<Vec<String>>(answer).ok()?.pop());
        values.collect::<Option<Vec<String>>>()
    };
    let (kept, synced) = (ask("appendonly").await?, ask("appendfsync").await?);
    kept.iter().all(|kept| kept == "yes").then(|| synced.iter().all(|synced| synced == "always"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(info: &str) -> Option<String> {
        let info = InfoDict::new(&info.replace('\n', "\r\n"));
        check_server(&info, &Options::new("redis://localhost")).err().map(|error| error.to_string())
    }

    #[test]
    fn an_older_server_is_refused_with_what_is_needed_and_the_oldest_that_works_is_not() {
        for old in ["5.0.14", "6.0.20", "2.8.4", ""] {
            let error = refusal(&format!("redis_version:{old}\nrole:master\n")).unwrap();
            assert!(error.contains("needs 6.2 or later, or Valkey"), "{old}: {error}");
        }
        for new in ["6.2.0", "7.0.15", "7.2.4", "10.0.0"] {
            assert_eq!(refusal(&format!("redis_version:{new}\nrole:master\nmaxmemory_policy:noeviction\n")), None);
        }
    }
}
