//! The scripts, and how one is run: parameters as JSON and blobs go in, an answer as JSON and blobs comes out.

use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use redis::{Cmd, ErrorKind as RedisErrorKind, RetryMethod, ServerErrorKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::link::{Failed, Link};
use super::shard::Shard;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Cost;

/// What every script begins with, then the parts that its verbs need, the verbs, and what every script ends with. A server runs all of that
/// text at each call before it comes to the verb, so a part that is not needed costs: with all of them a sixth of a millisecond.
///
/// What comes behind the beginning is a function of its own. Lua makes a function faster if what it uses of the text around it belongs to
/// another function around that: what belongs to the one that is being run is looked for in a list, which gets longer with each local. And so
/// the beginning and the parts have 200 locals each; of those of the beginning the parts may use 60.
macro_rules! script {
    ($verbs:literal: $($part:literal)*) => {
        LazyLock::new(|| {
            Text::new(concat!(
                include_str!("scripts/base.lua"),
                include_str!("scripts/masks.lua"),
                include_str!("scripts/rows.lua"),
                "return (function()\n",
                $(include_str!(concat!("scripts/", $part, ".lua")),)*
                include_str!("scripts/note.lua"),
                include_str!(concat!("scripts/", $verbs, ".lua")),
                include_str!("scripts/end.lua"),
                "end)()\n",
            ))
        })
    };
}

/// A script: what every one begins with, and the verbs of one file.
pub type Script = LazyLock<Text>;

/// A script's text, and the hash by which a server knows it.
pub struct Text {
    text: &'static str,
    hash: String,
}

impl Text {
    fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    fn call(&self, by_hash: bool, shard: &Shard, json: &str, blobs: &Blobs) -> Cmd {
        let mut call = Cmd::new();
        match by_hash {
            true => call.arg("EVALSHA").arg(&self.hash),
            false => call.arg("EVAL").arg(self.text),
        };
        // The second key is never there. While a cluster moves the shard's slot to another node, a script that names a key which is
        // there and one which is not is run by neither: else it would miss keys that are on the other one.
        call.arg(2).arg(format!("{}:shard", shard.base)).arg(format!("{}:none", shard.base)).arg(json);
        for blob in &blobs.0 {
            call.arg(blob.as_slice());
        }
        call
    }
}

pub static SESSION: Script = script!("session": "retention" "chore" "line" "starts" "limited" "timer" "lease" "policy" "settle" "chain" "gate" "error" "lane" "recovery" "permits");
pub static CREATE: Script = script!("create": "retention" "chore" "line" "starts" "limited" "timer" "deadline" "lease" "policy" "settle" "chain" "gate" "error" "child" "repeat" "draft" "abandon" "occurrence" "chunks" "grow" "build");
pub static SCHEDULE: Script = script!("schedule": "retention" "chore" "line" "starts" "limited" "timer" "deadline" "lease" "policy" "settle" "chain" "gate" "error" "occurrence" "chunks" "build");
pub static PERMIT: Script = script!("permit": "lease" "starts" "permits");
pub static CLAIM: Script = script!("claim": "chore" "line" "starts" "limited" "lease" "slice");
pub static FORWARD: Script = script!("forward": "retention" "chore" "line" "starts" "limited" "timer" "lease" "slice" "policy" "settle" "chain" "gate" "error" "lane" "recovery");
pub static REPORT: Script = script!("report": "retention" "chore" "line" "starts" "limited" "timer" "lease" "policy" "settle" "chain" "gate" "error" "child" "lane" "draft" "adopt" "chunks" "grow");
pub static TICK: Script = script!("tick": "retention" "chore" "line" "starts" "limited" "timer" "deadline" "lease" "policy" "settle" "chain" "gate" "error" "child" "children" "lane" "recovery" "stop" "draft" "abandon" "permits" "by_hand" "again" "behind");
pub static CHECKPOINT: Script = script!("checkpoint": "retention" "chore" "lease" "draft");
pub static EAGER: Script = script!("eager": "retention" "chore" "line" "timer" "lease" "policy" "settle" "chain" "gate" "error" "draft" "adopt" "chunks");
pub static CANCEL: Script = script!("cancel": "retention" "chore" "line" "starts" "limited" "timer" "lease" "policy" "settle" "chain" "gate" "error" "lane" "recovery" "stop");
pub static COMMAND: Script = script!("command": "retention" "chore" "line" "timer" "lease" "policy" "settle" "chain" "gate" "error" "child" "repeat" "draft");
pub static BATCH: Script = script!("batch": "retention" "chore" "line" "timer" "lease" "policy" "settle" "chain" "gate" "error" "repeat" "draft" "chunks" "grow");
pub static SIGNAL: Script =
    script!("signal": "retention" "chore" "line" "timer" "lease" "policy" "settle" "chain" "gate" "error" "repeat");
pub static READ: Script = script!("read": "chore" "line" "lease" "starts" "limited" "permits");
pub static DOCTOR: Script =
    script!("doctor": "retention" "chore" "line" "starts" "limited" "timer" "lease" "error" "lane" "permits");
#[cfg(feature = "testing")]
pub static LEDGER: Script = script!("ledger":);

/// The binary parameters of a call. The JSON names each by its number.
#[derive(Debug, Default)]
pub struct Blobs(Vec<Vec<u8>>);

impl Blobs {
    /// Adds one; returns its number, `null` if it is empty.
    pub fn put(&mut self, bytes: Vec<u8>) -> Value {
        if bytes.is_empty() {
            return Value::Null;
        }
        self.0.push(bytes);
        self.0.len().into()
    }
}

/// What a script answered.
#[derive(Debug)]
pub struct Answer<T> {
    /// The JSON.
    pub json: T,
    blobs: Vec<Vec<u8>>,
}

impl<T> Answer<T> {
    /// Takes the blob of that number out.
    pub fn take(&mut self, number: usize) -> Result<Vec<u8>> {
        let blob = number.checked_sub(1).and_then(|at| self.blobs.get_mut(at)).map(std::mem::take);
        blob.ok_or_else(|| Error::corrupt(format!("the store's answer lacks its part {number}")))
    }
}

#[derive(Debug, Deserialize)]
struct Envelope<T> {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    text: String,
    answer: Option<T>,
    cost: Counted,
    /// The number of this operation on its shard, if it may have written.
    sequence: Option<u64>,
    /// How many operations the server has lost since this process saw its number.
    #[serde(default)]
    lost: u64,
}

#[derive(Debug, Deserialize)]
struct Counted {
    calls: u64,
    rows: u64,
    bytes: u64,
}

/// Runs a verb of a script on a shard.
pub async fn run<T: DeserializeOwned>(
    link: &Link,
    script: &Script,
    shard: &Shard,
    verb: &str,
    mut parameters: Value,
    blobs: Blobs,
) -> Result<(Answer<T>, Cost)> {
    parameters["verb"] = verb.into();
    parameters["seen"] = shard.seen.load(Ordering::Relaxed).into();
    drop_nulls(&mut parameters);
    let json = parameters.to_string();
    let answer = match link.query(verb, &script.call(true, shard, &json, &blobs)).await {
        Err(Failed::Redis(error)) if error.kind() == RedisErrorKind::Server(ServerErrorKind::NoScript) => {
            link.query(verb, &script.call(false, shard, &json, &blobs)).await
        }
        answer => answer,
    };
    let parts: Vec<Vec<u8>> = redis::from_redis_value(answer.map_err(|failed| failed.of(verb))?)
        .map_err(|error| Error::corrupt(format!("{verb}: the server's answer is none of a script")).because(error))?;
    let mut parts = parts.into_iter();
    let json = parts.next().unwrap_or_default();
    let envelope: Envelope<T> = serde_json::from_slice(&json).map_err(|error| {
        Error::corrupt(format!(
            "{verb}: the store's answer is not what it must be ({})",
            String::from_utf8_lossy(&json)
        ))
        .because(error)
    })?;
    if let Some(sequence) = envelope.sequence {
        shard.seen.fetch_max(sequence, Ordering::Relaxed);
    }
    if envelope.lost > 0 {
        tracing::error!(
            shard = shard.number,
            operations = envelope.lost,
            "the Redis server has lost operations that it had acknowledged (a restart or a fail-over without what was written last): \
             what is not recorded as done runs again"
        );
    }
    let cost = Cost { calls: envelope.cost.calls, rows: envelope.cost.rows, bytes: envelope.cost.bytes };
    match (envelope.kind, envelope.answer) {
        (None, Some(json)) => Ok((Answer { json, blobs: parts.collect() }, cost)),
        (Some(kind), _) => Err(Error::new(kind_of(&kind), envelope.text)),
        (None, None) => Err(Error::corrupt(format!("{verb}: the store gave no answer"))),
    }
}

fn kind_of(word: &str) -> ErrorKind {
    match word {
        "usage" => ErrorKind::Usage,
        "not_found" => ErrorKind::NotFound,
        "refused" => ErrorKind::Refused,
        "batch_settled" => ErrorKind::BatchSettled,
        _ => ErrorKind::Corrupt,
    }
}

/// Lua has no `null` among its own values: what is absent is left out.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// What a server answers that cannot do the call now. The client's texts name some of them in words of its own; a server before Redis 7
/// wraps those from within a script. `NOSCRIPT`: it was started again once more after the script had been loaded.
const NOT_READY: [&str; 9] =
    ["LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "NOREPLICAS", "NOSCRIPT", "non local key"];

/// What went wrong in Redis, as one of our errors.
pub fn redis_error(what: &str, error: redis::RedisError) -> Error {
    let told = error.to_string();
    let refused = error.kind() == RedisErrorKind::AuthenticationFailed
        || error.kind() == RedisErrorKind::Server(ServerErrorKind::NoPerm)
        || told.contains("NOAUTH")
        || told.contains("WRONGPASS");
    if refused {
        // The guide to Redis names what a user must be allowed.
        Error::usage(format!("{what}: the Redis server refuses this user or password, or lets it do too little"))
            .because(error)
    } else if told.contains("OOM") {
        Error::new(
            ErrorKind::Full,
            format!("{what}: the Redis server has reached its `maxmemory`; new work is refused until it has room"),
        )
    } else if is_away(&error, &told) {
        Error::unavailable(format!("{what}: the Redis server is away or not ready; the call may be repeated"))
            .because(error)
    } else {
        Error::corrupt(format!("{what}: the Redis server answered with an error")).because(error)
    }
}

fn is_away(error: &redis::RedisError, told: &str) -> bool {
    !matches!(error.retry_method(), RetryMethod::NoRetry)
        || error.is_io_error()
        || error.is_timeout()
        || NOT_READY.iter().any(|word| error.code() == Some(word) || told.contains(word))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn answered(line: &str) -> ErrorKind {
        let answer = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap().extract_error();
        redis_error("claim", answer.unwrap_err()).kind()
    }

    /// The names behind `before` in a text, up to the bracket that follows.
    fn names<'t>(text: &'t str, before: &str) -> BTreeSet<&'t str> {
        let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        let places = text.match_indices(before).map(|(at, _)| &text[at + before.len()..]);
        places.filter_map(|rest| rest.split_once('(').map(|(name, _)| name)).filter(is_name).collect()
    }

    #[test]
    fn each_script_has_the_functions_that_its_parts_call() {
        let scripts = [
            &SESSION,
            &CREATE,
            &SCHEDULE,
            &PERMIT,
            &CLAIM,
            &FORWARD,
            &REPORT,
            &TICK,
            &CHECKPOINT,
            &EAGER,
            &CANCEL,
            &COMMAND,
            &SIGNAL,
            &BATCH,
            &READ,
            &DOCTOR,
        ];
        let without_comments = |text: &str| -> String {
            text.lines().map(|line| format!("{}\n", line.split("--").next().unwrap_or_default())).collect()
        };
        let texts: Vec<String> = scripts.iter().map(|script| without_comments(script.text)).collect();
        let all_local: BTreeSet<&str> = texts.iter().flat_map(|text| names(text, "\nlocal function ")).collect();
        let mut calls = 0;
        for text in &texts {
            let verbs: Vec<&str> = names(text, "function DO.").into_iter().collect();
            // What all scripts begin with calls some parts if there is something for them to do, which those who lack them never bring.
            let (_, parts) = text.split_once("\nreturn (function()\n").unwrap();
            let (defined, called) = (names(text, "function G."), names(parts, "G."));
            let missing: Vec<&&str> = called.difference(&defined).collect();
            assert!(missing.is_empty(), "the script of {verbs:?} lacks G.{missing:?}");
            let own = names(text, "\nlocal function ");
            let words: BTreeSet<&str> = text.split(|c: char| !(c.is_alphanumeric() || "_.:(".contains(c))).collect();
            let missing: Vec<&&str> = all_local
                .difference(&own)
                .filter(|name| words.iter().any(|word| word.starts_with(&format!("{name}("))))
                .collect();
            assert!(missing.is_empty(), "the script of {verbs:?} lacks {missing:?}");
            calls += called.len();
        }
        assert!(calls > 100, "only {calls} calls have been found");
    }

    #[test]
    fn a_call_may_be_repeated_when_the_server_says_that_it_is_not_ready() {
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CLUSTERDOWN The cluster is down",
            "READONLY You can't write against a read only replica.",
            "NOSCRIPT No matching script. Please use EVAL.",
            "ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write against a read only replica.",
        ] {
            assert_eq!(answered(line), ErrorKind::Unavailable, "{line}");
        }
    }

    #[test]
    fn what_a_repeat_would_not_mend_is_no_reason_for_one() {
        assert_eq!(answered("ERR user_script:7: attempt to index a nil value"), ErrorKind::Corrupt);
        assert_eq!(answered("OOM command not allowed when used memory > 'maxmemory'."), ErrorKind::Full);
    }
}
