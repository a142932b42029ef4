//! Declaring a schedule: in a program's [`App`](crate::App), or in a store while it runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::value::RawValue;

use super::Schedule;
use super::cron::Rule;
use super::definition::{Definition, Missed, What};
use crate::app::{App, arguments_of};
use crate::clock::millis;
use crate::error::{Error, Result};
use crate::graph::{check_key, check_name};
use crate::job::Job;
use crate::start_job::START_QUEUE;
use crate::store::{Key, Overlap};
use crate::worker::attempt::Role;
use crate::workflow::Workflow;

/// Where a schedule is declared.
pub trait Declare: Sized + private::Sealed {
    /// What comes of it.
    type Declared;
    #[doc(hidden)]
    fn declare(self, name: String, definition: Made) -> Self::Declared;
}

/// A definition, or what is wrong with it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Made(Result<Definition>);

mod private {
    pub trait Sealed {}
    impl<S> Sealed for crate::App<S> {}
    impl Sealed for crate::schedule::Schedule {}
}

impl<S: Send + Sync + 'static> Declare for App<S> {
    type Declared = Self;

    fn declare(self, name: String, Made(definition): Made) -> Self {
        App::declare(self, name, definition)
    }
}

impl Declare for Schedule {
    type Declared = Pin<Box<dyn Future<Output = Result<Schedule>> + Send>>;

    fn declare(self, name: String, Made(definition): Made) -> Self::Declared {
        Box::pin(async move {
            let put = async { self.put(&definition?).await };
            put.await.map_err(|error| error.during(format_args!("schedule `{name}`")))?;
            Ok(self)
        })
    }
}

/// A schedule without a rule so far.
#[must_use = "nothing is declared before its rule and `start` or `enqueue`"]
#[derive(Debug)]
pub struct Unruled<T> {
    into: T,
    name: String,
}

impl<T: Declare> Unruled<T> {
    pub(crate) fn new(into: T, name: String) -> Self {
        Self { into, name }
    }

    /// At the times of a cron rule (see [`Rule::cron`]), of the wall clocks of UTC unless a [`zone`](NewSchedule::zone) is named.
    pub fn cron(self, rule: impl Into<String>) -> NewSchedule<T> {
        NewSchedule::new(self.into, self.name, Times::Cron { rule: rule.into(), zone: "UTC".to_owned() })
    }

    /// At the multiples of an interval since 1970-01-01T00:00:00Z.
    pub fn every(self, interval: Duration) -> NewSchedule<T> {
        NewSchedule::new(self.into, self.name, Times::Every(interval))
    }
}

#[derive(Debug)]
enum Times {
    Cron {
        rule: String,
        zone: String,
    },
    Every(Duration),
    /// A zone was named for an interval.
    EveryInZone,
}

/// A schedule that is being declared: it is once it is told what it starts or enqueues.
#[must_use = "nothing is declared before `start` or `enqueue`"]
pub struct NewSchedule<T> {
    into: T,
    name: String,
    times: Times,
    overlap: Option<Overlap>,
    key: Option<String>,
    missed: Missed,
    grace: Option<Duration>,
    jitter: Duration,
    queue: Option<String>,
    priority: i32,
}

impl<T> fmt::Debug for NewSchedule<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewSchedule({} at {:?})", self.name, self.times)
    }
}

impl<T: Declare> NewSchedule<T> {
    fn new(into: T, name: String, times: Times) -> Self {
        Self {
            into,
            name,
            times,
            overlap: None,
            key: None,
            missed: Missed::default(),
            grace: None,
            jitter: Duration::ZERO,
            queue: None,
            priority: 0,
        }
    }

    /// The IANA time zone whose wall clocks the cron rule goes by. At their changes a time that does not exist means the first instant after
    /// the gap, and one that exists twice means the first of the two.
    pub fn zone(mut self, name: impl Into<String>) -> Self {
        self.times = match self.times {
            Times::Cron { rule, .. } => Times::Cron { rule, zone: name.into() },
            Times::Every(_) | Times::EveryInZone => Times::EveryInZone,
        };
        self
    }

    /// An occurrence is skipped while another workflow of its type that was started so has not finished: building, pending, running, paused
    /// and cancelling all count. Without any rule of this kind workflows overlap.
    pub fn unless_running(self) -> Self {
        self.overlap(Overlap::Skip)
    }

    /// An occurrence waits while another one has not finished; all that wait start one after the other, in order.
    pub fn after_running(self) -> Self {
        self.overlap(Overlap::Wait)
    }

    /// An occurrence waits while another one has not finished; it is skipped if one waits already.
    pub fn once_after_running(self) -> Self {
        self.overlap(Overlap::WaitOne)
    }

    /// An occurrence cancels the workflow that has not finished, and starts once that has come to its end.
    pub fn instead_of_running(self) -> Self {
        self.overlap(Overlap::Cancel)
    }

    pub(crate) fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = Some(overlap);
        self
    }

    /// Only workflows of its type that were started with the same key are in each other's way.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// What becomes of instants at which nothing ran that could have fired them; the last is made up for unless set.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// How late an instant counts as on time; a minute unless set.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Each occurrence starts so much later at most, by a share of its own: that not everything starts at once.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// The queue of its jobs: those that start the workflows are in `default` unless set, others in their type's.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Its jobs run before those of lower priority in their queue; 0 unless set.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Starts a workflow at each instant. In texts of its arguments `{at}` stands for the instant, in RFC 3339, and `{at:%Y-%m-%d}` for what
    /// that format makes of it, both in the rule's zone.
    pub fn start<W: Workflow>(self, workflow: W) -> T::Declared {
        let key = self.taken_key();
        let what = key
            .and_then(|key| Ok(What::Start { workflow: W::NAME.to_owned(), arguments: arguments_of(&workflow)?, key }));
        self.declare(what, START_QUEUE)
    }

    /// Enqueues a lone job at each instant. In texts of its parameters `{at}` stands for the instant as in [`start`](Self::start).
    pub fn enqueue<J: Job>(self, job: J) -> T::Declared {
        let parameters = serde_json::to_string(&job)
            .map_err(|e| Error::usage(format!("{} cannot be written as JSON", J::NAME)).because(e));
        self.enqueue_json(J::NAME, parameters, J::QUEUE)
    }

    fn enqueue_json(self, job: &str, parameters: Result<String>, queue: &str) -> T::Declared {
        let what = match self.taken_key() {
            Ok(None) => parameters.map(|parameters| What::Enqueue { job: job.to_owned(), parameters }),
            Ok(Some(_)) => Err(Error::usage("only workflows overlap; a lone job has no rule for that")),
            Err(error) => Err(error),
        };
        self.declare(what, queue)
    }

    fn taken_key(&self) -> Result<Option<Key>> {
        match (self.overlap, &self.key) {
            (Some(overlap), key) => {
                let key = key.clone().unwrap_or_default();
                check_key(&key)?;
                Ok(Some(Key { key, overlap }))
            }
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Error::usage(
                "a key says which workflows are in each other's way; it needs unless_running, after_running or instead_of_running",
            )),
        }
    }

    fn declare(self, what: Result<What>, queue: &str) -> T::Declared {
        let definition = what.and_then(|what| {
            check_name("schedule", &self.name)?;
            let rule = match &self.times {
                Times::Cron { rule, zone } => Rule::cron(rule, zone)?,
                Times::Every(interval) => Rule::every(*interval)?,
                Times::EveryInZone => {
                    return Err(Error::usage("an interval goes by no wall clocks; a zone belongs to a cron rule"));
                }
            };
            let queue = self.queue.as_deref().unwrap_or(queue);
            check_name("queue", queue)?;
            let mut definition = Definition::new(rule, what, queue);
            definition.priority = self.priority;
            definition.missed = self.missed;
            definition.grace = self.grace.map_or(definition.grace, millis);
            definition.jitter = millis(self.jitter);
            definition.check()?;
            Ok(definition)
        });
        self.into.declare(self.name, Made(definition))
    }
}

impl NewSchedule<Schedule> {
    /// Starts a registered workflow by its name, with its arguments as JSON.
    pub fn start_named(self, workflow: &str, arguments: &RawValue) -> <Schedule as Declare>::Declared {
        let (workflow, arguments) = (workflow.to_owned(), arguments.get().to_owned());
        let what = self.taken_key().map(|key| What::Start { workflow, arguments, key });
        self.declare(what, START_QUEUE)
    }

    /// Enqueues a lone job of a registered type by its name, with its parameters as JSON.
    pub fn enqueue_named(self, job: &str, parameters: &RawValue) -> <Schedule as Declare>::Declared {
        let registry = self.into.client.registry();
        let queue = registry.kinds.get(job).map_or(START_QUEUE, |kind| kind.queue);
        let known = registry.check_type("enqueueing a lone job", job, Role::Job);
        let parameters = known.map(|()| parameters.get().to_owned());
        self.enqueue_json(job, parameters, queue)
    }
}
