//! What happened in a run, on one clock: the [`Recording`], made of [`Observation`]s, and its JSON lines.
//!
//! Nothing here judges. A recording is all that a verdict may look at, so whatever a requirement speaks about has to be
//! observed and written down here first.

mod cluster;
mod evidence;
mod file;
mod gateway;
mod in_flight;
mod lives;
mod load;
mod loss;
mod moment;
mod observation;
mod outage;
mod packets;
mod read;
mod recorder;
mod request;
mod scribe;
mod session;
mod symptom;
mod timer;
mod trigger;
mod watch;

pub use cluster::{ClusterSeen, LeaseSeen};
pub use evidence::{AuditLogRead, Observers, Ticked};
pub use file::{FORMAT, FileError, OLDEST_FORMAT, compress};
pub use gateway::{
    Answered, Endpoints, GatewayCounted, GatewayLogged, GatewayStream, Heard, Shape, StreamEnd, TCP_KEEPALIVE_TIME,
    TCP_RETRIES2,
};
pub use in_flight::{Held, InFlight};
pub use lives::{Lives, Stage};
pub use load::{Load, LoadLeft, LoadVerb};
pub use loss::{Loss, Lost};
pub use moment::Moment;
pub use observation::*;
pub use outage::{Counted, Outage, outages, repaired};
pub use packets::{Packets, Segment, SegmentKind};
pub use read::{GuardedLeft, GuardedUpdate, Read};
pub use recorder::Recorder;
pub use request::{
    Attempt, ConnectionKind, ConnectionUse, Effect, ErrorClass, Exchange, Failure, Phase, Protocol, Request, Verb,
    Write,
};
pub use session::{Session, SessionEnd, SessionKind};
pub use symptom::Symptom;
pub use timer::{Keepalive, Manner, TimerConnection, Told};
pub use trigger::Trigger;
pub use watch::{Bookmark, Call, ChangeKind, Delivered, ListWatch, Listed, WatchEnded};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::timing::{Bounds, GatewayTimers, Profile, Timers};

/// One run of one scenario: what it was about, and everything that was seen, in order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The subjects, flags and bounds in force.
    pub header: Header,
    /// What was seen, sorted by [`Observation::at`].
    pub observations: Vec<Observation>,
}

/// What a recording is about: all that a reader needs to judge it and to make the run again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this file format, at most [`FORMAT`]. What a format has that an older one lacks, a recording of the older one cannot be asked for.
    pub format: u32,
    /// Version of the suite that recorded.
    pub suite: String,
    /// The scenario, as libtest names it.
    pub scenario: String,
    /// The point of the matrix.
    pub cell: Cell,
    /// What the random choices of the run were drawn from.
    pub seed: u64,
    /// Wall clock at the start of the recording, RFC 3339. For people: the wall clock can jump.
    pub began: String,
    /// The recording's clock at that moment.
    pub began_at: Moment,
    /// What the scenario set out to do to the apiservers. `None`: nothing, it observes a steady state.
    pub disturbance: Option<Restart>,
    /// The apiservers, in the order of their names.
    pub servers: Vec<Server>,
    /// Every program under test, with version and digest.
    pub subjects: Vec<Subject>,
    /// Settings of the lab, in force for all servers and the balancer.
    pub timers: Timers,
    /// Those of gateways and their clients, where there are some. A recording with gateways that does not say it has the
    /// [default](GatewayTimers::default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<GatewayTimers>,
    /// Kernel, processors, and the sysctls that decide about timeouts.
    pub machine: BTreeMap<String, String>,
    /// What the verdicts hold the subjects to.
    pub bounds: Bounds,
    /// The requirements this recording was made for, with the verdict that is expected of a control.
    pub judged_by: Vec<JudgedBy>,
}

/// One point of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Who runs the apiservers: `local`, `kind`, `existing`.
    pub control_plane: String,
    /// Kubernetes version, for example `v1.37.2`.
    pub kubernetes: String,
    /// How many apiservers.
    pub apiservers: usize,
    /// What stands in front of them: `builtin`, `command:CMD`, ...
    pub balancer: String,
    /// HTTP version that the probes speak.
    pub protocol: String,
    /// The client library under the watch probes.
    pub client: String,
    /// Compressed or real durations.
    pub profile: Profile,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { control_plane, kubernetes, apiservers, balancer, protocol, client, profile } = self;
        write!(f, "{control_plane}/{kubernetes}x{apiservers}/{balancer}/{protocol}/{client}/{profile}")
    }
}

/// One kube-apiserver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name in every observation, for example `apiserver-0`.
    pub name: String,
    /// Where it listens, past the balancer.
    pub address: String,
    /// SHA-256 of its serving certificate, hex: what a probe recognises it by.
    pub certificate: String,
    /// Its command line, without the program.
    pub flags: Vec<String>,
}

/// A program under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// For example `kube-apiserver`.
    pub name: String,
    /// As the program itself says.
    pub version: String,
    /// SHA-256 of the binary, hex; empty where it is part of the suite itself.
    pub digest: String,
}

/// A requirement that a recording was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedBy {
    /// The requirement's id, for example `WATCH-1`.
    pub requirement: String,
    /// What the scenario expects: `Violated` in a control.
    pub expected: Expected,
    /// Of several gateways side by side, the one that is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// What a scenario expects of a requirement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// The subject is to keep it.
    #[default]
    Upheld,
    /// A control: the scenario breaks something on purpose, and the suite has to find it.
    Violated,
}

impl Recording {
    /// The observations of one kind, each with the moment it began: `pick` returns `None` for the others.
    pub fn each<'a, T>(&'a self, pick: impl Fn(&'a Event) -> Option<T> + 'a) -> impl Iterator<Item = (Moment, T)> + 'a {
        self.observations.iter().filter_map(move |seen| pick(&seen.event).map(|what| (seen.at, what)))
    }
}
