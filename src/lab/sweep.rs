//! Lab folders: claiming one, and sweeping those that a killed run has left behind.
//!
//! A lab is a folder `lab-N` below one root for all runs of a user. Whoever uses it holds a flock on `lab-N/lock` (close
//! on exec, so that no child inherits it): an unlocked folder is dead, and may be swept by anyone. N is also the lab's
//! network: its addresses are 127.77.N.x, so that labs never meet.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::keeper::LAB_VARIABLE;

/// How many labs may stand at the same time. More would not fit into one machine by far.
const LABS: std::ops::RangeInclusive<u8> = 1..=250;

/// The file in a kept lab that names its keeper.
const KEPT: &str = "kept-by";

/// The folder of all labs of this user.
pub fn root() -> PathBuf {
    std::env::temp_dir().join(format!("rollproof-{}", rustix::process::getuid().as_raw()))
}

/// A lab that was found by [`labs`].
pub struct Found {
    /// Its folder.
    pub folder: PathBuf,
    /// Whether a keeper holds it.
    pub alive: bool,
}

/// The labs that stand, or were left behind.
pub fn labs() -> Vec<Found> {
    let folders = LABS.map(folder).filter(|folder| folder.exists());
    folders.map(|folder| Found { alive: lock(&folder).is_none(), folder }).collect()
}

/// Removes what dead runs have left: processes marked with their folder, then the folder. Says what it removes.
pub fn sweep(say: &mut dyn FnMut(String)) {
    for folder in LABS.map(folder).filter(|folder| folder.exists()) {
        let Some(_lock) = lock(&folder) else { continue };
        let killed = kill_marked(&folder);
        match remove(&folder) {
            Ok(()) => say(format!("removed {} and {killed} processes of it", folder.display())),
            Err(error) => say(format!("{error:#}")),
        }
    }
}

/// Ends the labs that a run has kept up, by ending their keepers. Returns their folders.
///
/// # Errors
/// A keeper cannot be signalled, or does not end.
pub fn end_kept() -> anyhow::Result<Vec<PathBuf>> {
    let kept = labs().into_iter().filter_map(|lab| {
        let pid = std::fs::read_to_string(lab.folder.join(KEPT)).ok()?.trim().parse().ok()?;
        Some((lab.folder, Pid::from_raw(pid)?))
    });
    let mut ended = Vec::new();
    for (folder, keeper) in kept {
        if lock(&folder).is_none() {
            kill_process(keeper, Signal::TERM)
                .with_context(|| format!("cannot end the keeper of {}", folder.display()))?;
            let lock_file = File::open(folder.join("lock"))?;
            // Free when the keeper is gone.
            flock(&lock_file, FlockOperation::LockExclusive)?;
        }
        ended.push(folder);
    }
    Ok(ended)
}

/// Marks a lab as kept up by this process, its keeper.
pub(super) fn mark_kept(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(KEPT);
    std::fs::write(&path, std::process::id().to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// Claims the first free lab: its number, its empty folder, and the lock that keeps it.
pub(super) fn claim() -> anyhow::Result<(u8, PathBuf, File)> {
    let root = root();
    private_folder(&root)?;
    for number in LABS {
        let folder = folder(number);
        if folder.exists() {
            continue;
        }
        // Somebody may be quicker; then this one is theirs.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return claim(), // the root was just removed
            Err(error) => bail!("cannot make the lab folder {}: {error}", folder.display()),
        }
        if let Some(lock) = lock(&folder) {
            return Ok((number, folder, lock));
        }
    }
    bail!("all {} labs are taken; `rollproof clean` removes dead ones", LABS.end())
}

/// Kills every process that carries the lab's mark in its environment. Returns how many.
pub(super) fn kill_marked(folder: &Path) -> usize {
    let mark = [LAB_VARIABLE.as_bytes(), b"=", folder.as_os_str().as_bytes()].concat();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let marked = processes.filter_map(|process| {
        let pid: i32 = process.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(process.path().join("environ")).ok()?;
        environment.split(|byte| *byte == 0).any(|variable| variable == mark).then_some(pid)
    });
    let own = std::process::id() as i32;
    let kill = |pid: i32| Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
    marked.filter(|pid| *pid != own).map(kill).filter(|killed| *killed).count()
}

/// Removes a lab's folder, and the root if it was the last.
pub(super) fn remove(folder: &Path) -> anyhow::Result<()> {
    // A process killed a moment ago may still have created a file: once more is enough, since it is dead.
    std::fs::remove_dir_all(folder)
        .or_else(|_| std::fs::remove_dir_all(folder))
        .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        .with_context(|| format!("cannot remove the lab folder {}", folder.display()))?;
    let _ = std::fs::remove_dir(root());
    Ok(())
}

fn folder(number: u8) -> PathBuf {
    root().join(format!("lab-{number}"))
}

/// Takes a lab's lock, if nobody holds it and the lab is still there.
fn lock(folder: &Path) -> Option<File> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    // Between our open and our lock another may have removed the folder: then we hold a file that nobody finds.
    let here = std::fs::metadata(&path).ok()?;
    (here.ino() == file.metadata().ok()?.ino()).then_some(file)
}

/// Makes a folder that only we can enter, or checks that it is one.
fn private_folder(path: &Path) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => bail!("cannot make the folder {} for the labs: {error}; TMPDIR moves it", path.display()),
    }
    let found = std::fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    let ours = found.is_dir() && found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o077 == 0;
    if !ours {
        bail!("{} is not a private folder of ours (owner, mode 0700); remove it, or set TMPDIR", path.display());
    }
    Ok(())
}
