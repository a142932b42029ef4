//! Charts in numbers: how long each bar is, where each line goes. How they look is the style sheet's affair, so that
//! they follow the reader's light or dark mode. Lengths are percentages and lettering keeps its size, so the charts
//! fit a phone as they fit a screen.

use std::{collections::BTreeMap, fmt::Write};

use super::country::Country;
use crate::{
    database::{Cell, Elevations},
    number::{rounded, thousands},
};

const MOST_BARS: usize = 20;
/// Of fewer people a few airstrips make a record that says nothing.
const MANY_PEOPLE: u32 = 1_000_000;

/// A line of a bar chart.
#[derive(Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: String,
    /// Of the longest bar.
    pub(super) percent: String,
}

pub(super) fn most_airports(countries: &[Country]) -> Vec<Bar> {
    let airports = countries.iter().filter(|country| country.airports > 0);
    bars(airports.map(|country| (country, country.airports as f64)).collect(), |value| rounded(value, 0))
}

pub(super) fn most_per_million(countries: &[Country]) -> Vec<Bar> {
    let large = countries.iter().filter(|country| country.population.is_some_and(|people| people > MANY_PEOPLE));
    let airports = large.filter(|country| country.airports > 0);
    bars(airports.filter_map(|country| Some((country, country.per_million()?))).collect(), |value| rounded(value, 1))
}

fn bars(mut ranked: Vec<(&Country, f64)>, shown: fn(f64) -> String) -> Vec<Bar> {
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let longest = ranked.first().map_or(1.0, |&(_, value)| value);
    ranked
        .into_iter()
        .take(MOST_BARS)
        .map(|(country, value)| Bar {
            label: country.name.clone(),
            value: shown(value),
            percent: percent(value / longest),
        })
        .collect()
}

/// How many airports lie how high.
#[derive(Debug, PartialEq)]
pub(super) struct Histogram {
    pub(super) columns: Vec<Column>,
    /// (place from the left, feet)
    pub(super) feet: Vec<(String, String)>,
    /// (place from the top, airports)
    pub(super) airports: Vec<(String, String)>,
    pub(super) summary: String,
}

#[derive(Debug, PartialEq)]
pub(super) struct Column {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) y: String,
    pub(super) height: String,
    pub(super) says: String,
}

impl Histogram {
    /// `None` if there are no airports.
    pub(super) fn of(elevations: &Elevations) -> Option<Self> {
        const MOST_LABELS: f64 = 6.0;
        const MOST_LINES: f64 = 5.0;
        const GAP: f64 = 0.12;
        let band = Elevations::BAND;
        let (lowest, _) = *elevations.bands.first()?;
        let (highest, _) = *elevations.bands.last()?;
        let columns = ((highest - lowest) / band + 1) as f64;
        let most = elevations.bands.iter().map(|&(_, airports)| airports).max()?;
        // A little air above the tallest column.
        let top = most as f64 * 1.06;

        let place = |feet: i64| (feet - lowest) as f64 / band as f64 / columns;
        let column = |&(feet, airports): &(i64, u64)| {
            // One airport among ten thousand is seen, too.
            let height = (airports as f64 / top).max(0.004);
            Column {
                x: percent(place(feet) + GAP / 2.0 / columns),
                width: percent((1.0 - GAP) / columns),
                y: percent(1.0 - height),
                height: percent(height),
                says: format!(
                    "{} to {} feet: {}",
                    rounded(feet as f64, 0),
                    rounded((feet + band) as f64, 0),
                    thousands(airports)
                ),
            }
        };
        let step = round_step((highest + band - lowest) as f64 / MOST_LABELS).max(band as f64) as i64;
        let first = lowest.div_euclid(step) * step;
        let labels = (first..=highest + band).step_by(step as usize).filter(|&feet| feet >= lowest);
        let line = round_step(most as f64 / MOST_LINES).max(1.0) as u64;
        Some(Self {
            columns: elevations.bands.iter().map(column).collect(),
            feet: labels.map(|feet| (percent(place(feet)), rounded(feet as f64, 0))).collect(),
            airports: (line..=most)
                .step_by(line as usize)
                .map(|airports| (percent(1.0 - airports as f64 / top), thousands(airports)))
                .collect(),
            summary: summary(elevations),
        })
    }
}

/// The round number (1, 2, 2.5 or 5 times a power of ten) at or above this one.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1.0).log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= least).unwrap_or(least)
}

fn summary(elevations: &Elevations) -> String {
    let all: u64 = elevations.bands.iter().map(|&(_, airports)| airports).sum();
    let mut below = 0;
    let middle = elevations.bands.iter().find(|&&(_, airports)| {
        below += airports;
        below * 2 >= all
    });
    let middle = middle.map_or(0, |&(feet, _)| feet + Elevations::BAND);
    format!("Half of them lie below {} feet.", rounded(middle as f64, 0))
}

/// The squares of the map that have about as many airports.
#[derive(Debug, PartialEq)]
pub(super) struct MapLayer {
    /// 0 is the faintest.
    pub(super) shade: usize,
    /// A path with a dot for each square, in degrees from the north-western corner of the map.
    pub(super) dots: String,
}

impl MapLayer {
    /// A shade for 1 airport, for 2 or 3, for 4 to 7, and so on.
    const SHADES: usize = 5;
}

pub(super) fn map(cells: &[Cell]) -> Vec<MapLayer> {
    let mut layers: BTreeMap<usize, String> = BTreeMap::new();
    for cell in cells {
        let shade = (cell.airports.max(1).ilog2() as usize).min(MapLayer::SHADES - 1);
        let (x, y) = (cell.longitude + 180, 89 - cell.latitude);
        // Writing to a string cannot fail.
        let _ = write!(layers.entry(shade).or_default(), "M{x} {y}h0");
    }
    layers.into_iter().map(|(shade, dots)| MapLayer { shade, dots }).collect()
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn country(name: &str, airports: u64, population: u32) -> Country {
        Country {
            code: name.into(),
            name: name.into(),
            airports,
            population: Some(population),
            gdp_per_head: None,
            literacy_percent: None,
        }
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let chart = most_airports(&[country("A", 1_000, 1), country("B", 250, 1), country("C", 0, 1)]);
        let bar = |label: &str, value: &str, percent: &str| Bar {
            label: label.into(),
            value: value.into(),
            percent: percent.into(),
        };
        assert_eq!(chart, [bar("A", "1,000", "100.00%"), bar("B", "250", "25.00%")]);
    }

    #[test]
    fn only_countries_with_many_people_are_ranked_by_people() {
        let countries = [country("Islet", 3, 900), country("A", 10, 2_000_000), country("B", 10, 1_000_001)];
        let names: Vec<_> = most_per_million(&countries).into_iter().map(|bar| (bar.label, bar.value)).collect();
        assert_eq!(names, [("B".to_owned(), "10.0".to_owned()), ("A".to_owned(), "5.0".to_owned())]);
    }

    #[test]
    fn a_histogram_spans_from_the_lowest_band_to_the_highest() {
        let elevations = Elevations { bands: vec![(-500, 1), (0, 90), (1_000, 9)], ..Elevations::default() };
        let chart = Histogram::of(&elevations).unwrap();
        let places: Vec<_> = chart.columns.iter().map(|column| column.x.as_str()).collect();
        assert_eq!(places, ["1.50%", "26.50%", "76.50%"]);
        assert_eq!(chart.columns[1].says, "0 to 500 feet: 90");
        let feet: Vec<_> = chart.feet.iter().map(|(_, feet)| feet.as_str()).collect();
        assert_eq!(feet, ["−500", "0", "500", "1,000", "1,500"]);
        let airports: Vec<_> = chart.airports.iter().map(|(_, airports)| airports.as_str()).collect();
        assert_eq!(airports, ["20", "40", "60", "80"]);
        assert_eq!(chart.summary, "Half of them lie below 500 feet.");
        assert_eq!(Histogram::of(&Elevations::default()), None);
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(
            [0.3, 1.0, 3.0, 1_100.0, 2_290.0, 7_000.0].map(round_step),
            [1.0, 1.0, 5.0, 2_000.0, 2_500.0, 10_000.0]
        );
    }

    #[test]
    fn the_map_has_a_dot_for_each_square_and_a_shade_for_its_airports() {
        let cell = |latitude, longitude, airports| Cell { latitude, longitude, airports };
        let layers = map(&[cell(89, -180, 1), cell(-90, 179, 1), cell(0, 0, 500)]);
        assert_eq!(layers[0], MapLayer { shade: 0, dots: "M0 0h0M359 179h0".into() });
        assert_eq!(layers[1], MapLayer { shade: 4, dots: "M180 89h0".into() });
    }
}
