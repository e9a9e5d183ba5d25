//! What a scenario wants of its lab.

use std::time::Duration;

use super::APISERVERS;
use super::balancer::{self, HealthPolicy, IdleTimeout, OnIdle, OnUnhealthy};
use super::control_plane::Flags;
use super::gateway::Remedy;
use crate::config::{BalancerKind, Config, Product};
use crate::timing::{self, Timers};

/// What a scenario wants of its lab.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Timers of apiservers and balancer.
    pub timers: Timers,
    /// Further kube-apiserver flags, by name without dashes.
    pub flags: Vec<(String, String)>,
    /// Whether the balancer follows /readyz.
    pub health: HealthPolicy,
    /// What the balancer asks for to know how a backend is.
    pub health_path: &'static str,
    /// What the balancer does to established connections of an unhealthy backend.
    pub on_unhealthy: OnUnhealthy,
    /// Whether the balancer tries another backend when one refuses.
    pub redispatch: bool,
    /// What the balancer does to idle connections; `None`: nothing.
    pub on_idle: Option<OnIdle>,
    /// How long a connection may be idle, where the balancer does something then.
    pub idle_timeout: Duration,
    /// After how long the balancer does it really, in a control: `None` is as it says.
    pub idle_timeout_kept: Option<Duration>,
    /// How long after SIGTERM a gracefully stopped apiserver is killed, as a kubelet does when the pod's
    /// terminationGracePeriodSeconds are over. `None`: never.
    pub grace_period: Option<Duration>,
    /// Whether the balancer carries clients on an apiserver's node to that apiserver always, whatever its health.
    pub hairpin: bool,
    /// Whether what is carried from an apiserver's node to that same node gets lost, as by a balancer that keeps the client's address and does
    /// not avoid its node.
    pub loops_lost: bool,
    /// Whether the controllers of a cluster go through the balancer in its network, and not, as kubeadm has it, to the apiserver
    /// of their node.
    pub controllers_through_balancer: bool,
    /// How many apiservers the scenario is about; `None` leaves it to `ROLLPROOF_APISERVERS`. Where that says otherwise, the
    /// scenario is skipped: whoever asks for a number means it.
    pub apiservers: Option<usize>,
    /// Whether every part stands in a network namespace of its own, whatever the balancer: then packets can be lost, and are
    /// captured.
    pub namespaces: bool,
    /// Gateways beside the balancer, each with a remedy of its own. It takes [`Setup::namespaces`].
    pub gateways: Vec<Remedy>,
    /// How many workers each of them has.
    pub gateway_workers: u32,
    /// Whether those that are Envoys learn of apiservers by a file, and can be told of others ([`Lab::tell_gateways`](super::Lab::tell_gateways)).
    /// It takes an inotify instance for each of their clusters, and a user has 128 (`fs.inotify.max_user_instances`).
    pub told_of_endpoints: bool,
    /// Of how many apiservers, the last ones, they know nothing until they are told ([`Lab::tell_gateways`](super::Lab::tell_gateways)).
    pub spares: usize,
    /// `net.ipv4.tcp_retries2` where the balancer and the gateways stand; `None`: as the machine has it. It takes
    /// [`Setup::namespaces`].
    pub tcp_retries2: Option<u32>,
    /// Whether the kernel there probes connections as early as gateways do that can say so themselves (`net.ipv4.tcp_keepalive_*`): those of
    /// who cannot, as nginx. It takes [`Setup::namespaces`].
    pub tcp_keepalive: bool,
    /// Whether there is to be a pod that sessions lead into ([`Lab::pod`](super::Lab::pod)).
    pub pods: bool,
    /// Whether quiet sessions through gateways are to be such as well that only listen: `attach` and `logs -f`. For each of them kwok takes one
    /// of the inotify instances that a user may have (`fs.inotify.max_user_instances`: 128), as an Envoy does for each cluster that
    /// is [`Setup::told_of_endpoints`]. It takes [`Setup::pods`].
    pub listeners: bool,
    /// Whether they are to be kubectl's by SPDY as well. It takes [`Setup::pods`].
    pub kubectl: bool,
    /// How long watches ask to last (`timeoutSeconds`); `None` leaves it to the client library.
    pub watch_timeout: Option<Duration>,
    /// How long kube-rs waits for bytes on any connection; `None`: for ever, as it does by default.
    pub read_timeout: Option<Duration>,
    /// The version that the apiservers are started in, for [`Lab::upgrade`] to the configured one.
    pub upgrade_from: Option<&'static str>,
    /// The timers that the apiservers have already, as the cluster was made; `None`: they are started with ours.
    pub given: Option<Timers>,
}

impl Setup {
    /// The lab that a careful platform team would run: a health-following balancer, and a delay longer than its detection.
    pub fn careful(config: &Config) -> Self {
        Self {
            timers: Timers::of(config.profile),
            flags: Vec::new(),
            health: HealthPolicy::Follow,
            health_path: "/readyz",
            on_unhealthy: OnUnhealthy::Keep,
            redispatch: false,
            on_idle: None,
            idle_timeout: timing::idle_timeout(config.profile),
            idle_timeout_kept: None,
            grace_period: None,
            hairpin: false,
            loops_lost: false,
            controllers_through_balancer: false,
            apiservers: None,
            namespaces: false,
            gateways: Vec::new(),
            gateway_workers: 1,
            told_of_endpoints: false,
            spares: 0,
            tcp_retries2: None,
            tcp_keepalive: false,
            pods: false,
            listeners: false,
            kubectl: false,
            watch_timeout: None,
            read_timeout: None,
            upgrade_from: None,
            given: None,
        }
    }

    /// The flags that make apiservers what it wants.
    pub(super) fn kube_apiserver_flags(&self) -> Flags {
        let mut flags = match &self.given {
            None => Flags::of(&self.timers),
            Some(given) => Flags::changed(given, &self.timers),
        };
        for (name, value) in &self.flags {
            flags.set(name, value);
        }
        flags
    }

    /// How long a quiet session is silent: longer than every timer that could take it for dead.
    pub fn quiet(&self) -> Duration {
        let Timers { shutdown_delay, watch_termination_grace, .. } = self.timers;
        let idle = self.on_idle.map_or(Duration::ZERO, |_| self.idle_timeout);
        shutdown_delay.max(watch_termination_grace).max(self.timers.detection()).max(idle) + timing::CLOSE_NOTICED
    }

    /// How many apiservers there are to be.
    pub fn apiservers(&self, config: &Config) -> usize {
        self.apiservers.or(config.apiservers).unwrap_or(APISERVERS)
    }

    /// Sets a kube-apiserver flag, by name without dashes.
    pub fn flag(&mut self, name: &str, value: &str) {
        self.flags.push((name.to_owned(), value.to_owned()));
    }

    /// How long a client may take to notice that its apiserver is silently lost.
    pub fn loss_noticed(&self) -> Duration {
        timing::loss_noticed(self.watch_timeout.unwrap_or(timing::WATCH_TIMEOUT))
    }

    /// [`Setup::watch_timeout`] as the API has it, in whole seconds.
    pub fn watch_seconds(&self) -> Option<u32> {
        self.watch_timeout.map(|timeout| timeout.as_secs() as u32)
    }

    /// What becomes of idle connections.
    pub fn idle(&self) -> Option<IdleTimeout> {
        let after = self.idle_timeout_kept.unwrap_or(self.idle_timeout);
        self.on_idle.map(|then| IdleTimeout { after, then })
    }

    /// Whether it asks the balancer for a policy that only the suite's own is known to have.
    pub fn sets_policies(&self) -> bool {
        let rise = self.timers.health_rise != timing::HEALTH_RISE;
        let carries = self.hairpin || self.loops_lost || self.redispatch || self.on_unhealthy != OnUnhealthy::Keep;
        carries || rise || self.on_idle.is_some() || self.namespaces
    }

    /// Whether Istio configures one of its gateways.
    pub fn wants_istio(&self) -> bool {
        self.gateways.iter().any(|remedy| remedy.by_istio().is_some())
    }

    /// Whether segments are captured, where that is possible: where a scenario is about what passes the wire.
    pub fn captures(&self) -> bool {
        self.on_idle.is_some() || self.namespaces
    }

    /// Whether a balancer has all the policies that it asks for.
    pub fn suits(&self, balancer: &BalancerKind) -> bool {
        match balancer {
            // A proxy has its own address.
            BalancerKind::Builtin => !self.loops_lost,
            BalancerKind::Kernel => {
                // It forwards, and says nothing of its own but RST.
                let farewell =
                    matches!(self.on_unhealthy, OnUnhealthy::Fin { .. }) || self.on_idle == Some(OnIdle::Fin);
                !self.redispatch && !farewell
            }
            BalancerKind::Product(product) => {
                !self.namespaces && !self.loops_lost && balancer::product::suits(*product, self)
            }
            // As a gateway, haproxy can be told what Envoy can.
            BalancerKind::HaproxyHttp => self.suits(&BalancerKind::Product(Product::Envoy)),
            BalancerKind::Envoy(_) | BalancerKind::Command(_) => !self.sets_policies(),
        }
    }
}
