//! One row of the airports file: as it was read, and as it has to be.
//!
//! A [`Row`] holds text, so that a bad one can be a job like every other: it is the job that rejects it, alone, with
//! line, field and reason, and a person can mend the row and feed it again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::country::is_known_country;

/// A row as it stands in the file. Its columns are the fields after `line` and `pass`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Where it begins in its file, counted from 1; the header is line 1.
    pub line: u64,
    /// Which reading of the file this is, counted from 0: part of what identifies an airport.
    pub pass: u32,
    pub icao: String,
    pub iata: String,
    pub name: String,
    pub city: String,
    pub subd: String,
    pub country: String,
    pub elevation: String,
    pub lat: String,
    pub lon: String,
    pub tz: String,
    pub lid: String,
}

impl Row {
    /// The names of the file's columns.
    pub const COLUMNS: [&'static str; 11] =
        ["icao", "iata", "name", "city", "subd", "country", "elevation", "lat", "lon", "tz", "lid"];
}

/// An airport or landing strip: a row that has been checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Airport {
    pub pass: u32,
    /// The ICAO code, or the local code that the file uses in its place. Unique within one reading of the file.
    pub icao: String,
    pub iata: Option<String>,
    pub name: String,
    pub city: Option<String>,
    /// Its state, province or region.
    pub subdivision: Option<String>,
    /// ISO 3166 alpha-2.
    pub country: String,
    /// In feet above the sea.
    pub elevation: f64,
    /// In degrees, north positive.
    pub latitude: f64,
    /// In degrees, east positive.
    pub longitude: f64,
    /// An IANA name.
    pub time_zone: String,
    /// The code that its country's authority gave it.
    pub local_code: Option<String>,
}

impl Row {
    /// The airport that this row describes.
    ///
    /// # Errors
    ///
    /// The first field, in the order of the file, that cannot be right.
    pub fn check(&self) -> Result<Airport, BadRow> {
        Ok(Airport {
            pass: self.pass,
            icao: self.icao()?,
            iata: self.iata()?,
            name: self.text("name", &self.name)?.ok_or_else(|| self.bad("name", "it is empty"))?,
            city: self.text("city", &self.city)?,
            subdivision: self.text("subd", &self.subd)?,
            country: self.country()?,
            // From below the shore of the Dead Sea to above the highest mountain.
            elevation: self.number("elevation", &self.elevation, -1_500.0, 30_000.0, "feet")?,
            latitude: self.number("lat", &self.lat, -90.0, 90.0, "degrees")?,
            longitude: self.number("lon", &self.lon, -180.0, 180.0, "degrees")?,
            time_zone: self.time_zone()?,
            local_code: self.local_code()?,
        })
    }

    /// Four letters and digits; `_` and the IATA code where an airport has no code of its own (`_BFY`).
    fn icao(&self) -> Result<String, BadRow> {
        let is_code = self.icao.len() == 4 && self.icao.bytes().all(is_code_byte);
        let stands_in = self.icao.strip_prefix('_') == Some(self.iata.as_str());
        match is_code || (stands_in && self.icao.len() == 4) {
            true => Ok(self.icao.clone()),
            false => Err(self.wrong("icao", &self.icao, "4 capital letters or digits, or _ and the IATA code")),
        }
    }

    fn iata(&self) -> Result<Option<String>, BadRow> {
        match self.iata.as_str() {
            "" => Ok(None),
            code if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => Ok(Some(code.to_owned())),
            code => Err(self.wrong("iata", code, "empty or 3 capital letters")),
        }
    }

    fn local_code(&self) -> Result<Option<String>, BadRow> {
        match self.lid.as_str() {
            "" => Ok(None),
            code if code.len() <= 8 && code.bytes().all(|byte| is_code_byte(byte) || byte == b'-') => {
                Ok(Some(code.to_owned()))
            }
            code => Err(self.wrong("lid", code, "empty or at most 8 capital letters, digits or -")),
        }
    }

    fn country(&self) -> Result<String, BadRow> {
        match is_known_country(&self.country) {
            true => Ok(self.country.clone()),
            false => Err(self.wrong("country", &self.country, "a known ISO 3166 code of 2 capital letters")),
        }
    }

    /// `Area/Place` or `Area/Region/Place`. Whether the zone exists is not asked: that would depend on the machine
    /// that the job happens to run on.
    fn time_zone(&self) -> Result<String, BadRow> {
        const AREAS: [&str; 10] = [
            "Africa",
            "America",
            "Antarctica",
            "Arctic",
            "Asia",
            "Atlantic",
            "Australia",
            "Europe",
            "Indian",
            "Pacific",
        ];
        let is_place = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_uppercase())
                && part.len() <= 32
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        let mut parts = self.tz.split('/');
        let is_zone = parts.next().is_some_and(|area| AREAS.contains(&area))
            && matches!(parts.clone().count(), 1 | 2)
            && parts.all(is_place);
        match is_zone {
            true => Ok(self.tz.clone()),
            false => Err(self.wrong("tz", &self.tz, "an IANA name such as America/Chicago")),
        }
    }

    fn number(&self, field: &'static str, text: &str, least: f64, most: f64, unit: &str) -> Result<f64, BadRow> {
        text.parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.wrong(field, text, &format!("a number of {unit} from {least} to {most}")))
    }

    /// Free text, trimmed; `None` if there is none.
    fn text(&self, field: &'static str, text: &str) -> Result<Option<String>, BadRow> {
        const LONGEST: usize = 200;
        let text = text.trim();
        if text.chars().count() > LONGEST {
            return Err(self.wrong(field, text, &format!("at most {LONGEST} characters long")));
        }
        if text.chars().any(char::is_control) {
            return Err(self.wrong(field, text, "free of control characters"));
        }
        Ok(Some(text).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    fn wrong(&self, field: &'static str, value: &str, should_be: &str) -> BadRow {
        self.bad(field, &format!("{} is not {should_be}", quoted(value)))
    }

    fn bad(&self, field: &'static str, reason: &str) -> BadRow {
        BadRow { line: self.line, field: field.to_owned(), reason: reason.to_owned() }
    }
}

fn is_code_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

/// In quotes, short, and with whatever would upset a terminal escaped.
fn quoted(value: &str) -> String {
    const LONGEST: usize = 40;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

/// Why a row was rejected. It never gets better by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadRow {
    pub line: u64,
    pub field: String,
    pub reason: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, field, reason } = self;
        write!(f, "line {line}, field `{field}`: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            line: 17,
            pass: 0,
            icao: "EDDH".into(),
            iata: "HAM".into(),
            name: " Hamburg Airport ".into(),
            city: "Hamburg".into(),
            subd: String::new(),
            country: "DE".into(),
            elevation: "53.5".into(),
            lat: "53.630278".into(),
            lon: "9.991111".into(),
            tz: "Europe/Berlin".into(),
            lid: String::new(),
        }
    }

    /// What the row is rejected for once `change` has been made to it.
    fn rejected(change: impl FnOnce(&mut Row)) -> String {
        let mut row = row();
        change(&mut row);
        row.check().unwrap_err().to_string()
    }

    #[test]
    fn a_good_row_is_an_airport() {
        let airport = row().check().unwrap();
        assert_eq!(airport.name, "Hamburg Airport");
        assert_eq!(airport.iata.as_deref(), Some("HAM"));
        assert_eq!(airport.subdivision, None);
        assert_eq!(airport.elevation, 53.5);
    }

    #[test]
    fn an_airport_without_a_code_of_its_own_goes_by_its_iata_code() {
        let mut row = row();
        row.icao = "_HAM".into();
        assert_eq!(row.check().unwrap().icao, "_HAM");
        assert!(rejected(|row| row.icao = "_BFY".into()).contains("`icao`: \"_BFY\" is not"));
    }

    #[test]
    fn a_bad_row_is_rejected_with_line_field_and_reason() {
        assert_eq!(
            rejected(|row| row.lat = "97.5".into()),
            "line 17, field `lat`: \"97.5\" is not a number of degrees from -90 to 90"
        );
        assert_eq!(
            rejected(|row| row.country = "XX".into()),
            "line 17, field `country`: \"XX\" is not a known ISO 3166 code of 2 capital letters"
        );
        assert_eq!(rejected(|row| row.name = " ".into()), "line 17, field `name`: it is empty");
    }

    #[test]
    fn every_field_that_can_be_wrong_is_checked() {
        type Change = fn(&mut Row);
        let changes: [(&str, Change); 14] = [
            ("icao", |row| row.icao = "EDD".into()),
            ("icao", |row| row.icao = "eddh".into()),
            ("iata", |row| row.iata = "HA1".into()),
            ("name", |row| row.name = "a\u{7}b".into()),
            ("city", |row| row.city = "x".repeat(201)),
            ("country", |row| row.country = String::new()),
            ("elevation", |row| row.elevation = "31000".into()),
            ("elevation", |row| row.elevation = "NaN".into()),
            ("lat", |row| row.lat = "north".into()),
            ("lon", |row| row.lon = "-180.1".into()),
            ("lon", |row| row.lon = String::new()),
            ("tz", |row| row.tz = "Europe".into()),
            ("tz", |row| row.tz = "Middle/Earth".into()),
            ("lid", |row| row.lid = "L I D".into()),
        ];
        for (field, change) in changes {
            let reason = rejected(change);
            assert!(reason.contains(&format!("field `{field}`")), "{reason}");
        }
    }

    #[test]
    fn a_reason_quotes_no_more_of_a_value_than_a_person_reads() {
        let reason = rejected(|row| row.tz = "\u{1b}[31m".repeat(50_000));
        assert!(reason.len() < 500 && !reason.contains('\u{1b}'), "{reason}");
    }

    #[test]
    fn a_row_is_small_as_a_job() {
        let json = serde_json::to_string(&row()).unwrap();
        assert!(json.len() < 220, "{} bytes: {json}", json.len());
    }
}
