//! The import under torture, as docs/testing-your-workflow.md shows it.

use std::path::{Path, PathBuf};

use gusher::prelude::*;
use gusher::testing::torture;
use import::Row;
use import::jobs::{DownloadCsv, GenReport, ImportCsvRow, ImportXml, Shared};
use import::workflow::ImportWorkflow;
use rusqlite::Connection;

/// What is outside of the workflow: a folder with a database and a report.
struct World {
    folder: PathBuf,
}

impl World {
    /// A new one in the place of the last, so that paths in outputs stay the same.
    fn new(folder: &Path) -> Self {
        let folder = folder.join("world");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn database(&self) -> PathBuf {
        self.folder.join("import.db")
    }

    /// What must be the same in the end: every airport and every territory, but neither ids nor times.
    fn look(&self) -> Vec<String> {
        let database = Connection::open(self.database()).unwrap();
        let sql = "SELECT 'airport ' || icao || ' ' || name || ' ' || elevation FROM airport \
                   UNION ALL SELECT 'territory ' || code || ' ' || population FROM territory ORDER BY 1";
        let mut rows = database.prepare(sql).unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

fn app(world: &World) -> App<Shared> {
    let database = world.database();
    App::new(move || Shared::connect(database.clone()))
        .source::<DownloadCsv>()
        .job::<ImportCsvRow>()
        .job::<ImportXml>()
        .job::<GenReport>()
}

/// The first rows of the shipped file.
fn small_import(folder: &Path) -> ImportWorkflow {
    ImportWorkflow { rows: Some(6), report: folder.join("world/report.html"), ..ImportWorkflow::default() }
}

#[test]
fn the_import_is_safe_to_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let new_world = || World::new(folder.path());

    let report = torture(new_world, app, World::look).run(small_import(folder.path())).unwrap();

    println!("{report}");
    assert!(report.is_safe(), "{report}");
    assert_eq!((report.kills, report.lost_answers), (2 * report.calls, report.calls));
}

/// As [`ImportCsvRow`], but it also counts arrivals: one more each time it runs.
#[derive(Serialize, Deserialize)]
struct CarelessRow(Row);

impl Job for CarelessRow {
    const NAME: &str = "ImportCsvRow";
    type Output = bool;
    type State = Shared;

    async fn perform(self, ctx: &Context<Shared>) -> JobResult<bool> {
        let airport = self.0.check().fatal()?;
        let icao = airport.icao.clone();
        let added = ctx.state().database.upsert(&ctx.workflow_id().to_string(), airport).await?;
        let database = Connection::open(ctx.state().database.path())?;
        database.execute_batch("CREATE TABLE IF NOT EXISTS arrival (icao TEXT PRIMARY KEY, times INTEGER)")?;
        let sql = "INSERT INTO arrival VALUES (?, 1) ON CONFLICT (icao) DO UPDATE SET times = times + 1";
        database.execute(sql, [icao])?;
        Ok(added)
    }
}

/// The program with the careless job in the place of the one that it has.
fn careless_app(world: &World) -> App<Shared> {
    let database = world.database();
    App::new(move || Shared::connect(database.clone()))
        .source::<DownloadCsv>()
        .job::<CarelessRow>()
        .job::<ImportXml>()
        .job::<GenReport>()
}

fn arrivals(world: &World) -> Vec<String> {
    let database = Connection::open(world.database()).unwrap();
    let mut rows = database.prepare("SELECT icao || ' × ' || times FROM arrival ORDER BY 1").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn an_upsert_that_counts_how_often_it_ran_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let new_world = || World::new(folder.path());

    let report = torture(new_world, careless_app, arrivals).at_most(12).run(small_import(folder.path())).unwrap();

    println!("{report}");
    let told = "ImportCsvRow #0 is not safe to repeat: with it run twice the world differs: ";
    assert!(report.to_string().starts_with(told), "{report}");
    assert!(report.unsafe_jobs.iter().all(|job| job.job_type == "ImportCsvRow"), "{report}");
    assert_eq!(report.surprises, []);
}
