//! The JSON documents that a store keeps: what a step was created as, its options, what a session says of itself, the answer to a
//! command, arguments, schedules.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::millis;
use crate::graph::{Edge, Graph, StepSpec};
use crate::retry::{Retry, due_time};
use crate::schedule::definition::Definition;
use crate::schedule::due;
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
    if let Ok(definition) = Definition::decode("fuzzed", text) {
        let (_, again) = definition.encode().unwrap();
        assert_eq!(Definition::decode("fuzzed", &again).unwrap(), definition, "{again}");
        fire(&definition);
    }
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

/// What is due moves on, and can be enqueued.
fn fire(definition: &Definition) {
    let Some(next) = definition.rule.next_after(1_790_000_000_000) else { return };
    for late in [0, 1_000, 100_000_000] {
        let due = due(&definition.rule, definition.missed, definition.grace, next, next + late);
        assert!(due.next.is_none_or(|after| after > next), "{due:?}");
        if let Ok(Some(jobs)) = definition.jobs("fuzzed", 0, &due.instants) {
            assert!((1..=due.instants.len()).contains(&(jobs.chunk.jobs as usize)));
        }
    }
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
