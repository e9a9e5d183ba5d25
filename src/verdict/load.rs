//! ROLLOUT-12: no request of the load fails while apiservers are gracefully restarted.
//!
//! What counts as an outage is [`timeline::outages`](crate::timeline::outages)'s; what is excused, and how often, [`excuses`](super::excuses)'.
//! A create is special: a client that has sent its bytes on a connection that turns out to be closed must not repeat it (RFC 9110, 9.2.2).
//! HTTP/1.1 has no word for "this connection will take no further request" on an idle connection, so a server that closes one cannot spare its
//! client that; the audit logs tell whether a server had received it.
//!
//! ```text
//! get: closed by a stopping apiserver, not received, get(retry) ok      ->  upheld, closed-while-idle 1 of 20
//! create: 503 with Retry-After by a stopping one, create(retry) ok      ->  upheld, refused-while-stopping
//! create: closed before a byte was sent, create(retry) ok               ->  upheld, closed-while-idle
//! create: closed, not received, the next request ok                     ->  upheld, create-not-repeated
//! the same twice by one worker in one restart                           ->  violated
//! create: closed, apiserver-0 received it                               ->  violated
//! create: closed, and the log of apiserver-0 lacks answers              ->  inconclusive
//! delete: refused on a new connection                                   ->  violated
//! get: refused before anything was disturbed, and nothing else          ->  inconclusive
//! ```

use super::conclusive::{Traffic, conclude, seen_working, with_a_hole};
use super::excerpt::excerpt;
use super::excuses::Grants;
use super::facts::Facts;
use super::outage::{class_list, classes, outages_but, phase, worst_outage};
use super::{Figure, Verdict};
use crate::spec::excuse::{CLOSED_WHILE_IDLE, CREATE_NOT_REPEATED, REFUSED_WHILE_STOPPING};
use crate::timeline::{Event, Load, LoadVerb, Moment, Outage, Restart};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() == Some(Restart::Killed) {
        let why = "apiservers were killed here: this is about graceful restarts";
        return (Verdict::inconclusive(why), Vec::new());
    }
    let (mut found, mut grants) = (Vec::new(), Vec::new());
    for steps in facts.load.values() {
        let (outages, granted) = counted(facts, steps);
        found.extend(outages);
        grants.push(granted);
    }
    // The workers do the same in turn, so that there is enough traffic if all of them together have it.
    let steps = || facts.load.values().flatten();
    let verdict = match facts.load.is_empty() {
        true => Verdict::inconclusive("no load is in the recording"),
        false => {
            let samples = steps().map(|(at, load)| (*at, load.exchange.took, load.succeeded()));
            let traffic = Traffic::of(facts, "the load".to_owned(), facts.bounds.request_gap, samples).steady();
            let told = |outage: &Outage<'_, Load>, count| violated(facts, outage, count);
            let claimed = worst_outage(facts, found.iter().collect(), |load| load.worker.as_str(), told);
            let claimed = seen_working(facts, &traffic, claimed);
            let claimed = match (claimed, grants.iter().find_map(|grants| grants.doubt.as_ref())) {
                (Verdict::Upheld, Some(doubt)) => Verdict::inconclusive(doubt),
                (claimed, _) => claimed,
            };
            match conclude(facts, &[&traffic], claimed) {
                Verdict::Upheld => resting(facts).map_or(Verdict::Upheld, Verdict::inconclusive),
                concluded => concluded,
            }
        }
    };
    let loads: Vec<&Load> = steps().map(|(_, load)| *load).collect();
    (verdict, figures(&loads, &found, &grants))
}

/// A worker that did nothing for too long, though the others went on. One that lists does so too seldom to tell.
fn resting(facts: &Facts<'_>) -> Option<String> {
    let cycles = |steps: &[(Moment, &Load)]| steps.iter().any(|(_, step)| step.verb != LoadVerb::List);
    facts.load.iter().filter(|(_, steps)| cycles(steps)).find_map(|(worker, steps)| {
        let samples = steps.iter().map(|(at, step)| (*at, step.exchange.took, step.succeeded()));
        let traffic = Traffic::of(facts, format!("the worker {worker}"), facts.bounds.health_gap, samples).steady();
        with_a_hole(facts, &traffic)
    })
}

/// A worker's outages, and what was excused.
pub(super) fn counted<'a>(facts: &Facts<'a>, steps: &[(Moment, &'a Load)]) -> (Vec<Outage<'a, Load>>, Grants) {
    let grants = Grants::to_worker(facts, steps);
    (outages_but(steps, &grants), grants)
}

fn violated(facts: &Facts<'_>, worst: &Outage<'_, Load>, count: usize) -> Verdict {
    let count = match count {
        1 => "1 outage".to_owned(),
        count => format!("{count} outages, the worst"),
    };
    let first = worst.failed[0];
    let (seconds, from) = (worst.length().as_secs_f64(), facts.clock(worst.from));
    let open = if worst.recovered { "" } else { " and not over at the end" };
    let (failed, classes, phase) = (worst.failed.len(), class_list(&worst.failed), phase(facts, worst));
    let (verb, resource, worker) = (first.verb, &first.resource, &first.worker);
    Verdict::Violated {
        expected: "no outage".to_owned(),
        actual: format!(
            "{count} of {seconds:.3} s from {from} on{open}: {failed} requests failed ({classes}), first {verb} \
             {resource}, {phase} ({worker})"
        ),
        excerpt: excerpt(facts, worst.from, |event| match event {
            Event::Load(load) => load.worker == *worker,
            Event::Lifecycle(_) | Event::BackendHealth(_) | Event::FaultOn(_) | Event::FaultOff(_) => true,
            _ => false,
        }),
    }
}

fn figures(loads: &[&Load], found: &[Outage<'_, Load>], grants: &[Grants]) -> Vec<Figure> {
    let repaired = loads.iter().filter(|load| load.retries.is_some() && load.succeeded()).count();
    let mut figures = vec![
        Figure::seconds("worst outage", found.iter().map(Outage::length).max().unwrap_or_default()),
        Figure::count("outages", found.len()),
        Figure::count("requests", loads.len()),
        Figure::count("429", loads.iter().filter(|load| load.exchange.status == Some(429)).count()),
        Figure::count("failures repaired by one retry", repaired),
    ];
    figures
        .extend(Grants::figures(grants.iter(), &[&CLOSED_WHILE_IDLE, &REFUSED_WHILE_STOPPING, &CREATE_NOT_REPEATED]));
    figures.extend(classes(loads.iter().copied()).into_iter().map(|(class, count)| Figure::count(class, count)));
    figures
}
