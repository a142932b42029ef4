//! How parameters travel: the jobs of a chunk as JSON, one a line, compressed, behind one byte that names the format.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::slice::{CHUNK_BYTES, CHUNK_JOBS};

/// The most bytes of JSON that one job's parameters, or its output, may have.
pub const MAX_JOB_BYTES: usize = 256 * 1024;

/// Lines as they are.
const PLAIN: u8 = 0;
/// Lines compressed with zstd.
const ZSTD: u8 = 1;
/// More than anything this crate writes unpacks to: records of about a megabyte and one report more are the largest. What claims more
/// is damaged, and a few stored bytes must not cost a reader all its memory.
pub(crate) const MAX_UNPACKED: usize = 4 * 1024 * 1024;

/// Up to 1,024 consecutive jobs, ready for a store, which never looks inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How many jobs.
    pub jobs: u32,
    /// Their parameters, packed.
    pub body: Vec<u8>,
}

/// Cuts a stream of parameters into chunks.
#[derive(Debug, Default)]
pub struct ChunkBuilder {
    lines: Vec<u8>,
    jobs: usize,
}

impl ChunkBuilder {
    /// Adds one job's JSON (which has no line break). Returns a chunk when one is full.
    pub fn push(&mut self, json: &[u8]) -> Result<Option<Chunk>> {
        check_size("parameters", json.len())?;
        let chunk = if self.has_room(json) { None } else { self.finish() };
        self.lines.extend_from_slice(json);
        self.lines.push(b'\n');
        self.jobs += 1;
        Ok(chunk)
    }

    /// Whether one more job fits into the chunk that is being filled.
    pub(crate) fn has_room(&self, json: &[u8]) -> bool {
        self.jobs == 0 || self.jobs < CHUNK_JOBS && self.lines.len() + json.len() < CHUNK_BYTES
    }

    /// The chunk of what is left, if anything is.
    pub fn finish(&mut self) -> Option<Chunk> {
        if self.jobs == 0 {
            return None;
        }
        let chunk = Chunk { jobs: self.jobs as u32, body: pack(&self.lines) };
        self.lines.clear();
        self.jobs = 0;
        Some(chunk)
    }
}

/// Refuses what is over [`MAX_JOB_BYTES`]; `what` is "parameters" or "output".
pub(crate) fn check_size(what: &str, bytes: usize) -> Result<()> {
    if bytes > MAX_JOB_BYTES {
        return Err(Error::usage(format!(
            "the {what} of a job have {bytes} bytes as JSON; at most {MAX_JOB_BYTES} are allowed. Put large data into a shared location and pass where it is"
        )));
    }
    Ok(())
}

/// The parameters of a chunk's jobs, unpacked.
#[derive(Debug)]
pub struct Lines {
    text: Vec<u8>,
    ends: Vec<u32>,
}

impl Lines {
    /// Unpacks a chunk's body.
    pub fn unpack(body: &[u8]) -> Result<Self> {
        let text = unpack(body)?;
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at as u32).collect();
        Ok(Self { text, ends })
    }

    /// The JSON of the job at `at`.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        self.range(at).and_then(|range| self.text.get(range))
    }

    /// The JSON of the last job.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        self.get(self.ends.len().checked_sub(1)?)
    }

    fn range(&self, at: usize) -> Option<Range<usize>> {
        let start = if at == 0 { 0 } else { *self.ends.get(at - 1)? as usize + 1 };
        Some(start..*self.ends.get(at)? as usize)
    }
}

/// Compresses `bytes` and puts the format in front.
pub(crate) fn pack(bytes: &[u8]) -> Vec<u8> {
    // Below a hundred bytes the compressed form is rarely the smaller one.
    let compressed = if bytes.len() < 100 { None } else { zstd::bulk::compress(bytes, 1).ok() };
    let (format, body) = match &compressed {
        Some(compressed) if compressed.len() < bytes.len() => (ZSTD, compressed.as_slice()),
        _ => (PLAIN, bytes),
    };
    let mut packed = Vec::with_capacity(body.len() + 1);
    packed.push(format);
    packed.extend_from_slice(body);
    packed
}

/// The inverse of [`pack`].
pub(crate) fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    match packed.split_first() {
        Some((&PLAIN, body)) => Ok(body.to_vec()),
        Some((&ZSTD, body)) => {
            let size = zstd::zstd_safe::get_frame_content_size(body).ok().flatten().unwrap_or(0);
            if size > MAX_UNPACKED as u64 {
                return Err(Error::corrupt(format!("a stored payload claims to unpack to {size} bytes")));
            }
            zstd::bulk::decompress(body, size as usize)
                .map_err(|e| Error::corrupt("a stored payload does not unpack").because(e))
        }
        Some((format, _)) => Err(Error::corrupt(format!(
            "a stored payload has the unknown format {format}; a newer version of this program may have written it"
        ))),
        None => Err(Error::corrupt("a stored payload is empty")),
    }
}

/// The same payload, uncompressed: a person can read it.
#[cfg(feature = "redis")]
pub(crate) fn plain(packed: &[u8]) -> Result<Vec<u8>> {
    let mut plain = unpack(packed)?;
    plain.insert(0, PLAIN);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_back_from_their_chunks_in_order() {
        let jobs: Vec<String> = (0..3000).map(|n| format!("{{\"n\":{n}}}")).collect();
        let mut builder = ChunkBuilder::default();
        let mut chunks: Vec<Chunk> = jobs.iter().filter_map(|job| builder.push(job.as_bytes()).unwrap()).collect();
        chunks.extend(builder.finish());
        assert_eq!(chunks.iter().map(|chunk| chunk.jobs).collect::<Vec<_>>(), [1024, 1024, 952]);
        let back: Vec<String> = chunks
            .iter()
            .flat_map(|chunk| {
                let lines = Lines::unpack(&chunk.body).unwrap();
                (0..chunk.jobs as usize)
                    .map(move |at| String::from_utf8(lines.get(at).unwrap().to_vec()).unwrap())
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(back, jobs);
    }

    #[test]
    fn a_job_larger_than_a_chunk_is_one_by_itself_and_one_beyond_the_limit_is_refused() {
        let mut builder = ChunkBuilder::default();
        assert!(builder.push(b"1").unwrap().is_none());
        let large = vec![b'1'; CHUNK_BYTES + 1];
        assert_eq!(builder.push(&large).unwrap().map(|chunk| chunk.jobs), Some(1));
        assert_eq!(builder.push(b"1").unwrap().map(|chunk| chunk.jobs), Some(1));
        let error = builder.push(&vec![b'1'; MAX_JOB_BYTES + 1]).unwrap_err();
        assert!(error.to_string().contains("262144"), "{error}");
    }

    #[test]
    fn damaged_payloads_are_errors() {
        for damaged in [&[][..], &[9, 1, 2], &[ZSTD, 1, 2, 3]] {
            assert!(Lines::unpack(damaged).is_err());
        }
    }
}
