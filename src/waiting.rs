//! Steps that no worker runs: they wait for a signal that somebody gives, or for a time. None of them takes a slot.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Millis, millis};
use crate::error::{Error, Result};
use crate::graph::{StepNumber, StepSpec};
use crate::job::Stored;
use crate::outputs::Outputs;
use crate::payload::MAX_JOB_BYTES;
use crate::record::{ErrorText, Outcome, Record};
use crate::render::words::span;
use crate::state::JobState;
use crate::store::{Awaits, WaitsUntil};
use crate::workflow::{Flow, Step, Steps};

/// What stands where a queue is asked for: no worker runs a step that waits.
pub(crate) const NO_QUEUE: &str = "-";

/// The error of the first step of a batch that was abandoned.
pub(crate) const ABANDONED: &str = "abandoned: the client that held the batch open ended without closing it";

/// What a signal carries: somebody's answer, for which a workflow waits.
///
/// ```
/// # use gusher::prelude::*;
/// use gusher::Signal;
///
/// #[derive(Serialize, Deserialize)]
/// struct Approval { by: String }
///
/// impl Signal for Approval {
///     const NAME: &str = "Approval";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Signal`",
    label = "expected a type that a signal carries",
    note = "implement `Signal` for it: `impl Signal for {Self} {{ const NAME: &str = \"{Self}\"; }}`"
)]
pub trait Signal: Stored {
    /// The name under which stores and the command line know it. Keep it when the type is renamed.
    const NAME: &'static str;
}

/// What a step waits for that no worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitsFor {
    /// A signal, which has the step's name.
    Signal {
        /// The type of what it carries.
        #[serde(rename = "type")]
        signal_type: String,
        /// How long it waits, in milliseconds; without, for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<Millis>,
        /// What becomes of it then.
        then: Then,
    },
    /// So many milliseconds, from its release on.
    Sleep(Millis),
    /// A time, in milliseconds since the epoch.
    Until(Millis),
    /// The jobs of the batch whose first step it is: that nobody holds it open any more, and all of them have settled.
    Batch,
    /// The ends of the batches within the batch whose step it is, which has one job for each.
    Batches,
}

/// What becomes of a wait whose signal does not come in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It fails; `retry` lets it wait anew.
    #[default]
    Fail,
    /// It is skipped.
    Skip,
    /// It succeeds with a value that was given beforehand.
    Value,
}

impl WaitsFor {
    /// In the place of a job type, for people: `signal Approval`, `3 d`.
    pub(crate) fn words(&self) -> String {
        match self {
            WaitsFor::Signal { signal_type, .. } => format!("signal {signal_type}"),
            WaitsFor::Sleep(time) => span(*time),
            WaitsFor::Until(time) => match jiff::Timestamp::from_millisecond(*time) {
                Ok(time) => time.to_string(),
                Err(_) => format!("{time} ms"),
            },
            WaitsFor::Batch => "its jobs".to_owned(),
            WaitsFor::Batches => "the batches within it".to_owned(),
        }
    }

    /// What makes no sense of it, if anything does not.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        match self {
            WaitsFor::Signal { timeout: None, then: Then::Skip | Then::Value, .. } => Some(
                "says what follows if its signal does not come in time, and has no `.timeout(..)`: it waits for ever",
            ),
            _ => None,
        }
    }

    /// What a store keeps of it. `value` is what it succeeds with if its signal does not come in time.
    pub(crate) fn awaits(&self, name: &str, value: &[u8]) -> Awaits {
        let (signal, until) = match self {
            WaitsFor::Signal { signal_type, timeout, .. } => (Some(signal_type.clone()), timeout.map(WaitsUntil::In)),
            WaitsFor::Sleep(time) => (None, Some(WaitsUntil::In(*time))),
            WaitsFor::Until(time) => (None, Some(WaitsUntil::At(*time))),
            WaitsFor::Batch | WaitsFor::Batches => (None, None),
        };
        let (then, error) = match self {
            WaitsFor::Signal { timeout, then: Then::Fail, .. } => {
                let error = timeout.map(|time| format!("the signal `{name}` did not come within {}", span(time)));
                (JobState::Failed, error.unwrap_or_default())
            }
            WaitsFor::Signal { then: Then::Skip, .. } => (JobState::Skipped, String::new()),
            // What it becomes if nobody closes it.
            WaitsFor::Batch => (JobState::Failed, ABANDONED.to_owned()),
            _ => (JobState::Succeeded, String::new()),
        };
        let result = if then == JobState::Failed { Err(ErrorText::Text(error.clone())) } else { Ok(value.to_vec()) };
        // When its time comes is not known: whoever is shown the job looks at when its step has settled.
        let ends = until.is_some() || *self == WaitsFor::Batch;
        let record = if then == JobState::Skipped || !ends { Vec::new() } else { record("", then, 0, result) };
        Awaits { signal, until, then, record, error }
    }
}

/// The record of the one job of a step that waits.
fn record(who: &str, state: JobState, at: Millis, result: Result<Vec<u8>, ErrorText>) -> Vec<u8> {
    let outcome = Outcome { at: 0, state, attempt: 1, started: at, finished: at, result, logs: Vec::new() };
    Record { worker: who.to_owned(), outcomes: vec![outcome] }.encode()
}

/// The record of a job that a signal settles which carries that JSON.
pub(crate) fn signal_record(who: &str, at: Millis, json: Vec<u8>) -> Vec<u8> {
    record(who, JobState::Succeeded, at, Ok(json))
}

/// The record of the job at a position of its chunk that a person has given that output.
pub(crate) fn given_record(who: &str, at: u16, now: Millis, json: Vec<u8>) -> Vec<u8> {
    let (state, result) = (JobState::Succeeded, Ok(json));
    let outcome = Outcome { at, state, attempt: 1, started: now, finished: now, result, logs: Vec::new() };
    Record { worker: who.to_owned(), outcomes: vec![outcome] }.encode()
}

/// What a signal carries as JSON, if a store could hold it.
pub(crate) fn carried<T: Signal>(payload: &T) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(payload)
        .map_err(|e| Error::usage(format!("a signal of type `{}` cannot be written as JSON", T::NAME)).because(e))?;
    if json.len() > MAX_JOB_BYTES {
        return Err(Error::usage(format!(
            "a signal of type `{}` carries {} bytes as JSON; at most {MAX_JOB_BYTES} are allowed. Put large data into a shared location and pass where it is",
            T::NAME,
            json.len()
        )));
    }
    Ok(json)
}

/// Reads what a signal of type `T` carries from JSON: tells it with every default filled in.
pub(crate) fn read<T: Signal>(json: &str) -> Result<Vec<u8>> {
    let payload: T = serde_json::from_str(json)
        .map_err(|e| Error::usage(format!("what was given does not fit the signal's type `{}`", T::NAME)).because(e))?;
    carried(&payload)
}

impl Flow {
    /// A step that waits for the signal of that name, which somebody gives by [`Client::signal`](crate::Client::signal) or by `signal` on the
    /// command line. It is kept if it is given before this step's turn has come. No slot is taken, and no worker needed.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # use gusher::Signal;
    /// # #[derive(Serialize, Deserialize)] struct Approval { by: String }
    /// # impl Signal for Approval { const NAME: &str = "Approval"; }
    /// # #[derive(Serialize, Deserialize)] struct Publish { approval: Outputs<Approval> }
    /// # impl Job for Publish { const NAME: &str = "Publish"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # fn configure(flow: &Flow) {
    /// let approval = flow.wait_for::<Approval>("manager").timeout(std::time::Duration::from_secs(3 * 24 * 3600));
    /// flow.run(Publish { approval: approval.outputs() });
    /// # }
    /// ```
    pub fn wait_for<T: Signal>(&self, name: impl Into<String>) -> Wait<'_, T> {
        let waits = WaitsFor::Signal { signal_type: T::NAME.to_owned(), timeout: None, then: Then::Fail };
        self.wait(T::NAME, waits).named(name)
    }

    /// A step that does nothing for so long, once what it comes after has settled.
    pub fn sleep(&self, time: Duration) -> Wait<'_, ()> {
        self.wait("sleep", WaitsFor::Sleep(millis(time)))
    }

    /// A step that does nothing until a time, in milliseconds since the epoch; if that has passed by then, it settles at once.
    pub fn until(&self, time: Millis) -> Wait<'_, ()> {
        self.wait("until", WaitsFor::Until(time))
    }

    fn wait<T>(&self, of: &str, waits: WaitsFor) -> Wait<'_, T> {
        Wait { step: self.waiting_step(StepSpec { waits: Some(waits), ..StepSpec::new(of, NO_QUEUE) }) }
    }
}

/// A handle on a step of a [`Flow`] that waits for a signal of type `T`, or for a time; copy it freely. It is a [step](Steps) like others.
pub struct Wait<'f, T> {
    step: Step<'f, T>,
}

impl<T> Clone for Wait<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Wait<'_, T> {}

impl<T> fmt::Debug for Wait<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.step.fmt(f)
    }
}

impl<T> Steps for Wait<'_, T> {
    fn ends(self, into: &mut Vec<(StepNumber, StepNumber)>) {
        self.step.ends(into);
    }
}

impl<T> Wait<'_, T> {
    /// Begins to wait once `upstream` has succeeded; see [`Step::after`].
    pub fn after(self, upstream: impl Steps) -> Self {
        Self { step: self.step.after(upstream) }
    }

    /// Begins to wait once `upstream` has settled, unless it was cancelled; see [`Step::after_settled`].
    pub fn after_settled(self, upstream: impl Steps) -> Self {
        Self { step: self.step.after_settled(upstream) }
    }

    /// Waits if `upstream` failed; is skipped if it did not; see [`Step::after_failure`].
    pub fn after_failure(self, upstream: impl Steps) -> Self {
        Self { step: self.step.after_failure(upstream) }
    }

    /// Begins to wait once `upstream` has settled, also when the workflow is cancelled; see [`Step::always`].
    pub fn always(self, upstream: impl Steps) -> Self {
        Self { step: self.step.always(upstream) }
    }

    /// `downstream` runs once this step has succeeded.
    pub fn before(self, downstream: impl Steps) -> Self {
        Self { step: self.step.before(downstream) }
    }

    /// Gives the step a name, which is also that of its signal.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { step: self.step.named(name) }
    }
}

impl<T: Signal> Wait<'_, T> {
    /// Waits so long, counted from when what it comes after has settled; without, for ever. Then it fails, unless told otherwise.
    pub fn timeout(self, time: Duration) -> Self {
        self.change(|timeout, _| *timeout = Some(millis(time)))
    }

    /// If its signal does not come in time, it fails: what comes after it waits, and `retry` lets it wait anew. So it is unless told otherwise.
    pub fn or_fail(self) -> Self {
        self.change(|_, then| *then = Then::Fail)
    }

    /// If its signal does not come in time, it is skipped, and what comes after it goes on:
    /// [`one_if_any`](Outputs::one_if_any) reads what there is.
    pub fn or_skip(self) -> Self {
        self.change(|_, then| *then = Then::Skip)
    }

    /// If its signal does not come in time, it goes on as if this one had.
    pub fn or(self, value: T) -> Self {
        let value = carried(&value);
        self.step.set_value(value);
        self.change(|_, then| *then = Then::Value)
    }

    /// What the signal carries, for a field of a job that reads it.
    pub fn outputs(self) -> Outputs<T> {
        Outputs::of(self.step.number())
    }

    fn change(self, change: impl FnOnce(&mut Option<Millis>, &mut Then)) -> Self {
        self.step.set_spec(|spec| {
            if let Some(WaitsFor::Signal { timeout, then, .. }) = &mut spec.waits {
                change(timeout, then);
            }
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(timeout: Option<Millis>, then: Then) -> WaitsFor {
        WaitsFor::Signal { signal_type: "Approval".into(), timeout, then }
    }

    #[test]
    fn what_follows_a_time_that_never_comes_is_a_mistake() {
        assert!(waits(None, Then::Skip).mistake().is_some() && waits(None, Then::Value).mistake().is_some());
        assert_eq!((waits(None, Then::Fail).mistake(), waits(Some(1), Then::Value).mistake()), (None, None));
    }

    #[test]
    fn a_wait_that_times_out_has_its_error_or_its_value_on_record() {
        let failed = waits(Some(3 * 86_400_000), Then::Fail).awaits("manager", b"");
        assert_eq!(failed.error, "the signal `manager` did not come within 3 d");
        let outcome = |awaits: &Awaits| Record::decode(&awaits.record).unwrap().outcomes.remove(0);
        assert_eq!(outcome(&failed).result, Err(ErrorText::Text(failed.error.clone())));
        let value = waits(Some(5), Then::Value).awaits("manager", b"{}");
        assert_eq!((value.then, outcome(&value).result), (JobState::Succeeded, Ok(b"{}".to_vec())));
        let endless = waits(None, Then::Fail).awaits("manager", b"");
        assert!(endless.until.is_none() && endless.record.is_empty());
    }

    #[test]
    fn what_a_step_waits_for_stands_in_the_place_of_its_type() {
        assert_eq!(waits(None, Then::Fail).words(), "signal Approval");
        assert_eq!(WaitsFor::Sleep(90_000).words(), "1 min 30 s");
        assert_eq!(WaitsFor::Until(0).words(), "1970-01-01T00:00:00Z");
    }
}
