//! Settings of the lab under test, of its balancers, clients and servers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Profile, millis, nanos, secs};

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

/// A kept connection that was closed while idle says so within a round trip, on a busy machine within this. A client that waits
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
