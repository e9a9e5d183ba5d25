//! Timers of gateways, the same in both profiles: how long they are decides about how long it takes, and not about whether. What is
//! compressed stands beside what would be set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BALANCER_CONNECT, millis, nanos, secs};

/// Envoy's `stream_idle_timeout`: 600 s in the field report.
pub const STREAM_IDLE_TIMEOUT: Duration = secs(8);
/// TCP keepalive: until the first probe. 30 s would be set.
pub const KEEPALIVE_TIME: Duration = secs(2);
/// TCP keepalive: between probes. 5 s would be set.
pub const KEEPALIVE_INTERVAL: Duration = secs(1);
/// TCP keepalive: probes without an answer.
pub const KEEPALIVE_PROBES: u32 = 3;
/// TCP_USER_TIMEOUT. 20 s would be set.
pub const USER_TIMEOUT: Duration = secs(5);
/// `net.ipv4.tcp_retries2`, a number: how often bytes are repeated, the first time after 200 ms. Measured 6.6 s; 5 would be set (13 s), and a
/// machine comes with 15 (some 15 minutes).
pub const RETRIES2: u32 = 3;
/// Between HTTP/2 PINGs. 10 s would be set.
pub const PING_INTERVAL: Duration = secs(2);
/// For the answer to a PING. 5 s would be set.
pub const PING_TIMEOUT: Duration = secs(2);
/// Failures in a row that eject a host.
pub const OUTLIER_FAILURES: u32 = 3;
/// Between two looks at whom to eject, or to take back.
pub const OUTLIER_INTERVAL: Duration = secs(1);
/// How long a host is ejected, the first time.
pub const OUTLIER_EJECTION: Duration = secs(10);
/// How old a connection or stream may get, where that is bounded. An hour or more would be set.
pub const MAX_DURATION: Duration = secs(8);
/// A connection that is being drained, until it is closed. Envoy's default is 5 s.
pub const DRAIN_TIMEOUT: Duration = secs(2);
/// After a fault, until streams have to be ended and new ones to go elsewhere: more than any timer that ends them here.
pub const ENDED: Duration = secs(12);
/// A new stream, until its answer has to be there: two apiservers are up on a busy machine.
pub const ANSWERED: Duration = secs(3);
/// How long a quiet stream has to be quiet for its survival to prove anything: more than any timer above.
pub const QUIET: Duration = secs(16);
/// How long a fault lasts: [`ENDED`], and enough new streams after it that can show how they fare.
pub const FAULT: Duration = secs(20);
/// A client's connection on which nothing has come, until its client asks it by PING. client-go's 30 s (apimachinery pkg/util/net/http.go,
/// `ReadIdleTimeout`).
pub const CLIENT_READ_IDLE: Duration = secs(2);
/// For the answer to a client's PING. client-go's 15 s (`PingTimeout`).
pub const CLIENT_PING_TIMEOUT: Duration = secs(1);
/// How long an informer asks its watches to last (`timeoutSeconds`). client-go's reflector asks for 300 to 600 s, at random. Longer than probes take to
/// start, so that none has ended before the fault; shorter than [`FAULT`], so that one that is not ended in time is older then.
pub const INFORMER_WATCH: Duration = secs(15);
/// An informer that has told of nothing for so long hangs, says its hang detector: 60 s in the field report. No less than [`ENDED`].
pub const HANG: Duration = secs(12);
/// How many streams an apiserver takes on one connection, a number: its default (apiserver pkg/server/secure_serving.go).
pub const STREAMS: u32 = 100;
/// Watches of one client that are too many for one connection to each of two apiservers, a number: more than twice [`STREAMS`].
pub const MANY: u32 = 240;
/// A watch that has told of nothing for so long, while changes were made, was interrupted.
pub const SILENT: Duration = secs(2);
/// Requests in turn to two apiservers that have to be answered well, one after the other, until they have recovered.
pub const GOOD_IN_A_ROW: usize = 4;
/// Between two requests beside a busy watch.
pub const REQUEST_EVERY: Duration = millis(250);
/// Between two changes that watches are to tell of.
pub const WRITE_EVERY: Duration = millis(250);
/// Between two new watches.
pub const WATCH_EVERY: Duration = secs(1);
/// When all is healed, until watches have seen the fence, and quiet streams their echo. What hangs longer stays as it is.
pub const SETTLED: Duration = secs(5);

/// What placeholders of fixtures/haproxy/gateway*.cfg and fixtures/nginx/gateway*.conf stand for: here, and as it would be set.
pub const IN_FILES: [(&str, Duration, Duration); 7] = [
    // Until an apiserver has accepted a connection, TLS included.
    ("CONNECT", secs(1), secs(2)),
    // How long an answer that is to end may say nothing; and one that is not, where nothing tells them apart. nginx's default.
    ("IDLE", STREAM_IDLE_TIMEOUT, secs(60)),
    // Between two health checks of an apiserver.
    ("CHECK_EVERY", millis(500), secs(5)),
    // For the answer to one.
    ("CHECK", millis(500), secs(2)),
    ("KEEPALIVE_TIME", KEEPALIVE_TIME, secs(30)),
    ("KEEPALIVE_INTERVAL", KEEPALIVE_INTERVAL, secs(5)),
    ("USER_TIMEOUT", USER_TIMEOUT, secs(20)),
];

/// The timers of a lab's gateways and their clients. They are part of the recording, so that a page about it prints those that were in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayTimers {
    /// [`STREAM_IDLE_TIMEOUT`].
    #[serde(rename = "stream_idle_timeout_ns", with = "nanos")]
    pub stream_idle_timeout: Duration,
    /// [`KEEPALIVE_TIME`].
    #[serde(rename = "keepalive_time_ns", with = "nanos")]
    pub keepalive_time: Duration,
    /// [`KEEPALIVE_INTERVAL`].
    #[serde(rename = "keepalive_interval_ns", with = "nanos")]
    pub keepalive_interval: Duration,
    /// [`KEEPALIVE_PROBES`], a number.
    pub keepalive_probes: u32,
    /// [`USER_TIMEOUT`].
    #[serde(rename = "user_timeout_ns", with = "nanos")]
    pub user_timeout: Duration,
    /// [`PING_INTERVAL`].
    #[serde(rename = "ping_interval_ns", with = "nanos")]
    pub ping_interval: Duration,
    /// [`PING_TIMEOUT`].
    #[serde(rename = "ping_timeout_ns", with = "nanos")]
    pub ping_timeout: Duration,
    /// [`MAX_DURATION`].
    #[serde(rename = "max_duration_ns", with = "nanos")]
    pub max_duration: Duration,
    /// [`DRAIN_TIMEOUT`].
    #[serde(rename = "drain_timeout_ns", with = "nanos")]
    pub drain_timeout: Duration,
    /// [`BALANCER_CONNECT`], which is Envoy's `connect_timeout` as well.
    #[serde(rename = "connect_ns", with = "nanos")]
    pub connect: Duration,
    /// [`FAULT`].
    #[serde(rename = "fault_ns", with = "nanos")]
    pub fault: Duration,
    /// [`INFORMER_WATCH`].
    #[serde(rename = "informer_watch_ns", with = "nanos")]
    pub informer_watch: Duration,
    /// [`CLIENT_READ_IDLE`].
    #[serde(rename = "client_read_idle_ns", with = "nanos")]
    pub client_read_idle: Duration,
    /// [`CLIENT_PING_TIMEOUT`].
    #[serde(rename = "client_ping_timeout_ns", with = "nanos")]
    pub client_ping_timeout: Duration,
}

impl Default for GatewayTimers {
    /// Those that are in force here; and those of recordings that do not say it.
    fn default() -> Self {
        Self {
            stream_idle_timeout: STREAM_IDLE_TIMEOUT,
            keepalive_time: KEEPALIVE_TIME,
            keepalive_interval: KEEPALIVE_INTERVAL,
            keepalive_probes: KEEPALIVE_PROBES,
            user_timeout: USER_TIMEOUT,
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
            max_duration: MAX_DURATION,
            drain_timeout: DRAIN_TIMEOUT,
            connect: BALANCER_CONNECT,
            fault: FAULT,
            informer_watch: INFORMER_WATCH,
            client_read_idle: CLIENT_READ_IDLE,
            client_ping_timeout: CLIENT_PING_TIMEOUT,
        }
    }
}
