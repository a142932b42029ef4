//! In which order a worker takes from its queues: on a file and on a Redis server.

#[macro_use]
#[path = "support/place.rs"]
mod place;
#[path = "servers/mod.rs"]
mod servers;
mod support;

use gusher::prelude::*;
use gusher::{CancellationToken, QueueOrder, WorkerOptions};
use place::Place;
use support::act::{Act, Shared, Stage, act};
use support::until::until;

/// Each with a key of its own, since such jobs are not fetched ahead.
#[derive(Serialize, Deserialize)]
struct Visit {
    queue: String,
    n: u32,
}
impl Job for Visit {
    const NAME: &str = "Visit";
    const LIMIT_PER_KEY: Limit = Limit::at_once(1);
    type Output = ();
    type State = Shared;
    fn key(&self) -> Option<String> {
        Some(format!("{} {}", self.queue, self.n))
    }
    async fn perform(self, ctx: &Context<Shared>) -> JobResult<()> {
        ctx.state().add(self.queue);
        Ok(())
    }
}

/// A store, and what runs on it.
struct Post {
    place: Place,
    stage: Shared,
    app: App<Shared>,
    client: Client,
}

impl Post {
    async fn on(place: Place) -> Self {
        let stage = Stage::new();
        let shared = stage.clone();
        let app =
            App::new(move || std::future::ready(Ok::<_, std::io::Error>(shared.clone()))).job::<Act>().job::<Visit>();
        Self { client: app.client_on(place.store.clone()), place, stage, app }
    }

    /// What a worker with one slot ran until nothing of these queues was left, in that order.
    async fn worked_off(&self, queues: &[&str], order: QueueOrder, jobs: usize) -> Vec<String> {
        let named = queues.iter().map(|queue| (*queue).to_owned()).collect();
        let options = WorkerOptions { slots: 1, queues: Some(named), order, ..WorkerOptions::default() };
        let worker = self.app.worker_on(self.place.store.clone(), options).await.unwrap();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        until(async || (self.stage.ran().len() == jobs).then_some(())).await;
        // What comes once all are empty wakes the worker, whatever its queue.
        self.client.enqueue(act("last", "ok")).queue(queues[queues.len() - 1]).await.unwrap().wait().await.unwrap();
        stop.cancel();
        worker.await.unwrap().unwrap();
        self.place.check_at_rest().await;
        self.stage.ran()[..jobs].to_vec()
    }
}

async fn in_strict_order_nothing_of_a_queue_runs_while_one_before_it_has_anything(post: Post) {
    for _ in 0..5 {
        for queue in ["later", "soon", "first"] {
            post.client.enqueue(act(queue, "ok")).queue(queue).await.unwrap();
        }
    }
    let ran = post.worked_off(&["first", "soon", "later"], QueueOrder::Strict, 15).await;
    assert_eq!(ran, [["first"; 5], ["soon"; 5], ["later"; 5]].concat());
}

/// Each claim of a worker with one slot brings one of these jobs, so each job is a draw by weight: some 100 of the light queue run beside
/// the 300 of the heavy one, and the chance of less than 45 or more than 170 is below one in a million. In turns there would be 299,
/// in strict order none.
async fn a_queue_with_three_times_the_weight_gives_three_times_as_much(post: Post) {
    for n in 0..300 {
        for queue in ["light", "heavy"] {
            post.client.enqueue(Visit { queue: queue.to_owned(), n }).queue(queue).await.unwrap();
        }
    }
    let ran = post.worked_off(&["heavy", "light"], QueueOrder::Weights(vec![3, 1]), 600).await;
    let end_of_heavy = ran.iter().rposition(|queue| queue == "heavy").unwrap();
    let light = ran[..end_of_heavy].iter().filter(|queue| *queue == "light").count();
    assert!((45..=170).contains(&light), "{light} of the light queue ran before the heavy one was empty");
}

on_both! {
    Post::on, on Redis with 1 shard(s):
    in_strict_order_nothing_of_a_queue_runs_while_one_before_it_has_anything()
    a_queue_with_three_times_the_weight_gives_three_times_as_much()
}

#[tokio::test]
async fn an_order_without_queues_is_refused() {
    let post = Post::on(Place::in_a_file()).await;
    let options = WorkerOptions { order: QueueOrder::Strict, ..WorkerOptions::default() };
    let worker = post.app.worker_on(post.place.store.clone(), options).await.unwrap();
    let refused = worker.run(CancellationToken::new()).await.unwrap_err();
    assert!(refused.to_string().contains("needs their names"), "{refused}");
}
