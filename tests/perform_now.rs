//! Jobs that are performed in the caller's process, at once.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gusher::prelude::*;
use gusher::testing::Simulation;
use gusher::{AroundPerform, ErrorKind, Next, Performed};
use support::House;

/// What the jobs of the application share.
#[derive(Default)]
struct Till {
    entries: AtomicU32,
    made: AtomicU32,
    bell: (Mutex<bool>, Condvar),
}

impl Till {
    fn ring(&self) {
        *self.bell.0.lock().unwrap() = true;
        self.bell.1.notify_all();
    }
}

/// The application's state: made anew by each worker, and once by a client that performs jobs.
type Shared = Arc<Till>;

/// Books an amount, and tells what it knows of itself.
#[derive(Serialize, Deserialize)]
struct Book {
    cents: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Booked {
    entry: u32,
    attempt: u32,
    key: String,
}

#[derive(Debug, thiserror::Error)]
#[error("nothing to book")]
struct Nothing;

impl Job for Book {
    const NAME: &str = "Book";
    type Output = Booked;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<Booked> {
        match self.cents {
            0 => Err(Nothing)?,
            ..0 => panic!("a negative amount"),
            _ => {}
        }
        ctx.progress(1, 1);
        ctx.log("booked");
        assert_eq!(ctx.last_checkpoint::<u32>().await?, None);
        ctx.checkpoint(&1).await?;
        let entry = ctx.state().entries.fetch_add(1, Ordering::SeqCst);
        Ok(Booked { entry, attempt: ctx.attempt(), key: ctx.idempotency_key() })
    }
}

/// Books both sides of a transfer within itself, and enqueues a receipt.
#[derive(Serialize, Deserialize)]
struct Transfer {
    cents: i64,
}

impl Job for Transfer {
    const NAME: &str = "Transfer";
    type Output = (u32, u32);
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<(u32, u32)> {
        let from = ctx.perform_now(Book { cents: self.cents }).await?;
        let to = ctx.perform_now(Book { cents: self.cents }).await?;
        assert_ne!(from.key, to.key);
        ctx.enqueue(Receipt).await?;
        Ok((from.entry, to.entry))
    }
}

/// Blocks its thread until the bell rings.
#[derive(Serialize, Deserialize)]
struct Receipt;

impl Job for Receipt {
    const NAME: &str = "Receipt";
    const BLOCKING: bool = true;
    type Output = bool;
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<bool> {
        let (rung, bell) = &ctx.state().bell;
        let waits = |rung: &mut bool| !*rung;
        Ok(*bell.wait_timeout_while(rung.lock().unwrap(), Duration::from_secs(60), waits).unwrap().0)
    }
}

/// Hangs until it is told to stop; counts down by performing others of its own type.
#[derive(Serialize, Deserialize)]
struct Nested {
    depth: u32,
}

impl Job for Nested {
    const NAME: &str = "Nested";
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));
    type Output = ();
    type State = Shared;
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        if self.depth == 0 {
            return std::future::pending().await;
        }
        ctx.perform_now(Nested { depth: self.depth - 1 }).await
    }
}

fn app(till: &Shared) -> App<Shared> {
    let till = till.clone();
    App::new(move || {
        let till = till.clone();
        async move {
            till.made.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::convert::Infallible>(till)
        }
    })
    .job::<Book>()
    .job::<Transfer>()
    .job::<Receipt>()
    .job::<Nested>()
}

#[tokio::test]
async fn a_job_is_performed_at_once_and_no_store_hears_of_it() {
    let (house, till) = (House::new(), Shared::default());
    let client = house.client(&app(&till));
    let first = client.perform_now(Book { cents: 100 }).await.unwrap();
    let second = client.perform_now(Book { cents: 100 }).await.unwrap();
    assert_eq!((first.entry, first.attempt, second.entry), (0, 1, 1));
    assert_ne!(first.key, second.key, "each is a job of its own");
    assert_eq!(till.made.load(Ordering::SeqCst), 1, "the state is made once");
    assert!(client.lanes().await.unwrap().is_empty());
    assert_eq!(house.under_way().await, 0);
}

#[tokio::test]
async fn an_error_comes_back_as_it_was_and_is_not_tried_again() {
    let (house, till) = (House::new(), Shared::default());
    let client = house.client(&app(&till));
    let error = client.perform_now(Book { cents: 0 }).await.unwrap_err();
    assert!(error.is::<Nothing>());
    assert_eq!(till.entries.load(Ordering::SeqCst), 0);

    let by_whom = async { Ok::<Booked, gusher::Error>(client.perform_now(Book { cents: 0 }).await?) };
    let error = by_whom.await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Failed, "nothing to book"));
}

#[tokio::test]
async fn a_panic_is_an_error() {
    let client = House::new().client(&app(&Shared::default()));
    let error = client.perform_now(Book { cents: -1 }).await.unwrap_err();
    assert_eq!(error.to_string(), "panicked: a negative amount");
}

#[test]
fn a_time_limit_is_kept() {
    let simulation = Simulation::new(app(&Shared::default()));
    let played = simulation.without_workers().play(async |client| {
        let error = client.perform_now(Nested { depth: 0 }).await.unwrap_err();
        assert_eq!(error.to_string(), "timed out: the attempt took longer than 60s");
        Ok(())
    });
    let played = played.unwrap();
    assert!(played.elapsed() >= Duration::from_secs(60), "{:?}", played.elapsed());
    assert_eq!(played.ran::<Nested>(), 1);
}

#[test]
fn a_job_within_a_job_is_told_when_that_one_is() {
    let simulation = Simulation::new(app(&Shared::default()));
    let played = simulation.without_workers().play(async |client| {
        let error = client.perform_now(Nested { depth: 3 }).await.unwrap_err();
        assert!(error.to_string().contains("timed out"), "{error}");
        Ok(())
    });
    assert_eq!(played.unwrap().ran::<Nested>(), 4);
}

#[tokio::test]
async fn a_job_performs_others_with_its_own_state_and_its_client_works() {
    let (house, till) = (House::new(), Shared::default());
    till.ring();
    let app = app(&till);
    let client = house.client(&app);
    assert_eq!(client.perform_now(Transfer { cents: 5 }).await.unwrap(), (0, 1));
    assert_eq!(client.lanes().await.unwrap()[0].jobs.total, 1, "the receipt");

    let worker = house.worker(&app).await;
    assert_eq!(client.enqueue(Transfer { cents: 5 }).await.unwrap().wait().await.unwrap(), (2, 3));
    worker.stop().await;
    assert_eq!(till.made.load(Ordering::SeqCst), 2, "once for the client, and once for the worker and its jobs");
    house.check().await;
}

#[tokio::test]
async fn a_blocking_job_does_not_block_the_caller() {
    let till = Shared::default();
    let client = House::new().client(&app(&till));
    let (receipt, ()) = tokio::join!(client.perform_now(Receipt), async { till.ring() });
    assert!(receipt.unwrap(), "the bell could not be rung meanwhile");
}

#[tokio::test]
async fn hooks_are_around_it() {
    struct CountsTen;
    impl AroundPerform<Shared> for CountsTen {
        async fn around(&self, ctx: &Context<Shared>, next: Next<'_>) -> JobResult<Performed> {
            ctx.state().entries.fetch_add(10, Ordering::SeqCst);
            next.run().await
        }
    }
    let client = House::new().client(&app(&Shared::default()).around_perform(CountsTen));
    assert_eq!(client.perform_now(Book { cents: 1 }).await.unwrap().entry, 10);
}

#[tokio::test]
async fn a_job_of_another_application_is_refused() {
    let client = House::new().client(&App::stateless());
    let error = client.perform_now(Book { cents: 1 }).await.unwrap_err().to_string();
    assert!(error.contains("Book cannot be performed by this client: its State is"), "{error}");
}
