//! The keeper's side: a single main thread that obeys, and a thread a child that waits for it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, Write as _};
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use super::protocol::{Answer, Command, Exit, Notice, Order, Program};
use crate::lab::control_plane::kind::Orders;
use crate::lab::network::namespace;
use crate::lab::priority;
use crate::lab::sweep::{self, Held};
use crate::lab::wait;
use crate::timeline::Moment;
use crate::timing;

/// The environment variable that marks every process of a lab, for the sweep: its value is the lab's folder.
pub const LAB_VARIABLE: &str = "ROLLPROOF_LAB";

#[derive(Default)]
struct Keeper {
    labs: HashMap<u8, Lab>,
    children: Arc<Children>,
}

struct Lab {
    held: Held,
    kept: bool,
}

/// Children that have not been reaped, with their lab.
#[derive(Default)]
struct Children {
    alive: Mutex<HashMap<i32, u8>>,
    changed: Condvar,
}

/// Runs the keeper until its stdin ends; then kills every child and removes every folder.
///
/// # Errors
/// Something could not be struck, or came over stdin that is no order.
pub fn run() -> anyhow::Result<()> {
    // What loses its parent becomes our child: so we know what daemons a child has started, however they hide.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut keeper = Keeper::default();
    let heard = keeper.listen();
    let (kept, others): (Vec<_>, Vec<_>) = keeper.labs.keys().copied().partition(|lab| keeper.labs[lab].kept);
    let struck: Vec<_> = others.into_iter().map(|lab| keeper.strike(lab, Orders::Pending)).collect();
    let ended = struck.into_iter().fold(heard, anyhow::Result::and);
    if kept.is_empty() {
        end_adopted();
        return ended;
    }
    if let Err(error) = ended {
        let _ = writeln!(std::io::stderr(), "rollproof keeper: {error:#}");
    }
    for lab in kept {
        sweep::mark_kept(&keeper.labs[&lab].held.folder)?;
    }
    // Whoever reads what the run prints waits until nobody can write any more.
    rustix::stdio::dup2_stderr(File::open("/dev/null")?)?;
    // SIGTERM, from `rollproof clean --kept`, ends this process; PR_SET_PDEATHSIG ends the children.
    loop {
        std::thread::park();
    }
}

/// Becomes `program`, as a child that dies with the keeper, in the network namespace that the file stands for, if any. A step of its own since only the process itself can ask the
/// kernel for that, and between fork and exec nothing may be done that is safe Rust. Whatever priority our own threads have, it gets the machine's default.
///
/// # Errors
/// The program cannot be executed. Does not return otherwise.
pub fn exec(keeper: i32, network: Option<&Path>, program: &OsStr, args: &[std::ffi::OsString]) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(keeper) {
        bail!("the keeper is gone already");
    }
    priority::to_default();
    if let Some(network) = network {
        namespace::enter(network)?;
    }
    let error = std::process::Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot execute {}", program.display()))
}

impl Keeper {
    /// Obeys until stdin ends.
    fn listen(&mut self) -> anyhow::Result<()> {
        for line in std::io::stdin().lock().lines() {
            let order: Order = match serde_json::from_str(&line.context("cannot read an order")?) {
                Ok(order) => order,
                // The test process was killed while it wrote.
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(error).context("an order that is none"),
            };
            let answer = self.obey(order.command).map_err(|error| format!("{error:#}"));
            tell(&Notice::Answer { id: order.id, answer });
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> anyhow::Result<Answer> {
        match command {
            Command::Claim => {
                sweep::sweep(&mut |_| ());
                let held = sweep::claim()?;
                let (lab, folder) = (held.lab, held.folder.clone());
                self.labs.insert(lab, Lab { held, kept: false });
                Ok(Answer::Claimed { lab, folder })
            }
            Command::Start(program) => Ok(Answer::Started { pid: self.start(program)? }),
            Command::Signal { pid, signal } => {
                let signal = Signal::from_named_raw(signal).context("no such signal")?;
                // Held while signalling: a child that is in the map has not been reaped, so the pid is still its own.
                let alive = self.children.alive();
                if alive.contains_key(&pid) {
                    kill_process(own(pid)?, signal).with_context(|| format!("cannot signal process {pid}"))?;
                }
                Ok(Answer::Done)
            }
            Command::Strike { lab } => self.strike(lab, Orders::Answered).map(|()| Answer::Done),
            Command::HasContainers { lab } => {
                sweep::mark_containers(&self.labs.get(&lab).context("no such lab")?.held.folder)?;
                Ok(Answer::Done)
            }
            Command::Keep { lab } => {
                self.labs.get_mut(&lab).context("no such lab")?.kept = true;
                Ok(Answer::Done)
            }
        }
    }

    fn start(&self, program: Program) -> anyhow::Result<i32> {
        let lab = self.labs.get(&program.lab).context("no such lab")?;
        let log = || -> anyhow::Result<File> {
            let log = OpenOptions::new().create(true).append(true).open(&program.log);
            log.with_context(|| format!("cannot write the log {}", program.log.display()))
        };
        let found = find(&program.program)?;
        let mut command = std::process::Command::new("/proc/self/exe");
        command
            .arg("keeper-exec")
            .args(program.network.iter().flat_map(|file| [OsStr::new("--network"), file.as_os_str()]))
            .arg(std::process::id().to_string())
            .arg(&found)
            .args(&program.args)
            .envs(&program.env)
            .env(LAB_VARIABLE, &lab.held.folder)
            .stdin(Stdio::null())
            .stdout(log()?)
            .stderr(log()?)
            .process_group(0);
        if let Some(folder) = &program.folder {
            command.current_dir(folder);
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", found.display()))?;
        let pid = child.id() as i32;
        self.children.alive().insert(pid, program.lab);
        let children = self.children.clone();
        std::thread::spawn(move || children.reap(child));
        Ok(pid)
    }

    fn strike(&mut self, lab: u8, orders: Orders) -> anyhow::Result<()> {
        let Some(struck) = self.labs.remove(&lab) else { return Ok(()) };
        let alive = self.children.alive();
        for (pid, _) in alive.iter().filter(|(_, of)| **of == lab) {
            let _ = kill_process_group(own(*pid)?, Signal::KILL);
        }
        let (alive, late) = self
            .children
            .changed
            .wait_timeout_while(alive, timing::STRIKE, |alive| alive.values().any(|of| *of == lab))
            .unwrap_or_else(PoisonError::into_inner);
        let left = alive.values().filter(|of| **of == lab).count();
        drop(alive);
        // What a child of ours started and put into a group of its own.
        sweep::kill_marked(&struck.held.folder);
        sweep::strike_containers(&struck.held.folder, orders)?;
        sweep::remove(&struck.held.folder)?;
        if late.timed_out() {
            bail!("{left} processes of lab {lab} did not die within {:?} of SIGKILL", timing::STRIKE);
        }
        Ok(())
    }
}

impl Children {
    fn alive(&self) -> MutexGuard<'_, HashMap<i32, u8>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap(&self, mut child: std::process::Child) {
        let pid = child.id() as i32;
        // First only look: while the child is a zombie, nobody else can get its pid.
        if let Ok(own) = own(pid) {
            let _ = retry_on_intr(|| waitid(WaitId::Pid(own), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
        }
        let at = Moment::now();
        let mut alive = self.alive();
        let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        alive.remove(&pid);
        drop(alive);
        tell(&Notice::Exited { pid, exit: Exit { at, status } });
        self.changed.notify_all();
    }
}

/// Kills what our children had started and left to us. Some of it no sweep would find: a program that writes its title over
/// its environment carries no mark.
fn end_adopted() {
    wait::until_blocking(timing::STRIKE, || {
        sweep::children().filter_map(Pid::from_raw).for_each(|child| {
            let _ = kill_process(child, Signal::KILL);
        });
        // Those that have died, whose children are ours now; an error says that none is left.
        while let Some(reaped) = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG).transpose() {
            if reaped.is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
}

/// A notice on stdout. Whoever should read it may be gone: then stdin has ended too, and the main thread strikes.
fn tell(notice: &Notice) {
    if let Ok(mut line) = serde_json::to_vec(notice) {
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}

fn own(pid: i32) -> anyhow::Result<Pid> {
    Pid::from_raw(pid).context("process 0")
}

/// A program by path, or by name in PATH, so that a missing one is known before a child exists.
fn find(program: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let runs = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let candidates: Vec<PathBuf> = if program.components().count() > 1 {
        vec![std::path::absolute(program)?]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(program)).collect()
    };
    candidates.into_iter().find(runs).with_context(|| format!("there is no program {} to run", program.display()))
}
