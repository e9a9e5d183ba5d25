//! One kube-apiserver: its identity, its restarts, its lifecycle on the recording's clock. Who runs it is its runner's business.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio_util::task::AbortOnDropHandle;

use super::lifecycle;
use super::process::Process;
use super::static_pod::{FileMirror, StaticPod};
use crate::lab::http::{Ask, Connection, Endpoint};
use crate::lab::wait;
use crate::timeline::{Event, Lifecycle, Moment, Recorder, Restart, Step};
use crate::timing;

/// A kube-apiserver that can be restarted under the same identity: address, certificate, flags, logs.
pub struct Apiserver {
    /// Past the balancer, as an administrator.
    pub endpoint: Endpoint,
    /// SHA-256 of its serving certificate, hex.
    pub certificate: String,
    /// Its command line, without the program.
    pub flags: Vec<String>,
    /// Its log, on this machine.
    pub log: PathBuf,
    /// Its audit log, on this machine.
    pub audit_log: PathBuf,
    /// Who it is in a recording.
    pub life: Life,
    runner: Runner,
    _signals: AbortOnDropHandle<()>,
}

/// Asks an apiserver for /readyz, past the balancer. Goes on, with what it says instead, until that is 200.
pub(super) async fn readyz(endpoint: &Endpoint, kept: &mut Option<Connection>) -> ControlFlow<(), String> {
    let ask = Ask::get("/readyz", String::new(), "rollproof-lab");
    let (exchange, _) = endpoint.exchange(kept, &ask).await;
    match (exchange.status, exchange.failure) {
        (Some(200), None) => ControlFlow::Break(()),
        (_, Some(failure)) => ControlFlow::Continue(failure.text),
        (status, None) => ControlFlow::Continue(format!("/readyz answers {}", status.unwrap_or(0))),
    }
}

/// Who runs an apiserver.
pub(super) enum Runner {
    /// We do, as a process of this machine.
    Process(Process),
    /// The kubelet of its node does.
    StaticPod {
        /// What it is to the kubelet.
        pod: StaticPod,
        /// Keeps [`Apiserver::audit_log`] up to date.
        audits: FileMirror,
    },
}

/// The name under which steps in the life of an apiserver are recorded.
#[derive(Clone)]
pub struct Life {
    /// `apiserver-0`, ...
    pub name: String,
    /// Where they are recorded.
    pub recorder: Recorder,
}

impl Life {
    /// Records a step, now.
    pub fn step(&self, step: Step, text: &str) {
        self.recorder.record(self.told(step, text));
    }

    pub(super) fn told(&self, step: Step, text: &str) -> Event {
        Event::Lifecycle(Lifecycle { server: self.name.clone(), step, text: text.to_owned() })
    }
}

/// A frozen apiserver. Its kernel still accepts connections and acknowledges data; nobody reads them.
#[must_use = "dropping the guard thaws the apiserver"]
pub struct Frozen {
    life: Life,
    thaw: Box<dyn Fn() + Send + Sync>,
}

impl Apiserver {
    /// An apiserver that has not been started yet. Its log is followed from now on.
    pub(super) fn new(
        life: Life,
        endpoint: Endpoint,
        certificate: String,
        flags: Vec<String>,
        [log, audit_log]: [PathBuf; 2],
        runner: Runner,
    ) -> Self {
        let _signals = lifecycle::follow(life.clone(), log.clone());
        Self { endpoint, certificate, flags, log, audit_log, life, runner, _signals }
    }

    /// `apiserver-0`, ...
    pub fn name(&self) -> &str {
        &self.life.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// Its process id on this machine.
    ///
    /// # Errors
    /// It does not run, or not as a process of ours.
    pub fn pid(&self) -> anyhow::Result<i32> {
        match &self.runner {
            Runner::Process(process) => process.pid(),
            Runner::StaticPod { .. } => bail!("{} is no process of this machine", self.name()),
        }
    }

    /// Starts it; [`Apiserver::ready`] waits for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(&self) -> anyhow::Result<()> {
        match &self.runner {
            Runner::Process(process) => process.start(&self.life).await,
            Runner::StaticPod { pod, .. } => pod.start().await,
        }
    }

    /// From its next start on it is this binary: an upgrade.
    ///
    /// # Errors
    /// It is no process of ours.
    pub fn replace_program(&self, newer: &Path) -> anyhow::Result<()> {
        match &self.runner {
            Runner::Process(process) => process.replace_program(newer),
            Runner::StaticPod { .. } => bail!("the kube-apiserver of a node cannot be upgraded"),
        }
        Ok(())
    }

    /// Waits until /readyz, asked past the balancer, is 200.
    ///
    /// # Errors
    /// The process ended, or the limit passed; with the end of its log.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let mut kept = None;
        let what = format!("{} to be ready", self.name());
        let ready = wait::until(timing::CONTROL_PLANE_READY, &what, async || {
            let ended = match &self.runner {
                Runner::Process(process) => process.ended(),
                // Its kubelet starts it again.
                Runner::StaticPod { .. } => None,
            };
            if let Some(status) = ended {
                return ControlFlow::Break(Err(status));
            }
            readyz(&self.endpoint, &mut kept).await.map_break(Ok)
        });
        let ready = ready.await.with_context(|| self.last_words())?;
        if let Err(status) = ready {
            bail!("{} ended with {status} instead of becoming ready\n{}", self.name(), self.last_words());
        }
        self.life.step(Step::Ready, "");
        Ok(())
    }

    /// Ends the process, gracefully (SIGTERM) or not (SIGKILL), and waits until its end is recorded. A graceful end that takes
    /// longer than `limit`, or than `grace` as a kubelet does it, is cut short by SIGKILL.
    ///
    /// # Errors
    /// It does not run, or does not even die of SIGKILL.
    pub async fn stop(&self, how: Restart, grace: Option<Duration>, limit: Duration) -> anyhow::Result<()> {
        match &self.runner {
            Runner::Process(process) => process.stop(&self.life, how, grace, limit).await,
            // The grace period is in its manifest.
            Runner::StaticPod { pod, .. } => pod.stop(&self.life, how, limit).await,
        }
    }

    /// Kills its node, and everything on it.
    ///
    /// # Errors
    /// It is on none, or Docker refuses.
    pub async fn kill_node(&self) -> anyhow::Result<()> {
        self.on_a_node()?.0.kill_node().await
    }

    /// Starts its node again, and waits until its kubelet has started it.
    ///
    /// # Errors
    /// It is on none, or one of them does not come back.
    pub async fn start_node(&self) -> anyhow::Result<()> {
        let (pod, audits) = self.on_a_node()?;
        pod.start_node().await?;
        audits.begin_again().await
    }

    fn on_a_node(&self) -> anyhow::Result<(&StaticPod, &FileMirror)> {
        match &self.runner {
            Runner::Process(_) => bail!("{} is on no node", self.name()),
            Runner::StaticPod { pod, audits } => Ok((pod, audits)),
        }
    }

    /// Freezes the process (SIGSTOP), or its node where it is on one, until the guard is dropped.
    ///
    /// # Errors
    /// It does not run.
    pub async fn freeze(&self) -> anyhow::Result<Frozen> {
        let thaw = match &self.runner {
            Runner::Process(process) => process.freeze(&self.life).await?,
            Runner::StaticPod { pod, .. } => {
                let fault = Mutex::new(Some(pod.freeze_node().await?));
                Box::new(move || drop(fault.lock().unwrap_or_else(PoisonError::into_inner).take()))
            }
        };
        Ok(Frozen { life: self.life.clone(), thaw })
    }

    /// Waits until its audit log, as we have it, is whole so far.
    ///
    /// # Errors
    /// It does not come: without it nobody knows which requests were received.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let Runner::StaticPod { audits, .. } = &self.runner else { return Ok(()) };
        let mark = format!("rollproof-settled-{}", Moment::now().0);
        let (exchange, _) =
            self.endpoint.exchange(&mut None, &Ask::get("/version", mark.clone(), "rollproof-lab")).await;
        match exchange.failure {
            None => audits.until_it_has(&mark).await,
            // One that did not come back writes nothing more; but nobody knows whether what it had written has come.
            Some(_) => {
                audits.may_lack_the_end();
                Ok(())
            }
        }
    }

    /// Whether its audit log, as we have it, may lack what was written last. Only [`Apiserver::settle`] tells.
    pub fn audit_log_may_lack_the_end(&self) -> bool {
        matches!(&self.runner, Runner::StaticPod { audits, .. } if audits.lacks_the_end())
    }

    /// Says so if nothing more will be heard of it: then the lab is broken, not the subject.
    ///
    /// # Errors
    /// Why.
    pub fn check(&self) -> anyhow::Result<()> {
        match &self.runner {
            Runner::Process(_) => Ok(()),
            Runner::StaticPod { pod, .. } => pod.check(),
        }
    }

    /// How much memory its process holds, in bytes.
    pub fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().ok()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    fn last_words(&self) -> String {
        last_words(self.name(), &self.log)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        (self.thaw)();
        self.life.step(Step::Thawed, "");
    }
}

/// The end of a log, for an error message.
pub fn last_words(name: &str, log: &Path) -> String {
    const LINES: usize = 8;
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end: Vec<&str> = lines[lines.len().saturating_sub(LINES)..].to_vec();
    if end.is_empty() {
        return format!("{name} logged nothing");
    }
    format!("the last lines that {name} logged:\n  {}", end.join("\n  "))
}

/// An apiserver that several actors share.
pub type Shared = Arc<Apiserver>;
