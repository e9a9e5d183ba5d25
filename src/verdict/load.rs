//! ROLLOUT-12: no request of the load fails while apiservers are gracefully restarted.
//!
//! What counts as an outage is [`timeline::outages`](crate::timeline::outages)'s. A create is special: a client that has
//! sent its bytes on a connection that turns out to be closed must not repeat it (RFC 9110, 9.2.2). HTTP/1.1 has no word
//! for "this connection will take no further request" on an idle connection, so a server that closes one cannot spare its
//! client that; the audit logs tell whether a server had received it.
//!
//! ```text
//! get: closed, no server received it, get(retry) ok             ->  upheld, 1 failure repaired by one retry
//! create: 503 with Retry-After, create(retry) ok                ->  upheld, the same
//! create: closed before a byte was sent, create(retry) ok       ->  upheld, the same
//! create: closed, no server received it, the next request ok    ->  upheld, 1 create lost on an idle connection
//! create: closed, apiserver-0 received it                       ->  violated
//! delete: refused on a new connection                           ->  violated
//! ```

use super::conclusive::{Traffic, conclude};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::outage::{class_list, classes, phase};
use super::{Figure, Verdict};
use crate::timeline::{Event, Load, LoadVerb, Moment, Outage, Restart, outages};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() == Some(Restart::Killed) {
        let why = "apiservers were killed here: this is about graceful restarts";
        return (Verdict::inconclusive(why), Vec::new());
    }
    let mut found = Vec::new();
    let mut lost = 0;
    for steps in facts.load.values() {
        lost += steps.len() - counted(facts, steps).len();
        found.extend(outages_of(facts, steps));
    }
    // The workers do the same in turn, so that there is enough traffic if all of them together have it.
    let steps = || facts.load.values().flatten();
    let mut samples: Vec<_> = steps().map(|(at, load)| (*at, load.succeeded())).collect();
    samples.sort_by_key(|(at, _)| *at);
    let verdict = match facts.load.is_empty() {
        true => Verdict::inconclusive("no load is in the recording"),
        false => {
            let traffic = Traffic::of(facts, "the load".to_owned(), samples.into_iter());
            conclude(facts, &[&traffic], claim(facts, &found))
        }
    };
    let loads: Vec<&Load> = steps().map(|(_, load)| *load).collect();
    (verdict, figures(&loads, &found, lost))
}

/// A worker's outages.
pub(super) fn outages_of<'a>(facts: &Facts<'a>, steps: &[(Moment, &'a Load)]) -> Vec<Outage<'a, Load>> {
    outages(counted(facts, steps), |audit_id| facts.received.contains(audit_id))
}

/// A worker's steps without the creates that were lost on a connection that had been closed while idle.
fn counted<'a>(facts: &Facts<'a>, steps: &[(Moment, &'a Load)]) -> Vec<(Moment, &'a Load)> {
    let lost = |position: usize, load: &Load| {
        load.verb == LoadVerb::Create
            && load.retries.is_none()
            && !load.exchange.unsent
            && load.met_a_closed_connection()
            && !facts.received.contains(load.exchange.audit_id.as_str())
            // One that was not idle closes the next one too, or leads nowhere.
            && steps.get(position + 1).is_some_and(|(_, next)| next.succeeded())
    };
    let kept = steps.iter().enumerate().filter(|(position, (_, load))| !lost(*position, load));
    kept.map(|(_, step)| *step).collect()
}

fn claim(facts: &Facts<'_>, found: &[Outage<'_, Load>]) -> Verdict {
    let Some(worst) = found.iter().max_by_key(|outage| outage.length()) else { return Verdict::Upheld };
    let count = match found.len() {
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

fn figures(loads: &[&Load], found: &[Outage<'_, Load>], lost: usize) -> Vec<Figure> {
    let repaired = loads.iter().filter(|load| load.retries.is_some() && load.succeeded()).count();
    let mut figures = vec![
        Figure::seconds("worst outage", found.iter().map(Outage::length).max().unwrap_or_default()),
        Figure::count("outages", found.len()),
        Figure::count("requests", loads.len()),
        Figure::count("429", loads.iter().filter(|load| load.exchange.refused_for_now()).count()),
        Figure::count("failures repaired by one retry", repaired),
        Figure::count("creates lost on an idle connection", lost),
    ];
    figures.extend(classes(loads.iter().copied()).into_iter().map(|(class, count)| Figure::count(class, count)));
    figures
}
