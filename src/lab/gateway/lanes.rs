//! The lanes of a gateway, and its configuration: of each lane a listener and a cluster, and one more for what is upgraded.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::{Remedy, endpoints};
use crate::lab::balancer::product::envoy;

/// Traffic that has upstream connections of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Watches, and nothing else.
    Alone,
    /// Watches beside requests.
    Busy,
    /// Watches that are opened all the time.
    New,
    /// Sessions, whose connections are upgraded.
    Sessions,
}

impl Lane {
    /// All of them, in the order of their ports.
    pub const ALL: [Self; 4] = [Self::Alone, Self::Busy, Self::New, Self::Sessions];

    /// What a gateway calls it.
    pub(super) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// What Envoy is told that has a remedy: made of what a balancer would be ([`envoy::configuration`]). It listens on a port for each of
/// [`Lane::ALL`], and is `told` of its endpoints by a file in that folder, if by one.
pub fn configuration(
    balancer: Value,
    remedy: Remedy,
    ports: &[SocketAddr; 4],
    workers: u32,
    told: Option<&Path>,
) -> Value {
    let mut configuration = balancer;
    let resources = &mut configuration["static_resources"];
    let (mut clusters, mut listeners) = (Vec::new(), Vec::new());
    for (lane, port) in Lane::ALL.iter().zip(ports) {
        let name = lane.name();
        let (mut cluster, mut listener) = (resources["clusters"][0].clone(), resources["listeners"][0].clone());
        cluster["name"] = json!(name);
        match told {
            Some(folder) => endpoints::subscribe(&mut cluster, folder),
            None => cluster["load_assignment"]["cluster_name"] = json!(name),
        }
        listener["name"] = json!(name);
        listener["address"]["socket_address"]["port_value"] = json!(port.port());
        if workers > 1 {
            // Else the kernel's hash decides which worker has a connection.
            listener["connection_balance_config"] = json!({"exact_balance": {}});
        }
        let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] = json!(name);
        let upgraded = remedy.apply(*lane, &mut cluster, manager);
        if remedy.is_plain() {
            envoy::in_plain_text(&mut listener);
        }
        clusters.push(cluster);
        clusters.extend(upgraded);
        listeners.push(listener);
    }
    *resources = json!({"clusters": clusters, "listeners": listeners});
    // Who does not say who it is, is told of no endpoints.
    configuration["node"] = json!({"id": remedy.name, "cluster": "gateways"});
    configuration
}
