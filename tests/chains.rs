//! Element-wise chains: each job of a step goes on as soon as its own predecessor has succeeded.

mod support;

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::{JobState, StepState, WorkflowState};
use support::act::{Act, Shared, act};
use support::play::{Play, states};

/// A row that is read: it returns how often it was seen.
#[derive(Serialize, Deserialize)]
struct Enrich {
    name: String,
    length: usize,
}

impl Follows<Act> for Enrich {
    fn follow(before: Act, output: String) -> Self {
        Enrich { name: format!("{} enriched", before.name), length: output.len() }
    }
}

impl Job for Enrich {
    const NAME: &str = "Enrich";
    const RETRY: Retry = Retry::never();
    type Output = usize;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<usize> {
        if self.name.starts_with("bad") {
            return Err(JobError::fatal(format!("{} cannot be enriched", self.name)));
        }
        ctx.state().add(self.name);
        Ok(self.length)
    }
}

#[derive(Serialize, Deserialize)]
struct Publish {
    name: String,
    length: usize,
}

impl Follows<Enrich> for Publish {
    fn follow(before: Enrich, length: usize) -> Self {
        Publish { name: before.name.replace("enriched", "published"), length }
    }
}

impl Job for Publish {
    const NAME: &str = "Publish";
    type Output = usize;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<usize> {
        ctx.state().add(self.name);
        Ok(self.length)
    }
}

#[derive(Serialize, Deserialize)]
struct Report {
    published: Outputs<usize>,
}

impl Job for Report {
    const NAME: &str = "Report";
    type Output = Vec<(u64, usize)>;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<Vec<(u64, usize)>> {
        ctx.state().add("report");
        self.published.stream(ctx).try_collect().await
    }
}

/// Emits a job for each of these names.
#[derive(Serialize, Deserialize)]
struct Names {
    names: Vec<String>,
}

impl Source for Names {
    const NAME: &str = "Names";
    type Emits = Act;
    type State = Shared;
    async fn produce(self, _: &Context<Shared>, out: &mut Emitter<Act>) -> JobResult<()> {
        for name in self.names {
            out.emit(act(name, "ok")).await?;
        }
        Ok(())
    }
}

/// Rows, two steps that each of them goes through, and a report after all.
#[derive(Serialize, Deserialize)]
struct Import {
    rows: Vec<Act>,
    tolerated: u64,
}

impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run_each(self.rows.clone()).tolerate(self.tolerated);
        let enriched = rows.each_then::<Enrich>().tolerate(self.tolerated);
        let published = enriched.each_then::<Publish>();
        flow.run(Report { published: published.outputs() });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct ImportFiles {
    files: Vec<Vec<String>>,
}

impl Workflow for ImportFiles {
    const NAME: &str = "ImportFiles";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.expand_each(self.files.clone().into_iter().map(|names| Names { names }));
        let published = rows.each_then::<Enrich>().each_then::<Publish>();
        flow.run(Report { published: published.outputs() });
        Ok(())
    }
}

fn register(app: App<Shared>) -> App<Shared> {
    app.job::<Act>()
        .job::<Enrich>()
        .job::<Publish>()
        .job::<Report>()
        .source::<Names>()
        .follows::<Enrich, Act>()
        .follows::<Publish, Enrich>()
}

fn rows(does: &[(&str, &str)]) -> Vec<Act> {
    does.iter().map(|(name, does)| act(*name, does)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_goes_its_own_way_and_the_report_comes_after_all() {
    let play = Play::of(register).await;
    let run = play.start(Import { rows: rows(&[("a", "ok"), ("bb", "wait"), ("ccc", "ok")]), tolerated: 0 }).await;
    play.stage.wait_for(1).await;
    let published = || play.stage.ran().iter().filter(|line| line.ends_with("published")).count();
    support::until::until(async || (published() == 2).then_some(())).await;
    assert!(!play.stage.ran().contains(&"bb enriched".to_owned()), "it waits for its own predecessor");
    assert_eq!(states(&run).await, [StepState::Running, StepState::Running, StepState::Running, StepState::Waiting]);
    let why = run.why_job("Enrich", 1).await.unwrap();
    assert_eq!(why.summary, "job #1 of `Enrich` waits for its own predecessor (#1 of `Act`)");
    play.stage.gate.add_permits(1);
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(play.stage.ran().last().unwrap(), "report");
    let report = run.job("Report", 0).await.unwrap().output.unwrap();
    assert_eq!(report.get(), "[[0,1],[1,2],[2,3]]");
    let published = run.job("Publish", 2).await.unwrap();
    assert_eq!(published.params.get(), r#"{"name":"ccc published","length":3}"#);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_predecessor_failed_is_skipped_and_comes_back_when_that_is_repaired() {
    let play = Play::of(register).await;
    let run = play.start(Import { rows: rows(&[("a", "ok"), ("b", "fatal"), ("bad", "ok")]), tolerated: 1 }).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    let state = |step: &'static str, index| {
        let run = run.clone();
        async move { run.job(step, index).await.unwrap().state }
    };
    assert_eq!(state("Act", 1).await, JobState::Failed);
    assert_eq!(state("Enrich", 1).await, JobState::SkippedByPredecessor);
    assert_eq!((state("Act", 2).await, state("Enrich", 2).await), (JobState::Succeeded, JobState::Failed));
    assert_eq!(state("Publish", 2).await, JobState::SkippedByPredecessor);
    let why = run.why_job("Publish", 2).await.unwrap().summary;
    assert_eq!(
        why,
        "job #2 of `Publish` was skipped, since its own predecessor (#2 of `Enrich`) did not succeed; it comes back when that is repaired"
    );
    run.replace_output("Act", 1, "by hand").await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(state("Publish", 1).await, JobState::Succeeded);
    assert_eq!(run.job("Publish", 1).await.unwrap().output.unwrap().get(), "7");
    assert!(run.status().await.unwrap().steps[3].outdated, "the report has run before");
    assert_eq!(run.retry_failed(None).only(|failure| failure.index == 2).await.unwrap(), 1);
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(state("Enrich", 2).await, JobState::Failed, "it has been tried again");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sources_emit_goes_through_the_chain_file_by_file() {
    let play = Play::of(register).await;
    let files = vec![vec!["a".to_owned(), "bb".to_owned()], Vec::new(), vec!["ccc".to_owned()]];
    let run = play.start(ImportFiles { files }).await;
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    let report = run.job("Report", 0).await.unwrap().output.unwrap();
    assert_eq!(serde_json::from_str::<Vec<(u64, usize)>>(report.get()).unwrap().len(), 3);
    assert_eq!(play.stage.ran().last().unwrap(), "report");
    run.run_again("Names").await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    assert_eq!(run.job("Publish", 0).await.unwrap().state, JobState::Succeeded);
    play.end().await;
}

#[tokio::test]
async fn what_a_chain_lacks_is_told_with_the_line_to_add() {
    let house = support::House::new();
    let app =
        support::play::app(&support::act::Stage::new()).job::<Act>().job::<Enrich>().job::<Publish>().job::<Report>();
    let client = house.client(&app.follows::<Enrich, Act>());
    let error = client.start(Import { rows: Vec::new(), tolerated: 0 }).await.unwrap_err().to_string();
    assert!(error.contains("how a `Publish` follows a `Enrich` is not registered"), "{error}");
    assert!(error.ends_with("add .follows::<Publish, Enrich>() to the App"), "{error}");
}

#[derive(Serialize, Deserialize)]
struct Forked {}

impl Workflow for Forked {
    const NAME: &str = "Forked";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = flow.run(act("a", "ok"));
        rows.each_then::<Enrich>().named("one");
        rows.each_then::<Enrich>().named("two");
        Ok(())
    }
}

#[tokio::test]
async fn two_chains_from_one_step_are_refused() {
    let house = support::House::new();
    let client = house.client(&register(support::play::app(&support::act::Stage::new())));
    let error = client.start(Forked {}).await.unwrap_err().to_string();
    assert!(
        error.contains("two chains go on from step `Act`: `one` and `two`; chain the second behind the first"),
        "{error}"
    );
}
