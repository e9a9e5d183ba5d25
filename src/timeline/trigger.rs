//! Changes that somebody who has long heard nothing has to notice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::timing::nanos;

/// A round of the AKS report's apiserver-watcher: its updater changed the ConfigMap `trigger`, its watcher was to notice. Written down when it
/// was over; the update was sent at `at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Which probe.
    pub probe: String,
    /// Running number of the change.
    pub change: u64,
    /// For how long the watcher had been told of nothing when the update was sent.
    #[serde(rename = "idle_ns", with = "nanos")]
    pub idle: Duration,
    /// How long a connection may be idle, as the balancer was told; `None` where nobody knows.
    #[serde(rename = "idle_timeout_ns", with = "nanos::option", default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// How long the watcher had.
    #[serde(rename = "patience_ns", with = "nanos")]
    pub patience: Duration,
    /// Until the update was acknowledged, or had failed.
    #[serde(rename = "took_ns", with = "nanos")]
    pub took: Duration,
    /// Why the update was not acknowledged, if it was not: nothing is owed then.
    pub failure: Option<Failure>,
    /// From the acknowledgement until the watcher had noticed; zero if it was first. `None`: not in that time.
    #[serde(rename = "noticed_ns", with = "nanos::option", default)]
    pub noticed: Option<Duration>,
}
