//! What befalls a node: frozen, cut off from the network, or without its etcd member. Guards, as all faults are.

use anyhow::Context as _;

use super::docker::{asked, engine};
use super::node::Node;
use super::strike::blocking;

/// Where packets are lost, in the node's own network namespace: whatever arrives for the node or for its pods, and whatever leaves
/// it. The interface stays up: taking it down would remove routes, and connections would fail at once, with an error.
const CUT: &str = "table inet rollproof_cut {
  chain arriving { type filter hook prerouting priority raw - 10; policy accept; iifname \"eth*\" drop; }
  chain leaving { type filter hook postrouting priority 300; policy accept; oifname \"eth*\" drop; }
}
";
const HEAL: &str = "delete table inet rollproof_cut\n";

/// Stops the process, and does not take the manifest away: to remove the mirror pod, the kubelet would ask the apiserver of its node, which
/// hangs without etcd, and the kubelet with it. It starts nothing again meanwhile (measured with v1.37.2: for minutes).
const STOP_ETCD: &[&str] = &["pkill", "--signal", "STOP", "--exact", "etcd"];
const START_ETCD: &[&str] = &["pkill", "--signal", "CONT", "--exact", "etcd"];

/// A fault that ends when this is dropped.
#[must_use = "dropping the guard ends the fault"]
#[derive(Debug)]
pub struct NodeFault {
    node: Node,
    kind: Kind,
    over: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Frozen,
    CutOff,
    WithoutEtcd,
}

impl Node {
    /// Freezes all processes in the container. Its kernel goes on: connections stay, and are acknowledged.
    ///
    /// # Errors
    /// Docker refuses.
    pub async fn freeze(&self) -> anyhow::Result<NodeFault> {
        asked(&format!("a pause of {self}"), engine().await?.pause_container(&self.name)).await?;
        Ok(NodeFault { node: self.clone(), kind: Kind::Frozen, over: false })
    }

    /// Loses all packets to the node and from it, without telling anybody. Docker still reaches it: it needs no network.
    ///
    /// # Errors
    /// There is no `nft` in the node, or its kernel refuses.
    pub async fn cut_off(&self) -> anyhow::Result<NodeFault> {
        self.run(&["nft", "-f", "-"], CUT.as_bytes()).await.with_context(|| format!("cannot cut off {self}"))?;
        Ok(NodeFault { node: self.clone(), kind: Kind::CutOff, over: false })
    }

    /// Stops the etcd member on it (SIGSTOP). Its kernel goes on: connections stay, and are acknowledged.
    ///
    /// # Errors
    /// There is none.
    pub async fn stop_etcd(&self) -> anyhow::Result<NodeFault> {
        self.run(STOP_ETCD, &[]).await.with_context(|| format!("cannot stop etcd on {self}"))?;
        Ok(NodeFault { node: self.clone(), kind: Kind::WithoutEtcd, over: false })
    }
}

impl NodeFault {
    /// Ends the fault, and returns when it has ended.
    ///
    /// # Errors
    /// Docker or the node refuses.
    pub async fn heal(mut self) -> anyhow::Result<()> {
        self.over = true;
        heal(&self.node, self.kind).await
    }
}

impl Drop for NodeFault {
    fn drop(&mut self) {
        if !self.over {
            // A node that is gone needs no healing.
            let _ = blocking(async || heal(&self.node, self.kind).await);
        }
    }
}

async fn heal(node: &Node, kind: Kind) -> anyhow::Result<()> {
    match kind {
        Kind::Frozen => asked(&format!("{node} to go on"), engine().await?.unpause_container(&node.name)).await,
        Kind::CutOff => node
            .run(&["nft", "-f", "-"], HEAL.as_bytes())
            .await
            .map(drop)
            .with_context(|| format!("cannot heal {node}")),
        Kind::WithoutEtcd => {
            node.run(START_ETCD, &[]).await.map(drop).with_context(|| format!("cannot start etcd on {node}"))
        }
    }
}
