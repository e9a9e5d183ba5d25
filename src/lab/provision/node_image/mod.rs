//! The image of a cluster's nodes: kind's own where a registry can be reached, else one that is built here.
//!
//! Ours is Debian with systemd and containerd, one binary that is all of Kubernetes' programs, and etcd ([`contents`]). The real
//! kind can use it as well, with `skipPhases: [addon/coredns]`, since there is no CoreDNS in it.

mod contents;
mod pods;

use super::cache::Scratch;
use super::image::archive::{Layer, Packed};
use super::image::debian::Debian;
use super::image::{Image, Recipe, disk};
use super::program::arch;
use super::version::{ETCD, KUBERNETES, Version, known};
use super::{Failure, Origin, Sources};

/// The image of a cluster's nodes, in the Docker engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeImage {
    /// What the engine is to run.
    pub reference: String,
    /// The Kubernetes in it: `v1.37.2`.
    pub kubernetes: String,
    /// `sha256:...`: the registry's digest of kind's image, the image's id of ours.
    pub digest: String,
    /// How it was had: cache means that the engine had it.
    pub origin: Origin,
    /// Whether it is ours: it brings no CoreDNS, and its images are links into the node, which its containerd mounts into every
    /// container as /node/usr.
    pub thin: bool,
}

/// Debian of the node. containerd's old shims and the CNI plugins that nobody asks for are half of its size.
const DEBIAN: Debian = Debian {
    name: "node",
    packages: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/node-image/packages")),
    variant: "essential",
    dpkg: &[
        "path-exclude=/usr/bin/containerd-shim",
        "path-exclude=/usr/bin/containerd-shim-runc-v1",
        "path-exclude=/usr/lib/cni/*",
        "path-include=/usr/lib/cni/host-local",
        "path-include=/usr/lib/cni/loopback",
        "path-include=/usr/lib/cni/portmap",
        "path-include=/usr/lib/cni/ptp",
    ],
    // What a machine starts and a container does not need: mounts, devices, consoles.
    hook: r#"rm -rf "$1"/etc/systemd/system/*.wants "$1"/usr/lib/systemd/system/multi-user.target.wants \
  "$1"/usr/lib/systemd/system/local-fs.target.wants "$1"/usr/lib/systemd/system/getty.target.wants \
  "$1"/usr/lib/systemd/system/sockets.target.wants/*udev* "$1"/usr/lib/systemd/system/sockets.target.wants/*initctl* \
  "$1"/usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service"#,
};

/// Finds, pulls or builds the node image of this version. Blocks: milliseconds when warm, a minute or two when it has to build
/// with all binaries cached, a quarter of an hour from nothing.
///
/// `progress` hears what is being done, and at least every few seconds that it goes on.
///
/// # Errors
/// No Docker engine answers, a disk is full, an image is not what its digest says, or nothing worked: then the error lists what
/// was tried and what to do.
pub fn node_image(version: &Version, sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<NodeImage> {
    let build = |scratch: &Scratch| build(*version, sources, scratch, progress);
    let image = recipe(*version, &inputs(*version), &build).provide(sources, progress)?;
    Ok(node(image, *version))
}

/// The node image of this version, if the engine has it. Blocks for milliseconds.
///
/// # Errors
/// No Docker engine answers.
pub fn at_hand(version: &Version, sources: &Sources) -> anyhow::Result<Option<NodeImage>> {
    let build = |_: &Scratch| Err(Failure::Unavailable("only looked for".to_owned()));
    let image = recipe(*version, &inputs(*version), &build).at_hand(sources)?;
    Ok(image.map(|image| node(image, *version)))
}

fn node(image: Image, version: Version) -> NodeImage {
    let Image { reference, digest, origin, official } = image;
    NodeImage { reference, kubernetes: version.to_string(), digest, origin, thin: !official }
}

fn recipe<'a>(
    version: Version,
    inputs: &'a [String],
    build: &'a dyn Fn(&Scratch) -> Result<Packed, Failure>,
) -> Recipe<'a> {
    Recipe {
        what: format!("the node image of {version}"),
        official: format!("kindest/node:{version}"),
        ours: format!("rollproof/node:{version}"),
        inputs: inputs.iter().map(String::as_bytes).collect(),
        build,
    }
}

fn inputs(version: Version) -> Vec<String> {
    let modules = KUBERNETES.iter().find(|pinned| pinned.version == version);
    let mut inputs = vec![version.to_string(), arch().to_owned(), ETCD[0].version.to_string(), DEBIAN.inputs()];
    inputs.extend(modules.map(|pinned| pinned.go_sum.to_owned()));
    inputs.extend(contents::inputs());
    inputs
}

/// Makes ours: three layers, of which the first is the same for all versions, and the last changes most.
fn build(version: Version, sources: &Sources, scratch: &Scratch, progress: &dyn Fn(&str)) -> Result<Packed, Failure> {
    if !KUBERNETES.iter().any(|pinned| pinned.version == version) {
        return Err(Failure::Unavailable(format!("no pinned modules for it, only for {}", known(&KUBERNETES))));
    }
    // Each says itself what was tried, and what to do.
    let told = |error: anyhow::Error| Failure::Unavailable(format!("{error:#}"));
    let kubernetes = super::kubernetes(version, sources, progress).map_err(told)?;
    let etcd = super::etcd(sources, progress).map_err(told)?;
    let debian = DEBIAN.tar(sources, progress)?;
    progress(&format!("packing the node image of {version}: a few seconds"));
    let disk = disk(&sources.cache);
    let pods = pods::archive(&kubernetes.path, version, &debian, scratch)?;
    let programs =
        Layer::write(scratch.path("programs.tar"), |tar| contents::programs(tar, &kubernetes.path, &etcd.path));
    let files = Layer::write(scratch.path("files.tar"), |tar| contents::files(tar, version, &pods));
    let layers = vec![Layer::of(&debian).map_err(&disk)?, programs.map_err(&disk)?, files.map_err(&disk)?];
    Ok(Packed { names: Vec::new(), layers, config: contents::config() })
}
