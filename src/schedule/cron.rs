//! Rules: which instants a schedule means. Pure: what is next follows from the rule and an instant, never from what ran before.
//!
//! **When clocks are changed.** A cron rule names times that wall clocks show. One that they never show, since they are put forward over
//! it, means the first instant after the gap; one that they show twice means the first of the two. So each named time happens once a
//! day. A rule that names no hour (`*/15 * * * *`) goes by what the clocks show in every hour that passes: it skips what they skip and
//! runs in both of the hours that they show twice, and so keeps its interval. `every` knows no wall clocks: its instants are the
//! multiples of the interval since 1970-01-01T00:00:00Z.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Year};
use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::zone::{self, Wall};
use crate::clock::{Millis, millis};
use crate::error::{Error, Result};

/// The longest interval: a hundred years.
const LONGEST: Millis = 100 * 366 * 86_400_000;
/// The fields of a rule: what each is called, and what may stand in it.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, L"),
    ("month", "1 to 12, JAN to DEC"),
    ("day of the week", "0 to 7, SUN to SAT"),
];

/// Which instants a schedule means.
#[derive(Clone)]
pub struct Rule(Kind);

#[derive(Clone)]
enum Kind {
    Cron {
        text: String,
        /// As it was named.
        zone_name: String,
        zone: TimeZone,
        cron: Box<Cron>,
        /// It names no hour: every hour that passes is one of its own.
        every_hour: bool,
    },
    Every(Millis),
}

/// A rule as it is written and stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Written {
    Cron { rule: String, zone: String },
    EveryMs(Millis),
}

impl Rule {
    /// A cron rule of five fields (minute, hour, day of the month, month, day of the week), or six with the seconds before them, or
    /// `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`; of the wall clocks of an IANA time zone. If both days are restricted, either
    /// of them is enough, as in crontabs.
    ///
    /// What cannot be read is refused with its place, and so is a rule that never fires.
    ///
    /// ```
    /// # use gusher::schedule::Rule;
    /// let nightly = Rule::cron("0 2 * * *", "Europe/Berlin").unwrap();
    /// assert!(Rule::cron("0 2 30 2 *", "UTC").unwrap_err().to_string().contains("never fires"));
    /// ```
    pub fn cron(rule: &str, zone: &str) -> Result<Self> {
        let parsed = parse(rule)?;
        let start = Wall(date(2000, 1, 1).at(0, 0, 0, 0));
        if parsed.find_next_occurrence(&start, true).is_err() {
            return Err(Error::usage(format!("the cron rule `{rule}` never fires: there is no such day in any year")));
        }
        let every_hour = (0..24).all(|hour| parsed.pattern.hour_match(hour).unwrap_or(false));
        Ok(Self(Kind::Cron {
            text: rule.split_whitespace().collect::<Vec<_>>().join(" "),
            zone_name: zone.to_owned(),
            zone: zone::named(zone)?,
            cron: Box::new(parsed),
            every_hour,
        }))
    }

    /// The multiples of an interval since 1970-01-01T00:00:00Z; it has at least a millisecond, and whole ones.
    pub fn every(interval: Duration) -> Result<Self> {
        let interval = millis(interval);
        if !(1..=LONGEST).contains(&interval) {
            return Err(Error::usage("an interval has between one millisecond and a hundred years"));
        }
        Ok(Self(Kind::Every(interval)))
    }

    /// The first instant behind another; `None` if there is none before the calendar ends.
    pub fn next_after(&self, instant: Millis) -> Option<Millis> {
        match &self.0 {
            Kind::Every(interval) => instant.checked_sub(instant.rem_euclid(*interval))?.checked_add(*interval),
            Kind::Cron { zone, cron, every_hour: true, .. } => next_of_hours(cron, zone, instant),
            Kind::Cron { zone, cron, .. } => next_of_times(cron, zone, instant),
        }
    }

    /// Of an interval: how many instants there are from `instant` on before the last `but` of those before `until`, the last of them, and
    /// the first that follows. `None` if there are none, or if each has to be looked for.
    pub(crate) fn skipped(&self, instant: Millis, until: Millis, but: u64) -> Option<(u64, Millis, Millis)> {
        let Kind::Every(interval) = self.0 else { return None };
        let before = (until.checked_sub(instant)?.checked_sub(1)? / interval) as u64 + 1;
        let skipped = before.checked_sub(but).filter(|skipped| *skipped > 0 && until > instant)?;
        let last = instant + (skipped as Millis - 1) * interval;
        Some((skipped, last, last + interval))
    }

    /// An instant in a format of `strftime`, as the rule's zone shows it.
    pub(crate) fn format(&self, instant: Millis, format: &str) -> Result<String> {
        let wrong = |e| Error::usage(format!("`{format}` is no format of a time; one looks like %Y-%m-%d")).because(e);
        let time = Timestamp::from_millisecond(instant)
            .map_err(|e| Error::usage("there is no such time before the calendar ends").because(e))?;
        let zoned = time.to_zoned_datetime(self.zone());
        jiff::fmt::strtime::format(format, &zoned).map_err(wrong)
    }

    fn zone(&self) -> TimeZone {
        match &self.0 {
            Kind::Cron { zone, .. } => zone.clone(),
            Kind::Every(_) => TimeZone::UTC,
        }
    }

    /// The instants at or behind another, in order.
    pub fn instants_from(&self, instant: Millis) -> impl Iterator<Item = Millis> + '_ {
        std::iter::successors(self.next_after(instant.saturating_sub(1)), |last| self.next_after(*last))
    }

    /// An instant as the rule's zone shows it, in RFC 3339 with the offset.
    pub fn show(&self, instant: Millis) -> String {
        let Ok(time) = Timestamp::from_millisecond(instant) else { return format!("{instant} ms") };
        let shown = time.to_zoned_datetime(self.zone());
        let fraction = if instant.rem_euclid(1000) == 0 { "" } else { "%.3f" };
        shown.strftime(&format!("%Y-%m-%dT%H:%M:%S{fraction}%:z")).to_string()
    }

    fn written(&self) -> Written {
        match &self.0 {
            Kind::Cron { text, zone_name, .. } => Written::Cron { rule: text.clone(), zone: zone_name.clone() },
            Kind::Every(interval) => Written::EveryMs(*interval),
        }
    }
}

/// The next instant of a rule that names hours: each time that it names is one instant, in the order of the walls.
fn next_of_times(cron: &Cron, zone: &TimeZone, instant: Millis) -> Option<Millis> {
    let mut wall = Wall::at(instant, zone.to_offset(Timestamp::from_millisecond(instant).ok()?))?;
    loop {
        wall = cron.find_next_occurrence(&wall, false).ok()?;
        // What is shown a second time has been before.
        match wall.first_instant(zone)? {
            first if first > instant => return Some(first),
            _ => {}
        }
    }
}

/// The next instant of a rule that names no hour: what the clocks show, from one change of theirs to the next.
fn next_of_hours(cron: &Cron, zone: &TimeZone, instant: Millis) -> Option<Millis> {
    let (mut from, mut inclusive) = (instant, false);
    loop {
        let at = Timestamp::from_millisecond(from).ok()?;
        let offset = zone.to_offset(at);
        let next = cron.find_next_occurrence(&Wall::at(from, offset)?, inclusive).ok()?.instant(offset)?;
        match zone.following(at).next().map(|change| change.timestamp().as_millisecond()) {
            Some(change) if change <= next => (from, inclusive) = (change, true),
            _ => return Some(next),
        }
    }
}

fn parse(rule: &str) -> Result<Cron> {
    let parser = CronParser::builder().year(Year::Disallowed).build();
    let error = match parser.parse(rule) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    let refuse = |column: usize, why: String| {
        Error::usage(format!("the cron rule `{rule}` is wrong at character {column}: {why}"))
    };
    if rule.trim_start().starts_with('@') {
        let column = rule.chars().position(|c| c == '@').unwrap_or(0) + 1;
        return Err(refuse(column, "there are @hourly, @daily, @weekly, @monthly and @yearly".to_owned()));
    }
    let fields = fields_of(rule);
    let names = match fields.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        found => {
            let end = rule.trim_end().chars().count();
            let column = fields.get(6).map_or(end + 1, |(column, _)| *column);
            let why = format!(
                "it has {found} fields; there are five (minute, hour, day of the month, month, day of the week), or six with the seconds first"
            );
            return Err(refuse(column, why));
        }
    };
    // The first field that cannot be read beside stars is the wrong one.
    for (at, ((column, field), (name, range))) in fields.iter().zip(names).enumerate() {
        let mut alone = vec!["*"; fields.len()];
        alone[at] = field;
        if parser.parse(&alone.join(" ")).is_err() {
            return Err(refuse(
                *column,
                format!("`{field}` is no {name} ({range}; *, lists 1,2, ranges 1-3, steps */2)"),
            ));
        }
    }
    Err(refuse(1, error.to_string()))
}

/// The fields of a text, each with the number of its first character.
fn fields_of(text: &str) -> Vec<(usize, &str)> {
    text.split_whitespace()
        .map(|field| {
            let bytes = field.as_ptr() as usize - text.as_ptr() as usize;
            (text[..bytes].chars().count() + 1, field)
        })
        .collect()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Cron { text, zone_name, .. } => write!(f, "{text} ({zone_name})"),
            Kind::Every(interval) => write!(f, "every {:?}", Duration::from_millis(interval.unsigned_abs())),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({self})")
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule = match Written::deserialize(deserializer)? {
            Written::Cron { rule, zone } => Self::cron(&rule, &zone),
            Written::EveryMs(interval) => Self::every(Duration::from_millis(u64::try_from(interval).unwrap_or(0))),
        };
        rule.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Millis {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn runs(rule: &Rule, from: &str, count: usize) -> Vec<String> {
        rule.instants_from(at(from)).take(count).map(|instant| rule.show(instant)).collect()
    }

    fn berlin(rule: &str) -> Rule {
        Rule::cron(rule, "Europe/Berlin").unwrap()
    }

    #[test]
    fn a_time_that_does_not_exist_runs_at_the_first_instant_after_the_gap() {
        assert_eq!(
            runs(&berlin("30 2 * * *"), "2027-03-27T12:00:00Z", 3),
            ["2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00", "2027-03-30T02:30:00+02:00"]
        );
        // Several of them are one run, and it may be that of another time.
        assert_eq!(
            runs(&berlin("0,30 2,3 * * *"), "2027-03-28T00:00:00Z", 3),
            ["2027-03-28T03:00:00+02:00", "2027-03-28T03:30:00+02:00", "2027-03-29T02:00:00+02:00"]
        );
    }

    #[test]
    fn a_time_that_exists_twice_runs_once() {
        assert_eq!(
            runs(&berlin("30 2 * * *"), "2027-10-30T12:00:00Z", 2),
            ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"]
        );
        // Also for who asks between the two.
        assert_eq!(runs(&berlin("30 2 * * *"), "2027-10-31T01:10:00Z", 1), ["2027-11-01T02:30:00+01:00"]);
    }

    #[test]
    fn a_rule_that_names_no_hour_keeps_its_interval() {
        assert_eq!(
            runs(&berlin("*/30 * * * *"), "2027-10-31T00:30:00Z", 4),
            [
                "2027-10-31T02:30:00+02:00",
                "2027-10-31T02:00:00+01:00",
                "2027-10-31T02:30:00+01:00",
                "2027-10-31T03:00:00+01:00"
            ]
        );
        assert_eq!(
            runs(&berlin("30 * * * *"), "2027-03-28T00:30:00Z", 2),
            ["2027-03-28T01:30:00+01:00", "2027-03-28T03:30:00+02:00"]
        );
    }

    #[test]
    fn an_interval_counts_from_the_epoch() {
        let rule = Rule::every(Duration::from_secs(6 * 3600)).unwrap();
        assert_eq!(
            runs(&rule, "2027-03-28T00:00:00Z", 3),
            ["2027-03-28T00:00:00+00:00", "2027-03-28T06:00:00+00:00", "2027-03-28T12:00:00+00:00"]
        );
        assert_eq!(Rule::every(Duration::from_millis(20)).unwrap().next_after(-1), Some(0));
        assert!(Rule::every(Duration::ZERO).is_err() && Rule::every(Duration::from_micros(999)).is_err());
        assert!(Rule::every(Duration::MAX).is_err());
    }

    #[test]
    fn seconds_and_nicknames_are_rules_too() {
        assert_eq!(
            runs(&Rule::cron("*/20 0 0 * * *", "UTC").unwrap(), "2027-01-01T00:00:10Z", 3),
            ["2027-01-01T00:00:20+00:00", "2027-01-01T00:00:40+00:00", "2027-01-02T00:00:00+00:00"]
        );
        assert_eq!(
            runs(&Rule::cron("@daily", "Asia/Kolkata").unwrap(), "2027-01-01T00:00:00Z", 1),
            ["2027-01-02T00:00:00+05:30"]
        );
    }

    #[test]
    fn of_two_days_either_is_enough() {
        assert_eq!(
            runs(&Rule::cron("0 0 13 * FRI", "UTC").unwrap(), "2027-01-05T00:00:00Z", 3),
            ["2027-01-08T00:00:00+00:00", "2027-01-13T00:00:00+00:00", "2027-01-15T00:00:00+00:00"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        for (rule, told) in [
            ("61 2 * * *", "at character 1: `61` is no minute (0 to 59"),
            ("0 24 * * *", "at character 3: `24` is no hour (0 to 23"),
            ("0  2 32 * *", "at character 6: `32` is no day of the month"),
            ("0 2 * 13 *", "at character 7: `13` is no month"),
            ("0 2 * * MO-FRY", "at character 9: `MO-FRY` is no day of the week"),
            ("*/0 2 * * *", "at character 1: `*/0` is no minute"),
            ("0 0 2 * * 8", "at character 11: `8` is no day of the week"),
            ("0 2 * *", "at character 8: it has 4 fields"),
            ("0 2 * * * * 2027", "at character 13: it has 7 fields"),
            ("", "at character 1: it has 0 fields"),
            ("@nightly", "at character 1: there are @hourly"),
        ] {
            let error = Rule::cron(rule, "UTC").expect_err(rule).to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_rule_that_never_fires_is_refused() {
        for rule in ["0 2 30 2 *", "0 2 31 4,6,9,11 *", "0 0 2 30 2 *"] {
            let error = Rule::cron(rule, "UTC").unwrap_err().to_string();
            assert!(error.contains("never fires"), "{error}");
        }
        assert_eq!(
            runs(&Rule::cron("0 2 29 2 *", "UTC").unwrap(), "2096-03-01T00:00:00Z", 1),
            ["2104-02-29T02:00:00+00:00"]
        );
    }

    #[test]
    fn an_unknown_zone_is_answered_with_the_nearest() {
        let error = Rule::cron("0 2 * * *", "Europe/Berln").unwrap_err().to_string();
        assert!(error.contains("no time zone `Europe/Berln`; did you mean `Europe/Berlin`"), "{error}");
        for zone in ["", "Mars", "../UTC", "Europe /Berlin"] {
            assert!(Rule::cron("0 2 * * *", zone).is_err(), "{zone}");
        }
        assert!(Rule::cron("0 2 * * *", "utc").is_ok());
    }

    #[test]
    fn a_rule_comes_back_from_a_store_as_it_was() {
        for rule in [berlin("0  2 * * *"), Rule::every(Duration::from_millis(20)).unwrap()] {
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule, "{json}");
        }
        assert_eq!(
            serde_json::to_string(&berlin("0 2 * * *")).unwrap(),
            r#"{"cron":{"rule":"0 2 * * *","zone":"Europe/Berlin"}}"#
        );
    }
}
