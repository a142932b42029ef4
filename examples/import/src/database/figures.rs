//! What the report tells of the airports, counted in one pass over them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use rusqlite::OptionalExtension;

use super::{DatabaseError, file};

/// The airports that one import brought, in figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// When the import began, in milliseconds since 1970.
    pub started_at: Option<i64>,
    pub airports: u64,
    /// How many readings of the file they are from.
    pub passes: u64,
    /// By country code; most airports first, then by code.
    pub by_country: Vec<(String, u64)>,
    pub elevations: Elevations,
    /// Where airports are, from north to south and west to east.
    pub map: Vec<Cell>,
}

/// How high airports lie.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Elevations {
    /// The lowest foot of each band of [`Elevations::BAND`] feet, and its airports; only bands that have some.
    pub bands: Vec<(i64, u64)>,
    pub lowest: Option<Spot>,
    pub highest: Option<Spot>,
}

impl Elevations {
    /// The height of a band, in feet.
    pub const BAND: i64 = 500;
}

/// An airport worth naming.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    pub name: String,
    pub country: String,
    pub elevation: f64,
}

/// A square of one degree, and its airports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Of its southern edge, -90 to 89.
    pub latitude: i64,
    /// Of its western edge, -180 to 179.
    pub longitude: i64,
    pub airports: u64,
}

pub(super) fn read(path: &Path, workflow: &str) -> Result<Figures, DatabaseError> {
    let connection = file::open_to_read(path)?;
    let explain = |error| DatabaseError::explain(path, "cannot read the airports", error);
    let import = connection
        .query_row(
            "SELECT id, started_at FROM import WHERE workflow = ?1 ORDER BY id DESC LIMIT 1",
            [workflow],
            |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)),
        )
        .optional()
        .map_err(explain)?;
    let Some((import, started_at)) = import else {
        return Ok(Figures::default());
    };

    let mut tally = Tally::default();
    let mut read = || -> rusqlite::Result<()> {
        let mut airports = connection
            .prepare("SELECT pass, country, elevation, latitude, longitude, name FROM airport WHERE import = ?1")?;
        let mut rows = airports.query([import])?;
        while let Some(row) = rows.next()? {
            tally.passes.insert(row.get(0)?);
            tally.country(row.get_ref(1)?.as_str()?);
            tally.elevation(row.get(2)?, row.get_ref(5)?.as_str()?, row.get_ref(1)?.as_str()?);
            tally.place(row.get(3)?, row.get(4)?);
        }
        Ok(())
    };
    read().map_err(explain)?;
    Ok(tally.figures(started_at))
}

#[derive(Default)]
struct Tally {
    airports: u64,
    passes: HashSet<i64>,
    countries: HashMap<String, u64>,
    bands: BTreeMap<i64, u64>,
    lowest: Option<Spot>,
    highest: Option<Spot>,
    cells: HashMap<(i64, i64), u64>,
}

impl Tally {
    fn country(&mut self, code: &str) {
        self.airports += 1;
        match self.countries.get_mut(code) {
            Some(airports) => *airports += 1,
            None => {
                self.countries.insert(code.to_owned(), 1);
            }
        }
    }

    fn elevation(&mut self, feet: f64, name: &str, country: &str) {
        let band = (feet / Elevations::BAND as f64).floor() as i64 * Elevations::BAND;
        *self.bands.entry(band).or_default() += 1;
        let spot = || Some(Spot { name: name.to_owned(), country: country.to_owned(), elevation: feet });
        if self.lowest.as_ref().is_none_or(|lowest| feet < lowest.elevation) {
            self.lowest = spot();
        }
        if self.highest.as_ref().is_none_or(|highest| feet > highest.elevation) {
            self.highest = spot();
        }
    }

    fn place(&mut self, latitude: f64, longitude: f64) {
        // The pole and the date line belong to the last square, not to one beyond.
        let cell = ((latitude.floor() as i64).min(89), (longitude.floor() as i64).min(179));
        *self.cells.entry(cell).or_default() += 1;
    }

    fn figures(self, started_at: i64) -> Figures {
        let mut by_country: Vec<_> = self.countries.into_iter().collect();
        by_country.sort_by(|(a, airports_a), (b, airports_b)| airports_b.cmp(airports_a).then_with(|| a.cmp(b)));
        let mut map: Vec<_> = self
            .cells
            .into_iter()
            .map(|((latitude, longitude), airports)| Cell { latitude, longitude, airports })
            .collect();
        map.sort_by_key(|cell| (-cell.latitude, cell.longitude));
        Figures {
            started_at: Some(started_at),
            airports: self.airports,
            passes: self.passes.len() as u64,
            by_country,
            elevations: Elevations {
                bands: self.bands.into_iter().collect(),
                lowest: self.lowest,
                highest: self.highest,
            },
            map,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn airports_are_counted_by_band_and_the_extremes_are_named() {
        let mut tally = Tally::default();
        for (feet, name) in [(-0.5, "Low"), (0.0, "Shore"), (499.9, "Hill"), (500.0, "Top")] {
            tally.elevation(feet, name, "NL");
        }
        let elevations = tally.figures(0).elevations;
        assert_eq!(elevations.bands, [(-500, 1), (0, 2), (500, 1)]);
        assert_eq!(elevations.lowest.unwrap().name, "Low");
        assert_eq!(elevations.highest.unwrap().name, "Top");
    }

    #[test]
    fn countries_are_ranked_by_airports_and_then_by_code() {
        let mut tally = Tally::default();
        for code in ["FR", "DE", "US", "US"] {
            tally.country(code);
        }
        let ranked = [("US", 2), ("DE", 1), ("FR", 1)].map(|(code, airports)| (code.to_owned(), airports));
        assert_eq!(tally.figures(0).by_country, ranked);
    }

    #[test]
    fn the_pole_and_the_date_line_are_on_the_map() {
        let mut tally = Tally::default();
        tally.place(90.0, 180.0);
        tally.place(-90.0, -180.0);
        let map = tally.figures(0).map;
        assert_eq!(map[0], Cell { latitude: 89, longitude: 179, airports: 1 });
        assert_eq!(map[1], Cell { latitude: -90, longitude: -180, airports: 1 });
    }
}
