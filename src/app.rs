//! The application: what a program registers, and what it makes of it: a client, a worker, a command line.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::broker::{Brokers, Traffic, Way};
use crate::chain::{Following, Follows, follow, lacks};
use crate::children::{BeginChild, static_child_type, workflow_of};
use crate::client::Client;
use crate::condition::{Asked, Condition};
use crate::error::{Error, Result};
use crate::hooks::{AroundPerform, EnqueueHooks, Hook, JobToEnqueue, Surroundings};
use crate::job::{Job, Source};
use crate::limit::Limit;
use crate::lone::Keep;
use crate::perform_now::{AnySurroundings, Home};
use crate::queue_setup::QueueSetup;
use crate::retention::Retention;
use crate::schedule::Unruled;
use crate::schedule::definition::{Definition, What};
use crate::start_job::{StartJobOf, static_start_type};
use crate::store::{self, Limited, Session, Store};
use crate::waiting::{Signal, WaitsFor};
use crate::worker::attempt::{JobHandler, Kind, Role, SourceHandler};
use crate::worker::{Handlers, Worker, WorkerOptions};
use crate::workflow::{Flow, Plan, Workflow};

type StateFactory<S> = Arc<dyn Fn() -> BoxFuture<'static, Result<S, Box<dyn StdError + Send + Sync>>> + Send + Sync>;

/// Makes the plan of a workflow, once it is known that it may start.
pub(crate) type PlanLater = Box<dyn FnOnce() -> Result<Plan> + Send>;

/// Reads the arguments of a workflow from JSON: tells them with every default filled in, and how its plan is made.
type Parse = fn(&str) -> Result<(String, PlanLater)>;

/// Reads what a signal carries from JSON: tells it with every default filled in.
type ReadSignal = fn(&str) -> Result<Vec<u8>>;

/// What a program knows: job types and workflow types by their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    pub kinds: BTreeMap<&'static str, Kind>,
    pub workflows: BTreeMap<&'static str, Parse>,
    /// How what signals carry is read, by its type.
    pub signals: BTreeMap<&'static str, ReadSignal>,
    /// How the jobs of a chained step are made, by their type and that of those before them.
    pub follows: Following,
    /// How people call the program, if it has a command line.
    pub program: Option<String>,
    /// What is started at certain times, as the program declares it.
    pub schedules: BTreeMap<String, Definition>,
    /// How much of a queue runs at once, and how much starts in a time.
    pub queue_limits: BTreeMap<String, Limit>,
    /// How long workflows are kept once they have finished: by type, and all others.
    pub retentions: BTreeMap<&'static str, Retention>,
    pub retention: Retention,
    /// How long lone jobs are kept once they have settled.
    pub keep: crate::lone::Keep,
    /// What is asked before a lone job is enqueued.
    pub before_enqueue: EnqueueHooks,
    /// Which queues go by which brokers.
    pub brokers: Brokers,
}

/// Everything that a program registers. Its jobs share one state, made by an async function where jobs run and nowhere else.
///
/// ```no_run
/// # use gusher::prelude::*;
/// # #[derive(Serialize, Deserialize)] struct Greet;
/// # impl Job for Greet { const NAME: &str = "Greet"; type Output = (); type State = Db;
/// #     async fn perform(self, _: &Context<Db>) -> JobResult<()> { Ok(()) } }
/// # struct Db; impl Db { async fn connect() -> Result<Db, std::io::Error> { Ok(Db) } }
/// fn main() -> std::process::ExitCode {
///     App::new(Db::connect).job::<Greet>().main()
/// }
/// ```
pub struct App<S = ()> {
    factory: StateFactory<S>,
    handlers: Handlers<S>,
    hooks: Vec<Arc<dyn Hook<S>>>,
    pub(crate) registry: Registry,
    pub(crate) options: WorkerOptions,
    pub(crate) default_store: String,
    /// What has been declared wrong, to be told once it is used.
    mistakes: Vec<Error>,
}

impl<S> fmt::Debug for App<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl App<()> {
    /// An application whose jobs need no state.
    pub fn stateless() -> Self {
        Self::new(|| async { Ok::<(), std::convert::Infallible>(()) })
    }
}

impl<S: Send + Sync + 'static> App<S> {
    /// An application whose jobs share what `state` makes. It is called in workers, and by clients that
    /// [perform](Client::perform_now) a job themselves: `list` or `show` opens no database.
    pub fn new<F, E>(state: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S, E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self {
            factory: Arc::new(move || {
                let made = state();
                Box::pin(async move { made.await.map_err(Into::into) })
            }),
            handlers: BTreeMap::new(),
            hooks: Vec::new(),
            registry: Registry::default(),
            options: WorkerOptions::default(),
            default_store: "sqlite:gusher.db".to_owned(),
            mistakes: Vec::new(),
        }
    }

    /// Registers a job type.
    ///
    /// # Panics
    /// If another type is registered under its name.
    pub fn job<J: Job<State = S>>(mut self) -> Self {
        let handler = JobHandler::<J>::new();
        self.register(Arc::new(handler));
        self
    }

    /// Registers that jobs of type `F` follow those of type `P`, for steps that are [chained](crate::Step::each_then) so. Both are registered by
    /// [`job`](Self::job), too.
    pub fn follows<F: Follows<P> + Job<State = S>, P: Job<State = S>>(mut self) -> Self {
        self.registry.follows.insert((F::NAME, P::NAME), follow::<F, P>);
        self
    }

    /// Registers a source type.
    ///
    /// # Panics
    /// If another type is registered under its name.
    pub fn source<R: Source<State = S>>(mut self) -> Self {
        let handler = SourceHandler::<R>::new();
        self.register(Arc::new(handler));
        self
    }

    /// Registers a condition type.
    ///
    /// # Panics
    /// If another type is registered under its name.
    pub fn condition<C: Condition<State = S>>(mut self) -> Self {
        let handler = JobHandler::<Asked<C>>::new().in_role(Role::Condition);
        self.register(Arc::new(handler));
        self
    }

    fn register(&mut self, handler: Arc<dyn crate::worker::attempt::Handler<S>>) {
        let kind = *handler.kind();
        let before = self.handlers.insert(kind.name, handler);
        assert!(before.is_none(), "two types are registered under the name `{}`", kind.name);
        self.registry.kinds.insert(kind.name, kind);
    }

    /// Registers a workflow type, so that it can be started by its name, by a schedule and by a start that waits, and started again.
    pub fn workflow<W: Workflow>(mut self) -> Self {
        if self.registry.workflows.insert(W::NAME, parse::<W>).is_none() {
            let start = JobHandler::<StartJobOf<S>>::named(static_start_type(W::NAME));
            self.register(Arc::new(start));
            let child = JobHandler::<BeginChild<S>>::named(static_child_type(W::NAME)).in_role(Role::Workflow);
            self.register(Arc::new(child));
        }
        self
    }

    /// Registers the type of what a signal carries, so that a workflow may wait for one, and `signal` on the command line give one.
    ///
    /// # Panics
    /// If a type is registered under its name.
    pub fn signal<T: Signal>(mut self) -> Self {
        let before = self.registry.signals.insert(T::NAME, crate::waiting::read::<T>);
        assert!(before.is_none(), "two types of signals are registered under the name `{}`", T::NAME);
        self
    }

    /// Declares what is started at certain times. Each worker of this program keeps it in the store when it starts; one that is there with
    /// the same rule goes on where it was.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Import { day: String }
    /// # impl Workflow for Import {
    /// #     const NAME: &str = "Import";
    /// #     fn configure(&self, _: &Flow) -> gusher::Result<()> { Ok(()) }
    /// # }
    /// App::stateless()
    ///     .workflow::<Import>()
    ///     .schedule("nightly import")
    ///     .cron("0 2 * * *")
    ///     .zone("Europe/Berlin")
    ///     .unless_running()
    ///     .start(Import { day: "{at:%Y-%m-%d}".into() })
    /// # .main();
    /// ```
    pub fn schedule(self, name: impl Into<String>) -> Unruled<Self> {
        Unruled::new(self, name.into())
    }

    /// Sets a queue up.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// use gusher::Limit;
    ///
    /// App::stateless().queue("imports").limit(Limit::at_once(5))
    /// # .main();
    /// ```
    pub fn queue(self, name: impl Into<String>) -> QueueSetup<Self> {
        QueueSetup::new(self, name.into())
    }

    pub(crate) fn limit_queue(mut self, name: String, limit: Limit) -> Self {
        if let Err(mistake) = crate::graph::check_name("queue", &name) {
            self.mistakes.push(mistake);
        }
        self.registry.brokers.limit(&name);
        match self.registry.queue_limits.get(&name) {
            Some(_) => self.mistakes.push(Error::usage(format!("queue `{name}` is given two limits"))),
            None => drop(self.registry.queue_limits.insert(name, limit)),
        }
        self
    }

    pub(crate) fn send_queue(mut self, name: String, way: Way) -> Self {
        self.registry.brokers.set(name, way);
        self
    }

    /// Every queue that has no limit goes by the broker of a URL, whatever else is said: what `--broker` does.
    pub fn via(mut self, url: impl Into<String>) -> Self {
        self.registry.brokers.set_every(Way::Url(url.into()));
        self
    }

    /// What its workers in this process have sent and received by brokers.
    pub fn traffic(&self) -> &Traffic {
        self.registry.brokers.traffic()
    }

    /// Does something around every attempt: at jobs of workflows and lone ones, at sources, and at the jobs that start workflows
    /// (`start Import`). Several nest: the first that is registered is the outermost. Without any, attempts cost nothing more.
    pub fn around_perform(mut self, hook: impl AroundPerform<S>) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// Asks before each lone job that a client of this application enqueues, whether by `client`, `ctx` or within a transaction; what a
    /// schedule enqueues was declared before. If it answers with an error, nothing is enqueued, and the caller is told:
    /// an error of kind `Refused`, caused by that one. Several are asked in the order in which they are registered. It runs in the
    /// caller's task, so it should not block, and its panic is the caller's.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// let app = App::stateless().before_enqueue(|job| {
    ///     if job.queue == "mail" && job.parameters.contains("@example.invalid") {
    ///         return Err("nobody reads mail there".into());
    ///     }
    ///     Ok(())
    /// });
    /// ```
    pub fn before_enqueue(
        mut self,
        hook: impl Fn(&JobToEnqueue<'_>) -> Result<(), Box<dyn StdError + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        self.registry.before_enqueue.add(Arc::new(hook));
        self
    }

    pub(crate) fn declare(mut self, name: String, definition: Result<Definition>) -> Self {
        match definition {
            Ok(definition) if !self.registry.schedules.contains_key(&name) => {
                self.registry.schedules.insert(name, definition);
            }
            Ok(_) => self.mistakes.push(Error::usage(format!("two schedules are named `{name}`"))),
            Err(error) => self.mistakes.push(error.during(format_args!("schedule `{name}`"))),
        }
        self
    }

    /// Refuses what has been declared wrong: the first mistake is told. Workers, clients and the command line begin with it.
    pub fn check(&self) -> Result<()> {
        if let Some(mistake) = self.mistakes.first() {
            return Err(mistake.copy());
        }
        self.registry.brokers.check()?;
        self.registry.schedules.iter().try_for_each(|(name, definition)| {
            self.registry.check_schedule(definition).map_err(|error| error.during(format_args!("schedule `{name}`")))
        })
    }

    /// The store to use when neither `--store` nor `GUSHER_STORE` names one; `sqlite:gusher.db` unless set.
    pub fn default_store(mut self, url: impl Into<String>) -> Self {
        self.default_store = url.into();
        self
    }

    /// How many jobs a worker runs at once.
    pub fn slots(mut self, slots: u32) -> Self {
        self.options.slots = slots;
        self
    }

    /// How long the workflows that this program starts are kept once they have finished.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.registry.retention = retention;
        self
    }

    /// How long those of type `W` are kept.
    pub fn retention_of<W: Workflow>(mut self, retention: Retention) -> Self {
        self.registry.retentions.insert(W::NAME, retention);
        self
    }

    /// How long lone jobs are kept once they have settled.
    pub fn keep_lone_jobs(mut self, keep: Keep) -> Self {
        self.options.keep = keep;
        self.registry.keep = keep;
        self
    }

    /// A client on the store of a URL.
    pub async fn client(&self, url: &str) -> Result<Client> {
        self.check()?;
        Ok(self.client_on(store::open(url).await?))
    }

    /// A client on an open store.
    pub fn client_on(&self, store: Arc<dyn Store>) -> Client {
        self.client_with(store, None)
    }

    /// The same, with the state that has been made already.
    fn client_with(&self, store: Arc<dyn Store>, made: Option<AnySurroundings>) -> Client {
        let (factory, hooks) = (self.factory.clone(), self.hooks.clone());
        let make = move || -> BoxFuture<'static, Result<AnySurroundings>> {
            let made = surroundings(factory.clone(), hooks.clone());
            Box::pin(async move { Ok(made.await? as AnySurroundings) })
        };
        Client::new(store, Arc::new(self.registry.clone()), Home::new(Arc::new(make), made))
    }

    /// A worker in this process, on the store of a client, set up as the application says; makes the application's state. Its
    /// [`run`](Worker::run) takes work until it is told to stop.
    pub async fn worker(&self, client: &Client) -> Result<Worker<S>> {
        self.worker_on(client.store().clone(), self.options.clone()).await
    }

    /// A worker on an open store, set up as these options say, whatever the application says; makes the application's state.
    pub async fn worker_on(&self, store: Arc<dyn Store>, options: WorkerOptions) -> Result<Worker<S>> {
        self.check()?;
        let brokers = self.registry.brokers.overruled_by(&options.brokers);
        brokers.check()?;
        let options = WorkerOptions { brokers, ..options };
        let surroundings = surroundings(self.factory.clone(), self.hooks.clone()).await?;
        let client = self.client_with(store, Some(surroundings.clone()));
        let handlers = Arc::new(self.handlers.clone());
        Ok(Worker { client, handlers, surroundings, options, watcher: None })
    }

    /// Runs the command line of the program's arguments.
    #[cfg(feature = "cli")]
    pub fn main(self) -> std::process::ExitCode {
        crate::cli::main(self)
    }
}

/// Makes the application's state.
async fn surroundings<S>(factory: StateFactory<S>, hooks: Vec<Arc<dyn Hook<S>>>) -> Result<Arc<Surroundings<S>>> {
    let state = factory().await.map_err(|e| Error::unavailable("making the application's state").because(e))?;
    Ok(Arc::new(Surroundings { state, hooks }))
}

/// The plan of a workflow.
pub(crate) fn plan_of<W: Workflow>(workflow: &W) -> Result<Plan> {
    let flow = Flow::new();
    workflow.configure(&flow).map_err(|error| error.during(format_args!("configuring {}", W::NAME)))?;
    flow.finish().map_err(|error| error.during(format_args!("workflow {}", W::NAME)))
}

fn parse<W: Workflow>(arguments: &str) -> Result<(String, PlanLater)> {
    let workflow: W = serde_json::from_str(arguments)
        .map_err(|e| Error::usage(format!("the arguments do not fit the workflow {}", W::NAME)).because(e))?;
    Ok((arguments_of(&workflow)?, Box::new(move || plan_of(&workflow))))
}

/// The arguments of a workflow as JSON. They must be readable: a number that is none becomes `null`, and the workflow could never
/// be started again.
pub(crate) fn arguments_of<W: Workflow>(workflow: &W) -> Result<String> {
    let json = serde_json::to_string(workflow)
        .map_err(|e| Error::usage(format!("the arguments of {} cannot be written as JSON", W::NAME)).because(e))?;
    match serde_json::from_str::<W>(&json) {
        Ok(_) => Ok(json),
        Err(e) => {
            Err(Error::usage(format!("the arguments of {} cannot be read back from their JSON", W::NAME)).because(e))
        }
    }
}

impl Registry {
    /// How long a workflow of that type is kept once it has finished.
    pub fn retention(&self, name: &str) -> Retention {
        self.retentions.get(name).copied().unwrap_or(self.retention)
    }

    /// Refuses a plan with a type that is not registered, naming the line to add.
    pub fn check(&self, workflow: &str, plan: &Plan) -> Result<()> {
        plan.graph.steps.iter().try_for_each(|step| {
            let place = format_args!("workflow {workflow}, step `{}`", step.name).to_string();
            match &step.waits {
                Some(WaitsFor::Signal { signal_type, .. }) if !self.signals.contains_key(signal_type.as_str()) => {
                    return Err(Error::usage(format!(
                        "{place}: the signal's type `{signal_type}` is not registered, so no program could be told what it must carry; \
                         add .signal::<{signal_type}>() to the App"
                    )));
                }
                Some(_) => return Ok(()),
                None => {}
            }
            self.check_type(&place, &step.job_type, Role::of(step))?;
            match step.chain.last() {
                Some(before) if !self.knows_how(&step.job_type, &before.job_type) => {
                    Err(Error::usage(format!("{place}: {}", lacks(&step.job_type, &before.job_type))))
                }
                _ => Ok(()),
            }
        })
    }

    /// Whether it is registered how one type follows another.
    pub fn knows_how(&self, follower: &str, before: &str) -> bool {
        self.follows.contains_key(&(follower, before))
    }

    /// Refuses a type that is not registered as what it is used for, naming the line to add.
    pub fn check_type(&self, place: &str, job_type: &str, role: Role) -> Result<()> {
        let word = role.word();
        let registered = self.kinds.get(job_type);
        // A workflow's jobs have a name of their own.
        let job_type = if role == Role::Workflow { workflow_of(job_type) } else { job_type };
        match registered {
            Some(kind) if kind.role == role => Ok(()),
            Some(kind) => Err(Error::usage(format!(
                "{place}: `{job_type}` is registered as a {} and used as a {word}",
                kind.role.word()
            ))),
            None => Err(Error::usage(format!(
                "{place}: the type `{job_type}` is not registered, so no worker of this program could run it; \
                 add .{word}::<{job_type}>() to the App"
            ))),
        }
    }

    /// The queues that a worker takes from unless told otherwise: those of all types, and of what is scheduled.
    pub fn queues(&self) -> Vec<String> {
        let of_types = self.kinds.values().map(|kind| kind.queue.to_owned());
        let scheduled = self.schedules.values().map(|definition| definition.queue.clone());
        of_types.chain(scheduled).collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// The limits that a worker has to keep.
    pub fn limits(&self, session: &Session) -> Vec<(Limited, Limit)> {
        let of_types = session
            .types
            .iter()
            .filter_map(|name| self.kinds.get(name.as_str()).map(|kind| (Limited::Type(name.clone()), kind.limit)));
        let of_queues = session
            .queues
            .iter()
            .filter_map(|name| self.queue_limits.get(name).map(|limit| (Limited::Queue(name.clone()), *limit)));
        of_types.chain(of_queues).filter(|(_, limit)| !limit.is_none()).collect()
    }

    /// Refuses a schedule of what no worker of this program could run.
    pub fn check_schedule(&self, definition: &Definition) -> Result<()> {
        match &definition.what {
            What::Start { workflow, .. } => self.parse(workflow, &definition.sample()?).map(|_| ()),
            What::Enqueue { job, .. } if self.kinds.get(job.as_str()).is_some_and(|kind| kind.keyed) => {
                Err(Error::usage(format!(
                    "a schedule enqueues no `{job}`, whose LIMIT_PER_KEY counts by a key that only the job itself can tell; let it enqueue \
                     another job that does"
                )))
            }
            What::Enqueue { job, .. } => self.check_type("enqueueing a lone job", job, Role::Job),
        }
    }

    /// The plan of a registered workflow, and its arguments with every default filled in.
    pub fn plan(&self, name: &str, arguments: &RawValue) -> Result<(String, Plan)> {
        let (arguments, plan) = self.parse(name, arguments.get())?;
        Ok((arguments, plan()?))
    }

    /// The arguments of a registered workflow with every default filled in, and how its plan is made.
    pub fn parse(&self, name: &str, arguments: &str) -> Result<(String, PlanLater)> {
        let parse = self.workflows.get(name).ok_or_else(|| {
            let near = crate::error::did_you_mean(name, self.workflows.keys().copied());
            let known: Vec<&str> = self.workflows.keys().copied().collect();
            let known = if known.is_empty() {
                "this program registers none".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            Error::usage(format!("no workflow `{name}` is registered{near} ({known})"))
        })?;
        parse(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Scaled {
        by: f32,
    }

    impl Workflow for Scaled {
        const NAME: &str = "Scaled";
        fn configure(&self, _: &Flow) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn arguments_that_do_not_come_back_from_a_store_are_refused() {
        assert_eq!(arguments_of(&Scaled { by: 1.5 }).unwrap(), r#"{"by":1.5}"#);
        let error = arguments_of(&Scaled { by: f32::INFINITY }).unwrap_err().to_string();
        assert!(error.contains("the arguments of Scaled cannot be read back from their JSON"), "{error}");
    }
}
