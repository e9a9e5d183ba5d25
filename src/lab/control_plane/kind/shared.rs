//! The cluster that the scenarios of a run share: making one takes longer than most scenarios.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::balancer::Health;
use super::cluster::{Cluster, Order};
use super::config::{self, KindConfig, NodePlace};
use super::equipment;
use crate::config::Product;
use crate::lab::material::Say;
use crate::lab::provision::image::balancer;
use crate::lab::provision::{Sources, Version, node_image};
use crate::timing::{self, Profile, Timers};

/// The configuration of a run's cluster, in the current folder.
const FILE: &str = "kind-config.yaml";

/// From here on kubelets log when they stop a container (kuberuntime_container.go), which is when SIGTERM is sent.
const SAYS_WHOM_IT_STOPS: &str = "kind: KubeletConfiguration\nlogging:\n  verbosity: 2\n";

/// Plain data, no task and no runtime: tests have runtimes of their own. What could not be made is not tried again.
static SHARED: Mutex<Option<Result<Provided, String>>> = Mutex::const_new(None);

/// Held by whoever works in that cluster: it has one namespace of ours, which each scenario finds empty.
static IN_USE: Mutex<()> = Mutex::const_new(());

/// Waits until no other scenario works in the run's cluster.
pub async fn turn() -> MutexGuard<'static, ()> {
    IN_USE.lock().await
}

/// What kind-config.yaml plans.
#[derive(Clone, Debug)]
pub struct Plan {
    config: KindConfig,
    version: Version,
}

impl Plan {
    /// Reads kind-config.yaml in the current folder, for this version of Kubernetes.
    ///
    /// # Errors
    /// It cannot be read, or holds what kind or this suite refuses.
    pub fn read(version: Version) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(FILE)
            .with_context(|| format!("the control plane kind needs {FILE} in the current folder"))?;
        let config = KindConfig::parse(&text).context(FILE)?;
        config.supported().context(FILE)?;
        Ok(Self { config, version })
    }

    /// How many apiservers it plans.
    pub fn apiservers(&self) -> usize {
        self.config.nodes.iter().filter(|node| node.role == config::Role::ControlPlane).count()
    }

    /// Timers with what the planned flags of the kube-apiservers say, which are Kubernetes' defaults where they say nothing, and with
    /// more patience of the balancer: their delays are long, and all nodes share this machine.
    ///
    /// # Errors
    /// A patch cannot be applied, or a flag is no duration.
    pub fn timers(&self, timers: Timers) -> anyhow::Result<Timers> {
        let flag = |name: &str| self.duration(name);
        Ok(Timers {
            shutdown_delay: flag("shutdown-delay-duration")?,
            watch_termination_grace: flag("shutdown-watch-termination-grace-period")?,
            health_timeout: timers.health_timeout.max(timing::NODE_HEALTH_TIMEOUT),
            ..timers
        })
    }

    fn duration(&self, flag: &str) -> anyhow::Result<Duration> {
        let Some(given) = self.flag(flag)? else { return Ok(Duration::ZERO) };
        let parsed: Result<jiff::SignedDuration, _> = given.parse();
        let parsed = parsed.ok().and_then(|parsed| Duration::try_from(parsed).ok());
        parsed.with_context(|| format!("{FILE}: {flag}: {given:?} is no duration"))
    }

    /// A planned flag of the kube-apiservers, by name without dashes.
    ///
    /// # Errors
    /// A patch cannot be applied.
    pub(super) fn flag(&self, flag: &str) -> anyhow::Result<Option<String>> {
        let index = self.config.nodes.iter().position(|node| node.role == config::Role::ControlPlane).unwrap_or(0);
        let place = NodePlace {
            cluster: "planned",
            kubernetes: &self.version,
            name: "planned",
            index,
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            control_plane_endpoint: "localhost:6443",
            cgroup_v1: false,
            cert_sans: &[],
            patches: &[],
        };
        let documents = config::kubeadm_config(&self.config, &place)?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&documents)?;
        let cluster = documents.iter().find(|document| document["kind"] == "ClusterConfiguration");
        let given = match cluster.map(|cluster| &cluster["apiServer"]["extraArgs"]) {
            // kubeadm v1beta3, and from v1beta4 on.
            Some(Value::Object(map)) => map.get(flag).cloned(),
            Some(Value::Array(list)) => list.iter().rfind(|arg| arg["name"] == flag).map(|arg| arg["value"].clone()),
            _ => None,
        };
        Ok(given.as_ref().and_then(Value::as_str).map(str::to_owned))
    }
}

/// A cluster, and what its nodes were made of.
#[derive(Clone)]
pub struct Provided {
    /// It runs.
    pub cluster: Cluster,
    /// Of Kubernetes.
    pub version: Version,
    /// The nodes' image, as Docker knows it.
    pub image: String,
    /// The image's digest.
    pub digest: String,
}

/// The cluster of this run, made on first use; with progress. The keeper strikes it when the run ends.
///
/// # Errors
/// It could not be made: there is no image, no Docker, no room.
pub async fn shared(plan: &Plan, sources: Sources, say: Say) -> anyhow::Result<Provided> {
    let mut shared = SHARED.lock().await;
    if shared.is_none() {
        let made = make(plan, sources, say).await.map_err(|error| format!("{error:#}"));
        *shared = Some(made);
    }
    match shared.as_ref() {
        Some(Ok(provided)) => Ok(provided.clone()),
        Some(Err(error)) => bail!("{error}"),
        None => unreachable!("made above"),
    }
}

async fn make(plan: &Plan, sources: Sources, say: Say) -> anyhow::Result<Provided> {
    let version = plan.version;
    let told = say.clone();
    let (node, balancer) = tokio::task::spawn_blocking(move || {
        let progress = |text: &str| told(text);
        let node = node_image::node_image(&version, &sources, &progress)?;
        anyhow::Ok((node, balancer::balancer_image(Product::Haproxy, &sources, &progress)?))
    })
    .await??;
    let order = Order {
        config: &plan.config,
        name: None,
        image: &node.reference,
        kubernetes: &version,
        patches: &[equipment::patches(), vec![SAYS_WHOM_IT_STOPS.to_owned()]].concat(),
        files: &equipment::files(plan, plan.timers(Timers::of(Profile::Pr))?.graceful_stop())?,
        balancer_image: &balancer.reference,
        health: Health::Readyz,
    };
    let cluster = Cluster::create(order, &|text| say(&text)).await?;
    Ok(Provided { cluster, version, image: node.reference, digest: node.digest })
}
