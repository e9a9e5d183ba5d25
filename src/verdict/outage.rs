//! ROLLOUT-1, -2, -7, -8, -11: what restarts cost requesters.
//!
//! During a graceful roll (and in a steady state, the baseline) no outage is allowed; a kill may cost a bounded one.
//! What counts as an outage is [`timeline::outages`](crate::timeline::outages)'s; what is excused, and how often, [`excuses`](super::excuses)'.
//! On new connections nothing is.
//!
//! ```text
//! graceful:  ok ok error error ok                           ->  violated: 1 outage, of 0.1 s
//! graceful:  ok ok reset ok(retry) ok, on a kept connection ->  upheld, closed-while-idle 1 of 2
//! graceful:  ok 503 ok(retry) ok, on a kept connection      ->  upheld, likewise: that apiserver was stopping
//! graceful:  ok 503 ok(retry) ok, nobody was stopping       ->  violated
//! graceful:  an outage, and apiserver-1 never comes back    ->  violated
//! graceful:  ok ok ok, on a connection to neither of them   ->  inconclusive: no restart met it
//! killed:    ok error ... (2 s) ... error ok, bound 3.5 s   ->  upheld, worst outage 2 s
//! killed:    ok error ... (4 s) ... error ok, bound 3.5 s   ->  violated
//! library:   503 ok, which it repeated by itself            ->  upheld; below its retries, 1 outage
//! library:   ok EOF ok, on a pooled connection that its stopping apiserver closed  ->  upheld, read-not-repeated 1 of 2
//! ```
//!
//! Each requester is judged by itself, and the one that was without service for longest is named: the probes' names tell
//! protocol and connection.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::carried::{max_elapsed, past_it, replaced};
use super::conclusive::{Rests, Traffic, breach, conclude, seen_working};
use super::excerpt::excerpt;
use super::excuses::Grants;
use super::facts::Facts;
use super::{Figure, Verdict, goaway};
use crate::spec::excuse::{CLOSED_WHILE_IDLE, Excuse, READ_NOT_REPEATED, REFUSED_WHILE_STOPPING};
use crate::timeline::{ConnectionKind, Counted, Event, Exchange, Moment, Outage, Request, Restart, Step, outages};

/// ROLLOUT-1.
pub(super) fn none_on_new(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    none(facts, ConnectionKind::New)
}

/// ROLLOUT-2.
pub(super) fn none_on_reused(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    none(facts, ConnectionKind::Reused)
}

/// ROLLOUT-11.
pub(super) fn none_in_library(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    none(facts, ConnectionKind::Library)
}

/// ROLLOUT-7.
pub(super) fn bounded_on_new(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    bounded(facts, ConnectionKind::New)
}

/// ROLLOUT-8.
pub(super) fn bounded_on_reused(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    bounded(facts, ConnectionKind::Reused)
}

fn none(facts: &Facts<'_>, on: ConnectionKind) -> (Verdict, Vec<Figure>) {
    match facts.disturbance() {
        Some(Restart::Killed) => {
            (Verdict::inconclusive("apiservers were killed here: this is about graceful restarts"), Vec::new())
        }
        Some(Restart::Graceful) | None => judge(facts, on, None),
    }
}

fn bounded(facts: &Facts<'_>, on: ConnectionKind) -> (Verdict, Vec<Figure>) {
    match facts.disturbance() {
        Some(Restart::Killed) => judge(facts, on, Some(facts.bounds.outage_after_kill)),
        Some(Restart::Graceful) | None => (Verdict::inconclusive("no apiserver was killed here"), Vec::new()),
    }
}

/// A requester, its outages, and what was excused.
struct Seen<'a> {
    probe: &'a str,
    requests: &'a [(Moment, &'a Request)],
    outages: Vec<Outage<'a>>,
    grants: Grants,
}

impl Seen<'_> {
    fn worst(&self) -> Duration {
        self.outages.iter().map(Outage::length).max().unwrap_or_default()
    }

    fn count(&self, which: impl Fn(&Request) -> bool) -> usize {
        self.requests.iter().filter(|(_, request)| which(request)).count()
    }

    fn classes(&self) -> BTreeMap<String, usize> {
        classes(self.requests.iter().map(|(_, request)| *request))
    }
}

/// Judges the outages of each requester of one kind; those no longer than `allowed` are.
fn judge(facts: &Facts<'_>, on: ConnectionKind, allowed: Option<Duration>) -> (Verdict, Vec<Figure>) {
    let seen = facts.requesters_on(on).map(|(probe, requests)| {
        let (outages, grants) = counted(facts, on, requests);
        Seen { probe, requests, outages, grants }
    });
    let mut seen: Vec<_> = seen.collect();
    // Of several that broke it, the worst is shown.
    seen.sort_by_key(|seen| std::cmp::Reverse(seen.worst()));
    let verdicts = seen.iter().map(|Seen { probe, requests, outages, grants }| {
        // A request on a kept connection says nothing about new ones, nor one past the balancer about it.
        let counts =
            |exchange: &Exchange| !(on == ConnectionKind::New && exchange.was_kept() || past_it(facts, exchange));
        let samples = requests.iter().filter(|(_, request)| counts(&request.exchange));
        let samples = samples.map(|(at, request)| (*at, request.exchange.took, request.exchange.succeeded()));
        let traffic = Traffic::of(facts, format!("the requester {probe}"), facts.bounds.request_gap, samples).steady();
        let found = seen_working(facts, &traffic, claim(facts, probe, outages, allowed));
        let unmet = || unmet(facts, requests).filter(|_| on == ConnectionKind::Reused);
        let found = match (found, &grants.doubt) {
            (Verdict::Upheld, Some(doubt)) => Verdict::inconclusive(doubt),
            (Verdict::Upheld, None) if let Some(why) = unmet() => Verdict::inconclusive(format!("{why} ({probe})")),
            (found, _) => found,
        };
        conclude(facts, &[&traffic], found)
    });
    let kind = match on {
        ConnectionKind::New => "requester on new connections",
        ConnectionKind::Reused => "requester on reused connections",
        ConnectionKind::Library => "client library",
    };
    let verdict =
        Verdict::worst(verdicts).unwrap_or_else(|| Verdict::inconclusive(format!("no {kind} is in the recording")));
    let verdict = match verdict {
        Verdict::Upheld if let Some(why) = goaway::unseen(facts).filter(|_| on == ConnectionKind::Reused) => {
            Verdict::inconclusive(why)
        }
        verdict => verdict,
    };
    let mut figures = figures(&seen, on);
    figures.extend(max_elapsed(facts, on));
    if on == ConnectionKind::Reused {
        figures.push(Figure::count("kept connections replaced", replaced(facts).len()));
    }
    (verdict, figures)
}

/// Why nothing can be said of a kept connection, if no restart met it: it was never on an apiserver that was about to be stopped.
fn unmet(facts: &Facts<'_>, requests: &[(Moment, &Request)]) -> Option<String> {
    let kept = || requests.iter().filter(|(_, request)| request.exchange.was_kept());
    if kept().next().is_none() {
        return Some("no request was on a connection that was kept".to_owned());
    }
    facts.disturbance()?;
    let mut known = kept().filter_map(|(at, request)| Some((*at, request.exchange.server.as_deref()?)));
    if known.clone().next().is_none() {
        return Some("nobody knows which apiserver the kept connection was on".to_owned());
    }
    let met = known.any(|(at, server)| {
        facts.restarts.iter().any(|restart| {
            let gone = restart.at(Step::Exited).or(restart.off).unwrap_or(facts.end);
            restart.server == server && at + facts.bounds.request_gap >= restart.signal() && at <= gone
        })
    });
    (!met).then(|| "no restart met the kept connection: it was on no apiserver that was stopped".to_owned())
}

/// A requester's outages, and what was excused.
pub(super) fn counted<'a>(
    facts: &Facts<'a>,
    on: ConnectionKind,
    requests: &[(Moment, &'a Request)],
) -> (Vec<Outage<'a>>, Grants) {
    let grants = match on {
        ConnectionKind::New => Grants::default(),
        ConnectionKind::Reused => Grants::to_requester(facts, requests),
        ConnectionKind::Library => Grants::to_library(facts, requests),
    };
    let found = outages_but(requests, &grants);
    let killed = facts.disturbance() == Some(Restart::Killed);
    (if killed { by_fault(facts, found) } else { found }, grants)
}

/// The outages among requests, but for what was excused.
pub(super) fn outages_but<'a, T: Counted>(requests: &[(Moment, &'a T)], grants: &Grants) -> Vec<Outage<'a, T>> {
    let excused = requests.iter().enumerate().filter(|(place, _)| grants.excuses(*place));
    let excused: HashSet<*const T> = excused.map(|(_, (_, request))| std::ptr::from_ref(*request)).collect();
    outages(requests.iter().copied(), |request| excused.contains(&std::ptr::from_ref(request)))
}

/// The outages that one fault costs, as one: between them the client was served, but by luck. A balancer that sends every
/// other connection to a dead server causes many short outages, and is without service until the last.
fn by_fault<'a>(facts: &Facts<'a>, found: Vec<Outage<'a>>) -> Vec<Outage<'a>> {
    let mut merged: Vec<Outage<'a>> = Vec::new();
    for outage in found {
        match merged.last_mut().filter(|last| fault_of(facts, last) == fault_of(facts, &outage)) {
            Some(last) => {
                last.until = last.until.max(outage.until);
                last.recovered = outage.recovered;
                last.failed.extend(outage.failed);
            }
            None => merged.push(outage),
        }
    }
    merged
}

/// The last fault before an outage, by its place. A request that was under way when the fault came had begun before it.
fn fault_of(facts: &Facts<'_>, outage: &Outage<'_>) -> Option<usize> {
    let struck = outage.from + outage.failed.first().map_or(Duration::ZERO, |failed| failed.exchange.took);
    facts.restarts.iter().rposition(|restart| restart.on <= struck)
}

fn claim(facts: &Facts<'_>, probe: &str, found: &[Outage<'_>], allowed: Option<Duration>) -> Verdict {
    let broken = |outage: &&Outage<'_>| allowed.is_none_or(|allowed| since_the_kill(facts, outage) > allowed);
    let told = |outage: &Outage<'_>, count| violated(facts, probe, outage, count, allowed);
    worst_outage(facts, found.iter().filter(broken).collect(), |_| probe, told)
}

/// The worst outage that stands. `told` tells of one, of so many; `whose` names who met it. Those that were over before anything was disturbed
/// are none of a restart's. Where nobody restarts anything, all of them count.
pub(super) fn worst_outage<'a, T: Counted>(
    facts: &Facts<'_>,
    found: Vec<&'a Outage<'a, T>>,
    whose: impl Fn(&'a T) -> &'a str,
    told: impl Fn(&Outage<'a, T>, usize) -> Verdict,
) -> Verdict {
    let (disturbed, _) = facts.disturbed();
    let before = |outage: &&Outage<'_, T>| !facts.restarts.is_empty() && outage.until < disturbed;
    let (early, mut worst_first): (Vec<_>, Vec<_>) = found.into_iter().partition(before);
    worst_first.sort_by_key(|outage| std::cmp::Reverse(outage.length()));
    let verdicts = worst_first.iter().map(|outage| {
        let rests = Rests::OnTime(began_with(facts, outage), outage.until);
        breach(facts, rests, told(outage, worst_first.len()))
    });
    let early = || Some(too_early(facts, early.first()?, whose(early.first()?.failed.first()?)));
    Verdict::worst(verdicts).or_else(early).unwrap_or(Verdict::Upheld)
}

/// What can be said where all outages were too early.
fn too_early<T: Counted>(facts: &Facts<'_>, first: &Outage<'_, T>, probe: &str) -> Verdict {
    let (from, classes) = (facts.clock(first.from), class_list(&first.failed));
    Verdict::inconclusive(format!("requests failed before anything was disturbed: {classes} from {from} on ({probe})"))
}

/// How long after the kill before it an outage was over: a balancer that needs longer to notice may also let clients fail late.
fn since_the_kill(facts: &Facts<'_>, outage: &Outage<'_>) -> Duration {
    let kill = fault_of(facts, outage).map_or(outage.from, |place| facts.restarts[place].on);
    outage.until.since(kill.min(outage.from))
}

fn violated(facts: &Facts<'_>, probe: &str, worst: &Outage<'_>, count: usize, allowed: Option<Duration>) -> Verdict {
    let expected = match allowed {
        None => "no outage".to_owned(),
        Some(allowed) => format!("no outage later than {:.3} s after a kill", allowed.as_secs_f64()),
    };
    let over = match allowed {
        None => String::new(),
        Some(_) => format!(", over {:.3} s after the kill", since_the_kill(facts, worst).as_secs_f64()),
    };
    let count = match count {
        1 => "1 outage".to_owned(),
        count => format!("{count} outages, the worst"),
    };
    let (seconds, from) = (worst.length().as_secs_f64(), facts.clock(worst.from));
    let open = if worst.recovered { "" } else { " and not over at the end" };
    let (failed, classes) = (worst.failed.len(), class_list(&worst.failed));
    let phase = phase(facts, worst);
    Verdict::Violated {
        expected,
        actual: format!(
            "{count} of {seconds:.3} s from {from} on{open}: {failed} requests failed ({classes}), {phase}{over} ({probe})"
        ),
        excerpt: excerpt(facts, worst.from, |event| match event {
            Event::Request(request) => request.probe == probe,
            Event::Lifecycle(_) | Event::BackendHealth(_) | Event::FaultOn(_) | Event::FaultOff(_) => true,
            _ => false,
        }),
    }
}

/// Since when a stall of ours may have had to do with an outage: since its beginning; since the SIGTERM before, if we did not run for longer
/// than a balancer has to spare in the shutdown delay, so that one on this machine may have been late.
pub(super) fn began_with<T>(facts: &Facts<'_>, outage: &Outage<'_, T>) -> Moment {
    began_at(facts, outage.from)
}

/// Likewise, of a failure that began then.
pub(super) fn began_at(facts: &Facts<'_>, from: Moment) -> Moment {
    let timers = &facts.recording.header.timers;
    let to_spare = timers.shutdown_delay.saturating_sub(timers.detection());
    let term = facts.restarts.iter().filter_map(|restart| restart.at(Step::TermSent)).rfind(|term| *term <= from);
    let Some(term) = term else { return from };
    if facts.stalls.total(term, from) > to_spare { term } else { from }
}

/// Which apiserver an outage probably comes from: the one whose life went through a step last, and where it stood.
pub(super) fn phase<T>(facts: &Facts<'_>, outage: &Outage<'_, T>) -> String {
    let (disturbed, _) = facts.disturbed();
    let last = facts.lifecycle.partition_point(|(at, _)| *at <= outage.from);
    let step = facts.lifecycle[..last].last().filter(|(at, _)| !facts.restarts.is_empty() && *at >= disturbed);
    match step {
        Some((at, seen)) => {
            let ago = outage.from.since(*at).as_secs_f64();
            format!("{ago:.3} s after {} was at {:?}", seen.server, seen.step)
        }
        None => "while no apiserver was being restarted".to_owned(),
    }
}

/// Failures by class, in the fixed order of the classes: `connection refused x3, timeout x1`.
pub(super) fn class_list<T: Counted>(failed: &[&T]) -> String {
    let classes = classes(failed.iter().copied());
    classes.into_iter().map(|(class, count)| format!("{class} x{count}")).collect::<Vec<_>>().join(", ")
}

pub(super) fn classes<'a, T: Counted + 'a>(requests: impl Iterator<Item = &'a T>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests.filter(|request| !request.succeeded()) {
        let class = match (&request.exchange().failure, request.exchange().status) {
            (Some(failure), _) => failure.class.to_string(),
            (None, Some(status)) => format!("status {status}"),
            (None, None) => "no answer".to_owned(),
        };
        *counts.entry(class).or_insert(0) += 1;
    }
    counts
}

/// Of all requesters together, then of each.
fn figures(seen: &[Seen<'_>], on: ConnectionKind) -> Vec<Figure> {
    let refused = |request: &Request| request.exchange.status == Some(429);
    let repaired = |request: &Request| request.retries.is_some() && request.exchange.succeeded();
    let sum = |count: &dyn Fn(&Seen<'_>) -> usize| seen.iter().map(count).sum();
    let mut figures = vec![
        Figure::seconds("worst outage", seen.iter().map(Seen::worst).max().unwrap_or_default()),
        Figure::seconds("total outage", seen.iter().flat_map(|seen| &seen.outages).map(Outage::length).sum()),
        Figure::count("outages", sum(&|seen| seen.outages.len())),
        Figure::count("samples", sum(&|seen| seen.requests.len())),
        Figure::count("429", sum(&|seen| seen.count(refused))),
        Figure::count("failures repaired by one retry", sum(&|seen| seen.count(repaired))),
    ];
    let known: &[&'static Excuse] = match on {
        ConnectionKind::New => &[],
        ConnectionKind::Reused => &[&CLOSED_WHILE_IDLE, &REFUSED_WHILE_STOPPING],
        ConnectionKind::Library => &[&READ_NOT_REPEATED],
    };
    figures.extend(Grants::figures(seen.iter().map(|seen| &seen.grants), known));
    if on == ConnectionKind::Library {
        figures.push(Figure::count(
            "attempts repeated by the library",
            sum(&|seen| seen.requests.iter().map(|(_, request)| request.attempts.len()).sum()),
        ));
        let slowest = seen.iter().flat_map(|seen| seen.requests).map(|(_, request)| request.exchange.took).max();
        figures.push(Figure::seconds("slowest read", slowest.unwrap_or_default()));
        let below = seen.iter().map(|seen| below_retries(seen.requests)).max();
        figures.push(Figure::seconds("worst outage below its retries", below.unwrap_or_default()));
    }
    let total = seen.iter().flat_map(Seen::classes).fold(BTreeMap::new(), |mut total, (class, count)| {
        *total.entry(class).or_insert(0) += count;
        total
    });
    figures.extend(total.into_iter().map(|(class, count)| Figure::count(class, count)));
    // The order of names, and not of the worst: reports of several runs are compared.
    let mut seen: Vec<_> = seen.iter().filter(|_| seen.len() > 1).collect();
    seen.sort_by_key(|seen| seen.probe);
    for one in seen {
        let probe = one.probe;
        figures.push(Figure::seconds(&format!("{probe}: worst outage"), one.worst()));
        figures.push(Figure::count(format!("{probe}: repaired"), one.count(repaired)));
        let classes = one.classes().into_iter();
        figures.extend(classes.map(|(class, count)| Figure::count(format!("{probe}: {class}"), count)));
    }
    figures
}

/// The worst outage as one sees it that does not repeat by itself what the library does.
fn below_retries(requests: &[(Moment, &Request)]) -> Duration {
    let each = requests.iter().flat_map(|(at, request)| {
        let attempt =
            |exchange: &Exchange| Request { exchange: exchange.clone(), attempts: Vec::new(), ..(*request).clone() };
        let repeated: Vec<_> = request.attempts.iter().map(|one| (one.at, attempt(&one.exchange))).collect();
        // The recording has no moment for the last attempt but that it came after the one before.
        let last = request.attempts.last().map_or(*at, |one| one.at + one.exchange.took);
        repeated.into_iter().chain([(last, attempt(&request.exchange))])
    });
    let each: Vec<_> = each.collect();
    let found = outages(each.iter().map(|(at, request)| (*at, request)), |_| false);
    found.iter().map(Outage::length).max().unwrap_or_default()
}
