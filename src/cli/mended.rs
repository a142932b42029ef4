//! Mended parameters from a file: the CSV that `failures --csv` wrote, with cells changed and rows left out, or JSON lines of
//! `{"index": …, "params": …}`. Everything is checked before anything is changed; an error names line and column.

use std::collections::HashMap;

use futures::TryStreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::cells::{Columns, ERROR, INDEX, STATE, Tree};
use super::failures::failed;
use crate::error::{Error, Result};
use crate::handle::Handle;

/// What a file says, before it is held against the jobs.
#[derive(Debug)]
pub enum File {
    Csv(Csv),
    Json(Vec<Whole>),
}

/// New parameters for a job, and the line that they stand in.
#[derive(Debug)]
pub struct Whole {
    line: u64,
    index: u64,
    params: Box<RawValue>,
}

#[derive(Debug)]
pub struct Csv {
    /// The columns of parameters, and where they stand.
    columns: Vec<(usize, String)>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    line: u64,
    index: u64,
    record: csv::StringRecord,
}

/// The new parameters of failed jobs of a step. `file` is its name in errors.
pub async fn read(handle: &Handle, step: &str, file: &str, bytes: &[u8]) -> Result<Vec<(u64, Box<RawValue>)>> {
    let in_file = |error: Error| error.during(file);
    let parsed = parse(bytes).map_err(in_file)?;
    let mut wanted: HashMap<u64, Tree> =
        parsed.lines().map(|(_, index)| (index, Tree::Leaf(RawValue::NULL.to_owned()))).collect();
    let mut found = std::collections::HashSet::new();
    let mut columns = Columns::default();
    let mut failures = failed(handle, step).await?;
    while let Some(failure) = failures.try_next().await? {
        let tree = Tree::parse(&failure.params);
        columns.add(&tree);
        if let Some(place) = wanted.get_mut(&failure.index) {
            found.insert(failure.index);
            *place = tree;
        }
    }
    if let Some((line, index)) = parsed.lines().find(|(_, index)| !found.contains(index)) {
        return Err(in_file(Error::usage(format!(
            "line {line}: job #{index} of step `{step}` has not failed, so there is nothing to mend"
        ))));
    }
    if columns.is_any_unknown() {
        learn_from_first_chunk(handle, step, &mut columns).await?;
    }
    parsed.mended(wanted, &columns).map_err(in_file)
}

/// What is `null` in every failed job may be just what they failed for: the others show whether it is a number or a text.
async fn learn_from_first_chunk(handle: &Handle, step: &str, columns: &mut Columns) -> Result<()> {
    let step = handle.step(step).await?;
    let Some(first) = handle.store().outcomes(handle.id(), step.number, 0, 0).await?.into_iter().next() else {
        return Ok(());
    };
    let parameters = handle.origin(&step).load(first.chunk, first.first).await?;
    for at in 0..first.bytes.len() {
        columns.learn(&Tree::parse(&parameters.json(at)?));
    }
    Ok(())
}

impl File {
    fn lines(&self) -> Box<dyn Iterator<Item = (u64, u64)> + Send + '_> {
        match self {
            File::Csv(csv) => Box::new(csv.rows.iter().map(|row| (row.line, row.index))),
            File::Json(rows) => Box::new(rows.iter().map(|row| (row.line, row.index))),
        }
    }

    /// Holds it against the old parameters of its jobs.
    pub fn mended(self, mut old: HashMap<u64, Tree>, columns: &Columns) -> Result<Vec<(u64, Box<RawValue>)>> {
        let csv = match self {
            File::Json(rows) => return Ok(rows.into_iter().map(|row| (row.index, row.params)).collect()),
            File::Csv(csv) => csv,
        };
        if let Some((_, unknown)) = csv.columns.iter().find(|(_, name)| columns.kind(name).is_none()) {
            let near = crate::error::did_you_mean(unknown, columns.names.iter().map(String::as_str));
            return Err(Error::usage(format!(
                "line 1: no failed job has a parameter `{unknown}`{near} (there are: {})",
                columns.names.join(", ")
            )));
        }
        let mut mended = Vec::with_capacity(csv.rows.len());
        for row in csv.rows {
            let Some(mut tree) = old.remove(&row.index) else { continue };
            for (at, name) in &csv.columns {
                let cell = row.record.get(*at).unwrap_or_default();
                tree.set(name, cell, columns.kind(name))
                    .map_err(|problem| Error::usage(format!("line {}, column `{name}`: {problem}", row.line)))?;
            }
            let json = RawValue::from_string(tree.json())
                .map_err(|error| Error::corrupt("mended parameters are not JSON").because(error))?;
            mended.push((row.index, json));
        }
        Ok(mended)
    }
}

/// Reads a file, whatever its jobs are.
pub fn parse(bytes: &[u8]) -> Result<File> {
    // Some spreadsheets put a byte order mark in front.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let file = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => File::Json(parse_lines(bytes)?),
        Some(b'[') => File::Json(parse_array(bytes)?),
        _ => File::Csv(parse_csv(bytes)?),
    };
    let mut seen = HashMap::new();
    for (line, index) in file.lines() {
        if let Some(first) = seen.insert(index, line) {
            return Err(Error::usage(format!("line {line}: job #{index} is mended in line {first} already")));
        }
    }
    Ok(file)
}

/// What one JSON object says; what `failures --json` writes beside it is left alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    index: u64,
    params: Box<RawValue>,
    #[serde(default, rename = "state")]
    _state: Option<String>,
    #[serde(default, rename = "error")]
    _error: Option<String>,
}

fn parse_lines(bytes: &[u8]) -> Result<Vec<Whole>> {
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let entry: Entry = serde_json::from_slice(text).map_err(|error| {
            Error::usage(format!("line {line}: this is not {{\"index\": …, \"params\": …}}")).because(error)
        })?;
        rows.push(Whole { line, index: entry.index, params: entry.params });
    }
    Ok(rows)
}

fn parse_array(bytes: &[u8]) -> Result<Vec<Whole>> {
    let entries: Vec<Entry> = serde_json::from_slice(bytes)
        .map_err(|error| Error::usage("this is no list of {\"index\": …, \"params\": …}").because(error))?;
    Ok((1..).zip(entries).map(|(line, entry)| Whole { line, index: entry.index, params: entry.params }).collect())
}

fn parse_csv(bytes: &[u8]) -> Result<Csv> {
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let head = reader.headers().map_err(csv_error)?.clone();
    let index_at = head.iter().position(|name| name == INDEX).ok_or_else(|| {
        Error::usage(format!("line 1: the column `{INDEX}` is missing; `failures ID STEP --csv` writes a file with it"))
    })?;
    let is_known = |name: &str| [INDEX, STATE, ERROR].contains(&name);
    let columns: Vec<(usize, String)> =
        head.iter().enumerate().filter(|(_, name)| !is_known(name)).map(|(at, name)| (at, name.to_owned())).collect();
    for (at, name) in head.iter().enumerate() {
        if head.iter().take(at).any(|other| other == name) {
            return Err(Error::usage(format!("line 1: there are two columns `{name}`")));
        }
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(csv_error)?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = record.get(index_at).unwrap_or_default().trim();
        let index = text
            .parse()
            .map_err(|_| Error::usage(format!("line {line}, column `{INDEX}`: `{text}` is no number of a job")))?;
        rows.push(Row { line, index, record });
    }
    Ok(Csv { columns, rows })
}

fn csv_error(error: csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells, but the first line has {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("cell {} is not UTF-8", err.field() + 1),
        _ => return Error::usage(format!("line {line}: this is not CSV")).because(error),
    };
    Error::usage(format!("line {line}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    /// What the text makes of jobs 3 and 5.
    fn mend(text: &str) -> Result<Vec<(u64, String)>> {
        let jobs = [(3, r#"{"code":"LSZH","at":{"lat":47.4}}"#), (5, r#"{"code":"KJFK","at":{"lat":null}}"#)];
        let mut columns = Columns::default();
        let old: HashMap<u64, Tree> = jobs.into_iter().map(|(index, json)| (index, Tree::parse(&raw(json)))).collect();
        jobs.iter().for_each(|(_, json)| columns.add(&Tree::parse(&raw(json))));
        let mended = parse(text.as_bytes())?.mended(old, &columns)?;
        Ok(mended.into_iter().map(|(index, json)| (index, json.get().to_owned())).collect())
    }

    fn refused(text: &str) -> String {
        mend(text).unwrap_err().to_string()
    }

    #[test]
    fn changed_cells_become_new_parameters() {
        let mended = mend("index,error,at.lat,code\n3,no such place,46.2,LSGG\n5,,40.6,KJFK\n").unwrap();
        let expected = [(3, r#"{"code":"LSGG","at":{"lat":46.2}}"#), (5, r#"{"code":"KJFK","at":{"lat":40.6}}"#)];
        assert_eq!(mended, expected.map(|(index, json)| (index, json.to_owned())));
    }

    #[test]
    fn rows_and_columns_may_be_left_out() {
        assert_eq!(
            mend("\u{feff}index,code\n5,EGLL\n").unwrap(),
            [(5, r#"{"code":"EGLL","at":{"lat":null}}"#.to_owned())]
        );
    }

    #[test]
    fn json_lines_and_lists_give_whole_parameters() {
        let lines = "{\"index\":3,\"params\":{\"code\":1}}\n\n{\"index\":5,\"error\":\"x\",\"state\":\"failed\",\"params\":2}\n";
        assert_eq!(mend(lines).unwrap(), [(3, r#"{"code":1}"#.to_owned()), (5, "2".to_owned())]);
        assert_eq!(mend("[{\"index\":3,\"params\":2}]").unwrap(), [(3, "2".to_owned())]);
        assert!(refused("{\"index\":3,\"params\":1}\n{\"index\":4}\n").starts_with("line 2: this is not {"));
        assert!(refused("{\"index\":3,\"params\":1,\"parms\":1}").contains("unknown field `parms`"));
    }

    #[test]
    fn an_error_names_line_and_column() {
        assert_eq!(refused("index,at.lat\n3,47.5\n5,north\n"), "line 3, column `at.lat`: `north` is no number");
        assert_eq!(refused("index,code\n3,\"a\nb\"\nx,c\n"), "line 4, column `index`: `x` is no number of a job");
    }

    #[test]
    fn an_unknown_column_is_answered_with_the_nearest() {
        assert_eq!(
            refused("index,at.latt\n3,1\n"),
            "line 1: no failed job has a parameter `at.latt`; did you mean `at.lat`? (there are: code, at.lat)"
        );
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused() {
        assert!(refused("code\nLSZH\n").starts_with("line 1: the column `index` is missing"));
        assert!(refused("").starts_with("line 1: the column `index` is missing"));
        assert_eq!(refused("index,code,code\n3,a,b\n"), "line 1: there are two columns `code`");
        assert_eq!(refused("index,code\n3,a\n3,b\n"), "line 3: job #3 is mended in line 2 already");
        assert_eq!(refused("index,code\n3,a,b\n"), "line 2: 3 cells, but the first line has 2");
        let latin = parse(b"index,code\n3,Z\xfcrich\n").unwrap_err().to_string();
        assert_eq!(latin, "line 2: cell 2 is not UTF-8");
    }
}
