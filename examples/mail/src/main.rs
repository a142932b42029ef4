//! A service that welcomes people by mail, with its jobs, its worker and its command line in one small program.

use std::convert::Infallible;
use std::process::ExitCode;

use gusher::CancellationToken;
use gusher::prelude::*;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// What jobs share: a worker makes it once. Here would be a pool of connections.
struct Mailer;

impl Mailer {
    async fn connect() -> Result<Self, Infallible> {
        Ok(Self)
    }

    async fn send(&self, to: &str, text: &str) -> anyhow::Result<()> {
        anyhow::ensure!(to.contains('@'), "`{to}` is no address");
        println!("to {to}: {text}");
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Welcome {
    to: String,
}

impl Job for Welcome {
    const NAME: &str = "Welcome";
    const QUEUE: &str = "mail";
    type Output = ();
    type State = Mailer;

    async fn perform(self, ctx: &Context<Mailer>) -> JobResult<()> {
        ctx.state().send(&self.to, "Welcome!").await.fatal()?;
        Ok(())
    }
}

fn app() -> App<Mailer> {
    App::new(Mailer::connect).job::<Welcome>()
}

/// Takes addresses as a web service takes requests, one a line. Its worker is in the same process.
async fn serve() -> anyhow::Result<()> {
    let url = std::env::var("GUSHER_STORE").unwrap_or_else(|_| "sqlite:gusher.db".into());
    let app = app();
    let client = app.client(&url).await?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn(app.worker(&client).await?.run(stop.clone()));

    let mut requests = BufReader::new(stdin()).lines();
    let mut jobs = Vec::new();
    while let Some(to) = requests.next_line().await? {
        let job = client.enqueue(Welcome { to }).await?;
        println!("{} is in the store", job.id());
        jobs.push(job);
    }
    // It could end now, and leave what is not sent yet to the next worker.
    for job in jobs {
        if let Err(error) = job.wait().await {
            eprintln!("{error}");
        }
    }

    stop.cancel();
    worker.await??;
    Ok(())
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some("serve") {
        return app().main();
    }
    match tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(serve())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
