//! docs/waiting.md

use super::*;
use gusher::{Millis, WorkflowId};

#[derive(Default, Serialize, Deserialize)]
struct Draft { title: String }
#[derive(Serialize, Deserialize)]
struct Alarm;
does_nothing!((): Draft Alarm);

#[derive(Serialize, Deserialize)]
struct Release;

#[derive(Serialize, Deserialize)]
struct Approval {
    by: String,
}

impl Signal for Approval {
    const NAME: &str = "Approval";
}

#[derive(Serialize, Deserialize)]
struct Publish {
    approval: Outputs<Approval>,
}

impl Workflow for Release {
    const NAME: &str = "Release";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let draft = flow.run(Draft::default());
        let approval = flow.wait_for::<Approval>("manager").after(draft).timeout(Duration::from_secs(3 * 24 * 3600));
        flow.run(Publish { approval: approval.outputs() });    // reading implies the edge
        Ok(())
    }
}

impl Job for Publish {
    const NAME: &str = "Publish";
    type Output = String;
    type State = ();
    async fn perform(self, ctx: &Context) -> JobResult<String> {
        let Approval { by } = self.approval.one(ctx).await?;
        Ok(by)
    }
}

pub fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

/// The lines of the table.
#[derive(Serialize, Deserialize)]
struct Rest { time: Millis }

impl Workflow for Rest {
    const NAME: &str = "Rest";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let time = self.time;
        let draft = flow.run(Draft::default());
        let approval = flow.wait_for::<Approval>("fails").timeout(days(3));
        flow.run(Alarm).after_failure(approval);
        flow.wait_for::<Approval>("skipped").timeout(days(3)).or_skip();
        flow.wait_for::<Approval>("goes on").timeout(days(3)).or(Approval { by: "nobody".into() });
        flow.sleep(days(1)).after(draft);
        flow.until(time);
        Ok(())
    }
}

fn app() -> App {
    App::stateless().workflow::<Release>().job::<Draft>().job::<Publish>().job::<Alarm>().signal::<Approval>()
}

async fn approve(client: &Client, id: WorkflowId) -> gusher::Result<()> {
    client.signal(id, "manager", &Approval { by: "Ada".into() }).await?;
    Ok(())
}

#[test]
fn a_release_waits_for_its_manager_and_the_rest_for_nobody() {
    is_drawn_in("docs/waiting.md", &Release);
    let (approval, app) = (Approval { by: "Ada".into() }, app());
    let run = Simulation::new(app).at(days(1), async move |workflow| workflow.signal("manager", &approval).await.map(drop));
    let run = run.run(Release).unwrap();
    assert_eq!(run.output::<Publish>("Publish", 0).unwrap(), "Ada");
    let rest = Simulation::new(self::app()).run(Rest { time: 1_000 }).unwrap();
    assert_eq!((rest.state(), rest.ran("Alarm")), (WorkflowState::Failed, 1));
}

#[tokio::test]
async fn a_client_gives_the_signal() {
    let house = House::new();
    let client = house.client(&app());
    let handle = client.start(Release).await.unwrap();
    approve(&client, handle.id()).await.unwrap();
    assert!(approve(&client, handle.id()).await.unwrap_err().to_string().contains("already"));
}
