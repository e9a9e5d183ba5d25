//! The cache: one folder for each program and version, filled by one run at a time, never with half a binary.
//!
//! ```text
//! $XDG_CACHE_HOME/rollproof/bin/kube-apiserver/v1.37.2-amd64/
//!     kube-apiserver    the binary; it appears whole, by rename
//!     facts.json        its version and digest
//!     download.sha256   the digest that the publisher named when it was first downloaded
//!     lock              held (flock) by the run that is providing it
//!     scratch-*/        belongs to the holder of the lock: what anyone else finds here was left by a run that died
//! $XDG_CACHE_HOME/rollproof/bin/seen/    facts of binaries elsewhere
//! ```

use std::fmt::Display;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::anyhow;
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempDir};

use super::facts::{Facts, hex};
use super::program::{Wanted, arch};
use crate::timing::{LOOK_EVERY, PROGRESS_EVERY};

/// Where one program in one version is kept.
pub(super) struct Entry {
    wanted: Wanted,
    folder: PathBuf,
}

impl Entry {
    pub(super) fn new(cache: &Path, wanted: Wanted) -> Self {
        let folder = cache.join(wanted.program.name()).join(format!("{}-{}", wanted.version, arch()));
        Self { wanted, folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn binary(&self) -> PathBuf {
        self.folder.join(self.wanted.program.name())
    }

    /// Where the publisher's digest is pinned on first use.
    pub(super) fn pin(&self) -> PathBuf {
        self.folder.join("download.sha256")
    }

    /// The kept binary's facts, or why it cannot be used.
    pub(super) fn find(&self) -> Result<Facts, String> {
        let (binary, memo) = (self.binary(), self.folder.join("facts.json"));
        if !binary.exists() {
            return Err(format!("none in {}", self.folder.display()));
        }
        if let Some(facts) = Facts::recall(&memo, &binary) {
            return Ok(facts);
        }
        // Touched: a restored backup is fine, anything else is not what was put here.
        let facts = Facts::look(self.wanted.program, &binary).map_err(|error| format!("{error:#}"))?;
        if !self.wanted.is(&facts.version) {
            return Err(format!("{} is {}", binary.display(), facts.version));
        }
        if Facts::noted(&memo).is_some_and(|noted| noted.digest != facts.digest) {
            return Err(format!("{} was changed since it was put there", binary.display()));
        }
        facts.note(&memo);
        Ok(facts)
    }

    /// Waits until no other run is providing this program, and sweeps what a run that died has left.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub(super) fn lock(&self, progress: &dyn Fn(&str)) -> anyhow::Result<Workshop<'_>> {
        let scratch = Scratch::lock(&self.folder, &self.wanted, progress)?;
        Ok(Workshop { entry: self, scratch })
    }
}

/// The right to fill a folder of the cache, and a folder to do it in. Dropping it removes that, then gives the right back.
pub(super) struct Scratch {
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Waits until no other run is providing `what` in this folder of the cache, and sweeps what a run that died has left.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub(super) fn lock(folder: &Path, what: &dyn Display, progress: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let failed = |error: io::Error| unwritable(folder, &error);
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"));
        let lock = lock.map_err(failed)?;
        let began = Instant::now();
        let mut said = None::<Instant>;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if said.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) => {}
                Err(TryLockError::WouldBlock) => {
                    let waited = began.elapsed().as_secs();
                    progress(&format!("another run is providing {what}, waiting ({waited} s so far)"));
                    said = Some(Instant::now());
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            thread::sleep(LOOK_EVERY);
        }
        leftovers(folder).for_each(remove);
        let folder = tempfile::Builder::new().prefix("scratch-").tempdir_in(folder).map_err(failed)?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The right to fill an [`Entry`].
pub(super) struct Workshop<'a> {
    pub(super) entry: &'a Entry,
    scratch: Scratch,
}

impl Workshop<'_> {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Checks that `made`, a file of this workshop, is what it was made to be, and puts it into the cache.
    ///
    /// # Errors
    /// It is another program or version, or the cache cannot be written.
    pub(super) fn install(&self, made: &Path) -> anyhow::Result<Facts> {
        let Entry { wanted, folder } = self.entry;
        let failed = |error: io::Error| unwritable(folder, &error);
        fs::set_permissions(made, Permissions::from_mode(0o755)).map_err(failed)?;
        let facts = Facts::look(wanted.program, made)?;
        if !wanted.is(&facts.version) {
            return Err(anyhow!("{} is {}, not {wanted}", made.display(), facts.version));
        }
        File::open(made).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(made, self.entry.binary()).map_err(failed)?;
        facts.note(&folder.join("facts.json"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(facts)
    }
}

/// Removes what runs that died have left anywhere in the cache. Entries that somebody is filling are let alone.
pub(super) fn sweep(cache: &Path) {
    let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in folders(cache).flat_map(|program| folders(&program)) {
        let left: Vec<_> = leftovers(&folder).collect();
        if left.is_empty() {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(folder.join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            // Listed before the lock was ours: a run that was just finishing has taken its own away.
            left.into_iter().for_each(remove);
        }
    }
}

/// The scratch folders in an entry's folder.
fn leftovers(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("scratch-")).map(|entry| entry.path())
}

/// A build that is being killed may still write there: then the next run removes it.
fn remove(scratch: PathBuf) {
    let _ = fs::remove_dir_all(scratch);
}

/// Where the facts of a binary outside the cache are noted.
pub(super) fn memo(cache: &Path, binary: &Path) -> PathBuf {
    cache.join("seen").join(format!("{}.json", hex(Sha256::new_with_prefix(binary.as_os_str().as_encoded_bytes()))))
}

/// Writes a small file so that a reader finds the old or the new one, never half of one.
pub(super) fn write_atomically(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The one error of a cache that cannot be written, and what to do.
pub(super) fn unwritable(folder: &Path, error: &io::Error) -> anyhow::Error {
    let shown = folder.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => anyhow!(
            "the disk under {shown} is full ({error}): free about 1 GB there, or set XDG_CACHE_HOME to a folder on another disk"
        ),
        _ => anyhow!("the cache {shown} cannot be written ({error}): set XDG_CACHE_HOME to a folder that can"),
    }
}
