//! Which version, and which versions the suite has pinned modules for.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail};

/// A release of Kubernetes, etcd, kwok or Istio, for example `v1.37.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1 for Kubernetes, 3 for etcd.
    pub major: u16,
    /// The release that features belong to.
    pub minor: u16,
    /// The fixes to it.
    pub patch: u16,
}

/// What the suite carries for one release: the Go modules that build it, and the digests that a download is held to.
pub(super) struct Pinned {
    pub(super) version: Version,
    pub(super) go_mod: &'static str,
    pub(super) go_sum: &'static str,
    pub(super) sha256sums: &'static str,
}

// Compiled in, so that an installed rollproof builds without a checkout.
macro_rules! pinned {
    ($project:literal, $major:literal, $minor:literal, $patch:literal) => {
        Pinned {
            version: Version { major: $major, minor: $minor, patch: $patch },
            go_mod: pinned!(@ $project, $major, $minor, $patch, "go.mod"),
            go_sum: pinned!(@ $project, $major, $minor, $patch, "go.sum"),
            sha256sums: pinned!(@ $project, $major, $minor, $patch, "SHA256SUMS"),
        }
    };
    (@ $project:literal, $major:literal, $minor:literal, $patch:literal, $file:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"), "/fixtures/", $project, "/v", $major, ".", $minor, ".", $patch, "/", $file
        ))
    };
}

/// The newest is the default.
pub(super) static KUBERNETES: [Pinned; 2] = [pinned!("kubernetes", 1, 37, 2), pinned!("kubernetes", 1, 34, 4)];
/// Nobody asks for an etcd: every control plane gets the first.
pub(super) static ETCD: [Pinned; 1] = [pinned!("etcd", 3, 6, 16)];

/// The stand-in for a kubelet.
pub(super) const KWOK_VERSION: Version = Version { major: 0, minor: 8, patch: 0 };
/// Nobody publishes digests of it that a download could be held to.
pub(super) static KWOK: [Pinned; 1] = [Pinned {
    version: KWOK_VERSION,
    go_mod: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kwok/v0.8.0/go.mod")),
    go_sum: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kwok/v0.8.0/go.sum")),
    sha256sums: "",
}];

/// Istio's control plane, as its main branch was in August 2026: a module proxy knows none of its releases, since their tags have no `v`.
pub(super) const ISTIO_VERSION: Version = Version { major: 1, minor: 31, patch: 0 };
/// What it is built with. Nobody publishes it as one file: releases are images.
pub(super) static ISTIO: [Pinned; 1] = [Pinned {
    version: ISTIO_VERSION,
    go_mod: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/istio/v1.31.0/go.mod")),
    go_sum: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/istio/v1.31.0/go.sum")),
    sha256sums: "",
}];
/// What it calls itself beside the version that it became: when and from which commit it was made.
pub(super) const ISTIO_STATE: &str = "20260827-eed52ebb66ad";

/// The Envoy of the balancer `envoy`.
pub(super) const ENVOY: Version = Version { major: 1, minor: 40, patch: 0 };
/// What its downloads are held to.
pub(super) const ENVOY_SHA256SUMS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/envoy/v1.40.0/SHA256SUMS"));

/// `v1.37.2, v1.34.4`: the releases with pinned modules.
pub(super) fn known(pinned: &[Pinned]) -> String {
    pinned.iter().map(|pinned| pinned.version.to_string()).collect::<Vec<_>>().join(", ")
}

impl Default for Version {
    /// The newest stable Kubernetes that the suite can build.
    fn default() -> Self {
        KUBERNETES[0].version
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch } = self;
        write!(f, "v{major}.{minor}.{patch}")
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    /// A Kubernetes version as a user names it: `v1.37.2`, `1.37.2`, or `1.37` for the newest patch release that is known
    /// here. Any release of Kubernetes 1 may be named; only the known ones can be built.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let known = known(&KUBERNETES);
        let numbers: Option<Vec<u16>> = text.strip_prefix('v').unwrap_or(text).split('.').map(number).collect();
        match numbers.as_deref() {
            Some(&[major @ 1, minor, patch]) => Ok(Self { major, minor, patch }),
            Some(&[1, minor]) => KUBERNETES
                .iter()
                .map(|pinned| pinned.version)
                .filter(|version| version.minor == minor)
                .max()
                .with_context(|| format!("no patch release of Kubernetes v1.{minor} is known here: name one, such as v1.{minor}.0 (known: {known})")),
            _ => bail!("{text:?} is not a Kubernetes version: expected one like v1.37.2, 1.37.2 or 1.37 (known: {known})"),
        }
    }
}

/// Digits only, and no leading zero: `+1` and `01` are numbers to `u16`, but not in a version.
fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|number: &u16| number.to_string() == text)
}
