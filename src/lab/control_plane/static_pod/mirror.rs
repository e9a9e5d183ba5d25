//! Files of a node, copied to this machine as they grow.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
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

    /// Follows a file from its end on.
    ///
    /// # Errors
    /// Docker cannot run the command.
    pub(in crate::lab::control_plane) async fn follow_file(&self, path: &str) -> anyhow::Result<()> {
        self.follow(&["tail", "--lines", "0", "--follow=name", "--retry", "--sleep-interval", "0.1", path]).await
    }

    /// Waits until the copy holds a text.
    ///
    /// # Errors
    /// It does not come within [`timing::MIRRORED`].
    pub(in crate::lab::control_plane) async fn until_it_has(&self, text: &str) -> anyhow::Result<()> {
        let what = format!("{} to be copied from {}", self.copy.display(), self.node);
        wait::until(timing::MIRRORED, &what, async || match std::fs::read_to_string(&self.copy) {
            Ok(copy) if copy.contains(text) => ControlFlow::Break(()),
            Ok(copy) => ControlFlow::Continue(format!("{} bytes so far", copy.len())),
            Err(error) => ControlFlow::Continue(error.to_string()),
        })
        .await
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
