//! Gets a file to where it can be read, and keeps it in the shared location.
//!
//! | source | no shared location given | a shared location given |
//! |---|---|---|
//! | a path, `file:` | read where it is | copied there |
//! | `http:`, `https:`, `s3:` | fetched into [`LOCAL_FOLDER`] | fetched into it |
//!
//! A copy's name tells its source and that source's state (`fetch/download.rs`), so a file that has been fetched is not
//! fetched again, one that has changed is, and nobody reads an old copy for a new one.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{location::Location, number::thousands};
use download::download;
use origin::Origin;

mod bucket;
mod download;
mod origin;

/// Where fetched files go if nothing else is said: a folder beside the database and the report.
pub const LOCAL_FOLDER: &str = "import-files";

/// Told (bytes so far, bytes in all) while a file comes in.
pub type OnBytes<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// A file that is whole and on this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched {
    pub path: PathBuf,
    pub bytes: u64,
    pub how: How,
}

#[derive(Debug, PartialEq, Eq)]
pub enum How {
    /// It is read where it lies.
    InPlace,
    /// It was fetched before and has not changed since.
    Kept,
    /// It was fetched now; the first so many bytes had come in an earlier attempt.
    Copied { already_here: u64 },
}

impl Location {
    /// The file, whole and readable here; see the table above for where it goes.
    ///
    /// # Errors
    ///
    /// Each says what, where and why; [`FetchError::is_permanent`] tells whether another attempt can help.
    pub async fn fetch(&self, shared: Option<&Location>, on_bytes: OnBytes<'_>) -> Result<Fetched, FetchError> {
        if let Self::Path(file) = self {
            let found = in_place(file).await?;
            // What already lies in the shared folder is where everybody reaches it.
            let is_shared = |place: &Location| place.as_path().is_some_and(|at| file.starts_with(at));
            if shared.is_none_or(is_shared) {
                return Ok(found);
            }
        }
        let origin = Origin::of(self)?;
        match shared {
            None => download(&origin, Path::new(LOCAL_FOLDER), on_bytes).await,
            Some(Self::Path(folder)) => download(&origin, folder, on_bytes).await,
            Some(bucket @ Self::Url(url)) if url.scheme() == "s3" => {
                let bucket = Origin::of(bucket)?;
                bucket::fetch_through(&bucket, &origin, Path::new(LOCAL_FOLDER), on_bytes).await
            }
            Some(other) => Err(FetchError::NotShared(other.to_string())),
        }
    }
}

async fn in_place(file: &Path) -> Result<Fetched, FetchError> {
    let shown = file.display().to_string();
    // Opening it, not only looking at it: what may not be read shall be said now, and as what it is.
    let metadata = match tokio::fs::File::open(file).await {
        Ok(open) => open.metadata().await,
        Err(error) => Err(error),
    }
    .map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FetchError::Missing(shown.clone()),
        io::ErrorKind::PermissionDenied => FetchError::Refused { what: shown.clone(), why: error.to_string() },
        _ => FetchError::Unavailable { what: shown.clone(), why: error.to_string() },
    })?;
    if metadata.is_dir() {
        return Err(FetchError::Folder(shown));
    }
    Ok(Fetched { path: file.to_owned(), bytes: metadata.len(), how: How::InPlace })
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, bytes) = (self.path.display(), thousands(self.bytes));
        match self.how {
            How::InPlace => write!(f, "reading {path} ({bytes} bytes) in place"),
            How::Kept => write!(f, "{path} ({bytes} bytes) is kept from before, unchanged"),
            How::Copied { already_here: 0 } => write!(f, "fetched {bytes} bytes into {path}"),
            How::Copied { already_here } => write!(
                f,
                "fetched {bytes} bytes into {path}, the first {} of them in an earlier attempt",
                thousands(already_here)
            ),
        }
    }
}

/// Why a file could not be fetched or kept.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0} does not exist")]
    Missing(String),
    #[error("{0} is a folder: name a file in it")]
    Folder(String),
    #[error("{what} may not be read: {why}")]
    Refused { what: String, why: String },
    #[error("cannot fetch {what}: {why}")]
    Unavailable { what: String, why: String },
    #[error(
        "{what} broke off after {} of {} bytes ({why}): the next attempt goes on from there",
        thousands(*.got), thousands(*.size)
    )]
    BrokeOff { what: String, got: u64, size: u64, why: String },
    #[error("{0} changed while it was being fetched: the next attempt starts anew")]
    Changed(String),
    #[error("cannot keep {what} in {place}: {why}")]
    NotKept { what: String, place: String, why: String, permanent: bool },
    #[error("{0} cannot keep files: a shared location is a folder or s3://bucket/prefix")]
    NotShared(String),
}

impl FetchError {
    /// Whether another attempt would fail the same way: the file is not there, or not for us, or has nowhere to go.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Folder(_) | Self::Refused { .. } | Self::NotShared(_) => true,
            Self::NotKept { permanent, .. } => *permanent,
            Self::Unavailable { .. } | Self::BrokeOff { .. } | Self::Changed(_) => false,
        }
    }

    /// A failure to write what was fetched. A full disk may have room later; a read-only folder stays one.
    pub(crate) fn not_kept(what: &str, place: &Path, error: &io::Error) -> Self {
        Self::NotKept {
            what: what.to_owned(),
            place: place.display().to_string(),
            why: error.to_string(),
            permanent: matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::AlreadyExists
            ),
        }
    }
}
