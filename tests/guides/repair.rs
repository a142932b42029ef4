//! docs/repair.md

use super::*;

#[derive(Serialize, Deserialize)]
struct ReadFile { rows: u64 }
#[derive(Serialize, Deserialize)]
struct ImportRow(u64);
#[derive(Serialize, Deserialize)]
struct SumUp { of: Outputs<u64> }
#[derive(Serialize, Deserialize)]
struct MailSum;
#[derive(Serialize, Deserialize)]
struct Alarm;
does_nothing!((): MailSum Alarm);

const HOUR: Duration = Duration::from_secs(3600);

impl Source for ReadFile {
    const NAME: &str = "ReadFile";
    type Emits = ImportRow;
    type State = ();
    async fn produce(self, _: &Context, out: &mut Emitter<ImportRow>) -> JobResult<()> {
        for row in 0..self.rows {
            out.emit(ImportRow(row)).await?;
        }
        Ok(())
    }
}

impl Job for ImportRow {
    const NAME: &str = "ImportRow";
    type Output = u64;
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<u64> {
        Ok(self.0)
    }
}

impl Job for SumUp {
    const NAME: &str = "SumUp";
    type Output = u64;
    type State = ();
    async fn perform(self, ctx: &Context) -> JobResult<u64> {
        let rows: Vec<(u64, u64)> = self.of.stream(ctx).try_collect().await?;
        Ok(rows.into_iter().map(|(_, row)| row).sum())
    }
}

#[derive(Serialize, Deserialize)]
struct Import { rows: u64 }

impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand(ReadFile { rows: self.rows });
        let sum = flow.run(SumUp { of: rows.outputs() });
        flow.run(MailSum).after(sum);
        flow.run(Alarm).after_failure(rows);
        Ok(())
    }
}

fn app() -> App {
    App::stateless().workflow::<Import>().source::<ReadFile>().job::<ImportRow>().job::<SumUp>().job::<MailSum>().job::<Alarm>()
}

async fn run_all_again(handle: gusher::Handle) -> gusher::Result<()> {
    let again = handle.run_again("ReadFile").with_all_after();
    let would_run = again.preview().await?;
    if would_run.jobs() < 1_000 {
        again.await?;
    }
    Ok(())
}

#[test]
fn a_step_runs_again_alone_and_what_has_run_after_it_says_so() {
    let alone = async |handle: gusher::Handle| {
        assert_eq!(handle.run_again("SumUp").preview().await?.jobs(), 1);
        assert_eq!(handle.run_again("SumUp").await?, 1);
        let steps = handle.wait().await?.steps;
        let outdated: Vec<&str> = steps.iter().filter(|step| step.outdated).map(|step| &*step.name).collect();
        assert_eq!(outdated, ["MailSum"]);
        Ok(())
    };
    let run = Simulation::new(app()).at(HOUR, alone).run(Import { rows: 10 }).unwrap();
    assert_eq!(run.state(), WorkflowState::Succeeded);
    assert_eq!((run.ran("ReadFile"), run.ran("ImportRow"), run.ran("SumUp"), run.ran("MailSum")), (1, 10, 2, 1));
}

#[test]
fn a_source_runs_again_with_all_that_came_of_it() {
    let again = async |handle: gusher::Handle| {
        let would_run = handle.run_again("ReadFile").with_all_after().preview().await?;
        let steps: Vec<(&str, u64)> = would_run.steps.iter().map(|step| (&*step.name, step.jobs)).collect();
        assert_eq!(steps, [("ReadFile", 1), ("ImportRow", 10), ("SumUp", 1), ("MailSum", 1)], "no alarm has run");
        run_all_again(handle).await
    };
    let run = Simulation::new(app()).at(HOUR, again).run(Import { rows: 10 }).unwrap();
    assert_eq!(run.state(), WorkflowState::Succeeded);
    assert_eq!((run.ran("ReadFile"), run.ran("ImportRow"), run.ran("SumUp"), run.ran("MailSum")), (2, 20, 2, 2));
    assert_eq!(run.ran("Alarm"), 0);
}

async fn by_hand(handle: gusher::Handle) -> gusher::Result<()> {
    handle.skip("ImportRow", Some(17)).await?;
    handle.replace_output("SumUp", 0, &45).await?;
    Ok(())
}

/// The lines of the table.
async fn decide(handle: gusher::Handle) -> gusher::Result<()> {
    handle.skip("ImportRow", None).await?;
    handle.run_again("ReadFile").with_all_after().await?;
    handle.retry_failed(Some("ImportRow")).await?;
    handle.discard_failed(Some("ImportRow")).await?;
    Ok(())
}

#[test]
fn an_output_is_replaced_and_what_has_run_after_it_says_so() {
    let replace = async |handle: gusher::Handle| {
        by_hand(handle.clone()).await?;
        let view = handle.wait().await?;
        assert!(view.steps.iter().find(|step| step.name == "MailSum").unwrap().outdated);
        assert_eq!(handle.job("SumUp", 0).await?.output.unwrap().get(), "45");
        let refused = handle.replace_output("SumUp", 1, &45).await.unwrap_err().to_string();
        assert!(refused.contains("has no job #1"), "{refused}");
        decide(handle).await
    };
    let run = Simulation::new(app()).at(HOUR, replace).run(Import { rows: 20 }).unwrap();
    assert_eq!((run.state(), run.ran("SumUp"), run.ran("MailSum")), (WorkflowState::Succeeded, 2, 2));
}

#[tokio::test]
async fn a_workflow_that_is_started_again_is_of_a_newer_generation_than_any_step_of_it_was() {
    let house = House::new();
    let client = house.client(&app());
    let worker = house.worker(&app()).await;
    let handle = client.start(Import { rows: 3 }).await.unwrap();
    for _ in 0..2 {
        handle.wait().await.unwrap();
        handle.run_again("SumUp").await.unwrap();
    }
    handle.wait().await.unwrap();
    let again = client.start_again(handle.id(), Default::default()).await.unwrap();
    assert_eq!(again.wait().await.unwrap().generation, 3);
    worker.stop().await;
    house.check().await;
}

#[tokio::test]
async fn a_retry_tells_before_what_it_would_run() {
    let house = House::new();
    let handle = house.client(&app()).start(Import { rows: 10 }).await.unwrap();
    assert_eq!(handle.retry_failed(None).preview().await.unwrap(), Default::default());
    assert_eq!(handle.retry_failed(None).await.unwrap(), 0);
    assert_eq!(handle.run_again("SumUp").await.unwrap(), 0, "it has not run yet");
    let unknown = handle.run_again("Summe").await.unwrap_err().to_string();
    assert!(unknown.contains("has no step `Summe`"), "{unknown}");
}
