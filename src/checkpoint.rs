//! What a job saves to go on from, as JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::payload::check_size;
use crate::shape::at_field;

/// A cursor's JSON.
pub(crate) fn written(cursor: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(cursor)
        .map_err(|error| Error::usage("a checkpoint cannot be written as JSON").because(error))?;
    check_size("checkpoint", json.len())?;
    Ok(json)
}

/// The cursor that was saved. If it does not decode, a deploy has changed its type: the error names the field.
pub(crate) fn read<C: DeserializeOwned>(json: &[u8], of: impl FnOnce() -> String) -> Result<C> {
    serde_json::from_slice(json).map_err(|error| {
        let field = at_field(json, &error);
        Error::usage(format!(
            "the checkpoint of {} does not fit the type that is asked for{field}: {error}; let the type read what was saved before \
             (`#[serde(default)]`, an `Option`), or begin anew when this error comes",
            of()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Cursor {
        file: String,
        row: u64,
    }

    #[test]
    fn a_cursor_comes_back() {
        let cursor = Cursor { file: "a.csv".into(), row: 17 };
        assert_eq!(read::<Cursor>(&written(&cursor).unwrap(), String::new).unwrap(), cursor);
    }

    #[test]
    fn one_that_does_not_fit_names_the_field() {
        let told = |json: &str| read::<Cursor>(json.as_bytes(), || "job 3 of `Row`".into()).unwrap_err().to_string();
        let changed = told(r#"{"file":"a.csv","row":"17"}"#);
        assert!(changed.contains("checkpoint of job 3 of `Row`") && changed.contains("at field `row`"), "{changed}");
        assert!(told(r#"{"file":"a.csv"}"#).contains("missing field `row`"));
    }

    #[test]
    fn one_that_is_too_large_is_refused() {
        let error = written(&"x".repeat(300_000)).unwrap_err().to_string();
        assert!(error.contains("checkpoint") && error.contains("262144"), "{error}");
    }
}
