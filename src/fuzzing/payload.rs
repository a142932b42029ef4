//! The packed parameters of a chunk, with mended ones beside them.

use super::check_error;
use crate::outputs::ChunkParameters;
use crate::payload::{ChunkBuilder, Lines, MAX_UNPACKED, pack, unpack};
use crate::slice::{CHUNK_JOBS, Mask};
use crate::store::Parameters;

/// Anything as a stored payload; then the same bytes as the lines of a chunk, which must come back.
pub fn payload(data: &[u8]) {
    match unpack(data) {
        Ok(text) => {
            assert!(text.len() <= MAX_UNPACKED.max(data.len()), "{} bytes unpack to {}", data.len(), text.len());
            assert_eq!(unpack(&pack(&text)).unwrap(), text);
        }
        Err(error) => check_error(&error),
    }
    assert_eq!(unpack(&pack(data)).unwrap(), data);

    let middle = data.len() / 2;
    let (body, mended) = data.split_at(middle);
    let jobs = Mask::from_bytes(&mended[..mended.len().min(CHUNK_JOBS / 8)]).unwrap_or_default();
    match ChunkParameters::unpack(&Parameters { body: body.to_vec(), mended: vec![(jobs, mended.to_vec())] }) {
        Ok(parameters) => {
            for at in 0..=CHUNK_JOBS {
                parameters.json(at).map_or_else(|error| check_error(&error), drop);
            }
        }
        Err(error) => check_error(&error),
    }
    lines_come_back(data);
}

fn lines_come_back(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let mut builder = ChunkBuilder::default();
    let mut chunks = Vec::new();
    for line in &lines {
        chunks.extend(builder.push(line).unwrap());
    }
    chunks.extend(builder.finish());
    let mut lines = lines.into_iter();
    for chunk in chunks {
        assert!((1..=CHUNK_JOBS).contains(&(chunk.jobs as usize)));
        let unpacked = Lines::unpack(&chunk.body).unwrap();
        for at in 0..chunk.jobs as usize {
            assert_eq!(unpacked.get(at), lines.next());
        }
        assert_eq!(unpacked.get(chunk.jobs as usize), None);
    }
    assert_eq!(lines.next(), None);
}
