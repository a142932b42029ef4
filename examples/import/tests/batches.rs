//! What `list`, `show` and `why` say of batches that another program has made: one that is held open, one that was abandoned, one whose callback
//! waits for a worker.

use std::path::Path;
use std::process::Command;

use gusher::prelude::*;
use gusher::{CancellationToken, WorkerOptions, WorkflowId};

#[derive(Serialize, Deserialize)]
struct ReadPage {
    page: u32,
}
impl Job for ReadPage {
    const NAME: &str = "ReadPage";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Tell;
impl Job for Tell {
    const NAME: &str = "Tell";
    const QUEUE: &str = "mail";
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

fn app() -> App {
    App::stateless().job::<ReadPage>().job::<Tell>()
}

/// Runs the pages of batches, and no mail.
async fn work_until(folder: &Path, has_come: impl AsyncFn() -> bool) {
    let options = WorkerOptions { queues: Some(vec![ReadPage::QUEUE.to_owned()]), ..WorkerOptions::default() };
    let store = gusher::store::open(&store(folder)).await.unwrap();
    let (worker, stop) = (app().worker_on(store, options).await.unwrap(), CancellationToken::new());
    let worker = tokio::spawn(worker.run(stop.clone()));
    while !has_come().await {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    worker.await.unwrap().unwrap();
}

fn store(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("gusher.db").display())
}

/// What the program says.
fn told(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_import"));
    command.args(arguments).current_dir(folder).env_remove("GUSHER_STORE").env_remove("IMPORT_DB");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

struct Place {
    folder: tempfile::TempDir,
    client: Client,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = app().client(&store(folder.path())).await.unwrap();
        Self { folder, client }
    }

    async fn nightly(&self) -> gusher::OpenBatch {
        let night = self.client.batch("nightly").on_success(Tell).on_complete(Tell).open().await.unwrap();
        night.add_each((1..=3).map(|page| ReadPage { page })).await.unwrap();
        night
    }

    fn says(&self, arguments: &[&str], words: &[&str]) {
        let told = told(self.folder.path(), arguments);
        for words in words {
            assert!(told.contains(words), "{arguments:?} does not say `{words}`: {told}");
        }
    }

    async fn is_read(&self, id: WorkflowId) -> bool {
        self.client.find_batch(id).await.unwrap().step("ReadPage").await.unwrap().jobs.succeeded == 3
    }
}

#[tokio::test]
async fn of_a_batch_that_is_held_open_they_say_by_whom() {
    let place = Place::new().await;
    let night = place.nightly().await;
    let id = night.id().to_string();
    place.says(&["list"], &[&id, "nightly (open batch)"]);
    place.says(&["show", &id], &["held open by its client, which adds jobs", "on_success", "ReadPage", "3"]);
    place.says(&["why", &id], &["`batch`, which is held open", "no live worker that knows `ReadPage`"]);
    work_until(place.folder.path(), async || place.is_read(night.id()).await).await;
    place.says(&["why", &format!("{id}/on_success")], &["`on_success` waits for `batch`, which is held open"]);
    place.says(&["show", &id, "--json"], &["\"batch\":\"open\""]);
}

#[tokio::test]
async fn of_a_batch_that_was_abandoned_they_say_what_is_missing_and_discard_lets_it_go_on() {
    let place = Place::new().await;
    let night = place.nightly().await;
    let id = night.id();
    drop(night);
    let night = place.client.find_batch(id).await.unwrap();
    while !night.is_abandoned().await.unwrap() {
        tokio::task::yield_now().await;
    }
    let name = id.to_string();
    place.says(&["list"], &["nightly (abandoned batch)"]);
    place.says(&["show", &name], &["abandoned: its client ended without closing it"]);
    place.says(&["why", &name], &["no live worker that knows `ReadPage`"]);
    work_until(place.folder.path(), async || night.step("batch").await.unwrap().state.is_settled()).await;
    let discard = format!("discard {name} batch");
    place.says(&["why", &format!("{name}/on_success")], &["`batch`, which failed: it was abandoned", &discard]);
    place.says(&["discard", &name, "batch"], &["1"]);
    place.says(&["why", &format!("{name}/on_success")], &["queue `mail` has no live worker that knows `Tell`"]);
}

#[tokio::test]
async fn of_a_batch_that_waits_for_its_callback_they_say_that_nobody_runs_it() {
    let place = Place::new().await;
    let night = place.nightly().await;
    let id = night.id().to_string();
    night.close().await.unwrap();
    place.says(&["list"], &["nightly (batch)"]);
    place.says(&["show", &id], &["closed by its client; its jobs may add others"]);
    // Of the jobs that it waits for more is told than that.
    assert!(!told(place.folder.path(), &["why", &id]).contains("`batch`"));
    work_until(place.folder.path(), async || night.step("batch").await.unwrap().state.is_settled()).await;
    place.says(&["why", &id], &["`on_complete` runs", "queue `mail` has no live worker that knows `Tell`"]);
}
