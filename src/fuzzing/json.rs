//! The JSON documents that a store keeps: what a step was created as, its options, what a session says of itself, the answer to a
//! command, arguments.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::millis;
use crate::graph::{Edge, Graph, StepSpec};
use crate::retry::{Retry, due_time};
use crate::state::Counts;
use crate::store::{Retried, Session, StepOptions};

/// Any text as each of the documents.
pub fn json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(step) = comes_back::<StepSpec>(text) {
        step.retry.iter().for_each(check_waits);
        let counts = Counts { total: 100, failed: 50, ..Counts::default() };
        counts.settled_as(step.tolerate);
        let _ = Graph { steps: vec![step], edges: Vec::new() }.check();
    }
    if let Some(retry) = comes_back::<StepOptions>(text).and_then(|options| options.retry) {
        check_waits(&retry);
    }
    if let Some(retry) = comes_back::<Retry>(text) {
        check_waits(&retry);
    }
    comes_back::<Edge>(text);
    if let Ok(retried) = serde_json::from_str::<Retried>(text) {
        serde_json::from_str::<Retried>(&serde_json::to_string(&retried).unwrap()).unwrap();
    }
    if let Ok(session) = serde_json::from_str::<Session>(text) {
        let again = serde_json::to_string(&session).unwrap();
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Session>(&again).unwrap()).unwrap(), again);
    }
    // What does not parse is shown all the same, as JSON.
    let shown = crate::view::raw(text.to_owned());
    serde_json::from_str::<serde::de::IgnoredAny>(shown.get()).unwrap();
    crate::view::pattern(text);
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = serde_json::from_str(text).ok()?;
    let again = serde_json::to_string(&value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&again).unwrap(), value, "{again}");
    Some(value)
}

fn check_waits(retry: &Retry) {
    for attempt in 0..=u8::MAX {
        for dice in [0.0, 1.0] {
            if let Some(wait) = retry.wait_after(attempt, dice) {
                assert!(attempt < crate::state::MAX_ATTEMPTS, "no byte can count attempt {attempt}");
                assert!(due_time(1_790_000_000_000, wait) >= 1_790_000_000_000 + millis(wait).min(1 << 60));
            }
        }
    }
}
