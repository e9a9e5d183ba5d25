//! From nodes that run to a cluster: kubeadm, in the order in which kind calls it.

use anyhow::{Context as _, anyhow, bail};
use futures::TryStreamExt as _;
use serde_json::json;

use super::config::{Networking, ProxyMode};
use super::node::Node;
use crate::timing;

/// Where kind, and its images, have kubeadm's configuration.
pub(super) const CONFIGURATION: &str = "/kind/kubeadm.conf";

/// What further control planes need of the first one's secrets. Source: kubeadm's documentation of high availability.
const SHARED: [&str; 8] = [
    "pki/ca.crt",
    "pki/ca.key",
    "pki/front-proxy-ca.crt",
    "pki/front-proxy-ca.key",
    "pki/sa.key",
    "pki/sa.pub",
    "pki/etcd/ca.crt",
    "pki/etcd/ca.key",
];

/// A patch to kubeadm's configuration that leaves out the addons whose images a node does not have, if there are any: their pods
/// would wait for ever.
///
/// # Errors
/// The node's.
pub(super) async fn without_addons(node: &Node, networking: &Networking) -> anyhow::Result<Vec<String>> {
    let images = node.run(&["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"], &[]).await?;
    let has = |image: &str| images.contains(&format!("/{image}:"));
    let (dns, proxy) = (has("coredns"), has("kube-proxy"));
    if dns && proxy {
        return Ok(Vec::new());
    }
    // A patch takes the place of the whole list, so what else is in it has to be said again.
    let mut skipped = vec!["preflight"];
    skipped.extend((!dns).then_some("addon/coredns"));
    skipped.extend((!proxy || networking.kube_proxy_mode == ProxyMode::None).then_some("addon/kube-proxy"));
    Ok(vec![json!({"kind": "InitConfiguration", "skipPhases": skipped}).to_string()])
}

/// Makes the first control plane.
///
/// # Errors
/// kubeadm's, with the kubelet's last words.
pub(super) async fn init(node: &Node) -> anyhow::Result<()> {
    kubeadm(node, &["kubeadm", "init", "--config", CONFIGURATION, "--skip-token-print"]).await
}

/// Waits until the first control plane has signed what it tells joining nodes. kubeadm looks for that every 5 s only.
///
/// # Errors
/// It does not come.
pub(super) async fn open_for_joining(first: &Node) -> anyhow::Result<()> {
    const WATCH: &[&str] = &[
        "kubectl",
        "--namespace=kube-public",
        "get",
        "configmap",
        "cluster-info",
        "--watch",
        "--output=jsonpath={.data}{\"\\n\"}",
    ];
    let signed = async {
        let mut seen = first.follow(WATCH).await?;
        while let Some(data) = seen.try_next().await? {
            if data.contains("jws-kubeconfig-") {
                return Ok(());
            }
        }
        bail!("the watch has ended")
    };
    let waited = tokio::time::timeout(timing::NODES_READY, signed).await;
    waited.map_err(Into::into).flatten().context("nobody has signed the configmap cluster-info, by which nodes join")
}

/// Gives a further control plane the secrets of the first.
///
/// # Errors
/// Docker's.
pub(super) async fn share(first: &Node, further: &[Node]) -> anyhow::Result<()> {
    let pack = [&["tar", "--directory", "/etc/kubernetes", "--create", "admin.conf"], &SHARED[..]].concat();
    let packed = first.exec(timing::NODE_COMMAND, &pack, &[]).await?;
    let unpack = ["sh", "-c", "mkdir -p /etc/kubernetes && tar --directory /etc/kubernetes --extract"];
    let shared = further.iter().map(async |node| node.run(&unpack, &packed.stdout).await.map(drop));
    futures::future::try_join_all(shared).await.map(drop)
}

/// Joins a node.
///
/// # Errors
/// As [`init`].
pub(super) async fn join(node: &Node) -> anyhow::Result<()> {
    kubeadm(node, &["kubeadm", "join", "--config", CONFIGURATION]).await
}

/// Lets pods run on the only node: what kubeadm keeps free of them, and out of balancers for services.
///
/// # Errors
/// kubectl's.
pub(super) async fn untaint(node: &Node) -> anyhow::Result<()> {
    const TAINT: &[&str] = &["kubectl", "taint", "nodes", "--all", "node-role.kubernetes.io/control-plane-"];
    const LABEL: &[&str] =
        &["kubectl", "label", "nodes", "--all", "node.kubernetes.io/exclude-from-external-load-balancers-"];
    node.run(TAINT, &[]).await?;
    node.run(LABEL, &[]).await.map(drop)
}

/// Applies the storage class that the image brings, if it brings one.
///
/// # Errors
/// kubectl's.
pub(super) async fn default_storage(first: &Node) -> anyhow::Result<()> {
    const APPLY: &str = "test ! -e \"$1\" || kubectl apply --filename \"$1\"";
    first.run(&["sh", "-c", APPLY, "apply", "/kind/manifests/default-storage.yaml"], &[]).await.map(drop)
}

/// Waits until all nodes are ready.
///
/// # Errors
/// One is not, with its kubelet's last words.
pub(super) async fn ready(first: &Node, nodes: &[Node]) -> anyhow::Result<()> {
    let names: Vec<String> = nodes.iter().map(|node| format!("node/{node}")).collect();
    let timeout = format!("--timeout={}s", timing::NODES_READY.as_secs());
    let wait = ["kubectl", "wait", "--for=condition=Ready", &timeout];
    let command: Vec<&str> = wait.into_iter().chain(names.iter().map(String::as_str)).collect();
    let Err(error) = first.run_within(timing::NODES_READY + timing::NODE_COMMAND, &command, &[]).await else {
        return Ok(());
    };
    let said = format!("{error:#}");
    let late = nodes.iter().find(|node| said.contains(&format!("nodes/{node}"))).unwrap_or(first);
    Err(anyhow!("{said}\nof {late}:{}", late.last_words().await))
}

async fn kubeadm(node: &Node, command: &[&str]) -> anyhow::Result<()> {
    match node.run_within(timing::KUBEADM, command, &[]).await {
        Ok(_) => Ok(()),
        Err(error) => Err(anyhow!("{error:#}{}", node.last_words().await)),
    }
}
