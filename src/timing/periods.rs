//! How often our probes act. Periods, not bounds.

use std::time::Duration;

use super::{millis, secs};

/// Between two requests of a requester, and between two writes.
pub const REQUEST_EVERY: Duration = millis(50);
/// Between two lists of what the writer wrote.
pub const READ_EVERY: Duration = millis(100);
/// Between two updates of each writer of a shared counter. They differ, so that every now and then both have read the same.
pub const GUARDED_EVERY: [Duration; 2] = [millis(100), millis(105)];
/// Between two steps of a worker of the load: with ten workers, 100 requests a second.
pub const LOAD_STEP_EVERY: Duration = millis(100);
/// Between two lists of all ConfigMaps by the load's slow worker.
pub const LOAD_LIST_EVERY: Duration = secs(1);
/// A request that is held in flight until its apiserver is stopped, before another takes its place.
pub const IN_FLIGHT_RENEW: Duration = secs(20);
/// The longest that a request is held in flight once its apiserver was sent SIGTERM, since it began. An apiserver answers a
/// create with 504 after 34 s (k8s.io/apiserver pkg/endpoints/handlers/rest.go, requestTimeoutUpperBound; measured), and
/// ends a list after 60 s (`--request-timeout`).
pub const IN_FLIGHT_HELD: Duration = secs(30);
/// Between two lines of a pod, and of a session that is not quiet.
pub const HEARTBEAT_EVERY: Duration = millis(200);
/// Between two sessions that are opened anew.
pub const SESSION_NEW_EVERY: Duration = millis(250);
/// Between two looks at an apiserver's own /readyz and /livez.
pub const SERVER_HEALTH_EVERY: Duration = millis(100);
/// Between two looks at the nodes and leases of a cluster.
pub const CLUSTER_READ_EVERY: Duration = millis(250);
/// Between two ticks of the ticker that watches for our own stalls.
pub const TICK_EVERY: Duration = millis(20);
/// Between two signs of life of that ticker: how long a span is.
pub const TICKED_EVERY: Duration = secs(1);
/// Between two looks at a file that grows (a log), or at a condition that nothing announces.
pub const LOOK_EVERY: Duration = millis(20);
/// Between two flushes of the recording to its file: what a killed run may lose.
pub const FLUSH_EVERY: Duration = millis(500);
/// A raw watch that could not be opened, until the next attempt. Without it, a refusing balancer would be hammered.
pub const WATCH_RETRY: Duration = millis(100);
/// How long something may take before it is worth a progress line.
pub const PROGRESS_AFTER: Duration = secs(2);
/// Between two progress lines about the same wait.
pub const PROGRESS_EVERY: Duration = secs(5);
