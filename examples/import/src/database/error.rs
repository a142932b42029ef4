//! What can go wrong with the database's file, in words that say what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("{} is not a SQLite database: choose another file with --db or IMPORT_DB", .0.display())]
    NotADatabase(PathBuf),
    #[error("{} is the database of another program: choose another file with --db or IMPORT_DB", .0.display())]
    AnotherPrograms(PathBuf),
    #[error(
        "{} has layout {found}, this program writes layout {known}: use the program that made it, or another file",
        path.display()
    )]
    AnotherVersion { path: PathBuf, found: i64, known: i64 },
    #[error("cannot write {}: {why}", path.display())]
    NotWritable { path: PathBuf, why: String },
    #[error("the disk that holds {} is full: make room, then retry", .0.display())]
    DiskFull(PathBuf),
    #[error("{} is held by another process for longer than {seconds} s", path.display())]
    Locked { path: PathBuf, seconds: u64 },
    #[error("{}: {what}", path.display())]
    Other { path: PathBuf, what: &'static str, source: rusqlite::Error },
    #[error("the thread that works on {} has ended", .0.display())]
    Ended(PathBuf),
}

impl DatabaseError {
    /// How long to wait for another process that is writing.
    pub(super) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

    /// What an error of SQLite's means while doing `what`.
    pub(super) fn explain(path: &Path, what: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotADatabase(path),
            Some(ErrorCode::DiskFull) => Self::DiskFull(path),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Locked { path, seconds: Self::PATIENCE.as_secs() }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::NotWritable {
                path,
                why: "the file or its folder is read-only (SQLite writes files beside it)".to_owned(),
            },
            Some(ErrorCode::CannotOpen) => {
                let folder = folder(&path);
                let why = if path.is_dir() {
                    "it is a folder".to_owned()
                } else {
                    format!("files cannot be made in {}", folder.display())
                };
                Self::NotWritable { path, why }
            }
            _ => Self::Other { path, what, source },
        }
    }

    pub(super) fn no_folder(path: &Path, error: &io::Error) -> Self {
        let why = format!("its folder {} cannot be made: {error}", folder(path).display());
        Self::NotWritable { path: path.to_owned(), why }
    }

    pub(super) fn no_thread(path: &Path, error: &io::Error) -> Self {
        Self::NotWritable { path: path.to_owned(), why: format!("no thread can be started: {error}") }
    }
}

/// The folder that a file is in; the current one has a name too.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
