//! The database that the rows go to: one SQLite file, which any number of processes write at once.
//!
//! Every write may be repeated: a job that did its work and died before it could say so does it again.
//!
//! One thread of each process writes. It takes all writes that wait and commits them together, so the more jobs run
//! at once, the fewer commits there are; each job hears of its write when it is on the disk.

use std::{
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use tokio::sync::{mpsc, oneshot};

use crate::{airport::Airport, territories::Territory};
pub use error::DatabaseError;
pub use figures::{Cell, Elevations, Figures, Spot};
use writer::{Answer, Waiting, Write};

mod error;
mod figures;
mod file;
mod writer;

/// How many writes may wait. Whoever comes with one more waits until there is room.
const MOST_WAITING: usize = 4_096;

#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    /// Closed by dropping it, which ends the writer.
    inbox: Option<mpsc::Sender<Waiting>>,
    writer: Option<JoinHandle<()>>,
}

impl Database {
    /// Opens the file, or makes it with its folder. Blocks; not for an async thread.
    ///
    /// # Errors
    ///
    /// If the file is another program's, or cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let connection = file::open_or_make(path)?;
        let (inbox, waiting) = mpsc::channel(MOST_WAITING);
        let writer = std::thread::Builder::new()
            .name("import-database".to_owned())
            .spawn({
                let path = path.to_owned();
                move || writer::write(&path, connection, waiting)
            })
            .map_err(|error| DatabaseError::no_thread(path, &error))?;
        Ok(Self { path: path.to_owned(), inbox: Some(inbox), writer: Some(writer) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that `workflow` imports from now on. What [`figures`](Self::figures) counts is what came since it was
    /// last begun `anew`; beginning it again otherwise changes nothing.
    pub async fn begin(&self, workflow: &str, anew: bool) -> Result<(), DatabaseError> {
        self.write(Write::Begin { workflow: workflow.to_owned(), anew }).await?;
        Ok(())
    }

    /// Inserts the airport or brings it up to date. True if it is the workflow's import that added it: asked again, it says so again.
    pub async fn upsert(&self, workflow: &str, airport: Airport) -> Result<bool, DatabaseError> {
        let airport = Box::new(airport);
        self.write(Write::Airport { workflow: workflow.to_owned(), airport }).await
    }

    /// Inserts the territories or brings them up to date, all of them at once.
    pub async fn upsert_territories(&self, workflow: &str, territories: Vec<Territory>) -> Result<(), DatabaseError> {
        self.write(Write::Territories { workflow: workflow.to_owned(), territories }).await?;
        Ok(())
    }

    /// What the report tells of the airports that `workflow` brought. Reads them one by one, on a thread of its own.
    pub async fn figures(&self, workflow: &str) -> Result<Figures, DatabaseError> {
        let (path, workflow) = (self.path.clone(), workflow.to_owned());
        let reading = tokio::task::spawn_blocking(move || figures::read(&path, &workflow));
        reading.await.map_err(|_| DatabaseError::Ended(self.path.clone()))?
    }

    async fn write(&self, write: Write) -> Answer {
        let ended = || DatabaseError::Ended(self.path.clone());
        let (reply, answer) = oneshot::channel();
        let inbox = self.inbox.as_ref().ok_or_else(ended)?;
        inbox.send(Waiting { write, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl Drop for Database {
    /// Waits for the writer, so that the file is whole without its `-wal` when the last process has gone.
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(writer) = self.writer.take() {
            // It has told of its panic by itself, and whoever waited for it has got an error.
            let _ = writer.join();
        }
    }
}
