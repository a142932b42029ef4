//! Figures and names in sentences for people.

use std::borrow::Cow;
use std::fmt::Write;

use crate::clock::Millis;

/// A number with thousands separators: `28,298`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How many of a thing: `1 job`, `28,298 jobs`.
pub fn count(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", number(n), if n == 1 { "" } else { "s" })
}

/// A length of time: `250 ms`, `3.2 s`, `5 min 12 s`, `2 h 5 min`, `3 d 4 h`.
pub fn span(millis: Millis) -> String {
    let millis = millis.max(0);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big} {unit}") } else { format!("{big} {unit} {small} {small_unit}") }
    };
    match millis / 1000 {
        0 => format!("{millis} ms"),
        seconds @ ..10 if millis % 1000 / 100 > 0 => format!("{seconds}.{} s", millis % 1000 / 100),
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ ..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        seconds @ ..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        seconds => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// An amount of data: `85 bytes`, `1.2 kB`, `31.5 MB`.
#[cfg(feature = "cli")]
pub fn bytes(n: u64) -> String {
    let units = [("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)];
    match units.iter().rev().find(|(_, size)| n as f64 >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", n as f64 / size),
        None => count(n, "byte"),
    }
}

/// When something comes, from now: `now`, `in 12 s`.
pub fn until(due: Millis, now: Millis) -> String {
    if due <= now { "now".to_owned() } else { format!("in {}", span(due - now)) }
}

/// Names in quotes, some of `all`: `` `A`, `B` and 3 more ``.
pub fn names<'a>(some: impl IntoIterator<Item = &'a str>, all: u64) -> String {
    let quoted: Vec<String> = some.into_iter().map(|name| format!("`{name}`")).collect();
    let more = all.saturating_sub(quoted.len() as u64);
    match (quoted.as_slice(), more) {
        ([], more) => number(more),
        (names, 1..) => format!("{} and {} more", names.join(", "), number(more)),
        ([front @ .., last], 0) if !front.is_empty() => format!("{} and {last}", front.join(", ")),
        (names, 0) => names.join(", "),
    }
}

/// Text that jobs, files or people wrote, safe to put on a terminal and in one line: what steers a terminal, breaks the line or turns the
/// direction of writing is shown as an escape.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) && c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)).unwrap_or_default(),
            c if is_unsafe(c) => write!(out, "\\u{{{:x}}}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Whether a character may do to a terminal more than fill a cell.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// At most `limit` characters of an escaped text, with a mark if anything was cut.
pub fn shorten(text: &str, limit: usize) -> Cow<'_, str> {
    let escaped = escape(text);
    match escaped.char_indices().nth(limit) {
        None => escaped,
        Some(_) => Cow::Owned(escaped.chars().take(limit.saturating_sub(1)).chain(['…']).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_comma_every_three_digits() {
        let written: Vec<String> = [0, 999, 1_000, 28_298, 1_000_000].into_iter().map(number).collect();
        assert_eq!(written, ["0", "999", "1,000", "28,298", "1,000,000"]);
        assert_eq!((count(1, "job"), count(2_000, "job")), ("1 job".into(), "2,000 jobs".into()));
    }

    #[test]
    fn a_length_of_time_has_at_most_two_units() {
        let second = 1_000;
        let spans = [0, 250, 3_250, 3_000, 12_900, 312 * second, 60 * second, 7_500 * second, 277_200 * second];
        let written: Vec<String> = spans.into_iter().map(span).collect();
        assert_eq!(written, ["0 ms", "250 ms", "3.2 s", "3 s", "12 s", "5 min 12 s", "1 min", "2 h 5 min", "3 d 5 h"]);
        assert_eq!((until(5, 9), until(12_009, 9)), ("now".into(), "in 12 s".into()));
    }

    #[test]
    fn long_lists_of_names_are_cut_and_say_so() {
        assert_eq!(names(["A"], 1), "`A`");
        assert_eq!(names(["A", "B", "C"], 3), "`A`, `B` and `C`");
        assert_eq!(names(["A", "B"], 1_002), "`A`, `B` and 1,000 more");
    }

    #[test]
    fn what_would_steer_a_terminal_is_shown_as_an_escape() {
        assert_eq!(escape("\u{1b}[2Jgone\r\n\u{7}"), "\\x1b[2Jgone\\r\\n\\x07");
        assert_eq!(escape("\u{9b}31m \u{202e}drow"), "\\u{9b}31m \\u{202e}drow");
        assert!(matches!(escape("Zürich – 東京"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_text_is_cut_by_characters() {
        assert_eq!(shorten("Zürich", 6), "Zürich");
        assert_eq!(shorten("Zürich\n", 6), "Züric…");
    }
}
