//! What a claim may take of what is limited: as much as its worker has permits for, as it says. The permits themselves may be on another
//! shard.

use std::collections::VecDeque;

use super::claim::{Line, Wishes};
use crate::store::Limited;

impl Wishes<'_> {
    fn is_of(of: &Limited, line: &Line) -> bool {
        match of {
            Limited::Queue(name) => *name == line.queue,
            Limited::Type(name) => *name == line.job_type,
        }
    }

    /// How many more jobs of a line its permits let it take; `None` if nothing limits them.
    pub fn permitted(&self, line: &Line) -> Option<u32> {
        let left = self.permits.iter().filter(|(of, _)| Self::is_of(of, line)).map(|(_, left)| *left).min()?;
        Some(left.min(self.max_limited))
    }

    /// Leaves lines alone of which it can take nothing, and tells which permits it lacks. Nobody else is told of them: who waits for a
    /// permit is woken when one is free.
    pub fn pass_over_what_has_no_permit(&self, lines: &mut VecDeque<Line>, waits: &mut Vec<Limited>) {
        if self.permits.is_empty() {
            return;
        }
        lines.retain(|line| {
            let is_permitted = self.permitted(line) != Some(0);
            if !is_permitted {
                self.tell_used_up(line, waits);
            }
            is_permitted
        });
    }

    /// Tells the limits of a line that lacks permits: all of them, for they are taken together.
    pub fn tell_used_up(&self, line: &Line, waits: &mut Vec<Limited>) {
        let of_line = || self.permits.iter().filter(|(of, _)| Self::is_of(of, line));
        if of_line().all(|(_, left)| *left > 0) {
            return;
        }
        for (of, _) in of_line() {
            if !waits.contains(of) {
                waits.push((*of).clone());
            }
        }
    }

    /// Returns whether they need permits.
    pub fn use_permits(&mut self, line: &Line, jobs: u32) -> bool {
        let mut is_limited = false;
        for (_, left) in self.permits.iter_mut().filter(|(of, _)| Self::is_of(of, line)) {
            *left = left.saturating_sub(jobs);
            is_limited = true;
        }
        is_limited
    }

    /// Whether its worker asks from which queue a slice is.
    pub fn names_queues(&self) -> bool {
        self.permits.iter().any(|(of, _)| !of.is_type())
    }
}
