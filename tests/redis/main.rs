//! What is peculiar to a Redis server: which ones are refused, several stores on one, its limits, and what it forgets.

mod access;
mod cluster;
mod looks;
mod loss;
#[path = "../servers/mod.rs"]
mod servers;

use std::sync::Arc;

use futures::TryStreamExt;
use gusher::prelude::*;
use gusher::store::redis::{Options, RedisStore};
use gusher::store::{Limited, List, Permit, Store, Wanted};
use gusher::{CancellationToken, Client, ErrorKind, Limit, WorkerOptions, WorkflowState};
use servers::Server;

#[derive(Serialize, Deserialize)]
struct Numbers {
    count: u64,
}

impl Workflow for Numbers {
    const NAME: &str = "Numbers";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        let numbers = flow.run_each((0..self.count).map(|n| Number { n }));
        flow.run(Sum { numbers: numbers.outputs() });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Number {
    n: u64,
}

impl Job for Number {
    const NAME: &str = "Number";
    type Output = u64;
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<u64> {
        Ok(self.n)
    }
}

#[derive(Serialize, Deserialize)]
struct Sum {
    numbers: Outputs<u64>,
}

impl Job for Sum {
    const NAME: &str = "Sum";
    type Output = u64;
    type State = ();

    async fn perform(self, ctx: &Context) -> JobResult<u64> {
        self.numbers.stream(ctx).try_fold(0, |sum, (_, n)| async move { Ok(sum + n) }).await
    }
}

fn app() -> App {
    App::new(|| async { Ok::<(), std::convert::Infallible>(()) }).workflow::<Numbers>().job::<Number>().job::<Sum>()
}

async fn open(url: &str) -> Arc<dyn Store> {
    gusher::store::open(url).await.unwrap()
}

async fn refused(url: &str) -> String {
    RedisStore::open(Options::parse(url).unwrap()).await.unwrap_err().to_string()
}

/// A command of the server's own.
fn ask<T: redis::FromRedisValue>(server: &Server, command: &[&str]) -> T {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).unwrap()
}

async fn run_to_its_end(store: &Arc<dyn Store>, client: &Client, count: u64) {
    let stop = CancellationToken::new();
    let worker = app().worker_on(store.clone(), WorkerOptions::default()).await.unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    let run = client.start(Numbers { count }).await.unwrap();
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    let sum = run.job("Sum", 0).await.unwrap().output.unwrap();
    assert_eq!(sum.get(), (0..count).sum::<u64>().to_string());
    stop.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drops_data_by_itself_is_refused_unless_that_is_accepted() {
    let server = Server::redis_with(&["--maxmemory-policy", "allkeys-lru"]);
    let error = refused(&server.url()).await;
    assert!(error.contains("allkeys-lru") && error.contains("set `maxmemory-policy noeviction`"), "{error}");
    open(&format!("{}?eviction=allow", server.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_replica_is_refused() {
    let master = Server::redis();
    let replica = Server::redis_with(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    let error = refused(&replica.url()).await;
    assert!(error.contains("read-only replica; name its master"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_server_is_the_error_says_so() {
    let error = RedisStore::open(Options::new("redis://127.0.0.1:1/0")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_two_prefixes_on_one_server_do_not_see_each_other() {
    let server = Server::redis();
    let (one, other) =
        (open(&format!("{}?prefix=one", server.url())).await, open(&format!("{}?prefix=other", server.url())).await);
    run_to_its_end(&one, &app().client_on(one.clone()), 3_000).await;
    let list = List { limit: 9, ..List::default() };
    assert_eq!(one.workflows(list.clone()).await.unwrap().len(), 1);
    assert!(other.workflows(list).await.unwrap().is_empty());
    assert_eq!(ask::<Vec<String>>(&server, &["KEYS", "other*"]), ["other:shards"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_the_server_forgot_and_connections_that_it_cut_come_back_by_themselves() {
    let server = Server::redis();
    let store = open(&server.url()).await;
    let client = app().client_on(store.clone());
    run_to_its_end(&store, &client, 100).await;
    ask::<()>(&server, &["SCRIPT", "FLUSH"]);
    run_to_its_end(&store, &client, 100).await;
    let stop = CancellationToken::new();
    let worker = app().worker_on(store.clone(), WorkerOptions::default()).await.unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    ask::<u64>(&server, &["CLIENT", "KILL", "TYPE", "normal"]);
    let run = loop {
        // The first call after the cut may find it; it says that it may be repeated.
        match client.start(Numbers { count: 100 }).await {
            Ok(run) => break run,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_at_its_maxmemory_finishes_old_work_and_refuses_new() {
    let server = Server::redis();
    let store = open(&server.url()).await;
    let client = app().client_on(store.clone());
    let old = client.start(Numbers { count: 20_000 }).await.unwrap();
    ask::<()>(&server, &["CONFIG", "SET", "maxmemory", "1mb"]);
    let error = client.start(Numbers { count: 10 }).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Full && error.to_string().contains("maxmemory"), "{error}");

    let stop = CancellationToken::new();
    let worker = app().worker_on(store.clone(), WorkerOptions::default()).await.unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    assert_eq!(old.wait().await.unwrap().state, WorkflowState::Succeeded);
    stop.cancel();
    worker.await.unwrap().unwrap();
    ask::<()>(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    run_to_its_end(&store, &client, 10).await;
    assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_set_aside_and_stops_nothing_else() {
    let server = Server::redis();
    let store = open(&format!("{}?lease=200ms", server.url())).await;
    let client = app().client_on(store.clone());
    let damaged = client.start(Numbers { count: 2_000 }).await.unwrap();
    store.cancel(damaged.id(), 0).await.unwrap();
    // The first workflow has number 1; without its steps the chore cannot cancel them.
    let steps: Vec<String> = ask(&server, &["KEYS", "gusher:*:w:1:steps"]);
    assert_eq!(ask::<u64>(&server, &["DEL", &steps[0]]), 1);
    run_to_its_end(&store, &client, 3_000).await;
    let findings = store.doctor().await.unwrap().findings;
    assert!(findings.iter().any(|finding| finding.contains("cannot be recounted")), "{findings:?}");
    assert!(!store.tick(gusher::store::Tick { lease: 200 }).await.unwrap().more, "nobody tries it again and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_a_dead_sessions_permits_that_do_not_decode_hold_up_no_tick() {
    let server = Server::redis();
    let store = open(&format!("{}?lease=200ms", server.url())).await;
    let client = app().client_on(store.clone());
    run_to_its_end(&store, &client, 10).await;
    let shards: Vec<String> = ask(&server, &["KEYS", "gusher:*:shard"]);
    let key = |name: &str| format!("{}{name}", shards[0].strip_suffix("shard").unwrap());
    for (hash, field) in [("limited", "Visit\0ada"), ("permits:nobody", "t:Call")] {
        ask::<()>(&server, &["HSET", &key(hash), field, "broken"]);
    }
    for (due, member) in [("limited-due", "Visit\0ada"), ("permit-ends", "nobody")] {
        ask::<()>(&server, &["ZADD", &key(due), "1", member]);
    }
    while store.tick(gusher::store::Tick { lease: 200 }).await.unwrap().more {}
    for (due, member) in [("limited-due", "Visit\0ada"), ("permit-ends", "nobody")] {
        assert!(ask::<f64>(&server, &["ZSCORE", &key(due), member]) > 3_600_000.0, "{member} is set aside");
    }
    run_to_its_end(&store, &client, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_does_not_decode_is_told_anew_and_what_is_held_of_it_stays_counted() {
    let server = Server::redis();
    let store = open(&server.url()).await;
    let sessions = [gusher::store::Session::new(1_000), gusher::store::Session::new(1_000)];
    let limit = Limit::at_once(3);
    let ask_for = async |session: usize, more| {
        let of = Limited::Type("Call".into());
        let limits = vec![Wanted { of, limit, held: 0, unstarted: 0, used: 0, more }];
        let permit = Permit { session: sessions[session].id, shard: 0, limits, lease: 1_000 };
        store.permit(permit).await.unwrap().granted[0].more
    };
    for session in &sessions {
        store.join(session.clone()).await.unwrap();
    }
    assert_eq!(ask_for(0, 2).await, 2);
    let limits: Vec<String> = ask(&server, &["KEYS", "gusher:*:limits"]);
    ask::<()>(&server, &["HSET", &limits[0], "t:Call", "broken"]);
    assert_eq!(ask_for(1, 3).await, 1);
}
