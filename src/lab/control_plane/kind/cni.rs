//! The network of pods: the manifest that the node image brings, as kind applies it.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::node::Node;

/// Where kind's images, and ours, have it.
const MANIFEST: &str = "/kind/manifests/default-cni.yaml";

/// Applies the manifest of the first control plane's image.
///
/// # Errors
/// There is none, it is no YAML, or the API does not take it.
pub(super) async fn apply(first: &Node, pods: &str, endpoint: SocketAddr) -> anyhow::Result<()> {
    let objects = objects(&first.read(MANIFEST).await?, pods, &endpoint.to_string())
        .with_context(|| format!("{MANIFEST} of {first}"))?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    first.run(&["kubectl", "create", "--filename", "-"], list.as_bytes()).await.map(drop)
}

/// A manifest's objects, filled in as it asks for: the range of all pods, and in its DaemonSet where the apiservers are, so that it
/// need not wait for kube-proxy.
///
/// Source: kind v0.33.0, `pkg/cluster/internal/create/actions/installcni`.
///
/// # Errors
/// It is no YAML.
pub fn objects(manifest: &str, pods: &str, endpoint: &str) -> anyhow::Result<Vec<Value>> {
    let asks = |what: &str| manifest.contains(&format!("would you kindly {what} this file"));
    let text = match asks("template") {
        // The only value that kind has for the Go template.
        true => manifest.replace("{{ .PodSubnet }}", pods).replace("{{.PodSubnet}}", pods),
        false => manifest.to_owned(),
    };
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    objects.retain(|object| !object.is_null());
    if asks("patch") {
        for object in objects.iter_mut().filter(|object| object["kind"] == "DaemonSet") {
            if let Some(Value::Array(variables)) = object.pointer_mut("/spec/template/spec/containers/0/env") {
                variables.push(json!({"name": "CONTROL_PLANE_ENDPOINT", "value": endpoint}));
            }
        }
    }
<<<<<<< HEAD
    // A Go template, and an address that pods reach before there are rules for services: as kind does it.
    let manifest = manifest.replace("{{.PodSubnet}}", pods).replace("{{ .PodSubnet }}", pods);
    let manifest = manifest.replace("{{.ControlPlaneEndpoint}}", &endpoint.to_string());
    first.run(&["kubectl", "create", "--filename", "-"], manifest.as_bytes()).await?;
    Ok(true)
}

/// Gives each node its part of the network, by the ranges that the controller manager has given out.
///
/// # Errors
/// A node gets no range, or a command fails.
pub(super) async fn by_routes(first: &Node, nodes: &[Node]) -> anyhow::Result<()> {
    let ranges = ranges(first, nodes).await?;
    let of = |node: &Node| ranges.get(&node.name).copied().context("no range");
    try_join_all(nodes.iter().map(async |node| {
        let others = nodes.iter().filter(|other| other.name != node.name);
        let routes: Vec<(IpNet, IpAddr)> =
            others.map(|other| Ok((of(other)?, other.address))).collect::<anyhow::Result<_>>()?;
        // systemd refuses a unit that does nothing.
        if !routes.is_empty() {
            node.write(UNIT, "644", unit(&routes).as_bytes()).await?;
            node.run(&["systemctl", "enable", "--now", "--quiet", "rollproof-routes.service"], &[]).await?;
        }
        // Last: from here on the node says that it is ready.
        node.write(CONFLIST, "644", conflist(of(node)?).as_bytes()).await
    }))
    .await
    .map(drop)
}

/// The ranges of all nodes, as soon as all have one.
async fn ranges(first: &Node, nodes: &[Node]) -> anyhow::Result<BTreeMap<String, IpNet>> {
    const ASK: &[&str] =
        &["kubectl", "get", "nodes", "--output", "jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR}\n{end}"];
    wait::until(timing::NODES_READY, "every node to have a range of pod addresses", async || {
        let told = match first.run(ASK, &[]).await {
            Ok(told) => told,
            Err(error) => return ControlFlow::Continue(format!("{error:#}")),
        };
        let ranges: BTreeMap<String, IpNet> = told
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(name, range)| Some((name.to_owned(), range.parse().ok()?)))
            .collect();
        match nodes.iter().find(|node| !ranges.contains_key(&node.name)) {
            None => ControlFlow::Break(ranges),
            Some(node) => ControlFlow::Continue(format!("{node} has none")),
        }
    })
    .await
}

/// The configuration of a node's pods, whose addresses lie in `range`. Nothing is masqueraded, so a pod is seen at its own
/// address everywhere in the cluster, and nowhere else.
pub fn conflist(range: IpNet) -> String {
    json!({
        "cniVersion": "0.3.1",
        "name": "rollproof",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-ipam-state",
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "ranges": [[{"subnet": range.to_string()}]],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

/// The systemd unit that leads to the pods of other nodes: range, and the address of its node.
pub fn unit(routes: &[(IpNet, IpAddr)]) -> String {
    let lines = routes.iter().map(|(range, node)| format!("ExecStart=ip route replace {range} via {node}\n"));
    format!(
        "[Unit]\nDescription=routes to the pods of other nodes\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n{}[Install]\nWantedBy=multi-user.target\n",
        lines.collect::<String>()
    )
=======
    Ok(objects)
>>>>>>> k-cluster
}
