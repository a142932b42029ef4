//! What a command is about: `ID`, `latest`, `latest:NAME`, with `/STEP` and `#INDEX` behind it where a step or a job is asked for.

use crate::client::Client;
use crate::error::{Error, Result, did_you_mean};
use crate::handle::Handle;
use crate::store::List;

/// A workflow, perhaps with a step and a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How the workflow was named.
    pub workflow: String,
    pub step: Option<String>,
    pub index: Option<u64>,
}

impl Target {
    /// From `ID[/STEP[#INDEX]]`.
    pub fn parse(text: &str) -> Result<Self> {
        let (workflow, rest) = match text.split_once('/') {
            Some((workflow, rest)) => (workflow, Some(rest)),
            None => (text, None),
        };
        if rest.is_none() && workflow.contains('#') {
            return Err(Error::usage(format!("`{text}` names no step; a job is ID/STEP#INDEX")));
        }
        let (step, index) = rest.map(parse_step).transpose()?.unzip();
        Ok(Self { workflow: workflow.to_owned(), step, index: index.flatten() })
    }
}

/// From `STEP[#INDEX]`.
pub fn parse_step(text: &str) -> Result<(String, Option<u64>)> {
    let Some((step, index)) = text.split_once('#') else { return Ok((text.to_owned(), None)) };
    let index = index.replace(',', "");
    match index.parse() {
        Ok(index) => Ok((step.to_owned(), Some(index))),
        Err(_) => {
            Err(Error::usage(format!("`#{index}` is no number of a job; a job is STEP#INDEX, for example {step}#0")))
        }
    }
}

/// The workflow that was named.
pub async fn find(client: &Client, named: &str) -> Result<Handle> {
    let name = match named.split_once(':') {
        Some(("latest", name)) => Some(name.to_owned()),
        None if named == "latest" => None,
        _ => return client.find(parse_id(client, named)?).await,
    };
    let list = List { name: name.clone(), limit: 1, ..List::default() };
    match (client.store().workflows(list).await?.first(), name) {
        (Some(row), _) => client.find(row.id).await,
        (None, None) => Err(Error::not_found("there is no workflow in this store yet")),
        (None, Some(name)) => {
            let near = did_you_mean(&name, client.workflow_names());
            Err(Error::not_found(format!("there is no workflow `{name}` in this store{near}")))
        }
    }
}

/// Whether a text names a workflow of the store, and not a type of workflow.
pub fn is_id(text: &str) -> bool {
    text == "latest" || text.starts_with("latest:") || text.parse::<crate::WorkflowId>().is_ok()
}

fn parse_id(client: &Client, text: &str) -> Result<crate::WorkflowId> {
    text.parse().map_err(|error: Error| {
        let names = client.workflow_names();
        match names.iter().find(|name| name.eq_ignore_ascii_case(text)) {
            Some(name) => Error::usage(format!("`{text}` is not a workflow id; did you mean `latest:{name}`?")),
            None => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_workflow_a_step_or_a_job() {
        let target = |workflow: &str, step: Option<&str>, index| Target {
            workflow: workflow.into(),
            step: step.map(Into::into),
            index,
        };
        assert_eq!(Target::parse("latest").unwrap(), target("latest", None, None));
        assert_eq!(
            Target::parse("latest:Import/Gen report").unwrap(),
            target("latest:Import", Some("Gen report"), None)
        );
        assert_eq!(Target::parse("latest/Row#28,297").unwrap(), target("latest", Some("Row"), Some(28_297)));
    }

    #[test]
    fn a_job_without_a_step_or_number_is_refused() {
        assert!(Target::parse("latest#3").unwrap_err().to_string().contains("names no step"));
        assert!(Target::parse("latest/Row#last").unwrap_err().to_string().contains("`#last` is no number of a job"));
    }
}
