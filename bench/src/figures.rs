//! What a benchmark says in the end: the figures, for machines and for people.

use serde::Serialize;

use crate::floor::FloorMeasured;
use crate::one_run::RunMeasured;
use crate::rows::RowKind;

/// The rows of the smaller run that the cost of a job is compared with.
pub const SMALLER: u64 = 100_000;

/// The figures of a benchmark; each is the median over its runs. `None` is what a store or a system does not tell.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// How many rows were imported.
    pub rows: u64,
    /// Which ones: `E` or `A`.
    pub row: &'static str,
    /// Seconds until the workflow had been created.
    pub create_s: f64,
    /// Seconds from the worker's start to the workflow's end.
    pub run_s: f64,
    /// Seconds of both.
    pub total_s: f64,
    /// Rows by `total_s`.
    pub jobs_per_s: f64,
    /// Bytes a row in the store after the creation.
    pub store_bytes_per_job_created: Option<f64>,
    /// Bytes a row in the store after the run.
    pub store_bytes_per_job_done: Option<f64>,
    /// Operations of the store a row.
    pub commands_per_job_sent: Option<f64>,
    /// Statements inside of them a row.
    pub commands_per_job_inner: Option<f64>,
    /// Transactions committed.
    pub commits: Option<u64>,
    /// The most memory that the process had, in millions of bytes.
    pub peak_rss_mb: Option<f64>,
    /// Seconds a row, by those of a run of 100,000 rows.
    pub cost_vs_100k: Option<f64>,
    /// `total_s`, by that of the floor.
    pub vs_floor: Option<f64>,
    /// Where a broker brings the slices.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub by_broker: Option<ByBroker>,
}

/// What a broker adds.
#[derive(Clone, Debug, Serialize)]
pub struct ByBroker {
    /// How many messages it carried.
    pub messages: u64,
    /// `total_s`, by that of runs without it.
    pub vs_without_broker: f64,
}

impl Figures {
    /// From all runs of a benchmark, the smaller runs beside them, and the floor's.
    pub fn new(
        rows: u64,
        row: RowKind,
        runs: &[RunMeasured],
        smaller: &[RunMeasured],
        floor: &[FloorMeasured],
    ) -> Self {
        let of = |figure: &dyn Fn(&RunMeasured) -> f64| median(runs.iter().map(figure));
        let a_row = |figure: &dyn Fn(&RunMeasured) -> u64| Some(round(of(&|run| figure(run) as f64) / rows as f64, 4));
        let total_s = of(&RunMeasured::total_s);
        let memory: Vec<f64> = runs.iter().filter_map(|run| run.peak_memory).map(|bytes| bytes as f64).collect();
        let floor_s = median(floor.iter().map(FloorMeasured::total_s));
        Self {
            rows,
            row: row.letter(),
            create_s: round(of(&|run| run.create_s), 3),
            run_s: round(of(&|run| run.run_s), 3),
            total_s: round(total_s, 3),
            jobs_per_s: (rows as f64 / total_s).round(),
            store_bytes_per_job_created: a_row(&|run| run.bytes_created),
            store_bytes_per_job_done: a_row(&|run| run.bytes_done),
            commands_per_job_sent: a_row(&|run| run.totals.operations),
            commands_per_job_inner: a_row(&|run| run.totals.statements),
            commits: Some(of(&|run| run.totals.commits as f64) as u64).filter(|commits| *commits > 0),
            peak_rss_mb: (!memory.is_empty()).then(|| round(median(memory) / 1e6, 1)),
            cost_vs_100k: Some(round(cost_against(rows, total_s, smaller), 2)),
            vs_floor: Some(round(total_s / floor_s, 2)),
            by_broker: None,
        }
    }

    /// With what the broker added, of which `runs` are those by it and `without` those without.
    pub fn by_broker(self, runs: &[RunMeasured], without: &[RunMeasured]) -> Self {
        let messages = median(runs.iter().map(|run| run.messages as f64)) as u64;
        let vs_without_broker = round(self.total_s / median(without.iter().map(RunMeasured::total_s)), 2);
        Self { by_broker: Some(ByBroker { messages, vs_without_broker }), ..self }
    }

    /// For people: name, figure, and what it says.
    pub fn lines(&self) -> Vec<[String; 2]> {
        let or_none =
            |figure: Option<f64>, unit: &str| figure.map_or("–".to_owned(), |figure| format!("{figure}{unit}"));
        let mut lines = vec![
            ["create".into(), format!("{:.3} s", self.create_s)],
            ["run".into(), format!("{:.3} s", self.run_s)],
            ["total".into(), format!("{:.3} s, {} jobs/s", self.total_s, thousands(self.jobs_per_s as u64))],
            ["in the store after create".into(), or_none(self.store_bytes_per_job_created, " bytes a job")],
            ["in the store after run".into(), or_none(self.store_bytes_per_job_done, " bytes a job")],
            ["operations sent".into(), or_none(self.commands_per_job_sent, " a job")],
            ["statements inside".into(), or_none(self.commands_per_job_inner, " a job")],
            ["commits".into(), self.commits.map_or("–".to_owned(), thousands)],
            ["peak memory".into(), or_none(self.peak_rss_mb, " MB")],
            [format!("cost a job against {} rows", thousands(SMALLER)), or_none(self.cost_vs_100k, " ×")],
            ["total against the floor".into(), or_none(self.vs_floor, " ×")],
        ];
        if let Some(ByBroker { messages, vs_without_broker }) = self.by_broker {
            lines.push(["messages".into(), thousands(messages)]);
            lines.push(["against runs without the broker".into(), format!("{vs_without_broker} ×")]);
        }
        lines
    }
}

/// Seconds a row, by those of the smaller runs.
pub fn cost_against(rows: u64, total_s: f64, smaller: &[RunMeasured]) -> f64 {
    (total_s / rows as f64) / (median(smaller.iter().map(RunMeasured::total_s)) / SMALLER as f64)
}

/// The figure in the middle; of an even number the upper one of the two. NaN of nothing.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// With so many digits behind the point.
pub fn round(figure: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (figure * scale).round() / scale
}

/// A number as people write it: `1,000,000`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{Totals, Worst};

    fn measured(create_s: f64, run_s: f64) -> RunMeasured {
        RunMeasured {
            create_s,
            run_s,
            bytes_created: 4_000,
            bytes_done: 5_000,
            totals: Totals { operations: 10, statements: 50, commits: 7 },
            worst: Worst::default(),
            peak_memory: None,
            messages: 0,
        }
    }

    #[test]
    fn the_object_has_exactly_the_promised_keys() {
        let floor = FloorMeasured { in_s: 0.25, out_s: 0.25 };
        let figures = Figures::new(100, RowKind::E, &[measured(0.5, 1.0)], &[measured(100.0, 50.0)], &[floor]);
        let json = serde_json::to_string(&figures).unwrap();
        assert_eq!(
            json,
            r#"{"rows":100,"row":"E","create_s":0.5,"run_s":1.0,"total_s":1.5,"jobs_per_s":67.0,"store_bytes_per_job_created":40.0,"store_bytes_per_job_done":50.0,"commands_per_job_sent":0.1,"commands_per_job_inner":0.5,"commits":7,"peak_rss_mb":null,"cost_vs_100k":10.0,"vs_floor":3.0}"#
        );
    }

    #[test]
    fn of_a_broker_messages_are_told_and_the_time_without_it() {
        let by = RunMeasured { messages: 1_250, ..measured(1.0, 2.0) };
        let floor = FloorMeasured { in_s: 1.0, out_s: 1.0 };
        let figures = Figures::new(100, RowKind::E, std::slice::from_ref(&by), &[measured(1.0, 1.0)], &[floor]);
        let figures = figures.by_broker(&[by], &[measured(0.5, 1.5)]);
        let json = serde_json::to_string(&figures).unwrap();
        assert!(json.ends_with(r#""vs_floor":1.5,"messages":1250,"vs_without_broker":1.5}"#), "{json}");
        assert!(figures.lines().contains(&["messages".into(), "1,250".into()]));
    }

    #[test]
    fn the_median_is_the_run_in_the_middle() {
        let runs = [measured(1.0, 9.0), measured(3.0, 1.0), measured(2.0, 2.0)];
        let figures = Figures::new(10, RowKind::A, &runs, &runs, &[FloorMeasured { in_s: 1.0, out_s: 1.0 }]);
        assert_eq!((figures.create_s, figures.run_s, figures.total_s), (2.0, 2.0, 4.0));
    }

    #[test]
    fn numbers_have_a_comma_every_three_digits() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
