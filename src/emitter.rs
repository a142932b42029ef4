//! Where a source puts the jobs that it emits: into a draft, which its success adopts; or, if it is eager, where they are to run (`eager.rs`).

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checkpoint;
use crate::eager::Eager;
use crate::job::{Job, JobError, JobResult};
use crate::payload::Chunk;
use crate::planted::planted;
use crate::record::cut_text;
use crate::render::words::{count, number};
use crate::store::{Append, Covers, DraftKey, DraftOf, TakenDraft};
use crate::worker::backoff::Backoff;
use crate::worker::drafting::{self, Gathered, wait_for_the_store};
use crate::worker::held::Held;

/// The most bytes that an error shows of a job.
const SHOWN: usize = 200;

/// Takes the jobs that a [`Source`](crate::Source) emits.
pub struct Emitter<J> {
    held: Arc<Held>,
    /// The source's position in its chunk.
    at: u16,
    draft: Option<DraftKey>,
    gathered: Gathered,
    appended: u64,
    emitted: u64,
    /// How many of them attempts before this one have emitted.
    taken: u64,
    /// How many the source says that it emits, and how many more it has tried to.
    expected: Option<u64>,
    surplus: u64,
    /// The last one, as JSON.
    last: Vec<u8>,
    broken: bool,
    /// Set if what it emits is there at once.
    eager: Option<Arc<Eager>>,
    jobs: PhantomData<fn(J)>,
}

/// The checkpoint of an eager source: it says for itself how many jobs come before it.
#[derive(Serialize, Deserialize)]
struct Passed<C> {
    emitted: u64,
    cursor: C,
}

impl<J> fmt::Debug for Emitter<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Emitter({} jobs)", self.emitted)
    }
}

impl<J: Job> Emitter<J> {
    pub(crate) fn new(held: Arc<Held>, at: u16, eager: Option<Arc<Eager>>) -> Self {
        Self {
            held,
            at,
            draft: None,
            gathered: Gathered::default(),
            appended: 0,
            emitted: 0,
            taken: 0,
            expected: None,
            surplus: 0,
            last: Vec::new(),
            broken: false,
            eager,
            jobs: PhantomData,
        }
    }

    /// How many jobs have been emitted; with those of the attempts before, if [`last_checkpoint`](Self::last_checkpoint) goes on with them.
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    /// Adds a job. Waits while the store takes in those before it, so a source of any size needs little memory.
    pub async fn emit(&mut self, job: J) -> JobResult<()> {
        let json = serde_json::to_vec(&job)?;
        if let Some(expected) = self.expected.filter(|expected| self.emitted >= *expected) {
            self.surplus += 1;
            let (said, this) = (count(expected, "job"), number(self.emitted + self.surplus));
            return Err(JobError::new(format!(
                "the source says that it emits {said}, but this is number {this}: {}",
                shown(&json)
            )));
        }
        if let Some(eager) = &self.eager {
            let has_stored = eager.emit(self.emitted, json.clone()).await?;
            self.emitted += 1;
            self.last = json;
            if has_stored {
                self.tell_progress();
            }
            return Ok(());
        }
        let is_enough = self
            .gathered
            .push(&json)
            .map_err(|error| JobError::fatal(format!("job {} that was emitted: {error}", self.emitted)))?;
        self.emitted += 1;
        self.last = json;
        match is_enough {
            true => {
                let chunks = self.gathered.take();
                self.append(chunks).await
            }
            false => Ok(()),
        }
    }

    /// Says how many jobs the source emits, if it knows: the rows that a header or a trailer announces. Then it cannot succeed with another
    /// number, those that it goes on with included; the error tells both numbers, and the last row or the first one too many. Meanwhile
    /// people are shown how far it is.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct ImportRow { row: String }
    /// # impl Job for ImportRow { const NAME: &str = "ImportRow"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # async fn produce(file: &str, out: &mut Emitter<ImportRow>) -> JobResult<()> {
    /// let mut lines = file.lines();
    /// let header = lines.next().unwrap_or_default();
    /// out.expect(header.parse()?);
    /// for row in lines {
    ///     out.emit(ImportRow { row: row.to_owned() }).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn expect(&mut self, jobs: u64) {
        self.expected = Some(jobs);
        self.tell_progress();
    }

    fn tell_progress(&self) {
        if let Some(expected) = self.expected {
            self.held.set_progress(self.at, self.emitted, expected);
        }
    }

    /// Saves how far the source has come, together with all that it has emitted so far: when it runs again, after a retry, a deploy, a
    /// killed worker, [`last_checkpoint`](Self::last_checkpoint) returns the cursor, and what was emitted before it is there. What is emitted
    /// behind it is not.
    ///
    /// It sends what has gathered, so save every some thousand jobs. At most 256 KiB of JSON.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct ImportRow { row: u64 }
    /// # impl Job for ImportRow { const NAME: &str = "ImportRow"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # #[derive(Serialize, Deserialize)] struct ReadTable { rows: u64 }
    /// impl Source for ReadTable {
    ///     const NAME: &str = "ReadTable";
    ///     type Emits = ImportRow;
    ///     type State = ();
    ///     async fn produce(self, _: &Context, out: &mut Emitter<ImportRow>) -> JobResult<()> {
    ///         let from: u64 = out.last_checkpoint().await?.unwrap_or(0);
    ///         for row in from..self.rows {
    ///             out.emit(ImportRow { row }).await?;
    ///             if (row + 1) % 10_000 == 0 {
    ///                 out.checkpoint(&(row + 1)).await?;
    ///             }
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub async fn checkpoint<C: Serialize + Sync + ?Sized>(&mut self, cursor: &C) -> JobResult<()> {
        let body = match self.eager {
            None => checkpoint::written(cursor)?,
            Some(_) => checkpoint::written(&Passed { emitted: self.emitted, cursor })?,
        };
        self.send().await?;
        let covers = self.draft.map(|draft| Covers { draft: draft.number, calls: self.appended });
        let covers = covers.filter(|covers| covers.calls > 0);
        let mut backoff = Backoff::new();
        while let Err(error) = self.held.save_checkpoint(self.at, body.clone(), covers).await {
            wait_for_the_store(&self.held, error, &mut backoff).await?;
        }
        Ok(())
    }

    /// What this source saved last with [`checkpoint`](Self::checkpoint), in whatever attempt; `None` if it has saved nothing, or if what it
    /// had emitted is gone: then it begins anew. Ask before the first job is emitted: what was emitted before the checkpoint comes before it.
    pub async fn last_checkpoint<C: DeserializeOwned>(&mut self) -> JobResult<Option<C>> {
        self.refuse_late("last_checkpoint")?;
        self.forget_draft();
        if let Some(eager) = self.eager.clone() {
            return self.last_passed(&eager).await;
        }
        let draft = self.held.begin_draft();
        self.draft = Some(draft);
        let taken = self.take(draft).await?;
        let Some(body) = taken.body else { return Ok(None) };
        match checkpoint::read(&body, || self.place()) {
            Ok(cursor) => {
                (self.appended, self.emitted, self.taken) = (taken.calls, taken.jobs, taken.jobs);
                Ok(Some(cursor))
            }
            Err(error) => {
                // The source may begin anew, in a draft of its own.
                self.forget_draft();
                Err(error.into())
            }
        }
    }

    /// For a source that goes on by count: how many jobs it passes over, since they are stored; 0 if it is not [eager](crate::Step::eager). The
    /// last one that is stored is not among them: the source emits it once more, and so shows that it goes on where it was. It must be the same,
    /// else the source fails and both are shown; it is not stored twice. Ask before the first job is emitted.
    ///
    /// A source that does not ask emits all of its jobs again: those that are stored are passed over, and the last of them is compared.
    ///
    /// ```
    /// # use gusher::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct ImportRow { line: String }
    /// # impl Job for ImportRow { const NAME: &str = "ImportRow"; type Output = (); type State = ();
    /// #     async fn perform(self, _: &Context) -> JobResult<()> { Ok(()) } }
    /// # async fn produce(file: &str, rows: &mut Emitter<ImportRow>) -> JobResult<()> {
    /// let done = rows.done().await?;
    /// for line in file.lines().skip(done as usize) {
    ///     rows.emit(ImportRow { line: line.to_owned() }).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn done(&mut self) -> JobResult<u64> {
        self.refuse_late("done")?;
        self.forget_draft();
        let Some(eager) = &self.eager else { return Ok(0) };
        let done = eager.stored().await?.saturating_sub(1);
        (self.emitted, self.taken) = (done, done);
        Ok(done)
    }

    /// What is asked for to go on comes before the first job.
    fn refuse_late(&self, asked: &str) -> JobResult<()> {
        if self.emitted > self.taken {
            return Err(JobError::fatal(format!(
                "`{asked}` is asked for when {} jobs have been emitted: a source asks before the first, to go on with those of before",
                self.emitted - self.taken
            )));
        }
        Ok(())
    }

    /// The last checkpoint of an eager source, which goes on with the jobs behind it: those that are stored are passed over.
    async fn last_passed<C: DeserializeOwned>(&mut self, eager: &Eager) -> JobResult<Option<C>> {
        let stored = eager.stored().await?;
        let mut backoff = Backoff::new();
        let body = loop {
            match self.held.last_checkpoint(self.at).await {
                Ok(body) => break body,
                Err(error) => wait_for_the_store(&self.held, error, &mut backoff).await?,
            }
        };
        let Some(body) = body else { return Ok(None) };
        let Passed { emitted, cursor } = checkpoint::read(&body, || self.place())?;
        if emitted > stored {
            // The store has lost what comes before it.
            return Ok(None);
        }
        (self.emitted, self.taken) = (emitted, emitted);
        Ok(Some(cursor))
    }

    /// The source, as errors name it.
    fn place(&self) -> String {
        let slice = &self.held.slice;
        format!("job {} of `{}`", slice.first + u64::from(self.at), slice.step_name)
    }

    /// Lets go of a draft that has not been written by this attempt.
    fn forget_draft(&mut self) {
        (self.appended, self.emitted, self.taken) = (0, 0, 0);
        if let Some(draft) = self.draft.take() {
            self.held.end_draft(draft.number);
        }
    }

    /// Takes over the draft of the attempt before, until it has been cut to what the checkpoint covers.
    async fn take(&self, draft: DraftKey) -> JobResult<TakenDraft> {
        let mut backoff = Backoff::new();
        loop {
            match self.held.take_draft(self.at, draft).await {
                Ok(taken) if !taken.more => return Ok(taken),
                Ok(_) => {}
                Err(error) => wait_for_the_store(&self.held, error, &mut backoff).await?,
            }
        }
    }

    /// The source has come to its end: sends what is left, if that is as many as it said.
    pub(crate) async fn finish(&mut self) -> JobResult<()> {
        let emitted = self.emitted + self.surplus;
        match self.expected {
            Some(expected) if emitted != expected && !planted!("nobody counts what a source emits") => {
                let (said, emitted) = (count(expected, "job"), number(emitted));
                let last =
                    if self.last.is_empty() { String::new() } else { format!(", the last {}", shown(&self.last)) };
                Err(JobError::new(format!("the source says that it emits {said}, but has emitted {emitted}{last}")))
            }
            _ => match &self.eager {
                Some(eager) => eager.finish(self.emitted).await,
                None => self.send().await,
            },
        }
    }

    /// The draft that holds what was emitted, if anything was: it is to be adopted, or given up.
    pub(crate) fn into_draft(mut self) -> Option<u64> {
        if self.appended == 0 && !self.broken {
            self.forget_draft();
        }
        self.draft.map(|draft| draft.number)
    }

    /// Sends what has gathered.
    async fn send(&mut self) -> JobResult<()> {
        if let Some(eager) = &self.eager {
            return eager.store_all().await;
        }
        if self.broken {
            return Err(JobError::new("jobs that were emitted could not be stored"));
        }
        match self.gathered.take_rest() {
            chunks if chunks.is_empty() => Ok(()),
            chunks => self.append(chunks).await,
        }
    }

    async fn append(&mut self, chunks: Vec<Chunk>) -> JobResult<()> {
        let fed = self.held.slice.feeds;
        let feeds = fed.ok_or_else(|| JobError::fatal("this step feeds no other, so nothing can be emitted"))?;
        let draft = *self.draft.get_or_insert_with(|| self.held.begin_draft());
        let append = Append {
            draft,
            of: DraftOf::Jobs { workflow: self.held.slice.workflow, step: feeds },
            number: self.appended,
            parts: drafting::parts(chunks),
            lease: self.held.lease_length,
        };
        // Until they have been sent, parts are missing: whatever the source makes of an error, it cannot succeed.
        self.broken = true;
        drafting::append(&self.held, append).await?;
        self.broken = false;
        self.appended += 1;
        self.tell_progress();
        Ok(())
    }
}

pub(crate) fn shown(json: &[u8]) -> String {
    cut_text(String::from_utf8_lossy(json).into_owned(), SHOWN)
}
