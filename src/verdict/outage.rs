//! ROLLOUT-1, -2, -7, -8: what restarts cost requesters.
//!
//! During a graceful roll (and in a steady state, the baseline) no outage is allowed; a kill may cost a bounded one.
//! What counts as an outage is [`timeline::outages`](crate::timeline::outages)'s: a 429 is none, nor is an idle close
//! that one retry repaired.
//!
//! ```text
//! graceful:  ok ok error error ok                           ->  violated: 1 outage, of 0.1 s
//! graceful:  ok ok reset ok(retry) ok, on a kept connection ->  upheld, 1 failure repaired by one retry
//! killed:    ok error ... (2 s) ... error ok, bound 3.5 s   ->  upheld, worst outage 2 s
//! killed:    ok error ... (4 s) ... error ok, bound 3.5 s   ->  violated
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::carried::max_elapsed;
use super::conclusive::{Traffic, conclude};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{ConnectionKind, Event, Outage, Request, Restart, outages};

/// ROLLOUT-1.
pub(super) fn none_on_new(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    none(facts, ConnectionKind::New)
}

/// ROLLOUT-2.
pub(super) fn none_on_reused(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    none(facts, ConnectionKind::Reused)
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

/// Judges the outages of each requester of one kind; those no longer than `allowed` are.
fn judge(facts: &Facts<'_>, on: ConnectionKind, allowed: Option<Duration>) -> (Verdict, Vec<Figure>) {
    let mut all = Vec::new();
    let mut samples = Vec::new();
    let verdicts: Vec<_> = facts
        .requesters_on(on)
        .map(|(probe, requests)| {
            let found = outages(requests.iter().copied(), |audit_id| facts.received.contains(audit_id));
            let found = if allowed.is_some() { by_fault(facts, found) } else { found };
            let verdict = claim(facts, probe, &found, allowed);
            all.extend(found);
            samples.extend(requests.iter().map(|(_, request)| *request));
            let traffic = requests.iter().map(|(at, request)| (*at, request.exchange.succeeded()));
            conclude(facts, &[&Traffic::of(facts, format!("the requester {probe}"), traffic)], verdict)
        })
        .collect();
    let kind = format!("{on:?}").to_lowercase();
    let verdict = Verdict::worst(verdicts)
        .unwrap_or_else(|| Verdict::inconclusive(format!("no requester on {kind} connections is in the recording")));
    let mut figures = figures(&samples, &all);
    figures.extend(max_elapsed(facts, on));
    (verdict, figures)
}

/// The outages that one fault costs, as one: between them the client was served, but by luck. A balancer that sends every
/// other connection to a dead server causes many short outages, and is without service until the last.
fn by_fault<'a>(facts: &Facts<'a>, found: Vec<Outage<'a>>) -> Vec<Outage<'a>> {
    // A request that was under way when the fault came had begun before it.
    let struck =
        |outage: &Outage<'_>| outage.from + outage.failed.first().map_or(Duration::ZERO, |failed| failed.exchange.took);
    let fault_of = |outage: &Outage<'_>| facts.restarts.iter().rposition(|restart| restart.on <= struck(outage));
    let mut merged: Vec<Outage<'a>> = Vec::new();
    for outage in found {
        match merged.last_mut().filter(|last| fault_of(last) == fault_of(&outage)) {
            Some(last) => {
                last.until = outage.until;
                last.recovered = outage.recovered;
                last.failed.extend(outage.failed);
            }
            None => merged.push(outage),
        }
    }
    merged
}

fn claim(facts: &Facts<'_>, probe: &str, found: &[Outage<'_>], allowed: Option<Duration>) -> Verdict {
    let breaches: Vec<_> =
        found.iter().filter(|outage| allowed.is_none_or(|allowed| length(outage) > allowed)).collect();
    let Some(worst) = breaches.iter().max_by_key(|outage| length(outage)) else { return Verdict::Upheld };
    let expected = match allowed {
        None => "no outage".to_owned(),
        Some(allowed) => format!("no outage longer than {:.3} s", allowed.as_secs_f64()),
    };
    let count = match breaches.len() {
        1 => "1 outage".to_owned(),
        count => format!("{count} outages, the worst"),
    };
    let (seconds, from) = (length(worst).as_secs_f64(), facts.clock(worst.from));
    let open = if worst.recovered { "" } else { " and not over at the end" };
    let (failed, classes) = (worst.failed.len(), class_list(&worst.failed));
    let phase = phase(facts, worst);
    Verdict::Violated {
        expected,
        actual: format!(
            "{count} of {seconds:.3} s from {from} on{open}: {failed} requests failed ({classes}), {phase} ({probe})"
        ),
        excerpt: excerpt(facts, worst.from, |event| match event {
            Event::Request(request) => request.probe == probe,
            Event::Lifecycle(_) | Event::BackendHealth(_) | Event::FaultOn(_) | Event::FaultOff(_) => true,
            _ => false,
        }),
    }
}

/// How long an outage lasted. One that did not end lasted at least until its last request had failed.
fn length(outage: &Outage<'_>) -> Duration {
    let last = outage.failed.last().filter(|_| !outage.recovered).map_or(Duration::ZERO, |last| last.exchange.took);
    outage.length() + last
}

/// Which apiserver an outage is to be laid to: the one whose life went through a step last, and where it stood.
fn phase(facts: &Facts<'_>, outage: &Outage<'_>) -> String {
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
fn class_list(failed: &[&Request]) -> String {
    let classes = classes(failed.iter().copied());
    classes.into_iter().map(|(class, count)| format!("{class} x{count}")).collect::<Vec<_>>().join(", ")
}

fn classes<'a>(requests: impl Iterator<Item = &'a Request>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests.filter(|request| !request.exchange.succeeded() && !request.exchange.refused_for_now()) {
        let class = match (&request.exchange.failure, request.exchange.status) {
            (Some(failure), _) => failure.class.to_string(),
            (None, Some(status)) => format!("status {status}"),
            (None, None) => "no answer".to_owned(),
        };
        *counts.entry(class).or_insert(0) += 1;
    }
    counts
}

fn figures(samples: &[&Request], found: &[Outage<'_>]) -> Vec<Figure> {
    let lengths = || found.iter().map(length);
    let counted = |which: fn(&Request) -> bool| samples.iter().filter(|request| which(request)).count();
    let mut figures = vec![
        Figure::seconds("worst outage", lengths().max().unwrap_or_default()),
        Figure::seconds("total outage", lengths().sum()),
        Figure::count("outages", found.len()),
        Figure::count("samples", samples.len()),
        Figure::count("429", counted(|request| request.exchange.refused_for_now())),
        Figure::count(
            "failures repaired by one retry",
            counted(|request| request.retries.is_some() && request.exchange.succeeded()),
        ),
    ];
    figures.extend(classes(samples.iter().copied()).into_iter().map(|(class, count)| Figure::count(class, count)));
    figures
}
