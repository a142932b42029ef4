//! In which order a worker takes from its queues: on a file and on a Redis server.

#[path = "servers/mod.rs"]
mod servers;
mod support;

use std::sync::Arc;

use gusher::prelude::*;
use gusher::store::Store;
use gusher::{CancellationToken, QueueOrder, WorkerOptions};
use servers::Server;
use support::House;
use support::act::{Act, Shared, Stage, act};
use support::until::until;

/// A store, and what runs on it.
struct Post {
    store: Arc<dyn Store>,
    stage: Shared,
    app: App<Shared>,
    client: Client,
    _place: Box<dyn std::any::Any>,
}

impl Post {
    fn on(store: Arc<dyn Store>, place: Box<dyn std::any::Any>) -> Self {
        let stage = Stage::new();
        let shared = stage.clone();
        let app = App::new(move || std::future::ready(Ok::<_, std::io::Error>(shared.clone()))).job::<Act>();
        Self { client: app.client_on(store.clone()), store, stage, app, _place: place }
    }

    fn on_a_file() -> Self {
        let house = House::new();
        Self::on(house.store.clone(), Box::new(house))
    }

    async fn on_redis() -> Self {
        let server = Server::redis();
        let store = gusher::store::open(&server.url()).await.unwrap();
        Self::on(store, Box::new(server))
    }

    /// So many jobs into each of these queues, in turns.
    async fn fill(&self, queues: &[&str], jobs: usize) {
        for n in 0..jobs {
            for queue in queues {
                self.client.enqueue(act(format!("{queue} {n}"), "ok")).queue(*queue).await.unwrap();
            }
        }
    }

    /// From which queue each job was that a worker with one slot ran until nothing was left, in that order.
    async fn worked_off(&self, queues: &[&str], order: QueueOrder, jobs: usize) -> Vec<String> {
        let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
        let options = WorkerOptions { slots: 1, queues: Some(queues), order, ..WorkerOptions::default() };
        let worker = self.app.worker_on(self.store.clone(), options).await.unwrap();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        until(async || (self.stage.ran().len() == jobs).then_some(())).await;
        // What comes once all are empty wakes the worker, whatever its queue.
        self.client.enqueue(act("later last", "ok")).queue("later").await.unwrap().wait().await.unwrap();
        stop.cancel();
        worker.await.unwrap().unwrap();
        let checkup = self.store.doctor().await.unwrap();
        assert_eq!((checkup.findings, checkup.under_way), (vec![], 0));
        let queue_of = |ran: &String| ran.split(' ').next().unwrap().to_owned();
        self.stage.ran()[..jobs].iter().map(queue_of).collect()
    }
}

async fn in_strict_order_nothing_of_a_queue_runs_while_one_before_it_has_anything(post: Post) {
    post.fill(&["later", "soon", "first"], 5).await;
    let ran = post.worked_off(&["first", "soon", "later"], QueueOrder::Strict, 15).await;
    assert_eq!(ran, [["first"; 5], ["soon"; 5], ["later"; 5]].concat());
}

/// One claim brings at most 16 of these jobs: the heavy queue is empty after some 40 draws. That the light one came by nothing in
/// that time, or was empty before, has one chance in 50,000.
async fn a_queue_gives_more_the_heavier_it_is_and_none_has_to_wait_for_the_end_of_another(post: Post) {
    const JOBS: usize = 600;
    post.fill(&["later", "first"], JOBS).await;
    let ran = post.worked_off(&["first", "later"], QueueOrder::Weights(vec![3, 1]), 2 * JOBS).await;
    let end_of_heavy = ran.iter().rposition(|queue| queue == "first").unwrap();
    let light = ran[..end_of_heavy].iter().filter(|queue| *queue == "later").count();
    assert!((1..JOBS).contains(&light), "{light} of the light queue ran before the heavy one was empty");
}

macro_rules! on_both {
    ($($case:ident)+) => {
        mod on_a_file {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(super::Post::on_a_file()).await;
            })+
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(super::Post::on_redis().await).await;
            })+
        }
    };
}

on_both! {
    in_strict_order_nothing_of_a_queue_runs_while_one_before_it_has_anything
    a_queue_gives_more_the_heavier_it_is_and_none_has_to_wait_for_the_end_of_another
}

#[tokio::test]
async fn an_order_without_queues_is_refused() {
    let post = Post::on_a_file();
    let options = WorkerOptions { order: QueueOrder::Strict, ..WorkerOptions::default() };
    let refused = post.app.worker_on(post.store.clone(), options).await.unwrap().run(CancellationToken::new()).await;
    assert!(refused.unwrap_err().to_string().contains("needs their names"));
}
