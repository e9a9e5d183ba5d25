//! Which connections a balancer carried where: what the BALANCER judges look at.
//!
//! A client knows whom it met by the serving certificate; the builtin balancer writes down every connection, also those
//! that never came to a certificate because their apiserver refused. Of another balancer nobody knows where these went.
//!
//! A balancer that ends TLS is asked by a response header which apiserver answered. There, a new connection is the client's own, and it
//! was carried to the apiserver that answered its first request, whichever upstream connection that went on.
//!
//! ```text
//! new connection, certificate of apiserver-0                                ->  carried to apiserver-0
//! new connection refused, the builtin balancer: apiserver-0 unreachable     ->  carried to apiserver-0
//! new connection refused, no record of it                                   ->  untold
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::Figure;
use super::conclusive::{Traffic, no_time};
use super::facts::{Facts, Restarted};
use crate::timeline::{Call, ConnectionKind, ConnectionUse, Event, Exchange, Moment, Protocol, Request, Step};

/// A connection that a client began, and the apiserver that it was carried to.
#[derive(Clone, Copy)]
pub(super) struct Carried<'a> {
    pub(super) at: Moment,
    /// When that was certain.
    pub(super) met: Moment,
    pub(super) server: &'a str,
}

/// What is known of new connections through the balancer.
pub(super) struct Connections<'a> {
    /// In order of their beginning.
    pub(super) carried: Vec<Carried<'a>>,
    /// When connections began of which nobody knows whether they were carried to an apiserver, and to which; in order.
    untold: Vec<Moment>,
}

impl<'a> Connections<'a> {
    pub(super) fn of(facts: &Facts<'a>) -> Self {
        let noted = facts.recording.each(|event| match event {
            Event::Connection(connection) => Some(connection),
            _ => None,
        });
        let noted: Vec<_> = noted.collect();
        let clients: HashSet<&str> = noted.iter().map(|(_, connection)| connection.client.as_str()).collect();

        let (mut carried, mut untold, mut seen_by_clients) = (Vec::new(), Vec::new(), HashSet::new());
        for (at, request, connection) in through_balancer(facts).filter(|(_, request, _)| on_new(request)) {
            match request.exchange.server.as_deref() {
                Some(server) => {
                    seen_by_clients.insert(connection.local.as_str());
                    carried.push(Carried { at, met: at + request.exchange.took, server });
                }
                // A connection that did not come to a certificate is the balancer's to tell.
                None if clients.contains(connection.local.as_str()) => {}
                None => untold.push(at),
            }
        }
        carried.extend(noted.iter().filter_map(|(at, connection)| {
            let new = !seen_by_clients.contains(connection.client.as_str());
            connection.backend.as_deref().filter(|_| new).map(|server| Carried { at: *at, met: *at, server })
        }));
        carried.sort_by_key(|carried| carried.at);
        untold.sort_unstable();
        Self { carried, untold }
    }

    /// Those to an apiserver that began after `from` and before `until`, in order.
    pub(super) fn to(&self, server: &str, from: Moment, until: Moment) -> Vec<&Carried<'a>> {
        let first = self.carried.partition_point(|carried| carried.at <= from);
        let meanwhile = self.carried[first..].iter().take_while(|carried| carried.at < until);
        meanwhile.filter(|carried| carried.server == server).collect()
    }

    /// Why nobody can say that no connection was carried to an apiserver after `from` and before `until`, if so.
    pub(super) fn untold(&self, facts: &Facts<'_>, server: &str, from: Moment, until: Moment) -> Option<String> {
        let first = self.untold.partition_point(|at| *at <= from);
        let count = self.untold[first..].partition_point(|at| *at < until);
        let at = self.untold.get(first).filter(|_| count > 0)?;
        Some(format!(
            "{count} new connections met no apiserver that we know of, the first at {}: nobody knows whether they were carried to {server}",
            facts.clock(*at)
        ))
    }
}

/// Why none of these moments counts, if so: each comes so soon after a time in which we did not run, or the machine had none, that a balancer
/// which needs `span` to act may have been late by it. The latest are asked first.
pub(super) fn all_excused(facts: &Facts<'_>, since: Moment, span: Duration, found: &[&Carried<'_>]) -> Option<String> {
    let mut why = None;
    for carried in found.iter().rev() {
        why = Some(no_time(facts, since.max(carried.at - span), carried.at)?);
    }
    why
}

/// Requests that were sent through the balancer, and their connections.
pub(super) fn through_balancer<'a>(
    facts: &Facts<'a>,
) -> impl Iterator<Item = (Moment, &'a Request, &'a ConnectionUse)> {
    let servers = &facts.recording.header.servers;
    let requests = facts.recording.each(|event| match event {
        Event::Request(request) => Some(request),
        _ => None,
    });
    let connected = requests.filter_map(|(at, request)| Some((at, request, request.exchange.connection.as_ref()?)));
    // Which server a library met, it does not tell.
    let own = connected.filter(|(_, request, _)| request.on != ConnectionKind::Library);
    own.filter(|(_, _, connection)| servers.iter().all(|server| server.address != connection.remote))
}

/// A kept connection that a requester had to replace, though no request on it had failed beyond repair.
pub(super) struct Replaced<'a> {
    pub(super) at: Moment,
    pub(super) protocol: Protocol,
    /// Whom the connection before led to.
    pub(super) server: &'a str,
}

/// Every kept connection that was replaced by another, in order.
pub(super) fn replaced<'a>(facts: &Facts<'a>) -> Vec<Replaced<'a>> {
    let mut last: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let kept = through_balancer(facts).filter(|(_, request, _)| request.on == ConnectionKind::Reused);
    let replaced = kept.filter_map(|(at, request, connection)| {
        let server = request.exchange.server.as_deref()?;
        let (before, server) = last.insert(&request.probe, (&connection.local, server))?;
        let protocol = request.exchange.protocol;
        (before != connection.local).then_some(Replaced { at, protocol, server })
    });
    replaced.collect()
}

fn on_new(request: &Request) -> bool {
    request.exchange.connection.as_ref().is_some_and(|connection| !connection.reused)
}

/// The traffic without which nothing can be said about new connections.
pub(super) fn traffic(facts: &Facts<'_>) -> Traffic {
    let requests = facts.requesters_on(ConnectionKind::New).flat_map(|(_, requests)| requests);
    let samples = requests.map(|(at, request)| (*at, request.exchange.took, request.exchange.succeeded()));
    Traffic::of(facts, "the requester on new connections".to_owned(), facts.bounds.request_gap, samples).steady()
}

/// When a stopped apiserver's /readyz turned red, as far as we know: it does so as the first thing after SIGTERM. Its log says so, or its first
/// red answer, if we had that earlier.
pub(super) fn red(facts: &Facts<'_>, restart: &Restarted<'_>) -> Option<Moment> {
    let sent = restart.at(Step::TermSent)?;
    let told = restart.at(Step::ShutdownInitiated).unwrap_or(sent);
    let answers = facts.health(restart.server, "/readyz", sent, told);
    let answered = answers.iter().find(|(_, health)| health.answer.as_ref().is_ok_and(|status| *status != 200));
    Some(answered.map_or(told, |(at, health)| told.min(*at + health.took)))
}

/// Whether a request went to an apiserver's own address, past the balancer.
pub(super) fn past_it(facts: &Facts<'_>, exchange: &Exchange) -> bool {
    let servers = &facts.recording.header.servers;
    exchange.connection.as_ref().is_some_and(|used| servers.iter().any(|server| server.address == used.remote))
}

/// Why nothing can be said about the new connections to a restarted apiserver: nobody met it before, so either no
/// connection is carried to it, or clients cannot tell whose a connection is.
pub(super) fn never_met(restart: &Restarted<'_>, connections: &Connections<'_>) -> Option<String> {
    let met = |carried: &Carried<'_>| carried.server == restart.server && carried.at < restart.on;
    let met = connections.carried.iter().any(met);
    (!met).then(|| format!("no new connection met {} before it was stopped", restart.server))
}

/// `max-elapsed-new` or `max-elapsed-reused`: how long after SIGTERM requests on such connections still met the stopping
/// apiserver, the longest of all restarts; together, and by protocol. A client library tells no connections.
pub(super) fn max_elapsed(facts: &Facts<'_>, on: ConnectionKind) -> Vec<Figure> {
    let name = match on {
        ConnectionKind::New => "max-elapsed-new",
        ConnectionKind::Reused => "max-elapsed-reused",
        ConnectionKind::Library => return Vec::new(),
    };
    let terms: Vec<_> =
        facts.restarts.iter().filter_map(|restart| Some((restart, restart.at(Step::TermSent)?))).collect();
    if terms.is_empty() {
        return Vec::new();
    }
    let elapsed = |at: Moment, server: &str| {
        let stopping = terms.iter().find(|(restart, term)| {
            restart.server == server && at >= *term && at < restart.at(Step::Started).unwrap_or(facts.end)
        });
        stopping.map(|(_, term)| at.since(*term))
    };
    let (mut longest, mut by_protocol) = (Duration::ZERO, BTreeMap::new());
    for (at, request, _) in through_balancer(facts).filter(|(_, it, _)| on_new(it) == (on == ConnectionKind::New)) {
        let met = request.exchange.server.as_deref().and_then(|server| elapsed(at, server)).unwrap_or_default();
        let own = by_protocol.entry(request.exchange.protocol).or_insert(met);
        (*own, longest) = (met.max(*own), met.max(longest));
    }
    let each = by_protocol
        .iter()
        .map(|(protocol, longest)| Figure::seconds(&format!("{name}, {protocol:?}").to_lowercase(), *longest));
    std::iter::once(Figure::seconds(name, longest)).chain(each).collect()
}

/// How unevenly connections lie once all is over: the share of the most loaded apiserver, of the new connections after the
/// last restart, and of the established ones (kept connections and watches) at the end.
pub(super) fn shares(facts: &Facts<'_>) -> Vec<Figure> {
    let (_, over) = facts.disturbed();
    let new = through_balancer(facts).filter(|(at, request, _)| *at > over && on_new(request));
    let new = largest_share(new.filter_map(|(_, request, _)| request.exchange.server.as_deref()));
    let established = largest_share(established(facts).into_values());
    let figure = |name: &str, share: Option<f64>| {
        share.map(|value| Figure { name: name.to_owned(), value, unit: "%", of: None })
    };
    [figure("most loaded, new connections after", new), figure("most loaded, established at the end", established)]
        .into_iter()
        .flatten()
        .collect()
}

/// Where the last kept connection of each requester lies, and the last watch of each watch probe.
fn established<'a>(facts: &Facts<'a>) -> BTreeMap<&'a str, &'a str> {
    let mut last = BTreeMap::new();
    for (_, request, _) in through_balancer(facts).filter(|(_, request, _)| request.on == ConnectionKind::Reused) {
        if let Some(server) = request.exchange.server.as_deref().filter(|_| request.exchange.succeeded()) {
            last.insert(request.probe.as_str(), server);
        }
    }
    for watch in watches(facts) {
        last.insert(watch.probe, watch.server);
    }
    last
}

fn largest_share<'a>(servers: impl Iterator<Item = &'a str>) -> Option<f64> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    servers.for_each(|server| *counts.entry(server).or_default() += 1);
    let largest = counts.values().max()?;
    Some(100.0 * *largest as f64 / counts.values().sum::<usize>() as f64)
}

/// A watch that an apiserver answered, by its audit log.
pub(super) struct OpenWatch<'a> {
    pub(super) probe: &'a str,
    pub(super) server: &'a str,
    pub(super) from: Moment,
    /// When it ended, and whether it broke instead of ending cleanly.
    pub(super) ended: Option<(Moment, bool)>,
}

/// Every watch that came to be, in order of their beginning.
pub(super) fn watches<'a>(facts: &Facts<'a>) -> Vec<OpenWatch<'a>> {
    let mut found: Vec<OpenWatch<'a>> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for seen in &facts.recording.observations {
        match &seen.event {
            Event::ListWatch(call) if call.call == Call::Watch => {
                // Who asks for the next one has been told that the last is over, and of nothing wrong.
                if let Some(position) = open.remove(call.probe.as_str()) {
                    found[position].ended.get_or_insert((seen.at, false));
                }
                let server = facts.audit.server_of(&call.audit_id).filter(|_| call.answer == Ok(200));
                if let Some(server) = server {
                    open.insert(&call.probe, found.len());
                    found.push(OpenWatch { probe: &call.probe, server, from: seen.at, ended: None });
                }
            }
            Event::WatchEnded(end) => {
                if let Some(position) = open.remove(end.probe.as_str()) {
                    found[position].ended = Some((seen.at, end.failure.is_some()));
                }
            }
            _ => {}
        }
    }
    found
}
