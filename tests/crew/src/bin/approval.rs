//! A program with a command line of its own whose workflow waits for somebody: `approval worker`, `approval start Release`, and so on.

use std::process::ExitCode;
use std::time::Duration;

use gusher::prelude::*;

#[derive(Serialize, Deserialize)]
struct Approval {
    by: String,
    #[serde(default)]
    remark: String,
}

impl Signal for Approval {
    const NAME: &str = "Approval";
}

/// Tells who has approved.
#[derive(Serialize, Deserialize)]
struct Publish {
    approval: Outputs<Approval>,
}

impl Job for Publish {
    const NAME: &str = "Publish";
    type Output = String;
    type State = ();
    async fn perform(self, ctx: &Context) -> JobResult<String> {
        let Approval { by, remark } = self.approval.one(ctx).await?;
        Ok(format!("{by}: {remark}"))
    }
}

#[derive(Serialize, Deserialize)]
struct Draft;

impl Job for Draft {
    const NAME: &str = "Draft";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

/// What docs/waiting.md shows.
#[derive(Serialize, Deserialize)]
struct Release;

impl Workflow for Release {
    const NAME: &str = "Release";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let draft = flow.run(Draft);
        let approval = flow.wait_for::<Approval>("manager").after(draft).timeout(Duration::from_secs(3 * 24 * 3600));
        flow.run(Publish { approval: approval.outputs() });
        Ok(())
    }
}

/// Waits for what is given at once.
#[derive(Serialize, Deserialize)]
struct Ask;

impl Workflow for Ask {
    const NAME: &str = "Ask";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let approval = flow.wait_for::<Approval>("manager").timeout(Duration::from_secs(3 * 24 * 3600));
        flow.run(Publish { approval: approval.outputs() });
        flow.sleep(Duration::from_millis(1));
        Ok(())
    }
}

fn main() -> ExitCode {
    App::stateless().workflow::<Release>().workflow::<Ask>().job::<Draft>().job::<Publish>().signal::<Approval>().main()
}
