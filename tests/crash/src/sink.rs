//! What jobs do outside of the engine: they ask a system for something that accepts one request for each idempotency key. What each worker
//! has asked for stands in a file of its own, so that one that dies within a request spoils no other.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

/// How the files' names end.
const ENDING: &str = "effects";

/// A worker's way there.
#[derive(Debug)]
pub struct Sink(File);

impl Sink {
    /// The one of the worker with that ledger.
    pub fn beside(ledger: &Path) -> io::Result<Arc<Self>> {
        let file = OpenOptions::new().append(true).create(true).open(ledger.with_extension(ENDING))?;
        Ok(Arc::new(Self(file)))
    }

    /// Asks for what a job is to bring about.
    pub fn ask(&self, key: &str, what: &str) -> io::Result<()> {
        (&self.0).write_all(format!("{key} {what}\n").as_bytes())
    }
}

/// How often something was asked for, and how often it was accepted since its key was a new one.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub requests: u64,
    pub accepted: u64,
}

/// Adds up what all workers have asked for. Whatever is asked for again must come under the same key, and nothing else may.
pub fn add_up(folder: &Path) -> Result<Asked> {
    let (mut keys, mut things) = (HashSet::new(), HashSet::new());
    let mut requests = 0;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        // A request that its worker did not live to end has not been made.
        for request in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let (key, thing) = request.split_once(' ').with_context(|| format!("no request: {request}"))?;
            requests += 1;
            let (new_key, new_thing) = (keys.insert(key.to_owned()), things.insert(thing.to_owned()));
            ensure!(
                new_key == new_thing,
                "{thing} was asked for under key {key}, and one of the two is known with another"
            );
        }
    }
    Ok(Asked { requests, accepted: keys.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(requests: &[(&str, &str)]) -> Result<Asked> {
        let folder = tempfile::tempdir()?;
        for (worker, (key, what)) in requests.iter().enumerate() {
            Sink::beside(&folder.path().join(format!("{worker}.ledger")))?.ask(key, what)?;
        }
        add_up(folder.path())
    }

    #[test]
    fn what_is_asked_for_again_is_accepted_once() {
        let again = asked(&[("a", "row 1"), ("b", "row 2"), ("a", "row 1")]).unwrap();
        assert_eq!(again, Asked { requests: 3, accepted: 2 });
    }

    #[test]
    fn a_key_is_of_one_thing_and_a_thing_has_one_key() {
        assert!(asked(&[("a", "row 1"), ("a", "row 2")]).is_err());
        assert!(asked(&[("a", "row 1"), ("b", "row 1")]).is_err());
    }

    #[test]
    fn a_request_that_was_cut_off_has_not_been_made() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("1.effects"), "a row 1\nb ro").unwrap();
        assert_eq!(add_up(folder.path()).unwrap(), Asked { requests: 1, accepted: 1 });
    }
}
