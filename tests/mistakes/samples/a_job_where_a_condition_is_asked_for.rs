use gusher::prelude::*;

#[derive(Serialize, Deserialize)]
struct CountRows;
impl Job for CountRows {
    const NAME: &str = "CountRows";
    type Output = bool;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<bool> {
        Ok(true)
    }
}

#[derive(Serialize, Deserialize)]
struct Import;
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.check(CountRows);
        Ok(())
    }
}

fn main() {}
