//! docs/batches.md

use super::*;

#[derive(Serialize, Deserialize)]
struct ImportCsv { file: String }
#[derive(Serialize, Deserialize)]
struct ImportRow { row: String }
#[derive(Serialize, Deserialize)]
struct GenReport { day: u32 }
#[derive(Serialize, Deserialize)]
struct TellOps;
#[derive(Serialize, Deserialize)]
struct Alarm;
#[derive(Serialize, Deserialize)]
struct TellSupplier { to: String }
does_nothing!((): ImportRow GenReport TellOps Alarm TellSupplier);

struct Supplier { name: String, rows: Vec<String> }

fn read_lines(file: &str) -> JobResult<Vec<String>> {
    Ok(file.split(' ').map(str::to_owned).collect())
}

impl Job for ImportCsv {
    const NAME: &str = "ImportCsv";
    type Output = ();
    type State = ();
    async fn perform(self, ctx: &Context) -> JobResult<()> {
        for line in read_lines(&self.file)? {
            ctx.batch().add(ImportRow { row: line }).await?;
        }
        Ok(())
    }
}

async fn import(client: &Client, day: u32, files: Vec<String>) -> gusher::Result<gusher::OpenBatch> {
    let rows = (0..100).map(|row| row.to_string());
let night = client
    .batch("nightly")
    .description("what the suppliers have sent")
    .on_success(GenReport { day })
    .on_complete(TellOps).with(|mail| mail.queue("mail").priority(5))
    .on_death(Alarm)
    .open()
    .await?;
for file in files {
    night.add(ImportCsv { file }).await?;
}
night.add_each(rows.map(|row| ImportRow { row })).await?;
night.close().await?;
    Ok(night)
}

#[test]
fn the_batch_of_the_guide_runs_its_callbacks_once() {
    let app = App::stateless().job::<ImportCsv>().job::<ImportRow>().job::<GenReport>().job::<TellOps>().job::<Alarm>();
    let files = vec!["a b c".to_owned(), "d e".to_owned()];
    let played = Simulation::new(app).queue("mail").play(async |client| import(&client, 7, files).await.map(drop)).unwrap();
    assert_eq!((played.ran::<ImportCsv>(), played.ran::<ImportRow>()), (2, 5 + 100));
    assert_eq!((played.ran::<GenReport>(), played.ran::<TellOps>(), played.ran::<Alarm>()), (1, 1, 0));
}

async fn import_of_suppliers(client: &Client, day: u32, suppliers: Vec<Supplier>) -> gusher::Result<gusher::OpenBatch> {
let night = client.batch("nightly").on_success(GenReport { day }).on_death(Alarm).open().await?;
for supplier in suppliers {
    let rows = night.batch(&supplier.name).on_success(TellSupplier { to: supplier.name.clone() }).open().await?;
    rows.add_each(supplier.rows.into_iter().map(|row| ImportRow { row })).await?;
    rows.close().await?;
}
night.close().await?;
    Ok(night)
}

#[test]
fn the_batches_within_a_batch_of_the_guide_run_theirs_first() {
    let app = App::stateless().job::<ImportRow>().job::<GenReport>().job::<TellSupplier>().job::<Alarm>();
    let suppliers = ["north", "south"].map(|name| Supplier { name: name.to_owned(), rows: vec!["a".to_owned(), "b".to_owned()] });
    let played = Simulation::new(app).play(async |client| import_of_suppliers(&client, 7, suppliers.into()).await.map(drop)).unwrap();
    assert_eq!((played.ran::<ImportRow>(), played.ran::<TellSupplier>(), played.ran::<GenReport>(), played.ran::<Alarm>()), (4, 2, 1, 0));
}

/// What a job does with its batch.
#[allow(dead_code)]
async fn inside(ctx: &Context) -> gusher::Result<()> {
    let rows = ctx.batch().batch("supplier 7").open().await?;
    rows.close().await?;
    let night = ctx.batch().find().await?.outer().await?.expect("it is within one");
    night.batch("supplier 7").on_success(GenReport { day: 7 }).open().await?.close().await
}

/// The lines of the tables.
#[allow(dead_code)]
async fn lines(client: Client, day: u32, id: gusher::WorkflowId) -> gusher::Result<()> {
    let night = client.batch("nightly").description("what came today").on_success(GenReport { day });
    let night = night.on_complete(TellOps).on_death(Alarm);
    let night = night.jobs_of::<ImportRow>(|rows| rows.queue("bulk").tolerate(10)).open().await?;
    client.find_batch(id).await?.add(ImportRow { row: String::new() }).await?;
    night.close().await
}
