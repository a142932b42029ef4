//! Sets of jobs of a chunk.

use crate::slice::{CHUNK_JOBS, Mask};
use crate::state::{EdgeKind, JobState, StepState, WorkflowState, attempts, job_byte};

/// Anything as a stored mask, and each byte as that of a job, or as the number of a state.
pub fn mask(data: &[u8]) {
    for byte in data {
        assert_eq!(job_byte(JobState::of(*byte), attempts(*byte)), *byte);
        assert!(StepState::from_u8(*byte).is_none_or(|state| state as u8 == *byte));
        assert!(WorkflowState::from_u8(*byte).is_none_or(|state| state as u8 == *byte));
        assert!(EdgeKind::from_u8(*byte).is_none_or(|kind| kind as u8 == *byte));
    }
    let Some(mask) = Mask::from_bytes(data) else {
        return assert!(data.len() > CHUNK_JOBS / 8);
    };
    let stored = mask.to_bytes();
    assert!(stored.len() <= CHUNK_JOBS / 8 && data.starts_with(&stored));
    assert_eq!(Mask::from_bytes(&stored), Some(mask));
    assert_eq!(mask.iter().count(), mask.len());
    assert!(mask.iter().all(|at| at < CHUNK_JOBS && mask.contains(at)));
    assert_eq!(mask.iter().collect::<Mask>(), mask);
    let (front, rest) = mask.split(data.len());
    assert_eq!(front.len(), mask.len().min(data.len()));
    assert!(front.and(rest).is_empty() && front.or(rest) == mask && front.is_within(mask));
}
