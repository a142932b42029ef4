//! Jobs and workflows that come with a transaction of the application's own, and the outbox for another database: docs/transactions.md.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gusher::prelude::*;
use gusher::store::sqlite::rusqlite::{self, Connection, TransactionBehavior};
use gusher::{JobState, Unique, WorkflowState};
use support::House;
use support::until::until;

/// The application's own database.
#[derive(Clone)]
struct Database(Arc<PathBuf>);

impl Database {
    fn made(path: PathBuf) -> rusqlite::Result<Self> {
        let tables = "CREATE TABLE IF NOT EXISTS orders (customer TEXT); CREATE TABLE IF NOT EXISTS outbox (recipient TEXT); \
                      CREATE TABLE IF NOT EXISTS sent (recipient TEXT);";
        connect(&path)?.execute_batch(tables)?;
        Ok(Self(Arc::new(path)))
    }

    fn outbox(&self, limit: u32) -> rusqlite::Result<Vec<(i64, String)>> {
        let database = connect(&self.0)?;
        let mut rows = database.prepare("SELECT rowid, recipient FROM outbox ORDER BY rowid LIMIT ?")?;
        rows.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    fn forget(&self, row: i64) -> rusqlite::Result<()> {
        connect(&self.0)?.execute("DELETE FROM outbox WHERE rowid = ?", [row]).map(|_| ())
    }

    fn count(&self, table: &str) -> i64 {
        connect(&self.0).unwrap().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(30))?;
    Ok(database)
}

#[derive(Serialize, Deserialize)]
struct SendMail {
    to: String,
}
impl Job for SendMail {
    const NAME: &str = "SendMail";
    type Output = ();
    type State = Database;
    async fn perform(self, ctx: &Context<Database>) -> JobResult<()> {
        connect(&ctx.state().0)?.execute("INSERT INTO sent VALUES (?)", [self.to])?;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Fulfil {
    customer: String,
}
impl Workflow for Fulfil {
    const NAME: &str = "Fulfil";
    fn configure(&self, flow: &Flow) -> gusher::Result<()> {
        flow.run(SendMail { to: self.customer.clone() });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct EmptyOutbox {}

#[rustfmt::skip]
impl Job for EmptyOutbox {
    const NAME: &str = "EmptyOutbox";
    type Output = ();
    type State = Database;

    async fn perform(self, ctx: &Context<Database>) -> JobResult<()> {
        for (row, to) in ctx.state().outbox(1_000)? {
            ctx.enqueue(SendMail { to }).await?;
            ctx.state().forget(row)?;
        }
        Ok(())
    }
}

fn app(database: &Database) -> App<Database> {
    let database = database.clone();
    let app = App::new(move || std::future::ready(Ok::<_, std::io::Error>(database.clone())));
    app.job::<SendMail>().job::<EmptyOutbox>().workflow::<Fulfil>()
}

fn scheduled(app: App<Database>) -> App<Database> {
    app.schedule("outbox").every(Duration::from_secs(1)).enqueue(EmptyOutbox {})
}

fn in_the_stores_file(house: &House) -> (PathBuf, Database) {
    let path = house.folder.path().join("gusher.db");
    (path.clone(), Database::made(path).unwrap())
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_its_mail_and_its_workflow_are_one_transaction() -> Result<()> {
    let house = House::new();
    let (path, tables) = in_the_stores_file(&house);
    let app = app(&tables);
    let client = house.client(&app);
    let worker = house.worker(&app).await;
    let mut database = connect(&path)?;
    let order = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    order.execute("INSERT INTO orders (customer) VALUES (?)", ["ada@example.org"])?;
    let mail = client.enqueue(SendMail { to: "ada@example.org".into() }).within(&order)?;
    let fulfil = client.start(Fulfil { customer: "ada@example.org".into() }).within(&order)?;
    order.commit()?;
    mail.wait().await?;
    assert_eq!(fulfil.started().await?.wait().await?.state, WorkflowState::Succeeded);
    assert_eq!((tables.count("orders"), tables.count("sent")), (1, 2));
    worker.stop().await;
    house.check().await;
    Ok(())
}

/// What the guide shows, as it stands there.
#[allow(dead_code)]
fn shown(client: &Client, path: &Path) -> Result<()> {
    let mut database = Connection::open(path)?;
    let order = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    order.execute("INSERT INTO orders (customer) VALUES (?)", ["ada@example.org"])?;
    client.enqueue(SendMail { to: "ada@example.org".into() }).within(&order)?;
    client.start(Fulfil { customer: "ada@example.org".into() }).within(&order)?;
    order.commit()?;
    Ok(())
}

#[tokio::test]
async fn what_is_rolled_back_has_never_been() -> Result<()> {
    let house = House::new();
    let (path, tables) = in_the_stores_file(&house);
    let client = house.client(&app(&tables));
    let mut database = connect(&path)?;
    let order = database.transaction()?;
    order.execute("INSERT INTO orders (customer) VALUES (?)", ["ada@example.org"])?;
    client.enqueue(SendMail { to: "ada@example.org".into() }).within(&order)?;
    client.start(Fulfil { customer: "ada@example.org".into() }).within(&order)?;
    order.rollback()?;
    assert_eq!(tables.count("orders"), 0);
    assert!(client.lanes().await?.is_empty());
    let order = database.transaction()?;
    let later =
        client.enqueue(SendMail { to: "ada@example.org".into() }).later(Duration::from_secs(60)).within(&order)?;
    order.commit()?;
    assert_eq!(later.status().await?.state, JobState::Deferred);
    house.check().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_job_is_the_only_one_of_its_key_once_its_transaction_is_committed() -> Result<()> {
    let house = House::new();
    let (path, tables) = in_the_stores_file(&house);
    let client = house.client(&app(&tables));
    let mail = || client.enqueue(SendMail { to: "ada@example.org".into() }).unique(Unique::until_settled("ada"));
    let mut database = connect(&path)?;
    let order = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let first = mail().within(&order)?;
    assert_eq!(mail().within(&order).unwrap_err().first_job(), Some(first.id()), "in the same transaction");
    order.rollback()?;

    let order = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let second = mail().within(&order)?;
    order.commit()?;
    assert_eq!(mail().await.unwrap_err().first_job(), Some(second.id()));
    let order = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    assert_eq!(mail().within(&order).unwrap_err().first_job(), Some(second.id()));
    order.commit()?;

    let worker = house.worker(&app(&tables)).await;
    second.wait().await?;
    mail().await?.wait().await?;
    assert_eq!(tables.count("sent"), 2);
    worker.stop().await;
    house.check().await;
    Ok(())
}

#[tokio::test]
async fn a_transaction_of_another_database_is_refused_and_goes_on() -> Result<()> {
    let house = House::new();
    let (_, tables) = in_the_stores_file(&house);
    let client = house.client(&app(&tables));
    let elsewhere = Database::made(house.folder.path().join("elsewhere.db"))?;
    let mut database = connect(&elsewhere.0)?;
    let order = database.transaction()?;
    order.execute("INSERT INTO orders (customer) VALUES (?)", ["ada@example.org"])?;
    let error = client.enqueue(SendMail { to: "ada@example.org".into() }).within(&order).unwrap_err().to_string();
    assert!(error.contains("elsewhere.db`, and the store is the file"), "{error}");
    order.commit()?;
    assert_eq!(elsewhere.count("orders"), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_of_another_database_is_emptied_every_second() -> Result<()> {
    let house = House::new();
    let tables = Database::made(house.folder.path().join("application.db"))?;
    let app = scheduled(app(&tables));
    let worker = house.worker(&app).await;
    let mut database = connect(&tables.0)?;
    let order = database.transaction()?;
    order.execute("INSERT INTO orders (customer) VALUES (?)", ["bob@example.org"])?;
    order.execute("INSERT INTO outbox (recipient) VALUES (?)", ["bob@example.org"])?;
    order.commit()?;
    until(async || (tables.count("sent") > 0).then_some(())).await;
    worker.stop().await;
    assert_eq!((tables.count("outbox"), tables.count("sent")), (0, 1));
    Ok(())
}

#[test]
fn every_line_of_rust_in_the_guide_is_one_of_this_file() {
    let bare = |text: &str| -> String { text.chars().filter(|c| !c.is_whitespace()).collect() };
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (here, guide) = (bare(&read("tests/transactions.rs")), read("docs/transactions.md"));
    let blocks: Vec<&str> = guide.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 4);
    blocks.iter().for_each(|block| assert!(here.contains(&bare(block)), "not in this file:\n{block}"));
}
