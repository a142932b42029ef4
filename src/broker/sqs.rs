//! Amazon SQS, standard queues: `sqs://REGION`, `sqs://` for the region of the environment, `?endpoint=URL` for a server of its own.
//!
//! Credentials come from the environment, the profile, the container or the machine, as for every AWS program. Messages are sent and deleted
//! in batches of ten and received by long polling; an idle consumer of a queue asks three times a minute. What was received and not deleted
//! comes again after the time that `?hidden=` says.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Region};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, QueueAttributeName, SendMessageBatchRequestEntry};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{Answer, Broker, Delivery, Message, Receipt, Settings, take_settings};
use crate::error::{Error, Result};

/// The longest name of a queue.
const NAME: usize = 80;
/// The most messages of one call.
const BATCH: usize = 10;
/// How long a call waits for messages: the longest that SQS allows.
const LONG_POLL: Duration = Duration::from_secs(20);
/// How long one call may take beyond the time that it waits for messages; after that the connection counts as broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what was received is kept from others: long enough to take it over, which takes milliseconds.
const HIDDEN: Duration = Duration::from_secs(30);
/// How long a message is kept that nobody receives: its lease is gone much earlier.
const RETENTION: &str = "3600";

/// The queues of one region.
pub struct Sqs {
    region: Option<String>,
    endpoint: Option<String>,
    hidden: Duration,
    poll: Duration,
    settings: Settings,
    shown: String,
    client: OnceCell<Client>,
    urls: Mutex<HashMap<String, String>>,
}

impl fmt::Debug for Sqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sqs({})", self.shown)
    }
}

impl Sqs {
    /// The queues of a URL. Looks for credentials when it is used.
    pub fn open(url: &str) -> Result<Self> {
        let (place, mut settings, others) = take_settings(url)?;
        // A queue's name has no dots.
        settings.prefix = settings.prefix.replace('.', "-");
        let (mut endpoint, mut hidden, mut poll) = (None, HIDDEN, LONG_POLL);
        for (name, value) in others {
            let time = |longest: Duration, shown: &str| {
                let time = crate::store::parse_duration(value)
                    .filter(|time| (Duration::from_secs(1)..=longest).contains(time));
                time.ok_or_else(|| {
                    Error::usage(format!("an SQS broker's `{name}` is a time between 1s and {shown}, not `{value}`"))
                })
            };
            match name {
                "endpoint" => endpoint = Some(value.to_owned()),
                "hidden" => hidden = time(Duration::from_secs(12 * 3600), "12h")?,
                "poll" => poll = time(LONG_POLL, "20s")?,
                _ => {
                    return Err(Error::usage(format!(
                        "`{name}` is no setting of an SQS broker; there are endpoint, hidden, poll, slice, aside, prefix"
                    )));
                }
            }
        }
        let region = place.trim_start_matches("sqs:").trim_matches('/');
        let is_region = region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !is_region {
            return Err(Error::usage(format!(
                "`{region}` is no region of AWS; a broker there is a URL like sqs://eu-central-1"
            )));
        }
        Ok(Self {
            region: Some(region.to_owned()).filter(|region| !region.is_empty()),
            shown: format!("sqs://{region}"),
            endpoint,
            hidden,
            poll,
            settings,
            client: OnceCell::new(),
            urls: Mutex::default(),
        })
    }

    async fn client(&self) -> &Client {
        let make = async || {
            let http = Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
            let times = TimeoutConfig::builder().operation_attempt_timeout(self.poll + PATIENCE).build();
            let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(times);
            if let Some(region) = &self.region {
                loader = loader.region(Region::new(region.clone()));
            }
            if let Some(endpoint) = &self.endpoint {
                loader = loader.endpoint_url(endpoint);
            }
            Client::new(&loader.load().await)
        };
        self.client.get_or_init(make).await
    }

    /// What SQS calls a queue: letters, digits, `-` and `_`, at most 80. A name that has to be changed for that is told apart from others by
    /// what it was.
    fn queue(&self, queue: &str) -> String {
        let whole = format!("{}{queue}", self.settings.prefix);
        let letter = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
        let name: String = whole.chars().map(letter).collect();
        if name == whole && name.len() <= NAME {
            return name;
        }
        let mark = format!("-{:.8}", Uuid::new_v5(&Uuid::NAMESPACE_OID, whole.as_bytes()).simple());
        format!("{}{mark}", &name[..name.len().min(NAME - mark.len())])
    }

    /// The URL of a queue, which is made if it is not there: as somebody has made it, it is right.
    async fn url(&self, queue: &str) -> Result<String> {
        let name = self.queue(queue);
        if let Some(url) = self.urls.lock().get(&name) {
            return Ok(url.clone());
        }
        let what = format!("the queue `{name}` of {}", self.shown);
        let client = self.client().await;
        let url = match client.get_queue_url().queue_name(&name).send().await {
            Ok(found) => found.queue_url,
            Err(error) if is_missing(&error) => {
                let made = client
                    .create_queue()
                    .queue_name(&name)
                    .attributes(QueueAttributeName::MessageRetentionPeriod, RETENTION)
                    .send()
                    .await;
                made.map_err(|error| sqs_error(&what, error))?.queue_url
            }
            Err(error) => return Err(sqs_error(&what, error)),
        };
        let url = url.ok_or_else(|| Error::corrupt(format!("{what} has no URL")))?;
        self.urls.lock().insert(name, url.clone());
        Ok(url)
    }

    /// An error of a call on a queue: if that has been deleted, it is looked for again.
    fn failed<E, R>(&self, what: &str, queue: &str, error: SdkError<E, R>) -> Error
    where
        SdkError<E, R>: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.urls.lock().remove(&self.queue(queue));
        sqs_error(what, error)
    }

    async fn send(&self, queue: &str, bodies: Vec<String>) -> Result<()> {
        let what = format!("publishing to `{}` of {}", self.queue(queue), self.shown);
        let (client, url) = (self.client().await, self.url(queue).await?);
        for some in bodies.chunks(BATCH) {
            let entries: std::result::Result<Vec<_>, _> = some
                .iter()
                .enumerate()
                .map(|(at, body)| SendMessageBatchRequestEntry::builder().id(at.to_string()).message_body(body).build())
                .collect();
            let entries = entries.map_err(|error| Error::usage(what.clone()).because(error))?;
            let sent = client.send_message_batch().queue_url(&url).set_entries(Some(entries)).send().await;
            let sent = sent.map_err(|error| self.failed(&what, queue, error))?;
            if let Some(failed) = sent.failed.first() {
                return Err(Error::unavailable(format!(
                    "{what}: {} messages were not taken ({})",
                    sent.failed.len(),
                    failed.message.as_deref().unwrap_or(&failed.code)
                )));
            }
        }
        Ok(())
    }
}

impl Broker for Sqs {
    fn publish<'a>(&'a self, queue: &'a str, messages: Vec<Message>) -> Answer<'a, ()> {
        Box::pin(self.send(queue, messages.iter().map(Message::encode).collect()))
    }

    fn receive<'a>(&'a self, queue: &'a str, most: u32) -> Answer<'a, Vec<Delivery>> {
        Box::pin(async move {
            let what = format!("receiving from `{}` of {}", self.queue(queue), self.shown);
            let (client, url) = (self.client().await, self.url(queue).await?);
            loop {
                let received = client
                    .receive_message()
                    .queue_url(&url)
                    .max_number_of_messages((most as usize).clamp(1, BATCH) as i32)
                    .wait_time_seconds(self.poll.as_secs() as i32)
                    .visibility_timeout(self.hidden.as_secs() as i32)
                    .send()
                    .await
                    .map_err(|error| self.failed(&what, queue, error))?;
                let deliveries: Vec<Delivery> = received
                    .messages
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|message| {
                        let body = message.body.unwrap_or_default().into_bytes();
                        Some(Delivery { body, receipt: Receipt(message.receipt_handle?) })
                    })
                    .collect();
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
            }
        })
    }

    fn acknowledge<'a>(&'a self, queue: &'a str, receipts: Vec<Receipt>) -> Answer<'a, ()> {
        Box::pin(async move {
            let what = format!("deleting messages of `{}` of {}", self.queue(queue), self.shown);
            let (client, url) = (self.client().await, self.url(queue).await?);
            for some in receipts.chunks(BATCH) {
                let entries: std::result::Result<Vec<_>, _> = some
                    .iter()
                    .enumerate()
                    .map(|(at, receipt)| {
                        DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(&receipt.0).build()
                    })
                    .collect();
                let entries = entries.map_err(|error| Error::usage(what.clone()).because(error))?;
                let deleted = client.delete_message_batch().queue_url(&url).set_entries(Some(entries)).send().await;
                deleted.map_err(|error| self.failed(&what, queue, error))?;
            }
            Ok(())
        })
    }

    fn set_aside<'a>(&'a self, queue: &'a str, body: Vec<u8>) -> Answer<'a, ()> {
        let body = String::from_utf8_lossy(&body).into_owned();
        Box::pin(async move { self.send(&format!("{queue}.aside"), vec![body]).await })
    }

    /// SQS sends nothing ahead.
    fn pause<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn check<'a>(&'a self, queue: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.urls.lock().remove(&self.queue(queue));
            self.url(queue).await.map(|_| ())
        })
    }

    fn name(&self) -> String {
        self.shown.clone()
    }

    fn settings(&self) -> Settings {
        self.settings.clone()
    }
}

fn is_missing(error: &impl ProvideErrorMetadata) -> bool {
    error.code().is_some_and(|code| code.contains("NonExistentQueue") || code.contains("QueueDoesNotExist"))
}

/// What went wrong, as one of our errors.
fn sqs_error<E, R>(what: &str, error: SdkError<E, R>) -> Error
where
    SdkError<E, R>: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let said = error.message().unwrap_or_default().to_owned();
    let refused =
        ["AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClient", "ExpiredToken"];
    if refused.iter().any(|word| code.contains(word)) {
        return Error::usage(format!(
            "{what}: AWS refuses these credentials, or lets them do too little (the guide to SQS has the policy): {code} {said}"
        ))
        .because(error);
    }
    Error::unavailable(format!("{what}: SQS is away or not ready {code} {said}")).because(error)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_that_sqs_does_not_know_stay_apart() {
        let broker = Sqs::open("sqs://eu-central-1").unwrap();
        let names = ["mail-out", "mail.out", "mail out", "mail/out"].map(|name| broker.queue(name));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 4, "{names:?}");
        assert!(names[1].starts_with("gusher-mail-out-"), "{names:?}");
        let long = ["a", "b"].map(|end| broker.queue(&format!("{}{end}", "imports".repeat(20))));
        assert!(long[0] != long[1] && long.iter().all(|name| name.len() == NAME), "{long:?}");
    }

    #[test]
    fn a_url_says_where_the_queues_are_and_how_they_are_used() {
        let broker =
            Sqs::open("sqs://eu-central-1?endpoint=http://127.0.0.1:5000&hidden=5s&poll=2s&aside=true").unwrap();
        assert_eq!(
            (broker.region.as_deref(), broker.endpoint.as_deref()),
            (Some("eu-central-1"), Some("http://127.0.0.1:5000"))
        );
        assert_eq!((broker.queue("mail_out"), broker.hidden), ("gusher-mail_out".to_owned(), Duration::from_secs(5)));
        assert_eq!(broker.poll, Duration::from_secs(2));
        assert!(Sqs::open("sqs://").unwrap().region.is_none());
        for wrong in [
            "sqs://a/b",
            "sqs://eu-central-1?hidden=0s",
            "sqs://eu-central-1?poll=1m",
            "sqs://eu-central-1?queue-type=fifo",
        ] {
            assert!(Sqs::open(wrong).is_err(), "{wrong}");
        }
    }
}
