//! The network of a lab in namespaces: the balancer is the router between the client and the apiservers.
//!
//! ```text
//! client 127.77.N.50 ── balancer 127.77.N.1 ─┬─ apiserver-0 127.77.N.10 ─┬─ etcd 127.77.N.2
//!                                            └─ apiserver-1 127.77.N.11 ─┘
//! ```
//!
//! Every line is a cable (veth) of its own. etcd's do not pass the balancer, so no fault on the way to an apiserver reaches
//! its data. Clients have an address for each apiserver's node too (127.77.N.100, ...), by which a balancer may tell them. Nothing leads
//! out: no namespace has a default route, nor a cable to this machine's own network.
//!
//! The kernel treats 127.0.0.0/8 as an ordinary network where `route_localnet` is set and the loopback interface does not
//! claim all of it (`Documentation/networking/ip-sysctl.rst`).

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Context as _;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{AddressMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::namespace::Links;
use super::{Namespace, Network, loopback};

/// The loopback interface is the first of every namespace.
const LO: u32 = 1;
/// The first cable of a namespace.
const FIRST: u32 = 2;

/// A namespace, and rtnetlink in it.
struct Host {
    namespace: Namespace,
    links: Links,
}

/// One end of a cable.
struct End<'a> {
    host: &'a Host,
    /// The interface's name.
    name: &'a str,
    /// The interface's number in its namespace.
    index: u32,
    address: IpAddr,
}

/// Why no lab can have namespaces here, and what to do about it; `None` if it can.
pub fn unmet() -> Option<String> {
    let made = Namespace::new("namespace-try").err()?;
    Some(format!("{made:#}; run as root, or everything under `unshare -Urnm`"))
}

/// Makes the network of a lab with that many apiservers.
///
/// # Errors
/// The kernel refuses a part of it; [`unmet`] says what to do if it refuses all.
pub async fn start(lab: u8, servers: u8) -> anyhow::Result<Network> {
    let (client, balancer, etcd) = (host("client").await?, host("balancer").await?, host("etcd").await?);
    balancer.namespace.sysctl("ipv4/ip_forward", "1").await?;
    let router = loopback::balancer(lab).ip();

    let near = End { host: &balancer, name: "to-client", index: FIRST, address: router };
    let far = End { host: &client, name: "to-balancer", index: FIRST, address: loopback::client(lab) };
    cable(&near, &far).await?;
    far.route_by(lab, router).await?;
    for index in 0..servers {
        let node = loopback::node(lab, index);
        far.add(node).await?;
        near.lead_to(node).await?;
    }

    let mut sites = Vec::new();
    for index in 0..servers {
        let name = format!("apiserver-{index}");
        let server = host(&name).await?;
        let (number, name) = (FIRST + u32::from(index), format!("to-{name}"));
        let address = loopback::apiserver(lab, index).ip();

        let near = End { host: &balancer, name: &name, index: number + 1, address: router };
        let far = End { host: &server, name: "to-balancer", index: FIRST, address };
        cable(&near, &far).await?;
        far.route_by(lab, router).await?;

        let near = End { host: &etcd, name: &name, index: number, address: loopback::etcd_client(lab).ip() };
        cable(&near, &End { host: &server, name: "to-etcd", index: FIRST + 1, address }).await?;
        sites.push(server.namespace.into());
    }
    Ok(Network {
        client: client.namespace.into(),
        balancer: balancer.namespace.into(),
        etcd: etcd.namespace.into(),
        servers: sites,
    })
}

/// The balancer's interfaces on the way from clients to that many apiservers: numbers and names.
pub(in crate::lab) fn balancer_interfaces(servers: usize) -> impl Iterator<Item = (u32, String)> {
    let to_servers = (FIRST + 1..).zip(0..servers).map(|(number, index)| (number, format!("to-apiserver-{index}")));
    std::iter::once((FIRST, "to-client".to_owned())).chain(to_servers)
}

async fn host(name: &str) -> anyhow::Result<Host> {
    let namespace = Namespace::new(name)?;
    let links = plain(&namespace).await.with_context(|| format!("cannot set up the network of the {name}"))?;
    Ok(Host { namespace, links })
}

/// A namespace in which 127.0.0.0/8 is a network like any other.
async fn plain(namespace: &Namespace) -> anyhow::Result<Links> {
    for (name, value) in [
        ("ipv4/conf/all/route_localnet", "1"),
        // A path may be asymmetric: a client on an apiserver's own node.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // Inherited from the machine, on which containers may need it.
        ("ipv4/ip_forward", "0"),
        // By default the kernel uses loopback addresses again early.
        ("ipv4/tcp_tw_reuse", "0"),
    ] {
        namespace.sysctl(name, value).await?;
    }
    let links = namespace.links().await?;
    let handle = &links.handle;
    handle.link().set(LinkUnspec::new_with_index(LO).up().build()).execute().await?;
    // The kernel has just given it all of 127.0.0.0/8.
    let whole = AddressMessageBuilder::<Ipv4Addr>::new().index(LO).address(Ipv4Addr::LOCALHOST, 8).build();
    handle.address().del(whole).execute().await.context("cannot take 127.0.0.0/8 from the loopback interface")?;
    handle.address().add(LO, Ipv4Addr::LOCALHOST.into(), 32).execute().await?;
    Ok(links)
}

/// Lays a cable, and makes its two ends know each other.
async fn cable(near: &End<'_>, far: &End<'_>) -> anyhow::Result<()> {
    let mut peer = LinkUnspec::new_with_name(far.name).setns_by_fd(far.host.namespace.as_fd().as_raw_fd()).build();
    peer.header.index = far.index;
    let veth = LinkVeth::new(near.name, far.name)
        .index(near.index)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let laid = near.host.links.handle.link().add(veth).execute().await;
    laid.with_context(|| format!("cannot lay the cable {}", near.name))?;
    for (end, other) in [(near, far), (far, near)] {
        end.bring_up(other.address).await.with_context(|| format!("cannot bring up {}", end.name))?;
    }
    Ok(())
}

impl End<'_> {
    async fn bring_up(&self, other: IpAddr) -> anyhow::Result<()> {
        self.add(self.address).await?;
        let up = LinkUnspec::new_with_index(self.index).up().build();
        self.host.links.handle.link().set(up).execute().await?;
        self.lead_to(other).await
    }

    /// This end has that address.
    async fn add(&self, address: IpAddr) -> anyhow::Result<()> {
        Ok(self.host.links.handle.address().add(self.index, address, 32).execute().await?)
    }

    /// The other end has that address.
    async fn lead_to(&self, other: IpAddr) -> anyhow::Result<()> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(other, 32)?
            .output_interface(self.index)
            .pref_source(self.address)?
            .scope(RouteScope::Link)
            .build();
        Ok(self.host.links.handle.route().add(route).execute().await?)
    }

    /// The way to the rest of the lab leads through that neighbour.
    async fn route_by(&self, lab: u8, router: IpAddr) -> anyhow::Result<()> {
        let (first, bits) = loopback::subnet(lab);
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(first, bits)?
            .gateway(router)?
            .pref_source(self.address)?
            .build();
        let added = self.host.links.handle.route().add(route).execute().await;
        added.with_context(|| format!("cannot lead {} through {router}", self.name))
    }
}
