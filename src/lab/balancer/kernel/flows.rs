//! The flows of a kernel balancer, as their packets tell of them, and how they are ended by RST to both sides.
//!
//! conntrack is no clock: it forgets lazily, seconds late. So every segment is looked at, and restarts the idle time of its flow.
//!
//! A RST counts only with the right sequence number, which the two ends know best. Each is sent a SYN in the other's name: in the
//! middle of a connection that is answered by a "challenge ACK" (RFC 5961, section 4), and a rule answers that with a RST whose
//! number is the one it asks for. It works for connections that are in use just as well. conntrack does not see these RSTs, so it
//! is told to forget the flow: clients use their ports again within seconds, and a SYN on a flow that it knows goes where that went.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use etherparse::PacketBuilder;
use futures::future::select_all;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::super::health::Member;
use super::super::{OnIdle, OnUnhealthy, Settings};
use super::conntrack::Conntrack;
use super::table;
use crate::lab::network::wire::{Segment, Wire};
use crate::lab::network::{self, Site};
use crate::timeline::Moment;
use crate::timing::CLOSE_NOTICED;

/// Marks packets of ours, which no rule must take for a flow's.
const MARK: u32 = 0x77;
/// IP headers are ours to write (raw(7)).
const IPPROTO_RAW: i32 = 255;

/// The flows through one port, by the client's end.
pub(super) struct Flows {
    site: Site,
    listen: SocketAddr,
    open: HashMap<SocketAddr, Flow>,
    members: Vec<Arc<Member>>,
    changes: Vec<watch::Receiver<bool>>,
    /// After how long without a segment a flow is ended.
    idle: Option<Duration>,
    /// How long after its backend went out of service a flow is ended.
    drain: Option<Duration>,
    /// Whose flows are ended, and when; only those that are older than that order.
    orders: Vec<Order>,
    wire: Wire,
    raw: Socket,
    conntrack: Conntrack,
}

struct Flow {
    opened: Moment,
    last: Moment,
    backend: Option<SocketAddr>,
    /// Whether the client, and the server, have sent their FIN.
    finished: [bool; 2],
}

struct Order {
    backend: SocketAddr,
    given: Moment,
    due: Moment,
}

impl Flows {
    /// Follows the flows of a balancer that has to end some; `None` if it never does.
    ///
    /// # Errors
    /// The kernel refuses the sockets or the rules.
    pub(super) async fn of(settings: &Settings, members: &[Arc<Member>]) -> anyhow::Result<Option<Self>> {
        let idle = settings.idle.filter(|idle| idle.then == OnIdle::Reset).map(|idle| idle.after);
        let drain = match settings.on_unhealthy {
            OnUnhealthy::Keep => None,
            OnUnhealthy::Reset => Some(Duration::ZERO),
            OnUnhealthy::Drain { after } => Some(after),
            OnUnhealthy::Fin { .. } => bail!("the kernel balancer says nothing but RST"),
        };
        if idle.is_none() && drain.is_none() {
            return Ok(None);
        }
        let namespace = settings.site.namespace().context("the kernel balancer needs a lab in network namespaces")?;
        network::nft(namespace, rules(settings.listen)).await?;
        let raw = namespace.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))).await?;
        let raw = raw.context("no raw socket")?;
        raw.set_mark(MARK)?;
        Ok(Some(Self {
            wire: Wire::listen(&settings.site).await?,
            site: settings.site.clone(),
            listen: settings.listen,
            open: HashMap::new(),
            changes: members.iter().map(|member| member.follow()).collect(),
            members: members.to_vec(),
            idle,
            drain,
            orders: Vec::new(),
            raw,
            conntrack: Conntrack::open(namespace).await?,
        }))
    }

    /// Ends flows when their time has come. Returns only with an error.
    pub(super) async fn keep(mut self) -> anyhow::Result<()> {
        let mut due = None;
        loop {
            // Segments first: whatever has passed already counts.
            tokio::select! {
                biased;
                frame = self.wire.next() => {
                    let (at, segment) = frame.map(|frame| (frame.at, frame.segment))?;
                    if self.note(at, segment) {
                        due = due.or(self.idle.map(|idle| at + idle));
                    }
                    // No order waits for a pause in the traffic.
                    if self.orders.iter().any(|order| order.due <= at) {
                        self.end(|flows, flow| flows.is_ordered(at, flow)).await?;
                        self.orders.retain(|order| order.due > at);
                    }
                }
                index = changed(&mut self.changes), if self.drain.is_some() => {
                    let ordered = self.order(index?);
                    due = due.into_iter().chain(ordered).min();
                }
                () = reached(due) => {
                    let now = Moment::now();
                    self.end(|flows, flow| flows.is_idle(now, flow) || flows.is_ordered(now, flow)).await?;
                    self.orders.retain(|order| order.due > now);
                    due = self.next_due();
                }
            }
        }
    }

    /// Takes a segment into account. Whether it opens a flow.
    fn note(&mut self, at: Moment, segment: Segment) -> bool {
        let Segment { from, to, syn, fin, rst, .. } = segment;
        if syn && to == self.listen {
            let flow = Flow { opened: at, last: at, backend: None, finished: [false; 2] };
            return self.open.insert(from, flow).is_none();
        }
        let is_backend = |end| self.members.iter().any(|member| member.backend.address == end);
        let (client, backend, by_client) = match () {
            () if to == self.listen => (from, None, true),
            () if from == self.listen => (to, None, false),
            () if is_backend(to) => (from, Some(to), true),
            () if is_backend(from) => (to, Some(from), false),
            () => return false,
        };
        let Some(flow) = self.open.get_mut(&client) else { return false };
        flow.last = at;
        flow.backend = backend.or(flow.backend);
        flow.finished[usize::from(!by_client)] |= fin;
        if rst || flow.finished == [true; 2] {
            self.open.remove(&client);
        }
        false
    }

    /// A backend's health has changed: when its flows are to be ended, if they are.
    fn order(&mut self, index: usize) -> Option<Moment> {
        let (member, given) = (&self.members[index], Moment::now());
        let drain = self.drain.filter(|_| !member.in_service())?;
        self.orders.push(Order { backend: member.backend.address, given, due: given + drain });
        Some(given + drain)
    }

    fn is_idle(&self, now: Moment, flow: &Flow) -> bool {
        self.idle.is_some_and(|idle| flow.last + idle <= now)
    }

    fn is_ordered(&self, now: Moment, flow: &Flow) -> bool {
        let mut orders = self.orders.iter().filter(|order| order.due <= now && order.given >= flow.opened);
        orders.any(|order| Some(order.backend) == flow.backend)
    }

    /// Ends those flows.
    async fn end(&mut self, which: impl Fn(&Self, &Flow) -> bool) -> anyhow::Result<()> {
        let ended = self.open.iter().filter(|(_, flow)| which(self, flow)).map(|(client, _)| *client);
        let ended: Vec<_> = ended.collect();
        let flow = |client| Some((client, self.open.remove(&client)?.backend?));
        let pairs: Vec<_> = ended.into_iter().filter_map(flow).collect();
        self.reset(&pairs).await
    }

    fn next_due(&self) -> Option<Moment> {
        let idle = self.idle.and_then(|idle| self.open.values().map(|flow| flow.last + idle).min());
        idle.into_iter().chain(self.orders.iter().map(|order| order.due)).min()
    }

    /// RST to both sides of flows, given as their clients and backends.
    async fn reset(&self, flows: &[(SocketAddr, SocketAddr)]) -> anyhow::Result<()> {
        if flows.is_empty() {
            return Ok(());
        }
        let ways = |(client, backend)| [(client, self.listen), (backend, client)];
        let ways: Vec<(SocketAddr, SocketAddr)> = flows.iter().copied().flat_map(ways).collect();
        let element = |(from, to): &(SocketAddr, SocketAddr)| {
            format!("{} . {} . {} . {}", from.ip(), from.port(), to.ip(), to.port())
        };
        let elements: Vec<_> = ways.iter().map(element).collect();
        let command = format!("add element ip {} ended {{ {} }}\n", ending(self.listen), elements.join(", "));
        network::nft(self.site.namespace().context("the namespace is gone")?, command).await?;
        for (client, _) in flows {
            self.conntrack.forget(*client, self.listen)?;
        }
        for (from, to) in ways {
            self.raw.send_to(&syn(to, from)?, &SocketAddr::new(from.ip(), 0).into())?;
        }
        Ok(())
    }
}

/// Which one has changed.
async fn changed(changes: &mut [watch::Receiver<bool>]) -> anyhow::Result<usize> {
    let (changed, index, _) = select_all(changes.iter_mut().map(|change| Box::pin(change.changed()))).await;
    changed.context("a backend is gone")?;
    Ok(index)
}

async fn reached(moment: Option<Moment>) {
    match moment {
        Some(moment) => sleep_until(Instant::now() + moment.since(Moment::now())).await,
        None => std::future::pending().await,
    }
}

/// A SYN, with its IP header. Its number is of no importance.
fn syn(from: SocketAddr, to: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else { bail!("no IPv4") };
    let packet =
        PacketBuilder::ipv4(source.octets(), destination.octets(), 64).tcp(from.port(), to.port(), 1, 1024).syn();
    let mut bytes = Vec::with_capacity(packet.size(0));
    packet.write(&mut bytes, &[])?;
    Ok(bytes)
}

/// The name of the table of a port's ended flows.
fn ending(listen: SocketAddr) -> String {
    format!("{}_ending", table(listen))
}

/// Answers what either side of an ended flow still sends with RST, before conntrack sees it; and keeps conntrack from our own.
fn rules(listen: SocketAddr) -> String {
    format!(
        "table ip {} {{
            set ended {{
                type ipv4_addr . inet_service . ipv4_addr . inet_service; flags timeout; timeout {}s;
            }}
            chain answer {{
                type filter hook prerouting priority -290; policy accept;
                ip saddr . tcp sport . ip daddr . tcp dport @ended tcp flags & (rst | ack) == ack reject with tcp reset
            }}
            chain own {{
                type filter hook output priority raw; policy accept;
                meta mark {MARK} notrack
            }}
        }}
        ",
        ending(listen),
        CLOSE_NOTICED.as_secs()
    )
}
