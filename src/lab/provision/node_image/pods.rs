//! The images of a node's pods, under the names that kubeadm asks for. They are thin: links to the node's own programs, which
//! its containerd mounts into every container. 100 kB instead of 500 MB to import at each start.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::super::Failure;
use super::super::cache::Scratch;
use super::super::image::archive::{self, Content, Layer, Packed};
use super::super::image::disk;
use super::super::version::Version;
use super::contents::PROGRAMS;

/// Where a container finds the node's /usr.
const NODE: &str = "/node/usr";

/// For pods of tests: `sh`, and what goes with it. Without `wget`: Debian's static one crashes where it resolves names.
const BUSYBOX: &str = "localhost/rollproof/busybox:1";
const APPLETS: &[&str] = &[
    "cat", "chroot", "date", "echo", "env", "false", "head", "httpd", "kill", "ls", "nc", "ps", "seq", "sh", "sleep",
    "tail", "tee", "true", "yes",
];

/// An archive for `ctr images import`.
pub(super) struct Pods {
    pub(super) archive: PathBuf,
    /// The name of the image that containerd begins every pod with.
    pub(super) pause: String,
}

/// Makes the archive.
pub(super) fn archive(kubernetes: &Path, version: Version, debian: &Path, scratch: &Scratch) -> Result<Pods, Failure> {
    let folder = scratch.path("pods");
    let disk = disk(&folder);
    std::fs::create_dir(&folder).map_err(&disk)?;
    let busybox = busybox(debian)?;
    let (mut images, mut pause) = (Vec::new(), None);
    let layer = |name: &str, content: &dyn Fn(&mut Content) -> io::Result<()>| {
        Layer::write(folder.join(format!("{name}.tar")), |tar| content(tar)).map_err(&disk)
    };
    for reference in references(kubernetes, version)? {
        let name = program(&reference).to_owned();
        let (layer, config) = match name.as_str() {
            // Nobody here builds it.
            "coredns" => continue,
            // Containers that pods begin with are given no mounts: it has to be whole.
            "pause" => {
                pause = Some(reference.clone());
                (
                    layer(&name, &|tar| shell(tar, &busybox, &["sleep"]))?,
                    json!({"Entrypoint": ["/bin/sleep", "2147483647"]}),
                )
            }
            "kube-proxy" => (layer(&name, &|tar| component(tar, &name).and_then(|()| packet_filter(tar)))?, json!({})),
            _ => (layer(&name, &|tar| component(tar, &name))?, json!({})),
        };
        images.push(image(reference, layer, config));
    }
    images.push(image(
        BUSYBOX.to_owned(),
        layer("busybox", &|tar| shell(tar, &busybox, APPLETS))?,
        json!({"Cmd": ["sh"]}),
    ));
    let archive = folder.join("images.tar");
    let mut file = BufWriter::new(File::create(&archive).map_err(&disk)?);
    archive::write(&images, &mut file).and_then(|()| file.flush()).map_err(&disk)?;
    Ok(Pods { archive, pause: pause.context("kubeadm names no image for pause")? })
}

fn image(name: String, layer: Layer, mut config: Value) -> Packed {
    config["Env"] = json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    Packed { names: vec![name], layers: vec![layer], config }
}

/// `etcd` of `registry.k8s.io/etcd:3.7.0-0`.
fn program(reference: &str) -> &str {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    name.split(':').next().unwrap_or(name)
}

/// The images that this version's kubeadm makes clusters of. The tag of etcd is the one that it wants, what is in it is ours.
fn references(kubernetes: &Path, version: Version) -> anyhow::Result<Vec<String>> {
    let mut kubeadm = Command::new(kubernetes);
    kubeadm.arg0("kubeadm").args(["config", "images", "list", "--kubernetes-version", &version.to_string()]);
    let said = kubeadm.output().with_context(|| format!("cannot run {}", kubernetes.display()))?;
    if !said.status.success() {
        bail!("kubeadm does not name its images: {}", String::from_utf8_lossy(&said.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&said.stdout).split_whitespace().map(str::to_owned).collect())
}

/// A program of the control plane, as a link.
fn component(tar: &mut Content, name: &str) -> io::Result<()> {
    let binary = if name == "etcd" { "etcd" } else { "kubernetes" };
    let programs = PROGRAMS.trim_start_matches("usr");
    tar.folders(&["usr", "usr/local", "usr/local/bin"])?;
    tar.link(&format!("usr/local/bin/{name}"), &format!("{NODE}{programs}/{binary}"))
}

/// What kube-proxy calls, and the libraries that it loads.
fn packet_filter(tar: &mut Content) -> io::Result<()> {
    tar.folders(&["lib", "run", "usr/lib", "usr/sbin"])?;
    let libraries = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    tar.link(&libraries, &format!("{NODE}/{libraries}"))?;
    tar.link(&format!("usr/{libraries}"), &format!("{NODE}/{libraries}"))?;
    // The loader's place: of amd64, and of arm64.
    tar.link("lib64", &format!("{NODE}/lib64"))?;
    tar.link("lib/ld-linux-aarch64.so.1", &format!("{NODE}/lib/ld-linux-aarch64.so.1"))?;
    for program in ["iptables", "ip6tables"]
        .into_iter()
        .flat_map(|name| ["", "-save", "-restore"].map(|end| format!("{name}{end}")))
    {
        tar.link(&format!("usr/sbin/{program}"), &format!("{NODE}/sbin/xtables-nft-multi"))?;
    }
    tar.link("usr/sbin/nft", &format!("{NODE}/sbin/nft"))
}

/// busybox, as these programs.
fn shell(tar: &mut Content, busybox: &[u8], programs: &[&str]) -> io::Result<()> {
    tar.folders(&["bin", "tmp"])?;
    tar.file("bin/busybox", 0o755, busybox)?;
    programs.iter().try_for_each(|name| tar.link(&format!("bin/{name}"), "busybox"))
}

/// Debian's static busybox, out of the root filesystem.
fn busybox(debian: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        for file in tar::Archive::new(File::open(debian)?).entries()? {
            let mut file = file?;
            if file.path()?.ends_with("bin/busybox") && file.header().entry_type().is_file() {
                let mut program = Vec::new();
                file.read_to_end(&mut program)?;
                return Ok(Some(program));
            }
        }
        Ok(None)
    };
    read()
        .with_context(|| format!("cannot read {}", debian.display()))?
        .with_context(|| format!("no busybox in {}", debian.display()))
}
