//! Files of a node, copied to this machine as they grow.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use futures::StreamExt as _;
use tokio_util::task::AbortOnDropHandle;

use crate::lab::control_plane::kind::Node;
use crate::lab::wait;
use crate::timing;

/// A file here that grows with files of a node.
#[derive(Clone)]
pub(in crate::lab::control_plane) struct Mirror {
    node: Node,
    copy: PathBuf,
    /// One for each file that was followed; they end with their files, or with the last mirror.
    followers: Arc<Mutex<Vec<AbortOnDropHandle<()>>>>,
}

impl Mirror {
    /// An empty copy.
    ///
    /// # Errors
    /// The copy cannot be made.
    pub(in crate::lab::control_plane) fn new(node: Node, copy: PathBuf) -> anyhow::Result<Self> {
        std::fs::File::create_new(&copy).with_context(|| format!("cannot make {}", copy.display()))?;
        Ok(Self { node, copy, followers: Arc::default() })
    }

    /// Follows the log of a container from its beginning, until its process has ended and all was read.
    pub(super) async fn follow_container(&self, id: &str, pid: u32) -> anyhow::Result<()> {
        // The kubelet links it there, a moment after the start.
        let log = format!("/var/log/containers/*-{id}.log");
        let script =
            "until set -- $0 && [ -e \"$1\" ]; do sleep 0.05; done; exec tail --lines +1 --sleep-interval 0.1 --pid ";
        self.follow(&["sh", "-c", &format!("{script}{pid} --follow=name \"$1\""), &log]).await
    }

    async fn follow(&self, command: &[&str]) -> anyhow::Result<()> {
        let mut lines = self.node.follow(command).await?;
        let mut copy = std::fs::OpenOptions::new().append(true).open(&self.copy)?;
        let follower = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(Ok(mut line)) = lines.next().await {
                line.push('\n');
                if copy.write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
        }));
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).push(follower);
        Ok(())
    }
}

/// A file here that holds what one file of a node has got since it was first looked at.
pub(in crate::lab::control_plane) struct FileMirror {
    mirror: Mirror,
    path: String,
    /// How many bytes were there before.
    before: u64,
    /// Whether its end may not have come.
    lacking: AtomicBool,
}

impl FileMirror {
    /// Follows a file from its end on.
    ///
    /// # Errors
    /// The copy cannot be made, or Docker cannot run the commands.
    pub(in crate::lab::control_plane) async fn new(node: Node, path: String, copy: PathBuf) -> anyhow::Result<Self> {
        const SIZE: &str = "stat --format %s \"$1\" 2>/dev/null || echo 0";
        let size = node.run(&["sh", "-c", SIZE, "size", &path], &[]).await?;
        let before = size.trim().parse().with_context(|| format!("{path} on {node} has the size {size:?}"))?;
        let file = Self { mirror: Mirror::new(node, copy)?, path, before, lacking: AtomicBool::new(false) };
        file.follow().await?;
        Ok(file)
    }

    /// Copies all of it anew: its node was down, and nobody knows how much of it had come.
    ///
    /// # Errors
    /// As [`FileMirror::new`].
    pub(in crate::lab::control_plane) async fn begin_again(&self) -> anyhow::Result<()> {
        self.mirror.followers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        std::fs::File::create(&self.mirror.copy)?;
        self.follow().await
    }

    /// Waits until the copy holds a text.
    ///
    /// # Errors
    /// It does not come within [`timing::MIRRORED`].
    pub(in crate::lab::control_plane) async fn until_it_has(&self, text: &str) -> anyhow::Result<()> {
        let Mirror { node, copy, .. } = &self.mirror;
        let what = format!("{} to be copied from {node}", copy.display());
        wait::until(timing::MIRRORED, &what, async || match std::fs::read_to_string(copy) {
            Ok(copy) if copy.contains(text) => ControlFlow::Break(()),
            Ok(copy) => ControlFlow::Continue(format!("{} bytes so far", copy.len())),
            Err(error) => ControlFlow::Continue(error.to_string()),
        })
        .await?;
        self.lacking.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Says that nobody can tell whether all of it has come.
    pub(in crate::lab::control_plane) fn may_lack_the_end(&self) {
        self.lacking.store(true, Ordering::Relaxed);
    }

    /// Whether nobody can, by what was said last.
    pub(in crate::lab::control_plane) fn lacks_the_end(&self) -> bool {
        self.lacking.load(Ordering::Relaxed)
    }

    async fn follow(&self) -> anyhow::Result<()> {
        let from = format!("+{}", self.before + 1);
        let tail = ["tail", "--bytes", &from, "--follow=name", "--retry", "--sleep-interval", "0.1", &self.path];
        self.mirror.follow(&tail).await
    }
}
