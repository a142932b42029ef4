//! docs/sources.md

use super::*;

#[derive(Serialize, Deserialize)]
struct ImportRow {
    line: String,
}
impl Job for ImportRow {
    const NAME: &str = "ImportRow";
    type Output = String;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<String> {
        Ok(self.line)
    }
}

/// A file "a 3" has three lines; one without a number cannot be read.
fn read_lines(file: &str) -> JobResult<impl Iterator<Item = std::io::Result<String>>> {
    let (name, lines) = file.split_once(' ').ok_or_else(|| JobError::fatal("no such file"))?;
    let (name, lines) = (name.to_owned(), lines.parse::<u64>()?);
    Ok((0..lines).map(move |line| Ok(format!("{name} {line}"))))
}

#[derive(Serialize, Deserialize)]
struct Import {
    files: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Report {
    imported: Outputs<String>,
}
impl Job for Report {
    const NAME: &str = "Report";
    type Output = Vec<String>;
    type State = ();
    async fn perform(self, ctx: &Context) -> JobResult<Vec<String>> {
        self.imported.stream(ctx).map_ok(|(_, line)| line).try_collect().await
    }
}

#[derive(Serialize, Deserialize)]
struct ReadFile {
    name: String,
}

impl Source for ReadFile {
    const NAME: &str = "ReadFile";
    type Emits = ImportRow;
    type State = ();
    async fn produce(self, _: &Context, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
        for line in read_lines(&self.name)? {
            rows.emit(ImportRow { line: line? }).await?;
        }
        Ok(())
    }
}

impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand_each(self.files.clone().into_iter().map(|name| ReadFile { name }));
        flow.run(Report { imported: rows.outputs() });    // reading implies the edge
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct ReadLongFile {
    name: String,
}

impl Source for ReadLongFile {
    const NAME: &str = "ReadLongFile";
    type Emits = ImportRow;
    type State = ();
    async fn produce(self, _: &Context, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
        let from: u64 = rows.last_checkpoint().await?.unwrap_or(0);
        for line in read_lines(&self.name)?.skip(from as usize) {
            rows.emit(ImportRow { line: line? }).await?;
            if rows.emitted().is_multiple_of(10_000) {
                rows.checkpoint(&rows.emitted()).await?;
            }
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct ReadFeed {
    name: String,
}

impl Source for ReadFeed {
    const NAME: &str = "ReadFeed";
    type Emits = ImportRow;
    type State = ();
    async fn produce(self, _: &Context, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
        let done = rows.done().await?;
        for line in read_lines(&self.name)?.skip(done as usize) {
            rows.emit(ImportRow { line: line? }).await?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Watch {
    name: String,
}

impl Workflow for Watch {
    const NAME: &str = "Watch";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadFeed { name: self.name.clone() }).eager().ahead(2_000);
        flow.run(Report { imported: rows.outputs() });
        Ok(())
    }
}

struct Header { rows: u64 }

/// The line about the number of rows.
fn say(header: &Header, rows: &mut Emitter<ImportRow>) {
    rows.expect(header.rows);
}

#[derive(Serialize, Deserialize)]
struct ReadCounted;

impl Source for ReadCounted {
    const NAME: &str = "ReadCounted";
    type Emits = ImportRow;
    type State = ();
    async fn produce(self, _: &Context, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
        say(&Header { rows: 1 }, rows);
        rows.emit(ImportRow { line: "the only one".into() }).await
    }
}

/// The lines of the table.
#[derive(Serialize, Deserialize)]
struct Rest {
    files: Vec<String>,
}

impl Workflow for Rest {
    const NAME: &str = "Rest";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let hour = Duration::from_secs(3600);
        let download = flow.run(ImportRow { line: "downloaded".into() });
        let files = self.files.clone().into_iter().map(|name| Ok::<_, std::io::Error>(ReadFile { name }));
        let rows = flow.try_expand_each(files).after(download);
        rows.source(|files| files.tolerate(3));
        rows.source(|files| files.timeout(hour));
        flow.run(Report { imported: rows.outputs() });
        flow.expand(ReadFile { name: "c 1".into() });
        flow.expand(ReadLongFile { name: "d 3".into() });
        flow.expand(ReadCounted);
        Ok(())
    }
}

fn app() -> App {
    App::stateless().workflow::<Import>().workflow::<Rest>().source::<ReadFile>().source::<ReadLongFile>().source::<ReadCounted>().workflow::<Watch>().source::<ReadFeed>().job::<ImportRow>().job::<Report>()
}

fn files(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_report_reads_the_rows_of_all_files() {
    is_drawn_in("docs/sources.md", &Import { files: Vec::new() });
    let run = Simulation::new(app()).run(Import { files: files(&["a 2", "b 1"]) }).unwrap();
    let mut rows = run.output::<Report>("Report", 0).unwrap();
    rows.sort_unstable();
    assert_eq!(rows, ["a 0", "a 1", "b 0"]);
    let run = Simulation::new(app()).run(Import { files: files(&["a 2", "missing"]) }).unwrap();
    assert_eq!((run.state(), run.ran("Report")), (WorkflowState::Failed, 0));
    let run = Simulation::new(app()).run(Watch { name: "a 5000".into() }).unwrap();
    assert_eq!((run.state(), run.output::<Report>("Report", 0).unwrap().len()), (WorkflowState::Succeeded, 5_000));
    let run = Simulation::new(app()).run(Rest { files: files(&["a 2", "missing"]) }).unwrap();
    assert_eq!((run.state(), run.output::<Report>("Report", 0).unwrap().len()), (WorkflowState::Succeeded, 2));
}
