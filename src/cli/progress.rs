//! Showing a workflow while it runs: a bar a step on a terminal, lines elsewhere; all of it on standard error.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::board::{Board, ROWS, Row, Seen};
use super::obstacle::{self, Notice};
use crate::error::Result;
use crate::graph::StepNumber;
use crate::handle::Handle;
use crate::render::words::{count, number};
use crate::state::StepState;
use crate::store::{StepRow, Store};
use crate::view::WorkflowView;

/// How often the store is asked, at most.
const LOOK: Duration = Duration::from_millis(200);
/// How often lines are written where there are no bars.
const LINES: Duration = Duration::from_secs(5);
/// How often it is asked why steps stand still.
const CHECK: Duration = Duration::from_secs(2);
/// In a large workflow, how many steps are read at once, and how often in a row, to find those that run.
const PAGE: u32 = 200;
const PAGES: usize = 5;

/// The bars on the terminal, so that whatever else is written there stands above them.
static BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Writes something else to standard error than bars.
pub fn above_bars<T>(write: impl FnOnce() -> T) -> T {
    let bars = BARS.lock().clone();
    match bars {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// A live display of a workflow, on standard error: a bar a step with rate and time left if that is a terminal, else a line now and
/// then. Says what stands still, and why: that no live worker can run it, that it waits for a signal or a time, that it is paused.
///
/// ```no_run
/// # async fn example(handle: gusher::Handle) -> gusher::Result<()> {
/// let done = gusher::Progress::new().follow(&handle).await?;
/// println!("{}: {} jobs", done.state, done.jobs.total);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Progress {
    bars: bool,
    program: String,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// With bars if standard error is a terminal.
    pub fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let program = super::program_name(std::env::args_os().next().as_ref());
        Self { bars: std::io::stderr().is_terminal() && !is_dumb, program }
    }

    /// Calls the program by another name in what it recommends.
    pub fn program(mut self, name: impl Into<String>) -> Self {
        self.program = name.into();
        self
    }

    /// Shows how many jobs have been created while `work` creates a workflow: `created` is what
    /// [`Starting::counted`](crate::Starting::counted) counts.
    pub async fn creating<T>(&self, name: &str, created: &AtomicU64, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut display = self.display();
        let every = if self.bars { LOOK } else { LINES };
        // Waits before it says anything: most workflows are created before anybody could read of it.
        loop {
            if let Ok(done) = tokio::time::timeout(every, &mut work).await {
                display.end();
                return done;
            }
            display.note(Some(Notice::passing(format!(
                "creating {name}: {} so far",
                count(created.load(Ordering::Relaxed), "job")
            ))));
        }
    }

    /// Shows the workflow until it has finished; returns how it ended. While the store is away it keeps trying.
    pub async fn follow(&self, handle: &Handle) -> Result<WorkflowView> {
        let begun = Instant::now();
        let handle = &Handle::new(handle.client().called(&self.program), handle.id());
        let mut reader = Reader { handle, from: 0 };
        let mut board = Board::default();
        let mut display = self.display();
        let mut checked = Duration::ZERO;
        let mut obstacle = None;
        let mut pause = Duration::from_millis(20);
        loop {
            let at = begun.elapsed();
            match reader.look().await {
                Ok(seen) if seen.workflow.state.is_finished() => {
                    display.show(&board.rows(&seen, at), None, at);
                    display.end();
                    return handle.status().await;
                }
                Ok(seen) => {
                    if at.saturating_sub(checked) >= CHECK {
                        checked = at;
                        obstacle = obstacle::find(handle, &seen.workflow, &self.program).await.unwrap_or_default();
                    }
                    display.show(&board.rows(&seen, at), obstacle.clone(), at);
                }
                Err(error) if error.is_transient() => {
                    display.note(Some(Notice::passing(format!("{error}; it is tried again"))))
                }
                Err(error) => {
                    display.end();
                    return Err(error);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK);
        }
    }

    fn display(&self) -> Display {
        if self.bars { Display::Bars(Bars::new()) } else { Display::Lines(Lines::default()) }
    }
}

/// Reads what is shown; of a large workflow only the steps around those that run.
struct Reader<'a> {
    handle: &'a Handle,
    /// In a large workflow, the first step that had not settled when last looked at.
    from: StepNumber,
}

impl Reader<'_> {
    async fn look(&mut self) -> Result<Seen> {
        let (store, id) = (self.handle.store(), self.handle.id());
        let row = store.workflow(id).await?;
        let is_small = row.steps as usize <= ROWS;
        let steps =
            if is_small { store.steps(id, 0, ROWS as u32).await? } else { self.running(&**store, row.steps).await? };
        let mut told = BTreeMap::new();
        for step in steps.iter().filter(|step| step.running == 1 && step.jobs.total == 1) {
            let place = store.whereabouts(id, step.number, 0).await?;
            if let Some(progress) = place.progress.as_deref().and_then(read_progress) {
                told.insert(step.number, progress);
            }
        }
        Ok(Seen { workflow: WorkflowView::new(row, steps), told })
    }

    /// The first running steps at or behind the first unsettled one.
    async fn running(&mut self, store: &dyn Store, all: u32) -> Result<Vec<StepRow>> {
        let mut found = Vec::new();
        let mut next = self.from;
        let mut all_settled = true;
        for _ in 0..PAGES {
            let page = store.steps(self.handle.id(), next, PAGE).await?;
            let Some(last) = page.last() else { break };
            next = last.number + 1;
            for step in page {
                all_settled &= step.state.is_settled();
                if all_settled {
                    self.from = step.number + 1;
                }
                if step.state == StepState::Running && found.len() < ROWS {
                    found.push(step);
                }
            }
            if found.len() >= ROWS {
                break;
            }
        }
        if self.from >= all {
            // A retry may take settled steps back.
            self.from = 0;
        }
        Ok(found)
    }
}

fn read_progress(json: &str) -> Option<(u64, u64)> {
    let told: serde_json::Value = serde_json::from_str(json).ok()?;
    Some((told.get("done")?.as_u64()?, told.get("of")?.as_u64()?))
}

enum Display {
    Bars(Bars),
    Lines(Lines),
}

impl Display {
    fn show(&mut self, rows: &[Row], note: Option<Notice>, at: Duration) {
        match self {
            Display::Bars(bars) => bars.show(rows),
            Display::Lines(lines) => lines.show(rows, at),
        }
        self.note(note);
    }

    fn note(&mut self, note: Option<Notice>) {
        match self {
            Display::Bars(bars) => bars.note(note),
            Display::Lines(lines) => lines.note(note),
        }
    }

    /// Leaves the last bars on the screen.
    fn end(&mut self) {
        if let Display::Bars(bars) = self {
            bars.note(None);
            bars.rows.values().for_each(ProgressBar::abandon);
        }
    }
}

/// A bar a row on a terminal.
struct Bars {
    multi: MultiProgress,
    rows: BTreeMap<Option<StepNumber>, ProgressBar>,
    note: Option<ProgressBar>,
    coloured: bool,
}

impl Bars {
    fn new() -> Self {
        let multi = MultiProgress::new();
        *BARS.lock() = Some(multi.clone());
        Self { multi, rows: BTreeMap::new(), note: None, coloured: super::table::colours_on_stderr() }
    }

    fn show(&mut self, rows: &[Row]) {
        self.rows.retain(|step, bar| {
            let keep = rows.iter().any(|row| row.step == *step);
            if !keep {
                bar.finish_and_clear();
            }
            keep
        });
        let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        for (place, row) in rows.iter().enumerate() {
            let multi = &self.multi;
            let bar = self.rows.entry(row.step).or_insert_with(|| multi.insert(place, ProgressBar::new(row.of.max(1))));
            bar.set_style(style(row.state, width, self.coloured));
            bar.set_length(row.of.max(1));
            bar.set_prefix(row.name.clone());
            bar.set_message(row.figures.clone());
            // A step without jobs is full once it has settled.
            bar.set_position(if row.of == 0 && row.state.is_settled() { 1 } else { row.done });
        }
    }

    fn note(&mut self, note: Option<Notice>) {
        let Some(note) = note else {
            if let Some(bar) = self.note.take() {
                bar.finish_and_clear();
            }
            return;
        };
        let bar =
            self.note.get_or_insert_with(|| self.multi.add(ProgressBar::no_length().with_style(template("{msg}"))));
        bar.set_message(note.text);
        bar.tick();
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        *BARS.lock() = None;
    }
}

fn style(state: StepState, width: usize, coloured: bool) -> ProgressStyle {
    let colour = match state {
        _ if !coloured => "",
        StepState::Failed => ".red/dim",
        StepState::Succeeded => ".green/dim",
        StepState::Cancelled => ".magenta/dim",
        _ => ".cyan/dim",
    };
    template(&format!("{{prefix:{width}}}  {{bar:24{colour}}}  {{msg}}")).progress_chars("━╸·")
}

fn template(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Lines where there is no terminal: when a step ends, and now and then for those that run.
#[derive(Default)]
struct Lines {
    states: BTreeMap<Option<StepNumber>, StepState>,
    last: Duration,
    noted: Option<Notice>,
}

impl Lines {
    fn show(&mut self, rows: &[Row], at: Duration) {
        let is_large = rows.first().is_some_and(|row| row.step.is_none());
        let is_time = at.saturating_sub(self.last) >= LINES;
        if is_time {
            self.last = at;
        }
        for row in rows {
            let before = self.states.insert(row.step, row.state);
            let just_ended = row.state.is_settled() && before != Some(row.state) && !is_large;
            let moves = is_time && row.state == StepState::Running && (!is_large || row.step.is_none());
            if just_ended || moves {
                let share = if moves && row.of > 0 {
                    format!(" ({} %)", number(percent(row.done, row.of)))
                } else {
                    String::new()
                };
                write_line(&format!("{}{share}: {}", row.name, row.figures));
            }
        }
    }

    fn note(&mut self, note: Option<Notice>) {
        // How long something still takes changes with each look, and is not said again and again.
        if let Some(note) =
            note.as_ref().filter(|note| self.noted.as_ref().is_none_or(|noted| noted.about != note.about))
        {
            write_line(&note.text);
        }
        self.noted = note;
    }
}

/// How many hundredths are done. A job may tell any two numbers of itself.
fn percent(done: u64, of: u64) -> u64 {
    (u128::from(done.min(of)) * 100 / u128::from(of.max(1))) as u64
}

/// If standard error is closed, nobody misses the line.
fn write_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_of_any_two_numbers() {
        assert_eq!([percent(1, 3), percent(5, 4), percent(0, 0), percent(u64::MAX, u64::MAX)], [33, 100, 0, 100]);
    }
}
