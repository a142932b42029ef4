//! docs/sub-workflows.md

use gusher::Returning;

use super::*;

#[derive(Serialize, Deserialize)]
struct ImportRow { line: String }

impl Job for ImportRow {
    const NAME: &str = "ImportRow";
    type Output = String;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<String> {
        Ok(self.line)
    }
}

/// A name and a number: so many lines; any other name is missing.
#[derive(Serialize, Deserialize)]
struct ReadFile { name: String }

impl Source for ReadFile {
    const NAME: &str = "ReadFile";
    const RETRY: Retry = Retry::never();
    type Emits = ImportRow;
    type State = ();
    async fn produce(self, _: &Context, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
        for line in 0..self.name.parse::<u32>()? {
            rows.emit(ImportRow { line: line.to_string() }).await?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Summary { rows: Outputs<String> }

impl Job for Summary {
    const NAME: &str = "Summary";
    type Output = u64;
    type State = ();
    async fn perform(self, ctx: &Context) -> JobResult<u64> {
        self.rows.stream(ctx).try_fold(0, async |rows, _| Ok(rows + 1)).await
    }
}

#[derive(Serialize, Deserialize)]
struct Report { rows: Outputs<u64> }

impl Job for Report {
    const NAME: &str = "Report";
    type Output = Vec<(u64, u64)>;
    type State = ();
    async fn perform(self, ctx: &Context) -> JobResult<Self::Output> {
        self.rows.stream(ctx).try_collect().await
    }
}

#[derive(Serialize, Deserialize)]
struct ImportFile { file: String }

#[derive(Serialize, Deserialize)]
struct Nightly { files: Vec<String> }

impl Workflow for ImportFile {
    const NAME: &str = "ImportFile";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadFile { name: self.file.clone() });
        let summary = flow.run(Summary { rows: rows.outputs() });
        flow.returns::<Self, _>(summary);
        Ok(())
    }
}

impl Returning for ImportFile {
    type Output = u64;
}

impl Workflow for Nightly {
    const NAME: &str = "Nightly";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let files = self.files.clone().into_iter().map(|file| ImportFile { file });
        let imported = flow.run_each_workflow(files).tolerate(1);
        flow.run(Report { rows: imported.outputs() });    // reading implies the edge
        Ok(())
    }
}

/// The other lines of the table.
#[derive(Serialize, Deserialize)]
struct Rest;

impl Workflow for Rest {
    const NAME: &str = "Rest";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run_workflow(ImportFile { file: "3".into() }).max_in_flight(5).fail_fast();
        Ok(())
    }
}

fn app() -> App {
    let app = App::stateless().workflow::<ImportFile>().workflow::<Nightly>().workflow::<Rest>();
    app.source::<ReadFile>().job::<ImportRow>().job::<Summary>().job::<Report>()
}

fn nightly(files: &[&str]) -> Nightly {
    Nightly { files: files.iter().map(|file| (*file).to_owned()).collect() }
}

#[test]
fn a_report_reads_what_the_workflow_of_each_file_returns() {
    is_drawn_in("docs/sub-workflows.md", &nightly(&[]));
    let run = Simulation::new(app()).run(nightly(&["2", "3"])).unwrap();
    assert_eq!(run.output::<Report>("Report", 0).unwrap(), [(0, 2), (1, 3)]);
    let run = Simulation::new(app()).run(nightly(&["2", "missing", "1"])).unwrap();
    assert_eq!(run.output::<Report>("Report", 0).unwrap(), [(0, 2), (2, 1)], "one may fail");
    let run = Simulation::new(app()).run(nightly(&["missing", "missing too"])).unwrap();
    assert_eq!((run.state(), run.ran("Report")), (WorkflowState::Failed, 0));
    assert_eq!(Simulation::new(app()).run(Rest).unwrap().state(), WorkflowState::Succeeded);
}
