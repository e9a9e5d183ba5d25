//! Evidence taken away: what is absent from a recording counts for nobody.
//!
//! Each requirement says below which kinds of observations it rests on. Of a run in which all is well, one kind is taken away at a time: all of it,
//! that of one apiserver, or that of one restart. Whatever rests on it is then no longer upheld, by claim and recording together
//! ([`judge_all`]); how it is worded, inconclusive or violated, is the claim's own affair.
//!
//! ```text
//! graceful roll, all /readyz samples of apiserver-1 gone           ->  ROLLOUT-3 is not upheld; ROLLOUT-1 may be
//! graceful roll, no sign of life of ours during the second restart ->  nothing is upheld
//! ```

use std::collections::{BTreeMap, BTreeSet};

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::verdict::{Verdict, judge_all};

use crate::reads::with_reads;
use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{Library, New, Reused};
use Kind::*;
use Restart::{Graceful, Killed};

/// Kinds of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    NewRequests,
    ReusedRequests,
    LibraryReads,
    Writes,
    WatchEvents,
    WatchCalls,
    WatchEnds,
    Lists,
    Readyz,
    Livez,
    LoadSteps,
    LoadAtTheEnd,
    HeldCreates,
    HeldLists,
    Reads,
    GuardedUpdates,
    CounterAtTheEnd,
    Bookmarks,
    AuditLines,
    AuditLogs,
    Ticks,
    ProbesAtWork,
    FaultsOn,
    FaultsOff,
    Life(Step),
}

/// Where a kind of evidence is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Everywhere,
    /// Of the apiserver with this number.
    OfServer(usize),
    /// From 0.6 s after that apiserver's signal until it is back.
    InRestart(usize),
}

const KINDS: [Kind; 37] = [
    NewRequests,
    ReusedRequests,
    LibraryReads,
    Writes,
    WatchEvents,
    WatchCalls,
    WatchEnds,
    Lists,
    Readyz,
    Livez,
    LoadSteps,
    LoadAtTheEnd,
    HeldCreates,
    HeldLists,
    Reads,
    GuardedUpdates,
    CounterAtTheEnd,
    Bookmarks,
    AuditLines,
    AuditLogs,
    Ticks,
    ProbesAtWork,
    FaultsOn,
    FaultsOff,
    Life(Step::TermSent),
    Life(Step::KillSent),
    Life(Step::ShutdownInitiated),
    Life(Step::AfterShutdownDelayDuration),
    Life(Step::PreShutdownHooksStopped),
    Life(Step::NotAcceptingNewRequest),
    Life(Step::HTTPServerStoppedListening),
    Life(Step::InFlightRequestsDrained),
    Life(Step::Exited),
    Life(Step::Started),
    Life(Step::Ready),
    Life(Step::MetThroughBalancer),
    Life(Step::Frozen),
];

const SCOPES: [Where; 5] =
    [Where::Everywhere, Where::OfServer(0), Where::OfServer(1), Where::InRestart(0), Where::InRestart(1)];

/// What proves a graceful restart, and that it was over.
const GRACEFUL: &[Kind] =
    &[FaultsOn, FaultsOff, Life(Step::TermSent), Life(Step::ShutdownInitiated), Life(Step::Exited)];

/// What proves a kill.
const KILL: &[Kind] = &[FaultsOn, FaultsOff, Life(Step::KillSent), Life(Step::Exited)];

/// What each requirement rests on, besides the proof of the faults, our own signs of life, and the word of which probes observed. What a row does not have, its sentence does not ask
/// for: another probe's samples, a signal that it does not name.
const RESTS_ON: &[(&str, &[Kind])] = &[
    ("WATCH-1", &[Writes, WatchEvents]),
    ("WATCH-2", &[Writes, WatchEvents]),
    ("WATCH-3", &[Writes, WatchEvents]),
    // That a watch went on is told by its requests alone, and by what it then delivered.
    ("WATCH-4", &[Writes, WatchEvents, WatchCalls]),
    ("WATCH-5", &[Writes, WatchEvents]),
    ("WATCH-6", &[Writes, WatchEvents]),
    // A watch that has no list again is not asked; a reader lists all the time.
    ("WATCH-7", &[Reads]),
    ("WATCH-8", &[Writes, WatchEvents, Bookmarks]),
    // It excuses nothing, so no audit log is asked.
    ("ROLLOUT-1", &[NewRequests]),
    ("ROLLOUT-2", &[ReusedRequests, AuditLines, AuditLogs]),
    ("ROLLOUT-3", &[Readyz]),
    ("ROLLOUT-4", &[Livez]),
    (
        "ROLLOUT-5",
        &[
            Life(Step::AfterShutdownDelayDuration),
            Life(Step::NotAcceptingNewRequest),
            Life(Step::HTTPServerStoppedListening),
        ],
    ),
    ("ROLLOUT-6", &[Life(Step::Started), Life(Step::Ready), Life(Step::MetThroughBalancer)]),
    ("ROLLOUT-7", &[NewRequests]),
    ("ROLLOUT-8", &[ReusedRequests]),
    // Either kind of request shows it; both are gone in a combination below.
    ("ROLLOUT-9", &[]),
    ("ROLLOUT-10", &[LoadSteps, LoadAtTheEnd]),
    ("ROLLOUT-11", &[LibraryReads, AuditLines, AuditLogs]),
    ("ROLLOUT-12", &[LoadSteps, AuditLines, AuditLogs]),
    // Each requester by itself.
    ("ROLLOUT-13", &[NewRequests, ReusedRequests, LibraryReads]),
    ("ROLLOUT-14", &[Reads, Writes]),
    ("ROLLOUT-15", &[GuardedUpdates, CounterAtTheEnd]),
    ("BALANCER-1", &[NewRequests]),
    ("BALANCER-2", &[NewRequests, Readyz, Life(Step::Started)]),
    ("BALANCER-3", &[ReusedRequests]),
    ("BALANCER-4", &[NewRequests, Life(Step::Ready)]),
];

/// Evidence of several kinds that is missing together: its name, the kinds, where it is missing, and the requirements that rest on one of them.
type Combination = (&'static str, &'static [Kind], &'static [Where], &'static [&'static str]);

const COMBINATIONS: &[Combination] = &[
    ("requests in flight", &[HeldCreates, HeldLists], &SCOPES, &["ROLLOUT-9"]),
    (
        "writes and their events",
        &[Writes, WatchEvents],
        &SCOPES,
        &["WATCH-1", "WATCH-2", "WATCH-3", "WATCH-4", "WATCH-5", "WATCH-6"],
    ),
    ("all of the watch", &[WatchEvents, WatchCalls, WatchEnds, Lists], &SCOPES, &["WATCH-1", "WATCH-4", "WATCH-6"]),
    // In one restart only, a watch may have been on the other apiserver.
    ("how watches end and go on", &[WatchCalls, WatchEnds], &[Where::Everywhere], &["WATCH-4"]),
    ("looks at an apiserver", &[Readyz, Livez], &SCOPES, &["ROLLOUT-3", "ROLLOUT-4", "BALANCER-2"]),
    (
        "audit logs and their lines",
        &[AuditLines, AuditLogs],
        &[Where::Everywhere, Where::OfServer(0)],
        &["ROLLOUT-2", "ROLLOUT-11", "ROLLOUT-12"],
    ),
    (
        "the end of a process",
        &[
            Life(Step::ShutdownInitiated),
            Life(Step::AfterShutdownDelayDuration),
            Life(Step::NotAcceptingNewRequest),
            Life(Step::HTTPServerStoppedListening),
            Life(Step::InFlightRequestsDrained),
            Life(Step::Exited),
        ],
        &SCOPES,
        ALL,
    ),
    (
        "all that is known of an apiserver",
        &[
            FaultsOn,
            FaultsOff,
            Life(Step::TermSent),
            Life(Step::KillSent),
            Life(Step::ShutdownInitiated),
            Life(Step::AfterShutdownDelayDuration),
            Life(Step::PreShutdownHooksStopped),
            Life(Step::NotAcceptingNewRequest),
            Life(Step::HTTPServerStoppedListening),
            Life(Step::InFlightRequestsDrained),
            Life(Step::Exited),
            Life(Step::Started),
            Life(Step::Ready),
            Life(Step::MetThroughBalancer),
            Readyz,
            Livez,
        ],
        &[Where::Everywhere, Where::OfServer(0), Where::OfServer(1)],
        ALL,
    ),
];

/// Of a combination: whatever a run with restarts is judged by.
const ALL: &[&str] = &["all"];

/// What a requirement needs nothing of although it rests on its kind, and why.
const NEEDS_NOTHING: &[(&str, Kind, Where, &str)] = &[
    ("ROLLOUT-1", NewRequests, Where::OfServer(0), OTHERS),
    ("ROLLOUT-1", NewRequests, Where::OfServer(1), OTHERS),
    ("WATCH-4", WatchCalls, Where::InRestart(0), IN_TIME),
    ("WATCH-8", Bookmarks, Where::InRestart(0), LATER_ONES),
    ("WATCH-8", Bookmarks, Where::InRestart(1), LATER_ONES),
    ("ROLLOUT-13", NewRequests, Where::OfServer(0), OTHERS),
    ("ROLLOUT-13", NewRequests, Where::OfServer(1), OTHERS),
    ("BALANCER-3", ReusedRequests, Where::OfServer(0), ONE_IS_ENOUGH),
    ("BALANCER-3", ReusedRequests, Where::OfServer(1), ONE_IS_ENOUGH),
    ("ROLLOUT-2", AuditLines, Where::OfServer(1), NOT_ITS_LOG),
    ("ROLLOUT-2", AuditLogs, Where::OfServer(1), NOT_ITS_LOG),
    ("ROLLOUT-11", AuditLines, Where::OfServer(1), NOT_ITS_LOG),
    ("ROLLOUT-11", AuditLogs, Where::OfServer(1), NOT_ITS_LOG),
    ("ROLLOUT-12", AuditLines, Where::OfServer(1), NOT_ITS_LOG),
    ("ROLLOUT-12", AuditLogs, Where::OfServer(1), NOT_ITS_LOG),
];
const IN_TIME: &str = "the next request, of the second restart, is within the bound, and from the last revision";
const LATER_ONES: &str = "a bookmark speaks of all that came before it, also in that restart";
const OTHERS: &str = "new connections to the other apiserver are samples all the same";
const ONE_IS_ENOUGH: &str = "a connection that was established on the other apiserver puts it to the test";
const NOT_ITS_LOG: &str = "the certificate says that what was excused was sent to apiserver 0";

/// What the steady run needs nothing of although the others do, and why.
fn needless_while_nothing_happens(id: &str, kind: Kind, missing: Where) -> Option<&'static str> {
    let in_a_window = matches!(missing, Where::InRestart(_));
    match kind {
        AuditLines | AuditLogs => Some("nothing was excused"),
        WatchCalls => Some("no watch had to go on"),
        Writes | WatchEvents if in_a_window && id.starts_with("WATCH") => {
            Some("a writer may rest, and events that are missing are WATCH-1's")
        }
        _ => None,
    }
}

/// What an observation is evidence of, and on which apiserver.
fn kind_of(event: &Event) -> Option<(Kind, Option<&str>)> {
    Some(match event {
        Event::Request(request) => {
            let probe = request.probe.as_str();
            let kinds = [(New, NewRequests), (Reused, ReusedRequests), (Library, LibraryReads)];
            let (_, kind) = kinds.into_iter().find(|(on, _)| requester(*on) == probe)?;
            // Which connections a library uses, it does not tell.
            (kind, request.exchange.server.as_deref().filter(|_| kind != LibraryReads))
        }
        Event::Write(write) => (Writes, write.exchange.server.as_deref()),
        Event::Delivered(_) => (WatchEvents, None),
        Event::ListWatch(_) => (WatchCalls, None),
        Event::WatchEnded(_) => (WatchEnds, None),
        Event::Listed(_) => (Lists, None),
        Event::ServerHealth(health) => (if health.path == "/readyz" { Readyz } else { Livez }, Some(&health.server)),
        Event::Load(_) => (LoadSteps, None),
        Event::LoadLeft(_) => (LoadAtTheEnd, None),
        Event::InFlight(held) => {
            (if held.held == Held::Create { HeldCreates } else { HeldLists }, Some(held.server.as_str()))
        }
        Event::Read(_) => (Reads, None),
        Event::GuardedUpdate(_) => (GuardedUpdates, None),
        Event::GuardedLeft(_) => (CounterAtTheEnd, None),
        Event::Bookmark(_) => (Bookmarks, None),
        Event::Audited(audited) => (AuditLines, Some(&audited.server)),
        Event::AuditLog(log) => (AuditLogs, Some(&log.server)),
        Event::Ticked(_) => (Ticks, None),
        Event::Observers(_) => (ProbesAtWork, None),
        Event::FaultOn(fault) => (FaultsOn, Some(&fault.server)),
        Event::FaultOff(fault) => (FaultsOff, Some(&fault.server)),
        Event::Lifecycle(life) => (Life(life.step), Some(&life.server)),
        _ => return None,
    })
}

/// The recording without that evidence; `None` if it has none.
fn without(recording: &Recording, kinds: &[Kind], missing: Where) -> Option<Recording> {
    let mut left = recording.clone();
    left.observations.retain(|seen| {
        let Some((kind, server)) = kind_of(&seen.event) else { return true };
        let there = match missing {
            Where::Everywhere => true,
            Where::OfServer(number) => server == Some(SERVERS[number]),
            Where::InRestart(number) => within(seen.at, &(FAULTS[number].start + 600..FAULTS[number].end)),
        };
        !there || !kinds.contains(&kind)
    });
    (left.observations.len() < recording.observations.len()).then_some(left)
}

fn upheld_in(recording: &Recording) -> BTreeSet<&'static str> {
    let judgements = judge_all(recording).expect("known requirements");
    let upheld = judgements.into_iter().filter(|judgement| judgement.verdict == Verdict::Upheld);
    upheld.map(|judgement| judgement.requirement.id).collect()
}

/// Whether a requirement, in such a run, rests on that kind of evidence there.
fn rests_on(id: &str, disturbance: Option<Restart>, kind: Kind, missing: Where) -> bool {
    let (_, own) = RESTS_ON.iter().find(|(known, _)| *known == id).unwrap_or_else(|| panic!("what does {id} rest on?"));
    let faults = match disturbance {
        None => &[],
        Some(Graceful) => GRACEFUL,
        Some(Killed) => KILL,
    };
    let needless = NEEDS_NOTHING.iter().any(|(known, of, place, _)| (*known, *of, *place) == (id, kind, missing))
        || disturbance.is_none() && needless_while_nothing_happens(id, kind, missing).is_some();
    own.iter().chain(faults).chain(&[Ticks, ProbesAtWork]).any(|of| *of == kind) && !needless
}

/// The cells of the matrix in which a requirement is upheld without what it rests on.
fn wrong_cells(run: &Recording) -> Vec<String> {
    let disturbance = run.header.disturbance;
    let mut wrong = Vec::new();
    let mut upheld_without = |what: &str, kinds: &[Kind], missing, rests: &dyn Fn(&str) -> bool| {
        let Some(left) = without(run, kinds, missing) else { return };
        let upheld = upheld_in(&left).into_iter().filter(|id| rests(id));
        wrong.extend(upheld.map(|id| format!("{id} without {what} {missing:?}")));
    };
    for missing in SCOPES {
        for kind in KINDS {
            upheld_without(&format!("{kind:?}"), &[kind], missing, &|id| rests_on(id, disturbance, kind, missing));
        }
        for (what, kinds, _, requirements) in COMBINATIONS.iter().filter(|(_, _, scopes, _)| scopes.contains(&missing))
        {
            let needless = |id: &str| {
                let each = |kind: &Kind| needless_while_nothing_happens(id, *kind, missing).is_some();
                disturbance.is_none() && kinds.iter().any(each)
            };
            let all = *requirements == ALL && disturbance.is_some();
            upheld_without(what, kinds, missing, &|id| (all || requirements.contains(&id)) && !needless(id));
        }
    }
    wrong
}

/// A graceful roll in which each excuse that asks an audit log is granted once, on apiserver 0.
fn with_excuses() -> Run {
    let closed = |exchange: &mut Exchange| {
        let connection = exchange.connection.take().map(|used| ConnectionUse { reused: true, ..used });
        let (audit_id, server) = (std::mem::take(&mut exchange.audit_id), Some(SERVERS[0].to_owned()));
        *exchange = Exchange { audit_id, connection, server, ..failed(Phase::Headers, ErrorClass::ConnectionReset) };
    };
    let mut retries = Vec::new();
    let run = run(Some(Graceful)).edit(|seen| {
        let again = |exchange: &Exchange| {
            let connection = exchange.connection.clone().map(|used| ConnectionUse { reused: false, ..used });
            let audit_id = format!("{}-again", exchange.audit_id);
            Exchange { audit_id, connection, server: Some(SERVERS[1].into()), ..answered(200) }
        };
        let at = seen.at.0 / 1_000_000;
        match &mut seen.event {
            Event::Request(request) if request.on == Reused && at == 6001 => {
                let first = Some(request.exchange.audit_id.clone());
                let retry = Request { retries: first, exchange: again(&request.exchange), ..request.clone() };
                retries.push((at + 3, Event::Request(retry)));
                closed(&mut request.exchange);
            }
            Event::Request(request) if request.on == Library && at == 6051 => closed(&mut request.exchange),
            Event::Load(load) if load.verb == LoadVerb::Get && at == 6100 => {
                let first = Some(load.exchange.audit_id.clone());
                let retry = Load { retries: first, exchange: again(&load.exchange), ..load.clone() };
                retries.push((at + 3, Event::Load(retry)));
                closed(&mut load.exchange);
            }
            _ => {}
        }
    });
    assert_eq!(retries.len(), 2, "both were there to fail");
    retries.into_iter().fold(run, |run, (at, retry)| run.with(at, retry))
}

/// The watch is told each second how far it has come.
fn with_bookmarks(run: Run) -> Run {
    let told = run.delivered().into_iter().step_by(20).map(|place| match &run.0.observations[place] {
        Observation { at, event: Event::Delivered(event) } => (at.0 / 1_000_000 + 1, event.revision),
        other => panic!("{other:?} is no event"),
    });
    let bookmark = |revision| Event::Bookmark(Bookmark { probe: WATCH.into(), revision, initial_events_end: false });
    let bookmarks: Vec<_> = told.map(|(at, revision)| (at, bookmark(revision))).collect();
    let judged = ["WATCH-7", "WATCH-8"];
    let run = run.header(|header| {
        let by = |id: &str| JudgedBy { requirement: id.into(), expected: Expected::Upheld, gateway: None };
        // The others are asked in the runs above.
        header.judged_by.retain(|by| ["ROLLOUT-13", "ROLLOUT-14", "ROLLOUT-15"].contains(&by.requirement.as_str()));
        header.judged_by.extend(judged.map(by));
    });
    bookmarks.into_iter().fold(run, |run, (at, bookmark)| run.with(at, bookmark))
}

#[test]
fn what_a_requirement_rests_on_may_not_be_absent() {
    let runs = [
        ("graceful", with_excuses()),
        ("killed", run(Some(Killed))),
        ("steady", run(None)),
        ("read and written", with_bookmarks(with_reads(Some(Graceful)))),
    ];
    let mut wrong = BTreeMap::new();
    for (name, run) in runs {
        let whole = run.whole();
        let asked: BTreeSet<_> = whole.header.judged_by.iter().map(|by| by.requirement.as_str()).collect();
        assert_eq!(upheld_in(&whole), asked, "{name}: all is well as long as all is there");
        wrong.insert(name, wrong_cells(&whole));
    }
    assert!(wrong.values().all(Vec::is_empty), "upheld, though what they rest on is missing: {wrong:#?}");
}

#[test]
fn the_table_is_about_what_is_judged() {
    let rows = RESTS_ON.iter().map(|(id, _)| id).chain(NEEDS_NOTHING.iter().map(|(id, ..)| id));
    for id in rows {
        assert!(spec::requirement(id).is_some(), "{id} is no requirement");
    }
    assert!(NEEDS_NOTHING.iter().all(|(.., why)| !why.is_empty()));
}
