//! Files, and what becomes of them.

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is refused as it is read.
    Refused,
    /// It is read, but one of its patches is none, or cannot be applied. kind notices when all containers run.
    FailsLater,
    /// A cluster can be made.
    Taken,
}

use Outcome::{FailsLater, Refused, Taken};

/// The file of a case: kind and version come first, unless it has its own.
pub(super) fn file(body: &str) -> String {
    let header = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n";
    if body.contains("apiVersion: kind") { body.to_owned() } else { format!("{header}{body}") }
}

/// This suite and kind agree about these.
pub(super) const CASES: &[(&str, Outcome, &str)] = &[
    (
        "JSON",
        Taken,
        "{\"name\": \"a\", \"kind\": \"Cluster\", \"apiVersion\": \"kind.x-k8s.io/v1alpha4\"} # apiVersion: kind",
    ),
    ("nothing but kind and version", Taken, ""),
    ("a document's start and a comment", Taken, "# ours\n---\napiVersion: kind.x-k8s.io/v1alpha4\nkind: Cluster\n"),
    ("the file at the top level", Taken, include_str!("../../../kind-config.yaml")),
    (
        "three and two nodes",
        Taken,
        "nodes: [{role: control-plane}, {}, {role: control-plane}, {role: worker}, {role: worker}]",
    ),
    ("a dotted name", Taken, "name: a.b-1"),
    (
        "nulls are fields that are not there",
        Taken,
        "name:\nnodes: ~\nnetworking:\nfeatureGates: null\nkubeadmConfigPatches:\n",
    ),
    ("nor are empty words", Taken, "name: ''\nnodes: [{role: ''}]\nnetworking: {ipFamily: '', kubeProxyMode: ''}"),
    ("anchors and merge keys", Taken, "nodes: [&node {labels: {a: b}}, {<<: *node, role: worker}, *node]"),
    ("labels like numbers", Taken, "nodes: [{labels: {a: 1.0}}, {labels: {b: true}}]"),
    (
        "feature gates and runtime configuration",
        Taken,
        "featureGates: {B: yes, A: false}\nruntimeConfig: {api/all: true, b: '0'}",
    ),
    ("a worker's labels", Taken, "nodes: [{}, {role: worker, labels: {tier: front}}]"),
    ("IPv6", Taken, "networking: {ipFamily: ipv6}"),
    ("dual stack", Taken, "networking: {ipFamily: dual, podSubnet: 'fd00:1::/56,10.1.0.0/16'}"),
    ("dual stack with one subnet", Taken, "networking: {ipFamily: dual, podSubnet: 10.1.0.0/16}"),
    ("IPVS", Taken, "networking: {kubeProxyMode: ipvs}"),
    ("nftables", Taken, "networking: {kubeProxyMode: nftables}"),
    ("no kube-proxy", Taken, "networking: {kubeProxyMode: none}"),
    ("subnets with host bits", Taken, "networking: {podSubnet: 10.1.2.3/16, serviceSubnet: 10.2.0.0/20}"),
    (
        "a port of the apiserver's, no CNI, no search domains",
        Taken,
        "networking: {apiServerPort: 7443, disableDefaultCNI: true, dnsSearch: []}",
    ),
    ("any image", Taken, "nodes: [{image: 'no image, surely'}]"),
    (
        "mounts",
        Taken,
        "nodes: [{extraMounts: [{hostPath: ./a, containerPath: /b, readOnly: true, propagation: HostToContainer, selinuxRelabel: false}]}]",
    ),
    ("a hexadecimal port", Taken, "nodes: [{extraPortMappings: [{containerPort: 0x50}]}]"),
    (
        "any port twice",
        Taken,
        "nodes: [{extraPortMappings: [{containerPort: 80}, {containerPort: 80}, {containerPort: 1, hostPort: -1}]}]",
    ),
    ("booleans of YAML 1.1, in quotes or not", Taken, "featureGates: {A: 'yes', B: Off, C: y, D: \"no\"}"),
    (
        "a port by two protocols",
        Taken,
        "nodes: [{extraPortMappings: [{hostPort: 80, protocol: tCp}, {hostPort: 80, protocol: UDP}]}]",
    ),
    (
        "a port of two addresses",
        Taken,
        "nodes: [{extraPortMappings: [{hostPort: 80, listenAddress: 127.0.0.1}, {hostPort: 80, listenAddress: 127.0.0.2}]}]",
    ),
    (
        "a port of two nodes",
        Taken,
        "nodes: [{extraPortMappings: [{hostPort: 80}]}, {extraPortMappings: [{hostPort: 80}]}]",
    ),
    ("a second document, even a broken one", Taken, "name: a\n---\nname: [\n"),
    (
        "arguments as a mapping fit all versions",
        Taken,
        "kubeadmConfigPatches: ['{kind: ClusterConfiguration, apiServer: {extraArgs: {v: \"1\", runtime-config: api/all=true}}}']",
    ),
    (
        "arguments as a list",
        Taken,
        "kubeadmConfigPatches: ['{kind: ClusterConfiguration, apiVersion: kubeadm.k8s.io/v1beta4, scheduler: {extraArgs: [{name: v, value: \"1\"}, {name: v, value: \"2\"}]}}']",
    ),
    (
        "a null removes an argument, a field, a mapping",
        Taken,
        "kubeadmConfigPatches: ['{kind: ClusterConfiguration, controllerManager: {extraArgs: {enable-hostpath-provisioner: null, absent: null}}, clusterName: null, etcd: {local: {extraArgs: {v: \"1\"}, dataDir: null}}}']",
    ),
    (
        "names join those that are there",
        Taken,
        "kubeadmConfigPatches: ['{kind: ClusterConfiguration, apiServer: {certSANs: [localhost, example.com]}}']",
    ),
    (
        "other lists are replaced",
        Taken,
        "kubeadmConfigPatches: ['{kind: InitConfiguration, skipPhases: [preflight, addon/coredns]}']",
    ),
    (
        "several documents in one patch",
        Taken,
        "kubeadmConfigPatches: [\"kind: InitConfiguration\\nnodeRegistration:\\n  kubeletExtraArgs:\\n    v: '4'\\n---\\nkind: JoinConfiguration\\npatches: {directory: /p}\\n---\\n\"]",
    ),
    (
        "patches of another version and for no document",
        Taken,
        "kubeadmConfigPatches: ['{kind: ClusterConfiguration, apiVersion: kubeadm.k8s.io/v1beta2, clusterName: x}', 'kind: Nothing', '', '# nothing']",
    ),
    (
        "metadata from older days",
        Taken,
        "kubeadmConfigPatches: ['{kind: KubeletConfiguration, apiVersion: kubelet.config.k8s.io/v1beta1, metadata: {name: config}, maxPods: 7}']",
    ),
    (
        "numbers and booleans of YAML 1.1",
        Taken,
        "kubeadmConfigPatches: ['{kind: KubeletConfiguration, a: yes, b: 0755, c: 1e3, d: \"no\", e: 12:30, f: ~, g: off, h: 0x10, i: 1_000, j: 2001-02-03, k: .5, l: +1, m: 08}']",
    ),
    (
        "a node's patches after the cluster's",
        Taken,
        "nodes: [{kubeadmConfigPatches: ['{kind: KubeletConfiguration, maxPods: 2}']}, {}]\nkubeadmConfigPatches: ['{kind: KubeletConfiguration, maxPods: 1}']",
    ),
    (
        "operations",
        Taken,
        "kubeadmConfigPatchesJSON6902: [{group: kubelet.config.k8s.io, version: v1beta1, kind: KubeletConfiguration, patch: '[{op: replace, path: /failSwapOn, value: true}, {op: add, path: /evictionHard/a~1b, value: 1}]'}]",
    ),
    (
        "operations for any version",
        Taken,
        "kubeadmConfigPatchesJSON6902: [{kind: ClusterConfiguration, patch: \"- op: add\\n  path: /apiServer/certSANs/-\\n  value: a\\n- {op: test, path: /networking/podSubnet, value: 10.244.0.0/16}\\n- {op: move, from: /scheduler, path: /s}\"}]",
    ),
    (
        "operations on a version alone match nothing",
        Taken,
        "kubeadmConfigPatchesJSON6902: [{version: v1beta4, kind: ClusterConfiguration, patch: '[{op: remove, path: /absent}]'}]",
    ),
    (
        "operations after merges",
        Taken,
        "kubeadmConfigPatchesJSON6902: [{kind: KubeletConfiguration, patch: '[{op: copy, from: /maxPods, path: /b}]'}]\nkubeadmConfigPatches: ['{kind: KubeletConfiguration, maxPods: 3}']",
    ),
    (
        "containerd's configuration",
        Taken,
        "containerdConfigPatches: [\"[plugins.'io.containerd.grpc.v1.cri']\\nsandbox_image = 'x'\\nlist = [1, 2]\", \"version = 3\\n[plugins.three]\\na = 1\", \"version = 2\\n[plugins.two]\\na = 1.5\"]\ncontainerdConfigPatchesJSON6902: ['[{\"op\": \"add\", \"path\": \"/plugins/new\", \"value\": {\"b\": true}}]']",
    ),
    ("no version", Refused, "kind: Cluster\n# apiVersion: kind\n"),
    ("nothing at all", Refused, "# apiVersion: kind"),
    ("another version", Refused, "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha3"),
    ("another kind", Refused, "kind: Clusters\napiVersion: kind.x-k8s.io/v1alpha4"),
    ("no kind", Refused, "apiVersion: kind.x-k8s.io/v1alpha4"),
    ("an unknown field", Refused, "node: []"),
    ("an unknown field of a node", Refused, "nodes: [{images: a}]"),
    ("an unknown field of the network", Refused, "networking: {podCIDR: 10.0.0.0/8}"),
    ("an unknown field of a mount", Refused, "nodes: [{extraMounts: [{readonly: true}]}]"),
    ("fields are spelled exactly", Refused, "Name: a"),
    ("a key twice", Refused, "name: a\nname: b"),
    ("a key twice, deep inside", Refused, "nodes: [{labels: {a: b, a: c}}]"),
    ("a tab", Refused, "nodes:\n\t- role: worker"),
    ("bad indentation", Refused, "networking:\n  podSubnet: 10.0.0.0/8\n serviceSubnet: 10.0.0.0/8"),
    ("an anchor that is not there", Refused, "nodes: [*node]"),
    ("a list that is none", Refused, "nodes: {role: control-plane}"),
    ("a node that is a word", Refused, "nodes: [control-plane]"),
    ("a patch that is no text", Refused, "kubeadmConfigPatches: [{kind: ClusterConfiguration}]"),
    ("a role that is none", Refused, "nodes: [{role: external-load-balancer}]"),
    ("workers only", Refused, "nodes: [{role: worker}]"),
    ("capitals in the name", Refused, "name: Kind"),
    ("an underscore in the name", Refused, "name: a_b"),
    ("no CIDR", Refused, "networking: {podSubnet: 10.0.0.0}"),
    ("too long a prefix", Refused, "networking: {serviceSubnet: 10.0.0.0/33}"),
    ("a space in a CIDR", Refused, "networking: {ipFamily: dual, podSubnet: '10.0.0.0/8, fd00::/56'}"),
    ("an IPv6 subnet for IPv4", Refused, "networking: {podSubnet: 'fd00::/56'}"),
    ("an IPv4 subnet for IPv6", Refused, "networking: {ipFamily: ipv6, serviceSubnet: 10.0.0.0/16}"),
    ("two subnets for one family", Refused, "networking: {podSubnet: '10.0.0.0/16,10.1.0.0/16'}"),
    ("two subnets of one family", Refused, "networking: {ipFamily: dual, podSubnet: '10.0.0.0/16,10.1.0.0/16'}"),
    ("three subnets", Refused, "networking: {ipFamily: dual, podSubnet: '10.0.0.0/16,fd00::/56,10.1.0.0/16'}"),
    ("a family that is none", Refused, "networking: {ipFamily: IPv4}"),
    ("a proxy that is none", Refused, "networking: {kubeProxyMode: ebpf}"),
    ("a port that is none", Refused, "nodes: [{extraPortMappings: [{containerPort: 80, hostPort: 65536}]}]"),
    ("a container's port that is none", Refused, "nodes: [{extraPortMappings: [{containerPort: -2}]}]"),
    ("a port of the apiservers that is none", Refused, "networking: {apiServerPort: 70000}"),
    ("a number too large", Refused, "networking: {apiServerPort: 4294967296}"),
    ("a number in quotes", Refused, "nodes: [{extraPortMappings: [{containerPort: '80'}]}]"),
    ("a protocol that is none", Refused, "nodes: [{extraPortMappings: [{protocol: ICMP}]}]"),
    ("a propagation that is none", Refused, "nodes: [{extraMounts: [{propagation: private}]}]"),
    ("an address that is none", Refused, "nodes: [{extraPortMappings: [{hostPort: 80, listenAddress: localhost}]}]"),
    (
        "a port twice",
        Refused,
        "nodes: [{extraPortMappings: [{hostPort: 80, listenAddress: 127.0.0.1}, {hostPort: 80, listenAddress: 127.0.0.1}]}]",
    ),
    (
        "a port of all addresses and of one",
        Refused,
        "nodes: [{extraPortMappings: [{hostPort: 80}, {hostPort: 80, listenAddress: '::1'}]}]",
    ),
    (
        "a port of one address and of all",
        Refused,
        "nodes: [{extraPortMappings: [{hostPort: 80, listenAddress: 127.0.0.1}, {hostPort: 80, listenAddress: '::'}]}]",
    ),
    ("a gate that is no boolean", Refused, "featureGates: {A: maybe}"),
    ("a boolean in quotes", Refused, "featureGates: {A: 'true'}"),
    ("a boolean in mixed letters", Refused, "featureGates: {A: tRue}"),
    ("a number for a boolean", Refused, "networking: {disableDefaultCNI: 1}"),
    ("a patch that is a sentence", FailsLater, "kubeadmConfigPatches: [b o g u s]"),
    ("a patch that is a list", FailsLater, "kubeadmConfigPatches: ['[1]']"),
    ("a patch that is no YAML", FailsLater, "nodes: [{kubeadmConfigPatches: ['a: [']}]"),
    (
        "operations that are none",
        FailsLater,
        "kubeadmConfigPatchesJSON6902: [{kind: ClusterConfiguration, patch: '{op: add}'}]",
    ),
    (
        "removing what is not there",
        FailsLater,
        "kubeadmConfigPatchesJSON6902: [{kind: ClusterConfiguration, patch: '[{op: remove, path: /absent}]'}]",
    ),
    (
        "replacing what is not there",
        FailsLater,
        "kubeadmConfigPatchesJSON6902: [{kind: ClusterConfiguration, patch: '[{op: replace, path: /a, value: 1}]'}]",
    ),
    (
        "a test that fails",
        FailsLater,
        "nodes: [{kubeadmConfigPatchesJSON6902: [{kind: KubeletConfiguration, patch: '[{op: test, path: /failSwapOn, value: true}]'}]}]",
    ),
    ("containerd's patch that is no TOML", FailsLater, "containerdConfigPatches: ['a: b']"),
    (
        "containerd's operations as YAML",
        FailsLater,
        "containerdConfigPatchesJSON6902: ['[{op: add, path: /a, value: 1}]']",
    ),
];

/// kind takes these, and then does something else than they say. Here they are refused.
pub(super) const STRICTER: &[(&str, &str)] = &[
    (
        "kind drops arguments as a mapping where the patch names v1beta4",
        "kubeadmConfigPatches: ['{kind: ClusterConfiguration, apiVersion: kubeadm.k8s.io/v1beta4, apiServer: {extraArgs: {v: \"1\"}}}']",
    ),
    (
        "kind drops an argument without a name",
        "kubeadmConfigPatches: ['{kind: ClusterConfiguration, apiServer: {extraArgs: [{v: \"1\"}]}}']",
    ),
    (
        "kind takes the last of two keys in a patch",
        "kubeadmConfigPatches: ['{kind: KubeletConfiguration, a: 1, a: 2}']",
    ),
    ("kind takes nothing for a node", "nodes: [~]"),
    ("kind cuts the fraction off a port", "networking: {apiServerPort: 80.5}"),
    (
        "kind has Docker find out that TCP is what is meant where nothing is said",
        "nodes: [{extraPortMappings: [{hostPort: 80}, {hostPort: 80, protocol: TCP}]}]",
    ),
];
