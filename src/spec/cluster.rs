//! CLUSTER: the clients that every cluster has of its own, its kubelets and controllers, while apiservers are restarted.

use super::{Level, Need, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[&NODES_READY, &LEASES_RENEWED, &LEADERS_STAY];

/// Nodes stay ready.
pub static NODES_READY: Requirement = Requirement {
    id: "CLUSTER-1",
    level: Level::Must,
    title: "nodes stay ready",
    sentence: "From the first disturbance of an apiserver on, no node that is ready becomes Unknown or disappears.",
    source: "Kubernetes documentation of nodes (a node whose kubelet is not heard of for node-monitor-grace-period becomes Unknown, is \
             tainted, and its pods are evicted; False is what a kubelet says of itself, and so has reached an apiserver)",
    needs: &[Need::Nodes],
    remedy: "A kubelet has to reach some apiserver all the time: give it the balancer's address, and not one apiserver's (kubeadm's \
             feature gate ControlPlaneKubeletLocalMode), or keep a restart much shorter than node-monitor-grace-period.",
};

/// Node leases do not run out.
pub static LEASES_RENEWED: Requirement = Requirement {
    id: "CLUSTER-2",
    level: Level::Must,
    title: "node leases renewed",
    sentence: "From the first disturbance of an apiserver on, no kubelet's lease in kube-node-lease goes unrenewed for longer than its \
               leaseDurationSeconds, or disappears.",
    source: "KEP-589 efficient node heartbeats (leaseDurationSeconds 40, renewed every 10 s)",
    needs: &[Need::Nodes],
    remedy: "As CLUSTER-1: the lease is the first to tell. A kubelet tries again at once five times, and then with the next period.",
};

/// Leaders go on leading.
pub static LEADERS_STAY: Requirement = Requirement {
    id: "CLUSTER-3",
    level: Level::Should,
    title: "leaders stay",
    sentence: "While apiservers are gracefully restarted, no lease of a kube-controller-manager or kube-scheduler changes its holder, \
               goes unrenewed for longer than its leaseDurationSeconds, or disappears.",
    source: "client-go leaderelection (leaseDuration 15 s, renewDeadline 10 s: one that cannot renew for so long ends its process)",
    needs: &[Need::Nodes],
    remedy: "kubeadm gives the controller manager and the scheduler of a node the apiserver of the same node: while that is restarted, \
             they have none. Give them the balancer's address (controller-manager.conf, scheduler.conf), or lengthen \
             --leader-elect-renew-deadline beyond a restart.",
};
