//! The jobs: what is done with a file, with a row, and with all of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use gusher::Signal;
use gusher::prelude::*;
use jiff::Timestamp;

use crate::airport::{BadRow, Row};
use crate::database::{Database, DatabaseError};
use crate::fetch::FetchError;
use crate::location::Location;
use crate::report::{self, Facts, Missing};
use crate::rows::{Rows, RowsError, Take};
use crate::territories::{Territory, XmlError, read_territories};

/// How often a long job tells how far it is: every so many rows.
const PROGRESS_EVERY: u64 = 1_000;

/// What every job of the application can use.
#[derive(Clone, Debug)]
pub struct Shared {
    pub database: Arc<Database>,
}

impl Shared {
    /// Opens the database in this file.
    pub async fn connect(path: PathBuf) -> Result<Self, DatabaseError> {
        let opening = tokio::task::spawn_blocking(move || Database::open(&path));
        let database = opening.await.map_err(|_| DatabaseError::Ended(PathBuf::new()))??;
        Ok(Self { database: Arc::new(database) })
    }
}

/// Fetches the airports file and emits a job for each of its rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct DownloadCsv {
    pub from: Location,
    pub shared: Option<Location>,
    /// Only the first so many rows.
    pub rows: Option<u64>,
    /// Reads the file so many times over, with distinct keys.
    pub repeat: u32,
}

impl Source for DownloadCsv {
    const NAME: &str = "DownloadCsv";
    const BLOCKING: bool = true;
    type Emits = ImportCsvRow;
    type State = Shared;

    async fn produce(self, ctx: &Context<Shared>, rows: &mut Emitter<ImportCsvRow>) -> JobResult<()> {
        let file = fetch(ctx, &self.from, self.shared.as_ref()).await?;
        ctx.state().database.begin(&ctx.workflow_id().to_string(), ctx.attempt() == 1).await?;
        let take = Take { first: self.rows, times: self.repeat };
        let mut read = Rows::open(&file, take).or_else(rows_error)?;
        while let Some(row) = read.next() {
            rows.emit(ImportCsvRow(row.or_else(rows_error)?)).await?;
            if rows.emitted().is_multiple_of(PROGRESS_EVERY) {
                let (done, of) = read.position();
                ctx.progress(done, of);
            }
        }
        Ok(())
    }
}

/// Checks one row and puts its airport into the database. Returns whether this import added it there.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImportCsvRow(pub Row);

impl Job for ImportCsvRow {
    const NAME: &str = "ImportCsvRow";
    const QUEUE: &str = "imports";
    type Output = bool;
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<bool> {
        // A bad row never gets better: no retry. Anything else is tried again.
        let airport = self.0.check().fatal()?;
        Ok(ctx.state().database.upsert(&ctx.workflow_id().to_string(), airport).await?)
    }
}

/// Reads each territory's GDP, literacy and population.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImportXml {
    pub from: Location,
    pub shared: Option<Location>,
}

impl Job for ImportXml {
    const NAME: &str = "ImportXml";
    const QUEUE: &str = "imports";
    const BLOCKING: bool = true;
    type Output = Vec<Territory>;
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<Vec<Territory>> {
        let file = fetch(ctx, &self.from, self.shared.as_ref()).await?;
        let territories = read_territories(&file).or_else(xml_error)?;
        ctx.state().database.upsert_territories(&ctx.workflow_id().to_string(), territories.clone()).await?;
        Ok(territories)
    }
}

/// Writes the report, once all rows and territories are there.
#[derive(Debug, Serialize, Deserialize)]
pub struct GenReport {
    pub to: PathBuf,
    pub csv: Location,
    pub xml: Location,
    pub added: Outputs<bool>,
    pub territories: Outputs<Vec<Territory>>,
}

/// What the report says in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    pub report: PathBuf,
    /// Rows that were imported.
    pub rows: u64,
    /// Rows that were not.
    pub failed: u64,
    pub territories: u64,
}

impl Job for GenReport {
    const NAME: &str = "GenReport";
    const QUEUE: &str = "reports";
    type Output = Summary;
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<Summary> {
        let workflow = ctx.workflow_id().to_string();
        let count = |(rows, added), (_, new)| async move { Ok((rows + 1, added + u64::from(new))) };
        let (imported, added) = self.added.stream(ctx).try_fold((0, 0), count).await?;
        let mut missing = Missing::default();
        let mut failures = self.added.failures(ctx);
        while let Some(failure) = failures.try_next().await? {
            missing.add(|| bad_row(failure.params.get(), failure.error));
        }
        let territories = self.territories.one(ctx).await?;
        let summary = Summary {
            report: self.to.clone(),
            rows: imported,
            failed: missing.total,
            territories: territories.len() as u64,
        };
        let facts = Facts {
            figures: ctx.state().database.figures(&workflow).await?,
            workflow,
            csv: self.csv.to_string(),
            xml: self.xml.to_string(),
            finished_at: Timestamp::now(),
            imported,
            added,
            territories,
            missing,
        };
        let html = report::render(&facts)?;
        tokio::task::spawn_blocking(move || report::write(&html, &self.to)).await??;
        Ok(summary)
    }
}

/// What a person says of a report that is to be published.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    pub by: String,
}

impl Signal for Approval {
    const NAME: &str = "Approval";
}

/// Puts the report where everybody sees it, once somebody has approved it. Returns who that was.
#[derive(Debug, Serialize, Deserialize)]
pub struct Publish {
    pub report: Outputs<Summary>,
    pub approval: Outputs<Approval>,
    pub to: PathBuf,
}

impl Job for Publish {
    const NAME: &str = "Publish";
    const QUEUE: &str = "reports";
    type Output = String;
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<String> {
        let Approval { by } = self.approval.one(ctx).await?;
        let html = tokio::fs::read_to_string(self.report.one(ctx).await?.report).await?;
        tokio::task::spawn_blocking(move || report::write(&html, &self.to)).await??;
        Ok(by)
    }
}

/// Why a row is missing: what its check says, or else the error that its job ended with.
fn bad_row(row: &str, error: String) -> BadRow {
    let unknown = |line, reason| BadRow { line, field: String::new(), reason };
    match serde_json::from_str::<Row>(row) {
        Ok(row) => row.check().err().unwrap_or_else(|| unknown(row.line, error)),
        Err(_) => unknown(0, error),
    }
}

/// The file of a location, on this machine; tells how far the download is.
async fn fetch(ctx: &Context<Shared>, from: &Location, shared: Option<&Location>) -> JobResult<PathBuf> {
    let fetched = from.fetch(shared, &mut |done, of| ctx.progress(done, of)).await.or_else(fetch_error)?;
    ctx.log(&fetched);
    Ok(fetched.path)
}

// What another attempt cannot help with is fatal.

fn fetch_error<T>(error: FetchError) -> JobResult<T> {
    if error.is_permanent() { Err(error).fatal() } else { Err(error.into()) }
}

fn rows_error<T>(error: RowsError) -> JobResult<T> {
    if error.is_permanent() { Err(error).fatal() } else { Err(error.into()) }
}

fn xml_error<T>(error: XmlError) -> JobResult<T> {
    if error.is_permanent() { Err(error).fatal() } else { Err(error.into()) }
}

/// Where the shipped files are.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}
