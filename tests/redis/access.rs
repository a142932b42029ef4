//! How one gets to a server: through Sentinels, by TLS, as a user who may do just what is needed.

use gusher::store::redis::Options;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_the_guide_may_do_what_is_needed_and_nothing_else() {
    let server = Server::redis();
    let url = server.url_of_the_guides_user();
    let store = open(&url).await;
    run_to_its_end(&store, &app().client_on(store.clone()), 3_000).await;
    assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
    let mut user = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    for forbidden in [
        "KEYS *",
        "FLUSHALL",
        "FLUSHDB",
        "SHUTDOWN",
        "CONFIG SET maxmemory 1",
        "SLOWLOG GET",
        "SAVE",
        "BGSAVE",
        "MONITOR",
        "REPLICAOF NO ONE",
        "ACL LIST",
        "SCAN 0",
        "RANDOMKEY",
        "DBSIZE",
        "SWAPDB 0 1",
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
        "SCRIPT FLUSH",
        "RENAME gusher:a gusher:b",
        "DUMP gusher:a",
        "GET other:a",
        "SETNX other:a 1",
        "PUBLISH other:a b",
    ] {
        let mut parts = forbidden.split(' ');
        let mut command = redis::cmd(parts.next().unwrap());
        parts.for_each(|part| {
            command.arg(part);
        });
        let error = command.exec(&mut user).unwrap_err();
        assert!(
            error.to_string().contains("no permissions") || error.to_string().contains("NOPERM"),
            "{forbidden}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_enter_hears_why() {
    let server = Server::redis_with(&["--requirepass", "a-long-password"]);
    for login in ["", ":wrong@"] {
        let error = refused(&format!("redis://{login}127.0.0.1:{}/0", server.port())).await;
        assert!(error.contains("refuses this user or password") && !error.contains("wrong"), "{error}");
    }
    open(&format!("redis://:a-long-password@127.0.0.1:{}/0", server.port())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_follow_the_master_that_sentinels_name() {
    let master = Server::redis();
    let replica = Server::redis_with(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    let sentinel = Server::sentinel("mymaster", &master);
    while !sentinel.says(&["sentinel", "replicas", "mymaster"]).contains(&replica.port().to_string()) {}
    while !replica.says(&["role"]).contains("connected") {}
    let store = open(&format!("redis+sentinel://127.0.0.1:{}/mymaster/0?lease=1s", sentinel.port())).await;
    let client = app().client_on(store.clone());
    let stop = CancellationToken::new();
    let worker = app().worker_on(store.clone(), WorkerOptions::default()).await.unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    let run = client.start(Numbers { count: 30_000 }).await.unwrap();
    // A connection waits for what it has written itself, and with that for all before it.
    let mut connection = redis::Client::open(master.url()).unwrap().get_connection().unwrap();
    redis::cmd("SET").arg("a mark").arg("behind the workflow").exec(&mut connection).unwrap();
    let heard: u32 = redis::cmd("WAIT").arg(1).arg(0).query(&mut connection).unwrap();
    assert_eq!(heard, 1, "the replica has heard of the workflow");
    master.kill();
    let ended = loop {
        match run.wait().await {
            Ok(status) => break status,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_eq!((ended.state, ended.jobs.succeeded), (WorkflowState::Succeeded, 30_001));
    assert!(replica.says(&["role"]).starts_with("master"));
    stop.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
    let error = refused(&format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port())).await;
    assert!(error.contains("know no service `other`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_travel_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) =
        (file("server.pem", made.cert.pem()), file("server.key", made.signing_key.serialize_pem()));
    // The plain port stays, for this test to talk to it.
    let settings = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let (server, port) = Server::redis_with_tls(&settings);
    let url = format!("rediss://localhost:{port}/0?ca={certificate}");
    let store = open(&url).await;
    run_to_its_end(&store, &app().client_on(store.clone()), 3_000).await;
    assert!(server.says(&["dbsize"]).trim().parse::<u32>().unwrap() > 0);
    // Who does not know who signed it does not trust it.
    let error = RedisStore::open(Options::new(format!("rediss://localhost:{port}/0"))).await.unwrap_err();
    assert!(!error.to_string().is_empty());
    let error = RedisStore::open(Options::new(format!("redis://localhost:{port}/0"))).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}
