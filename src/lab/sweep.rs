//! Lab folders: claiming one, and sweeping those that a killed run has left behind.
//!
//! A lab is a folder `lab-N` below one root for all runs of a user. Whoever uses it holds a flock on `lab-N/lock` (close
//! on exec, so that no child inherits it): an unlocked folder is dead, and may be swept by anyone. N is also the lab's
//! [network], which is claimed with it: folders are one set for each user and TMPDIR, addresses for each machine.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::control_plane::kind::{self, Orders};
use super::keeper::LAB_VARIABLE;
use super::{network, wait};
use crate::timing;

/// How many labs may stand at the same time. More would not fit into one machine by far.
const LABS: std::ops::RangeInclusive<u8> = 1..=250;

/// The file in a kept lab that names its keeper.
const KEPT: &str = "kept-by";

/// The file in a lab that has, or is about to have, containers. They carry its folder as a label.
const CONTAINERS: &str = "has-containers";

/// The folder of all labs of this user.
pub fn root() -> PathBuf {
    let tmpdir = std::env::temp_dir();
    // A relative one would be another folder for every process.
    let tmpdir = std::path::absolute(&tmpdir).unwrap_or(tmpdir);
    tmpdir.join(format!("rollproof-{}", rustix::process::getuid().as_raw()))
}

/// A lab that is ours until this is dropped, or we die.
pub(super) struct Held {
    pub(super) lab: u8,
    pub(super) folder: PathBuf,
    _lock: File,
    _network: TcpListener,
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

/// Removes what dead runs have left: processes and containers marked with their folder, then the folder. Says what it removes.
pub fn sweep(say: &mut dyn FnMut(String)) {
    for folder in LABS.map(folder).filter(|folder| folder.exists()) {
        let Some(_lock) = lock(&folder) else { continue };
        match remove_dead(&folder) {
            Ok(what) => say(format!("removed {} and {what} of it", folder.display())),
            Err(error) => say(format!("{error:#}")),
        }
    }
}

/// Removes containers and networks of dead runs whose folders [`sweep`] does not find: somebody has removed them, or they lie
/// elsewhere. Where there is no Docker engine there is nothing to do. Says what it removes.
pub fn sweep_containers(say: &mut dyn FnMut(String)) {
    for folder in kind::labs().unwrap_or_default() {
        // A label can say anything: only a folder that looks like one of ours is touched.
        let name = |path: &Path, prefix: &str| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
        };
        if !name(&folder, "lab-") || !folder.parent().is_some_and(|root| name(root, "rollproof-")) {
            continue;
        }
        let removed = match folder.try_exists() {
            Ok(false) => kind::strike(&folder, Orders::Pending).map(|count| format!("{count} containers and networks")),
            _ => match lock(&folder) {
                Some(_lock) => remove_dead(&folder),
                None => continue,
            },
        };
        match removed {
            Ok(what) => say(format!("removed {what} of {}", folder.display())),
            Err(error) => say(format!("{error:#}")),
        }
    }
}

/// Removes all of a lab whose lock we have. Returns what there was.
fn remove_dead(folder: &Path) -> anyhow::Result<String> {
    let killed = kill_marked(folder);
    // Where that fails, the folder stays, so that the next sweep tries again.
    let struck = strike_containers(folder, Orders::Pending)?;
    remove(folder)?;
    Ok(match struck {
        0 => format!("{killed} processes"),
        struck => format!("{killed} processes, {struck} containers and networks"),
    })
}

/// Removes the containers and networks of a lab, if it may have any. Returns how many there were.
pub(super) fn strike_containers(folder: &Path, orders: Orders) -> anyhow::Result<usize> {
    if folder.join(CONTAINERS).exists() { kind::strike(folder, orders) } else { Ok(0) }
}

/// Marks a lab as one that has containers.
pub(super) fn mark_containers(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(CONTAINERS);
    std::fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))
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

/// Claims the first free lab: its number, its network, and its empty folder.
pub(super) fn claim() -> anyhow::Result<Held> {
    let root = root();
    private_folder(&root)?;
    for lab in LABS {
        let folder = folder(lab);
        if folder.exists() {
            continue;
        }
        let Some(_network) = network::claim(lab)? else { continue };
        // Somebody may be quicker; then this one is theirs.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return claim(), // the root was just removed
            Err(error) => bail!("cannot make the lab folder {}: {error}", folder.display()),
        }
        if let Some(_lock) = lock(&folder) {
            return Ok(Held { lab, folder, _lock, _network });
        }
    }
    bail!(
        "all {} labs are taken; `rollproof clean` removes dead ones, `ss -ltnp 'sport = :{}'` shows who holds the others",
        LABS.end(),
        network::CLAIM_PORT
    )
}

/// Kills every process that carries the lab's mark in its environment, and waits until there is none. Returns how many.
pub(super) fn kill_marked(folder: &Path) -> usize {
    let mark = [LAB_VARIABLE.as_bytes(), b"=", folder.as_os_str().as_bytes()].concat();
    let is_marked = |process: &(i32, PathBuf)| {
        let environment = std::fs::read(process.1.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    };
    let own = rustix::process::getpid();
    let mut killed = HashSet::new();
    // Again and again, for the sake of one that starts another meanwhile. A dead one has no environment any more.
    wait::until_blocking(timing::STRIKE, || {
        let marked: Vec<_> =
            processes().filter(is_marked).filter_map(|(pid, _)| Pid::from_raw(pid)).filter(|pid| *pid != own).collect();
        killed.extend(marked.iter().copied().filter(|pid| kill_process(*pid, Signal::KILL).is_ok()));
        if marked.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    killed.len()
}

/// The children of this process, dead ones too, by pid.
pub(super) fn children() -> impl Iterator<Item = i32> {
    let own = std::process::id().to_string();
    processes().filter_map(move |(pid, folder)| {
        // PID (NAME) STATE PARENT ...: the name may hold anything, even a parenthesis. Source: proc(5).
        let stat = std::fs::read(folder.join("stat")).ok()?;
        let parent = String::from_utf8_lossy(&stat).rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
        (parent == own).then_some(pid)
    })
}

/// All processes: pid, and folder in /proc.
fn processes() -> impl Iterator<Item = (i32, PathBuf)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
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
