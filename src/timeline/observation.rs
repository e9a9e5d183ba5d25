//! The vocabulary of a recording: what can be seen to happen.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AuditLogRead, ClusterSeen, Endpoints, GatewayCounted, GatewayLogged, GatewayStream, GuardedLeft, GuardedUpdate,
    InFlight, Load, LoadLeft, Loss, Moment, Observers, Packets, Read, Session, Ticked, TimerConnection, Trigger,
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

/// One request of a requester.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Which probe asked.
    pub probe: String,
    /// On a connection of its own, or on one that is kept.
    pub on: ConnectionKind,
    /// The Audit-ID of the request that this one repeats on a fresh connection, because the kept connection turned out to
    /// be closed before any byte of an answer, or led to a stopping server that refused it.
    pub retries: Option<String>,
    /// How it went.
    pub exchange: Exchange,
    /// What came before it, where a client library repeated the request by itself: each attempt below the library's
    /// retries but the last, in order. The request as the user knows it began with the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

/// One attempt of a client library at a request of its user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: Moment,
    /// How it went, as far as the library's HTTP client tells: a body that breaks off is not seen here.
    pub exchange: Exchange,
}

/// Whether a requester opens a connection for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionKind {
    /// A connection for each request: what a client meets that starts now.
    New,
    /// One connection kept for all requests: what a client meets that is already there.
    Reused,
    /// As a client library sees fit, and after the retries it does by itself: what its user is told.
    Library,
}

/// The version of HTTP that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
}

/// One write of a writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// Which probe wrote.
    pub probe: String,
    /// Running number, unique in the recording. The object carries it, so that a delivery can be told from every other.
    pub change: u64,
    /// What was done to the object.
    pub verb: Verb,
    /// The object's name.
    pub object: String,
    /// The resourceVersion the answer gave. A delete's answer gives none.
    pub revision: Option<u64>,
    /// How it went.
    pub exchange: Exchange,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// POST.
    Create,
    /// PUT.
    Update,
    /// DELETE.
    Delete,
}

/// Whether a write took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It was acknowledged.
    Certain,
    /// The answer was lost, or is no answer (5xx): it may have taken effect or not.
    Maybe,
    /// It certainly did not: it never left us, or was refused.
    Never,
}

impl Write {
    /// Whether this write took effect.
    pub fn effect(&self) -> Effect {
        self.exchange.effect()
    }
}

/// A request and what came of it, as seen on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// The Audit-ID header that we sent; the apiserver's audit log has the same.
    pub audit_id: String,
    /// What was spoken. A recording that does not say it is of HTTP/1.1.
    #[serde(default)]
    pub protocol: Protocol,
    /// Which connection; one that was not made too, as far as it came. `None` where a client library does not tell: of a dial.
    pub connection: Option<ConnectionUse>,
    /// The last phase reached. An exchange that failed, failed in it.
    pub phase: Phase,
    /// The status line's code, if one came.
    pub status: Option<u16>,
    /// The Retry-After header, in seconds.
    pub retry_after: Option<u32>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// The connection was known to be closed before any byte of the request was handed to it: no server can have seen it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsent: bool,
    /// The apiserver whose serving certificate the connection showed.
    pub server: Option<String>,
    /// From the first step to the last.
    #[serde(rename = "took_ns", with = "nanos")]
    pub took: Duration,
}

impl Exchange {
    /// Whether the client got what it asked for: a whole answer, 2xx. A probe asks for what is there and what it may have,
    /// so a 403 or 404 means that an apiserver answered before it was ready to.
    pub fn succeeded(&self) -> bool {
        self.failure.is_none() && self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether it took effect, if it was to change something.
    pub fn effect(&self) -> Effect {
        match (self.status, self.phase) {
            (Some(200..=299), Phase::Done) => Effect::Certain,
            (Some(400..=499), _) | (None, Phase::Dns | Phase::Dial | Phase::Tls) => Effect::Never,
            (None, _) if self.unsent => Effect::Never,
            _ => Effect::Maybe,
        }
    }

    /// 429 or 503 with Retry-After: whoever says so has not looked at the request. A stopping apiserver says it (k8s.io/apiserver
    /// pkg/server/filters/waitgroup.go, and with_retry_after.go with --shutdown-send-retry-after), and that there is a good chance to meet another
    /// server at once; but so does one that is overloaded. Which it was, only the server's lifecycle tells.
    pub fn refused_for_now(&self) -> bool {
        self.failure.is_none() && matches!(self.status, Some(429 | 503)) && self.retry_after.is_some()
    }

    /// Whether a kept connection at once turned out to be closed (RST, FIN, GOAWAY) when this went out on it: within `noticed`
    /// ([`Bounds::close_noticed`](crate::timing::Bounds)). One that answers nothing for long is no such thing: that is a hang.
    pub fn met_a_closed_connection(&self, noticed: Duration) -> bool {
        use ErrorClass::{BrokenPipe, ConnectionReset, Goaway, UnexpectedEof};
        let closed = self.failure.as_ref().is_some_and(|failure| {
            matches!(failure.class, UnexpectedEof | ConnectionReset | BrokenPipe | Goaway)
                && self.phase == Phase::Headers
        });
        closed && self.was_kept() && self.took <= noticed
    }

    /// Whether one retry on a fresh connection is fair: it went out on a kept connection, which at once turned out to be closed, or to lead to a
    /// server that refuses for now.
    pub fn may_be_repeated(&self, noticed: Duration) -> bool {
        let refused = self.refused_for_now() && self.was_kept() && self.took <= noticed;
        refused || self.met_a_closed_connection(noticed)
    }

    /// Whether it went out on a connection that an earlier request had used.
    pub fn was_kept(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.reused)
    }
}

/// The connection that a request used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionUse {
    /// Our end, host:port; empty where the dial failed before the kernel gave one. The other end is in the balancer's own
    /// observation of the same address.
    pub local: String,
    /// The end we dialled, host:port.
    pub remote: String,
    /// Whether an earlier request had used it.
    pub reused: bool,
    /// How long it had been idle before this request.
    #[serde(rename = "idle_ns", with = "nanos")]
    pub idle: Duration,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looking the server's name up, and getting a token first where the kubeconfig says how. Labs have addresses.
    Dns,
    /// TCP connect.
    Dial,
    /// TLS handshake.
    Tls,
    /// Sending the request, until the first byte of an answer.
    Headers,
    /// Reading the answer's body.
    Body,
    /// The whole answer was read.
    Done,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its class, the same for every library.
    pub class: ErrorClass,
    /// The library's own words.
    pub text: String,
}

/// Classes of errors, named as the field reports name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// The connection ended in the middle of something.
    UnexpectedEof,
    /// HTTP/2: the server asked to go elsewhere. The text says with which reason.
    Goaway,
    /// HTTP/2: the server gave up this one stream (RST_STREAM).
    StreamReset,
    /// RST.
    ConnectionReset,
    /// EPIPE: we wrote to a connection that was reset before.
    BrokenPipe,
    /// ECONNREFUSED: nobody listens.
    ConnectionRefused,
    /// No answer within our patience.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// An answer that says the resourceVersion is too old: 410.
    Gone,
    /// An HTTP status that is an error.
    Status,
    /// Something else; the text says what.
    Other,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnexpectedEof => "unexpected EOF",
            Self::Goaway => "GOAWAY",
            Self::StreamReset => "stream reset",
            Self::ConnectionReset => "connection reset by peer",
            Self::BrokenPipe => "broken pipe",
            Self::ConnectionRefused => "connection refused",
            Self::Timeout => "timeout",
            Self::Tls => "TLS failure",
            Self::Gone => "410 gone",
            Self::Status => "error status",
            Self::Other => "other error",
        })
    }
}

/// A list or watch request as the client library sent it, seen below its own retries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListWatch {
    /// Which probe.
    pub probe: String,
    /// List or watch.
    pub call: Call,
    /// The resourceVersion it asked from; `None` where it asked for the newest.
    pub from: Option<u64>,
    /// Whether it asked for whatever there is, however old (`resourceVersion=0`). `from` is none then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any: bool,
    /// Whether it asked for a watch that begins with the state, as events (`sendInitialEvents=true`, KEP-3157).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub initial_events: bool,
    /// The Audit-ID header that we added.
    pub audit_id: String,
    /// The status line's code, or why there was none.
    pub answer: Result<u16, Failure>,
    /// Until the answer's headers.
    #[serde(rename = "took_ns", with = "nanos")]
    pub took: Duration,
}

/// List or watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// GET of a collection.
    List,
    /// GET of a collection with `watch=true`.
    Watch,
}

/// A change that a watch delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Which probe.
    pub probe: String,
    /// What kind of change.
    pub kind: ChangeKind,
    /// The object's name.
    pub object: String,
    /// The resourceVersion of the event.
    pub revision: u64,
    /// The [`Write::change`] that the object carries. A delete carries the change before it.
    pub change: u64,
}

/// The kind of a delivered change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// ADDED.
    Added,
    /// MODIFIED.
    Modified,
    /// ADDED or MODIFIED: the client library does not say which.
    Applied,
    /// DELETED.
    Deleted,
}

/// The whole state, as a client library handed it to its user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Which probe.
    pub probe: String,
    /// The list's resourceVersion, where the library says it.
    pub revision: Option<u64>,
    /// Each object's name and the change it carries.
    pub objects: Vec<(String, u64)>,
}

/// A bookmark: everything up to a revision was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// Which probe.
    pub probe: String,
    /// That revision.
    pub revision: u64,
    /// Whether it says that the initial events are over (`k8s.io/initial-events-end`, KEP-3157).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub initial_events_end: bool,
}

/// The end of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEnded {
    /// Which probe.
    pub probe: String,
    /// Why; `None` for a clean end.
    pub failure: Option<Failure>,
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
