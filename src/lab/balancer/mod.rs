//! What stands between clients and apiservers.
//!
//! [`Builtin`] is the suite's own: TCP passthrough, each connection an observation. [`Kernel`] is no proxy: the router between
//! clients and apiservers rewrites addresses. [`product`] runs haproxy, nginx and Envoy. Of a balancer that somebody else
//! brings, [`command`] builds the arguments and the environment, and starts it.

mod builtin;
pub mod chosen;
pub mod command;
mod health;
pub mod kernel;
pub mod product;
mod pump;

pub use builtin::Builtin;
pub use kernel::Kernel;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::lab::network::Site;
use crate::timing::{BALANCER_CONNECT, Timers};

/// Connections that the kernel completes while we have not accepted them yet. More than any lab opens at once: a full
/// backlog would look like an outage of the subject.
pub(super) const BACKLOG: u32 = 1024;

/// One kube-apiserver, as a balancer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name in every observation, for example `apiserver-0`.
    pub name: String,
    /// Where it listens. Its serving certificate is valid for this IP address.
    pub address: SocketAddr,
}

/// Whether the balancer cares how its backends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthPolicy {
    /// New connections go to backends in service only.
    Follow,
    /// Nothing is checked, and every backend is always in service. A control.
    Ignore,
}

/// What becomes of the established connections of a backend that goes out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnhealthy {
    /// They live on: what a passthrough balancer should do, since an apiserver finishes what it has begun.
    Keep,
    /// RST to both sides, at once.
    Reset,
    /// RST to both sides after a drain time, for whoever is still there: AWS's "connection termination on deregistration".
    Drain {
        /// The drain time.
        after: Duration,
    },
    /// FIN to both sides after a drain time, even if the backend is back by then.
    Fin {
        /// The drain time.
        after: Duration,
    },
}

/// What becomes of a connection on which no byte has passed for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleTimeout {
    /// For how long: four minutes in Azure by default, 350 s at an AWS NLB.
    pub after: Duration,
    /// What happens then.
    pub then: OnIdle,
}

/// How a balancer ends an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnIdle {
    /// RST to both sides, as Azure's balancer does it where it is told to ("TCP reset on idle").
    Reset,
    /// FIN to both sides, as proxies do.
    Fin,
    /// Nothing, until somebody speaks: who does gets RST, and the other side learns nothing. As AWS's NLB does it.
    ResetOnUse,
    /// Nothing, to nobody: what is still sent goes nowhere. The worst that can happen to whoever waits. A proxy's kernel goes on
    /// acknowledging bytes and answering keepalive probes, so neither side can ever find out by itself.
    Silent,
}

/// All that [`Builtin`] can be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it stands: its sockets are opened there.
    pub site: Site,
    /// Where to listen. Port 0 takes a free one: [`Builtin::address`] tells which.
    pub listen: SocketAddr,
    /// Whom to carry connections to, in turn.
    pub backends: Vec<Backend>,
    /// Path of the health check, `/readyz`.
    pub readyz: String,
    /// The CA that signed the backends' serving certificates, PEM.
    pub ca_pem: String,
    /// From the start of one health check of a backend to the start of the next.
    pub interval: Duration,
    /// How long a health check may take before it counts as failed.
    pub timeout: Duration,
    /// Failed checks in a row that take a backend out of service.
    pub fall: u32,
    /// Good checks in a row that put it back.
    pub rise: u32,
    /// Whether health is followed.
    pub health: HealthPolicy,
    /// What established connections get when their backend goes out of service.
    pub on_unhealthy: OnUnhealthy,
    /// What becomes of idle connections; `None`: they may be idle for ever.
    pub idle: Option<IdleTimeout>,
    /// How long a backend may take to accept a connection.
    pub connect_timeout: Duration,
    /// Whether a connection that its backend does not accept is offered to the others, once each. A policy that hides
    /// outages from new connections; off unless a scenario names it.
    pub redispatch: bool,
    /// Hairpin: clients that are always carried to one backend, by its name, and whatever its health. A balancer that is no
    /// proxy (GCP's internal one, any that keeps the client's address) sends a node's own connections back to that node.
    pub hairpin: BTreeMap<IpAddr, String>,
    /// Clients whose connections to one backend, by its name, never come about: they are on its node, and a balancer that keeps their address
    /// sends them packets of their own (AWS, "Troubleshoot your Network Load Balancer": requests time out for connections from a target to its
    /// load balancer). [`Kernel`] only.
    pub loops_lost: BTreeMap<IpAddr, String>,
}

impl Settings {
    /// A health-following balancer on a free port of 127.0.0.1, which leaves established connections alone and does not
    /// redispatch.
    pub fn new(backends: Vec<Backend>, ca_pem: String, timers: &Timers) -> Self {
        Self {
            site: Site::default(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            backends,
            readyz: "/readyz".to_owned(),
            ca_pem,
            interval: timers.health_interval,
            timeout: timers.health_timeout,
            fall: timers.health_fall,
            rise: timers.health_rise,
            health: HealthPolicy::Follow,
            on_unhealthy: OnUnhealthy::Keep,
            idle: None,
            connect_timeout: BALANCER_CONNECT,
            redispatch: false,
            hairpin: BTreeMap::new(),
            loops_lost: BTreeMap::new(),
        }
    }
}
