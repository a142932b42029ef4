//! docs/lone-jobs.md: hooks

use super::*;

tokio::task_local! {
    static TENANT: &'static str;
}

/// The databases of tenants.
#[derive(Default)]
struct Tenants;

impl Tenants {
    async fn connect() -> Result<Self, std::io::Error> {
        Ok(Self)
    }

    async fn check_out(&self, job_type: &str) -> Result<&'static str, std::io::Error> {
        if job_type == "SendMail" { Ok("acme") } else { Err(std::io::Error::other("whose?")) }
    }
}

/// Tells for whom it works.
#[derive(Serialize, Deserialize)]
struct SendMail { to: String }

impl Job for SendMail {
    const NAME: &str = "SendMail";
    type Output = String;
    type State = Tenants;
    async fn perform(self, _: &Context<Tenants>) -> JobResult<String> {
        if self.to.is_empty() {
            return Err(JobError::fatal("to nobody"));
        }
        Ok(format!("{} of {}", self.to, TENANT.get()))
    }
}

static REPORTED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

fn report(job_type: &str, _: String, attempt: u32, error: &JobError) {
    REPORTED.lock().unwrap().push(format!("{job_type}, attempt {attempt}: {error}"));
}

/// Sends what fails to where people look.
struct ReportErrors;

impl<S: Send + Sync + 'static> AroundPerform<S> for ReportErrors {
    async fn around(&self, ctx: &Context<S>, next: Next<'_>) -> JobResult<Performed> {
        let ended = next.run().await;
        if let Err(error) = &ended && error.is_failure() {
            report(ctx.job_type(), ctx.idempotency_key(), ctx.attempt(), error);
        }
        ended
    }
}

/// Lets the jobs of a tenant work for that tenant, whoever it is.
struct ForTenant;

impl AroundPerform<Tenants> for ForTenant {
    async fn around(&self, ctx: &Context<Tenants>, next: Next<'_>) -> JobResult<Performed> {
        let tenant = ctx.state().check_out(ctx.job_type()).await?;
        TENANT.scope(tenant, next.run()).await
    }
}

fn app() -> App<Tenants> {
    App::new(Tenants::connect)
        .job::<SendMail>()
        .around_perform(ReportErrors)
        .around_perform(ForTenant)
        .before_enqueue(|job| match job.parameters.contains("@example.invalid") {
            true => Err("nobody reads mail there".into()),
            false => Ok(()),
        })
}

fn may_be_sent(job: &JobToEnqueue<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if job.parameters.contains("@example.invalid") {
        return Err("nobody reads mail there".into());
    }
    Ok(())
}

/// The same hooks, one by one.
fn hooked(app: App<Tenants>) -> App<Tenants> {
    let app = app.around_perform(ReportErrors);
    app.before_enqueue(may_be_sent)
}

async fn send_now(client: &Client) -> gusher::Result<String> {
    let sent = client.perform_now(SendMail { to: "ada@example.org".into() }).await?;
    Ok(sent)
}

#[tokio::test]
async fn hooks_are_around_what_is_performed_and_are_asked_before_what_is_enqueued() {
    let house = House::new();
    let client = house.client(&app());
    assert_eq!(send_now(&client).await.unwrap(), "ada@example.org of acme");
    client.perform_now(SendMail { to: String::new() }).await.unwrap_err();
    assert_eq!(*REPORTED.lock().unwrap(), ["SendMail, attempt 1: to nobody"]);
    for client in [client, house.client(&hooked(App::new(Tenants::connect).job::<SendMail>()))] {
        let refused = client.enqueue(SendMail { to: "eve@example.invalid".into() }).await.unwrap_err();
        assert_eq!(refused.to_string(), "SendMail is not enqueued: nobody reads mail there");
    }
}
