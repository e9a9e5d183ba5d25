//! Streams through gateways, and the apiservers that died under them: what GATEWAY and the table of remedies both look at.

use std::collections::HashMap;
use std::time::Duration;

use super::excerpt::describe;
use super::facts::{Facts, Restarted};
use crate::timeline::{Event, GatewayLogged, GatewayStream, Lost, Moment, Observation};

/// An apiserver that did not answer for a while.
pub(super) struct Death<'a> {
    pub(super) server: &'a str,
    pub(super) on: Moment,
    pub(super) off: Moment,
    pub(super) how: How<'a>,
}

/// Why it did not.
#[derive(Clone, Copy)]
pub(super) enum How<'a> {
    /// Packets between it and the balancer were lost: these.
    Lost(Lost),
    /// Its process was frozen; its kernel acknowledges.
    Frozen,
    /// It was restarted.
    Restarted(&'a Restarted<'a>),
}

/// A stream and when it was asked for.
pub(super) type Stream<'a> = (Moment, &'a GatewayStream);

/// Every time that an apiserver was lost silently, or frozen.
pub(super) fn silences<'a>(facts: &'a Facts<'_>) -> Vec<Death<'a>> {
    let silent = |lost: Lost| matches!(lost, Lost::Both | Lost::ToServer | Lost::FromServer);
    let lost = facts.losses.iter().filter(|(.., loss)| silent(loss.lost));
    let lost = lost.map(|(on, off, loss)| Death {
        server: &loss.server,
        on: *on,
        off: off.unwrap_or(facts.end),
        how: How::Lost(loss.lost),
    });
    let frozen = facts.frozen();
    let frozen = frozen.map(|(on, off, server)| Death { server, on, off: off.unwrap_or(facts.end), how: How::Frozen });
    lost.chain(frozen).collect()
}

/// Every time that an apiserver was lost silently, frozen, or restarted.
pub(super) fn deaths<'a>(facts: &'a Facts<'_>) -> Vec<Death<'a>> {
    let restarted = facts.restarts.iter().map(|it| Death {
        server: it.server,
        on: it.on,
        off: it.off.unwrap_or(facts.end),
        how: How::Restarted(it),
    });
    silences(facts).into_iter().chain(restarted).collect()
}

/// The streams through the gateway that is judged, in order of their beginning.
pub(super) fn streams<'a>(facts: &Facts<'a>, gateway: Option<&str>) -> Vec<Stream<'a>> {
    let through = |stream: &GatewayStream| gateway.is_none_or(|gateway| stream.gateway == gateway);
    let all = facts.recording.each(|event| match event {
        Event::GatewayStream(stream) => Some(stream),
        _ => None,
    });
    all.filter(|(_, stream)| through(stream)).collect()
}

/// The apiserver that a stream was on: the one that the gateway named; else the one whose audit log has it.
pub(super) fn server_of<'a>(facts: &Facts<'a>, stream: &'a GatewayStream) -> Option<&'a str> {
    stream.server.as_deref().or_else(|| facts.audit.server_of(&stream.audit_id))
}

/// Whether a stream was open then.
pub(super) fn open_at((began, stream): &Stream<'_>, at: Moment) -> bool {
    let opened = stream.answered.is_some_and(|answered| *began + answered.after <= at);
    opened && stream.succeeded() && *began + stream.lasted > at && ended(&(*began, stream)).is_none_or(|end| end > at)
}

/// Whether a stream was open on the apiserver that died, when it did, as its gateway says.
pub(super) fn was_on(stream: &Stream<'_>, death: &Death<'_>) -> bool {
    stream.1.server.as_deref() == Some(death.server) && open_at(stream, death.on)
}

/// When its client was told of its end.
pub(super) fn ended((began, stream): &Stream<'_>) -> Option<Moment> {
    stream.told.as_ref().map(|end| *began + end.after)
}

/// The lines of gateways' access logs.
pub(super) fn all_logged<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (Moment, &'a GatewayLogged)> {
    facts.recording.each(|event| match event {
        Event::GatewayLogged(logged) => Some(logged),
        _ => None,
    })
}

/// What gateways say of streams, by gateway and Audit-ID.
pub(super) struct Logged<'a>(HashMap<(&'a str, &'a str), (Moment, &'a GatewayLogged)>);

impl<'a> Logged<'a> {
    pub(super) fn of(facts: &Facts<'a>) -> Self {
        let mut lines = HashMap::new();
        for (at, logged) in all_logged(facts) {
            lines.entry((logged.gateway.as_str(), logged.audit_id.as_str())).or_insert((at, logged));
        }
        Self(lines)
    }

    /// What its gateway says of a stream, in one line.
    pub(super) fn told(&self, facts: &Facts<'_>, stream: &GatewayStream) -> Option<String> {
        let (at, logged) = self.0.get(&(stream.gateway.as_str(), stream.audit_id.as_str()))?;
        let seen = Observation { at: *at, event: Event::GatewayLogged((*logged).clone()) };
        Some(describe(facts.recording.header.began_at, &seen))
    }
}

/// The first stretch of the window that none of these spans covers and that is longer than `gap`. Spans in order of their beginning.
pub(super) fn hole(
    spans: impl Iterator<Item = (Moment, Moment)>,
    (from, until): (Moment, Moment),
    gap: Duration,
) -> Option<(Moment, Moment)> {
    let mut covered = from;
    for (began, ended) in spans.chain([(until, until)]) {
        if began.min(until).since(covered) > gap {
            return Some((covered, began.min(until)));
        }
        covered = covered.max(ended);
    }
    None
}
