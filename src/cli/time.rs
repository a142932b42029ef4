//! Points in time as people write and read them: in UTC, as ISO 8601.

use jiff::Timestamp;

use crate::clock::{Millis, millis};
use crate::error::{Error, Result};
use crate::store::parse_duration;

/// A point in time to the second: `2026-11-24T05:02:28Z`.
pub fn at(time: Millis) -> String {
    match Timestamp::from_millisecond(time) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => format!("{time} ms"),
    }
}

/// A point in time as it was typed: an age (`2h`), a date, a date with a time, perhaps with an offset; UTC without one.
pub fn parse(text: &str, now: Millis) -> Result<Millis> {
    let text = text.trim();
    if let Some(age) = parse_duration(text) {
        return Ok(now.saturating_sub(millis(age)));
    }
    let written = [text.to_owned(), format!("{text}Z"), format!("{text}T00:00:00Z")];
    let time = written.iter().find_map(|text| text.parse::<Timestamp>().ok());
    time.map(|time| time.as_millisecond()).ok_or_else(|| {
        Error::usage(format!(
            "`{text}` is no time; one looks like 2h (ago), 2026-11-24, 2026-11-24T05:00 or 2026-11-24T05:00:00Z"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_790_000_000_000;

    #[test]
    fn a_time_is_read_as_an_age_a_date_or_a_moment_and_shown_in_utc() {
        assert_eq!(at(NOW), "2026-09-21T14:13:20Z");
        let read = |text| parse(text, NOW).unwrap();
        assert_eq!(read("2h"), NOW - 7_200_000);
        assert_eq!(read("2026-09-21T14:13:20Z"), NOW);
        assert_eq!(read("2026-09-21T16:13:20+02:00"), NOW);
        assert_eq!(read("2026-09-21 14:13:20"), NOW);
        assert_eq!(at(read("2026-09-21")), "2026-09-21T00:00:00Z");
        assert!(parse("yesterday", NOW).unwrap_err().to_string().contains("`yesterday` is no time"));
    }
}
