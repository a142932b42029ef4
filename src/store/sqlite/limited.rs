//! Lone jobs whose key limits them: those beyond the limit wait for their turn, in a row of their key's own.
//!
//! A job that has been admitted is open: it stands in a line or under a lease. One that waits is deferred, without a timer. Whatever changes
//! what is admitted is noted in memory; the end of the operation admits those that come next, up to its bound, and leaves the rest to ticks.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::create::to_json;
use super::key_row::{KeyRow, Recovered};
use super::lease::Lease;
use super::line::{End, Work};
use super::tx::{Step, Tx, Wf};
use crate::clock::Millis;
use crate::error::{Error, Result};
use crate::limit::Limit;
use crate::planted::planted;
use crate::slice::Mask;
use crate::state::{JobState, attempts, job_byte};
use crate::store::{KEYED_SLICE, Keyed, Turn};

/// From this many statements on an operation leaves those that come next to ticks.
const SOFT_CALLS: u64 = 320;
/// How many jobs of one key are admitted at once, and how many keys a tick looks at.
const ADMITTED: u32 = 16;
const KEYS: usize = 16;
/// How long a key whose rows are damaged is left alone.
const SET_ASIDE: Millis = 3_600_000;
/// How many keys of jobs that are the only ones end in one tick.
const ENDED: i64 = 100;

/// Which sorts of keys the jobs of a lane have had so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys(pub i64);

impl Keys {
    const LIMITED: i64 = 1;
    const SOLE: i64 = 2;

    /// Whether jobs have a key that limits them.
    pub fn limited(self) -> bool {
        self.0 & Self::LIMITED != 0
    }

    /// Whether jobs may be the only ones of their key.
    pub fn sole(self) -> bool {
        self.0 & Self::SOLE != 0
    }

    /// The most jobs of one slice.
    pub fn slice(self) -> Option<u32> {
        self.limited().then_some(KEYED_SLICE)
    }

    pub fn and(self, keyed: &[Keyed]) -> Self {
        Self(keyed.iter().fold(self.0, |keys, keyed| {
            let limited = keyed.limit.as_ref().map_or(0, |_| Self::LIMITED);
            keys | limited | keyed.unique.as_ref().map_or(0, |_| Self::SOLE)
        }))
    }
}

/// The rows of keys in memory, and those of which others may come next.
#[derive(Debug, Default)]
pub struct LimitedRows {
    rows: BTreeMap<i64, (KeyRow, bool)>,
    touched: BTreeSet<i64>,
}

impl LimitedRows {
    pub fn calls_at_end(&self) -> u64 {
        if self.rows.is_empty() { 0 } else { 2 }
    }
}

/// Jobs of chunks (each with its workflow and its first job) that have been admitted, apart by what they take with them.
type Admitted = BTreeMap<(Wf, i64, i64, Recovered), Mask>;

/// A job with a key.
struct KeyedJob {
    at: usize,
    limited: i64,
    waits: bool,
}

impl Tx<'_> {
    /// Decides which of the jobs that come may stand in line at once, and writes down the others' turns. Returns who waits.
    pub fn add_keyed(&mut self, wf: Wf, chunk: i64, first: i64, keyed: &[&Keyed], later: Mask) -> Result<Mask> {
        let wanted: Vec<(usize, &str, Limit)> = keyed
            .iter()
            .filter_map(|one| one.limit.as_ref().map(|(key, limit)| (usize::from(one.at), key.as_str(), *limit)))
            .collect();
        if wanted.is_empty() {
            return Ok(Mask::EMPTY);
        }
        let job_type = self.lane_type(wf)?;
        let names: BTreeSet<&str> = wanted.iter().map(|(_, key, _)| *key).collect();
        let ids = self.limited_named(&job_type, &names)?;
        let (mut rows, mut waits, now) = (Vec::with_capacity(wanted.len()), Mask::EMPTY, self.now);
        for (at, key, limit) in wanted {
            let id = *ids.get(key).ok_or_else(|| Error::corrupt(format!("the key `{key}` has no row")))?;
            let row = self.limited_row(id)?;
            row.limit = limit;
            row.jobs = row.jobs.saturating_add(1);
            let turn = row.next;
            row.next = row.next.saturating_add(1);
            // Those that wait already come first.
            let admitted = !later.contains(at) && row.waiting == 0 && row.room(now) > 0;
            let waits_here = !admitted && !later.contains(at);
            if admitted {
                row.admit(1);
            } else if waits_here {
                row.waiting = row.waiting.saturating_add(1);
                waits.insert(at);
                // The limit may have been raised.
                if row.room(now) > 0 {
                    self.limited.touched.insert(id);
                }
            }
            rows.push((at, id, turn, u8::from(waits_here)));
        }
        let sql = "INSERT INTO keyed (chunk, at, key_row, turn, waits, wf, first) \
                   SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, ?2, ?3 FROM json_each(?4)";
        self.run(sql, (chunk, wf, first, to_json(&rows)?))?;
        Ok(waits)
    }

    fn lane_type(&mut self, wf: Wf) -> Result<String> {
        let name = self.one("SELECT name FROM workflow WHERE wf = ?", [wf], |row| row.get(0))?;
        name.ok_or_else(|| Error::corrupt(format!("lane {wf} is missing")))
    }

    /// The rows of these keys, made if they are new.
    fn limited_named<'k>(&mut self, job_type: &str, names: &BTreeSet<&'k str>) -> Result<BTreeMap<&'k str, i64>> {
        let json = to_json(names)?;
        let new = to_json(&KeyRow::default())?;
        let sql = "INSERT INTO key_row (type, key, row) SELECT ?1, value, ?3 FROM json_each(?2) WHERE true ON CONFLICT DO NOTHING";
        self.run(sql, (job_type, &json, new))?;
        let sql = "SELECT key, key_row, row FROM key_row WHERE type = ?1 AND key IN (SELECT value FROM json_each(?2))";
        let found = self.all(sql, (job_type, &json), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        })?;
        let mut ids = BTreeMap::new();
        for (key, id, row) in found {
            self.remember(id, &row)?;
            if let Some(name) = names.get(key.as_str()) {
                ids.insert(*name, id);
            }
        }
        Ok(ids)
    }

    fn remember(&mut self, id: i64, row: &str) -> Result<()> {
        if let Entry::Vacant(place) = self.limited.rows.entry(id) {
            let row = serde_json::from_str(row);
            let row = row.map_err(|e| Error::corrupt("a key's row does not decode").because(e))?;
            place.insert((row, false));
        }
        Ok(())
    }

    /// A row that has been read, to be changed.
    fn limited_row(&mut self, id: i64) -> Result<&mut KeyRow> {
        let missing = || Error::corrupt(format!("the key number {id} has no row"));
        let (row, dirty) = self.limited.rows.get_mut(&id).ok_or_else(missing)?;
        *dirty = true;
        Ok(row)
    }

    fn load_limited(&mut self, ids: &BTreeSet<i64>) -> Result<()> {
        let missing: Vec<i64> = ids.iter().copied().filter(|id| !self.limited.rows.contains_key(id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let sql = "SELECT key_row, row FROM key_row WHERE key_row IN (SELECT value FROM json_each(?))";
        let found = self.all(sql, [to_json(&missing)?], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        found.iter().try_for_each(|(id, row)| self.remember(*id, row))
    }

    /// The jobs of a chunk that have a key that limits them, with their keys' rows in memory.
    fn keyed_jobs(&mut self, chunk: i64, jobs: Mask) -> Result<Vec<KeyedJob>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let sql = "SELECT at, key_row, waits FROM keyed WHERE chunk = ? ORDER BY at";
        let found = self.all(sql, [chunk], |row| {
            Ok(KeyedJob { at: usize::from(row.get::<_, u16>(0)?), limited: row.get(1)?, waits: row.get(2)? })
        })?;
        let found: Vec<KeyedJob> = found.into_iter().filter(|job| jobs.contains(job.at)).collect();
        self.load_limited(&found.iter().map(|job| job.limited).collect())?;
        Ok(found)
    }

    /// Jobs that had been admitted have settled, or go on later: others may come next. `started`: a worker had been given them.
    pub fn leave_turn(&mut self, step: &Step, chunk: i64, jobs: Mask, started: bool) -> Result<()> {
        if !step.keyed.limited() || planted!("a job that has settled keeps its turn") {
            return Ok(());
        }
        for job in self.keyed_jobs(chunk, jobs)? {
            let row = self.limited_row(job.limited)?;
            row.leave(1, started);
            row.forget_recovered(chunk, job.at);
            self.limited.touched.insert(job.limited);
        }
        Ok(())
    }

    /// Jobs of a chunk that are not open come into the rows of their keys. Returns which have one: they are to be deferred, the others may
    /// stand in line.
    pub fn wait_for_their_turn(&mut self, step: &Step, chunk: i64, jobs: Mask) -> Result<Mask> {
        if !step.keyed.limited() || planted!("a retry does not ask for its turn") {
            return Ok(Mask::EMPTY);
        }
        let keyed = self.keyed_jobs(chunk, jobs)?;
        for job in &keyed {
            let row = self.limited_row(job.limited)?;
            row.waiting = row.waiting.saturating_add(1);
            self.limited.touched.insert(job.limited);
        }
        let waits: Mask = keyed.iter().map(|job| job.at).collect();
        if !waits.is_empty() {
            let sql = "UPDATE keyed SET waits = 1 WHERE chunk = ?1 AND at IN (SELECT value FROM json_each(?2))";
            self.run(sql, (chunk, to_json(&waits.iter().collect::<Vec<_>>())?))?;
        }
        Ok(waits)
    }

    /// What goes back to its line although it has counted as a start waits for its turn once more; how often its worker died stays known.
    /// Returns which of these open jobs do; their bytes are the caller's to write.
    pub fn start_anew(&mut self, step: &Step, chunk: i64, jobs: Mask) -> Result<Mask> {
        if !step.keyed.limited() || planted!("what goes back to its line starts again at once") {
            return Ok(Mask::EMPTY);
        }
        let mut rated = self.keyed_jobs(chunk, jobs)?;
        rated.retain(|job| self.limited.rows.get(&job.limited).is_some_and(|(row, _)| row.limit.starts().is_some()));
        for job in &rated {
            self.limited_row(job.limited)?.leave(1, true);
        }
        self.wait_for_their_turn(step, chunk, rated.iter().map(|job| job.at).collect())
    }

    /// Jobs of a lease that wait for their turn once more take with them how often their workers have died.
    pub fn keep_recoveries(&mut self, lease: &Lease, jobs: Mask) -> Result<()> {
        let Some(with) = jobs.iter().next().filter(|_| lease.recoveries > 0) else { return Ok(()) };
        let recovered = Recovered { recoveries: lease.recoveries, alone: lease.alone, with };
        for job in self.keyed_jobs(lease.chunk, jobs)? {
            self.limited_row(job.limited)?.put_recovered(lease.chunk, job.at, recovered);
        }
        Ok(())
    }

    /// A worker has been given these jobs.
    pub fn note_start(&mut self, step: &Step, chunk: i64, jobs: Mask) -> Result<()> {
        // All lanes of a type share the row: it knows whether starts are limited, the lane need not.
        if step.keyed.limited() && !planted!("a start does not count") {
            let now = self.now;
            for job in self.keyed_jobs(chunk, jobs)? {
                let is_rated = |(row, _): &(KeyRow, bool)| row.limit.starts().is_some() || row.unstarted > 0;
                if self.limited.rows.get(&job.limited).is_some_and(is_rated) {
                    self.limited_row(job.limited)?.start(1, now);
                    self.limited.touched.insert(job.limited);
                }
            }
        }
        if step.keyed.sole() {
            self.end_sole(chunk, jobs, 0)?;
        }
        Ok(())
    }

    /// These jobs have settled: others of their keys may come.
    pub fn end_sole_of_settled(&mut self, step: &Step, chunk: i64, jobs: Mask) -> Result<()> {
        if step.keyed.sole() && !jobs.is_empty() { self.end_sole(chunk, jobs, 1) } else { Ok(()) }
    }

    fn end_sole(&mut self, chunk: i64, jobs: Mask, until: u8) -> Result<()> {
        if planted!("a job that has settled keeps its key") {
            return Ok(());
        }
        let sql = "DELETE FROM sole WHERE chunk = ?1 AND due IS NULL AND until <= ?2 AND at IN (SELECT value FROM json_each(?3))";
        self.run(sql, (chunk, until, to_json(&jobs.iter().collect::<Vec<_>>())?)).map(|_| ())
    }

    /// A lane's chunk is deleted: its jobs are no longer counted under their keys.
    pub fn forget_keyed(&mut self, step: &Step, chunk: i64) -> Result<()> {
        if step.keyed.sole() {
            self.run("DELETE FROM sole WHERE chunk = ? AND due IS NULL", [chunk])?;
        }
        if !step.keyed.limited() {
            return Ok(());
        }
        for job in self.keyed_jobs(chunk, Mask::range(0..crate::slice::CHUNK_JOBS))? {
            let row = self.limited_row(job.limited)?;
            row.jobs = row.jobs.saturating_sub(1);
            row.forget_recovered(chunk, job.at);
            // One that was cancelled while it waited.
            row.waiting = row.waiting.saturating_sub(u32::from(job.waits));
            self.limited.touched.insert(job.limited);
        }
        self.run("DELETE FROM keyed WHERE chunk = ?", [chunk]).map(|_| ())
    }

    /// What a job waits for, if that is the turn of its key.
    pub fn turn_of(&mut self, chunk: i64, at: usize) -> Result<Option<Turn>> {
        let sql = "SELECT r.key, r.row FROM keyed k JOIN key_row r ON r.key_row = k.key_row WHERE k.chunk = ? AND k.at = ? AND k.waits = 1";
        let found =
            self.one(sql, (chunk, at as i64), |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let Some((key, row)) = found else { return Ok(None) };
        let row: KeyRow =
            serde_json::from_str(&row).map_err(|e| Error::corrupt("a key's row does not decode").because(e))?;
        Ok(Some(Turn { key, admitted: row.admitted, waiting: row.waiting }))
    }

    /// Looks at the keys whose time has come. Tells whether there are more.
    pub fn look_at_keys(&mut self) -> Result<bool> {
        let sql = "SELECT key_row, row FROM key_row WHERE due <= ?1 ORDER BY due LIMIT ?2";
        let due =
            self.all(sql, (self.now, KEYS as i64), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        for (id, row) in &due {
            if let Err(error) = self.remember(*id, row) {
                tracing::error!(%error, key = id, "a key is set aside");
                self.set_keys_aside(&[*id])?;
                continue;
            }
            self.limited_row(*id)?;
            self.limited.touched.insert(*id);
        }
        let sql = "DELETE FROM sole WHERE (type, key) IN (SELECT type, key FROM sole WHERE due <= ?1 LIMIT ?2)";
        let ended = self.run(sql, (self.now, ENDED))?;
        self.admit()?;
        Ok(due.len() == KEYS || ended as i64 == ENDED || !self.limited.touched.is_empty())
    }

    /// Admits those that come next of the keys of which this operation has made room. What is damaged is set aside: it must not keep anybody
    /// from the rest.
    pub fn admit(&mut self) -> Result<()> {
        let touched: Vec<i64> = self.limited.touched.iter().copied().collect();
        if touched.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.guarded(Self::admit_touched)? {
            tracing::error!(%error, "the next jobs of some keys cannot be admitted; they are set aside");
            self.set_keys_aside(&touched)?;
        }
        Ok(())
    }

    fn set_keys_aside(&mut self, keys: &[i64]) -> Result<()> {
        let sql = "UPDATE key_row SET due = ?1 WHERE due IS NOT NULL AND key_row IN (SELECT value FROM json_each(?2))";
        self.run(sql, (self.now + SET_ASIDE, to_json(&keys)?)).map(|_| ())
    }

    fn admit_touched(&mut self) -> Result<()> {
        let mut left = BTreeSet::new();
        // Those that were cancelled while they waited make room for others once more.
        while !self.limited.touched.is_empty() {
            let mut admitted = Admitted::new();
            while let Some(id) = self.limited.touched.pop_first() {
                if self.is_full(&admitted) {
                    left.insert(id);
                } else {
                    self.choose(id, &mut admitted)?;
                }
            }
            for ((wf, chunk, first, recovered), jobs) in admitted {
                self.let_in(wf, chunk, first, recovered, jobs)?;
            }
        }
        // The flush sees that those are due at once.
        self.limited.touched.extend(left);
        Ok(())
    }

    /// Whether ticks are to admit the rest. Each entry that those make which are admitted takes up to nine statements.
    fn is_full(&self, admitted: &Admitted) -> bool {
        self.cost().calls + self.calls_at_end() + 9 * admitted.len() as u64 >= SOFT_CALLS
    }

    /// Takes those that come next out of a key's row.
    fn choose(&mut self, id: i64, admitted: &mut Admitted) -> Result<()> {
        let now = self.now;
        self.load_limited(&BTreeSet::from([id]))?;
        // An item that has been taken back may have taken its key with it.
        while self.limited.rows.contains_key(&id) {
            let row = self.limited_row(id)?;
            let room = if planted!("a key admits one too many") { row.room(now) + 1 } else { row.room(now) };
            let room = room.min(row.waiting).min(ADMITTED);
            if room == 0 {
                return Ok(());
            }
            let sql = "UPDATE keyed SET waits = 0 WHERE (chunk, at) IN \
                       (SELECT chunk, at FROM keyed WHERE key_row = ?1 AND waits = 1 ORDER BY turn LIMIT ?2) \
                       RETURNING wf, chunk, first, at";
            let next = self.all(sql, (id, room), |row| {
                Ok((
                    (row.get::<_, Wf>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?),
                    usize::from(row.get::<_, u16>(3)?),
                ))
            })?;
            let row = self.limited_row(id)?;
            if next.is_empty() {
                row.waiting = 0;
                return Ok(());
            }
            row.waiting = row.waiting.saturating_sub(next.len() as u32);
            row.admit(next.len() as u32);
            for ((wf, chunk, first), at) in next {
                admitted.entry((wf, chunk, first, row.recovered(chunk, at))).or_default().insert(at);
            }
            if self.is_full(admitted) {
                self.limited.touched.insert(id);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts jobs that have been admitted into their line; if their workers have died, as an entry that knows it. Those that have been
    /// cancelled while they waited leave at once.
    fn let_in(&mut self, wf: Wf, chunk: i64, first: i64, recovered: Recovered, jobs: Mask) -> Result<()> {
        let step = self.step(wf, 0)?;
        let len = self.chunk_at(wf, 0, first)?.jobs;
        let mut bytes = self.bytes(chunk, len)?;
        let deferred: Mask =
            jobs.iter().filter(|at| *at < len && JobState::of(bytes[*at]) == JobState::Deferred).collect();
        self.leave_turn(&step, chunk, jobs.minus(deferred), false)?;
        if deferred.is_empty() {
            return Ok(());
        }
        deferred.iter().for_each(|at| bytes[at] = job_byte(JobState::Open, attempts(bytes[at])));
        self.put_bytes(chunk, &bytes)?;
        self.shift(wf, 0, JobState::Deferred, JobState::Open, deferred.len() as u64)?;
        let Recovered { recoveries, alone, .. } = recovered;
        if recoveries == 0 {
            return self.enqueue_admitted(&step, chunk, first, deferred);
        }
        let work = Work::Masked { chunk, first, jobs: deferred };
        self.enqueue(&step, &work, End::Back, recoveries > 1, recoveries, alone)
    }

    /// Puts jobs of a chunk behind all others of their lane: with those of the chunk that came just before, if no worker has them yet, as one
    /// entry.
    fn enqueue_admitted(&mut self, step: &Step, chunk: i64, first: i64, jobs: Mask) -> Result<()> {
        let sql = "SELECT seq, jobs FROM entry WHERE wf = ?1 AND step = ?2 AND suspect = 0 AND chunk = ?3 AND first = ?4 AND recoveries = 0 \
                   AND seq = (SELECT max(seq) FROM entry WHERE wf = ?1 AND step = ?2 AND suspect = 0)";
        let last = self.one(sql, (step.wf, step.step, chunk, first), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let Some((seq, there)) = last else {
            return self.enqueue(step, &Work::Masked { chunk, first, jobs }, End::Back, false, 0, 0);
        };
        let sql = "UPDATE entry SET jobs = ?4 WHERE wf = ?1 AND step = ?2 AND suspect = 0 AND seq = ?3";
        self.run(sql, (step.wf, step.step, seq, super::tx::mask(&there)?.or(jobs).to_bytes()))?;
        self.lines_fed.insert(step.line);
        Ok(())
    }

    /// Writes the rows of keys that have changed; those of which others may still come next are due at once.
    pub fn flush_limited(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.limited.rows);
        let now = self.now;
        let mut changed: Vec<(i64, Option<Millis>, String)> = Vec::new();
        let mut over: Vec<i64> = Vec::new();
        for (id, (mut row, dirty)) in rows {
            if !dirty {
                continue;
            }
            if row.is_over(now) {
                over.push(id);
                continue;
            }
            let due = if self.limited.touched.contains(&id) && row.waiting > 0 { Some(now) } else { row.due(now) };
            changed.push((id, due, to_json(&row)?));
        }
        if !changed.is_empty() {
            let sql = "UPDATE key_row SET due = new.value ->> 1, row = new.value ->> 2 FROM json_each(?) AS new \
                       WHERE key_row.key_row = new.value ->> 0";
            self.run(sql, [to_json(&changed)?])?;
        }
        if !over.is_empty() {
            self.run("DELETE FROM key_row WHERE key_row IN (SELECT value FROM json_each(?))", [to_json(&over)?])?;
        }
        Ok(())
    }

    /// The milliseconds until the first key is to be looked at; `None` if none is.
    pub fn sole_or_limited_due(conn: &rusqlite::Connection, now: Millis) -> rusqlite::Result<Option<Millis>> {
        let sql = "SELECT min(due) FROM (SELECT min(due) AS due FROM key_row UNION ALL SELECT min(due) FROM sole WHERE due IS NOT NULL)";
        let due: Option<Millis> = conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(due.map(|due| due - now))
    }
}
