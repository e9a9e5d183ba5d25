//! Where the results of one run lie.
//!
//! ```text
//! target/rollproof/
//!   latest -> 20260131T120000Z-4711
//!   20260131T120000Z-4711/
//!     junit/SCENARIO.xml
//!     verdicts.jsonl
//!     recordings/SCENARIO.jsonl
//!     timelines/SCENARIO.svg
//!     evidence/SCENARIO/
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use sha2::{Digest as _, Sha256};

use super::closing::{self, Row};

/// The longest file name made of a scenario's name, without its ending. File systems take 255 bytes.
const STEM: usize = 120;

/// The folder of one run: one test process, any number of scenarios.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    verdicts: Mutex<File>,
    rows: Mutex<Vec<Row>>,
}

/// The one of this process; the text is why it could not be opened.
static OF_THIS_PROCESS: OnceLock<Result<RunDir, String>> = OnceLock::new();

impl RunDir {
    /// The run directory that all scenarios of this process share, opened at the first call: the one given
    /// (`ROLLPROOF_REPORT_DIR`), or else a new one below `target/rollproof`. At the end of the process, its closing table
    /// is printed.
    ///
    /// # Errors
    /// It cannot be opened, or the one given holds something. Every call then gives the same error.
    pub fn of_this_process(given: Option<&Path>) -> anyhow::Result<&'static Self> {
        let opened = OF_THIS_PROCESS.get_or_init(|| {
            let opened = match given {
                Some(path) => Self::open(path),
                None => Self::open_new_below(&home()),
            };
            closing::print_at_exit();
            opened.map_err(|error| format!("{error:#}"))
        });
        opened.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// The one of this process, if it was opened.
    pub(super) fn opened() -> Option<&'static Self> {
        OF_THIS_PROCESS.get()?.as_ref().ok()
    }

    /// Opens a directory that does not exist yet, or is empty.
    ///
    /// # Errors
    /// It holds something, is no directory, or cannot be written.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path).context("ROLLPROOF_REPORT_DIR is not a path")?;
        let shown = path.display();
        fs::create_dir_all(&path).with_context(|| format!("cannot make the report directory {shown}"))?;
        let mut entries = fs::read_dir(&path).with_context(|| format!("cannot read the report directory {shown}"))?;
        if entries.next().is_some() {
            bail!(
                "the report directory {shown} is not empty: results of two runs would mix; \
                 give ROLLPROOF_REPORT_DIR a new or empty one"
            );
        }
        for folder in ["junit", "recordings", "timelines", "evidence"] {
            // Not create_dir_all: of two runs that found the directory empty at the same time, one has to lose.
            fs::create_dir(path.join(folder))
                .with_context(|| format!("cannot make {folder} in the report directory {shown}"))?;
        }
        let verdicts = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path.join("verdicts.jsonl"))
            .with_context(|| format!("cannot make verdicts.jsonl in the report directory {shown}"))?;
        Ok(Self { path, verdicts: Mutex::new(verdicts), rows: Mutex::default() })
    }

    /// Opens a new directory TIME-PID below `parent`, and lets `parent/latest` point at it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open_new_below(parent: &Path) -> anyhow::Result<Self> {
        let pid = std::process::id();
        let name = format!("{}-{pid}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
        let run = Self::open(&parent.join(&name))?;
        let (latest, next) = (parent.join("latest"), parent.join(format!(".latest-{pid}")));
        // A run that was killed right here, with our process id, may have left one.
        let _ = fs::remove_file(&next);
        // A symlink cannot be changed in place; renaming a new one over it leaves no moment without.
        symlink(&name, &next)
            .and_then(|()| fs::rename(&next, &latest))
            .with_context(|| format!("cannot let {} point at {name}", latest.display()))?;
        Ok(run)
    }

    /// The directory itself, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a scenario's JUnit file goes.
    pub fn junit(&self, scenario: &str) -> PathBuf {
        self.path.join("junit").join(format!("{}.xml", stem(scenario)))
    }

    /// Where a scenario's recording goes.
    pub fn recording(&self, scenario: &str) -> PathBuf {
        self.path.join("recordings").join(format!("{}.jsonl", stem(scenario)))
    }

    /// Where the drawing of a scenario's recording goes.
    pub fn timeline(&self, scenario: &str) -> PathBuf {
        self.path.join("timelines").join(format!("{}.svg", stem(scenario)))
    }

    /// The folder for a scenario's logs and the like. It is not made: a scenario without evidence leaves none.
    pub fn evidence(&self, scenario: &str) -> PathBuf {
        self.path.join("evidence").join(stem(scenario))
    }

    /// A path below this directory without it; any other as it is.
    pub(super) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.path).unwrap_or(path).display().to_string()
    }

    /// Notes rows for the closing table.
    pub(super) fn note(&self, rows: Vec<Row>) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
    }

    /// The rows noted so far.
    pub fn rows(&self) -> Vec<Row> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Appends whole lines to `verdicts.jsonl`, or nothing.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn append_verdicts(&self, lines: &[u8]) -> anyhow::Result<()> {
        let path = self.path.join("verdicts.jsonl");
        let mut file = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?.len();
        file.write_all(lines).or_else(|error| {
            // Half a line would swallow the next one.
            let _ = file.set_len(before);
            Err(error).with_context(|| format!("cannot write {}", path.display()))
        })
    }

    /// Writes a file of the run at once: it is there whole, or not at all.
    ///
    /// # Errors
    /// It cannot be written, or is already there.
    pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            let folder = path.parent().unwrap_or(Path::new("."));
            // As any other file, not private as temporary ones: CI uploads it under another user.
            let mode = fs::Permissions::from_mode(0o666);
            let mut file = tempfile::Builder::new().suffix(".partial").permissions(mode).tempfile_in(folder)?;
            file.write_all(bytes)?;
            file.persist_noclobber(path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Where run directories are made: below the crate, as cargo says, or else below the current folder.
fn home() -> PathBuf {
    let crate_dir = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    crate_dir.join("target").join("rollproof")
}

/// A scenario's name as a file name: `::` becomes `.`; where more had to be changed, a digest keeps it unique.
///
/// ```text
/// rollout::nothing_is_lost::case_1  ->  rollout.nothing_is_lost.case_1
/// a/b                               ->  a_b-c14cddc0
/// ```
fn stem(scenario: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    let parts: Vec<&str> = scenario.split("::").collect();
    if scenario.len() <= STEM && parts.iter().all(|part| !part.is_empty() && part.chars().all(is_plain)) {
        return parts.join(".");
    }
    let kept: String =
        parts.join(".").chars().map(|char| if is_plain(char) || char == '.' { char } else { '_' }).collect();
    let kept = kept.trim_start_matches('.');
    let digest: String = Sha256::digest(scenario).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digest}", &kept[..kept.len().min(STEM)])
}
