//! What an apiserver loses on purpose, or gets late: packets, or its etcd member.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The way between the balancer and an apiserver is broken, or the one to etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The apiserver.
    pub server: String,
    /// What it loses.
    pub lost: Lost,
}

/// Which packets are lost, between the balancer and an apiserver, and whether anybody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// All, silently.
    Both,
    /// Those to the apiserver, silently.
    ToServer,
    /// Those of the apiserver, silently: it hears everything, and is not heard.
    FromServer,
    /// That many in a hundred, each way, by chance, silently.
    Percent(u8),
    /// RSTs to clients, silently: whatever ends a connection, its client does not learn of it.
    ResetsToClients,
    /// RSTs to the apiserver, silently.
    ResetsToServer,
    /// Those to the apiserver, and whoever sent one gets RST.
    Refused,
    /// Those to the apiserver, and whoever sent one is told that there is no such host (ICMP).
    Unreachable,
    /// None; but each takes that many milliseconds longer, each way.
    LateMs(u32),
    /// No packets, but the etcd member beside it, which is the only one that it asks (kubeadm's stacked etcd). The others go on.
    Etcd,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Both => f.write_str("all packets are lost"),
            Self::ToServer => f.write_str("all packets to it are lost"),
            Self::FromServer => f.write_str("all packets of it are lost"),
            Self::Percent(percent) => write!(f, "{percent} % of the packets are lost"),
            Self::ResetsToClients => f.write_str("each RST to a client is lost"),
            Self::ResetsToServer => f.write_str("each RST to it is lost"),
            Self::Refused => f.write_str("packets to it are answered with RST"),
            Self::Unreachable => f.write_str("packets to it are answered with host unreachable"),
            Self::LateMs(late) => write!(f, "packets are {late} ms late, each way"),
            Self::Etcd => f.write_str("the etcd member beside it is stopped"),
        }
    }
}
