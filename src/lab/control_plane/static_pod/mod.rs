//! An apiserver as a static pod: the kubelet of its node runs it, stops it when its manifest changes, and starts it again
//! when it has died.
//!
//! What becomes of it we read from the node: containerd tells of starts and ends, the kubelet of its SIGTERMs, and the logs
//! are copied to this machine as they grow.

pub mod containerd;
pub mod journal;
pub mod manifest;
mod mirror;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::apiserver::Life;
use super::kind::{Node, NodeFault};
use crate::timeline::{Restart, Step};
use crate::timing;

use containerd::Seen;
use manifest::Manifest;
pub(super) use mirror::{FileMirror, Mirror};

/// The image of a kube-apiserver, whatever registry and version.
const IMAGE: &str = "/kube-apiserver:";

/// How its kubelet is made to restart it, and what runs.
pub(super) struct StaticPod {
    node: Node,
    life: Life,
    log: Mirror,
    manifest: Mutex<Manifest>,
    running: watch::Sender<Running>,
    followers: Mutex<Vec<AbortOnDropHandle<()>>>,
}

/// The container that runs, or the last one that did.
#[derive(Clone, Debug, Default)]
struct Running {
    id: String,
    /// On the node; `None` once it has ended.
    pid: Option<u32>,
    /// Why nothing more will be heard of it.
    lost: Option<Arc<str>>,
}

impl StaticPod {
    /// Follows the kube-apiserver that runs on a node.
    ///
    /// # Errors
    /// None runs, or the node has another kernel than this machine.
    pub(super) async fn follow(node: Node, life: Life, log: Mirror) -> anyhow::Result<Self> {
        let ours = std::fs::read_to_string(journal::BOOT_ID)?;
        ensure!(
            node.read(journal::BOOT_ID).await? == ours,
            "{node} does not run on this machine's kernel, so its clock is another: use a Docker engine of this machine"
        );
        let manifest = Manifest::parse(&node.read(manifest::PATH).await?).with_context(|| manifest::PATH.to_owned())?;
        let (running, followers) = (watch::Sender::default(), Mutex::default());
        let pod = Self { node, life, log, manifest: Mutex::new(manifest), running, followers };
        let (id, pid) = pod.attach().await?.with_context(|| format!("no kube-apiserver runs on {}", pod.node))?;
        pod.log.follow_container(&id, pid).await?;
        pod.running.send_replace(Running { id, pid: Some(pid), lost: None });
        Ok(pod)
    }

    /// Follows what the node tells from now on. Returns the container that runs, and its process.
    async fn attach(&self) -> anyhow::Result<Option<(String, u32)>> {
        // First the events, then the state: nothing falls between.
        let mut events = self.node.follow(containerd::EVENTS).await?;
        let mut journal = self.node.follow(journal::FOLLOW).await?;
        let found = containerd::running(&self.node.run(containerd::RUNNING, &[]).await?);

        let (witness, from, log, tell) = (self.life.clone(), self.node.clone(), self.log.clone(), self.running.clone());
        let containers = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut made = String::new();
            while let Some(Ok(line)) = events.next().await {
                match containerd::seen(&line) {
                    Some(Seen::Created { id, image }) if image.contains(IMAGE) => made = id,
                    Some(Seen::Started { id, pid }) if id == made => started(&witness, &log, &tell, id, pid).await,
                    Some(Seen::Exited { id, status }) if id == tell.borrow().id => {
                        witness.step(Step::Exited, &containerd::status(status));
                        tell.send_modify(|running| running.pid = None);
                    }
                    _ => {}
                }
            }
            tell.send_modify(|running| running.lost = Some(format!("containerd of {from} tells nothing more").into()));
        }));
        let life = self.life.clone();
        let signals = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(Ok(line)) = journal.next().await {
                if let Some((at, text)) = journal::stopping(&line) {
                    life.recorder.record_at(at, life.told(Step::TermSent, &text));
                }
            }
        }));
        *self.followers() = vec![containers, signals];
        Ok(found)
    }

    /// Says so if nothing more will be heard of it.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.running.borrow().lost.as_ref().map_or(Ok(()), |lost| Err(anyhow!("{lost}")))
    }

    /// The manifest in force.
    pub(super) fn manifest(&self) -> Manifest {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another manifest in force, and waits until the old process has ended and a new one was started, if the kubelet
    /// has to restart it for that.
    pub(super) async fn replace_manifest(&self, wanted: Manifest) -> anyhow::Result<()> {
        if wanted.runs_as(&self.manifest()) {
            return Ok(());
        }
        let before = self.running.borrow().id.clone();
        self.put(wanted).await?;
        self.ended(&before, timing::MANIFEST_REPLACED).await?;
        self.started_after(&before).await
    }

    /// Ends the process, and waits for its end: gracefully by changing the manifest, or by SIGKILL.
    pub(super) async fn stop(&self, life: &Life, how: Restart, limit: Duration) -> anyhow::Result<()> {
        let Running { id, pid, .. } = self.running.borrow().clone();
        let pid = pid.with_context(|| format!("no kube-apiserver runs on {}", self.node))?;
        match how {
            Restart::Graceful => {
                let mut manifest = self.manifest();
                manifest.roll(&id);
                self.put(manifest).await?;
            }
            Restart::Killed => {
                life.step(Step::KillSent, "");
                self.node.run(&["kill", "-KILL", &pid.to_string()], &[]).await?;
            }
        }
        self.ended(&id, limit + timing::KUBELET_ACTS).await
    }

    /// Waits until the kubelet has started it again.
    pub(super) async fn start(&self) -> anyhow::Result<()> {
        let Running { id, pid, .. } = self.running.borrow().clone();
        if pid.is_some() { Ok(()) } else { self.started_after(&id).await }
    }

    /// Kills the node, and everything on it.
    pub(super) async fn kill_node(&self) -> anyhow::Result<()> {
        // They would take its end for a broken lab.
        self.followers().clear();
        self.life.step(Step::KillSent, "with its node");
        self.node.kill().await?;
        self.life.step(Step::Exited, "signal 9, with its node");
        self.running.send_modify(|running| running.pid = None);
        Ok(())
    }

    /// Starts the node again, and waits until its kubelet has started the kube-apiserver.
    pub(super) async fn start_node(&self) -> anyhow::Result<()> {
        let before = self.running.borrow().id.clone();
        self.node.start().await?;
        self.node.until_up().await?;
        if let Some((id, pid)) = self.attach().await? {
            started(&self.life, &self.log, &self.running, id, pid).await;
        }
        self.started_after(&before).await
    }

    /// Freezes the node, and everything on it.
    pub(super) async fn freeze_node(&self) -> anyhow::Result<NodeFault> {
        self.life.step(Step::Frozen, "with its node");
        self.node.freeze().await
    }

    async fn put(&self, manifest: Manifest) -> anyhow::Result<()> {
        self.node.write(manifest::PATH, "600", manifest.text().as_bytes()).await?;
        *self.manifest.lock().unwrap_or_else(PoisonError::into_inner) = manifest;
        Ok(())
    }

    async fn ended(&self, id: &str, limit: Duration) -> anyhow::Result<()> {
        let over = |running: &Running| running.id != id || running.pid.is_none();
        self.wait(limit, "to end", over).await
    }

    async fn started_after(&self, id: &str) -> anyhow::Result<()> {
        let started = |running: &Running| running.id != id && running.pid.is_some();
        self.wait(timing::KUBELET_RESTARTS, "to be started again by its kubelet", started).await
    }

    async fn wait(&self, limit: Duration, what: &str, done: impl Fn(&Running) -> bool) -> anyhow::Result<()> {
        let mut running = self.running.subscribe();
        let reached = running.wait_for(|running| running.lost.is_some() || done(running));
        match tokio::time::timeout(limit, reached).await {
            Ok(Ok(running)) if done(&running) => Ok(()),
            Ok(Ok(running)) => bail!("{}", running.lost.as_deref().unwrap_or_default()),
            Ok(Err(_)) => bail!("nobody follows the containers of {} any more", self.node),
            Err(_) => bail!("waited {limit:?} for the kube-apiserver on {} {what}", self.node),
        }
    }

    fn followers(&self) -> MutexGuard<'_, Vec<AbortOnDropHandle<()>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A container was started; that may be told twice.
async fn started(life: &Life, log: &Mirror, tell: &watch::Sender<Running>, id: String, pid: u32) {
    let is_news = tell.send_if_modified(|running| {
        let is_news = running.id != id;
        if is_news {
            *running = Running { id: id.clone(), pid: Some(pid), lost: None };
        }
        is_news
    });
    if !is_news {
        return;
    }
    life.step(Step::Started, "");
    // Without its log there are no signals, which the verdicts will notice.
    let _ = log.follow_container(&id, pid).await;
}
