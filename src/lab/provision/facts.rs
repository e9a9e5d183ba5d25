//! What is known of a binary, version and digest, remembered so that a warm start neither runs nor reads it.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::cache;
use super::program::Program;
use crate::timing::{LOOK_EVERY, VERSION_ANSWER};

/// What a binary is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// As the program says it, for example `v1.37.2`.
    pub(super) version: String,
    /// SHA-256, hex.
    pub(super) digest: String,
    /// Bytes, and nanoseconds since 1970: as long as both stay, the file is taken to be the same.
    size: u64,
    modified: i64,
}

impl Facts {
    /// Runs the binary for its version, and reads it for its digest.
    ///
    /// # Errors
    /// The binary cannot be run or read, or is not the program.
    pub(super) fn look(program: Program, binary: &Path) -> anyhow::Result<Self> {
        let version = ask_version(program, binary)?;
        let mut file = File::open(binary).with_context(|| format!("cannot read {}", binary.display()))?;
        let (size, modified) = stamp(&file.metadata()?);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match file.read(&mut buffer).with_context(|| format!("cannot read {}", binary.display()))? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        Ok(Self { version, digest: hex(hash), size, modified })
    }

    /// What was noted of the binary in `memo`, if it has not been touched since.
    pub(super) fn recall(memo: &Path, binary: &Path) -> Option<Self> {
        let facts = Self::noted(memo)?;
        (stamp(&fs::metadata(binary).ok()?) == (facts.size, facts.modified)).then_some(facts)
    }

    /// What was noted in `memo`, whatever has happened to the binary since.
    pub(super) fn noted(memo: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(memo).ok()?).ok()
    }

    /// Notes them in `memo`. A cache that cannot be written costs time at the next start, nothing else.
    pub(super) fn note(&self, memo: &Path) {
        let text = serde_json::to_string(self).unwrap_or_default();
        let _ = cache::write_atomically(memo, text.as_bytes());
    }
}

/// A finished hash as everyone writes it.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stamp(metadata: &Metadata) -> (u64, i64) {
    (metadata.len(), metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec())
}

/// What the binary answers when it is asked for its version.
fn ask_version(program: Program, binary: &Path) -> anyhow::Result<String> {
    let (name, shown) = (program.name(), binary.display());
    let asking = program.asked_for_version();
    let mut child = start(binary, asking).with_context(|| format!("{shown} is not a {name} that runs here"))?;
    let asked = Instant::now();
    while child.try_wait()?.is_none() {
        if asked.elapsed() > VERSION_ANSWER {
            child.kill()?;
            child.wait()?;
            bail!("{shown} is not a {name}: no answer to `{}` within {} s", asking.join(" "), VERSION_ANSWER.as_secs());
        }
        thread::sleep(LOOK_EVERY);
    }
    let mut printed = Vec::new();
    if let Some(stdout) = child.stdout {
        stdout.take(4096).read_to_end(&mut printed)?;
    }
    let printed = String::from_utf8_lossy(&printed);
    program.version_in(&printed).with_context(|| {
        let first: String = printed.lines().next().unwrap_or_default().chars().take(80).collect();
        format!("{shown} is not a {name}: `{}` printed {first:?}", asking.join(" "))
    })
}

/// A program that was just written may be "busy" for a moment: another thread that starts a child holds a copy of our
/// descriptor until that child's exec.
fn start(binary: &Path, asking: &[&str]) -> io::Result<Child> {
    let began = Instant::now();
    loop {
        let mut command = Command::new(binary);
        command.args(asking).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && began.elapsed() < VERSION_ANSWER => {
                thread::sleep(LOOK_EVERY);
            }
            started => return started,
        }
    }
}
