//! The thread that writes: whatever waits goes into one transaction.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::DatabaseError;
use crate::{airport::Airport, territories::Territory};

/// Bounds how long the first of a group waits for the last, and other processes for the group.
const MOST_TOGETHER: usize = 1_000;

/// Whether the write, or an earlier one of the same import, added something new.
pub(super) type Answer = Result<bool, DatabaseError>;

#[derive(Debug)]
pub(super) enum Write {
    Begin { workflow: String, anew: bool },
    Airport { workflow: String, airport: Box<Airport> },
    Territories { workflow: String, territories: Vec<Territory> },
}

/// A write, and whoever waits for it to be on the disk.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// Writes until nobody can send any more.
pub(super) fn write(path: &Path, mut connection: Connection, mut inbox: mpsc::Receiver<Waiting>) {
    let mut group = Vec::new();
    while inbox.blocking_recv_many(&mut group, MOST_TOGETHER) > 0 {
        let writes: Vec<&Write> = group.iter().map(|waiting| &waiting.write).collect();
        match commit(&mut connection, &writes) {
            Ok(answers) => {
                for (waiting, answer) in group.drain(..).zip(answers) {
                    // A job that was cancelled does not wait any more. Its write stays, which repeats allow for.
                    let _ = waiting.reply.send(Ok(answer));
                }
            }
            // One of them may have spoilt it for the others: each by itself gets the answer that is its own.
            Err(_) => {
                for waiting in group.drain(..) {
                    let answer = commit(&mut connection, &[&waiting.write])
                        .map(|answers| answers.contains(&true))
                        .map_err(|error| DatabaseError::explain(path, "cannot write to it", error));
                    let _ = waiting.reply.send(answer);
                }
            }
        }
    }
}

/// All of them or none. `IMMEDIATE` waits for other processes at the start; a transaction that became a writer on
/// the way would fail instead.
fn commit(connection: &mut Connection, writes: &[&Write]) -> rusqlite::Result<Vec<bool>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answers = writes.iter().map(|write| apply(&transaction, write)).collect::<rusqlite::Result<_>>()?;
    transaction.commit()?;
    Ok(answers)
}

fn apply(transaction: &Transaction<'_>, write: &Write) -> rusqlite::Result<bool> {
    match write {
        Write::Begin { workflow, anew } => match running(transaction, workflow)? {
            Some(_) if !anew => Ok(false),
            _ => begin(transaction, workflow).map(|_| true),
        },
        Write::Airport { workflow, airport } => upsert(transaction, import(transaction, workflow)?, airport),
        Write::Territories { workflow, territories } => {
            let import = import(transaction, workflow)?;
            for territory in territories {
                upsert_territory(transaction, import, territory)?;
            }
            Ok(true)
        }
    }
}

/// The import that the workflow's rows belong to. There is one, unless this database is not the one that the
/// workflow began with: then it begins here.
fn import(transaction: &Transaction<'_>, workflow: &str) -> rusqlite::Result<i64> {
    match running(transaction, workflow)? {
        Some(import) => Ok(import),
        None => begin(transaction, workflow),
    }
}

fn running(transaction: &Transaction<'_>, workflow: &str) -> rusqlite::Result<Option<i64>> {
    transaction
        .prepare_cached("SELECT id FROM import WHERE workflow = ?1 ORDER BY id DESC LIMIT 1")?
        .query_row([workflow], |row| row.get(0))
        .optional()
}

fn begin(transaction: &Transaction<'_>, workflow: &str) -> rusqlite::Result<i64> {
    let now = jiff::Timestamp::now().as_millisecond();
    transaction
        .prepare_cached("INSERT INTO import (workflow, started_at) VALUES (?1, ?2)")?
        .insert(params![workflow, now])
}

fn upsert(transaction: &Transaction<'_>, import: i64, airport: &Airport) -> rusqlite::Result<bool> {
    let values = params![
        airport.pass,
        airport.icao,
        airport.iata,
        airport.name,
        airport.city,
        airport.subdivision,
        airport.country,
        airport.elevation,
        airport.latitude,
        airport.longitude,
        airport.time_zone,
        airport.local_code,
        import,
    ];
    // Whether it was there before would be another answer for a job that runs again; who added it stays the same.
    transaction
        .prepare_cached(
            "INSERT INTO airport (pass, icao, iata, name, city, subdivision, country, elevation, latitude, longitude,
                 time_zone, local_code, import, added_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13)
             ON CONFLICT (pass, icao) DO UPDATE
             SET iata = excluded.iata, name = excluded.name, city = excluded.city, subdivision = excluded.subdivision,
                 country = excluded.country, elevation = excluded.elevation, latitude = excluded.latitude,
                 longitude = excluded.longitude, time_zone = excluded.time_zone, local_code = excluded.local_code,
                 import = excluded.import
             RETURNING added_by = import",
        )?
        .query_row(values, |row| row.get(0))
}

fn upsert_territory(transaction: &Transaction<'_>, import: i64, territory: &Territory) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO territory (code, name, gdp, literacy_percent, population, import)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (code) DO UPDATE
             SET name = excluded.name, gdp = excluded.gdp, literacy_percent = excluded.literacy_percent,
                 population = excluded.population, import = excluded.import",
        )?
        .execute(params![
            territory.code,
            territory.name,
            territory.gdp,
            territory.literacy_percent,
            territory.population,
            import,
        ])?;
    Ok(())
}
