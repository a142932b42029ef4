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
struct Report {
    rows: Outputs<String>,
}
impl Job for Report {
    const NAME: &str = "Report";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Import;
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run(Row { n: 1 });
        flow.run(Report { rows: rows.outputs() });
        Ok(())
    }
}

fn main() {}
