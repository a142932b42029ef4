//! The two files side by side: a country's airports and its people.

use std::collections::BTreeMap;

use crate::{
    number::{rounded, thousands},
    territories::Territory,
};

/// A country or territory in the report. What is not known of it is `None`.
#[derive(Debug, PartialEq)]
pub(super) struct Country {
    pub(super) code: String,
    pub(super) name: String,
    pub(super) airports: u64,
    pub(super) population: Option<u32>,
    /// In US dollars a year.
    pub(super) gdp_per_head: Option<f64>,
    pub(super) literacy_percent: Option<f64>,
}

impl Country {
    pub(super) fn per_million(&self) -> Option<f64> {
        self.population.map(|people| self.airports as f64 * 1e6 / f64::from(people))
    }
}

/// All that have airports or people; most airports first, then by name.
pub(super) fn countries(territories: &[Territory], airports: &[(String, u64)]) -> Vec<Country> {
    let mut by_code: BTreeMap<&str, Country> =
        territories.iter().map(|known| (known.code.as_str(), from(known))).collect();
    for (code, airports) in airports {
        let country = by_code.entry(code).or_insert_with(|| Country {
            code: code.clone(),
            name: code.clone(),
            airports: 0,
            population: None,
            gdp_per_head: None,
            literacy_percent: None,
        });
        country.airports = *airports;
    }
    // Nobody lives in CLDR's "unknown region".
    let is_somewhere = |country: &Country| country.airports > 0 || country.population.is_some();
    let mut countries: Vec<_> = by_code.into_values().filter(is_somewhere).collect();
    countries.sort_by(|a, b| b.airports.cmp(&a.airports).then_with(|| a.name.cmp(&b.name)));
    countries
}

fn from(territory: &Territory) -> Country {
    let population = Some(territory.population).filter(|&people| people > 0);
    Country {
        code: territory.code.clone(),
        name: territory.name.clone(),
        airports: 0,
        population,
        gdp_per_head: population.map(|people| territory.gdp / f64::from(people)),
        literacy_percent: population.map(|_| territory.literacy_percent),
    }
}

/// A cell of the table: what is read, and what it is sorted by.
pub(super) struct Cell {
    pub(super) shown: String,
    pub(super) sorted_by: String,
}

impl Country {
    pub(super) fn cells(&self) -> [Cell; 5] {
        let cell = |value: Option<f64>, shown: fn(f64) -> String| Cell {
            shown: value.map_or_else(|| "–".to_owned(), shown),
            sorted_by: value.map(|value| value.to_string()).unwrap_or_default(),
        };
        [
            Cell { shown: thousands(self.airports), sorted_by: self.airports.to_string() },
            cell(self.per_million(), |value| rounded(value, 1)),
            cell(self.population.map(f64::from), |value| rounded(value, 0)),
            cell(self.gdp_per_head, |value| format!("${}", rounded(value, 0))),
            cell(self.literacy_percent, |value| format!("{}%", rounded(value, 1))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn territory(code: &str, population: u32) -> Territory {
        Territory { code: code.into(), name: format!("Land of {code}"), gdp: 5e9, literacy_percent: 99.5, population }
    }

    #[test]
    fn airports_and_people_come_together_by_code() {
        let airports = [("NZ".to_owned(), 10), ("QQ".to_owned(), 3)];
        let countries =
            countries(&[territory("DE", 80_000_000), territory("NZ", 5_000_000), territory("ZZ", 0)], &airports);
        let codes: Vec<_> = countries.iter().map(|country| country.code.as_str()).collect();
        assert_eq!(codes, ["NZ", "QQ", "DE"], "nobody lives in ZZ and it has no airports");
        assert_eq!(countries[0].per_million(), Some(2.0));
        assert_eq!(countries[0].gdp_per_head, Some(1_000.0));
        assert_eq!((countries[1].name.as_str(), countries[1].per_million()), ("QQ", None));
    }

    #[test]
    fn what_is_not_known_is_a_dash_that_sorts_as_nothing() {
        let countries = countries(&[], &[("QQ".to_owned(), 1_234)]);
        let [airports, per_million, ..] = countries[0].cells();
        assert_eq!((airports.shown.as_str(), airports.sorted_by.as_str()), ("1,234", "1234"));
        assert_eq!((per_million.shown.as_str(), per_million.sorted_by.as_str()), ("–", ""));
    }
}
