//! Every duration of the suite: what it bounds, its unit, and its value in both profiles.
//!
//! Nothing else in the suite may spell a duration. Three kinds live here: [`Bounds`] are promises that verdicts hold the
//! subject to, and travel in the recording's header; [`Timers`] and [`GatewayTimers`] are settings of the lab under test, which do so as
//! well, the first compressed in the `pr` profile; the constants bound our own waiting and can never turn a verdict: `verdict` imports
//! [`Bounds`] and [`Timers`] only, and `tests/suite/tidy.rs` checks it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds as a [`Duration`], so that a literal carries its unit.
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Seconds as a [`Duration`], so that a literal carries its unit.
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// [`Duration`]s in JSON: whole nanoseconds, and the field's name ends in `_ns`.
pub mod nanos {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes nanoseconds.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }

    /// [`nanos`](self) of a span that may be none.
    pub mod option {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        /// Writes nanoseconds, or null.
        ///
        /// # Errors
        /// The serializer's.
        pub fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
            span.map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)).serialize(to)
        }

        /// Reads nanoseconds, or null.
        ///
        /// # Errors
        /// Something else stands there.
        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
            Option::deserialize(from)?.map(super::plausible).transpose()
        }
    }

    /// Reads nanoseconds.
    ///
    /// # Errors
    /// Something else stands there.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).and_then(plausible)
    }

    /// A span that a run can have. Sums of a few of them are still far from overflowing a moment.
    fn plausible<E: serde::de::Error>(nanos: u64) -> Result<Duration, E> {
        const LONGEST: Duration = super::secs(10 * 365 * 24 * 3600);
        let span = Duration::from_nanos(nanos);
        if span > LONGEST {
            return Err(E::custom(format_args!("{nanos} ns are more than ten years: no duration of a run")));
        }
        Ok(span)
    }
}

/// Which values the timers of a lab take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Timers compressed by [`COMPRESSION`], so that a run fits into a pull request.
    #[default]
    Pr,
    /// The real durations of the field reports.
    Nightly,
}

impl Profile {
    /// All profiles, as a user may name them.
    pub const ALL: [Self; 2] = [Self::Pr, Self::Nightly];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pr => "pr",
            Self::Nightly => "nightly",
        })
    }
}

impl FromStr for Profile {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|profile| profile.to_string() == name).ok_or(())
    }
}

/// How much shorter the `pr` profile's compressible timers are: 70 s of shutdown delay become 3 s.
///
/// The kube-apiserver's TCP keepalive (180 s) and bookmarks (about 60 s) are constants in its source and do not compress;
/// no claim about them is made from a `pr` run.
pub const COMPRESSION: f64 = 70.0 / 3.0;

/// Settings of the lab under test, by profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// `--shutdown-delay-duration`: how long a stopping apiserver serves on with a red /readyz. OpenShift: 70 s.
    #[serde(rename = "shutdown_delay_ns", with = "nanos")]
    pub shutdown_delay: Duration,
    /// `--shutdown-watch-termination-grace-period`: how long open watches get to end cleanly once requests are refused.
    #[serde(rename = "watch_termination_grace_ns", with = "nanos")]
    pub watch_termination_grace: Duration,
    /// How often a balancer asks /readyz. Ten seconds in most clouds.
    #[serde(rename = "health_interval_ns", with = "nanos")]
    pub health_interval: Duration,
    /// How long one health check may take before it counts as failed.
    #[serde(rename = "health_timeout_ns", with = "nanos")]
    pub health_timeout: Duration,
    /// Failed health checks in a row that take a backend out of service.
    #[serde(default = "fall")]
    pub health_fall: u32,
    /// Good health checks in a row that put a backend back into service.
    #[serde(default = "rise")]
    pub health_rise: u32,
}

/// How long a balancer lets a connection be idle: 4 min 20 s in the AKS report, compressed. Whole seconds, as kernels count them.
pub const fn idle_timeout(profile: Profile) -> Duration {
    match profile {
        Profile::Pr => secs(11),
        Profile::Nightly => secs(260),
    }
}

/// An idle timeout where it only has to come: four seconds, in a control that is about what a client makes of the end.
pub const SHORT_IDLE_TIMEOUT: Duration = secs(4);

/// The intervals of the AKS report's timer-servers, 5 s and 600 s at its idle timeout of 260 s, in proportion to another.
pub fn timer_intervals(idle_timeout: Duration) -> (Duration, Duration) {
    (idle_timeout * 5 / 260, idle_timeout * 600 / 260)
}

/// How long a connection to a timer-server is observed: until its idle timeout has come, even late, and been noticed.
pub fn timer_observation(idle_timeout: Duration) -> Duration {
    idle_timeout * 5 / 4 + CLOSE_NOTICED
}

/// A pod's terminationGracePeriodSeconds where it says nothing, as kubeadm's kube-apiserver does.
pub const POD_GRACE_PERIOD: Duration = secs(30);

/// A kube-apiserver's terminationGracePeriodSeconds that is over before the shutdown delay of kind-config.yaml (10 s): its kubelet kills it
/// in the middle of that.
pub const KUBELETS_SHORT_GRACE_PERIOD: Duration = secs(5);

/// A pod's default grace period of 30 s, as a kubelet enforces it, compressed: shorter than the shutdown delay, so that an
/// apiserver is killed in the middle of it.
pub const SHORT_GRACE_PERIOD: Duration = millis(1300);

/// The terminationGracePeriodSeconds of OpenShift's kube-apiserver: a bit more than 70 s of delay and 60 s for requests. Its
/// report's durations are for the nightly profile: what they leave for the end of the process does not compress.
pub const FIELD_REPORT_GRACE_PERIOD: Duration = secs(135);

/// `--request-timeout` (60 s by default), compressed: a stopped apiserver waits so long for a `logs -f` before it ends.
pub const SHORT_REQUEST_TIMEOUT: Duration = secs(3);

/// A kept connection that was closed while idle says so within a round trip, on a busy machine within this. Whoever waits
/// longer for the news was hung up on.
pub const CLOSE_NOTICED: Duration = secs(1);

/// How long kube-rs's watches ask to last (kube-core `src/params.rs`): client-go's 5 to 10 minutes, and a little less than most balancers allow.
pub const WATCH_TIMEOUT: Duration = secs(290);
/// [`WATCH_TIMEOUT`], compressed; whole seconds, as apiservers count them.
pub const SHORT_WATCH_TIMEOUT: Duration = secs(12);
/// How long watches ask to last that are to get bookmarks in a run of less than a minute: an apiserver sends one each minute, and one 2 s before
/// the end (k8s.io/apiserver pkg/storage/cacher/cache_watcher.go, nextBookmarkTime).
pub const BOOKMARKED_WATCH_TIMEOUT: Duration = secs(4);
/// How long after that a client gives a watch up that should have been ended: kube-rs's watcher (kube-runtime `src/watcher.rs`).
pub const WATCH_TIMEOUT_MARGIN: Duration = secs(5);

/// LOST-1, where watches ask to last so long: the client's own margin, and a reconnect with its backoff.
pub fn loss_noticed(watch_timeout: Duration) -> Duration {
    watch_timeout + WATCH_TIMEOUT_MARGIN + secs(3)
}

/// IDLE-4: from the acknowledgement of a change until a watch has noticed it; the AKS report's apiserver-watcher gives it so long.
pub const CHANGE_NOTICED: Duration = secs(10);

/// When a writer among the raw TCP clients speaks: the balancer has just forgotten its connection.
pub fn spoken_after(idle_timeout: Duration) -> Duration {
    idle_timeout + CLOSE_NOTICED
}

/// From one unanswered keepalive probe to the next, of raw TCP clients: the shortest that Linux has.
pub const KEEPALIVE_INTERVAL: Duration = secs(1);
/// TCP_USER_TIMEOUT of raw TCP clients that have one.
pub const USER_TIMEOUT: Duration = secs(1);

/// What recordings mean that do not say it.
fn lost() -> Duration {
    loss_noticed(WATCH_TIMEOUT)
}

/// What recordings mean that do not say it.
const fn gateway_ended() -> Duration {
    gateway::ENDED
}

/// What recordings mean that do not say it.
const fn gateway_answered() -> Duration {
    gateway::ANSWERED
}

/// What recordings mean that do not say it.
const fn gateway_quiet() -> Duration {
    gateway::QUIET
}

/// What recordings mean that do not say it: the 10 s in which the AKS report's watcher has to notice.
const fn resumed() -> Duration {
    secs(10)
}

/// What recordings mean that do not say it.
const fn fall() -> u32 {
    HEALTH_FALL
}

const fn rise() -> u32 {
    HEALTH_RISE
}

/// [`Timers::health_fall`] unless a scenario sets it.
pub const HEALTH_FALL: u32 = 2;

/// [`Timers::health_rise`] unless a scenario sets it.
pub const HEALTH_RISE: u32 = 2;

impl Timers {
    /// The timers of a profile.
    pub const fn of(profile: Profile) -> Self {
        match profile {
            Profile::Pr => Self {
                shutdown_delay: secs(3),
                watch_termination_grace: secs(5),
                health_interval: millis(500),
                health_timeout: millis(500),
                health_fall: HEALTH_FALL,
                health_rise: HEALTH_RISE,
            },
            Profile::Nightly => Self {
                shutdown_delay: secs(70),
                watch_termination_grace: secs(60),
                health_interval: secs(10),
                health_timeout: secs(5),
                health_fall: HEALTH_FALL,
                health_rise: HEALTH_RISE,
            },
        }
    }

    /// The longest that a health-following balancer needs to notice a red /readyz: an interval that has just begun, then
    /// [`Timers::health_fall`] failures, the last of which may run into its timeout.
    pub fn detection(&self) -> Duration {
        self.health_interval * self.health_fall + self.health_timeout
    }

    /// How often a balancer asks /readyz during the shutdown delay, at most.
    pub fn checks_in_the_delay(&self) -> u32 {
        self.shutdown_delay.div_duration_f64(self.health_interval).ceil() as u32
    }

    /// The longest that a balancer which checks an apiserver's health needs to put it back: [`Timers::health_rise`] good checks
    /// and an interval that has just begun.
    pub fn readmission(&self) -> Duration {
        self.health_interval * self.health_rise + self.health_timeout
    }

    /// From SIGTERM to the end of the process: the delay, then what open watches are granted (without a grace for them,
    /// kube-apiserver's `--request-timeout`, 60 s by default), then a margin in which in-flight requests finish and etcd is
    /// closed.
    pub fn graceful_stop(&self) -> Duration {
        let open_watches = if self.watch_termination_grace.is_zero() { secs(60) } else { self.watch_termination_grace };
        self.shutdown_delay + open_watches + secs(20)
    }
}

/// The timers of a lab's gateways and their clients. They are part of the recording, so that a page about it prints those that were in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayTimers {
    /// [`gateway::STREAM_IDLE_TIMEOUT`].
    #[serde(rename = "stream_idle_timeout_ns", with = "nanos")]
    pub stream_idle_timeout: Duration,
    /// [`gateway::KEEPALIVE_TIME`].
    #[serde(rename = "keepalive_time_ns", with = "nanos")]
    pub keepalive_time: Duration,
    /// [`gateway::KEEPALIVE_INTERVAL`].
    #[serde(rename = "keepalive_interval_ns", with = "nanos")]
    pub keepalive_interval: Duration,
    /// [`gateway::KEEPALIVE_PROBES`], a number.
    pub keepalive_probes: u32,
    /// [`gateway::USER_TIMEOUT`].
    #[serde(rename = "user_timeout_ns", with = "nanos")]
    pub user_timeout: Duration,
    /// [`gateway::PING_INTERVAL`].
    #[serde(rename = "ping_interval_ns", with = "nanos")]
    pub ping_interval: Duration,
    /// [`gateway::PING_TIMEOUT`].
    #[serde(rename = "ping_timeout_ns", with = "nanos")]
    pub ping_timeout: Duration,
    /// [`gateway::MAX_DURATION`].
    #[serde(rename = "max_duration_ns", with = "nanos")]
    pub max_duration: Duration,
    /// [`gateway::DRAIN_TIMEOUT`].
    #[serde(rename = "drain_timeout_ns", with = "nanos")]
    pub drain_timeout: Duration,
    /// [`BALANCER_CONNECT`], which is Envoy's `connect_timeout` as well.
    #[serde(rename = "connect_ns", with = "nanos")]
    pub connect: Duration,
    /// [`gateway::FAULT`].
    #[serde(rename = "fault_ns", with = "nanos")]
    pub fault: Duration,
    /// [`gateway::INFORMER_WATCH`].
    #[serde(rename = "informer_watch_ns", with = "nanos")]
    pub informer_watch: Duration,
    /// [`gateway::CLIENT_READ_IDLE`].
    #[serde(rename = "client_read_idle_ns", with = "nanos")]
    pub client_read_idle: Duration,
    /// [`gateway::CLIENT_PING_TIMEOUT`].
    #[serde(rename = "client_ping_timeout_ns", with = "nanos")]
    pub client_ping_timeout: Duration,
}

impl Default for GatewayTimers {
    /// Those that are in force here; and those of recordings that do not say it.
    fn default() -> Self {
        Self {
            stream_idle_timeout: gateway::STREAM_IDLE_TIMEOUT,
            keepalive_time: gateway::KEEPALIVE_TIME,
            keepalive_interval: gateway::KEEPALIVE_INTERVAL,
            keepalive_probes: gateway::KEEPALIVE_PROBES,
            user_timeout: gateway::USER_TIMEOUT,
            ping_interval: gateway::PING_INTERVAL,
            ping_timeout: gateway::PING_TIMEOUT,
            max_duration: gateway::MAX_DURATION,
            drain_timeout: gateway::DRAIN_TIMEOUT,
            connect: BALANCER_CONNECT,
            fault: gateway::FAULT,
            informer_watch: gateway::INFORMER_WATCH,
            client_read_idle: gateway::CLIENT_READ_IDLE,
            client_ping_timeout: gateway::CLIENT_PING_TIMEOUT,
        }
    }
}

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
}

impl Bounds {
    /// A bound that asks for less than the [bounds that go with these timers](Bounds::with): its name, what it is, and what it would be.
    pub fn looser_than_with(&self, timers: &Timers) -> Option<(&'static str, String, String)> {
        let due = Self { lost: self.lost.min(lost()), ..Self::with(timers) };
        let longest = [
            ("fresh_ns", self.fresh, due.fresh),
            ("readyz_red_ns", self.readyz_red, due.readyz_red),
            ("back_ns", self.back, due.back),
            ("outage_after_kill_ns", self.outage_after_kill, due.outage_after_kill),
            ("resumed_ns", self.resumed, due.resumed),
            ("lost_ns", self.lost, due.lost),
            ("gateway_ended_ns", self.gateway_ended, due.gateway_ended),
            ("gateway_answered_ns", self.gateway_answered, due.gateway_answered),
            ("stall_ns", self.stall, due.stall),
            ("close_noticed_ns", self.close_noticed, due.close_noticed),
            ("attempt_ns", self.attempt, due.attempt),
            ("request_gap_ns", self.request_gap, due.request_gap),
            ("health_gap_ns", self.health_gap, due.health_gap),
            ("cluster_gap_ns", self.cluster_gap, due.cluster_gap),
            ("session_gap_ns", self.session_gap, due.session_gap),
            ("gateway_silent_ns", self.gateway_silent, due.gateway_silent),
        ];
        let long = longest.into_iter().find(|(_, bound, due)| bound > due);
        let (percent, due_percent) = (self.late_percent, due.late_percent);
        long.map(|(name, bound, due)| (name, format!("{bound:?}"), format!("{due:?}")))
            .or_else(|| {
                let late = percent > due_percent;
                late.then(|| ("late_percent", percent.to_string(), due_percent.to_string()))
            })
            .or_else(|| {
                let short = self.gateway_quiet < due.gateway_quiet;
                short.then(|| {
                    ("gateway_quiet_ns", format!("{:?}", self.gateway_quiet), format!("{:?}", due.gateway_quiet))
                })
            })
            .or_else(|| {
                let few = self.gateway_streams < due.gateway_streams;
                let (streams, due) = (self.gateway_streams, due.gateway_streams);
                few.then(|| ("gateway_streams", streams.to_string(), due.to_string()))
            })
            .or_else(|| {
                let few = self.samples < due.samples;
                few.then(|| ("samples", self.samples.to_string(), due.samples.to_string()))
            })
    }
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

/// How many of a probe's periods may pass without a sample, a number. One or two are a slow answer, or a busy machine.
pub const PERIODS: u32 = 20;

/// What recordings mean that do not say it.
const fn late_percent() -> u32 {
    80
}

// How often our probes act. Periods, not bounds.

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

// How long we wait for the lab and for our own probes before we call the lab broken.

/// A probe's single request. A hung server must not stop the probe for longer; beyond it the request is a timeout.
pub const REQUEST_TIMEOUT: Duration = secs(10);
/// etcd and the apiservers, from their start to /readyz. Measured 3 to 7 s on two cores; the rest is for a busy machine.
pub const CONTROL_PLANE_READY: Duration = secs(90);
/// How many packets in a hundred a bad cable loses, each way.
pub const PERCENT_LOST: u8 = 3;
/// How often packets that are held back are looked at: how exact a delay is.
pub const DELAY_STEP: Duration = millis(1);
/// By how many milliseconds packets to and from an apiserver in another region are late, each way. A health check takes three round trips, and must
/// not take [`Timers::health_timeout`].
pub const FAR_MS: u32 = 50;
/// And of one so slow that no health check is answered in time; a request on a new connection still is.
pub const TOO_LATE_MS: u32 = 400;
/// A kubelet's stand-in, from its start until it listens. Measured under 1 s.
pub const KUBELET_READY: Duration = secs(30);
/// Istio's control plane, from its start until Envoy may ask it. Measured under 1 s, and 2 s on a machine with other work.
pub const PILOT_READY: Duration = secs(30);
/// A kubelet, from a change of a static pod's manifest to its SIGTERM. Measured under 0.5 s.
pub const KUBELET_ACTS: Duration = secs(15);
/// A kubelet, from the end of a static pod's process to the next one's start. Measured 7 to 15 s: its backoff for static pods is
/// 10 s and a jitter (kubelet pod_workers.go, allowPodStart); a process that died comes back later each time.
pub const KUBELET_RESTARTS: Duration = secs(90);
/// A kube-apiserver whose manifest is replaced while nobody looks, until its process has ended: the longest grace period that a
/// scenario gives it, and the kubelet's reaction.
pub const MANIFEST_REPLACED: Duration = secs(180);
/// What a node has written, until we have it.
pub const MIRRORED: Duration = secs(10);
/// A balancer, from its start to the first request served through it.
pub const BALANCER_READY: Duration = secs(15);
/// The builtin balancer's wait for a backend to accept a connection; Debian's haproxy.cfg has the same.
pub const BALANCER_CONNECT: Duration = secs(5);
/// The builtin balancer's pause after an accept that failed. Out of file descriptors, it would fail again at once.
pub const BALANCER_ACCEPT_AGAIN: Duration = millis(50);
/// The builtin balancer, from its FIN to closing the socket. Meanwhile what still comes is read and thrown away, since
/// closing with unread bytes turns a FIN into a RST (nginx calls it lingering close).
pub const BALANCER_LINGER: Duration = secs(1);
/// A held request, from its beginning until its apiserver's audit log says that it was received.
pub const IN_FLIGHT_RECEIVED: Duration = secs(10);
/// A held request that is let go on, until its answer is complete. The list is of some 24 MB, through a small window.
pub const IN_FLIGHT_FINISHED: Duration = secs(30);
/// `rollproof watch-check`: an update that fails, until the next change takes its place; longer than a kube-apiserver's restart.
pub const UPDATE_PATIENCE: Duration = secs(60);
/// One scrape of its metrics.
pub const SCRAPE: Duration = secs(5);
/// What a load left behind, asked for until one apiserver answers.
pub const LOAD_LISTED: Duration = secs(15);
/// A node whose kubelet is not heard of, until its controller has called it Unknown: 17 s until another one leads, if that node's did; from
/// its first look, node-monitor-grace-period (50 s), looked at every 5 s.
pub const NODE_MISSED: Duration = secs(95);
/// How long an apiserver is without its etcd member: longer than the freshness bound on nodes (13 s), and shorter than the 80 s after which a
/// kubelet would restart it for a red /livez (kubeadm's livenessProbe: 8 failures, 10 s apart).
pub const ETCD_MISSED: Duration = secs(30);
/// A process that was sent SIGTERM and does not drain, until it has ended. Measured under 1 s.
pub const SIGNAL_ACTS: Duration = secs(3);
/// Controllers that were started anew, until some of them lead: the last leader's lease holds for 15 s.
pub const LEADERS_BACK: Duration = secs(90);
/// client-go's longest pause before a reflector watches again where apiservers were restarted often: 30 s, and as much again by jitter
/// (tools/cache/reflector.go). So long may a kubelet not hear of a pod, or a controller of a namespace.
const REFLECTOR_PAUSE: Duration = secs(60);
/// A namespace that is deleted, until it is gone: its controller takes a few seconds.
pub const NAMESPACE_GONE: Duration = secs(30);
/// The namespaces of the last scenario, until they are gone: first their controller, and the kubelet of their pod, have to hear of it.
pub const NAMESPACES_CLEARED: Duration = REFLECTOR_PAUSE.saturating_add(NAMESPACE_GONE);
/// A new namespace of a cluster, until its controllers have put into it what is in every one. Measured up to 8 s, after all
/// apiservers were restarted.
pub const NAMESPACE_FURNISHED: Duration = REFLECTOR_PAUSE.saturating_add(secs(30));
/// A pod whose image is on its node, until it runs. Measured under 2 s once its kubelet has heard of it; the rest is for a busy machine.
pub const POD_RUNS: Duration = REFLECTOR_PAUSE.saturating_add(secs(30));
/// A probe, from its start to its first samples.
pub const PROBE_READY: Duration = secs(30);
/// After a disturbance, until every probe has its samples "after".
pub const PROBE_SETTLED: Duration = secs(30);
/// The fence write, until an attempt at it is acknowledged.
pub const FENCE_WRITTEN: Duration = secs(15);
/// A restarted apiserver, until a new connection through the balancer has met it: longer than the bound that is judged.
pub fn back_patience(timers: &Timers) -> Duration {
    Bounds::with(timers).back + secs(5)
}
/// After the fence write, until a watch has seen it. Longer than any client library's own recovery in these scenarios, and than a change may
/// be late: else nobody knew whether it was lost or late.
pub fn fence_seen(timers: &Timers) -> Duration {
    secs(30).max(Bounds::with(timers).fresh + secs(5))
}
/// An answer of the keeper. It may have to wait twice for processes to die.
pub const KEEPER_ANSWER: Duration = secs(30);
/// Children of a struck lab, from SIGKILL to the last one reaped. Measured under 0.1 s.
pub const STRIKE: Duration = secs(10);
/// A balancer command, from SIGTERM to SIGKILL.
pub const COMMAND_STOP: Duration = secs(2);
/// What a balancer command is told about idle connections: longer than any scenario that does not ask for less.
pub const COMMAND_IDLE_TIMEOUT: Duration = secs(3600);
/// An answer of Docker that takes no work. A container is created or removed well within it, on a busy machine too.
pub const DOCKER_ANSWER: Duration = secs(30);
/// An order that Docker has taken from somebody who was killed, until what it makes can be seen. Measured under 1 s.
pub const DOCKER_ORDER: Duration = secs(2);
/// A node's container, from its start until containerd runs in it. Measured 1 to 3 s.
pub const NODE_UP: Duration = secs(60);
/// A command in a node that is not kubeadm: writing a file, asking kubectl.
pub const NODE_COMMAND: Duration = secs(30);
/// One `kubeadm init` or `kubeadm join`. Measured 8 to 30 s.
pub const KUBEADM: Duration = secs(240);
/// How late a kubelet's line reaches journald at most: 80 ms were met on a busy machine. More is a clock in another time zone.
pub const JOURNAL_LATE: Duration = secs(5);
/// Nodes that have joined, until they are ready; what they are given on the way to that.
pub const NODES_READY: Duration = secs(90);
/// How long a health check of a scenario's balancer may take where apiservers are on nodes that share a machine: while one of them
/// starts, the others may be slow. Twice that and the interval is still much less than their shutdown delay.
pub const NODE_HEALTH_TIMEOUT: Duration = secs(2);
/// Between two health checks of the balancer inside a cluster's network, and how long one may take.
pub const NODE_HEALTH_EVERY: Duration = millis(500);
/// Containers and networks of a cluster, from the order to remove them until they are gone. Measured 1 to 3 s.
pub const CLUSTER_STRUCK: Duration = secs(20);
/// One whole scenario on that many apiservers. A scenario that runs into it has hung: the lab is broken.
pub fn scenario_limit(timers: &Timers, apiservers: u32) -> Duration {
    secs(120) + (timers.graceful_stop() + CONTROL_PLANE_READY + back_patience(timers)) * apiservers
}

// How long provisioning waits for others. Nothing here is part of a run.

/// A release site's name, and then its connection and TLS handshake. Most machines without a way out fail at once, but some
/// firewalls swallow packets: `go build` is to get its turn soon.
pub const RELEASE_SITE_CONNECT: Duration = secs(5);
/// A release site that has stopped sending.
pub const RELEASE_SITE_STALL: Duration = secs(15);
/// One whole download. The largest is 120 MB.
pub const DOWNLOAD_LIMIT: Duration = secs(900);
/// One whole `go build`. Measured 4 to 12 minutes from cold caches on two cores; Istio 26, on cores that had other work.
pub const GO_BUILD_LIMIT: Duration = secs(3600);
/// One whole bootstrap of a Debian root filesystem. Measured 1½ to 5 minutes.
pub const DEBIAN_LIMIT: Duration = secs(1800);
/// The Docker engine's answer to a question about an image.
pub const ENGINE_ANSWER: Duration = secs(30);
/// A registry that the engine hears nothing from. It gives a host three tries itself.
pub const IMAGE_PULL_STALL: Duration = secs(60);
/// An image of some 400 MB on its way into the engine. Measured 3 s.
pub const IMAGE_LOAD_LIMIT: Duration = secs(600);
/// A program that is asked for its version. Measured under 0.2 s.
pub const VERSION_ANSWER: Duration = secs(10);
/// Envoy, which is to say whether it takes a configuration. Measured 0.2 s.
pub const ENVOY_VALIDATES: Duration = secs(10);

/// Timers of gateways, the same in both profiles: how long they are decides about how long it takes, and not about whether. What is
/// compressed stands beside what would be set.
pub mod gateway {
    use std::time::Duration;

    use super::secs;

    /// Envoy's `stream_idle_timeout`: 600 s in the field report.
    pub const STREAM_IDLE_TIMEOUT: Duration = secs(8);
    /// TCP keepalive: until the first probe. 30 s would be set.
    pub const KEEPALIVE_TIME: Duration = secs(2);
    /// TCP keepalive: between probes. 5 s would be set.
    pub const KEEPALIVE_INTERVAL: Duration = secs(1);
    /// TCP keepalive: probes without an answer.
    pub const KEEPALIVE_PROBES: u32 = 3;
    /// TCP_USER_TIMEOUT. 20 s would be set.
    pub const USER_TIMEOUT: Duration = secs(5);
    /// `net.ipv4.tcp_retries2`, a number: how often bytes are repeated, the first time after 200 ms. Measured 6.6 s; 5 would be set (13 s), and a
    /// machine comes with 15 (some 15 minutes).
    pub const RETRIES2: u32 = 3;
    /// Between HTTP/2 PINGs. 10 s would be set.
    pub const PING_INTERVAL: Duration = secs(2);
    /// For the answer to a PING. 5 s would be set.
    pub const PING_TIMEOUT: Duration = secs(2);
    /// Failures in a row that eject a host.
    pub const OUTLIER_FAILURES: u32 = 3;
    /// Between two looks at whom to eject, or to take back.
    pub const OUTLIER_INTERVAL: Duration = secs(1);
    /// How long a host is ejected, the first time.
    pub const OUTLIER_EJECTION: Duration = secs(10);
    /// How old a connection or stream may get, where that is bounded. An hour or more would be set.
    pub const MAX_DURATION: Duration = secs(8);
    /// A connection that is being drained, until it is closed. Envoy's default is 5 s.
    pub const DRAIN_TIMEOUT: Duration = secs(2);
    /// After a fault, until streams have to be ended and new ones to go elsewhere: more than any timer that ends them here.
    pub const ENDED: Duration = secs(12);
    /// A new stream, until its answer has to be there: two apiservers are up on a busy machine.
    pub const ANSWERED: Duration = secs(3);
    /// How long a quiet stream has to be quiet for its survival to prove anything: more than any timer above.
    pub const QUIET: Duration = secs(16);
    /// How long a fault lasts: [`ENDED`], and enough new streams after it that can show how they fare.
    pub const FAULT: Duration = secs(20);
    /// A client's connection on which nothing has come, until its client asks it by PING. client-go's 30 s (apimachinery pkg/util/net/http.go,
    /// `ReadIdleTimeout`).
    pub const CLIENT_READ_IDLE: Duration = secs(2);
    /// For the answer to a client's PING. client-go's 15 s (`PingTimeout`).
    pub const CLIENT_PING_TIMEOUT: Duration = secs(1);
    /// How long an informer asks its watches to last (`timeoutSeconds`). client-go's reflector asks for 300 to 600 s, at random. Longer than probes take to
    /// start, so that none has ended before the fault; shorter than [`FAULT`], so that one that is not ended in time is older then.
    pub const INFORMER_WATCH: Duration = secs(15);
    /// An informer that has told of nothing for so long hangs, says its hang detector: 60 s in the field report. No less than [`ENDED`].
    pub const HANG: Duration = secs(12);
    /// How many streams an apiserver takes on one connection, a number: its default (apiserver pkg/server/secure_serving.go).
    pub const STREAMS: u32 = 100;
    /// Watches of one client that are too many for one connection to each of two apiservers, a number: more than twice [`STREAMS`].
    pub const MANY: u32 = 240;
    /// A watch that has told of nothing for so long, while changes were made, was interrupted.
    pub const SILENT: Duration = secs(2);
    /// Requests in turn to two apiservers that have to be answered well, one after the other, until they have recovered.
    pub const GOOD_IN_A_ROW: usize = 4;
    /// Between two requests beside a busy watch.
    pub const REQUEST_EVERY: Duration = super::millis(250);
    /// Between two changes that watches are to tell of.
    pub const WRITE_EVERY: Duration = super::millis(250);
    /// Between two new watches.
    pub const WATCH_EVERY: Duration = secs(1);
    /// When all is healed, until watches have seen the fence, and quiet streams their echo. What hangs longer stays as it is.
    pub const SETTLED: Duration = secs(5);

    /// What placeholders of fixtures/haproxy/gateway*.cfg and fixtures/nginx/gateway*.conf stand for: here, and as it would be set.
    pub const IN_FILES: [(&str, Duration, Duration); 7] = [
        // Until an apiserver has accepted a connection, TLS included.
        ("CONNECT", secs(1), secs(2)),
        // How long an answer that is to end may say nothing; and one that is not, where nothing tells them apart. nginx's default.
        ("IDLE", STREAM_IDLE_TIMEOUT, secs(60)),
        // Between two health checks of an apiserver.
        ("CHECK_EVERY", super::millis(500), secs(5)),
        // For the answer to one.
        ("CHECK", super::millis(500), secs(2)),
        ("KEEPALIVE_TIME", KEEPALIVE_TIME, secs(30)),
        ("KEEPALIVE_INTERVAL", KEEPALIVE_INTERVAL, secs(5)),
        ("USER_TIMEOUT", USER_TIMEOUT, secs(20)),
    ];
}
