//! Reads the airports file row by row, in constant memory.
//!
//! A row whose *values* are wrong is a [`Row`] like any other; its job rejects it. A file whose *structure* is wrong
//! (another header, a row of another length, bytes that are no text) ends the reading with the line: from there on
//! nobody knows what belongs to which column.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use csv::{ErrorKind, StringRecord};

use crate::airport::Row;

/// No airport needs more. A quote that is never closed makes one row of the rest of the file: it shall end here, and
/// not when memory does.
const LONGEST_ROW: u64 = 64 * 1024;

/// The rows of an airports file, in its order. After an error it yields nothing more.
#[derive(Debug)]
pub struct Rows {
    path: PathBuf,
    take: Take,
    pass: u32,
    file: PassOverFile,
    ended: bool,
}

/// How much of a file to read.
#[derive(Clone, Copy, Debug)]
pub struct Take {
    /// The first so many rows of it; all of them if `None`.
    pub first: Option<u64>,
    /// So many times over. Each reading is a `pass`, which keeps the rows' keys apart.
    pub times: u32,
}

impl Take {
    pub const ALL: Self = Self { first: None, times: 1 };
}

impl Rows {
    /// Opens the file and checks its header.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or its columns are not those of an airports file.
    pub fn open(path: &Path, take: Take) -> Result<Self, RowsError> {
        Ok(Self { path: path.to_owned(), take, pass: 0, file: PassOverFile::open(path)?, ended: take.times == 0 })
    }

    /// How far it has come: bytes of all that is to be read, over all passes.
    pub fn position(&self) -> (u64, u64) {
        let (here, size) = (self.file.reader.position().byte(), self.file.size);
        let times = u64::from(self.take.times);
        (u64::from(self.pass) * size + here, times * size)
    }

    fn next_row(&mut self) -> Result<Option<Row>, RowsError> {
        loop {
            let is_enough = self.take.first.is_some_and(|first| self.file.rows >= first);
            if !is_enough && let Some(row) = self.file.next_row(&self.path, self.pass)? {
                return Ok(Some(row));
            }
            if self.pass + 1 >= self.take.times {
                return Ok(None);
            }
            self.pass += 1;
            self.file = PassOverFile::open(&self.path)?;
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, RowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_row().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// One reading of the file.
#[derive(Debug)]
struct PassOverFile {
    reader: csv::Reader<Rationed<File>>,
    columns: Columns,
    /// Reused from row to row.
    record: StringRecord,
    rows: u64,
    size: u64,
}

impl PassOverFile {
    fn open(path: &Path) -> Result<Self, RowsError> {
        let unreadable = |source| RowsError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut reader = csv::Reader::from_reader(Rationed { file, left: LONGEST_ROW });
        let columns = Columns::find(path, &mut reader)?;
        Ok(Self { reader, columns, record: StringRecord::new(), rows: 0, size })
    }

    fn next_row(&mut self, path: &Path, pass: u32) -> Result<Option<Row>, RowsError> {
        self.reader.get_mut().left = LONGEST_ROW;
        let at = self.reader.position().line();
        match self.reader.read_record(&mut self.record) {
            Ok(true) => {
                self.rows += 1;
                let line = self.record.position().map_or(at, csv::Position::line);
                Ok(Some(self.columns.row(&self.record, line, pass)))
            }
            Ok(false) => Ok(None),
            Err(error) => Err(broken(path, at, &self.columns, error)),
        }
    }
}

/// Which column stands where: the file may have them in any order.
#[derive(Debug)]
struct Columns([usize; Row::COLUMNS.len()]);

impl Columns {
    fn find(path: &Path, reader: &mut csv::Reader<Rationed<File>>) -> Result<Self, RowsError> {
        let header = match reader.headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(broken(path, 1, &Self::default(), error)),
        };
        let wrong = |why: String| RowsError::WrongHeader { path: path.to_owned(), why };
        if header.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }

        let place = |name: &str| header.iter().position(|found| found == name);
        let missing = listed(Row::COLUMNS.into_iter().filter(|name| place(name).is_none()));
        let unexpected = listed(header.iter().enumerate().filter_map(|(at, found)| {
            let is_first_of_its_name = place(found) == Some(at);
            let is_ours = Row::COLUMNS.contains(&found) && is_first_of_its_name;
            (!is_ours).then_some(found)
        }));
        match (missing, unexpected) {
            (None, None) => {}
            (Some(missing), None) => return Err(wrong(format!("{missing} is missing"))),
            (None, Some(unexpected)) => return Err(wrong(format!("{unexpected} is not expected"))),
            (Some(missing), Some(unexpected)) => {
                return Err(wrong(format!("{missing} is missing, {unexpected} is not expected")));
            }
        }
        Ok(Self(Row::COLUMNS.map(|name| place(name).unwrap_or(0))))
    }

    fn row(&self, record: &StringRecord, line: u64, pass: u32) -> Row {
        let [icao, iata, name, city, subd, country, elevation, lat, lon, tz, lid] =
            self.0.map(|place| record.get(place).unwrap_or_default().to_owned());
        Row { line, pass, icao, iata, name, city, subd, country, elevation, lat, lon, tz, lid }
    }

    /// The name of the column that stands at this place of the file.
    fn name(&self, place: usize) -> &'static str {
        let at = self.0.iter().position(|&found| found == place);
        at.map_or("?", |at| Row::COLUMNS[at])
    }
}

impl Default for Columns {
    /// In the order of [`Row::COLUMNS`].
    fn default() -> Self {
        Self(std::array::from_fn(|place| place))
    }
}

/// Up to five names, each in backticks; `None` if there is none.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    const MOST: usize = 5;
    let names: Vec<String> =
        names.map(|name| format!("`{}`", name.escape_debug().take(40).collect::<String>())).collect();
    let more = names.len().saturating_sub(MOST);
    let shown = names[..names.len() - more].join(", ");
    match (names.len(), more) {
        (0, _) => None,
        (_, 0) => Some(shown),
        (_, more) => Some(format!("{shown} and {more} more")),
    }
}

/// A file that gives so many bytes and then fails.
#[derive(Debug)]
struct Rationed<R> {
    file: R,
    left: u64,
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let most = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        let read = self.file.read(&mut into[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// What the reader's error means for whoever has to mend the file. `line` is where it was reading.
fn broken(path: &Path, line: u64, columns: &Columns, error: csv::Error) -> RowsError {
    let at = |position: &Option<csv::Position>| position.as_ref().map_or(line, csv::Position::line);
    let broken = |line, why| RowsError::Broken { path: path.to_owned(), line, why };
    match error.into_kind() {
        ErrorKind::UnequalLengths { pos, expected_len, len } => {
            broken(at(&pos), format!("the row has {len} fields, the header has {expected_len}"))
        }
        ErrorKind::Utf8 { pos, err } => broken(
            at(&pos),
            format!("field `{}` is not UTF-8: the whole file must be saved as UTF-8", columns.name(err.field())),
        ),
        ErrorKind::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
            broken(line, format!("the row is longer than {} KiB: is a closing quote missing?", LONGEST_ROW / 1024))
        }
        ErrorKind::Io(source) => RowsError::Unreadable { path: path.to_owned(), source },
        other => broken(line, format!("it cannot be read: {other:?}")),
    }
}

/// Why a file gives no (more) rows.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{}, line 1: the header is wrong: {why}; it must name the columns {}",
        path.display(), Row::COLUMNS.join(",")
    )]
    WrongHeader { path: PathBuf, why: String },
    #[error("{}, line {line}: {why}", path.display())]
    Broken { path: PathBuf, line: u64, why: String },
}

impl RowsError {
    /// Whether the file itself is wrong: reading it again cannot help.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Unreadable { .. })
    }
}
