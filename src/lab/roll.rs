//! What a lab does to its apiservers: restarts, one after the other.

use std::ops::ControlFlow;
use std::pin::pin;

use anyhow::Context as _;
use futures::stream::{FuturesUnordered, StreamExt as _, TryStreamExt as _};

use super::control_plane::Apiserver;
use super::http::Ask;
use super::{Lab, wait};
use crate::timeline::{Event, Exchange, Fault, Moment, Restart, Step};
use crate::timing;

impl Lab {
    /// Restarts the apiservers one after the other: the next only when the last is ready, and new connections through the
    /// balancer have met its serving certificate again. One that does not come back ends the roll, and is no error: its fault
    /// stays on, which is for the verdicts to judge.
    ///
    /// # Errors
    /// The lab is broken: the keeper, etcd or the balancer command has ended, or an apiserver cannot be started.
    pub async fn roll(&self, how: Restart) -> anyhow::Result<()> {
        for server in self.servers() {
            if !self.restart(server, how).await? {
                break;
            }
        }
        Ok(())
    }

    /// Restarts one apiserver. False if it did not come back.
    ///
    /// # Errors
    /// As [`Lab::roll`].
    pub async fn restart(&self, server: &Apiserver, how: Restart) -> anyhow::Result<bool> {
        Ok(self.until_ready(server, how).await? && self.until_met(server, how).await?)
    }

    /// Kills the nodes of the apiservers one after the other, with everything on them, and starts each again, the next only when the last
    /// is back as in [`Lab::roll`].
    ///
    /// # Errors
    /// As [`Lab::roll`]; or there are no nodes.
    pub async fn roll_nodes(&self) -> anyhow::Result<()> {
        let how = Restart::Killed;
        for server in self.servers() {
            self.recorder.record(Event::FaultOn(Fault { restart: how, server: server.name().to_owned() }));
            server.kill_node().await?;
            server.start_node().await?;
            if !self.is_back(&server.ready().await)? || !self.until_met(server, how).await? {
                break;
            }
        }
        Ok(())
    }

    /// Restarts the apiservers one after the other, the next as soon as the last is ready: the balancer may not know yet
    /// that the last is back, and think that all are down. One that does not come back ends the roll, as in [`Lab::roll`].
    ///
    /// # Errors
    /// As [`Lab::roll`].
    pub async fn roll_without_a_gap(&self, how: Restart) -> anyhow::Result<()> {
        let mut not_met = FuturesUnordered::new();
        for server in self.servers() {
            let mut restart = pin!(self.until_ready(server, how));
            let ready = loop {
                tokio::select! {
                    ready = &mut restart => break ready?,
                    Some(met) = not_met.next() => drop::<bool>(met?),
                }
            };
            if !ready {
                break;
            }
            not_met.push(self.until_met(server, how));
        }
        not_met.try_for_each(async |_| Ok(())).await
    }

    /// Restarts the apiservers one after the other, gracefully and as [`Lab::roll`] does, each in the newer version.
    ///
    /// # Errors
    /// As [`Lab::roll`]; or the lab was not started in an older version ([`Setup::upgrade_from`]).
    pub async fn upgrade(&self) -> anyhow::Result<()> {
        let newer =
            self.newer.as_ref().context("the lab has no newer version to upgrade to: set Setup::upgrade_from")?;
        for server in self.servers() {
            server.replace_program(newer)?;
            if !self.restart(server, Restart::Graceful).await? {
                break;
            }
        }
        Ok(())
    }

    /// From FaultOn to the first /readyz 200 of the new process. False if that does not come.
    async fn until_ready(&self, server: &Apiserver, how: Restart) -> anyhow::Result<bool> {
        self.recorder.record(Event::FaultOn(Fault { restart: how, server: server.name().to_owned() }));
        let limit = match how {
            Restart::Graceful => self.setup.timers.graceful_stop(),
            Restart::Killed => timing::STRIKE,
        };
        server.stop(how, self.setup.grace_period, limit).await?;
        server.start().await?;
        self.is_back(&server.ready().await)
    }

    /// From there to FaultOff. False if the balancer does not lead to it again.
    async fn until_met(&self, server: &Apiserver, how: Restart) -> anyhow::Result<bool> {
        let back = self.is_back(&self.met_through_balancer(server).await)?;
        if back {
            self.recorder.record(Event::FaultOff(Fault { restart: how, server: server.name().to_owned() }));
        }
        Ok(back)
    }

    /// What a wait for an apiserver has come to; what the lab itself has broken is its error.
    fn is_back(&self, waited: &anyhow::Result<()>) -> anyhow::Result<bool> {
        if waited.is_err() {
            self.check()?;
        }
        Ok(waited.is_ok())
    }

    async fn met_through_balancer(&self, server: &Apiserver) -> anyhow::Result<()> {
        let endpoint = self.through_balancer();
        let limit = timing::back_patience(&self.setup.timers);
        wait::until(limit, &format!("the balancer to lead to {} again", server.name()), async || {
            // A request: a balancer that ends TLS has carried nothing before.
            let ask = Ask::get("/readyz", format!("rollproof-met-{}", Moment::now().0), "rollproof-lab");
            match endpoint.exchange(&mut None, &ask).await.0 {
                Exchange { server: Some(met), .. } if met == server.name() => ControlFlow::Break(()),
                Exchange { failure: Some(failure), phase, .. } => {
                    ControlFlow::Continue(format!("{phase:?}: {}", failure.text))
                }
                Exchange { server: met, .. } => {
                    ControlFlow::Continue(format!("met {}", met.as_deref().unwrap_or("a stranger")))
                }
            }
        })
        .await?;
        server.life.step(Step::MetThroughBalancer, "");
        Ok(())
    }
}
