//! Where a file comes from: one object of an object store, be that a folder, a web server or a bucket.

use std::{error::Error, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, RetryConfig,
    client::HttpError, http::HttpBuilder, local::LocalFileSystem, path::Path,
};
#[cfg(feature = "s3")]
use url::Url;

use super::FetchError;
use crate::{location::Location, number::stable_hash};

#[derive(Debug)]
pub(super) struct Origin {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    /// The location as it was given, for names and errors.
    pub(super) shown: String,
    /// The last part of its path, in letters that any file system takes.
    pub(super) file_name: String,
}

impl Origin {
    pub(super) fn of(location: &Location) -> Result<Self, FetchError> {
        provide_cryptography();
        let shown = location.to_string();
        let opened: object_store::Result<(Arc<dyn ObjectStore>, Path)> = match location {
            Location::Path(path) => Path::from_filesystem_path(path)
                .map_err(Into::into)
                .map(|path| (Arc::new(LocalFileSystem::new()) as _, path)),
            #[cfg(feature = "s3")]
            Location::Url(url) if url.scheme() == "s3" => bucket(url),
            // The whole URL, with its query, is the base of a store that has but this one object: nothing of it
            // is lost or written in another way.
            Location::Url(url) => HttpBuilder::new()
                .with_url(url.as_str())
                .with_client_options(client_options())
                .with_retry(few_retries())
                .build()
                .map(|store| (Arc::new(store) as _, Path::default())),
        };
        match opened {
            Ok((store, path)) => Ok(Self { store, path, file_name: file_name(location), shown }),
            Err(error) => Err(FetchError::Unavailable { what: shown, why: innermost(&error) }),
        }
    }

    /// The file from its first byte.
    pub(super) async fn get(&self) -> Result<GetResult, FetchError> {
        self.store.get_opts(&self.path, GetOptions::new()).await.map_err(|error| self.cannot(&error))
    }

    /// The file from a later byte on; `None` if its store cannot give it so.
    pub(super) async fn get_from(&self, byte: u64) -> Result<Option<GetResult>, FetchError> {
        let options = GetOptions::new().with_range(Some(GetRange::Offset(byte)));
        match self.store.get_opts(&self.path, options).await {
            Ok(rest) => Ok(Some(rest)),
            Err(error) if was_answered(&error) => Ok(None),
            Err(error) => Err(self.cannot(&error)),
        }
    }

    pub(super) fn cannot(&self, error: &object_store::Error) -> FetchError {
        let what = self.shown.clone();
        match error {
            object_store::Error::NotFound { .. } => FetchError::Missing(what),
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                FetchError::Refused { what, why: innermost(error) }
            }
            _ => FetchError::Unavailable { what, why: innermost(error) },
        }
    }
}

/// What tells one state of a file from another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) size: u64,
    e_tag: Option<String>,
    changed_at: Option<i64>,
}

impl State {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self {
            size: meta.size,
            // A weak tag (`W/"…"`) promises the same meaning, not the same bytes.
            e_tag: meta.e_tag.clone().filter(|tag| !tag.starts_with("W/")),
            // A store that does not know the time says the epoch.
            changed_at: Some(meta.last_modified.timestamp_millis()).filter(|&ms| ms != 0),
        }
    }

    /// Whether two equal states mean equal bytes: a length alone proves nothing.
    pub(super) fn is_certain(&self) -> bool {
        self.e_tag.is_some() || self.changed_at.is_some()
    }

    pub(super) fn hash(&self) -> u64 {
        let Self { size, e_tag, changed_at } = self;
        stable_hash(&format!("{size} {e_tag:?} {changed_at:?}"))
    }
}

/// What `https:` uses; rustls has no choice of its own.
fn provide_cryptography() {
    // An error says that another part of the program has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(feature = "s3")]
fn bucket(url: &Url) -> object_store::Result<(Arc<dyn ObjectStore>, Path)> {
    use object_store::{
        ClientConfigKey,
        aws::{AmazonS3Builder, AmazonS3ConfigKey},
    };

    // Credentials, region and endpoint come from the usual AWS_… variables.
    let store = AmazonS3Builder::from_env()
        .with_url(url.as_str())
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), "15 minutes")
        .with_retry(few_retries())
        .build()?;
    Ok((Arc::new(store), Path::from_url_path(url.path())?))
}

fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(true)
        // A long file may take long, as long as something comes.
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(10))
        .with_read_timeout(Duration::from_secs(30))
}

/// Enough for a connection that was reset. Whatever takes longer is for the engine to retry: it does so with
/// patience, with the reason on show, and on another worker if need be.
fn few_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 1,
        retry_timeout: Duration::from_secs(30),
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
    }
}

fn file_name(location: &Location) -> String {
    const LONGEST: usize = 80;
    let last = match location {
        Location::Path(path) => path.file_name().map(|name| name.to_string_lossy()),
        Location::Url(url) => url.path_segments().and_then(Iterator::last).map(Into::into),
    };
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_');
    match last.as_deref() {
        None | Some("") => "file".to_owned(),
        Some(name) => name.chars().map(|char| if plain(char) { char } else { '_' }).take(LONGEST).collect(),
    }
}

/// Whether the error is an answer (this store gives no parts of a file) and not a connection that failed.
fn was_answered(error: &object_store::Error) -> bool {
    !causes(error).any(|cause| cause.is::<HttpError>())
}

/// The first thing that went wrong; what wraps it only repeats the request.
pub(super) fn innermost(error: &object_store::Error) -> String {
    const LONGEST: usize = 200;
    let text = causes(error).last().map(ToString::to_string);
    let text = text.unwrap_or_else(|| error.to_string());
    // A server's error page is one line of words here, not a page.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

fn causes(error: &object_store::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}
