//! What clients have through gateways that end HTTP: streams, each with a story of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::timing::nanos;

/// In [`Header::machine`](super::Header::machine): `net.ipv4.tcp_retries2` where the gateways stand, if a scenario has set it.
pub const TCP_RETRIES2: &str = "gateways' net.ipv4.tcp_retries2";

/// Likewise, when it begins to probe connections whose program has asked for it and has not said when: `net.ipv4.tcp_keepalive_time`, seconds.
pub const TCP_KEEPALIVE_TIME: &str = "gateways' net.ipv4.tcp_keepalive_time";

/// A stream of a client through a gateway. Written down when it ended, or when its probe did; begins when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStream {
    /// The gateway, by the remedy that it has.
    pub gateway: String,
    /// What it is among the other traffic.
    pub shape: Shape,
    /// Whose it is: a watch that was ended goes on in another stream of the same client.
    pub client: String,
    /// The Audit-ID header that we sent. kubectl sends none: the UID that it impersonates, which is in the audit log as well.
    pub audit_id: String,
    /// The client's end of its connection to the gateway, host:port; empty where there was none.
    pub local: String,
    /// The revision from which a watch was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// How long a watch was asked to last (`timeoutSeconds`).
    #[serde(rename = "asked_to_last_ns", default, skip_serializing_if = "Option::is_none", with = "nanos::option")]
    pub asked_to_last: Option<Duration>,
    /// How many PINGs of its client were answered meanwhile on its connection; `None` where its client sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pings: Option<u64>,
    /// The apiserver that answered, as the gateway says.
    pub server: Option<String>,
    /// Until the answer's headers, and their status; `None` where none came.
    pub answered: Option<Answered>,
    /// What came on it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heard: Vec<Heard>,
    /// Of a quiet one: when something happened at last that it had to tell of.
    #[serde(rename = "spoken_to_ns", default, skip_serializing_if = "Option::is_none", with = "nanos::option")]
    pub spoken_to: Option<Duration>,
    /// How the client was told of its end; `None`: it was not, or ended it itself.
    pub told: Option<StreamEnd>,
    /// Until its end, or until its probe stopped.
    #[serde(rename = "lasted_ns", with = "nanos")]
    pub lasted: Duration,
}

/// What a gateway's access log says of a stream, where it says more than that all went well. Evidence: no verdict depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayLogged {
    /// The gateway, by the remedy that it has.
    pub gateway: String,
    /// The stream's [`GatewayStream::audit_id`].
    pub audit_id: String,
    /// The apiserver on which it was put at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The status that was sent to the client; 0: none.
    pub status: u16,
    /// Envoy's `%RESPONSE_FLAGS%`, for example `UC`.
    pub flags: String,
    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
}

/// What a gateway has counted since its start, as it says itself. Evidence: no verdict depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayCounted {
    /// The gateway, by the remedy that it has.
    pub gateway: String,
    /// Envoy's counters and gauges of upstreams, by name, and of connections by worker. Absent: zero.
    pub counters: BTreeMap<String, u64>,
}

/// Gateways are told that these apiservers are all there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Their names.
    pub servers: Vec<String>,
}

/// What a stream is, and what else is on the gateway's connection to the same apiserver: it decides what the kernel has to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A watch, and nothing else that the gateway would have to send: TCP has no unacknowledged bytes.
    WatchAlone,
    /// A watch on a connection that carries requests all the time.
    WatchBusy,
    /// One of these requests, a GET.
    Request,
    /// A watch that is opened now, and ended by its client when it is open.
    NewWatch,
    /// A watch of an informer as client-go has it, beside those requests: on a connection of its own, which its client asks by PING, and asked to
    /// last only so long (`timeoutSeconds`).
    Informer,
    /// A watch by HTTP/1.1, beside those requests, on a connection of its own.
    WatchHttp1,
    /// One of more watches on one connection of a client than an apiserver takes on one connection of a gateway.
    WatchMany,
    /// A stream that says nothing for longer than any timer, as an `exec` session in which nobody types.
    Quiet,
    /// An `exec` session, upgraded to WebSocket, in which nothing is said for longer than any timer.
    QuietExec,
    /// An `attach` session, by WebSocket as well, to a container that says nothing for so long.
    QuietAttach,
    /// A `port-forward` session, by WebSocket as well, through which nothing passes for so long.
    QuietPortForward,
    /// `logs -f` of a container that says nothing for so long: no upgrade, but an answer without an end, over HTTP/2.
    QuietLogs,
    /// An `exec` session of kubectl's, by SPDY, in which nothing is said for so long.
    QuietSpdy,
    /// An `exec` session in which lines go to and fro all the time.
    Exec,
}

impl Shape {
    /// Sessions in which nothing is said, one of each kind.
    pub const QUIET_SESSIONS: [Self; 5] =
        [Self::QuietExec, Self::QuietAttach, Self::QuietPortForward, Self::QuietLogs, Self::QuietSpdy];

    /// Whether nothing is said on it until the end.
    pub fn is_quiet(self) -> bool {
        self == Self::Quiet || Self::QUIET_SESSIONS.contains(&self)
    }

    /// Whether it is a watch that goes on in another stream when it has ended, and is told of every change.
    pub fn is_watch(self) -> bool {
        matches!(self, Self::WatchAlone | Self::WatchBusy | Self::Informer | Self::WatchHttp1 | Self::WatchMany)
    }

    /// Whether each has a client of its own, and a connection.
    pub fn is_alone(self) -> bool {
        matches!(self, Self::Informer | Self::WatchHttp1)
    }

    /// Whether it is a session: nothing repeats it when it has ended, its user has to.
    pub fn is_session(self) -> bool {
        self == Self::Exec || Self::QUIET_SESSIONS.contains(&self)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WatchAlone => "watch alone",
            Self::WatchBusy => "watch beside requests",
            Self::Request => "request",
            Self::NewWatch => "new watch",
            Self::Informer => "informer",
            Self::WatchHttp1 => "watch by HTTP/1.1",
            Self::WatchMany => "watch among many",
            Self::Quiet => "quiet stream",
            Self::QuietExec => "quiet exec",
            Self::QuietAttach => "quiet attach",
            Self::QuietPortForward => "quiet port-forward",
            Self::QuietLogs => "quiet logs",
            Self::QuietSpdy => "quiet exec by SPDY",
            Self::Exec => "exec",
        })
    }
}

/// The headers of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// When, after it was asked for.
    #[serde(rename = "after_ns", with = "nanos")]
    pub after: Duration,
    /// The status.
    pub status: u16,
}

/// An event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// When, after the stream was asked for.
    #[serde(rename = "after_ns", with = "nanos")]
    pub after: Duration,
    /// The [`Write::change`](super::Write::change) that the object carries, if it is the writer's.
    pub change: Option<u64>,
}

/// The end of a stream, as its client was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// When, after it was asked for.
    #[serde(rename = "after_ns", with = "nanos")]
    pub after: Duration,
    /// Why; `None` for a clean end, and for an answer that is complete.
    pub failure: Option<Failure>,
}

impl GatewayStream {
    /// Whether the apiserver ended it when it had lasted for as long as it was asked to.
    pub fn is_over(&self) -> bool {
        let end = self.told.as_ref().filter(|end| end.failure.is_none());
        end.zip(self.asked_to_last).is_some_and(|(end, asked)| end.after >= asked)
    }

    /// Whether it was answered with 2xx.
    pub fn succeeded(&self) -> bool {
        self.answered.is_some_and(|answered| answered.status == 101 || (200..300).contains(&answered.status))
    }
}
