//! The import in virtual time, as docs/testing-your-workflow.md shows it.

use std::time::Duration;

use gusher::prelude::*;
use gusher::testing::Simulation;
use gusher::{JobState, WorkflowState};
use import::Location;
use import::jobs::{Approval, DownloadCsv, GenReport, ImportCsvRow, ImportXml, Publish, Shared};
use import::workflow::ImportWorkflow;

/// What the program registers, with a database in this folder.
fn app(folder: &std::path::Path) -> App<Shared> {
    let database = folder.join("import.db");
    App::new(move || Shared::connect(database.clone()))
        .source::<DownloadCsv>()
        .job::<ImportCsvRow>()
        .job::<ImportXml>()
        .job::<GenReport>()
        .job::<Publish>()
        .signal::<Approval>()
}

#[test]
fn one_report_after_every_row() {
    let folder = tempfile::tempdir().unwrap();
    let import = ImportWorkflow { rows: Some(50), report: folder.path().join("report.html"), ..Default::default() };

    let run = Simulation::new(app(folder.path())).seed(7).run(import).unwrap();

    assert_eq!(run.state(), WorkflowState::Succeeded);
    assert_eq!((run.ran("ImportCsvRow"), run.ran("GenReport")), (50, 1));
    assert_eq!(run.order().last(), Some(&("GenReport", 0)));
    assert_eq!(run.output::<GenReport>("GenReport", 0).unwrap().rows, 50);
}

#[test]
fn a_download_that_fails_is_tried_for_minutes_and_leads_to_no_report() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let csv: Location = "http://127.0.0.1:9/airports.csv".parse().unwrap();
    let (report, shared) = (folder.path().join("report.html"), Some(Location::Path(folder.path().join("files"))));
    let import = ImportWorkflow { csv, report, shared, ..Default::default() };

    let run = Simulation::new(app(folder.path())).run(import).unwrap();

    assert_eq!(run.state(), WorkflowState::Failed);
    assert_eq!(run.job_state("DownloadCsv", 0).unwrap(), JobState::Failed);
    assert_eq!((run.ran("DownloadCsv"), run.ran("GenReport")), (5, 0));
    assert!(run.elapsed().as_secs() > 60, "five attempts, 1, 4, 16 and 64 seconds apart");
}

#[test]
fn a_report_is_published_when_somebody_has_approved_it() {
    let folder = tempfile::tempdir().unwrap();
    let (report, site) = (folder.path().join("report.html"), folder.path().join("site.html"));
    let import =
        ImportWorkflow { rows: Some(50), report: report.clone(), publish: Some(site.clone()), ..Default::default() };
    let (nine, there) = (Duration::from_secs(9 * 3600), (report.clone(), site.clone()));

    let run = Simulation::new(app(folder.path())).at(nine, async move |workflow| {
        assert!(there.0.exists() && !there.1.exists(), "it can be read, and is not published");
        workflow.signal("approval", &Approval { by: "Ada".into() }).await.map(drop)
    });
    let run = run.run(import).unwrap();

    assert_eq!((run.state(), run.ran("Publish")), (WorkflowState::Succeeded, 1));
    assert!(run.elapsed() >= nine, "it waited for her");
    assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "Ada");
    assert_eq!(std::fs::read(report).unwrap(), std::fs::read(site).unwrap());
}
