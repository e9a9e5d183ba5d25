//! What the packets say about a connection, in words that a verdict can add: evidence, which decides nothing.

use std::collections::HashMap;

use super::facts::Facts;
use crate::timeline::{Event, Moment, Packets, Party, SegmentKind, TimerConnection};

/// The connections that passed the wire, by who opened them, in order.
pub(super) struct Wire<'a> {
    to_client: HashMap<&'a str, Vec<(Moment, &'a Packets)>>,
    to_server: HashMap<&'a str, Vec<(Moment, &'a Packets)>>,
}

impl<'a> Wire<'a> {
    pub(super) fn of(facts: &Facts<'a>) -> Self {
        let mut found = Self { to_client: HashMap::new(), to_server: HashMap::new() };
        for seen in &facts.recording.observations {
            let Event::Packets(packets) = &seen.event else { continue };
            let side = if packets.interface == "to-client" { &mut found.to_client } else { &mut found.to_server };
            side.entry(&packets.client).or_default().push((seen.at, packets));
        }
        found
    }

    /// For example `; on the wire: RST to the server after 11.004 s, none to the client; no keepalive`. Empty without packets.
    pub(super) fn told(&self, opened: Moment, connection: &TimerConnection) -> String {
        let first = |side: &HashMap<&str, Vec<(Moment, &'a Packets)>>, client: &str| side.get(client)?.first().copied();
        let Some((at_client, client)) = first(&self.to_client, &connection.client) else { return String::new() };
        let server = first(&self.to_server, &connection.peer);
        // What is sent to one side is sent in the name of the other.
        let end = |packets: Option<(Moment, &Packets)>, from| {
            let (at, packets) = packets?;
            let found = [SegmentKind::Reset, SegmentKind::Fin].map(|kind| Some((packets.first(at, kind, from)?, kind)));
            // What came later was our own doing.
            let seen = found.into_iter().flatten().filter(|(at, _)| *at <= opened + connection.lasted);
            seen.min_by_key(|(at, _)| *at)
        };
        let say = |to, end: Option<(Moment, SegmentKind)>| match end {
            Some((at, kind)) => format!("{kind} to the {to} after {:.3} s", at.since(opened).as_secs_f64()),
            None => format!("no end to the {to}"),
        };
        let keepalive = match client.keepalive_every(Party::Client) {
            Some(every) => format!("keepalive every {:.1} s", every.as_secs_f64()),
            None if client.first(at_client, SegmentKind::Keepalive, Party::Client).is_some() => {
                "one keepalive".to_owned()
            }
            None => "no keepalive".to_owned(),
        };
        let ends = (end(Some((at_client, client)), Party::Server), end(server, Party::Client));
        let one_sided = |(at, kind): (Moment, SegmentKind), reached, other| {
            let after = at.since(opened).as_secs_f64();
            format!("{kind} reached the {reached} after {after:.3} s, never the {other}")
        };
        let ends = match ends {
            (Some(end), None) => one_sided(end, "client", "server"),
            (None, Some(end)) => one_sided(end, "server", "client"),
            (client, server) => format!("{}, {}", say("client", client), say("server", server)),
        };
        format!("; on the wire: {ends}, {keepalive}")
    }

    /// Why what was seen of a connection is no fault of the balancer under test, if packets of its server reached the client under the server's own
    /// address: a kernel that forgets a flow does that, unless a rule drops what belongs to none, and then the client's own kernel resets the server.
    pub(super) fn unfaithful(&self, connection: &TimerConnection) -> Option<String> {
        let mut all = self.to_client.get(connection.client.as_str())?.iter();
        let (at, opened) = all.find(|(at, packets)| packets.first(*at, SegmentKind::Syn, Party::Client).is_some())?;
        let (_, stray) = all.find(|(later, packets)| later > at && packets.server != opened.server)?;
        Some(format!(
            "packets of {} reached the client of {} under their own address: the rule that drops what belongs to no flow is missing",
            stray.server, connection.probe
        ))
    }
}

/// Whether an observation is of the packets of that connection.
pub(super) fn concerns<'a>(connection: &'a TimerConnection) -> impl Fn(&Event) -> bool + 'a {
    |event| match event {
        Event::Packets(packets) => packets.client == connection.client || packets.client == connection.peer,
        Event::Timer(timer) => timer.client == connection.client,
        Event::LossOn(_) | Event::LossOff(_) => true,
        _ => false,
    }
}
