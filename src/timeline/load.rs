//! What the load does: the cycle of the OpenShift report, step by step, and what it leaves behind.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Exchange;

/// One request of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The worker, for example `load-3`.
    pub worker: String,
    /// What it asked for.
    pub verb: LoadVerb,
    /// Of which kind: `serviceaccounts`, `secrets`, `configmaps`, `namespaces`.
    pub resource: String,
    /// The object's name, never used again for another; empty for a list.
    pub object: String,
    /// The Audit-ID of the request that this one repeats on a fresh connection. A create is repeated only if it was
    /// [unsent](Exchange::unsent) or refused by a stopping server.
    pub retries: Option<String>,
    /// An earlier answer about this object was lost, so 404 is as good an answer as 200.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_missing: bool,
    /// How it went.
    pub exchange: Exchange,
}

/// What a worker asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadVerb {
    /// POST: the only one that is not idempotent.
    Create,
    /// GET of an object.
    Get,
    /// DELETE.
    Delete,
    /// GET of a collection.
    List,
}

impl fmt::Display for LoadVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::Delete => "delete",
            Self::List => "list",
        })
    }
}

impl Load {
    /// Whether the worker got what it asked for: a whole 2xx, or a 404 where the object may be missing.
    pub fn succeeded(&self) -> bool {
        let missing = self.exchange.failure.is_none() && self.exchange.status == Some(404);
        self.exchange.succeeded() || (self.may_be_missing && missing)
    }
}

/// What exists when the load has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadLeft {
    /// Resource and name of each object in the load's namespace.
    pub objects: Vec<(String, String)>,
}
