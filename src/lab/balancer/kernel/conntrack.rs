//! The kernel's table of flows, and how one of them is forgotten: what `conntrack -D` does, which few machines have.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use crate::lab::network::Namespace;

/// The table of one network namespace.
pub(super) struct Conntrack(Socket);

impl Conntrack {
    /// # Errors
    /// The kernel refuses the socket.
    pub(super) async fn open(namespace: &Namespace) -> anyhow::Result<Self> {
        Ok(Self(namespace.run(|| Socket::new(NETLINK_NETFILTER)).await?.context("no netlink socket to conntrack")?))
    }

    /// Forgets the TCP flow that a client has opened to an address. One that is not known is forgotten already.
    ///
    /// # Errors
    /// The kernel does not do it, or has no conntrack that can be asked (`nf_conntrack_netlink`).
    pub(super) fn forget(&self, client: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
        let unable = || format!("conntrack does not forget the flow from {client} to {to}");
        self.0.send(&deletion(client, to), 0).with_context(unable)?;
        let (answer, _) = self.0.recv_from_full().with_context(unable)?;
        let answer = NetlinkMessage::<NetfilterMessage>::deserialize(&answer).with_context(unable)?;
        let NetlinkPayload::Error(answer) = answer.payload else { bail!("{}: {:?}", unable(), answer.payload) };
        match answer.to_io() {
            // Without an error it is the acknowledgement.
            _ if answer.code.is_none() => Ok(()),
            error if error.kind() == io::ErrorKind::NotFound => Ok(()),
            error => Err(error).with_context(unable),
        }
    }
}

/// The message that deletes a flow, by the addresses of its first packet.
fn deletion(client: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let ends = vec![IPTuple::SourceAddress(client.ip()), IPTuple::DestinationAddress(to.ip())];
    let ports = vec![
        ProtoTuple::Protocol(Protocol::Tcp),
        ProtoTuple::SourcePort(client.port()),
        ProtoTuple::DestinationPort(to.port()),
    ];
    let flow = ConntrackAttribute::CtaTupleOrig(vec![Tuple::Ip(ends), Tuple::Proto(ports)]);
    let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
    let mut message = NetlinkMessage::from(NetfilterMessage::new(header, ConntrackMessage::Delete(vec![flow])));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
