//! Tables and colours.

use clap::builder::styling::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, CellAlignment, presets};

/// How warnings begin.
pub const WARNING: Style = AnsiColor::Yellow.on_default();
/// How errors begin.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// What matters most in a text.
pub const STRONG: Style = Style::new().bold();
/// What matters least.
pub const FAINT: Style = Style::new().dimmed();

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

impl Color {
    /// Makes it so for the whole process.
    pub fn apply(self) {
        let choice = match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// Whether standard error gets colours.
pub fn colours_on_stderr() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// The word of a state of a workflow, step or job in its colour.
pub fn state(word: &str) -> String {
    let style = colour(word).map_or(FAINT, AnsiColor::on_default);
    format!("{style}{word}{style:#}")
}

fn colour(word: &str) -> Option<AnsiColor> {
    Some(match word {
        "succeeded" => AnsiColor::Green,
        "failed" => AnsiColor::Red,
        "running" => AnsiColor::Cyan,
        "paused" | "retrying" | "cancelling" => AnsiColor::Yellow,
        "cancelled" => AnsiColor::Magenta,
        _ => return None,
    })
}

/// One field of a table.
pub enum Field {
    Text(String),
    /// The word of a state, in its colour.
    State(&'static str),
}

impl<T: Into<String>> From<T> for Field {
    fn from(text: T) -> Self {
        Field::Text(text.into())
    }
}

impl Field {
    fn cell(self) -> Cell {
        let word = match self {
            Field::Text(text) => return Cell::new(text),
            Field::State(word) => word,
        };
        let cell = Cell::new(word);
        match colour(word) {
            Some(AnsiColor::Green) => cell.fg(comfy_table::Color::DarkGreen),
            Some(AnsiColor::Red) => cell.fg(comfy_table::Color::DarkRed),
            Some(AnsiColor::Cyan) => cell.fg(comfy_table::Color::DarkCyan),
            Some(AnsiColor::Yellow) => cell.fg(comfy_table::Color::DarkYellow),
            Some(AnsiColor::Magenta) => cell.fg(comfy_table::Color::DarkMagenta),
            _ => cell.add_attribute(Attribute::Dim),
        }
    }
}

/// A table for people: columns apart by two blanks, no lines.
pub struct Table {
    table: comfy_table::Table,
    right: Vec<bool>,
}

impl Table {
    /// With these headings; a heading that begins with `>` is one of figures, which stand to the right.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).enforce_styling();
        table.style_text_only();
        table.set_header(headings.iter().map(|heading| {
            let cell = Cell::new(heading.trim_start_matches('>')).add_attribute(Attribute::Dim);
            if heading.starts_with('>') { cell.set_alignment(CellAlignment::Right) } else { cell }
        }));
        Self { table, right: headings.iter().map(|heading| heading.starts_with('>')).collect() }
    }

    /// Adds a row. Texts of jobs, files and people must be escaped before.
    pub fn row(&mut self, fields: impl IntoIterator<Item = Field>) {
        let cells = fields.into_iter().enumerate().map(|(at, field)| {
            let cell = field.cell();
            if self.right.get(at) == Some(&true) { cell.set_alignment(CellAlignment::Right) } else { cell }
        });
        self.table.add_row(cells.collect::<Vec<_>>());
    }

    /// The lines, without blanks at their ends.
    pub fn lines(mut self) -> String {
        let last = self.right.len().saturating_sub(1);
        for (at, column) in self.table.column_iter_mut().enumerate() {
            column.set_padding((0, if at == last { 0 } else { 2 }));
        }
        let lines: Vec<String> = self.table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_headings_and_figures_to_the_right() {
        let mut table = Table::new(&["STEP", ">JOBS"]);
        table.row(["ImportCsvRow".into(), "28,298".into()]);
        table.row(["GenReport".into(), "1".into()]);
        let plain = anstream::adapter::strip_str(&table.lines()).to_string();
        assert_eq!(plain, "STEP            JOBS\nImportCsvRow  28,298\nGenReport          1\n");
    }

    #[test]
    fn no_line_ends_in_blanks() {
        let mut table = Table::new(&["STEP", "STATE"]);
        table.row(["a".into(), Field::State("succeeded")]);
        table.row(["b".into(), "".into()]);
        let plain = anstream::adapter::strip_str(&table.lines()).to_string();
        assert_eq!(plain, "STEP  STATE\na     succeeded\nb\n");
    }
}
