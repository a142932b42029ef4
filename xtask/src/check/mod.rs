//! `cargo xtask check FILES`: whether ledgers that processes wrote (`src/testing/ledger.rs`) keep the engine's invariants. It links
//! nothing of the engine.

mod book;
mod record;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::book::{Book, Violation};
use self::record::{Kind, Ledger, Record, state_name};
use self::recovery::Times;
pub use self::recovery::bars;

/// How many records about a job are shown with a violation, and how many around it.
const SHOWN: usize = 40;
const AROUND: usize = 4;

/// What became of a check.
#[derive(Debug)]
pub struct Verdict {
    pub book: Book,
    pub ledgers: usize,
    pub records: usize,
    /// From a kill until the store had taken back all that the process held.
    pub back: Times,
    /// From a kill until the first of its jobs was started again.
    pub again: Times,
    /// The same where each of its jobs had lost a worker before, so that they run again alone.
    pub suspect: Times,
    /// The first violation, with the records that led to it.
    context: Vec<String>,
}

/// A record's place: when, in which ledger, and where in it.
type Place = (u64, u32, u32);

/// Checks the ledgers of one run.
pub fn check(ledgers: &[Ledger]) -> Verdict {
    let mut book = Book::default();
    let committed = Committed::of(ledgers);
    let mut order: Vec<Place> = Vec::with_capacity(ledgers.iter().map(Ledger::len).sum());
    let mut finals = Vec::new();
    for (number, ledger) in ledgers.iter().enumerate() {
        for at in 0..ledger.len() {
            let record = ledger.record(at);
            let place = (record.at, number as u32, at as u32);
            match record.kind {
                Kind::Workflow | Kind::Step | Kind::Edge => book.declare(&record),
                Kind::Joined => book.joined(ledger.number, record.who),
                Kind::Final => finals.push(place),
                Kind::Last | Kind::Aborted | Kind::Unknown => {}
                _ if committed.holds(ledger.number, record.tx) => order.push(place),
                _ => {}
            }
        }
    }
    // Each file is nearly in order by itself, which this sort makes use of.
    order.sort();
    let of = |(_, number, at): Place| (ledgers[number as usize].number, ledgers[number as usize].record(at as usize));
    for (at, place) in order.iter().enumerate() {
        let (ledger, record) = of(*place);
        book.take(at, ledger, &record);
    }
    let taken = order.len();
    order.extend(&finals);
    for (at, place) in order.iter().enumerate().skip(taken) {
        book.compare(at, &of(*place).1);
    }
    book.finish(!finals.is_empty());

    let (mut back, mut again, mut suspect) = (Times::default(), Times::default(), Times::default());
    for kill in &book.kills {
        kill.back.iter().for_each(|time| back.add(time.saturating_sub(kill.at)));
        let started = if kill.suspect { &mut suspect } else { &mut again };
        kill.again.iter().for_each(|time| started.add(time.saturating_sub(kill.at)));
    }
    let context = book.violations.first().map_or(Vec::new(), |first| context(ledgers, &order, first));
    Verdict { book, ledgers: ledgers.len(), records: order.len(), back, again, suspect, context }
}

/// Which transactions the store has.
struct Committed {
    aborted: std::collections::HashSet<(u64, u32)>,
    last: HashMap<u64, u32>,
}

impl Committed {
    fn of(ledgers: &[Ledger]) -> Self {
        let mut this = Self { aborted: Default::default(), last: HashMap::new() };
        for ledger in ledgers {
            for record in (0..ledger.len()).map(|at| ledger.record(at)) {
                match record.kind {
                    Kind::Aborted => drop(this.aborted.insert((ledger.number, record.tx))),
                    Kind::Last => drop(this.last.insert(record.who, record.first as u32)),
                    _ => {}
                }
            }
        }
        this
    }

    fn holds(&self, ledger: u64, tx: u32) -> bool {
        let unknown = self.last.is_empty();
        let last = self.last.get(&ledger).copied().unwrap_or(if unknown { u32::MAX } else { 0 });
        tx == 0 || tx <= last && !self.aborted.contains(&(ledger, tx))
    }
}

/// The records that tell how it came to a violation.
fn context(ledgers: &[Ledger], order: &[Place], first: &Violation) -> Vec<String> {
    let start = order.first().map_or(0, |place| place.0);
    let line = |at: usize| {
        let (when, number, position) = order[at];
        let ledger = &ledgers[number as usize];
        let mark = if Some(at) == first.at { "►" } else { " " };
        let seconds = when.saturating_sub(start) as f64 / 1e9;
        format!("  {mark} {seconds:>12.6} s  {}  {}", ledger.name, ledger.record(position as usize))
    };
    let concerns = |record: &Record| {
        (record.workflow, record.step) == (first.workflow, first.step) && record.jobs().contains(&first.job)
    };
    let until = first.at.map_or(order.len(), |at| (at + AROUND + 1).min(order.len()));
    let near = |at: usize| first.at.is_some_and(|of| at.abs_diff(of) <= AROUND);
    let about: Vec<usize> = (0..until)
        .filter(|at| near(*at) || concerns(&ledgers[order[*at].1 as usize].record(order[*at].2 as usize)))
        .collect();
    let name = format!("job {} of step {} of workflow {:016x}", first.job, first.step, first.workflow);
    let head = format!("{:?}: {name}: {}", first.rule, first.text);
    std::iter::once(head).chain(about[about.len().saturating_sub(SHOWN)..].iter().map(|at| line(*at))).collect()
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.book.violations.is_empty()
    }

    /// The first violation, for an error.
    pub fn first(&self) -> &str {
        self.context.first().map_or("", String::as_str)
    }

    /// As one line for programs.
    pub fn json(&self) -> Value {
        let tally = &self.book.tally;
        let states: serde_json::Map<String, Value> = (0..8)
            .filter(|n| tally.states[*n] > 0)
            .map(|n| (state_name(n as u8).to_owned(), tally.states[n].into()))
            .collect();
        json!({
            "ledgers": self.ledgers,
            "records": self.records,
            "workflows": tally.workflows,
            "jobs": self.book.jobs(),
            "settled": states,
            "slices_granted": tally.grants,
            "attempts": tally.attempts,
            "jobs_recovered": tally.recovered,
            "reports_refused": tally.refused,
            "late_effects": tally.late,
            "jobs_with_repeated_effect": tally.repeated,
            "kills": self.book.kills.len(),
            "stops": tally.stops,
            "kill_to_taken_back": self.back.json(),
            "kill_to_running_again": self.again.json(),
            "kill_to_running_again_alone": self.suspect.json(),
            "violations": self.book.violations.len(),
            "first_violation": self.context,
        })
    }

    /// As lines for people.
    pub fn print(&self) {
        let tally = &self.book.tally;
        println!("{} records in {} ledgers", self.records, self.ledgers);
        println!("{} jobs of {} workflows, settled:", self.book.jobs(), tally.workflows);
        for state in (0..8).filter(|state| tally.states[*state] > 0) {
            println!("  {:>9} {}", tally.states[state], state_name(state as u8));
        }
        println!("{} attempts in {} slices; {} jobs recovered", tally.attempts, tally.grants, tally.recovered);
        println!(
            "{} late reports refused; {} effects came too late, {} jobs had theirs again",
            tally.refused, tally.late, tally.repeated
        );
        println!("{} kills, {} stops", self.book.kills.len(), tally.stops);
        let all = [
            ("all that it held taken back", &self.back),
            ("the first of it running again", &self.again),
            ("the first running again alone, since all of it had lost a worker before", &self.suspect),
        ];
        for (what, times) in all {
            if times.len() > 0 {
                let [half, most, all] = [0.5, 0.99, 1.0].map(|share| times.share(share).round());
                println!("from a kill to {what}: half within {half} ms, 99 % within {most} ms, all within {all} ms");
                times.lines().iter().for_each(|line| println!("{line}"));
            }
        }
        println!("{} violations", self.book.violations.len());
        self.context.iter().for_each(|line| println!("{line}"));
    }
}

/// Reads every ledger named, and those in every folder named.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Ledger>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(ledgers_in(path)?);
        } else {
            files.push(path.clone());
        }
    }
    ensure!(!files.is_empty(), "there are no ledgers to check");
    files.iter().map(|path| Ledger::read(path)).collect()
}

fn ledgers_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ledger"));
    files.sort();
    Ok(files)
}

/// The command.
pub fn command(flags: &[&str]) -> Result<()> {
    let json = flags.contains(&"--json");
    let paths: Vec<PathBuf> = flags.iter().filter(|flag| **flag != "--json").map(PathBuf::from).collect();
    let ledgers = read(&paths)?;
    let started = Instant::now();
    let verdict = check(&ledgers);
    if json {
        println!("{}", verdict.json());
    } else {
        verdict.print();
        println!("checked in {} ms", started.elapsed().as_millis());
    }
    ensure!(verdict.is_good(), "the ledgers contradict {} times what must hold", verdict.book.violations.len());
    Ok(())
}
