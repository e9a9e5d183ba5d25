//! What differs between the programs: how each says its version, is published, and is built.

use std::env::consts;
use std::fmt;

use super::version::{ETCD, ISTIO, ISTIO_STATE, KUBERNETES, KWOK, Pinned, Version};

/// One of the programs that a lab is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Etcd,
    KubeApiserver,
    /// All of Kubernetes' programs in one, for node images.
    Kubernetes,
    Envoy,
    /// The stand-in for a kubelet.
    Kwok,
    /// Istio's control plane.
    PilotDiscovery,
    /// A client, for what kube-rs does not speak.
    Kubectl,
}

impl Program {
    /// As its file is called everywhere.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::Kubernetes => "kubernetes",
            Self::Envoy => "envoy",
            Self::Kwok => "kwok",
            Self::PilotDiscovery => "pilot-discovery",
            Self::Kubectl => "kubectl",
        }
    }

    /// What it is asked for its version with.
    pub(super) fn asked_for_version(self) -> &'static [&'static str] {
        match self {
            Self::PilotDiscovery => &["version", "--short"],
            Self::Kubectl => &["version", "--client"],
            Self::Etcd | Self::KubeApiserver | Self::Kubernetes | Self::Envoy | Self::Kwok => &["--version"],
        }
    }

    /// The version in what it prints when it is asked, with its `v`; `None` where another program has spoken.
    pub(super) fn version_in(self, printed: &str) -> Option<String> {
        let said = |before: &str| printed.lines().find_map(|line| line.strip_prefix(before)).map(str::trim);
        match self {
            Self::Etcd => said("etcd Version: ").map(|version| format!("v{version}")),
            Self::KubeApiserver | Self::Kubernetes => said("Kubernetes ").map(str::to_owned),
            // `.../envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
            Self::Envoy => {
                let (_, build) = printed.split_once(" version: ")?;
                build.split('/').nth(1).map(|version| format!("v{version}"))
            }
            // `kwok version v0.8.0 go1.26.8 (linux/amd64)`
            Self::Kwok => said("kwok version ")?.split(' ').next().map(str::to_owned),
            Self::PilotDiscovery => said("client version: ").map(|version| format!("v{version}")),
            Self::Kubectl => said("Client Version: ").map(str::to_owned),
        }
    }

    /// The releases that the suite carries modules for.
    pub(super) fn pinned(self) -> &'static [Pinned] {
        match self {
            Self::Etcd => &ETCD,
            Self::KubeApiserver | Self::Kubernetes | Self::Kubectl => &KUBERNETES,
            // Nobody builds it by the way.
            Self::Envoy => &[],
            Self::Kwok => &KWOK,
            Self::PilotDiscovery => &ISTIO,
        }
    }

    /// The Go package to build; none of Envoy.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Envoy => "",
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::Kubernetes => ".",
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok",
            Self::PilotDiscovery => "istio.io/istio/pilot/cmd/pilot-discovery",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
        }
    }

    /// The source of a package that the suite has itself.
    pub(super) fn main(self) -> Option<&'static str> {
        let main = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/node-image/main.go"));
        (self == Self::Kubernetes).then_some(main)
    }

    /// Whether somebody publishes it as one file, and says its digest.
    pub(super) fn is_published(self) -> bool {
        !matches!(self, Self::Kubernetes | Self::Kwok | Self::PilotDiscovery)
    }

    /// What building costs on two cores, for the progress line.
    pub(super) fn usual_build(self) -> &'static str {
        match self {
            Self::Envoy => "",
            Self::Etcd => "about a minute the first time",
            Self::Kwok | Self::Kubectl => "1 to 3 minutes the first time",
            Self::KubeApiserver | Self::Kubernetes => "4 to 12 minutes the first time, under one with a warm Go cache",
            Self::PilotDiscovery => "up to half an hour the first time, under a minute with a warm Go cache",
        }
    }
}

/// A program, in the version that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) program: Program,
    pub(super) version: Version,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program.name(), self.version)
    }
}

impl Wanted {
    /// What the suite carries for it, if anything.
    pub(super) fn pinned(&self) -> Option<&'static Pinned> {
        self.program.pinned().iter().find(|pinned| pinned.version == self.version)
    }

    /// What is downloaded, below the release URL.
    pub(super) fn published(&self) -> String {
        let Self { program, version } = self;
        match program {
            Program::Etcd => format!("{version}/{}.tar.gz", self.etcd_folder()),
            Program::KubeApiserver
            | Program::Kubernetes
            | Program::Kwok
            | Program::Kubectl
            | Program::PilotDiscovery => {
                format!("{version}/bin/linux/{}/{}", arch(), program.name())
            }
            Program::Envoy => {
                let machine = if consts::ARCH == "aarch64" { "aarch_64" } else { consts::ARCH };
                format!("{version}/envoy-{}-linux-{machine}", version.to_string().trim_start_matches('v'))
            }
        }
    }

    /// The publisher's own checksum file, below the release URL.
    pub(super) fn checksums(&self) -> String {
        match self.program {
            Program::Etcd => format!("{}/SHA256SUMS", self.version),
            Program::KubeApiserver
            | Program::Kubernetes
            | Program::Kwok
            | Program::Kubectl
            | Program::PilotDiscovery => {
                format!("{}.sha256", self.published())
            }
            Program::Envoy => format!("{}/checksums.txt.asc", self.version),
        }
    }

    /// Whether a program that says this of itself is the one. Istio's may say more than its release.
    pub(super) fn is(&self, said: &str) -> bool {
        let version = self.version.to_string();
        let more = said.strip_prefix(&version).is_some_and(|more| more.starts_with('-'));
        said == version || (self.program == Program::PilotDiscovery && more)
    }

    /// Where the program is in what is downloaded; `None` where that is the program itself.
    pub(super) fn in_archive(&self) -> Option<String> {
        (self.program == Program::Etcd).then(|| format!("{}/etcd", self.etcd_folder()))
    }

    fn etcd_folder(&self) -> String {
        format!("etcd-{}-linux-{}", self.version, arch())
    }

    /// Linker flags. Kubernetes takes its version from the linker: without, the apiserver calls itself v0.0.0-master.
    /// `client-go` has a variable of its own, which the user agent is made of.
    pub(super) fn ldflags(&self) -> String {
        let Version { major, minor, .. } = self.version;
        let version = self.version;
        match self.program {
            Program::Etcd | Program::Envoy | Program::Kwok => "-s -w".to_owned(),
            Program::PilotDiscovery => {
                let version = version.to_string();
                let version = version.trim_start_matches('v');
                format!("-s -w -X istio.io/istio/pkg/version.buildVersion={version}-{ISTIO_STATE}")
            }
            Program::KubeApiserver | Program::Kubernetes | Program::Kubectl => format!(
                "-s -w -X k8s.io/component-base/version.gitVersion={version} \
                 -X k8s.io/component-base/version.gitMajor={major} -X k8s.io/component-base/version.gitMinor={minor} \
                 -X k8s.io/client-go/pkg/version.gitVersion={version}"
            ),
        }
    }
}

/// This machine, as Go names it.
pub(super) fn arch() -> &'static str {
    match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        same => same,
    }
}
