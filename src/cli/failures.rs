//! `failures ID STEP`: the failed jobs of a step, to look at, or to mend and feed again.

use std::io::{self, Write};

use futures::TryStreamExt;
use futures::stream::BoxStream;

use super::cells::{Columns, ERROR, INDEX, Tree};
use super::house::House;
use super::out::{Ending, Outcome, is_terminal, json_line};
use super::table::{FAINT, Table};
use super::target;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::outputs::Failure;
use crate::render::words::{escape, number, shorten};
use crate::state::JobState;

/// How many of them people see.
const SHOWN: usize = 50;
/// The most characters of an error, and of parameters, in the table.
const ERROR_SHOWN: usize = 100;
const PARAMS_SHOWN: usize = 80;

/// List the failed jobs of a step with their errors and parameters
///
/// `--csv` writes a column a parameter. Mend cells of that file, leave out the rows that are to stay failed, and give it to
/// `retry ID STEP --params FILE`.
#[derive(Debug, clap::Args)]
pub struct Failures {
    /// Which workflow
    #[arg(value_name = "ID")]
    id: String,
    /// Which step
    #[arg(value_name = "STEP")]
    step: String,
    /// Write CSV: index, error, and a column a parameter
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// The failed jobs of a step, in order.
pub async fn failed(handle: &Handle, step: &str) -> Result<BoxStream<'static, Result<Failure>>> {
    let all = handle.failures(step).await?;
    Ok(Box::pin(all.try_filter(|failure| futures::future::ready(failure.state == JobState::Failed))))
}

impl Failures {
    pub async fn run<S: Send + Sync + 'static>(self, house: &House<S>) -> Outcome {
        let client = house.client().await?;
        let handle = target::find(&client, &self.id).await?;
        if house.out.json {
            self.write_json(&handle).await?;
        } else if self.csv {
            self.write_csv(&handle).await?;
        } else {
            self.write_table(house, &handle).await?;
        }
        Ok(Ending::Fine)
    }

    /// An array with one failure a line, however many there are.
    async fn write_json(&self, handle: &Handle) -> Outcome<()> {
        let mut failures = failed(handle, &self.step).await?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut before = "[";
        while let Some(failure) = failures.try_next().await? {
            write!(out, "{before}{}", json_line(&failure)?)?;
            before = ",\n";
        }
        out.write_all(if before == "[" { b"[]\n" } else { b"]\n" })?;
        Ok(out.flush()?)
    }

    /// Reads them twice: what columns there are is known once the last has been read, and they may be too many to keep.
    async fn write_csv(&self, handle: &Handle) -> Outcome<()> {
        let mut columns = Columns::default();
        let mut failures = failed(handle, &self.step).await?;
        while let Some(failure) = failures.try_next().await? {
            columns.add(&Tree::parse(&failure.params));
        }
        let mut out = csv::Writer::from_writer(io::BufWriter::new(io::stdout().lock()));
        let raw = !is_terminal();
        let shown = |text: String| if raw { text } else { escape(&text).into_owned() };
        let head = [INDEX, ERROR].into_iter().chain(columns.names.iter().map(String::as_str));
        out.write_record(head.map(|name| shown(name.to_owned()))).map_err(csv_error)?;
        let mut failures = failed(handle, &self.step).await?;
        while let Some(failure) = failures.try_next().await? {
            let mut cells: std::collections::HashMap<String, String> =
                Tree::parse(&failure.params).cells().into_iter().collect();
            let params = columns.names.iter().map(|name| cells.remove(name).unwrap_or_default());
            let record: Vec<String> =
                [failure.index.to_string(), failure.error].into_iter().chain(params).map(shown).collect();
            out.write_record(&record).map_err(csv_error)?;
            if !cells.is_empty() {
                return Err(Error::refused(format!(
                    "job #{} was changed while its step was being read; ask again",
                    failure.index
                ))
                .into());
            }
        }
        Ok(out.flush()?)
    }

    async fn write_table<S>(&self, house: &House<S>, handle: &Handle) -> Outcome<()> {
        let all = handle.step(&self.step).await?.jobs.failed;
        let mut table = Table::new(&[">INDEX", "ERROR", "PARAMETERS"]);
        let mut failures = failed(handle, &self.step).await?;
        let mut shown = 0;
        while shown < SHOWN {
            let Some(failure) = failures.try_next().await? else { break };
            shown += 1;
            table.row([
                number(failure.index).into(),
                shorten(&failure.error, ERROR_SHOWN).into(),
                shorten(failure.params.get(), PARAMS_SHOWN).into(),
            ]);
        }
        if shown == 0 {
            return house.out.text(&format!("no job of `{}` has failed", escape(&self.step)));
        }
        let mut text = table.lines();
        if all > shown as u64 {
            text.push_str(&format!(
                "{FAINT}… {} more; --csv and --json write all{FAINT:#}\n",
                number(all - shown as u64)
            ));
        }
        house.out.text(&text)
    }
}

/// Writing to a pipe that nobody reads must be recognised through CSV, too.
fn csv_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("writing CSV: {other:?}")),
    }
}
