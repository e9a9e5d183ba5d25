//! Streams through gateways, and the apiservers that died under them: what GATEWAY and the table of remedies both look at.

use super::excerpt::describe;
use super::facts::Facts;
use crate::timeline::{Event, GatewayLogged, GatewayStream, Lost, Moment, Observation};

/// An apiserver that did not answer for a while.
pub(super) struct Death<'a> {
    pub(super) server: &'a str,
    pub(super) on: Moment,
    pub(super) off: Moment,
}

/// A stream and when it was asked for.
pub(super) type Stream<'a> = (Moment, &'a GatewayStream);

/// Every time that an apiserver was lost silently, frozen, or restarted.
pub(super) fn deaths<'a>(facts: &Facts<'a>) -> Vec<Death<'a>> {
    let silent = |lost: Lost| matches!(lost, Lost::Both | Lost::ToServer | Lost::FromServer);
    let lost = facts.losses.iter().filter(|(.., loss)| silent(loss.lost));
    let lost = lost.map(|(on, off, loss)| Death { server: &loss.server, on: *on, off: off.unwrap_or(facts.end) });
    let frozen = facts.frozen().map(|(on, off, server)| Death { server, on, off: off.unwrap_or(facts.end) });
    let restarted =
        facts.restarts.iter().map(|it| Death { server: it.server, on: it.on, off: it.off.unwrap_or(facts.end) });
    lost.chain(frozen).chain(restarted).collect()
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

/// Whether a stream was open then.
pub(super) fn open_at((began, stream): &Stream<'_>, at: Moment) -> bool {
    let opened = stream.answered.is_some_and(|answered| *began + answered.after <= at);
    opened && stream.succeeded() && *began + stream.lasted > at && ended(&(*began, stream)).is_none_or(|end| end > at)
}

/// Whether a stream was open on the apiserver that died, when it did.
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

/// What its gateway says of a stream.
pub(super) fn logged(facts: &Facts<'_>, stream: &GatewayStream) -> Option<String> {
    let of_it = |logged: &GatewayLogged| logged.gateway == stream.gateway && logged.audit_id == stream.audit_id;
    let (at, logged) = all_logged(facts).find(|(_, logged)| of_it(logged))?;
    let seen = Observation { at, event: Event::GatewayLogged(logged.clone()) };
    Some(describe(facts.recording.header.began_at, &seen))
}
