//! A lab with gateways beside its balancer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use futures::future::{join_all, try_join_all};

use super::{Gateway, Lane, binary, istio_binary};
use crate::config::Product;
use crate::lab::balancer::{Backend, product};
use crate::lab::control_plane::{ControlPlane, Shared};
use crate::lab::http::Endpoint;
use crate::lab::keeper::{Claim, Keeper};
use crate::lab::network::Network;
use crate::lab::provision::Binary;
use crate::lab::{Lab, Setup, kubeconfig};
use crate::timeline::{Endpoints, Event, Subject, TCP_KEEPALIVE_TIME, TCP_RETRIES2};
use crate::timing::gateway as times;

/// Starts those that a lab is to have. Returns them, and what they are.
///
/// # Errors
/// One of their programs is not to be had, or cannot be started.
pub(in crate::lab) async fn start(
    (keeper, claim): (&Keeper, &Claim),
    (control_plane, network): (&ControlPlane, &Network),
    setup: &Setup,
) -> anyhow::Result<(Vec<Gateway>, Vec<Subject>)> {
    let (mut programs, mut gateways): (Vec<(Product, PathBuf, Subject)>, _) = (Vec::new(), Vec::new());
    let istio = match setup.wants_istio() {
        true => Some(tokio::task::spawn_blocking(|| istio_binary(&|_| ())).await??),
        false => None,
    };
    let known = known(&control_plane.servers, setup);
    for numbered in (0..).zip(setup.gateways.iter().copied()) {
        let product = numbered.1.product();
        let path = match programs.iter().find(|(it, ..)| *it == product) {
            Some((_, path, _)) => path.clone(),
            None => {
                let (path, subject) = program(product).await?;
                programs.push((product, path.clone(), subject));
                path
            }
        };
        let backends = known.iter().map(backend).collect();
        let programs = (&*path, istio.as_ref());
        let gateway = Gateway::start((keeper, claim), (control_plane, network), (programs, setup), backends, numbered);
        gateways.push(gateway.await?);
    }
    let subjects = programs.into_iter().map(|(.., subject)| subject);
    Ok((gateways, subjects.chain(istio.map(|it| subject("istio".to_owned(), it).1)).collect()))
}

async fn program(product: Product) -> anyhow::Result<(PathBuf, Subject)> {
    if product != Product::Envoy {
        let (path, subject, _) = product::program(product).await?;
        return Ok((path, subject));
    }
    Ok(subject(product.to_string(), tokio::task::spawn_blocking(|| binary(&|_| ())).await??))
}

fn subject(name: String, Binary { path, version, digest, .. }: Binary) -> (PathBuf, Subject) {
    (path, Subject { name, version, digest })
}

/// Sets what the kernel does for gateways, where a lab is to have it differently. Returns that, as it is recorded.
///
/// # Errors
/// The kernel refuses.
pub(in crate::lab) async fn set_kernel(network: &Network, setup: &Setup) -> anyhow::Result<BTreeMap<String, String>> {
    let Some(kernel) = network.balancer.namespace() else { return Ok(BTreeMap::new()) };
    let mut recorded = BTreeMap::new();
    if let Some(retries) = setup.tcp_retries2 {
        kernel.sysctl("ipv4/tcp_retries2", &retries.to_string()).await?;
        recorded.insert(TCP_RETRIES2.to_owned(), retries.to_string());
    }
    if setup.tcp_keepalive {
        let (time, interval) = (times::KEEPALIVE_TIME.as_secs().to_string(), times::KEEPALIVE_INTERVAL.as_secs());
        kernel.sysctl("ipv4/tcp_keepalive_time", &time).await?;
        kernel.sysctl("ipv4/tcp_keepalive_intvl", &interval.to_string()).await?;
        kernel.sysctl("ipv4/tcp_keepalive_probes", &times::KEEPALIVE_PROBES.to_string()).await?;
        recorded.insert(TCP_KEEPALIVE_TIME.to_owned(), time);
    }
    Ok(recorded)
}

impl Lab {
    /// The gateways beside the balancer.
    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }

    /// The apiservers that gateways know of from the start.
    pub fn known_to_gateways(&self) -> &[Shared] {
        known(self.servers(), self.setup())
    }

    /// A gateway, as an administrator's client in that lane meets it.
    pub fn through_gateway(&self, gateway: &Gateway, lane: Lane) -> Endpoint {
        let direct = &self.control_plane.servers[0].endpoint;
        let (site, address) = (self.network.client.clone(), gateway.address(lane));
        let (token, plain) = (Some(self.control_plane.token.clone()), gateway.remedy.is_plain());
        // As a balancer that ends TLS.
        Endpoint { address, site, token, plain, named: None, ..direct.clone() }
    }

    /// A kubeconfig for the lab through a gateway, in that lane.
    pub fn gateway_kubeconfig(&self, gateway: &Gateway, lane: Lane) -> kube::config::Kubeconfig {
        let ControlPlane { ca, admin, token, .. } = &self.control_plane;
        kubeconfig::kubeconfig(gateway.address(lane), ca, admin, Some(&**token), None)
    }

    /// Tells every gateway that these apiservers, by number, are all there are. Returns when all have understood.
    ///
    /// # Errors
    /// One does not.
    pub async fn tell_gateways(&self, known: &[u8]) -> anyhow::Result<()> {
        let servers =
            known.iter().map(|index| self.servers().get(usize::from(*index)).context("there is no such apiserver"));
        let servers = servers.collect::<anyhow::Result<Vec<_>>>()?;
        let backends: Vec<_> = servers.iter().map(|server| backend(server)).collect();
        let told = Endpoints { servers: backends.iter().map(|it| it.name.clone()).collect() };
        self.recorder.record(Event::Endpoints(told));
        try_join_all(self.gateways.iter().map(|gateway| gateway.tell(&backends))).await.map(drop)
    }

    /// Records what each gateway has counted so far.
    ///
    /// # Errors
    /// One is gone.
    pub async fn count_gateways(&self) -> anyhow::Result<()> {
        try_join_all(self.gateways.iter().map(|gateway| gateway.count(&self.recorder))).await.map(drop)
    }

    /// Ends them, so that what they still have to tell is in the recording and in their logs.
    pub(in crate::lab) async fn end_gateways(&self) {
        let ours = self.recorder.collect(|seen| match &seen.event {
            Event::GatewayStream(stream) => Some(stream.audit_id.clone()),
            _ => None,
        });
        join_all(self.gateways.iter().map(|gateway| gateway.end(&self.recorder, &ours))).await;
    }
}

fn known<'a>(servers: &'a [Shared], setup: &Setup) -> &'a [Shared] {
    &servers[..servers.len().saturating_sub(setup.spares)]
}

fn backend(server: &Shared) -> Backend {
    Backend { name: server.name().to_owned(), address: server.address() }
}
