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
struct Import;
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.expand(Row { n: 1 });
        Ok(())
    }
}

fn main() {}
