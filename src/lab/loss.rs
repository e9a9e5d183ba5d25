//! What an apiserver loses on purpose, or gets late: packets between the balancer and it, or its etcd member.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::control_plane::Shared;
use super::control_plane::kind::NodeFault;
use super::network::{BlackHole, Delay};
use super::{Lab, wait};
use crate::timeline::{Call, Event, ListWatch, Loss, Lost, Moment, Recorder, Restart};
use crate::timing;

impl Lab {
    /// Loses packets between the balancer and an apiserver, or makes them late, until the guard is healed or dropped. In a cluster, its node is cut off
    /// from everybody, or the etcd member on it is stopped.
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
                let node = cluster.control_planes().nth(index.into()).context("there is no such node")?;
                Hole::Node(match lost {
                    Lost::Both => node.cut_off().await?,
                    Lost::Etcd => node.stop_etcd().await?,
                    _ => bail!("a node can only be cut off as a whole"),
                })
            }
        };
        self.recorder.record(Event::LossOn(loss.clone()));
        Ok(Losing { hole, loss, recorder: self.recorder.clone() })
    }

    /// Ends an apiserver as a machine ends that loses its power: its packets are lost, then its process is killed. Whoever is connected to it
    /// is sent neither FIN nor RST.
    ///
    /// # Errors
    /// The lab has no namespaces, the kernel refuses, or the process does not run.
    pub async fn unplug(&self, index: u8) -> anyhow::Result<Unplugged> {
        let (server, site) = (self.servers()[usize::from(index)].clone(), self.network.server(index));
        let kernel = site.namespace().context("only an apiserver in a namespace of its own can be unplugged")?;
        // Once is enough: else its kernel would say it again when packets pass, and a machine that was off does not.
        kernel.sysctl("ipv4/tcp_orphan_retries", "1").await?;
        let losing = self.lose(index, Lost::Both).await?;
        server.stop(Restart::Killed, None, timing::STRIKE).await?;
        Ok(Unplugged { losing, server })
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

    /// The apiserver that carries a watch, by number, as its audit log tells. The watch has half of its time before it: until a fault is on,
    /// it will not go elsewhere by itself.
    ///
    /// # Errors
    /// None begins, or no audit log has it.
    pub async fn carrier(&self) -> anyhow::Result<u8> {
        let lasts = self.setup.watch_timeout.unwrap_or(timing::WATCH_TIMEOUT);
        wait::until(lasts + timing::PROBE_READY, "a watch to begin", async || {
            let young = |at: Moment| Moment::now().since(at) < lasts / 2;
            let begun = self.recorder.last(|seen| match &seen.event {
                Event::ListWatch(ListWatch { call: Call::Watch, answer: Ok(200), audit_id, .. }) if young(seen.at) => {
                    Some(audit_id.clone())
                }
                _ => None,
            });
            let Some(audit_id) = begun else { return ControlFlow::Continue("none has".to_owned()) };
            match self.audited_by(&audit_id).await {
                Ok(Some(index)) => ControlFlow::Break(Ok(index)),
                Ok(None) => ControlFlow::Continue(format!("no audit log has {audit_id}")),
                Err(error) => ControlFlow::Break(Err(error)),
            }
        })
        .await?
    }

    async fn audited_by(&self, audit_id: &str) -> anyhow::Result<Option<u8>> {
        for (index, server) in (0..).zip(self.servers()) {
            server.settle().await?;
            if tokio::fs::read_to_string(&server.audit_log).await?.contains(audit_id) {
                return Ok(Some(index));
            }
        }
        Ok(None)
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

/// An apiserver that is dead, and has told nobody.
#[must_use = "dropping the guard ends the loss, and leaves the apiserver dead"]
pub struct Unplugged {
    losing: Losing,
    server: Shared,
}

impl Unplugged {
    /// Starts it again, and has packets pass when it is ready.
    ///
    /// # Errors
    /// It does not become ready, or the kernel refuses.
    pub async fn plug_in(self) -> anyhow::Result<()> {
        self.server.start().await?;
        self.server.ready().await?;
        self.losing.heal().await
    }
}
