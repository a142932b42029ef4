//! Parameters as cells of a table, and back: `{"airport":{"icao":"ZRH"}}` has the column `airport.icao` with the cell `ZRH`.
//!
//! A cell that nobody changed keeps its JSON to the letter. A changed one is read by what the old value was: a number, a truth value,
//! a text, or JSON for a list. An empty cell is `null` where there was `null` or a number.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Columns that a file has beside the parameters.
pub const INDEX: &str = "index";
pub const STATE: &str = "state";
pub const ERROR: &str = "error";
/// What stands before the name of a parameter that would be mistaken for one of those; alone, it is the column of parameters that are
/// no object.
const PARAMS: &str = "params";
/// Objects inside of objects are taken apart so deep; what lies deeper stays JSON in one cell.
const DEPTH: usize = 32;

/// Parameters, taken apart.
#[derive(Clone, Debug)]
pub enum Tree {
    Leaf(Box<RawValue>),
    Fields(Vec<(String, Tree)>),
}

/// What sort of value a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Number,
    Bool,
    Text,
    /// A list, or an object without fields.
    Json,
}

/// What the columns of a step's parameters hold, in the order in which they appear.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    pub names: Vec<String>,
    kinds: HashMap<String, Kind>,
}

impl Columns {
    /// Adds what one job's parameters have.
    pub fn add(&mut self, tree: &Tree) {
        tree.each(&mut |column, leaf| {
            let kind = kind(leaf);
            match self.kinds.get_mut(&column) {
                None => {
                    self.names.push(column.clone());
                    self.kinds.insert(column, kind);
                }
                Some(known) if *known == Kind::Null => *known = kind,
                Some(_) => {}
            }
        });
    }

    /// Learns from another job what those columns hold that have been `null` so far.
    pub fn learn(&mut self, tree: &Tree) {
        tree.each(&mut |column, leaf| {
            if let Some(known) = self.kinds.get_mut(&column).filter(|known| **known == Kind::Null) {
                *known = kind(leaf);
            }
        });
    }

    /// Whether a column has held nothing but `null` so far.
    pub fn is_any_unknown(&self) -> bool {
        self.kinds.values().any(|kind| *kind == Kind::Null)
    }

    /// What a column holds in any of the jobs.
    pub fn kind(&self, column: &str) -> Option<Kind> {
        self.kinds.get(column).copied()
    }
}

impl Tree {
    /// Takes parameters apart.
    pub fn parse(json: &RawValue) -> Self {
        Self::parse_within(json, DEPTH)
    }

    fn parse_within(json: &RawValue, depth: usize) -> Self {
        if depth > 0 && json.get().starts_with('{') {
            match serde_json::from_str::<Fields>(json.get()) {
                Ok(Fields(fields)) if !fields.is_empty() => {
                    return Tree::Fields(
                        fields.into_iter().map(|(name, value)| (name, Self::parse_within(&value, depth - 1))).collect(),
                    );
                }
                _ => {}
            }
        }
        Tree::Leaf(json.to_owned())
    }

    /// Column and cell of each leaf, in order.
    pub fn cells(&self) -> Vec<(String, String)> {
        let mut cells = Vec::new();
        self.each(&mut |column, leaf| cells.push((column, cell(leaf))));
        cells
    }

    fn each(&self, visit: &mut impl FnMut(String, &RawValue)) {
        self.each_below(&mut Vec::new(), visit);
    }

    fn each_below<'a>(&'a self, path: &mut Vec<&'a str>, visit: &mut impl FnMut(String, &RawValue)) {
        match self {
            Tree::Leaf(json) => visit(column(path), json),
            Tree::Fields(fields) => {
                for (name, value) in fields {
                    path.push(name);
                    value.each_below(path, visit);
                    path.pop();
                }
            }
        }
    }

    /// Puts a cell into a column. `elsewhere` is what other jobs have there, for a value that was `null` or missing.
    pub fn set(&mut self, column: &str, text: &str, elsewhere: Option<Kind>) -> Result<(), String> {
        self.set_at(&path(column), text, elsewhere)
    }

    fn is_null(&self) -> bool {
        matches!(self, Tree::Leaf(json) if kind(json) == Kind::Null)
    }

    fn set_at(&mut self, path: &[String], text: &str, elsewhere: Option<Kind>) -> Result<(), String> {
        match (self, path) {
            (Tree::Leaf(json), []) => {
                if cell(json) != text {
                    *json = mended(text, kind(json), elsewhere)?;
                }
                Ok(())
            }
            (Tree::Fields(fields), [name, rest @ ..]) => match fields.iter_mut().find(|(field, _)| field == name) {
                Some((_, value)) => value.set_at(rest, text, elsewhere),
                // This job has no such parameter, others have.
                None if text.is_empty() => Ok(()),
                None => {
                    let leaf = Tree::Leaf(mended(text, Kind::Null, elsewhere)?);
                    fields.push((
                        name.clone(),
                        rest.iter().rev().fold(leaf, |value, name| Tree::Fields(vec![(name.clone(), value)])),
                    ));
                    Ok(())
                }
            },
            (Tree::Leaf(json), [_, ..]) if text.is_empty() && kind(json) == Kind::Null => Ok(()),
            (tree, [_, ..]) if tree.is_null() => {
                let leaf = Tree::Leaf(mended(text, Kind::Null, elsewhere)?);
                *tree = path.iter().rev().fold(leaf, |value, name| Tree::Fields(vec![(name.clone(), value)]));
                Ok(())
            }
            _ if text.is_empty() => Ok(()),
            _ => Err("does not fit this job, whose parameters have another shape there".to_owned()),
        }
    }

    /// The parameters, put together again.
    pub fn json(&self) -> String {
        match self {
            Tree::Leaf(json) => json.get().to_owned(),
            Tree::Fields(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{}:{}", quoted(name), value.json())).collect();
                format!("{{{}}}", fields.join(","))
            }
        }
    }
}

/// The column of a path: its names joined by dots. A dot or a backslash in a name has a backslash before it.
fn column(path: &[&str]) -> String {
    let joined = path.iter().map(|name| name.replace('\\', "\\\\").replace('.', "\\.")).collect::<Vec<_>>().join(".");
    let taken = [INDEX, STATE, ERROR, PARAMS, ""].contains(&joined.as_str()) || joined.starts_with("params.");
    match path {
        [] => PARAMS.to_owned(),
        _ if taken => format!("{PARAMS}.{joined}"),
        _ => joined,
    }
}

/// The inverse of [`column`].
fn path(column: &str) -> Vec<String> {
    if column == PARAMS {
        return Vec::new();
    }
    let column = column.strip_prefix("params.").unwrap_or(column);
    let mut names = vec![String::new()];
    let mut chars = column.chars();
    while let Some(c) = chars.next() {
        match (c, names.last_mut()) {
            ('.', _) => names.push(String::new()),
            ('\\', Some(name)) => name.extend(chars.next()),
            (c, Some(name)) => name.push(c),
            (_, None) => {}
        }
    }
    names
}

fn kind(json: &RawValue) -> Kind {
    match json.get().as_bytes().first() {
        Some(b'n') => Kind::Null,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'"') => Kind::Text,
        Some(b'[' | b'{') => Kind::Json,
        _ => Kind::Number,
    }
}

/// The text of a leaf.
fn cell(json: &RawValue) -> String {
    match kind(json) {
        Kind::Null => String::new(),
        Kind::Text => serde_json::from_str(json.get()).unwrap_or_else(|_| json.get().to_owned()),
        _ => json.get().to_owned(),
    }
}

/// A changed cell as JSON, by what was there before; if that was nothing, by what other jobs have there, or else by its looks.
fn mended(text: &str, before: Kind, elsewhere: Option<Kind>) -> Result<Box<RawValue>, String> {
    let trimmed = text.trim();
    let by = match (before, elsewhere) {
        (Kind::Null, Some(kind)) => kind,
        (before, _) => before,
    };
    let json = match by {
        Kind::Null | Kind::Number if trimmed.is_empty() => "null".to_owned(),
        _ if before == Kind::Null && text.is_empty() => "null".to_owned(),
        Kind::Number if is_number(trimmed) => trimmed.to_owned(),
        Kind::Number => return Err(format!("`{text}` is no number")),
        Kind::Bool if trimmed.eq_ignore_ascii_case("true") => "true".to_owned(),
        Kind::Bool if trimmed.eq_ignore_ascii_case("false") => "false".to_owned(),
        Kind::Bool => return Err(format!("`{text}` is neither true nor false")),
        Kind::Text => quoted(text),
        Kind::Json => trimmed.to_owned(),
        Kind::Null if is_number(trimmed) || trimmed == "true" || trimmed == "false" => trimmed.to_owned(),
        Kind::Null => quoted(text),
    };
    RawValue::from_string(json).map_err(|error| format!("`{text}` is not JSON: {error}"))
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && serde_json::from_str::<&RawValue>(text).is_ok()
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// The fields of an object in their order, each as it was written.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"line":17,"airport":{"icao":"LSZH","elevation":1416.50,"open":true,"iata":null,"runways":[1,2]},"note":""}"#;

    fn tree(json: &str) -> Tree {
        Tree::parse(&RawValue::from_string(json.to_owned()).unwrap())
    }

    fn columns(trees: &[&str]) -> Columns {
        let mut columns = Columns::default();
        trees.iter().for_each(|json| columns.add(&tree(json)));
        columns
    }

    fn set(json: &str, column: &str, text: &str) -> Result<String, String> {
        let mut tree = tree(json);
        tree.set(column, text, columns(&[json]).kind(column)).map(|()| tree.json())
    }

    #[test]
    fn parameters_become_cells_under_dotted_columns() {
        let cells = tree(ROW).cells();
        let expected = [
            ("line", "17"),
            ("airport.icao", "LSZH"),
            ("airport.elevation", "1416.50"),
            ("airport.open", "true"),
            ("airport.iata", ""),
            ("airport.runways", "[1,2]"),
            ("note", ""),
        ];
        assert_eq!(cells, expected.map(|(column, cell)| (column.to_owned(), cell.to_owned())));
    }

    #[test]
    fn cells_that_nobody_changed_give_the_same_json_to_the_letter() {
        let mut same = tree(ROW);
        for (column, text) in same.cells() {
            same.set(&column, &text, None).unwrap();
        }
        assert_eq!(same.json(), ROW);
        let exact = r#"{"big":123456789012345678901234567890,"small":1e-400}"#;
        assert_eq!(tree(exact).json(), exact);
    }

    #[test]
    fn a_changed_cell_is_read_by_what_was_there() {
        let json = r#"{"n":1,"b":true,"t":"x","l":[1]}"#;
        assert_eq!(set(json, "n", " 2.5 ").unwrap(), r#"{"n":2.5,"b":true,"t":"x","l":[1]}"#);
        assert_eq!(set(json, "n", "").unwrap(), r#"{"n":null,"b":true,"t":"x","l":[1]}"#);
        assert_eq!(set(json, "b", "FALSE").unwrap(), r#"{"n":1,"b":false,"t":"x","l":[1]}"#);
        assert_eq!(set(json, "t", "17").unwrap(), r#"{"n":1,"b":true,"t":"17","l":[1]}"#);
        assert_eq!(set(json, "t", "").unwrap(), r#"{"n":1,"b":true,"t":"","l":[1]}"#);
        assert_eq!(set(json, "l", "[1, 2]").unwrap(), r#"{"n":1,"b":true,"t":"x","l":[1, 2]}"#);
    }

    #[test]
    fn a_cell_that_does_not_fit_is_refused() {
        let json = r#"{"n":1,"b":true,"l":[1]}"#;
        assert_eq!(set(json, "n", "12x").unwrap_err(), "`12x` is no number");
        assert_eq!(set(json, "n", "1,000").unwrap_err(), "`1,000` is no number");
        assert_eq!(set(json, "b", "yes").unwrap_err(), "`yes` is neither true nor false");
        assert!(set(json, "l", "[1").unwrap_err().contains("is not JSON"));
    }

    #[test]
    fn what_was_null_is_read_as_what_other_jobs_have_there() {
        let json = r#"{"iata":null}"#;
        let mut text = tree(json);
        text.set("iata", "123", columns(&[json, r#"{"iata":"ZRH"}"#]).kind("iata")).unwrap();
        assert_eq!(text.json(), r#"{"iata":"123"}"#);
        assert_eq!(set(json, "iata", "123").unwrap(), r#"{"iata":123}"#);
        assert_eq!(set(json, "iata", "ZRH").unwrap(), r#"{"iata":"ZRH"}"#);
        assert_eq!(set(json, "iata", "").unwrap(), json);
    }

    #[test]
    fn what_all_failed_jobs_lack_is_learned_from_others() {
        let json = r#"{"lat":null}"#;
        let mut columns = columns(&[json]);
        columns.learn(&tree(r#"{"lat":47.5,"other":"x"}"#));
        assert_eq!((columns.kind("lat"), columns.kind("other")), (Some(Kind::Number), None));
        assert_eq!(tree(json).set("lat", "north", columns.kind("lat")).unwrap_err(), "`north` is no number");
        assert!(!columns.is_any_unknown());
    }

    #[test]
    fn a_parameter_that_only_other_jobs_have_can_be_added() {
        let mut tree = tree(r#"{"a":1}"#);
        tree.set("at.lat", "47.5", Some(Kind::Number)).unwrap();
        tree.set("at.lon", "", Some(Kind::Number)).unwrap();
        assert_eq!(tree.json(), r#"{"a":1,"at":{"lat":47.5}}"#);
        let mut null = super::tests::tree(r#"{"at":null}"#);
        null.set("at.lat", "", Some(Kind::Number)).unwrap();
        assert_eq!(null.json(), r#"{"at":null}"#);
        null.set("at.lat", "47.5", Some(Kind::Number)).unwrap();
        null.set("at.lon", "8.5", Some(Kind::Number)).unwrap();
        assert_eq!(null.json(), r#"{"at":{"lat":47.5,"lon":8.5}}"#);
    }

    #[test]
    fn columns_are_told_apart_whatever_the_parameters_are_called() {
        let odd = r#"{"index":1,"error":"x","params":{"index":2},"a.b":3,"a":{"b":4},"c\\":5,"":6}"#;
        let names: Vec<String> = tree(odd).cells().into_iter().map(|(column, _)| column).collect();
        assert_eq!(names, ["params.index", "params.error", "params.params.index", "a\\.b", "a.b", "c\\\\", "params."]);
        let mut changed = tree(odd);
        for name in &names {
            changed.set(name, "7", None).unwrap();
        }
        assert_eq!(changed.json(), r#"{"index":7,"error":"7","params":{"index":7},"a.b":7,"a":{"b":7},"c\\":7,"":7}"#);
    }

    #[test]
    fn parameters_without_names_stand_in_one_column() {
        assert_eq!(tree("17").cells(), [("params".to_owned(), "17".to_owned())]);
        assert_eq!(set(r#""x""#, "params", "y").unwrap(), r#""y""#);
    }

    #[test]
    fn what_is_nested_without_end_stays_in_one_cell() {
        let deep = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
        let cells = tree(&deep).cells();
        assert_eq!(cells.len(), 1);
        assert_eq!(tree(&deep).json(), deep);
    }
}
