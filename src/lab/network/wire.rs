//! TCP segments as they pass the interfaces of a namespace (AF_PACKET, packet(7)).
//!
//! A segment is seen on the interface where it comes in, before any rule there, and on the one where it goes out, after all.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::Context as _;
use etherparse::{Ipv4HeaderSlice, TcpHeaderSlice};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use tokio::io::unix::AsyncFd;

use super::Site;
use crate::timeline::Moment;

/// Ethernet (14 bytes), and the longest headers of IPv4 and TCP (60 each).
pub(super) const SNAP_LENGTH: usize = 14 + 60 + 60;
const ETHERNET: usize = 14;
/// Packets that the kernel keeps for us while we do other things, in bytes; each takes the room of the whole packet.
const BACKLOG_BYTES: usize = 16 << 20;

/// The interfaces of a namespace, listened to.
pub(in crate::lab) struct Wire {
    socket: AsyncFd<OwnedFd>,
    buffer: [u8; SNAP_LENGTH],
}

/// What was seen on an interface.
pub(in crate::lab) struct Frame<'a> {
    /// When we read it, shortly after it passed.
    pub(in crate::lab) at: Moment,
    /// The interface's number.
    pub(in crate::lab) interface: u32,
    pub(in crate::lab) segment: Segment,
    /// Its first bytes, from the Ethernet header on.
    pub(super) bytes: &'a [u8],
}

/// A TCP segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) struct Segment {
    pub(in crate::lab) from: SocketAddr,
    pub(in crate::lab) to: SocketAddr,
    pub(in crate::lab) syn: bool,
    pub(in crate::lab) fin: bool,
    pub(in crate::lab) rst: bool,
    /// The number of its first byte.
    pub(in crate::lab) sequence: u32,
    /// How many bytes it carries.
    pub(in crate::lab) payload: u32,
}

impl Wire {
    /// Listens from now on.
    ///
    /// # Errors
    /// The site is no namespace, or the kernel does not allow it: it takes CAP_NET_RAW.
    pub(in crate::lab) async fn listen(site: &Site) -> anyhow::Result<Self> {
        let namespace = site.namespace().context("segments are captured in network namespaces only")?;
        let open = || {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            setsockopt(&socket, sockopt::RcvBufForce, &BACKLOG_BYTES)?;
            nix::Result::Ok(socket)
        };
        let socket = namespace.run(open).await?.context("no packet socket")?;
        #[expect(deprecated, reason = "its successor is unsafe, for descriptors that are not owned; this one is")]
        let socket = AsyncFd::new(socket)?;
        Ok(Self { socket, buffer: [0; SNAP_LENGTH] })
    }

    /// The next TCP segment over IPv4.
    ///
    /// # Errors
    /// The kernel's.
    pub(in crate::lab) async fn next(&mut self) -> io::Result<Frame<'_>> {
        loop {
            let received = {
                let mut ready = self.socket.readable().await?;
                let buffer = &mut self.buffer;
                ready.try_io(|socket| Ok(recvfrom::<LinkAddr>(socket.as_raw_fd(), buffer)?))
            };
            let Ok(received) = received else { continue };
            let (length, Some(link)) = received? else { continue };
            if let Some(segment) = parse(&self.buffer[..length]) {
                let (at, interface) = (Moment::now(), link.ifindex() as u32);
                return Ok(Frame { at, interface, segment, bytes: &self.buffer[..length] });
            }
        }
    }
}

/// The segment in a frame, if it is one over IPv4.
fn parse(frame: &[u8]) -> Option<Segment> {
    let ip = Ipv4HeaderSlice::from_slice(frame.get(ETHERNET..)?).ok()?;
    let start = ETHERNET + ip.slice().len();
    let tcp = TcpHeaderSlice::from_slice(frame.get(start..)?).ok().filter(|_| ip.protocol().0 == 6)?;
    let headers = ip.slice().len() + tcp.slice().len();
    Some(Segment {
        from: (ip.source_addr(), tcp.source_port()).into(),
        to: (ip.destination_addr(), tcp.destination_port()).into(),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        sequence: tcp.sequence_number(),
        payload: u32::from(ip.total_len()).saturating_sub(headers as u32),
    })
}
