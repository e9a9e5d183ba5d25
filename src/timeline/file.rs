//! Recordings as JSON lines: a header, one observation a line, and an end line that says how many there were.
//!
//! ```text
//! {"header":{"format":2,"suite":"0.1.0","scenario":"...", ...}}
//! {"at":8123456789,"event":{"request":{...}}}
//! {"end":{"observations":1}}
//! ```
//!
//! A large one is compressed when it is complete (`.jsonl.zst`).

use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Header, Observation, Recording};

/// Version of the format that is written. It grows with the vocabulary: a new event, or a new field that a verdict rests on, is a new version.
///
/// | format | has beyond the one before |
/// | --- | --- |
/// | 1 | |
/// | 2 | `ticked`, `audit_log`, `bookmark`, `read`, `guarded_update`, `guarded_left`, `observers`; `any` and `initial_events` of a `list_watch`; the audit logs have every attempt of a client library |
pub const FORMAT: u32 = 2;

/// The oldest version that is still read.
pub const OLDEST_FORMAT: u32 = 1;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the recording {}: {problem}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and where.
    pub problem: String,
}

/// First line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderLine<H> {
    pub(super) header: H,
}

/// Last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndLine {
    pub(super) end: End,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) observations: usize,
}

/// What the format check needs, whatever else a later format may hold.
#[derive(Deserialize)]
struct AnyHeader {
    format: u32,
}

impl Recording {
    /// Reads a recording, sorted by time.
    ///
    /// # Errors
    /// The file cannot be opened; it is of another format; a line is not what it should be; or it has no end line, because
    /// the run that wrote it was interrupted.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let fail = |problem: String| FileError { path: path.to_owned(), problem };
        let mut lines = open(path).map_err(|error| fail(error.to_string()))?.lines();
        let mut next = |number: usize| -> Result<Option<String>, FileError> {
            lines.next().transpose().map_err(|error| fail(format!("line {number}: {error}")))
        };

        let first = next(1)?.ok_or_else(|| fail("it is empty".to_owned()))?;
        let not_a_header = |error| fail(format!("it does not begin with a recording's header; {}", misread(1, &error)));
        let format: HeaderLine<AnyHeader> = serde_json::from_str(&first).map_err(not_a_header)?;
        let found = format.header.format;
        if found > FORMAT {
            return Err(fail(format!(
                "it is of format {found}, a newer one than this rollproof reads ({OLDEST_FORMAT} to {FORMAT}): read it with the \
                 version that recorded it"
            )));
        }
        if found < OLDEST_FORMAT {
            return Err(fail(format!(
                "it is of format {found}; this rollproof reads formats {OLDEST_FORMAT} to {FORMAT}"
            )));
        }
        let header: HeaderLine<Header> = serde_json::from_str(&first).map_err(not_a_header)?;

        let mut observations = Vec::new();
        for number in 2.. {
            let Some(line) = next(number)? else {
                let seen = observations.len();
                return Err(fail(format!(
                    "it has no end line after {seen} observations: the run that wrote it was interrupted"
                )));
            };
            if line.starts_with(r#"{"end""#) {
                let end: EndLine = serde_json::from_str(&line).map_err(|error| fail(misread(number, &error)))?;
                if end.end.observations != observations.len() {
                    let (promised, seen) = (end.end.observations, observations.len());
                    return Err(fail(format!(
                        "it promises {promised} observations and holds {seen}: lines are missing"
                    )));
                }
                if next(number + 1)?.is_some() {
                    return Err(fail(format!("line {}: something follows the end line", number + 1)));
                }
                break;
            }
            let observation: Observation =
                serde_json::from_str(&line).map_err(|error| fail(misread(number, &error)))?;
            observations.push(observation);
        }
        observations.sort_by_key(|seen| seen.at);
        Ok(Self { header: header.header, observations })
    }

    /// Writes a recording that is already complete; [`Recorder`](super::Recorder) writes one as it happens.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut out = BufWriter::new(std::fs::File::create(path)?);
        write_line(&mut out, &HeaderLine { header: &self.header })?;
        for observation in &self.observations {
            write_line(&mut out, observation)?;
        }
        write_line(&mut out, &EndLine { end: End { observations: self.observations.len() } })?;
        out.flush()
    }
}

/// Compresses a recording's file (zstd): `x.jsonl` becomes `x.jsonl.zst`, whose path is returned. [`Recording::load`] reads
/// both.
///
/// # Errors
/// The compressed file cannot be written. The other one is then still there.
pub fn compress(path: &Path) -> std::io::Result<PathBuf> {
    /// zstd's own default: beyond it, minutes of the processors that the next scenario needs.
    const LEVEL: i32 = 3;
    let mut compressed = path.as_os_str().to_owned();
    compressed.push(".zst");
    let compressed = PathBuf::from(compressed);
    let write = || -> std::io::Result<()> {
        let to = std::fs::File::create_new(&compressed)?;
        zstd::stream::copy_encode(std::fs::File::open(path)?, to, LEVEL)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&compressed)))?;
    std::fs::remove_file(path)?;
    Ok(compressed)
}

/// A recording's lines, whether compressed or not: its first bytes tell.
fn open(path: &Path) -> std::io::Result<Box<dyn BufRead>> {
    /// RFC 8878, 3.1.1.
    const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let mut file = BufReader::new(std::fs::File::open(path)?);
    if file.fill_buf()?.starts_with(&ZSTD_MAGIC) {
        return Ok(Box::new(BufReader::new(zstd::stream::Decoder::with_buffer(file)?)));
    }
    Ok(Box::new(file))
}

/// What is wrong with a line. serde_json knows one line only, and calls it the first.
fn misread(number: usize, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return format!("line {number} is cut off: the run that wrote it was interrupted, or its disk was full");
    }
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("line {number}, column {}: {what}", error.column())
}

pub(super) fn write_line(out: &mut impl std::io::Write, line: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
