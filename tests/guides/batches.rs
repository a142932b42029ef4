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
does_nothing!((): ImportRow GenReport TellOps Alarm);

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

/// The lines of the tables.
#[allow(dead_code)]
async fn lines(client: Client, day: u32, id: gusher::WorkflowId) -> gusher::Result<()> {
    let night = client.batch("nightly").description("what came today").on_success(GenReport { day });
    let night = night.on_complete(TellOps).on_death(Alarm);
    let night = night.jobs_of::<ImportRow>(|rows| rows.queue("bulk").tolerate(10)).open().await?;
    client.find_batch(id).await?.add(ImportRow { row: String::new() }).await?;
    night.close().await
}
