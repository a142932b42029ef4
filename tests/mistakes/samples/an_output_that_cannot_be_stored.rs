use gusher::prelude::*;

struct Added(u32);

#[derive(Serialize, Deserialize)]
struct Row {
    n: u32,
}
impl Job for Row {
    const NAME: &str = "Row";
    type Output = Added;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<Added> {
        Ok(Added(self.n))
    }
}

fn main() {}
