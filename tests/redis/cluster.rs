//! On a cluster: slots move, masters fail.

use std::collections::HashSet;

use gusher::Handle;
use gusher::broker::{Broker, Message};
use gusher::store::redis::Options;
use gusher::store::{Claim, LeaseName, LeaseReport, Renew, Report, Session, Slice, Take};
use gusher::testing::broker::InProcess;
use servers::{Cluster, Program};
use tokio::sync::Semaphore;

use super::*;

/// What the cluster calls a node.
fn id_of(node: &Server) -> String {
    node.says(&["cluster", "myid"]).trim().to_owned()
}

/// Which master has a slot.
fn owner(cluster: &Cluster, slot: u32) -> usize {
    let nodes = cluster.nodes[0].says(&["cluster", "nodes"]);
    let has = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(first), Ok(last)) if first <= slot && slot <= last)
    };
    let line =
        nodes.lines().find(|line| line.contains("master") && line.split(' ').skip(8).any(has)).expect("an owner");
    let id = line.split(' ').next().unwrap();
    cluster.nodes.iter().position(|node| id_of(node) == id).unwrap()
}

/// Whether all nodes have heard the same of who is master of what: if one dies before that, the others may not let any take its place.
fn agrees(cluster: &Cluster) -> bool {
    let heard = |node: &Server| {
        let nodes = node.says(&["cluster", "nodes"]);
        let told = nodes.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            // The node, its master, its epoch, its slots.
            [&[words[0], words[3], words[6]], &words[8..]].concat().join(" ")
        });
        let mut told: Vec<String> = told.collect();
        told.sort();
        told
    };
    let first = heard(&cluster.nodes[0]);
    cluster.nodes.iter().all(|node| heard(node) == first)
}

/// Moves a slot with all of its keys, a few at a time.
fn move_slot(cluster: &Cluster, slot: u32, to: usize) {
    let from = owner(cluster, slot);
    let (from, to) = (&cluster.nodes[from], &cluster.nodes[to]);
    let (slot, port) = (slot.to_string(), to.port().to_string());
    to.says(&["cluster", "setslot", &slot, "importing", &id_of(from)]);
    from.says(&["cluster", "setslot", &slot, "migrating", &id_of(to)]);
    loop {
        let keys = from.says(&["cluster", "getkeysinslot", &slot, "20"]);
        let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
        if keys.is_empty() {
            break;
        }
        let moved = from.says(&[&["migrate", "127.0.0.1", &port, "", "0", "20000", "keys"], &keys[..]].concat());
        assert!(moved.contains("OK") || moved.contains("NOKEY"), "{moved}");
    }
    for node in [to, from] {
        assert_eq!(node.says(&["cluster", "setslot", &slot, "node", &id_of(to)]).trim(), "OK");
    }
}

/// The slot of a shard of a store with twelve.
fn slot_of(shard: u32) -> u32 {
    (2 * shard + 1) * 16_384 / 24
}

async fn works(url: &str) -> (Arc<dyn Store>, tokio::task::JoinHandle<gusher::Result<()>>, CancellationToken) {
    let store = open(url).await;
    let stop = CancellationToken::new();
    let worker = app().worker_on(store.clone(), WorkerOptions::default()).await.unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    (store, worker, stop)
}

async fn ends_well(runs: &[Handle], count: u64) {
    for run in runs {
        let ended = repeated(|| run.wait()).await;
        assert_eq!((ended.state, ended.jobs.succeeded), (WorkflowState::Succeeded, count + 1), "{}", run.id());
        let sum = repeated(|| run.job("Sum", 0)).await.output.unwrap();
        assert_eq!(sum.get(), (0..count).sum::<u64>().to_string());
    }
}

/// A shard may be away for a moment; then the call says that it may be repeated.
async fn repeated<T, F: Future<Output = gusher::Result<T>>>(call: impl Fn() -> F) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

/// Lets workflows run for as long as `faults` happen, and 200,000 jobs at least. Returns how many jobs there were.
async fn run_under(client: &Client, faults: impl FnOnce() + Send + 'static) -> u64 {
    const COUNT: u64 = 10_000;
    let faults = tokio::task::spawn_blocking(faults);
    let mut jobs = 0;
    while !faults.is_finished() || jobs < 200_000 {
        let starts = (0..6).map(|_| repeated(|| client.start(Numbers { count: COUNT }).into_future()));
        let runs = futures::future::join_all(starts).await;
        ends_well(&runs, COUNT).await;
        jobs += 6 * COUNT;
    }
    faults.await.unwrap();
    jobs
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_spread_over_the_shards_and_found_again() {
    let cluster = Cluster::start(Program::Valkey);
    let (store, worker, stop) = works(&cluster.url()).await;
    let client = app().client_on(store.clone());
    let mut runs = Vec::new();
    for _ in 0..12 {
        runs.push(client.start(Numbers { count: 2_000 }).await.unwrap());
    }
    ends_well(&runs, 2_000).await;
    let mut shards: Vec<u16> = runs.iter().map(|run| run.id().shard()).collect();
    shards.sort_unstable();
    assert_eq!(shards, (0..12).collect::<Vec<u16>>());
    let listed = store.workflows(List { limit: 5, ..List::default() }).await.unwrap();
    let newest: Vec<_> = runs.iter().rev().take(5).map(Handle::id).collect();
    assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), newest);
    stop.cancel();
    worker.await.unwrap().unwrap();
    let checkup = store.doctor().await.unwrap();
    assert_eq!((checkup.findings, checkup.under_way, checkup.workflows), (Vec::new(), 0, 12));
    // Every master has its share of the shards.
    for node in cluster.nodes.iter().filter(|node| node.says(&["role"]).starts_with("master")) {
        let keys: u32 = node.says(&["dbsize"]).trim().parse().unwrap();
        assert!(keys > 20, "a node has {keys} keys");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_shards_a_store_has_is_fixed_when_it_is_made() {
    let server = Server::redis();
    let url = format!("{}?shards=3", server.url());
    let store = open(&url).await;
    run_to_its_end(&store, &app().client_on(store.clone()), 300).await;
    let error = refused(&format!("{}?shards=4", server.url())).await;
    assert!(error.contains("was made with 3 shards") && error.contains("shards=4"), "{error}");
    let again = open(&server.url()).await;
    assert!(again.url().contains("shards=3"), "who does not say a number takes the store's: {}", again.url());
    assert_eq!(Options::parse(&again.url()).unwrap().shards, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_moved_there_and_back_while_jobs_run() {
    let cluster = Arc::new(Cluster::start(Program::Redis));
    let (store, worker, stop) = works(&format!("{}?lease=2s", cluster.url())).await;
    let moved = cluster.clone();
    let client = app().client_on(store.clone());
    let jobs = run_under(&client, move || {
        for shard in 0..10 {
            let home = owner(&moved, slot_of(shard));
            let away = moved
                .nodes
                .iter()
                .enumerate()
                .position(|(n, node)| n != home && node.says(&["role"]).starts_with("master"));
            move_slot(&moved, slot_of(shard), away.unwrap());
            move_slot(&moved, slot_of(shard), home);
        }
    });
    println!("{} jobs while slots were moved", jobs.await);
    stop.cancel();
    worker.await.unwrap().unwrap();
    let checkup = store.doctor().await.unwrap();
    assert_eq!((checkup.findings, checkup.under_way), (Vec::new(), 0));
    assert!(!checkup.warnings.iter().any(|warning| warning.contains("has lost")), "{:?}", checkup.warnings);
}

/// A session without a worker, on a cluster with a workflow of one job on each shard.
struct Hand {
    cluster: Cluster,
    store: Arc<dyn Store>,
    session: Session,
    first_lease: u64,
}

impl Hand {
    async fn new() -> Self {
        let cluster = cluster_that_may_lack_a_part();
        let store = open(&cluster.url()).await;
        let client = app().client_on(store.clone());
        for _ in 0..12 {
            client.start(Numbers { count: 1 }).await.unwrap();
        }
        let session =
            Session { queues: vec!["default".into()], types: vec!["Number".into()], slots: 1, ..Session::new(60_000) };
        store.join(session.clone()).await.unwrap();
        Self { cluster, store, session, first_lease: 1 }
    }

    /// Asks for one job.
    async fn claim(&mut self) -> gusher::Result<Vec<Slice>> {
        let take = Take { job_type: "Number".into(), jobs: 1, budget: 1 };
        let claimed = self.store.claim(one_lease(&self.session, self.first_lease, take)).await?;
        self.first_lease = self.first_lease.max(claimed.last_lease + 1);
        Ok(claimed.slices)
    }
}

/// Asks for one lease.
fn one_lease(session: &Session, first_lease: u64, take: Take) -> Claim {
    Claim {
        session: session.id,
        first_lease,
        max_leases: 1,
        queues: session.queues.clone(),
        by_broker: Vec::new(),
        most_held: None,
        takes: vec![take],
        free_slots: 1,
        max_limited: 1,
        alone: false,
        permits: Vec::new(),
        lease: session.lease,
    }
}

/// The nodes go on while some of the slots have no master.
fn cluster_that_may_lack_a_part() -> Cluster {
    let cluster = Cluster::start(Program::Redis);
    for node in &cluster.nodes {
        node.says(&["config", "set", "cluster-require-full-coverage", "no"]);
    }
    cluster
}

/// Kills the master of shards 0 to 3, which has saved what it holds, and its replica. Returns which one that was.
fn kill_a_master(cluster: &Cluster) -> usize {
    let nodes = &cluster.nodes;
    let master = owner(cluster, slot_of(0));
    let port = nodes[master].port().to_string();
    let follows = |node: &&Server| node.says(&["role"]).starts_with("slave") && node.says(&["role"]).contains(&port);
    nodes.iter().find(follows).expect("it has a replica").kill();
    nodes[master].says(&["save"]);
    nodes[master].kill();
    master
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_were_away_hand_out_their_jobs_once_when_they_are_back() {
    let mut hand = Hand::new().await;
    let killed = kill_a_master(&hand.cluster);
    let (mut leases, mut workflows) = (HashSet::new(), HashSet::new());
    while workflows.len() < 12 {
        match hand.claim().await {
            Ok(slices) => {
                for slice in slices {
                    assert!(leases.insert(slice.lease), "lease {} was granted twice", slice.lease);
                    workflows.insert(slice.workflow);
                }
            }
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        let node = &mut hand.cluster.nodes[killed];
        if workflows.len() == 8 && !node.says(&["ping"]).contains("PONG") {
            node.start_again();
        }
    }
    assert_eq!(leases.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_are_away_keep_nobody_from_renewing_and_reporting_on_the_others() {
    let mut hand = Hand::new().await;
    let mut slices = Vec::new();
    while slices.len() < 12 {
        slices.extend(hand.claim().await.unwrap());
    }
    kill_a_master(&hand.cluster);
    let mut away: Vec<u64> =
        slices.iter().filter(|slice| slice.workflow.shard() < 4).map(|slice| slice.lease).collect();
    away.sort_unstable();
    let leases = slices.iter().map(|slice| slice.lease).collect();
    let (session, lease) = (hand.session.id, hand.session.lease);
    let renew = Renew { session, leases, drafts: Vec::new(), progress: Vec::new(), lease };
    let mut renewed = hand.store.renew(renew).await.unwrap();
    renewed.away.sort_unstable();
    assert_eq!((&renewed.away, renewed.lost), (&away, Vec::new()));

    let succeeded =
        |slice: &Slice| LeaseReport { lease: slice.lease, number: 1, succeeded: slice.jobs, ..LeaseReport::default() };
    let report = Report { session, leases: slices.iter().map(succeeded).collect() };
    let mut reported = hand.store.report(report).await.unwrap();
    reported.away.sort_unstable();
    assert_eq!((reported.away, reported.refused), (away, Vec::new()));
    for slice in slices.iter().filter(|slice| slice.workflow.shard() >= 4) {
        assert_eq!(hand.store.workflow(slice.workflow).await.unwrap().jobs.succeeded, 1);
    }
}

/// Ends when the test lets it.
#[derive(Serialize, Deserialize)]
struct Gated;

static STARTED: Semaphore = Semaphore::const_new(0);
static GATE: Semaphore = Semaphore::const_new(0);

impl Job for Gated {
    const NAME: &str = "Gated";
    type Output = ();
    type State = ();

    async fn perform(self, _: &Context) -> JobResult<()> {
        STARTED.add_permits(1);
        GATE.acquire().await?.forget();
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct OneGated;

impl Workflow for OneGated {
    const NAME: &str = "OneGated";

    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(Gated);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_did_while_a_shard_was_away_is_reported_once_that_is_back() {
    let mut cluster = cluster_that_may_lack_a_part();
    // Nothing is taken back while this lasts: what is not reported would only be told long after.
    let store = open(&format!("{}?lease=60s", cluster.url())).await;
    let app = App::stateless().job::<Gated>();
    let client = app.client_on(store.clone());
    let stop = CancellationToken::new();
    let worker = app.worker_on(store.clone(), WorkerOptions { slots: 12, ..WorkerOptions::default() }).await.unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    let mut runs = Vec::new();
    for _ in 0..12 {
        runs.push(client.start(OneGated).await.unwrap());
    }
    STARTED.acquire_many(12).await.unwrap().forget();

    let killed = kill_a_master(&cluster);
    GATE.add_permits(12);
    let (away, there): (Vec<Handle>, Vec<Handle>) = runs.into_iter().partition(|run| run.id().shard() < 4);
    for run in &there {
        assert_eq!(repeated(|| run.wait()).await.state, WorkflowState::Succeeded);
    }
    cluster.nodes[killed].start_again();
    for run in &away {
        assert_eq!(repeated(|| run.wait()).await.state, WorkflowState::Succeeded);
        let job = repeated(|| run.job("Gated", 0)).await;
        assert_eq!((job.attempts, job.recoveries), (1, 0));
    }
    assert_eq!(STARTED.available_permits(), 0, "none ran twice");
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_shard_that_is_away_keeps_no_other_message_waiting() {
    let mut cluster = cluster_that_may_lack_a_part();
    let store = open(&format!("{}?lease=60s", cluster.url())).await;
    let broker = Arc::new(InProcess::default());
    let app = app().queue("default").via_broker(broker.clone());
    let client = app.client_on(store.clone());
    let mut runs = Vec::new();
    for _ in 0..12 {
        runs.push(client.start(Numbers { count: 1 }).await.unwrap());
    }
    // Without types it claims for others.
    let forwarder = Session { queues: vec!["default".into()], slots: 0, ..Session::new(60_000) };
    store.join(forwarder.clone()).await.unwrap();
    let (identity, mut messages, mut first_lease) = (store.identity().await.unwrap(), Vec::new(), 1);
    while messages.len() < 12 {
        let take = Take { job_type: "Number".into(), jobs: 1, budget: 1 };
        let claimed = store.claim(one_lease(&forwarder, first_lease, take)).await.unwrap();
        first_lease = first_lease.max(claimed.last_lease + 1);
        for slice in claimed.slices {
            let lease = LeaseName { session: forwarder.id, lease: slice.lease };
            messages.push((slice.workflow.shard(), Message { store: identity, lease, priority: 0 }));
        }
    }
    messages.sort_by_key(|(shard, _)| *shard);
    let stop = CancellationToken::new();
    let worker = app.worker_on(store.clone(), WorkerOptions { slots: 1, ..WorkerOptions::default() }).await.unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    while store.workers(9).await.unwrap().iter().all(|worker| worker.session.types.is_empty()) {}

    let killed = kill_a_master(&cluster);
    for (_, message) in messages {
        broker.publish("default", vec![message]).await.unwrap();
    }
    let (away, there): (Vec<Handle>, Vec<Handle>) = runs.into_iter().partition(|run| run.id().shard() < 4);
    for run in &there {
        assert_eq!(repeated(|| run.wait()).await.state, WorkflowState::Succeeded);
    }
    cluster.nodes[killed].start_again();
    for run in &away {
        assert_eq!(repeated(|| run.wait()).await.state, WorkflowState::Succeeded);
        let job = repeated(|| run.job("Number", 0)).await;
        assert_eq!((job.attempts, job.recoveries), (1, 0));
    }
    stop.cancel();
    worker.await.unwrap().unwrap();
    store.leave(forwarder.id).await.unwrap();
    assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_take_over_while_jobs_run() {
    let cluster = Arc::new(Cluster::start(Program::Redis));
    let (store, worker, stop) = works(&format!("{}?lease=2s", cluster.url())).await;
    let failing = cluster.clone();
    let client = app().client_on(store.clone());
    let jobs = run_under(&client, move || {
        let role = |node: &Server| node.says(&["role"]);
        for n in 0..10 {
            // The master hands over what it has acknowledged before the replica takes its place.
            let replica = failing.nodes.iter().cycle().skip(n).find(|node| role(node).starts_with("slave")).unwrap();
            // It gives up by itself if it has not been elected within five seconds.
            loop {
                assert_eq!(replica.says(&["cluster", "failover"]).trim(), "OK");
                if (0..1000).any(|_| role(replica).starts_with("master")) {
                    break;
                }
            }
            // Who was master has to follow the new one first: a master without a replica has nobody to take its place.
            let follows = |node: &&Server| role(node).starts_with("slave") && role(node).contains("connected");
            while failing.nodes.iter().filter(follows).count() < 3 || !agrees(&failing) {}
        }
        // The last one dies, and the others find out by themselves.
        let dies = failing.nodes.iter().find(|node| role(node).starts_with("master")).unwrap();
        let masters = || failing.nodes.iter().filter(|node| role(node).starts_with("master")).count();
        dies.kill();
        while masters() < 3 {}
    });
    println!("{} jobs while replicas took over", jobs.await);
    stop.cancel();
    worker.await.unwrap().unwrap();
    let checkup = store.doctor().await.unwrap();
    println!("{:?}", checkup.warnings);
    assert_eq!((checkup.findings, checkup.under_way), (Vec::new(), 0));
}
