//! The vocabulary of a recording: what can be seen to happen.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AuditLogRead, Bookmark, ClusterSeen, Delivered, Endpoints, Failure, GatewayCounted, GatewayLogged, GatewayStream,
    GuardedLeft, GuardedUpdate, InFlight, ListWatch, Listed, Load, LoadLeft, Loss, Moment, Observers, Packets, Read,
    Request, Session, Ticked, TimerConnection, Trigger, WatchEnded, Write,
};
use crate::timing::nanos;

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When it happened; for something that takes time, when it began.
    pub at: Moment,
    /// What it was.
    pub event: Event,
}

/// What can be seen to happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A probe asked for something and got an answer, or did not.
    Request(Request),
    /// A probe changed an object.
    Write(Write),
    /// A worker of the load did a step of its cycle.
    Load(Load),
    /// What the load left behind, listed past the balancer when all workers had ended.
    LoadLeft(LoadLeft),
    /// A request that was held in flight came to its end.
    InFlight(InFlight),
    /// A client library sent a list or a watch request.
    ListWatch(ListWatch),
    /// A watch delivered a change.
    Delivered(Delivered),
    /// A client library handed its user the whole state: the first list, or a relist.
    Listed(Listed),
    /// A watch came to its end, or its client library reported an error.
    WatchEnded(WatchEnded),
    /// A watch was told how far it has come.
    Bookmark(Bookmark),
    /// A probe read what was written.
    Read(Read),
    /// A writer updated a counter that it shares, by optimistic locking.
    GuardedUpdate(GuardedUpdate),
    /// What that counter was at last.
    GuardedLeft(GuardedLeft),
    /// The balancer carried, or refused, a connection. Written down when it ended.
    Connection(Connection),
    /// The balancer changed its mind about a backend.
    BackendHealth(BackendHealth),
    /// A session into a pod came to its end, or could not be opened.
    Session(Session),
    /// A connection to a timer-server was observed.
    Timer(TimerConnection),
    /// A change was to be noticed by a watch on which nothing else happens.
    Trigger(Trigger),
    /// A connection passed one side of the balancer.
    Packets(Packets),
    /// A client had a stream through a gateway.
    GatewayStream(GatewayStream),
    /// A gateway's access log has a stream of ours. `at` is when we read it.
    GatewayLogged(GatewayLogged),
    /// A gateway said what it had counted.
    GatewayCounted(GatewayCounted),
    /// Gateways were told of other apiservers than before.
    Endpoints(Endpoints),
    /// An apiserver went through a step of its life.
    Lifecycle(Lifecycle),
    /// An apiserver, asked past the balancer, said how it is.
    ServerHealth(ServerHealth),
    /// What a cluster said of its nodes and leaders was read.
    Cluster(ClusterSeen),
    /// An apiserver's audit log has a request of ours.
    Audited(Audited),
    /// An apiserver's audit log was read, to its end.
    AuditLog(AuditLogRead),
    /// A fault was put on.
    FaultOn(Fault),
    /// A fault was over: the server was back and new connections through the balancer had met it.
    FaultOff(Fault),
    /// Packets between the balancer and an apiserver are lost from now on, or it has no etcd.
    LossOn(Loss),
    /// They pass again, or it has.
    LossOff(Loss),
    /// We ourselves did not run for this long: paused, starved, or blocked. Began at `at`.
    Stall(#[serde(with = "nanos")] Duration),
    /// We ourselves ran.
    Ticked(Ticked),
    /// Probes were ready to observe.
    Observers(Observers),
}

impl Event {
    /// The probe that made the observation, where it is one of a single probe.
    pub fn probe(&self) -> Option<&str> {
        Some(match self {
            Self::Request(it) => &it.probe,
            Self::Write(it) => &it.probe,
            Self::Load(it) => &it.worker,
            Self::InFlight(it) => &it.probe,
            Self::ListWatch(it) => &it.probe,
            Self::Delivered(it) => &it.probe,
            Self::Listed(it) => &it.probe,
            Self::WatchEnded(it) => &it.probe,
            Self::Bookmark(it) => &it.probe,
            Self::Read(it) => &it.probe,
            Self::GuardedUpdate(it) => &it.probe,
            Self::Session(it) => &it.probe,
            Self::Timer(it) => &it.probe,
            Self::Trigger(it) => &it.probe,
            Self::Cluster(it) => &it.probe,
            _ => return None,
        })
    }
}

/// How an apiserver is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// SIGTERM: graceful termination, then the same identity comes back.
    Graceful,
    /// SIGKILL: the kernel closes its sockets, and the same identity comes back.
    Killed,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Graceful => "graceful restart",
            Self::Killed => "kill",
        })
    }
}

/// A disturbance of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What was done.
    pub restart: Restart,
    /// To whom.
    pub server: String,
}

/// A connection that the balancer was asked to carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The client's end, host:port.
    pub client: String,
    /// The apiserver it was carried to; `None` where none was to be had.
    pub backend: Option<String>,
    /// Bytes from the client.
    pub sent: u64,
    /// Bytes to the client.
    pub received: u64,
    /// How long no byte had passed when it ended.
    #[serde(rename = "idle_ns", with = "nanos")]
    pub idle: Duration,
    /// From accept to the end.
    #[serde(rename = "lasted_ns", with = "nanos")]
    pub lasted: Duration,
    /// Who ended it.
    pub ended_by: Party,
    /// How it ended.
    pub end: End,
}

/// The three parties to a connection through a balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The client.
    Client,
    /// The apiserver.
    Server,
    /// The balancer.
    Balancer,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// FIN.
    Fin,
    /// RST.
    Reset,
    /// The backend refused or did not answer the connect.
    Unreachable,
    /// No backend was in service.
    NoBackend,
    /// The balancer carried nothing any more, and told nobody.
    Silent,
}

/// The balancer's opinion of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendHealth {
    /// The apiserver.
    pub server: String,
    /// In service or not.
    pub healthy: bool,
    /// What the check that decided it saw.
    pub why: String,
    /// Whether that was no answer at all within the check's time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unanswered: bool,
}

/// A step in an apiserver's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// The apiserver.
    pub server: String,
    /// The step.
    pub step: Step,
    /// The log line that told of it, or how the process ended; empty for what we did ourselves.
    pub text: String,
}

/// Steps in an apiserver's life. The named signals are those of k8s.io/apiserver `pkg/server/lifecycle_signals.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// The process was started.
    Started,
    /// /readyz, asked past the balancer, is 200 for the first time since the start.
    Ready,
    /// A new connection through the balancer met its serving certificate for the first time since the start.
    MetThroughBalancer,
    /// We sent SIGTERM.
    TermSent,
    /// We sent SIGKILL.
    KillSent,
    /// It has received SIGTERM; /readyz is red from here.
    ShutdownInitiated,
    /// `--shutdown-delay-duration` is over.
    AfterShutdownDelayDuration,
    /// Pre-shutdown hooks are done.
    PreShutdownHooksStopped,
    /// New requests are refused.
    NotAcceptingNewRequest,
    /// The listener is closed.
    HTTPServerStoppedListening,
    /// No request is in flight any more.
    InFlightRequestsDrained,
    /// The process ended.
    Exited,
    /// We stopped the process (SIGSTOP): its kernel still accepts and acknowledges.
    Frozen,
    /// We let it go on (SIGCONT).
    Thawed,
}

impl Step {
    /// The lifecycle signal that an apiserver's log calls by this name.
    pub fn from_signal(name: &str) -> Option<Self> {
        Some(match name {
            "ShutdownInitiated" => Self::ShutdownInitiated,
            "AfterShutdownDelayDuration" => Self::AfterShutdownDelayDuration,
            "PreShutdownHooksStopped" => Self::PreShutdownHooksStopped,
            "NotAcceptingNewRequest" => Self::NotAcceptingNewRequest,
            "HTTPServerStoppedListening" => Self::HTTPServerStoppedListening,
            "InFlightRequestsDrained" => Self::InFlightRequestsDrained,
            _ => return None,
        })
    }
}

/// An apiserver's own health endpoints, asked past the balancer on a new connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// The apiserver.
    pub server: String,
    /// `/readyz` or `/livez`.
    pub path: String,
    /// The status, or why there was none.
    pub answer: Result<u16, Failure>,
    /// From dialling to the answer.
    #[serde(rename = "took_ns", with = "nanos")]
    pub took: Duration,
}

/// An audit log's trace of one of our requests. `at` is when we read the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// The apiserver whose log it is.
    pub server: String,
    /// The Audit-ID we had sent.
    pub audit_id: String,
    /// The stages that were logged, in order: RequestReceived, ResponseStarted, ResponseComplete, Panic.
    pub stages: Vec<String>,
    /// The last stage's status code.
    pub status: Option<u16>,
}
