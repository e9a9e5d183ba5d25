//! What the load does: the cycle of the OpenShift report, step by step, and what it leaves behind.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Exchange, Phase};

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
    /// The Audit-ID of the request that this one repeats on a fresh connection, because it [may](Self::may_be_repeated).
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

    /// Whether it met a kept connection that ended before any byte of an answer: one that may have been closed while
    /// idle, as far as the client can know.
    pub fn met_a_closed_connection(&self) -> bool {
        let reused = self.exchange.connection.as_ref().is_some_and(|connection| connection.reused);
        reused && self.exchange.failure.is_some() && self.exchange.phase == Phase::Headers
    }

    /// Whether a client may repeat it: because it is idempotent and met a closed connection, because not a byte of it was
    /// sent there, or because the server refused it for now: 503 with Retry-After, which client-go repeats whatever the verb
    /// (client-go `rest/with_retry.go`).
    ///
    /// An apiserver answers so on kept connections from NotAcceptingNewRequest until it has closed them (k8s.io/apiserver
    /// `pkg/server/filters/waitgroup.go`), and does nothing else with the request.
    pub fn may_be_repeated(&self) -> bool {
        let told = self.exchange.status == Some(503) && self.exchange.retry_after.is_some();
        let repeatable = self.exchange.unsent || self.verb != LoadVerb::Create;
        told || (repeatable && self.met_a_closed_connection())
    }
}

/// What exists when the load has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadLeft {
    /// Resource and name of each object in the load's namespace.
    pub objects: Vec<(String, String)>,
}
