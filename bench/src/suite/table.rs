//! What the suite prints: a row a budget.

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// What became of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It is not one of this store: measured to be known.
    Informative,
    /// Nothing can measure it yet.
    NotYet,
}

/// A budget and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    what: String,
    budget: String,
    measured: String,
    verdict: Verdict,
}

impl Row {
    /// A budget that was measured.
    pub fn judged(
        what: impl Into<String>,
        budget: impl Into<String>,
        measured: impl Into<String>,
        within: bool,
    ) -> Self {
        let verdict = if within { Verdict::Pass } else { Verdict::Fail };
        Self { what: what.into(), budget: budget.into(), measured: measured.into(), verdict }
    }

    /// A budget of another store, measured on this one.
    pub fn informative(what: impl Into<String>, budget: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { what: what.into(), budget: budget.into(), measured: measured.into(), verdict: Verdict::Informative }
    }

    /// A budget that nothing can measure before `needs` is there.
    pub fn not_yet(what: &str, budget: &str, needs: &str) -> Self {
        let measured = format!("not yet: needs {needs}");
        Self { what: what.into(), budget: budget.into(), measured, verdict: Verdict::NotYet }
    }

    /// Whether it does not say that a budget is broken.
    pub fn holds(&self) -> bool {
        self.verdict != Verdict::Fail
    }
}

/// Prints all of them.
pub fn print(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(150);
    table.set_header(["", "what", "budget", "measured"]);
    for row in rows {
        let verdict = match row.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Informative => "info",
            Verdict::NotYet => "–",
        };
        table.add_row([verdict, &row.what, &row.budget, &row.measured]);
    }
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
}
