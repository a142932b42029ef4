//! What people see who look into the server.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn without_compression_parameters_and_outputs_can_be_read_with_redis_cli() {
    let server = Server::redis();
    let store = open(&format!("{}?compress=none", server.url())).await;
    run_to_its_end(&store, &app().client_on(store.clone()), 300).await;
    let values = |part: &str| {
        let keys: Vec<String> = ask(&server, &["KEYS", &format!("gusher:*:w:1:{part}")]);
        server.says(&["hvals", &keys[0]])
    };
    assert!(values("params").contains(r#"{"n":299}"#), "{}", values("params"));
    // The sum of the report.
    assert!(values("outcomes").contains("44850"), "{}", values("outcomes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn du_counts_what_a_workflow_takes() {
    let server = Server::redis();
    let store = open(&server.url()).await;
    let client = app().client_on(store.clone());
    let (small, large) =
        (client.start(Numbers { count: 10 }).await.unwrap(), client.start(Numbers { count: 50_000 }).await.unwrap());
    let (small, large) = (store.size(small.id()).await.unwrap(), store.size(large.id()).await.unwrap());
    assert!(small.total() > 1_000 && large.parameter_bytes > 10 * small.parameter_bytes, "{small:?} {large:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_workflow_leaves_no_key() {
    let server = Server::redis();
    let store = open(&server.url()).await;
    let client = app().client_on(store.clone());
    let run = client.start(Numbers { count: 3_000 }).await.unwrap();
    let keys = || ask::<Vec<String>>(&server, &["KEYS", "gusher:*:w:*"]);
    assert!(!keys().is_empty());
    store.cancel(run.id(), 0).await.unwrap();
    while store.tick(gusher::store::Tick { lease: 15_000 }).await.unwrap().more {}
    store.delete(run.id()).await.unwrap();
    while store.tick(gusher::store::Tick { lease: 15_000 }).await.unwrap().more {}
    assert_eq!(keys(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_at_a_million_jobs_that_run_keep_their_bounds() {
    const COUNT: u64 = 1_000_000;
    let server = Server::redis();
    let (store, looker) = (open(&server.url()).await, open(&server.url()).await);
    let run = app().client_on(store.clone()).start(Numbers { count: COUNT }).await.unwrap();
    let stop = CancellationToken::new();
    let worker = app().worker_on(store.clone(), WorkerOptions::default()).await.unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));

    // Who looks counts by themselves what their looks cost.
    let client = app().client_on(looker.clone());
    let looked_at = client.find(run.id()).await.unwrap();
    let mut looks_while_running = 0;
    loop {
        let listed = client.workflows().page(50).await.unwrap();
        let shown = looked_at.status_with(100).await.unwrap();
        let why = looked_at.why().await.unwrap();
        looked_at.why_step("Number").await.unwrap();
        let last = looked_at.job("Number", COUNT - 1).await.unwrap();
        assert_eq!((listed.len(), shown.jobs.total, last.index), (1, COUNT + 1, COUNT - 1));
        if shown.state.is_finished() {
            break;
        }
        looks_while_running += u64::from(shown.jobs.succeeded > 0 && why.summary.contains("is running"));
    }
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert!(looks_while_running > 0);
    for (verb, cost) in looker.meters().by_verb() {
        assert!(cost.max.calls <= 150 && cost.max.bytes <= 64 * 1024, "{verb}: {:?}", cost.max);
    }
    assert_eq!((looker.meters().over_bounds(), store.meters().over_bounds()), (Vec::new(), Vec::new()));
}
