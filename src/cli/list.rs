//! `list`: workflows, newest first, page by page.

use super::house::House;
use super::out::{Ending, Outcome};
use super::table::{FAINT, Field, Table};
use super::{target, time};
use crate::error::did_you_mean;
use crate::render::words::{escape, number, span};
use crate::state::{BatchState, WorkflowState};
use crate::view::WorkflowView;

/// List workflows, newest first
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only those in this state
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those of this type
    #[arg(long = "type", value_name = "NAME")]
    workflow_type: Option<String>,
    /// Only those created since then: an age (2h), a date or a time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those created before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How many to a page
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only those behind this one, the last of the page before
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

impl List {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let state: Option<WorkflowState> = self.state.as_deref().map(str::parse).transpose()?;
        let client = house.client().await?;
        let now = client.store().now();
        let mut workflows = client.workflows();
        if let Some(state) = state {
            workflows = workflows.state(state);
        }
        if let Some(name) = &self.workflow_type {
            workflows = workflows.named(name);
        }
        if let Some(since) = &self.since {
            workflows = workflows.created_from(time::parse(since, now)?);
        }
        if let Some(until) = &self.until {
            workflows = workflows.created_before(time::parse(until, now)?);
        }
        if let Some(after) = &self.after {
            let last = target::find(&client, after).await?;
            workflows = workflows.behind(last.status_with(0).await?.created_at, last.id());
        }
        let mut page = workflows.page(self.limit + 1).await?;
        let more = page.len() > self.limit as usize;
        page.truncate(self.limit as usize);
        if house.out.json {
            house.out.document(&page)?;
            return Ok(Ending::Fine);
        }
        if page.is_empty() {
            let near = self.workflow_type.as_deref().filter(|name| !client.workflow_names().contains(name));
            let near = near.map(|name| did_you_mean(name, client.workflow_names())).unwrap_or_default();
            house.out.text(&format!("no workflows{}", escape(&near)))?;
            return Ok(Ending::Fine);
        }
        let mut text = lines(&page, now);
        if let Some(last) = page.last().filter(|_| more) {
            let command = self.next_page(&house.out.program, house.global.store.as_deref(), last);
            text.push_str(&format!("{FAINT}more: {command}{FAINT:#}\n"));
        }
        house.out.text(&text)?;
        Ok(Ending::Fine)
    }

    /// The command that shows what comes behind `last`.
    fn next_page(&self, program: &str, store: Option<&str>, last: &WorkflowView) -> String {
        let mut words = vec![program.to_owned(), "list".to_owned()];
        let limit = (self.limit != 20).then(|| self.limit.to_string());
        let id = last.id.to_string();
        let options = [
            ("--store", store),
            ("--state", self.state.as_deref()),
            ("--type", self.workflow_type.as_deref()),
            ("--since", self.since.as_deref()),
            ("--until", self.until.as_deref()),
            ("--limit", limit.as_deref()),
            ("--after", Some(id.as_str())),
        ];
        for (option, value) in options {
            words.extend(value.into_iter().flat_map(|value| [option.to_owned(), quoted(value)]));
        }
        words.join(" ")
    }
}

fn lines(page: &[WorkflowView], now: i64) -> String {
    let mut table = Table::new(&["ID", "NAME", "STATE", ">JOBS", ">FAILED", "CREATED", ">TOOK"]);
    for workflow in page {
        let jobs = workflow.jobs;
        let done = if jobs.settled() == jobs.total {
            number(jobs.total)
        } else {
            format!("{} of {}", number(jobs.settled()), number(jobs.total))
        };
        let took = workflow.started_at.map(|start| span(workflow.finished_at.unwrap_or(now) - start));
        table.row([
            workflow.id.to_string().into(),
            name(workflow).into(),
            Field::State(workflow.state.as_str()),
            done.into(),
            if jobs.failed > 0 { number(jobs.failed) } else { String::new() }.into(),
            time::at(workflow.created_at).into(),
            took.unwrap_or_default().into(),
        ]);
    }
    table.lines()
}

/// Its name, and what is special about it.
fn name(workflow: &WorkflowView) -> String {
    let what = match workflow.batch {
        None => "",
        Some(BatchState::Open) if !workflow.state.is_finished() => " (open batch)",
        Some(BatchState::Abandoned) => " (abandoned batch)",
        Some(_) => " (batch)",
    };
    format!("{}{what}", escape(&workflow.name))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '+' | '@' | '=' | ',');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_a_shell_would_take_apart_is_quoted() {
        let words: Vec<String> = ["sqlite:a.db", "2026-11-24 05:00", "it's", ""].into_iter().map(quoted).collect();
        assert_eq!(words, ["sqlite:a.db", "'2026-11-24 05:00'", "'it'\\''s'", "''"]);
    }
}
