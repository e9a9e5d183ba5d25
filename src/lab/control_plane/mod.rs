//! The control plane: N kube-apiservers of one cluster, and what they stand on.
//!
//! [`local`] runs etcd and the apiservers as processes of this machine; [`on_kind`] has them run by the kubelets of a cluster
//! whose nodes are containers. Each apiserver has its own serving certificate, address, log and audit log, so that everything
//! can be attributed to one of them.

mod apiserver;
pub mod audit;
pub mod kind;
mod kwok;
pub mod lifecycle;
mod local;
mod on_kind;
pub mod pki;
mod pod;
mod process;
pub mod static_pod;

pub use apiserver::{Apiserver, Frozen, Life, Shared, last_words};
pub(in crate::lab) use local::start as start_local;
pub(in crate::lab) use on_kind::{fetch_journal, start as start_on_kind};
pub use pod::{Pod, Quiet};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::http::Roster;
use crate::timing::Timers;

use pki::Identity;

/// kube-apiserver flags that scenarios set, by name without dashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<String, String>);

impl Flags {
    /// The flags of a profile's timers, and those that the suite's own observations need:
    ///
    /// | flag | pr | nightly | why |
    /// | --- | --- | --- | --- |
    /// | shutdown-delay-duration | 3s | 70s | serve on until balancers have noticed |
    /// | shutdown-watch-termination-grace-period | 5s | 60s | watches end cleanly before the process does; without it the process waits for its request timeout (60 s) |
    /// | v | 1 | 1 | lifecycle signals are logged from here on |
    pub fn of(timers: &Timers) -> Self {
        let mut flags = Self::default();
        flags.set("shutdown-delay-duration", format!("{:?}", timers.shutdown_delay));
        flags.set("shutdown-watch-termination-grace-period", format!("{:?}", timers.watch_termination_grace));
        flags.set("v", "1");
        flags
    }

    /// The flags that turn apiservers with the timers `given` into ones with the `wanted`.
    pub fn changed(given: &Timers, wanted: &Timers) -> Self {
        let mut changed = Self::of(wanted);
        let given = Self::of(given);
        changed.0.retain(|name, value| given.0.get(name) != Some(value));
        changed
    }

    /// Sets one flag, or changes it.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }
}

/// A running control plane.
pub struct ControlPlane {
    /// The apiservers, by number.
    pub servers: Vec<Shared>,
    /// Whom which serving certificate belongs to.
    pub roster: Arc<Roster>,
    /// The CA's certificate, PEM.
    pub ca: String,
    /// The file that holds it.
    pub ca_file: PathBuf,
    /// A client certificate in group system:masters.
    pub admin: Identity,
    /// The same user's bearer token, for a balancer that ends TLS. Never printed, logged or recorded.
    pub token: Arc<str>,
    /// What a balancer that ends TLS shows to clients.
    pub gateway: Identity,
    base: Base,
}

/// What apiservers stand on.
enum Base {
    /// Processes of this machine.
    Local(local::Etcd, Option<Box<kwok::Kubelet>>),
    /// Nodes.
    Kind(Box<on_kind::Nodes>),
}

impl ControlPlane {
    /// Says so if something that is not under test has ended by itself: then the lab is broken, not the subject.
    ///
    /// # Errors
    /// etcd has ended, or a node.
    pub fn check(&self) -> anyhow::Result<()> {
        match &self.base {
            Base::Local(etcd, kubelet) => {
                etcd.check().and_then(|()| kubelet.as_ref().map_or(Ok(()), |kubelet| kubelet.check()))
            }
            Base::Kind(_) => self.servers.iter().try_for_each(|server| server.check()),
        }
    }

    /// Whether it goes on when the lab is struck, for the next one.
    pub fn is_shared(&self) -> bool {
        matches!(self.base, Base::Kind(_))
    }

    /// The cluster that it is, if it is one.
    pub fn cluster(&self) -> Option<&kind::Cluster> {
        match &self.base {
            Base::Local(..) => None,
            Base::Kind(nodes) => Some(&nodes.cluster),
        }
    }

    /// The pod that sessions lead into, where there can be one. It is to be created yet.
    pub fn pod(&self) -> Option<&Pod> {
        match &self.base {
            Base::Local(_, kubelet) => kubelet.as_ref().map(|kubelet| &kubelet.pod),
            Base::Kind(nodes) => Some(&nodes.pod),
        }
    }

    /// Brings all of its logs to this machine.
    ///
    /// # Errors
    /// A node does not hand them over.
    pub async fn fetch_logs(&self) -> anyhow::Result<()> {
        for server in &self.servers {
            server.settle().await?;
        }
        match &self.base {
            Base::Local(..) => Ok(()),
            Base::Kind(nodes) => nodes.fetch_logs().await,
        }
    }

    /// The log files: what they are called as evidence, and where they lie.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let servers = self.servers.iter().flat_map(|server| {
            let name = server.name();
            [(format!("{name}.log"), server.log.clone()), (format!("{name}-audit.log"), server.audit_log.clone())]
        });
        let base = match &self.base {
            Base::Local(etcd, kubelet) => {
                let kubelet = kubelet.as_ref().map(|kubelet| ("kwok.log".to_owned(), kubelet.log.clone()));
                std::iter::once(("etcd.log".to_owned(), etcd.log.clone())).chain(kubelet).collect()
            }
            Base::Kind(nodes) => nodes.logs(),
        };
        base.into_iter().chain(servers).collect()
    }
}
