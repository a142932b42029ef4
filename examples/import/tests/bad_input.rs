//! What a person sees when a file is not what it should be.

use std::{fs, path::PathBuf};

use import::{
    Row,
    rows::{Rows, Take},
    territories::read_territories,
};

/// A file with this content, in a folder that goes with the test.
struct Given {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn given(name: &str, content: impl AsRef<[u8]>) -> Given {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    Given { _folder: folder, path }
}

mod csv {
    use super::*;

    const HEADER: &str = "icao,iata,name,city,subd,country,elevation,lat,lon,tz,lid\n";
    const ROW: &str = "EDDH,HAM,Hamburg,,,DE,53,53.6,9.9,Europe/Berlin,\n";

    fn rows(given: &Given, first: Option<u64>, times: u32) -> Vec<Row> {
        Rows::open(&given.path, Take { first, times }).unwrap().map(Result::unwrap).collect()
    }

    /// The rows before the error, and the error.
    fn broken(content: impl AsRef<[u8]>) -> (usize, String) {
        let given = given("a.csv", content);
        let mut rows = Rows::open(&given.path, Take::ALL).unwrap();
        let good = rows.by_ref().take_while(Result::is_ok).count();
        // The error has been taken by `take_while`; read again up to it.
        let error = Rows::open(&given.path, Take::ALL).unwrap().nth(good).unwrap().unwrap_err();
        assert!(error.is_permanent());
        assert!(rows.next().is_none(), "nothing comes after an error");
        (good, error.to_string())
    }

    fn wrong_header(content: impl AsRef<[u8]>) -> String {
        let error = Rows::open(&given("a.csv", content).path, Take::ALL).unwrap_err();
        assert!(error.is_permanent());
        error.to_string()
    }

    #[test]
    fn a_header_without_rows_is_an_empty_import() {
        assert!(rows(&given("a.csv", HEADER), None, 3).is_empty());
    }

    #[test]
    fn a_file_without_bytes_has_a_wrong_header() {
        let error = wrong_header("");
        assert!(error.contains("a.csv, line 1: the header is wrong: it is empty"), "{error}");
        assert!(error.contains("icao,iata,name,city,subd,country,elevation,lat,lon,tz,lid"), "{error}");
    }

    #[test]
    fn a_wrong_header_names_what_is_missing_and_what_is_not_expected() {
        let error = wrong_header(HEADER.replace("lat,lon", "latitude,lon"));
        assert!(error.contains("`lat` is missing, `latitude` is not expected"), "{error}");
        let error = wrong_header(HEADER.replace(",lid", ""));
        assert!(error.contains("the header is wrong: `lid` is missing;"), "{error}");
        let error = wrong_header(HEADER.replace(",lid", ",lid,lid"));
        assert!(error.contains("the header is wrong: `lid` is not expected;"), "{error}");
        let error = wrong_header(HEADER.replace(',', ";"));
        assert!(error.contains("and 6 more is missing, `icao;iata;"), "{error}");
        assert!(wrong_header(b"\xff\xfe,x\n").contains("not UTF-8"));
    }

    #[test]
    fn columns_may_come_in_any_order_and_a_byte_order_mark_is_no_letter() {
        let given = given("a.csv", "\u{feff}lid,icao,iata,name,city,subd,country,elevation,lat,lon,tz\nL,I,,,,,,,,,\n");
        let row = &rows(&given, None, 1)[0];
        assert_eq!((row.icao.as_str(), row.lid.as_str(), row.line), ("I", "L", 2));
    }

    #[test]
    fn a_ragged_row_ends_the_reading_with_its_line() {
        let (good, error) = broken(format!("{HEADER}{ROW}EDDH,HAM,Hamburg\n{ROW}"));
        assert_eq!(good, 1);
        assert!(error.contains("a.csv, line 3: the row has 3 fields, the header has 11"), "{error}");
    }

    #[test]
    fn a_row_that_is_not_utf8_ends_the_reading_with_its_line_and_field() {
        let mut content = format!("{HEADER}{ROW}").into_bytes();
        content.extend(b"EDDK,CGN,K\xf6ln,,,DE,1,1,1,Europe/Berlin,\n");
        let (good, error) = broken(content);
        assert_eq!(good, 1);
        assert!(error.contains("line 3: field `name` is not UTF-8"), "{error}");
    }

    #[test]
    fn a_row_of_300_kb_ends_the_reading_with_its_line() {
        let (good, error) =
            broken(format!("{HEADER}{ROW}{}\n{ROW}", ROW.trim().replace("Hamburg", &"x".repeat(300_000))));
        assert_eq!(good, 1);
        assert!(error.contains("line 3: the row is longer than 64 KiB: is a closing quote missing?"), "{error}");
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_read_the_whole_file_into_memory() {
        let rest = ROW.repeat(100_000);
        let (good, error) = broken(format!("{HEADER}{ROW}{}{rest}", ROW.replace("Hamburg", "\"Hamburg")));
        assert_eq!(good, 1);
        assert!(error.contains("line 3: the row is longer than 64 KiB"), "{error}");
    }

    #[test]
    fn a_row_tells_the_line_on_which_it_begins() {
        let given = given("a.csv", format!("{HEADER}{}{ROW}", ROW.replace("Hamburg", "\"Ham\nburg\"")));
        let lines: Vec<_> = rows(&given, None, 1).iter().map(|row| row.line).collect();
        assert_eq!(lines, [2, 4]);
    }

    #[test]
    fn the_first_rows_can_be_taken_and_the_file_read_several_times() {
        let given = given("a.csv", format!("{HEADER}{}", ROW.repeat(5)));
        let keys: Vec<_> = rows(&given, Some(2), 3).iter().map(|row| (row.pass, row.line)).collect();
        assert_eq!(keys, [(0, 2), (0, 3), (1, 2), (1, 3), (2, 2), (2, 3)]);
        assert_eq!(rows(&given, None, 2).len(), 10);
        assert!(rows(&given, Some(0), 2).is_empty());
    }

    #[test]
    fn the_position_reaches_the_end() {
        let given = given("a.csv", format!("{HEADER}{}", ROW.repeat(5)));
        let mut rows = Rows::open(&given.path, Take { first: None, times: 2 }).unwrap();
        assert_eq!(rows.by_ref().count(), 10);
        let size = fs::metadata(&given.path).unwrap().len();
        assert_eq!(rows.position(), (2 * size, 2 * size));
    }

    #[test]
    fn a_missing_file_may_come_later() {
        let error = Rows::open(&PathBuf::from("/nowhere/a.csv"), Take::ALL).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/a.csv");
        assert!(!error.is_permanent());
    }
}

mod xml {
    use super::*;

    fn document(territories: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n\
             <!DOCTYPE supplementalData SYSTEM \"../../common/dtd/ldmlSupplemental.dtd\">\n\
             <supplementalData>\n<territoryInfo>\n{territories}\n</territoryInfo>\n</supplementalData>\n"
        )
    }

    const ANDORRA: &str = "<territory type=\"AD\" gdp=\"3327000000\" literacyPercent=\"100\" population=\"77000\">";

    fn refused(content: impl AsRef<[u8]>) -> String {
        let error = read_territories(&given("a.xml", content).path).unwrap_err();
        assert!(error.is_permanent());
        error.to_string()
    }

    #[test]
    fn a_name_is_the_comment_right_behind_the_start_tag() {
        let given = given(
            "a.xml",
            "\u{feff}".to_owned()
                + &document(
                    "<territory type='AD' gdp='1' literacyPercent='9.5' population='2'>\t<!-- Andorra -->\n\
                 <languagePopulation type='ca'/> <!--Catalan--></territory>\n\
                 <territory type='XX' gdp='1' literacyPercent='9' population='2'><x/><!--Not its name--></territory>\n\
                 <territory type='YY' gdp='1' literacyPercent='9' population='2'/> <!--Short form-->",
                ),
        );
        let territories = read_territories(&given.path).unwrap();
        let names: Vec<_> = territories.iter().map(|territory| territory.name.as_str()).collect();
        assert_eq!(names, ["Andorra", "XX", "Short form"]);
    }

    #[test]
    fn a_missing_attribute_and_a_number_that_is_none_are_named_with_their_line() {
        let error = refused(document(&ANDORRA.replace("gdp=\"3327000000\"", "")));
        assert!(error.ends_with("a.xml, line 5: a territory has no attribute `gdp`"), "{error}");
        let error = refused(document(&ANDORRA.replace("77000", "many")));
        assert!(
            error.contains("line 5: a territory's attribute `population` is \"many\", which is not a whole"),
            "{error}"
        );
        assert!(refused(document(&ANDORRA.replace("\"100\"", "\"101\""))).contains("from 0 to 100"));
        assert!(refused(document(&ANDORRA.replace("3327000000", "NaN"))).contains("`gdp` is \"NaN\""));
        assert!(refused(document(&ANDORRA.replace("AD", "Andorra"))).contains("2 capital letters"));
    }

    #[test]
    fn malformed_xml_is_an_error_with_its_line() {
        let error = refused(document(&format!("{ANDORRA}</country>")));
        assert!(error.contains("line 5:") && error.contains("territory"), "{error}");
        assert!(refused(document(&format!("{ANDORRA}\n<a b=></a></territory>"))).contains("line 6:"));
        assert!(refused(document("<a>") + "</a>").contains("line 6:"));
        assert!(refused(document(ANDORRA).replace("UTF-8\" ?>", "UTF-8\" ?><a/>")).contains("a second root"));
        assert!(refused("no xml at all").contains("line 1: there is text outside of the root element"));
        assert!(refused("").contains("there is no <supplementalData>"));
    }

    #[test]
    fn truncated_xml_is_cut_off_wherever_it_ends() {
        let whole = document(&format!("{ANDORRA}<!--Andorra--></territory>"));
        let end = whole.find("</supplementalData>").unwrap();
        for length in whole.find("<supplementalData>").unwrap() + 18..end {
            let error = refused(&whole.as_bytes()[..length]);
            assert!(error.contains("line "), "{length}: {error}");
        }
        assert!(refused(&whole[..end]).contains("line 7: the file ends inside <supplementalData>: it is cut off"));
    }

    #[test]
    fn a_file_that_is_not_utf8_is_an_error() {
        let mut content = document(&format!("{ANDORRA}</territory>")).into_bytes();
        let at = content.windows(2).position(|two| two == b"AD").unwrap();
        content[at] = 0xff;
        assert!(refused(content).contains("line 5"));
    }

    #[test]
    fn entities_are_refused_before_anything_is_expanded() {
        let bomb = document(ANDORRA).replace(
            " SYSTEM \"../../common/dtd/ldmlSupplemental.dtd\">",
            " [\n<!ENTITY a \"aaaaaaaaaa\">\n<!ENTITY b \"&a;&a;&a;&a;\">\n]>",
        );
        assert!(refused(bomb).contains("line 2: it defines entities (<!ENTITY …>), which are not taken"));
        let unknown = document(&ANDORRA.replace("77000", "&bomb;"));
        assert!(refused(unknown).contains("line 5"));
    }

    #[test]
    fn a_file_without_territories_is_not_the_file() {
        assert!(refused(document("")).contains("there is no <supplementalData><territoryInfo><territory>"));
    }

    #[test]
    fn a_territory_that_is_there_twice_is_an_error() {
        let twice = format!("{ANDORRA}</territory>\n{ANDORRA}</territory>");
        assert!(refused(document(&twice)).ends_with("line 6: territory AD is there twice"));
    }

    #[test]
    fn what_never_ends_is_refused_by_its_size_or_depth() {
        assert!(refused("<a>".repeat(100_000)).contains("nested more than 64 deep"));
        let given = given("a.xml", "");
        fs::File::options().write(true).open(&given.path).unwrap().set_len(100 << 20).unwrap();
        let error = read_territories(&given.path).unwrap_err().to_string();
        assert!(error.contains("has 104,857,600 bytes"), "{error}");
    }
}
