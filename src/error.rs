//! What can go wrong outside a job: each error names the operation or the thing, and the remedy where there is one.

use std::error::Error as StdError;
use std::fmt;

use crate::job::JobError;
use crate::lone::JobId;

/// The result of everything that a client or a store does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine. What goes wrong inside a job is a [`JobError`](crate::JobError).
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    first: Option<JobId>,
}

/// What sort of error it is, for programs that must decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something that cannot be: a cycle, an unknown name, parameters of the wrong shape, beyond a limit.
    Usage,
    /// There is no such workflow, step or job in this store.
    NotFound,
    /// The thing is there, but its state does not allow this now.
    Refused,
    /// Jobs are added to a batch that has settled, or is cancelled.
    BatchSettled,
    /// The store is away or locked; the same call may work later.
    Unavailable,
    /// The store has no space for new work; the same call may work once there is some.
    Full,
    /// What the store holds, or the store itself, is not what it must be.
    Corrupt,
    /// The job that was waited for, or that the caller performed, has failed.
    Failed,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, first: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn batch_settled(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BatchSettled, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn full(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Full, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// The same error with the one that caused it.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, told with what was being done.
    pub(crate) fn during(mut self, operation: impl fmt::Display) -> Self {
        self.message = format!("{operation}: {}", self.message);
        self
    }

    /// A job that is not enqueued, since there is one of its [unique](crate::NewJob::unique) key.
    pub(crate) fn there_is_one(job_type: &str, key: &str, first: JobId) -> Self {
        let message = format!(
            "`{job_type}` is not enqueued: there is a job with the key `{key}`, {first}; `Unique::or_first` returns that one instead"
        );
        Self { first: Some(first), ..Self::refused(message) }
    }

    /// The job that is there, if a [unique](crate::NewJob::unique) one has been refused because of it.
    pub fn first_job(&self) -> Option<JobId> {
        self.first
    }

    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may work later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Full)
    }

    /// Whether it was caused by an error of that type, for example by what [`App::before_enqueue`](crate::App::before_enqueue) answered.
    pub fn is<E: StdError + 'static>(&self) -> bool {
        self.downcast_ref::<E>().is_some()
    }

    /// The first error of that type among its causes.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        let first: Option<&(dyn StdError + 'static)> = self.source.as_deref().map(|source| source as _);
        std::iter::successors(first, |error: &&(dyn StdError + 'static)| (**error).source())
            .find_map(|error| error.downcast_ref())
    }

    /// A copy for another waiter on the same failed operation.
    pub(crate) fn copy(&self) -> Self {
        Self { kind: self.kind, message: self.to_string(), source: None, first: self.first }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {}

/// The error of a job that was [performed](crate::Client::perform_now) by the caller itself: one of kind `Failed`.
impl From<JobError> for Error {
    fn from(error: JobError) -> Self {
        Self::new(ErrorKind::Failed, error.into_text())
    }
}

/// The names among `known` that someone who typed `name` may have meant, nearest first, as `; did you mean …?`; empty if none is near.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let wanted = name.to_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 2 + candidate.len() / 4 || candidate.to_lowercase().contains(&wanted)
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    let names: Vec<String> = near.iter().take(3).map(|(_, candidate)| format!("`{candidate}`")).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest() {
        let known = ["ImportWorkflow", "GenReport", "ImportXml"];
        assert_eq!(did_you_mean("importworkflo", known), "; did you mean `ImportWorkflow`?");
        assert_eq!(did_you_mean("zzz", known), "");
    }
}
