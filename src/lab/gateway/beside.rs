//! A lab with gateways beside its balancer.

use anyhow::Context as _;
use futures::future::{join_all, try_join_all};

use super::{Binaries, Gateway, Lane, binary, istio_binary};
use crate::lab::balancer::Backend;
use crate::lab::control_plane::{ControlPlane, Shared};
use crate::lab::http::Endpoint;
use crate::lab::keeper::{Claim, Keeper};
use crate::lab::network::Network;
use crate::lab::provision::Binary;
use crate::lab::{Lab, Setup, kubeconfig};
use crate::timeline::{Endpoints, Event, Subject};

/// Starts those that a lab is to have. Returns them, and what they are.
///
/// # Errors
/// There is no Envoy or no Istio, or one cannot be started.
pub(in crate::lab) async fn start(
    (keeper, claim): (&Keeper, &Claim),
    (control_plane, network): (&ControlPlane, &Network),
    setup: &Setup,
) -> anyhow::Result<(Vec<Gateway>, Vec<Subject>)> {
    if setup.gateways.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let by_istio = setup.wants_istio();
    let found = tokio::task::spawn_blocking(move || {
        let istio = by_istio.then(|| istio_binary(&|_| ())).transpose()?;
        anyhow::Ok(Binaries { envoy: binary(&|_| ())?, istio })
    });
    let binaries = found.await??;
    let known = known(&control_plane.servers, setup);
    let mut gateways = Vec::new();
    for numbered in (0..).zip(setup.gateways.iter().copied()) {
        let backends = known.iter().map(backend).collect();
        let gateway = Gateway::start((keeper, claim), (control_plane, network), (&binaries, setup), backends, numbered);
        gateways.push(gateway.await?);
    }
    let Binaries { envoy, istio } = binaries;
    let named = Some(("envoy", envoy)).into_iter().chain(istio.map(|istio| ("istio", istio)));
    let subject =
        |(name, it): (&str, Binary)| Subject { name: name.to_owned(), version: it.version, digest: it.digest };
    Ok((gateways, named.map(subject).collect()))
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
