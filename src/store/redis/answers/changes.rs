//! What the verbs answer that change something.

use serde::Deserialize;

use super::{Schedule, corrupt, join_chunk, limited, list, mask, workflow_id};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::lone::JobId;
use crate::slice::Mask;
use crate::store::redis::script::Answer;
use crate::store::{self, DueSchedule, Granted, LeaseName, Parameters, Woken};

#[derive(Debug, Deserialize)]
pub struct Left {
    pub more: bool,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl From<Left> for store::Left {
    fn from(left: Left) -> Self {
        Self { more: left.more, woken: Woken(left.woken) }
    }
}

#[derive(Debug, Deserialize)]
pub struct Created {
    existed: bool,
    more: bool,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl From<Created> for store::Created {
    fn from(created: Created) -> Self {
        Self { existed: created.existed, more: created.more, woken: Woken(created.woken) }
    }
}

#[derive(Debug, Deserialize)]
pub struct Signalled {
    already: Option<f64>,
    kept: bool,
    more: bool,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl From<Signalled> for store::Signalled {
    fn from(told: Signalled) -> Self {
        let already = told.already.map(|at| at as Millis);
        Self { already, kept: told.kept, more: told.more, woken: Woken(told.woken) }
    }
}

#[derive(Debug, Deserialize)]
pub struct Added {
    step: StepNumber,
    first: u64,
    jobs: u64,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl From<Added> for store::Added {
    fn from(told: Added) -> Self {
        Self { step: told.step, first: told.first, jobs: told.jobs, woken: Woken(told.woken) }
    }
}

#[derive(Debug, Deserialize)]
pub struct ClosedBatch {
    abandoned: bool,
    more: bool,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl From<ClosedBatch> for store::ClosedBatch {
    fn from(told: ClosedBatch) -> Self {
        Self { abandoned: told.abandoned, more: told.more, woken: Woken(told.woken) }
    }
}

#[derive(Debug, Deserialize)]
pub struct Enqueued {
    #[serde(deserialize_with = "list")]
    firsts: Vec<u64>,
    #[serde(deserialize_with = "list")]
    refused: Vec<Refused>,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    of: usize,
    at: u16,
    lane: String,
    index: u64,
}

impl Enqueued {
    pub fn told(self) -> Result<store::Enqueued> {
        let refused = |Refused { of, at, lane, index }| {
            Ok(store::Refused { lane: of, at, first: JobId { lane: workflow_id(&lane)?, index } })
        };
        let refused = self.refused.into_iter().map(refused).collect::<Result<_>>()?;
        Ok(store::Enqueued { firsts: self.firsts, refused, woken: Woken(self.woken) })
    }
}

#[derive(Debug, Deserialize)]
pub struct Claimed {
    #[serde(deserialize_with = "list")]
    slices: Vec<Slice>,
    last_lease: u64,
    empty: bool,
    held: u32,
    idle: bool,
    drain: bool,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
    #[serde(default, deserialize_with = "list")]
    waits: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Slice {
    lease: u64,
    workflow: String,
    workflow_name: String,
    step: StepNumber,
    step_name: String,
    job_type: String,
    queue: Option<String>,
    options: String,
    generation: u32,
    feeds: Option<StepNumber>,
    wf: u64,
    chunk: u64,
    first: u64,
    jobs: usize,
    attempts: Option<usize>,
    suspect: bool,
    limited: bool,
    #[serde(default)]
    priority: i32,
    parameters: Option<usize>,
}

pub fn claimed(shard: u16, mut told: Answer<Claimed>) -> Result<store::Claimed> {
    let slices = std::mem::take(&mut told.json.slices);
    let slices = slices.into_iter().map(|slice| slice.told(shard, &mut told)).collect::<Result<_>>()?;
    let Claimed { last_lease, empty, held, idle, drain, woken, waits, .. } = told.json;
    let waits = waits.iter().filter_map(|name| limited(name)).collect();
    let woken = Woken(woken);
    Ok(store::Claimed { slices, last_lease, empty, held, idle, drain, woken, waits, unanswered: false })
}

impl Slice {
    fn told<T>(self, shard: u16, told: &mut Answer<T>) -> Result<store::Slice> {
        Ok(store::Slice {
            lease: self.lease,
            workflow: workflow_id(&self.workflow)?,
            workflow_name: self.workflow_name,
            step: self.step,
            step_name: self.step_name,
            job_type: self.job_type,
            queue: self.queue,
            options: serde_json::from_str(&self.options)
                .map_err(|e| Error::corrupt("a step's options do not decode").because(e))?,
            generation: self.generation,
            feeds: self.feeds,
            chunk: join_chunk(shard, self.wf, self.chunk),
            first: self.first,
            jobs: mask(&told.take(self.jobs)?)?,
            attempts: self.attempts.map(|number| told.take(number)).transpose()?.unwrap_or_default(),
            suspect: self.suspect,
            limited: self.limited,
            priority: self.priority,
            parameters: self
                .parameters
                .map(|number| Ok::<_, Error>(Parameters { body: told.take(number)?, mended: Vec::new() }))
                .transpose()?,
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct TakenOver {
    #[serde(deserialize_with = "list")]
    taken: Vec<usize>,
    #[serde(deserialize_with = "list")]
    slices: Vec<Slice>,
    last_lease: u64,
    #[serde(deserialize_with = "list")]
    unknown: Vec<usize>,
    #[serde(deserialize_with = "list")]
    again: Vec<usize>,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

/// What was taken over of `leases`, which the answer knows by their positions.
pub fn taken_over(shard: u16, leases: &[LeaseName], mut told: Answer<TakenOver>) -> Result<store::TakenOver> {
    let named = |at: &usize| leases.get(*at).copied().ok_or_else(|| corrupt("a lease that nobody asked for"));
    let taken: Vec<LeaseName> = told.json.taken.iter().map(named).collect::<Result<_>>()?;
    let slices = std::mem::take(&mut told.json.slices).into_iter();
    let slices = slices.map(|slice| slice.told(shard, &mut told)).collect::<Result<Vec<_>>>()?;
    let TakenOver { last_lease, unknown, again, woken, .. } = told.json;
    Ok(store::TakenOver {
        slices: taken.into_iter().zip(slices).collect(),
        last_lease,
        unknown: unknown.iter().map(named).collect::<Result<_>>()?,
        again: again.iter().map(named).collect::<Result<_>>()?,
        away: Vec::new(),
        woken: Woken(woken),
    })
}

#[derive(Debug, Deserialize)]
pub struct Permitted {
    #[serde(deserialize_with = "list")]
    granted: Vec<GrantTold>,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl From<Permitted> for store::Permitted {
    fn from(told: Permitted) -> Self {
        let granted = |one: GrantTold| Granted { more: one.more, free_in: one.free_in.map(|wait| wait as Millis) };
        Self { granted: told.granted.into_iter().map(granted).collect(), woken: Woken(told.woken) }
    }
}

#[derive(Debug, Deserialize)]
struct GrantTold {
    more: u32,
    free_in: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub struct Renewed {
    #[serde(deserialize_with = "list")]
    lost: Vec<u64>,
    #[serde(deserialize_with = "list")]
    cancelled: Vec<u64>,
    #[serde(deserialize_with = "list")]
    stopped: Vec<(u64, usize)>,
}

pub fn renewed(mut told: Answer<Renewed>) -> Result<store::Renewed> {
    let stopped = std::mem::take(&mut told.json.stopped);
    let stopped = stops(&mut told, stopped)?;
    let Renewed { lost, cancelled, .. } = told.json;
    Ok(store::Renewed { lost, cancelled, stopped, ..store::Renewed::default() })
}

/// Leases with jobs that are to be stopped.
fn stops<T>(told: &mut Answer<T>, stops: Vec<(u64, usize)>) -> Result<Vec<(u64, Mask)>> {
    stops.into_iter().map(|(lease, jobs)| Ok((lease, mask(&told.take(jobs)?)?))).collect()
}

#[derive(Debug, Deserialize)]
pub struct Checkpoint {
    pub body: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub struct Adopted {
    stored: u64,
    unfinished: u64,
    cancelled: bool,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl From<Adopted> for store::Adopted {
    fn from(told: Adopted) -> Self {
        let Adopted { stored, unfinished, cancelled, woken } = told;
        Self { stored, unfinished, cancelled, woken: Woken(woken) }
    }
}

#[derive(Debug, Deserialize)]
pub struct Emitted {
    pub jobs: u64,
    pub last: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub struct TakenDraft {
    pub body: Option<usize>,
    #[serde(default)]
    pub calls: u64,
    #[serde(default)]
    pub jobs: u64,
    #[serde(default)]
    pub more: bool,
}

#[derive(Debug, Deserialize)]
pub struct CancelledJobs {
    cancelled: u32,
    stopping: u32,
    #[serde(deserialize_with = "list")]
    told: Vec<u16>,
}

impl From<CancelledJobs> for store::CancelledJobs {
    fn from(told: CancelledJobs) -> Self {
        Self { cancelled: told.cancelled, stopping: told.stopping, told: Woken(told.told) }
    }
}

#[derive(Debug, Deserialize)]
pub struct Reported {
    #[serde(deserialize_with = "list")]
    refused: Vec<u64>,
    #[serde(deserialize_with = "list")]
    cancelled: Vec<u64>,
    #[serde(deserialize_with = "list")]
    known_errors: Vec<(u64, String)>,
    #[serde(deserialize_with = "list")]
    stopped: Vec<(u64, usize)>,
    more: bool,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl Reported {
    pub fn all(mut answer: Answer<Self>) -> Result<store::Reported> {
        let stopped = std::mem::take(&mut answer.json.stopped);
        let stopped = stops(&mut answer, stopped)?;
        let told = answer.json;
        let known = |(lease, number): (u64, String)| {
            Ok((lease, number.parse().map_err(|_| corrupt("an error without number"))?))
        };
        Ok(store::Reported {
            stopped,
            refused: told.refused,
            cancelled: told.cancelled,
            away: Vec::new(),
            known_errors: told.known_errors.into_iter().map(known).collect::<Result<_>>()?,
            more: told.more,
            woken: Woken(told.woken),
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct Ticked {
    pub more: bool,
    ready: bool,
    next_in: Option<f64>,
    #[serde(deserialize_with = "list")]
    schedules: Vec<Schedule>,
    now: f64,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
    #[serde(deserialize_with = "list")]
    told: Vec<u16>,
}

impl Ticked {
    pub fn on(self, shard: u16) -> Result<store::Ticked> {
        Ok(store::Ticked {
            more: self.more,
            ready: self.ready,
            next_in: self.next_in.map(|next| next as Millis),
            schedules: self
                .schedules
                .into_iter()
                .map(|row| Ok(DueSchedule { schedule: row.on(shard)?, now: self.now as Millis }))
                .collect::<Result<_>>()?,
            woken: Woken(self.woken),
            told: Woken(self.told),
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct ChangedSchedule {
    pub before: Option<Schedule>,
}

#[derive(Debug, Deserialize)]
pub struct Fired {
    fired: bool,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl From<Fired> for store::Fired {
    fn from(told: Fired) -> Self {
        Self { fired: told.fired, woken: Woken(told.woken) }
    }
}

#[derive(Debug, Deserialize)]
pub struct ResumedStep {
    was_paused: bool,
    #[serde(deserialize_with = "list")]
    woken: Vec<u16>,
}

impl From<ResumedStep> for store::ResumedStep {
    fn from(told: ResumedStep) -> Self {
        Self { was_paused: told.was_paused, woken: Woken(told.woken) }
    }
}

#[derive(Debug, Deserialize)]
pub struct Resumed {
    #[serde(deserialize_with = "list")]
    pub woken: Vec<u16>,
}

#[derive(Debug, Deserialize)]
pub struct Begun {
    held_by: Option<WorkflowId>,
    #[serde(default)]
    ahead: u32,
    #[serde(default)]
    decided: bool,
}

impl From<Begun> for store::Begun {
    fn from(told: Begun) -> Self {
        Self { held_by: told.held_by, ahead: told.ahead, decided: told.decided }
    }
}

#[derive(Debug, Deserialize)]
pub struct Kept {
    pub expires_at: Option<Millis>,
}
