//! A kind configuration file, and what kind makes of it: each node's kubeadm.conf and containerd configuration.
//!
//! Three steps, so that three kinds of mistakes are told apart: [`KindConfig::parse`] refuses what kind refuses
//! ([`Refusal::Invalid`]), [`KindConfig::supported`] names what kind can do and this suite cannot
//! ([`Refusal::NotSupported`]), and rendering is pure, so that a patch that fails does so before there is a container.
//!
//! Source: kind v0.33.0, `pkg/apis/config/v1alpha4`, `pkg/internal/apis/config`, `pkg/internal/patch` and
//! `pkg/cluster/internal/kubeadm`. tests/suite feeds the same files to both.

mod kubeadm;
mod patch;
mod supported;
mod validate;
mod yaml;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use kubeadm::{NodePlace, kubeadm_config};
pub use patch::containerd_config;
use yaml::{number, or_default, truth};

/// Why a file cannot be used. Each problem names its place in the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// kind would refuse it too, or fail on it.
    #[error("not a valid kind configuration: {}", .0.join("; "))]
    Invalid(Vec<String>),
    /// kind takes it, this suite does not.
    #[error("not supported here, though kind may take it: {}", .0.join("; "))]
    NotSupported(Vec<String>),
}

/// `kind: Cluster` of `kind.x-k8s.io/v1alpha4`, with kind's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindConfig {
    /// The cluster's name; `kind` where the file has none.
    pub name: String,
    /// At least one control plane. In the order of the file, by which kind names them.
    pub nodes: Vec<Node>,
    /// Addresses, subnets, proxies.
    pub networking: Networking,
    /// Feature gates of all components.
    pub feature_gates: BTreeMap<String, bool>,
    /// `--runtime-config` of the apiservers.
    pub runtime_config: BTreeMap<String, String>,
    /// Applied to every node's kubeadm.conf, before the node's own.
    pub patches: KubeadmPatches,
    /// TOML merge patches to every node's containerd configuration, in this order.
    pub containerd_config_patches: Vec<String>,
    /// RFC 6902 patches to it, JSON, applied after those.
    pub containerd_config_patches_json6902: Vec<String>,
    /// There is more in the file than its first document. kind does not look at it.
    pub further_documents: bool,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "yaml::Node")]
pub struct Node {
    /// What it runs.
    pub role: Role,
    /// Its image; empty: the one of the run.
    pub image: String,
    /// Labels of the Kubernetes node.
    pub labels: BTreeMap<String, String>,
    /// Folders and files of the host that it sees.
    pub extra_mounts: Vec<Mount>,
    /// Its ports that the host has, too.
    pub extra_port_mappings: Vec<PortMapping>,
    /// Applied to its kubeadm.conf, after the cluster's.
    pub patches: KubeadmPatches,
}

/// What a node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// etcd, an apiserver, and what goes with it.
    #[default]
    #[serde(alias = "")]
    ControlPlane,
    /// Pods only.
    Worker,
}

impl Role {
    /// As kind writes it in labels and container names: `control-plane` or `worker`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
        }
    }
}

/// Addresses, subnets, proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networking {
    /// Of nodes, pods and services.
    pub ip_family: IpFamily,
    /// The host's port of the apiservers, or of their balancer; 0: any free one, -1: Docker chooses.
    pub api_server_port: i32,
    /// The host's address of that port.
    pub api_server_address: String,
    /// CIDR; with two families two, with a comma between them.
    pub pod_subnet: String,
    /// CIDR, likewise.
    pub service_subnet: String,
    /// Install no CNI.
    pub disable_default_cni: bool,
    /// How kube-proxy does services.
    pub kube_proxy_mode: ProxyMode,
    /// DNS search domains of the nodes; `None`: the host's.
    pub dns_search: Option<Vec<String>>,
}

/// Which addresses a cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// IPv4 only.
    #[default]
    #[serde(alias = "")]
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    Dual,
}

/// How kube-proxy does services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// iptables rules.
    #[default]
    #[serde(alias = "")]
    Iptables,
    /// The kernel's IPVS.
    Ipvs,
    /// nftables rules.
    Nftables,
    /// There is no kube-proxy.
    None,
}

impl ProxyMode {
    /// As in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
            Self::None => "none",
        }
    }
}

/// A folder or file of the host that a node sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Where the node sees it.
    #[serde(deserialize_with = "or_default")]
    pub container_path: String,
    /// Where it is; kind takes a relative path from the current folder.
    #[serde(deserialize_with = "or_default")]
    pub host_path: String,
    /// The node cannot change it.
    #[serde(deserialize_with = "truth")]
    pub read_only: bool,
    /// Relabel it for SELinux.
    #[serde(deserialize_with = "truth")]
    pub selinux_relabel: bool,
    /// Whether mounts below it are passed on.
    #[serde(deserialize_with = "or_default")]
    pub propagation: Propagation,
}

/// Whether mounts below a mount are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Propagation {
    /// No (`private`).
    #[default]
    #[serde(alias = "")]
    None,
    /// From the host to the node (`rslave`).
    HostToContainer,
    /// Both ways (`rshared`).
    Bidirectional,
}

/// A port of a node that the host has, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PortMapping {
    /// The node's.
    #[serde(deserialize_with = "number")]
    pub container_port: i32,
    /// The host's; 0: any free one, -1: Docker chooses.
    #[serde(deserialize_with = "number")]
    pub host_port: i32,
    /// The host's address; empty: all of them.
    #[serde(deserialize_with = "or_default")]
    pub listen_address: String,
    /// By which protocol.
    #[serde(deserialize_with = "or_default")]
    pub protocol: Protocol,
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl TryFrom<String> for Protocol {
    type Error = String;

    /// In small letters or capitals.
    fn try_from(name: String) -> Result<Self, String> {
        match name.to_uppercase().as_str() {
            "" | "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            _ => Err(format!("protocol {name:?} is none of TCP, UDP and SCTP")),
        }
    }
}

/// Changes to a kubeadm.conf: first `merge`, then `json6902`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeadmPatches {
    /// `kubeadmConfigPatches`: YAML documents, each merged into the document of its `kind` (and `apiVersion`, if it has one).
    pub merge: Vec<String>,
    /// `kubeadmConfigPatchesJSON6902`.
    pub json6902: Vec<PatchJson6902>,
}

/// RFC 6902 operations on one document of a kubeadm.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchJson6902 {
    /// `kubeadm.k8s.io`. With an empty version, too: any.
    #[serde(deserialize_with = "or_default")]
    pub group: String,
    /// `v1beta4`.
    #[serde(deserialize_with = "or_default")]
    pub version: String,
    /// `ClusterConfiguration`.
    #[serde(deserialize_with = "or_default")]
    pub kind: String,
    /// A list of operations, YAML or JSON.
    #[serde(deserialize_with = "or_default")]
    pub patch: String,
}

impl KindConfig {
    /// Reads a file as kind does: unknown fields and duplicate keys are refused, defaults filled in, values checked.
    /// Whether patches can be applied is not looked at.
    ///
    /// # Errors
    /// A [`Refusal::Invalid`] with all that is wrong, or with the first thing that cannot be read.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let config = yaml::read(text).map_err(|problem| Refusal::Invalid(vec![problem]))?;
        let problems = validate::problems(&config);
        if problems.is_empty() { Ok(config) } else { Err(Refusal::Invalid(problems).into()) }
    }

    /// The control planes.
    pub fn control_planes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::ControlPlane)
    }
}
