//! Whom the controller manager and the scheduler of each control plane ask.

use std::ops::ControlFlow;

use anyhow::Context as _;
use futures::future::try_join_all;
use jiff::Timestamp;

use super::cluster::Cluster;
use super::node::Node;
use crate::lab::wait;
use crate::timing;

/// Rewrites their kubeconfigs to a server, and ends those whose was another: their kubelet starts them again. Says whom it has ended.
const ASK: &str = r#"set -e; cd /etc/kubernetes
for name in controller-manager scheduler; do
  if grep --quiet "server: $1\$" "$name.conf"; then continue; fi
  sed --in-place "s|server: .*|server: $1|" "$name.conf"
  pkill --full "^kube-$name " && echo "$name" || true
done"#;

/// The leases of those who lead.
const LEADERS: &[&str] = &[
    "kubectl",
    "--namespace=kube-system",
    "get",
    "lease",
    "kube-controller-manager",
    "kube-scheduler",
    "--output=jsonpath={range .items[*]}{.spec.renewTime}{\"\\n\"}{end}",
];

impl Cluster {
    /// Makes controller managers and schedulers go through the balancer in the cluster's network; or, as kubeadm has it, to the
    /// apiserver of their own node. Waits until some of them lead again, where they had to be started anew.
    ///
    /// # Errors
    /// There is no balancer, a node cannot be reached, or nobody leads.
    pub(in crate::lab::control_plane) async fn controllers_ask(&self, through_balancer: bool) -> anyhow::Result<()> {
        let balancer = self.balancer.as_ref().filter(|_| through_balancer);
        anyhow::ensure!(balancer.is_some() || !through_balancer, "a cluster of one control plane has no balancer");
        let told = self.control_planes().map(async |node: &Node| {
            let server = format!("https://{}", self.apiserver(balancer.unwrap_or(node)));
            node.run(&["sh", "-c", ASK, "ask", &server], &[]).await
        });
        let began = Timestamp::now();
        if try_join_all(told).await?.concat().is_empty() {
            return Ok(());
        }
        let first = self.nodes.first().context("a cluster without nodes")?;
        // One that was renewed before, or just then, may be held by somebody who has ended.
        let fresh = began + timing::SIGNAL_ACTS;
        wait::until(timing::LEADERS_BACK, "controller manager and scheduler to lead again", async || {
            let renewed = match first.run(LEADERS, &[]).await {
                Ok(renewed) => renewed,
                Err(error) => return ControlFlow::Continue(format!("{error:#}")),
            };
            let all =
                renewed.lines().filter_map(|line| line.parse::<Timestamp>().ok()).filter(|at| *at > fresh).count();
            if all == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(format!("renewed: {renewed}")) }
        })
        .await
    }
}
