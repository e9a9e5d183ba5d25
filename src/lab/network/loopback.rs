//! Addresses of a lab: 127.77.N.x for lab N, so that labs side by side never meet.
//!
//! Linux serves all of 127.0.0.0/8 without configuration. The ports lie below the ephemeral range (32768-60999): a client
//! that dials a port in it while nobody listens there can connect to itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;

/// The balancer's port, and the first apiserver's.
const PORT: u16 = 16443;
/// etcd's client port; its peer port is the next.
const ETCD_PORT: u16 = 12379;
/// Timer-servers, and the balancer before them: the AKS report's 8600, and 10000.
const TIMER_PORT: u16 = 18600;
/// The first gateway's first port.
const GATEWAY_PORT: u16 = 17000;
/// As kubelets have it, and the echo protocol (RFC 862), each 10000 higher.
const KUBELET_PORT: u16 = 20250;
const ECHO_PORT: u16 = 10007;
/// Where nobody is served: whoever listens there holds the lab.
pub(in crate::lab) const CLAIM_PORT: u16 = 16442;

/// Claims a lab's addresses for as long as the listener lives; `None` if they are another's.
///
/// # Errors
/// They cannot be used at all.
pub(in crate::lab) fn claim(lab: u8) -> anyhow::Result<Option<TcpListener>> {
    let address = SocketAddr::new(host(lab, 1), CLAIM_PORT);
    match TcpListener::bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}: a lab needs all of 127.0.0.0/8")),
    }
}

/// Where the balancer of a lab listens.
pub fn balancer(lab: u8) -> SocketAddr {
    SocketAddr::new(host(lab, 1), PORT)
}

/// Where clients stand, in a network of namespaces.
pub fn client(lab: u8) -> IpAddr {
    host(lab, 50)
}

/// Where etcd listens for clients.
pub fn etcd_client(lab: u8) -> SocketAddr {
    SocketAddr::new(host(lab, 2), ETCD_PORT)
}

/// Where etcd listens for other members.
pub fn etcd_peer(lab: u8) -> SocketAddr {
    SocketAddr::new(host(lab, 2), ETCD_PORT + 1)
}

/// Where the stand-in for a kubelet listens: beside etcd, which every apiserver reaches past the balancer.
pub fn kubelet(lab: u8) -> SocketAddr {
    SocketAddr::new(host(lab, 2), KUBELET_PORT)
}

/// Where what ports are forwarded to listens, beside it.
pub fn echo(lab: u8) -> SocketAddr {
    SocketAddr::new(host(lab, 2), ECHO_PORT)
}

/// Where an apiserver listens.
pub fn apiserver(lab: u8, index: u8) -> SocketAddr {
    SocketAddr::new(host(lab, 10 + index), PORT + u16::from(index))
}

/// The source address of clients on the node of an apiserver.
pub fn node(lab: u8, index: u8) -> IpAddr {
    host(lab, 100 + index)
}

/// The balancer's port for timer-servers.
pub fn timer_port(lab: u8) -> SocketAddr {
    SocketAddr::new(host(lab, 1), TIMER_PORT)
}

/// Where a gateway listens for one of its lanes.
pub fn gateway(lab: u8, index: u8, lane: u8) -> SocketAddr {
    SocketAddr::new(host(lab, 1), GATEWAY_PORT + 10 * u16::from(index) + u16::from(lane))
}

/// Where a timer-server listens, beside the first apiserver.
pub fn timer_server(lab: u8) -> SocketAddr {
    SocketAddr::new(apiserver(lab, 0).ip(), TIMER_PORT)
}

/// The address that an apiserver advertises. It must not be a loopback address, and nobody dials it: TEST-NET-1.
pub fn advertised(index: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 10 + index).into()
}

/// Makes sure that nobody listens there yet.
///
/// # Errors
/// Somebody does.
pub fn expect_free(address: SocketAddr) -> anyhow::Result<()> {
    TcpListener::bind(address).map(drop).with_context(|| {
        format!(
            "cannot listen on {address}; `ss -ltnp 'sport = :{}'` shows who does, perhaps on all addresses",
            address.port()
        )
    })
}

/// All addresses of a lab: the first, and the length of the prefix in bits.
pub fn subnet(lab: u8) -> (IpAddr, u8) {
    (host(lab, 0), 24)
}

fn host(lab: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(127, 77, lab, host).into()
}
