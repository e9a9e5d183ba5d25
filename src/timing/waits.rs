//! How long we wait for the lab, for our own probes, and for what provisioning asks of others.

use std::time::Duration;

use super::{Bounds, Timers, millis, secs};

// For the lab and for our own probes, before we call the lab broken.

/// A probe's single request. A hung server must not stop the probe for longer; beyond it the request is a timeout.
pub const REQUEST_TIMEOUT: Duration = secs(10);
/// etcd and the apiservers, from their start to /readyz. Measured 3 to 7 s on two cores; the rest is for a busy machine.
pub const CONTROL_PLANE_READY: Duration = secs(90);
/// How many packets in a hundred a bad cable loses, each way.
pub const PERCENT_LOST: u8 = 3;
/// How often packets that are held back are looked at: how exact a delay is.
pub const DELAY_STEP: Duration = millis(1);
/// By how many milliseconds packets to and from an apiserver in another region are late, each way. A health check takes three round trips, and must
/// not take [`Timers::health_timeout`].
pub const FAR_MS: u32 = 50;
/// And of one so slow that no health check is answered in time; a request on a new connection still is.
pub const TOO_LATE_MS: u32 = 400;
/// A kubelet's stand-in, from its start until it listens. Measured under 1 s.
pub const KUBELET_READY: Duration = secs(30);
/// Istio's control plane, from its start until Envoy may ask it. Measured under 1 s, and 2 s on a machine with other work.
pub const PILOT_READY: Duration = secs(30);
/// A kubelet, from a change of a static pod's manifest to its SIGTERM. Measured under 0.5 s.
pub const KUBELET_ACTS: Duration = secs(15);
/// A kubelet, from the end of a static pod's process to the next one's start. Measured 7 to 15 s: its backoff for static pods is
/// 10 s and a jitter (kubelet pod_workers.go, allowPodStart); a process that died comes back later each time.
pub const KUBELET_RESTARTS: Duration = secs(90);
/// A kube-apiserver whose manifest is replaced while nobody looks, until its process has ended: the longest grace period that a
/// scenario gives it, and the kubelet's reaction.
pub const MANIFEST_REPLACED: Duration = secs(180);
/// What a node has written, until we have it.
pub const MIRRORED: Duration = secs(10);
/// A balancer, from its start to the first request served through it.
pub const BALANCER_READY: Duration = secs(15);
/// The builtin balancer's wait for a backend to accept a connection; Debian's haproxy.cfg has the same.
pub const BALANCER_CONNECT: Duration = secs(5);
/// The builtin balancer's pause after an accept that failed. Out of file descriptors, it would fail again at once.
pub const BALANCER_ACCEPT_AGAIN: Duration = millis(50);
/// The builtin balancer, from its FIN to closing the socket. Meanwhile what still comes is read and thrown away, since
/// closing with unread bytes turns a FIN into a RST (nginx calls it lingering close).
pub const BALANCER_LINGER: Duration = secs(1);
/// A held request, from its beginning until its apiserver's audit log says that it was received.
pub const IN_FLIGHT_RECEIVED: Duration = secs(10);
/// A held request that is let go on, until its answer is complete. The list is of some 24 MB, through a small window.
pub const IN_FLIGHT_FINISHED: Duration = secs(30);
/// `rollproof watch-check`: an update that fails, until the next change takes its place; longer than a kube-apiserver's restart.
pub const UPDATE_PATIENCE: Duration = secs(60);
/// One scrape of its metrics.
pub const SCRAPE: Duration = secs(5);
/// What a load left behind, asked for until one apiserver answers.
pub const LOAD_LISTED: Duration = secs(15);
/// A node whose kubelet is not heard of, until its controller has called it Unknown: 17 s until another one leads, if that node's did; from
/// its first look, node-monitor-grace-period (50 s), looked at every 5 s.
pub const NODE_MISSED: Duration = secs(95);
/// How long an apiserver is without its etcd member: longer than the freshness bound on nodes (13 s), and shorter than the 80 s after which a
/// kubelet would restart it for a red /livez (kubeadm's livenessProbe: 8 failures, 10 s apart).
pub const ETCD_MISSED: Duration = secs(30);
/// A process that was sent SIGTERM and does not drain, until it has ended. Measured under 1 s.
pub const SIGNAL_ACTS: Duration = secs(3);
/// Controllers that were started anew, until some of them lead: the last leader's lease holds for 15 s.
pub const LEADERS_BACK: Duration = secs(90);
/// client-go's longest pause before a reflector watches again where apiservers were restarted often: 30 s, and as much again by jitter
/// (tools/cache/reflector.go). So long may a kubelet not hear of a pod, or a controller of a namespace.
const REFLECTOR_PAUSE: Duration = secs(60);
/// A namespace that is deleted, until it is gone: its controller takes a few seconds.
pub const NAMESPACE_GONE: Duration = secs(30);
/// The namespaces of the last scenario, until they are gone: first their controller, and the kubelet of their pod, have to hear of it.
pub const NAMESPACES_CLEARED: Duration = REFLECTOR_PAUSE.saturating_add(NAMESPACE_GONE);
/// A new namespace of a cluster, until its controllers have put into it what is in every one. Measured up to 8 s, after all
/// apiservers were restarted.
pub const NAMESPACE_FURNISHED: Duration = REFLECTOR_PAUSE.saturating_add(secs(30));
/// A pod whose image is on its node, until it runs. Measured under 2 s once its kubelet has heard of it; the rest is for a busy machine.
pub const POD_RUNS: Duration = REFLECTOR_PAUSE.saturating_add(secs(30));
/// A probe, from its start to its first samples.
pub const PROBE_READY: Duration = secs(30);
/// After a disturbance, until every probe has its samples "after".
pub const PROBE_SETTLED: Duration = secs(30);
/// The fence write, until an attempt at it is acknowledged.
pub const FENCE_WRITTEN: Duration = secs(15);
/// A restarted apiserver, until a new connection through the balancer has met it: longer than the bound that is judged.
pub fn back_patience(timers: &Timers) -> Duration {
    Bounds::with(timers).back + secs(5)
}
/// After the fence write, until a watch has seen it. Longer than any client library's own recovery in these scenarios, and than a change may
/// be late: else nobody knew whether it was lost or late.
pub fn fence_seen(timers: &Timers) -> Duration {
    secs(30).max(Bounds::with(timers).fresh + secs(5))
}
/// An answer of the keeper. It may have to wait twice for processes to die.
pub const KEEPER_ANSWER: Duration = secs(30);
/// Children of a struck lab, from SIGKILL to the last one reaped. Measured under 0.1 s.
pub const STRIKE: Duration = secs(10);
/// A balancer command, from SIGTERM to SIGKILL.
pub const COMMAND_STOP: Duration = secs(2);
/// What a balancer command is told about idle connections: longer than any scenario that does not ask for less.
pub const COMMAND_IDLE_TIMEOUT: Duration = secs(3600);
/// An answer of Docker that takes no work. A container is created or removed well within it, on a busy machine too.
pub const DOCKER_ANSWER: Duration = secs(30);
/// An order that Docker has taken from somebody who was killed, until what it makes can be seen. Measured under 1 s.
pub const DOCKER_ORDER: Duration = secs(2);
/// A node's container, from its start until containerd runs in it. Measured 1 to 3 s.
pub const NODE_UP: Duration = secs(60);
/// A command in a node that is not kubeadm: writing a file, asking kubectl.
pub const NODE_COMMAND: Duration = secs(30);
/// One `kubeadm init` or `kubeadm join`. Measured 8 to 30 s.
pub const KUBEADM: Duration = secs(240);
/// How late a kubelet's line reaches journald at most: 80 ms were met on a busy machine. More is a clock in another time zone.
pub const JOURNAL_LATE: Duration = secs(5);
/// Nodes that have joined, until they are ready; what they are given on the way to that.
pub const NODES_READY: Duration = secs(90);
/// How long a health check of a scenario's balancer may take where apiservers are on nodes that share a machine: while one of them
/// starts, the others may be slow. Twice that and the interval is still much less than their shutdown delay.
pub const NODE_HEALTH_TIMEOUT: Duration = secs(2);
/// Between two health checks of the balancer inside a cluster's network, and how long one may take.
pub const NODE_HEALTH_EVERY: Duration = millis(500);
/// Containers and networks of a cluster, from the order to remove them until they are gone. Measured 1 to 3 s.
pub const CLUSTER_STRUCK: Duration = secs(20);
/// One whole scenario on that many apiservers. A scenario that runs into it has hung: the lab is broken.
pub fn scenario_limit(timers: &Timers, apiservers: u32) -> Duration {
    secs(120) + (timers.graceful_stop() + CONTROL_PLANE_READY + back_patience(timers)) * apiservers
}

// How long provisioning waits for others. Nothing here is part of a run.

/// A release site's name, and then its connection and TLS handshake. Most machines without a way out fail at once, but some
/// firewalls swallow packets: `go build` is to get its turn soon.
pub const RELEASE_SITE_CONNECT: Duration = secs(5);
/// A release site that has stopped sending.
pub const RELEASE_SITE_STALL: Duration = secs(15);
/// One whole download. The largest is 120 MB.
pub const DOWNLOAD_LIMIT: Duration = secs(900);
/// One whole `go build`. Measured 4 to 12 minutes from cold caches on two cores; Istio 26, on cores that had other work.
pub const GO_BUILD_LIMIT: Duration = secs(3600);
/// One whole bootstrap of a Debian root filesystem. Measured 1½ to 5 minutes.
pub const DEBIAN_LIMIT: Duration = secs(1800);
/// The Docker engine's answer to a question about an image.
pub const ENGINE_ANSWER: Duration = secs(30);
/// A registry that the engine hears nothing from. It gives a host three tries itself.
pub const IMAGE_PULL_STALL: Duration = secs(60);
/// An image of some 400 MB on its way into the engine. Measured 3 s.
pub const IMAGE_LOAD_LIMIT: Duration = secs(600);
/// A program that is asked for its version. Measured under 0.2 s.
pub const VERSION_ANSWER: Duration = secs(10);
/// Envoy, which is to say whether it takes a configuration. Measured 0.2 s.
pub const ENVOY_VALIDATES: Duration = secs(10);
