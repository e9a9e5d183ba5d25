//! Pods' network. kindest/node brings kindnet, as a manifest; an image without it gets what kindnet does: on each node a
//! configuration for the plugin `ptp` with the node's own range, and routes to the ranges of the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;

use anyhow::Context as _;
use futures::future::try_join_all;
use ipnet::IpNet;
use serde_json::json;

use super::node::Node;
use crate::lab::wait;
use crate::timing;

/// Where kind's images have the manifest of their network.
const MANIFEST: &str = "/kind/manifests/default-cni.yaml";
const CONFLIST: &str = "/etc/cni/net.d/10-rollproof.conflist";
/// A unit, so that the routes are there again after the node was started again.
const UNIT: &str = "/etc/systemd/system/rollproof-routes.service";

/// Applies the network that the image brings, if it brings one. `kubectl` runs on the first control plane.
///
/// # Errors
/// kubectl's.
pub(super) async fn from_image(first: &Node, pods: &str, endpoint: SocketAddr) -> anyhow::Result<bool> {
    let found = first.exec(timing::NODE_COMMAND, &["cat", MANIFEST], &[]).await?;
    let manifest = String::from_utf8_lossy(&found.stdout);
    if !manifest.contains("kind: DaemonSet") {
        return Ok(false);
    }
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
}
