//! What verdicts hold a subject to.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    CLOSE_NOTICED, CLUSTER_READ_EVERY, REQUEST_EVERY, SERVER_HEALTH_EVERY, SESSION_NEW_EVERY, Timers, WATCH_TIMEOUT,
    gateway, loss_noticed, millis, nanos, secs,
};

/// How many of a probe's periods may pass without a sample, a number. One or two are a slow answer, or a busy machine.
pub const PERIODS: u32 = 20;

/// What verdicts hold a subject to. They are part of the recording, so a saved recording is judged by the bounds in force
/// when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// WATCH-6: from the acknowledgement of a change to its delivery, a reconnect included: the 10 s in which the AKS
    /// report's watcher has to notice, after the balancer has noticed. A client's backoff counts into it. WATCH-4 and WATCH-8:
    /// until a watch that ended is open again, and until initial events are said to be over.
    #[serde(rename = "fresh_ns", with = "nanos")]
    pub fresh: Duration,
    /// ROLLOUT-3: from SIGTERM to the first red /readyz. The server flips it at once; the rest is our sampling.
    #[serde(rename = "readyz_red_ns", with = "nanos")]
    pub readyz_red: Duration,
    /// ROLLOUT-6: from the start of the new process to a connection through the balancer that meets its certificate.
    #[serde(rename = "back_ns", with = "nanos")]
    pub back: Duration,
    /// ROLLOUT-7 and -8: the longest outage that killing an apiserver may cost a requester. A balancer cannot know of the
    /// death before its detection time; new connections fail until then.
    #[serde(rename = "outage_after_kill_ns", with = "nanos")]
    pub outage_after_kill: Duration,
    /// IDLE-3: from the end of a watch to the next one's answer, the client's backoff included.
    #[serde(rename = "resumed_ns", with = "nanos", default = "resumed")]
    pub resumed: Duration,
    /// LOST-1: from the silent loss of its apiserver to the first sign that a client has noticed.
    #[serde(rename = "lost_ns", with = "nanos", default = "lost")]
    pub lost: Duration,
    /// GATEWAY-1 and -2: from an apiserver's silent loss until a gateway has ended what was there, and sends new streams elsewhere.
    #[serde(rename = "gateway_ended_ns", with = "nanos", default = "gateway_ended")]
    pub gateway_ended: Duration,
    /// GATEWAY-2: a new stream through a gateway, until its answer.
    #[serde(rename = "gateway_answered_ns", with = "nanos", default = "gateway_answered")]
    pub gateway_answered: Duration,
    /// GATEWAY-4: how long a stream has to have been quiet for its survival to prove anything.
    #[serde(rename = "gateway_quiet_ns", with = "nanos", default = "gateway_quiet")]
    pub gateway_quiet: Duration,
    /// Own stalls longer than this make a run inconclusive: a request that we started late looks like a slow server.
    #[serde(rename = "stall_ns", with = "nanos")]
    pub stall: Duration,
    /// BALANCER-1: the share of its shutdown delay, in percent, after which no new connection may be carried to a stopping
    /// apiserver. OpenShift's LateConnections have 80.
    #[serde(default = "late_percent")]
    pub late_percent: u32,
    /// The least successful samples a requester or writer needs before, during and after a disturbance; with fewer, an
    /// outage could hide between two samples.
    pub samples: u32,
    /// How long the end of a connection may take to reach those who use it: an idle close is told within a round trip, on a busy machine within
    /// this. A client that waits longer for the news was hung up on.
    #[serde(rename = "close_noticed_ns", with = "nanos", default = "close_noticed")]
    pub close_noticed: Duration,
    /// ROLLOUT-13: the longest that one attempt at a request may take while apiservers are gracefully restarted.
    #[serde(rename = "attempt_ns", with = "nanos", default = "attempt")]
    pub attempt: Duration,
    /// The longest that a requester, a writer or a worker may be without a sample while an apiserver is restarted: [`PERIODS`] of
    /// [`REQUEST_EVERY`]. An outage as long could hide in it.
    #[serde(rename = "request_gap_ns", with = "nanos", default = "request_gap")]
    pub request_gap: Duration,
    /// Likewise between two looks at an apiserver's /readyz or /livez: [`PERIODS`] of [`SERVER_HEALTH_EVERY`].
    #[serde(rename = "health_gap_ns", with = "nanos", default = "health_gap")]
    pub health_gap: Duration,
    /// Likewise between two looks at a cluster's nodes and leases: [`PERIODS`] of [`CLUSTER_READ_EVERY`].
    #[serde(rename = "cluster_gap_ns", with = "nanos", default = "cluster_gap")]
    pub cluster_gap: Duration,
    /// Likewise between two sessions that are opened anew: [`PERIODS`] of [`SESSION_NEW_EVERY`].
    #[serde(rename = "session_gap_ns", with = "nanos", default = "session_gap")]
    pub session_gap: Duration,
    /// GATEWAY-3: a stream that has told of nothing for so long, though there was something to tell, was interrupted.
    #[serde(rename = "gateway_silent_ns", with = "nanos", default = "gateway_silent")]
    pub gateway_silent: Duration,
    /// GATEWAY-1: how many streams an apiserver takes on one connection, a number.
    #[serde(default = "gateway_streams")]
    pub gateway_streams: u32,
    /// How many requests in turn have to be answered well until they count as recovered, a number: figures, no verdict.
    #[serde(default = "gateway_good_in_a_row")]
    pub gateway_good_in_a_row: u32,
    /// How long an informer tells of nothing until its hang detector strikes: a figure, no verdict.
    #[serde(rename = "gateway_hang_ns", with = "nanos", default = "gateway_hang")]
    pub gateway_hang: Duration,
}

impl Bounds {
    /// The bounds that go with these timers.
    pub fn with(timers: &Timers) -> Self {
        Self {
            fresh: secs(10) + timers.detection(),
            readyz_red: secs(1),
            back: secs(20) + timers.readmission(),
            outage_after_kill: timers.detection() + secs(2),
            resumed: resumed(),
            lost: lost(),
            gateway_ended: gateway_ended(),
            gateway_answered: gateway_answered(),
            gateway_quiet: gateway_quiet(),
            stall: millis(500),
            late_percent: late_percent(),
            samples: 10,
            close_noticed: close_noticed(),
            attempt: attempt(),
            request_gap: request_gap(),
            health_gap: health_gap(),
            cluster_gap: cluster_gap(),
            session_gap: session_gap(),
            gateway_silent: gateway_silent(),
            gateway_streams: gateway_streams(),
            gateway_good_in_a_row: gateway_good_in_a_row(),
            gateway_hang: gateway_hang(),
        }
    }

    /// A bound that asks for less than the [bounds that go with these timers](Bounds::with): its name, what it is, and what it would be.
    pub fn loosened(&self, timers: &Timers) -> Option<Loosened> {
        let due = Self { lost: self.lost.min(lost()), ..Self::with(timers) };
        let looser = [
            at_most("fresh_ns", self.fresh, due.fresh),
            at_most("readyz_red_ns", self.readyz_red, due.readyz_red),
            at_most("back_ns", self.back, due.back),
            at_most("outage_after_kill_ns", self.outage_after_kill, due.outage_after_kill),
            at_most("resumed_ns", self.resumed, due.resumed),
            at_most("lost_ns", self.lost, due.lost),
            at_most("gateway_ended_ns", self.gateway_ended, due.gateway_ended),
            at_most("gateway_answered_ns", self.gateway_answered, due.gateway_answered),
            at_most("stall_ns", self.stall, due.stall),
            at_most("close_noticed_ns", self.close_noticed, due.close_noticed),
            at_most("attempt_ns", self.attempt, due.attempt),
            at_most("request_gap_ns", self.request_gap, due.request_gap),
            at_most("health_gap_ns", self.health_gap, due.health_gap),
            at_most("cluster_gap_ns", self.cluster_gap, due.cluster_gap),
            at_most("session_gap_ns", self.session_gap, due.session_gap),
            at_most("gateway_silent_ns", self.gateway_silent, due.gateway_silent),
            at_most("late_percent", self.late_percent, due.late_percent),
            at_least("gateway_quiet_ns", self.gateway_quiet, due.gateway_quiet),
            at_least("gateway_streams", self.gateway_streams, due.gateway_streams),
            at_least("samples", self.samples, due.samples),
        ];
        looser.into_iter().flatten().next()
    }
}

/// A bound that is looser than it ought to be: its name, what it is, and what it would be.
type Loosened = (&'static str, String, String);

fn at_most<T: PartialOrd + fmt::Debug>(name: &'static str, bound: T, due: T) -> Option<Loosened> {
    (bound > due).then(|| (name, format!("{bound:?}"), format!("{due:?}")))
}

fn at_least<T: PartialOrd + fmt::Debug>(name: &'static str, bound: T, due: T) -> Option<Loosened> {
    (bound < due).then(|| (name, format!("{bound:?}"), format!("{due:?}")))
}

// What recordings mean that do not say it.

const fn close_noticed() -> Duration {
    CLOSE_NOTICED
}

const fn attempt() -> Duration {
    secs(5)
}

const fn request_gap() -> Duration {
    REQUEST_EVERY.saturating_mul(PERIODS)
}

const fn health_gap() -> Duration {
    SERVER_HEALTH_EVERY.saturating_mul(PERIODS)
}

const fn cluster_gap() -> Duration {
    CLUSTER_READ_EVERY.saturating_mul(PERIODS)
}

const fn session_gap() -> Duration {
    SESSION_NEW_EVERY.saturating_mul(PERIODS)
}

const fn gateway_silent() -> Duration {
    gateway::SILENT
}

const fn gateway_streams() -> u32 {
    gateway::STREAMS
}

const fn gateway_good_in_a_row() -> u32 {
    gateway::GOOD_IN_A_ROW as u32
}

const fn gateway_hang() -> Duration {
    gateway::HANG
}

const fn late_percent() -> u32 {
    80
}

fn lost() -> Duration {
    loss_noticed(WATCH_TIMEOUT)
}

const fn gateway_ended() -> Duration {
    gateway::ENDED
}

const fn gateway_answered() -> Duration {
    gateway::ANSWERED
}

const fn gateway_quiet() -> Duration {
    gateway::QUIET
}

/// The 10 s in which the AKS report's watcher has to notice.
const fn resumed() -> Duration {
    secs(10)
}
