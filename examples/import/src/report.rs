//! The report: one HTML page that needs nothing beside it.
//!
//! [`render`] is a function of its [`Facts`]; the page's words and looks are in `templates/`, whose engine escapes
//! everything that comes from the data.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use askama::Template;
use jiff::Timestamp;

use crate::{airport::BadRow, database::Figures, number::thousands, territories::Territory};
use chart::{Bar, Histogram, MapLayer};
use country::Country;

mod chart;
mod country;

/// What the report tells.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The id of the workflow that imported.
    pub workflow: String,
    /// Where the airports came from.
    pub csv: String,
    /// Where the territories came from.
    pub xml: String,
    pub finished_at: Timestamp,
    /// How many row jobs succeeded.
    pub imported: u64,
    /// How many of them brought an airport that the database did not have.
    pub added: u64,
    pub figures: Figures,
    pub territories: Vec<Territory>,
    pub missing: Missing,
}

/// The rows that were not imported, because so many were tolerated.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    pub total: u64,
    /// The first of them.
    pub shown: Vec<BadRow>,
}

impl Missing {
    /// More would make the page slow and nobody wiser.
    pub const MOST_SHOWN: usize = 1_000;

    /// Counts a row, and keeps it if there is room.
    pub fn add(&mut self, row: impl FnOnce() -> BadRow) {
        self.total += 1;
        if self.shown.len() < Self::MOST_SHOWN {
            self.shown.push(row());
        }
    }

    fn not_shown(&self) -> u64 {
        self.total - self.shown.len() as u64
    }
}

/// The page as HTML.
///
/// # Errors
///
/// If the template engine fails, which it has no reason to.
pub fn render(facts: &Facts) -> Result<String, askama::Error> {
    let countries = country::countries(&facts.territories, &facts.figures.by_country);
    let figures = &facts.figures;
    Page {
        facts,
        airports: figures.airports,
        duration: figures.started_at.and_then(|started_at| duration(started_at, facts.finished_at)),
        finished_at: facts.finished_at.strftime("%-d %B %Y, %H:%M UTC").to_string(),
        most_airports: chart::most_airports(&countries),
        most_per_million: chart::most_per_million(&countries),
        histogram: Histogram::of(&figures.elevations),
        map: chart::map(&figures.map),
        countries,
    }
    .render()
}

/// Writes the page to a file that appears when it is whole, in the place of an older one.
///
/// # Errors
///
/// If the file or its folder cannot be written.
pub fn write(html: &str, to: &Path) -> Result<(), WriteError> {
    let cannot = |source| WriteError { path: to.to_owned(), source };
    let folder = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(cannot)?;
    let mut file = new_file(folder).map_err(cannot)?;
    file.write_all(html.as_bytes()).map_err(cannot)?;
    file.as_file().sync_all().map_err(cannot)?;
    file.persist(to).map_err(|error| cannot(error.error))?;
    Ok(())
}

/// A file beside the report, which goes away by itself if it does not become the report.
fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".report-").suffix(".html");
    // A temporary file is for its owner alone; a report is for whoever may read new files here.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write the report {}", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    facts: &'a Facts,
    airports: u64,
    duration: Option<String>,
    finished_at: String,
    /// By airports, most first; then the territories without any.
    countries: Vec<Country>,
    most_airports: Vec<Bar>,
    most_per_million: Vec<Bar>,
    histogram: Option<Histogram>,
    map: Vec<MapLayer>,
}

impl Page<'_> {
    fn countries_with_airports(&self) -> u64 {
        self.facts.figures.by_country.len() as u64
    }

    /// The rows whose airports the database does not count for this import: it has them from another one that ran
    /// at the same time, or the file names an airport twice.
    fn not_counted(&self) -> u64 {
        self.facts.imported.saturating_sub(self.airports)
    }
}

/// How the template writes numbers: `{{ airports|thousands }}`.
mod filters {
    use std::borrow::Borrow;

    use askama::{Result, Values};

    use crate::number;

    #[askama::filter_fn]
    pub fn thousands(number: impl Borrow<u64>, _: &dyn Values) -> Result<String> {
        Ok(number::thousands(*number.borrow()))
    }

    #[askama::filter_fn]
    pub fn count(number: impl Borrow<usize>, _: &dyn Values) -> Result<String> {
        Ok(number::thousands(*number.borrow() as u64))
    }

    #[askama::filter_fn]
    pub fn feet(number: &f64, _: &dyn Values) -> Result<String> {
        // With spaces at which no line is broken.
        let meters = number::rounded(number * 0.3048, 0);
        Ok(format!("{}\u{a0}feet ({meters}\u{a0}m)", number::rounded(*number, 0)))
    }
}

fn duration(started_at: i64, finished_at: Timestamp) -> Option<String> {
    let took = finished_at.as_millisecond().checked_sub(started_at)?;
    let took = Duration::from_millis(u64::try_from(took).ok()?);
    let seconds = took.as_secs();
    Some(match seconds {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", thousands(seconds / 3_600), seconds % 3_600 / 60),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_two_figures_at_most() {
        let shown = |ms: i64| duration(1_000, Timestamp::from_millisecond(1_000 + ms).unwrap());
        assert_eq!(shown(4_321).unwrap(), "4.3 s");
        assert_eq!(shown(125_000).unwrap(), "2 min 5 s");
        assert_eq!(shown(7_380_000).unwrap(), "2 h 3 min");
        assert_eq!(shown(-1), None, "a clock that was set back tells nothing");
    }
}
