//! The brokers' suite without a server: over the store's own lines, and over a broker in this process.

mod the_stores_own_lines {
    gusher::testing::carriage_tests!();
}

mod in_process {
    use std::sync::Arc;

    use gusher::broker::Broker;
    use gusher::testing::broker::InProcess;

    async fn fresh() -> Arc<dyn Broker> {
        Arc::new(InProcess::default())
    }

    gusher::testing::broker_tests!(fresh);
}

mod a_weekend {
    use std::sync::Arc;
    use std::time::Duration;

    use gusher::broker::{Broker, Message};
    use gusher::prelude::*;
    use gusher::store::sqlite::{Options, SqliteStore};
    use gusher::store::{Claim, LeaseName, Session, Store, Take, Tick};
    use gusher::testing::broker::InProcess;
    use gusher::{CancellationToken, Clock, SessionId, WorkerOptions, WorkflowState};

    #[derive(Serialize, Deserialize)]
    struct Row;
    impl Job for Row {
        const NAME: &str = "Row";
        const QUEUE: &str = "imports";
        type Output = ();
        type State = ();
        async fn perform(self, _: &Context) -> JobResult<()> {
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Backlog;
    impl Workflow for Backlog {
        const NAME: &str = "Backlog";
        fn configure(&self, flow: &Flow) -> gusher::Result<()> {
            flow.run_each((0..20_000).map(|_| Row));
            Ok(())
        }
    }

    /// A forwarder goes on although nobody receives what it publishes.
    #[tokio::test(flavor = "multi_thread")]
    async fn without_consumers_leaves_few_messages_and_afterwards_all_is_done() {
        let (clock, broker) = (Clock::movable(), Arc::new(InProcess::default()));
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(Options { clock: clock.clone(), ..Options::in_memory() }).unwrap());
        let app = App::stateless().workflow::<Backlog>().job::<Row>().queue("imports").via_broker(broker.clone());
        let handle = app.client_on(store.clone()).start(Backlog).await.unwrap();

        let session = Session {
            id: SessionId::random(),
            host: "friday".into(),
            pid: 1,
            queues: vec![],
            types: vec![],
            slots: 0,
            wake_port: None,
            lease: 7 * 24 * 3_600_000,
        };
        store.join(session.clone()).await.unwrap();
        let (identity, lease, mut next) = (store.identity().await.unwrap(), 15_000, 1);
        let weekend = 62 * 3600;
        for _ in 0..weekend / 5 {
            clock.advance(5_000);
            while store.tick(Tick { lease }).await.unwrap().more {}
            let claim = Claim {
                session: session.id,
                first_lease: next,
                max_leases: 16,
                most_held: Some(8),
                queues: vec!["imports".into()],
                by_broker: vec![],
                takes: vec![Take { job_type: "Row".into(), jobs: 1_024, budget: 16_384 }],
                free_slots: 1,
                max_limited: 1,
                permits: vec![],
                alone: false,
                lease,
            };
            let claimed = store.claim(claim).await.unwrap();
            next = next.max(claimed.last_lease + 1);
            let name = |lease| Message { store: identity, lease: LeaseName { session: session.id, lease } };
            let messages = claimed.slices.iter().map(|slice| name(slice.lease)).collect();
            broker.publish("imports", messages).await.unwrap();
        }
        // Eight slices, each published after 15 s, 30 s, 1, 2, 4, 8 and from then on every 15 minutes.
        let waiting = broker.len("imports");
        let bound = 8 * (6 + weekend as usize / 900);
        assert!(
            (1_000..=bound).contains(&waiting),
            "{waiting} messages after the weekend, at most {bound} are allowed"
        );

        let worker =
            app.worker_on(store.clone(), WorkerOptions { slots: 4, ..WorkerOptions::default() }).await.unwrap();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        store.leave(session.id).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), handle.wait()).await.expect("it ends").unwrap();
        assert_eq!((ended.state, ended.jobs.succeeded), (WorkflowState::Succeeded, 20_000));
        stop.cancel();
        worker.await.unwrap().unwrap();
        assert!(app.traffic().counts().gone > 0, "{}", app.traffic().counts());
        assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
    }
}
