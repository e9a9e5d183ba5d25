//! The making of a cluster, phase by phase, in the order in which kind does it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail};
use futures::future::{join_all, try_join_all};
use ipnet::IpNet;

use super::cluster::{Cluster, Order, administrator, file};
use super::config::{self, KindConfig, NodePlace, containerd_config, kubeadm_config};
use super::container::{self, APISERVER_PORT, Plan};
use super::docker::{containers, engine, label};
use super::equipment::File;
use super::names::{self, CLUSTER_LABEL, LAB_LABEL, Role};
use super::node::Node;
use super::{balancer, cni, join, network};
use crate::config::Product;
use crate::lab::control_plane::pki;
use crate::lab::keeper::Claim;
use crate::lab::narrated;
use crate::lab::provision::image;

/// Where the nodes' containerd looks for its configuration.
const CONTAINERD: &str = "/etc/containerd/config.toml";

/// A cluster that is being made.
pub(super) struct Creation<'a> {
    pub(super) order: Order<'a>,
    pub(super) name: &'a str,
    pub(super) claim: &'a Claim,
    /// Of Docker's machine, which may be another.
    pub(super) cgroup_v1: bool,
    pub(super) say: &'a (dyn Fn(String) + Sync),
}

impl<'a> Creation<'a> {
    pub(super) async fn run(&self) -> anyhow::Result<Cluster> {
        let KindConfig { networking, .. } = self.order.config;
        let Claim { lab, folder } = self.claim;
        self.expect_images().await?;
        self.expect_free().await?;
        let inside = [&networking.pod_subnet, &networking.service_subnet];
        let inside: Vec<IpNet> = inside.into_iter().filter_map(|subnet| subnet.parse().ok()).collect();
        let network = network::create(self.name, *lab, folder, &inside).await?;

        let port = match networking.api_server_port {
            1.. => networking.api_server_port as u16,
            _ => container::free_port()?,
        };
        let published = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let nodes = self.phase("starting the node containers", self.start_nodes(&network, port)).await?;
        let (control_planes, workers): (Vec<_>, Vec<_>) =
            nodes.iter().cloned().partition(|node| node.role == Role::ControlPlane);
        let (first, further) = control_planes.split_first().context("the configuration has no control plane")?;
        let balancer = match further {
            [] => None,
            _ => Some(self.phase("starting the balancer", self.start_balancer(&control_planes, &network, port)).await?),
        };
        let endpoint = SocketAddr::new(balancer.as_ref().unwrap_or(first).address, APISERVER_PORT);
        let patches = [self.order.patches, &join::without_addons(first, networking).await?].concat();
        let configured = nodes.iter().map(|node| self.configure(node, endpoint, &patches));
        self.phase("configuring the nodes", try_join_all(configured)).await?;

        self.phase(&format!("kubeadm init on {first}"), join::init(first)).await?;
        if !networking.disable_default_cni {
            cni::apply(first, &networking.pod_subnet, endpoint).await.context("while installing the CNI")?;
        }
        join::default_storage(first).await.context("while installing the storage class")?;
        if nodes.len() == 1 {
            join::untaint(first).await?;
        } else {
            self.phase("opening the cluster for joining", join::open_for_joining(first)).await?;
            join::share(first, further).await.context("while sharing the control plane's keys")?;
        }
        for node in further {
            self.phase(&format!("kubeadm join on {node}"), join::join(node)).await?;
        }
        self.phase("kubeadm join on the workers", try_join_all(workers.iter().map(join::join))).await?;
        // Without a network for pods, no node is ever ready.
        if !networking.disable_default_cni {
            self.phase("waiting for the nodes to be ready", join::ready(first, &nodes)).await?;
        }

        let kubeconfig = administrator(first, self.name, published).await?;
        pki::write_private(&file(folder), &serde_json::to_string_pretty(&kubeconfig)?)?;
        Ok(Cluster { name: self.name.to_owned(), nodes, balancer, published, kubeconfig, held: None })
    }

    async fn phase<T>(&self, what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        narrated(what, self.say, work).await
    }

    async fn expect_images(&self) -> anyhow::Result<()> {
        let own = self.order.config.nodes.iter().map(|node| self.image(node));
        let several = self.roles().iter().filter(|role| **role == Role::ControlPlane).count() > 1;
        let balancer = several.then_some(self.order.balancer_image);
        try_join_all(own.chain(balancer).map(container::expect_image)).await.map(drop)
    }

    /// Nobody else has a cluster of that name. What a killed run of ours had is gone already.
    async fn expect_free(&self) -> anyhow::Result<()> {
        let name = self.name;
        let found = containers(&engine().await?, &format!("{CLUSTER_LABEL}={name}")).await?;
        let Some(one) = found.first() else { return Ok(()) };
        match label(&one.labels, LAB_LABEL) {
            Some(lab) => bail!("its name is taken by a run that still lives, in {lab}; choose another, or wait"),
            None => bail!("its name is taken; choose another, or remove that one: `kind delete cluster --name {name}`"),
        }
    }

    fn image(&self, node: &'a config::Node) -> &'a str {
        if node.image.is_empty() { self.order.image } else { &node.image }
    }

    fn roles(&self) -> Vec<Role> {
        self.order.config.nodes.iter().map(|node| node.role.into()).collect()
    }

    /// All at once. Control planes come first in what is returned.
    async fn start_nodes(&self, network: &str, port: u16) -> anyhow::Result<Vec<Node>> {
        let (config, roles) = (self.order.config, self.roles());
        let names = names::names(self.name, &roles);
        let control_planes = roles.iter().filter(|role| **role == Role::ControlPlane).count();
        let starting = config.nodes.iter().zip(roles).zip(names).map(|((node, role), name)| {
            // Behind a balancer, which has the cluster's port, each has one of its own.
            let api = match (role, control_planes) {
                (Role::ControlPlane, 1) => Some(port),
                (Role::ControlPlane, _) => Some(container::free_port()?),
                _ => None,
            };
            let extra: Vec<_> =
                node.extra_port_mappings.iter().map(container::mapped).collect::<anyhow::Result<_>>()?;
            Ok(container::start_node(Plan {
                labels: names::labels(self.name, role, &self.claim.folder),
                network,
                name,
                role,
                image: self.image(node),
                mounts: node.extra_mounts.iter().map(container::mounted).collect(),
                ports: extra.into_iter().chain(api.map(|port| container::published(APISERVER_PORT, port))).collect(),
            }))
        });
        let starting: Vec<_> = starting.collect::<anyhow::Result<_>>()?;
        // To the end, all of them: an order to Docker that nobody waits for may be carried out after the strike.
        let mut nodes: Vec<Node> = join_all(starting).await.into_iter().collect::<anyhow::Result<_>>()?;
        nodes.sort_by_key(|node| (node.role, names::place(self.name, node.role, &node.name)));
        Ok(nodes)
    }

    async fn start_balancer(&self, control_planes: &[Node], network: &str, port: u16) -> anyhow::Result<Node> {
        let role = Role::LoadBalancer;
        let backends: Vec<(String, IpAddr)> =
            control_planes.iter().map(|node| (node.name.clone(), node.address)).collect();
        let plan = Plan {
            labels: names::labels(self.name, role, &self.claim.folder),
            network,
            name: self.balancer_name(),
            role,
            image: self.order.balancer_image,
            mounts: Vec::new(),
            ports: vec![container::published(APISERVER_PORT, port)],
        };
        let content = balancer::configuration(&backends, self.order.health);
        let path = image::balancer::configuration(Product::Haproxy).to_owned();
        container::start_balancer(plan, &[File { path, content }], &[]).await
    }

    async fn configure(&self, node: &Node, endpoint: SocketAddr, patches: &[String]) -> anyhow::Result<()> {
        let Order { config, kubernetes, .. } = self.order;
        let names = names::names(self.name, &self.roles());
        let index = names.iter().position(|name| *name == node.name).context("a node that nobody asked for")?;
        let endpoint = endpoint.to_string();
        // By its address the balancer is dialled from this machine, too.
        let sans = [self.balancer_name(), endpoint.rsplit_once(':').map_or("", |(host, _)| host).to_owned()];
        let place = NodePlace {
            cluster: self.name,
            kubernetes,
            name: &node.name,
            index,
            address: node.address,
            control_plane_endpoint: &endpoint,
            cgroup_v1: self.cgroup_v1,
            cert_sans: &sans,
            patches,
        };
        node.write(join::CONFIGURATION, "600", kubeadm_config(config, &place)?.as_bytes()).await?;
        for file in self.order.files.iter().filter(|_| node.role == Role::ControlPlane) {
            node.write(&file.path, "600", file.content.as_bytes()).await?;
        }
        if !config.containerd_config_patches.is_empty() || !config.containerd_config_patches_json6902.is_empty() {
            let patched = containerd_config(config, &node.read(CONTAINERD).await?)?;
            node.write(CONTAINERD, "644", patched.as_bytes()).await?;
            node.run(&["systemctl", "restart", "containerd"], &[]).await?;
        }
        Ok(())
    }

    fn balancer_name(&self) -> String {
        names::names(self.name, &[Role::LoadBalancer]).remove(0)
    }
}
