//! What the scripts are given, as JSON and blobs.

use serde_json::{Value, json};

use super::answers::split_chunk;
use super::script::Blobs;
use crate::clock::millis;
use crate::error::{Error, Result};
use crate::graph::{StepNumber, StepSpec};
use crate::id::WorkflowId;
use crate::record::{CANCELLED_KEPT, KILLED, KILLED_KEPT, error_number};
use crate::retention::{KeepFor, Retention};
use crate::slice::Mask;
use crate::state::Tolerate;
use crate::store::*;

/// A workflow's id as the store keeps it: 32 hexadecimal digits.
pub fn id_text(id: WorkflowId) -> String {
    id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn of_workflow(id: WorkflowId) -> Value {
    json!({ "workflow": id_text(id), "shown": id.to_string() })
}

pub fn of_step(id: WorkflowId, step: StepNumber) -> Value {
    let mut of = of_workflow(id);
    of["step"] = step.into();
    of
}

/// Behind any job that a lane can have: a number that scripts can count with.
const MAX_INDEX: u64 = 1 << 44;

/// What is noted of a job that killed its worker too often, and how long one is kept that was cancelled without a word on that.
pub fn killed() -> Value {
    json!({ "number": error_number(KILLED).to_string(), "text": KILLED, "keep": KILLED_KEPT, "cancelled_keep": CANCELLED_KEPT })
}

/// What is noted of a job whose child has failed.
pub fn child_failed() -> Value {
    let text = crate::children::FAILED;
    json!({ "number": error_number(text).to_string(), "text": text })
}

fn draft_name(key: DraftKey) -> String {
    format!("{}:{}", key.session, key.number)
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::usage("a value cannot be written as JSON").because(e))
}

pub fn join(session: &Session, channel: &str) -> Result<Value> {
    Ok(json!({
        "channel": channel,
        "session": session.id.to_string(),
        "about": to_json(session)?,
        "of_host": session.host,
        "worker": session.is_worker(),
        "port": session.wake_port,
        "queues": session.queues,
        "types": session.types,
        "lease": session.lease,
    }))
}

fn new_workflow(new: &NewWorkflow) -> Result<Value> {
    // What holds unless told otherwise takes no room.
    let retention = (new.retention != Retention::default()).then(|| to_json(&new.retention)).transpose()?;
    let (key, overlap) = new.key.as_ref().map(|key| (&key.key, key.overlap as u8)).unzip();
    Ok(json!({
        "id": id_text(new.id),
        "name": new.name,
        "arguments": new.arguments,
        "generation": new.generation,
        "retention": retention,
        "key": key,
        "overlap": overlap,
        "occurrence": new.occurrence.as_ref().map(|of| json!({ "schedule": of.schedule, "at": of.at })),
        "parent": new.parent.map(|of| json!({ "workflow": id_text(of.workflow), "step": of.step, "index": of.index })),
    }))
}

pub fn begin(begin: &Begin) -> Result<Value> {
    Ok(json!({ "draft": draft_name(begin.draft), "workflow": new_workflow(&begin.workflow)?, "lease": begin.lease }))
}

pub fn abandon(draft: DraftKey) -> Value {
    json!({ "draft": draft_name(draft) })
}

pub fn keep(id: WorkflowId, keeping: Keeping) -> Result<Value> {
    let mut of = of_workflow(id);
    match keeping {
        Keeping::ExpireIn(time) => {
            let time = time.max(0);
            of["how"] = "expire".into();
            of["retention"] = to_json(&Retention::all(KeepFor { age: Some(time), most: None }))?.into();
        }
        Keeping::Pinned => of["how"] = "pin".into(),
        Keeping::Unpinned => of["how"] = "unpin".into(),
        Keeping::Expired => of["how"] = "now".into(),
    }
    Ok(of)
}

fn parts(parts: Vec<Part>, blobs: &mut Blobs) -> Result<Vec<Value>> {
    let mut part = |part| -> Result<Value> {
        Ok(match part {
            Part::Step { spec, upstreams, always, awaits } => {
                let mut step = of_spec(&spec)?;
                (step["always"], step["upstreams"]) = (always.into(), upstreams.into());
                step["awaits"] = awaits.map(|awaits| of_wait(*awaits, blobs)).into();
                step
            }
            Part::Open { draft, lease } => json!({ "t": "open", "draft": draft_name(draft), "lease": lease }),
            Part::Within { batch, step, chunk } => json!({
                "t": "within", "workflow": id_text(batch), "shown": batch.to_string(), "step": of_growing(&step)?, "jobs": chunk.jobs,
                "body": blobs.put(chunk.body)
            }),
            Part::Edge(edge) => json!({ "t": "edge", "up": edge.up, "down": edge.down, "kind": edge.kind as u8 }),
            Part::Jobs { step, chunk } => {
                json!({ "t": "jobs", "step": step, "jobs": chunk.jobs, "body": blobs.put(chunk.body) })
            }
            Part::Mended { chunk, first, jobs, body } => json!({
                "t": "mended",
                "chunk": split_chunk(chunk).1,
                "first": first,
                "mask": blobs.put(jobs.to_bytes()),
                "body": blobs.put(body),
            }),
        })
    };
    parts.into_iter().map(&mut part).collect()
}

fn of_spec(spec: &StepSpec) -> Result<Value> {
    let (jobs, fraction) = match spec.tolerate {
        Tolerate::None => (None, None),
        Tolerate::Jobs(jobs) => (Some(jobs), None),
        Tolerate::Fraction(fraction) => (None, Some(fraction)),
    };
    Ok(json!({
        "t": "step",
        "name": spec.name,
        "spec": to_json(spec)?,
        "options": to_json(&StepOptions::of(spec))?,
        "type": spec.job_type,
        "queue": spec.queue,
        "priority": spec.priority,
        "feeds": spec.feeds,
        "tolerate_jobs": jobs,
        "tolerate_fraction": fraction,
        "policy": (!spec.policy.is_default()).then_some(spec.policy as u8),
        "grows": spec.grows.then_some(true),
        "children": spec.children.then_some(true),
        "follows": spec.follows(),
        "root": spec.chain.first().map(|link| link.step),
        "limit": spec.max_in_flight,
        "max_recoveries": spec.max_recoveries,
        "delay": millis(spec.delay),
    }))
}

/// A step of a batch, to which jobs are added.
fn of_growing(spec: &StepSpec) -> Result<Value> {
    let mut step = of_spec(spec)?;
    (step["always"], step["upstreams"]) = (false.into(), 1.into());
    // How the name stands in what it is created as, should it get another one.
    step["quoted"] = to_json(&spec.name)?.into();
    Ok(step)
}

pub fn add_jobs(add: AddJobs) -> Result<(Value, Blobs)> {
    let mut blobs = Blobs::default();
    let mut of = of_workflow(add.workflow);
    of["session"] = add.session.to_string().into();
    of["command"] = add.command.into();
    of["step"] = of_growing(&add.step)?;
    of["draft"] = add.draft.map(draft_name).into();
    of["chunk"] = add.chunk.map(|chunk| json!({ "jobs": chunk.jobs, "body": blobs.put(chunk.body) })).into();
    Ok((of, blobs))
}

pub fn close_batch(close: CloseBatch) -> Value {
    let mut of = of_workflow(close.workflow);
    of["draft"] = draft_name(close.draft).into();
    of
}

fn of_wait(Awaits { signal, until, then, record, error }: Awaits, blobs: &mut Blobs) -> Value {
    let (at, wait) = until.map(WaitsUntil::parts).unwrap_or_default();
    json!({
        "type": signal,
        "at": at,
        "wait": wait,
        "state": then as u8,
        "number": error_number(&error).to_string(),
        "text": error,
        "record": blobs.put(record),
    })
}

pub fn signal(send: SendSignal) -> (Value, Blobs) {
    let mut blobs = Blobs::default();
    let mut of = of_workflow(send.workflow);
    of["session"] = send.session.to_string().into();
    of["command"] = send.command.into();
    of["name"] = send.name.into();
    of["signal_type"] = send.signal_type.into();
    of["record"] = blobs.put(send.record);
    (of, blobs)
}

pub fn decide_by_hand(decide: DecideByHand) -> (Value, Blobs) {
    let mut blobs = Blobs::default();
    let mut of = of_step(decide.workflow, decide.step);
    of["session"] = decide.session.to_string().into();
    of["command"] = decide.command.into();
    match decide.what {
        ByHand::SkipAll => {}
        ByHand::Skip { index } => of["index"] = index.into(),
        ByHand::Replace { index, record } => {
            of["index"] = index.into();
            of["record"] = blobs.put(record);
        }
    }
    (of, blobs)
}

pub fn append(append: Append) -> Result<(Value, Blobs)> {
    let mut blobs = Blobs::default();
    let mut shown = None;
    let of = match &append.of {
        DraftOf::Workflow(new) => json!({ "new": new_workflow(new)? }),
        DraftOf::Jobs { workflow, step } | DraftOf::Mended { workflow, step } => {
            shown = Some(workflow.to_string());
            let is_jobs = matches!(append.of, DraftOf::Jobs { .. });
            json!({ "workflow": id_text(*workflow), "step": step, "jobs": is_jobs })
        }
        DraftOf::Added { workflow, step } => {
            shown = Some(workflow.to_string());
            json!({ "workflow": id_text(*workflow), "added": of_growing(step)? })
        }
        DraftOf::Open { .. } => return Err(Error::usage("a draft that holds a batch open has no parts")),
    };
    let value = json!({
        "draft": draft_name(append.draft),
        "of": of,
        "shown": shown,
        "number": append.number,
        "lease": append.lease,
        "parts": parts(append.parts, &mut blobs)?,
    });
    Ok((value, blobs))
}

pub fn hold_open(batch: WorkflowId, append: &Append) -> Value {
    let mut of = of_workflow(batch);
    (of["draft"], of["lease"]) = (draft_name(append.draft).into(), append.lease.into());
    of
}

pub fn create(create: Create) -> Result<(Value, Blobs)> {
    let mut blobs = Blobs::default();
    let value = json!({
        "workflow": new_workflow(&create.workflow)?,
        "shown": create.workflow.parent.map(|parent| parent.workflow.to_string()),
        "draft": create.draft.map(draft_name),
        "again": create.again,
        "parts": parts(create.parts, &mut blobs)?,
    });
    Ok((value, blobs))
}

pub fn enqueue(enqueue: Enqueue) -> Result<(Value, Blobs)> {
    let mut blobs = Blobs::default();
    let jobs = enqueue.jobs.into_iter().map(|jobs| lone_jobs(jobs, &mut blobs)).collect::<Result<Vec<Value>>>()?;
    let value = json!({ "session": enqueue.session.to_string(), "command": enqueue.command, "jobs": jobs });
    Ok((value, blobs))
}

fn lone_jobs(LoneJobs { lane, chunk, due, deadlines, waits, keyed }: LoneJobs, blobs: &mut Blobs) -> Result<Value> {
    let step = Part::Step { spec: lane.step(), upstreams: 0, always: false, awaits: None };
    let mut timed = |times: Vec<(Millis, Mask)>| -> Vec<Value> {
        times.into_iter().map(|(time, mask)| json!([time, blobs.put(mask.to_bytes())])).collect()
    };
    let (due, deadlines) = (timed(due), timed(deadlines));
    let waits = waits.map(|Waits { name, key, ids }| {
        json!({ "name": name, "key": key, "ids": ids.into_iter().map(id_text).collect::<Vec<_>>() })
    });
    Ok(json!({
        "lane": {
            "id": id_text(lane.id),
            "arguments": json!({ "queue": lane.queue, "priority": lane.priority }).to_string(),
            "step": parts(vec![step], blobs)?.pop(),
        },
        "jobs": chunk.jobs,
        "body": blobs.put(chunk.body),
        "due": due,
        "deadlines": deadlines,
        "waits": waits,
        "keyed": keyed.into_iter().map(of_key).collect::<Vec<_>>(),
    }))
}

fn of_key(Keyed { at, limit, unique }: Keyed) -> Value {
    let (key, limit) = limit.unzip();
    let rate = limit.and_then(|limit| limit.starts());
    let (sole, until) = unique.unzip();
    let (until, time) = until.map(Until::parts).unzip();
    json!({
        "at": at,
        "key": key,
        "at_once": limit.and_then(|limit| limit.jobs()),
        "starts": rate.map(|rate| rate.starts),
        "period": rate.map(|rate| rate.period),
        "sole": sole,
        "until": until,
        "time": time.flatten(),
    })
}

pub fn cancel_jobs(cancel: &CancelJobs) -> (Value, Blobs) {
    let mut blobs = Blobs::default();
    let mut of = of_workflow(cancel.lane);
    (of["index"], of["keep"]) = (cancel.index.min(MAX_INDEX).into(), cancel.keep.into());
    of["jobs"] = blobs.put(cancel.jobs.to_bytes());
    of["killed"] = killed();
    (of, blobs)
}

pub fn put_schedule(put: &PutSchedule) -> Value {
    json!({ "name": put.name, "rule": put.rule, "definition": put.definition, "next": put.next })
}

pub fn change_schedule(name: &str, change: ChangeSchedule) -> Value {
    let (change, next) = match change {
        ChangeSchedule::Pause => ("pause", None),
        ChangeSchedule::Resume(next) => ("resume", next),
        ChangeSchedule::Move => ("move", None),
        ChangeSchedule::Remove => ("remove", None),
    };
    json!({ "name": name, "change": change, "next": next })
}

pub fn fire(fire: Fire) -> Result<(Value, Blobs)> {
    let mut blobs = Blobs::default();
    let over = |over: PassedOver| json!({ "from": over.from, "to": over.to, "count": over.count });
    let value = json!({
        "schedule": fire.schedule,
        "from": fire.moves.map(|moves| moves.from),
        "to": fire.moves.and_then(|moves| moves.to),
        "missed": fire.passed_over.map(over),
        "instants": fire.instants,
        "jobs": fire.jobs.map(|jobs| lone_jobs(jobs, &mut blobs)).transpose()?,
        "starts": fire.starts,
    });
    Ok((value, blobs))
}

pub fn claim(claim: &Claim) -> Value {
    let take = |take: &Take| json!({ "job_type": take.job_type, "jobs": take.jobs, "budget": take.budget });
    json!({
        "session": claim.session.to_string(),
        "first_lease": claim.first_lease,
        "max_leases": claim.max_leases,
        "queues": claim.queues,
        "by_broker": claim.by_broker,
        "most_held": claim.most_held,
        "takes": claim.takes.iter().map(take).collect::<Vec<_>>(),
        "free_slots": claim.free_slots,
        "max_limited": claim.max_limited,
        "alone": claim.alone,
        "permits": (!claim.permits.is_empty()).then(|| permits_of(claim)),
        "lease": claim.lease,
    })
}

fn permits_of(claim: &Claim) -> Vec<Value> {
    claim.permits.iter().map(|(of, jobs)| json!([limited(of), jobs])).collect()
}

/// A limit's name, as the store keeps it.
pub fn limited(of: &Limited) -> String {
    format!("{}:{}", if of.is_type() { 't' } else { 'q' }, of.name())
}

pub fn permit(permit: &Permit) -> Value {
    let wanted = |wanted: &Wanted| {
        json!({
            "name": limited(&wanted.of),
            "at_once": wanted.limit.jobs(),
            "starts": wanted.limit.starts().map(|rate| rate.starts),
            "period": wanted.limit.starts().map(|rate| rate.period),
            "held": wanted.held,
            "unstarted": wanted.unstarted,
            "used": wanted.used,
            "more": wanted.more,
        })
    };
    json!({
        "session": permit.session.to_string(),
        "limits": permit.limits.iter().map(wanted).collect::<Vec<_>>(),
        "lease": permit.lease,
    })
}

pub fn renew(renew: &Renew) -> Value {
    json!({
        "session": renew.session.to_string(),
        "leases": renew.leases,
        "drafts": renew.drafts,
        "progress": renew.progress,
        "lease": renew.lease,
    })
}

pub fn report(report: Report) -> Result<(Value, Blobs)> {
    let mut blobs = Blobs::default();
    let parts = report.leases.into_iter().map(|part| lease_report(part, &mut blobs)).collect::<Result<Vec<Value>>>()?;
    Ok((json!({ "session": report.session.to_string(), "leases": parts, "killed": killed() }), blobs))
}

fn lease_report(part: LeaseReport, blobs: &mut Blobs) -> Result<Value> {
    let mut mask = |mask: Mask| blobs.put(mask.to_bytes());
    let masks = [part.succeeded, part.failed, part.skipped, part.begun, part.returned, part.cancelled].map(&mut mask);
    let mut waits =
        |waits: &[(Millis, Mask)]| waits.iter().map(|(wait, jobs)| json!([wait, mask(*jobs)])).collect::<Vec<_>>();
    let (retries, postponed) = (waits(&part.retries), waits(&part.postponed));
    let error = |(number, text, jobs): &(u64, String, Mask)| json!({ "number": number.to_string(), "text": text, "jobs": mask(*jobs) });
    let errors: Vec<Value> = part.errors.iter().map(error).collect();
    let [succeeded, failed, skipped, begun, returned, cancelled] = masks;
    let mut added = |AddedJobs { step, chunk, .. }: AddedJobs| -> Result<Value> {
        Ok(json!({ "step": of_growing(&step)?, "jobs": chunk.jobs, "body": blobs.put(chunk.body) }))
    };
    let added = part.added.into_iter().map(&mut added).collect::<Result<Vec<Value>>>()?;
    Ok(json!({
        "lease": part.lease,
        "number": part.number,
        "succeeded": succeeded,
        "failed": failed,
        "returned": returned,
        "cancelled": cancelled,
        "retries": retries,
        "postponed": postponed,
        "skipped": skipped,
        "begun": begun,
        "errors": errors,
        "record": blobs.put(part.record),
        "record_number": part.record_number,
        "adopted": part.adopted,
        "dropped": part.dropped,
        "added": added,
        "keep": part.keep,
    }))
}

pub fn pause(what: &Pausable, paused: bool) -> Value {
    let (kind, name) = match what {
        Pausable::Queue(name) => ("q", name),
        Pausable::Type(name) => ("t", name),
    };
    json!({ "kind": kind, "name": name, "paused": paused })
}

pub fn retry(retry: &RetryFailed) -> Value {
    let mut of = of_workflow(retry.workflow);
    of["session"] = retry.session.to_string().into();
    of["command"] = retry.command.into();
    of["step"] = retry.step.into();
    of["mended"] = retry.mended.map(draft_name).into();
    of["discard"] = retry.discard.then_some(true).into();
    of
}

pub fn run_again(run: &RunAgain) -> Value {
    let mut of = of_step(run.workflow, run.step);
    of["session"] = run.session.to_string().into();
    of["command"] = run.command.into();
    of["again"] = u8::from(run.again).into();
    of
}

pub fn resume_step(resume: &ResumeStep) -> Value {
    let mut of = of_step(resume.workflow, resume.step);
    of["session"] = resume.session.to_string().into();
    of["command"] = resume.command.into();
    of
}

pub fn list(list: &List) -> Value {
    json!({
        "state": list.state.map(|state| state as u8),
        "name": list.name,
        "created_from": list.created_from,
        "created_before": list.created_before,
        "after": list.after.map(|(time, id)| json!([time, id_text(id)])),
        "limit": page_of(list),
    })
}

/// How many workflows one look brings.
pub fn page_of(list: &List) -> usize {
    list.limit.min(WORKFLOW_PAGE) as usize
}

/// The most workflows that one look brings.
const WORKFLOW_PAGE: u32 = 250;
