//! docs/conditions.md

use super::*;

#[derive(Serialize, Deserialize)]
struct ImportCsv { name: String }
#[derive(Serialize, Deserialize)]
struct Publish;
#[derive(Serialize, Deserialize)]
struct Alarm;
#[derive(Serialize, Deserialize)]
struct CleanUp;
does_nothing!((): Publish Alarm CleanUp);

impl Job for ImportCsv {
    const NAME: &str = "ImportCsv";
    type Output = u64;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<u64> {
        Ok(self.name.parse()?)
    }
}

/// A question that is not asked for what was read.
#[derive(Serialize, Deserialize)]
pub struct IsMonday;

impl Condition for IsMonday {
    const NAME: &str = "IsMonday";
    type State = ();
    async fn holds(self, _: &Context) -> JobResult<bool> {
        Ok(false)
    }
}

#[derive(Serialize, Deserialize)]
struct Nightly { file: String }

#[derive(Serialize, Deserialize)]
struct EnoughRows {
    imported: Outputs<u64>,
    least: u64,
}

impl Condition for EnoughRows {
    const NAME: &str = "EnoughRows";
    type State = ();
    async fn holds(self, ctx: &Context) -> JobResult<bool> {
        Ok(self.imported.one(ctx).await? >= self.least)
    }
}

impl Workflow for Nightly {
    const NAME: &str = "Nightly";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run(ImportCsv { name: self.file.clone() });
        let enough = flow.check(EnoughRows { imported: rows.outputs(), least: 1_000 });    // reading implies the edge
        let publish = flow.run(Publish).when(enough);
        let alarm = flow.run(Alarm).unless(enough);
        flow.run(CleanUp).after((publish, alarm));
        Ok(())
    }
}

/// The lines of the table.
#[derive(Serialize, Deserialize)]
struct Rest { file: String }

impl Workflow for Rest {
    const NAME: &str = "Rest";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run(ImportCsv { name: self.file.clone() });
        let enough = flow.check(EnoughRows { imported: rows.outputs(), least: 1_000 });
        let monday = flow.check(IsMonday).when(enough);
        let approval = flow.wait_for::<Approval>("manager").timeout(Duration::from_secs(3600)).or_skip();
        flow.run(Publish).named("on a monday").when((enough, monday));
        flow.run(Publish).named("on other days").when(enough).unless(monday);
        flow.run(Publish).named("neither").unless((enough, monday));
        flow.run(Alarm).unless(approval);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub struct Approval;

impl gusher::Signal for Approval {
    const NAME: &str = "Approval";
}

fn app() -> App {
    let app = App::stateless().workflow::<Nightly>().workflow::<Rest>().condition::<EnoughRows>().condition::<IsMonday>();
    app.job::<ImportCsv>().job::<Publish>().job::<Alarm>().job::<CleanUp>().signal::<Approval>()
}

#[test]
fn what_runs_is_decided_by_what_was_read() {
    is_drawn_in("docs/conditions.md", &Nightly { file: String::new() });
    for (file, publish, alarm) in [("1000", 1, 0), ("999", 0, 1)] {
        let run = Simulation::new(app()).run(Nightly { file: file.into() }).unwrap();
        assert_eq!((run.ran("Publish"), run.ran("Alarm"), run.ran("CleanUp")), (publish, alarm, 1), "{file}");
        assert_eq!(run.state(), WorkflowState::Succeeded);
    }
    let run = Simulation::new(app()).run(Nightly { file: "no number".into() }).unwrap();
    assert_eq!((run.ran("Publish"), run.ran("Alarm"), run.state()), (0, 0, WorkflowState::Failed));
}

#[test]
fn conditions_can_be_asked_for_together_and_one_behind_the_other() {
    for (file, monday, other, neither) in [("1000", 0, 1, 0), ("999", 0, 0, 0)] {
        let run = Simulation::new(app()).run(Rest { file: file.into() }).unwrap();
        let ran = ["on a monday", "on other days", "neither", "Alarm"].map(|step| run.ran(step));
        assert_eq!(ran, [monday, other, neither, 1], "{file}");
    }
}
