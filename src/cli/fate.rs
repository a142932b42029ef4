//! What becomes of failed jobs, in a sentence.

use crate::render::words::count;

/// What failed jobs have been told.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    RunAgain,
    GivenUp,
}

impl Fate {
    /// `of` says whose they are: nothing, or words that begin with a space.
    pub fn sentence(self, jobs: u64, of: &str) -> String {
        let verb = match (self, jobs) {
            (_, 0) => return format!("no job{of} has failed"),
            (Self::RunAgain, 1) => "runs again",
            (Self::RunAgain, _) => "run again",
            (Self::GivenUp, 1) => "counts as skipped now",
            (Self::GivenUp, _) => "count as skipped now",
        };
        format!("{}{of} {verb}", count(jobs, "failed job"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_several_and_none_are_told_in_words() {
        assert_eq!(Fate::RunAgain.sentence(1, " of `Row`"), "1 failed job of `Row` runs again");
        assert_eq!(Fate::RunAgain.sentence(2, ""), "2 failed jobs run again");
        assert_eq!(Fate::GivenUp.sentence(1, ""), "1 failed job counts as skipped now");
        assert_eq!(Fate::GivenUp.sentence(1_000, ""), "1,000 failed jobs count as skipped now");
        assert_eq!(Fate::GivenUp.sentence(0, " of `Row`"), "no job of `Row` has failed");
    }
}
