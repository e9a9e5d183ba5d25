//! SESSION: what becomes of sessions into a pod (`exec`, `attach`, `port-forward`, `logs -f`) while apiservers are restarted.
//!
//! What a kube-apiserver does with them when it is stopped is not written down anywhere. Measured with v1.37.2: SIGTERM, the
//! shutdown delay, the closed listener end none of them. What was upgraded (`exec`, `attach`, `port-forward`) is not waited for:
//! the process ends 1 to 2 s after its listener. A `logs -f` is a request that is being served: the process waits for it, with the
//! listener closed, and that for as long as `--request-timeout` (60 s). All sessions end with the process, and without a farewell:
//! no WebSocket close frame, no TLS close_notify, RST where the client had just written.

use super::{Level, Need, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[&NOT_CUT, &QUIET, &TOLD, &NEW];

/// A session lasts as long as its apiserver.
pub static NOT_CUT: Requirement = Requirement {
    id: "SESSION-1",
    level: Level::Must,
    title: "session not cut",
    sentence: "A session in use is carried as long as its apiserver's process lives: neither a red /readyz nor the restart of another \
               apiserver ends it.",
    source: "OpenShift's rollout objective (\"the in-flight connections are given enough time to complete\"); AWS NLB cutting established \
             connections of unhealthy targets (cluster-api-provider-aws#5475)",
    needs: &[Need::RestartableServers, Need::Pods],
    remedy: "Turn on connection draining for unhealthy targets, without a deadline (AWS NLB: \
             target_health_state.unhealthy.connection_termination.enabled=false; haproxy: no on-marked-down shutdown-sessions; Envoy: \
             no close_connections_on_host_health_failure).",
};

/// Silence is no death.
pub static QUIET: Requirement = Requirement {
    id: "SESSION-2",
    level: Level::Must,
    title: "quiet session lives",
    sentence: "A session that keeps silent for longer than every timer on its way is carried all the same, and still answers.",
    source: "gardener#15708 (stream_idle_timeout against hanging watches: `kubectl logs -f` is reaped at 10 min); kube-rs#1945 (a read \
             timeout of 295 s killed exec)",
    needs: &[Need::Pods],
    remedy: "Some idle timeout counts silence as death. Find dead upstreams out by what a healthy quiet one passes: TCP keepalive and \
             TCP_USER_TIMEOUT, or HTTP/2 PING (Envoy: connection_keepalive), not stream_idle_timeout, read timeouts or idle timeouts.",
};

/// The end of a session is told.
pub static TOLD: Requirement = Requirement {
    id: "SESSION-3",
    level: Level::Must,
    title: "end of a session told",
    sentence: "When a session cannot go on, its client is told at once, and does not wait in silence for lines that nobody will send.",
    source: "AKS field report (Azure/AKS#1755); istio#32116 (upstream closed, downstream left open)",
    needs: &[Need::Pods],
    remedy: "The balancer keeps the client's side of a connection whose other side is gone, or forgets idle connections without a word: \
             turn on its reset on idle, and let it end both sides together.",
};

/// A session that is asked for is opened.
pub static NEW: Requirement = Requirement {
    id: "SESSION-4",
    level: Level::Must,
    title: "new sessions open",
    sentence: "While apiservers are gracefully restarted one after the other, a session that is asked for is opened.",
    source: "OpenShift's rollout objective (\"new connection(s) are accepted\")",
    needs: &[Need::RestartableServers, Need::SeveralServers, Need::Pods],
    remedy: "As for ROLLOUT-1: the balancer has to take a stopping apiserver out of service before its shutdown delay is over.",
};
