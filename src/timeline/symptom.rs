//! What a failed request looked like to its client, in the few classes of the field reports.

use std::fmt;

use super::{ErrorClass, Exchange, Failure};

/// What a failed request looked like: the columns of the reports' tables, coarser than [`ErrorClass`] and with statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Symptom {
    /// The connection ended in the middle of something.
    UnexpectedEof,
    /// HTTP/2: the server asked to go elsewhere.
    Goaway,
    /// RST.
    ConnectionReset,
    /// EPIPE.
    BrokenPipe,
    /// ECONNREFUSED.
    ConnectionRefused,
    /// 429, with Retry-After or without.
    TooManyRequests,
    /// 503.
    Unavailable,
    /// No answer within our patience.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// Everything else: another status, a stream reset, what no class is for.
    Other,
}

impl Symptom {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 10] = [
        Self::UnexpectedEof,
        Self::Goaway,
        Self::ConnectionReset,
        Self::BrokenPipe,
        Self::ConnectionRefused,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::Timeout,
        Self::Tls,
        Self::Other,
    ];

    /// What an exchange that did not succeed looked like.
    pub fn of(exchange: &Exchange) -> Self {
        match (&exchange.failure, exchange.status) {
            (Some(failure), _) => failure.into(),
            (None, Some(status)) => Self::of_status(status),
            (None, None) => Self::Other,
        }
    }

    /// What a status that is an error looks like.
    pub const fn of_status(status: u16) -> Self {
        match status {
            429 => Self::TooManyRequests,
            503 => Self::Unavailable,
            _ => Self::Other,
        }
    }
}

impl From<&Failure> for Symptom {
    fn from(failure: &Failure) -> Self {
        match failure.class {
            ErrorClass::UnexpectedEof => Self::UnexpectedEof,
            ErrorClass::Goaway => Self::Goaway,
            ErrorClass::ConnectionReset => Self::ConnectionReset,
            ErrorClass::BrokenPipe => Self::BrokenPipe,
            ErrorClass::ConnectionRefused => Self::ConnectionRefused,
            ErrorClass::Timeout => Self::Timeout,
            ErrorClass::Tls => Self::Tls,
            ErrorClass::StreamReset | ErrorClass::Gone | ErrorClass::Status | ErrorClass::Other => Self::Other,
        }
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnexpectedEof => "unexpected EOF",
            Self::Goaway => "GOAWAY",
            Self::ConnectionReset => "connection reset",
            Self::BrokenPipe => "broken pipe",
            Self::ConnectionRefused => "connection refused",
            Self::TooManyRequests => "429",
            Self::Unavailable => "503",
            Self::Timeout => "timeout",
            Self::Tls => "TLS failure",
            Self::Other => "other",
        })
    }
}
