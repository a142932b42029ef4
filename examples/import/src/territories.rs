//! Reads the territories of a CLDR supplemental data file: `supplementalData/territoryInfo/territory`.
//!
//! The rest of the file is passed over as it streams by. CLDR writes a territory's English name as a comment behind
//! its start tag; that is where the names come from, and a territory without one goes by its code:
//!
//! ```xml
//! <territory type="AD" gdp="3327000000" literacyPercent="100" population="77000">   <!--Andorra-->
//! ```

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};
use serde::{Deserialize, Serialize};

use crate::number::thousands;

/// The real file has 0.4 MB. What has a hundred times that is another file.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;
/// There are 257. It bounds what is kept in memory and what the job returns.
const MOST_TERRITORIES: usize = 1_000;
/// The real file goes six deep.
const DEEPEST: usize = 64;
const PATH: [&str; 3] = ["supplementalData", "territoryInfo", "territory"];

/// A country or another territory, as CLDR knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Territory {
    /// ISO 3166 alpha-2, or CLDR's own (`XK`, `ZZ`).
    pub code: String,
    /// In English.
    pub name: String,
    /// Gross domestic product in US dollars, by purchasing power.
    pub gdp: f64,
    /// Of the population, from 0 to 100.
    pub literacy_percent: f64,
    pub population: u32,
}

/// Every territory of the file, in its order.
///
/// # Errors
///
/// If the file cannot be read, is no well-formed XML, brings entities of its own, or holds a territory that lacks
/// something, or holds none at all.
pub fn read_territories(path: &Path) -> Result<Vec<Territory>, XmlError> {
    let unreadable = |source| XmlError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size > LARGEST_FILE {
        return Err(XmlError::TooLarge { path: path.to_owned(), size });
    }
    let mut reader = Reader::from_reader(BufReader::new(file.take(LARGEST_FILE)));
    let mut reading = Reading::default();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let started_at = reader.buffer_position();
        let (at, why) = match reader.read_event_into(&mut buffer) {
            Ok(event) => match reading.take(event) {
                Ok(Go::On) => continue,
                Ok(Go::Done) => return Ok(reading.found),
                Err(why) => (started_at, why),
            },
            Err(quick_xml::Error::Io(source)) => {
                return Err(unreadable(io::Error::new(source.kind(), source)));
            }
            Err(error) => (reader.error_position(), error.to_string()),
        };
        return Err(XmlError::Wrong { path: path.to_owned(), line: line_at(path, at).map_err(unreadable)?, why });
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    found: Vec<Territory>,
    /// The names of the elements that are open, the outermost first.
    open: Vec<String>,
    root_was_seen: bool,
    /// The last territory's start tag has just been read: a comment that follows is its name.
    name_may_follow: bool,
}

enum Go {
    On,
    Done,
}

impl Reading {
    fn take(&mut self, event: Event<'_>) -> Result<Go, String> {
        let name_may_follow = std::mem::take(&mut self.name_may_follow);
        match event {
            Event::Start(start) => {
                self.open(&start)?;
                self.look_at(&start)?;
            }
            Event::Empty(start) => {
                self.open(&start)?;
                self.look_at(&start)?;
                self.open.pop();
            }
            Event::End(_) => {
                self.open.pop();
            }
            Event::Comment(text) if name_may_follow => self.name_the_last(&text),
            // Only space may stand between a tag and its comment.
            Event::Text(text) => {
                let is_space = text.trim_start_matches('\u{feff}').trim().is_empty();
                if !is_space && self.open.is_empty() {
                    return Err("there is text outside of the root element: this is no XML".into());
                }
                self.name_may_follow = name_may_follow && is_space;
            }
            // An entity is defined to be expanded, and a few lines of them expand to gigabytes. This reader expands
            // none, so a file that brings some cannot be read right.
            Event::DocType(text) if text.to_ascii_uppercase().contains("<!ENTITY") => {
                return Err("it defines entities (<!ENTITY …>), which are not taken".into());
            }
            Event::Eof => return self.end(),
            _ => {}
        }
        Ok(Go::On)
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        if self.open.len() == DEEPEST {
            return Err(format!("elements are nested more than {DEEPEST} deep"));
        }
        if self.open.is_empty() && std::mem::replace(&mut self.root_was_seen, true) {
            return Err("there is a second root element".into());
        }
        // The reader looks at attributes when it is asked for them, so that it would let wrong ones pass.
        for attribute in start.attributes() {
            attribute.map_err(|error| error.to_string())?;
        }
        self.open.push(start.name().as_ref().to_owned());
        Ok(())
    }

    fn look_at(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        if self.open != PATH {
            return Ok(());
        }
        let territory = territory(start)?;
        let code = &territory.code;
        if self.found.iter().any(|other| other.code == *code) {
            return Err(format!("territory {code} is there twice"));
        }
        if self.found.len() == MOST_TERRITORIES {
            return Err(format!("there are more than {MOST_TERRITORIES} territories"));
        }
        self.found.push(territory);
        self.name_may_follow = true;
        Ok(())
    }

    fn name_the_last(&mut self, comment: &str) {
        const LONGEST: usize = 100;
        let name = comment.trim();
        if let Some(last) = self.found.last_mut()
            && !name.is_empty()
            && name.chars().count() <= LONGEST
        {
            last.name = name.to_owned();
        }
    }

    fn end(&self) -> Result<Go, String> {
        match self.open.last() {
            Some(open) => Err(format!("the file ends inside <{open}>: it is cut off")),
            None if self.found.is_empty() => Err(format!("there is no <{}>", PATH.join("><"))),
            None => Ok(Go::Done),
        }
    }
}

fn territory(start: &BytesStart<'_>) -> Result<Territory, String> {
    let code = attribute(start, "type")?;
    if code.len() != 2 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(wrong("type", &code, "2 capital letters"));
    }
    Ok(Territory {
        name: code.clone(),
        gdp: number(start, "gdp", f64::MAX, "a number of dollars")?,
        literacy_percent: number(start, "literacyPercent", 100.0, "a number from 0 to 100")?,
        population: {
            let text = attribute(start, "population")?;
            text.parse().map_err(|_| wrong("population", &text, "a whole number of people"))?
        },
        code,
    })
}

fn number(start: &BytesStart<'_>, name: &str, most: f64, what: &str) -> Result<f64, String> {
    let text = attribute(start, name)?;
    text.parse().ok().filter(|number| (0.0..=most).contains(number)).ok_or_else(|| wrong(name, &text, what))
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Result<String, String> {
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if attribute.key.as_ref() == name {
            let value = attribute.normalized_value(XmlVersion::Explicit1_0);
            return value.map(Into::into).map_err(|error| error.to_string());
        }
    }
    Err(format!("a territory has no attribute `{name}`"))
}

fn wrong(name: &str, value: &str, should_be: &str) -> String {
    let value: String = value.chars().take(40).collect();
    format!("a territory's attribute `{name}` is {value:?}, which is not {should_be}")
}

/// Counts from the start, which is only done for an error: the reader knows bytes, people know lines.
fn line_at(path: &Path, position: u64) -> io::Result<u64> {
    let mut before = BufReader::new(File::open(path)?.take(position));
    let mut line = 1;
    loop {
        let bytes = before.fill_buf()?;
        if bytes.is_empty() {
            return Ok(line);
        }
        line += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let read = bytes.len();
        before.consume(read);
    }
}

/// Why a file gives no territories.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{} has {} bytes: a file of CLDR supplemental data has less than {}",
        path.display(), thousands(*size), thousands(LARGEST_FILE)
    )]
    TooLarge { path: PathBuf, size: u64 },
    #[error("{}, line {line}: {why}", path.display())]
    Wrong { path: PathBuf, line: u64, why: String },
}

impl XmlError {
    /// Whether the file itself is wrong: reading it again cannot help.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Unreadable { .. })
    }
}
