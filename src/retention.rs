//! How long finished workflows are kept. Pure; the store notes, when a workflow finishes, from when on it may be deleted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Millis, millis};
use crate::state::WorkflowState;

/// A day in milliseconds.
const DAY: Millis = 86_400_000;
/// The most finished workflows that a rule by count may keep: so many are looked at when one finishes.
pub(crate) const MAX_KEPT: u32 = 10_000;

/// How long the finished workflows of a type are kept, each from its end on: seven days if it succeeded, thirty if it failed or was
/// cancelled, unless told otherwise.
///
/// ```
/// # use gusher::{KeepFor, Retention};
/// let a_week = Retention::days(7);
/// let few = Retention::default().succeeded(KeepFor::days(1).most(100)).failed(KeepFor::ever());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    succeeded: KeepFor,
    failed: KeepFor,
    cancelled: KeepFor,
}

impl Default for Retention {
    fn default() -> Self {
        Self { succeeded: KeepFor::days(7), failed: KeepFor::days(30), cancelled: KeepFor::days(30) }
    }
}

impl Retention {
    /// The same for all that have finished.
    pub fn all(keep: KeepFor) -> Self {
        Self { succeeded: keep, failed: keep, cancelled: keep }
    }

    /// All that have finished, for so many days.
    pub fn days(days: u32) -> Self {
        Self::all(KeepFor::days(days))
    }

    /// Nothing is deleted unless somebody says so.
    pub fn for_ever() -> Self {
        Self::all(KeepFor::ever())
    }

    /// Those that succeeded.
    pub fn succeeded(self, keep: KeepFor) -> Self {
        Self { succeeded: keep, ..self }
    }

    /// Those that failed.
    pub fn failed(self, keep: KeepFor) -> Self {
        Self { failed: keep, ..self }
    }

    /// Those that were cancelled.
    pub fn cancelled(self, keep: KeepFor) -> Self {
        Self { cancelled: keep, ..self }
    }

    /// What holds for a workflow that has finished so.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    pub(crate) fn of(&self, state: WorkflowState) -> KeepFor {
        match state {
            WorkflowState::Succeeded => self.succeeded,
            WorkflowState::Cancelled => self.cancelled,
            _ => self.failed,
        }
    }
}

/// For how long, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepFor {
    /// Milliseconds from its end on; without, any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) age: Option<Millis>,
    /// Of the workflows of one type that finished in one way only so many, those that finished last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) most: Option<u32>,
}

impl KeepFor {
    /// So long from its end on.
    pub fn time(time: Duration) -> Self {
        Self { age: Some(millis(time)), most: None }
    }

    /// So many days from its end on.
    pub fn days(days: u32) -> Self {
        Self { age: Some(Millis::from(days) * DAY), most: None }
    }

    /// Until somebody deletes it.
    pub fn ever() -> Self {
        Self { age: None, most: None }
    }

    /// And of the workflows of its type that finished alike at most so many, up to 10,000: those that finished last.
    pub fn most(self, most: u32) -> Self {
        Self { most: Some(most.min(MAX_KEPT)), ..self }
    }

    /// When what finished at `end` may be deleted by its age; `None` if never.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    pub(crate) fn until(&self, end: Millis) -> Option<Millis> {
        self.age.map(|age| end.saturating_add(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_kept_for_a_week_and_failure_for_a_month_unless_told_otherwise() {
        let of = |retention: Retention, state| retention.of(state).until(0).map(|until| until / DAY);
        let standard = Retention::default();
        assert_eq!(of(standard, WorkflowState::Succeeded), Some(7));
        assert_eq!(of(standard, WorkflowState::Failed), Some(30));
        assert_eq!(of(standard, WorkflowState::Cancelled), Some(30));
        assert_eq!(of(Retention::for_ever(), WorkflowState::Failed), None);
        assert_eq!(of(Retention::days(2).failed(KeepFor::ever()), WorkflowState::Succeeded), Some(2));
    }

    #[test]
    fn a_retention_comes_back_from_a_store_as_it_was() {
        let retention = Retention::days(7).failed(KeepFor::ever().most(20));
        let json = serde_json::to_string(&retention).unwrap();
        assert_eq!(json, r#"{"succeeded":{"age":604800000},"failed":{"most":20},"cancelled":{"age":604800000}}"#);
        assert_eq!(serde_json::from_str::<Retention>(&json).unwrap(), retention);
    }
}
