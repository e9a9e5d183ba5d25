//! Observations as one-line text, and the few around a violation.

use super::facts::Facts;
use crate::timeline::{
    ChangeKind, ConnectionKind, Effect, Event, Exchange, GatewayLogged, GatewayStream, LoadVerb, Moment, Observation,
    Packets, Party, Segment, Told, Verb,
};

/// How many relevant observations an excerpt shows up to the violation, and after it.
const BEFORE: usize = 6;
const AFTER: usize = 2;

/// The observations around a moment that `concern` the violation.
pub(super) fn excerpt(facts: &Facts<'_>, around: Moment, concern: impl Fn(&Event) -> bool) -> Vec<String> {
    let observations = &facts.recording.observations;
    let here = observations.partition_point(|seen| seen.at <= around);
    let mut lines: Vec<_> =
        observations[..here].iter().rev().filter(|seen| concern(&seen.event)).take(BEFORE).collect();
    lines.reverse();
    lines.extend(observations[here..].iter().filter(|seen| concern(&seen.event)).take(AFTER));
    lines.into_iter().map(|seen| describe(facts.recording.header.began_at, seen)).collect()
}

/// A moment as seconds since the recording began, for example `+7.250s`.
pub(super) fn clock(began: Moment, at: Moment) -> String {
    format!("+{:.3}s", at.since(began).as_secs_f64())
}

/// An observation in one line, with seconds since `began`.
///
/// ```text
/// +7.250s requester-new: new connection, failed in dial: connection refused after 1 ms (apiserver-0)
/// ```
pub fn describe(began: Moment, seen: &Observation) -> String {
    let what = match &seen.event {
        Event::Request(request) => {
            let retry = if request.retries.is_some() { ", a retry" } else { "" };
            let how = match request.on {
                ConnectionKind::New => "on a new connection",
                ConnectionKind::Reused => "on a reused connection",
                ConnectionKind::Library => "by the client library",
            };
            format!("{}: request {how}{retry}: {}", request.probe, outcome(&request.exchange))
        }
        Event::Write(write) => {
            let effect = match write.effect() {
                Effect::Certain => "",
                Effect::Maybe => " (maybe)",
                Effect::Never => " (without effect)",
            };
            let revision = write.revision.map_or(String::new(), |revision| format!(" at revision {revision}"));
            let (probe, verb, object, change) = (&write.probe, verb(write.verb), &write.object, write.change);
            format!("{probe}: change {change}, {verb} {object}{revision}{effect}: {}", outcome(&write.exchange))
        }
        Event::Load(load) => {
            let retry = if load.retries.is_some() { ", a retry" } else { "" };
            let effect = match (load.verb, load.exchange.effect()) {
                (LoadVerb::Create | LoadVerb::Delete, Effect::Maybe) => " (maybe)",
                _ => "",
            };
            let (worker, verb, resource, object) = (&load.worker, load.verb, &load.resource, &load.object);
            format!("{worker}: {verb} {resource} {object}{retry}{effect}: {}", outcome(&load.exchange))
        }
        Event::LoadLeft(left) => format!("load: {} objects exist at the end", left.objects.len()),
        Event::InFlight(held) => {
            let outcome = match (&held.failure, held.status) {
                (Some(failure), _) => format!("failed: {} ({})", failure.class, failure.text),
                (None, status) => status.map_or("no answer".to_owned(), |status| status.to_string()),
            };
            let (probe, server, id, wanted) = (&held.probe, &held.server, &held.audit_id, held.wanted);
            let got = held.got.map_or("?".to_owned(), |got| got.to_string());
            let until = clock(began, held.resumed);
            format!("{probe}: {id} to {server}, held until {until}: {outcome}, {got} of {wanted}")
        }
        Event::ListWatch(call) => {
            let from = call.from.map_or("the newest".to_owned(), |revision| format!("revision {revision}"));
            let answer = match &call.answer {
                Ok(status) => status.to_string(),
                Err(failure) => format!("{} ({})", failure.class, failure.text),
            };
            format!("{}: {:?} request from {from}: {answer}", call.probe, call.call)
        }
        Event::Delivered(event) => {
            let (probe, kind, object) = (&event.probe, kind(event.kind), &event.object);
            format!("{probe}: {kind} {object} at revision {}, change {}", event.revision, event.change)
        }
        Event::Listed(list) => {
            let revision = list.revision.map_or("an unknown revision".to_owned(), |known| format!("revision {known}"));
            format!("{}: the whole state, {} objects at {revision}", list.probe, list.objects.len())
        }
        Event::WatchEnded(end) => match &end.failure {
            None => format!("{}: the watch ended cleanly", end.probe),
            Some(failure) => format!("{}: the watch ended: {} ({})", end.probe, failure.class, failure.text),
        },
        Event::Bookmark(bookmark) => {
            let what = if bookmark.initial_events_end { "the initial events are over, all" } else { "all" };
            format!("{}: {what} up to revision {} was delivered", bookmark.probe, bookmark.revision)
        }
        Event::Read(read) => {
            let revision = read.revision.map_or(String::new(), |known| format!(" at revision {known}"));
            let (probe, objects) = (&read.probe, read.objects.len());
            format!("{probe}: read {objects} objects{revision}: {}", outcome(&read.exchange))
        }
        Event::GuardedUpdate(update) => {
            let revision = update.revision.map_or(String::new(), |known| format!(" at revision {known}"));
            let (probe, object, replaces, count) = (&update.probe, &update.object, update.replaces, update.count);
            let outcome = outcome(&update.exchange);
            format!("{probe}: {object} to {count} in the place of revision {replaces}{revision}: {outcome}")
        }
        Event::GuardedLeft(left) => format!("{} is {} at revision {}", left.object, left.count, left.revision),
        Event::Connection(connection) => {
            let backend = connection.backend.as_deref().unwrap_or("no backend");
            let (client, end, party) = (&connection.client, connection.end, connection.ended_by);
            format!("balancer: connection {client} to {backend}: {end:?} by {party:?}")
        }
        Event::Session(session) => {
            let (probe, kind, lines, ending) = (&session.probe, session.kind, session.lines, session.ending());
            let lasted = session.ended.since(seen.at).as_secs_f64();
            match session.opened() {
                true => format!("{probe}: {kind} with {lines} lines, over after {lasted:.3} s: {ending}"),
                false => format!("{probe}: no {kind} after {lasted:.3} s: {ending}"),
            }
        }
        Event::Timer(connection) => {
            let told = |told: &Option<Told>| match told {
                None => "not told".to_owned(),
                Some(Told { after, failure, .. }) => {
                    let how = failure.as_ref().map_or("FIN".to_owned(), |failure| failure.class.to_string());
                    format!("{how} after {:.3} s", after.as_secs_f64())
                }
            };
            let (client, server) = (told(&connection.client_told), told(&connection.server_told));
            let carries = match connection.carries {
                None => "",
                Some(true) => "; carries",
                Some(false) => "; carries nothing",
            };
            format!("{}: the client: {client}; the server: {server}{carries}", connection.probe)
        }
        Event::Trigger(round) => {
            let seconds = |span: std::time::Duration| span.as_secs_f64();
            let noticed = match (&round.failure, round.noticed) {
                (Some(failure), _) => format!("not acknowledged: {}", failure.class),
                (None, None) => format!("not noticed within {:.3} s", seconds(round.patience)),
                (None, Some(after)) => format!("noticed after {:.3} s", seconds(after)),
            };
            format!("{}: change {} after {:.3} s of silence: {noticed}", round.probe, round.change, seconds(round.idle))
        }
        Event::Packets(packets) => {
            let Packets { interface, client, server, segments } = packets;
            format!("{interface}: {client} to {server}: {}", passed(segments))
        }
        Event::BackendHealth(health) => {
            let state = if health.healthy { "in service" } else { "out of service" };
            format!("balancer: {} {state}: {}", health.server, health.why)
        }
        Event::Lifecycle(step) => match step.text.as_str() {
            "" => format!("{}: {:?}", step.server, step.step),
            text => format!("{}: {:?} ({text})", step.server, step.step),
        },
        Event::ServerHealth(health) => {
            let answer = match &health.answer {
                Ok(status) => status.to_string(),
                Err(failure) => failure.class.to_string(),
            };
            format!("{}: {} says {answer}", health.server, health.path)
        }
        Event::Cluster(seen) => {
            let nodes = seen.ready.iter().map(|(node, ready)| format!("{node} Ready={ready}"));
            let leases = seen.leases.iter().map(|(name, lease)| {
                format!("{name} of {} renewed {:.1} s ago", lease.holder, lease.age.as_secs_f64())
            });
            format!("{}: {}", seen.probe, nodes.chain(leases).collect::<Vec<_>>().join(", "))
        }
        Event::GatewayStream(stream) => through_gateway(stream),
        Event::GatewayLogged(logged) => format!("{}: {} {}", logged.gateway, logged.audit_id, said(logged)),
        Event::GatewayCounted(counted) => format!("{}: {} counters", counted.gateway, counted.counters.len()),
        Event::Endpoints(told) => format!("gateways are told of {}", told.servers.join(", ")),
        Event::Audited(audited) => {
            format!("{}: audited {} ({})", audited.server, audited.audit_id, audited.stages.join(", "))
        }
        Event::AuditLog(log) => {
            let whole = if log.partial || log.unreadable > 0 { "in part" } else { "whole" };
            format!("{}: its audit log was read {whole}, {} events", log.server, log.events)
        }
        Event::FaultOn(fault) => format!("{}: {} begins", fault.server, fault.restart),
        Event::FaultOff(fault) => format!("{}: {} is over", fault.server, fault.restart),
        Event::LossOn(loss) => format!("{}: {} from now on", loss.server, loss.lost),
        Event::LossOff(loss) => format!("{}: packets pass again", loss.server),
        Event::Stall(span) => format!("rollproof itself did not run for {} ms", span.as_millis()),
        Event::Observers(observers) => format!("observing from now on: {}", observers.probes.join(", ")),
        Event::Ticked(ticked) => {
            let (lasted, latest) = (ticked.lasted.as_millis(), ticked.latest.as_millis());
            format!("rollproof itself ran for {lasted} ms, at most {latest} ms late")
        }
    };
    format!("{} {what}", clock(began, seen.at))
}

/// A stream through a gateway, for example `watch alone through none (watchalone-0): 200 by apiserver-0 after 3 ms, not ended in 24.1 s`.
fn through_gateway(stream: &GatewayStream) -> String {
    let GatewayStream { gateway, shape, client, server, answered, told, lasted, .. } = stream;
    let server = server.as_ref().map_or(String::new(), |server| format!(" by {server}"));
    let answer = answered
        .map_or("no answer".to_owned(), |it| format!("{}{server} after {} ms", it.status, it.after.as_millis()));
    let end = match told {
        None => format!("not ended in {:.3} s", lasted.as_secs_f64()),
        Some(end) => {
            let how = end.failure.as_ref().map_or("cleanly".to_owned(), |failure| format!("by {}", failure.class));
            format!("ended {how} after {:.3} s", end.after.as_secs_f64())
        }
    };
    format!("{shape} through {gateway} ({client}): {answer}, {end}")
}

/// What a gateway's log says, for example `Envoy said: 503 UC upstream_reset_before_response_started{connection_termination} (apiserver-0)`.
pub(super) fn said(logged: &GatewayLogged) -> String {
    let GatewayLogged { status, flags, details, server, .. } = logged;
    let server = server.as_ref().map_or(String::new(), |server| format!(" ({server})"));
    format!("Envoy said: {status} {flags} {details}{server}")
}

/// Segments in a few words, for example `SYN by client at 0.000 s, 3 keepalives by client from 4.000 s on`.
fn passed(segments: &[Segment]) -> String {
    let runs = segments.chunk_by(|one, next| (one.kind, one.from) == (next.kind, next.from));
    let words = runs.map(|run| {
        let (Segment { after, from, kind }, count) = (run[0], run.len());
        let (by, seconds) = (if from == Party::Client { "client" } else { "server" }, after.as_secs_f64());
        match count {
            1 => format!("{kind} by {by} at {seconds:.3} s"),
            _ => format!("{count} {kind}s by {by} from {seconds:.3} s on"),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

fn outcome(exchange: &Exchange) -> String {
    let phase = format!("{:?}", exchange.phase).to_lowercase();
    let took = exchange.took.as_millis();
    let server = exchange.server.as_ref().map_or(String::new(), |server| format!(" ({server})"));
    match (&exchange.failure, exchange.status) {
        (Some(failure), _) => format!("failed in {phase}: {} after {took} ms{server}", failure.class),
        (None, Some(status)) => format!("{status} after {took} ms{server}"),
        (None, None) => format!("no answer in {phase} after {took} ms{server}"),
    }
}

/// What a write does, in lower case.
pub(super) fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "create",
        Verb::Update => "update",
        Verb::Delete => "delete",
    }
}

/// A kind of event, as the API spells it.
pub(super) fn kind(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "ADDED",
        ChangeKind::Modified => "MODIFIED",
        ChangeKind::Applied => "ADDED or MODIFIED",
        ChangeKind::Deleted => "DELETED",
    }
}
