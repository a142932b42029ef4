//! Opens the file, and makes sure that it is ours before anything in it is changed.

use std::{path::Path, time::Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::error::{DatabaseError, folder};

/// Stands in the file's header, so that another program's database is told from ours.
const APPLICATION: i64 = 0x4169_7270;
/// Raised when `schema.sql` changes.
const LAYOUT: i64 = 2;

pub(super) fn open_or_make(path: &Path) -> Result<Connection, DatabaseError> {
    std::fs::create_dir_all(folder(path)).map_err(|error| DatabaseError::no_folder(path, &error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = connect(path, flags)?;
    // Looked at before it is changed: the journal mode already is written into the file.
    let is_ours = check(path, &connection)?;

    let explain = |error| DatabaseError::explain(path, "cannot prepare it", error);
    write_ahead(&connection).map_err(explain)?;
    // A job that has succeeded shall have its row, also after a power cut.
    connection.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
    if !is_ours {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
        // Another process may have made it meanwhile.
        if !check(path, &transaction)? {
            transaction.execute_batch(include_str!("schema.sql")).map_err(explain)?;
            transaction.pragma_update(None, "application_id", APPLICATION).map_err(explain)?;
            transaction.pragma_update(None, "user_version", LAYOUT).map_err(explain)?;
        }
        transaction.commit().map_err(explain)?;
    }
    Ok(connection)
}

pub(super) fn open_to_read(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    match check(path, &connection)? {
        true => Ok(connection),
        false => Err(DatabaseError::AnotherPrograms(path.to_owned())),
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, DatabaseError> {
    let explain = |error| DatabaseError::explain(path, "cannot open it", error);
    let connection = Connection::open_with_flags(path, flags).map_err(explain)?;
    connection.busy_timeout(DatabaseError::PATIENCE).map_err(explain)?;
    Ok(connection)
}

/// Whether the file is a database of ours. An empty one is not yet, anything else is an error.
fn check(path: &Path, connection: &Connection) -> Result<bool, DatabaseError> {
    // One statement, so that all three are from one moment: another process may be making the file.
    let (application, layout, tables): (i64, i64, i64) = connection
        .query_row(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
             FROM pragma_application_id, pragma_user_version",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .map_err(|error| DatabaseError::explain(path, "cannot read it", error))?;
    match (application, layout) {
        (APPLICATION, LAYOUT) => Ok(true),
        (APPLICATION, found) => Err(DatabaseError::AnotherVersion { path: path.to_owned(), found, known: LAYOUT }),
        (0, 0) if tables == 0 => Ok(false),
        _ => Err(DatabaseError::AnotherPrograms(path.to_owned())),
    }
}

/// Readers and the writer do not wait for each other then. SQLite does not wait for the change of the mode itself when
/// several processes open a new file at the same moment, so we do.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let began = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && began.elapsed() < DatabaseError::PATIENCE =>
            {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            done => return done,
        }
    }
}
