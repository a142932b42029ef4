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
struct Enrich {
    n: u32,
}
impl Job for Enrich {
    const NAME: &str = "Enrich";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

fn configure(flow: &Flow) {
    flow.run(Row { n: 1 }).each_then::<Enrich>();
}

fn main() {}
