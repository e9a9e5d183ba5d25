//! Packets that get lost, or late, on purpose, between the balancer and an apiserver.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::control_plane::kind::NodeFault;
use super::network::{BlackHole, Delay};
use super::{Lab, wait};
use crate::timeline::{Event, Loss, Lost, Recorder};
use crate::timing;

impl Lab {
    /// Loses packets between the balancer and an apiserver, or makes them late, until the guard is healed or dropped. In a cluster, its node is cut off
    /// from everybody.
    ///
    /// # Errors
    /// The lab has no namespaces ([`Setup::namespaces`]) and no nodes, the kernel refuses, or a node is to lose only some packets.
    pub async fn lose(&self, index: u8, lost: Lost) -> anyhow::Result<Losing> {
        let loss = Loss { server: self.servers()[usize::from(index)].name().to_owned(), lost };
        let hole = match self.control_plane.cluster() {
            None => match lost {
                Lost::LateMs(late) => Hole::Late(self.network.delay(index, Duration::from_millis(late.into())).await?),
                _ => Hole::Packets(self.network.black_hole(index, lost).await?),
            },
            Some(cluster) => {
                ensure!(lost == Lost::Both, "a node can only be cut off as a whole");
                let node = cluster.control_planes().nth(index.into()).context("there is no such node")?;
                Hole::Node(node.cut_off().await?)
            }
        };
        self.recorder.record(Event::LossOn(loss.clone()));
        Ok(Losing { hole, loss, recorder: self.recorder.clone() })
    }

    /// Returns when the balancer has taken an apiserver out of service, or put it back. It takes one of the suite's own balancers, which
    /// record it.
    ///
    /// # Errors
    /// It does not within the time that a restarted apiserver would be given.
    pub async fn until_in_service(&self, index: u8, in_service: bool) -> anyhow::Result<()> {
        let name = self.servers()[usize::from(index)].name();
        let what = format!("the balancer to find {name} {}healthy", if in_service { "" } else { "un" });
        wait::until(timing::back_patience(&self.setup.timers), &what, async || {
            let last = self.recorder.last(|seen| match &seen.event {
                Event::BackendHealth(health) if health.server == name => Some(health.clone()),
                _ => None,
            });
            match last {
                Some(health) if health.healthy == in_service => ControlFlow::Break(()),
                last => ControlFlow::Continue(last.map_or_else(|| "no opinion".to_owned(), |health| health.why)),
            }
        })
        .await?;
        self.balancer.applied().await;
        Ok(())
    }

    /// How long a client here may take to notice that its apiserver is silently lost.
    pub fn loss_noticed(&self) -> Duration {
        self.setup.loss_noticed()
    }
}

/// Packets that get lost until this is healed, or dropped.
#[must_use = "dropping the guard ends the fault"]
pub struct Losing {
    hole: Hole,
    loss: Loss,
    recorder: Recorder,
}

/// Where they get lost.
enum Hole {
    Packets(BlackHole),
    Late(Delay),
    Node(NodeFault),
}

impl Losing {
    /// Ends the loss, and returns when it has ended.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn heal(self) -> anyhow::Result<()> {
        match self.hole {
            Hole::Packets(hole) => hole.heal().await?,
            Hole::Late(delay) => delay.heal().await?,
            Hole::Node(node) => node.heal().await?,
        }
        self.recorder.record(Event::LossOff(self.loss));
        Ok(())
    }
}
