//! kubeadm.conf, as kind writes it.
//!
//! Source: kind v0.33.0, `pkg/cluster/internal/kubeadm/config.go` (the templates of v1beta3 and v1beta4). Every node gets
//! all documents: kubeadm takes from them what its command needs.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::patch::{self, Document};
use super::{KindConfig, KubeadmPatches, Node, ProxyMode, Role};
use crate::lab::provision::Version;

/// kind's own. A cluster with it must not be reachable from elsewhere.
const TOKEN: &str = "abcdef.0123456789abcdef";
/// Where apiservers listen.
const PORT: u16 = 6443;
const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// Which node a kubeadm.conf is for, and what is known about the place it runs at.
#[derive(Clone, Copy, Debug)]
pub struct NodePlace<'a> {
    /// The cluster's name; it may be another than the file's.
    pub cluster: &'a str,
    /// What its image brings.
    pub kubernetes: &'a Version,
    /// The container's name, which is the node's.
    pub name: &'a str,
    /// Which of [`KindConfig::nodes`] it is: by that its role, its labels and its patches are known.
    pub index: usize,
    /// Its address in the cluster's network.
    pub address: IpAddr,
    /// `host:port` of the apiservers for kubelets: the balancer, or the only control plane.
    pub control_plane_endpoint: &'a str,
    /// The host has cgroup v1: a kubelet from 1.35 on has to be told that this is all right.
    pub cgroup_v1: bool,
    /// Names and addresses by which clients dial the apiservers, beside those that kubeadm knows.
    pub cert_sans: &'a [String],
    /// `kubeadmConfigPatches` of the suite's own, applied before the file's.
    pub patches: &'a [String],
}

/// The kubeadm.conf of one node: YAML documents with all patches applied, the suite's, the cluster's, the node's.
///
/// # Errors
/// There is no such node, kubeadm is older than v1beta3 (Kubernetes 1.23), or a patch cannot be applied.
pub fn kubeadm_config(config: &KindConfig, place: &NodePlace<'_>) -> anyhow::Result<String> {
    let node = config.nodes.get(place.index).with_context(|| format!("there is no nodes[{}]", place.index))?;
    let own = KubeadmPatches { merge: place.patches.to_vec(), json6902: Vec::new() };
    let mut documents = documents(config, node, place)?;
    patch::apply(&own, &mut documents).context("the suite's own patches")?;
    patch::apply(&config.patches, &mut documents)?;
    patch::apply(&node.patches, &mut documents).with_context(|| format!("nodes[{}]", place.index))?;
    let mut texts = Vec::new();
    for Document { body, .. } in &mut documents {
        // Patches may carry it, from the days when it was matched; kubeadm knows no metadata, and kind removes this one.
        if body.get("metadata") == Some(&json!({"name": "config"})) {
            body.remove("metadata");
        }
        // Quoted, so that no reader takes a string for a number, a boolean of YAML 1.1 or a time.
        texts.push(serde_saphyr::to_string_with_options(body, serde_saphyr::ser_options! { quote_all: true })?);
    }
    Ok(texts.join("---\n"))
}

fn documents(config: &KindConfig, node: &Node, place: &NodePlace<'_>) -> anyhow::Result<Vec<Document>> {
    let version = match (place.kubernetes.major, place.kubernetes.minor) {
        (1, 36..) => "kubeadm.k8s.io/v1beta4",
        (1, 23..) => "kubeadm.k8s.io/v1beta3",
        _ => bail!("kubeadm {} is too old: kind clusters are made from v1.23 on", place.kubernetes),
    };
    let args = |args: &[(&str, &str)]| -> Value {
        if version.ends_with("v1beta4") {
            args.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
        } else {
            args.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
        }
    };
    let networking = &config.networking;
    let pairs = |pairs: Vec<String>| pairs.join(",");
    let gates = pairs(config.feature_gates.iter().map(|(name, on)| format!("{name}={on}")).collect());
    let gates = (!gates.is_empty()).then_some(("feature-gates", gates.as_str()));
    let with_gates = |list: &[(&str, &str)]| args(&list.iter().copied().chain(gates).collect::<Vec<_>>());
    let runtime_config = pairs(config.runtime_config.iter().map(|(name, value)| format!("{name}={value}")).collect());
    let labels = pairs(node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect());
    let sans = ["localhost", networking.api_server_address.as_str()];
    let sans: Vec<&str> = sans.into_iter().chain(place.cert_sans.iter().map(String::as_str)).collect();
    let address = place.address.to_string();
    // kind's, since tools look at it.
    let provider = format!("kind://docker/{}/{}", place.cluster, place.name);

    let endpoint = json!({"advertiseAddress": address, "bindPort": PORT});
    let registration = json!({"criSocket": CRI_SOCKET, "kubeletExtraArgs": args(&[
        ("node-ip", address.as_str()), ("provider-id", provider.as_str()), ("node-labels", labels.as_str()),
    ])});
    // It would pull images, and wants a host of its own.
    let mut skipped = vec!["preflight"];
    let mut join = json!({
        "nodeRegistration": registration,
        "discovery": {"bootstrapToken": {
            "apiServerEndpoint": place.control_plane_endpoint, "token": TOKEN, "unsafeSkipCAVerification": true,
        }},
        "skipPhases": skipped,
    });
    if node.role == Role::ControlPlane {
        join["controlPlane"] = json!({"localAPIEndpoint": endpoint});
    }
    if networking.kube_proxy_mode == ProxyMode::None {
        skipped.push("addon/kube-proxy");
    }
    let mut documents = vec![
        Document::new(
            version,
            "ClusterConfiguration",
            json!({
                "kubernetesVersion": place.kubernetes.to_string(),
                "clusterName": place.cluster,
                "controlPlaneEndpoint": place.control_plane_endpoint,
                "apiServer": {"certSANs": sans, "extraArgs": with_gates(&[("runtime-config", &runtime_config)])},
                "controllerManager": {"extraArgs": with_gates(&[("enable-hostpath-provisioner", "true")])},
                "scheduler": {"extraArgs": with_gates(&[])},
                "networking": {"podSubnet": networking.pod_subnet, "serviceSubnet": networking.service_subnet},
            }),
        ),
        Document::new(
            version,
            "InitConfiguration",
            json!({
                "bootstrapTokens": [{"token": TOKEN}],
                "localAPIEndpoint": endpoint,
                "nodeRegistration": registration,
                "skipPhases": skipped,
            }),
        ),
        Document::new(version, "JoinConfiguration", join),
        Document::new("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", kubelet(config, place)),
    ];
    if networking.kube_proxy_mode != ProxyMode::None {
        documents.push(Document::new("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", proxy(config)));
    }
    Ok(documents)
}

fn kubelet(config: &KindConfig, place: &NodePlace<'_>) -> Value {
    let mut kubelet = json!({
        "cgroupDriver": if place.kubernetes.minor < 24 { "cgroupfs" } else { "systemd" },
        "cgroupRoot": "/kubelet",
        "failSwapOn": false,
        // The disk is the host's, and not for the kubelet to tidy.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "featureGates": config.feature_gates,
    });
    if place.cgroup_v1 && place.kubernetes.minor >= 35 {
        kubelet["failCgroupV1"] = json!(false);
    }
    kubelet
}

fn proxy(config: &KindConfig) -> Value {
    let mode = config.networking.kube_proxy_mode;
    let mut proxy = json!({
        "mode": mode.name(),
        "iptables": {"minSyncPeriod": "1s"},
        // The limit is the machine's, not the node's: leave it alone.
        "conntrack": {"maxPerCore": 0},
        "featureGates": config.feature_gates,
    });
    if mode == ProxyMode::Nftables {
        proxy["conntrack"]["tcpBeLiberal"] = json!(true);
    }
    proxy
}
