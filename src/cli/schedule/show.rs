//! `schedule list`, `schedule show`: how schedules stand, and what they have come to.

use crate::cli::house::House;
use crate::cli::out::{Ending, Outcome};
use crate::cli::table::{FAINT, Field, STRONG, Table};
use crate::cli::time;
use crate::render::words::{count, escape, span};
use crate::schedule::{OccurrenceView, ScheduleView};
use crate::store::{OccurrenceState, Overlap};

/// List schedules
#[derive(Debug, clap::Args)]
pub struct List {}

impl List {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let schedules = house.client().await?.schedules().await?;
        if house.out.json {
            house.out.document(&schedules)?;
        } else if schedules.is_empty() {
            house.out.text("no schedules; a worker keeps those that its program declares")?;
        } else {
            house.out.text(&list(&schedules))?;
        }
        Ok(Ending::Fine)
    }
}

/// Schedules as a table.
pub fn list(schedules: &[ScheduleView]) -> String {
    let mut table = Table::new(&["NAME", "RULE", "ACTION", "OVERLAP", "NEXT"]);
    for schedule in schedules {
        let next = match &schedule.next_shown {
            _ if schedule.paused => Field::State("paused"),
            Some(next) => next.as_str().into(),
            None => "never again".into(),
        };
        table.row([
            escape(&schedule.name).into(),
            escape(&schedule.rule).into(),
            escape(schedule.error.as_deref().unwrap_or(&schedule.action)).into(),
            schedule.overlap.map_or("allow", words_of).into(),
            next,
        ]);
    }
    table.lines()
}

fn words_of(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Skip => "skip",
        Overlap::Cancel => "cancel the running one",
        Overlap::Wait => "wait",
        Overlap::WaitOne => "wait, one at most",
    }
}

/// Show a schedule and what its last instants have come to
#[derive(Debug, clap::Args)]
pub struct Show {
    /// Which schedule
    #[arg(value_name = "NAME")]
    name: String,
    /// How many instants
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
}

impl Show {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let schedule = client.schedule(self.name);
        let (status, history) = (schedule.status().await?, schedule.history(None, self.limit).await?);
        if house.out.json {
            house.out.document(&serde_json::json!({ "schedule": status, "history": history }))?;
            return Ok(Ending::Fine);
        }
        let mut text = list(std::slice::from_ref(&status));
        text.push_str(&format!("\n{STRONG}arguments{STRONG:#} {}\n", escape(&status.arguments)));
        if let Some(key) = status.key.filter(|key| !key.is_empty()) {
            text.push_str(&format!("{STRONG}key{STRONG:#} {}\n", escape(&key)));
        }
        text.push('\n');
        if history.is_empty() {
            text.push_str(&format!("{FAINT}none of its instants has come yet{FAINT:#}\n"));
        } else {
            text.push_str(&table_of(&history, client.store().now()));
        }
        house.out.text(&text)?;
        Ok(Ending::Fine)
    }
}

fn table_of(history: &[OccurrenceView], now: i64) -> String {
    let mut table = Table::new(&["AT", "STATE", "WORKFLOW", "OUTCOME", ">TOOK", "WHY"]);
    for occurrence in history {
        let took = occurrence.started_at.map(|start| span(occurrence.finished_at.unwrap_or(now) - start));
        let ran = occurrence.state == OccurrenceState::Started;
        let outcome = match (occurrence.workflow_state, occurrence.job_state) {
            (Some(state), _) if ran => Field::State(state.as_str()),
            (None, Some(state)) => Field::State(state.as_str()),
            (None, None) if ran => "deleted".into(),
            _ => "".into(),
        };
        table.row([
            time::at(occurrence.at).into(),
            occurrence.state.as_str().into(),
            occurrence.workflow.filter(|_| ran).map(|id| id.to_string()).unwrap_or_default().into(),
            outcome,
            took.filter(|_| ran).unwrap_or_default().into(),
            escape(&why(occurrence)).into(),
        ]);
    }
    table.lines()
}

/// The reason for what an instant has come to, if there is one to tell.
fn why(occurrence: &OccurrenceView) -> String {
    match (occurrence.state, occurrence.workflow, &occurrence.error) {
        (OccurrenceState::Skipped, Some(other), _) => format!("{other} had not finished"),
        (OccurrenceState::Missed, ..) if occurrence.count > 1 => {
            let instants = count(occurrence.count, "instant");
            format!("{instants} up to {}: nothing ran that could have fired them", time::at(occurrence.to))
        }
        (OccurrenceState::Missed, ..) => "nothing ran that could have fired it".to_owned(),
        (_, _, Some(error)) => error.clone(),
        _ => String::new(),
    }
}
