//! Names and labels: those of kind, so that its commands understand our clusters, and one of our own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::bail;

use super::config;

/// kind's label for the cluster that a container belongs to.
pub const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";
/// kind's label for what a container is to its cluster.
pub const ROLE_LABEL: &str = "io.x-k8s.kind.role";
/// Our label on containers and networks: the lab folder of whoever made them. As long as that folder is held, they live.
pub const LAB_LABEL: &str = "rollproof.lab";
/// Our label for the machine, as containers see it, on which that folder lies.
pub const HOST_LABEL: &str = "rollproof.host";

/// What a container is to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Runs an etcd member and the three programs of a control plane.
    ControlPlane,
    /// Runs pods only.
    Worker,
    /// Stands in front of several control planes; no node.
    LoadBalancer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
            Self::LoadBalancer => "external-load-balancer",
        })
    }
}

impl From<config::Role> for Role {
    fn from(role: config::Role) -> Self {
        match role {
            config::Role::ControlPlane => Self::ControlPlane,
            config::Role::Worker => Self::Worker,
        }
    }
}

impl FromStr for Role {
    type Err = anyhow::Error;

    fn from_str(label: &str) -> anyhow::Result<Self> {
        let roles = [Self::ControlPlane, Self::Worker, Self::LoadBalancer];
        match roles.into_iter().find(|role| role.to_string() == label) {
            Some(role) => Ok(role),
            None => bail!("{ROLE_LABEL}={label} is not a role that is known here"),
        }
    }
}

/// The names of containers of these roles, in the same order: `NAME-worker`, `NAME-worker2`, and so on.
pub fn names(cluster: &str, roles: &[Role]) -> Vec<String> {
    let mut count = BTreeMap::new();
    let name = |role: &Role| match count.entry(*role).and_modify(|count| *count += 1).or_insert(1) {
        1 => format!("{cluster}-{role}"),
        number => format!("{cluster}-{role}{number}"),
    };
    roles.iter().map(name).collect()
}

/// Where a container of this name stands among those of its role: 0, 1, and so on.
pub(super) fn place(cluster: &str, role: Role, name: &str) -> usize {
    let number = name.strip_prefix(&format!("{cluster}-{role}")).unwrap_or_default();
    number.parse().map_or(0, |number: usize| number.saturating_sub(1))
}

/// The labels of what belongs to nobody but the lab in that folder.
pub(super) fn own_labels(folder: &Path) -> [(String, String); 2] {
    [(LAB_LABEL.to_owned(), folder.display().to_string()), (HOST_LABEL.to_owned(), host())]
}

/// The labels of a container.
pub fn labels(cluster: &str, role: Role, folder: &Path) -> Vec<(String, String)> {
    let kinds = [(CLUSTER_LABEL.to_owned(), cluster.to_owned()), (ROLE_LABEL.to_owned(), role.to_string())];
    kinds.into_iter().chain(own_labels(folder)).collect()
}

/// This machine; a container that has been given the Docker socket is another one, with folders of its own.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
