//! A machine to provision on: folders of its own, programs that only say a version, and a `go` that writes such programs.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rollproof::lab::provision::{self, Binaries, Binary, Sources, Version, provision};
use tempfile::TempDir;

pub(crate) const APISERVER: &str = "#!/bin/sh\necho Kubernetes v1.37.2\n";
pub(crate) const OLD_APISERVER: &str = "#!/bin/sh\necho Kubernetes v1.30.0\n";
pub(crate) const ENVOY: &str = "#!/bin/sh\necho\necho $0  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n";
pub(crate) const ETCD: &str = "#!/bin/sh\necho etcd Version: 3.6.16\necho Git SHA: none\n";

/// Builds what [`APISERVER`] and [`ETCD`] are, and notes what it was asked for in `built` beside it.
const GO: &str = r#"#!/bin/sh
IMAGES='registry.k8s.io/kube-apiserver:v1.37.2 registry.k8s.io/kube-proxy:v1.37.2 registry.k8s.io/coredns/coredns:v1.14.6
 registry.k8s.io/pause:3.10.2 registry.k8s.io/etcd:3.7.0-0'
while [ "$1" != -o ]; do shift; done
echo "$3" >> "$(dirname "$0")/built"
case $3 in
.) printf '#!/bin/sh\n[ "$1" = config ] || { echo Kubernetes v1.37.2; exit; }\necho %s\n' "$(echo $IMAGES)" > "$2"; exit ;;
istio.io/*) printf '#!/bin/sh\necho client version: 1.31.0-20260827-eed52ebb66ad\n' ;;
sigs.k8s.io/kwok/*) printf '#!/bin/sh\necho "kwok version v0.8.0 go1.26.8 (linux/amd64)"\n' ;;
k8s.io/*/kubectl) printf '#!/bin/sh\n[ "$*" = "version --client" ] && echo "Client Version: v1.37.2"\n' ;;
k8s.io/*) printf '#!/bin/sh\necho Kubernetes v1.37.2\n' ;;
*) printf '#!/bin/sh\necho etcd Version: 3.6.16\n' ;;
esac > "$2"
"#;

/// Makes a Debian that has only a busybox.
const MMDEBSTRAP: &str = r#"#!/bin/sh
for tar; do :; done
mkdir -p "$tar.d/usr/bin" && echo busybox > "$tar.d/usr/bin/busybox" && tar -C "$tar.d" -cf "$tar" .
"#;

pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) sources: Sources,
    pub(crate) said: Mutex<Vec<String>>,
}

impl Stage {
    /// There is an etcd in `PATH`, and nothing else anywhere: no site answers.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nobody = "http://127.0.0.1:1".to_owned();
        let sources = Sources {
            assets: None,
            cache: folder.path().join("cache"),
            path: folder.path().join("path").into(),
            kubernetes_url: nobody.clone(),
            envoy_url: nobody.clone(),
            etcd_url: nobody,
            sha256sums: String::new(),
            docker_host: None,
            image_digests: String::new(),
        };
        let stage = Self { folder, sources, said: Mutex::default() };
        stage.put("path/etcd", ETCD);
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it was put there");
    }

    /// Puts a script there. A child writes it: while a descriptor that writes it exists in this process, any other
    /// test's new child may hold a copy of it for a moment, and the script is "busy".
    pub(crate) fn put(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below the folder")).expect("a folder");
        let mut sh = Command::new("sh");
        let mut sh =
            sh.args(["-c", r#"cat > "$0" && chmod +x "$0""#]).arg(&path).stdin(Stdio::piped()).spawn().expect("sh");
        sh.stdin.take().expect("it is piped").write_all(script.as_bytes()).expect("sh reads");
        assert!(sh.wait().expect("sh ends").success());
        path
    }

    pub(crate) fn put_go(&self) {
        self.put("path/go", GO);
    }

    pub(crate) fn put_mmdebstrap(&self) {
        self.put("path/mmdebstrap", MMDEBSTRAP);
    }

    /// What `go` has built, one package a line.
    pub(crate) fn built(&self) -> String {
        fs::read_to_string(self.path("path/built")).unwrap_or_default()
    }

    /// Envoy, which no control plane needs.
    pub(crate) fn provide_envoy(&self) -> anyhow::Result<Binary> {
        provision::envoy(&self.sources, &|line| self.said.lock().expect("no panic").push(line.to_owned()))
    }

    /// The stand-in for a kubelet.
    pub(crate) fn provide_kwok(&self) -> anyhow::Result<Binary> {
        provision::kwok(&self.sources, &|line| self.said.lock().expect("no panic").push(line.to_owned()))
    }

    /// Istio's control plane.
    pub(crate) fn provide_istio(&self) -> anyhow::Result<Binary> {
        provision::istio(&self.sources, &|line| self.said.lock().expect("no panic").push(line.to_owned()))
    }

    /// A client for what kube-rs does not speak.
    pub(crate) fn provide_kubectl(&self) -> anyhow::Result<Binary> {
        let version = Version::default();
        provision::kubectl(version, &self.sources, &|line| self.said.lock().expect("no panic").push(line.to_owned()))
    }

    pub(crate) fn provide(&self) -> anyhow::Result<Binaries> {
        self.provide_version("v1.37.2")
    }

    pub(crate) fn provide_version(&self, version: &str) -> anyhow::Result<Binaries> {
        let version: Version = version.parse()?;
        provision(&version, &self.sources, &|line| self.said.lock().expect("no panic").push(line.to_owned()))
    }

    /// The whole text of the error that provisioning ends with.
    pub(crate) fn error(&self) -> String {
        format!("{:#}", self.provide().expect_err("this cannot be provided"))
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("no panic").join("\n")
    }

    /// The files in the cache of the apiserver, its lock aside.
    pub(crate) fn kept(&self) -> Vec<String> {
        let folder = self.sources.cache.join("kube-apiserver");
        let mut kept: Vec<_> = files(&folder).into_iter().filter(|name| name != "lock").collect();
        kept.sort();
        kept
    }
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path.file_name().expect("a name").to_string_lossy().into_owned()]
            }
        })
        .collect()
}
