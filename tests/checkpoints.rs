//! Jobs that go on from where they were: after a retry, a deploy, a killed worker.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gusher::prelude::*;
use gusher::testing::{UnsafeJob, torture};
use gusher::{ErrorKind, WorkerOptions};
use support::House;
use tokio::sync::Notify;

const PAGES: u64 = 5;

/// What jobs tell a test: how many pages were read, from where attempts went on, and that one is in its midst.
#[derive(Default)]
struct Shared {
    pages: AtomicU64,
    from: AtomicU64,
    midst: Notify,
}

#[derive(Serialize, Deserialize)]
struct Cursor {
    page: u64,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Way {
    Straight,
    /// The first attempt fails in the midst.
    Fails,
    /// The first attempt waits in the midst until it is told to stop.
    Waits,
}

/// Reads pages, and saves behind each of them how far it is.
#[derive(Serialize, Deserialize)]
struct Read {
    way: Way,
}
impl Job for Read {
    const NAME: &str = "Read";
    const RETRY: Retry = Retry::every(Duration::from_millis(1));
    type Output = u64;
    type State = Arc<Shared>;
    async fn perform(self, ctx: &Context<Arc<Shared>>) -> JobResult<u64> {
        let shared = ctx.state();
        let from = ctx.last_checkpoint::<Cursor>().await?.map_or(0, |cursor| cursor.page);
        shared.from.fetch_max(from, Ordering::SeqCst);
        for page in from..PAGES {
            shared.pages.fetch_add(1, Ordering::SeqCst);
            ctx.checkpoint(&Cursor { page: page + 1 }).await?;
            if page == 2 && from == 0 {
                match self.way {
                    Way::Straight => {}
                    Way::Fails => return Err(JobError::new("in the midst")),
                    Way::Waits => {
                        shared.midst.notify_one();
                        ctx.cancellation().cancelled().await;
                        return Err(JobError::new("told to stop"));
                    }
                }
            }
        }
        Ok(from)
    }
}

/// Saves what the next version of its type cannot read.
#[derive(Serialize, Deserialize)]
struct Changed;
impl Job for Changed {
    const NAME: &str = "Changed";
    type Output = ();
    type State = Arc<Shared>;
    async fn perform(self, ctx: &Context<Arc<Shared>>) -> JobResult<()> {
        ctx.checkpoint(&serde_json::json!({ "page": "three" })).await?;
        let error = match ctx.last_checkpoint::<Cursor>().await {
            Ok(_) => return Err(JobError::fatal("it fits")),
            Err(error) => error,
        };
        Err(JobError::fatal(error))
    }
}

/// Saves more than there may be.
#[derive(Serialize, Deserialize)]
struct Large;
impl Job for Large {
    const NAME: &str = "Large";
    type Output = ();
    type State = Arc<Shared>;
    async fn perform(self, ctx: &Context<Arc<Shared>>) -> JobResult<()> {
        ctx.checkpoint(&"x".repeat(300_000)).await.fatal()
    }
}

fn app_on(shared: Arc<Shared>) -> App<Arc<Shared>> {
    App::new(move || {
        let shared = shared.clone();
        async move { Ok::<_, std::convert::Infallible>(shared) }
    })
    .job::<Read>()
    .job::<Changed>()
    .job::<Large>()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_on_from_the_checkpoint() {
    let (house, shared) = (House::new(), Arc::new(Shared::default()));
    let app = app_on(shared.clone());
    let worker = house.worker(&app).await;
    let read = house.client(&app).enqueue(Read { way: Way::Fails }).await.unwrap();
    assert_eq!(read.wait().await.unwrap(), 3, "the second attempt began behind the third page");
    assert_eq!(shared.pages.load(Ordering::SeqCst), PAGES, "no page was read twice");
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_goes_on_from_the_checkpoint() {
    let (house, shared) = (House::new(), Arc::new(Shared::default()));
    let app = app_on(shared.clone());
    let options = WorkerOptions { patience: Duration::from_millis(1), ..WorkerOptions::default() };
    let worker = house.worker_with(&app, options).await;
    let read = house.client(&app).enqueue(Read { way: Way::Waits }).await.unwrap();
    shared.midst.notified().await;
    worker.stop().await;
    let worker = house.worker(&app).await;
    assert_eq!(read.wait().await.unwrap(), 3);
    assert_eq!(shared.pages.load(Ordering::SeqCst), PAGES);
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_deploy_has_changed_is_an_error_that_names_the_field() {
    let (house, app) = (House::new(), app_on(Arc::default()));
    let worker = house.worker(&app).await;
    let error = house.client(&app).enqueue(Changed).await.unwrap().wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    let text = error.to_string();
    assert!(text.contains("at field `page`") && text.contains("begin anew"), "{text}");
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_too_large_is_refused() {
    let (house, app) = (House::new(), app_on(Arc::default()));
    let worker = house.worker(&app).await;
    let error = house.client(&app).enqueue(Large).await.unwrap().wait().await.unwrap_err().to_string();
    assert!(error.contains("checkpoint") && error.contains("262144"), "{error}");
    worker.stop().await;
    house.check().await;
}

#[derive(Serialize, Deserialize)]
struct ReadAll;
impl Workflow for ReadAll {
    const NAME: &str = "ReadAll";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(Read { way: Way::Straight });
        Ok(())
    }
}

/// Every store call is killed before and after, and lost: whoever runs the job next goes on, and all of it gets done.
#[test]
fn a_killed_worker_goes_on_from_the_checkpoint() {
    let furthest = Arc::new(AtomicU64::new(0));
    let look = {
        let furthest = furthest.clone();
        move |shared: &Arc<Shared>| {
            furthest.fetch_max(shared.from.load(Ordering::SeqCst), Ordering::SeqCst);
            shared.pages.load(Ordering::SeqCst) >= PAGES
        }
    };
    let torture = torture(|| Arc::new(Shared::default()), |shared: &Arc<Shared>| app_on(shared.clone()), look);
    let report = torture.run(ReadAll).unwrap();
    // An attempt tells where it began, so one that is repeated returns something else; what has been done is the same.
    let returns = |job: &UnsafeJob| job.difference.contains("returned");
    assert!(report.surprises.is_empty() && report.unsafe_jobs.iter().all(returns), "{report}");
    assert_eq!(furthest.load(Ordering::SeqCst), PAGES, "a kill behind the last page left nothing to be read");
}
