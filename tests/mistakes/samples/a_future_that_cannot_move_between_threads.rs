use std::rc::Rc;

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
        let shared = Rc::new(self.n);
        std::future::ready(()).await;
        Ok(*shared)
    }
}

fn main() {}
