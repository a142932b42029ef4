//! What the scripts answer.

mod changes;
mod reads;

use serde::{Deserialize, Deserializer};

pub use self::changes::*;
pub use self::reads::*;
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::slice::Mask;
use crate::store::{ChunkRef, Limited, Pausable};

/// A list; Lua writes an empty one as an object.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> std::result::Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List<T> {
        Some(Vec<T>),
        None {},
    }
    Ok(match List::deserialize(deserializer)? {
        List::Some(items) => items,
        List::None {} => Vec::new(),
    })
}

fn corrupt(what: &str) -> Error {
    Error::corrupt(format!("the store's answer holds {what}"))
}

/// A workflow's id from the 32 hexadecimal digits that the store keeps.
pub fn workflow_id(text: &str) -> Result<WorkflowId> {
    text.parse().map_err(|_| corrupt("a workflow's id that is none"))
}

/// A chunk is numbered within its workflow; to the rest of the crate both numbers are one. That of a chained step has a number above these
/// 32 bits, too: that of the step.
fn join_chunk(shard: u16, wf: u64, chunk: u64) -> ChunkRef {
    ChunkRef { shard, id: wf << 32 | chunk & 0xffff_ffff, chained: (chunk >> 32) as StepNumber }
}

/// The number of a workflow, and that of its chunk there.
pub fn chunk_number(chunk: ChunkRef) -> (u64, u64) {
    let (wf, number) = split_chunk(chunk.id);
    (wf, number | u64::from(chunk.chained) << 32)
}

pub fn split_chunk(id: u64) -> (u64, u64) {
    (id >> 32, id & 0xffff_ffff)
}

fn mask(bytes: &[u8]) -> Result<Mask> {
    Mask::from_bytes(bytes).ok_or_else(|| corrupt("a mask that is too long"))
}

#[derive(Debug, Deserialize)]
pub struct Time {
    pub time: Millis,
}

#[derive(Debug, Deserialize)]
pub struct One<T> {
    pub row: Option<T>,
}

#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Many<T> {
    #[serde(deserialize_with = "list")]
    pub list: Vec<T>,
}

/// A limit's name, as the store keeps it.
fn limited(name: &str) -> Option<Limited> {
    match name.split_once(':')? {
        ("q", name) => Some(Limited::Queue(name.to_owned())),
        ("t", name) => Some(Limited::Type(name.to_owned())),
        _ => None,
    }
}

/// A time as text: the scripts' JSON has no more than fourteen digits.
fn time(text: &str) -> Result<Millis> {
    text.parse().map_err(|_| corrupt("a time that is none"))
}

/// A queue or type as the set of what is paused names it.
pub fn pausable(name: &str) -> Option<Pausable> {
    match name.split_once(':')? {
        ("q", name) => Some(Pausable::Queue(name.to_owned())),
        ("t", name) => Some(Pausable::Type(name.to_owned())),
        _ => None,
    }
}
