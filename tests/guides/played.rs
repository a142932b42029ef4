//! docs/testing-your-workflow.md: code that enqueues lone jobs

use super::*;

#[derive(Serialize, Deserialize)]
struct SendMail { to: String }

impl Job for SendMail {
    const NAME: &str = "SendMail";
    const QUEUE: &str = "mail";
    type Output = ();
    type State = Mailer;
    async fn perform(self, ctx: &Context<Mailer>) -> JobResult<()> {
        Ok(ctx.state().welcome(&self.to).await?)
    }
}

fn app() -> App<Mailer> {
    App::new(|| async { Ok::<_, std::convert::Infallible>(Mailer) }).job::<SendMail>()
}

async fn sign_up(client: &Client, who: &str) -> gusher::Result<()> {
    client.enqueue(SendMail { to: who.into() }).await?;
    client.enqueue(SendMail { to: who.into() }).later(Duration::from_secs(24 * 3_600)).await?;
    Ok(())
}

#[test]
fn who_signs_up_gets_a_mail_at_once_and_another_one_a_day_later() {
    let played = Simulation::new(app()).play(async |client| sign_up(&client, "ada@example.org").await).unwrap();

    let mails = played.enqueued::<SendMail>().unwrap();
    assert_eq!((mails.len(), mails[0].job.to.as_str()), (2, "ada@example.org"));
    assert_eq!((mails[1].queue.as_str(), mails[1].later), ("mail", Some(Duration::from_secs(24 * 3_600))));
    assert_eq!((mails[1].state, mails[1].attempts.len()), (JobState::Succeeded, 1));
    assert!(played.failures().is_empty());
}

#[test]
fn both_mails_are_sent_as_they_are_enqueued_or_not_at_all() {
    let inline = Simulation::new(app()).inline().play(async |client| sign_up(&client, "ada@example.org").await);
    let unworked = Simulation::new(app()).without_workers().play(async |client| sign_up(&client, "ada@example.org").await);

    let (inline, unworked) = (inline.unwrap(), unworked.unwrap());
    assert_eq!((inline.enqueued::<SendMail>().unwrap().len(), inline.ran::<SendMail>()), (2, 2));
    assert_eq!((unworked.enqueued::<SendMail>().unwrap().len(), unworked.ran::<SendMail>()), (2, 0));
}
