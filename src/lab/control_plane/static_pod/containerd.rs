//! What containerd tells of the containers of a node, line by line: `ctr --namespace k8s.io events`.
//!
//! ```text
//! 2026-11-23 00:50:02.1 +0000 UTC k8s.io /containers/create {"id":"4f6e","image":"registry.k8s.io/kube-apiserver:v1.37.2",...}
//! 2026-11-23 00:50:02.2 +0000 UTC k8s.io /tasks/start {"container_id":"4f6e","pid":812}
//! 2026-11-23 00:51:07.9 +0000 UTC k8s.io /tasks/exit {"container_id":"4f6e","id":"4f6e","pid":812,"exit_status":137,...}
//! ```

use serde::Deserialize;

/// Follows them.
pub(super) const EVENTS: &[&str] = &["ctr", "--namespace", "k8s.io", "events"];

/// Lists the kube-apiserver's containers on a node and their processes: `ID PID STATUS`, the last line the running one's.
pub(super) const RUNNING: &[&str] = &[
    "sh",
    "-c",
    "ctr --namespace k8s.io containers list --quiet 'labels.\"io.kubernetes.container.name\"==kube-apiserver' | \
     while read -r id; do ctr --namespace k8s.io tasks list | grep \"^$id.*RUNNING\"; done || true",
];

/// Something that has happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was made of this image.
    Created {
        /// The container's.
        id: String,
        /// With registry and tag.
        image: String,
    },
    /// Its process was started, under this number on the node.
    Started {
        /// The container's.
        id: String,
        /// On the node.
        pid: u32,
    },
    /// Its process has ended, with this status: an exit code, or 128 and the number of the signal that killed it.
    Exited {
        /// The container's.
        id: String,
        /// See [`status`].
        status: u32,
    },
}

#[derive(Deserialize)]
struct Created {
    id: String,
    image: String,
}

#[derive(Deserialize)]
struct Started {
    container_id: String,
    pid: u32,
}

#[derive(Deserialize)]
struct Exited {
    container_id: String,
    /// Of the process, which need not be the container's first: `exec` has some too.
    id: String,
    #[serde(default)]
    exit_status: u32,
}

/// Reads a line. `None`: it is about something else.
pub fn seen(line: &str) -> Option<Seen> {
    let (before, rest) = line.split_once(" /")?;
    let (topic, event) = rest.split_once(' ').filter(|_| before.ends_with("k8s.io"))?;
    match topic {
        "containers/create" => {
            let Created { id, image } = serde_json::from_str(event).ok()?;
            Some(Seen::Created { id, image })
        }
        "tasks/start" => {
            let Started { container_id: id, pid } = serde_json::from_str(event).ok()?;
            Some(Seen::Started { id, pid })
        }
        "tasks/exit" => {
            let Exited { container_id, id, exit_status: status } = serde_json::from_str(event).ok()?;
            (container_id == id).then_some(Seen::Exited { id, status })
        }
        _ => None,
    }
}

/// The running container and its process, from [`RUNNING`]'s output.
pub fn running(listed: &str) -> Option<(String, u32)> {
    let mut words = listed.lines().last()?.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

/// A status as a recording tells of the end of a process.
pub fn status(status: u32) -> String {
    match status.checked_sub(128) {
        Some(signal) if signal > 0 => format!("signal {signal}"),
        _ => format!("exit code {status}"),
    }
}
