//! Reads whose content is compared with what was written, and updates that optimistic locking guards.

use serde::{Deserialize, Serialize};

use super::Exchange;

/// A list of the writer's objects without a resourceVersion, through the balancer: the most recent state, as the API promises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Read {
    /// Which probe.
    pub probe: String,
    /// The list's resourceVersion, if it came.
    pub revision: Option<u64>,
    /// Each object's name and the [`Write::change`](super::Write::change) it carries.
    pub objects: Vec<(String, u64)>,
    /// How it went.
    pub exchange: Exchange,
}

/// An update of a counter that two writers share, with the resourceVersion that its writer had read (optimistic locking).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardedUpdate {
    /// Which probe.
    pub probe: String,
    /// The counter's object.
    pub object: String,
    /// The resourceVersion that it was to replace, and no other.
    pub replaces: u64,
    /// The count that it was to write: one more than its writer had read.
    pub count: u64,
    /// The resourceVersion that the answer gave.
    pub revision: Option<u64>,
    /// How it went. A 409 is no failure of anybody: another writer was first.
    pub exchange: Exchange,
}

/// What a counter was when its writers had ended, read past the balancer without a resourceVersion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardedLeft {
    /// The counter's object.
    pub object: String,
    /// Its count.
    pub count: u64,
    /// Its resourceVersion.
    pub revision: u64,
}
