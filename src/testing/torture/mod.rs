//! A workflow under torture: its worker killed before and after each call to the store, each answer of the store lost once, every job
//! run twice. Whatever happens on the way, the outputs, the final state and the outside world must be those of an undisturbed run.
//!
//! `outcome` says in what two runs differ, `search` which jobs make the difference, `report` tells.

mod outcome;
mod report;
mod search;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::outcome::{Outcome, difference};
pub use self::report::{Surprise, TortureReport, UnsafeJob};
use super::simulation::script::{Again, Fault, JobKey, Script};
use super::simulation::{Lesson, Setup, simulate};
use crate::app::{App, arguments_of};
use crate::error::{Error, ErrorKind, Result};
use crate::workflow::Workflow;

/// How many rounds with a fault there are at most, unless more are asked for.
const ROUNDS: usize = 1000;

/// Prepares to run a workflow again and again, with something else going wrong each time.
///
/// `world` makes what is outside of the workflow, anew for each round: an empty database, a mail server that counts. `app` makes the
/// application in it, and `look` tells what must be the same in the end, whatever went wrong on the way.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::Mutex;
///
/// use gusher::prelude::*;
/// use gusher::testing::torture;
///
/// type Mailbox = Arc<Mutex<Vec<String>>>;
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet { whom: String }
///
/// impl Job for Greet {
///     const NAME: &str = "Greet";
///     type Output = ();
///     type State = Mailbox;
///     async fn perform(self, ctx: &Context<Mailbox>) -> JobResult<()> {
///         ctx.state().lock().unwrap().push(format!("Hello, {}!", self.whom));
///         Ok(())
///     }
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Greetings;
///
/// impl Workflow for Greetings {
///     const NAME: &str = "Greetings";
///     fn configure(&self, flow: &Flow) -> gusher::Result<()> {
///         flow.run(Greet { whom: "Ada".into() });
///         Ok(())
///     }
/// }
///
/// fn app(mailbox: &Mailbox) -> App<Mailbox> {
///     let mailbox = mailbox.clone();
///     App::new(move || { let mailbox = mailbox.clone(); async { Ok::<_, std::io::Error>(mailbox) } }).job::<Greet>()
/// }
///
/// let report = torture(Mailbox::default, app, |mailbox| mailbox.lock().unwrap().clone()).run(Greetings)?;
/// // A worker that dies after the mail and before its report leaves a job that sends the mail again.
/// assert!(report.to_string().contains("Greet #0 is not safe to repeat: with it run twice the world differs"));
/// # Ok::<(), gusher::Error>(())
/// ```
pub fn torture<'a, V, S, P>(
    world: impl FnMut() -> V + 'a,
    app: impl Fn(&V) -> App<S> + 'a,
    look: impl FnMut(&V) -> P + 'a,
) -> Torture<'a, V, S, P>
where
    S: Send + Sync + 'static,
    P: PartialEq + fmt::Debug,
{
    let setup = Setup { slots: 1, ..Setup::default() };
    Torture { world: Box::new(world), app: Box::new(app), look: Box::new(look), setup, at_most: ROUNDS }
}

/// Makes the application in a world.
type AppIn<'a, V, S> = Box<dyn Fn(&V) -> App<S> + 'a>;

/// What [`torture`] has prepared.
pub struct Torture<'a, V, S, P> {
    world: Box<dyn FnMut() -> V + 'a>,
    app: AppIn<'a, V, S>,
    look: Box<dyn FnMut(&V) -> P + 'a>,
    setup: Setup,
    at_most: usize,
}

impl<V, S, P> fmt::Debug for Torture<'_, V, S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Torture").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl<V, S: Send + Sync + 'static, P: PartialEq + fmt::Debug> Torture<'_, V, S, P> {
    /// Ids and jitter of every round come from this number; 0 unless set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.setup.seed = seed;
        self
    }

    /// How many jobs run at once; 1 unless set, so that the order does not depend on threads of the application.
    pub fn slots(mut self, slots: u32) -> Self {
        self.setup.slots = slots;
        self
    }

    /// How many rounds there are at most in which something goes wrong at a call to the store; 1,000 unless set. If there are more
    /// calls, some are passed over, here and there.
    pub fn at_most(mut self, rounds: usize) -> Self {
        self.at_most = rounds;
        self
    }

    /// As of [`Simulation::patience`](super::Simulation::patience).
    pub fn patience(mut self, real: std::time::Duration) -> Self {
        self.setup.lesson = Lesson::new(real);
        self
    }

    /// Runs the workflow, undisturbed at first, then in every way in which it can be disturbed. An error if the undisturbed workflow
    /// cannot be run, or ends in another way each time.
    pub fn run<W: Workflow>(mut self, workflow: W) -> Result<TortureReport> {
        let arguments = arguments_of(&workflow)?;
        let calm = self.round::<W>(&arguments, Script::default())?;
        let again = self.round::<W>(&arguments, Script::default())?;
        if let Some(difference) = difference(&calm, &again) {
            return Err(Error::usage(format!(
                "two undisturbed runs of {} differ, so nothing can be learned from others: {difference}; leave out of the \
                 look, and of outputs, what is another each time, such as times and ids",
                W::NAME
            )));
        }
        let mut report = TortureReport { rounds: 2, calls: calm.run.calls.len(), ..TortureReport::default() };
        let mut disturbed = Vec::new();
        for (call, fault) in faults(calm.run.calls.len(), self.at_most) {
            let (difference, hit) = self.disturbed::<W>(&arguments, &calm, Script::fault(call, fault), &mut report)?;
            if hit {
                *(if fault == Fault::AnswerLost { &mut report.lost_answers } else { &mut report.kills }) += 1;
            }
            if let Some(found) = difference {
                let verb = calm.run.calls[call - 1];
                disturbed.push((format!("{fault} {call} ({verb})"), found));
            }
        }
        let mut twice = |jobs: Again, report: &mut TortureReport| {
            Ok(self.disturbed::<W>(&arguments, &calm, Script::again(jobs), report)?.0)
        };
        let all = twice(Again::All, &mut report)?;
        if all.is_some() || !disturbed.is_empty() {
            search::search(&calm.run, &mut report, &mut twice)?;
        }
        report.explain(all, disturbed);
        Ok(report)
    }

    fn round<W: Workflow>(&mut self, arguments: &str, script: Script) -> Result<Outcome<P>> {
        let world = (self.world)();
        let workflow = workflow_of::<W>(arguments)?;
        let run = simulate(&(self.app)(&world), workflow, &self.setup, script, Vec::new())?;
        let seen = (self.look)(&world);
        Ok(Outcome { run, seen })
    }

    /// One round in which something goes wrong: in what it ends differently, and whether it did go wrong.
    fn disturbed<W: Workflow>(
        &mut self,
        arguments: &str,
        calm: &Outcome<P>,
        script: Script,
        report: &mut TortureReport,
    ) -> Result<(Option<Found>, bool)> {
        report.rounds += 1;
        let call = script.fault.map_or(0, |(call, _)| call);
        match self.round::<W>(arguments, script) {
            Ok(outcome) => {
                report.repeats = report.repeats.max(outcome.run.again as usize);
                let found = difference(calm, &outcome)
                    .map(|difference| Found { difference, repeated: outcome::repeated(&calm.run, &outcome.run) });
                Ok((found, outcome.run.calls.len() as u64 >= call))
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => Err(error),
            Err(error) => Ok((Some(Found { difference: error.to_string(), repeated: Vec::new() }), true)),
        }
    }
}

/// What a disturbed round made different.
#[derive(Clone, Debug)]
struct Found {
    difference: String,
    /// The jobs that ran more often than in the undisturbed run.
    repeated: Vec<JobKey>,
}

fn workflow_of<W: Serialize + DeserializeOwned>(arguments: &str) -> Result<W> {
    serde_json::from_str(arguments).map_err(|e| Error::usage("the arguments do not come back from JSON").because(e))
}

/// Every call with everything that can go wrong at it; if those are too many, evenly spread ones.
fn faults(calls: usize, at_most: usize) -> impl Iterator<Item = (usize, Fault)> {
    let all = [Fault::KilledBefore, Fault::KilledAfter, Fault::AnswerLost];
    let total = calls * all.len();
    let rounds = total.min(at_most);
    (0..rounds).map(move |round| round * total / rounds).map(move |at| (at / all.len() + 1, all[at % all.len()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_goes_wrong_in_each_way_and_fewer_rounds_are_spread_over_all_calls() {
        let every: Vec<_> = faults(2, 100).collect();
        let (before, after, lost) = (Fault::KilledBefore, Fault::KilledAfter, Fault::AnswerLost);
        assert_eq!(every, [(1, before), (1, after), (1, lost), (2, before), (2, after), (2, lost)]);
        let few: Vec<_> = faults(1_000, 7).collect();
        assert_eq!(few.len(), 7);
        assert!(few.iter().any(|(_, fault)| *fault == lost) && few.iter().any(|(_, fault)| *fault == before));
        assert_eq!(faults(0, 7).count(), 0);
    }
}
