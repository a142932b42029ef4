//! A workflow waits for a type that no signal carries.

use gusher::prelude::*;

#[derive(Serialize, Deserialize)]
struct Approval {
    by: String,
}

#[derive(Serialize, Deserialize)]
struct Release;

impl Workflow for Release {
    const NAME: &str = "Release";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.wait_for::<Approval>("manager");
        Ok(())
    }
}

fn main() {}
