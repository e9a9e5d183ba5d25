//! What kind checks before it makes anything (`Cluster.Validate`).

use std::net::{IpAddr, Ipv4Addr};

use super::{IpFamily, KindConfig, Node, PortMapping, Role};

/// All that is wrong; kind would refuse each of them.
pub(super) fn problems(config: &KindConfig) -> Vec<String> {
    let mut problems = Vec::new();
    let KindConfig { name, nodes, networking, .. } = config;
    if !name.chars().all(|char| matches!(char, 'a'..='z' | '0'..='9' | '.' | '-')) {
        problems.push(format!("name {name:?} may have small letters, digits, dots and dashes only"));
    }
    if !is_port(networking.api_server_port) {
        problems.push(format!("networking.apiServerPort {} is no port", networking.api_server_port));
    }
    for (field, subnets) in [("podSubnet", &networking.pod_subnet), ("serviceSubnet", &networking.service_subnet)] {
        if let Some(problem) = subnet_problem(subnets, networking.ip_family) {
            problems.push(format!("networking.{field} {subnets:?} {problem}"));
        }
    }
    for (index, node) in nodes.iter().enumerate() {
        problems.extend(node_problems(node).map(|problem| format!("nodes[{index}]: {problem}")));
    }
    if !nodes.iter().any(|node| node.role == Role::ControlPlane) {
        problems.push("nodes: there has to be at least one control-plane".to_owned());
    }
    problems
}

/// -1 and 0 leave the choice to others.
fn is_port(port: i32) -> bool {
    (-1..=65535).contains(&port)
}

fn subnet_problem(subnets: &str, family: IpFamily) -> Option<&'static str> {
    let Some(addresses) = subnets.split(',').map(address_of_cidr).collect::<Option<Vec<_>>>() else {
        return Some("is no CIDR such as 10.244.0.0/16");
    };
    match (family, addresses.as_slice()) {
        (IpFamily::Ipv4, [IpAddr::V4(_)]) | (IpFamily::Ipv6, [IpAddr::V6(_)]) | (IpFamily::Dual, [_]) => None,
        (IpFamily::Dual, [one, other]) if one.is_ipv4() != other.is_ipv4() => None,
        (IpFamily::Dual, _) => Some("should be one subnet, or one of each family"),
        (_, [_]) => Some("is of another family than ipFamily"),
        _ => Some("should be one subnet"),
    }
}

/// The address of `10.244.0.0/16`.
fn address_of_cidr(cidr: &str) -> Option<IpAddr> {
    let (address, length) = cidr.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    // As Go has it, a mapped address is IPv4, whichever way it is written.
    (digits && length.parse::<u16>().ok()? <= bits).then(|| address.to_canonical())
}

fn node_problems(node: &Node) -> impl Iterator<Item = String> {
    let ports = node.extra_port_mappings.iter().flat_map(|mapping| {
        let ports = [("hostPort", mapping.host_port), ("containerPort", mapping.container_port)];
        ports.into_iter().filter(|(_, port)| !is_port(*port)).map(|(field, port)| format!("{field} {port} is no port"))
    });
    ports.chain(mapping_problem(&node.extra_port_mappings))
}

/// Two mappings of the same port of the host; an address stands in the way of itself and of all addresses.
fn mapping_problem(mappings: &[PortMapping]) -> Option<String> {
    let mut taken: Vec<(i32, super::Protocol, IpAddr)> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port > 0) {
        let PortMapping { host_port, listen_address, protocol, .. } = mapping;
        let address = match listen_address.as_str() {
            "" => Ipv4Addr::UNSPECIFIED.into(),
            address => match address.parse::<IpAddr>() {
                Ok(address) if address.is_unspecified() => Ipv4Addr::UNSPECIFIED.into(),
                Ok(address) => address.to_canonical(),
                Err(_) => return Some(format!("listenAddress {address:?} is no address")),
            },
        };
        let clash = |(port, by, at): &(i32, super::Protocol, IpAddr)| {
            port == host_port && by == protocol && (*at == address || at.is_unspecified() || address.is_unspecified())
        };
        if taken.iter().any(clash) {
            return Some(format!("hostPort {host_port} of {address} is mapped twice"));
        }
        taken.push((*host_port, *protocol, address));
    }
    None
}
