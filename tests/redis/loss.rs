//! What a server forgets.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restart_lost_is_counted_and_runs_again() {
    let mut server = Server::redis();
    let store = open(&format!("{}?lease=300ms", server.url())).await;
    let client = app().client_on(store.clone());
    let run = client.start(Numbers { count: 5_000 }).await.unwrap();
    ask::<()>(&server, &["SAVE"]);
    let stop = CancellationToken::new();
    let worker = app().worker_on(store.clone(), WorkerOptions::default()).await.unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    assert_eq!(run.wait().await.unwrap().state, WorkflowState::Succeeded);
    server.kill();
    server.start_again();
    // The workflow is as it was when the snapshot was made, and the worker, which the server does not know any more, does it again.
    let again = loop {
        match run.status().await {
            Ok(status) if status.state.is_finished() => break status,
            Ok(_) => {}
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_eq!((again.state, again.jobs.succeeded), (WorkflowState::Succeeded, 5_001));
    stop.cancel();
    worker.await.unwrap().unwrap();
    let checkup = store.doctor().await.unwrap();
    assert_eq!((checkup.findings, checkup.under_way), (Vec::new(), 0));
    let lost = checkup.warnings.iter().find(|warning| warning.contains("has lost")).expect("it says what was lost");
    assert!(lost.contains("operations of shard 0 that it had acknowledged"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_with_an_append_only_file_has_lost_nothing() {
    for synced in ["everysec", "always"] {
        let mut server = Server::redis_with(&["--appendonly", "yes", "--appendfsync", synced]);
        let store = open(&server.url()).await;
        let client = app().client_on(store.clone());
        for _ in 0..40 {
            client.start(Numbers { count: 10 }).await.unwrap();
        }
        server.kill();
        server.start_again();
        let there = open(&server.url()).await.workflows(List { limit: 100, ..List::default() }).await.unwrap().len();
        println!("appendfsync {synced}: {there} of 40 workflows are there after the server was killed");
        assert_eq!(there, 40, "with appendfsync {synced}");
        let warnings = store.doctor().await.unwrap().warnings;
        assert!(!warnings.iter().any(|warning| warning.contains("has lost")), "{warnings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_lacks_what_it_had_not_received() {
    let master = Server::redis();
    let replica = Server::redis_with(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    while !replica.says(&["role"]).contains("connected") {}
    let count =
        async |store: &Arc<dyn Store>| store.workflows(List { limit: 100, ..List::default() }).await.unwrap().len();
    let mut by_hand = redis::Client::open(master.url()).unwrap().get_connection().unwrap();
    let mut say = |command: &str| -> redis::RedisResult<redis::Value> {
        let mut words = command.split(' ');
        redis::cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()).query(&mut by_hand)
    };
    let store = open(&master.url()).await;
    let client = app().client_on(store.clone());
    for _ in 0..20 {
        client.start(Numbers { count: 10 }).await.unwrap();
    }
    // It waits for what its own connection has written, and so for all before that.
    say("SET written before").unwrap();
    let before = say("WAIT 1 10000").unwrap();
    // The replica is cut off and does not come back: it lacks the password that is asked for now.
    say("CONFIG SET requirepass secret").unwrap();
    assert_eq!(say("CLIENT KILL TYPE replica"), Ok(redis::Value::Int(1)));
    for _ in 0..20 {
        client.start(Numbers { count: 10 }).await.unwrap();
    }
    say("SET written after").unwrap();
    let after = say("WAIT 1 100").unwrap();
    assert_eq!((before, after), (redis::Value::Int(1), redis::Value::Int(0)), "how many replicas have all");
    assert_eq!(count(&store).await, 40);
    drop(master);
    assert_eq!(replica.says(&["replicaof", "no", "one"]).trim(), "OK");
    let there = count(&open(&replica.url()).await).await;
    println!("{there} of 40 workflows are there after a replica took over that had been cut off; WAIT told of it");
    assert_eq!(there, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_answer_was_lost_is_one_start() {
    let server = Server::redis();
    let store = open(&server.url()).await;
    let client = app().client_on(store.clone());
    let cutting = redis::Client::open(server.url()).unwrap();
    let mut cutting = cutting.get_multiplexed_async_connection().await.unwrap();
    let mut cut = 0;
    for _ in 0..100 {
        // A few for each, at any point of it: with no end of them, a slow machine would be kept from starting anything.
        let cuts = async {
            for _ in 0..3 {
                let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("NORMAL").to_owned();
                cut += kill.query_async::<u32>(&mut cutting).await.unwrap();
            }
        };
        let (started, ()) = tokio::join!(client.start(Numbers { count: 3 }).into_future(), cuts);
        started.unwrap();
    }
    println!("100 workflows were started while connections were cut {cut} times");
    assert!(cut > 100, "connections were cut {cut} times");
    let count: u32 = ask(&server, &["ZCARD", &ask::<Vec<String>>(&server, &["KEYS", "gusher:*:all"])[0]]);
    assert_eq!(count, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_warns_of_servers_that_may_lose_what_they_acknowledge() {
    let warnings = async |settings: &[&str]| {
        let server = Server::redis_with(settings);
        open(&server.url()).await.doctor().await.unwrap().warnings
    };
    assert!(warnings(&[]).await[0].contains("keeps no append-only file"));
    let every_second = warnings(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    assert!(every_second.len() == 1 && every_second[0].contains("loses up to that second"), "{every_second:?}");
    assert_eq!(warnings(&["--appendonly", "yes", "--appendfsync", "always"]).await, Vec::<String>::new());
}
