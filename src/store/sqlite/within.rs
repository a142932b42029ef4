//! Lone jobs that come with a transaction of the application's own, in the store's file.

use rusqlite::Transaction;

use super::tx::Tx;
use super::{IN_MEMORY, Options, sql_error};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::lone::JobId;
use crate::store::LoneJobs;

/// Takes lone jobs into their lane; returns the index of the first, and which have not been taken, since there is one of their key. They are there once the transaction has been committed, and if it is not,
/// they have never been.
pub fn enqueue_within(
    tx: &Transaction<'_>,
    url: &str,
    now: Millis,
    jobs: &LoneJobs,
) -> Result<(u64, Vec<(u16, JobId)>)> {
    check_file(tx, url)?;
    let failed = |error| sql_error("enqueueing in a transaction", error);
    // An error takes back what this call has done and nothing else.
    tx.execute_batch("SAVEPOINT enqueued").map_err(failed)?;
    let mut operation = Tx::new(tx, now);
    let result = operation.add_lone(jobs).and_then(|added| operation.flush().map(|()| added));
    let end = if result.is_ok() { "RELEASE enqueued" } else { "ROLLBACK TO enqueued; RELEASE enqueued" };
    if !tx.is_autocommit() {
        tx.execute_batch(end).map_err(failed)?;
    }
    result.map_err(|error| error.during("enqueueing in a transaction"))
}

/// The transaction must be one of the store's file: elsewhere the jobs would be seen by nobody.
fn check_file(tx: &Transaction<'_>, url: &str) -> Result<()> {
    let Some(rest) = url.strip_prefix("sqlite:") else {
        return Err(Error::usage(
            "only a store in a SQLite file takes jobs within the application's own transaction; for another database there is the outbox, \
             see docs/transactions.md",
        ));
    };
    let path = Options::parse(rest)?.path;
    let theirs = tx.path().unwrap_or_default();
    let same = path.as_os_str() != IN_MEMORY
        && match (path.canonicalize(), std::path::Path::new(theirs).canonicalize()) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            _ => false,
        };
    if same {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the transaction is one of the database `{theirs}`, and the store is the file {}: open a connection on that one, and keep the \
         application's tables there, too",
        path.display()
    )))
}
