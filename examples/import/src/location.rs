//! Where a file is: a path, or a URL that the example can read.
//!
//! A location travels as a string: on the command line, in a workflow's arguments, in a job's parameters.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use url::Url;

/// A file, or a folder to keep files in.
///
/// ```
/// use import::Location;
///
/// let path: Location = "data/airports.csv".parse()?;
/// let url: Location = "https://example.com/airports.csv?version=7".parse()?;
/// assert!(path.as_path().is_some() && url.as_path().is_none());
/// # Ok::<_, import::LocationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Location {
    /// On this machine, or on a file system that is mounted here. Also what `file:` URLs become.
    Path(PathBuf),
    /// `http:`, `https:` and, with the feature `s3`, `s3:`.
    Url(Url),
}

impl Location {
    /// The path, unless this is a URL.
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Url(_) => None,
        }
    }

    /// The same place, whatever folder the process that reads it was started in.
    ///
    /// # Errors
    ///
    /// If this process has no current folder any more.
    pub fn absolute(&self) -> std::io::Result<Self> {
        Ok(match self {
            Self::Path(path) => Self::Path(std::path::absolute(path)?),
            Self::Url(url) => Self::Url(url.clone()),
        })
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let wrong = |why: &str| LocationError { text: text.to_owned(), why: why.to_owned() };
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        match scheme.to_ascii_lowercase().as_str() {
            "file" | "http" | "https" | "s3" => {}
            // `C:\airports.csv` and `12:30.csv` are paths; `ftp://…` was meant to be a URL.
            _ if rest.starts_with("//") && !scheme.is_empty() => {
                return Err(wrong("give a path, or a URL that begins with file:, http:, https: or s3:"));
            }
            _ if text.is_empty() => return Err(wrong("it is empty")),
            _ => return Ok(Self::Path(PathBuf::from(text))),
        }

        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if url.scheme() == "file" {
            // `file:data/x.csv` would quietly mean `/data/x.csv`, so it is not taken.
            return Some(url)
                .filter(|_| rest.starts_with('/'))
                .and_then(|url| url.to_file_path().ok())
                .map(Self::Path)
                .ok_or_else(|| wrong("a file: URL names an absolute path of this machine: file:///data/x.csv"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(LocationError {
                text: format!("{}://…@{}", url.scheme(), url.host_str().unwrap_or_default()),
                why: "leave out the user name and password: a location is stored and shown".into(),
            });
        }
        if url.scheme() == "s3" && !cfg!(feature = "s3") {
            return Err(wrong("this binary was built without S3: build it with `--features s3`"));
        }
        Ok(Self::Url(url))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl TryFrom<String> for Location {
    type Error = LocationError;

    fn try_from(text: String) -> Result<Self, LocationError> {
        text.parse()
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        location.to_string()
    }
}

/// A text that is no location.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a location: {why}")]
pub struct LocationError {
    text: String,
    why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<Location>().unwrap_err().to_string()
    }

    #[test]
    fn a_plain_path_and_a_file_url_are_the_same_place() {
        let path: Location = "/data/air ports.csv".parse().unwrap();
        let url: Location = "file:///data/air%20ports.csv".parse().unwrap();
        assert_eq!(path, url);
        assert_eq!(url.to_string(), "/data/air ports.csv");
    }

    #[test]
    fn a_location_travels_as_a_string() {
        for text in ["data/airports.csv", "http://127.0.0.1:8080/a.csv?x=1&y=2"] {
            let location: Location = text.parse().unwrap();
            let json = serde_json::to_string(&location).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Location>(&json).unwrap(), location);
        }
    }

    #[test]
    fn what_is_no_location_says_what_would_be_one() {
        assert!(refused("ftp://host/a.csv").contains("begins with file:, http:, https: or s3:"));
        assert!(refused("").contains("it is empty"));
        assert!(refused("http://").contains("empty host"));
        assert!(refused("file://elsewhere/a.csv").contains("absolute path of this machine"));
        assert!(refused("file:data/a.csv").contains("absolute path of this machine"));
        assert!(refused("https://me:secret@host/a.csv").contains("stored and shown"));
        assert!(!refused("https://me:secret@host/a.csv").contains("secret"));
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn s3_without_its_feature_names_the_feature() {
        assert!(refused("s3://bucket/a.csv").contains("--features s3"));
    }

    #[test]
    fn a_relative_path_can_be_made_independent_of_the_current_folder() {
        let path: Location = "a.csv".parse().unwrap();
        assert!(path.absolute().unwrap().as_path().unwrap().is_absolute());
    }
}
