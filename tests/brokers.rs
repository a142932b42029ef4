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

mod where_it_goes {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use gusher::broker::{Broker, Brokers, Way};
    use gusher::prelude::*;
    use gusher::store::Store;
    use gusher::store::sqlite::{Options, SqliteStore};
    use gusher::testing::broker::InProcess;
    use gusher::{CancellationToken, CauseKind, WorkerOptions, WorkflowState};

    struct Running {
        now: AtomicU32,
        most: AtomicU32,
        pairs: tokio::sync::Barrier,
    }

    impl Default for Running {
        fn default() -> Self {
            Self { now: AtomicU32::new(0), most: AtomicU32::new(0), pairs: tokio::sync::Barrier::new(2) }
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Row;
    impl Job for Row {
        const NAME: &str = "Row";
        const QUEUE: &str = "imports";
        type Output = ();
        type State = Arc<Running>;
        async fn perform(self, _: &Context<Arc<Running>>) -> JobResult<()> {
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Scarce;
    impl Job for Scarce {
        const NAME: &str = "Scarce";
        const QUEUE: &str = "imports";
        const LIMIT: Limit = Limit::at_once(2);
        type Output = ();
        type State = Arc<Running>;
        async fn perform(self, ctx: &Context<Arc<Running>>) -> JobResult<()> {
            let running = ctx.state();
            running.most.fetch_max(running.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // The two that may run at once wait for each other.
            running.pairs.wait().await;
            running.now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Mail;
    impl Job for Mail {
        const NAME: &str = "Mail";
        const QUEUE: &str = "mail";
        type Output = ();
        type State = Arc<Running>;
        async fn perform(self, _: &Context<Arc<Running>>) -> JobResult<()> {
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Both;
    impl Workflow for Both {
        const NAME: &str = "Both";
        fn configure(&self, flow: &Flow) -> gusher::Result<()> {
            flow.run_each((0..100).map(|_| Row)).named("rows");
            flow.run_each((0..40).map(|_| Scarce)).named("scarce");
            flow.run_each((0..100).map(|_| Mail)).named("mails");
            Ok(())
        }
    }

    fn app(running: &Arc<Running>) -> App<Arc<Running>> {
        let running = running.clone();
        let made = move || {
            let running = running.clone();
            async move { Ok::<_, std::convert::Infallible>(running) }
        };
        App::new(made).workflow::<Both>().job::<Row>().job::<Scarce>().job::<Mail>()
    }

    fn store() -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(Options::in_memory()).unwrap())
    }

    /// A worker at work; what stops it.
    async fn work(app: &App<Arc<Running>>, store: &Arc<dyn Store>) -> impl AsyncFnOnce() {
        let options = WorkerOptions { slots: 8, ..WorkerOptions::default() };
        let worker = app.worker_on(store.clone(), options).await.unwrap();
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        async move || {
            stop.cancel();
            worker.await.unwrap().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_is_away_stops_no_other_queue_and_why_and_doctor_say_so() {
        let (store, running, broker) = (store(), Arc::default(), Arc::new(InProcess::default()));
        broker.set_away(true);
        let app = app(&running).queue("imports").via_broker(broker.clone());
        let client = app.client_on(store.clone());
        let nobody = client.doctor().await.unwrap().warnings.join("\n");
        assert!(nobody.contains("no live worker takes from it: nothing is published to it"), "{nobody}");
        let stop = work(&app, &store).await;
        let handle = client.start(Both).await.unwrap();
        let settled = async |name: &str| handle.step(name).await.unwrap().jobs.succeeded;
        while settled("mails").await < 100 || settled("scarce").await < 40 {}
        assert_eq!(settled("rows").await, 0);
        let why = handle.why().await.unwrap();
        let cause = why.causes.iter().find(|cause| cause.step.as_deref() == Some("rows")).expect("it says why");
        assert!(cause.kinds.contains(&CauseKind::BrokerAway), "{cause:?}");
        assert!(cause.text.contains("goes by the broker a broker in this process, which does not carry"), "{cause:?}");
        let warnings = client.doctor().await.unwrap().warnings.join("\n");
        assert!(warnings.contains("queue `imports` goes by the broker"), "{warnings}");
        assert_eq!(broker.len("imports"), 0);
        broker.set_away(false);
        let ended = handle.wait().await.unwrap();
        assert_eq!(ended.state, WorkflowState::Succeeded);
        assert_eq!(client.doctor().await.unwrap().warnings, Vec::<String>::new());
        stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_queue_that_goes_by_a_broker_a_limited_type_is_claimed_from_the_store_within_its_limit() {
        let (store, running) = (store(), Arc::<Running>::default());
        let app = app(&running).queue("imports").via_broker(Arc::new(InProcess::default()));
        let stops = [work(&app, &store).await, work(&app, &store).await];
        let handle = app.client_on(store.clone()).start(Both).await.unwrap();
        let ended = handle.wait().await.unwrap();
        assert_eq!((ended.state, ended.jobs.succeeded), (WorkflowState::Succeeded, 240));
        assert_eq!(running.most.load(Ordering::SeqCst), 2);
        assert!(app.traffic().counts().taken_over > 0);
        for stop in stops {
            stop().await;
        }
        assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_queue_that_has_a_limit_and_a_broker_is_refused() {
        let app = app(&Arc::default()).queue("mail").limit(Limit::at_once(3));
        let options = || WorkerOptions::default();
        app.worker_on(store(), options()).await.unwrap();
        let mut brokers = Brokers::default();
        brokers.set("mail", Way::Broker(Arc::new(InProcess::default()) as Arc<dyn Broker>));
        let error = app.worker_on(store(), WorkerOptions { brokers, ..options() }).await.unwrap_err().to_string();
        assert!(error.contains("queue `mail` has a limit and goes by a broker"), "{error}");
        let app = app.queue("mail").via_broker(Arc::new(InProcess::default()));
        let error = app.worker_on(store(), options()).await.unwrap_err().to_string();
        assert!(error.contains("queue `mail` has a limit and goes by a broker"), "{error}");
    }
}

mod a_weekend {
    use std::sync::Arc;

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
            let name =
                |lease| Message { store: identity, lease: LeaseName { session: session.id, lease }, priority: 0 };
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
        let ended = handle.wait().await.unwrap();
        assert_eq!((ended.state, ended.jobs.succeeded), (WorkflowState::Succeeded, 20_000));
        stop.cancel();
        worker.await.unwrap().unwrap();
        assert!(app.traffic().counts().gone > 0, "{}", app.traffic().counts());
        assert_eq!(store.doctor().await.unwrap().findings, Vec::<String>::new());
    }
}
