//! The page that comes out, from the shipped files and from odd ones.

use std::{collections::BTreeMap, fs, path::Path};

use futures::{StreamExt, TryStreamExt, stream};
use import::{
    BadRow, Database,
    database::Figures,
    report::{Facts, Missing, render, write},
    rows::{Rows, Take},
    territories::{Territory, read_territories},
};
use jiff::Timestamp;

mod counted;

fn facts(figures: Figures, territories: Vec<Territory>) -> Facts {
    Facts {
        workflow: "01939a5c-7b1e-7000-8000-0123456789ab".to_owned(),
        csv: "data/airports.csv".to_owned(),
        xml: "data/cldr-supplemental.xml".to_owned(),
        finished_at: "2026-11-24T03:46:00Z".parse().unwrap(),
        imported: figures.airports,
        added: figures.airports,
        figures,
        territories,
        missing: Missing::default(),
    }
}

fn territory(code: &str, name: &str) -> Territory {
    Territory { code: code.into(), name: name.into(), gdp: 1e9, literacy_percent: 90.0, population: 2_000_000 }
}

fn bad_row(line: u64, reason: &str) -> BadRow {
    BadRow { line, field: "lat".to_owned(), reason: reason.to_owned() }
}

/// The facts of the shipped files, by way of a database.
async fn shipped() -> Facts {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("import.db")).unwrap();
    database.begin("w", true).await.unwrap();
    stream::iter(Rows::open(&data.join("airports.csv"), Take::ALL).unwrap())
        .map(|row| database.upsert("w", row.unwrap().check().unwrap()))
        .buffer_unordered(256)
        .try_for_each(async |_| Ok(()))
        .await
        .unwrap();
    let figures = database.figures("w").await.unwrap();
    let finished_at = Timestamp::from_millisecond(figures.started_at.unwrap() + 4_200).unwrap();
    let territories = read_territories(&data.join("cldr-supplemental.xml")).unwrap();
    Facts { finished_at, ..facts(figures, territories) }
}

/// What a reader sees: without tags, styles and scripts, spaces made one.
fn text(html: &str) -> String {
    let body = &html[html.find("<body>").unwrap()..html.find("<script>").unwrap()];
    let mut text = String::new();
    for part in body.split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, after)| after));
        text.push(' ');
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_shipped_files_make_a_report_with_their_figures() {
    let html = render(&shipped().await).unwrap();
    // Kept for whoever wants to look at it: target/tmp/report.html.
    write(&html, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html")).unwrap();
    let text = text(&html);
    for says in [
        "Airports 28,298 Countries with airports 234 Territories known 257 Rows missing 0 Imported in 4.2 s",
        "Most airports United States 12,579 Brazil 2,826 Australia 1,609",
        "Australia 63.2 United States 37.8 Canada 31.1 New Zealand 26.0",
        "The lowest is Bar Yehuda Airfield (IL) at −1,266 feet (−386 m)",
        "the highest Laguna Choclococha Airport (PE) at 14,965 feet (4,561 m).",
        "Germany DE 479 6.0 80,159,700",
        "New in the database 28,298 of 28,298 rows",
    ] {
        assert!(text.contains(says), "{says:?} is not in: {text}");
    }
    assert!(!text.contains("Unknown Region"));
}

#[tokio::test]
async fn the_figures_of_the_report_are_those_of_another_tool() {
    let theirs = counted::by_python();
    let html = render(&shipped().await).unwrap();
    let plain = |shown: &str| shown.replace(',', "");

    // The table: `… <small>US</small></td><td class="number" data-by="12579">12,579</td><td …per million`.
    let table = html.split_once("id=\"countries\"").unwrap().1;
    let rows = table.split("<small>").skip(1).map(|row| {
        let mut shown = row.split('>').skip(1).step_by(2).map(|cell| cell.split('<').next().unwrap());
        (row[..2].to_owned(), shown.by_ref().skip(1).take(5).map(plain).collect::<Vec<_>>())
    });
    let ours: BTreeMap<_, _> = rows.collect();
    // All but CLDR's "unknown region", where nobody lives.
    assert_eq!(ours.len(), theirs.territories.len() - 1);
    for (code, gdp, literacy, population) in theirs.territories.iter().filter(|(code, ..)| code != "ZZ") {
        let airports = theirs.airports.get(code).copied().unwrap_or(0);
        let people = f64::from(*population);
        let expected = [
            airports.to_string(),
            format!("{:.1}", airports as f64 * 1e6 / people),
            population.to_string(),
            format!("${:.0}", gdp / people),
            format!("{literacy:.1}%"),
        ];
        assert_eq!(ours[code], expected, "{code}");
    }

    // The histogram: `<title>0 to 500 feet: 11,449</title>`.
    let columns = html.split("<title>").skip(2).map(|title| {
        let (from, rest) = title.split_once(" to ").unwrap();
        let airports = rest.split_once(": ").unwrap().1.split('<').next().unwrap();
        (plain(from).replace('−', "-").parse().unwrap(), plain(airports).parse().unwrap())
    });
    assert_eq!(columns.collect::<BTreeMap<i64, u64>>(), theirs.elevations);
    assert!(text(&html).contains(&format!("Airports {}", import::number::thousands(theirs.airports.values().sum()))));
}

#[tokio::test]
async fn the_page_asks_for_nothing_from_elsewhere() {
    let html = render(&shipped().await).unwrap();
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn an_empty_import_says_so() {
    let html = render(&facts(Figures::default(), vec![territory("DE", "Germany")])).unwrap();
    let text = text(&html);
    assert!(text.contains("No airports were imported: the file has a header and no rows."), "{text}");
    assert!(text.contains("Territories known 1"));
    assert!(!text.contains("Most airports"));
}

#[test]
fn what_comes_from_the_data_is_text_and_never_markup() {
    let evil = "<script>alert(1)</script>\"'&";
    let figures = Figures { airports: 1, by_country: vec![("XX".into(), 1)], ..Figures::default() };
    let mut facts = facts(figures, vec![territory("XX", evil)]);
    facts.csv = evil.to_owned();
    facts.missing.add(|| BadRow { field: evil.to_owned(), ..bad_row(3, evil) });
    let html = render(&facts).unwrap();
    assert!(!html.contains("<script>alert"), "{html}");
    assert!(html.contains("&#60;script&#62;alert(1)"));
}

#[test]
fn missing_rows_are_listed_up_to_a_thousand_and_the_rest_is_counted() {
    let mut facts = facts(Figures { airports: 5, ..Figures::default() }, Vec::new());
    for line in 2..2_002 {
        facts.missing.add(|| bad_row(line, "\"97.5\" is not a number of degrees from -90 to 90"));
    }
    let text = text(&render(&facts).unwrap());
    assert!(text.contains("Rows missing 2,000"), "{text}");
    assert!(text.contains("2,000 rows were rejected and tolerated. These are the first 1,000; there are 1,000 more."));
    assert!(text.contains("1,001 lat &#34;97.5&#34; is not a number of degrees"));
    assert!(!text.contains("1,002 lat"));
}

#[test]
fn an_import_of_nothing_but_bad_rows_says_so() {
    let mut facts = facts(Figures::default(), Vec::new());
    facts.missing.add(|| bad_row(2, "bad"));
    assert!(text(&render(&facts).unwrap()).contains("No airports were imported: every row was rejected."));
}

#[test]
fn airports_that_another_import_took_over_are_not_passed_over_in_silence() {
    let mut facts = facts(Figures { airports: 90, passes: 1, ..Figures::default() }, Vec::new());
    facts.imported = 100;
    let text = text(&render(&facts).unwrap());
    assert!(text.contains("100 rows were imported, 10 more than the airports counted here"), "{text}");
}

#[test]
fn a_report_takes_the_place_of_an_older_one_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("out/report.html");
    write("old", &report).unwrap();
    write("new", &report).unwrap();
    assert_eq!(fs::read_to_string(&report).unwrap(), "new");
    assert_eq!(fs::read_dir(report.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write("page", &file.join("report.html")).unwrap_err();
    assert!(error.to_string().ends_with("file/report.html"), "{error}");
    let error = write("page", folder.path()).unwrap_err();
    assert!(error.to_string().starts_with("cannot write the report"), "{error}");
}
