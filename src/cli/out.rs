//! What a command prints: text for people or JSON for programs to standard output, everything else to standard error. Whatever
//! jobs, files or people wrote is escaped on its way to a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::render::words::{escape, is_unsafe};

/// What the shell shows of a process that wrote to a pipe which nobody reads any more.
pub const CLOSED: u8 = 141;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It went well; what was waited for has succeeded.
    Fine,
    /// What was waited for has failed, or what was checked is not as it should be.
    Failed,
    /// Nothing was started, since another one is in the way.
    Skipped,
    /// A signal ended it first.
    Interrupted,
}

/// Why a command did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// Something went wrong.
    Error(Error),
    /// Whoever read the output has gone.
    Closed,
}

/// What a command returns.
pub type Outcome<T = Ending> = Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::Closed,
            _ => Stop::Error(Error::unavailable("writing the output").because(error)),
        }
    }
}

/// The exit code that an error deserves.
pub fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage | ErrorKind::NotFound => 2,
        _ => 1,
    }
}

/// Where a command prints.
#[derive(Clone, Debug)]
pub struct Out {
    /// Whether it prints JSON.
    pub json: bool,
    /// The name of the program, for commands that it recommends.
    pub program: String,
}

impl Out {
    pub fn new(json: bool, program: String) -> Self {
        Self { json, program }
    }

    /// Lines for people; their colours are left out where they are not wanted.
    pub fn text(&self, text: &str) -> Outcome<()> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.trim_end_matches('\n').as_bytes())?;
        stdout.write_all(b"\n")?;
        Ok(stdout.flush()?)
    }

    /// A JSON document in one line.
    pub fn document(&self, value: &impl Serialize) -> Outcome<()> {
        self.text(&json_line(value)?)
    }

    /// A line for people beside the output; none with `--json`.
    pub fn note(&self, text: &str) {
        if !self.json {
            super::progress::above_bars(|| say_to_people(text));
        }
    }

    /// The error that ended the command.
    pub fn complain(&self, error: &Error) {
        let text = error.to_string();
        if self.json {
            complain_in_json(&text, word(error.kind()));
        } else {
            let style = super::table::ERROR;
            say_to_people(&format!("{style}error:{style:#} {}", escape(&text)));
        }
    }
}

/// A line on standard error. If nobody can read it, nobody can be told.
fn say_to_people(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// An error as a JSON document on standard error.
pub fn complain_in_json(text: &str, kind: &str) {
    let document = serde_json::json!({ "error": text, "kind": kind });
    let _ = writeln!(io::stderr(), "{}", harmless(&document.to_string()));
}

fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "usage",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Refused => "refused",
        ErrorKind::BatchSettled => "batch_settled",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Full => "full",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Failed => "failed",
    }
}

/// A value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> Outcome<String> {
    let json = serde_json::to_string(value)
        .map_err(|error| Error::corrupt("what is to be printed cannot be written as JSON").because(error))?;
    Ok(harmless(&json))
}

/// The same JSON with everything escaped that could steer a terminal. Such characters stand in strings only, or else between values as
/// white space of JSON that somebody else wrote.
fn harmless(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if is_unsafe(c) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| write!(out, "\\u{unit:04x}").unwrap_or_default());
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_reaches_a_terminal_cannot_steer_it() {
        let written = json_line(&serde_json::json!({ "error": "\u{1b}[2J \u{9b}31m \u{202e} ü" })).unwrap();
        assert_eq!(written, r#"{"error":"\u001b[2J \u009b31m \u202e ü"}"#);
        let back: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(back["error"], "\u{1b}[2J \u{9b}31m \u{202e} ü");
    }

    #[test]
    fn json_of_others_becomes_one_line() {
        let raw = serde_json::value::RawValue::from_string("{\n  \"a\": 1\n}".to_owned()).unwrap();
        assert_eq!(json_line(&raw).unwrap(), "{   \"a\": 1 }");
    }

    #[test]
    fn usage_and_unknown_things_are_told_apart_from_failures() {
        assert_eq!(exit_code(&Error::not_found("x")), 2);
        assert_eq!(exit_code(&Error::usage("x")), 2);
        assert_eq!(exit_code(&Error::refused("x")), 1);
        assert_eq!(exit_code(&Error::unavailable("x")), 1);
    }
}
