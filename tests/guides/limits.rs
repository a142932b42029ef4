//! docs/limits.md

use super::*;
use gusher::Limit;

#[derive(Serialize, Deserialize)]
struct Geocode;

impl Job for Geocode {
    const NAME: &str = "Geocode";
    const LIMIT: Limit = Limit::at_once(20).and_rate(100, Duration::from_secs(60));
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

fn app() -> App {
    App::stateless().job::<Geocode>().queue("imports").limit(Limit::at_once(5))
}

#[derive(Serialize, Deserialize)]
struct Call;

impl Job for Call {
    const NAME: &str = "Call";
    const LIMIT: Limit = Limit::rate(100, Duration::from_secs(60));
    type Output = ();
    type State = ();
    async fn perform(self, _: &Context) -> JobResult<()> {
        Ok(())
    }
}

fn few_mails(app: App) -> App {
    app.queue("mail").limit(Limit::at_once(8))
}

#[test]
fn limits_are_two_lines() {
    app().check().unwrap();
    few_mails(app().job::<Call>()).check().unwrap();
    assert_eq!(Call::LIMIT.starts().map(|rate| (rate.starts, rate.period)), Some((100, 60_000)));
}
