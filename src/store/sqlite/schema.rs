//! The tables, and what makes a file one of ours.
//!
//! ```text
//! workflow ─┬─ step ─┬─ segment ── chunk ─┬─ params      immutable
//!           │        │                    ├─ mended      parameters that a repair replaced
//!           │        │                    ├─ bytes       one byte a job: the only truth about what has settled
//!           │        │                    ├─ recovered   one byte a job: how often its worker died
//!           │        │                    ├─ checkpoint  what jobs go on from that have not settled
//!           │        │                    ├─ emitted     how much eager sources have emitted
//!           │        │                    ├─ failed       which failed jobs ended with which error
//!           │        │                    └─ outcome     what the attempts of each lease came to
//!           │        ├─ error    first texts of failed jobs
//!           │        ├─ awaited  what it waits for, if no worker runs it
//!           │        ├─ hold     why it may not settle yet
//!           │        └─ again    how far it has been taken back to run again
//!           └─ edge
//! line ── place ── ready ── entry     ready work: a line has a place for each workflow, a place its steps, a step its entries
//! session ── lease                    who runs what
//! session ── permit ── limited        who may run how many of what is limited
//! held, queued                        which workflow has a key, and what waits for it
//! keyed, key_row, sole                lone jobs with a key, how those of one key stand, which may have no other beside it
//! schedule ── occurrence              what is started at certain times, and what became of it
//! timer, deadline, chore, draft       what is due, what is under way, what is being written
//! ```
//!
//! A segment is a run of chunks that was written together, so that a draft is adopted by one row, however many chunks it has.

use rusqlite::Connection;

use super::sql_error;
use crate::error::{Error, Result};

/// `GUSH` in the header of the file: tells our files from other programs'.
const APPLICATION_ID: i32 = 0x4755_5348;
/// The layout below.
const VERSION: i32 = 8;

const TABLES: &str = "
CREATE TABLE shard (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    lease_time INTEGER NOT NULL,      -- grows while somebody looks, so an outage costs nobody a lease
    lease_time_at INTEGER NOT NULL,   -- the wall clock when it last grew
    workers INTEGER NOT NULL,         -- live sessions that claim
    shortest INTEGER,                 -- the shortest lease of a live session
    prune_at INTEGER NOT NULL DEFAULT 0   -- not before then is more deleted of what has expired
);

CREATE TABLE identity (one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL);   -- which store this is

CREATE TABLE workflow (
    wf INTEGER PRIMARY KEY,
    id BLOB UNIQUE,                   -- null once another start took the id over
    name TEXT NOT NULL,
    arguments TEXT NOT NULL,
    generation INTEGER NOT NULL,
    state INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    unsettled INTEGER NOT NULL,       -- steps that have not settled
    active INTEGER NOT NULL,          -- steps released and not settled
    failed_steps INTEGER NOT NULL,
    chores INTEGER NOT NULL,
    grace_until INTEGER,              -- lease time at which a cancel takes leases back
    total INTEGER NOT NULL, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL,
    skipped INTEGER NOT NULL, cancelled INTEGER NOT NULL, retrying INTEGER NOT NULL,
    deferred INTEGER NOT NULL,
    created_at INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER,
    retention TEXT NOT NULL, pinned INTEGER NOT NULL,
    expires_at INTEGER,               -- of a finished one: when it may be deleted
    key TEXT, overlap INTEGER,        -- what it holds until it finishes, and what it does if another one has it
    parent INTEGER, parent_step INTEGER, parent_index INTEGER,  -- the job that it stands for
    batch INTEGER, opened_by INTEGER  -- of a batch: open, closed or abandoned, and the draft that holds it open
);
CREATE INDEX workflow_by_parent ON workflow (parent, parent_step, parent_index) WHERE parent IS NOT NULL;
CREATE INDEX workflow_by_expiry ON workflow (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX workflow_by_end ON workflow (name, state, finished_at) WHERE expires_at IS NOT NULL;
CREATE INDEX workflow_by_time ON workflow (created_at, id);
CREATE INDEX workflow_by_state ON workflow (state, created_at, id);
CREATE INDEX workflow_by_name ON workflow (name, created_at, id);
CREATE INDEX workflow_by_name_and_state ON workflow (name, state, created_at, id);

CREATE TABLE held (                                    -- who has a key: being built, or at work
    name TEXT NOT NULL, key TEXT NOT NULL, wf INTEGER NOT NULL, id BLOB NOT NULL, PRIMARY KEY (name, key)
) WITHOUT ROWID;

CREATE TABLE keyed (                                   -- lone jobs with a key that limits them, as long as they are kept
    chunk INTEGER NOT NULL, at INTEGER NOT NULL, key_row INTEGER NOT NULL, turn INTEGER NOT NULL,
    waits INTEGER NOT NULL,           -- whether it waits for its turn
    wf INTEGER NOT NULL, first INTEGER NOT NULL,
    PRIMARY KEY (chunk, at)
) WITHOUT ROWID;
CREATE INDEX keyed_waiting ON keyed (key_row, turn) WHERE waits = 1;
CREATE TABLE key_row (
    key_row INTEGER PRIMARY KEY, type TEXT NOT NULL, key TEXT NOT NULL, row TEXT NOT NULL,
    due INTEGER                       -- when a tick is to look at it
);
CREATE UNIQUE INDEX key_row_by_key ON key_row (type, key);
CREATE INDEX key_row_due ON key_row (due) WHERE due IS NOT NULL;
CREATE TABLE sole (                                    -- lone jobs that are the only ones of their key
    type TEXT NOT NULL, key TEXT NOT NULL, chunk INTEGER NOT NULL, at INTEGER NOT NULL,
    lane BLOB NOT NULL, job INTEGER NOT NULL,
    until INTEGER NOT NULL, due INTEGER,   -- until it starts, settles, or a time
    PRIMARY KEY (type, key)
) WITHOUT ROWID;
CREATE INDEX sole_by_job ON sole (chunk, at) WHERE due IS NULL;
CREATE INDEX sole_due ON sole (due) WHERE due IS NOT NULL;

CREATE TABLE queued (                                  -- starts that wait for a key, and the lone jobs that will make them
    name TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, id BLOB UNIQUE NOT NULL, lane INTEGER NOT NULL, job INTEGER NOT NULL,
    PRIMARY KEY (name, key, seq)
) WITHOUT ROWID;

CREATE TABLE schedule (
    name TEXT PRIMARY KEY, rule TEXT NOT NULL, definition TEXT NOT NULL,
    next INTEGER,                     -- no next: its rule has come to its end
    paused INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX schedule_by_next ON schedule (next) WHERE paused = 0 AND next IS NOT NULL;
CREATE TABLE occurrence (
    schedule TEXT NOT NULL, at INTEGER NOT NULL,
    upto INTEGER NOT NULL, instants INTEGER NOT NULL,   -- up to which, and how many: those that were missed together are one row
    state INTEGER NOT NULL, fired_at INTEGER NOT NULL,
    lane BLOB, job INTEGER,           -- its job
    workflow BLOB,                    -- what it started, or what was in its way
    PRIMARY KEY (schedule, at)
) WITHOUT ROWID;
CREATE INDEX occurrence_due ON occurrence (schedule, at) WHERE state = 0;
CREATE INDEX occurrence_decided ON occurrence (schedule, at) WHERE state <> 0;

CREATE TABLE step (
    wf INTEGER NOT NULL, step INTEGER NOT NULL,
    name TEXT NOT NULL, spec TEXT NOT NULL, options TEXT NOT NULL, type TEXT NOT NULL,
    line INTEGER NOT NULL, feeds INTEGER, always INTEGER NOT NULL,
    tolerate_jobs INTEGER, tolerate_fraction REAL, max_in_flight INTEGER, max_recoveries INTEGER NOT NULL, delay INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    state INTEGER NOT NULL, decided INTEGER,
    pending INTEGER NOT NULL,         -- upstream edges without a decision
    skips INTEGER NOT NULL, waits INTEGER NOT NULL, cancels INTEGER NOT NULL,
    roots INTEGER NOT NULL,           -- 1 if no edge leads into it
    total INTEGER NOT NULL, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL,
    skipped INTEGER NOT NULL, cancelled INTEGER NOT NULL, retrying INTEGER NOT NULL,
    deferred INTEGER NOT NULL,
    leased INTEGER NOT NULL,
    keyed INTEGER NOT NULL DEFAULT 0, -- of a lane: which sorts of keys its jobs have
    checkpoints INTEGER NOT NULL DEFAULT 0,   -- jobs that have saved what they go on from
    children INTEGER NOT NULL DEFAULT 0,      -- 1: each of its jobs stands for a workflow
    awaits INTEGER NOT NULL DEFAULT 0,        -- 1: no worker runs it, it waits as `awaited` says
    grows INTEGER NOT NULL DEFAULT 0,         -- 1: a step of a batch, to which jobs are added until the batch settles
    policy INTEGER NOT NULL DEFAULT 0,        -- what it does as soon as more have failed than it tolerates
    exceeded INTEGER NOT NULL DEFAULT 0,      -- 1: they have, and it has done that
    forgiven INTEGER NOT NULL DEFAULT 0,      -- failed jobs that do not count towards it: somebody resumed or repaired the step since
    grace_until INTEGER,                      -- lease time at which failing fast takes leases back
    outdated INTEGER NOT NULL DEFAULT 0,      -- 1: something that it ran after has run again since
    follows INTEGER, root INTEGER,            -- its predecessor and the first step of the chain, if it is chained: it has the chunks of that
    leads INTEGER,                            -- the step that is chained to it
    early INTEGER NOT NULL DEFAULT 0,         -- of a chained step: settled jobs whose predecessors have not succeeded
    released_at INTEGER, started_at INTEGER, finished_at INTEGER,
    PRIMARY KEY (wf, step)
) WITHOUT ROWID;
CREATE UNIQUE INDEX step_by_name ON step (wf, name);
CREATE INDEX step_with_failures ON step (wf, step) WHERE failed > 0;
CREATE INDEX step_root ON step (wf, step) WHERE roots = 1;

CREATE TABLE awaited (                                 -- what steps wait for that no worker runs
    wf INTEGER NOT NULL, step INTEGER NOT NULL,
    type TEXT,                        -- of the signal, which has the step's name; null: it waits for a time alone
    at INTEGER, wait INTEGER,         -- when the wait is over, or how long after the release; neither: never
    becomes INTEGER NOT NULL, record BLOB NOT NULL, error TEXT NOT NULL,   -- what the job becomes at that time
    signalled_at INTEGER,             -- its signal has come, perhaps before the release; what it carries is an outcome
    PRIMARY KEY (wf, step)
);

CREATE TABLE edge (
    wf INTEGER NOT NULL, up INTEGER NOT NULL, down INTEGER NOT NULL, kind INTEGER NOT NULL, decision INTEGER,
    PRIMARY KEY (wf, up, down, kind)
) WITHOUT ROWID;
CREATE INDEX edge_by_down ON edge (wf, down, up);

CREATE TABLE segment (
    segment INTEGER PRIMARY KEY,
    wf INTEGER, step INTEGER, first INTEGER NOT NULL,   -- of no step while it is a draft
    jobs INTEGER NOT NULL
);
CREATE INDEX segment_by_step ON segment (wf, step, first);
CREATE TABLE chunk (
    segment INTEGER NOT NULL, first INTEGER NOT NULL,   -- counted within the segment
    jobs INTEGER NOT NULL, chunk INTEGER NOT NULL,
    PRIMARY KEY (segment, first)
) WITHOUT ROWID;
CREATE TABLE params (chunk INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE mended (mended INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, first INTEGER NOT NULL, segment INTEGER, jobs BLOB NOT NULL, body BLOB NOT NULL);
CREATE INDEX mended_by_chunk ON mended (chunk) WHERE segment IS NULL;
CREATE INDEX mended_by_segment ON mended (segment) WHERE segment IS NOT NULL;
CREATE TABLE bytes (chunk INTEGER PRIMARY KEY, body BLOB NOT NULL);       -- no row: every job is open and untried
CREATE TABLE recovered (chunk INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE outcome (outcome INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX outcome_by_chunk ON outcome (chunk);
CREATE TABLE checkpoint (                              -- what jobs that have not settled go on from
    chunk INTEGER NOT NULL, at INTEGER NOT NULL, wf INTEGER NOT NULL, step INTEGER NOT NULL, body BLOB NOT NULL,
    draft INTEGER, calls INTEGER, jobs INTEGER,        -- of a source: which draft it covers, as far as it had been written
    PRIMARY KEY (chunk, at)
);
CREATE INDEX checkpoint_by_step ON checkpoint (wf, step);
CREATE TABLE emitted (                                 -- what eager sources have emitted, by the sources' places
    chunk INTEGER NOT NULL, at INTEGER NOT NULL, wf INTEGER NOT NULL, step INTEGER NOT NULL,
    jobs INTEGER NOT NULL, last INTEGER NOT NULL,      -- how many jobs, and the chunk that ends with the last of them
    PRIMARY KEY (chunk, at)
) WITHOUT ROWID;
CREATE INDEX emitted_by_step ON emitted (wf, step);
CREATE TABLE error (
    wf INTEGER NOT NULL, step INTEGER NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL, jobs INTEGER NOT NULL,
    PRIMARY KEY (wf, step, number)
) WITHOUT ROWID;
CREATE TABLE failed (                                  -- which failed jobs of a chunk are counted in which row of `error`
    chunk INTEGER NOT NULL, number INTEGER NOT NULL, jobs BLOB NOT NULL, PRIMARY KEY (chunk, number)
) WITHOUT ROWID;
CREATE TABLE hold (wf INTEGER NOT NULL, step INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (wf, step, name)) WITHOUT ROWID;

CREATE TABLE again (                                   -- steps that are taken back to run again, all of one repair
    wf INTEGER NOT NULL, step INTEGER NOT NULL,
    stage INTEGER NOT NULL, cursor INTEGER NOT NULL,   -- what is to be done with it next, and from where on
    gated INTEGER NOT NULL,           -- 1: it has one upstream more that has not decided: the repair
    dropped INTEGER NOT NULL,         -- 1: its source runs again, so what that emitted goes
    root INTEGER NOT NULL, again INTEGER NOT NULL,     -- the step and the argument of the chore
    PRIMARY KEY (wf, step)
) WITHOUT ROWID;
CREATE INDEX again_by_stage ON again (wf, stage, step);

CREATE TABLE line (
    line INTEGER PRIMARY KEY,
    queue TEXT NOT NULL, priority INTEGER NOT NULL, type TEXT NOT NULL, suspect INTEGER NOT NULL,
    turn INTEGER NOT NULL,            -- when it was last served
    next_turn INTEGER NOT NULL,       -- the turn of what queues up in it next
    asked INTEGER                     -- the session that drains to run a suspect slice
);
CREATE UNIQUE INDEX line_by_name ON line (queue, type, suspect, priority);
CREATE INDEX line_by_type ON line (type);
CREATE TABLE paused (is_type INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (is_type, name)) WITHOUT ROWID;  -- queues and types
CREATE TABLE place (line INTEGER NOT NULL, wf INTEGER NOT NULL, turn INTEGER, PRIMARY KEY (line, wf)) WITHOUT ROWID;  -- no turn: parked
CREATE INDEX place_by_turn ON place (line, turn) WHERE turn IS NOT NULL;
CREATE INDEX place_by_workflow ON place (wf, line);
CREATE TABLE ready (line INTEGER NOT NULL, wf INTEGER NOT NULL, step INTEGER NOT NULL, turn INTEGER, PRIMARY KEY (line, wf, step)) WITHOUT ROWID;
CREATE INDEX ready_by_step ON ready (wf, step);
CREATE INDEX ready_by_turn ON ready (line, wf, turn) WHERE turn IS NOT NULL;
CREATE TABLE entry (
    wf INTEGER NOT NULL, step INTEGER NOT NULL, suspect INTEGER NOT NULL, seq INTEGER NOT NULL,
    low INTEGER, high INTEGER,                             -- a run of jobs never claimed so far, or
    chunk INTEGER, first INTEGER, jobs BLOB,               -- jobs of one chunk
    recoveries INTEGER NOT NULL, alone INTEGER NOT NULL,   -- how often its worker died; how often with nothing beside it
    published INTEGER NOT NULL DEFAULT 0,                  -- how often it was forwarded and nobody took it over
    PRIMARY KEY (wf, step, suspect, seq)
) WITHOUT ROWID;

CREATE TABLE session (
    session INTEGER PRIMARY KEY, id BLOB UNIQUE NOT NULL,
    about TEXT NOT NULL, worker INTEGER NOT NULL, wake_port INTEGER,
    deadline INTEGER NOT NULL, lease INTEGER NOT NULL, dead_at INTEGER, since INTEGER NOT NULL,
    idle INTEGER NOT NULL, last_lease INTEGER NOT NULL, last_command INTEGER NOT NULL, last_answer TEXT
);
CREATE INDEX session_idle ON session (session) WHERE idle = 1;
CREATE INDEX session_live ON session (deadline) WHERE dead_at IS NULL;
CREATE INDEX session_dead ON session (dead_at) WHERE dead_at IS NOT NULL;
CREATE TABLE lease (
    session INTEGER NOT NULL, number INTEGER NOT NULL,
    wf INTEGER NOT NULL, step INTEGER NOT NULL, chunk INTEGER NOT NULL, first INTEGER NOT NULL,
    jobs BLOB NOT NULL,               -- those not reported yet
    stop BLOB,                        -- lone ones among them that have been cancelled
    deadline INTEGER NOT NULL, claimed_at INTEGER NOT NULL,
    last_report INTEGER NOT NULL, outcome INTEGER, record INTEGER NOT NULL, progress TEXT,
    recoveries INTEGER NOT NULL, alone INTEGER NOT NULL, suspect INTEGER NOT NULL,
    published INTEGER NOT NULL DEFAULT 0,   -- how often its slice has been forwarded, while a forwarder holds it
    replaced TEXT,                          -- the forwarder's lease that it took over
    PRIMARY KEY (session, number)
) WITHOUT ROWID;
CREATE INDEX lease_by_deadline ON lease (deadline);
CREATE INDEX lease_by_chunk ON lease (chunk);
CREATE INDEX lease_by_step ON lease (wf, step);

CREATE TABLE limited (                                 -- queues and types of which only so much may run or start
    is_type INTEGER NOT NULL, name TEXT NOT NULL,
    said TEXT NOT NULL, since INTEGER NOT NULL,            -- the limit, and when the session began that said it
    taken INTEGER NOT NULL, reserved INTEGER NOT NULL,     -- the sums of what sessions hold
    turn INTEGER NOT NULL,                                 -- the last turn of one that waits
    starts TEXT NOT NULL,                                  -- the starts that still count towards a rate
    PRIMARY KEY (is_type, name)
) WITHOUT ROWID;
CREATE TABLE permit (
    session INTEGER NOT NULL, is_type INTEGER NOT NULL, name TEXT NOT NULL,
    hold INTEGER NOT NULL, reserved INTEGER NOT NULL,      -- jobs that it may run, and starts that it has not used
    used INTEGER NOT NULL,                                 -- starts that it has used since it began
    waiting INTEGER, asked_at INTEGER NOT NULL,            -- its turn, if it wants more than it got
    deadline INTEGER,                                      -- none: it has nothing and wants nothing
    PRIMARY KEY (session, is_type, name)
) WITHOUT ROWID;
CREATE INDEX permit_by_deadline ON permit (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX permit_waiting ON permit (is_type, name, waiting) WHERE waiting IS NOT NULL;

CREATE TABLE timer (
    wf INTEGER NOT NULL, step INTEGER NOT NULL, due INTEGER NOT NULL,
    chunk INTEGER NOT NULL,           -- 0: the delay of the step itself
    first INTEGER NOT NULL, jobs BLOB NOT NULL,
    PRIMARY KEY (wf, step, due, chunk)
) WITHOUT ROWID;
CREATE INDEX timer_by_due ON timer (due);
CREATE INDEX timer_by_chunk ON timer (chunk);

CREATE TABLE deadline (                                -- lone jobs that are cancelled if they have not settled by then
    due INTEGER NOT NULL, chunk INTEGER NOT NULL, wf INTEGER NOT NULL, first INTEGER NOT NULL, jobs BLOB NOT NULL,
    PRIMARY KEY (due, chunk)
) WITHOUT ROWID;
CREATE INDEX deadline_by_chunk ON deadline (chunk);

CREATE TABLE chore (
    chore INTEGER PRIMARY KEY, turn INTEGER NOT NULL,
    kind TEXT NOT NULL, wf INTEGER NOT NULL, step INTEGER NOT NULL, cursor INTEGER NOT NULL, argument INTEGER NOT NULL,
    error TEXT                        -- why it is set aside: it can never be done
);
CREATE UNIQUE INDEX chore_by_name ON chore (wf, kind, step, argument);
CREATE INDEX chore_by_turn ON chore (turn) WHERE error IS NULL;

CREATE TABLE draft (
    draft INTEGER PRIMARY KEY,
    session BLOB NOT NULL, number INTEGER NOT NULL,
    wf INTEGER, segment INTEGER,      -- the workflow being built, or the segment being written; neither: it holds a batch open
    of_wf INTEGER, of_step INTEGER,   -- and the step that the segment is for
    spec TEXT,                        -- of jobs for a batch: their step, which is made if it is not there
    next INTEGER NOT NULL, jobs INTEGER NOT NULL, deadline INTEGER NOT NULL
);
CREATE UNIQUE INDEX draft_by_key ON draft (session, number);
CREATE INDEX draft_by_deadline ON draft (deadline);
";

/// Makes an empty file ours, or checks that it is. `path` is for the error.
pub fn prepare(conn: &mut Connection, path: &str, now: i64) -> Result<()> {
    let other = |error: rusqlite::Error| sql_error(&format!("opening the store {path}"), error);
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(other)?;
    let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(other)?;
    let application: i32 = tx.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(other)?;
    let version: i32 = tx.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(other)?;
    if tables == 0 {
        tx.execute_batch(TABLES).map_err(other)?;
        tx.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"))
            .map_err(other)?;
    } else if application != APPLICATION_ID {
        return Err(Error::corrupt(format!(
            "{path} is a database of another program, not a Gusher store; name another file, for example sqlite:gusher.db"
        )));
    } else if version != VERSION {
        let remedy = if version > VERSION {
            "use a newer version of this program"
        } else {
            "finish its workflows with the version that made it, or name another file"
        };
        return Err(Error::corrupt(format!(
            "{path} is a Gusher store of layout {version}, but this program knows layout {VERSION}; {remedy}"
        )));
    }
    // The tables of a store in memory may be there already, but nothing is in them.
    if tables == 0 || path == super::IN_MEMORY {
        tx.execute("INSERT INTO shard (one, lease_time, lease_time_at, workers) VALUES (1, 0, ?, 0)", [now])
            .map_err(other)?;
        let identity = i64::from_le_bytes(crate::id::random_bytes());
        tx.execute("INSERT INTO identity VALUES (1, ?)", [identity]).map_err(other)?;
    }
    tx.commit().map_err(other)
}

/// Makes the table in which the store keeps the last transaction of each test's ledger.
#[cfg(feature = "testing")]
pub fn keep_ledgers(conn: &Connection) -> Result<()> {
    let sql = "CREATE TABLE IF NOT EXISTS ledger (ledger INTEGER PRIMARY KEY, tx INTEGER NOT NULL)";
    conn.execute_batch(sql).map_err(|error| sql_error("making the table of ledgers", error))
}
