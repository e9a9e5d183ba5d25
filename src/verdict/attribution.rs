//! Lifecycle attribution: the apiserver that a failed sample was on, or meant for; where in its life that server stood; and
//! whether it had accepted the connection before the signal or after it.
//!
//! The server is known by its serving certificate; where the handshake did not come so far, by the balancer's own record of
//! the connection, which has the same client address (or, where the client does not know its own, was the only one that could
//! not be carried meanwhile); past the balancer, by the address that was dialled; and else by the
//! audit log that has the request. A foreign balancer tells nobody of a connection that failed in its handshake.
//!
//! ```text
//! ready@0 SIGTERM@5 HTTPServerStoppedListening@8 | dialled at 8.1, the balancer could not reach apiserver-0
//!     ->  apiserver-0 at HTTPServerStoppedListening, never accepted
//! ready@0 SIGKILL@5 | connection of 2, EOF at 5.01   ->  apiserver-0 at SIGKILL sent, accepted 3 s before the signal
//! ```

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::survey::Role;
use crate::timeline::{
    Connection, ConnectionUse, End, Event, Exchange, InFlight, Lives, Moment, Phase, Recording, Stage, Symptom,
};

/// A failed sample, beside the server that it is to be laid to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributed<'a> {
    /// When it failed.
    pub at: Moment,
    /// What its probe does.
    pub role: Role,
    /// The probe, or the worker of the load.
    pub probe: &'a str,
    /// What it looked like.
    pub symptom: Symptom,
    /// The apiserver it was on or meant for, where the recording tells.
    pub server: Option<&'a str>,
    /// The stage of that server's life when it failed.
    pub stage: Option<Stage>,
    /// When that server had accepted its connection.
    pub accepted: Accepted,
    /// No requirement counts it: an excuse was granted (spec::excuse), a library repeated it by itself, a watch
    /// was opened again, or the writer went to another server.
    pub excused: bool,
}

/// When a server accepted a connection, beside the signal that stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It did not.
    Never,
    /// It had not been sent a signal when the sample failed.
    NoSignal,
    /// At least so long before the signal.
    Before(Duration),
    /// So long after the signal.
    After(Duration),
    /// The recording does not tell.
    Unknown,
}

impl Accepted {
    /// In words, without how long.
    pub const fn relation(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::NoSignal => "no signal",
            Self::Before(_) => "before the signal",
            Self::After(_) => "after the signal",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(span) | Self::After(span) => write!(f, "{:.3} s {}", span.as_secs_f64(), self.relation()),
            _ => f.write_str(self.relation()),
        }
    }
}

/// A failed sample as its probe saw it.
pub(super) struct Failed<'a> {
    role: Role,
    probe: &'a str,
    symptom: Symptom,
    from: Moment,
    at: Moment,
    server: Option<&'a str>,
    connection: Option<&'a ConnectionUse>,
    audit_id: &'a str,
    /// Whether it was the first on its connection.
    first: bool,
    /// Whether there never was a connection.
    refused: bool,
    /// Whether it failed before a serving certificate was seen.
    unmet: bool,
    excused: bool,
}

impl<'a> Failed<'a> {
    pub(super) fn of(role: Role, probe: &'a str, from: Moment, exchange: &'a Exchange) -> Self {
        let connection = exchange.connection.as_ref();
        Self {
            role,
            probe,
            symptom: Symptom::of(exchange),
            from,
            at: from + exchange.took,
            server: exchange.server.as_deref(),
            connection,
            audit_id: &exchange.audit_id,
            first: connection.is_some_and(|connection| !connection.reused),
            // A library calls everything up to the end of the handshake dialling.
            refused: exchange.phase == Phase::Dial
                && (role != Role::Library || Symptom::of(exchange) == Symptom::ConnectionRefused),
            unmet: exchange.phase <= Phase::Tls,
            excused: false,
        }
    }

    pub(super) fn in_flight(from: Moment, held: &'a InFlight) -> Self {
        let status = || held.status.map_or(Symptom::Other, Symptom::of_status);
        Self {
            role: Role::InFlight,
            symptom: held.failure.as_ref().map_or_else(status, Symptom::from),
            at: held.finished,
            server: Some(&held.server),
            // Each has a connection of its own.
            first: true,
            excused: false,
            ..Self::watch(&held.probe, from, Symptom::Other, Some((from, &held.audit_id)))
        }
    }

    /// The end of a watch whose request was sent then, with this Audit-ID; or the failure of that request.
    pub(super) fn watch(probe: &'a str, at: Moment, symptom: Symptom, sent: Option<(Moment, &'a str)>) -> Self {
        let (from, audit_id) = sent.unwrap_or((at, ""));
        let (server, connection) = (None, None);
        let (first, refused, unmet, excused) = (false, false, false, true);
        Self {
            role: Role::Watch,
            probe,
            symptom,
            from,
            at,
            server,
            connection,
            audit_id,
            first,
            refused,
            unmet,
            excused,
        }
    }

    pub(super) fn excused(self, excused: bool) -> Self {
        Self { excused, ..self }
    }
}

/// Lays failed samples to servers, in the order in which they failed.
pub(super) fn attribute<'a>(
    recording: &'a Recording,
    lives: &Lives<'_>,
    mut failed: Vec<Failed<'a>>,
) -> Vec<Attributed<'a>> {
    failed.sort_by_key(|sample| sample.at);
    let known = Known::about(recording, &failed);
    failed.iter().map(|sample| known.attributed(lives, sample)).collect()
}

/// What a recording has about the connections and requests that failed.
struct Known<'a> {
    /// The servers' own addresses.
    addresses: HashMap<&'a str, &'a str>,
    /// By the client's end: what the balancer carried, in order. Ports are used again in long recordings.
    carried: HashMap<&'a str, Vec<(Moment, &'a Connection)>>,
    /// Connections that the balancer could not carry, and no sample is known to have been on: when each began and ended, and
    /// whom it was offered to.
    uncarried: Vec<(Moment, Moment, Option<&'a str>)>,
    /// By the client's end: when a first request was sent on it.
    opened: HashMap<&'a str, Vec<Moment>>,
    /// By Audit-ID: whose log has it.
    audited: HashMap<&'a str, &'a str>,
}

impl<'a> Known<'a> {
    fn about(recording: &'a Recording, failed: &[Failed<'a>]) -> Self {
        let servers = recording.header.servers.iter();
        let connections = failed.iter().filter_map(|sample| sample.connection);
        let locals = connections.map(|connection| connection.local.as_str()).filter(|local| !local.is_empty());
        let mut known = Self {
            addresses: servers.map(|server| (server.address.as_str(), server.name.as_str())).collect(),
            uncarried: Vec::new(),
            carried: locals.clone().map(|local| (local, Vec::new())).collect(),
            opened: locals.map(|local| (local, Vec::new())).collect(),
            audited: failed.iter().map(|sample| (sample.audit_id, "")).collect(),
        };
        for seen in &recording.observations {
            let exchange = match &seen.event {
                Event::Connection(connection) => {
                    if let Some(carried) = known.carried.get_mut(connection.client.as_str()) {
                        carried.push((seen.at, connection));
                    } else if not_carried(connection) {
                        known.uncarried.push((seen.at, seen.at + connection.lasted, connection.backend.as_deref()));
                    }
                    continue;
                }
                Event::Audited(audited) => {
                    if let Some(server) = known.audited.get_mut(audited.audit_id.as_str()) {
                        *server = &audited.server;
                    }
                    continue;
                }
                Event::Request(request) => &request.exchange,
                Event::Write(write) => &write.exchange,
                Event::Load(load) => &load.exchange,
                _ => continue,
            };
            let first = exchange.connection.as_ref().filter(|connection| !connection.reused);
            if let Some(opened) = first.and_then(|connection| known.opened.get_mut(connection.local.as_str())) {
                opened.push(seen.at);
            }
        }
        known
    }

    /// Whom a connection was meant for of which the client does not know its own end (a library does not tell; a dial that was
    /// reset had it for too short a time), if all that the balancer could not carry meanwhile were meant for the same.
    fn uncarried(&self, sample: &Failed<'a>) -> Option<Option<&'a str>> {
        let first = self.uncarried.partition_point(|(from, ..)| *from < sample.from);
        let meanwhile = self.uncarried[first..].iter().take_while(|(from, ..)| *from <= sample.at);
        let mut meant_for = meanwhile.filter(|(_, until, _)| *until <= sample.at).map(|(_, _, server)| *server);
        let one = meant_for.next()?;
        meant_for.all(|other| other == one).then_some(one)
    }

    fn attributed(&self, lives: &Lives<'_>, sample: &Failed<'a>) -> Attributed<'a> {
        let local = sample.connection.map(|connection| connection.local.as_str()).filter(|local| !local.is_empty());
        let carried = local.and_then(|local| self.carried[local].iter().rev().find(|(at, _)| *at <= sample.at));
        let dialled = || self.addresses.get(sample.connection?.remote.as_str()).copied();
        let audited = || self.audited.get(sample.audit_id).copied().filter(|server| !server.is_empty());
        let uncarried = Some(sample).filter(|it| it.unmet && local.is_none()).and_then(|it| self.uncarried(it));
        let server = sample
            .server
            .or_else(|| carried.and_then(|(_, connection)| connection.backend.as_deref()))
            .or_else(dialled)
            .or_else(audited)
            .or_else(|| uncarried.flatten());

        let opened = || local.and_then(|local| self.opened[local].iter().rev().find(|at| **at <= sample.from));
        let accepted = match carried {
            Some((_, connection)) if not_carried(connection) => None,
            Some((at, _)) => Some(Since::At(*at)),
            None if sample.refused || uncarried.is_some() => None,
            None if sample.first => Some(Since::At(sample.from)),
            None => Some(opened().map_or(Since::NoLaterThan(sample.from), |at| Since::At(*at))),
        };
        let signal = server.and_then(|server| lives.signal(server, sample.at));
        let stage = server.and_then(|server| lives.stage(server, sample.at));
        let started = |signal: Moment, at: Moment| {
            let then = server.and_then(|server| lives.stage(server, at));
            at >= signal && then.is_some_and(|stage| stage.since >= signal && !stage.is_after_signal())
        };
        let accepted = match (accepted, signal) {
            (None, _) => Accepted::Never,
            (Some(_), _) if server.is_none() => Accepted::Unknown,
            (Some(_), None) => Accepted::NoSignal,
            (Some(Since::At(at) | Since::NoLaterThan(at)), Some(signal)) if at < signal => {
                Accepted::Before(signal.since(at))
            }
            (Some(Since::NoLaterThan(_)), Some(_)) => Accepted::Unknown,
            (Some(Since::At(at)), Some(signal)) if started(signal, at) => Accepted::NoSignal,
            (Some(Since::At(at)), Some(signal)) => Accepted::After(at.since(signal)),
        };
        let Failed { role, probe, symptom, at, excused, .. } = *sample;
        Attributed { at, role, probe, symptom, server, stage, accepted, excused }
    }
}

/// Whether no server accepted it.
fn not_carried(connection: &Connection) -> bool {
    matches!(connection.end, End::Unreachable | End::NoBackend)
}

/// When a connection was accepted, as far as that is known.
#[derive(Clone, Copy)]
enum Since {
    At(Moment),
    NoLaterThan(Moment),
}
