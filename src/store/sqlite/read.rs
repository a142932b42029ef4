//! What people and workers read. Every query has a bound that does not depend on the size of a workflow or of the store.

use rusqlite::Row;
use rusqlite::types::Value;

use super::chore::chore_of;
use super::claim::workflow_state;
use super::tx::{CHAINED, Tx, Wf, chunk_ref, counts, known};
use crate::error::{Error, Result};
use crate::graph::{StepNumber, StepSpec};
use crate::id::{SessionId, WorkflowId};
use crate::retention::Retention;
use crate::state::{BatchState, EdgeKind, JobState, StepState};
use crate::store::{
    ChunkOutcomes, ChunkRef, EdgeRow, ErrorRow, HELD_PAGE, HeldRow, Key, List, Overlap, Parameters, Parent, Pausable,
    Session, StepRow, Waiting, Whereabouts, WorkerRow, WorkflowRow, WorkflowSize,
};

/// How many bytes of records one page of outcomes holds, about.
const OUTCOME_PAGE: usize = 256 * 1024;
/// The most records of one chunk in one page.
const OUTCOME_RECORDS: usize = 1000;
/// The most chunks of one page.
const OUTCOME_CHUNKS: usize = 80;
/// How many live workers are looked at to tell who could run a step.
const WORKERS_LOOKED_AT: i64 = 200;

/// The error for an id that the store does not know.
pub fn no_workflow(id: WorkflowId) -> Error {
    Error::not_found(format!(
        "there is no workflow {id} in this store: it was never created here, or it has been deleted (`list` shows what there is)"
    ))
}

const WORKFLOW_COLUMNS: &str = "id, name, arguments, generation, state, steps, unsettled, total, succeeded, failed, skipped, \
                                cancelled, retrying, deferred, created_at, started_at, finished_at, expires_at, pinned, retention, key, overlap, \
                                (SELECT p.id FROM workflow p WHERE p.wf = workflow.parent), parent_step, parent_index, batch";

/// A workflow's row, and what of it has to be decoded yet.
struct Head {
    id: Vec<u8>,
    state: u8,
    retention: String,
    overlap: Option<u8>,
    parent: Option<(Vec<u8>, StepNumber, i64)>,
    batch: Option<u8>,
    row: WorkflowRow,
}

fn workflow_row(row: &Row<'_>) -> rusqlite::Result<Head> {
    let value = WorkflowRow {
        id: WorkflowId::new(0, 0),
        name: row.get(1)?,
        arguments: row.get(2)?,
        generation: row.get(3)?,
        state: crate::state::WorkflowState::Building,
        steps: row.get(5)?,
        unsettled_steps: row.get(6)?,
        jobs: counts(row, 7)?,
        created_at: row.get(14)?,
        started_at: row.get(15)?,
        finished_at: row.get(16)?,
        expires_at: row.get::<_, Option<i64>>(17)?.filter(|at| *at < i64::MAX),
        pinned: row.get(18)?,
        retention: Retention::for_ever(),
        key: row.get::<_, Option<String>>(20)?.map(|key| Key { key, overlap: Overlap::Skip }),
        parent: None,
        batch: None,
    };
    let parent = match row.get::<_, Option<Vec<u8>>>(22)? {
        Some(id) => Some((id, row.get(23)?, row.get(24)?)),
        None => None,
    };
    let (retention, overlap, batch) = (row.get(19)?, row.get(21)?, row.get(25)?);
    Ok(Head { id: row.get(0)?, state: row.get(4)?, retention, overlap, parent, batch, row: value })
}

fn decode_workflow(head: Head) -> Result<WorkflowRow> {
    let mut row = head.row;
    row.id = WorkflowId::from_slice(&head.id)?;
    row.state = workflow_state(head.state)?;
    row.retention = super::retention::retention_of(&head.retention)?;
    if let (Some(key), Some(overlap)) = (&mut row.key, head.overlap) {
        key.overlap = known(Overlap::from_u8(overlap), "overlap", overlap)?;
    }
    row.parent = match head.parent {
        Some((id, step, index)) => Some(Parent { workflow: WorkflowId::from_slice(&id)?, step, index: index as u64 }),
        None => None,
    };
    row.batch = head.batch.map(|n| known(BatchState::from_u8(n), "state of a batch", n)).transpose()?;
    Ok(row)
}

const STEP_COLUMNS: &str = "step, spec, generation, state, total, succeeded, failed, skipped, cancelled, retrying, deferred, leased, released_at, started_at, finished_at, exceeded, outdated";

fn step_row(row: &Row<'_>) -> rusqlite::Result<(String, u8, StepRow)> {
    let value = StepRow {
        number: row.get(0)?,
        spec: StepSpec::new("", ""),
        generation: row.get(2)?,
        state: StepState::Waiting,
        jobs: counts(row, 4)?,
        running: row.get::<_, i64>(11)?.max(0) as u64,
        released_at: row.get(12)?,
        started_at: row.get(13)?,
        finished_at: row.get(14)?,
        exceeded: row.get(15)?,
        outdated: row.get(16)?,
    };
    Ok((row.get(1)?, row.get(3)?, value))
}

fn decode_step((spec, state, row): (String, u8, StepRow)) -> Result<StepRow> {
    let spec = serde_json::from_str(&spec)
        .map_err(|e| Error::corrupt(format!("what step {} was created as does not decode", row.number)).because(e))?;
    Ok(StepRow { spec, state: known(StepState::from_u8(state), "step state", state)?, ..row })
}

impl Tx<'_> {
    pub fn read_workflow(&mut self, id: WorkflowId) -> Result<WorkflowRow> {
        let sql = format!("SELECT {WORKFLOW_COLUMNS} FROM workflow WHERE id = ?");
        let found = self.one(&sql, [id.as_bytes().as_slice()], workflow_row)?;
        decode_workflow(found.ok_or_else(|| no_workflow(id))?)
    }

    fn wf(&mut self, id: WorkflowId) -> Result<Wf> {
        let found = self.one("SELECT wf FROM workflow WHERE id = ?", [id.as_bytes().as_slice()], |row| row.get(0))?;
        found.ok_or_else(|| no_workflow(id))
    }

    pub fn read_workflows(&mut self, list: &List) -> Result<Vec<WorkflowRow>> {
        let mut conditions = vec!["id IS NOT NULL".to_owned()];
        let mut values: Vec<Value> = Vec::new();
        let mut add = |condition: &str, value: Value| {
            values.push(value);
            conditions.push(condition.replace('?', &format!("?{}", values.len())));
        };
        match list.state {
            Some(state) => add("state = ?", Value::Integer(state as i64)),
            // Lanes are no workflows, although they are kept like them.
            None => add("state < ?", Value::Integer(crate::state::WorkflowState::Deleting as i64)),
        }
        if let Some(name) = &list.name {
            add("name = ?", Value::Text(name.clone()));
        }
        if let Some(from) = list.created_from {
            add("created_at >= ?", Value::Integer(from));
        }
        if let Some(before) = list.created_before {
            add("created_at < ?", Value::Integer(before));
        }
        if let Some((time, id)) = list.after {
            add("created_at <= ?", Value::Integer(time));
            values.push(Value::Integer(time));
            values.push(Value::Blob(id.as_bytes().to_vec()));
            conditions.push(format!("(created_at, id) < (?{}, ?{})", values.len() - 1, values.len()));
        }
        let index = match (list.state, &list.name) {
            (None, None) => "workflow_by_time",
            (Some(_), None) => "workflow_by_state",
            (None, Some(_)) => "workflow_by_name",
            (Some(_), Some(_)) => "workflow_by_name_and_state",
        };
        let sql = format!(
            "SELECT {WORKFLOW_COLUMNS} FROM workflow INDEXED BY {index} WHERE {} ORDER BY created_at DESC, id DESC LIMIT {}",
            conditions.join(" AND "),
            list.limit
        );
        let rows = self.all(&sql, rusqlite::params_from_iter(values), workflow_row)?;
        rows.into_iter().map(decode_workflow).collect()
    }

    pub fn read_steps(&mut self, id: WorkflowId, from: StepNumber, limit: u32) -> Result<Vec<StepRow>> {
        let wf = self.wf(id)?;
        let sql = format!("SELECT {STEP_COLUMNS} FROM step WHERE wf = ? AND step >= ? ORDER BY step LIMIT ?");
        let rows = self.all(&sql, (wf, from, limit), step_row)?;
        rows.into_iter().map(decode_step).collect()
    }

    pub fn read_step_named(&mut self, id: WorkflowId, name: &str) -> Result<Option<StepRow>> {
        let wf = self.wf(id)?;
        let sql = format!("SELECT {STEP_COLUMNS} FROM step WHERE wf = ? AND name = ?");
        self.one(&sql, (wf, name), step_row)?.map(decode_step).transpose()
    }

    pub fn read_edges(&mut self, id: WorkflowId, step: StepNumber, upstream: bool, limit: u32) -> Result<Vec<EdgeRow>> {
        let wf = self.wf(id)?;
        let (this, other, index) =
            if upstream { ("down", "up", "INDEXED BY edge_by_down") } else { ("up", "down", "") };
        let sql = format!(
            "SELECT s.step, s.name, e.kind, s.state, s.total, s.succeeded, s.failed, s.skipped, s.cancelled, s.retrying, s.deferred, s.decided IS NOT NULL \
             FROM edge e {index} JOIN step s ON s.wf = e.wf AND s.step = e.{other} \
             WHERE e.wf = ? AND e.{this} = ? ORDER BY e.{other} LIMIT ?"
        );
        let rows = self.all(&sql, (wf, step, limit), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, u8>(2)?, row.get::<_, u8>(3)?, counts(row, 4)?, row.get(11)?))
        })?;
        rows.into_iter()
            .map(|(number, name, kind, state, jobs, passed_over)| {
                let kind = known(EdgeKind::from_u8(kind), "edge kind", kind)?;
                let state = known(StepState::from_u8(state), "step state", state)?;
                Ok(EdgeRow { number, name, kind, state, passed_over, jobs })
            })
            .collect()
    }

    pub fn read_parameters(&mut self, chunk: ChunkRef) -> Result<Parameters> {
        // What a chained step has from its predecessor has the parameters of the first step of the chain.
        let chunk = chunk.id as i64;
        let body = self.one("SELECT body FROM params WHERE chunk = ?", [chunk], |row| row.get::<_, Vec<u8>>(0))?;
        let body =
            body.ok_or_else(|| Error::not_found(format!("chunk {chunk} is gone: its workflow has been deleted")))?;
        self.count_bytes(body.len());
        let sql = "SELECT jobs, body FROM mended WHERE chunk = ? AND segment IS NULL ORDER BY mended";
        let mended = self.all(sql, [chunk], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mended =
            mended.into_iter().map(|(jobs, body)| Ok((super::tx::mask(&jobs)?, body))).collect::<Result<_>>()?;
        Ok(Parameters { body, mended })
    }

    pub fn read_outcomes(
        &mut self,
        id: WorkflowId,
        step: StepNumber,
        from: u64,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ChunkOutcomes>> {
        let wf = self.wf(id)?;
        let mut page: Vec<ChunkOutcomes> = Vec::new();
        let mut room = OUTCOME_PAGE;
        let mut after = after as i64;
        let mut from = i64::try_from(from).unwrap_or(i64::MAX);
        if from > 0 {
            from = self.find_chunk(wf, step, from)?.map_or(from, |chunk| chunk.first);
        }
        for chunk in self.chunks_from(wf, step, from, limit.min(OUTCOME_CHUNKS))? {
            let bytes = self.bytes(chunk.chunk, chunk.jobs)?;
            let sql = "SELECT body FROM recovered WHERE chunk = ?";
            let recoveries = self.one(sql, [chunk.chunk], |row| row.get::<_, Vec<u8>>(0))?.unwrap_or_default();
            let sql =
                "SELECT outcome, length(body) FROM outcome WHERE chunk = ?1 AND outcome > ?2 ORDER BY outcome LIMIT ?3";
            let sizes = self.all(sql, (chunk.chunk, after, OUTCOME_RECORDS as i64), |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.max(0) as usize))
            })?;
            // As many records as there is room for, and at least one.
            let mut last = None;
            for (outcome, size) in &sizes {
                if *size > room && (last.is_some() || !page.is_empty()) {
                    break;
                }
                room = room.saturating_sub(*size);
                last = Some(*outcome);
            }
            let whole = sizes.len() < OUTCOME_RECORDS && last == sizes.last().map(|(outcome, _)| *outcome);
            if !whole && last.is_none() {
                break;
            }
            let sql = "SELECT body FROM outcome WHERE chunk = ? AND outcome > ? AND outcome <= ? ORDER BY outcome";
            let records = self.all(sql, (chunk.chunk, after, last.unwrap_or(0)), |row| row.get::<_, Vec<u8>>(0))?;
            self.count_bytes(records.iter().map(Vec::len).sum::<usize>());
            room = room.saturating_sub(bytes.len());
            page.push(ChunkOutcomes {
                chunk: chunk_ref(chunk.chunk),
                first: chunk.first as u64,
                bytes,
                recoveries,
                records,
                more_after: last.filter(|_| !whole).map(|outcome| outcome as u64),
            });
            after = 0;
            if !whole || room == 0 {
                break;
            }
        }
        Ok(page)
    }

    pub fn read_errors(&mut self, id: WorkflowId, step: StepNumber) -> Result<Vec<ErrorRow>> {
        let wf = self.wf(id)?;
        let sql = "SELECT number, text, jobs FROM error WHERE wf = ? AND step = ? LIMIT 1100";
        self.all(sql, (wf, step), |row| {
            Ok(ErrorRow {
                number: row.get::<_, i64>(0)? as u64,
                text: row.get(1)?,
                jobs: row.get::<_, i64>(2)?.max(0) as u64,
            })
        })
    }

    pub fn read_size(&mut self, id: WorkflowId) -> Result<WorkflowSize> {
        let wf = self.find(id)?.wf;
        // The length of a blob stands in its row's head: the blobs themselves are not read.
        let of_chunks = |tables: &str| {
            format!(
                "SELECT total(length(body)) FROM segment JOIN chunk USING (segment) JOIN {tables} USING (chunk) WHERE wf = ?"
            )
        };
        let of_chained = |table: &str| {
            format!(
                "SELECT total(length(t.body)) FROM step s JOIN segment g ON g.wf = s.wf AND g.step = s.root JOIN chunk c USING (segment) \
                 JOIN {table} t ON t.chunk = c.chunk | s.step << {CHAINED} WHERE s.wf = ? AND s.root IS NOT NULL"
            )
        };
        let mut sum =
            |sql: &str| Ok::<_, Error>(self.one(sql, [wf], |row| row.get::<_, f64>(0))?.unwrap_or(0.0) as u64);
        Ok(WorkflowSize {
            parameter_bytes: sum(&of_chunks("params"))?
                + sum(
                    "SELECT total(length(m.body)) FROM segment JOIN chunk USING (segment) JOIN mended m USING (chunk) WHERE wf = ?",
                )?,
            outcome_bytes: sum(&of_chunks("outcome"))?
                + sum(&of_chained("outcome"))?
                + sum("SELECT total(length(text)) FROM error WHERE wf = ?")?,
            state_bytes: sum(&of_chunks("bytes"))?
                + sum(&of_chained("bytes"))?
                + sum(&of_chained("recovered"))?
                + sum(&of_chunks("recovered"))?
                + sum("SELECT total(length(body)) FROM checkpoint WHERE wf = ?")?
                + sum("SELECT 8.0 * count(*) FROM emitted WHERE wf = ?")?
                + sum("SELECT total(length(record) + length(error)) FROM awaited WHERE wf = ?")?
                + sum("SELECT total(length(spec) + length(options) + length(name)) FROM step WHERE wf = ?")?
                + sum("SELECT total(length(arguments)) FROM workflow WHERE wf = ?")?,
        })
    }

    pub fn read_waiting(&mut self, id: WorkflowId, number: StepNumber) -> Result<Waiting> {
        let wf = self.wf(id)?;
        let step = self.step(wf, number)?;
        let name = self.one("SELECT queue, type FROM line WHERE line = ?", [step.line], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        let (queue, job_type) = name.ok_or_else(|| Error::corrupt(format!("line {} is missing", step.line)))?;
        let mut waiting = Waiting::default();
        for what in [Pausable::Queue(queue.clone()), Pausable::Type(job_type.clone())] {
            if self.is_paused(&what)? {
                waiting.paused.push(what);
            }
        }
        for worker in self.live_workers(WORKERS_LOOKED_AT)? {
            let subscribed = worker.session.queues.contains(&queue);
            waiting.queue_workers += u64::from(subscribed);
            waiting.able_workers += u64::from(subscribed && worker.session.types.contains(&job_type));
        }
        let sql = "SELECT min(due) FROM timer WHERE wf = ? AND step = ? AND (chunk = 0 OR length(jobs) > 0)";
        waiting.next_due = self.one(sql, (wf, number), |row| row.get(0))?.flatten();
        let sql = "SELECT EXISTS (SELECT 1 FROM ready WHERE line = ?1 AND wf = ?2 AND step = ?3 AND turn IS NULL) \
                   OR EXISTS (SELECT 1 FROM place WHERE line = ?1 AND wf = ?2 AND turn IS NULL)";
        waiting.parked = self.one(sql, (step.line, wf, number), |row| row.get(0))?.unwrap_or(false);
        waiting.suspect = self.first_entry(wf, number, true)?.is_some();
        let sql = "SELECT name FROM hold WHERE wf = ? AND step = ? LIMIT 20";
        waiting.holds = self.all(sql, (wf, number), |row| row.get(0))?;
        waiting.chore = self.plain(|conn| chore_of(conn, wf, number))?;
        let sql = "SELECT s.about, l.jobs FROM lease l INDEXED BY lease_by_step LEFT JOIN session s ON s.session = l.session \
                   WHERE l.wf = ? AND l.step = ? LIMIT 50";
        for (about, jobs) in
            self.all(sql, (wf, number), |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Vec<u8>>(1)?)))?
        {
            waiting.leases.push((worker_name(about.as_deref()), super::tx::mask(&jobs)?.len() as u64));
        }
        waiting.limits = self.read_limits(&queue, &job_type)?;
        if step.decided.is_none() {
            waiting.behind = step.jobs.unsettled().saturating_sub(self.going(&step)?);
        }
        Ok(waiting)
    }

    pub fn read_whereabouts(&mut self, id: WorkflowId, number: StepNumber, index: u64) -> Result<Whereabouts> {
        let wf = self.wf(id)?;
        let mut found = Whereabouts::default();
        let Some(chunk) = self.find_chunk(wf, number, i64::try_from(index).unwrap_or(i64::MAX))? else {
            return Ok(found);
        };
        let at = (index as i64 - chunk.first) as usize;
        let sql = "SELECT s.about, l.jobs, l.progress FROM lease l LEFT JOIN session s ON s.session = l.session WHERE l.chunk = ? LIMIT 1024";
        let leases = self.all(sql, [chunk.chunk], |row| {
            Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Option<String>>(2)?))
        })?;
        for (about, jobs, progress) in leases {
            if super::tx::mask(&jobs)?.contains(at) {
                found.worker = Some(worker_name(about.as_deref()));
                found.progress = progress.and_then(|told| progress_of(&told, at));
            }
        }
        let sql = "SELECT due, jobs FROM timer WHERE chunk = ? ORDER BY due LIMIT 1024";
        for (due, jobs) in self.all(sql, [chunk.chunk], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))? {
            if super::tx::mask(&jobs)?.contains(at) {
                found.due = Some(due);
            }
        }
        let state = JobState::of(self.bytes(chunk.chunk, chunk.jobs)?[at]);
        let step = self.step(wf, number)?;
        let is_running = step.state == StepState::Running;
        // If that has settled, it waits with its step, which has not begun.
        let awaits_it = match step.follows {
            Some(up) => step.released_at.is_some() || self.step(wf, up)?.state != StepState::Succeeded,
            None => false,
        };
        found.behind = state == JobState::Open && awaits_it && !self.succeeded_before(&step, &chunk)?.contains(at);
        let is_running = is_running && !found.behind;
        found.ready = state == JobState::Open && found.worker.is_none() && is_running;
        if state == JobState::Deferred && found.due.is_none() {
            found.turn = self.turn_of(chunk.chunk, at)?;
        }
        Ok(found)
    }

    pub fn read_held(&mut self, session: SessionId, limit: u32) -> Result<Vec<HeldRow>> {
        let sql = "SELECT w.id, w.name, l.step, s.name, l.first, l.jobs, l.claimed_at \
                   FROM session JOIN lease l USING (session) JOIN workflow w USING (wf) JOIN step s ON s.wf = l.wf AND s.step = l.step \
                   WHERE session.id = ?1 ORDER BY l.number LIMIT ?2";
        let rows = self.all(sql, (session.as_bytes().as_slice(), limit.min(HELD_PAGE)), |row| {
            Ok((
                (row.get::<_, Vec<u8>>(0)?, row.get(1)?),
                (row.get(2)?, row.get(3)?),
                (row.get::<_, i64>(4)?, row.get::<_, Vec<u8>>(5)?),
                row.get(6)?,
            ))
        })?;
        rows.into_iter()
            .map(|((id, workflow_name), (step, step_name), (first, jobs), claimed_at)| {
                let workflow = WorkflowId::from_slice(&id)?;
                let (first, jobs) = (first as u64, super::tx::mask(&jobs)?);
                Ok(HeldRow { workflow, workflow_name, step, step_name, first, jobs, claimed_at })
            })
            .collect()
    }

    pub fn live_workers(&mut self, limit: i64) -> Result<Vec<WorkerRow>> {
        // Lease time stands still while nobody looks after the store.
        let sql = "SELECT id, about, since, (SELECT count(*) FROM lease WHERE lease.session = session.session) FROM session, shard \
                   WHERE worker = 1 AND dead_at IS NULL AND deadline > lease_time + max(?2 - lease_time_at, 0) ORDER BY since LIMIT ?1";
        let rows = self.all(sql, (limit, self.now), |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, i64>(3)?))
        })?;
        rows.into_iter()
            .map(|(id, about, since, leases)| {
                let mut session: Session = serde_json::from_str(&about)
                    .map_err(|e| Error::corrupt("what a session says of itself does not decode").because(e))?;
                session.id = crate::id::SessionId::from_slice(&id)?;
                Ok(WorkerRow { session, since, leases: leases.max(0) as u64 })
            })
            .collect()
    }
}

/// How people know a worker: its host and process.
fn worker_name(about: Option<&str>) -> String {
    match about.and_then(|about| serde_json::from_str::<Session>(about).ok()) {
        Some(session) => format!("{}:{}", session.host, session.pid),
        None => "a worker that is gone".to_owned(),
    }
}

/// What a lease's progress text says of the job at `at`.
fn progress_of(told: &str, at: usize) -> Option<String> {
    let all: serde_json::Value = serde_json::from_str(told).ok()?;
    all.get(at.to_string()).map(ToString::to_string)
}
