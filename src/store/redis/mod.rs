//! The store that many machines share: a Redis or Valkey server.
//!
//! Every verb is one Lua script, which the server runs as a whole. A script reads what it needs, checks it, and only then writes; it
//! never looks into payloads. Values that a script changes are small arrays in hashes; what waits or is due stands in sorted sets.
//!
//! | file | what |
//! |---|---|
//! | `scripts/{base,masks,rows,end}.lua` | what every script has: the keys (`base` spells all that scripts use), sets of jobs, the rows that an operation changes; its answer |
//! | `scripts/{session,create,schedule,permit,claim,forward,report,tick,checkpoint,eager,cancel,command,batch,signal,read,doctor}.lua` | the verbs |
//! | `scripts/{line,timer,deadline,chore,lease,draft,lane,retention}.lua` | what a script does with these; each has the ones that it needs (`script`) |
//! | `scripts/{build,chunks,occurrence,grow,adopt,abandon}.lua` | how steps and jobs come to be there |
//! | `scripts/{settle,policy,gate,chain,child,children,recovery,stop,error}.lua` | what follows when jobs settle, fail for good, or lose their workers |
//! | `scripts/{again,behind,by_hand,repeat}.lua` | repairs; commands that are sent again |
//! | `scripts/{slice,starts,limited,permits}.lua` | what a worker is told of a lease; what counts towards a rate; lone jobs whose key limits them; who may run how many of what is limited |
//! | `scripts/note.lua` | what a test's ledger is told |
//! | `script` | how one is run |
//! | `parameters`, `answers` | what goes in and comes out |
//! | `options`, `servers`, `link` | the URL, the servers it names, the connection to them |
//! | `health` | which servers are refused, and what they may lose |
//! | `shard`, `spread` | which part of the store a workflow is on, and the verbs that ask all of them |
//! | `forward`, `scripts/forward.lua` | leases that travel by a broker |
//! | `wake` | wake-ups of workers on other hosts |
//! | `ledger`, `scripts/ledger.lua` | how a harness gets at what was noted |

mod answers;
mod forward;
mod health;
#[cfg(feature = "testing")]
mod ledger;
mod link;
mod options;
mod parameters;
mod script;
mod servers;
mod shard;
mod spread;
mod wake;
#[cfg(all(any(fuzzing, test), feature = "conformance", feature = "cli"))]
mod written;

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::link::Link;
pub use self::options::Options;
use self::script::{Answer as Told, Blobs, Script};
use self::servers::Servers;
use self::shard::{Shard, Shards};
use crate::clock::{Millis, millis};
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::{SessionId, WorkflowId};
use crate::ledger::Ledger;
use crate::payload::plain;
use crate::store::*;

/// How many shards a store on a cluster has unless told otherwise: three masters, or four, or six get equal shares.
const SHARDS_OF_A_CLUSTER: u16 = 12;

/// A store on Redis or Valkey servers. Cheap to share behind an `Arc`.
pub struct RedisStore {
    options: Options,
    link: Arc<Link>,
    shards: Shards,
    /// How far the server's clock is ahead of this host's.
    ahead: Millis,
    meters: Meters,
    wakers: wake::Wakers,
    ledger: Ledger,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, shards, options, .. } = self;
        f.debug_struct("RedisStore")
            .field("link", link)
            .field("prefix", &options.prefix)
            .field("shards", &shards.count())
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects, and refuses servers on which the store could not keep its promises.
    pub async fn open(mut options: Options) -> Result<Self> {
        let link = Link::open(Servers::of(&options)?).await?;
        health::check(&link, &options).await?;
        let shards = shards_of(&link, &options).await?;
        options.shards = Some(shards);
        let store = Self {
            shards: Shards::new(&options.prefix, shards),
            ahead: 0,
            ledger: options.ledger(),
            options,
            link: Arc::new(link),
            meters: Meters::default(),
            wakers: wake::Wakers::default(),
        };
        // A clock that a test holds decides by itself.
        if !store.options.clock.is_of_host() {
            return Ok(store);
        }
        let told: Told<answers::Time> = store.read(store.shards.numbered(0)?, "time", json!({})).await?;
        let ahead = told.json.time - store.options.clock.now();
        Ok(Self { ahead, ..store })
    }

    /// Runs a verb on a shard and counts what it cost.
    async fn run<T: DeserializeOwned>(
        &self,
        shard: &Shard,
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
            parameters["shard"] = shard.number.into();
            parameters["shards"] = self.shards.count().into();
        }
        let name = verb.replace(' ', "_");
        let call = script::run(&self.link, script, shard, &name, parameters, blobs);
        let answered = self.ledger.during(verb, call).await;
        shard.heard(&answered);
        let (answer, cost) = answered?;
        self.meters.add(verb.split_once(" of ").map_or(verb, |(verb, _)| verb), cost);
        Ok(answer)
    }

    /// Parts as they are to be kept: compressed as they come, or not.
    fn as_kept(&self, mut parts: Vec<Part>) -> Result<Vec<Part>> {
        for part in parts.iter_mut().filter(|_| !self.options.compress) {
            match part {
                Part::Jobs { chunk, .. } | Part::Within { chunk, .. } => chunk.body = plain(&chunk.body)?,
                Part::Mended { body, .. } if body.is_empty() => {}
                Part::Mended { body, .. } => *body = plain(body)?,
                Part::Step { .. } | Part::Edge(_) | Part::Open { .. } => {}
            }
        }
        Ok(parts)
    }

    async fn read<T: DeserializeOwned>(&self, shard: &Shard, verb: &'static str, parameters: Value) -> Result<Told<T>> {
        self.run(shard, verb, &script::READ, parameters, Blobs::default()).await
    }

    /// Reads on the shard of a workflow.
    async fn read_of<T: DeserializeOwned>(
        &self,
        workflow: WorkflowId,
        verb: &'static str,
        parameters: Value,
    ) -> Result<Told<T>> {
        self.read(self.shards.of(workflow)?, verb, parameters).await
    }

    /// How a limit stands, if a worker has told it.
    async fn limit(&self, of: &Limited) -> Result<Option<LimitRow>> {
        let shard = self.shards.numbered(of.shard(self.shards.count()))?;
        let named = json!({ "names": [parameters::limited(of)] });
        let told: Told<answers::Many<answers::LimitTold>> = self.read(shard, "limits", named).await?;
        Ok(told.json.list.into_iter().find_map(answers::LimitTold::row))
    }

    async fn command<T: DeserializeOwned>(
        &self,
        workflow: WorkflowId,
        verb: &'static str,
        parameters: Value,
    ) -> Result<T> {
        let shard = self.shards.of(workflow)?;
        Ok(self.run(shard, verb, &script::COMMAND, parameters, Blobs::default()).await?.json)
    }
}

/// How many shards the store has, which is recorded when it is made.
async fn shards_of(link: &Link, options: &Options) -> Result<u16> {
    let what = "opening the store";
    let key = format!("{}:shards", options.prefix);
    let wanted = options.shards.unwrap_or(if link.is_cluster() { SHARDS_OF_A_CLUSTER } else { 1 });
    let ask = async |command: &[&str]| {
        let mut asked = ::redis::Cmd::new();
        asked.arg(command);
        let answer = link.query(what, &asked).await.map_err(|failed| failed.of(what))?;
        ::redis::from_redis_value::<Option<String>>(answer)
            .map_err(|error| Error::corrupt(format!("{key} is no text")).because(error))
    };
    let mut recorded = ask(&["GET", &key]).await?;
    if recorded.is_none() {
        ask(&["SETNX", &key, &wanted.to_string()]).await?;
        recorded = ask(&["GET", &key]).await?;
    }
    let recorded = recorded.unwrap_or_default();
    let shards = recorded.parse().ok().filter(|shards| (1..=options::MAX_SHARDS).contains(shards));
    let shards =
        shards.ok_or_else(|| Error::corrupt(format!("{key} says `{recorded}`, which is no number of shards")))?;
    if options.shards.is_some_and(|wanted| wanted != shards) {
        return Err(Error::usage(format!(
            "the store was made with {shards} shards, and the URL says shards={wanted}; the number is fixed when a store is made"
        )));
    }
    Ok(shards)
}

impl Store for RedisStore {
    fn join(&self, session: Session) -> Answer<'_, ()> {
        Box::pin(self.join_all(session))
    }

    fn leave(&self, session: SessionId) -> Answer<'_, Left> {
        Box::pin(self.leave_all(session))
    }

    fn append(&self, append: Append) -> Answer<'_, ()> {
        Box::pin(async move {
            let shard = self.shards.of(match &append.of {
                DraftOf::Workflow(new) => new.id,
                DraftOf::Jobs { workflow, .. } | DraftOf::Mended { workflow, .. } => *workflow,
                DraftOf::Added { workflow, .. } | DraftOf::Open { workflow } => *workflow,
            })?;
            // To hold a batch open brings nothing new, so a full server takes it.
            if let DraftOf::Open { workflow } = &append.of {
                let of = parameters::hold_open(*workflow, &append);
                return self.run::<Value>(shard, "hold open", &script::CREATE, of, Blobs::default()).await.map(|_| ());
            }
            let parts = self.as_kept(append.parts)?;
            let (parameters, blobs) = parameters::append(Append { parts, ..append })?;
            self.run::<Value>(shard, "append", &script::CREATE, parameters, blobs).await.map(|_| ())
        })
    }

    fn begin(&self, begin: Begin) -> Answer<'_, Begun> {
        Box::pin(async move {
            let shard = self.shards.of(begin.workflow.id)?;
            let parameters = parameters::begin(&begin)?;
            let told =
                self.run::<answers::Begun>(shard, "begin", &script::CREATE, parameters, Blobs::default()).await?;
            Ok(told.json.into())
        })
    }

    fn abandon(&self, workflow: WorkflowId, draft: DraftKey) -> Answer<'_, ()> {
        Box::pin(async move {
            let (shard, of) = (self.shards.of(workflow)?, parameters::abandon(draft));
            self.run::<Value>(shard, "abandon", &script::CREATE, of, Blobs::default()).await.map(|_| ())
        })
    }

    fn create(&self, create: Create) -> Answer<'_, Created> {
        Box::pin(async move {
            let shard = self.shards.of(create.workflow.id)?;
            let parts = self.as_kept(create.parts)?;
            let (parameters, blobs) = parameters::create(Create { parts, ..create })?;
            Ok(self.run::<answers::Created>(shard, "create", &script::CREATE, parameters, blobs).await?.json.into())
        })
    }

    fn add_jobs(&self, mut add: AddJobs) -> Answer<'_, Added> {
        Box::pin(async move {
            let shard = self.shards.of(add.workflow)?;
            for chunk in add.chunk.iter_mut().filter(|_| !self.options.compress) {
                chunk.body = plain(&chunk.body)?;
            }
            let (parameters, blobs) = parameters::add_jobs(add)?;
            Ok(self.run::<answers::Added>(shard, "add jobs", &script::BATCH, parameters, blobs).await?.json.into())
        })
    }

    fn close_batch(&self, close: CloseBatch) -> Answer<'_, ClosedBatch> {
        Box::pin(async move {
            let (shard, of) = (self.shards.of(close.workflow)?, parameters::close_batch(close));
            let told: Told<answers::ClosedBatch> =
                self.run(shard, "close batch", &script::BATCH, of, Blobs::default()).await?;
            Ok(told.json.into())
        })
    }

    fn enqueue(&self, mut enqueue: Enqueue) -> Answer<'_, Enqueued> {
        Box::pin(async move {
            let lane = enqueue.jobs.first().map(|jobs| jobs.lane.id);
            let shard = self.shards.of(lane.ok_or_else(|| Error::usage("there are no jobs to enqueue"))?)?;
            for jobs in enqueue.jobs.iter_mut().filter(|_| !self.options.compress) {
                jobs.chunk.body = plain(&jobs.chunk.body)?;
            }
            let (parameters, blobs) = parameters::enqueue(enqueue)?;
            self.run::<answers::Enqueued>(shard, "enqueue", &script::CREATE, parameters, blobs).await?.json.told()
        })
    }

    fn put_schedule(&self, put: PutSchedule) -> Answer<'_, Option<ScheduleRow>> {
        Box::pin(async move {
            let shard = self.shards.numbered(put.shard)?;
            let of = parameters::put_schedule(&put);
            let told: Told<answers::ChangedSchedule> =
                self.run(shard, "put schedule", &script::SCHEDULE, of, Blobs::default()).await?;
            told.json.before.map(|before| before.on(put.shard)).transpose()
        })
    }

    fn change_schedule(&self, shard: u16, name: String, change: ChangeSchedule) -> Answer<'_, Changed> {
        Box::pin(async move {
            let of = parameters::change_schedule(&name, change);
            let there = self.shards.numbered(shard)?;
            let told: Told<answers::ChangedSchedule> =
                self.run(there, "change schedule", &script::SCHEDULE, of, Blobs::default()).await?;
            let before = told.json.before.map(|before| before.on(shard)).transpose()?;
            Ok(Changed { before, more: false })
        })
    }

    fn fire(&self, mut fire: Fire) -> Answer<'_, Fired> {
        Box::pin(async move {
            fire.check()?;
            let shard = self.shards.numbered(fire.shard)?;
            for jobs in fire.jobs.iter_mut().filter(|_| !self.options.compress) {
                jobs.chunk.body = plain(&jobs.chunk.body)?;
            }
            let (parameters, blobs) = parameters::fire(fire)?;
            Ok(self.run::<answers::Fired>(shard, "fire", &script::SCHEDULE, parameters, blobs).await?.json.into())
        })
    }

    fn permit(&self, permit: Permit) -> Answer<'_, Permitted> {
        Box::pin(async move {
            permit.check()?;
            let shard = self.shards.numbered(permit.shard)?;
            // The other shards are not held up by one that does not answer.
            if self.shards.count() > 1 && shard.is_away() {
                return Err(Error::unavailable(format!("permit: shard {} is away", shard.number)));
            }
            let parameters = parameters::permit(&permit);
            let told =
                self.run::<answers::Permitted>(shard, "permit", &script::PERMIT, parameters, Blobs::default()).await?;
            Ok(told.json.into())
        })
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Claimed> {
        Box::pin(self.claim_in_turn(claim))
    }

    fn take_over(&self, take: TakeOver) -> Answer<'_, TakenOver> {
        Box::pin(self.take_over_all(take))
    }

    fn renew(&self, renew: Renew) -> Answer<'_, Renewed> {
        Box::pin(self.renew_all(renew))
    }

    fn report(&self, report: Report) -> Answer<'_, Reported> {
        Box::pin(self.report_all(report))
    }

    fn save_checkpoint(&self, save: SaveCheckpoint) -> Answer<'_, ()> {
        Box::pin(async move {
            let (shard, number) = self.shards.lease(save.lease);
            let mut blobs = Blobs::default();
            let of = json!({
                "session": save.session.to_string(), "lease": number, "at": save.at, "body": blobs.put(save.body),
                "covers": save.covers.map(|covers| [covers.draft, covers.calls]),
            });
            let shard = self.shards.numbered(shard)?;
            self.run::<Value>(shard, "save checkpoint", &script::CHECKPOINT, of, blobs).await.map(|_| ())
        })
    }

    fn take_draft(&self, take: TakeDraft) -> Answer<'_, TakenDraft> {
        Box::pin(async move {
            let (shard, number) = self.shards.lease(take.lease);
            let of = json!({
                "session": take.session.to_string(), "lease": number, "at": take.at, "draft": take.draft,
            });
            let shard = self.shards.numbered(shard)?;
            let mut told: Told<answers::TakenDraft> =
                self.run(shard, "take draft", &script::CHECKPOINT, of, Blobs::default()).await?;
            let body = told.json.body.map(|number| told.take(number)).transpose()?;
            Ok(TakenDraft { body, calls: told.json.calls, jobs: told.json.jobs, more: told.json.more })
        })
    }

    fn adopt(&self, adopt: Adopt) -> Answer<'_, Adopted> {
        Box::pin(async move {
            adopt.check()?;
            let (shard, number) = self.shards.lease(adopt.lease);
            let mut blobs = Blobs::default();
            let chunks = adopt.chunks.into_iter();
            let chunks: Vec<Value> =
                chunks.map(|chunk| json!({ "jobs": chunk.jobs, "body": blobs.put(chunk.body) })).collect();
            let of = json!({
                "session": adopt.session.to_string(), "lease": number, "at": adopt.at, "before": adopt.before, "chunks": chunks,
            });
            let shard = self.shards.numbered(shard)?;
            let told: Told<answers::Adopted> = self.run(shard, "adopt", &script::EAGER, of, blobs).await?;
            Ok(told.json.into())
        })
    }

    fn emitted(&self, chunk: ChunkRef, at: u16) -> Answer<'_, Emitted> {
        Box::pin(async move {
            let (wf, number) = answers::split_chunk(chunk.id);
            let of = json!({ "wf": wf, "chunk": number, "at": at });
            let shard = self.shards.numbered(chunk.shard)?;
            let mut told: Told<answers::Emitted> =
                self.run(shard, "emitted", &script::EAGER, of, Blobs::default()).await?;
            let last = told.json.last.map(|number| told.take(number)).transpose()?;
            Ok(Emitted { jobs: told.json.jobs, last })
        })
    }

    fn checkpoint(&self, chunk: ChunkRef, at: u16) -> Answer<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let (wf, number) = answers::chunk_number(chunk);
            let of = json!({ "wf": wf, "chunk": number, "at": at });
            let shard = self.shards.numbered(chunk.shard)?;
            let mut told: Told<answers::Checkpoint> =
                self.run(shard, "checkpoint", &script::CHECKPOINT, of, Blobs::default()).await?;
            told.json.body.map(|number| told.take(number)).transpose()
        })
    }

    fn tick(&self, tick: Tick) -> Answer<'_, Ticked> {
        Box::pin(self.tick_all(tick))
    }

    fn cancel(&self, workflow: WorkflowId, grace: Millis) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut of = parameters::of_workflow(workflow);
            (of["grace"], of["lease"]) = (grace.into(), self.lease().into());
            self.command::<Value>(workflow, "cancel", of).await.map(|_| ())
        })
    }

    fn cancel_jobs(&self, cancel: CancelJobs) -> Answer<'_, CancelledJobs> {
        Box::pin(async move {
            let (shard, (parameters, blobs)) = (self.shards.of(cancel.lane)?, parameters::cancel_jobs(&cancel));
            let told: Told<answers::CancelledJobs> =
                self.run(shard, "cancel jobs", &script::CANCEL, parameters, blobs).await?;
            Ok(told.json.into())
        })
    }

    fn pause(&self, workflow: WorkflowId) -> Answer<'_, ()> {
        Box::pin(async move {
            self.command::<Value>(workflow, "pause", parameters::of_workflow(workflow)).await.map(|_| ())
        })
    }

    fn resume(&self, workflow: WorkflowId) -> Answer<'_, Woken> {
        Box::pin(async move {
            let resumed: answers::Resumed = self.command(workflow, "resume", parameters::of_workflow(workflow)).await?;
            Ok(Woken(resumed.woken))
        })
    }

    fn set_paused(&self, what: Pausable, paused: bool) -> Answer<'_, Woken> {
        Box::pin(self.pause_on_all(what, paused))
    }

    fn retry(&self, retry: RetryFailed) -> Answer<'_, Retried> {
        Box::pin(async move { self.command(retry.workflow, "retry", parameters::retry(&retry)).await })
    }

    fn run_again(&self, run: RunAgain) -> Answer<'_, RanAgain> {
        Box::pin(async move { self.command(run.workflow, "run again", parameters::run_again(&run)).await })
    }

    fn decide_by_hand(&self, decide: DecideByHand) -> Answer<'_, DecidedByHand> {
        Box::pin(async move {
            let shard = self.shards.of(decide.workflow)?;
            let (parameters, blobs) = parameters::decide_by_hand(decide);
            Ok(self.run(shard, "decide by hand", &script::COMMAND, parameters, blobs).await?.json)
        })
    }

    fn resume_step(&self, resume: ResumeStep) -> Answer<'_, ResumedStep> {
        Box::pin(async move {
            let of = parameters::resume_step(&resume);
            let told: answers::ResumedStep = self.command(resume.workflow, "resume step", of).await?;
            Ok(told.into())
        })
    }

    fn signal(&self, send: SendSignal) -> Answer<'_, Signalled> {
        Box::pin(async move {
            let shard = self.shards.of(send.workflow)?;
            let (parameters, blobs) = parameters::signal(send);
            Ok(self.run::<answers::Signalled>(shard, "signal", &script::SIGNAL, parameters, blobs).await?.json.into())
        })
    }

    fn delete(&self, workflow: WorkflowId) -> Answer<'_, ()> {
        Box::pin(async move {
            self.command::<Value>(workflow, "delete", parameters::of_workflow(workflow)).await.map(|_| ())
        })
    }

    fn keep(&self, workflow: WorkflowId, keeping: Keeping) -> Answer<'_, Kept> {
        Box::pin(async move {
            let kept: answers::Kept = self.command(workflow, "keep", parameters::keep(workflow, keeping)?).await?;
            Ok(Kept { expires_at: kept.expires_at })
        })
    }

    fn workflow(&self, workflow: WorkflowId) -> Answer<'_, WorkflowRow> {
        Box::pin(async move {
            let told: Told<answers::One<answers::Workflow>> =
                self.read_of(workflow, "workflow", parameters::of_workflow(workflow)).await?;
            let row =
                told.json.row.ok_or_else(|| Error::corrupt(format!("workflow {workflow} has an id but no head")))?;
            row.try_into()
        })
    }

    fn workflows(&self, list: List) -> Answer<'_, Vec<WorkflowRow>> {
        Box::pin(self.list_all(list))
    }

    fn steps(&self, workflow: WorkflowId, from: StepNumber, limit: u32) -> Answer<'_, Vec<StepRow>> {
        Box::pin(async move {
            let mut of = parameters::of_workflow(workflow);
            (of["from"], of["limit"]) = (from.into(), limit.min(STEP_PAGE).into());
            let mut told: Told<answers::Many<answers::Step>> = self.read_of(workflow, "steps", of).await?;
            let list = std::mem::take(&mut told.json.list);
            list.into_iter().map(|step| step.row(&mut told)).collect()
        })
    }

    fn step_named(&self, workflow: WorkflowId, name: String) -> Answer<'_, Option<StepRow>> {
        Box::pin(async move {
            let mut of = parameters::of_workflow(workflow);
            of["name"] = name.into();
            let mut told: Told<answers::One<answers::Step>> = self.read_of(workflow, "step named", of).await?;
            told.json.row.take().map(|step| step.row(&mut told)).transpose()
        })
    }

    fn edges(&self, workflow: WorkflowId, step: StepNumber, upstream: bool, limit: u32) -> Answer<'_, Vec<EdgeRow>> {
        Box::pin(async move {
            let mut of = parameters::of_step(workflow, step);
            (of["upstream"], of["limit"]) = (upstream.into(), limit.into());
            let told: Told<answers::Many<answers::Edge>> = self.read_of(workflow, "edges", of).await?;
            told.json.list.into_iter().map(TryInto::try_into).collect()
        })
    }

    fn parameters(&self, chunk: ChunkRef) -> Answer<'_, Parameters> {
        Box::pin(async move {
            let (wf, number) = answers::split_chunk(chunk.id);
            let of = json!({ "wf": wf, "chunk": number });
            answers::parameters(self.read(self.shards.numbered(chunk.shard)?, "parameters", of).await?)
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
            answers::outcomes(workflow.shard(), self.read_of(workflow, "outcomes", of).await?)
        })
    }

    fn outcomes_of_chunk(
        &self,
        workflow: WorkflowId,
        step: StepNumber,
        index: u64,
        after: u64,
    ) -> Answer<'_, Option<ChunkOutcomes>> {
        Box::pin(async move {
            let mut of = parameters::of_step(workflow, step);
            (of["from"], of["after"], of["limit"]) = (index.into(), after.into(), 1.into());
            let page = answers::outcomes(workflow.shard(), self.read_of(workflow, "outcomes", of).await?)?;
            Ok(page.into_iter().next().filter(|chunk| index < chunk.first + chunk.bytes.len() as u64))
        })
    }

    fn children(&self, workflow: WorkflowId, step: StepNumber, from: u64, limit: u32) -> Answer<'_, Vec<ChildRow>> {
        Box::pin(async move {
            let mut of = parameters::of_step(workflow, step);
            (of["from"], of["limit"]) = (from.min(1 << 44).into(), limit.min(CHILDREN_PAGE).into());
            let told: Told<answers::Many<(u64, String, u8)>> = self.read_of(workflow, "children", of).await?;
            told.json.list.into_iter().map(answers::child).collect()
        })
    }

    fn errors(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Vec<ErrorRow>> {
        Box::pin(async move {
            answers::errors(self.read_of(workflow, "errors", parameters::of_step(workflow, step)).await?)
        })
    }

    fn waiting(&self, workflow: WorkflowId, step: StepNumber) -> Answer<'_, Waiting> {
        Box::pin(async move {
            let told: Told<answers::Waiting> =
                self.read_of(workflow, "waiting", parameters::of_step(workflow, step)).await?;
            let of = [&told.json.of_queue, &told.json.of_type].map(Clone::clone);
            let mut waiting = Waiting::from(told.json);
            let [queue, job_type] = of;
            for of in [Limited::Queue(queue), Limited::Type(job_type)] {
                match self.limit(&of).await {
                    Ok(row) => waiting.limits.extend(row),
                    // It may be on another shard, which is away: all else can be told.
                    Err(error) if error.is_transient() => tracing::debug!(%error, "a limit cannot be looked at"),
                    Err(error) => return Err(error),
                }
            }
            Ok(waiting)
        })
    }

    fn size(&self, workflow: WorkflowId) -> Answer<'_, WorkflowSize> {
        Box::pin(async move { Ok(self.read_of(workflow, "size", parameters::of_workflow(workflow)).await?.json) })
    }

    fn whereabouts(&self, workflow: WorkflowId, step: StepNumber, index: u64) -> Answer<'_, Whereabouts> {
        Box::pin(async move {
            let mut of = parameters::of_step(workflow, step);
            of["index"] = index.into();
            answers::whereabouts(self.read_of(workflow, "whereabouts", of).await?)
        })
    }

    fn schedules(&self, after: String, limit: u32) -> Answer<'_, Vec<ScheduleRow>> {
        Box::pin(self.schedules_of_all(after, limit))
    }

    fn occurrences(&self, shard: u16, name: String, before: Millis, limit: u32) -> Answer<'_, Vec<OccurrenceRow>> {
        Box::pin(async move {
            let limit = limit.min(MAX_OCCURRENCES);
            let of = json!({ "name": name, "before": before, "limit": limit });
            let told: Told<answers::Many<answers::Occurrence>> =
                self.read(self.shards.numbered(shard)?, "occurrences", of).await?;
            let rows = told.json.list.into_iter().map(TryInto::try_into);
            let mut rows = rows.collect::<Result<Vec<OccurrenceRow>>>()?;
            rows.sort_by_key(|row| std::cmp::Reverse(row.at));
            rows.truncate(limit as usize);
            Ok(rows)
        })
    }

    fn paused(&self) -> Answer<'_, Vec<Pausable>> {
        Box::pin(self.paused_anywhere())
    }

    fn workers(&self, limit: u32) -> Answer<'_, Vec<WorkerRow>> {
        Box::pin(self.workers_of_all(limit))
    }

    fn held(&self, session: SessionId, limit: u32) -> Answer<'_, Vec<HeldRow>> {
        Box::pin(self.held_on_all(session, limit))
    }

    fn doctor(&self) -> Answer<'_, Checkup> {
        Box::pin(self.recount())
    }

    fn identity(&self) -> Answer<'_, u64> {
        Box::pin(self.own_identity())
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

    fn next_shard(&self) -> u16 {
        self.shards.next()
    }

    fn shards(&self) -> u16 {
        self.shards.count()
    }

    fn url(&self) -> String {
        self.options.url()
    }
}

/// The most steps that one look brings.
const STEP_PAGE: u32 = 1000;
