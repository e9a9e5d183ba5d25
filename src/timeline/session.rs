//! Sessions into a pod: connections on which a client and a pod talk, for as long as they like.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Failure, Moment};
use crate::timing::nanos;

/// A session into a pod, or an attempt at one. Written down when it was over; asked for at `at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Which probe.
    pub probe: String,
    /// What it is to its user.
    pub kind: SessionKind,
    /// The Audit-ID header of the request that opened it, if one was sent. The audit log that has it names the apiserver.
    pub audit_id: String,
    /// How long it keeps silent between its lines, on purpose; `None`: it is never silent for long.
    #[serde(rename = "quiet_ns", with = "nanos::option", default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Duration>,
    /// From asking for it to its first line from the pod; `None`: none came.
    #[serde(rename = "opened_after_ns", with = "nanos::option")]
    pub opened_after: Option<Duration>,
    /// Lines from the pod: echoes of ours, or what it says by itself.
    pub lines: u64,
    /// Those of them that answered a line which had followed a whole silence of [`Session::quiet`].
    #[serde(default)]
    pub after_silence: u64,
    /// The longest wait for a line from the pod: since ours, or since its last.
    #[serde(rename = "longest_wait_ns", with = "nanos")]
    pub longest_wait: Duration,
    /// When its last line came.
    pub last_line: Option<Moment>,
    /// When it was over.
    pub ended: Moment,
    /// How.
    pub end: SessionEnd,
}

/// What a session is to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// `kubectl exec -i`: lines go to a program in the pod, and come back.
    Exec,
    /// `kubectl attach`: the pod's output.
    Attach,
    /// `kubectl port-forward`: lines go to a port of the pod, and come back.
    PortForward,
    /// `kubectl logs -f`: the pod's log.
    Logs,
}

impl SessionKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Exec, Self::Attach, Self::PortForward, Self::Logs];
}

impl fmt::Display for SessionKind {
    /// As kubectl's commands are called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "port-forward",
            Self::Logs => "logs",
        })
    }
}

/// How a session came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// We closed it, and all was well until then.
    Ours,
    /// We gave it up: no line came any more, and nobody said why.
    Silence,
    /// The client library was told of an end, and of nothing wrong.
    Clean,
    /// The client library was told of an error.
    Failed(Failure),
}

impl Session {
    /// Whether it was there at all.
    pub fn opened(&self) -> bool {
        self.opened_after.is_some()
    }

    /// How it ended, in a few words.
    pub fn ending(&self) -> String {
        match &self.end {
            SessionEnd::Ours => "closed by us".to_owned(),
            SessionEnd::Silence => "no line any more, and no word why".to_owned(),
            SessionEnd::Clean => "ended without an error".to_owned(),
            SessionEnd::Failed(failure) => format!("{} ({})", failure.class, failure.text),
        }
    }
}
