//! Signs that what a recording does not have did not happen: that we ran all the time, and that an audit log was read whole.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::timing::nanos;

/// A sign of life of our own: the ticker ran from `at` on, for so long. Where no such span is, nobody knows whether we ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticked {
    /// How long the span was. The next one begins where it ends.
    #[serde(rename = "lasted_ns", with = "nanos")]
    pub lasted: Duration,
    /// How much later than it was due the latest tick in it came.
    #[serde(rename = "latest_ns", with = "nanos")]
    pub latest: Duration,
}

/// How an apiserver's audit log was read when the run was over. `at` is when we read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLogRead {
    /// The apiserver whose log it is.
    pub server: String,
    /// Events in it, ours or not.
    pub events: u64,
    /// Lines that are no audit event: the log was torn, or is another.
    pub unreadable: u64,
    /// Whether a part of it may be elsewhere: the apiserver has begun another file, or the copy of it was begun anew and lacks what came before.
    pub partial: bool,
    /// Stages that the policy leaves out for everybody (`omitStages`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted_stages: Vec<String>,
}

/// The probes that observe from now on. One of them without an observation was lost with all that it saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observers {
    /// By the names in their observations.
    pub probes: Vec<String>,
}
