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
