//! Workflows take turns: what a worker fetched ahead of a large one holds up no small one.

use std::collections::{HashMap, HashSet};

use crate::id::WorkflowId;

/// Which workflow's turn it is.
#[derive(Debug, Default)]
pub struct Turns {
    /// The number of each workflow's last turn.
    last: HashMap<WorkflowId, u64>,
    now: u64,
}

impl Turns {
    /// The position of the first of `waiting` whose workflow had its last turn the longest ago, which has one now.
    pub fn next(&mut self, waiting: impl ExactSizeIterator<Item = WorkflowId> + Clone) -> Option<usize> {
        let last = |workflow: &WorkflowId| self.last.get(workflow).copied().unwrap_or(0);
        let (at, workflow) = waiting.clone().enumerate().min_by_key(|(_, workflow)| last(workflow))?;
        self.now += 1;
        self.last.insert(workflow, self.now);
        if self.last.len() > 2 * waiting.len() + 16 {
            let here: HashSet<WorkflowId> = waiting.collect();
            self.last.retain(|workflow, _| here.contains(workflow));
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_workflow_is_next_although_much_of_a_large_one_came_first() {
        let (large, small) = (WorkflowId::new(0, 0), WorkflowId::new(0, 0));
        let mut turns = Turns::default();
        assert_eq!(turns.next([large, large, large].into_iter()), Some(0));
        assert_eq!(turns.next([large, large, small].into_iter()), Some(2));
        assert_eq!(turns.next([large, large, small].into_iter()), Some(0));
        assert_eq!(turns.next([large, large, small].into_iter()), Some(2));
        assert_eq!(turns.next([].into_iter()), None);
    }

    #[test]
    fn workflows_of_which_nothing_waits_are_forgotten() {
        let mut turns = Turns::default();
        for _ in 0..1_000 {
            turns.next([WorkflowId::new(0, 0)].into_iter());
        }
        assert!(turns.last.len() <= 18, "{}", turns.last.len());
    }
}
