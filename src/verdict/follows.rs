//! BALANCER-4: /readyz decides whether an apiserver gets new connections.
//!
//! Judged from the connections, not from the balancer's own word. The time that a balancer may need is that of the timers
//! in the header, and as much more as our own looking may be late (the stall bound).
//!
//! ```text
//! red, carried until 1.0 s after; green, carried from 0.9 s after   ->  upheld (1.5 s + 0.5 s)
//! red, carried 2.2 s after                                          ->  violated
//! the same, we did not run for 0.6 s from 1.2 s on                  ->  inconclusive; another one carried 4 s after: violated
//! red, refused 2.2 s after, and no record to whom                   ->  inconclusive
//! green, first carried 4 s after                                    ->  violated
//! green, the recording ends 0.3 s after                             ->  inconclusive
//! green, three connections in the 4 s until it is met               ->  inconclusive
//! ```

use super::carried::{Connections, all_excused, never_met, red, shares, traffic};
use super::conclusive::{conclude, no_time, unproven};
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{Event, Moment, Restart, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    let connections = Connections::of(facts);
    let claims = facts.restarts.iter().map(|restart| {
        if let Some(why) = unproven(Restart::Graceful, restart) {
            return Verdict::inconclusive(why);
        }
        let claims = [leaves(facts, restart, &connections), returns(facts, restart, &connections)];
        Verdict::worst(claims).unwrap_or(Verdict::Upheld)
    });
    let verdict = Verdict::worst(claims).unwrap_or(Verdict::Upheld);
    let back = facts.restarts.iter().filter_map(|restart| {
        let ready = restart.at(Step::Ready)?;
        Some(first_after(&connections, restart, ready)?.since(ready))
    });
    let mut figures: Vec<_> = back.max().map(|span| Figure::seconds("slowest readmission", span)).into_iter().collect();
    figures.extend(shares(facts));
    (conclude(facts, &[&traffic(facts)], verdict), figures)
}

/// A red /readyz takes the apiserver out of service.
fn leaves(facts: &Facts<'_>, restart: &Restarted<'_>, connections: &Connections<'_>) -> Verdict {
    let server = restart.server;
    if let Some(why) = never_met(restart, connections) {
        return Verdict::inconclusive(why);
    }
    let Some(red) = red(facts, restart) else {
        return Verdict::inconclusive(format!("/readyz of {server} was not seen to turn red"));
    };
    let allowed = facts.recording.header.timers.detection() + facts.bounds.stall;
    let until = restart.at(Step::Started).unwrap_or(facts.end);
    let wrong = connections.to(server, red + allowed, until);
    let (Some(first), Some(last)) = (wrong.first(), wrong.last()) else {
        let untold = connections.untold(facts, server, red + allowed, until);
        return untold.map_or(Verdict::Upheld, Verdict::inconclusive);
    };
    if let Some(why) = all_excused(facts, red, allowed, &wrong) {
        return Verdict::inconclusive(why);
    }
    let (count, after) = (wrong.len(), last.at.since(red).as_secs_f64());
    violated(
        facts,
        restart,
        first.at,
        format!("no new connection later than {:.3} s after /readyz turned red", allowed.as_secs_f64()),
        format!("{server} stayed in service: {count} connections, the last {after:.3} s after its /readyz turned red"),
    )
}

/// A green /readyz puts it back.
fn returns(facts: &Facts<'_>, restart: &Restarted<'_>, connections: &Connections<'_>) -> Verdict {
    let server = restart.server;
    let Some(ready) = restart.at(Step::Ready) else {
        return Verdict::inconclusive(format!("{server} was not seen ready again"));
    };
    let allowed = facts.recording.header.timers.readmission() + facts.bounds.stall;
    let met = first_after(connections, restart, ready);
    let took = met.unwrap_or(facts.end).since(ready);
    if took <= allowed {
        return match met {
            Some(_) => Verdict::Upheld,
            None => Verdict::inconclusive(format!("the recording ends before {server} could be put back into service")),
        };
    }
    let until = ready + took;
    let others = connections.carried.partition_point(|carried| carried.at < until)
        - connections.carried.partition_point(|carried| carried.at < ready);
    if others < facts.bounds.samples as usize {
        let samples = facts.bounds.samples;
        return Verdict::inconclusive(format!(
            "{others} new connections were carried until {server} was met again; at least {samples} are needed"
        ));
    }
    // What delayed the balancer's checks was before its time was up, and not long before it acted.
    let excuse = no_time(facts, ready, ready + allowed).and_then(|_| no_time(facts, ready.max(until - allowed), until));
    if let Some(why) = excuse {
        return Verdict::inconclusive(why);
    }
    let (seconds, when) = (took.as_secs_f64(), if met.is_some() { "after" } else { "not even after" });
    violated(
        facts,
        restart,
        met.unwrap_or(facts.end),
        format!("a new connection within {:.3} s of a green /readyz", allowed.as_secs_f64()),
        format!("{server} was met again {when} {seconds:.3} s"),
    )
}

fn first_after(connections: &Connections<'_>, restart: &Restarted<'_>, ready: Moment) -> Option<Moment> {
    let first = connections.carried.partition_point(|carried| carried.at < ready);
    let carried = connections.carried[first..].iter().find(|carried| carried.server == restart.server);
    let met = restart.at(Step::MetThroughBalancer);
    carried.map(|carried| carried.at).into_iter().chain(met).min()
}

fn violated(facts: &Facts<'_>, restart: &Restarted<'_>, at: Moment, expected: String, actual: String) -> Verdict {
    let server = restart.server;
    let excerpt = excerpt(facts, at, |event| match event {
        Event::Request(request) => request.exchange.server.as_deref() == Some(server),
        Event::Connection(connection) => connection.backend.as_deref() == Some(server),
        Event::Lifecycle(step) => step.server == server,
        Event::BackendHealth(health) => health.server == server,
        _ => false,
    });
    Verdict::Violated { expected, actual, excerpt }
}
