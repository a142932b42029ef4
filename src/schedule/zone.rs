//! Time zones: which instants a wall clock's time stands for, and when that clock is changed.

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::clock::Millis;
use crate::error::{Error, Result, did_you_mean};

/// The zone of that IANA name: what the host knows of it, or else what was compiled in.
pub fn named(name: &str) -> Result<TimeZone> {
    let zones = jiff::tz::db();
    // An empty name, or one with a blank, would be told as a problem of files.
    let known = zones.get(name).ok().filter(|zone| zone.iana_name().is_some() || name.eq_ignore_ascii_case("utc"));
    known.ok_or_else(|| {
        let names: Vec<String> = zones.available().map(|zone| zone.as_str().to_owned()).collect();
        let near = did_you_mean(name, names.iter().map(String::as_str));
        let example = if near.is_empty() { "; one looks like Europe/Berlin or UTC" } else { "" };
        Error::usage(format!("there is no time zone `{name}`{near}{example}"))
    })
}

/// What a wall clock shows: no instant before a zone is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall(pub DateTime);

impl Wall {
    /// What the zone's wall clocks show at an instant, in whole seconds; `None` outside of the years that have a calendar.
    pub fn at(instant: Millis, offset: Offset) -> Option<Self> {
        let shown = offset.to_datetime(Timestamp::from_millisecond(instant).ok()?);
        Some(Self(shown.with().subsec_nanosecond(0).build().ok()?))
    }

    /// The instant at which clocks of that offset show it.
    pub fn instant(self, offset: Offset) -> Option<Millis> {
        Some(offset.to_timestamp(self.0).ok()?.as_millisecond())
    }

    /// The instant that it means in a zone: the first one if the clocks show it twice, and the first instant after the gap if they
    /// never show it.
    pub fn first_instant(self, zone: &TimeZone) -> Option<Millis> {
        match zone.to_ambiguous_timestamp(self.0).offset() {
            AmbiguousOffset::Unambiguous { offset } => self.instant(offset),
            AmbiguousOffset::Fold { before, .. } => self.instant(before),
            AmbiguousOffset::Gap { before, .. } => {
                // Read with the old offset it lies behind the change, or is the change itself.
                let behind = Timestamp::from_millisecond(self.instant(before)? + 1).ok()?;
                Some(zone.preceding(behind).next()?.timestamp().as_millisecond())
            }
        }
    }
}

/// A wall clock's time is searched as it stands, day after day of 24 hours: changes of clocks are dealt with outside.
impl CronDateTime for Wall {
    fn to_civil(&self) -> CivilDateTime {
        let Self(at) = self;
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(at.year().into(), at.month() as u32, at.day() as u32),
            CivilTime::from_parts_unchecked(at.hour() as u32, at.minute() as u32, at.second() as u32),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.0.weekday().to_sunday_zero_offset() as u32)
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let part = |number: u32| number as i8;
        DateTime::new(
            year,
            part(civil.month()),
            part(civil.day()),
            part(civil.hour()),
            part(civil.minute()),
            part(civil.second()),
            0,
        )
        .map(|at| Resolution::Single(Self(at)))
        .map_err(|_| CronError::InvalidDate)
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(jiff::SignedDuration::from_secs(seconds)).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> std::cmp::Ordering {
        self.cmp(other)
    }
}
