//! Copies one file into a folder, going on where an earlier attempt was cut off.
//!
//! ```text
//! import-files/
//!   5d41402a.lock                         held by whoever fetches from this source
//!   5d41402a9b71e1f3-airports.csv.part    what has come so far
//!   5d41402a9b71e1f3-airports.csv         whole
//!   source ─┘└ state
//! ```
//!
//! The name holds a hash of the source and one of its *state*: length, ETag, time of change. So whatever is found
//! under a name is the same file or its beginning, whoever fetched it and whenever: a part can be gone on with, a
//! whole can be used, and a file that has changed at its source starts under another name.

use std::{
    fs::TryLockError,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::TryStreamExt;
use object_store::GetResult;
use tokio::{
    fs::{self, File, OpenOptions},
    io::{AsyncSeekExt, AsyncWriteExt},
};

use super::{
    FetchError, Fetched, How, OnBytes,
    origin::{Origin, State, innermost},
};
use crate::number::stable_hash;

/// How long to wait before looking again whether another process has finished with the same file.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Fetches what `origin` holds now into `folder`.
pub(super) async fn download(origin: &Origin, folder: &Path, on_bytes: OnBytes<'_>) -> Result<Fetched, FetchError> {
    let not_kept = |error: io::Error| FetchError::not_kept(&origin.shown, folder, &error);
    fs::create_dir_all(folder).await.map_err(not_kept)?;
    let _lock = lock(origin, folder).await.map_err(not_kept)?;

    let first = origin.get().await?;
    let state = State::of(&first.meta);
    let whole = folder.join(copy_name(origin, &state));
    let fetched = |how| Fetched { path: whole.clone(), bytes: state.size, how };
    if state.is_certain() && length(&whole).await == Some(state.size) {
        return Ok(fetched(How::Kept));
    }

    let part = with_suffix(&whole, ".part");
    let mut file = open_part(&part).await.map_err(not_kept)?;
    let here = file.metadata().await.map_err(not_kept)?.len();
    let usable = if state.is_certain() && here <= state.size { here } else { 0 };
    if usable < state.size || state.size == 0 {
        let (already_here, body) = rest(origin, first, &state, usable).await?;
        fill(origin, folder, body, &state, &mut file, already_here, on_bytes).await?;
    }
    file.sync_all().await.map_err(not_kept)?;
    fs::rename(&part, &whole).await.map_err(not_kept)?;
    forget_older_parts(origin, folder).await;
    Ok(fetched(How::Copied { already_here: usable }))
}

/// The name under which a file in this state is kept.
pub(super) fn copy_name(origin: &Origin, state: &State) -> String {
    let source = source_hash(origin);
    // Half of the bits: enough to tell the few states of one source apart.
    let state = state.hash() as u32;
    format!("{source}{state:08x}-{}", origin.file_name)
}

fn source_hash(origin: &Origin) -> String {
    format!("{:08x}", stable_hash(&origin.shown) as u32)
}

/// The bytes from `usable` on, or from the first on if their store gives no parts of a file.
async fn rest(origin: &Origin, first: GetResult, state: &State, usable: u64) -> Result<(u64, GetResult), FetchError> {
    if usable == 0 {
        return Ok((0, first));
    }
    match origin.get_from(usable).await? {
        Some(rest) if State::of(&rest.meta) != *state => Err(FetchError::Changed(origin.shown.clone())),
        Some(rest) => Ok((usable, rest)),
        None => Ok((0, first)),
    }
}

async fn fill(
    origin: &Origin,
    folder: &Path,
    body: GetResult,
    state: &State,
    file: &mut File,
    already_here: u64,
    on_bytes: OnBytes<'_>,
) -> Result<(), FetchError> {
    let not_kept = |error: io::Error| FetchError::not_kept(&origin.shown, folder, &error);
    file.set_len(already_here).await.map_err(not_kept)?;
    file.seek(io::SeekFrom::End(0)).await.map_err(not_kept)?;

    let mut got = already_here;
    let mut body = body.into_stream();
    let ended = loop {
        match body.try_next().await {
            Ok(Some(bytes)) => {
                file.write_all(&bytes).await.map_err(not_kept)?;
                got += bytes.len() as u64;
                on_bytes(got, state.size);
            }
            Ok(None) => break "its end came early".to_owned(),
            Err(error) => break innermost(&error),
        }
    };
    // Whatever came is worth keeping: the next attempt goes on behind it.
    file.flush().await.map_err(not_kept)?;
    if got == state.size {
        return Ok(());
    }
    Err(FetchError::BrokeOff { what: origin.shown.clone(), got, size: state.size, why: ended })
}

/// Two processes must not write one part. The lock goes with the process that holds it, however that ends.
async fn lock(origin: &Origin, folder: &Path) -> io::Result<std::fs::File> {
    let path = folder.join(format!("{}.lock", source_hash(origin)));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).await?.into_std().await;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

async fn open_part(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).await
}

/// Parts of states that the source no longer has. The lock is held, so nobody is writing them; one that stays behind
/// costs room only.
async fn forget_older_parts(origin: &Origin, folder: &Path) {
    let source = source_hash(origin);
    let Ok(mut entries) = fs::read_dir(folder).await else {
        return;
    };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&source) && name.ends_with(".part") {
            let _ = fs::remove_file(entry.path()).await;
        }
    }
}

async fn length(path: &Path) -> Option<u64> {
    fs::metadata(path).await.ok().map(|metadata| metadata.len())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
