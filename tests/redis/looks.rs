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
