//! Connections on which next to nothing happens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::timing::nanos;

/// A connection through the balancer to a timer-server, which says the time at an interval and nothing else. Written down when the
/// observation was over; opened at `at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerConnection {
    /// Which probe.
    pub probe: String,
    /// The client's end, host:port.
    pub client: String,
    /// The same as the server sees it: the balancer's end, where that is a proxy. Empty in recordings that do not say it.
    #[serde(default)]
    pub peer: String,
    /// The apiserver beside whose address the timer-server listens, behind the same cable.
    #[serde(default)]
    pub server: String,
    /// What the client does beyond waiting.
    #[serde(default, skip_serializing_if = "Manner::is_plain")]
    pub manner: Manner,
    /// From one message of the server to the next.
    #[serde(rename = "interval_ns", with = "nanos")]
    pub interval: Duration,
    /// How long a connection may be idle, as the balancer was told.
    #[serde(rename = "idle_timeout_ns", with = "nanos")]
    pub idle_timeout: Duration,
    /// How long it was observed.
    #[serde(rename = "lasted_ns", with = "nanos")]
    pub lasted: Duration,
    /// How the client was told of the end, if it was.
    pub client_told: Option<Told>,
    /// How the server was told of the end, if it was.
    pub server_told: Option<Told>,
    /// Whether a byte still came from the client to the server at the end of the observation; `None` if one of them had been told.
    pub carries: Option<bool>,
}

/// How one side of a connection learned of its end, by waiting and no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Since the connection was opened.
    #[serde(rename = "after_ns", with = "nanos")]
    pub after: Duration,
    /// Since the last byte that this side had sent or received.
    #[serde(rename = "idle_ns", with = "nanos")]
    pub idle: Duration,
    /// `None` is a FIN.
    pub failure: Option<Failure>,
}

/// What a client does, or has its kernel do, beyond waiting for what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manner {
    /// TCP keepalive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT.
    #[serde(rename = "user_timeout_ns", with = "nanos::option", default, skip_serializing_if = "Option::is_none")]
    pub user_timeout: Option<Duration>,
    /// When it writes a byte, since the connection was opened.
    #[serde(rename = "writes_after_ns", with = "nanos::option", default, skip_serializing_if = "Option::is_none")]
    pub writes_after: Option<Duration>,
}

/// TCP keepalive, as tcp(7) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    /// Silence before the first probe (TCP_KEEPIDLE).
    #[serde(rename = "idle_ns", with = "nanos")]
    pub idle: Duration,
    /// From one unanswered probe to the next (TCP_KEEPINTVL).
    #[serde(rename = "interval_ns", with = "nanos")]
    pub interval: Duration,
    /// Unanswered probes that end the connection (TCP_KEEPCNT).
    pub probes: u32,
}

impl Manner {
    /// Whether it only waits.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}
