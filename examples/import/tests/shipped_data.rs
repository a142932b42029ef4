//! The shipped files, read by this program and by another tool.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use import::{
    Airport, Row,
    country::is_known_country,
    rows::{Rows, Take},
    territories::read_territories,
};
use serde::Deserialize;

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file)
}

fn airports() -> Vec<Airport> {
    Rows::open(&data("airports.csv"), Take::ALL).unwrap().map(|row| row.unwrap().check().unwrap()).collect()
}

/// What Python's own CSV and XML readers count.
#[derive(Deserialize)]
struct Counted {
    airports: BTreeMap<String, u64>,
    /// Code, GDP, literacy, population.
    territories: Vec<(String, f64, f64, u32)>,
    /// By band of 500 feet.
    elevations: BTreeMap<i64, u64>,
}

fn counted_by_python() -> Counted {
    const PROGRAM: &str = r#"
import collections, csv, json, math, sys
import xml.etree.ElementTree as ElementTree

with open(sys.argv[1], encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file))
territories = ElementTree.parse(sys.argv[2]).getroot().findall("territoryInfo/territory")
print(json.dumps({
    "airports": collections.Counter(row["country"] for row in rows),
    "territories": [
        [t.get("type"), float(t.get("gdp")), float(t.get("literacyPercent")), int(t.get("population"))]
        for t in territories
    ],
    "elevations": collections.Counter(math.floor(float(row["elevation"]) / 500) * 500 for row in rows),
}))
"#;
    let python = Command::new("python3")
        .args(["-c", PROGRAM])
        .args([data("airports.csv"), data("cldr-supplemental.xml")])
        .output()
        .expect("this test counts with python3 to compare: install it");
    assert!(python.status.success(), "python3 failed: {}", String::from_utf8_lossy(&python.stderr));
    serde_json::from_slice(&python.stdout).unwrap()
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
    let theirs = counted_by_python();
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
