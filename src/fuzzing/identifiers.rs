//! What people type to name things: workflows, steps and jobs, points in time, states.

use super::check_error;
use crate::cli::target::{Target, is_id, parse_step};
use crate::cli::time;
use crate::graph::check_name;
use crate::id::{SessionId, WorkflowId};
use crate::state::WorkflowState;

const NOW: i64 = 1_790_000_000_000;

/// Anything as an id's bytes, and as each of the texts.
pub fn identifiers(data: &[u8]) {
    match WorkflowId::from_slice(data) {
        Ok(id) => assert!(data == id.as_bytes() && id.to_string().parse::<WorkflowId>().unwrap() == id),
        Err(error) => assert!(data.len() != 16 && !error.to_string().is_empty()),
    }
    assert_eq!(SessionId::from_slice(data).is_ok(), data.len() == 12);
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<WorkflowId>() {
        Ok(id) => assert!(is_id(text) && id.to_string().parse::<WorkflowId>().unwrap() == id),
        Err(error) => check_error(&error),
    }
    match Target::parse(text) {
        Ok(target) => assert_eq!(Target::parse(&written(&target)).unwrap(), target),
        Err(error) => check_error(&error),
    }
    match parse_step(text) {
        Ok((step, Some(index))) => assert_eq!(parse_step(&format!("{step}#{index}")).unwrap(), (step, Some(index))),
        Ok((step, None)) => assert_eq!(step, text),
        Err(error) => check_error(&error),
    }
    if check_name("step", text).is_ok() {
        // A name that a step may have can be written before `#INDEX` and behind `ID/`.
        let target = Target { workflow: "latest".to_owned(), step: Some(text.to_owned()), index: Some(u64::MAX) };
        assert_eq!(Target::parse(&written(&target)).unwrap(), target);
    }
    match time::parse(text, NOW) {
        Ok(time) => drop(time::at(time)),
        Err(error) => check_error(&error),
    }
    match text.parse::<WorkflowState>() {
        Ok(state) => assert_eq!(state.as_str(), text),
        Err(error) => check_error(&error),
    }
    crate::error::did_you_mean(text, ["ImportWorkflow", "GenReport", ""]);
}

fn written(target: &Target) -> String {
    let step = target.step.as_ref().map(|step| format!("/{step}")).unwrap_or_default();
    let index = target.index.map(|index| format!("#{index}")).unwrap_or_default();
    format!("{}{step}{index}", target.workflow)
}
