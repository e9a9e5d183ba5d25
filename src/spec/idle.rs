//! IDLE: what becomes of connections on which nothing happens for a while.

use super::{Level, Need, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[&ANNOUNCED, &NOT_BEFORE, &RESUMED, &CHANGE_NOTICED, &NOT_REUSED, &HELD];

/// Both sides learn that their connection is gone.
pub static ANNOUNCED: Requirement = Requirement {
    id: "IDLE-1",
    // Many balancers say it on the next packet only, and nobody promises more.
    level: Level::Should,
    title: "idle timeout announced",
    sentence: "A balancer that stops carrying an idle connection tells both sides at once, by RST or FIN.",
    source: "AKS field report (Azure/AKS#1755: watches silently dropped; with TCP reset on idle, the balancer sent RST to the client \
             and the server after 4 min 20 s); no more than SHOULD, since AWS NLB answers the next packet with RST (Network Load \
             Balancers, connection idle timeout), and a kernel's connection table says nothing by itself",
    needs: &[],
    remedy: "Turn on the balancer's reset on idle (Azure: enableTcpReset on the rule), or lengthen its idle timeout; where neither is to \
             be had, clients and servers need TCP keepalive shorter than the timeout, and TCP_USER_TIMEOUT.",
};

/// Nothing but idle connections is cut.
pub static NOT_BEFORE: Requirement = Requirement {
    id: "IDLE-2",
    level: Level::Must,
    title: "nothing else is cut",
    sentence: "A connection is carried as long as its last byte, in either direction, is no older than the balancer's idle timeout.",
    source: "AKS field report (\"the TCP connection will never be idle and so will never be reset\")",
    needs: &[],
    remedy: "The balancer's idle timeout is shorter than it was said to be, or counts one direction only, or the age of the connection: \
             check its settings for each (haproxy: timeout client and timeout server; AWS NLB: 350 s, fixed until 2024).",
};

/// A watch that was ended while idle goes on.
pub static RESUMED: Requirement = Requirement {
    id: "IDLE-3",
    level: Level::Must,
    title: "watch resumed after an idle end",
    sentence: "A client whose idle watch is ended opens it again within a bound, from the last revision it knows, and lists after 410 only.",
    source: "AKS field report (apiserver-watcher: the watcher has 10 s to notice a change); Kubernetes API concepts, efficient detection of \
             changes",
    needs: &[],
    remedy: "Take an end of the stream for what it is, also without an error: go on from the last resourceVersion at once, and relist after 410 \
             only. Shorten the client's backoff for a watch that had been well for a while.",
};

/// A change reaches whoever has long heard nothing.
pub static CHANGE_NOTICED: Requirement = Requirement {
    id: "IDLE-4",
    level: Level::Must,
    title: "change noticed after an idle time",
    sentence: "A change is noticed by a watch within 10 s of its acknowledgement, however long the watch was idle before.",
    source: "AKS field report (apiserver-watcher: an update every 600 s, 10 s for the watcher to notice; Azure/AKS#1755: watches silently \
             dropped)",
    needs: &[],
    remedy: "Let the balancer announce its idle timeout (IDLE-1), or keep the watch's connection from being idle: TCP keepalive shorter than the \
             timeout (client-go: 30 s, by default) or HTTP/2 pings. `rollproof watch-check` tries it on a cluster.",
};

/// What was ended while idle carries nothing.
pub static NOT_REUSED: Requirement = Requirement {
    id: "IDLE-5",
    level: Level::Must,
    title: "dead pooled connection not used",
    // That nothing is created twice on the way is ROLLOUT-10's, in the same scenario.
    sentence: "A request that comes after its pooled connection was ended while idle goes out on another one, and is answered.",
    source: "AKS field report, \"Reuse connection with polling\" (\"the TCP connection initiated by the first request should have been reset and not \
             used by the second one\")",
    needs: &[],
    remedy: "Let the balancer announce its idle timeout (IDLE-1); in the client, keep idle connections in the pool for less than the balancer's timeout \
             (hyper: pool_idle_timeout, Go: IdleConnTimeout), or turn on TCP keepalive, and give each request a timeout.",
};

/// Keepalive is traffic.
pub static HELD: Requirement = Requirement {
    id: "IDLE-6",
    level: Level::Must,
    title: "keepalive holds a connection",
    sentence: "A balancer that is no proxy carries a connection for as long as a client's TCP keepalive probes come within its idle timeout.",
    source: "AKS field report (\"No KeepAlive in this TCP connection\": with it, the connection would not be idle); RFC 9293, 3.8.4; Azure Load \
             Balancer and AWS NLB, documentation of the idle timeout",
    needs: &[Need::BalancerForwards],
    remedy: "Set the client's keepalive (net.ipv4.tcp_keepalive_time: two hours, by default; client-go: 30 s) below the balancer's idle timeout, and \
             check that the timeout is what it is said to be (IDLE-2). A proxy's kernel answers the probes, and its timers know nothing of them.",
};
