//! One kube-apiserver as a process: its flags, its restarts, its lifecycle on the recording's clock.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use tokio_util::task::AbortOnDropHandle;

use super::lifecycle;
use crate::lab::http::{Ask, Endpoint};
use crate::lab::keeper::{Child, Exit, Keeper, Program};
use crate::lab::wait;
use crate::timeline::{Event, Lifecycle, Recorder, Restart, Step};
use crate::timing;

/// A kube-apiserver that can be restarted under the same identity: address, certificate, flags, logs.
pub struct Apiserver {
    /// `apiserver-0`, ...
    pub name: String,
    /// Past the balancer, as an administrator.
    pub endpoint: Endpoint,
    /// SHA-256 of its serving certificate, hex.
    pub certificate: String,
    /// How it is started.
    pub program: Program,
    /// Its audit log.
    pub audit_log: PathBuf,
    /// Which binary the next start executes, if not `program`'s.
    newer: Mutex<Option<PathBuf>>,
    keeper: Keeper,
    recorder: Recorder,
    running: Mutex<Option<Running>>,
    _signals: AbortOnDropHandle<()>,
}

struct Running {
    child: Child,
    /// Records the end of the process, whoever caused it.
    exit_recorder: AbortOnDropHandle<()>,
}

/// A frozen apiserver. Its kernel still accepts connections and acknowledges data; nobody reads them.
#[must_use = "dropping the guard thaws the apiserver"]
pub struct Frozen {
    name: String,
    child: Child,
    recorder: Recorder,
}

impl Apiserver {
    /// An apiserver that has not been started yet. Its log is followed from now on.
    pub fn new(
        name: String,
        endpoint: Endpoint,
        certificate: String,
        program: Program,
        audit_log: PathBuf,
        keeper: Keeper,
        recorder: Recorder,
    ) -> Self {
        let _signals = lifecycle::follow(name.clone(), program.log.clone(), recorder.clone());
        let running = Mutex::new(None);
        let newer = Mutex::new(None);
        Self { name, endpoint, certificate, program, audit_log, newer, keeper, recorder, running, _signals }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// Its process id.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> anyhow::Result<i32> {
        Ok(self.child()?.pid())
    }

    /// Starts the process; [`Apiserver::ready`] waits for it.
    ///
    /// # Errors
    /// It cannot be executed.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.step(Step::Started, "");
        let mut program = self.program.clone();
        if let Some(newer) = self.newer.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            program.program = newer;
        }
        let child = self.keeper.spawn(program).await?;
        let (recorder, name, watched) = (self.recorder.clone(), self.name.clone(), child.clone());
        let exit_recorder = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Ok(Exit { at, status }) = watched.exited().await {
                let exited = Lifecycle { server: name, step: Step::Exited, text: status };
                recorder.record_at(at, Event::Lifecycle(exited));
            }
        }));
        *self.running() = Some(Running { child, exit_recorder });
        Ok(())
    }

    /// From its next start on it is this binary: an upgrade.
    pub fn replace_program(&self, newer: &std::path::Path) {
        *self.newer.lock().unwrap_or_else(PoisonError::into_inner) = Some(newer.to_owned());
    }

    /// Waits until /readyz, asked past the balancer, is 200.
    ///
    /// # Errors
    /// The process ended, or the limit passed; with the end of its log.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let child = self.child()?;
        let mut kept = None;
        let what = format!("{} to be ready", self.name);
        let ready = wait::until(timing::CONTROL_PLANE_READY, &what, async || {
            if let Some(exit) = child.exit() {
                return ControlFlow::Break(Err(exit));
            }
            let ask = Ask::get("/readyz", String::new(), "rollproof-lab");
            let (exchange, _) = self.endpoint.exchange(&mut kept, &ask).await;
            match (exchange.status, exchange.failure) {
                (Some(200), None) => ControlFlow::Break(Ok(())),
                (_, Some(failure)) => ControlFlow::Continue(failure.text),
                (status, None) => ControlFlow::Continue(format!("/readyz answers {}", status.unwrap_or(0))),
            }
        });
        let ready = ready.await.with_context(|| self.last_words())?;
        if let Err(exit) = ready {
            bail!("{} ended with {} instead of becoming ready\n{}", self.name, exit.status, self.last_words());
        }
        self.step(Step::Ready, "");
        Ok(())
    }

    /// Ends the process, gracefully (SIGTERM) or not (SIGKILL), and waits until its end is recorded. A graceful end that takes
    /// longer than `limit`, or than `grace` as a kubelet does it, is cut short by SIGKILL.
    ///
    /// # Errors
    /// It does not run, or does not even die of SIGKILL.
    pub async fn stop(&self, how: Restart, grace: Option<Duration>, limit: Duration) -> anyhow::Result<()> {
        let running = self.running().take();
        let Running { child, exit_recorder } = running.with_context(|| format!("{} does not run", self.name))?;
        let (signal, step) = match how {
            Restart::Graceful => (Signal::TERM, Step::TermSent),
            Restart::Killed => (Signal::KILL, Step::KillSent),
        };
        self.step(step, "");
        child.signal(signal).await?;
        let grace = grace.filter(|grace| how == Restart::Graceful && *grace < limit);
        let mut exit_recorder = exit_recorder;
        if tokio::time::timeout(grace.unwrap_or(limit), &mut exit_recorder).await.is_err() {
            // A kubelet's patience has an end too. That it came to this is in the recording.
            self.step(Step::KillSent, grace.map_or("", |_| "the grace period is over"));
            child.signal(Signal::KILL).await?;
            let recorded = tokio::time::timeout(timing::STRIKE, exit_recorder).await;
            recorded.with_context(|| format!("{} has not ended {:?} after SIGKILL", self.name, timing::STRIKE))??;
        }
        // Else the exit recorder ended because the keeper did.
        child.exited().await.map(|_| ())
    }

    /// Freezes the process (SIGSTOP) until the guard is dropped.
    ///
    /// # Errors
    /// It does not run.
    pub async fn freeze(&self) -> anyhow::Result<Frozen> {
        let child = self.child()?;
        self.step(Step::Frozen, "");
        child.signal(Signal::STOP).await?;
        Ok(Frozen { name: self.name.clone(), child, recorder: self.recorder.clone() })
    }

    /// Records a step in its life.
    pub fn step(&self, step: Step, text: &str) {
        self.recorder.record(Event::Lifecycle(Lifecycle { server: self.name.clone(), step, text: text.to_owned() }));
    }

    /// How much memory its process holds, in bytes.
    pub fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child().ok()?.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    fn child(&self) -> anyhow::Result<Child> {
        let running = self.running();
        running
            .as_ref()
            .map(|running| running.child.clone())
            .with_context(|| format!("{} was never started", self.name))
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_words(&self) -> String {
        last_words(&self.name, &self.program.log)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.child.signal_soon(Signal::CONT);
        let thawed = Lifecycle { server: self.name.clone(), step: Step::Thawed, text: String::new() };
        self.recorder.record(Event::Lifecycle(thawed));
    }
}

/// The end of a log, for an error message.
pub fn last_words(name: &str, log: &std::path::Path) -> String {
    const LINES: usize = 8;
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end: Vec<&str> = lines[lines.len().saturating_sub(LINES)..].to_vec();
    if end.is_empty() {
        return format!("{name} logged nothing");
    }
    format!("the last lines that {name} logged:\n  {}", end.join("\n  "))
}

/// The flags of one apiserver; see [`super::Flags`] for those that scenarios set.
pub(super) struct Place<'a> {
    pub(super) etcd: SocketAddr,
    pub(super) listen: SocketAddr,
    pub(super) advertise: std::net::IpAddr,
    pub(super) folder: &'a std::path::Path,
    pub(super) certificate: &'a super::pki::Identity,
    pub(super) ca: PathBuf,
    pub(super) service_account: &'a (PathBuf, PathBuf),
    pub(super) tokens: PathBuf,
    pub(super) audit_policy: PathBuf,
}

impl Place<'_> {
    pub(super) fn flags(&self, flags: &super::Flags) -> Vec<String> {
        let path = |path: &std::path::Path| path.display().to_string();
        let (private, public) = self.service_account;
        let mut all = vec![
            format!("--etcd-servers=http://{}", self.etcd),
            format!("--bind-address={}", self.listen.ip()),
            format!("--secure-port={}", self.listen.port()),
            format!("--advertise-address={}", self.advertise),
            format!("--cert-dir={}", path(self.folder)),
            format!("--tls-cert-file={}", path(&self.certificate.certificate_file)),
            format!("--tls-private-key-file={}", path(&self.certificate.key_file)),
            format!("--client-ca-file={}", path(&self.ca)),
            format!("--token-auth-file={}", path(&self.tokens)),
            format!("--service-account-key-file={}", path(public)),
            format!("--service-account-signing-key-file={}", path(private)),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--audit-policy-file={}", path(&self.audit_policy)),
            format!("--audit-log-path={}", path(&self.folder.join("audit.log"))),
            // Rotation would drop what a recording is joined with. MiB.
            "--audit-log-maxsize=100000".to_owned(),
        ];
        all.extend(flags.iter().map(|(name, value)| format!("--{name}={value}")));
        all
    }
}

/// An apiserver that several actors share.
pub type Shared = Arc<Apiserver>;
