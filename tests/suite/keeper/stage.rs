//! Labs in a TMPDIR of their own, and children to see die.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rollproof::lab::keeper::{Child, Claim, Keeper, Program};
use rollproof::lab::wait;
use rollproof::timing::secs;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// All that a test has to wait for happens within milliseconds.
const SOON: Duration = secs(20);
/// What is promised: nothing is left within that time.
const AT_ONCE: Duration = secs(2);

/// What is to happen soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("nothing happened")
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let look = async || if holds() { ControlFlow::Break(()) } else { ControlFlow::Continue("not yet".to_owned()) };
    wait::until(SOON, what, look).await.unwrap();
}

/// A TMPDIR.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where its labs are.
    pub(crate) fn root(&self) -> PathBuf {
        self.path().join(format!("rollproof-{}", rustix::process::getuid().as_raw()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(self.path()).unwrap().next().is_none()
    }

    /// A file of that name in one of its labs.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        let labs = fs::read_dir(self.root()).ok()?;
        labs.map(|lab| lab.unwrap().path().join(name)).find(|path| path.exists())
    }

    pub(crate) fn keeper(&self) -> Keeper {
        Keeper::start(self.path()).unwrap()
    }

    pub(crate) async fn lab(&self) -> (Keeper, Claim) {
        let keeper = self.keeper();
        let claim = keeper.claim().await.unwrap();
        (keeper, claim)
    }

    /// The `rollproof` command, as someone with this TMPDIR calls it.
    pub(crate) fn rollproof(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollproof"));
        // Neither this machine's labs nor its containers are any business of the suite's.
        command.args(args).env("TMPDIR", self.path()).env("DOCKER_HOST", "unix:///nonexistent");
        command
    }

    /// `rollproof clean`: its exit code, and what it says.
    pub(crate) fn clean(&self, args: &[&str]) -> (i32, String) {
        let output = self.rollproof(&["clean"]).args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    /// A process with a [`Family`] in its lab, and their pids.
    pub(crate) async fn test_process(&self, keep: &str) -> (std::process::Child, Vec<i32>) {
        // Under nohup, or in a script's background, SIGHUP or SIGINT is ignored, and children inherit that: a process that
        // is to die of them must not. `env` becomes the process.
        let mut process = Command::new("env")
            .arg("--default-signal=HUP,INT,TERM")
            .arg(std::env::current_exe().unwrap())
            .args(["keeper::a_test_process_with_a_lab", "--exact", "--ignored", "--nocapture"])
            .env("TMPDIR", self.path())
            .env("SUITE_KEEP", keep)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(process.stdout.take().unwrap());
        let mut pids = told.lines().map(Result::unwrap).filter_map(|line| Some(line.split_once("pids ")?.1.to_owned()));
        let pids: Vec<i32> = serde_json::from_str(&pids.next().unwrap()).unwrap();
        assert_eq!(alive(&pids).len(), 3);
        (process, pids)
    }

    /// Holds if within 2 s these processes and every folder are gone.
    pub(crate) async fn all_gone_at_once(&self, pids: Vec<i32>) {
        let look = async || match (alive(&pids), self.is_empty()) {
            (left, true) if left.is_empty() => ControlFlow::Break(()),
            (left, empty) => ControlFlow::Continue(format!("processes {left:?}, folders gone: {empty}")),
        };
        wait::until(AT_ONCE, "everything to be gone", look).await.unwrap();
    }
}

/// A child, a grandchild in its group, and one that has left it.
pub(crate) struct Family {
    pub(crate) child: Child,
    pids: Vec<i32>,
}

impl Family {
    pub(crate) async fn start(keeper: &Keeper, claim: &Claim) -> Self {
        let script = "sleep 600 & echo $! > new; setsid sleep 600 & echo $! >> new; echo $$ >> new; mv new pids; wait";
        let child = keeper.spawn(sh(claim, script)).await.unwrap();
        let pids = claim.folder.join("pids");
        until("the family to be there", || pids.exists()).await;
        let family = Self { child, pids: read_pids(&pids) };
        assert_eq!((family.pids.len(), family.alive().len()), (3, 3));
        family
    }

    pub(crate) fn alive(&self) -> Vec<i32> {
        alive(&self.pids)
    }

    pub(crate) fn into_pids(self) -> Vec<i32> {
        self.pids
    }
}

pub(crate) fn sh(claim: &Claim, script: &str) -> Program {
    program(claim, "sh", &["-c", script])
}

pub(crate) fn program(claim: &Claim, program: &str, args: &[&str]) -> Program {
    Program {
        lab: claim.lab,
        program: program.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: BTreeMap::new(),
        network: None,
        folder: Some(claim.folder.clone()),
        log: claim.folder.join("log"),
    }
}

pub(crate) fn read_pids(file: &Path) -> Vec<i32> {
    fs::read_to_string(file).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

/// Those of them that run.
pub(crate) fn alive(pids: &[i32]) -> Vec<i32> {
    pids.iter().copied().filter(|pid| state(*pid).is_some_and(|state| !"ZX".contains(state))).collect()
}

/// As ps shows it: `S` sleeping, `T` stopped, `Z` dead and not yet reaped; `None` if there is no such process.
pub(crate) fn state(pid: i32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// Who started it.
pub(crate) fn parent(pid: i32) -> i32 {
    stat(pid).unwrap()[1].parse().unwrap()
}

/// The fields after PID (NAME). Source: proc(5).
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}
