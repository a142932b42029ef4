//! What a store is given of steps that no worker runs, since they wait for a signal or a time; and the verb that gives a signal.

use serde::{Deserialize, Serialize};

use super::verbs::Woken;
use crate::clock::Millis;
use crate::id::{SessionId, WorkflowId};
use crate::state::JobState;

/// What the one job of a step waits for that no worker runs. When the step is released, the job becomes deferred, unless its signal has
/// come before; then the signal settles it, or its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaits {
    /// The type of the signal, which has the step's name. Without, only a time ends the wait.
    pub signal: Option<String>,
    /// When the wait is over; without, never.
    pub until: Option<WaitsUntil>,
    /// What the job becomes at that time: succeeded, failed or skipped.
    pub then: JobState,
    /// The outcome record that the job gets at that time; empty if none.
    pub record: Vec<u8>,
    /// The error that it fails with, if it does.
    pub error: String,
}

/// When a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsUntil {
    /// So long after the step's release, or after a repair that lets it wait anew.
    In(Millis),
    /// At that time.
    At(Millis),
}

impl WaitsUntil {
    /// The time, and the wait: one of them.
    pub fn parts(self) -> (Option<Millis>, Option<Millis>) {
        match self {
            WaitsUntil::In(wait) => (None, Some(wait)),
            WaitsUntil::At(time) => (Some(time), None),
        }
    }
}

/// Parameters of [`Store::signal`](super::Store::signal).
#[derive(Clone, Debug)]
pub struct SendSignal {
    /// Who asks.
    pub session: SessionId,
    /// Counts up with each command of the session, from 1; one seen before is answered as it was.
    pub command: u64,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The signal's name, which is that of the step that waits for it.
    pub name: String,
    /// The type of what it carries.
    pub signal_type: String,
    /// What it carries: the outcome record of the job that it settles.
    pub record: Vec<u8>,
}

/// What [`Store::signal`](super::Store::signal) answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalled {
    /// When the signal had been given before: then this one counts for nothing.
    #[serde(default)]
    pub already: Option<Millis>,
    /// Whether it is kept, since its step has not been released.
    #[serde(default)]
    pub kept: bool,
    /// Whether chores are left: `tick` until there are none.
    #[serde(default)]
    pub more: bool,
    /// Whom to wake; nobody, if the command is answered once more.
    #[serde(skip)]
    pub woken: Woken,
}
