//! kubectl as a client: the program itself, started where clients stand, with pipes to us for its stdin and stdout. It still speaks SPDY
//! where it is told to, which kube-rs does not.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube::config::Kubeconfig;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use tokio::net::unix::pipe;

use super::control_plane::{last_words, pki};
use super::keeper::{Child, Program};
use super::provision::{self, Binary, Sources};
use super::{Lab, Setup};
use crate::config::Config;

/// A kubectl at work.
pub struct Kubectl {
    /// Its stdin.
    pub to: pipe::Sender,
    /// Its stdout.
    pub from: pipe::Receiver,
    /// Its process.
    pub running: Running,
}

/// The process of a kubectl, which is killed when this is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Waits for its end. Returns what it said about it; `None`: it ended well.
    pub async fn ended(&self) -> Option<String> {
        match self.child.exited().await {
            Ok(exit) if exit.status == "exit status: 0" => None,
            Ok(exit) => Some(format!("{}; {}", exit.status, last_words("kubectl", &self.log))),
            Err(error) => Some(format!("{error:#}")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.signal_soon(Signal::KILL);
    }
}

/// The kubectl of a run. Blocks: milliseconds when warm, minutes when it has to build.
///
/// # Errors
/// There is none to be had: what was tried.
pub fn binary(config: &Config, progress: &dyn Fn(&str)) -> anyhow::Result<Binary> {
    let version = provision::wanted(config.kubernetes_version.as_deref())?;
    provision::kubectl(version, &Sources::from_env()?, progress)
}

/// The one that a lab is to have.
pub(super) async fn of(setup: &Setup, config: &Config) -> anyhow::Result<Option<Binary>> {
    if !setup.kubectl {
        return Ok(None);
    }
    let config = config.clone();
    tokio::task::spawn_blocking(move || binary(&config, &|_| ())).await?.map(Some)
}

impl Lab {
    /// Starts kubectl with these arguments, with SPDY for what it has upgraded. No other of this lab may have that name.
    ///
    /// # Errors
    /// The lab has none ([`Setup::kubectl`]), or it cannot be started.
    pub async fn kubectl(&self, name: &str, kubeconfig: &Kubeconfig, args: &[&str]) -> anyhow::Result<Kubectl> {
        let kubectl = self.kubectl.as_ref().context("this lab has no kubectl: set Setup::kubectl")?;
        let folder = self.claim.folder.join(name);
        let log = folder.join("kubectl.log");
        let (stdin, stdout, file) = (folder.join("stdin"), folder.join("stdout"), folder.join("kubeconfig"));
        tokio::fs::create_dir(&folder).await.with_context(|| format!("cannot make {}", folder.display()))?;
        pki::write_private(&file, &serde_json::to_string(kubeconfig)?)?;
        fifo(&stdin)?;
        fifo(&stdout)?;
        let mut open = pipe::OpenOptions::new();
        // For both: nobody is at the other end yet, and none of that is to be waited for.
        open.read_write(true);
        let (to, from) = (open.open_sender(&stdin)?, open.open_receiver(&stdout)?);
        let script = "exec \"$0\" \"$@\" < stdin > stdout";
        let program = Program {
            lab: self.claim.lab,
            program: "sh".into(),
            args: ["-c", script, &kubectl.path.to_string_lossy()]
                .iter()
                .chain(args)
                .map(|it| (*it).to_owned())
                .collect(),
            env: [
                ("KUBECONFIG", file.display().to_string()),
                ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false".to_owned()),
                // What it keeps for next time, and what a user prefers.
                ("HOME", folder.display().to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            network: self.client_network(),
            folder: Some(folder),
            log: log.clone(),
        };
        let child = self.keeper.spawn(program).await.context("cannot start kubectl")?;
        Ok(Kubectl { to, from, running: Running { child, log } })
    }
}

fn fifo(path: &Path) -> anyhow::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path, FileType::Fifo, mode, 0).with_context(|| format!("cannot make {}", path.display()))
}
