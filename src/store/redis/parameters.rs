//! What the scripts are given, as JSON and blobs.

use serde_json::{Value, json};

use super::answers::split_chunk;
use super::script::Blobs;
use crate::clock::millis;
use crate::error::{Error, Result};
use crate::graph::StepNumber;
use crate::id::WorkflowId;
use crate::record::{KILLED, error_number};
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

/// What is noted of a job that killed its worker too often.
pub fn killed() -> Value {
    json!({ "number": error_number(KILLED).to_string(), "text": KILLED })
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

fn new_workflow(new: &NewWorkflow) -> Value {
    json!({ "id": id_text(new.id), "name": new.name, "arguments": new.arguments, "generation": new.generation })
}

fn parts(parts: Vec<Part>, blobs: &mut Blobs) -> Result<Vec<Value>> {
    let part = |part| -> Result<Value> {
        Ok(match part {
            Part::Step { spec, upstreams, always } => {
                let (jobs, fraction) = match spec.tolerate {
                    Tolerate::None => (None, None),
                    Tolerate::Jobs(jobs) => (Some(jobs), None),
                    Tolerate::Fraction(fraction) => (None, Some(fraction)),
                };
                json!({
                    "t": "step",
                    "name": spec.name,
                    "spec": to_json(&spec)?,
                    "options": to_json(&StepOptions { retry: spec.retry, timeout: spec.timeout })?,
                    "type": spec.job_type,
                    "queue": spec.queue,
                    "priority": spec.priority,
                    "feeds": spec.feeds,
                    "always": always,
                    "upstreams": upstreams,
                    "tolerate_jobs": jobs,
                    "tolerate_fraction": fraction,
                    "limit": spec.max_in_flight,
                    "max_recoveries": spec.max_recoveries,
                    "delay": millis(spec.delay),
                })
            }
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
    parts.into_iter().map(part).collect()
}

pub fn append(append: Append) -> Result<(Value, Blobs)> {
    let mut blobs = Blobs::default();
    let mut shown = None;
    let of = match &append.of {
        DraftOf::Workflow(new) => json!({ "new": new_workflow(new) }),
        DraftOf::Jobs { workflow, step } | DraftOf::Mended { workflow, step } => {
            shown = Some(workflow.to_string());
            json!({ "workflow": id_text(*workflow), "step": step })
        }
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

pub fn create(create: Create) -> Result<(Value, Blobs)> {
    let mut blobs = Blobs::default();
    let value = json!({
        "workflow": new_workflow(&create.workflow),
        "draft": create.draft.map(draft_name),
        "again": create.again,
        "parts": parts(create.parts, &mut blobs)?,
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
        "suspects_of": claim.suspects_of,
        "most_held": claim.most_held,
        "takes": claim.takes.iter().map(take).collect::<Vec<_>>(),
        "free_slots": claim.free_slots,
        "alone": claim.alone,
        "lease": claim.lease,
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

pub fn report(report: Report) -> (Value, Blobs) {
    let mut blobs = Blobs::default();
    let parts: Vec<Value> = report.leases.into_iter().map(|part| lease_report(part, &mut blobs)).collect();
    (json!({ "session": report.session.to_string(), "leases": parts, "killed": killed() }), blobs)
}

fn lease_report(part: LeaseReport, blobs: &mut Blobs) -> Value {
    let mut mask = |mask: Mask| blobs.put(mask.to_bytes());
    let masks = [part.succeeded, part.failed, part.returned, part.cancelled].map(&mut mask);
    let retries: Vec<Value> = part.retries.iter().map(|(wait, jobs)| json!([wait, mask(*jobs)])).collect();
    let error = |(number, text, jobs): &(u64, String, Mask)| json!({ "number": number.to_string(), "text": text, "jobs": mask(*jobs) });
    let errors: Vec<Value> = part.errors.iter().map(error).collect();
    let [succeeded, failed, returned, cancelled] = masks;
    json!({
        "lease": part.lease,
        "number": part.number,
        "succeeded": succeeded,
        "failed": failed,
        "returned": returned,
        "cancelled": cancelled,
        "retries": retries,
        "errors": errors,
        "record": blobs.put(part.record),
        "record_number": part.record_number,
        "adopted": part.adopted,
        "dropped": part.dropped,
    })
}

pub fn retry(retry: &RetryFailed) -> Value {
    let mut of = of_workflow(retry.workflow);
    of["session"] = retry.session.to_string().into();
    of["command"] = retry.command.into();
    of["step"] = retry.step.into();
    of["mended"] = retry.mended.map(draft_name).into();
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
