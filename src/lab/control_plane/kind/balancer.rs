//! The balancer inside the cluster's network, which kubelets, controllers and further control planes go through: haproxy, as
//! kind had it before Envoy. Official images, and ours, read this file.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::container::APISERVER_PORT;
use crate::timing;

/// What the balancer in the cluster asks apiservers for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// /readyz: a stopping apiserver says at once that it wants no new connections.
    #[default]
    Readyz,
    /// /healthz, as kind's own balancer does: it passes until the listener is closed. A negative control.
    Healthz,
}

impl Health {
    const fn path(self) -> &'static str {
        match self {
            Self::Readyz => "/readyz",
            Self::Healthz => "/healthz",
        }
    }
}

/// haproxy's configuration for these control planes, by name and address. Established connections are left alone when their
/// apiserver turns unhealthy: it ends them itself, when it has finished with them.
///
/// Certificates are not verified in health checks: the cluster's CA does not exist yet when the balancer starts, and clients
/// verify through it themselves.
pub fn configuration(control_planes: &[(String, IpAddr)], health: Health) -> String {
    let mut text = format!(
        "global
  log stdout format raw local0
  maxconn 4096
defaults
  mode tcp
  log global
  option dontlognull
  option log-health-checks
  timeout connect {connect}ms
  timeout client {idle}ms
  timeout server {idle}ms
  timeout check {check}ms
frontend apiservers
  bind :{APISERVER_PORT}
  default_backend apiservers
backend apiservers
  balance roundrobin
  option httpchk GET {path}
",
        connect = timing::BALANCER_CONNECT.as_millis(),
        idle = timing::COMMAND_IDLE_TIMEOUT.as_millis(),
        check = timing::NODE_HEALTH_EVERY.as_millis(),
        path = health.path(),
    );
    for (name, address) in control_planes {
        let every = timing::NODE_HEALTH_EVERY.as_millis();
        let _ = writeln!(
            text,
            "  server {name} {address}:{APISERVER_PORT} check check-ssl verify none inter {every}ms fall {} rise {}",
            timing::HEALTH_FALL,
            1,
        );
    }
    text
}
