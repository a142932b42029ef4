use gusher::prelude::*;

#[derive(Serialize, Deserialize)]
struct Row {
    n: u32,
}
impl Job for Row {
    const NAME: &str = "Row";
    type Output = u32;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<u32> {
        Ok(self.n)
    }
}

#[derive(Serialize, Deserialize)]
struct Download;
impl Source for Download {
    const NAME: &str = "Download";
    type Emits = Row;
    type State = ();
    async fn produce(self, _: &Context, rows: &mut Emitter<Row>) -> JobResult<()> {
        rows.emit("a,b,c").await?;
        Ok(())
    }
}

fn main() {}
