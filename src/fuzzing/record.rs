//! Outcome records, and what readers make of them.

use std::collections::HashMap;

use super::check_error;
use crate::outputs::{error_text, last_outcomes};
use crate::record::Record;
use crate::slice::CHUNK_JOBS;
use crate::store::{ChunkOutcomes, ChunkRef};

/// Anything as a packed record, and as the inside of one.
pub fn record(data: &[u8]) {
    decode(data);
    // Format 0: unpacked. A fuzzer would hardly ever find its way through the compression.
    decode(&[&[0], data].concat());
}

fn decode(packed: &[u8]) {
    let record = match Record::decode(packed) {
        Ok(record) => record,
        Err(error) => return check_error(&error),
    };
    assert!(record.outcomes.len() <= CHUNK_JOBS);
    let held: usize = record.outcomes.iter().flat_map(|outcome| &outcome.logs).map(|line| 24 + line.len()).sum();
    assert!(held <= (CHUNK_JOBS * crate::record::MAX_LOG_LINES * 24) + (64 << 20));
    let again = Record::decode(&record.encode()).unwrap();
    assert_eq!(again, record);

    let bytes: Vec<u8> = (0..=255).map(|byte: u8| byte & 0b111).collect();
    let chunk = ChunkOutcomes {
        chunk: ChunkRef { shard: 0, id: 1, chained: 0 },
        first: 0,
        bytes,
        recoveries: Vec::new(),
        records: vec![packed.to_vec()],
        more_after: None,
    };
    for outcome in last_outcomes(&chunk).unwrap().into_iter().flatten() {
        if let Err(error) = &outcome.result {
            error_text(error, &HashMap::new());
        }
    }
}
