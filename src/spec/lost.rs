//! LOST: what clients make of an apiserver that is gone without a word.

use super::{Level, Need, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[&NOTICED, &NOT_TWICE];

/// Silence is noticed.
pub static NOTICED: Requirement = Requirement {
    id: "LOST-1",
    level: Level::Must,
    title: "silent loss noticed",
    sentence: "A client whose connection leads to an apiserver that is silently lost gives it up by itself, a watch a few seconds after the time \
               for which it was asked for.",
    source: "AKS field report (\"if RST packet was not delivered, the connection could still be stale\"; Azure/AKS#1755); Kubernetes API \
             reference, timeoutSeconds; kube-runtime src/watcher.rs, next_with_idle_timeout; kubernetes/kubernetes#95981 (client-go: 45 s, by \
             HTTP/2 pings)",
    needs: &[Need::Namespaces],
    remedy: "Nothing in TCP ends a connection that only reads. Behind a balancer that is no proxy turn on TCP keepalive, shorter than the balancer's idle timeout, and \
             TCP_USER_TIMEOUT for what is written; behind a proxy these find out about the proxy only. Anywhere, time the stream out a little after the watch's own timeoutSeconds (kube-rs: use \
             the runtime's watcher, or Config::read_timeout for Api::watch).",
};

/// A dead connection is not used again.
pub static NOT_TWICE: Requirement = Requirement {
    id: "LOST-2",
    level: Level::Must,
    title: "dead connection not used twice",
    sentence: "A pooled connection on which a request was not answered in time carries no further request.",
    source: "AKS field report (\"the TCP connection should have been reset and not used by the second one\"); kubernetes/client-go#374, \
             golang/go#36026 (a dead HTTP/2 connection was used for 15 minutes)",
    needs: &[Need::Namespaces],
    remedy: "Close the connection of a request that has timed out, not only the request; over HTTP/2 turn on health checks of the connection \
             (Go: HTTP2_READ_IDLE_TIMEOUT_SECONDS, hyper: http2_keep_alive_interval).",
};
