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
        Ok(self.n.to_string())
    }
}

fn main() {}
