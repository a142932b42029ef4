//! Connections of stores in memory, kept for the next one: to make the tables and to compile every statement anew takes longer than
//! most tests do with them.

use parking_lot::Mutex;
use rusqlite::Connection;

/// How many are kept.
const KEPT: usize = 8;

static IDLE: Mutex<Vec<Connection>> = Mutex::new(Vec::new());

/// A connection to an empty database in memory, with the tables of whoever used it last. `None` if there is none.
pub fn take() -> Option<Connection> {
    let conn = IDLE.lock().pop()?;
    // What cannot be emptied is of no use.
    empty(&conn).ok().map(|()| conn)
}

/// Keeps a connection, unless its last operation was left in the middle.
pub fn keep(conn: Connection) {
    let mut idle = IDLE.lock();
    if conn.is_autocommit() && idle.len() < KEPT {
        idle.push(conn);
    }
}

fn empty(conn: &Connection) -> rusqlite::Result<()> {
    let mut tables = conn.prepare_cached("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    names.iter().try_for_each(|name| conn.prepare_cached(&format!("DELETE FROM {name}"))?.execute([]).map(|_| ()))
}
