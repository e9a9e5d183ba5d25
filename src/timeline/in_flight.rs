//! Requests that were in flight when something happened to their server.

use serde::{Deserialize, Serialize};

use super::{Failure, Moment};

/// A request that a probe held in flight on purpose. Written down when it was over; began at `at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Which probe.
    pub probe: String,
    /// How it was held.
    pub held: Held,
    /// The apiserver whose serving certificate the connection showed.
    pub server: String,
    /// The Audit-ID header that we sent.
    pub audit_id: String,
    /// When we knew that the server had it: its audit log said RequestReceived.
    pub received: Option<Moment>,
    /// When we let it go on.
    pub resumed: Moment,
    /// Whether it was still under way then: the server's audit log did not say ResponseComplete.
    pub under_way: bool,
    /// When its answer was complete, or it had failed.
    pub finished: Moment,
    /// The status line's code, if one came.
    pub status: Option<u16>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// How much there should be: one object for a create, the objects that exist for a list.
    pub wanted: usize,
    /// How much there is: objects that exist because of the create, items that the list brought. `None` where we could not
    /// find out.
    pub got: Option<usize>,
}

/// How a request was held in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// A POST, half of whose body was held back.
    Create,
    /// A LIST, whose answer was not read beyond its beginning.
    List,
}

impl InFlight {
    /// Whether it completed, whole.
    pub fn completed(&self) -> bool {
        self.failure.is_none() && self.status.is_some_and(|status| (200..300).contains(&status))
    }
}
