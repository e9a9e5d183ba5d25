//! Which addresses a cluster gets. It needs a network of its own, with a subnet that we name: only there does Docker let a node
//! come back at the address that it had.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, bail};
use futures::TryStreamExt as _;
use ipnet::{IpNet, Ipv4Net};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use testcontainers::bollard::models::Network;

/// Where the subnets of lab N may lie, the first choice first. Private addresses that neither Docker's own pools (172.17 to
/// 172.31, 192.168), nor kind's pods (10.244) and services (10.96) use.
fn candidates(lab: u8) -> [Ipv4Net; 3] {
    [77, 78, 79].map(|second| Ipv4Net::new_assert(Ipv4Addr::new(10, second, lab, 0), 24))
}

/// A subnet for a lab's cluster that overlaps with none of `taken`. Labs have different numbers, so two clusters that are made
/// at the same time cannot choose the same.
///
/// # Errors
/// All that the lab may have are taken; with whom the first one overlaps.
pub fn choose(lab: u8, taken: &[IpNet]) -> anyhow::Result<Ipv4Net> {
    let overlaps = |subnet: &Ipv4Net| {
        let subnet = IpNet::V4(*subnet);
        taken.iter().find(|taken| taken.contains(&subnet) || subnet.contains(*taken)).copied()
    };
    let candidates = candidates(lab);
    match candidates.into_iter().find(|subnet| overlaps(subnet).is_none()) {
        Some(free) => Ok(free),
        None => {
            let tried = candidates.map(|subnet| format!("{subnet} ({})", overlaps(&subnet).unwrap_or_default()));
            bail!("no subnet is free for the cluster; tried, and in brackets what is in the way: {}", tried.join(", "))
        }
    }
}

/// The subnets of Docker's networks.
pub(super) fn of_networks(networks: &[Network]) -> Vec<IpNet> {
    let configs = networks.iter().filter_map(|network| network.ipam.as_ref()?.config.as_ref()).flatten();
    configs.filter_map(|config| config.subnet.as_ref()?.parse().ok()).collect()
}

/// Where this machine's routes lead, apart from default routes.
///
/// # Errors
/// The kernel does not tell.
pub(super) async fn of_routes() -> anyhow::Result<Vec<IpNet>> {
    let (connection, handle, _) = rtnetlink::new_connection().context("cannot ask for the machine's routes")?;
    let asking = tokio::spawn(connection);
    let routes: Result<Vec<_>, _> =
        handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute().try_collect().await;
    asking.abort();
    Ok(routes.context("cannot read the machine's routes")?.iter().filter_map(destination).collect())
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        _ => None,
    })?;
    IpNet::new(address, route.header.destination_prefix_length).ok().filter(|net| net.prefix_len() > 0)
}
