//! Stub until the real one is merged.
#![expect(missing_docs, reason = "a stub")]
use super::Role;
use crate::lab::provision::Version;
use std::net::IpAddr;

#[derive(Clone, Debug)]
pub struct KindConfig {
    pub nodes: Vec<NodeConfig>,
    pub networking: Networking,
    pub containerd_config_patches: Vec<String>,
}
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub role: Role,
    pub image: Option<String>,
    pub extra_mounts: Vec<()>,
    pub extra_port_mappings: Vec<()>,
}
#[derive(Clone, Debug)]
pub struct Networking {
    pub pod_subnet: String,
    pub service_subnet: String,
    pub disable_default_cni: bool,
    pub api_server_port: i32,
}
pub struct NodePlace<'a> {
    pub cluster: &'a str,
    pub kubernetes: &'a Version,
    pub name: &'a str,
    pub role: Role,
    pub index: usize,
    pub address: IpAddr,
    pub control_plane_endpoint: &'a str,
    pub first: bool,
}
impl KindConfig {
    pub fn of(control_planes: usize, workers: usize) -> Self {
        let node = |role| NodeConfig { role, image: None, extra_mounts: vec![], extra_port_mappings: vec![] };
        let nodes = std::iter::repeat_n(node(Role::ControlPlane), control_planes)
            .chain(std::iter::repeat_n(node(Role::Worker), workers));
        Self {
            nodes: nodes.collect(),
            containerd_config_patches: vec![],
            networking: Networking {
                pod_subnet: "10.244.0.0/16".into(),
                service_subnet: "10.96.0.0/16".into(),
                disable_default_cni: false,
                api_server_port: 0,
            },
        }
    }
}
pub fn containerd_config(_: &KindConfig, base: &str) -> anyhow::Result<String> {
    Ok(base.to_owned())
}
pub fn kubeadm_config(_: &KindConfig, node: &NodePlace<'_>) -> anyhow::Result<String> {
    let NodePlace { cluster, kubernetes, address, control_plane_endpoint, .. } = node;
    let control_plane = match node.role {
        Role::Worker => String::new(),
        _ => format!("controlPlane: {{localAPIEndpoint: {{advertiseAddress: \"{address}\", bindPort: 6443}}}}, "),
    };
    let lb = control_plane_endpoint.rsplit_once(':').unwrap().0;
    Ok(format!(
        r#"apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {kubernetes}
clusterName: {cluster}
controlPlaneEndpoint: "{control_plane_endpoint}"
apiServer: {{certSANs: [localhost, "127.0.0.1", "{lb}"]}}
controllerManager: {{extraArgs: [{{name: enable-hostpath-provisioner, value: "true"}}]}}
networking: {{podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{{token: abcdef.0123456789abcdef}}]
localAPIEndpoint: {{advertiseAddress: "{address}", bindPort: 6443}}
skipPhases: [preflight]
nodeRegistration: {{criSocket: "unix:///run/containerd/containerd.sock", imagePullPolicy: Never, ignorePreflightErrors: [all], kubeletExtraArgs: [{{name: node-ip, value: "{address}"}}]}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
skipPhases: [preflight]
{}
nodeRegistration: {{criSocket: "unix:///run/containerd/containerd.sock", imagePullPolicy: Never, ignorePreflightErrors: [all], kubeletExtraArgs: [{{name: node-ip, value: "{address}"}}]}}
discovery: {{bootstrapToken: {{apiServerEndpoint: "{control_plane_endpoint}", token: abcdef.0123456789abcdef, unsafeSkipCAVerification: true}}}}
---
{{apiVersion: kubelet.config.k8s.io/v1beta1, kind: KubeletConfiguration, cgroupDriver: systemd, cgroupRoot: /kubelet, failSwapOn: false, failCgroupV1: false, imageGCHighThresholdPercent: 100, evictionHard: {{nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}}}}
---
{{apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration, mode: iptables, conntrack: {{maxPerCore: 0}}}}
"#,
        control_plane.trim_end_matches(", ")
    ))
}
