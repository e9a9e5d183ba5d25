//! TCP segments as they pass the interfaces of a namespace (AF_PACKET, packet(7)).
//!
//! A segment is seen on the interface where it comes in, before any rule there, and on the one where it goes out, after all. The kernel
//! stamps it then (SO_TIMESTAMPNS, socket(7)), so that when it passed does not depend on when we come to read it.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use etherparse::{Ipv4HeaderSlice, TcpHeaderSlice};
use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeSpec;
use rustix::time::{ClockId, clock_gettime};
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
    /// For the kernel's stamp.
    control: Vec<u8>,
}

/// What was seen on an interface.
pub(in crate::lab) struct Frame<'a> {
    /// When it passed.
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
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
            nix::Result::Ok(socket)
        };
        let socket = namespace.run(open).await?.context("no packet socket")?;
        #[expect(deprecated, reason = "its successor is unsafe, for descriptors that are not owned; this one is")]
        let socket = AsyncFd::new(socket)?;
        Ok(Self { socket, buffer: [0; SNAP_LENGTH], control: cmsg_space!(TimeSpec) })
    }

    /// The next TCP segment over IPv4.
    ///
    /// # Errors
    /// The kernel's.
    pub(in crate::lab) async fn next(&mut self) -> io::Result<Frame<'_>> {
        loop {
            let received = {
                let mut ready = self.socket.readable().await?;
                let (buffer, control) = (&mut self.buffer, &mut self.control);
                ready.try_io(|socket| Ok(receive(socket.get_ref(), buffer, control)?))
            };
            let Ok(received) = received else { continue };
            let (length, Some(interface), at) = received? else { continue };
            if let Some(segment) = parse(&self.buffer[..length]) {
                return Ok(Frame { at, interface, segment, bytes: &self.buffer[..length] });
            }
        }
    }
}

/// A frame's length, the number of its interface, and when it passed.
fn receive(socket: &OwnedFd, buffer: &mut [u8], control: &mut [u8]) -> nix::Result<(usize, Option<u32>, Moment)> {
    let mut into = [IoSliceMut::new(buffer)];
    let message = recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut into, Some(control), MsgFlags::empty())?;
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    let interface = message.address.map(|link| link.ifindex() as u32);
    Ok((message.bytes, interface, stamp.map_or_else(Moment::now, passed)))
}

/// When something passed that the kernel stamped, since its stamps are of the wall clock. Should that have been set back meanwhile, it is now.
fn passed(stamp: Duration) -> Moment {
    let (now, wall) = (Moment::now(), clock_gettime(ClockId::Realtime));
    let wall = Duration::new(wall.tv_sec as u64, wall.tv_nsec as u32);
    now - wall.saturating_sub(stamp)
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
