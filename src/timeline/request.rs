//! Requests and writes, and what came of each: the exchange on the wire, how far it came, and why it failed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Moment;
use crate::timing::nanos;

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

impl Request {
    /// Each attempt that a client library made at it, in order, with when it began; the last began with the request `at` that moment, as far as
    /// the library tells.
    pub fn exchanges(&self, at: Moment) -> impl Iterator<Item = (Moment, &Exchange)> {
        let before = self.attempts.iter().map(|attempt| (attempt.at, &attempt.exchange));
        before.chain([(at, &self.exchange)])
    }
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

    /// 429 or 503 with Retry-After: the server that says so has not looked at the request. A stopping apiserver says it (k8s.io/apiserver
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
