//! A cluster of nodes in containers: made, adopted, struck.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use kube::config::Kubeconfig;

use super::balancer::Health;
use super::config::KindConfig;
use super::container::{self, APISERVER_PORT, Plan};
use super::create::Creation;
use super::docker::{self, containers, engine, label};
use super::equipment::File;
use super::names::{CLUSTER_LABEL, ROLE_LABEL, Role, own_labels, place};
use super::node::Node;
use super::{join, kubeconfig};
use crate::lab::keeper::{Claim, Keeper};
use crate::lab::provision::Version;
use crate::lab::sweep;

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Nodes, networking and patches.
    pub config: &'a KindConfig,
    /// The cluster's name, as in `kind get clusters`; `None`: one that no other lab on this machine has, `rollproof-N`.
    pub name: Option<&'a str>,
    /// The image of nodes that name none themselves.
    pub image: &'a str,
    /// The version that the image holds.
    pub kubernetes: &'a Version,
    /// `kubeadmConfigPatches` of the suite's own, applied before the configuration's.
    pub patches: &'a [String],
    /// What control planes are to have before kubeadm runs on them.
    pub files: &'a [File],
    /// The image of the balancer in front of several control planes: haproxy.
    pub balancer_image: &'a str,
    /// What that balancer asks apiservers for.
    pub health: Health,
}

/// A container that is to stand beside the nodes.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// What it is: part of its name.
    pub name: &'a str,
    /// Its image.
    pub image: &'a str,
    /// Files that are there before it runs.
    pub files: &'a [File],
    /// What it runs.
    pub command: &'a [String],
}

/// A running cluster. Plain data, so that tests with runtimes of their own can share it; it ends when it is struck, or with the
/// keeper.
#[derive(Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Control planes first, each kind in the order of their numbers.
    pub nodes: Vec<Node>,
    /// What stands in front of several control planes inside the cluster's network.
    pub balancer: Option<Node>,
    /// Where this machine reaches the API, as kind has it: a published port on 127.0.0.1.
    pub published: SocketAddr,
    /// kubeadm's administrator through that port, in the context `kind-NAME`. Holds a key.
    pub kubeconfig: Kubeconfig,
    /// The keeper's hold on it, and where the kubeconfig lies as a file; `None`: it was adopted, and is not ours to end.
    pub(super) held: Option<(Keeper, Claim)>,
}

impl Cluster {
    /// Makes a cluster, and waits until all of its nodes are ready. What killed runs have left behind is removed first.
    ///
    /// # Errors
    /// Something did not come up; the message says which node and in which phase, and ends with its kubelet's last words.
    /// Whatever had been made is struck.
    pub async fn create(order: Order<'_>, say: &(dyn Fn(String) + Sync)) -> anyhow::Result<Self> {
        let cgroup_v1 = docker::has_cgroup_v1().await?;
        let keeper = Keeper::get()?;
        let claim = keeper.claim().await?;
        tokio::task::spawn_blocking(|| sweep::sweep_containers(&mut |_| ())).await?;
        keeper.has_containers(claim.lab).await?;
        let name = order.name.map_or_else(|| format!("rollproof-{}", claim.lab), str::to_owned);
        let creation = Creation { order, name: &name, claim: &claim, cgroup_v1, say };
        let created = creation.run().await.with_context(|| format!("cannot make the cluster {name}"));
        match created {
            Ok(cluster) => Ok(Self { held: Some((keeper, claim)), ..cluster }),
            Err(error) => match keeper.strike(claim.lab).await {
                Ok(()) => Err(error),
                Err(left) => {
                    Err(anyhow!("{error:#}\nwhat there is of it is left for the next run to remove: {left:#}"))
                }
            },
        }
    }

    /// Waits until all nodes are ready: one that was cut off or frozen is given up, and it takes its kubelet seconds to come back.
    ///
    /// # Errors
    /// One is not, with its kubelet's last words.
    pub(in crate::lab::control_plane) async fn ready(&self) -> anyhow::Result<()> {
        let first = self.nodes.first().context("a cluster without nodes")?;
        join::ready(first, &self.nodes).await
    }

    /// A cluster that somebody has made with kind. It is left as it is found, also by [`Cluster::strike`].
    ///
    /// # Errors
    /// There is none of this name, one of its nodes does not run, or its administrator's kubeconfig cannot be read.
    pub async fn adopt(name: &str) -> anyhow::Result<Self> {
        let docker = engine().await?;
        let mut nodes = Vec::new();
        let mut published = Vec::new();
        for found in containers(&docker, &format!("{CLUSTER_LABEL}={name}")).await? {
            let role: Role = label(&found.labels, ROLE_LABEL).unwrap_or_default().parse()?;
            let called = found.names.iter().flatten().next().map(|name| name.trim_start_matches('/').to_owned());
            let called = called.context("a container without a name")?;
            let node = Node::inspect(&called, role).await?;
            nodes.push(node.with_context(|| format!("{called} of the cluster {name} does not run"))?);
            let ports = found.ports.iter().flatten().filter(|port| port.private_port == APISERVER_PORT);
            published.extend(ports.filter_map(|port| Some((role, port.public_port?))));
        }
        nodes.sort_by_key(|node| (node.role, place(name, node.role, &node.name)));
        let (balancers, nodes): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.role == Role::LoadBalancer);
        let Some(first) = nodes.first().filter(|first| first.role == Role::ControlPlane) else {
            bail!(
                "there is no kind cluster {name:?}: no container carries the label {CLUSTER_LABEL}={name}; `kind get clusters` lists them"
            )
        };
        // The balancer's, where there is one.
        let port = published.into_iter().max().context("no port of the cluster's API is published on this machine")?.1;
        let published = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let kubeconfig = administrator(first, name, published).await?;
        Ok(Self {
            name: name.to_owned(),
            balancer: balancers.into_iter().next(),
            nodes,
            published,
            kubeconfig,
            held: None,
        })
    }

    /// The nodes that run an apiserver.
    pub fn control_planes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::ControlPlane)
    }

    /// Where an apiserver listens, past every balancer.
    pub fn apiserver(&self, node: &Node) -> SocketAddr {
        SocketAddr::new(node.address, APISERVER_PORT)
    }

    /// The kubeconfig as a file of mode 0600; `None`: it was adopted.
    pub fn kubeconfig_file(&self) -> Option<PathBuf> {
        self.held.as_ref().map(|(_, claim)| file(&claim.folder))
    }

    /// Whether this suite has made it.
    pub fn is_ours(&self) -> bool {
        self.held.is_some()
    }

    /// Starts a container in the cluster's network, for the lab that was claimed: it ends with that.
    ///
    /// # Errors
    /// There is no such image, or Docker refuses.
    pub async fn start_beside(&self, claim: &Claim, beside: Beside<'_>) -> anyhow::Result<Node> {
        let Beside { name, image, files, command } = beside;
        container::expect_image(image).await?;
        let first = self.nodes.first().context("a cluster without nodes")?;
        let plan = Plan {
            labels: own_labels(&claim.folder).into(),
            network: &first.network().await?,
            name: format!("{}-{name}-{}", self.name, claim.lab),
            role: Role::LoadBalancer,
            image,
            mounts: Vec::new(),
            ports: Vec::new(),
        };
        container::start_balancer(plan, files, command).await
    }

    /// Ends the cluster: nothing of it is left. One that was adopted is left as it is.
    ///
    /// # Errors
    /// Something could not be removed.
    pub async fn strike(self) -> anyhow::Result<()> {
        match self.held {
            Some((keeper, claim)) => keeper.strike(claim.lab).await,
            None => Ok(()),
        }
    }
}

/// Where the kubeconfig of a cluster lies.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("kubeconfig")
}

/// kubeadm's administrator, who reaches the cluster there.
pub(super) async fn administrator(first: &Node, cluster: &str, published: SocketAddr) -> anyhow::Result<Kubeconfig> {
    kubeconfig::renamed(&first.read("/etc/kubernetes/admin.conf").await?, cluster, &published.to_string())
}
