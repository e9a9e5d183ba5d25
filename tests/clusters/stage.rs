//! What the tests of clusters need: images, runs to be killed, and a look at what is left.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use rollproof::config::{Config, Product};
use rollproof::lab::control_plane::kind::config::KindConfig;
use rollproof::lab::control_plane::kind::{self, Cluster, Health, Node, Order, Provided};
use rollproof::lab::material::Material;
use rollproof::lab::provision::image::balancer;
use rollproof::lab::provision::{Sources, Version, node_image};
use rollproof::lab::wait;
use rollproof::spec::Need;
use rollproof::timing::{NODES_READY, secs};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// A cluster to be made.
pub(crate) struct Stage {
    text: String,
    config: KindConfig,
    kubernetes: Version,
    pub(crate) image: String,
    pub(crate) balancer_image: String,
}

impl Stage {
    /// `None`: this machine has nothing to make a cluster of, which has been said.
    pub(crate) fn new(name: &str, control_planes: usize, workers: usize) -> Option<Self> {
        let kubernetes = Version::default();
        let (image, balancer_image) =
            match std::thread::scope(|scope| scope.spawn(|| images(&kubernetes)).join().unwrap()) {
                Ok(images) => images,
                Err(error) => {
                    let config = Config::from_env().unwrap();
                    assert!(!config.require.includes(Need::Docker), "{error:#}, and ROLLPROOF_REQUIRE names docker");
                    eprintln!("nothing shown: {error:#}");
                    return None;
                }
            };
        let nodes = |role: &str, count: usize| format!("- role: {role}\n").repeat(count);
        let text = format!(
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nname: {name}\nnodes:\n{}{}",
            nodes("control-plane", control_planes),
            nodes("worker", workers)
        );
        let config = KindConfig::parse(&text).unwrap();
        Some(Self { text, config, kubernetes, image, balancer_image })
    }

    pub(crate) async fn create(&self) -> anyhow::Result<Cluster> {
        let order = Order {
            config: &self.config,
            name: Some(&self.config.name),
            image: &self.image,
            kubernetes: &self.kubernetes,
            patches: &[],
            files: &[],
            balancer_image: &self.balancer_image,
            health: Health::Readyz,
        };
        Cluster::create(order, &|line| println!("{line}")).await
    }

    /// For a lab on that cluster.
    pub(crate) fn material(&self, cluster: &Cluster) -> Material {
        Material::Cluster(Box::new(Provided {
            cluster: cluster.clone(),
            version: self.kubernetes,
            image: self.image.clone(),
            digest: String::new(),
        }))
    }
}

/// The images of nodes and of the balancer, by name, as far as the engine has them: to make them here would take too long.
fn images(kubernetes: &Version) -> anyhow::Result<(String, String)> {
    let sources = Sources::from_env()?;
    let node = node_image::at_hand(kubernetes, &sources)?;
    let balancer = balancer::at_hand(Product::Haproxy, &sources)?;
    let (node, balancer) = node.zip(balancer).context("Docker has no image of a node; `rollproof image` makes it")?;
    Ok((node.reference, balancer.reference))
}

/// A cluster that the real kind has made, in a network of its own.
pub(crate) struct RealKind(String);

impl RealKind {
    /// `None`: there is no `kind` on this machine, which has been said.
    pub(crate) fn create(stage: &Stage) -> Option<Self> {
        let name = stage.config.name.clone();
        if Command::new("kind").arg("version").output().is_err() {
            eprintln!("nothing shown: there is no kind in PATH");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config");
        // What an image of ours needs of it: no CoreDNS, and a host that may have cgroup v1.
        std::fs::write(&config, stage.text.clone() + "kubeadmConfigPatches:\n- '{kind: InitConfiguration, skipPhases: [preflight, addon/coredns]}'\n- '{kind: KubeletConfiguration, failCgroupV1: false}'\n").unwrap();
        let made = Command::new("kind")
            .args(["create", "cluster", "--wait", "90s", "--image", &stage.image, "--config"])
            .arg(&config)
            .arg("--kubeconfig")
            .arg(home.path().join("kubeconfig"))
            .env("KIND_EXPERIMENTAL_DOCKER_NETWORK", &name)
            .output()
            .unwrap();
        let kind = Self(name);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(kind)
    }

    pub(crate) async fn delete(mut self) {
        let name = std::mem::take(&mut self.0);
        let deleted = Command::new("kind").args(["delete", "cluster", "--name", &name]).output().unwrap();
        assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
        Docker::connect_with_defaults().unwrap().remove_network(&name).await.unwrap();
    }
}

/// Where the test fails before it deletes it.
impl Drop for RealKind {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            let _ = Command::new("kind").args(["delete", "cluster", "--name", &self.0]).output();
        }
    }
}

/// Containers and networks of a cluster.
pub(crate) async fn left(cluster: &str) -> Vec<String> {
    let docker = Docker::connect_with_defaults().unwrap();
    let filters = HashMap::from([("label", vec![format!("{}={cluster}", kind::CLUSTER_LABEL)])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = docker.list_containers(Some(options)).await.unwrap();
    let filters = HashMap::from([("name", vec![format!("^{cluster}$")])]);
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let networks = docker.list_networks(Some(options)).await.unwrap();
    let names = containers.into_iter().filter_map(|container| container.names?.into_iter().next());
    names.chain(networks.into_iter().filter_map(|network| network.name)).collect()
}

/// Volumes that no container has, anybody's.
pub(crate) async fn unused_volumes() -> Vec<String> {
    let filters = HashMap::from([("dangling", vec!["true"])]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let found = Docker::connect_with_defaults().unwrap().list_volumes(Some(options)).await.unwrap();
    let mut names: Vec<String> = found.volumes.into_iter().flatten().map(|volume| volume.name).collect();
    names.sort_unstable();
    names
}

/// A socket that leads to Docker until it is dropped.
pub(crate) struct Way {
    folder: TempDir,
    _open: AbortOnDropHandle<()>,
}

impl Way {
    pub(crate) async fn to_docker() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let open = async move {
            let mut carried = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                carried.spawn(async move {
                    let mut far = UnixStream::connect("/var/run/docker.sock").await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        };
        Self { folder, _open: AbortOnDropHandle::new(tokio::spawn(open)) }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let look =
        async || if holds().await { ControlFlow::Break(()) } else { ControlFlow::Continue("not yet".to_owned()) };
    wait::until(NODES_READY, what, look).await.unwrap();
}

/// Whether somebody speaks TLS at the node's port of the API.
pub(crate) async fn answers(node: &Node) -> bool {
    let mut config = kube::Config::new(format!("https://{}:6443", node.address).parse().unwrap());
    config.accept_invalid_certs = true;
    let client = kube::Client::try_from(config).unwrap();
    let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
    tokio::time::timeout(secs(2), client.request_text(request)).await.is_ok_and(|answer| answer.is_ok())
}

pub(crate) async fn serves(node: &Node) {
    until(&format!("{node} to serve"), async || answers(node).await).await;
}

/// A run with a cluster, to its end: made within 90 s on two cores, one apiserver restarted, struck.
const A_RUN: Duration = secs(240);

/// A test process with labs in a TMPDIR of its own, to be killed.
pub(crate) struct Run {
    home: TempDir,
    process: Child,
    said: Arc<Mutex<String>>,
}

impl Run {
    /// Runs an ignored test of this program, in that environment.
    pub(crate) fn start(test: &str, environment: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--ignored", "--nocapture"])
            .env("TMPDIR", home.path())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, lines) = (Arc::new(Mutex::new(String::new())), BufReader::new(process.stdout.take().unwrap()));
        let heard = said.clone();
        std::thread::spawn(move || {
            lines.lines().map_while(Result::ok).for_each(|line| heard.lock().unwrap().push_str(&(line + "\n")));
        });
        Self { home, process, said }
    }

    /// Waits until it has said something of that kind, or has a container of that name.
    pub(crate) async fn until(&mut self, when: &str, cluster: &str) {
        let look = async || {
            assert!(self.process.try_wait().unwrap().is_none(), "it has ended: {}", self.said.lock().unwrap());
            let said = self.said.lock().unwrap().contains(when);
            match said || left(cluster).await.iter().any(|name| name.contains(when)) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue("not yet".to_owned()),
            }
        };
        wait::until(A_RUN, when, look).await.unwrap();
    }

    /// All that it has said.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn kill(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        self.process.wait().unwrap();
    }

    /// Its only child.
    pub(crate) fn kill_keeper(&self, signal: Signal) {
        let pid = self.process.id();
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        let children: String = children.collect();
        let keeper = children.split_whitespace().next().expect("a keeper").parse().unwrap();
        kill_process(Pid::from_raw(keeper).unwrap(), signal).unwrap();
    }

    /// `rollproof clean`.
    pub(crate) fn clean(&self) {
        let program = env!("CARGO_BIN_EXE_rollproof");
        let cleaned = Command::new(program).arg("clean").env("TMPDIR", self.home.path()).output().unwrap();
        assert!(cleaned.status.success(), "{cleaned:?}");
    }

    /// Whether its labs' folders are gone.
    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_dir(self.home.path()).unwrap().next().is_none()
    }
}
