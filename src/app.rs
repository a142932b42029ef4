//! The application: what a program registers, and what it makes of it: a client, a worker, a command line.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::broker::{Broker, Brokers, Traffic, Way};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::{Job, Source};
use crate::store::{self, Store};
use crate::worker::attempt::{JobHandler, Kind, SourceHandler};
use crate::worker::{Handlers, Worker, WorkerOptions};
use crate::workflow::{Flow, Plan, Workflow};

type StateFactory<S> = Arc<dyn Fn() -> BoxFuture<'static, Result<S, Box<dyn StdError + Send + Sync>>> + Send + Sync>;

/// Makes the plan of a workflow from its arguments as JSON; also tells the arguments with every default filled in.
type Configure = fn(&str) -> Result<(String, Plan)>;

/// What a program knows: job types and workflow types by their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    pub kinds: BTreeMap<&'static str, Kind>,
    pub workflows: BTreeMap<&'static str, Configure>,
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
    pub(crate) registry: Registry,
    pub(crate) options: WorkerOptions,
    pub(crate) default_store: String,
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
    /// An application whose jobs share what `state` makes. It is called in workers only: `list` or `show` opens no database.
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
            registry: Registry::default(),
            options: WorkerOptions::default(),
            default_store: "sqlite:gusher.db".to_owned(),
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

    /// Registers a source type.
    ///
    /// # Panics
    /// If another type is registered under its name.
    pub fn source<R: Source<State = S>>(mut self) -> Self {
        let handler = SourceHandler::<R>::new();
        self.register(Arc::new(handler));
        self
    }

    fn register(&mut self, handler: Arc<dyn crate::worker::attempt::Handler<S>>) {
        let kind = *handler.kind();
        let before = self.handlers.insert(kind.name, handler);
        assert!(before.is_none(), "two types are registered under the name `{}`", kind.name);
        self.registry.kinds.insert(kind.name, kind);
    }

    /// Registers a workflow type, so that it can be started by its name and started again.
    pub fn workflow<W: Workflow>(mut self) -> Self {
        self.registry.workflows.insert(W::NAME, configure_from_json::<W>);
        self
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

    /// Every queue goes by the broker of a URL, whatever else is said: what `--broker` does.
    pub fn via(mut self, url: impl Into<String>) -> Self {
        self.options.brokers.set_every(Way::Url(url.into()));
        self
    }

    /// What its workers in this process have sent and received by brokers.
    pub fn traffic(&self) -> &Traffic {
        self.options.brokers.traffic()
    }

    /// Sets up a queue.
    ///
    /// ```
    /// # use gusher::App;
    /// App::stateless().queue("imports").via("amqp://127.0.0.1:5672").queue("mail").via("store:");
    /// ```
    pub fn queue(self, name: impl Into<String>) -> QueueOf<S> {
        QueueOf { app: self, name: name.into() }
    }

    /// A client on the store of a URL.
    pub async fn client(&self, url: &str) -> Result<Client> {
        Ok(self.client_on(store::open(url).await?))
    }

    /// A client on an open store.
    pub fn client_on(&self, store: Arc<dyn Store>) -> Client {
        let brokers = self.options.brokers.clone();
        Client::new(store, Arc::new(Registry { brokers, ..self.registry.clone() }))
    }

    /// A worker on an open store; makes the application's state.
    pub async fn worker_on(&self, store: Arc<dyn Store>, options: WorkerOptions) -> Result<Worker<S>> {
        let state =
            (self.factory)().await.map_err(|e| Error::unavailable("making the application's state").because(e))?;
        let (client, handlers) = (self.client_on(store), Arc::new(self.handlers.clone()));
        let brokers = self.options.brokers.overruled_by(&options.brokers);
        let options = WorkerOptions { brokers, ..options };
        Ok(Worker { client, handlers, state: Arc::new(state), options, watcher: None })
    }

    /// Runs the command line of the program's arguments.
    #[cfg(feature = "cli")]
    pub fn main(self) -> std::process::ExitCode {
        crate::cli::main(self)
    }
}

/// A queue of an application, being set up.
#[derive(Debug)]
#[must_use = "say which way the queue goes"]
pub struct QueueOf<S> {
    app: App<S>,
    name: String,
}

impl<S> QueueOf<S> {
    /// The slices of the queue come to workers by the broker of a URL: `amqp://HOST`, `sqs://REGION`, or `store:` for the store's own lines.
    ///
    /// The variable `GUSHER_QUEUE_…` of the environment, with the queue's name in capitals, overrules it, and `--broker` both.
    pub fn via(self, url: impl Into<String>) -> App<S> {
        self.way(Way::Url(url.into()))
    }

    /// The slices of the queue come to workers by a broker of the program's own.
    pub fn via_broker(self, broker: Arc<dyn Broker>) -> App<S> {
        self.way(Way::Broker(broker))
    }

    fn way(mut self, way: Way) -> App<S> {
        self.app.options.brokers.set(self.name, way);
        self.app
    }
}

/// The plan of a workflow.
pub(crate) fn plan_of<W: Workflow>(workflow: &W) -> Result<Plan> {
    let flow = Flow::new();
    workflow.configure(&flow).map_err(|error| error.during(format_args!("configuring {}", W::NAME)))?;
    flow.finish().map_err(|error| error.during(format_args!("workflow {}", W::NAME)))
}

fn configure_from_json<W: Workflow>(arguments: &str) -> Result<(String, Plan)> {
    let workflow: W = serde_json::from_str(arguments)
        .map_err(|e| Error::usage(format!("the arguments do not fit the workflow {}", W::NAME)).because(e))?;
    Ok((arguments_of(&workflow)?, plan_of(&workflow)?))
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
    /// Refuses a plan with a type that is not registered, naming the line to add.
    pub fn check(&self, workflow: &str, plan: &Plan) -> Result<()> {
        for step in &plan.graph.steps {
            let job_type = step.job_type.as_str();
            match self.kinds.get(job_type) {
                Some(kind) if kind.is_source == step.feeds.is_some() => {}
                Some(_) => {
                    return Err(Error::usage(format!(
                        "`{job_type}` is registered as a job and used as a source, or the other way round"
                    )));
                }
                None => {
                    let method = if step.feeds.is_some() { "source" } else { "job" };
                    return Err(Error::usage(format!(
                        "workflow {workflow}: the type `{job_type}` of step `{}` is not registered, so no worker of this program could run it; \
                         add .{method}::<{job_type}>() to the App",
                        step.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// The plan of a registered workflow, and its arguments with every default filled in.
    pub fn plan(&self, name: &str, arguments: &RawValue) -> Result<(String, Plan)> {
        let configure = self.workflows.get(name).ok_or_else(|| {
            let near = crate::error::did_you_mean(name, self.workflows.keys().copied());
            let known: Vec<&str> = self.workflows.keys().copied().collect();
            let known = if known.is_empty() {
                "this program registers none".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            Error::usage(format!("no workflow `{name}` is registered{near} ({known})"))
        })?;
        configure(arguments.get())
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
