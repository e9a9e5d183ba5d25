//! BALANCER: what a balancer does with connections while the apiservers behind it are gracefully restarted. Judged by what
//! clients meet, so that it holds for any balancer; its own health checks are not client connections.
//!
//! A new connection is a client's own. Behind a balancer that ends TLS (Envoy, haproxy in HTTP mode) it is carried to the apiserver that answers its
//! first request, as a response header tells: which of the balancer's upstream connections that request goes on is the balancer's affair.
//! A connection that fails before anybody can tell whom it met is carried to nobody knows whom, and then nothing is upheld.

use super::{Level, Need, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[&NEVER_LATE, &NEVER_EARLY, &DRAINS, &FOLLOWS];

/// No new connection towards the end of a shutdown delay.
pub static NEVER_LATE: Requirement = Requirement {
    id: "BALANCER-1",
    level: Level::Must,
    title: "never late",
    sentence: "Once the /readyz of a gracefully stopped apiserver is red, no new connection is carried to it after the stated \
               share (80 %) of its shutdown delay.",
    source: "OpenShift's LateConnections (openshift/kubernetes patch_genericapiserver.go: connections accepted after 80 % \
             of shutdown-delay-duration)",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "A late connection is one slow check away from being refused. Shorten the balancer's check interval or \
             threshold, or lengthen --shutdown-delay-duration; a client that is always carried to its own node's apiserver \
             (hairpin) has to reach it without the balancer.",
};

/// No new connection before an apiserver is ready.
pub static NEVER_EARLY: Requirement = Requirement {
    id: "BALANCER-2",
    level: Level::Must,
    title: "never early",
    sentence: "After a graceful restart, no new connection is carried to an apiserver that was started before its /readyz \
               was ever 200.",
    source: "OpenShift's NonReadyRequests (\"API LBs follow /readyz of kube-apiserver and don't send request early\")",
    needs: &[Need::RestartableServers, Need::SeveralServers, Need::DirectAccess],
    remedy: "The balancer takes an open port for health: an apiserver listens before its caches and its RBAC rules are \
             there, and answers 403 or 404 until then. Check /readyz over HTTPS, and start new targets as unhealthy.",
};

/// Established connections outlive a red /readyz.
pub static DRAINS: Requirement = Requirement {
    id: "BALANCER-3",
    level: Level::Must,
    title: "drains",
    sentence: "When a gracefully stopped apiserver turns unhealthy, the balancer does not cut its established connections \
               before the apiserver ends them.",
    source: "OpenShift's rollout test, which found the AWS NLB cutting established connections of unhealthy targets \
             (cluster-api-provider-aws#5475)",
    needs: &[Need::RestartableServers],
    remedy: "Turn on connection draining for unhealthy targets (AWS NLB: \
             target_health_state.unhealthy.connection_termination.enabled=false; haproxy: no on-marked-down \
             shutdown-sessions), with a drain time longer than delay + request timeout.",
};

/// /readyz decides about service.
pub static FOLLOWS: Requirement = Requirement {
    id: "BALANCER-4",
    level: Level::Must,
    title: "follows /readyz",
    sentence: "A red /readyz takes a gracefully stopped apiserver out of service for new connections within the balancer's \
               detection time, and a green one puts it back within its readmission time.",
    source: "OpenShift field report (\"/readyz will not report 200 and the internal load balancer should not forward any \
             traffic to it until the new process starts reporting 200\")",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "Check what the balancer asks: the path (/readyz, not /livez, /healthz or a TCP connect), the interval, and the \
             thresholds. kind's own balancer asks /healthz, which stays green until the listener closes.",
};
