//! Three control planes beside those of the real kind: `cargo bench --bench kind`.
//!
//! Both make them of the same node image and the same configuration, with a balancer in front, and wait until every node is Ready; then
//! both delete them. It takes Docker, Go, the images (`rollproof image` makes them), and kind's own balancer, which kind pulls.

mod go;
mod rounds;

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use rollproof::config::Product;
use rollproof::lab::control_plane::kind::config::KindConfig;
use rollproof::lab::control_plane::kind::{Cluster, Health, Order};
use rollproof::lab::provision::image::balancer;
use rollproof::lab::provision::{Sources, Version, node_image};
use testcontainers::bollard::Docker;

/// Of kind's clusters, which leave it behind.
const NETWORK: &str = "rollproof-bench-kind";

/// What an image of ours needs of kind: it has no CoreDNS, and its host may have cgroup v1.
const CONFIG: &str = "kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: rollproof-bench
nodes: [{role: control-plane}, {role: control-plane}, {role: control-plane}]
kubeadmConfigPatches:
- '{kind: InitConfiguration, skipPhases: [preflight, addon/coredns]}'
- '{kind: KubeletConfiguration, failCgroupV1: false}'
";

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(kind) = go::build("fixtures/kind", "sigs.k8s.io/kind", &folder.path().join("kind"))? else {
        return Ok(());
    };
    let (kubernetes, sources) = (Version::default(), Sources::from_env()?);
    let images = node_image::at_hand(&kubernetes, &sources)?.zip(balancer::at_hand(Product::Haproxy, &sources)?);
    let (node, balancer) = images.context("Docker has no image of a node; `rollproof image` makes it")?;
    let config = KindConfig::parse(CONFIG)?;
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, CONFIG)?;

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ours = || {
        runtime.block_on(async {
            let order = Order {
                config: &config,
                name: None,
                image: &node.reference,
                kubernetes: &kubernetes,
                patches: &[],
                files: &[],
                balancer_image: &balancer.reference,
                health: Health::Readyz,
            };
            let began = Instant::now();
            let cluster = Cluster::create(order, &|_| ()).await?;
            let (ready, made) = (began.elapsed(), Instant::now());
            cluster.strike().await?;
            Ok([ready, made.elapsed()].map(|it| it.as_secs_f64()))
        })
    };
    let kubeconfig = folder.path().join("kubeconfig");
    let kind = |arguments: &[&str]| {
        let began = Instant::now();
        let mut kind = Command::new(&kind);
        kind.args(arguments).arg("--kubeconfig").arg(&kubeconfig).env("KIND_EXPERIMENTAL_DOCKER_NETWORK", NETWORK);
        let output = kind.output()?;
        ensure!(output.status.success(), "kind failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(began.elapsed().as_secs_f64())
    };
    let file = file.to_str().context("a folder for temporary files is UTF-8")?;
    let theirs = || {
        let ready = kind(&["create", "cluster", "--wait", "90s", "--image", &node.reference, "--config", file])?;
        Ok([ready, kind(&["delete", "cluster", "--name", &config.name])?])
    };
    let figures = rounds::alternate(rounds::count(3), ["until ready, s", "until deleted, s"], ours, theirs);
    let _ = runtime.block_on(Docker::connect_with_defaults()?.remove_network(NETWORK));
    rounds::print("three control planes", "the real kind", &figures?);
    Ok(())
}
