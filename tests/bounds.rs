//! What people look at costs the same whatever the size of the workflow or of the store.

mod support;

use gusher::prelude::*;
use gusher::store::{List, Store};
use gusher::{MAX_JOB_BYTES, Pausable, WorkflowState};
use support::House;
use support::act::{Act, Shared, Stage, act};

#[derive(Serialize, Deserialize)]
struct Rows {
    rows: u64,
    bytes: usize,
}
impl Workflow for Rows {
    const NAME: &str = "Rows";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let name = "x".repeat(self.bytes);
        let rows = flow.run_each((0..self.rows).map(move |_| act(name.clone(), "ok")));
        flow.run(act("end", "ok")).after(rows);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Broken;
impl Workflow for Broken {
    const NAME: &str = "Broken";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let rows = (0..100_000).map(|n| if n == 77_777 { Err(JobError::new("ragged")) } else { Ok(act("fine", "ok")) });
        flow.try_run_each(rows);
        Ok(())
    }
}

fn app() -> App<Shared> {
    App::new(|| std::future::ready(Ok::<_, std::io::Error>(Stage::new()))).job::<Act>()
}

/// The most rows that one operation of a verb has read.
fn rows_read(house: &House, verb: &str) -> u64 {
    house.store.meters().by_verb()[verb].max.rows
}

#[tokio::test(flavor = "multi_thread")]
async fn showing_a_workflow_of_a_million_jobs_reads_a_bounded_number_of_rows() {
    let (house, app) = (House::new(), app());
    let run = house.client(&app).start(Rows { rows: 1_000_000, bytes: 1 }).await.unwrap();
    let status = run.status().await.unwrap();
    assert_eq!(status.jobs.total, 1_000_001);
    run.job("Act", 777_777).await.unwrap();
    house.store.waiting(run.id(), 0).await.unwrap();
    run.error_groups(0, "Act").await.unwrap();
    for (verb, most) in
        [("workflow", 1), ("steps", 3), ("outcomes", 210), ("whereabouts", 10), ("waiting", 20), ("errors", 1_001)]
    {
        assert!(rows_read(&house, verb) <= most, "{verb} read {} rows", rows_read(&house, verb));
    }
    assert_eq!(house.store.meters().over_bounds(), Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_among_10_000_workflows_reads_the_rows_that_it_shows() {
    let (house, app) = (House::new(), app());
    let client = house.client(&app);
    for batch in 0..100 {
        let starts = (0..100).map(|_| client.start(Rows { rows: u64::from(batch % 2 == 0), bytes: 1 }).into_future());
        futures::future::try_join_all(starts).await.unwrap();
    }
    let all = List { limit: 20, ..List::default() };
    let lists = [
        all.clone(),
        List { state: Some(WorkflowState::Pending), ..all.clone() },
        List { state: Some(WorkflowState::Failed), ..all.clone() },
        List { name: Some("Rows".into()), ..all.clone() },
        List { name: Some("Rows".into()), state: Some(WorkflowState::Pending), ..all.clone() },
        List { name: Some("Other".into()), ..all.clone() },
    ];
    for list in lists {
        let page = house.store.workflows(list.clone()).await.unwrap();
        let last = page.last().map(|row| (row.created_at, row.id));
        house.store.workflows(List { after: last, ..list }).await.unwrap();
    }
    assert_eq!(rows_read(&house, "workflows"), 20);
    let streamed: Vec<_> = futures::TryStreamExt::try_collect(client.workflows().of::<Rows>().stream()).await.unwrap();
    assert_eq!(streamed.len(), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_is_paused_and_goes_on_without_a_look_at_what_waits_in_other_lines() {
    let (house, app) = (House::new(), app());
    let client = house.client(&app);
    let fill = |n| client.enqueue(act("fine", "ok")).queue(format!("queue {n}")).into_future();
    futures::future::try_join_all((0..1_000).map(fill)).await.unwrap();
    for what in [Pausable::Type("Other".into()), Pausable::Queue("other".into()), Pausable::Queue("queue 7".into())] {
        client.pause(what.clone()).await.unwrap();
        client.resume(what).await.unwrap();
    }
    let cost = house.store.meters().by_verb()["set paused"].max;
    assert!(cost.rows <= 2 && cost.calls <= 10, "{cost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bad_row_ends_the_creation_with_its_number_and_leaves_nothing() {
    let (house, app) = (House::new(), app());
    let error = house.client(&app).start(Broken).await.unwrap_err();
    assert!(error.to_string().contains("row 77777 of step Act: ragged"), "{error}");
    // Nobody renews what had been written; it is collected within two leases.
    let worker = house.worker(&app).await;
    let left = || async { house.store.doctor().await.unwrap().findings.len() };
    let list = house.store.workflows(List { limit: 5, ..List::default() }).await.unwrap();
    assert!(list.is_empty());
    while house.under_way().await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(left().await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_beyond_the_size_limit_is_refused_and_one_within_runs() {
    let (house, app) = (House::new(), app());
    let error = house.client(&app).start(Rows { rows: 2, bytes: MAX_JOB_BYTES }).await.unwrap_err();
    assert!(error.to_string().contains("at most 262144 are allowed"), "{error}");
    let worker = house.worker(&app).await;
    let done = house.client(&app).start(Rows { rows: 20, bytes: 200_000 }).await.unwrap().wait().await.unwrap();
    assert_eq!(done.state, WorkflowState::Succeeded);
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_the_app_lacks_is_named_with_the_line_to_add() {
    let house = House::new();
    let error = house.client(&App::stateless()).start(Rows { rows: 1, bytes: 1 }).await.unwrap_err();
    assert!(error.to_string().contains("add .job::<Act>() to the App"), "{error}");
}
