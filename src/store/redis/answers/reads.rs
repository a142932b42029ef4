//! What the verbs answer that only look.

use serde::Deserialize;

use super::{Many, corrupt, join_chunk, limited, list, mask, pausable, time, workflow_id};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::SessionId;
use crate::limit::{Limit, Rate};
use crate::retention::Retention;
use crate::state::{BatchState, Counts, EdgeKind, StepState, WorkflowState};
use crate::store::redis::script::Answer;
use crate::store::{self, *};

/// A limit; times may come as numbers with a fraction.
#[derive(Debug, Deserialize)]
pub struct LimitTold {
    name: String,
    at_once: Option<u32>,
    starts: Option<u32>,
    period: Option<f64>,
    taken: u64,
    next_start: Option<f64>,
}

impl LimitTold {
    pub fn row(self) -> Option<LimitRow> {
        let rate = self.starts.zip(self.period).map(|(starts, period)| Rate { starts, period: period as Millis });
        Some(LimitRow {
            of: limited(&self.name)?,
            limit: Limit::of_parts(self.at_once, rate),
            taken: self.taken,
            next_start: self.next_start.map(|at| at as Millis),
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct Schedule {
    name: String,
    definition: String,
    next: Option<String>,
    paused: bool,
}

impl Schedule {
    pub fn on(self, shard: u16) -> Result<ScheduleRow> {
        let next = self.next.as_deref().map(time).transpose()?;
        Ok(ScheduleRow { shard, name: self.name, definition: self.definition, next, paused: self.paused })
    }
}

#[derive(Debug, Deserialize)]
pub struct Occurrence {
    at: String,
    to: String,
    count: u64,
    state: u8,
    fired_at: f64,
    lane: Option<String>,
    job: Option<u64>,
    workflow: Option<String>,
}

impl TryFrom<Occurrence> for OccurrenceRow {
    type Error = Error;

    fn try_from(row: Occurrence) -> Result<Self> {
        let lane = row.lane.as_deref().map(workflow_id).transpose()?;
        Ok(Self {
            at: time(&row.at)?,
            to: time(&row.to)?,
            count: row.count,
            state: OccurrenceState::from_u8(row.state).ok_or_else(|| corrupt("an unknown state of an occurrence"))?,
            fired_at: row.fired_at as Millis,
            job: lane.zip(row.job),
            workflow: row.workflow.as_deref().map(workflow_id).transpose()?,
        })
    }
}

fn workflow_state(number: u8) -> Result<WorkflowState> {
    WorkflowState::from_u8(number).ok_or_else(|| corrupt("an unknown state of a workflow"))
}

fn step_state(number: u8) -> Result<StepState> {
    StepState::from_u8(number).ok_or_else(|| corrupt("an unknown state of a step"))
}

#[derive(Debug, Deserialize)]
pub struct Workflow {
    id: String,
    name: String,
    arguments: String,
    generation: u32,
    state: u8,
    steps: u32,
    unsettled: u32,
    #[serde(flatten)]
    jobs: Counts,
    created_at: Millis,
    started_at: Option<Millis>,
    finished_at: Option<Millis>,
    expires_at: Option<Millis>,
    #[serde(default)]
    pinned: bool,
    retention: Option<String>,
    key: Option<String>,
    overlap: Option<u8>,
    parent: Option<(String, StepNumber, u64)>,
    batch: Option<u8>,
}

impl TryFrom<Workflow> for WorkflowRow {
    type Error = Error;

    fn try_from(row: Workflow) -> Result<Self> {
        Ok(Self {
            id: workflow_id(&row.id)?,
            name: row.name,
            arguments: row.arguments,
            generation: row.generation,
            state: workflow_state(row.state)?,
            steps: row.steps,
            unsettled_steps: row.unsettled,
            jobs: row.jobs,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            expires_at: row.expires_at,
            pinned: row.pinned,
            retention: match row.retention {
                None => Retention::default(),
                Some(text) => serde_json::from_str(&text)
                    .map_err(|e| corrupt("how long a workflow is kept, which does not decode").because(e))?,
            },
            key: match (row.key, row.overlap) {
                (Some(key), Some(overlap)) => {
                    let overlap = Overlap::from_u8(overlap).ok_or_else(|| corrupt("an unknown overlap"))?;
                    Some(Key { key, overlap })
                }
                _ => None,
            },
            parent: match row.parent {
                Some((id, step, index)) => Some(Parent { workflow: workflow_id(&id)?, step, index }),
                None => None,
            },
            batch: match row.batch {
                Some(number) => {
                    Some(BatchState::from_u8(number).ok_or_else(|| corrupt("an unknown state of a batch"))?)
                }
                None => None,
            },
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct Step {
    number: StepNumber,
    spec: usize,
    generation: u32,
    state: u8,
    #[serde(flatten)]
    jobs: Counts,
    leased: i64,
    released_at: Option<Millis>,
    started_at: Option<Millis>,
    finished_at: Option<Millis>,
    #[serde(default)]
    exceeded: bool,
    #[serde(default)]
    outdated: bool,
}

impl Step {
    pub fn row<T>(self, told: &mut Answer<T>) -> Result<StepRow> {
        let spec = serde_json::from_slice(&told.take(self.spec)?).map_err(|e| {
            Error::corrupt(format!("what step {} was created as does not decode", self.number)).because(e)
        })?;
        Ok(StepRow {
            number: self.number,
            spec,
            generation: self.generation,
            state: step_state(self.state)?,
            jobs: self.jobs,
            running: u64::try_from(self.leased).unwrap_or(0),
            released_at: self.released_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            exceeded: self.exceeded,
            outdated: self.outdated,
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct Edge {
    number: StepNumber,
    name: String,
    kind: u8,
    state: u8,
    passed_over: bool,
    #[serde(flatten)]
    jobs: Counts,
}

impl TryFrom<Edge> for EdgeRow {
    type Error = Error;

    fn try_from(row: Edge) -> Result<Self> {
        Ok(Self {
            number: row.number,
            name: row.name,
            kind: EdgeKind::from_u8(row.kind).ok_or_else(|| corrupt("an unknown kind of edge"))?,
            state: step_state(row.state)?,
            passed_over: row.passed_over,
            jobs: row.jobs,
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct Body {
    body: usize,
    #[serde(deserialize_with = "list")]
    mended: Vec<(usize, usize)>,
}

pub fn parameters(mut told: Answer<Body>) -> Result<Parameters> {
    let (body, parts) = (told.json.body, std::mem::take(&mut told.json.mended));
    let body = told.take(body)?;
    let mended = parts.into_iter().map(|(jobs, body)| Ok((mask(&told.take(jobs)?)?, told.take(body)?)));
    let mended = mended.collect::<Result<_>>()?;
    Ok(Parameters { body, mended })
}

#[derive(Debug, Deserialize)]
pub struct Page {
    #[serde(deserialize_with = "list")]
    page: Vec<Outcomes>,
}

#[derive(Debug, Deserialize)]
struct Outcomes {
    wf: u64,
    chunk: u64,
    first: u64,
    bytes: usize,
    recovered: Option<usize>,
    #[serde(deserialize_with = "list")]
    records: Vec<usize>,
    more_after: Option<u64>,
}

pub fn outcomes(shard: u16, mut told: Answer<Page>) -> Result<Vec<ChunkOutcomes>> {
    let page = std::mem::take(&mut told.json.page);
    let chunk = |of: Outcomes| -> Result<ChunkOutcomes> {
        Ok(ChunkOutcomes {
            chunk: join_chunk(shard, of.wf, of.chunk),
            first: of.first,
            bytes: told.take(of.bytes)?,
            recoveries: of.recovered.map(|number| told.take(number)).transpose()?.unwrap_or_default(),
            records: of.records.into_iter().map(|number| told.take(number)).collect::<Result<_>>()?,
            more_after: of.more_after,
        })
    };
    page.into_iter().map(chunk).collect()
}

pub fn errors(mut told: Answer<Many<(String, usize, u64)>>) -> Result<Vec<ErrorRow>> {
    let list = std::mem::take(&mut told.json.list);
    let row = |(number, text, jobs): (String, usize, u64)| -> Result<ErrorRow> {
        Ok(ErrorRow {
            number: number.parse().map_err(|_| corrupt("an error without number"))?,
            text: String::from_utf8_lossy(&told.take(text)?).into_owned(),
            jobs,
        })
    };
    list.into_iter().map(row).collect()
}

pub fn child((index, id, state): (u64, String, u8)) -> Result<ChildRow> {
    Ok(ChildRow { index, id: workflow_id(&id)?, state: workflow_state(state)? })
}

/// How people know a worker: its host and process.
fn worker_name(about: &str) -> String {
    match serde_json::from_str::<Session>(about) {
        Ok(session) => format!("{}:{}", session.host, session.pid),
        Err(_) => "a worker that is gone".to_owned(),
    }
}

#[derive(Debug, Deserialize)]
pub struct Waiting {
    next_due: Option<f64>,
    #[serde(deserialize_with = "list")]
    paused: Vec<String>,
    parked: bool,
    suspect: bool,
    able: u64,
    queue: u64,
    #[serde(deserialize_with = "list")]
    holds: Vec<String>,
    chore: Option<String>,
    #[serde(deserialize_with = "list")]
    leases: Vec<(String, u64)>,
    behind: u64,
    pub of_queue: String,
    pub of_type: String,
}

impl From<Waiting> for store::Waiting {
    fn from(told: Waiting) -> Self {
        Self {
            next_due: told.next_due.map(|due| due as Millis),
            parked: told.parked,
            paused: told.paused.iter().filter_map(|name| pausable(name)).collect(),
            suspect: told.suspect,
            able_workers: told.able,
            queue_workers: told.queue,
            holds: told.holds,
            chore: told.chore,
            leases: told.leases.iter().map(|(about, jobs)| (worker_name(about), *jobs)).collect(),
            limits: Vec::new(),
            behind: told.behind,
        }
    }
}

#[derive(Debug, Deserialize)]
pub struct Whereabouts {
    worker: Option<String>,
    progress: Option<usize>,
    at: Option<u64>,
    due: Option<f64>,
    ready: bool,
    #[serde(default)]
    behind: bool,
    turn: Option<Turn>,
}

#[derive(Debug, Deserialize)]
pub struct Turn {
    key: String,
    admitted: u32,
    waiting: u32,
}

pub fn whereabouts(mut told: Answer<Whereabouts>) -> Result<store::Whereabouts> {
    let progress = match (told.json.progress, told.json.at) {
        (Some(number), Some(at)) => {
            let all: Option<serde_json::Value> = serde_json::from_slice(&told.take(number)?).ok();
            all.and_then(|all| all.get(at.to_string()).map(ToString::to_string))
        }
        _ => None,
    };
    let Whereabouts { worker, due, ready, behind, turn, .. } = told.json;
    Ok(store::Whereabouts {
        worker: worker.as_deref().map(worker_name),
        progress,
        due: due.map(|due| due as Millis),
        ready,
        behind,
        turn: turn.map(|Turn { key, admitted, waiting }| store::Turn { key, admitted, waiting }),
    })
}

#[derive(Debug, Deserialize)]
pub struct Worker {
    id: String,
    about: String,
    since: Millis,
    leases: u64,
}

impl TryFrom<Worker> for WorkerRow {
    type Error = Error;

    fn try_from(row: Worker) -> Result<Self> {
        let mut session: Session = serde_json::from_str(&row.about)
            .map_err(|e| Error::corrupt("what a session says of itself does not decode").because(e))?;
        let bytes: Vec<u8> = (0..row.id.len() / 2)
            .filter_map(|at| u8::from_str_radix(row.id.get(at * 2..at * 2 + 2)?, 16).ok())
            .collect();
        session.id = SessionId::from_slice(&bytes)?;
        Ok(Self { session, since: row.since, leases: row.leases })
    }
}

#[derive(Debug, Deserialize)]
pub struct Held {
    workflow: String,
    workflow_name: String,
    step: StepNumber,
    step_name: String,
    first: u64,
    jobs: usize,
    claimed_at: f64,
}

pub fn held(mut told: Answer<Many<Held>>) -> Result<Vec<HeldRow>> {
    let list = std::mem::take(&mut told.json.list);
    let row = |row: Held| -> Result<HeldRow> {
        Ok(HeldRow {
            workflow: workflow_id(&row.workflow)?,
            workflow_name: row.workflow_name,
            step: row.step,
            step_name: row.step_name,
            first: row.first,
            jobs: mask(&told.take(row.jobs)?)?,
            claimed_at: row.claimed_at as Millis,
        })
    };
    list.into_iter().map(row).collect()
}

#[derive(Debug, Deserialize)]
pub struct ShardChecked {
    #[serde(deserialize_with = "list")]
    pub findings: Vec<String>,
    pub under_way: u64,
    pub leases: u64,
    #[serde(deserialize_with = "list")]
    pub ids: Vec<String>,
    /// How many operations the server has lost, and when that was noticed last.
    pub lost: Option<u64>,
    pub lost_at: Option<Millis>,
}

#[derive(Debug, Deserialize)]
pub struct WorkflowChecked {
    #[serde(deserialize_with = "list")]
    pub findings: Vec<String>,
    pub steps: u64,
    pub jobs: u64,
    #[serde(default)]
    pub lane: bool,
}
