//! The A rows: the airports that the example ships, with their keys kept distinct from one reading of the file to the next.

use anyhow::{Context, Result};
use gusher::prelude::*;

/// The file, from this crate's folder.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/import/data/airports.csv");

/// An A row: the columns of the file as text, as the example's rows are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Airport {
    icao: String,
    iata: String,
    name: String,
    city: String,
    subd: String,
    country: String,
    elevation: String,
    lat: String,
    lon: String,
    tz: String,
    lid: String,
}

/// The first `rows` A rows. The file is held in memory once (some 10 MB), however many rows are asked for.
pub fn airports(rows: u64) -> Result<impl Iterator<Item = Airport> + Send + 'static> {
    let mut file = csv::Reader::from_path(FILE).with_context(|| format!("opening {FILE}"))?;
    let read: csv::Result<Vec<Airport>> = file.deserialize().collect();
    let airports = read.with_context(|| format!("reading {FILE}"))?;
    Ok((0..rows).map(move |n| {
        let (reading, line) = (n / airports.len() as u64, n % airports.len() as u64);
        let mut airport = airports[line as usize].clone();
        if reading > 0 {
            airport.icao = format!("{}-{reading}", airport.icao);
        }
        airport
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_rows_have_about_197_bytes_of_json() {
        let bytes: usize = airports(100_000).unwrap().map(|row| serde_json::to_vec(&row).unwrap().len()).sum();
        let mean = bytes as f64 / 100_000.0;
        assert!((194.0..200.0).contains(&mean), "{mean} bytes");
    }

    #[test]
    fn a_rows_are_the_same_in_every_run_and_their_keys_are_distinct() {
        assert!(airports(60_000).unwrap().eq(airports(60_000).unwrap()));
        let keys: HashSet<String> = airports(60_000).unwrap().map(|airport| airport.icao).collect();
        assert_eq!(keys.len(), 60_000);
    }
}
