//! GATEWAY: what a gateway that ends HTTP makes of an apiserver that is dead and has not said so.

use super::{Level, Need, Requirement};

/// The family, in the order of its numbering.
pub const ALL: &[&Requirement] = &[&ENDED, &ELSEWHERE, &UNTOUCHED, &QUIET, &REPEATABLE, &RESUMED];

/// What a gateway is made of besides, the scenario says.
const NEEDS: &[Need] = &[Need::Namespaces];

/// A dead upstream's streams end.
pub static ENDED: Requirement = Requirement {
    id: "GATEWAY-1",
    level: Level::Must,
    title: "a dead upstream's streams end",
    sentence: "A gateway ends the watches that it carries to an apiserver which does not answer any more, within seconds.",
    source: "field report of a watch hang behind an Istio ingress gateway (a watch ran for 6000 minutes instead of 5 to 10); pilot \
             listener_builder.go (stream_idle_timeout 0); client-go reflector.go (timeoutSeconds is the server's to keep)",
    needs: NEEDS,
    remedy: "Have the gateway ask the upstream itself: HTTP/2 PING (Envoy: http2_protocol_options.connection_keepalive on the cluster; Istio: an EnvoyFilter), or end what is open where a health check \
             fails (haproxy: on-marked-down shutdown-sessions). \
             TCP keepalive is not enough: Linux sends no probe while bytes are unacknowledged. docs/gateway-cures.md has what was measured.",
};

/// New streams go elsewhere.
pub static ELSEWHERE: Requirement = Requirement {
    id: "GATEWAY-2",
    level: Level::Must,
    title: "new streams go elsewhere",
    sentence: "Seconds after an apiserver has ceased to answer, a gateway puts no request and no watch on a connection to it: each is answered by \
               another.",
    source: "field report of a watch hang (the healthy apiserver received no new request; occasional 503); Envoy documentation, health checking",
    needs: NEEDS,
    remedy: "Active health checks of /readyz, with the host's connections closed by HTTP/2 PING. Outlier detection alone does not see a request that hangs.",
};

/// Others' streams stay.
pub static UNTOUCHED: Requirement = Requirement {
    id: "GATEWAY-3",
    level: Level::Must,
    title: "other upstreams' streams untouched",
    sentence: "While one apiserver does not answer, watches and sessions that a gateway carries to others go on: a watch tells of each change \
               within seconds, and lines of a session come back.",
    source: "RFC 9113, 5.4.2 (a stream error ends one stream); field report of a watch hang",
    needs: NEEDS,
    remedy: "Nothing that ends streams or connections by their age: max_connection_duration, max_stream_duration.",
};

/// Quiet streams live.
pub static QUIET: Requirement = Requirement {
    id: "GATEWAY-4",
    level: Level::Must,
    title: "a quiet healthy stream is not cut",
    sentence: "A gateway never ends a stream of an apiserver that answers, watch or session, however long nothing is said on it.",
    source: "field report of a watch hang (stream_idle_timeout also ended exec sessions in which nothing was typed, and was given up for that)",
    needs: NEEDS,
    remedy: "stream_idle_timeout 0 and no route timeout; let the connection be asked (HTTP/2 PING), not the stream be watched.",
};

/// Clients can go on by themselves.
pub static REPEATABLE: Requirement = Requirement {
    id: "GATEWAY-5",
    level: Level::Should,
    title: "errors that clients repeat",
    sentence: "What a client is told when its apiserver ceases to answer is something after which it tries again by itself: a watch by an end, a reset, or 429 \
               or 5xx; a read by a closed connection, or not at all, since the gateway has repeated it. An answer that has begun cannot be repeated, and is not meant.",
    source: "client-go reflector.go (a watch is always opened again), rest/request.go (a read is repeated after an unexpected EOF or a reset \
             connection; 503 without Retry-After and a reset stream come to its user)",
    needs: NEEDS,
    remedy: "For GET without upgrade: retry_on reset,connect-failure,refused-stream, at another host (previous_hosts). Never for writes: they may have taken effect.",
};

/// Nothing is missed.
pub static RESUMED: Requirement = Requirement {
    id: "GATEWAY-6",
    level: Level::Must,
    title: "a resumed watch misses nothing",
    sentence: "A watch that was ended by a gateway goes on from the last revision that it knew through the same gateway, and delivers every \
               acknowledged change, once.",
    source: "Kubernetes API concepts, efficient detection of changes; field report of a watch hang (the client recovered with its next relist)",
    needs: NEEDS,
    remedy: "As GATEWAY-2: a watch that is opened again must not be put on the dead connection.",
};
