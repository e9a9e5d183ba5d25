//! The kernel's table of flows, and how one of them is forgotten: what `conntrack -D` does, which few machines have.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::network::Namespace;

// linux/netlink.h, nfnetlink.h and nfnetlink_conntrack.h.
const AF_NETLINK: i32 = 16;
const NETLINK_NETFILTER: i32 = 12;
/// NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE.
const DELETE: u16 = 1 << 8 | 2;
/// NLM_F_REQUEST | NLM_F_ACK.
const ACKNOWLEDGED: u16 = 1 | 4;
/// NLMSG_ERROR; with an error of 0 it is the acknowledgement.
const ANSWER: u16 = 2;
const NESTED: u16 = 1 << 15;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;
/// -ENOENT.
const NOT_FOUND: i32 = -2;

/// The table of one network namespace.
pub(super) struct Conntrack(Socket);

impl Conntrack {
    /// # Errors
    /// The kernel refuses the socket.
    pub(super) async fn open(namespace: &Namespace) -> anyhow::Result<Self> {
        let open = || Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_NETFILTER)));
        Ok(Self(namespace.run(open).await?.context("no netlink socket to conntrack")?))
    }

    /// Forgets the TCP flow that a client has opened to an address. One that is not known is forgotten already.
    ///
    /// # Errors
    /// The kernel does not do it, or has no conntrack that can be asked (`nf_conntrack_netlink`).
    pub(super) fn forget(&self, client: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
        let unable = || format!("conntrack does not forget the flow from {client} to {to}");
        (&self.0).write_all(&deletion(client, to)?).with_context(unable)?;
        let mut answer = [0; 256];
        let length = (&self.0).read(&mut answer).with_context(unable)?;
        match error(&answer[..length]).with_context(unable)? {
            0 | NOT_FOUND => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)).with_context(unable),
        }
    }
}

/// The message that deletes a flow, by the addresses of its first packet.
fn deletion(client: SocketAddr, to: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (client.ip(), to.ip()) else { bail!("no IPv4") };
    // CTA_IP_V4_SRC and CTA_IP_V4_DST; CTA_PROTO_NUM, CTA_PROTO_SRC_PORT and CTA_PROTO_DST_PORT.
    let ends = [attribute(1, &source.octets()), attribute(2, &destination.octets())].concat();
    let ports = [
        attribute(1, &[IPPROTO_TCP]),
        attribute(2, &client.port().to_be_bytes()),
        attribute(3, &to.port().to_be_bytes()),
    ];
    // CTA_TUPLE_IP and CTA_TUPLE_PROTO, in CTA_TUPLE_ORIG.
    let tuple = [attribute(1 | NESTED, &ends), attribute(2 | NESTED, &ports.concat())].concat();
    // Headers: struct nlmsghdr without its length, its last two of no importance; struct nfgenmsg.
    let mut message = [DELETE.to_ne_bytes(), ACKNOWLEDGED.to_ne_bytes(), [0; 2], [0; 2], [0; 2], [0; 2]].concat();
    message.extend([AF_INET, 0, 0, 0]);
    message.extend(attribute(1 | NESTED, &tuple));
    let length = u32::try_from(message.len() + 4)?;
    Ok([length.to_ne_bytes().to_vec(), message].concat())
}

/// An attribute, filled up to a multiple of four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // No value here is longer than a few dozen bytes.
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut attribute = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The error that the kernel's answer tells of; 0 if it has done it.
fn error(answer: &[u8]) -> anyhow::Result<i32> {
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    ensure!(kind == Some(ANSWER), "an answer of another kind: {kind:?}");
    let error = answer.get(16..20).and_then(|error| error.try_into().ok()).map(i32::from_ne_bytes);
    error.context("an answer cut short")
}
