//! Space kept back for a full disk. SQLite needs room even to delete, so without it nothing that runs could be reported and nothing
//! could be deleted. A file beside the store holds that room: the first write that finds the disk full frees it, from then on work
//! that is under way goes on, and new work is refused until the file can be made again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::sql_error;
use crate::error::{Error, Result};

/// How much is kept back: some hundred of the largest operations.
const BYTES: usize = 8 * 1024 * 1024;

/// The file that holds the room; a store in memory has none.
#[derive(Clone, Debug)]
pub struct Reserve(Option<PathBuf>);

impl Reserve {
    /// The reserve of the store at `path`.
    pub fn beside(path: Option<&PathBuf>) -> Self {
        Self(path.map(|path| with_suffix(path, "-reserve")))
    }

    /// Whether the room is there.
    pub fn is_kept(&self) -> bool {
        self.0.as_ref().is_none_or(|path| path.exists())
    }

    /// Makes the file unless it is there. While it cannot be made, there is no room for new work. Blocks.
    pub fn keep(&self) -> Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        make(path).map_err(|error| {
            if error.kind() == io::ErrorKind::StorageFull {
                return Error::full(
                    "the disk of the store is full: work that is under way goes on, new work is refused until there is space",
                );
            }
            Error::unavailable(format!("{} cannot be written", path.display())).because(error)
        })
    }

    /// Frees the room, for who has found the disk full; returns whether there was any.
    pub fn free(&self) -> bool {
        let Some(path) = &self.0 else { return false };
        match fs::remove_file(path) {
            Ok(()) => {
                tracing::error!("the disk of the store is full; its reserve has been freed, and new work is refused");
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "the disk of the store is full, and its reserve cannot be freed"),
        }
        false
    }

    /// Frees the room, and what the write-ahead log takes.
    pub fn spend(&self, conn: &rusqlite::Connection) {
        self.free();
        // What the write-ahead log holds can be moved into the file now, which empties the log.
        if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::debug!(error = %sql_error("emptying the write-ahead log", error), "the disk of the store stays full");
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes the bytes for good: a file with holes would keep nothing back. It gets its name once it is whole, and whoever else makes it
/// at the same time waits until it has.
fn make(path: &Path) -> io::Result<()> {
    let unfinished = with_suffix(path, "-unfinished");
    let mut file = File::options().create(true).write(true).truncate(false).open(&unfinished)?;
    file.lock()?;
    if path.exists() {
        return Ok(());
    }
    let piece = vec![0; 64 * 1024];
    let written = (0..BYTES / piece.len()).try_for_each(|_| file.write_all(&piece)).and_then(|()| file.sync_data());
    match written {
        Ok(()) => fs::rename(&unfinished, path),
        Err(error) => {
            // What has been written of it must not fill the disk that is full.
            let _ = fs::remove_file(&unfinished);
            Err(error)
        }
    }
}
