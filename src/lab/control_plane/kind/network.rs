//! The network of a cluster.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use ipnet::IpNet;
use testcontainers::bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};

use super::docker::{asked, engine, networks};
use super::names::own_labels;
use super::subnet;

/// Makes the network of the cluster in lab `lab`, under the cluster's name, and returns its id: Docker takes the same name twice.
/// `inside` are the subnets of its pods and services.
///
/// Nothing leaves it: without masquerading no answer finds its way back from outside. A service address that no rule knows
/// (yet) would else be answered by whoever has it there.
///
/// # Errors
/// No subnet is free, or Docker refuses.
pub(super) async fn create(cluster: &str, lab: u8, folder: &Path, inside: &[IpNet]) -> anyhow::Result<String> {
    let docker = engine().await?;
    let mut taken = subnet::of_networks(&networks(&docker, None).await?);
    taken.extend(subnet::of_routes().await?);
    taken.extend(inside);
    let subnet = subnet::choose(lab, &taken)?;
    let config = IpamConfig { subnet: Some(subnet.to_string()), ..IpamConfig::default() };
    let request = NetworkCreateRequest {
        name: cluster.to_owned(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
        options: Some(HashMap::from([(
            "com.docker.network.bridge.enable_ip_masquerade".to_owned(),
            "false".to_owned(),
        )])),
        labels: Some(own_labels(folder).into()),
        ..NetworkCreateRequest::default()
    };
    let made = asked("a network", docker.create_network(request)).await;
    made.map(|made| made.id).with_context(|| format!("cannot make the network {cluster} with the subnet {subnet}"))
}
