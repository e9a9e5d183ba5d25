//! A product in a container of a cluster's network, where its nodes have their balancer too.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Context as _;

use super::super::command::serves;
use crate::lab::control_plane::kind::{Beside, Cluster, Node};
use crate::lab::http::Endpoint;
use crate::lab::keeper::{Claim, Keeper};
use crate::lab::wait;
use crate::timing;

/// The folder for a product's files in its container: everybody may write there.
pub(super) const FOLDER: &str = "/tmp";

/// A container at work.
pub(super) struct Contained {
    node: Node,
    address: SocketAddr,
    log: PathBuf,
}

impl Contained {
    /// Starts one that listens on this port.
    ///
    /// # Errors
    /// There is no such image, or Docker refuses.
    pub(super) async fn start(
        keeper: &Keeper,
        claim: &Claim,
        cluster: &Cluster,
        beside: Beside<'_>,
        port: u16,
    ) -> anyhow::Result<Self> {
        keeper.has_containers(claim.lab).await?;
        let node = cluster.start_beside(claim, beside).await.context("cannot start the balancer")?;
        Ok(Self { address: SocketAddr::new(node.address, port), node, log: claim.folder.join("balancer.log") })
    }

    /// Waits until a request through it is served.
    ///
    /// # Errors
    /// It ended, or served nothing in time; with the end of what it printed.
    pub(super) async fn ready(&self, through: &Endpoint) -> anyhow::Result<()> {
        let what = format!("a request to be served through {}", self.node);
        let ready = wait::until(timing::BALANCER_READY, &what, async || match self.node.expect_running().await {
            Err(ended) => ControlFlow::Break(Err(ended)),
            Ok(()) => serves(through).await.map_break(Ok),
        });
        match ready.await.flatten() {
            Ok(()) => Ok(()),
            Err(error) => {
                Err(error.context(format!("the last that {} said:\n{}", self.node, self.node.last_log().await)))
            }
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has printed, once it was ended.
    pub(super) fn log(&self) -> Option<PathBuf> {
        self.log.exists().then(|| self.log.clone())
    }

    /// Says so if it has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.node.check_running()
    }

    /// Asks it to end, and keeps what it has printed.
    pub(super) async fn end(&self) {
        // Evidence beside the recording: no verdict depends on it.
        let _ = self.node.stop().await;
        let _ = tokio::fs::write(&self.log, self.node.whole_log().await).await;
    }
}
