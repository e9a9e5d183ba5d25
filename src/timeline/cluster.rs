//! What a cluster says of those who are clients of its apiservers themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::timing::nanos;

/// What was read of a cluster, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSeen {
    /// Which probe read it.
    pub probe: String,
    /// Each node's condition Ready: `True`, `False` or `Unknown`.
    pub ready: BTreeMap<String, String>,
    /// Leases of kubelets and of those who lead, by `NAMESPACE/NAME`.
    pub leases: BTreeMap<String, LeaseSeen>,
}

/// A lease, as the API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSeen {
    /// Who holds it.
    pub holder: String,
    /// How long ago it was renewed, by this machine's wall clock, which its nodes share.
    #[serde(rename = "age_ns", with = "nanos")]
    pub age: Duration,
    /// For how long it holds when it is not renewed.
    #[serde(rename = "duration_ns", with = "nanos")]
    pub duration: Duration,
}
