//! docs/coming-from-gush.md

use super::*;

fn count_rows(file: &str) -> usize {
    read_rows(file).len()
}

fn read_rows(file: &str) -> Vec<String> {
    file.split(' ').map(str::to_owned).collect()
}

#[derive(Serialize, Deserialize)]
struct ImportCsv { from: String }

impl Job for ImportCsv {
    const NAME: &str = "ImportCsv";
    type Output = usize;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<usize> {
        Ok(count_rows(&self.from))
    }
}

#[derive(Serialize, Deserialize)]
struct ImportXml { from: String }
#[derive(Serialize, Deserialize)]
struct GenReport {}

does_nothing!((): ImportXml GenReport);

#[derive(Serialize, Deserialize)]
struct ImportWorkflow { csv: String, xml: String }

impl Workflow for ImportWorkflow {
    const NAME: &str = "ImportWorkflow";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let csv = flow.run(ImportCsv { from: self.csv.clone() });
        let xml = flow.run(ImportXml { from: self.xml.clone() });
        flow.run(GenReport {}).after((csv, xml));
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct ImportRow { row: String }

impl Job for ImportRow {
    const NAME: &str = "ImportRow";
    type Output = usize;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<usize> {
        Ok(self.row.len())
    }
}

#[derive(Serialize, Deserialize)]
struct ReadRows { from: String }

impl Source for ReadRows {
    const NAME: &str = "ReadRows";
    type Emits = ImportRow;
    type State = ();
    async fn produce(self, _: &Context, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
        for row in read_rows(&self.from) {
            rows.emit(ImportRow { row }).await?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct SumUp { added: Outputs<usize> }

impl Job for SumUp {
    const NAME: &str = "SumUp";
    type Output = usize;
    type State = ();
    async fn perform(self, ctx: &Context) -> JobResult<usize> {
        let lengths: Vec<(u64, usize)> = self.added.stream(ctx).try_collect().await?;
        Ok(lengths.into_iter().map(|(_, length)| length).sum())
    }
}

#[derive(Serialize, Deserialize)]
struct RowByRow { csv: String }

impl Workflow for RowByRow {
    const NAME: &str = "RowByRow";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadRows { from: self.csv.clone() });
        flow.run(SumUp { added: rows.outputs() });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Later {}

impl Workflow for Later {
    const NAME: &str = "Later";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let (job, minutes) = (GenReport {}, Duration::from_secs(300));
        flow.run(job).queue("imports").delay(minutes);
        Ok(())
    }
}

fn app() -> App {
    App::stateless().retention(Retention::days(7))
        .workflow::<ImportWorkflow>().source::<ReadRows>().job::<ImportRow>().job::<SumUp>()
        .job::<ImportCsv>().job::<ImportXml>().job::<GenReport>()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_of_gush_look_for_is_there() -> gusher::Result<()> {
    let house = House::new();
    let client = house.client(&app());
    client.start(ImportWorkflow { csv: "airports.csv".into(), xml: "territories.xml".into() }).await?;
    for is_new in [true, false] {
        let import = ImportWorkflow { csv: "airports.csv".into(), xml: "territories.xml".into() };
        let started = client.start(import).unless_running().await?;
        assert_eq!(started.is_new(), is_new);
    }
    let import = ImportWorkflow { csv: "airports.csv".into(), xml: "territories.xml".into() };
    match client.start(import).unless_running().await? {
        Started::New(run) => println!("started {}", run.id()),
        Started::Running(run) => println!("{} has not finished", run.id()),
    }
    let import = ImportWorkflow { csv: "airports.csv".into(), xml: "territories.xml".into() };
    let unconditional = client.start(import).await?;
    let id = unconditional.id();
    let imports: Vec<_> = client.workflows().of::<ImportWorkflow>().stream().try_collect().await?;
    assert_eq!(imports.len(), 3);

    let worker = house.worker(&app()).await;
    let rows = client.start(RowByRow { csv: "one two three".into() }).await?;
    assert_eq!(rows.wait().await?.state, WorkflowState::Succeeded);
    assert_eq!(serde_json::from_str::<usize>(rows.job("SumUp", 0).await?.output.unwrap().get()).unwrap(), 11);
    assert_eq!(unconditional.wait().await?.state, WorkflowState::Succeeded);
    let later = client.start(Later {}).await?.status().await?;
    assert_eq!(later.steps[0].queue, "imports");
    worker.stop().await;

    assert_eq!(client.find(id).await?.status().await?.state, WorkflowState::Succeeded);
    assert_eq!(client.find(id).await?.retry_failed(None).await?, 0);
    client.find(id).await?.delete().await?;
    house.check().await;
    Ok(())
}
