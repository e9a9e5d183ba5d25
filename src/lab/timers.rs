//! A second port of the balancer, behind which timer-servers stand instead of apiservers: an apiserver says something every now and
//! then, whatever a scenario wants.

use std::io;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};

use super::balancer::chosen::Balancer;
use super::balancer::{Backend, HealthPolicy, Settings};
use super::keeper::Claim;
use super::network::{self, Network, Site};
use super::{Setup, balancer};
use crate::config::BalancerKind;
use crate::timeline::Recorder;

/// What a timer-server is called in a balancer's observations.
const NAME: &str = "timer-server";

/// That port, and the place behind it.
pub struct TimerPort {
    balancer: Balancer,
    client: Site,
    listener: TcpListener,
    /// How long a connection may be idle there, if the balancer has such a timeout.
    pub idle_timeout: Duration,
    /// The apiserver beside whose address the timer-servers listen.
    pub beside: String,
}

impl TimerPort {
    /// Opens it with the balancer's idle timeout, in a lab that has one or loses packets.
    ///
    /// # Errors
    /// An address is taken, or the balancer cannot have an idle timeout of that kind.
    pub(super) async fn open(
        claim: &Claim,
        setup: &Setup,
        kind: &BalancerKind,
        network: &Network,
        recorder: &Recorder,
        beside: &str,
    ) -> anyhow::Result<Option<Self>> {
        if !setup.captures() {
            return Ok(None);
        }
        let address = network::timer_server(claim.lab);
        let listener = network.server(0).listen(address, balancer::BACKLOG).await;
        let listener = listener.with_context(|| format!("a timer-server cannot listen on {address}"))?;
        let settings = Settings {
            site: network.balancer.clone(),
            listen: network::timer_port(claim.lab),
            health: HealthPolicy::Ignore,
            idle: setup.idle(),
            ..Settings::new(vec![Backend { name: NAME.to_owned(), address }], String::new(), &setup.timers)
        };
        let balancer = Balancer::ours(kind, settings, recorder).await?;
        let (client, idle_timeout) = (network.client.clone(), setup.idle_timeout);
        Ok(Some(Self { balancer, client, listener, idle_timeout, beside: beside.to_owned() }))
    }

    /// A new connection through the balancer: its client's end, and its server's.
    ///
    /// # Errors
    /// It cannot be made: nothing has been disturbed here, so the lab is broken.
    pub async fn connect(&self) -> io::Result<(TcpStream, TcpStream)> {
        let (client, accepted) =
            tokio::try_join!(self.client.connect(self.balancer.address()), self.listener.accept())?;
        Ok((client, accepted.0))
    }

    /// Ends the balancer there.
    pub(super) async fn end(&self) {
        self.balancer.end().await;
    }
}
