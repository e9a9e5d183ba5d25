//! What passed the wire.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Moment, Party};
use crate::timing::nanos;

/// A connection as it passed one side of the balancer: only the segments that tell of its life. The first was seen at `at`; written
/// down when the connection had ended, or the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// The balancer's interface, for example `to-client` or `to-apiserver-0`.
    pub interface: String,
    /// Who opened it, host:port.
    pub client: String,
    /// Whom, host:port.
    pub server: String,
    /// In order.
    pub segments: Vec<Segment>,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Since the first of the connection.
    #[serde(rename = "after_ns", with = "nanos")]
    pub after: Duration,
    /// In whose name it was sent: the client's, or the server's. A balancer that is no proxy speaks in the other side's name.
    pub from: Party,
    /// What it was.
    pub kind: SegmentKind,
}

/// What a segment tells of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// SYN.
    Syn,
    /// A keepalive probe: no bytes, from just before what was sent last (RFC 9293, 3.8.4; Linux never sends the byte that it allows).
    Keepalive,
    /// Bytes that had been sent before.
    Retransmission,
    /// FIN.
    Fin,
    /// RST.
    Reset,
}

impl fmt::Display for SegmentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syn => "SYN",
            Self::Keepalive => "keepalive",
            Self::Retransmission => "retransmission",
            Self::Fin => "FIN",
            Self::Reset => "RST",
        })
    }
}

impl Packets {
    /// When the first such segment in the name of `from` passed.
    pub fn first(&self, at: Moment, kind: SegmentKind, from: Party) -> Option<Moment> {
        let found = self.segments.iter().find(|segment| segment.kind == kind && segment.from == from)?;
        Some(at + found.after)
    }

    /// From one keepalive probe in the name of `from` to the next, the median; `None` if there were fewer than two.
    pub fn keepalive_every(&self, from: Party) -> Option<Duration> {
        let probes = self.segments.iter().filter(|probe| probe.kind == SegmentKind::Keepalive && probe.from == from);
        let probes: Vec<_> = probes.map(|probe| probe.after).collect();
        let mut gaps: Vec<_> = probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied()
    }
}
