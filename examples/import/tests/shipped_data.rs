//! The shipped files, read by this program and by another tool.

use std::{collections::BTreeMap, path::PathBuf};

use import::{
    Airport, Row,
    country::is_known_country,
    rows::{Rows, Take},
    territories::read_territories,
};

mod counted;

fn data(file: &str) -> PathBuf {
    import::jobs::shipped(file)
}

fn airports() -> Vec<Airport> {
    Rows::open(&data("airports.csv"), Take::ALL).unwrap().map(|row| row.unwrap().check().unwrap()).collect()
}

#[test]
fn every_shipped_row_is_an_airport() {
    assert_eq!(airports().len(), 28_298);
}

#[test]
fn no_two_shipped_rows_have_the_same_key() {
    let mut codes: Vec<_> = airports().into_iter().map(|airport| airport.icao).collect();
    codes.sort();
    codes.dedup();
    assert_eq!(codes.len(), 28_298);
}

#[test]
fn the_counts_are_those_of_another_tool() {
    let theirs = counted::by_python();
    let airports = airports();
    let count_by = |key: fn(&Airport) -> String| {
        airports.iter().fold(BTreeMap::new(), |mut counts, airport| {
            *counts.entry(key(airport)).or_insert(0) += 1;
            counts
        })
    };
    assert_eq!(count_by(|airport| airport.country.clone()), theirs.airports);

    let ours: Vec<_> = read_territories(&data("cldr-supplemental.xml"))
        .unwrap()
        .into_iter()
        .map(|territory| (territory.code, territory.gdp, territory.literacy_percent, territory.population))
        .collect();
    assert_eq!(ours.len(), 257);
    assert_eq!(ours, theirs.territories);
}

#[test]
fn every_territory_has_its_english_name() {
    let territories = read_territories(&data("cldr-supplemental.xml")).unwrap();
    let name = |code: &str| territories.iter().find(|territory| territory.code == code).unwrap().name.clone();
    assert_eq!(name("US"), "United States");
    assert_eq!(name("BA"), "Bosnia & Herzegovina");
    assert_eq!(name("AX"), "Åland Islands");
    let nameless: Vec<_> = territories.iter().filter(|territory| territory.name == territory.code).collect();
    assert!(nameless.is_empty(), "{nameless:?}");
}

#[test]
fn the_known_countries_are_the_territories_of_the_cldr_file() {
    let territories = read_territories(&data("cldr-supplemental.xml")).unwrap();
    let unknown: Vec<_> =
        territories.iter().map(|territory| &*territory.code).filter(|code| !is_known_country(code)).collect();
    // "Unknown region": no country that an airport can be in.
    assert_eq!(unknown, ["ZZ"]);
}

#[test]
fn a_row_takes_about_two_hundred_bytes_as_a_job() {
    let rows = Rows::open(&data("airports.csv"), Take::ALL).unwrap();
    let sizes: Vec<_> = rows.map(|row: Result<Row, _>| serde_json::to_vec(&row.unwrap()).unwrap().len()).collect();
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!((190..=230).contains(&mean), "{mean} bytes");
}
