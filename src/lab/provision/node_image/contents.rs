//! What a node has beside Debian. `fixtures/node-image/rootfs` holds its files as they are.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::super::image::archive::Content;
use super::super::version::Version;
use super::pods::Pods;

/// The folder of the programs that images link to.
pub(super) const PROGRAMS: &str = "usr/local/lib/kubernetes";

macro_rules! file {
    ($mode:literal, $path:literal) => {
        ($path, $mode, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/node-image/rootfs/", $path)))
    };
}

/// Path, mode and text.
const FILES: &[(&str, u32, &str)] = &[
    file!(0o644, "etc/containerd/config.toml"),
    file!(0o644, "etc/sysctl.d/node.conf"),
    file!(0o644, "etc/systemd/system/containerd.service.d/node.conf"),
    file!(0o644, "etc/systemd/system/kubelet.service"),
    file!(0o644, "etc/systemd/system/kubelet.slice"),
    file!(0o644, "etc/systemd/system/load-images.service"),
    file!(0o644, "kind/manifests/default-cni.yaml"),
    file!(0o755, "usr/local/bin/entrypoint"),
    file!(0o755, "usr/local/bin/kubelet-cgroups"),
    file!(0o755, "usr/local/bin/node-network"),
];

/// Which unit is started by which target, and which is not to start.
const UNITS: &[(&str, &str)] = &[
    ("multi-user.target.wants/containerd.service", "/lib/systemd/system/containerd.service"),
    ("multi-user.target.wants/load-images.service", "/etc/systemd/system/load-images.service"),
    ("multi-user.target.wants/kubelet.service", "/etc/systemd/system/kubelet.service"),
    ("default.target", "/lib/systemd/system/multi-user.target"),
    ("getty.target", "/dev/null"),
    ("console-getty.service", "/dev/null"),
    // What it registers is the whole machine's.
    ("systemd-binfmt.service", "/dev/null"),
];

/// All that decides what comes out.
pub(super) fn inputs() -> impl Iterator<Item = String> {
    let main = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/node-image/main.go"));
    let ourselves = [include_str!("contents.rs"), include_str!("pods.rs"), main].into_iter();
    ourselves.map(str::to_owned).chain(FILES.iter().map(|(path, mode, text)| format!("{path} {mode:o} {text}")))
}

/// Kubernetes and etcd.
pub(super) fn programs(tar: &mut Content, kubernetes: &Path, etcd: &Path) -> io::Result<()> {
    tar.folders(&["usr", "usr/local", "usr/local/lib", PROGRAMS, "usr/bin"])?;
    tar.program(&format!("{PROGRAMS}/kubernetes"), kubernetes)?;
    tar.program(&format!("{PROGRAMS}/etcd"), etcd)?;
    // Where kind looks for them.
    let names = ["kubeadm", "kubectl", "kubelet"].into_iter();
    names
        .map(|name| format!("usr/bin/{name}"))
        .try_for_each(|path| tar.link(&path, "../local/lib/kubernetes/kubernetes"))
}

/// The files, the units, and the images of pods.
pub(super) fn files(tar: &mut Content, version: Version, pods: &Pods) -> io::Result<()> {
    let units = "etc/systemd/system";
    tar.folders(&[
        "etc",
        "etc/containerd",
        "etc/kubernetes",
        "etc/kubernetes/manifests",
        "etc/sysctl.d",
        "etc/systemd",
        units,
    ])?;
    tar.folders(&["etc/systemd/system/containerd.service.d", "etc/systemd/system/multi-user.target.wants"])?;
    tar.folders(&["kind", "kind/manifests", "usr", "usr/local", "usr/local/bin"])?;
    for (path, mode, text) in FILES {
        tar.file(path, *mode, text.replace("@PAUSE@", &pods.pause).as_bytes())?;
    }
    UNITS.iter().try_for_each(|(unit, target)| tar.link(&format!("{units}/{unit}"), target))?;
    tar.file("kind/version", 0o644, format!("{version}\n").as_bytes())?;
    tar.program("kind/images.tar", &pods.archive)
}

/// How the container starts, and how it is asked to end: by systemd's own signal.
pub(super) fn config() -> Value {
    json!({
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=docker"],
        "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
        "StopSignal": "SIGRTMIN+3",
    })
}
