//! ROLLOUT: what clients notice, and what an apiserver does, when apiservers are restarted one after the other.

use super::{Level, Need, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[
    &NO_OUTAGE_NEW,
    &NO_OUTAGE_REUSED,
    &READYZ_RED,
    &LIVEZ_GREEN,
    &SIGNAL_ORDER,
    &BACK,
    &KILL_OUTAGE_NEW,
    &KILL_OUTAGE_REUSED,
    &NO_OUTAGE_IN_LIBRARY,
];

/// New connections are always served.
pub static NO_OUTAGE_NEW: Requirement = Requirement {
    id: "ROLLOUT-1",
    level: Level::Must,
    title: "no outage, new connections",
    sentence: "While apiservers are gracefully restarted one after the other, as while nothing happens, every request on a new connection through \
               the balancer succeeds.",
    source: "OpenShift field report (\"new connections are accepted within a certain grace period\"); \
             kube-apiserver --shutdown-delay-duration",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "The balancer must take an apiserver out of service before its listener closes: let it check /readyz over \
             HTTPS, and make --shutdown-delay-duration longer than interval x threshold + timeout of that check.",
};

/// Kept connections are served, or closed while idle.
pub static NO_OUTAGE_REUSED: Requirement = Requirement {
    id: "ROLLOUT-2",
    level: Level::Must,
    title: "no outage, reused connections",
    sentence: "While apiservers are gracefully restarted one after the other, as while nothing happens, every request on a reused connection through \
               the balancer succeeds, or is repaired by one retry on a fresh connection because no server had taken it up: \
               the old connection had been closed while idle, or its stopping apiserver refused (503 with Retry-After).",
    source: "OpenShift field report (\"in-flight connections are given enough time to complete\"); RFC 9110, 9.2.2 and \
             RFC 9112, 9.3.1 (retrying on a closed connection); k8s.io/apiserver pkg/server/filters/waitgroup.go",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "A reset in the middle of a request: the balancer cuts established connections when a target turns unhealthy \
             (turn on connection draining), or the apiserver was killed before its requests had finished (make \
             terminationGracePeriodSeconds longer than delay + request timeout).",
};

/// /readyz turns red at SIGTERM and stays red.
pub static READYZ_RED: Requirement = Requirement {
    id: "ROLLOUT-3",
    level: Level::Must,
    title: "/readyz red at once",
    sentence: "From SIGTERM on, an apiserver's /readyz fails, at once and until the process has ended.",
    source: "k8s.io/apiserver pkg/server/genericapiserver.go (ShutdownInitiated), healthz.go (shutdown check)",
    needs: &[Need::RestartableServers, Need::DirectAccess],
    remedy: "Balancers can only drain what says that it wants to be drained. Check that SIGTERM reaches kube-apiserver \
             itself (no shell between), and that nobody asks /readyz?exclude=shutdown.",
};

/// /livez stays green while the apiserver serves on.
pub static LIVEZ_GREEN: Requirement = Requirement {
    id: "ROLLOUT-4",
    level: Level::Must,
    title: "/livez green in the delay",
    sentence: "From SIGTERM until the end of --shutdown-delay-duration, an apiserver's /livez succeeds.",
    source: "k8s.io/apiserver pkg/server/healthz.go; kubeadm's static pod (livenessProbe on /livez)",
    needs: &[Need::RestartableServers, Need::DirectAccess],
    remedy: "A red /livez makes the kubelet kill the apiserver in the middle of its graceful termination.",
};

/// Lifecycle signals come in the order of their causes.
pub static SIGNAL_ORDER: Requirement = Requirement {
    id: "ROLLOUT-5",
    level: Level::Must,
    title: "lifecycle signals in order",
    sentence: "A gracefully stopped apiserver goes through ShutdownInitiated, AfterShutdownDelayDuration, \
               NotAcceptingNewRequest and HTTPServerStoppedListening, each after its causes, and then ends by itself.",
    source: "k8s.io/apiserver pkg/server/lifecycle_signals.go and genericapiserver.go (the drawing above \
             RunWithContext)",
    needs: &[Need::RestartableServers, Need::ServerLogs],
    remedy: "A signal that never came tells where the termination got stuck, or that the process was killed first: \
             compare the grace period of the pod with delay + request timeout.",
};

/// A restarted apiserver takes traffic again soon.
pub static BACK: Requirement = Requirement {
    id: "ROLLOUT-6",
    level: Level::Must,
    title: "back within a bound",
    sentence: "A restarted apiserver is ready, and met by new connections through the balancer, within the bound of its \
               start.",
    source: "OpenShift field report (the balancer forwards \"until the new process starts reporting 200 on readyz again\")",
    needs: &[Need::RestartableServers],
    remedy: "Compare the steps Started, Ready and MetThroughBalancer in the recording: a late Ready is the apiserver's \
             (etcd, admission webhooks), a late MetThroughBalancer the balancer's (rise threshold, slow start).",
};

/// A killed apiserver costs new connections a bounded time.
pub static KILL_OUTAGE_NEW: Requirement = Requirement {
    id: "ROLLOUT-7",
    level: Level::Must,
    title: "bounded outage of a kill, new connections",
    sentence: "When an apiserver is killed, requests on new connections through the balancer fail for no longer than the \
               balancer needs to detect it.",
    source: "OpenShift field report (NonGracefulTermination); design of health-checked balancers",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "The balancer keeps a dead backend in service: check interval, threshold and timeout of its health check, and \
             whether it tries another backend when one refuses (redispatch).",
};

/// A killed apiserver costs kept connections a bounded time.
pub static KILL_OUTAGE_REUSED: Requirement = Requirement {
    id: "ROLLOUT-8",
    level: Level::Must,
    title: "bounded outage of a kill, reused connections",
    sentence: "When an apiserver is killed, requests on a reused connection through the balancer fail for no longer than \
               the balancer needs to detect it.",
    source: "gateway field report (the gateway keeps a dead upstream); OpenShift field report",
    needs: &[Need::RestartableServers, Need::SeveralServers],
    remedy: "The balancer keeps the client's connection open though the server's is gone, or reconnects to the dead \
             server: let it close both sides together, and check /readyz.",
};

/// What the user of a client library is told.
pub static NO_OUTAGE_IN_LIBRARY: Requirement = Requirement {
    id: "ROLLOUT-11",
    level: Level::Should,
    title: "no outage, as the client library reports it",
    sentence: "While apiservers are gracefully restarted one after the other, a client library that retries as it does by \
               default reports no failed read through the balancer, but for a single one that no apiserver had received, \
               because its pooled connection was being closed at that moment.",
    source: "OpenShift field report (errors as client-go's users saw them); kube-client src/client/retry.rs; RFC 9112, \
             9.3.1 and 9.6 (a client can lose the race against a server that closes an idle connection)",
    needs: &[Need::RestartableServers],
    remedy: "kube-rs repeats what was answered with 429, 503 or 504, and what it could not send; a refused connection, a \
             reset or an unexpected EOF reaches its user. Compare with ROLLOUT-1: where raw requests fail too, the balancer \
             is to blame. Where only the library fails, let the user of a read try once more.",
};
