//! docs/schedules.md

use super::*;

#[derive(Serialize, Deserialize)]
struct ImportWorkflow { day: String }

impl Workflow for ImportWorkflow {
    const NAME: &str = "ImportWorkflow";
    fn configure(&self, _: &Flow) -> gusher::Result<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct SendMail { to: String }
does_nothing!((): SendMail);

fn app() -> App {
    App::stateless()
        .workflow::<ImportWorkflow>()
        .schedule("nightly import")
        .cron("0 2 * * *")
        .zone("Europe/Berlin")
        .unless_running()
        .start(ImportWorkflow { day: "{at:%Y-%m-%d}".into() })
}

fn nightly(app: App, import: ImportWorkflow) -> App {
    app.schedule("nightly import").cron("0 2 * * *").zone("Europe/Berlin").unless_running().start(import)
}

fn weekly(app: App, digest: SendMail) -> App {
    app.schedule("digest").cron("0 7 * * MON").zone("Europe/Berlin").enqueue(digest)
}

async fn change(client: &Client) -> gusher::Result<()> {
    let schedule = client.schedule("hourly mail").cron("0 * * * *").enqueue(SendMail { to: "ada@example.org".into() }).await?;
    schedule.pause().await?;
    schedule.resume().await?;
    schedule.run().await?;
    for occurrence in schedule.history(None, 20).await? {
        println!("{} {}", occurrence.at, occurrence.state.as_str());
    }
    schedule.remove().await?;
    Ok(())
}

#[tokio::test]
async fn a_schedule_is_declared_and_changed_in_these_lines() {
    let house = House::new();
    app().check().unwrap();
    let nights = nightly(App::stateless().workflow::<ImportWorkflow>(), ImportWorkflow { day: String::new() });
    weekly(nights.job::<SendMail>(), SendMail { to: String::new() }).check().unwrap();
    let client = house.client(&app().job::<SendMail>());
    change(&client).await.unwrap();
    assert!(client.schedules().await.unwrap().is_empty());
    assert_eq!(client.lanes().await.unwrap()[0].jobs.total, 1);
}
