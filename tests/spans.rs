//! What a job and its hooks log, with the span around it. Alone in its program: whether a span is wanted is remembered for all threads.

mod support;

use std::sync::Arc;

use gusher::prelude::*;
use gusher::{AroundPerform, Next, Performed};
use support::House;

/// Logs a line.
#[derive(Serialize, Deserialize)]
struct Weigh {
    grams: u32,
}

impl Job for Weigh {
    const NAME: &str = "Weigh";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        tracing::info!(grams = self.grams, "weighing");
        tokio::task::yield_now().await;
        tracing::info!("weighed");
        Ok(())
    }
}

/// Logs a line before each job.
struct Announce;

impl AroundPerform<()> for Announce {
    async fn around(&self, _: &Context, next: Next<'_>) -> JobResult<Performed> {
        tracing::info!("about to weigh");
        next.run().await
    }
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_a_job_logs_is_told_with_what_it_is() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::DEBUG);
    let _during = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let house = House::new();
    let app = App::stateless().job::<Weigh>().around_perform(Announce);
    let worker = house.worker(&app).await;
    let weigh = house.client(&app).enqueue(Weigh { grams: 7 }).await.unwrap();
    weigh.wait().await.unwrap();
    worker.stop().await;
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("weigh")).collect();
    let lane = weigh.id().lane;
    let span =
        format!("job{{type=\"Weigh\" workflow={lane} workflow_name=\"Weigh\" step=\"Weigh\" index=0 attempt=1}}");
    assert!(told.len() == 3 && told.iter().all(|line| line.contains(&span)), "{log}");
}
