//! The keeper: one helper process that owns every child of a run.
//!
//! It watches a pipe from the test process. When the pipe ends, for whatever reason (the run is over, a panic, Ctrl-C,
//! SIGKILL), it kills every child and removes every lab folder. Were the children our own, none of that would be certain:
//! libtest has no after-all hook, and PR_SET_PDEATHSIG follows the spawning *thread*, of which a test run has many. The
//! keeper spawns from its one main thread, so there the signal does work: should the keeper itself be killed, its children
//! die with it, and what is left are folders, containers, and what those children had started: the next run [sweeps](super::sweep) it.
//!
//! The keeper is a hidden subcommand of the rollproof binary.

mod process;
mod protocol;

pub use process::{LAB_VARIABLE, exec, run};
pub use protocol::{Exit, Program};

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::Signal;
use tokio::sync::{oneshot, watch};

use crate::timing;
use protocol::{Answer, Command, Notice, Order};

/// The process-wide keeper. It holds no task and no runtime, so tests with runtimes of their own can share it.
static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);

/// A handle on the keeper process, which ends with the last handle on it or on one of its children.
#[derive(Clone)]
pub struct Keeper {
    line: Arc<Mutex<Line>>,
}

/// Our end of the pipes.
struct Line {
    /// `None` once the keeper is gone.
    orders: Option<ChildStdin>,
    last_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Answer, String>>>,
    children: HashMap<i32, watch::Sender<Option<Exit>>>,
}

/// A lab's number and folder, ours until it is struck.
#[derive(Clone, Debug)]
pub struct Claim {
    /// 1 to 250.
    pub lab: u8,
    /// An empty folder, mode 0700.
    pub folder: PathBuf,
}

/// A running program.
#[derive(Clone)]
pub struct Child {
    keeper: Keeper,
    pid: i32,
    exit: watch::Receiver<Option<Exit>>,
}

impl Keeper {
    /// The keeper of this process, started on first use.
    ///
    /// # Errors
    /// The rollproof binary is not where cargo puts it, or cannot be started.
    pub fn get() -> anyhow::Result<Self> {
        let mut keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
        match keeper.as_ref().filter(|keeper| keeper.line().orders.is_some()) {
            Some(alive) => Ok(alive.clone()),
            None => Ok(keeper.insert(Self::start(&std::env::temp_dir())?).clone()),
        }
    }

    /// A keeper of one's own, whose labs lie below `tmpdir`.
    ///
    /// # Errors
    /// The rollproof binary is not where cargo puts it, or cannot be started.
    pub fn start(tmpdir: &Path) -> anyhow::Result<Self> {
        let binary = rollproof_binary()?;
        let mut process = std::process::Command::new(&binary)
            .arg("keeper")
            .env("TMPDIR", tmpdir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A terminal's SIGINT is for the test process; the keeper acts when that is gone.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the keeper, {}", binary.display()))?;
        let orders = process.stdin.take();
        let notices = process.stdout.take().context("the keeper has no stdout")?;
        let line = Line { orders, last_id: 0, waiting: HashMap::new(), children: HashMap::new() };
        let keeper = Self { line: Arc::new(Mutex::new(line)) };

        let line = Arc::downgrade(&keeper.line);
        std::thread::Builder::new().name("keeper-notices".to_owned()).spawn(move || {
            for notice in BufReader::new(notices).lines().map_while(Result::ok) {
                if let (Ok(notice), Some(line)) = (serde_json::from_str(&notice), Weak::upgrade(&line)) {
                    Self { line }.hear(notice);
                }
            }
            if let Some(line) = Weak::upgrade(&line) {
                Self { line }.lost();
            }
            let _ = process.wait();
        })?;
        Ok(keeper)
    }

    /// Claims a free lab.
    ///
    /// # Errors
    /// All are taken, or the folder cannot be made.
    pub async fn claim(&self) -> anyhow::Result<Claim> {
        match self.ask(Command::Claim).await? {
            Answer::Claimed { lab, folder } => Ok(Claim { lab, folder }),
            _ => bail!("the keeper answered something else than a claim"),
        }
    }

    /// Starts a program.
    ///
    /// # Errors
    /// It does not exist, or cannot be executed.
    pub async fn spawn(&self, program: Program) -> anyhow::Result<Child> {
        let Answer::Started { pid } = self.ask(Command::Start(program)).await? else {
            bail!("the keeper answered something else than a start");
        };
        let mut line = self.line();
        if line.orders.is_none() {
            return Err(gone());
        }
        let ending = line.children.remove(&pid).unwrap_or_else(|| watch::channel(None).0);
        let exit = ending.subscribe();
        // Once it has ended, its pid can be another's.
        if exit.borrow().is_none() {
            line.children.insert(pid, ending);
        }
        drop(line);
        Ok(Child { keeper: self.clone(), pid, exit })
    }

    /// Kills all of a lab's children, waits until they are gone, and removes its folder.
    ///
    /// # Errors
    /// A child did not die, or the folder could not be removed.
    pub async fn strike(&self, lab: u8) -> anyhow::Result<()> {
        self.ask(Command::Strike { lab }).await.map(|_| ())
    }

    /// Says that a lab is about to have containers. From here on they are struck with it, by the label of its folder.
    ///
    /// # Errors
    /// The keeper is gone, or the folder cannot be written.
    pub async fn has_containers(&self, lab: u8) -> anyhow::Result<()> {
        self.ask(Command::HasContainers { lab }).await.map(|_| ())
    }

    /// Leaves a lab up when this process ends, until `rollproof clean --kept`.
    ///
    /// # Errors
    /// The keeper is gone.
    pub async fn keep(&self, lab: u8) -> anyhow::Result<()> {
        self.ask(Command::Keep { lab }).await.map(|_| ())
    }

    async fn ask(&self, command: Command) -> anyhow::Result<Answer> {
        let answer = tokio::time::timeout(timing::KEEPER_ANSWER, self.send(command)?).await;
        let answer = answer.with_context(|| format!("the keeper has not answered for {:?}", timing::KEEPER_ANSWER))?;
        answer.map_err(|_| gone())?.map_err(|error| anyhow!(error))
    }

    fn send(&self, command: Command) -> anyhow::Result<oneshot::Receiver<Result<Answer, String>>> {
        let (tell, told) = oneshot::channel();
        let mut line = self.line();
        line.last_id += 1;
        let id = line.last_id;
        let mut order = serde_json::to_vec(&Order { id, command })?;
        order.push(b'\n');
        line.waiting.insert(id, tell);
        let sent = line.orders.as_mut().map(|orders| orders.write_all(&order).and_then(|()| orders.flush()));
        match sent {
            Some(Ok(())) => Ok(told),
            _ => Err(gone()),
        }
    }

    fn hear(&self, notice: Notice) {
        let mut line = self.line();
        match notice {
            Notice::Answer { id, answer } => {
                if let Some(waiting) = line.waiting.remove(&id) {
                    let _ = waiting.send(answer);
                }
            }
            Notice::Exited { pid, exit } => {
                if let Some(ending) = line.children.remove(&pid) {
                    ending.send_replace(Some(exit));
                } else {
                    // The notice of an exit can overtake the answer to the start.
                    line.children.insert(pid, watch::channel(Some(exit)).0);
                }
            }
        }
    }

    /// The keeper is gone, and with it every child.
    fn lost(&self) {
        let mut line = self.line();
        line.orders = None;
        line.waiting.clear();
        line.children.clear();
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Child {
    /// Its process id, which is its process group's too.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends it a signal. A child that has exited gets none, and that is no error.
    ///
    /// # Errors
    /// The keeper is gone, or the kernel refuses.
    pub async fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.keeper.ask(Command::Signal { pid: self.pid, signal: signal.as_raw() }).await.map(|_| ())
    }

    /// Sends it a signal without waiting for the keeper to say that it did: for guards, whose `drop` cannot wait.
    pub fn signal_soon(&self, signal: Signal) {
        let _ = self.keeper.send(Command::Signal { pid: self.pid, signal: signal.as_raw() });
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The keeper is gone.
    pub async fn exited(&self) -> anyhow::Result<Exit> {
        let mut exit = self.exit.clone();
        let exit = exit.wait_for(Option::is_some).await.map_err(|_| gone())?;
        exit.clone().ok_or_else(gone)
    }
}

fn gone() -> anyhow::Error {
    anyhow!("the keeper is gone, and with it every process of the lab; was it killed?")
}

/// Where cargo puts the rollproof binary: we may be that binary, or a test beside it.
fn rollproof_binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    if own.file_stem().is_some_and(|name| name == "rollproof") {
        return Ok(own);
    }
    // Tests live in target/PROFILE/deps, the binary in target/PROFILE.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("rollproof")).find(|path| path.is_file());
    found.with_context(|| {
        format!("there is no rollproof binary near {}; `cargo build` makes it, `cargo test` too", own.display())
    })
}
