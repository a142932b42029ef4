//! A store without a server: what it is answered has been written beforehand, and may be anything.

use std::sync::Arc;

use parking_lot::Mutex;
use redis::Value;

use super::link::{Failed, Link};
use super::shard::Shards;
use super::{Options, RedisStore, wake};
use crate::error::Error;
use crate::store::Meters;

/// Answers, each to a verb.
pub struct Written(Mutex<Vec<(String, Value)>>);

impl Written {
    /// The first answer that is left for a verb; without one the server is away.
    pub fn query(&self, verb: &str) -> Result<Value, Failed> {
        let mut answers = self.0.lock();
        let at = answers.iter().position(|(of, _)| of == verb);
        at.map(|at| answers.remove(at).1).ok_or_else(|| Failed::Before(Error::unavailable("nothing more is written")))
    }
}

impl RedisStore {
    /// A store that is answered what is written: for each answer the verb, and the parts of which the first is JSON.
    pub(crate) fn written(options: Options, answers: Vec<(String, Vec<Vec<u8>>)>) -> Self {
        let value = |parts: Vec<Vec<u8>>| Value::Array(parts.into_iter().map(Value::BulkString).collect());
        let answers = answers.into_iter().map(|(verb, parts)| (verb, value(parts))).collect();
        Self {
            shards: Shards::new(&options.prefix, options.shards.unwrap_or(1)),
            ahead: 0,
            ledger: options.ledger(),
            options,
            link: Arc::new(Link::written(Written(Mutex::new(answers)))),
            meters: Meters::default(),
            wakers: wake::Wakers::default(),
        }
    }
}
