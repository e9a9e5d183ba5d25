//! The containers of a cluster, through testcontainers.
//!
//! They are started as reusable ones: then dropping the handle does not remove them. A cluster outlives the test that made it, and
//! testcontainers has no reaper; ours is the keeper, which goes by label.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use futures::TryStreamExt as _;
use testcontainers::bollard::models::{
    ContainerStateStatusEnum, HostConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType,
    PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use testcontainers::bollard::query_parameters::LogsOptionsBuilder;
use testcontainers::core::{CgroupnsMode, IntoContainerPort as _};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerRequest, GenericImage, ImageExt as _, ReuseDirective};

use super::config;
use super::docker::{engine, is_missing, within, worded, worded_by_testcontainers};
use super::equipment::File;
use super::names::Role;
use super::node::{Node, inspect};
use crate::lab::wait;
use crate::timing;

/// The port of an apiserver in its node, and of the balancer in its container.
pub(super) const APISERVER_PORT: u16 = 6443;

/// What is to become a container.
pub(super) struct Plan<'a> {
    /// What it is to its cluster, and the lab folder that it belongs to.
    pub(super) labels: Vec<(String, String)>,
    /// The cluster's network, by id.
    pub(super) network: &'a str,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) image: &'a str,
    /// What the user's configuration adds, and the API's port.
    pub(super) mounts: Vec<Mount>,
    pub(super) ports: Vec<(String, PortBinding)>,
}

/// Makes sure that an image is there: testcontainers would try to pull it, for minutes.
///
/// # Errors
/// It is not.
pub(super) async fn expect_image(image: &str) -> anyhow::Result<()> {
    let found = tokio::time::timeout(timing::DOCKER_ANSWER, engine().await?.inspect_image(image)).await;
    match found.with_context(|| format!("Docker has not answered for {:?}", timing::DOCKER_ANSWER))? {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => {
            bail!(
                "Docker has no image {image}; `rollproof image` makes it, or `docker pull` where a registry can be reached"
            )
        }
        Err(error) => Err(worded(error)),
    }
}

/// A port of this machine that nobody listens on.
pub(super) fn free_port() -> anyhow::Result<u16> {
    // Docker would choose one itself, but another one after every start of the container.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Publishes a port of the container on this machine's loopback.
pub(super) fn published(container: u16, host: u16) -> (String, PortBinding) {
    let binding = PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: Some(host.to_string()) };
    (format!("{container}/tcp"), binding)
}

/// A port mapping of the user's, which may be to any free port.
///
/// # Errors
/// No port is free.
pub(super) fn mapped(mapping: &config::PortMapping) -> anyhow::Result<(String, PortBinding)> {
    let protocol = match mapping.protocol {
        config::Protocol::Tcp => "tcp",
        config::Protocol::Udp => "udp",
        config::Protocol::Sctp => "sctp",
    };
    let host_port = match mapping.host_port {
        0 => Some(free_port()?.to_string()),
        -1 => None,
        port => Some(port.to_string()),
    };
    let host_ip = Some(mapping.listen_address.clone()).filter(|address| !address.is_empty());
    Ok((format!("{}/{protocol}", mapping.container_port), PortBinding { host_ip, host_port }))
}

/// A mount of the user's.
pub(super) fn mounted(mount: &config::Mount) -> Mount {
    let propagation = match mount.propagation {
        config::Propagation::None => MountBindOptionsPropagationEnum::PRIVATE,
        config::Propagation::HostToContainer => MountBindOptionsPropagationEnum::RSLAVE,
        config::Propagation::Bidirectional => MountBindOptionsPropagationEnum::RSHARED,
    };
    let source = std::path::absolute(&mount.host_path).unwrap_or_else(|_| mount.host_path.clone().into());
    Mount {
        source: Some(source.display().to_string()),
        target: Some(mount.container_path.clone()),
        typ: Some(MountType::BIND),
        read_only: Some(mount.read_only),
        bind_options: Some(MountBindOptions { propagation: Some(propagation), ..MountBindOptions::default() }),
        ..Mount::default()
    }
}

/// Starts a node, and waits until its containerd runs: by then systemd has set up the cgroups.
///
/// # Errors
/// Docker refuses, or the node does not come so far; with its container's log.
pub(super) async fn start_node(plan: Plan<'_>) -> anyhow::Result<Node> {
    let (name, role) = (plan.name.clone(), plan.role);
    // As kind runs them. `/var` is a volume since an overlay cannot lie on an overlay.
    let var = Mount { target: Some("/var".to_owned()), typ: Some(MountType::VOLUME), ..Mount::default() };
    let modules = Mount {
        source: Some("/lib/modules".to_owned()),
        target: Some("/lib/modules".to_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    };
    let mut mounts = vec![var];
    // Docker refuses to bind what is not there.
    mounts.extend(Path::new("/lib/modules").exists().then_some(modules));
    mounts.extend(plan.mounts.iter().cloned());
    let mut request = request(&plan, move |host| {
        host.mounts = Some(mounts.clone());
        host.tmpfs = Some(["/tmp", "/run"].map(|path| (path.to_owned(), String::new())).into());
        let name = Some(RestartPolicyNameEnum::ON_FAILURE);
        host.restart_policy = Some(RestartPolicy { name, maximum_retry_count: Some(1) });
        host.init = Some(false);
    })
    .with_privileged(true)
    .with_security_opt("seccomp=unconfined")
    .with_security_opt("apparmor=unconfined")
    .with_cgroupns_mode(CgroupnsMode::Private);
    if role == Role::ControlPlane {
        request = request.with_env_var("KUBECONFIG", "/etc/kubernetes/admin.conf");
    }
    start(request, &name).await?;
    up(&name).await?;
    let node = expect_running(&name, role).await?;
    // To the end of the boot, the import of images included; how well it went shows later.
    node.exec(timing::NODE_UP, &["systemctl", "is-system-running", "--wait"], &[]).await?;
    Ok(node)
}

/// Starts the container of a balancer, with files that are there before it runs. Without a `command` it runs its image's.
///
/// # Errors
/// Docker refuses.
pub(super) async fn start_balancer(plan: Plan<'_>, files: &[File], command: &[String]) -> anyhow::Result<Node> {
    let name = plan.name.clone();
    let mut request = request(&plan, |_| ());
    for File { path, content } in files {
        request = request.with_copy_to(path, content.clone().into_bytes());
    }
    if !command.is_empty() {
        request = request.with_cmd(command);
    }
    start(request, &name).await?;
    expect_running(&name, Role::LoadBalancer).await
}

async fn expect_running(name: &str, role: Role) -> anyhow::Result<Node> {
    match Node::inspect(name, role).await? {
        Some(node) => Ok(node),
        None => bail!("{name} has ended; it said:\n{}", log(name).await),
    }
}

fn request(
    plan: &Plan<'_>,
    further: impl Fn(&mut HostConfig) + Send + Sync + 'static,
) -> ContainerRequest<GenericImage> {
    let (image, tag) = plan.image.rsplit_once(':').unwrap_or((plan.image, "latest"));
    let mut image = GenericImage::new(image, tag);
    for port in plan.ports.iter().filter_map(|(port, _)| port.split_once('/')?.0.parse::<u16>().ok()) {
        image = image.with_exposed_port(port.tcp());
    }
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for (port, binding) in &plan.ports {
        bindings.entry(port.clone()).or_default().get_or_insert_default().push(binding.clone());
    }
    let network = plan.network.to_owned();
    image
        .with_container_name(&plan.name)
        .with_hostname(&plan.name)
        .with_labels(plan.labels.clone())
        .with_reuse(ReuseDirective::Always)
        .with_startup_timeout(timing::NODE_UP)
        .with_host_config_modifier(move |host| {
            // Testcontainers goes by name, and there may be two of that.
            host.network_mode = Some(network.clone());
            host.publish_all_ports = Some(false);
            host.port_bindings = Some(bindings.clone());
            further(host);
        })
}

async fn start(request: ContainerRequest<GenericImage>, name: &str) -> anyhow::Result<()> {
    let started = request.start().await.map_err(worded_by_testcontainers);
    started.map(drop).with_context(|| format!("cannot start the container {name}"))
}

/// From outside: on cgroup v2, a command that is started in the container before systemd has arranged its cgroups stands in its way,
/// and without a terminal systemd says nothing.
pub(super) async fn up(name: &str) -> anyhow::Result<()> {
    let docker = engine().await?;
    let waited = wait::until(timing::NODE_UP, &format!("containerd to run in {name}"), async || {
        let Ok(top) = docker.top_processes(name, None).await else {
            return match has_ended(name).await {
                Ok(true) => ControlFlow::Break(Err(anyhow!("it has ended"))),
                Ok(false) => ControlFlow::Continue("it does not run".to_owned()),
                Err(error) => ControlFlow::Break(Err(error)),
            };
        };
        let commands: Vec<&String> = top.processes.iter().flatten().filter_map(|columns| columns.last()).collect();
        let is_containerd = |command: &String| command.split(' ').next().is_some_and(|it| it.ends_with("/containerd"));
        match commands.iter().copied().any(is_containerd) {
            true => ControlFlow::Break(Ok(())),
            false => ControlFlow::Continue(format!("{} other processes", commands.len())),
        }
    })
    .await;
    match waited.flatten() {
        Ok(()) => Ok(()),
        Err(error) => Err(anyhow!("{name} is not up: {error:#}; its container said:\n{}", log(name).await)),
    }
}

/// Whether a container has ended, and Docker will not start it again.
async fn has_ended(name: &str) -> anyhow::Result<bool> {
    let found = inspect(name).await?;
    let state = found.state.unwrap_or_default();
    let final_one = found.restart_count.unwrap_or(0) > 0 || state.exit_code == Some(0);
    Ok(state.status == Some(ContainerStateStatusEnum::EXITED) && final_one)
}

/// The end of a container's log, as far as it can be had.
pub(super) async fn log(name: &str) -> String {
    tail(name, "12").await
}

/// A container's log, or so many lines of it, as far as it can be had.
pub(super) async fn tail(name: &str, lines: &str) -> String {
    let Ok(docker) = engine().await else { return String::new() };
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(lines).build();
    let lines = docker.logs(name, Some(options)).map_ok(|line| line.to_string()).try_collect::<String>();
    within(timing::DOCKER_ANSWER, "a log", lines).await.unwrap_or_default()
}
