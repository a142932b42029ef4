//! The store that many machines share: a Redis or Valkey server.
//!
//! Every verb is one Lua script, which the server runs as a whole. A script reads what it needs, checks it, and only then writes; it
//! never looks into payloads. Values that a script changes are small arrays in hashes; what waits or is due stands in sorted sets.
//!
//! | file | what |
//! |---|---|
//! | `scripts/base.lua` | the keys (this is the one place that spells them), masks, rows of workflows and steps, chunks |
//! | `scripts/work.lua` | lines, chores, timers, leases, drafts; what follows when jobs settle |
//! | `scripts/note.lua` | what a test's ledger is told |
//! | `scripts/{session,create,claim,report,tick,command,read,doctor}.lua` | the verbs |
//! | `script` | how one is run |
//! | `parameters`, `answers` | what goes in and comes out |
//! | `wake` | wake-ups of workers on other hosts |
//! | `ledger`, `scripts/ledger.lua` | how a harness gets at what was noted |

mod answers;
#[cfg(feature = "testing")]
mod ledger;
mod parameters;
mod script;
mod wake;

use std::fmt;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::script::{Answer as Told, Blobs, Script, redis_error};
use crate::clock::{Clock, Millis, millis};
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};
use crate::ledger::Ledger;
use crate::store::*;

/// How long a call waits for the server's answer before it counts as lost.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// The oldest server whose commands the scripts can use.
const OLDEST: (u32, u32) = (6, 2);

/// How a Redis store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the server is: `redis://user:password@host:port/database`.
    pub server: String,
    /// What every key begins with, so that several stores can share a server.
    pub prefix: String,
    /// How long a lease lasts unless a worker asks for another length. 15 s.
    pub lease: Duration,
    /// Where the store reads the time: the server's clock, whatever this host's shows, unless a test holds one of its own.
    pub clock: Clock,
    /// What this host is called: its own workers are woken by a datagram, others through the server.
    pub host: String,
    /// Whether a server that drops data when its memory is full is accepted.
    pub allow_eviction: bool,
    /// Whether what this process makes the store do is noted there, for a harness to take out, and which places it passes; nothing
    /// unless a test sets it.
    #[cfg(feature = "testing")]
    pub ledger: Ledger,
}

impl Options {
    /// The defaults for a server.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            prefix: "gusher".into(),
            lease: Duration::from_secs(15),
            clock: Clock::system(),
            host: crate::worker::hostname(),
            allow_eviction: false,
            #[cfg(feature = "testing")]
            ledger: Ledger::default(),
        }
    }

    #[cfg(feature = "testing")]
    fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    #[cfg(not(feature = "testing"))]
    fn ledger(&self) -> Ledger {
        Ledger::default()
    }

    /// From a URL: `redis://host:port/database`, perhaps with `?prefix=gusher&lease=15s&eviction=allow`.
    pub fn parse(url: &str) -> Result<Self> {
        let (server, query) = url.split_once('?').unwrap_or((url, ""));
        let mut options = Self::new(server);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (key, value) {
                ("lease", value) => {
                    let lease = parse_duration(value).filter(|lease| *lease >= Duration::from_millis(100));
                    options.lease = lease.ok_or_else(|| {
                        Error::usage(format!(
                            "`lease={value}` in the store's URL is no length of at least 100 ms; for example lease=15s"
                        ))
                    })?;
                }
                ("prefix", prefix) if is_plain(prefix) => options.prefix = prefix.to_owned(),
                ("prefix", prefix) => {
                    return Err(Error::usage(format!(
                        "`prefix={prefix}` in the store's URL: a prefix has letters, digits, `-`, `_` and `:` only"
                    )));
                }
                ("eviction", "allow") => options.allow_eviction = true,
                _ => {
                    return Err(Error::usage(format!(
                        "`{pair}` in the store's URL is not known; there are prefix=gusher, lease=15s and eviction=allow"
                    )));
                }
            }
        }
        Ok(options)
    }
}

fn is_plain(prefix: &str) -> bool {
    !prefix.is_empty() && prefix.chars().all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c))
}

/// A store on a Redis or Valkey server. Cheap to share behind an `Arc`.
pub struct RedisStore {
    options: Options,
    client: ::redis::Client,
    connection: ConnectionManager,
    /// What every key of the shard begins with.
    base: String,
    /// How far the server's clock is ahead of this host's.
    ahead: Millis,
    meters: Meters,
    wakers: wake::Wakers,
    ledger: Ledger,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("base", &self.base).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects, and refuses a server on which the store could not keep its promises.
    pub async fn open(options: Options) -> Result<Self> {
        let failed = |error| redis_error("opening the store", error);
        let client = ::redis::Client::open(options.server.as_str()).map_err(|error| {
            Error::usage("the store's URL is none of a Redis server; one looks like redis://127.0.0.1:6379/0")
                .because(error)
        })?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(ANSWER_TIME))
            .set_connection_timeout(Some(Duration::from_secs(5)))
            .set_number_of_retries(2);
        let mut connection = client.get_connection_manager_with_config(config).await.map_err(failed)?;
        check_server(&mut connection, &options).await?;
        let (seconds, micros): (i64, i64) = ::redis::cmd("TIME").query_async(&mut connection).await.map_err(failed)?;
        let server = seconds * 1000 + micros / 1000;
        // A clock that a test holds decides by itself.
        let ahead = if options.clock.is_of_host() { server - options.clock.now() } else { 0 };
        let base = format!("{}:{{0}}", options.prefix);
        Ok(Self {
            ledger: options.ledger(),
            options,
            client,
            connection,
            base,
            ahead,
            meters: Meters::default(),
            wakers: wake::Wakers::default(),
        })
    }

    /// Runs a verb and counts what it cost.
    async fn run<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        script: &Script,
        mut parameters: Value,
        blobs: Blobs,
    ) -> Result<Told<T>> {
        if !self.options.clock.is_of_host() {
            parameters["now"] = self.options.clock.now().into();
        }
        parameters["host"] = self.options.host.as_str().into();
        if let Some(now) = self.ledger.sent_at() {
            parameters["ledger"] = now.into();
        }
        let name = verb.replace(' ', "_");
        let call = script::run(&self.connection, script, &self.base, &name, parameters, blobs);
        let (answer, cost) = self.ledger.during(verb, call).await?;
        self.meters.add(verb.split_once(" of ").map_or(verb, |(verb, _)| verb), cost);
        Ok(answer)
    }

    async fn read<T: DeserializeOwned>(&self, verb: &'static str, parameters: Value) -> Result<Told<T>> {
        self.run(verb, &script::READ, parameters, Blobs::default()).await
    }

    async fn command<T: DeserializeOwned>(&self, verb: &'static str, parameters: Value) -> Result<T> {
        Ok(self.run(verb, &script::COMMAND, parameters, Blobs::default()).await?.json)
    }

    async fn recount(&self) -> Result<Checkup> {
        let shard: answers::ShardChecked =
            self.run("doctor of shard", &script::DOCTOR, json!({ "shown": "" }), Blobs::default()).await?.json;
        let mut checkup = Checkup { leases: shard.leases, under_way: shard.under_way, ..Checkup::default() };
        checkup.findings = shard.findings;
        for id in shard.ids {
            let id = answers::workflow_id(&id)?;
            let of = parameters::of_workflow(id);
            checkup.workflows += 1;
            let counted =
                self.run::<answers::WorkflowChecked>("doctor of workflow", &script::DOCTOR, of, Blobs::default()).await;
            match counted {
                Ok(Told { json: one, .. }) => {
                    checkup.steps += one.steps;
                    checkup.jobs += one.jobs;
                    checkup.findings.extend(one.findings);
                }
                Err(error) if !error.is_transient() => {
                    checkup.findings.push(format!("workflow {id} cannot be recounted: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(checkup)
    }
}

/// Refuses a server that is too old, cannot be written, or drops data by itself.
async fn check_server(connection: &mut ConnectionManager, options: &Options) -> Result<()> {
    let failed = |error| redis_error("opening the store", error);
    let info: ::redis::InfoDict = ::redis::cmd("INFO").query_async(connection).await.map_err(failed)?;
    let version: String = info.get("redis_version").unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        return Err(Error::usage(format!(
            "the server is Redis {version}; Gusher needs {}.{} or later, or Valkey",
            OLDEST.0, OLDEST.1
        )));
    }
    if info.get::<String>("role").is_some_and(|role| role != "master") {
        return Err(Error::usage("the server is a read-only replica; name its master in the store's URL"));
    }
    let policy: String = info.get("maxmemory_policy").unwrap_or_default();
    if !policy.is_empty() && policy != "noeviction" && !options.allow_eviction {
        return Err(Error::usage(format!(
            "the server drops data when its memory is full (maxmemory-policy {policy}): set `maxmemory-policy noeviction`, or accept \
             lost workflows with ?eviction=allow in the store's URL"
        )));
    }
    Ok(())
}

impl Store for RedisStore {
    fn join(&self, session: Session) -> Answer<'_, ()> {
        Box::pin(async move {
            let parameters = parameters::join(&session)?;
            self.run::<Value>("join", &script::SESSION, parameters, Blobs::default()).await?;
            self.wakers.listen(&self.client, &self.base, &session);
            Ok(())
        })
    }

    fn leave(&self, session: SessionId) -> Answer<'_, Left> {
        Box::pin(async move {
            let parameters = json!({ "session": session.to_string(), "killed": parameters::killed() });
            let told = self.run::<answers::Left>("leave", &script::SESSION, parameters, Blobs::default()).await?;
            if !told.json.more {
                self.wakers.stop(session);
            }
            Ok(told.json.into())
        })
    }

    fn append(&self, append: Append) -> Answer<'_, ()> {
        Box::pin(async move {
            let (parameters, blobs) = parameters::append(append)?;
            self.run::<Value>("append", &script::CREATE, parameters, blobs).await.map(|_| ())
        })
    }

    fn create(&self, create: Create) -> Answer<'_, Created> {
        Box::pin(async move {
            let (parameters, blobs) = parameters::create(create)?;
            Ok(self.run::<answers::Created>("create", &script::CREATE, parameters, blobs).await?.json.into())
        })
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Claimed> {
        Box::pin(async move {
            let told = self.run("claim", &script::CLAIM, parameters::claim(&claim), Blobs::default()).await?;
            answers::claimed(told)
        })
    }

    fn renew(&self, renew: Renew) -> Answer<'_, Renewed> {
        Box::pin(async move {
            let parameters = parameters::renew(&renew);
            Ok(self.run::<answers::Renewed>("renew", &script::SESSION, parameters, Blobs::default()).await?.json.into())
        })
    }

    fn report(&self, report: Report) -> Answer<'_, Reported> {
        Box::pin(async move {
            let (parameters, blobs) = parameters::report(report)?;
            self.run::<answers::Reported>("report", &script::REPORT, parameters, blobs).await?.json.try_into()
        })
    }

    fn tick(&self, tick: Tick) -> Answer<'_, Ticked> {
        Box::pin(async move {
            let parameters = json!({ "lease": tick.lease, "killed": parameters::killed() });
            let ahead =
                self.run::<answers::Ticked>("look ahead", &script::TICK, parameters.clone(), Blobs::default()).await?;
            if !ahead.json.more {
                return Ok(ahead.json.into());
            }
            Ok(self.run::<answers::Ticked>("tick", &script::TICK, parameters, Blobs::default()).await?.json.into())
        })
    }

    fn cancel(&self, workflow: WorkflowId, grace: Millis) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut of = parameters::of_workflow(workflow);
            (of["grace"], of["lease"]) = (grace.into(), self.lease().into());
            self.command::<Value>("cancel", of).await.map(|_| ())
        })
    }

    fn pause(&self, workflow: WorkflowId) -> Answer<'_, ()> {
        Box::pin(async move { self.command::<Value>("pause", parameters::of_workflow(workflow)).await.map(|_| ()) })
    }

    fn resume(&self, workflow: WorkflowId) -> Answer<'_, Woken> {
        Box::pin(async move {
            let resumed: answers::Resumed = self.command("resume", parameters::of_workflow(workflow)).await?;
            Ok(Woken(resumed.woken))
        })
    }

    fn retry(&self, retry: RetryFailed) -> Answer<'_, Retried> {
        Box::pin(async move { self.command("retry", parameters::retry(&retry)).await })
    }

    fn delete(&self, workflow: WorkflowId) -> Answer<'_, ()> {
        Box::pin(async move { self.command::<Value>("delete", parameters::of_workflow(workflow)).await.map(|_| ()) })
    }

    fn workflow(&self, workflow: WorkflowId) -> Answer<'_, WorkflowRow> {
        Box::pin(async move {
            let told: Told<answers::One<answers::Workflow>> =
                self.read("workflow", parameters::of_workflow(workflow)).await?;
            let row =
                told.json.row.ok_or_else(|| Error::corrupt(format!("workflow {workflow} has an id but no head")))?;
            row.try_into()
        })
    }

    fn workflows(&self, list: List) -> Answer<'_, Vec<WorkflowRow>> {
        Box::pin(async move {
            let told: Told<answers::Many<answers::Workflow>> = self.read("workflows", parameters::list(&list)).await?;
            told.json.list.into_iter().map(TryInto::try_into).collect()
        })
    }

    fn steps(&self, workflow: WorkflowId, from: StepNumber, limit: u32) -> Answer<'_, Vec<StepRow>> {
        Box::pin(async move {
            let mut of = parameters::of_workflow(workflow);
            (of["from"], of["limit"]) = (from.into(), limit.min(STEP_PAGE).into());
            let mut told: Told<answers::Many<answers::Step>> = self.read("steps", of).await?;
            let list = std::mem::take(&mut told.json.list);
            list.into_iter().map(|step| step.row(&mut told)).collect()
        })
    }

    fn step_named(&self, workflow: WorkflowId, name: String) -> Answer<'_, Option<StepRow>> {
        Box::pin(async move {
            let mut of = parameters::of_workflow(workflow);
            of["name"] = name.into();
            let mut told: Told<answers::One<answers::Step>> = self.read("step named", of).await?;
            told.json.row.take().map(|step| step.row(&mut told)).transpose()
        })
    }

    fn edges(&self, workflow: WorkflowId, step: StepNumber, upstream: bool, limit: u32) -> Answer<'_, Vec<EdgeRow>> {
        Box::pin(async move {
            let mut of = parameters::of_step(workflow, step);
            (of["upstream"], of["limit"]) = (upstream.into(), limit.into());
            let told: Told<answers::Many<answers::Edge>> = self.read("edges", of).await?;
            told.json.list.into_iter().map(TryInto::try_into).collect()
        })
    }

    fn parameters(&self, chunk: ChunkRef) -> Answer<'_, Parameters> {
        Box::pin(async move {
            let (wf, number) = answers::split_chunk(chunk.id);
            answers::parameters(self.read("parameters", json!({ "wf": wf, "chunk": number })).await?)
        })
    }

    fn outcomes(
        &self,
        workflow: WorkflowId,
        step: StepNumber,
        from: u64,
        after: u64,
    ) -> Answer<'_, Vec<ChunkOutcomes>> {
        Box::pin(async move {
            let mut of = parameters::of_step(workflow, step);
            (of["from"], of["after"]) = (from.into(), after.into());
            answers::outcomes(self.read("outcomes", of).await?)
        })
    }

    fn errors(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Vec<ErrorRow>> {
        Box::pin(async move { answers::errors(self.read("errors", parameters::of_step(workflow, step)).await?) })
    }

    fn waiting(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Waiting> {
        Box::pin(async move {
            let told: Told<answers::Waiting> = self.read("waiting", parameters::of_step(workflow, step)).await?;
            Ok(told.json.into())
        })
    }

    fn whereabouts(&self, workflow: WorkflowId, step: StepNumber, index: u64) -> Answer<'_, Whereabouts> {
        Box::pin(async move {
            let mut of = parameters::of_step(workflow, step);
            of["index"] = index.into();
            answers::whereabouts(self.read("whereabouts", of).await?)
        })
    }

    fn workers(&self, limit: u32) -> Answer<'_, Vec<WorkerRow>> {
        Box::pin(async move {
            let told: Told<answers::Many<answers::Worker>> = self.read("workers", json!({ "limit": limit })).await?;
            told.json.list.into_iter().map(TryInto::try_into).collect()
        })
    }

    fn doctor(&self) -> Answer<'_, Checkup> {
        Box::pin(self.recount())
    }

    fn meters(&self) -> &Meters {
        &self.meters
    }

    fn now(&self) -> Millis {
        self.options.clock.now() + self.ahead
    }

    fn lease(&self) -> Millis {
        millis(self.options.lease)
    }

    fn url(&self) -> String {
        let eviction = if self.options.allow_eviction { "&eviction=allow" } else { "" };
        let Options { server, prefix, .. } = &self.options;
        format!("{server}?prefix={prefix}&lease={}ms{eviction}", self.lease())
    }
}

/// The most steps that one look brings.
const STEP_PAGE: u32 = 1000;
