//! What a client of watches asks, and is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::timing::nanos;

/// A list or watch request as the client library sent it, seen below its own retries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListWatch {
    /// Which probe.
    pub probe: String,
    /// List or watch.
    pub call: Call,
    /// The resourceVersion it asked from; `None` where it asked for the newest.
    pub from: Option<u64>,
    /// Whether it asked for whatever there is, however old (`resourceVersion=0`). `from` is none then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any: bool,
    /// Whether it asked for a watch that begins with the state, as events (`sendInitialEvents=true`, KEP-3157).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub initial_events: bool,
    /// The Audit-ID header that we added.
    pub audit_id: String,
    /// The status line's code, or why there was none.
    pub answer: Result<u16, Failure>,
    /// Until the answer's headers.
    #[serde(rename = "took_ns", with = "nanos")]
    pub took: Duration,
}

/// List or watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// GET of a collection.
    List,
    /// GET of a collection with `watch=true`.
    Watch,
}

/// A change that a watch delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Which probe.
    pub probe: String,
    /// What kind of change.
    pub kind: ChangeKind,
    /// The object's name.
    pub object: String,
    /// The resourceVersion of the event.
    pub revision: u64,
    /// The [`Write::change`] that the object carries. A delete carries the change before it.
    pub change: u64,
}

/// The kind of a delivered change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// ADDED.
    Added,
    /// MODIFIED.
    Modified,
    /// ADDED or MODIFIED: the client library does not say which.
    Applied,
    /// DELETED.
    Deleted,
}

/// The whole state, as a client library handed it to its user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Which probe.
    pub probe: String,
    /// The list's resourceVersion, where the library says it.
    pub revision: Option<u64>,
    /// Each object's name and the change it carries.
    pub objects: Vec<(String, u64)>,
}

/// A bookmark: everything up to a revision was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// Which probe.
    pub probe: String,
    /// That revision.
    pub revision: u64,
    /// Whether it says that the initial events are over (`k8s.io/initial-events-end`, KEP-3157).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub initial_events_end: bool,
}

/// The end of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEnded {
    /// Which probe.
    pub probe: String,
    /// Why; `None` for a clean end.
    pub failure: Option<Failure>,
}
