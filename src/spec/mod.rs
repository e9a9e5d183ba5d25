//! The requirements, as data: one normative sentence each, with a stable id.
//!
//! The order of a family is its numbering; ids are never used again for something else. `REQUIREMENTS.md` is generated
//! from here (`rollproof list --markdown`) and checked by the suite's own tests.

pub mod balancer;
pub mod cluster;
pub mod excuse;
pub mod gateway;
pub mod idle;
pub mod lost;
pub mod rollout;
pub mod session;
pub mod watch;

use std::fmt;

/// One normative sentence about watches, requests, apiservers or balancers.
#[derive(Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Stable id, for example `WATCH-1`.
    pub id: &'static str,
    /// How binding it is.
    pub level: Level,
    /// Its name in a word or two, for tables.
    pub title: &'static str,
    /// The sentence.
    pub sentence: &'static str,
    /// Where it comes from: KEP, RFC, field report, documentation, or a file of the apiserver.
    pub source: &'static str,
    /// What a lab has to offer for the requirement to be judged there.
    pub needs: &'static [Need],
    /// What to look at first where it is violated.
    pub remedy: &'static str,
}

/// RFC 2119 levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Not negotiable.
    Must,
    /// There may be reasons to deviate.
    Should,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        })
    }
}

/// What a scenario or a requirement needs of the lab or the machine. Where it is missing, the scenario is skipped with
/// the reason; `ROLLPROOF_REQUIRE` makes that an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// Apiservers that may be restarted at will.
    RestartableServers,
    /// More than one apiserver: with one, no balancer can bridge its restart.
    SeveralServers,
    /// The apiservers can be asked past the balancer.
    DirectAccess,
    /// The apiservers' logs can be read.
    ServerLogs,
    /// The balancer can be told to ignore health.
    BalancerIgnoresHealth,
    /// The balancer is known to fail a client's connection when its backend refuses, and not to try again. One that does
    /// turns an outage into a wait, and a control that breaks something has nothing to find.
    BalancerWithoutRetry,
    /// The balancer passes packets on and is no proxy, whose kernel would answer in the place of a lost apiserver's.
    BalancerForwards,
    /// Network namespaces can be made, and nftables rules in them.
    Namespaces,
    /// Packets between namespaces can be held back: iptables, and NFQUEUE in the kernel.
    Delay,
    /// The balancer's policies can be set: hairpin, what unhealthy backends' connections get, redispatch. Needed by every
    /// scenario whose lab sets one of them.
    BalancerPolicies,
    /// A Docker engine answers, and may be used.
    Docker,
    /// Nodes and controllers are clients of the apiservers, as in every cluster.
    Nodes,
    /// Envoy is there, or can be downloaded.
    Envoy,
    /// Istio's control plane is there, or can be built. Needed by every scenario in whose lab it configures a gateway.
    Istio,
    /// There can be a pod that sessions lead into: of a real kubelet, or of its stand-in.
    Pods,
    /// haproxy is installed.
    Haproxy,
    /// nginx is installed.
    Nginx,
    /// kubectl is there, or can be downloaded or built.
    Kubectl,
}

impl Need {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::RestartableServers,
        Self::SeveralServers,
        Self::DirectAccess,
        Self::ServerLogs,
        Self::BalancerIgnoresHealth,
        Self::BalancerWithoutRetry,
        Self::BalancerForwards,
        Self::Namespaces,
        Self::Delay,
        Self::BalancerPolicies,
        Self::Docker,
        Self::Nodes,
        Self::Envoy,
        Self::Istio,
        Self::Pods,
        Self::Haproxy,
        Self::Nginx,
        Self::Kubectl,
    ];

    /// Whether it is about the balancer or the control plane that was chosen: what that one cannot do, no machine and no right
    /// brings back.
    pub const fn is_of_choice(self) -> bool {
        use Need::{BalancerForwards, BalancerIgnoresHealth, BalancerPolicies, BalancerWithoutRetry, Nodes};
        matches!(self, BalancerIgnoresHealth | BalancerWithoutRetry | BalancerForwards | BalancerPolicies | Nodes)
    }

    /// As `ROLLPROOF_REQUIRE` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RestartableServers => "restartable-servers",
            Self::SeveralServers => "several-servers",
            Self::DirectAccess => "direct-access",
            Self::ServerLogs => "server-logs",
            Self::BalancerIgnoresHealth => "balancer-ignores-health",
            Self::BalancerWithoutRetry => "balancer-without-retry",
            Self::BalancerForwards => "balancer-forwards",
            Self::Namespaces => "namespaces",
            Self::Delay => "delay",
            Self::BalancerPolicies => "balancer-policies",
            Self::Docker => "docker",
            Self::Nodes => "nodes",
            Self::Envoy => "envoy",
            Self::Istio => "istio",
            Self::Pods => "pods",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Kubectl => "kubectl",
        }
    }
}

/// Every requirement, family by family.
pub fn requirements() -> impl Iterator<Item = &'static Requirement> {
    watch::ALL
        .iter()
        .chain(rollout::ALL)
        .chain(balancer::ALL)
        .chain(idle::ALL)
        .chain(lost::ALL)
        .chain(cluster::ALL)
        .chain(gateway::ALL)
        .chain(session::ALL)
        .copied()
}

/// The requirement with this id.
pub fn requirement(id: &str) -> Option<&'static Requirement> {
    requirements().find(|requirement| requirement.id == id)
}
