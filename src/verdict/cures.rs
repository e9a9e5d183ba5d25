//! What each gateway's remedy came to: for people who choose one. It decides nothing.
//!
//! ```text
//! lost at 10 s, a watch heard changes until 10 s and from 14.1 s on, every 0.25 s       ->  recovered after 4.1 s
//! lost at 10 s, healed at 30 s, nothing heard in between                                ->  not
//! lost at 10 s, the last request that was not answered in time was asked for at 13.5 s  ->  requests recovered after 3.5 s
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::facts::Facts;
use super::informer::{Informer, informer};
use super::streams::{Death, Stream, all_logged, deaths, ended, open_at, streams, was_on};
use crate::timeline::{ErrorClass, Event, GatewayStream, Moment, Party, Recording, SegmentKind, Shape, Step};
use crate::timing::Bounds;

/// What became of one gateway's streams under one fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Cure {
    /// The gateway, by its remedy.
    pub gateway: String,
    /// What was done to the apiserver.
    pub fault: String,
    /// Of the watch that was alone on its upstream connection.
    pub watch_alone: Recovery,
    /// Of the watch beside requests.
    pub watch_busy: Recovery,
    /// Of the informer.
    pub informer: Option<Informer>,
    /// Of many watches of one client, how many were on the dead apiserver, and when the last of them told of changes again.
    pub many: Option<(usize, Recovery)>,
    /// Of requests on connections that were there already.
    pub requests: Recovery,
    /// Of watches that were opened after the fault.
    pub new_watches: Recovery,
    /// The quiet stream on the other apiserver: for how long it was quiet and lived, or after how long it was ended.
    pub quiet: Option<Result<Duration, Duration>>,
    /// A quiet session there of each kind, likewise; one that had not a line come at last counts as ended then.
    pub quiet_sessions: BTreeMap<Shape, Result<Duration, Duration>>,
    /// When one of each kind on the dead apiserver was ended by the gateway.
    pub dead_sessions: BTreeMap<Shape, Recovery>,
    /// When an `exec` there was in which its user types.
    pub dead_exec: Recovery,
    /// What requests were answered with while they failed, with the flags that the gateway's log has for it; or `hung` where no headers
    /// came while the apiserver was dead, and `cut in its body` where the headers had come before the fault. And how often.
    pub failures: BTreeMap<String, usize>,
    /// The same of new watches.
    pub new_watch_failures: BTreeMap<String, usize>,
    /// How many requests and new watches there were, of which some failed.
    pub asked: [usize; 2],
    /// How many connections the clients of each lane had, at most: 1 where none was ever closed.
    pub connections: usize,
}

/// The gateways' connections to the apiserver that was lost, as they passed the wire while it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnTheWire {
    /// On which the gateway's kernel sent keepalive probes, and repeated no bytes.
    pub probed: usize,
    /// On which it repeated bytes, and sent no probe.
    pub repeated: usize,
    /// On which it did both.
    pub both: usize,
}

/// What passed the wire to the dead apiserver, of connections that were there before the fault; `None` where nothing was captured.
pub fn on_the_wire(recording: &Recording) -> Option<OnTheWire> {
    let facts = Facts::of(recording);
    let death = deaths(&facts).into_iter().next()?;
    let interface = format!("to-{}", death.server);
    let mut found = OnTheWire::default();
    let all = recording.each(|event| match event {
        Event::Packets(packets) if packets.interface == interface => Some(packets),
        _ => None,
    });
    for (at, packets) in all.filter(|(at, _)| *at < death.on) {
        let sent = |kind| {
            packets.segments.iter().any(|it| {
                it.kind == kind && it.from == Party::Client && (death.on..death.off).contains(&(at + it.after))
            })
        };
        match (sent(SegmentKind::Keepalive), sent(SegmentKind::Retransmission)) {
            (true, false) => found.probed += 1,
            (false, true) => found.repeated += 1,
            (true, true) => found.both += 1,
            (false, false) => {}
        }
    }
    Some(found).filter(|found| *found != OnTheWire::default())
}

/// Whether something went on while the apiserver was still dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It went on so long after the fault.
    After(Duration),
    /// It was never interrupted.
    Untouched,
    /// Not before the fault was over.
    Never,
    /// There was nothing to look at.
    Unknown,
}

/// Each gateway of a recording under its fault, in the order of their names; none where there was no such fault.
pub fn cures(recording: &Recording) -> Vec<Cure> {
    let facts = Facts::of(recording);
    let bounds = &facts.bounds;
    let Some(mut death) = deaths(&facts).into_iter().next() else { return Vec::new() };
    // Where it is never back: when nothing is written any more, there is nothing to tell of.
    death.off = facts.writes.all.last().map_or(death.off, |(at, _)| death.off.min(*at));
    let restart = facts.disturbance().map(|how| how.to_string());
    let lost = facts.losses.iter().find(|(.., loss)| loss.server == death.server);
    let frozen = || "the process is frozen (SIGSTOP), its kernel acknowledges".to_owned();
    let killed = facts.lifecycle.iter().any(|(at, step)| {
        step.step == Step::KillSent && step.server == death.server && (death.on..death.off).contains(at)
    });
    let lost = lost.map(|(.., loss)| match killed {
        true => format!("{}, and the process is killed meanwhile", loss.lost),
        false => loss.lost.to_string(),
    });
    let told = recording.each(|event| if let Event::Endpoints(told) = event { Some(told) } else { None });
    let mut told = told.filter(|(at, _)| (death.on..death.off).contains(at));
    let told =
        told.next().map_or(String::new(), |(_, told)| format!("; gateways are told of {}", told.servers.join(", ")));
    let fault = lost.or(restart).unwrap_or_else(frozen) + &told;
    let flags: BTreeMap<_, _> = all_logged(&facts)
        .map(|(_, logged)| ((logged.gateway.as_str(), logged.audit_id.as_str()), logged.flags.as_str()))
        .collect();
    let mut through: BTreeMap<&str, Vec<Stream<'_>>> = BTreeMap::new();
    for stream in streams(&facts, None) {
        through.entry(&stream.1.gateway).or_default().push(stream);
    }
    through
        .into_iter()
        .map(|(gateway, all)| Cure {
            gateway: gateway.to_owned(),
            fault: fault.clone(),
            watch_alone: watch(&all, Shape::WatchAlone, &death, bounds),
            watch_busy: watch(&all, Shape::WatchBusy, &death, bounds),
            informer: informer(&all, &death, bounds),
            many: many(&all, &death, bounds),
            requests: requests(&all, Shape::Request, &death, bounds),
            new_watches: requests(&all, Shape::NewWatch, &death, bounds),
            quiet: quiet(&all, &death),
            quiet_sessions: quiet_sessions(&all, &death),
            dead_sessions: Shape::QUIET_SESSIONS.map(|shape| (shape, dead_session(&all, shape, &death))).into(),
            dead_exec: dead_session(&all, Shape::Exec, &death),
            failures: failures((&all, Shape::Request), &death, &flags, bounds),
            new_watch_failures: failures((&all, Shape::NewWatch), &death, &flags, bounds),
            asked: [Shape::Request, Shape::NewWatch].map(|shape| asked(&all, shape, &death, bounds).count()),
            connections: connections(&all),
        })
        .collect()
}

/// When a watch that was on the dead apiserver heard changes again, as often as they were made.
fn watch(all: &[Stream<'_>], shape: Shape, death: &Death<'_>, bounds: &Bounds) -> Recovery {
    recoveries(all, shape, death, bounds).next().unwrap_or(Recovery::Unknown)
}

/// The same of each watch of that shape that was there.
pub(super) fn recoveries<'a>(
    all: &'a [Stream<'a>],
    shape: Shape,
    death: &'a Death<'a>,
    bounds: &'a Bounds,
) -> impl Iterator<Item = Recovery> {
    let mut of_client: BTreeMap<&str, Vec<Moment>> = BTreeMap::new();
    for (began, stream) in all.iter().filter(|(_, stream)| stream.shape == shape) {
        let heard = stream.heard.iter().map(|heard| *began + heard.after);
        let meanwhile = heard.filter(|at| (death.on..death.off).contains(at));
        of_client.entry(&stream.client).or_default().extend(meanwhile);
    }
    let there = move |stream: &&Stream<'_>| stream.1.shape == shape && was_on(stream, death);
    all.iter().filter(there).map(move |(_, first)| {
        let mut heard = of_client.get(first.client.as_str()).cloned().unwrap_or_default();
        heard.sort_unstable();
        let edges = std::iter::once(death.on).chain(heard.iter().copied());
        let gaps = edges.zip(heard.iter().copied().chain([death.off]));
        match gaps.filter(|(from, to)| to.since(*from) > bounds.gateway_silent).last() {
            None => Recovery::Untouched,
            Some((_, to)) if to == death.off => Recovery::Never,
            Some((_, to)) => Recovery::After(to.since(death.on)),
        }
    })
}

fn many(all: &[Stream<'_>], death: &Death<'_>, bounds: &Bounds) -> Option<(usize, Recovery)> {
    let recoveries: Vec<_> = recoveries(all, Shape::WatchMany, death, bounds).collect();
    let worst = recoveries.iter().max_by_key(|recovery| match recovery {
        Recovery::Never | Recovery::Unknown => Duration::MAX,
        Recovery::After(span) => *span,
        Recovery::Untouched => Duration::ZERO,
    });
    worst.map(|worst| (recoveries.len(), *worst))
}

/// When the last request was asked for that had no good answer in time.
fn requests(all: &[Stream<'_>], shape: Shape, death: &Death<'_>, bounds: &Bounds) -> Recovery {
    let asked: Vec<_> = asked(all, shape, death, bounds).collect();
    let bad = asked.iter().rposition(|(_, stream)| !answered_in_time(stream, bounds));
    match bad {
        _ if asked.is_empty() => Recovery::Unknown,
        None => Recovery::Untouched,
        // Two hosts in turn: a good one in between proves nothing.
        Some(last) if asked.len() - last <= bounds.gateway_good_in_a_row as usize => Recovery::Never,
        Some(last) => Recovery::After(asked[last].0.since(death.on)),
    }
}

/// What was asked for while the apiserver was dead, and could still be answered in time.
pub(super) fn asked<'a>(
    all: &'a [Stream<'a>],
    shape: Shape,
    death: &'a Death<'_>,
    bounds: &'a Bounds,
) -> impl Iterator<Item = &'a Stream<'a>> {
    all.iter().filter(move |(began, stream)| {
        stream.shape == shape && *began >= death.on && *began + bounds.gateway_answered < death.off
    })
}

pub(super) fn answered_in_time(stream: &GatewayStream, bounds: &Bounds) -> bool {
    stream.succeeded() && stream.answered.is_some_and(|answered| answered.after <= bounds.gateway_answered)
}

fn quiet(all: &[Stream<'_>], death: &Death<'_>) -> Option<Result<Duration, Duration>> {
    let healthy = |stream: &&Stream<'_>| {
        stream.1.shape == Shape::Quiet
            && stream.1.server.as_deref().is_some_and(|server| server != death.server)
            && open_at(stream, death.on)
    };
    let (began, stream) = all.iter().find(healthy)?;
    Some(match ended(&(*began, stream)) {
        Some(end) => Err(end.since(*began)),
        None => Ok(stream.spoken_to.unwrap_or(stream.lasted)),
    })
}

fn quiet_sessions(all: &[Stream<'_>], death: &Death<'_>) -> BTreeMap<Shape, Result<Duration, Duration>> {
    let healthy = |stream: &&Stream<'_>| {
        stream.1.shape.is_session()
            && stream.1.shape.is_quiet()
            && stream.1.server.as_deref().is_some_and(|server| server != death.server)
            && (stream.1.told.is_some() || stream.1.spoken_to.is_some())
    };
    let lived = |stream: &GatewayStream| match (&stream.told, stream.spoken_to) {
        (Some(end), _) => Err(end.after),
        (None, Some(spoken)) if stream.heard.iter().any(|heard| heard.after >= spoken) => Ok(spoken),
        (None, _) => Err(stream.lasted),
    };
    let mut found = BTreeMap::new();
    for (_, stream) in all.iter().filter(healthy) {
        found.entry(stream.shape).or_insert_with(|| lived(stream));
    }
    found
}

/// When a session on the dead apiserver was ended; that its user lost patience is no end.
fn dead_session(all: &[Stream<'_>], shape: Shape, death: &Death<'_>) -> Recovery {
    let there = |stream: &&Stream<'_>| stream.1.shape == shape && was_on(stream, death);
    let Some(stream) = all.iter().find(there) else { return Recovery::Unknown };
    let end = stream.1.told.as_ref().and_then(|end| end.failure.as_ref());
    // kubectl takes the end of a connection for that of its session, and says nothing of it.
    let by_gateway = end.is_none_or(|failure| failure.class != ErrorClass::Timeout);
    match ended(stream).filter(|end| by_gateway && *end < death.off) {
        Some(end) => Recovery::After(end.since(death.on)),
        None => Recovery::Never,
    }
}

/// What a gateway's log calls the end of a stream, by gateway and Audit-ID.
type Flags<'a> = BTreeMap<(&'a str, &'a str), &'a str>;

fn failures(
    (all, shape): (&[Stream<'_>], Shape),
    death: &Death<'_>,
    flags: &Flags<'_>,
    bounds: &Bounds,
) -> BTreeMap<String, usize> {
    let mut failures = BTreeMap::new();
    // A watch has no end to be cut off from.
    let begun = all.iter().filter(|(_, stream)| stream.shape == shape && shape == Shape::Request);
    let begun = begun.filter(|stream| open_at(stream, death.on));
    let cut = begun.filter(|(_, stream)| stream.told.as_ref().is_none_or(|end| end.failure.is_some())).count();
    if cut > 0 {
        failures.insert("cut in its body".to_owned(), cut);
    }
    for (began, stream) in asked(all, shape, death, bounds).filter(|(_, stream)| !answered_in_time(stream, bounds)) {
        let what = match (stream.answered, &stream.told) {
            (Some(answered), _) if !stream.succeeded() => {
                let flags = flags.get(&(stream.gateway.as_str(), stream.audit_id.as_str()));
                flags.map_or(answered.status.to_string(), |flags| format!("{} {flags}", answered.status))
            }
            (None, Some(end)) if end.after < bounds.gateway_answered => {
                end.failure.as_ref().map_or("nothing".to_owned(), |failure| failure.class.to_string())
            }
            (Some(answered), _) if *began + answered.after < death.off => "slow".to_owned(),
            // Answered when the fault was over, or not at all.
            _ => "hung".to_owned(),
        };
        *failures.entry(what).or_default() += 1;
    }
    failures
}

/// The most connections that the clients of a gateway's lane had, or that an informer had: where a gateway has one worker 1, if none was ever closed.
pub(super) fn connections(all: &[Stream<'_>]) -> usize {
    let lane = |shape: Shape| match shape {
        Shape::WatchAlone | Shape::WatchMany | Shape::Quiet => 0,
        Shape::WatchBusy | Shape::Request => 1,
        Shape::NewWatch => 2,
        // Informers and sessions have their own; kube-rs keeps those to itself.
        other => 3 + other as i32,
    };
    let mut locals: BTreeMap<(&str, i32, &str), std::collections::BTreeSet<&str>> = BTreeMap::new();
    // By HTTP/1.1 a connection ends with a watch that is cut short.
    let counts = |stream: &GatewayStream| !stream.local.is_empty() && stream.shape != Shape::WatchHttp1;
    for (_, stream) in all.iter().filter(|(_, stream)| counts(stream)) {
        let client = if stream.shape.is_alone() { stream.client.as_str() } else { "" };
        locals.entry((&stream.gateway, lane(stream.shape), client)).or_default().insert(&stream.local);
    }
    locals.values().map(std::collections::BTreeSet::len).max().unwrap_or(0)
}
