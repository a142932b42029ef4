//! Schedules as a program sees them: declared, fired by workers, looked at and changed.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gusher::prelude::*;
use gusher::schedule::{Missed, OccurrenceView, Schedule};
use gusher::store::OccurrenceState;
use gusher::store::sqlite::{Options, SqliteStore};
use gusher::{CancellationToken, Clock, ErrorKind, Handle, Millis, WorkflowState};
use support::House;
use support::act::{Act, Shared, Stage};
use support::until::until;

const HOUR: Millis = 3_600_000;
const SECOND: Duration = Duration::from_secs(1);

/// A workflow of one job, which does what it is told.
#[derive(Serialize, Deserialize)]
struct Import {
    day: String,
    does: String,
}
impl Workflow for Import {
    const NAME: &str = "Import";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        if self.does == "cannot be built" {
            flow.run(Act { name: self.day.clone(), does: "ok".into() }).named("import");
        }
        flow.run(Act { name: self.day.clone(), does: self.does.clone() }).named("import");
        Ok(())
    }
}

fn import(does: &str) -> Import {
    Import { day: "{at:%H:%M:%S}".into(), does: does.into() }
}

/// Builds imports; `stage` is what their jobs share.
fn app(stage: &Shared) -> App<Shared> {
    let stage = stage.clone();
    let app = App::new(move || {
        let stage = stage.clone();
        async move { Ok::<_, std::io::Error>(stage) }
    });
    app.job::<Act>().workflow::<Import>()
}

async fn history(client: &Client, name: &str) -> Vec<OccurrenceView> {
    match client.schedule(name).history(None, 10_000).await {
        Ok(mut history) => {
            history.reverse();
            history
        }
        // The worker that will keep it has only begun.
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

/// Waits until so many occurrences of a schedule are in a state.
async fn until_in(client: &Client, name: &str, state: OccurrenceState, count: usize) -> Vec<OccurrenceView> {
    let is_so = |history: &Vec<OccurrenceView>| history.iter().filter(|one| one.state == state).count() >= count;
    until(async || Some(history(client, name).await).filter(is_so)).await
}

/// Fires a schedule by hand at a later instant than `last`: within one millisecond it is one and the same.
async fn run_after(schedule: &Schedule, last: Millis) -> Millis {
    loop {
        let at = schedule.run().await.unwrap();
        if at > last {
            return at;
        }
    }
}

fn states(history: &[OccurrenceView]) -> Vec<OccurrenceState> {
    history.iter().map(|occurrence| occurrence.state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_declares_starts_at_each_instant_once_and_its_history_tells_so() {
    let (house, stage) = (House::new(), Stage::new());
    let app = app(&stage).schedule("often").every(Duration::from_millis(20)).start(import("ok"));
    let client = house.client(&app);
    let workers = [house.worker(&app).await, house.worker(&app).await];
    let history = until_in(&client, "often", OccurrenceState::Started, 20).await;
    client.schedule("often").pause().await.unwrap();
    for worker in workers {
        worker.stop().await;
    }
    assert!(history.windows(2).all(|pair| pair[1].at - pair[0].at == 20), "no instant is left out: {history:?}");
    let ids: BTreeSet<_> = history.iter().filter_map(|occurrence| occurrence.workflow).collect();
    assert_eq!(ids.len(), history.iter().filter(|one| one.state == OccurrenceState::Started).count());
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_told_its_instant_and_the_history_tells_how_it_went() {
    let (house, stage) = (House::new(), Stage::new());
    let app = app(&stage);
    let client = house.client(&app);
    let berlin = client.schedule("nightly").cron("0 2 * * *").zone("Europe/Berlin");
    let nightly = berlin.start(Import { day: "{at:%z}".into(), does: "ok".into() }).await.unwrap();
    let at = nightly.run().await.unwrap();
    let worker = house.worker(&app).await;
    let started = until_in(&client, "nightly", OccurrenceState::Started, 1).await.remove(0);
    let handle: Handle = client.find(started.workflow.unwrap()).await.unwrap();
    handle.wait().await.unwrap();
    let offset = stage.ran().remove(0);
    assert!(offset == "+0100" || offset == "+0200", "{offset}");
    let shown = history(&client, "nightly").await.remove(0);
    assert_eq!((shown.at, shown.workflow_state), (at, Some(WorkflowState::Succeeded)));
    assert!(shown.started_at.unwrap() <= shown.finished_at.unwrap());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_occurrence_is_skipped_while_another_one_runs_and_tells_which() {
    let (house, stage) = (House::new(), Stage::new());
    let app = app(&stage);
    let client = house.client(&app);
    let schedule = client.schedule("nightly").cron("0 2 * * *").unless_running().start(import("wait")).await.unwrap();
    let worker = house.worker(&app).await;
    schedule.run().await.unwrap();
    stage.wait_for(1).await;
    let running = until_in(&client, "nightly", OccurrenceState::Started, 1).await[0].workflow;
    schedule.run().await.unwrap();
    let skipped = until_in(&client, "nightly", OccurrenceState::Skipped, 1).await.remove(1);
    assert_eq!(skipped.workflow, running);
    stage.gate.add_permits(2);
    client.find(running.unwrap()).await.unwrap().wait().await.unwrap();
    schedule.run().await.unwrap();
    until_in(&client, "nightly", OccurrenceState::Started, 2).await;
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_wait_start_one_after_the_other_in_order() {
    let (house, stage) = (House::new(), Stage::new());
    let app = app(&stage);
    let client = house.client(&app);
    let waiting = client.schedule("nightly").cron("0 2 * * *").after_running();
    let schedule = waiting.start(Import { day: "{at}".into(), does: "ok".into() }).await.unwrap();
    let worker = house.worker(&app).await;
    let mut last = 0;
    for _ in 0..4 {
        last = run_after(&schedule, last).await;
    }
    let history = until_in(&client, "nightly", OccurrenceState::Started, 4).await;
    let mut rows = Vec::new();
    for occurrence in &history {
        rows.push(client.find(occurrence.workflow.unwrap()).await.unwrap().wait().await.unwrap());
    }
    assert!(rows.windows(2).all(|pair| pair[0].finished_at <= Some(pair[1].created_at)), "one at a time, in order");
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_that_wait_only_one_is_kept_if_that_was_asked_for() {
    let (house, stage) = (House::new(), Stage::new());
    let app = app(&stage);
    let client = house.client(&app);
    let one = client.schedule("nightly").cron("0 2 * * *").once_after_running();
    let schedule = one.start(import("wait")).await.unwrap();
    let worker = house.worker(&app).await;
    let mut last = schedule.run().await.unwrap();
    stage.wait_for(1).await;
    for _ in 0..3 {
        last = run_after(&schedule, last).await;
    }
    let history = until_in(&client, "nightly", OccurrenceState::Skipped, 2).await;
    use OccurrenceState::{Due, Skipped, Started};
    assert_eq!(states(&history), [Started, Due, Skipped, Skipped]);
    stage.gate.add_permits(2);
    until_in(&client, "nightly", Started, 2).await;
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_one_is_cancelled_if_that_was_asked_for() {
    let (house, stage) = (House::new(), Stage::new());
    let app = app(&stage);
    let client = house.client(&app);
    let schedule = client.schedule("latest").cron("0 2 * * *").instead_of_running();
    let schedule = schedule.start(import("wait for cancel")).await.unwrap();
    let worker = house.worker(&app).await;
    schedule.run().await.unwrap();
    stage.wait_for(1).await;
    schedule.run().await.unwrap();
    let history = until_in(&client, "latest", OccurrenceState::Started, 2).await;
    assert_eq!(history[0].workflow_state, Some(WorkflowState::Cancelled));
    client.find(history[1].workflow.unwrap()).await.unwrap().cancel().await.unwrap();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_told_with_its_error() {
    let (house, stage) = (House::new(), Stage::new());
    let app = app(&stage);
    let client = house.client(&app);
    let broken = client.schedule("nightly").cron("0 2 * * *").unless_running();
    let schedule = broken.start(import("cannot be built")).await.unwrap();
    let worker = house.worker(&app).await;
    schedule.run().await.unwrap();
    let told = until(async || history(&client, "nightly").await.remove(0).error).await;
    assert!(told.contains("two steps are named `import`"));
    worker.stop().await;
    house.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lone_jobs_are_enqueued_at_their_instants() {
    let (house, stage) = (House::new(), Stage::new());
    let mail = Act { name: "{at}".into(), does: "ok".into() };
    let app = app(&stage).schedule("mail").every(Duration::from_millis(10)).queue("mails").priority(3).enqueue(mail);
    let client = house.client(&app);
    let options = gusher::WorkerOptions { queues: Some(vec!["mails".into()]), ..gusher::WorkerOptions::default() };
    let worker = house.worker_with(&app, options).await;
    until(async || (stage.ran().len() >= 5).then_some(())).await;
    worker.stop().await;
    let lanes = client.lanes().await.unwrap();
    assert!(lanes.iter().any(|lane| lane.queue == "mails" && lane.priority == 3), "{lanes:?}");
    assert_eq!(stage.ran().iter().collect::<BTreeSet<_>>().len(), stage.ran().len(), "each instant once");
}

/// A store whose clock a test moves.
fn at_a_time(now: Millis) -> (Arc<SqliteStore>, Clock) {
    let clock = Clock::manual(now);
    let options = Options { clock: clock.clone(), lease: SECOND, ..Options::in_memory() };
    (Arc::new(SqliteStore::open(options).unwrap()), clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_weekend_without_workers_the_last_night_is_made_up_for_and_the_others_are_on_record() {
    let stage = Stage::new();
    let (store, clock) = at_a_time(0);
    let app = app(&stage);
    let client = app.client_on(store.clone());
    for (name, missed) in [("last", Missed::Last), ("all", Missed::All(2)), ("none", Missed::None)] {
        let nightly = client.schedule(name).cron("0 2 * * *").missed(missed);
        nightly.start(Import { day: "{at:%d}".into(), does: "ok".into() }).await.unwrap();
    }
    clock.advance(3 * 24 * HOUR + 5 * HOUR);
    let stop = CancellationToken::new();
    let worker = app.worker_on(store.clone(), gusher::WorkerOptions::default()).await.unwrap();
    let running = tokio::spawn(worker.run(stop.clone()));
    use OccurrenceState::{Missed as Gone, Started};
    assert_eq!(states(&until_in(&client, "last", Started, 1).await), [Gone, Started]);
    assert_eq!(states(&until_in(&client, "all", Started, 2).await), [Gone, Started, Started]);
    let none = until_in(&client, "none", Gone, 1).await.remove(0);
    assert_eq!((none.at, none.to, none.count), (2 * HOUR, (3 * 24 + 2) * HOUR, 4));
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// A workflow whose arguments are no text.
#[derive(Serialize, Deserialize)]
struct ImportYear {
    year: YearAsText,
}
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct YearAsText(u16);
impl TryFrom<String> for YearAsText {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}
impl From<YearAsText> for String {
    fn from(year: YearAsText) -> Self {
        year.0.to_string()
    }
}
impl Workflow for ImportYear {
    const NAME: &str = "ImportYear";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(Act { name: self.year.0.to_string(), does: "ok".into() });
        Ok(())
    }
}

#[tokio::test]
async fn arguments_that_only_an_instant_makes_whole_are_checked_with_one() {
    let (store, _) = at_a_time(0);
    let client = app(&Stage::new()).workflow::<ImportYear>().client_on(store);
    let named = |arguments: &str| {
        let arguments = serde_json::value::RawValue::from_string(arguments.to_owned()).unwrap();
        client.schedule("yearly").cron("@yearly").start_named("ImportYear", &arguments)
    };
    named(r#"{"year":"{at:%Y}"}"#).await.unwrap();
    let error = named(r#"{"year":"{at:%B}"}"#).await.unwrap_err().to_string();
    assert!(error.contains("schedule `yearly`: the arguments do not fit the workflow ImportYear"), "{error}");
}

#[tokio::test]
async fn one_that_is_declared_and_not_kept_yet_says_what_keeps_it() {
    let (store, _) = at_a_time(0);
    let client = app(&Stage::new()).schedule("hourly").cron("@hourly").start(import("ok")).client_on(store);
    let error = client.schedule("hourly").run().await.unwrap_err().to_string();
    assert!(error.contains("not kept in this store yet: a worker does that when it starts"), "{error}");
}

#[tokio::test]
async fn a_schedule_is_changed_paused_resumed_and_removed_while_it_is_there() {
    let (store, clock) = at_a_time(0);
    let app = app(&Stage::new());
    let client = app.client_on(store.clone());
    let hourly = || client.schedule("hourly").cron("0 * * * *");
    let schedule = hourly().start(import("ok")).await.unwrap();
    assert_eq!(schedule.status().await.unwrap().next, Some(HOUR));
    clock.advance(5 * HOUR + 1);
    hourly().start(import("fail")).await.unwrap();
    let changed = schedule.status().await.unwrap();
    assert_eq!((changed.next, changed.action.as_str()), (Some(HOUR), "start Import"), "with the same rule it goes on");
    assert!(changed.arguments.contains("fail"));
    client.schedule("hourly").cron("30 * * * *").start(import("ok")).await.unwrap();
    assert_eq!(schedule.status().await.unwrap().next, Some(5 * HOUR + HOUR / 2), "with another one it begins anew");
    schedule.pause().await.unwrap();
    client.schedule("hourly").cron("15 * * * *").start(import("ok")).await.unwrap();
    assert!(schedule.status().await.unwrap().paused, "it stays paused");
    clock.advance(10 * HOUR);
    schedule.resume().await.unwrap();
    let resumed = schedule.status().await.unwrap();
    assert_eq!((resumed.next, resumed.paused), (Some(15 * HOUR + HOUR / 4), false));
    assert_eq!(client.schedules().await.unwrap().len(), 1);
    schedule.remove().await.unwrap();
    assert!(client.schedules().await.unwrap().is_empty());
    let error = client.schedule("hourli").pause().await.unwrap_err();
    assert_eq!(error.to_string(), "there is no schedule `hourli`");
}

#[test]
fn what_cannot_be_is_refused_when_it_is_declared_with_its_place() {
    let refused = |app: App<Shared>| app.check().unwrap_err().to_string();
    let new = || app(&Stage::new());
    let daily = || new().schedule("daily").cron("0 2 * * *");
    for (app, told) in [
        (
            new().schedule("daily").cron("0 25 * * *").start(import("ok")),
            "schedule `daily`: the cron rule `0 25 * * *` is wrong at character 3",
        ),
        (daily().zone("Europe/Berln").start(import("ok")), "did you mean `Europe/Berlin`"),
        (new().schedule("a/b").cron("0 2 * * *").start(import("ok")), "the schedule name `a/b` has the character '/'"),
        (new().schedule("daily").every(SECOND).zone("UTC").start(import("ok")), "a zone belongs to a cron rule"),
        (daily().key("eu").start(import("ok")), "it needs unless_running"),
        (daily().missed(Missed::All(501)).start(import("ok")), "1 to 500 instants"),
        (
            daily().start(import("ok")).schedule("daily").every(SECOND).start(import("ok")),
            "two schedules are named `daily`",
        ),
        (daily().unless_running().enqueue(Act { name: "a".into(), does: "ok".into() }), "only workflows overlap"),
        (daily().start(Import { day: "{at:%!}".into(), does: "ok".into() }), "`%!` is no format of a time"),
        (daily().enqueue(Unregistered), "the type `Unregistered` is not registered"),
        (new().job::<Keyed>().schedule("daily").every(SECOND).enqueue(Keyed), "a schedule enqueues no `Keyed`"),
    ] {
        let error = refused(app);
        assert!(error.contains(told), "{error}");
    }
}

#[derive(Serialize, Deserialize)]
struct Keyed;
impl Job for Keyed {
    const NAME: &str = "Keyed";
    const LIMIT_PER_KEY: Limit = Limit::at_once(1);
    type Output = ();
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Unregistered;
impl Job for Unregistered {
    const NAME: &str = "Unregistered";
    type Output = ();
    type State = Shared;
    async fn perform(self, _: &Context<Shared>) -> JobResult<()> {
        Ok(())
    }
}
