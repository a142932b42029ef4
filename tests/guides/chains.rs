//! docs/chains.md

use super::*;

#[derive(Serialize, Deserialize)]
struct ReadFile { rows: Vec<String> }
#[derive(Serialize, Deserialize)]
struct ImportRow { row: String }
#[derive(Serialize, Deserialize)]
struct Enrich { id: u64, row: String }
#[derive(Serialize, Deserialize)]
struct Publish { id: u64, country: String }
#[derive(Serialize, Deserialize)]
struct Report;
does_nothing!((): Publish Report);

impl Source for ReadFile {
    const NAME: &str = "ReadFile";
    type Emits = ImportRow;
    type State = ();
    async fn produce(self, _: &Context, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
        for row in self.rows {
            rows.emit(ImportRow { row }).await?;
        }
        Ok(())
    }
}

impl Job for ImportRow {
    const NAME: &str = "ImportRow";
    type Output = u64;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<u64> {
        Ok(self.row.len() as u64)
    }
}

impl Job for Enrich {
    const NAME: &str = "Enrich";
    type Output = String;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<String> {
        Ok(self.row)
    }
}

impl Follows<ImportRow> for Enrich {
    fn follow(before: ImportRow, id: u64) -> Self {
        Enrich { id, row: before.row }
    }
}

impl Follows<Enrich> for Publish {
    fn follow(before: Enrich, country: String) -> Self {
        Publish { id: before.id, country }
    }
}

#[derive(Serialize, Deserialize)]
struct Import { files: Vec<Vec<String>> }

impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand_each(self.files.clone().into_iter().map(|rows| ReadFile { rows }));
        let enriched = rows.tolerate(100).each_then::<Enrich>();
        let published = enriched.each_then::<Publish>();
        flow.run(Report).after(published);
        Ok(())
    }
}

fn app() -> App {
    App::stateless()
        .source::<ReadFile>().job::<ImportRow>().job::<Enrich>().job::<Publish>().job::<Report>()
        .follows::<Enrich, ImportRow>()
        .follows::<Publish, Enrich>()
}

#[test]
fn each_row_goes_through_its_stages_as_the_guide_shows() {
    is_drawn_in("docs/chains.md", &Import { files: Vec::new() });
    let files = vec![vec!["a".into(), "b".into()], vec!["c".into()]];
    let run = Simulation::new(app()).run(Import { files }).unwrap();
    assert_eq!((run.ran("ImportRow"), run.ran("Enrich"), run.ran("Publish"), run.ran("Report")), (3, 3, 3, 1));
    assert_eq!(run.state(), WorkflowState::Succeeded);
}
