//! Parameters as cells of a table, and files with mended ones.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::bytes::Bytes;
use super::check_error;
use crate::cli::cells::{Columns, Tree};
use crate::cli::mended::parse;

/// The parameters of three jobs, then a file that mends some of them.
pub fn mended(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut columns = Columns::default();
    let mut old = HashMap::new();
    for index in 0..3 {
        let Ok(json) = RawValue::from_string(bytes.text()) else { continue };
        let tree = Tree::parse(&json);
        let whole = tree.json();
        assert_eq!(serde_json::from_str::<Value>(&whole).ok(), serde_json::from_str::<Value>(json.get()).ok());
        columns.add(&tree);
        old.insert(index, tree);
    }
    for tree in old.values() {
        unchanged_cells_change_nothing(tree, &columns);
    }
    match parse(bytes.0).and_then(|file| file.mended(old, &columns)) {
        Ok(mended) => {
            for (_, json) in mended {
                serde_json::from_str::<serde::de::IgnoredAny>(json.get()).unwrap();
            }
        }
        Err(error) => check_error(&error),
    }
}

fn unchanged_cells_change_nothing(tree: &Tree, columns: &Columns) {
    let mut names: Vec<String> = tree.cells().into_iter().map(|(column, _)| column).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        // JSON that has a field twice: no job that was written by this program is like that.
        return;
    }
    let mut same = tree.clone();
    for (column, cell) in tree.cells() {
        same.set(&column, &cell, columns.kind(&column)).unwrap();
    }
    assert_eq!(same.json(), tree.json());
}
